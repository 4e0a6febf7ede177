//! Which raw segments to merge: a pure choice on sizes and times.
//!
//! Within a partition, segments are merged in runs of neighbouring generations (so that the later write still wins
//! afterwards). An open partition merges runs of similar size, which bounds how often a row is rewritten; what is left
//! is merged when the partition closes. A large segment that shares hardly any time with the others of its partition
//! is left as it is, so that history that comes in order is written once: a merge would find no duplicates there, save
//! a few percent, and a read of a short time would have to go through the pages of the whole partition. Only when
//! asked for, everything becomes one segment.
//!
//! After a change of the retention, partitions of different width share hours. A run then ends where a segment of
//! another partition comes between its generations: the output takes the last generation, and would otherwise
//! carry old rows past newer ones.

use std::collections::BTreeMap;

use super::reaches;
use crate::manifest::SegmentMeta;
use crate::model::{Tier, TimeRange};

/// Neighbours of one size class that are merged together.
const RUN_LEN_MIN: usize = 8;
/// Segments merged at a time: a merge holds a page of each. More of them take more than one pass.
const RUN_LEN_MAX: usize = 16;
/// Sizes within this factor are one class.
const CLASS_FACTOR: u64 = 4;
/// Segments up to this size are one class: they cost more to open than to read.
const CLASS_BYTES_MIN: u64 = 16 << 10;
/// A segment of so many rows is large: 64 full pages.
const LARGE_ROWS_MIN: u64 = 256 * 1024;
/// Large segments may share this part of the shorter one's time: senders side by side are not exactly in step.
const SHARED_PART_MAX: i128 = 8;

/// Segments to replace by one, oldest generation first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) inputs: Vec<u64>,
}

/// What to merge now. `closed_before_ns`: partitions that end here or earlier take no more rows as a rule, except
/// those that overlap what is `receiving`; `i64::MAX` without such an exception merges every partition into one segment, in
/// as many passes as it takes.
pub(crate) fn pick(segments: &[SegmentMeta], closed_before_ns: i64, receiving: &[TimeRange]) -> Vec<Merge> {
    let is_closed = |partition: TimeRange| {
        let is_receiving = receiving.iter().any(|times| times.overlaps(&partition));
        partition.end_ns <= closed_before_ns && !is_receiving
    };
    let leaves_large = closed_before_ns < i64::MAX;
    pick_with(segments, is_closed, |meta, members| leaves_large && is_large_and_apart(meta, members))
}

/// What to merge so that the rows of a time lie in fewer segments, whether its partition is closed or not: those of
/// similar size, and all only where that is not enough.
pub(crate) fn pick_within(segments: &[SegmentMeta], range: TimeRange) -> Vec<Merge> {
    let is_left = |meta: &SegmentMeta, members: &[&SegmentMeta]| {
        !reaches(meta, range) || is_large_and_apart(meta, members)
    };
    let similar = pick_with(segments, |_| false, is_left);
    if similar.is_empty() { pick_with(segments, |_| true, is_left) } else { similar }
}

fn pick_with(
    segments: &[SegmentMeta],
    is_closed: impl Fn(TimeRange) -> bool,
    is_left: impl Fn(&SegmentMeta, &[&SegmentMeta]) -> bool,
) -> Vec<Merge> {
    let mut partitions: BTreeMap<(i64, i64), Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in segments.iter().filter(|meta| meta.tier == Tier::Raw) {
        partitions.entry((meta.partition.start_ns, meta.partition.end_ns)).or_default().push(meta);
    }
    let mut merges = Vec::new();
    for ((start_ns, end_ns), mut members) in partitions {
        let is_closed = is_closed(TimeRange::new(start_ns, end_ns));
        members.sort_by_key(|meta| (meta.generation, meta.id));
        let is_left: Vec<bool> = members.iter().map(|meta| is_left(meta, &members)).collect();
        for neighbours in unbroken_runs(&members, &is_left, segments) {
            let run = if is_closed { neighbours } else { similar_run(neighbours) };
            let merged = parts(run).filter(|part| 1 < part.len());
            merges.extend(merged.map(|part| Merge { inputs: part.iter().map(|meta| meta.id).collect() }));
        }
    }
    merges
}

/// Cuts a run into as few parts as may be, of about equal length.
fn parts<'a, 'b>(run: &'a [&'b SegmentMeta]) -> impl Iterator<Item = &'a [&'b SegmentMeta]> {
    let count = run.len().div_ceil(RUN_LEN_MAX).max(1);
    run.chunks(run.len().div_ceil(count).max(1))
}

