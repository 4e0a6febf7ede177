//! Answers windows: plan the cover once for each class of series, press what it reads into slots for each
//! elementary interval and each series or group, and slide the windows over those.
//!
//! Series are read batch by batch: as many as there may be slots, or parts of the request side by side where it reads
//! much: parts of the series, or of the files of cells where groups of many series are read from many small files. What a
//! batch holds is bounded by slots, not by series.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::classes::Classes;
use super::cover::{self, Available, Plan};
use super::kept::{Gone, Lacking};
use super::meters::{Above, SharedMeter};
use super::pages::{Batch, Wanted};
use super::press::{About, Every, Presser, Reads};
use super::view::View;
use super::{Coverage, GroupRequest, Meter, WindowRequest, WindowSlice, groups, sliding};
use crate::cells::columns_of;
use crate::model::{ColumnKey, FieldType, NO_SLOT, Partial, SeriesId, Slots, StatSet, Tier, TimeRange};
use crate::rolled::valid_spans;
use crate::rules::{Floors, higher};
use crate::version::Version;
use crate::{Error, Result, pipeline, tombstone};

/// Slots of all batches that are read side by side, 7 MiB.
const SLOTS_MAX: usize = 32 << 10;
/// The same of slots with histograms, sketches or texts, which take up to some KiB each.
const HEAVY_SLOTS_MAX: usize = 8 << 10;
/// A read of fewer pages is not worth a second thread.
pub(super) const SPREAD_PAGES: u64 = 16;
/// Nor is one of fewer rows and cells, where it is of fewer than [`SPREAD_PAGES_OF_FEW`] pages: mostly these are in
/// the cache, and a thread takes as long to wake. Tests have few rows, and are to meet parts.
const SPREAD_ROWS: u64 = if cfg!(test) { 1 } else { 65_536 };
/// The same of histograms, sketches or texts.
const SPREAD_HEAVY_ROWS: u64 = if cfg!(test) { 1 } else { 2048 };
const SPREAD_PAGES_OF_FEW: u64 = 128;
/// Where cells are read from so many pages, it is looked whether raw rows are fewer.
const CELL_PAGES_MIN: u64 = 32;
/// Parts of a read for each thread: series that came first often have more rows than others.
pub(super) const PARTS_EACH: usize = 2;

/// Files of cells for each part, from which on parts may be told apart by files.
const FILES_EACH: usize = 2;

/// Carries out a window request.
pub(super) fn run(
    view: &View,
    request: &WindowRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
) -> Result<Coverage> {
    let field_type = view.field_type(request.measurement, request.field)?;
    let columns = columns_of(request.field, field_type, request.wants);
    let classes = view.classes(request.measurement, request.series)?;
    let read = Read::of(view, request, classes, field_type, &columns)?;
    let each = read.planned.iter().map(|(_, reads)| reads.slots()).max().unwrap_or(0);
    let parts = read.parts();
    let size = (read.slots_max() / parts / each.max(1)).min(request.series.len().div_ceil(parts)).max(1);
    let shared = SharedMeter::new(meter, parts);
    let mut starts = (0..request.series.len()).step_by(size).peekable();
    while starts.peek().is_some() {
        let batches =
            starts.by_ref().take(parts).map(|start| start..(start + size).min(request.series.len()));
        let batches: Vec<(usize, Range<usize>)> = batches.enumerate().collect();
        let pressed = pipeline::spread(batches, |(part, series)| {
            let slots = read.press(&Part { series: series.clone(), cells: None }, None, &shared.of(part))?;
            Ok((series, slots))
        })?;
        for (series, slots) in pressed {
            read.hand_over(series, slots, sink)?;
        }
    }
    Ok(read.coverage())
}

