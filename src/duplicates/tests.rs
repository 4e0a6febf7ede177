//! Through a database, on a disk that loses what was not synced.

use std::path::Path;
use std::sync::Arc;

use icecore_storage::clock::ManualClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::SimFs;
use icecore_storage::model::{MINUTE_NS, SECOND_NS};

use super::*;
use crate::{Config, Database, Databases, Point};

const NOW_NS: i64 = 1_704_067_200 * SECOND_NS;

struct Rig {
    fs: SimFs,
    clock: Arc<ManualClock>,
    databases: Databases,
}

impl Rig {
    fn new() -> Self {
        Self::on(SimFs::default())
    }

    fn on(fs: SimFs) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_NS));
        let env = Env { fs: Arc::new(fs.clone()), clock: clock.clone() };
        let config = Config { keep_duplicates: vec!["e".to_owned()], ..Config::default() };
        let databases = Databases::open_in(env, Path::new("/data"), config).unwrap();
        Self { fs, clock, databases }
    }

    fn database(&self) -> Arc<Database> {
        self.databases.get("default").unwrap()
    }

    fn write(&self, lines: &str, precision: Precision) {
        let report = self.database().write_lines(lines.as_bytes(), precision).unwrap();
        assert_eq!(report.rejected, [], "{lines}");
    }

    /// Times of the rows, ascending by series and time.
    fn times(&self, measurement: &str) -> Vec<i64> {
        let view = self.database().view();
        let Some(schema) = view.schema(measurement) else { return Vec::new() };
        let series: Vec<_> = view
            .series(schema.measurement, &[], TimeRange::ALL, 99)
            .unwrap()
            .iter()
            .map(|info| info.id)
            .collect();
        let fields: Vec<_> = schema.fields.iter().map(|field| field.id).collect();
        let request = RowRequest {
            measurement: schema.measurement,
            fields: &fields,
            series: &series,
            range: TimeRange::ALL,
            bounds: &[],
        };
        let mut times = Vec::new();
        let mut sink = |block: &RowBlock| {
            times.extend_from_slice(&block.ts_ns);
            Ok(Flow::Continue)
        };
        view.rows(&request, &Unmetered, &mut sink).unwrap();
        times
    }

    fn count(&self) -> usize {
        self.times("e").len()
    }

    /// SIGKILL and a power cut: nothing is closed, and what was not synced is gone.
    fn crash(self) -> Self {
        // What the forgotten threads still do, they do to another disk.
        let fs = self.fs.fork();
        fs.crash(7);
        std::mem::forget(self.databases);
        Self::on(fs)
    }
}

const PRECISIONS: [(Precision, i64); 5] = [
    (Precision::Ns, NOW_NS - 1),
    (Precision::Us, (NOW_NS - SECOND_NS) / 1_000),
    (Precision::Ms, (NOW_NS - SECOND_NS) / 1_000_000),
    (Precision::S, NOW_NS / SECOND_NS - 1),
    (Precision::M, NOW_NS / MINUTE_NS - 1),
];

#[test]
fn different_events_at_one_time_are_kept_in_one_batch_and_in_many() {
    for (precision, time) in PRECISIONS {
        let rig = Rig::new();
        rig.write(&format!("e,a=1 x=1 {time}\ne,a=1 x=2 {time}\ne,a=1 x=1,s=\"q \\\" q\" {time}"), precision);
        rig.write(&format!("e,a=1 x=3 {time}"), precision);
        rig.write(&format!("e,a=1 x=3i {}", time + 1).replace("3i", "4"), precision);
        let times = rig.times("e");
        assert_eq!(times.len(), 5, "{precision:?}: {times:?}");
        let unit_ns = precision.unit_ns();
        let start_ns = time * unit_ns;
        if unit_ns > 1 {
            let own = times.iter().filter(|ts_ns| **ts_ns - **ts_ns % unit_ns == start_ns);
            assert_eq!(
                own.count(),
                4,
                "{precision:?}: only the digits below the precision change: {times:?}"
            );
        } else {
            assert!(times.contains(&time), "a time in nanoseconds is kept while it is free: {times:?}");
        }
    }
}

#[test]
fn event_that_is_sent_again_is_one_also_after_a_flush_a_restart_and_a_crash() {
    for (precision, time) in PRECISIONS {
        let batches = [
            format!("e,a=1 x=1,s=\"t\" {time}\ne,a=1 x=2 {time}\ne,a=2 x=1 {time}"),
            format!("e,a=1 x=3 {time}\ne,a=1 s=\"t\",x=4 {time}\nother x=1 {time}"),
        ];
        let mut rig = Rig::new();
        let all = || {
            for batch in batches.iter().chain([&batches[0]]) {
                rig.write(batch, precision);
            }
        };
        all();
        let times = rig.times("e");
        assert_eq!(times.len(), 5, "{precision:?}");
        rig.database().flush().unwrap();
        for batch in batches.iter().rev() {
            rig.write(batch, precision);
        }
        rig = rig.crash();
        rig.write(&batches[1], precision);
        rig.write(&batches[0].replace("x=1,s=\"t\"", "s=\"t\",x=1"), precision);
        rig.databases.close().unwrap();
        rig = Rig::on(rig.fs.clone());
        rig.write(&batches[0], precision);
        assert_eq!(rig.times("e"), times, "{precision:?}");
        assert_eq!(rig.times("other").len(), 1);
    }
}

