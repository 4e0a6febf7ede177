//! Windows of groups are those of their series put together, and what does not depend on order is the same whether order
//! was asked for or not: from memtables, files of rows, cells, and a mix of them, with a part deleted.

use super::world::Random;
use super::*;
use crate::model::{Numbers, SeriesSet};
use crate::scan::{Coverage, GroupRequest};

const HOSTS: u64 = 40;
const GROUPS: usize = 5;
/// Everything a group can be asked for.
const UNORDERED: StatSet = StatSet::SUM.with(StatSet::RANGE).with(StatSet::HIST).with(StatSet::UNIQUES);

/// Rows of dense and of sparse hosts; late ones too.
fn write(engine: &Engine, random: &mut Random, (start_ns, end_ns): (i64, i64), rows: usize) {
    let mut keys = Vec::new();
    let mut written = Vec::new();
    for _ in 0..rows {
        let host = if random.below(2) == 0 { random.below(3) } else { random.below(HOSTS) };
        let mut key = Vec::new();
        SeriesKey::new("cpu", [("host", &*format!("h{host}"))]).unwrap().encode(&mut key);
        keys.push(key);
        let second = random.below((end_ns - start_ns) as u64 / SECOND_NS as u64) as i64;
        let odd = [0, 1, 30 * SECOND_NS];
        written.push((start_ns + second * SECOND_NS + random.one_of(&odd), random.below(4000) as i64 - 300));
    }
    let mut batch = WriteBatch::new(&CANONICAL);
    for ((line, (ts_ns, number)), key) in (1..).zip(written).zip(&keys) {
        batch.fields.push(Field { name: b"float", value: ValueRef::Float(number as f64 / 7.0) });
        batch.fields.push(Field { name: b"int", value: ValueRef::Int(number) });
        if number % 3 != 0 {
            batch.fields.push(Field { name: b"bool", value: ValueRef::Bool(number % 2 == 0) });
        }
        batch.push_row(key, ts_ns, line);
    }
    assert!(engine.write(&batch).unwrap().rejected.is_empty());
}

