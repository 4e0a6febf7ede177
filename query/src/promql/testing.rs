//! A [`Scan`] over plain vectors, for tests: every answer by the most naive way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use icecore_storage::model::{
    FieldId, FieldType, MeasurementId, NativeHistogram, Partial, RowBlock, SeriesId, SeriesKey, Tier,
    TimeRange, Value,
};
use icecore_storage::scan::{
    Bounds, Coverage, FieldInfo, Flow, HistogramSlice, Meter, RowRequest, SampleRequest, SampleSlice, Scan,
    Schema, SeriesInfo, TagMatcher, Window, WindowRequest, WindowSlice,
};
use icecore_storage::{Error, Result};

/// Samples of one series and field.
type Points = BTreeMap<i64, Value>;

/// Where samples are.
type Place = (MeasurementId, FieldId, SeriesId);

/// A database in vectors.
#[derive(Debug, Default)]
pub(crate) struct VecScan {
    schemas: Vec<Schema>,
    series: Vec<Arc<SeriesKey>>,
    points: BTreeMap<Place, Points>,
    histograms: BTreeMap<Place, BTreeMap<i64, NativeHistogram>>,
    /// Raw rows before this time are gone: windows still see them, samples do not.
    pub(crate) raw_gone_before_ns: Option<i64>,
}

impl VecScan {
    /// Adds one value.
    pub(crate) fn push(&mut self, key: &SeriesKey, field: &str, ts_ns: i64, value: Value) {
        let place = self.place(key, field, value.field_type());
        self.points.entry(place).or_default().insert(ts_ns, value);
    }

    /// Adds one native histogram to a field of floats.
    pub(crate) fn push_histogram(
        &mut self,
        key: &SeriesKey,
        field: &str,
        ts_ns: i64,
        value: NativeHistogram,
    ) {
        let place = self.place(key, field, FieldType::Float);
        self.histograms.entry(place).or_default().insert(ts_ns, value);
    }

    fn place(&mut self, key: &SeriesKey, field: &str, field_type: FieldType) -> Place {
        let place = match self.schemas.iter().position(|schema| &*schema.name == key.measurement()) {
            Some(place) => place,
            None => {
                let measurement = MeasurementId(self.schemas.len() as u32);
                let name = key.measurement().into();
                self.schemas.push(Schema { measurement, name, fields: Vec::new(), tag_keys: Vec::new() });
                self.schemas.len() - 1
            }
        };
        let schema = &mut self.schemas[place];
        let tags: BTreeSet<Arc<str>> = schema
            .tag_keys
            .iter()
            .cloned()
            .chain(key.tags().iter().map(|(key, _)| Arc::from(&**key)))
            .collect();
        schema.tag_keys = tags.into_iter().collect();
        let field_id = match schema.field(field) {
            Some(info) => info.id,
            None => {
                let id = FieldId(schema.fields.len() as u16);
                schema.fields.push(FieldInfo { id, name: field.into(), field_type });
                schema.fields.sort_by(|a, b| a.name.cmp(&b.name));
                id
            }
        };
        let measurement = schema.measurement;
        let series = match self.series.iter().position(|known| **known == *key) {
            Some(series) => series,
            None => {
                self.series.push(Arc::new(key.clone()));
                self.series.len() - 1
            }
        };
        (measurement, field_id, SeriesId(series as u32))
    }

    fn field_type(&self, measurement: MeasurementId, field: FieldId) -> FieldType {
        let schema = self.schemas.iter().find(|schema| schema.measurement == measurement);
        let info = schema.and_then(|schema| schema.fields.iter().find(|info| info.id == field));
        info.map_or(FieldType::Float, |info| info.field_type)
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::UInt(value) => Some(*value as f64),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Str(_) => None,
    }
}

fn is_inside(bounds: Bounds, window: Window, ts_ns: i64) -> bool {
    match bounds {
        Bounds::LeftOpen => window.start_ns < ts_ns && ts_ns <= window.end_ns,
        Bounds::RightOpen => window.start_ns <= ts_ns && ts_ns < window.end_ns,
    }
}

impl Scan for VecScan {
    fn measurements(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.schemas.iter().map(|schema| Arc::clone(&schema.name)).collect();
        names.sort();
        names
    }

    fn schema(&self, measurement: &str) -> Option<Schema> {
        self.schemas.iter().find(|schema| &*schema.name == measurement).cloned()
    }