/// Carries out a request for groups of series.
pub(super) fn run_groups(
    view: &View,
    request: &GroupRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
) -> Result<Coverage> {
    let GroupRequest { read: windows, groups, group_count } = *request;
    if groups.len() != windows.series.len() || groups.iter().any(|group| group_count <= *group as usize) {
        return Err(Error::invalid("a series has no group"));
    }
    let field_type = view.field_type(windows.measurement, windows.field)?;
    let classes = view.classes(windows.measurement, windows.series)?;
    if classes.all().len() != 1 || windows.wants.needs_order() || field_type == FieldType::Str {
        return groups::merged(view, request, meter, sink);
    }
    let columns = columns_of(windows.field, field_type, windows.wants);
    let read = Read::of(view, &windows, classes, field_type, &columns)?;
    let Some((plan, reads)) = read.planned.first() else { return Ok(Coverage::default()) };
    // Each part has slots for all groups.
    let parts = (read.slots_max() / (group_count * reads.slots()).max(1)).clamp(1, read.parts());
    let ranges = reads.parts_of(windows.measurement, windows.series, parts);
    let shared = SharedMeter::new(meter, ranges.len());
    let parts = ranges.len();
    // A page may have series of several parts: where files have fewer pages than there are parts, about, each is read by
    // one part.
    let files = reads.cell_files();
    let is_by_files = FILES_EACH * parts <= files && 4 * read.about.pages() < 3 * (parts * files) as u64;
    let all = is_by_files.then(|| read.first_slots(0, 0..windows.series.len(), Some(groups)));
    let all = all.as_ref().map(|(ids, first_slots)| Batch::new(ids, first_slots));
    let part_of = |(place, series): (usize, Range<usize>)| match &all {
        Some(all) => Part { series, cells: Some((all, Every { place, step: parts })) },
        None => Part { series, cells: None },
    };
    let parts: Vec<(usize, Part<'_>)> = ranges.into_iter().enumerate().map(part_of).enumerate().collect();
    let pressed = pipeline::spread(parts, |(place, part)| {
        Ok(read.press(&part, Some((groups, group_count)), &shared.of(place))?.pop())
    })?;
    let mut pressed = pressed.into_iter().flatten();
    let Some(mut slots) = pressed.next() else { return Ok(read.coverage()) };
    pressed.for_each(|other| slots.absorb(other));
    let mut intervals = Intervals::default();
    for group in 0..group_count {
        let partials = joined((plan, reads), &mut slots, group * reads.slots(), field_type, &mut intervals);
        if let Some(partials) = partials {
            sink(WindowSlice { series_idx: group, windows: &plan.windows, partials: &partials })?;
        }
    }
    Ok(read.coverage())
}

/// A part of a request, of which others are read beside it.
struct Part<'a> {
    series: Range<usize>,
    /// Other series of which cells are read, and in which files; `None`: those of the part, in all.
    cells: Option<(&'a Batch<'a>, Every)>,
}

/// What is read of which series, and how.
struct Read<'a> {
    request: &'a WindowRequest<'a>,
    classes: Classes,
    wanted: Wanted<'a>,
    row_keys: [ColumnKey; 1],
    /// The plan of each class and what it reads.
    planned: Vec<(Plan, Reads)>,
    /// About how much is read for all of them.
    about: About,
    /// What is read so far.
    coverage: Mutex<Coverage>,
}

impl<'a> Read<'a> {
    fn of(
        view: &View,
        request: &'a WindowRequest<'a>,
        classes: Classes,
        field_type: FieldType,
        columns: &'a [ColumnKey],
    ) -> Result<Self> {
        let WindowRequest { measurement, field, wants, .. } = *request;
        let wanted = Wanted { measurement, field, field_type, wants, columns };
        let (mut of_classes, mut about) = (Vec::with_capacity(classes.all().len()), About::default());
        for floors_ns in classes.all() {
            let (plan, reads, of_plan) = planned(view, request, *floors_ns, &wanted)?;
            of_classes.push((plan, reads));
            about = about.with(of_plan);
        }
        let row_keys = [ColumnKey::value(field)];
        Ok(Self {
            request,
            classes,
            wanted,
            row_keys,
            planned: of_classes,
            about,
            coverage: Mutex::default(),
        })
    }

    /// Into how many parts the request is worth being cut.
    fn parts(&self) -> usize {
        let (pages, rows) = (self.about.pages(), self.about.rows);
        let rows_min = if self.is_heavy() { SPREAD_HEAVY_ROWS } else { SPREAD_ROWS };
        let is_much = SPREAD_PAGES_OF_FEW <= pages || (SPREAD_PAGES <= pages && rows_min <= rows);
        match pipeline::processors() {
            processors if 1 < processors && is_much => PARTS_EACH * processors,
            _ => 1,
        }
    }

