//! Raw rows: pages that bounds on values make useless are not decoded and change no answer, and a reader that has
//! enough ends the reading of a long series.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::world::{Random, TestRow, delete, env, write};
use super::*;
use crate::model::{FieldId, RowBlock, Value};
use crate::scan::{Coverage, Flow, Meter, RowRequest, ValueBounds};

fn new_engine() -> Engine {
    let clock = Arc::new(ManualClock::new(START_NS + 4 * HOUR_NS));
    let options = Options { free_bytes_min: 0, ..Options::default() };
    // Raw rows of one day lie in hours.
    let retention = Retention { raw: Some(Duration::from_secs(86_400)), ..Retention::FOREVER };
    Engine::open(env(&Arc::new(SimFs::default()), &clock), Path::new("/db"), options, retention).unwrap()
}

fn row(host: &'static str, ts_ns: i64, fields: Vec<(&'static str, Value)>) -> TestRow {
    TestRow { measurement: "cpu", host, ts_ns, fields }
}

/// A row with the bits of its float and its integer.
type Found = (u32, i64, Option<u64>, Option<i64>);

/// The rows whose float lies between two numbers, read with or without saying so.
fn between(engine: &Engine, min: f64, max: f64, says_so: bool) -> (Vec<Found>, Coverage) {
    let view = engine.view();
    let Some(schema) = view.schema("cpu") else { return Default::default() };
    let [float, int] = ["float", "int"].map(|name| schema.field(name).map(|info| info.id));
    let fields: Vec<FieldId> = schema.fields.iter().map(|field| field.id).collect();
    let series = view.series_ids(schema.measurement, &[], TimeRange::ALL, 100).unwrap();
    let Some(field) = float else { return Default::default() };
    let bounds = [ValueBounds { field, min, max }];
    let request = RowRequest {
        measurement: schema.measurement,
        fields: &fields,
        series: &series,
        range: TimeRange::ALL,
        bounds: if says_so { &bounds } else { &[] },
    };
    let mut found = Vec::new();
    let mut sink = |block: &RowBlock| {
        for place in 0..block.len() {
            let value = |field: Option<FieldId>| {
                let column = fields.iter().position(|other| Some(*other) == field)?;
                block.columns[column].value(place)
            };
            let Some(Value::Float(number)) = value(float) else { continue };
            let whole = match value(int) {
                Some(Value::Int(number)) => Some(number),
                _ => None,
            };
            if min <= number && number <= max {
                found.push((block.series[place].0, block.ts_ns[place], Some(number.to_bits()), whole));
            }
        }
        Ok(Flow::Continue)
    };
    let coverage = view.rows(&request, &Unmetered, &mut sink).unwrap();
    (found, coverage)
}

fn decoded(engine: &Engine, read: impl FnOnce()) -> u64 {
    let before = engine.stats().cache_misses;
    read();
    engine.stats().cache_misses - before
}

#[test]
fn pages_outside_of_bounds_are_not_decoded_unless_they_hide_older_rows() {
    let engine = new_engine();
    for (hour, base) in [(0, 0.0), (1, 1000.0), (2, 0.0)] {
        let rows = (0..600).map(|k| {
            let ts_ns = START_NS + hour * HOUR_NS + k * SECOND_NS;
            row(["a", "b"][k as usize % 2], ts_ns, vec![("float", Value::Float(base + k as f64))])
        });
        write(&engine, &rows.collect::<Vec<_>>()).unwrap();
    }
    engine.flush().unwrap();
    let (found, coverage) = between(&engine, 1000.0, f64::INFINITY, true);
    assert_eq!((found.len(), coverage.rows, coverage.pages), (600, 600, 1), "one of three pages");
    // Nothing is left to decode, and of the other hours nothing was.
    assert_eq!(decoded(&engine, || drop(between(&engine, 1000.0, f64::INFINITY, true))), 0);
    assert_eq!(decoded(&engine, || drop(between(&engine, f64::NEG_INFINITY, f64::INFINITY, true))), 4);
    // A late row hides one of the second hour; that hour's page must be read, or the old value would be back.
    let late = row("a", START_NS + HOUR_NS, vec![("float", Value::Float(-1.0))]);
    write(&engine, &[late]).unwrap();
    engine.flush().unwrap();
    let (found, coverage) = between(&engine, 1000.0, f64::INFINITY, true);
    assert_eq!((found.len(), coverage.rows), (599, 600));
    let (found, coverage) = between(&engine, f64::NEG_INFINITY, -1.0, true);
    assert_eq!((found.len(), coverage.rows), (1, 600));
}

