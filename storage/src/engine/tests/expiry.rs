//! Series leave when their rows are gone from every layer, and only then: under writers, faults, crashes and snapshots.

use super::world::{Content, TestRow, add, content, delete, env, write};
use super::*;
use crate::check::check;
use crate::fs::Fs;
use crate::fs::sim::Fault;
use crate::model::Value;

const OPTIONS: fn() -> Options =
    || Options { free_bytes_min: 0, wal_file_bytes_max: 600, ..Options::default() };

fn try_open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Result<Engine> {
    Engine::open(env(fs, clock), Path::new("/db"), OPTIONS(), Retention::FOREVER)
}

fn new_engine() -> (Arc<SimFs>, Arc<ManualClock>, Engine) {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS)));
    let engine = try_open(&fs, &clock).unwrap();
    (fs, clock, engine)
}

fn row(host: &'static str, number: i64) -> TestRow {
    let fields = vec![("int", Value::Int(number))];
    TestRow { measurement: "cpu", host, ts_ns: START_NS + number * SECOND_NS, fields }
}

fn expected(rows: &[TestRow]) -> Content {
    let mut content = Content::new();
    rows.iter().for_each(|row| add(&mut content, row));
    content
}

/// Hosts and ids of the series that are listed.
pub(super) fn listed(engine: &Engine, measurement: &str) -> BTreeMap<String, u32> {
    let catalog = &engine.store.catalog;
    let Some(schema) = catalog.schema(measurement) else { return BTreeMap::new() };
    let series = catalog.select(schema.measurement, &[], 1000).unwrap();
    series.iter().map(|info| (info.key.tag("host").unwrap().to_owned(), info.id.0)).collect()
}

fn hosts(engine: &Engine) -> Vec<String> {
    listed(engine, "cpu").into_keys().collect()
}

/// Deletes all rows of a host and takes them out of the files.
fn purge(engine: &Engine, host: &str) {
    delete(engine, "cpu", Some(host), TimeRange::ALL).unwrap();
    engine.maintain().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
}

fn is_clean(fs: &Arc<SimFs>, place: &str) {
    let report = check(&(Arc::clone(fs) as Arc<dyn Fs>), Path::new("/db")).unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
}

#[test]
fn series_of_purged_rows_leave_and_come_back_under_a_new_id() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1), row("c", 1)]).unwrap();
    engine.seal().unwrap();
    assert_eq!(engine.expire().unwrap(), 0);
    delete(&engine, "cpu", Some("a"), TimeRange::ALL).unwrap();
    assert_eq!(engine.expire().unwrap(), 0, "hidden, and still in the files");
    engine.maintain().unwrap();
    assert_eq!((engine.stats().series, engine.expire().unwrap(), engine.stats().series), (3, 1, 2));
    assert_eq!(hosts(&engine), ["b", "c"]);
    assert_eq!(engine.expire().unwrap(), 0);
    is_clean(&fs, "after the leave");
    fs.crash_losing_unsynced();
    let engine = try_open(&fs, &clock).unwrap();
    assert_eq!(hosts(&engine), ["b", "c"], "it is durable");
    write(&engine, &[row("a", 2), row("b", 2)]).unwrap();
    assert_eq!(listed(&engine, "cpu")["a"], 3);
    fs.crash_losing_unsynced();
    for round in ["from the log", "from a segment"] {
        is_clean(&fs, round);
        let engine = try_open(&fs, &clock).unwrap();
        assert_eq!(listed(&engine, "cpu")["a"], 3, "{round}");
        let left = [row("b", 1), row("c", 1), row("a", 2), row("b", 2)];
        assert_eq!(content(&*engine.view()), expected(&left), "{round}");
        engine.seal().unwrap();
    }
}

#[test]
fn series_past_every_age_leave() {
    let (_, clock, engine) = new_engine();
    let age = hours(3);
    engine.set_retention(Retention { raw: age, m1: age, m5: age, h1: age }).unwrap();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.seal().unwrap();
    clock.advance(6 * HOUR_NS);
    let late = TestRow { ts_ns: START_NS + 6 * HOUR_NS, ..row("b", 2) };
    write(&engine, &[late]).unwrap();
    engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!((engine.stats().segments, engine.expire().unwrap()), ([0; 4], 1));
    assert_eq!(hosts(&engine), ["b"], "the row in memory keeps it");
}

