//! Presses raw rows into cells ([`Folder`]) and cells into coarser cells ([`coarsen`]).
//!
//! Both are pure functions of sorted, deduplicated input: how the rows were cut into blocks and in which order they
//! once arrived leaves no trace in a cell, down to the last bit. For that the folder never presses part of a
//! window: rows of a window that may go on in the next block wait until it is complete. It works column by column
//! over runs of rows of one series and window. Knows nothing of files, jobs or time zones.

use super::build::CellBuilder;
use super::cell::{CellField, CellNumber, CellReader, keeps_hist, without_hist_max};
use crate::Result;
use crate::model::partial::{TwoSum, mean_of};
use crate::model::{
    Column, ColumnKey, FieldType, Histogram, HistogramRef, HistogramScratch, Partial, RowBlock, SeriesId,
    StatSet, Stats, TextStats, Tier, Uniques, ValueRef, Values, floor_to,
};

/// Rows of a cell that are passed over at once.
const STRIDE: usize = 32;

/// Folds raw rows of one measurement into cells of one tier.
#[derive(Debug)]
pub struct Folder {
    width_ns: i64,
    fields: Vec<CellField>,
    open: Vec<Open>,
    builder: CellBuilder,
    runs: Vec<Run>,
    scratch: HistogramScratch,
}

/// Rows of a block that belong to one cell row.
#[derive(Debug, Clone, Copy)]
struct Run {
    row: usize,
    left_ns: i64,
    start: usize,
    end: usize,
}

/// Interior samples of a field whose window may go on in the next block.
#[derive(Debug)]
enum Open {
    Float(Waiting<f64>),
    Int(Waiting<i64>),
    UInt(Waiting<u64>),
    Text(WaitingTexts),
}

#[derive(Debug, Default)]
struct Waiting<N> {
    row: usize,
    ts_ns: Vec<i64>,
    values: Vec<N>,
}

/// What is known of the texts of a row that may go on.
#[derive(Debug, Default)]
struct WaitingTexts {
    row: usize,
    stats: TextStats,
}

/// What to press of samples beside the numbers.
#[derive(Debug, Clone, Copy)]
struct Extras {
    /// Whether a histogram, of more samples than this.
    hist_above: Option<u64>,
    with_uniques: bool,
}

impl Extras {
    fn of(field: &CellField) -> Self {
        Self {
            hist_above: keeps_hist(field).then_some(without_hist_max(field.kept)),
            with_uniques: field.kept.has(StatSet::UNIQUES),
        }
    }
}

/// A column of a block with what is needed to press it.
struct Source<'a, N> {
    field_idx: usize,
    extras: Extras,
    ts_ns: &'a [i64],
    values: &'a [N],
    valid: Option<&'a [bool]>,
}

impl Folder {
    /// A folder for cells of `tier` of these fields; columns of others are left out.
    pub fn new(fields: &[CellField], tier: Tier) -> Self {
        let open = |field: &CellField| match field.info.field_type {
            FieldType::Float => Open::Float(Waiting::default()),
            FieldType::Int => Open::Int(Waiting::default()),
            FieldType::UInt | FieldType::Bool => Open::UInt(Waiting::default()),
            FieldType::Str => Open::Text(WaitingTexts::default()),
        };
        Self {
            width_ns: tier.width_ns(),
            fields: fields.to_vec(),
            open: fields.iter().map(open).collect(),
            builder: CellBuilder::new(fields),
            runs: Vec::new(),
            scratch: HistogramScratch::default(),
        }
    }

    /// Adds raw rows. Within a block and from one block to the next they ascend by (series, time), each pair once.
    pub fn push(&mut self, block: &RowBlock) {
        self.find_runs(&block.series, &block.ts_ns);
        let Self { fields, open, builder, runs, scratch, .. } = self;
        for (field_idx, (field, open)) in fields.iter().zip(open).enumerate() {
            let Some(column) = block.column(ColumnKey::value(field.info.id)) else { continue };
            let valid = column.valid.as_deref();
            let extras = Extras::of(field);
            let ts_ns = &*block.ts_ns;
            match (open, &column.values) {
                (Open::Float(open), Values::F64(values)) => {
                    open.press(&Source { field_idx, extras, ts_ns, values, valid }, runs, builder, scratch);
                }
                (Open::Int(open), Values::I64(values)) => {
                    open.press(&Source { field_idx, extras, ts_ns, values, valid }, runs, builder, scratch);
                }
                (Open::UInt(open), Values::U64(values)) => {
                    open.press(&Source { field_idx, extras, ts_ns, values, valid }, runs, builder, scratch);
                }
                (Open::UInt(open), Values::Bool(flags)) => {
                    let values: Vec<u64> = flags.iter().map(|flag| u64::from(*flag)).collect();
                    let source = Source { field_idx, extras, ts_ns, values: &values, valid };
                    open.press(&source, runs, builder, scratch);
                }
                // Where the texts need not have been read, truth values stand for them.
                (Open::Text(open), Values::Str(_) | Values::Bool(_)) => {
                    open.press((field_idx, field.kept), column, ts_ns, runs, builder);
                }
                _ => debug_assert!(false, "values of one field have one type"),
            }
        }
    }

