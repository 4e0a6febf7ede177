//! Numbers and durations as PromQL writes them, both ways. Knows nothing of tokens.
#![warn(clippy::indexing_slicing)]

use icecore_storage::model::{DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS};

/// Nanoseconds in a millisecond.
const MILLI_NS: i64 = 1_000_000;

/// Units, in the order in which they must stand.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * DAY_NS),
    ("w", 7 * DAY_NS),
    ("d", DAY_NS),
    ("h", HOUR_NS),
    ("m", MINUTE_NS),
    ("s", SECOND_NS),
    ("ms", MILLI_NS),
];

/// Reads an unsigned number literal: decimal, hexadecimal, octal with a leading zero, `_` between digits.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let is_apart = |(left, right): (char, char)| left == '_' && !right.is_ascii_alphanumeric();
    if text.ends_with('_') || text.chars().zip(text.chars().skip(1)).any(is_apart) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
    if let Some(value) = octal.and_then(|rest| u64::from_str_radix(rest, 8).ok()) {
        return Some(value as f64);
    }
    // Rust's parser also takes words; those are names in PromQL.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    digits.parse().ok()
}

/// Reads a duration such as `1h30m` into nanoseconds; units in descending order, each once. `None` when it is none,
/// `Some(None)` when it is out of range.
pub(crate) fn parse_duration(text: &str) -> Option<Option<i64>> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = Some(0i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits_len = rest.find(|c: char| !c.is_ascii_digit())?;
        let (digits, after) = rest.split_at_checked(digits_len)?;
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_len)?;
        if digits.is_empty() {
            return None;
        }
        let (_, width) = units.find(|(name, _)| *name == unit)?;
        let part = digits.parse().ok().and_then(|count: i64| count.checked_mul(*width));
        total = total.and_then(|total| total.checked_add(part?));
        rest = after;
    }
    Some(total)
}

/// Seconds to nanoseconds, rounded to milliseconds as Prometheus does; `None` when out of range.
pub(crate) fn seconds_to_ns(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    // 9.2e12 milliseconds are 292 years, the reach of i64 nanoseconds.
    if millis.is_nan() || 9.2e12 <= millis.abs() {
        return None;
    }
    // The range was checked above.
    (millis as i64).checked_mul(MILLI_NS)
}

/// A time as seconds since 1970, the nearest float for whole milliseconds: nanoseconds of our days do not fit a float.
pub(crate) fn seconds_of(ts_ns: i64) -> f64 {
    if ts_ns % MILLI_NS == 0 { (ts_ns / MILLI_NS) as f64 / 1e3 } else { ts_ns as f64 / 1e9 }
}

/// Writes a duration as [`parse_duration`] reads it; negative ones with a sign.
pub(crate) fn format_duration(nanos: i64) -> String {
    let mut rest = nanos.unsigned_abs() / MILLI_NS.unsigned_abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::from(if nanos < 0 { "-" } else { "" });
    for (name, width) in UNITS {
        let width = (width / MILLI_NS).unsigned_abs();
        // Years and weeks only where they come out even, as Prometheus prints.
        if matches!(name, "y" | "w") && !rest.is_multiple_of(width) {
            continue;
        }
        if rest >= width {
            out.push_str(&format!("{}{name}", rest / width));
            rest %= width;
        }
    }
    out
}

/// Writes a float as Go's `FormatFloat(value, 'f', -1, 64)` does.
pub(crate) fn format_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{value}")
    }
}

/// Writes a float as Go's `%g` does: with an exponent below 1e-4 and from 1e6.
pub(crate) fn format_general(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !value.is_finite() || (-4..6).contains(&exponent) {
        return format_float(value);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
