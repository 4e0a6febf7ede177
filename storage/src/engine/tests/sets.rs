//! What cells keep of each field: the same answers from every layer, raw rows where cells lack something, and an error
//! that says so where raw rows are gone.

use super::world::{TestRow, write};
use super::*;
use crate::cell_set::{CELL_RULES_MAX, CellRule, CellSet};
use crate::fs::sim::Fault;
use crate::manifest::Manifest;
use crate::model::{FieldType, Value};

const NUMBERS: StatSet = StatSet::NUMBERS.with(StatSet::HIST);

fn open_with(rig: &Rig, retention: Retention, cells: Vec<CellRule>) -> Engine {
    try_open(&rig.fs, &rig.clock, retention, cells).unwrap()
}

fn try_open(
    fs: &Arc<SimFs>,
    clock: &Arc<ManualClock>,
    retention: Retention,
    cells: Vec<CellRule>,
) -> Result<Engine> {
    let options = Options { free_bytes_min: 0, cells, ..Options::default() };
    let env = Env { fs: Arc::clone(fs) as _, clock: Arc::clone(clock) as _ };
    Engine::open(env, Path::new("/db"), options, retention)
}

fn rule(field: &str, set: CellSet, with_uniques: bool) -> CellRule {
    CellRule { measurement: "cpu".into(), field: field.into(), set, with_uniques }
}

/// An hour of users: a dense series, and two sparse ones.
fn write_users(engine: &Engine, start_ns: i64) {
    let mut keys = Vec::new();
    let mut rows = Vec::new();
    for (host, step_ns) in [("a", SECOND_NS / 2), ("b", 20 * SECOND_NS), ("c", 7 * SECOND_NS)] {
        let mut key = Vec::new();
        SeriesKey::new("cpu", [("host", host)]).unwrap().encode(&mut key);
        for k in 0..HOUR_NS / step_ns {
            keys.push(key.clone());
            rows.push((start_ns + k * step_ns, format!("user-{}", (k * k + 3) % 2503), k % 1700));
        }
    }
    let mut batch = WriteBatch::new(&CANONICAL);
    for ((line, (ts_ns, user, load)), key) in (1..).zip(&rows).zip(&keys) {
        batch.fields.push(Field { name: b"user", value: ValueRef::Str(user) });
        batch.fields.push(Field { name: b"load", value: ValueRef::Int(*load) });
        batch.push_row(key, *ts_ns, line);
    }
    assert_eq!(engine.write(&batch).unwrap().accepted, rows.len() as u64);
}

