//! Leaves: expressions whose series each come from one stored series, so that they can be read one after the other:
//! selectors, functions over their ranges, and what is done to each number of these by itself.
//!
//! Knows nothing of what is made of the series. Statistics (`__stat__`) are read the general way.

use icecore_storage::model::{Numbers, Partial, SeriesId, StatSet};
use icecore_storage::scan::{Coverage, Window};

use super::super::ast::{Binary, Edge, Expr, ExprKind, Selector, ValueType};
use super::super::check::type_of;
use super::super::functions::range::{RawWindow, wants_of};
use super::super::functions::{self, Run};
use super::super::value::Sample;
use super::read::{Instant, WindowRead, ended_ns, hull, windows_of};
use super::select::{Target, statistic_of};
use super::series::Point;
use super::window::{Params, keeps_name, slid};
use super::{Evaluator, Grid};
use crate::Result;

/// A leaf of the tree, ready to be read.
pub(super) struct Leaf<'e> {
    pub(super) selector: &'e Selector,
    pub(super) windows: Vec<Window>,
    /// Whether its series lose the name at the end.
    pub(super) drops_name: bool,
    wants: StatSet,
    source: Source,
    /// What is done to each point, from the inside out.
    changes: Vec<Change<'e>>,
}

enum Source {
    /// The last sample of each window.
    Last,
    /// A function of windows.
    Window(fn(&Numbers, Window) -> Option<f64>),
    /// A function of all samples in a window.
    Samples(fn(&RawWindow<'_>) -> Option<f64>, Params),
}

/// What is done to a number by itself.
enum Change<'e> {
    Negate,
    Map(fn(f64) -> f64),
    /// An operator with a scalar, one for each step.
    Scalar {
        expr: &'e Expr,
        binary: &'e Binary,
        scalar: Vec<f64>,
        is_scalar_left: bool,
    },
}

impl Leaf<'_> {
    /// Whether cells cannot answer for raw rows.
    pub(super) fn needs_raw(&self) -> bool {
        matches!(self.source, Source::Samples(..))
    }
}

