//! Opening a database directory: manifest, catalog, segments, log, then orphans. Idempotent at every step; deletes only
//! files whose names it gave itself and that the manifest does not mention, and never anything it cannot name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::cell_set::{self, CellRule};
use crate::manifest::{FILE_NAME as MANIFEST, Manifest};
use crate::memory::Memory;
use crate::options::{Options, Retention};
use crate::series::{Catalog, CatalogLimits, CatalogMark, file as catalog_file};
use crate::version::{Edit, Env, Store, segment_name, segments_dir, series_dir, wal_dir};
use crate::wal::frame::file_path;
use crate::wal::reader::file_numbers;
use crate::wal::record::Record;
use crate::wal::{self, ReplayReport};
use crate::{Error, ErrorKind, Result};

/// A database as found on disk, its log replayed into the active memtable.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Store,
    /// What of the catalog is in catalog files.
    pub(crate) mark: CatalogMark,
    pub(crate) replay: ReplayReport,
}

/// Opens a directory, creating it when it is empty.
///
/// # Errors
/// `Corruption` when something the manifest names is missing or damaged, or acknowledged log records are.
pub(crate) fn open(
    env: Env,
    dir: &Path,
    options: Options,
    retention: Retention,
    memory: &Arc<Memory>,
) -> Result<Recovered> {
    let fs = Arc::clone(&env.fs);
    for part in [segments_dir(dir), series_dir(dir), wal_dir(dir)] {
        fs.create_dir_all(&part)?;
    }
    let manifest = match Manifest::load(&*fs, dir)? {
        Some(manifest) => {
            // A process that died between the rename and the sync left a name that a power cut still takes back.
            // What follows removes what this manifest does not name, so it must be the last word.
            fs.sync_dir(dir)?;
            manifest
        }
        None => create(&env, dir, retention)?,
    };
    let catalog = Arc::new(Catalog::with_share(limits_of(&options), memory.catalogs.join()));
    for number in &manifest.catalog_files {
        catalog.load(&*fs, &series_dir(dir), *number).map_err(lost_catalog)?;
    }
    catalog.note_saved();
    let mark = catalog.mark();
    let store = Store::new(env, dir.to_owned(), options, catalog, manifest, memory)?;
    let manifest = store.manifest();
    let replay = replay(&store, &manifest)?;
    if !store.options.cells.is_empty() && *store.options.cells != *manifest.cell_rules {
        set_cell_rules(&store, store.options.cells.clone())?;
    }
    // Last, when all else fits: a manifest from a backup may not know newer segments, but then the log has a gap.
    remove_orphans(&store, &manifest);
    Ok(Recovered { store, mark, replay })
}

/// Keeps other rules for cells with the database.
///
/// # Errors
/// `LimitExceeded` for too many, `InvalidInput` for names that cannot be; those of the file system, and then either are
/// in force after a restart.
pub(crate) fn set_cell_rules(store: &Store, rules: Vec<CellRule>) -> Result<()> {
    cell_set::check(&rules)?;
    store.commit(Edit { cell_rules: Some(rules.into()), ..Edit::default() })
}

/// Says what an operator can do about a catalog file that is damaged, or named by the manifest and missing.
fn lost_catalog(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound => Error::corruption(format!(
            "{error}; `icecore check --rebuild-catalog` makes the catalog anew from segments and log"
        )),
        _ => error,
    }
}

fn limits_of(options: &Options) -> CatalogLimits {
    CatalogLimits {
        series_max: options.series_max,
        measurement_series_max: options.measurement_series_max,
        new_series_per_minute_max: options.new_series_per_minute_max,
        tag_values_max: options.tag_values_max,
        fields_max: options.fields_max,
        catalog_bytes_max: options.catalog_bytes_max,
    }
}

