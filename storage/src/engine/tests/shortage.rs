//! What a full disk and full memory refuse, and what goes on meanwhile.

use super::world::{Content, TestRow, add, content, delete, env, write};
use super::*;
use crate::model::Value;

const RETENTION: Retention =
    Retention { raw: Some(Duration::from_secs(3 * 3600)), m1: None, m5: None, h1: None };

fn row(measurement: &'static str, host: &'static str, ts_ns: i64, number: i64) -> TestRow {
    TestRow { measurement, host, ts_ns, fields: vec![("usage", Value::Int(number))] }
}

/// A row of the hour after the next.
fn batch(number: i64) -> Vec<TestRow> {
    vec![row("cpu", "a", START_NS + 2 * HOUR_NS + number * SECOND_NS, number)]
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS))
}

#[test]
fn full_disk_refuses_writes_by_name_and_they_resume() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let options = Options { free_bytes_min: 1000, ..Options::default() };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
    write(&engine, &batch(0)).unwrap();
    fs.set_free_bytes(999);
    clock.advance(2 * SECOND_NS);
    let refused = write(&engine, &batch(1)).unwrap_err();
    assert!(refused.kind() == ErrorKind::Unavailable && refused.to_string().contains("disk"), "{refused}");
    assert_eq!(engine.stats().limit_hits.last(), Some(&("free_bytes_min", 1)));
    engine.seal().unwrap();
    assert_eq!(content(&*engine.view()).len(), 1);
    fs.set_free_bytes(1000);
    clock.advance(2 * SECOND_NS);
    write(&engine, &batch(1)).unwrap();
}

#[test]
fn full_disk_takes_deletes_and_retention_and_their_files_go() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let options = Options { free_bytes_min: 1000, ..Options::default() };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options.clone(), RETENTION).unwrap();
    let hours = (0..3).flat_map(|hour| (0..20).map(move |k| START_NS + hour * HOUR_NS + k * SECOND_NS));
    let rows: Vec<TestRow> =
        hours.flat_map(|ts_ns| ["a", "b"].map(|host| row("cpu", host, ts_ns, ts_ns))).collect();
    write(&engine, &rows).unwrap();
    engine.seal().unwrap();
    // This one is in memory and log when the disk is full.
    let young = row("cpu", "a", START_NS + 2 * HOUR_NS + 30 * SECOND_NS, 1);
    write(&engine, std::slice::from_ref(&young)).unwrap();

    fs.set_free_bytes(999);
    clock.advance(2 * SECOND_NS);
    let refused = |engine: &Engine| {
        let error = write(engine, &batch(40)).unwrap_err();
        assert!(error.to_string().contains("limit free_bytes_min"), "{error}");
    };
    refused(&engine);
    let rows_before = engine.stats().segment_rows[0];
    delete(&engine, "cpu", Some("a"), TimeRange::ALL).unwrap();
    let left_after = |start_ns: i64| {
        let mut left = Content::new();
        rows.iter()
            .filter(|row| row.host == "b" && start_ns <= row.ts_ns)
            .for_each(|row| add(&mut left, row));
        left
    };
    assert_eq!(content(&*engine.view()), left_after(i64::MIN));
    engine.maintain().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
    // The delete flushed the young row, and the purge took it out with its like.
    assert_eq!((rows_before, engine.stats().segment_rows[0]), (120, 60));

    // The first hour is past its age, the second and third are not.
    clock.set(START_NS + 4 * HOUR_NS + 10 * MINUTE_NS);
    let segments_before = engine.stats().segments[0];
    for _ in 0..5 {
        clock.advance(MINUTE_NS);
        engine.maintain().unwrap();
    }
    assert_eq!((segments_before, engine.stats().segments[0]), (3, 2));
    assert_eq!(content(&*engine.view()), left_after(START_NS + HOUR_NS));
    refused(&engine);

    // All of it is durable, and the next start finds a disk that is still full.
    drop(engine);
    fs.crash_losing_unsynced();
    let report = crate::check::check(&(Arc::clone(&fs) as _), Path::new("/db")).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
    assert_eq!(content(&*engine.view()), left_after(START_NS + HOUR_NS));
    refused(&engine);
    fs.set_free_bytes(1000);
    clock.advance(2 * SECOND_NS);
    write(&engine, &batch(7_200)).unwrap();
}

#[test]
fn full_memory_refuses_writes_until_a_flush() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let options = Options {
        free_bytes_min: 0,
        memory_bytes_max: 1,
        write_wait_max: Duration::ZERO,
        ..Options::default()
    };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
    write(&engine, &batch(0)).unwrap();
    assert_eq!(write(&engine, &batch(1)).map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    assert!(engine.stats().limit_hits.contains(&("memory_bytes_max", 1)));
    engine.flush().unwrap();
    write(&engine, &batch(1)).unwrap();
}
