//! A view over rows in vectors, for tests. Raw rows before a time can be declared gone, as by retention: then
//! windows still answer (rounded) and rows do not.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore_storage::Result;
use icecore_storage::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, Partial, RowBlock, SeriesId, SeriesKey, Tier,
    TimeRange, Value, Values,
};
use icecore_storage::scan::{
    Coverage, FieldInfo, Flow, Meter, RowRequest, SampleRequest, SampleSlice, Scan, Schema, SeriesInfo,
    TagMatcher, WindowRequest, WindowSlice,
};

/// One row: series, time, fields.
struct TestRow {
    series: SeriesId,
    ts_ns: i64,
    fields: BTreeMap<FieldId, Value>,
}

/// The view.
#[derive(Default)]
pub(crate) struct TestScan {
    schemas: BTreeMap<String, Schema>,
    series: Vec<Arc<SeriesKey>>,
    rows: Vec<TestRow>,
    pub(crate) raw_gone_before_ns: Option<i64>,
}

impl TestScan {
    /// Writes a row; what is written again is replaced.
    pub(crate) fn push(
        &mut self,
        measurement: &str,
        tags: &[(&str, &str)],
        ts_ns: i64,
        fields: &[(&str, Value)],
    ) {
        let key = Arc::new(SeriesKey::new(measurement, tags.iter().copied()).unwrap());
        let place = self.series.iter().position(|other| *other == key).unwrap_or_else(|| {
            self.series.push(Arc::clone(&key));
            self.series.len() - 1
        });
        let next = MeasurementId(u32::try_from(self.schemas.len()).unwrap());
        let schema = self.schemas.entry(measurement.to_owned()).or_insert_with(|| Schema {
            measurement: next,
            name: measurement.into(),
            fields: Vec::new(),
            tag_keys: Vec::new(),
        });
        for (tag, _) in tags {
            if !schema.tag_keys.iter().any(|other| **other == **tag) {
                schema.tag_keys.push((*tag).into());
                schema.tag_keys.sort();
            }
        }
        let mut row = BTreeMap::new();
        for (name, value) in fields {
            let id = match schema.field(name) {
                Some(field) => field.id,
                None => {
                    let id = FieldId(u16::try_from(schema.fields.len()).unwrap());
                    schema.fields.push(FieldInfo {
                        id,
                        name: (*name).into(),
                        field_type: value.field_type(),
                    });
                    schema.fields.sort_by(|left, right| left.name.cmp(&right.name));
                    id
                }
            };
            row.insert(id, value.clone());
        }
        let series = SeriesId(u32::try_from(place).unwrap());
        match self.rows.binary_search_by_key(&(series, ts_ns), |row| (row.series, row.ts_ns)) {
            Ok(place) => self.rows[place].fields.extend(row),
            Err(place) => self.rows.insert(place, TestRow { series, ts_ns, fields: row }),
        }
    }

    fn field_type(&self, measurement: MeasurementId, field: FieldId) -> FieldType {
        let schema = self.schemas.values().find(|schema| schema.measurement == measurement).unwrap();
        schema.fields.iter().find(|info| info.id == field).unwrap().field_type
    }

    fn rows_of(&self, series: SeriesId) -> impl Iterator<Item = &TestRow> {
        self.rows.iter().filter(move |row| row.series == series)
    }

    fn coverage(&self, start_ns: i64) -> Coverage {
        Coverage {
            raw_gone_before_ns: self.raw_gone_before_ns.filter(|gone| start_ns < *gone),
            ..Coverage::default()
        }
    }
}

impl Scan for TestScan {
    fn measurements(&self) -> Vec<Arc<str>> {
        self.schemas.values().map(|schema| Arc::clone(&schema.name)).collect()
    }

    fn schema(&self, measurement: &str) -> Option<Schema> {
        self.schemas.get(measurement).cloned()
    }

