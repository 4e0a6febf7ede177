//! Parameters of requests: URL query and form body in one list, and the forms of times and durations in them.
//! Unknown parameters are ignored, whatever the content type.

#![warn(clippy::indexing_slicing)]

use icecore_storage::model::{HOUR_NS, MINUTE_NS, SECOND_NS, TimeRange};

use super::error::Failure;
use crate::ingest::Precision;

/// Parameters of one request; more are refused.
const PARAMS_MAX: usize = 1000;

/// Names and values in the order they came: the form first, since it is what the client meant for this request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Params(Vec<(String, String)>);

fn missing(name: &str) -> String {
    format!("missing required parameter \"{name}\"")
}

impl Params {
    /// Reads the parameters of the form body and the URL.
    pub(super) fn parse(url_query: Option<&str>, form: &[u8]) -> Result<Self, Failure> {
        let form = std::str::from_utf8(form).map_err(|_| Failure::bad_request("form body is not UTF-8"))?;
        let mut pairs = Vec::new();
        for text in [form, url_query.unwrap_or_default()] {
            for pair in text.trim_end().split('&').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                pairs.push((decode(name)?, decode(value)?));
                if pairs.len() > PARAMS_MAX {
                    return Err(Failure::bad_request(format!("more than {PARAMS_MAX} parameters")));
                }
            }
        }
        Ok(Self(pairs))
    }

    /// Adds a parameter, behind those that are there.
    pub(super) fn push(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), value));
    }

    /// The first non-empty value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on: `true` or `1`.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1" | "t"))
    }

    /// The value of a parameter that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| Failure::bad_request(missing(name)))
    }

    /// As [`required`](Self::required), for orders.
    pub(super) fn named(&self, name: &str) -> crate::Result<&str> {
        self.get(name).ok_or_else(|| crate::Error::invalid(missing(name)))
    }

    /// Whether a parameter is given, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The rules that are given as `rule[]`, which must be there; an empty one only says that there are none.
    pub(super) fn rules(&self) -> crate::Result<impl Iterator<Item = &str>> {
        if !self.has("rule[]") {
            return Err(crate::Error::invalid(missing("rule[]")));
        }
        Ok(self.all("rule[]").filter(|text| !text.is_empty()))
    }

    /// The unit of times in a body; `None` when it is not given.
    pub(super) fn precision(&self) -> Result<Option<Precision>, Failure> {
        let Some(text) = self.get("precision") else { return Ok(None) };
        Precision::parse(text).map(Some).ok_or_else(|| {
            Failure::bad_request(format!("invalid precision {text:?}: one of n, ns, u, us, ms, s, m, h"))
        })
    }

    /// A time; `None` when it is not given.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_time(text).map(Some).ok_or_else(|| {
            Failure::bad_request(format!(
                "invalid parameter \"{name}\": cannot parse {text:?} to a valid timestamp (RFC 3339 or unix seconds)"
            ))
        })
    }

    /// A duration in nanoseconds, positive; `None` when it is not given.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let duration = parse_duration(text).ok_or_else(|| {
            Failure::bad_request(format!(
                "invalid parameter \"{name}\": cannot parse {text:?} to a valid duration (seconds, or such as 5m)"
            ))
        })?;
        if duration <= 0 {
            let what = if name == "step" { "query resolution step widths" } else { "durations" };
            return Err(Failure::bad_request(format!(
                "invalid parameter \"{name}\": zero or negative {what} are not accepted. Try a positive integer"
            )));
        }
        Ok(Some(duration))
    }

    /// The range from `start` to `end`, both ends included, as Prometheus has it; all time without them.
    pub(super) fn range(&self) -> Result<TimeRange, Failure> {
        let start_ns = self.time("start")?.unwrap_or(TimeRange::ALL.start_ns);
        let end_ns = self.time("end")?.map_or(TimeRange::ALL.end_ns, |end_ns| end_ns.saturating_add(1));
        if end_ns <= start_ns {
            return Err(Failure::bad_request("end timestamp must not be before start time"));
        }
        Ok(TimeRange::new(start_ns, end_ns))
    }

    /// The parameter `limit`; `None` when it is not given or 0.
    pub(super) fn limit(&self) -> Result<Option<usize>, Failure> {
        let Some(text) = self.get("limit") else { return Ok(None) };
        let limit: usize = text.parse().map_err(|_| {
            let is_negative = text.parse::<i64>().is_ok_and(|limit| limit < 0);
            let why = if is_negative {
                "limit must be non-negative".to_owned()
            } else {
                format!("{text:?} is not a count")
            };
            Failure::bad_request(format!("invalid parameter \"limit\": {why}"))
        })?;
        Ok(Some(limit).filter(|limit| *limit > 0))
    }
}

