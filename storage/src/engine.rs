//! The only door for writers: one engine is one database directory.
//!
//! - Write ([`Engine::write`]): resolve series, append to the log, sync, apply to the memtable, acknowledge.
//! - Read ([`Engine::view`]): pins one immutable version.
//! - Jobs are stepped from outside, so that service threads, a test or an embedding program decides when they run
//!   ([`Engine::maintain`] steps all). There are two lanes: flushes (`engine/flushes.rs`), one at a time under the
//!   `flushes` lock, and all else (`engine/jobs.rs`, `engine/steps.rs`), one at a time under the `jobs` lock.
//!
//! Lock order: `jobs`, then `flushes`, then `writing`, then the log's own lock, then that of batch application, then that
//! of the manifest, then the gate, then this engine's share of the memory of all databases, the version slot and the
//! memtable's, then the account of all. No lock is held across I/O except `jobs`, `flushes`,
//! `writing` (shared, by the writes that wait for the log), the log's and the manifest's. Nothing after the append of a
//! write can fail it.

mod expiry;
mod flushes;
mod jobs;
mod late;
mod steps;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use self::flushes::Flushes;
use self::jobs::Jobs;
pub use self::jobs::Retired;
pub use crate::delete::DeleteReport;
use crate::memory::{Gate, Memory, Standing};
use crate::model::{
    DAY_NS, MeasurementId, RowBlock, RowError, SECOND_NS, TIMESTAMP_MAX, TIMESTAMP_MIN, TimeRange,
    WriteBatch, ceil_to, floor_to,
};
use crate::options::{Durability, Options, Retention};
use crate::recovery::{self, Recovered};
pub use crate::retention::{Guard, Hold, RetentionPlan, RetentionReport, TierPlan, plan_directory};
use crate::rules;
use crate::scan::{Scan, view::View};
use crate::series::Admission;
pub use crate::series::RefusedRows;
pub use crate::snapshot::SnapshotReport;
use crate::sync::{Mutex as LaneLock, RwLock};
pub use crate::version::{Env, Seen};
use crate::version::{Store, Version, wal_dir};
use crate::wal::{self, GroupCommit, Hooks};
use crate::{Error, ErrorKind, Result};

/// How long a write that waits for memory goes without a look for it.
const WAIT_STEP: Duration = Duration::from_millis(50);

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
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Series known.
    pub series: u64,
    /// Memory of names and keys, by estimate.
    pub catalog_bytes: u64,
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
    /// Bytes of segments that flushes have written since the engine was opened: raw rows, once.
    pub flushed_bytes: u64,
    /// Bytes that compactions and purges have: raw rows again.
    pub compacted_bytes: u64,
    /// Bytes that rollups have: cells.
    pub rolled_bytes: u64,
    /// Deletes whose rows are hidden and not purged yet.
    pub tombstones: u64,
    /// Nanoseconds that the oldest of these has waited since then, or since the engine was opened.
    pub oldest_delete_ns: u64,
    /// Log records replayed when the engine was opened.
    pub replayed_records: u64,
    /// Bytes of an unacknowledged torn tail that were dropped when the engine was opened.
    pub torn_bytes: u64,
    /// Bytes of decoded pages that are kept; of all engines that share them ([`Engine::open_sharing`]).
    pub cache_bytes: u64,
    /// Looks for a decoded page that found it, since the engine was opened.
    pub cache_hits: u64,
    /// Looks for a decoded page that did not.
    pub cache_misses: u64,
    /// Reads of damaged pages since the engine was opened, by queries and jobs.
    pub corrupt_reads: u64,
    /// Whether writes are refused after a failed append or sync.
    pub is_poisoned: bool,
    /// By the name of each option that bounds writes: rows (of the catalog's bounds) or batches refused.
    pub limit_hits: Vec<(&'static str, u64)>,
    /// Rows that the catalog's bounds refused, by measurement and tag key; some hundred entries at most.
    pub refused: Vec<RefusedRows>,
}

impl EngineStats {
    /// How often a byte of raw rows was written to segments: by flushes, compactions, purges and rollups, over flushes.
    /// 0 before the first flush.
    pub fn write_amplification(&self) -> f64 {
        let written = self.flushed_bytes + self.compacted_bytes + self.rolled_bytes;
        if self.flushed_bytes == 0 { 0.0 } else { written as f64 / self.flushed_bytes as f64 }
    }
}

