//! SELECT over the answer of a SELECT: `FROM (SELECT ...)`.
//!
//! The answer inside becomes a view like that of a database: its columns are fields, the tags it is grouped by are tags.
//! So the statement outside is executed as any other. As in InfluxDB the statement inside gets the tags and the bounds
//! of time of the one outside, and its interval when it aggregates without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use icecore_storage::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, Partial, RowBlock, SeriesId, SeriesKey, TimeRange,
    Values,
};
use icecore_storage::scan::{
    Coverage, FieldInfo, Flow, Meter, RowRequest, SampleRequest, SampleSlice, Scan, Schema, SeriesInfo,
    TagMatcher, WindowRequest, WindowSlice,
};

use super::aggregate::add_value;
use super::ast::{Compare, Expr, Fill, Function, Name, NameKind, Select, Source};
use super::scalar::Cell;
use super::time::TimeSplit;
use super::{Context, Table, TableSeries, run};
use crate::{Budget, Error, ErrorKind, Result};

/// The answer of the statements inside.
pub(crate) struct Inner {
    pub(crate) rows: InnerRows,
    pub(crate) coverage: Coverage,
    pub(crate) messages: Vec<String>,
}

/// Executes the subqueries of a statement; `None` when it has none.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn run(context: &Context<'_>, outer: &Select, split: &TimeSplit) -> Result<Option<Inner>> {
    let queries = outer.sources.iter().filter_map(|source| match source {
        Source::Query(select) => Some(&**select),
        Source::Measurement { .. } => None,
    });
    let queries: Vec<&Select> = queries.collect();
    if queries.is_empty() {
        return Ok(None);
    }
    let (mut series, mut coverage, mut messages) = (Vec::new(), Coverage::default(), Vec::new());
    for query in queries {
        let Table { series: more, messages: notes, coverage: read, .. } =
            run::select(context, &inherited(query, outer, split))?;
        series.extend(more);
        coverage.absorb(&read);
        messages.extend(notes);
    }
    messages.dedup();
    Ok(Some(Inner { rows: InnerRows::of(series, context.budget)?, coverage, messages }))
}

/// The statement inside, with what it gets from the one outside.
fn inherited(inner: &Select, outer: &Select, split: &TimeSplit) -> Select {
    let mut select = inner.clone();
    select.dimensions.extend(outer.dimensions.iter().cloned());
    select.zone = select.zone.or_else(|| outer.zone.clone());
    let has_call = select.items.iter().any(|item| has_call(&item.expr));
    if has_call {
        select.interval = select.interval.or(outer.interval);
        // Empty buckets would only be filled to be left out again.
        if select.fill == Fill::Null {
            select.fill = Fill::None;
        }
    }
    let bound = |op, time_ns| Expr::Compare {
        op,
        left: Box::new(Expr::Name(Name { text: "time".to_owned(), kind: NameKind::Any, is_quoted: false })),
        right: Box::new(Expr::Integer(time_ns)),
    };
    let start_ns = split.range.start_ns.saturating_sub(looks_back_ns(outer));
    let start = split.has_start.then(|| bound(Compare::Ge, start_ns));
    let end = (split.range.end_ns != TimeRange::ALL.end_ns).then(|| bound(Compare::Lt, split.range.end_ns));
    let conjuncts: Vec<Expr> = select.condition.take().into_iter().chain(start).chain(end).collect();
    select.condition = (!conjuncts.is_empty()).then_some(Expr::All(conjuncts));
    select
}

/// How far before its range a statement looks.
fn looks_back_ns(select: &Select) -> i64 {
    let every_ns = select.interval.map_or(0, |interval| interval.every_ns);
    select.items.iter().map(|item| looks_back(&item.expr, every_ns)).max().unwrap_or(0)
}

