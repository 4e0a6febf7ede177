//! The manifest, the catalog files, and the names of all files in the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{CatalogState, Checker, Severity};
use crate::fs::Fs;
use crate::manifest::{FILE_NAME, Manifest};
use crate::recovery::is_ours;
use crate::series::file as catalog_file;
use crate::version::{
    QUARANTINE_DIR, SEGMENTS_DIR, SERIES_DIR, WAL_DIR, segment_name, segments_dir, series_dir, wal_dir,
};
use crate::wal::frame::file_number;
use crate::{Error, ErrorKind, Result};

impl Checker<'_> {
    /// The manifest; without it nothing says what is live, and nothing more can be checked.
    pub(super) fn manifest(&mut self) -> Result<Option<Manifest>> {
        let path = self.dir.join(FILE_NAME);
        match Manifest::load(&**self.fs, self.dir) {
            Ok(Some(manifest)) => {
                self.count(&path);
                return Ok(Some(manifest));
            }
            Ok(None) if self.has_data() => {
                let error = Error::corruption("it is missing, and files of the database are there");
                self.report.damage(&path, &error, None);
            }
            Ok(None) => self.report.mention(Severity::Note, self.dir, "no database was made here yet"),
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
            Err(error) => {
                self.count(&path);
                self.report.damage(&path, &error, None);
            }
        }
        Ok(None)
    }

    /// Whether a directory without manifest is more than an empty one.
    fn has_data(&self) -> bool {
        let mut names = list(&**self.fs, &segments_dir(self.dir));
        names.extend(list(&**self.fs, &series_dir(self.dir)));
        names.extend(list(&**self.fs, &wal_dir(self.dir)));
        names.iter().any(|name| !name.ends_with(".tmp"))
    }

    /// Reads the catalog as opening does.
    pub(super) fn catalog_files(&mut self, manifest: &Manifest) -> Result<()> {
        let dir = series_dir(self.dir);
        self.report.catalog = CatalogState::Whole;
        for number in &manifest.catalog_files {
            let path = dir.join(catalog_file::file_name(*number));
            self.count(&path);
            match self.catalog.load(&**self.fs, &dir, *number) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
                Err(error) => {
                    self.is_catalog_whole = false;
                    self.report.catalog = CatalogState::Damaged;
                    self.report.damage(&path, &named(error), None);
                }
            }
        }
        Ok(())
    }

    /// Names what lies in the directory and belongs to nothing that is live.
    pub(super) fn names(&mut self, manifest: &Manifest) {
        let dir = self.dir;
        let segments = manifest.segments.iter().map(|meta| segment_name(meta.id)).collect();
        let catalogs = manifest.catalog_files.iter().map(|number| catalog_file::file_name(*number)).collect();
        self.unlisted(segments_dir(dir), &segments, &|name| is_ours(name, "seg-", &[".ice", ".ice.tmp"]));
        self.unlisted(series_dir(dir), &catalogs, &|name| is_ours(name, "series-", &[".cat", ".tmp"]));
        let logs = list(&**self.fs, &wal_dir(dir)).into_iter().filter(|name| file_number(name).is_some());
        self.unlisted(wal_dir(dir), &logs.collect(), &|_| false);
        let known = [FILE_NAME, SEGMENTS_DIR, SERIES_DIR, WAL_DIR, QUARANTINE_DIR].map(str::to_owned);
        self.unlisted(dir.to_owned(), &known.into(), &|name| name == "MANIFEST.tmp");
        let lost = list(&**self.fs, &dir.join(QUARANTINE_DIR)).len();
        if lost > 0 {
            let what = format!("{lost} files were taken out of the database and are kept here");
            self.report.mention(Severity::Note, &dir.join(QUARANTINE_DIR), &what);
        }
    }

    fn unlisted(&mut self, dir: PathBuf, listed: &BTreeSet<String>, is_ours: &dyn Fn(&str) -> bool) {
        for name in list(&**self.fs, &dir).into_iter().filter(|name| !listed.contains(name)) {
            let what = if is_ours(&name) {
                "left by an interrupted job; the manifest does not name it, and the next start removes it"
            } else {
                "not a file of icecore; it is left alone"
            };
            self.report.mention(Severity::Orphan, &dir.join(name), what);
        }
    }
}

/// Names in a directory; none when it cannot be listed.
fn list(fs: &dyn Fs, dir: &Path) -> Vec<String> {
    fs.list(dir).unwrap_or_default()
}

/// A file that is missing is named by the manifest.
fn named(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::corruption("it is named by the manifest and missing"),
        _ => error,
    }
}
