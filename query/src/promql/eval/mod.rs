//! Tree to value: every expression is evaluated once, for all steps of the query together.
//!
//! Read in this order: this file (entry points, grid, dispatch, the final shape), [`series`] (vectors over steps),
//! [`select`] (names and matchers to series), [`read`] (series to samples), [`native`] (series with histograms),
//! [`window`] (functions over ranges), [`edges`] (`anchored` and `smoothed`), [`call`], [`labels`], [`info`] and [`histogram`]
//! (the other functions), [`binary`] and [`matching`] (operators), [`aggregate`] and [`tally`]; and the short way of
//! aggregations over very many series: [`leaf`], [`roster`], [`stream`], and the shortest: [`grouped`].
//! [`memo`] keeps what is asked for again. [`raw`] hands over samples that are evaluated somewhere else,
//! [`newest`](mod@newest) the newest one of each series.
//!
//! Metric names are dropped last: operators only mark series whose name is to go, so that `label_replace` can still
//! use it. When two series are one after that, their points are joined, or it is an error.

mod aggregate;
mod binary;
mod call;
mod edges;
mod grouped;
mod histogram;
mod info;
mod labels;
mod leaf;
mod matching;
mod memo;
mod native;
mod newest;
mod raw;
mod read;
mod roster;
mod select;
mod series;
mod stream;
mod tally;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use icecore_storage::scan::{Coverage, Resolution, Scan};

use super::ast::{At, Edge, Expr, ExprKind, Shift, ValueType};
use super::check::type_of;
use super::duration::{QueryTimes, resolve};
use super::functions::native::Remark;
use super::parser::parse;
use super::print::quote_bytes;
use super::value::{Answer, MatrixSeries, QueryValue, VectorSample, answer_bytes};
use crate::error::line_column;
use crate::{Budget, Error, ErrorKind, Result};
use memo::Memo;
pub use newest::{NewestSample, newest};
pub use raw::{SeriesSamples, SeriesSink, each_series, has_histograms};
pub use select::{find_measurements, find_series};
use series::{Series, drop_names};

/// What a query runs on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The view of the data.
    pub scan: &'a dyn Scan,
    /// The account.
    pub budget: &'a Budget,
    /// How old the last sample of an instant selector may be; Prometheus has five minutes.
    pub lookback: Duration,
    /// What to do where raw rows are gone.
    pub resolution: Resolution,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Context").field("budget", self.budget).finish_non_exhaustive()
    }
}

/// Evaluates a query at one time.
///
/// # Errors
/// `InvalidInput`, `Unsupported`, `Execution`, and those of the budget and of storage.
pub fn instant(context: &Context<'_>, text: &str, time_ns: i64) -> Result<Answer> {
    let mut expr = parse_bounded(context, text)?;
    resolve(text, &mut expr, QueryTimes { step: 0.0, range: 0.0 })?;
    let grid = Grid { start_ns: time_ns, step_ns: 0, count: 1 };
    let evaluator = Evaluator { memo: Memo::of(&expr), ..Evaluator::new(context, text, &grid) };
    let value = if type_of(&expr) == ValueType::Matrix {
        QueryValue::Matrix(evaluator.matrix(&expr, &grid)?)
    } else {
        let value = evaluator.eval(&expr, &grid)?;
        evaluator.at_one_time(value, time_ns)?
    };
    evaluator.answer(value)
}

