//! icecore.

pub mod ingest;
pub mod point;