/// Why writes wait for a flush.
#[derive(Debug, Clone, Copy)]
enum Shortage {
    /// The memtables are full.
    Memory,
    /// Those of all databases together are.
    MemoryOfAll,
    /// The log is.
    Log,
}

/// Rows of a batch, by measurement.
type Blocks = Vec<(MeasurementId, RowBlock)>;

/// One database directory, open for writing and reading.
pub struct Engine {
    store: Arc<Store>,
    log: GroupCommit<Blocks>,
    jobs: LaneLock<Jobs>,
    /// How many wait for it, or are about to, but for seals.
    jobs_awaited: AtomicUsize,
    /// How many seals do.
    seals_awaited: AtomicUsize,
    flushes: LaneLock<Flushes>,
    /// Nothing names the directory any more: no job may touch it.
    is_retired: AtomicBool,
    /// Whether a flush or a delete came to an end since the jobs were last looked for.
    has_jobs: AtomicBool,
    /// Monotonic time since which the oldest delete waits to be purged; `i64::MAX`: none does.
    delete_waits_since_ns: AtomicI64,
    /// Monotonic time of the newest flush since the engine was opened; `i64::MIN` before it.
    flushed_ns: AtomicI64,
    /// Shared by writers, from resolving rows to their being applied. Held alone, for a moment, when series leave.
    writing: RwLock<()>,
    /// Where services wait for work, and writers for memory.
    gate: Arc<Gate>,
    is_closed: AtomicBool,
    rows_written: AtomicU64,
    memory_refusals: AtomicU64,
    memory_of_all_refusals: AtomicU64,
    log_refusals: AtomicU64,
    disk_refusals: AtomicU64,
    /// Monotonic time of the first row in the active memtable; `i64::MAX` while it is empty.
    active_since_ns: AtomicI64,
    /// Monotonic time until which the last look at the free disk space holds, and whether it was enough.
    disk_checked_ns: AtomicI64,
    has_disk: AtomicBool,
    replayed_records: u64,
    torn_bytes: u64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Engine").field("dir", &self.store.dir).finish_non_exhaustive()
    }
}

impl Hooks<Blocks> for Store {
    fn take_definitions(&self) -> Option<Vec<u8>> {
        let definitions = self.catalog.take_pending();
        if definitions.is_empty() {
            return None;
        }
        let mut payload = Vec::new();
        wal::record::encode_definitions(&definitions, &mut payload);
        Some(payload)
    }

    fn apply(&self, items: Vec<(u64, Blocks)>) {
        let active = Arc::clone(&self.version().active);
        for (_, blocks) in &items {
            Store::apply(self, &active, blocks);
        }
        self.note_memory();
    }
}

impl Engine {
    /// Opens a database directory, creating it with `retention` when it is empty; replays the log.
    ///
    /// # Errors
    /// `Conflict` when the directory holds something else; `Corruption` when acknowledged data is damaged.
    pub fn open(env: Env, dir: &Path, options: Options, retention: Retention) -> Result<Self> {
        let memory = Memory::of_one(options.cache_bytes_max);
        Self::open_sharing(env, dir, options, retention, &memory)
    }

