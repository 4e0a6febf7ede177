//! Times in conditions: what `now() - 1h`, a date or a number means, and which range a condition leaves.

use icecore_storage::model::{TIMESTAMP_MIN, TimeRange};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::ast::{Arith, Compare, Expr};
use crate::{Error, ErrorKind, Result};

/// The range that a condition leaves, and what else it demands.
#[derive(Debug, Clone)]
pub(crate) struct TimeSplit {
    pub(crate) range: TimeRange,
    pub(crate) has_start: bool,
    pub(crate) has_end: bool,
    /// The conjuncts that are not bounds of time.
    pub(crate) rest: Vec<Expr>,
}

/// What texts of times and `now()` mean.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    pub(crate) now_ns: i64,
    /// The zone of texts that name none.
    pub(crate) zone: TimeZone,
}

impl Clock {
    /// In UTC.
    pub(crate) fn utc(now_ns: i64) -> Self {
        Self { now_ns, zone: TimeZone::UTC }
    }
}

/// Takes the bounds of time out of the top-level conjuncts of a condition.
///
/// # Errors
/// `InvalidInput` when time is compared with what is no time.
pub(crate) fn split_time(condition: Option<&Expr>, clock: &Clock) -> Result<TimeSplit> {
    let mut split = TimeSplit { range: TimeRange::ALL, has_start: false, has_end: false, rest: Vec::new() };
    if let Some(condition) = condition {
        take(condition, clock, &mut split)?;
    }
    Ok(split)
}

fn take(expr: &Expr, clock: &Clock, split: &mut TimeSplit) -> Result<()> {
    match expr {
        Expr::All(parts) => return parts.iter().try_for_each(|part| take(part, clock, split)),
        Expr::Compare { op, left, right } if left.is_time() || right.is_time() => {
            let (op, other) = if left.is_time() { (*op, right) } else { (op.flipped(), left) };
            if let Some(value_ns) = time_value(other, clock)?
                && bound(op, value_ns, split)
            {
                return Ok(());
            }
        }
        _ => {}
    }
    split.rest.push(expr.clone());
    Ok(())
}

/// Narrows the range; `false` when the comparison is no bound.
fn bound(op: Compare, value_ns: i64, split: &mut TimeSplit) -> bool {
    let after_ns = value_ns.saturating_add(1);
    let (start_ns, end_ns) = match op {
        Compare::Eq => (Some(value_ns), Some(after_ns)),
        Compare::Lt => (None, Some(value_ns)),
        Compare::Le => (None, Some(after_ns)),
        Compare::Gt => (Some(after_ns), None),
        Compare::Ge => (Some(value_ns), None),
        Compare::Ne => return false,
    };
    if let Some(start_ns) = start_ns {
        split.range.start_ns = split.range.start_ns.max(start_ns).max(TIMESTAMP_MIN);
        split.has_start = true;
    }
    if let Some(end_ns) = end_ns {
        split.range.end_ns = split.range.end_ns.min(end_ns);
        split.has_end = true;
    }
    true
}

/// The value of a constant expression as a time; `None` when it names a field or a tag.
///
/// # Errors
/// `InvalidInput` for a text that is no time.
pub(crate) fn time_value(expr: &Expr, clock: &Clock) -> Result<Option<i64>> {
    match expr {
        Expr::Now => Ok(Some(clock.now_ns)),
        Expr::Integer(value) | Expr::Duration(value) => Ok(Some(*value)),
        Expr::Text(text) => parse_time(text, &clock.zone).map(Some),
        Expr::Arith { first, rest } => {
            let Some(mut sum_ns) = time_value(first, clock)? else { return Ok(None) };
            for (op, operand) in rest {
                let Some(value_ns) = time_value(operand, clock)? else { return Ok(None) };
                sum_ns = match op {
                    Arith::Add => sum_ns.saturating_add(value_ns),
                    Arith::Sub => sum_ns.saturating_sub(value_ns),
                    Arith::Mul => sum_ns.saturating_mul(value_ns),
                    Arith::Div => sum_ns.checked_div(value_ns).unwrap_or(0),
                    Arith::Rem => sum_ns.checked_rem(value_ns).unwrap_or(0),
                };
            }
            Ok(Some(sum_ns))
        }
        Expr::Float(_) | Expr::Bool(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            "time compares with a date, now(), a duration or nanoseconds",
        )),
        _ => Ok(None),
    }
}

/// RFC 3339, or a date with or without a time of day, in a zone.
fn parse_time(text: &str, zone: &TimeZone) -> Result<i64> {
    let in_zone = |at: DateTime| at.to_zoned(zone.clone()).map(|zoned| zoned.timestamp());
    let parsed = text
        .parse::<Timestamp>()
        .or_else(|_| text.parse::<DateTime>().and_then(in_zone))
        .or_else(|_| text.parse::<Date>().and_then(|date| in_zone(date.at(0, 0, 0, 0))));
    match parsed {
        Ok(at) => Ok(clamp_ns(at.as_nanosecond())),
        Err(_) => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("'{text}' is not a time; expected '2026-01-31T12:00:00Z' or '2026-01-31 12:00:00'"),
        )),
    }
}

fn clamp_ns(ns: i128) -> i64 {
    i64::try_from(ns).unwrap_or(if ns < 0 { i64::MIN } else { i64::MAX })
}

/// A time as RFC 3339, for messages.
pub(crate) fn rfc3339(ts_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(ts_ns)).map_or_else(|_| format!("{ts_ns} ns"), |at| at.to_string())
}
