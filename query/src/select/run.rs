//! One SELECT from plan to table: measurements, series, groups, the way to read, paging, messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore_storage::model::{SeriesId, SeriesKey};
use icecore_storage::scan::{Coverage, SeriesInfo};

use super::analyze::{Columns, Plan, Shape, schemas};
use super::ast::{Fill, Order, Select};
use super::frame::Frame;
use super::scalar::{Cell, row_bytes};
use super::time::{TimeSplit, rfc3339, split_time};
use super::{Context, Table, TableSeries, raw, rows, windows};
use crate::{Error, ErrorKind, Result};

/// The series of a measurement that a statement reads, ascending by id, and the groups they belong to.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    ids: Vec<SeriesId>,
    keys: Vec<Arc<SeriesKey>>,
    owners: Vec<usize>,
    /// The series of each group, ascending by id.
    members: Vec<Vec<SeriesId>>,
    /// Tag values of each group, sorted.
    values: Vec<Vec<String>>,
}

impl Groups {
    /// Groups series by the values of some tags.
    pub(crate) fn of(series: Vec<SeriesInfo>, group_keys: &[String]) -> Self {
        let values_of = |info: &SeriesInfo| -> Vec<String> {
            group_keys.iter().map(|key| info.key.tag(key).unwrap_or_default().to_owned()).collect()
        };
        let mut places: BTreeMap<Vec<String>, usize> =
            series.iter().map(|info| (values_of(info), 0)).collect();
        for (place, slot) in places.values_mut().enumerate() {
            *slot = place;
        }
        let owners: Vec<usize> =
            series.iter().map(|info| places.get(&values_of(info)).copied().unwrap_or(0)).collect();
        let mut members = vec![Vec::new(); places.len()];
        for (info, owner) in series.iter().zip(&owners) {
            if let Some(group) = members.get_mut(*owner) {
                group.push(info.id);
            }
        }
        let (ids, keys) = series.into_iter().map(|info| (info.id, info.key)).unzip();
        Self { ids, keys, owners, members, values: places.into_keys().collect() }
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
        self.members.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// The group of a series, by its place.
    pub(crate) fn owner(&self, series_idx: usize) -> Option<usize> {
        self.owners.get(series_idx).copied()
    }

    /// The key of a series, by its place.
    pub(crate) fn key(&self, series_idx: usize) -> Option<&SeriesKey> {
        self.keys.get(series_idx).map(|key| &**key)
    }
}

/// Executes a SELECT.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn select(context: &Context<'_>, select: &Select) -> Result<Table> {
    let mut split = split_time(select.condition.as_ref(), context.now_ns)?;
    if select.interval.is_some() && !split.has_end {
        split.range.end_ns = split.range.end_ns.min(context.now_ns.saturating_add(1));
    }
    let schemas = schemas(context.scan, &select.sources);
    let columns = Columns::of(select, &schemas);
    let mut runner =
        Runner { context, select, columns: &columns, split: &split, coverage: Coverage::default() };
    let mut series = Vec::new();
    for schema in &schemas {
        let plan = Plan::of(select, &columns, &split, schema, context.now_ns)?;
        series.extend(runner.measurement(&plan)?);
    }
    let coverage = runner.coverage;
    Ok(Table { series: select.series_page.cut(series), messages: messages(&coverage), coverage })
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
    coverage: Coverage,
}

