//! The change over a window whose edges are looked for beyond it: `anchored` and `smoothed`.
//!
//! Anchored: the last sample up to the left edge stands for the value there, and nothing is extrapolated. Smoothed: the
//! values at both edges lie on the lines between the samples around them. Both count each reset once; of one between an
//! edge and the sample before it only what lies inside the window counts.

use std::sync::Arc;

use icecore_storage::model::native::ResetHint;
use icecore_storage::scan::Window;

use super::native::{Doing, Remark};
use crate::promql::histogram::HistogramValue;

/// A value that goes up and down in time: a number or a histogram.
pub(crate) trait Level: Sized + Clone {
    /// Whether a counter began anew between an earlier value and this one.
    fn is_reset_after(&self, earlier: &Self) -> bool;
    /// Both together; `None` when they are not of one kind.
    fn plus(&self, other: &Self, remarks: &mut Vec<Remark>) -> Option<Self>;
    /// The difference; `None` when they are not of one kind.
    fn minus(&self, other: &Self, remarks: &mut Vec<Remark>) -> Option<Self>;
    /// A part of it.
    fn times(&self, factor: f64) -> Self;
}

impl Level for f64 {
    fn is_reset_after(&self, earlier: &Self) -> bool {
        self < earlier
    }

    fn plus(&self, other: &Self, _: &mut Vec<Remark>) -> Option<Self> {
        Some(self + other)
    }

    fn minus(&self, other: &Self, _: &mut Vec<Remark>) -> Option<Self> {
        Some(self - other)
    }

    fn times(&self, factor: f64) -> Self {
        self * factor
    }
}

impl Level for Arc<HistogramValue> {
    fn is_reset_after(&self, earlier: &Self) -> bool {
        HistogramValue::is_reset_after(self, earlier)
    }

    fn plus(&self, other: &Self, remarks: &mut Vec<Remark>) -> Option<Self> {
        let found = HistogramValue::plus(self, other)?;
        remarks.extend(found.is_reconciled.then_some(Remark::Reconciled(Doing::Addition)));
        Some(Self::new(found.value))
    }

    fn minus(&self, other: &Self, remarks: &mut Vec<Remark>) -> Option<Self> {
        let found = HistogramValue::minus(self, other)?;
        remarks.extend(found.is_reconciled.then_some(Remark::Reconciled(Doing::Subtraction)));
        Some(Self::new(found.value))
    }

    fn times(&self, factor: f64) -> Self {
        Self::new(self.scaled(factor))
    }
}

/// How the change over a window is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edges {
    /// The window, without what is looked at beyond it.
    pub(crate) window: Window,
    /// Whether the edges lie on lines between samples.
    pub(crate) is_smoothed: bool,
    /// Whether the values count.
    pub(crate) is_counter: bool,
}

/// The place of the last sample up to a time, of the first one when there is none.
pub(crate) fn anchor<T>(points: &[(i64, T)], ts_ns: i64) -> usize {
    points.partition_point(|(other, _)| *other <= ts_ns).saturating_sub(1)
}

/// The value at a time between two samples, and whether counting began anew between them.
pub(crate) fn between<T: Level>(
    (before_ns, before): &(i64, T),
    (after_ns, after): &(i64, T),
    ts_ns: i64,
    is_counter: bool,
    remarks: &mut Vec<Remark>,
) -> Option<(T, bool)> {
    let part = (ts_ns.saturating_sub(*before_ns)) as f64 / (after_ns.saturating_sub(*before_ns)) as f64;
    let mut said = Vec::new();
    let rise = after.minus(before, &mut said)?;
    if is_counter && after.is_reset_after(before) {
        // It began at zero.
        return Some((after.times(part), true));
    }
    remarks.extend(said);
    Some((before.plus(&rise.times(part), remarks)?, false))
}

