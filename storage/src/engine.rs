//! The only door for writers: one engine is one database directory.
//!
//! - Write ([`Engine::write`]): resolve series, append to the log, sync, apply to the memtable, acknowledge.
//! - Read ([`Engine::view`]): pins one immutable version.
//! - Jobs ([`Engine::maintain`], [`Engine::seal`]) are stepped from outside, so that a service thread, a test or an
//!   embedding program decides when they run. One job runs at a time, under the `jobs` lock.
//!
//! Lock order: `jobs`, then the log's own lock, then the lock of batch application, then the version slot and the
//! memtable's. No lock is held across I/O except `jobs` and the log's. Nothing after the append of a write can fail
//! it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::compact;
use crate::delete;
pub use crate::delete::DeleteReport;
use crate::flush;
use crate::manifest::Manifest;
use crate::memtable::Memtable;
use crate::model::{
    DAY_NS, MINUTE_NS, MeasurementId, RowBlock, RowError, SECOND_NS, SeriesSet, TIMESTAMP_MAX, TIMESTAMP_MIN,
    Tier, TimeRange, WriteBatch, ceil_to, floor_to,
};
use crate::options::{Durability, Options, Retention};
use crate::recovery::{self, Recovered};
use crate::retention;
pub use crate::retention::{Guard, RetentionReport};
use crate::rolled::RawSegment;
use crate::rollup::{self, PickSettings};
use crate::scan::{Scan, view::View};
use crate::segment::Segment;
use crate::series::CatalogMark;
pub use crate::snapshot::SnapshotReport;
use crate::snapshot::{self, Moment};
pub use crate::version::Env;
use crate::version::{Edit, Frozen, Store, wal_dir};
use crate::wal::{self, GroupCommit, Hooks};
use crate::{Error, ErrorKind, Result};

/// How long after its end a partition still expects late rows before it is sealed.
const LATENESS_NS: i64 = 10 * MINUTE_NS;

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
    /// Deletes whose rows are hidden and not purged yet.
    pub tombstones: u64,
    /// Log records replayed when the engine was opened.
    pub replayed_records: u64,
    /// Bytes of an unacknowledged torn tail that were dropped when the engine was opened.
    pub torn_bytes: u64,
    /// Reads of damaged pages since the engine was opened, by queries and jobs.
    pub corrupt_reads: u64,
    /// Whether writes are refused after a failed append or sync.
    pub is_poisoned: bool,
    /// By the name of each option that bounds writes: rows (of the catalog's bounds) or batches refused.
    pub limit_hits: Vec<(&'static str, u64)>,
}

/// Rows of a batch, by measurement.
type Blocks = Vec<(MeasurementId, RowBlock)>;

/// State of the jobs.
#[derive(Debug)]
struct Jobs {
    manifest: Manifest,
    mark: CatalogMark,
    retention_ran_ns: i64,
    /// Monotonic time of the newest flush since the engine was opened.
    flushed_ns: Option<i64>,
    /// Nothing names the directory any more: no job may touch it.
    is_retired: bool,
    /// Raw segments that a job found damaged. Their partitions are left to retention: a segment never changes, so
    /// that trying again could only fail again, and hold up what else there is to do.
    damaged: BTreeSet<u64>,
}

impl Jobs {
    /// Whether a job may read these segments.
    fn may_read(&self, inputs: &[u64]) -> bool {
        !inputs.iter().any(|id| self.damaged.contains(id))
    }

    /// After a job failed for damage: finds out which of its inputs are damaged.
    fn note_damage(&mut self, store: &Store, inputs: &[u64], outcome: &Result<()>) {
        if !matches!(outcome, Err(error) if error.kind() == ErrorKind::Corruption) {
            return;
        }
        let version = store.version();
        let inputs = version.segments.iter().filter(|live| inputs.contains(&live.meta.id));
        let damaged = inputs.filter(|live| live.segment.verify().is_err());
        self.damaged.extend(damaged.map(|live| live.meta.id));
    }
}

/// What holds files of a retired engine.
#[derive(Debug)]
pub struct Retired(Vec<Weak<Segment>>);

impl Retired {
    /// Whether no view reads a file of it any more, so that its directory may be removed.
    pub fn is_unused(&self) -> bool {
        self.0.iter().all(|segment| segment.strong_count() == 0)
    }
}

