//! The engine's jobs: what the background work is, in which order it runs, and what else changes what is live (deletes,
//! snapshots, retention). One job runs at a time, under the `jobs` lock; flushes have a lane of their own beside it
//! (`flushes`). Merges and rolls, the long ones, are in `steps`. The jobs themselves are rooms of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::late::{Late, Receiving};
use super::steps::LATENESS_NS;
use super::{Engine, duration_ns};
use crate::cell_set::CellRule;
use crate::delete::{self, DeleteReport};
use crate::manifest::Manifest;
use crate::model::{MINUTE_NS, SeriesSet, TimeRange};
use crate::options::Retention;
use crate::recovery;
use crate::retention::{self, Guard, RetentionPlan, RetentionReport};
use crate::rules::{self, Rule};
use crate::segment::Segment;
use crate::snapshot::{self, Moment, SnapshotReport};
use crate::sync::{MutexGuard, PoisonError, yield_now};
use crate::tombstone::Tombstone;
use crate::version::{Edit, Store};
use crate::{Error, ErrorKind, Result};

/// A delete that has waited for so long is purged before what else there is to do, and jobs do not keep to their rate
/// until it is.
pub(super) const PURGE_WAIT_MAX_NS: i64 = 10 * MINUTE_NS;

/// So many times a lane that is free is left to others that wait for it: a thread wakes up meanwhile.
const YIELDS_MAX: usize = 1000;

/// So many times a seal makes way: writes bring it more to do meanwhile, and it must come to its end.
const WAYS_MAX: usize = if cfg!(test) { 10 } else { 100 };

/// Who merges and rolls make way for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GiveWay {
    Nobody,
    /// Who waits for the lane, but for seals.
    Waiters,
    /// Who waits for it, and a purge that is due.
    WaitersAndPurge,
}

/// State of the jobs.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) retention_ran_ns: i64,
    /// Monotonic time of the last look for series to leave, or of the first call since the engine was opened.
    pub(super) expiry_looked_ns: Option<i64>,
    /// Segments that a job found damaged. Their partitions are left to retention: a segment never changes, so
    /// that trying again could only fail again, and hold up what else there is to do.
    damaged: BTreeSet<u64>,
    /// Since when each delete waits to be purged, by number of the tombstone: monotonic time, of this life.
    deletes: BTreeMap<u64, i64>,
    /// Monotonic time from which on the oldest of them that no damage holds up has waited for too long.
    purge_due_ns: i64,
    /// Not before this monotonic time, after a purge that failed.
    purge_retry_ns: i64,
    /// Who merges and rolls make way for.
    way: GiveWay,
    /// Merges and rolls since the lane was taken for them.
    pub(super) steps: u64,
    /// Whether some of them are left to do, because they made way.
    pub(super) gave_way: bool,
    /// What comes late for hours that are rolled.
    pub(super) late: Late,
}

impl Jobs {
    /// After opening: no job has run.
    pub(super) fn new() -> Self {
        Self {
            retention_ran_ns: i64::MIN,
            expiry_looked_ns: None,
            damaged: BTreeSet::new(),
            deletes: BTreeMap::new(),
            purge_due_ns: i64::MAX,
            purge_retry_ns: i64::MIN,
            way: GiveWay::Nobody,
            steps: 0,
            gave_way: false,
            late: Late::default(),
        }
    }

    /// Merges and rolls begin.
    fn begin(&mut self, way: GiveWay) {
        (self.way, self.steps, self.gave_way) = (way, 0, false);
    }

    /// Whether a job may read these segments.
    pub(super) fn may_read(&self, inputs: &[u64]) -> bool {
        !inputs.iter().any(|id| self.damaged.contains(id))
    }

