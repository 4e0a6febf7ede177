//! Percentiles of 50 services over 30 days: from every layer the same, and near the exact order statistic.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use icecore::{Guard, QueryValue, Retention};
use icecore_query::{Budget, Limits, promql};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::scan::Resolution;

use super::sim::{Random, open, write};

const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * SECOND_NS;
const DAYS: i64 = 30;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;
const END_NS: i64 = START_NS + DAYS * 24 * HOUR_NS;
const SERVICES: u64 = 50;
/// Half the width of a bucket, relative: 2^(1/128) less its bounds' harmonic middle.
const ERROR_MAX: f64 = 0.005_416;
const QUANTILES: [f64; 6] = [0.01, 0.5, 0.9, 0.95, 0.99, 0.999];

/// A row of a service every so often, at a random moment.
const EVERY_NS: i64 = 20 * 60 * SECOND_NS;

/// Latencies by service.
type Latencies = BTreeMap<String, Vec<f64>>;

/// Log-normal latencies, each service with a middle and a spread of its own; some have zeros, a second hump, or values
/// of both signs.
fn latencies(lines: &mut String) -> Latencies {
    let mut random = Random(4);
    let mut latencies = Latencies::new();
    for service in 0..SERVICES {
        let (middle, spread) = (1.0 + 6.0 * random.share(), 0.2 + 1.5 * random.share());
        let name = format!("s{service:02}");
        let values = latencies.entry(name.clone()).or_default();
        for slot in 0..(END_NS - START_NS) / EVERY_NS {
            // Twelve uniform numbers less six are as good as normal here.
            let normal = (0..12).map(|_| random.share()).sum::<f64>() - 6.0;
            let value = (middle + spread * normal).exp();
            let value = match (service % 5, random.below(10)) {
                (1, 0) => 0.0,
                (2, 0 | 1) => value * 40.0,
                (3, 0) => -value,
                _ => value,
            };
            let at_ns = START_NS + slot * EVERY_NS + 1 + random.ns(EVERY_NS - 1000);
            writeln!(lines, "m,service={name} v={value:?} {at_ns}").unwrap();
            values.push(value);
        }
    }
    latencies
}

/// One number by service; the empty name where services are merged.
fn ask(engine: &Engine, text: &str) -> BTreeMap<String, f64> {
    let (view, budget) = (engine.view(), Budget::untimed(Limits::default()));
    let (lookback, resolution) = (Duration::from_secs(300), Resolution::Auto);
    let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution };
    let answer = promql::instant(&context, text, END_NS).unwrap();
    assert_eq!(answer.infos, Vec::<String>::new(), "{text}");
    let QueryValue::Vector(samples) = answer.value else { panic!("{text} is no vector") };
    let of = |sample: &promql::VectorSample| {
        (sample.labels.get("service").to_owned(), sample.value.float().unwrap())
    };
    samples.iter().map(of).collect()
}

/// The value of nearest rank.
fn exact(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil().max(1.0);
    // A rank of at most the length.
    sorted[rank as usize - 1]
}

/// Every quantile, merged over all services and for each, over 30 days and over one, beside the exact one.
fn judge(engine: &Engine, latencies: &Latencies) -> Vec<BTreeMap<String, f64>> {
    let mut all = Vec::new();
    let per_day = usize::try_from(24 * HOUR_NS / EVERY_NS).unwrap();
    for (range, count) in [("30d", usize::MAX), ("1d", per_day)] {
        let mut expected: Latencies = latencies.clone();
        for values in expected.values_mut() {
            *values = values.split_off(values.len().saturating_sub(count));
        }
        expected.insert(String::new(), expected.values().flatten().copied().collect());
        expected.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
        for q in QUANTILES {
            let hist = format!(r#"sum_over_time(m_v{{__stat__="hist"}}[{range}])"#);
            let mut found = ask(engine, &format!("histogram_quantile({q}, sum by (service) ({hist}))"));
            found.extend(ask(engine, &format!("histogram_quantile({q}, sum({hist}))")));
            assert_eq!(found.len(), latencies.len() + 1);
            for (service, value) in &found {
                let exact = exact(&expected[service], q);
                let error = (value - exact).abs();
                assert!(
                    error <= exact.abs() * ERROR_MAX,
                    "{range} {q} of {service:?}: {value}, exact {exact}"
                );
            }
            all.push(found);
        }
    }
    all
}

#[test]
fn quantiles_are_near_and_the_same_from_every_layer() {
    let mut lines = String::new();
    let latencies = latencies(&mut lines);
    let engine = open(&Arc::new(ManualClock::new(END_NS + 2 * HOUR_NS)), Retention::FOREVER);
    write(&engine, &lines);
    let fresh = judge(&engine, &latencies);
    engine.seal().unwrap();
    assert_eq!(judge(&engine, &latencies), fresh, "cells and rows");
    let raw = Some(Duration::from_secs(1));
    let mut retention = Retention { raw, ..Retention::FOREVER };
    for (layer, place) in [("1m", 0), ("5m", 1), ("1h", 2)] {
        engine.set_retention(retention).unwrap();
        engine.apply_retention(Guard::Forced).unwrap();
        engine.seal().unwrap();
        let files = engine.stats().segments;
        assert!(files[..=place].iter().all(|files| *files == 0), "finer than {layer}: {files:?}");
        assert_eq!(judge(&engine, &latencies), fresh, "from {layer}");
        match place {
            0 => retention.m1 = raw,
            _ => retention.m5 = raw,
        }
    }
}
