//! What is live: one immutable [`Version`] that readers pin, and the [`Store`] that replaces it.
//!
//! A version lists the memtables (active and frozen), the open segments, the spans that cells answer for, and how
//! far retention has come. Every change goes through [`Store::commit`]: the manifest is replaced first, which is
//! the moment of truth; then the new version is published; then files that nothing names any more are given up
//! (a reader that pinned an older version keeps them readable until it lets go).
//!
//! Commits come one after the other, from two lanes of jobs (`engine`): an [`Edit`] says what a job changes, and is
//! applied to what is live then. Each part of the manifest is changed by one lane only: the floor of the log and the
//! catalog files by flushes, all else but the list of segments by the other jobs. The newest log file is named by who
//! leads a write group ([`Store::name_log`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::applied::Applied;
use crate::cell_set::CellRule;
use crate::clock::Clock;
use crate::fs::Fs;
use crate::manifest::{Manifest, RolledSpan, SegmentMeta};
use crate::memory::{Memory, Share, Standing};
use crate::memtable::{Memtable, Snapshot};
use crate::model::{MeasurementId, RowBlock, Tier, TimeRange};
use crate::options::{Options, Retention};
use crate::pace::Pace;
use crate::rolled::Lost;
use crate::rules::RuleSet;
use crate::segment::{PageCache, Segment};
use crate::series::{Catalog, file as catalog_file};
use crate::sync::{Mutex, PoisonError, RwLock};
use crate::tombstone::{self, Mask, Tombstone};
use crate::{Error, ErrorKind, Result};

/// Subdirectory of segment files.
pub(crate) const SEGMENTS_DIR: &str = "segments";
/// Subdirectory of catalog files.
pub(crate) const SERIES_DIR: &str = "series";
/// Subdirectory of log files.
pub(crate) const WAL_DIR: &str = "wal";

/// Subdirectory of damaged files that an operator took out.
pub(crate) const QUARANTINE_DIR: &str = "quarantine";

/// The outside world of an engine.
#[derive(Debug, Clone)]
pub struct Env {
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A memtable that takes no more rows and waits for its flush.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) memtable: Arc<Memtable>,
    /// First log sequence number after its rows.
    pub(crate) end_seq: u64,
}

/// An open segment with its entry in the manifest.
#[derive(Debug, Clone)]
pub(crate) struct LiveSegment {
    pub(crate) meta: SegmentMeta,
    pub(crate) segment: Arc<Segment>,
}

/// What a view saw: to be compared with what another view of the same engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How often something was hidden or dropped before.
    epoch: u64,
    /// How many batches were applied before.
    batches: u64,
}

/// Everything that is live at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Rises with each change of what readers may see but for new batches: deletes, retention, its rules, a drop.
    epoch: u64,
    pub(crate) active: Arc<Memtable>,
    /// Oldest first.
    pub(crate) frozen: Vec<Frozen>,
    /// By generation, oldest first.
    pub(crate) segments: Vec<LiveSegment>,
    pub(crate) rolled: Vec<RolledSpan>,
    /// What damage has left of the spans.
    pub(crate) lost: Lost,
    pub(crate) floors_ns: [i64; 4],
    pub(crate) retention: Retention,
    pub(crate) tombstones: Arc<[Tombstone]>,
    pub(crate) rule_sets: Arc<[RuleSet]>,
}

