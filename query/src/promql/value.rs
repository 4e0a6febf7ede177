//! What a query answers: labels, samples and their four shapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use icecore_storage::scan::Coverage;

use super::histogram::HistogramValue;

/// The label that holds the metric name.
pub const NAME_LABEL: &str = "__name__";

/// Whether a label goes with the metric name: its type and unit say nothing of what was computed from it.
pub(crate) fn is_reserved(label: &str) -> bool {
    matches!(label, NAME_LABEL | "__type__" | "__unit__")
}

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
    pub fn memory_bytes(&self) -> u64 {
        // A pair of pointers, and two texts that each begin with two counts.
        self.0.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 80).sum()
    }

    /// The labels whose names pass.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        self.0.iter().filter(|(name, _)| keep(name)).cloned().collect()
    }

    /// The labels without the metric name, its type and its unit.
    #[must_use]
    pub fn without_name(&self) -> Self {
        let has_any = self.0.iter().any(|(name, _)| is_reserved(name));
        if has_any { self.filtered(|name| !is_reserved(name)) } else { self.clone() }
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
        self.histogram().map_or(0, HistogramValue::memory_bytes)
    }

    /// The histogram, if it is one.
    pub fn histogram(&self) -> Option<&HistogramValue> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(value) => Some(value),
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

/// What a point of an answer takes: its time and value, and its text in JSON.
const POINT_BYTES: u64 = 64;

/// An estimate of the memory that a series of an answer takes, its text included.
pub fn answer_bytes(labels: &Labels, points: &[(i64, Sample)]) -> u64 {
    // Bounds and count of a bucket are three texts.
    let heap: u64 = points.iter().map(|(_, sample)| 4 * sample.heap_bytes()).sum();
    2 * labels.memory_bytes() + 128 + points.len() as u64 * POINT_BYTES + heap
}
