//! Remote read in frames of chunks, which are read here by hand and by `prost`.

use prost::Message;

use super::super::read::xor_decode;
use super::read::{LabelMatcher, ReadQuery, ReadRequest, matcher};
use super::remote::{snappy, v1};
use super::*;
use crate::ingest::remote::messages::{Histogram, Label, Span, TimeSeries, series};

#[derive(Clone, PartialEq, Message)]
struct Frame {
    #[prost(message, repeated, tag = "1")]
    chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int64, tag = "1")]
    min_time_ms: i64,
    #[prost(int64, tag = "2")]
    max_time_ms: i64,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(bytes, tag = "4")]
    data: Vec<u8>,
}

/// CRC-32C bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            state >> 1 ^ if state & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

fn frames(mut body: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    while !body.is_empty() {
        let len = usize::try_from(prost::encoding::decode_varint(&mut body).unwrap()).unwrap();
        let (sum, rest) = body.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(len);
        assert_eq!(u32::from_be_bytes(*sum), checksum(message));
        found.push(Frame::decode(message).unwrap());
        body = rest;
    }
    found
}

impl Rig {
    fn chunks(&self, queries: Vec<ReadQuery>, accepted: Vec<i32>) -> (u16, String, Vec<u8>) {
        let request = ReadRequest { queries, accepted_response_types: accepted };
        let (status, headers, body) = self.post("/api/v1/read", &[], snappy(&request.encode_to_vec()));
        let content_type = headers.get("content-type").map_or("", |value| value.to_str().unwrap());
        (status, content_type.to_owned(), body)
    }

    fn frames(&self, queries: Vec<ReadQuery>) -> Vec<Frame> {
        let (status, content_type, body) = self.chunks(queries, vec![1, 0]);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        assert_eq!(content_type, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
        frames(&body)
    }
}

fn ask(start_ms: i64, end_ms: i64, matchers: Vec<LabelMatcher>) -> ReadQuery {
    ReadQuery { start_ms, end_ms, matchers }
}

#[test]
fn frames_have_the_samples_written_in_chunks_of_120() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let mut samples: Vec<(f64, i64)> =
        (0..500_i64).map(|step| ((step as f64 / 7.0).sin(), now - (500 - step) * 1_003)).collect();
    samples.extend([(f64::NAN, now - 2), (stale, now - 1)]);
    let written: Vec<TimeSeries> = [("b", &samples[..]), ("a", &samples[..240]), ("c", &samples[..1])]
        .map(|(job, samples)| series(&[("__name__", "m"), ("job", job)], samples))
        .to_vec();
    assert_eq!(rig.post("/api/v1/write", &[], v1(written.clone())).0, 204);
    let all = || ask(0, now, vec![matcher(0, "__name__", "m")]);
    for round in ["in memory", "in segments"] {
        let found =
            rig.frames(vec![ask(0, now, vec![matcher(0, "__name__", "none"), matcher(0, "x", "y")]), all()]);
        assert!(found.iter().all(|frame| frame.query_index == 1), "{round}");
        let all_series: Vec<&ChunkedSeries> = found.iter().flat_map(|frame| &frame.chunked_series).collect();
        let shape: Vec<(&str, usize)> =
            all_series.iter().map(|one| (one.labels[1].value.as_str(), one.chunks.len())).collect();
        assert_eq!(shape, [("a", 2), ("b", 5), ("c", 1)], "{round}");
        for (one, place) in all_series.iter().zip([1, 0, 2]) {
            let samples = one.chunks.iter().flat_map(|chunk| {
                let samples = xor_decode(&chunk.data);
                let ends = (samples[0].0, samples[samples.len() - 1].0);
                assert_eq!((chunk.kind, (chunk.min_time_ms, chunk.max_time_ms)), (1, ends), "{round}");
                samples
            });
            let wanted: Vec<_> =
                written[place].samples.iter().map(|one| (one.timestamp, one.value.to_bits())).collect();
            assert_eq!(samples.collect::<Vec<_>>(), wanted, "{round}");
            assert_eq!(one.labels, written[place].labels, "{round}");
        }
        assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush", "").0, 200);
    }
}

#[test]
fn long_series_has_several_frames() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let noise = |step: i64| f64::from_bits(step.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    for start in (0..300_000_i64).step_by(100_000) {
        let samples: Vec<(f64, i64)> =
            (start..start + 100_000).map(|step| (noise(step), now - 300_000 + step)).collect();
        assert_eq!(rig.post("/api/v1/write", &[], v1(vec![series(&[("__name__", "m")], &samples)])).0, 204);
    }
    let found = rig.frames(vec![ask(0, now, vec![matcher(0, "__name__", "m")])]);
    assert!(found.len() >= 2, "{}", found.len());
    let chunks = || found.iter().flat_map(|frame| &frame.chunked_series).flat_map(|one| &one.chunks);
    assert_eq!(chunks().map(|chunk| xor_decode(&chunk.data).len()).sum::<usize>(), 300_000);
    assert!(chunks().is_sorted_by(|one, next| one.max_time_ms < next.min_time_ms));
    assert!(found.iter().all(|frame| frame.chunked_series[0].labels.len() == 1));
}

