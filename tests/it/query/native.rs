//! Native histograms that are stored: written as the text of a field, asked with PromQL from memory, from segments, after
//! a restart's worth of jobs, and refused where raw rows are gone.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use icecore::{Guard, QueryValue, Retention};
use icecore_query::promql;
use icecore_query::{Budget, Limits};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::model::{BucketLayout, FloatBucket, HISTOGRAM_FIELD, NativeHistogram, STALE_FIELD};
use icecore_storage::scan::Resolution;

use super::sim::{open, write};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;

/// What the counts of one host say after so many minutes: one observation in each of two buckets a minute.
fn histogram(minute: i64) -> NativeHistogram {
    let count = minute as f64;
    NativeHistogram {
        layout: BucketLayout::Exponential { schema: 0, zero_threshold: 0.001 },
        count: 2.0 * count,
        sum: 4.5 * count,
        positive: [1, 2].map(|index| FloatBucket { index, count }).into(),
        ..NativeHistogram::default()
    }
}

/// An hour of host `a`, which counts in histograms, of `b`, which had numbers for half an hour, and of `c`, which has
/// numbers alone. `a` ends at minute 50.
fn lines() -> String {
    let mut lines = String::new();
    for minute in 0..60 {
        let at_ns = START_NS + minute * MINUTE_NS;
        let text = histogram(minute + 1).to_text();
        if minute < 50 {
            writeln!(lines, "m,host=a {HISTOGRAM_FIELD}=\"{text}\" {at_ns}").unwrap();
        }
        match minute < 30 {
            true => writeln!(lines, "m,host=b value={minute} {at_ns}").unwrap(),
            false => writeln!(lines, "m,host=b {HISTOGRAM_FIELD}=\"{text}\" {at_ns}").unwrap(),
        }
        writeln!(lines, "m,host=c value={minute} {at_ns}").unwrap();
        writeln!(lines, "only,host=a {HISTOGRAM_FIELD}=\"{text}\" {at_ns}").unwrap();
    }
    writeln!(lines, "m,host=a {STALE_FIELD}=true {}", START_NS + 50 * MINUTE_NS).unwrap();
    lines
}

fn ask(engine: &Engine, query: &str, minute: i64) -> icecore_query::Result<QueryValue> {
    let (view, budget) = (engine.view(), Budget::untimed(Limits::default()));
    let lookback = Duration::from_secs(300);
    let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution: Resolution::Auto };
    promql::instant(&context, query, START_NS + minute * MINUTE_NS).map(|answer| answer.value)
}

/// The number of the only sample of an answer.
fn number(engine: &Engine, query: &str, minute: i64) -> Option<f64> {
    match ask(engine, query, minute).unwrap() {
        QueryValue::Vector(samples) => match samples.as_slice() {
            [] => None,
            [sample] => Some(sample.value.float().unwrap()),
            more => panic!("{query}: {more:?}"),
        },
        other => panic!("{query}: {other:?}"),
    }
}

fn check(engine: &Engine) {
    let cases: [(&str, i64, Option<f64>); 12] = [
        ("histogram_count(m{host=\"a\"})", 20, Some(42.0)),
        ("histogram_sum(only)", 20, Some(94.5)),
        ("histogram_avg(sum by (job) ({__name__=~\"m|only\",host=\"a\"}))", 20, Some(2.25)),
        // Two a minute over ten minutes.
        ("histogram_count(increase(only[10m]))", 40, Some(20.0)),
        ("histogram_fraction(0, 2, rate(only[10m]))", 40, Some(0.5)),
        ("histogram_quantile(0.5, only)", 40, Some(2.0)),
        // It ended.
        ("histogram_count(m{host=\"a\"})", 49, Some(100.0)),
        ("histogram_count(m{host=\"a\"})", 51, None),
        // Numbers, then histograms.
        ("m{host=\"b\"}", 29, Some(29.0)),
        ("histogram_count(m{host=\"b\"})", 30, Some(62.0)),
        ("count_over_time(m{host=\"b\"}[10m])", 34, Some(10.0)),
        ("sum(m{host=\"c\"})", 34, Some(34.0)),
    ];
    for (query, minute, expected) in cases {
        assert_eq!(number(engine, query, minute), expected, "{query} at {minute}");
    }
    let QueryValue::Vector(samples) = ask(engine, "m", 40).unwrap() else { panic!("a vector") };
    assert_eq!(samples.len(), 3);
}

#[test]
fn native_histograms_answer_the_same_from_every_place_of_their_rows() {
    let clock = Arc::new(ManualClock::new(START_NS + 65 * MINUTE_NS));
    let engine = open(&clock, Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER });
    write(&engine, &lines());
    check(&engine);
    engine.flush().unwrap();
    check(&engine);
    // Once more, and so from two segments, of which the later wins.
    write(&engine, &lines());
    engine.flush().unwrap();
    check(&engine);
    clock.set(START_NS + 5 * 1440 * MINUTE_NS);
    engine.seal().unwrap();
    check(&engine);
    engine.set_retention(Retention { raw: Some(Duration::from_secs(3600)), ..Retention::FOREVER }).unwrap();
    engine.apply_retention(Guard::Forced).unwrap();
    // Cells keep numbers, and no native histograms: they are not answered, and not left out without a word.
    for query in ["rate(only[10m])", "rate(m[10m])", "only", "m", "avg_over_time(only[10m])"] {
        let error = ask(&engine, query, 40).unwrap_err().to_string();
        assert!(error.contains("raw rows"), "{query}: {error}");
    }
    // Series of the same metric that had numbers alone in the windows are answered from cells.
    assert_eq!(number(&engine, "m{host=\"c\"}", 34), Some(34.0));
    assert_eq!(number(&engine, "max_over_time(m{host=\"b\"}[10m])", 20), Some(20.0));
}

#[test]
fn text_that_is_no_histogram_is_named() {
    let clock = Arc::new(ManualClock::new(START_NS + 65 * MINUTE_NS));
    let engine = open(&clock, Retention::FOREVER);
    write(&engine, &format!("m,host=a {HISTOGRAM_FIELD}=\"nonsense\" {START_NS}"));
    let error = ask(&engine, "m", 1).unwrap_err().to_string();
    assert!(error.contains(HISTOGRAM_FIELD) && error.contains("1 parts"), "{error}");
}