    fn series(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        _range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        let name = self.schemas.iter().find(|schema| schema.measurement == measurement).map(|s| &s.name);
        let passes = |key: &SeriesKey| {
            matchers.iter().all(|matcher| matcher.test.accepts(key.tag(&matcher.key).unwrap_or("")))
        };
        let found = self.series.iter().enumerate();
        let found =
            found.filter(|(_, key)| name.is_some_and(|name| key.measurement() == &**name) && passes(key));
        let found: Vec<_> =
            found.map(|(id, key)| SeriesInfo { id: SeriesId(id as u32), key: Arc::clone(key) }).collect();
        if found.len() > limit {
            return Err(Error::new(icecore_storage::ErrorKind::LimitExceeded, "too many series"));
        }
        Ok(found)
    }

    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        Ok(series.iter().map(|id| (*self.series[id.0 as usize]).clone()).collect())
    }

    fn samples(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let gone = self.raw_gone_before_ns.filter(|gone| request.range.start_ns < *gone);
        for (series_idx, id) in request.series.iter().enumerate() {
            let Some(points) = self.points.get(&(request.measurement, request.field, *id)) else { continue };
            let inside = points.iter().filter(|(ts_ns, _)| {
                request.range.contains(**ts_ns) && gone.is_none_or(|gone| gone <= **ts_ns)
            });
            let (ts_ns, values): (Vec<i64>, Vec<f64>) =
                inside.filter_map(|(ts_ns, value)| Some((*ts_ns, number(value)?))).unzip();
            meter.charge(ts_ns.len() as u64)?;
            if !ts_ns.is_empty() {
                sink(SampleSlice { series_idx, ts_ns: &ts_ns, values: &values })?;
            }
        }
        Ok(Coverage { raw_gone_before_ns: gone, ..Coverage::default() })
    }

    fn has_histograms(&self, measurement: MeasurementId, field: FieldId) -> bool {
        self.histograms.keys().any(|place| (place.0, place.1) == (measurement, field))
    }

    fn histogram_series(&self, request: &SampleRequest<'_>, _meter: &dyn Meter) -> Result<Vec<SeriesId>> {
        let has_some = |id: &&SeriesId| {
            let found = self.histograms.get(&(request.measurement, request.field, **id));
            found.is_some_and(|found| found.keys().any(|ts_ns| request.range.contains(*ts_ns)))
        };
        Ok(request.series.iter().filter(has_some).copied().collect())
    }

    fn histograms(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(HistogramSlice<'_>) -> Result<()>,
    ) -> Result<()> {
        for (series_idx, id) in request.series.iter().enumerate() {
            let place = (request.measurement, request.field, *id);
            let Some(histograms) = self.histograms.get(&place) else { continue };
            let inside = histograms.iter().filter(|(ts_ns, _)| request.range.contains(**ts_ns));
            let (ts_ns, values): (Vec<i64>, Vec<NativeHistogram>) =
                inside.map(|(ts_ns, value)| (*ts_ns, value.clone())).unzip();
            meter.charge(ts_ns.len() as u64)?;
            if !ts_ns.is_empty() {
                sink(HistogramSlice { series_idx, ts_ns: &ts_ns, values: &values })?;
            }
        }
        Ok(())
    }

    fn windows(
        &self,
        request: &WindowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let field_type = self.field_type(request.measurement, request.field);
        assert!(request.windows.is_sorted_by(|a, b| a.start_ns <= b.start_ns && a.end_ns <= b.end_ns));
        for (series_idx, id) in request.series.iter().enumerate() {
            let Some(points) = self.points.get(&(request.measurement, request.field, *id)) else { continue };
            let mut partials = Vec::with_capacity(request.windows.len());
            for window in request.windows {
                let mut partial = Partial::empty(field_type);
                let inside = points.range(window.start_ns..=window.end_ns);
                for (ts_ns, value) in inside.filter(|(ts, _)| is_inside(request.bounds, *window, **ts)) {
                    partial.add(*ts_ns, value.as_ref(), request.wants);
                }
                meter.charge(partial.count())?;
                partials.push(partial);
            }
            if partials.iter().any(|partial| partial.count() > 0) {
                sink(WindowSlice { series_idx, windows: request.windows, partials: &partials })?;
            }
        }
        let start = request.windows.first().map_or(i64::MAX, |window| window.start_ns);
        let rounded = self.raw_gone_before_ns.filter(|gone| start < *gone).map(|_| Tier::M5);
        Ok(Coverage { rounded, ..Coverage::default() })
    }

    fn rows(
        &self,
        _request: &RowRequest<'_>,
        _meter: &dyn Meter,
        _sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        Err(Error::invalid("PromQL reads no rows"))
    }
}
