//! Formulas over one window of one series that has native histograms among its samples.
//!
//! Functions that are not listed here know numbers alone and pass over histograms. A window without histograms is
//! left to the formulas over numbers.

use std::sync::Arc;

use icecore_storage::model::native::ResetHint;
use icecore_storage::scan::Window;

use super::range::{RawWindow, Sampled, seconds};
use crate::promql::histogram::{Combined, HistogramValue};
use crate::promql::number::seconds_of;
use crate::promql::value::Sample;

/// A histogram and its time.
pub(crate) type Timed = (i64, Arc<HistogramValue>);

/// The samples of a window, of which some are histograms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixedWindow<'a> {
    /// The numbers.
    pub(crate) floats: RawWindow<'a>,
    /// The histograms by time; there is one at least.
    pub(crate) hists: &'a [Timed],
    /// The window itself.
    pub(crate) window: Window,
}

/// What was done when something is to be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Addition,
    Subtraction,
    Aggregation,
}

impl Doing {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// Something to be said of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remark {
    /// Numbers and histograms cannot be taken together.
    MixedSamples,
    /// Exponential and custom buckets cannot be taken together.
    MixedLayouts,
    /// Numbers were taken and histograms were not.
    HistogramsIgnored,
    NotCounter,
    NotGauge,
    /// Custom bounds differed.
    Reconciled(Doing),
    /// Hints contradicted each other.
    Conflict(Doing),
}

impl Remark {
    /// Whether it is a warning, and what it says.
    pub(crate) fn text(self, metric: &str) -> (bool, String) {
        let of_metric =
            if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") };
        match self {
            Self::MixedSamples => (true, format!("encountered a mix of histograms and floats{of_metric}")),
            Self::MixedLayouts => {
                let what = "vector contains a mix of histograms with exponential and custom buckets schemas";
                (true, format!("{what}{of_metric}"))
            }
            Self::HistogramsIgnored => {
                let what = "ignored histograms in a range containing both floats and histograms";
                (false, format!("{what}{of_metric}"))
            }
            Self::NotCounter => (true, format!("this native histogram metric is not a counter: {metric:?}")),
            Self::NotGauge => (true, format!("this native histogram metric is not a gauge: {metric:?}")),
            Self::Reconciled(doing) => {
                (false, format!("mismatched custom buckets were reconciled during {}", doing.name()))
            }
            Self::Conflict(doing) => {
                (true, format!("conflicting counter resets during histogram {}", doing.name()))
            }
        }
    }
}

/// What must be said of histograms that were added.
pub(crate) fn remarks_of(combined: &Combined, doing: Doing) -> impl Iterator<Item = Remark> + use<> {
    let reconciled = combined.is_reconciled.then_some(Remark::Reconciled(doing));
    reconciled.into_iter().chain(combined.has_conflict.then_some(Remark::Conflict(doing)))
}