impl Version {
    /// The memtables, oldest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        self.frozen.iter().map(|frozen| &frozen.memtable).chain([&self.active])
    }

    /// The segments of a tier, oldest generation first.
    pub(crate) fn of_tier(&self, tier: Tier) -> impl Iterator<Item = &LiveSegment> {
        self.segments.iter().filter(move |live| live.meta.tier == tier)
    }

    /// What is deleted of a measurement in a segment.
    pub(crate) fn mask(&self, measurement: MeasurementId, live: &LiveSegment) -> Mask {
        Mask::of(&self.tombstones, measurement, &live.meta)
    }

    /// Lets go of everything; hands over the segments.
    pub(crate) fn retire(&mut self) -> Vec<Arc<Segment>> {
        self.epoch += 1;
        self.active = Arc::new(Memtable::new());
        self.frozen.clear();
        self.rolled.clear();
        self.tombstones = Arc::default();
        self.segments.drain(..).map(|live| live.segment).collect()
    }

    /// Bytes of all memtables.
    pub(crate) fn memtable_bytes(&self) -> usize {
        self.memtables().map(|memtable| memtable.bytes()).sum()
    }

    /// Hulls of the times in the memtables.
    pub(crate) fn memtable_ranges(&self) -> Vec<TimeRange> {
        self.memtables().filter_map(|memtable| memtable.time_range()).collect()
    }
}

/// A change of what is live.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// Segments to add; their files are complete and durable.
    pub(crate) add: Vec<SegmentMeta>,
    /// Ids of segments to give up.
    pub(crate) remove: Vec<u64>,
    /// New list of rolled spans.
    pub(crate) rolled: Option<Vec<RolledSpan>>,
    /// New floor of the log.
    pub(crate) wal_floor: Option<u64>,
    /// New retention floors.
    pub(crate) floors_ns: Option<[i64; 4]>,
    /// New retention.
    pub(crate) retention: Option<Retention>,
    /// New rules of retention, and what they hide.
    pub(crate) rule_sets: Option<Arc<[RuleSet]>>,
    /// New rules for cells.
    pub(crate) cell_rules: Option<Arc<[CellRule]>>,
    /// New list of catalog files.
    pub(crate) catalog_files: Option<Vec<u64>>,
    /// New list of tombstones, before the segments given up are taken out of them.
    pub(crate) tombstones: Option<Vec<Tombstone>>,
    /// Whether the oldest frozen memtable is covered by the added segments.
    pub(crate) flushed_oldest: bool,
}

/// Bytes of the segment files that the jobs have written since the engine was opened, by the kind of job.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Flushes: raw rows, once.
    pub(crate) flushed: AtomicU64,
    /// Compactions and purges: raw rows again.
    pub(crate) compacted: AtomicU64,
    /// Rollups: cells.
    pub(crate) rolled: AtomicU64,
}

impl Written {
    /// Counts the files that a job wants to add.
    pub(crate) fn count(counter: &AtomicU64, edit: &Edit) {
        counter.fetch_add(edit.add.iter().map(|meta| meta.bytes).sum(), Ordering::Relaxed);
    }
}

/// The numbers of the files that one attempt of a job makes.
#[derive(Debug)]
pub(crate) struct FileNumbers<'a> {
    next: &'a AtomicU64,
    taken: Vec<u64>,
}

impl FileNumbers<'_> {
    /// A number that no file ever had.
    pub(crate) fn take(&mut self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.taken.push(number);
        number
    }
}

/// The directory of a database and what is live in it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) cache: Arc<PageCache>,
    /// What all databases take together.
    pub(crate) memory: Arc<Memory>,
    pub(crate) written: Written,
    /// Whether rows were dropped since the last look for series to leave, or may have been before the start.
    pub(crate) has_dropped: AtomicBool,
    pub(crate) pace: Pace,
    /// Above the number of every file there is.
    next_file: AtomicU64,
    /// What is durably live. Held by a commit from its first look to the publishing.
    manifest: Mutex<Arc<Manifest>>,
    version: RwLock<Arc<Version>>,
    /// What the memtables of the current version take of it. Held while they are measured: no I/O.
    share: Mutex<Share>,
    /// Held while a batch is applied and while a reader notes how far the memtables are: for moments, no I/O.
    applying: Mutex<Applied>,
    /// Numbers of files that a failed commit may have named; nobody needs them after the next that succeeds.
    doubtful: Mutex<Vec<u64>>,
}

