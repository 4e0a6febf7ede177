//! The main job on real input: every file of `../shared/data` (or `ICECORE_DATA_DIR`) is imported with the command
//! line into a fresh directory, and the answers are compared with what the files themselves say: at once, after a
//! restart, after kill -9 of a server, and after the raw rows were rolled up and dropped.
//!
//! Where the data is missing the tests say so loudly and pass, because the data is not part of the project.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod access_log;
mod nab;
mod nginx;

use std::path::{Path, PathBuf};

use icecore::{Cell, Database, Guard, QueryValue, Retention, Sample, Table};

use crate::support;

/// The largest error of a quantile: half a bucket of schema 6.
const QUANTILE_ERROR: f64 = 0.005_416;

/// A folder of the real data; `None`, with a loud word, where it is missing.
fn data(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ICECORE_DATA_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = root.join(folder);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: {} is missing; set ICECORE_DATA_DIR to the folder with the real inputs",
        path.display()
    );
    None
}

/// Runs `icecore import` straight into a directory and returns what it printed.
fn import(file: &Path, dir: &Path, arguments: &[&str]) -> String {
    let (file, dir) = (file.to_string_lossy(), dir.to_string_lossy());
    let output = support::run(&[&["import", &*file, "--data-dir", &*dir], arguments].concat());
    let text = format!("{}{}", support::stdout(&output), support::stderr(&output));
    assert!(output.status.success(), "import of {file} failed: {text}");
    text
}

/// A value of a table as a number.
fn number(cell: &Cell) -> f64 {
    match cell {
        Cell::Float(value) => *value,
        Cell::Int(value) => *value as f64,
        Cell::UInt(value) => *value as f64,
        other => panic!("no number: {other:?}"),
    }
}

/// Points of a range query: labels as text, time in seconds, value.
fn points(database: &Database, text: &str, start_s: i64, end_s: i64, step_s: i64) -> Vec<(String, i64, f64)> {
    let second = 1_000_000_000;
    let answer = database.promql_range(text, start_s * second, end_s * second, step_s * second).unwrap();
    assert_eq!(answer.infos, Vec::<String>::new(), "{text} is exact");
    let QueryValue::Matrix(series) = answer.value else { panic!("{text} gives no matrix") };
    let mut points = Vec::new();
    for one in &series {
        let labels: Vec<String> = one.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for (ts_ns, value) in &one.points {
            let Sample::Float(value) = value else { panic!("{text} gives a histogram") };
            points.push((labels.join(","), ts_ns / second, *value));
        }
    }
    points
}

fn close(found: f64, expected: f64, relative: f64) -> bool {
    found == expected || (found - expected).abs() <= relative * expected.abs()
}

/// Checks `verify` on the data of a directory in every state it must survive: as imported, after a restart, after
/// kill -9 of a server on it, sealed, and with the raw rows dropped. The last argument of `verify` says whether raw
/// rows are still there.
fn in_every_state(dir: &Path, verify: &dyn Fn(&Database, bool)) {
    for state in ["as imported", "after a restart"] {
        eprintln!("state: {state}");
        let database = Database::open(dir).unwrap();
        verify(&database, true);
        database.close().unwrap();
    }
    eprintln!("state: after kill -9 of a server");
    support::TestServer::start_in(dir).kill();
    let database = Database::open(dir).unwrap();
    verify(&database, true);
    eprintln!("state: sealed and rolled up");
    database.seal().unwrap();
    verify(&database, true);
    eprintln!("state: raw rows dropped");
    let day = std::time::Duration::from_secs(24 * 3600);
    database.set_retention(Retention { raw: Some(day), ..Retention::FOREVER }).unwrap();
    let report = database.apply_retention(Guard::Forced).unwrap();
    assert!(report.dropped[0] > 0, "raw files go: {report:?}");
    assert_eq!(database.stats().segments[0], 0, "no raw file is left: {report:?}");
    verify(&database, false);
    database.close().unwrap();
    let database = Database::open(dir).unwrap();
    verify(&database, false);
    database.close().unwrap();
}

/// The rows of a table, one list per series with its tags as text.
fn rows(table: &Table) -> Vec<(String, Vec<Vec<Cell>>)> {
    let tags = |tags: &[(String, String)]| {
        let parts: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        parts.join(",")
    };
    table.series.iter().map(|series| (tags(&series.tags), series.rows.clone())).collect()
}

/// Asks the exact value of nearest rank `ceil(q * n)` of sorted values.
fn nearest_rank(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted[rank - 1]
}

/// Imports a file into a running server by `--url`.
fn import_by_url(file: &Path, url: &str, arguments: &[&str]) {
    let file = file.to_string_lossy();
    let output = support::run(&[&["import", &*file, "--url", url], arguments].concat());
    assert!(output.status.success(), "{}", support::stderr(&output));
}