/// A formula over a window with histograms.
pub(crate) type Native = fn(&MixedWindow<'_>, &mut Vec<Remark>) -> Option<Sample>;

/// The formula of a function that knows histograms.
pub(crate) fn find(name: &str) -> Option<Native> {
    Some(match name {
        "rate" => |mixed, remarks| extrapolated(mixed, Kind::Rate, remarks),
        "increase" => |mixed, remarks| extrapolated(mixed, Kind::Increase, remarks),
        "delta" => |mixed, remarks| extrapolated(mixed, Kind::Delta, remarks),
        "irate" => |mixed, remarks| of_last_two(mixed, true, remarks),
        "idelta" => |mixed, remarks| of_last_two(mixed, false, remarks),
        "sum_over_time" => |mixed, remarks| folded(mixed, HistogramValue::sum_of, remarks),
        "avg_over_time" => |mixed, remarks| folded(mixed, HistogramValue::mean_of, remarks),
        "count_over_time" => {
            |mixed, _| Some(Sample::Float((mixed.floats.values.len() + mixed.hists.len()) as f64))
        }
        "present_over_time" => |_, _| Some(Sample::Float(1.0)),
        "first_over_time" => |mixed, _| mixed.in_order().first().map(|(_, sample)| sample.clone()),
        "last_over_time" => |mixed, _| mixed.in_order().last().map(|(_, sample)| sample.clone()),
        "ts_of_first_over_time" => |mixed, _| mixed.in_order().first().map(time_of),
        "ts_of_last_over_time" => |mixed, _| mixed.in_order().last().map(time_of),
        "changes" => |mixed, _| {
            Some(mixed.count_pairs(|before, after| match (before, after) {
                (Sample::Float(before), Sample::Float(after)) => {
                    before != after && !(before.is_nan() && after.is_nan())
                }
                (Sample::Histogram(before), Sample::Histogram(after)) => !before.equals(after),
                _ => true,
            }))
        },
        "resets" => |mixed, _| {
            Some(mixed.count_pairs(|before, after| match (before, after) {
                (Sample::Float(before), Sample::Float(after)) => after < before,
                (Sample::Histogram(before), Sample::Histogram(after)) => after.is_reset_after(before),
                _ => true,
            }))
        },
        _ => return None,
    })
}

fn time_of((ts_ns, _): &(i64, Sample)) -> Sample {
    Sample::Float(seconds_of(*ts_ns))
}

impl MixedWindow<'_> {
    /// All samples by time.
    fn in_order(&self) -> Vec<(i64, Sample)> {
        let floats = self.floats.ts_ns.iter().zip(self.floats.values);
        let floats = floats.map(|(ts_ns, value)| (*ts_ns, Sample::Float(*value)));
        let hists = self.hists.iter().map(|(ts_ns, hist)| (*ts_ns, Sample::Histogram(Arc::clone(hist))));
        let mut all: Vec<(i64, Sample)> = floats.chain(hists).collect();
        all.sort_by_key(|(ts_ns, _)| *ts_ns);
        all
    }

    /// How many neighbours are of some kind.
    fn count_pairs(&self, is_counted: fn(&Sample, &Sample) -> bool) -> Sample {
        let all = self.in_order();
        let pairs = all.iter().zip(all.iter().skip(1));
        Sample::Float(pairs.filter(|((_, before), (_, after))| is_counted(before, after)).count() as f64)
    }

    /// Whether there are numbers too, which is remarked.
    fn has_floats(&self, remarks: &mut Vec<Remark>) -> bool {
        let has_floats = !self.floats.values.is_empty();
        remarks.extend(has_floats.then_some(Remark::MixedSamples));
        has_floats
    }
}

/// Sum or mean of the histograms.
fn folded(
    mixed: &MixedWindow<'_>,
    fold: fn(&[&HistogramValue]) -> Option<Combined>,
    remarks: &mut Vec<Remark>,
) -> Option<Sample> {
    if mixed.has_floats(remarks) {
        return None;
    }
    let hists: Vec<&HistogramValue> = mixed.hists.iter().map(|(_, hist)| &**hist).collect();
    let Some(combined) = fold(&hists) else {
        remarks.push(Remark::MixedLayouts);
        return None;
    };
    remarks.extend(remarks_of(&combined, Doing::Aggregation));
    Some(Sample::Histogram(Arc::new(combined.value)))
}

/// The functions that extrapolate to the edges of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rate,
    Increase,
    Delta,
}

fn extrapolated(mixed: &MixedWindow<'_>, kind: Kind, remarks: &mut Vec<Remark>) -> Option<Sample> {
    let is_counter = kind != Kind::Delta;
    if mixed.has_floats(remarks) {
        return None;
    }
    let ((first_ns, first), (last_ns, _)) = (mixed.hists.first()?, mixed.hists.last()?);
    if mixed.hists.len() < 2 {
        return None;
    }
    let change = change(mixed.hists, is_counter, remarks)?;
    let sampled = Sampled { first_ns: *first_ns, last_ns: *last_ns, count: mixed.hists.len() as u64 };
    // A counter cannot have been below zero; the number of values tells.
    let zero = is_counter.then_some((first.count, change.count));
    let mut factor = sampled.stretch(mixed.window, zero)?;
    if kind == Kind::Rate {
        factor /= seconds(mixed.window.start_ns, mixed.window.end_ns);
    }
    Some(Sample::Histogram(Arc::new(change.scaled(factor))))
}

