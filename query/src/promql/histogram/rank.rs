//! What a histogram says of its values: quantiles, shares, spread.

use super::HistogramValue;
use super::bounds::{Closed, Interval};

/// What has to be said of a quantile of a histogram that counted NaN, which is in its count and in no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Nothing: it counted numbers alone.
    Numbers,
    /// NaN counts as the largest value: the quantile is higher than that of the numbers.
    NanBeyond,
    /// The quantile is among the NaN.
    NanOnly,
}

impl HistogramValue {
    /// The quantile: of nearest rank for histograms of cells, else interpolated, by the logarithm where buckets are
    /// exponential. Within the smallest and largest value known. NaN when empty, infinite outside `[0, 1]`.
    pub fn quantile(&self, q: f64) -> (f64, Observed) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, Observed::Numbers);
        }
        if q > 1.0 {
            return (f64::INFINITY, Observed::Numbers);
        }
        if q.is_nan() || self.count == 0.0 {
            return (f64::NAN, Observed::Numbers);
        }
        if self.is_of_cells {
            return (self.clamped(self.nearest(q)), Observed::Numbers);
        }
        let (found, observed) = self.interpolated(q);
        (self.clamped(found), observed)
    }

    /// The middle of the bucket that holds the value of nearest rank: at most 0.5415 % away from it.
    fn nearest(&self, q: f64) -> f64 {
        let total: f64 = self.counts().sum();
        // Counts of rates are not whole; the slack makes a rank that should be reached exactly reached.
        let rank = q * total * (1.0 - 1e-13);
        let (mut seen, mut found) = (0.0, 0);
        for (place, count) in self.counts().enumerate() {
            seen += count;
            found = place;
            if count > 0.0 && seen >= rank {
                break;
            }
        }
        self.interval_at(found).map_or(f64::NAN, |bucket| middle(bucket.lower, bucket.upper))
    }

    fn interpolated(&self, q: f64) -> (f64, Observed) {
        // NaN is in no bucket, so only from below can ranks be told.
        let is_from_below = self.sum.is_nan() || q < 0.5;
        let rank = if is_from_below { q * self.count } else { (1.0 - q) * self.count };
        let (found, seen) = match is_from_below {
            true => reach(self.intervals(), rank),
            false => reach(self.intervals().rev(), rank),
        };
        let Some(bucket) = found else {
            let observed = if self.sum.is_nan() { Observed::NanOnly } else { Observed::Numbers };
            return (f64::NAN, observed);
        };
        let seen = if seen > self.count { self.count } else { seen };
        if seen < rank && self.sum.is_nan() {
            return (f64::NAN, Observed::NanOnly);
        }
        let observed = if self.sum.is_nan() { Observed::NanBeyond } else { Observed::Numbers };
        if seen < rank {
            return (bucket.upper, observed);
        }
        let rank = if is_from_below { rank - (seen - bucket.count) } else { seen - rank };
        (self.within(bucket, rank / bucket.count), observed)
    }

    /// The value so far into a bucket.
    fn within(&self, bucket: Interval, share: f64) -> f64 {
        let linear = |lower: f64, upper: f64| lower + (upper - lower) * share;
        if self.is_custom() {
            // Values of the first bucket are taken to begin at zero; buckets without end cannot be cut.
            return match (bucket.lower == f64::NEG_INFINITY, bucket.upper == f64::INFINITY) {
                (true, _) if bucket.upper <= 0.0 => bucket.upper,
                (true, false) => linear(0.0, bucket.upper),
                (true, true) => 0.0,
                (false, true) => bucket.lower,
                (false, false) => linear(bucket.lower, bucket.upper),
            };
        }
        if bucket.closed == Closed::Both {
            let zero = self.narrowed_zero(bucket);
            return linear(zero.lower, zero.upper);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let size = (lower + (upper - lower) * share).exp2();
        if bucket.lower >= 0.0 { size } else { -size }
    }

    /// Share of the values in `(lower, upper]`; a bucket cut by a bound counts in part. NaN is in the count and in no
    /// range.
    pub fn fraction(&self, lower: f64, upper: f64) -> f64 {
        if lower.is_nan() || upper.is_nan() || self.count == 0.0 {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        if self.is_of_cells {
            let inside: f64 = self.intervals().map(|b| b.count * share(b.lower, b.upper, lower, upper)).sum();
            // Rounding of fractional counts must not give more than all.
            return (inside / self.count).min(1.0);
        }
        let seen: f64 = self.intervals().map(|bucket| bucket.count).sum();
        let most = if self.sum.is_nan() { seen } else { self.count };
        let at = |bound: f64| self.rank_of(bound).filter(|rank| *rank <= self.count).unwrap_or(most);
        (at(upper) - at(lower)) / self.count
    }

    /// How many values lie below a bound; `None` when all do.
    fn rank_of(&self, bound: f64) -> Option<f64> {
        let mut rank = 0.0;
        for bucket in self.intervals() {
            let bucket = self.told(bucket);
            if bound <= bucket.lower {
                return Some(rank);
            }
            if bound < bucket.upper {
                return Some(rank + bucket.count * self.share_below(&bucket, bound));
            }
            rank += bucket.count;
        }
        None
    }

    /// A bucket without the part in which no values are taken to be.
    pub(super) fn told(&self, bucket: Interval) -> Interval {
        if bucket.closed == Closed::Both {
            return self.narrowed_zero(bucket);
        }
        if self.is_custom() && bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 {
            return Interval { lower: 0.0, ..bucket };
        }
        bucket
    }

    /// Which share of a bucket lies below a value inside it. Of buckets without end the lowest counts whole, the
    /// highest not at all.
    pub(super) fn share_below(&self, bucket: &Interval, value: f64) -> f64 {
        if bucket.lower == f64::NEG_INFINITY {
            1.0
        } else if bucket.upper == f64::INFINITY {
            0.0
        } else if self.is_custom() || bucket.closed == Closed::Both {
            bucket.linear_share(value)
        } else {
            bucket.exponential_share(value)
        }
    }

    /// The variance, every value taken for the middle of its bucket. NaN when empty.
    pub fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let squares = self.intervals().map(|bucket| {
            let value = match bucket.closed {
                _ if self.is_custom() => f64::midpoint(bucket.lower, bucket.upper),
                Closed::Both => 0.0,
                Closed::Upper => geometric(bucket.lower, bucket.upper),
                Closed::Lower => -geometric(bucket.lower, bucket.upper),
            };
            bucket.count * (value - mean) * (value - mean)
        });
        squares.sum::<f64>() / self.count
    }
}

