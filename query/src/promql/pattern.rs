//! Patterns as Go's RE2 reads them, in the words of the regex crate.
//!
//! The two differ in little: RE2 takes a brace that is no repetition, a bracket within a class, and an escaped sign
//! for themselves; its `\d`, `\w` and `\s` are ASCII; it has `\Q..\E`; and its classes have no `&&`, `--` or `~~`.

use std::sync::Arc;

use regex::Regex;

use crate::budget::Patterns;

/// A pattern that a whole value must match.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// One of these texts, sorted: what Grafana makes of a variable with several values. An index can look them up.
    OneOf(Arc<[String]>),
    Regex(Regex),
}

impl Pattern {
    /// Reads a pattern; its dot also matches newlines.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn compile(patterns: &mut Patterns, text: &str) -> Result<Self, String> {
        match literals(text) {
            Some(mut texts) => {
                texts.sort_unstable();
                texts.dedup();
                Ok(Self::OneOf(texts.into()))
            }
            None => compile(patterns, text).map(Self::Regex),
        }
    }

    pub(crate) fn is_match(&self, value: &str) -> bool {
        match self {
            Self::OneOf(texts) => texts.binary_search_by(|text| text.as_str().cmp(value)).is_ok(),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Compiles an anchored pattern whose dot also matches newlines.
pub(crate) fn compile(patterns: &mut Patterns, pattern: &str) -> Result<Regex, String> {
    // What the regex crate shows of a pattern is the one that was made of it here: its last line says what is wrong.
    patterns.compile(&format!("^(?s:{})$", from_re2(pattern))).map_err(|error| {
        match error.rsplit_once("error: ") {
            Some((_, why)) => format!("error parsing regexp: {}: {pattern:?}", why.trim()),
            None => error,
        }
    })
}

/// The texts that a pattern of nothing but alternatives means, as in `a|b\\.c` or `(a|b)`.
fn literals(pattern: &str) -> Option<Vec<String>> {
    let grouped = pattern.strip_prefix("(?:").or_else(|| pattern.strip_prefix('('));
    let inner = match grouped {
        Some(rest) => rest.strip_suffix(')')?,
        None => pattern,
    };
    let (mut texts, mut text) = (Vec::new(), String::new());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '|' => texts.push(std::mem::take(&mut text)),
            '\\' => text.push(chars.next().filter(char::is_ascii_punctuation)?),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            c => text.push(c),
        }
    }
    texts.push(text);
    Some(texts)
}

/// Words of ASCII classes, outside of brackets they stand in some of their own.
const CLASSES: [(char, &str); 6] = [
    ('d', "0-9"),
    ('D', "^0-9"),
    ('w', "0-9A-Za-z_"),
    ('W', "^0-9A-Za-z_"),
    ('s', "\\t\\n\\f\\r "),
    ('S', "^\\t\\n\\f\\r "),
];

/// What stands before a place in a class, for a dash says three things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that a range may begin with.
    Nothing,
    /// A character, which may be the first of a range.
    Char,
    /// The dash of a range, which a character ends.
    Range,
}

impl Before {
    fn after_char(self) -> Self {
        if self == Self::Range { Self::Nothing } else { Self::Char }
    }
}

/// The pattern for the regex crate. What RE2 would refuse is left for that crate to refuse.
pub(crate) fn from_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // What was read of the class that is open.
    let mut class = None;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = match c {
            '\\' => {
                let is_set =
                    after.starts_with(|c| CLASSES.iter().any(|(name, _)| *name == c) || "pP".contains(c));
                let is_open = class.is_some();
                class =
                    class.map(|before: Before| if is_set { Before::Nothing } else { before.after_char() });
                escape(&mut out, after, is_open)
            }
            '-' if let Some(before) = class => {
                if before == Before::Char && !after.is_empty() && !after.starts_with(']') {
                    out.push('-');
                    class = Some(Before::Range);
                } else {
                    // For itself; two dashes would be a difference of classes.
                    let is_beside_one = after.starts_with('-') || out.ends_with('-');
                    out.push_str(if is_beside_one { "\\-" } else { "-" });
                    class = Some(before.after_char());
                }
                after
            }
            '[' if let Some(before) = class => {
                match after.starts_with(':').then(|| after.find(":]")).flatten() {
                    // A class by name, such as `[:alpha:]`.
                    Some(end) => {
                        let (name, after) = after.split_at_checked(end + 2).unwrap_or((after, ""));
                        out.push('[');
                        out.push_str(name);
                        class = Some(Before::Nothing);
                        after
                    }
                    None => {
                        out.push_str("\\[");
                        class = Some(before.after_char());
                        after
                    }
                }
            }
            '[' => {
                out.push('[');
                let rest = class_start(&mut out, after);
                class = Some(if out.ends_with(']') { Before::Char } else { Before::Nothing });
                rest
            }
            ']' if class.is_some() => {
                class = None;
                out.push(']');
                after
            }
            '&' | '~' if class.is_some() => {
                class = class.map(Before::after_char);
                out.push('\\');
                out.push(c);
                after
            }
            '{' if class.is_none() && !is_repetition(after) => {
                out.push_str("\\{");
                after
            }
            _ => {
                class = class.map(Before::after_char);
                out.push(c);
                after
            }
        };
    }
    out
}

