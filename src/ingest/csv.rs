//! Comma-separated values with a header row: one point a record.
//!
//! A column is the time, a tag, or a field. What parses as a number is a float, so that an integer at the top of
//! a column cannot quarrel with a decimal further down; `true` and `false` are booleans, everything else is text.
//! Empty cells and NaN are missing values, spaces around a cell are no part of it. A column keeps the type of its
//! first value: in a text column numbers stay text, in a number column a text is reported and left out while the
//! rest of the record is kept. A column without a name, such as the row numbers that some programs put first, is
//! left out; so is one called `time` that is not the time column, because no field can have that name, and that is
//! reported. Records with the same tags and time replace each other, the last wins, as
//! everywhere in the engine.

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, Read};

use csv::{ErrorKind, StringRecord};
use icecore_storage::model::Value;

use super::records::{COLUMNS_MAX, ColumnTypes, ImportOptions, NAME_BYTES_MAX, RecordError};
use super::time::parse_time;
use crate::point::Point;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Time,
    Tag,
    Field,
    Skipped,
}

/// Reads points from CSV.
#[derive(Debug)]
pub struct CsvReader<R> {
    reader: csv::Reader<Metered<R>>,
    options: ImportOptions,
    columns: Vec<(String, Role)>,
    types: ColumnTypes,
    record: StringRecord,
    pending: VecDeque<Result<Point, RecordError>>,
    ended: bool,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `Io` when the input cannot be read; `Record` when the header is not UTF-8, lacks the time column or one of
    /// the tag columns, or names a column twice.
    pub fn new(input: R, options: ImportOptions) -> Result<Self, RecordError> {
        let metered = Metered { input, left: options.record_bytes_max, bytes_max: options.record_bytes_max };
        // With its own idea of a line end the reader stops between CR and LF and numbers lines one too low; here
        // the CR is space around the last cell.
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .terminator(csv::Terminator::Any(b'\n'))
            .flexible(true)
            .from_reader(metered);
        let header = reader.headers().map_err(|error| record_error(error, 1))?.clone();
        let columns = roles(&header, &options).map_err(|reason| RecordError::record(1, reason))?;
        let (types, record, mut pending) = (ColumnTypes::default(), StringRecord::new(), VecDeque::new());
        if columns.iter().any(|(name, role)| *role == Role::Skipped && !name.is_empty()) {
            pending.push_back(Err(RecordError::record(1, "column `time` is left out: it cannot be a field")));
        }
        Ok(Self { reader, options, columns, types, record, pending, ended: false })
    }

    /// Makes the point of the current record; queues it behind the errors of its cells.
    fn take_record(&mut self, line: u64) {
        let (len, expected) = (self.record.len(), self.columns.len());
        if len != expected {
            let is_blank = len == 1 && self.record.iter().all(str::is_empty);
            if !is_blank {
                let reason = format!("{len} cells, expected {expected}");
                self.pending.push_back(Err(RecordError::record(line, reason)));
            }
            return;
        }
        let mut point = self.options.point();
        let mut ts_ns = None;
        for ((name, role), cell) in self.columns.iter().zip(&self.record) {
            match role {
                Role::Time => ts_ns = Some((cell, parse_time(cell, self.options.precision))),
                Role::Skipped => {}
                Role::Tag if cell.is_empty() => {}
                Role::Tag => point.tags.push((name.clone(), cell.to_owned())),
                Role::Field => match self.types.fit_text(name, cell) {
                    Ok(Some(value)) => point.fields.push((name.clone(), value)),
                    Ok(None) => {}
                    Err(reason) => self.pending.push_back(Err(RecordError::record(line, reason))),
                },
            }
        }
        let result = match ts_ns {
            Some((_, Some(ts_ns))) if !point.fields.is_empty() => Ok(point.at_ns(ts_ns)),
            Some((_, Some(_))) => Err(RecordError::record(line, "no field has a value")),
            Some((cell, None)) => Err(RecordError::record(line, format!("`{cell}` is not a time"))),
            None => Err(RecordError::record(line, "no time")),
        };
        self.pending.push_back(result);
    }
}

impl<R: BufRead> Iterator for CsvReader<R> {
    type Item = Result<Point, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(item);
            }
            if self.ended {
                return None;
            }
            let metered = self.reader.get_mut();
            metered.left = metered.bytes_max;
            match self.reader.read_record(&mut self.record) {
                Ok(true) => {
                    let line = self.record.position().map_or(0, csv::Position::line);
                    self.take_record(line);
                }
                Ok(false) => self.ended = true,
                Err(error) => {
                    let error = record_error(error, self.reader.position().line());
                    self.ended = matches!(error, RecordError::Io(_));
                    return Some(Err(error));
                }
            }
        }
    }
}

