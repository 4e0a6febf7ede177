//! Series to samples: instant selectors, plain range selectors, and the two ways into storage they share with range
//! functions (windows of partials, raw samples).

use std::collections::HashMap;

use icecore_storage::model::{
    FieldId, Histogram, MINUTE_NS, MeasurementId, Numbers, Partial, SeriesId, StatSet, TimeRange, floor_to,
};
use icecore_storage::scan::{Bounds, Coverage, SampleRequest, Window, WindowRequest};

use super::super::ast::{Edge, Expr, ExprKind, Selector};
use super::super::functions::math::format_time;
use super::super::functions::native::Timed;
use super::super::histogram::HistogramValue;
use super::super::number::seconds_of;
use super::super::value::{Labels, MatrixSeries, Sample, answer_bytes};
use super::select::{Statistic, Target, select, statistic_of};
use super::series::{Point, Series, join_equal, series_bytes};
use super::{Evaluator, Grid, Value};
use crate::keys::each_key;
use crate::{Error, ErrorKind, Result};

/// What of its sample an instant selector gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instant {
    /// Its value.
    Value,
    /// Its time, in seconds.
    Time,
}

impl Instant {
    /// What it gives of a window; nothing when the series ended after its last sample.
    pub(super) fn of(self, partial: &Partial, ended_ns: Option<i64>) -> Option<Sample> {
        let (last_ns, last) = newest_of(partial, ended_ns)?;
        Some(Sample::Float(match self {
            Self::Value => last,
            Self::Time => seconds_of(last_ns),
        }))
    }
}

/// The last sample of a window and its time; nothing when the series ended after it.
pub(super) fn newest_of(partial: &Partial, ended_ns: Option<i64>) -> Option<(i64, f64)> {
    let is_open = |last_ns: i64| ended_ns.is_none_or(|ended_ns| ended_ns <= last_ns);
    let numbers = partial.numbers().filter(|numbers| is_open(numbers.last_ns))?;
    Some((numbers.last_ns, numbers.last))
}

/// What is read of each series, and at which steps it is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowRead<'a> {
    pub(super) windows: &'a [Window],
    pub(super) grid: &'a Grid,
    pub(super) wants: StatSet,
}

/// When series ended last in each window, by their place in a list.
pub(super) type Ends = HashMap<usize, Vec<Option<i64>>>;

/// When a series ended last in the window of a step.
pub(super) fn ended_ns(ends: &Ends, series_idx: usize, step: usize) -> Option<i64> {
    // There are no ends but in few databases, and there in few series.
    if ends.is_empty() { None } else { *ends.get(&series_idx)?.get(step)? }
}

/// Raw samples of one series.
#[derive(Debug, Default)]
pub(super) struct RawSeries {
    pub(super) labels: Labels,
    pub(super) drops_name: bool,
    pub(super) ts_ns: Vec<i64>,
    pub(super) values: Vec<f64>,
    /// Native histograms by time; none for most fields.
    pub(super) hists: Vec<Timed>,
    /// When the series ended, where that was asked for.
    pub(super) ended_ns: Vec<i64>,
}

/// Puts histograms to the numbers of their series; both ascend by id, and so does the result.
fn with_histograms(series: &mut Vec<(SeriesId, RawSeries)>, histograms: Vec<(SeriesId, Vec<Timed>)>) {
    let with_floats = series.len();
    for (id, hists) in histograms {
        let known = series.get_mut(..with_floats).unwrap_or_default();
        let place = known.binary_search_by_key(&id, |(id, _)| *id).ok();
        match place.and_then(|place| known.get_mut(place)) {
            Some((_, raw)) => raw.hists = hists,
            None => series.push((id, RawSeries { hists, ..RawSeries::default() })),
        }
    }
    series.sort_by_key(|(id, _)| *id);
}

/// An estimate of the memory that a series with so many raw samples takes.
pub(super) fn raw_bytes(labels: &Labels, samples: usize) -> u64 {
    series_bytes(0) + labels.memory_bytes() + (samples * size_of::<(i64, f64)>()) as u64
}

