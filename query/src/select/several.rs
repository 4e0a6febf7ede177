//! Several rows of each group and bucket, with what stands beside: top, bottom and sample. From raw rows alone.

use std::collections::BTreeMap;

use icecore_storage::scan::{Coverage, Flow};

use super::Context;
use super::analyze::Plan;
use super::ast::Function;
use super::frame::Frame;
use super::node::Row;
use super::rows::{Picked, is_better, order_of, scan};
use super::run::Groups;
use super::scalar::{Cell, Scalar, row_bytes};
use crate::Result;

/// Rows are put in order, and those that are too many dropped, when there are twice as many as wanted, or so many.
const SPARE_MIN: usize = 1024;

/// The rows that the only call of a plan picks, by group: time and columns, ascending.
///
/// # Errors
/// Those of storage and the budget.
pub(crate) fn read(
    context: &Context<'_>,
    plan: &Plan<'_>,
    groups: &Groups,
    frame: &Frame<'_>,
    coverage: &mut Coverage,
) -> Result<Vec<Vec<Vec<Cell>>>> {
    let mut kept: Vec<BTreeMap<i64, Kept>> = (0..groups.len()).map(|_| BTreeMap::new()).collect();
    let call = plan.binder.calls.first().zip(plan.call_places.first().copied().flatten());
    let Some((call, place)) = call else { return Ok(vec![Vec::new(); groups.len()]) };
    scan(context, plan, groups, groups.ids(), frame.range, coverage, &mut |series_idx, row| {
        let Some(value) = row.value(place).map(Scalar::from) else { return Ok(Flow::Continue) };
        let Some(group) = groups.owner(series_idx).and_then(|group| kept.get_mut(group)) else {
            return Ok(Flow::Continue);
        };
        let kept = group.entry(frame.bucket(row.ts_ns)).or_default();
        kept.offer(context, plan, (call.function, &call.by), value, row)?;
        Ok(Flow::Continue)
    })?;
    let rows_of = |group: BTreeMap<i64, Kept>| {
        let mut picked: Vec<Picked> =
            group.into_values().flat_map(|kept| kept.finish(call.function)).collect();
        picked.sort_by_key(|row| row.ts_ns);
        let row = |picked: Picked| std::iter::once(Cell::Time(picked.ts_ns)).chain(picked.columns).collect();
        picked.into_iter().map(row).collect()
    };
    Ok(kept.into_iter().map(rows_of).collect())
}

/// The rows of a bucket that may be in the answer.
#[derive(Default)]
struct Kept {
    rows: Vec<Picked>,
    /// The best row of each combination of tags, where they are asked for.
    by_tags: BTreeMap<Vec<String>, Picked>,
    seen: u64,
    /// The most rows that were held at once, each with the most texts that one had: so much is charged.
    peak: usize,
    texts: u64,
}

impl Kept {
    fn offer(
        &mut self,
        context: &Context<'_>,
        plan: &Plan<'_>,
        (function, by): (Function, &[String]),
        value: Scalar<'_>,
        row: &Row<'_>,
    ) -> Result<()> {
        self.seen += 1;
        if let Function::Sample(count) = function {
            if self.rows.len() < count {
                return self.keep(context, Picked::of(plan, value, row));
            }
            // Reservoir sampling (Vitter's algorithm R); by a hash of the place, so that it can be repeated.
            let place = usize::try_from(mixed(self.seen) % self.seen).unwrap_or(usize::MAX);
            if place < self.rows.len() {
                self.rows.swap_remove(place);
                return self.keep(context, Picked::of(plan, value, row));
            }
            return Ok(());
        }
        if by.is_empty() {
            self.keep(context, Picked::of(plan, value, row))?;
            let count = count_of(function);
            if count.saturating_mul(2).max(SPARE_MIN) <= self.rows.len() {
                self.cut(function);
            }
            return Ok(());
        }
        let tags = by.iter().map(|tag| row.tags.get(tag).unwrap_or_default().to_owned()).collect::<Vec<_>>();
        let known = self.by_tags.get(&tags);
        if known.is_none_or(|known| is_better(plan, extreme(function), value, row, known)) {
            let picked = Picked::of(plan, value, row);
            let key: usize = tags.iter().map(|tag| tag.len() + size_of::<String>()).sum();
            self.charge(context, &picked, key as u64, self.by_tags.len() + usize::from(known.is_none()))?;
            self.by_tags.insert(tags, picked);
        }
        Ok(())
    }

    fn keep(&mut self, context: &Context<'_>, picked: Picked) -> Result<()> {
        self.charge(context, &picked, 0, self.rows.len() + 1)?;
        self.rows.push(picked);
        Ok(())
    }

    /// Charges a row that comes to be one of so many: all of them by the largest.
    fn charge(&mut self, context: &Context<'_>, picked: &Picked, key: u64, held: usize) -> Result<()> {
        let texts = key + picked.columns.iter().map(Cell::heap_bytes).sum::<u64>();
        let longer = texts.saturating_sub(self.texts);
        let more = held.saturating_sub(self.peak) as u64;
        (self.peak, self.texts) = (self.peak.max(held), self.texts.max(texts));
        if 0 < more {
            context.budget.charge_points(more * picked.columns.len() as u64)?;
        }
        let each = row_bytes(picked.columns.len() + 2) + self.texts;
        let bytes = more.saturating_mul(each) + longer.saturating_mul(self.peak as u64 - more);
        if 0 < bytes { context.budget.charge_bytes(bytes) } else { Ok(()) }
    }

    /// Keeps the best rows alone.
    fn cut(&mut self, function: Function) {
        self.rows.sort_by(|left, right| {
            let (left_row, right_row) =
                ((left.ts_ns, left.value.scalar()), (right.ts_ns, right.value.scalar()));
            order_of(extreme(function), left_row, right_row).then_with(|| left.order_beside(right))
        });
        self.rows.truncate(count_of(function));
    }

    fn finish(mut self, function: Function) -> Vec<Picked> {
        self.rows.extend(std::mem::take(&mut self.by_tags).into_values());
        if !matches!(function, Function::Sample(_)) {
            self.cut(function);
        }
        self.rows
    }
}

fn count_of(function: Function) -> usize {
    match function {
        Function::Top(count) | Function::Bottom(count) | Function::Sample(count) => count,
        _ => 1,
    }
}

/// The selector of which these are the several best.
fn extreme(function: Function) -> Function {
    if matches!(function, Function::Bottom(_)) { Function::Min } else { Function::Max }
}

/// A number that looks like chance (the finalizer of splitmix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
