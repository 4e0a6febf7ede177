//! Putting rows in order: sorting a block, merging blocks, last write wins.
//!
//! Used by the memtable, the flush and compaction; knows none of them. Both ways share one plan. First only series
//! and times are looked at: into which order do the rows go, and which of them are the same (series, time)? Then
//! each field is gathered by that plan, one after the other, so that beside input and output only one field is in
//! memory at a time.
//!
//! Of several rows with the same series and time the last one that has a field gives that field. All columns of a
//! field move together: the statistics of a cell come from one cell and are never mixed from two.

use std::borrow::{Borrow, Cow};

use crate::Result;
use crate::model::{
    Column, ColumnKey, HistogramColumn, RowBlock, SeriesId, StrColumn, TimeRange, UniquesColumn, Values,
};

/// A counting sort is used while the span of ids is at most this many times the number of rows.
const SPAN_PER_ROW_MAX: usize = 4;

/// Sorts rows by (series, time); of equal ones the later row's fields win, field by field. Columns are sorted by
/// key. Costs one look at series and times when the rows are in order already.
pub fn sort_rows(rows: RowBlock) -> RowBlock {
    let RowBlock { series, ts_ns, mut columns } = rows;
    if !columns.is_sorted_by_key(|column| column.key) {
        columns.sort_by_key(|column| column.key);
    }
    let Some(plan) = Plan::new(&series, &ts_ns) else {
        return RowBlock { series, ts_ns, columns };
    };
    let mut gathered = Vec::with_capacity(columns.len());
    for field in columns.chunk_by(|one, next| one.key.field == next.key.field) {
        plan.gather(field, &mut gathered);
    }
    let (series, ts_ns) = (pick(&series, &plan.last), pick(&ts_ns, &plan.last));
    RowBlock { series, ts_ns, columns: gathered }
}

/// Merges blocks that are sorted by (series, time) without equal rows; of equal rows in different blocks the later
/// block's fields win, field by field. A column that a block does not have is null for its rows. Blocks that follow
/// one another, in any order, are only appended.
// Generic because the memtable holds blocks behind `Arc` and compaction holds them as they are.
pub fn merge_sorted<B: Borrow<RowBlock>>(blocks: &[B]) -> RowBlock {
    let mut blocks: Vec<&RowBlock> =
        blocks.iter().map(Borrow::borrow).filter(|block| !block.is_empty()).collect();
    put_disjoint_in_order(&mut blocks);
    let series = concat(&blocks, |block| &block.series);
    let ts_ns = concat(&blocks, |block| &block.ts_ns);
    let plan = Plan::new(&series, &ts_ns);
    let mut keys: Vec<ColumnKey> =
        blocks.iter().flat_map(|block| &block.columns).map(|column| column.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut columns = Vec::with_capacity(keys.len());
    for field in keys.chunk_by(|one, next| one.field == next.field) {
        let joined: Vec<Column> = field.iter().filter_map(|key| concat_column(&blocks, *key)).collect();
        match &plan {
            Some(plan) => plan.gather(&joined, &mut columns),
            None => columns.extend(joined),
        }
    }
    match plan {
        Some(plan) => {
            RowBlock { series: pick(&series, &plan.last), ts_ns: pick(&ts_ns, &plan.last), columns }
        }
        None => RowBlock { series, ts_ns, columns },
    }
}

/// As [`merge_sorted`], but hands the rows over in pieces of about `rows_max` rows, so that beside the blocks only a
/// piece is in memory. A piece has whole series, or a slice of the time of a long one.
///
/// # Errors
/// Those of the sink, after which nothing more is handed over.
pub(crate) fn merge_in_pieces<B: Borrow<RowBlock>>(
    blocks: &[B],
    rows_max: usize,
    sink: &mut dyn FnMut(RowBlock) -> Result<()>,
) -> Result<()> {
    let mut rest: Vec<Rest<'_>> =
        blocks.iter().map(|block| Rest { block: block.borrow(), start: 0 }).collect();
    for PieceEnd { last, rows } in piece_ends(blocks, rows_max) {
        if rows_max < rows {
            hand_over(&mut rest, |rest| rest.series_until(|series| series < last), sink)?;
            for end_ns in slice_ends(&rest, last, rows_max) {
                hand_over(&mut rest, |rest| rest.times_until(last, end_ns), sink)?;
            }
        }
        hand_over(&mut rest, |rest| rest.series_until(|series| series <= last), sink)?;
    }
    Ok(())
}

/// The rows of a block that were not handed over.
struct Rest<'a> {
    block: &'a RowBlock,
    start: usize,
}

