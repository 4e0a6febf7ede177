//! The choice on its own, over made-up manifests.

use std::collections::BTreeSet;
use std::time::Duration;

use super::pick::{Facts, RAW_MARGIN_NS, class_floors, pick};
use super::{Guard, Hold, RetentionPlan};
use crate::manifest::{RolledSpan, SegmentMeta};
use crate::model::{DAY_NS, HOUR_NS, MeasurementId, Tier, TimeRange};
use crate::options::Retention;
use crate::tombstone::Tombstone;

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
fn pick_raw_goes_when_no_write_of_its_time_can_be_on_its_way() {
    let segments = [meta(1, Tier::Raw, 0), meta(2, Tier::M1, 0)];
    let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
    let mut facts = Facts { now_ns: 3 * HOUR_NS, ..facts(&segments, &rolled, Guard::Forced) };
    facts.retention.m1 = facts.retention.raw;
    for (now_ns, gone) in [(-1, &[][..]), (0, &[2]), (RAW_MARGIN_NS - 1, &[2]), (RAW_MARGIN_NS, &[1, 2])] {
        facts.now_ns = 3 * HOUR_NS + now_ns;
        assert_eq!(pick(&facts).remove, gone, "{now_ns}");
    }
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
    let segments = [meta(1, Tier::M1, 0), meta(2, Tier::M1, 1), meta(3, Tier::H1, 1), meta(4, Tier::H1, 0)];
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
    assert_eq!(pick(&facts(&segments, &rolled, Guard::Forced)).remove, [], "the span would be cut in two");
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
    assert!(choice.remove.is_empty() && choice.held == [Some(Hold::Clock), None, None, None]);
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
    assert_eq!(choice.held, [None, Some(Hold::Pace), None, None]);
}

#[test]
fn plan_puts_each_file_in_one_list_and_tells_when_the_next_go() {
    let segments = [
        meta(1, Tier::Raw, 0),
        meta(2, Tier::Raw, 1),
        meta(3, Tier::Raw, 4),
        meta(4, Tier::Raw, 4),
        meta(5, Tier::M1, 0),
    ];
    let rolled = [RolledSpan { span: segments[0].partition, covers: vec![1] }];
    let plan = RetentionPlan::of(&facts(&segments, &rolled, Guard::Forced));
    let ids = |metas: &[SegmentMeta]| metas.iter().map(|meta| meta.id).collect::<Vec<_>>();
    let raw = &plan.tiers[0];
    assert_eq!((ids(&raw.goes), ids(&raw.held), ids(&raw.kept)), (vec![1], vec![2], vec![3, 4]));
    assert_eq!((raw.hold, raw.next), (Some(Hold::NoCells), Some((7 * HOUR_NS + RAW_MARGIN_NS, 2))));
    let minutes = &plan.tiers[1];
    assert_eq!((ids(&minutes.kept), minutes.hold, minutes.next), (vec![5], None, None), "for ever");
}

#[test]
fn pick_tells_what_holds_raw_rows() {
    let segments = [meta(1, Tier::Raw, 0), meta(2, Tier::Raw, 1), meta(3, Tier::M1, 0)];
    let mut rolled = [RolledSpan { span: TimeRange::new(0, 2 * HOUR_NS), covers: vec![1, 2] }];
    let base = facts(&segments, &[], Guard::Forced);
    let held = |facts: &Facts<'_>| pick(facts).held[0];
    assert_eq!(held(&base), Some(Hold::NoCells));
    let damaged = BTreeSet::from([2]);
    assert_eq!(held(&Facts { damaged: &damaged, ..base }), Some(Hold::NoCells), "the damage lies behind");
    let damaged = BTreeSet::from([1]);
    assert_eq!(held(&Facts { damaged: &damaged, ..base }), Some(Hold::Damaged));
    let late = [TimeRange::new(5, 6)];
    assert_eq!(held(&Facts { memtables: &late, ..base }), Some(Hold::Unflushed));
    let young = Facts { now_ns: 3 * HOUR_NS + RAW_MARGIN_NS, ..base };
    assert_eq!(held(&Facts { rolled: &rolled, ..young }), Some(Hold::Span), "the second hour is too young");
    assert_eq!(held(&Facts { rolled: &rolled, ..base }), None);
    let tombstones = [Tombstone {
        id: 9,
        measurement: MeasurementId(0),
        series: None,
        range: TimeRange::new(0, 5),
        pending: vec![3],
    }];
    assert_eq!(held(&Facts { rolled: &rolled, tombstones: &tombstones, ..base }), Some(Hold::Deletes));
    rolled[0].covers.clear();
    assert_eq!(held(&Facts { rolled: &rolled, ..base }), Some(Hold::NoCells));
}

#[test]
fn class_floors_stand_on_hours_and_wait_for_cells() {
    let segments = [meta(1, Tier::Raw, 0), meta(2, Tier::Raw, 1), meta(3, Tier::Raw, 4)];
    let hour = TimeRange::new(0, HOUR_NS);
    let rolled = [1, 2].map(|id: u64| {
        let start_ns = (id as i64 - 1) * HOUR_NS;
        RolledSpan { span: TimeRange::new(start_ns, start_ns + HOUR_NS), covers: vec![id] }
    });
    let base = Facts { now_ns: 5 * HOUR_NS + RAW_MARGIN_NS, ..facts(&segments, &rolled, Guard::Careful) };
    let age = |hours: u64| Some(Duration::from_secs(3600 * hours));
    let ages = Retention { raw: age(3), m1: age(2), m5: age(6), h1: None };
    let raw = |facts: &Facts<'_>| class_floors(facts, ages)[0];
    assert_eq!(class_floors(&base, ages), [2 * HOUR_NS, 3 * HOUR_NS, -HOUR_NS, i64::MIN]);
    let young = Facts { now_ns: base.now_ns - 1, ..base };
    assert_eq!(class_floors(&young, ages), [HOUR_NS, 3 * HOUR_NS, -HOUR_NS, i64::MIN], "raw rows alone");
    assert_eq!(raw(&Facts { rolled: &rolled[..1], ..base }), HOUR_NS, "the second hour has no cells");
    assert_eq!(raw(&Facts { rolled: &rolled[1..], ..base }), hour.start_ns);
    let late = [TimeRange::new(HOUR_NS + 5, HOUR_NS + 6)];
    assert_eq!(raw(&Facts { memtables: &late, ..base }), HOUR_NS);
    let far = Facts { now_ns: 100 * DAY_NS, ..base };
    assert_eq!(class_floors(&far, ages), [i64::MIN; 4]);
    assert_eq!(raw(&Facts { guard: Guard::Forced, ..far }), 4 * HOUR_NS);
}
