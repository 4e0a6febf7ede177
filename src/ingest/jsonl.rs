//! JSON lines: one object a line, one point an object.
//!
//! Nested names are joined with `_`, elements of arrays take their index
//! (`upstreams_trac-backend_peers_0_requests`), and a `.` inside a name becomes `_` too. Integers are integers,
//! decimals are floats; a name keeps the type of its first value, later numbers are converted where nothing is
//! lost, and a value that does not fit is reported and left out while the rest of the object is kept. `null` is a
//! missing value. Names that become longer than 1,024 bytes are reported and left out with all below them.
//! Objects with the same tags and time replace each other, the last wins.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::BufRead;

use icecore_storage::model::Value;
use serde_json::{Map, Number, Value as Json};

use super::Precision;
use super::records::{ColumnTypes, ImportOptions, Line, Lines, NAME_BYTES_MAX, RecordError};
use super::time::{epoch_ns, parse_time};
use crate::point::Point;

/// Values of one object that are reported one by one; the others are only counted.
const ERRORS_MAX: usize = 100;
/// Whole numbers below this are exact as floats.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Reads points from JSON lines.
#[derive(Debug)]
pub struct JsonlReader<R> {
    lines: Lines<R>,
    options: ImportOptions,
    types: ColumnTypes,
    pending: VecDeque<Result<Point, RecordError>>,
    ended: bool,
}

impl<R: BufRead> JsonlReader<R> {
    /// Reads from `input`.
    pub fn new(input: R, options: ImportOptions) -> Self {
        let lines = Lines::new(input, options.record_bytes_max);
        Self { lines, options, types: ColumnTypes::default(), pending: VecDeque::new(), ended: false }
    }

    /// Reads a line and queues what it gives.
    fn take_line(&mut self) -> Result<(), RecordError> {
        let (line, text) = match self.lines.next_line()? {
            Line::Whole(line, text) => (line, text),
            Line::TooLong(line) => {
                let limit = self.options.record_bytes_max;
                return Err(RecordError::record(line, format!("line longer than {limit} bytes")));
            }
            Line::End => {
                self.ended = true;
                return Ok(());
            }
        };
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        let object: Map<String, Json> = serde_json::from_slice(text)
            .map_err(|error| RecordError::record(line, format!("not a JSON object: {error}")))?;
        let mut row = Row {
            point: self.options.point(),
            types: &mut self.types,
            errors: Vec::new(),
            more_errors_count: 0,
        };
        let ts_ns = row.take_object(&object, &self.options);
        let Row { point, mut errors, more_errors_count, .. } = row;
        if 0 < more_errors_count {
            errors.push(format!("{more_errors_count} more values are left out"));
        }
        self.pending.extend(errors.into_iter().map(|reason| Err(RecordError::record(line, reason))));
        let point = match ts_ns {
            Ok(_) if point.fields.is_empty() => Err(RecordError::record(line, "no field has a value")),
            Ok(ts_ns) => Ok(point.at_ns(ts_ns)),
            Err(reason) => Err(RecordError::record(line, reason)),
        };
        self.pending.push_back(point);
        Ok(())
    }
}

impl<R: BufRead> Iterator for JsonlReader<R> {
    type Item = Result<Point, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.take_line() {
                self.ended |= matches!(error, RecordError::Io(_));
                return Some(Err(error));
            }
        }
    }
}

/// The point of one object while it is flattened.
struct Row<'a> {
    point: Point,
    types: &'a mut ColumnTypes,
    errors: Vec<String>,
    more_errors_count: usize,
}

