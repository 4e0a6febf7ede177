//! The engine as a whole, on a simulated disk and a clock that is moved by hand.

mod active;
mod ages;
mod damage;
mod deletes;
mod distinct;
mod expiry;
mod faults;
mod groups;
mod lanes;
mod layers;
mod load;
mod logs;
mod machine;
mod moments;
mod pieces;
mod programs;
mod reads;
mod rebuild;
mod rows;
mod rules;
#[cfg(shuttle)]
mod schedules;
mod sets;
mod shortage;
mod snapshots;
mod together;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::fs::SimFs;
use crate::model::batch::{CANONICAL, Field, WriteBatch};
use crate::model::{
    FieldId, HOUR_NS, MINUTE_NS, Partial, SeriesId, SeriesKey, SeriesSet, StatSet, Tier, ValueRef,
};
use crate::scan::{Bounds, Resolution, SampleRequest, Unmetered, Window, WindowRequest};

/// 2024-01-01T00:00:00Z.
const START_NS: i64 = 1_704_067_200 * SECOND_NS;

/// The rows that should be there: (host, time) to value.
type Model = BTreeMap<(String, i64), f64>;

struct Rig {
    fs: Arc<SimFs>,
    clock: Arc<ManualClock>,
    engine: Engine,
    retention: Retention,
}

impl Rig {
    fn new(retention: Retention) -> Self {
        let fs = Arc::new(SimFs::default());
        let clock = Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS));
        let engine = open(&fs, &clock, retention);
        Self { fs, clock, engine, retention }
    }

    fn reopen_after_crash(&mut self, seed: u64) {
        self.fs.crash(seed);
        let report = crate::check::check(&(Arc::clone(&self.fs) as _), Path::new("/db")).unwrap();
        assert!(report.is_clean(), "{report:?}");
        self.engine = open(&self.fs, &self.clock, self.retention);
    }

    fn write(&self, rows: &[(&str, i64, f64)]) -> WriteReport {
        self.try_write(rows).unwrap()
    }

    fn try_write(&self, rows: &[(&str, i64, f64)]) -> Result<WriteReport> {
        let mut keys = Vec::new();
        for (host, _, _) in rows {
            let mut key = Vec::new();
            SeriesKey::new("cpu", [("host", *host)]).unwrap().encode(&mut key);
            keys.push(key);
        }
        let mut batch = WriteBatch::new(&CANONICAL);
        for ((line, (_, ts_ns, value)), key) in (1..).zip(rows).zip(&keys) {
            batch.fields.push(Field { name: b"usage", value: ValueRef::Float(*value) });
            batch.push_row(key, *ts_ns, line);
        }
        self.engine.write(&batch)
    }

    fn read(&self) -> Model {
        let view = self.engine.view();
        let Some(schema) = view.schema("cpu") else { return Model::new() };
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 1000).unwrap();
        let ids: Vec<SeriesId> = series.iter().map(|info| info.id).collect();
        let request = SampleRequest {
            measurement: schema.measurement,
            field: schema.fields[0].id,
            series: &ids,
            range: TimeRange::ALL,
        };
        let mut model = Model::new();
        let mut sink = |slice: crate::scan::SampleSlice<'_>| {
            let host = series[slice.series_idx].key.tag("host").unwrap().to_owned();
            model.extend(
                slice.ts_ns.iter().zip(slice.values).map(|(ts, value)| ((host.clone(), *ts), *value)),
            );
            Ok(())
        };
        view.samples(&request, &Unmetered, &mut sink).unwrap();
        model
    }

    fn windows(&self, windows: &[Window], bounds: Bounds) -> (Vec<Partial>, crate::scan::Coverage) {
        let view = self.engine.view();
        let schema = view.schema("cpu").unwrap();
        let request = WindowRequest {
            measurement: schema.measurement,
            field: FieldId(0),
            series: &[SeriesId(0)],
            windows,
            bounds,
            wants: StatSet::NUMBERS.with(StatSet::HIST),
            resolution: Resolution::Auto,
        };
        let mut found = Vec::new();
        let coverage = view
            .windows(&request, &Unmetered, &mut |slice| {
                found = slice.partials.to_vec();
                Ok(())
            })
            .unwrap();
        (found, coverage)
    }
}

