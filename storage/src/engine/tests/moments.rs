//! What a view sees while others write: one moment, whole batches, and everything acknowledged before it.

use std::sync::atomic::AtomicI64;

use super::world::{Content, TestRow, content, env, write};
use super::*;
use crate::clock::SystemClock;
use crate::fs::OsFs;
use crate::model::Value;

const WRITERS: [&str; 3] = ["a", "b", "c"];
const BATCHES: i64 = 60;

/// The same number in two measurements.
fn batch(host: &'static str, base_ns: i64, number: i64) -> Vec<TestRow> {
    let row = |measurement| TestRow {
        measurement,
        host,
        ts_ns: base_ns + number * SECOND_NS,
        fields: vec![("number", Value::Int(number))],
    };
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
    write(&engine, &batch("a", START_NS, 1)).unwrap();
    assert_eq!(content(&*view).len(), 2, "not even when it is read for the first time only now");
    engine.seal().unwrap();
    write(&engine, &batch("a", START_NS, 0)).unwrap();
    assert_eq!((content(&*view).len(), content(&*engine.view()).len()), (2, 4));
}

/// Every batch is in both measurements or in neither, none is missing below an acknowledged one.
fn check(found: &Content, acked: &[i64]) {
    for (host, acked) in WRITERS.iter().zip(acked) {
        let numbers = |measurement: &str| {
            let of = |place: &&(String, String, i64, String)| place.0 == measurement && place.1 == *host;
            found.keys().filter(of).map(|place| place.2).collect::<Vec<_>>()
        };
        let (cpu, net) = (numbers("cpu"), numbers("net"));
        assert_eq!(cpu, net, "a batch of {host} is torn");
        assert!(*acked <= cpu.len() as i64, "{host}: {} of {acked} batches", cpu.len());
    }
}

#[test]
fn concurrent_writers_readers_and_jobs_keep_batches_whole() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let base_ns = env.clock.now_ns() - 10 * MINUTE_NS;
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 4000, ..Options::default() };
    let engine = Engine::open(env.clone(), dir.path(), options.clone(), Retention::default()).unwrap();
    let acked = WRITERS.map(|_| AtomicI64::new(0));
    let is_done = || acked.iter().all(|acked| acked.load(Ordering::SeqCst) == BATCHES);
    let acked_now = || acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for (host, acked) in WRITERS.iter().zip(&acked) {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..BATCHES {
                    write(engine, &batch(host, base_ns, number)).unwrap();
                    acked.store(number + 1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done() {
                    let acked = acked_now();
                    check(&content(&*engine.view()), &acked);
                }
            });
        }
        while !is_done() {
            engine.flush().unwrap();
            engine.maintain().unwrap();
            engine.seal().unwrap();
        }
    });
    check(&content(&*engine.view()), &acked_now());
    engine.close().unwrap();
    drop(engine);
    let engine = Engine::open(env, dir.path(), options, Retention::default()).unwrap();
    assert_eq!(content(&*engine.view()).len() as i64, 2 * 3 * BATCHES);
}