/// A new database; refuses a directory whose manifest is gone while its data is there.
fn create(env: &Env, dir: &Path, retention: Retention) -> Result<Manifest> {
    let mut names = env.fs.list(&segments_dir(dir))?;
    names.extend(env.fs.list(&series_dir(dir))?);
    if let Some(name) = names.into_iter().find(|name| name.ends_with(".ice") || name.ends_with(".cat")) {
        return Err(Error::corruption(format!("{} has file {name} and no {MANIFEST}", dir.display())));
    }
    if !file_numbers(&*env.fs, &wal_dir(dir))?.is_empty() {
        return Err(Error::corruption(format!("{} has log files and no {MANIFEST}", dir.display())));
    }
    // A process that was killed while it made the directories may not have come to sync them.
    env.fs.sync_dir(dir)?;
    if let Some(parent) = dir.parent() {
        env.fs.sync_dir(parent)?;
    }
    let manifest = Manifest::new(retention);
    manifest.store(&*env.fs, dir)?;
    Ok(manifest)
}

/// Removes what an interrupted job left: our own names that the manifest does not mention. What cannot be removed
/// harms nobody, so it does not keep the database closed.
fn remove_orphans(store: &Store, manifest: &Manifest) {
    let segments = manifest.segments.iter().map(|meta| segment_name(meta.id)).collect();
    let catalogs = manifest.catalog_files.iter().map(|number| catalog_file::file_name(*number)).collect();
    let is_segment = |name: &str| is_ours(name, "seg-", &[".ice", ".ice.tmp"]);
    let is_catalog = |name: &str| is_ours(name, "series-", &[".cat", ".tmp"]);
    let removed = remove_unlisted(store, &segments_dir(&store.dir), &is_segment, &segments)
        .and_then(|()| remove_unlisted(store, &series_dir(&store.dir), &is_catalog, &catalogs));
    if let Err(error) = removed {
        tracing::warn!(%error, "files of an interrupted job stay behind");
    }
}

/// Whether a name is one that the engine gives: prefix, 16 hexadecimal digits, suffix.
pub(crate) fn is_ours(name: &str, prefix: &str, suffixes: &[&str]) -> bool {
    let Some((number, suffix)) = name.strip_prefix(prefix).and_then(|rest| rest.split_at_checked(16)) else {
        return false;
    };
    number.bytes().all(|byte| byte.is_ascii_hexdigit()) && suffixes.contains(&suffix)
}

fn remove_unlisted(
    store: &Store,
    dir: &Path,
    is_ours: &dyn Fn(&str) -> bool,
    listed: &BTreeSet<String>,
) -> Result<()> {
    let names = store.env.fs.list(dir)?;
    for name in names.into_iter().filter(|name| is_ours(name) && !listed.contains(name)) {
        tracing::info!(file = %name, "removing a file that no manifest names (left by an interrupted job)");
        store.env.fs.remove(&dir.join(name))?;
    }
    Ok(())
}

fn replay(store: &Store, manifest: &Manifest) -> Result<ReplayReport> {
    let active = Arc::clone(&store.version().active);
    let dir = wal_dir(&store.dir);
    let report = wal::replay(&*store.env.fs, &dir, manifest.log_extent(), &mut |_, record| {
        match record {
            Record::Definitions(definitions) => {
                definitions.iter().try_for_each(|definition| store.catalog.define(definition))?;
            }
            Record::Rows(blocks) => {
                blocks.iter().for_each(|(measurement, rows)| active.apply(*measurement, rows))
            }
        }
        Ok(())
    })?;
    store.note_memory();
    let left = store.catalog.left();
    if !left.is_empty()
        && let Some(id) = active.held(&left).min()
    {
        let message = format!("the log has rows of series {id}, which has left the catalog");
        return Err(Error::corruption(message).context(dir.display()));
    }
    if report.torn_bytes > 0 {
        let file = report.newest_file().map(|number| file_path(&dir, number).display().to_string());
        tracing::warn!(bytes = report.torn_bytes, file, "dropped a torn, unacknowledged tail of the log");
    }
    Ok(report)
}