/// Why something that needs raw rows is refused.
pub(super) fn gone(what: &str, before_ns: i64) -> String {
    format!("{what} needs raw rows, and raw rows before {} are gone", format_time(before_ns))
}

/// The windows `(t - range, t]`, one per time.
pub(super) fn windows_of(grid: &Grid, range_ns: i64) -> Vec<Window> {
    grid.times().map(|end_ns| Window { start_ns: end_ns.saturating_sub(range_ns), end_ns }).collect()
}

/// The windows of a statistic without a range: the last whole minute, one per time.
pub(super) fn statistic_windows(grid: &Grid) -> Vec<Window> {
    let ends = grid.times().map(|ts_ns| floor_to(ts_ns, MINUTE_NS));
    ends.map(|end_ns| Window { start_ns: end_ns.saturating_sub(MINUTE_NS), end_ns }).collect()
}

/// The time that the windows touch.
pub(super) fn hull(windows: &[Window]) -> TimeRange {
    let start = windows.first().map_or(0, |window| window.start_ns);
    let end = windows.last().map_or(0, |window| window.end_ns);
    TimeRange::new(start.saturating_add(1), end.saturating_add(1))
}

/// The histogram of a window; cells of one or two values have none of their own.
pub(super) fn histogram_of(partial: &Partial, numbers: &Numbers) -> Option<HistogramValue> {
    if let Some(buckets) = partial.histogram() {
        return Some(HistogramValue::of_window(buckets, numbers));
    }
    let mut buckets = Histogram::default();
    match numbers.count {
        1 => buckets.add(numbers.first),
        2 => [numbers.first, numbers.last].into_iter().for_each(|value| buckets.add(value)),
        _ => return None,
    }
    Some(HistogramValue::of_window(&buckets, numbers))
}

/// The groups of statistics that hold one.
pub(super) fn wants_of(statistic: Statistic) -> StatSet {
    match statistic {
        // Bounded by the smallest and the largest value; its sum is that of the values.
        Statistic::Hist => StatSet::HIST.with(StatSet::SUM).with(StatSet::RANGE),
        Statistic::Count => StatSet::COUNT,
        Statistic::Sum => StatSet::SUM,
        Statistic::Min | Statistic::Max => StatSet::RANGE,
        Statistic::First | Statistic::Last => StatSet::ENDS,
    }
}

/// A statistic of a window.
pub(super) fn statistic(statistic: Statistic, partial: &Partial) -> Option<Sample> {
    let numbers = partial.numbers()?;
    Some(Sample::Float(match statistic {
        Statistic::Hist => return Some(Sample::Histogram(histogram_of(partial, &numbers)?.into())),
        Statistic::Count => numbers.count as f64,
        Statistic::Sum => numbers.sum,
        Statistic::Min => numbers.min,
        Statistic::Max => numbers.max,
        Statistic::First => numbers.first,
        Statistic::Last => numbers.last,
    }))
}

