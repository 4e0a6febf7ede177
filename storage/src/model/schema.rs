//! What a measurement and a series look like from outside, and how series are selected by their tags.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{FieldId, FieldType, HISTOGRAM_FIELD, MeasurementId, STALE_FIELD, SeriesId, SeriesKey};

/// The field whose metric is called as its measurement, with nothing added: that of Prometheus' samples.
pub const PLAIN_FIELD: &str = "value";

/// A field of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its id within the measurement.
    pub id: FieldId,
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub field_type: FieldType,
}

/// The fields and tag keys of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Its id.
    pub measurement: MeasurementId,
    /// Its name.
    pub name: Arc<str>,
    /// Its fields, sorted by name.
    pub fields: Vec<FieldInfo>,
    /// Its tag keys, sorted.
    pub tag_keys: Vec<Arc<str>>,
}

impl Schema {
    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&FieldInfo> {
        self.fields.iter().find(|field| &*field.name == name)
    }

    /// The metrics that PromQL sees: their names, and the fields that hold their samples. Numeric fields; and the field of
    /// native histograms, where the metric of this name has no numbers.
    pub fn metrics(&self) -> impl Iterator<Item = (String, &FieldInfo)> {
        let has_plain = self.field(PLAIN_FIELD).is_some_and(|field| field.field_type.is_numeric());
        self.fields.iter().filter_map(move |field| match &*field.name {
            STALE_FIELD => None,
            HISTOGRAM_FIELD if field.field_type == FieldType::Str => {
                (!has_plain).then(|| (self.name.to_string(), field))
            }
            _ if !field.field_type.is_numeric() => None,
            PLAIN_FIELD => Some((self.name.to_string(), field)),
            name => Some((format!("{}_{name}", self.name), field)),
        })
    }

    /// The field that keeps the native histograms of a metric, given by the field of its samples ([`Schema::metrics`]).
    pub fn histograms_of(&self, field: FieldId) -> Option<&FieldInfo> {
        let kept = self.field(HISTOGRAM_FIELD).filter(|kept| kept.field_type == FieldType::Str)?;
        let is_plain = || self.field(PLAIN_FIELD).is_some_and(|plain| plain.id == field);
        (kept.id == field || is_plain()).then_some(kept)
    }
}

/// A series that a selection found.
#[derive(Debug, Clone)]
pub struct SeriesInfo {
    /// Its id.
    pub id: SeriesId,
    /// Its measurement and tags.
    pub key: Arc<SeriesKey>,
}

/// Series of one measurement, chosen by a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSet {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The series; `None`: all.
    pub series: Option<Vec<SeriesId>>,
}

/// The values of one tag of some series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagCodes {
    /// For each series the position of its value in `values`.
    pub codes: Vec<u32>,
    /// The values, each once, in no order; the empty one stands for series without the tag.
    pub values: Vec<Arc<str>>,
}

/// Makes [`TagCodes`], series after series.
#[derive(Debug, Default)]
pub(crate) struct TagCoder {
    found: TagCodes,
    places: HashMap<Arc<str>, u32>,
}

impl TagCoder {
    /// The code of a value, which is new or known.
    pub(crate) fn code_of(&mut self, value: &str) -> u32 {
        if let Some(code) = self.places.get(value) {
            return *code;
        }
        let values = &mut self.found.values;
        let (code, value) = (u32::try_from(values.len()).unwrap_or(u32::MAX), Arc::<str>::from(value));
        values.push(Arc::clone(&value));
        self.places.insert(value, code);
        code
    }

    /// The next series has the value of a code.
    pub(crate) fn push_code(&mut self, code: u32) {
        self.found.codes.push(code);
    }

    /// The next series has a value; an empty one: none.
    pub(crate) fn push(&mut self, value: &str) {
        let code = self.code_of(value);
        self.push_code(code);
    }

    pub(crate) fn finish(self) -> TagCodes {
        self.found
    }
}

/// What a tag value must satisfy. A series without the tag is judged as if its value were empty.
#[derive(Clone)]
pub enum TagTest {
    /// Equals the text.
    Equal(String),
    /// Differs from the text.
    NotEqual(String),
    /// Is one of the texts.
    OneOf(Vec<String>),
    /// Satisfies the predicate (a compiled regular expression, a list).
    Is(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for TagTest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(value) => write!(out, "= {value:?}"),
            Self::NotEqual(value) => write!(out, "!= {value:?}"),
            Self::OneOf(values) => write!(out, "one of {values:?}"),
            Self::Is(_) => out.write_str("satisfies a predicate"),
        }
    }
}

impl TagTest {
    /// Whether a value (empty: the tag is absent) passes.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Equal(wanted) => value == wanted,
            Self::NotEqual(unwanted) => value != unwanted,
            Self::OneOf(values) => values.iter().any(|one| one == value),
            Self::Is(predicate) => predicate(value),
        }
    }
}

/// A test on one tag.
#[derive(Debug, Clone)]
pub struct TagMatcher {
    /// The tag key.
    pub key: String,
    /// What its value must satisfy.
    pub test: TagTest,
}
