//! [`CellBuilder`]: collects the cells of a measurement and lays them out as the columns that
//! [`CellReader`](super::CellReader) reads. Rows are started first, the fields fill them in any order, and `finish`
//! leaves out the columns that say nothing. Knows nothing of how the partials came about.

#![warn(clippy::indexing_slicing)]

use super::cell::{CellField, CellNumber, keeps_hist, without_hist_max};
use super::text::TextCells;
use crate::model::partial::Sum;
use crate::model::{
    Column, ColumnKey, FieldType, HistogramColumn, HistogramRef, Partial, RowBlock, SeriesId, Stat, StatSet,
    Stats, StrColumn, UniquesColumn, UniquesRef, ValueRef, Values,
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
    field: CellField,
    edges: Column,
    interiors: Interiors,
}

#[derive(Debug)]
enum Interiors {
    Float(NumberCells<f64>),
    Int(NumberCells<i64>),
    UInt(NumberCells<u64>),
    Text(TextCells),
}

/// The columns of a numeric field, one entry for each row so far; rows without an interior have count 0.
#[derive(Debug, Default)]
struct NumberCells<N: CellNumber> {
    count: Vec<u64>,
    sum: Vec<N::Sum>,
    min: Vec<N>,
    max: Vec<N>,
    first: Vec<N>,
    first_offset: Vec<i64>,
    last: Vec<N>,
    last_offset: Vec<i64>,
    reset_sum: Vec<f64>,
    resets: Vec<u64>,
    changes: Vec<u64>,
    m2: Vec<f64>,
    hist: HistogramColumn,
    uniques: UniquesColumn,
}

impl CellBuilder {
    /// An empty builder for the cells of these fields.
    pub fn new(fields: &[CellField]) -> Self {
        let fields = fields.iter().map(FieldCells::new).collect();
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
            (Values::Str(values), ValueRef::Str(text) | ValueRef::Escaped(text)) => values.push(text),
            (values, _) => {
                debug_assert!(false, "values of one field have one type");
                values.push_default();
            }
        }
    }

    /// Keeps the interior of a row, its histogram apart, for the field at this position of the list of fields. Its
    /// times must lie within the cell.
    pub fn put_interior(&mut self, field_idx: usize, row: usize, partial: &Partial, hist: HistogramRef<'_>) {
        let Some(field) = self.fields.get_mut(field_idx) else { return };
        if partial.count() == 0 {
            return;
        }
        let left_ns = self.left_ns.get(row).copied().unwrap_or_default();
        let rows = self.left_ns.len();
        match &mut field.interiors {
            Interiors::Float(cells) => cells.reserve(rows),
            Interiors::Int(cells) => cells.reserve(rows),
            Interiors::UInt(cells) => cells.reserve(rows),
            Interiors::Text(_) => {}
        }
        let hist =
            if without_hist_max(field.field.kept) < partial.count() { hist } else { HistogramRef::default() };
        match (&mut field.interiors, partial) {
            (Interiors::Float(cells), Partial::Float(stats)) => cells.put(row, left_ns, stats, hist),
            (Interiors::Int(cells), Partial::Int(stats)) => cells.put(row, left_ns, stats, hist),
            (Interiors::UInt(cells), Partial::UInt(stats)) => cells.put(row, left_ns, stats, hist),
            (Interiors::Text(cells), Partial::Text(stats)) => cells.put(row, left_ns, stats),
            _ => debug_assert!(false, "partials of one field have one type"),
        }
    }

    /// The cells as columns, sorted by key.
    pub fn finish(self) -> RowBlock {
        let mut columns = Vec::new();
        for field in self.fields {
            field.finish(self.left_ns.len(), &mut columns);
        }
        columns.sort_by_key(|column| column.key);
        RowBlock { series: self.series, ts_ns: self.left_ns, columns }
    }
}

impl FieldCells {
    fn new(field: &CellField) -> Self {
        let (edges, interiors) = match field.info.field_type {
            FieldType::Float => (Values::F64(Vec::new()), Interiors::Float(NumberCells::default())),
            FieldType::Int => (Values::I64(Vec::new()), Interiors::Int(NumberCells::default())),
            FieldType::UInt => (Values::U64(Vec::new()), Interiors::UInt(NumberCells::default())),
            FieldType::Bool => (Values::Bool(Vec::new()), Interiors::UInt(NumberCells::default())),
            FieldType::Str if field.kept == StatSet::COUNT => {
                (Values::Bool(Vec::new()), Interiors::Text(TextCells::default()))
            }
            FieldType::Str => (Values::Str(StrColumn::default()), Interiors::Text(TextCells::default())),
        };
        let edges = Column::nulls(ColumnKey { field: field.info.id, stat: Stat::Edge }, edges, 0);
        Self { field: field.clone(), edges, interiors }
    }

