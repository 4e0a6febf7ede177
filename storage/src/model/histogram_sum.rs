//! The sum of very many histograms: a count for each bucket between the first and the last, so that adding one costs no
//! more than its own buckets. Of few histograms, and where buckets lie far apart, it is kept as a [`Histogram`] is.

use super::histogram::{Bucket, bucket_index};
use super::{Histogram, HistogramRef};

/// So many are added the plain way before room is made for a count of each bucket.
const PLAIN_MAX: u32 = 8;
/// The most buckets from the first to the last that have a place of their own: 128 octaves, 64 KiB.
const WIDTH_MAX: i32 = 128 * 64;
/// Room is made for so many buckets at once, half an octave.
const STEP: i32 = 32;

/// A histogram that others are added to.
#[derive(Debug, Default)]
pub struct HistogramSum {
    /// What is not in the counts, and the zeros.
    plain: Histogram,
    /// Values and histograms that were added the plain way.
    added: u32,
    counts: Option<Box<[Counts; 2]>>,
}

/// Counts of neighbouring buckets of one side.
#[derive(Debug, Default)]
struct Counts {
    /// Index of the first one.
    first: i32,
    counts: Vec<u64>,
}

impl Counts {
    fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
    }

    /// Makes room for the buckets from `low` to `high`; `false` when that would be too much.
    fn reserve(&mut self, low: i32, high: i32) -> bool {
        let last = self.first.saturating_add(i32::try_from(self.counts.len()).unwrap_or(i32::MAX));
        if !self.counts.is_empty() && self.first <= low && high < last {
            return true;
        }
        let (low, high) = (low.div_euclid(STEP) * STEP, (high.div_euclid(STEP) + 1) * STEP);
        let (low, high) =
            if self.counts.is_empty() { (low, high) } else { (low.min(self.first), high.max(last)) };
        let Some(width) = high.checked_sub(low).filter(|width| *width <= WIDTH_MAX) else { return false };
        // Both are not negative.
        let (before, width) = ((self.first - low).max(0) as usize, width as usize);
        if !self.counts.is_empty() && before != 0 {
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
        }
        self.counts.resize(width, 0);
        self.first = low;
        true
    }

    /// Adds buckets, ascending; `false`, and nothing is added, when they are too far from the others.
    fn add(&mut self, buckets: &[Bucket]) -> bool {
        let (Some(low), Some(high)) = (buckets.first(), buckets.last()) else { return true };
        if !self.reserve(low.index, high.index) {
            return false;
        }
        for bucket in buckets {
            if let Some(count) = self.counts.get_mut(bucket.index.wrapping_sub(self.first) as usize) {
                *count += bucket.count;
            }
        }
        true
    }

    fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let filled = (self.first..).zip(&self.counts).filter(|(_, count)| **count != 0);
        filled.map(|(index, count)| Bucket { index, count: *count })
    }
}

impl HistogramSum {
    /// Bytes of memory that it takes beside itself.
    pub fn bytes(&self) -> usize {
        let counts = self.counts.as_ref().map_or(0, |counts| counts.iter().map(Counts::bytes).sum());
        counts + size_of_val(&*self.plain.positive) + size_of_val(&*self.plain.negative)
    }

    /// Adds one value. NaN is not counted.
    pub fn add_value(&mut self, value: f64) {
        if value == 0.0 {
            self.plain.zero += 1;
        } else if !value.is_nan() {
            let bucket = [Bucket { index: bucket_index(value.abs()), count: 1 }];
            let (positive, negative) =
                if value > 0.0 { (&bucket[..], &[][..]) } else { (&[][..], &bucket[..]) };
            self.add(HistogramRef { zero: 0, positive, negative });
        }
    }

    /// Adds a histogram. Linear in its buckets once some were added.
    pub fn add(&mut self, other: HistogramRef<'_>) {
        self.plain.zero += other.zero;
        let rest = HistogramRef { zero: 0, ..other };
        let Some([positive, negative]) = self.counts.as_deref_mut() else { return self.add_plain(rest) };
        let positive = if positive.add(rest.positive) { &[] } else { rest.positive };
        let negative = if negative.add(rest.negative) { &[] } else { rest.negative };
        if !positive.is_empty() || !negative.is_empty() {
            self.plain.merge_view(HistogramRef { zero: 0, positive, negative });
        }
    }

    fn add_plain(&mut self, other: HistogramRef<'_>) {
        self.plain.merge_view(other);
        self.added += 1;
        if PLAIN_MAX < self.added {
            let (counts, plain) = (self.counts.insert(Box::default()), std::mem::take(&mut self.plain));
            let [positive, negative] = &mut **counts;
            self.plain.zero = plain.zero;
            if !positive.add(&plain.positive) {
                self.plain.positive = plain.positive;
            }
            if !negative.add(&plain.negative) {
                self.plain.negative = plain.negative;
            }
        }
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, other: Self) {
        self.add(other.finish().view());
    }

    /// The sum.
    pub fn finish(self) -> Histogram {
        let mut sum = self.plain;
        if let Some([positive, negative]) = self.counts.as_deref() {
            let sides = (positive.buckets().collect::<Vec<_>>(), negative.buckets().collect::<Vec<_>>());
            sum.merge_view(HistogramRef { zero: 0, positive: &sides.0, negative: &sides.1 });
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let near = (-5_i32..1000).prop_map(|value| f64::from(value) / 7.0);
        let any = prop_oneof![8 => near, 1 => -1e300..1e300, 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(1e-300)];
        proptest::collection::vec(any, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn sum_equals_the_histogram_of_all_values(
            added in proptest::collection::vec((any::<bool>(), values()), 0..40),
            cut in 0_usize..40,
        ) {
            let (mut sum, mut other, mut whole) = (HistogramSum::default(), HistogramSum::default(), Histogram::default());
            for (at, (one_by_one, values)) in added.iter().enumerate() {
                let into = if at < cut { &mut sum } else { &mut other };
                let mut histogram = Histogram::default();
                for value in values {
                    whole.add(*value);
                    histogram.add(*value);
                    if *one_by_one {
                        into.add_value(*value);
                    }
                }
                if !one_by_one {
                    into.add(histogram.view());
                }
            }
            sum.merge(other);
            prop_assert_eq!(sum.finish(), whole);
        }
    }
}