    /// As [`Engine::open`], one of several in a process, which keep to the bounds of `memory` together, too, and have one
    /// cache: `cache_bytes_max` of the options is not looked at. The services of all must run: where one takes memory, all
    /// may have to flush.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_sharing(
        env: Env,
        dir: &Path,
        options: Options,
        retention: Retention,
        memory: &Arc<Memory>,
    ) -> Result<Self> {
        let Recovered { store, mark, replay } = recovery::open(env, dir, options, retention, memory)?;
        let env = store.env.clone();
        let (durability, file_bytes_max) = (store.options.durability, store.options.wal_file_bytes_max);
        let is_empty = store.version().active.is_empty();
        let store = Arc::new(store);
        let naming = Arc::clone(&store);
        let name_file = Box::new(move |number| naming.name_log(number));
        let writer =
            wal::Writer::open(Arc::clone(&env.fs), &wal_dir(dir), &replay, file_bytes_max, name_file)?;
        let log = GroupCommit::new(writer, durability, Arc::clone(&env.clock));
        let gate = Arc::default();
        memory.admit(&gate);
        Ok(Self {
            store,
            log,
            jobs: LaneLock::new(Jobs::new()),
            jobs_awaited: AtomicUsize::new(0),
            seals_awaited: AtomicUsize::new(0),
            flushes: LaneLock::new(Flushes::new(mark)),
            is_retired: AtomicBool::new(false),
            has_jobs: AtomicBool::new(true),
            delete_waits_since_ns: AtomicI64::new(i64::MAX),
            flushed_ns: AtomicI64::new(i64::MIN),
            writing: RwLock::new(()),
            gate,
            is_closed: AtomicBool::new(false),
            rows_written: AtomicU64::new(0),
            memory_refusals: AtomicU64::new(0),
            memory_of_all_refusals: AtomicU64::new(0),
            log_refusals: AtomicU64::new(0),
            disk_refusals: AtomicU64::new(0),
            active_since_ns: AtomicI64::new(if is_empty { i64::MAX } else { env.clock.monotonic_ns() }),
            disk_checked_ns: AtomicI64::new(i64::MIN),
            has_disk: AtomicBool::new(true),
            replayed_records: replay.records,
            torn_bytes: replay.torn_bytes,
        })
    }

    /// Writes a batch; at the durability in force and visible when it returns. Rows that cannot be taken are
    /// reported and the others kept.
    ///
    /// # Errors
    /// `Unavailable` when memory is short or the engine is closed; `DiskFull` when disk is short; `Poisoned` after a
    /// failed append or sync. Nothing of the batch is visible then; it may be sent again.
    pub fn write(&self, batch: &WriteBatch<'_>) -> Result<WriteReport> {
        self.check_open()?;
        self.check_disk()?;
        if self.wait_for_memory()? {
            // Jobs and other writers may have used much of it meanwhile.
            self.check_disk()?;
        }
        let mut rejected = Vec::new();
        self.store.catalog.tick(self.store.env.clock.monotonic_ns());
        let writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        let version = self.store.version();
        let now_ns = self.store.env.clock.now_ns();
        let admission = Admission {
            window: self.write_window(&version, now_ns),
            young_ns: rules::young_ns(&version.rule_sets, version.retention, now_ns),
            start_ns: &|key| rules::start_ns(&version.rule_sets, version.retention, now_ns, key),
        };
        let blocks = self.store.catalog.resolve_admitted(batch, &admission, &mut rejected);
        let accepted: u64 = blocks.iter().map(|(_, rows)| rows.len() as u64).sum();
        if accepted > 0 {
            let mut payload = Vec::new();
            if self.store.options.durability != Durability::Memory {
                wal::record::encode_rows(&blocks, &mut payload);
            }
            self.log.commit(&*self.store, payload, blocks)?;
            drop(writing);
            self.rows_written.fetch_add(accepted, Ordering::Relaxed);
            self.note_rows();
        }
        Ok(WriteReport { accepted, rejected })
    }

    /// A consistent view of everything acknowledged so far: one moment, every batch whole or not at all.
    pub fn view(&self) -> Arc<dyn Scan> {
        Arc::new(View::new(&self.store))
    }

    /// As [`Engine::view`], and what it sees, for [`Engine::same_before_ns`].
    pub fn view_seen(&self) -> (Arc<dyn Scan>, Seen) {
        let view = View::new(&self.store);
        let seen = view.seen();
        (Arc::new(view), seen)
    }

    /// A time before which two views of this engine see the same rows, in whatever files and cells they lie; not more than a
    /// second early where rows come in order. `i64::MIN` when nothing is said: something was hidden or dropped between
    /// them, or the earlier view is the later one. Flushes, merges and rolls change nothing.
    pub fn same_before_ns(&self, earlier: Seen, later: Seen) -> i64 {
        self.store.same_before_ns(earlier, later)
    }

    /// Blocks until a flush is due or the time is up; returns at once after [`Engine::close`]. Tells whether one is due.
    pub fn wait_for_flush(&self, wait_max: Duration) -> bool {
        self.wait(wait_max, || self.is_flush_due());
        self.is_flush_due()
    }

    /// Blocks until there is something for [`Engine::run_jobs`] or the time is up; returns at once after
    /// [`Engine::close`].
    pub fn wait_for_jobs(&self, wait_max: Duration) {
        self.wait(wait_max, || self.has_jobs.load(Ordering::Acquire));
    }

    /// Blocks until [`Engine::close`] or the time is up.
    pub fn wait_for_close(&self, wait_max: Duration) {
        self.wait(wait_max, || false);
    }

    fn wait(&self, wait_max: Duration, is_due: impl Fn() -> bool) {
        self.gate.wait_for_work(wait_max, || !self.is_closed() && !is_due());
    }

    /// What an acknowledged write has survived.
    pub fn durability(&self) -> Durability {
        self.store.options.durability
    }

    /// Sizes and counters.
    pub fn stats(&self) -> EngineStats {
        let version = self.store.version();
        let (cache_hits, cache_misses) = self.store.cache.hits_and_misses();
        let mut stats = EngineStats {
            durability: self.durability(),
            series: self.store.catalog.series_count() as u64,
            catalog_bytes: self.store.catalog.bytes() as u64,
            rows_written: self.rows_written.load(Ordering::Relaxed),
            memtable_bytes: version.memtable_bytes() as u64,
            wal_bytes: self.log.bytes(),
            flushed_bytes: self.store.written.flushed.load(Ordering::Relaxed),
            compacted_bytes: self.store.written.compacted.load(Ordering::Relaxed),
            rolled_bytes: self.store.written.rolled.load(Ordering::Relaxed),
            tombstones: version.tombstones.len() as u64,
            oldest_delete_ns: self.oldest_delete_ns().unwrap_or(0).cast_unsigned(),
            replayed_records: self.replayed_records,
            torn_bytes: self.torn_bytes,
            cache_bytes: self.store.cache.bytes(),
            cache_hits,
            cache_misses,
            corrupt_reads: self.store.cache.corrupt_reads(),
            is_poisoned: self.log.is_poisoned(),
            limit_hits: self.limit_hits(),
            refused: self.store.catalog.refused(),
            ..EngineStats::default()
        };
        for meta in version.segments.iter().map(|live| &live.meta) {
            let tier = meta.tier as usize;
            for (counter, value) in [
                (&mut stats.segments, 1),
                (&mut stats.segment_bytes, meta.bytes),
                (&mut stats.segment_rows, meta.rows),
            ] {
                if let Some(counter) = counter.get_mut(tier) {
                    *counter += value;
                }
            }
        }
        stats
    }

    fn limit_hits(&self) -> Vec<(&'static str, u64)> {
        let mut hits = self.store.catalog.limit_hits();
        hits.push(("memory_bytes_max", self.memory_refusals.load(Ordering::Relaxed)));
        hits.push(("memtables_bytes_max", self.memory_of_all_refusals.load(Ordering::Relaxed)));
        hits.push(("wal_bytes_max", self.log_refusals.load(Ordering::Relaxed)));
        hits.push(("free_bytes_min", self.disk_refusals.load(Ordering::Relaxed)));
        hits
    }

    /// Flushes and closes the log; later writes are refused. A merge, roll or purge that runs is given up; it is done again
    /// when the database is opened. Idempotent.
    ///
    /// # Errors
    /// The first of the file system; the log then still holds what was not flushed, and is synced all the same.
    pub fn close(&self) -> Result<()> {
        let was_closed = self.begin_close();
        // Nobody flushes what is in memory from here on.
        self.store.note_flushed(Standing::Stuck);
        if was_closed || self.log.is_poisoned() {
            return Ok(());
        }
        // The flush may take long, and fail.
        let synced = self.sync_due();
        // What else is running may still commit: it comes to its end first, and soon.
        drop(self.jobs()?);
        let flushed = self.flush();
        self.store.note_flushed(Standing::Stuck);
        // A writer that was past the check when the engine closed is in the log alone.
        synced.and(flushed).and(self.sync_due())
    }

    /// From here on writes are refused and jobs given up; tells whether that was so before.
    fn begin_close(&self) -> bool {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        self.store.pace.stop();
        self.gate.wake_all();
        was_closed
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "the database is closed"));
        }
        Ok(())
    }

    /// Whether writes are refused for good.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Timestamps that may be written now. The broken days at both ends of what a timestamp can say are left out:
    /// their partition and hour would have no edge.
    fn write_window(&self, version: &Version, now_ns: i64) -> TimeRange {
        let mut start_ns = ceil_to(TIMESTAMP_MIN, DAY_NS).max(version.floors_ns[0]);
        if let Some(age) = rules::longest(version.retention, &version.rule_sets).raw {
            start_ns = start_ns.max(now_ns.saturating_sub(duration_ns(age)));
        }
        let future_ns = now_ns.saturating_add(duration_ns(self.store.options.future_max));
        TimeRange::new(start_ns, future_ns.saturating_add(1).min(floor_to(TIMESTAMP_MAX, DAY_NS)))
    }

    fn note_rows(&self) {
        let now_ns = self.store.env.clock.monotonic_ns();
        self.active_since_ns.fetch_min(now_ns, Ordering::AcqRel);
        let version = self.store.version();
        let is_large = version.active.bytes() >= self.store.options.memtable_bytes_max;
        if is_large || self.is_log_long() || self.is_turn(&version) {
            self.gate.wake_workers();
        }
    }

    /// Whether all databases take much memory together, and this one no less than the average of them.
    fn is_turn(&self, version: &Version) -> bool {
        self.store.memory.memtables.is_turn_of(version.memtable_bytes())
    }

    fn is_flush_due(&self) -> bool {
        let version = self.store.version();
        let options = &self.store.options;
        let since_ns = self.active_since_ns.load(Ordering::Acquire);
        let age_ns = self.store.env.clock.monotonic_ns().saturating_sub(since_ns);
        !version.frozen.is_empty()
            || version.active.bytes() >= options.memtable_bytes_max
            || (!version.active.is_empty()
                && (age_ns >= duration_ns(options.flush_age) || self.is_log_long() || self.is_turn(&version)))
    }

    /// Rows may take more in the log than in memory: one in a batch, or one that is written again and again.
    fn is_log_long(&self) -> bool {
        self.store.options.wal_bytes_flush() <= self.log.bytes()
    }

    /// What writes have to wait for a flush for.
    fn shortage(&self) -> Option<Shortage> {
        let version = self.store.version();
        // Without rows in memory there is nothing to wait for: what log there is goes with the next flush.
        let has_rows = !version.active.is_empty() || !version.frozen.is_empty();
        if version.memtable_bytes() >= self.store.options.memory_bytes_max {
            Some(Shortage::Memory)
        } else if self.store.memory.memtables.is_full() {
            Some(Shortage::MemoryOfAll)
        } else if has_rows && self.store.options.wal_bytes_max() <= self.log.bytes() {
            Some(Shortage::Log)
        } else {
            None
        }
    }

    fn refuse(&self, shortage: Shortage) -> Error {
        let options = &self.store.options;
        let message = match shortage {
            Shortage::Memory => {
                self.memory_refusals.fetch_add(1, Ordering::Relaxed);
                format!(
                    "memtables are full ({} bytes, limit memory_bytes_max); try again",
                    options.memory_bytes_max
                )
            }
            Shortage::MemoryOfAll => {
                self.memory_of_all_refusals.fetch_add(1, Ordering::Relaxed);
                let max = self.store.memory.memtables.bytes_max();
                format!(
                    "memtables of all databases are full ({max} bytes, limit memtables_bytes_max); try again"
                )
            }
            Shortage::Log => {
                self.log_refusals.fetch_add(1, Ordering::Relaxed);
                let max = options.wal_bytes_max();
                format!(
                    "the log of what is not flushed is full ({max} bytes, limit wal_bytes_max); try again"
                )
            }
        };
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Waits until memtables and log fit their bounds; tells whether it had to.
    fn wait_for_memory(&self) -> Result<bool> {
        let options = &self.store.options;
        let clock = &self.store.env.clock;
        if self.shortage().is_none() {
            return Ok(false);
        }
        let start_ns = clock.monotonic_ns();
        let mut lasting = None;
        self.gate.wait_for_memory(WAIT_STEP, || {
            let waited_ns = clock.monotonic_ns().saturating_sub(start_ns);
            let is_last = waited_ns >= duration_ns(options.write_wait_max) || self.is_closed();
            let shortage = self.shortage();
            lasting = shortage.filter(|_| is_last);
            is_last || shortage.is_none()
        });
        lasting.map_or(Ok(true), |shortage| Err(self.refuse(shortage)))
    }

    /// Refuses writes while the disk is almost full, so that no append can fail half way. Looks once a second.
    fn check_disk(&self) -> Result<()> {
        let now_ns = self.store.env.clock.monotonic_ns();
        let min = self.store.options.free_bytes_min;
        if now_ns >= self.disk_checked_ns.load(Ordering::Relaxed) {
            let free = self.store.env.fs.free_bytes(&self.store.dir)?;
            self.has_disk.store(free >= min, Ordering::Relaxed);
            self.disk_checked_ns.store(now_ns.saturating_add(SECOND_NS), Ordering::Relaxed);
        }
        if self.has_disk.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.disk_refusals.fetch_add(1, Ordering::Relaxed);
        let message = format!("disk is almost full: less than {min} bytes free (limit free_bytes_min)");
        Err(Error::new(ErrorKind::DiskFull, message))
    }
}

fn duration_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
