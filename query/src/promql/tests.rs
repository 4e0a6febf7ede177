//! Tests of the whole room: text in, answer out.

mod conformance;
mod data;
mod language;
mod native;
mod script;
mod semantics;

use super::testing::VecScan;

/// Runs a script; every eval must come out as written.
fn check(script: &str) {
    let report = script::run(script);
    let failures: Vec<String> =
        report.failures.into_iter().map(|(line, reason)| format!("line {line}: {reason}")).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(report.passed > 0);
}
