//! The catalog: resolving, limits, races and selection.

mod leaves;

use std::sync::{Arc, Barrier};

use super::*;
use crate::fs::OsFs;
use crate::model::batch::{CANONICAL, Dialect, Field};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, RowBlock, RowError, SECOND_NS, SeriesId, SeriesKey,
    TimeRange, Value, ValueRef, WriteBatch,
};
use crate::model::{TagMatcher, TagTest};
use crate::{Error, ErrorKind, Result};

/// `name,key=value,...` with no escapes, so that one series has several spellings; `!` in a text is unescaped to
/// `?`, and `bad` is a key or field name that cannot be decoded.
static PLAIN: Dialect = Dialect {
    id: 7,
    series_key: |raw| {
        let text = std::str::from_utf8(raw).map_err(|_| "the key is not UTF-8".to_owned())?;
        let mut parts = text.split(',');
        let name = parts.next().filter(|name| *name != "bad").ok_or("a bad key")?;
        let tags = parts.filter_map(|part| part.split_once('='));
        SeriesKey::new(name, tags).map_err(|error| error.to_string())
    },
    field_name: |raw| match raw {
        b"bad" => Err("a bad field name".to_owned()),
        raw => String::from_utf8(raw.to_vec()).map_err(|_| "the field name is not UTF-8".to_owned()),
    },
    unescape: |text, out| out.extend_from_slice(text.replace('!', "?").as_bytes()),
};

type Line<'a> = (&'a str, i64, &'a [(&'a str, ValueRef<'a>)]);

const LIMITS: CatalogLimits = CatalogLimits {
    series_max: 100,
    measurement_series_max: 100,
    new_series_per_minute_max: 100,
    tag_values_max: 100,
    fields_max: 10,
    catalog_bytes_max: usize::MAX,
};

fn batch<'a>(lines: &[Line<'a>]) -> WriteBatch<'a> {
    let mut batch = WriteBatch::new(&PLAIN);
    for (line, (key, ts_ns, fields)) in (1..).zip(lines) {
        batch
            .fields
            .extend(fields.iter().map(|(name, value)| Field { name: name.as_bytes(), value: *value }));
        batch.push_row(key.as_bytes(), *ts_ns, line);
    }
    batch
}