impl Store {
    pub(crate) fn new(
        env: Env,
        dir: PathBuf,
        options: Options,
        catalog: Arc<Catalog>,
        manifest: Manifest,
        memory: &Arc<Memory>,
    ) -> Result<Self> {
        let cache = Arc::new(memory.pages());
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for meta in &manifest.segments {
            segments.push(open_segment(&env, &dir, meta, &cache)?);
        }
        sort_segments(&mut segments);
        let version = Version {
            epoch: 0,
            active: Arc::new(Memtable::new()),
            frozen: Vec::new(),
            segments,
            rolled: manifest.rolled.clone(),
            lost: Lost::of(&manifest),
            floors_ns: manifest.floors_ns,
            retention: manifest.retention,
            tombstones: manifest.tombstones.clone().into(),
            rule_sets: Arc::clone(&manifest.rule_sets),
        };
        let version = RwLock::new(Arc::new(version));
        let next_file = AtomicU64::new(manifest.next_file);
        let pace = Pace::new(options.background_bytes_per_second_max);
        Ok(Self {
            env,
            dir,
            options,
            catalog,
            cache,
            memory: Arc::clone(memory),
            written: Written::default(),
            has_dropped: AtomicBool::new(true),
            pace,
            next_file,
            manifest: Mutex::new(Arc::new(manifest)),
            version,
            share: Mutex::new(memory.memtables.join()),
            applying: Mutex::new(Applied::default()),
            doubtful: Mutex::new(Vec::new()),
        })
    }

    /// Makes a batch visible to readers as a whole.
    pub(crate) fn apply(&self, active: &Memtable, blocks: &[(MeasurementId, RowBlock)]) {
        let oldest_ns = blocks.iter().flat_map(|(_, rows)| &rows.ts_ns).min();
        let mut applied = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        // First, so that a batch that is applied in part counts.
        oldest_ns.into_iter().for_each(|ts_ns| applied.note(*ts_ns));
        for (measurement, rows) in blocks {
            active.apply(*measurement, rows);
        }
    }

    /// The current version and what its memtables hold at one moment, between two batches. Costs a look at each
    /// measurement that has rows in memory.
    pub(crate) fn snapshot(&self) -> (Arc<Version>, Vec<Snapshot>, Seen) {
        let applied = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        let snapshots = version.memtables().map(|memtable| memtable.snapshot()).collect();
        let seen = Seen { epoch: version.epoch, batches: applied.batches() };
        (version, snapshots, seen)
    }

    /// A time before which two views see the same rows; `i64::MIN` when there may be none, also when the earlier one is
    /// not earlier.
    pub(crate) fn same_before_ns(&self, earlier: Seen, later: Seen) -> i64 {
        if earlier.epoch != later.epoch || later.batches < earlier.batches {
            return i64::MIN;
        }
        // Batches after the later view may be counted in: that errs on the safe side.
        self.applying.lock().unwrap_or_else(PoisonError::into_inner).oldest_ns_after(earlier.batches)
    }

