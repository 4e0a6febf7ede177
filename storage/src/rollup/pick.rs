//! Decides what to roll next.
//!
//! A pure function of what the manifest says and of the time; no I/O, clock or lock. A rolled span is a range of
//! whole hours within one raw partition whose cells were computed from a known list of raw segments. It is dirty
//! when a raw segment overlaps it that is not in the list. Spans never overlap.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{RolledSpan, SegmentMeta};
use crate::model::{HOUR_NS, Tier, TimeRange, ceil_to, floor_to};
use crate::rolled::{ByTime, RawSegment, is_frozen};

/// When a span is rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PickSettings<'a> {
    /// How long after its end an hour is left alone, because rows for it may still come.
    pub(crate) lateness_ns: i64,
    /// Whether to roll everything now: what is not rolled yet becomes as few spans as possible.
    pub(crate) force: bool,
    /// Spans that begin before this time are never rolled again, because raw rows they were computed from are gone
    /// by retention; `i64::MIN`: none are.
    pub(crate) raw_floor_ns: i64,
    /// Spans that overlap these times wait unless forced: rows for them were flushed just now, and more may come.
    pub(crate) receiving: &'a [TimeRange],
}

/// The hour that the newest raw segment ends in. While history is filled in, in order of time, that hour closed long
/// ago, and yet the next flush brings more of it: what is merged or rolled now would be merged or rolled again.
pub(crate) fn newest_hour(segments: &[SegmentMeta]) -> Option<TimeRange> {
    let raw = segments.iter().filter(|meta| meta.tier == Tier::Raw);
    let newest = raw.max_by_key(|meta| (meta.generation, meta.max_ts_ns))?;
    let start_ns = floor_to(newest.max_ts_ns, HOUR_NS);
    Some(TimeRange::new(start_ns, start_ns.saturating_add(HOUR_NS)))
}

/// One span to roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    /// The span: whole hours within one raw partition.
    pub(crate) span: TimeRange,
    /// Ids of the raw segments that overlap it, ascending: what to read, and what the new span covers.
    pub(crate) inputs: Vec<u64>,
    /// The rolled span whose cells it replaces; the same range as `span`.
    pub(crate) replaces: Option<TimeRange>,
}

/// Chooses the spans to roll, ascending by time: dirty rolled spans as they are, but for those that hold more than
/// the raw rows that are left, and of what is not rolled yet each
/// hour with data that closed `lateness_ns` ago; with `force` each gap between rolled spans of a partition that
/// has data, as one.
pub(crate) fn pick(
    raw: &[RawSegment],
    rolled: &[RolledSpan],
    now_ns: i64,
    settings: PickSettings<'_>,
) -> Vec<Work> {
    let segments = ByTime::new(raw);
    let is_due = |span: &TimeRange| {
        let is_closed = span.end_ns.saturating_add(settings.lateness_ns) <= now_ns;
        let is_receiving = settings.receiving.iter().any(|times| times.overlaps(span));
        settings.raw_floor_ns <= span.start_ns && (settings.force || (is_closed && !is_receiving))
    };
    let live: BTreeSet<u64> = raw.iter().map(|segment| segment.id).collect();
    let mut works = Vec::new();
    for rolled in rolled.iter().filter(|rolled| is_due(&rolled.span) && !is_frozen(rolled, &live)) {
        let inputs = segments.overlapping(&rolled.span);
        if is_dirty(&inputs, &rolled.covers) {
            let replaces = Some(rolled.span);
            works.push(Work { span: rolled.span, inputs: ids(&inputs), replaces });
        }
    }
    let gaps = gaps(raw, rolled, settings.raw_floor_ns);
    let candidates = if settings.force { gaps } else { hours_with_data(&segments, &gaps) };
    for span in candidates.into_iter().filter(is_due) {
        let inputs = segments.overlapping(&span);
        if !inputs.is_empty() {
            works.push(Work { span, inputs: ids(&inputs), replaces: None });
        }
    }
    works.sort_by_key(|work| work.span.start_ns);
    works
}

/// Spans rolled at a time. Each holds buffers of three files, and a flush that falls due waits for all of them.
const TOGETHER_MAX: usize = 4;
/// Segments that spans are rolled from at a time: a roll holds a page of each. Where there are more, spans are rolled one
/// by one, and merges go before.
pub(crate) const INPUTS_MAX: usize = 16;

/// Cuts ascending works into those that are rolled together: neighbours that share a segment, when there are few.
pub(crate) fn together(works: &[Work]) -> Vec<&[Work]> {
    let shares = |one: &Work, next: &Work| one.inputs.iter().any(|id| next.inputs.contains(id));
    let together = works.chunk_by(shares).flat_map(|works| works.chunks(TOGETHER_MAX));
    let is_light = |works: &[Work]| {
        let inputs: BTreeSet<u64> = works.iter().flat_map(|work| work.inputs.iter().copied()).collect();
        inputs.len() <= INPUTS_MAX
    };
    together.flat_map(|works| works.chunks(if is_light(works) { TOGETHER_MAX } else { 1 })).collect()
}

