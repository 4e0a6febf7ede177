//! Aggregates from partials: the way that stays exact after raw rows are gone.
//!
//! For each field that is asked for, one partial per series and bucket, merged across the series of a group. The
//! buckets go through in chunks, so that memory follows the answer and not the range.

use icecore_storage::model::histogram::Bucket;
use icecore_storage::model::partial::Sum;
use icecore_storage::model::{
    FieldType, HOUR_NS, Histogram, Partial, SeriesId, StatSet, TimeRange, Uniques, floor_to,
};
use icecore_storage::scan::{
    Bounds, Coverage, FieldInfo, GroupRequest, Resolution, Window, WindowRequest, WindowSlice,
};

use super::Context;
use super::aggregate::{ends_of, merge_across, partial_cell};
use super::analyze::Plan;
use super::ast::Function;
use super::frame::{Buckets, Frame};
use super::run::Groups;
use super::scalar::{Cell, order_cells, row_bytes};
use crate::budget::Held;
use crate::{ErrorKind, Result};

/// Partials held at once, over all groups.
const PARTIALS_MAX: usize = 200_000;
/// Buckets read at once.
const CHUNK_MAX: usize = 8_192;
/// As [`CHUNK_MAX`], with sketches of up to 4 KiB each, of which a scan holds three for a bucket.
const UNIQUES_CHUNK_MAX: usize = 512;

/// What a scan tells of groups of series at once, where nobody needs to know of each.
const OF_GROUPS: StatSet =
    StatSet::COUNT.with(StatSet::SUM).with(StatSet::RANGE).with(StatSet::HIST).with(StatSet::UNIQUES);

/// What is asked for is in no cells, and raw rows are gone.
const GONE: ErrorKind = ErrorKind::Storage(icecore_storage::ErrorKind::Unavailable);

/// Whether partials can answer the calls of a plan.
pub(crate) fn can_answer(plan: &Plan<'_>, frame: &Frame<'_>) -> bool {
    // Cells of texts keep no times unless a rule says so, and cannot say then where the data begins.
    let knows_start = frame.has_start || frame.interval.is_none() || !has_text(&fields_of(plan));
    knows_start
        && plan.filter.row_tests.is_empty()
        && plan.binder.calls.iter().all(super::node::BoundCall::is_in_partial)
}

fn has_text(fields: &[FieldInfo]) -> bool {
    fields.iter().any(|field| field.field_type == FieldType::Str)
}

/// The cells of all calls, by group and bucket.
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
    let mut answer = vec![Buckets::new(); groups.len()];
    let fields = fields_of(plan);
    let mut reader =
        Reader { context, plan, groups, coverage, wants: StatSet::COUNT, resolution: context.resolution };
    let has_uniques = fields.iter().any(|field| wants_of(plan, field).has(StatSet::UNIQUES));
    let chunk_max = if has_uniques { UNIQUES_CHUNK_MAX } else { CHUNK_MAX };
    let chunk_max = (PARTIALS_MAX / groups.len().max(1)).clamp(16, chunk_max);
    // Where raw rows are gone, windows without data may have to be widened for nothing.
    let has_rows = context.scan.raw_from_ns() <= frame.range.start_ns;
    let by_groups = fields.iter().all(|field| OF_GROUPS.has(wants_of(plan, field)));
    let partials = if by_groups { groups.len() } else { groups.ids().len() };
    let span = match has_rows && frame.buckets_within(chunk_max.min(PARTIALS_MAX / partials.max(1))) {
        true => Some(frame.range),
        false => reader.span(frame, &fields)?,
    };
    let Some(span) = span else { return Ok(answer) };
    frame.check_buckets(span.start_ns, plan.items.len(), context.budget)?;
    let mut next = Some(frame.bucket(span.start_ns));
    while let Some(chunk_start_ns) = next {
        let (windows, starts, after) = chunk(frame, &span, chunk_start_ns, chunk_max);
        next = after;
        // Narrow buckets over sparse data cost work even where they give no row.
        context.budget.charge_samples(windows.len() as u64)?;
        for field in &fields {
            reader.read_field(field, &windows, &starts, &mut answer)?;
        }
    }
    Ok(answer)
}

/// What a selector picks: the time of the row, where partials know it, and the value.
pub(crate) type Picked = (Option<i64>, Cell);

