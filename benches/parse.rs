//! Throughput of the line protocol scan, beside the floor: UTF-8 validation and newline count of the same bytes.
//!
//! Run with `cargo bench --bench parse`.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use icecore::ingest::line::{LineLimits, Precision, decode};

mod common;

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

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // 5,000 lines: the batch size that clients are told to send.
    bench_lines(&mut criterion, "tsbs", &common::tsbs_lines(100, 5_000));
    bench_lines(&mut criterion, "events", &common::event_lines(5_000));
    criterion.final_summary();
}