/// What may stand first in a class: a caret, and then a bracket that does not close it.
fn class_start<'a>(out: &mut String, mut rest: &'a str) -> &'a str {
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    rest
}

/// Whether a brace just read begins a repetition: `n}`, `n,}` or `n,m}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

/// Writes what an escape means and gives the text after it.
fn escape<'a>(out: &mut String, rest: &'a str, in_class: bool) -> &'a str {
    let Some(c) = rest.chars().next() else {
        out.push('\\');
        return rest;
    };
    let after = rest.get(c.len_utf8()..).unwrap_or_default();
    if c == 'Q' {
        let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
        out.push_str(&regex::escape(literal));
        return after;
    }
    if let Some((_, class)) = CLASSES.iter().find(|(name, _)| *name == c) {
        match in_class && !class.starts_with('^') {
            true => out.push_str(class),
            false => {
                out.push('[');
                out.push_str(class);
                out.push(']');
            }
        }
        return after;
    }
    if c == 'b' && !in_class {
        out.push_str("(?-u:\\b)");
        return after;
    }
    if c.is_ascii_punctuation() {
        out.push_str(&regex::escape(&c.to_string()));
        return after;
    }
    out.push('\\');
    out.push(c);
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_what_the_pattern_matches() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[""]),
            ("a", &["a"]),
            ("b|a|b", &["a", "b"]),
            ("10\\.0\\.0\\.1:80|x\\-y", &["10.0.0.1:80", "x-y"]),
            ("(a|ü)", &["a", "ü"]),
            ("(?:a|)", &["", "a"]),
            ("a\\|b", &["a|b"]),
        ];
        for (text, expected) in cases {
            let Ok(Pattern::OneOf(found)) = Pattern::compile(&mut Patterns::default(), text) else {
                panic!("{text} is compiled");
            };
            assert_eq!(&*found, expected, "{text}");
            // The regex says the same.
            let regex = compile(&mut Patterns::default(), text).unwrap();
            assert!(expected.iter().all(|one| regex.is_match(one)), "{text}");
            for other in
                ["a|b", "ab", "aa", "b", "10x0x0x1:80", "A"].iter().filter(|other| !expected.contains(other))
            {
                assert!(!regex.is_match(other), "{text}: {other}");
            }
        }
        for text in [
            "a.", "a*", "(a)b", "(a)|(b)", "[a]", "a{2}", "^a", "a$", "\\d", "\\Qa\\E", "a\\", "(?i)a",
            "(?i:a)",
        ] {
            let pattern = Pattern::compile(&mut Patterns::default(), text);
            assert!(!matches!(pattern, Ok(Pattern::OneOf(_))), "{text}");
        }
    }

    #[test]
    fn from_re2_changes_only_what_differs() {
        for same in ["a.*b", "(?i)x|y{2,3}", "[^a-z]+$", "\\.\\n\\x41\\pL", "(?P<n>a)", "[[:^alpha:]-]"] {
            assert_eq!(from_re2(same), same);
        }
        for (text, expected) in [
            ("{a}{1}", "\\{a}{1}"),
            ("[]a]", "[\\]a]"),
            ("[^]a]", "[^\\]a]"),
            ("[a[b]", "[a\\[b]"),
            ("[\\d\\S]", "[0-9[^\\t\\n\\f\\r ]]"),
            ("[+--]", "[+-\\-]"),
            ("[--/]", "[\\--/]"),
            ("[a-c--z]", "[a-c\\--z]"),
            ("[]--]", "[\\]-\\-]"),
            ("x--[\\d--]", "x--[0-9\\-\\-]"),
            ("\\Qa]\\E]", "a\\]]"),
            ("a\\", "a\\"),
        ] {
            assert_eq!(from_re2(text), expected);
        }
    }

    #[test]
    fn from_re2_of_what_both_take_matches_the_same() {
        let matches = |pattern: &str, text: &str| Regex::new(pattern).unwrap().is_match(text);
        for pattern in ["^a{2}$", "^[\\w-]+$", "^\\-\\_\\<$", "^[a\\]b]$", "^[&&]$", "^x--y$"] {
            let pattern = from_re2(pattern);
            let found = ["aa", "a-b", "-_<", "]", "&", "x--y"].map(|text| matches(&pattern, text));
            assert!(found.contains(&true), "{pattern}");
        }
    }

    #[test]
    fn dashes_in_classes_are_ranges_or_stand_for_themselves() {
        for (pattern, accepted, refused) in [
            ("[+--]", "+,-", "*./"),
            ("[--/]", "-./", ",0"),
            ("[a-c--]", "abc-", "+d"),
            ("[a-c-z]", "abc-z", "dy"),
            ("[^--]", "a", "-"),
            ("[\\d--]", "0-", "a"),
        ] {
            let regex = compile(&mut Patterns::default(), pattern).unwrap();
            let matches = |symbol: char| regex.is_match(&symbol.to_string());
            assert!(accepted.chars().all(matches), "{pattern}");
            assert!(!refused.chars().any(matches), "{pattern}");
        }
        // From a bracket down to a dash.
        assert!(compile(&mut Patterns::default(), "[]--]").is_err());
    }
}