#[test]
fn rows_in_memory_or_in_cells_alone_keep_their_series() {
    let (fs, clock, engine) = new_engine();
    engine.set_retention(Retention { raw: hours(3), ..Retention::FOREVER }).unwrap();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.seal().unwrap();
    clock.advance(6 * HOUR_NS);
    engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!((engine.stats().segments[0], engine.expire().unwrap()), (0, 0), "cells are left");
    purge(&engine, "a");
    let again = TestRow { ts_ns: START_NS + 6 * HOUR_NS, ..row("a", 2) };
    write(&engine, std::slice::from_ref(&again)).unwrap();
    assert_eq!(engine.expire().unwrap(), 0, "a row in memory is left");
    fs.crash_losing_unsynced();
    let engine = try_open(&fs, &clock).unwrap();
    assert_eq!(content(&*engine.view()), expected(&[again]));
    assert_eq!(engine.expire().unwrap(), 0, "a row of the log is left");
}

#[test]
fn jobs_look_once_an_hour_after_something_was_dropped() {
    let (_, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.seal().unwrap();
    engine.maintain().unwrap();
    clock.advance(HOUR_NS);
    engine.maintain().unwrap();
    assert!(
        !engine.store.has_dropped.load(Ordering::Relaxed),
        "nobody knows what an earlier process dropped"
    );
    purge(&engine, "a");
    clock.advance(HOUR_NS - 1);
    engine.maintain().unwrap();
    assert_eq!(hosts(&engine), ["a", "b"]);
    clock.advance(1);
    engine.maintain().unwrap();
    assert_eq!(hosts(&engine), ["b"]);
}

#[test]
fn poisoned_log_lets_no_series_leave() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    purge(&engine, "a");
    // The row is in the log, and not in the memtable: its sync failed.
    fs.fail_at(fs.operations() + 1, Fault::Io);
    write(&engine, &[row("a", 2)]).unwrap_err();
    assert_eq!((engine.expire().unwrap(), hosts(&engine).len()), (0, 2));
    fs.restart();
    let engine = try_open(&fs, &clock).unwrap();
    assert_eq!(content(&*engine.view()), expected(&[row("b", 1), row("a", 2)]));
}

#[test]
fn damaged_segment_keeps_all_series() {
    let (fs, _, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    purge(&engine, "a");
    let path = engine.store.segment_path(engine.store.version().segments[0].meta.id);
    let mut bytes = fs.get(&path).unwrap();
    bytes.iter_mut().skip(8).take(200).for_each(|byte| *byte ^= 0xff);
    fs.put(&path, &bytes);
    assert_eq!(engine.expire().unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(hosts(&engine), ["a", "b"]);
    assert!(engine.store.has_dropped.load(Ordering::Relaxed), "the next look tries again");
}

#[test]
fn view_of_before_still_reads_what_left() {
    let (_, _, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.seal().unwrap();
    let view = engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let ids = view.series_ids(measurement, &[], TimeRange::ALL, 9).unwrap();
    purge(&engine, "a");
    assert_eq!(engine.expire().unwrap(), 1);
    let hosts: Vec<_> =
        view.keys(&ids).unwrap().iter().map(|key| key.tag("host").unwrap().to_owned()).collect();
    assert_eq!(hosts, ["a", "b"]);
    let (request, mut rows) =
        (SampleRequest { measurement, field: FieldId(0), series: &ids, range: TimeRange::ALL }, Vec::new());
    view.samples(&request, &Unmetered, &mut |slice| {
        rows.push((slice.series_idx, slice.values[0]));
        Ok(())
    })
    .unwrap();
    assert_eq!(rows, [(0, 1.0), (1, 1.0)]);
    // Written again it is another series, which the selection does not name.
    write(&engine, &[row("a", 1)]).unwrap();
    assert_eq!(view.keys(&ids).unwrap()[0].to_string(), "cpu{host=\"a\"}");
    assert_eq!(
        engine.view().series_ids(measurement, &[], TimeRange::ALL, 9).unwrap(),
        [SeriesId(1), SeriesId(2)]
    );
}

#[test]
fn snapshot_holds_what_left_and_what_came_again() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1), row("c", 1)]).unwrap();
    purge(&engine, "a");
    engine.snapshot(Path::new("/backups/before")).unwrap();
    assert_eq!(engine.expire().unwrap(), 1);
    purge(&engine, "b");
    write(&engine, &[row("a", 2)]).unwrap();
    assert_eq!(engine.expire().unwrap(), 1);
    engine.snapshot(Path::new("/backups/after")).unwrap();
    drop(engine);
    fs.crash(1);
    for (dir, found) in [
        ("/backups/before", vec![("a", 0), ("b", 1), ("c", 2)]),
        ("/backups/after", vec![("a", 3), ("c", 2)]),
    ] {
        let report = check(&(Arc::clone(&fs) as Arc<dyn Fs>), Path::new(dir)).unwrap();
        assert!(report.is_clean(), "{report:?}");
        let snapshot = Engine::open(env(&fs, &clock), Path::new(dir), OPTIONS(), Retention::FOREVER).unwrap();
        let found: BTreeMap<String, u32> =
            found.into_iter().map(|(host, id)| (host.to_owned(), id)).collect();
        assert_eq!(listed(&snapshot, "cpu"), found);
    }
}