/// What both reads must agree on; sums of floats as near as rounding allows.
fn check_same(found: &Partial, expected: &Partial, with_hist: bool) {
    assert_eq!(found.count(), expected.count());
    let (Some(found_numbers), Some(numbers)) = (found.numbers(), expected.numbers()) else { return };
    let Numbers { sum, min, max, .. } = found_numbers;
    assert!((sum - numbers.sum).abs() <= 1e-12 * numbers.sum.abs().max(1.0), "{sum} for {}", numbers.sum);
    assert_eq!((min, max), (numbers.min, numbers.max));
    let (mean, wanted) = (found_numbers.mean, numbers.mean);
    assert!((mean - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{mean} for {wanted}");
    if with_hist {
        assert_eq!((found.histogram(), found.uniques()), (expected.histogram(), expected.uniques()));
    }
}

fn check(engine: &Engine, random: &mut Random) {
    let step_ns = random.one_of(&[MINUTE_NS, 7 * MINUTE_NS, HOUR_NS, 90 * SECOND_NS]);
    let width_ns = random.one_of(&[MINUTE_NS, step_ns, HOUR_NS, 3 * HOUR_NS]);
    let start_ns = START_NS + random.one_of(&[0, MINUTE_NS, 37 * SECOND_NS]);
    let grid: Vec<Window> = (0..12)
        .map(|k| Window { start_ns: start_ns + k * step_ns, end_ns: start_ns + k * step_ns + width_ns })
        .collect();
    check_grid(engine, random, &grid);
}

fn check_grid(engine: &Engine, random: &mut Random, grid: &[Window]) {
    let view = engine.view();
    let schema = view.schema("cpu").unwrap();
    let all = view.series_ids(schema.measurement, &[], TimeRange::ALL, 99).unwrap();
    let series: Vec<SeriesId> = all.into_iter().filter(|_| random.below(8) != 0).collect();
    let groups: Vec<u32> = series.iter().map(|_| random.below(GROUPS as u64) as u32).collect();
    let bounds = random.one_of(&[Bounds::LeftOpen, Bounds::RightOpen]);
    for field in &schema.fields {
        let read = |wants| WindowRequest {
            measurement: schema.measurement,
            field: field.id,
            series: &series,
            windows: grid,
            bounds,
            wants,
            resolution: Resolution::Auto,
        };
        let windows = |wants| {
            let mut found: BTreeMap<usize, Vec<Partial>> = BTreeMap::new();
            let sink = &mut |slice: crate::scan::WindowSlice<'_>| {
                assert!(found.insert(slice.series_idx, slice.partials.to_vec()).is_none());
                Ok(())
            };
            let coverage = view.windows(&read(wants), &Unmetered, sink).unwrap();
            (found, coverage)
        };
        let (ordered, _) = windows(StatSet::ALL);
        let (unordered, _) = windows(UNORDERED);
        assert_eq!(ordered.keys().collect::<Vec<_>>(), unordered.keys().collect::<Vec<_>>());
        for (found, expected) in unordered.values().flatten().zip(ordered.values().flatten()) {
            check_same(found, expected, true);
        }
        let mut expected: BTreeMap<usize, Vec<Partial>> = BTreeMap::new();
        for (series_idx, partials) in &ordered {
            let group = expected.entry(groups[*series_idx] as usize);
            let group = group.or_insert_with(|| vec![Partial::empty(field.field_type); grid.len()]);
            group.iter_mut().zip(partials).for_each(|(into, partial)| into.merge(partial));
        }
        for wants in [UNORDERED, StatSet::SUM.with(StatSet::RANGE)] {
            let request = GroupRequest { read: read(wants), groups: &groups, group_count: GROUPS };
            let mut found: BTreeMap<usize, Vec<Partial>> = BTreeMap::new();
            let sink = &mut |slice: crate::scan::WindowSlice<'_>| {
                assert!(found.insert(slice.series_idx, slice.partials.to_vec()).is_none());
                Ok(())
            };
            let coverage = view.groups(&request, &Unmetered, sink).unwrap();
            // Parts of a read that are told apart by series may read a page more than once.
            let of_windows = windows(wants).1;
            assert!(coverage.pages <= of_windows.pages, "{} and {} pages", coverage.pages, of_windows.pages);
            assert_eq!(Coverage { pages: of_windows.pages, ..coverage }, of_windows);
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (found, expected) in found.values().flatten().zip(expected.values().flatten()) {
                check_same(found, expected, wants.has(StatSet::HIST));
            }
        }
    }
}

#[test]
fn groups_and_windows_agree_in_every_state() {
    for seed in 0..crate::testing::Scale::asked().of(12_u64, 200, 2000) {
        let mut random = Random(seed);
        let rig = Rig::new(Retention::FOREVER);
        drop(rig.engine.close());
        rig.clock.advance(6 * HOUR_NS);
        let options = Options { free_bytes_min: 0, cells: every_set(), ..Options::default() };
        let env = Env { fs: Arc::clone(&rig.fs) as _, clock: Arc::clone(&rig.clock) as _ };
        let engine = Engine::open(env, Path::new("/db"), options, Retention::FOREVER).unwrap();
        let hours = |from: i64, to: i64| (START_NS + from * HOUR_NS, START_NS + to * HOUR_NS);
        write(&engine, &mut random, hours(0, 3), 6000);
        check(&engine, &mut random);
        engine.seal().unwrap();
        check(&engine, &mut random);
        write(&engine, &mut random, hours(2, 4), 900);
        check(&engine, &mut random);
        engine.flush().unwrap();
        check(&engine, &mut random);
        let schema = engine.view().schema("cpu").unwrap();
        let all = engine.view().series_ids(schema.measurement, &[], TimeRange::ALL, 99).unwrap();
        let some = all.into_iter().filter(|_| random.below(3) == 0).collect();
        let deleted = TimeRange::new(START_NS + 20 * MINUTE_NS, START_NS + 95 * MINUTE_NS);
        let set = SeriesSet { measurement: schema.measurement, series: Some(some) };
        engine.delete(&[set], deleted).unwrap();
        check(&engine, &mut random);
        engine.seal().unwrap();
        check(&engine, &mut random);
    }
}

