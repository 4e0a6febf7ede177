//! Thirty days of a small estate: what raw rows and each layer take on disk, metrics and events apart.
//! `cargo run --release --example estate [DAYS]`.
//!
//! Metrics: 10 hosts with 10 whole numbers each, every 10 s, random walks in 0..100. Events: one a second over 50 services,
//! two endpoints and two classes of status, with a latency of three decimals, bytes, an error flag and a user.
//! Everything is written a day at a time in the order of time, then sealed: flushed, merged and rolled.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a measurement prints, and stops where it fails"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::SystemClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::OsFs;
use icecore_storage::model::Tier;
use icecore_storage::options::{Options, Retention};

#[path = "../benches/common/batches.rs"]
mod batches;
#[expect(dead_code, reason = "the benches use the rest")]
#[path = "../benches/common/mod.rs"]
mod common;

use batches::batches;
use common::{Random, START_NS};

const SECOND_NS: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
const HOSTS: usize = 10;
const FIELDS: usize = 10;

fn main() {
    let days: i64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(30);
    let mut walks = vec![50.0; HOSTS * FIELDS];
    let mut random = Random::new(3);
    measure("metrics", days, FIELDS, |day, lines| metrics(day, &mut walks, &mut random, lines));
    let mut random = Random::new(5);
    measure("events", days, 4, |day, lines| events(day, &mut random, lines));
}

/// Lines of a day.
fn metrics(day: i64, walks: &mut [f64], random: &mut Random, lines: &mut String) {
    for step in 0..DAY_S / 10 {
        let ts_ns = START_NS + (day * DAY_S + step * 10) * SECOND_NS;
        for (host, walks) in walks.chunks_mut(FIELDS).enumerate() {
            write!(lines, "cpu,host=host_{host},region=eu-central-1 ").expect("a string");
            for (field, walk) in walks.iter_mut().enumerate() {
                *walk = (*walk + random.normal()).clamp(0.0, 100.0);
                let before = if field == 0 { "" } else { "," };
                write!(lines, "{before}usage_{field}={}i", walk.round()).expect("a string");
            }
            writeln!(lines, " {ts_ns}").expect("a string");
        }
    }
}

/// Lines of a day.
fn events(day: i64, random: &mut Random, lines: &mut String) {
    for second in 0..DAY_S {
        let within_ns = i64::try_from(random.below(1_000_000_000)).expect("less than a second");
        let ts_ns = START_NS + (day * DAY_S + second) * SECOND_NS + within_ns;
        let (service, endpoint, class) = (random.below(50), random.below(2), random.below(2) * 3 + 2);
        let latency_ms = (3.0 + 0.8 * random.normal()).exp();
        let (bytes, is_error, user) = (random.below(50_000), random.below(100) == 0, random.below(100_000));
        writeln!(
            lines,
            "requests,service=s{service:02},endpoint=/e{endpoint},status={class}xx latency_ms={latency_ms:.3},\
             bytes={bytes}i,error={is_error},user=\"u{user:06}\" {ts_ns}"
        )
        .expect("a string");
    }
}

fn measure(what: &str, days: i64, fields: usize, mut lines_of: impl FnMut(i64, &mut String)) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let engine = open(scratch.path());
    for day in 0..days {
        let mut lines = String::new();
        lines_of(day, &mut lines);
        for body in batches(&lines) {
            let decoded = decode(body.as_bytes(), Precision::Ns, 0, &LineLimits::default());
            engine.write(&decoded.batch).expect("a healthy disk");
        }
        engine.maintain().expect("a healthy disk");
    }
    engine.seal().expect("a healthy disk");
    let stats = engine.stats();
    let rows = stats.rows_written as f64;
    println!("{what}: {days} days, {} rows of {fields} fields, {} series", stats.rows_written, stats.series);
    let (mut all, raw) = (0, stats.segment_bytes[0] as f64);
    for ((tier, bytes), of_tier) in
        [Tier::Raw].into_iter().chain(Tier::CELLS).zip(stats.segment_bytes).zip(stats.segment_rows)
    {
        all += bytes;
        let bytes = bytes as f64;
        println!(
            "  {:<4} {:>9.1} MB, {of_tier:>9} rows or cells, {:>6.1} bytes each, {:>6.2} a raw row, {:>5.1} % of raw",
            tier.name(),
            bytes / 1e6,
            bytes / of_tier as f64,
            bytes / rows,
            bytes / raw * 100.0
        );
    }
    println!("  all  {:>9.1} MB, {:.1} times raw", all as f64 / 1e6, all as f64 / raw);
}

fn open(dir: &Path) -> Engine {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    Engine::open(env, dir, Options::default(), Retention::FOREVER).expect("a database")
}
