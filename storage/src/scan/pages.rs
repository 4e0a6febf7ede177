//! Cells of one file, page by page: which rows go to which slots, and their columns. No page is held beside the next one:
//! a read may be of many hundred files.

use std::ops::Range;
use std::sync::Arc;

use super::slices::{held_of, reaches};
use super::source::Source;
use super::zones::Zones;
use crate::Result;
use crate::cells::{CellReader, Run};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, NO_SLOT, SeriesId, Slots, Stat, StatSet, TimeRange,
};
use crate::segment::{PageInfo, PageKeys, Section, Segment};
use crate::tombstone::Mask;

/// A table of slots has at most so many places for each series of the batch.
const TABLE_SHARE: usize = 8;

/// Where a batch has so many times fewer series than a page may have, each is searched for.
const SEARCH_SHARE: usize = 8;

/// What is read of each page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) measurement: MeasurementId,
    pub(super) field: FieldId,
    pub(super) field_type: FieldType,
    pub(super) wants: StatSet,
    /// The columns of the field that are needed for these.
    pub(super) columns: &'a [ColumnKey],
}

/// Series, ascending, and the first slot of each.
pub(super) struct Batch<'a> {
    pub(super) series: &'a [SeriesId],
    pub(super) slots: &'a [u32],
    /// Slots by the distance of an id from the first one, where ids lie close together.
    table: Vec<u32>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(series: &'a [SeriesId], slots: &'a [u32]) -> Self {
        let mut table = Vec::new();
        if let (Some(first), Some(last)) = (series.first(), series.last()) {
            let width = last.0.saturating_sub(first.0) as usize + 1;
            if width <= TABLE_SHARE * series.len() {
                table.resize(width, NO_SLOT);
                for (id, slot) in series.iter().zip(slots) {
                    if let Some(place) = table.get_mut(id.0.saturating_sub(first.0) as usize) {
                        *place = *slot;
                    }
                }
            }
        }
        Self { series, slots, table }
    }

    /// The first slot of a series; [`NO_SLOT`] where it is not in the batch.
    fn slot_of(&self, series: SeriesId) -> u32 {
        if self.table.is_empty() {
            let place = self.series.binary_search(&series).ok();
            return place.and_then(|place| self.slots.get(place)).copied().unwrap_or(NO_SLOT);
        }
        let distance = self.series.first().and_then(|first| series.0.checked_sub(first.0));
        distance.and_then(|place| self.table.get(place as usize)).copied().unwrap_or(NO_SLOT)
    }
}

/// The pages of a file.
pub(super) struct Pages<'a> {
    segment: &'a Segment,
    section: &'a Section,
    /// What is deleted, when something is.
    mask: Option<&'a Mask>,
    kept: StatSet,
    wanted: Wanted<'a>,
    /// Pages whose columns were read.
    pub(super) read: u64,
}

impl<'a> Pages<'a> {
    /// `None` where the source is no file with the measurement.
    pub(super) fn new(source: &'a Source, wanted: Wanted<'a>) -> Option<Self> {
        let Source::Segment(segment, mask) = source else { return None };
        let section = segment.section(wanted.measurement)?;
        let kept = section.field(wanted.field).map_or(StatSet::ALL, |(_, kept)| kept);
        let mask = (!mask.is_empty()).then_some(mask);
        Some(Self { segment, section, mask, kept, wanted, read: 0 })
    }

    /// Adds the cells of a batch in a hull of time that zones want to slots; `runs` is room to work in. Tells `charge`
    /// how many, page by page.
    pub(super) fn add_to(
        &mut self,
        (slots, runs): (&mut Slots, &mut Vec<Run>),
        batch: &Batch<'_>,
        (hull, zones): (TimeRange, &Zones),
        charge: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (batch.series.first(), batch.series.last()) else { return Ok(()) };
        let skipped = self.section.pages.partition_point(|page| page.last_series < *first);
        let pages = self.section.pages.iter().enumerate().skip(skipped);
        for (index, info) in pages.take_while(|(_, info)| info.first_series <= *last) {
            if !reaches(info, hull) || held_of(info, batch.series) == 0 {
                continue;
            }
            // A page may turn out to hold none of the rows.
            charge(0)?;
            let (keys, listing) = self.segment.head(self.section, index)?;
            runs.clear();
            let rows = runs_of((&keys, info), self.mask, hull, batch, zones, runs);
            if runs.is_empty() {
                continue;
            }
            charge(rows)?;
            self.read += 1;
            let column = |key: &ColumnKey| self.segment.column_of(self.section, index, &listing, *key);
            let columns: Vec<Option<Arc<Column>>> =
                self.wanted.columns.iter().map(column).collect::<Result<_>>()?;
            let column = |stat: Stat| {
                let place = self.wanted.columns.iter().position(|key| key.stat == stat)?;
                columns.get(place)?.as_deref()
            };
            let start = runs.first().map_or(0, |run| run.rows().start);
            let end = runs.last().map_or(0, |run| run.rows().end);
            let kept = (self.kept, self.wanted.wants);
            let reader = CellReader::new(self.wanted.field_type, kept, start..end, column)?;
            reader.add_runs(runs, &keys.ts_ns, slots);
        }
        Ok(())
    }
}

/// Finds the rows of a page that belong to series of the batch, and which slots they go to; returns how many.
fn runs_of(
    (keys, info): (&PageKeys, &PageInfo),
    mask: Option<&Mask>,
    hull: TimeRange,
    batch: &Batch<'_>,
    zones: &Zones,
    runs: &mut Vec<Run>,
) -> u64 {
    let zone = zones.only(info.min_ts_ns, info.max_ts_ns).filter(|_| mask.is_none());
    let mut rows = 0;
    let mut take = |series: SeriesId, of_series: Range<usize>, slot: u32| match (zone, mask) {
        (Some(zone), _) => {
            rows += of_series.len();
            runs.push(zone.run(of_series, slot));
        }
        (None, None) => rows += zones.runs(&keys.ts_ns, of_series, slot, runs),
        (None, Some(mask)) => {
            for part in mask.visible(series, hull) {
                let times = keys.ts_ns.get(of_series.clone()).unwrap_or_default();
                let from = of_series.start + times.partition_point(|ts| *ts < part.start_ns);
                let to = of_series.start + times.partition_point(|ts| *ts < part.end_ns);
                rows += zones.runs(&keys.ts_ns, from..to.max(from), slot, runs);
            }
        }
    };
    let start = batch.series.partition_point(|series| *series < info.first_series);
    let end = batch.series.partition_point(|series| *series <= info.last_series);
    if (end - start) * SEARCH_SHARE < keys.series.len() {
        let (wanted, slots) = (batch.series.get(start..end), batch.slots.get(start..end));
        for (series, slot) in wanted.unwrap_or_default().iter().zip(slots.unwrap_or_default()) {
            take(*series, keys.rows_of(*series), *slot);
        }
    } else {
        let mut start = 0;
        for (series, end) in &keys.series {
            let of_series = std::mem::replace(&mut start, *end as usize)..*end as usize;
            let slot = batch.slot_of(*series);
            if slot != NO_SLOT {
                take(*series, of_series, slot);
            }
        }
    }
    rows as u64
}
