//! What may go now: a pure choice. Partitions go from the old end, as far as nothing holds them.

use std::collections::BTreeSet;

use super::{Guard, Hold, TIERS};
use crate::compact::reaches;
use crate::manifest::{RolledSpan, SegmentMeta};
use crate::model::{DAY_NS, HOUR_NS, MINUTE_NS, Tier, TimeRange, floor_to};
use crate::options::Retention;
use crate::rolled::is_frozen;
use crate::rules::{Floors, NO_FLOORS};
use crate::tombstone::Tombstone;

/// Raw rows stay so long past their age. A write is judged by the time at which its wait for memory is over, then waits for
/// the log, and a row that a floor has passed meanwhile would be hidden without being in cells. It waits for the groups
/// before its own: some milliseconds on a disk that works, seconds on one that is overloaded.
pub(crate) const RAW_MARGIN_NS: i64 = MINUTE_NS;

/// What is known when the choice is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) segments: &'a [SegmentMeta],
    pub(crate) rolled: &'a [RolledSpan],
    pub(crate) tombstones: &'a [Tombstone],
    /// Segments that jobs found damaged: what is computed from them never will be.
    pub(crate) damaged: &'a BTreeSet<u64>,
    /// Times of rows that are not in segments yet.
    pub(crate) memtables: &'a [TimeRange],
    pub(crate) floors_ns: [i64; 4],
    /// How long files are kept.
    pub(crate) retention: Retention,
    pub(crate) now_ns: i64,
    pub(crate) guard: Guard,
}

/// Files to drop and the floors that hide what they held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) remove: Vec<u64>,
    pub(crate) floors_ns: [i64; 4],
    /// By tier: why files that are past their age stay, when some do.
    pub(crate) held: [Option<Hold>; 4],
}

/// Chooses what may go now.
pub(crate) fn pick(facts: &Facts<'_>) -> Choice {
    let mut choice = Choice { floors_ns: facts.floors_ns, ..Choice::default() };
    let is_clock_far = is_clock_far(facts);
    let mut budget = match facts.guard {
        Guard::Careful if is_clock_far => 0,
        Guard::Careful => (facts.segments.len() / 5).max(1),
        Guard::Forced => usize::MAX,
    };
    for (place, tier) in TIERS.into_iter().enumerate() {
        let past = past(facts, tier);
        let hold = if budget == 0 && !past.is_empty() {
            Some(if is_clock_far { Hold::Clock } else { Hold::Pace })
        } else {
            pick_tier(facts, (place, tier), &past, &mut budget, &mut choice)
        };
        if let Some(held) = choice.held.get_mut(place) {
            *held = hold;
        }
        if hold == Some(Hold::Pace) {
            budget = 0;
        }
    }
    choice
}

/// Whether the clock is more than a day past the newest sample.
fn is_clock_far(facts: &Facts<'_>) -> bool {
    let newest_segment = facts.segments.iter().map(|meta| meta.max_ts_ns).max();
    let newest = facts.memtables.iter().map(|range| range.end_ns).chain(newest_segment).max();
    newest.is_some_and(|newest_ns| facts.now_ns.saturating_sub(newest_ns) > DAY_NS)
}

/// Where the floors of a class with these ages may stand now: on full hours, that of raw rows not behind rows, of
/// whatever class, that are not in committed cells. It may be lower than where it stands.
pub(crate) fn class_floors(facts: &Facts<'_>, ages: Retention) -> Floors {
    if facts.guard == Guard::Careful && is_clock_far(facts) {
        return NO_FLOORS;
    }
    TIERS.map(|tier| {
        let Some(age_ns) = age_ns(ages, tier) else { return i64::MIN };
        let wanted_ns = floor_to(facts.now_ns.saturating_sub(age_ns), HOUR_NS);
        match tier {
            Tier::Raw => wanted_ns.min(floor_to(rolled_until(facts, wanted_ns), HOUR_NS)),
            Tier::M1 | Tier::M5 | Tier::H1 => wanted_ns,
        }
    })
}

/// The time before which, from the floor of raw rows up to `end_ns`, all rows are in committed cells.
fn rolled_until(facts: &Facts<'_>, end_ns: i64) -> i64 {
    let range = TimeRange::new(facts.floors_ns[0], end_ns);
    let fresh = facts.memtables.iter().filter(|fresh| fresh.overlaps(&range));
    let fresh = fresh.map(|fresh| fresh.start_ns.max(range.start_ns));
    let live = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw).map(|meta| meta.id).collect();
    let raw = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw && reaches(meta, range));
    let unrolled = raw.filter_map(|meta| first_unrolled(facts, meta, range, &live));
    fresh.chain(unrolled).fold(end_ns, i64::min)
}

/// The segments of a tier that are past its age, partition by partition, the oldest first.
fn past<'a>(facts: &Facts<'a>, tier: Tier) -> Vec<&'a SegmentMeta> {
    let is_due = |meta: &&SegmentMeta| meta.tier == tier && is_past(facts, tier, meta.partition.end_ns);
    let mut past: Vec<&SegmentMeta> = facts.segments.iter().filter(is_due).collect();
    past.sort_by_key(|meta| (meta.partition.end_ns, meta.id));
    past
}

