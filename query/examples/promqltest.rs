//! Judges the PromQL engine by scripts in Prometheus' test language.
//!
//! `cargo run --release -p icecore-query --example promqltest -- FILE...` prints every eval that does not come out as
//! written, with file and line, then the evals it had to skip because they are about native histograms that cannot be
//! written, and the counts. It exits with 1 when an eval failed.

#![expect(clippy::print_stdout, reason = "a command for a terminal")]

#[path = "../src/promql/tests/script.rs"]
mod script;
#[path = "../src/promql/testing.rs"]
mod testing;

use std::process::ExitCode;

use testing::VecScan;

fn main() -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for file in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                println!("{file}: {error}");
                failed += 1;
                continue;
            }
        };
        let report = script::run(&text);
        for (line, reason) in &report.failures {
            println!("FAILED {file}:{line}: {reason}");
        }
        for (line, text) in &report.skipped {
            println!("skipped {file}:{line}: {text}");
        }
        let counts = [report.passed, report.failures.len(), report.skipped.len()];
        println!("{file}: {} passed, {} failed, {} skipped", counts[0], counts[1], counts[2]);
        passed += counts[0];
        failed += counts[1];
        skipped += counts[2];
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
