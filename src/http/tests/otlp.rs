//! OTLP metrics through the router, in both forms.

use std::io::Write as _;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use prost::Message as _;

use super::*;
use crate::ingest::otlp::messages::{
    Answer, Data, ExponentialPoint, Exponentials, HistogramPoint, Histograms, Number, Numbers, Status,
    metric, number, request, text,
};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn gauge(rig: &Rig, name: &str, later_ns: i64) -> crate::ingest::otlp::messages::Metric {
    let time_ns = u64::try_from(rig.now_ns() + later_ns).unwrap();
    let data_points = vec![number(time_ns, Number::Double(2.5), vec![text("a.b", "c")])];
    metric(name, "s", Data::Gauge(Numbers { data_points, ..Numbers::default() }))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn otlp_protobuf_plain_and_gzip_are_stored_at_all_paths() {
    let rig = Rig::new(Options::default());
    for (path, name) in [
        ("/v1/metrics", "one"),
        ("/api/v1/otlp/v1/metrics", "two"),
        ("/db/default/api/v1/otlp/v1/metrics", "three"),
        ("/v1/metrics?db=default", "four"),
    ] {
        let body = request(vec![text("service.name", "api")], vec![gauge(&rig, name, 0)]).encode_to_vec();
        let (status, headers, answer) =
            rig.post(path, &[PROTOBUF, ("content-encoding", "gzip")], gzip(&body));
        assert_eq!((status, answer), (200, Vec::new()), "{path}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/x-protobuf");
        let found = rig.ask(&format!("{name}_seconds{{job=\"api\",a_b=\"c\"}}"));
        assert_eq!(found[0]["value"][1], "2.5", "{path}: {found}");
    }
    let metadata = rig.get("/api/v1/metadata?metric=one_seconds");
    assert!(metadata.contains(r#""one_seconds":[{"type":"gauge","help":"","unit":"s"}]"#), "{metadata}");
}

#[test]
fn otlp_refused_points_are_counted_in_a_partial_success() {
    let rig = Rig::new(Options::default());
    let coarse = ExponentialPoint { scale: -5, ..ExponentialPoint::default() };
    let exponential = Exponentials { data_points: vec![coarse; 2], temporality: 2 };
    let late = HistogramPoint { time_ns: 5, explicit_bounds: vec![1.0], ..HistogramPoint::default() };
    let metrics = vec![
        gauge(&rig, "good", 0),
        gauge(&rig, "early", 3_600 * SECOND_NS),
        metric("e", "", Data::Exponential(exponential)),
        metric("h", "", Data::Histogram(Histograms { data_points: vec![late], temporality: 2 })),
    ];
    let (status, _, answer) = rig.post("/v1/metrics", &[PROTOBUF], request(vec![], metrics).encode_to_vec());
    assert_eq!(status, 200);
    let partial = Answer::decode(&*answer).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 4, "{partial:?}");
    for wanted in [
        "e: an exponential histogram of scale -5, below -4",
        "early_seconds{a_b=\"c\"}: timestamp",
        "h_count{}: ",
    ] {
        assert!(partial.error_message.contains(wanted), "no {wanted} in {partial:?}");
    }
    assert_eq!(rig.ask("good_seconds").as_array().unwrap().len(), 1);
}

#[test]
fn otlp_json_is_answered_in_json() {
    let rig = Rig::new(Options::default());
    let point = |name: &str, temporality: u32| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","sum":{{"isMonotonic":true,"aggregationTemporality":{temporality},"dataPoints":[{{"asInt":"7","timeUnixNano":"{}"}}]}}}}]}}]}}]}}"#,
            rig.now_ns()
        )
    };
    let (status, headers, answer) = rig.post("/v1/metrics", &[JSON], point("c", 2).into_bytes());
    assert_eq!((status, &*answer), (200, &b"{}"[..]));
    assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/json");
    assert_eq!(rig.ask("c_total")[0]["value"][1], "7");
    let (status, _, answer) = rig.post("/v1/metrics", &[JSON], point("d", 1).into_bytes());
    let expected = r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"d: delta temporality is not taken: send cumulative values"}}"#;
    assert_eq!((status, String::from_utf8(answer).unwrap()), (200, expected.to_owned()));
    let (status, _, answer) = rig.post("/v1/metrics", &[JSON], b"{".to_vec());
    let answer = String::from_utf8(answer).unwrap();
    assert!(status == 400 && answer.starts_with(r#"{"code":3,"message":"malformed JSON: "#), "{answer}");
}

#[test]
fn otlp_errors_are_a_status_of_rpc() {
    let rig = Rig::new(Options::default());
    let good = request(vec![], vec![gauge(&rig, "m", 0)]).encode_to_vec();
    for (path, header, body, status, code) in [
        ("/v1/metrics", PROTOBUF, &b"\x0a\xff"[..], 400, 3),
        ("/v1/metrics?db=none", PROTOBUF, &good, 404, 5),
        ("/v1/metrics", ("content-type", "text/plain"), &good, 415, 3),
        ("/v1/metrics", ("content-encoding", "br"), &good, 415, 3),
    ] {
        let (found, _, body) = rig.post(path, &[header], body.to_vec());
        let answer = Status::decode(&*body).unwrap();
        assert_eq!((found, answer.code), (status, code), "{path} {header:?}: {answer:?}");
        assert!(!answer.message.is_empty());
    }
    rig.fs.set_free_bytes(1 << 20);
    rig.clock.advance(2 * SECOND_NS);
    let (status, headers, body) = rig.post("/v1/metrics", &[PROTOBUF], good);
    assert_eq!((status, Status::decode(&*body).unwrap().code), (503, 14), "a full disk passes");
    assert!(headers.contains_key(RETRY_AFTER));
}
