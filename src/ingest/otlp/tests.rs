//! Requests encoded by `prost`, in JSON and once by hand, into samples as Prometheus names them.

#![expect(clippy::indexing_slicing, reason = "a test may fail by panic")]

mod exemplars;

use icecore_storage::model::ValueRef;
use prost::Message as _;

use super::messages::{
    Any, AnyValue, AnyValues, Counts, Data, ExponentialPoint, Exponentials, HistogramPoint, Histograms,
    KeyValue, Number, NumberPoint, Numbers, Pairs, Quantile, Request, Summaries, SummaryPoint, metric,
    number, pair, request, text,
};
use super::*;
use crate::ingest::line::LineLimits;

/// Samples as text, and what else there was.
fn rows(body: &[u8]) -> (Vec<String>, usize, Vec<String>) {
    let mut rows = Vec::new();
    let outcome = decode(body, &LineLimits::default(), &mut |decoded| {
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        for (row, fields) in decoded.batch.iter() {
            let key = (decoded.batch.dialect.series_key)(row.key).unwrap_or_else(|reason| panic!("{reason}"));
            let value = match (fields[0].name, fields[0].value) {
                (b"value", ValueRef::Float(value)) => value.to_string(),
                (b"__stale__", ValueRef::Bool(true)) => "stale".to_owned(),
                (b"__histogram__", ValueRef::Str(text)) => text.to_owned(),
                field => panic!("{field:?}"),
            };
            rows.push(format!("{key} {value} @{} #{}", row.ts_ns, row.line));
        }
        Ok(())
    });
    let outcome = outcome.unwrap();
    (rows, outcome.refused_points, outcome.reasons)
}

fn of(request: &Request) -> (Vec<String>, usize, Vec<String>) {
    rows(&request.encode_to_vec())
}

fn numbers(temporality: i32, is_monotonic: bool, data_points: Vec<NumberPoint>) -> Numbers {
    Numbers { data_points, temporality, is_monotonic }
}