    /// How many slots there may be at once.
    fn slots_max(&self) -> usize {
        if self.is_heavy() { HEAVY_SLOTS_MAX } else { SLOTS_MAX }
    }

    /// Whether what is read of a row or a cell is more than a few numbers.
    fn is_heavy(&self) -> bool {
        let Wanted { field_type, wants, .. } = self.wanted;
        wants.has(StatSet::HIST) || wants.has(StatSet::UNIQUES) || field_type == FieldType::Str
    }

    /// The slots of a part, class by class: those of each of its series, or of each group where the only class is in
    /// groups.
    fn press(
        &self,
        part: &Part<'_>,
        groups: Option<(&[u32], usize)>,
        meter: &dyn Meter,
    ) -> Result<Vec<Slots>> {
        let (mut pressed, mut held) = (Vec::with_capacity(self.planned.len()), 0_u64);
        for (class, (_, reads)) in self.planned.iter().enumerate() {
            let each = reads.slots();
            let of_series = groups.map(|(groups, _)| groups);
            let (ids, first_slots) = self.first_slots(class, part.series.clone(), of_series);
            let units = groups.map_or(ids.len(), |(_, count)| count);
            // Before there are so many.
            let slots_bytes = Slots::bytes_of(units.saturating_mul(each));
            meter.buffers(held.saturating_add(slots_bytes))?;
            held += slots_bytes;
            let mut slots = Slots::new(self.wanted.field_type, self.wanted.wants, units * each);
            let mut presser = Presser::new(reads, self.wanted, &self.row_keys);
            let above = Above { meter, bytes: held };
            let own = Batch::new(&ids, &first_slots);
            presser.press_rows(&own, &mut slots, &above)?;
            let (cells, files) = part.cells.unwrap_or((&own, Every::ONE));
            presser.press_cells(cells, files, &mut slots, &above)?;
            held += slots.heap_bytes();
            let mut coverage = self.coverage.lock().unwrap_or_else(PoisonError::into_inner);
            coverage.absorb(&presser.coverage());
            pressed.push(slots);
        }
        Ok(pressed)
    }

    /// The series of a class among some, and the first slot of each, or of its group.
    fn first_slots(
        &self,
        class: usize,
        series: Range<usize>,
        groups: Option<&[u32]>,
    ) -> (Vec<SeriesId>, Vec<u32>) {
        let each = self.planned.get(class).map_or(0, |(_, reads)| reads.slots());
        let ids = self.request.series.get(series.clone()).unwrap_or_default();
        let ids = series.zip(ids).filter(|(idx, _)| self.classes.class(*idx) == class);
        let unit_of = |(place, (idx, id)): (usize, (usize, &SeriesId))| {
            let unit = groups.and_then(|groups| groups.get(idx)).map_or(place, |group| *group as usize);
            (*id, u32::try_from(unit * each).unwrap_or(NO_SLOT))
        };
        ids.enumerate().map(unit_of).unzip()
    }

    /// Hands over the windows of a batch, series by series.
    fn hand_over(
        &self,
        series: Range<usize>,
        mut slots: Vec<Slots>,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut next = vec![0; self.planned.len()];
        let mut intervals = Intervals::default();
        for series_idx in series {
            let class = self.classes.class(series_idx);
            let (Some((plan, reads)), Some(slots), Some(place)) =
                (self.planned.get(class), slots.get_mut(class), next.get_mut(class))
            else {
                continue;
            };
            let first = *place * reads.slots();
            *place += 1;
            let partials = joined((plan, reads), slots, first, self.wanted.field_type, &mut intervals);
            if let Some(partials) = partials {
                sink(WindowSlice { series_idx, windows: &plan.windows, partials: &partials })?;
            }
        }
        Ok(())
    }

    fn coverage(self) -> Coverage {
        let mut coverage = self.coverage.into_inner().unwrap_or_else(PoisonError::into_inner);
        // That raw rows are gone is no loss here: cells answer in their place, or `rounded` says what they cannot.
        coverage.rounded = self.planned.iter().filter_map(|(plan, _)| plan.rounded).max();
        coverage
    }
}

