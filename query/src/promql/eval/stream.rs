//! Aggregations over very many series: each series is read, put into its group and forgotten.
//!
//! This way is taken when an aggregation stands over one leaf ([`leaf`](super::leaf)) of one metric. Its results are
//! those of the general way ([`aggregate`](super::aggregate)) bit by bit, because groups take their series in the
//! same order, that of their labels. Storage gives series in another order, so points wait until their turn. Order
//! of events:
//!
//! 1. When the points of all series are few enough to be held, they are read first; then the keys of those series
//!    that have points are looked at ([`roster`](super::roster)), but not where neither groups nor order need them.
//! 2. Otherwise the roster of all series comes first, and they are read in portions of it.
//! 3. [`Fold`] takes the points of series after series, and makes the answer.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use icecore_storage::model::SeriesId;
use icecore_storage::scan::Coverage;

use super::super::ast::{Aggregate, AggregateOp, Expr};
use super::super::functions::math;
use super::super::number::format_float;
use super::super::value::Sample;
use super::aggregate::{Counted, by_rank, ranks_of};
use super::leaf::Leaf;
use super::roster::{Roster, position};
use super::select::Target;
use super::series::Series;
use super::tally::{Tally, depends_on_order};
use super::{Evaluator, Grid, Value};
use crate::budget::Held;
use crate::keys::each_key;
use crate::{Budget, Result};

/// Points that wait for their turn at once: 36 MiB.
pub(super) const POINTS_MAX: usize = 4 << 20;
/// What the place of a group takes.
const GROUP_BYTES: u64 = 64;
/// Series folded between two looks at the clock.
const TIME_SERIES: usize = 4096;

/// Points of some series, one place per step.
struct Points<'a> {
    steps: usize,
    /// Positions of the series in the list that was read, ascending.
    series: Vec<u32>,
    values: Vec<f64>,
    is_there: Vec<bool>,
    held: Held<'a>,
}

impl<'a> Points<'a> {
    fn new(budget: &'a Budget, steps: usize) -> Result<Self> {
        let held = budget.hold_bytes(0)?;
        Ok(Self { steps, series: Vec::new(), values: Vec::new(), is_there: Vec::new(), held })
    }

    fn bytes(&self) -> u64 {
        let each = self.values.capacity() * (size_of::<f64>() + size_of::<bool>());
        (each + self.series.capacity() * size_of::<u32>()) as u64
    }

    fn push(&mut self, series_idx: usize, points: &[Option<Sample>]) -> Result<()> {
        let before = self.bytes();
        self.series.push(position(series_idx));
        let floats = || points.iter().map(|point| point.as_ref().and_then(Sample::float));
        self.values.extend(floats().map(Option::unwrap_or_default));
        self.is_there.extend(floats().map(|float| float.is_some()));
        self.held.grow(self.bytes() - before)
    }

    /// The numbers of the series in a row, with their steps.
    fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let places = row * self.steps..(row + 1) * self.steps;
        let values = self.values.get(places.clone()).unwrap_or_default().iter().copied();
        let is_there = self.is_there.get(places).unwrap_or_default();
        values
            .zip(is_there)
            .enumerate()
            .filter_map(|(step, (value, is_there))| is_there.then_some((step, value)))
    }

    /// Whether the result of an operator at some step depends on the order of the series.
    fn depend_on_order(&self, op: AggregateOp) -> bool {
        (0..self.steps).any(|step| {
            let places = (0..self.series.len()).map(|row| row * self.steps + step);
            let there = places.filter(|place| self.is_there.get(*place) == Some(&true));
            depends_on_order(op, there.filter_map(|place| self.values.get(place).copied()))
        })
    }
}

