//! A data directory: which databases there are, under which numbers they lie, and who may open it.
//!
//! ```text
//! ICECORE      marker: the version of this layout
//! LOCK         held while the directory is open
//! databases    checksummed list of numbers and names
//! db/<number>  one engine each
//! snapshots/   data directories of their own, made on request
//! ```
//! Names from users never become path components. Order when a database is made: its line in `databases` is made
//! durable, then the engine creates its directory, so a crash between the two leaves an empty database. When it is
//! dropped, its line goes first, durably; then its directory is removed, as soon as no reader needs it, or else at the
//! next start. Knows nothing of what lies inside `db/<number>`.

mod catalog;
mod offline;
mod snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use icecore_query::MemoryPool;
use icecore_query::select::{Statement, Table};
use icecore_storage::Engine;
use icecore_storage::clock::SystemClock;
use icecore_storage::engine::{Env, Retired};
use icecore_storage::fs::{Fs, Lock, OsFs, read_all, replace};
use icecore_storage::memory::{Memory, MemoryLimits};
use icecore_storage::options::{Durability, Options};

use self::catalog::{Catalog, Entry};
pub use self::offline::Offline;
pub use self::snapshot::{DatabaseSnapshot, RestoreReport, restore};
use crate::config::{Config, NewDatabase};
use crate::database::{Query, databases_table};
use crate::results::{ResultStats, Results};
use crate::services::Services;
use crate::{Database, Error, ErrorKind, Result};

/// The database that is always there.
pub const DEFAULT_DATABASE: &str = "default";

/// Version of the layout of a data directory.
const LAYOUT_VERSION: u32 = 1;
const MARKER: &str = "ICECORE";
const LOCK: &str = "LOCK";
const CATALOG: &str = "databases";
const DB: &str = "db";
const CATALOG_BYTES_MAX: u64 = 1 << 20;
const NAME_CHARS_MAX: usize = 128;
/// Measurements of a database that keep every event, and bytes of the name of one: the list must stay small.
const KEEP_DUPLICATES_MAX: usize = 32;
const KEEP_NAME_BYTES_MAX: usize = 256;

/// All databases of one data directory, open, with their background threads.
#[derive(Debug)]
pub struct Databases {
    dir: PathBuf,
    config: Config,
    env: Env,
    /// Of memtables, names and decoded pages.
    memory: Arc<Memory>,
    /// Of all running queries.
    queries_memory: Arc<MemoryPool>,
    results: Arc<Results>,
    open: RwLock<BTreeMap<String, Arc<Database>>>,
    /// Held while a database is created or dropped or a snapshot made, across the file operations; readers take `open`
    /// only.
    catalog: Mutex<Catalog>,
    /// Directories of dropped databases that were still read.
    leaving: Mutex<Vec<Leaving>>,
    services: Services,
    is_closed: AtomicBool,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Databases {
    /// Opens a data directory, creating it when it is not there, and all databases in it. `data_dir` of the
    /// configuration is not looked at.
    ///
    /// # Errors
    /// `Conflict` when another process has it open, when it holds something else than icecore data, or a newer
    /// layout; `Corruption` when it is damaged; those of the file system.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Self> {
        let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
        Self::open_in(env, path.as_ref(), config)
    }

