//! Selectors with `anchored` and `smoothed`: what is read beyond the edges of a window, and what is made of it.
//!
//! Cells know nothing of the samples around a window, so raw rows are needed.

use std::sync::Arc;

use icecore_storage::model::ResetHint;
use icecore_storage::scan::Window;

use super::super::ast::{Edge, Expr, Selector};
use super::super::functions::edges::{Edges, Level, anchor, between, change, judge};
use super::super::functions::native::{MixedWindow, Remark, Timed, find};
use super::super::functions::range::{RawWindow, seconds};
use super::super::value::Sample;
use super::native::{Over, over_numbers};
use super::read::{RawSeries, windows_of};
use super::select::statistic_of;
use super::series::{Point, Series};
use super::{Evaluator, Grid};
use crate::Result;

impl Evaluator<'_> {
    /// A function over ranges with edges.
    pub(super) fn over_edges(
        &self,
        expr: &Expr,
        over: Over<'_>,
        selector: &Selector,
        windows: &[Window],
        grid: &Grid,
    ) -> Result<Vec<Series>> {
        let is_smoothed = selector.edge == Edge::Smoothed;
        let found = self.beyond(expr, selector, windows)?;
        self.each_series(found, windows, grid, |raw, window, _| {
            let around = self.around(window, is_smoothed);
            let mut remarks = Vec::new();
            let point = match over.function.name {
                "changes" | "resets" => from_anchor(over, raw, window, around, &mut remarks),
                name => {
                    let edges = Edges { window, is_smoothed, is_counter: name != "delta" };
                    let changed = change_of(raw, around, edges, &mut remarks);
                    if name == "rate" { changed.map(|sample| by_second(&sample, window)) } else { changed }
                }
            };
            remarks.into_iter().for_each(|remark| self.remark(over.arg, raw.labels.name(), remark));
            point
        })
    }

    /// An instant selector whose values lie on the lines between samples.
    pub(super) fn smoothed(&self, expr: &Expr, selector: &Selector, grid: &Grid) -> Result<Vec<Series>> {
        // Only the time counts: what is read lies around it.
        let windows: Vec<Window> = windows_of(&self.shifted(selector.shift, grid), 0);
        let found = self.beyond(expr, selector, &windows)?;
        self.each_series(found, &windows, grid, |raw, window, _| {
            let around = self.around(window, true);
            let (mut remarks, at_ns) = (Vec::new(), window.end_ns);
            let (floats, hists) = (floats_within(raw, around), raw.hists_within(around));
            let point = if hists.is_empty() {
                level_at(&floats, at_ns, |_, _| false, &mut remarks).map(Sample::Float)
            } else if floats.is_empty() {
                let counts = |before: &_, after: &_| is_counter(before) && is_counter(after);
                let found = level_at(hists, at_ns, counts, &mut remarks).map(Sample::Histogram);
                remarks.retain(|remark| *remark == Remark::MixedLayouts);
                found
            } else {
                remarks.push(Remark::MixedSamples);
                None
            };
            remarks.into_iter().for_each(|remark| self.remark(expr, raw.labels.name(), remark));
            point
        })
    }

    /// The samples in and around windows.
    fn beyond(&self, expr: &Expr, selector: &Selector, windows: &[Window]) -> Result<Vec<RawSeries>> {
        if let Some(found) = statistic_of(selector)? {
            let what = format!("{} of __stat__={:?}", selector.edge.word(), found.name());
            return Err(self.unsupported(expr, what));
        }
        let is_smoothed = selector.edge == Edge::Smoothed;
        let around: Vec<Window> = windows.iter().map(|window| self.around(*window, is_smoothed)).collect();
        let (found, coverage) = self.samples(selector, &around)?;
        self.refuse_gone(expr, selector.edge.word(), &coverage)?;
        Ok(found)
    }

    /// A window with what is looked at beyond its edges.
    fn around(&self, window: Window, is_smoothed: bool) -> Window {
        let lookback_ns = self.lookback_ns();
        let after_ns = if is_smoothed { lookback_ns } else { 0 };
        Window {
            start_ns: window.start_ns.saturating_sub(lookback_ns),
            end_ns: window.end_ns.saturating_add(after_ns),
        }
    }
}