fn looks_back(expr: &Expr, every_ns: i64) -> i64 {
    match expr {
        Expr::Call(call) => match call.function {
            Function::Uptime { alive_ns } | Function::Downtime { alive_ns } => alive_ns,
            _ => 0,
        },
        Expr::Transform { function, .. } => {
            i64::try_from(function.buckets_before()).unwrap_or(i64::MAX).saturating_mul(every_ns)
        }
        Expr::Math { args, .. } => args.iter().map(|arg| looks_back(arg, every_ns)).max().unwrap_or(0),
        Expr::Arith { first, rest } => {
            let rest = rest.iter().map(|(_, operand)| looks_back(operand, every_ns)).max().unwrap_or(0);
            looks_back(first, every_ns).max(rest)
        }
        _ => 0,
    }
}

fn has_call(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => !call.function.picks_several(),
        Expr::Transform { of, .. } => has_call(of),
        Expr::Math { args, .. } => args.iter().any(has_call),
        Expr::Arith { first, rest } => has_call(first) || rest.iter().any(|(_, operand)| has_call(operand)),
        _ => false,
    }
}

/// A value and whether it is there.
const CELL_BYTES: u64 = 9;

/// Rows of an answer as a view.
pub(crate) struct InnerRows {
    schemas: BTreeMap<String, Schema>,
    series: Vec<InnerSeries>,
}

struct InnerSeries {
    measurement: MeasurementId,
    key: Arc<SeriesKey>,
    ts_ns: Vec<i64>,
    /// By field.
    columns: Vec<Column>,
}

impl InnerRows {
    fn of(tables: Vec<TableSeries>, budget: &Budget) -> Result<Self> {
        let mut types: BTreeMap<String, BTreeMap<String, FieldType>> = BTreeMap::new();
        let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for table in &tables {
            tags.entry(table.name.clone()).or_default().extend(table.tags.iter().map(|(key, _)| key.clone()));
            let known = types.entry(table.name.clone()).or_default();
            for (place, name) in table.columns.iter().enumerate().skip(1) {
                let cells = table.rows.iter().filter_map(|row| row.get(place));
                for found in cells.filter_map(type_of) {
                    known
                        .entry(name.clone())
                        .and_modify(|known| *known = joined(*known, found))
                        .or_insert(found);
                }
            }
        }
        let mut schemas = BTreeMap::new();
        for (measurement, (name, fields)) in (0..).map(MeasurementId).zip(types) {
            let tag_keys = tags.remove(&name).unwrap_or_default();
            let field = |(place, (name, field_type)): (usize, (String, FieldType))| {
                let id = u16::try_from(place).map(FieldId);
                let id =
                    id.map_err(|_| Error::new(ErrorKind::LimitExceeded, "a subquery has too many columns"))?;
                Ok(FieldInfo { id, name: name.into(), field_type })
            };
            let fields = fields.into_iter().enumerate().map(field).collect::<Result<_>>()?;
            let tag_keys = tag_keys.into_iter().map(Arc::from).collect();
            schemas.insert(name.clone(), Schema { measurement, name: name.into(), fields, tag_keys });
        }
        let series = tables.into_iter().filter_map(|table| {
            let schema = schemas.get(&table.name)?;
            // Each series gets the columns of all.
            let cells = (table.rows.len() as u64 + 8).saturating_mul(schema.fields.len() as u64);
            let charged = budget.charge_bytes(cells.saturating_mul(CELL_BYTES));
            Some(charged.and_then(|()| InnerSeries::of(table, schema)))
        });
        let series = series.collect::<Result<_>>()?;
        Ok(Self { schemas, series })
    }

    /// The schemas of all measurements of the answer, sorted by name.
    pub(crate) fn schemas(&self) -> Vec<Schema> {
        self.schemas.values().cloned().collect()
    }

    /// The earliest time of a row.
    pub(crate) fn first_ns(&self) -> i64 {
        self.series.iter().filter_map(|series| series.ts_ns.first().copied()).min().unwrap_or(i64::MAX)
    }

