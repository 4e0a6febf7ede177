//! Series that have native histograms among their samples.
//!
//! Cells and windows know numbers alone, so these series are read sample by sample. Whether a field has some is asked
//! once for each selector, and then which series; all others take the way of [`read`](super::read).

use std::sync::Arc;

use icecore_storage::Error as StorageError;
use icecore_storage::model::native::ResetHint;
use icecore_storage::model::{NativeHistogram, SeriesId, TimeRange};
use icecore_storage::scan::{SampleRequest, Window};

use super::super::ast::Expr;
use super::super::functions::native::{MixedWindow, Native, Remark, Timed, find};
use super::super::functions::range::{RawWindow, numbers_of};
use super::super::functions::{Function, Run};
use super::super::histogram::HistogramValue;
use super::super::number::seconds_of;
use super::super::value::Sample;
use super::read::{Instant, RawSeries, gone, hull, windows_of};
use super::select::Target;
use super::series::{Point, Series, series_bytes};
use super::window::Params;
use super::{Evaluator, Grid};
use crate::{Error, ErrorKind, Result};

/// How a function is computed over the windows of series.
#[derive(Clone, Copy)]
pub(super) struct Over<'e> {
    pub(super) function: &'e Function,
    /// The range vector, where remarks stand.
    pub(super) arg: &'e Expr,
}

impl Evaluator<'_> {
    /// Whether some samples of a field are histograms.
    pub(super) fn has_histograms(&self, target: &Target) -> bool {
        self.context.scan.has_histograms(target.measurement, target.field)
    }

    /// Parts the series that have numbers alone in some windows from those that have histograms, too.
    pub(super) fn parted(
        &self,
        targets: Vec<Target>,
        windows: &[Window],
    ) -> Result<(Vec<Target>, Vec<Target>)> {
        let (mut plain, mut mixed) = (Vec::with_capacity(targets.len()), Vec::new());
        for target in targets {
            if !self.has_histograms(&target) {
                plain.push(target);
                continue;
            }
            let (scan, budget) = (self.context.scan, self.context.budget);
            let request = request_of(&target, hull(windows));
            let with_some = budget.scanned(scan.histogram_series(&request, budget))?;
            budget.charge_ids(&with_some)?;
            let (without, with) = target.parted(&with_some);
            plain.push(without);
            mixed.push(with);
        }
        plain.retain(|target| !target.ids.is_empty());
        mixed.retain(|target| !target.ids.is_empty());
        Ok((plain, mixed))
    }

    /// The histograms of each series that has some.
    pub(super) fn histograms(
        &self,
        target: &Target,
        range: TimeRange,
    ) -> Result<Vec<(SeriesId, Vec<Timed>)>> {
        let request = request_of(target, range);
        let budget = self.context.budget;
        let mut found = Vec::new();
        let outcome = self.context.scan.histograms(&request, budget, &mut |slice| {
            let Some(id) = target.ids.get(slice.series_idx) else { return Ok(()) };
            let hists =
                slice.ts_ns.iter().zip(slice.values).map(|(ts_ns, value)| Ok((*ts_ns, value_of(value)?)));
            let mut hists = hists.collect::<std::result::Result<Vec<Timed>, StorageError>>()?;
            if self.tells_resets.get() {
                tell_resets(&mut hists);
            }
            let bytes = hists.iter().map(|(_, hist)| size_of::<Timed>() as u64 + hist.memory_bytes()).sum();
            budget.charge_bytes(bytes).map_err(|error| budget.stop_scan(error))?;
            found.push((*id, hists));
            Ok(())
        });
        budget.scanned(outcome)?;
        Ok(found)
    }

    /// The points of an instant selector: the last sample of each window, of either kind.
    pub(super) fn latest(
        &self,
        targets: &[Target],
        times: &Grid,
        grid: &Grid,
        what: Instant,
    ) -> Result<Vec<Series>> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let windows = windows_of(times, self.lookback_ns());
        let (found, coverage) = self.samples_of(targets, &windows, true)?;
        if let Some(before_ns) = coverage.raw_gone_before_ns {
            let what = "a selector of series with native histograms";
            return Err(Error::new(ErrorKind::Execution, gone(what, before_ns)));
        }
        self.absorb(&coverage);
        self.each_series(found, &windows, grid, |raw, window, _| {
            let (ts_ns, sample) = raw.last(window)?;
            Some(match what {
                Instant::Value => sample,
                Instant::Time => Sample::Float(seconds_of(ts_ns)),
            })
        })
    }

    /// Computes a function over the samples of each window.
    pub(super) fn slide(
        &self,
        over: Over<'_>,
        found: Vec<RawSeries>,
        windows: &[Window],
        grid: &Grid,
        params: &Params,
    ) -> Result<Vec<Series>> {
        let native = find(over.function.name);
        self.each_series(found, windows, grid, |raw, window, step| {
            let (ts_ns, values) = raw.within(window);
            let params = params.get(step).copied().unwrap_or_default();
            let floats = RawWindow { eval_ns: grid.ts_ns(step), ts_ns, values, params };
            match raw.hists_within(window) {
                [] => over_numbers(over.function.run, &floats, window),
                hists => self.over_mixed(over, raw, native, &MixedWindow { floats, hists, window }),
            }
        })
    }

    /// A window that has histograms.
    fn over_mixed(
        &self,
        over: Over<'_>,
        raw: &RawSeries,
        native: Option<Native>,
        mixed: &MixedWindow<'_>,
    ) -> Option<Sample> {
        let mut remarks = Vec::new();
        let found = match native {
            Some(native) => native(mixed, &mut remarks),
            None if mixed.floats.values.is_empty() => None,
            None => {
                remarks.push(Remark::HistogramsIgnored);
                over_numbers(over.function.run, &mixed.floats, mixed.window)
            }
        };
        remarks.into_iter().for_each(|remark| self.remark(over.arg, raw.labels.name(), remark));
        found
    }

    /// One point of each series for each step; one window serves all steps when `@` fixes it.
    pub(super) fn each_series(
        &self,
        found: Vec<RawSeries>,
        windows: &[Window],
        grid: &Grid,
        point: impl Fn(&RawSeries, Window, usize) -> Point,
    ) -> Result<Vec<Series>> {
        let mut series = Vec::with_capacity(found.len());
        for raw in found {
            self.context.budget.charge_samples(grid.count as u64)?;
            self.context.budget.charge_bytes(series_bytes(grid.count))?;
            let window = |step: usize| windows.get(step).or(windows.first()).copied();
            // A window may be all of the series.
            let samples = (raw.ts_ns.len() + raw.hists.len()) as u64;
            let points = (0..grid.count).map(|step| {
                self.context.budget.work(samples)?;
                Ok(window(step).and_then(|window| point(&raw, window, step)))
            });
            let points = points.collect::<Result<Vec<Point>>>()?;
            let heap = points.iter().flatten().map(Sample::heap_bytes).sum();
            self.context.budget.charge_bytes(heap)?;
            series.push(Series { labels: raw.labels, drops_name: raw.drops_name, points });
        }
        series.retain(|series| !series.is_empty());
        Ok(series)
    }
}

