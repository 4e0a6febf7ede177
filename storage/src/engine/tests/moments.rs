//! What a view sees while others write: one moment, whole batches, and everything acknowledged before it.

use std::sync::atomic::AtomicI64;

use super::world::{Random, TestRow, content, env, write};
use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::fs::OsFs;
use crate::model::{StatSet, Value};
use crate::testing::Scale;

const WRITERS: [&str; 4] = ["a", "b", "c", "d"];
/// Time between the batches of a writer: some hours pass while it writes, and the jobs roll them.
const STEP_NS: i64 = SECOND_NS / 2;
const PER_MINUTE: u64 = (MINUTE_NS / STEP_NS) as u64;

/// The same number in two measurements.
fn batch(host: &'static str, ts_ns: i64, number: i64) -> Vec<TestRow> {
    let row =
        |measurement| TestRow { measurement, host, ts_ns, fields: vec![("number", Value::Int(number))] };
    vec![row("cpu"), row("net")]
}

#[test]
fn view_sees_nothing_that_was_written_after_it() {
    let clock = Arc::new(ManualClock::new(START_NS + HOUR_NS));
    let engine = Engine::open(
        env(&Arc::new(SimFs::default()), &clock),
        Path::new("/db"),
        Options::default(),
        Retention::FOREVER,
    )
    .unwrap();
    write(&engine, &batch("a", START_NS, 0)).unwrap();
    let view = engine.view();
    write(&engine, &batch("a", START_NS + 1, 1)).unwrap();
    assert_eq!(content(&*view).len(), 2, "not even when it is read for the first time only now");
    engine.seal().unwrap();
    write(&engine, &batch("a", START_NS, 0)).unwrap();
    assert_eq!((content(&*view).len(), content(&*engine.view()).len()), (2, 4));
}

#[test]
fn views_are_the_same_before_what_came_between_them() {
    let clock = Arc::new(ManualClock::new(START_NS + HOUR_NS));
    let env = env(&Arc::new(SimFs::default()), &clock);
    let engine = Engine::open(env, Path::new("/db"), Options::default(), Retention::FOREVER).unwrap();
    let at_ns = |minutes: i64| START_NS + minutes * MINUTE_NS;
    let write = |minutes: i64| write(&engine, &batch("a", at_ns(minutes), minutes)).unwrap();
    write(30);
    let (_view, first) = engine.view_seen();
    let same = |earlier: Seen| engine.same_before_ns(earlier, engine.view_seen().1);
    assert_eq!(same(first), i64::MAX);
    write(40);
    write(45);
    let second = engine.view_seen().1;
    assert_eq!(same(first), at_ns(40));
    write(20);
    assert_eq!((same(first), same(second)), (at_ns(20), at_ns(20)));
    assert_eq!(engine.same_before_ns(second, first), i64::MIN, "not the other way round");
    engine.seal().unwrap();
    let third = engine.view_seen().1;
    assert_eq!((same(second), same(third)), (at_ns(20), i64::MAX), "no file and no cell changes that");
    let mut known = third;
    let mut changes = |what: &str, change: &dyn Fn()| {
        change();
        assert_eq!(same(known), i64::MIN, "{what}");
        known = engine.view_seen().1;
    };
    changes("a delete", &|| {
        let measurement = engine.view().schema("cpu").unwrap().measurement;
        let range = TimeRange::new(at_ns(40), at_ns(41));
        let targets = [SeriesSet { measurement, series: None }];
        assert_eq!(engine.delete(&targets, range).unwrap().segments, 4);
    });
    changes("a retention", &|| {
        let raw = Some(Duration::from_secs(60));
        engine.set_retention(Retention { raw, ..Retention::FOREVER }).unwrap();
    });
    changes("a drop", &|| {
        engine.seal().unwrap();
        clock.set(START_NS + 72 * HOUR_NS);
        assert_eq!(engine.apply_retention(Guard::Forced).unwrap().dropped[0], 1);
    });
    changes("the end", &|| drop(engine.retire()));
}

