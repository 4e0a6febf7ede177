//! Query languages of icecore: text in, typed results out, over any [`Scan`](icecore_storage::scan::Scan).
//!
//! Two languages share one budget and one read door: [`promql`] (numbers over time, as Prometheus 3 answers them)
//! and [`select`] (rows, texts and tables, as InfluxQL users type them). This crate knows nothing of files, HTTP
//! or where the data lies.

// The runner of test scripts names the crate as its users do: the example includes it, too.
#[cfg(test)]
extern crate self as icecore_query;

pub mod budget;
pub mod error;
pub mod keys;
pub mod memory;
pub mod promql;
pub mod select;
#[cfg(test)]
mod testing;

pub use budget::{Budget, Limits};
pub use error::{Error, ErrorKind, Result};
pub use memory::MemoryPool;
