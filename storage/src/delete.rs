//! Deletes: [`mark`] hides rows at once, the purge ([`pick`], [`run`]) takes them out of the files in the
//! background. Knows nothing of selectors; the engine flushes before it marks, so that all rows that are to be
//! deleted lie in segments.
//!
//! Order: one manifest commit makes the tombstone, which names the segments that hold something of it. Then, a
//! commit a step, cells over raw rows are rolled again, other cells are pressed again from the finest that are
//! kept, and raw segments are written anew, all through the mask. A segment that is replaced leaves the
//! tombstone, and the last one takes it along.

use std::collections::{BTreeMap, BTreeSet};

use crate::compact::{self, Merge, reaches};
use crate::manifest::{Manifest, SegmentMeta};
use crate::model::{SeriesId, SeriesSet, Tier, TimeRange};
use crate::options::Options;
use crate::rolled::Lost;
use crate::rollup::{self, Work};
use crate::segment::{PageInfo, Section};
use crate::tombstone::{Source, Tombstone, widened};
use crate::version::{Edit, FileNumbers, LiveSegment, Store};
use crate::{Error, ErrorKind, Result};

/// What a delete hides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteReport {
    /// Segments that hold something of it and are written anew in the background; 0: there was nothing to delete.
    pub segments: u64,
    /// Raw rows of a part were gone already, and of cells that lie in the range but for a part the whole is
    /// deleted: the coarsest tier of such cells.
    pub rounded: Option<Tier>,
}

/// Hides rows of the targets in a range, durably. Of what is hidden already nothing is noted again.
///
/// # Errors
/// `LimitExceeded` when too much is waiting to be purged; those of the file system.
pub(crate) fn mark(store: &Store, targets: &[SeriesSet], range: TimeRange) -> Result<DeleteReport> {
    store.attempt(|numbers| hide(store, numbers, targets, range))
}

fn hide(
    store: &Store,
    numbers: &mut FileNumbers<'_>,
    targets: &[SeriesSet],
    range: TimeRange,
) -> Result<DeleteReport> {
    let (manifest, version) = store.live();
    let mut tombstones = manifest.tombstones.clone();
    let mut report = DeleteReport::default();
    for target in targets {
        let Some(mut tombstone) = tombstone(&version.segments, target, range) else { continue };
        report.segments += tombstone.pending.len() as u64;
        report.rounded = report.rounded.max(rounded(&manifest, &tombstone));
        let is_known = |known: &Tombstone| Tombstone { id: tombstone.id, ..known.clone() } == tombstone;
        if !tombstones.iter().any(is_known) {
            tombstone.id = numbers.take();
            tombstones.push(tombstone);
        }
    }
    if tombstones.len() == manifest.tombstones.len() {
        return Ok(report);
    }
    check_limits(&tombstones, &store.options)?;
    store.commit(Edit { tombstones: Some(tombstones), ..Edit::default() })?;
    Ok(report)
}

/// The tombstone of a target, still without a number; `None` when no segment holds anything of it.
fn tombstone(segments: &[LiveSegment], target: &SeriesSet, range: TimeRange) -> Option<Tombstone> {
    let mut series = target.series.clone();
    if let Some(series) = &mut series {
        series.sort_unstable();
        series.dedup();
    }
    let holds = |live: &&LiveSegment| {
        let section = live.segment.section(target.measurement);
        section.is_some_and(|section| holds(section, live.meta.tier, series.as_deref(), range))
    };
    let mut pending: Vec<u64> = segments.iter().filter(holds).map(|live| live.meta.id).collect();
    pending.sort_unstable();
    let measurement = target.measurement;
    (!pending.is_empty()).then(|| Tombstone {
        id: 0,
        measurement,
        series: series.map(Into::into),
        range,
        pending,
    })
}

/// Whether a section may hold rows, or cells, of some series in a range.
fn holds(section: &Section, tier: Tier, series: Option<&[SeriesId]>, range: TimeRange) -> bool {
    let has_series = |page: &PageInfo| {
        series.is_none_or(|series| {
            let first = series.partition_point(|series| *series < page.first_series);
            series.get(first).is_some_and(|series| *series <= page.last_series)
        })
    };
    let has_time =
        |page: &PageInfo| page.min_ts_ns < range.end_ns && widened(range.start_ns, tier) <= page.max_ts_ns;
    section.pages.iter().any(|page| has_time(page) && has_series(page))
}

