//! Points that own their text: the write API of a program that embeds icecore, and what `import` reads.
//!
//! [`batch`] turns points into the borrowed [`WriteBatch`] that the engine takes. Knows nothing of the engine.

use std::ops::Range;

use icecore_query::promql::Labels;
use icecore_storage::model::batch::{CANONICAL, Field};
use icecore_storage::model::{
    RowError, SeriesKey, TIMESTAMP_MAX, TIMESTAMP_MIN, Value, ValueRef, WriteBatch,
};

/// What a decoder made of a request: the good rows, and why the others were refused.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The rows that were understood, in the order of the request.
    pub batch: WriteBatch<'a>,
    /// The first refused lines, by line number; no more than the limit of the decoder.
    pub rejected: Vec<RowError>,
    /// How many lines were refused in all.
    pub rejected_count: usize,
    /// Exemplars of series of the batch, where the form has some.
    pub exemplars: Vec<SeriesExemplar<'a>>,
}

/// A single observation that came along with a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// What it tells of itself, as the id of a trace.
    pub labels: Labels,
    /// Its time.
    pub ts_ns: i64,
    /// Its value.
    pub value: f64,
}

/// An exemplar and the raw key of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplar<'a> {
    /// The series, in the dialect of the batch that it comes with.
    pub key: &'a [u8],
    /// The exemplar.
    pub exemplar: Exemplar,
}

/// One row to write: a series, a time and its fields.
///
/// # Example
/// ```
/// use icecore::point::{Point, batch};
///
/// let points = [Point::new("requests").tag("service", "api").field("latency_ms", 12.5).at_ns(1_700_000_000_000_000_000)];
/// let mut arena = Vec::new();
/// let decoded = batch(&points, &mut arena);
/// assert_eq!(decoded.batch.rows.len(), 1);
/// assert!(decoded.rejected.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The measurement.
    pub measurement: String,
    /// Tags in any order; each key once.
    pub tags: Vec<(String, String)>,
    /// Fields; at least one. Of fields with one name the last wins.
    pub fields: Vec<(String, Value)>,
    /// Nanoseconds UTC.
    pub ts_ns: i64,
}

impl Point {
    /// A point without tags and fields at the Unix epoch; give it its time with [`Point::at_ns`].
    pub fn new(measurement: impl Into<String>) -> Self {
        Self { measurement: measurement.into(), tags: Vec::new(), fields: Vec::new(), ts_ns: 0 }
    }

    /// The point with a tag more.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// The point with a field more.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The point at another time, in nanoseconds UTC.
    #[must_use]
    pub fn at_ns(mut self, ts_ns: i64) -> Self {
        self.ts_ns = ts_ns;
        self
    }

    /// Checks what does not depend on other points, and names the series.
    fn series_key(&self) -> Result<SeriesKey, String> {
        if self.fields.is_empty() {
            return Err("missing fields".to_owned());
        }
        if let Some((name, _)) = self.fields.iter().find(|(name, _)| name.is_empty() || name == "time") {
            return Err(format!("`{name}` cannot be a field name"));
        }
        if !(TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&self.ts_ns) {
            return Err(format!("timestamp {} out of range", self.ts_ns));
        }
        let tags = self.tags.iter().map(|(key, value)| (&**key, &**value));
        SeriesKey::new(&self.measurement, tags).map_err(|error| error.to_string())
    }
}

/// Makes a batch of points. `arena` is cleared and then holds the encoded series keys that the batch borrows.
///
/// Points that cannot be written are left out and reported with their number, from 1.
pub fn batch<'a>(points: &'a [Point], arena: &'a mut Vec<u8>) -> Decoded<'a> {
    arena.clear();
    let keys: Vec<Result<Range<usize>, String>> = points
        .iter()
        .map(|point| {
            let start = arena.len();
            point.series_key()?.encode(arena);
            Ok(start..arena.len())
        })
        .collect();
    let arena: &'a [u8] = arena;
    let mut batch = WriteBatch::new(&CANONICAL);
    let mut rejected = Vec::new();
    for (index, (point, key)) in points.iter().zip(keys).enumerate() {
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        match key {
            Ok(key) => {
                for (name, value) in &point.fields {
                    match value.as_ref() {
                        ValueRef::Float(number) => batch.push_number(name.as_bytes(), number),
                        value => batch.fields.push(Field { name: name.as_bytes(), value }),
                    }
                }
                batch.push_row(arena.get(key).unwrap_or_default(), point.ts_ns, line);
            }
            Err(reason) => rejected.push(RowError { line, reason }),
        }
    }
    let rejected_count = rejected.len();
    Decoded { batch, rejected, rejected_count, exemplars: Vec::new() }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn batch_good_points_kept_bad_ones_numbered() {
        let points = [
            Point::new("m").tag("b", "2").tag("a", "1").field("x", 1_i64).field("s", "text").at_ns(5),
            Point::new("m").at_ns(6),
            Point::new("").field("x", 1.0).at_ns(7),
            Point::new("m").tag("a", "1").tag("a", "2").field("x", 1.0).at_ns(8),
            Point::new("m").field("x", 1.0).at_ns(i64::MAX),
            Point::new("m").field("x", true).at_ns(9),
        ];
        let mut arena = vec![1, 2, 3];
        let decoded = batch(&points, &mut arena);
        let rows: Vec<_> =
            decoded.batch.iter().map(|(row, fields)| (row.ts_ns, row.line, fields.len())).collect();
        assert_eq!(rows, [(5, 1, 2), (9, 6, 1)]);
        assert_eq!(decoded.rejected.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3, 4, 5]);
        let (row, fields) = decoded.batch.iter().next().unwrap();
        let key = (decoded.batch.dialect.series_key)(row.key).unwrap();
        assert_eq!(key.to_string(), r#"m{a="1",b="2"}"#);
        assert_eq!(fields[1].value, ValueRef::Str("text"));
    }

    #[test]
    fn batch_marker_is_the_end_of_a_series_and_no_number() {
        let points = [Point::new("m").field("value", f64::from_bits(0x7ff0_0000_0000_0002)).at_ns(5)];
        let mut arena = Vec::new();
        let decoded = batch(&points, &mut arena);
        let (_, fields) = decoded.batch.iter().next().unwrap();
        assert_eq!((fields[0].name, fields[0].value), (&b"__stale__"[..], ValueRef::Bool(true)));
    }
}