/// The windows of each series.
fn windows(engine: &Engine, field: &str, wants: StatSet, windows: &[Window]) -> Result<Vec<Vec<Partial>>> {
    let view = engine.view();
    let schema = view.schema("cpu").unwrap();
    let series = view.series_ids(schema.measurement, &[], TimeRange::ALL, 9).unwrap();
    let request = WindowRequest {
        measurement: schema.measurement,
        field: schema.field(field).unwrap().id,
        series: &series,
        windows,
        bounds: Bounds::RightOpen,
        wants,
        resolution: Resolution::Auto,
    };
    let mut found = Vec::new();
    view.windows(&request, &Unmetered, &mut |slice| {
        found.push(slice.partials.to_vec());
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn texts_and_uniques_are_the_same_from_every_layer() {
    let rig = Rig::new(Retention::FOREVER);
    drop(rig.engine.close());
    let rules = vec![rule("load", CellSet::Auto, true), rule("user", CellSet::Gauge, true)];
    let engine = open_with(&rig, Retention::FOREVER, rules);
    write_users(&engine, START_NS);
    let grids = [
        windows_of(START_NS, HOUR_NS, 1),
        windows_of(START_NS, 5 * MINUTE_NS, 12),
        windows_of(START_NS, MINUTE_NS, 60),
    ];
    let read = || {
        grids.each_ref().map(|grid| {
            [("user", StatSet::ALL), ("load", StatSet::UNIQUES)].map(|(field, wants)| {
                let found = windows(&engine, field, wants, grid).unwrap();
                let shown = |partial: &Partial| match partial {
                    Partial::Text(_) => partial.clone(),
                    _ => Partial::Int(crate::model::Stats {
                        count: partial.count(),
                        uniques: partial.uniques().cloned().map(Box::new),
                        ..Default::default()
                    }),
                };
                found.iter().map(|of| of.iter().map(shown).collect::<Vec<_>>()).collect::<Vec<_>>()
            })
        })
    };
    let from_rows = read();
    let [[users, _], ..] = &from_rows;
    let folded = users[0][0].uniques().unwrap().estimate();
    assert!(folded.abs_diff(1252) < 60, "{folded} users where 1252 are");
    engine.seal().unwrap();
    assert_eq!(read(), from_rows, "raw rows answer what cells cut");
    rig.clock.advance(60 * HOUR_NS);
    for gone in 1..4 {
        let age = |tier| if tier < gone { hours(20) } else { None };
        let retention = Retention { raw: age(0), m1: age(1), m5: age(2), h1: None };
        engine.set_retention(retention).unwrap();
        engine.apply_retention(Guard::Forced).unwrap();
        assert!(START_NS + HOUR_NS <= engine.store.version().floors_ns[gone - 1], "the layer is gone");
        let kept = 4 - gone;
        assert_eq!(read()[..kept], from_rows[..kept], "with {gone} layers gone");
    }
}

#[test]
fn windows_cells_lack_something_are_read_from_rows_or_refused_by_name() {
    // Spans of an hour: a later one does not roll this one again.
    let retention = Retention { raw: hours(48), ..Retention::FOREVER };
    let rig = Rig::new(retention);
    drop(rig.engine.close());
    let engine = open_with(
        &rig,
        retention,
        vec![rule("load", CellSet::Counter, false), rule("*", CellSet::Gauge, false)],
    );
    write_users(&engine, START_NS);
    engine.seal().unwrap();
    engine.close().unwrap();
    // The next hour is kept in another way.
    let rules = vec![rule("load", CellSet::Dist, false), rule("user", CellSet::Gauge, true)];
    let engine = open_with(&rig, retention, rules);
    rig.clock.advance(HOUR_NS);
    write_users(&engine, START_NS + HOUR_NS);
    engine.seal().unwrap();
    let both = windows_of(START_NS, HOUR_NS, 2);
    let all = windows(&engine, "load", NUMBERS, &both).unwrap();
    assert_eq!(all[0][0].histogram().unwrap().count(), 7200);
    rig.clock.advance(60 * HOUR_NS);
    engine.set_retention(Retention { raw: hours(20), ..Retention::FOREVER }).unwrap();
    engine.apply_retention(Guard::Forced).unwrap();
    assert!(START_NS + 2 * HOUR_NS <= engine.store.version().floors_ns[0], "raw rows are gone");
    let (first, second) = both.split_at(1);
    let refused = |wants, windows_: &[Window]| {
        let error = windows(&engine, "load", wants, windows_).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        error.to_string()
    };
    let message = refused(StatSet::HIST, first);
    assert!(message.contains("field \"load\" of cpu"), "{message}");
    assert!(message.contains("keep count, first and last, resets, not histogram"), "{message}");
    assert_eq!(refused(StatSet::HIST, &both), message, "the first hour spoils both");
    assert!(refused(StatSet::RESETS, second).contains("not first and last, resets"));
    let numbers = |wants, grid| windows(&engine, "load", wants, grid).unwrap()[0][0].numbers().unwrap();
    let whole = all[0][0].numbers().unwrap();
    let counter = numbers(StatSet::RESETS, first);
    assert_eq!(
        (counter.resets, counter.last, counter.reset_sum),
        (whole.resets, whole.last, whole.reset_sum)
    );
    let hist = windows(&engine, "load", StatSet::HIST.with(StatSet::SUM), second).unwrap();
    assert_eq!(hist[0][0].histogram(), all[0][1].histogram());
    assert_eq!(windows(&engine, "user", StatSet::ENDS, &both).unwrap().len(), 3);
    assert!(windows(&engine, "user", StatSet::UNIQUES, first).is_err());
    assert_eq!(windows(&engine, "user", StatSet::UNIQUES, second).unwrap().len(), 3);
    assert_eq!(windows(&engine, "load", StatSet::COUNT, &both).unwrap()[0][0].count(), 7200);
    let view = engine.view();
    assert_eq!(view.schema("cpu").unwrap().field("user").unwrap().field_type, FieldType::Str);
}

/// The rules were flags of a server once: who opened the database without them rolled without them.
#[test]
fn rules_for_cells_are_kept_with_the_database() {
    let rig = Rig::new(Retention::FOREVER);
    drop(rig.engine.close());
    let rules = vec![rule("user", CellSet::Gauge, true), rule("*", CellSet::Counter, false)];
    open_with(&rig, Retention::FOREVER, rules.clone()).close().unwrap();
    let engine = open_with(&rig, Retention::FOREVER, Vec::new());
    assert_eq!(engine.cell_rules(), rules);
    write_users(&engine, START_NS);
    engine.seal().unwrap();
    let kept = |engine: &Engine, field: &str| {
        let version = engine.store.version();
        let sections = version.of_tier(Tier::H1).filter_map(|live| live.segment.section(MeasurementId(0)));
        let field = engine.view().schema("cpu").unwrap().field(field).unwrap().id;
        sections.filter_map(|section| section.field(field)).map(|(_, kept)| kept).collect::<Vec<_>>()
    };
    assert_eq!(kept(&engine, "user"), [StatSet::ENDS.with(StatSet::UNIQUES)]);
    assert_eq!(kept(&engine, "load"), [StatSet::ENDS.with(StatSet::RESETS)]);
    // A snapshot is a database of its own, with the same rules.
    engine.snapshot(Path::new("/copy")).unwrap();
    let copy = Manifest::load(&*rig.fs, Path::new("/copy")).unwrap().unwrap();
    assert_eq!(*copy.cell_rules, rules);
    // What cells are there stays; hours that are rolled from now on, and again, go by the new rules.
    engine.set_cell_rules(Vec::new()).unwrap();
    engine.seal().unwrap();
    assert_eq!(kept(&engine, "user"), [StatSet::ENDS.with(StatSet::UNIQUES)]);
    rig.clock.advance(HOUR_NS);
    write_users(&engine, START_NS + SECOND_NS / 4);
    engine.seal().unwrap();
    assert_eq!(kept(&engine, "user"), [StatSet::COUNT]);
    let error = engine.set_cell_rules(vec![rule("x", CellSet::Auto, false); CELL_RULES_MAX + 1]).unwrap_err();
    assert_eq!((error.kind(), engine.cell_rules().len()), (ErrorKind::LimitExceeded, 0));
    assert_eq!(
        engine.set_cell_rules(vec![rule("", CellSet::Auto, false)]).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// What is changed while one operation of the disk fails: rules of an open engine, or those an engine is opened with.
fn change_failing_at(operation: Option<u64>, fault: Fault, at_open: bool, seed: u64) -> u64 {
    let rig = Rig::new(Retention::FOREVER);
    let (old, new) = (vec![rule("load", CellSet::Dist, false)], vec![rule("*", CellSet::Gauge, true)]);
    rig.write(&[("a", START_NS, 1.0)]);
    rig.engine.set_cell_rules(old.clone()).unwrap();
    if at_open {
        rig.engine.close().unwrap();
        rig.fs.restart();
    }
    let start = rig.fs.operations();
    if let Some(operation) = operation {
        rig.fs.fail_at(start + operation, fault);
    }
    let place = format!("{fault:?} at {operation:?}, at open: {at_open}, seed {seed}");
    let is_done = if at_open {
        try_open(&rig.fs, &rig.clock, Retention::FOREVER, new.clone())
            .map(|engine| engine.cell_rules())
            .is_ok_and(|rules| rules == new)
    } else {
        let is_done = rig.engine.set_cell_rules(new.clone()).is_ok();
        let rules = rig.engine.cell_rules();
        assert!(rules == if is_done { new.clone() } else { old.clone() }, "{place}");
        if fault != Fault::PowerCut {
            assert_eq!(rig.read().len(), 1, "{place}");
        }
        is_done
    };
    let operations = rig.fs.operations() - start;
    rig.fs.crash(seed);
    let engine = try_open(&rig.fs, &rig.clock, Retention::FOREVER, Vec::new()).unwrap();
    let rules = engine.cell_rules();
    assert!(rules == new || (rules == old && !is_done), "{place}: {rules:?}");
    engine.set_cell_rules(new.clone()).unwrap();
    assert_eq!(engine.cell_rules(), new, "{place}");
    operations
}

#[test]
fn rules_for_cells_are_the_old_or_the_new_whatever_operation_fails() {
    for at_open in [false, true] {
        let operations = change_failing_at(None, Fault::Io, at_open, 1);
        assert!(4 <= operations, "{operations}");
        for operation in 0..operations {
            for fault in Fault::ALL {
                for seed in 0..4 {
                    change_failing_at(Some(operation), fault, at_open, seed);
                }
            }
        }
    }
}

/// Cells of an hour in which nobody wrote a field claimed to keep what the rule of then says, so that a query that needs
/// more was refused for an hour that has nothing to answer.
#[test]
fn hour_without_a_value_of_a_field_claims_nothing_of_it() {
    let retention = Retention { raw: hours(48), ..Retention::FOREVER };
    let rig = Rig::new(retention);
    let row = |ts_ns, field| TestRow {
        measurement: "cpu",
        host: "a",
        ts_ns,
        fields: vec![(field, Value::Int(ts_ns % 1000))],
    };
    let hour_of = |field: &'static str, start_ns: i64, step_ns: i64| -> Vec<TestRow> {
        (0..HOUR_NS / step_ns).map(|k| row(start_ns + k * step_ns, field)).collect()
    };
    write(&rig.engine, &[row(START_NS + 90 * MINUTE_NS, "load")]).unwrap();
    rig.engine.set_cell_rules(vec![rule("*", CellSet::Counter, false)]).unwrap();
    // Dense and sparse: cells, and rows that are their own layer.
    write(&rig.engine, &hour_of("usage", START_NS - HOUR_NS, SECOND_NS)).unwrap();
    write(&rig.engine, &hour_of("usage", START_NS, MINUTE_NS)).unwrap();
    rig.engine.seal().unwrap();
    rig.engine.set_cell_rules(Vec::new()).unwrap();
    rig.clock.advance(HOUR_NS);
    write(&rig.engine, &hour_of("load", START_NS + 2 * HOUR_NS, SECOND_NS)).unwrap();
    rig.engine.seal().unwrap();
    rig.clock.advance(80 * HOUR_NS);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert!(START_NS + 3 * HOUR_NS <= rig.engine.store.version().floors_ns[0], "raw rows are gone");
    let grid = |start_ns| windows_of(start_ns, HOUR_NS, 1);
    for (start_ns, count) in [(START_NS - HOUR_NS, 0), (START_NS, 0), (START_NS + 2 * HOUR_NS, 3600)] {
        let found = windows(&rig.engine, "load", NUMBERS, &grid(start_ns)).unwrap();
        let count_found: u64 = found.iter().flatten().map(Partial::count).sum();
        assert_eq!(count_found, count, "{start_ns}");
    }
    assert!(windows(&rig.engine, "usage", NUMBERS, &grid(START_NS)).is_err(), "the rule counted");
    assert!(windows(&rig.engine, "load", NUMBERS, &grid(START_NS + HOUR_NS)).is_err(), "and here, too");
}
