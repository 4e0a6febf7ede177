//! What steady loads cost: how often a byte is written, and that background work keeps to its rate.

use std::sync::{OnceLock, Weak};

use super::world::{Random, TestRow, delete, env, write};
use super::*;
use crate::clock::Clock;
use crate::engine::jobs::PURGE_WAIT_MAX_NS;
use crate::fs::Fs;
use crate::model::Value;

/// Writes what `rows_of` gives for each minute of some hours, a memtable and a pass of the jobs a minute, and lets the
/// last hour close, and those that wait.
fn run(hours: i64, rows_of: &mut dyn FnMut(i64) -> Vec<TestRow>) -> EngineStats {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS)));
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), Options::default(), Retention::default());
    let engine = engine.unwrap();
    for minute in 0..hours * 60 {
        write(&engine, &rows_of(START_NS + minute * MINUTE_NS)).unwrap();
        clock.advance(MINUTE_NS);
        engine.maintain().unwrap();
    }
    for _ in 0..90 {
        clock.advance(MINUTE_NS);
        engine.maintain().unwrap();
    }
    assert_eq!(engine.stats().segment_rows[1..].iter().filter(|rows| 0 < **rows).count(), 3, "all is rolled");
    engine.stats()
}

fn check(stats: &EngineStats, times_max: f64) {
    let written = stats.write_amplification();
    assert!((1.0..=times_max).contains(&written), "{written} times: {stats:?}");
}

#[test]
fn write_amplification_of_scraped_metrics_is_at_most_four() {
    const FIELDS: [&str; 4] = ["user", "system", "idle", "nice"];
    let hosts: Vec<String> = (0..40).map(|host| format!("host_{host}")).collect();
    let hosts: Vec<&'static str> = hosts.into_iter().map(|host| &*host.leak()).collect();
    let mut random = Random(5);
    let mut walks = vec![50_i64; hosts.len() * FIELDS.len()];
    check(
        &run(4, &mut |start_ns| {
            let mut rows = Vec::new();
            for second in (0..60).step_by(10) {
                for (number, host) in hosts.iter().enumerate() {
                    let mut step = |(field, name): (usize, &&'static str)| {
                        let walk = &mut walks[number * FIELDS.len() + field];
                        *walk = (*walk + random.below(3).cast_signed() - 1).clamp(0, 100);
                        (*name, Value::Int(*walk))
                    };
                    let fields = FIELDS.iter().enumerate().map(&mut step).collect();
                    rows.push(TestRow {
                        measurement: "cpu",
                        host,
                        ts_ns: start_ns + second * SECOND_NS,
                        fields,
                    });
                }
            }
            rows
        }),
        4.0,
    );
}

#[test]
fn write_amplification_of_events_is_at_most_four() {
    let mut random = Random(7);
    check(
        &run(4, &mut |start_ns| {
            let event = |number: i64| {
                let latency = Value::Float(random.below(900_000) as f64 / 1000.0);
                let fields = vec![
                    ("latency_ms", latency),
                    ("bytes", Value::Int(random.below(200_000).cast_signed())),
                    ("user", Value::Str(format!("u{:05}", random.below(30_000)))),
                ];
                let ts_ns = start_ns + number * 150_000_000 + random.below(150_000_000).cast_signed();
                TestRow {
                    measurement: "requests",
                    host: ["a", "b", "c"][random.below(3) as usize],
                    ts_ns,
                    fields,
                }
            };
            (0..400).map(event).collect()
        }),
        4.0,
    );
}

#[test]
fn write_amplification_beside_senders_that_are_always_late_is_bounded() {
    // A row each minute, so that each flush has some, and one in longer than an hour takes to be quiet.
    for (every, times_max) in [(1, 6.0), (11, 7.5)] {
        let mut random = Random(11);
        let mut minute = 0;
        let stats = run(6, &mut |start_ns| {
            minute += 1;
            let on_time = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter();
            let on_time =
                on_time.flat_map(|host| (0..60).map(move |second| (host, start_ns + second * SECOND_NS)));
            let late = [("half an hour late", 30 * MINUTE_NS), ("an hour and a half late", 90 * MINUTE_NS)];
            let late = late.into_iter().filter(|_| minute % every == 0);
            let late = late.map(|(host, late_ns)| (host, start_ns - late_ns));
            let mut row = |(host, ts_ns)| {
                let value = |random: &mut Random| Value::Float(random.below(900_000) as f64 / 1000.0);
                let fields = vec![("ms", value(&mut random)), ("size", value(&mut random))];
                TestRow { measurement: "requests", host, ts_ns, fields }
            };
            on_time.chain(late).map(&mut row).collect()
        });
        check(&stats, times_max);
    }
}

