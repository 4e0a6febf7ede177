//! Cells of one file, page by page: which rows go to which slots, and their columns. A page that lies over two batches
//! of series is kept for the second.

use std::sync::Arc;

use super::slices::reaches;
use super::source::Source;
use super::zones::Zones;
use crate::Result;
use crate::cells::{CellReader, Run};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, SeriesId, Slots, Stat, StatSet, TimeRange,
};
use crate::segment::{ColumnInfo, PageKeys, Section, Segment};
use crate::tombstone::Mask;

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

/// Series and the first slot of each.
pub(super) struct Batch<'a> {
    /// Ascending.
    pub(super) series: &'a [SeriesId],
    /// The slot of the first piece of the series at a place.
    pub(super) slot_of: &'a dyn Fn(usize) -> usize,
}

struct Page {
    index: usize,
    keys: Arc<PageKeys>,
    listing: Arc<[ColumnInfo]>,
    /// Loaded when a row of the page is wanted.
    columns: Option<Vec<Option<Arc<Column>>>>,
}

/// The pages of a file.
pub(super) struct Pages<'a> {
    segment: &'a Segment,
    section: &'a Section,
    /// What is deleted, when something is.
    mask: Option<&'a Mask>,
    kept: StatSet,
    wanted: Wanted<'a>,
    page: Option<Page>,
    runs: Vec<Run>,
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
        Some(Self { segment, section, mask, kept, wanted, page: None, runs: Vec::new(), read: 0 })
    }

    /// Adds the cells of a batch in a hull of time that zones want to slots. Tells `charge` how many, page by page.
    pub(super) fn add_to(
        &mut self,
        slots: &mut Slots,
        batch: &Batch<'_>,
        (hull, zones): (TimeRange, &Zones),
        charge: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (batch.series.first(), batch.series.last()) else { return Ok(()) };
        let skipped = self.section.pages.partition_point(|page| page.last_series < *first);
        let pages = self.section.pages.iter().enumerate().skip(skipped);
        for (index, info) in pages.take_while(|(_, info)| info.first_series <= *last) {
            if !reaches(info, hull) {
                continue;
            }
            if self.page.as_ref().is_none_or(|page| page.index != index) {
                let (keys, listing) = self.segment.head(self.section, index)?;
                self.page = Some(Page { index, keys, listing, columns: None });
            }
            let Some(page) = &mut self.page else { continue };
            self.runs.clear();
            let rows = runs_of(&page.keys, self.mask, hull, batch, zones, &mut self.runs);
            if self.runs.is_empty() {
                continue;
            }
            charge(rows)?;
            let columns = match &mut page.columns {
                Some(columns) => columns,
                slot => {
                    let column =
                        |key: &ColumnKey| self.segment.column_of(self.section, index, &page.listing, *key);
                    self.read += 1;
                    slot.insert(self.wanted.columns.iter().map(column).collect::<Result<_>>()?)
                }
            };
            let column = |stat: Stat| {
                let place = self.wanted.columns.iter().position(|key| key.stat == stat)?;
                columns.get(place)?.as_deref()
            };
            let start = self.runs.first().map_or(0, |run| run.rows.start);
            let end = self.runs.last().map_or(0, |run| run.rows.end);
            let kept = (self.kept, self.wanted.wants);
            let reader = CellReader::new(self.wanted.field_type, kept, start..end, column)?;
            reader.add_runs(&self.runs, &page.keys.ts_ns, slots);
        }
        Ok(())
    }
}

/// Finds the rows of a page that belong to series of the batch, and which slots they go to; returns how many.
fn runs_of(
    keys: &PageKeys,
    mask: Option<&Mask>,
    hull: TimeRange,
    batch: &Batch<'_>,
    zones: &Zones,
    runs: &mut Vec<Run>,
) -> u64 {
    let mut rows = 0;
    let (Some((first, _)), Some(from)) = (keys.series.first(), batch.series.first()) else { return 0 };
    // Both lists ascend: each is begun where the other does.
    let mut place = batch.series.partition_point(|series| series < first);
    let skipped = keys.series.partition_point(|(series, _)| series < from);
    let before = skipped.checked_sub(1).and_then(|before| keys.series.get(before));
    let mut start = before.map_or(0, |(_, end)| *end as usize);
    for (series, end) in keys.series.iter().skip(skipped) {
        let of_series = std::mem::replace(&mut start, *end as usize)..*end as usize;
        let rest = batch.series.get(place..).unwrap_or_default();
        match rest.first() {
            None => break,
            Some(next) if series < next => continue,
            Some(next) if next < series => place += rest.iter().take_while(|next| *next < series).count(),
            Some(_) => {}
        }
        if batch.series.get(place) != Some(series) {
            continue;
        }
        let slot = (batch.slot_of)(place);
        match mask {
            None => rows += zones.runs(&keys.ts_ns, of_series, slot, runs),
            Some(mask) => {
                for part in mask.visible(*series, hull) {
                    let times = keys.ts_ns.get(of_series.clone()).unwrap_or_default();
                    let from = of_series.start + times.partition_point(|ts| *ts < part.start_ns);
                    let to = of_series.start + times.partition_point(|ts| *ts < part.end_ns);
                    rows += zones.runs(&keys.ts_ns, from..to.max(from), slot, runs);
                }
            }
        }
    }
    rows as u64
}