/// The partials of the windows of a series or group, of which the slots begin at `first`; `None` when all are empty.
fn joined(
    (plan, reads): (&Plan, &Reads),
    slots: &mut Slots,
    first: usize,
    field_type: FieldType,
    intervals: &mut Intervals,
) -> Option<Vec<Partial>> {
    intervals.fill(reads, slots, first);
    if intervals.places.is_empty() {
        return None;
    }
    let is_interval = |(place, span): (usize, &Range<usize>)| *span == (place..place + 1);
    if plan.spans.len() == reads.intervals.len() && plan.spans.iter().enumerate().all(is_interval) {
        if intervals.places.len() == plan.spans.len() {
            return Some(std::mem::take(&mut intervals.partials));
        }
        let mut partials = vec![Partial::empty(field_type); plan.spans.len()];
        for (place, partial) in intervals.places.iter().zip(intervals.partials.drain(..)) {
            if let Some(slot) = partials.get_mut(*place) {
                *slot = partial;
            }
        }
        return Some(partials);
    }
    let spans = intervals.spans(&plan.spans);
    spans.iter().any(|span| !span.is_empty()).then(|| sliding::slide(field_type, &intervals.partials, &spans))
}

/// The intervals of a series or group that have samples: of a fine grid over few samples most have none.
#[derive(Default)]
struct Intervals {
    /// Their places among all intervals, ascending.
    places: Vec<usize>,
    partials: Vec<Partial>,
}

impl Intervals {
    /// Takes the slots of a series or group, which begin at `first`.
    fn fill(&mut self, reads: &Reads, slots: &mut Slots, first: usize) {
        self.places.clear();
        self.partials.clear();
        for (place, pieces) in reads.intervals.iter().enumerate() {
            let mut there =
                pieces.clone().map(|piece| first + piece).filter(|slot| !slots.is_empty_at(*slot));
            let Some(slot) = there.next() else { continue };
            let rest: Vec<usize> = there.collect();
            let mut joined = slots.take(slot);
            rest.into_iter().for_each(|slot| joined.merge(&slots.take(slot)));
            self.places.push(place);
            self.partials.push(joined);
        }
    }

    /// Where spans of all intervals, of which neither starts nor ends decrease, lie among those with samples.
    fn spans(&self, of_all: &[Range<usize>]) -> Vec<Range<usize>> {
        let (mut start, mut end) = (0, 0);
        let before = |from: usize, place: usize| {
            let rest = self.places.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|one| **one < place).count()
        };
        let among = |span: &Range<usize>| {
            start = before(start, span.start);
            end = before(end.max(start), span.end);
            start..end
        };
        of_all.iter().map(among).collect()
    }
}

/// Plans for a class of series, and finds what the plan reads, and about how much that is.
///
/// Files of cells hold an hour each, and those of 1m and 5m as many rows as were written where these are sparse. Raw
/// rows of a whole day lie together: of few series and many hours they take far fewer pages.
fn planned(
    view: &View,
    request: &WindowRequest<'_>,
    floors_ns: Floors,
    wanted: &Wanted<'_>,
) -> Result<(Plan, Reads, About)> {
    let version = view.version();
    let (mut valid, lacking) = valid_cells(version, view, request);
    let finest = plan(view, request, floors_ns, (&valid, &lacking))?;
    let reads = Reads::of(view, &finest, wanted);
    let about = |reads: &Reads| reads.about(request.measurement, request.series);
    let finest_about = about(&reads);
    let [raw_floor_ns, ..] = higher(floors_ns, version.floors_ns);
    let has_raw = request.windows.first().is_some_and(|window| raw_floor_ns <= window.start_ns);
    let is_few = finest_about.pages() < CELL_PAGES_MIN;
    if !reads.reads_fine_cells() || !has_raw || !version.lost.frozen.is_empty() || is_few {
        return Ok((finest, reads, finest_about));
    }
    let [m1, m5, _] = &mut valid;
    m1.clear();
    m5.clear();
    let hours = plan(view, request, floors_ns, (&valid, &lacking))?;
    let of_hours = Reads::of(view, &hours, wanted);
    let hours_about = about(&of_hours);
    // Cells of dense rows are far fewer than these.
    let are_rows = hours_about.rows <= 2 * finest_about.rows;
    // At both ends of a window raw rows are read anyway, often out of the same pages.
    let more = hours_about.row_pages.saturating_sub(finest_about.row_pages);
    let fewer = finest_about.cell_pages.saturating_sub(hours_about.cell_pages);
    let takes_rows = are_rows && 2 * more <= fewer;
    Ok(if takes_rows { (hours, of_hours, hours_about) } else { (finest, reads, finest_about) })
}