fn open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>, retention: Retention) -> Engine {
    let options = Options { free_bytes_min: 0, ..Options::default() };
    let env = Env {
        fs: Arc::clone(fs) as Arc<dyn crate::fs::Fs>,
        clock: Arc::clone(clock) as Arc<dyn crate::clock::Clock>,
    };
    Engine::open(env, Path::new("/db"), options, retention).unwrap()
}

fn hours(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(3600 * count))
}

fn windows_of(start_ns: i64, width_ns: i64, count: i64) -> Vec<Window> {
    let window = |k| Window { start_ns: start_ns + k * width_ns, end_ns: start_ns + (k + 1) * width_ns };
    (0..count).map(window).collect()
}

/// Two hours of one host, a sample every ten seconds, with a counter reset now and then.
fn two_hours() -> Vec<(&'static str, i64, f64)> {
    two_hours_every(10)
}

fn two_hours_every(seconds: i64) -> Vec<(&'static str, i64, f64)> {
    let row = |k| ("a", START_NS + k * seconds * SECOND_NS, ((k * 7) % 100) as f64 + 0.25);
    (0..7200 / seconds).map(row).collect()
}

#[test]
fn write_is_visible_at_once_and_after_crash() {
    let mut rig = Rig::new(Retention::FOREVER);
    assert_eq!(rig.write(&[("a", START_NS, 1.0), ("b", START_NS, 2.0)]).accepted, 2);
    rig.write(&[("a", START_NS, 3.0)]);
    let expected = Model::from([(("a".into(), START_NS), 3.0), (("b".into(), START_NS), 2.0)]);
    assert_eq!(rig.read(), expected);
    rig.reopen_after_crash(1);
    assert_eq!(rig.read(), expected);
    rig.engine.flush().unwrap();
    assert_eq!(rig.read(), expected);
    rig.reopen_after_crash(2);
    assert_eq!(rig.read(), expected);
    assert_eq!(rig.engine.stats().replayed_records, 0, "the flush covers the log");
}

#[test]
fn overwrite_across_flush_and_compaction_keeps_the_last() {
    let rig = Rig::new(Retention::FOREVER);
    for round in 0..6 {
        rig.write(&[
            ("a", START_NS + round, f64::from(round as i32)),
            ("a", START_NS, f64::from(round as i32)),
        ]);
        rig.engine.flush().unwrap();
    }
    rig.engine.seal().unwrap();
    assert_eq!(rig.engine.stats().segments[0], 1);
    let model = rig.read();
    assert_eq!(model.len(), 6);
    assert_eq!(model[&("a".to_owned(), START_NS)], 5.0);
}

#[test]
fn windows_from_cells_equal_windows_from_rows() {
    // Every ten seconds the rows themselves are the 1m layer, every two seconds cells are.
    let cases = [2, 10].map(|seconds| [(Bounds::LeftOpen, seconds), (Bounds::RightOpen, seconds)]);
    for (bounds, seconds) in cases.into_iter().flatten() {
        let rig = Rig::new(Retention::FOREVER);
        rig.write(&two_hours_every(seconds));
        let aligned = windows_of(START_NS, 20 * MINUTE_NS, 6);
        let shifted = windows_of(START_NS + 7 * SECOND_NS, 17 * MINUTE_NS, 7);
        let from_rows = (rig.windows(&aligned, bounds), rig.windows(&shifted, bounds));
        assert_eq!(from_rows.0.1.cells, [0; 3]);
        rig.engine.seal().unwrap();
        let from_cells = (rig.windows(&aligned, bounds), rig.windows(&shifted, bounds));
        assert!(from_cells.0.1.cells[1] > 0 && from_cells.0.1.rows < 10, "{:?}", from_cells.0.1);
        for (rows, cells) in
            from_rows.0.0.iter().zip(&from_cells.0.0).chain(from_rows.1.0.iter().zip(&from_cells.1.0))
        {
            same(rows, cells);
        }
    }
}

