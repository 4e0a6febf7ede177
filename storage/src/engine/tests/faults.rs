//! Every operation of the disk fails once, in every way: acknowledged is a subset of recovered, recovered of
//! attempted, batches are whole, and what fails leaves no litter.

use super::world::{Content, TestRow, add, content, delete, env, windows, write};
use super::*;
use crate::fs::Fs as _;
use crate::fs::sim::Fault;
use crate::model::{Column, ColumnKey, StrColumn, Value, Values};
use crate::testing::Scale;

const RETENTION: Retention =
    Retention { raw: Some(Duration::from_secs(3 * 3600)), m1: None, m5: None, h1: None };
/// Rows of the hour that is rolled up and dropped on the way.
const OLD_ROWS: i64 = 3;
/// Enough for two thousand operations of the disk.
const BATCHES: i64 = 150;
/// No operation fails.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Outcome {
    acked: Vec<i64>,
    attempted: i64,
    is_old_acked: bool,
}

/// Batch `number`: a row in each of two measurements, of different fields, and a row that every batch overwrites.
fn batch(number: i64) -> Vec<TestRow> {
    let ts_ns = START_NS + 2 * HOUR_NS + number * SECOND_NS;
    let row = |measurement, host, ts_ns, field, value| TestRow {
        measurement,
        host,
        ts_ns,
        fields: vec![(field, value)],
    };
    vec![
        row("cpu", "a", ts_ns, "usage", Value::Int(number)),
        row("log", if number < 5 { "a" } else { "b" }, ts_ns, "text", Value::Str(format!("n{number}"))),
        row("cpu", "z", START_NS + 2 * HOUR_NS, "usage", Value::Int(number)),
    ]
}

fn try_open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Result<Engine> {
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 600, ..Options::default() };
    Engine::open(env(fs, clock), Path::new("/db"), options, RETENTION)
}

/// Writes with jobs between them; goes on for a while after operation `failing`, as a server does.
fn work(fs: &Arc<SimFs>, clock: &Arc<ManualClock>, failing: u64, outcome: &mut Outcome) -> Option<Engine> {
    let engine = try_open(fs, clock).ok()?;
    let old = |k: i64| TestRow {
        measurement: "old",
        host: "a",
        ts_ns: START_NS + k * MINUTE_NS,
        fields: vec![("value", Value::Float(k as f64))],
    };
    outcome.is_old_acked = write(&engine, &(0..OLD_ROWS).map(old).collect::<Vec<_>>()).is_ok();
    let mut left = BATCHES;
    for number in 0..BATCHES {
        if failing < fs.operations() {
            left = left.min(number + 9);
        }
        if left <= number {
            break;
        }
        outcome.attempted = number + 1;
        if write(&engine, &batch(number)).is_ok() {
            outcome.acked.push(number);
        }
        // Failures of jobs are reported, and the jobs come again.
        let job = match number % 9 {
            1 | 7 => engine.flush(),
            3 => engine.seal(),
            5 => {
                clock.set(START_NS + 4 * HOUR_NS + number * 10 * SECOND_NS);
                engine.flush().and(engine.maintain())
            }
            _ => Ok(()),
        };
        drop(job);
    }
    Some(engine)
}

fn check(engine: &Engine, outcome: &Outcome, place: &str) {
    let found = content(&*engine.view());
    let mut expected = Content::new();
    let mut newest = None;
    for number in 0..outcome.attempted {
        let mut of_batch = Content::new();
        batch(number)[..2].iter().for_each(|row| add(&mut of_batch, row));
        let is_there = of_batch.keys().filter(|key| found.contains_key(*key)).count();
        assert!(is_there == 0 || is_there == 2, "{place}: batch {number} is torn");
        assert!(is_there == 2 || !outcome.acked.contains(&number), "{place}: batch {number} is lost");
        if is_there == 2 {
            newest = Some(number);
            expected.extend(of_batch);
        }
    }
    newest.iter().for_each(|newest| add(&mut expected, &batch(*newest)[2]));
    let found: Content = found.into_iter().filter(|((measurement, ..), _)| measurement != "old").collect();
    assert_eq!(found, expected, "{place}");
    let hour = [Window { start_ns: START_NS, end_ns: START_NS + HOUR_NS }];
    let (old, _) = windows(engine, ("old", "a", "value"), &hour, Bounds::RightOpen);
    let count = old.first().map_or(0, Partial::count);
    assert!(count == OLD_ROWS as u64 || (count == 0 && !outcome.is_old_acked), "{place}: {count} old rows");
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS + 10 * SECOND_NS))
}