/// Which cells of 1m, 5m and 1h may answer a request, and which lack what it wants.
fn valid_cells(
    version: &Version,
    view: &View,
    request: &WindowRequest<'_>,
) -> ([Vec<TimeRange>; 3], Lacking) {
    let raw: Vec<_> = version.of_tier(Tier::Raw).map(|live| (&live.meta).into()).collect();
    // A row that slipped in below the floor while retention ran is not there any more; it spoils no cell.
    let answered = TimeRange::new(version.floors_ns[0], i64::MAX);
    let fresh: Vec<TimeRange> = view.memtable_ranges().map(|range| range.intersect(&answered)).collect();
    let mut valid = valid_spans(&version.rolled, &version.lost, &raw, &fresh);
    if !version.tombstones.is_empty() {
        let segments = version.segments.iter().map(|live| &live.meta);
        let (floors_ns, frozen) = (version.floors_ns, &version.lost.frozen);
        let measurement = request.measurement;
        valid = tombstone::take_out(valid, &version.tombstones, measurement, segments, floors_ns, frozen);
    }
    let lacking = Lacking::of(version, request.measurement, request.field, request.wants);
    (lacking.take_out(valid), lacking)
}

/// Plans for a class of series, of which what lies before `floors_ns` is hidden, over valid cells.
fn plan(
    view: &View,
    request: &WindowRequest<'_>,
    floors_ns: Floors,
    (valid, lacking): (&[Vec<TimeRange>; 3], &Lacking),
) -> Result<Plan> {
    let version = view.version();
    let [m1, m5, h1] = valid;
    let rows = version.of_tier(Tier::Raw).map(|live| live.meta.min_ts_ns);
    let rows = rows.chain(view.memtable_ranges().map(|range| range.start_ns));
    let rows_from_ns = rows.min().unwrap_or(i64::MAX);
    let available = Available { cells: [m1, m5, h1], floors_ns: version.floors_ns, rows_from_ns };
    let plan = if floors_ns == version.floors_ns {
        cover::plan(request.windows, request.bounds, &available, request.resolution)?
    } else {
        // What a class sees does not change with what spoils cells for a while: these come back the same.
        let [m1, m5, h1] = valid_spans(&version.rolled, &version.lost, &[], &[]);
        let seen = Available { cells: [&m1, &m5, &h1], floors_ns, rows_from_ns };
        cover::plan_seen(request.windows, request.bounds, (&available, Some(&seen)), request.resolution)?
    };
    // The windows as they are answered: a widened one may reach into cells that lack something.
    let gone = Gone { floors_ns: version.floors_ns, frozen: &version.lost.frozen };
    let schema = || view.schema_of(request.measurement);
    lacking.check((&plan.windows, request.bounds), valid, gone, schema, request.field)?;
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spans_among_filled_intervals_name_the_same_ones(
            is_filled in proptest::collection::vec(any::<bool>(), 0..30),
            steps in proptest::collection::vec((0_usize..4, 0_usize..4), 0..20),
        ) {
            let places = (0..is_filled.len()).filter(|place| is_filled[*place]).collect();
            let intervals = Intervals { places, partials: Vec::new() };
            let (mut start, mut end) = (0, 0);
            let of_all: Vec<Range<usize>> = steps.iter().map(|(start_step, end_step)| {
                start = (start + start_step).min(is_filled.len());
                end = (end + end_step).clamp(start, is_filled.len());
                start..end
            }).collect();
            for (found, of_all) in intervals.spans(&of_all).into_iter().zip(of_all) {
                let expected: Vec<usize> = of_all.filter(|place| is_filled[*place]).collect();
                prop_assert_eq!(&intervals.places[found], expected.as_slice());
            }
        }
    }
}
