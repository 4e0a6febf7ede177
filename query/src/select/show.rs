//! SHOW: names of measurements, tags, fields and series.
//!
//! Answers come from schemas and the series index; WHERE may speak of tags and, for the index, of time.

use std::collections::BTreeSet;

use icecore_storage::model::SeriesKey;
use icecore_storage::scan::Schema;

use super::analyze::schemas;
use super::ast::{Counted, NameTest, Page, Show};
use super::filter::Filter;
use super::node::Binder;
use super::scalar::{Cell, row_bytes};
use super::time::{Clock, split_time};
use super::{Context, Table, TableSeries};
use crate::budget::SERIES_MAX;
use crate::keys::each_key;
use crate::{Error, ErrorKind, Result};

/// `SHOW MEASUREMENTS`.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn measurements(context: &Context<'_>, show: &Show) -> Result<Table> {
    let mut rows = Vec::new();
    for schema in wanted(context, show) {
        let is_named = show.names.as_ref().is_none_or(|names| names.accepts(&schema.name));
        if !is_named {
            continue;
        }
        let mut is_found = show.condition.is_none();
        if !is_found {
            each(context, show, &schema, |_| {
                is_found = true;
                Ok(())
            })?;
        }
        if is_found {
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
            each(context, show, &schema, |key| {
                let new = key.tags().iter().filter(|(tag, _)| !keys.contains(&**tag));
                let new: Vec<String> = new.map(|(tag, _)| tag.to_string()).collect();
                keys.extend(new);
                Ok(())
            })?;
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
        let mut pairs: BTreeSet<(String, String)> = BTreeSet::new();
        each(context, show, &schema, |key| {
            for (tag, value) in key.tags().iter().filter(|(tag, _)| is_wanted(tag)) {
                let bytes = 4 * (tag.len() + value.len()) as u64 + row_bytes(2);
                if pairs.insert((tag.to_string(), value.to_string())) {
                    context.budget.charge_bytes(bytes)?;
                }
            }
            Ok(())
        })?;
        let rows = pairs.into_iter().map(|(key, value)| vec![Cell::Text(key), Cell::Text(value)]).collect();
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
        each(context, show, &schema, |key| {
            let name = line_key(key);
            context.budget.charge_bytes(2 * name.len() as u64 + row_bytes(1))?;
            names.insert(name);
            Ok(())
        })?;
    }
    let rows = names.into_iter().map(|name| vec![Cell::Text(name)]).collect();
    table(context, show, vec![(String::new(), vec!["key"], rows)])
}

/// `SHOW ... CARDINALITY`. Columns are named as in InfluxDB, where a count without EXACT is an estimate; here all are exact.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn cardinality(
    context: &Context<'_>,
    what: Counted,
    is_exact: bool,
    show: &Show,
) -> Result<Table> {
    let listed = Show { page: Page::default(), ..show.clone() };
    let mut counts: Vec<(String, usize)> = Vec::new();
    let mut column = "count";
    match what {
        Counted::Series => {
            for schema in wanted(context, &listed) {
                let mut count = 0;
                each(context, &listed, &schema, |_| {
                    count += 1;
                    Ok(())
                })?;
                counts.push((schema.name.to_string(), count));
            }
        }
        Counted::Measurements => {
            let found = measurements(context, &listed)?;
            counts.push((String::new(), found.series.iter().map(|series| series.rows.len()).sum()));
        }
        Counted::TagKeys | Counted::TagValues | Counted::FieldKeys => {
            let found = match what {
                Counted::TagKeys => tag_keys(context, &listed)?,
                Counted::TagValues => tag_values(context, &listed)?,
                _ => field_keys(context, &listed)?,
            };
            counts.extend(found.series.into_iter().map(|series| (series.name, series.rows.len())));
        }
    }
    if !is_exact && matches!(what, Counted::Series | Counted::Measurements) {
        counts = vec![(String::new(), counts.iter().map(|(_, count)| count).sum())];
        column = "cardinality estimation";
    }
    let row = |count: usize| vec![vec![Cell::Int(i64::try_from(count).unwrap_or(i64::MAX))]];
    table(context, show, counts.into_iter().map(|(name, count)| (name, vec![column], row(count))).collect())
}

/// The measurements that a statement speaks of: those of FROM, or all.
fn wanted(context: &Context<'_>, show: &Show) -> Vec<Schema> {
    if show.sources.is_empty() {
        let names = context.scan.measurements();
        return names.iter().filter_map(|name| context.scan.schema(name)).collect();
    }
    schemas(context.scan, &show.sources)
}

/// Hands over the keys of the series of a measurement that pass WHERE, one after the other.
fn each(
    context: &Context<'_>,
    show: &Show,
    schema: &Schema,
    mut sink: impl FnMut(&SeriesKey) -> Result<()>,
) -> Result<()> {
    let split = split_time(show.condition.as_ref(), &Clock::utc(context.now_ns))?;
    let mut binder = Binder::new(schema, Clock::utc(context.now_ns));
    let filter = Filter::bind(&split.rest, &mut binder)?;
    if !filter.row_tests.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "WHERE of a SHOW statement takes tags and time, not fields",
        ));
    }
    let limit = context.budget.limits().series_max;
    let found = context.scan.series_ids(schema.measurement, &filter.matchers, split.range, limit);
    let ids = found.map_err(|error| Error::of_search(SERIES_MAX, error))?;
    context.budget.charge_ids(&ids)?;
    each_key(
        context.scan,
        &ids,
        context.budget,
        |_, key| {
            if filter.accepts_series(key) { sink(key) } else { Ok(()) }
        },
    )
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
