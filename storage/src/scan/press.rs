//! Presses what a plan reads into slots: one for each elementary interval and each series, or group of series.
//!
//! Cells are read source by source and page by page, so that a page is looked at once for all series of a batch, and
//! cells of sources follow one another in time. Raw rows are gathered series by series, because later writes win.

use std::ops::Range;

use super::cover::{Piece, Plan};
use super::gather::{self, Samples};
use super::pages::{Batch, Pages, Wanted};
use super::source::{Cursor, Source};
use super::view::View;
use super::zones::Zones;
use super::{Coverage, Meter};
use crate::Result;
use crate::cells::Run;
use crate::model::{ColumnKey, MeasurementId, SeriesId, Slots, StatSet, Tier, TimeRange};

/// A piece of raw rows.
#[derive(Debug, Clone, Copy)]
struct RowTarget {
    range: TimeRange,
    /// Place of its slot among those of a series.
    place: usize,
}

/// Ranges of rows for which each is looked for in the index.
const RANGES_FEW: usize = 8;

/// How much a plan reads of some series, about.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About {
    pub(super) cell_pages: u64,
    pub(super) row_pages: u64,
    /// Rows and cells.
    pub(super) rows: u64,
}

impl About {
    pub(super) fn pages(&self) -> u64 {
        self.cell_pages + self.row_pages
    }

    /// This and another.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            cell_pages: self.cell_pages + other.cell_pages,
            row_pages: self.row_pages + other.row_pages,
            rows: self.rows + other.rows,
        }
    }
}

/// What a plan reads, and where it lies. The same for all series.
pub(super) struct Reads {
    /// The slots of each elementary interval, among those of a series.
    pub(super) intervals: Vec<Range<usize>>,
    targets: Vec<RowTarget>,
    row_ranges: Vec<TimeRange>,
    rows: Vec<Source>,
    zones: [Zones; 3],
    cells: [Vec<Source>; 3],
}

impl Reads {
    pub(super) fn of(view: &View, plan: &Plan, wanted: &Wanted<'_>) -> Self {
        let (intervals, places) = places_of(plan, wanted.wants);
        let (mut targets, mut row_ranges) = (Vec::new(), Vec::new());
        for (planned, place) in plan.pieces.iter().zip(places.iter().copied()) {
            if let Piece::Rows { range } = *planned {
                join(&mut row_ranges, range);
                targets.push(RowTarget { range, place });
            }
        }
        let mut rows = Vec::new();
        if let (Some(first), Some(last)) = (row_ranges.first(), row_ranges.last()) {
            rows = view.raw_sources(wanted.measurement, TimeRange::new(first.start_ns, last.end_ns));
        }
        let zones = Tier::CELLS.map(|tier| Zones::of(&plan.pieces, &places, tier));
        let mut cells: [Vec<Source>; 3] = Default::default();
        for ((sources, tier), zones) in cells.iter_mut().zip(Tier::CELLS).zip(&zones) {
            if !zones.is_empty() {
                *sources = view.cell_sources(tier, wanted.measurement, zones.hull());
            }
        }
        Self { intervals, targets, row_ranges, rows, zones, cells }
    }

    /// Slots that each series, or group, takes.
    pub(super) fn slots(&self) -> usize {
        self.intervals.last().map_or(0, |slots| slots.end)
    }

    /// About how much is read for some series, given in ascending order: from the index alone.
    pub(super) fn about(&self, measurement: MeasurementId, series: &[SeriesId]) -> About {
        let mut about = About::default();
        self.each_source(|source, hull, is_cells| {
            let of_hull = source.about(measurement, series, hull);
            let (pages, rows) =
                if is_cells { of_hull } else { self.inside(source, measurement, series, of_hull) };
            *(if is_cells { &mut about.cell_pages } else { &mut about.row_pages }) += pages;
            about.rows += rows;
        });
        about
    }

