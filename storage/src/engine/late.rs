//! Rows that come late for hours that are rolled already. Merging and rolling these hours waits until no more come: a
//! sender that is always half an hour behind would else have its hour written anew with each flush.
//!
//! Nothing is hidden meanwhile: late rows lie in small segments of their own, which are merged among themselves, and the
//! cells they fall into are answered from raw rows. Goes by the manifest and the time alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::compact::reaches;
use crate::manifest::{Manifest, RolledSpan, SegmentMeta};
use crate::model::{HOUR_NS, MINUTE_NS, Tier, TimeRange};

/// How long no row may have come late for a span before it is taken for whole.
pub(super) const QUIET_NS: i64 = 10 * MINUTE_NS;
/// How long a span waits at most to be rolled again. Its segments are merged when it is quiet, however long that takes.
pub(super) const WAIT_MAX_NS: i64 = HOUR_NS;

/// What more rows are likely to come for, and is left alone until then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Receiving {
    /// Times of which segments are not merged, but with those of their size.
    pub(super) merges: Vec<TimeRange>,
    /// Times that are not rolled.
    pub(super) rolls: Vec<TimeRange>,
}

/// The account of what came late.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Monotonic time at which segments of each generation were first seen. A merge keeps the newest of its inputs.
    /// `None` before the first look: what is there then has been there for long.
    seen_ns: Option<BTreeMap<u64, i64>>,
    /// Spans that wait, by their start: since which monotonic time, and what their cells had been rolled from then.
    waits: BTreeMap<i64, (i64, Vec<u64>)>,
}

impl Late {
    /// Takes note of what is live, and tells what is left alone.
    pub(super) fn note(&mut self, manifest: &Manifest, now_ns: i64) -> Receiving {
        let raw = || manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw);
        let first_ns = if self.seen_ns.is_some() { now_ns } else { i64::MIN };
        let seen_ns = self.seen_ns.get_or_insert_default();
        let live: BTreeSet<u64> = raw().map(|meta| meta.generation).collect();
        seen_ns.retain(|generation, _| live.contains(generation));
        for generation in live {
            seen_ns.entry(generation).or_insert(first_ns);
        }
        let is_fresh = |meta: &&SegmentMeta| {
            let seen_ns = seen_ns.get(&meta.generation);
            seen_ns.is_some_and(|seen_ns| now_ns.saturating_sub(*seen_ns) < QUIET_NS)
        };
        let fresh: Vec<&SegmentMeta> = raw().filter(is_fresh).collect();
        let is_late = |rolled: &RolledSpan, meta: &SegmentMeta| {
            reaches(meta, rolled.span) && !rolled.covers.contains(&meta.id)
        };
        let mut receiving = Receiving::default();
        let mut before = std::mem::take(&mut self.waits);
        for rolled in &manifest.rolled {
            let mut late = fresh.iter().filter(|meta| is_late(rolled, meta)).peekable();
            if late.peek().is_none() {
                continue;
            }
            receiving.merges.extend(late.map(|meta| meta.partition));
            let waits = before.remove(&rolled.span.start_ns).filter(|(_, covers)| *covers == rolled.covers);
            let (since_ns, covers) = waits.unwrap_or_else(|| (now_ns, rolled.covers.clone()));
            if now_ns.saturating_sub(since_ns) < WAIT_MAX_NS {
                receiving.rolls.push(rolled.span);
            }
            self.waits.insert(rolled.span.start_ns, (since_ns, covers));
        }
        receiving
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Retention;

    fn hours(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start * HOUR_NS, end * HOUR_NS)
    }

    fn raw(id: u64, generation: u64, minute: i64) -> SegmentMeta {
        let hour = minute / 60;
        SegmentMeta {
            id,
            tier: Tier::Raw,
            partition: hours(hour, hour + 1),
            min_ts_ns: minute * MINUTE_NS,
            max_ts_ns: minute * MINUTE_NS,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation,
        }
    }

    fn manifest(segments: Vec<SegmentMeta>, covers: &[u64]) -> Manifest {
        let rolled = vec![RolledSpan { span: hours(0, 1), covers: covers.to_vec() }];
        Manifest { segments, rolled, ..Manifest::new(Retention::FOREVER) }
    }

    #[test]
    fn late_rows_wait_until_none_came_for_a_while() {
        let mut late = Late::default();
        let nothing = Receiving::default();
        let waiting = Receiving { merges: vec![hours(0, 1)], rolls: vec![hours(0, 1)] };
        let before = manifest(vec![raw(1, 1, 5), raw(2, 2, 6)], &[1]);
        assert_eq!(late.note(&before, 0), nothing, "what is late at a start is quiet");
        let now = manifest(vec![raw(1, 1, 5), raw(2, 2, 6), raw(3, 3, 7), raw(4, 4, 70)], &[1]);
        assert_eq!(late.note(&now, 5), waiting, "and what comes for an hour that is not rolled goes on");
        assert_eq!(late.note(&now, 4 + QUIET_NS), waiting);
        let merged = manifest(vec![raw(1, 1, 5), raw(9, 3, 7)], &[1]);
        assert_eq!(late.note(&merged, 4 + QUIET_NS), waiting, "a merge is not news");
        assert_eq!(late.note(&merged, 5 + QUIET_NS), nothing);
        assert_eq!(late.note(&manifest(vec![raw(1, 1, 5), raw(10, 10, 7)], &[1, 10]), 6 + QUIET_NS), nothing);
    }

    #[test]
    fn spans_that_always_receive_are_rolled_once_an_hour() {
        let mut late = Late::default();
        late.note(&manifest(Vec::new(), &[]), 0);
        let (mut rolled, mut covers) = (Vec::new(), Vec::new());
        for minute in 1..=200 {
            let segments: Vec<SegmentMeta> = (1..=minute).map(|id| raw(id, id, 5)).collect();
            let receiving = late.note(&manifest(segments, &covers), minute.cast_signed() * MINUTE_NS);
            assert!(!receiving.merges.is_empty());
            if receiving.rolls.is_empty() {
                rolled.push(minute);
                covers = (1..=minute).collect();
            }
        }
        assert_eq!(rolled, [61, 122, 183]);
    }
}
