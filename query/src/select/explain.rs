//! EXPLAIN: which series a SELECT reads, and from what; with ANALYZE also what it did read.

use icecore_storage::scan::Coverage;

use super::analyze::{Columns, Plan, Shape, schemas};
use super::ast::{Select, Source};
use super::frame::Frame;
use super::scalar::Cell;
use super::time::{rfc3339, split_time};
use super::{Context, Table, TableSeries, run, windows};
use crate::Result;

/// The plan of a SELECT as lines of text, one for each measurement, innermost statement first.
///
/// # Errors
/// See [`execute`](super::execute).
pub(crate) fn explain(context: &Context<'_>, select: &Select, is_executed: bool) -> Result<Table> {
    let mut lines = Vec::new();
    plan(context, select, &mut lines)?;
    let (mut coverage, mut messages) = (Coverage::default(), Vec::new());
    if is_executed {
        let table = run::select(context, select)?;
        let rows: usize = table.series.iter().map(|series| series.rows.len()).sum();
        let read = &table.coverage;
        let [m1, m5, h1] = read.cells;
        lines.push(format!(
            "read: {} raw rows, cells: {h1} of 1h, {m5} of 5m, {m1} of 1m; {} pages",
            read.rows, read.pages
        ));
        lines.push(format!("answer: {} series, {rows} rows", table.series.len()));
        (coverage, messages) = (table.coverage, table.messages);
    }
    let rows = lines.into_iter().map(|line| vec![Cell::Text(line)]).collect();
    let columns = vec![if is_executed { "EXPLAIN ANALYZE" } else { "QUERY PLAN" }.to_owned()];
    let series = vec![TableSeries { columns, rows, ..TableSeries::default() }];
    Ok(Table { series, messages, coverage, zone: None })
}

fn plan(context: &Context<'_>, select: &Select, lines: &mut Vec<String>) -> Result<()> {
    let queries = select.sources.iter().filter_map(|source| match source {
        Source::Query(query) => Some(query),
        Source::Measurement { .. } => None,
    });
    let mut is_outer = false;
    for query in queries {
        plan(context, query, lines)?;
        is_outer = true;
    }
    if is_outer {
        lines.push("over that answer: in memory".to_owned());
        return Ok(());
    }
    let split = split_time(select.condition.as_ref(), &select.clock(context.now_ns))?;
    let schemas = schemas(context.scan, &select.sources);
    let columns = Columns::of(select, &schemas)?;
    let (start, end) = (rfc3339(split.range.start_ns), rfc3339(split.range.end_ns));
    let range = match (split.has_start, split.has_end) {
        (true, true) => format!("from {start} to {end}"),
        (true, false) => format!("from {start}"),
        (false, true) => format!("to {end}"),
        (false, false) => "of all time".to_owned(),
    };
    for schema in &schemas {
        let plan = Plan::of(select, &columns, &split, schema, context.now_ns)?;
        let limit = context.budget.limits().series_max;
        let series = plan.filter.series(context, schema.measurement, split.range, limit)?.len();
        let frame = Frame {
            range: split.range,
            start_ns: split.range.start_ns,
            has_start: split.has_start,
            interval: select.interval,
            fill: select.fill,
            zone: select.zone.as_ref(),
        };
        let is_alone =
            plan.shape == Shape::Aggregates || (plan.shape == Shape::Selected && select.interval.is_none());
        let way = match is_alone && windows::can_answer(&plan, &frame) {
            true => "cells where they are whole, raw rows elsewhere",
            false => "raw rows",
        };
        lines.push(format!("measurement {}: {series} series {range}, from {way}", schema.name));
    }
    if schemas.is_empty() {
        lines.push("no such measurement".to_owned());
    }
    Ok(())
}
