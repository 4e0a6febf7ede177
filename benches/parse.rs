//! Throughput of the line protocol scan, beside the floor: UTF-8 validation and newline count of the same bytes; and of
//! remote write, beside `prost`, which makes a tree.
//!
//! Run with `cargo bench --bench parse`.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore::ingest::remote::{write1, write2};
use messages::{Request2, Sample, TimeSeries2, WriteRequest, series};
use prost::Message as _;

mod common;
#[path = "../src/ingest/remote/messages.rs"]
mod messages;

/// Samples of a request, as many as Prometheus sends at once, each of a series of its own with ten labels.
const SAMPLES: usize = 2_000;

fn bench_lines(criterion: &mut Criterion, name: &str, lines: &str) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(lines.len() as u64));
    let limits = LineLimits::default();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let decoded = decode(black_box(lines.as_bytes()), Precision::Ns, 0, &limits);
            assert_eq!(decoded.rejected_count, 0);
            decoded.batch.rows.len()
        });
    });
    group.bench_function("floor", |bencher| {
        bencher.iter(|| {
            let bytes = black_box(lines.as_bytes());
            (simdutf8::basic::from_utf8(bytes).is_ok(), memchr::memchr_iter(b'\n', bytes).count())
        });
    });
    group.finish();
}

fn remote_labels(index: usize) -> Vec<(String, String)> {
    let fixed = ["cluster", "datacenter", "environment", "job", "namespace", "service", "team", "version"];
    let named = [("__name__".to_owned(), "http_requests_total".to_owned())];
    let pod = [("pod".to_owned(), format!("frontend-7d9c5b6f4-{index:05}"))];
    let fixed = fixed.map(|name| (name.to_owned(), format!("{name}-value-{}", index % 7)));
    named.into_iter().chain(fixed).chain(pod).collect()
}

fn bench_remote(criterion: &mut Criterion) {
    let timeseries = (0..SAMPLES).map(|index| {
        let labels = remote_labels(index);
        let labels: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        series(&labels, &[(index as f64 * 1.5, 1_700_000_000_000)])
    });
    let write1 = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() }.encode_to_vec();
    let write2 = remote_2().encode_to_vec();
    let limits = LineLimits::default();
    let mut group = criterion.benchmark_group("remote");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("write1", |bencher| {
        bencher.iter(|| {
            write1::decode(black_box(&write1), &limits).map(|(decoded, _)| decoded.batch.rows.len())
        });
    });
    group.bench_function("write2", |bencher| {
        bencher.iter(|| {
            let mut rows = 0;
            let store = &mut |decoded: icecore::ingest::Decoded<'_>| {
                rows += decoded.batch.rows.len();
                Ok(())
            };
            drop(write2::decode(black_box(&write2), &limits, store));
            rows
        });
    });
    group.bench_function("write1_prost", |bencher| {
        bencher.iter(|| WriteRequest::decode(black_box(&*write1)).map(|request| request.timeseries.len()));
    });
    group.finish();
}

/// The same samples with a table of symbols.
fn remote_2() -> Request2 {
    let mut symbols = vec![String::new()];
    let mut reference = |text: String| {
        let known = symbols.iter().position(|symbol| *symbol == text);
        let place = known.unwrap_or_else(|| {
            symbols.push(text);
            symbols.len() - 1
        });
        u32::try_from(place).unwrap_or(0)
    };
    let timeseries = (0..SAMPLES).map(|index| {
        let labels = remote_labels(index).into_iter();
        let labels_refs = labels.flat_map(|(name, value)| [reference(name), reference(value)]).collect();
        let samples = vec![Sample { value: index as f64 * 1.5, timestamp: 1_700_000_000_000 }];
        TimeSeries2 { labels_refs, samples, ..TimeSeries2::default() }
    });
    let timeseries = timeseries.collect();
    Request2 { symbols, timeseries }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // 5,000 lines: the batch size that clients are told to send.
    bench_lines(&mut criterion, "tsbs", &common::tsbs_lines(100, 5_000));
    bench_lines(&mut criterion, "events", &common::event_lines(5_000));
    bench_remote(&mut criterion);
    criterion.final_summary();
}