/// What writers and readers of the history agree on.
struct History {
    engine: Engine,
    base_ns: i64,
    /// By writer: batches acknowledged so far.
    acked: [AtomicI64; 4],
    is_over: AtomicBool,
    /// Cells that windows were answered from.
    cells: AtomicU64,
}

impl History {
    fn acked(&self) -> [i64; 4] {
        self.acked.each_ref().map(|acked| acked.load(Ordering::SeqCst))
    }

    fn ts_ns(&self, number: i64) -> i64 {
        self.base_ns + number * STEP_NS
    }

    fn run_writer(&self, writer: usize) {
        for number in 0.. {
            // A row of the future would be refused.
            let is_future = SystemClock::default().now_ns() < self.ts_ns(number);
            if is_future || self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let report = write(&self.engine, &batch(WRITERS[writer], self.ts_ns(number), number)).unwrap();
            assert_eq!((report.accepted, report.rejected.len()), (2, 0), "{:?}", report.rejected);
            self.acked[writer].store(number + 1, Ordering::SeqCst);
        }
    }

    /// Reads the newest batches, or a stretch of earlier ones, until it is over; returns how often.
    fn run_reader(&self, mut random: Random) -> u64 {
        let mut reads = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let acked = self.acked();
            let newest = acked.into_iter().min().unwrap();
            let first = match random.below(3) {
                0 => random.below(newest as u64 + 1) as i64,
                _ => (newest - 200).max(0),
            };
            let end = if random.below(2) == 0 { i64::MAX } else { first + 300 };
            let view = self.engine.view();
            self.check(&*view, &acked, first, end);
            self.check_minutes(&*view, &acked);
            reads += 1;
        }
        reads
    }

    /// Of the batches `first..end` of each writer, all acknowledged ones are there, none is missing below the newest
    /// that is there, and each is whole.
    fn check(&self, view: &dyn Scan, acked: &[i64; 4], first: i64, end: i64) {
        for (writer, acked) in WRITERS.iter().zip(acked) {
            let cpu = self.numbers(view, "cpu", writer, first, end);
            assert!(
                cpu.iter().copied().eq(first..first + cpu.len() as i64),
                "{writer}: a gap from {first}: {cpu:?}"
            );
            let found = first + cpu.len() as i64;
            assert!((*acked).min(end) <= found, "{writer}: up to {found}, but {acked} were acknowledged");
            assert_eq!(cpu, self.numbers(view, "net", writer, first, end), "a batch of {writer} is torn");
        }
    }

    /// Windows, from cells where hours are rolled, hold each row once: all minutes are full up to the last, and nothing
    /// acknowledged is missing.
    fn check_minutes(&self, view: &dyn Scan, acked: &[i64; 4]) {
        let newest = acked.iter().max().unwrap();
        let minutes = (newest * STEP_NS) / MINUTE_NS + 60;
        let asked = windows_of(self.base_ns, MINUTE_NS, minutes);
        let Some(schema) = view.schema("cpu") else { return };
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 10).unwrap();
        let ids: Vec<SeriesId> = series.iter().map(|info| info.id).collect();
        let request = WindowRequest {
            measurement: schema.measurement,
            field: schema.fields[0].id,
            series: &ids,
            windows: &asked,
            bounds: Bounds::RightOpen,
            wants: StatSet::COUNT,
            resolution: Resolution::Strict,
        };
        let mut sink = |slice: crate::scan::WindowSlice<'_>| {
            let counts: Vec<u64> = slice.partials.iter().map(Partial::count).collect();
            let writer = series[slice.series_idx].key.tag("host").unwrap();
            let full = counts.iter().take_while(|count| **count == PER_MINUTE).count();
            assert_eq!(
                counts.iter().skip(full + 1).sum::<u64>(),
                0,
                "{writer}: a gap or a row twice: {counts:?}"
            );
            let place = WRITERS.iter().position(|known| *known == writer).unwrap();
            let found = counts.iter().sum::<u64>() as i64;
            assert!(
                acked[place] <= found,
                "{writer}: {found} counted, but {} were acknowledged",
                acked[place]
            );
            Ok(())
        };
        let coverage = view.windows(&request, &Unmetered, &mut sink).unwrap();
        self.cells.fetch_add(coverage.cells.iter().sum(), Ordering::Relaxed);
    }

    fn numbers(&self, view: &dyn Scan, measurement: &str, writer: &str, first: i64, end: i64) -> Vec<i64> {
        let Some(schema) = view.schema(measurement) else { return Vec::new() };
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 10).unwrap();
        let of_writer = series.iter().filter(|info| info.key.tag("host") == Some(writer));
        let ids: Vec<SeriesId> = of_writer.map(|info| info.id).collect();
        let end_ns = if end == i64::MAX { i64::MAX } else { self.ts_ns(end) };
        let request = SampleRequest {
            measurement: schema.measurement,
            field: schema.fields[0].id,
            series: &ids,
            range: TimeRange::new(self.ts_ns(first), end_ns),
        };
        let mut numbers = Vec::new();
        let mut sink = |slice: crate::scan::SampleSlice<'_>| {
            for (ts_ns, value) in slice.ts_ns.iter().zip(slice.values) {
                assert_eq!(*ts_ns, self.ts_ns(*value as i64));
                numbers.push(*value as i64);
            }
            Ok(())
        };
        view.samples(&request, &Unmetered, &mut sink).unwrap();
        numbers
    }
}

