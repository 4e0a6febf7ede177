//! Deletes: hidden at once, purged by the jobs alone, the same through rolls, retention and power cuts.

use super::world::{Content, TestRow, add, content, delete, env, windows, write};
use super::*;
use crate::fs::sim::Fault;
use crate::model::Value;

const HOSTS: [&str; 2] = ["a", "b"];

fn try_open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>, raw: Option<Duration>) -> Result<Engine> {
    let options = Options { free_bytes_min: 0, tombstones_max: 3, ..Options::default() };
    Engine::open(env(fs, clock), Path::new("/db"), options, Retention { raw, ..Retention::FOREVER })
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS))
}

fn new_engine(raw: Option<Duration>) -> (Engine, Arc<ManualClock>) {
    let clock = clock();
    (try_open(&Arc::new(SimFs::default()), &clock, raw).unwrap(), clock)
}

/// A row every 20 s over two hours for each host, and one row of another measurement.
fn rows() -> Vec<TestRow> {
    let row = |measurement, host, ts_ns, number| TestRow {
        measurement,
        host,
        ts_ns,
        fields: vec![("float", Value::Float(number as f64))],
    };
    let times = (0..360).map(|k| (START_NS + k * 20 * SECOND_NS, k));
    let rows = HOSTS.iter().flat_map(|host| times.clone().map(|(ts_ns, k)| row("cpu", *host, ts_ns, k)));
    rows.chain([row("net", "a", START_NS, 7)]).collect()
}

fn expected(is_left: impl Fn(&str, &str, i64) -> bool) -> Content {
    let mut left = Content::new();
    let rows = rows().into_iter().filter(|row| is_left(row.measurement, row.host, row.ts_ns));
    rows.for_each(|row| add(&mut left, &row));
    left
}

fn minutes(start: i64, end: i64) -> TimeRange {
    TimeRange::new(START_NS + start * MINUTE_NS, START_NS + end * MINUTE_NS)
}

/// Rows by host in windows of this width, from the coarsest cells that there are.
fn counts(engine: &Engine, host: &str, width_ns: i64) -> Vec<u64> {
    let asked = windows_of(START_NS, width_ns, 2 * HOUR_NS / width_ns);
    let (found, coverage) = windows(engine, ("cpu", host, "float"), &asked, Bounds::RightOpen);
    assert_eq!(coverage.rounded, None);
    match found.is_empty() {
        true => vec![0; asked.len()],
        false => found.iter().map(Partial::count).collect(),
    }
}

#[test]
fn delete_hides_at_once_and_purges_without_writes() {
    let (engine, _) = new_engine(None);
    write(&engine, &rows()).unwrap();
    engine.seal().unwrap();
    let before = engine.view();
    let range = TimeRange::new(START_NS + 30 * MINUTE_NS + 7, START_NS + 61 * MINUTE_NS + 9);
    let left = expected(|of, host, ts_ns| of == "net" || host == "b" || !range.contains(ts_ns));
    let rows_before = engine.stats().segment_rows[0];
    let report = delete(&engine, "cpu", Some("a"), range).unwrap();
    assert_eq!(report, DeleteReport { segments: 4, rounded: None });
    assert!(engine.stats().wal_bytes < 100, "the log forgets the rows, too, but for a header");
    assert_eq!((content(&*engine.view()), engine.stats().tombstones), (left.clone(), 1));
    // Masked and purged give the same windows; masked ones come from raw rows.
    for _ in 0..2 {
        assert_eq!(counts(&engine, "a", HOUR_NS), [91, 176]);
        assert_eq!(counts(&engine, "b", HOUR_NS), [180, 180]);
        assert_eq!(counts(&engine, "a", 5 * MINUTE_NS)[5..13], [15, 1, 0, 0, 0, 0, 0, 11]);
        engine.maintain().unwrap();
    }
    assert_eq!((content(&*engine.view()), engine.stats().tombstones), (left.clone(), 0));
    assert_eq!(engine.stats().segment_rows[0], rows_before - 93);
    let hour = [Window { start_ns: START_NS, end_ns: START_NS + HOUR_NS }];
    let (_, coverage) = windows(&engine, ("cpu", "a", "float"), &hour, Bounds::RightOpen);
    assert_eq!((coverage.rows, coverage.cells, coverage.pages), (0, [0, 0, 1], 1), "from cells again");
    assert_eq!(content(&*before).len(), rows().len(), "a view is of one moment");
    assert_eq!(
        delete(&engine, "cpu", Some("a"), range).unwrap().segments,
        4,
        "the pages still span the time"
    );
}

