//! The percentile sketch: a sparse exponential histogram of schema 6 with Prometheus' bucket boundaries.
//!
//! Bucket `i` holds values in `(2^((i-1)/64), 2^(i/64)]`; negative values are kept by their absolute value. Counts
//! add and subtract exactly, so a merge of any number of cells in any order is the histogram of all their values.
//! A quantile is the middle of its bucket, at most 0.5415 % away from the exact order statistic.
//!
//! Source: Prometheus native histograms (schema 6), OpenTelemetry exponential histograms (scale 6).

use std::sync::LazyLock;

/// Prometheus' schema number of these histograms: 2^6 buckets for each doubling.
pub const SCHEMA: i32 = 6;

/// Buckets for each doubling of the value.
const BUCKETS_PER_OCTAVE: i32 = 1 << SCHEMA;

/// Lower bounds of the buckets of one octave, scaled to `[0.5, 1)`.
static OCTAVE: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..BUCKETS_PER_OCTAVE).map(|k| 0.5 * (f64::from(k) / 64.0).exp2()).collect());

/// One bucket that is not empty. Twelve bytes in place of sixteen: a page of cells has tens of thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(4))]
pub struct Bucket {
    /// Index: the upper bound is `2^(index/64)`.
    pub index: i32,
    /// Number of values.
    pub count: u64,
}

/// A sparse exponential histogram. Buckets are sorted by index and none is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Values that are exactly zero.
    pub zero: u64,
    /// Values above zero.
    pub positive: Vec<Bucket>,
    /// Values below zero, by absolute value.
    pub negative: Vec<Bucket>,
}

/// A histogram that lies somewhere else, in a [`Histogram`] or a column of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistogramRef<'a> {
    /// Values that are exactly zero.
    pub zero: u64,
    /// Values above zero.
    pub positive: &'a [Bucket],
    /// Values below zero, by absolute value.
    pub negative: &'a [Bucket],
}

impl Histogram {
    /// The same, borrowed.
    pub fn view(&self) -> HistogramRef<'_> {
        HistogramRef { zero: self.zero, positive: &self.positive, negative: &self.negative }
    }

    /// Forgets all values but keeps the room they took.
    pub fn clear(&mut self) {
        self.zero = 0;
        self.positive.clear();
        self.negative.clear();
    }

    /// Counts one value. NaN is not counted; infinities fall into the bucket of the largest float.
    pub fn add(&mut self, value: f64) {
        if value == 0.0 {
            self.zero += 1;
        } else if value > 0.0 {
            add_to(&mut self.positive, bucket_index(value), 1);
        } else if value < 0.0 {
            add_to(&mut self.negative, bucket_index(-value), 1);
        }
    }

    /// Adds all counts of `other`. Linear in the number of buckets.
    pub fn merge(&mut self, other: &Self) {
        self.merge_view(other.view());
    }

    /// As [`merge`](Self::merge), of a histogram that lies somewhere else.
    pub fn merge_view(&mut self, other: HistogramRef<'_>) {
        self.zero += other.zero;
        merge_buckets(&mut self.positive, other.positive);
        merge_buckets(&mut self.negative, other.negative);
    }

    /// Number of values counted.
    pub fn count(&self) -> u64 {
        let buckets = self.positive.iter().chain(&self.negative);
        self.zero + buckets.map(|bucket| bucket.count).sum::<u64>()
    }

    /// The value of nearest rank `ceil(q * count)`, as the middle of its bucket; `None` when empty.
    ///
    /// Within 0.5415 % of the exact order statistic. Callers that know the smallest and largest value clamp to
    /// them. `q` is taken into `[0, 1]`.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // Nearest rank; the product is far below 2^53 for any count that memory can hold buckets for.
        let mut rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        for bucket in self.negative.iter().rev() {
            if rank <= bucket.count {
                return Some(-bucket_middle(bucket.index));
            }
            rank -= bucket.count;
        }
        if rank <= self.zero {
            return Some(0.0);
        }
        rank -= self.zero;
        for bucket in &self.positive {
            if rank <= bucket.count {
                return Some(bucket_middle(bucket.index));
            }
            rank -= bucket.count;
        }
        None
    }
}

/// Counts many values at once, in room that it uses again and again.
#[derive(Debug, Default)]
pub struct HistogramScratch {
    positive: Vec<i32>,
    negative: Vec<i32>,
    counts: Vec<u64>,
    histogram: Histogram,
}

impl HistogramScratch {
    /// The histogram of these values: the same as adding each, in far less time.
    pub fn count(&mut self, values: impl Iterator<Item = f64>) -> HistogramRef<'_> {
        let lookup: &Lookup = &LOOKUP;
        let Self { positive, negative, counts, histogram } = self;
        positive.clear();
        negative.clear();
        histogram.clear();
        for value in values {
            if value > 0.0 {
                positive.push(lookup.index(value));
            } else if value < 0.0 {
                negative.push(lookup.index(-value));
            } else if value == 0.0 {
                histogram.zero += 1;
            }
        }
        count_indices(positive, counts, &mut histogram.positive);
        count_indices(negative, counts, &mut histogram.negative);
        histogram.view()
    }
}

