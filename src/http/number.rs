//! Numbers, times and texts of JSON, written by hand: answers hold millions of them.

use icecore_storage::model::SECOND_NS;

/// Appends a float as Go's JSON encoder and Prometheus write it: the shortest decimal that reads back the same,
/// with an exponent only below 1e-6 and from 1e21; `NaN`, `+Inf` and `-Inf` in words.
pub(super) fn push_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value == 0.0 {
        return out.extend_from_slice(if value.is_sign_negative() { b"-0" } else { b"0" });
    }
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, so the cast is exact")]
        let whole = value as i64;
        return push_int(out, whole);
    }
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(value);
    // Most are written alike: only exponents differ.
    if (1e-6..1e15).contains(&value.abs()) && !shortest.contains('e') {
        return out.extend_from_slice(shortest.as_bytes());
    }
    push_decimal(out, shortest, value.abs());
}

/// A float as [`push_float`] writes it.
pub(crate) fn float_text(value: f64) -> String {
    let mut out = Vec::new();
    push_float(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

/// Lays out shortest digits, however they were written, in Go's form.
fn push_decimal(out: &mut Vec<u8>, shortest: &str, magnitude: f64) {
    let (mantissa, exponent) = shortest.split_once(['e', 'E']).unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = all.iter().take_while(|digit| **digit == b'0').count();
    let digits = all.get(zeros..).unwrap_or_default();
    let kept = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    let digits = digits.get(..kept).unwrap_or_default();
    // The value is 0.d1d2d3... times ten to the power of `point`.
    let point = exponent + i32::try_from(whole.len()).unwrap_or(0) - i32::try_from(zeros).unwrap_or(0);
    out.extend_from_slice(sign.as_bytes());
    if !(1e-6..1e21).contains(&magnitude) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((b"0", b""));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if point > 0 { b"e+" } else { b"e-" });
        return push_int(out, i64::from((point - 1).abs()));
    }
    match usize::try_from(point) {
        Ok(point) if point > 0 => {
            let (before, after) = digits.split_at(point.min(digits.len()));
            out.extend_from_slice(before);
            out.resize(out.len() + (point - before.len()), b'0');
            if !after.is_empty() {
                out.push(b'.');
                out.extend_from_slice(after);
            }
        }
        _ => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + usize::try_from(-point).unwrap_or(0), b'0');
            out.extend_from_slice(digits);
        }
    }
}

/// Appends an integer.
pub(super) fn push_int<N: itoa::Integer>(out: &mut Vec<u8>, value: N) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a time as Prometheus does: seconds, and three decimals when they are not all zero.
pub(super) fn push_seconds(out: &mut Vec<u8>, ts_ns: i64) {
    let ms = ts_ns.div_euclid(1_000_000);
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    push_int(out, ms / 1000);
    if !ms.is_multiple_of(1000) {
        out.push(b'.');
        let fraction = 1000 + ms % 1000;
        out.extend_from_slice(itoa::Buffer::new().format(fraction).as_bytes().get(1..).unwrap_or_default());
    }
}

/// Appends a JSON string with its quotes.
pub(super) fn push_json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends a JSON list of strings.
pub(super) fn push_json_texts<'a>(out: &mut Vec<u8>, texts: impl IntoIterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in texts.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_json_text(out, text);
    }
    out.push(b']');
}

/// RFC 3339 with as many decimals as the time needs.
pub(crate) fn rfc3339(ts_ns: i64) -> String {
    let seconds = ts_ns.div_euclid(SECOND_NS);
    let nanos = i32::try_from(ts_ns.rem_euclid(SECOND_NS)).unwrap_or(0);
    jiff::Timestamp::new(seconds, nanos).map_or_else(|_| ts_ns.to_string(), |timestamp| timestamp.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        push_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn float_forms_are_those_of_prometheus() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (123456.789, "123456.789"),
            (1e-6, "0.000001"),
            (1.5e-6, "0.0000015"),
            (1e-7, "1e-7"),
            (-1.25e-9, "-1.25e-9"),
            (1e20, "100000000000000000000"),
            (1.5e17, "150000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ];
        for (value, wanted) in cases {
            assert_eq!(float(value), wanted);
        }
    }

    #[test]
    fn seconds_have_three_decimals_or_none() {
        let cases = [
            (0, "0"),
            (1_500_000_000, "1.500"),
            (1_435_781_451_781_000_000, "1435781451.781"),
            (1_000_000, "0.001"),
            (-1_500_000_000, "-1.500"),
        ];
        for (ts_ns, wanted) in cases {
            let mut out = Vec::new();
            push_seconds(&mut out, ts_ns);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn rfc3339_has_the_decimals_it_needs() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn float_text_reads_back_the_same(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(float(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn json_text_reads_back_the_same(text in any::<String>()) {
            let mut out = Vec::new();
            push_json_text(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