/// Evaluates a query at `start_ns`, `start_ns + step_ns` and so on up to `end_ns`.
///
/// # Errors
/// As [`instant`]; `InvalidInput` when the step is not positive, the end lies before the start, or the query gives
/// neither numbers nor an instant vector; `LimitExceeded` when there are too many steps.
pub fn range(context: &Context<'_>, text: &str, start_ns: i64, end_ns: i64, step_ns: i64) -> Result<Answer> {
    let mut expr = parse_bounded(context, text)?;
    let found = type_of(&expr);
    if !matches!(found, ValueType::Scalar | ValueType::Vector) {
        let message =
            format!("invalid expression type \"{found}\" for range query, must be scalar or instant vector");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    if step_ns <= 0 {
        let message = "zero or negative query resolution step widths are not accepted; try a positive one";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    if end_ns < start_ns {
        return Err(Error::new(ErrorKind::InvalidInput, "end timestamp must not be before start time"));
    }
    let max = context.budget.limits().steps_max;
    let steps = (end_ns.abs_diff(start_ns) / step_ns.unsigned_abs()).saturating_add(1);
    let count = usize::try_from(steps).ok().filter(|_| steps <= max);
    let Some(count) = count else {
        let message = format!(
            "exceeded maximum resolution of {max} points per timeseries (limit steps_max); the range has {steps} \
             steps, use a larger step"
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("steps_max"));
    };
    let times =
        QueryTimes { step: step_ns as f64 / 1e9, range: end_ns.saturating_sub(start_ns) as f64 / 1e9 };
    resolve(text, &mut expr, times)?;
    let grid = Grid { start_ns, step_ns, count };
    let evaluator = Evaluator { end_ns, memo: Memo::of(&expr), ..Evaluator::new(context, text, &grid) };
    let value = evaluator.eval(&expr, &grid)?;
    let value = evaluator.over_time(value, &grid)?;
    evaluator.answer(value)
}

fn parse_bounded(context: &Context<'_>, text: &str) -> Result<Expr> {
    let max = context.budget.limits().text_bytes_max;
    if text.len() > max {
        let message = format!(
            "query text has {} bytes, more than {max} are not allowed (limit text_bytes_max)",
            text.len()
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("text_bytes_max"));
    }
    context.budget.check_time()?;
    parse(text)
}

/// The evaluation times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    start_ns: i64,
    step_ns: i64,
    count: usize,
}

impl Grid {
    fn ts_ns(&self, step: usize) -> i64 {
        // The last step does not lie after the query's end; saturation only guards subqueries at the edge of time.
        self.start_ns.saturating_add(self.step_ns.saturating_mul(i64::try_from(step).unwrap_or(i64::MAX)))
    }

    fn times(&self) -> impl Iterator<Item = i64> {
        let grid = *self;
        (0..grid.count).map(move |step| grid.ts_ns(step))
    }
}

/// The value of an expression at all steps.
#[derive(Debug, Clone)]
enum Value {
    /// One number per step.
    Scalar(Vec<f64>),
    /// Series with one place per step.
    Vector(Vec<Series>),
    /// A text.
    Text(String),
}

impl Value {
    /// An estimate of the memory it takes.
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Scalar(values) => size_of_val(&**values) as u64,
            Self::Vector(series) => series.iter().map(Series::memory_bytes).sum(),
            Self::Text(text) => text.len() as u64,
        }
    }
}

/// Remarks gathered on the way.
#[derive(Debug, Default)]
struct Notes {
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
    coverage: Coverage,
}

/// One evaluation.
struct Evaluator<'a> {
    context: &'a Context<'a>,
    text: &'a str,
    start_ns: i64,
    end_ns: i64,
    step_ns: i64,
    /// Points of series that wait for their turn in an aggregation.
    points_max: usize,
    /// Whether histograms are read for their counts and sums alone: then hints are told by comparing them.
    tells_resets: Cell<bool>,
    memo: Memo,
    /// How often something was said.
    remarks: Cell<u64>,
    notes: RefCell<Notes>,
}

impl<'a> Evaluator<'a> {
    fn new(context: &'a Context<'a>, text: &'a str, grid: &Grid) -> Self {
        let Grid { start_ns, step_ns, .. } = *grid;
        let points_max = stream::POINTS_MAX;
        Self {
            context,
            text,
            start_ns,
            end_ns: start_ns,
            step_ns,
            points_max,
            tells_resets: Cell::new(false),
            memo: Memo::default(),
            remarks: Cell::new(0),
            notes: RefCell::default(),
        }
    }

    /// Evaluates an expression that is not a range vector. What was held on the way is given back: after it, only the
    /// value is charged.
    fn eval(&self, expr: &Expr, grid: &Grid) -> Result<Value> {
        self.recalled(expr, grid)
    }

    fn settled(&self, expr: &Expr, grid: &Grid) -> Result<Value> {
        let before = self.held_bytes();
        let value = self.unsettled(expr, grid)?;
        self.settle(before, value.memory_bytes())?;
        Ok(value)
    }

    /// Bytes held now, but for those that are kept for later.
    fn held_bytes(&self) -> u64 {
        self.context.budget.memory_bytes().saturating_sub(self.memo.bytes())
    }

    /// Gives back all that was charged since `before` but so many bytes, and what is kept for later.
    fn settle(&self, before: u64, bytes: u64) -> Result<()> {
        self.context.budget.settle_bytes(before, bytes.saturating_add(self.memo.bytes()))
    }

    fn unsettled(&self, expr: &Expr, grid: &Grid) -> Result<Value> {
        match &expr.kind {
            ExprKind::Number { value, .. } => Ok(Value::Scalar(vec![*value; grid.count])),
            ExprKind::Text(text) => Ok(Value::Text(text.clone())),
            ExprKind::Bytes(_) => self.string(expr).map(Value::Text),
            ExprKind::Paren(inner) => self.eval(inner, grid),
            ExprKind::Selector(selector) if selector.edge == Edge::Smoothed => {
                self.smoothed(expr, selector, grid).map(Value::Vector)
            }
            ExprKind::Selector(selector) => self.selector(selector, grid, read::Instant::Value),
            ExprKind::Unary { is_minus, expr: inner } => {
                let value = self.eval(inner, grid)?;
                Ok(if *is_minus { binary::negate(value) } else { value })
            }
            ExprKind::Binary(binary) => self.binary(expr, binary, grid),
            ExprKind::Aggregate(aggregate) => self.aggregate(expr, aggregate, grid),
            ExprKind::Call { name, args } => self.call(expr, name, args, grid),
            ExprKind::Range { .. } | ExprKind::Subquery { .. } => {
                Err(Error::at(self.text, expr.start, "range vector where an instant vector was expected"))
            }
        }
    }