#[test]
fn bytes_written_by_hand_are_a_gauge() {
    let body = [
        0x0a, 0x2c, // resource_metrics
        0x12, 0x2a, // scope_metrics
        0x12, 0x28, // metrics
        0x0a, 3, b'c', b'p', b'u', // name
        0x1a, 1, b'1', // unit
        0x2a, 0x1e, // gauge
        0x0a, 0x1c, // data_points
        0x19, 5, 0, 0, 0, 0, 0, 0, 0, // time_unix_nano 5
        0x31, 7, 0, 0, 0, 0, 0, 0, 0, // as_int 7
        0x3a, 8, 0x0a, 1, b'a', 0x12, 3, 0x0a, 1, b'b', // attributes: a=b
    ];
    assert_eq!(rows(&body).0, [r#"cpu_ratio{a="b"} 7 @5 #1"#]);
}

#[test]
fn sums_and_gauges_are_named_by_unit_and_kind() {
    let point = || vec![number(10, Number::Int(-3), vec![])];
    let found = of(&request(
        vec![],
        vec![
            metric("http.requests", "{request}", Data::Sum(numbers(2, true, point()))),
            metric("queue.size", "By", Data::Sum(numbers(2, false, point()))),
            metric("share", "1", Data::Sum(numbers(2, false, point()))),
            metric(
                "temperature",
                "Cel",
                Data::Gauge(numbers(0, false, vec![number(9, Number::Double(1.5), vec![])])),
            ),
        ],
    ));
    let expected = [
        "http_requests_total{} -3 @10 #1",
        "queue_size_bytes{} -3 @10 #2",
        "share{} -3 @10 #3",
        "temperature_celsius{} 1.5 @9 #4",
    ];
    assert_eq!(found, (expected.map(str::to_owned).to_vec(), 0, vec![]));
}

#[test]
fn histograms_become_cumulative_buckets_and_summaries_quantiles() {
    let point = HistogramPoint {
        attributes: vec![text("path", "/"), text("le", "mine")],
        time_ns: 5,
        count: 10,
        sum: Some(2.5),
        bucket_counts: vec![1, 2, 7],
        explicit_bounds: vec![0.005, 1.0],
        flags: 0,
        exemplars: Vec::new(),
    };
    let histograms = Histograms { data_points: vec![point], temporality: 2 };
    let summary = SummaryPoint {
        time_ns: 6,
        count: 4,
        sum: 8.0,
        quantile_values: vec![Quantile { quantile: 0.99, value: 3.0 }],
        ..SummaryPoint::default()
    };
    let metrics = vec![
        metric("latency", "s", Data::Histogram(histograms)),
        metric("old", "", Data::Summary(Summaries { data_points: vec![summary] })),
    ];
    let expected = [
        r#"latency_seconds_sum{le="mine",path="/"} 2.5 @5 #1"#,
        r#"latency_seconds_count{le="mine",path="/"} 10 @5 #1"#,
        r#"latency_seconds_bucket{le="0.005",path="/"} 1 @5 #1"#,
        r#"latency_seconds_bucket{le="1",path="/"} 3 @5 #1"#,
        r#"latency_seconds_bucket{le="+Inf",path="/"} 10 @5 #1"#,
        "old_sum{} 8 @6 #2",
        "old_count{} 4 @6 #2",
        r#"old{quantile="0.99"} 3 @6 #2"#,
    ];
    assert_eq!(of(&request(vec![], metrics)).0, expected);
}

#[test]
fn resource_names_job_and_instance_and_the_rest_is_target_info() {
    let resource = vec![
        text("service.name", "api"),
        text("service.namespace", "shop"),
        text("service.instance.id", "i-1"),
        text("host.name", "h"),
        pair("cpu.count", Any::Int(4)),
    ];
    let gauge = |attributes: Vec<_>| {
        let points =
            vec![number(7, Number::Int(1), attributes), number(9, Number::Int(2), vec![text("job", "mine")])];
        vec![metric("up", "", Data::Gauge(numbers(0, false, points)))]
    };
    let expected = [
        r#"up{instance="i-1",job="shop/api",x="y"} 1 @7 #1"#,
        r#"up{instance="i-1",job="shop/api"} 2 @9 #2"#,
        r#"target_info{cpu_count="4",host_name="h",instance="i-1",job="shop/api"} 1 @9 #0"#,
    ];
    assert_eq!(of(&request(resource, gauge(vec![text("x", "y")]))).0, expected);
    let nameless = of(&request(vec![text("host.name", "h")], gauge(vec![]))).0;
    assert_eq!(nameless.len(), 2, "no target without a name: {nameless:?}");
    let bare = of(&request(vec![text("service.name", "api")], gauge(vec![]))).0;
    assert_eq!(bare[0], r#"up{job="api"} 1 @7 #1"#);
    assert_eq!(bare.len(), 2, "nothing to say of the target: {bare:?}");
}

#[test]
fn attributes_of_all_kinds_are_texts_and_equal_names_are_joined() {
    let value = |value| AnyValue { value: Some(value) };
    let list = Any::Array(AnyValues {
        values: vec![value(Any::Text("a\"".into())), value(Any::Double(0.5)), AnyValue { value: None }],
    });
    let pairs =
        Any::Pairs(Pairs { values: vec![pair("k", Any::Bool(true)), pair("n", Any::Bytes(vec![1, 2, 3]))] });
    let attributes = vec![
        pair("b", Any::Bool(false)),
        pair("i", Any::Int(-1)),
        pair("d", Any::Double(2.0)),
        pair("list", list),
        pair("pairs", pairs),
        pair("bytes", Any::Bytes(b"foobar".to_vec())),
        text("x_y", "3"),
        text("x.y", "2"),
        text("x-y", "1"),
        text("empty", ""),
    ];
    let points = vec![number(7, Number::Int(1), attributes)];
    let found = of(&request(vec![], vec![metric("m", "", Data::Gauge(numbers(0, false, points)))])).0;
    let expected = r#"m{b="false",bytes="Zm9vYmFy",d="2",i="-1",list="[\"a\\\"\",0.5,null]",pairs="{\"k\":true,\"n\":\"AQID\"}",x_y="1;2;3"} 1 @7 #1"#;
    assert_eq!(found, [expected]);
}

#[test]
fn points_that_say_nothing_is_recorded_end_the_series() {
    let absent = NumberPoint { flags: 1, value: None, ..number(7, Number::Int(1), vec![]) };
    let empty = NumberPoint { value: None, ..number(8, Number::Int(1), vec![]) };
    let histogram = HistogramPoint {
        time_ns: 7,
        flags: 1,
        sum: Some(0.0),
        explicit_bounds: vec![1.0],
        bucket_counts: vec![0, 0],
        ..HistogramPoint::default()
    };
    let metrics = vec![
        metric("m", "", Data::Gauge(numbers(0, false, vec![absent, empty]))),
        metric("h", "", Data::Histogram(Histograms { data_points: vec![histogram], temporality: 2 })),
    ];
    let (rows, refused, reasons) = of(&request(vec![], metrics));
    assert_eq!(rows.len(), 5);
    assert!(rows.iter().all(|row| row.contains(" stale @7")), "{rows:?}");
    assert_eq!((refused, reasons), (1, vec!["m: a point without a value".to_owned()]));
}

/// Two values in each of two buckets above zero, three at zero, and one below it.
fn exponential(scale: i32) -> ExponentialPoint {
    ExponentialPoint {
        time_ns: 7,
        count: 8,
        sum: Some(1.5),
        scale,
        zero_count: 3,
        positive: Some(Counts { offset: -1, bucket_counts: vec![2, 0, 2] }),
        negative: Some(Counts { offset: 4, bucket_counts: vec![1] }),
        ..ExponentialPoint::default()
    }
}

#[test]
fn exponential_histograms_are_native_ones_and_too_fine_ones_made_coarser() {
    let cases = [
        // Bucket i is i + 1.
        (exponential(3), "3;1e-128;u;8;1.5;3;0:2 2:2;5:1"),
        // Neighbours 2i and 2i + 1 join, below zero too: -1 is in -1, and 0 and 1 in 0.
        (exponential(9), "8;1e-128;u;8;1.5;3;0:2,2;3:1"),
        (exponential(i32::MAX), "8;1e-128;u;8;1.5;3;0:2,2;1:1"),
        (
            ExponentialPoint { zero_threshold: 0.5, sum: None, ..exponential(-4) },
            "-4;0.5;u;8;0;3;0:2 2:2;5:1",
        ),
        (ExponentialPoint { flags: 1, ..exponential(0) }, "stale"),
    ];
    for (point, expected) in cases {
        let data = Data::Exponential(Exponentials { data_points: vec![point], temporality: 2 });
        let (rows, refused, reasons) = of(&request(vec![], vec![metric("e", "s", data)]));
        assert_eq!(rows, [format!("e_seconds{{}} {expected} @7 #1")], "{reasons:?}");
        assert_eq!(refused, 0);
    }
    let many = Counts { offset: 0, bucket_counts: vec![1; 10_001] };
    let far = Counts { offset: i32::MAX, bucket_counts: vec![1, 1] };
    for (point, expected) in [
        (exponential(-5), "an exponential histogram of scale -5, below -4"),
        (ExponentialPoint { positive: Some(many), ..exponential(0) }, "more than 10000 buckets"),
        (ExponentialPoint { negative: Some(far), ..exponential(0) }, "a bucket of index 2147483647"),
    ] {
        let data = Data::Exponential(Exponentials { data_points: vec![point], temporality: 2 });
        let (rows, refused, reasons) = of(&request(vec![], vec![metric("e", "s", data)]));
        assert_eq!((rows.len(), refused), (0, 1));
        assert!(reasons[0].contains(expected), "{reasons:?}");
    }
}

#[test]
fn names_and_attributes_longer_than_labels_may_be_are_refused() {
    let point = |attributes| vec![number(7, Number::Int(1), attributes)];
    let long = "a_".repeat(40_000);
    let many = (0..5000).map(|key| text(&format!("k{key}"), "")).collect();
    let metrics = vec![
        metric(&long, "", Data::Gauge(numbers(0, false, point(vec![])))),
        metric("one", "", Data::Gauge(numbers(0, false, point(vec![text("k", &long)])))),
        metric("many", "", Data::Gauge(numbers(0, false, point(many)))),
        metric("good", "", Data::Gauge(numbers(0, false, point(vec![])))),
    ];
    let (mut found, mut reasons) = (0, Vec::new());
    let body = request(vec![], metrics).encode_to_vec();
    let outcome = decode(&body, &LineLimits::default(), &mut |decoded| {
        found += decoded.batch.rows.len();
        reasons.extend(decoded.rejected.into_iter().map(|one| one.reason));
        Ok(())
    });
    let outcome = outcome.unwrap();
    assert_eq!((found, outcome.refused_points), (1, 1));
    assert_eq!(outcome.reasons, ["a metric whose name is longer than 65536 bytes"]);
    assert_eq!(reasons, vec!["labels longer than 65536 bytes"; 2]);
}

#[test]
fn delta_is_refused_by_name_and_the_others_kept() {
    let point = || number(7, Number::Int(1), vec![]);
    let exponential = Exponentials { data_points: vec![ExponentialPoint::default(); 3], temporality: 1 };
    let metrics = vec![
        metric("d", "", Data::Sum(numbers(1, true, vec![point(), point()]))),
        metric("u", "", Data::Sum(numbers(0, true, vec![point()]))),
        metric("e", "", Data::Exponential(exponential)),
        metric("é", "", Data::Gauge(numbers(0, false, vec![point()]))),
        metric("m", "", Data::Gauge(numbers(0, false, vec![point()]))),
    ];
    let (rows, refused, reasons) = of(&request(vec![], metrics));
    assert_eq!((rows, refused), (vec!["m{} 1 @7 #8".to_owned()], 7));
    let expected = [
        "d: delta temporality is not taken: send cumulative values",
        "u: no temporality is given",
        "e: delta temporality is not taken: send cumulative values",
        "metric \"é\" has no name that can be kept",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn malformed_anywhere_is_invalid() {
    let points = vec![number(7, Number::Int(1), vec![text("a", "b")])];
    let body = request(
        vec![text("service.name", "x")],
        vec![metric("m", "", Data::Gauge(numbers(0, false, points)))],
    )
    .encode_to_vec();
    for end in 1..body.len() {
        let outcome = decode(&body[..end], &LineLimits::default(), &mut |_| Ok(()));
        assert!(outcome.is_err(), "cut at {end}");
    }
}

/// The example of the OTLP repository, shortened, and the kinds of numbers that senders write.
/// One metric of each kind in JSON.
const KINDS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"my.service"}},
        {"key":"n","value":{"intValue":"-9"}},{"key":"l","value":{"arrayValue":{"values":[{"boolValue":true},{"bytesValue":"AQID"}]}}}]},
        "scopeMetrics":[{"scope":{"name":"my.library","version":"1.0.0","attributes":[{"key":"x","value":{"stringValue":"y"}}]},
        "metrics":[
        {"name":"my.counter","unit":"1","description":"I am a Counter","sum":{"aggregationTemporality":2,"isMonotonic":true,
            "dataPoints":[{"asDouble":5,"startTimeUnixNano":"1544712660300000000","timeUnixNano":"1544712660300000001",
            "exemplars":[{"spanId":"EEE19B7EC3C1B174","asInt":"1"}],"attributes":[{"key":"my.counter.attr","value":{"stringValue":"some value"}}]}]}},
        {"name":"my.gauge","unit":null,"gauge":{"dataPoints":[{"asInt":"10","timeUnixNano":1544712660300000000},{"asDouble":"NaN","timeUnixNano":"3","flags":1}]}},
        {"name":"my.histogram","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"2","count":2,"sum":2,"bucketCounts":["1",1],"explicitBounds":[1],"min":0,"max":2}]}},
        {"name":"my.exponential","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"7","count":"8","sum":1.5,"scale":-3,"zeroCount":3,
            "positive":{"offset":-1,"bucketCounts":["2",0,"2"]},"negative":{"offset":4,"bucketCounts":[1]},"zeroThreshold":0,"min":1}]}},
        {"name":"my.summary","summary":{"dataPoints":[{"timeUnixNano":"2","count":"3","sum":1.5,"quantileValues":[{"quantile":0.5,"value":0.25}]}]}}
        ]}]}]}"#;

