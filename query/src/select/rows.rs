//! Answers from raw rows: where a condition speaks of fields, or a function needs every value.
//!
//! [`scan`] hands over the rows that pass the condition; the others accumulate them. Rows come series by series and
//! within a series by time, so an accumulator is closed when the bucket or the series changes and then merged into
//! its group.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use icecore_storage::model::{FieldId, RowBlock, SeriesId, SeriesKey, TextTable, TimeRange};
use icecore_storage::scan::{Coverage, Flow, RowRequest};

use super::Context;
use super::aggregate::Acc;
use super::analyze::Plan;
use super::ast::Function;
use super::frame::{Buckets, Frame};
use super::node::{Row, Tags};
use super::run::Groups;
use super::scalar::{Cell, Scalar, order_cells, row_bytes};
use crate::budget::Held;
use crate::{Error, Result};

/// What takes rows: the place of the series among all series of the groups, and the row.
pub(crate) type Sink<'a> = dyn FnMut(usize, &Row<'_>) -> Result<Flow> + 'a;

/// Hands over the rows of some series that pass the condition. `series` counts among all series of the groups.
///
/// # Errors
/// Those of storage, the budget and the sink.
pub(crate) fn scan(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    series: &[SeriesId],
    range: TimeRange,
    coverage: &mut Coverage,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut fields: Vec<FieldId> = plan.binder.fields.iter().map(|field| field.id).collect();
    fields.sort_unstable();
    if fields.is_empty() || series.is_empty() || range.is_empty() {
        return Ok(());
    }
    let place_of = |id: FieldId| fields.iter().position(|other| *other == id).unwrap_or(usize::MAX);
    let places: Vec<usize> = plan.binder.fields.iter().map(|field| place_of(field.id)).collect();
    let bounds = plan.filter.bounds(&plan.binder.fields);
    let measurement = plan.schema.measurement;
    let request = RowRequest { measurement, fields: &fields, series, range, bounds: &bounds };
    let mut failure: Option<Error> = None;
    let mut on_block = |block: &RowBlock| match hand_over(context, plan, groups, &places, block, sink) {
        Ok(flow) => Ok(flow),
        Err(error) => {
            failure = Some(error);
            Ok(Flow::Stop)
        }
    };
    let read = context.scan.rows(&request, context.budget, &mut on_block);
    coverage.absorb(&context.budget.scanned(read)?);
    failure.map_or(Ok(()), Err)
}

/// The series that rows are handed over of.
struct Current {
    id: SeriesId,
    series_idx: usize,
    key: Option<SeriesKey>,
}

impl Current {
    fn of(context: &Context<'_>, plan: &Plan<'_>, groups: &Groups, id: SeriesId) -> Result<Option<Self>> {
        let Ok(series_idx) = groups.ids().binary_search(&id) else { return Ok(None) };
        let key = if plan.needs_tags { context.scan.keys(&[id])?.pop() } else { None };
        Ok(Some(Self { id, series_idx, key }))
    }
}

fn hand_over(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    places: &[usize],
    block: &RowBlock,
    sink: &mut Sink<'_>,
) -> Result<Flow> {
    let mut current: Option<Current> = None;
    for (index, (id, ts_ns)) in block.series.iter().zip(&block.ts_ns).enumerate() {
        if current.as_ref().is_none_or(|current| current.id != *id) {
            current = Current::of(context, plan, groups, *id)?;
        }
        let Some(Current { series_idx, key, .. }) = &current else { continue };
        let tags = key.as_ref().map_or(Tags::None, Tags::Key);
        let row = Row { ts_ns: *ts_ns, tags, columns: &block.columns, places, index, calls: &[] };
        if plan.filter.accepts_row(&row) && sink(*series_idx, &row)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }
    Ok(Flow::Continue)
}

/// Accumulators of the calls; `None` for a call whose field the measurement lacks.
type Accs = Vec<Option<Acc>>;

/// Accumulators of one group, by bucket.
type GroupAccs = BTreeMap<i64, Accs>;

/// The bucket of the series that is being read.
struct Open<'a> {
    series_idx: usize,
    bucket_ns: i64,
    accs: Accs,
    /// What they take, until they are merged.
    held: Held<'a>,
}

struct Accumulator<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan<'a>,
    groups: &'a Groups,
    frame: &'a Frame<'a>,
    open: Option<Open<'a>>,
    closed: Vec<GroupAccs>,
    /// Those of distinct values.
    texts: TextTable,
}

