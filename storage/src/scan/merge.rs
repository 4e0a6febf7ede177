//! Reads whole segments of a partition together, as compaction and rollup need them: without what is deleted,
//! sorted by (series, time), duplicates merged with the later generation winning field by field, in bounded pieces.

use std::sync::Arc;

use crate::Result;
use crate::model::{Column, ColumnKey, MeasurementId, RowBlock, SeriesId, TimeRange};
use crate::rows::merge_sorted;
use crate::segment::{Section, Segment};
use crate::tombstone::Mask;
use crate::version::{LiveSegment, Version};

/// Rows that one piece holds at most, unless a single series has more. Small enough for a piece and its cells to stay
/// in the processor's caches.
const PIECE_ROWS_MAX: u64 = 32 * 1024;

/// Measurements of the segments, ascending.
pub(crate) fn measurements(inputs: &[&LiveSegment]) -> Vec<MeasurementId> {
    let sections = inputs.iter().flat_map(|live| live.segment.sections());
    let mut measurements: Vec<MeasurementId> = sections.map(|section| section.measurement).collect();
    measurements.sort_unstable();
    measurements.dedup();
    measurements
}

/// One segment that has rows of the measurement.
struct Input<'a> {
    segment: &'a Segment,
    section: &'a Section,
    mask: Mask,
}

/// Hands over all rows of a measurement in a time range that are not deleted; `inputs` are segments of the version,
/// oldest generation first.
pub(crate) fn merged(
    version: &Version,
    inputs: &[&LiveSegment],
    measurement: MeasurementId,
    range: TimeRange,
    sink: &mut dyn FnMut(RowBlock) -> Result<()>,
) -> Result<()> {
    let mut found = Vec::with_capacity(inputs.len());
    for live in inputs {
        if let Some(section) = live.segment.section(measurement) {
            found.push(Input { segment: &live.segment, section, mask: version.mask(measurement, live) });
        }
    }
    let mut from = SeriesId(0);
    for last in piece_ends(&found) {
        let mut blocks = Vec::with_capacity(found.len());
        for input in &found {
            let block = read(input, from, last, range)?;
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
fn piece_ends(inputs: &[Input<'_>]) -> Vec<SeriesId> {
    let pages = inputs.iter().flat_map(|input| &input.section.pages);
    let mut pages: Vec<(SeriesId, u32)> = pages.map(|page| (page.last_series, page.rows)).collect();
    pages.sort_unstable();
    let mut ends = Vec::new();
    let mut rows = 0;
    for (place, (last, page_rows)) in pages.iter().enumerate() {
        rows += u64::from(*page_rows);
        let is_last_of_series = pages.get(place + 1).is_none_or(|(next, _)| next != last);
        if is_last_of_series && (rows >= PIECE_ROWS_MAX || place + 1 == pages.len()) {
            ends.push(*last);
            rows = 0;
        }
    }
    ends
}

/// All rows of a segment with series in `from..=last` and times in the range that are not deleted.
fn read(input: &Input<'_>, from: SeriesId, last: SeriesId, range: TimeRange) -> Result<RowBlock> {
    let Input { segment, section, mask } = input;
    let mut block = RowBlock::default();
    let first_page = section.pages.partition_point(|page| page.last_series < from);
    let pages = section.pages.iter().skip(first_page).take_while(|page| page.first_series <= last);
    let rows_max = pages.map(|page| page.rows as usize).sum();
    block.series.reserve(rows_max);
    block.ts_ns.reserve(rows_max);
    for (index, page) in section.pages.iter().enumerate().skip(first_page) {
        if last < page.first_series {
            break;
        }
        if page.max_ts_ns < range.start_ns || range.end_ns <= page.min_ts_ns {
            continue;
        }
        let keys = segment.keys(section, index)?;
        let mut columns: Vec<(ColumnKey, Option<Arc<Column>>)> = Vec::with_capacity(page.columns.len());
        for info in &page.columns {
            columns.push((info.key, segment.column(section, index, info.key)?));
        }
        let mut run_start = 0;
        for (series, run_end) in &keys.series {
            let run_end = *run_end as usize;
            if from <= *series && *series <= last {
                let times = keys.ts_ns.get(run_start..run_end).unwrap_or_default();
                let mut take = |part: TimeRange| {
                    let start = run_start + times.partition_point(|ts| *ts < part.start_ns);
                    let end = run_start + times.partition_point(|ts| *ts < part.end_ns);
                    append(&mut block, *series, &keys.ts_ns, &columns, start..end, rows_max);
                };
                if mask.is_empty() {
                    take(range);
                } else {
                    mask.visible(*series, range).into_iter().for_each(take);
                }
            }
            run_start = run_end;
        }
    }
    block.columns.sort_unstable_by_key(|column| column.key);
    Ok(block)
}

/// Appends rows of one series; columns that either side lacks are null there. New columns get room for `rows_max`.
fn append(
    block: &mut RowBlock,
    series: SeriesId,
    ts_ns: &[i64],
    columns: &[(ColumnKey, Option<Arc<Column>>)],
    rows: std::ops::Range<usize>,
    rows_max: usize,
) {
    let before = block.len();
    let Some(times) = ts_ns.get(rows.clone()) else { return };
    block.ts_ns.extend_from_slice(times);
    block.series.resize(before + times.len(), series);
    for (key, column) in columns {
        let Some(column) = column else { continue };
        let place = match block.columns.iter().position(|known| known.key == *key) {
            Some(place) => place,
            None => {
                let mut values = column.values.empty_like();
                values.reserve(rows_max);
                let column = match before {
                    0 => Column { key: *key, values, valid: None },
                    before => Column::nulls(*key, values, before),
                };
                block.columns.push(column);
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