/// The change from the first to the last histogram; of a counter, with what was counted before each reset.
fn change(hists: &[Timed], is_counter: bool, remarks: &mut Vec<Remark>) -> Option<HistogramValue> {
    let [(_, first), rest @ ..] = hists else { return None };
    let (_, second) = rest.first()?;
    let (_, last) = rest.last()?;
    let is_gauge = |hist: &HistogramValue| hist.hint == ResetHint::Gauge;
    if is_counter && hists.iter().any(|(_, hist)| is_gauge(hist)) {
        remarks.push(Remark::NotCounter);
    }
    let has_counter = !is_gauge(first) || !is_gauge(last);
    if !is_counter && has_counter {
        remarks.push(Remark::NotGauge);
    }
    // What is before a reset between the first two does not count, its layout neither.
    let begins_anew = is_counter && second.is_reset_after(first);
    let relevant = if begins_anew { rest } else { hists };
    let looked_at = if is_counter { relevant } else { &[] };
    let is_custom = if begins_anew { second.is_custom() } else { first.is_custom() };
    if last.is_custom() != is_custom || looked_at.iter().any(|(_, hist)| hist.is_custom() != is_custom) {
        remarks.push(Remark::MixedLayouts);
        return None;
    }
    let mut total =
        if begins_anew { (**last).clone() } else { noted(last.minus(first)?, Doing::Subtraction, remarks) };
    for ((_, before), (_, after)) in looked_at.iter().zip(looked_at.iter().skip(1)) {
        if after.is_reset_after(before) {
            total = noted(total.plus(before)?, Doing::Addition, remarks);
        }
    }
    // As fine as all of them, though the counts of those in between do not matter.
    let schema = looked_at.iter().filter_map(|(_, hist)| hist.schema()).min();
    total = schema.into_iter().fold(total, HistogramValue::at_schema);
    total.hint = ResetHint::Gauge;
    Some(total)
}

/// The result of a sum, and whether bounds were reconciled. Resets are treated by the caller: hints do not matter.
fn noted(combined: Combined, doing: Doing, remarks: &mut Vec<Remark>) -> HistogramValue {
    remarks.extend(combined.is_reconciled.then_some(Remark::Reconciled(doing)));
    combined.value
}

/// `irate` and `idelta`.
fn of_last_two(mixed: &MixedWindow<'_>, is_rate: bool, remarks: &mut Vec<Remark>) -> Option<Sample> {
    let all = mixed.in_order();
    let [.., (before_ns, before), (last_ns, last)] = all.as_slice() else { return None };
    let interval = seconds(*before_ns, *last_ns);
    if interval <= 0.0 {
        return None;
    }
    match (before, last) {
        (Sample::Float(before), Sample::Float(last)) => {
            let change = if is_rate && last < before { *last } else { last - before };
            Some(Sample::Float(if is_rate { change / interval } else { change }))
        }
        (Sample::Histogram(before), Sample::Histogram(last)) => {
            let gauges = [before, last].iter().filter(|hist| hist.hint == ResetHint::Gauge).count();
            if is_rate && gauges > 0 {
                remarks.push(Remark::NotCounter);
            }
            if !is_rate && gauges < 2 {
                remarks.push(Remark::NotGauge);
            }
            let mut change = if is_rate && last.is_reset_after(before) {
                (**last).clone()
            } else {
                let Some(combined) = last.minus(before) else {
                    remarks.push(Remark::MixedLayouts);
                    return None;
                };
                noted(combined, Doing::Subtraction, remarks)
            };
            change.hint = ResetHint::Gauge;
            Some(Sample::Histogram(Arc::new(if is_rate { change.divided(interval) } else { change })))
        }
        _ => {
            remarks.push(Remark::MixedSamples);
            None
        }
    }
}
