//! Query languages of icecore: text in, typed results out, over any [`Scan`](icecore_storage::scan::Scan).
//!
//! Two languages share one budget and one read door: [`promql`] (numbers over time, as Prometheus 3 answers them)
//! and [`select`] (rows, texts and tables, as InfluxQL users type them). This crate knows nothing of files, HTTP
//! or where the data lies.

pub mod budget;
pub mod error;
pub mod promql;
pub mod select;

pub use budget::{Budget, Limits};
pub use error::{Error, ErrorKind, Result};
