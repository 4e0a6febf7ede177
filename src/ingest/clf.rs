//! Access logs of web servers: common and combined log format.
//!
//! A line becomes a point with the tags `method` and `status` and the fields `bytes`, `path`, `client`,
//! `referrer`, `agent` and `protocol`; a `-` is a missing value, for `bytes` it is 0. The address of the client is
//! replaced by a hash, so that clients can be counted. That is no anonymity: whoever tries all addresses finds the
//! one behind a hash.
//!
//! The log knows seconds, and two requests in one second are two events. Equal times are told apart in the
//! nanosecond digits by a hash of the line and of how often this same line came before (`places`); a digit that is taken
//! in this second is stepped over. So reading the file again gives the same points, and no two lines share one. This
//! memory covers the last seconds met ([`SECONDS_MAX`]), in any order.

#![warn(clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::BufRead;

use icecore_storage::model::{SECOND_NS, TIMESTAMP_MAX, TIMESTAMP_MIN, Value};
use jiff::civil::DateTime;

use super::places;
use super::records::{ImportOptions, Line, Lines, RecordError, stable_hash};
use crate::point::Point;

/// How many different seconds are remembered to tell equal times apart.
pub const SECONDS_MAX: usize = 3_600;

/// The methods that become a tag as they are; anything else is `OTHER`, whatever a scanner may send.
#[rustfmt::skip]
const METHODS: [&str; 16] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND", "PROPPATCH",
    "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
];

/// Reads points from an access log.
#[derive(Debug)]
pub struct ClfReader<R> {
    lines: Lines<R>,
    options: ImportOptions,
    seconds: Seconds,
    ended: bool,
}

impl<R: BufRead> ClfReader<R> {
    /// Reads from `input`. Of the options only measurement, tags and the record limit are used.
    pub fn new(input: R, options: ImportOptions) -> Self {
        let lines = Lines::new(input, options.record_bytes_max);
        Self { lines, options, seconds: Seconds::default(), ended: false }
    }

    /// The point of the next line; `None` for a blank line or at the end.
    fn take_line(&mut self) -> Result<Option<Point>, RecordError> {
        let (line, bytes) = match self.lines.next_line()? {
            Line::Whole(line, bytes) => (line, bytes),
            Line::TooLong(line) => {
                let limit = self.options.record_bytes_max;
                return Err(RecordError::record(line, format!("line longer than {limit} bytes")));
            }
            Line::End => {
                self.ended = true;
                return Ok(None);
            }
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::record(line, "invalid UTF-8"))?;
        let mut point = self.options.point();
        let second = take_fields(text, &mut point).map_err(|reason| RecordError::record(line, reason))?;
        let offset_ns = self.seconds.offset_ns(second, bytes);
        let ts_ns = second.checked_mul(SECOND_NS).and_then(|ns| ns.checked_add(offset_ns));
        match ts_ns.filter(|ts_ns| (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(ts_ns)) {
            Some(ts_ns) => Ok(Some(point.at_ns(ts_ns))),
            None => Err(RecordError::record(line, "time out of range")),
        }
    }
}

impl<R: BufRead> Iterator for ClfReader<R> {
    type Item = Result<Point, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.take_line() {
                Ok(Some(point)) => return Some(Ok(point)),
                Ok(None) => {}
                Err(error) => {
                    self.ended |= matches!(error, RecordError::Io(_));
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Reads `host ident user [time] "request" status bytes ["referrer" "agent"]` into a point; hands back the second.
fn take_fields(text: &str, point: &mut Point) -> Result<i64, String> {
    let (client, rest) = text.split_once(' ').ok_or("no client address")?;
    let (_, rest) = rest.split_once('[').ok_or("no time in brackets")?;
    let (time, rest) = rest.split_once(']').ok_or("no time in brackets")?;
    let second = parse_second(time).ok_or_else(|| format!("`{}` is not a time", shortened(time)))?;
    let (request, rest) = quoted(rest).ok_or("no request in quotes")?;
    let mut words = rest.split_ascii_whitespace();
    let status =
        words.next().filter(|word| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()));
    let status = status.ok_or("no status of three digits")?;
    let bytes = match words.next().ok_or("no number of bytes")? {
        "-" => 0,
        number => {
            number.parse::<i64>().map_err(|_| format!("`{}` is not a number of bytes", shortened(number)))?
        }
    };

    let (method, path, protocol) = split_request(&request);
    point.tags.push(("method".to_owned(), method.to_owned()));
    point.tags.push(("status".to_owned(), status.to_owned()));
    let client = format!("{:016x}", stable_hash(&[client.as_bytes()]));
    point.fields.push(("bytes".to_owned(), Value::Int(bytes)));
    point.fields.push(("client".to_owned(), Value::Str(client)));
    let referrer = quoted(rest);
    let agent = referrer.as_ref().and_then(|(_, rest)| quoted(rest));
    let texts = [
        ("path", Some(path.to_owned())),
        ("protocol", protocol.map(str::to_owned)),
        ("referrer", referrer.map(|(text, _)| text)),
        ("agent", agent.map(|(text, _)| text)),
    ];
    for (name, text) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty() && text != "-") {
            point.fields.push((name.to_owned(), Value::Str(text)));
        }
    }
    Ok(second)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The text between the next pair of quotes, with `\"` and `\\` decoded, and what follows. The last quote of a
/// line that was cut short may be missing.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (_, text) = text.split_once('"')?;
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((plain, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.clone().next() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    plain.push(escaped);
                    chars.next();
                }
                Some(_) | None => plain.push('\\'),
            },
            char => plain.push(char),
        }
    }
    Some((plain, ""))
}

