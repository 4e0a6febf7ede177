//! What is icecore's own: names of fields, statistics, histograms over layers, raw rows that are gone, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore_storage::model::{MINUTE_NS, SECOND_NS, SeriesKey, TimeRange, Value};
use icecore_storage::scan::Resolution;

use super::script::with_context;
use crate::promql::testing::VecScan;
use crate::promql::{Answer, Context, QueryValue, Sample, find_series, instant, parse_selector, range};
use crate::{Budget, ErrorKind, Limits, Result};

fn ask(scan: &VecScan, text: &str, at_ns: i64) -> Result<Answer> {
    with_context(scan, |context| instant(context, text, at_ns))
}

/// Labels and floats of an instant vector, as text.
fn shown(scan: &VecScan, text: &str, at_ns: i64) -> Vec<String> {
    match ask(scan, text, at_ns).unwrap().value {
        QueryValue::Vector(samples) => {
            let line = |sample: &crate::promql::VectorSample| {
                format!("{} {}", sample.labels, sample.value.float().unwrap_or(f64::NAN))
            };
            samples.iter().map(line).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn key(measurement: &str, host: &str) -> SeriesKey {
    SeriesKey::new(measurement, [("host", host)]).unwrap()
}

/// Two services, one value per second over ten minutes, spread over three orders of magnitude.
fn latencies() -> (VecScan, Vec<f64>) {
    let mut scan = VecScan::default();
    let mut all = Vec::new();
    for second in 1..=600i64 {
        for (host, factor) in [("a", 0.37), ("b", 11.3)] {
            let value = ((second * 7919) % 613) as f64 * factor + 0.01;
            scan.push(&key("http", host), "ms", second * SECOND_NS, Value::Float(value));
            all.push(value);
        }
    }
    all.sort_by(f64::total_cmp);
    (scan, all)
}

#[test]
fn metric_name_splits_at_any_underscore() {
    let mut scan = VecScan::default();
    scan.push(&key("a_b", "x"), "c", 0, Value::Int(1));
    scan.push(&key("a", "y"), "b_c", 0, Value::Bool(true));
    scan.push(&key("a_b_c", "z"), "value", 0, Value::UInt(3));
    scan.push(&key("a_b_c", "z"), "note", 0, Value::Str("text".to_owned()));
    let all = [
        "{__name__=\"a_b_c\", host=\"x\"} 1",
        "{__name__=\"a_b_c\", host=\"y\"} 1",
        "{__name__=\"a_b_c\", host=\"z\"} 3",
    ];
    assert_eq!(shown(&scan, "a_b_c", 0), all);
    assert_eq!(shown(&scan, "{__name__=~\"a_.+\"}", 0), all);
    assert_eq!(shown(&scan, "{host=\"z\"}", 0), all[2..]);
    assert!(shown(&scan, "a_b_c_value", 0).is_empty());
    assert!(shown(&scan, "a_b_c_note", 0).is_empty());
}

#[test]
fn find_series_names_each_numeric_field() {
    let (mut scan, _) = latencies();
    scan.push(&key("http", "a"), "status", 0, Value::Int(200));
    let selector = parse_selector("{__name__=~\"http.*\"}").unwrap();
    let budget = Budget::untimed(Limits::default());
    let found = find_series(&scan, &selector, TimeRange::ALL, 10, &budget).unwrap();
    let names: Vec<_> =
        found.iter().map(|labels| format!("{}/{}", labels.name(), labels.get("host"))).collect();
    assert_eq!(names, ["http_ms/a", "http_ms/b", "http_status/a", "http_status/b"]);
    assert_eq!(find_series(&scan, &selector, TimeRange::ALL, 1, &budget).unwrap().len(), 1);
}

#[test]
fn statistic_of_a_window_under_its_function() {
    let (scan, _) = latencies();
    let at = 600 * SECOND_NS;
    for (stat, function) in [
        ("count", "count"),
        ("sum", "sum"),
        ("min", "min"),
        ("max", "max"),
        ("first", "first"),
        ("last", "last"),
    ] {
        let outer = if matches!(stat, "count" | "sum") { "sum" } else { function };
        let by_stat = format!("{outer}_over_time(http_ms{{__stat__=\"{stat}\"}}[5m])");
        assert_eq!(
            shown(&scan, &by_stat, at),
            shown(&scan, &format!("{function}_over_time(http_ms[5m])"), at)
        );
    }
    let error = ask(&scan, "avg_over_time(http_ms{__stat__=\"count\"}[5m])", at).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("avg_over_time() of __stat__=\"count\""), "{error}");
    let error = ask(&scan, "http_ms{__stat__=~\"count\"}", at).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn statistic_at_an_instant_is_of_the_last_full_minute() {
    let (scan, _) = latencies();
    let at = 5 * MINUTE_NS + 30 * SECOND_NS;
    let found = shown(&scan, "http_ms{__stat__=\"count\", host=\"a\"}", at);
    assert_eq!(found, ["{__name__=\"http_ms\", host=\"a\"} 60"]);
    let sum = shown(&scan, "http_ms{__stat__=\"sum\", host=\"a\"} - sum_over_time(http_ms[1m] @ 300)", at);
    assert_eq!(sum, ["{host=\"a\"} 0"]);
}

#[test]
fn histogram_quantile_of_merged_series_is_close() {
    let (scan, all) = latencies();
    let at = 600 * SECOND_NS;
    for q in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
        let text = format!("histogram_quantile({q}, sum(sum_over_time(http_ms{{__stat__=\"hist\"}}[10m])))");
        let QueryValue::Vector(found) = ask(&scan, &text, at).unwrap().value else { panic!("no vector") };
        let found = found[0].value.float().unwrap();
        let rank = ((q * all.len() as f64).ceil() as usize).max(1);
        let exact = all[rank - 1];
        assert!((found - exact).abs() <= exact * 0.005416, "q {q}: {found} for {exact}");
    }
    for (text, wanted) in [
        ("histogram_count(sum(increase(http_ms{__stat__=\"hist\"}[10m])))", "{} 1200"),
        ("histogram_count(sum(rate(http_ms{__stat__=\"hist\"}[10m]))) * 600", "{} 1200"),
        ("histogram_fraction(-Inf, Inf, sum(rate(http_ms{__stat__=\"hist\"}[10m])))", "{} 1"),
        (
            "abs(histogram_sum(sum(sum_over_time(http_ms{__stat__=\"hist\"}[10m]))) \
             - sum(sum_over_time(http_ms[10m]))) < bool 0.001",
            "{} 1",
        ),
    ] {
        assert_eq!(shown(&scan, text, at), [wanted], "{text}");
    }
}

#[test]
fn histogram_beside_a_float_gives_a_remark() {
    let (scan, _) = latencies();
    let answer = ask(&scan, "http_ms{__stat__=\"hist\"} + http_ms", 600 * SECOND_NS).unwrap();
    assert_eq!(answer.value, QueryValue::Vector(Vec::new()));
    let message = "PromQL info: incompatible sample types encountered for binary operator \"+\": histogram + float (1:1)";
    assert_eq!(answer.infos, [message]);
}

#[test]
fn raw_rows_gone_are_refused_or_answered_from_cells() {
    let (mut scan, _) = latencies();
    scan.raw_gone_before_ns = Some(5 * MINUTE_NS);
    let at = 600 * SECOND_NS;
    let error = ask(&scan, "irate(http_ms[10m])", at).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution);
    let message = "1:1: irate() needs raw rows, and raw rows before 1970-01-01T00:05:00Z are gone";
    assert_eq!(error.to_string(), message);
    assert!(ask(&scan, "irate(http_ms[1m])", at).unwrap().infos.is_empty());

    let answer = ask(&scan, "quantile_over_time(0.9, http_ms{host=\"a\"}[10m])", at).unwrap();
    assert_eq!(answer.infos.len(), 2, "{:?}", answer.infos);
    assert_eq!(answer.infos[0], "window rounded to 5m: raw rows are gone");
    let answer = ask(&scan, "rate(http_ms[10m]) + rate(http_ms[10m])", at).unwrap();
    assert_eq!(answer.infos, ["window rounded to 5m: raw rows are gone"]);
}

#[test]
fn range_vector_alone_gives_its_samples() {
    let (scan, _) = latencies();
    let answer = ask(&scan, "http_ms{host=\"a\"}[3s]", 600 * SECOND_NS).unwrap();
    let QueryValue::Matrix(series) = answer.value else { panic!("no matrix") };
    let times: Vec<i64> = series[0].points.iter().map(|(ts_ns, _)| ts_ns / SECOND_NS).collect();
    assert_eq!(times, [598, 599, 600]);
    let with_range = with_context(&scan, |context| range(context, "http_ms[3s]", 0, 1, 1));
    assert!(with_range.unwrap_err().to_string().contains("invalid expression type \"range vector\""));
}

#[test]
fn limits_answer_errors_that_name_them() {
    let (scan, _) = latencies();
    let check = |limits: Limits, text: &str, name: &str| {
        let budget = Budget::untimed(limits);
        let lookback = Duration::from_secs(300);
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        let error = range(&context, text, 0, 600 * SECOND_NS, SECOND_NS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    };
    let limits = Limits::default();
    check(Limits { steps_max: 600, ..limits }, "http_ms", "steps_max");
    check(Limits { text_bytes_max: 3, ..limits }, "http_ms", "text_bytes_max");
    check(Limits { points_max: 600, ..limits }, "http_ms", "points_max");
    check(Limits { samples_max: 600, ..limits }, "http_ms", "samples_max");
    check(limits, "count_over_time(vector(1)[100y:1ms])", "subquery has");
    check(Limits { result_series_max: 0, ..limits }, "http_ms", "result_series_max");
    let memory = |memory_bytes_max| Limits { memory_bytes_max, ..limits };
    for (bytes_max, text) in [
        (5_000, "http_ms"),
        (5_000, "count(http_ms)"),
        (5_000, "rate(http_ms[5m])"),
        (5_000, "quantile_over_time(0.5, http_ms[5m])"),
        (15_000, "http_ms or vector(1)"),
        (15_000, "http_ms * on() group_left() vector(1)"),
        (15_000, "topk(1, http_ms)"),
        (5_000, "max_over_time(vector(1)[10m:1s])"),
        (5_000, "time() + 1"),
    ] {
        check(memory(bytes_max), text, "query_memory_bytes_max");
    }
    let series = with_context(&scan, |context| {
        let budget = Budget::untimed(Limits { series_max: 1, ..limits });
        instant(&Context { budget: &budget, ..*context }, "http_ms", 0)
    });
    let error = series.unwrap_err();
    assert_eq!((error.kind(), error.limit()), (ErrorKind::LimitExceeded, Some("query_series_max")));
    assert!(error.to_string().contains("(limit query_series_max)"), "{error}");
    let mut scan = VecScan::default();
    for measurement in ["http", "grpc"] {
        scan.push(&key(measurement, "a"), "ms", 0, Value::Float(1.0));
    }
    let together = with_context(&scan, |context| {
        let budget = Budget::untimed(Limits { series_max: 1, ..limits });
        instant(&Context { budget: &budget, ..*context }, "{__name__=~\".*_ms\"}", 0)
    });
    assert!(together.unwrap_err().to_string().contains("(limit query_series_max)"));
}

#[test]
fn highest_expression_is_evaluated() {
    let scan = VecScan::default();
    for text in [
        format!("1{}", " + 1".repeat(254)),
        format!("vector(1){}", " or vector(1)".repeat(254)),
        format!("{}vector(1){}", "(a or b and c == d + e * f ^ ".repeat(31), ")".repeat(31)),
        format!("{}vector(1){}", "max_over_time((abs(".repeat(21), "))[5m:1m])".repeat(21)),
    ] {
        assert!(ask(&scan, &text, 0).is_ok(), "{text}");
    }
}

#[test]
fn memory_of_what_an_expression_dropped_is_given_back() {
    let (scan, _) = latencies();
    let lookback = Duration::from_secs(300);
    let held_by = |text: &str| {
        let budget = Budget::untimed(Limits::default());
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        range(&context, text, 0, 600 * SECOND_NS, SECOND_NS).unwrap();
        budget.memory_bytes()
    };
    let chained = format!("{}sum(http_ms){}", "abs(".repeat(50), ")".repeat(50));
    assert_eq!(held_by(&chained), held_by("abs(sum(http_ms))"));
}

#[test]
fn query_beyond_the_memory_of_all_is_busy() {
    let (scan, _) = latencies();
    let pool = crate::MemoryPool::new(5_000);
    let budget = Budget::untimed(Limits::default()).with_pool(Arc::clone(&pool));
    let lookback = Duration::from_secs(300);
    let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
    let error = range(&context, "http_ms", 0, 600 * SECOND_NS, SECOND_NS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    drop(budget);
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn cancelled_query_ends() {
    let (scan, _) = latencies();
    let budget = Budget::untimed(Limits::default());
    budget.cancel_switch().store(true, Ordering::Relaxed);
    let lookback = Duration::from_secs(300);
    let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
    assert_eq!(instant(&context, "http_ms", 0).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn range_of_a_scalar_is_one_series() {
    let scan = VecScan::default();
    let answer =
        with_context(&scan, |context| range(context, "time()", 0, 2 * SECOND_NS, SECOND_NS)).unwrap();
    let QueryValue::Matrix(series) = answer.value else { panic!("no matrix") };
    let points: Vec<_> = (0..3i64).map(|step| (step * SECOND_NS, Sample::Float(step as f64))).collect();
    assert_eq!(series[0].points, points);
}

/// A query over one long series went on for half as long again as it may: the clock was looked at once for each series.
#[test]
fn deadline_is_noticed_between_the_steps_of_one_series() {
    let mut scan = VecScan::default();
    for second in 0..2000 {
        scan.push(&key("m", "a"), "value", second * SECOND_NS, Value::Float(1.0));
    }
    for query in ["quantile_over_time(0.5, m[10m])", "mad_over_time((m)[10m:1s])"] {
        let looks = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&looks);
        let elapsed = Arc::new(move || Duration::from_secs(clock.fetch_add(1, Ordering::Relaxed)));
        let limits = Limits { timeout: Duration::from_secs(200), ..Limits::default() };
        let budget = Budget::new(limits, elapsed);
        let context = Context {
            scan: &scan,
            budget: &budget,
            lookback: Duration::from_secs(300),
            resolution: Resolution::Auto,
        };
        let outcome = range(&context, query, 600 * SECOND_NS, 1900 * SECOND_NS, SECOND_NS);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Deadline, "{query}");
        assert!(looks.load(Ordering::Relaxed) < 300, "{query}");
    }
}
