//! Takes damaged segments out of a database that refuses to open, or that cannot merge, for them: the files are moved
//! to `quarantine/`, never removed, and the manifest forgets them. Runs only when an operator asks for it, on a
//! directory that no engine has open. Knows nothing of pages: [`check`] says which files are damaged.
//!
//! Order of events: check, decide (`decide`, pure), move the files, sync both directories, replace the manifest.
//! Cut short in between, the manifest names files that are missing: opening still refuses, nothing is an orphan that
//! the next start would remove, and the same order again finishes the work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::{CheckReport, check};
use crate::compact::reaches;
use crate::fs::Fs;
use crate::manifest::{Manifest, RolledSpan, SegmentMeta};
use crate::model::{Tier, TimeRange};
use crate::segment::{PageCache, Segment};
pub use crate::tombstone;
use crate::version::QUARANTINE_DIR;
use crate::version::{segment_name, segment_path, segments_dir};
use crate::{Error, ErrorKind, Result};

/// Rows or cells that are not in the database any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where their file is now; `None` when it was missing.
    pub file: Option<PathBuf>,
    /// Rows or cells of which width.
    pub tier: Tier,
    /// Their times.
    pub range: TimeRange,
    /// How many there were.
    pub rows: u64,
    /// Names of the measurements in the file; empty when they cannot be read.
    pub measurements: Vec<Arc<str>>,
    /// Layers whose cells still answer for all of the range.
    pub answered_by: Vec<Tier>,
}

/// What was taken out of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineReport {
    /// What was found before.
    pub check: CheckReport,
    /// What is lost, by file.
    pub losses: Vec<Loss>,
    /// Spans whose cells were taken out and are computed anew from their raw rows: nothing is lost there.
    pub recomputed: Vec<TimeRange>,
    /// Where the files are now.
    pub moved: Vec<PathBuf>,
}

/// Which segments leave the manifest, and what becomes of the spans.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decision {
    /// Damaged: what they hold is lost.
    lost: BTreeSet<u64>,
    /// Cells, damaged or whole, of spans that are computed anew.
    replaced: BTreeSet<u64>,
    recomputed: Vec<TimeRange>,
    /// Spans that have lost all their cells: what is left of their raw rows answers.
    dropped: Vec<TimeRange>,
}

/// Takes the damaged segments out of a database. Damage of other files is reported in `check` and stays.
///
/// # Errors
/// `Corruption` when there is no manifest, or a damaged one; those of [`check`]; those of the file system, and then
/// the call can be repeated.
pub fn quarantine(fs: &Arc<dyn Fs>, dir: &Path) -> Result<QuarantineReport> {
    let check = check(fs, dir)?;
    let Some(mut manifest) = Manifest::load(&**fs, dir)? else {
        return Err(Error::corruption(format!("{} has no manifest", dir.display())));
    };
    let decision = decide(&manifest, &check.damaged_segments);
    let mut report =
        QuarantineReport { check, losses: Vec::new(), recomputed: decision.recomputed, moved: Vec::new() };
    if report.check.damaged_segments.is_empty() {
        return Ok(report);
    }
    let gone: BTreeSet<u64> = decision.lost.union(&decision.replaced).copied().collect();
    let (out, rest): (Vec<_>, Vec<_>) = manifest.segments.iter().partition(|meta| gone.contains(&meta.id));
    let names: Vec<_> = out.iter().map(|meta| measurements(fs, dir, meta)).collect();
    fs.create_dir_all(&dir.join(QUARANTINE_DIR))?;
    for (meta, measurements) in out.into_iter().zip(names) {
        let file = set_aside(&**fs, dir, meta.id)?;
        report.moved.extend(file.clone());
        if decision.lost.contains(&meta.id) {
            report.losses.push(Loss {
                file,
                tier: meta.tier,
                range: TimeRange::new(meta.min_ts_ns, meta.max_ts_ns.saturating_add(1)),
                rows: meta.rows,
                measurements,
                answered_by: answered_by(&manifest, &meta, &gone),
            });
        }
    }
    fs.sync_dir(&dir.join(QUARANTINE_DIR))?;
    fs.sync_dir(&segments_dir(dir))?;
    manifest.segments = rest;
    // Of a segment that is gone nothing is hidden any more; its cells, which the delete named too, stay masked.
    tombstone::forget(&mut manifest.tombstones, &gone.into_iter().collect::<Vec<_>>());
    manifest
        .rolled
        .retain(|span| !report.recomputed.contains(&span.span) && !decision.dropped.contains(&span.span));
    manifest.store(&**fs, dir)?;
    Ok(report)
}

