//! Rows as they were written: SELECT without aggregates.
//!
//! The rows of all series of a group are merged by time. A LIMIT bounds what is held and, as far as the order
//! allows, what is read: ascending, each series is left after the rows that can be on the page; descending, time is
//! walked backwards in slices that grow.

use std::cmp::Ordering;
use std::sync::Arc;

use icecore_storage::model::{MINUTE_NS, SeriesKey, TimeRange};
use icecore_storage::scan::{Coverage, Flow};

use super::Context;
use super::analyze::Plan;
use super::ast::{Order, Page};
use super::node::{Leaves, Row, Tags};
use super::rows;
use super::run::Groups;
use super::scalar::{Cell, row_bytes};
use crate::Result;
use crate::budget::key_bytes;

/// How many times longer each slice of time is than the one behind it.
const GROWTH: i64 = 4;

/// A row of the answer while it waits for its place.
struct Waiting {
    ts_ns: i64,
    key: Arc<SeriesKey>,
    columns: Vec<Cell>,
}

struct Collector<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan<'a>,
    groups: &'a Groups,
    /// Which items are fields: a row without any of them is left out.
    is_field: Vec<bool>,
    order: Order,
    /// How many rows from the start of the answer are enough.
    needed: Option<usize>,
    rows: Vec<Waiting>,
    /// The series of the last row, and its key, which its rows share.
    last: Option<(usize, Arc<SeriesKey>)>,
    /// The most rows that were held at once.
    peak: usize,
}

/// The rows of one group, in the order asked, cut to the page.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    group: usize,
    range: TimeRange,
    (order, page): (Order, Page),
    coverage: &mut Coverage,
) -> Result<Vec<Vec<Cell>>> {
    let is_field: Vec<bool> = plan.items.iter().map(has_field).collect();
    if !is_field.contains(&true) || page.limit == Some(0) {
        return Ok(Vec::new());
    }
    let needed = page.needed();
    let mut collector =
        Collector { context, plan, groups, is_field, order, needed, rows: Vec::new(), last: None, peak: 0 };
    match (needed, order) {
        (Some(needed), Order::Ascending) => collector.read_first(group, range, needed, coverage)?,
        (Some(needed), Order::Descending) => collector.read_last(group, range, needed, coverage)?,
        (None, _) => collector.read_range(group, range, coverage)?,
    }
    collector.cut();
    let mut rows = std::mem::take(&mut collector.rows);
    // Rows of a subquery may share a time and their tags: backwards is the mirror image.
    if order == Order::Descending {
        rows.reverse();
    }
    let rows = page.cut(rows);
    if needed.is_some() {
        context.budget.charge_points((rows.len() * plan.items.len()) as u64)?;
    }
    let with_time = |row: Waiting| std::iter::once(Cell::Time(row.ts_ns)).chain(row.columns).collect();
    Ok(rows.into_iter().map(with_time).collect())
}

/// A time behind which a range has no rows, as far as the times of files tell: to a minute.
///
/// # Errors
/// Those of the budget.
pub(crate) fn newest_ns(context: &Context<'_>, plan: &Plan<'_>, range: TimeRange) -> Result<i64> {
    let (mut low_ns, mut high_ns) = (range.start_ns, range.end_ns);
    while MINUTE_NS < high_ns.saturating_sub(low_ns) {
        context.budget.check_time()?;
        let middle_ns = low_ns.midpoint(high_ns);
        let upper = TimeRange::new(middle_ns, high_ns);
        match context.scan.reaches(plan.schema.measurement, upper) {
            true => low_ns = middle_ns,
            false => high_ns = middle_ns,
        }
    }
    Ok(high_ns)
}

fn has_field(item: &super::node::Node) -> bool {
    let mut leaves = Leaves::default();
    item.leaves(&mut leaves);
    leaves.has_row
}