    fn get(&self, id: SeriesId) -> icecore_storage::Result<&InnerSeries> {
        let unknown = || icecore_storage::Error::new(icecore_storage::ErrorKind::Internal, "no such series");
        self.series.get(id.0 as usize).ok_or_else(unknown)
    }

    fn field_type(&self, measurement: MeasurementId, field: FieldId) -> FieldType {
        let schema = self.schemas.values().find(|schema| schema.measurement == measurement);
        let info = schema.and_then(|schema| schema.fields.iter().find(|info| info.id == field));
        info.map_or(FieldType::Float, |info| info.field_type)
    }
}

/// The type of a column that holds a cell.
fn type_of(cell: &Cell) -> Option<FieldType> {
    match cell {
        Cell::Null => None,
        Cell::Float(_) => Some(FieldType::Float),
        Cell::Time(_) | Cell::Int(_) => Some(FieldType::Int),
        Cell::UInt(_) => Some(FieldType::UInt),
        Cell::Bool(_) => Some(FieldType::Bool),
        Cell::Text(_) => Some(FieldType::Str),
    }
}

/// The type that holds values of both; what does not fit into it is left out.
fn joined(one: FieldType, other: FieldType) -> FieldType {
    match (one, other) {
        _ if one == other => one,
        (FieldType::Str, _) | (_, FieldType::Str) => FieldType::Str,
        _ => FieldType::Float,
    }
}

impl InnerSeries {
    fn of(mut table: TableSeries, schema: &Schema) -> Result<Self> {
        let time_of = |row: &Vec<Cell>| match row.first() {
            Some(Cell::Time(ts_ns)) => *ts_ns,
            _ => 0,
        };
        table.rows.sort_by_key(time_of);
        let tags = table.tags.into_iter().filter(|(_, value)| !value.is_empty());
        let key = SeriesKey::new(&table.name, tags)
            .map_err(|error| Error::new(ErrorKind::InvalidInput, format!("subquery: {error}")))?;
        let columns = schema.fields.iter().map(|field| {
            let place = table.columns.iter().position(|name| **name == *field.name);
            let mut column = Column {
                key: ColumnKey::value(field.id),
                values: Values::new(field.field_type),
                valid: None,
            };
            for row in &table.rows {
                push(&mut column, place.and_then(|place| row.get(place)).unwrap_or(&Cell::Null));
            }
            column
        });
        let columns = columns.collect();
        let ts_ns = table.rows.iter().map(time_of).collect();
        Ok(Self { measurement: schema.measurement, key: Arc::new(key), ts_ns, columns })
    }

    fn rows_in(&self, start_ns: i64, end_ns: i64) -> std::ops::Range<usize> {
        let start = self.ts_ns.partition_point(|ts_ns| *ts_ns < start_ns);
        start..self.ts_ns.partition_point(|ts_ns| *ts_ns < end_ns).max(start)
    }

    fn column(&self, field: FieldId) -> Option<&Column> {
        self.columns.get(usize::from(field.0))
    }
}

fn push(column: &mut Column, cell: &Cell) {
    let number = cell.scalar().number();
    match (&mut column.values, cell) {
        (Values::F64(values), _) if number.is_some() => values.extend(number),
        (Values::I64(values), Cell::Int(value) | Cell::Time(value)) => values.push(*value),
        (Values::U64(values), Cell::UInt(value)) => values.push(*value),
        (Values::Bool(values), Cell::Bool(value)) => values.push(*value),
        (Values::Str(values), Cell::Text(value)) => values.push(value),
        _ => return column.push_null(),
    }
    // The value is there already.
    if let Some(valid) = &mut column.valid {
        valid.push(true);
    }
}