/// The time and value of the first or last sample of each group.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read_selected(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    range: TimeRange,
    coverage: &mut Coverage,
) -> Result<Vec<Option<Picked>>> {
    let mut answer = vec![None; groups.len()];
    let Some((function, field)) =
        plan.binder.calls.first().and_then(|call| Some((call.function, call.field.as_ref()?)))
    else {
        return Ok(answer);
    };
    let wants = wants_of(plan, field);
    let mut reader = Reader { context, plan, groups, coverage, wants, resolution: context.resolution };
    let (merged, _held) = reader.merged(field, &[window(range)])?;
    for (slot, partials) in answer.iter_mut().zip(merged) {
        let Some(partial) = partials.into_iter().flatten().next() else { continue };
        let at_ns = ends_of(&partial).and_then(|(first_ns, last_ns)| match function {
            Function::First => Some(first_ns),
            Function::Last => Some(last_ns),
            _ => None,
        });
        *slot = Some((at_ns, partial_cell(function, &partial, field.field_type)));
    }
    Ok(answer)
}

/// The smallest or largest value of a group, and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Extreme {
    pub(crate) value: Cell,
    /// The earliest window that holds it.
    pub(crate) range: TimeRange,
}

/// What `min` or `max` alone picks from each group, so that only the window it lies in is read row by row.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read_extremes(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    range: TimeRange,
    coverage: &mut Coverage,
) -> Result<Vec<Option<Extreme>>> {
    let mut answer = vec![None; groups.len()];
    let Some((function, field)) =
        plan.binder.calls.first().and_then(|call| Some((call.function, call.field.as_ref()?)))
    else {
        return Ok(answer);
    };
    let wants = wants_of(plan, field);
    let mut reader = Reader { context, plan, groups, coverage, wants, resolution: context.resolution };
    let max = (PARTIALS_MAX / groups.len().max(1)).clamp(16, CHUNK_MAX);
    let Some(windows) = reader.hours(field, range, max)? else { return Ok(answer) };
    let (merged, _held) = reader.merged(field, &windows)?;
    for (slot, partials) in answer.iter_mut().zip(merged) {
        let mut found = partials.iter().flatten();
        let Some(mut sum) = found.next().cloned() else { continue };
        found.for_each(|partial| merge_across(&mut sum, partial));
        let value = partial_cell(function, &sum, field.field_type);
        let holds = |partial: &Option<Partial>| {
            let cell = |one| partial_cell(function, one, field.field_type);
            // NaN is the extreme of what is all NaN.
            partial.as_ref().is_some_and(|one| order_cells(&cell(one), &value).is_eq())
        };
        let place = partials.iter().position(holds);
        let range = place
            .and_then(|place| windows.get(place))
            .map_or(range, |window| TimeRange { start_ns: window.start_ns, end_ns: window.end_ns });
        *slot = Some(Extreme { value, range });
    }
    Ok(answer)
}

fn window(range: TimeRange) -> Window {
    Window { start_ns: range.start_ns, end_ns: range.end_ns }
}

/// The fields that calls are taken of, each once.
fn fields_of(plan: &Plan<'_>) -> Vec<FieldInfo> {
    let mut fields: Vec<FieldInfo> = Vec::new();
    for field in plan.binder.calls.iter().filter_map(|call| call.field.as_ref()) {
        if !fields.contains(field) {
            fields.push(field.clone());
        }
    }
    fields
}

/// The windows of the next buckets, cut to the span, with the starts of their buckets and the bucket after them.
fn chunk(
    frame: &Frame<'_>,
    span: &TimeRange,
    start_ns: i64,
    max: usize,
) -> (Vec<Window>, Vec<i64>, Option<i64>) {
    let (mut windows, mut starts) = (Vec::new(), Vec::new());
    let mut next = Some(start_ns);
    while let Some(bucket_ns) = next {
        if windows.len() == max {
            break;
        }
        next = frame.next_bucket(bucket_ns).filter(|next_ns| *next_ns < span.end_ns);
        let end_ns = frame.next_bucket(bucket_ns).unwrap_or(frame.range.end_ns);
        let start_ns = if frame.interval.is_some() { bucket_ns } else { frame.range.start_ns };
        windows.push(Window {
            start_ns: start_ns.max(frame.range.start_ns),
            end_ns: end_ns.min(frame.range.end_ns),
        });
        starts.push(bucket_ns);
    }
    (windows, starts, next)
}