    fn finish(mut self, rows: usize, columns: &mut Vec<Column>) {
        if !self.edges.values.is_empty() {
            while self.edges.values.len() < rows {
                self.edges.push_null();
            }
            self.edges.valid = self.edges.valid.filter(|valid| valid.contains(&false));
            columns.push(self.edges);
        }
        match self.interiors {
            Interiors::Float(cells) => cells.finish(&self.field, rows, columns),
            Interiors::Int(cells) => cells.finish(&self.field, rows, columns),
            Interiors::UInt(cells) => cells.finish(&self.field, rows, columns),
            Interiors::Text(cells) => cells.finish(self.field.info.id, self.field.kept, rows, columns),
        }
    }
}

impl<N: CellNumber> NumberCells<N> {
    fn put(&mut self, row: usize, left_ns: i64, stats: &Stats<N>, hist: HistogramRef<'_>) {
        if self.count.len() < row {
            self.pad(row);
        }
        self.count.push(stats.count);
        self.sum.push(stats.sum);
        self.min.push(stats.min);
        self.max.push(stats.max);
        self.first.push(stats.first);
        self.first_offset.push(stats.first_ns.saturating_sub(left_ns));
        self.last.push(stats.last);
        self.last_offset.push(stats.last_ns.saturating_sub(left_ns));
        self.reset_sum.push(stats.reset_sum.to_f64());
        self.resets.push(stats.resets);
        self.changes.push(stats.changes);
        self.m2.push(stats.m2);
        self.hist.push(hist);
        self.uniques.push(stats.uniques.as_deref().map_or(UniquesRef::default(), |uniques| uniques.view()));
    }

    /// Makes room for `rows` rows in all.
    fn reserve(&mut self, rows: usize) {
        if rows <= self.count.capacity() {
            return;
        }
        let more = rows - self.count.len();
        self.count.reserve(more);
        self.sum.reserve(more);
        self.min.reserve(more);
        self.max.reserve(more);
        self.first.reserve(more);
        self.first_offset.reserve(more);
        self.last.reserve(more);
        self.last_offset.reserve(more);
        self.reset_sum.reserve(more);
        self.resets.reserve(more);
        self.changes.reserve(more);
        self.m2.reserve(more);
    }

    /// Adds rows without an interior, up to `rows` rows.
    fn pad(&mut self, rows: usize) {
        self.count.resize(rows, 0);
        self.sum.resize(rows, N::Sum::default());
        self.min.resize(rows, N::default());
        self.max.resize(rows, N::default());
        self.first.resize(rows, N::default());
        self.first_offset.resize(rows, 0);
        self.last.resize(rows, N::default());
        self.last_offset.resize(rows, 0);
        self.reset_sum.resize(rows, 0.0);
        self.resets.resize(rows, 0);
        self.changes.resize(rows, 0);
        self.m2.resize(rows, 0.0);
        self.hist.pad(rows);
        self.uniques.pad(rows);
    }

    fn finish(mut self, field: &CellField, rows: usize, columns: &mut Vec<Column>) {
        if self.count.is_empty() {
            return;
        }
        self.pad(rows);
        let CellField { info, kept } = field;
        let without_max = without_hist_max(*kept);
        let valid = flags(&self.count, |count| 0 < count);
        let with_hist = flags(&self.count, |count| without_max < count);
        let has_hist = keeps_hist(field) && self.count.iter().any(|count| without_max < *count);
        let (sums, rests) = N::sum_columns(&self.sum);
        let of_groups = [
            (StatSet::COUNT, Stat::Count, Values::U64(self.count)),
            (StatSet::SUM, Stat::Sum, sums),
            (StatSet::SUM, Stat::SumRest, rests),
            (StatSet::RANGE, Stat::Min, N::column(self.min)),
            (StatSet::RANGE, Stat::Max, N::column(self.max)),
            (StatSet::ENDS, Stat::First, N::column(self.first)),
            (StatSet::ENDS, Stat::FirstOffset, Values::I64(self.first_offset)),
            (StatSet::ENDS, Stat::Last, N::column(self.last)),
            (StatSet::ENDS, Stat::LastOffset, Values::I64(self.last_offset)),
            (StatSet::RESETS, Stat::ResetSum, Values::F64(self.reset_sum)),
            (StatSet::RESETS, Stat::Resets, Values::U64(self.resets)),
            (StatSet::CHANGES, Stat::Changes, Values::U64(self.changes)),
            (StatSet::SPREAD, Stat::M2, Values::F64(self.m2)),
            (StatSet::UNIQUES, Stat::Uniques, Values::Uniques(self.uniques)),
        ];
        let is_left_out = |stat: Stat, values: &Values| stat.is_zero_when_missing() && values.is_zero();
        for (group, stat, values) in of_groups {
            if kept.has(group) && !is_left_out(stat, &values) {
                columns.push(Column {
                    key: ColumnKey { field: info.id, stat },
                    values,
                    valid: valid.clone(),
                });
            }
        }
        if has_hist {
            let key = ColumnKey { field: info.id, stat: Stat::Hist };
            columns.push(Column { key, values: Values::Hist(self.hist), valid: with_hist });
        }
    }
}

/// Flags of the rows whose count passes; `None` when all do.
pub(super) fn flags(counts: &[u64], passes: impl Fn(u64) -> bool) -> Option<Vec<bool>> {
    let flags: Vec<bool> = counts.iter().map(|count| passes(*count)).collect();
    flags.contains(&false).then_some(flags)
}