    /// After a job failed for damage: finds out which of its inputs are damaged.
    pub(super) fn note_damage(&mut self, store: &Store, inputs: &[u64], outcome: &Result<()>) {
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

impl Engine {
    /// Does the background work that is due, of both lanes, one after the other.
    ///
    /// # Errors
    /// As [`Engine::flush_due`] and [`Engine::run_jobs`]. A lane that fails does not keep the other from running.
    pub fn maintain(&self) -> Result<()> {
        let flushed = self.flush_due();
        let done = self.run_jobs();
        flushed.and(done)
    }

    /// Does the jobs that are due: compaction, rollup, purge, retention, expiry of series. A job that fails does not keep
    /// the others from running: retention is what frees a full disk. Flushes go on beside it in other threads; where there
    /// is none, what falls due is flushed between two jobs. Ends early for who waits for the lane (a delete, a seal); the next call
    /// goes on.
    ///
    /// # Errors
    /// The first failure; the next call tries again, but for merges and rolls of segments that are damaged: these are
    /// told once.
    pub fn run_jobs(&self) -> Result<()> {
        self.let_others_go_first(GiveWay::WaitersAndPurge);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_not_retired()?;
        if self.is_closed() {
            return Ok(());
        }
        self.has_jobs.store(false, Ordering::Release);
        self.note_deletes(&mut jobs);
        let now_ns = self.store.env.clock.now_ns();
        let receiving = self.receiving(&mut jobs);
        jobs.begin(GiveWay::WaitersAndPurge);
        let compacted = self.compact(&mut jobs, now_ns.saturating_sub(LATENESS_NS), &receiving.merges);
        let rolled = self.roll(&mut jobs, false, &receiving.rolls);
        // What gave way is there in the next pass.
        self.has_jobs.fetch_or(jobs.gave_way, Ordering::AcqRel);
        let purged = self.purge(&mut jobs);
        let retained = self.retain(&mut jobs, now_ns);
        let expired = self.expire_due(&mut jobs);
        compacted.and(rolled).and(purged).and(retained).and(expired)
    }

    /// Makes everything durable, compacted and rolled up, the running hour included. Deletes and changes of the retention
    /// take their turn between two of its merges or rolls, a hundred times at most.
    ///
    /// # Errors
    /// Those of the file system; `Corruption` when a damaged segment kept its partition from being merged or rolled;
    /// `DiskFull` when there is no room for a merge; `Unavailable` when the engine is closed meanwhile.
    pub fn seal(&self) -> Result<()> {
        let _hurry = self.store.pace.hurry();
        let mut outcome = Ok(());
        for turn in 0.. {
            // What is due makes way for it, and it does for others, but not for seals.
            self.seals_awaited.fetch_add(1, Ordering::AcqRel);
            let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            self.seals_awaited.fetch_sub(1, Ordering::AcqRel);
            self.check_not_retired()?;
            if turn == 0 {
                self.flush()?;
            }
            jobs.begin(if turn < WAYS_MAX { GiveWay::Waiters } else { GiveWay::Nobody });
            // A partition that cannot be read does not keep the others from being merged and rolled.
            let compacted = self.compact_whole(&mut jobs);
            let rolled = self.roll(&mut jobs, true, &[]);
            outcome = outcome.and(compacted).and(rolled).and(self.check_open());
            if !jobs.gave_way || self.is_closed() {
                outcome = outcome.and(self.purge(&mut jobs)).and(self.check_whole(&jobs));
                break;
            }
            drop(jobs);
            self.let_others_go_first(GiveWay::Waiters);
        }
        outcome
    }

    /// Refuses when a live segment is known to be damaged.
    fn check_whole(&self, jobs: &Jobs) -> Result<()> {
        let manifest = self.store.manifest();
        let live = manifest.segments.iter().find(|meta| jobs.damaged.contains(&meta.id));
        live.map_or(Ok(()), |meta| {
            let path = self.store.segment_path(meta.id);
            let message = "is damaged; its partition was neither merged nor rolled, see `icecore check`";
            Err(Error::corruption(format!("{} {message}", path.display())))
        })
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
        let mut flushes = self.flushes()?;
        // Afterwards all rows acknowledged before are in segments, and the log does not bring them back.
        self.flush_all(&mut flushes)?;
        // Nor keeps it them: without later writes the file goes now, else with the next flush.
        self.log.end_file()?;
        self.log.release(self.store.manifest().wal_floor)?;
        let report = delete::mark(&self.store, targets, range)?;
        self.note_deletes(&mut jobs);
        self.wake_jobs();
        Ok(report)
    }

    /// There is something for [`Engine::run_jobs`].
    fn wake_jobs(&self) {
        self.has_jobs.store(true, Ordering::Release);
        self.gate.wake_workers();
    }

    /// Writes a second database to `to`, which must not be there, or be empty: everything acknowledged before the
    /// call, and an exact prefix of what is written meanwhile. It is opened like any other. Files are linked, so it
    /// costs an operation a file; on another file system they are copied. Writes and jobs go on.
    ///
    /// # Errors
    /// `Conflict` when something is in the way; those of the file system. `to` is then as it was, or complete.
    pub fn snapshot(&self, to: &Path) -> Result<SnapshotReport> {
        let mut flushes = self.flushes()?;
        self.flush_all(&mut flushes)?;
        let (manifest, pin) = self.store.live();
        drop(flushes);
        let moment = Moment { manifest, pin };
        snapshot::write(&self.store, &moment, to)
    }

    /// The retention in force.
    pub fn retention(&self) -> Retention {
        self.store.version().retention
    }

    /// The rules of retention in force, in their order.
    pub fn rules(&self) -> Vec<Rule> {
        self.store.version().rule_sets.last().map(|set| set.rules().to_vec()).unwrap_or_default()
    }

    /// Changes the retention, durably; the rules stay. Existing data follows with the next jobs, which are due at once;
    /// what is gone already does not come back.
    ///
    /// # Errors
    /// Those of the file system, and then either may be in force after a restart: it may be repeated.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        self.change_retention(|_| Ok(Edit { retention: Some(retention), ..Edit::default() }))
    }

    /// Changes the retention and the rules, durably, as [`Engine::set_retention`] does. A series that another rule is the
    /// first to fit now gets nothing back of what was dropped by the one before.
    ///
    /// # Errors
    /// `LimitExceeded` for too many rules, and for too many changes while rows are kept that only some series have lost;
    /// those of the file system, as [`Engine::set_retention`].
    pub fn set_rules(&self, retention: Retention, rules: Vec<Rule>) -> Result<()> {
        self.change_retention(|manifest| {
            let rule_sets = Some(rules::changed(&manifest.rule_sets, rules, manifest.floors_ns)?);
            Ok(Edit { retention: Some(retention), rule_sets, ..Edit::default() })
        })
    }

    /// What the cells of which fields keep, the first that matches. A field that none matches is of the set
    /// [`CellSet::Auto`](crate::cell_set::CellSet::Auto).
    pub fn cell_rules(&self) -> Vec<CellRule> {
        self.store.manifest().cell_rules.to_vec()
    }

    /// Changes the rules for cells, durably. They hold for hours that are rolled from then on, also again, because late
    /// rows or deletes came; cells that are there stay as they are.
    ///
    /// # Errors
    /// `LimitExceeded` for too many rules, `InvalidInput` for names that cannot be; those of the file system, and then
    /// either may be in force after a restart: it may be repeated.
    pub fn set_cell_rules(&self, rules: Vec<CellRule>) -> Result<()> {
        // No roll goes by the one for some of its measurements and by the other for the rest.
        let _jobs = self.jobs()?;
        recovery::set_cell_rules(&self.store, rules)
    }

    fn change_retention(&self, edit: impl FnOnce(&Manifest) -> Result<Edit>) -> Result<()> {
        let mut jobs = self.jobs()?;
        self.store.commit(edit(&self.store.manifest())?)?;
        jobs.retention_ran_ns = i64::MIN;
        drop(jobs);
        self.wake_jobs();
        Ok(())
    }

    /// Drops what is past its age.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn apply_retention(&self, guard: Guard) -> Result<RetentionReport> {
        let jobs = self.jobs()?;
        retention::run(&self.store, guard, &jobs.damaged)
    }

