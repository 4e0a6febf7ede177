//! SHOW: names of measurements, tags, fields and series.
//!
//! Answers come from schemas and the series index; WHERE may speak of tags and, for the index, of time.

use std::collections::BTreeSet;

use icecore_storage::model::SeriesKey;
use icecore_storage::scan::{Schema, SeriesInfo};

use super::analyze::schemas;
use super::ast::{NameTest, Show};
use super::filter::Filter;
use super::node::Binder;
use super::scalar::{Cell, row_bytes};
use super::time::split_time;
use super::{Context, Table, TableSeries};
use crate::{Error, ErrorKind, Result};

/// `SHOW MEASUREMENTS`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn measurements(context: &Context<'_>, show: &Show) -> Result<Table> {
    let mut rows = Vec::new();
    for schema in wanted(context, show) {
        let is_named = show.names.as_ref().is_none_or(|names| names.accepts(&schema.name));
        if is_named && (show.condition.is_none() || !find(context, show, &schema)?.is_empty()) {
            rows.push(vec![text(&schema.name)]);
        }
    }
    table(context, show, vec![("measurements".to_owned(), vec!["name"], rows)])
}

/// `SHOW TAG KEYS`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn tag_keys(context: &Context<'_>, show: &Show) -> Result<Table> {
    let mut tables = Vec::new();
    for schema in wanted(context, show) {
        let mut keys: BTreeSet<String> = BTreeSet::new();
        if show.condition.is_none() {
            keys.extend(schema.tag_keys.iter().map(|key| key.to_string()));
        } else {
            let found = find(context, show, &schema)?;
            keys.extend(found.iter().flat_map(|info| info.key.tags()).map(|(key, _)| key.to_string()));
        }
        let rows = keys.into_iter().map(|key| vec![Cell::Text(key)]).collect();
        tables.push((schema.name.to_string(), vec!["tagKey"], rows));
    }
    table(context, show, tables)
}

/// `SHOW TAG VALUES`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn tag_values(context: &Context<'_>, show: &Show) -> Result<Table> {
    let is_wanted = |key: &str| show.names.as_ref().is_none_or(|names: &NameTest| names.accepts(key));
    let mut tables = Vec::new();
    for schema in wanted(context, show) {
        if !schema.tag_keys.iter().any(|key| is_wanted(key)) {
            continue;
        }
        let found = find(context, show, &schema)?;
        let tags = found.iter().flat_map(|info| info.key.tags());
        let pairs: BTreeSet<_> = tags.filter(|(key, _)| is_wanted(key)).collect();
        let bytes = pairs.iter().map(|(_, value)| 4 * value.len() as u64 + row_bytes(2)).sum();
        context.budget.charge_bytes(bytes)?;
        let rows = pairs.into_iter().map(|(key, value)| vec![text(key), text(value)]).collect();
        tables.push((schema.name.to_string(), vec!["key", "value"], rows));
    }
    table(context, show, tables)
}

/// `SHOW FIELD KEYS`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn field_keys(context: &Context<'_>, show: &Show) -> Result<Table> {
    let tables = wanted(context, show).into_iter().map(|schema| {
        let fields = schema.fields.iter();
        let rows = fields.map(|field| vec![text(&field.name), text(field.field_type.name())]).collect();
        (schema.name.to_string(), vec!["fieldKey", "fieldType"], rows)
    });
    table(context, show, tables.collect())
}

/// `SHOW SERIES`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn series(context: &Context<'_>, show: &Show) -> Result<Table> {
    let mut names = BTreeSet::new();
    for schema in wanted(context, show) {
        for info in find(context, show, &schema)? {
            let name = line_key(&info.key);
            context.budget.charge_bytes(2 * name.len() as u64 + row_bytes(1))?;
            names.insert(name);
        }
    }
    let rows = names.into_iter().map(|name| vec![Cell::Text(name)]).collect();
    table(context, show, vec![(String::new(), vec!["key"], rows)])
}

/// The measurements that a statement speaks of: those of FROM, or all.
fn wanted(context: &Context<'_>, show: &Show) -> Vec<Schema> {
    if show.sources.is_empty() {
        let names = context.scan.measurements();
        return names.iter().filter_map(|name| context.scan.schema(name)).collect();
    }
    schemas(context.scan, &show.sources)
}

/// The series of a measurement that pass WHERE.
fn find(context: &Context<'_>, show: &Show, schema: &Schema) -> Result<Vec<SeriesInfo>> {
    let split = split_time(show.condition.as_ref(), context.now_ns)?;
    let mut binder = Binder::new(schema, context.now_ns);
    let filter = Filter::bind(&split.rest, &mut binder)?;
    if !filter.row_tests.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "WHERE of a SHOW statement takes tags and time, not fields",
        ));
    }
    let limit = context.budget.limits().series_max;
    let mut found = context.scan.series(schema.measurement, &filter.matchers, split.range, limit)?;
    context.budget.charge_infos(&found)?;
    found.retain(|info| filter.accepts_series(&info.key));
    context.budget.check_time()?;
    Ok(found)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// The key as line protocol writes it.
fn line_key(key: &SeriesKey) -> String {
    let mut out = escaped(key.measurement(), &[',', ' ']);
    for (tag, value) in key.tags() {
        out.push(',');
        out.push_str(&escaped(tag, &[',', ' ', '=']));
        out.push('=');
        out.push_str(&escaped(value, &[',', ' ', '=']));
    }
    out
}

fn escaped(text: &str, special: &[char]) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Name, columns and rows of one series of the answer.
type Listing = (String, Vec<&'static str>, Vec<Vec<Cell>>);

/// Pages each series of the answer, drops empty ones and charges the rest.
fn table(context: &Context<'_>, show: &Show, tables: Vec<Listing>) -> Result<Table> {
    let mut series = Vec::new();
    for (name, columns, rows) in tables {
        let rows = show.page.cut(rows);
        context.budget.charge_points((rows.len() * columns.len()) as u64)?;
        if !rows.is_empty() {
            let columns = columns.into_iter().map(str::to_owned).collect();
            series.push(TableSeries { name, tags: Vec::new(), columns, rows });
        }
    }
    Ok(Table { series, ..Table::default() })
}