    /// What the ranges of rows take of a source, of which their hull takes so many pages and rows: the ranges may leave out
    /// much of it.
    fn inside(
        &self,
        source: &Source,
        measurement: MeasurementId,
        series: &[SeriesId],
        (pages, rows): (u64, u64),
    ) -> (u64, u64) {
        if self.row_ranges.len() <= RANGES_FEW {
            let each = self.row_ranges.iter().map(|range| source.about(measurement, series, *range));
            let (of_pages, of_rows) = each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            return (of_pages.min(pages), of_rows.min(rows));
        }
        let width = |range: &TimeRange| u128::from(range.end_ns.abs_diff(range.start_ns));
        let (Some(first), Some(last)) = (self.row_ranges.first(), self.row_ranges.last()) else {
            return (0, 0);
        };
        let hull = width(&TimeRange::new(first.start_ns, last.end_ns)).max(1);
        let share = self.row_ranges.iter().map(width).sum::<u128>();
        // A share of the hull at most.
        (pages, u64::try_from(u128::from(rows) * share / hull).unwrap_or(rows))
    }

    /// Cuts some series, given in ascending order, into parts of about as many rows and cells, by the index alone: those that
    /// came first often have many more than others.
    pub(super) fn parts_of(
        &self,
        measurement: MeasurementId,
        series: &[SeriesId],
        parts: usize,
    ) -> Vec<Range<usize>> {
        let mut weights: Vec<(usize, u64)> = Vec::new();
        if 1 < parts {
            self.each_source(|source, hull, _| source.weights(measurement, series, hull, &mut weights));
        }
        weights.sort_unstable();
        let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let (mut ranges, mut start, mut passed) = (Vec::with_capacity(parts), 0, 0);
        for (place, weight) in weights {
            // A part ends before the series that lies behind its share.
            let share = total * (ranges.len() as u64 + 1) / parts as u64;
            if share <= passed && start < place {
                ranges.push(std::mem::replace(&mut start, place)..place);
            }
            passed += weight;
        }
        ranges.push(start..series.len());
        ranges
    }

    /// Each source, the times that are read of it, and whether it has cells.
    fn each_source(&self, mut each: impl FnMut(&Source, TimeRange, bool)) {
        for (sources, zones) in self.cells.iter().zip(&self.zones) {
            sources.iter().for_each(|source| each(source, zones.hull(), true));
        }
        if let (Some(first), Some(last)) = (self.row_ranges.first(), self.row_ranges.last()) {
            let hull = TimeRange::new(first.start_ns, last.end_ns);
            self.rows.iter().for_each(|source| each(source, hull, false));
        }
    }

    /// Files of cells that are read.
    pub(super) fn cell_files(&self) -> usize {
        self.cells.iter().map(Vec::len).sum()
    }

    /// Whether some cells finer than hours are read.
    pub(super) fn reads_fine_cells(&self) -> bool {
        let [m1, m5, _] = &self.zones;
        !m1.is_empty() || !m5.is_empty()
    }
}

/// The slots of each elementary interval of a plan, and the place of each piece among them. The pieces of an interval
/// share one, but not where order matters and they come from several tiers, which are read one after the other.
fn places_of(plan: &Plan, wants: StatSet) -> (Vec<Range<usize>>, Vec<usize>) {
    let tier_of = |piece: &Piece| match *piece {
        Piece::Rows { .. } => Tier::Raw,
        Piece::Cells { tier, .. } | Piece::Edge { tier, .. } => tier,
    };
    let (mut intervals, mut places) = (Vec::with_capacity(plan.elementary.len()), Vec::new());
    let mut next = 0;
    for elementary in &plan.elementary {
        let pieces = plan.pieces.get(elementary.pieces.clone()).unwrap_or_default();
        let is_one_tier = pieces.iter().all(|piece| Some(tier_of(piece)) == pieces.first().map(tier_of));
        let start = next;
        if !wants.needs_order() || is_one_tier {
            places.extend(pieces.iter().map(|_| start));
            next += usize::from(!pieces.is_empty());
        } else {
            places.extend(start..start + pieces.len());
            next += pieces.len();
        }
        intervals.push(start..next);
    }
    (intervals, places)
}