#[test]
fn groups_over_many_files_are_those_of_their_series() {
    let mut random = Random(3);
    let rig = Rig::new(Retention::FOREVER);
    for hour in 0..30 {
        rig.clock.advance(HOUR_NS);
        let start_ns = START_NS + hour * HOUR_NS;
        write(&rig.engine, &mut random, (start_ns, start_ns + HOUR_NS - 60 * SECOND_NS), 300);
        // Each hour has files of cells of its own.
        rig.engine.flush().unwrap();
        rig.engine.run_jobs().unwrap();
    }
    rig.clock.advance(DAY_NS);
    rig.engine.run_jobs().unwrap();
    let day =
        |from: i64| Window { start_ns: START_NS + from * HOUR_NS, end_ns: START_NS + (from + 24) * HOUR_NS };
    check_grid(&rig.engine, &mut random, &[day(0)]);
    check_grid(&rig.engine, &mut random, &[day(1), day(3), day(6)]);
    // Rows in memory beside the files.
    write(&rig.engine, &mut random, (START_NS + 2 * HOUR_NS, START_NS + 5 * HOUR_NS), 500);
    check_grid(&rig.engine, &mut random, &[day(0), day(2)]);
}

/// Cells that keep all there is, sketches too.
fn every_set() -> Vec<crate::cell_set::CellRule> {
    use crate::cell_set::{CellRule, CellSet};
    vec![CellRule { measurement: "cpu".into(), field: "*".into(), set: CellSet::Auto, with_uniques: true }]
}

#[test]
fn few_series_over_many_hours_come_from_the_rows_of_days() {
    const HOURS: i64 = 40;
    let rig = Rig::new(Retention::FOREVER);
    // Hours that begin at seven past: cells of five minutes and of one, of every hour.
    let grid = windows_of(START_NS + 7 * MINUTE_NS, HOUR_NS, HOURS - 1);
    for hour in 0..HOURS {
        rig.clock.advance(HOUR_NS);
        let minutes = ["a", "b", "c"].iter().flat_map(|host| (0..60).map(move |minute| (*host, minute)));
        let row = |(host, minute): (&'static str, i64)| {
            (host, START_NS + hour * HOUR_NS + minute * MINUTE_NS + 7, ((hour + minute) % 97) as f64)
        };
        rig.write(&minutes.map(row).collect::<Vec<_>>());
        // Each hour has files of cells of its own.
        rig.engine.flush().unwrap();
        rig.engine.run_jobs().unwrap();
    }
    rig.clock.advance(2 * DAY_NS);
    rig.engine.run_jobs().unwrap();
    let (found, coverage) = rig.windows(&grid, Bounds::LeftOpen);
    let mut samples = rig.read().into_iter().filter(|((host, _), _)| host == "a").peekable();
    while samples.next_if(|((_, ts_ns), _)| *ts_ns <= grid[0].start_ns).is_some() {}
    for (window, found) in grid.iter().zip(&found) {
        let mut expected = Partial::empty(crate::model::FieldType::Float);
        while let Some(((_, ts_ns), value)) = samples.next_if(|((_, ts_ns), _)| *ts_ns <= window.end_ns) {
            expected.add(ts_ns, ValueRef::Float(value), StatSet::NUMBERS.with(StatSet::HIST));
        }
        same(found, &expected);
    }
    assert_eq!((coverage.cells, coverage.rows), ([0; 3], 60 * (HOURS as u64 - 1)));
    assert!(coverage.pages < 20, "{} pages", coverage.pages);
    // Of one hour there are few files of cells: they are read.
    let (_, coverage) = rig.windows(&grid[..1], Bounds::LeftOpen);
    assert_eq!((coverage.rows, coverage.cells.iter().sum::<u64>()), (0, 60));
}

