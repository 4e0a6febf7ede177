//! Formulas over single numbers, dates, and quantiles of lists.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Radians to degrees.
pub(crate) fn deg(value: f64) -> f64 {
    value * 180.0 / std::f64::consts::PI
}

/// Degrees to radians.
pub(crate) fn rad(value: f64) -> f64 {
    value * std::f64::consts::PI / 180.0
}

/// The sign: -1, 0, 1, or NaN.
pub(crate) fn sgn(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// Rounds to the nearest multiple; ties upward.
pub(crate) fn round(value: f64, to_nearest: f64) -> f64 {
    // Prometheus multiplies by the inverse, so that multiples such as 0.1 come out exact.
    let inverse = 1.0 / to_nearest;
    (value * inverse + 0.5).floor() / inverse
}

/// The larger one as Go has it: NaN when either is, but for +Inf, which nothing exceeds.
pub(crate) fn max_nan(left: f64, right: f64) -> f64 {
    if left == f64::INFINITY || right == f64::INFINITY {
        return f64::INFINITY;
    }
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) }
}

/// The smaller one as Go has it: NaN when either is, but for -Inf.
pub(crate) fn min_nan(left: f64, right: f64) -> f64 {
    if left == f64::NEG_INFINITY || right == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.min(right) }
}

/// The date in UTC of seconds since 1970, the fraction cut off; `None` outside the years -9999 to 9999.
pub(crate) fn date_of(seconds: f64) -> Option<DateTime> {
    if seconds.is_nan() || 1e12 <= seconds.abs() {
        return None;
    }
    // In range by the check above.
    Timestamp::from_second(seconds as i64).ok().map(|timestamp| Offset::UTC.to_datetime(timestamp))
}

/// A time for messages: RFC 3339.
pub(crate) fn format_time(ts_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(ts_ns)).map_or_else(|_| ts_ns.to_string(), |time| time.to_string())
}

/// The quantile by linear interpolation between ranks. Sorts the values, NaN first.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let rank = q * (values.len() as f64 - 1.0);
    let lower = rank.floor();
    let weight = rank - lower;
    // The rank lies within the list.
    let index = lower as usize;
    let low = values.get(index).copied().unwrap_or(f64::NAN);
    let high = values.get(index + 1).copied().unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_interpolates_and_puts_nan_first() {
        assert_eq!(quantile(0.5, &mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(0.25, &mut [0.0, 1.0]), 0.25);
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
        assert_eq!(quantile(1.0, &mut [1.0, f64::NAN]), 1.0);
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
    }

    #[test]
    fn round_ties_go_up() {
        assert_eq!((round(2.5, 1.0), round(-2.5, 1.0), round(1.26, 0.1)), (3.0, -2.0, 1.3));
    }
}