impl Evaluator<'_> {
    /// The value of an aggregation over one leaf of one metric; `None` where only the general way can tell.
    pub(super) fn streamed(&self, expr: &Expr, aggregate: &Aggregate, grid: &Grid) -> Result<Option<Value>> {
        if matches!(aggregate.op, AggregateOp::Limitk | AggregateOp::LimitRatio) {
            return Ok(None);
        }
        let before = self.held_bytes();
        let Some(leaf) = self.leaf(&aggregate.expr, grid)? else { return Ok(None) };
        let mut targets = self.targets(leaf.selector, &leaf.windows)?;
        if let (Some(target), true) = (targets.pop(), targets.is_empty())
            && !self.has_histograms(&target)
        {
            let value = self.folded(expr, aggregate, &leaf, &target, grid)?;
            if value.is_some() {
                return Ok(value.map(Value::Vector));
            }
        }
        self.settle(before, 0)?;
        Ok(None)
    }

    fn folded(
        &self,
        expr: &Expr,
        aggregate: &Aggregate,
        leaf: &Leaf<'_>,
        target: &Target,
        grid: &Grid,
    ) -> Result<Option<Vec<Series>>> {
        let mut fold = Fold::new(self, expr, aggregate, grid, leaf.drops_name)?;
        let read = Read { aggregate, leaf, target, grid };
        let is_held = target.ids.len().saturating_mul(grid.count) <= self.points_max;
        let (roster, listed, coverage) =
            if is_held { self.at_once(&read, &mut fold)? } else { self.in_portions(&read, &mut fold)? };
        if leaf.needs_raw() && coverage.raw_gone_before_ns.is_some() {
            return Ok(None);
        }
        self.absorb(&coverage);
        fold.finish(self, target, &roster, &listed).map(Some)
    }

    /// Reads all series, then puts those that have points in order.
    fn at_once<'r>(
        &self,
        read: &Read<'r>,
        fold: &mut Fold<'_>,
    ) -> Result<(Roster, Cow<'r, [SeriesId]>, Coverage)> {
        let Read { aggregate, target, .. } = *read;
        let (points, coverage) = self.points(read, &target.ids)?;
        fold.held.grow((points.series.len() * size_of::<SeriesId>()) as u64)?;
        let id_of = |series: &u32| target.ids.get(*series as usize).copied();
        let listed: Vec<SeriesId> = points.series.iter().filter_map(id_of).collect();
        let how = (aggregate, points.depend_on_order(aggregate.op));
        let roster = self.roster(target, &listed, how, &mut fold.held)?;
        fold.take(self, &roster, &roster.order, |series| Some(series as usize), &points)?;
        Ok((roster, listed.into(), coverage))
    }

    /// Puts all series in order, then reads them portion by portion.
    fn in_portions<'r>(
        &self,
        read: &Read<'r>,
        fold: &mut Fold<'_>,
    ) -> Result<(Roster, Cow<'r, [SeriesId]>, Coverage)> {
        let Read { aggregate, target, grid, .. } = *read;
        // Of numbers that are not known yet the worst is to be thought.
        let how = (aggregate, depends_on_order(aggregate.op, [f64::NAN]));
        let roster = self.roster(target, &target.ids, how, &mut fold.held)?;
        let mut coverage = Coverage::default();
        for portion in roster.order.chunks((self.points_max / grid.count.max(1)).max(1)) {
            let _held = self.context.budget.hold_bytes((portion.len() * 3 * size_of::<u32>()) as u64)?;
            let mut series: Vec<u32> = portion.iter().map(|(series, _)| *series).collect();
            series.sort_unstable();
            let id_of = |series: &u32| target.ids.get(*series as usize).copied();
            let ids: Vec<SeriesId> = series.iter().filter_map(id_of).collect();
            let (points, read) = self.points(read, &ids)?;
            coverage.absorb(&read);
            let row_of = |one: u32| {
                let place = series.binary_search(&one).ok()?;
                points.series.binary_search(&position(place)).ok()
            };
            fold.take(self, &roster, portion, row_of, &points)?;
        }
        Ok((roster, Cow::Borrowed(&target.ids), coverage))
    }

    /// Reads the points of some series.
    fn points(&self, read: &Read<'_>, ids: &[SeriesId]) -> Result<(Points<'_>, Coverage)> {
        let Read { leaf, target, grid, .. } = *read;
        let mut points = Points::new(self.context.budget, grid.count)?;
        let coverage =
            self.each_of_leaf(leaf, target, ids, grid, |series_idx, found| points.push(series_idx, found))?;
        Ok((points, coverage))
    }
}

/// What is read, and what for.
#[derive(Clone, Copy)]
struct Read<'a> {
    aggregate: &'a Aggregate,
    leaf: &'a Leaf<'a>,
    target: &'a Target,
    grid: &'a Grid,
}

/// The groups of an aggregation while they take their series, in order.
struct Fold<'a> {
    op: AggregateOp,
    steps: usize,
    drops_name: bool,
    /// The groups that have a series with points, in the order of their first one.
    met: Vec<u32>,
    /// The place of each group among them.
    places: HashMap<u32, usize>,
    cells: Cells,
    held: Held<'a>,
}

/// One place for each group and step, group after group as they are met.
enum Cells {
    Tallies(Vec<Option<Tally>>),
    /// All numbers, for the quantile that each step asks for.
    Floats {
        quantiles: Vec<f64>,
        cells: Vec<Vec<f64>>,
    },
    /// The best numbers with their series, as many as each step asks for.
    Ranks {
        ks: Vec<usize>,
        cells: Vec<Ranks>,
    },
    /// The series themselves, one for each value.
    Counted {
        label: String,
        counted: Counted,
    },
}

