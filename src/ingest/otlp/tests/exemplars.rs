//! Exemplars of points, and the series they belong to.

use super::super::messages::{Exemplar, ExemplarNumber};
use super::*;

/// Exemplars as text: series, labels, value, time.
fn exemplars(body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let outcome = decode(body, &LineLimits::default(), &mut |decoded| {
        for one in &decoded.exemplars {
            let key = (decoded.batch.dialect.series_key)(one.key).unwrap();
            let exemplar = &one.exemplar;
            found.push(format!("{key} {} {} @{}", exemplar.labels, exemplar.value, exemplar.ts_ns));
        }
        Ok(())
    });
    assert_eq!(outcome.unwrap().refused_points, 0);
    found
}

fn given(time_ns: u64, value: f64, attributes: Vec<KeyValue>) -> Exemplar {
    let value = Some(ExemplarNumber::Double(value));
    Exemplar { filtered_attributes: attributes, time_ns, value, span_id: vec![0xab], trace_id: vec![1, 2] }
}

#[test]
fn sums_and_exponential_histograms_have_all_and_buckets_the_first_of_their_own() {
    let point = |exemplars| NumberPoint { exemplars, ..number(9, Number::Int(3), vec![]) };
    let long = vec![text("user", &"x".repeat(120))];
    let whole = ExemplarNumber::Int(-4);
    let sum = point(vec![
        given(5, 1.5, vec![text("user.id", "7")]),
        given(6, 2.5, long),
        Exemplar { value: Some(whole), trace_id: vec![], span_id: vec![], ..given(7, 0.0, vec![]) },
        Exemplar { trace_id: vec![0; 65], ..given(8, 0.0, vec![]) },
        given(u64::MAX, 0.0, vec![]),
    ]);
    let gauge = point(vec![given(5, 1.5, vec![])]);
    let histogram = HistogramPoint {
        time_ns: 9,
        count: 4,
        bucket_counts: vec![1, 1, 2],
        explicit_bounds: vec![1.0, 2.0],
        exemplars: vec![given(1, 5.0, vec![]), given(2, 1.0, vec![]), given(3, 9.0, vec![])],
        ..HistogramPoint::default()
    };
    let exponential = ExponentialPoint {
        time_ns: 9,
        exemplars: vec![given(1, 5.0, vec![]), given(2, 1.0, vec![])],
        ..ExponentialPoint::default()
    };
    let body = request(
        vec![],
        vec![
            metric("s", "", Data::Sum(numbers(2, false, vec![sum]))),
            metric("g", "", Data::Gauge(numbers(0, false, vec![gauge]))),
            metric("h", "", Data::Histogram(Histograms { data_points: vec![histogram], temporality: 2 })),
            metric(
                "e",
                "",
                Data::Exponential(Exponentials { data_points: vec![exponential], temporality: 2 }),
            ),
        ],
    );
    let ids = r#"span_id="ab", trace_id="0102""#;
    let expected = [
        format!(r#"s{{}} {{{ids}, user.id="7"}} 1.5 @5"#),
        format!("s{{}} {{{ids}}} 2.5 @6"),
        "s{} {} -4 @7".to_owned(),
        format!(r#"h_bucket{{le="1"}} {{{ids}}} 1 @2"#),
        format!(r#"h_bucket{{le="+Inf"}} {{{ids}}} 5 @1"#),
        format!("e{{}} {{{ids}}} 5 @1"),
        format!("e{{}} {{{ids}}} 1 @2"),
    ];
    assert_eq!(exemplars(&body.encode_to_vec()), expected);
}

#[test]
fn json_has_ids_in_hex() {
    let body = r#"{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "s", "sum": {
        "aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": "9", "asInt": "1", "exemplars": [{
            "timeUnixNano": "5", "asInt": "7", "spanId": "EEe1", "traceId": "0a",
            "filteredAttributes": [{"key": "k", "value": {"boolValue": true}}]}]}]}}]}]}]}"#;
    let body = json::to_protobuf(body.as_bytes()).unwrap();
    assert_eq!(exemplars(&body), [r#"s{} {k="true", span_id="eee1", trace_id="0a"} 7 @5"#]);
}
