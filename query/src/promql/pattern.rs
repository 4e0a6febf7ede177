//! Patterns as Go's RE2 reads them, in the words of the regex crate.
//!
//! The two differ in little: RE2 takes a brace that is no repetition, a bracket within a class, and an escaped sign
//! for themselves; its `\d`, `\w` and `\s` are ASCII; it has `\Q..\E`; and its classes have no `&&`, `--` or `~~`.

/// Words of ASCII classes, outside of brackets they stand in some of their own.
const CLASSES: [(char, &str); 6] = [
    ('d', "0-9"),
    ('D', "^0-9"),
    ('w', "0-9A-Za-z_"),
    ('W', "^0-9A-Za-z_"),
    ('s', "\\t\\n\\f\\r "),
    ('S', "^\\t\\n\\f\\r "),
];

/// The pattern for the regex crate. What RE2 would refuse is left for that crate to refuse.
pub(crate) fn from_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = match c {
            '\\' => escape(&mut out, after, in_class),
            '[' if in_class => match after.starts_with(':').then(|| after.find(":]")).flatten() {
                // A class by name, such as `[:alpha:]`.
                Some(end) => {
                    let (name, after) = after.split_at_checked(end + 2).unwrap_or((after, ""));
                    out.push('[');
                    out.push_str(name);
                    after
                }
                None => {
                    out.push_str("\\[");
                    after
                }
            },
            '[' => {
                in_class = true;
                out.push('[');
                class_start(&mut out, after)
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            '{' if !in_class && !is_repetition(after) => {
                out.push_str("\\{");
                after
            }
            _ => {
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
            ("\\Qa]\\E]", "a\\]]"),
            ("a\\", "a\\"),
        ] {
            assert_eq!(from_re2(text), expected);
        }
    }

    #[test]
    fn from_re2_of_what_both_take_matches_the_same() {
        let matches = |pattern: &str, text: &str| regex::Regex::new(pattern).unwrap().is_match(text);
        for pattern in ["^a{2}$", "^[\\w-]+$", "^\\-\\_\\<$", "^[a\\]b]$", "^[&&]$", "^x--y$"] {
            let pattern = from_re2(pattern);
            let found = ["aa", "a-b", "-_<", "]", "&", "x--y"].map(|text| matches(&pattern, text));
            assert!(found.contains(&true), "{pattern}");
        }
    }
}
