//! The JSON form of OTLP, rewritten as protobuf while it is read: one table of names and numbers, no tree in memory.
//!
//! As the OTLP mapping says: names in lowerCamelCase, integers of 64 bits as strings (numbers are taken, too), enums as
//! numbers, bytes as base64, but identifiers as hex. Unknown names are
//! skipped, `null` is a field that is not there. A list is its fields one after the other, never packed.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ingest::protobuf::{push_bytes, push_fixed64, push_head, push_number};
use crate::{Error, Result};

/// Bytes of the length of a message, which is known only behind it: a varint with leading zeros.
const LEN_BYTES: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Base64,
    Hex,
    Bool,
    /// `int64`, `uint32` and enums.
    Varint,
    /// `sint32`.
    Zigzag,
    Fixed64,
    SignedFixed64,
    Double,
    Message(&'static Message),
}

/// The fields of a message that are read: name in JSON, number, kind.
#[derive(Debug)]
struct Message(&'static [(&'static str, u32, Kind)]);

static REQUEST: Message = Message(&[("resourceMetrics", 1, Kind::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message =
    Message(&[("resource", 1, Kind::Message(&RESOURCE)), ("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS))]);
static RESOURCE: Message = Message(&[("attributes", 1, Kind::Message(&PAIR))]);
static SCOPE_METRICS: Message = Message(&[("metrics", 2, Kind::Message(&METRIC))]);
static METRIC: Message = Message(&[
    ("name", 1, Kind::Text),
    ("description", 2, Kind::Text),
    ("unit", 3, Kind::Text),
    ("gauge", 5, Kind::Message(&NUMBERS)),
    ("sum", 7, Kind::Message(&NUMBERS)),
    ("histogram", 9, Kind::Message(&HISTOGRAMS)),
    ("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL)),
    ("summary", 11, Kind::Message(&SUMMARIES)),
]);
static NUMBERS: Message = Message(&[
    ("dataPoints", 1, Kind::Message(&NUMBER_POINT)),
    ("aggregationTemporality", 2, Kind::Varint),
    ("isMonotonic", 3, Kind::Bool),
]);
static NUMBER_POINT: Message = Message(&[
    ("attributes", 7, Kind::Message(&PAIR)),
    ("timeUnixNano", 3, Kind::Fixed64),
    ("asDouble", 4, Kind::Double),
    ("asInt", 6, Kind::SignedFixed64),
    ("exemplars", 5, Kind::Message(&EXEMPLAR)),
    ("flags", 8, Kind::Varint),
]);
static EXEMPLAR: Message = Message(&[
    ("filteredAttributes", 7, Kind::Message(&PAIR)),
    ("timeUnixNano", 2, Kind::Fixed64),
    ("asDouble", 3, Kind::Double),
    ("asInt", 6, Kind::SignedFixed64),
    ("spanId", 4, Kind::Hex),
    ("traceId", 5, Kind::Hex),
]);
static HISTOGRAMS: Message = Message(&[
    ("dataPoints", 1, Kind::Message(&HISTOGRAM_POINT)),
    ("aggregationTemporality", 2, Kind::Varint),
]);
static HISTOGRAM_POINT: Message = Message(&[
    ("attributes", 9, Kind::Message(&PAIR)),
    ("timeUnixNano", 3, Kind::Fixed64),
    ("count", 4, Kind::Fixed64),
    ("sum", 5, Kind::Double),
    ("bucketCounts", 6, Kind::Fixed64),
    ("explicitBounds", 7, Kind::Double),
    ("exemplars", 8, Kind::Message(&EXEMPLAR)),
    ("flags", 10, Kind::Varint),
]);
static EXPONENTIAL: Message = Message(&[
    ("dataPoints", 1, Kind::Message(&EXPONENTIAL_POINT)),
    ("aggregationTemporality", 2, Kind::Varint),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    ("attributes", 1, Kind::Message(&PAIR)),
    ("timeUnixNano", 3, Kind::Fixed64),
    ("count", 4, Kind::Fixed64),
    ("sum", 5, Kind::Double),
    ("scale", 6, Kind::Zigzag),
    ("zeroCount", 7, Kind::Fixed64),
    ("positive", 8, Kind::Message(&BUCKETS)),
    ("negative", 9, Kind::Message(&BUCKETS)),
    ("flags", 10, Kind::Varint),
    ("exemplars", 11, Kind::Message(&EXEMPLAR)),
    ("zeroThreshold", 14, Kind::Double),
]);
static BUCKETS: Message = Message(&[("offset", 1, Kind::Zigzag), ("bucketCounts", 2, Kind::Varint)]);
static SUMMARIES: Message = Message(&[("dataPoints", 1, Kind::Message(&SUMMARY_POINT))]);
static SUMMARY_POINT: Message = Message(&[
    ("attributes", 7, Kind::Message(&PAIR)),
    ("timeUnixNano", 3, Kind::Fixed64),
    ("count", 4, Kind::Fixed64),
    ("sum", 5, Kind::Double),
    ("quantileValues", 6, Kind::Message(&QUANTILE)),
    ("flags", 8, Kind::Varint),
]);
static QUANTILE: Message = Message(&[("quantile", 1, Kind::Double), ("value", 2, Kind::Double)]);
static PAIR: Message = Message(&[("key", 1, Kind::Text), ("value", 2, Kind::Message(&VALUE))]);
static VALUE: Message = Message(&[
    ("stringValue", 1, Kind::Text),
    ("boolValue", 2, Kind::Bool),
    ("intValue", 3, Kind::Varint),
    ("doubleValue", 4, Kind::Double),
    ("arrayValue", 5, Kind::Message(&Message(&[("values", 1, Kind::Message(&VALUE))]))),
    ("kvlistValue", 6, Kind::Message(&Message(&[("values", 1, Kind::Message(&PAIR))]))),
    ("bytesValue", 7, Kind::Base64),
]);

/// Rewrites a request as protobuf.
///
/// # Errors
/// `InvalidInput` with line and column.
pub fn to_protobuf(body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let fields = Fields { message: &REQUEST, out: &mut out };
    let read = reader.deserialize_map(fields).and_then(|()| reader.end());
    read.map_err(|error| Error::invalid(format!("malformed JSON: {error}")))?;
    Ok(out)
}

/// Reads an object: the fields of a message.
struct Fields<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(Name(self.message))? {
            match name {
                Some((number, kind)) => map.next_value_seed(Field { number, kind, out: &mut *self.out })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads a name: the field of a message that is called so.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(u32, Kind)>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<(u32, Kind)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Self::Value, E> {
        let Self(Message(fields)) = self;
        Ok(fields.iter().find(|(known, ..)| *known == name).map(|(_, number, kind)| (*number, *kind)))
    }
}

/// Reads the value of a field, or a list of them.
struct Field<'o> {
    number: u32,
    kind: Kind,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> std::result::Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl Field<'_> {
    /// Appends a whole number: where it may be signed, in two's complement.
    fn push_whole<E: serde::de::Error>(self, number: i128) -> std::result::Result<(), E> {
        let out_of_range = |_| E::custom(format!("{number} is out of range"));
        match self.kind {
            Kind::Varint => {
                let bits = i64::try_from(number).map_err(out_of_range)?.cast_unsigned();
                push_number(self.out, self.number, bits);
            }
            Kind::Zigzag => {
                let number = i32::try_from(number).map_err(out_of_range)?;
                let bits = (number << 1) ^ (number >> 31);
                push_number(self.out, self.number, u64::from(bits.cast_unsigned()));
            }
            Kind::SignedFixed64 => {
                let bits = i64::try_from(number).map_err(out_of_range)?.cast_unsigned();
                push_fixed64(self.out, self.number, bits);
            }
            Kind::Fixed64 => {
                push_fixed64(self.out, self.number, u64::try_from(number).map_err(out_of_range)?);
            }
            Kind::Double => push_fixed64(self.out, self.number, (number as f64).to_bits()),
            Kind::Text | Kind::Base64 | Kind::Hex | Kind::Bool | Kind::Message(_) => {
                return Err(E::custom("unexpected number"));
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Text => "a string",
            Kind::Base64 => "base64 in a string",
            Kind::Hex => "hex in a string",
            Kind::Bool => "true or false",
            Kind::Varint | Kind::Zigzag | Kind::Fixed64 | Kind::SignedFixed64 | Kind::Double => "a number",
            Kind::Message(_) => "an object",
        };
        out.write_str(what)
    }

    fn visit_unit<E: serde::de::Error>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> std::result::Result<(), E> {
        if !matches!(self.kind, Kind::Bool) {
            return Err(E::custom("unexpected true or false"));
        }
        push_number(self.out, self.number, u64::from(truth));
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> std::result::Result<(), E> {
        self.push_whole(i128::from(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> std::result::Result<(), E> {
        self.push_whole(i128::from(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> std::result::Result<(), E> {
        if !matches!(self.kind, Kind::Double) {
            return Err(E::custom("expected a whole number"));
        }
        push_fixed64(self.out, self.number, number.to_bits());
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<(), E> {
        match self.kind {
            Kind::Text => push_bytes(self.out, self.number, text.as_bytes()),
            Kind::Base64 => {
                let bytes = base64(text).ok_or_else(|| E::custom("expected base64"))?;
                push_bytes(self.out, self.number, &bytes);
            }
            Kind::Hex => {
                let bytes = hex(text).ok_or_else(|| E::custom("expected hex"))?;
                push_bytes(self.out, self.number, &bytes);
            }
            Kind::Double => {
                let number = match text {
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    text => text.parse().map_err(|_| E::custom("expected a number"))?,
                };
                push_fixed64(self.out, self.number, number.to_bits());
            }
            Kind::Varint | Kind::Zigzag | Kind::Fixed64 | Kind::SignedFixed64 => {
                let number = text.parse().map_err(|_| E::custom("expected a whole number"))?;
                return self.push_whole(number);
            }
            Kind::Bool | Kind::Message(_) => return Err(E::custom("unexpected string")),
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> std::result::Result<(), S::Error> {
        let Self { number, kind, out } = self;
        while list.next_element_seed(Field { number, kind, out: &mut *out })?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> std::result::Result<(), M::Error> {
        let Kind::Message(message) = self.kind else { return Err(M::Error::custom("unexpected object")) };
        push_head(self.out, self.number, 0);
        // In place of the length 0 of one byte, one that holds any.
        self.out.pop();
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LEN_BYTES]);
        Fields { message, out: &mut *self.out }.visit_map(map)?;
        let len = self.out.len() - start - LEN_BYTES;
        if let Some(place) = self.out.get_mut(start..start + LEN_BYTES) {
            for (index, byte) in place.iter_mut().enumerate() {
                let bits = (len as u64 >> (7 * index)).to_le_bytes()[0] & 0x7f;
                *byte = if index + 1 < LEN_BYTES { bits | 0x80 } else { bits };
            }
        }
        Ok(())
    }
}

/// Base64 of either alphabet, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count).to_le_bytes()[0]);
        }
    }
    (count < 6).then_some(out)
}

/// Pairs of hexadecimal digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_both_alphabets_is_read() {
        for (text, expected) in
            [("", Some("")), ("Zg==", Some("f")), ("Zm8", Some("fo")), ("Zm9vYmFy", Some("foobar"))]
        {
            assert_eq!(base64(text).as_deref(), expected.map(str::as_bytes), "{text}");
        }
        assert_eq!(base64("-_8="), Some(vec![0xfb, 0xff]));
        assert_eq!(base64("Z"), None);
        assert_eq!(base64("Z g="), None);
    }

    #[test]
    fn hex_of_both_cases_is_read() {
        assert_eq!(hex("00fFa1"), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(hex(""), Some(vec![]));
        assert!(["f", "0g", "+f", "ä"].iter().all(|text| hex(text).is_none()));
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_place() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"resourceMetrics": 1}"#,
            r#"{"resourceMetrics": [{"resource": "x"}]}"#,
            r#"{"resourceMetrics": []} x"#,
            r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": 1}]}]}]}"#,
            r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"isMonotonic": "true"}}]}]}]}"#,
            r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"sum": {"dataPoints": [{"timeUnixNano": "-1"}]}}]}]}]}"#,
        ] {
            let error = to_protobuf(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("at line 1 column"), "{body}: {error}");
        }
        assert_eq!(to_protobuf(br#"{"other": [{"x": null}], "resourceMetrics": null}"#).unwrap(), b"");
    }

    #[test]
    fn deep_values_are_refused_and_nothing_overflows() {
        let depth = 100_000;
        let body = format!(r#"{{"resourceMetrics":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(to_protobuf(body.as_bytes()).is_err());
    }
}
