//! Adds the cells of a page to slots, run by run.

use std::ops::Range;

use super::{CellNumber, CellReader, Interior, Numeric};
use crate::model::histogram::Bucket;
use crate::model::partial::{Sum, greater, lesser, mean_of};
use crate::model::{
    FieldType, Histogram, HistogramRef, HistogramSum, NO_SLOT, Slots, StatSet, Tallies, ValueRef, Values,
};

/// Neighbouring cells of one series whose edges go to one slot, and whose interiors to one. Either may be
/// [`NO_SLOT`]. At the end of a window the edge of a cell belongs to it, and its interior to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Their first row in the page.
    pub start: u32,
    /// The row behind their last one.
    pub end: u32,
    /// Slot of the edges.
    pub edges: u32,
    /// Slot of the interiors.
    pub interiors: u32,
}

impl Run {
    /// Their rows in the page.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl CellReader<'_> {
    /// Adds the cells of some runs, which are in order of time within each series, to slots of the reader's field and
    /// wants. `ts_ns` are the left edges of all rows of the page. Linear in the rows of the runs.
    pub fn add_runs(&self, runs: &[Run], ts_ns: &[i64], slots: &mut Slots) {
        match slots {
            Slots::Float(tallies) => self.add_numbers(runs, ts_ns, tallies),
            Slots::Int(tallies) => self.add_numbers(runs, ts_ns, tallies),
            Slots::UInt(tallies) => self.add_numbers(runs, ts_ns, tallies),
            Slots::Text(_, texts) => {
                for run in runs {
                    for row in run.rows() {
                        let Some(left_ns) = ts_ns.get(row).copied() else { return };
                        if let (Some(stats), Some(ValueRef::Str(text))) =
                            (texts.get_mut(run.edges as usize), self.edge(row))
                        {
                            stats.add(left_ns, text, self.wants);
                        }
                        if let (Some(stats), Interior::Text(cells)) =
                            (texts.get_mut(run.interiors as usize), &self.interior)
                        {
                            cells.merge(row, left_ns, stats);
                        }
                    }
                }
            }
        }
    }

    fn add_numbers<N: CellNumber>(&self, runs: &[Run], ts_ns: &[i64], tallies: &mut Tallies<N>) {
        let cells = N::cells(&self.interior);
        match cells {
            // One after the other: the interior of a cell comes between its edge and the next.
            Some(cells) if self.wants.needs_order() => {
                for run in runs {
                    for row in run.rows() {
                        self.add_edges(row..row + 1, run.edges, ts_ns, tallies);
                        if let (Some(left_ns), true) = (ts_ns.get(row), run.interiors != NO_SLOT) {
                            cells.add_in_order(row, *left_ns, run.interiors, tallies);
                        }
                    }
                }
            }
            _ => {
                if self.edge.is_some() {
                    runs.iter().for_each(|run| self.add_edges(run.rows(), run.edges, ts_ns, tallies));
                }
                match cells {
                    Some(cells) if cells.sum.is_some() && cells.range.is_some() => {
                        cells.add_unordered::<true>(runs, tallies);
                    }
                    Some(cells) => cells.add_unordered::<false>(runs, tallies),
                    None => {}
                }
            }
        }
        if let (Some(cells), true) = (cells, self.wants.has(StatSet::HIST)) {
            let is_flag = self.field_type == FieldType::Bool;
            let kept = runs.iter().filter(|run| run.interiors != NO_SLOT);
            for run in kept {
                let Some(hist) = tallies.hist(run.interiors) else { continue };
                run.rows().for_each(|row| cells.add_hist(row, is_flag, hist));
            }
        }
    }