/// Whether cells that cover `covers` lack one of these segments.
fn is_dirty(segments: &[RawSegment], covers: &[u64]) -> bool {
    let covers: BTreeSet<u64> = covers.iter().copied().collect();
    segments.iter().any(|segment| !covers.contains(&segment.id))
}

fn ids(segments: &[RawSegment]) -> Vec<u64> {
    let mut ids: Vec<u64> = segments.iter().map(|segment| segment.id).collect();
    ids.sort_unstable();
    ids
}

/// What the rolled spans leave of each partition that has raw segments, ascending and disjoint, from the raw floor
/// on. After a change of the retention partitions of different width may overlap: each time is given to the first.
fn gaps(raw: &[RawSegment], rolled: &[RolledSpan], raw_floor_ns: i64) -> Vec<TimeRange> {
    let mut spans: Vec<TimeRange> = rolled.iter().map(|rolled| rolled.span).collect();
    spans.sort_by_key(|span| span.start_ns);
    let mut partitions = BTreeMap::new();
    for segment in raw {
        partitions.insert((segment.partition.start_ns, segment.partition.end_ns), segment.partition);
    }
    let mut gaps = Vec::new();
    let mut done_ns = ceil_to(raw_floor_ns, HOUR_NS);
    for partition in partitions.into_values() {
        let first = spans.partition_point(|span| span.end_ns <= partition.start_ns);
        let within = spans.iter().skip(first).take_while(|span| span.start_ns < partition.end_ns);
        let mut start_ns = partition.start_ns.max(done_ns);
        for span in within {
            gaps.push(TimeRange::new(start_ns, span.start_ns));
            start_ns = start_ns.max(span.end_ns);
        }
        gaps.push(TimeRange::new(start_ns, partition.end_ns));
        done_ns = done_ns.max(partition.end_ns);
    }
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// The hours of the gaps that a segment may have rows in.
fn hours_with_data(segments: &ByTime, gaps: &[TimeRange]) -> Vec<TimeRange> {
    let mut hours = BTreeSet::new();
    for gap in gaps {
        for segment in segments.overlapping(gap) {
            let mut hour_ns = floor_to(segment.min_ns.max(gap.start_ns), HOUR_NS);
            while hour_ns <= segment.max_ns && hour_ns < gap.end_ns {
                hours.insert(hour_ns);
                hour_ns = hour_ns.saturating_add(HOUR_NS);
            }
        }
    }
    hours.into_iter().map(|hour_ns| TimeRange::new(hour_ns, hour_ns.saturating_add(HOUR_NS))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DAY_NS, MINUTE_NS};

    const SETTINGS: PickSettings<'_> =
        PickSettings { lateness_ns: 10 * MINUTE_NS, force: false, raw_floor_ns: i64::MIN, receiving: &[] };
    const FORCE: PickSettings<'_> = PickSettings { force: true, ..SETTINGS };
    const DAY: TimeRange = TimeRange { start_ns: 0, end_ns: DAY_NS };

    fn segment(id: u64, min_minute: i64, max_minute: i64) -> RawSegment {
        RawSegment { id, partition: DAY, min_ns: min_minute * MINUTE_NS, max_ns: max_minute * MINUTE_NS }
    }

    fn hours(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start * HOUR_NS, end * HOUR_NS)
    }

    fn rolled(span: TimeRange, covers: &[u64]) -> RolledSpan {
        RolledSpan { span, covers: covers.to_vec() }
    }

    fn work(span: TimeRange, inputs: &[u64], replaces: Option<TimeRange>) -> Work {
        Work { span, inputs: inputs.to_vec(), replaces }
    }

    #[test]
    fn together_neighbours_that_share_a_segment() {
        let works = |inputs: &[&[u64]]| -> Vec<Work> {
            (0..).zip(inputs).map(|(at, inputs)| work(hours(at, at + 1), inputs, None)).collect()
        };
        let lengths = |works: &[Work]| together(works).iter().map(|works| works.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&works(&[&[1], &[1, 2], &[2], &[3], &[4]])), [3, 1, 1]);
        assert_eq!(lengths(&works(&[&[1][..]; 9])), [4, 4, 1], "a bound on the time until a flush");
        assert_eq!(
            lengths(&works(&[&[1], &[1, 2], &(2..20).collect::<Vec<_>>()])),
            [1, 1, 1],
            "a page of each"
        );
        assert_eq!(lengths(&[]), [] as [usize; 0]);
    }

    #[test]
    fn pick_closed_hours_one_work_for_each_with_data() {
        let raw = [segment(7, 30, 90), segment(3, 70, 80), segment(9, 300, 310)];
        let found = pick(&raw, &[], 6 * HOUR_NS, SETTINGS);
        let expected = [work(hours(0, 1), &[7], None), work(hours(1, 2), &[3, 7], None)];
        assert_eq!(found, expected, "the sixth hour closes ten minutes later");
        assert_eq!(pick(&raw, &[], 6 * HOUR_NS + 10 * MINUTE_NS, SETTINGS).len(), 3);
    }

    #[test]
    fn pick_hour_that_is_receiving_waits_unless_forced() {
        let raw = [segment(7, 30, 90)];
        let settings = PickSettings { receiving: &[hours(1, 2)], ..SETTINGS };
        assert_eq!(pick(&raw, &[], DAY_NS, settings), [work(hours(0, 1), &[7], None)]);
        assert_eq!(pick(&raw, &[], DAY_NS, PickSettings { force: true, ..settings }).len(), 1);
        assert_eq!(
            pick(&raw, &[rolled(hours(1, 2), &[])], DAY_NS, settings).len(),
            1,
            "nor is it rolled again"
        );
    }

    #[test]
    fn newest_hour_is_where_the_newest_flush_ended() {
        let meta = |generation: u64, max_minute: i64| SegmentMeta {
            id: generation,
            tier: Tier::Raw,
            partition: DAY,
            min_ts_ns: 0,
            max_ts_ns: max_minute * MINUTE_NS,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation,
        };
        assert_eq!(newest_hour(&[meta(1, 500), meta(2, 90), meta(2, 30)]), Some(hours(1, 2)));
        assert_eq!(newest_hour(&[]), None);
    }

    #[test]
    fn pick_row_exactly_on_the_hour_belongs_to_the_hour_it_begins() {
        let found = pick(&[segment(1, 60, 60)], &[], DAY_NS, SETTINGS);
        assert_eq!(found, [work(hours(1, 2), &[1], None)]);
    }

    #[test]
    fn pick_dirty_span_is_rolled_again_as_it_is() {
        let raw = [segment(1, 0, 100), segment(2, 200, 250), segment(3, 50, 55)];
        let spans = [rolled(hours(0, 2), &[1]), rolled(hours(3, 5), &[2])];
        let found = pick(&raw, &spans, DAY_NS, SETTINGS);
        assert_eq!(found, [work(hours(0, 2), &[1, 3], Some(hours(0, 2)))]);
    }

    #[test]
    fn pick_clean_spans_need_nothing() {
        let raw = [segment(1, 0, 100)];
        assert_eq!(pick(&raw, &[rolled(hours(0, 2), &[1])], DAY_NS, SETTINGS), []);
    }

    #[test]
    fn pick_force_takes_the_whole_partition_at_once() {
        let raw = [segment(1, 30, 90), segment(2, 900, 910)];
        assert_eq!(pick(&raw, &[], 0, FORCE), [work(DAY, &[1, 2], None)]);
    }

    #[test]
    fn pick_force_takes_what_rolled_spans_leave() {
        let raw = [segment(1, 30, 90), segment(2, 900, 910)];
        let found = pick(&raw, &[rolled(hours(0, 1), &[1])], 0, FORCE);
        assert_eq!(found, [work(hours(1, 24), &[1, 2], None)]);
    }

    #[test]
    fn pick_force_with_overlapping_partitions_gives_disjoint_spans() {
        // The retention was changed: an hour's partition lies in a day's.
        let hour = RawSegment { partition: hours(1, 2), ..segment(2, 70, 80) };
        let raw = [segment(1, 30, 90), hour];
        assert_eq!(pick(&raw, &[], 0, FORCE), [work(DAY, &[1, 2], None)]);
        let raw = [segment(1, 30, 90), RawSegment { partition: hours(0, 1), ..segment(2, 10, 20) }];
        let expected = [work(hours(0, 1), &[1, 2], None), work(hours(1, 24), &[1], None)];
        assert_eq!(pick(&raw, &[], 0, FORCE), expected);
    }

    #[test]
    fn pick_force_takes_only_what_lies_above_the_raw_floor() {
        let settings = PickSettings { raw_floor_ns: HOUR_NS, ..FORCE };
        assert_eq!(pick(&[segment(1, 30, 90)], &[], 0, settings), [work(hours(1, 24), &[1], None)]);
    }

    #[test]
    fn pick_span_whose_raw_rows_are_gone_is_left_alone() {
        let settings = PickSettings { raw_floor_ns: HOUR_NS, ..SETTINGS };
        let raw = [segment(1, 30, 90)];
        let found = pick(&raw, &[rolled(hours(0, 1), &[])], DAY_NS, settings);
        assert_eq!(found, [work(hours(1, 2), &[1], None)]);
    }

    #[test]
    fn pick_span_that_holds_rows_of_a_lost_segment_is_left_alone() {
        let raw = [segment(2, 10, 20)];
        assert_eq!(pick(&raw, &[rolled(hours(0, 1), &[1])], DAY_NS, SETTINGS), []);
    }
}