impl RawSeries {
    /// The numbers in a window.
    pub(super) fn within(&self, window: Window) -> (&[i64], &[f64]) {
        let from = self.ts_ns.partition_point(|ts_ns| *ts_ns <= window.start_ns);
        let to = self.ts_ns.partition_point(|ts_ns| *ts_ns <= window.end_ns);
        (self.ts_ns.get(from..to).unwrap_or_default(), self.values.get(from..to).unwrap_or_default())
    }

    /// The histograms in a window.
    pub(super) fn hists_within(&self, window: Window) -> &[Timed] {
        let from = self.hists.partition_point(|(ts_ns, _)| *ts_ns <= window.start_ns);
        let to = self.hists.partition_point(|(ts_ns, _)| *ts_ns <= window.end_ns);
        self.hists.get(from..to).unwrap_or_default()
    }

    /// The last sample of a window, of either kind; nothing when the series ended after it.
    pub(super) fn last(&self, window: Window) -> Option<(i64, Sample)> {
        let floats = self.within(window);
        let hists = self.hists_within(window);
        let (float, hist) = (floats.0.last().zip(floats.1.last()), hists.last());
        let last_float_ns = floats.0.last().copied().unwrap_or(i64::MIN);
        let last_hist_ns = hists.last().map_or(i64::MIN, |(ts_ns, _)| *ts_ns);
        let (ts_ns, sample) = if last_hist_ns < last_float_ns {
            float.map(|(ts_ns, value)| (*ts_ns, Sample::Float(*value)))?
        } else {
            hist.map(|(ts_ns, hist)| (*ts_ns, Sample::Histogram(Arc::clone(hist))))?
        };
        let ends = self.ended_ns.partition_point(|ended_ns| *ended_ns <= window.end_ns);
        let ended_ns = ends.checked_sub(1).and_then(|place| self.ended_ns.get(place));
        let is_open = ended_ns.is_none_or(|ended_ns| *ended_ns <= ts_ns);
        is_open.then_some((ts_ns, sample))
    }

    /// All samples by time.
    pub(super) fn points(self) -> Vec<(i64, Sample)> {
        let mut points: Vec<(i64, Sample)> =
            self.ts_ns.into_iter().zip(self.values.into_iter().map(Sample::Float)).collect();
        if !self.hists.is_empty() {
            points.extend(self.hists.into_iter().map(|(ts_ns, hist)| (ts_ns, Sample::Histogram(hist))));
            points.sort_by_key(|(ts_ns, _)| *ts_ns);
        }
        points
    }
}

/// A formula over numbers alone.
pub(super) fn over_numbers(run: Run, floats: &RawWindow<'_>, window: Window) -> Option<Sample> {
    let value = match run {
        Run::Window(formula) => formula(&numbers_of(floats.ts_ns, floats.values)?, window),
        Run::Samples(formula) => formula(floats),
        Run::Map(_) | Run::Date(_) | Run::Special(_) => None,
    };
    value.map(Sample::Float)
}

fn request_of(target: &Target, range: TimeRange) -> SampleRequest<'_> {
    let (measurement, field) = target.place();
    SampleRequest { measurement, field, series: &target.ids, range }
}

fn value_of(native: &NativeHistogram) -> std::result::Result<Arc<HistogramValue>, StorageError> {
    native.check()?;
    Ok(Arc::new(HistogramValue::from(native)))
}

/// Replaces unknown hints by what a comparison with the histogram before tells.
fn tell_resets(hists: &mut [Timed]) {
    let told: Vec<ResetHint> = hists
        .iter()
        .zip(hists.iter().skip(1))
        .map(|((_, before), (_, after))| match after.hint {
            ResetHint::Unknown if after.is_reset_after(before) => ResetHint::Reset,
            ResetHint::Unknown => ResetHint::NotReset,
            known => known,
        })
        .collect();
    for ((_, hist), hint) in hists.iter_mut().skip(1).zip(told) {
        if hist.hint != hint {
            Arc::make_mut(hist).hint = hint;
        }
    }
}
