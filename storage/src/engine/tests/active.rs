//! Series are named for the hours that they have something in: by rows in memory, by files of rows, by cells where these
//! are all there is, and all of them where that cannot be told.

use super::*;
use crate::retention::Guard;

const HOUR: fn(i64) -> i64 = |hour| START_NS + hour * HOUR_NS;

/// The hosts that are named for a range.
fn named(engine: &Engine, range: TimeRange) -> Vec<String> {
    let view = engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let found = view.series(measurement, &[], range, 100).unwrap();
    let ids: Vec<SeriesId> = found.iter().map(|info| info.id).collect();
    assert_eq!(view.series_ids(measurement, &[], range, 100).unwrap(), ids);
    found.iter().map(|info| info.key.tag("host").unwrap().to_owned()).collect()
}

/// Host a has rows in the first hour, b in the second, both in files, c in the second, in memory.
fn rig() -> Rig {
    let rig = Rig::new(Retention { raw: Some(Duration::from_hours(3)), ..Retention::FOREVER });
    rig.write(&[("a", HOUR(0) + MINUTE_NS, 1.0), ("a", HOUR(1) - 10 * MINUTE_NS, 2.0)]);
    rig.write(&[("b", HOUR(1), 3.0), ("b", HOUR(1) + MINUTE_NS, 4.0)]);
    rig.engine.flush().unwrap();
    rig.write(&[("c", HOUR(2) - MINUTE_NS, 5.0)]);
    rig
}

#[test]
fn series_are_named_for_the_hours_that_they_have_something_in() {
    let rig = rig();
    // While c is in memory; when all are in files, where b and c share one.
    let check = |is_in_files: bool, what: &str| {
        for (range, hosts, in_files) in [
            (TimeRange::ALL, &["a", "b", "c"][..], &["a", "b", "c"][..]),
            (TimeRange::new(HOUR(0), HOUR(1)), &["a"], &["a"]),
            (TimeRange::new(HOUR(1) - 10 * MINUTE_NS, HOUR(1)), &["a"], &["a"]),
            (TimeRange::new(HOUR(1), HOUR(1) + 1), &["b"], &["b", "c"]),
            (TimeRange::new(HOUR(1) - 10 * MINUTE_NS, HOUR(1) + 1), &["a", "b"], &["a", "b", "c"]),
            (TimeRange::new(HOUR(2) - MINUTE_NS, HOUR(2)), &["c"], &["b", "c"]),
            (TimeRange::new(HOUR(-9), HOUR(0)), &[], &[]),
        ] {
            let hosts = if is_in_files { in_files } else { hosts };
            assert_eq!(named(&rig.engine, range), hosts, "{what}, {range:?}");
        }
    };
    check(false, "c in memory");
    rig.engine.seal().unwrap();
    check(true, "in files");
    rig.clock.advance(10 * HOUR_NS);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert!(rig.read().is_empty(), "rows are gone");
    check(true, "in cells alone");
}

#[test]
fn series_of_other_hours_do_not_count_against_a_limit() {
    let rig = rig();
    let view = rig.engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let first_hour = TimeRange::new(HOUR(0), HOUR(1));
    assert_eq!(view.series_ids(measurement, &[], first_hour, 1).unwrap().len(), 1);
    let error = view.series_ids(measurement, &[], TimeRange::ALL, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("3 series of measurement \"cpu\" match"), "{error}");
}

#[test]
fn series_table_that_cannot_be_read_names_all() {
    let rig = rig();
    rig.engine.flush().unwrap();
    let version = rig.engine.store.version();
    let first = version.segments.iter().find(|live| live.meta.min_ts_ns < HOUR(1)).unwrap();
    let section = first.segment.sections().first().unwrap();
    let table = section.series_blocks.first().unwrap().blob;
    let mut bytes = rig.fs.get(first.segment.path()).unwrap();
    bytes[table.offset as usize] ^= 0xff;
    rig.fs.put(first.segment.path(), &bytes);
    assert_eq!(named(&rig.engine, TimeRange::new(HOUR(0), HOUR(1))), ["a", "b", "c"]);
    assert_eq!(named(&rig.engine, TimeRange::new(HOUR(1), HOUR(1) + 1)), ["b"]);
    assert_eq!(rig.read().len(), 5, "its pages are whole");
}
