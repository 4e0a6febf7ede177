//! elastic/examples: 500 snapshots of an NGINX Plus server, counters across a process restart and a decrease.

use std::path::Path;

use icecore::Database;
use serde_json::Value;

use super::{close, data, import, import_by_url, in_every_state, points};
use crate::support;

/// Samples of one counter, by time in nanoseconds.
type Counter = Vec<(i64, f64)>;

fn read(file: &Path, pointer: &str) -> Counter {
    let text = std::fs::read_to_string(file).unwrap();
    let documents = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut samples: Counter = documents
        .filter_map(|document| {
            let value = document.pointer(pointer)?.as_f64()?;
            Some((document["timestamp"].as_i64()? * 1_000_000, value))
        })
        .collect();
    samples.sort_by_key(|sample| sample.0);
    samples.dedup_by_key(|sample| sample.0);
    samples
}

/// Prometheus' extrapolated increase over (t - range, t], from its documentation and source (promql/functions.go).
fn increase(counter: &Counter, t_ns: i64, range_ns: i64) -> Option<f64> {
    let window: Vec<&(i64, f64)> =
        counter.iter().filter(|(ts, _)| t_ns - range_ns < *ts && *ts <= t_ns).collect();
    let (first, last) = (window.first()?, window.last()?);
    if window.len() < 2 {
        return None;
    }
    let mut value = last.1 - first.1;
    for pair in window.windows(2) {
        if pair[1].1 < pair[0].1 {
            value += pair[0].1;
        }
    }
    let seconds = |ns: i64| ns as f64 / 1e9;
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (window.len() - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = seconds(first.0 - (t_ns - range_ns));
    let mut to_end = seconds(t_ns - last.0);
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if value > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / value));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    Some(value * ((sampled + to_start + to_end) / sampled))
}

const COUNTERS: [(&str, &str); 4] = [
    ("requests_total", "/requests/total"),
    ("connections_accepted", "/connections/accepted"),
    ("ssl_handshakes", "/ssl/handshakes"),
    ("ssl_handshakes_failed", "/ssl/handshakes_failed"),
];

#[test]
fn nginx_rates_are_right_across_resets_in_every_state() {
    let Some(root) = data("nginx-plus") else { return };
    let file = root.join("status.jsonl");
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    import(&file, &dir, &["--format", "jsonl", "--measurement", "nginx", "--time-column", "timestamp"]);
    let counters: Vec<(&str, Counter)> =
        COUNTERS.map(|(name, pointer)| (name, read(&file, pointer))).to_vec();
    let decreases = |counter: &Counter| counter.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
    assert!(counters.iter().any(|(_, counter)| decreases(counter) > 0), "the file holds a decrease");
    in_every_state(&dir, &|database, _| verify(database, &counters));
}

fn verify(database: &Database, counters: &[(&str, Counter)]) {
    let minute_ns = 60_000_000_000;
    for (name, counter) in counters {
        assert!(counter.len() > 400, "{name} is in the file");
        let start = (counter[0].0 / minute_ns + 1) * 60;
        let end = (counter[counter.len() - 1].0 / minute_ns + 5) * 60;
        for (function, range_s, divisor) in
            [("increase", 300, 1.0), ("rate", 300, 300.0), ("increase", 60, 1.0)]
        {
            let text = format!("{function}(nginx_{name}[{range_s}s])");
            let found = points(database, &text, start, end, 60);
            let mut expected = Vec::new();
            for t in (start..=end).step_by(60) {
                if let Some(value) = increase(counter, t * 1_000_000_000, range_s * 1_000_000_000) {
                    expected.push((t, value / divisor));
                }
            }
            assert_eq!(found.len(), expected.len(), "{text}");
            for ((_, t, value), (expected_t, expected)) in found.iter().zip(&expected) {
                assert_eq!(t, expected_t);
                assert!(close(*value, *expected, 1e-9), "{text} at {t}: {value} for {expected}");
            }
        }
    }
}

#[test]
fn nginx_import_by_url_gives_the_same_counts() {
    let Some(root) = data("nginx-plus") else { return };
    let file = root.join("status.jsonl");
    let scratch = tempfile::tempdir().unwrap();
    let server = support::TestServer::start_with(&scratch.path().join("data"), &["--retention", "forever"]);
    import_by_url(
        &file,
        &server.url,
        &["--format", "jsonl", "--measurement", "nginx", "--time-column", "timestamp"],
    );
    let expected = read(&file, "/requests/total").len();
    assert_eq!(server.select_number("SELECT count(requests_total) FROM nginx"), expected as f64);
}
