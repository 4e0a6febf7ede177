//! Tests of the whole room: text in, answer out.

mod conformance;
mod data;
mod language;
mod native;
mod script;
mod semantics;

use super::testing::VecScan;

/// The scripts of our own, in `query/promqltest`.
#[test]
fn own_scripts_come_out_as_written() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("promqltest");
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let report = script::run(&std::fs::read_to_string(&path).unwrap());
        let of_file = report.failures.iter().map(|(line, why)| format!("{}:{line}: {why}", path.display()));
        failures.extend(of_file);
        count += report.passed;
    }
    assert!(failures.is_empty() && 50 < count, "{count} passed\n{}", failures.join("\n"));
}

/// Runs a script; every eval must come out as written.
fn check(script: &str) {
    let report = script::run(script);
    let failures: Vec<String> =
        report.failures.into_iter().map(|(line, reason)| format!("line {line}: {reason}")).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(report.passed > 0);
}