#[test]
fn jobs_make_way_for_who_waits_for_them_but_a_step_at_least_is_done() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 20 * HOUR_NS)));
    let retention = Retention { raw: Some(Duration::from_hours(72)), ..Retention::FOREVER };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), Options::default(), retention).unwrap();
    let row = |ts_ns| TestRow { measurement: "m", host: "a", ts_ns, fields: vec![("v", Value::Int(1))] };
    for hour in 0..4 {
        write(&engine, &[row(START_NS + hour * HOUR_NS)]).unwrap();
        engine.flush().unwrap();
    }
    clock.advance(2 * MINUTE_NS);
    let rolled = || engine.stats().segments[3];
    engine.jobs_awaited.fetch_add(1, Ordering::Relaxed);
    for left in (0..4).rev() {
        engine.run_jobs().unwrap();
        assert_eq!((rolled(), engine.has_jobs.load(Ordering::Relaxed)), (4 - left, 0 < left));
    }
    // More hours than a seal makes way: it waits for nobody in the end, and nothing is left.
    write(&engine, &(1..51).map(|hour| row(START_NS - hour * HOUR_NS)).collect::<Vec<_>>()).unwrap();
    engine.seal().unwrap();
    assert_eq!(rolled(), 4 + 50, "what is asked for is done to the end, step by step");
}

#[test]
fn background_rate_spreads_jobs_over_time_but_no_flush_and_no_order() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 4 * HOUR_NS)));
    let options = Options { background_bytes_per_second_max: Some(100), ..Options::default() };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, Retention::default()).unwrap();
    let row = |ts_ns| TestRow { measurement: "m", host: "a", ts_ns, fields: vec![("v", Value::Int(1))] };
    write(&engine, &[row(START_NS), row(START_NS + HOUR_NS)]).unwrap();
    engine.flush().unwrap();
    clock.advance(2 * MINUTE_NS);
    let before_ns = clock.monotonic_ns();
    engine.maintain().unwrap();
    let written = engine.stats().rolled_bytes.cast_signed();
    let taken_ns = clock.monotonic_ns() - before_ns;
    assert!(
        0 < written && (taken_ns - SECOND_NS * written / 100).abs() < 100,
        "{taken_ns} ns for {written} bytes"
    );
    let before_ns = clock.monotonic_ns();
    write(&engine, &[row(START_NS + 4 * HOUR_NS)]).unwrap();
    engine.flush().unwrap();
    engine.seal().unwrap();
    assert!(written < engine.stats().rolled_bytes.cast_signed());
    assert_eq!(clock.monotonic_ns(), before_ns, "flushes and what is asked for do not wait");
}

/// A clock moved by who sleeps, which looks at each sleep whether the deletes of an engine are purged.
#[derive(Debug)]
struct Watch {
    clock: ManualClock,
    engine: OnceLock<Weak<Engine>>,
    purged_ns: OnceLock<i64>,
}

impl Clock for Watch {
    fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    fn monotonic_ns(&self) -> i64 {
        self.clock.monotonic_ns()
    }

    fn sleep(&self, time: Duration) {
        let engine = self.engine.get().and_then(Weak::upgrade);
        if engine.is_some_and(|engine| engine.stats().tombstones == 0) {
            self.purged_ns.get_or_init(|| self.clock.monotonic_ns());
        }
        self.clock.sleep(time);
    }
}

