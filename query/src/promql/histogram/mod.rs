//! Native histograms as values: what PromQL adds, scales, compares and asks for quantiles.
//!
//! Read in this order: this file (the value and its buckets), `bounds` (where buckets lie), `combine` (sums,
//! differences and means), `reset` (whether a counter began anew), `rank` (quantiles, shares, deviation), `trim`
//! (cutting off one side), `text` (as a text). Knows nothing of series, times and remarks.
//!
//! Buckets are sparse: none is empty, they ascend by index. Histograms of cells know their smallest and largest value,
//! and every value asked of them lies between; their quantiles are of nearest rank (decision 0002), those of all other
//! histograms are interpolated as Prometheus does.

mod bounds;
mod combine;
mod rank;
mod reset;
mod text;
mod trim;

#[cfg(test)]
mod tests;

use icecore_storage::model::histogram::{Bucket, SCHEMA};
use icecore_storage::model::native::{BucketLayout, FloatBucket, NativeHistogram, ResetHint};
use icecore_storage::model::{Histogram, Numbers};

pub use bounds::{Closed, Interval};
use bounds::{custom_bounds, exponential_upper};
pub use combine::Combined;
pub use rank::Observed;
pub use trim::Side;

/// A native histogram with float counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramValue {
    /// Where the bounds of buckets are.
    pub layout: BucketLayout,
    /// What is known of the one before in its series.
    pub hint: ResetHint,
    /// Number of values, NaN among them.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Number of values in the zero bucket.
    pub zero_count: f64,
    /// Buckets above zero, or all of a custom layout, by index; none is empty.
    pub positive: Vec<FloatBucket>,
    /// Buckets below zero, by index of the absolute value; none is empty.
    pub negative: Vec<FloatBucket>,
    /// The smallest value, where known.
    pub min: Option<f64>,
    /// The largest value, where known.
    pub max: Option<f64>,
    /// Whether it comes from cells alone: quantiles are of nearest rank.
    pub is_of_cells: bool,
}

/// A histogram that keeps the promises of [`NativeHistogram::check`]; empty buckets are left out.
impl From<&NativeHistogram> for HistogramValue {
    fn from(native: &NativeHistogram) -> Self {
        let filled =
            |buckets: &[FloatBucket]| buckets.iter().filter(|bucket| bucket.count != 0.0).copied().collect();
        Self {
            layout: native.layout.clone(),
            hint: native.hint,
            count: native.count,
            sum: native.sum,
            zero_count: native.zero_count,
            positive: filled(&native.positive),
            negative: filled(&native.negative),
            ..Self::default()
        }
    }
}

impl HistogramValue {
    /// The histogram of a window of cells or rows.
    pub fn of_window(buckets: &Histogram, numbers: &Numbers) -> Self {
        let floats = |buckets: &[Bucket]| {
            buckets.iter().map(|b| FloatBucket { index: b.index, count: b.count as f64 }).collect()
        };
        Self {
            layout: BucketLayout::Exponential { schema: SCHEMA, zero_threshold: 0.0 },
            hint: ResetHint::Unknown,
            count: numbers.count as f64,
            sum: numbers.sum,
            zero_count: buckets.zero as f64,
            positive: floats(&buckets.positive),
            negative: floats(&buckets.negative),
            min: Some(numbers.min).filter(|min| !min.is_nan()),
            max: Some(numbers.max).filter(|max| !max.is_nan()),
            is_of_cells: true,
        }
    }

    /// Whether its bounds are its own.
    pub fn is_custom(&self) -> bool {
        matches!(self.layout, BucketLayout::Custom { .. })
    }

    /// Every bucket that is not empty, from the least values to the greatest.
    pub fn intervals(&self) -> impl DoubleEndedIterator<Item = Interval> {
        let below = self.negative.iter().rev().map(|bucket| self.interval(bucket).mirrored());
        let zero = self.zero_interval();
        let above = self.positive.iter().map(|bucket| self.interval(bucket));
        below.chain(zero).chain(above)
    }

    /// Counts of the [`intervals`](Self::intervals), without their bounds, which take time to compute.
    fn counts(&self) -> impl Iterator<Item = f64> {
        let zero = self.zero_interval().map(|zero| zero.count);
        let (below, above) = (self.negative.iter().rev(), self.positive.iter());
        below.map(|bucket| bucket.count).chain(zero).chain(above.map(|bucket| bucket.count))
    }