/// The change over a window. `None` without samples around it, or when they are not of one kind.
pub(crate) fn change<T: Level>(points: &[(i64, T)], edges: Edges, remarks: &mut Vec<Remark>) -> Option<T> {
    let Edges { window, is_smoothed, is_counter } = edges;
    let first = anchor(points, window.start_ns);
    let last = match is_smoothed {
        true => points.partition_point(|(ts_ns, _)| *ts_ns < window.end_ns).min(points.len().checked_sub(1)?),
        false => points.len().checked_sub(1)?,
    };
    let at = |place: usize| points.get(place);
    let (first_ns, last_ns) = (at(first)?.0, at(last)?.0);
    if last_ns <= window.start_ns || window.end_ns < first_ns {
        return None;
    }
    let cuts_left = is_smoothed && first_ns < window.start_ns;
    let cuts_right = is_smoothed && window.end_ns < last_ns;
    let left = match cuts_left {
        true => between(at(first)?, at(first + 1)?, window.start_ns, is_counter, remarks)?.0,
        false => at(first)?.1.clone(),
    };
    let (right, is_reset) = match cuts_right {
        true => between(at(last.checked_sub(1)?)?, at(last)?, window.end_ns, is_counter, remarks)?,
        false => (at(last)?.1.clone(), false),
    };
    let mut total = right.minus(&left, remarks)?;
    if !is_counter {
        return Some(total);
    }
    // Steps from sample to sample that lie inside as a whole, and the one that the right edge cuts.
    let inside =
        points.get(first + usize::from(cuts_left)..last + usize::from(!cuts_right)).unwrap_or_default();
    for ((_, before), (_, after)) in inside.iter().zip(inside.iter().skip(1)) {
        if after.is_reset_after(before) {
            total = total.plus(before, remarks)?;
        }
    }
    let is_one_step = cuts_left && last == first + 1;
    if is_reset && !is_one_step {
        total = total.plus(&at(last.checked_sub(1)?)?.1, remarks)?;
    }
    Some(total)
}

/// What is to be said of histograms of a window before their change is told; `false` when they are not of one kind.
pub(crate) fn judge(
    hists: &[(i64, Arc<HistogramValue>)],
    is_counter: bool,
    remarks: &mut Vec<Remark>,
) -> bool {
    let is_gauge = |hist: Option<&(i64, Arc<HistogramValue>)>| {
        hist.is_some_and(|(_, hist)| hist.hint == ResetHint::Gauge)
    };
    if is_counter && hists.iter().any(|hist| is_gauge(Some(hist))) {
        remarks.push(Remark::NotCounter);
    }
    let are_gauges = is_gauge(hists.first()) && is_gauge(hists.last());
    if !is_counter && !are_gauges {
        remarks.push(Remark::NotGauge);
    }
    let customs = hists.iter().filter(|(_, hist)| hist.is_custom()).count();
    let is_mixed = customs != 0 && customs != hists.len();
    if is_mixed {
        remarks.push(Remark::MixedLayouts);
    }
    !is_mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], (start_ns, end_ns): (i64, i64), is_smoothed: bool) -> Option<f64> {
        let points: Vec<(i64, f64)> =
            (0..).map(|index: i64| index * 10).zip(values.iter().copied()).collect();
        let window = Window { start_ns, end_ns };
        change(&points, Edges { window, is_smoothed, is_counter: true }, &mut Vec::new())
    }

    #[test]
    fn anchored_change_is_that_of_whole_samples() {
        assert_eq!(check(&[1.0, 2.0, 4.0, 8.0], (12, 30), false), Some(6.0));
        assert_eq!(check(&[1.0, 2.0, 4.0, 3.0], (12, 30), false), Some(5.0));
        assert_eq!(check(&[1.0, 2.0], (40, 50), false), None);
        assert_eq!(check(&[], (0, 50), false), None);
    }

    #[test]
    fn smoothed_change_is_cut_at_both_edges() {
        assert_eq!(check(&[0.0, 10.0, 20.0], (5, 15), true), Some(10.0));
        assert_eq!(check(&[0.0, 10.0], (-20, -10), true), None);
        assert_eq!(check(&[0.0, 10.0], (10, 20), true), None);
    }

    #[test]
    fn smoothed_change_counts_each_reset_once() {
        // Within one step: from zero to 10, of which a half lies inside.
        assert_eq!(check(&[100.0, 10.0], (2, 7), true), Some(5.0));
        // Two resets, both cut: 10 to 5 at the left edge, 5 to 2 at the right one.
        assert_eq!(check(&[10.0, 5.0, 2.0, 4.0], (1, 15), true), Some(5.5));
    }
}