impl Accumulator<'_> {
    fn add(&mut self, series_idx: usize, row: &Row<'_>) -> Result<()> {
        let bucket_ns = self.frame.bucket(row.ts_ns);
        let is_same = self
            .open
            .as_ref()
            .is_some_and(|open| open.series_idx == series_idx && open.bucket_ns == bucket_ns);
        if !is_same {
            self.close()?;
            let held = self.context.budget.hold_bytes(0)?;
            self.open = Some(Open { series_idx, bucket_ns, accs: new_accs(self.plan), held });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let calls = self.plan.binder.calls.iter().zip(&self.plan.call_places);
        for (acc, (call, place)) in open.accs.iter_mut().zip(calls) {
            if let (Some(acc), Some(value)) = (acc, place.and_then(|place| row.value(place))) {
                let before = self.texts.texts().bytes.len();
                match acc.add(row.ts_ns, value, call.wants(), &mut self.texts)? {
                    0 => {}
                    bytes => open.held.grow(bytes)?,
                }
                match self.texts.texts().bytes.len() - before {
                    0 => {}
                    bytes => self.context.budget.charge_bytes(bytes as u64)?,
                }
            }
        }
        Ok(())
    }

    /// Merges the open bucket into its group.
    fn close(&mut self) -> Result<()> {
        let Some(Open { series_idx, bucket_ns, accs, held }) = self.open.take() else { return Ok(()) };
        let budget = self.context.budget;
        let group = self.groups.owner(series_idx).and_then(|group| self.closed.get_mut(group));
        let Some(group) = group else { return Ok(()) };
        let Some(known) = group.get_mut(&bucket_ns) else {
            budget.charge_points(accs.len() as u64)?;
            let bytes = accs.len() * size_of::<Option<Acc>>();
            held.keep();
            budget.charge_bytes(bytes as u64 + row_bytes(self.plan.items.len()))?;
            group.insert(bucket_ns, accs);
            return Ok(());
        };
        let mut grown = 0;
        for (into, from) in known.iter_mut().zip(accs) {
            if let (Some(into), Some(from)) = (into, from) {
                grown += into.merge(from);
            }
        }
        budget.charge_bytes(grown)
    }
}

fn new_accs(plan: &Plan<'_>) -> Accs {
    let calls = plan.binder.calls.iter();
    calls.map(|call| call.field.as_ref().map(|field| Acc::new(call, field.field_type))).collect()
}

