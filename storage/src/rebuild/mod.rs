//! Makes the catalog of a database anew when its catalog files are damaged or missing: from the series tables of all
//! segments, the log and the catalog files that are whole. Runs only when an operator asks for it, on a directory that
//! no engine has open. Knows nothing of pages' values.
//!
//! Read in this order: `sources` (what tells names), `names` (what they tell together, and the catalog that this makes).
//!
//! Order of events: gather, decide, try the log against the new catalog; then give the old files a second name in
//! `quarantine/`, write the new files, replace the manifest, remove the old names. Until the manifest is replaced the
//! directory is as it was, and opening refuses; from then on it is mended. What is left over is removed at the next
//! start. Where something is not known, or two files disagree, nothing is changed.

mod names;
mod sources;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{Fs, dir_temporary, place, read_all};
use crate::manifest::Manifest;
use crate::series::{Catalog, CatalogMark, file as catalog_file};
use crate::version::{QUARANTINE_DIR, series_dir};
use crate::{Error, ErrorKind, Result};

/// What a new catalog holds, and where the old one is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Measurements that are known, stand-ins among them.
    pub measurements: usize,
    /// Fields of all measurements, likewise.
    pub fields: usize,
    /// Series that have rows.
    pub series: usize,
    /// Measurements and fields that had an id and have no name any more, and what they are listed as. No row is of them.
    pub stand_ins: Vec<String>,
    /// Where the old files are now, the damaged and the whole.
    pub moved: Vec<PathBuf>,
}

/// Makes the catalog of a database anew; `None` when it is whole, and then nothing is changed.
///
/// # Errors
/// `Corruption` when there is no manifest, or a damaged one; when a segment or the log cannot be read, two sources
/// disagree, or the log has rows of something whose name is nowhere left: nothing is changed then. `Conflict` when a
/// newer version wrote a file, or `quarantine/` has another file of the same name; `LimitExceeded` when too many ids have no
/// name. Those of the file system, and then the
/// call can be repeated.
pub fn rebuild_catalog(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Option<RebuildReport>> {
    let Some(mut manifest) = Manifest::load(&**fs, dir)? else {
        return Err(Error::corruption(format!("{} has no manifest", dir.display())));
    };
    if sources::is_whole(&**fs, dir, &manifest)? {
        return Ok(None);
    }
    let unchanged =
        |error: Error| error.context(format!("{}: the catalog cannot be made anew", dir.display()));
    let names = sources::gather(fs, dir, &manifest).map_err(unchanged)?;
    let trial = names.catalog().map_err(unchanged)?;
    sources::try_log(&**fs, dir, &manifest, &trial.catalog).map_err(unchanged)?;
    drop(trial);
    let made = names.catalog()?;
    let moved = set_aside(&**fs, dir, &manifest.catalog_files)?;
    let old = std::mem::take(&mut manifest.catalog_files);
    save(&**fs, dir, &made.catalog, &mut manifest)?;
    manifest.store(&**fs, dir)?;
    remove(&**fs, dir, &old)?;
    Ok(Some(RebuildReport {
        measurements: made.measurements,
        fields: made.fields,
        series: made.series,
        stand_ins: made.stand_ins,
        moved,
    }))
}

/// Gives the old files a second name in `quarantine/`, durably; those that an earlier, interrupted call gave stay.
fn set_aside(fs: &dyn Fs, dir: &Path, numbers: &[u64]) -> Result<Vec<PathBuf>> {
    let aside = dir.join(QUARANTINE_DIR);
    let mut moved = Vec::new();
    for name in numbers.iter().map(|number| catalog_file::file_name(*number)) {
        let (from, to) = (series_dir(dir).join(&name), aside.join(&name));
        if fs.has(&from)? {
            fs.create_dir_all(&aside)?;
            give_second_name(fs, &from, &to)?;
            moved.push(to);
        }
    }
    if !moved.is_empty() {
        fs.sync_dir(&aside)?;
    }
    Ok(moved)
}

/// A copy, where there are no links, has its name only when it is whole.
fn give_second_name(fs: &dyn Fs, from: &Path, to: &Path) -> Result<()> {
    if fs.has(to)? {
        if read_all(fs, from, u64::MAX)? == read_all(fs, to, u64::MAX)? {
            return Ok(());
        }
        let message = format!("{} is there already; move it elsewhere first", to.display());
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let temporary = dir_temporary(to);
    if fs.has(&temporary)? {
        fs.remove(&temporary)?;
    }
    place(fs, from, &temporary)?;
    fs.rename(&temporary, to)
}

/// Writes the catalog to new files, and names them in a manifest that names none yet.
fn save(fs: &dyn Fs, dir: &Path, catalog: &Catalog, manifest: &mut Manifest) -> Result<()> {
    let dir = series_dir(dir);
    fs.create_dir_all(&dir)?;
    let (mut mark, end) = (CatalogMark::default(), catalog.mark());
    while mark.is_before(end) {
        let number = manifest.next_file;
        manifest.next_file = number.saturating_add(1);
        mark = catalog.save(fs, &dir, number, mark)?;
        manifest.catalog_files.push(number);
    }
    Ok(())
}

fn remove(fs: &dyn Fs, dir: &Path, numbers: &[u64]) -> Result<()> {
    let dir = series_dir(dir);
    for path in numbers.iter().map(|number| dir.join(catalog_file::file_name(*number))) {
        if fs.has(&path)? {
            fs.remove(&path)?;
        }
    }
    fs.sync_dir(&dir)
}
