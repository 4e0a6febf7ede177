//! Reads whole segments of a partition together, as compaction and rollup need them: without what is deleted,
//! sorted by (series, time), duplicates merged with the later generation winning field by field, in bounded pieces.
//!
//! A piece has all rows of some series, or a slice of the time of a long one. How the pieces are cut is decided by the
//! indexes, before any page is read ([`extents`]).

use super::slices;
use crate::Result;
use crate::model::{Column, MeasurementId, RowBlock, SeriesId, TimeRange};
use crate::rows::{cut_times, merge_sorted};
use crate::segment::{LoadedPage, PAGE_ROWS_FULL, PageInfo, Section, Segment, Texts};
use crate::tombstone::Mask;
use crate::version::{LiveSegment, Version};

/// How much one piece holds, about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceSize {
    /// Rows. Few enough for a piece and its cells to stay in the processor's caches.
    pub(crate) rows: u64,
    /// Values: rows of many fields are many bytes.
    pub(crate) values: u64,
    /// Whether a series that has more comes in slices.
    pub(crate) is_sliced: bool,
}

impl PieceSize {
    /// That of the jobs.
    pub(crate) const USUAL: Self = Self { rows: 32 * 1024, values: 128 * 1024, is_sliced: true };
    /// The same for cells, of which a series has few in a span.
    pub(crate) const OF_CELLS: Self = Self { is_sliced: false, ..Self::USUAL };
}

/// Pages whose texts or histograms make them short count as so many of them filled a piece. They hold up to 2 MiB.
const HEAVY_PAGES: u64 = 4;

/// Rows that are handed over together.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Rows of whole series, or some of one.
    pub(crate) rows: RowBlock,
    /// Whether the next piece goes on with the series of this one, of which there is one alone; it may have no row.
    pub(crate) goes_on: bool,
}

/// Measurements of the segments, ascending.
pub(crate) fn measurements(inputs: &[&LiveSegment]) -> Vec<MeasurementId> {
    let sections = inputs.iter().flat_map(|live| live.segment.sections());
    let mut measurements: Vec<MeasurementId> = sections.map(|section| section.measurement).collect();
    measurements.sort_unstable();
    measurements.dedup();
    measurements
}

/// Hands over all rows of a measurement in a time range that are not deleted; `inputs` are segments of the version,
/// oldest generation first.
pub(crate) fn merged(
    version: &Version,
    inputs: &[&LiveSegment],
    measurement: MeasurementId,
    (range, texts): (TimeRange, Texts),
    size: PieceSize,
    sink: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let mut sources = Vec::with_capacity(inputs.len());
    for live in inputs {
        if let Some(section) = live.segment.section(measurement) {
            let mask = version.mask(measurement, live);
            sources.push(Source { segment: &live.segment, section, mask, texts, last: None });
        }
    }
    let mut is_open = false;
    for extent in extents(&sources, range, size) {
        let mut blocks = Vec::with_capacity(sources.len());
        for source in &mut sources {
            let block = source.read(&extent)?;
            if !block.is_empty() {
                blocks.push(block);
            }
        }
        let only = if blocks.len() == 1 { blocks.pop() } else { None };
        let rows = only.unwrap_or_else(|| merge_sorted(&blocks));
        drop(blocks);
        if !rows.is_empty() || is_open {
            is_open = extent.goes_on;
            sink(Piece { rows, goes_on: extent.goes_on })?;
        }
    }
    Ok(())
}

/// What a piece is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first: SeriesId,
    last: SeriesId,
    range: TimeRange,
    goes_on: bool,
}