/// Method, path and protocol; all of it is the path when it is no HTTP request.
fn split_request(request: &str) -> (&str, &str, Option<&str>) {
    let Some((method, rest)) = request.split_once(' ') else { return ("OTHER", request, None) };
    let Some(method) = METHODS.into_iter().find(|known| *known == method) else {
        return ("OTHER", request, None);
    };
    match rest.rsplit_once(' ') {
        Some((path, protocol)) if protocol.starts_with("HTTP/") => (method, path, Some(protocol)),
        _ => (method, rest, None),
    }
}

/// Reads `17/May/2015:10:05:03 +0000` as seconds UTC.
fn parse_second(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (date, zone) = text.split_once(' ')?;
    let mut parts = date.splitn(4, ['/', ':']);
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let mut parts = time.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let local = DateTime::new(
        year.parse().ok()?,
        i8::try_from(month).ok()?,
        day.parse().ok()?,
        hour.parse().ok()?,
        minute.parse().ok()?,
        second.parse().ok()?,
        0,
    );
    let utc = local.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(utc - zone_seconds(zone)?)
}

/// Reads `+hhmm` or `-hhmm`.
fn zone_seconds(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: i64 = digits.parse().ok()?;
    let (hours, minutes) = (digits / 100, digits % 100);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The nanosecond digits that are taken in the seconds met last.
#[derive(Debug, Default)]
struct Seconds {
    seconds: HashMap<i64, Second>,
    /// The seconds in the order in which they were first met; the oldest is forgotten first.
    order: VecDeque<i64>,
}

#[derive(Debug, Default)]
struct Second {
    offsets: HashSet<i64>,
    /// How often each line, by its hash, has come.
    occurrences: HashMap<u64, u64>,
}

impl Seconds {
    /// A place within the second that no other line of this second has.
    fn offset_ns(&mut self, second: i64, line: &[u8]) -> i64 {
        if !self.seconds.contains_key(&second) {
            if SECONDS_MAX <= self.order.len()
                && let Some(oldest) = self.order.pop_front()
            {
                self.seconds.remove(&oldest);
            }
            self.order.push_back(second);
        }
        let taken = self.seconds.entry(second).or_default();
        let occurrence = taken.occurrences.entry(stable_hash(&[line])).or_default();
        let hash = stable_hash(&[line, &occurrence.to_le_bytes()]);
        *occurrence += 1;
        // A file cannot hold a thousand million lines of one second within the memory that they would take.
        let free = places::within(0, SECOND_NS, hash).find(|offset| taken.offsets.insert(*offset));
        free.unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail by panic")]
mod tests {
    use super::*;

    const LINE: &str = r#"198.18.79.20 - bob [17/May/2015:12:05:03 +0200] "GET /a?q=\"x\" HTTP/1.1" 200 203 "-" "Mozilla (\\)""#;

    fn read(text: &str) -> Vec<Result<Point, String>> {
        let reader = ClfReader::new(text.as_bytes(), ImportOptions::new("access"));
        reader.map(|item| item.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn clf_combined_line_becomes_tags_and_fields() {
        let items = read(LINE);
        let point = items[0].clone().unwrap();
        let expected = Point::new("access")
            .tag("method", "GET")
            .tag("status", "200")
            .field("bytes", 203_i64)
            .field("client", format!("{:016x}", stable_hash(&[b"198.18.79.20"])))
            .field("path", "/a?q=\"x\"")
            .field("protocol", "HTTP/1.1")
            .field("agent", "Mozilla (\\)");
        assert_eq!(point.ts_ns.div_euclid(SECOND_NS), 1_431_857_103);
        assert_eq!(point.clone().at_ns(0), expected);
    }

    #[test]
    fn clf_common_and_broken_requests_are_kept() {
        let items = read(concat!(
            "::1 - - [17/May/2015:10:05:03 +0000] \"\\x16\\x03\" 400 -\n",
            "::1 - - [17/May/2015:10:05:03 -0130] \"BREW /pot HTCPCP/1.0\" 418 5 \"-\" \"cut sh",
        ));
        let first = items[0].clone().unwrap();
        assert_eq!(first.tags, [("method".into(), "OTHER".into()), ("status".into(), "400".into())]);
        assert_eq!(first.fields[0], ("bytes".into(), Value::Int(0)));
        assert_eq!(first.fields[2], ("path".into(), Value::Str("\\x16\\x03".into())));
        let second = items[1].clone().unwrap();
        assert_eq!(second.ts_ns.div_euclid(SECOND_NS), 1_431_857_103 + 5_400);
        assert_eq!(second.fields.last(), Some(&("agent".into(), Value::Str("cut sh".into()))));
    }

    #[test]
    fn clf_bad_lines_are_reported_and_good_ones_kept() {
        let text =
            format!("nonsense\n{LINE}\n\n- - - [32/May/2015:12:05:03 +0200] \"GET / HTTP/1.1\" 200 1\n");
        let items = read(&text);
        assert_eq!(items.len(), 3);
        assert_eq!(items[0], Err("line 1: no client address".into()));
        assert!(items[1].is_ok());
        assert_eq!(items[2], Err("line 4: `32/May/2015:12:05:03 +0200` is not a time".into()));
    }

    #[test]
    fn clf_zone_must_be_one() {
        let second = |zone: &str| parse_second(&format!("17/May/2015:12:05:03 {zone}"));
        let utc = 1_431_864_303;
        for (zone, offset) in [("+0000", 0), ("-0000", 0), ("+0530", 19_800), ("-1145", -42_300)] {
            assert_eq!(second(zone), Some(utc - offset), "{zone}");
        }
        for zone in ["", "0000", "+000", "+00000", "+2400", "+0060", "+99:9", "+0 00", "UTC", "\u{2212}0100"]
        {
            assert_eq!(second(zone), None, "{zone}");
        }
    }

    #[test]
    fn clf_identical_lines_differ_and_a_retry_repeats_them() {
        let text = format!("{LINE}\n{LINE}\n{LINE}\n");
        let times = |text: &str| read(text).into_iter().map(|item| item.unwrap().ts_ns).collect::<Vec<_>>();
        let first = times(&text);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3);
        assert_eq!(first, times(&text));
        assert_eq!(first[0], times(LINE)[0]);
    }

    #[test]
    fn clf_real_log_keeps_every_line_apart() {
        let Some(path) = crate::ingest::records::shared_data("access-log/access.log") else { return };
        let text = std::fs::read_to_string(path).unwrap();
        let mut seen = HashSet::new();
        for item in read(&text) {
            let point = item.unwrap();
            assert!(seen.insert((point.tags, point.ts_ns)));
        }
        assert_eq!(seen.len(), 10_000);
    }
}
