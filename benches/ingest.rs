//! The library's write path as a whole and in parts: parse, resolve + log + memtable, flush, compaction + rollup.
//! One thread; the log is synced before every acknowledgement. Each part is shown with its time on the wall and on
//! the processors.
//!
//! All rows are long past, so their hours are closed: what background work is due is done after every batch and counts
//! as flush. After the last row the engine's clock jumps two minutes ahead, and then on by a little more than an hour at a
//! time: hours that were rolled while their rows still came rest for so long (decision 0024). What is due after each jump,
//! until one finds nothing to write, is the rest. Writing everything into one segment, which only an order does, is shown apart.
//!
//! Then all parts together, until nothing is due any more: by one thread that does everything, and by writers with
//! threads of their own beside the threads of the background work, as in the server; both held on one core, and these on
//! all. What the cores beside the first add is told of both.
//!
//! Run with `cargo bench --bench ingest [-- ROWS [tsbs|events|FILE]]`; FILE holds line protocol, of which the first ROWS
//! lines are taken. Pin it to a core with `taskset -c 0` for the figure of one core; a last word `alone` leaves the
//! writers of their own threads out. Short runs end with a flush and a roll that nothing is written beside: for what cores
//! add take rows of some hours, 12,000,000 of events and 4,000,000 of tsbs.
//! Prints one line per part; the last lines are the sums that docs/benchmarks.md quotes.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::{Clock, SystemClock};
use icecore_storage::engine::Env;
use icecore_storage::fs::OsFs;
use icecore_storage::options::{Options, Retention};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[path = "common/batches.rs"]
mod batches;
mod common;
#[path = "common/cost.rs"]
mod cost;

use batches::{BATCH_LINES, batches};
use cost::{Cost, Moment};

/// Long enough for the engine to find that no more rows come for the hour that was written last.
const QUIET_NS: i64 = 120_000_000_000;

/// Longer than an hour that rows came late for is left alone after it was rolled, and than it takes to be quiet.
const REST_NS: i64 = 3_660_000_000_000;

/// Longest wait for work.
const STEP: Duration = Duration::from_millis(20);

/// The machine's clock, and how far ahead of it this one is.
#[derive(Debug, Default)]
struct JumpingClock {
    machine: SystemClock,
    ahead_ns: AtomicI64,
}

impl Clock for JumpingClock {
    fn now_ns(&self) -> i64 {
        self.machine.now_ns() + self.ahead_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> i64 {
        self.machine.monotonic_ns() + self.ahead_ns.load(Ordering::SeqCst)
    }
}

struct Shape {
    name: String,
    lines: String,
    fields: usize,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rows = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let file = words.iter().find(|word| Path::new(word).is_file());
    let only = words.iter().find(|word| ["tsbs", "events"].contains(&word.as_str())).or(file);
    let is_wanted = |shape: &str| only.is_none_or(|only| only == shape);
    let mut shapes = Vec::new();
    if is_wanted("tsbs") {
        let lines = common::tsbs_lines(1_000, rows);
        shapes.push(Shape { name: "tsbs (10 tags, 10 integer fields)".into(), lines, fields: 10 });
    }
    if is_wanted("events") {
        let lines = common::event_lines(rows);
        shapes.push(Shape { name: "events (3 tags, 5 fields)".into(), lines, fields: 5 });
    }
    shapes.extend(file.map(|file| of_file(file, rows)));
    for shape in shapes {
        let rows = shape.lines.lines().count();
        run(&shape, rows);
        if !words.iter().any(|word| word == "alone") {
            scale(&shape, rows);
        }
    }
}

/// The first lines of a file; all must have the fields of the first.
fn of_file(path: &str, rows: usize) -> Shape {
    let file = BufReader::new(File::open(path).expect("a file"));
    let mut lines = String::new();
    for line in file.lines().take(rows) {
        lines.push_str(&line.expect("line protocol"));
        lines.push('\n');
    }
    let fields = lines.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    Shape { name: path.into(), fields: fields.split(',').count(), lines }
}

fn run(shape: &Shape, rows: usize) {
    println!("\n{}: {rows} rows, {} bytes of text", shape.name, shape.lines.len());
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(JumpingClock::default());
    let engine = open(scratch.path(), &clock);
    let limits = LineLimits::default();
    let bodies = batches(&shape.lines);

    let (mut parse, mut write, mut flush) = (Cost::default(), Cost::default(), Cost::default());
    let mut acks = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let start = Moment::now();
        let decoded = decode(body.as_bytes(), Precision::Ns, 0, &limits);
        let parsed = Moment::now();
        let report = engine.write(&decoded.batch).expect("a healthy disk");
        assert_eq!(report.rejected, []);
        let written = Moment::now();
        engine.maintain().expect("a healthy disk");
        parse += parsed - start;
        write += written - parsed;
        flush += written.cost();
        acks.push((written - start).wall);
    }
    let start = Moment::now();
    engine.flush().expect("a healthy disk");
    flush += start.cost();
    let start = Moment::now();
    finish(&engine, &clock);
    let rest = start.cost();
    let amplification = engine.stats().write_amplification();
    let start = Moment::now();
    engine.seal().expect("a healthy disk");
    let seal = start.cost();

