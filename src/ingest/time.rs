//! Timestamps as texts and numbers in imported files. Everything without a zone is UTC.

use icecore_storage::model::{TIMESTAMP_MAX, TIMESTAMP_MIN};
use jiff::tz::TimeZone;

use super::Precision;

/// Reads a time: an integer epoch, RFC 3339, `YYYY-MM-DD HH:MM:SS[.fraction]` or a date. `None` when it is none
/// of these or cannot be stored.
///
/// The unit of an epoch is `precision`, or guessed from its size, see [`epoch_ns`].
pub fn parse_time(text: &str, precision: Option<Precision>) -> Option<i64> {
    let text = text.trim();
    if let Ok(epoch) = text.parse::<i64>() {
        return epoch_ns(epoch, precision);
    }
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    storable(i64::try_from(timestamp.as_nanosecond()).ok()?)
}

/// Nanoseconds of an integer epoch. Without a precision, what would lie after the year 5138 in seconds is taken
/// for milliseconds, what would in milliseconds for microseconds, and so on to nanoseconds.
pub fn epoch_ns(epoch: i64, precision: Option<Precision>) -> Option<i64> {
    const GUESS_MAX: u64 = 100_000_000_000;
    let precision = precision.unwrap_or(match epoch.unsigned_abs() {
        size if size < GUESS_MAX => Precision::S,
        size if size < GUESS_MAX * 1_000 => Precision::Ms,
        size if size < GUESS_MAX * 1_000_000 => Precision::Us,
        _ => Precision::Ns,
    });
    storable(epoch.checked_mul(precision.unit_ns())?)
}

fn storable(ts_ns: i64) -> Option<i64> {
    (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&ts_ns).then_some(ts_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_time_forms_of_one_instant_agree() {
        let expected = Some(1_392_388_200_000_000_000);
        for text in [
            "2014-02-14 14:30:00",
            " 2014-02-14T14:30:00Z",
            "2014-02-14T16:30:00+02:00",
            "2014-02-14 14:30:00.000",
            "1392388200",
            "1392388200000",
            "1392388200000000",
            "1392388200000000000",
        ] {
            assert_eq!(parse_time(text, None), expected, "{text}");
        }
        assert_eq!(parse_time("2014-02-14", None), Some(1_392_336_000_000_000_000));
        assert_eq!(parse_time("2014-02-14 14:30:00.25", None), Some(1_392_388_200_250_000_000));
    }

    #[test]
    fn parse_time_precision_overrides_the_guess() {
        assert_eq!(parse_time("5", Some(Precision::Ns)), Some(5));
        assert_eq!(parse_time("5", Some(Precision::M)), Some(300_000_000_000));
    }

    #[test]
    fn parse_time_nonsense_or_out_of_range_is_none() {
        for text in ["", "yesterday", "2014-13-01 00:00:00", "9999-01-01T00:00:00Z", "9223372036854775807"] {
            assert_eq!(parse_time(text, None), None, "{text}");
        }
    }
}