impl ColumnTypes {
    /// The value of a cell; `None` when it is missing.
    fn fit_text(&mut self, column: &str, cell: &str) -> Result<Option<Value>, String> {
        if cell.is_empty() {
            return Ok(None);
        }
        if self.is_text(column) {
            return Ok(Some(Value::Str(cell.to_owned())));
        }
        let value = match fast_float2::parse::<f64, _>(cell) {
            Ok(number) if number.is_nan() => return Ok(None),
            Ok(number) if number.is_infinite() => {
                return Err(format!("column `{column}`: `{cell}` is not finite"));
            }
            Ok(number) => Value::Float(number),
            Err(_) if cell.eq_ignore_ascii_case("true") => Value::Bool(true),
            Err(_) if cell.eq_ignore_ascii_case("false") => Value::Bool(false),
            Err(_) => Value::Str(cell.to_owned()),
        };
        self.fit(column, value).map(Some)
    }
}

fn roles(header: &StringRecord, options: &ImportOptions) -> Result<Vec<(String, Role)>, String> {
    if COLUMNS_MAX < header.len() {
        return Err(format!("the header has {} columns, at most {COLUMNS_MAX} are possible", header.len()));
    }
    let mut columns: Vec<(String, Role)> = Vec::with_capacity(header.len());
    let (mut seen, mut has_time) = (HashSet::new(), false);
    for (index, name) in header.iter().enumerate() {
        // A byte order mark is no part of the first name.
        let name = if index == 0 { name.trim_start_matches('\u{feff}') } else { name };
        if NAME_BYTES_MAX < name.len() {
            return Err(format!("the name of column {} is longer than {NAME_BYTES_MAX} bytes", index + 1));
        }
        if !name.is_empty() && !seen.insert(name) {
            return Err(format!("the header names `{name}` twice"));
        }
        let role = if name.is_empty() {
            Role::Skipped
        } else if options.is_time(name) && !has_time {
            has_time = true;
            Role::Time
        } else if name == "time" {
            Role::Skipped
        } else if options.is_tag(name) {
            Role::Tag
        } else {
            Role::Field
        };
        columns.push((name.to_owned(), role));
    }
    if let Some(tag) = options.tag_columns.iter().find(|tag| !seen.contains(tag.as_str())) {
        return Err(format!("the header has no column `{tag}`"));
    }
    if !has_time {
        let wanted = options.time_column.as_deref().unwrap_or("time` or `timestamp");
        return Err(format!("the header has no time column `{wanted}`"));
    }
    Ok(columns)
}

fn record_error(error: csv::Error, line: u64) -> RecordError {
    let line = error.position().map_or(line, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(error) => RecordError::Io(error),
        ErrorKind::Utf8 { err, .. } => {
            RecordError::record(line, format!("invalid UTF-8 in cell {}", err.field() + 1))
        }
        _ => RecordError::record(line, "not CSV"),
    }
}

