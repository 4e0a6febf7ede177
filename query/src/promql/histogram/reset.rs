//! Whether a histogram that counts began anew since the one before it.

use icecore_storage::model::native::{BucketLayout, FloatBucket, ResetHint};

use super::HistogramValue;
use super::bounds::{coarser_index, reconciled_index, shared_bounds};

impl HistogramValue {
    /// Whether counting began anew between an earlier histogram and this one: its hint says so, or some count went
    /// down, or the buckets became finer, which only a restart does.
    pub fn is_reset_after(&self, earlier: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < earlier.count {
            return true;
        }
        match (&self.layout, &earlier.layout) {
            (BucketLayout::Custom { bounds }, BucketLayout::Custom { bounds: before }) => {
                let shared = shared_bounds(bounds, before);
                let at = |bounds: &[f64], buckets: &[FloatBucket]| {
                    joined(buckets.iter().map(|b| (reconciled_index(b.index, bounds, &shared), b.count)))
                };
                has_less(&at(bounds, &self.positive), &at(before, &earlier.positive))
            }
            (
                BucketLayout::Exponential { schema, zero_threshold },
                BucketLayout::Exponential { schema: before, zero_threshold: threshold_before },
            ) => {
                *before < *schema
                    || zero_threshold < threshold_before
                    || self.has_less_than(earlier, (*schema, *before), *zero_threshold)
            }
            _ => true,
        }
    }

    /// Compares counts at this histogram's schema and zero bucket, both of which are no finer than the earlier ones.
    fn has_less_than(&self, earlier: &Self, (schema, before): (i32, i32), threshold: f64) -> bool {
        let mut zeros = earlier.zero_count;
        let mut sides = Vec::with_capacity(2);
        for buckets in [&earlier.positive, &earlier.negative] {
            let mut far = Vec::with_capacity(buckets.len());
            for bucket in buckets {
                let interval = earlier.interval(bucket);
                if interval.lower < threshold && threshold < interval.upper && earlier.layout != self.layout {
                    // The wider zero bucket cuts a bucket that had values: nobody widens it so.
                    return true;
                }
                if interval.upper <= threshold {
                    zeros += bucket.count;
                } else {
                    far.push((coarser_index(bucket.index, before, schema), bucket.count));
                }
            }
            sides.push(joined(far.into_iter()));
        }
        let own = |buckets: &[FloatBucket]| joined(buckets.iter().map(|b| (b.index, b.count)));
        self.zero_count < zeros
            || [own(&self.positive), own(&self.negative)]
                .iter()
                .zip(&sides)
                .any(|(own, side)| has_less(own, side))
    }
}

/// Joins the counts of equal indices that follow each other.
fn joined(buckets: impl Iterator<Item = (i32, f64)>) -> Vec<(i32, f64)> {
    let mut joined: Vec<(i32, f64)> = Vec::new();
    for (index, count) in buckets {
        match joined.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => joined.push((index, count)),
        }
    }
    joined
}

/// Whether some bucket has less than it had before.
fn has_less(now: &[(i32, f64)], before: &[(i32, f64)]) -> bool {
    before.iter().any(|(index, count)| {
        let place = now.binary_search_by_key(index, |(other, _)| *other).ok();
        place.and_then(|place| now.get(place)).map_or(0.0, |(_, now)| *now) < *count
    })
}
