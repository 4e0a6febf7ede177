//! [`CellBuilder`]: collects the cells of a measurement and lays them out as the columns that
//! [`CellReader`](super::CellReader) reads. Rows are started first, the fields fill them in any order, and `finish`
//! leaves out the columns that say nothing. Knows nothing of how the partials came about.

#![warn(clippy::indexing_slicing)]

use super::cell::{CellNumber, WITHOUT_HIST_MAX, keeps_hist};
use crate::model::FieldInfo;
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, Histogram, Partial, RowBlock, SeriesId, Stat, Stats, ValueRef,
    Values,
};

/// Collects cells and lays them out as columns.
///
/// Rows are started in order of (series, left edge). The cells of each field are put in order of rows, but the
/// fields may take turns as they like, so that a caller can go through its input column by column.
#[derive(Debug)]
pub struct CellBuilder {
    series: Vec<SeriesId>,
    left_ns: Vec<i64>,
    fields: Vec<FieldCells>,
}

/// The cells of one field so far, each with its row.
#[derive(Debug)]
struct FieldCells {
    id: FieldId,
    field_type: FieldType,
    edges: Column,
    interiors: Interiors,
}

#[derive(Debug)]
enum Interiors {
    Float(Vec<(usize, Stats<f64>)>),
    Int(Vec<(usize, Stats<i64>)>),
    UInt(Vec<(usize, Stats<u64>)>),
    Text(Vec<(usize, u64)>),
}

impl CellBuilder {
    /// An empty builder for the cells of these fields.
    pub fn new(fields: &[FieldInfo]) -> Self {
        let fields = fields.iter().map(|field| FieldCells::new(field.id, field.field_type)).collect();
        Self { series: Vec::new(), left_ns: Vec::new(), fields }
    }

    /// Starts the next row and returns its number.
    pub fn start_row(&mut self, series: SeriesId, left_ns: i64) -> usize {
        self.series.push(series);
        self.left_ns.push(left_ns);
        self.series.len() - 1
    }

    /// Series and left edge of the row started last.
    pub fn last_row(&self) -> Option<(SeriesId, i64)> {
        Some((*self.series.last()?, *self.left_ns.last()?))
    }

    /// Number of rows started.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether no row was started.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Keeps the sample on the left edge of a row for the field at this position of the list of fields.
    pub fn put_edge(&mut self, field_idx: usize, row: usize, value: ValueRef<'_>) {
        let Some(field) = self.fields.get_mut(field_idx) else { return };
        while field.edges.values.len() < row {
            field.edges.push_null();
        }
        if let Some(valid) = &mut field.edges.valid {
            valid.push(true);
        }
        match (&mut field.edges.values, value) {
            (Values::F64(values), ValueRef::Float(value)) => values.push(value),
            (Values::I64(values), ValueRef::Int(value)) => values.push(value),
            (Values::U64(values), ValueRef::UInt(value)) => values.push(value),
            (Values::Bool(values), ValueRef::Bool(value)) => values.push(value),
            (Values::Bool(values), ValueRef::UInt(value)) => values.push(value != 0),
            (Values::Bool(values), ValueRef::Str(_) | ValueRef::Escaped(_)) => values.push(true),
            (values, _) => {
                debug_assert!(false, "values of one field have one type");
                values.push_default();
            }
        }
    }

    /// Keeps the interior of a row for the field at this position of the list of fields. Its times must lie
    /// within the cell.
    pub fn put_interior(&mut self, field_idx: usize, row: usize, partial: Partial) {
        let Some(field) = self.fields.get_mut(field_idx) else { return };
        if partial.count() == 0 {
            return;
        }
        match (&mut field.interiors, partial) {
            (Interiors::Float(cells), Partial::Float(stats)) => cells.push((row, stats)),
            (Interiors::Int(cells), Partial::Int(stats)) => cells.push((row, stats)),
            (Interiors::UInt(cells), Partial::UInt(stats)) => cells.push((row, stats)),
            (Interiors::Text(cells), Partial::Text(count)) => cells.push((row, count)),
            _ => debug_assert!(false, "partials of one field have one type"),
        }
    }

    /// The cells as columns, sorted by key.
    pub fn finish(self) -> RowBlock {
        let mut columns = Vec::new();
        for field in self.fields {
            field.finish(&self.left_ns, &mut columns);
        }
        columns.sort_by_key(|column| column.key);
        RowBlock { series: self.series, ts_ns: self.left_ns, columns }
    }
}

impl FieldCells {
    fn new(id: FieldId, field_type: FieldType) -> Self {
        let (edges, interiors) = match field_type {
            FieldType::Float => (Values::F64(Vec::new()), Interiors::Float(Vec::new())),
            FieldType::Int => (Values::I64(Vec::new()), Interiors::Int(Vec::new())),
            FieldType::UInt => (Values::U64(Vec::new()), Interiors::UInt(Vec::new())),
            FieldType::Bool => (Values::Bool(Vec::new()), Interiors::UInt(Vec::new())),
            FieldType::Str => (Values::Bool(Vec::new()), Interiors::Text(Vec::new())),
        };
        let edges = Column::nulls(ColumnKey { field: id, stat: Stat::Edge }, edges, 0);
        Self { id, field_type, edges, interiors }
    }

