//! Cutting off the values on one side of a bound: the operators `</` and `>/`.
//!
//! Buckets that are cut count in part. The sum is not that of the values any more: when anything was cut off, it is
//! the middle of each bucket that is left, times its count, as Prometheus has it.

use icecore_storage::model::native::FloatBucket;

use super::HistogramValue;
use super::bounds::{Closed, Interval};
use super::rank::geometric;

/// Which values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those up to the bound (`</`).
    Below,
    /// Those above the bound (`>/`).
    Above,
}

/// What is kept of a bucket: its share, and where it lies then.
struct Kept {
    share: f64,
    lower: f64,
    upper: f64,
}

impl Kept {
    const NOTHING: Self = Self { share: 0.0, lower: 0.0, upper: 0.0 };
}

impl HistogramValue {
    /// The histogram of the values on one side of a bound.
    #[must_use]
    pub fn trimmed(&self, side: Side, bound: f64) -> Self {
        let mut trimmed =
            Self { positive: Vec::new(), negative: Vec::new(), zero_count: 0.0, ..self.clone() };
        let (mut count, mut sum, mut is_cut) = (0.0, 0.0, false);
        let mut keep = |bucket: Interval| {
            let kept = self.kept(bucket, side, bound);
            let left = bucket.count * kept.share;
            is_cut |= kept.share != 1.0;
            count += left;
            if left != 0.0 {
                sum += left * self.middle_of(&bucket, &kept);
            }
            left
        };
        for bucket in self.negative.iter().rev() {
            let left = keep(self.interval(bucket).mirrored());
            trimmed.negative.push(FloatBucket { count: left, ..*bucket });
        }
        trimmed.zero_count = self.zero_interval().map_or(0.0, &mut keep);
        for bucket in &self.positive {
            let left = keep(self.interval(bucket));
            trimmed.positive.push(FloatBucket { count: left, ..*bucket });
        }
        if !is_cut {
            return self.clone();
        }
        trimmed.negative.reverse();
        trimmed.negative.retain(|bucket| bucket.count != 0.0);
        trimmed.positive.retain(|bucket| bucket.count != 0.0);
        (trimmed.count, trimmed.sum) = (count, sum);
        match side {
            Side::Below => trimmed.max = trimmed.max.map(|max| max.min(bound)),
            Side::Above => trimmed.min = trimmed.min.map(|min| min.max(bound)),
        }
        trimmed
    }

    fn kept(&self, bucket: Interval, side: Side, bound: f64) -> Kept {
        let told = self.told(bucket);
        let whole = Kept { share: 1.0, lower: told.lower, upper: told.upper };
        let is_endless = bucket.lower == f64::NEG_INFINITY;
        match side {
            Side::Below if told.upper <= bound => whole,
            Side::Below if bound <= told.lower => Kept::NOTHING,
            Side::Below if is_endless && told.lower == f64::NEG_INFINITY && bucket.upper < f64::INFINITY => {
                Kept { upper: bound, ..whole }
            }
            Side::Below if bound < told.upper && told.upper < f64::INFINITY => {
                Kept { share: self.share_below(&told, bound), upper: bound, ..whole }
            }
            Side::Below => Kept::NOTHING,
            Side::Above if told.upper <= bound => Kept::NOTHING,
            Side::Above if bound <= bucket.lower => whole,
            // Where a bucket without lower end begins is not known, so below zero it is gone as a whole.
            Side::Above
                if is_endless && (bound < 0.0 || bucket.upper <= 0.0 || bucket.upper == f64::INFINITY) =>
            {
                Kept::NOTHING
            }
            Side::Above if bound <= told.lower => whole,
            Side::Above if bound < told.upper => {
                Kept { share: 1.0 - self.share_below(&told, bound), lower: bound, ..whole }
            }
            Side::Above => Kept::NOTHING,
        }
    }

    /// Where the values of what is left of a bucket are taken to be.
    fn middle_of(&self, bucket: &Interval, kept: &Kept) -> f64 {
        let Kept { lower, upper, .. } = *kept;
        match bucket.closed {
            _ if lower == f64::NEG_INFINITY && upper == f64::INFINITY => 0.0,
            _ if lower == f64::NEG_INFINITY => upper,
            _ if upper == f64::INFINITY => lower,
            _ if self.is_custom() => f64::midpoint(lower, upper),
            Closed::Both => f64::midpoint(lower, upper),
            Closed::Upper => geometric(lower, upper),
            Closed::Lower => -geometric(lower, upper),
        }
    }
}