#[test]
fn rows_of_a_series_that_left_are_damage() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.flush().unwrap();
    // What must never happen: the catalog lets a series go whose rows are in a segment, and another with rows in the log.
    write(&engine, &[row("c", 1)]).unwrap();
    let fork = Arc::new(fs.fork());
    engine.store.catalog.leave(&[2].into_iter().collect());
    write(&engine, &[row("b", 2)]).unwrap();
    fs.restart();
    let report = check(&(Arc::clone(&fs) as Arc<dyn Fs>), Path::new("/db")).unwrap();
    assert!(
        report.findings.iter().any(|one| one.what.contains("rows of series 2, which has left")),
        "{report:?}"
    );
    let refused = try_open(&fs, &clock).unwrap_err();
    assert!(refused.kind() == ErrorKind::Corruption && refused.to_string().contains("series 2"), "{refused}");
    let engine = try_open(&fork, &clock).unwrap();
    engine.store.catalog.leave(&[0].into_iter().collect());
    engine.flush().unwrap();
    let report = check(&(Arc::clone(&fork) as Arc<dyn Fs>), Path::new("/db")).unwrap();
    assert!(
        report.findings.iter().any(|one| one.what.contains("series cpu{host=\"a\"} with id 0")),
        "{report:?}"
    );
}

/// A database whose series `a` has no rows any more; `b` and `c` have.
fn prepared() -> (Arc<SimFs>, Arc<ManualClock>) {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("a", 1), row("b", 1)]).unwrap();
    engine.seal().unwrap();
    purge(&engine, "a");
    write(&engine, &[row("c", 1)]).unwrap();
    (fs, clock)
}

/// What is written while series leave; `a` comes back.
const WORK: [(&str, i64); 4] = [("a", 2), ("b", 2), ("a", 3), ("d", 4)];

#[derive(Default)]
struct Worked {
    acked: Vec<TestRow>,
    /// Whether the first leave took place in memory and did not come to a catalog file.
    is_unsaved: bool,
    engine: Option<Engine>,
}