fn same(left: &Partial, right: &Partial) {
    let (a, b) = (left.numbers().unwrap(), right.numbers().unwrap());
    assert_eq!((a.count, a.min, a.max, a.resets, a.changes), (b.count, b.min, b.max, b.resets, b.changes));
    assert_eq!((a.first, a.first_ns, a.last, a.last_ns), (b.first, b.first_ns, b.last, b.last_ns));
    assert!(
        (a.sum - b.sum).abs() <= 1e-12 * a.sum.abs()
            && (a.reset_sum - b.reset_sum).abs() <= 1e-12 * a.sum.abs()
    );
    assert_eq!(left.histogram(), right.histogram());
}

#[test]
fn retention_drops_raw_and_answers_from_cells() {
    let mut rig = Rig::new(Retention { raw: hours(2), m1: None, m5: None, h1: None });
    rig.write(&two_hours()[..360]);
    rig.clock.set(START_NS + 2 * HOUR_NS);
    let windows = windows_of(START_NS, 10 * MINUTE_NS, 6);
    let (before, _) = rig.windows(&windows, Bounds::RightOpen);
    rig.clock.set(START_NS + 4 * HOUR_NS);
    rig.engine.flush().unwrap();
    rig.engine.maintain().unwrap();
    assert_eq!(rig.engine.stats().segments[1], 0, "an hour flushed just now may get more rows");
    rig.clock.advance(MINUTE_NS);
    rig.engine.maintain().unwrap();
    assert_eq!(rig.engine.stats().segments[0], 0, "raw is past its age and rolled");
    let (after, coverage) = rig.windows(&windows, Bounds::RightOpen);
    before.iter().zip(&after).for_each(|(left, right)| same(left, right));
    assert_eq!((coverage.rows, coverage.rounded), (0, None));
    let odd = [Window { start_ns: START_NS + 30 * SECOND_NS, end_ns: START_NS + 10 * MINUTE_NS }];
    assert_eq!(rig.windows(&odd, Bounds::RightOpen).1.rounded, Some(Tier::M1));
    let late = rig.write(&[("a", START_NS + 5, 1.0)]);
    assert_eq!((late.accepted, late.rejected.len()), (0, 1), "older than raw is kept");
    rig.reopen_after_crash(3);
    let (again, _) = rig.windows(&windows, Bounds::RightOpen);
    before.iter().zip(&again).for_each(|(left, right)| same(left, right));
}

#[test]
fn retention_changed_applies_to_what_is_there_and_brings_nothing_back() {
    let long = Retention { raw: hours(48), ..Retention::FOREVER };
    let mut rig = Rig::new(long);
    rig.write(&two_hours()[..360]);
    rig.engine.flush().unwrap();
    rig.clock.advance(10 * HOUR_NS);
    rig.engine.maintain().unwrap();
    let windows = windows_of(START_NS, 10 * MINUTE_NS, 6);
    let (before, coverage) = rig.windows(&windows, Bounds::RightOpen);
    assert_eq!((rig.read().len(), coverage.rounded), (360, None));
    rig.engine.set_retention(Retention { raw: hours(3), ..Retention::FOREVER }).unwrap();
    rig.engine.maintain().unwrap();
    assert_eq!(rig.read().len(), 0, "at once, though the last pass was just now");
    let (after, _) = rig.windows(&windows, Bounds::RightOpen);
    before.iter().zip(&after).for_each(|(left, right)| same(left, right));
    rig.engine.set_retention(long).unwrap();
    rig.engine.maintain().unwrap();
    assert_eq!(rig.read().len(), 0);
    assert_eq!(rig.write(&[("a", START_NS + 5, 1.0)]).accepted, 0, "it could not be rolled with the rest");
    rig.reopen_after_crash(7);
    assert_eq!((rig.engine.retention(), rig.read().len()), (long, 0));
}

