//! Answers for people and scripts: an aligned table, or CSV.

use icecore_query::promql::{Answer, Labels, QueryValue, Sample};
use icecore_query::select::{Cell, Table};

use crate::http::{float_text, rfc3339};

/// Rows under heads, all text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Grid {
    /// Columns padded to the same width, two spaces apart.
    pub(super) fn aligned(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        if !self.title.is_empty() {
            out.push_str(&self.title);
            out.push('\n');
        }
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        for row in [&self.columns, &rule].into_iter().chain(&self.rows) {
            let padded: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            out.push_str(padded.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// Comma-separated lines with a head.
    pub(super) fn csv(&self) -> String {
        let mut out = String::new();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            let quoted: Vec<String> = row.iter().map(|cell| quote(cell)).collect();
            out.push_str(&quoted.join(","));
            out.push('\n');
        }
        out
    }
}

fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

/// A PromQL answer: one row for each sample.
pub(super) fn answer_grid(answer: &Answer) -> Grid {
    let mut rows = Vec::new();
    match &answer.value {
        QueryValue::Scalar { ts_ns, value } => {
            rows.push(vec![String::new(), rfc3339(*ts_ns), float_text(*value)])
        }
        QueryValue::Text { ts_ns, text } => rows.push(vec![String::new(), rfc3339(*ts_ns), text.clone()]),
        QueryValue::Vector(samples) => rows.extend(samples.iter().map(|sample| {
            vec![label_text(&sample.labels), rfc3339(sample.ts_ns), sample_text(&sample.value)]
        })),
        QueryValue::Matrix(all_series) => rows.extend(all_series.iter().flat_map(|series| {
            let name = label_text(&series.labels);
            series
                .points
                .iter()
                .map(move |(ts_ns, sample)| vec![name.clone(), rfc3339(*ts_ns), sample_text(sample)])
        })),
    }
    let columns = ["series", "time", "value"].map(str::to_owned).to_vec();
    Grid { title: String::new(), columns, rows }
}

/// One grid for each series of a table.
pub(super) fn table_grids(table: &Table) -> Vec<Grid> {
    let grids = table.series.iter().map(|series| {
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let title =
            if tags.is_empty() { series.name.clone() } else { format!("{} {}", series.name, tags.join(" ")) };
        let rows = series.rows.iter().map(|row| row.iter().map(cell_text).collect()).collect();
        Grid { title, columns: series.columns.clone(), rows }
    });
    grids.collect()
}

fn cell_text(cell: &Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Time(ts_ns) => rfc3339(*ts_ns),
        Cell::Float(value) => float_text(*value),
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) => value.to_string(),
        Cell::Bool(value) => value.to_string(),
        Cell::Text(text) => text.clone(),
    }
}

fn sample_text(sample: &Sample) -> String {
    match sample {
        Sample::Float(value) => float_text(*value),
        Sample::Histogram(histogram) => {
            histogram_text(&float_text(histogram.count), &float_text(histogram.sum))
        }
    }
}

/// A histogram in a cell: its buckets are for JSON.
pub(super) fn histogram_text(count: &str, sum: &str) -> String {
    format!("histogram count={count} sum={sum}")
}

fn label_text(labels: &Labels) -> String {
    let mut name = "";
    let mut others = Vec::new();
    for (key, value) in labels.iter() {
        if key == "__name__" {
            name = value;
        } else {
            others.push(format!("{key}={value:?}"));
        }
    }
    format!("{name}{{{}}}", others.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let rows = [["a", "1"], ["longer", "2,5"]];
        let rows = rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        Grid { title: "cpu host=a".to_owned(), columns: vec!["name".to_owned(), "n".to_owned()], rows }
    }

    #[test]
    fn grid_aligned_pads_columns() {
        assert_eq!(grid().aligned(), "cpu host=a\nname    n\n------  ---\na       1\nlonger  2,5\n");
    }

    #[test]
    fn grid_csv_quotes_commas() {
        assert_eq!(grid().csv(), "name,n\na,1\nlonger,\"2,5\"\n");
    }
}