/// What becomes of what is not synced when the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    All,
    Torn,
}

/// Operations of the creation of the database: an open that fails there has acknowledged nothing, and the next succeeds.
fn operations_of_creation() -> u64 {
    let fs = Arc::new(SimFs::default());
    let _engine = try_open(&fs, &clock()).unwrap();
    fs.operations()
}

/// Fails each operation of the work in one way (in the short form, each of the creation and then every fifth), and opens
/// again after a crash or a restart.
fn fail_at_every_operation(fault: Fault, loss: Loss) {
    let whole = Arc::new(SimFs::default());
    let engine = work(&whole, &clock(), NEVER, &mut Outcome::default()).unwrap();
    assert_eq!(engine.store.version().floors_ns[0], START_NS + HOUR_NS, "raw rows were dropped on the way");
    let operations = whole.operations();
    assert!(2000 <= operations, "{operations}");
    let step = Scale::asked().of(5, 1, 1);
    let created = operations_of_creation();
    assert!(3 < created, "{created}");
    // The short form has each fault begin at an operation of its own: together they meet most of them.
    let first = created + fault as u64 % step as u64;
    for operation in (0..created).chain((first..operations).step_by(step)) {
        let place = format!("{fault:?} at operation {operation}, {loss:?}");
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        fs.fail_at(operation, fault);
        let mut outcome = Outcome::default();
        let engine = work(&fs, &clock, operation, &mut outcome);
        if let (Some(engine), true) = (&engine, fault != Fault::PowerCut) {
            check(engine, &outcome, &place);
            check_after_fault(&fs, engine, &place);
        }
        match loss {
            Loss::All => fs.crash_losing_unsynced(),
            Loss::Torn if fault == Fault::PowerCut || operation % 2 == 0 => fs.crash(operation),
            Loss::Torn => fs.restart(),
        }
        drop(engine);
        let engine = try_open(&fs, &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
        check(&engine, &outcome, &place);
        engine.seal().unwrap();
        check(&engine, &outcome, &place);
    }
}

#[test]
fn io_error_at_every_operation_loses_nothing_acknowledged() {
    fail_at_every_operation(Fault::Io, Loss::Torn);
}

#[test]
fn full_disk_at_every_operation_loses_nothing_acknowledged() {
    fail_at_every_operation(Fault::NoSpace, Loss::Torn);
}

#[test]
fn short_write_at_every_operation_loses_nothing_acknowledged() {
    fail_at_every_operation(Fault::ShortWrite, Loss::Torn);
}

#[test]
fn power_cut_losing_unsynced_at_every_operation_loses_nothing_acknowledged() {
    fail_at_every_operation(Fault::PowerCut, Loss::All);
}

#[test]
fn power_cut_tearing_unsynced_at_every_operation_loses_nothing_acknowledged() {
    fail_at_every_operation(Fault::PowerCut, Loss::Torn);
}

/// A poisoned engine refuses writes for good; any other goes on by itself, and its directory is clean.
fn check_after_fault(fs: &Arc<SimFs>, engine: &Engine, place: &str) {
    if engine.stats().is_poisoned {
        let refused = write(engine, &batch(1)).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::Poisoned), "{place}");
        return;
    }
    engine.seal().unwrap_or_else(|error| panic!("{place}: {error}"));
    let files = fs.list(Path::new("/db/segments")).unwrap();
    let live: u64 = engine.stats().segments.iter().sum();
    // The fault may have hit the removal itself.
    assert!(files.len() as u64 <= live + 1, "{place}: {files:?}");
}

