//! Remote read through the router: the samples that were written come back bit for bit, by the matchers of PromQL.

use prost::Message;

use super::remote::{snappy, v1};
use super::*;
use crate::ingest::remote::messages::{TimeSeries, series};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) queries: Vec<ReadQuery>,
    #[prost(int32, repeated, tag = "2")]
    pub(super) accepted_response_types: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadQuery {
    #[prost(int64, tag = "1")]
    pub(super) start_ms: i64,
    #[prost(int64, tag = "2")]
    pub(super) end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    pub(super) matchers: Vec<LabelMatcher>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelMatcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
}

impl Rig {
    fn read(&self, queries: Vec<ReadQuery>) -> (u16, Vec<u8>) {
        let request = ReadRequest { queries, accepted_response_types: vec![0, 1] };
        let (status, headers, body) = self.post("/api/v1/read", &[], snappy(&request.encode_to_vec()));
        if status == 200 {
            assert_eq!(headers.get("content-type").unwrap(), "application/x-protobuf");
            assert_eq!(headers.get("content-encoding").unwrap(), "snappy");
        }
        (status, body)
    }

    pub(super) fn results(&self, queries: Vec<ReadQuery>) -> Vec<QueryResult> {
        let (status, body) = self.read(queries);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let body = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        ReadResponse::decode(&*body).unwrap().results
    }
}

pub(super) fn matcher(kind: i32, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { kind, name: name.to_owned(), value: value.to_owned() }
}

fn names(results: &[TimeSeries]) -> Vec<String> {
    let shown = |one: &TimeSeries| {
        one.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect::<Vec<_>>().join(" ")
    };
    results.iter().map(shown).collect()
}

#[test]
fn read_samples_are_those_written_with_their_bits() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let samples = [(1.5, now - 3), (f64::NAN, now - 2), (stale, now - 1), (f64::INFINITY, now)];
    let written = series(&[("__name__", "m"), ("job", "a \"b\"\n\\")], &samples);
    assert_eq!(rig.post("/api/v1/write", &[], v1(vec![written.clone()])).0, 204);
    let bits = |one: &TimeSeries| -> Vec<_> {
        one.samples.iter().map(|sample| (sample.value.to_bits(), sample.timestamp)).collect()
    };
    let query = |start_ms, end_ms| ReadQuery {
        start_ms,
        end_ms,
        matchers: vec![matcher(0, "__name__", "m"), matcher(0, "job", "a \"b\"\n\\")],
    };
    for round in ["in memory", "in segments"] {
        let results =
            rig.results(vec![query(now - 3, now), query(now - 2, now - 1), query(now + 1, now + 9)]);
        let [all, some, none] = results.as_slice() else { panic!("{round}: {results:?}") };
        assert_eq!(all.timeseries.len(), 1, "{round}");
        assert_eq!(all.timeseries[0].labels, written.labels, "{round}");
        assert_eq!(bits(&all.timeseries[0]), bits(&written), "{round}");
        assert_eq!(bits(&some.timeseries[0]), bits(&written)[1..3], "{round}: both ends count");
        assert!(none.timeseries.is_empty(), "{round}");
        let end = &rig.results(vec![query(now - 1, now - 1)])[0].timeseries;
        assert_eq!(bits(&end[0]), bits(&written)[2..3], "{round}: nothing but the end");
        assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush", "").0, 200);
    }
}

#[test]
fn read_matchers_are_those_of_promql_and_series_come_sorted() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let one = |labels: &[(&str, &str)]| series(labels, &[(1.0, now)]);
    let timeseries = vec![
        one(&[("__name__", "n"), ("job", "b")]),
        one(&[("__name__", "m"), ("job", "b")]),
        one(&[("__name__", "m"), ("job", "a")]),
        one(&[("__name__", "m")]),
        one(&[("__name__", "x.y"), ("a.b", "1")]),
    ];
    assert_eq!(rig.post("/api/v1/write", &[], v1(timeseries)).0, 204);
    let find = |matchers: Vec<LabelMatcher>| {
        let results = rig.results(vec![ReadQuery { start_ms: now - 1, end_ms: now, matchers }]);
        names(&results[0].timeseries)
    };
    assert_eq!(
        find(vec![matcher(0, "__name__", "m")]),
        ["__name__=m", "__name__=m job=a", "__name__=m job=b"]
    );
    assert_eq!(
        find(vec![matcher(2, "__name__", "m|n"), matcher(0, "job", "b")]),
        ["__name__=m job=b", "__name__=n job=b"]
    );
    assert_eq!(
        find(vec![matcher(0, "__name__", "m"), matcher(1, "job", "b"), matcher(1, "job", "")]),
        ["__name__=m job=a"]
    );
    assert_eq!(find(vec![matcher(0, "__name__", "m"), matcher(3, "job", "a|b")]), ["__name__=m"]);
    assert_eq!(find(vec![matcher(2, "a.b", "[0-9]")]), ["__name__=x.y a.b=1"]);
}

#[test]
fn read_times_are_milliseconds_of_which_each_has_one_sample() {
    let rig = Rig::new(Options::default());
    let now_ns = rig.now_ns();
    assert_eq!(
        rig.write(&format!("m value=1 {}\nm value=2 {}\nm value=3 {now_ns}", now_ns - 3, now_ns - 2)).0,
        204
    );
    let now = now_ns / 1_000_000;
    let matchers = vec![matcher(0, "__name__", "m")];
    let results = rig.results(vec![ReadQuery { start_ms: now - 1, end_ms: now, matchers }]);
    let samples: Vec<_> =
        results[0].timeseries[0].samples.iter().map(|sample| (sample.value, sample.timestamp)).collect();
    assert_eq!(samples, [(2.0, now - 1), (3.0, now)]);
}

#[test]
fn read_what_is_no_request_or_beyond_a_limit_is_refused() {
    let rig = Rig::new(Options::default());
    let query = |matchers: Vec<LabelMatcher>| ReadQuery { start_ms: 0, end_ms: 9, matchers };
    assert_eq!(rig.read(vec![query(vec![])]).0, 400, "all series at once");
    assert_eq!(rig.read(vec![query(vec![matcher(2, "a", "(")])]).0, 400);
    assert_eq!(rig.read(vec![query(vec![matcher(9, "a", "b")])]).0, 400);
    assert_eq!(rig.read(vec![query(vec![matcher(0, "__stat__", "hist"), matcher(0, "a", "b")])]).0, 400);
    assert_eq!(rig.read(vec![query(vec![matcher(0, "a", "b")]); 65]).0, 400);
    assert_eq!(rig.post("/api/v1/read", &[], b"junk".to_vec()).0, 400);
    assert_eq!(rig.read(vec![]).0, 200);
    let limits =
        Limits { query: icecore_query::Limits { samples_max: 2, ..Default::default() }, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let now = rig.now_ns() / 1_000_000;
    let samples: Vec<_> = (0..100).map(|step| (1.0, now - step)).collect();
    assert_eq!(rig.post("/api/v1/write", &[], v1(vec![series(&[("__name__", "m")], &samples)])).0, 204);
    let all = ReadQuery { start_ms: 0, end_ms: now, matchers: vec![matcher(0, "__name__", "m")] };
    assert_eq!(rig.read(vec![all]).0, 422);
}
