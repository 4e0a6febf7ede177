//! JSON events: one object, an array of objects, or an object a line.
//!
//! An event says all of itself,
//! `{"measurement": "logins", "tags": {"service": "web"}, "fields": {"ms": 12.5}, "time": "2026-01-31T12:00:00Z"}`,
//! or is a flat object of which the request says what is a tag: `{"service": "web", "ms": 12.5}`. Nested names are joined with
//! `_`. Numbers are floats, as JSON does not tell 12 from 12.0, but where the field is an integer already or the request names
//! it as one. Events without a time take that of the request.
//!
//! [`each`] hands them over one by one, so that memory is that of one event beside the body.

use icecore_storage::model::{FieldType, Value};
use serde::Deserializer as _;
use serde::de::{Deserialize as _, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::Precision;
use super::jsonl::{each_leaf, leaf_value, tag_text, time_of};
use crate::point::Point;

/// Fields of an event at most. Names are joined, so that few bytes could make many long ones.
const FIELDS_MAX: usize = 4096;

/// What a request says of its events.
#[derive(Debug, Clone, Default)]
pub struct EventOptions {
    /// The measurement of events that do not name theirs.
    pub measurement: Option<String>,
    /// Members of flat events that become tags.
    pub tags: Vec<String>,
    /// Fields whose numbers are integers where they are new.
    pub integers: Vec<String>,
    /// The member that holds the time; without it `time` or `timestamp`.
    pub time_name: Option<String>,
    /// Unit of times that are numbers; without it guessed from their size.
    pub precision: Option<Precision>,
    /// The time of events that have none, in nanoseconds.
    pub now_ns: i64,
}

/// Hands over the events of a body, or why one cannot be read, in their order. A line that is no object is one that cannot be
/// read; behind a fault in an array or in an object of several lines nothing can be.
///
/// # Errors
/// Those of `sink`.
pub fn each<E>(
    body: &[u8],
    sink: &mut dyn FnMut(Result<Map<String, Json>, String>) -> Result<(), E>,
) -> Result<(), E> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let is_object = |line: &[u8]| serde_json::from_slice::<Map<String, Json>>(line);
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let Some(first) = lines.next() else { return Ok(()) };
    // Lines have a whole object on the first or second; the array or object that a pretty printer wrote has none.
    if let Some(second) = lines.next()
        && (is_object(first).is_ok() || is_object(second).is_ok())
    {
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            sink(is_object(line).map_err(|error| format!("not a JSON object: {error}")))?;
        }
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    if body.trim_ascii_start().first() != Some(&b'[') {
        let object = Map::deserialize(&mut reader).and_then(|object| reader.end().map(|()| object));
        return sink(object.map_err(|error| format!("not a JSON object: {error}")));
    }
    let mut outcome = Ok(());
    let read = reader.deserialize_seq(Elements { sink, outcome: &mut outcome }).and_then(|()| reader.end());
    outcome?;
    match read {
        Ok(()) => Ok(()),
        Err(error) => sink(Err(format!("not an array of JSON objects: {error}"))),
    }
}

/// Hands over the elements of an array as they are read.
struct Elements<'a, 'b, E> {
    sink: &'a mut dyn FnMut(Result<Map<String, Json>, String>) -> Result<(), E>,
    outcome: &'b mut Result<(), E>,
}

impl<'de, E> Visitor<'de> for Elements<'_, '_, E> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Json>()? {
            let event = match element {
                Json::Object(event) => Ok(event),
                _ => Err("an event is a JSON object".to_owned()),
            };
            if let Err(error) = (self.sink)(event) {
                *self.outcome = Err(error);
                return Err(serde::de::Error::custom("the events could not be taken"));
            }
        }
        Ok(())
    }
}

