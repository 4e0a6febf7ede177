//! The program that makes a fixture of the disk format, and what must be found in it. The data is known by
//! construction: rows are functions of their number, and nothing is compared with bytes of an earlier run.
//!
//! Shared by `storage/examples/make_fixture.rs`, which writes a fixture, and `storage/tests/compat.rs`, which reads one.
//! Order of events of [`make`]: an hour that is rolled up and then dropped by retention, so that cells alone are left;
//! two series whose rows were deleted and that left, of which one comes back (from fixture v3 on); two hours in rows and
//! cells; rows that came late and are in a segment, not in cells; rows in the log alone. Its rows are sparse; those of
//! [`make_dense`] are dense enough for cells of one minute, those of [`make_skewed`] have numbers that are best told by
//! Huffman codes.

use std::path::Path;
use std::sync::Arc;

use icecore_storage::cell_set::{CellRule, CellSet};
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::{Env, Guard};
use icecore_storage::fs::OsFs;
use icecore_storage::model::batch::{CANONICAL, Field, WriteBatch};
use icecore_storage::model::{
    DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, SeriesKey, SeriesSet, TagMatcher, TagTest, TimeRange, Value,
    ValueRef,
};
use icecore_storage::options::{Options, Retention};
use icecore_storage::{Engine, Error, Result};

/// 2024-01-01T00:00:00Z: the hours with rows begin here.
pub const START_NS: i64 = 1_704_067_200 * SECOND_NS;
/// The hour of which only cells are left.
pub const OLD_NS: i64 = START_NS - 3 * DAY_NS;
/// When the fixture is complete, and when it is opened.
pub const NOW_NS: i64 = START_NS + 3 * HOUR_NS;

/// A row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its measurement.
    pub measurement: &'static str,
    /// Value of the tag `host`.
    pub host: &'static str,
    /// Its time.
    pub ts_ns: i64,
    /// Its fields; not every row has all of them.
    pub fields: Vec<(&'static str, Value)>,
}

/// Scatters numbers: splitmix64.
fn mixed(number: i64) -> u64 {
    let mut bits = number.cast_unsigned().wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Numbers of every type and for every encoding: one row.
fn cpu(host: &'static str, ts_ns: i64, k: i64) -> Row {
    let noise = mixed(k);
    let small = (noise % 1000) as i64;
    let mut fields = vec![
        ("usage", Value::Float(small as f64 / 10.0)),
        ("load", Value::Float(1.0 + (noise >> 12) as f64 / (1_u64 << 52) as f64)),
        ("jobs", Value::Int(7 * (small - 500))),
        ("cores", Value::Int(8)),
        ("ticks", Value::UInt((k - k % 50 + 3 * (k % 50) * (k / 50 % 2)).unsigned_abs())),
        ("serial", Value::Int(k * 10)),
        ("busy", Value::Bool(noise.is_multiple_of(2))),
        ("on", Value::Bool(true)),
        ("state", Value::Str(["up", "down", "ünbekannt"][(noise % 3) as usize].to_owned())),
    ];
    if k % 3 == 0 {
        fields.push(("sparse", Value::Float(if k % 2 == 0 { 1.0e300 } else { -0.1 })));
    }
    Row { measurement: "cpu", host, ts_ns, fields }
}

/// Values at the ends of their types.
fn edges() -> Vec<Row> {
    let floats = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0x7ff8_0000_dead_beef),
        f64::from_bits(0xfff0_0000_0000_0001),
        f64::MIN_POSITIVE / 2.0,
        f64::MAX,
    ];
    let ints = [0, i64::MIN, i64::MAX, -1, 1];
    let uints = [0, u64::MAX, 1, 1 << 63];
    let texts = ["", "\n\"\\,= ", "日本語", "x"];
    let row = |(k, float): (usize, &f64)| Row {
        measurement: "edges",
        host: "a",
        ts_ns: START_NS + k as i64 * SECOND_NS + k as i64 % 2,
        fields: vec![
            ("float", Value::Float(*float)),
            ("int", Value::Int(ints[k % ints.len()])),
            ("uint", Value::UInt(uints[k % uints.len()])),
            ("text", Value::Str(texts[k % texts.len()].to_owned())),
        ],
    };
    let mut rows: Vec<Row> = floats.iter().enumerate().map(row).collect();
    // More text than a dictionary takes.
    let long = Value::Str("long ".repeat(250_000));
    rows.push(Row { measurement: "texts", host: "b", ts_ns: START_NS, fields: vec![("body", long)] });
    rows
}

