//! `info(v, {matchers})`: labels of info series, such as `target_info`, for the series of the same instance and job.
//!
//! Follows Prometheus' `promql/info.go`: info series are looked up at the times of the query, the newest of those that
//! agree on name, instance and job counts, and series that are info series themselves stay as they are.

use std::collections::{BTreeSet, HashMap};

use super::super::ast::{Expr, ExprKind, MatchOp, Matcher, Selector};
use super::super::value::{Labels, NAME_LABEL, Sample};
use super::read::{Instant, windows_of};
use super::series::{Series, join_equal, series_bytes};
use super::{Evaluator, Grid, Value};
use crate::{Error, ErrorKind, Result};

/// The info metric that is meant when none is named.
const TARGET_INFO: &str = "target_info";
/// The labels by which info series are found.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Name, instance and job of an info series.
type Identity<'a> = (&'a str, [&'a str; 2]);

/// What is asked for.
struct Wanted<'a> {
    /// Tests of the name of info metrics.
    names: Vec<Matcher>,
    /// Tests of the labels that are added; without any all are.
    data: Vec<&'a Matcher>,
}

impl<'a> Wanted<'a> {
    fn of(selector: Option<&'a Selector>) -> Self {
        let matchers = selector.map(|selector| selector.matchers.as_slice()).unwrap_or_default();
        let (names, data): (Vec<_>, Vec<_>) = matchers.iter().partition(|one| one.label == NAME_LABEL);
        let mut names: Vec<Matcher> = names.into_iter().cloned().collect();
        if names.is_empty() {
            names.push(equal(NAME_LABEL, TARGET_INFO));
        }
        Self { names, data }
    }

    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|matcher| matcher.accepts(labels.name()))
    }

    fn adds(&self, label: &str) -> bool {
        self.data.is_empty() || self.data.iter().any(|matcher| matcher.label == label)
    }

    /// Whether series without any info stay.
    fn keeps_bare(&self) -> bool {
        self.data.iter().all(|matcher| matcher.accepts(""))
    }
}

fn equal(label: &str, value: &str) -> Matcher {
    Matcher { label: label.to_owned(), op: MatchOp::Equal, value: value.to_owned(), pattern: None }
}

fn identity(labels: &Labels) -> Identity<'_> {
    (labels.name(), IDENTIFYING.map(|label| labels.get(label)))
}

impl Evaluator<'_> {
    pub(super) fn info_call(&self, args: &[Expr], grid: &Grid) -> Result<Value> {
        let Some(base) = args.first() else { return Ok(Value::Vector(Vec::new())) };
        let base = self.vector(base, grid)?;
        let selector = args.get(1).and_then(|arg| match &arg.unwrapped().kind {
            ExprKind::Selector(selector) => Some(selector),
            _ => None,
        });
        let wanted = Wanted::of(selector);
        let infos = self.info_series(&wanted, &base, grid)?;
        let names: BTreeSet<&str> = infos.iter().map(|info| info.labels.name()).collect();
        let mut found: Vec<Series> = Vec::new();
        let mut places: HashMap<(usize, Labels), usize> = HashMap::new();
        for step in 0..grid.count {
            self.context.budget.check_time()?;
            let newest = newest_of(&infos, step)?;
            for (index, one) in base.iter().enumerate() {
                let Some(sample) = one.at(step) else { continue };
                let labels = match wanted.is_info(&one.labels) {
                    true => Some(one.labels.clone()),
                    false => enriched(&wanted, &one.labels, &names, &newest)?,
                };
                let Some(labels) = labels else { continue };
                let place = *places.entry((index, labels.clone())).or_insert(found.len());
                if place == found.len() {
                    let bytes = series_bytes(grid.count) + 2 * labels.memory_bytes();
                    self.context.budget.charge_bytes(bytes)?;
                    let points = vec![None; grid.count];
                    found.push(Series { labels, drops_name: one.drops_name, points });
                }
                if let Some(series) = found.get_mut(place) {
                    series.set(step, Some(sample.clone()));
                }
            }
        }
        join_equal(found).map(Value::Vector)
    }

    /// The info series that any of the series could take labels of, with the times of their samples.
    fn info_series(&self, wanted: &Wanted<'_>, base: &[Series], grid: &Grid) -> Result<Vec<Series>> {
        let values_of = |label: &str| -> BTreeSet<&str> {
            let values =
                base.iter().filter(|one| !wanted.is_info(&one.labels)).map(|one| one.labels.get(label));
            values.filter(|value| !value.is_empty()).collect()
        };
        let values = IDENTIFYING.map(values_of);
        if values.iter().all(BTreeSet::is_empty) {
            return Ok(Vec::new());
        }
        let mut matchers = wanted.names.clone();
        matchers.extend(wanted.data.iter().map(|matcher| (*matcher).clone()));
        for (label, values) in IDENTIFYING.iter().zip(&values) {
            if let (1, Some(value)) = (values.len(), values.first()) {
                matchers.push(equal(label, value));
            }
        }
        let selector = Selector { matchers, ..Selector::default() };
        self.refuse_histograms(&selector, grid)?;
        let Value::Vector(mut infos) = self.selector(&selector, grid, Instant::Time)? else {
            return Ok(Vec::new());
        };
        infos.retain(|info| {
            let is_known = |(label, values): (&&str, &BTreeSet<&str>)| {
                values.is_empty() || values.contains(info.labels.get(label))
            };
            IDENTIFYING.iter().zip(&values).all(is_known)
        });
        Ok(infos)
    }
}

