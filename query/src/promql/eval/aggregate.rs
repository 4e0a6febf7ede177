//! Aggregations: series to groups by labels, then each step of each group by itself.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use twox_hash::XxHash64;

use super::super::ast::{Aggregate, AggregateOp, Expr, ExprKind};
use super::super::functions::math;
use super::super::functions::native::{Doing, Remark, remarks_of};
use super::super::histogram::HistogramValue;
use super::super::number::{format_float, format_general};
use super::super::print::quote_bytes;
use super::super::value::{Labels, Sample};
use super::roster::is_kept;
use super::series::{Series, join_equal, series_bytes};
use super::tally::Tally;
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
        if let Some(value) = self.grouped(expr, aggregate, grid)? {
            return Ok(value);
        }
        if let Some(value) = self.streamed(expr, aggregate, grid)? {
            return Ok(value);
        }
        self.gathered(expr, aggregate, grid)
    }

    /// The general way: all series at once.
    pub(super) fn gathered(&self, expr: &Expr, aggregate: &Aggregate, grid: &Grid) -> Result<Value> {
        let series = self.vector(&aggregate.expr, grid)?;
        // Each may be a group of its own.
        self.context.budget.charge_bytes(series.len() as u64 * series_bytes(0))?;
        let groups = groups_of(aggregate, &series);
        self.context.budget.check_time()?;
        let parameter = match (&aggregate.parameter, aggregate.op) {
            (Some(q), AggregateOp::Quantile) => self.quantiles(expr, q, grid)?,
            (Some(label), AggregateOp::CountValues) => {
                let label = self.label_of_values(label)?;
                return self.count_values(aggregate, &label, &series, grid).map(Value::Vector);
            }
            (Some(parameter), _) => self.scalar(parameter, grid)?,
            (None, _) => Vec::new(),
        };
        match aggregate.op {
            AggregateOp::Topk | AggregateOp::Bottomk => {
                self.ranked(expr, aggregate.op, series, &groups, &parameter).map(Value::Vector)
            }
            AggregateOp::Quantile => self.fold(&series, &groups, grid, |step, samples| {
                let mut floats = self.floats(expr, aggregate.op, samples);
                let q = parameter.get(step).copied().unwrap_or(f64::NAN);
                (!floats.is_empty()).then(|| Sample::Float(math::quantile(q, &mut floats)))
            }),
            AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.limited(expr, aggregate.op, series, &groups, &parameter).map(Value::Vector)
            }
            op => self.fold(&series, &groups, grid, |_, samples| self.combined(&aggregate.expr, op, samples)),
        }
    }

    /// Folds each step of each group; the groups go by their labels, which no order of series can change.
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
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
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
                    return self.merged(expr, op, &hists);
                }
                if !hists.is_empty() {
                    self.warn(expr, "encountered a mix of histograms and floats for aggregation");
                    return None;
                }
            }
            _ => {}
        }
        let floats = self.floats(expr, op, samples);
        let (first, rest) = floats.split_first()?;
        let mut tally = Tally::of(op, *first)?;
        rest.iter().for_each(|value| tally.add(*value));
        Some(Sample::Float(tally.value(op)))
    }

    /// Sum or mean of histograms.
    fn merged(&self, expr: &Expr, op: AggregateOp, hists: &[&HistogramValue]) -> Option<Sample> {
        let fold = if op == AggregateOp::Avg { HistogramValue::mean_of } else { HistogramValue::sum_of };
        let Some(combined) = fold(hists) else {
            self.remark(expr, "", Remark::MixedLayouts);
            return None;
        };
        remarks_of(&combined, Doing::Aggregation).for_each(|remark| self.remark(expr, "", remark));
        Some(Sample::Histogram(Arc::new(combined.value)))
    }

    /// The quantiles that `quantile` asks for, one for each step.
    pub(super) fn quantiles(&self, expr: &Expr, q: &Expr, grid: &Grid) -> Result<Vec<f64>> {
        let quantiles = self.scalar(q, grid)?;
        if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            self.warn(expr, format!("quantile value should be between 0 and 1, got {q}"));
        }
        Ok(quantiles)
    }

    /// The label that `count_values` puts the values into.
    pub(super) fn label_of_values(&self, label: &Expr) -> Result<String> {
        if let ExprKind::Bytes(bytes) = &label.unwrapped().kind {
            let message = format!("invalid label name {}", quote_bytes(bytes));
            return Err(Error::new(ErrorKind::Execution, message));
        }
        let label = self.string(label)?;
        if label.is_empty() {
            return Err(Error::new(ErrorKind::Execution, format!("invalid label name {label:?}")));
        }
        Ok(label)
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
        for (step, k) in ranks_of(parameter)?.into_iter().enumerate() {
            self.context.budget.check_time()?;
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
                ranked.sort_by(|(_, a), (_, b)| by_rank(op, *a, *b));
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

    /// `limitk` and `limit_ratio`: the series themselves, with the points of those that are taken of their group.
    fn limited(
        &self,
        expr: &Expr,
        op: AggregateOp,
        mut series: Vec<Series>,
        groups: &[Group],
        parameter: &[f64],
    ) -> Result<Vec<Series>> {
        let is_ratio = op == AggregateOp::LimitRatio;
        if is_ratio && parameter.iter().any(|ratio| ratio.is_nan()) {
            return Err(Error::new(ErrorKind::Execution, "Ratio value is NaN"));
        }
        let ks = if is_ratio { Vec::new() } else { ranks_of(parameter)? };
        if is_ratio {
            let most = parameter.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let least = parameter.iter().copied().fold(f64::INFINITY, f64::min);
            for (ratio, capped) in [(most, 1), (least, -1)]
                .into_iter()
                .filter(|(ratio, capped)| if *capped > 0 { *ratio > 1.0 } else { *ratio < -1.0 })
            {
                let (message, ratio) = ("ratio value should be between -1 and 1", format_general(ratio));
                self.warn(expr, format!("{message}, got {ratio}, capping to {capped}"));
            }
        }
        for group in groups {
            self.context.budget.check_time()?;
            let mut taken = vec![0; ks.len()];
            for index in &group.members {
                let Some(one) = series.get_mut(*index) else { continue };
                let share = if is_ratio { share_of(&one.labels) } else { 0.0 };
                for (step, point) in one.points.iter_mut().enumerate() {
                    let is_taken = match (parameter.get(step), ks.get(step), taken.get_mut(step)) {
                        (Some(ratio), ..) if is_ratio => is_in_ratio(*ratio, share),
                        (_, Some(k), Some(taken)) if point.is_some() => {
                            *taken += 1;
                            *taken <= *k
                        }
                        _ => false,
                    };
                    if !is_taken {
                        *point = None;
                    }
                }
            }
        }
        series.retain(|series| !series.is_empty());
        Ok(series)
    }

    /// `count_values`: one series for each value met.
    fn count_values(
        &self,
        aggregate: &Aggregate,
        label: &str,
        series: &[Series],
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let mut counted = Counted::default();
        for one in series {
            self.context.budget.check_time()?;
            let base = group_labels(aggregate, &one.labels);
            for (step, point) in one.points.iter().enumerate() {
                let value = match point {
                    Some(Sample::Float(value)) => format_float(*value),
                    Some(Sample::Histogram(hist)) => hist.to_string(),
                    None => continue,
                };
                counted.add(self, &base, label, (step, grid.count), &value, one.drops_name)?;
            }
        }
        counted.series()
    }
}

/// The series of `count_values`, one for each value met.
#[derive(Debug, Default)]
pub(super) struct Counted {
    places: HashMap<Labels, usize>,
    found: Vec<Series>,
}

impl Counted {
    /// Counts a value of a group at a step of so many.
    pub(super) fn add(
        &mut self,
        evaluator: &Evaluator<'_>,
        base: &Labels,
        label: &str,
        (step, steps): (usize, usize),
        value: &str,
        drops_name: bool,
    ) -> Result<()> {
        let labels = base.with(label, value);
        let place = *self.places.entry(labels.clone()).or_insert(self.found.len());
        if place == self.found.len() {
            let budget = evaluator.context.budget;
            budget.charge_samples(steps as u64)?;
            budget.charge_bytes(series_bytes(steps) + labels.memory_bytes())?;
            self.found.push(Series { labels, drops_name, points: vec![None; steps] });
        }
        if let Some(counted) = self.found.get_mut(place) {
            counted.drops_name |= drops_name;
            let count = counted.float_at(step).unwrap_or(0.0) + 1.0;
            counted.set(step, Some(Sample::Float(count)));
        }
        Ok(())
    }

    /// All of them.
    ///
    /// # Errors
    /// As [`join_equal`].
    pub(super) fn series(self) -> Result<Vec<Series>> {
        join_equal(self.found)
    }
}

/// How many series `topk` and `bottomk` keep at each step.
///
/// # Errors
/// `Execution` when some is NaN.
pub(super) fn ranks_of(parameter: &[f64]) -> Result<Vec<usize>> {
    if parameter.iter().any(|k| k.is_nan()) {
        return Err(Error::new(ErrorKind::Execution, "Parameter value is NaN"));
    }
    // Saturates; fewer than one keeps nothing.
    Ok(parameter.iter().map(|k| k.max(0.0) as usize).collect())
}

/// Where `limit_ratio` puts a series between 0 and 1: the xxHash of its labels, each text behind its length, as
/// Prometheus holds them (`labels_stringlabels.go`), so that both take the same series.
fn share_of(labels: &Labels) -> f64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < 255 => bytes.push(len),
            _ => {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                bytes.push(255);
                bytes.extend(len.to_le_bytes().iter().take(3));
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    XxHash64::oneshot(0, &bytes) as f64 / u64::MAX as f64
}

/// Whether a ratio takes a series: a negative one takes those that its complement leaves.
fn is_in_ratio(ratio: f64, share: f64) -> bool {
    if 1.0 <= ratio.abs() {
        return true;
    }
    if 0.0 <= ratio { share < ratio } else { 1.0 + ratio <= share }
}

/// The order of `topk` and `bottomk`: the best first, NaN last in both.
pub(super) fn by_rank(op: AggregateOp, a: f64, b: f64) -> Ordering {
    let by_value = if op == AggregateOp::Topk { b.total_cmp(&a) } else { a.total_cmp(&b) };
    a.is_nan().cmp(&b.is_nan()).then(if a == b { Ordering::Equal } else { by_value })
}

impl Series {
    /// The same labels, without points.
    fn clone_frame(one: &Self) -> Self {
        Self { labels: one.labels.clone(), drops_name: one.drops_name, points: Vec::new() }
    }
}

pub(super) fn group_labels(aggregate: &Aggregate, labels: &Labels) -> Labels {
    labels.filtered(|name| is_kept(aggregate, name))
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