/// Bounds what is read for one record, so that a quote left open does not read the whole file into memory.
#[derive(Debug)]
struct Metered<R> {
    input: R,
    left: usize,
    bytes_max: usize,
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let reason = format!("a record is longer than {} bytes", self.bytes_max);
            return Err(std::io::Error::other(reason));
        }
        let len = buffer.len().min(self.left);
        let count = self.input.read(buffer.get_mut(..len).unwrap_or_default())?;
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], options: ImportOptions) -> Vec<Result<Point, String>> {
        let reader = CsvReader::new(text, options).unwrap();
        reader.map(|item| item.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn csv_columns_become_time_tags_and_fields() {
        let options = ImportOptions {
            tag_columns: vec!["host".into()],
            tags: vec![("dc".into(), "eu".into())],
            ..ImportOptions::new("cpu")
        };
        let text = "timestamp,host,load,up,note\n2014-02-14 14:30:00,a,1,true,\"x, y\"\n1392388201,,nan,,5\n";
        let point = Point::new("cpu").tag("dc", "eu").tag("host", "a").field("load", 1.0).field("up", true);
        let first = point.field("note", "x, y").at_ns(1_392_388_200_000_000_000);
        let second = Point::new("cpu").tag("dc", "eu").field("note", "5").at_ns(1_392_388_201_000_000_000);
        assert_eq!(read(text.as_bytes(), options), [Ok(first), Ok(second)]);
    }

    #[test]
    fn csv_bad_records_are_reported_and_good_ones_kept() {
        let text = b"time,a,b\n1,1,1\n2,x,2\nnever,1,1\n3,3\n4,\xff,4\n5,,\n6,6,inf\n";
        let items = read(text, ImportOptions::new("m"));
        let point = |ts: i64| Point::new("m").at_ns(ts * 1_000_000_000);
        let expected = [
            Ok(point(1).field("a", 1.0).field("b", 1.0)),
            Err("line 3: column `a` is float since its first value, found string".to_owned()),
            Ok(point(2).field("b", 2.0)),
            Err("line 4: `never` is not a time".to_owned()),
            Err("line 5: 2 cells, expected 3".to_owned()),
            Err("line 6: invalid UTF-8 in cell 2".to_owned()),
            Err("line 7: no field has a value".to_owned()),
            Err("line 8: column `b`: `inf` is not finite".to_owned()),
            Ok(point(6).field("a", 6.0)),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn csv_open_quote_ends_at_the_record_limit() {
        let options = ImportOptions { record_bytes_max: 100, ..ImportOptions::new("m") };
        let text = format!("time,a\n1,1\n2,\"{}", "x\n".repeat(5_000));
        let items = read(text.as_bytes(), options);
        assert_eq!(items.len(), 2);
        assert!(items[1].as_ref().is_err_and(|reason| reason.contains("longer than 100 bytes")));
    }

    #[test]
    fn csv_header_without_time_or_tag_is_refused() {
        let refused = |options| CsvReader::new(&b"a,b\n"[..], options).unwrap_err().to_string();
        assert_eq!(
            refused(ImportOptions::new("m")),
            "line 1: the header has no time column `time` or `timestamp`"
        );
        let options = ImportOptions { tag_columns: vec!["c".into()], ..ImportOptions::new("m") };
        assert_eq!(refused(options), "line 1: the header has no column `c`");
    }

    #[test]
    fn csv_header_of_a_hostile_file_is_refused_soon() {
        let refused =
            |text: &str| CsvReader::new(text.as_bytes(), ImportOptions::new("m")).unwrap_err().to_string();
        assert_eq!(refused("time,a,b,a\n"), "line 1: the header names `a` twice");
        let many: Vec<_> = (0..100_000).map(|number| format!("{number:x}")).collect();
        let reason = "line 1: the header has 100000 columns, at most 65535 are possible";
        assert_eq!(refused(&many.join(",")), reason);
        let long = format!("time,{}\n", "a".repeat(2_000));
        assert_eq!(refused(&long), "line 1: the name of column 2 is longer than 1024 bytes");
    }

    #[test]
    fn csv_second_time_column_is_left_out_and_reported() {
        let items = read(b"timestamp,time,a\n1,noon,2\n", ImportOptions::new("m"));
        let expected = [
            Err("line 1: column `time` is left out: it cannot be a field".to_owned()),
            Ok(Point::new("m").field("a", 2.0).at_ns(1_000_000_000)),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn csv_forms_of_other_programs_are_read() {
        // Byte order mark, CRLF, quotes around line ends and quotes, row numbers without a name, no last newline.
        let text = "\u{feff},\"time\",a,\r\n0,1,\"two\r\n\"\"lines\"\"\",x\r\n\r\n1,2,\"\",y\r\n2,3,z,";
        let point = |text: &str, ts: i64| Ok(Point::new("m").field("a", text).at_ns(ts * 1_000_000_000));
        let expected =
            [point("two\r\n\"lines\"", 1), Err("line 5: no field has a value".to_owned()), point("z", 3)];
        assert_eq!(read(text.as_bytes(), ImportOptions::new("m")), expected);
    }

    #[test]
    fn csv_real_series_is_read_whole() {
        let Some(path) =
            crate::ingest::records::shared_data("nab/realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv")
        else {
            return;
        };
        let text = std::fs::read(path).unwrap();
        let items = read(&text, ImportOptions::new("cpu"));
        assert!(items.iter().all(Result::is_ok));
        assert_eq!(items.len(), 4_032);
        let first = Point::new("cpu").field("value", 0.132).at_ns(1_392_388_200_000_000_000);
        assert_eq!(items.first(), Some(&Ok(first)));
    }
}
