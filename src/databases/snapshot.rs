//! Snapshots of a data directory and their way back: a second data directory, linked where the file system allows.
//!
//! Knows the layout around the engines, not what is in theirs beyond this: files that end in `.ice` or `.cat` never
//! change, so they may be shared. Each database is an exact prefix of what was written to it; two databases are not
//! of one moment. Both ways end with a rename, so a directory is complete or not there.

use std::path::{Path, PathBuf};

use icecore_storage::Engine;
use icecore_storage::engine::{Env, SnapshotReport};
use icecore_storage::fs::{self, Fs, Placed, create_dir_whole, dir_temporary};
use icecore_storage::options::{Durability, Options, Retention};

use super::catalog::Entry;
use super::{CATALOG, Catalog, DB, Databases, LOCK, check_marker, load_catalog, write_marker};
use crate::{Database, Error, ErrorKind, Result};

/// Subdirectory of a data directory for snapshots that the server was asked for.
pub(super) const SNAPSHOTS: &str = "snapshots";
const MANIFEST: &str = "MANIFEST";
const NAME_BYTES_MAX: usize = 100;
/// Directories below that of a database; deeper ones are not icecore's.
const DEPTH_MAX: usize = 4;

/// What a snapshot holds of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseSnapshot {
    /// The name of the database.
    pub name: String,
    /// Up to where, and in how many files.
    pub report: SnapshotReport,
}

/// What was brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Names of the databases.
    pub databases: Vec<String>,
    /// Files shared with the snapshot.
    pub linked_files: u64,
    /// Files with bytes of their own.
    pub copied_files: u64,
}

impl Databases {
    /// Writes a second data directory with all databases to `to`, which must not be there, or be empty. See
    /// [`Database::snapshot`].
    ///
    /// # Errors
    /// `Conflict` when something is in the way; those of the file system. `to` is then as it was, or complete.
    pub fn snapshot(&self, to: &Path) -> Result<Vec<DatabaseSnapshot>> {
        let catalog = self.lock_catalog();
        let found = catalog.iter().map(|(_, Entry { name, .. })| {
            let missing = || Error::new(ErrorKind::Internal, format!("database {name:?} is not open"));
            self.get(name).ok_or_else(missing)
        });
        write(self.env.fs.as_ref(), &catalog, &found.collect::<Result<Vec<_>>>()?, to)
    }

    /// As [`Databases::snapshot`], to `snapshots/<name>` below this directory; without a name one is made of the
    /// time. Returns where it is.
    ///
    /// # Errors
    /// As [`Databases::snapshot`]; `InvalidInput` for a name that cannot be.
    pub fn snapshot_here(&self, name: Option<&str>) -> Result<(PathBuf, Vec<DatabaseSnapshot>)> {
        let name = name.map_or_else(|| name_of_time(self.env.clock.now_ns()), str::to_owned);
        let to = self.snapshot_dir(&name)?;
        let databases = self.snapshot(&to)?;
        Ok((to, databases))
    }

    /// Removes a snapshot that [`Databases::snapshot_here`] made.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a name that cannot be; those of the file system.
    pub fn remove_snapshot(&self, name: &str) -> Result<()> {
        let path = self.snapshot_dir(name)?;
        let _catalog = self.lock_catalog();
        let fs = self.env.fs.as_ref();
        if !fs.has(&path)? {
            return Err(Error::new(ErrorKind::NotFound, format!("snapshot not found: {name:?}")));
        }
        // Half a snapshot must not look like one: what stays behind after a crash is removed at the next start.
        let temporary = dir_temporary(&path);
        fs.rename(&path, &temporary)?;
        Ok(fs.remove_dir_all(&temporary)?)
    }

    fn snapshot_dir(&self, name: &str) -> Result<PathBuf> {
        check_snapshot_name(name)?;
        Ok(self.dir.join(SNAPSHOTS).join(name))
    }
}

impl Database {
    /// Writes a second data directory to `to`, which must not be there, or be empty: everything acknowledged before
    /// the call, and an exact prefix of what is written meanwhile. [`Database::open`] opens it. Files are linked, so
    /// it costs an operation a file; on another file system they are copied. Writes and queries go on. A database
    /// that was opened alone takes the others of its directory along.
    ///
    /// # Errors
    /// `Conflict` when something is in the way; those of the file system. `to` is then as it was, or complete.
    pub fn snapshot(&self, to: &Path) -> Result<Vec<DatabaseSnapshot>> {
        if let Some(home) = self.home() {
            return home.snapshot(to);
        }
        let mut catalog = Catalog::default();
        catalog.add(self.name(), self.stats().durability, &self.keep_duplicates());
        write(self.env().fs.as_ref(), &catalog, &[self], to)
    }
}

/// Databases in the order of the catalog.
fn write<D: std::ops::Deref<Target = Database>>(
    fs: &dyn Fs,
    catalog: &Catalog,
    databases: &[D],
    to: &Path,
) -> Result<Vec<DatabaseSnapshot>> {
    whole(fs, to, |dir| {
        let mut done = Vec::new();
        for ((id, entry), database) in catalog.iter().zip(databases) {
            let report = database.engine().snapshot(&dir.join(DB).join(id.to_string()))?;
            done.push(DatabaseSnapshot { name: entry.name.clone(), report });
        }
        fs::replace(fs, &dir.join(CATALOG), &catalog.encode())?;
        write_marker(fs, dir)?;
        Ok(done)
    })
}

