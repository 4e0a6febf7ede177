//! What stands in a query more than once is evaluated once: a panel that asks for three quantiles of one sum reads it
//! once. And aggregations that differ only in what they read off the same samples ([`kinship`]) are read together: an error
//! rate is a sum over a count. Knows nothing of how values are made.
//!
//! Order of events: [`Memo::of`] finds the aggregations and the functions over ranges that are written alike, before
//! anything is evaluated; the first evaluation of such a one keeps a copy, the last one that is due takes it away. What
//! said something on its way (a warning stands at a place of the text) is not kept.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::super::ast::{Expr, ExprKind, ValueType};
use super::super::check::type_of;
use super::grouped::kinship;
use super::select::Statistic;
use super::{Evaluator, Grid, Value};
use crate::Result;

/// A copy may take this share of the memory of a query.
pub(super) const SHARE: u64 = 8;

/// Expressions that are written more than once, and their values.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The slot of each, by its first and last byte in the text.
    places: HashMap<Place, usize>,
    slots: RefCell<Vec<Slot>>,
    /// The family of each aggregation that has kin, by its place.
    families: HashMap<Place, usize>,
    kin: RefCell<Vec<Vec<Kin>>>,
    /// Bytes of all copies, which are charged.
    bytes: Cell<u64>,
}

/// First and last byte of an expression in the text.
type Place = (usize, usize);

/// One of the aggregations that are read together.
#[derive(Debug)]
struct Kin {
    statistic: Statistic,
    kept: Option<Kept>,
}

/// What is written more than once.
#[derive(Debug, Default)]
struct Slot {
    /// Evaluations that are due.
    due: usize,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    asked: Asked,
    value: Value,
    bytes: u64,
}

/// What a value depends on beside the expression: the times, and whether hints of histograms are told.
type Asked = (Grid, bool);

impl Memo {
    /// Finds what is written more than once.
    pub(super) fn of(expr: &Expr) -> Self {
        let mut found = Found::default();
        find(expr, (false, None), &mut found);
        let mut memo = Self::default();
        let mut kin = Vec::new();
        for members in found.akin.into_values() {
            let mut family: Vec<Kin> = Vec::new();
            for (_, statistic) in &members {
                if family.iter().all(|one| one.statistic != *statistic) {
                    family.push(Kin { statistic: *statistic, kept: None });
                }
            }
            if 1 < family.len() {
                memo.families.extend(members.iter().map(|(place, _)| (*place, kin.len())));
                kin.push(family);
            }
        }
        memo.kin = kin.into();
        let mut slots = Vec::new();
        for places in found.alike.into_values().filter(|places| 1 < places.len()) {
            memo.places.extend(places.iter().map(|place| (*place, slots.len())));
            slots.push(Slot { due: places.len(), kept: None });
        }
        memo.slots = slots.into();
        memo
    }

    /// Bytes of all copies.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The slot of an expression that is written more than once.
    fn slot(&self, expr: &Expr) -> Option<usize> {
        if self.places.is_empty() { None } else { self.places.get(&(expr.start, expr.end)).copied() }
    }
}

impl Slot {
    /// Takes the copy away when it is of no more use, else copies it. Tells whether it is gone.
    fn recall(&mut self, asked: Asked) -> Option<(Value, u64, bool)> {
        let is_known = self.kept.as_ref().is_some_and(|kept| kept.asked == asked);
        self.due = self.due.saturating_sub(1);
        if !is_known {
            return None;
        }
        if self.due == 0 {
            return self.kept.take().map(|kept| (kept.value, kept.bytes, true));
        }
        self.kept.as_ref().map(|kept| (kept.value.clone(), kept.bytes, false))
    }
}

/// Where expressions stand that can be kept.
#[derive(Default)]
struct Found {
    /// By their text in canonical form.
    alike: HashMap<String, Vec<Place>>,
    /// Aggregations, by what they have in common.
    akin: HashMap<Common, Vec<(Place, Statistic)>>,
}

/// What kin have in common, by [`kinship`], and the subquery that they stand in: another one has other times.
type Common = (String, Option<Place>);

