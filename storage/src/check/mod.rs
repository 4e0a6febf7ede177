//! Checks a database directory without changing it: every checksum, every value that can be decoded, and every
//! reference from one file to another. Says which file is damaged, where, and which time of which measurement it
//! holds. Repairs nothing; see [`quarantine`](crate::quarantine).
//!
//! Read in this order: [`report`] (what is found), `metadata` (manifest, catalog files, names of files), `log`,
//! `segments` (one page in memory at a time), `spans` (what cells answer for). Nobody may write to the directory
//! meanwhile: a file that a job replaces would look like damage.

mod log;
mod metadata;
pub mod report;
mod segments;
mod spans;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use report::{Affected, CatalogState, CheckReport, Finding, Severity};
pub(crate) use segments::judge_summary;

use crate::Result;
use crate::fs::Fs;
use crate::series::{Catalog, CatalogLimits};

/// Checks one database directory. Reads every live file once; memory is that of the catalog, of one log file and of
/// one page.
///
/// # Errors
/// `Conflict` when a newer version wrote one of the files. Damage is no error but a finding, and so is a file that
/// cannot be read.
pub fn check(fs: &Arc<dyn Fs>, dir: &Path) -> Result<CheckReport> {
    let mut checker = Checker {
        fs,
        dir,
        report: CheckReport::default(),
        catalog: Catalog::new(CatalogLimits::NONE),
        is_catalog_whole: true,
    };
    if let Some(manifest) = checker.manifest()? {
        checker.catalog_files(&manifest)?;
        checker.log(&manifest)?;
        checker.segments(&manifest)?;
        checker.spans(&manifest);
        checker.names(&manifest);
    }
    Ok(checker.report)
}

/// What the steps share.
struct Checker<'a> {
    fs: &'a Arc<dyn Fs>,
    dir: &'a Path,
    report: CheckReport,
    /// As far as it could be read.
    catalog: Catalog,
    /// Whether all of it could be read, so that what it does not know is a mistake elsewhere.
    is_catalog_whole: bool,
}

impl Checker<'_> {
    /// Counts a file that is read.
    fn count(&mut self, path: &Path) {
        if let Ok(bytes) = self.fs.open(path).and_then(|file| file.len()) {
            self.report.files += 1;
            self.report.bytes += bytes;
        }
    }
}