#[test]
fn power_cuts_at_every_operation_of_recoveries_change_nothing() {
    let whole = Arc::new(SimFs::default());
    drop(work(&whole, &clock(), NEVER, &mut Outcome::default()));
    let step = Scale::asked().of(43, 7, 1);
    let mut cuts = [0; 3];
    for stop in (0..whole.operations()).step_by(step) {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        let mut outcome = Outcome::default();
        fs.fail_at(stop, Fault::PowerCut);
        drop(work(&fs, &clock, stop, &mut outcome));
        fs.crash(stop);
        let place = format!("stop {stop}");
        let whole = try_open(&Arc::new(fs.fork()), &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
        check(&whole, &outcome, &place);
        cut_recoveries(&fs, &clock, &content(&*whole.view()), &mut cuts, &place);
    }
    // An open of a sound directory changes little; what was cut must have been something.
    assert!(cuts.iter().all(|cuts| 100 < *cuts), "{cuts:?}");
}

/// Cuts a recovery at each of its operations, and the recovery from that, as deep as `cuts` counts.
fn cut_recoveries(fs: &SimFs, clock: &Arc<ManualClock>, expected: &Content, cuts: &mut [u64], place: &str) {
    let Some((count, deeper)) = cuts.split_first_mut() else { return };
    for operation in 0.. {
        let place = format!("{place}, operation {operation}");
        let fs = Arc::new(fs.fork());
        fs.fail_at(fs.operations() + operation, Fault::PowerCut);
        let is_cut = try_open(&fs, clock).is_err();
        fs.crash(operation);
        let engine = try_open(&Arc::new(fs.fork()), clock).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(content(&*engine.view()) == *expected, "{place}");
        if !is_cut {
            return;
        }
        *count += 1;
        cut_recoveries(&fs, clock, expected, deeper, &place);
    }
}

/// Every kind of commit, until one fails.
fn commits(engine: &Engine) -> Result<()> {
    for round in 0..3 {
        (0..3).try_for_each(|number| write(engine, &batch(3 * round + number)).map(|_| ()))?;
        engine.flush()?;
    }
    engine.seal()?;
    write(engine, &batch(9))?;
    delete(engine, "cpu", Some("a"), TimeRange::ALL)?;
    write(engine, &batch(10))?;
    engine.maintain()?;
    engine.set_retention(Retention::FOREVER)
}

#[test]
fn power_cut_after_the_start_of_a_killed_process_takes_back_nothing_that_it_showed() {
    // Found by seed 8268 of the state machine: a process died between the rename of the manifest and the sync of the
    // directory. The next one showed the delete, removed what the new manifest did not name, and lost the manifest.
    let count = {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        commits(&try_open(&fs, &clock).unwrap()).unwrap();
        fs.operations()
    };
    assert!(100 < count, "{count}");
    for operation in 0..count {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        fs.fail_at(operation, Fault::Io);
        let died = try_open(&fs, &clock).and_then(|engine| commits(&engine));
        fs.restart();
        let engine = try_open(&fs, &clock).unwrap_or_else(|error| panic!("{operation}: {error}"));
        let expected = content(&*engine.view());
        drop(engine);
        for seed in 0..4 {
            let machine = Arc::new(fs.fork());
            if seed == 0 {
                machine.crash_losing_unsynced()
            } else {
                machine.crash(seed)
            }
            let place = format!("operation {operation} ({died:?}), crash {seed}");
            let engine = try_open(&machine, &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(content(&*engine.view()) == expected, "{place}");
        }
    }
}

#[test]
fn flush_that_keeps_failing_does_not_fill_the_disk_and_holds_up_no_retention() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let engine = work(&fs, &clock, 0, &mut Outcome::default()).unwrap();
    write(&engine, &batch(20)).unwrap();
    let files = |fs: &SimFs| fs.list(Path::new("/db/segments")).unwrap().len();
    let before = files(&fs);
    for after in 0..6 {
        fs.fail_at(fs.operations() + after, Fault::NoSpace);
        let refused = engine.flush().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
        assert!(engine.store.version().frozen.len() == 1 && files(&fs) == before, "{after}");
        write(&engine, &batch(21)).unwrap();
    }
    engine.roll(&mut engine.jobs().unwrap(), true, &[]).unwrap();
    write(&engine, &batch(22)).unwrap();
    clock.set(START_NS + 8 * HOUR_NS - MINUTE_NS);
    clock.advance(MINUTE_NS);
    let floor_ns = engine.store.version().floors_ns[0];
    fs.fail_at(fs.operations(), Fault::NoSpace);
    engine.maintain().unwrap_err();
    // The rows that wait for their flush hold back the floor, no more: the pass itself went through.
    assert!(floor_ns <= engine.store.version().floors_ns[0]);
    assert_eq!(engine.jobs().unwrap().retention_ran_ns, START_NS + 8 * HOUR_NS);
    engine.flush().unwrap();
    assert!(engine.store.version().frozen.is_empty());
}

#[test]
fn limits_of_the_catalog_refuse_rows_and_are_counted() {
    type Lower = fn(&mut Options);
    let limits: [(&str, Lower); 5] = [
        ("series_max", |options| options.series_max = 2),
        ("measurement_series_max", |options| options.measurement_series_max = 1),
        ("new_series_per_minute_max", |options| options.new_series_per_minute_max = 2),
        ("tag_values_max", |options| options.tag_values_max = 1),
        ("fields_max", |options| options.fields_max = 1),
    ];
    for (name, lower) in limits {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        let mut options = Options { free_bytes_min: 0, ..Options::default() };
        lower(&mut options);
        let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
        let mut rows = vec![batch(0).remove(0), batch(0).remove(1), batch(0).remove(2)];
        rows[2].fields = vec![("usage", Value::Int(1)), ("second", Value::Int(2))];
        let report = write(&engine, &rows).unwrap();
        assert_eq!((report.accepted, report.rejected.len()), (2, 1), "{name}");
        assert!(report.rejected[0].reason.contains(&format!("(limit {name})")), "{report:?}");
        assert!(engine.stats().limit_hits.contains(&(name, 1)), "{name}");
        // A restart takes what is there, whatever the limit is now.
        drop(engine);
        fs.crash(1);
        let options = Options { free_bytes_min: 0, series_max: 0, fields_max: 0, ..Options::default() };
        let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
        assert_eq!(write(&engine, &rows[..2]).unwrap().accepted, 2, "{name}");
    }
}

#[test]
fn open_without_manifest_but_with_data_is_refused() {
    for kept in ["/db/segments/seg-0000000000000001.ice", "/db/series/series-0000000000000001.cat", "/db/wal"]
    {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        let engine = try_open(&fs, &clock).unwrap();
        if kept == "/db/wal" {
            write(&engine, &batch(0)).unwrap();
        } else {
            fs.put(Path::new(kept), b"x");
        }
        fs.remove(Path::new("/db/MANIFEST")).unwrap();
        assert_eq!(
            try_open(&fs, &clock).map(|_| ()).map_err(|error| error.kind()),
            Err(ErrorKind::Corruption)
        );
    }
}

#[test]
fn open_removes_orphans_and_nothing_it_cannot_name() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    drop(try_open(&fs, &clock).unwrap());
    fs.put(Path::new("/db/segments/seg-00000000000000ff.ice"), b"x");
    fs.put(Path::new("/db/segments/seg-00000000000000fe.ice.tmp"), b"x");
    fs.put(Path::new("/db/segments/seg-backup.tar"), b"x");
    drop(try_open(&fs, &clock).unwrap());
    assert_eq!(fs.list(Path::new("/db/segments")).unwrap(), ["seg-backup.tar"]);
}