fn is_counter(hist: &HistogramRef) -> bool {
    hist.hint != ResetHint::Gauge
}

type HistogramRef = Arc<super::super::histogram::HistogramValue>;

fn floats_within(raw: &RawSeries, window: Window) -> Vec<(i64, f64)> {
    let (ts_ns, values) = raw.within(window);
    ts_ns.iter().copied().zip(values.iter().copied()).collect()
}

/// The value at a time: that of a sample, between two, or of the last one when there is none after it.
fn level_at<T: Level>(
    points: &[(i64, T)],
    at_ns: i64,
    is_counter: impl Fn(&T, &T) -> bool,
    remarks: &mut Vec<Remark>,
) -> Option<T> {
    let place = anchor(points, at_ns);
    let before = points.get(place).filter(|(ts_ns, _)| *ts_ns <= at_ns)?;
    match points.get(place + 1).filter(|_| before.0 < at_ns) {
        None => Some(before.1.clone()),
        Some(after) => {
            let found = between(before, after, at_ns, is_counter(&before.1, &after.1), remarks);
            if found.is_none() {
                remarks.push(Remark::MixedLayouts);
            }
            found.map(|(level, _)| level)
        }
    }
}

/// The change over a window with edges.
fn change_of(raw: &RawSeries, around: Window, edges: Edges, remarks: &mut Vec<Remark>) -> Point {
    let (floats, hists) = (floats_within(raw, around), raw.hists_within(around));
    if hists.is_empty() {
        return change(&floats, edges, remarks).map(Sample::Float);
    }
    if !floats.is_empty() {
        remarks.push(Remark::MixedSamples);
        return None;
    }
    let looked_at = hists.get(anchor(hists, edges.window.start_ns)..).unwrap_or_default();
    // Of those after the window only the first one is looked at.
    let inside = looked_at.partition_point(|(ts_ns, _)| *ts_ns < edges.window.end_ns);
    let looked_at = looked_at.get(..(inside + 1).min(looked_at.len())).unwrap_or_default();
    let mut said = Vec::new();
    if !judge(looked_at, edges.is_counter, &mut said) {
        remarks.extend(said);
        return None;
    }
    let found = change::<HistogramRef>(looked_at, edges, &mut said)?;
    remarks.extend(said);
    let mut found = (*found).clone();
    found.hint = ResetHint::Gauge;
    Some(Sample::Histogram(Arc::new(found)))
}

fn by_second(sample: &Sample, window: Window) -> Sample {
    let width = seconds(window.start_ns, window.end_ns);
    match sample {
        Sample::Float(value) => Sample::Float(value / width),
        Sample::Histogram(hist) => Sample::Histogram(Arc::new(hist.divided(width))),
    }
}

/// `changes` and `resets` over the samples of a window and the one before it.
fn from_anchor(
    over: Over<'_>,
    raw: &RawSeries,
    window: Window,
    around: Window,
    remarks: &mut Vec<Remark>,
) -> Point {
    let last_up_to = |start_ns: i64| {
        let before = Window { start_ns: around.start_ns, end_ns: start_ns };
        let float = raw.within(before).0.last().copied();
        float.max(raw.hists_within(before).last().map(|(ts_ns, _)| *ts_ns))
    };
    let is_inside = !raw.within(window).0.is_empty() || !raw.hists_within(window).is_empty();
    let start_ns = last_up_to(window.start_ns).map_or(window.start_ns, |ts_ns| ts_ns.saturating_sub(1));
    let window = Window { start_ns, end_ns: window.end_ns };
    let (ts_ns, values) = raw.within(window);
    let floats = RawWindow { eval_ns: window.end_ns, ts_ns, values, params: [0.0; 2] };
    let hists: &[Timed] = raw.hists_within(window);
    match find(over.function.name).filter(|_| !hists.is_empty()) {
        _ if !is_inside => None,
        Some(native) => native(&MixedWindow { floats, hists, window }, remarks),
        None => over_numbers(over.function.run, &floats, window),
    }
}