/// The pieces in order. They end where pages end, so far apart that a piece stays within about twice its size.
fn extents(sources: &[Source<'_>], range: TimeRange, size: PieceSize) -> Vec<Extent> {
    let fields = sources.iter().map(|source| source.section.fields.len()).max().unwrap_or(0) as u64;
    let rows_max = size.rows.min(size.values / fields.max(1)).max(1);
    let pages = sources.iter().flat_map(|source| &source.section.pages);
    let mut pages: Vec<(SeriesId, u64)> =
        pages.map(|page| (page.last_series, weight_of(page, rows_max))).collect();
    pages.sort_unstable();
    let final_series = pages.last().map(|(last, _)| *last);
    let mut extents = Vec::new();
    let (mut first, mut rows) = (SeriesId(0), 0);
    for of_last in pages.chunk_by(|one, next| one.0 == next.0) {
        let Some((last, _)) = of_last.first().copied() else { continue };
        let rows_of_last: u64 = of_last.iter().map(|(_, rows)| rows).sum();
        rows += rows_of_last;
        if rows < rows_max && final_series != Some(last) {
            continue;
        }
        let is_long = size.is_sliced && rows_max < rows_of_last;
        let ends = if is_long { ends_of(sources, last, range, rows_max) } else { Vec::new() };
        add_extents((first, last), range, &ends, &mut extents);
        (first, rows) = (SeriesId(last.0.saturating_add(1)), 0);
    }
    extents
}

/// Adds the piece of some series; when the last of them is cut, it has pieces of its own.
fn add_extents(
    (first, last): (SeriesId, SeriesId),
    range: TimeRange,
    ends: &[i64],
    extents: &mut Vec<Extent>,
) {
    if ends.is_empty() {
        extents.push(Extent { first, last, range, goes_on: false });
        return;
    }
    if first < last {
        let before = SeriesId(last.0.saturating_sub(1));
        extents.push(Extent { first, last: before, range, goes_on: false });
    }
    let mut start_ns = range.start_ns;
    for end_ns in ends {
        let range = TimeRange::new(start_ns, *end_ns);
        extents.push(Extent { first: last, last, range, goes_on: true });
        start_ns = *end_ns;
    }
    let range = TimeRange::new(start_ns, range.end_ns);
    extents.push(Extent { first: last, last, range, goes_on: false });
}

/// Where the time of a series is cut; nowhere when it has few rows.
fn ends_of(sources: &[Source<'_>], series: SeriesId, range: TimeRange, rows_max: u64) -> Vec<i64> {
    let weight_of = |page: &PageInfo| match page.first_series == page.last_series {
        true => weight_of(page, rows_max),
        false => slices::rows_of_one(page),
    };
    let stretch_rows = rows_max / (sources.len() as u64).max(1);
    let stretches = sources
        .iter()
        .flat_map(|source| slices::stretches(source.section, series, range, weight_of, stretch_rows));
    cut_times(stretches.collect(), range, rows_max)
}

/// The rows of a page, or more when it is full with fewer.
fn weight_of(page: &PageInfo, rows_max: u64) -> u64 {
    let rows = u64::from(page.rows);
    let is_short = rows < PAGE_ROWS_FULL as u64;
    if is_short && page.is_heavy {
        return rows.max(rows_max / HEAVY_PAGES);
    }
    rows
}

/// A section that is read from its first page to its last, past the cache, without what is deleted.
struct Source<'a> {
    segment: &'a Segment,
    section: &'a Section,
    mask: Mask,
    texts: Texts,
    /// The page read last, which may go on in the next piece.
    last: Option<(usize, LoadedPage)>,
}

impl Source<'_> {
    /// All rows of an extent that are not deleted.
    fn read(&mut self, extent: &Extent) -> Result<RowBlock> {
        let Extent { first, last, range, .. } = *extent;
        let mut block = RowBlock::default();
        let pages = self.section.pages.iter().enumerate();
        let from_first = pages.skip(self.section.pages.partition_point(|page| page.last_series < first));
        let of_series = from_first.take_while(|(_, page)| page.first_series <= last);
        let reached = of_series.filter(|(_, page)| slices::reaches(page, range));
        let rows_max = reached.clone().map(|(_, page)| slices::rows_within(page, range)).sum();
        block.series.reserve(rows_max);
        block.ts_ns.reserve(rows_max);
        for (index, _) in reached {
            let loaded = match self.last.take() {
                Some((known, loaded)) if known == index => loaded,
                _ => self.segment.load(self.section, index, self.texts)?,
            };
            let mut run_start = 0;
            for (series, run_end) in &loaded.keys.series {
                let run_end = *run_end as usize;
                if first <= *series && *series <= last {
                    let times = loaded.keys.ts_ns.get(run_start..run_end).unwrap_or_default();
                    let mut take = |part: TimeRange| {
                        let start = run_start + times.partition_point(|ts| *ts < part.start_ns);
                        let end = run_start + times.partition_point(|ts| *ts < part.end_ns);
                        append(&mut block, *series, &loaded, start..end, rows_max);
                    };
                    if self.mask.is_empty() {
                        take(range);
                    } else {
                        self.mask.visible(*series, range).into_iter().for_each(take);
                    }
                }
                run_start = run_end;
            }
            self.last = Some((index, loaded));
        }
        block.columns.sort_unstable_by_key(|column| column.key);
        Ok(block)
    }
}

/// Appends rows of one series; columns that either side lacks are null there. New columns get room for `rows_max`.
fn append(
    block: &mut RowBlock,
    series: SeriesId,
    page: &LoadedPage,
    rows: std::ops::Range<usize>,
    rows_max: usize,
) {
    let before = block.len();
    let Some(times) = page.keys.ts_ns.get(rows.clone()) else { return };
    block.ts_ns.extend_from_slice(times);
    block.series.resize(before + times.len(), series);
    for column in &page.columns {
        let place = match block.columns.iter().position(|known| known.key == column.key) {
            Some(place) => place,
            None => {
                let mut values = column.values.empty_like();
                values.reserve(rows_max);
                let new = match before {
                    0 => Column { key: column.key, values, valid: None },
                    before => Column::nulls(column.key, values, before),
                };
                block.columns.push(new);
                block.columns.len() - 1
            }
        };
        if let Some(into) = block.columns.get_mut(place) {
            into.extend_from(column, rows.clone());
        }
    }
    let after = block.len();
    for column in &mut block.columns {
        while column.values.len() < after {
            column.push_null();
        }
    }
}
