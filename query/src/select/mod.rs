//! The SELECT language: InfluxQL's statement for rows, texts, distinct values and tables.
//!
//! Knows nothing of HTTP, JSON or databases other than the one view it is given. In reading order: `ast` (what a
//! statement says), `token` and `parser` (text to statement), `scalar` and `node` (values and bound
//! expressions), `time` and `filter` (conditions), `analyze` (columns and plans), `run` (one SELECT from
//! plan to table), `windows`, `distinct` and `rows` (the ways to read), `aggregate` and `frame` (what they make of
//! it), `raw` (rows as they are), `several` (rows that are picked), `in_order` (what needs them one
//! after the other), `stages` and `finish` (from what was read to the
//! columns and rows of the answer), `subquery` (an answer as a view), `show` and `explain`, and `delete` (which rows a DELETE or DROP
//! means).
//!
//! Life of a SELECT: parse, split the bounds of time from the condition, expand wildcards over the schemas, bind
//! names for each measurement, find its series and group them, read partials (or rows, where the condition or a
//! function needs them), fill, page.

mod aggregate;
mod analyze;
mod ast;
mod delete;
mod distinct;
mod explain;
mod filter;
mod finish;
mod frame;
mod in_order;
mod math;
mod node;
mod parser;
mod raw;
mod rows;
mod run;
mod scalar;
mod several;
mod show;
mod stages;
mod subquery;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod token;
mod windows;

use std::fmt;

use icecore_storage::scan::{Coverage, Resolution, Scan};
use jiff::tz::TimeZone;

pub use ast::{Counted, Delete, Select, Show, Statement};
pub use delete::{Chosen, chosen};
pub use parser::{Binding, Bindings, parse, parse_bound};
pub use scalar::Cell;

use crate::{Budget, Error, ErrorKind, Result};

/// What a statement is executed with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The view of the database.
    pub scan: &'a dyn Scan,
    /// What the statement may use.
    pub budget: &'a Budget,
    /// The value of `now()`.
    pub now_ns: i64,
    /// What to do where raw rows are gone.
    pub resolution: Resolution,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Context")
            .field("budget", self.budget)
            .field("now_ns", &self.now_ns)
            .finish_non_exhaustive()
    }
}

/// The answer to one statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The series, sorted by name and tags.
    pub series: Vec<TableSeries>,
    /// Notes for the reader, such as "window rounded to 5m".
    pub messages: Vec<String>,
    /// What was read.
    pub coverage: Coverage,
    /// The zone that times are to be shown in, where the statement names one.
    pub zone: Option<TimeZone>,
}

/// Rows of one measurement and one combination of tags.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableSeries {
    /// The measurement; for some SHOW statements a fixed word or nothing.
    pub name: String,
    /// The tags of GROUP BY, sorted by key; a tag that the series lack is empty.
    pub tags: Vec<(String, String)>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, one cell per column.
    pub rows: Vec<Vec<Cell>>,
}

/// Executes a statement.
///
/// # Errors
/// `InvalidInput` where names, types and functions do not fit; `Unsupported` for statements that the caller
/// answers (SHOW DATABASES, SHOW RETENTION POLICIES, CREATE, DELETE and DROP); those of the budget and of storage.
pub fn execute(context: &Context<'_>, statement: &Statement) -> Result<Table> {
    match statement {
        Statement::Select(select) => run::select(context, select),
        Statement::ShowMeasurements { show } => show::measurements(context, show),
        Statement::ShowTagKeys { show } => show::tag_keys(context, show),
        Statement::ShowTagValues { show } => show::tag_values(context, show),
        Statement::ShowFieldKeys { show } => show::field_keys(context, show),
        Statement::ShowSeries { show } => show::series(context, show),
        Statement::ShowCardinality { what, is_exact, show } => {
            show::cardinality(context, *what, *is_exact, show)
        }
        Statement::Explain { select, is_executed } => explain::explain(context, select, *is_executed),
        Statement::ShowDatabases
        | Statement::ShowRetentionPolicies { .. }
        | Statement::Delete { .. }
        | Statement::DropDatabase { .. }
        | Statement::CreateDatabase { .. } => Err(Error::new(
            ErrorKind::Unsupported,
            "a statement that changes or lists databases cannot be answered by the view of one database",
        )),
    }
}
