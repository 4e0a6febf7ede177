//! The lane of flushes: memtables become segments, in the order in which they were filled. It runs beside the other jobs,
//! so that no long merge or roll keeps memory from being given back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Engine, duration_ns};
use crate::flush;
use crate::memory::Standing;
use crate::memtable::Memtable;
use crate::model::TimeRange;
use crate::options::Durability;
use crate::rollup;
use crate::series::CatalogMark;
use crate::sync::{MutexGuard, PoisonError};
use crate::version::Frozen;
use crate::{Error, ErrorKind, Result};

/// State of the flushes.
#[derive(Debug)]
pub(super) struct Flushes {
    /// How far the catalog is on disk.
    pub(super) mark: CatalogMark,
}

impl Flushes {
    pub(super) fn new(mark: CatalogMark) -> Self {
        Self { mark }
    }
}

impl Engine {
    /// Writes all memtables to segments.
    ///
    /// # Errors
    /// Those of the file system; the rows are still in memory and in the log.
    pub fn flush(&self) -> Result<()> {
        self.flush_all(&mut *self.flushes()?)
    }

    /// Syncs the log at level `interval`, and writes the memtables to segments when they are large or old.
    ///
    /// # Errors
    /// The first failure; the next call tries again.
    pub fn flush_due(&self) -> Result<()> {
        let synced = self.sync_due();
        synced.and(self.flush_memtables_due())
    }

    /// Writes the memtables to segments when they are large or old: [`Engine::flush_due`] without the log.
    ///
    /// # Errors
    /// As [`Engine::flush`].
    pub fn flush_memtables_due(&self) -> Result<()> {
        if self.is_flush_due() { self.flush() } else { Ok(()) }
    }

    /// Syncs the log at level `interval`: [`Engine::flush_due`] without the memtables. It waits for no flush or job, and
    /// for writes no longer than a group of them takes.
    ///
    /// # Errors
    /// `Poisoned` after a failed append or sync.
    pub fn sync_due(&self) -> Result<()> {
        match self.store.options.durability {
            Durability::Interval => self.log.sync(),
            Durability::Fsync | Durability::Memory => Ok(()),
        }
    }

    /// For jobs of the other lane, between two of them: flushes when it is due and nobody does.
    pub(super) fn flush_between(&self) -> Result<()> {
        match self.flushes.try_lock() {
            Ok(mut flushes) if self.is_flush_due() => self.flush_all(&mut flushes),
            _ => Ok(()),
        }
    }

    /// The lane of flushes: until it is let go nothing is flushed elsewhere.
    pub(super) fn flushes(&self) -> Result<MutexGuard<'_, Flushes>> {
        let flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_not_retired()?;
        Ok(flushes)
    }

    /// Freezes the active memtable and writes all frozen ones, oldest first. While those of an earlier failure
    /// cannot be written, nothing more is frozen.
    pub(super) fn flush_all(&self, flushes: &mut Flushes) -> Result<()> {
        let flushed = self.freeze_and_flush(flushes);
        let standing = if flushed.is_ok() { Standing::Able } else { Standing::Stuck };
        self.store.note_flushed(standing);
        flushed
    }

    fn freeze_and_flush(&self, flushes: &mut Flushes) -> Result<()> {
        if self.log.is_half_applied() {
            let message = "the memtable may hold part of a batch; the log has it whole, for the restart";
            return Err(Error::new(ErrorKind::Poisoned, message));
        }
        self.flush_frozen(flushes)?;
        let next = Arc::new(Memtable::new());
        self.log.with_quiet(|next_seq| {
            self.store.publish(|version| {
                if !version.active.is_empty() {
                    let memtable = std::mem::replace(&mut version.active, next);
                    version.frozen.push(Frozen { memtable, end_seq: next_seq });
                }
            });
            self.active_since_ns.store(i64::MAX, Ordering::Release);
        });
        self.flush_frozen(flushes)
    }

    fn flush_frozen(&self, flushes: &mut Flushes) -> Result<()> {
        while let Some(frozen) = self.store.version().frozen.first().cloned() {
            flushes.mark = flush::run(&self.store, &frozen, flushes.mark)?;
            self.flushed_ns.store(self.store.env.clock.monotonic_ns(), Ordering::Relaxed);
            self.has_jobs.store(true, Ordering::Release);
            let released = self.log.release(frozen.end_seq);
            // Who waits for memory, or for a shorter log, looks again.
            self.gate.wake_all();
            released?;
        }
        Ok(())
    }

    /// The hour that the newest flush ended in, until the next one is overdue.
    pub(super) fn receiving_hour(&self) -> Option<TimeRange> {
        let flushed_ns = self.flushed_ns.load(Ordering::Relaxed);
        let age_ns = self.store.env.clock.monotonic_ns().saturating_sub(flushed_ns);
        let is_fresh = flushed_ns != i64::MIN && age_ns < duration_ns(self.store.options.flush_age);
        rollup::newest_hour(&self.store.manifest().segments).filter(|_| is_fresh)
    }
}
