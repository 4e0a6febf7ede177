//! Native histograms: the texts of their field, gathered series by series as samples are, and read. Which series have
//! some is counted in cells, as texts are.

use super::gather::{self, SampleValues, Samples};
use super::source::Cursor;
use super::view::{View, raw_ranges};
use super::{
    Bounds, HistogramSlice, Meter, Resolution, SampleRequest, Scan as _, Window, WindowRequest, windows,
};
use crate::model::{ColumnKey, FieldId, FieldType, HISTOGRAM_FIELD, NativeHistogram, SeriesId, StatSet};
use crate::{Error, Result};

/// What a histogram takes beside its buckets, and at most for each byte of its text, lists that grow included.
const HISTOGRAM_BYTES: usize = size_of::<NativeHistogram>();
const BYTES_OF_TEXT: usize = 16;

/// Carries out a request for native histograms.
pub(super) fn run(
    view: &View,
    request: &SampleRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(HistogramSlice<'_>) -> Result<()>,
) -> Result<()> {
    let Some(field) = field_of(view, request) else { return Ok(()) };
    let classes = view.classes(request.measurement, request.series)?;
    let (ranges, _) = raw_ranges(&classes, request.range);
    let sources = view.raw_sources(request.measurement, request.range);
    let keys = [ColumnKey::value(field)];
    let mut cursors: Vec<Cursor<'_>> =
        sources.iter().map(|source| Cursor::new(source, request.measurement, &keys)).collect();
    let mut found = Samples::new(FieldType::Str, StatSet::ENDS);
    let mut values = Vec::new();
    for (series_idx, series) in request.series.iter().enumerate() {
        let range = ranges.get(classes.class(series_idx)).copied().unwrap_or(request.range);
        gather::samples(&mut cursors, *series, &[range], &mut found, meter)?;
        let SampleValues::Text(texts) = &found.values else { continue };
        let count = found.ts_ns.len();
        meter.charge(count as u64)?;
        if count == 0 {
            continue;
        }
        let decoded = count * HISTOGRAM_BYTES + BYTES_OF_TEXT * texts.bytes.len();
        meter.buffers((decoded + texts.bytes.len()) as u64)?;
        values.clear();
        for row in 0..count {
            values.push(NativeHistogram::from_text(texts.get(row)).map_err(|error| {
                let ts_ns = found.ts_ns.get(row).copied().unwrap_or_default();
                let key = view.keys(&[*series]).ok().and_then(|mut keys| keys.pop());
                let key = key.map_or_else(|| series.0.to_string(), |key| key.to_string());
                Error::invalid(format!("field {HISTOGRAM_FIELD} of {key} at {ts_ns}: {error}"))
            })?);
        }
        sink(HistogramSlice { series_idx, ts_ns: &found.ts_ns, values: &values })?;
    }
    Ok(())
}

/// The series of a request that have native histograms in or near its range.
pub(super) fn series(view: &View, request: &SampleRequest<'_>, meter: &dyn Meter) -> Result<Vec<SeriesId>> {
    let Some(field) = field_of(view, request) else { return Ok(Vec::new()) };
    let window = Window { start_ns: request.range.start_ns, end_ns: request.range.end_ns };
    let request = WindowRequest {
        measurement: request.measurement,
        field,
        series: request.series,
        windows: &[window],
        bounds: Bounds::RightOpen,
        wants: StatSet::COUNT,
        resolution: Resolution::Auto,
    };
    let mut found = Vec::new();
    windows::run(view, &request, meter, &mut |slice| {
        found.extend(request.series.get(slice.series_idx));
        Ok(())
    })?;
    Ok(found)
}

/// The field that keeps the histograms of a request's field.
fn field_of(view: &View, request: &SampleRequest<'_>) -> Option<FieldId> {
    let schema = view.schema_of(request.measurement)?;
    schema.histograms_of(request.field).map(|field| field.id)
}