fn resolve_in(catalog: &Catalog, lines: &[Line<'_>]) -> (Vec<(MeasurementId, RowBlock)>, Vec<RowError>) {
    let mut rejected = Vec::new();
    let blocks = catalog.resolve(&batch(lines), TimeRange::new(0, 1000), &mut rejected);
    for (_, block) in &blocks {
        assert_eq!(block.series.len(), block.len());
        assert!(block.columns.iter().all(|column| column.values.len() == block.len()));
    }
    (blocks, rejected)
}

fn accept(catalog: &Catalog, lines: &[Line<'_>]) -> Vec<(MeasurementId, RowBlock)> {
    let (blocks, rejected) = resolve_in(catalog, lines);
    assert_eq!(rejected, []);
    blocks
}

fn all(catalog: &Catalog) -> Vec<Definition> {
    catalog.definitions_after(CatalogMark::default())
}

/// Expects one line to be refused for a reason, and nothing to be defined for it.
fn check_rejected(catalog: &Catalog, line: Line<'_>, reason: &str) {
    let before = all(catalog);
    let (blocks, rejected) = resolve_in(catalog, &[line]);
    assert_eq!(rejected, [RowError { line: 1, reason: reason.to_owned() }]);
    assert!(blocks.is_empty());
    assert_eq!(all(catalog), before, "a refused row leaves no trace");
}

#[test]
fn resolve_many_refused_rows_keeps_the_first_reasons_only() {
    // 64 MiB of short rows of a wrong type once took hundreds of megabytes of the same sentence.
    let catalog = Catalog::new(LIMITS);
    let fields = [("a", ValueRef::Int(1))];
    let lines: Vec<Line<'_>> = (0..resolve::REASONS_MAX + 5).map(|_| ("m", -1, &fields[..])).collect();
    let (blocks, rejected) = resolve_in(&catalog, &lines);
    assert!(blocks.is_empty());
    assert_eq!(rejected.len(), resolve::REASONS_MAX + 5);
    assert_eq!(rejected.iter().filter(|row| !row.reason.is_empty()).count(), resolve::REASONS_MAX);
}

fn column(block: &RowBlock, field: u16) -> Vec<Option<Value>> {
    let Some(column) = block.column(ColumnKey::value(FieldId(field))) else { return Vec::new() };
    (0..block.len()).map(|row_idx| Column::value(column, row_idx)).collect()
}

fn float(value: f64) -> Option<Value> {
    Some(Value::Float(value))
}

const X: &[(&str, ValueRef<'_>)] = &[("x", ValueRef::Float(1.0))];

#[test]
fn resolve_new_series_gives_columns_and_definitions() {
    let catalog = Catalog::new(LIMITS);
    let blocks = accept(
        &catalog,
        &[
            ("cpu,host=a", 10, &[("x", ValueRef::Float(1.0)), ("text", ValueRef::Str("é"))]),
            ("mem,host=a", 10, &[("used", ValueRef::UInt(5))]),
            ("cpu,host=b", 11, &[("x", ValueRef::Float(2.0)), ("text", ValueRef::Escaped("why!"))]),
            ("cpu,host=b", 12, &[("ok", ValueRef::Bool(true))]),
            ("cpu,host=a", 13, &[("text", ValueRef::Str("")), ("n", ValueRef::Int(-1))]),
        ],
    );
    let [(cpu, rows), (mem, _)] = &blocks[..] else { panic!("two measurements: {blocks:?}") };
    assert_eq!((*cpu, *mem), (MeasurementId(0), MeasurementId(1)));
    assert_eq!(rows.series, [SeriesId(0), SeriesId(2), SeriesId(2), SeriesId(0)]);
    assert_eq!(rows.ts_ns, [10, 11, 12, 13]);
    assert_eq!(column(rows, 0), [float(1.0), float(2.0), None, None]);
    let text = |text: &str| Some(Value::Str(text.to_owned()));
    assert_eq!(column(rows, 1), [text("é"), text("why?"), None, text("")]);
    assert_eq!(column(rows, 2), [None, None, Some(Value::Bool(true)), None]);
    assert_eq!(column(rows, 3), [None, None, None, Some(Value::Int(-1))]);
    assert!(rows.columns.is_sorted_by_key(|column| column.key));
    let pending = catalog.take_pending();
    assert!(all(&catalog).iter().all(|definition| pending.contains(definition)));
    assert_eq!(pending.len(), 2 + 3 + 5);
    assert_eq!(catalog.take_pending(), []);
}

#[test]
fn resolve_known_rows_by_prediction_equals_row_by_row() {
    let catalog = Catalog::new(LIMITS);
    let full: &[(&str, ValueRef<'_>)] =
        &[("a", ValueRef::Float(1.0)), ("b", ValueRef::Int(2)), ("c", ValueRef::Str("s"))];
    let swapped: &[(&str, ValueRef<'_>)] = &[("b", ValueRef::Int(4)), ("a", ValueRef::Float(3.0))];
    let shapes: [&[(&str, ValueRef<'_>)]; 3] = [full, swapped, X];
    let keys = ["m,t=1", "m,t=2", "other", "m"];
    let lines: Vec<Line<'_>> =
        (0..64).map(|n: usize| (keys[n / 3 % 4], n as i64, shapes[n * n / 5 % 3])).collect();
    for _ in 0..2 {
        let together = accept(&catalog, &lines);
        for (measurement, block) in &together {
            let mut row_idx = 0;
            for line in &lines {
                let alone = accept(&catalog, &[*line]);
                let [(owner, row)] = &alone[..] else { panic!("one row") };
                if owner != measurement {
                    continue;
                }
                assert_eq!((block.series[row_idx], block.ts_ns[row_idx]), (row.series[0], row.ts_ns[0]));
                for column in &block.columns {
                    let expected = row.column(column.key).and_then(|column| column.value(0));
                    assert_eq!(column.value(row_idx), expected, "{line:?}");
                }
                row_idx += 1;
            }
            assert_eq!(row_idx, block.len());
        }
    }
}

#[test]
fn resolve_bad_row_is_reported_and_the_others_are_kept() {
    let catalog = Catalog::new(LIMITS);
    let conflict = "field type conflict: input field \"x\" on measurement \"m\" is type integer, already exists as type float";
    let int: &[(&str, ValueRef<'_>)] = &[("x", ValueRef::Int(1))];
    let (blocks, rejected) = resolve_in(&catalog, &[("m", 1, X), ("m", 2, int), ("m", 3, X), ("m", 1000, X)]);
    assert_eq!(blocks[0].1.ts_ns, [1, 3]);
    let future = "timestamp 1000 is too far in the future (accepted up to 999)";
    let error = |line, reason: &str| RowError { line, reason: reason.to_owned() };
    assert_eq!(rejected, [error(2, conflict), error(4, future)]);
}

#[test]
fn resolve_each_rejection_names_its_reason() {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X)]);
    let conflict = "field type conflict: input field \"x\" on measurement \"m\" is type string, already exists as type float";
    let text = ValueRef::Str("a");
    check_rejected(&catalog, ("m,t=1", 1, &[("x", text)]), conflict);
    check_rejected(&catalog, ("m,t=2", 1, &[("new", text), ("x", text)]), conflict);
    check_rejected(&catalog, ("m,t=1", 1, &[("time", text)]), "`time` cannot be a field name");
    check_rejected(&catalog, ("m,t=1", 1, &[("", text)]), "empty field name");
    check_rejected(&catalog, ("m,t=1", 1, &[("bad", text)]), "a bad field name");
    check_rejected(&catalog, ("bad", 1, X), "a bad key");
    check_rejected(&catalog, ("m,t=", 1, X), "empty tag key or value near `t`");
    check_rejected(&catalog, ("m,t=1", 1, &[]), "a row needs at least one field");
    let old = "timestamp -1 is older than the retention (raw data is kept from 0)";
    check_rejected(&catalog, ("n", -1, X), old);
    let name = "y".repeat(65_536);
    let long = "a field name of 65536 bytes is longer than 65535";
    check_rejected(&catalog, ("m,t=1", 1, &[(&name, text)]), long);
    let mut rejected = Vec::new();
    let lines = [("m,t=1", i64::MIN, X), ("m,t=1", i64::MAX, X)];
    assert!(catalog.resolve(&batch(&lines), TimeRange::new(i64::MIN, i64::MAX), &mut rejected).is_empty());
    assert!(
        rejected.iter().all(|error| error.reason.contains("outside of what can be stored")),
        "{rejected:?}"
    );
}

#[test]
fn resolve_duplicate_field_last_one_wins() {
    let catalog = Catalog::new(LIMITS);
    let twice: &[(&str, ValueRef<'_>)] =
        &[("x", ValueRef::Int(1)), ("y", ValueRef::Float(2.0)), ("x", ValueRef::Float(3.0))];
    for _ in 0..2 {
        let blocks = accept(&catalog, &[("m", 1, twice), ("m", 2, twice), ("m", 3, X)]);
        assert_eq!(column(&blocks[0].1, 0), [float(3.0), float(3.0), float(1.0)]);
        assert_eq!(column(&blocks[0].1, 1), [float(2.0), float(2.0), None]);
    }
}

#[test]
fn resolve_other_spelling_or_dialect_is_the_same_series() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,a=1,b=2", 1, X)]);
    let blocks = accept(&catalog, &[("m,b=2,a=1", 2, X), ("m,a=1,b=2", 3, X), ("m,b=2,a=1", 4, X)]);
    assert_eq!(blocks[0].1.series, [SeriesId(0); 3]);
    let mut key = Vec::new();
    SeriesKey::new("m", [("a", "1"), ("b", "2")])?.encode(&mut key);
    let mut canonical = WriteBatch::new(&CANONICAL);
    canonical.fields.push(Field { name: b"x", value: ValueRef::Float(1.0) });
    canonical.push_row(&key, 5, 1);
    let blocks = catalog.resolve(&canonical, TimeRange::ALL, &mut Vec::new());
    assert_eq!(blocks[0].1.series, [SeriesId(0)]);
    assert_eq!((catalog.series_count(), all(&catalog).len()), (1, 3));
    Ok(())
}

/// The hits of one limit.
fn hits(catalog: &Catalog, name: &str) -> u64 {
    let found = catalog.limit_hits().into_iter().find(|(known, _)| *known == name);
    found.expect("every limit is counted").1
}

#[test]
fn resolve_series_limit_rejects_new_series_only() {
    let catalog = Catalog::new(CatalogLimits { series_max: 2, ..LIMITS });
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X)]);
    let reason = "series limit reached: 2 series (limit series_max), tag key \"t\" has 2 values; the new series is m{t=\"3\"}";
    check_rejected(&catalog, ("m,t=3", 1, X), reason);
    let reason = "series limit reached: 2 series (limit series_max); the new series is n{t=\"1\"}";
    check_rejected(&catalog, ("n,t=1", 1, X), reason);
    accept(&catalog, &[("m,t=1", 2, X)]);
    assert!(1 < hits(&catalog, "series_max"));
    assert_eq!(hits(&catalog, "measurement_series_max"), 0);
}

#[test]
fn resolve_series_limit_of_a_measurement_leaves_the_others_alone() {
    let catalog = Catalog::new(CatalogLimits { measurement_series_max: 2, ..LIMITS });
    accept(&catalog, &[("m,t=1,u=1", 1, X), ("m,t=2,u=1", 1, X)]);
    let reason = "series limit reached: 2 series of measurement \"m\" (limit measurement_series_max), tag key \"t\" has 2 values; the new series is m{t=\"3\",u=\"1\"}";
    check_rejected(&catalog, ("m,t=3,u=1", 1, X), reason);
    accept(&catalog, &[("n,t=3,u=1", 1, X), ("m,t=2,u=1", 2, X)]);
    assert!(0 < hits(&catalog, "measurement_series_max"));
}

#[test]
fn resolve_tag_value_limit_names_the_key() {
    let catalog = Catalog::new(CatalogLimits { tag_values_max: 2, ..LIMITS });
    accept(&catalog, &[("m,a=1,id=1", 1, X), ("m,a=1,id=2", 1, X)]);
    let reason = "tag value limit reached: 2 values of tag key \"id\" on measurement \"m\" (limit tag_values_max); the new value is \"3\"";
    check_rejected(&catalog, ("m,a=2,id=3", 1, X), reason);
    // New series of known values, other keys and other measurements go on.
    accept(&catalog, &[("m,a=2,id=1", 1, X), ("m,b=3", 1, X), ("n,id=3", 1, X)]);
    assert!(0 < hits(&catalog, "tag_values_max"));
    let (limit, rows) = ("tag_values_max", hits(&catalog, "tag_values_max"));
    let (measurement, tag_key) = ("m".to_owned(), "id".to_owned());
    assert_eq!(catalog.refused(), [RefusedRows { limit, measurement, tag_key, rows }]);
}

#[test]
fn resolve_new_series_limit_ends_with_its_minute() {
    let catalog = Catalog::new(CatalogLimits { new_series_per_minute_max: 2, ..LIMITS });
    catalog.tick(59 * SECOND_NS);
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X), ("m,t=1", 2, X)]);
    let reason = "new series limit reached: 2 new series in this minute (limit new_series_per_minute_max), tag key \"t\" has 2 values; the new series is m{t=\"3\"}";
    check_rejected(&catalog, ("m,t=3", 1, X), reason);
    catalog.tick(60 * SECOND_NS);
    accept(&catalog, &[("m,t=3", 1, X), ("m,t=4", 1, X)]);
    assert!(0 < hits(&catalog, "new_series_per_minute_max"));
}

#[test]
fn resolve_alias_cache_full_still_knows_the_series() {
    let catalog = Catalog::new(CatalogLimits { series_max: 1, fields_max: 1, ..LIMITS });
    for key in ["m,a=1,b=2,c=3", "m,b=2,a=1,c=3", "m,c=3,a=1,b=2", "m,c=3,b=2,a=1"] {
        let blocks = accept(&catalog, &[(key, 1, X), (key, 2, X)]);
        assert_eq!(blocks[0].1.series, [SeriesId(0); 2]);
    }
}

#[test]
fn resolve_field_limit_rejects_new_fields_only() {
    let catalog = Catalog::new(CatalogLimits { series_max: 9, fields_max: 2, ..LIMITS });
    let (x, y, z) = (("x", ValueRef::Float(1.0)), ("y", ValueRef::Int(1)), ("z", ValueRef::Int(1)));
    accept(&catalog, &[("m", 1, &[x, y])]);
    let reason =
        "field limit reached: 2 fields on measurement \"m\" (limit fields_max); the new field is \"z\"";
    check_rejected(&catalog, ("m,t=1", 1, &[x, z]), reason);
    accept(&catalog, &[("m", 1, &[y, x]), ("n", 1, &[z])]);
    assert!(0 < hits(&catalog, "fields_max"));
}

/// Names that a hostile client makes up: measurements, fields, tag keys and long values took all memory there was, and
/// again at each start.
#[test]
fn resolve_names_of_every_kind_are_bounded_in_bytes() {
    type Name = fn(usize) -> (String, String);
    let kinds: [(&str, Name); 5] = [
        ("measurements", |n| (format!("m{n}"), "x".to_owned())),
        ("fields", |n| ("m".to_owned(), format!("{n}{}", "f".repeat(100)))),
        ("tag keys", |n| (format!("m,t{n}=a"), "x".to_owned())),
        ("tag values", |n| (format!("m,t={n}{}", "v".repeat(100)), "x".to_owned())),
        ("series of one long value", |n| (format!("m,l={},t={n}", "v".repeat(1000)), "x".to_owned())),
    ];
    let none = usize::MAX;
    let limits = CatalogLimits { fields_max: none, catalog_bytes_max: 100_000, ..CatalogLimits::NONE };
    for (kind, name) in kinds {
        let catalog = Catalog::new(limits);
        let write = |n: usize, ts_ns: i64| {
            let (key, field) = name(n);
            resolve_in(&catalog, &[(&key, ts_ns, &[(&field, ValueRef::Float(1.0))])]).1
        };
        let taken = (0..10_000).take_while(|n| write(*n, 1).is_empty()).count();
        assert!((10..2_000).contains(&taken), "{taken} {kind}");
        assert!((100_000..105_000).contains(&catalog.bytes()), "{} bytes of {kind}", catalog.bytes());
        let refused = write(taken, 1);
        assert!(refused[0].reason.contains("limit catalog_bytes_max"), "{refused:?}");
        assert!(write(0, 2).is_empty(), "what is known is taken: {kind}");
        assert!(0 < hits(&catalog, "catalog_bytes_max"));
    }
}

/// Long keys are encoded in pieces of few, and both ways to a catalog give it the same bytes.
#[test]
fn save_long_keys_loads_the_same() -> Result<()> {
    let dir = tempfile::tempdir().map_err(|error| Error::io("temporary directory", error))?;
    let catalog = Catalog::new(LIMITS);
    let keys: Vec<String> = (0..90).map(|n| format!("m,t={n}{}", "v".repeat(60_000))).collect();
    accept(&catalog, &keys.iter().map(|key| (&**key, 1, X)).collect::<Vec<_>>());
    let mark = catalog.save(&OsFs, dir.path(), 1, CatalogMark::default())?;
    let copy = Catalog::new(LIMITS);
    copy.load(&OsFs, dir.path(), 1)?;
    assert_eq!((mark, copy.bytes(), all(&copy)), (catalog.mark(), catalog.bytes(), all(&catalog)));
    Ok(())
}

#[test]
fn resolve_too_many_gaps_rejects_the_rest() {
    let catalog = Catalog::new(LIMITS);
    let wide: &[(&str, ValueRef<'_>)] = &[("x", ValueRef::Float(1.0)), ("y", ValueRef::Int(1))];
    let lines = [("m", 1, wide), ("m", 2, X), ("m", 3, X), ("m", 4, X), ("n", 5, X)];
    let mut rejected = Vec::new();
    let blocks = catalog.resolve_within(5, &batch(&lines), TimeRange::ALL, &mut rejected);
    assert_eq!((blocks.len(), &blocks[0].1.ts_ns[..]), (1, &[1, 2, 3][..]));
    assert_eq!(rejected.iter().map(|error| error.line).collect::<Vec<_>>(), [4, 5]);
    assert!(rejected[0].reason.contains("more than 5 values and gaps"), "{rejected:?}");
}

#[test]
fn resolve_same_new_series_from_four_threads_is_one_definition() {
    let catalog = Catalog::new(LIMITS);
    let barrier = Barrier::new(4);
    let lines: Vec<(String, i64)> = (0..50).map(|n| (format!("m,t={n}"), n)).collect();
    let lines: Vec<Line<'_>> = lines.iter().map(|(key, ts_ns)| (&**key, *ts_ns, X)).collect();
    let ids: Vec<Vec<SeriesId>> = std::thread::scope(|scope| {
        let work = || {
            barrier.wait();
            accept(&catalog, &lines).remove(0).1.series
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(ids.iter().all(|one| *one == ids[0]), "all threads see the same ids");
    assert_eq!(catalog.series_count(), 50);
    assert_eq!(catalog.take_pending().len(), 1 + 1 + 50);
}

#[test]
fn define_snapshot_gives_the_same_catalog_and_is_idempotent() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("n", 1, &[("y", ValueRef::Int(1))]), ("m,t=2,u=3", 1, X)]);
    let copy = Catalog::new(CatalogLimits { series_max: 0, fields_max: 0, ..LIMITS });
    for definition in all(&catalog).iter().chain(&all(&catalog)) {
        copy.define(definition)?;
    }
    assert_eq!(all(&copy), all(&catalog));
    assert_eq!(copy.take_pending(), [], "what comes from the log is not logged again");
    assert_eq!(copy.schema("m"), catalog.schema("m"));
    // Known series are taken even beyond the limits.
    assert_eq!(accept(&copy, &[("m,u=3,t=2", 1, X)])[0].1.series, [SeriesId(2)]);
    Ok(())
}

#[test]
fn load_files_equals_define_one_by_one() -> Result<()> {
    let dir = tempfile::tempdir().map_err(|error| Error::io("temporary directory", error))?;
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("n", 1, &[("y", ValueRef::Int(1))])]);
    let mark = catalog.save(&OsFs, dir.path(), 1, CatalogMark::default())?;
    assert!(!mark.is_before(catalog.mark()));
    accept(&catalog, &[("m,t=2,u=é", 1, &[("z", ValueRef::Bool(true))]), ("o", 1, X)]);
    assert!(mark.is_before(catalog.mark()));
    assert_eq!(catalog.save(&OsFs, dir.path(), 2, mark)?, catalog.mark());
    assert_eq!(file::read(&OsFs, dir.path(), 2)?, catalog.definitions_after(mark));
    let copy = Catalog::new(LIMITS);
    for number in [1, 2, 1] {
        copy.load(&OsFs, dir.path(), number)?;
    }
    assert_eq!(all(&copy), all(&catalog));
    assert_eq!((copy.take_pending(), copy.schema("m")), (Vec::new(), catalog.schema("m")));
    let kind = Catalog::new(LIMITS).load(&OsFs, dir.path(), 2).map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Corruption), "the first file is missing");
    Ok(())
}

#[test]
fn define_contradiction_is_corruption() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X)]);
    let before = all(&catalog);
    let measurement = |id, name: &str| Definition::Measurement { id: MeasurementId(id), name: name.into() };
    let field = |measurement, id, name: &str, field_type| Definition::Field {
        measurement: MeasurementId(measurement),
        id: FieldId(id),
        name: name.into(),
        field_type,
    };
    let series = |id, measurement, name, tag: &str| -> Result<Definition> {
        let key = Arc::new(SeriesKey::new(name, [("t", tag)])?);
        Ok(Definition::Series { id: SeriesId(id), measurement: MeasurementId(measurement), key })
    };
    let wrong = [
        measurement(0, "n"),
        measurement(1, "m"),
        measurement(2, "n"),
        field(0, 0, "x", FieldType::Int),
        field(0, 0, "y", FieldType::Float),
        field(0, 1, "x", FieldType::Float),
        field(0, 2, "y", FieldType::Float),
        field(1, 0, "y", FieldType::Float),
        series(0, 0, "m", "2")?,
        series(1, 0, "m", "1")?,
        series(2, 0, "m", "2")?,
        series(u32::MAX, 0, "m", "2")?,
        series(1, 0, "n", "2")?,
        series(1, 1, "n", "2")?,
    ];
    for definition in wrong {
        let kind = catalog.define(&definition).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Corruption), "{definition:?}");
    }
    assert_eq!(all(&catalog), before);
    Ok(())
}

