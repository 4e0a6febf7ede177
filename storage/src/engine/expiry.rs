//! Series leave the catalog when their rows are gone from every layer, from memory and from the log.
//!
//! Order: ids that no segment names ([`expiry::take_named`]; meanwhile no job drops or merges any); the lane of flushes,
//! and segments that it made meanwhile; a moment without writers, so that nobody is between resolving a row and applying
//! it; ids that have no row in a memtable, and so none in the log behind its floor, leave; then they are swept from the
//! catalog's tables while writers go on; a catalog file says so and the manifest names it. From the quiet moment on a key
//! that is written again gets a new id, and the log has the leave before that: a crash at any time finds the series there
//! or gone, and never half. Why: `docs/decisions/0007-how-series-expire.md`.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use roaring::RoaringBitmap;

use super::Engine;
use super::jobs::Jobs;
use crate::model::HOUR_NS;
use crate::sync::PoisonError;
use crate::{Result, expiry, flush};

/// Looks are so far apart: each may read the series tables of all segments.
const LOOK_NS: i64 = HOUR_NS;

impl Engine {
    /// Lets series leave whose rows are gone: they are not listed, do not count, and get a new id when they are written
    /// again. Tells how many left. [`Engine::run_jobs`] does so once an hour when something was dropped.
    ///
    /// # Errors
    /// Those of the file system; `Corruption` of a segment. Nothing left then, or it is not on disk yet: the next flush
    /// brings it there.
    pub fn expire(&self) -> Result<u64> {
        self.expire_now(&*self.jobs()?)
    }

    /// As [`Engine::expire`] when it is time.
    pub(super) fn expire_due(&self, jobs: &mut Jobs) -> Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let now_ns = self.store.env.clock.monotonic_ns();
        let looked_ns = *jobs.expiry_looked_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(looked_ns) < LOOK_NS || !self.store.has_dropped.load(Ordering::Acquire) {
            return Ok(());
        }
        jobs.expiry_looked_ns = Some(now_ns);
        self.expire_now(jobs).map(|_| ())
    }

    fn expire_now(&self, jobs: &Jobs) -> Result<u64> {
        if self.store.version().segments.iter().any(|live| !jobs.may_read(&[live.meta.id])) {
            // What a damaged segment names cannot be told: the look is still due when it is gone.
            return Ok(0);
        }
        let had_dropped = self.store.has_dropped.swap(false, Ordering::AcqRel);
        let expired = self.expire_unnamed();
        if expired.is_err() {
            self.store.has_dropped.fetch_or(had_dropped, Ordering::AcqRel);
        }
        expired
    }

    fn expire_unnamed(&self) -> Result<u64> {
        let store = &*self.store;
        let before = store.version();
        store.catalog.shrink();
        // What is not in a catalog file yet was just defined.
        let mark = self.flushes()?.mark;
        let mut ids = store.catalog.living_before(mark);
        // First what is written now: it need not be looked for in files.
        self.take_held(&mut ids);
        expiry::take_named(before.segments.iter(), &mut ids)?;
        if ids.is_empty() && !store.catalog.has_unsaved_leaves() {
            return Ok(0);
        }
        let mut flushes = self.flushes()?;
        let known: BTreeSet<u64> = before.segments.iter().map(|live| live.meta.id).collect();
        let now = store.version();
        expiry::take_named(now.segments.iter().filter(|live| !known.contains(&live.meta.id)), &mut ids)?;
        let left = self.leave(ids);
        store.catalog.sweep();
        // Their names are given back by the next look, when no reader of now asks for them any more.
        store.has_dropped.fetch_or(store.catalog.is_mostly_left(), Ordering::AcqRel);
        if store.catalog.has_unsaved_leaves() {
            flushes.mark = flush::save_catalog(store, flushes.mark)?;
        }
        Ok(left)
    }

    fn take_held(&self, ids: &mut RoaringBitmap) {
        self.store.version().memtables().for_each(|memtable| *ids -= memtable.held(ids));
    }

    /// Lets those of the ids leave that have no rows in memory; tells how many.
    fn leave(&self, mut ids: RoaringBitmap) -> u64 {
        let _quiet = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        if self.log.is_poisoned() {
            // The log may have rows that are not in a memtable, and a restart would bring them.
            return 0;
        }
        self.take_held(&mut ids);
        self.store.catalog.leave(&ids);
        ids.len()
    }
}