/// Finds expressions that can be kept. What stands within one that was met
/// before is not asked for again. Arguments of aggregations are read without being evaluated.
fn find(expr: &Expr, (is_argument, subquery): (bool, Option<Place>), found: &mut Found) {
    let place = (expr.start, expr.end);
    let is_range_call =
        |args: &[Expr]| !is_argument && args.iter().any(|arg| type_of(arg) == ValueType::Matrix);
    let can_be_kept = match &expr.kind {
        ExprKind::Aggregate(_) => true,
        ExprKind::Call { args, .. } => is_range_call(args),
        _ => false,
    };
    if can_be_kept {
        let places = found.alike.entry(expr.to_string()).or_default();
        places.push(place);
        if 1 < places.len() {
            return;
        }
        if let ExprKind::Aggregate(aggregate) = &expr.kind
            && let Some((key, statistic)) = kinship(aggregate)
        {
            found.akin.entry((key, subquery)).or_default().push((place, statistic));
        }
    }
    match &expr.kind {
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Bytes(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => {}
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => {
            find(inner, (is_argument, subquery), found);
        }
        ExprKind::Subquery { expr: inner, .. } => find(inner, (false, Some(place)), found),
        ExprKind::Binary(binary) => {
            [&binary.left, &binary.right]
                .into_iter()
                .for_each(|side| find(side, (is_argument, subquery), found));
        }
        ExprKind::Aggregate(aggregate) => {
            find(&aggregate.expr, (true, subquery), found);
            aggregate.parameter.iter().for_each(|parameter| find(parameter, (false, subquery), found));
        }
        ExprKind::Call { args, .. } => args.iter().for_each(|arg| find(arg, (is_argument, subquery), found)),
    }
}

impl Evaluator<'_> {
    /// Evaluates an expression, or gives what its like gave. After it, only the value is charged.
    pub(super) fn recalled(&self, expr: &Expr, grid: &Grid) -> Result<Value> {
        let Some(slot) = self.memo.slot(expr) else { return self.settled(expr, grid) };
        let (asked, budget) = (self.asked(grid), self.context.budget);
        let recalled = self.memo.slots.borrow_mut().get_mut(slot).and_then(|slot| slot.recall(asked));
        match recalled {
            Some((value, bytes, true)) => {
                // The charge goes with it.
                self.memo.bytes.set(self.memo.bytes() - bytes);
                return Ok(value);
            }
            Some((value, bytes, false)) => return budget.charge_bytes(bytes).map(|()| value),
            None => {}
        }
        let remarks = self.remarks.get();
        let value = self.settled(expr, grid)?;
        if self.remarks.get() == remarks {
            self.keep(slot, asked, &value);
        }
        Ok(value)
    }

    /// The statistic, and those of the aggregations that may be read with this one and are not yet.
    pub(super) fn kin_of(&self, expr: &Expr, statistic: Statistic) -> Vec<Statistic> {
        let mut statistics = vec![statistic];
        let families = self.memo.kin.borrow();
        let family = self.memo.families.get(&(expr.start, expr.end)).and_then(|family| families.get(*family));
        let others = family.into_iter().flatten().filter(|one| one.kept.is_none());
        statistics.extend(others.map(|one| one.statistic).filter(|one| *one != statistic));
        statistics
    }

    /// What was read of an aggregation with one of its kin. It is taken away.
    pub(super) fn recalled_kin(&self, expr: &Expr, statistic: Statistic, grid: &Grid) -> Option<Value> {
        let kept = self.with_kin(expr, statistic, |one| {
            let is_known = one.kept.as_ref().is_some_and(|kept| kept.asked == self.asked(grid));
            if is_known { one.kept.take() } else { None }
        })??;
        // The charge goes with it.
        self.memo.bytes.set(self.memo.bytes() - kept.bytes);
        Some(kept.value)
    }

    /// Keeps what was read with one of its kin and is charged, where there is room for it.
    pub(super) fn keep_kin(&self, expr: &Expr, statistic: Statistic, grid: &Grid, value: Value) {
        let bytes = value.memory_bytes();
        let is_small = bytes <= self.context.budget.limits().memory_bytes_max / SHARE;
        self.with_kin(expr, statistic, |one| {
            if is_small && one.kept.is_none() {
                self.memo.bytes.set(self.memo.bytes() + bytes);
                one.kept = Some(Kept { asked: self.asked(grid), value, bytes });
            }
        });
    }

    fn with_kin<T>(&self, expr: &Expr, statistic: Statistic, act: impl FnOnce(&mut Kin) -> T) -> Option<T> {
        let family = *self.memo.families.get(&(expr.start, expr.end))?;
        let mut families = self.memo.kin.borrow_mut();
        let mut family = families.get_mut(family)?.iter_mut();
        family.find(|one| one.statistic == statistic).map(act)
    }

    fn asked(&self, grid: &Grid) -> Asked {
        (*grid, self.tells_resets.get())
    }

    /// Keeps a copy where it is still of use, and where there is room for it.
    fn keep(&self, slot: usize, asked: Asked, value: &Value) {
        let (bytes, budget) = (value.memory_bytes(), self.context.budget);
        let mut slots = self.memo.slots.borrow_mut();
        let Some(slot) = slots.get_mut(slot).filter(|slot| 0 < slot.due) else { return };
        let is_small = bytes <= budget.limits().memory_bytes_max / SHARE;
        if slot.kept.is_none() && is_small && budget.charge_bytes(bytes).is_ok() {
            self.memo.bytes.set(self.memo.bytes() + bytes);
            slot.kept = Some(Kept { asked, value: value.clone(), bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use icecore_storage::model::{MINUTE_NS, SeriesKey, Value as Stored};
    use icecore_storage::scan::Resolution;

    use super::*;
    use crate::promql::testing::VecScan;
    use crate::promql::{Context, parse, range};
    use crate::{Budget, Limits};

    fn scan() -> VecScan {
        let mut scan = VecScan::default();
        for (n, pod) in ["a", "b", "c"].into_iter().enumerate() {
            for minute in 0..20 {
                let key = SeriesKey::new("m", [("pod", pod)]).unwrap();
                let value = Stored::Float((minute * (n as i64 + 1)) as f64);
                scan.push(&key, "value", minute * MINUTE_NS, value);
            }
        }
        scan
    }

    /// The value, warnings and infos of a query without its memo or with it, the samples it read and what it holds.
    fn ask(text: &str, has_memo: bool) -> (String, u64, u64) {
        let (scan, budget) = (scan(), Budget::untimed(Limits::default()));
        let lookback = Duration::from_secs(300);
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        let grid = Grid { start_ns: 10 * MINUTE_NS, step_ns: MINUTE_NS, count: 5 };
        let expr = parse(text).unwrap();
        let memo = if has_memo { Memo::of(&expr) } else { Memo::default() };
        let evaluator = Evaluator { memo, ..Evaluator::new(&context, text, &grid) };
        let value = evaluator.eval(&expr, &grid).unwrap();
        assert_eq!(budget.memory_bytes(), value.memory_bytes() + evaluator.memo.bytes(), "{text}");
        let value = evaluator.over_time(value, &grid).unwrap();
        let answer = evaluator.answer(value).unwrap();
        let shown = format!("{:?} {:?} {:?}", answer.value, answer.warnings, answer.infos);
        (shown, budget.samples(), budget.memory_bytes())
    }

    #[test]
    fn what_is_written_twice_is_read_once_and_gives_the_same() {
        // Queries, and how often what they repeat is read with a memo and without.
        for (text, with, without) in [
            ("sum(rate(m[5m])) / sum(rate(m[5m]))", 1, 2),
            ("sum(rate(m[5m])) / sum( rate (m[300s]) )", 1, 2),
            ("(max_over_time(m[5m]) - min_over_time(m[5m])) / (max_over_time(m[5m]))", 2, 3),
            ("avg by (pod) (m) or avg by (pod) (m) or avg by (pod) (m)", 1, 3),
            ("max(sum by (pod) (m)) + min(sum by (pod) (m)) + max(sum by (pod) (m))", 1, 3),
            ("sum(m) - sum(m offset 1m)", 2, 2),
            ("rate(m[5m]) / on () group_left () sum(rate(m[5m]))", 2, 2),
        ] {
            let once = ask("sum(m)", true).1;
            let ((found, few, _), (expected, many, _)) = (ask(text, true), ask(text, false));
            assert_eq!(found, expected, "{text}");
            let is_read = |times: u64, samples: u64| {
                if text.contains('[') { samples > 0 } else { samples == times * once }
            };
            assert!(is_read(with, few) && is_read(without, many), "{text}: {few} {many}");
            assert_eq!(few < many, with < without, "{text}: {few} {many}");
        }
    }

    #[test]
    fn other_times_and_remarks_are_not_mistaken_for_what_was_kept() {
        for text in [
            "max_over_time(sum(m)[4m:1m]) - sum(m) + sum(m)",
            "sum(m) + max_over_time(sum(m)[4m:1m]) + sum(m) * scalar(sum(m))",
            "quantile(2, m) - quantile(2, m)",
            "sum(m @ 60) + sum(m @ end()) + sum(m @ 60)",
        ] {
            assert_eq!(ask(text, true).0, ask(text, false).0, "{text}");
        }
        assert_eq!(ask("quantile(2, m) - quantile(2, m)", true).0.matches("PromQL warning").count(), 2);
    }

    #[test]
    fn copies_are_given_back_with_the_last_evaluation_and_are_not_made_without_room() {
        let text = "avg by (pod) (m) or avg by (pod) (m)";
        let (scan, budget) =
            (scan(), Budget::untimed(Limits { memory_bytes_max: 9000, ..Limits::default() }));
        let lookback = Duration::from_secs(300);
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        assert!(range(&context, text, 0, 2 * MINUTE_NS, MINUTE_NS).is_ok());
        let grid = Grid { start_ns: 10 * MINUTE_NS, step_ns: MINUTE_NS, count: 5 };
        let budget = Budget::untimed(Limits::default());
        let context = Context { budget: &budget, ..context };
        let expr = parse(text).unwrap();
        let evaluator = Evaluator { memo: Memo::of(&expr), ..Evaluator::new(&context, text, &grid) };
        let ExprKind::Binary(binary) = &expr.kind else { panic!("an operator") };
        let first = evaluator.eval(&binary.left, &grid).unwrap();
        assert_eq!(evaluator.memo.bytes(), first.memory_bytes());
        evaluator.eval(&binary.right, &grid).unwrap();
        assert_eq!((evaluator.memo.bytes(), budget.memory_bytes()), (0, 2 * first.memory_bytes()));
    }

    #[test]
    fn kin_are_read_together_and_give_the_same() {
        for text in [
            "sum by (pod) (sum_over_time(m[5m])) / sum by (pod) (count_over_time(m[5m]))",
            "sum(count_over_time(m[5m])) - sum(sum_over_time( m [300s]))",
            "max without (a) (max_over_time(m[5m])) - min without (a) (min_over_time(m[5m]))",
            "sum(sum_over_time(m[5m] @ 180)) / sum(count_over_time(m[5m] @ 180))",
        ] {
            let ((found, few, held), (expected, many, held_alone)) = (ask(text, true), ask(text, false));
            assert_eq!((found, held), (expected, held_alone), "{text}");
            assert!(few < many, "{text}: {few} {many}");
            let (scan, budget) = (scan(), Budget::untimed(Limits::default()));
            let lookback = Duration::from_secs(300);
            let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
            let grid = Grid { start_ns: 10 * MINUTE_NS, step_ns: MINUTE_NS, count: 5 };
            let expr = parse(text).unwrap();
            let evaluator = Evaluator { memo: Memo::of(&expr), ..Evaluator::new(&context, text, &grid) };
            let ExprKind::Binary(binary) = &expr.kind else { panic!("an operator") };
            let first = evaluator.eval(&binary.left, &grid).unwrap();
            assert_eq!(evaluator.memo.bytes(), first.memory_bytes(), "{text}: the other is there");
            let points = |values: &Value| format!("{values:?}");
            let second = evaluator.eval(&binary.right, &grid).unwrap();
            assert_eq!(evaluator.memo.bytes(), 0, "{text}");
            assert_ne!(points(&first), points(&second), "{text}");
        }
    }

    #[test]
    fn what_differs_in_more_is_not_taken_for_kin() {
        for text in [
            "sum(sum_over_time(m[5m])) / sum(count_over_time(m[4m]))",
            "sum by (pod) (sum_over_time(m[5m])) / on (pod) group_left () sum by (pod, a) (count_over_time(m[5m]))",
            "sum(sum_over_time(m[5m])) / sum(count_over_time(m[5m] offset 1m))",
            "sum(sum_over_time(m{pod=\"a\"}[5m])) / sum(count_over_time(m[5m]))",
            "max_over_time(sum(sum_over_time(m[2m]))[4m:1m]) / sum(count_over_time(m[2m]))",
            "avg(sum_over_time(m[5m])) / sum(count_over_time(m[5m]))",
        ] {
            assert!(Memo::of(&parse(text).unwrap()).families.is_empty(), "{text}");
            assert_eq!(ask(text, true), ask(text, false), "{text}");
        }
        // Kin in one subquery, and what is there again outside of it.
        let text = "max_over_time((sum(sum_over_time(m[2m])) / sum(count_over_time(m[2m])))[4m:1m]) \
                    - sum(sum_over_time(m[2m])) / sum(count_over_time(m[2m])) + sum(count_over_time(m[2m]))";
        assert_eq!(ask(text, true).0, ask(text, false).0);
    }
}