/// The point of an event. `type_of` tells the type of a field that is there already.
///
/// # Errors
/// What is wrong with the event, which is then left out as a whole.
pub fn point(
    event: &Map<String, Json>,
    options: &EventOptions,
    type_of: &mut dyn FnMut(&str, &str) -> Option<FieldType>,
) -> Result<Point, String> {
    let whole = event.get("fields").and_then(Json::as_object);
    let named = event.get("measurement").filter(|_| whole.is_some() || options.measurement.is_none());
    let measurement = match named {
        Some(Json::String(name)) => name.clone(),
        Some(_) => return Err("the measurement is not a text".to_owned()),
        None => {
            options.measurement.clone().ok_or("the event names no measurement, and the request neither")?
        }
    };
    let is_time = |name: &str| match &options.time_name {
        Some(time) => name == time,
        None => name == "time" || name == "timestamp",
    };
    let time = event.iter().find(|(name, value)| is_time(name) && !value.is_null());
    let ts_ns = match time {
        None => options.now_ns,
        Some((name, value)) => {
            time_of(value, options.precision).ok_or_else(|| format!("`{name}` is not a time"))?
        }
    };
    let mut point = Point::new(measurement).at_ns(ts_ns);
    if let Some(fields) = whole {
        if let Some(name) = event
            .keys()
            .find(|name| !is_time(name) && !matches!(name.as_str(), "measurement" | "tags" | "fields" | "id"))
        {
            return Err(format!("`{name}` stands beside measurement, tags, fields, time and id"));
        }
        match event.get("tags") {
            None | Some(Json::Null) => {}
            Some(Json::Object(tags)) => {
                for (name, value) in tags {
                    point.tags.extend(tag_text(name, value)?.map(|text| (name.clone(), text)));
                }
            }
            Some(_) => return Err("the tags are not an object".to_owned()),
        }
        let id = event.get_key_value("id");
        for (name, value) in fields.iter().chain(id) {
            take_field(&mut point, name, value, options, type_of)?;
        }
    } else {
        let members = event.iter().filter(|(name, _)| !is_time(name));
        for (name, value) in members.filter(|(name, _)| named.is_none() || *name != "measurement") {
            if options.tags.contains(name) {
                point.tags.extend(tag_text(name, value)?.map(|text| (name.clone(), text)));
            } else {
                take_field(&mut point, name, value, options, type_of)?;
            }
        }
    }
    if point.fields.is_empty() {
        return Err("no field has a value".to_owned());
    }
    Ok(point)
}

fn take_field(
    point: &mut Point,
    name: &str,
    value: &Json,
    options: &EventOptions,
    type_of: &mut dyn FnMut(&str, &str) -> Option<FieldType>,
) -> Result<(), String> {
    each_leaf("", name, value, &mut |leaf| {
        let (name, value) = leaf?;
        if FIELDS_MAX <= point.fields.len() {
            return Err(format!("more than {FIELDS_MAX} fields"));
        }
        let value = leaf_value(&name, value)?;
        let known = type_of(&point.measurement, &name);
        let is_integer = options.integers.contains(&name);
        point.fields.extend(value.map(|value| (name, typed(value, known, is_integer))));
        Ok(())
    })
}