impl Row<'_> {
    /// Takes tags and fields out of an object; hands back its time.
    fn take_object(&mut self, object: &Map<String, Json>, options: &ImportOptions) -> Result<i64, String> {
        let (time_name, time) =
            object.iter().find(|(name, _)| options.is_time(name)).ok_or("the object has no time")?;
        for (name, value) in object.iter().filter(|(name, _)| *name != time_name) {
            if options.is_tag(name) {
                self.take_tag(name, value);
            } else {
                self.flatten(name, value);
            }
        }
        time_of(time, options.precision).ok_or_else(|| format!("the value of `{time_name}` is not a time"))
    }

    fn take_tag(&mut self, name: &str, value: &Json) {
        match tag_text(name, value) {
            Ok(Some(text)) => self.point.tags.push((name.to_owned(), text)),
            Ok(None) => {}
            Err(reason) => self.refuse(|| reason),
        }
    }

    fn flatten(&mut self, name: &str, value: &Json) {
        let all = each_leaf("", name, value, &mut |leaf| -> Result<(), Infallible> {
            match leaf.and_then(|(name, value)| Ok((leaf_value(&name, value)?, name))) {
                Ok((Some(value), name)) => self.take_field(&name, value),
                Ok((None, _)) => {}
                Err(reason) => self.refuse(|| reason),
            }
            Ok(())
        });
        all.unwrap_or_else(|never| match never {});
    }

    fn take_field(&mut self, name: &str, value: Value) {
        if name.is_empty() || name == "time" {
            return self.refuse(|| format!("`{name}` cannot be a field name"));
        }
        match self.types.fit(name, value) {
            Ok(value) => self.point.fields.push((name.to_owned(), value)),
            Err(reason) => self.refuse(|| reason),
        }
    }

    fn refuse(&mut self, reason: impl FnOnce() -> String) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(reason());
        } else {
            self.more_errors_count += 1;
        }
    }
}

/// A time, in nanoseconds. A number may have a fraction of its unit, as those of collectd have.
pub(super) fn time_of(value: &Json, precision: Option<Precision>) -> Option<i64> {
    match value {
        Json::Number(number) => match number.as_i64() {
            Some(epoch) => epoch_ns(epoch, precision),
            None => {
                let epoch = number.as_f64().filter(|epoch| epoch.abs() < WHOLE_MAX)?;
                // Cut to a whole number that fits.
                let whole = epoch.floor() as i64;
                let (start_ns, end_ns) = (epoch_ns(whole, precision)?, epoch_ns(whole + 1, precision)?);
                // A float of this size tells no more than microseconds.
                let share = ((epoch - epoch.floor()) * (end_ns - start_ns) as f64 / 1e3).round() * 1e3;
                start_ns.checked_add(share as i64)
            }
        },
        Json::String(text) => parse_time(text, precision),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

/// The value of a tag; none where it is missing or empty.
pub(super) fn tag_text(name: &str, value: &Json) -> Result<Option<String>, String> {
    Ok(match value {
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        Json::String(_) | Json::Null => None,
        Json::Array(_) | Json::Object(_) => {
            return Err(format!("tag `{}` is not a single value", shortened(name)));
        }
    })
}

/// A name and what it stands for, or why it cannot be one.
pub(super) type Leaf<'a> = Result<(String, &'a Json), String>;

/// Hands over the single values below a name, under the names of all members and elements on the way, joined. The depth is
/// bounded by the JSON reader.
///
/// # Errors
/// Those of the sink, after which nothing more is handed over.
pub(super) fn each_leaf<'a, E>(
    parent: &str,
    name: &str,
    value: &'a Json,
    sink: &mut dyn FnMut(Leaf<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let Some(name) = joined(parent, name) else {
        return sink(Err(format!(
            "a name below `{}` is longer than {NAME_BYTES_MAX} bytes",
            shortened(parent)
        )));
    };
    match value {
        Json::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                each_leaf(&name, &index.to_string(), element, sink)?;
            }
        }
        Json::Object(members) => {
            for (member, value) in members {
                each_leaf(&name, member, value, sink)?;
            }
        }
        single => sink(Ok((name, single)))?,
    }
    Ok(())
}

/// The value of a single JSON value; none of null.
pub(super) fn leaf_value(name: &str, value: &Json) -> Result<Option<Value>, String> {
    Ok(match value {
        Json::Bool(truth) => Some(Value::Bool(*truth)),
        Json::String(text) => Some(Value::Str(text.clone())),
        Json::Number(value) => {
            Some(number(value).ok_or_else(|| format!("`{name}`: {value} is out of range"))?)
        }
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    })
}

