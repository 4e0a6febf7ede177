//! Retention: drops whole files whose time is past a tier's age. What may go is a pure choice ([`pick`]); raw
//! files go only when the cells of their time are committed, and a clock that jumps does not delete everything.

use std::collections::BTreeSet;

use crate::Result;
use crate::compact::reaches;
use crate::manifest::{RolledSpan, SegmentMeta};
use crate::model::{DAY_NS, Tier, TimeRange};
use crate::options::Retention;
use crate::rolled::is_frozen;
use crate::tombstone::Tombstone;
use crate::version::{Edit, Store};

/// Whether retention heeds its guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Pause when the clock is a day past the newest sample; drop at most a fifth of the files a pass.
    Careful,
    /// Drop all that is past its age.
    Forced,
}

/// What a retention pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Files dropped by tier: raw, 1m, 5m, 1h.
    pub dropped: [u64; 4],
    /// Why nothing more was dropped, when a guard held it back.
    pub paused: Option<String>,
}

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
    pub(crate) retention: Retention,
    pub(crate) now_ns: i64,
    pub(crate) guard: Guard,
}

/// Files to drop and the floors that hide what they held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) remove: Vec<u64>,
    pub(crate) floors_ns: [i64; 4],
    pub(crate) paused: Option<String>,
}

/// Chooses what may go now.
pub(crate) fn pick(facts: &Facts<'_>) -> Choice {
    let mut choice = Choice { floors_ns: facts.floors_ns, ..Choice::default() };
    let newest_segment = facts.segments.iter().map(|meta| meta.max_ts_ns).max();
    let newest = facts.memtables.iter().map(|range| range.end_ns).chain(newest_segment).max();
    if let (Guard::Careful, Some(newest_ns)) = (facts.guard, newest)
        && facts.now_ns.saturating_sub(newest_ns) > DAY_NS
        && facts.segments.iter().any(|meta| is_past(facts, meta.tier, meta.partition.end_ns))
    {
        choice.paused =
            Some("the clock is more than a day past the newest sample; nothing was dropped".to_owned());
        return choice;
    }
    let mut budget = match facts.guard {
        Guard::Careful => (facts.segments.len() / 5).max(1),
        Guard::Forced => usize::MAX,
    };
    for (place, tier) in [Tier::Raw, Tier::M1, Tier::M5, Tier::H1].into_iter().enumerate() {
        let Some(floor_ns) = choice.floors_ns.get_mut(place) else { continue };
        let is_due = |meta: &&SegmentMeta| meta.tier == tier && is_past(facts, tier, meta.partition.end_ns);
        let mut past: Vec<&SegmentMeta> = facts.segments.iter().filter(is_due).collect();
        past.sort_by_key(|meta| (meta.partition.end_ns, meta.id));
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
                break;
            }
            if tier == Tier::Raw && !is_rolled_before(facts, end_ns) {
                // The floor may not pass rows whose cells are not committed; the roll comes first.
                break;
            }
            // One partition may always go: it may have more files than that after a change of the retention.
            if waiting.len() > budget && !choice.remove.is_empty() {
                let limit = "a pass drops at most a fifth of the files; the rest goes at the next";
                choice.paused = Some(limit.to_owned());
                return choice;
            }
            budget = budget.saturating_sub(waiting.len());
            choice.remove.append(&mut waiting);
            *floor_ns = (*floor_ns).max(end_ns);
        }
    }
    choice
}

/// Whether all before a time is past the age of a tier.
fn is_past(facts: &Facts<'_>, tier: Tier, end_ns: i64) -> bool {
    facts.retention.of(tier).is_some_and(|age| {
        let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        end_ns <= facts.now_ns.saturating_sub(age_ns)
    })
}

/// The rolled span that a raw floor would lie inside, as it may where partitions of two widths meet.
fn cut_span(facts: &Facts<'_>, floor_ns: i64) -> Option<TimeRange> {
    let mut spans = facts.rolled.iter().map(|span| span.span);
    spans.find(|span| span.start_ns < floor_ns && floor_ns < span.end_ns)
}

/// Whether all rows before `end_ns`, of whatever partition, are in committed cells and none waits in a memtable.
fn is_rolled_before(facts: &Facts<'_>, end_ns: i64) -> bool {
    let hidden = TimeRange::new(facts.floors_ns[0], end_ns);
    let live = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw).map(|meta| meta.id).collect();
    let mut raw = facts.segments.iter().filter(|meta| meta.tier == Tier::Raw && reaches(meta, hidden));
    !facts.memtables.iter().any(|range| range.overlaps(&hidden))
        && raw.all(|meta| is_rolled(facts, meta, hidden, &live))
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