    /// As [`Databases::open`], with a file system and a clock of the caller.
    ///
    /// # Errors
    /// As [`Databases::open`].
    pub fn open_in(env: Env, dir: &Path, config: Config) -> Result<Self> {
        let fs = env.fs.as_ref();
        let place = format!("data directory {}", dir.display());
        fs.create_dir_all(dir).map_err(|error| Error::from(error).context(&place))?;
        let is_new = check_marker(fs, dir)?;
        let lock = fs.lock(&dir.join(LOCK)).map_err(|error| Error::from(error).context(&place))?;
        if is_new {
            write_marker(fs, dir).map_err(|error| error.context(&place))?;
        }
        if let Err(error) = snapshot::remove_unfinished(fs, dir) {
            tracing::warn!(%error, "an unfinished snapshot stays behind");
        }
        let catalog = load_catalog(fs, dir, config.options.durability)?;
        remove_dropped(fs, dir, &catalog);
        let databases = Self {
            dir: dir.to_owned(),
            memory: Memory::new(MemoryLimits {
                memtables_bytes_max: config.limits.memtables_bytes_max,
                catalogs_bytes_max: config.limits.catalogs_bytes_max,
                cache_bytes_max: config.options.cache_bytes_max,
            }),
            queries_memory: MemoryPool::new(config.limits.queries_memory_bytes_max),
            results: Arc::new(Results::new(config.limits.results_bytes_max)),
            config,
            env,
            open: RwLock::default(),
            catalog: Mutex::new(catalog.clone()),
            leaving: Mutex::default(),
            services: Services::default(),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        };
        let preset = databases.config.new_database();
        let mut opened = Vec::new();
        for (id, Entry { name, durability, keep_duplicates }) in catalog.iter() {
            let (durability, keep_duplicates) = (*durability, keep_duplicates.clone());
            let new = NewDatabase { durability, keep_duplicates, ..preset.clone() };
            opened.push(databases.open_one(id, name, &new)?);
            // Where less memory was given than before, the logs of all may hold more than that.
            for database in &opened {
                if let Err(error) = database.engine().flush_due() {
                    tracing::error!(database = database.name(), %error, "rows of the log could not be flushed");
                }
            }
        }
        // Merges and rolls of those that are open do not hold up the others.
        opened.iter().try_for_each(|database| databases.serve(database))?;
        databases.create(DEFAULT_DATABASE, preset)?;
        Ok(databases)
    }

    /// The database of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Database>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The database of this name, created when it is not there. An existing one keeps what it was created with.
    ///
    /// # Errors
    /// `InvalidInput` for a name that cannot be, or too many measurements; `LimitExceeded` when there are too many
    /// databases; `Unavailable` after [`Databases::close`]; those of the file system.
    pub fn create(&self, name: &str, new: NewDatabase) -> Result<Arc<Database>> {
        check_name(name)?;
        check_keep_duplicates(&new.keep_duplicates)?;
        let mut catalog = self.lock_catalog();
        if let Some(database) = self.get(name) {
            return Ok(database);
        }
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the data directory is closed"));
        }
        let max = self.config.limits.databases_max;
        if catalog.len() >= max {
            let message =
                format!("cannot create database {name:?}: there are {max} already (limit databases_max)");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let mut next = catalog.clone();
        let id = next.add(name, new.durability, &new.keep_duplicates);
        // The number is taken once its line is on disk, also when opening the engine then fails: numbers are
        // never used for two names.
        replace(self.env.fs.as_ref(), &self.dir.join(CATALOG), &next.encode())?;
        *catalog = next;
        let database = self.open_one(id, name, &new)?;
        self.serve(&database)?;
        Ok(database)
    }

