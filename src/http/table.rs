//! Tables of SELECT as InfluxDB's JSON and CSV.

use icecore_query::select::{Cell, Table, TableSeries};
use icecore_storage::model::{HOUR_NS, MINUTE_NS, SECOND_NS};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::encode::push_coverage;
use super::number::{push_float, push_int, push_json_text, push_json_texts, rfc3339};

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Epoch {
    /// RFC 3339.
    Text,
    /// A count of units of this many nanoseconds since 1970.
    Count(i64),
}

impl Epoch {
    /// The form that the parameter `epoch` names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let unit_ns = match text {
            "rfc3339" => return Some(Self::Text),
            "ns" | "n" => 1,
            "u" | "us" | "µ" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND_NS,
            "m" => MINUTE_NS,
            "h" => HOUR_NS,
            _ => return None,
        };
        Some(Self::Count(unit_ns))
    }
}

/// How tables are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableForm {
    /// Times.
    pub(crate) epoch: Epoch,
    /// Whether the coverage is added.
    pub(crate) with_coverage: bool,
}

/// The outcomes of statements, in their order, as InfluxDB writes them.
pub(crate) fn results_json(results: &[Result<Table, String>], form: TableForm) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"results\":[");
    for (id, result) in results.iter().enumerate() {
        out.extend_from_slice(if id > 0 { b",{\"statement_id\":" } else { b"{\"statement_id\":" });
        push_int(&mut out, id);
        match result {
            Ok(table) => push_table(&mut out, table, form),
            Err(message) => {
                out.extend_from_slice(b",\"error\":");
                push_json_text(&mut out, message);
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
    out
}

/// Bytes of names that a form repeats for each of so many rows, which no row was charged for. The texts of cells were.
pub(crate) fn repeated_bytes(table: &Table, rows_each: usize) -> u64 {
    let bytes_of = |series: &TableSeries| {
        let tags = series.tags.iter().map(|(key, value)| key.len() + value.len() + 6).sum::<usize>();
        let columns = series.columns.iter().map(|column| column.len() + 4).sum::<usize>();
        let times = series.rows.len().div_ceil(rows_each.max(1));
        (series.name.len() + tags + columns + 64).saturating_mul(times) as u64
    };
    table.series.iter().map(bytes_of).fold(0, u64::saturating_add)
}

/// As [`results_json`], in a document for each piece of a series of up to `rows_max` rows, each on a line.
pub(crate) fn results_chunks(results: &[Result<Table, String>], form: TableForm, rows_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    for (id, result) in results.iter().enumerate() {
        let series = result.as_ref().map_or(&[][..], |table| &table.series);
        let zone = result.as_ref().ok().and_then(|table| table.zone.as_ref());
        let times = Times { epoch: form.epoch, zone };
        for (place, series_of) in series.iter().enumerate() {
            let pieces = series_of.rows.chunks(rows_max.max(1));
            let last = pieces.len().saturating_sub(1);
            for (piece, rows) in pieces.enumerate() {
                let ends_series = piece == last;
                let ends_result = ends_series && place + 1 == series.len();
                push_result_start(&mut out, id);
                out.extend_from_slice(b",\"series\":[");
                push_rows(&mut out, series_of, rows, times);
                if !ends_series {
                    out.pop();
                    out.extend_from_slice(b",\"partial\":true}");
                }
                out.push(b']');
                match (ends_result, result) {
                    (true, Ok(table)) => push_notes(&mut out, table, form),
                    _ => out.extend_from_slice(b",\"partial\":true"),
                }
                out.extend_from_slice(b"}]}\n");
            }
        }
        if series.is_empty() {
            push_result_start(&mut out, id);
            match result {
                Ok(table) => push_notes(&mut out, table, form),
                Err(message) => {
                    out.extend_from_slice(b",\"error\":");
                    push_json_text(&mut out, message);
                }
            }
            out.extend_from_slice(b"}]}\n");
        }
    }
    out
}

/// How the times of a table are written.
#[derive(Clone, Copy)]
struct Times<'a> {
    epoch: Epoch,
    zone: Option<&'a TimeZone>,
}

impl<'a> Times<'a> {
    fn of(table: &'a Table, epoch: Epoch) -> Self {
        Self { epoch, zone: table.zone.as_ref() }
    }

    /// As text, with the offset of the zone.
    fn text(self, ts_ns: i64) -> String {
        let offset_s = self.zone.map_or(0, |zone| offset_s(zone, ts_ns));
        if offset_s == 0 && self.zone.is_none_or(|zone| *zone == TimeZone::UTC) {
            return rfc3339(ts_ns);
        }
        let mut text = rfc3339(ts_ns.saturating_add(i64::from(offset_s) * SECOND_NS));
        text.pop();
        let (sign, minutes) = (if offset_s < 0 { '-' } else { '+' }, offset_s.abs() / 60);
        text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        text
    }
}

fn offset_s(zone: &TimeZone, ts_ns: i64) -> i32 {
    Timestamp::from_nanosecond(i128::from(ts_ns)).map_or(0, |at| zone.to_offset(at).seconds())
}

fn push_result_start(out: &mut Vec<u8>, id: usize) {
    out.extend_from_slice(b"{\"results\":[{\"statement_id\":");
    push_int(out, id);
}

fn push_table(out: &mut Vec<u8>, table: &Table, form: TableForm) {
    for (index, series) in table.series.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"series\":[" } else { b"," });
        push_rows(out, series, &series.rows, Times::of(table, form.epoch));
    }
    if !table.series.is_empty() {
        out.push(b']');
    }
    push_notes(out, table, form);
}

