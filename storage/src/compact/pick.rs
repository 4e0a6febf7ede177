//! Which raw segments to merge: a pure choice on sizes and times.
//!
//! Within a partition, segments are merged in runs of neighbouring generations (so that the later write still wins
//! afterwards). An open partition merges runs of similar size, which bounds how often a row is rewritten; a closed
//! one is merged into a single segment once.
//!
//! After a change of the retention, partitions of different width share hours. A run then ends where a segment of
//! another partition comes between its generations: the output takes the last generation, and would otherwise
//! carry old rows past newer ones.

use std::collections::BTreeMap;

use super::reaches;
use crate::manifest::SegmentMeta;
use crate::model::{Tier, TimeRange};

/// Neighbours of one size class that are merged together.
const RUN_LEN_MIN: usize = 4;
/// Sizes within this factor are one class.
const CLASS_FACTOR: u64 = 4;

/// Segments to replace by one, oldest generation first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) inputs: Vec<u64>,
}

/// What to merge now. `closed_before_ns`: partitions that end here or earlier take no more rows as a rule, except
/// those that overlap `receiving`; `i64::MAX` without such an exception merges every partition into one segment.
pub(crate) fn pick(
    segments: &[SegmentMeta],
    closed_before_ns: i64,
    receiving: Option<TimeRange>,
) -> Vec<Merge> {
    let mut partitions: BTreeMap<(i64, i64), Vec<&SegmentMeta>> = BTreeMap::new();
    for meta in segments.iter().filter(|meta| meta.tier == Tier::Raw) {
        partitions.entry((meta.partition.start_ns, meta.partition.end_ns)).or_default().push(meta);
    }
    let mut merges = Vec::new();
    for ((start_ns, end_ns), mut members) in partitions {
        let is_receiving = receiving.is_some_and(|hour| hour.overlaps(&TimeRange::new(start_ns, end_ns)));
        let is_closed = end_ns <= closed_before_ns && !is_receiving;
        members.sort_by_key(|meta| (meta.generation, meta.id));
        for neighbours in unbroken_runs(&members, segments) {
            let run = if is_closed { neighbours } else { similar_run(neighbours) };
            if run.len() > 1 {
                merges.push(Merge { inputs: run.iter().map(|meta| meta.id).collect() });
            }
        }
    }
    merges
}

/// Cuts the segments of a partition wherever one of another partition, with rows in its time, lies between.
fn unbroken_runs<'a, 'b>(
    members: &'a [&'b SegmentMeta],
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
    members.chunk_by(is_unbroken).collect()
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
    // Everything below a mebibyte is one class: such segments cost more to open than to read.
    (bytes >> 20).max(1).ilog(CLASS_FACTOR)
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
        let merges = pick(&segments, closed_before_ns, None);
        let inputs: Vec<&[u64]> = merges.iter().map(|merge| &merge.inputs[..]).collect();
        assert_eq!(inputs, expected, "sizes {sizes:?}");
    }

    #[test]
    fn pick_open_partition_merges_runs_of_similar_size() {
        check(&[1, 1, 1], 0, &[]);
        check(&[1, 1, 1, 1], 0, &[&[1, 2, 3, 4]]);
        check(&[100, 1, 1, 1, 1], 0, &[&[2, 3, 4, 5]]);
        check(&[100, 1, 1, 1], 0, &[]);
        check(&[20, 20, 20, 20, 1], 0, &[&[1, 2, 3, 4]]);
    }

    #[test]
    fn pick_stranger_between_generations_cuts_the_run() {
        // An hour's segments 1, 3 and 4 and a day's segment 2 over the same time: rows of 2 win over those of 1.
        let mut segments: Vec<SegmentMeta> = (1..=4).map(|id| meta(id, 0, 1)).collect();
        segments[1].partition.end_ns = 100;
        assert_eq!(pick(&segments, i64::MAX, None), [Merge { inputs: vec![3, 4] }]);
        segments[1].partition.start_ns = 50;
        segments[1].min_ts_ns = 50;
        segments[1].max_ts_ns = 50;
        assert_eq!(
            pick(&segments, i64::MAX, None),
            [Merge { inputs: vec![1, 3, 4] }],
            "other times do not matter"
        );
    }

    #[test]
    fn pick_closed_partition_merges_all_into_one() {
        check(&[100, 1], 10, &[&[1, 2]]);
        check(&[100], 10, &[]);
        let segments = [meta(1, 0, 100), meta(2, 0, 1)];
        assert_eq!(pick(&segments, 10, Some(TimeRange::new(9, 20))), [], "more is coming");
        assert_eq!(pick(&segments, 10, Some(TimeRange::new(10, 20))).len(), 1);
    }
}