/// The coarsest tier of which a cell lies in the range but for a part, where cells are all that is left.
fn rounded(manifest: &Manifest, tombstone: &Tombstone) -> Option<Tier> {
    let cells = manifest.segments.iter();
    let cells = cells.filter(|meta| meta.tier != Tier::Raw && tombstone.is_pending(meta.id));
    let frozen = Lost::of(manifest).frozen;
    let tiers = cells.filter_map(|meta| match Source::of(meta.partition, manifest.floors_ns, &frozen) {
        Source::Cells(finest) => Some((meta, finest)),
        Source::Rows | Source::Nothing => None,
    });
    let is_cut = |meta: &SegmentMeta, tier: Tier| {
        [tombstone.range.start_ns, tombstone.range.end_ns]
            .iter()
            .any(|ts_ns| meta.partition.contains(*ts_ns) && widened(*ts_ns, tier) != *ts_ns)
    };
    tiers.filter(|(meta, finest)| is_cut(meta, *finest)).map(|(_, finest)| finest).max()
}

fn check_limits(tombstones: &[Tombstone], options: &Options) -> Result<()> {
    let series = tombstones.iter().filter_map(|tombstone| tombstone.series.as_ref());
    for (found, what, max, limit) in [
        (tombstones.len(), "deletes", options.tombstones_max, "tombstones_max"),
        (
            series.map(|series| series.len()).sum(),
            "deleted series",
            options.tombstone_series_max,
            "tombstone_series_max",
        ),
    ] {
        if max < found {
            let message = format!(
                "{found} {what} would wait to be purged, more than {max} (limit {limit}); try again when some are"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
    }
    Ok(())
}

/// One step of the purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Roll a span again from raw rows.
    Roll(Work),
    /// Write the cells of a span anew from the finest that are kept.
    Press { span: TimeRange, from: Tier },
    /// Write a raw segment anew.
    Rewrite(Merge),
}

impl Step {
    /// Ids of the segments that it reads.
    pub(crate) fn inputs(&self, manifest: &Manifest) -> Vec<u64> {
        match self {
            Self::Roll(work) => work.inputs.clone(),
            Self::Rewrite(merge) => merge.inputs.clone(),
            Self::Press { span, .. } => {
                let is_read = |meta: &&SegmentMeta| meta.tier != Tier::Raw && meta.partition == *span;
                manifest.segments.iter().filter(is_read).map(|meta| meta.id).collect()
            }
        }
    }
}

/// Whether a delete may have to wait for damaged segments, which its steps would read.
pub(crate) fn is_held_up(manifest: &Manifest, tombstone: &Tombstone, damaged: &BTreeSet<u64>) -> bool {
    let pending = || manifest.segments.iter().filter(|meta| tombstone.is_pending(meta.id));
    let damaged = manifest.segments.iter().filter(|meta| damaged.contains(&meta.id));
    damaged.into_iter().any(|damaged| pending().any(|pending| reaches(damaged, pending.partition)))
}

/// Chooses the steps that end all tombstones. Cells come first: rolls name raw segments, and rewriting those changes
/// their numbers.
pub(crate) fn pick(manifest: &Manifest) -> Vec<Step> {
    let is_pending = |meta: &&SegmentMeta| manifest.tombstones.iter().any(|one| one.is_pending(meta.id));
    let (raw, cells): (Vec<&SegmentMeta>, Vec<&SegmentMeta>) =
        manifest.segments.iter().filter(is_pending).partition(|meta| meta.tier == Tier::Raw);
    let spans: BTreeMap<i64, TimeRange> =
        cells.iter().map(|meta| (meta.partition.start_ns, meta.partition)).collect();
    let frozen = Lost::of(manifest).frozen;
    let mut steps: Vec<Step> = spans.into_values().map(|span| cell_step(manifest, span, &frozen)).collect();
    steps.extend(raw.iter().map(|meta| Step::Rewrite(Merge { inputs: vec![meta.id] })));
    steps
}

fn cell_step(manifest: &Manifest, span: TimeRange, frozen: &[TimeRange]) -> Step {
    match Source::of(span, manifest.floors_ns, frozen) {
        Source::Rows => {
            let raw = manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw && reaches(meta, span));
            let mut inputs: Vec<u64> = raw.map(|meta| meta.id).collect();
            inputs.sort_unstable();
            Step::Roll(Work { span, inputs, replaces: Some(span) })
        }
        Source::Cells(from) => Step::Press { span, from },
        // What is past the age of every tier is only thrown away.
        Source::Nothing => Step::Press { span, from: Tier::H1 },
    }
}

/// Carries out one step.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then, and the rows stay hidden.
pub(crate) fn run(store: &Store, step: &Step) -> Result<()> {
    match step {
        Step::Roll(work) => rollup::job::run(store, std::slice::from_ref(work)),
        Step::Press { span, from } => rollup::job::press(store, *span, *from),
        Step::Rewrite(merge) => compact::run(store, merge),
    }
}
