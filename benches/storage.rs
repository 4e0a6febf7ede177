//! The storage engine in parts: group commit beside the bare fdatasync rate of the same directory, flush, scans of
//! raw rows with and without decoded pages in the cache, windows from cells, rows into a memtable.
//!
//! Run with `cargo bench --bench storage [-- ROWS]`; prints one line per figure.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::SystemClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::{Fs, OsFs};
use icecore_storage::memtable::Memtable;
use icecore_storage::model::{MeasurementId, SeriesId, StatSet, TimeRange};
use icecore_storage::options::{Durability, Options, Retention};
use icecore_storage::scan::{Bounds, Resolution, SampleRequest, Scan, Unmetered, Window, WindowRequest};
use icecore_storage::series::{Catalog, CatalogLimits};
use icecore_storage::wal::{Extent, GroupCommit, Hooks, Writer, replay};

#[path = "common/batches.rs"]
mod batches;
mod common;
#[path = "common/cost.rs"]
mod cost;

use cost::{Cost, Moment};

/// Bytes of a batch in the log.
const WAL_BATCH_BYTES: usize = 16 << 10;
/// Batches of each thread in one round.
const WAL_BATCHES: usize = 300;
/// Rounds, interleaved between the two sides; the middle one counts.
const WAL_ROUNDS: usize = 5;

struct Shape {
    name: &'static str,
    lines: String,
    fields: usize,
    measurement: &'static str,
    field: &'static str,
}

fn main() {
    let rows = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    wal();
    shape(
        &Shape {
            name: "tsbs",
            lines: common::tsbs_lines(1_000, rows),
            fields: 10,
            measurement: "cpu",
            field: "usage_user",
        },
        rows,
    );
    shape(
        &Shape {
            name: "events",
            lines: common::event_lines(rows),
            fields: 5,
            measurement: "requests",
            field: "latency_ms",
        },
        rows,
    );
}

/// Nothing to define, nothing to apply.
struct NoHooks;

impl Hooks<()> for NoHooks {
    fn take_definitions(&self) -> Option<Vec<u8>> {
        None
    }

    fn apply(&self, _items: Vec<(u64, ())>) {}
}

fn wal() {
    println!("\nlog: batches of {WAL_BATCH_BYTES} bytes, fdatasync before every acknowledgement");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    for threads in [1, 4] {
        let (mut bare, mut group) = (Vec::new(), Vec::new());
        for round in 0..WAL_ROUNDS {
            bare.push(bare_syncs(&scratch.path().join(format!("bare-{threads}-{round}"))));
            group.push(group_commits(&scratch.path().join(format!("wal-{threads}-{round}")), threads));
        }
        let (bare, group) = (middle(&mut bare), middle(&mut group));
        println!(
            "  {threads} threads: {group:.0} acks/s; one thread with append and fdatasync only: {bare:.0}/s; \
             ratio {:.2}",
            group / bare
        );
    }
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Appends and syncs of a batch each, per second.
fn bare_syncs(path: &Path) -> f64 {
    let batch = noise();
    let mut file = OsFs.create(path).expect("a healthy disk");
    let start = Instant::now();
    for _ in 0..WAL_BATCHES {
        file.append(&batch).expect("a healthy disk");
        file.sync().expect("a healthy disk");
    }
    WAL_BATCHES as f64 / start.elapsed().as_secs_f64()
}

/// Acknowledged batches per second.
fn group_commits(dir: &Path, threads: usize) -> f64 {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    fs.create_dir_all(dir).expect("a healthy disk");
    let report = replay(&*fs, dir, Extent::default(), &mut |_, _| Ok(())).expect("an empty log");
    let file_bytes_max = Options::default().wal_file_bytes_max;
    let writer = Writer::open(fs, dir, &report, file_bytes_max, Box::new(|_| Ok(()))).expect("a new log");
    let log = GroupCommit::new(writer, Durability::Fsync, Arc::new(SystemClock::default()));
    let batch = noise();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..WAL_BATCHES {
                    log.commit(&NoHooks, batch.clone(), ()).expect("a healthy disk");
                }
            });
        }
    });
    (threads * WAL_BATCHES) as f64 / start.elapsed().as_secs_f64()
}

fn noise() -> Vec<u8> {
    let mut random = common::Random::new(3);
    (0..WAL_BATCH_BYTES).map(|_| random.below(256) as u8).collect()
}

fn shape(shape: &Shape, rows: usize) {
    println!("\n{}: {rows} rows", shape.name);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let engine = open(scratch.path(), CACHE_BYTES);
    let limits = LineLimits::default();
    let mut flush = Cost::default();
    for (place, body) in batches::batches(&shape.lines).iter().enumerate() {
        let decoded = decode(body.as_bytes(), Precision::Ns, 0, &limits);
        engine.write(&decoded.batch).expect("a healthy disk");
        // A memtable of 200,000 rows at a time.
        if ((place + 1) * batches::BATCH_LINES).is_multiple_of(200_000) {
            let start = Moment::now();
            engine.flush().expect("a healthy disk");
            flush += start.cost();
        }
    }
    let start = Moment::now();
    engine.flush().expect("a healthy disk");
    flush += start.cost();
    let per_value = |time: Duration| time.as_secs_f64() * 1e9 / (rows * shape.fields) as f64;
    println!(
        "  flush: {:.1} ns/value on the wall, {:.1} of one core",
        per_value(flush.wall),
        per_value(flush.cpu)
    );
    engine.seal().expect("a healthy disk");
    drop(engine);
    scans(shape, scratch.path(), rows);
    memtable(shape, rows);
}