/// Undoes `%41` of a path segment.
pub(super) fn decode_segment(text: &str) -> Result<String, Failure> {
    decode(&text.replace('+', "%2B"))
}

/// Undoes `%41` and `+`.
fn decode(text: &str) -> Result<String, Failure> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = tail.first_chunk::<2>().and_then(|hex| std::str::from_utf8(hex).ok());
                let byte = digits
                    .filter(|hex| !hex.starts_with('+'))
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.push(byte.ok_or_else(|| {
                    Failure::bad_request("invalid escape in a parameter: `%` needs two hex digits")
                })?);
                rest = tail.get(2..).unwrap_or_default();
            }
            other => out.push(*other),
        }
    }
    String::from_utf8(out).map_err(|_| Failure::bad_request("a parameter is not UTF-8"))
}

/// A time as Prometheus reads it: unix seconds with a fraction, rounded to milliseconds, or RFC 3339.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let whole = seconds.trunc();
        let ms = ((seconds - whole) * 1000.0).round();
        // The bounds of what a 64-bit count of nanoseconds can hold.
        if !seconds.is_finite() || whole.abs() > 9.2e9 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "both are whole and bounded above")]
        let ns = whole as i64 * SECOND_NS + ms as i64 * 1_000_000;
        return Some(ns);
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok()
}

const DAY_NS: i64 = 24 * HOUR_NS;
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * DAY_NS),
    ("w", 7 * DAY_NS),
    ("d", DAY_NS),
    ("h", HOUR_NS),
    ("m", MINUTE_NS),
    ("s", SECOND_NS),
    ("ms", 1_000_000),
];

/// A duration as Prometheus reads it: seconds with a fraction, or units from the largest to the smallest (`1h30m`).
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        if !seconds.is_finite() || seconds.abs() > 9.2e9 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        let ns = (seconds * 1e9).round() as i64;
        return Some(ns);
    }
    let mut rest = text;
    let mut total = 0_i64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.find(|symbol: char| !symbol.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.find(|symbol: char| !symbol.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let position =
            UNITS.iter().position(|(name, _)| *name == unit).filter(|position| *position >= next_unit)?;
        let (_, unit_ns) = UNITS.get(position)?;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*unit_ns)?)?;
        next_unit = position + 1;
        rest = tail;
    }
    Some(total).filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn params_form_comes_before_url() {
        let params =
            Params::parse(Some("query=url&db=shop&stats=all"), b"query=a%2Bb+c&match[]=x&match%5B%5D=y\n")
                .unwrap();
        assert_eq!(params.get("query"), Some("a+b c"));
        assert_eq!(params.get("db"), Some("shop"));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn params_bad_escapes_are_refused() {
        for text in ["q=%", "q=%4", "q=%zz", "q=%+1", "q=%ff"] {
            assert!(Params::parse(Some(text), b"").is_err(), "{text}");
        }
    }

    #[test]
    fn params_too_many_are_refused() {
        assert!(Params::parse(Some(&"a=1&".repeat(PARAMS_MAX + 1)), b"").is_err());
    }

    #[test]
    fn times_are_read_as_prometheus_does() {
        let cases = [
            ("4", Some(4_000_000_000)),
            ("1435781451.781", Some(1_435_781_451_781_000_000)),
            ("-1.5", Some(-1_500_000_000)),
            ("1e9", Some(1_000_000_000_000_000_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781_000_000)),
            ("2015-07-01T22:10:51+02:00", Some(1_435_781_451_000_000_000)),
            ("NaN", None),
            ("inf", None),
            ("1e20", None),
            ("yesterday", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_time(text), wanted, "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_prometheus_does() {
        let cases = [
            ("15", Some(15 * SECOND_NS)),
            ("0.5", Some(SECOND_NS / 2)),
            ("5m", Some(5 * MINUTE_NS)),
            ("1h30m", Some(90 * MINUTE_NS)),
            ("1w2d", Some(9 * DAY_NS)),
            ("150ms", Some(150_000_000)),
            ("30m1h", None),
            ("5", Some(5 * SECOND_NS)),
            ("5x", None),
            ("m", None),
            ("", None),
            ("99999999999999999999y", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_duration(text), wanted, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn params_any_bytes_never_panic(url in any::<String>(), form in any::<Vec<u8>>()) {
            drop(Params::parse(Some(&url), &form));
            parse_time(&url);
            parse_duration(&url);
        }
    }
}