    fn finish(mut self, left_ns: &[i64], columns: &mut Vec<Column>) {
        if !self.edges.values.is_empty() {
            while self.edges.values.len() < left_ns.len() {
                self.edges.push_null();
            }
            self.edges.valid = self.edges.valid.filter(|valid| valid.contains(&false));
            columns.push(self.edges);
        }
        let with_hist = keeps_hist(self.field_type);
        match self.interiors {
            Interiors::Float(cells) => lay_out(self.id, with_hist, left_ns, cells, columns),
            Interiors::Int(cells) => lay_out(self.id, with_hist, left_ns, cells, columns),
            Interiors::UInt(cells) => lay_out(self.id, with_hist, left_ns, cells, columns),
            Interiors::Text(cells) if cells.is_empty() => {}
            Interiors::Text(cells) => {
                let valid = valid_rows(left_ns.len(), cells.iter().map(|(row, _)| *row));
                let counts = spread(left_ns.len(), &cells, |count| *count);
                let key = ColumnKey { field: self.id, stat: Stat::Count };
                columns.push(Column { key, values: Values::U64(counts), valid });
            }
        }
    }
}

/// Turns the interiors of a numeric field into columns.
fn lay_out<N: CellNumber>(
    field: FieldId,
    with_hist: bool,
    left_ns: &[i64],
    mut cells: Vec<(usize, Stats<N>)>,
    columns: &mut Vec<Column>,
) {
    if cells.is_empty() {
        return;
    }
    let rows = left_ns.len();
    let valid = valid_rows(rows, cells.iter().map(|(row, _)| *row));
    let mut push = |stat, values| {
        columns.push(Column { key: ColumnKey { field, stat }, values, valid: valid.clone() });
    };
    let left = |row: usize| left_ns.get(row).copied().unwrap_or_default();
    for (row, stats) in &mut cells {
        (stats.first_ns, stats.last_ns) = (stats.first_ns - left(*row), stats.last_ns - left(*row));
    }
    let (sums, rests) = N::sum_columns(&spread(rows, &cells, |stats| stats.sum));
    push(Stat::Count, Values::U64(spread(rows, &cells, |stats| stats.count)));
    push(Stat::Sum, sums);
    push(Stat::Min, N::column(spread(rows, &cells, |stats| stats.min)));
    push(Stat::Max, N::column(spread(rows, &cells, |stats| stats.max)));
    push(Stat::First, N::column(spread(rows, &cells, |stats| stats.first)));
    push(Stat::FirstOffset, Values::I64(spread(rows, &cells, |stats| stats.first_ns)));
    push(Stat::Last, N::column(spread(rows, &cells, |stats| stats.last)));
    push(Stat::LastOffset, Values::I64(spread(rows, &cells, |stats| stats.last_ns)));
    push(Stat::Mean, Values::F64(spread(rows, &cells, |stats| stats.mean)));
    let mut push_unless_zero = |stat, values: Values| {
        if !is_zero(&values) {
            push(stat, values);
        }
    };
    push_unless_zero(Stat::SumRest, rests);
    let reset_sum = |stats: &Stats<N>| stats.reset_sum.sum + stats.reset_sum.rest;
    push_unless_zero(Stat::ResetSum, Values::F64(spread(rows, &cells, reset_sum)));
    push_unless_zero(Stat::Resets, Values::U64(spread(rows, &cells, |stats| stats.resets)));
    push_unless_zero(Stat::Changes, Values::U64(spread(rows, &cells, |stats| stats.changes)));
    push_unless_zero(Stat::M2, Values::F64(spread(rows, &cells, |stats| stats.m2)));
    if with_hist {
        lay_out_hists(field, rows, cells, columns);
    }
}

fn lay_out_hists<N: CellNumber>(
    field: FieldId,
    rows: usize,
    cells: Vec<(usize, Stats<N>)>,
    columns: &mut Vec<Column>,
) {
    let mut hists = vec![Histogram::default(); rows];
    let mut kept = Vec::new();
    for (row, stats) in cells {
        if stats.count <= WITHOUT_HIST_MAX {
            continue;
        }
        if let (Some(place), Some(hist)) = (hists.get_mut(row), stats.hist) {
            *place = *hist;
            kept.push(row);
        }
    }
    if !kept.is_empty() {
        let valid = valid_rows(rows, kept.into_iter());
        columns.push(Column {
            key: ColumnKey { field, stat: Stat::Hist },
            values: Values::Hist(hists),
            valid,
        });
    }
}

/// One entry per row: what `get` says of the cells, and a default in between.
fn spread<S, T: Copy + Default>(rows: usize, cells: &[(usize, S)], get: impl Fn(&S) -> T) -> Vec<T> {
    let mut out = vec![T::default(); rows];
    for (row, cell) in cells {
        if let Some(place) = out.get_mut(*row) {
            *place = get(cell);
        }
    }
    out
}

/// Flags of the rows that have a value; `None` when all have.
fn valid_rows(rows: usize, with_value: impl ExactSizeIterator<Item = usize>) -> Option<Vec<bool>> {
    if with_value.len() == rows {
        return None;
    }
    let mut valid = vec![false; rows];
    for row in with_value {
        if let Some(place) = valid.get_mut(row) {
            *place = true;
        }
    }
    Some(valid)
}

/// Whether a column of numbers says nothing but 0.
fn is_zero(values: &Values) -> bool {
    match values {
        Values::F64(numbers) => numbers.iter().all(|number| *number == 0.0),
        Values::I64(numbers) => numbers.iter().all(|number| *number == 0),
        Values::U64(numbers) => numbers.iter().all(|number| *number == 0),
        Values::Bool(_) | Values::Str(_) | Values::Hist(_) => false,
    }
}
