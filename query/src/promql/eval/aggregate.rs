//! Aggregations: series to groups by labels, then each step of each group by itself.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_storage::model::partial::{Compensated, Sum as _};

use super::super::ast::{Aggregate, AggregateOp, Expr};
use super::super::functions::math;
use super::super::number::format_float;
use super::super::value::{HistogramValue, Labels, NAME_LABEL, Sample};
use super::series::{Series, join_equal, series_bytes};
use super::{Evaluator, Grid, Value};
use crate::{Error, ErrorKind, Result};

/// Series that are aggregated into one.
struct Group {
    labels: Labels,
    drops_name: bool,
    members: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, expr: &Expr, aggregate: &Aggregate, grid: &Grid) -> Result<Value> {
        let series = self.vector(&aggregate.expr, grid)?;
        // Each may be a group of its own.
        self.context.budget.charge_bytes(series.len() as u64 * series_bytes(0))?;
        let groups = groups_of(aggregate, &series);
        self.context.budget.check_time()?;
        let parameter = match (&aggregate.parameter, aggregate.op) {
            (Some(label), AggregateOp::CountValues) => {
                let label = self.string(label)?;
                return self.count_values(aggregate, &label, &series, grid).map(Value::Vector);
            }
            (Some(parameter), _) => self.scalar(parameter, grid)?,
            (None, _) => Vec::new(),
        };
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk => {
                self.ranked(expr, aggregate.op, series, &groups, &parameter).map(Value::Vector)
            }
            AggregateOp::Quantile => {
                if let Some(q) = parameter.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                    self.warn(expr, format!("quantile value should be between 0 and 1, got {q}"));
                }
                self.fold(&series, &groups, grid, |step, samples| {
                    let mut floats = self.floats(expr, aggregate.op, samples);
                    let q = parameter.get(step).copied().unwrap_or(f64::NAN);
                    (!floats.is_empty()).then(|| Sample::Float(math::quantile(q, &mut floats)))
                })
            }
            op => self.fold(&series, &groups, grid, |_, samples| self.combined(expr, op, samples)),
        }
    }

    fn fold(
        &self,
        series: &[Series],
        groups: &[Group],
        grid: &Grid,
        combine: impl Fn(usize, &[&Sample]) -> Option<Sample>,
    ) -> Result<Value> {
        let mut found = Vec::with_capacity(groups.len());
        for group in groups {
            let members: Vec<&Series> = group.members.iter().filter_map(|index| series.get(*index)).collect();
            let mut samples = Vec::with_capacity(members.len());
            let mut points = Vec::with_capacity(grid.count);
            for step in 0..grid.count {
                if step % 64 == 0 {
                    self.context.budget.check_time()?;
                }
                samples.clear();
                samples.extend(members.iter().filter_map(|series| series.at(step)));
                points.push(if samples.is_empty() { None } else { combine(step, &samples) });
            }
            let one = Series { labels: group.labels.clone(), drops_name: group.drops_name, points };
            self.context.budget.charge_bytes(one.memory_bytes())?;
            found.push(one);
        }
        found.retain(|series| !series.is_empty());
        Ok(Value::Vector(found))
    }

    /// One step of one group, for the operators without a parameter.
    fn combined(&self, expr: &Expr, op: AggregateOp, samples: &[&Sample]) -> Option<Sample> {
        match op {
            AggregateOp::Count => return Some(Sample::Float(samples.len() as f64)),
            AggregateOp::Group => return Some(Sample::Float(1.0)),
            AggregateOp::Sum | AggregateOp::Avg => {
                let hists: Vec<_> = samples.iter().filter_map(|sample| sample.histogram()).collect();
                if hists.len() == samples.len() {
                    return Some(merged(op, &hists));
                }
                if !hists.is_empty() {
                    let name = op.name();
                    self.warn(
                        expr,
                        format!("encountered a mix of histograms and floats for aggregation {name}"),
                    );
                    return None;
                }
            }
            _ => {}
        }
        let floats = self.floats(expr, op, samples);
        let first = *floats.first()?;
        let count = floats.len() as f64;
        Some(Sample::Float(match op {
            AggregateOp::Min => floats.iter().fold(first, |a, b| if *b < a || a.is_nan() { *b } else { a }),
            AggregateOp::Max => floats.iter().fold(first, |a, b| if *b > a || a.is_nan() { *b } else { a }),
            AggregateOp::Sum => sum(&floats),
            AggregateOp::Avg => mean(&floats),
            AggregateOp::Stdvar => variance(&floats),
            AggregateOp::Stddev => variance(&floats).sqrt(),
            // The others returned above or have a parameter.
            _ => count,
        }))
    }

    /// The floats; histograms are ignored with a remark.
    fn floats(&self, expr: &Expr, op: AggregateOp, samples: &[&Sample]) -> Vec<f64> {
        let floats: Vec<f64> = samples.iter().filter_map(|sample| sample.float()).collect();
        if floats.len() < samples.len() {
            self.info(expr, format!("ignored histograms in {} aggregation", op.name()));
        }
        floats
    }

    /// `topk` and `bottomk`: the series themselves, with the points that are among the k of their group.
    fn ranked(
        &self,
        expr: &Expr,
        op: AggregateOp,
        series: Vec<Series>,
        groups: &[Group],
        parameter: &[f64],
    ) -> Result<Vec<Series>> {
        let bytes = series.iter().map(|one| series_bytes(one.points.len())).sum();
        self.context.budget.charge_bytes(bytes)?;
        let mut kept: Vec<Series> = series
            .iter()
            .map(|one| Series { points: vec![None; one.points.len()], ..Series::clone_frame(one) })
            .collect();
        // The order of an instant query: groups as they came, the members by rank.
        let mut order = Vec::new();
        for (step, k) in parameter.iter().enumerate() {
            if k.is_nan() {
                return Err(Error::new(ErrorKind::Execution, "Parameter value is NaN"));
            }
            self.context.budget.check_time()?;
            // Saturates; fewer than one keeps nothing.
            let k = k.max(0.0) as usize;
            for group in groups {
                let mut has_hist = false;
                let members = group.members.iter().filter_map(|index| {
                    let sample = series.get(*index)?.at(step)?;
                    has_hist |= sample.float().is_none();
                    Some((*index, sample.float()?))
                });
                let mut ranked: Vec<(usize, f64)> = members.collect();
                if has_hist {
                    self.info(expr, format!("ignored histograms in {} aggregation", op.name()));
                }
                // NaN ranks last in both.
                ranked.sort_by(|(_, a), (_, b)| {
                    let by_value = if op == AggregateOp::Topk { b.total_cmp(a) } else { a.total_cmp(b) };
                    a.is_nan().cmp(&b.is_nan()).then(if a == b {
                        std::cmp::Ordering::Equal
                    } else {
                        by_value
                    })
                });
                for (index, value) in ranked.into_iter().take(k) {
                    order.push(index);
                    if let Some(series) = kept.get_mut(index) {
                        series.set(step, Some(Sample::Float(value)));
                    }
                }
            }
        }
        if parameter.len() > 1 {
            kept.retain(|series| !series.is_empty());
            return Ok(kept);
        }
        Ok(order.into_iter().filter_map(|index| kept.get(index).cloned()).collect())
    }

    /// `count_values`: one series for each value met.
    fn count_values(
        &self,
        aggregate: &Aggregate,
        label: &str,
        series: &[Series],
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        if label.is_empty() {
            return Err(Error::new(ErrorKind::Execution, format!("invalid label name {label:?}")));
        }
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut found: Vec<Series> = Vec::new();
        for one in series {
            self.context.budget.check_time()?;
            let base = group_labels(aggregate, &one.labels);
            for (step, point) in one.points.iter().enumerate() {
                let Some(value) = point.as_ref().and_then(Sample::float) else { continue };
                let labels = base.with(label, &format_float(value));
                let place = *places.entry(labels.clone()).or_insert(found.len());
                if place == found.len() {
                    self.context.budget.charge_samples(grid.count as u64)?;
                    let bytes = series_bytes(grid.count) + labels.memory_bytes();
                    self.context.budget.charge_bytes(bytes)?;
                    let points = vec![None; grid.count];
                    found.push(Series { labels, drops_name: one.drops_name, points });
                }
                if let Some(counted) = found.get_mut(place) {
                    counted.drops_name |= one.drops_name;
                    let count = counted.float_at(step).unwrap_or(0.0) + 1.0;
                    counted.set(step, Some(Sample::Float(count)));
                }
            }
        }
        join_equal(found)
    }
}