/// The leave, and writes after it: with flushes, a second leave and a merge between them.
fn work(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Worked {
    let Ok(engine) = try_open(fs, clock) else { return Worked::default() };
    drop(engine.expire());
    let (mut acked, is_unsaved) = (Vec::new(), engine.store.catalog.has_unsaved_leaves());
    for (number, (host, value)) in WORK.into_iter().enumerate() {
        if write(&engine, &[row(host, value)]).is_ok() {
            acked.push(row(host, value));
        }
        let job = match number {
            0 => engine.expire().map(|_| ()),
            1 => engine.flush(),
            2 => engine.seal().and(engine.expire().map(|_| ())),
            _ => engine.maintain(),
        };
        drop(job);
    }
    Worked { acked, is_unsaved, engine: Some(engine) }
}

/// Acknowledged rows are there, others may be; exactly the series with rows are listed, but for `a`, which may stay.
fn check_work(engine: &Engine, acked: &[TestRow], place: &str) {
    let found = content(&*engine.view());
    let mut least = expected(&[row("b", 1), row("c", 1)]);
    acked.iter().for_each(|row| add(&mut least, row));
    let mut most = least.clone();
    WORK.iter().for_each(|(host, value)| add(&mut most, &row(host, *value)));
    assert!(least.iter().all(|(at, value)| found.get(at) == Some(value)), "{place}: {found:?}");
    assert!(found.iter().all(|(at, value)| most.get(at) == Some(value)), "{place}: {found:?}");
    let listed = hosts(engine);
    let has_rows = |host: &String| found.keys().any(|(_, at, ..)| at == host);
    let of_rows = found.keys().map(|(_, host, ..)| host);
    assert!(of_rows.into_iter().all(|host| listed.contains(host)), "{place}: {listed:?}");
    assert!(listed.iter().all(|host| has_rows(host) || ["a", "d"].contains(&&**host)), "{place}: {listed:?}");
}

#[test]
fn fault_at_every_operation_of_a_leave_keeps_it_whole() {
    let (whole, clock) = prepared();
    whole.restart();
    let first = whole.operations();
    let Worked { acked, is_unsaved, engine } = work(&whole, &clock);
    let engine = engine.unwrap();
    assert!(!is_unsaved);
    check_work(&engine, &acked, "no fault");
    assert_eq!((acked.len(), listed(&engine, "cpu")["a"]), (4, 3));
    let operations = whole.operations();
    assert!(first + 60 < operations, "{first} to {operations}");
    let mut unsaved = 0;
    for fault in Fault::ALL {
        for operation in first..operations {
            let place = format!("{fault:?} at operation {operation}");
            let (fs, clock) = prepared();
            fs.restart();
            fs.fail_at(operation, fault);
            let Worked { acked, is_unsaved, engine } = work(&fs, &clock);
            unsaved += u64::from(is_unsaved);
            if let (Some(engine), true) = (&engine, fault != Fault::PowerCut) {
                check_work(engine, &acked, &place);
            }
            match operation % 3 {
                0 => fs.crash_losing_unsynced(),
                1 if fault != Fault::PowerCut => fs.restart(),
                _ => fs.crash(operation),
            }
            drop(engine);
            is_clean(&fs, &place);
            let engine = try_open(&fs, &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
            check_work(&engine, &acked, &place);
            // It goes on: the rest is written, what has no rows leaves, and the next start finds the same.
            let rest: Vec<TestRow> = WORK.iter().map(|(host, value)| row(host, *value)).collect();
            write(&engine, &rest).unwrap();
            engine.seal().unwrap();
            engine.expire().unwrap();
            let before = listed(&engine, "cpu");
            assert_eq!(before.keys().collect::<Vec<_>>(), ["a", "b", "c", "d"], "{place}");
            fs.crash(operation);
            is_clean(&fs, &place);
            let engine = try_open(&fs, &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
            check_work(&engine, &rest, &place);
            assert_eq!(listed(&engine, "cpu"), before, "{place}");
        }
    }
    assert!(20 < unsaved, "{unsaved}: leaves that could not be saved are among them");
}

#[test]
fn leave_whose_file_fails_is_in_the_log_before_the_key_comes_again() {
    let (fs, clock) = prepared();
    let engine = try_open(&fs, &clock).unwrap();
    fs.fail_at(fs.operations(), Fault::Io);
    // Series tables are read first.
    while engine.expire().is_ok_and(|left| left == 0) || hosts(&engine).len() == 3 {
        fs.fail_at(fs.operations() + 1, Fault::Io);
    }
    assert!(engine.store.catalog.has_unsaved_leaves());
    write(&engine, &[row("a", 2)]).unwrap();
    let fork = Arc::new(fs.fork());
    for (fs, is_flushed) in [(fs, false), (fork, true)] {
        fs.restart();
        let engine = try_open(&fs, &clock).unwrap();
        assert_eq!((listed(&engine, "cpu")["a"], hosts(&engine).len()), (3, 3));
        if is_flushed {
            engine.flush().unwrap();
            assert!(!engine.store.catalog.has_unsaved_leaves(), "the flush brings it to a catalog file");
            drop(engine);
            fs.crash_losing_unsynced();
            assert_eq!(listed(&try_open(&fs, &clock).unwrap(), "cpu")["a"], 3);
        }
        is_clean(&fs, "replayed");
    }
}

#[test]
fn writers_that_bring_rows_while_series_leave_lose_none() {
    let (fs, clock, engine) = new_engine();
    let hosts = ["a", "b", "c", "d"];
    let rounds = crate::testing::Scale::asked().of(60, 1000, 10_000);
    let mut left = 0;
    for round in 0..rounds {
        write(&engine, &hosts.map(|host| row(host, round))).unwrap();
        delete(&engine, "cpu", None, TimeRange::ALL).unwrap();
        engine.maintain().unwrap();
        std::thread::scope(|scope| {
            for host in ["a", "b"] {
                let engine = &engine;
                scope.spawn(move || {
                    (0..5).for_each(|n| drop(write(engine, &[row(host, 100 * round + n)]).unwrap()))
                });
            }
            left += engine.expire().unwrap();
        });
        let rows: Vec<TestRow> =
            (0..5).flat_map(|n| [row("a", 100 * round + n), row("b", 100 * round + n)]).collect();
        assert_eq!(content(&*engine.view()), expected(&rows), "round {round}");
        if round % 20 == 0 {
            let fork = Arc::new(fs.fork());
            fork.restart();
            is_clean(&fork, "fork");
            let engine = try_open(&fork, &clock).unwrap();
            assert_eq!(content(&*engine.view()), expected(&rows), "round {round}, replayed");
        }
    }
    assert!(2 * rounds as u64 <= left, "{left}");
}
