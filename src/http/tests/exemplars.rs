//! Exemplars through the router: what senders give is what /api/v1/query_exemplars answers.

use prost::Message as _;
use serde_json::{Value, json};

use super::remote::{snappy, v1};
use super::*;
use crate::ingest::remote::messages::{Exemplar, Exemplar2, Label, Request2, TimeSeries2, series};

const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

fn exemplar(trace: &str, value: f64, timestamp: i64) -> Exemplar {
    let labels = vec![Label { name: "trace_id".into(), value: trace.into() }];
    Exemplar { labels, value, timestamp }
}

fn seconds(ms: i64) -> Value {
    if ms % 1000 == 0 { json!(ms / 1000) } else { json!(ms as f64 / 1000.0) }
}

impl Rig {
    fn exemplars(&self, query: &str) -> Value {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let found = self.get(&format!("/api/v1/query_exemplars?query={query}"));
        let answer: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(answer["status"], "success", "{found}");
        answer["data"].clone()
    }
}

#[test]
fn remote_write_exemplars_of_both_versions_are_answered() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let mut one = series(&[("__name__", "m_bucket"), ("le", "1")], &[(1.0, now)]);
    one.exemplars = vec![exemplar("a", 0.5, now - 1500), exemplar("b", f64::INFINITY, now)];
    // As Prometheus sends them: apart from their samples.
    let mut apart = series(&[("__name__", "m_bucket"), ("le", "2")], &[]);
    apart.exemplars = vec![exemplar("c", 1.5, now)];
    let (status, headers, _) = rig.post("/api/v1/write", &[], v1(vec![one, apart]));
    assert_eq!((status, headers.get("x-icecore-written").unwrap().to_str().unwrap()), (204, "1"));
    let symbols = ["", "__name__", "n_total", "trace_id", "d"].map(str::to_owned).to_vec();
    let given = |value| Exemplar2 { labels_refs: vec![3, 4], value, timestamp: now };
    let timeseries = vec![TimeSeries2 {
        labels_refs: vec![1, 2],
        // The last one is older: it is refused.
        exemplars: vec![given(2.0), given(2.0), given(1.0)],
        ..TimeSeries2::default()
    }];
    let body = snappy(&Request2 { symbols, timeseries }.encode_to_vec());
    let (status, headers, _) = rig.post("/api/v1/write", &[("content-type", V2)], body);
    assert_eq!(status, 204);
    assert_eq!(headers.get("x-prometheus-remote-write-exemplars-written").unwrap(), "2");
    let m = json!([
        {"seriesLabels": {"__name__": "m_bucket", "le": "1"}, "exemplars": [
            {"labels": {"trace_id": "a"}, "value": "0.5", "timestamp": seconds(now - 1500)},
            {"labels": {"trace_id": "b"}, "value": "+Inf", "timestamp": seconds(now)}]},
        {"seriesLabels": {"__name__": "m_bucket", "le": "2"}, "exemplars": [
            {"labels": {"trace_id": "c"}, "value": "1.5", "timestamp": seconds(now)}]},
    ]);
    let n = json!({"seriesLabels": {"__name__": "n_total"}, "exemplars": [
        {"labels": {"trace_id": "d"}, "value": "2", "timestamp": seconds(now)}]});
    assert_eq!(rig.exemplars("m_bucket"), m);
    let quantile = "histogram_quantile(0.9, sum by (le) (rate(m_bucket[5m]))) / on() n_total";
    assert_eq!(rig.exemplars(quantile), json!([m[0], m[1], n]));
    assert_eq!(rig.exemplars("m_bucket{le=\"2\"} or m_bucket{le=~\"2\"}"), json!([m[1]]));
    assert_eq!(rig.exemplars("1 + 1"), json!([]));
    let form = format!("query=m_bucket&start={}&end={}", (now - 1500) / 1000, (now - 1000) / 1000);
    let (status, _, body) = rig.post("/db/default/api/v1/query_exemplars", &[], form.into_bytes());
    let found: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["data"][0]["exemplars"], json!([m[0]["exemplars"][0]]), "{found}");
}

#[test]
fn exemplars_of_bad_series_and_long_labels_are_left_out_and_malformed_ones_refuse_the_request() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let mut long = series(&[("__name__", "m")], &[(1.0, now)]);
    long.exemplars = vec![exemplar(&"x".repeat(121), 1.0, now), exemplar("ok", 1.0, i64::MAX)];
    let mut nameless = series(&[("job", "m")], &[]);
    nameless.exemplars = vec![exemplar("a", 1.0, now)];
    assert_eq!(rig.post("/api/v1/write", &[], v1(vec![long, nameless])).0, 204);
    assert_eq!(rig.exemplars("{__name__=~\".+\"} or {job=\"m\"}"), json!([]));
    // A series with a sample, and an exemplar whose value is a varint.
    let body = [
        0x0a, 0x1d, 0x0a, 0x0d, 0x0a, 8, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x12, 1, b'b', 0x12,
        0x0a, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, // ends within the series
    ];
    assert_eq!(rig.post("/api/v1/write", &[], snappy(&body)).0, 400);
    let body = [0x0a, 4, 0x1a, 2, 0x10, 1];
    assert_eq!(rig.post("/api/v1/write", &[], snappy(&body)).0, 400);
}

#[test]
fn query_exemplars_refuses_what_is_no_query_and_bounds_its_answer() {
    let mut limits = Limits::default();
    limits.query.memory_bytes_max = 16 << 10;
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    for (asked, status) in [
        ("", 400),
        ("?query=m(", 400),
        ("?query=m&start=2&end=1", 400),
        ("?query=m&start=x", 400),
        ("?query=m&start=1700000000000&end=1700000060000", 200),
        ("?query=m&start=-1e300&end=1e300", 200),
        ("?query=m&end=nan", 400),
    ] {
        let path = format!("/api/v1/query_exemplars{asked}");
        assert_eq!(rig.send(Method::GET, &path, "").0, status, "{asked}");
    }
    let now = rig.now_ns() / 1_000_000;
    let mut many = series(&[("__name__", "m")], &[]);
    many.exemplars = (0..100).map(|number| exemplar("x", f64::from(number), now)).collect();
    assert_eq!(rig.post("/api/v1/write", &[], v1(vec![many])).0, 204);
    let (status, _, body) = rig.send(Method::GET, "/api/v1/query_exemplars?query=m", "");
    assert_eq!(status, 422, "{body}");
}
