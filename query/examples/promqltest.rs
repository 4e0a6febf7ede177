//! Judges the PromQL engine by scripts in Prometheus' test language.
//!
//! `cargo run --release -p icecore-query --example promqltest -- FILE...` prints every eval that does not come out as
//! written, with file and line, and the counts. It exits with 1 when an eval failed.

#![expect(clippy::print_stdout, reason = "a command for a terminal")]

#[path = "../src/promql/tests/script.rs"]
mod script;
#[path = "../src/promql/testing.rs"]
mod testing;

use std::process::ExitCode;

use testing::VecScan;

fn main() -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
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
        println!("{file}: {} passed, {} failed", report.passed, report.failures.len());
        passed += report.passed;
        failed += report.failures.len();
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