    /// Drops a database with all its data, durably; `false` when there is none of this name. Queries that are
    /// running end as if it were there; later writes to it are refused.
    ///
    /// # Errors
    /// `Conflict` for the default database, which is always there; `Unavailable` after [`Databases::close`]; those of
    /// the file system, and then it is still there.
    pub fn drop_database(&self, name: &str) -> Result<bool> {
        if name == DEFAULT_DATABASE {
            let message = "the default database cannot be dropped; DROP MEASUREMENT empties it";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let mut catalog = self.lock_catalog();
        let mut next = catalog.clone();
        let (Some(id), Some(database)) = (next.remove(name), self.get(name)) else { return Ok(false) };
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the data directory is closed"));
        }
        let path = self.dir.join(CATALOG);
        if let Err(error) = replace(self.env.fs.as_ref(), &path, &next.encode()) {
            // Either list may be in force. What is written from now on must not be lost with the new one.
            if let Err(second) = replace(self.env.fs.as_ref(), &path, &catalog.encode()) {
                tracing::error!(database = name, error = %second, "a drop failed half way; the database is closed");
                database.engine().close()?;
            }
            return Err(Error::from(error).context(format!("dropping database {name:?}")));
        }
        *catalog = next;
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let leaving = Leaving { dir: self.dir_of(id), retired: database.engine().retire() };
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).push(leaving);
        self.sweep();
        Ok(true)
    }

    /// Removes the directories of dropped databases that nobody reads any more.
    fn sweep(&self) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|leaving| {
            let is_unused = leaving.retired.is_unused();
            if is_unused {
                remove_dir(self.env.fs.as_ref(), &leaving.dir);
            }
            !is_unused
        });
    }

    fn dir_of(&self, id: u32) -> PathBuf {
        self.dir.join(DB).join(id.to_string())
    }

    fn open_one(&self, id: u32, name: &str, new: &NewDatabase) -> Result<Arc<Database>> {
        let dir = self.dir_of(id);
        let place = || format!("database {name:?} in {}", dir.display());
        self.env.fs.create_dir_all(&dir)?;
        let options = Options { durability: new.durability, ..self.config.options.clone() };
        let engine = Engine::open_sharing(self.env.clone(), &dir, options, new.retention, &self.memory)
            .map_err(|error| Error::from(error).context(place()))?;
        let engine = Arc::new(engine);
        let (memory, results) = (Arc::clone(&self.queries_memory), Arc::clone(&self.results));
        let (env, keep, limits) = (self.env.clone(), &new.keep_duplicates, &self.config.limits);
        Ok(Arc::new(Database::of_engine(name, keep, engine, env, limits, memory, results)))
    }

    /// Starts the background work of a database that was opened, and lets it be found.
    fn serve(&self, database: &Arc<Database>) -> Result<()> {
        let (name, engine) = (database.name(), database.engine());
        // The threads that were started end when it is closed.
        self.services.serve(name, engine).inspect_err(|_| drop(engine.close()))?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(name.to_owned(), Arc::clone(database));
        Ok(())
    }

    /// Runs a statement: those about databases here, the others on the database that the statement or else `name`
    /// names, or the default one. A database is created as `new` says.
    ///
    /// # Errors
    /// `NotFound` for a database that is not there; those of [`Databases::create`], [`Databases::drop_database`] and
    /// [`Database::run_select`].
    pub fn run_statement(
        &self,
        query: &Query,
        statement: &Statement,
        name: Option<&str>,
        new: &NewDatabase,
    ) -> Result<Table> {
        match statement {
            Statement::ShowDatabases => return Ok(databases_table(&self.names())),
            Statement::CreateDatabase { name, .. } => {
                self.create(name, new.clone())?;
                return Ok(Table::default());
            }
            Statement::DropDatabase { name } => {
                // As in InfluxDB, it is no fault when there is none.
                self.drop_database(name)?;
                return Ok(Table::default());
            }
            _ => {}
        }
        let name = statement.database().or(name).unwrap_or(DEFAULT_DATABASE);
        let database = self
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("database not found: {name}")))?;
        database.run_select(query, statement)
    }

    fn lock_catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all databases, sorted.
    pub fn names(&self) -> Vec<String> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// All databases, sorted by name.
    pub fn all(&self) -> Vec<Arc<Database>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    /// What became of range queries, and what of their answers is kept.
    pub fn result_stats(&self) -> ResultStats {
        self.results.stats()
    }

    /// Bytes of the decoded pages of all databases.
    pub fn cache_bytes(&self) -> u64 {
        self.memory.cache_bytes()
    }

    /// Settings this directory was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Flushes and closes all databases, stops their threads and releases the directory. Idempotent.
    ///
    /// # Errors
    /// The first failure, after all have been closed; what could not be flushed is still in the log.
    pub fn close(&self) -> Result<()> {
        // No database can be created while they are closed.
        let _catalog = self.lock_catalog();
        if self.is_closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.services.raise_stop();
        let mut first_error = None;
        for database in self.all() {
            if let Err(error) = database.engine().close() {
                let name = database.name().to_owned();
                first_error.get_or_insert(Error::from(error).context(format!("closing database {name:?}")));
            }
        }
        self.services.join();
        self.sweep();
        // The lock ends last, when no thread writes any more.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        first_error.map_or(Ok(()), Err)
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "could not close the data directory");
        }
    }
}

/// A dropped database whose directory is still there.
#[derive(Debug)]
struct Leaving {
    dir: PathBuf,
    retired: Retired,
}

