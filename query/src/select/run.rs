//! One SELECT from plan to table: measurements, series, groups, the way to read, paging, messages.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use icecore_storage::model::{MeasurementId, SeriesId, TimeRange};
use icecore_storage::scan::{Coverage, Schema};

use super::analyze::{Columns, Plan, Shape, schemas};
use super::ast::{Fill, Order, Page, Select};
use super::finish::Finish;
use super::frame::{Buckets, Frame};
use super::node::{Leaves, Row};
use super::scalar::{Cell, order_cells, row_bytes};
use super::stages::Stages;
use super::time::{TimeSplit, rfc3339, split_time};
use super::{Context, Table, TableSeries, distinct, in_order, raw, rows, several, subquery, windows};
use crate::Result;

/// The series of a measurement that a statement reads, ascending by id, and the groups they belong to.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    ids: Vec<SeriesId>,
    /// The group of each series; empty when there is only one group.
    owners: Vec<u32>,
    /// The series of each group, ascending by id; empty when there is only one group.
    members: Vec<Vec<SeriesId>>,
    /// Tag values of each group, sorted.
    values: Vec<Vec<String>>,
}

/// What a group takes beside the texts of its tags.
const GROUP_BYTES: usize = 256;

impl Groups {
    /// Groups series of a measurement by the values of some tags, tag by tag; nothing is looked at where there is nothing to
    /// group by.
    ///
    /// # Errors
    /// Those of storage and the budget.
    pub(crate) fn of(
        context: &Context<'_>,
        measurement: MeasurementId,
        ids: Vec<SeriesId>,
        group_keys: &[String],
    ) -> Result<Self> {
        let budget = context.budget;
        if group_keys.is_empty() {
            return Ok(Self { ids, values: vec![Vec::new()], ..Self::default() });
        }
        // An owner, a member, a position while groups are sorted, and the code of one tag.
        budget.charge_bytes((ids.len() * 4 * size_of::<u32>()) as u64)?;
        let mut owners = vec![0_u32; ids.len()];
        let mut values: Vec<Vec<Arc<str>>> = vec![Vec::new()];
        // Groups by the tags so far; those by fewer tags are gone.
        let mut held = budget.hold_bytes(0)?;
        for group_key in group_keys {
            budget.check_time()?;
            let tag = context.scan.tag_codes(measurement, group_key, &ids)?;
            let mut places: HashMap<(u32, u32), u32> = HashMap::new();
            let mut joined: Vec<Vec<Arc<str>>> = Vec::new();
            let mut of_joined = budget.hold_bytes(0)?;
            for (owner, code) in owners.iter_mut().zip(&tag.codes) {
                let next = u32::try_from(joined.len()).unwrap_or(u32::MAX);
                let place = *places.entry((*owner, *code)).or_insert(next);
                if place == next {
                    let before = values.get(*owner as usize).map(Vec::as_slice).unwrap_or_default();
                    let value = tag.values.get(*code as usize).cloned().unwrap_or_default();
                    of_joined.grow((GROUP_BYTES + (before.len() + 1) * size_of::<Arc<str>>()) as u64)?;
                    joined.push(before.iter().cloned().chain([value]).collect());
                }
                *owner = place;
            }
            (values, held) = (joined, of_joined);
        }
        let text_bytes = |value: &Arc<str>| size_of::<String>() + value.len();
        let texts: usize = values.iter().flatten().map(text_bytes).sum();
        held.grow(texts as u64)?;
        held.keep();
        let mut sorted: Vec<(Vec<Arc<str>>, u32)> = values.into_iter().zip(0..).collect();
        sorted.sort_unstable();
        let mut numbers = vec![0; sorted.len()];
        for (number, (_, place)) in (0..).zip(&sorted) {
            numbers.get_mut(*place as usize).into_iter().for_each(|into| *into = number);
        }
        let mut members = vec![Vec::new(); sorted.len()];
        for (owner, id) in owners.iter_mut().zip(&ids) {
            *owner = numbers.get(*owner as usize).copied().unwrap_or_default();
            members.get_mut(*owner as usize).into_iter().for_each(|group| group.push(*id));
        }
        let texts = |values: Vec<Arc<str>>| values.iter().map(|value| value.to_string()).collect();
        Ok(Self {
            ids,
            owners,
            members,
            values: sorted.into_iter().map(|(values, _)| texts(values)).collect(),
        })
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// All series, ascending by id.
    pub(crate) fn ids(&self) -> &[SeriesId] {
        &self.ids
    }

    /// The series of one group, ascending by id.
    pub(crate) fn ids_of(&self, group: usize) -> &[SeriesId] {
        if self.members.is_empty() { &self.ids } else { self.members.get(group).map_or(&[], Vec::as_slice) }
    }

    /// The group of each series.
    pub(crate) fn owners(&self) -> Cow<'_, [u32]> {
        if self.owners.is_empty() { Cow::Owned(vec![0; self.ids.len()]) } else { Cow::Borrowed(&self.owners) }
    }

