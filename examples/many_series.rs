//! A database of many series, each with few samples: how long it takes to open, and what it takes on disk.
//! `cargo run --release --example many_series [SERIES]`, 500,000 by default with ten samples each, in ten waves as
//! they come with deployments.
//!
//! Order of events: all rows are written and the engine is given up without being closed, as a killed process does;
//! opened, which replays all of it from the log; sealed and closed; opened again. The page cache of the system is warm.
//! Ends with status 1 when one of these openings takes two seconds, or catalog and raw layer more than 4 bytes a sample.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a measurement prints, and stops where it fails"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::SystemClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::OsFs;
use icecore_storage::options::{Options, Retention};

const SAMPLES: u64 = 10;
const WAVES: u64 = 10;
const LINES: u64 = 5_000;
const START_NS: u64 = 1_793_491_200_000_000_000;
const STEP_NS: u64 = 15_000_000_000;
const OPEN_MAX: Duration = Duration::from_secs(2);
/// Of catalog and raw layer.
const SAMPLE_BYTES_MAX: f64 = 4.0;

fn main() -> ExitCode {
    let count: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500_000);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (engine, _) = open(scratch.path(), "created");
    for wave in 0..WAVES {
        let numbers = wave * count / WAVES..(wave + 1) * count / WAVES;
        for sample in 0..SAMPLES {
            let mut start = numbers.start;
            while start < numbers.end {
                let end = numbers.end.min(start + LINES);
                write(&engine, start..end, wave, sample);
                start = end;
            }
        }
    }
    println!("{count} series, {} samples, {} bytes of log", count * SAMPLES, engine.stats().wal_bytes);
    // Nothing is flushed or closed.
    drop(engine);
    let (engine, after_kill) = open(scratch.path(), "opened after a kill, everything in the log");
    assert_eq!(engine.stats().series, count);
    let start = Instant::now();
    engine.seal().expect("a healthy disk");
    println!("sealed (flushed, compacted, rolled up): {:?}", start.elapsed());
    engine.close().expect("a healthy disk");
    drop(engine);
    let (engine, after_stop) = open(scratch.path(), "opened after a clean stop");
    assert_eq!(engine.stats().series, count);
    let samples = (count * SAMPLES) as f64;
    let [raw, m1, m5, h1] = engine.stats().segment_bytes.map(|bytes| bytes as f64);
    let catalog = directory_bytes(&scratch.path().join("series"));
    for (what, bytes) in [
        ("catalog", catalog),
        ("raw", raw),
        ("catalog and raw", catalog + raw),
        ("1m", m1),
        ("5m", m5),
        ("1h", h1),
    ] {
        println!("  {what:<16} {bytes:>10} bytes, {:.2} a sample", bytes / samples);
    }
    let opened = after_kill.max(after_stop);
    if OPEN_MAX <= opened {
        println!("opened in {opened:?}, not in less than {OPEN_MAX:?}");
    }
    let sample_bytes = (catalog + raw) / samples;
    if SAMPLE_BYTES_MAX < sample_bytes {
        println!("catalog and raw: more than {SAMPLE_BYTES_MAX} bytes a sample");
    }
    let is_bounded = opened < OPEN_MAX && sample_bytes <= SAMPLE_BYTES_MAX;
    if is_bounded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn open(dir: &Path, what: &str) -> (Engine, Duration) {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let start = Instant::now();
    let engine = Engine::open(env, dir, Options::default(), Retention::FOREVER).expect("a database");
    let took = start.elapsed();
    println!("{what}: {took:?}");
    (engine, took)
}

/// One sample of each series: pods with an id that nothing else has.
fn write(engine: &Engine, numbers: std::ops::Range<u64>, wave: u64, sample: u64) {
    let mut lines = String::new();
    let ts_ns = START_NS + (wave * SAMPLES + sample) * STEP_NS;
    for number in numbers {
        let (id, noise) = (mixed(number), mixed(number * SAMPLES + sample));
        let (namespace, app) = (mixed(id) % 20, mixed(id) % 199);
        let centi = 10_000 + id % 90_000 + noise % 500;
        let written = writeln!(
            lines,
            "pod,id={:08x}-{number:07},namespace=ns_{namespace:02},app=app_{app:03} mem_mb={}.{:02} {ts_ns}",
            id >> 32,
            centi / 100,
            centi % 100,
        );
        written.expect("memory");
    }
    let decoded = decode(lines.as_bytes(), Precision::Ns, 0, &LineLimits::default());
    assert_eq!(engine.write(&decoded.batch).expect("a healthy disk").rejected, []);
}

/// Scatters numbers: splitmix64.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn directory_bytes(dir: &Path) -> f64 {
    let files = std::fs::read_dir(dir).expect("it is there");
    files.map(|file| file.and_then(|file| file.metadata()).expect("it is there").len() as f64).sum()
}