#[test]
fn dense_rows_between_the_ends_of_windows_come_from_cells() {
    const HOURS: i64 = 20;
    const SECONDS: i64 = HOURS * 3600;
    let rig = Rig::new(Retention::FOREVER);
    for hour in 0..HOURS {
        rig.clock.advance(HOUR_NS);
        let row = |second| ("a", START_NS + second * SECOND_NS, (second % 97) as f64);
        rig.write(&(hour * 3600..(hour + 1) * 3600).map(row).collect::<Vec<_>>());
        rig.engine.flush().unwrap();
        rig.engine.run_jobs().unwrap();
    }
    rig.clock.advance(2 * DAY_NS);
    rig.engine.run_jobs().unwrap();
    // Both ends of each window lie within a minute, whose rows are read one by one: of one window, and of many.
    let grid = windows_of(START_NS + 7 * MINUTE_NS + 17 * SECOND_NS, HOUR_NS, HOURS - 1);
    let all = [Window { start_ns: grid[0].start_ns, end_ns: grid[grid.len() - 1].end_ns }];
    for (asked, minutes) in [(&grid[..], grid.len() as u64 + 1), (&all, 2)] {
        let (_, coverage) = rig.windows(asked, Bounds::LeftOpen);
        assert!(coverage.rows <= 60 * minutes, "{} of {SECONDS} rows", coverage.rows);
        assert!(0 < coverage.cells.iter().sum::<u64>());
    }
}

/// Remembers the most bytes that a scan said to hold.
#[derive(Default)]
struct Most(AtomicU64);

impl crate::scan::Meter for Most {
    fn charge(&self, _rows: u64) -> Result<()> {
        Ok(())
    }

    fn buffers(&self, bytes: u64) -> Result<()> {
        self.0.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn slots_and_what_they_hold_are_told_also_where_only_rows_are_read() {
    const WINDOWS: usize = 300;
    const SERIES: usize = 10;
    let rig = Rig::new(Retention::FOREVER);
    let names: Vec<String> = (0..SERIES).map(|host| format!("host-{host}")).collect();
    let of_one = two_hours();
    let row = |name| of_one.iter().map(move |(_, ts_ns, value)| (name, *ts_ns, *value));
    rig.write(&names.iter().flat_map(|name| row(name.as_str())).collect::<Vec<_>>());
    let grid = windows_of(START_NS, 20 * SECOND_NS, WINDOWS as i64);
    let view = rig.engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let series = view.series_ids(measurement, &[], TimeRange::ALL, 99).unwrap();
    let groups: Vec<u32> = (0..SERIES as u32).collect();
    let most = |wants| {
        let read = WindowRequest {
            measurement,
            field: FieldId(0),
            series: &series,
            windows: &grid,
            bounds: Bounds::LeftOpen,
            wants,
            resolution: Resolution::Auto,
        };
        let meters = [Most::default(), Most::default()];
        view.windows(&read, &meters[0], &mut |_| Ok(())).unwrap();
        let request = GroupRequest { read, groups: &groups, group_count: SERIES };
        view.groups(&request, &meters[1], &mut |_| Ok(())).unwrap();
        meters.map(|meter| meter.0.into_inner())
    };
    let count = (WINDOWS * SERIES) as u64;
    let slots = crate::model::Slots::bytes_of(WINDOWS * SERIES);
    // The samples of one series, 32 bytes each, are told above the slots.
    let plain = most(StatSet::SUM);
    assert!(
        plain.iter().all(|told| slots < *told && *told < slots + 24_000),
        "{plain:?} told, {slots} of slots"
    );
    // Two samples in each window: room for their buckets, two entries of a sketch.
    let hist = most(StatSet::HIST.with(StatSet::SUM).with(StatSet::RANGE));
    assert!(hist.iter().all(|told| slots + 12 * count <= *told), "{hist:?} told, {slots} of slots");
    let uniques = most(StatSet::UNIQUES);
    assert!(uniques.iter().all(|told| slots + 8 * count <= *told), "{uniques:?} told, {slots} of slots");
}
