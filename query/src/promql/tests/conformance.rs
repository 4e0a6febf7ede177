//! Prometheus' own test scripts, from `../shared/promqltest` (or `ICECORE_PROMQLTEST_DIR`), with the evals that are
//! known to fail, so that neither a loss nor a gain goes unnoticed. The scripts are not part of the project; where
//! they are missing the test says so loudly and passes.

use std::path::{Path, PathBuf};

use super::script::run;

/// What a script gives now, and why not more.
struct Expected {
    file: &'static str,
    passed: usize,
    failed: usize,
    why: &'static str,
}

const fn all(file: &'static str, passed: usize) -> Expected {
    Expected { file, passed, failed: 0, why: "" }
}

const EXPECTED: [Expected; 11] = [
    all("aggregators", 160),
    all("collision", 2),
    all("extended_vectors", 169),
    all("functions", 431),
    all("histograms", 185),
    all("literals", 25),
    all("name_label_dropping", 30),
    all("native_histograms", 522),
    all("operators", 214),
    all("selectors", 31),
    all("staleness", 17),
];

fn directory() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    std::env::var_os("ICECORE_PROMQLTEST_DIR").map_or_else(own, PathBuf::from)
}

#[test]
fn prometheus_scripts_fail_only_where_known() {
    let mut surprises = Vec::new();
    for expected in &EXPECTED {
        let path = directory().join(expected.file).with_extension("test");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("SKIPPED: {} is missing; set ICECORE_PROMQLTEST_DIR", path.display());
            continue;
        };
        let report = run(&text);
        let found = (report.passed, report.failures.len());
        if found != (expected.passed, expected.failed) {
            let failures = report.failures.iter().map(|(line, reason)| format!("  {line}: {reason}"));
            let failures: Vec<String> = failures.collect();
            let Expected { file, passed, failed, why } = expected;
            surprises.push(format!(
                "{file}: (passed, failed) = {found:?}, expected {:?} ({why})\n{}",
                (passed, failed),
                failures.join("\n")
            ));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