    /// The series of an instant vector expression.
    fn vector(&self, expr: &Expr, grid: &Grid) -> Result<Vec<Series>> {
        match self.eval(expr, grid)? {
            Value::Vector(series) => Ok(series),
            Value::Scalar(_) | Value::Text(_) => {
                Err(Error::at(self.text, expr.start, "expected an instant vector"))
            }
        }
    }

    /// The numbers of a scalar expression.
    fn scalar(&self, expr: &Expr, grid: &Grid) -> Result<Vec<f64>> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::Text(_) => Err(Error::at(self.text, expr.start, "expected a scalar")),
        }
    }

    /// The text of a string expression.
    fn string(&self, expr: &Expr) -> Result<String> {
        match &expr.unwrapped().kind {
            ExprKind::Text(text) => Ok(text.clone()),
            ExprKind::Bytes(bytes) => {
                Err(Error::at(self.text, expr.start, format!("string {} is not UTF-8", quote_bytes(bytes))))
            }
            _ => Err(Error::at(self.text, expr.start, "expected a string")),
        }
    }

    /// The times at which a shifted selector is read: one for all steps when `@` fixes it, else one for each.
    fn shifted(&self, shift: Shift, grid: &Grid) -> Grid {
        let base = match shift.at {
            None => *grid,
            Some(at) => {
                let start_ns = match at {
                    At::Time(time_ns) => time_ns,
                    At::Start => self.start_ns,
                    At::End => self.end_ns,
                };
                Grid { start_ns, step_ns: 0, count: 1 }
            }
        };
        Grid { start_ns: base.start_ns.saturating_sub(shift.offset_ns), ..base }
    }

    fn warn(&self, expr: &Expr, message: impl Display) {
        self.remarks.set(self.remarks.get() + 1);
        let (line, column) = line_column(self.text, expr.start);
        let message = format!("PromQL warning: {message} ({line}:{column})");
        self.notes.borrow_mut().warnings.insert(message);
    }

    fn info(&self, expr: &Expr, message: impl Display) {
        self.remarks.set(self.remarks.get() + 1);
        let (line, column) = line_column(self.text, expr.start);
        self.notes.borrow_mut().infos.insert(format!("PromQL info: {message} ({line}:{column})"));
    }

    /// Says something of a result of this metric, at an expression.
    fn remark(&self, expr: &Expr, metric: &str, remark: Remark) {
        match remark.text(metric) {
            (true, text) => self.warn(expr, text),
            (false, text) => self.info(expr, text),
        }
    }

    fn absorb(&self, coverage: &Coverage) {
        self.notes.borrow_mut().coverage.absorb(coverage);
    }

    fn at_one_time(&self, value: Value, ts_ns: i64) -> Result<QueryValue> {
        Ok(match value {
            Value::Scalar(values) => {
                QueryValue::Scalar { ts_ns, value: values.first().copied().unwrap_or(f64::NAN) }
            }
            Value::Text(text) => QueryValue::Text { ts_ns, text },
            Value::Vector(series) => {
                let series = drop_names(series)?;
                self.context.budget.charge_series(series.len() as u64)?;
                self.context.budget.charge_points(series.len() as u64)?;
                let bytes = series.iter().map(|one| 2 * one.memory_bytes()).sum();
                self.context.budget.charge_bytes(bytes)?;
                let samples = series.into_iter().filter_map(|series| {
                    let value = series.points.into_iter().next().flatten()?;
                    Some(VectorSample { labels: series.labels, ts_ns, value })
                });
                QueryValue::Vector(samples.collect())
            }
        })
    }

    fn over_time(&self, value: Value, grid: &Grid) -> Result<QueryValue> {
        let series = match value {
            Value::Scalar(values) => vec![Series::of_floats(values)],
            Value::Vector(series) => drop_names(series)?,
            Value::Text(_) => return Err(Error::new(ErrorKind::InvalidInput, "a string has no range")),
        };
        let mut matrix = Vec::new();
        for series in series {
            let points = grid.times().zip(series.points);
            let points: Vec<_> = points.filter_map(|(ts_ns, point)| Some((ts_ns, point?))).collect();
            self.context.budget.charge_points(points.len() as u64)?;
            if !points.is_empty() {
                self.context.budget.charge_series(1)?;
                self.context.budget.charge_bytes(answer_bytes(&series.labels, &points))?;
                matrix.push(MatrixSeries { labels: series.labels, points });
            }
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(QueryValue::Matrix(matrix))
    }

    fn answer(self, value: QueryValue) -> Result<Answer> {
        self.context.budget.check_time()?;
        let notes = self.notes.into_inner();
        let rounded = notes.coverage.rounded;
        let rounded = rounded.map(|tier| format!("window rounded to {}: raw rows are gone", tier.name()));
        Ok(Answer {
            value,
            warnings: notes.warnings.into_iter().collect(),
            infos: rounded.into_iter().chain(notes.infos).collect(),
            coverage: notes.coverage,
        })
    }
}