/// Chooses of what is past the age of a tier; tells why the rest of it stays.
fn pick_tier(
    facts: &Facts<'_>,
    (place, tier): (usize, Tier),
    past: &[&SegmentMeta],
    budget: &mut usize,
    choice: &mut Choice,
) -> Option<Hold> {
    let floor_ns = choice.floors_ns.get_mut(place)?;
    let mut waiting = Vec::new();
    // All files of a partition go together, because the floor hides them together.
    for partition in past.chunk_by(|left, right| left.partition.end_ns == right.partition.end_ns) {
        let Some(mut end_ns) = partition.first().map(|meta| meta.partition.end_ns) else { continue };
        waiting.extend(partition.iter().map(|meta| meta.id));
        if tier == Tier::Raw
            && let Some(span) = cut_span(facts, end_ns)
        {
            // What is left of the span could not be rolled again: the floor goes to its end, or stays. The
            // partition that ends there may have no rows any more.
            if !is_past(facts, tier, span.end_ns) {
                continue;
            }
            end_ns = span.end_ns;
        }
        if tier < Tier::H1 && has_deleted_cells(facts, TimeRange::new(*floor_ns, end_ns)) {
            // They are computed anew from what is finer; without it more than was asked would go.
            return Some(Hold::Deletes);
        }
        if tier == Tier::Raw
            && let Some(hold) = unrolled_before(facts, end_ns)
        {
            // The floor may not pass rows whose cells are not committed; the roll comes first.
            return Some(hold);
        }
        // One partition may always go: it may have more files than that after a change of the retention.
        if waiting.len() > *budget && !choice.remove.is_empty() {
            return Some(Hold::Pace);
        }
        *budget = budget.saturating_sub(waiting.len());
        choice.remove.append(&mut waiting);
        *floor_ns = (*floor_ns).max(end_ns);
    }
    (!waiting.is_empty()).then_some(Hold::Span)
}

/// Whether all before a time is past the age of a tier.
pub(super) fn is_past(facts: &Facts<'_>, tier: Tier, end_ns: i64) -> bool {
    age_ns(facts.retention, tier).is_some_and(|age_ns| end_ns <= facts.now_ns.saturating_sub(age_ns))
}

/// The age at which a tier goes; `None` is never.
pub(super) fn age_ns(ages: Retention, tier: Tier) -> Option<i64> {
    let age_ns = i64::try_from(ages.of(tier)?.as_nanos()).unwrap_or(i64::MAX);
    Some(match tier {
        Tier::Raw => age_ns.saturating_add(RAW_MARGIN_NS),
        Tier::M1 | Tier::M5 | Tier::H1 => age_ns,
    })
}

/// The rolled span that a raw floor would lie inside, as it may where partitions of two widths meet.
fn cut_span(facts: &Facts<'_>, floor_ns: i64) -> Option<TimeRange> {
    let mut spans = facts.rolled.iter().map(|span| span.span);
    spans.find(|span| span.start_ns < floor_ns && floor_ns < span.end_ns)
}

/// Why rows before `end_ns`, of whatever partition, are not in committed cells; `None` when all are.
fn unrolled_before(facts: &Facts<'_>, end_ns: i64) -> Option<Hold> {
    let hidden = TimeRange::new(facts.floors_ns[0], end_ns);
    if facts.memtables.iter().any(|range| range.overlaps(&hidden)) {
        return Some(Hold::Unflushed);
    }
    let live = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw).map(|meta| meta.id).collect();
    let raw = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw && reaches(meta, hidden));
    let mut unrolled = raw.filter(|meta| !is_rolled(facts, meta, hidden, &live));
    let first = unrolled.next()?;
    let is_damaged = [first].into_iter().chain(unrolled).any(|meta| facts.damaged.contains(&meta.id));
    Some(if is_damaged { Hold::Damaged } else { Hold::NoCells })
}

/// Whether cells in a range hold deleted rows, which the purge has yet to take out and can.
fn has_deleted_cells(facts: &Facts<'_>, range: TimeRange) -> bool {
    let is_pending = |id| facts.tombstones.iter().any(|tombstone| tombstone.is_pending(id));
    let is_damaged = |span: TimeRange| {
        let mut damaged = facts.segments.iter().filter(|meta| facts.damaged.contains(&meta.id));
        damaged.any(|meta| reaches(meta, span))
    };
    let cells = facts.segments.iter().filter(|meta| meta.tier != Tier::Raw);
    let mut cells = cells.filter(|meta| meta.partition.overlaps(&range));
    cells.any(|meta| is_pending(meta.id) && !is_damaged(meta.partition))
}

/// Whether every row of a raw segment in a range is in committed cells, or can never be. `live`: ids of the raw
/// segments.
fn is_rolled(facts: &Facts<'_>, meta: &SegmentMeta, range: TimeRange, live: &BTreeSet<u64>) -> bool {
    first_unrolled(facts, meta, range, live).is_none()
}

/// The time from which on rows of a raw segment in a range may not be in committed cells; `None`: all are, or can never
/// be. A frozen span takes no late rows, and waiting for them would keep raw rows for ever.
fn first_unrolled(
    facts: &Facts<'_>,
    meta: &SegmentMeta,
    range: TimeRange,
    live: &BTreeSet<u64>,
) -> Option<i64> {
    let mut reached_ns = meta.min_ts_ns.max(range.start_ns);
    for span in facts.rolled.iter().filter(|span| reaches(meta, span.span)) {
        // Spans are sorted and disjoint; a gap between them may hold no row of this segment, but who knows.
        let is_done = span.covers.contains(&meta.id) || is_frozen(span, live);
        if is_done && span.span.start_ns <= reached_ns {
            reached_ns = span.span.end_ns;
        }
    }
    (reached_ns <= meta.max_ts_ns.min(range.end_ns.saturating_sub(1))).then_some(reached_ns)
}