/// The geometric mean of two bounds on one side of zero, without its sign.
pub(super) fn geometric(lower: f64, upper: f64) -> f64 {
    // Each root by itself: the product may overflow.
    lower.abs().sqrt() * upper.abs().sqrt()
}

/// The first bucket by which a rank is reached, or the last one; and the values up to its end.
fn reach(buckets: impl Iterator<Item = Interval>, rank: f64) -> (Option<Interval>, f64) {
    let (mut found, mut seen) = (None, 0.0);
    for bucket in buckets {
        seen += bucket.count;
        found = Some(bucket);
        if seen >= rank {
            break;
        }
    }
    (found, seen)
}

/// The point whose relative distance to both bounds is the same.
fn middle(lower: f64, upper: f64) -> f64 {
    let sum = lower + upper;
    if sum == 0.0 {
        return 0.0;
    }
    if sum.is_infinite() {
        return if lower.is_infinite() { upper } else { lower };
    }
    2.0 * lower * (upper / sum)
}

/// Which share of a bucket `(from, to]` lies in `(lower, upper]`.
fn share(from: f64, to: f64, lower: f64, upper: f64) -> f64 {
    if from == 0.0 && to == 0.0 {
        return if lower < 0.0 && 0.0 <= upper { 1.0 } else { 0.0 };
    }
    let (start, end) = (from.max(lower), to.min(upper));
    if start >= end {
        return 0.0;
    }
    ((end.abs().log2() - start.abs().log2()) / (to.abs().log2() - from.abs().log2())).clamp(0.0, 1.0)
}