/// Rows of the hour of which only cells are left.
pub fn old() -> Vec<Row> {
    (0..60).map(|k| cpu("a", OLD_NS + k * MINUTE_NS + SECOND_NS, k)).collect()
}

/// Rows of series that leave; one of them is written again later.
fn leaving() -> Vec<Row> {
    ["c", "gone"].into_iter().flat_map(|host| (0..3).map(move |k| cpu(host, START_NS + k, k))).collect()
}

/// Rows that are in cells too.
pub fn sealed() -> Vec<Row> {
    let mut rows = edges();
    for (host, step_ns) in [("a", 20 * SECOND_NS), ("b", 70 * SECOND_NS + 1)] {
        rows.extend((0..2 * HOUR_NS / step_ns).map(|k| cpu(host, START_NS + k * step_ns, k)));
    }
    rows
}

/// Rows that came after the roll: new ones, and one that replaces a field.
pub fn late() -> Vec<Row> {
    let replaced = vec![("usage", Value::Float(-5.5))];
    let mut rows: Vec<Row> = (0..5).map(|k| cpu("c", START_NS + 30 * MINUTE_NS + k, k)).collect();
    rows.push(Row { measurement: "cpu", host: "a", ts_ns: START_NS + 40 * SECOND_NS, fields: replaced });
    rows
}

/// Rows in the log alone, with series, a field and a measurement that no catalog file has.
pub fn logged() -> Vec<Row> {
    let new_field = vec![("fresh", Value::UInt(u64::MAX))];
    let mut rows: Vec<Row> =
        (0..10).map(|k| cpu("d", START_NS + 2 * HOUR_NS + k * SECOND_NS, k + 900)).collect();
    rows.push(Row { measurement: "cpu", host: "a", ts_ns: START_NS + 2 * HOUR_NS + 1, fields: new_field });
    let silent = vec![("nan", Value::Float(f64::from_bits(0x7ff0_0000_0000_0002)))];
    rows.push(Row { measurement: "new", host: "z", ts_ns: START_NS + 2 * HOUR_NS, fields: silent });
    rows
}

/// All rows that a reader finds, later writes last.
pub fn readable() -> Vec<Row> {
    [sealed(), late(), logged()].concat()
}

/// Rows of the dense fixture of which only cells are left: one every two seconds, which is dense, beside a sparse
/// series.
pub fn dense_old() -> Vec<Row> {
    dense_from(OLD_NS, 2 * SECOND_NS, 0)
}

/// Rows of the dense fixture that are there still, and in cells: two a second.
pub fn dense() -> Vec<Row> {
    dense_from(START_NS, SECOND_NS / 2, 1000)
}

fn dense_from(start_ns: i64, step_ns: i64, first: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    for (host, step_ns) in [("a", step_ns), ("b", 20 * SECOND_NS)] {
        for k in 0..6 * MINUTE_NS / step_ns {
            let mut row = cpu(host, start_ns + k * step_ns, first + k);
            // Texts that differ, and a number that says nothing but 0 in most minutes.
            row.fields.push(("note", Value::Str(format!("note {}", mixed(k) % 1000))));
            row.fields.push(("errors", Value::Int(i64::from(k % 100 == 77))));
            rows.push(row);
        }
    }
    rows
}

/// Numbers of which few are frequent: a walk up and down, one that rises, and small, longer and long numbers without order.
pub fn skewed() -> Vec<Row> {
    let (mut level, mut total) = (0, 0);
    let row = |k: i64| {
        // Each length half as often as the one before.
        let rare = |salt: i64| i64::from(mixed(4 * k + salt).trailing_zeros());
        level += rare(0) * if mixed(4 * k + 1).is_multiple_of(2) { 1 } else { -1 };
        total += rare(2);
        let fields = vec![
            ("level", Value::Int(level)),
            ("total", Value::UInt(total.unsigned_abs())),
            ("code", Value::Int(100 * rare(3))),
            ("micros", Value::Int((mixed(k) >> 44 >> (5 * rare(1)).min(63)).cast_signed())),
            ("bytes", Value::UInt(mixed(k) >> 30 >> (8 * rare(0)).min(63))),
        ];
        Row { measurement: "skewed", host: "a", ts_ns: START_NS + k * SECOND_NS, fields }
    };
    (0..1000).map(row).collect()
}

/// All text fields.
const TEXTS: [&str; 4] = ["state", "note", "text", "body"];

