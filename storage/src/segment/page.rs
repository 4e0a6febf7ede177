//! Rows being gathered into a page: where a page ends, and how blocks with different columns become one.
//! Knows nothing of files and encodings.

use std::ops::Range;

use super::{PAGE_BYTES_FULL, PAGE_ROWS_FULL, PAGE_ROWS_MAX};
use crate::codec::Kind;
use crate::model::histogram::Bucket;
use crate::model::{Column, ColumnKey, RowBlock, Stat, UniquesRef, Values};
use crate::rows::pad_nulls;
use crate::{Error, ErrorKind, Result};

/// Rows that are no sign of more to come.
const FEW: usize = 256;

/// The page being filled.
#[derive(Debug, Clone, Default)]
pub(super) struct PageBuilder {
    /// With the columns in which some row has a value.
    rows: RowBlock,
    /// Bytes of a row in these columns.
    width_bytes: usize,
    /// Bytes of what differs in size from row to row.
    heavy_bytes: usize,
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
    /// Takes the rows out; columns sorted by key. Columns without a value are left out, and so are those of statistics
    /// that are 0 in all rows: both are told from the page alone, whatever columns its blocks had.
    pub(super) fn take(&mut self) -> RowBlock {
        let mut rows = std::mem::take(self).rows;
        rows.columns.sort_unstable_by_key(|column| column.key);
        fill_zeros(&mut rows.columns);
        rows.columns.retain(|column| match &column.valid {
            Some(valid) if !valid.contains(&true) => false,
            _ => !(column.key.stat.is_zero_when_missing() && column.values.is_zero()),
        });
        rows
    }

    /// Decides how many of these rows of `block` go into this page. By what the rows hold: what columns the block has
    /// beside that does not matter.
    pub(super) fn cut(&self, block: &RowBlock, range: Range<usize>) -> Cut {
        let Self { mut width_bytes, mut heavy_bytes, .. } = *self;
        let mut count = self.rows.len();
        let heavy: Vec<&Column> = block.columns.iter().filter(|column| is_heavy(column)).collect();
        let mut wider = self.wider(block, &range).into_iter().peekable();
        let mut start = range.start;
        if heavy.is_empty() && heavy_bytes == 0 {
            // Nothing ends the page before it has enough rows of this width.
            while let Some((_, bytes)) = wider.next_if(|(row, _)| *row == start) {
                width_bytes += bytes;
            }
            let until = wider.peek().map_or(range.end, |(row, _)| *row);
            let rows_max = (PAGE_BYTES_FULL / width_bytes.max(1)).min(PAGE_ROWS_FULL);
            let free = rows_max.saturating_sub(count).min(until - start);
            (start, count) = (start + free, count + free);
        }
        let mut last = match start.checked_sub(1).filter(|_| range.start < start) {
            Some(before) => block.series.get(before),
            None => self.rows.series.last(),
        };
        for (index, series) in block.series.iter().enumerate().take(range.end).skip(start) {
            while let Some((_, bytes)) = wider.next_if(|(row, _)| *row <= index) {
                width_bytes += bytes;
            }
            heavy_bytes += heavy.iter().map(|column| weight_of(column, index)).sum::<usize>();
            let bytes = heavy_bytes.saturating_add(width_bytes.saturating_mul(count + 1));
            let ends_series = last.is_some_and(|last| last != series);
            let is_full =
                PAGE_ROWS_MAX <= count || PAGE_BYTES_FULL < bytes || (PAGE_ROWS_FULL <= count && ends_series);
            // A row that fills a page alone is one.
            if is_full && 0 < count {
                return Cut { end: index, is_full };
            }
            count += 1;
            last = Some(series);
        }
        Cut { end: range.end, is_full: false }
    }

    /// The rows of `block` that bring a column its first value, ascending, and how many bytes wider that makes each row.
    fn wider(&self, block: &RowBlock, range: &Range<usize>) -> Vec<(usize, usize)> {
        let mut wider = Vec::new();
        for (place, column) in block.columns.iter().enumerate() {
            let bytes = width_of(column);
            if bytes == 0 || self.place_of(place, column.key).is_some() {
                continue;
            }
            let first = first_value(column, range);
            wider.extend(first.map(|first| (first, bytes)));
        }
        wider.sort_unstable();
        wider
    }

    /// Where the page has a column that stands at `place` in a block: blocks mostly have the same columns.
    fn place_of(&self, place: usize, key: ColumnKey) -> Option<usize> {
        let columns = &self.rows.columns;
        match columns.get(place) {
            Some(known) if known.key == key => Some(place),
            _ => columns.iter().position(|known| known.key == key),
        }
    }

