//! Formulas over one window of one series: from its numbers (cells can answer) or from its samples (raw only).
//!
//! The rate family extrapolates to the edges of the window exactly as Prometheus does.

use icecore_storage::model::partial::{Compensated, Sum as _};
use icecore_storage::model::{Numbers, StatSet, Stats};
use icecore_storage::scan::Window;

use super::math;
use crate::promql::number::seconds_of;

/// The samples of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawWindow<'a> {
    /// The evaluation time.
    pub(crate) eval_ns: i64,
    /// Times, ascending.
    pub(crate) ts_ns: &'a [i64],
    /// One value per time.
    pub(crate) values: &'a [f64],
    /// The scalar arguments, in order.
    pub(crate) params: [f64; 2],
}

/// Seconds from one time to another.
pub(crate) fn seconds(from_ns: i64, to_ns: i64) -> f64 {
    (i128::from(to_ns) - i128::from(from_ns)) as f64 / 1e9
}

/// Folds samples into the numbers of a window; `None` when there are none.
pub(crate) fn numbers_of(ts_ns: &[i64], values: &[f64]) -> Option<Numbers> {
    let mut stats = Stats::<f64>::default();
    for (ts_ns, value) in ts_ns.iter().zip(values) {
        stats.add(*ts_ns, *value, StatSet::NUMBERS);
    }
    (stats.count > 0).then(|| stats.numbers())
}

/// The groups of statistics that the formula of a window reads.
pub(crate) fn wants_of(function: &str) -> StatSet {
    match function {
        "count_over_time" | "present_over_time" => StatSet::COUNT,
        "sum_over_time" => StatSet::SUM,
        "min_over_time" | "max_over_time" => StatSet::RANGE,
        // The mean, which a sum that overflows does not give.
        "avg_over_time" => StatSet::SUM.with(StatSet::RANGE),
        "delta" | "first_over_time" | "last_over_time" | "ts_of_first_over_time" | "ts_of_last_over_time" => {
            StatSet::ENDS
        }
        "increase" | "rate" | "resets" => StatSet::RESETS,
        "changes" => StatSet::CHANGES,
        "stddev_over_time" | "stdvar_over_time" => StatSet::SPREAD,
        _ => StatSet::NUMBERS,
    }
}

pub(crate) fn rate(numbers: &Numbers, window: Window) -> Option<f64> {
    extrapolated(numbers, window, true, seconds(window.start_ns, window.end_ns))
}

pub(crate) fn increase(numbers: &Numbers, window: Window) -> Option<f64> {
    extrapolated(numbers, window, true, 1.0)
}

pub(crate) fn delta(numbers: &Numbers, window: Window) -> Option<f64> {
    extrapolated(numbers, window, false, 1.0)
}

/// The change over the window, stretched to its edges where the samples come close enough to them, by `unit_s`. The
/// factor is divided, not the change, so that it is rounded as in Prometheus: ranks of quantiles lie on edges.
fn extrapolated(numbers: &Numbers, window: Window, is_counter: bool, unit_s: f64) -> Option<f64> {
    let sampled = Sampled { first_ns: numbers.first_ns, last_ns: numbers.last_ns, count: numbers.count };
    let resets = if is_counter { numbers.reset_sum } else { 0.0 };
    let change = numbers.last - numbers.first + resets;
    Some(change * (sampled.stretch(window, is_counter.then_some((numbers.first, change)))? / unit_s))
}

/// The times of the samples of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampled {
    /// Of the first one.
    pub(crate) first_ns: i64,
    /// Of the last one.
    pub(crate) last_ns: i64,
    /// How many there are.
    pub(crate) count: u64,
}

