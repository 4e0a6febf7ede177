//! Aggregations that storage carries out: one partial for each group in place of one for each series.
//!
//! This way is taken for `sum`, `min` and `max` over one metric, where a group's answer can be read off the samples of
//! all its series together, in whatever order they come ([`Pushed`]). Knows nothing of how groups are read. Order of
//! events:
//!
//! 1. Series are put into groups by the codes of their tags ([`Grouping`]); no key is looked at.
//! 2. [`Scan::groups`](icecore_storage::scan::Scan::groups) hands over the windows of each group, a portion of the
//!    windows at a time, so that few partials are held at once.
//! 3. A partial of which the general way could make something else sends all of them that way.
//!
//! Whole numbers, counts and buckets are those of the general way bit by bit. Sums of floats, and of rates, are compensated
//! on both ways, but not in the same order: their last bits may differ.

use std::sync::Arc;

use icecore_storage::model::{Partial, SeriesId, StatSet};
use icecore_storage::scan::{Bounds, Coverage, GroupRequest, TagCodes, Window, WindowRequest};

use super::super::ast::{Aggregate, AggregateOp, Edge, Expr, ExprKind, Selector};
use super::super::value::{Labels, NAME_LABEL, Sample};
use super::read::{statistic, statistic_windows, wants_of, windows_of};
use super::roster::{is_kept, position};
use super::select::{Statistic, Target, statistic_of};
use super::series::{Point, Series, series_bytes};
use super::window::per_second;

use super::{Evaluator, Grid, Value, memo};
use crate::Result;
use crate::budget::Held;

/// More groups than that are not pushed down.
const GROUPS_MAX: usize = 1 << 16;
/// Points that a partial is as large as, and one with a histogram of a thousand buckets.
const PARTIAL_POINTS: usize = 1 << 6;
const HISTOGRAM_POINTS: usize = 1 << 10;
/// Places of the table that joins the codes of two tags: 16 MiB.
const PLACES_MAX: usize = 1 << 22;
/// What a value of a tag takes beside its text.
const VALUE_BYTES: u64 = 64;
/// The place of no group.
const NONE: u32 = u32::MAX;

/// An aggregation whose groups are partials.
struct Pushed<'e> {
    selector: &'e Selector,
    windows: Vec<Window>,
    /// What is read off the partial of a group.
    statistic: Statistic,
    /// Whether it is asked for each second.
    is_rate: bool,
    /// Whether its series lose the name at the end.
    drops_name: bool,
}

/// The points of each group.
type GroupPoints = Vec<Vec<Point>>;

/// The groups of some series.
pub(super) struct Grouping {
    /// The group of each series.
    pub(super) groups: Vec<u32>,
    /// Labels of the groups.
    pub(super) labels: Vec<Labels>,
}

/// An estimate of the memory that the values of a tag take.
pub(super) fn values_bytes(found: &TagCodes) -> u64 {
    found.values.iter().map(|value| value.len() as u64 + VALUE_BYTES).sum()
}

/// What is read off the partial of a group, where that is what the aggregation of its series gives.
fn statistic_of_group(
    op: AggregateOp,
    asked: Option<Statistic>,
    function: Option<&str>,
) -> Option<Statistic> {
    use Statistic::{Count, Hist, Max, Min, Sum};
    Some(match (op, asked, function) {
        (AggregateOp::Sum, None, Some("sum_over_time")) => Sum,
        (AggregateOp::Sum, None, Some("count_over_time")) => Count,
        (AggregateOp::Min, None, Some("min_over_time")) => Min,
        (AggregateOp::Max, None, Some("max_over_time")) => Max,
        (AggregateOp::Sum, Some(asked @ (Sum | Count | Hist)), None | Some("sum_over_time")) => asked,
        (AggregateOp::Sum, Some(Hist), Some("increase" | "rate")) => Hist,
        (AggregateOp::Min, Some(Min), None | Some("min_over_time")) => Min,
        (AggregateOp::Max, Some(Max), None | Some("max_over_time")) => Max,
        _ => return None,
    })
}

/// The text of all but what an aggregation reads off its windows, and what that is. Those with the same text are read
/// together: an error rate is a sum over a count of the same samples.
pub(super) fn kinship(aggregate: &Aggregate) -> Option<(String, Statistic)> {
    let ExprKind::Call { name, args } = &aggregate.expr.unwrapped().kind else { return None };
    let range = args.as_slice().first()?.unwrapped();
    let ExprKind::Range { selector, .. } = &range.kind else { return None };
    // A selector with a statistic of its own has no other.
    let is_plain = matches!(statistic_of(selector), Ok(None));
    let statistic = statistic_of_group(aggregate.op, None, Some(*name)).filter(|_| is_plain)?;
    let Aggregate { is_without, grouping, .. } = aggregate;
    Some((format!("{is_without} {grouping:?} {range}"), statistic))
}

