//! Rows that come late for hours that are rolled already. Merging and rolling these hours waits until no more come: a
//! sender that is always half an hour behind would else have its hour written anew with each flush.
//!
//! Nothing is hidden meanwhile: late rows lie in segments that the cells are known to lack, and their times are answered from
//! raw rows (decision 0024). Goes by the manifest and the time alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Manifest, SegmentMeta};
use crate::model::{HOUR_NS, MINUTE_NS, Tier, TimeRange};
use crate::rolled::{ByTime, RawSegment};

/// How long no row may have come late for a span before it is taken for whole.
pub(super) const QUIET_NS: i64 = 10 * MINUTE_NS;
/// How long a span that rows keep coming for waits to be rolled again, and how long it rests after each roll, also the first. Its
/// segments are merged when it is quiet, however long that takes.
pub(super) const WAIT_NS: i64 = HOUR_NS;

/// What more rows are likely to come for, and is left alone until then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Receiving {
    /// Times of which segments are not merged, but with those of their size.
    pub(super) merges: Vec<TimeRange>,
    /// Times that are not rolled.
    pub(super) rolls: Vec<TimeRange>,
}

/// The account of what came late. Times are monotonic, of this life.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// When segments of each generation were first seen. A merge keeps the newest of its inputs. `None` before the first look:
    /// what is there then has been there for long.
    seen_ns: Option<BTreeMap<u64, i64>>,
    /// Since when spans wait, by their start.
    since_ns: BTreeMap<i64, i64>,
    /// When spans were rolled, by their start, as long as that matters.
    rolled_ns: BTreeMap<i64, i64>,
}

impl Late {
    /// Takes note of what is live, and tells what is left alone.
    pub(super) fn note(&mut self, manifest: &Manifest, now_ns: i64) -> Receiving {
        let age_ns = |then_ns: i64| now_ns.saturating_sub(then_ns);
        let raw: Vec<&SegmentMeta> = manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw).collect();
        let first_ns = if self.seen_ns.is_some() { now_ns } else { i64::MIN };
        let seen_ns = self.seen_ns.get_or_insert_default();
        let live: BTreeSet<u64> = raw.iter().map(|meta| meta.generation).collect();
        seen_ns.retain(|generation, _| live.contains(generation));
        for generation in live {
            seen_ns.entry(generation).or_insert(first_ns);
        }
        let is_fresh = |meta: &SegmentMeta| {
            seen_ns.get(&meta.generation).is_some_and(|seen_ns| age_ns(*seen_ns) < QUIET_NS)
        };
        let by_time = |metas: &mut dyn Iterator<Item = &SegmentMeta>| {
            ByTime::new(&metas.map(RawSegment::from).collect::<Vec<_>>())
        };
        let fresh = by_time(&mut raw.iter().copied().filter(|meta| is_fresh(meta)));
        let all = by_time(&mut raw.iter().copied());
        self.rolled_ns.retain(|_, rolled_ns| age_ns(*rolled_ns) < WAIT_NS);
        let mut receiving = Receiving::default();
        let mut before = std::mem::take(&mut self.since_ns);
        for rolled in &manifest.rolled {
            let start_ns = rolled.span.start_ns;
            // Soon after it was rolled again a span waits for all that comes, also when it is quiet.
            let rests = self.rolled_ns.contains_key(&start_ns);
            let mut late = if rests { &all } else { &fresh }.overlapping(&rolled.span);
            late.retain(|segment| !rolled.covers.contains(&segment.id));
            if late.is_empty() {
                continue;
            }
            receiving.merges.extend(late.iter().map(|segment| segment.partition));
            let since_ns = before.remove(&start_ns).unwrap_or(now_ns);
            self.since_ns.insert(start_ns, since_ns);
            if rests || age_ns(since_ns) < WAIT_NS {
                receiving.rolls.push(rolled.span);
            }
        }
        receiving
    }

    /// A span was rolled.
    pub(super) fn note_rolled(&mut self, span: TimeRange, now_ns: i64) {
        self.since_ns.remove(&span.start_ns);
        self.rolled_ns.insert(span.start_ns, now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RolledSpan;
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
    fn spans_that_rows_keep_coming_for_are_rolled_once_an_hour() {
        for (every, expected) in [(1, [61, 122, 183]), (11, [21, 82, 142])] {
            let mut late = Late::default();
            late.note(&manifest(Vec::new(), &[]), 0);
            let (mut rolled, mut covers) = (Vec::new(), Vec::new());
            for minute in 1..200 {
                let segments = (1..=minute).filter(|id| id % every == 0);
                let segments: Vec<SegmentMeta> = segments.map(|id| raw(id, id, 5)).collect();
                let ids: Vec<u64> = segments.iter().map(|meta| meta.id).collect();
                let now_ns = minute.cast_signed() * MINUTE_NS;
                let receiving = late.note(&manifest(segments, &covers), now_ns);
                if receiving.rolls.is_empty() && ids != covers {
                    rolled.push(minute);
                    covers = ids;
                    late.note_rolled(hours(0, 1), now_ns);
                }
            }
            assert_eq!(rolled, expected, "a row each {every} minutes");
        }
    }
}
