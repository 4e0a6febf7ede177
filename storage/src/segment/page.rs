//! Rows being gathered into a page: where a page ends, and how blocks with different columns become one.
//! Knows nothing of files and encodings.

use std::ops::Range;

use super::{PAGE_BYTES_FULL, PAGE_ROWS_FULL, PAGE_ROWS_MAX};
use crate::codec::Kind;
use crate::codec::texts::slice_of;
use crate::model::histogram::Bucket;
use crate::model::{Column, RowBlock, Stat, Values};
use crate::{Error, ErrorKind, Result};

/// The page being filled.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    rows: RowBlock,
    weight_bytes: usize,
}

/// How much of a block goes into the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// End of the rows that go in.
    pub(super) end: usize,
    /// Whether the page is then complete.
    pub(super) is_full: bool,
}

impl PageBuilder {
    /// The rows so far.
    pub(super) fn rows(&self) -> &RowBlock {
        &self.rows
    }

    /// Takes the rows out; columns sorted by key. Columns without a value are left out, and so are those of statistics
    /// that are 0 in all rows: both are told from the page alone, whatever columns its blocks had.
    pub(super) fn take(&mut self) -> RowBlock {
        let mut rows = std::mem::take(&mut self.rows);
        self.weight_bytes = 0;
        rows.columns.sort_unstable_by_key(|column| column.key);
        fill_zeros(&mut rows.columns);
        rows.columns.retain(|column| match &column.valid {
            Some(valid) if !valid.contains(&true) => false,
            _ => !(column.key.stat.is_zero_when_missing() && column.values.is_zero()),
        });
        rows
    }

    /// Decides how many rows of `block`, from `start` on, go into this page.
    pub(super) fn cut(&self, block: &RowBlock, start: usize) -> Cut {
        let (mut count, mut weight_bytes) = (self.rows.len(), self.weight_bytes);
        let mut last = self.rows.series.last();
        let heavy: Vec<&Column> = block.columns.iter().filter(|column| is_heavy(column)).collect();
        for (index, series) in block.series.iter().enumerate().skip(start) {
            let ends_series = last.is_some_and(|last| last != series);
            if PAGE_ROWS_MAX <= count
                || PAGE_BYTES_FULL <= weight_bytes
                || (PAGE_ROWS_FULL <= count && ends_series)
            {
                return Cut { end: index, is_full: true };
            }
            count += 1;
            weight_bytes += heavy.iter().map(|column| weight_of(column, index)).sum::<usize>();
            last = Some(series);
        }
        Cut { end: block.len(), is_full: false }
    }

    /// Appends rows of `block`, in the range that [`PageBuilder::cut`] gave.
    pub(super) fn append(&mut self, block: &RowBlock, range: Range<usize>) -> Result<()> {
        let rows_before = self.rows.len();
        let heavy = block.columns.iter().filter(|column| is_heavy(column));
        let weights = heavy.flat_map(|column| range.clone().map(|index| weight_of(column, index)));
        self.weight_bytes += weights.sum::<usize>();
        extend(&mut self.rows.series, &block.series, &range);
        extend(&mut self.rows.ts_ns, &block.ts_ns, &range);
        for column in &block.columns {
            let found = self.rows.columns.iter_mut().find(|known| known.key == column.key);
            match found {
                Some(known) => append_column(known, column, &range)?,
                None => {
                    let mut known = match rows_before {
                        0 => Column { key: column.key, values: column.values.empty_like(), valid: None },
                        rows => Column::nulls(column.key, column.values.empty_like(), rows),
                    };
                    append_column(&mut known, column, &range)?;
                    self.rows.columns.push(known);
                }
            }
        }
        let rows = self.rows.len();
        for column in &mut self.rows.columns {
            while column.values.len() < rows {
                column.push_null();
            }
        }
        Ok(())
    }
}

/// Gives every interior the statistics that some blocks left out because they are 0: interiors are where counts are.
fn fill_zeros(columns: &mut [Column]) {
    for field in columns.chunk_by_mut(|one, next| one.key.field == next.key.field) {
        let Some(count) = field.iter().position(|column| column.key.stat == Stat::Count) else { continue };
        let (before, rest) = field.split_at_mut(count + 1);
        let Some(count) = before.last() else { continue };
        let left_out = rest.iter_mut().filter(|column| column.key.stat.is_zero_when_missing());
        for column in left_out.filter(|column| column.valid != count.valid) {
            column.valid.clone_from(&count.valid);
        }
    }
}

/// Whether rows of a column differ in size.
fn is_heavy(column: &Column) -> bool {
    matches!(column.values, Values::Str(_) | Values::Hist(_))
}

fn weight_of(column: &Column, index: usize) -> usize {
    match &column.values {
        Values::Str(texts) => slice_of(texts, index).map_or(0, <[u8]>::len),
        Values::Hist(histograms) => {
            let buckets = histograms.get(index).map_or(0, |hist| hist.positive.len() + hist.negative.len());
            buckets.saturating_mul(size_of::<Bucket>())
        }
        Values::F64(_) | Values::I64(_) | Values::U64(_) | Values::Bool(_) => 0,
    }
}

fn extend<T: Clone>(to: &mut Vec<T>, from: &[T], range: &Range<usize>) {
    to.extend_from_slice(from.get(range.clone()).unwrap_or_default());
}

fn append_column(to: &mut Column, from: &Column, range: &Range<usize>) -> Result<()> {
    if to.valid.is_some() || from.valid.is_some() {
        let rows = to.values.len();
        let valid = to.valid.get_or_insert_with(|| vec![true; rows]);
        match &from.valid {
            Some(flags) => extend(valid, flags, range),
            None => valid.resize(rows + range.len(), true),
        }
    }
    match (&mut to.values, &from.values) {
        (Values::F64(to), Values::F64(from)) => extend(to, from, range),
        (Values::I64(to), Values::I64(from)) => extend(to, from, range),
        (Values::U64(to), Values::U64(from)) => extend(to, from, range),
        (Values::Bool(to), Values::Bool(from)) => extend(to, from, range),
        (Values::Hist(to), Values::Hist(from)) => to.extend_from(from, range.clone()),
        (Values::Str(to), Values::Str(from)) => {
            for index in range.clone() {
                to.bytes.extend_from_slice(slice_of(from, index).unwrap_or_default());
                to.end_text();
            }
        }
        (to, from) => {
            let message = format!("a column is both {:?} and {:?}", Kind::of(to), Kind::of(from));
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    Ok(())
}
