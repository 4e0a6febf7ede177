//! One consistent view of a database: the catalog and one pinned version, read as a [`Scan`].
//!
//! Sources of a measurement are given oldest first (segments by generation, then the runs of the memtables), so
//! that the later write wins everywhere. What the memtables held is noted when the view is made, between two
//! batches: all that a query reads is of one moment, and of each batch it sees all or nothing.

use std::sync::Arc;

use super::classes::Classes;
use super::gather::{self, Samples};
use super::source::{Cursor, Source};
use super::{
    Coverage, Distinct, DistinctRequest, Flow, GroupRequest, HistogramSlice, Meter, RowRequest,
    SampleRequest, SampleSlice, Scan, Schema, SeriesInfo, TagCodes, TagMatcher, WindowRequest, WindowSlice,
    active, distinct, native, rows, windows,
};
use crate::memtable::Snapshot;
use crate::model::{
    ColumnKey, FieldId, FieldType, MeasurementId, RowBlock, SeriesId, SeriesKey, Tier, TimeRange,
};
use crate::rules::RuleSet;
use crate::series::Catalog;
use crate::version::{LiveSegment, Seen, Store, Version};
use crate::{Error, ErrorKind, Result};

/// A pinned version, ready to be read.
#[derive(Debug)]
pub(crate) struct View {
    catalog: Arc<Catalog>,
    version: Arc<Version>,
    /// Of the version's memtables, oldest first.
    memtables: Vec<Snapshot>,
    seen: Seen,
}

impl View {
    /// A view of what is acknowledged now.
    pub(crate) fn new(store: &Store) -> Self {
        let (version, memtables, seen) = store.snapshot();
        Self { catalog: Arc::clone(&store.catalog), version, memtables, seen }
    }

    /// What it sees, to be compared.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Raw sources of a measurement that may hold rows in a range, oldest first.
    pub(super) fn raw_sources(&self, measurement: MeasurementId, range: TimeRange) -> Vec<Source> {
        let segments = self.segments(Tier::Raw, measurement, range);
        let mut sources: Vec<Source> =
            segments.into_iter().map(|live| self.source(measurement, live)).collect();
        let runs = self.memtables.iter().flat_map(|memtable| memtable.runs(measurement));
        sources.extend(runs.map(Source::Run));
        sources
    }

    /// Runs of the memtables that reach into a range, oldest first.
    pub(super) fn memory_runs(&self, measurement: MeasurementId, range: TimeRange) -> Vec<Arc<RowBlock>> {
        let reaches =
            |memtable: &&Snapshot| memtable.time_range().is_some_and(|times| times.overlaps(&range));
        self.memtables.iter().filter(reaches).flat_map(|memtable| memtable.runs(measurement)).collect()
    }

    /// Files of a cell tier that may hold cells of a measurement in a range, by time: their spans are disjoint.
    pub(super) fn cell_sources(
        &self,
        tier: Tier,
        measurement: MeasurementId,
        range: TimeRange,
    ) -> Vec<Source> {
        let mut segments = self.segments(tier, measurement, range);
        segments.sort_by_key(|live| live.meta.partition.start_ns);
        segments.into_iter().map(|live| self.source(measurement, live)).collect()
    }

    fn source(&self, measurement: MeasurementId, live: &LiveSegment) -> Source {
        Source::Segment(Arc::clone(&live.segment), self.version.mask(measurement, live))
    }

    /// Whether some row or cell of a measurement is left. Mostly a look at the newest segment.
    fn is_present(&self, measurement: MeasurementId) -> bool {
        let holds = |live: &LiveSegment| {
            live.segment.section(measurement).is_some()
                && !self.version.mask(measurement, live).hides_all(&live.meta)
        };
        self.memtables.iter().any(|memtable| memtable.has(measurement))
            || self.version.segments.iter().rev().any(holds)
    }

    /// Segments of a tier that hold the measurement and reach into a range, oldest first.
    pub(super) fn segments(
        &self,
        tier: Tier,
        measurement: MeasurementId,
        range: TimeRange,
    ) -> Vec<&LiveSegment> {
        let reaching = self.version.of_tier(tier).filter(|live| {
            live.meta.min_ts_ns < range.end_ns
                && range.start_ns <= live.meta.max_ts_ns
                && live.segment.section(measurement).is_some()
        });
        reaching.collect()
    }

    /// Hulls of the times in the memtables.
    pub(super) fn memtable_ranges(&self) -> impl Iterator<Item = TimeRange> {
        self.memtables.iter().filter_map(Snapshot::time_range)
    }

    pub(super) fn schema_of(&self, measurement: MeasurementId) -> Option<Schema> {
        self.catalog.schema_of(measurement)
    }

    pub(super) fn field_type(&self, measurement: MeasurementId, field: FieldId) -> Result<FieldType> {
        let schema = self.catalog.schema_of(measurement);
        let info = schema.as_ref().and_then(|schema| schema.fields.iter().find(|info| info.id == field));
        info.map(|info| info.field_type).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("field {} of measurement {}", field.0, measurement.0))
        })
    }

    /// The floors of some series of a measurement, given in ascending order.
    pub(super) fn classes(&self, measurement: MeasurementId, series: &[SeriesId]) -> Result<Classes> {
        let hidden = (&*self.version.rule_sets, self.version.floors_ns);
        Classes::of(&self.catalog, hidden, measurement, series)
    }
}

