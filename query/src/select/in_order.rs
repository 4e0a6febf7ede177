//! What comes from the rows of a group in the order of their times: the area under a field, and the time that its rows
//! cover. From raw rows alone, which are held as times and values.

use std::ops::Range;

use icecore_storage::model::{SECOND_NS, TimeRange};
use icecore_storage::scan::{Coverage, Flow};

use super::Context;
use super::analyze::Plan;
use super::ast::Function;
use super::frame::{Buckets, Frame};
use super::rows::scan;
use super::run::Groups;
use super::scalar::{Cell, Scalar, row_bytes};
use crate::Result;

/// A row: its time, and its value as a number; of booleans 0 and 1.
type Point = (i64, f64);

/// The cells of the only call of a plan, by group and bucket.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Buckets>> {
    let call = plan.binder.calls.first().zip(plan.call_places.first().copied().flatten());
    let Some((call, place)) = call else { return Ok(vec![Buckets::new(); groups.len()]) };
    // A row before the range is good for some of it.
    let back_ns = match call.function {
        Function::Uptime { alive_ns } | Function::Downtime { alive_ns } => alive_ns,
        _ => 0,
    };
    let range = TimeRange::new(frame.range.start_ns.saturating_sub(back_ns), frame.range.end_ns);
    let mut points: Vec<Vec<Point>> = vec![Vec::new(); groups.len()];
    scan(context, plan, groups, groups.ids(), range, coverage, &mut |series_idx, row| {
        let value = match row.value(place).map(Scalar::from) {
            Some(Scalar::Bool(value)) => Some(f64::from(u8::from(value))),
            value => value.and_then(Scalar::number),
        };
        let group = groups.owner(series_idx).and_then(|group| points.get_mut(group));
        if let (Some(value), Some(group)) = (value, group) {
            context.budget.charge_bytes(size_of::<Point>() as u64)?;
            group.push((row.ts_ns, value));
        }
        Ok(Flow::Continue)
    })?;
    let end_ns = frame.range.end_ns.min(context.now_ns);
    let mut answer = Vec::with_capacity(points.len());
    for mut points in points {
        settle(&mut points);
        let mut charge = || {
            context.budget.charge_points(plan.items.len() as u64)?;
            context.budget.charge_bytes(row_bytes(plan.items.len() + 1))
        };
        answer.push(match call.function {
            _ if points.is_empty() => Buckets::new(),
            Function::Integral { unit_ns } => areas(&points, frame, unit_ns, &mut charge)?,
            function => {
                let wants_rest = matches!(function, Function::Downtime { .. });
                covered(&live_times(&points, back_ns), (frame, end_ns), wants_rest, &mut charge)?
            }
        });
    }
    Ok(answer)
}

/// Puts points in the order of their times; of several at one time, of as many series, the largest number stays. They are
/// as many sorted runs, which the stable sort merges.
fn settle(points: &mut Vec<Point>) {
    let is_nan = |point: &Point| point.1.is_nan();
    points.sort_by(|left, right| {
        let by_value = || is_nan(left).cmp(&is_nan(right)).then_with(|| right.1.total_cmp(&left.1));
        left.0.cmp(&right.0).then_with(by_value)
    });
    points.dedup_by_key(|(ts_ns, _)| *ts_ns);
}

/// Asked before each bucket is made: a short text can ask for billions.
type Charge<'a> = dyn FnMut() -> Result<()> + 'a;

/// Areas by trapezoids between points, cut at the edges of buckets.
fn areas(points: &[Point], frame: &Frame<'_>, unit_ns: i64, charge: &mut Charge<'_>) -> Result<Buckets> {
    let mut buckets = Buckets::new();
    let mut points = points.iter().copied();
    let Some(mut before) = points.next() else { return Ok(buckets) };
    let (mut bucket_ns, mut sum) = (frame.bucket(before.0), 0.0);
    for point in points {
        while let Some(end_ns) = frame.next_bucket(bucket_ns).filter(|end_ns| *end_ns <= point.0) {
            let share = distance(before.0, end_ns) / distance(before.0, point.0);
            let at_end = (end_ns, before.1 + (point.1 - before.1) * share);
            charge()?;
            buckets.insert(bucket_ns, vec![finite(sum + area(before, at_end, unit_ns))]);
            (bucket_ns, sum, before) = (end_ns, 0.0, at_end);
        }
        sum += area(before, point, unit_ns);
        before = point;
    }
    if before.0 != bucket_ns || frame.interval.is_none() {
        charge()?;
        buckets.insert(bucket_ns, vec![finite(sum)]);
    }
    Ok(buckets)
}

/// Nanoseconds from one time to a later one, which may be more than 64 bits hold.
fn distance(from_ns: i64, to_ns: i64) -> f64 {
    (i128::from(to_ns) - i128::from(from_ns)) as f64
}

fn area(from: Point, to: Point, unit_ns: i64) -> f64 {
    0.5 * (from.1 + to.1) * (distance(from.0, to.0) / unit_ns as f64)
}

fn finite(value: f64) -> Cell {
    if value.is_finite() { Cell::Float(value) } else { Cell::Null }
}

/// The times in which a row that is up, whose value is not zero, came no longer than `alive_ns` ago, and none since that is
/// down; ascending and apart. As `heartbeat_agg` of TimescaleDB's toolkit, with rows that say down.
fn live_times(points: &[Point], alive_ns: i64) -> Vec<Range<i64>> {
    let mut live: Vec<Range<i64>> = Vec::new();
    for (ts_ns, value) in points.iter().copied() {
        if value == 0.0 {
            if let Some(last) = live.last_mut() {
                last.end = last.end.min(ts_ns).max(last.start);
            }
            continue;
        }
        let end_ns = ts_ns.saturating_add(alive_ns);
        match live.last_mut() {
            Some(last) if ts_ns <= last.end => last.end = last.end.max(end_ns),
            _ => live.push(ts_ns..end_ns),
        }
    }
    live
}

/// What is covered of each bucket of the range, up to a time: the share, or the seconds that are not.
fn covered(
    live: &[Range<i64>],
    (frame, end_ns): (&Frame<'_>, i64),
    wants_rest: bool,
    charge: &mut Charge<'_>,
) -> Result<Buckets> {
    let mut buckets = Buckets::new();
    let mut next = Some(frame.bucket(frame.start_ns));
    let mut first = 0;
    while let Some(bucket_ns) = next {
        next = frame.next_bucket(bucket_ns);
        let from_ns = bucket_ns.max(frame.start_ns);
        // Nothing is known of the time to come, however many buckets it has.
        if end_ns <= from_ns {
            break;
        }
        let to_ns = next.unwrap_or(i64::MAX).min(end_ns);
        while live.get(first).is_some_and(|times| times.end <= from_ns) {
            first += 1;
        }
        let within = live.iter().skip(first).take_while(|times| times.start < to_ns);
        let live_ns: f64 = within.map(|times| distance(times.start.max(from_ns), times.end.min(to_ns))).sum();
        let all_ns = distance(from_ns, to_ns);
        let value = if wants_rest { (all_ns - live_ns) / SECOND_NS as f64 } else { live_ns / all_ns };
        charge()?;
        buckets.insert(bucket_ns, vec![Cell::Float(value)]);
    }
    Ok(buckets)
}
