//! Flushes beside the other jobs: whatever a job has read and written so far, a flush and its commit in between change
//! nothing that either of them has to keep.

use super::world::{Content, TestRow, add, content, delete, env, windows, write};
use super::*;
use crate::fs::Fs as _;
use crate::fs::sim::Fault;
use crate::model::Value;
use crate::version::Edit;

const SEGMENTS: &str = "/db/segments";

fn row(minute: i64, number: i64) -> TestRow {
    let ts_ns = START_NS + minute * MINUTE_NS;
    TestRow { measurement: "cpu", host: "a", ts_ns, fields: vec![("number", Value::Int(number))] }
}

fn new_engine() -> (Arc<SimFs>, Arc<ManualClock>, Arc<Engine>) {
    let fs = Arc::new(SimFs::default());
    let clock = Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS));
    let engine = open(&fs, &clock, RETENTION);
    (fs, clock, Arc::new(engine))
}

const RETENTION: Retention =
    Retention { raw: Some(Duration::from_secs(3 * 3600)), m1: None, m5: None, h1: None };

/// Two hours in two segments that share times, rolled up already or not, and a delete: work for every job.
fn fill(engine: &Engine, is_sealed: bool, expected: &mut Content) {
    for (step, number) in [(1, 0), (3, 1000)] {
        let rows: Vec<TestRow> = (0..120).step_by(step).map(|minute| row(minute, number + minute)).collect();
        rows.iter().for_each(|row| add(expected, row));
        write(engine, &rows).unwrap();
        engine.flush().unwrap();
    }
    if is_sealed {
        engine.seal().unwrap();
    }
    let gone = TimeRange::new(START_NS + 70 * MINUTE_NS, START_NS + 80 * MINUTE_NS);
    delete(engine, "cpu", None, gone).unwrap();
    expected.retain(|place, _| !gone.contains(place.2));
}

/// Late, overwriting and new rows, also where rows were deleted before.
fn late() -> Vec<TestRow> {
    [61, 75, 119, 121].map(|minute| row(minute, 5000 + minute)).to_vec()
}

fn check_windows(engine: &Engine, expected: &Content) {
    let hours = windows_of(START_NS, HOUR_NS, 3);
    let (found, _) = windows(engine, ("cpu", "a", "number"), &hours, Bounds::RightOpen);
    for (hour, found) in hours.iter().zip(&found) {
        let is_inside = |ts_ns: i64| hour.start_ns <= ts_ns && ts_ns < hour.end_ns;
        let values = expected.iter().filter(|(place, _)| is_inside(place.2));
        let values: Vec<i64> =
            values.map(|(_, value)| if let Value::Int(value) = value { *value } else { 0 }).collect();
        let numbers = found.numbers().unwrap();
        assert_eq!(numbers.count, values.len() as u64, "hour from {}", hour.start_ns);
        assert_eq!(numbers.sum as i64, values.iter().sum::<i64>(), "hour from {}", hour.start_ns);
    }
}

/// Rows and windows of what is not past its age; tells where that begins.
fn check_all(engine: &Engine, expected: &Content) -> i64 {
    let floor_ns = engine.store.version().floors_ns[0];
    let rows = expected.iter().filter(|(place, _)| floor_ns <= place.2);
    let rows: Content = rows.map(|(place, value)| (place.clone(), value.clone())).collect();
    assert_eq!(content(&*engine.view()), rows);
    check_windows(engine, expected);
    floor_ns
}

/// Runs all jobs with the engine closed `after` some changes of names; whether it came to that.
fn jobs_with_a_close(after: u64) -> bool {
    let (fs, clock, engine) = new_engine();
    let mut expected = Content::new();
    fill(&engine, false, &mut expected);
    write(&engine, &late()).unwrap();
    late().iter().for_each(|row| add(&mut expected, row));
    clock.set(START_NS + 4 * HOUR_NS + MINUTE_NS);
    let other = Arc::clone(&engine);
    fs.interrupt(Path::new(SEGMENTS), after, move || assert!(!other.begin_close()));
    let outcome = engine.run_jobs();
    if fs.is_interruption_due() {
        outcome.unwrap();
        return false;
    }
    let kind = outcome.err().map(|error| error.kind());
    assert!([None, Some(ErrorKind::Unavailable)].contains(&kind), "{kind:?}");
    let live = engine.store.manifest().segments.len();
    assert_eq!(fs.list(Path::new(SEGMENTS)).unwrap().len(), live, "nothing is left of what was given up");
    engine.flush().unwrap();
    drop(engine);
    fs.crash(after);
    let engine = open(&fs, &clock, RETENTION);
    check_all(&engine, &expected);
    engine.run_jobs().unwrap();
    check_all(&engine, &expected);
    true
}

#[test]
fn close_at_every_moment_of_the_jobs_gives_them_up_and_leaves_nothing_behind() {
    let moments = (0..).take_while(|after| jobs_with_a_close(*after)).count();
    assert!(10 < moments, "{moments}");
}

