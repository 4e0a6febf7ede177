//! Functions over ranges: from partials where cells can answer, from raw samples where not, and over subqueries.

use std::sync::Arc;

use icecore_storage::model::{Partial, ResetHint, floor_to};
use icecore_storage::scan::Window;

use super::super::ast::{Edge, Expr, ExprKind, Selector, ValueType};
use super::super::check::type_of;
use super::super::functions::range::{self, RawWindow};
use super::super::functions::{Function, Run};
use super::super::histogram::HistogramValue;
use super::super::value::{Labels, Sample};
use super::native::Over;
use super::read::{RawSeries, histogram_of, raw_bytes, statistic, wants_of, windows_of};
use super::select::{Statistic, statistic_of};
use super::series::{Point, Series};
use super::{Evaluator, Grid};
use crate::{Error, ErrorKind, Result};

/// Distance of the evaluations of a subquery that names none.
const SUBQUERY_STEP_NS: i64 = 60_000_000_000;
/// Evaluations of one subquery.
const SUBQUERY_STEPS_MAX: u64 = 1_000_000;

/// Scalar arguments of a range function, one pair per step.
pub(super) type Params = Vec<[f64; 2]>;

impl Evaluator<'_> {
    /// A call with one range vector among its arguments.
    pub(super) fn range_call(
        &self,
        expr: &Expr,
        function: &Function,
        args: &[Expr],
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let params = self.params(expr, function, args, grid)?;
        let Some(arg) = args.iter().find(|arg| type_of(arg) == ValueType::Matrix) else {
            return Err(Error::at(self.text, expr.start, "expected a range vector"));
        };
        let matrix = arg.unwrapped();
        let over = Over { function, arg };
        let mut series = match &matrix.kind {
            ExprKind::Range { selector, range_ns } => {
                let windows = windows_of(&self.shifted(selector.shift, grid), *range_ns);
                self.over_selector(expr, over, selector, &windows, grid, &params)?
            }
            _ => self.over_subquery(over, matrix, grid, &params)?,
        };
        if !keeps_name(function) {
            series.iter_mut().for_each(|series| series.drops_name = true);
        }
        series.retain(|series| !series.is_empty());
        Ok(series)
    }

    /// The scalar arguments at each step.
    pub(super) fn params(
        &self,
        expr: &Expr,
        function: &Function,
        args: &[Expr],
        grid: &Grid,
    ) -> Result<Params> {
        self.context.budget.charge_bytes((grid.count * size_of::<[f64; 2]>()) as u64)?;
        let mut params = vec![[0.0; 2]; grid.count];
        let scalars = args.iter().filter(|arg| type_of(arg) == ValueType::Scalar);
        for (index, arg) in scalars.enumerate() {
            for (step, value) in self.scalar(arg, grid)?.into_iter().enumerate() {
                if let Some(place) = params.get_mut(step).and_then(|params| params.get_mut(index)) {
                    *place = value;
                }
            }
        }
        if function.name == "double_exponential_smoothing" {
            for factor in params.iter().flatten() {
                if !(0.0 < *factor && *factor < 1.0) {
                    let message = format!("invalid smoothing factor, expected 0 < factor < 1, got {factor}");
                    return Err(Error::new(ErrorKind::Execution, message));
                }
            }
        }
        if function.name == "quantile_over_time" {
            let outside = params.iter().map(|params| params[0]).find(|q| !(0.0..=1.0).contains(q));
            if let Some(q) = outside {
                self.warn(expr, format!("quantile value should be between 0 and 1, got {q}"));
            }
        }
        Ok(params)
    }

    fn over_selector(
        &self,
        expr: &Expr,
        over: Over<'_>,
        selector: &Selector,
        windows: &[Window],
        grid: &Grid,
        params: &Params,
    ) -> Result<Vec<Series>> {
        let function = over.function;
        if selector.edge != Edge::Inside {
            return self.over_edges(expr, over, selector, windows, grid);
        }
        if let Some(found) = statistic_of(selector)? {
            return self.over_statistic(expr, function, selector, found, windows, grid);
        }
        match function.run {
            Run::Window(formula) => {
                let (plain, mixed) = self.parted(self.targets(selector, windows)?);
                let point =
                    |_, window, partial: &Partial| formula(&partial.numbers()?, window).map(Sample::Float);
                let series = self.windows(&plain, windows, grid, range::wants_of(function.name), point)?;
                if mixed.is_empty() {
                    return Ok(series);
                }
                let (found, coverage) = self.samples_of(&mixed, windows, false)?;
                self.refuse_gone(expr, "a field with native histograms", &coverage)?;
                self.absorb(&coverage);
                self.joined(series, self.slide(over, found, windows, grid, params)?)
            }
            Run::Samples(_) => {
                let (found, coverage) = self.samples(selector, windows)?;
                if coverage.raw_gone_before_ns.is_some() {
                    if function.name == "quantile_over_time" {
                        return self.quantile_of_cells(expr, selector, windows, grid, params);
                    }
                    self.refuse_gone(expr, &format!("{}()", function.name), &coverage)?;
                }
                self.slide(over, found, windows, grid, params)
            }
            Run::Map(_) | Run::Date(_) | Run::Special(_) => Err(self.unsupported(expr, function.name)),
        }
    }

    /// `quantile_over_time` where raw rows are gone: from the histogram of the window.
    fn quantile_of_cells(
        &self,
        expr: &Expr,
        selector: &Selector,
        windows: &[Window],
        grid: &Grid,
        params: &Params,
    ) -> Result<Vec<Series>> {
        self.info(expr, "quantile_over_time read histograms because raw rows are gone: within 0.5415 %");
        let targets = self.targets(selector, windows)?;
        self.windows(&targets, windows, grid, wants_of(Statistic::Hist), |step, _, partial| {
            let q = params.get(step).map_or(f64::NAN, |params| params[0]);
            let hist = histogram_of(partial, &partial.numbers()?)?;
            Some(Sample::Float(hist.quantile(q).0))
        })
    }

    /// A statistic under the function that gives just that.
    fn over_statistic(
        &self,
        expr: &Expr,
        function: &Function,
        selector: &Selector,
        found: Statistic,
        windows: &[Window],
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let is_rate = match (found, function.name) {
            (Statistic::Hist, "rate") => true,
            (Statistic::Hist, "sum_over_time" | "increase")
            | (Statistic::Count | Statistic::Sum, "sum_over_time")
            | (Statistic::Min, "min_over_time")
            | (Statistic::Max, "max_over_time")
            | (Statistic::First, "first_over_time")
            | (Statistic::Last, "last_over_time") => false,
            (found, name) => {
                return Err(self.unsupported(expr, format!("{name}() of __stat__={:?}", found.name())));
            }
        };
        let targets = self.targets(selector, windows)?;
        self.windows(&targets, windows, grid, wants_of(found), |_, window, partial| {
            let sample = statistic(found, partial)?;
            Some(if is_rate { per_second(sample, window) } else { sample })
        })
    }

    fn over_subquery(
        &self,
        over: Over<'_>,
        matrix: &Expr,
        grid: &Grid,
        params: &Params,
    ) -> Result<Vec<Series>> {
        let ExprKind::Subquery { range_ns, shift, .. } = &matrix.kind else {
            return Err(Error::at(self.text, matrix.start, "expected a range vector"));
        };
        let windows = windows_of(&self.shifted(*shift, grid), *range_ns);
        let (inner, series) = self.subquery(matrix, grid)?;
        let mut found = Vec::with_capacity(series.len());
        for one in series {
            self.context.budget.charge_bytes(raw_bytes(&one.labels, inner.count))?;
            let (mut ts_ns, mut values, mut hists) = (Vec::new(), Vec::new(), Vec::new());
            for (at_ns, point) in inner.times().zip(one.points) {
                match point {
                    Some(Sample::Float(value)) => {
                        ts_ns.push(at_ns);
                        values.push(value);
                    }
                    Some(Sample::Histogram(hist)) => hists.push((at_ns, unhinted(hist))),
                    None => {}
                }
            }
            found.push(RawSeries {
                labels: one.labels,
                drops_name: one.drops_name,
                ts_ns,
                values,
                hists,
                ended_ns: Vec::new(),
            });
        }
        self.slide(over, found, &windows, grid, params)
    }

    /// Evaluates the inner expression of a subquery wherever any step needs it. Its times are multiples of its step.
    pub(super) fn subquery(&self, matrix: &Expr, grid: &Grid) -> Result<(Grid, Vec<Series>)> {
        let ExprKind::Subquery { expr: inner, range_ns, step_ns, shift } = &matrix.kind else {
            return Err(Error::at(self.text, matrix.start, "expected a subquery"));
        };
        let times = self.shifted(*shift, grid);
        let step_ns = step_ns.unwrap_or(SUBQUERY_STEP_NS);
        let after_ns = times.start_ns.saturating_sub(*range_ns);
        let start_ns = floor_to(after_ns, step_ns).saturating_add(step_ns);
        let end_ns = times.ts_ns(times.count.saturating_sub(1));
        let steps = match end_ns < start_ns {
            true => 0,
            false => (end_ns.abs_diff(start_ns) / step_ns.unsigned_abs()).saturating_add(1),
        };
        let Some(count) = usize::try_from(steps).ok().filter(|_| steps <= SUBQUERY_STEPS_MAX) else {
            let message =
                format!("subquery has {steps} steps, more than {SUBQUERY_STEPS_MAX} are not allowed");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        };
        self.context.budget.charge_samples(steps)?;
        let inner_grid = Grid { start_ns, step_ns, count };
        // Its steps skip samples, so that a comparison with the one before would not tell resets.
        let tells_resets = self.tells_resets.replace(false);
        let series = if count == 0 { Ok(Vec::new()) } else { self.vector(inner, &inner_grid) };
        self.tells_resets.set(tells_resets);
        let series = series?;
        Ok((inner_grid, series))
    }

    /// `absent_over_time`: one series where no series has a sample in the window.
    pub(super) fn absent_over_time(
        &self,
        expr: &Expr,
        function: &Function,
        arg: &Expr,
        grid: &Grid,
    ) -> Result<Series> {
        let Some(present) = super::super::functions::find("present_over_time") else {
            return Err(self.unsupported(expr, function.name));
        };
        let found = self.range_call(expr, present, std::slice::from_ref(arg), grid)?;
        let labels = match &arg.unwrapped().kind {
            ExprKind::Range { selector, .. } => absent_labels(selector),
            _ => Labels::default(),
        };
        Ok(absent_from(&found, labels, grid))
    }
}