/// Decides what leaves the manifest. A span with a damaged file of cells is computed anew when all its raw rows are
/// there; else it keeps the cells it has. Spans keep the ids of raw segments that are lost, which freezes them: see
/// [`rolled::is_frozen`](crate::rolled::is_frozen).
fn decide(manifest: &Manifest, damaged: &BTreeSet<u64>) -> Decision {
    let raw = manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw && !damaged.contains(&meta.id));
    let raw: BTreeSet<u64> = raw.map(|meta| meta.id).collect();
    let mut decision = Decision { lost: damaged.clone(), ..Decision::default() };
    for RolledSpan { span, covers } in &manifest.rolled {
        let cells = manifest.segments.iter().filter(|meta| meta.tier != Tier::Raw && meta.partition == *span);
        let cells: BTreeSet<u64> = cells.map(|meta| meta.id).collect();
        let is_whole = manifest.floors_ns[0] <= span.start_ns && covers.iter().all(|id| raw.contains(id));
        if is_whole && !cells.is_disjoint(damaged) {
            decision.recomputed.push(*span);
            decision.lost.retain(|id| !cells.contains(id));
            decision.replaced.extend(cells);
        } else if !cells.is_empty() && cells.is_subset(damaged) {
            decision.dropped.push(*span);
        }
    }
    decision
}

/// The layers that still have cells for all rows of a segment.
fn answered_by(manifest: &Manifest, lost: &SegmentMeta, gone: &BTreeSet<u64>) -> Vec<Tier> {
    let has_cells = |tier: Tier, span: &RolledSpan| {
        manifest
            .segments
            .iter()
            .any(|meta| meta.tier == tier && meta.partition == span.span && !gone.contains(&meta.id))
    };
    let answers = |tier: &Tier| {
        let mut reached_ns = lost.min_ts_ns;
        for span in manifest.rolled.iter().filter(|span| reaches(lost, span.span)) {
            let is_covered = lost.tier != Tier::Raw || span.covers.contains(&lost.id);
            if is_covered && has_cells(*tier, span) && span.span.start_ns <= reached_ns {
                reached_ns = span.span.end_ns;
            }
        }
        lost.max_ts_ns < reached_ns
    };
    Tier::CELLS.into_iter().filter(answers).collect()
}

/// Names of the measurements in a segment, as far as its footer can be read.
fn measurements(fs: &Arc<dyn Fs>, dir: &Path, meta: &SegmentMeta) -> Vec<Arc<str>> {
    // An earlier, interrupted call may have moved it.
    let moved = dir.join(QUARANTINE_DIR).join(segment_name(meta.id));
    let open = |path: &Path| Segment::open(fs, path, meta.id, Arc::new(PageCache::new(0)));
    match open(&segment_path(dir, meta.id)).or_else(|_| open(&moved)) {
        Ok(segment) => segment.sections().iter().map(|section| Arc::clone(&section.name)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Moves the file of a segment; `None` when there is none. What an earlier, interrupted call moved is found there.
fn set_aside(fs: &dyn Fs, dir: &Path, id: u64) -> Result<Option<PathBuf>> {
    let (from, to) = (segment_path(dir, id), dir.join(QUARANTINE_DIR).join(segment_name(id)));
    match (fs.has(&from)?, fs.has(&to)?) {
        (true, false) => {
            fs.rename(&from, &to)?;
            Ok(Some(to))
        }
        (true, true) => {
            let message = format!("{} is there already; move it elsewhere first", to.display());
            Err(Error::new(ErrorKind::Conflict, message))
        }
        (false, true) => Ok(Some(to)),
        (false, false) => Ok(None),
    }
}
