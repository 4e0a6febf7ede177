//! Answers windows: plan the cover once, then for each series press what each piece of the plan reads into one
//! partial, join the pieces of each elementary interval, and slide the windows over those.
//!
//! The plan is the same for all series, so its reads are worked out once; a series without data in them costs a
//! look into each source's index.

use super::cover::{self, Available, Piece, Plan};
use super::gather::{self, Samples};
use super::kept::{Gone, Lacking};
use super::source::{Cursor, Slice, Source};
use super::view::View;
use super::{Coverage, Meter, WindowRequest, WindowSlice, sliding};
use crate::Result;
use crate::cells::{CellReader, columns_of};
use crate::model::{ColumnKey, FieldId, FieldType, Partial, SeriesId, Stat, StatSet, Tier, TimeRange};
use crate::rolled::valid_spans;
use crate::rules::Floors;
use crate::tombstone;

/// A piece of raw rows.
#[derive(Debug, Clone, Copy)]
struct RowTarget {
    range: TimeRange,
    piece: usize,
}

/// What a piece takes of the cells of one tier.
#[derive(Debug, Clone, Copy)]
struct CellTarget {
    /// Left edges of the cells.
    range: TimeRange,
    /// First left edge whose sample belongs to the piece.
    edges_from_ns: i64,
    takes_interiors: bool,
    piece: usize,
}

/// What the plan reads, in ascending order of time.
#[derive(Debug, Default)]
struct Reads {
    rows: Vec<RowTarget>,
    row_ranges: Vec<TimeRange>,
    cells: [Vec<CellTarget>; 3],
    cell_ranges: [Vec<TimeRange>; 3],
}

impl Reads {
    fn of(plan: &Plan) -> Self {
        let mut reads = Self::default();
        for (piece, planned) in plan.pieces.iter().enumerate() {
            match *planned {
                Piece::Rows { range } => {
                    join(&mut reads.row_ranges, range);
                    reads.rows.push(RowTarget { range, piece });
                }
                Piece::Cells { tier, range, with_first_edge } => {
                    let edges_from_ns = range.start_ns + i64::from(!with_first_edge);
                    reads.add(tier, CellTarget { range, edges_from_ns, takes_interiors: true, piece });
                }
                Piece::Edge { tier, at_ns } => {
                    let range = TimeRange::new(at_ns, at_ns.saturating_add(1));
                    reads
                        .add(tier, CellTarget { range, edges_from_ns: at_ns, takes_interiors: false, piece });
                }
            }
        }
        reads
    }

    fn add(&mut self, tier: Tier, target: CellTarget) {
        let Some(place) = Tier::CELLS.iter().position(|cells| *cells == tier) else { return };
        if let (Some(targets), Some(ranges)) = (self.cells.get_mut(place), self.cell_ranges.get_mut(place)) {
            join(ranges, target.range);
            targets.push(target);
        }
    }
}

/// Adds a range behind those before it, joined to the last one where they touch or overlap.
fn join(ranges: &mut Vec<TimeRange>, range: TimeRange) {
    match ranges.last_mut() {
        Some(last) if range.start_ns <= last.end_ns => last.end_ns = last.end_ns.max(range.end_ns),
        _ => ranges.push(range),
    }
}

/// The hull of ascending ranges.
fn hull(ranges: &[TimeRange]) -> TimeRange {
    let start_ns = ranges.first().map_or(0, |range| range.start_ns);
    TimeRange::new(start_ns, ranges.last().map_or(start_ns, |range| range.end_ns))
}

