//! Series that end and begin again: from raw rows, from cells, and when the rows are gone, the answers are the same.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use icecore::{Guard, QueryValue, Retention};
use icecore_query::promql;
use icecore_query::{Budget, Limits};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::model::{STALE_FIELD, TimeRange};
use icecore_storage::scan::Resolution;

use super::sim::{open, write};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;

const QUERIES: [&str; 9] = [
    "m",
    "timestamp(m)",
    "sum(m)",
    "count by (host) (m)",
    "absent(m{host=\"a\"})",
    "count_over_time(m[7m])",
    "last_over_time(m[7m])",
    "rate(m[9m])",
    "sum(avg_over_time(m[5m]))",
];

/// Two hours of two hosts; the first one ends in the middle of a minute, on its edge, and for good.
fn lines() -> String {
    let mut lines = String::new();
    for second in (0..7200).step_by(20) {
        let is_away = |from: i64, to: i64| (from..to).contains(&second);
        let is_there = !is_away(2412, 4200) && !is_away(4800, 5000) && second < 6000;
        for host in ["a", "b"].into_iter().filter(|host| *host == "b" || is_there) {
            let at_ns = START_NS + second * SECOND_NS;
            writeln!(lines, "m,host={host} value={second}.5 {at_ns}").unwrap();
        }
    }
    for second in [2412, 4800, 6007] {
        let at_ns = START_NS + second * SECOND_NS;
        writeln!(lines, "m,host=a {STALE_FIELD}=true {at_ns}").unwrap();
    }
    lines
}

fn answers(engine: &Engine) -> Vec<(QueryValue, Vec<String>)> {
    let (view, budget) = (engine.view(), Budget::untimed(Limits::default()));
    let lookback = Duration::from_secs(300);
    let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution: Resolution::Auto };
    let ask = |query: &&str| {
        let end_ns = START_NS + 119 * MINUTE_NS;
        let answer = promql::range(&context, query, START_NS + 10 * MINUTE_NS, end_ns, MINUTE_NS).unwrap();
        (answer.value, answer.infos)
    };
    QUERIES.iter().map(ask).collect()
}

#[test]
fn text_called_as_the_field_of_ends_ends_nothing() {
    let clock = Arc::new(ManualClock::new(START_NS + 125 * MINUTE_NS));
    let engine = open(&clock, Retention::FOREVER);
    write(&engine, &format!("m,host=a {STALE_FIELD}=\"x\",value=1 {START_NS}"));
    let (view, budget) = (engine.view(), Budget::untimed(Limits::default()));
    let lookback = Duration::from_secs(300);
    let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution: Resolution::Auto };
    let answer = promql::instant(&context, "sum(m)", START_NS + MINUTE_NS).unwrap();
    let QueryValue::Vector(samples) = answer.value else { panic!("a vector") };
    assert_eq!(samples.len(), 1);
}

#[test]
fn series_that_ended_answer_the_same_from_every_layer() {
    let clock = Arc::new(ManualClock::new(START_NS + 125 * MINUTE_NS));
    let engine = open(&clock, Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER });
    write(&engine, &lines());
    let expected = answers(&engine);
    // It ended at 40:12, although its last sample is not five minutes old, and came back at 70:00.
    let QueryValue::Matrix(series) = &expected[0].0 else { panic!("a matrix") };
    let minutes = series[0].points.iter().map(|(ts_ns, _)| (ts_ns - START_NS) / MINUTE_NS);
    let away: Vec<i64> = (41..70).chain(80..84).chain(101..120).collect();
    assert_eq!(
        minutes.collect::<Vec<_>>(),
        (10..120).filter(|minute| !away.contains(minute)).collect::<Vec<_>>()
    );
    clock.set(START_NS + 5 * 1440 * MINUTE_NS);
    engine.seal().unwrap();
    assert_eq!(answers(&engine), expected);
    engine.set_retention(Retention { raw: Some(Duration::from_secs(3600)), ..Retention::FOREVER }).unwrap();
    engine.apply_retention(Guard::Forced).unwrap();
    for (query, (found, expected)) in QUERIES.iter().zip(answers(&engine).iter().zip(&expected)) {
        assert_eq!(found, expected, "{query}");
    }
    let (view, budget) = (engine.view(), Budget::untimed(Limits::default()));
    let lookback = Duration::from_secs(300);
    let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution: Resolution::Auto };
    assert!(promql::instant(&context, "m[5m]", START_NS + 60 * MINUTE_NS).is_err(), "raw rows are gone");
    let measurement = view.schema("m").unwrap().measurement;
    let reaches = |from_ns: i64| view.reaches(measurement, TimeRange::new(from_ns, from_ns + 1));
    // Cells are found by all times they stand for.
    assert!(reaches(START_NS) && reaches(START_NS + 119 * MINUTE_NS + 59 * SECOND_NS));
    assert!(!reaches(START_NS - 1) && !reaches(START_NS + 24 * 60 * MINUTE_NS));
}