    /// The interval at a place of [`intervals`](Self::intervals).
    fn interval_at(&self, place: usize) -> Option<Interval> {
        let below = self.negative.len();
        if let Some(from_zero) = below.checked_sub(place + 1) {
            return self.negative.get(from_zero).map(|bucket| self.interval(bucket).mirrored());
        }
        let zero = self.zero_interval();
        let above = (place - below).checked_sub(usize::from(zero.is_some()));
        above.map_or(zero, |above| self.positive.get(above).map(|bucket| self.interval(bucket)))
    }

    /// Where a bucket lies, taken as one of the positive ones.
    fn interval(&self, bucket: &FloatBucket) -> Interval {
        let (lower, upper) = match &self.layout {
            BucketLayout::Exponential { schema, .. } => {
                let index = i64::from(bucket.index);
                (exponential_upper(*schema, index - 1), exponential_upper(*schema, index))
            }
            BucketLayout::Custom { bounds } => custom_bounds(bounds, bucket.index),
        };
        Interval { lower, upper, count: bucket.count, closed: Closed::Upper }
    }

    fn zero_interval(&self) -> Option<Interval> {
        match self.layout {
            BucketLayout::Exponential { zero_threshold, .. } if self.zero_count != 0.0 => Some(Interval {
                lower: -zero_threshold,
                upper: zero_threshold,
                count: self.zero_count,
                closed: Closed::Both,
            }),
            _ => None,
        }
    }

    /// The zero bucket with the side cut off on which there is no other bucket: nothing speaks for values there.
    fn narrowed_zero(&self, zero: Interval) -> Interval {
        match (self.negative.is_empty(), self.positive.is_empty()) {
            (true, false) => Interval { lower: 0.0, ..zero },
            (false, true) => Interval { upper: 0.0, ..zero },
            _ => zero,
        }
    }

    /// Counts and sum times a factor. A factor below zero makes a gauge of it.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let mut scaled = self.mapped(|value| value * factor);
        if factor < 0.0 {
            scaled.forget_counting();
        }
        scaled
    }

    /// Counts and sum by a divisor. Zero leaves no buckets, as Prometheus has it.
    #[must_use]
    pub fn divided(&self, divisor: f64) -> Self {
        let mut divided = self.mapped(|value| value / divisor);
        if divisor == 0.0 {
            divided.positive.clear();
            divided.negative.clear();
        }
        if divisor < 0.0 {
            divided.forget_counting();
        }
        divided
    }

    fn mapped(&self, change: impl Fn(f64) -> f64) -> Self {
        let buckets = |buckets: &[FloatBucket]| {
            let changed = buckets.iter().map(|b| FloatBucket { index: b.index, count: change(b.count) });
            changed.filter(|bucket| bucket.count != 0.0).collect()
        };
        Self {
            layout: self.layout.clone(),
            hint: self.hint,
            count: change(self.count),
            sum: change(self.sum),
            zero_count: change(self.zero_count),
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            min: self.min,
            max: self.max,
            is_of_cells: self.is_of_cells,
        }
    }

    fn forget_counting(&mut self) {
        self.hint = ResetHint::Gauge;
        (self.min, self.max) = (None, None);
    }

    /// Whether layout, counts and sum are the same, bit by bit. Hints do not matter.
    pub fn equals(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let same_buckets = |a: &[FloatBucket], b: &[FloatBucket]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.index == b.index && same(a.count, b.count))
        };
        self.layout == other.layout
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && same(self.zero_count, other.zero_count)
            && same_buckets(&self.positive, &other.positive)
            && same_buckets(&self.negative, &other.negative)
    }

    /// A value within the smallest and largest one known.
    fn clamped(&self, value: f64) -> f64 {
        let value = self.min.map_or(value, |min| value.max(min));
        self.max.map_or(value, |max| value.min(max))
    }

    /// An estimate of the memory it takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let buckets = self.positive.len() + self.negative.len();
        let bounds = match &self.layout {
            BucketLayout::Exponential { .. } => 0,
            // Others may share them; the worst is to be thought.
            BucketLayout::Custom { bounds } => size_of_val(&**bounds),
        };
        (size_of::<Self>() + buckets * size_of::<FloatBucket>() + bounds) as u64
    }
}