    /// The cells of all rows pushed, sorted by (series, left edge).
    pub fn finish(mut self) -> RowBlock {
        for (field_idx, (field, open)) in self.fields.iter().zip(&mut self.open).enumerate() {
            let extras = Extras::of(field);
            let (builder, scratch) = (&mut self.builder, &mut self.scratch);
            match open {
                Open::Float(open) => open.close(field_idx, extras, builder, scratch),
                Open::Int(open) => open.close(field_idx, extras, builder, scratch),
                Open::UInt(open) => open.close(field_idx, extras, builder, scratch),
                Open::Text(open) => open.close(field_idx, builder),
            }
        }
        self.builder.finish()
    }

    /// Cuts the rows of a block into runs of one cell and starts the rows of new cells.
    fn find_runs(&mut self, series: &[SeriesId], ts_ns: &[i64]) {
        let width_ns = self.width_ns;
        self.runs.clear();
        let Self { builder, runs, .. } = self;
        let mut start = 0;
        while let Some((first, first_ns)) = series.get(start).copied().zip(ts_ns.get(start).copied()) {
            let left_ns = floor_to(first_ns, width_ns);
            let is_same = |at: usize| {
                let distance_ns = ts_ns.get(at).map(|ts_ns| ts_ns.wrapping_sub(left_ns));
                series.get(at) == Some(&first) && distance_ns.is_some_and(|ns| (0..width_ns).contains(&ns))
            };
            // Rows ascend: between two of one cell all are of that cell.
            let mut end = start + 1;
            while is_same(end + STRIDE) {
                end += STRIDE + 1;
            }
            while is_same(end) {
                end += 1;
            }
            let row = match builder.last_row() == Some((first, left_ns)) {
                true => builder.len() - 1,
                false => builder.start_row(first, left_ns),
            };
            runs.push(Run { row, left_ns, start, end });
            start = end;
        }
    }
}

impl<N: CellNumber> Waiting<N> {
    /// Presses the runs of a column, all but the last, which may go on in the next block.
    fn press(
        &mut self,
        source: &Source<'_, N>,
        runs: &[Run],
        builder: &mut CellBuilder,
        scratch: &mut HistogramScratch,
    ) {
        let Source { field_idx, extras, .. } = *source;
        for (at, run) in runs.iter().enumerate() {
            if self.row != run.row {
                self.close(field_idx, extras, builder, scratch);
                self.row = run.row;
            }
            let start = source.take_edge(run, builder);
            let ts_ns = source.ts_ns.get(start..run.end).unwrap_or_default();
            let values = source.values.get(start..run.end).unwrap_or_default();
            let valid = source.valid.map(|valid| valid.get(start..run.end).unwrap_or_default());
            let is_last = at + 1 == runs.len();
            if !is_last && self.values.is_empty() && valid.is_none_or(|valid| valid.iter().all(|is| *is)) {
                if let Some((stats, hist)) = press(ts_ns, values, extras, scratch) {
                    builder.put_interior(field_idx, run.row, &N::partial(stats), hist);
                }
                continue;
            }
            for (place, (ts_ns, value)) in ts_ns.iter().zip(values).enumerate() {
                if valid.is_none_or(|valid| valid.get(place).copied().unwrap_or(false)) {
                    self.ts_ns.push(*ts_ns);
                    self.values.push(*value);
                }
            }
        }
    }

    /// Presses the samples that waited: their window is complete.
    fn close(
        &mut self,
        field_idx: usize,
        extras: Extras,
        builder: &mut CellBuilder,
        scratch: &mut HistogramScratch,
    ) {
        if let Some((stats, hist)) = press(&self.ts_ns, &self.values, extras, scratch) {
            builder.put_interior(field_idx, self.row, &N::partial(stats), hist);
        }
        self.ts_ns.clear();
        self.values.clear();
    }
}

impl<N: CellNumber> Source<'_, N> {
    /// Keeps the sample on the left edge of a run, if it begins with one, and says where the interior begins.
    fn take_edge(&self, run: &Run, builder: &mut CellBuilder) -> usize {
        if self.ts_ns.get(run.start) != Some(&run.left_ns) {
            return run.start;
        }
        let is_valid = self.valid.is_none_or(|valid| valid.get(run.start).copied().unwrap_or(false));
        if let Some(value) = self.values.get(run.start).filter(|_| is_valid) {
            builder.put_edge(self.field_idx, run.row, value.value_ref());
        }
        run.start + 1
    }
}

