//! What a check finds: damage, leftovers, and what is worth knowing. Values only; printing is for callers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::manifest::SegmentMeta;
use crate::model::{Tier, TimeRange};

/// Findings of one file that are told one by one; the rest is counted. A file of noise has thousands.
const FINDINGS_PER_FILE_MAX: usize = 50;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was written is not there any more, or contradicts something else.
    Damage,
    /// A file that no manifest names; the next start removes those of an interrupted job and leaves others alone.
    Orphan,
    /// Worth knowing, nothing is wrong.
    Note,
}

/// What a finding keeps from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// Rows or cells of which width; `None`: everything.
    pub tier: Option<Tier>,
    /// The measurement; `None`: all in the file.
    pub measurement: Option<Arc<str>>,
    /// The times.
    pub range: TimeRange,
    /// Rows or cells; 0 when that is not known.
    pub rows: u64,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or the directory.
    pub path: PathBuf,
    /// Where in the file, when that is known.
    pub offset: Option<u64>,
    /// Number of the page within the measurement, when it is one.
    pub page: Option<usize>,
    /// What is wrong, and what was expected.
    pub what: String,
    /// What cannot be read for it, when that is known.
    pub affected: Option<Affected>,
}

/// What a check of a database directory found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was found, in order of reading; not more than 50 of a file.
    pub findings: Vec<Finding>,
    /// Damage beyond that.
    pub unlisted: u64,
    /// Ids of live segments whose files are missing or are not what was written. Those that merely contradict
    /// another file are not among them.
    pub damaged_segments: BTreeSet<u64>,
    /// What became of the catalog files.
    pub catalog: CatalogState,
}

/// Whether the catalog files give a catalog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatalogState {
    /// There is no manifest that could name them.
    #[default]
    Unknown,
    /// All of it could be read.
    Whole,
    /// One of them is missing, is not what was written, or does not go with those before it.
    Damaged,
}

impl CheckReport {
    /// How many places are damaged.
    pub fn damaged(&self) -> u64 {
        let listed = self.findings.iter().filter(|finding| finding.severity == Severity::Damage).count();
        listed as u64 + self.unlisted
    }

    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged() == 0
    }

    /// Adds a finding, unless its file has had its share.
    pub(super) fn add(&mut self, finding: Finding) {
        let of_file = self.findings.iter().rev().take_while(|known| known.path == finding.path).count();
        if of_file < FINDINGS_PER_FILE_MAX {
            self.findings.push(finding);
        } else if finding.severity == Severity::Damage {
            self.unlisted += 1;
        }
    }

    /// Adds damage of a whole file.
    pub(super) fn damage(&mut self, path: &Path, error: &Error, affected: Option<Affected>) {
        self.add(Finding { affected, ..Finding::of_file(Severity::Damage, path, plain(path, error)) });
    }

    /// Adds a note or an orphan.
    pub(super) fn mention(&mut self, severity: Severity, path: &Path, what: &str) {
        self.add(Finding::of_file(severity, path, what.to_owned()));
    }
}

impl Finding {
    /// About a file as a whole.
    pub(super) fn of_file(severity: Severity, path: &Path, what: String) -> Self {
        Self { severity, path: path.to_owned(), offset: None, page: None, what, affected: None }
    }
}

impl Affected {
    /// All rows of a segment.
    pub(super) fn of_segment(meta: &SegmentMeta) -> Self {
        let range = TimeRange::new(meta.min_ts_ns, meta.max_ts_ns.saturating_add(1));
        Self { tier: Some(meta.tier), measurement: None, range, rows: meta.rows }
    }
}

/// The text of an error without the name of the file, which stands beside it.
pub(super) fn plain(path: &Path, error: &Error) -> String {
    let (text, name) = (error.to_string(), path.display().to_string());
    match text.strip_prefix(&name) {
        Some(rest) => rest.trim_start_matches([':', ' ']).to_owned(),
        None => text,
    }
}