impl Evaluator<'_> {
    /// Refuses info series that are histograms.
    fn refuse_histograms(&self, selector: &Selector, grid: &Grid) -> Result<()> {
        let windows = windows_of(grid, self.lookback_ns());
        if !self.targets(selector, &windows)?.iter().any(|target| self.has_histograms(target)) {
            return Ok(());
        }
        let Value::Vector(found) = self.selector(selector, grid, Instant::Value)? else { return Ok(()) };
        let mut samples = found.iter().flat_map(|one| one.points.iter().flatten());
        match samples.any(|sample| sample.histogram().is_some()) {
            true => Err(Error::new(ErrorKind::Execution, "info sample should be float")),
            false => Ok(()),
        }
    }
}

/// The newest info series of each identity at a step.
fn newest_of(infos: &[Series], step: usize) -> Result<HashMap<Identity<'_>, (&Labels, f64)>> {
    let mut newest: HashMap<Identity<'_>, (&Labels, f64)> = HashMap::new();
    for info in infos {
        let Some(time) = info.at(step).and_then(Sample::float) else { continue };
        let known = newest.entry(identity(&info.labels)).or_insert((&info.labels, time));
        if known.1 < time {
            *known = (&info.labels, time);
        } else if known.1 == time && known.0 != &info.labels {
            let (first, at, second) = (known.0, (time * 1000.0).round(), &info.labels);
            let message = format!(
                "found duplicate series for info metric: existing {first} @ {at}, new {second} @ {at}"
            );
            return Err(Error::new(ErrorKind::Execution, message));
        }
    }
    Ok(newest)
}

/// The labels of a series with those of its info series; `None` when it must have some and has none.
fn enriched(
    wanted: &Wanted<'_>,
    labels: &Labels,
    names: &BTreeSet<&str>,
    newest: &HashMap<Identity<'_>, (&Labels, f64)>,
) -> Result<Option<Labels>> {
    let (_, identifying) = identity(labels);
    let mut added: Vec<(&str, &str)> = Vec::new();
    for name in names {
        let Some((info, _)) = newest.get(&(*name, identifying)) else { continue };
        for (label, value) in info.iter().filter(|(label, _)| *label != NAME_LABEL && wanted.adds(label)) {
            match added.iter().find(|(known, _)| *known == label) {
                Some((_, known)) if *known != value => {
                    return Err(Error::new(ErrorKind::Execution, format!("conflicting label: {label}")));
                }
                Some(_) => {}
                None if labels.get(label).is_empty() => added.push((label, value)),
                None => {}
            }
        }
    }
    if added.is_empty() && !wanted.keeps_bare() {
        return Ok(None);
    }
    Ok(Some(Labels::new(labels.iter().chain(added))))
}
