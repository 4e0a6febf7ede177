//! What a query answers: labels, samples, histograms and their four shapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use icecore_storage::model::histogram::{Bucket, bucket_upper};
use icecore_storage::model::{Histogram, Numbers};
use icecore_storage::scan::Coverage;

/// The label that holds the metric name.
pub const NAME_LABEL: &str = "__name__";

/// Labels of a series, sorted by name, none empty. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Labels {
    /// `{name="value", ...}`, as in messages of Prometheus.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            write!(out, "{}{name}={value:?}", if index == 0 { "" } else { ", " })?;
        }
        out.write_str("}")
    }
}

impl Labels {
    /// Sorts the pairs; of equal names the last one counts, and empty values are left out.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let sorted: BTreeMap<Arc<str>, Arc<str>> =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        sorted.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The value of a label; empty where it is absent.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.binary_search_by(|(other, _)| (**other).cmp(name)).ok();
        found.and_then(|index| self.0.get(index)).map_or("", |(_, value)| value)
    }

    /// The metric name; empty where there is none.
    pub fn name(&self) -> &str {
        self.get(NAME_LABEL)
    }

    /// Name and value of each label, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An estimate of the memory they take.
    pub(crate) fn memory_bytes(&self) -> u64 {
        // A pair of pointers, and two texts that each begin with two counts.
        self.0.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 80).sum()
    }

    /// The labels whose names pass.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        self.0.iter().filter(|(name, _)| keep(name)).cloned().collect()
    }

    /// The labels without the metric name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        if self.name().is_empty() { self.clone() } else { self.filtered(|name| name != NAME_LABEL) }
    }

    /// The labels with one set, or removed when `value` is empty.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let others = self.0.iter().filter(|(other, _)| &**other != name).cloned();
        Self::new(others.chain([(Arc::from(name), Arc::from(value))]))
    }
}

/// Collects pairs that are sorted already.
impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// One value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<HistogramValue>),
}

impl Sample {
    /// The number, if it is one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Histogram(_) => None,
        }
    }

    /// An estimate of the memory it takes beside its own place.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let buckets = |hist: &HistogramValue| hist.positive.len() + hist.negative.len();
        self.histogram()
            .map_or(0, |hist| (size_of::<HistogramValue>() + buckets(hist) * size_of::<FloatBucket>()) as u64)
    }

    /// The histogram, if it is one.
    pub fn histogram(&self) -> Option<&HistogramValue> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(value) => Some(value),
        }
    }
}

/// A bucket of a [`HistogramValue`]: values in `(2^((index-1)/64), 2^(index/64)]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatBucket {
    /// Index, as in [`Bucket`].
    pub index: i32,
    /// Number of values; not whole after division or in rates.
    pub count: f64,
}

/// A native histogram of schema 6, with float counts as PromQL's arithmetic needs them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramValue {
    /// Number of values, NaN among them.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Number of zeros.
    pub zero: f64,
    /// Buckets above zero, by index.
    pub positive: Vec<FloatBucket>,
    /// Buckets below zero, by index of the absolute value.
    pub negative: Vec<FloatBucket>,
    /// The smallest value, where known.
    pub min: Option<f64>,
    /// The largest value, where known.
    pub max: Option<f64>,
}

impl HistogramValue {
    /// The histogram of a window.
    pub fn new(buckets: &Histogram, numbers: &Numbers) -> Self {
        let floats = |buckets: &[Bucket]| {
            buckets.iter().map(|b| FloatBucket { index: b.index, count: b.count as f64 }).collect()
        };
        Self {
            count: numbers.count as f64,
            sum: numbers.sum,
            zero: buckets.zero as f64,
            positive: floats(&buckets.positive),
            negative: floats(&buckets.negative),
            min: Some(numbers.min).filter(|min| !min.is_nan()),
            max: Some(numbers.max).filter(|max| !max.is_nan()),
        }
    }

    /// Adds another histogram, `factor` times (1 or -1). Subtracting forgets the smallest and largest value.
    pub fn add(&mut self, other: &Self, factor: f64) {
        let is_first = self.count == 0.0 && factor > 0.0;
        let both = |mine: Option<f64>, theirs: Option<f64>, pick: fn(f64, f64) -> f64| match (mine, theirs) {
            _ if is_first => theirs,
            _ if factor < 0.0 => None,
            (mine, _) if other.count == 0.0 => mine,
            (Some(mine), Some(theirs)) => Some(pick(mine, theirs)),
            _ => None,
        };
        self.min = both(self.min, other.min, f64::min);
        self.max = both(self.max, other.max, f64::max);
        self.count += other.count * factor;
        self.sum += other.sum * factor;
        self.zero += other.zero * factor;
        self.positive = merged(&self.positive, &other.positive, factor);
        self.negative = merged(&self.negative, &other.negative, factor);
    }

