//! Reads whole segments of a partition together, as compaction and rollup need them: without what is deleted,
//! sorted by (series, time), duplicates merged with the later generation winning field by field, in bounded pieces.

use crate::Result;
use crate::model::{Column, MeasurementId, RowBlock, SeriesId, TimeRange};
use crate::rows::merge_sorted;
use crate::segment::{LoadedPage, Section, Segment, Texts};
use crate::tombstone::Mask;
use crate::version::{LiveSegment, Version};

/// Rows that one piece holds at most, unless a single series has more. Small enough for a piece and its cells to stay
/// in the processor's caches.
const PIECE_ROWS_MAX: u64 = 32 * 1024;
/// Values that one piece holds at most, unless a single series has more: rows of many fields are many bytes.
const PIECE_VALUES_MAX: u64 = 512 * 1024;

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
    sink: &mut dyn FnMut(RowBlock) -> Result<()>,
) -> Result<()> {
    let mut sources = Vec::with_capacity(inputs.len());
    for live in inputs {
        if let Some(section) = live.segment.section(measurement) {
            let mask = version.mask(measurement, live);
            sources.push(Source { segment: &live.segment, section, mask, texts, last: None });
        }
    }
    let mut from = SeriesId(0);
    for last in piece_ends(&sources) {
        let mut blocks = Vec::with_capacity(sources.len());
        for source in &mut sources {
            let block = source.read(from, last, range)?;
            if !block.is_empty() {
                blocks.push(block);
            }
        }
        let only = if blocks.len() == 1 { blocks.pop() } else { None };
        let rows = only.unwrap_or_else(|| merge_sorted(&blocks));
        if !rows.is_empty() {
            sink(rows)?;
        }
        from = SeriesId(last.0.saturating_add(1));
    }
    Ok(())
}

/// Last series of each piece: page ends, so far apart that a piece stays within its bound.
fn piece_ends(sources: &[Source<'_>]) -> Vec<SeriesId> {
    let fields = sources.iter().map(|source| source.section.fields.len()).max().unwrap_or(0) as u64;
    let rows_max = PIECE_ROWS_MAX.min(PIECE_VALUES_MAX / fields.max(1));
    let pages = sources.iter().flat_map(|source| &source.section.pages);
    let mut pages: Vec<(SeriesId, u32)> = pages.map(|page| (page.last_series, page.rows)).collect();
    pages.sort_unstable();
    let mut ends = Vec::new();
    let mut rows = 0;
    for (place, (last, page_rows)) in pages.iter().enumerate() {
        rows += u64::from(*page_rows);
        let is_last_of_series = pages.get(place + 1).is_none_or(|(next, _)| next != last);
        if is_last_of_series && (rows >= rows_max || place + 1 == pages.len()) {
            ends.push(*last);
            rows = 0;
        }
    }
    ends
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
    /// All rows with series in `from..=last` and times in the range.
    fn read(&mut self, from: SeriesId, last: SeriesId, range: TimeRange) -> Result<RowBlock> {
        let mut block = RowBlock::default();
        let pages = &self.section.pages;
        let first_page = pages.partition_point(|page| page.last_series < from);
        let reached =
            pages.iter().enumerate().skip(first_page).take_while(|(_, page)| page.first_series <= last);
        let rows_max = reached.clone().map(|(_, page)| page.rows as usize).sum();
        block.series.reserve(rows_max);
        block.ts_ns.reserve(rows_max);
        for (index, page) in reached {
            if page.max_ts_ns < range.start_ns || range.end_ns <= page.min_ts_ns {
                continue;
            }
            let loaded = match self.last.take() {
                Some((known, loaded)) if known == index => loaded,
                _ => self.segment.load(self.section, index, self.texts)?,
            };
            let mut run_start = 0;
            for (series, run_end) in &loaded.keys.series {
                let run_end = *run_end as usize;
                if from <= *series && *series <= last {
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