/// What stands beside the series.
fn push_notes(out: &mut Vec<u8>, table: &Table, form: TableForm) {
    for (index, message) in table.messages.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"messages\":[" } else { b"," });
        out.extend_from_slice(b"{\"level\":\"info\",\"text\":");
        push_json_text(out, message);
        out.push(b'}');
    }
    if !table.messages.is_empty() {
        out.push(b']');
    }
    if form.with_coverage {
        push_coverage(out, &table.coverage);
    }
}

/// A series with some of its rows.
fn push_rows(out: &mut Vec<u8>, series: &TableSeries, rows: &[Vec<Cell>], times: Times<'_>) {
    out.push(b'{');
    if !series.name.is_empty() {
        out.extend_from_slice(b"\"name\":");
        push_json_text(out, &series.name);
        out.push(b',');
    }
    for (index, (key, value)) in series.tags.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\"tags\":{" } else { b"," });
        push_json_text(out, key);
        out.push(b':');
        push_json_text(out, value);
    }
    if !series.tags.is_empty() {
        out.extend_from_slice(b"},");
    }
    out.extend_from_slice(b"\"columns\":");
    push_json_texts(out, series.columns.iter().map(String::as_str));
    for (index, row) in rows.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"values\":[" } else { b"," });
        for (column, cell) in row.iter().enumerate() {
            out.push(if column == 0 { b'[' } else { b',' });
            push_cell(out, cell, times);
        }
        out.extend_from_slice(if row.is_empty() { b"[]" } else { b"]" });
    }
    out.extend_from_slice(if rows.is_empty() { b"}" } else { b"]}" });
}

fn push_cell(out: &mut Vec<u8>, cell: &Cell, times: Times<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Time(ts_ns) => match times.epoch {
            Epoch::Text => push_json_text(out, &times.text(*ts_ns)),
            Epoch::Count(unit_ns) => push_int(out, ts_ns.div_euclid(unit_ns)),
        },
        // JSON has no word for them.
        Cell::Float(value) if !value.is_finite() => out.extend_from_slice(b"null"),
        Cell::Float(value) => push_float(out, *value),
        Cell::Int(value) => push_int(out, *value),
        Cell::UInt(value) => push_int(out, *value),
        Cell::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Cell::Text(text) => push_json_text(out, text),
    }
}