    /// The group of a series, by its place.
    pub(crate) fn owner(&self, series_idx: usize) -> Option<usize> {
        if self.owners.is_empty() {
            Some(0)
        } else {
            self.owners.get(series_idx).map(|owner| *owner as usize)
        }
    }
}

/// Executes a SELECT.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn select(context: &Context<'_>, select: &Select) -> Result<Table> {
    let mut split = split_time(select.condition.as_ref(), &select.clock(context.now_ns))?;
    if select.interval.is_some() && !split.has_end {
        split.range.end_ns = split.range.end_ns.min(context.now_ns.saturating_add(1));
    }
    let Some(inner) = subquery::run(context, select, &split)? else {
        return select_from(context, &schemas(context.scan, &select.sources), select, &split, i64::MAX);
    };
    let outer = Context { scan: &inner.rows, ..*context };
    // A bucket inside may begin before the range.
    let table = select_from(&outer, &inner.rows.schemas(), select, &split, inner.rows.first_ns())?;
    Ok(Table { messages: inner.messages, coverage: inner.coverage, ..table })
}

/// The answer from some measurements, whose rows count from `first_ns` on if that is before the range.
fn select_from(
    context: &Context<'_>,
    schemas: &[Schema],
    select: &Select,
    split: &TimeSplit,
    first_ns: i64,
) -> Result<Table> {
    let columns = Columns::of(select, schemas)?;
    let finish = Finish::of(select, &columns)?;
    let coverage = Coverage::default();
    let mut runner =
        Runner { context, select, columns: &columns, split, first_ns, finish: &finish, coverage };
    let mut series = Vec::new();
    for schema in schemas {
        let plan = Plan::of(select, &columns, split, schema, context.now_ns)?;
        series.extend(runner.measurement(&plan)?);
    }
    let coverage = runner.coverage;
    Ok(Table {
        series: finish.series(series),
        messages: messages(&coverage),
        coverage,
        zone: select.zone.clone(),
    })
}

/// What the reader should know about the answer.
fn messages(coverage: &Coverage) -> Vec<String> {
    let rounded = coverage.rounded.map(|tier| format!("window rounded to {}", tier.name()));
    let gone =
        coverage.raw_gone_before_ns.map(|ts_ns| format!("raw rows before {} are gone", rfc3339(ts_ns)));
    rounded.into_iter().chain(gone).collect()
}

struct Runner<'a> {
    context: &'a Context<'a>,
    select: &'a Select,
    columns: &'a Columns,
    split: &'a TimeSplit,
    first_ns: i64,
    finish: &'a Finish<'a>,
    coverage: Coverage,
}