/// Whether a segment is left as it is: large, and with hardly any time in common with another one of its partition.
fn is_large_and_apart(meta: &SegmentMeta, members: &[&SegmentMeta]) -> bool {
    let times = |meta: &SegmentMeta| TimeRange::new(meta.min_ts_ns, meta.max_ts_ns.saturating_add(1));
    let length = |range: TimeRange| i128::from(range.end_ns) - i128::from(range.start_ns);
    let own = times(meta);
    let is_apart = |other: &&SegmentMeta| {
        let other = times(other);
        length(own.intersect(&other)).max(0) * SHARED_PART_MAX <= length(own).min(length(other))
    };
    LARGE_ROWS_MIN <= meta.rows && members.iter().filter(|other| other.id != meta.id).all(is_apart)
}

/// Cuts the segments of a partition at those that are left as they are, and wherever one of another partition, with
/// rows in its time, lies between.
fn unbroken_runs<'a, 'b>(
    members: &'a [&'b SegmentMeta],
    is_left: &[bool],
    segments: &[SegmentMeta],
) -> Vec<&'a [&'b SegmentMeta]> {
    let age = |meta: &SegmentMeta| (meta.generation, meta.id);
    let Some(partition) = members.first().map(|meta| meta.partition) else { return Vec::new() };
    let strangers: Vec<_> = segments
        .iter()
        .filter(|meta| meta.tier == Tier::Raw && meta.partition != partition && reaches(meta, partition))
        .map(age)
        .collect();
    let is_unbroken = |left: &&SegmentMeta, right: &&SegmentMeta| {
        !strangers.iter().any(|stranger| age(left) < *stranger && *stranger < age(right))
    };
    let mut runs = Vec::new();
    let mut start = 0;
    for ends in is_left.chunk_by(|left, right| !left && !right) {
        let end = start + ends.len();
        if !ends.contains(&true) {
            runs.extend(members.get(start..end).unwrap_or_default().chunk_by(is_unbroken));
        }
        start = end;
    }
    runs
}

/// The newest run of neighbours of one size class, when it is long enough.
fn similar_run<'a, 'b>(members: &'a [&'b SegmentMeta]) -> &'a [&'b SegmentMeta] {
    let mut end = members.len();
    while end >= RUN_LEN_MIN {
        let class = members[..end].last().map_or(0, |meta| class(meta.bytes));
        let len = members[..end].iter().rev().take_while(|meta| class_of(meta) <= class).count();
        if len >= RUN_LEN_MIN {
            return &members[end - len..end];
        }
        end -= len.max(1);
    }
    &[]
}

fn class_of(meta: &&&SegmentMeta) -> u32 {
    class(meta.bytes)
}