    /// Appends rows of `block`, in the range that [`PageBuilder::cut`] gave.
    pub(super) fn append(&mut self, block: &RowBlock, range: Range<usize>) -> Result<()> {
        let rows_before = self.rows.len();
        let heavy = block.columns.iter().filter(|column| is_heavy(column));
        let weights = heavy.flat_map(|column| range.clone().map(|index| weight_of(column, index)));
        self.heavy_bytes += weights.sum::<usize>();
        let columns = block.columns.iter().enumerate();
        let columns: Vec<(usize, &Column)> = columns
            .filter_map(|(place, column)| Some((self.place_for(place, column, &range)?, column)))
            .collect();
        let more = self.rows_expected(rows_before + range.len()).saturating_sub(rows_before);
        self.rows.series.reserve(more);
        self.rows.ts_ns.reserve(more);
        extend(&mut self.rows.series, &block.series, &range);
        extend(&mut self.rows.ts_ns, &block.ts_ns, &range);
        for (place, column) in columns {
            if let Some(known) = self.rows.columns.get_mut(place) {
                known.values.reserve(more);
                append_column(known, column, &range)?;
            }
        }
        let rows = self.rows.len();
        self.rows.columns.iter_mut().for_each(|column| pad_nulls(column, rows));
        Ok(())
    }

    /// Where the page has a column of a block, from now on, of which some rows will come; nowhere when neither the page
    /// nor these rows have a value in it.
    fn place_for(&mut self, place: usize, column: &Column, range: &Range<usize>) -> Option<usize> {
        if let Some(known) = self.place_of(place, column.key) {
            return Some(known);
        }
        first_value(column, range)?;
        let values = column.values.empty_like();
        self.rows.columns.push(match self.rows.len() {
            0 => Column { key: column.key, values, valid: None },
            rows => Column::nulls(column.key, values, rows),
        });
        self.width_bytes += width_of(column);
        Some(self.rows.columns.len() - 1)
    }

    /// How many rows the page will have, by the bytes of the `rows` it has now. A page of more than a few rows mostly
    /// becomes a full one.
    fn rows_expected(&self, rows: usize) -> usize {
        if rows <= FEW {
            return rows;
        }
        let row_bytes = self.width_bytes + self.heavy_bytes / rows;
        (PAGE_BYTES_FULL / row_bytes.max(1)).min(PAGE_ROWS_MAX)
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

/// The first row of a range that has a value.
fn first_value(column: &Column, range: &Range<usize>) -> Option<usize> {
    match &column.valid {
        None => (!range.is_empty()).then_some(range.start),
        Some(valid) => {
            let place = valid.get(range.clone())?.iter().position(|valid| *valid)?;
            Some(range.start + place)
        }
    }
}

/// Bytes of a row in a column that has values. Those of the statistics that are mostly 0 are counted with the number of
/// samples: whether a block has them depends on other rows, too.
fn width_of(column: &Column) -> usize {
    match column.key.stat {
        stat if stat.is_zero_when_missing() => 0,
        Stat::Count => 6 * size_of::<u64>(),
        Stat::Hist => 3 * size_of::<u64>(),
        _ => size_of::<u64>(),
    }
}

/// Whether rows of a column differ in size.
fn is_heavy(column: &Column) -> bool {
    Kind::of(&column.values).is_heavy()
}

fn weight_of(column: &Column, index: usize) -> usize {
    match &column.values {
        Values::Str(texts) => texts.bytes_of(index).map_or(0, <[u8]>::len),
        Values::Hist(histograms) => {
            let buckets = histograms.get(index).map_or(0, |hist| hist.positive.len() + hist.negative.len());
            buckets.saturating_mul(size_of::<Bucket>())
        }
        Values::Uniques(sketches) => match sketches.get(index) {
            Some(UniquesRef::Listed(entries)) => size_of_val(entries),
            Some(UniquesRef::Folded(ranks)) => ranks.len(),
            None => 0,
        },
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
        (Values::Uniques(to), Values::Uniques(from)) => to.extend_from(from, range.clone()),
        (Values::Str(to), Values::Str(from)) => to.extend_from(from, range.clone()),
        (to, from) => {
            let message = format!("a column is both {:?} and {:?}", Kind::of(to), Kind::of(from));
            return Err(Error::new(ErrorKind::Internal, message));
        }
    }
    Ok(())
}
