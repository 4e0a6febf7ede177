//! The jobs write the same bytes, however the rows of a series come to them: whole, or in slices of its time.

use super::world::{Random, TestRow, content, delete, env, write};
use super::*;
use crate::compact;
use crate::model::Value;
use crate::rolled::RawSegment;
use crate::rollup::{self, PickSettings, Work};
use crate::scan::merge::PieceSize;

const NOW_NS: i64 = START_NS + 22 * HOUR_NS;
const WHOLE: PieceSize = PieceSize { rows: u64::MAX, values: u64::MAX, is_sliced: false };

/// What a program of writes is made of.
#[derive(Debug, Clone, Copy)]
struct Shape {
    seed: u64,
    /// Raw rows of hours, or of days.
    retention: Retention,
    flushes: u64,
    /// Rows of the densest series in a flush.
    rows: u64,
    width_ns: i64,
    /// Each hour is rolled by itself, from segments that reach over its edges.
    is_by_hour: bool,
}

fn value(random: &mut Random, name: &str) -> Value {
    let number = random.below(40);
    match name {
        // Mostly the same or growing numbers, so that many statistics are 0; now and then one of the odd ones.
        "float" => Value::Float(match number {
            0 => -0.0,
            1 => f64::NAN,
            2 => f64::INFINITY,
            3 => 0.1,
            _ => 7.0,
        }),
        "int" => Value::Int(if number == 0 { i64::MIN } else { 3 }),
        "bool" => Value::Bool(0 < number),
        _ => Value::Str(["", "up", "down", "a longer text, which comes again"][number as usize % 4].into()),
    }
}

fn rows(shape: &Shape, random: &mut Random) -> Vec<TestRow> {
    let names: Vec<&'static str> =
        ["float", "int", "bool", "text"].into_iter().filter(|_| random.below(4) > 0).collect();
    let start_ns = START_NS + random.below(shape.width_ns.unsigned_abs() / 2).cast_signed();
    // Few times, so that rows come again in later flushes.
    let grid_ns = shape.width_ns / (2 * shape.rows.cast_signed());
    let mut rows = Vec::new();
    for (host, count) in [("a", 3), ("b", shape.rows), ("c", shape.rows / 8)] {
        for _ in 0..count {
            let place = random.below(shape.rows);
            let at = (start_ns / grid_ns + place.cast_signed()) * grid_ns;
            let ts_ns = if place.is_multiple_of(9) { at / MINUTE_NS * MINUTE_NS } else { at };
            let kept = names.iter().filter(|_| random.below(9) > 0).copied().collect::<Vec<_>>();
            let fields: Vec<_> = kept.into_iter().map(|name| (name, value(random, name))).collect();
            if !fields.is_empty() {
                rows.push(TestRow { measurement: "cpu", host, ts_ns, fields });
            }
        }
    }
    rows
}

