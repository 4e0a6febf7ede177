//! Functions over histograms: native ones, and classic `le` buckets.

use std::collections::{HashMap, HashSet};

use super::super::ast::Expr;
use super::super::functions::classic::{LeBucket, bucket_fraction, bucket_quantile};
use super::super::histogram::{HistogramValue, Observed};
use super::super::number::format_general;
use super::super::value::{Labels, Sample};
use super::series::Series;
use super::{Evaluator, Grid, Value};
use crate::{Error, ErrorKind, Result};

/// The label of a classic bucket's upper bound.
const LE_LABEL: &str = "le";
/// Quantiles that `histogram_quantiles` takes at once, as in Prometheus.
const QUANTILES_MAX: usize = 10;

/// A histogram of either kind.
enum Input<'a> {
    Classic(Vec<LeBucket>),
    Native(&'a HistogramValue),
}

/// What is to be said of a number.
enum Note {
    Fixed,
    NanOnly,
    NanBeyond,
    NanLeftOut,
}

impl Note {
    fn text(&self, metric: &str) -> String {
        let quantile = "input to histogram_quantile";
        match self {
            Self::Fixed => {
                let reason = "(the count of a bucket is below that of a smaller one)";
                format!("{quantile} needed to be fixed for monotonicity {reason}{metric}")
            }
            Self::NanOnly => format!("{quantile} has NaN observations, result is NaN{metric}"),
            Self::NanBeyond => format!("{quantile} has NaN observations, result is skewed higher{metric}"),
            Self::NanLeftOut => {
                let what = "has NaN observations, which are excluded from all fractions";
                format!("input to histogram_fraction {what}{metric}")
            }
        }
    }
}

/// A quantile of a histogram of either kind.
fn quantile_of(q: f64, input: Input<'_>) -> (f64, Option<Note>) {
    match input {
        Input::Classic(buckets) => {
            let (quantile, is_fixed) = bucket_quantile(q, buckets);
            (quantile, is_fixed.then_some(Note::Fixed))
        }
        Input::Native(hist) => {
            let (quantile, observed) = hist.quantile(q);
            let note = match observed {
                Observed::Numbers => None,
                Observed::NanBeyond => Some(Note::NanBeyond),
                Observed::NanOnly => Some(Note::NanOnly),
            };
            (quantile, note)
        }
    }
}

