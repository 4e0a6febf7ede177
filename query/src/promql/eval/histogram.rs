//! Functions over histograms: native ones, and classic `le` buckets.

use std::collections::HashMap;

use super::super::ast::Expr;
use super::super::functions::classic::{LeBucket, bucket_fraction, bucket_quantile};
use super::super::value::{HistogramValue, Labels, Sample};
use super::series::Series;
use super::{Evaluator, Grid, Value};
use crate::Result;

/// The label of a classic bucket's upper bound.
const LE_LABEL: &str = "le";

impl Evaluator<'_> {
    /// A number of each histogram; floats are left out.
    pub(super) fn of_histograms(
        &self,
        args: &[Expr],
        grid: &Grid,
        number: fn(&HistogramValue) -> f64,
    ) -> Result<Value> {
        let Some(arg) = args.first() else { return Ok(Value::Vector(Vec::new())) };
        let series = self.vector(arg, grid)?;
        Ok(Value::Vector(mapped(series, |_, hist| number(hist))))
    }

    /// `histogram_quantile(q, v)`.
    pub(super) fn histogram_quantile(&self, expr: &Expr, args: &[Expr], grid: &Grid) -> Result<Value> {
        let quantiles = self.scalar(self.arg(expr, args, 0)?, grid)?;
        let arg = self.arg(expr, args, 1)?;
        let series = self.vector(arg, grid)?;
        if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            self.warn(expr, format!("quantile value should be between 0 and 1, got {q}"));
        }
        let q_at = |step: usize| quantiles.get(step).copied().unwrap_or(f64::NAN);
        let mut found =
            self.classic(arg, &series, grid, |step, buckets| bucket_quantile(q_at(step), buckets));
        found.extend(mapped(series, |step, hist| hist.quantile(q_at(step))));
        Ok(Value::Vector(found))
    }

    /// `histogram_fraction(lower, upper, v)`.
    pub(super) fn histogram_fraction(&self, expr: &Expr, args: &[Expr], grid: &Grid) -> Result<Value> {
        let lower = self.scalar(self.arg(expr, args, 0)?, grid)?;
        let upper = self.scalar(self.arg(expr, args, 1)?, grid)?;
        let arg = self.arg(expr, args, 2)?;
        let series = self.vector(arg, grid)?;
        let at = |bounds: &[f64], step: usize| bounds.get(step).copied().unwrap_or(f64::NAN);
        let bounds = |step: usize| (at(&lower, step), at(&upper, step));
        let mut found = self.classic(arg, &series, grid, |step, buckets| {
            let (lower, upper) = bounds(step);
            (bucket_fraction(lower, upper, buckets), false)
        });
        found.extend(mapped(series, |step, hist| {
            let (lower, upper) = bounds(step);
            hist.fraction(lower, upper)
        }));
        Ok(Value::Vector(found))
    }

    /// A number of each group of series that are buckets, grouped by their labels but `le`.
    fn classic(
        &self,
        arg: &Expr,
        series: &[Series],
        grid: &Grid,
        number: impl Fn(usize, Vec<LeBucket>) -> (f64, bool),
    ) -> Vec<Series> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<(Labels, Vec<(f64, &Series)>)> = Vec::new();
        for one in series.iter().filter(|one| one.points.iter().flatten().any(|p| p.float().is_some())) {
            let le = one.labels.get(LE_LABEL);
            let Ok(upper) = le.parse::<f64>() else {
                let metric = of_metric(one);
                let message = "is missing or has a malformed value of";
                self.warn(arg, format!("bucket label {LE_LABEL:?} {message} {le:?}{metric}"));
                continue;
            };
            let labels = one.labels.filtered(|name| name != LE_LABEL);
            let place = *places.entry(labels.clone()).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, buckets)) => buckets.push((upper, one)),
                None => groups.push((labels, vec![(upper, one)])),
            }
        }
        let point = |step: usize, buckets: &[(f64, &Series)]| {
            let there = buckets.iter().filter_map(|(upper, series)| {
                Some(LeBucket { upper: *upper, count: series.float_at(step)? })
            });
            let there: Vec<LeBucket> = there.collect();
            if there.is_empty() {
                return None;
            }
            let (number, is_fixed) = number(step, there);
            if is_fixed {
                let metric = buckets.first().map(|(_, series)| of_metric(series)).unwrap_or_default();
                let reason = "(the count of a bucket is below that of a smaller one)";
                self.info(
                    arg,
                    format!(
                        "input to histogram_quantile needed to be fixed for monotonicity {reason}{metric}"
                    ),
                );
            }
            Some(Sample::Float(number))
        };
        let groups = groups.into_iter().map(|(labels, buckets)| {
            let points = (0..grid.count).map(|step| point(step, &buckets)).collect();
            Series { labels, drops_name: true, points }
        });
        groups.collect()
    }
}

/// The name of the metric for remarks.
fn of_metric(series: &Series) -> String {
    match series.labels.name() {
        "" => String::new(),
        name => format!(" for metric name {name:?}"),
    }
}

/// A number of each histogram; floats and empty series are left out.
fn mapped(mut series: Vec<Series>, number: impl Fn(usize, &HistogramValue) -> f64) -> Vec<Series> {
    for one in &mut series {
        one.drops_name = true;
        for (step, point) in one.points.iter_mut().enumerate() {
            let hist = point.as_ref().and_then(Sample::histogram);
            *point = hist.map(|hist| Sample::Float(number(step, hist)));
        }
    }
    series.retain(|series| !series.is_empty());
    series
}