#[test]
fn delete_again_notes_nothing_and_too_many_are_refused() {
    let (engine, _) = new_engine(None);
    write(&engine, &rows()).unwrap();
    let repeat = |start| delete(&engine, "cpu", None, minutes(start, start + 1));
    for start in [0, 1, 2, 0, 1] {
        repeat(start).unwrap();
    }
    assert_eq!(engine.stats().tombstones, 3);
    assert_eq!(repeat(3).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(delete(&engine, "cpu", None, minutes(5, 5)).unwrap_err().kind(), ErrorKind::InvalidInput);
    engine.maintain().unwrap();
    repeat(3).unwrap();
    assert_eq!(
        content(&*engine.view()),
        expected(|of, _, ts_ns| of == "net" || minutes(4, 120).contains(ts_ns))
    );
    engine.close().unwrap();
    assert_eq!(repeat(4).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn written_again_after_the_delete_is_there() {
    let (engine, _) = new_engine(None);
    let mut left = expected(|of, _, _| of == "net");
    write(&engine, &rows()).unwrap();
    engine.seal().unwrap();
    delete(&engine, "cpu", None, TimeRange::ALL).unwrap();
    let again: Vec<TestRow> = rows().into_iter().filter(|row| row.measurement == "cpu").step_by(7).collect();
    write(&engine, &again).unwrap();
    again.iter().for_each(|row| add(&mut left, row));
    for _ in 0..3 {
        assert_eq!(content(&*engine.view()), left);
        assert_eq!(counts(&engine, "a", HOUR_NS).iter().sum::<u64>(), 52);
        engine.seal().unwrap();
    }
    assert_eq!(engine.stats().tombstones, 0);
}

#[test]
fn deleted_measurement_is_not_listed_until_it_is_written_again() {
    let (engine, _) = new_engine(None);
    write(&engine, &rows()).unwrap();
    delete(&engine, "net", None, TimeRange::ALL).unwrap();
    for _ in 0..2 {
        let names = engine.view().measurements();
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["cpu"]);
        assert_eq!(engine.view().schema("net"), None);
        engine.maintain().unwrap();
    }
    write(&engine, &rows()).unwrap();
    assert_eq!(engine.view().measurements().len(), 2);
}

#[test]
fn purge_of_all_rows_leaves_no_file() {
    let (engine, _) = new_engine(None);
    write(&engine, &rows()).unwrap();
    engine.seal().unwrap();
    delete(&engine, "cpu", None, TimeRange::ALL).unwrap();
    delete(&engine, "net", Some("a"), TimeRange::ALL).unwrap();
    engine.maintain().unwrap();
    assert_eq!((engine.stats().segments, engine.stats().tombstones), ([0; 4], 0));
    assert_eq!(content(&*engine.view()), Content::new());
}

/// Two hours of cells; the raw rows are gone.
fn without_raw(floors_gone: usize) -> Engine {
    let (engine, clock) = new_engine(hours(2));
    write(&engine, &rows()).unwrap();
    engine.seal().unwrap();
    let age = |place| if place < floors_gone { hours(2) } else { None };
    let retention = Retention { raw: hours(2), m1: age(1), m5: age(2), h1: None };
    engine.set_retention(retention).unwrap();
    clock.set(START_NS + 6 * HOUR_NS);
    engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(engine.stats().segments[0], 0);
    engine
}

#[test]
fn delete_without_raw_rows_takes_whole_cells_of_the_finest_tier() {
    // Seconds 7:30 to 21:00 of the first hour: from minute 7, or minute 5, or the hour. The finer layers hold rows, so
    // that the end is exact.
    let range = TimeRange::new(START_NS + 450 * SECOND_NS, START_NS + 1260 * SECOND_NS);
    let five = |of_first: &[u64]| [of_first, &vec![15; 24 - of_first.len()]].concat();
    for (gone, tier, first_hour, fives) in [
        (1, Tier::M1, 180 - 42, Some(five(&[15, 6, 0, 0, 12]))),
        (2, Tier::M5, 180 - 48, Some(five(&[15, 0, 0, 0, 12]))),
        (3, Tier::H1, 0, None),
    ] {
        let engine = without_raw(gone);
        let report = delete(&engine, "cpu", Some("a"), range).unwrap();
        assert_eq!(report.rounded, Some(tier));
        for round in ["masked", "purged"] {
            assert_eq!(counts(&engine, "a", HOUR_NS), [first_hour, 180], "{tier:?} {round}");
            assert_eq!(counts(&engine, "b", HOUR_NS), [180, 180], "{tier:?} {round}");
            if let Some(fives) = &fives {
                assert_eq!(counts(&engine, "a", 5 * MINUTE_NS), *fives, "{tier:?} {round}");
                assert_eq!(counts(&engine, "b", 5 * MINUTE_NS), [15; 24], "{tier:?} {round}");
            }
            engine.maintain().unwrap();
        }
        assert_eq!(engine.stats().tombstones, 0);
        let hour = [Window { start_ns: START_NS, end_ns: START_NS + HOUR_NS }];
        let (_, coverage) = windows(&engine, ("cpu", "b", "float"), &hour, Bounds::RightOpen);
        assert_eq!(coverage.cells, [0, 0, 1], "from the coarsest again");
    }
}

#[test]
fn delete_on_the_edges_of_cells_is_not_rounded() {
    let engine = without_raw(1);
    assert_eq!(delete(&engine, "cpu", None, minutes(3, 71)).unwrap().rounded, None);
    assert_eq!(counts(&engine, "b", HOUR_NS), [9, 147]);
    assert_eq!(delete(&engine, "cpu", None, TimeRange::ALL).unwrap().rounded, None);
    assert_eq!(counts(&engine, "b", HOUR_NS), [0, 0]);
}

/// Raw rows of the second hour, cells alone of the first; a delete over both, then the purge and a late write.
fn work(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> (bool, Option<Engine>) {
    let Ok(engine) = try_open(fs, clock, hours(3)) else { return (false, None) };
    let is_acked = delete(&engine, "cpu", Some("a"), minutes(30, 90)).is_ok_and(|report| report.segments > 0);
    drop(engine.maintain());
    drop(engine.maintain());
    (is_acked, Some(engine))
}

fn prepared() -> (Arc<SimFs>, Arc<ManualClock>) {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let engine = try_open(&fs, &clock, hours(3)).unwrap();
    write(&engine, &rows()).unwrap();
    engine.seal().unwrap();
    clock.set(START_NS + 4 * HOUR_NS + MINUTE_NS);
    engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(engine.store.version().floors_ns[0], START_NS + HOUR_NS);
    // Not flushed: the delete does it.
    let late = TestRow {
        measurement: "cpu",
        host: "a",
        ts_ns: START_NS + 80 * MINUTE_NS + 1,
        fields: vec![("float", Value::Float(0.5))],
    };
    write(&engine, &[late]).unwrap();
    (fs, clock)
}

/// Whether the delete took place; it did so as a whole or not at all.
fn check(engine: &Engine, place: &str) -> bool {
    let found = (counts(engine, "a", HOUR_NS), counts(engine, "b", HOUR_NS));
    let is_deleted = found.0 == [90, 90];
    assert!(is_deleted || found.0 == [180, 181], "{place}: {found:?}");
    assert_eq!(found.1, [180, 180], "{place}");
    let fives = counts(engine, "a", 5 * MINUTE_NS);
    assert_eq!(fives.iter().sum::<u64>(), found.0.iter().sum::<u64>(), "{place}: {fives:?}");
    is_deleted
}

#[test]
fn fault_at_every_operation_of_delete_and_purge_keeps_it_whole() {
    let (whole, clock) = prepared();
    whole.restart();
    let first = whole.operations();
    let (is_acked, engine) = work(&whole, &clock);
    assert!(is_acked && check(&engine.unwrap(), "no fault"));
    let operations = whole.operations();
    assert!(first + 40 < operations, "{first} to {operations}");
    for fault in Fault::ALL {
        for operation in first..operations {
            let place = format!("{fault:?} at operation {operation}");
            let (fs, clock) = prepared();
            fs.restart();
            fs.fail_at(operation, fault);
            let (is_acked, engine) = work(&fs, &clock);
            if let (Some(engine), true) = (&engine, fault != Fault::PowerCut) {
                assert!(check(engine, &place) || !is_acked, "{place}: acknowledged and not hidden");
            }
            match operation % 2 {
                _ if fault == Fault::PowerCut => fs.crash(operation),
                0 => fs.crash(operation),
                _ => fs.restart(),
            }
            drop(engine);
            let engine = try_open(&fs, &clock, hours(3)).unwrap_or_else(|error| panic!("{place}: {error}"));
            let is_deleted = check(&engine, &place);
            assert!(is_deleted || !is_acked, "{place}: deleted rows are back");
            engine.maintain().unwrap();
            assert_eq!((check(&engine, &place), engine.stats().tombstones), (is_deleted, 0), "{place}");
        }
    }
}