#[test]
fn form_is_the_first_that_is_accepted_and_possible() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns() / 1_000_000;
    let plain = series(&[("__name__", "m")], &[(1.0, now)]);
    let mut native = series(&[("__name__", "h")], &[(2.0, now - 9)]);
    native.histograms = vec![Histogram {
        count_int: Some(9),
        sum: 18.4,
        schema: 3,
        zero_threshold: 0.001,
        zero_count_int: Some(2),
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }],
        positive_deltas: vec![4, -3, 0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_deltas: vec![1],
        reset_hint: 2,
        timestamp: now,
        ..Histogram::default()
    }];
    assert_eq!(rig.post("/api/v1/write", &[], v1(vec![plain, native])).0, 204);
    let of = |name: &str| vec![ask(0, now, vec![matcher(0, "__name__", name)])];
    let (samples, chunks) = ("application/x-protobuf", "application/x-streamed-protobuf");
    for (name, accepted, status, wanted) in [
        ("m", vec![], 200, samples),
        ("m", vec![0, 1], 200, samples),
        ("m", vec![7, 1], 200, chunks),
        ("m", vec![7], 400, ""),
        ("h", vec![1, 0], 200, samples),
        ("h", vec![1], 422, ""),
        ("none", vec![1], 200, chunks),
    ] {
        let (found, content_type, body) = rig.chunks(of(name), accepted.clone());
        assert_eq!(found, status, "{name} {accepted:?}: {}", String::from_utf8_lossy(&body));
        assert!(status != 200 || content_type.starts_with(wanted), "{name} {accepted:?}: {content_type}");
    }
    let found = rig.results(of("h"));
    let [one] = found[0].timeseries.as_slice() else { panic!("{found:?}") };
    assert_eq!(one.samples.len(), 1);
    let wanted = Histogram {
        count_float: Some(9.0),
        sum: 18.4,
        schema: 3,
        zero_threshold: 0.001,
        zero_count_float: Some(2.0),
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }],
        positive_counts: vec![4.0, 1.0, 1.0],
        negative_spans: vec![Span { offset: 1, length: 1 }],
        negative_counts: vec![1.0],
        reset_hint: 2,
        timestamp: now,
        ..Histogram::default()
    };
    assert_eq!(one.histograms, [wanted]);
}

#[test]
fn two_fields_of_one_metric_are_one_series_in_both_forms() {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns();
    assert_eq!(rig.write(&format!("a_b,k=v c=1 {}\na,k=v b_c=2 {now}", now - 5_000_000)).0, 204);
    let now = now / 1_000_000;
    let query = || vec![ask(0, now, vec![matcher(0, "__name__", "a_b_c")])];
    let found = rig.results(query());
    let [one] = found[0].timeseries.as_slice() else { panic!("{found:?}") };
    let samples: Vec<_> = one.samples.iter().map(|sample| (sample.timestamp, sample.value)).collect();
    assert_eq!(samples, [(now - 5, 1.0), (now, 2.0)]);
    let found = rig.frames(query());
    assert_eq!(found.len(), 1);
    assert_eq!(xor_decode(&found[0].chunked_series[0].chunks[0].data).len(), 2);
}

#[test]
fn samples_of_all_series_are_charged_and_chunks_are_not_held() {
    let limits = Limits {
        query: icecore_query::Limits { memory_bytes_max: 8 << 20, ..Default::default() },
        ..Limits::default()
    };
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let now = rig.now_ns() / 1_000_000;
    let samples: Vec<(f64, i64)> = (0..500_i64).map(|step| (step as f64 / 7.0, now - 500 + step)).collect();
    let many: Vec<TimeSeries> =
        (0..300).map(|host| series(&[("__name__", "m"), ("host", &host.to_string())], &samples)).collect();
    assert_eq!(rig.post("/api/v1/write", &[], v1(many)).0, 204);
    // Each query gives back what it held.
    let queries = vec![ask(0, now, vec![matcher(0, "__name__", "m")]); 8];
    let (status, _, body) = rig.chunks(queries.clone(), vec![0]);
    assert_eq!(status, 422);
    assert!(String::from_utf8_lossy(&body).contains("query_memory_bytes_max"));
    assert_eq!(rig.frames(queries).len(), 8 * 300);
}

/// Asks for many frames and hands over the body, of which the first one was read.
async fn begun(rig: &Rig) -> Body {
    let now = rig.now_ns() / 1_000_000;
    let queries = vec![ask(0, now, vec![matcher(0, "__name__", "m")])];
    let request = ReadRequest { queries, accepted_response_types: vec![1] };
    let body = Body::from(snappy(&request.encode_to_vec()));
    let request = Request::builder().method(Method::POST).uri("/api/v1/read").body(body).unwrap();
    let response = TowerToHyperService::new(rig.router.clone()).call(request).await.unwrap();
    let mut body = Body::new(response.into_body());
    assert!(body.frame().await.unwrap().unwrap().data_ref().unwrap().len() > 8);
    body
}

fn with_many_series(timeout: Duration) -> Rig {
    let limits =
        Limits { query: icecore_query::Limits { timeout, ..Default::default() }, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let now = rig.now_ns() / 1_000_000;
    let many: Vec<TimeSeries> = (0..500)
        .map(|host| series(&[("__name__", "m"), ("host", &host.to_string())], &[(1.0, now)]))
        .collect();
    assert_eq!(rig.post("/api/v1/write", &[], v1(many)).0, 204);
    rig
}

#[test]
fn client_that_leaves_ends_its_query() {
    let rig = with_many_series(Duration::from_secs(30));
    let database = rig.databases.all().remove(0);
    rig.runtime.block_on(async {
        let body = begun(&rig).await;
        assert!(database.queries_memory_bytes() > 0, "held while it is sent");
        drop(body);
        while database.queries_memory_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn client_that_does_not_read_is_left_when_the_time_is_up() {
    let rig = with_many_series(Duration::from_millis(50));
    let database = rig.databases.all().remove(0);
    rig.runtime.block_on(async {
        let mut body = begun(&rig).await;
        while database.queries_memory_bytes() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut frames = 0;
        let broken = loop {
            match body.frame().await {
                Some(Ok(_)) => frames += 1,
                last => break last.is_some_and(|last| last.is_err()),
            }
        };
        assert!(broken && frames < 10, "{frames}");
    });
}