    fn add_edges<N: CellNumber>(
        &self,
        rows: Range<usize>,
        slot: u32,
        ts_ns: &[i64],
        tallies: &mut Tallies<N>,
    ) {
        let (Some(edge), Some(ts_ns), true) = (self.edge, ts_ns.get(rows.clone()), slot != NO_SLOT) else {
            return;
        };
        let valid = edge.valid.as_ref().map(|valid| valid.get(rows.clone()).unwrap_or_default());
        if let Some(numbers) = N::numbers(&edge.values) {
            tallies.add(slot, (ts_ns, numbers.get(rows).unwrap_or_default()), valid, |number| number);
        } else if let Values::Bool(flags) = &edge.values {
            tallies.add(slot, (ts_ns, flags.get(rows).unwrap_or_default()), valid, N::of_flag);
        }
    }
}

impl<N: CellNumber> Numeric<'_, N> {
    /// Adds all of a row but its histogram behind what the slot has.
    fn add_in_order(&self, row: usize, left_ns: i64, slot: u32, tallies: &mut Tallies<N>) {
        let (Some(stats), Some(into)) = (self.stats(row, left_ns), tallies.stats(slot)) else { return };
        into.merge(&stats);
        if let Some(kept) = self.uniques.and_then(|uniques| uniques.get(row)) {
            into.uniques.get_or_insert_default().merge(kept);
        }
    }

    /// Adds what does not depend on order, without histograms; with the mean where there are sums and ranges. (That is
    /// known before the loop, or else a sum of 128 bits is made a float for nothing.)
    fn add_unordered<const HAS_MEAN: bool>(&self, runs: &[Run], tallies: &mut Tallies<N>) {
        for run in runs {
            let Some(into) = tallies.stats(run.interiors) else { continue };
            for row in run.rows() {
                let Some(count) = self.count.get(row) else { continue };
                into.count += count;
                let sum = self.sum_at(row);
                if let Some(sum) = sum {
                    into.sum.merge(sum);
                }
                if let Some((min, max)) = self.range
                    && let (Some(min), Some(max)) = (min.get(row), max.get(row))
                {
                    (into.min, into.max) = (lesser(into.min, *min), greater(into.max, *max));
                    if HAS_MEAN {
                        let mean = mean_of(count, sum.unwrap_or_default(), *min, *max);
                        let share = count as f64 / into.count as f64;
                        into.mean += mean * share - into.mean * share;
                    }
                }
                if let Some(kept) = self.uniques.and_then(|uniques| uniques.get(row)) {
                    into.uniques.get_or_insert_default().merge(kept);
                }
            }
        }
    }

    /// Adds the histogram of a row.
    pub(super) fn add_hist(&self, row: usize, is_flag: bool, hist: &mut impl AddHistogram) {
        let Some(count) = self.count.get(row) else { return };
        if is_flag {
            // The sum of zeros and ones, at most the count, which stays far below 2^53.
            let ones = self.sum_at(row).unwrap_or_default().to_f64() as u64;
            let bucket = [Bucket { index: 0, count: ones }];
            let positive = if ones == 0 { &[][..] } else { &bucket };
            hist.add_view(HistogramRef { zero: count.saturating_sub(ones), positive, negative: &[] });
        } else if let Some(kept) = self.hist_at(row) {
            hist.add_view(kept);
        } else {
            let value_of = |end: Option<(&[N], &[i64])>| end.and_then(|(values, _)| values.get(row)).copied();
            hist.add_value(value_of(self.first).unwrap_or_default().to_f64());
            if 1 < count {
                hist.add_value(value_of(self.last).unwrap_or_default().to_f64());
            }
        }
    }
}

/// What the histogram of a cell is added to.
pub(super) trait AddHistogram {
    fn add_value(&mut self, value: f64);
    fn add_view(&mut self, histogram: HistogramRef<'_>);
}

impl AddHistogram for Histogram {
    fn add_value(&mut self, value: f64) {
        self.add(value);
    }

    fn add_view(&mut self, histogram: HistogramRef<'_>) {
        self.merge_view(histogram);
    }
}

impl AddHistogram for HistogramSum {
    fn add_value(&mut self, value: f64) {
        Self::add_value(self, value);
    }

    fn add_view(&mut self, histogram: HistogramRef<'_>) {
        self.add(histogram);
    }
}