/// Index of the bucket that holds a value above zero.
pub fn bucket_index(value: f64) -> i32 {
    LOOKUP.index(value)
}

/// Number of low mantissa bits that [`Lookup`] does not look at first.
const SLOT_SHIFT: u32 = 52 - 7;
/// The mantissa bits of a float.
const MANTISSA_BITS: u64 = (1 << 52) - 1;

/// Finds a bucket from the seven top mantissa bits: a slot of 1/128 octave holds at most one bound, because bounds
/// are at least 0.0108 apart, so one comparison settles which side of it a value is on.
struct Lookup {
    slots: [Slot; 128],
}

/// What is known of the values that share their seven top mantissa bits.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// How many bounds of the octave are below the slot.
    below: i32,
    /// Mantissa of the next bound; values above it are one bucket further.
    bound: u64,
}

static LOOKUP: LazyLock<Lookup> = LazyLock::new(|| {
    let mut slots = [Slot::default(); 128];
    for (number, slot) in (0_u64..).zip(&mut slots) {
        let lowest = f64::from_bits((1022 << 52) | (number << SLOT_SHIFT));
        let below = OCTAVE.partition_point(|bound| *bound < lowest);
        slot.below = i32::try_from(below).unwrap_or(BUCKETS_PER_OCTAVE);
        slot.bound = OCTAVE.get(below).map_or(u64::MAX, |bound| bound.to_bits() & MANTISSA_BITS);
    }
    Lookup { slots }
});

impl Lookup {
    /// Index of the bucket that holds a value above zero.
    fn index(&self, value: f64) -> i32 {
        let bits = if value.is_normal() { value.to_bits() } else { return slow_bucket_index(value) };
        let slot = self.slots.get(((bits >> SLOT_SHIFT) & 127) as usize).copied().unwrap_or_default();
        let above = i32::from(slot.bound < bits & MANTISSA_BITS);
        // The sign bit of a value above zero is 0, so the shift leaves the exponent, at most 11 bits.
        ((bits >> 52) as i32 - 1023) * BUCKETS_PER_OCTAVE + slot.below + above
    }
}

/// As [`bucket_index`], for subnormal and infinite values too.
fn slow_bucket_index(value: f64) -> i32 {
    let value = value.min(f64::MAX);
    let (fraction, exponent) = split(value);
    let within = OCTAVE.partition_point(|bound| *bound < fraction);
    // At most 64 bounds.
    (exponent - 1) * BUCKETS_PER_OCTAVE + i32::try_from(within).unwrap_or(BUCKETS_PER_OCTAVE)
}

/// Appends the buckets of the indices of single values, which may be in any order.
fn count_indices(indices: &mut [i32], counts: &mut Vec<u64>, buckets: &mut Vec<Bucket>) {
    let (Some(least), Some(most)) = (indices.iter().min().copied(), indices.iter().max().copied()) else {
        return;
    };
    // Few indices are sorted faster than counted; so are many in a wide range (they span up to 140,000 buckets).
    let width = usize::try_from(most - least).unwrap_or(usize::MAX).saturating_add(1);
    if 20 < indices.len() && width <= 4 * indices.len() {
        counts.clear();
        counts.resize(width, 0);
        for index in indices {
            if let Some(count) = counts.get_mut((*index - least) as usize) {
                *count += 1;
            }
        }
        let filled = (least..).zip(counts.iter().copied()).filter(|(_, count)| *count != 0);
        buckets.extend(filled.map(|(index, count)| Bucket { index, count }));
        return;
    }
    indices.sort_unstable();
    let runs = indices.chunk_by(|left, right| left == right);
    buckets.extend(runs.filter_map(|run| Some(Bucket { index: *run.first()?, count: run.len() as u64 })));
}

/// Upper bound of a bucket, inclusive: `2^(index/64)`.
pub fn bucket_upper(index: i32) -> f64 {
    let octave = index.div_euclid(BUCKETS_PER_OCTAVE);
    let within = index.rem_euclid(BUCKETS_PER_OCTAVE);
    let fraction = OCTAVE.get(usize::try_from(within).unwrap_or(0)).copied().unwrap_or(0.5);
    // Two factors, because 2^1024 alone is not a float although fraction * 2^1024 can be.
    fraction * 2.0 * f64::from(octave).exp2()
}

/// The point of a bucket whose relative distance to both bounds is the same.
fn bucket_middle(index: i32) -> f64 {
    let (lower, upper) = (bucket_upper(index - 1), bucket_upper(index));
    if upper.is_infinite() { lower } else { lower * (upper / (lower + upper)) * 2.0 }
}