#[test]
fn history_of_writers_readers_and_jobs_has_no_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 1 << 20, ..Options::default() };
    // Partitions of an hour, and room for half a million batches.
    let retention = Retention { raw: Some(Duration::from_secs(72 * 3600)), ..Retention::FOREVER };
    let open = || Engine::open(env.clone(), dir.path(), options.clone(), retention).unwrap();
    let mut history = History {
        engine: open(),
        // An hour ends after the first two minutes.
        base_ns: floor_to(env.clock.now_ns(), HOUR_NS) - 70 * HOUR_NS - 2 * MINUTE_NS,
        acked: [const { AtomicI64::new(0) }; 4],
        is_over: AtomicBool::new(false),
        cells: AtomicU64::new(0),
    };
    let length = Duration::from_secs(Scale::asked().of(4, 60, 1800));
    let start_ns = env.clock.monotonic_ns();
    let reads = std::thread::scope(|scope| {
        let history = &history;
        (0..4).for_each(|writer| _ = scope.spawn(move || history.run_writer(writer)));
        let readers = [1, 2, 3, 4].map(|seed| scope.spawn(move || history.run_reader(Random(seed))));
        scope.spawn(move || {
            while !history.is_over.load(Ordering::SeqCst) {
                history.engine.flush().unwrap();
                std::thread::yield_now();
            }
        });
        while env.clock.monotonic_ns() - start_ns < duration_ns(length) {
            history.engine.maintain().unwrap();
            history.engine.seal().unwrap();
            history.engine.wait_for_jobs(Duration::from_millis(20));
        }
        history.is_over.store(true, Ordering::SeqCst);
        readers.map(|reader| reader.join().unwrap()).iter().sum::<u64>()
    });
    let acked = history.acked();
    assert!(0 < reads && acked.iter().all(|acked| 0 < *acked), "{reads} reads of {acked:?}");
    history.check(&*history.engine.view(), &acked, 0, i64::MAX);
    history.engine.close().unwrap();
    drop(history.engine);
    history.engine = open();
    history.check(&*history.engine.view(), &acked, 0, i64::MAX);
    let cells = history.cells.into_inner();
    assert!(0 < cells, "windows are answered from cells, too");
    println!("{reads} reads of {cells} cells while {} batches were written", acked.iter().sum::<i64>());
}
