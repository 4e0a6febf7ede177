//! The only door for writers: one engine is one database directory.
//!
//! Write: resolve series, append to the log, sync, apply to the memtable, acknowledge. Read: [`Engine::view`]
//! pins one immutable view. Jobs are stepped from outside ([`Engine::maintain`]), so that a service thread, a
//! test or an embedding program decides when they run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::fs::Fs;
use crate::model::{RowError, WriteBatch};
use crate::options::{Options, Retention};
use crate::scan::Scan;
use crate::{Error, ErrorKind, Result};

/// The outside world of an engine.
#[derive(Debug, Clone)]
pub struct Env {
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Rows kept.
    pub accepted: u64,
    /// Rows refused, by line.
    pub rejected: Vec<RowError>,
}

/// Sizes and counters of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Series known.
    pub series: u64,
    /// Rows accepted since the engine was opened.
    pub rows_written: u64,
    /// Bytes of the memtables.
    pub memtable_bytes: u64,
    /// Bytes of the log files.
    pub wal_bytes: u64,
    /// Files by tier: raw, 1m, 5m, 1h.
    pub segments: [u64; 4],
    /// Bytes of those files, by tier.
    pub segment_bytes: [u64; 4],
    /// Rows (or cells) in those files, by tier.
    pub segment_rows: [u64; 4],
    /// Log records replayed when the engine was opened.
    pub replayed_records: u64,
    /// Bytes of an unacknowledged torn tail that were dropped when the engine was opened.
    pub torn_bytes: u64,
    /// Whether writes are refused after a failed append or sync.
    pub is_poisoned: bool,
}

/// Whether retention heeds its guards (clock jumps, share of files per pass).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Pause when the clock is a day past the newest sample; drop at most a fifth of the files a pass.
    Careful,
    /// Drop all that is past its age.
    Forced,
}

/// What a retention pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Files dropped by tier: raw, 1m, 5m, 1h.
    pub dropped: [u64; 4],
    /// Why nothing more was dropped, when a guard held it back.
    pub paused: Option<String>,
}

/// One database directory, open for writing and reading.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Opens a database directory, creating it with `retention` when it is empty; replays the log.
    ///
    /// # Errors
    /// `Conflict` when the directory holds something else; `Corruption` when acknowledged data is damaged.
    pub fn open(_env: Env, _dir: &Path, _options: Options, _retention: Retention) -> Result<Self> {
        Err(Error::new(ErrorKind::Internal, "not built yet"))
    }

    /// Writes a batch; durable and visible when it returns.
    ///
    /// # Errors
    /// `Unavailable` when memory or disk is short; `Poisoned` after a failed append or sync.
    pub fn write(&self, _batch: &WriteBatch<'_>) -> Result<WriteReport> {
        Err(Error::new(ErrorKind::Internal, "not built yet"))
    }

    /// A consistent view of everything acknowledged so far.
    pub fn view(&self) -> Arc<dyn Scan> {
        std::process::abort()
    }

    /// Blocks until there is background work or the time is up; returns at once after [`Engine::close`].
    pub fn wait_for_work(&self, _wait_max: Duration) {}

    /// Does the background work that is due: flush, roll up, compact, retention.
    ///
    /// # Errors
    /// The first failure; the next call tries again.
    pub fn maintain(&self) -> Result<()> {
        Ok(())
    }

    /// Writes all memtables to segments.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Makes everything durable, sealed, compacted and rolled up, the running hour included.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn seal(&self) -> Result<()> {
        Ok(())
    }

    /// The retention in force.
    pub fn retention(&self) -> Retention {
        Retention::default()
    }

    /// Changes the retention, durably; existing data follows at the next pass.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_retention(&self, _retention: Retention) -> Result<()> {
        Ok(())
    }

    /// Drops what is past its age.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn apply_retention(&self, _guard: Guard) -> Result<RetentionReport> {
        Ok(RetentionReport::default())
    }

    /// Sizes and counters.
    pub fn stats(&self) -> EngineStats {
        EngineStats::default()
    }

    /// Flushes and closes the log; later writes are refused. Idempotent.
    ///
    /// # Errors
    /// Those of the file system; the log then still holds what was not flushed.
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}
