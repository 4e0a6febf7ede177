//! Selectors to series: which measurements and fields a metric name means, and which series pass the matchers.
//!
//! Names may split at any `_` into measurement and field; all splits that exist count.

use std::collections::BTreeSet;
use std::sync::Arc;

use icecore_storage::model::{
    FieldId, FieldType, MeasurementId, STALE_FIELD, SeriesId, SeriesKey, SeriesSet, TimeRange,
};
use icecore_storage::scan::{FieldInfo, Scan, Schema, TagMatcher, TagTest};

use super::super::ast::{MatchOp, Matcher, Selector};
use super::super::value::{Labels, NAME_LABEL};
use crate::budget::SERIES_MAX;
use crate::keys::each_key;
use crate::{Budget, Error, ErrorKind, Result};

/// The label that asks for a statistic of windows.
const STAT_LABEL: &str = "__stat__";

/// A statistic of windows as a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistic {
    Hist,
    Count,
    Sum,
    Min,
    Max,
    First,
    Last,
}

impl Statistic {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Hist, "hist"),
        (Self::Count, "count"),
        (Self::Sum, "sum"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::First, "first"),
        (Self::Last, "last"),
    ];

    /// The value of the label.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(statistic, _)| *statistic == self).map_or("", |(_, name)| name)
    }
}

/// The statistic a selector asks for.
///
/// # Errors
/// `InvalidInput` for another test than `=` and for names that are no statistic.
pub(super) fn statistic_of(selector: &Selector) -> Result<Option<Statistic>> {
    let Some(matcher) = selector.matchers.iter().find(|matcher| matcher.label == STAT_LABEL) else {
        return Ok(None);
    };
    let found = Statistic::ALL.iter().find(|(_, name)| *name == matcher.value);
    match found.filter(|_| matcher.op == MatchOp::Equal) {
        Some((statistic, _)) => Ok(Some(*statistic)),
        None => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{STAT_LABEL}{}{:?} is not possible: expected = and one of hist, count, sum, min, max, first, last",
                matcher.op.sign(),
                matcher.value
            ),
        )),
    }
}

/// A field and the series of its measurement that a selector chose. Their keys are not held: each is asked for when
/// its labels are made.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) measurement: MeasurementId,
    pub(super) field: FieldId,
    /// The field that says when series ended, where the measurement has one.
    pub(super) stale: Option<FieldId>,
    /// Ascending.
    pub(super) ids: Vec<SeriesId>,
    pub(super) metric: Arc<str>,
    /// The name of the metric's label and those of all tags, sorted: series share them.
    label_names: Vec<Arc<str>>,
}

impl Target {
    /// Parts its series: those that are not listed, and those that are.
    pub(super) fn parted(self, listed: &[SeriesId]) -> (Self, Self) {
        let is_listed = |id: &SeriesId| listed.binary_search(id).is_ok();
        let (with, without) = self.ids.iter().copied().partition(is_listed);
        let label_names = self.label_names.clone();
        (Self { ids: without, label_names, metric: self.metric.clone(), ..self }, Self { ids: with, ..self })
    }

    /// Where its samples are.
    pub(super) fn place(&self) -> (MeasurementId, FieldId) {
        (self.measurement, self.field)
    }

    /// Labels of the series with this key.
    pub(super) fn labels(&self, key: &SeriesKey) -> Labels {
        let shared = |name: &str| match self.label_names.binary_search_by(|known| (**known).cmp(name)) {
            Ok(place) => self.label_names.get(place).map_or_else(|| Arc::from(name), Arc::clone),
            Err(_) => Arc::from(name),
        };
        self.pairs(key).map(|(name, value)| (shared(name), self.shared_value(name, value))).collect()
    }

    /// Names and values of the labels of the series with this key, by name.
    pub(super) fn pairs<'a>(&'a self, key: &'a SeriesKey) -> impl Iterator<Item = (&'a str, &'a str)> {
        let tags = key.tags();
        let place = tags.partition_point(|(name, _)| &**name < NAME_LABEL);
        let (before, after) = tags.split_at_checked(place).unwrap_or((tags, &[]));
        let both = |tags: &'a [(Box<str>, Box<str>)]| tags.iter().map(|(name, value)| (&**name, &**value));
        both(before).chain([(NAME_LABEL, &*self.metric)]).chain(both(after))
    }

    /// The names of labels that series of the measurement may have, sorted.
    pub(super) fn label_names(&self) -> &[Arc<str>] {
        &self.label_names
    }

    /// The tags that series of the measurement have, sorted.
    pub(super) fn tag_keys(&self) -> impl Iterator<Item = &str> {
        self.label_names.iter().map(|name| &**name).filter(|name| *name != NAME_LABEL)
    }

    fn shared_value(&self, name: &str, value: &str) -> Arc<str> {
        if name == NAME_LABEL { Arc::clone(&self.metric) } else { Arc::from(value) }
    }
}

