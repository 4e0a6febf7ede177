//! What a full disk and full memory refuse, what goes on meanwhile, and how much the next start has to replay.

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
    assert!(refused.kind() == ErrorKind::DiskFull && refused.to_string().contains("disk"), "{refused}");
    assert_eq!(engine.stats().limit_hits.last(), Some(&("free_bytes_min", 1)));
    engine.seal().unwrap();
    assert_eq!(content(&*engine.view()).len(), 1);
    fs.set_free_bytes(1000);
    clock.advance(2 * SECOND_NS);
    write(&engine, &batch(1)).unwrap();
}

#[test]
fn merge_that_would_fill_the_disk_waits_and_the_other_jobs_go_on() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let options = Options { free_bytes_min: 1000, ..Options::default() };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
    for number in 0..2 {
        write(&engine, &[row("cpu", "a", START_NS + number * SECOND_NS, number)]).unwrap();
        engine.flush().unwrap();
    }
    clock.advance(2 * MINUTE_NS);
    let bytes = engine.stats().segment_bytes[0];
    fs.set_free_bytes(1000 + bytes - 1);
    let refused = engine.run_jobs().unwrap_err().to_string();
    assert!(refused.contains("limit free_bytes_min"), "{refused}");
    let stats = engine.stats();
    assert_eq!((stats.segments[0], stats.segment_rows[3]), (2, 1), "{stats:?}");
    assert!(engine.seal().unwrap_err().to_string().contains("limit free_bytes_min"));
    write(&engine, &batch(0)).unwrap();
    fs.set_free_bytes(1000 + bytes);
    engine.run_jobs().unwrap();
    assert_eq!(engine.stats().segments[0], 1);
    engine.seal().unwrap();
}

#[test]
fn full_disk_holds_up_no_roll_of_many_segments() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let options = Options { free_bytes_min: 1000, ..Options::default() };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
    for number in 0..20 {
        write(&engine, &[row("cpu", "a", START_NS + number * SECOND_NS, number)]).unwrap();
        engine.flush().unwrap();
    }
    clock.advance(2 * MINUTE_NS);
    fs.set_free_bytes(999);
    assert_eq!(engine.run_jobs().map_err(|error| error.kind()), Err(ErrorKind::DiskFull));
    assert_eq!(engine.stats().segment_rows[3], 1, "without it retention could not free the disk");
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

const MEMORY_BYTES_MAX: usize = 64 << 10;
const WAL_FILE_BYTES_MAX: u64 = 16 << 10;

fn try_open_small(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Result<Engine> {
    let options = Options {
        free_bytes_min: 0,
        memory_bytes_max: MEMORY_BYTES_MAX,
        wal_file_bytes_max: WAL_FILE_BYTES_MAX,
        write_wait_max: Duration::ZERO,
        ..Options::default()
    };
    Engine::open(env(fs, clock), Path::new("/db"), options, RETENTION)
}

/// Writes batches without a flush until one is refused; returns by which limit. The log is within its bound, and the
/// next start has all of it.
fn fill(batch: &dyn Fn(i64) -> Vec<TestRow>) -> &'static str {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let engine = try_open_small(&fs, &clock).unwrap();
    let mut acked = Content::new();
    let mut batches = 0;
    let refused = loop {
        assert!(batches < 20_000, "never refused: {:?}", engine.stats());
        let rows = batch(batches);
        match write(&engine, &rows) {
            Ok(_) => rows.iter().for_each(|row| add(&mut acked, row)),
            Err(error) => break error,
        }
        batches += 1;
    };
    let stats = engine.stats();
    let hit = *stats.limit_hits.iter().find(|(_, hits)| *hits == 1).unwrap();
    assert!(refused.to_string().contains(&format!("limit {}", hit.0)), "{refused}");
    assert_eq!((refused.kind(), stats.segments), (ErrorKind::Unavailable, [0; 4]));
    // The batch that met the bound, with the names that it brought, comes on top.
    let bound = MEMORY_BYTES_MAX as u64 + WAL_FILE_BYTES_MAX + 4096;
    assert!(stats.wal_bytes <= bound, "{} bytes of log, {bound} allowed", stats.wal_bytes);
    drop(engine);
    fs.crash_losing_unsynced();
    let engine = try_open_small(&fs, &clock).unwrap();
    assert!(batches.cast_unsigned() <= engine.stats().replayed_records);
    assert_eq!(content(&*engine.view()), acked);
    write(&engine, &batch(batches)).unwrap_err();
    engine.flush().unwrap();
    write(&engine, &batch(batches)).unwrap();
    hit.0
}

#[test]
fn log_without_flushes_is_bounded_by_memory() {
    let at = |k: i64| START_NS + 2 * HOUR_NS + k * 1_000_000;
    assert_eq!(
        fill(&|n| (0..100).map(|k| row("cpu", "a", at(n * 100 + k), k * 37)).collect()),
        "memory_bytes_max"
    );
    assert_eq!(fill(&|n| vec![row("cpu", "a", at(n), n)]), "wal_bytes_max");
    // In memory it is one row.
    assert_eq!(fill(&|n| vec![row("cpu", "a", at(0), n)]), "wal_bytes_max");
}

#[test]
fn log_that_grows_faster_than_memory_is_flushed_before_it_is_full() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let engine = try_open_small(&fs, &clock).unwrap();
    let mut longest = 0;
    for number in 0..5_000 {
        write(&engine, &[row("cpu", "a", START_NS + 2 * HOUR_NS, number)]).unwrap();
        longest = longest.max(engine.stats().wal_bytes);
        engine.flush_due().unwrap();
    }
    let due = WAL_FILE_BYTES_MAX + MEMORY_BYTES_MAX as u64 / 2;
    assert!((due..due + 4096).contains(&longest), "{longest} bytes of log, flushed at {due}");
    assert!((2..10).contains(&engine.stats().segments[0]), "{:?}", engine.stats().segments);
}