impl Rest<'_> {
    /// End of the rows whose series comes before a point.
    fn series_until(&self, is_before: impl Fn(SeriesId) -> bool) -> usize {
        let rest = self.block.series.get(self.start..).unwrap_or_default();
        self.start + rest.partition_point(|series| is_before(*series))
    }

    /// End of the rows before a time; those left must begin with the series.
    fn times_until(&self, series: SeriesId, end_ns: i64) -> usize {
        self.start + self.times_of(series).partition_point(|ts_ns| *ts_ns < end_ns)
    }

    fn times_of(&self, series: SeriesId) -> &[i64] {
        self.block.ts_ns.get(self.start..self.series_until(|other| other <= series)).unwrap_or_default()
    }
}

/// Merges and hands over the rows of all blocks up to an end.
fn hand_over(
    rest: &mut [Rest<'_>],
    end_of: impl Fn(&Rest<'_>) -> usize,
    sink: &mut dyn FnMut(RowBlock) -> Result<()>,
) -> Result<()> {
    let mut pieces = Vec::with_capacity(rest.len());
    for rest in rest {
        let end = end_of(rest);
        let mut piece = RowBlock::default();
        append_rows(&mut piece, rest.block, rest.start, end);
        pieces.push(piece);
        rest.start = end;
    }
    let rows = merge_sorted(&pieces);
    if rows.is_empty() { Ok(()) } else { sink(rows) }
}

/// Times at which a long series is cut, that all blocks come to next.
fn slice_ends(rest: &[Rest<'_>], series: SeriesId, rows_max: usize) -> Vec<i64> {
    let step = (rows_max / rest.len().max(1)).max(1);
    let stretch = |times: &[i64]| Some((times.last()?.saturating_add(1), times.len() as u64));
    let stretches = rest.iter().flat_map(|rest| rest.times_of(series).chunks(step).filter_map(stretch));
    cut_times(stretches.collect(), TimeRange::ALL, rows_max as u64)
}

/// A part of the rows of a series: the time after its last row, and how many rows it has, about.
pub(crate) type Stretch = (i64, u64);

/// Times at which the rows of a series in a range are cut, ascending: after every `rows_max` rows or so, inside the range,
/// and only where more rows follow. Stretches may begin before the range.
pub(crate) fn cut_times(mut stretches: Vec<Stretch>, range: TimeRange, rows_max: u64) -> Vec<i64> {
    stretches.sort_unstable();
    let last_ns = stretches.last().map_or(range.end_ns, |(last_ns, _)| range.end_ns.min(*last_ns));
    let mut ends: Vec<i64> = Vec::new();
    let mut rows = 0;
    for (end_ns, more) in stretches.into_iter().filter(|(end_ns, _)| range.start_ns < *end_ns) {
        rows += more;
        if rows_max <= rows && end_ns < last_ns && ends.last().is_none_or(|last| *last < end_ns) {
            ends.push(end_ns);
            rows = 0;
        }
    }
    ends
}

/// The last series of a piece, and its rows.
struct PieceEnd {
    last: SeriesId,
    rows: usize,
}

/// Ends of pieces of whole series.
fn piece_ends<B: Borrow<RowBlock>>(blocks: &[B], rows_max: usize) -> Vec<PieceEnd> {
    let mut rows_of: Vec<(SeriesId, usize)> = Vec::new();
    for block in blocks.iter().map(Borrow::borrow) {
        let runs = block.series.chunk_by(|one, next| one == next);
        rows_of.extend(runs.filter_map(|run| Some((*run.first()?, run.len()))));
    }
    sum_by_series(&mut rows_of);
    let (mut ends, mut rows) = (Vec::new(), 0);
    let mut series = rows_of.iter().peekable();
    while let Some((last, rows_of_last)) = series.next() {
        rows += rows_of_last;
        if rows_max <= rows || series.peek().is_none() {
            ends.push(PieceEnd { last: *last, rows: *rows_of_last });
            rows = 0;
        }
    }
    ends
}

/// Sorts by series and adds up what each has.
fn sum_by_series(rows_of: &mut Vec<(SeriesId, usize)>) {
    let ids = rows_of.iter().map(|(id, _)| id.0);
    let Some((low, high)) = ids.clone().min().zip(ids.max()) else { return };
    let span = (high - low) as usize + 1;
    if rows_of.len().saturating_mul(SPAN_PER_ROW_MAX) < span {
        rows_of.sort_unstable();
        rows_of.dedup_by(|next, one| {
            let is_same = one.0 == next.0;
            one.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        return;
    }
    // Ids lie close together as a rule; then counting costs less than sorting.
    let mut sums = vec![0; span];
    rows_of.iter().for_each(|(id, rows)| sums[(id.0 - low) as usize] += rows);
    let sums = (low..=high).zip(sums).filter(|(_, rows)| 0 < *rows);
    *rows_of = sums.map(|(id, rows)| (SeriesId(id), rows)).collect();
}

/// Orders blocks by their first row when no two of them overlap; leaves them as they are otherwise, because then
/// their order says which one wins.
fn put_disjoint_in_order(blocks: &mut [&RowBlock]) {
    let edge = |block: &RowBlock, end: fn(usize) -> usize| {
        let row_idx = end(block.len());
        (block.series.get(row_idx).copied(), block.ts_ns.get(row_idx).copied())
    };
    let first = |block: &RowBlock| edge(block, |_| 0);
    let last = |block: &RowBlock| edge(block, |len| len.saturating_sub(1));
    let mut ordered = blocks.to_vec();
    ordered.sort_by_key(|block| first(block));
    if ordered.is_sorted_by(|one, next| last(one) < first(next)) {
        blocks.copy_from_slice(&ordered);
    }
}

fn concat<T: Copy>(blocks: &[&RowBlock], part: impl Fn(&RowBlock) -> &Vec<T>) -> Vec<T> {
    let mut all = Vec::with_capacity(blocks.iter().map(|block| block.len()).sum());
    for block in blocks {
        all.extend_from_slice(part(block));
    }
    all
}

fn concat_column(blocks: &[&RowBlock], key: ColumnKey) -> Option<Column> {
    let first = blocks.iter().find_map(|block| block.column(key))?;
    let mut joined = Column { key, values: first.values.empty_like(), valid: None };
    let mut rows = 0;
    for block in blocks {
        if let Some(column) = block.column(key) {
            pad_nulls(&mut joined, rows);
            append_column(&mut joined, column);
        }
        rows += block.len();
    }
    pad_nulls(&mut joined, rows);
    Some(joined)
}

/// Where each row of the result comes from.
struct Plan {
    /// Input rows, sorted by (series, time), equal ones in order of arrival.
    order: Vec<u32>,
    /// End of each group of equal rows in `order`; `None` when no two rows are equal.
    ends: Option<Vec<u32>>,
    /// The last input row of each group: one per row of the result.
    last: Vec<u32>,
}

impl Plan {
    /// `None` when the rows are in order already, each once.
    fn new(series: &[SeriesId], ts_ns: &[i64]) -> Option<Self> {
        let is_before = |one: usize, next: usize| (series[one], ts_ns[one]) < (series[next], ts_ns[next]);
        if (1..series.len()).all(|row_idx| is_before(row_idx - 1, row_idx)) {
            return None;
        }
        assert_eq!(series.len(), ts_ns.len(), "every row has a series and a time");
        let order = sorted_order(series, ts_ns);
        let mut ends = Vec::new();
        let mut last = Vec::new();
        for (end, &row) in (1_u32..).zip(&order) {
            let next = order.get(end as usize);
            let is_equal = |&next: &u32| {
                let (row, next) = (row as usize, next as usize);
                (series[row], ts_ns[row]) == (series[next], ts_ns[next])
            };
            if !next.is_some_and(is_equal) {
                ends.push(end);
                last.push(row);
            }
        }
        let ends = (ends.len() < order.len()).then_some(ends);
        Some(Self { order, ends, last })
    }

    /// Gathers the columns of one field.
    fn gather(&self, field: &[Column], out: &mut Vec<Column>) {
        let sources = self.sources(field);
        for column in field {
            let valid = column.valid.as_ref().map(|valid| pick(valid, &sources));
            let valid = valid.filter(|valid| valid.contains(&false));
            out.push(Column { key: column.key, values: pick_values(&column.values, &sources), valid });
        }
    }

    /// For each row of the result the input row that gives the field: the last of its group that has it.
    fn sources(&self, field: &[Column]) -> Cow<'_, [u32]> {
        let Some(ends) = &self.ends else { return Cow::Borrowed(&self.last) };
        if field.iter().any(|column| column.valid.is_none()) {
            return Cow::Borrowed(&self.last);
        }
        let mut sources = Vec::with_capacity(ends.len());
        let mut start = 0;
        for (&end, &last) in ends.iter().zip(&self.last) {
            let group = &self.order[start as usize..end as usize];
            let has_field = |row: &&u32| field.iter().any(|column| column.is_valid(**row as usize));
            sources.push(group.iter().rev().find(has_field).copied().unwrap_or(last));
            start = end;
        }
        Cow::Owned(sources)
    }
}

/// The rows sorted by (series, time), equal ones in order of arrival.
fn sorted_order(series: &[SeriesId], ts_ns: &[i64]) -> Vec<u32> {
    let ids = series.iter().map(|id| id.0);
    let (low, high) = (ids.clone().min().unwrap_or(0), ids.max().unwrap_or(0));
    let span = (high - low) as usize + 1;
    if series.len().saturating_mul(SPAN_PER_ROW_MAX) < span {
        let mut order: Vec<u32> = (0..).zip(series).map(|(row, _)| row).collect();
        order.sort_by_key(|&row| (series[row as usize], ts_ns[row as usize]));
        return order;
    }
    // Counting sort by series. It is stable, so rows that arrived in order of time, as most do, are done.
    let mut starts = vec![0_u32; span + 1];
    for id in series {
        starts[(id.0 - low) as usize + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut order = vec![0_u32; series.len()];
    for (row, id) in (0_u32..).zip(series) {
        // Each start moves on to the end of its series.
        let place = &mut starts[(id.0 - low) as usize];
        order[*place as usize] = row;
        *place += 1;
    }
    let mut begin = 0;
    for &end in starts.iter().take(span) {
        let rows = &mut order[begin..end as usize];
        if !rows.is_sorted_by_key(|&row| ts_ns[row as usize]) {
            // Stable, and quick on a few sorted runs one after the other, which is what a merge brings.
            rows.sort_by_key(|&row| ts_ns[row as usize]);
        }
        begin = end as usize;
    }
    order
}

fn pick<T: Copy>(from: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().map(|&row| from[row as usize]).collect()
}

fn pick_values(from: &Values, rows: &[u32]) -> Values {
    match from {
        Values::F64(values) => Values::F64(pick(values, rows)),
        Values::I64(values) => Values::I64(pick(values, rows)),
        Values::U64(values) => Values::U64(pick(values, rows)),
        Values::Bool(values) => Values::Bool(pick(values, rows)),
        Values::Hist(values) => {
            let mut picked = HistogramColumn::default();
            for &row in rows {
                picked.push(values.get(row as usize).unwrap_or_default());
            }
            Values::Hist(picked)
        }
        Values::Uniques(values) => {
            let mut picked = UniquesColumn::default();
            for &row in rows {
                picked.push(values.get(row as usize).unwrap_or_default());
            }
            Values::Uniques(picked)
        }
        Values::Str(texts) => {
            let mut picked = StrColumn {
                bytes: Vec::with_capacity(texts.bytes.len()),
                ends: Vec::with_capacity(rows.len()),
            };
            for &row in rows {
                picked.bytes.extend_from_slice(text_bytes(texts, row as usize));
                picked.end_text();
            }
            Values::Str(picked)
        }
    }
}

/// The bytes of a text, without the UTF-8 check of [`StrColumn::get`].
fn text_bytes(texts: &StrColumn, row_idx: usize) -> &[u8] {
    let start = row_idx.checked_sub(1).map_or(0, |before| texts.ends[before]);
    &texts.bytes[start as usize..texts.ends[row_idx] as usize]
}

/// Appends rows `start..end` of `from`, which has the same columns as `into` once that has any.
pub(crate) fn append_rows(into: &mut RowBlock, from: &RowBlock, start: usize, end: usize) {
    if into.columns.is_empty() {
        let empty =
            |column: &Column| Column { key: column.key, values: column.values.empty_like(), valid: None };
        into.columns = from.columns.iter().map(empty).collect();
    }
    into.series.extend_from_slice(from.series.get(start..end).unwrap_or_default());
    into.ts_ns.extend_from_slice(from.ts_ns.get(start..end).unwrap_or_default());
    for (column, source) in into.columns.iter_mut().zip(&from.columns) {
        column.extend_from(source, start..end);
    }
}

/// Lengthens a column to `rows` rows; the new ones have no value.
pub(crate) fn pad_nulls(column: &mut Column, rows: usize) {
    let len = column.values.len();
    if rows <= len {
        return;
    }
    column.valid.get_or_insert_with(|| vec![true; len]).resize(rows, false);
    column.values.pad(rows);
}

/// Appends all rows of `from`, which holds the same column.
pub(crate) fn append_column(column: &mut Column, from: &Column) {
    let (len, added) = (column.values.len(), from.values.len());
    match (&mut column.values, &from.values) {
        (Values::F64(values), Values::F64(from)) => values.extend_from_slice(from),
        (Values::I64(values), Values::I64(from)) => values.extend_from_slice(from),
        (Values::U64(values), Values::U64(from)) => values.extend_from_slice(from),
        (Values::Bool(values), Values::Bool(from)) => values.extend_from_slice(from),
        (Values::Hist(values), Values::Hist(from)) => values.extend_from(from, 0..from.len()),
        (Values::Uniques(values), Values::Uniques(from)) => values.extend_from(from, 0..from.len()),
        (Values::Str(texts), Values::Str(from)) => append_texts(texts, from),
        _ => {
            debug_assert!(false, "a column has one type for ever");
            pad_nulls(column, len + added);
            return;
        }
    }
    match (&mut column.valid, &from.valid) {
        (None, None) => {}
        (Some(valid), None) => valid.resize(len + added, true),
        (valid, Some(from)) => {
            valid.get_or_insert_with(|| vec![true; len]).extend_from_slice(from);
        }
    }
}

fn append_texts(texts: &mut StrColumn, from: &StrColumn) {
    let base = texts.bytes.len();
    texts.bytes.extend_from_slice(&from.bytes);
    // Columns are frozen and cut into segments long before 4 GiB of text; a wrapped end would mix up texts.
    assert!(u32::try_from(texts.bytes.len()).is_ok(), "a text column holds less than 4 GiB");
    let base = u32::try_from(base).unwrap_or(u32::MAX);
    texts.ends.extend(from.ends.iter().map(|end| base + end));
}

#[cfg(test)]
mod tests;
