//! The series catalog: which measurements, fields and series a database has, and the dense ids that stand for them.
//!
//! Knows nothing of the log, segments or queries. Read in this order: [`definition`] (one entry of the catalog and
//! its bytes), [`mod@file`] (entries on disk), `limits` (its bounds), `pool` (many strings in one piece), `dictionary`
//! (the values of a tag and their series), [`postings`] (which series carry a tag value), `keys` (keys as numbers),
//! `digest` and `raw_keys` (raw keys to ids), `names` (raw field names to ids), `state` (everything together, without
//! a lock), `judge` (what may become known), `leaves` (how series leave), [`registry`] (the catalog with its lock), `codes` (the values of one tag of
//! many series), `resolve` (rows of a batch to columns with ids).
//!
//! Order of events: a write resolves its batch, takes the pending definitions, logs both in one frame and applies
//! the columns. A checkpoint writes the definitions after its last mark to a catalog file. An open reads those
//! files, then the log, and defines what it finds; that is idempotent.

mod codes;
pub mod definition;
mod dictionary;
mod digest;
pub mod file;
mod judge;
mod keys;
mod leaves;
mod limits;
mod names;
mod pool;
pub mod postings;
mod raw_keys;
pub mod registry;
mod resolve;
mod state;

pub use definition::Definition;
pub use limits::{CatalogLimits, RefusedRows};
pub use registry::{Catalog, CatalogMark};
pub(crate) use resolve::Admission;

#[cfg(test)]
mod tests;
