//! What tells names: segments, the log, and catalog files that are whole. Reads only; knows nothing of what becomes of it.
//!
//! Order of events: segments and the rows of the log first, which say what is there; then definitions, of the log and of
//! catalog files. The log is read from the floor on as at every open; of the file that the floor lies in, the
//! definitions before it are read, too: rows behind the floor may have been defined just before it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::names::Names;
use crate::check::judge_summary;
use crate::fs::Fs;
use crate::manifest::{Manifest, SegmentMeta};
use crate::model::FieldId;
use crate::segment::{PageCache, Section, Segment};
use crate::series::{Catalog, CatalogLimits, file as catalog_file};
use crate::version::{segment_path, series_dir, wal_dir};
use crate::wal::record::Record;
use crate::wal::{Extent, replay};
use crate::{Error, ErrorKind, Result};

/// Reads all there is, but for catalog files that are damaged or missing.
///
/// # Errors
/// `Corruption` when sources disagree, or when a segment or the log cannot be read; `Conflict` for files of a newer
/// version; those of the file system.
pub(super) fn gather(fs: &Arc<dyn Fs>, dir: &Path, manifest: &Manifest) -> Result<Names> {
    let mut names = Names::default();
    manifest.tombstones.iter().for_each(|tombstone| names.tombstone(tombstone));
    for meta in &manifest.segments {
        segment(fs, &segment_path(dir, meta.id), meta, &mut names)?;
    }
    log(&**fs, dir, manifest, &mut names)?;
    for number in &manifest.catalog_files {
        let definitions = match catalog_file::read(&**fs, &series_dir(dir), *number) {
            Ok(definitions) => definitions,
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error),
        };
        let place = |error: Error| error.context(catalog_file::file_name(*number));
        definitions.iter().try_for_each(|one| names.definition(one)).map_err(place)?;
    }
    names.check()?;
    Ok(names)
}

/// Whether the catalog files, in order, give a catalog.
///
/// # Errors
/// `Conflict` for one of a newer version; those of the file system, but for a file that is missing.
pub(super) fn is_whole(fs: &dyn Fs, dir: &Path, manifest: &Manifest) -> Result<bool> {
    let catalog = Catalog::new(CatalogLimits::NONE);
    for number in &manifest.catalog_files {
        match catalog.load(fs, &series_dir(dir), *number) {
            Ok(()) => {}
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// A file that cannot be read for another reason than its bytes may be read another time.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotFound)
}

/// Reads the log as an open will, into a catalog that was made.
///
/// # Errors
/// `Corruption` when it does not fit.
pub(super) fn try_log(fs: &dyn Fs, dir: &Path, manifest: &Manifest, catalog: &Catalog) -> Result<()> {
    let mut rows_of = RoaringBitmap::new();
    replay(fs, &wal_dir(dir), manifest.log_extent(), &mut |seq, record| match record {
        Record::Definitions(definitions) => {
            let place = |error: Error| error.context(format!("record {seq} of the log"));
            definitions.iter().try_for_each(|one| catalog.define(one)).map_err(place)
        }
        Record::Rows(blocks) => {
            rows_of.extend(blocks.iter().flat_map(|(_, rows)| &rows.series).map(|id| id.0));
            Ok(())
        }
    })?;
    match rows_of.iter().find(|id| !catalog.has(crate::model::SeriesId(*id))) {
        None => Ok(()),
        Some(id) => Err(Error::corruption(format!("the log has rows of series {id}, and it has left"))),
    }
}

fn segment(fs: &Arc<dyn Fs>, path: &Path, meta: &SegmentMeta, names: &mut Names) -> Result<()> {
    let unread = |error: Error| match is_damage(&error) {
        true => Error::corruption(format!(
            "{error}; without it not all names are known: put it back, or take it out with `icecore check \
             --quarantine`"
        )),
        false => error,
    };
    let segment = Segment::open(fs, path, meta.id, Arc::new(PageCache::new(0))).map_err(unread)?;
    let place = |error: Error| error.context(path.display());
    judge_summary(meta, segment.summary()).map_err(place).map_err(unread)?;
    for section in segment.sections() {
        names.measurement(section.measurement, &section.name).map_err(place)?;
        let valued = valued_fields(&segment, section)?;
        if let Some(id) = valued.iter().find(|id| section.fields.iter().all(|field| field.id != **id)) {
            return Err(place(Error::corruption(format!("field {} has a column and no name", id.0))));
        }
        for field in &section.fields {
            if valued.contains(&field.id) {
                let column = (Arc::clone(&field.name), field.field_type);
                names.field(section.measurement, field.id, column).map_err(place)?;
            } else {
                names.hint(section.measurement, field);
            }
        }
        for (id, key) in segment.series(section).map_err(unread)? {
            names.series_with_rows(section.measurement, id, &key).map_err(place)?;
        }
    }
    Ok(())
}

/// The fields that have a column in some page. A page whose listing is damaged has none that could be read.
fn valued_fields(segment: &Segment, section: &Section) -> Result<BTreeSet<FieldId>> {
    let mut valued = BTreeSet::new();
    for page in 0..section.pages.len() {
        match segment.listing(section, page) {
            Ok(columns) => valued.extend(columns.iter().map(|column| column.key.field)),
            Err(error) if error.kind() == ErrorKind::Corruption => {}
            Err(error) => return Err(error),
        }
    }
    Ok(valued)
}

fn log(fs: &dyn Fs, dir: &Path, manifest: &Manifest, names: &mut Names) -> Result<()> {
    let (dir, extent) = (wal_dir(dir), manifest.log_extent());
    let report = replay(fs, &dir, extent, &mut |_, record| {
        if let Record::Rows(blocks) = record {
            blocks.iter().for_each(|(measurement, rows)| names.logged_rows(*measurement, rows));
        }
        Ok(())
    })?;
    let firsts = report.files.iter().map(|file| file.first_seq);
    let floor_seq = firsts.filter(|seq| *seq <= extent.floor_seq).max().unwrap_or(extent.floor_seq);
    let extent = Extent { floor_seq, ..extent };
    replay(fs, &dir, extent, &mut |seq, record| match record {
        Record::Rows(_) => Ok(()),
        Record::Definitions(definitions) => {
            let place = |error: Error| error.context(format!("record {seq} of the log"));
            definitions.iter().try_for_each(|one| names.definition(one)).map_err(place)
        }
    })?;
    Ok(())
}