/// The name of a member below its parent; `None` when it is too long.
fn joined(parent: &str, name: &str) -> Option<String> {
    if NAME_BYTES_MAX < parent.len() + name.len() + 1 {
        return None;
    }
    let name = name.replace('.', "_");
    Some(if parent.is_empty() { name } else { format!("{parent}_{name}") })
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn number(number: &Number) -> Option<Value> {
    let integer = number.as_i64().map(Value::Int).or_else(|| number.as_u64().map(Value::UInt));
    integer.or_else(|| number.as_f64().filter(|float| float.is_finite()).map(Value::Float))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, options: ImportOptions) -> Vec<Result<Point, String>> {
        let reader = JsonlReader::new(text.as_bytes(), options);
        reader.map(|item| item.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn jsonl_nested_object_is_flattened() {
        let options = ImportOptions { tag_columns: vec!["address".into()], ..ImportOptions::new("nginx") };
        let text = r#"{"address":"::1","timestamp":1446249499322,"ok":true,"none":null,
            "upstreams":{"trac-backend":{"peers":[{"id":7,"requests":118605}]}},"zones":{"hg.nginx.org":{"p":0.5}}}"#;
        let point = Point::new("nginx")
            .tag("address", "::1")
            .field("ok", true)
            .field("upstreams_trac-backend_peers_0_id", 7_i64)
            .field("upstreams_trac-backend_peers_0_requests", 118_605_i64)
            .field("zones_hg_nginx_org_p", 0.5)
            .at_ns(1_446_249_499_322_000_000);
        assert_eq!(read(&text.replace('\n', " "), options), [Ok(point)]);
    }

    #[test]
    fn jsonl_bad_lines_are_reported_and_good_ones_kept() {
        let text = "{\"time\":1,\"a\":1}\n[1]\n{\"a\":1}\n{\"time\":2,\"a\":2.5,\"b\":1e400}\n\n{\"time\":3,\"a\":4.0}\n";
        let items = read(text, ImportOptions::new("m"));
        let reasons: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
        assert_eq!(items.iter().filter(|item| item.is_ok()).count(), 2, "{items:?}");
        assert!(reasons.iter().any(|reason| reason.starts_with("line 2: not a JSON object")));
        assert!(reasons.iter().any(|reason| *reason == "line 3: the object has no time"));
        assert!(reasons.iter().any(|reason| reason.starts_with("line 4: ")));
        assert_eq!(items.last(), Some(&Ok(Point::new("m").field("a", 4_i64).at_ns(3_000_000_000))));
    }

    #[test]
    fn jsonl_wide_array_below_a_long_name_takes_no_memory_of_its_own() {
        // A megabyte that flattened naively would take hundreds of gigabytes of names.
        let text =
            format!("{{\"time\":1,\"{}\":[{}0],\"b\":1}}\n", "a".repeat(500_000), "0,".repeat(200_000));
        let items = read(&text, ImportOptions::new("m"));
        let expected = Err("line 1: a name below `` is longer than 1024 bytes".to_owned());
        assert_eq!(items, [expected, Ok(Point::new("m").field("b", 1_i64).at_ns(1_000_000_000))]);
    }

    #[test]
    fn jsonl_name_that_is_no_field_name_leaves_the_rest() {
        let text = "{\"timestamp\":1,\"time\":5,\"\":2,\"b\":3}\n";
        let items = read(text, ImportOptions::new("m"));
        let expected = [
            Err("line 1: `time` cannot be a field name".to_owned()),
            Err("line 1: `` cannot be a field name".to_owned()),
            Ok(Point::new("m").field("b", 3_i64).at_ns(1_000_000_000)),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn jsonl_many_bad_values_are_counted() {
        let text = format!("{{\"time\":1,\"{}\":[{}0],\"b\":1}}\n", "a".repeat(1020), "0,".repeat(2_000));
        let items = read(&text, ImportOptions::new("m"));
        // `_0` to `_999` fit, 1,001 do not.
        assert_eq!(items.len(), ERRORS_MAX + 2);
        assert_eq!(items[ERRORS_MAX], Err("line 1: 901 more values are left out".to_owned()));
        assert_eq!(items[ERRORS_MAX + 1].as_ref().map(|point| point.fields.len()), Ok(1001));
    }

    #[test]
    fn jsonl_real_snapshots_give_one_point_each() {
        let Some(path) = crate::ingest::records::shared_data("nginx-plus/status.jsonl") else { return };
        let text = std::fs::read_to_string(path).unwrap();
        let options = ImportOptions { tag_columns: vec!["address".into()], ..ImportOptions::new("nginx") };
        let items = read(&text, options);
        let errors: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
        assert_eq!((items.len(), errors), (500, vec![]));
        let times: std::collections::BTreeSet<_> = items.iter().flatten().map(|point| point.ts_ns).collect();
        assert_eq!(times.len(), 500);
        let point = items.iter().flatten().next().unwrap();
        let name = "upstreams_trac-backend_peers_0_requests";
        let field = point.fields.iter().find(|(field, _)| field == name);
        assert_eq!(field, Some(&(name.to_owned(), Value::Int(118_605))));
    }
}
