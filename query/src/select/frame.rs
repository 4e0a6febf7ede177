//! The frame of time that aggregates are set in: buckets, filling of empty ones, rows of the answer.
//!
//! Order of events: a reader gives the cells of the calls for the buckets that have data ([`Buckets`]);
//! [`Frame::rows`] fills the others and calculates the columns.

use std::collections::BTreeMap;

use icecore_storage::model::{SECOND_NS, TimeRange};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::analyze::Plan;
use super::ast::{Arith, Fill, Interval};
use super::node::{BoundCall, Row};
use super::scalar::{Cell, Scalar, arith, row_bytes};
use crate::{Budget, Result};

/// Cells of the calls, by the start of the bucket. Buckets without data are left out.
pub(crate) type Buckets = BTreeMap<i64, Vec<Cell>>;

/// The time that a statement speaks of, and how it is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// What is read.
    pub(crate) range: TimeRange,
    /// Where the first bucket lies, and the time of the only row where there are none.
    pub(crate) start_ns: i64,
    /// Whether the statement itself bounds the start.
    pub(crate) has_start: bool,
    pub(crate) interval: Option<Interval>,
    pub(crate) fill: Fill,
    /// Whose days and hours buckets follow, where that is not UTC.
    pub(crate) zone: Option<&'a TimeZone>,
}

impl Frame<'_> {
    /// The start of the bucket that a time falls into; without an interval the time of the only row.
    pub(crate) fn bucket(&self, ts_ns: i64) -> i64 {
        match self.interval {
            Some(interval) => match self.zone {
                None => floor(ts_ns, interval, 0),
                Some(zone) => local_floor(ts_ns, interval, zone),
            },
            None if self.has_start => self.start_ns,
            None => 0,
        }
    }

    /// The bucket after this one; `None` past the end of the range.
    pub(crate) fn next_bucket(&self, bucket_ns: i64) -> Option<i64> {
        let interval = self.interval?;
        let mut next_ns = bucket_ns.checked_add(interval.every_ns)?;
        if let Some(zone) = self.zone {
            let shift_ns = offset_at(zone, bucket_ns) - offset_at(zone, next_ns);
            if shift_ns % interval.every_ns != 0 {
                next_ns = next_ns.checked_add(shift_ns)?;
            }
        }
        (next_ns < self.range.end_ns).then_some(next_ns)
    }

    /// Rows of the answer, ascending by time: the time, then the columns.
    ///
    /// # Errors
    /// Those of the budget.
    pub(crate) fn rows(&self, plan: &Plan<'_>, buckets: Buckets, budget: &Budget) -> Result<Vec<Vec<Cell>>> {
        if buckets.is_empty() {
            return Ok(Vec::new());
        }
        let calls = &plan.binder.calls;
        let filled = match self.interval {
            Some(_) => self.filled(calls, buckets, plan.items.len(), budget)?,
            None => buckets.into_iter().collect(),
        };
        let rows = filled.into_iter().map(|(ts_ns, cells)| {
            let row = Row { ts_ns, calls: &cells, ..Row::default() };
            let columns = plan.items.iter().map(|item| item.cell(&row));
            std::iter::once(Cell::Time(ts_ns)).chain(columns).collect()
        });
        Ok(rows.collect())
    }

    /// All buckets of the range, or those with data under fill(none).
    fn filled(
        &self,
        calls: &[BoundCall],
        mut buckets: Buckets,
        width: usize,
        budget: &Budget,
    ) -> Result<Vec<(i64, Vec<Cell>)>> {
        let fill = self.fill;
        if fill == Fill::None {
            return Ok(buckets.into_iter().collect());
        }
        let first_ns = buckets.keys().next().copied().unwrap_or(self.start_ns);
        let start_ns = if self.has_start { self.bucket(self.start_ns).min(first_ns) } else { first_ns };
        self.charge_buckets(start_ns, width, budget)?;
        let mut rows = Vec::new();
        let mut next = Some(start_ns);
        while let Some(bucket_ns) = next {
            let mut cells = buckets.remove(&bucket_ns).unwrap_or_else(|| vec![Cell::Null; calls.len()]);
            for (cell, call) in cells.iter_mut().zip(calls) {
                if *cell == Cell::Null {
                    *cell = call.empty_cell(fill);
                }
            }
            rows.push((bucket_ns, cells));
            next = self.next_bucket(bucket_ns);
        }
        for place in 0..calls.len() {
            match fill {
                Fill::Previous => carry_forward(&mut rows, place),
                Fill::Linear => interpolate(&mut rows, place),
                Fill::Null | Fill::None | Fill::Value(_) => {}
            }
        }
        Ok(rows)
    }

    /// Charges all buckets before any is made: a short text can ask for billions.
    fn charge_buckets(&self, start_ns: i64, width: usize, budget: &Budget) -> Result<()> {
        let cells = self.cells_after(start_ns, width);
        budget.charge_points(cells)?;
        let rows = cells / (width as u64).max(1);
        budget.charge_bytes(rows.saturating_mul(row_bytes(width)))
    }

    /// Refuses, before anything is read or made, an answer with more buckets than the budget has points.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub(crate) fn check_buckets(&self, first_ns: i64, width: usize, budget: &Budget) -> Result<()> {
        let start_ns = if self.has_start { self.start_ns.min(first_ns) } else { first_ns };
        let cells = self.cells_after(start_ns, width);
        let is_dense = self.interval.is_some() && self.fill != Fill::None;
        if is_dense && cells > budget.limits().points_max { budget.charge_points(cells) } else { Ok(()) }
    }

    /// Whether the statement bounds the start, and has at most `max` buckets from there on: all of them may be read without
    /// a look at where the data lies.
    pub(crate) fn buckets_within(&self, max: usize) -> bool {
        self.has_start && self.cells_after(self.range.start_ns, 1) <= max as u64
    }

    /// Cells of all buckets from a time to the end of the range.
    fn cells_after(&self, start_ns: i64, width: usize) -> u64 {
        let every_ns = self.interval.map_or(1, |interval| interval.every_ns);
        let span = (i128::from(self.range.end_ns) - i128::from(start_ns)).max(0);
        let count = u64::try_from(span / i128::from(every_ns) + 1).unwrap_or(u64::MAX);
        count.saturating_mul(width as u64)
    }
}

