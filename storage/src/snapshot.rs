//! Snapshot: what a manifest names, a second time, in a directory of its own that opens like any database.
//!
//! Knows nothing of the log: the engine flushes before, so that the manifest alone is an exact prefix of what was
//! written, up to the floor of the log that it names. Order: temporary directory, links to catalog and segment files
//! (copies where the file system gives no links), manifest, rename into place. Cost: an operation a file, no bytes.
//!
//! Links are safe because those files never change: jobs write new files and remove names, never content. The
//! segments are pinned by a version meanwhile, and catalog files leave only when a database is opened, so no job
//! has to wait.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Result;
use crate::fs::{Fs, Placed, create_dir_whole, place};
use crate::manifest::Manifest;
use crate::series::file as catalog_file;
use crate::version::{Store, Version, segment_name, segments_dir, series_dir, wal_dir};

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Every log record below this sequence number is in it, and none from it on.
    pub end_seq: u64,
    /// Catalog and segment files.
    pub files: u64,
    /// How many of them had to be copied, because the file system gave no links.
    pub copied_files: u64,
    /// Bytes of the segment files.
    pub segment_bytes: u64,
}

/// What is live at one moment, with nothing in memory that belongs to it.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) manifest: Arc<Manifest>,
    /// Keeps the segment files of the manifest.
    pub(crate) pin: Arc<Version>,
}

/// Writes the snapshot of a moment to `to`, which must not be there, or be empty.
///
/// # Errors
/// `Conflict` when something is in the way; those of the file system. `to` is then as it was, or complete.
pub(crate) fn write(store: &Store, moment: &Moment, to: &Path) -> Result<SnapshotReport> {
    let Moment { manifest, pin } = moment;
    debug_assert_eq!(pin.segments.len(), manifest.segments.len());
    let fs = &*store.env.fs;
    create_dir_whole(fs, to, |dir| fill(fs, &store.dir, manifest, dir))
}

fn fill(fs: &dyn Fs, from: &Path, manifest: &Manifest, dir: &Path) -> Result<SnapshotReport> {
    let mut report = SnapshotReport { end_seq: manifest.wal_floor, ..SnapshotReport::default() };
    let segments = manifest.segments.iter().map(|meta| segment_name(meta.id)).collect();
    let catalog = manifest.catalog_files.iter().map(|number| catalog_file::file_name(*number)).collect();
    place_all(fs, (segments_dir(from), segments_dir(dir)), segments, &mut report)?;
    place_all(fs, (series_dir(from), series_dir(dir)), catalog, &mut report)?;
    fs.create_dir_all(&wal_dir(dir))?;
    report.segment_bytes = manifest.segments.iter().map(|meta| meta.bytes).sum();
    // Its log is empty.
    Manifest { newest_log: 0, ..Manifest::clone(manifest) }.store(fs, dir)?;
    Ok(report)
}

fn place_all(
    fs: &dyn Fs,
    (from, to): (PathBuf, PathBuf),
    names: Vec<String>,
    report: &mut SnapshotReport,
) -> Result<()> {
    fs.create_dir_all(&to)?;
    for name in names {
        report.files += 1;
        match place(fs, &from.join(&name), &to.join(&name))? {
            Placed::Linked => {}
            Placed::Copied => report.copied_files += 1,
        }
    }
    fs.sync_dir(&to)
}