/// The part of a range that raw rows still answer, for each class, and where they begin when that is not all.
pub(super) fn raw_ranges(classes: &Classes, range: TimeRange) -> (Vec<TimeRange>, Option<i64>) {
    let floors = classes.all().iter().map(|floors_ns| floors_ns[0]);
    let gone_before_ns = floors.clone().filter(|floor_ns| range.start_ns < *floor_ns).max();
    let left = |floor_ns: i64| TimeRange::new(range.start_ns.max(floor_ns), range.end_ns);
    (floors.map(left).collect(), gone_before_ns)
}

impl Scan for View {
    fn measurements(&self) -> Vec<Arc<str>> {
        let mut names = self.catalog.measurements();
        names.retain(|name| self.schema(name).is_some());
        names
    }

    fn schema(&self, measurement: &str) -> Option<Schema> {
        self.catalog.schema(measurement).filter(|schema| self.is_present(schema.measurement))
    }

    fn reaches(&self, measurement: MeasurementId, range: TimeRange) -> bool {
        let is_in_memory = |memtable: &Snapshot| {
            memtable.has(measurement) && memtable.time_range().is_some_and(|times| times.overlaps(&range))
        };
        // A cell has the time of its left edge.
        let reaches_into = |tier: Tier| {
            let start_ns = range.start_ns.saturating_sub(tier.width_ns());
            self.segments(tier, measurement, TimeRange::new(start_ns, range.end_ns))
                .into_iter()
                .any(|live| !self.version.mask(measurement, live).hides_all(&live.meta))
        };
        self.memtables.iter().any(is_in_memory)
            || [Tier::Raw, Tier::M1, Tier::M5, Tier::H1].into_iter().any(reaches_into)
    }

    fn raw_from_ns(&self) -> i64 {
        let rules = self.version.rule_sets.iter().flat_map(RuleSet::floors);
        rules.chain([&self.version.floors_ns]).map(|floors_ns| floors_ns[0]).max().unwrap_or(i64::MIN)
    }

    fn series(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        Ok(self.catalog.infos(self.series_ids(measurement, matchers, range, limit)?))
    }

    fn series_ids(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesId>> {
        let mut ids = self.catalog.select_ids(measurement, matchers, usize::MAX)?;
        active::retain(self, measurement, range, &mut ids)?;
        self.catalog.check_count(measurement, ids.len(), limit)?;
        Ok(ids)
    }

    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        self.catalog.keys(series)
    }

    fn tag_codes(&self, measurement: MeasurementId, tag: &str, series: &[SeriesId]) -> Result<TagCodes> {
        self.catalog.tag_codes(measurement, tag, series)
    }

    fn samples(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let field_type = self.field_type(request.measurement, request.field)?;
        let classes = self.classes(request.measurement, request.series)?;
        let (ranges, raw_gone_before_ns) = raw_ranges(&classes, request.range);
        if !field_type.is_numeric() {
            return match self.has_histograms(request.measurement, request.field) {
                true => Ok(Coverage { raw_gone_before_ns, ..Coverage::default() }),
                false => Err(Error::invalid("text fields have no samples")),
            };
        }
        let sources = self.raw_sources(request.measurement, request.range);
        let keys = [ColumnKey::value(request.field)];
        let mut cursors: Vec<Cursor<'_>> =
            sources.iter().map(|source| Cursor::new(source, request.measurement, &keys)).collect();
        let mut coverage = Coverage { raw_gone_before_ns, ..Coverage::default() };
        let mut found = Samples::as_floats(field_type);
        for (series_idx, series) in request.series.iter().enumerate() {
            let range = ranges.get(classes.class(series_idx)).copied().unwrap_or(request.range);
            gather::samples(&mut cursors, *series, &[range], &mut found, meter)?;
            let rows = found.ts_ns.len() as u64;
            meter.charge(rows)?;
            coverage.rows += rows;
            if rows > 0 {
                sink(SampleSlice { series_idx, ts_ns: &found.ts_ns, values: found.floats() })?;
            }
        }
        coverage.pages = cursors.iter().map(Cursor::pages).sum();
        Ok(coverage)
    }

    fn has_histograms(&self, measurement: MeasurementId, field: FieldId) -> bool {
        self.schema_of(measurement).is_some_and(|schema| schema.histograms_of(field).is_some())
    }

    fn histogram_series(&self, request: &SampleRequest<'_>, meter: &dyn Meter) -> Result<Vec<SeriesId>> {
        native::series(self, request, meter)
    }

    fn histograms(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(HistogramSlice<'_>) -> Result<()>,
    ) -> Result<()> {
        native::run(self, request, meter, sink)
    }

    fn windows(
        &self,
        request: &WindowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        windows::run(self, request, meter, sink)
    }

    fn groups(
        &self,
        request: &GroupRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        windows::run_groups(self, request, meter, sink)
    }

    fn rows(
        &self,
        request: &RowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        rows::run(self, request, meter, sink)
    }

    fn distinct(&self, request: &DistinctRequest<'_>, meter: &dyn Meter) -> Result<(Distinct, Coverage)> {
        distinct::run(self, request, meter)
    }
}