    fn series(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        _range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        let schema = self.schemas.values().find(|schema| schema.measurement == measurement).unwrap();
        let passes = |key: &SeriesKey| {
            key.measurement() == &*schema.name
                && matchers
                    .iter()
                    .all(|matcher| matcher.test.accepts(key.tag(&matcher.key).unwrap_or_default()))
        };
        let found: Vec<_> = (0..)
            .zip(&self.series)
            .filter(|(_, key)| passes(key))
            .map(|(id, key)| SeriesInfo { id: SeriesId(id), key: Arc::clone(key) })
            .collect();
        match found.len() <= limit {
            true => Ok(found),
            false => {
                Err(icecore_storage::Error::new(icecore_storage::ErrorKind::LimitExceeded, "too many series"))
            }
        }
    }

    fn raw_from_ns(&self) -> i64 {
        self.raw_gone_before_ns.unwrap_or(i64::MIN)
    }

    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        Ok(series.iter().map(|id| (*self.series[id.0 as usize]).clone()).collect())
    }

    fn samples(
        &self,
        _request: &SampleRequest<'_>,
        _meter: &dyn Meter,
        _sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        unreachable!("SELECT does not read samples")
    }

    fn windows(
        &self,
        request: &WindowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let field_type = self.field_type(request.measurement, request.field);
        assert!(request.series.is_sorted());
        for (series_idx, series) in request.series.iter().enumerate() {
            let mut partials = vec![Partial::empty(field_type); request.windows.len()];
            for row in self.rows_of(*series) {
                let Some(value) = row.fields.get(&request.field) else { continue };
                for (window, partial) in request.windows.iter().zip(&mut partials) {
                    if window.start_ns <= row.ts_ns && row.ts_ns < window.end_ns {
                        partial.add(row.ts_ns, value.as_ref(), request.wants);
                        meter.charge(1)?;
                    }
                }
            }
            if partials.iter().any(|partial| partial.count() > 0) {
                sink(WindowSlice { series_idx, windows: request.windows, partials: &partials })?;
            }
        }
        let start_ns = request.windows.first().map_or(0, |window| window.start_ns);
        let gone = self.coverage(start_ns).raw_gone_before_ns;
        Ok(Coverage { rounded: gone.map(|_| Tier::M5), ..Coverage::default() })
    }

    fn rows(
        &self,
        request: &RowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        let gone_ns = self.raw_gone_before_ns.unwrap_or(i64::MIN);
        assert!(request.series.is_sorted() && request.fields.is_sorted());
        for series in request.series {
            let wanted = self.rows_of(*series).filter(|row| {
                row.ts_ns >= gone_ns
                    && request.range.contains(row.ts_ns)
                    && request.fields.iter().any(|field| row.fields.contains_key(field))
            });
            let wanted: Vec<_> = wanted.collect();
            // Small blocks, so that tests see block edges.
            for rows in wanted.chunks(3) {
                meter.charge(rows.len() as u64)?;
                let columns = request.fields.iter().map(|field| {
                    let field_type = self.field_type(request.measurement, *field);
                    column(*field, field_type, rows)
                });
                let block = RowBlock {
                    series: rows.iter().map(|row| row.series).collect(),
                    ts_ns: rows.iter().map(|row| row.ts_ns).collect(),
                    columns: columns.collect(),
                };
                if sink(&block)? == Flow::Stop {
                    return Ok(self.coverage(request.range.start_ns));
                }
            }
        }
        Ok(self.coverage(request.range.start_ns))
    }
}

fn column(field: FieldId, field_type: FieldType, rows: &[&TestRow]) -> Column {
    let mut column = Column { key: ColumnKey::value(field), values: Values::new(field_type), valid: None };
    for row in rows {
        let Some(value) = row.fields.get(&field) else {
            column.push_null();
            continue;
        };
        column.push_validity(true);
        match (&mut column.values, value) {
            (Values::F64(values), Value::Float(value)) => values.push(*value),
            (Values::I64(values), Value::Int(value)) => values.push(*value),
            (Values::U64(values), Value::UInt(value)) => values.push(*value),
            (Values::Bool(values), Value::Bool(value)) => values.push(*value),
            (Values::Str(values), Value::Str(value)) => values.push(value),
            (values, _) => values.push_default(),
        }
    }
    column
}