/// Adds a range behind those before it, joined to the last one where they touch or overlap.
fn join(ranges: &mut Vec<TimeRange>, range: TimeRange) {
    match ranges.last_mut() {
        Some(last) if range.start_ns <= last.end_ns => last.end_ns = last.end_ns.max(range.end_ns),
        _ => ranges.push(range),
    }
}

/// Some of a list: one of so many, from a place on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Every {
    pub(super) place: usize,
    pub(super) step: usize,
}

impl Every {
    pub(super) const ONE: Self = Self { place: 0, step: 1 };
}

/// Reads a batch of series, in ascending order.
pub(super) struct Presser<'a> {
    reads: &'a Reads,
    rows: Vec<Cursor<'a>>,
    cells: [Vec<Pages<'a>>; 3],
    samples: Samples,
    runs: Vec<Run>,
    coverage: Coverage,
}

impl<'a> Presser<'a> {
    /// `row_keys` is the column of the field's values.
    pub(super) fn new(reads: &'a Reads, wanted: Wanted<'a>, row_keys: &'a [ColumnKey]) -> Self {
        let cursor = |source| Cursor::new(source, wanted.measurement, row_keys);
        let pages = |sources: &'a Vec<Source>| {
            sources.iter().filter_map(|source| Pages::new(source, wanted)).collect()
        };
        Self {
            reads,
            rows: reads.rows.iter().map(cursor).collect(),
            cells: reads.cells.each_ref().map(pages),
            samples: Samples::new(wanted.field_type, wanted.wants),
            runs: Vec::new(),
            coverage: Coverage::default(),
        }
    }

    /// Adds the cells that the plan reads of the series of a batch, in some of its files, to their slots.
    pub(super) fn press_cells(
        &mut self,
        batch: &Batch<'_>,
        files: Every,
        slots: &mut Slots,
        meter: &dyn Meter,
    ) -> Result<()> {
        for ((sources, zones), counted) in
            self.cells.iter_mut().zip(&self.reads.zones).zip(&mut self.coverage.cells)
        {
            for pages in sources.iter_mut().skip(files.place).step_by(files.step) {
                pages.add_to((slots, &mut self.runs), batch, (zones.hull(), zones), &mut |cells| {
                    *counted += cells;
                    meter.charge(cells)
                })?;
                meter.buffers(slots.heap_bytes())?;
            }
        }
        Ok(())
    }

    /// Adds the raw rows that the plan reads of the series of a batch to their slots.
    pub(super) fn press_rows(
        &mut self,
        batch: &Batch<'_>,
        slots: &mut Slots,
        meter: &dyn Meter,
    ) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        for (series, slot) in batch.series.iter().zip(batch.slots) {
            gather::samples(&mut self.rows, *series, &self.reads.row_ranges, &mut self.samples, meter)?;
            let ts_ns = &self.samples.ts_ns;
            let mut row = 0;
            // Targets without rows are passed over, so that a sparse series does not pay for a fine grid.
            let mut next = 0;
            while let Some(first_ns) = ts_ns.get(row) {
                let rest = self.reads.targets.get(next..).unwrap_or_default();
                next += rest.partition_point(|target| target.range.end_ns <= *first_ns);
                let Some(target) = self.reads.targets.get(next) else { break };
                let rest = ts_ns.get(row..).unwrap_or_default();
                let end = row + rest.partition_point(|ts| *ts < target.range.end_ns);
                self.samples.add_to(slots, *slot as usize + target.place, row..end);
                row = end;
            }
            let read = ts_ns.len() as u64;
            self.coverage.rows += read;
            meter.charge(read)?;
        }
        meter.buffers(slots.heap_bytes())
    }

    /// What was read.
    pub(super) fn coverage(&self) -> Coverage {
        let of_cells = self.cells.iter().flatten().map(|pages| pages.read);
        let pages = self.rows.iter().map(Cursor::pages).chain(of_cells).sum();
        Coverage { pages, ..self.coverage }
    }
}