impl Runner<'_> {
    /// The series of the answer that a measurement gives, sorted by tags.
    fn measurement(&mut self, plan: &Plan<'_>) -> Result<Vec<TableSeries>> {
        let (range, start_ns) = self.read_range(plan);
        if range.is_empty() || self.columns.names.len() < 2 {
            return Ok(Vec::new());
        }
        let limit = self.context.budget.limits().series_max;
        let series = plan.filter.series(self.context, plan.schema.measurement, range, limit)?;
        if series.is_empty() {
            return Ok(Vec::new());
        }
        let groups = Groups::of(self.context, plan.schema.measurement, series, &self.columns.group_keys)?;
        let frame = Frame {
            range,
            start_ns,
            has_start: self.split.has_start,
            interval: self.select.interval,
            fill: self.select.fill,
            zone: self.select.zone.as_ref(),
        };
        let all_rows = match plan.shape {
            Shape::Rows => self.raw_rows(plan, &groups, &frame)?,
            Shape::Aggregates => self.aggregates(plan, &groups, &frame)?,
            Shape::Selected => self.selected(plan, &groups, &frame)?,
            Shape::Distinct => {
                let read = match distinct::can_answer(plan, &frame) {
                    true => distinct::read_texts,
                    false => rows::read_distinct,
                };
                read(self.context, plan, &groups, &frame, &mut self.coverage)?
            }
            Shape::Several => several::read(self.context, plan, &groups, &frame, &mut self.coverage)?,
            Shape::InOrder => {
                let buckets = in_order::read(self.context, plan, &groups, &frame, &mut self.coverage)?;
                self.framed(plan, &frame, buckets)?
            }
        };
        let all_rows: Vec<_> = match plan.shape == Shape::Rows && self.finish.is_nothing(plan) {
            true => all_rows,
            false => {
                let shown = (self.shown_range(&frame), self.select.interval);
                all_rows.into_iter().map(|rows| self.finish.rows(plan, rows, shown)).collect()
            }
        };
        let filled = all_rows.iter().filter(|rows| !rows.is_empty()).count();
        self.charge_tables(filled)?;
        let tables = groups.values.iter().zip(all_rows).filter(|(_, rows)| !rows.is_empty());
        let table = |(values, rows): (&Vec<String>, Vec<Vec<Cell>>)| TableSeries {
            name: plan.schema.name.to_string(),
            tags: self.columns.group_keys.iter().cloned().zip(values.iter().cloned()).collect(),
            columns: self.columns.names.clone(),
            rows,
        };
        Ok(tables.map(table).collect())
    }

    /// Charges the series of the answer without their rows: names of tags and columns stand in each, and in its text.
    fn charge_tables(&self, count: usize) -> Result<()> {
        let texts = self.columns.names.iter().chain(&self.columns.group_keys);
        let each: usize = 256 + texts.map(|text| 192 + 2 * text.len()).sum::<usize>();
        let is_cut = self.select.series_page.needed().is_some();
        self.context.budget.charge_series(if is_cut { 0 } else { count as u64 })?;
        self.context.budget.charge_bytes((count * each) as u64)
    }

    /// What is read: the range of the statement, and the buckets before it that transformations look back to. And where
    /// the first bucket lies.
    fn read_range(&self, plan: &Plan<'_>) -> (TimeRange, i64) {
        let range = self.split.range;
        let before = plan.stages.as_ref().map_or(0, Stages::buckets_before);
        let start_ns = match self.select.interval {
            Some(interval) if self.split.has_start && 0 < before => {
                let back_ns = interval.every_ns.saturating_mul(i64::try_from(before).unwrap_or(i64::MAX));
                range.start_ns.saturating_sub(back_ns)
            }
            _ => range.start_ns,
        };
        (TimeRange::new(start_ns.min(self.first_ns), range.end_ns), start_ns)
    }

    /// The times that rows of the answer may have: from the start of the first bucket.
    fn shown_range(&self, frame: &Frame<'_>) -> TimeRange {
        match self.select.interval {
            Some(_) if self.split.has_start => {
                TimeRange::new(frame.bucket(self.split.range.start_ns), self.split.range.end_ns)
            }
            _ => TimeRange::ALL,
        }
    }

    fn raw_rows(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame<'_>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        // What is calculated from rows needs all of them, ascending.
        let how = match self.finish.is_nothing(plan) {
            true => (self.select.order, self.select.page),
            false => (Order::Ascending, Page::default()),
        };
        let newest_ns = match how {
            (Order::Descending, page) if page.needed().is_some() => {
                raw::newest_ns(self.context, plan, frame.range)?
            }
            _ => frame.range.end_ns,
        };
        let range = TimeRange::new(frame.range.start_ns, newest_ns);
        let mut all_rows = Vec::with_capacity(groups.len());
        let mut found = 0;
        for group in 0..groups.len() {
            // Later series are cut off by SLIMIT when there is one measurement.
            let is_enough = self.select.series_page.needed().is_some_and(|needed| found >= needed);
            if is_enough && self.finish.is_nothing(plan) {
                break;
            }
            let rows = raw::read(self.context, plan, groups, group, range, how, &mut self.coverage)?;
            found += usize::from(!rows.is_empty());
            all_rows.push(rows);
        }
        Ok(all_rows)
    }

    fn aggregates(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame<'_>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        let read = if windows::can_answer(plan, frame) {
            windows::read
        } else if distinct::can_answer(plan, frame) {
            distinct::read_counts
        } else {
            rows::read
        };
        let groups_buckets = read(self.context, plan, groups, frame, &mut self.coverage)?;
        self.framed(plan, frame, groups_buckets)
    }

    /// Rows of the cells of all groups, with empty buckets filled.
    fn framed(
        &self,
        plan: &Plan<'_>,
        frame: &Frame<'_>,
        groups: Vec<Buckets>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        groups.into_iter().map(|buckets| frame.rows(plan, buckets, self.context.budget)).collect()
    }

    /// The rows that a selector picks. For a selector alone partials say its value, and first and last also its time;
    /// for the time of min and max only the window that holds the value is read row by row.
    fn selected(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame<'_>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        let mut leaves = Leaves::default();
        plan.items.iter().for_each(|item| item.leaves(&mut leaves));
        let is_alone = !leaves.has_row && leaves.tags.is_empty();
        if is_alone && frame.interval.is_none() && windows::can_answer(plan, frame) {
            let is_extreme = |call: &super::node::BoundCall| {
                matches!(call.function, super::ast::Function::Min | super::ast::Function::Max)
            };
            return match plan.binder.calls.iter().any(is_extreme) {
                true => self.extremes(plan, groups, frame),
                false => self.selected_by_partials(plan, groups, frame),
            };
        }
        let all = (groups.ids(), frame.range);
        let picked = rows::read_selected(self.context, plan, groups, frame, all, &mut self.coverage)?;
        let mut all_rows = Vec::with_capacity(groups.len());
        for group in picked {
            let rows = self.picked_rows(plan, frame, group)?;
            all_rows.push(rows);
        }
        Ok(all_rows)
    }

    /// `min` or `max` alone. Where the raw rows of its window are gone, it carries the start of the range.
    fn extremes(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame<'_>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        let found = windows::read_extremes(self.context, plan, groups, frame.range, &mut self.coverage)?;
        let mut all_rows = Vec::with_capacity(groups.len());
        for (group, extreme) in found.into_iter().enumerate() {
            let Some(extreme) = extreme else {
                all_rows.push(Vec::new());
                continue;
            };
            let place = (groups.ids_of(group), extreme.range);
            let mut read = Coverage::default();
            let picked = rows::read_selected(self.context, plan, groups, frame, place, &mut read)?;
            self.coverage.rows += read.rows;
            self.coverage.pages += read.pages;
            let row = picked.into_iter().nth(group).and_then(|group| group.into_values().next());
            let row = row.filter(|row| order_cells(&row.value, &extreme.value).is_eq());
            let ts_ns = row.map_or_else(|| frame.bucket(frame.start_ns), |row| row.ts_ns);
            all_rows.push(vec![selected_row(plan, ts_ns, &extreme.value)]);
        }
        Ok(all_rows)
    }

    fn selected_by_partials(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame<'_>,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        let found = windows::read_selected(self.context, plan, groups, frame.range, &mut self.coverage)?;
        self.context.budget.charge_bytes(found.len() as u64 * row_bytes(1))?;
        let row_ns = frame.bucket(frame.start_ns);
        let rows = found.into_iter().map(|found| {
            let row = found.map(|(at_ns, cell)| selected_row(plan, at_ns.unwrap_or(row_ns), &cell));
            row.into_iter().collect()
        });
        Ok(rows.collect())
    }

    fn picked_rows(
        &self,
        plan: &Plan<'_>,
        frame: &Frame<'_>,
        mut group: BTreeMap<i64, rows::Picked>,
    ) -> Result<Vec<Vec<Cell>>> {
        let with_time =
            |ts_ns, columns: Vec<Cell>| std::iter::once(Cell::Time(ts_ns)).chain(columns).collect();
        if frame.interval.is_none() {
            return Ok(group.into_values().map(|picked| with_time(picked.ts_ns, picked.columns)).collect());
        }
        let Some(first_ns) = group.keys().next().copied() else { return Ok(Vec::new()) };
        if self.select.fill == Fill::None {
            return Ok(group.into_iter().map(|(at_ns, picked)| with_time(at_ns, picked.columns)).collect());
        }
        frame.check_buckets(first_ns, plan.items.len(), self.context.budget)?;
        let start_ns = if frame.has_start { frame.bucket(frame.start_ns) } else { first_ns };
        let mut rows = Vec::new();
        let mut next = Some(start_ns);
        while let Some(bucket_ns) = next {
            let columns = group.remove(&bucket_ns).map(|picked| picked.columns);
            if columns.is_none() {
                self.context.budget.charge_points(plan.items.len() as u64)?;
                self.context.budget.charge_bytes(row_bytes(plan.items.len()))?;
            }
            rows.push(with_time(bucket_ns, columns.unwrap_or_else(|| vec![Cell::Null; plan.items.len()])));
            next = frame.next_bucket(bucket_ns);
        }
        Ok(rows)
    }
}

