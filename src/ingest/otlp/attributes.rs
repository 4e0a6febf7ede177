//! Attributes into labels: names made plain, values as texts, and those that come to have one name joined by `;` in the
//! order of their keys. One buffer for all points.

use std::fmt::Write as _;
use std::ops::Range;

use super::message::{AnyValue, VALUES, each, read_pair};
use super::names::push_label_name;
use crate::ingest::protobuf::Malformed;

/// Lists in lists of a value; deeper ones are `null`.
const DEPTH_MAX: usize = 16;

#[derive(Debug)]
struct Label<'a> {
    key: &'a str,
    name: Range<usize>,
    value: Range<usize>,
}

/// Attributes of a point or resource; each is a label with a place in memory of its own.
const LABELS_MAX: usize = 4096;

/// The labels of one point or resource.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    bytes_max: usize,
    text: String,
    labels: Vec<Label<'a>>,
    is_cut: bool,
}

impl<'a> Attributes<'a> {
    /// Labels of at most so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, text: String::new(), labels: Vec::new(), is_cut: false }
    }

    /// Reads the attributes of a message, but for those with the keys of `skipped`. Ends where they are too many.
    pub(super) fn read(&mut self, message: &'a [u8], number: u32, skipped: &[&str]) -> Result<(), Malformed> {
        self.text.clear();
        self.labels.clear();
        self.is_cut = false;
        for pair in each(message, number) {
            let (key, value) = read_pair(pair?)?;
            if skipped.contains(&key) || key.is_empty() {
                continue;
            }
            let start = self.text.len();
            let bytes = start.saturating_add(key.len()).saturating_add(value.len());
            if self.bytes_max < bytes || LABELS_MAX <= self.labels.len() {
                self.is_cut = true;
                break;
            }
            push_label_name(&mut self.text, key);
            let middle = self.text.len();
            push_value(&mut self.text, AnyValue::read(value)?)?;
            self.labels.push(Label { key, name: start..middle, value: middle..self.text.len() });
        }
        let text = &self.text;
        let name = |label: &Label<'_>| text.get(label.name.clone()).unwrap_or_default();
        self.labels.sort_by(|one, other| (name(one), one.key).cmp(&(name(other), other.key)));
        Ok(())
    }

    /// Whether there were more than are kept: then none of them is to be used.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Gives each label once: its name and the values that came to have it.
    pub(super) fn each(&self, mut give: impl FnMut(&str, &str)) {
        let part = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        for equal in self.labels.chunk_by(|one, next| part(&one.name) == part(&next.name)) {
            match equal {
                [] => {}
                [one] => give(part(&one.name), part(&one.value)),
                [first, ..] => {
                    let values: Vec<&str> = equal.iter().map(|label| part(&label.value)).collect();
                    give(part(&first.name), &values.join(";"));
                }
            }
        }
    }
}

/// The text of an attribute, as a value of a label.
pub(super) fn push_value(out: &mut String, value: AnyValue<'_>) -> Result<(), Malformed> {
    match value {
        AnyValue::Text(text) => {
            out.push_str(text);
            Ok(())
        }
        AnyValue::Empty => Ok(()),
        AnyValue::Bytes(bytes) => {
            push_base64(out, bytes);
            Ok(())
        }
        AnyValue::Bool(_)
        | AnyValue::Int(_)
        | AnyValue::Double(_)
        | AnyValue::Array(_)
        | AnyValue::Pairs(_) => push_json(out, value, 0),
    }
}

fn push_json(out: &mut String, value: AnyValue<'_>, depth: usize) -> Result<(), Malformed> {
    match value {
        AnyValue::Array(_) | AnyValue::Pairs(_) if DEPTH_MAX <= depth => out.push_str("null"),
        AnyValue::Empty => out.push_str("null"),
        AnyValue::Text(text) => push_json_text(out, text),
        AnyValue::Bytes(bytes) => {
            out.push('"');
            push_base64(out, bytes);
            out.push('"');
        }
        AnyValue::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
        AnyValue::Int(number) => out.push_str(itoa::Buffer::new().format(number)),
        AnyValue::Double(number) => push_double(out, number),
        AnyValue::Array(message) => {
            out.push('[');
            for (index, one) in each(message, VALUES).enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                push_json(out, AnyValue::read(one?)?, depth + 1)?;
            }
            out.push(']');
        }
        AnyValue::Pairs(message) => {
            out.push('{');
            for (index, one) in each(message, VALUES).enumerate() {
                let (key, value) = read_pair(one?)?;
                out.push_str(if index == 0 { "" } else { "," });
                push_json_text(out, key);
                out.push(':');
                push_json(out, AnyValue::read(value)?, depth + 1)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn push_json_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// As JSON of Go has it: an exponent only for very small and very large numbers.
fn push_double(out: &mut String, number: f64) {
    let size = number.abs();
    // Writing to a text cannot fail.
    let written = if number.is_infinite() {
        write!(out, "{}Inf", if number < 0.0 { '-' } else { '+' })
    } else if size != 0.0 && size < 1e-6 {
        write!(out, "{number:e}")
    } else if size >= 1e21 {
        write!(out, "{}", format!("{number:e}").replace('e', "e+"))
    } else {
        write!(out, "{number}")
    };
    debug_assert!(written.is_ok());
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS.get((bits >> shift & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            let mut out = String::new();
            push_base64(&mut out, bytes.as_bytes());
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn doubles_are_as_json_of_go_has_them() {
        for (number, expected) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (-2.0, "-2"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            push_double(&mut out, number);
            assert_eq!(out, expected);
        }
    }
}