/// Whether every row of a raw segment in a range is in committed cells, or can never be: a frozen span takes no late
/// rows, and waiting for them would keep raw rows for ever. `live`: ids of the raw segments.
fn is_rolled(facts: &Facts<'_>, meta: &SegmentMeta, range: TimeRange, live: &BTreeSet<u64>) -> bool {
    let mut reached_ns = meta.min_ts_ns.max(range.start_ns);
    for span in facts.rolled.iter().filter(|span| reaches(meta, span.span)) {
        // Spans are sorted and disjoint; a gap between them may hold no row of this segment, but who knows.
        let is_done = span.covers.contains(&meta.id) || is_frozen(span, live);
        if is_done && span.span.start_ns <= reached_ns {
            reached_ns = span.span.end_ns;
        }
    }
    meta.max_ts_ns.min(range.end_ns.saturating_sub(1)) < reached_ns
}

/// Drops what [`pick`] chose.
///
/// # Errors
/// Those of the file system.
pub(crate) fn run(store: &Store, guard: Guard, damaged: &BTreeSet<u64>) -> Result<RetentionReport> {
    let (manifest, version) = store.live();
    let memtables = version.memtable_ranges();
    let choice = pick(&Facts {
        segments: &manifest.segments,
        rolled: &manifest.rolled,
        tombstones: &manifest.tombstones,
        damaged,
        memtables: &memtables,
        floors_ns: manifest.floors_ns,
        retention: manifest.retention,
        now_ns: store.env.clock.now_ns(),
        guard,
    });
    let mut report = RetentionReport { paused: choice.paused, ..RetentionReport::default() };
    if choice.remove.is_empty() {
        return Ok(report);
    }
    for meta in manifest.segments.iter().filter(|meta| choice.remove.contains(&meta.id)) {
        if let Some(dropped) = report.dropped.get_mut(meta.tier as usize) {
            *dropped += 1;
        }
    }
    let mut rolled = manifest.rolled.clone();
    for span in &mut rolled {
        span.covers.retain(|id| !choice.remove.contains(id));
    }
    let oldest_ns = choice.floors_ns.iter().copied().min().unwrap_or(i64::MIN);
    rolled.retain(|span| span.span.end_ns > oldest_ns);
    let edit = Edit {
        remove: choice.remove,
        rolled: Some(rolled),
        floors_ns: Some(choice.floors_ns),
        ..Edit::default()
    };
    store.commit(edit)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HOUR_NS, MeasurementId};
    use std::time::Duration;

    static NONE: BTreeSet<u64> = BTreeSet::new();

    fn meta(id: u64, tier: Tier, hour: i64) -> SegmentMeta {
        let partition = TimeRange::new(hour * HOUR_NS, (hour + 1) * HOUR_NS);
        SegmentMeta {
            id,
            tier,
            partition,
            min_ts_ns: partition.start_ns,
            max_ts_ns: partition.end_ns - 1,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation: id,
        }
    }

    fn facts<'a>(segments: &'a [SegmentMeta], rolled: &'a [RolledSpan], guard: Guard) -> Facts<'a> {
        let hour = Duration::from_secs(3600);
        Facts {
            segments,
            rolled,
            tombstones: &[],
            damaged: &NONE,
            memtables: &[],
            floors_ns: [i64::MIN; 4],
            retention: Retention { raw: Some(2 * hour), m1: None, m5: None, h1: None },
            now_ns: 5 * HOUR_NS,
            guard,
        }
    }

    #[test]
    fn pick_raw_without_cells_stays() {
        let segments = [meta(1, Tier::Raw, 0), meta(2, Tier::Raw, 1), meta(3, Tier::Raw, 4)];
        assert_eq!(pick(&facts(&segments, &[], Guard::Forced)).remove, []);
        let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
        let choice = pick(&facts(&segments, &rolled, Guard::Forced));
        assert_eq!(choice.remove, [1]);
        assert_eq!(choice.floors_ns[0], HOUR_NS, "the floor stops before the hour without cells");
    }

    #[test]
    fn pick_unflushed_row_in_the_partition_keeps_it() {
        let segments = [meta(1, Tier::Raw, 0), meta(3, Tier::Raw, 4)];
        let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
        let late = [TimeRange::new(5, 6)];
        let facts = Facts { memtables: &late, ..facts(&segments, &rolled, Guard::Forced) };
        assert_eq!(pick(&facts).remove, []);
    }

    #[test]
    fn pick_raw_stays_until_cells_with_deleted_rows_are_rolled_again() {
        let segments = [meta(1, Tier::Raw, 0), meta(2, Tier::M1, 0)];
        let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
        let tombstone = |pending| Tombstone {
            id: 9,
            measurement: MeasurementId(0),
            series: None,
            range: TimeRange::new(0, 5),
            pending: vec![pending],
        };
        let (cells, raw) = ([tombstone(2)], [tombstone(1)]);
        let facts = Facts { tombstones: &cells, ..facts(&segments, &rolled, Guard::Forced) };
        assert_eq!(pick(&facts).remove, []);
        assert_eq!(pick(&Facts { tombstones: &raw, ..facts }).remove, [1]);
        let damaged = BTreeSet::from([1]);
        let hopeless = Facts { tombstones: &cells, damaged: &damaged, ..facts };
        assert_eq!(pick(&hopeless).remove, [1], "that roll will never be");
    }

    #[test]
    fn pick_finer_cells_stay_until_coarser_ones_with_deleted_rows_are_pressed_again() {
        let segments =
            [meta(1, Tier::M1, 0), meta(2, Tier::M1, 1), meta(3, Tier::H1, 1), meta(4, Tier::H1, 0)];
        let tombstones = [Tombstone {
            id: 9,
            measurement: MeasurementId(0),
            series: None,
            range: TimeRange::new(HOUR_NS, HOUR_NS + 5),
            pending: vec![3],
        }];
        let mut facts = Facts { tombstones: &tombstones, ..facts(&segments, &[], Guard::Forced) };
        facts.retention.m1 = Some(Duration::from_secs(3600));
        assert_eq!(pick(&facts).remove, [1]);
        assert_eq!(pick(&Facts { tombstones: &[], ..facts }).remove, [1, 2]);
        facts.retention.h1 = facts.retention.m1;
        assert_eq!(pick(&facts).remove, [1, 4, 3], "the coarsest are pressed into nothing");
    }

    #[test]
    fn pick_floor_waits_for_rows_of_a_wider_partition() {
        // The retention was changed: a day's segment has late rows in the first hour that no cell has.
        let mut segments = [meta(1, Tier::Raw, 0), meta(3, Tier::Raw, 0)];
        segments[1].partition.end_ns = DAY_NS;
        let mut rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
        assert_eq!(pick(&facts(&segments, &rolled, Guard::Forced)).remove, []);
        rolled[0].covers.push(3);
        assert_eq!(pick(&facts(&segments, &rolled, Guard::Forced)).remove, [1]);
        rolled[0].span.end_ns = 4 * HOUR_NS;
        assert_eq!(
            pick(&facts(&segments, &rolled, Guard::Forced)).remove,
            [],
            "the span would be cut in two"
        );
        rolled[0].span.end_ns = 2 * HOUR_NS;
        let choice = pick(&facts(&segments, &rolled, Guard::Forced));
        assert_eq!((choice.remove, choice.floors_ns[0]), (vec![1], 2 * HOUR_NS), "to the end of the span");
    }

    #[test]
    fn pick_partition_of_many_files_goes_too() {
        let segments: Vec<SegmentMeta> = (1..=4).map(|id| meta(id, Tier::M1, 0)).collect();
        let mut facts = facts(&segments, &[], Guard::Careful);
        facts.retention.m1 = Some(Duration::from_secs(3600));
        assert_eq!(pick(&facts).remove, [1, 2, 3, 4]);
    }

    #[test]
    fn pick_clock_far_past_newest_sample_pauses() {
        let segments = [meta(1, Tier::Raw, 0)];
        let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
        let mut facts = facts(&segments, &rolled, Guard::Careful);
        facts.now_ns = 100 * DAY_NS;
        let choice = pick(&facts);
        assert!(choice.remove.is_empty() && choice.paused.is_some());
        facts.guard = Guard::Forced;
        assert_eq!(pick(&facts).remove, [1]);
    }

    #[test]
    fn pick_careful_pass_is_bounded() {
        let segments: Vec<SegmentMeta> = (0..10).map(|hour| meta(hour as u64 + 1, Tier::M1, hour)).collect();
        let mut facts = facts(&segments, &[], Guard::Careful);
        facts.retention.m1 = Some(Duration::from_secs(3600));
        facts.now_ns = 11 * HOUR_NS;
        let choice = pick(&facts);
        assert_eq!(choice.remove, [1, 2]);
        assert!(choice.paused.is_some());
    }
}