/// Finds what a selector means.
///
/// # Errors
/// `LimitExceeded` when there are more series than the budget has, and those of storage.
pub(super) fn select(
    scan: &dyn Scan,
    selector: &Selector,
    range: TimeRange,
    budget: &Budget,
) -> Result<Vec<Target>> {
    let limit = budget.limits().series_max;
    let matchers: Vec<TagMatcher> = selector.matchers.iter().filter_map(tag_matcher).collect();
    let mut targets = Vec::new();
    let mut total = 0usize;
    for (schema, field, metric) in fields_of(scan, selector) {
        let ids = scan
            .series_ids(schema.measurement, &matchers, range, limit)
            .map_err(|error| Error::of_search(SERIES_MAX, error))?;
        total = total.saturating_add(ids.len());
        if total > limit {
            let message =
                format!("selector {selector} matches more than {limit} series (limit {SERIES_MAX})");
            return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit(SERIES_MAX));
        }
        budget.charge_ids(&ids)?;
        if !ids.is_empty() {
            let mut label_names = schema.tag_keys;
            label_names.push(NAME_LABEL.into());
            label_names.sort_unstable();
            let measurement = schema.measurement;
            let is_stale =
                |info: &&FieldInfo| &*info.name == STALE_FIELD && info.field_type == FieldType::Bool;
            let stale = schema.fields.iter().find(is_stale).map(|info| info.id);
            targets.push(Target { measurement, field, stale, ids, metric: metric.into(), label_names });
        }
    }
    Ok(targets)
}

/// Finds the label sets of a selector, one for each series and numeric field, sorted. At most `limit`.
///
/// # Errors
/// `LimitExceeded` when the budget's bound on series is passed, and those of storage.
pub fn find_series(
    scan: &dyn Scan,
    selector: &Selector,
    range: TimeRange,
    limit: usize,
    budget: &Budget,
) -> Result<Vec<Labels>> {
    let mut found = BTreeSet::new();
    for target in select(scan, selector, range, budget)? {
        if !scan.reaches(target.measurement, range) {
            continue;
        }
        each_key(scan, &target.ids, budget, |_, key| {
            let labels = target.labels(key);
            // Once more for their text.
            budget.charge_bytes(2 * (64 + labels.memory_bytes()))?;
            found.insert(labels);
            Ok(())
        })?;
    }
    Ok(found.into_iter().take(limit).collect())
}

/// Finds the rows that a selector means when it names a measurement, as a delete reads it: whole series, all fields.
///
/// # Errors
/// `InvalidInput` when the name is that of a field's metric, and for statistics; those of storage.
pub fn find_measurements(scan: &dyn Scan, selector: &Selector, budget: &Budget) -> Result<Vec<SeriesSet>> {
    if statistic_of(selector)?.is_some() {
        let message = format!("{STAT_LABEL} asks for a statistic and names no rows");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let tests: Vec<&Matcher> = selector.matchers.iter().filter(|one| one.label == NAME_LABEL).collect();
    let accepts = |name: &str| {
        tests.iter().all(|matcher| matcher.accepts(name))
            && selector.name.as_ref().is_none_or(|wanted| wanted == name)
    };
    let matchers: Vec<TagMatcher> = selector.matchers.iter().filter_map(tag_matcher).collect();
    let mut is_named = false;
    let mut sets = Vec::new();
    for name in scan.measurements().iter().filter(|name| accepts(name)) {
        let Some(Schema { measurement, .. }) = scan.schema(name) else { continue };
        is_named = true;
        budget.check_time()?;
        if matchers.is_empty() {
            sets.push(SeriesSet { measurement, series: None });
            continue;
        }
        let found = scan.series_ids(measurement, &matchers, TimeRange::ALL, usize::MAX)?;
        budget.charge_ids(&found)?;
        if !found.is_empty() {
            sets.push(SeriesSet { measurement, series: Some(found) });
        }
    }
    if !is_named && let Some((schema, _, metric)) = fields_of(scan, selector).first() {
        let name = &schema.name;
        let message = format!(
            "{metric} is a field of measurement {name}; a single field cannot be deleted: name the measurement, as in {{__name__=\"{name}\"}}"
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(sets)
}

fn tag_matcher(matcher: &Matcher) -> Option<TagMatcher> {
    if matcher.label == NAME_LABEL || matcher.label == STAT_LABEL {
        return None;
    }
    let test = match matcher.op {
        MatchOp::Equal => TagTest::Equal(matcher.value.clone()),
        MatchOp::NotEqual => TagTest::NotEqual(matcher.value.clone()),
        MatchOp::Regex if let Some(texts) = matcher.one_of() => TagTest::OneOf(texts.to_vec()),
        MatchOp::Regex | MatchOp::NotRegex => {
            let matcher = matcher.clone();
            TagTest::Is(Arc::new(move |value| matcher.accepts(value)))
        }
    };
    Some(TagMatcher { key: matcher.label.clone(), test })
}

/// The fields whose metric names pass, with these names.
fn fields_of(scan: &dyn Scan, selector: &Selector) -> Vec<(Schema, FieldId, String)> {
    let tests: Vec<&Matcher> =
        selector.matchers.iter().filter(|matcher| matcher.label == NAME_LABEL).collect();
    let listed = tests.iter().find_map(|matcher| matcher.one_of());
    let accepts = |metric: &str| {
        tests.iter().all(|matcher| matcher.accepts(metric))
            && selector.name.as_ref().is_none_or(|name| name == metric)
    };
    let measurements: Vec<Arc<str>> = match selector.name.as_ref().map(std::slice::from_ref).or(listed) {
        Some(names) => {
            let splits = names.iter().flat_map(|name| {
                let at_each = name.match_indices('_').filter_map(|(at, _)| name.get(..at));
                at_each.chain([name.as_str()])
            });
            splits.collect::<BTreeSet<&str>>().into_iter().map(Arc::from).collect()
        }
        None => scan.measurements(),
    };
    let mut found = Vec::new();
    for schema in measurements.iter().filter_map(|measurement| scan.schema(measurement)) {
        let metrics = schema.metrics().filter(|(metric, _)| accepts(metric));
        found.extend(metrics.map(|(metric, field)| (schema.clone(), field.id, metric)));
    }
    found
}