#[test]
fn only_rows_inside_of_bounds_are_read_of_a_page() {
    let engine = new_engine();
    let rows = (0..600).map(|k| {
        let fields = vec![("float", Value::Float(k as f64)), ("int", Value::Int(k))];
        row(["a", "b"][k as usize % 2], START_NS + k * SECOND_NS, fields)
    });
    write(&engine, &rows.collect::<Vec<_>>()).unwrap();
    engine.flush().unwrap();
    // No row inside, though the page may have one: only listing, keys and the column that is judged are decoded.
    let none = || between(&engine, 580.25, 580.75, true);
    assert_eq!(decoded(&engine, || drop(none())), 3);
    let (found, coverage) = none();
    assert_eq!((found.len(), coverage.rows, coverage.pages), (0, 600, 1), "judged rows count as read");
    let some = || between(&engine, 580.5, 590.0, true);
    assert_eq!(decoded(&engine, || drop(some())), 1, "the other column");
    let (found, coverage) = some();
    assert_eq!((found.len(), coverage.rows, coverage.pages), (10, 600, 1));
    // Where a row of the page may be written anew, all are read.
    write(&engine, &[row("a", START_NS + 4 * SECOND_NS, vec![("float", Value::Float(585.0))])]).unwrap();
    let (found, coverage) = between(&engine, 580.5, 590.0, true);
    assert_eq!((found.len(), coverage.rows), (11, 600));
}

#[derive(Default)]
struct Peak(AtomicU64, AtomicU64);

impl Meter for Peak {
    fn charge(&self, rows: u64) -> Result<()> {
        self.0.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }

    fn buffers(&self, bytes: u64) -> Result<()> {
        self.1.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn rows_of_a_long_series_are_read_slice_by_slice() {
    const ROWS: i64 = 120_000;
    let engine = new_engine();
    // The last of them stay in the memtable; some of those come between the others.
    for (part, is_flushed) in [(0, true), (1, true), (2, false)] {
        let times = (0..ROWS).filter(|k| if k % 7 == 0 { 2 } else { k * 2 / ROWS } == part);
        let rows: Vec<TestRow> = times
            .map(|k| row("a", START_NS + k * 100_000_000, vec![("float", Value::Float(k as f64))]))
            .collect();
        write(&engine, &rows).unwrap();
        if is_flushed {
            engine.flush().unwrap();
        }
    }
    let view = engine.view();
    let schema = view.schema("cpu").unwrap();
    let series = [SeriesId(0)];
    let fields = [schema.fields[0].id];
    let request = RowRequest {
        measurement: schema.measurement,
        fields: &fields,
        series: &series,
        range: TimeRange::ALL,
        bounds: &[],
    };
    let all = Peak::default();
    let mut next = 0;
    let mut in_order = |block: &RowBlock| {
        for ts_ns in &block.ts_ns {
            assert_eq!(*ts_ns, START_NS + next * 100_000_000);
            next += 1;
        }
        Ok(Flow::Continue)
    };
    view.rows(&request, &all, &mut in_order).unwrap();
    assert_eq!((next, all.0.into_inner()), (ROWS, ROWS as u64));
    let bytes = all.1.into_inner();
    assert!(bytes < 40_000 * 3 * 21, "{bytes} bytes held of {ROWS} rows");
    let few = Peak::default();
    let stops = decoded(&engine, || {
        view.rows(&request, &few, &mut |_| Ok(Flow::Stop)).unwrap();
    });
    let rows = few.0.into_inner();
    assert!(rows < 40_000 && stops == 0, "{rows} rows, {stops} parts");
}

fn number(random: &mut Random) -> f64 {
    let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5.0, -5.0];
    if random.below(2) == 0 { random.one_of(&special) } else { random.below(20) as f64 - 10.0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Late rows that write over others field by field, deletes, flushes and compactions, in any order.
    #[test]
    fn rows_between_bounds_are_the_same_whether_pages_are_left_out_or_not(seed in any::<u64>()) {
        let (engine, mut random) = (new_engine(), Random(seed));
        let mut left_out = 0;
        for _ in 0..30 {
            match random.below(10) {
                0..5 => {
                    let rows = (0..random.below(6)).map(|_| {
                        let ts_ns = START_NS + random.below(3) as i64 * HOUR_NS + random.below(4) as i64 * SECOND_NS;
                        let mut fields = vec![];
                        if random.below(4) > 0 { fields.push(("float", Value::Float(number(&mut random)))); }
                        if fields.is_empty() || random.below(3) == 0 { fields.push(("int", Value::Int(random.below(9) as i64))); }
                        row(random.one_of(&["a", "b", "c"]), ts_ns, fields)
                    });
                    write(&engine, &rows.collect::<Vec<_>>()).unwrap();
                }
                5..8 => { engine.flush().unwrap(); }
                8 => {
                    let start_ns = START_NS + random.below(3) as i64 * HOUR_NS;
                    let range = TimeRange::new(start_ns, start_ns + 1 + random.below(3) as i64 * SECOND_NS);
                    let host = random.one_of(&[None, Some("a"), Some("b")]);
                    delete(&engine, "cpu", host, range).unwrap();
                }
                _ => { engine.seal().unwrap(); }
            }
            for _ in 0..3 {
                let (low, high) = (number(&mut random), number(&mut random));
                let (few, read) = between(&engine, low, high, true);
                let (all, whole) = between(&engine, low, high, false);
                prop_assert_eq!(few, all);
                left_out += whole.rows - read.rows;
            }
        }
        // Most programs have such pages; only an engine without rows has surely none.
        prop_assert!(left_out > 0 || engine.stats().rows_written < 20, "no page was ever left out");
    }
}
