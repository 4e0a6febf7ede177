//! Raw rows in blocks: series by series, and of a long series slice of time by slice of time, so that what is held
//! does not grow with the range and a sink that has enough ends the reading.
//!
//! Order of events: find the sources; mark the pages that cannot hold a row inside the bounds of the request, and those
//! of which only rows inside need be read ([`uses_of`]); for each series cut the range where about [`SLICE_ROWS`] rows lie ([`cuts`]); read each slice
//! from all sources, merge, and hand over full blocks.

use std::sync::Arc;

use super::classes::Classes;
use super::slices::{held_of, reaches};
use super::source::{Cursor, PageUse, Slice, Source};
use super::view::{View, raw_ranges};
use super::{Coverage, Flow, Meter, RowRequest, ValueBounds};
use crate::Result;
use crate::model::{Column, ColumnKey, MeasurementId, RowBlock, SeriesId, TimeRange, Values};
use crate::rows::{cut_times, merge_sorted};
use crate::segment::{ColumnInfo, PageInfo, find_column};

/// Rows that a block handed to a sink holds at most, unless one slice of a series has more.
const BLOCK_ROWS: usize = 4096;
/// Rows of a series that are read at once, about.
const SLICE_ROWS: u64 = 4 * BLOCK_ROWS as u64;

/// Carries out a request for rows.
pub(super) fn run(
    view: &View,
    request: &RowRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
) -> Result<Coverage> {
    let reading = Reading::of(view, request.measurement, request.series, request.range)?;
    let uses = uses_of(&reading.sources, request, reading.hull, meter)?;
    reading.run(view, request, &uses, meter, sink)
}

/// Where the rows of some series lie.
pub(super) struct Reading {
    pub(super) classes: Classes,
    /// What raw rows still answer, for each class.
    ranges: Vec<TimeRange>,
    /// All of these.
    pub(super) hull: TimeRange,
    raw_gone_before_ns: Option<i64>,
    /// Oldest first.
    pub(super) sources: Vec<Source>,
}

impl Reading {
    pub(super) fn of(
        view: &View,
        measurement: MeasurementId,
        series: &[SeriesId],
        range: TimeRange,
    ) -> Result<Self> {
        let classes = view.classes(measurement, series)?;
        let (ranges, raw_gone_before_ns) = raw_ranges(&classes, range);
        // Pages are judged by all that may hide a row of theirs, so by the times of all classes.
        let start_ns = ranges.iter().map(|range| range.start_ns).min().unwrap_or(range.start_ns);
        let hull = TimeRange::new(start_ns, range.end_ns);
        let sources = view.raw_sources(measurement, hull);
        Ok(Self { classes, ranges, hull, raw_gone_before_ns, sources })
    }