#[test]
fn definitions_after_mark_gives_what_is_new() {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X)]);
    let (first, mark) = (all(&catalog), catalog.mark());
    assert_eq!(first.len(), 3);
    accept(&catalog, &[("m,t=2", 1, X)]);
    let second = catalog.definitions_after(mark);
    assert!(matches!(&second[..], [Definition::Series { id: SeriesId(1), .. }]), "{second:?}");
    assert_eq!(catalog.definitions_after(catalog.mark()), []);
    assert_eq!(all(&catalog), [first, second].concat());
}

/// More than one piece of definitions is encoded under the lock.
#[test]
fn save_many_series_loads_the_same() -> Result<()> {
    let dir = tempfile::tempdir().map_err(|error| Error::io("temporary directory", error))?;
    let count = 10_000;
    let many = CatalogLimits {
        series_max: count,
        measurement_series_max: count,
        new_series_per_minute_max: count,
        tag_values_max: count,
        fields_max: 1,
        ..LIMITS
    };
    let catalog = Catalog::new(many);
    let keys: Vec<String> = (0..count).map(|n| format!("m{},t={n},u={}", n % 3, n % 100)).collect();
    let lines: Vec<Line<'_>> = keys.iter().map(|key| (&**key, 1, X)).collect();
    accept(&catalog, &lines);
    assert_eq!(catalog.save(&OsFs, dir.path(), 1, CatalogMark::default())?, catalog.mark());
    let copy = Catalog::new(many);
    copy.load(&OsFs, dir.path(), 1)?;
    assert_eq!(all(&copy), all(&catalog));
    assert_eq!((copy.series_count(), copy.mark()), (count, catalog.mark()));
    // A catalog of more than fits one file once kept every flush from succeeding.
    let (parts, mut mark) = (Catalog::new(many), CatalogMark::default());
    for number in 2..5 {
        assert!(mark.is_before(catalog.mark()), "there are three files");
        mark = catalog.save_within(100_000, &OsFs, dir.path(), number, mark)?;
        parts.load(&OsFs, dir.path(), number)?;
    }
    assert_eq!((mark, all(&parts)), (catalog.mark(), all(&catalog)));
    Ok(())
}

