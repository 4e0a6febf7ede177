//! The rows of an estate as a view that knows no fast way: rows in vectors, handed over one after the other. No files,
//! pages, bounds, codes, cells nor memtables; series have other ids than in the engine, and blocks are short.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore_storage::Result;
use icecore_storage::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, RowBlock, SeriesId, SeriesKey, TimeRange, Value,
    Values,
};
use icecore_storage::scan::{
    Coverage, Flow, Meter, RowRequest, SampleRequest, SampleSlice, Scan, Schema, SeriesInfo, TagMatcher,
    WindowRequest, WindowSlice,
};

/// Rows of a block at most.
const BLOCK_ROWS: usize = 7;

/// Fields by name.
pub(super) type Fields = BTreeMap<&'static str, Value>;

/// One series and its rows by time.
pub(super) struct PlainSeries {
    pub(super) key: Arc<SeriesKey>,
    pub(super) rows: Vec<(i64, Fields)>,
}

/// The view.
pub(super) struct Plain {
    schemas: Vec<Schema>,
    series: Vec<PlainSeries>,
}

impl Plain {
    /// With names and types as the engine has them, which no statement changes.
    pub(super) fn new(engine: &dyn Scan, mut series: Vec<PlainSeries>) -> Self {
        // Any order but that in which the engine saw them.
        series.sort_by(|left, right| right.key.cmp(&left.key));
        let schemas = engine.measurements().iter().filter_map(|name| engine.schema(name)).collect();
        Self { schemas, series }
    }

    /// The name and type of a field.
    fn field(&self, measurement: MeasurementId, field: FieldId) -> (&str, FieldType) {
        let schema = self.schemas.iter().find(|schema| schema.measurement == measurement).unwrap();
        let info = schema.fields.iter().find(|info| info.id == field).unwrap();
        (&info.name, info.field_type)
    }
}

impl Scan for Plain {
    fn measurements(&self) -> Vec<Arc<str>> {
        self.schemas.iter().map(|schema| Arc::clone(&schema.name)).collect()
    }

    fn schema(&self, measurement: &str) -> Option<Schema> {
        self.schemas.iter().find(|schema| &*schema.name == measurement).cloned()
    }

    fn series(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        _range: TimeRange,
        _limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        assert!(matchers.is_empty(), "conditions are tested on rows");
        let schema = self.schemas.iter().find(|schema| schema.measurement == measurement).unwrap();
        let all = (0..).map(SeriesId).zip(&self.series);
        let found = all.filter(|(_, series)| series.key.measurement() == &*schema.name);
        Ok(found.map(|(id, series)| SeriesInfo { id, key: Arc::clone(&series.key) }).collect())
    }

    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        Ok(series.iter().map(|id| (*self.series[id.0 as usize].key).clone()).collect())
    }

    fn samples(
        &self,
        _request: &SampleRequest<'_>,
        _meter: &dyn Meter,
        _sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        unreachable!("SELECT reads no samples")
    }

    fn windows(
        &self,
        _request: &WindowRequest<'_>,
        _meter: &dyn Meter,
        _sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        unreachable!("a condition on rows reads rows")
    }

    fn rows(
        &self,
        request: &RowRequest<'_>,
        _meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage> {
        let fields: Vec<_> = request.fields.iter().map(|id| self.field(request.measurement, *id)).collect();
        for id in request.series {
            let rows = self.series[id.0 as usize].rows.iter().filter(|(ts_ns, row)| {
                request.range.contains(*ts_ns) && fields.iter().any(|(name, _)| row.contains_key(name))
            });
            for rows in rows.collect::<Vec<_>>().chunks(BLOCK_ROWS) {
                let columns = request.fields.iter().zip(&fields);
                let block = RowBlock {
                    series: vec![*id; rows.len()],
                    ts_ns: rows.iter().map(|(ts_ns, _)| *ts_ns).collect(),
                    columns: columns.map(|(id, field)| column(*id, *field, rows)).collect(),
                };
                if sink(&block)? == Flow::Stop {
                    return Ok(Coverage::default());
                }
            }
        }
        Ok(Coverage::default())
    }
}

fn column(id: FieldId, (name, field_type): (&str, FieldType), rows: &[&(i64, Fields)]) -> Column {
    let mut column = Column { key: ColumnKey::value(id), values: Values::new(field_type), valid: None };
    for (_, row) in rows {
        let Some(value) = row.get(name) else {
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
            (_, value) => panic!("{name} is no {value:?}"),
        }
    }
    column
}