/// Removes the directories of dropped databases that the last process left. Only numbers that were given and are not
/// in the list; what else lies there is not ours to judge.
fn remove_dropped(fs: &dyn Fs, dir: &Path, catalog: &Catalog) {
    let db = dir.join(DB);
    let names = match fs.has(&db) {
        Ok(true) => fs.list(&db).unwrap_or_default(),
        Ok(false) | Err(_) => Vec::new(),
    };
    for name in names {
        let id = name.parse::<u32>().ok().filter(|id| id.to_string() == name);
        if id.is_some_and(|id| catalog.is_dropped(id)) {
            tracing::info!(directory = %db.join(&name).display(), "removing the directory of a dropped database");
            remove_dir(fs, &db.join(&name));
        }
    }
}

fn remove_dir(fs: &dyn Fs, dir: &Path) {
    if matches!(fs.has(dir), Ok(true))
        && let Err(error) = fs.remove_dir_all(dir)
    {
        tracing::warn!(%error, "the directory of a dropped database stays behind until the next start");
    }
}

fn write_marker(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let text = format!("icecore data directory, layout {LAYOUT_VERSION}\n");
    Ok(replace(fs, &dir.join(MARKER), text.as_bytes())?)
}

/// Refuses a directory that holds something else; tells whether it is new. Nothing is written before this.
fn check_marker(fs: &dyn Fs, dir: &Path) -> Result<bool> {
    let path = dir.join(MARKER);
    if fs.has(&path)? {
        let bytes = read_all(fs, &path, 4096)?;
        let text = String::from_utf8_lossy(&bytes);
        let version = text.trim_end().strip_prefix("icecore data directory, layout ");
        let version: u32 = version.and_then(|version| version.parse().ok()).ok_or_else(|| {
            Error::new(ErrorKind::Corruption, format!("{} is not a marker of icecore", path.display()))
        })?;
        if version > LAYOUT_VERSION {
            let message = format!(
                "{} has layout {version}; this icecore knows up to {LAYOUT_VERSION}: use a newer one",
                dir.display()
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        return Ok(false);
    }
    // A first start that was cut off may have left the lock and a temporary file.
    let is_ours = |name: &str| name == LOCK || name == "ICECORE.tmp";
    let names = fs.list(dir)?;
    match names.iter().find(|name| !is_ours(name)) {
        Some(found) => {
            let message =
                format!("{} is not an icecore data directory (found {found}, no {MARKER})", dir.display());
            Err(Error::new(ErrorKind::Conflict, message))
        }
        None => Ok(true),
    }
}

/// The list of databases; those of its first version get `durability`.
fn load_catalog(fs: &dyn Fs, dir: &Path, durability: Durability) -> Result<Catalog> {
    let path = dir.join(CATALOG);
    if fs.has(&path)? {
        let bytes = read_all(fs, &path, CATALOG_BYTES_MAX)?;
        // It may have been renamed and not synced; what it does not name is removed after this.
        fs.sync_dir(dir)?;
        return Catalog::decode(&bytes, durability).map_err(|error| error.context(path.display()));
    }
    let db = dir.join(DB);
    if fs.has(&db)? && !fs.list(&db)?.is_empty() {
        let message = format!("{} is missing, and there are databases in {}", path.display(), db.display());
        return Err(Error::new(ErrorKind::Corruption, message));
    }
    Ok(Catalog::default())
}

/// Whether a text can name a database.
///
/// # Errors
/// `InvalidInput` with the rule it breaks.
pub fn check_name(name: &str) -> Result<()> {
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX {
        let message = format!("a database name has 1 to {NAME_CHARS_MAX} characters, this one has {chars}");
        return Err(Error::invalid(message));
    }
    if name.starts_with('_') {
        return Err(Error::invalid(format!(
            "database name {name:?}: names that begin with `_` are icecore's own"
        )));
    }
    if name == "."
        || name == ".."
        || name.contains(|symbol: char| symbol.is_control() || matches!(symbol, '/' | '\\'))
    {
        return Err(Error::invalid(format!("database name {name:?} holds a slash or a control character")));
    }
    Ok(())
}

fn check_keep_duplicates(measurements: &[String]) -> Result<()> {
    if KEEP_DUPLICATES_MAX < measurements.len() {
        let message = format!("at most {KEEP_DUPLICATES_MAX} measurements of a database keep every event");
        return Err(Error::invalid(message));
    }
    for name in measurements {
        if name.is_empty() || KEEP_NAME_BYTES_MAX < name.len() || name.contains(char::is_control) {
            let form = format!("1 to {KEEP_NAME_BYTES_MAX} bytes without control characters");
            return Err(Error::invalid(format!("{name:?} cannot keep every event: a name of {form} can")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use icecore_storage::clock::ManualClock;
    use icecore_storage::fs::SimFs;
    use icecore_storage::fs::sim::Fault;
    use icecore_storage::model::{RowBlock, SECOND_NS, SeriesId, TimeRange};
    use icecore_storage::options::{Durability, Options};
    use icecore_storage::scan::{Flow, RowRequest, Unmetered};

    use super::*;
    use crate::Point;
    use crate::services::StopFlag;

    #[test]
    fn name_rules_are_kept() {
        for good in ["default", "telegraf", "web shop", "äöü", &"x".repeat(128)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "_icecore", "a/b", "a\nb", "a\\b", "..", &"x".repeat(129)] {
            assert_eq!(check_name(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn marker_foreign_directory_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("photo.jpg"), b"x").unwrap();
        let error = Databases::open(dir.path(), Config::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(
            error.to_string().contains("is not an icecore data directory (found photo.jpg, no ICECORE)"),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn marker_of_newer_layout_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MARKER), b"icecore data directory, layout 99\n").unwrap();
        let error = Databases::open(dir.path(), Config::default()).unwrap_err();
        assert!(error.to_string().contains("layout 99"), "{error}");
    }

    #[test]
    fn catalog_missing_beside_databases_is_corruption() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MARKER), b"icecore data directory, layout 1\n").unwrap();
        std::fs::create_dir_all(dir.path().join("db/1")).unwrap();
        let error = Databases::open(dir.path(), Config::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }

    fn sim() -> (Arc<SimFs>, Env) {
        let fs = Arc::new(SimFs::default());
        let clock = Arc::new(ManualClock::new(1_700_000_000 * SECOND_NS));
        (Arc::clone(&fs), Env { fs, clock })
    }

    fn open_sim(env: &Env) -> Result<Databases> {
        let options = Options { free_bytes_min: 0, ..Options::default() };
        Databases::open_in(env.clone(), Path::new("/data"), Config { options, ..Config::default() })
    }

    fn prepare(env: &Env) {
        let databases = open_sim(env).unwrap();
        let shop = databases.create("shop", databases.config().new_database()).unwrap();
        shop.write(&[Point::new("cpu").field("usage", 1.0).at_ns(1_700_000_000 * SECOND_NS)]).unwrap();
        databases.close().unwrap();
    }

    #[test]
    fn drop_with_a_fault_at_every_operation_is_whole() {
        let (fs, env) = sim();
        prepare(&env);
        let databases = open_sim(&env).unwrap();
        let first = fs.operations();
        assert!(databases.drop_database("shop").unwrap());
        let count = fs.operations() - first;
        assert!(6 < count, "{count}");
        for fault in Fault::ALL {
            for operation in 0..count {
                let place = format!("{fault:?} at operation {operation}");
                let (fs, env) = sim();
                prepare(&env);
                let databases = open_sim(&env).unwrap();
                fs.fail_at(fs.operations() + operation, fault);
                let is_acked = databases.drop_database("shop").is_ok();
                let is_open = databases.get("shop").is_some();
                assert_ne!(is_open, is_acked, "{place}");
                // A drop that failed must not take along what is written after it.
                let later = Point::new("cpu").field("usage", 2.0).at_ns(1_700_000_001 * SECOND_NS);
                let is_written = databases.get("shop").is_some_and(|shop| shop.write(&[later]).is_ok());
                // Nothing is closed in order: the next operation finds the machine off.
                fs.fail_at(fs.operations(), Fault::PowerCut);
                drop(databases);
                fs.crash(operation);
                let databases = open_sim(&env).unwrap_or_else(|error| panic!("{place}: {error}"));
                let found = databases.get("shop").map(|shop| shop.select("SELECT usage FROM cpu").unwrap());
                let rows = found.map(|table| table.series.first().map_or(0, |series| series.rows.len()));
                match rows {
                    Some(rows) => {
                        assert!(!is_acked && rows == 1 + usize::from(is_written), "{place}: {rows}")
                    }
                    None => {
                        assert!(!is_written, "{place}: written and gone");
                        assert!(!fs.has(Path::new("/data/db/2")).unwrap(), "{place}: its directory is left");
                    }
                }
            }
        }
    }

    #[test]
    fn list_of_a_process_that_died_before_syncing_it_is_the_last_word_after_a_start() {
        let list = Path::new("/data").join(CATALOG);
        let (fs, env) = sim();
        prepare(&env);
        open_sim(&env).unwrap().drop_database("shop").unwrap();
        let without_shop = fs.get(&list).unwrap();
        let (fs, env) = sim();
        prepare(&env);
        let temporary = list.with_extension("tmp");
        let mut file = fs.create(&temporary).unwrap();
        file.append(&without_shop).unwrap();
        file.sync().unwrap();
        fs.rename(&temporary, &list).unwrap();
        let databases = open_sim(&env).unwrap();
        assert!(databases.get("shop").is_none());
        databases.close().unwrap();
        fs.crash_losing_unsynced();
        assert!(open_sim(&env).unwrap().get("shop").is_none(), "what was removed does not come back empty");
    }

    /// The thread of flushes used to sync, and did not while one ran, or paused after one that failed.
    #[test]
    fn interval_is_synced_while_a_flush_hangs() {
        let (fs, env) = sim();
        let options = Options {
            durability: Durability::Interval,
            memtable_bytes_max: 1,
            free_bytes_min: 0,
            ..Options::default()
        };
        let config = Config { options, ..Config::default() };
        let databases = Databases::open_in(env.clone(), Path::new("/data"), config).unwrap();
        let database = databases.get(DEFAULT_DATABASE).unwrap();
        let (begun, is_begun) = mpsc::channel();
        let (end, is_ended) = mpsc::channel::<()>();
        fs.interrupt(Path::new("/data/db/1/segments"), 0, move || {
            begun.send(()).unwrap();
            is_ended.recv().unwrap_err();
        });
        let row =
            |second: i64| Point::new("cpu").field("usage", 1.0).at_ns((1_700_000_000 + second) * SECOND_NS);
        database.write(&[row(0)]).unwrap();
        is_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        // The clock stands still, so that no write syncs for those before it.
        database.write(&[row(1)]).unwrap();
        let logs = Path::new("/data/db/1/wal");
        let is_synced = || {
            let paths: Vec<PathBuf> = fs.list(logs).unwrap().iter().map(|name| logs.join(name)).collect();
            paths.iter().all(|path| fs.durable(path) == fs.get(path))
        };
        let pause = StopFlag::default();
        for _ in 0..6_000 {
            if is_synced() || pause.wait(Duration::from_millis(10)) {
                break;
            }
        }
        assert!(is_synced(), "nobody syncs");
        drop(end);
        databases.close().unwrap();
        fs.crash_losing_unsynced();
        let table =
            open_sim(&env).unwrap().get(DEFAULT_DATABASE).unwrap().select("SELECT usage FROM cpu").unwrap();
        assert_eq!(table.series[0].rows.len(), 2);
    }

    #[test]
    fn drop_lets_readers_end_and_refuses_writers() {
        let (fs, env) = sim();
        prepare(&env);
        let databases = open_sim(&env).unwrap();
        let shop = databases.get("shop").unwrap();
        let view = shop.view();
        assert!(databases.drop_database("shop").unwrap());
        assert!(!databases.drop_database("shop").unwrap());
        let schema = view.schema("cpu").unwrap();
        let (fields, series) = ([schema.fields[0].id], [SeriesId(0)]);
        let request = RowRequest {
            measurement: schema.measurement,
            fields: &fields,
            series: &series,
            range: TimeRange::ALL,
            bounds: &[],
        };
        let mut rows = 0;
        let mut sink = |block: &RowBlock| {
            rows += block.len();
            Ok(Flow::Continue)
        };
        view.rows(&request, &Unmetered, &mut sink).unwrap();
        assert_eq!(rows, 1, "a view is of one moment");
        let refused = shop.write(&[Point::new("cpu").field("usage", 1.0)]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_eq!(shop.flush().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(fs.has(Path::new("/data/db/2")).unwrap());
        drop(view);
        databases.close().unwrap();
        assert!(!fs.has(Path::new("/data/db/2")).unwrap());
    }
}