impl Sampled {
    /// The factor from the change between the samples to that over the window. Of a counter its first value and its
    /// change are given: it cannot have been below zero. `None` for fewer than two samples.
    pub(crate) fn stretch(self, window: Window, counter: Option<(f64, f64)>) -> Option<f64> {
        let sampled = seconds(self.first_ns, self.last_ns);
        if self.count < 2 || sampled <= 0.0 {
            return None;
        }
        let mut to_start = seconds(window.start_ns, self.first_ns);
        let mut to_end = seconds(self.last_ns, window.end_ns);
        let between = sampled / (self.count - 1) as f64;
        // Samples farther from an edge than about one interval mean that the series begins or ends there.
        let threshold = between * 1.1;
        if to_start >= threshold {
            to_start = between / 2.0;
        }
        if let Some((first, change)) = counter.filter(|(first, change)| *change > 0.0 && *first >= 0.0) {
            to_start = to_start.min(sampled * (first / change));
        }
        if to_end >= threshold {
            to_end = between / 2.0;
        }
        Some((sampled + to_start + to_end) / sampled)
    }
}

pub(crate) fn resets(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.resets as f64)
}

pub(crate) fn changes(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.changes as f64)
}

pub(crate) fn count(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.count as f64)
}

pub(crate) fn sum(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.sum)
}

pub(crate) fn avg(numbers: &Numbers, _: Window) -> Option<f64> {
    // The running mean stays in range where the sum does not.
    let overflows = numbers.sum.is_infinite() && numbers.min.is_finite() && numbers.max.is_finite();
    Some(if overflows { numbers.mean } else { numbers.sum / numbers.count as f64 })
}

pub(crate) fn min(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.min)
}

pub(crate) fn max(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.max)
}

pub(crate) fn first(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.first)
}

pub(crate) fn last(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.last)
}

pub(crate) fn present(_: &Numbers, _: Window) -> Option<f64> {
    Some(1.0)
}

pub(crate) fn stdvar(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(numbers.m2 / numbers.count as f64)
}

pub(crate) fn stddev(numbers: &Numbers, window: Window) -> Option<f64> {
    stdvar(numbers, window).map(f64::sqrt)
}

pub(crate) fn ts_of_first(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(seconds_of(numbers.first_ns))
}

pub(crate) fn ts_of_last(numbers: &Numbers, _: Window) -> Option<f64> {
    Some(seconds_of(numbers.last_ns))
}

pub(crate) fn irate(raw: &RawWindow<'_>) -> Option<f64> {
    let (before, last, interval) = last_two(raw)?;
    // After a reset the counter began at zero again.
    let change = if last < before { last } else { last - before };
    (interval > 0.0).then(|| change / interval)
}

pub(crate) fn idelta(raw: &RawWindow<'_>) -> Option<f64> {
    let (before, last, interval) = last_two(raw)?;
    (interval > 0.0).then_some(last - before)
}

fn last_two(raw: &RawWindow<'_>) -> Option<(f64, f64, f64)> {
    let [.., before, last] = raw.values else { return None };
    let [.., before_ns, last_ns] = raw.ts_ns else { return None };
    Some((*before, *last, seconds(*before_ns, *last_ns)))
}

pub(crate) fn quantile_over_time(raw: &RawWindow<'_>) -> Option<f64> {
    let [q, _] = raw.params;
    (!raw.values.is_empty()).then(|| math::quantile(q, &mut raw.values.to_vec()))
}

pub(crate) fn mad(raw: &RawWindow<'_>) -> Option<f64> {
    if raw.values.is_empty() {
        return None;
    }
    if raw.values.iter().any(|value| value.is_nan()) {
        return Some(f64::NAN);
    }
    let mut values = raw.values.to_vec();
    let median = math::quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(math::quantile(0.5, &mut values))
}

pub(crate) fn ts_of_min(raw: &RawWindow<'_>) -> Option<f64> {
    ts_of(raw, |value, best| value <= best)
}

pub(crate) fn ts_of_max(raw: &RawWindow<'_>) -> Option<f64> {
    ts_of(raw, |value, best| value >= best)
}

fn ts_of(raw: &RawWindow<'_>, is_better: fn(f64, f64) -> bool) -> Option<f64> {
    let mut best: Option<(f64, i64)> = None;
    for (value, ts_ns) in raw.values.iter().zip(raw.ts_ns) {
        if best.is_none_or(|(best, _)| best.is_nan() || is_better(*value, best)) {
            best = Some((*value, *ts_ns));
        }
    }
    best.map(|(_, ts_ns)| seconds_of(ts_ns))
}