    /// The current version, pinned.
    pub(crate) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.version.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current manifest.
    pub(crate) fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current manifest and the version that goes with it.
    pub(crate) fn live(&self) -> (Arc<Manifest>, Arc<Version>) {
        let manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&manifest), self.version())
    }

    /// Brings the account of all databases up to date with the memtables. Called after every change of their sizes, and one
    /// call measures at a time: when all have returned, the account is exact. Costs a look at each memtable.
    pub(crate) fn note_memory(&self) {
        self.change_share(|share| share.set_bytes(self.version().memtable_bytes()));
    }

    /// Notes in that account whether the memtables can be flushed.
    pub(crate) fn note_flushed(&self, standing: Standing) {
        self.change_share(|share| share.set_standing(standing));
    }

    fn change_share(&self, change: impl FnOnce(&mut Share) -> bool) {
        let is_turn_of_others = change(&mut self.share.lock().unwrap_or_else(PoisonError::into_inner));
        if is_turn_of_others {
            self.memory.wake_all();
        }
    }

    /// Replaces the version by what `change` makes of it.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Version)) {
        let mut slot = self.version.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Version::clone(&slot);
        change(&mut next);
        let before = std::mem::replace(&mut *slot, Arc::new(next));
        drop(slot);
        self.note_memory();
        // It may have been the last hold on a large memtable: readers do not wait for that.
        drop(before);
    }

    /// Runs a job that makes files and commits them; when it fails, removes what it made, so that a job that is
    /// tried again and again does not fill the disk.
    ///
    /// # Errors
    /// Those of the job.
    pub(crate) fn attempt<R>(&self, job: impl FnOnce(&mut FileNumbers<'_>) -> Result<R>) -> Result<R> {
        let mut numbers = FileNumbers { next: &self.next_file, taken: Vec::new() };
        let outcome = job(&mut numbers);
        if outcome.is_err() {
            self.discard(numbers.taken);
        }
        outcome
    }

    /// Removes files that no manifest names. After a failed commit the manifest on disk may be the new one, and
    /// name them: then they wait for the next commit, which replaces it.
    fn discard(&self, numbers: Vec<u64>) {
        // No commit may replace the manifest between the look at it and the removal.
        let _manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let named = Manifest::load(&*self.env.fs, &self.dir);
        let is_doubtful = |number: &u64| match &named {
            Ok(Some(found)) => found.names(*number),
            Ok(None) | Err(_) => true,
        };
        let (doubtful, useless): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(is_doubtful);
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).extend(doubtful);
        useless.into_iter().for_each(|number| self.remove_files(number));
    }

    /// Above the number of every file there is: a generation above all others.
    pub(crate) fn next_file(&self) -> u64 {
        self.next_file.load(Ordering::Relaxed)
    }

    /// Removes whatever has a number. What stays behind is removed at the next start.
    pub(crate) fn remove_files(&self, number: u64) {
        let segment = self.segment_path(number);
        let catalog = self.series_dir().join(catalog_file::file_name(number));
        let temporaries = [segment_temporary(&segment), catalog.with_extension("tmp")];
        for path in temporaries.iter().chain([&segment, &catalog]) {
            if matches!(self.env.fs.has(path), Ok(true))
                && let Err(error) = self.env.fs.remove(path)
            {
                tracing::warn!(%error, "a file of a failed job stays behind");
            }
        }
    }

    /// Makes an edit durable and visible: manifest, version, then the files given up.
    ///
    /// # Errors
    /// Those of the file system. After a failed replacement of the manifest either the old or the new one stands on
    /// disk; the old one stays in force here, and the next commit replaces either.
    pub(crate) fn commit(&self, edit: Edit) -> Result<()> {
        let mut added = Vec::with_capacity(edit.add.len());
        for meta in &edit.add {
            added.push(open_segment(&self.env, &self.dir, meta, &self.cache)?);
        }
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Manifest::clone(&manifest);
        next.next_file = self.next_file();
        next.segments.retain(|meta| !edit.remove.contains(&meta.id));
        next.segments.extend_from_slice(&edit.add);
        next.rolled = edit.rolled.unwrap_or(next.rolled);
        next.wal_floor = edit.wal_floor.unwrap_or(next.wal_floor);
        next.floors_ns = edit.floors_ns.unwrap_or(next.floors_ns);
        next.retention = edit.retention.unwrap_or(next.retention);
        next.rule_sets = edit.rule_sets.unwrap_or(next.rule_sets);
        next.cell_rules = edit.cell_rules.unwrap_or(next.cell_rules);
        next.catalog_files = edit.catalog_files.unwrap_or(next.catalog_files);
        next.tombstones = edit.tombstones.unwrap_or(next.tombstones);
        tombstone::forget(&mut next.tombstones, &edit.remove);
        next.store(&*self.env.fs, &self.dir)?;
        let has_dropped = next.floors_ns != manifest.floors_ns
            || next.tombstones.len() < manifest.tombstones.len()
            || (edit.add.is_empty() && !edit.remove.is_empty());
        let is_seen = has_dropped
            || next.tombstones != manifest.tombstones
            || next.rule_sets != manifest.rule_sets
            || next.retention != manifest.retention;
        self.has_dropped.fetch_or(has_dropped, Ordering::AcqRel);
        *manifest = Arc::new(next);
        let mut given_up = Vec::new();
        let lost = Lost::of(&manifest);
        self.publish(|version| {
            version.epoch += u64::from(is_seen || version.lost != lost);
            given_up = version.segments.extract_if(.., |live| edit.remove.contains(&live.meta.id)).collect();
            version.segments.extend(added);
            sort_segments(&mut version.segments);
            version.rolled.clone_from(&manifest.rolled);
            version.lost = lost;
            version.floors_ns = manifest.floors_ns;
            version.retention = manifest.retention;
            version.rule_sets = Arc::clone(&manifest.rule_sets);
            if *version.tombstones != *manifest.tombstones {
                version.tombstones = manifest.tombstones.clone().into();
            }
            if edit.flushed_oldest && !version.frozen.is_empty() {
                version.frozen.remove(0);
            }
        });
        let doubtful = std::mem::take(&mut *self.doubtful.lock().unwrap_or_else(PoisonError::into_inner));
        drop(manifest);
        doubtful.into_iter().for_each(|number| self.remove_files(number));
        for live in given_up {
            live.segment.remove_when_unused();
        }
        Ok(())
    }

    /// Names a new log file in the manifest, durably; its header is durable already. Readers see nothing of it, so the
    /// version stays. Waits for a commit that is under way.
    ///
    /// # Errors
    /// As [`Store::commit`]: either manifest stands on disk, and the log file is there for both.
    pub(crate) fn name_log(&self, number: u64) -> Result<()> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Manifest { newest_log: number, ..Manifest::clone(&manifest) };
        next.store(&*self.env.fs, &self.dir)?;
        *manifest = Arc::new(next);
        Ok(())
    }

    /// Path of a segment file.
    pub(crate) fn segment_path(&self, id: u64) -> PathBuf {
        segment_path(&self.dir, id)
    }

    /// Directory of the catalog files.
    pub(crate) fn series_dir(&self) -> PathBuf {
        series_dir(&self.dir)
    }
}