/// Whether a partial of many series says what theirs say one by one. A series of NaN alone has no smallest and no largest
/// value, and then neither has the sum of its histogram with others.
fn is_exact(statistic: Statistic, partial: &Partial) -> bool {
    statistic != Statistic::Hist
        || partial.count() == 0
        || partial.histogram().is_some_and(|buckets| buckets.count() == partial.count())
}

impl Evaluator<'_> {
    /// The value of an aggregation that storage can carry out; `None` where another way must be taken.
    pub(super) fn grouped(&self, expr: &Expr, aggregate: &Aggregate, grid: &Grid) -> Result<Option<Value>> {
        let Some(pushed) = self.pushed(aggregate, grid)? else { return Ok(None) };
        if let Some(value) = self.recalled_kin(expr, pushed.statistic, grid) {
            return Ok(Some(value));
        }
        let before = self.held_bytes();
        let mut targets = self.targets(pushed.selector, &pushed.windows)?;
        if let (Some(target), true) = (targets.pop(), targets.is_empty())
            && !self.has_histograms(&target)
        {
            let statistics = self.kin_of(expr, pushed.statistic);
            if let Some(mut found) = self.groups_of(&pushed, &statistics, (aggregate, &target), grid)? {
                let own = found.remove(0);
                for (statistic, series) in statistics.into_iter().skip(1).zip(found) {
                    self.keep_kin(expr, statistic, grid, Value::Vector(series));
                }
                return Ok(Some(Value::Vector(own)));
            }
        }
        self.settle(before, 0)?;
        Ok(None)
    }

    fn pushed<'e>(&self, aggregate: &'e Aggregate, grid: &Grid) -> Result<Option<Pushed<'e>>> {
        let inner = aggregate.expr.unwrapped();
        let (selector, range) = match &inner.kind {
            ExprKind::Selector(selector) => (selector, None),
            ExprKind::Call { name, args } => match args.as_slice().first().map(Expr::unwrapped) {
                Some(Expr { kind: ExprKind::Range { selector, range_ns }, .. }) => {
                    (selector, Some((*name, *range_ns)))
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        if selector.edge != Edge::Inside {
            return Ok(None);
        }
        let function = range.map(|(name, _)| name);
        let Some(statistic) = statistic_of_group(aggregate.op, statistic_of(selector)?, function) else {
            return Ok(None);
        };
        let times = self.shifted(selector.shift, grid);
        let windows = match range {
            Some((_, range_ns)) => windows_of(&times, range_ns),
            None => statistic_windows(&times),
        };
        let is_rate = function == Some("rate");
        Ok(Some(Pushed { selector, windows, statistic, is_rate, drops_name: range.is_some() }))
    }

    /// Of each statistic the groups that have points, by labels.
    fn groups_of(
        &self,
        pushed: &Pushed<'_>,
        statistics: &[Statistic],
        (aggregate, target): (&Aggregate, &Target),
        grid: &Grid,
    ) -> Result<Option<Vec<Vec<Series>>>> {
        let budget = self.context.budget;
        let mut held = budget.hold_bytes(0)?;
        let Some(Grouping { groups, labels }) = self.grouping(aggregate, target, &target.ids, &mut held)?
        else {
            return Ok(None);
        };
        // Others are read as well where they take little.
        let bytes =
            (labels.len() * statistics.len()) as u64 * series_bytes(grid.count.max(pushed.windows.len()));
        let is_little = bytes <= budget.limits().memory_bytes_max / memo::SHARE;
        let statistics = if is_little { statistics } else { statistics.get(..1).unwrap_or_default() };
        let points = self.points_of_groups(pushed, statistics, target, (&groups, labels.len()))?;
        let Some((points, coverage)) = points else { return Ok(None) };
        self.absorb(&coverage);
        let mut all = Vec::with_capacity(statistics.len());
        for points in points {
            let mut found = Vec::new();
            for (labels, mut points) in labels.iter().zip(points) {
                if points.iter().all(Option::is_none) {
                    continue;
                }
                // One window serves all steps when `@` fixes it.
                let rest = if pushed.windows.len() == 1 { points.first().cloned().flatten() } else { None };
                points.resize(grid.count, rest);
                let one = Series { labels: labels.clone(), drops_name: pushed.drops_name, points };
                budget.charge_bytes(one.memory_bytes())?;
                found.push(one);
            }
            found.sort_by(|a, b| a.labels.cmp(&b.labels));
            all.push(found);
        }
        Ok(Some(all))
    }

    /// The groups of some series of a target, given in ascending order; `None` where they are too many for this.
    pub(super) fn grouping(
        &self,
        aggregate: &Aggregate,
        target: &Target,
        ids: &[SeriesId],
        held: &mut Held<'_>,
    ) -> Result<Option<Grouping>> {
        let tags: Vec<&str> = target.tag_keys().filter(|tag| is_kept(aggregate, tag)).collect();
        let lists = if tags.is_empty() { 1 } else { 2 };
        held.grow((lists * ids.len() * size_of::<u32>()) as u64)?;
        let mut groups = vec![0; ids.len()];
        // The labels of each group so far.
        let name = is_kept(aggregate, NAME_LABEL).then(|| (NAME_LABEL.into(), target.metric.clone()));
        let mut pairs: Vec<Vec<_>> = vec![Vec::from_iter(name)];
        for tag in tags {
            self.context.budget.check_time()?;
            let found = self.context.scan.tag_codes(target.measurement, tag, ids)?;
            held.grow(values_bytes(&found))?;
            let joined = joined(&mut groups, pairs.len(), &found.codes, found.values.len());
            let Some(joined) = joined.filter(|joined| joined.len() <= GROUPS_MAX) else { return Ok(None) };
            let shared: Arc<str> = tag.into();
            let pair = |(group, code): &(u32, u32)| {
                let before = pairs.get(*group as usize).cloned().unwrap_or_default();
                let value = found.values.get(*code as usize).cloned();
                before.into_iter().chain(value.map(|value| (shared.clone(), value))).collect()
            };
            pairs = joined.iter().map(pair).collect();
        }
        // Empty values are left out.
        let labels: Vec<Labels> = pairs.into_iter().map(Labels::new).collect();
        held.grow(labels.iter().map(|labels| size_of::<Labels>() as u64 + labels.memory_bytes()).sum())?;
        Ok(Some(Grouping { groups, labels }))
    }

    /// Of each statistic the points of each group, one for each window; none for groups without any. `None` where partials
    /// do not say what is asked.
    fn points_of_groups(
        &self,
        pushed: &Pushed<'_>,
        statistics: &[Statistic],
        target: &Target,
        (groups, group_count): (&[u32], usize),
    ) -> Result<Option<(Vec<GroupPoints>, Coverage)>> {
        let budget = self.context.budget;
        let each = if pushed.statistic == Statistic::Hist { HISTOGRAM_POINTS } else { PARTIAL_POINTS };
        let portion = (self.points_max / each / group_count.max(1)).max(1);
        let partials = group_count.saturating_mul(portion.min(pushed.windows.len()));
        let _held = budget.hold_bytes(partials.saturating_mul(size_of::<Partial>()) as u64)?;
        let wants = statistics.iter().fold(StatSet::COUNT, |wants, one| wants.with(wants_of(*one)));
        let mut points: Vec<GroupPoints> = vec![vec![Vec::new(); group_count]; statistics.len()];
        let (mut coverage, mut read, mut is_all_exact) = (Coverage::default(), 0, true);
        for windows in pushed.windows.chunks(portion) {
            let request = WindowRequest {
                measurement: target.measurement,
                field: target.field,
                series: &target.ids,
                windows,
                bounds: Bounds::LeftOpen,
                wants,
                resolution: self.context.resolution,
            };
            let request = GroupRequest { read: request, groups, group_count };
            let outcome = self.context.scan.groups(&request, budget, &mut |slice| {
                for (asked, points) in statistics.iter().zip(&mut points) {
                    let Some(points) = points.get_mut(slice.series_idx) else { continue };
                    is_all_exact &= slice.partials.iter().all(|partial| is_exact(*asked, partial));
                    points.resize(read, None);
                    points.extend(slice.windows.iter().zip(slice.partials).map(|(window, partial)| {
                        let sample = statistic(*asked, partial)?;
                        Some(if pushed.is_rate { per_second(sample, *window) } else { sample })
                    }));
                    let heap: u64 =
                        points.get(read..).into_iter().flatten().flatten().map(Sample::heap_bytes).sum();
                    let charged = budget.charge_samples(windows.len() as u64);
                    charged
                        .and_then(|()| budget.charge_bytes(series_bytes(windows.len()) + heap))
                        .map_err(|error| budget.stop_scan(error))?;
                }
                Ok(())
            });
            coverage.absorb(&budget.scanned(outcome)?);
            // The windows of series may have been widened each in its own way.
            let is_widened = pushed.is_rate && coverage.rounded.is_some();
            if !is_all_exact || is_widened {
                return Ok(None);
            }
            read += windows.len();
        }
        Ok(Some((points, coverage)))
    }
}

/// Parts groups by the codes of one more tag, and gives the group and the code that each new one comes from. `None`
/// where there could be too many.
fn joined(groups: &mut [u32], group_count: usize, codes: &[u32], values: usize) -> Option<Vec<(u32, u32)>> {
    let places = group_count.checked_mul(values).filter(|places| *places <= PLACES_MAX)?;
    let mut table = vec![NONE; places];
    let mut joined = Vec::new();
    for (group, code) in groups.iter_mut().zip(codes) {
        let place = table.get_mut(*group as usize * values + *code as usize)?;
        if *place == NONE {
            *place = position(joined.len());
            joined.push((*group, *code));
        }
        *group = *place;
    }
    Some(joined)
}

#[cfg(test)]
mod tests;
