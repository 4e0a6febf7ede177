//! An answer as one message: `prometheus.ReadResponse`: `results` = 1 {`timeseries` = 1 {`labels` = 1, `samples` = 2 {`value` =
//! 1, `timestamp` = 2}, `histograms` = 4}}, in a snappy block.
//!
//! Native histograms have the form of remote write, with counts of floats: whether they were whole is not known any more.

use icecore_query::promql::SeriesSamples;
use icecore_storage::model::native::{ResetHint, SCHEMA_CUSTOM};
use icecore_storage::model::{BucketLayout, FloatBucket, NativeHistogram};

use super::request::read_query;
use super::{LIST, MS_NS};
use crate::database::Query;
use crate::ingest::protobuf::{push_bytes, push_fixed64, push_head, push_number, varint_len};
use crate::ingest::remote::labels::push_label;
use crate::{Database, Error, ErrorKind, Result};

/// `TimeSeries.samples` and `TimeSeries.histograms`.
const SAMPLES: u32 = 2;
const HISTOGRAMS: u32 = 4;

/// The answer to all queries.
pub(super) fn answer(database: &Database, query: &Query, queries: &[&[u8]]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for asked in queries {
        let (selector, range) = read_query(asked)?;
        let mut found: Vec<u8> = Vec::new();
        database.each_series(query, &selector, range, &mut |series: &SeriesSamples| {
            let series = encode_series(series);
            // Here, in the answer, and when it is packed; lists that grow take twice their bytes.
            query.budget.charge_bytes(4 * series.len() as u64)?;
            push_bytes(&mut found, LIST, &series);
            Ok(())
        })?;
        push_bytes(&mut out, LIST, &found);
    }
    snap::raw::Encoder::new()
        .compress_vec(&out)
        .map_err(|error| Error::new(ErrorKind::LimitExceeded, format!("the answer is too large: {error}")))
}

/// Samples by milliseconds: of those within one the last, for times have no finer digits.
pub(super) fn by_ms<T: Copy>(samples: impl Iterator<Item = (i64, T)>) -> impl Iterator<Item = (i64, T)> {
    let mut samples = samples.map(|(ts_ns, sample)| (ts_ns.div_euclid(MS_NS), sample)).peekable();
    std::iter::from_fn(move || {
        let mut found = samples.next()?;
        while let Some(later) = samples.next_if(|(ms, _)| *ms == found.0) {
            found = later;
        }
        Some(found)
    })
}

/// A `TimeSeries`.
fn encode_series(series: &SeriesSamples) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 18 * series.ts_ns.len());
    series.labels.iter().for_each(|(name, value)| push_label(&mut out, name, value));
    for (ms, value) in by_ms(series.ts_ns.iter().copied().zip(series.values.iter().copied())) {
        push_head(&mut out, SAMPLES, 9 + 1 + varint_len(ms.cast_unsigned()));
        push_fixed64(&mut out, 1, value.to_bits());
        push_number(&mut out, 2, ms.cast_unsigned());
    }
    for (ms, histogram) in by_ms(series.histograms.iter().map(|(ts_ns, histogram)| (*ts_ns, histogram))) {
        push_bytes(&mut out, HISTOGRAMS, &encode_histogram(ms, histogram));
    }
    out
}

/// A `Histogram`; the numbers of its fields stand with the reader of remote write.
fn encode_histogram(ms: i64, histogram: &NativeHistogram) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 12 * (histogram.positive.len() + histogram.negative.len()));
    let push_double = |out: &mut Vec<u8>, number, value: f64| push_fixed64(out, number, value.to_bits());
    let (schema, zero_threshold, bounds) = match &histogram.layout {
        BucketLayout::Exponential { schema, zero_threshold } => (*schema, *zero_threshold, &[][..]),
        BucketLayout::Custom { bounds } => (SCHEMA_CUSTOM, 0.0, &**bounds),
    };
    push_double(&mut out, 2, histogram.count);
    push_double(&mut out, 3, histogram.sum);
    push_number(&mut out, 4, zigzag(schema));
    push_double(&mut out, 5, zero_threshold);
    push_double(&mut out, 7, histogram.zero_count);
    push_buckets(&mut out, (8, 10), &histogram.negative);
    push_buckets(&mut out, (11, 13), &histogram.positive);
    let hint = match histogram.hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    push_number(&mut out, 14, hint);
    push_number(&mut out, 15, ms.cast_unsigned());
    push_doubles(&mut out, 16, bounds.iter().copied());
    out
}

/// Runs of neighbours as spans, each with the gap to the one before, and all counts.
fn push_buckets(out: &mut Vec<u8>, (spans, counts): (u32, u32), buckets: &[FloatBucket]) {
    let mut next = 0;
    for run in buckets.chunk_by(|one, other| i64::from(one.index) + 1 == i64::from(other.index)) {
        let Some(first) = run.first() else { continue };
        let gap = i32::try_from(i64::from(first.index) - next).unwrap_or(i32::MAX);
        next = i64::from(first.index) + run.len() as i64;
        let mut span = Vec::with_capacity(12);
        push_number(&mut span, 1, zigzag(gap));
        push_number(&mut span, 2, run.len() as u64);
        push_bytes(out, spans, &span);
    }
    push_doubles(out, counts, buckets.iter().map(|bucket| bucket.count));
}

/// A packed list, left out when it is empty.
fn push_doubles(out: &mut Vec<u8>, number: u32, values: impl ExactSizeIterator<Item = f64>) {
    if values.len() == 0 {
        return;
    }
    push_head(out, number, 8 * values.len());
    values.for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
}

/// A `sint32`.
fn zigzag(number: i32) -> u64 {
    u64::from(((number << 1) ^ (number >> 31)).cast_unsigned())
}