/// The accumulators of all groups, by bucket, and their texts.
fn accumulate(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<(Vec<GroupAccs>, TextTable)> {
    let closed = (0..groups.len()).map(|_| GroupAccs::new()).collect();
    let texts = TextTable::default();
    let mut accumulator = Accumulator { context, plan, groups, frame, open: None, closed, texts };
    scan(context, plan, groups, groups.ids(), frame.range, coverage, &mut |series_idx, row| {
        accumulator.add(series_idx, row)?;
        Ok(Flow::Continue)
    })?;
    accumulator.close()?;
    Ok((accumulator.closed, accumulator.texts))
}

/// The cells of all calls, by group and bucket.
///
/// # Errors
/// Those of [`scan`].
pub(crate) fn read(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Buckets>> {
    let (accumulated, texts) = accumulate(context, plan, groups, frame, coverage)?;
    // A deviation of one value is empty, too, but of a row that is there.
    let has_values = |accs: &Accs| accs.iter().flatten().any(|acc| !acc.is_empty());
    let cells_of = |accs: Accs| -> Vec<Cell> {
        let calls = plan.binder.calls.iter().zip(accs);
        calls
            .map(|(call, acc)| match (acc, &call.field) {
                (Some(acc), Some(field)) => acc.cell(call.function, field.field_type, &texts),
                _ => Cell::Null,
            })
            .collect()
    };
    let buckets_of = |group: GroupAccs| -> Buckets {
        let buckets = group.into_iter().filter(|(_, accs)| has_values(accs));
        buckets.map(|(bucket_ns, accs)| (bucket_ns, cells_of(accs))).collect()
    };
    Ok(accumulated.into_iter().map(buckets_of).collect())
}

/// The distinct values of the only call, by group: rows of time and value.
///
/// # Errors
/// Those of [`scan`].
pub(crate) fn read_distinct(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Vec<Vec<Cell>>>> {
    let (accumulated, texts) = accumulate(context, plan, groups, frame, coverage)?;
    let mut answer = Vec::with_capacity(accumulated.len());
    for group in accumulated {
        let mut rows = Vec::new();
        for (bucket_ns, accs) in group {
            for acc in accs.into_iter().flatten() {
                let (count, text_bytes) = acc.distinct_size(&texts);
                charge_distinct(context, count, text_bytes)?;
                let values = acc.distinct(&texts);
                rows.extend(values.into_iter().map(|value| vec![Cell::Time(bucket_ns), value]));
            }
        }
        answer.push(rows);
    }
    Ok(answer)
}

/// Charges rows of distinct values, before they are made: each is a point. `text_bytes` are those of their texts.
pub(crate) fn charge_distinct(context: &Context<'_>, count: u64, text_bytes: u64) -> Result<()> {
    context.budget.charge_points(count)?;
    // A text beside its row, as `Cell::heap_bytes` has it.
    let texts = 2 * text_bytes + 16 * count;
    context.budget.charge_bytes(count.saturating_mul(row_bytes(1)).saturating_add(texts))
}

/// The row that a selector picks.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) ts_ns: i64,
    pub(crate) value: Cell,
    /// The columns of the answer.
    pub(crate) columns: Vec<Cell>,
}

/// The rows that the only call, a selector, picks from some series and times, by group and bucket.
///
/// # Errors
/// Those of [`scan`].
pub(crate) fn read_selected(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    (series, range): (&[SeriesId], TimeRange),
    coverage: &mut Coverage,
) -> Result<Vec<BTreeMap<i64, Picked>>> {
    let mut picked: Vec<BTreeMap<i64, Picked>> = (0..groups.len()).map(|_| BTreeMap::new()).collect();
    let call = plan.binder.calls.first().zip(plan.call_places.first().copied().flatten());
    let Some((call, place)) = call else { return Ok(picked) };
    scan(context, plan, groups, series, range, coverage, &mut |series_idx, row| {
        let Some(value) = row.value(place).map(Scalar::from) else { return Ok(Flow::Continue) };
        let Some(group) = groups.owner(series_idx).and_then(|group| picked.get_mut(group)) else {
            return Ok(Flow::Continue);
        };
        let bucket_ns = frame.bucket(row.ts_ns);
        let known = group.get(&bucket_ns);
        if known.is_none() {
            context.budget.charge_points(plan.items.len() as u64)?;
            context.budget.charge_bytes(row_bytes(plan.items.len() + 2))?;
        }
        if known.is_none_or(|known| is_better(plan, call.function, value, row, known)) {
            group.insert(bucket_ns, Picked::of(plan, value, row));
        }
        Ok(Flow::Continue)
    })?;
    Ok(picked)
}

impl Picked {
    pub(crate) fn of(plan: &Plan<'_>, value: Scalar<'_>, row: &Row<'_>) -> Self {
        let value = value.to_cell();
        let columns = columns_of(plan, &value, row).collect();
        Self { ts_ns: row.ts_ns, value, columns }
    }

    /// Which of two rows of one time and value is picked first: told by what is shown, so that it does not depend on the
    /// order of series.
    pub(crate) fn order_beside(&self, other: &Self) -> Ordering {
        order_columns(self.columns.iter(), other)
    }
}

/// What a row shows in each column, made one after the other.
fn columns_of<'a>(plan: &'a Plan<'_>, value: &'a Cell, row: &Row<'a>) -> impl Iterator<Item = Cell> {
    let with_call = Row { calls: std::slice::from_ref(value), ..*row };
    plan.items.iter().map(move |item| item.cell(&with_call))
}

/// By the first column that differs; those behind it are not asked for.
fn order_columns(columns: impl Iterator<Item: Borrow<Cell>>, known: &Picked) -> Ordering {
    let mut orders = columns.zip(&known.columns).map(|(left, right)| order_cells(left.borrow(), right));
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Whether a row of this value is to be picked before the known one.
pub(crate) fn is_better(
    plan: &Plan<'_>,
    function: Function,
    value: Scalar<'_>,
    row: &Row<'_>,
    known: &Picked,
) -> bool {
    let order = order_of(function, (row.ts_ns, value), (known.ts_ns, known.value.scalar()));
    order.then_with(|| order_columns(columns_of(plan, &value.to_cell(), row), known)) == Ordering::Less
}

/// Which of two rows a selector picks first: at equal times the larger value, of equal values the earlier row. A number
/// comes before NaN wherever values are compared.
pub(crate) fn order_of(function: Function, left: (i64, Scalar<'_>), right: (i64, Scalar<'_>)) -> Ordering {
    let is_nan = |value: Scalar<'_>| value.order(value).is_none();
    let by_value = match left.1.order(right.1) {
        Some(order) if function == Function::Min => order,
        Some(order) => order.reverse(),
        None => is_nan(left.1).cmp(&is_nan(right.1)),
    };
    let by_time = left.0.cmp(&right.0);
    match function {
        Function::First => by_time.then(by_value),
        Function::Last => by_time.reverse().then(by_value),
        _ => by_value.then(by_time),
    }
}
