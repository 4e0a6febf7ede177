//! A data directory that nobody has open: its databases, for what looks at files without opening an engine.
//!
//! Takes the lock when there is one, and writes nothing before it is asked to: a directory without a lock file has no
//! server, and may be a copy on a medium that cannot be written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_storage::clock::{Clock as _, SystemClock};
use icecore_storage::engine::{Env, Guard, RetentionPlan, RetentionReport, plan_directory};
use icecore_storage::fs::{Fs, Lock, OsFs, read_all};
use icecore_storage::options::{Durability, Options, Retention};
use icecore_storage::{Engine, manifest};

use super::catalog::Catalog;
use super::{CATALOG, CATALOG_BYTES_MAX, DB, LOCK, MARKER, check_marker};
use crate::{Error, ErrorKind, Result};

/// The databases of a directory, kept from being opened until this is dropped.
#[derive(Debug)]
pub struct Offline {
    /// Name and directory of each, by number.
    pub databases: Vec<(String, PathBuf)>,
    /// Directories of databases that the list does not name.
    pub unlisted: Vec<PathBuf>,
    /// Why the list of databases cannot be read; `databases` then has what was found, by number.
    pub damage: Option<Error>,
    lock: Option<Box<dyn Lock>>,
}

impl Offline {
    /// Finds the databases of a data directory, or takes the directory of one database for itself.
    ///
    /// # Errors
    /// `Conflict` when a process has the directory open, or a newer version made it; `NotFound` when it is neither a
    /// data directory nor a database.
    pub fn open(dir: &Path) -> Result<Self> {
        let fs = OsFs;
        if fs.has(&dir.join(MARKER))? {
            check_marker(&fs, dir)?;
            let lock = lock(dir)?;
            return Self::of_data_dir(dir, lock);
        }
        if !fs.has(&dir.join(manifest::FILE_NAME))? {
            let what = "is neither a data directory of icecore nor a database in one";
            return Err(Error::new(ErrorKind::NotFound, format!("{} {what}", dir.display())));
        }
        // The directory of one database lies two levels below the data directory, whose lock counts.
        let place = std::path::absolute(dir).unwrap_or(dir.to_owned());
        let home = place.ancestors().nth(2).filter(|home| home.join(MARKER).exists());
        let lock = home.map(lock).transpose()?.flatten();
        let databases = vec![(String::new(), dir.to_owned())];
        Ok(Self { databases, unlisted: Vec::new(), damage: None, lock })
    }

    /// What a pass of retention over one of the databases would do. Reads its manifest and its log.
    ///
    /// # Errors
    /// `Corruption` of either; those of the file system.
    pub fn plan_retention(&self, dir: &Path, guard: Guard) -> Result<RetentionPlan> {
        Ok(plan_directory(&OsFs, dir, SystemClock::default().now_ns(), guard)?)
    }

    /// Drops what is past its age in one of the databases. No other background work is done.
    ///
    /// # Errors
    /// `Conflict` for a directory without a lock file, which may be a copy; those of [`Engine::open`] and of the file
    /// system.
    pub fn apply_retention(&self, dir: &Path, guard: Guard) -> Result<RetentionReport> {
        if self.lock.is_none() {
            let message = "has no lock file: it may be a copy, and nothing is dropped from it";
            return Err(Error::new(ErrorKind::Conflict, format!("{} {message}", dir.display())));
        }
        let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
        // The retention is that of the database, as it is there already.
        let engine = Engine::open(env, dir, Options::default(), Retention::FOREVER)?;
        let report = engine.apply_retention(guard)?;
        engine.close()?;
        Ok(report)
    }

    fn of_data_dir(dir: &Path, lock: Option<Box<dyn Lock>>) -> Result<Self> {
        let (fs, list, home) = (OsFs, dir.join(CATALOG), dir.join(DB));
        let numbers = if fs.has(&home)? { fs.list(&home)? } else { Vec::new() };
        let catalog = match read_all(&fs, &list, CATALOG_BYTES_MAX) {
            Ok(bytes) => Catalog::decode(&bytes, Durability::default()),
            // A first start that was cut off has made neither the list nor a database.
            Err(error) if error.kind() == icecore_storage::ErrorKind::NotFound && numbers.is_empty() => {
                Ok(Catalog::default())
            }
            Err(error) => Err(error.into()),
        };
        let (catalog, damage) = match catalog {
            Ok(catalog) => (catalog, None),
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error.context(list.display())),
            Err(error) => (Catalog::default(), Some(error.context(list.display()))),
        };
        let mut databases: Vec<(String, PathBuf)> =
            catalog.iter().map(|(id, entry)| (entry.name.clone(), home.join(id.to_string()))).collect();
        let is_listed = |path: &PathBuf| databases.iter().any(|(_, known)| known == path);
        let mut unlisted: Vec<PathBuf> =
            numbers.iter().map(|number| home.join(number)).filter(|path| !is_listed(path)).collect();
        if damage.is_some() {
            databases = unlisted.drain(..).map(|path| (String::new(), path)).collect();
        }
        Ok(Self { databases, unlisted, damage, lock })
    }
}

/// Takes the lock of a data directory that has a lock file.
fn lock(dir: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = dir.join(LOCK);
    if OsFs.has(&path)? { Ok(Some(OsFs.lock(&path)?)) } else { Ok(None) }
}