impl Runner<'_> {
    /// The series of the answer that a measurement gives, sorted by tags.
    fn measurement(&mut self, plan: &Plan<'_>) -> Result<Vec<TableSeries>> {
        let range = self.split.range;
        if range.is_empty() || self.columns.names.len() < 2 {
            return Ok(Vec::new());
        }
        let limit = self.context.budget.limits().series_max;
        let mut series =
            self.context.scan.series(plan.schema.measurement, &plan.filter.matchers, range, limit)?;
        series.retain(|info| plan.filter.accepts_series(info));
        if series.is_empty() {
            return Ok(Vec::new());
        }
        self.charge_groups(&series)?;
        let groups = Groups::of(series, &self.columns.group_keys);
        let frame = Frame {
            range,
            has_start: self.split.has_start,
            interval: self.select.interval,
            fill: self.select.fill,
        };
        let all_rows = match plan.shape {
            Shape::Rows => self.raw_rows(plan, &groups, &frame)?,
            Shape::Aggregates => self.aggregates(plan, &groups, &frame)?,
            Shape::Selected => self.selected(plan, &groups, &frame)?,
            Shape::Distinct => {
                let rows = rows::read_distinct(self.context, plan, &groups, &frame, &mut self.coverage)?;
                rows.into_iter().map(|rows| self.paged(rows)).collect()
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

    /// Charges the series found and what groups them, each for a group of its own.
    fn charge_groups(&self, series: &[SeriesInfo]) -> Result<()> {
        let keys = self.columns.group_keys.len() as u64;
        let each = 256 + keys * 128;
        self.context.budget.charge_infos(series)?;
        self.context.budget.charge_bytes(series.len() as u64 * each)
    }

    /// Charges the series of the answer without their rows: names of tags and columns stand in each, and in its text.
    fn charge_tables(&self, count: usize) -> Result<()> {
        let texts = self.columns.names.iter().chain(&self.columns.group_keys);
        let each: usize = 256 + texts.map(|text| 192 + 2 * text.len()).sum::<usize>();
        let is_cut = self.select.series_page.needed().is_some();
        self.context.budget.charge_series(if is_cut { 0 } else { count as u64 })?;
        self.context.budget.charge_bytes((count * each) as u64)
    }

    /// Turns ascending rows into the order and page asked for.
    fn paged(&self, mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
        if self.select.order == Order::Descending {
            rows.reverse();
        }
        self.select.page.cut(rows)
    }

    fn raw_rows(&mut self, plan: &Plan<'_>, groups: &Groups, frame: &Frame) -> Result<Vec<Vec<Vec<Cell>>>> {
        let how = (self.select.order, self.select.page);
        let mut all_rows = Vec::with_capacity(groups.len());
        let mut found = 0;
        for group in 0..groups.len() {
            // Later series are cut off by SLIMIT when there is one measurement.
            let is_enough = self.select.series_page.needed().is_some_and(|needed| found >= needed);
            if is_enough {
                break;
            }
            let rows = raw::read(self.context, plan, groups, group, frame.range, how, &mut self.coverage)?;
            found += usize::from(!rows.is_empty());
            all_rows.push(rows);
        }
        Ok(all_rows)
    }

    fn aggregates(&mut self, plan: &Plan<'_>, groups: &Groups, frame: &Frame) -> Result<Vec<Vec<Vec<Cell>>>> {
        let groups_buckets = if windows::can_answer(plan, frame) {
            windows::read(self.context, plan, groups, frame, &mut self.coverage)?
        } else {
            rows::read(self.context, plan, groups, frame, &mut self.coverage)?
        };
        let mut all_rows = Vec::with_capacity(groups.len());
        for buckets in groups_buckets {
            let rows = frame.rows(plan, buckets, self.context.budget)?;
            all_rows.push(self.paged(rows));
        }
        Ok(all_rows)
    }

    /// The rows that a selector picks. For a selector alone partials say its value, and first and last also its time;
    /// for the time of min and max only the window that holds the value is read row by row.
    fn selected(&mut self, plan: &Plan<'_>, groups: &Groups, frame: &Frame) -> Result<Vec<Vec<Vec<Cell>>>> {
        let fill = self.select.fill;
        if frame.interval.is_some() && !matches!(fill, Fill::Null | Fill::None) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "fill() other than null and none is not supported where columns stand beside a selector",
            ));
        }
        let is_bare = matches!(plan.items.as_slice(), [super::node::Node::Call(_)]);
        if is_bare && frame.interval.is_none() && windows::can_answer(plan, frame) {
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
            all_rows.push(self.paged(rows));
        }
        Ok(all_rows)
    }

    /// `min` or `max` alone. Where the raw rows of its window are gone, it carries the start of the range.
    fn extremes(&mut self, plan: &Plan<'_>, groups: &Groups, frame: &Frame) -> Result<Vec<Vec<Vec<Cell>>>> {
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
            let row = picked.into_iter().nth(group).and_then(|group| group.into_values().next());
            let row = row.filter(|row| row.value == extreme.value);
            let ts_ns = row.map_or_else(|| frame.bucket(frame.range.start_ns), |row| row.ts_ns);
            all_rows.push(self.paged(vec![vec![Cell::Time(ts_ns), extreme.value]]));
        }
        Ok(all_rows)
    }

    fn selected_by_partials(
        &mut self,
        plan: &Plan<'_>,
        groups: &Groups,
        frame: &Frame,
    ) -> Result<Vec<Vec<Vec<Cell>>>> {
        let found = windows::read_selected(self.context, plan, groups, frame.range, &mut self.coverage)?;
        self.context.budget.charge_bytes(found.len() as u64 * row_bytes(1))?;
        let row_ns = frame.bucket(frame.range.start_ns);
        let rows = found.into_iter().map(|found| {
            let row = found.map(|(at_ns, cell)| vec![Cell::Time(at_ns.unwrap_or(row_ns)), cell]);
            self.paged(row.into_iter().collect())
        });
        Ok(rows.collect())
    }

    fn picked_rows(
        &self,
        plan: &Plan<'_>,
        frame: &Frame,
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
        let start_ns = if frame.has_start { frame.bucket(frame.range.start_ns) } else { first_ns };
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
