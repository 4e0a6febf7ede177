//! Opening a database directory: manifest, catalog, segments, log, orphans. Idempotent at every step; deletes only
//! files whose names it gave itself and that the manifest does not mention, and never anything it cannot name.

use std::path::Path;
use std::sync::Arc;

use crate::manifest::Manifest;
use crate::options::{Options, Retention};
use crate::series::{Catalog, CatalogLimits, CatalogMark, file as catalog_file};
use crate::version::{Env, Store, segment_name, segments_dir, series_dir, wal_dir};
use crate::wal::record::Record;
use crate::wal::{self, ReplayReport};
use crate::{Error, Result};

/// A database as found on disk, its log replayed into the active memtable.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) store: Store,
    pub(crate) manifest: Manifest,
    /// What of the catalog is in catalog files.
    pub(crate) mark: CatalogMark,
    pub(crate) replay: ReplayReport,
}

/// Opens a directory, creating it when it is empty.
///
/// # Errors
/// `Corruption` when something the manifest names is missing or damaged, or acknowledged log records are.
pub(crate) fn open(env: Env, dir: &Path, options: Options, retention: Retention) -> Result<Recovered> {
    let fs = Arc::clone(&env.fs);
    for part in [segments_dir(dir), series_dir(dir), wal_dir(dir)] {
        fs.create_dir_all(&part)?;
    }
    let manifest = match Manifest::load(&*fs, dir)? {
        Some(manifest) => manifest,
        None => create(&env, dir, retention)?,
    };
    let limits = CatalogLimits { series_max: options.series_max, fields_max: options.fields_max };
    let catalog = Arc::new(Catalog::new(limits));
    for number in &manifest.catalog_files {
        catalog.load(&*fs, &series_dir(dir), *number)?;
    }
    let (_, mark) = catalog.definitions_after(CatalogMark::default());
    let store = Store::new(env, dir.to_owned(), options, catalog, &manifest)?;
    remove_orphans(&store, &manifest)?;
    let replay = replay(&store, &manifest)?;
    Ok(Recovered { store, manifest, mark, replay })
}

/// A new database; refuses a directory whose manifest is gone while its data is there.
fn create(env: &Env, dir: &Path, retention: Retention) -> Result<Manifest> {
    if let Some(name) = env.fs.list(&segments_dir(dir))?.into_iter().find(|name| name.ends_with(".ice")) {
        return Err(Error::corruption(format!("{} has segment {name} and no manifest", dir.display())));
    }
    let manifest = Manifest::new(retention);
    manifest.store(&*env.fs, dir)?;
    Ok(manifest)
}

/// Removes what an interrupted job left: our own names that the manifest does not mention.
fn remove_orphans(store: &Store, manifest: &Manifest) -> Result<()> {
    let segments = manifest.segments.iter().map(|meta| segment_name(meta.id)).collect();
    let catalogs = manifest.catalog_files.iter().map(|number| catalog_file::file_name(*number)).collect();
    remove_unlisted(store, &segments_dir(&store.dir), "seg-", segments)?;
    remove_unlisted(store, &series_dir(&store.dir), "series-", catalogs)
}

fn remove_unlisted(store: &Store, dir: &Path, prefix: &str, listed: Vec<String>) -> Result<()> {
    let names = store.env.fs.list(dir)?;
    for name in names.into_iter().filter(|name| name.starts_with(prefix) && !listed.contains(name)) {
        tracing::info!(file = %name, "removing a file that no manifest names (left by an interrupted job)");
        store.env.fs.remove(&dir.join(name))?;
    }
    Ok(())
}

fn replay(store: &Store, manifest: &Manifest) -> Result<ReplayReport> {
    let active = Arc::clone(&store.version().active);
    let dir = wal_dir(&store.dir);
    let report = wal::replay(&*store.env.fs, &dir, manifest.wal_floor, &mut |_, record| {
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
    if report.torn_bytes > 0 {
        tracing::warn!(bytes = report.torn_bytes, "dropped a torn, unacknowledged tail of the log");
    }
    Ok(report)
}