impl<'a> Fold<'a> {
    fn new(
        evaluator: &Evaluator<'a>,
        expr: &Expr,
        aggregate: &Aggregate,
        grid: &Grid,
        drops_name: bool,
    ) -> Result<Self> {
        let op = aggregate.op;
        let held = evaluator.context.budget.hold_bytes(0)?;
        let cells = match (op, &aggregate.parameter) {
            (AggregateOp::CountValues, Some(label)) => {
                let label = evaluator.label_of_values(label)?;
                Cells::Counted { label, counted: Counted::default() }
            }
            (AggregateOp::Topk | AggregateOp::Bottomk, Some(k)) => {
                Cells::Ranks { ks: ranks_of(&evaluator.scalar(k, grid)?)?, cells: Vec::new() }
            }
            (AggregateOp::Quantile, Some(q)) => {
                let quantiles = evaluator.quantiles(expr, q, grid)?;
                Cells::Floats { quantiles, cells: Vec::new() }
            }
            _ => Cells::Tallies(Vec::new()),
        };
        let (met, places) = (Vec::new(), HashMap::new());
        Ok(Self { op, steps: grid.count, drops_name, met, places, cells, held })
    }

    /// Takes series that are next in order. `row_of` tells where the points of a series are, if it has some.
    fn take(
        &mut self,
        evaluator: &Evaluator<'_>,
        roster: &Roster,
        portion: &[(u32, u32)],
        row_of: impl Fn(u32) -> Option<usize>,
        points: &Points<'_>,
    ) -> Result<()> {
        for (place, (series, group)) in portion.iter().enumerate() {
            if place % TIME_SERIES == 0 {
                evaluator.context.budget.check_time()?;
            }
            let Some(row) = row_of(*series) else { continue };
            let place = self.place(*group)?;
            let numbers = points.row(row);
            match &mut self.cells {
                Cells::Tallies(cells) => {
                    let cells = row_in(cells, place, self.steps, &mut self.held)?;
                    for (step, value) in numbers {
                        match cells.get_mut(step) {
                            Some(Some(tally)) => tally.add(value),
                            Some(empty) => *empty = Tally::of(self.op, value),
                            None => {}
                        }
                    }
                }
                Cells::Floats { cells, .. } => {
                    let cells = row_in(cells, place, self.steps, &mut self.held)?;
                    for (step, value) in numbers {
                        let Some(cell) = cells.get_mut(step) else { continue };
                        if cell.len() == cell.capacity() {
                            let more = cell.len() / 4 + 4;
                            self.held.grow((more * size_of::<f64>()) as u64)?;
                            cell.reserve_exact(more);
                        }
                        cell.push(value);
                    }
                }
                Cells::Ranks { ks, cells } => {
                    let cells = row_in(cells, place, self.steps, &mut self.held)?;
                    for (step, value) in numbers {
                        let (Some(cell), Some(k)) = (cells.get_mut(step), ks.get(step)) else { continue };
                        let before = cell.bytes();
                        cell.add(self.op, *k, *series, value);
                        self.held.grow(cell.bytes() - before)?;
                    }
                }
                Cells::Counted { label, counted } => {
                    let Some(base) = roster.groups.get(*group as usize) else { continue };
                    for (step, value) in numbers {
                        counted.add(
                            evaluator,
                            base,
                            label,
                            (step, self.steps),
                            &format_float(value),
                            self.drops_name,
                        )?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The place of a group that has a series with points.
    fn place(&mut self, group: u32) -> Result<usize> {
        let next = self.met.len();
        let place = *self.places.entry(group).or_insert(next);
        if place == next {
            self.met.push(group);
            self.held.grow(GROUP_BYTES)?;
        }
        Ok(place)
    }

    /// The series of the answer. `listed` are the ids of the series that the roster speaks of.
    fn finish(
        self,
        evaluator: &Evaluator<'_>,
        target: &Target,
        roster: &Roster,
        listed: &[SeriesId],
    ) -> Result<Vec<Series>> {
        let Self { op, steps, drops_name, .. } = self;
        let floats: Box<dyn Iterator<Item = Option<f64>>> = match self.cells {
            Cells::Counted { counted, .. } => return counted.series(),
            Cells::Ranks { ks, cells } => {
                let ranked = Ranked::of(op, &ks, self.met.len(), cells);
                return ranked.series(evaluator, target, roster, listed, drops_name);
            }
            Cells::Tallies(cells) => Box::new(cells.into_iter().map(move |cell| Some(cell?.value(op)))),
            Cells::Floats { quantiles, cells } => {
                let quantile = move |(cell, mut floats): (usize, Vec<f64>)| {
                    let q = quantiles.get(cell % steps).copied().unwrap_or(f64::NAN);
                    (!floats.is_empty()).then(|| math::quantile(q, &mut floats))
                };
                Box::new(cells.into_iter().enumerate().map(quantile))
            }
        };
        let mut floats = floats.map(|float| float.map(Sample::Float));
        let mut found = Vec::with_capacity(self.met.len());
        for group in self.met {
            let Some(labels) = roster.groups.get(group as usize).cloned() else { continue };
            let points = floats.by_ref().take(steps).collect();
            let one = Series { labels, drops_name, points };
            if !one.is_empty() {
                evaluator.context.budget.charge_bytes(one.memory_bytes())?;
                found.push(one);
            }
        }
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }
}

/// The places of a group, made where they are not there yet.
fn row_in<'c, T: Default>(
    cells: &'c mut Vec<T>,
    place: usize,
    steps: usize,
    held: &mut Held<'_>,
) -> Result<&'c mut [T]> {
    let start = place * steps;
    let end = start + steps;
    if cells.len() < end {
        let before = cells.capacity();
        cells.resize_with(end, T::default);
        held.grow(((cells.capacity() - before) * size_of::<T>()) as u64)?;
    }
    Ok(cells.get_mut(start..end).unwrap_or_default())
}

/// The best numbers of a group at one step; of equal ones those that came first.
#[derive(Debug, Default)]
struct Ranks {
    kept: Vec<(u32, f64)>,
    /// The least of the best, once there are enough.
    floor: Option<f64>,
}

impl Ranks {
    fn bytes(&self) -> u64 {
        (self.kept.capacity() * size_of::<(u32, f64)>()) as u64
    }

    fn add(&mut self, op: AggregateOp, k: usize, series: u32, value: f64) {
        let is_beaten = self.floor.is_some_and(|floor| by_rank(op, value, floor) != Ordering::Less);
        if k == 0 || is_beaten {
            return;
        }
        self.kept.push((series, value));
        if k.saturating_mul(2).max(64) <= self.kept.len() {
            self.settle(op, k);
            self.floor = self.kept.last().map(|(_, value)| *value);
        }
    }

    fn settle(&mut self, op: AggregateOp, k: usize) {
        self.kept.sort_by(|(_, a), (_, b)| by_rank(op, *a, *b));
        self.kept.truncate(k);
    }
}

/// What is kept at each step, groups in order, the best first.
struct Ranked {
    steps: usize,
    /// Step, series and number.
    kept: Vec<(usize, u32, f64)>,
}

impl Ranked {
    fn of(op: AggregateOp, ks: &[usize], groups: usize, mut cells: Vec<Ranks>) -> Self {
        let steps = ks.len();
        let mut kept = Vec::new();
        for (step, k) in ks.iter().enumerate() {
            for group in 0..groups {
                let Some(cell) = cells.get_mut(group * steps + step) else { continue };
                cell.settle(op, *k);
                kept.extend(cell.kept.iter().map(|(series, value)| (step, *series, *value)));
            }
        }
        Self { steps, kept }
    }

    /// The series with the points that are kept: by rank where there is one step, else by labels.
    fn series(
        self,
        evaluator: &Evaluator<'_>,
        target: &Target,
        roster: &Roster,
        listed: &[SeriesId],
        drops_name: bool,
    ) -> Result<Vec<Series>> {
        let budget = evaluator.context.budget;
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut wanted: Vec<u32> = Vec::new();
        let is_instant = self.steps == 1;
        let mut note = |series: u32| {
            places.entry(series).or_insert_with(|| {
                wanted.push(series);
                wanted.len() - 1
            });
        };
        if is_instant {
            self.kept.iter().for_each(|(_, series, _)| note(*series));
        } else {
            let kept: HashSet<u32> = self.kept.iter().map(|(_, series, _)| *series).collect();
            let in_order = roster.order.iter().map(|(series, _)| *series);
            in_order.filter(|series| kept.contains(series)).for_each(note);
        }
        budget.charge_bytes((wanted.len() * 4 * size_of::<usize>()) as u64)?;
        let ids: Vec<SeriesId> =
            wanted.iter().filter_map(|series| listed.get(*series as usize).copied()).collect();
        let mut found: Vec<Series> = Vec::with_capacity(ids.len());
        each_key(evaluator.context.scan, &ids, budget, |_, key| {
            let one = Series { labels: target.labels(key), drops_name, points: vec![None; self.steps] };
            budget.charge_bytes(one.memory_bytes())?;
            found.push(one);
            Ok(())
        })?;
        for (step, series, value) in self.kept {
            let place = places.get(&series).and_then(|place| found.get_mut(*place));
            place.into_iter().for_each(|one| one.set(step, Some(Sample::Float(value))));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
