//! What names say together, without files.

use std::sync::Arc;

use super::names::Names;
use crate::ErrorKind;
use crate::model::{
    Column, ColumnKey, FieldId, FieldInfo, FieldType, MeasurementId, RowBlock, SeriesId, SeriesKey,
    TimeRange, Values,
};
use crate::series::Definition;
use crate::tombstone::Tombstone;

const CPU: MeasurementId = MeasurementId(0);

fn key(host: &str) -> SeriesKey {
    SeriesKey::new("cpu", [("host", host)]).unwrap()
}

fn rows(series: u32, field: u16) -> RowBlock {
    let column = Column { key: ColumnKey::value(FieldId(field)), values: Values::I64(vec![1]), valid: None };
    RowBlock { series: vec![SeriesId(series)], ts_ns: vec![1], columns: vec![column] }
}

fn listed(id: u16, name: &str) -> FieldInfo {
    FieldInfo { id: FieldId(id), name: name.into(), field_type: FieldType::Int }
}

fn fields_of(names: &Names) -> (Vec<(u16, String)>, Vec<String>) {
    let made = names.catalog().unwrap();
    let schema = made.catalog.schema_of(CPU).unwrap();
    let mut fields: Vec<_> = schema.fields.iter().map(|field| (field.id.0, field.name.to_string())).collect();
    fields.sort();
    (fields, made.stand_ins)
}

#[test]
fn field_that_is_listed_without_a_value_gives_way_to_what_is_certain() {
    let mut names = Names::default();
    names.measurement(CPU, "cpu").unwrap();
    for field in [listed(0, "idle"), listed(1, "user"), listed(2, "user"), listed(3, "x"), listed(3, "y")] {
        names.hint(CPU, &field);
    }
    names.field(CPU, FieldId(2), ("user".into(), FieldType::Int)).unwrap();
    names.field(CPU, FieldId(4), ("lost field 3".into(), FieldType::Int)).unwrap();
    let (fields, stand_ins) = fields_of(&names);
    let expected = ["idle", "lost field 1", "user", "lost field 3'", "lost field 3"].map(str::to_owned);
    assert_eq!(fields, (0..).zip(expected).collect::<Vec<_>>());
    assert_eq!(stand_ins.len(), 2, "{stand_ins:?}");
}

#[test]
fn rows_of_a_field_that_is_only_listed_are_refused() {
    let mut names = Names::default();
    names.measurement(CPU, "cpu").unwrap();
    names.series_with_rows(CPU, SeriesId(0), &key("a")).unwrap();
    names.hint(CPU, &listed(1, "idle"));
    names.logged_rows(CPU, &rows(0, 1));
    let error = names.check().unwrap_err();
    assert!(error.to_string().contains("field 1 of measurement 0 (cpu)"), "{error}");
    let name = Definition::Field {
        measurement: CPU,
        id: FieldId(1),
        name: "idle".into(),
        field_type: FieldType::Int,
    };
    names.definition(&name).unwrap();
    names.check().unwrap();
}

#[test]
fn ids_that_anything_names_are_never_given_again() {
    let mut names = Names::default();
    names.series_with_rows(CPU, SeriesId(2), &key("a")).unwrap();
    let tombstone = |series: Option<Arc<[SeriesId]>>, measurement| Tombstone {
        id: 1,
        measurement: MeasurementId(measurement),
        series,
        range: TimeRange::ALL,
        pending: vec![1],
    };
    names.tombstone(&tombstone(Some([SeriesId(4), SeriesId(9)].into()), 0));
    names.tombstone(&tombstone(None, 3));
    let gone = Definition::Series { id: SeriesId(11), measurement: CPU, key: Arc::new(key("a")) };
    names.definition(&gone).unwrap();
    names.definition(&Definition::Left { first: SeriesId(12), count: 3 }).unwrap();
    names.check().unwrap();
    let made = names.catalog().unwrap();
    assert_eq!((made.measurements, made.series, made.catalog.series_count()), (4, 1, 1));
    assert!(made.catalog.mark().is_behind(SeriesId(14)) && !made.catalog.mark().is_behind(SeriesId(15)));
    assert!(made.catalog.has(SeriesId(2)));
    assert_eq!(made.catalog.left().len(), 14);
}

#[test]
fn series_that_left_and_has_rows_is_refused() {
    let mut names = Names::default();
    names.series_with_rows(CPU, SeriesId(2), &key("a")).unwrap();
    names.definition(&Definition::Left { first: SeriesId(1), count: 2 }).unwrap();
    assert!(names.check().unwrap_err().to_string().contains("series 2 has rows, and has left"));
}

#[test]
fn one_key_under_two_ids_with_rows_is_refused() {
    let mut names = Names::default();
    names.series_with_rows(CPU, SeriesId(0), &key("a")).unwrap();
    names.series_with_rows(CPU, SeriesId(1), &key("a")).unwrap();
    assert_eq!(names.catalog().unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn ids_far_beyond_all_names_are_refused() {
    let mut names = Names::default();
    names.measurement(MeasurementId(u32::MAX - 1), "cpu").unwrap();
    assert_eq!(names.catalog().unwrap_err().kind(), ErrorKind::LimitExceeded);
}
