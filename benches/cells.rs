//! Bytes of a cell by layer and by what the cells of a field keep, on the shape of service events: each field alone beside
//! its raw rows.
//!
//! Run with `cargo bench --bench cells [-- ROWS]`; prints a table for each density. Counts bytes only, so a build without
//! optimisation says the same (`cargo test --bench cells -- ROWS`).

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::path::Path;
use std::sync::Arc;

use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::cell_set::{CellRule, CellSet};
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::{Fs, SimFs};
use icecore_storage::model::{HOUR_NS, Tier};
use icecore_storage::options::{Options, Retention};
use icecore_storage::{Engine, inspect};

#[path = "common/batches.rs"]
mod batches;
#[expect(dead_code, reason = "one shape of several")]
mod common;

/// Sets by their names; with unique values, or without.
const SETS: [(CellSet, bool); 5] = [
    (CellSet::Auto, false),
    (CellSet::Dist, false),
    (CellSet::Counter, false),
    (CellSet::Gauge, false),
    (CellSet::Auto, true),
];

fn main() {
    let rows = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let lines = common::event_lines(rows);
    for (set, with_uniques) in SETS {
        let uniq = if with_uniques { "+uniq" } else { "" };
        println!("\n{}{uniq}, {rows} rows", set.name());
        measure(&lines, set, with_uniques);
    }
}

fn measure(lines: &str, set: CellSet, with_uniques: bool) {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::default());
    let rule = CellRule { measurement: "*".into(), field: "*".into(), set, with_uniques };
    let options = Options { free_bytes_min: 0, cells: vec![rule], ..Options::default() };
    let env = Env { fs: Arc::clone(&fs), clock: Arc::new(ManualClock::new(common::START_NS + 3 * HOUR_NS)) };
    let engine =
        Engine::open(env, Path::new("/db"), options, Retention::FOREVER).expect("an empty directory");
    for body in batches::batches(lines) {
        let decoded = decode(body.as_bytes(), Precision::Ns, 0, &LineLimits::default());
        engine.write(&decoded.batch).expect("memory is free");
    }
    engine.seal().expect("a healthy disk");
    let layout = inspect::directory(&fs, Path::new("/db")).expect("a database");
    for tier in [Tier::Raw, Tier::M1, Tier::M5, Tier::H1] {
        let of_tier =
            layout.segments.iter().filter(|segment| segment.place.is_some_and(|place| place.0 == tier));
        let (rows, bytes) =
            of_tier.fold((0, 0), |(rows, bytes), segment| (rows + segment.rows, bytes + segment.bytes));
        print!(
            "{:>4}: {rows:>8} rows or cells, {:>7.2} bytes each;",
            tier.name(),
            bytes as f64 / rows as f64
        );
        let mut fields = std::collections::BTreeMap::<&str, u64>::new();
        for (name, sum) in layout.columns.iter().filter(|(name, _)| name.tier == Some(tier)) {
            *fields.entry(name.column.split('.').next().unwrap_or_default()).or_default() += sum.bytes;
        }
        for (field, bytes) in fields {
            print!(" {field} {:.2}", bytes as f64 / rows as f64);
        }
        println!();
    }
}
