//! The write-ahead log: what was acknowledged and is not yet in a segment. Knows nothing of memtables
//! and segments; callers tell it what the manifest says: from which sequence number on records still matter, and which
//! file is the newest.
//!
//! Reading order: [`record`] (what a payload says), [`frame`] (how a payload stands in a file), [`reader`] (replay, torn
//! tail or corruption), [`writer`] (append, sync, rotate, release), [`group`] (many threads, one append and one sync).
//! Layout of the files: `docs/format.md`.
//!
//! Order of events: [`replay`] reads everything from the floor, [`Writer::open`] cuts a torn tail off and makes
//! the rest durable, [`GroupCommit`] appends groups, and `release` removes files that segments cover. Each new file is
//! named to the caller, who keeps its number where the next replay finds it.

pub mod frame;
pub mod group;
pub mod reader;
pub mod record;
pub mod writer;

pub use group::{GroupCommit, Hooks};
pub use reader::{Extent, ReplayReport, replay};
pub use record::Record;
pub use writer::Writer;

#[cfg(test)]
mod tests;