/// What one batch after the other costs where batches become visible: the only part of a write that no two writers do
/// at once, but for the log.
fn memtable(shape: &Shape, rows: usize) {
    let catalog = Catalog::new(CatalogLimits {
        series_max: usize::MAX,
        measurement_series_max: usize::MAX,
        new_series_per_minute_max: usize::MAX,
        tag_values_max: usize::MAX,
        fields_max: 100,
        catalog_bytes_max: usize::MAX,
    });
    let memtable = Memtable::new();
    let mut cost = Cost::default();
    for body in batches::batches(&shape.lines) {
        let decoded = decode(body.as_bytes(), Precision::Ns, 0, &LineLimits::default());
        let blocks = catalog.resolve(&decoded.batch, TimeRange::ALL, &mut Vec::new());
        let start = Moment::now();
        for (measurement, rows) in &blocks {
            memtable.apply(*measurement, rows);
        }
        cost += start.cost();
    }
    assert_eq!(memtable.rows(), rows as u64, "every row was applied");
    let per_value = cost.cpu.as_secs_f64() * 1e9 / (rows * shape.fields) as f64;
    println!("  memtable: {per_value:.1} ns/value of one core");
}

/// Room for all decoded pages.
const CACHE_BYTES: usize = 1 << 30;

fn open(dir: &Path, cache_bytes_max: usize) -> Engine {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let options = Options { cache_bytes_max, ..Options::default() };
    Engine::open(env, dir, options, Retention::FOREVER).expect("a database")
}

/// How often a field is scanned in each state.
const SCANS: usize = 15;

/// Scans of one field: by an engine that keeps no decoded page, so that each is decoded again; by engines that were opened
/// anew, which also take the memory for what they decode from the system; and of the pages that these keep.
fn scans(shape: &Shape, dir: &Path, rows: usize) {
    let states = [
        "times and values, no page kept",
        "times and values, first after opening",
        "times and values, decoded pages cached",
        "values, decoded pages cached",
    ];
    let mut costs = [const { Vec::new() }; 4];
    let forgetful = open(dir, 0);
    for _ in 0..SCANS {
        let fresh = open(dir, CACHE_BYTES);
        for ((state, engine), costs) in
            states.iter().zip([&forgetful, &fresh, &fresh, &fresh]).zip(&mut costs)
        {
            costs.push(scan(shape, &*engine.view(), state.starts_with("times"), rows));
        }
    }
    drop(forgetful);
    for (state, mut costs) in states.iter().zip(costs) {
        costs.sort_unstable();
        let rate = |place: usize| rows as f64 / costs[place].as_secs_f64() / 1e6;
        let (median, least, most) = (rate(SCANS / 2), rate(SCANS - 1), rate(0));
        println!("  scan of one field, {state}: {median:.0} M rows/s of one core ({least:.0} to {most:.0})");
    }
    let engine = open(dir, CACHE_BYTES);
    let view = engine.view();
    let schema = view.schema(shape.measurement).expect("the measurement was written");
    windows(shape, &*view, &series_of(&*view, schema.measurement));
}

fn series_of(view: &dyn Scan, measurement: MeasurementId) -> Vec<SeriesId> {
    view.series_ids(measurement, &[], TimeRange::ALL, usize::MAX).expect("series")
}

/// Processor time of a scan of one field.
fn scan(shape: &Shape, view: &dyn Scan, with_times: bool, rows: usize) -> Duration {
    let schema = view.schema(shape.measurement).expect("the measurement was written");
    let field = schema.field(shape.field).expect("the field was written");
    let request = SampleRequest {
        measurement: schema.measurement,
        field: field.id,
        series: &series_of(view, schema.measurement),
        range: TimeRange::ALL,
    };
    let start = Moment::now();
    let (mut count, mut sum, mut times) = (0, 0.0, 0_i64);
    view.samples(&request, &Unmetered, &mut |slice| {
        count += slice.values.len();
        sum += slice.values.iter().sum::<f64>();
        if with_times {
            times = slice.ts_ns.iter().fold(times, |times, ts_ns| times ^ ts_ns);
        }
        Ok(())
    })
    .expect("readable files");
    let cost = start.cost();
    assert_eq!(count, rows, "every row has the field");
    black_box((sum, times));
    cost.cpu
}

/// One window per hour for every series, from cells.
fn windows(shape: &Shape, view: &dyn Scan, series: &[SeriesId]) {
    let schema = view.schema(shape.measurement).expect("the measurement was written");
    let field = schema.field(shape.field).expect("the field was written");
    let hour_ns = 3_600_000_000_000;
    let windows: Vec<Window> = (0..24)
        .map(|hour| common::START_NS + hour * hour_ns)
        .map(|start_ns| Window { start_ns, end_ns: start_ns + hour_ns })
        .collect();
    let all = StatSet::NUMBERS.with(StatSet::HIST);
    for (wants, what) in [(StatSet::NUMBERS, "numbers"), (all, "numbers and histograms")] {
        let request = WindowRequest {
            measurement: schema.measurement,
            field: field.id,
            series,
            windows: &windows,
            bounds: Bounds::RightOpen,
            wants,
            resolution: Resolution::Auto,
        };
        for state in ["cold", "decoded pages cached"] {
            let start = Moment::now();
            let mut count = 0;
            let coverage = view
                .windows(&request, &Unmetered, &mut |slice| {
                    count += slice.partials.iter().map(|partial| partial.count()).sum::<u64>();
                    Ok(())
                })
                .expect("readable files");
            let cost = start.cost();
            println!(
                "  hourly windows, {what}, {state}: {:?} on the wall, {:?} of one core for {count} values from {} raw \
                 rows and {:?} cells of 1m, 5m, 1h",
                cost.wall, cost.cpu, coverage.rows, coverage.cells
            );
        }
    }
}
