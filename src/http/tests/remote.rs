//! Remote write through the router: what is stored is what PromQL finds, and each answer says what a sender must do.

use axum::http::header::RETRY_AFTER;
use prost::Message as _;

use super::*;
use crate::ingest::remote::messages::{
    Histogram, Metadata, Request2, Sample, Span, TimeSeries, TimeSeries2, WriteRequest, series,
};

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

pub(super) fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

pub(super) fn v1(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    snappy(&WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec())
}

impl Rig {
    fn now_ms(&self) -> i64 {
        self.now_ns() / 1_000_000
    }

    fn remote(&self, body: Vec<u8>) -> (u16, String) {
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];
        let (status, _, body) = self.post("/api/v1/write", &headers, body);
        (status, String::from_utf8(body).unwrap())
    }

    /// The result of an instant query as JSON.
    pub(super) fn ask(&self, query: &str) -> serde_json::Value {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let time = self.now_ms() / 1000;
        let body = self.get(&format!("/api/v1/query?time={time}&query={query}"));
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        answer.pointer("/data/result").unwrap_or_else(|| panic!("{body}")).clone()
    }
}

#[test]
fn remote_series_are_found_by_their_names_and_labels() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ms();
    let cases: &[&[(&str, &str)]] = &[
        &[("__name__", "http_requests_total"), ("code", "200"), ("job", "api"), ("empty", "")],
        &[("__name__", "job:errors:rate5m"), ("job", "api")],
        &[("__name__", "a.b c"), ("service.name", "ä \"q\"\\")],
        &[("__name__", "cpu_value"), ("value", "value")],
        &[("__name__", "cpu"), ("__scheme__", "x")],
    ];
    let timeseries =
        cases.iter().zip(1_u32..).map(|(labels, value)| series(labels, &[(f64::from(value), now)])).collect();
    assert_eq!(rig.remote(v1(timeseries)), (204, String::new()));
    for (query, labels, value) in [
        (
            "http_requests_total{code=\"200\"}",
            r#"{"__name__":"http_requests_total","code":"200","job":"api"}"#,
            "1",
        ),
        ("job:errors:rate5m", r#"{"__name__":"job:errors:rate5m","job":"api"}"#, "2"),
        (r#"{"a.b c","service.name"=~"ä.*"}"#, r#"{"__name__":"a.b c","service.name":"ä \"q\"\\"}"#, "3"),
        ("cpu_value", r#"{"__name__":"cpu_value","value":"value"}"#, "4"),
        ("cpu", r#"{"__name__":"cpu","__scheme__":"x"}"#, "5"),
    ] {
        let found = rig.ask(query);
        assert_eq!(found.as_array().unwrap().len(), 1, "{query}: {found}");
        let labels: serde_json::Value = serde_json::from_str(labels).unwrap();
        assert_eq!(found[0]["metric"], labels, "{query}");
        assert_eq!(found[0]["value"][1], value, "{query}");
    }
}

#[test]
fn remote_stale_marker_ends_a_series_and_survives_a_flush() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ms();
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let ended = series(&[("__name__", "m")], &[(1.0, now - 20_000), (3.0, now - 10_000), (stale, now)]);
    let nan = series(&[("__name__", "n")], &[(f64::NAN, now)]);
    assert_eq!(rig.remote(v1(vec![ended, nan])).0, 204);
    for round in ["in memory", "in segments"] {
        assert_eq!(rig.ask("m").as_array().unwrap().len(), 0, "{round}");
        assert_eq!(rig.ask("n")[0]["value"][1], "NaN", "{round}");
        assert_eq!(rig.ask("count_over_time(m[1m])")[0]["value"][1], "2", "{round}");
        assert_eq!(rig.ask("sum_over_time(m[1m])")[0]["value"][1], "4", "{round}");
        assert_eq!(rig.ask("m offset 10s")[0]["value"][1], "3", "{round}");
        assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush", "").0, 200);
    }
}

#[test]
fn remote_good_samples_are_kept_and_bad_ones_named() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ms();
    assert_eq!(rig.write("typed value=1i").0, 204);
    let mut with_histogram = series(&[("__name__", "h")], &[]);
    with_histogram.histograms = vec![Histogram { schema: 9, timestamp: now, ..Histogram::default() }];
    let timeseries = vec![
        series(
            &[("__name__", "m"), ("job", "a")],
            &[(1.0, now), (1.0, now), (2.0, now - 5), (3.0, now + 3_600_000)],
        ),
        series(&[("__name__", "typed")], &[(1.0, now)]),
        series(&[("job", "nameless")], &[(1.0, now)]),
        series(&[("__name__", "m"), ("x", "1"), ("x", "2")], &[(1.0, now)]),
        with_histogram,
    ];
    let (status, body) = rig.remote(v1(timeseries));
    assert_eq!(status, 400, "{body}");
    for wanted in [
        r#"series 1: m{job=\"a\"}: timestamp"#,
        "series 2: typed{}: ",
        "series 3: a series without a metric name",
        "series 4: tag key `x` stands twice",
        "series 5: h{}: native histogram: schema 9 is not within -4 and 8",
        "written=3 dropped=5",
    ] {
        assert!(body.contains(wanted), "no {wanted} in {body}");
    }
    assert_eq!(rig.ask("m")[0]["value"][1], "1");
}

/// Twelve values: two at zero, and ten in two buckets.
fn histogram(timestamp: i64) -> Histogram {
    Histogram {
        count_int: Some(12),
        sum: 18.5,
        schema: 0,
        zero_threshold: 0.001,
        zero_count_int: Some(2),
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_deltas: vec![4, 2],
        timestamp,
        ..Histogram::default()
    }
}

#[test]
fn remote_native_histograms_are_kept_and_end_as_samples_do() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ms();
    let mut one = series(&[("__name__", "h"), ("job", "a")], &[]);
    one.histograms = vec![histogram(now - 30_000), histogram(now)];
    let mut ended = series(&[("__name__", "e")], &[]);
    let end =
        Histogram { sum: f64::from_bits(0x7ff0_0000_0000_0002), timestamp: now, ..Histogram::default() };
    ended.histograms = vec![histogram(now - 30_000), end];
    assert_eq!(rig.remote(v1(vec![one, ended])), (204, String::new()));
    for round in ["in memory", "in segments"] {
        let found = rig.ask("h");
        let metric = serde_json::json!({"__name__": "h", "job": "a"});
        assert_eq!(found[0]["metric"], metric, "{round}: {found}");
        let expected = serde_json::json!({
            "count": "12", "sum": "18.5",
            "buckets": [[3, "-0.001", "0.001", "2"], [0, "1", "2", "4"], [0, "2", "4", "6"]],
        });
        assert_eq!(found[0]["histogram"][1], expected, "{round}");
        assert_eq!(rig.ask("count_over_time(h[1m])")[0]["value"][1], "2", "{round}");
        assert_eq!(rig.ask("e"), serde_json::json!([]), "{round}");
        assert_eq!(rig.ask("histogram_count(e offset 10s)")[0]["value"][1], "12", "{round}");
        assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush", "").0, 200);
    }
    let names = rig.get("/api/v1/label/__name__/values");
    assert!(names.contains(r#"["e","h"]"#), "{names}");
}

#[test]
fn remote_body_that_is_no_request_is_400_and_stores_nothing() {
    let rig = Rig::new(Options::default());
    let good = series(&[("__name__", "m")], &[(1.0, rig.now_ms())]);
    let request = WriteRequest { timeseries: vec![good], metadata: Vec::new() }.encode_to_vec();
    for body in
        [request.clone(), snappy(b"\xff\xff"), snappy(&[&request[..], &[0x0a, 9]].concat()), b"junk".to_vec()]
    {
        assert_eq!(rig.remote(body).0, 400);
    }
    assert_eq!(rig.ask("m").as_array().unwrap().len(), 0);
    assert_eq!(rig.remote(snappy(b"")).0, 204, "an empty request is one");
    let headers = [("content-type", "application/json")];
    assert_eq!(rig.post("/api/v1/write", &headers, snappy(&request)).0, 415);
    assert_eq!(rig.send(Method::GET, "/api/v1/write", "").0, 405);
    assert_eq!(rig.post("/db/none/api/v1/write", &[], snappy(&request)).0, 404);
    assert_eq!(rig.post("/db/default/api/v1/write", &[], snappy(&request)).0, 204);
    assert_eq!(rig.ask("m").as_array().unwrap().len(), 1);
}

#[test]
fn remote_overload_is_503_and_a_full_disk_507_both_to_be_sent_again() {
    let rig = Rig::new(Options::default());
    let body = v1(vec![series(&[("__name__", "m")], &[(1.0, rig.now_ms())])]);
    rig.fs.set_free_bytes(1 << 20);
    rig.clock.advance(2 * SECOND_NS);
    let (status, headers, _) = rig.post("/api/v1/write", &[], body.clone());
    assert_eq!((status, headers.contains_key(RETRY_AFTER)), (507, true));
    let limits = Limits { bodies_bytes_max: 0, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let (status, headers, _) = rig.post("/api/v1/write", &[], body);
    assert_eq!((status, headers.contains_key(RETRY_AFTER)), (503, true));
}

#[test]
fn remote_2_says_what_was_written_also_of_a_part() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ms();
    let symbols = ["", "__name__", "m", "job", "a", "helps", "seconds"].map(str::to_owned).to_vec();
    let one = |labels_refs: &[u32]| TimeSeries2 {
        labels_refs: labels_refs.to_vec(),
        samples: vec![Sample { value: 2.5, timestamp: now }],
        histograms: if labels_refs.len() == 4 { vec![histogram(now - 1000)] } else { Vec::new() },
        metadata: Some(crate::ingest::remote::messages::Metadata2 { kind: 2, help_ref: 5, unit_ref: 6 }),
        ..TimeSeries2::default()
    };
    let send = |timeseries: Vec<TimeSeries2>| {
        let body = snappy(&Request2 { symbols: symbols.clone(), timeseries }.encode_to_vec());
        let headers = [("content-type", V2), ("content-encoding", "snappy")];
        let (status, headers, body) = rig.post("/api/v1/write", &headers, body);
        let counts = ["samples", "histograms", "exemplars"].map(|name| {
            headers
                .get(format!("x-prometheus-remote-write-{name}-written"))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        });
        (status, counts, String::from_utf8(body).unwrap())
    };
    let (status, counts, _) = send(vec![one(&[1, 2, 3, 4])]);
    assert_eq!((status, counts), (204, ["1", "1", "0"].map(str::to_owned)));
    let (status, counts, body) = send(vec![one(&[1, 2]), one(&[3, 4])]);
    assert_eq!((status, counts), (400, ["1", "0", "0"].map(str::to_owned)));
    assert!(body.contains("series 2: a series without a metric name; written=1 dropped=1"), "{body}");
    assert_eq!(rig.ask("m{job=\"a\"}")[0]["value"][1], "2.5");
    let metadata = r#""m":[{"type":"gauge","help":"helps","unit":"seconds"}]"#;
    assert!(rig.get("/api/v1/metadata").contains(metadata), "{}", rig.get("/api/v1/metadata"));
}

#[test]
fn remote_metadata_is_served_by_metric_and_limit() {
    let rig = Rig::new(Options::default());
    let entry = |name: &str, kind: i32| Metadata {
        kind,
        metric_family_name: name.to_owned(),
        help: "a \"b\"".to_owned(),
        unit: String::new(),
    };
    let metadata = vec![entry("y", 1), entry("x", 5)];
    assert_eq!(rig.remote(snappy(&WriteRequest { timeseries: Vec::new(), metadata }.encode_to_vec())).0, 204);
    let x = r#""x":[{"type":"summary","help":"a \"b\"","unit":""}]"#;
    let y = r#""y":[{"type":"counter","help":"a \"b\"","unit":""}]"#;
    let answer = |data: &str| format!("{{\"status\":\"success\",\"data\":{{{data}}}}}\n");
    assert_eq!(rig.get("/api/v1/metadata"), answer(&format!("{x},{y}")));
    assert_eq!(rig.get("/api/v1/metadata?limit=1"), answer(x));
    assert_eq!(rig.get("/api/v1/metadata?metric=y&limit=40000"), answer(y));
    assert_eq!(rig.get("/api/v1/metadata?metric=z"), answer(""));
}
