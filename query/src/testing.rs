//! A view of very many series, for tests of what queries hold.

use std::sync::Arc;

use icecore_storage::Result;
use icecore_storage::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, Partial, RowBlock, SeriesId, SeriesKey, StatSet,
    TimeRange, ValueRef, Values,
};
use icecore_storage::scan::{
    Coverage, FieldInfo, Flow, Meter, RowRequest, SampleRequest, SampleSlice, Scan, Schema, SeriesInfo,
    TagMatcher, WindowRequest, WindowSlice,
};

/// A view of as many series as wanted, each with one sample, made as it is read.
pub(crate) struct Wide {
    pub(crate) series: u32,
}

impl Wide {
    fn key(id: SeriesId) -> SeriesKey {
        // Not in the order of the ids.
        let (namespace, pod) = (format!("n{}", id.0 % 50), format!("p{:x}", id.0.wrapping_mul(0x9e37_79b9)));
        SeriesKey::new("wide", [("namespace", namespace), ("pod", pod)]).unwrap()
    }
}

impl Scan for Wide {
    fn measurements(&self) -> Vec<Arc<str>> {
        vec!["wide".into()]
    }

    fn schema(&self, measurement: &str) -> Option<Schema> {
        let value = FieldInfo { id: FieldId(0), name: "value".into(), field_type: FieldType::Float };
        (measurement == "wide").then(|| Schema {
            measurement: MeasurementId(0),
            name: "wide".into(),
            fields: vec![value],
            tag_keys: vec!["namespace".into(), "pod".into()],
        })
    }

    fn series(
        &self,
        _measurement: MeasurementId,
        _matchers: &[TagMatcher],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        unreachable!("keys of all series are more than are to be held")
    }

    fn series_ids(
        &self,
        _measurement: MeasurementId,
        _matchers: &[TagMatcher],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Vec<SeriesId>> {
        Ok((0..self.series).map(SeriesId).collect())
    }

    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        assert!(series.len() <= 1024, "few keys at a time");
        Ok(series.iter().map(|id| Self::key(*id)).collect())
    }

    fn samples(
        &self,
        request: &SampleRequest<'_>,
        _meter: &dyn Meter,
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        for (series_idx, id) in request.series.iter().enumerate() {
            sink(SampleSlice { series_idx, ts_ns: &[1], values: &[f64::from(id.0) / 7.0] })?;
        }
        Ok(Coverage::default())
    }

    fn windows(
        &self,
        request: &WindowRequest<'_>,
        _meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        for (series_idx, id) in request.series.iter().enumerate() {
            let mut partial = Partial::empty(FieldType::Float);
            partial.add(1, ValueRef::Float(f64::from(id.0) / 7.0), StatSet::NUMBERS);
            let partials = vec![partial; request.windows.len()];
            sink(WindowSlice { series_idx, windows: request.windows, partials: &partials })?;
        }
        Ok(Coverage::default())
    }

    fn rows(
        &self,
        request: &RowRequest<'_>,
        _meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        for ids in request.series.chunks(4096) {
            let values = Values::F64(ids.iter().map(|id| f64::from(id.0) / 7.0).collect());
            let columns = vec![Column { key: ColumnKey::value(FieldId(0)), values, valid: None }];
            let block = RowBlock { series: ids.to_vec(), ts_ns: vec![1; ids.len()], columns };
            if sink(&block)? == Flow::Stop {
                break;
            }
        }
        Ok(Coverage::default())
    }
}
