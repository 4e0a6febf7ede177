//! How raw series keys, field names and strings of line protocol are decoded, once per key and name.
//!
//! A backslash escapes only what would end the token: `,` and space in a measurement, also `=` in tags and field
//! names, `"` and `\` in strings. Any other backslash stands for itself, and so does the first of two: `\\ ` is a
//! backslash and an escaped space.

use std::borrow::Cow;

use icecore_storage::model::{Dialect, SeriesKey};

use super::swar::plain_len;

/// The dialect of line protocol.
pub static LINE: Dialect = Dialect { id: 1, series_key, field_name, unescape };

/// What may follow a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Measurement,
    TagKey,
    TagValue,
    FieldName,
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Self::Measurement => "measurement",
            Self::TagKey => "tag key",
            Self::TagValue => "tag value",
            Self::FieldName => "field name",
        }
    }

    /// Whether a backslash before `byte` escapes it.
    fn escapes(self, byte: u8) -> bool {
        match byte {
            b',' | b' ' => true,
            b'=' => self != Self::Measurement,
            _ => false,
        }
    }

    /// The byte that ends the token; the end of the text does so too, except for a tag key.
    fn ends_at(self, byte: u8) -> bool {
        match self {
            Self::Measurement | Self::TagValue => byte == b',',
            Self::TagKey => byte == b'=',
            Self::FieldName => false,
        }
    }

    /// Cuts the token off the front of `text`; hands back its plain form and the rest, which begins with the
    /// byte that ended it.
    fn cut(self, text: &str) -> Result<(Cow<'_, str>, &str), String> {
        let (mut at, mut plain) = (0, Cow::Borrowed(""));
        loop {
            let tail = text.get(at..).unwrap_or_default();
            let len = plain_len(tail.as_bytes());
            let (run, tail) = tail.split_at_checked(len).unwrap_or((tail, ""));
            // Until the first escape the token is one slice of the text.
            match &mut plain {
                Cow::Borrowed(_) => plain = Cow::Borrowed(text.get(..at + len).unwrap_or_default()),
                Cow::Owned(owned) => owned.push_str(run),
            }
            let mut bytes = tail.bytes();
            at += len + 1;
            match (bytes.next(), bytes.next()) {
                (Some(b'\\'), Some(next)) if self.escapes(next) => {
                    plain.to_mut().push(char::from(next));
                    at += 1;
                }
                (Some(byte), _) if self.ends_at(byte) => return self.finish(plain, tail),
                (Some(b'\\'), _) => plain.to_mut().push('\\'),
                (Some(b'='), _) if self == Self::Measurement => plain.to_mut().push('='),
                (Some(byte), _) => return Err(format!("{:?} in the {}", char::from(byte), self.name())),
                (None, _) => return self.finish(plain, tail),
            }
        }
    }

    fn finish<'t>(self, plain: Cow<'t, str>, rest: &'t str) -> Result<(Cow<'t, str>, &'t str), String> {
        if plain.is_empty() {
            return Err(format!("empty {}", self.name()));
        }
        // The other control bytes end a run and are refused there.
        if plain.bytes().any(|byte| byte == 0x7f) {
            return Err(format!("control character in the {}", self.name()));
        }
        Ok((plain, rest))
    }
}

fn series_key(raw: &[u8]) -> Result<SeriesKey, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "series key is not UTF-8".to_owned())?;
    let (measurement, mut rest) = Token::Measurement.cut(text)?;
    let mut tags = Vec::new();
    while let Some(tail) = rest.strip_prefix(',') {
        let (key, tail) = Token::TagKey.cut(tail)?;
        let Some(tail) = tail.strip_prefix('=') else {
            return Err(format!("tag key `{}` has no value", shortened(&key)));
        };
        let (value, tail) =
            Token::TagValue.cut(tail).map_err(|reason| format!("{reason} of tag `{}`", shortened(&key)))?;
        tags.push((key, value));
        rest = tail;
    }
    SeriesKey::new(&measurement, tags).map_err(|error| error.to_string())
}

/// The beginning of a text, so that an error never repeats a whole body.
fn shortened(text: &str) -> &str {
    const CHARS_MAX: usize = 64;
    text.char_indices().nth(CHARS_MAX).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

fn field_name(raw: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "field name is not UTF-8".to_owned())?;
    let (name, _) = Token::FieldName.cut(text)?;
    if name == "time" {
        return Err("`time` cannot be a field name".to_owned());
    }
    Ok(name.into_owned())
}

fn unescape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (run, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(run);
        let escaped = tail.get(1).copied().filter(|byte| matches!(byte, b'"' | b'\\'));
        out.push(escaped.unwrap_or(b'\\'));
        rest = tail.get(1 + usize::from(escaped.is_some())..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