/// Directory of the catalog files of a database.
pub(crate) fn series_dir(dir: &Path) -> PathBuf {
    dir.join(SERIES_DIR)
}

/// Directory of the segment files of a database.
pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join(SEGMENTS_DIR)
}

/// Directory of the log files of a database.
pub(crate) fn wal_dir(dir: &Path) -> PathBuf {
    dir.join(WAL_DIR)
}

/// Name of a segment file.
pub(crate) fn segment_name(id: u64) -> String {
    format!("seg-{id:016x}.ice")
}

/// What a segment is called until it is complete.
fn segment_temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

pub(crate) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    segments_dir(dir).join(segment_name(id))
}

fn sort_segments(segments: &mut [LiveSegment]) {
    segments.sort_by_key(|live| (live.meta.generation, live.meta.id));
}

fn open_segment(env: &Env, dir: &Path, meta: &SegmentMeta, cache: &Arc<PageCache>) -> Result<LiveSegment> {
    let path = segment_path(dir, meta.id);
    let segment =
        Segment::open(&env.fs, &path, meta.id, Arc::clone(cache)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::corruption(format!("{} is named by the manifest and missing", path.display()))
            }
            _ => error,
        })?;
    let found = segment.summary();
    if found.footer_crc != meta.footer_crc || found.bytes != meta.bytes {
        return Err(Error::corruption(format!(
            "{} has {} bytes and footer checksum {:08x}; the manifest says {} and {:08x}",
            path.display(),
            found.bytes,
            found.footer_crc,
            meta.bytes,
            meta.footer_crc
        )));
    }
    Ok(LiveSegment { meta: *meta, segment: Arc::new(segment) })
}