    /// What [`Engine::apply_retention`] would drop now, what holds the rest, and when the next go. Changes nothing.
    ///
    /// # Errors
    /// `Unavailable` when the database is dropped.
    pub fn plan_retention(&self, guard: Guard) -> Result<RetentionPlan> {
        let jobs = self.jobs()?;
        Ok(retention::plan_of(&self.store, guard, &jobs.damaged))
    }

    /// Closes the engine of a database that nothing names any more, without a flush: no job runs afterwards, later
    /// views are empty, and each segment file goes with its last reader. The caller removes the directory.
    pub fn retire(&self) -> Retired {
        self.begin_close();
        // What is running ends first, and nothing runs afterwards.
        let _jobs = self.jobs_lane();
        let _flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_retired.store(true, Ordering::Release);
        let mut segments = Vec::new();
        self.store.publish(|version| segments = version.retire());
        segments.iter().for_each(|segment| segment.remove_when_unused());
        Retired(segments.iter().map(Arc::downgrade).collect())
    }

    /// The lane of the jobs: until it is let go none runs elsewhere. One that runs hurries, and gives way.
    pub(super) fn jobs(&self) -> Result<MutexGuard<'_, Jobs>> {
        let jobs = self.jobs_lane();
        self.check_not_retired()?;
        Ok(jobs)
    }

    fn jobs_lane(&self) -> MutexGuard<'_, Jobs> {
        let _hurry = self.store.pace.hurry();
        self.jobs_awaited.fetch_add(1, Ordering::AcqRel);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.jobs_awaited.fetch_sub(1, Ordering::AcqRel);
        jobs
    }

    /// Refuses jobs once nothing names the directory any more.
    pub(super) fn check_not_retired(&self) -> Result<()> {
        if self.is_retired.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the database is dropped"));
        }
        Ok(())
    }

    /// What more rows are likely to come for.
    fn receiving(&self, jobs: &mut Jobs) -> Receiving {
        let now_ns = self.store.env.clock.monotonic_ns();
        let manifest = self.store.manifest();
        let mut receiving = jobs.late.note(&manifest, now_ns);
        // Retention waits for the cells of rows that are past their age, and a full disk for retention.
        let has_disk = self.has_disk.load(Ordering::Relaxed);
        let raw_from_ns = manifest
            .kept()
            .raw
            .map_or(i64::MIN, |age| self.store.env.clock.now_ns().saturating_sub(duration_ns(age)));
        receiving.rolls.retain(|span| has_disk && raw_from_ns < span.end_ns);
        let hour = self.receiving_hour();
        receiving.merges.extend(hour);
        receiving.rolls.extend(hour);
        receiving
    }

    /// Whether merges and rolls end here: somebody waits for the lane, and there was one at least, or a purge is due, and what is
    /// left of them was chosen among segments that it replaces. They are chosen anew in the next pass.
    pub(super) fn gives_way(&self, jobs: &mut Jobs) -> bool {
        let is_purge_due = || jobs.purge_due_ns <= self.store.env.clock.monotonic_ns();
        let gives_way = (0 < jobs.steps && self.is_awaited(jobs.way))
            || (jobs.way == GiveWay::WaitersAndPurge && is_purge_due());
        jobs.gave_way |= gives_way;
        gives_way
    }

    /// Gives who waits for the lane the time to wake up, and no more: many who come one after the other must not keep the
    /// jobs from running.
    fn let_others_go_first(&self, way: GiveWay) {
        for _ in 0..YIELDS_MAX {
            if !self.is_awaited(way) {
                return;
            }
            yield_now();
        }
    }

    /// Whether somebody waits for the lane of the jobs that one makes way for.
    fn is_awaited(&self, way: GiveWay) -> bool {
        let is_one = |awaited: &AtomicUsize| 0 < awaited.load(Ordering::Acquire);
        match way {
            GiveWay::Nobody => false,
            GiveWay::Waiters => is_one(&self.jobs_awaited),
            GiveWay::WaitersAndPurge => is_one(&self.jobs_awaited) || is_one(&self.seals_awaited),
        }
    }

    /// How long the oldest delete that is not purged has waited in this life; `None` when there is none.
    pub(super) fn oldest_delete_ns(&self) -> Option<i64> {
        let since_ns = self.delete_waits_since_ns.load(Ordering::Acquire);
        (since_ns != i64::MAX).then(|| self.store.env.clock.monotonic_ns().saturating_sub(since_ns))
    }

    /// Keeps the account of the deletes that wait.
    fn note_deletes(&self, jobs: &mut Jobs) {
        let now_ns = self.store.env.clock.monotonic_ns();
        let manifest = self.store.manifest();
        let tombstones = &manifest.tombstones;
        jobs.deletes.retain(|id, _| tombstones.iter().any(|tombstone| tombstone.id == *id));
        for tombstone in tombstones {
            jobs.deletes.entry(tombstone.id).or_insert(now_ns);
        }
        let oldest_ns = jobs.deletes.values().copied().min();
        self.delete_waits_since_ns.store(oldest_ns.unwrap_or(i64::MAX), Ordering::Release);
        let is_free = |one: &&Tombstone| !delete::is_held_up(&manifest, one, &jobs.damaged);
        let free = tombstones.iter().filter(is_free).filter_map(|one| jobs.deletes.get(&one.id));
        let due_ns = free.copied().min().map(|since_ns| since_ns.saturating_add(PURGE_WAIT_MAX_NS));
        jobs.purge_due_ns = due_ns.map_or(i64::MAX, |due_ns| due_ns.max(jobs.purge_retry_ns));
        self.store.pace.hurry_from(jobs.purge_due_ns);
    }

    /// Takes deleted rows out of the files; the first failure, after all steps have been tried.
    fn purge(&self, jobs: &mut Jobs) -> Result<()> {
        let mut outcome = Ok(());
        let manifest = self.store.manifest();
        for step in delete::pick(&manifest) {
            if self.is_closed() {
                break;
            }
            let inputs = step.inputs(&manifest);
            if !jobs.may_read(&inputs) {
                continue;
            }
            let purged = delete::run(&self.store, &step);
            jobs.note_damage(&self.store, &inputs, &purged);
            outcome = outcome.and(purged).and(self.flush_between());
        }
        // After a failure the other jobs have their turn first: retention may free the disk that is missing.
        jobs.purge_retry_ns = match outcome {
            Ok(()) => i64::MIN,
            Err(_) => self.store.env.clock.monotonic_ns().saturating_add(PURGE_WAIT_MAX_NS),
        };
        self.note_deletes(jobs);
        outcome
    }

    fn retain(&self, jobs: &mut Jobs, now_ns: i64) -> Result<()> {
        if now_ns.saturating_sub(jobs.retention_ran_ns) >= MINUTE_NS || now_ns < jobs.retention_ran_ns {
            jobs.retention_ran_ns = now_ns;
            let report = retention::run(&self.store, Guard::Careful, &jobs.damaged)?;
            if let Some(reason) = report.paused {
                tracing::debug!(%reason, "retention paused");
            }
        }
        Ok(())
    }
}
