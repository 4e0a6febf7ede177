//! What is live: one immutable [`Version`] that readers pin, and the [`Store`] that replaces it.
//!
//! A version lists the memtables (active and frozen), the open segments, the spans that cells answer for, and how
//! far retention has come. Every change goes through [`Store::commit`]: the manifest is replaced first, which is
//! the moment of truth; then the new version is published; then files that nothing names any more are given up
//! (a reader that pinned an older version keeps them readable until it lets go).

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Clock;
use crate::fs::Fs;
use crate::manifest::{Manifest, RolledSpan, SegmentMeta};
use crate::memtable::Memtable;
use crate::model::{Tier, TimeRange};
use crate::options::{Options, Retention};
use crate::segment::{PageCache, Segment};
use crate::series::Catalog;
use crate::{Error, ErrorKind, Result};

/// Subdirectory of segment files.
const SEGMENTS_DIR: &str = "segments";
/// Subdirectory of catalog files.
const SERIES_DIR: &str = "series";
/// Subdirectory of log files.
const WAL_DIR: &str = "wal";

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

/// Everything that is live at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) active: Arc<Memtable>,
    /// Oldest first.
    pub(crate) frozen: Vec<Frozen>,
    /// By generation, oldest first.
    pub(crate) segments: Vec<LiveSegment>,
    pub(crate) rolled: Vec<RolledSpan>,
    pub(crate) floors_ns: [i64; 4],
    pub(crate) retention: Retention,
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
    /// New list of catalog files.
    pub(crate) catalog_files: Option<Vec<u64>>,
    /// Whether the oldest frozen memtable is covered by the added segments.
    pub(crate) flushed_oldest: bool,
}

/// The directory of a database and what is live in it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) cache: Arc<PageCache>,
    version: RwLock<Arc<Version>>,
}

impl Store {
    pub(crate) fn new(
        env: Env,
        dir: PathBuf,
        options: Options,
        catalog: Arc<Catalog>,
        manifest: &Manifest,
    ) -> Result<Self> {
        let cache = Arc::new(PageCache::new(options.cache_bytes_max));
        let mut segments = Vec::with_capacity(manifest.segments.len());
        for meta in &manifest.segments {
            segments.push(open_segment(&env, &dir, meta, &cache)?);
        }
        sort_segments(&mut segments);
        let version = Version {
            active: Arc::new(Memtable::new()),
            frozen: Vec::new(),
            segments,
            rolled: manifest.rolled.clone(),
            floors_ns: manifest.floors_ns,
            retention: manifest.retention,
        };
        Ok(Self { env, dir, options, catalog, cache, version: RwLock::new(Arc::new(version)) })
    }

    /// The current version, pinned.
    pub(crate) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.version.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the version by what `change` makes of it.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Version)) {
        let mut slot = self.version.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Version::clone(&slot);
        change(&mut next);
        *slot = Arc::new(next);
    }

    /// Makes an edit durable and visible: manifest, version, then the files given up.
    ///
    /// # Errors
    /// Those of the file system. After a failed replacement of the manifest either the old or the new one stands;
    /// the caller keeps the old one and tries again with new file numbers.
    pub(crate) fn commit(&self, manifest: &mut Manifest, edit: Edit) -> Result<()> {
        let mut next = manifest.clone();
        next.segments.retain(|meta| !edit.remove.contains(&meta.id));
        next.segments.extend(edit.add.iter().cloned());
        next.rolled = edit.rolled.unwrap_or(next.rolled);
        next.wal_floor = edit.wal_floor.unwrap_or(next.wal_floor);
        next.floors_ns = edit.floors_ns.unwrap_or(next.floors_ns);
        next.retention = edit.retention.unwrap_or(next.retention);
        next.catalog_files = edit.catalog_files.unwrap_or(next.catalog_files);
        let mut added = Vec::with_capacity(edit.add.len());
        for meta in &edit.add {
            added.push(open_segment(&self.env, &self.dir, meta, &self.cache)?);
        }
        next.store(&*self.env.fs, &self.dir)?;
        *manifest = next;
        let mut given_up = Vec::new();
        self.publish(|version| {
            given_up = version.segments.extract_if(.., |live| edit.remove.contains(&live.meta.id)).collect();
            version.segments.extend(added);
            sort_segments(&mut version.segments);
            version.rolled.clone_from(&manifest.rolled);
            version.floors_ns = manifest.floors_ns;
            version.retention = manifest.retention;
            if edit.flushed_oldest && !version.frozen.is_empty() {
                version.frozen.remove(0);
            }
        });
        for live in given_up {
            live.segment.remove_when_unused();
        }
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

fn segment_path(dir: &Path, id: u64) -> PathBuf {
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