fn class(bytes: u64) -> u32 {
    (bytes / CLASS_BYTES_MIN).max(1).ilog(CLASS_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(id: u64, start_ns: i64, mebibytes: u64) -> SegmentMeta {
        SegmentMeta {
            id,
            tier: Tier::Raw,
            partition: TimeRange::new(start_ns, start_ns + 10),
            min_ts_ns: start_ns,
            max_ts_ns: start_ns,
            rows: 1,
            bytes: mebibytes << 20,
            footer_crc: 0,
            generation: id,
        }
    }

    fn check(sizes: &[u64], closed_before_ns: i64, expected: &[&[u64]]) {
        let segments: Vec<SegmentMeta> = (1..).zip(sizes).map(|(id, size)| meta(id, 0, *size)).collect();
        let merges = pick(&segments, closed_before_ns, &[]);
        let inputs: Vec<&[u64]> = merges.iter().map(|merge| &merge.inputs[..]).collect();
        assert_eq!(inputs, expected, "sizes {sizes:?}");
    }

    #[test]
    fn pick_open_partition_merges_runs_of_similar_size() {
        check(&[1; 7], 0, &[]);
        check(&[1; 8], 0, &[&[1, 2, 3, 4, 5, 6, 7, 8]]);
        check(&[100, 1, 1, 1, 1, 1, 1, 1, 1], 0, &[&[2, 3, 4, 5, 6, 7, 8, 9]]);
        check(&[100, 1, 1, 1, 1, 1, 1, 1], 0, &[]);
        check(&[20, 20, 20, 20, 20, 20, 20, 20, 1], 0, &[&[1, 2, 3, 4, 5, 6, 7, 8]]);
    }

    #[test]
    fn pick_many_segments_merges_a_few_at_a_time() {
        let lengths = |count: usize| {
            let segments: Vec<SegmentMeta> = (1..=count as u64).map(|id| meta(id, 0, 1)).collect();
            pick(&segments, i64::MAX, &[]).iter().map(|merge| merge.inputs.len()).collect::<Vec<_>>()
        };
        assert_eq!([lengths(16), lengths(17), lengths(33)], [vec![16], vec![9, 8], vec![11, 11, 11]]);
        assert_eq!(lengths(219).len(), 14);
    }

    #[test]
    fn pick_large_segments_apart_are_left_as_they_are() {
        let large = |id, min_ts_ns, max_ts_ns| SegmentMeta {
            min_ts_ns,
            max_ts_ns,
            rows: LARGE_ROWS_MIN,
            partition: TimeRange::new(0, 1000),
            ..meta(id, 0, 10)
        };
        let small = |id, min_ts_ns, max_ts_ns| SegmentMeta { rows: 9, ..large(id, min_ts_ns, max_ts_ns) };
        let check = |segments: &[SegmentMeta], expected: &[&[u64]]| {
            let merges = pick(segments, i64::MAX - 1, &[]);
            assert_eq!(merges.iter().map(|merge| &merge.inputs[..]).collect::<Vec<_>>(), expected);
        };
        check(&[large(1, 0, 79), large(2, 70, 149), large(3, 140, 219)], &[]);
        check(&[large(1, 0, 79), large(2, 69, 149)], &[&[1, 2]]);
        check(&[large(1, 0, 79), large(2, 80, 149), small(3, 20, 20)], &[]);
        check(&[large(1, 0, 79), small(2, 20, 20), large(3, 80, 149)], &[&[1, 2]]);
        check(&[small(1, 0, 9), large(2, 10, 90), small(3, 91, 99), small(4, 95, 99)], &[&[3, 4]]);
        assert_eq!(pick(&[large(1, 0, 79), large(2, 80, 149)], i64::MAX, &[]).len(), 1, "asked for");
    }

    #[test]
    fn pick_stranger_between_generations_cuts_the_run() {
        // An hour's segments 1, 3 and 4 and a day's segment 2 over the same time: rows of 2 win over those of 1.
        let mut segments: Vec<SegmentMeta> = (1..=4).map(|id| meta(id, 0, 1)).collect();
        segments[1].partition.end_ns = 100;
        assert_eq!(pick(&segments, i64::MAX, &[]), [Merge { inputs: vec![3, 4] }]);
        segments[1].partition.start_ns = 50;
        segments[1].min_ts_ns = 50;
        segments[1].max_ts_ns = 50;
        assert_eq!(
            pick(&segments, i64::MAX, &[]),
            [Merge { inputs: vec![1, 3, 4] }],
            "other times do not matter"
        );
    }

    #[test]
    fn pick_closed_partition_merges_all_into_one() {
        check(&[100, 1], 10, &[&[1, 2]]);
        check(&[100], 10, &[]);
        let segments = [meta(1, 0, 100), meta(2, 0, 1)];
        assert_eq!(pick(&segments, 10, &[TimeRange::new(9, 20)]), [], "more is coming");
        assert_eq!(pick(&segments, 10, &[TimeRange::new(10, 20)]).len(), 1);
    }

    #[test]
    fn pick_within_merges_the_partitions_of_a_time_alone() {
        let segments = [meta(1, 0, 100), meta(2, 0, 1), meta(3, 10, 1), meta(4, 10, 1)];
        assert_eq!(pick_within(&segments, TimeRange::new(0, 10)), [Merge { inputs: vec![1, 2] }]);
        assert_eq!(pick_within(&segments, TimeRange::new(0, 11)).len(), 2);
        assert_eq!(pick_within(&segments, TimeRange::new(20, 30)), []);
        assert_eq!(pick_within(&segments, TimeRange::new(1, 10)), [], "none of them has rows there");
    }

    #[test]
    fn pick_within_takes_the_large_ones_only_when_it_must() {
        let segments: Vec<SegmentMeta> =
            (1..=10).map(|id| meta(id, 0, if id == 1 { 900 } else { 1 })).collect();
        assert_eq!(pick_within(&segments, TimeRange::new(0, 9))[0].inputs, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(pick_within(&segments[..8], TimeRange::new(0, 9))[0].inputs.len(), 8);
    }
}
