//! What the larger tests share: rows of several measurements and types, a model of what should be there, and reading
//! everything back.

use super::*;
use crate::model::{FieldType, StatSet, Value};
use crate::scan::{Flow, RowRequest};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TestRow {
    pub(super) measurement: &'static str,
    pub(super) host: &'static str,
    pub(super) ts_ns: i64,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// Value by measurement, host, time and field: the last write of each.
pub(super) type Content = BTreeMap<(String, String, i64, String), Value>;

pub(super) fn add(content: &mut Content, row: &TestRow) {
    for (field, value) in &row.fields {
        let place = (row.measurement.to_owned(), row.host.to_owned(), row.ts_ns, (*field).to_owned());
        content.insert(place, value.clone());
    }
}

/// A generator that only has to be different for each seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

pub(super) fn write(engine: &Engine, rows: &[TestRow]) -> Result<WriteReport> {
    let mut keys = Vec::new();
    for row in rows {
        let mut key = Vec::new();
        SeriesKey::new(row.measurement, [("host", row.host)]).unwrap().encode(&mut key);
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
    engine.write(&batch)
}

/// All rows of one view.
pub(super) fn content(view: &dyn Scan) -> Content {
    try_content(view).unwrap()
}

/// As [`content`], where reads may fail.
pub(super) fn try_content(view: &dyn Scan) -> Result<Content> {
    let mut content = Content::new();
    for measurement in view.measurements() {
        let schema = view.schema(&measurement).unwrap();
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 1000)?;
        let ids: Vec<SeriesId> = series.iter().map(|info| info.id).collect();
        let fields: Vec<FieldId> = schema.fields.iter().map(|field| field.id).collect();
        let request = RowRequest {
            measurement: schema.measurement,
            fields: &fields,
            series: &ids,
            range: TimeRange::ALL,
            bounds: &[],
        };
        let mut sink = |block: &RowBlock| {
            for row in 0..block.len() {
                let info = series.iter().find(|info| info.id == block.series[row]).unwrap();
                for (column, field) in block.columns.iter().zip(&schema.fields) {
                    let Some(value) = column.value(row) else { continue };
                    let host = info.key.tag("host").unwrap().to_owned();
                    let place = (measurement.to_string(), host, block.ts_ns[row], field.name.to_string());
                    assert!(content.insert(place, value).is_none(), "a row is served twice");
                }
            }
            Ok(Flow::Continue)
        };
        view.rows(&request, &Unmetered, &mut sink)?;
        for info in &series {
            let host = info.key.tag("host").unwrap();
            let of_host = content.keys().filter(|(of, name, ..)| **of == *measurement && name == host);
            for ts_ns in of_host.map(|(_, _, ts_ns, _)| *ts_ns).step_by(7) {
                check_is_named(view, (schema.measurement, info.id), TimeRange::new(ts_ns, ts_ns + 1))?;
            }
        }
    }
    Ok(content)
}

/// A series that has something in a range is among those that the view names for it.
fn check_is_named(
    view: &dyn Scan,
    (measurement, series): (MeasurementId, SeriesId),
    range: TimeRange,
) -> Result<()> {
    let named = view.series_ids(measurement, &[], range, 1000)?;
    assert!(named.contains(&series), "series {} is not named for {range:?}, only {named:?}", series.0);
    Ok(())
}

/// The windows of one field of one series; empty where there is no such series.
pub(super) fn windows(
    engine: &Engine,
    (measurement, host, field): (&str, &str, &str),
    windows: &[Window],
    bounds: Bounds,
) -> (Vec<Partial>, crate::scan::Coverage) {
    try_windows(engine, (measurement, host, field), windows, bounds, None).unwrap()
}

/// As [`windows`], of the groups of statistics that are wanted (`None`: all that fields without a rule keep).
pub(super) fn try_windows(
    engine: &Engine,
    (measurement, host, field): (&str, &str, &str),
    windows: &[Window],
    bounds: Bounds,
    wants: Option<StatSet>,
) -> Result<(Vec<Partial>, crate::scan::Coverage)> {
    let view = engine.view();
    let Some(schema) = view.schema(measurement) else { return Ok(Default::default()) };
    let Some(field) = schema.fields.iter().find(|info| &*info.name == field) else {
        return Ok(Default::default());
    };
    let series = view.series(schema.measurement, &[], TimeRange::ALL, 1000)?;
    let Some(series) = series.iter().find(|info| info.key.tag("host") == Some(host)) else {
        return Ok(Default::default());
    };
    let request = WindowRequest {
        measurement: schema.measurement,
        field: field.id,
        series: &[series.id],
        windows,
        bounds,
        wants: wants.unwrap_or(match field.field_type {
            FieldType::Str => StatSet::ALL,
            _ => StatSet::NUMBERS.with(StatSet::HIST),
        }),
        resolution: Resolution::Auto,
    };
    let mut found = Vec::new();
    let mut sink = |slice: crate::scan::WindowSlice<'_>| {
        found = slice.partials.to_vec();
        Ok(())
    };
    let coverage = view.windows(&request, &Unmetered, &mut sink)?;
    for (window, _) in windows.iter().zip(&found).filter(|(_, partial)| 0 < partial.count()) {
        let asked = match bounds {
            Bounds::LeftOpen => {
                TimeRange::new(window.start_ns.saturating_add(1), window.end_ns.saturating_add(1))
            }
            Bounds::RightOpen => TimeRange::new(window.start_ns, window.end_ns),
        };
        check_is_named(&*view, (schema.measurement, series.id), asked)?;
    }
    Ok((found, coverage))
}

/// The rows of a content again, a row for each value.
pub(super) fn rows_of(content: &Content) -> Vec<TestRow> {
    let known = |names: &[&'static str], name: &str| *names.iter().find(|known| **known == name).unwrap();
    let row = |(place, value): (&(String, String, i64, String), &Value)| TestRow {
        measurement: known(&["cpu", "net"], &place.0),
        host: known(&["a", "b", "c"], &place.1),
        ts_ns: place.2,
        fields: vec![(known(&["float", "int", "bool", "text"], &place.3), value.clone())],
    };
    content.iter().map(row).collect()
}

/// Deletes the rows of a measurement, of one host or of all.
pub(super) fn delete(
    engine: &Engine,
    measurement: &str,
    host: Option<&str>,
    range: TimeRange,
) -> Result<DeleteReport> {
    let view = engine.view();
    let Some(schema) = view.schema(measurement) else { return Ok(DeleteReport::default()) };
    let series = host.map(|host| {
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 1000).unwrap();
        let of_host = series.iter().filter(|info| info.key.tag("host") == Some(host));
        of_host.map(|info| info.id).collect::<Vec<_>>()
    });
    if series.as_ref().is_some_and(Vec::is_empty) {
        return Ok(DeleteReport::default());
    }
    engine.delete(&[SeriesSet { measurement: schema.measurement, series }], range)
}

pub(super) fn env(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Env {
    Env {
        fs: Arc::clone(fs) as Arc<dyn crate::fs::Fs>,
        clock: Arc::clone(clock) as Arc<dyn crate::clock::Clock>,
    }
}
