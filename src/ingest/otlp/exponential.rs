//! Exponential histograms as Prometheus' native ones: bucket `i` of OTLP is `i + 1` there, and what is finer than schema 8
//! is made coarser by joining neighbours.
//!
//! Source: "OpenTelemetry, Prometheus and OpenMetrics compatibility", exponential histograms.

use icecore_storage::model::native::{SCHEMA_MAX, SCHEMA_MIN};
use icecore_storage::model::{BucketLayout, FloatBucket, NativeHistogram, ResetHint};

use super::message::{Point, read_counts};
use crate::ingest::protobuf::Malformed;
use crate::ingest::remote::histogram::BUCKETS_MAX;

/// Prometheus' threshold of the zero bucket where none is given.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The histogram of a point, or why it is none.
pub(super) fn native(point: &Point<'_>) -> Result<Result<NativeHistogram, String>, Malformed> {
    let found = point.exponential()?;
    if found.scale < SCHEMA_MIN {
        return Ok(Err(format!("an exponential histogram of scale {}, below {SCHEMA_MIN}", found.scale)));
    }
    let schema = found.scale.min(SCHEMA_MAX);
    let shift = found.scale.abs_diff(schema);
    let (positive, negative) = match (side(found.positive, shift)?, side(found.negative, shift)?) {
        (Ok(positive), Ok(negative)) => (positive, negative),
        (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
    };
    let zero_threshold = if found.zero_threshold == 0.0 { ZERO_THRESHOLD } else { found.zero_threshold };
    let histogram = NativeHistogram {
        layout: BucketLayout::Exponential { schema, zero_threshold },
        hint: ResetHint::Unknown,
        count: point.count as f64,
        sum: point.sum.unwrap_or_default(),
        zero_count: found.zero_count as f64,
        positive,
        negative,
    };
    Ok(histogram.check().map(|()| histogram).map_err(|error| error.to_string()))
}

/// The buckets of one side that have a count, `2^shift` of them in one.
fn side(message: &[u8], shift: u32) -> Result<Result<Vec<FloatBucket>, String>, Malformed> {
    let (offset, counts) = read_counts(message, BUCKETS_MAX + 1)?;
    if BUCKETS_MAX < counts.len() {
        return Ok(Err(format!("an exponential histogram of more than {BUCKETS_MAX} buckets")));
    }
    let mut buckets: Vec<FloatBucket> = Vec::with_capacity(counts.len());
    for (index, count) in (i64::from(offset)..).zip(counts).filter(|(_, count)| *count != 0) {
        let Ok(index) = i32::try_from((index >> shift.min(63)) + 1) else {
            return Ok(Err(format!("an exponential histogram with a bucket of index {index}")));
        };
        match buckets.last_mut().filter(|last| last.index == index) {
            Some(last) => last.count += count as f64,
            None => buckets.push(FloatBucket { index, count: count as f64 }),
        }
    }
    Ok(Ok(buckets))
}