impl Scan for InnerRows {
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
        _limit: usize,
    ) -> icecore_storage::Result<Vec<SeriesInfo>> {
        // The statement inside was under the limit of series.
        let passes = |series: &InnerSeries| {
            let mut matchers = matchers.iter();
            series.measurement == measurement
                && matchers
                    .all(|matcher| matcher.test.accepts(series.key.tag(&matcher.key).unwrap_or_default()))
        };
        let found = (0..).map(SeriesId).zip(&self.series).filter(|(_, series)| passes(series));
        Ok(found.map(|(id, series)| SeriesInfo { id, key: Arc::clone(&series.key) }).collect())
    }

    fn keys(&self, series: &[SeriesId]) -> icecore_storage::Result<Vec<SeriesKey>> {
        series.iter().map(|id| Ok((*self.get(*id)?.key).clone())).collect()
    }

    fn samples(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(SampleSlice<'_>) -> icecore_storage::Result<()>,
    ) -> icecore_storage::Result<Coverage> {
        for (series_idx, id) in request.series.iter().enumerate() {
            let series = self.get(*id)?;
            let rows = series.rows_in(request.range.start_ns, request.range.end_ns);
            let Some(column) = series.column(request.field) else { continue };
            let samples = rows.filter_map(|row| Some((*series.ts_ns.get(row)?, column.number(row)?)));
            let (ts_ns, values): (Vec<i64>, Vec<f64>) = samples.unzip();
            meter.charge(ts_ns.len() as u64)?;
            if !ts_ns.is_empty() {
                sink(SampleSlice { series_idx, ts_ns: &ts_ns, values: &values })?;
            }
        }
        Ok(Coverage::default())
    }

    fn windows(
        &self,
        request: &WindowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> icecore_storage::Result<()>,
    ) -> icecore_storage::Result<Coverage> {
        use icecore_storage::scan::Bounds;
        let field_type = self.field_type(request.measurement, request.field);
        let shift_ns = i64::from(matches!(request.bounds, Bounds::LeftOpen));
        let mut partials = vec![Partial::empty(field_type); request.windows.len()];
        for (series_idx, id) in request.series.iter().enumerate() {
            let series = self.get(*id)?;
            let Some(column) = series.column(request.field) else { continue };
            let mut found = 0;
            for (window, partial) in request.windows.iter().zip(&mut partials) {
                partial.clear();
                let end_ns = window.end_ns.saturating_add(shift_ns);
                for row in series.rows_in(window.start_ns.saturating_add(shift_ns), end_ns) {
                    if let (Some(ts_ns), Some(value)) = (series.ts_ns.get(row), column.get(row)) {
                        add_value(partial, *ts_ns, value, request.wants);
                        found += 1;
                    }
                }
            }
            meter.charge(found)?;
            if 0 < found {
                sink(WindowSlice { series_idx, windows: request.windows, partials: &partials })?;
            }
        }
        Ok(Coverage::default())
    }

    fn rows(
        &self,
        request: &RowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> icecore_storage::Result<Flow>,
    ) -> icecore_storage::Result<Coverage> {
        for id in request.series {
            let series = self.get(*id)?;
            let wanted: Vec<&Column> =
                request.fields.iter().filter_map(|field| series.column(*field)).collect();
            let empty = |column: &&Column| Column {
                key: column.key,
                values: column.values.empty_like(),
                valid: None,
            };
            let mut block = RowBlock {
                series: Vec::new(),
                ts_ns: Vec::new(),
                columns: wanted.iter().map(empty).collect(),
            };
            for row in series.rows_in(request.range.start_ns, request.range.end_ns) {
                if !wanted.iter().any(|column| column.is_valid(row)) {
                    continue;
                }
                block.series.push(*id);
                block.ts_ns.extend(series.ts_ns.get(row));
                for (into, from) in block.columns.iter_mut().zip(&wanted) {
                    into.push_from(from, row);
                }
            }
            meter.charge(block.len() as u64)?;
            if !block.is_empty() && sink(&block)? == Flow::Stop {
                break;
            }
        }
        Ok(Coverage::default())
    }
}
