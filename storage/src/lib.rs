//! Storage engine of icecore: bytes on disk, series, time and cells. Synchronous; knows nothing of query
//! languages, HTTP, alerts or configuration files.
//!
//! Rooms, bottom up: [`model`] (values that the whole workspace shares), [`error`], [`clock`] and [`fs`] (the
//! outside world as traits), `codec` (one column encoding per file), [`cells`], `wal`, `memtable`, `series`, `segment`
//! (bytes on disk), [`memory`] (what several databases take together), `manifest`, [`tombstone`] and `version` (what is live), [`scan`] (the narrow read door), the jobs
//! (`flush`, `compact`, `rollup`, `delete`, `retention`, `expiry`, `recovery`, `snapshot`) (whose halves run on two threads: `pipeline`; at which rate: `pace`) and [`engine`], the only door for writers. [`check`],
//! [`inspect`], [`quarantine`] and [`rebuild`] look at a directory that no engine has open.

mod applied;
pub mod cell_set;
pub mod cells;
pub mod check;
pub mod clock;
pub mod codec;
mod compact;
mod delete;
mod draft;
pub mod engine;
pub mod error;
mod expiry;
mod flush;
pub mod fs;
pub mod inspect;
pub mod manifest;
pub mod memory;
pub mod memtable;
pub mod model;
pub mod options;
mod pace;
mod pipeline;
pub mod quarantine;
pub mod rebuild;
mod recovery;
mod retention;
mod rolled;
mod rollup;
pub mod rows;
pub mod rules;
pub mod scan;
pub mod segment;
pub mod series;
mod snapshot;
mod sync;
#[cfg(test)]
mod testing;
pub mod tombstone;
mod version;
pub mod wal;

pub use engine::Engine;
pub use error::{Error, ErrorKind, Result};