#[test]
fn delete_that_waits_behind_slow_jobs_is_purged_by_its_deadline() {
    let clock = ManualClock::new(START_NS + 20 * HOUR_NS);
    let clock = Arc::new(Watch { clock, engine: OnceLock::new(), purged_ns: OnceLock::new() });
    let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::clone(&clock) as Arc<dyn Clock> };
    let options = Options { background_bytes_per_second_max: Some(2), ..Options::default() };
    let retention = Retention { raw: Some(Duration::from_hours(72)), ..Retention::FOREVER };
    let engine = Arc::new(Engine::open(env, Path::new("/db"), options, retention).unwrap());
    let row = |hour| TestRow {
        measurement: "m",
        host: "a",
        ts_ns: START_NS + hour * HOUR_NS,
        fields: vec![("v", Value::Int(1))],
    };
    write(&engine, &(0..12).map(row).collect::<Vec<_>>()).unwrap();
    engine.flush().unwrap();
    let first_hour = TimeRange::new(START_NS, START_NS + HOUR_NS);
    assert_eq!(delete(&engine, "m", None, first_hour).unwrap().segments, 1);
    let deleted_ns = clock.monotonic_ns();
    clock.clock.advance(2 * MINUTE_NS);
    assert_eq!(engine.stats().oldest_delete_ns, 2 * MINUTE_NS.unsigned_abs());
    clock.engine.set(Arc::downgrade(&engine)).unwrap();
    engine.run_jobs().unwrap();
    let stats = engine.stats();
    assert_eq!((stats.tombstones, stats.oldest_delete_ns, stats.segment_rows[0]), (0, 0, 11));
    assert!(engine.has_jobs.load(Ordering::Relaxed), "what made way goes on");
    engine.run_jobs().unwrap();
    assert_eq!(engine.stats().segment_rows[3], 11, "all is rolled");
    let (purged_ns, ended_ns) =
        (clock.purged_ns.get().unwrap() - deleted_ns, clock.monotonic_ns() - deleted_ns);
    assert!((PURGE_WAIT_MAX_NS..=PURGE_WAIT_MAX_NS + SECOND_NS).contains(&purged_ns), "{purged_ns} ns");
    assert!(3 * PURGE_WAIT_MAX_NS < ended_ns, "{ended_ns} ns: what was not deleted kept to its rate");
}

#[test]
fn delete_that_waits_for_a_damaged_segment_hurries_nobody() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 20 * HOUR_NS)));
    let options = Options { background_bytes_per_second_max: Some(100), ..Options::default() };
    let retention = Retention { raw: Some(Duration::from_hours(72)), ..Retention::FOREVER };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), options, retention).unwrap();
    let row = |host, hour, second| TestRow {
        measurement: "m",
        host,
        ts_ns: START_NS + hour * HOUR_NS + second * SECOND_NS,
        fields: vec![("v", Value::Int(1))],
    };
    write(&engine, &[row("a", 0, 1), row("b", 0, 1)]).unwrap();
    engine.seal().unwrap();
    // A late row of another series, in a file that the cells of the hour would be rolled from.
    write(&engine, &[row("b", 0, 2)]).unwrap();
    engine.flush().unwrap();
    let late = engine.store.version().of_tier(Tier::Raw).map(|live| live.meta.id).max().unwrap();
    let path = engine.store.segment_path(late);
    let mut bytes = fs.get(&path).unwrap();
    bytes[9] ^= 1;
    fs.put(&path, &bytes);
    assert!(0 < delete(&engine, "m", Some("a"), TimeRange::ALL).unwrap().segments);
    assert_eq!(engine.run_jobs().unwrap_err().kind(), ErrorKind::Corruption);
    write(&engine, &[row("c", 5, 0)]).unwrap();
    engine.flush().unwrap();
    clock.advance(2 * PURGE_WAIT_MAX_NS);
    let before_ns = clock.monotonic_ns();
    engine.run_jobs().unwrap();
    assert!(before_ns < clock.monotonic_ns(), "the new hour is rolled, at its rate");
    let stats = engine.stats();
    assert_eq!(stats.tombstones, 1);
    assert!(2 * PURGE_WAIT_MAX_NS.unsigned_abs() <= stats.oldest_delete_ns, "{stats:?}");
    assert!(2 <= stats.segments[3], "and is there");
}

#[test]
fn purge_that_fails_lets_the_other_jobs_go_first() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 20 * HOUR_NS)));
    let retention = Retention { raw: Some(Duration::from_hours(72)), ..Retention::FOREVER };
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), Options::default(), retention).unwrap();
    let row = |host, hour| TestRow {
        measurement: "m",
        host,
        ts_ns: START_NS + hour * HOUR_NS,
        fields: vec![("v", Value::Int(1))],
    };
    write(&engine, &[row("a", 0), row("b", 0)]).unwrap();
    engine.seal().unwrap();
    delete(&engine, "m", Some("a"), TimeRange::ALL).unwrap();
    let path = engine.store.version().of_tier(Tier::Raw).next().unwrap().segment.path().to_owned();
    let bytes = fs.get(&path).unwrap();
    fs.remove(&path).unwrap();
    clock.advance(2 * PURGE_WAIT_MAX_NS);
    engine.run_jobs().unwrap_err();
    write(&engine, &[row("c", 5)]).unwrap();
    engine.flush().unwrap();
    clock.advance(2 * MINUTE_NS);
    engine.run_jobs().unwrap_err();
    assert_eq!((engine.stats().segments[3], engine.stats().tombstones), (2, 1), "the new hour is rolled");
    fs.put(&path, &bytes);
    engine.run_jobs().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
}