/// The rows of a table as objects, one for each row: the measurement, the tags and the columns. `separator` stands between.
pub(crate) fn table_objects(out: &mut Vec<u8>, table: &Table, epoch: Epoch, separator: &[u8]) {
    let (mut is_first, times) = (true, Times::of(table, epoch));
    for series in &table.series {
        let mut head = Vec::new();
        let is_column = |name: &str| series.columns.iter().any(|column| column == name);
        let tags = series.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let measurement = (!series.name.is_empty()).then_some(("measurement", series.name.as_str()));
        let tags = tags.filter(|(key, _)| *key != "measurement" || measurement.is_none());
        for (key, value) in measurement.into_iter().chain(tags).filter(|(key, _)| !is_column(key)) {
            push_json_text(&mut head, key);
            head.push(b':');
            push_json_text(&mut head, value);
            head.push(b',');
        }
        for row in &series.rows {
            if !std::mem::take(&mut is_first) {
                out.extend_from_slice(separator);
            }
            out.push(b'{');
            out.extend_from_slice(&head);
            for (column, (name, cell)) in series.columns.iter().zip(row).enumerate() {
                if column > 0 {
                    out.push(b',');
                }
                push_json_text(out, name);
                out.push(b':');
                push_cell(out, cell, times);
            }
            out.push(b'}');
        }
    }
}

/// The outcome of one statement as InfluxDB's CSV: name, tags and the columns; a new head where columns change.
pub(crate) fn table_csv(out: &mut Vec<u8>, result: &Result<Table, String>, epoch: Epoch) {
    let table = match result {
        Ok(table) => table,
        Err(message) => {
            out.extend_from_slice(b"error\n");
            push_csv_text(out, message);
            out.push(b'\n');
            return;
        }
    };
    let times = Times::of(table, epoch);
    let mut head: Option<&[String]> = None;
    for series in &table.series {
        if head != Some(series.columns.as_slice()) {
            out.extend_from_slice(if head.is_some() { b"\nname,tags" } else { b"name,tags" });
            for column in &series.columns {
                out.push(b',');
                push_csv_text(out, column);
            }
            out.push(b'\n');
            head = Some(series.columns.as_slice());
        }
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let tags = tags.join(",");
        for row in &series.rows {
            push_csv_text(out, &series.name);
            out.push(b',');
            push_csv_text(out, &tags);
            for cell in row {
                out.push(b',');
                push_csv_cell(out, cell, times);
            }
            out.push(b'\n');
        }
    }
}

fn push_csv_cell(out: &mut Vec<u8>, cell: &Cell, times: Times<'_>) {
    match (cell, times.epoch) {
        (Cell::Null, _) => {}
        (Cell::Float(value), _) if !value.is_finite() => {}
        (Cell::Text(text), _) => push_csv_text(out, text),
        (Cell::Time(ts_ns), Epoch::Text) => out.extend_from_slice(times.text(*ts_ns).as_bytes()),
        _ => push_cell(out, cell, times),
    }
}

