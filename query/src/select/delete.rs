//! What a DELETE or DROP means: the series of each measurement and the time. Deletes nothing itself.

use icecore_storage::model::{SeriesSet, TimeRange};

use super::Context;
use super::analyze::schemas;
use super::ast::{Delete, Statement};
use super::filter::Filter;
use super::node::Binder;
use super::time::{Clock, split_time};
use crate::{Error, ErrorKind, Result};

/// The rows that a statement deletes: whole rows of some series in a range of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The series, by measurement.
    pub sets: Vec<SeriesSet>,
    /// The time; it may be empty.
    pub range: TimeRange,
}

/// Finds what a statement deletes.
///
/// # Errors
/// `InvalidInput` where the condition speaks of fields, or of time other than by bounds that AND joins; `Unsupported`
/// for other statements; those of the budget and of storage.
pub fn chosen(context: &Context<'_>, statement: &Statement) -> Result<Chosen> {
    let Statement::Delete { delete } = statement else {
        return Err(Error::new(ErrorKind::Unsupported, "the statement deletes no rows"));
    };
    let split = split_time(delete.condition.as_ref(), &Clock::utc(context.now_ns))?;
    if !delete.takes_time && (split.has_start || split.has_end) {
        let message = "DROP SERIES takes no time in WHERE: DELETE FROM does";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let mut sets = Vec::new();
    for schema in wanted(context, delete) {
        let mut binder = Binder::new(&schema, Clock::utc(context.now_ns));
        let filter = Filter::bind(&split.rest, &mut binder)?;
        if !filter.row_tests.is_empty() {
            let message =
                "WHERE of a statement that deletes takes tags, and time as bounds that AND joins, not fields";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut series = None;
        if !split.rest.is_empty() {
            series = Some(filter.series(context, schema.measurement, split.range, usize::MAX)?);
        }
        context.budget.check_time()?;
        if series.as_ref().is_none_or(|series| !series.is_empty()) {
            sets.push(SeriesSet { measurement: schema.measurement, series });
        }
    }
    Ok(Chosen { sets, range: split.range })
}

fn wanted(context: &Context<'_>, delete: &Delete) -> Vec<icecore_storage::scan::Schema> {
    if delete.sources.is_empty() {
        let names = context.scan.measurements();
        return names.iter().filter_map(|name| context.scan.schema(name)).collect();
    }
    schemas(context.scan, &delete.sources)
}