/// Runs all jobs with the late rows written and flushed `after` some changes of names; whether it came to that. The
/// first hour is past its age on the way, and answered from cells afterwards.
fn jobs_with_a_flush(after: u64, is_sealed: bool) -> bool {
    let (fs, clock, engine) = new_engine();
    let mut expected = Content::new();
    fill(&engine, is_sealed, &mut expected);
    clock.set(START_NS + 4 * HOUR_NS + MINUTE_NS);
    let other = Arc::clone(&engine);
    fs.interrupt(Path::new(SEGMENTS), after, move || {
        write(&other, &late()).unwrap();
        other.flush().unwrap();
    });
    engine.run_jobs().unwrap();
    if fs.is_interruption_due() {
        return false;
    }
    late().iter().for_each(|row| add(&mut expected, row));
    check_all(&engine, &expected);
    drop(engine);
    fs.crash(after);
    let report = crate::check::check(&(Arc::clone(&fs) as _), Path::new("/db")).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let engine = open(&fs, &clock, RETENTION);
    check_all(&engine, &expected);
    // Raw rows go, their cells stay; the late rows are in them.
    clock.set(START_NS + 5 * HOUR_NS + MINUTE_NS);
    engine.seal().unwrap();
    while engine.apply_retention(Guard::Forced).unwrap().dropped != [0; 4] {}
    assert_eq!(check_all(&engine, &expected), START_NS + 2 * HOUR_NS);
    true
}

#[test]
fn flush_at_every_moment_of_the_jobs_loses_nothing_of_either() {
    for is_sealed in [false, true] {
        let moments = (0..).take_while(|after| jobs_with_a_flush(*after, is_sealed)).count();
        assert!(10 < moments, "{moments}");
    }
}

/// A row of the last moment that is not past its age waits for the log while that moment passes, and a pass of retention
/// runs. It was hidden by the floor of raw rows then, acknowledged, and in no cell.
#[test]
fn row_that_waits_for_the_log_at_the_edge_of_its_age_is_seen_and_rolled() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS)));
    // Each write but the first begins a file of the log.
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 1, ..Options::default() };
    let engine = Arc::new(Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap());
    let rows = [row(0, 1), row(100, 2), row(121, 3), row(59, 4)];
    let mut expected = Content::new();
    rows.iter().for_each(|row| add(&mut expected, row));
    write(&engine, &rows[..2]).unwrap();
    engine.seal().unwrap();
    write(&engine, &rows[2..3]).unwrap();
    clock.set(rows[3].ts_ns + 3 * HOUR_NS);
    let (other, passing) = (Arc::clone(&engine), Arc::clone(&clock));
    fs.interrupt(Path::new("/db/wal"), 0, move || {
        passing.advance(MINUTE_NS + 30 * SECOND_NS);
        assert_eq!(other.apply_retention(Guard::Forced).unwrap().dropped, [0; 4]);
    });
    assert_eq!(write(&engine, &rows[3..]).unwrap().accepted, 1);
    assert!(!fs.is_interruption_due());
    assert_eq!(check_all(&engine, &expected), i64::MIN);
    clock.advance(MINUTE_NS);
    engine.seal().unwrap();
    assert_eq!(engine.apply_retention(Guard::Forced).unwrap().dropped[0], 1);
    assert_eq!(check_all(&engine, &expected), START_NS + HOUR_NS);
}

#[test]
fn flush_does_not_wait_for_a_job() {
    let (_, _, engine) = new_engine();
    write(&engine, &[row(0, 1)]).unwrap();
    let job = engine.jobs().unwrap();
    engine.flush().unwrap();
    drop(job);
    assert_eq!((engine.stats().segments[0], engine.stats().memtable_bytes), (1, 0));
}

#[test]
fn file_with_rows_of_another_partition_is_refused_and_removed() {
    let (fs, _, engine) = new_engine();
    write(&engine, &[row(0, 1), row(61, 2)]).unwrap();
    let schema = crate::draft::schema_of(&engine.store, MeasurementId(0)).unwrap();
    let memtable = Arc::clone(&engine.store.version().active);
    for (hour, is_refused) in [(TimeRange::new(START_NS, START_NS + HOUR_NS), true), (TimeRange::ALL, false)]
    {
        let outcome = engine.store.attempt(|numbers| {
            let mut draft = crate::draft::Draft::new(numbers, Tier::Raw, hour);
            draft.push(&engine.store, &schema, &memtable.runs(schema.measurement)[0])?;
            draft.finish(&engine.store, 1)
        });
        assert_eq!(outcome.err().map(|error| error.kind()), is_refused.then_some(ErrorKind::Internal));
        assert_eq!(fs.list(Path::new(SEGMENTS)).unwrap().is_empty(), is_refused);
    }
}

#[test]
fn files_of_a_failed_commit_go_when_another_lane_has_committed_since() {
    for after in 0..8 {
        let (fs, clock, engine) = new_engine();
        let mut expected = Content::new();
        fill(&engine, false, &mut expected);
        write(&engine, &late()).unwrap();
        late().iter().for_each(|row| add(&mut expected, row));
        let mut number = 0;
        let outcome = engine.store.attempt(|numbers| {
            number = numbers.take();
            let mark = crate::series::CatalogMark::default();
            engine.store.catalog.save(&*fs, &engine.store.series_dir(), number, mark)?;
            fs.fail_at(fs.operations() + after, Fault::Io);
            let edit = Edit { catalog_files: Some(vec![number]), ..Edit::default() };
            let committed = engine.store.commit(edit);
            let failed = committed.is_err();
            fs.fail_at(u64::MAX, Fault::Io);
            engine.flush()?;
            if failed { committed } else { Err(Error::invalid("after a commit that went through")) }
        });
        outcome.unwrap_err();
        let is_named = engine.store.manifest().names(number);
        let path = engine.store.series_dir().join(crate::series::file::file_name(number));
        assert_eq!(fs.has(&path).unwrap(), is_named, "{after}");
        drop(engine);
        fs.crash(after);
        assert_eq!(content(&*open(&fs, &clock, RETENTION).view()), expected);
    }
}
