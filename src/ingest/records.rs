//! What the readers of `import` share: options, one iterator of points, bounded lines, and the type of a column.
//!
//! A reader turns a `BufRead` into [`Point`]s one by one and goes on after a bad record. Memory is bounded by the
//! longest record, the number of columns, and for logs by a window of seconds. Knows nothing of the engine.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use icecore_storage::model::{FieldType, RowError, Value};

use super::Precision;
use crate::point::Point;

/// Most columns or flattened names of one import.
pub(super) const COLUMNS_MAX: usize = 65_535;
/// Bytes of the name of a column at most. Together with [`COLUMNS_MAX`] it bounds the memory of names: joined names
/// of nested objects would otherwise grow with the square of the record.
pub(super) const NAME_BYTES_MAX: usize = 1024;

/// How records become points.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// Measurement of all points.
    pub measurement: String,
    /// The column or key that holds the time; without it `time` or `timestamp`, whichever is there first.
    pub time_column: Option<String>,
    /// Unit of integer times; without it guessed from their size.
    pub precision: Option<Precision>,
    /// Columns or keys that become tags.
    pub tag_columns: Vec<String>,
    /// Tags that every point gets.
    pub tags: Vec<(String, String)>,
    /// Longest record, in bytes; a longer one is refused.
    pub record_bytes_max: usize,
}

impl ImportOptions {
    /// Options for a measurement; everything else as described at the fields, records of at most 1 MiB.
    pub fn new(measurement: impl Into<String>) -> Self {
        Self {
            measurement: measurement.into(),
            time_column: None,
            precision: None,
            tag_columns: Vec::new(),
            tags: Vec::new(),
            record_bytes_max: 1024 * 1024,
        }
    }

    /// A point with the measurement and the constant tags.
    pub(crate) fn point(&self) -> Point {
        Point { tags: self.tags.clone(), ..Point::new(self.measurement.clone()) }
    }

    /// Whether a column holds the time.
    pub(crate) fn is_time(&self, column: &str) -> bool {
        match &self.time_column {
            Some(name) => name == column,
            None => column == "time" || column == "timestamp",
        }
    }

    /// Whether a column is a tag.
    pub(crate) fn is_tag(&self, column: &str) -> bool {
        self.tag_columns.iter().any(|name| name == column)
    }
}

/// Form of an imported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header row.
    #[cfg(feature = "csv")]
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Common or combined log format of web servers.
    Clf,
}

/// Why a record gave no point, or a point without one of its fields.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The record is not as it should be; the reader goes on behind it.
    #[error("line {}: {}", .0.line, .0.reason)]
    Record(RowError),
    /// The input cannot be read; nothing follows.
    #[error("cannot read the input: {0}")]
    Io(#[from] std::io::Error),
}

impl RecordError {
    pub(crate) fn record(line: u64, reason: impl Into<String>) -> Self {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        Self::Record(RowError { line, reason: reason.into() })
    }
}

/// Points and errors in the order of the file.
pub type Points<'a> = Box<dyn Iterator<Item = Result<Point, RecordError>> + 'a>;

/// Opens a reader. The engine keeps the last of two rows with the same series and time, so rows of a CSV or
/// JSON file with equal times replace each other; lines of a log do not, see [`clf`](super::clf).
///
/// # Errors
/// `Io` or `Record` when the header of a CSV file cannot be read or has no time column.
pub fn open<'a>(
    format: Format,
    input: impl BufRead + 'a,
    options: ImportOptions,
) -> Result<Points<'a>, RecordError> {
    Ok(match format {
        #[cfg(feature = "csv")]
        Format::Csv => Box::new(super::csv::CsvReader::new(input, options)?),
        Format::Jsonl => Box::new(super::jsonl::JsonlReader::new(input, options)),
        Format::Clf => Box::new(super::clf::ClfReader::new(input, options)),
    })
}

/// Lines of an input, one buffer for all, none longer than a limit.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    line: u64,
    bytes_max: usize,
}

/// One step of [`Lines`].
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// A line without its end, and its number from 1.
    Whole(u64, &'a [u8]),
    /// A line beyond the limit; it has been skipped.
    TooLong(u64),
    /// Nothing is left.
    End,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, buffer: Vec::new(), line: 0, bytes_max }
    }

    /// Reads the next line.
    pub(crate) fn next_line(&mut self) -> std::io::Result<Line<'_>> {
        self.buffer.clear();
        self.line += 1;
        let bytes_max = u64::try_from(self.bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        if (&mut self.input).take(bytes_max).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(Line::End);
        }
        if self.buffer.last() != Some(&b'\n') && self.bytes_max < self.buffer.len() {
            self.input.skip_until(b'\n')?;
            return Ok(Line::TooLong(self.line));
        }
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        // A byte order mark is no part of the first line.
        let text = text.strip_prefix(b"\xef\xbb\xbf").filter(|_| self.line == 1).unwrap_or(text);
        Ok(Line::Whole(self.line, text.strip_suffix(b"\r").unwrap_or(text)))
    }
}