/// The last edge up to a time, of edges that are shifted by the offset of a zone.
fn floor(ts_ns: i64, interval: Interval, zone_ns: i64) -> i64 {
    let within = ts_ns.wrapping_sub(interval.offset_ns).wrapping_add(zone_ns).rem_euclid(interval.every_ns);
    ts_ns.saturating_sub(within)
}

/// The last edge up to a time by the clocks of a zone. Where these were changed since, a bucket is longer or shorter by
/// that, unless its edges are the same before and after.
fn local_floor(ts_ns: i64, interval: Interval, zone: &TimeZone) -> i64 {
    let zone_ns = offset_at(zone, ts_ns);
    let start_ns = floor(ts_ns, interval, zone_ns);
    let shift_ns = zone_ns - offset_at(zone, start_ns);
    if shift_ns % interval.every_ns == 0 {
        return start_ns;
    }
    let moved_ns = start_ns.saturating_add(shift_ns);
    if moved_ns <= ts_ns { moved_ns } else { moved_ns.saturating_sub(interval.every_ns) }
}

/// How far the clocks of a zone are ahead of UTC at a time.
fn offset_at(zone: &TimeZone, ts_ns: i64) -> i64 {
    let at = Timestamp::from_nanosecond(i128::from(ts_ns));
    at.map_or(0, |at| i64::from(zone.to_offset(at).seconds()) * SECOND_NS)
}

/// Puts the last value before it into each empty cell of a column.
fn carry_forward(rows: &mut [(i64, Vec<Cell>)], place: usize) {
    let mut previous = Cell::Null;
    for (_, cells) in rows {
        let Some(cell) = cells.get_mut(place) else { continue };
        match cell {
            Cell::Null => cell.clone_from(&previous),
            _ => previous.clone_from(cell),
        }
    }
}

/// Puts a straight line between the values around it into each empty cell of a column.
fn interpolate(rows: &mut [(i64, Vec<Cell>)], place: usize) {
    let mut gap: Vec<usize> = Vec::new();
    let mut before: Option<(i64, Cell)> = None;
    for index in 0..rows.len() {
        let Some((ts_ns, cell)) =
            rows.get(index).and_then(|(ts_ns, cells)| Some((*ts_ns, cells.get(place)?)))
        else {
            continue;
        };
        if *cell == Cell::Null {
            gap.push(index);
            continue;
        }
        let after = (ts_ns, cell.clone());
        if let Some(before) = &before {
            for empty in gap
                .iter()
                .filter_map(|empty| rows.get(*empty).map(|(at, _)| (*empty, *at)))
                .collect::<Vec<_>>()
            {
                let value = on_line(before, &after, empty.1);
                if let Some(cell) = rows.get_mut(empty.0).and_then(|(_, cells)| cells.get_mut(place)) {
                    *cell = value;
                }
            }
        }
        gap.clear();
        before = Some(after);
    }
}

/// The value at a time on the line through two points; integers are cut to integers.
fn on_line(before: &(i64, Cell), after: &(i64, Cell), at_ns: i64) -> Cell {
    let share = (at_ns - before.0) as f64 / (after.0 - before.0) as f64;
    let rise = arith(Arith::Sub, after.1.scalar(), before.1.scalar());
    let step = arith(Arith::Mul, rise, Scalar::Float(share));
    match (arith(Arith::Add, before.1.scalar(), step), &before.1) {
        // The line runs between two integers, so the cast does not overflow.
        (Scalar::Float(value), Cell::Int(_) | Cell::UInt(_)) => Cell::Int(value as i64),
        (value, _) => value.to_cell(),
    }
}