/// One database directory, open for writing and reading.
pub struct Engine {
    store: Arc<Store>,
    log: GroupCommit<Blocks>,
    jobs: Mutex<Jobs>,
    /// Guards nothing but the waiting: work and memory are looked at anew after each signal.
    gate: Mutex<()>,
    has_work: Condvar,
    has_memory: Condvar,
    is_closed: AtomicBool,
    rows_written: AtomicU64,
    memory_refusals: AtomicU64,
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
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Opens a database directory, creating it with `retention` when it is empty; replays the log.
    ///
    /// # Errors
    /// `Conflict` when the directory holds something else; `Corruption` when acknowledged data is damaged.
    pub fn open(env: Env, dir: &Path, options: Options, retention: Retention) -> Result<Self> {
        let Recovered { store, manifest, mark, replay } = recovery::open(env, dir, options, retention)?;
        let env = store.env.clone();
        let (durability, file_bytes_max) = (store.options.durability, store.options.wal_file_bytes_max);
        let writer = wal::Writer::open(Arc::clone(&env.fs), &wal_dir(dir), &replay, file_bytes_max)?;
        let log = GroupCommit::new(writer, durability, Arc::clone(&env.clock));
        let is_empty = store.version().active.is_empty();
        Ok(Self {
            store: Arc::new(store),
            log,
            jobs: Mutex::new(Jobs {
                manifest,
                mark,
                retention_ran_ns: i64::MIN,
                flushed_ns: None,
                is_retired: false,
                damaged: BTreeSet::new(),
            }),
            gate: Mutex::new(()),
            has_work: Condvar::new(),
            has_memory: Condvar::new(),
            is_closed: AtomicBool::new(false),
            rows_written: AtomicU64::new(0),
            memory_refusals: AtomicU64::new(0),
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
    /// `Unavailable` when memory or disk is short or the engine is closed; `Poisoned` after a failed append or
    /// sync. Nothing of the batch is visible then; it may be sent again.
    pub fn write(&self, batch: &WriteBatch<'_>) -> Result<WriteReport> {
        self.check_open()?;
        self.check_disk()?;
        self.wait_for_memory()?;
        let mut rejected = Vec::new();
        self.store.catalog.tick(self.store.env.clock.monotonic_ns());
        let blocks = self.store.catalog.resolve(batch, self.write_window(), &mut rejected);
        let accepted: u64 = blocks.iter().map(|(_, rows)| rows.len() as u64).sum();
        if accepted > 0 {
            let mut payload = Vec::new();
            if self.store.options.durability != Durability::Memory {
                wal::record::encode_rows(&blocks, &mut payload);
            }
            self.log.commit(&*self.store, payload, blocks)?;
            self.rows_written.fetch_add(accepted, Ordering::Relaxed);
            self.note_rows();
        }
        Ok(WriteReport { accepted, rejected })
    }

    /// A consistent view of everything acknowledged so far: one moment, every batch whole or not at all.
    pub fn view(&self) -> Arc<dyn Scan> {
        Arc::new(View::new(&self.store))
    }

    /// Blocks until there is background work or the time is up; returns at once after [`Engine::close`].
    pub fn wait_for_work(&self, wait_max: Duration) {
        let gate = lock(&self.gate);
        if self.is_closed.load(Ordering::Acquire) || self.is_flush_due() {
            return;
        }
        drop(self.has_work.wait_timeout(gate, wait_max));
    }

    /// Does the background work that is due: sync, flush, compaction, rollup, purge, retention. A job that fails does not
    /// keep the others from running: retention is what frees a full disk.
    ///
    /// # Errors
    /// The first failure; the next call tries again, but for merges and rolls of segments that are damaged: these are
    /// told once.
    pub fn maintain(&self) -> Result<()> {
        let synced = match self.store.options.durability {
            Durability::Interval => self.log.sync(),
            Durability::Fsync | Durability::Memory => Ok(()),
        };
        let mut jobs = self.jobs()?;
        let flushed = self.flush_due(&mut jobs);
        let now_ns = self.store.env.clock.now_ns();
        let receiving = self.receiving_hour(&jobs);
        let compacted = self.compact(&mut jobs, now_ns.saturating_sub(LATENESS_NS), receiving);
        let rolled = self.roll(&mut jobs, false, receiving);
        let purged = self.purge(&mut jobs);
        let retained = self.retain(&mut jobs, now_ns);
        synced.and(flushed).and(compacted).and(rolled).and(purged).and(retained)
    }

    fn flush_due(&self, jobs: &mut Jobs) -> Result<()> {
        if self.is_flush_due() { self.flush_all(jobs) } else { Ok(()) }
    }

    /// Merges what is worth it; the first failure, after all have been tried.
    fn compact(&self, jobs: &mut Jobs, closed_before_ns: i64, receiving: Option<TimeRange>) -> Result<()> {
        let mut outcome = Ok(());
        for merge in compact::pick(&jobs.manifest.segments, closed_before_ns, receiving) {
            if !jobs.may_read(&merge.inputs) {
                continue;
            }
            let merged = compact::run(&self.store, &mut jobs.manifest, &merge);
            jobs.note_damage(&self.store, &merge.inputs, &merged);
            outcome = outcome.and(merged).and(self.flush_due(jobs));
        }
        outcome
    }

    /// The hour that the newest flush ended in, until the next one is overdue.
    fn receiving_hour(&self, jobs: &Jobs) -> Option<TimeRange> {
        let age_ns = self.store.env.clock.monotonic_ns().saturating_sub(jobs.flushed_ns?);
        let is_fresh = age_ns < duration_ns(self.store.options.flush_age);
        rollup::newest_hour(&jobs.manifest.segments).filter(|_| is_fresh)
    }

    /// Takes deleted rows out of the files; the first failure, after all steps have been tried.
    fn purge(&self, jobs: &mut Jobs) -> Result<()> {
        let mut outcome = Ok(());
        for step in delete::pick(&jobs.manifest) {
            let inputs = step.inputs(&jobs.manifest);
            if !jobs.may_read(&inputs) {
                continue;
            }
            let purged = delete::run(&self.store, &mut jobs.manifest, &step);
            jobs.note_damage(&self.store, &inputs, &purged);
            outcome = outcome.and(purged).and(self.flush_due(jobs));
        }
        outcome
    }

    fn retain(&self, jobs: &mut Jobs, now_ns: i64) -> Result<()> {
        if now_ns.saturating_sub(jobs.retention_ran_ns) >= MINUTE_NS || now_ns < jobs.retention_ran_ns {
            jobs.retention_ran_ns = now_ns;
            let report = retention::run(&self.store, &mut jobs.manifest, Guard::Careful)?;
            if let Some(reason) = report.paused {
                tracing::debug!(%reason, "retention paused");
            }
        }
        Ok(())
    }

    /// Writes all memtables to segments.
    ///
    /// # Errors
    /// Those of the file system; the rows are still in memory and in the log.
    pub fn flush(&self) -> Result<()> {
        self.flush_all(&mut *self.jobs()?)
    }

    /// Makes everything durable, compacted and rolled up, the running hour included.
    ///
    /// # Errors
    /// Those of the file system; `Corruption` when a damaged segment kept its partition from being merged or rolled.
    pub fn seal(&self) -> Result<()> {
        let mut jobs = self.jobs()?;
        self.flush_all(&mut jobs)?;
        // A partition that cannot be read does not keep the others from being merged and rolled.
        let compacted = self.compact(&mut jobs, i64::MAX, None);
        let rolled = self.roll(&mut jobs, true, None);
        let purged = self.purge(&mut jobs);
        let live = jobs.manifest.segments.iter().find(|meta| jobs.damaged.contains(&meta.id));
        let left = live.map_or(Ok(()), |meta| {
            let path = self.store.segment_path(meta.id);
            let message = "is damaged; its partition was neither merged nor rolled, see `icecore check`";
            Err(Error::corruption(format!("{} {message}", path.display())))
        });
        compacted.and(rolled).and(purged).and(left)
    }

    /// Deletes the rows of some series in a time range that were acknowledged before: hidden from every later view
    /// and durable when it returns, and purged from the files by the jobs. Views that are open keep them. Deleting
    /// again changes nothing.
    ///
    /// # Errors
    /// `InvalidInput` for an empty range; `LimitExceeded` when too many deletes wait to be purged; `Poisoned` and
    /// `Unavailable` as [`Engine::write`]; those of the file system, and then the delete may or may not have taken
    /// place: it may be repeated.
    pub fn delete(&self, targets: &[SeriesSet], range: TimeRange) -> Result<DeleteReport> {
        if range.is_empty() {
            return Err(Error::invalid("the range of a delete is empty"));
        }
        self.check_open()?;
        if self.log.is_poisoned() {
            // What the log holds behind a failed append is not known, and would come back at the restart.
            return Err(Error::new(ErrorKind::Poisoned, "deletes are refused after a failed append or sync"));
        }
        let mut jobs = self.jobs()?;
        // Afterwards all rows acknowledged before are in segments, and the log does not bring them back.
        self.flush_all(&mut jobs)?;
        // Nor keeps it them: without later writes the file goes now, else with the next flush.
        self.log.end_file()?;
        self.log.release(jobs.manifest.wal_floor)?;
        let report = delete::mark(&self.store, &mut jobs.manifest, targets, range)?;
        drop(jobs);
        drop(lock(&self.gate));
        self.has_work.notify_all();
        Ok(report)
    }

    /// The retention in force.
    pub fn retention(&self) -> Retention {
        self.store.version().retention
    }

    /// Changes the retention, durably; existing data follows at the next pass.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        let mut jobs = self.jobs()?;
        let edit = Edit { retention: Some(retention), ..Edit::default() };
        self.store.commit(&mut jobs.manifest, edit)
    }

    /// Drops what is past its age.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn apply_retention(&self, guard: Guard) -> Result<RetentionReport> {
        retention::run(&self.store, &mut self.jobs()?.manifest, guard)
    }

    /// Writes a second database to `to`, which must not be there, or be empty: everything acknowledged before the
    /// call, and an exact prefix of what is written meanwhile. It is opened like any other. Files are linked, so it
    /// costs an operation a file; on another file system they are copied. Writes and jobs go on.
    ///
    /// # Errors
    /// `Conflict` when something is in the way; those of the file system. `to` is then as it was, or complete.
    pub fn snapshot(&self, to: &Path) -> Result<SnapshotReport> {
        let mut jobs = lock(&self.jobs);
        self.flush_all(&mut jobs)?;
        let moment = Moment { manifest: jobs.manifest.clone(), pin: self.store.version() };
        drop(jobs);
        snapshot::write(&self.store, &moment, to)
    }

    /// Sizes and counters.
    pub fn stats(&self) -> EngineStats {
        let version = self.store.version();
        let mut stats = EngineStats {
            durability: self.store.options.durability,
            series: self.store.catalog.series_count() as u64,
            rows_written: self.rows_written.load(Ordering::Relaxed),
            memtable_bytes: version.memtable_bytes() as u64,
            wal_bytes: self.log.bytes(),
            tombstones: version.tombstones.len() as u64,
            replayed_records: self.replayed_records,
            torn_bytes: self.torn_bytes,
            corrupt_reads: self.store.cache.corrupt_reads(),
            is_poisoned: self.log.is_poisoned(),
            limit_hits: self.limit_hits(),
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
        hits.push(("free_bytes_min", self.disk_refusals.load(Ordering::Relaxed)));
        hits
    }

    /// Flushes and closes the log; later writes are refused. Idempotent.
    ///
    /// # Errors
    /// Those of the file system; the log then still holds what was not flushed.
    pub fn close(&self) -> Result<()> {
        let was_closed = self.is_closed.swap(true, Ordering::AcqRel);
        drop(lock(&self.gate));
        self.has_work.notify_all();
        self.has_memory.notify_all();
        if was_closed || self.log.is_poisoned() {
            return Ok(());
        }
        self.flush()?;
        // A writer that was past the check when the engine closed is in the log alone.
        if self.store.options.durability == Durability::Interval { self.log.sync() } else { Ok(()) }
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

    /// Closes the engine of a database that nothing names any more, without a flush: no job runs afterwards, later
    /// views are empty, and each segment file goes with its last reader. The caller removes the directory.
    pub fn retire(&self) -> Retired {
        self.is_closed.store(true, Ordering::Release);
        drop(lock(&self.gate));
        self.has_work.notify_all();
        self.has_memory.notify_all();
        // A job that is running comes to its end first.
        lock(&self.jobs).is_retired = true;
        let mut segments = Vec::new();
        self.store.publish(|version| segments = version.retire());
        segments.iter().for_each(|segment| segment.remove_when_unused());
        Retired(segments.iter().map(Arc::downgrade).collect())
    }

    fn jobs(&self) -> Result<MutexGuard<'_, Jobs>> {
        let jobs = lock(&self.jobs);
        if jobs.is_retired {
            return Err(Error::new(ErrorKind::Unavailable, "the database is dropped"));
        }
        Ok(jobs)
    }

    /// Timestamps that may be written now. The broken days at both ends of what a timestamp can say are left out:
    /// their partition and hour would have no edge.
    fn write_window(&self) -> TimeRange {
        let version = self.store.version();
        let now_ns = self.store.env.clock.now_ns();
        let mut start_ns = ceil_to(TIMESTAMP_MIN, DAY_NS).max(version.floors_ns[0]);
        if let Some(age) = version.retention.raw {
            start_ns = start_ns.max(now_ns.saturating_sub(duration_ns(age)));
        }
        let future_ns = now_ns.saturating_add(duration_ns(self.store.options.future_max));
        TimeRange::new(start_ns, future_ns.saturating_add(1).min(floor_to(TIMESTAMP_MAX, DAY_NS)))
    }

    fn note_rows(&self) {
        let now_ns = self.store.env.clock.monotonic_ns();
        self.active_since_ns.fetch_min(now_ns, Ordering::AcqRel);
        if self.store.version().active.bytes() >= self.store.options.memtable_bytes_max {
            drop(lock(&self.gate));
            self.has_work.notify_all();
        }
    }

    fn is_flush_due(&self) -> bool {
        let version = self.store.version();
        let options = &self.store.options;
        let since_ns = self.active_since_ns.load(Ordering::Acquire);
        let age_ns = self.store.env.clock.monotonic_ns().saturating_sub(since_ns);
        !version.frozen.is_empty()
            || version.active.bytes() >= options.memtable_bytes_max
            || (!version.active.is_empty() && age_ns >= duration_ns(options.flush_age))
    }

    /// Freezes the active memtable and writes all frozen ones, oldest first. While those of an earlier failure
    /// cannot be written, nothing more is frozen.
    fn flush_all(&self, jobs: &mut Jobs) -> Result<()> {
        if self.log.is_half_applied() {
            let message = "the memtable may hold part of a batch; the log has it whole, for the restart";
            return Err(Error::new(ErrorKind::Poisoned, message));
        }
        self.flush_frozen(jobs)?;
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
        self.flush_frozen(jobs)
    }

    fn flush_frozen(&self, jobs: &mut Jobs) -> Result<()> {
        while let Some(frozen) = self.store.version().frozen.first().cloned() {
            jobs.mark = flush::run(&self.store, &mut jobs.manifest, &frozen, jobs.mark)?;
            jobs.flushed_ns = Some(self.store.env.clock.monotonic_ns());
            drop(lock(&self.gate));
            self.has_memory.notify_all();
            self.log.release(frozen.end_seq)?;
        }
        Ok(())
    }

    fn roll(&self, jobs: &mut Jobs, is_forced: bool, receiving: Option<TimeRange>) -> Result<()> {
        let now_ns = self.store.env.clock.now_ns();
        let raw = jobs.manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw);
        let raw: Vec<RawSegment> = raw.map(RawSegment::from).collect();
        let raw_floor_ns = jobs.manifest.floors_ns[0];
        let settings = PickSettings { lateness_ns: LATENESS_NS, force: is_forced, raw_floor_ns, receiving };
        let mut outcome = Ok(());
        for work in rollup::pick(&raw, &jobs.manifest.rolled, now_ns, settings) {
            if !jobs.may_read(&work.inputs) {
                continue;
            }
            let rolled = rollup::job::run(&self.store, &mut jobs.manifest, &work);
            jobs.note_damage(&self.store, &work.inputs, &rolled);
            outcome = outcome.and(rolled).and(self.flush_due(jobs));
        }
        outcome
    }

    /// Waits until the memtables fit their bound.
    fn wait_for_memory(&self) -> Result<()> {
        let options = &self.store.options;
        let clock = &self.store.env.clock;
        if self.store.version().memtable_bytes() < options.memory_bytes_max {
            return Ok(());
        }
        let start_ns = clock.monotonic_ns();
        let mut gate = lock(&self.gate);
        while self.store.version().memtable_bytes() >= options.memory_bytes_max {
            let waited_ns = clock.monotonic_ns().saturating_sub(start_ns);
            if waited_ns >= duration_ns(options.write_wait_max) || self.is_closed.load(Ordering::Acquire) {
                self.memory_refusals.fetch_add(1, Ordering::Relaxed);
                let max = options.memory_bytes_max;
                let message = format!("memtables are full ({max} bytes, limit memory_bytes_max); try again");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            self.has_work.notify_all();
            let step = Duration::from_millis(50);
            gate = self.has_memory.wait_timeout(gate, step).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
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
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

fn duration_ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