/// Writes a program, rolls and merges all of it, and hands over every segment after each of both.
fn files(shape: &Shape, size: PieceSize) -> Vec<BTreeMap<String, Vec<u8>>> {
    let mut random = Random(shape.seed);
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(NOW_NS)));
    let engine = Engine::open(env(&fs, &clock), Path::new("/db"), Options::default(), shape.retention);
    let engine = engine.unwrap();
    for _ in 0..shape.flushes {
        let rows = rows(shape, &mut random);
        assert_eq!(write(&engine, &rows).unwrap().accepted, rows.len() as u64);
        engine.flush().unwrap();
        if random.below(4) == 0 {
            let start_ns = START_NS + random.below(shape.width_ns.unsigned_abs()).cast_signed();
            let host = random.one_of(&[Some("b"), Some("c"), None]);
            let range = TimeRange::new(start_ns, start_ns + shape.width_ns / 20);
            delete(&engine, "cpu", host, range).unwrap();
        }
    }
    // As text, in which NaN is itself.
    let content = || format!("{:?}", content(&*engine.view()));
    let expected = content();
    let mut found = Vec::new();
    let raw: Vec<RawSegment> = engine.store.manifest().segments.iter().map(RawSegment::from).collect();
    let settings = PickSettings { lateness_ns: 0, force: true, raw_floor_ns: i64::MIN, receiving: &[] };
    let mut works = rollup::pick(&raw, &[], NOW_NS, settings);
    if shape.is_by_hour {
        let inputs: Vec<u64> = raw.iter().map(|segment| segment.id).collect();
        let hour = |hour| TimeRange::new(START_NS + hour * HOUR_NS, START_NS + (hour + 1) * HOUR_NS);
        works = (0..22).map(|at| Work { span: hour(at), inputs: inputs.clone(), replaces: None }).collect();
    }
    let steps = if shape.is_by_hour { works.chunks(1).collect() } else { rollup::together(&works) };
    for works in steps {
        rollup::job::run_in_pieces(&engine.store, works, size).unwrap();
    }
    found.push(segments(&fs));
    for merge in compact::pick(&engine.store.manifest().segments, i64::MAX, &[]) {
        compact::run_in_pieces(&engine.store, &merge, size).unwrap();
    }
    found.push(segments(&fs));
    assert!(content() == expected, "rows differ");
    found
}

fn segments(fs: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new("/db/segments");
    let names = crate::fs::Fs::list(fs, dir).unwrap();
    names.into_iter().map(|name| (name.clone(), fs.get(&dir.join(name)).unwrap())).collect()
}

fn check(shape: &Shape) {
    let whole = files(shape, WHOLE);
    for rows in [1, 64, 1000] {
        let sliced = files(shape, PieceSize { rows, values: u64::MAX, is_sliced: true });
        for (step, (sliced, whole)) in sliced.iter().zip(&whole).enumerate() {
            assert_eq!(sliced.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "{shape:?}");
            let differs = sliced.iter().find(|(name, bytes)| whole.get(*name) != Some(bytes));
            assert!(
                differs.is_none(),
                "{shape:?}, pieces of {rows}, step {step}: {:?}",
                differs.map(|(name, _)| name)
            );
        }
    }
}

#[test]
fn files_of_sliced_series_are_those_of_whole_ones() {
    for seed in 0..12 {
        // A series with a row every five seconds is at the edge of being sparse.
        let rows = [40, 200, 1000][seed as usize % 3];
        let retention = Retention::default();
        check(&Shape { seed, retention, flushes: 8, rows, width_ns: 2 * HOUR_NS, is_by_hour: false });
    }
}

#[test]
fn files_of_sliced_series_of_a_day_are_those_of_whole_ones() {
    for (seed, rows) in [(1, 300), (2, 5_000)] {
        let retention = Retention { raw: None, ..Retention::default() };
        for is_by_hour in [false, true] {
            check(&Shape { seed, retention, flushes: 6, rows, width_ns: 20 * HOUR_NS, is_by_hour });
        }
    }
}

#[test]
fn jobs_refuse_segments_that_are_not_live() {
    let rig = Rig::new(Retention { raw: Some(Duration::from_hours(72)), ..Retention::FOREVER });
    rig.write(&[("a", START_NS, 1.0), ("a", START_NS + 1, 2.0)]);
    rig.engine.flush().unwrap();
    let store = &rig.engine.store;
    let before = store.manifest();
    let inputs = vec![before.segments[0].id, before.next_file + 7];
    let merged = compact::run(store, &compact::Merge { inputs: inputs.clone() }).unwrap_err();
    let span = TimeRange::new(START_NS, START_NS + HOUR_NS);
    let rolled = rollup::job::run(store, &[Work { span, inputs, replaces: None }]).unwrap_err();
    for error in [merged, rolled] {
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("are live"), "{error}");
    }
    let after = store.manifest();
    assert_eq!((&after.segments, &after.rolled), (&before.segments, &before.rolled), "nothing has changed");
}