#[test]
fn directories_of_an_interrupted_creation_are_synced_by_the_next() {
    // The next open finds the directories and has no reason to create them; their names must be durable anyway.
    for operation in 0..3 {
        let (fs, clock) = (Arc::new(SimFs::default()), clock());
        fs.fail_at(operation, Fault::Io);
        try_open(&fs, &clock).unwrap_err();
        fs.restart();
        write(&try_open(&fs, &clock).unwrap(), &batch(0)).unwrap();
        fs.crash_losing_unsynced();
        let engine = try_open(&fs, &clock).unwrap();
        assert_eq!(content(&*engine.view()).len(), 3, "creation failed at operation {operation}");
    }
}

/// Applies the first block of a group and panics.
struct HalfApplied<'a>(&'a Store);

impl Hooks<Blocks> for HalfApplied<'_> {
    fn take_definitions(&self) -> Option<Vec<u8>> {
        self.0.take_definitions()
    }

    fn apply(&self, items: Vec<(u64, Blocks)>) {
        Store::apply(self.0, &self.0.version().active, &items[0].1[..1]);
        std::panic::resume_unwind(Box::new("half way"));
    }
}

#[test]
fn batch_applied_in_part_is_never_flushed_and_whole_after_the_restart() {
    let (fs, clock) = (Arc::new(SimFs::default()), clock());
    let engine = try_open(&fs, &clock).unwrap();
    write(&engine, &batch(0)).unwrap();
    let schema = |measurement| engine.view().schema(measurement).unwrap();
    let mut text = StrColumn::default();
    text.push("n30");
    let block_of = |(name, values)| {
        let (measurement, field) = (schema(name).measurement, schema(name).fields[0].id);
        let series = engine.view().series(measurement, &[], TimeRange::ALL, 10).unwrap()[0].id;
        let ts_ns = vec![START_NS + 2 * HOUR_NS + 30 * SECOND_NS];
        let columns = vec![Column { key: ColumnKey::value(field), values, valid: None }];
        (measurement, RowBlock { series: vec![series], ts_ns, columns })
    };
    let blocks: Blocks = [("cpu", Values::I64(vec![30])), ("log", Values::Str(text))].map(block_of).into();
    let mut payload = Vec::new();
    wal::record::encode_rows(&blocks, &mut payload);
    let died = std::thread::scope(|scope| {
        scope.spawn(|| engine.log.commit(&HalfApplied(&engine.store), payload, blocks)).join().is_err()
    });
    assert!(died && engine.log.is_half_applied());
    assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(write(&engine, &batch(1)).unwrap_err().kind(), ErrorKind::Poisoned);
    engine.close().unwrap();
    assert_eq!(engine.stats().segments, [0; 4], "nothing of it reached a segment");
    fs.restart();
    let engine = try_open(&fs, &clock).unwrap();
    assert_eq!(content(&*engine.view()).len(), 5);
}

