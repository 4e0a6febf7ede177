//! Functions that are not over ranges: by number, by date, by order, and between scalars and vectors.

use std::cmp::Ordering;

use super::super::ast::{Edge, Expr, ExprKind};
use super::super::functions::{self, Run, Special, math};
use super::super::histogram::HistogramValue;
use super::super::number::seconds_of;
use super::super::value::{Labels, Sample};
use super::read::Instant;
use super::series::Series;
use super::window::{absent_from, absent_labels};
use super::{Evaluator, Grid, Value};
use crate::{Error, Result};

impl Evaluator<'_> {
    pub(super) fn call(&self, expr: &Expr, name: &str, args: &[Expr], grid: &Grid) -> Result<Value> {
        let Some(function) = functions::find(name) else {
            return Err(self.unsupported(expr, format!("function {name}()")));
        };
        match function.run {
            Run::Window(_) | Run::Samples(_) => {
                self.range_call(expr, function, args, grid).map(Value::Vector)
            }
            Run::Map(formula) => self.mapped(args, grid, |_, value| Some(formula(value))),
            Run::Date(formula) if args.is_empty() => {
                let at = |ts_ns| math::date_of(seconds_of(ts_ns)).map_or(f64::NAN, formula);
                Ok(Value::Vector(vec![Series::of_floats(grid.times().map(at).collect())]))
            }
            Run::Date(formula) => {
                self.mapped(args, grid, |_, value| Some(math::date_of(value).map_or(f64::NAN, formula)))
            }
            Run::Special(Special::AbsentOverTime) => {
                let series = self.absent_over_time(expr, function, self.arg(expr, args, 0)?, grid)?;
                Ok(Value::Vector(vec![series]))
            }
            Run::Special(special) => self.special(expr, special, args, grid),
        }
    }

    fn special(&self, expr: &Expr, special: Special, args: &[Expr], grid: &Grid) -> Result<Value> {
        let arg = |index| self.arg(expr, args, index);
        let same = |nanos: i64| Value::Scalar(vec![seconds_of(nanos); grid.count]);
        match special {
            Special::Time => Ok(Value::Scalar(grid.times().map(seconds_of).collect())),
            Special::Start => Ok(same(self.start_ns)),
            Special::End => Ok(same(self.end_ns)),
            Special::Range => Ok(same(self.end_ns.saturating_sub(self.start_ns))),
            Special::Step => Ok(same(self.step_ns)),
            Special::Pi => Ok(Value::Scalar(vec![std::f64::consts::PI; grid.count])),
            Special::MaxOf | Special::MinOf => {
                let of = if special == Special::MaxOf { math::max_nan } else { math::min_nan };
                let pairs = self.scalar(arg(0)?, grid)?.into_iter().zip(self.scalar(arg(1)?, grid)?);
                Ok(Value::Scalar(pairs.map(|(left, right)| of(left, right)).collect()))
            }
            Special::Scalar => Ok(Value::Scalar(self.single(&self.vector(arg(0)?, grid)?, grid))),
            Special::Vector => Ok(Value::Vector(vec![Series::of_floats(self.scalar(arg(0)?, grid)?)])),
            Special::Timestamp => self.timestamp(arg(0)?, grid),
            Special::Absent | Special::AbsentOverTime => {
                let labels = match &arg(0)?.unwrapped().kind {
                    ExprKind::Selector(selector) => absent_labels(selector),
                    _ => Labels::default(),
                };
                let found = self.vector(arg(0)?, grid)?;
                Ok(Value::Vector(vec![absent_from(&found, labels, grid)]))
            }
            Special::Round | Special::Clamp | Special::ClampMin | Special::ClampMax => {
                self.bounded(special, args, grid)
            }
            Special::Sort | Special::SortDesc => {
                let mut series = self.vector(arg(0)?, grid)?;
                if grid.count == 1 {
                    sort_by_value(&mut series, special == Special::SortDesc);
                }
                Ok(Value::Vector(series))
            }
            Special::SortByLabel | Special::SortByLabelDesc => {
                let is_descending = special == Special::SortByLabelDesc;
                self.sort_by_label(arg(0)?, args.get(1..).unwrap_or_default(), is_descending, grid)
            }
            Special::Info => self.info_call(args, grid),
            // Storage keeps no start times, so no sample has one.
            Special::StartTimestamp => self.vector(arg(0)?, grid).map(|_| Value::Vector(Vec::new())),
            Special::LabelReplace => self.label_replace(args, grid),
            Special::LabelJoin => self.label_join(args, grid),
            Special::HistogramQuantile => self.histogram_quantile(expr, args, grid),
            Special::HistogramFraction => self.histogram_fraction(expr, args, grid),
            Special::HistogramQuantiles => self.histogram_quantiles(expr, args, grid),
            Special::HistogramCount => self.of_totals(args, grid, |hist| hist.count),
            Special::HistogramSum => self.of_totals(args, grid, |hist| hist.sum),
            Special::HistogramAvg => self.of_totals(args, grid, |hist| hist.sum / hist.count),
            Special::HistogramStddev => self.of_histograms(args, grid, |hist| hist.variance().sqrt()),
            Special::HistogramStdvar => self.of_histograms(args, grid, HistogramValue::variance),
        }
    }

    /// An argument that the type check has made sure of.
    pub(super) fn arg<'e>(&self, expr: &Expr, args: &'e [Expr], index: usize) -> Result<&'e Expr> {
        args.get(index).ok_or_else(|| Error::at(self.text, expr.start, "an argument is missing"))
    }

    /// The first argument, number by number; histograms are left out.
    fn mapped(
        &self,
        args: &[Expr],
        grid: &Grid,
        mut formula: impl FnMut(usize, f64) -> Option<f64>,
    ) -> Result<Value> {
        let Some(arg) = args.first() else { return Ok(Value::Vector(Vec::new())) };
        let mut series = self.vector(arg, grid)?;
        for one in &mut series {
            one.drops_name = true;
            for (step, point) in one.points.iter_mut().enumerate() {
                let value = point.as_ref().and_then(Sample::float);
                *point = value.and_then(|value| formula(step, value)).map(Sample::Float);
            }
        }
        series.retain(|series| !series.is_empty());
        Ok(Value::Vector(series))
    }

    /// `round` and the clamps: a vector and up to two scalars.
    fn bounded(&self, special: Special, args: &[Expr], grid: &Grid) -> Result<Value> {
        let scalars = |index: usize, default: f64| match args.get(index) {
            Some(arg) => self.scalar(arg, grid),
            None => Ok(vec![default; grid.count]),
        };
        let first = scalars(1, 1.0)?;
        let second = scalars(2, f64::INFINITY)?;
        self.mapped(args, grid, |step, value| {
            let (first, second) = (*first.get(step)?, *second.get(step)?);
            match special {
                Special::Round => Some(math::round(value, first)),
                Special::ClampMin => Some(math::max_nan(first, value)),
                Special::ClampMax => Some(math::min_nan(first, value)),
                _ if second < first => None,
                _ => Some(math::max_nan(first, math::min_nan(second, value))),
            }
        })
    }

    /// The number of the only series at each step; NaN where there is not exactly one.
    fn single(&self, series: &[Series], grid: &Grid) -> Vec<f64> {
        let at = |step| {
            let mut there = series.iter().filter_map(|series| series.float_at(step));
            match (there.next(), there.next()) {
                (Some(value), None) => value,
                _ => f64::NAN,
            }
        };
        (0..grid.count).map(at).collect()
    }

    /// The time of the sample where the argument is a plain selector, else of the step.
    fn timestamp(&self, arg: &Expr, grid: &Grid) -> Result<Value> {
        let mut series = match &arg.unwrapped().kind {
            ExprKind::Selector(selector) if selector.edge == Edge::Inside => {
                match self.selector(selector, grid, Instant::Time)? {
                    Value::Vector(series) => series,
                    Value::Scalar(_) | Value::Text(_) => Vec::new(),
                }
            }
            _ => {
                let mut series = self.vector(arg, grid)?;
                for one in &mut series {
                    for (ts_ns, point) in grid.times().zip(&mut one.points) {
                        *point = point.as_ref().map(|_| Sample::Float(seconds_of(ts_ns)));
                    }
                }
                series
            }
        };
        series.iter_mut().for_each(|series| series.drops_name = true);
        Ok(Value::Vector(series))
    }
}

/// Orders an instant vector; NaN last either way, histograms left out.
fn sort_by_value(series: &mut Vec<Series>, is_descending: bool) {
    series.retain(|series| series.float_at(0).is_some());
    series.sort_by(|a, b| {
        let (Some(a), Some(b)) = (a.float_at(0), b.float_at(0)) else { return Ordering::Equal };
        let by_value = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        let by_value = if is_descending { by_value.reverse() } else { by_value };
        a.is_nan().cmp(&b.is_nan()).then(by_value)
    });
}