/// `value = fraction * 2^exponent` with the fraction in `[0.5, 1)`, for finite values above zero.
fn split(value: f64) -> (f64, i32) {
    const EXPONENT_BITS: u64 = 0x7ff << 52;
    let (value, shift) = if value < f64::MIN_POSITIVE { (value * 2f64.powi(64), 64) } else { (value, 0) };
    let bits = value.to_bits();
    let exponent = i32::try_from((bits & EXPONENT_BITS) >> 52).unwrap_or(0) - 1022 - shift;
    (f64::from_bits((bits & !EXPONENT_BITS) | (1022 << 52)), exponent)
}

fn add_to(buckets: &mut Vec<Bucket>, index: i32, count: u64) {
    let place = buckets.partition_point(|bucket| bucket.index < index);
    match buckets.get_mut(place) {
        Some(bucket) if bucket.index == index => bucket.count += count,
        _ => buckets.insert(place, Bucket { index, count }),
    }
}

/// Adds `from` to `into`, both sorted, in place and from the back. Which of the two heads is taken is settled by
/// arithmetic, not by a branch, because nothing can foresee it.
fn merge_buckets(into: &mut Vec<Bucket>, from: &[Bucket]) {
    if from.len() < 4 {
        for bucket in from {
            add_to(into, bucket.index, bucket.count);
        }
        return;
    }
    let (mut held, mut added) = (into.len(), from.len());
    let mut write = held + added;
    into.resize(write, Bucket { index: 0, count: 0 });
    // There is always room: `held + added <= write`, because each turn takes one or two and writes one.
    while 0 < held && 0 < added {
        let (Some(left), Some(right)) = (into.get(held - 1).copied(), from.get(added - 1)) else { break };
        let index = left.index.max(right.index);
        let (takes_left, takes_right) = (left.index == index, right.index == index);
        let count = left.count * u64::from(takes_left) + right.count * u64::from(takes_right);
        held -= usize::from(takes_left);
        added -= usize::from(takes_right);
        write -= 1;
        if let Some(place) = into.get_mut(write) {
            *place = Bucket { index, count };
        }
    }
    if let (Some(rest), Some(places)) = (from.get(..added), into.get_mut(write - added..write)) {
        places.copy_from_slice(rest);
    }
    into.drain(held..write - added);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bucket_index_bounds_are_upper_inclusive() {
        for index in [-70_000, -6400, -65, -64, -1, 0, 1, 63, 64, 65, 6400, 65_000] {
            let upper = bucket_upper(index);
            if upper.is_normal() {
                assert_eq!(bucket_index(upper), index, "upper bound of {index}");
                assert_eq!(bucket_index(upper.next_up()), index + 1, "just above the bound of {index}");
            }
        }
        assert_eq!(bucket_index(1.0), 0);
        assert_eq!(bucket_index(f64::MAX), 65_536);
        assert_eq!(bucket_index(f64::from_bits(1)), -1074 * 64);
    }

    #[test]
    fn quantile_of_any_rank_is_close() {
        let values: Vec<f64> = (1..=1000).map(|k| f64::from(k) * 0.37 - 100.0).collect();
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.add(*value));
        for rank in 1..=1000 {
            let exact = values[rank - 1];
            let found = histogram.quantile(rank as f64 / 1000.0).unwrap();
            assert!((found - exact).abs() <= exact.abs() * 0.005_416, "rank {rank}: {found} for {exact}");
        }
    }

    #[test]
    fn merge_equals_adding_one_by_one() {
        let (mut left, mut right, mut both) =
            (Histogram::default(), Histogram::default(), Histogram::default());
        for k in 0..300 {
            let value = (f64::from(k) - 150.0) * 1.7;
            if k % 3 == 0 {
                left.add(value)
            } else {
                right.add(value)
            }
            both.add(value);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }

    #[test]
    fn bucket_index_by_lookup_equals_search() {
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = f64::from_bits(bits & (u64::MAX >> 1));
            if !value.is_nan() && value > 0.0 {
                assert_eq!(bucket_index(value), slow_bucket_index(value), "{value:e}");
            }
        }
        for index in -128..128 {
            let upper = bucket_upper(index);
            for value in [upper.next_down(), upper, upper.next_up()] {
                assert_eq!(bucket_index(value), slow_bucket_index(value), "{value:e}");
            }
        }
        assert_eq!(bucket_index(f64::INFINITY), 65_536);
    }

    fn add_each(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.add(*value));
        histogram
    }

    fn any_values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            4 => -50.0..50.0,
            2 => (0..20).prop_map(f64::from),
            1 => any::<f64>(),
            1 => Just(0.0),
        ];
        proptest::collection::vec(value, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn histogram_of_many_equals_adding_each(values in any_values()) {
            let mut scratch = HistogramScratch::default();
            scratch.count([3.0, -4.0, 0.0].into_iter());
            let each = add_each(&values);
            prop_assert_eq!(scratch.count(values.iter().copied()), each.view());
        }

        #[test]
        fn histogram_merge_equals_adding_each(left in any_values(), right in any_values()) {
            let mut merged = add_each(&left);
            merged.merge(&add_each(&right));
            prop_assert_eq!(merged, add_each(&[left, right].concat()));
        }
    }
}