/// A close whose flush failed ended without a sync, and a power cut then took what was acknowledged long before.
#[test]
fn close_of_an_interval_log_with_a_fault_at_every_operation_loses_nothing_acknowledged() {
    let begin = || {
        let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 3 * HOUR_NS)));
        let options = Options { durability: Durability::Interval, free_bytes_min: 0, ..Options::default() };
        let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, RETENTION).unwrap();
        let mut acked = Content::new();
        for number in 0..3 {
            write(&engine, &batch(number)).unwrap();
            batch(number).iter().for_each(|row| add(&mut acked, row));
        }
        (fs, clock, engine, acked)
    };
    let (fs, _, engine, _) = begin();
    let start = fs.operations();
    engine.close().unwrap();
    let operations = fs.operations() - start;
    assert!(10 < operations, "{operations}");
    for operation in 0..operations {
        for fault in Fault::ALL {
            let place = format!("{fault:?} at operation {operation}");
            let (fs, clock, engine, acked) = begin();
            fs.fail_at(start + operation, fault);
            let outcome = engine.close();
            drop(engine);
            fs.crash_losing_unsynced();
            let engine = try_open(&fs, &clock).unwrap_or_else(|error| panic!("{place}: {error}"));
            let found = content(&*engine.view());
            // The first is the sync: without power nothing comes after it.
            let is_lost = operation == 0 && fault == Fault::PowerCut;
            assert!(outcome.is_err() || !is_lost, "{place}");
            assert!(found == acked || is_lost, "{place}: {found:?}");
        }
    }
}
