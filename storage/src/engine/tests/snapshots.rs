//! Snapshots: an exact prefix of what was written, opened like any database, and no harm to the one they are of.

use std::sync::Barrier;
use std::sync::atomic::AtomicI64;

use super::world::{Content, TestRow, content, env, write};
use super::*;
use crate::check::check as check_files;
use crate::fs::sim::Fault;
use crate::fs::{Fs, OsFs};
use crate::model::Value;

const TO: &str = "/backups/one";
const WRITERS: [&str; 4] = ["w0", "w1", "w2", "w3"];

fn options() -> Options {
    Options { free_bytes_min: 0, wal_file_bytes_max: 2000, ..Options::default() }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS))
}

fn open_at(fs: &Arc<SimFs>, dir: &str) -> Result<Engine> {
    Engine::open(env(fs, &clock()), Path::new(dir), options(), Retention::FOREVER)
}

/// Batch `number` of a writer: a row in each of two measurements.
fn batch(writer: &'static str, number: i64) -> [TestRow; 2] {
    ["odd", "even"].map(|measurement| TestRow {
        measurement,
        host: writer,
        ts_ns: START_NS + number * SECOND_NS,
        fields: vec![("number", Value::Int(number))],
    })
}

/// How many batches of a writer are there: all from the first on, each whole.
fn batches_of(found: &Content, writer: &str) -> i64 {
    let numbers = |measurement: &str| {
        let of_writer = found.iter().filter(|((name, host, ..), _)| name == measurement && host == writer);
        of_writer.map(|((_, _, ts_ns, _), value)| ((ts_ns - START_NS) / SECOND_NS, value.clone())).collect()
    };
    let (odd, even): (Vec<_>, Vec<_>) = (numbers("odd"), numbers("even"));
    assert_eq!(odd, even, "batches of {writer} are whole");
    assert!((0..).zip(&odd).all(|(number, found)| *found == (number, Value::Int(number))), "{odd:?}");
    odd.len() as i64
}

/// A check of the snapshot as it was left, before an open could tidy it, finds nothing: no damage, and no orphan either.
fn needs_no_finding(fs: &Arc<dyn Fs>, dir: &Path, place: &str) {
    let report = check_files(fs, dir).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(report.findings.is_empty() && 0 < report.files, "{place}: {report:?}");
}

struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn snapshot_under_load_is_the_exact_prefix_at_its_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env { fs: Arc::new(OsFs), clock: clock() };
    let open = |name: &str| {
        let options = Options { durability: Durability::Interval, ..options() };
        Engine::open(env.clone(), &dir.path().join(name), options, Retention::FOREVER).unwrap()
    };
    let source = open("source");
    // One record of definitions and one of rows: from now on each batch is one record.
    let first: Vec<TestRow> = WRITERS.iter().flat_map(|writer| batch(writer, 0)).collect();
    write(&source, &first).unwrap();
    let acked = WRITERS.map(|_| AtomicI64::new(1));
    let (is_done, start) = (AtomicBool::new(false), Barrier::new(WRITERS.len() + 1));
    std::thread::scope(|scope| {
        for (writer, acked) in WRITERS.iter().zip(&acked) {
            let (source, is_done, start) = (&source, &is_done, &start);
            scope.spawn(move || {
                start.wait();
                for number in 1.. {
                    if is_done.load(Ordering::Acquire) {
                        return;
                    }
                    write(source, &batch(writer, number)).unwrap();
                    acked.store(number + 1, Ordering::Release);
                }
            });
        }
        // Ends the writers, also when a claim below fails.
        let _stop = Raise(&is_done);
        start.wait();
        let mut counts = Vec::new();
        for round in 0..8 {
            let before: Vec<i64> = acked.iter().map(|acked| acked.load(Ordering::Acquire)).collect();
            let name = format!("snapshot-{round}");
            let report = source.snapshot(&dir.path().join(&name)).unwrap();
            source.maintain().unwrap();
            needs_no_finding(&env.fs, &dir.path().join(&name), &name);
            let restored = open(&name);
            assert_eq!(restored.stats().replayed_records, 0);
            let found = content(&*restored.view());
            let there = WRITERS.map(|writer| batches_of(&found, writer));
            assert!(before.iter().zip(there).all(|(before, there)| *before <= there), "{before:?} {there:?}");
            // Two records stand for the first round of batches.
            let records = there.iter().map(|count| count - 1).sum::<i64>() + 2;
            assert_eq!(report.end_seq, records as u64 + 1, "{there:?}");
            assert_eq!(report.copied_files, 0);
            counts.push(there);
            // The snapshot is a database of its own.
            write(&restored, &batch("w0", there[0])).unwrap();
            restored.seal().unwrap();
            assert_eq!(batches_of(&content(&*restored.view()), "w0"), there[0] + 1);
        }
        assert!(counts.is_sorted(), "{counts:?}");
    });
    let found = content(&*source.view());
    for (writer, acked) in WRITERS.iter().zip(&acked) {
        assert_eq!(batches_of(&found, writer), acked.load(Ordering::Acquire));
    }
}

