//! Group commit and the publishing of versions under chosen schedules of threads, by the model checker `shuttle`: every
//! lock is a place where it may let another thread go on. Random schedules, and those of PCT with three changes of
//! priority, which find any bug of that depth with a known probability. A deadlock is a failure.
//!
//! Compiled with `--cfg shuttle` only; the other tests cannot run then.

use shuttle::sync::atomic::AtomicI64;
use shuttle::thread;

use super::world::{TestRow, content, env, write};
use super::*;
use crate::fs::sim::Fault;
use crate::model::Value;
use crate::testing::Scale;

const BATCHES: i64 = 2;

/// The same number in two measurements.
fn batch(host: &'static str, number: i64) -> Vec<TestRow> {
    let fields = vec![("number", Value::Int(number))];
    let row = |measurement| TestRow { measurement, host, ts_ns: START_NS + number, fields: fields.clone() };
    vec![row("cpu"), row("net")]
}

fn open(fs: &Arc<SimFs>) -> Engine {
    let clock = Arc::new(ManualClock::new(START_NS + HOUR_NS));
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 300, ..Options::default() };
    Engine::open(env(fs, &clock), Path::new("/db"), options, Retention::FOREVER).unwrap()
}

/// By writer, how many batches are seen; each must be whole, and none missing below another.
fn seen(view: &dyn Scan) -> [i64; 2] {
    let content = content(view);
    ["a", "b"].map(|host| {
        let of = |measurement: &'static str| {
            let places = content.keys().filter(move |place| place.0 == measurement && place.1 == host);
            places.map(|place| place.2 - START_NS).collect::<Vec<_>>()
        };
        let numbers = of("cpu");
        assert_eq!(numbers, of("net"), "a batch of {host} is torn");
        assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "{host} has a gap: {numbers:?}");
        numbers.len() as i64
    })
}

/// Two writers, a reader, the flush and beside it the other jobs; the operation of the disk with this number may fail.
fn writers_reader_and_jobs(fault: Option<(u64, Fault)>) {
    let fs = Arc::new(SimFs::default());
    let engine = open(&fs);
    if let Some((after, fault)) = fault {
        fs.fail_at(fs.operations() + after, fault);
    }
    let acked = [AtomicI64::new(0), AtomicI64::new(0)];
    let acked_now = || acked.each_ref().map(|acked| acked.load(Ordering::SeqCst));
    thread::scope(|scope| {
        for (host, acked) in ["a", "b"].into_iter().zip(&acked) {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..BATCHES {
                    if let Err(error) = write(engine, &batch(host, number)) {
                        assert!(fault.is_some(), "{error}");
                        return;
                    }
                    acked.store(number + 1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let acked = acked_now();
            let seen = seen(&*engine.view());
            assert!(acked.iter().zip(&seen).all(|(acked, seen)| acked <= seen), "{acked:?} {seen:?}");
        });
        scope.spawn(|| {
            let sealed = engine.seal();
            assert!(sealed.is_ok() || fault.is_some(), "{sealed:?}");
        });
        let flushed = engine.flush();
        assert!(flushed.is_ok() || fault.is_some(), "{flushed:?}");
    });
    let acked = acked_now();
    fs.crash_losing_unsynced();
    let found = seen(&*open(&fs).view());
    assert!(
        acked.iter().zip(&found).all(|(acked, found)| acked <= found),
        "{acked:?}, after a crash {found:?}"
    );
    assert!(fault.is_some() || found == [BATCHES; 2], "{found:?}");
}

fn schedules() -> usize {
    Scale::asked().of(1_000, 10_000, 100_000)
}

#[test]
fn random_schedules_keep_batches_whole_and_acknowledged() {
    shuttle::check_random(|| writers_reader_and_jobs(None), schedules());
}

#[test]
fn pct_schedules_keep_batches_whole_and_acknowledged() {
    shuttle::check_pct(|| writers_reader_and_jobs(None), schedules(), 3);
}

#[test]
fn random_schedules_with_a_failing_sync_keep_what_was_acknowledged() {
    for after in 0..12 {
        shuttle::check_random(move || writers_reader_and_jobs(Some((after, Fault::Io))), schedules() / 10);
    }
}