fn push_csv_text(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: TableForm = TableForm { epoch: Epoch::Text, with_coverage: false };

    fn table(messages: Vec<String>) -> Table {
        let series = TableSeries {
            name: "cpu".to_owned(),
            tags: vec![("host".to_owned(), "a,b".to_owned())],
            columns: vec!["time".to_owned(), "mean".to_owned(), "note".to_owned()],
            rows: vec![
                vec![Cell::Time(1_500_000_000), Cell::Float(2.5), Cell::Text("x\"y".to_owned())],
                vec![Cell::Time(2_000_000_000), Cell::Float(f64::INFINITY), Cell::Null],
            ],
        };
        Table { series: vec![series], messages, ..Table::default() }
    }

    #[test]
    fn json_has_influx_shape() {
        let results =
            [Ok(table(vec!["window rounded to 5m".to_owned()])), Err("database not found: x".to_owned())];
        let text = String::from_utf8(results_json(&results, FORM)).unwrap();
        let wanted = concat!(
            r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","tags":{"host":"a,b"},"#,
            r#""columns":["time","mean","note"],"values":[["1970-01-01T00:00:01.5Z",2.5,"x\"y"],"#,
            r#"["1970-01-01T00:00:02Z",null,null]]}],"messages":[{"level":"info","text":"window rounded to 5m"}]},"#,
            r#"{"statement_id":1,"error":"database not found: x"}]}"#
        );
        assert_eq!(text.trim_end(), wanted);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn json_epoch_counts_units() {
        let form = TableForm { epoch: Epoch::parse("ms").unwrap(), ..FORM };
        let text = String::from_utf8(results_json(&[Ok(table(Vec::new()))], form)).unwrap();
        assert!(text.contains("[[1500,2.5,"), "{text}");
        assert_eq!(Epoch::parse("fortnight"), None);
    }

    #[test]
    fn json_without_rows_has_no_series() {
        let empty = Table::default();
        assert_eq!(results_json(&[Ok(empty)], FORM), b"{\"results\":[{\"statement_id\":0}]}\n");
    }

    #[test]
    fn times_are_shown_in_the_zone_of_the_statement() {
        let mut one = table(Vec::new());
        one.zone = Some(TimeZone::fixed(jiff::tz::offset(-5)));
        let text =
            |epoch| String::from_utf8(results_json(&[Ok(one.clone())], TableForm { epoch, ..FORM })).unwrap();
        assert!(text(Epoch::Text).contains(r#"["1969-12-31T19:00:01.5-05:00",2.5"#), "{}", text(Epoch::Text));
        assert!(text(Epoch::Count(SECOND_NS)).contains("[[1,2.5"));
        let mut csv = Vec::new();
        table_csv(&mut csv, &Ok(one.clone()), Epoch::Text);
        assert!(String::from_utf8(csv).unwrap().contains(",1969-12-31T19:00:02-05:00,"));
        one.zone = Some(TimeZone::UTC);
        assert!(String::from_utf8(results_json(&[Ok(one)], FORM)).unwrap().contains("01.5Z"));
    }

    #[test]
    fn chunks_are_documents_of_some_rows() {
        let results = [Ok(table(vec!["window rounded to 5m".to_owned()])), Err("no".to_owned())];
        let text = String::from_utf8(results_chunks(&results, FORM, 1)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [first, second, third] = lines[..] else { panic!("{text}") };
        assert!(
            first.ends_with(r#"["1970-01-01T00:00:01.5Z",2.5,"x\"y"]],"partial":true}],"partial":true}]}"#),
            "{first}"
        );
        assert!(
            second.contains(r#"null]]}],"messages":[{"level":"info","#) && !second.contains("partial"),
            "{second}"
        );
        assert_eq!(third, r#"{"results":[{"statement_id":1,"error":"no"}]}"#);
        lines.iter().for_each(|line| _ = serde_json::from_str::<serde_json::Value>(line).unwrap());
    }

    #[test]
    fn objects_have_measurement_tags_and_columns() {
        let mut out = Vec::new();
        table_objects(&mut out, &table(Vec::new()), Epoch::Count(SECOND_NS), b"\n");
        let wanted = concat!(
            r#"{"measurement":"cpu","host":"a,b","time":1,"mean":2.5,"note":"x\"y"}"#,
            "\n",
            r#"{"measurement":"cpu","host":"a,b","time":2,"mean":null,"note":null}"#
        );
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        table_csv(&mut out, &Ok(table(Vec::new())), Epoch::Count(1));
        let wanted = "name,tags,time,mean,note\ncpu,\"host=a,b\",1500000000,2.5,\"x\"\"y\"\ncpu,\"host=a,b\",2000000000,,\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