    let values = (rows * shape.fields) as f64;
    let mut all = Cost::default();
    println!("  {:<34} {:>9} {:>9}  (ns/value)", "", "wall", "cpu");
    for (part, cost) in [
        ("parse", parse),
        ("resolve, log, fdatasync, memtable", write),
        ("flush and the work due after it", flush),
        ("the rest of compaction and rollup", rest),
    ] {
        print_part(part, cost, values);
        all += cost;
    }
    print_part("all", all, values);
    print_part("all into one segment, not in the sum", seal, values);
    let rate = |time: Duration| values / time.as_secs_f64() / 1e6;
    println!(
        "  {:.2} M values/s on the wall, {:.2} M values/s of one core, all included",
        rate(all.wall),
        rate(all.cpu)
    );
    acks.sort_unstable();
    let ack = |percent: usize| acks[(acks.len() - 1) * percent / 100];
    println!("  durable ack of {BATCH_LINES} lines: p50 {:?}, p99 {:?}", ack(50), ack(99));
    let bytes = engine.stats().segment_bytes;
    println!("  segment bytes written: {amplification:.2} times those of the raw rows as flushed");
    println!(
        "  on disk: raw {:.2} B/row ({:.3} B/value); cells 1m {} B, 5m {} B, 1h {} B",
        bytes[0] as f64 / rows as f64,
        bytes[0] as f64 / values,
        bytes[1],
        bytes[2],
        bytes[3],
    );
}

fn print_part(part: &str, cost: Cost, values: f64) {
    let per_value = |time: Duration| time.as_secs_f64() * 1e9 / values;
    println!("  {part:<34} {:>9.1} {:>9.1}", per_value(cost.wall), per_value(cost.cpu));
}

/// One thread that does everything, then writers beside the threads of the background work; on one core and on all.
fn scale(shape: &Shape, rows: usize) {
    let values = (rows * shape.fields) as f64;
    let bodies = batches(&shape.lines);
    let mut best_alone = f64::INFINITY;
    for (writers, on_all, name) in [
        (0, false, "one core, 1 thread"),
        (4, false, "one core, 4 writers"),
        (1, true, "all cores, 1 writer"),
        (2, true, "all cores, 2 writers"),
        (4, true, "all cores, 4 writers"),
    ] {
        let cost = if on_all { scaled(&bodies, writers) } else { on_one_core(|| scaled(&bodies, writers)) };
        let time = cost.wall.as_secs_f64();
        if !on_all {
            best_alone = best_alone.min(time);
        }
        println!(
            "  {name:<20} {:>6.2} M values/s on the wall, {:.2} times the best of one core; {:.1} ns/value on the processors",
            values / time / 1e6,
            best_alone / time,
            cost.cpu.as_secs_f64() * 1e9 / values
        );
    }
}

/// Runs `work` with this thread, and those that it starts, on the first core that it may use.
fn on_one_core<R>(work: impl FnOnce() -> R) -> R {
    let all = sched_getaffinity(None).expect("Linux");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).expect("a core to run on");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("a core of this thread");
    let done = work();
    sched_setaffinity(None, &all).expect("the cores that it had");
    done
}

/// Cost until all is written and no work is due; 0 writers: this thread does it all.
fn scaled(bodies: &[&str], writers: usize) -> Cost {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let clock = Arc::new(JumpingClock::default());
    let engine = open(scratch.path(), &clock);
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let write_next = || {
        let body = bodies.get(next.fetch_add(1, Ordering::SeqCst));
        body.map(|body| {
            let decoded = decode(body.as_bytes(), Precision::Ns, 0, &LineLimits::default());
            engine.write(&decoded.batch).expect("a healthy disk");
        })
    };
    let start = Moment::now();
    if writers == 0 {
        while write_next().is_some() {
            engine.maintain().expect("a healthy disk");
        }
    }
    std::thread::scope(|scope| {
        if 0 < writers {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    engine.wait_for_flush(STEP);
                    engine.flush_due().expect("a healthy disk");
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    engine.wait_for_jobs(STEP);
                    engine.run_jobs().expect("a healthy disk");
                }
            });
        }
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(|| while write_next().is_some() {})).collect();
        for thread in threads {
            thread.join().expect("a writer that does not panic");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    engine.flush().expect("a healthy disk");
    finish(&engine, &clock);
    start.cost()
}

/// Does all work that time alone makes due: what is due when no more rows come, and then after each rest, until a rest
/// brings none.
fn finish(engine: &Engine, clock: &JumpingClock) {
    let pass_after = |jump_ns: i64| {
        clock.ahead_ns.fetch_add(jump_ns, Ordering::SeqCst);
        engine.maintain().expect("a healthy disk");
        let stats = engine.stats();
        stats.compacted_bytes + stats.rolled_bytes
    };
    // Late segments are first seen here, at the latest: the first rest is counted from now.
    let mut written = pass_after(QUIET_NS);
    loop {
        let before = std::mem::replace(&mut written, pass_after(REST_NS));
        if written == before {
            return;
        }
    }
}

fn open(dir: &Path, clock: &Arc<JumpingClock>) -> Engine {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::clone(clock) as Arc<dyn Clock> };
    Engine::open(env, dir, Options::default(), Retention::FOREVER).expect("a new database")
}