/// The type that each column got from its first value. Later values are converted where nothing is lost.
#[derive(Debug, Default)]
pub(crate) struct ColumnTypes {
    types: HashMap<String, FieldType>,
}

impl ColumnTypes {
    /// Whether the column is text since its first value.
    #[cfg(feature = "csv")]
    pub(crate) fn is_text(&self, column: &str) -> bool {
        self.types.get(column) == Some(&FieldType::Str)
    }

    /// Gives a value the type of its column.
    pub(crate) fn fit(&mut self, column: &str, value: Value) -> Result<Value, String> {
        let Some(&wanted) = self.types.get(column) else {
            if COLUMNS_MAX <= self.types.len() {
                return Err(format!("more than {COLUMNS_MAX} columns"));
            }
            self.types.insert(column.to_owned(), value.field_type());
            return Ok(value);
        };
        let found = value.field_type();
        convert(value, wanted).ok_or_else(|| {
            format!("column `{column}` is {} since its first value, found {}", wanted.name(), found.name())
        })
    }
}

/// Converts a number into another type; `None` when it would not be the same number.
fn convert(value: Value, wanted: FieldType) -> Option<Value> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match (value, wanted) {
        (value, wanted) if value.field_type() == wanted => Some(value),
        (Value::Int(number), FieldType::Float) if (number as f64).abs() < EXACT_MAX => {
            Some(Value::Float(number as f64))
        }
        (Value::UInt(number), FieldType::Float) if (number as f64) < EXACT_MAX => {
            Some(Value::Float(number as f64))
        }
        (Value::UInt(number), FieldType::Int) => i64::try_from(number).ok().map(Value::Int),
        (Value::Int(number), FieldType::UInt) => u64::try_from(number).ok().map(Value::UInt),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 53 bits")]
        (Value::Float(number), FieldType::Int) if number.trunc() == number && number.abs() < EXACT_MAX => {
            Some(Value::Int(number as i64))
        }
        _ => None,
    }
}

/// Hash that stays the same on every machine and in every version (FNV-1a, then the finaliser of SplitMix64):
/// written data depends on it. It is no cryptographic hash.
pub(crate) fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().copied().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A file of the data set that stays outside the repository; says so when it is not there.
#[cfg(test)]
pub(crate) fn shared_data(name: &str) -> Option<std::path::PathBuf> {
    let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let directory = std::env::var_os("ICECORE_DATA_DIR").map_or_else(beside, std::path::PathBuf::from);
    let path = directory.join(name);
    let found = path.is_file();
    if !found {
        eprintln!("SKIPPED: no {}; set ICECORE_DATA_DIR", path.display());
    }
    found.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_long_one_is_skipped_whole() {
        let mut lines = Lines::new(&b"ab\r\nabcdef\n\nabc\nabcd"[..], 3);
        let mut seen = Vec::new();
        loop {
            match lines.next_line().unwrap() {
                Line::Whole(line, text) => seen.push((line, String::from_utf8(text.to_vec()).unwrap())),
                Line::TooLong(line) => seen.push((line, "too long".into())),
                Line::End => break,
            }
        }
        let seen: Vec<_> = seen.iter().map(|(line, text)| (*line, &**text)).collect();
        assert_eq!(seen, [(1, "ab"), (2, "too long"), (3, ""), (4, "abc"), (5, "too long")]);
    }

    #[test]
    fn lines_byte_order_mark_is_no_part_of_the_first() {
        let mut lines = Lines::new(&b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"[..], 9);
        let mut next = || match lines.next_line().unwrap() {
            Line::Whole(_, text) => text.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(next(), b"a");
        assert_eq!(next(), b"\xef\xbb\xbfb");
    }

    #[test]
    fn fit_first_value_sets_the_type() {
        let mut types = ColumnTypes::default();
        assert_eq!(types.fit("a", Value::Int(1)), Ok(Value::Int(1)));
        assert_eq!(types.fit("a", Value::Float(2.0)), Ok(Value::Int(2)));
        assert!(types.fit("a", Value::Float(2.5)).is_err());
        assert_eq!(types.fit("b", Value::Float(1.5)), Ok(Value::Float(1.5)));
        assert_eq!(types.fit("b", Value::Int(2)), Ok(Value::Float(2.0)));
        assert!(types.fit("b", Value::Int(i64::MAX)).is_err());
        assert!(types.fit("b", Value::Str("x".into())).is_err());
    }

    #[test]
    fn stable_hash_known_text_never_changes() {
        assert_eq!(stable_hash(&[b"a", b"bc"]), stable_hash(&[b"abc"]));
        assert_eq!(format!("{:016x}", stable_hash(&[b"198.18.79.20"])), "47caa55627dfd50c");
    }
}