    /// All counts and the sum, times `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let scale = |buckets: &[FloatBucket]| {
            buckets.iter().map(|b| FloatBucket { index: b.index, count: b.count * factor }).collect()
        };
        Self {
            count: self.count * factor,
            sum: self.sum * factor,
            zero: self.zero * factor,
            positive: scale(&self.positive),
            negative: scale(&self.negative),
            min: self.min,
            max: self.max,
        }
    }

    /// Lower bound, upper bound and count of every bucket, by value; zeros are `(0, 0, n)`.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let below = self.negative.iter().rev();
        let below = below.map(|b| (-bucket_upper(b.index), -bucket_upper(b.index - 1), b.count));
        let zero = (self.zero != 0.0).then_some((0.0, 0.0, self.zero));
        let above = self.positive.iter().map(|b| (bucket_upper(b.index - 1), bucket_upper(b.index), b.count));
        below.chain(zero).chain(above)
    }

    /// The value of nearest rank, as the middle of its bucket, within the smallest and largest value known. At most
    /// 0.5415 % away from the exact order statistic. NaN when empty, infinite outside `[0, 1]`.
    pub fn quantile(&self, q: f64) -> f64 {
        if q.is_nan() || self.count == 0.0 {
            return f64::NAN;
        }
        if q < 0.0 {
            return f64::NEG_INFINITY;
        }
        if q > 1.0 {
            return f64::INFINITY;
        }
        let total: f64 = self.buckets().map(|(_, _, count)| count).sum();
        // Counts of rates are not whole; the slack makes a rank that should be reached exactly reached.
        let rank = q * total * (1.0 - 1e-13);
        let mut seen = 0.0;
        let mut found = f64::NAN;
        for (lower, upper, count) in self.buckets() {
            seen += count;
            found = middle(lower, upper);
            if count > 0.0 && seen >= rank {
                break;
            }
        }
        let found = self.min.map_or(found, |min| found.max(min));
        self.max.map_or(found, |max| found.min(max))
    }

    /// Share of the values in `(lower, upper]`; a bucket cut by a bound counts by logarithmic interpolation.
    pub fn fraction(&self, lower: f64, upper: f64) -> f64 {
        if lower.is_nan() || upper.is_nan() || self.count == 0.0 {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        let inside: f64 = self.buckets().map(|(from, to, count)| count * share(from, to, lower, upper)).sum();
        // Rounding of fractional counts must not give more than all.
        (inside / self.count).min(1.0)
    }
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

fn merged(left: &[FloatBucket], right: &[FloatBucket], factor: f64) -> Vec<FloatBucket> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        let bucket = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) if a.index == b.index => {
                let count = a.count + b.count * factor;
                let index = a.index;
                left.next();
                right.next();
                Some(FloatBucket { index, count })
            }
            (Some(a), Some(b)) if a.index < b.index => left.next(),
            (Some(_), None) => left.next(),
            _ => right.next().map(|b| FloatBucket { index: b.index, count: b.count * factor }),
        };
        let Some(bucket) = bucket else { return out };
        if bucket.count != 0.0 {
            out.push(bucket);
        }
    }
}

/// A series at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// The evaluation time.
    pub ts_ns: i64,
    /// Its value.
    pub value: Sample,
}

/// A series over time.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Times in nanoseconds, ascending, and values.
    pub points: Vec<(i64, Sample)>,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// A number.
    Scalar {
        /// The evaluation time.
        ts_ns: i64,
        /// The number.
        value: f64,
    },
    /// A text.
    Text {
        /// The evaluation time.
        ts_ns: i64,
        /// The text.
        text: String,
    },
    /// Series at one time, in the order of the expression: `sort` and `topk` give theirs, selectors go by labels.
    Vector(Vec<VectorSample>),
    /// Series over time, by labels.
    Matrix(Vec<MatrixSeries>),
}

/// What a query answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// What is probably not meant.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub infos: Vec<String>,
    /// What was read.
    pub coverage: Coverage,
}