impl Evaluator<'_> {
    /// The leaf that an expression is; `None` when it is none.
    pub(super) fn leaf<'e>(&self, expr: &'e Expr, grid: &Grid) -> Result<Option<Leaf<'e>>> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.leaf(inner, grid),
            ExprKind::Selector(selector) => {
                if selector.edge != Edge::Inside || statistic_of(selector)?.is_some() {
                    return Ok(None);
                }
                let windows = windows_of(&self.shifted(selector.shift, grid), self.lookback_ns());
                let changes = Vec::new();
                let (source, wants) = (Source::Last, StatSet::ENDS);
                Ok(Some(Leaf { selector, windows, drops_name: false, wants, source, changes }))
            }
            ExprKind::Unary { is_minus, expr: inner } => {
                let changed = |mut leaf: Leaf<'e>| {
                    if *is_minus {
                        leaf.drops_name = true;
                        leaf.changes.push(Change::Negate);
                    }
                    leaf
                };
                Ok(self.leaf(inner, grid)?.map(changed))
            }
            ExprKind::Binary(binary) => self.leaf_with_scalar(expr, binary, grid),
            ExprKind::Call { name, args } => self.leaf_of_call(expr, name, args, grid),
            _ => Ok(None),
        }
    }

    fn leaf_with_scalar<'e>(
        &self,
        expr: &'e Expr,
        binary: &'e Binary,
        grid: &Grid,
    ) -> Result<Option<Leaf<'e>>> {
        let (vector, other, is_scalar_left) = match (type_of(&binary.left), type_of(&binary.right)) {
            (ValueType::Vector, ValueType::Scalar) => (&binary.left, &binary.right, false),
            (ValueType::Scalar, ValueType::Vector) => (&binary.right, &binary.left, true),
            _ => return Ok(None),
        };
        let Some(mut leaf) = self.leaf(vector, grid)? else { return Ok(None) };
        let scalar = self.scalar(other, grid)?;
        leaf.drops_name |= !binary.keeps_name();
        leaf.changes.push(Change::Scalar { expr, binary, scalar, is_scalar_left });
        Ok(Some(leaf))
    }

    fn leaf_of_call<'e>(
        &self,
        expr: &'e Expr,
        name: &str,
        args: &'e [Expr],
        grid: &Grid,
    ) -> Result<Option<Leaf<'e>>> {
        let Some(function) = functions::find(name) else { return Ok(None) };
        if let (Run::Map(formula), [arg]) = (function.run, args) {
            let changed = |mut leaf: Leaf<'e>| {
                leaf.drops_name = true;
                leaf.changes.push(Change::Map(formula));
                leaf
            };
            return Ok(self.leaf(arg, grid)?.map(changed));
        }
        let matrix = args.iter().find(|arg| type_of(arg) == ValueType::Matrix);
        let Some(ExprKind::Range { selector, range_ns }) = matrix.map(|matrix| &matrix.unwrapped().kind)
        else {
            return Ok(None);
        };
        if selector.edge != Edge::Inside || statistic_of(selector)?.is_some() {
            return Ok(None);
        }
        let params = self.params(expr, function, args, grid)?;
        let source = match function.run {
            Run::Window(formula) => Source::Window(formula),
            Run::Samples(formula) => Source::Samples(formula, params),
            Run::Map(_) | Run::Date(_) | Run::Special(_) => return Ok(None),
        };
        let windows = windows_of(&self.shifted(selector.shift, grid), *range_ns);
        let drops_name = !keeps_name(function);
        let wants = wants_of(function.name);
        Ok(Some(Leaf { selector, windows, drops_name, wants, source, changes: Vec::new() }))
    }

    /// Hands over the points of each series that has some, in the order of `ids`.
    pub(super) fn each_of_leaf(
        &self,
        leaf: &Leaf<'_>,
        target: &Target,
        ids: &[SeriesId],
        grid: &Grid,
        mut sink: impl FnMut(usize, &[Point]) -> Result<()>,
    ) -> Result<Coverage> {
        let read = WindowRead { windows: &leaf.windows, grid, wants: leaf.wants };
        let mut sink = |series_idx: usize, points: &mut Vec<Point>| {
            leaf.changes.iter().for_each(|change| self.change(change, points));
            if points.iter().all(Option::is_none) { Ok(()) } else { sink(series_idx, points) }
        };
        match &leaf.source {
            Source::Last => {
                let ends = self.ends(target, ids, &leaf.windows, grid)?;
                let point = |series_idx, step, _, partial: &Partial| {
                    Instant::Value.of(partial, ended_ns(&ends, series_idx, step))
                };
                self.each_window(target.place(), ids, &read, point, sink)
            }
            Source::Window(formula) => {
                let point =
                    |_, _, window, partial: &Partial| formula(&partial.numbers()?, window).map(Sample::Float);
                self.each_window(target.place(), ids, &read, point, sink)
            }
            Source::Samples(formula, params) => {
                let mut points = Vec::new();
                let formula = |raw: &RawWindow<'_>, _: Window| formula(raw);
                self.each_samples(target.place(), ids, hull(&leaf.windows), |series_idx, ts_ns, values| {
                    self.context.budget.charge_samples(grid.count as u64)?;
                    points.clear();
                    points.extend(slid((ts_ns, values), &leaf.windows, grid, params, formula));
                    sink(series_idx, &mut points)
                })
            }
        }
    }

    fn change(&self, change: &Change<'_>, points: &mut [Point]) {
        for (step, point) in points.iter_mut().enumerate() {
            let Some(sample) = point.take() else { continue };
            *point = match change {
                Change::Negate => sample.float().map(|value| Sample::Float(-value)),
                Change::Map(formula) => sample.float().map(|value| Sample::Float(formula(value))),
                Change::Scalar { expr, binary, scalar, is_scalar_left } => {
                    scalar.get(step).and_then(|scalar| {
                        self.point_with_scalar(expr, binary, sample, *scalar, *is_scalar_left)
                    })
                }
            };
        }
    }
}
