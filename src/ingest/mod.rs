//! Bytes of other people's formats into rows. Knows nothing of files, HTTP or the engine.
//!
//! Read in this order: this file (what a decoder hands back), [`line`] (InfluxDB line protocol, the hot path:
//! borrows from the body), [`time`] (timestamps as texts), [`records`] (what the slower formats share: owned
//! points, one iterator), then `csv`, [`jsonl`] and [`clf`].

pub mod clf;
#[cfg(feature = "server")]
pub mod csv;
pub mod jsonl;
pub mod line;
pub mod records;
pub mod time;

pub use line::{Precision, decode};

use icecore_storage::model::{RowError, WriteBatch};

/// What a decoder made of a request: the good rows, and why the others were refused.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The rows that were understood, in the order of the request.
    pub batch: WriteBatch<'a>,
    /// The first refused lines, by line number; no more than the limit of the decoder.
    pub rejected: Vec<RowError>,
    /// How many lines were refused in all.
    pub rejected_count: usize,
}