/// The series of an argument that are histograms.
struct Histograms<'a> {
    /// Buckets by their labels but `le`.
    classic: Vec<(Labels, Vec<(f64, &'a Series)>)>,
    /// Series with native histograms, and the buckets of the same labels, which must not be there at the same time.
    native: Vec<(&'a Series, Option<usize>)>,
}

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
        Ok(Value::Vector(mapped(series, number)))
    }

    /// As [`of_histograms`](Self::of_histograms), for numbers that need no buckets: hints are told on the way.
    pub(super) fn of_totals(
        &self,
        args: &[Expr],
        grid: &Grid,
        number: fn(&HistogramValue) -> f64,
    ) -> Result<Value> {
        let before = self.tells_resets.replace(true);
        let found = self.of_histograms(args, grid, number);
        self.tells_resets.set(before);
        found
    }

    /// The series of an argument whose buckets are needed.
    fn with_buckets(&self, arg: &Expr, grid: &Grid) -> Result<Vec<Series>> {
        let before = self.tells_resets.replace(false);
        let found = self.vector(arg, grid);
        self.tells_resets.set(before);
        found
    }

    /// `histogram_quantile(q, v)`.
    pub(super) fn histogram_quantile(&self, expr: &Expr, args: &[Expr], grid: &Grid) -> Result<Value> {
        let quantiles = self.quantiles(expr, self.arg(expr, args, 0)?, grid)?;
        let arg = self.arg(expr, args, 1)?;
        let series = self.with_buckets(arg, grid)?;
        let q_at = |step: usize| quantiles.get(step).copied().unwrap_or(f64::NAN);
        let found = self.histograms_of(arg, &series);
        Ok(Value::Vector(self.numbers(arg, &found, grid, |step, input| quantile_of(q_at(step), input))))
    }

    /// `histogram_quantiles(v, label, q, ...)`.
    pub(super) fn histogram_quantiles(&self, expr: &Expr, args: &[Expr], grid: &Grid) -> Result<Value> {
        let arg = self.arg(expr, args, 0)?;
        let label = self.string(self.arg(expr, args, 1)?)?;
        let params = args.get(2..).unwrap_or_default();
        if params.len() > QUANTILES_MAX {
            let message = format!("histogram_quantiles takes at most {QUANTILES_MAX} quantiles");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let series = self.with_buckets(arg, grid)?;
        if let Some(one) = series.iter().find(|one| !one.labels.get(&label).is_empty()) {
            let message = format!("label {label:?} is there already in {}", one.labels);
            return Err(Error::new(ErrorKind::Execution, message));
        }
        let histograms = self.histograms_of(arg, &series);
        let mut found = Vec::new();
        for param in params {
            let quantiles = self.quantiles(expr, param, grid)?;
            // A quantile that is not the same at all steps goes to as many series.
            let mut distinct: Vec<f64> = Vec::new();
            for q in &quantiles {
                if !distinct.iter().any(|other| other.to_bits() == q.to_bits()) {
                    distinct.push(*q);
                }
            }
            for q in distinct {
                let text = open_metrics(q);
                let is_at =
                    |step: usize| quantiles.get(step).is_some_and(|other| other.to_bits() == q.to_bits());
                let mut of_q = self.numbers(arg, &histograms, grid, |_, input| quantile_of(q, input));
                for one in &mut of_q {
                    one.labels = one.labels.with(&label, &text);
                    let steps = one.points.iter_mut().enumerate();
                    steps.filter(|(step, _)| !is_at(*step)).for_each(|(_, point)| *point = None);
                    self.context.budget.charge_bytes(one.memory_bytes())?;
                }
                found.extend(of_q.into_iter().filter(|one| !one.is_empty()));
            }
        }
        Ok(Value::Vector(found))
    }

    /// `histogram_fraction(lower, upper, v)`.
    pub(super) fn histogram_fraction(&self, expr: &Expr, args: &[Expr], grid: &Grid) -> Result<Value> {
        let lower = self.scalar(self.arg(expr, args, 0)?, grid)?;
        let upper = self.scalar(self.arg(expr, args, 1)?, grid)?;
        let arg = self.arg(expr, args, 2)?;
        let series = self.with_buckets(arg, grid)?;
        let at = |bounds: &[f64], step: usize| bounds.get(step).copied().unwrap_or(f64::NAN);
        let found = self.histograms_of(arg, &series);
        Ok(Value::Vector(self.numbers(arg, &found, grid, |step, input| {
            let (lower, upper) = (at(&lower, step), at(&upper, step));
            match input {
                Input::Classic(buckets) => (bucket_fraction(lower, upper, buckets), None),
                Input::Native(hist) => {
                    let has_nan = !hist.is_of_cells && hist.sum.is_nan();
                    (hist.fraction(lower, upper), has_nan.then_some(Note::NanLeftOut))
                }
            }
        })))
    }

    /// Finds the histograms among series: native ones, and groups of buckets with the same labels but `le`.
    fn histograms_of<'s>(&self, arg: &Expr, series: &'s [Series]) -> Histograms<'s> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut classic: Vec<(Labels, Vec<(f64, &Series)>)> = Vec::new();
        for one in series.iter().filter(|one| one.points.iter().flatten().any(|p| p.float().is_some())) {
            let le = one.labels.get(LE_LABEL);
            let Ok(upper) = le.parse::<f64>() else {
                let metric = of_metric(one);
                let message = "is missing or has a malformed value of";
                self.warn(arg, format!("bucket label {LE_LABEL:?} {message} {le:?}{metric}"));
                continue;
            };
            let labels = one.labels.filtered(|name| name != LE_LABEL);
            let place = *places.entry(labels.clone()).or_insert(classic.len());
            match classic.get_mut(place) {
                Some((_, buckets)) => buckets.push((upper, one)),
                None => classic.push((labels, vec![(upper, one)])),
            }
        }
        let is_native = |one: &&Series| one.points.iter().flatten().any(|p| p.histogram().is_some());
        let native = series
            .iter()
            .filter(is_native)
            .map(|one| (one, places.get(&one.labels.filtered(|name| name != LE_LABEL)).copied()));
        Histograms { classic, native: native.collect() }
    }

    /// A number of each histogram. Where there are buckets and a native histogram of the same labels there is none.
    fn numbers(
        &self,
        arg: &Expr,
        histograms: &Histograms<'_>,
        grid: &Grid,
        number: impl Fn(usize, Input<'_>) -> (f64, Option<Note>),
    ) -> Vec<Series> {
        let note = |series: &Series, note: Option<Note>| {
            let text = note.map(|note| note.text(&of_metric(series)));
            text.into_iter().for_each(|text| self.info(arg, text));
        };
        let hist_at = |series: &Series, step: usize| series.at(step).and_then(Sample::histogram).is_some();
        let is_mixed = |place: usize, step: usize| {
            let own = histograms.native.iter().filter(|(_, other)| *other == Some(place));
            own.filter(|(series, _)| hist_at(series, step)).count() > 0
        };
        let has_native: HashSet<usize> = histograms.native.iter().filter_map(|(_, place)| *place).collect();
        let mut found = Vec::new();
        for (place, (labels, buckets)) in histograms.classic.iter().enumerate() {
            let point = |step: usize| {
                let there = buckets.iter().filter_map(|(upper, series)| {
                    Some(LeBucket { upper: *upper, count: series.float_at(step)? })
                });
                let there: Vec<LeBucket> = there.collect();
                let (_, first) = buckets.first()?;
                if there.is_empty() {
                    return None;
                }
                if has_native.contains(&place) && is_mixed(place, step) {
                    let message = "vector contains a mix of classic and native histograms";
                    self.warn(arg, format!("{message}{}", of_metric(first)));
                    return None;
                }
                let (number, remark) = number(step, Input::Classic(there));
                note(first, remark);
                Some(Sample::Float(number))
            };
            let points = (0..grid.count).map(point).collect();
            found.push(Series { labels: labels.clone(), drops_name: true, points });
        }
        for (series, place) in &histograms.native {
            let buckets = place.and_then(|place| histograms.classic.get(place));
            let is_mixed = |step| {
                buckets.is_some_and(|(_, all)| all.iter().any(|(_, one)| one.float_at(step).is_some()))
            };
            let point = |step: usize| {
                let hist = series.at(step).and_then(Sample::histogram).filter(|_| !is_mixed(step))?;
                let (number, remark) = number(step, Input::Native(hist));
                note(series, remark);
                Some(Sample::Float(number))
            };
            let points = (0..grid.count).map(point).collect();
            found.push(Series { labels: series.labels.clone(), drops_name: true, points });
        }
        found.retain(|series| !series.is_empty());
        found
    }
}

/// A quantile as the value of a label, as OpenMetrics writes floats.
fn open_metrics(q: f64) -> String {
    let text = format_general(q);
    if q.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

/// The name of the metric for remarks.
fn of_metric(series: &Series) -> String {
    match series.labels.name() {
        "" => String::new(),
        name => format!(" for metric name {name:?}"),
    }
}

/// A number of each histogram; floats and empty series are left out.
fn mapped(mut series: Vec<Series>, number: fn(&HistogramValue) -> f64) -> Vec<Series> {
    for one in &mut series {
        one.drops_name = true;
        for point in &mut one.points {
            let hist = point.as_ref().and_then(Sample::histogram);
            *point = hist.map(|hist| Sample::Float(number(hist)));
        }
    }
    series.retain(|series| !series.is_empty());
    series
}