/// Carries out a window request.
pub(super) fn run(
    view: &View,
    request: &WindowRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
) -> Result<Coverage> {
    let field_type = view.field_type(request.measurement, request.field)?;
    let classes = view.classes(request.measurement, request.series)?;
    let mut planned = Vec::with_capacity(classes.all().len());
    for floors_ns in classes.all() {
        planned.push(Planned::of(view, request, *floors_ns)?);
    }
    let row_keys = [ColumnKey::value(request.field)];
    let cell_keys = columns_of(request.field, field_type, request.wants);
    let cursor = |source, keys| Cursor::new(source, request.measurement, keys);
    let mut pressers = Vec::with_capacity(planned.len());
    for Planned { plan, reads, rows, cells } in &planned {
        let presser = Presser {
            reads,
            rows: rows.iter().map(|source| cursor(source, &row_keys[..])).collect(),
            cells: cells
                .each_ref()
                .map(|sources| sources.iter().map(|source| cursor(source, &cell_keys[..])).collect()),
            cell_keys: &cell_keys,
            field_type,
            field: request.field,
            wants: request.wants,
            samples: Samples::new(field_type, request.wants),
            pieces: vec![Partial::empty(field_type); plan.pieces.len()],
            // That raw rows are gone is no loss here: cells answer in their place, or `rounded` says what they cannot.
            coverage: Coverage { rounded: plan.rounded, ..Coverage::default() },
        };
        pressers.push((plan, presser));
    }
    let mut slots = Vec::new();
    for (series_idx, series) in request.series.iter().enumerate() {
        let Some((plan, presser)) = pressers.get_mut(classes.class(series_idx)) else { continue };
        let read = presser.press(*series, meter)?;
        meter.charge(read)?;
        if read == 0 {
            continue;
        }
        presser.join_pieces(plan, &mut slots);
        let partials = sliding::slide(field_type, &slots, &plan.spans);
        if partials.iter().any(|partial| partial.count() > 0) {
            sink(WindowSlice { series_idx, windows: &plan.windows, partials: &partials })?;
        }
    }
    let mut coverage = Coverage::default();
    for (_, mut presser) in pressers {
        let cursors = presser.rows.iter().chain(presser.cells.iter().flatten());
        presser.coverage.pages = cursors.map(Cursor::pages).sum();
        coverage.absorb(&presser.coverage);
    }
    Ok(coverage)
}

/// How the series of one class are read.
struct Planned {
    plan: Plan,
    reads: Reads,
    rows: Vec<Source>,
    cells: [Vec<Source>; 3],
}

impl Planned {
    fn of(view: &View, request: &WindowRequest<'_>, floors_ns: Floors) -> Result<Self> {
        let plan = plan(view, request, floors_ns)?;
        let reads = Reads::of(&plan);
        let mut rows = Vec::new();
        if !reads.row_ranges.is_empty() {
            rows = view.raw_sources(request.measurement, hull(&reads.row_ranges));
        }
        let mut cells: [Vec<Source>; 3] = Default::default();
        for ((sources, tier), ranges) in cells.iter_mut().zip(Tier::CELLS).zip(&reads.cell_ranges) {
            if !ranges.is_empty() {
                *sources = view.cell_sources(tier, request.measurement, hull(ranges));
            }
        }
        Ok(Self { plan, reads, rows, cells })
    }
}

/// Plans for a class of series, of which what lies before `floors_ns` is hidden.
fn plan(view: &View, request: &WindowRequest<'_>, floors_ns: Floors) -> Result<Plan> {
    let version = view.version();
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
    valid = lacking.take_out(valid);
    let [m1, m5, h1] = &valid;
    let available = Available { cells: [m1, m5, h1], floors_ns: version.floors_ns };
    let plan = if floors_ns == version.floors_ns {
        cover::plan(request.windows, request.bounds, &available, request.resolution)?
    } else {
        // What a class sees does not change with what spoils cells for a while: these come back the same.
        let [m1, m5, h1] = valid_spans(&version.rolled, &version.lost, &[], &[]);
        let seen = Available { cells: [&m1, &m5, &h1], floors_ns };
        cover::plan_seen(request.windows, request.bounds, (&available, Some(&seen)), request.resolution)?
    };
    // The windows as they are answered: a widened one may reach into cells that lack something.
    let gone = Gone { floors_ns: version.floors_ns, frozen: &version.lost.frozen };
    let schema = || view.schema_of(request.measurement);
    lacking.check((&plan.windows, request.bounds), &valid, gone, schema, request.field)?;
    Ok(plan)
}

/// Presses one series after the other into one partial per piece.
struct Presser<'a> {
    reads: &'a Reads,
    rows: Vec<Cursor<'a>>,
    cells: [Vec<Cursor<'a>>; 3],
    cell_keys: &'a [ColumnKey],
    field: FieldId,
    field_type: FieldType,
    wants: StatSet,
    samples: Samples,
    pieces: Vec<Partial>,
    coverage: Coverage,
}