impl WaitingTexts {
    /// Presses the texts of each run; the last may go on in the next block.
    fn press(
        &mut self,
        (field_idx, kept): (usize, StatSet),
        column: &Column,
        ts_ns: &[i64],
        runs: &[Run],
        builder: &mut CellBuilder,
    ) {
        for run in runs {
            if self.row != run.row {
                self.close(field_idx, builder);
                self.row = run.row;
            }
            for place in run.start..run.end {
                let Some((value, ts_ns)) = column.get(place).zip(ts_ns.get(place)) else { continue };
                let text = if let ValueRef::Str(text) = value { text } else { "" };
                if *ts_ns == run.left_ns {
                    builder.put_edge(field_idx, run.row, ValueRef::Str(text));
                } else {
                    self.stats.add(*ts_ns, text, kept);
                }
            }
        }
    }

    /// Keeps what waited: its window is complete.
    fn close(&mut self, field_idx: usize, builder: &mut CellBuilder) {
        let mut partial = Partial::Text(std::mem::take(&mut self.stats));
        builder.put_interior(field_idx, self.row, &partial, HistogramRef::default());
        partial.clear();
        if let Partial::Text(stats) = partial {
            self.stats = stats;
        }
    }
}

/// The statistics of samples in time order, and beside them their histogram: those that adding one by one gives, up
/// to the rounding of sums.
fn press<'a, N: CellNumber>(
    ts_ns: &[i64],
    values: &[N],
    extras: Extras,
    scratch: &'a mut HistogramScratch,
) -> Option<(Stats<N>, HistogramRef<'a>)> {
    let (first, last) = (*values.first()?, *values.last()?);
    let (first_ns, last_ns) = (*ts_ns.first()?, *ts_ns.last()?);
    // NaN only where there is no number: from one on comparisons with NaN, which are false, keep it.
    let number = values.iter().copied().find(|value| !value.to_f64().is_nan()).unwrap_or(last);
    let (mut min, mut max) = (number, number);
    let (mut falls, mut resets, mut changes) = (TwoSum::default(), 0, 0);
    let mut before = first;
    // Without branches: whether numbers fall or rise is as good as chance to the processor.
    for value in values.iter().copied() {
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        let falls_here = u64::from(value < before);
        resets += falls_here;
        falls.add(f64::from_bits(before.to_f64().to_bits() & falls_here.wrapping_neg()));
        let both_nan = before.to_f64().is_nan() & value.to_f64().is_nan();
        changes += u64::from((value != before) & !both_nan);
        before = value;
    }
    let count = values.len() as u64;
    let sum = N::sum_of(values);
    let mean = mean_of(count, sum, min, max);
    let m2 = N::m2_of(values, mean);
    let hist = match extras.hist_above.is_some_and(|above| above < count) {
        true => scratch.count(values.iter().map(|value| value.to_f64())),
        false => HistogramRef::default(),
    };
    let stats = Stats {
        count,
        sum,
        min,
        max,
        first,
        first_ns,
        last,
        last_ns,
        reset_sum: falls.total(),
        resets,
        changes,
        mean,
        m2,
        hist: None,
        uniques: extras.with_uniques.then(|| uniques_of(values).into()),
    };
    Some((stats, hist))
}

fn uniques_of<N: CellNumber>(values: &[N]) -> Uniques {
    let mut uniques = Uniques::default();
    values.iter().for_each(|value| uniques.add(value.value_ref()));
    uniques
}

/// Merges cells of one tier into cells of the coarser tier `to`, without looking at rows. Cells are sorted by
/// (series, left edge); so is the result.
///
/// # Errors
/// `Corruption` when the columns are not those of cells.
pub fn coarsen(cells: &RowBlock, fields: &[CellField], to: Tier) -> Result<RowBlock> {
    let mut builder = CellBuilder::new(fields);
    let mut runs: Vec<Run> = Vec::new();
    for (at, (series, finer_ns)) in cells.series.iter().zip(&cells.ts_ns).enumerate() {
        let left_ns = floor_to(*finer_ns, to.width_ns());
        match runs.last_mut() {
            Some(run) if builder.last_row() == Some((*series, left_ns)) => run.end = at + 1,
            _ => {
                let row = builder.start_row(*series, left_ns);
                runs.push(Run { row, left_ns, start: at, end: at + 1 });
            }
        }
    }
    for (field_idx, field) in fields.iter().enumerate() {
        let reader = CellReader::of_block(cells, field)?;
        let mut partial = Partial::empty(field.info.field_type);
        for run in &runs {
            partial.clear();
            for (at, finer_ns) in cells.ts_ns.iter().enumerate().take(run.end).skip(run.start) {
                if *finer_ns != run.left_ns {
                    reader.add_edge(at, *finer_ns, &mut partial);
                } else if let Some(value) = reader.edge(at) {
                    builder.put_edge(field_idx, run.row, value);
                }
                reader.add_interior(at, *finer_ns, &mut partial);
            }
            let hist = partial.histogram().map_or_else(HistogramRef::default, Histogram::view);
            builder.put_interior(field_idx, run.row, &partial, hist);
        }
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests;