/// Opens a database directory at a moment.
///
/// # Errors
/// Those of [`Engine::open`].
pub fn open(dir: &Path, now_ns: i64) -> Result<(Engine, Arc<ManualClock>)> {
    let clock = Arc::new(ManualClock::new(now_ns));
    let env = Env { fs: Arc::new(OsFs), clock: Arc::clone(&clock) as _ };
    // Texts keep everything, so that the fixture holds every column.
    let texts = |field: &str| CellRule {
        measurement: "*".to_owned(),
        field: field.to_owned(),
        set: CellSet::Gauge,
        with_uniques: true,
    };
    let cells = TEXTS.map(texts).into();
    let options = Options { free_bytes_min: 0, cells, ..Options::default() };
    Ok((Engine::open(env, dir, options, Retention::default())?, clock))
}

/// Makes a fixture in a directory that is not there yet.
///
/// # Errors
/// Those of the engine.
pub fn make(dir: &Path) -> Result<()> {
    let (engine, clock) = open(dir, OLD_NS + HOUR_NS)?;
    // Raw rows live for two days, so that partitions are hours and the old one is past its age.
    let raw = Some(std::time::Duration::from_secs(2 * 24 * 3600));
    engine.set_retention(Retention { raw, ..Retention::default() })?;
    write(&engine, &old())?;
    engine.seal()?;
    clock.advance(NOW_NS - OLD_NS - HOUR_NS);
    write(&engine, &leaving())?;
    let view = engine.view();
    let Some(schema) = view.schema("cpu") else { return Err(Error::invalid("no rows were written")) };
    let matchers = [TagMatcher { key: "host".to_owned(), test: TagTest::NotEqual("a".to_owned()) }];
    let series = view.series_ids(schema.measurement, &matchers, TimeRange::ALL, 9)?;
    engine.delete(&[SeriesSet { measurement: schema.measurement, series: Some(series) }], TimeRange::ALL)?;
    drop(view);
    engine.maintain()?;
    if engine.expire()? != 2 {
        return Err(Error::invalid("two series have no rows"));
    }
    write(&engine, &sealed())?;
    engine.seal()?;
    engine.apply_retention(Guard::Forced)?;
    write(&engine, &late())?;
    engine.flush()?;
    write(&engine, &logged())
    // Not closed: a close would empty the log.
}

/// Makes the dense fixture in a directory that is not there yet.
///
/// # Errors
/// Those of the engine.
pub fn make_dense(dir: &Path) -> Result<()> {
    let (engine, clock) = open(dir, OLD_NS + HOUR_NS)?;
    let raw = Some(std::time::Duration::from_secs(2 * 24 * 3600));
    engine.set_retention(Retention { raw, ..Retention::default() })?;
    write(&engine, &dense_old())?;
    engine.seal()?;
    clock.advance(NOW_NS - OLD_NS - HOUR_NS);
    write(&engine, &dense())?;
    engine.seal()?;
    engine.apply_retention(Guard::Forced)?;
    engine.close()
}

/// Makes the skewed fixture in a directory that is not there yet.
///
/// # Errors
/// Those of the engine.
pub fn make_skewed(dir: &Path) -> Result<()> {
    let (engine, _) = open(dir, NOW_NS)?;
    write(&engine, &skewed())?;
    engine.close()
}

/// Writes rows and refuses to lose one.
fn write(engine: &Engine, rows: &[Row]) -> Result<()> {
    let mut keys = Vec::new();
    for row in rows {
        let mut key = Vec::new();
        SeriesKey::new(row.measurement, [("host", row.host)])?.encode(&mut key);
        keys.push(key);
    }
    let mut batch = WriteBatch::new(&CANONICAL);
    for ((line, row), key) in (1..).zip(rows).zip(&keys) {
        for (name, value) in &row.fields {
            let value = match value {
                Value::Float(value) => ValueRef::Float(*value),
                Value::Int(value) => ValueRef::Int(*value),
                Value::UInt(value) => ValueRef::UInt(*value),
                Value::Bool(value) => ValueRef::Bool(*value),
                Value::Str(value) => ValueRef::Str(value),
            };
            batch.fields.push(Field { name: name.as_bytes(), value });
        }
        batch.push_row(key, row.ts_ns, line);
    }
    let report = engine.write(&batch)?;
    match report.rejected.first() {
        Some(refused) => Err(Error::invalid(format!("row {}: {}", refused.line, refused.reason))),
        None => Ok(()),
    }
}
