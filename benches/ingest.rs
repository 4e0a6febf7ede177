//! The library's write path as a whole and in parts: parse, resolve + log + memtable, flush, compaction + rollup;
//! then scans over what was written. One thread; the log is synced before every acknowledgement.
//!
//! Run with `cargo bench --bench ingest [-- ROWS]`; pin it to a core with `taskset -c 0` for the figure of one core.
//! Prints one line per part; the last lines are the sums that docs/benchmarks.md quotes.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::SystemClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::OsFs;
use icecore_storage::model::{SeriesId, TimeRange};
use icecore_storage::options::{Options, Retention};
use icecore_storage::scan::{Bounds, Resolution, SampleRequest, Scan, Unmetered, Window, WindowRequest};

mod common;

const BATCH_LINES: usize = 5_000;

struct Shape {
    name: &'static str,
    lines: String,
    fields: usize,
    measurement: &'static str,
    field: &'static str,
}

fn main() {
    let rows = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let tsbs = Shape {
        name: "tsbs (10 tags, 10 integer fields)",
        lines: common::tsbs_lines(1_000, rows),
        fields: 10,
        measurement: "cpu",
        field: "usage_user",
    };
    run(&tsbs, rows);
    let events = Shape {
        name: "events (3 tags, 5 fields)",
        lines: common::event_lines(rows),
        fields: 5,
        measurement: "requests",
        field: "latency_ms",
    };
    run(&events, rows);
}

fn run(shape: &Shape, rows: usize) {
    println!("\n{}: {rows} rows, {} bytes of text", shape.name, shape.lines.len());
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let engine = open(scratch.path());
    let limits = LineLimits::default();
    let bodies = batches(&shape.lines);

    let (mut parse, mut write, mut flush) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut acks = Vec::with_capacity(bodies.len());
    for body in &bodies {
        let start = Instant::now();
        let decoded = decode(body.as_bytes(), Precision::Ns, 0, &limits);
        let parsed = Instant::now();
        let report = engine.write(&decoded.batch).expect("a healthy disk");
        assert_eq!(report.rejected, []);
        let written = Instant::now();
        engine.maintain().expect("a healthy disk");
        parse += parsed - start;
        write += written - parsed;
        flush += written.elapsed();
        acks.push(written - start);
    }
    let start = Instant::now();
    engine.flush().expect("a healthy disk");
    flush += start.elapsed();
    let start = Instant::now();
    engine.seal().expect("a healthy disk");
    let seal = start.elapsed();

    let values = (rows * shape.fields) as f64;
    let line = |part: &str, took: Duration| {
        let per_value = took.as_secs_f64() * 1e9 / values;
        println!("  {part:<34} {:>8.3} s  {per_value:>7.1} ns/value", took.as_secs_f64());
    };
    line("parse", parse);
    line("resolve, log, fdatasync, memtable", write);
    line("flush", flush);
    line("compaction and rollup to 1m, 5m, 1h", seal);
    let total = parse + write + flush + seal;
    line("all", total);
    acks.sort_unstable();
    let rate = values / total.as_secs_f64() / 1e6;
    println!("  {rate:.2} M values/s, {:.3} M rows/s, all included", rows as f64 / total.as_secs_f64() / 1e6);
    println!(
        "  durable ack of {BATCH_LINES} lines: p50 {:?}, max {:?}",
        acks[acks.len() / 2],
        acks[acks.len() - 1]
    );
    let stats = engine.stats();
    println!(
        "  on disk: raw {:.2} B/row ({:.3} B/value); cells 1m {} B, 5m {} B, 1h {} B",
        stats.segment_bytes[0] as f64 / rows as f64,
        stats.segment_bytes[0] as f64 / values,
        stats.segment_bytes[1],
        stats.segment_bytes[2],
        stats.segment_bytes[3],
    );
    scans(shape, &engine, rows);
}

fn open(dir: &Path) -> Engine {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    Engine::open(env, dir, Options::default(), Retention::FOREVER).expect("a new database")
}

/// Bodies of so many lines as clients are told to send.
fn batches(lines: &str) -> Vec<&str> {
    let mut bodies = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let end = rest.match_indices('\n').nth(BATCH_LINES - 1).map_or(rest.len(), |(at, _)| at + 1);
        let (body, after) = rest.split_at(end);
        bodies.push(body);
        rest = after;
    }
    bodies
}

fn scans(shape: &Shape, engine: &Engine, rows: usize) {
    let view = engine.view();
    let schema = view.schema(shape.measurement).expect("the measurement was written");
    let field = schema.field(shape.field).expect("the field was written");
    let series = view.series(schema.measurement, &[], TimeRange::ALL, usize::MAX).expect("series");
    let series: Vec<SeriesId> = series.iter().map(|info| info.id).collect();
    let request = SampleRequest {
        measurement: schema.measurement,
        field: field.id,
        series: &series,
        range: TimeRange::ALL,
    };
    for state in ["cold pages", "cached pages"] {
        let start = Instant::now();
        let mut count = 0;
        let mut sum = 0.0;
        view.samples(&request, &Unmetered, &mut |slice| {
            count += slice.values.len();
            sum += slice.values.iter().sum::<f64>();
            Ok(())
        })
        .expect("readable files");
        assert_eq!(count, rows, "every row has the field");
        let rate = rows as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("  scan of one field over raw rows, {state}: {rate:.0} M rows/s (sum {sum})");
    }
    windows(shape, &*view, &series, rows);
}

/// One window per hour for every series, from cells.
fn windows(shape: &Shape, view: &dyn Scan, series: &[SeriesId], rows: usize) {
    let schema = view.schema(shape.measurement).expect("the measurement was written");
    let field = schema.field(shape.field).expect("the field was written");
    let hour_ns = 3_600_000_000_000;
    let windows: Vec<Window> = (0..24)
        .map(|hour| common::START_NS + hour * hour_ns)
        .map(|start_ns| Window { start_ns, end_ns: start_ns + hour_ns })
        .collect();
    for with_hist in [false, true] {
        let request = WindowRequest {
            measurement: schema.measurement,
            field: field.id,
            series,
            windows: &windows,
            bounds: Bounds::RightOpen,
            with_hist,
            resolution: Resolution::Auto,
        };
        let start = Instant::now();
        let mut count = 0;
        let coverage = view
            .windows(&request, &Unmetered, &mut |slice| {
                count += slice.partials.iter().map(|partial| partial.count()).sum::<u64>();
                Ok(())
            })
            .expect("readable files");
        let took = start.elapsed();
        assert!(count as usize <= rows);
        println!(
            "  hourly windows from cells (histograms: {with_hist}): {took:?} for {count} rows, read {coverage:?}"
        );
    }
}