impl Evaluator<'_> {
    /// An instant vector selector.
    pub(super) fn selector(&self, selector: &Selector, grid: &Grid, what: Instant) -> Result<Value> {
        let times = self.shifted(selector.shift, grid);
        let found = statistic_of(selector)?;
        let windows = match found {
            None => windows_of(&times, self.lookback_ns()),
            Some(_) => statistic_windows(&times),
        };
        let wants = found.map_or(StatSet::ENDS, wants_of);
        let targets = self.targets(selector, &windows)?;
        let (plain, mixed) =
            if found.is_none() { self.parted(targets, &windows)? } else { (targets, Vec::new()) };
        let read = WindowRead { windows: &windows, grid, wants };
        let mut series = Vec::new();
        for target in &plain {
            let ends = match found {
                None => self.ends(target, &target.ids, &windows, grid)?,
                Some(_) => Ends::default(),
            };
            let point = |series_idx, step, _, partial: &Partial| match found {
                Some(found) => statistic(found, partial),
                None => what.of(partial, ended_ns(&ends, series_idx, step)),
            };
            self.window_series(target, &read, point, &mut series)?;
        }
        let series = if plain.len() <= 1 { series } else { self.in_order(series)? };
        let latest = self.latest(&mixed, &times, grid, what)?;
        self.joined(series, latest).map(Value::Vector)
    }

    /// The series of plain fields, in order, with those of fields that have histograms.
    pub(super) fn joined(&self, mut plain: Vec<Series>, mixed: Vec<Series>) -> Result<Vec<Series>> {
        if mixed.is_empty() {
            return Ok(plain);
        }
        plain.extend(mixed);
        self.in_order(plain)
    }

    pub(super) fn lookback_ns(&self) -> i64 {
        i64::try_from(self.context.lookback.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Reads one partial per window and makes points of them, at every step of the grid. One window serves all steps.
    pub(super) fn windows(
        &self,
        targets: &[Target],
        windows: &[Window],
        grid: &Grid,
        wants: StatSet,
        mut point: impl FnMut(usize, Window, &Partial) -> Option<Sample>,
    ) -> Result<Vec<Series>> {
        let read = WindowRead { windows, grid, wants };
        let mut found = Vec::new();
        for target in targets {
            let point = |_, step, window, partial: &Partial| point(step, window, partial);
            self.window_series(target, &read, point, &mut found)?;
        }
        // The series of one field have labels of their own, and come by them.
        if targets.len() <= 1 { Ok(found) } else { self.in_order(found) }
    }

    /// The series of one field, by their labels.
    fn window_series(
        &self,
        target: &Target,
        read: &WindowRead<'_>,
        point: impl FnMut(usize, usize, Window, &Partial) -> Option<Sample>,
        found: &mut Vec<Series>,
    ) -> Result<()> {
        let mut unnamed = Vec::new();
        let coverage = self.each_window(target.place(), &target.ids, read, point, |series_idx, points| {
            self.take_points(series_idx, points, &mut unnamed)
        })?;
        self.absorb(&coverage);
        self.named(target, unnamed, found)
    }

    /// When series of a list ended last, window by window. Those that did not end are not there.
    pub(super) fn ends(
        &self,
        target: &Target,
        ids: &[SeriesId],
        windows: &[Window],
        grid: &Grid,
    ) -> Result<Ends> {
        let mut ends = Ends::default();
        let Some(stale) = target.stale else { return Ok(ends) };
        let read = WindowRead { windows, grid, wants: StatSet::ENDS };
        let last = |_, _, _, partial: &Partial| partial.numbers().map(|numbers| numbers.last_ns);
        let coverage =
            self.each_window((target.measurement, stale), ids, &read, last, |series_idx, ended| {
                self.context.budget.charge_bytes(series_bytes(0) + size_of_val(&**ended) as u64)?;
                ends.insert(series_idx, std::mem::take(ended));
                Ok(())
            })?;
        self.absorb(&coverage);
        Ok(ends)
    }

    /// Keeps the points of a series and charges them.
    fn take_points(
        &self,
        series_idx: usize,
        points: &mut Vec<Point>,
        found: &mut Vec<(usize, Vec<Point>)>,
    ) -> Result<()> {
        let heap: u64 = points.iter().flatten().map(Sample::heap_bytes).sum();
        self.context.budget.charge_bytes(series_bytes(points.len()) + heap)?;
        found.push((series_idx, std::mem::take(points)));
        Ok(())
    }

    /// Gives series their labels, and charges those. The series of the target are in the order of their labels then.
    fn named(
        &self,
        target: &Target,
        mut unnamed: Vec<(usize, Vec<Point>)>,
        found: &mut Vec<Series>,
    ) -> Result<()> {
        let id_of = |(series_idx, _): &(usize, Vec<Point>)| target.ids.get(*series_idx).copied();
        let ids: Vec<SeriesId> = unnamed.iter().filter_map(id_of).collect();
        found.reserve_exact(ids.len());
        self.each_labelled(target, &ids, |position, labels| {
            let points = unnamed.get_mut(position).map(|(_, points)| std::mem::take(points));
            found.extend(points.map(|points| Series { labels, drops_name: false, points }));
            self.context.budget.charge_bytes(found.last().map_or(0, |one| one.labels.memory_bytes()))
        })
    }

    /// Hands over the points of each series that has some, in the order of `ids`. The sink may take them.
    pub(super) fn each_window<T: Clone>(
        &self,
        (measurement, field): (MeasurementId, FieldId),
        ids: &[SeriesId],
        read: &WindowRead<'_>,
        mut point: impl FnMut(usize, usize, Window, &Partial) -> Option<T>,
        mut sink: impl FnMut(usize, &mut Vec<Option<T>>) -> Result<()>,
    ) -> Result<Coverage> {
        let WindowRead { windows, grid, wants } = *read;
        let request = WindowRequest {
            measurement,
            field,
            series: ids,
            windows,
            bounds: Bounds::LeftOpen,
            wants,
            resolution: self.context.resolution,
        };
        let budget = self.context.budget;
        let mut points = Vec::new();
        let outcome = self.context.scan.windows(&request, budget, &mut |slice| {
            let (mut answered, place) = (slice.windows.iter().zip(slice.partials), slice.series_idx);
            points.clear();
            if windows.len() == grid.count {
                let answered = answered.enumerate();
                points.extend(answered.map(|(step, (window, partial))| point(place, step, *window, partial)));
            } else {
                // The window is the same at every step; what is made of it may still depend on the step.
                let fixed = answered.next();
                let at = |step| fixed.and_then(|(window, partial)| point(place, step, *window, partial));
                points.extend((0..grid.count).map(at));
            }
            points.resize(grid.count, None);
            if points.iter().all(Option::is_none) {
                return Ok(());
            }
            let charged = budget.charge_samples(grid.count as u64);
            charged.and_then(|()| sink(place, &mut points)).map_err(|error| budget.stop_scan(error))
        });
        budget.scanned(outcome)
    }

    /// Sorts by labels. Metrics of different fields can have one name (`a_b` of `c`, `a` of `b_c`).
    fn in_order(&self, found: Vec<Series>) -> Result<Vec<Series>> {
        let mut series = join_equal(found)?;
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(series)
    }

    pub(super) fn targets(&self, selector: &Selector, windows: &[Window]) -> Result<Vec<Target>> {
        select(self.context.scan, selector, hull(windows), self.context.budget)
    }

    /// Reads all samples that the windows touch.
    pub(super) fn samples(
        &self,
        selector: &Selector,
        windows: &[Window],
    ) -> Result<(Vec<RawSeries>, Coverage)> {
        let (found, coverage) = self.samples_of(&self.targets(selector, windows)?, windows, false)?;
        self.absorb(&coverage);
        Ok((found, coverage))
    }

    /// As [`samples`](Self::samples), of fields that were looked up; with or without the times at which series ended.
    pub(super) fn samples_of(
        &self,
        targets: &[Target],
        windows: &[Window],
        with_ends: bool,
    ) -> Result<(Vec<RawSeries>, Coverage)> {
        let mut found = Vec::new();
        let mut total = Coverage::default();
        let (budget, range) = (self.context.budget, hull(windows));
        for target in targets {
            let mut unnamed: Vec<(SeriesId, RawSeries)> = Vec::new();
            let take = |series_idx: usize, ts_ns: &[i64], values: &[f64]| {
                let Some(id) = target.ids.get(series_idx) else { return Ok(()) };
                budget.charge_bytes(raw_bytes(&Labels::default(), ts_ns.len()))?;
                let (ts_ns, values) = (ts_ns.to_vec(), values.to_vec());
                unnamed.push((*id, RawSeries { ts_ns, values, ..RawSeries::default() }));
                Ok(())
            };
            let coverage = self.each_samples(target.place(), &target.ids, range, take)?;
            if self.has_histograms(target) {
                with_histograms(&mut unnamed, self.histograms(target, range)?);
            }
            if let Some(stale) = target.stale.filter(|_| with_ends) {
                self.each_samples(
                    (target.measurement, stale),
                    &target.ids,
                    range,
                    |series_idx, ts_ns, _| {
                        budget.charge_bytes(raw_bytes(&Labels::default(), ts_ns.len()))?;
                        let id = target.ids.get(series_idx);
                        let place = unnamed.binary_search_by_key(&id, |(id, _)| Some(id)).ok();
                        if let Some((_, raw)) = place.and_then(|place| unnamed.get_mut(place)) {
                            raw.ended_ns = ts_ns.to_vec();
                        }
                        Ok(())
                    },
                )?;
            }
            let ids: Vec<SeriesId> = unnamed.iter().map(|(id, _)| *id).collect();
            let mut samples = unnamed.into_iter();
            each_key(self.context.scan, &ids, budget, |_, key| {
                let labels = target.labels(key);
                budget.charge_bytes(labels.memory_bytes())?;
                found.extend(samples.next().map(|(_, raw)| RawSeries { labels, ..raw }));
                Ok(())
            })?;
            total.absorb(&coverage);
        }
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok((found, total))
    }

    /// Hands over the samples of each series that has some, in the order of `ids`.
    pub(super) fn each_samples(
        &self,
        (measurement, field): (MeasurementId, FieldId),
        ids: &[SeriesId],
        range: TimeRange,
        mut sink: impl FnMut(usize, &[i64], &[f64]) -> Result<()>,
    ) -> Result<Coverage> {
        let request = SampleRequest { measurement, field, series: ids, range };
        let budget = self.context.budget;
        let outcome = self.context.scan.samples(&request, budget, &mut |slice| {
            sink(slice.series_idx, slice.ts_ns, slice.values).map_err(|error| budget.stop_scan(error))
        });
        budget.scanned(outcome)
    }

    /// A range vector as the whole query: every sample of the window.
    pub(super) fn matrix(&self, expr: &Expr, grid: &Grid) -> Result<Vec<MatrixSeries>> {
        let mut matrix = Vec::new();
        match &expr.unwrapped().kind {
            ExprKind::Range { selector, range_ns } => {
                if let Some(found) = statistic_of(selector)? {
                    return Err(
                        self.unsupported(expr, format!("a range of __stat__={:?} alone", found.name()))
                    );
                }
                if selector.edge != Edge::Inside {
                    return Err(self.unsupported(expr, format!("a range {} alone", selector.edge.word())));
                }
                let windows = windows_of(&self.shifted(selector.shift, grid), *range_ns);
                let (found, coverage) = self.samples(selector, &windows)?;
                self.refuse_gone(expr, "a range selector", &coverage)?;
                for raw in found {
                    let labels = raw.labels.clone();
                    let points = raw.points();
                    self.charge_answer(&labels, &points)?;
                    matrix.push(MatrixSeries { labels, points });
                }
            }
            ExprKind::Subquery { .. } => {
                let (inner, series) = self.subquery(expr.unwrapped(), grid)?;
                for one in super::series::drop_names(series)? {
                    let points = inner.times().zip(one.points);
                    let points: Vec<_> = points.filter_map(|(ts_ns, point)| Some((ts_ns, point?))).collect();
                    self.charge_answer(&one.labels, &points)?;
                    matrix.push(MatrixSeries { labels: one.labels, points });
                }
            }
            _ => return Err(Error::at(self.text, expr.start, "expected a range vector")),
        }
        matrix.retain(|series| !series.points.is_empty());
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }

    fn charge_answer(&self, labels: &Labels, points: &[(i64, Sample)]) -> Result<()> {
        let budget = self.context.budget;
        budget.charge_points(points.len() as u64)?;
        budget.charge_series(u64::from(!points.is_empty()))?;
        budget.charge_bytes(answer_bytes(labels, points))
    }

    /// Refuses what needs raw rows where they are gone.
    pub(super) fn refuse_gone(&self, expr: &Expr, what: &str, coverage: &Coverage) -> Result<()> {
        let Some(before_ns) = coverage.raw_gone_before_ns else { return Ok(()) };
        let (line, column) = crate::error::line_column(self.text, expr.start);
        Err(Error::new(ErrorKind::Execution, format!("{line}:{column}: {}", gone(what, before_ns))))
    }

    pub(super) fn unsupported(&self, expr: &Expr, what: impl std::fmt::Display) -> Error {
        let (line, column) = crate::error::line_column(self.text, expr.start);
        Error::new(ErrorKind::Unsupported, format!("{line}:{column}: {what} is not supported"))
    }
}
