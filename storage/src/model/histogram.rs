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

/// One bucket that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Histogram {
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
        self.zero += other.zero;
        merge_buckets(&mut self.positive, &other.positive);
        merge_buckets(&mut self.negative, &other.negative);
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

/// Index of the bucket that holds a value above zero.
pub fn bucket_index(value: f64) -> i32 {
    let value = value.min(f64::MAX);
    let (fraction, exponent) = split(value);
    let within = OCTAVE.partition_point(|bound| *bound < fraction);
    // At most 64 bounds.
    (exponent - 1) * BUCKETS_PER_OCTAVE + i32::try_from(within).unwrap_or(BUCKETS_PER_OCTAVE)
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

fn merge_buckets(into: &mut Vec<Bucket>, from: &[Bucket]) {
    if from.len() < 4 {
        for bucket in from {
            add_to(into, bucket.index, bucket.count);
        }
        return;
    }
    let old = std::mem::take(into);
    into.reserve(old.len() + from.len());
    let (mut left, mut right) = (old.iter().peekable(), from.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        match a.index.cmp(&b.index) {
            std::cmp::Ordering::Less => into.extend(left.next()),
            std::cmp::Ordering::Greater => into.extend(right.next()),
            std::cmp::Ordering::Equal => {
                into.push(Bucket { index: a.index, count: a.count + b.count });
                left.next();
                right.next();
            }
        }
    }
    into.extend(left);
    into.extend(right);
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