#[test]
fn json_gives_the_same_samples_as_protobuf() {
    let point = NumberPoint { flags: 1, ..number(3, Number::Double(f64::NAN), vec![]) };
    let histogram = HistogramPoint {
        time_ns: 2,
        count: 2,
        sum: Some(2.0),
        bucket_counts: vec![1, 1],
        explicit_bounds: vec![1.0],
        ..HistogramPoint::default()
    };
    let summary = SummaryPoint {
        time_ns: 2,
        count: 3,
        sum: 1.5,
        quantile_values: vec![Quantile { quantile: 0.5, value: 0.25 }],
        ..SummaryPoint::default()
    };
    let list =
        [Any::Bool(true), Any::Bytes(vec![1, 2, 3])].map(|value| AnyValue { value: Some(value) }).to_vec();
    let counter =
        number(1_544_712_660_300_000_001, Number::Double(5.0), vec![text("my.counter.attr", "some value")]);
    let same = request(
        vec![
            text("service.name", "my.service"),
            pair("n", Any::Int(-9)),
            pair("l", Any::Array(AnyValues { values: list })),
        ],
        vec![
            metric("my.counter", "1", Data::Sum(numbers(2, true, vec![counter]))),
            metric(
                "my.gauge",
                "",
                Data::Gauge(numbers(
                    0,
                    false,
                    vec![number(1_544_712_660_300_000_000, Number::Int(10), vec![]), point],
                )),
            ),
            metric(
                "my.histogram",
                "",
                Data::Histogram(Histograms { data_points: vec![histogram], temporality: 2 }),
            ),
            metric(
                "my.exponential",
                "",
                Data::Exponential(Exponentials { data_points: vec![exponential(-3)], temporality: 2 }),
            ),
            metric("my.summary", "", Data::Summary(Summaries { data_points: vec![summary] })),
        ],
    );
    let body = json::to_protobuf(KINDS.as_bytes()).unwrap();
    let found = rows(&body);
    assert_eq!(found, of(&same));
    assert_eq!(
        found.0[0],
        r#"my_counter_total{job="my.service",my_counter_attr="some value"} 5 @1544712660300000001 #1"#
    );
    assert_eq!(found.0.len(), 12);
    // What was rewritten is protobuf to others, too.
    assert_eq!(
        Request::decode(&*body).unwrap().resource_metrics[0].scope_metrics[0].metrics[0].description,
        "I am a Counter"
    );
}
