//! How much memory the index of a million series takes, and what it takes to let three quarters of them leave:
//! `cargo run --release --example index_memory [COUNT]`. Linux only: asks the system for the memory of this process. Ends with
//! status 1 when the index takes more than 200 MB, or 200 bytes a series where more are asked for.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a measurement prints, and stops where it fails"
)]

use std::path::Path;
use std::process::{Command, ExitCode};

use icecore_storage::fs::OsFs;
use icecore_storage::model::batch::{CANONICAL, Field, WriteBatch};
use icecore_storage::model::{SeriesKey, TimeRange, ValueRef};
use icecore_storage::series::{Catalog, CatalogLimits, CatalogMark};

const BATCH: usize = 10_000;
/// Of the index of a million series; fewer may take as much, more in proportion.
const INDEX_BYTES_MAX: usize = 200_000_000;
const SERIES_BYTES_MAX: usize = 200;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let count = args.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let limits = CatalogLimits {
        series_max: count,
        measurement_series_max: count,
        new_series_per_minute_max: count,
        tag_values_max: count,
        fields_max: 10,
        catalog_bytes_max: usize::MAX,
    };
    let catalog = Catalog::new(limits);
    let before = resident_bytes();
    // Memory that was used and freed would hide what the load takes: it has a process of its own.
    if let Some(dir) = args.next() {
        for number in (1..).take_while(|_| catalog.series_count() < count) {
            catalog.load(&OsFs, Path::new(&dir), number).expect("what was written");
        }
        assert_eq!(catalog.series_count(), count);
        let is_bounded = say("loaded from files", before, count);
        leave(&catalog, before, count);
        return ended(is_bounded);
    }
    for start in (0..count).step_by(BATCH) {
        write(&catalog, start..(start + BATCH).min(count));
        drop(catalog.take_pending());
    }
    let is_bounded = say("written", before, count);
    let dir = std::env::temp_dir().join(format!("icecore-index-memory-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    save(&catalog, &dir);
    let this = std::env::current_exe().expect("this program");
    let status = Command::new(this).arg(count.to_string()).arg(&dir).status();
    std::fs::remove_dir_all(&dir).expect("a healthy disk");
    ended(status.expect("it runs").success() && is_bounded)
}

/// In as many files as it takes.
fn save(catalog: &Catalog, dir: &Path) {
    let (mut mark, end) = (CatalogMark::default(), catalog.mark());
    for number in 1.. {
        if mark == end {
            return;
        }
        mark = catalog.save(&OsFs, dir, number, mark).expect("a healthy disk");
    }
}

fn ended(is_bounded: bool) -> ExitCode {
    if is_bounded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Pods of services on hosts: six tags, one of them different for each series.
fn write(catalog: &Catalog, numbers: std::ops::Range<usize>) {
    let keys: Vec<Vec<u8>> = numbers
        .map(|number| {
            let (service, host) = (format!("svc-{:03}", number % 200), format!("host-{:04}", number % 997));
            let pod = format!("{service}-5f7c9b-{number:06}");
            let tags = [
                ("env", "prod"),
                ("host", &host),
                ("method", ["GET", "POST"][number % 2]),
                ("pod", &pod),
                ("service", &service),
                ("status", ["200", "404", "500"][number % 3]),
            ];
            let mut key = Vec::new();
            SeriesKey::new("http_requests", tags).expect("a good key").encode(&mut key);
            key
        })
        .collect();
    let mut batch = WriteBatch::new(&CANONICAL);
    for (line, key) in (1..).zip(&keys) {
        batch.fields.push(Field { name: b"latency_ms", value: ValueRef::Float(1.0) });
        batch.push_row(key, 1, line);
    }
    let mut rejected = Vec::new();
    catalog.resolve(&batch, TimeRange::ALL, &mut rejected);
    assert!(rejected.is_empty(), "{rejected:?}");
}

/// Three of every four series leave, as they come: short runs of ids.
fn leave(catalog: &Catalog, before: usize, count: usize) {
    let end = u32::try_from(count).unwrap_or(u32::MAX);
    let leaving = (0..end).filter(|id| id % 4 != 0).collect();
    let steps: [(&str, &dyn Fn()); 3] = [
        ("noted, while writers wait", &|| catalog.leave(&leaving)),
        ("swept", &|| catalog.sweep()),
        ("the others copied", &|| catalog.shrink()),
    ];
    for (what, step) in steps {
        let start_ns = processor_ns();
        step();
        let step_ms = (processor_ns() - start_ns) / 1_000_000;
        say(&format!("{} series left: {what} in {step_ms} ms", leaving.len()), before, count);
    }
}

/// Time of this process on a processor.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    text.split_whitespace().next().and_then(|time| time.parse().ok()).expect("a number")
}

/// Prints what the index takes, and tells whether that is within the bound.
fn say(what: &str, before: usize, count: usize) -> bool {
    let bytes = resident_bytes().saturating_sub(before);
    println!("{what}: {} MiB, {} bytes a series", bytes >> 20, bytes / count);
    let bytes_max = INDEX_BYTES_MAX.max(SERIES_BYTES_MAX * count);
    if bytes_max < bytes {
        println!("{what}: more than {} MiB", bytes_max >> 20);
    }
    bytes <= bytes_max
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