/// [`create_dir_whole`] with errors of this crate.
fn whole<R>(fs: &dyn Fs, path: &Path, fill: impl FnOnce(&Path) -> Result<R>) -> Result<R> {
    let mut failure = None;
    let made = create_dir_whole(fs, path, |dir| {
        fill(dir).map_err(|error| {
            let below = icecore_storage::Error::new(icecore_storage::ErrorKind::Internal, &error);
            failure = Some(error);
            below
        })
    });
    made.map_err(|error| failure.unwrap_or_else(|| Error::from(error)))
}

/// Brings the snapshot in `from` back as the data directory `to`, which must not be there, or be empty. Every
/// database is opened once before `to` comes into being. Also takes the data directory of a stopped server.
///
/// # Errors
/// `InvalidInput` when `from` is not a snapshot; `Conflict` when something is in the way or a process has `from`
/// open; `Corruption` when it is damaged; those of the file system. `to` is then as it was, or complete.
pub fn restore(env: &Env, from: &Path, to: &Path) -> Result<RestoreReport> {
    let fs = env.fs.as_ref();
    let is_new = !fs.is_dir(from)? || check_marker(fs, from)?;
    if is_new {
        let message = format!("{} is not a snapshot: it has no file ICECORE", from.display());
        return Err(Error::invalid(message));
    }
    // A snapshot has no lock file, and may lie where nothing can be written.
    let lock = from.join(LOCK);
    let _lock = if fs.has(&lock)? { Some(fs.lock(&lock)?) } else { None };
    let catalog = load_catalog(fs, from, Durability::default())?;
    whole(fs, to, |dir| {
        let mut report = RestoreReport::default();
        for (id, Entry { name, .. }) in catalog.iter() {
            let part = Path::new(DB).join(id.to_string());
            bring(fs, &from.join(&part), &dir.join(&part), DEPTH_MAX, &mut report)?;
            check_opens(env, &dir.join(&part))
                .map_err(|error| error.context(format!("database {name:?} of {}", from.display())))?;
            report.databases.push(name.clone());
        }
        fs::replace(fs, &dir.join(CATALOG), &catalog.encode())?;
        write_marker(fs, dir)?;
        Ok(report)
    })
}

/// Brings all files of a directory and of those in it.
fn bring(fs: &dyn Fs, from: &Path, to: &Path, depth: usize, report: &mut RestoreReport) -> Result<()> {
    fs.create_dir_all(to)?;
    for name in fs.list(from)?.iter().filter(|name| !name.ends_with(".tmp")) {
        let (source, target) = (from.join(name), to.join(name));
        if fs.is_dir(&source)? {
            if depth == 0 {
                return Err(Error::invalid(format!("{} is not icecore's: too deep", source.display())));
            }
            bring(fs, &source, &target, depth - 1, report)?;
            continue;
        }
        let is_fixed = [".ice", ".cat"].iter().any(|ending| name.ends_with(ending));
        let placed = if is_fixed {
            fs::place(fs, &source, &target)?
        } else {
            fs::copy(fs, &source, &target)?;
            Placed::Copied
        };
        match placed {
            Placed::Linked => report.linked_files += 1,
            Placed::Copied => report.copied_files += 1,
        }
    }
    Ok(fs.sync_dir(to)?)
}

/// Opens an engine as the server will, and lets it go without a write.
fn check_opens(env: &Env, dir: &Path) -> Result<()> {
    // An engine would take a directory without one for a new database.
    if !env.fs.has(&dir.join(MANIFEST))? {
        return Err(Error::new(ErrorKind::Corruption, "it has no MANIFEST"));
    }
    Engine::open(env.clone(), dir, Options::default(), Retention::FOREVER)?;
    Ok(())
}

/// Removes what a crash left of snapshots below a data directory: only names that were given there.
pub(super) fn remove_unfinished(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let snapshots = dir.join(SNAPSHOTS);
    if !fs.is_dir(&snapshots)? {
        return Ok(());
    }
    for name in fs.list(&snapshots)? {
        if name.strip_suffix(".tmp").is_some_and(|name| check_snapshot_name(name).is_ok()) {
            tracing::info!(%name, "removing an unfinished snapshot");
            fs.remove_dir_all(&snapshots.join(name))?;
        }
    }
    Ok(())
}

/// Whether a text can name a snapshot, as a file name on any system.
fn check_snapshot_name(name: &str) -> Result<()> {
    let is_plain =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let is_sized = (1..=NAME_BYTES_MAX).contains(&name.len());
    if is_plain && is_sized && !name.starts_with('.') && !name.ends_with(".tmp") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "snapshot name {name:?}: 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, not with a `.` first or \
         `.tmp` last"
    )))
}

/// Such as `20261121T031502.123Z`.
fn name_of_time(now_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(now_ns)) {
        Ok(time) => time.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        Err(_) => format!("at-{now_ns}"),
    }
}

#[cfg(test)]
mod tests;