/// The histogram of a window, for each second of it.
pub(super) fn per_second(sample: Sample, window: Window) -> Sample {
    let Sample::Histogram(hist) = &sample else { return sample };
    let seconds = window.end_ns.saturating_sub(window.start_ns) as f64 / 1e9;
    Sample::Histogram(hist.scaled(1.0 / seconds).into())
}

/// Whether the series of a function over ranges keep the name.
pub(super) fn keeps_name(function: &Function) -> bool {
    matches!(function.name, "first_over_time" | "last_over_time")
}

/// A histogram without what it knew of the one before it, which the steps of a subquery may have left out.
fn unhinted(mut hist: Arc<HistogramValue>) -> Arc<HistogramValue> {
    if matches!(hist.hint, ResetHint::Reset | ResetHint::NotReset) {
        Arc::make_mut(&mut hist).hint = ResetHint::Unknown;
    }
    hist
}

/// What a formula makes of the samples of each window.
pub(super) fn slid(
    (ts_ns, values): (&[i64], &[f64]),
    windows: &[Window],
    grid: &Grid,
    params: &Params,
    formula: impl Fn(&RawWindow<'_>, Window) -> Option<f64>,
) -> impl Iterator<Item = Point> {
    (0..grid.count).filter_map(move |step| {
        // One window serves all steps when `@` fixes it.
        let window = windows.get(step).or(windows.first())?;
        let from = ts_ns.partition_point(|ts_ns| *ts_ns <= window.start_ns);
        let to = ts_ns.partition_point(|ts_ns| *ts_ns <= window.end_ns);
        let view = RawWindow {
            eval_ns: grid.ts_ns(step),
            ts_ns: ts_ns.get(from..to).unwrap_or_default(),
            values: values.get(from..to).unwrap_or_default(),
            params: params.get(step).copied().unwrap_or_default(),
        };
        Some(formula(&view, *window).map(Sample::Float))
    })
}

/// One series with the value 1 wherever none of those found has a point.
pub(super) fn absent_from(found: &[Series], labels: Labels, grid: &Grid) -> Series {
    let is_there = |step| found.iter().any(|series| series.at(step).is_some());
    let points = (0..grid.count).map(|step| (!is_there(step)).then_some(Sample::Float(1.0))).collect();
    Series { labels, drops_name: false, points }
}

/// The labels that a selector states with `=`, each once.
pub(super) fn absent_labels(selector: &Selector) -> Labels {
    use super::super::ast::MatchOp;
    let is_told = |label: &str| !matches!(label, "__name__" | "__stat__");
    let tests = || selector.matchers.iter().filter(|matcher| is_told(&matcher.label));
    let is_single = |label: &str| tests().filter(|matcher| matcher.label == label).count() == 1;
    let stated = tests().filter(|matcher| matcher.op == MatchOp::Equal && is_single(&matcher.label));
    Labels::new(stated.map(|matcher| (matcher.label.as_str(), matcher.value.as_str())))
}