#[test]
fn late_rows_make_their_windows_read_raw_until_rolled_again() {
    let rig = Rig::new(Retention::FOREVER);
    rig.write(&two_hours());
    rig.engine.seal().unwrap();
    let windows = windows_of(START_NS, HOUR_NS, 2);
    rig.write(&[("a", START_NS + 5 * SECOND_NS, 1000.0)]);
    for _ in 0..3 {
        let (partials, _) = rig.windows(&windows, Bounds::RightOpen);
        let numbers = partials[0].numbers().unwrap();
        assert_eq!((numbers.count, numbers.max), (361, 1000.0));
        rig.engine.seal().unwrap();
    }
    assert_eq!(rig.windows(&windows, Bounds::RightOpen).1.rows, 0, "rolled again");
}

/// More segments than are merged or rolled at a time, and the rows in them.
fn forty_segments() -> (Rig, Model) {
    let rig = Rig::new(Retention::FOREVER);
    for number in 0..40 {
        rig.write(&[("a", START_NS + number * SECOND_NS, number as f64), ("a", START_NS, -1.0)]);
        rig.engine.flush().unwrap();
    }
    let rows = rig.read();
    (rig, rows)
}

#[test]
fn roll_of_many_segments_merges_them_first() {
    // Flushes while a job runs long: compaction comes before the roll, and these came after it.
    let (rig, expected) = forty_segments();
    rig.clock.set(START_NS + 3 * HOUR_NS);
    assert_eq!(rig.engine.stats().segments[0], 40);
    rig.engine.roll(&mut rig.engine.jobs().unwrap(), false, &[]).unwrap();
    let stats = rig.engine.stats();
    assert!(stats.segments[0] <= 16 && 0 < stats.segment_rows[3], "{stats:?}");
    assert_eq!(rig.read(), expected);
}

#[test]
fn seal_merges_more_segments_than_one_pass_takes() {
    let (rig, expected) = forty_segments();
    rig.engine.seal().unwrap();
    assert_eq!((rig.engine.stats().segments[0], rig.read()), (1, expected));
}

/// Refuses buffers beyond its bytes.
struct BuffersMax(u64);

impl crate::scan::Meter for BuffersMax {
    fn charge(&self, _rows: u64) -> Result<()> {
        Ok(())
    }

    fn buffers(&self, bytes: u64) -> Result<()> {
        match bytes <= self.0 {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::LimitExceeded, format!("{bytes} bytes"))),
        }
    }
}

#[test]
fn scans_tell_their_buffers_before_they_grow() {
    let rig = Rig::new(Retention::FOREVER);
    let rows = two_hours();
    rig.write(&rows);
    rig.engine.flush().unwrap();
    let view = rig.engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let (series, range) = (&[SeriesId(0)], TimeRange::ALL);
    let samples = SampleRequest { measurement, field: FieldId(0), series, range };
    let whole = crate::scan::RowRequest { measurement, fields: &[FieldId(0)], series, range, bounds: &[] };
    let read = |meter: &BuffersMax| {
        let samples = view.samples(&samples, meter, &mut |_| Ok(()));
        let rows = view.rows(&whole, meter, &mut |_| Ok(crate::scan::Flow::Continue));
        [samples, rows].map(|outcome| outcome.map_err(|error| error.kind()))
    };
    // Time, series, value and whether it is there: as read, merged, and in the block.
    let enough = rows.len() as u64 * 3 * 21;
    assert!(read(&BuffersMax(enough)).iter().all(|found| found.is_ok()));
    assert!(read(&BuffersMax(enough / 2)).iter().all(|found| *found == Err(ErrorKind::LimitExceeded)));
}