/// The row of a selector that stands alone.
fn selected_row(plan: &Plan<'_>, ts_ns: i64, value: &Cell) -> Vec<Cell> {
    let row = Row { ts_ns, calls: std::slice::from_ref(value), ..Row::default() };
    std::iter::once(Cell::Time(ts_ns)).chain(plan.items.iter().map(|item| item.cell(&row))).collect()
}

#[cfg(test)]
mod tests {
    use icecore_storage::scan::Resolution;

    use super::super::{execute, parse};
    use super::*;
    use crate::testing::Wide;
    use crate::{Budget, ErrorKind, Limits};

    /// 50,000 series: with the keys of all of them held, each of these takes more than 14 MiB.
    #[test]
    fn statements_over_many_series_take_little_memory() {
        let scan = Wide { series: 50_000 };
        let ask = |text: &str, memory_bytes_max: u64| {
            let budget = Budget::untimed(Limits { memory_bytes_max, ..Limits::default() });
            let context = Context { scan: &scan, budget: &budget, now_ns: 5, resolution: Resolution::Auto };
            execute(&context, parse(text)?.first().unwrap())
        };
        let mib = 1 << 20;
        for (text, bytes, values) in [
            ("SELECT count(value), max(value) FROM wide", mib, "Int(50000), Float(7142.7"),
            ("SELECT count(value) FROM wide WHERE value > 7000", mib, "Int(999)"),
            ("SELECT max(value) FROM wide", mib, "Time(1), Float(7142.7"),
            ("SELECT mean(value) FROM wide GROUP BY namespace LIMIT 1", 2 * mib, "Float(3567"),
            ("SELECT count(value) FROM wide WHERE namespace = 'n1' OR pod = 'p0'", mib, "Int(1001)"),
            ("SELECT value FROM wide LIMIT 1", 4 * mib, "Time(1), Float(0.0)"),
        ] {
            let table = format!("{:?}", ask(text, bytes).unwrap());
            assert!(table.contains(values), "{text}: {table}");
        }
        for text in ["SELECT count(value) FROM wide", "SELECT mean(value) FROM wide GROUP BY pod"] {
            assert_eq!(ask(text, mib / 4).unwrap_err().kind(), ErrorKind::LimitExceeded, "{text}");
        }
    }
}