#[test]
fn snapshot_outlives_the_files_of_its_source() {
    for is_linked in [true, false] {
        let fs = Arc::new(SimFs::default());
        if !is_linked {
            fs.refuse_links();
        }
        let source = open_at(&fs, "/db").unwrap();
        for number in 0..6 {
            write(&source, &batch("w0", number)).unwrap();
            source.flush().unwrap();
        }
        let report = source.snapshot(Path::new(TO)).unwrap();
        let copied = if is_linked { 0 } else { report.files };
        assert_eq!((report.files, report.copied_files), (7, copied));
        let expected = content(&*source.view());
        source.seal().unwrap();
        assert_eq!(source.stats().segments[0], 1, "its files are gone");
        drop(source);
        fs.remove_dir_all(Path::new("/db")).unwrap();
        fs.crash(1);
        needs_no_finding(&(Arc::clone(&fs) as _), Path::new(TO), "after a crash");
        assert_eq!(content(&*open_at(&fs, TO).unwrap().view()), expected);
    }
}

#[test]
fn snapshot_in_the_way_of_something_is_a_conflict_and_touches_nothing() {
    let fs = Arc::new(SimFs::default());
    let source = open_at(&fs, "/db").unwrap();
    write(&source, &batch("w0", 0)).unwrap();
    let conflict = |path: &str| {
        let refused = source.snapshot(Path::new(path)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
        refused.to_string()
    };
    conflict("/db");
    fs.put(Path::new("/backups/two.tmp/mine"), b"x");
    // It may be somebody's, and is never removed; who asked is told what to do.
    let message = conflict("/backups/two");
    assert!(message.starts_with("/backups/two.tmp is there: left by a crash"), "{message}");
    assert!(message.ends_with("remove it when nobody uses it"), "{message}");
    assert_eq!(fs.get(Path::new("/backups/two.tmp/mine")), Some(b"x".to_vec()));
    fs.create_dir_all(Path::new("/backups/empty")).unwrap();
    source.snapshot(Path::new("/backups/empty")).unwrap();
    conflict("/backups/empty");
    assert_eq!(fs.list(Path::new("/backups")).unwrap(), ["empty", "two.tmp"]);
}

/// A database with two segments and rows in memory.
fn source_on(fs: &Arc<SimFs>) -> Engine {
    let source = open_at(fs, "/db").unwrap();
    for number in 0..3 {
        write(&source, &batch("w0", number)).unwrap();
        if number < 2 {
            source.flush().unwrap();
        }
    }
    source
}

#[test]
fn fault_at_every_operation_of_a_snapshot_harms_no_source_and_leaves_none_or_all() {
    for is_linked in [true, false] {
        let begin = || {
            let fs = Arc::new(SimFs::default());
            if !is_linked {
                fs.refuse_links();
            }
            let source = source_on(&fs);
            (fs, source)
        };
        let (fs, source) = begin();
        let first = fs.operations();
        source.snapshot(Path::new(TO)).unwrap();
        let operations = first..fs.operations();
        assert!(20 < operations.clone().count(), "{operations:?}");
        for seed in 0..20 {
            let (fs, source) = begin();
            source.snapshot(Path::new(TO)).unwrap();
            assert!(check(&fs, source, Fault::PowerCut, true, seed), "a finished snapshot is durable");
        }
        for fault in Fault::ALL {
            for operation in operations.clone() {
                let place = format!("{fault:?} at operation {operation}, linked {is_linked}");
                let (fs, source) = begin();
                fs.fail_at(operation, fault);
                let outcome = source.snapshot(Path::new(TO));
                let is_whole = check(&fs, source, fault, outcome.is_ok(), operation);
                assert!(is_whole || outcome.is_err(), "{place}");
                // The next one is not in the way of what this one left.
                fs.remove_dir_all(Path::new("/backups")).unwrap();
                open_at(&fs, "/db").unwrap().snapshot(Path::new(TO)).unwrap();
            }
        }
    }
}

/// The source has all batches, before and after a restart; the snapshot too, or it is not there. Tells whether it is.
fn check(fs: &Arc<SimFs>, source: Engine, fault: Fault, is_done: bool, seed: u64) -> bool {
    let place = format!("{fault:?} at operation {seed}");
    if fault != Fault::PowerCut {
        assert_eq!(batches_of(&content(&*source.view()), "w0"), 3, "{place}");
        let temporary = Path::new("/backups/one.tmp");
        // The fault may have hit the removal itself, but it strikes once.
        assert!(!fs.has(temporary).unwrap(), "{place}");
        if !source.stats().is_poisoned {
            write(&source, &batch("w1", 0)).unwrap();
        }
    }
    drop(source);
    if is_done || fault == Fault::PowerCut || seed.is_multiple_of(2) {
        fs.crash(seed)
    } else {
        fs.restart()
    }
    let source = open_at(fs, "/db").unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(batches_of(&content(&*source.view()), "w0"), 3, "{place}");
    if !fs.has(Path::new(TO)).unwrap() {
        return false;
    }
    needs_no_finding(&(Arc::clone(fs) as _), Path::new(TO), &place);
    let snapshot = open_at(fs, TO).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(batches_of(&content(&*snapshot.view()), "w0"), 3, "{place}");
    true
}