#[test]
fn encode_key_gives_the_canonical_bytes() {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,u=1,t=2", 1, X), ("n", 1, X), ("m,a=é", 1, X), ("m,t=1,u=2", 1, X)]);
    for id in 0..4 {
        let (mut encoded, mut expected) = (vec![7], vec![7]);
        let key = catalog.key(SeriesId(id)).expect("it was made");
        key.encode(&mut expected);
        let measurement = catalog.encode_key(SeriesId(id), &mut encoded);
        assert_eq!((measurement, encoded), (Some(MeasurementId(u32::from(id == 1))), expected));
    }
    assert_eq!(catalog.encode_key(SeriesId(4), &mut Vec::new()), None);
}

#[test]
fn schema_fields_and_tag_keys_are_sorted() {
    let catalog = Catalog::new(LIMITS);
    let fields: &[(&str, ValueRef<'_>)] = &[("z", ValueRef::Int(1)), ("a", ValueRef::Bool(true))];
    accept(&catalog, &[("n", 1, X), ("m,z=1", 1, fields), ("m,b=1", 1, fields)]);
    let schema = catalog.schema("m").expect("defined");
    let names: Vec<_> =
        schema.fields.iter().map(|field| (&*field.name, field.id, field.field_type)).collect();
    assert_eq!(names, [("a", FieldId(1), FieldType::Bool), ("z", FieldId(0), FieldType::Int)]);
    assert_eq!(schema.tag_keys, ["b".into(), "z".into()]);
    assert_eq!(catalog.schema_of(schema.measurement), Some(schema));
    assert_eq!(catalog.measurements(), ["m".into(), "n".into()]);
    assert_eq!((catalog.schema("gone"), catalog.schema_of(MeasurementId(9))), (None, None));
}

#[test]
fn select_gives_ascending_keys_within_the_limit() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("n,t=1", 1, X), ("m,t=2", 1, X), ("m", 1, X)]);
    let ids = |series: Vec<crate::scan::SeriesInfo>| series.iter().map(|one| one.id.0).collect::<Vec<_>>();
    assert_eq!(ids(catalog.select(MeasurementId(0), &[], 3)?), [0, 2, 3]);
    let matcher = TagMatcher { key: "t".to_owned(), test: TagTest::NotEqual("1".to_owned()) };
    let found = catalog.select(MeasurementId(0), &[matcher], 10)?;
    assert_eq!(found[0].key.to_string(), "m{t=\"2\"}");
    assert_eq!(ids(found), [2, 3]);
    let error = catalog.select(MeasurementId(0), &[], 2).expect_err("three series");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.to_string(), "3 series of measurement \"m\" match, more than the limit of 2");
    assert_eq!(ids(catalog.select(MeasurementId(9), &[], 2)?), Vec::<u32>::new());
    assert_eq!(catalog.key(SeriesId(1)).map(|key| key.to_string()), Some("n{t=\"1\"}".to_owned()));
    assert_eq!(catalog.key(SeriesId(9)), None);
    Ok(())
}

#[test]
fn select_ids_and_keys_are_those_of_select() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("n,t=1", 1, X), ("m,t=2", 1, X), ("m", 1, X)]);
    let ids = catalog.select_ids(MeasurementId(0), &[], 3)?;
    let found = catalog.select(MeasurementId(0), &[], 3)?;
    assert_eq!(ids, found.iter().map(|one| one.id).collect::<Vec<_>>());
    let keys: Vec<_> = found.iter().map(|one| (*one.key).clone()).collect();
    assert_eq!(catalog.keys(&ids)?, keys);
    assert_eq!(catalog.keys(&[ids[2], ids[0]])?, [keys[2].clone(), keys[0].clone()]);
    assert_eq!(catalog.keys(&[SeriesId(9)]).expect_err("no such series").kind(), ErrorKind::Internal);
    assert_eq!(
        catalog.select_ids(MeasurementId(0), &[], 2).expect_err("three series").kind(),
        ErrorKind::LimitExceeded
    );
    Ok(())
}
