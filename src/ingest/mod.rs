//! Bytes of other people's formats into rows. Knows nothing of files, HTTP or the engine.
//!
//! Every decoder hands back [`Decoded`] or points. Read in this order: [`mod@line`] (InfluxDB line protocol, the hot
//! path: borrows from the body), [`time`] (timestamps as texts), [`records`] (what the slower formats share: owned
//! points, one iterator), then `csv`, [`jsonl`] and [`clf`]; [`events`]
//! (JSON over HTTP); `places` tells events with equal times apart. What
//! Prometheus' senders speak: `protobuf` (its wire form), `samples` (portions of bounded memory), [`exemplar`], [`remote`]
//! and [`otlp`].

pub mod clf;
#[cfg(feature = "csv")]
pub mod csv;
pub mod events;
pub mod exemplar;
pub mod jsonl;
pub mod line;
pub mod otlp;
pub(crate) mod places;
pub(crate) mod protobuf;
pub mod records;
pub mod remote;
pub(crate) mod samples;
pub mod time;

pub use crate::point::Decoded;
pub use line::{Precision, decode};
pub use protobuf::Malformed;
pub(crate) use records::stable_hash;
pub use samples::{PORTION_BYTES, Store};
