//! Which of some series may have something in a stretch of time: a series that ended before it, or began behind it, is
//! neither read nor listed. Told by whole files, from the rows in memory and the series tables of segments, which are
//! cached; no page is read.
//!
//! Idea: the per-day index of VictoriaMetrics, without an index of its own.

use roaring::RoaringBitmap;

use super::view::View;
use crate::model::{HOUR_NS, MeasurementId, RowBlock, SeriesId, Tier, TimeRange, ceil_to, floor_to};
use crate::version::LiveSegment;
use crate::{ErrorKind, Result};

/// In a range of more files hardly a series is idle, and finding out costs more than reading it.
const FILES_MAX: usize = 48;

/// Takes series out, given in ascending order, that have nothing in a range. What cannot be told stays.
///
/// # Errors
/// Those of the file system.
pub(super) fn retain(
    view: &View,
    measurement: MeasurementId,
    range: TimeRange,
    series: &mut Vec<SeriesId>,
) -> Result<()> {
    if range == TimeRange::ALL || series.is_empty() {
        return Ok(());
    }
    let (tiers, range) = reach(view, range);
    let files = files(view, measurement, tiers, range);
    if FILES_MAX < files.len() {
        return Ok(());
    }
    // In another order none is left out.
    let Ok(mut idle) = RoaringBitmap::from_sorted_iter(series.iter().map(|series| series.0)) else {
        return Ok(());
    };
    for run in view.memory_runs(measurement, range).iter().rev() {
        strike(run, &mut idle);
        if idle.is_empty() {
            return Ok(());
        }
    }
    for live in files.iter().rev() {
        let Some(section) = live.segment.section(measurement) else { continue };
        match live.segment.series_ids(section) {
            Ok(ids) => idle -= &*ids,
            // Its pages may still be whole.
            Err(error) if error.kind() == ErrorKind::Corruption => return Ok(()),
            Err(error) => return Err(error),
        }
        if idle.is_empty() {
            return Ok(());
        }
    }
    series.retain(|series| !idle.contains(series.0));
    Ok(())
}

/// The tiers that know of everything in a range, and what of time is read for it: where rows may be gone cells answer, and windows
/// may be widened to whole ones.
fn reach(view: &View, range: TimeRange) -> (&'static [Tier], TimeRange) {
    let version = view.version();
    let has_all_rows = version.floors_ns[0] <= range.start_ns && version.lost.frozen.is_empty();
    if has_all_rows && version.rule_sets.is_empty() {
        return (&[Tier::Raw], range);
    }
    let hours = TimeRange::new(floor_to(range.start_ns, HOUR_NS), ceil_to(range.end_ns, HOUR_NS));
    (&[Tier::H1, Tier::M5, Tier::M1, Tier::Raw], hours)
}

/// The files of some tiers that reach into a range.
fn files<'a>(
    view: &'a View,
    measurement: MeasurementId,
    tiers: &[Tier],
    range: TimeRange,
) -> Vec<&'a LiveSegment> {
    let reaching = |tier: &Tier| {
        // A cell has the time of its left edge, and ends before that of the next.
        let start_ns = range.start_ns.saturating_sub((tier.width_ns() - 1).max(0));
        view.segments(*tier, measurement, TimeRange::new(start_ns, range.end_ns))
    };
    tiers.iter().flat_map(reaching).collect()
}

/// Takes the series that have rows in a sorted run out of `idle`. Costs a search for each series of the shorter list.
fn strike(run: &RowBlock, idle: &mut RoaringBitmap) {
    let (mut rest, mut found) = (run.series.as_slice(), Vec::new());
    let mut wanted = idle.iter();
    while let (Some(first), Some(next)) = (rest.first(), wanted.next()) {
        if next < first.0 {
            wanted.advance_to(first.0);
            continue;
        }
        rest = from(rest, next);
        if rest.first().is_some_and(|series| series.0 == next) {
            found.push(next);
        }
    }
    *idle -= found.into_iter().collect::<RoaringBitmap>();
}

/// The series from an id on. Looks near the start first: those that are wanted often lie close together.
fn from(series: &[SeriesId], id: u32) -> &[SeriesId] {
    let mut step = 1;
    while series.get(step).is_some_and(|series| series.0 < id) {
        step *= 2;
    }
    let within = series.get(..=step).unwrap_or(series);
    series.get(within.partition_point(|series| series.0 < id)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strike_takes_what_a_run_has(
            mut of_run in proptest::collection::vec(0_u32..200, 0..300),
            wanted in proptest::collection::btree_set(0_u32..220, 0..80),
        ) {
            of_run.sort_unstable();
            let series: Vec<SeriesId> = of_run.iter().copied().map(SeriesId).collect();
            let run = RowBlock { ts_ns: vec![0; series.len()], series, columns: Vec::new() };
            let mut idle: RoaringBitmap = wanted.iter().copied().collect();
            strike(&run, &mut idle);
            let left: Vec<u32> = wanted.into_iter().filter(|id| !of_run.contains(id)).collect();
            prop_assert_eq!(idle.iter().collect::<Vec<_>>(), left);
        }
    }
}