struct Reader<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan<'a>,
    groups: &'a Groups,
    coverage: &'a mut Coverage,
    wants: StatSet,
    resolution: Resolution,
}

/// One list of partials per group, one place per window.
type Merged = Vec<Vec<Option<Partial>>>;

/// The groups of statistics that the calls of a field read.
fn wants_of(plan: &Plan<'_>, field: &FieldInfo) -> StatSet {
    let calls = plan.binder.calls.iter().filter(|call| call.field.as_ref() == Some(field));
    calls.fold(StatSet::COUNT, |wants, call| wants.with(call.wants()))
}

/// Whether a sum of floats is none.
fn overflows(partial: &Partial) -> bool {
    matches!(partial, Partial::Float(stats) if !stats.sum.to_f64().is_finite())
}

/// An estimate of the memory that histogram and sketch of a partial, or its texts, take.
fn heap_bytes(partial: &Partial) -> u64 {
    let buckets = |hist: &Histogram| hist.positive.len() + hist.negative.len();
    let bytes = |hist| size_of::<Histogram>() + buckets(hist) * size_of::<Bucket>();
    let texts = if let Partial::Text(stats) = partial { stats.first.len() + stats.last.len() } else { 0 };
    let uniques = partial.uniques().map_or(0, |uniques| size_of::<Uniques>() + uniques.heap_bytes());
    (partial.histogram().map_or(0, bytes) + uniques + texts) as u64
}

impl<'a> Reader<'a> {
    /// The part of the range that has data; `None` when there is none. Without an interval, all of it.
    fn span(&mut self, frame: &Frame<'_>, fields: &[FieldInfo]) -> Result<Option<TimeRange>> {
        if frame.interval.is_none() || has_text(fields) {
            return Ok(Some(frame.range));
        }
        let mut bounds: Option<(i64, i64)> = None;
        // What lies at the edges does not matter here, so that this look is never refused nor reported.
        self.resolution = Resolution::Auto;
        let before = *self.coverage;
        self.wants = StatSet::ENDS;
        let mut is_known = true;
        for field in fields {
            let merged = match self.merged(field, &[window(frame.range)]) {
                // Its cells do not keep times, and raw rows are gone.
                Err(error) if frame.has_start && error.kind() == GONE => {
                    is_known = false;
                    break;
                }
                merged => merged?.0,
            };
            for partial in merged.into_iter().flatten().flatten() {
                let Some((from_ns, to_ns)) = ends_of(&partial) else { continue };
                let (first_ns, last_ns) = bounds.unwrap_or((from_ns, to_ns));
                bounds = Some((first_ns.min(from_ns), last_ns.max(to_ns)));
            }
        }
        self.resolution = self.context.resolution;
        self.coverage.rounded = before.rounded;
        self.coverage.raw_gone_before_ns = before.raw_gone_before_ns;
        if !is_known {
            return Ok(Some(frame.range));
        }
        Ok(bounds.map(|(first_ns, last_ns)| {
            TimeRange::new(first_ns, last_ns.saturating_add(1)).intersect(&frame.range)
        }))
    }