pub(crate) fn deriv(raw: &RawWindow<'_>) -> Option<f64> {
    let first_ns = *raw.ts_ns.first()?;
    regression(raw, first_ns).map(|(slope, _)| slope)
}

pub(crate) fn predict_linear(raw: &RawWindow<'_>) -> Option<f64> {
    let [ahead, _] = raw.params;
    regression(raw, raw.eval_ns).map(|(slope, intercept)| slope * ahead + intercept)
}

/// Least squares: slope per second, and the value at `origin_ns`.
fn regression(raw: &RawWindow<'_>, origin_ns: i64) -> Option<(f64, f64)> {
    let [first, _, ..] = raw.values else { return None };
    if raw.values.iter().all(|value| value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, *first) });
    }
    // Prometheus' sums in Prometheus' order, so that a slope of zero is zero in both.
    let mut sums = [Compensated::default(); 4];
    for (ts_ns, y) in raw.ts_ns.iter().zip(raw.values) {
        let x = seconds(origin_ns, *ts_ns);
        for (sum, term) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            sum.add(term);
        }
    }
    let count = raw.values.len() as f64;
    let [x, y, xy, xx] = sums.map(Compensated::to_f64);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    Some((slope, y / count - slope * x / count))
}

/// Double exponential smoothing (Holt): level and trend.
pub(crate) fn smooth(raw: &RawWindow<'_>) -> Option<f64> {
    let [first, second, ..] = raw.values else { return None };
    let [level_factor, trend_factor] = raw.params;
    let (mut before, mut level, mut trend) = (0.0, *first, *second - *first);
    for (index, value) in raw.values.iter().skip(1).enumerate() {
        if index > 0 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = level_factor * value + (1.0 - level_factor) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn check(
        formula: fn(&Numbers, Window) -> Option<f64>,
        points: &[(i64, f64)],
        range: (i64, i64),
    ) -> Option<f64> {
        let ts_ns: Vec<i64> = points.iter().map(|(second, _)| second * SECOND).collect();
        let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        let window = Window { start_ns: range.0 * SECOND, end_ns: range.1 * SECOND };
        formula(&numbers_of(&ts_ns, &values)?, window)
    }

    #[test]
    fn increase_near_both_edges_extrapolates_to_them() {
        // 10 per 10 s, samples 5 s inside both edges: 40 seen in 40 s, 50 over the whole window.
        let points = [(5, 100.0), (15, 110.0), (25, 120.0), (35, 130.0), (45, 140.0)];
        assert_eq!(check(increase, &points, (0, 50)), Some(50.0));
        assert_eq!(check(rate, &points, (0, 50)), Some(1.0));
    }

    #[test]
    fn increase_far_from_the_edges_adds_half_an_interval() {
        let points = [(100, 50.0), (110, 60.0), (120, 70.0)];
        assert_eq!(check(increase, &points, (0, 300)), Some(30.0));
    }

    #[test]
    fn increase_never_extrapolates_below_zero() {
        // Zero was two seconds before the first sample.
        let points = [(5, 2.0), (15, 12.0), (25, 22.0)];
        assert_eq!(check(increase, &points, (0, 25)), Some(22.0));
    }

    #[test]
    fn increase_after_a_reset_counts_both_sides() {
        let points = [(10, 100.0), (20, 110.0), (30, 5.0), (40, 15.0)];
        assert_eq!(check(increase, &points, (10, 40)), Some(25.0));
        assert_eq!(check(delta, &points, (10, 40)), Some(-85.0));
        assert_eq!(check(resets, &points, (10, 40)), Some(1.0));
    }

    #[test]
    fn rate_of_one_sample_is_absent() {
        assert_eq!(check(rate, &[(10, 1.0)], (0, 20)), None);
    }

    #[test]
    fn predict_linear_follows_the_line() {
        let ts_ns = [0, 10 * SECOND, 20 * SECOND];
        let raw =
            RawWindow { eval_ns: 20 * SECOND, ts_ns: &ts_ns, values: &[1.0, 2.0, 3.0], params: [10.0, 0.0] };
        assert!((predict_linear(&raw).unwrap() - 4.0).abs() < 1e-12);
        assert!((deriv(&raw).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(irate(&raw), Some(0.1));
    }
}
