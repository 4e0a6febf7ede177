//! Bytes of other people's formats into rows. Knows nothing of files, HTTP or the engine.
//!
//! Every decoder hands back [`Decoded`] or points. Read in this order: [`mod@line`] (InfluxDB line protocol, the hot
//! path: borrows from the body), [`time`] (timestamps as texts), [`records`] (what the slower formats share: owned
//! points, one iterator), then `csv`, [`jsonl`] and [`clf`]; `places` tells events with equal times apart.

pub mod clf;
#[cfg(feature = "csv")]
pub mod csv;
pub mod jsonl;
pub mod line;
pub(crate) mod places;
pub mod records;
pub mod time;

pub use crate::point::Decoded;
pub use line::{Precision, decode};
pub(crate) use records::stable_hash;