impl Collector<'_> {
    /// Reads each series only as far as its rows can be on the page.
    fn read_first(
        &mut self,
        group: usize,
        range: TimeRange,
        needed: usize,
        coverage: &mut Coverage,
    ) -> Result<()> {
        let (context, plan, groups) = (self.context, self.plan, self.groups);
        for id in groups.ids_of(group) {
            let mut count = 0;
            rows::scan(
                context,
                plan,
                groups,
                std::slice::from_ref(id),
                range,
                coverage,
                &mut |series_idx, row| {
                    count += usize::from(self.take(series_idx, row)?);
                    Ok(if count < needed { Flow::Continue } else { Flow::Stop })
                },
            )?;
        }
        Ok(())
    }

    /// Reads backwards from now (and what lies after it), or from the end of the range, until the page is full.
    fn read_last(
        &mut self,
        group: usize,
        range: TimeRange,
        needed: usize,
        coverage: &mut Coverage,
    ) -> Result<()> {
        let mut end_ns = range.end_ns;
        let mut start_ns = self.context.now_ns.min(end_ns);
        let mut width_ns = MINUTE_NS;
        loop {
            start_ns = start_ns.saturating_sub(width_ns).max(range.start_ns);
            self.read_range(group, TimeRange::new(start_ns, end_ns), coverage)?;
            if self.rows.len() >= needed || start_ns <= range.start_ns {
                return Ok(());
            }
            end_ns = start_ns;
            width_ns = width_ns.saturating_mul(GROWTH);
        }
    }

    fn read_range(&mut self, group: usize, range: TimeRange, coverage: &mut Coverage) -> Result<()> {
        let (context, plan, groups) = (self.context, self.plan, self.groups);
        let ids = groups.ids_of(group);
        rows::scan(context, plan, groups, ids, range, coverage, &mut |series_idx, row| {
            self.take(series_idx, row)?;
            Ok(Flow::Continue)
        })
    }

    /// Keeps a row if it shows any field.
    fn take(&mut self, series_idx: usize, row: &Row<'_>) -> Result<bool> {
        let columns: Vec<Cell> = self.plan.items.iter().map(|item| item.cell(row)).collect();
        let has_value =
            columns.iter().zip(&self.is_field).any(|(cell, is_field)| *is_field && *cell != Cell::Null);
        if !has_value {
            return Ok(false);
        }
        let known = self.last.as_ref().filter(|(known, _)| *known == series_idx).map(|(_, key)| key);
        let (key, is_new) = match (known, row.tags) {
            (Some(key), _) => (Arc::clone(key), false),
            (None, Tags::Key(key)) => (Arc::new(key.clone()), true),
            (None, Tags::None | Tags::Value(_)) => return Ok(false),
        };
        self.charge_row(&columns, is_new.then_some(&*key))?;
        self.last = Some((series_idx, Arc::clone(&key)));
        self.rows.push(Waiting { ts_ns: row.ts_ns, key, columns });
        match self.needed {
            None => self.context.budget.charge_points(self.plan.items.len() as u64)?,
            // Twice the page before each cut keeps the cost of sorting low and memory bounded.
            Some(needed) if self.rows.len() / 2 > needed.max(1024) => {
                self.cut();
            }
            Some(_) if self.rows.len() as u64 > self.context.budget.limits().points_max => {
                self.context.budget.charge_points(self.rows.len() as u64)?;
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// Charges a row that is held beyond all those that were; places that a cut freed are charged already.
    fn charge_row(&mut self, columns: &[Cell], new_key: Option<&SeriesKey>) -> Result<()> {
        if self.rows.len() < self.peak {
            return Ok(());
        }
        self.peak = self.rows.len() + 1;
        let texts: u64 = columns.iter().map(Cell::heap_bytes).sum();
        let bytes = size_of::<Waiting>() as u64 + row_bytes(columns.len()) + texts;
        self.context.budget.charge_bytes(bytes + new_key.map_or(0, key_bytes))
    }

    /// Puts rows in order by time, at equal times by tags, and keeps those that are enough: the first or the last ones.
    fn cut(&mut self) {
        let by_tags = |left: &Waiting, right: &Waiting| {
            if Arc::ptr_eq(&left.key, &right.key) { Ordering::Equal } else { left.key.cmp(&right.key) }
        };
        self.rows.sort_by(|left, right| left.ts_ns.cmp(&right.ts_ns).then_with(|| by_tags(left, right)));
        let spare = self.needed.map_or(0, |needed| self.rows.len().saturating_sub(needed));
        match self.order {
            Order::Ascending => self.rows.truncate(self.rows.len() - spare),
            Order::Descending => drop(self.rows.drain(..spare)),
        }
    }
}
