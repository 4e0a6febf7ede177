//! Queries in the library, over many short series and over few long ones: the first time (nothing decoded is in the
//! cache) and again.
//!
//! Run with `cargo bench --bench query [-- SERIES]`; prints one line per query: milliseconds on the wall and of one
//! core, cold and warm (the middle of five).

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::fmt::Write as _;
use std::path::Path;

use icecore::database::Steps;
use icecore::ingest::line::Precision;
use icecore::{Config, Database, QueryOptions, Retention};

mod common;
#[path = "common/cost.rs"]
mod cost;

use cost::{Cost, Moment};

const SECOND_NS: i64 = 1_000_000_000;
/// Samples of each short series, a minute apart.
const SAMPLES: i64 = 10;
/// Long series, and the rows of all of them: ten seconds apart.
const HOSTS: u64 = 100;
const ROWS: usize = 200_000;
/// Lines of one request.
const LINES: usize = 20_000;
/// Warm runs, of which the middle one counts.
const RUNS: usize = 5;

/// A query and how it is asked.
enum Ask {
    /// At the end of the data.
    Instant(&'static str),
    /// At 60 steps before the end of the data, so many seconds apart.
    Range(&'static str, i64),
    Select(&'static str),
}

fn main() {
    let series = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(100_000);
    println!("\n{series} series of {SAMPLES} samples, one partition, sealed");
    let wide = [
        Ask::Instant("count(pod_mem_mb)"),
        Ask::Instant("sum(pod_mem_mb)"),
        Ask::Instant("sum(rate(pod_mem_mb[10m]))"),
        Ask::Instant("sum by (namespace) (rate(pod_mem_mb[10m]))"),
        Ask::Instant("topk(5, pod_mem_mb)"),
        Ask::Range("sum by (namespace) (rate(pod_mem_mb[5m]))", 5),
        Ask::Select("SELECT count(mb), max(mb) FROM pod_mem"),
        Ask::Select("SELECT mean(mb) FROM pod_mem GROUP BY namespace"),
        Ask::Select("SELECT count(mb) FROM pod_mem WHERE mb > 2000"),
    ];
    run(&wide_lines(series), common::START_NS + SAMPLES * 60 * SECOND_NS, &wide);
    println!("\n{HOSTS} series of {} rows with 10 fields, sealed", ROWS as u64 / HOSTS);
    let long = [
        Ask::Instant("sum(rate(cpu_usage_user[1h]))"),
        Ask::Instant("quantile(0.9, quantile_over_time(0.9, cpu_usage_user[1h]))"),
        Ask::Instant("histogram_quantile(0.9, sum(sum_over_time(cpu_usage_user{__stat__=\"hist\"}[5h])))"),
        Ask::Range("sum by (rack) (avg_over_time(cpu_usage_user[5m]))", 300),
        Ask::Range("max(cpu_usage_user)", 60),
        Ask::Select(
            "SELECT mean(usage_user) FROM cpu WHERE time >= 1451606400s GROUP BY time(5m) fill(none)",
        ),
        Ask::Select("SELECT percentile(usage_user, 90) FROM cpu GROUP BY rack"),
        Ask::Select("SELECT usage_user FROM cpu LIMIT 10"),
    ];
    let end_ns = common::START_NS + (ROWS as u64 / HOSTS).cast_signed() * 10 * SECOND_NS;
    run(&common::tsbs_lines(HOSTS, ROWS), end_ns, &long);
    println!("\n12 series of events, {ROWS} in all, sealed");
    let events = [
        Ask::Select("SELECT count(latency_ms) FROM requests WHERE latency_ms > 890"),
        Ask::Select("SELECT count(latency_ms) FROM requests WHERE latency_ms > 1000"),
        Ask::Select("SELECT * FROM requests LIMIT 10"),
        Ask::Select("SELECT percentile(latency_ms, 99) FROM requests GROUP BY service"),
    ];
    run(&common::event_lines(ROWS), end_ns, &events);
}

/// Values in `0..1000`, each to three digits; the same series for every time.
fn wide_lines(series: u64) -> String {
    let mut random = common::Random::new(5);
    let mut lines = String::new();
    for sample in 0..SAMPLES {
        let ts_ns = common::START_NS + sample * 60 * SECOND_NS;
        for id in 0..series {
            let value = random.below(1_000_000) as f64 / 1e3;
            writeln!(lines, "pod_mem,namespace=n{},pod=p{id} mb={value} {ts_ns}", id % 50).expect("a string");
        }
    }
    lines
}

fn open(dir: &Path) -> Database {
    let config = Config { retention: Retention::FOREVER, ..Config::default() };
    Database::open_with(dir, config).expect("a database")
}

fn run(lines: &str, end_ns: i64, queries: &[Ask]) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let database = open(scratch.path());
    let lines: Vec<&str> = lines.lines().collect();
    for batch in lines.chunks(LINES) {
        database.write_lines(batch.join("\n").as_bytes(), Precision::Ns).expect("a healthy disk");
    }
    database.seal().expect("a healthy disk");
    drop(database);
    for query in queries {
        // Opened anew: nothing is decoded. The files are in the cache of the operating system.
        let database = open(scratch.path());
        let (cold, text) = ask(&database, query, end_ns);
        let mut warm: Vec<Cost> = (0..RUNS).map(|_| ask(&database, query, end_ns).0).collect();
        warm.sort_by_key(|cost| cost.cpu);
        let warm = warm[RUNS / 2];
        let ms = |cost: Cost| (cost.wall.as_secs_f64() * 1e3, cost.cpu.as_secs_f64() * 1e3);
        let ((cold_wall, cold_cpu), (warm_wall, warm_cpu)) = (ms(cold), ms(warm));
        println!(
            "  cold {cold_wall:7.1} ms, {cold_cpu:7.1} of one core; warm {warm_wall:7.1} ms, {warm_cpu:7.1}: {text}"
        );
    }
}

/// Asks and counts; the query must have an answer.
fn ask(database: &Database, query: &Ask, end_ns: i64) -> (Cost, &'static str) {
    let start = Moment::now();
    let text = match query {
        Ask::Instant(text) => {
            database.promql(text, end_ns).expect("an answer");
            *text
        }
        Ask::Range(text, step) => {
            let step_ns = step * SECOND_NS;
            let steps = Steps { start_ns: end_ns - 59 * step_ns, end_ns, step_ns };
            // Steps that are kept would be no measure of a query.
            let query = database.query(QueryOptions { may_reuse: false, ..QueryOptions::default() });
            database.run_promql_range(&query, text, steps).expect("an answer");
            *text
        }
        Ask::Select(text) => {
            database.select(text).expect("an answer");
            *text
        }
    };
    (start.cost(), text)
}