    /// Windows of one hour over the part of the range that may have data, wider ones where they would be more than
    /// `max`; `None` when there is no data.
    fn hours(&mut self, field: &FieldInfo, range: TimeRange, max: usize) -> Result<Option<Vec<Window>>> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let hours_of = |range: TimeRange| i128::from(range.end_ns) - i128::from(range.start_ns);
        let mut span = range;
        if hours_of(range) / i128::from(HOUR_NS) >= i128::from(max) {
            // Only this pass meets the edges of a range that is not bounded; there is nothing to widen there.
            let wants = std::mem::replace(&mut self.wants, StatSet::ENDS);
            let (whole, _held) = self.merged(field, &[window(range)])?;
            self.wants = wants;
            let numbers = || whole.iter().flatten().flatten().filter_map(Partial::numbers);
            let Some(first_ns) = numbers().map(|numbers| numbers.first_ns).min() else { return Ok(None) };
            let last_ns = numbers().map(|numbers| numbers.last_ns).max().unwrap_or(first_ns);
            span = TimeRange::new(first_ns, last_ns.saturating_add(1)).intersect(&range);
        }
        let hours = i64::try_from(hours_of(span) / i128::from(HOUR_NS)).unwrap_or(i64::MAX);
        let width_ns = HOUR_NS.saturating_mul(hours / max + 1);
        let mut windows = Vec::new();
        let mut start_ns = floor_to(span.start_ns, width_ns);
        while start_ns < span.end_ns {
            let end_ns = start_ns.saturating_add(width_ns);
            let inside = TimeRange::new(start_ns, end_ns).intersect(&range);
            windows.push(window(inside));
            start_ns = end_ns;
        }
        self.context.budget.charge_samples(windows.len() as u64)?;
        Ok(Some(windows))
    }

    /// Reads one field and puts the cells of its calls into the answer.
    fn read_field(
        &mut self,
        field: &FieldInfo,
        windows: &[Window],
        starts: &[i64],
        answer: &mut [Buckets],
    ) -> Result<()> {
        let calls = &self.plan.binder.calls;
        let of_field = || calls.iter().enumerate().filter(|(_, call)| call.field.as_ref() == Some(field));
        self.wants = wants_of(self.plan, field);
        let (merged, _held) = self.merged(field, windows)?;
        for (buckets, partials) in answer.iter_mut().zip(merged) {
            for (bucket_ns, partial) in starts.iter().zip(partials) {
                let Some(partial) = partial else { continue };
                let is_new = !buckets.contains_key(bucket_ns);
                let cells = buckets.entry(*bucket_ns).or_insert_with(|| vec![Cell::Null; calls.len()]);
                for (place, call) in of_field() {
                    if let Some(cell) = cells.get_mut(place) {
                        *cell = partial_cell(call.function, &partial, field.field_type);
                    }
                }
                if is_new {
                    self.context.budget.charge_points(calls.len() as u64)?;
                    self.context.budget.charge_bytes(row_bytes(calls.len() + self.plan.items.len()))?;
                }
            }
        }
        Ok(())
    }

    /// One partial per group and window, `None` where there is no sample, and the charge for them.
    fn merged(&mut self, field: &FieldInfo, windows: &[Window]) -> Result<(Merged, Held<'a>)> {
        let by_groups = OF_GROUPS.has(self.wants);
        let found = self.merged_by(by_groups, field, windows)?;
        // A mean needs more than a sum that overflows, and groups have no more.
        let overflows = by_groups && found.0.iter().flatten().flatten().any(overflows);
        if overflows { self.merged_by(false, field, windows) } else { Ok(found) }
    }

    /// As [`Reader::merged`], read by groups of series or series by series.
    fn merged_by(
        &mut self,
        by_groups: bool,
        field: &FieldInfo,
        windows: &[Window],
    ) -> Result<(Merged, Held<'a>)> {
        let budget = self.context.budget;
        let each = size_of::<Vec<Option<Partial>>>() + windows.len() * size_of::<Option<Partial>>();
        let mut held = budget.hold_bytes((self.groups.len() * each) as u64)?;
        let mut merged: Vec<Vec<Option<Partial>>> = vec![Vec::new(); self.groups.len()];
        let ids: &[SeriesId] = self.groups.ids();
        let request = WindowRequest {
            measurement: self.plan.schema.measurement,
            field: field.id,
            series: ids,
            windows,
            bounds: Bounds::RightOpen,
            wants: self.wants,
            resolution: self.resolution,
        };
        let groups = self.groups;
        let mut sink = |slice: WindowSlice<'_>| {
            let owner = if by_groups { Some(slice.series_idx) } else { groups.owner(slice.series_idx) };
            let Some(group) = owner.and_then(|group| merged.get_mut(group)) else {
                return Ok(());
            };
            group.resize(windows.len(), None);
            let mut grown = 0;
            for (slot, partial) in group.iter_mut().zip(slice.partials) {
                let before = slot.as_ref().map_or(0, heap_bytes);
                match slot {
                    _ if partial.count() == 0 => {}
                    Some(sum) => merge_across(sum, partial),
                    None => *slot = Some(partial.clone()),
                }
                grown += slot.as_ref().map_or(0, heap_bytes).saturating_sub(before);
            }
            held.grow(grown).map_err(|error| budget.stop_scan(error))
        };
        let outcome = match by_groups {
            true => {
                let request =
                    GroupRequest { read: request, groups: &groups.owners(), group_count: groups.len() };
                self.context.scan.groups(&request, budget, &mut sink)
            }
            false => self.context.scan.windows(&request, budget, &mut sink),
        };
        self.coverage.absorb(&budget.scanned(outcome)?);
        Ok((merged, held))
    }
}