#[test]
fn measurements_that_are_not_named_replace_as_before() {
    let rig = Rig::new();
    rig.write("other x=1 5000\nother x=2 5000".replace("5000", &NOW_NS.to_string()).as_str(), Precision::Ns);
    assert_eq!(rig.times("other"), [NOW_NS]);
    let plain = rig.databases.create("plain", crate::NewDatabase::default()).unwrap();
    assert!(plain.keep_duplicates().is_empty());
}

#[test]
fn same_digits_of_different_events_are_stepped_over() {
    // A microsecond has a thousand places: of three hundred events some have the same first one.
    let rig = Rig::new();
    let time = NOW_NS / 1_000 - 7;
    let line = |event: u32| format!("e x={event} {time}\n");
    rig.write(&(0..300).map(line).collect::<String>(), Precision::Us);
    assert_eq!(rig.count(), 300);
    let rig = rig.crash();
    for start in [200, 100, 0, 300] {
        rig.write(&(start..start + 100).rev().map(line).collect::<String>(), Precision::Us);
    }
    let times = rig.times("e");
    assert_eq!(times.len(), 400);
    assert!(times.iter().all(|ts_ns| ts_ns.div_euclid(1_000) == time), "{times:?}");
}

#[test]
fn event_is_refused_by_name_when_its_time_has_no_place_left() {
    let rig = Rig::new();
    let time = NOW_NS / 1_000 - 7;
    let lines: String =
        (0..1_001).map(|event| format!("e x={event} {time}\nother x={event} {time}\n")).collect();
    let report = rig.database().write_lines(lines.as_bytes(), Precision::Us).unwrap();
    assert_eq!((rig.count(), report.accepted, report.rejected_count), (1_000, 2_001, 1));
    assert_eq!(report.rejected.first().map(|row| row.line), Some(2_001));
    assert!(report.rejected.iter().all(|row| row.reason.contains("too many events")), "{report:?}");
}

#[test]
fn lines_without_a_time_are_events_of_one_moment() {
    let rig = Rig::new();
    rig.clock.advance(7);
    for precision in [Precision::S, Precision::Ns] {
        let lines: String = (0..2_000).map(|event| format!("e x={event},p=\"{precision:?}\"\n")).collect();
        rig.write(&lines, precision);
    }
    assert_eq!(rig.count(), 4_000);
}

#[test]
fn points_of_a_program_are_kept_apart() {
    let rig = Rig::new();
    let point = |value: i64| Point::new("e").tag("a", "1").field("x", value).at_ns(NOW_NS);
    rig.database().write(&[point(1), point(2), point(1)]).unwrap();
    rig.database().write(&[point(2)]).unwrap();
    assert_eq!(rig.count(), 2);
}

#[test]
fn what_is_known_is_forgotten_and_read_again() {
    let rig = Rig::new();
    let database = rig.database();
    rig.write(&format!("e x=1 {NOW_NS}\ne x=2 {NOW_NS}"), Precision::Ns);
    let duplicates = database.duplicates().unwrap();
    *duplicates.lock() = Known::default();
    rig.write(&format!("e x=2 {NOW_NS}\ne x=3 {NOW_NS}\ne x=1 {NOW_NS}"), Precision::Ns);
    assert_eq!(rig.count(), 3);
    duplicates.lock().seconds.extend((0..).map(|second| (u32::MAX, second)).take(KNOWN_MAX));
    rig.write(&format!("e x=2 {NOW_NS}\ne x=4 {NOW_NS}"), Precision::Ns);
    assert_eq!(rig.count(), 4);
    assert!(duplicates.lock().len() < 10);
}

#[test]
fn event_that_was_moved_is_found_when_what_moved_it_is_deleted() {
    let rig = Rig::new();
    let database = rig.database();
    rig.write(&format!("e x=1 {NOW_NS}\ne x=2 {NOW_NS}"), Precision::Ns);
    let moved = *rig.times("e").last().unwrap();
    assert_ne!(moved, NOW_NS);
    database.delete("e", TimeRange::new(NOW_NS, NOW_NS + 1)).unwrap();
    *database.duplicates().unwrap().lock() = Known::default();
    rig.write(&format!("e x=2 {NOW_NS}"), Precision::Ns);
    assert_eq!(rig.times("e"), [moved]);
}

#[test]
fn threads_that_write_at_one_time_lose_nothing() {
    let rig = Rig::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let rig = &rig;
            scope.spawn(move || {
                for batch in 0..20 {
                    let line = |event: u32| format!("e t={thread},b={batch},x={} {NOW_NS}\n", event % 5);
                    rig.write(&(0..10).map(line).collect::<String>(), Precision::Ns);
                }
            });
        }
    });
    assert_eq!(rig.count(), 4 * 20 * 5);
}

#[test]
fn ranges_are_few_and_short() {
    let seconds = |seconds: &[i64]| seconds.iter().map(|second| second * SECOND_NS).collect();
    let found = ranges(&seconds(&[0, 1, 59, 60, 5_000]));
    let expected = [(0, 60), (60, 61), (5_000, 5_001)];
    let expected = expected.map(|(start, end)| TimeRange::new(start * SECOND_NS, end * SECOND_NS));
    assert_eq!(found, expected);
}