    /// Hands over the rows of a request for these series and times; the pages of each source are read as they are marked.
    pub(super) fn run(
        &self,
        view: &View,
        request: &RowRequest<'_>,
        uses: &[Vec<PageUse>],
        meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        let mut coverage = Coverage { raw_gone_before_ns: self.raw_gone_before_ns, ..Coverage::default() };
        let mut template = Vec::with_capacity(request.fields.len());
        for field in request.fields {
            let values = Values::new(view.field_type(request.measurement, *field)?);
            template.push(Column { key: ColumnKey::value(*field), values, valid: None });
        }
        let keys: Vec<ColumnKey> = template.iter().map(|column| column.key).collect();
        let mut cursors: Vec<Cursor<'_>> = self
            .sources
            .iter()
            .zip(uses)
            .map(|(source, uses)| {
                Cursor::new(source, request.measurement, &keys).picking(uses, request.bounds)
            })
            .collect();
        let empty = RowBlock { columns: template, ..RowBlock::default() };
        let mut block = empty.clone();
        for (series_idx, series) in request.series.iter().enumerate() {
            let range = self.ranges.get(self.classes.class(series_idx)).copied().unwrap_or(self.hull);
            let mut start_ns = range.start_ns;
            for end_ns in cuts(&cursors, *series, range).into_iter().chain([range.end_ns]) {
                let slice = TimeRange::new(start_ns, end_ns);
                start_ns = end_ns;
                let missed = |cursors: &[Cursor<'_>]| cursors.iter().map(Cursor::missed).sum::<u64>();
                let before = missed(&cursors);
                let rows = series_rows(&mut cursors, *series, slice, &empty, meter)?;
                let read = rows.len() as u64 + missed(&cursors) - before;
                meter.charge(read)?;
                coverage.rows += read;
                append_present(&mut block, &rows, &keys);
                coverage.pages = cursors.iter().map(Cursor::pages).sum();
                if block.len() >= BLOCK_ROWS
                    && sink(&std::mem::replace(&mut block, empty.clone()))? == Flow::Stop
                {
                    return Ok(coverage);
                }
            }
        }
        if !block.is_empty() {
            sink(&block)?;
        }
        Ok(coverage)
    }
}

/// Times at which the range of a series is cut, ascending: after every [`SLICE_ROWS`] rows or so, by the indexes of
/// its sources.
fn cuts(cursors: &[Cursor<'_>], series: SeriesId, range: TimeRange) -> Vec<i64> {
    let total: u64 = cursors.iter().map(|cursor| cursor.rows_about(series, range)).sum();
    if total <= SLICE_ROWS {
        return Vec::new();
    }
    let mut stretches = Vec::new();
    for cursor in cursors {
        cursor.stretches(series, range, SLICE_ROWS / cursors.len() as u64, &mut stretches);
    }
    cut_times(stretches, range, SLICE_ROWS)
}

/// How the pages of each source are read: not those whose rows all miss the bounds, by their listings; of the others only
/// rows inside. All rows of a page where another source may hold some of them: there a value that misses may hide one
/// that does not, written earlier.
fn uses_of(
    sources: &[Source],
    request: &RowRequest<'_>,
    range: TimeRange,
    meter: &dyn Meter,
) -> Result<Vec<Vec<PageUse>>> {
    let RowRequest { measurement, series, bounds, .. } = *request;
    let mut uses = all_pages(sources, measurement);
    if bounds.is_empty() {
        return Ok(uses);
    }
    // Of pages that will not be read nothing need be known.
    let is_asked = |page: &PageInfo| reaches(page, range) && held_of(page, series) != 0;
    for (place, source) in sources.iter().enumerate() {
        let Source::Segment(segment, _) = source else { continue };
        let Some(section) = segment.section(measurement) else { continue };
        for (index, page) in section.pages.iter().enumerate().filter(|(_, page)| is_asked(page)) {
            if !is_alone(sources, place, measurement, page) {
                continue;
            }
            // Reading takes time, and there may be many pages.
            meter.charge(0)?;
            let columns = segment.columns(section, index)?;
            let is_useless = bounds.iter().any(|bounds| misses(&columns, bounds));
            if let Some(mark) = uses.get_mut(place).and_then(|marks| marks.get_mut(index)) {
                *mark = if is_useless { PageUse::None } else { PageUse::Inside };
            }
        }
    }
    Ok(uses)
}

/// A mark for each page of each source.
pub(super) fn all_pages(sources: &[Source], measurement: MeasurementId) -> Vec<Vec<PageUse>> {
    let pages_of = |source: &Source| match source {
        Source::Segment(segment, _) => segment.section(measurement).map(|section| section.pages.len()),
        Source::Run(_) => None,
    };
    sources.iter().map(|source| vec![PageUse::All; pages_of(source).unwrap_or_default()]).collect()
}

/// Whether no other source than the one at a place may hold rows that a page of it holds.
pub(super) fn is_alone(
    sources: &[Source],
    place: usize,
    measurement: MeasurementId,
    page: &PageInfo,
) -> bool {
    let mut others = sources.iter().enumerate().filter(|(other, _)| *other != place);
    !others.any(|(_, other)| may_share_rows(other, measurement, page))
}

/// Whether no row of a page has a value inside the bounds. NaN is inside of none.
fn misses(columns: &[ColumnInfo], bounds: &ValueBounds) -> bool {
    let Some(column) = find_column(columns, ColumnKey::value(bounds.field)) else { return true };
    // There are no bounds of texts, and NaN where all numbers are NaN.
    let is_number = !column.kind.is_heavy();
    is_number && !(column.min <= bounds.max && bounds.min <= column.max)
}

/// Whether a source may hold rows of a series and time that a page holds.
fn may_share_rows(source: &Source, measurement: MeasurementId, page: &PageInfo) -> bool {
    match source {
        Source::Segment(segment, _) => segment.section(measurement).is_some_and(|section| {
            let first = section.pages.partition_point(|other| other.last_series < page.first_series);
            let candidates = section.pages.iter().skip(first);
            section.min_ts_ns <= page.max_ts_ns
                && page.min_ts_ns <= section.max_ts_ns
                && candidates
                    .take_while(|other| other.first_series <= page.last_series)
                    .any(|other| other.min_ts_ns <= page.max_ts_ns && page.min_ts_ns <= other.max_ts_ns)
        }),
        Source::Run(block) => {
            let start = block.series.partition_point(|series| *series < page.first_series);
            let end = block.series.partition_point(|series| *series <= page.last_series);
            let times = block.ts_ns.get(start..end).unwrap_or_default();
            times.iter().any(|ts_ns| page.min_ts_ns <= *ts_ns && *ts_ns <= page.max_ts_ns)
        }
    }
}

/// The rows of one series in a slice, merged over the sources; columns sorted by key.
fn series_rows(
    cursors: &mut [Cursor<'_>],
    series: SeriesId,
    range: TimeRange,
    empty: &RowBlock,
    meter: &dyn Meter,
) -> Result<RowBlock> {
    let mut bytes = 0;
    let mut blocks: Vec<Arc<RowBlock>> = Vec::with_capacity(cursors.len());
    for cursor in cursors {
        // Most sources have no row of most series.
        let mut found: Option<RowBlock> = None;
        cursor.read(series, range, &mut |slice| {
            let block = found.get_or_insert_with(|| empty.clone());
            // Merging makes new ones of them, and the block takes those over.
            bytes += 3 * slice_bytes(slice, block.columns.len());
            meter.buffers(bytes)?;
            block.ts_ns.extend_from_slice(slice.ts_ns);
            block.series.resize(block.ts_ns.len(), series);
            for (place, into) in block.columns.iter_mut().enumerate() {
                match slice.column(place) {
                    Some(column) => into.extend_from(column, slice.rows.clone()),
                    None => slice.rows.clone().for_each(|_| into.push_null()),
                }
            }
            Ok(())
        })?;
        if let Some(mut block) = found {
            block.columns.sort_unstable_by_key(|column| column.key);
            blocks.push(Arc::new(block));
        }
    }
    Ok(merge_sorted(&blocks))
}

/// An estimate of the memory that the rows of a slice take.
fn slice_bytes(slice: &Slice<'_>, columns: usize) -> u64 {
    let texts = (0..columns).filter_map(|place| match &slice.column(place)?.values {
        Values::Str(texts) => Some(slice.rows.clone().map(|row| texts.get(row).len()).sum::<usize>()),
        _ => None,
    });
    let texts: usize = texts.sum();
    // Time, series, and for each column a value and whether it is there.
    (texts + slice.ts_ns.len() * (12 + 9 * columns)) as u64
}

/// Appends the rows that have at least one value; `keys` gives the order of the columns in `into`.
fn append_present(into: &mut RowBlock, rows: &RowBlock, keys: &[ColumnKey]) {
    let sources: Vec<Option<&Column>> = keys.iter().map(|key| rows.column(*key)).collect();
    for (row, (series, ts_ns)) in rows.series.iter().zip(&rows.ts_ns).enumerate() {
        if !sources.iter().flatten().any(|column| column.is_valid(row)) {
            continue;
        }
        into.series.push(*series);
        into.ts_ns.push(*ts_ns);
        for (column, source) in into.columns.iter_mut().zip(&sources) {
            match source {
                Some(source) => column.push_from(source, row),
                None => column.push_null(),
            }
        }
    }
}
