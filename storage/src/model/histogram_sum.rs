//! The sum of very many histograms: a count for each bucket between the first and the last, so that adding one costs no
//! more than its own buckets. Of few histograms, and where buckets lie far apart, it is kept as a [`Histogram`] is.

use super::histogram::{Bucket, bucket_index};
use super::{Histogram, HistogramRef};

/// So many histograms are added the plain way before room is made for a count of each bucket.
const PLAIN_MAX: u32 = 8;
/// So many values wait as the numbers of their buckets before room is made for a count of each.
const WAITING_MAX: usize = 256;
/// Room for the first of them.
const WAITING_FIRST: usize = 16;
/// The most buckets from the first to the last that have a place of their own: 128 octaves, 64 KiB.
const WIDTH_MAX: i32 = 128 * 64;
/// Room is made for so many buckets at once, half an octave.
const STEP: i32 = 32;

/// A histogram that others are added to.
#[derive(Debug, Default)]
pub struct HistogramSum {
    /// What is not in the counts nor waits, and the zeros.
    plain: Histogram,
    /// Histograms that were added the plain way.
    added: u32,
    /// Buckets of positive values, one for each value; none where there are counts.
    waiting: Vec<i32>,
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
        let (mut low, mut high) = (low.div_euclid(STEP) * STEP, (high.div_euclid(STEP) + 1) * STEP);
        let fits = |low: i32, high: i32| high.checked_sub(low).is_some_and(|width| width <= WIDTH_MAX);
        if !self.counts.is_empty() {
            (low, high) = (low.min(self.first), high.max(last));
            // As much again on the side that grows, so that counts which grow often are seldom moved.
            let more = last - self.first;
            let lower = if low < self.first { low.min(self.first.saturating_sub(more)) } else { low };
            let higher = if last < high { high.max(last.saturating_add(more)) } else { high };
            if fits(lower, higher) {
                (low, high) = (lower, higher);
            }
        }
        if !fits(low, high) {
            return false;
        }
        // Both are not negative.
        let (before, width) = ((self.first - low).max(0) as usize, (high - low) as usize);
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
        counts
            + self.waiting.capacity() * size_of::<i32>()
            + size_of_val(&*self.plain.positive)
            + size_of_val(&*self.plain.negative)
    }

    /// Adds one value. NaN is not counted.
    pub fn add_value(&mut self, value: f64) {
        if value > 0.0 {
            self.add_positive(bucket_index(value));
        } else if value < 0.0 {
            let negative = [Bucket { index: bucket_index(-value), count: 1 }];
            self.add(HistogramRef { zero: 0, positive: &[], negative: &negative });
        } else if value == 0.0 {
            self.plain.zero += 1;
        }
    }

    /// Adds one value by its bucket.
    fn add_positive(&mut self, index: i32) {
        match self.counts.as_deref_mut() {
            Some([positive, _]) => {
                let bucket = [Bucket { index, count: 1 }];
                if !positive.add(&bucket) {
                    self.plain.merge_view(HistogramRef { zero: 0, positive: &bucket, negative: &[] });
                }
            }
            None => {
                if self.waiting.is_empty() {
                    self.waiting.reserve(WAITING_FIRST);
                }
                self.waiting.push(index);
                if WAITING_MAX <= self.waiting.len() {
                    self.make_counts();
                }
            }
        }
    }

    /// Adds a histogram. Linear in its buckets once some were added.
    pub fn add(&mut self, other: HistogramRef<'_>) {
        self.plain.zero += other.zero;
        let rest = HistogramRef { zero: 0, ..other };
        if rest.positive.is_empty() && rest.negative.is_empty() {
            return;
        }
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
            self.make_counts();
        }
    }

    fn make_counts(&mut self) {
        let (counts, plain) = (self.counts.insert(Box::default()), std::mem::take(&mut self.plain));
        let [positive, negative] = &mut **counts;
        self.plain.zero = plain.zero;
        if !positive.add(&plain.positive) {
            self.plain.positive = plain.positive;
        }
        if !negative.add(&plain.negative) {
            self.plain.negative = plain.negative;
        }
        std::mem::take(&mut self.waiting).into_iter().for_each(|index| self.add_positive(index));
    }

    /// Adds what another one holds.
    pub fn merge(&mut self, mut other: Self) {
        std::mem::take(&mut other.waiting).into_iter().for_each(|index| self.add_positive(index));
        self.add(other.finish().view());
    }

    /// The sum.
    pub fn finish(self) -> Histogram {
        let (mut sum, mut waiting) = (self.plain, self.waiting);
        waiting.sort_unstable();
        let buckets = waiting.chunk_by(|one, next| one == next);
        let bucket = |same: &[i32]| Some(Bucket { index: *same.first()?, count: same.len() as u64 });
        let mut positive = Vec::with_capacity(waiting.len());
        positive.extend(buckets.filter_map(bucket));
        add_buckets(&mut sum, [positive, Vec::new()]);
        if let Some([positive, negative]) = self.counts.as_deref() {
            add_buckets(&mut sum, [positive.buckets().collect(), negative.buckets().collect()]);
        }
        sum
    }
}

/// Adds the buckets of both sides; those of an empty sum are taken as they are.
fn add_buckets(sum: &mut Histogram, [positive, negative]: [Vec<Bucket>; 2]) {
    if sum.positive.is_empty() && sum.negative.is_empty() {
        (sum.positive, sum.negative) = (positive, negative);
    } else {
        sum.merge_view(HistogramRef { zero: 0, positive: &positive, negative: &negative });
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
            added in proptest::collection::vec((any::<bool>(), values()), 0..120),
            cut in 0_usize..120,
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