impl Series {
    /// The same labels, without points.
    fn clone_frame(one: &Self) -> Self {
        Self { labels: one.labels.clone(), drops_name: one.drops_name, points: Vec::new() }
    }
}

fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    let is_listed = |name: &str| aggregate.grouping.iter().any(|label| label == name);
    if aggregate.is_without {
        labels.filtered(|name| name != NAME_LABEL && !is_listed(name))
    } else {
        labels.filtered(is_listed)
    }
}

fn groups_of(aggregate: &Aggregate, series: &[Series]) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (index, one) in series.iter().enumerate() {
        let labels = group_labels(aggregate, &one.labels);
        let place = *places.entry(labels.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => {
                group.drops_name |= one.drops_name;
                group.members.push(index);
            }
            None => groups.push(Group { labels, drops_name: one.drops_name, members: vec![index] }),
        }
    }
    groups
}

fn merged(op: AggregateOp, hists: &[&HistogramValue]) -> Sample {
    let mut total = HistogramValue::default();
    for hist in hists {
        total.add(hist, 1.0);
    }
    if op == AggregateOp::Avg {
        total = total.scaled(1.0 / hists.len() as f64);
    }
    Sample::Histogram(Arc::new(total))
}

fn sum(floats: &[f64]) -> f64 {
    let mut sum = Compensated::default();
    floats.iter().for_each(|value| sum.add(*value));
    sum.to_f64()
}

fn mean(floats: &[f64]) -> f64 {
    let count = floats.len() as f64;
    let total = sum(floats);
    if total.is_infinite() && floats.iter().all(|value| value.is_finite()) {
        // The sum overflows although the mean does not.
        return floats.iter().map(|value| value / count).sum();
    }
    total / count
}

fn variance(floats: &[f64]) -> f64 {
    let (mut mean, mut m2) = (0.0, 0.0);
    for (index, value) in floats.iter().enumerate() {
        let distance = value - mean;
        mean += distance / (index + 1) as f64;
        m2 += distance * (value - mean);
    }
    m2 / floats.len() as f64
}