/// A number in the type of its field, where nothing is lost; the engine refuses what does not fit.
fn typed(value: Value, known: Option<FieldType>, is_integer: bool) -> Value {
    /// Whole numbers below this are exact as floats.
    const WHOLE_MAX: u64 = 1 << 53;
    let is_whole = |value: f64| value.fract() == 0.0 && value.abs() < WHOLE_MAX as f64;
    match (value, known) {
        (Value::Int(value), Some(FieldType::UInt)) => {
            u64::try_from(value).map_or(Value::Int(value), Value::UInt)
        }
        (value @ (Value::Int(_) | Value::UInt(_)), Some(FieldType::Int | FieldType::UInt)) => value,
        (value @ (Value::Int(_) | Value::UInt(_)), None) if is_integer => value,
        (Value::Int(value), None | Some(FieldType::Float)) if value.unsigned_abs() <= WHOLE_MAX => {
            Value::Float(value as f64)
        }
        (Value::UInt(value), None | Some(FieldType::Float)) if value <= WHOLE_MAX => {
            Value::Float(value as f64)
        }
        (Value::Float(value), Some(FieldType::Int)) if is_whole(value) => Value::Int(value as i64),
        (Value::Float(value), None) if is_integer && is_whole(value) => Value::Int(value as i64),
        (Value::Float(value), Some(FieldType::UInt)) if is_whole(value) && 0.0 <= value => {
            Value::UInt(value as u64)
        }
        (value, _) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Vec<Result<Map<String, Json>, String>> {
        let mut found = Vec::new();
        each::<()>(body.as_bytes(), &mut |event| {
            found.push(event);
            Ok(())
        })
        .unwrap();
        found
    }

    fn points(body: &str, options: &EventOptions) -> Vec<Result<Point, String>> {
        let mut type_of = |_: &str, field: &str| (field == "known").then_some(FieldType::Int);
        read(body).into_iter().map(|event| point(&event?, options, &mut type_of)).collect()
    }

    #[test]
    fn bodies_of_all_forms_give_their_events() {
        for (body, events) in [
            (r#"{"a":1}"#, 1),
            ("{\n \"a\": 1\n}\n", 1),
            (r#"[{"a":1}, {"a":2}]"#, 2),
            ("[\n{\"a\":1},\n{\"a\":2}\n]", 2),
            ("{\"a\":1}\n\n{\"a\":2}\r\n{\"a\":3}", 3),
            ("", 0),
            ("[]", 0),
        ] {
            let found = read(body);
            assert!(found.len() == events && found.iter().all(Result::is_ok), "{body}: {found:?}");
        }
    }

    #[test]
    fn faults_are_named_and_the_rest_is_kept_where_it_can_be() {
        let outcomes = |body: &str| read(body).iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(outcomes("{\"a\":1}\nnonsense\n{\"a\":2}"), [true, false, true]);
        assert_eq!(outcomes("{\"a\":\n{\"a\":2}\n{\"a\":3}"), [false, true, true]);
        assert_eq!(outcomes(r#"[{"a":1}, 7, {"a":2}]"#), [true, false, true]);
        assert_eq!(outcomes(r#"[{"a":1}, {"a":"#), [true, false]);
        assert_eq!(outcomes(r#"[{"a":1}] []"#), [true, false]);
        assert_eq!(outcomes("nonsense"), [false]);
        assert_eq!(outcomes(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))), [false]);
    }

    #[test]
    fn events_become_points() {
        let options = EventOptions {
            measurement: Some("m".to_owned()),
            tags: vec!["service".to_owned()],
            integers: vec!["bytes".to_owned()],
            now_ns: 5,
            ..EventOptions::default()
        };
        let flat = r#"{"service":"web","ms":12,"bytes":9007199254740993,"known":3.0,"ok":true,"at":{"city":"x"},"none":null}"#;
        let expected = Point::new("m")
            .tag("service", "web")
            .field("ms", 12.0)
            .field("bytes", 9_007_199_254_740_993_i64)
            .field("known", 3_i64)
            .field("ok", true)
            .field("at_city", "x")
            .at_ns(5);
        assert_eq!(points(flat, &options), [Ok(expected)]);
        let whole =
            r#"{"measurement":"n","tags":{"a":1,"b":""},"fields":{"x":1.5},"time":1700000000,"id":"e-1"}"#;
        let expected =
            Point::new("n").tag("a", "1").field("x", 1.5).field("id", "e-1").at_ns(1_700_000_000_000_000_000);
        assert_eq!(points(whole, &options), [Ok(expected)]);
        for (event, part) in [
            (r#"{"service":"web"}"#, "no field"),
            (r#"{"a":1,"time":"noon"}"#, "`time` is not a time"),
            (r#"{"fields":{"a":1},"measurement":3}"#, "not a text"),
            (r#"{"fields":{"a":1},"service":"web"}"#, "`service` stands beside"),
            (r#"{"service":["web"],"a":1}"#, "not a single value"),
        ] {
            let found = points(event, &options);
            assert!(matches!(&found[..], [Err(reason)] if reason.contains(part)), "{event}: {found:?}");
        }
        let collectd = r#"{"values":[1.5,null],"time":1763778141.125,"service":"x"}"#;
        let expected =
            Point::new("m").tag("service", "x").field("values_0", 1.5).at_ns(1_763_778_141_125_000_000);
        assert_eq!(points(collectd, &options), [Ok(expected)]);
        let wide = format!("{{\"{}\":[{}0]}}", "v".repeat(990), "0,".repeat(400_000));
        assert!(points(&wide, &options)[0].as_ref().unwrap_err().contains("more than 4096 fields"));
        let whole = Point::new("m").field("bytes", 12_i64).field("known", 6_i64).at_ns(5);
        assert_eq!(points(r#"{"bytes":12.0,"known":6.0}"#, &options), [Ok(whole)]);
        let nameless = points(r#"{"a":1}"#, &EventOptions::default());
        assert!(nameless[0].as_ref().unwrap_err().contains("names no measurement"));
    }
}