impl Presser<'_> {
    /// Reads all the plan wants of a series; returns the number of rows and cells read.
    fn press(&mut self, series: SeriesId, meter: &dyn Meter) -> Result<u64> {
        for piece in self.pieces.iter_mut().filter(|piece| piece.count() > 0) {
            *piece = Partial::empty(self.field_type);
        }
        let mut read = self.press_rows(series, meter)?;
        let tiers = self.cells.iter_mut().zip(&self.reads.cells).zip(&self.reads.cell_ranges);
        for (((cursors, targets), ranges), counted) in tiers.zip(&mut self.coverage.cells) {
            let mut cells = 0;
            for cursor in cursors {
                let kept = cursor.kept(self.field);
                for range in ranges {
                    cursor.read(series, *range, &mut |slice| {
                        cells += slice.ts_ns.len() as u64;
                        let column = |stat: Stat| {
                            let place = self.cell_keys.iter().position(|key| key.stat == stat)?;
                            slice.column(place)
                        };
                        let rows = slice.rows.clone();
                        let reader = CellReader::new(self.field_type, (kept, self.wants), rows, column)?;
                        press_cells(slice, &reader, targets, &mut self.pieces);
                        Ok(())
                    })?;
                }
            }
            *counted += cells;
            read += cells;
        }
        Ok(read)
    }

    fn press_rows(&mut self, series: SeriesId, meter: &dyn Meter) -> Result<u64> {
        gather::samples(&mut self.rows, series, &self.reads.row_ranges, &mut self.samples, meter)?;
        let ts_ns = &self.samples.ts_ns;
        let mut row = 0;
        // Targets without rows are passed over, so that a sparse series does not pay for a fine grid.
        let mut next = 0;
        while let Some(first_ns) = ts_ns.get(row) {
            let rest = self.reads.rows.get(next..).unwrap_or_default();
            next += rest.partition_point(|target| target.range.end_ns <= *first_ns);
            let Some(target) = self.reads.rows.get(next) else { break };
            let rest = ts_ns.get(row..).unwrap_or_default();
            let end = row + rest.partition_point(|ts| *ts < target.range.end_ns);
            if let Some(piece) = self.pieces.get_mut(target.piece) {
                self.samples.add_to(piece, row..end, self.wants);
            }
            row = end;
        }
        let read = ts_ns.len() as u64;
        self.coverage.rows += read;
        Ok(read)
    }

    /// Joins the pieces of each elementary interval, in order.
    fn join_pieces(&mut self, plan: &Plan, slots: &mut Vec<Partial>) {
        slots.clear();
        for elementary in &plan.elementary {
            let mut pieces = self.pieces.get_mut(elementary.pieces.clone()).unwrap_or_default().iter_mut();
            let empty = Partial::empty(self.field_type);
            let mut slot =
                pieces.next().map_or_else(|| empty.clone(), |first| std::mem::replace(first, empty.clone()));
            for piece in pieces.filter(|piece| piece.count() > 0) {
                slot.merge(piece);
            }
            slots.push(slot);
        }
    }
}

/// Adds the cells of a slice to the pieces that want them. A cell's left edge may end one piece while its interior
/// begins the next.
fn press_cells(slice: &Slice<'_>, reader: &CellReader<'_>, targets: &[CellTarget], pieces: &mut [Partial]) {
    let mut next = 0;
    for (row, left_ns) in slice.rows.clone().zip(slice.ts_ns) {
        let rest = targets.get(next..).unwrap_or_default();
        next += rest.partition_point(|target| target.range.end_ns <= *left_ns);
        for target in targets.get(next..).unwrap_or_default() {
            if target.range.start_ns > *left_ns {
                break;
            }
            let Some(piece) = pieces.get_mut(target.piece) else { continue };
            if target.edges_from_ns <= *left_ns {
                reader.add_edge(row, *left_ns, piece);
            }
            if target.takes_interiors {
                reader.add_interior(row, *left_ns, piece);
            }
        }
    }
}
