//! Retention: drops whole files whose time is past a tier's age. What may go is a pure choice ([`pick`](pick::pick)); raw
//! files go only when the cells of their time are committed, and a clock that jumps does not delete everything.
//!
//! Read in this order: `pick` (the choice), `plan` (the same as a list for people), this file (doing it).

mod pick;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::pick::{Facts, class_floors, pick};
pub use self::plan::{RetentionPlan, TierPlan, plan_directory};
use crate::Result;
use crate::manifest::Manifest;
use crate::model::{Tier, TimeRange};
use crate::rules::{Floors, RuleSet, pruned};
use crate::version::{Edit, Store};

/// All tiers, the finest first.
const TIERS: [Tier; 4] = [Tier::Raw, Tier::M1, Tier::M5, Tier::H1];

/// Whether retention heeds its guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Pause when the clock is a day past the newest sample; drop at most a fifth of the files a pass.
    Careful,
    /// Drop all that is past its age.
    Forced,
}

/// What a retention pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Files dropped by tier: raw, 1m, 5m, 1h.
    pub dropped: [u64; 4],
    /// Why nothing more was dropped, when a guard held it back.
    pub paused: Option<String>,
}

/// Why files that are past their age stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The clock is more than a day past the newest sample.
    Clock,
    /// A pass drops at most a fifth of the files.
    Pace,
    /// Rows of that time or before are in memory or in the log alone.
    Unflushed,
    /// Raw rows of that time or before are not in committed cells yet.
    NoCells,
    /// Such rows lie in a damaged segment, which cannot be rolled.
    Damaged,
    /// They share a rolled span with rows that are not past their age.
    Span,
    /// Coarser cells of their time hold deleted rows, and are pressed anew from them first.
    Deletes,
}

impl Hold {
    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Clock => "the clock is more than a day past the newest sample; nothing was dropped",
            Self::Pace => "a pass drops at most a fifth of the files; the rest goes at the next",
            Self::Unflushed => "rows of that time are not flushed and rolled up yet",
            Self::NoCells => "raw rows of that time are not rolled up yet",
            Self::Damaged => {
                "raw rows of that time lie in a damaged segment and cannot be rolled up; see `icecore check`"
            }
            Self::Span => "they were rolled up together with rows that are not past their age yet",
            Self::Deletes => "deletes of that time are not purged yet",
        }
    }
}

/// Drops what [`pick`](pick::pick) chose.
///
/// # Errors
/// Those of the file system.
pub(crate) fn run(store: &Store, guard: Guard, damaged: &BTreeSet<u64>) -> Result<RetentionReport> {
    let (manifest, version) = store.live();
    let memtables = version.memtable_ranges();
    let facts = facts(&manifest, &memtables, damaged, Moment { now_ns: store.env.clock.now_ns(), guard });
    let choice = pick(&facts);
    let rule_sets = raised(&facts, &manifest, choice.floors_ns);
    // What the guards hold back, not what has yet to be done before.
    let guarded = choice.held.into_iter().flatten().find(|hold| matches!(hold, Hold::Clock | Hold::Pace));
    let paused = guarded.map(|hold| hold.reason().to_owned());
    let mut report = RetentionReport { paused, ..RetentionReport::default() };
    if choice.remove.is_empty() {
        if rule_sets != manifest.rule_sets {
            store.commit(Edit { rule_sets: Some(rule_sets), ..Edit::default() })?;
        }
        return Ok(report);
    }
    for meta in manifest.segments.iter().filter(|meta| choice.remove.contains(&meta.id)) {
        if let Some(dropped) = report.dropped.get_mut(meta.tier as usize) {
            *dropped += 1;
        }
    }
    let mut rolled = manifest.rolled.clone();
    for span in &mut rolled {
        span.covers.retain(|id| !choice.remove.contains(id));
    }
    let oldest_ns = choice.floors_ns.iter().copied().min().unwrap_or(i64::MIN);
    rolled.retain(|span| span.span.end_ns > oldest_ns);
    let edit = Edit {
        remove: choice.remove,
        rolled: Some(rolled),
        floors_ns: Some(choice.floors_ns),
        rule_sets: Some(rule_sets),
        ..Edit::default()
    };
    store.commit(edit)?;
    Ok(report)
}

/// The rules in force with what their classes hide now, and those of before that still hide something.
fn raised(facts: &Facts<'_>, manifest: &Manifest, gone: Floors) -> Arc<[RuleSet]> {
    let mut sets = manifest.rule_sets.to_vec();
    // Without rules there is one class, and files go at its age.
    if let Some(set) = sets.last_mut()
        && !set.rules().is_empty()
    {
        *set = set.raised(set.ages(manifest.retention).map(|ages| class_floors(facts, ages)));
    }
    pruned(sets, gone)
}

/// What a pass of the engine would do now.
pub(crate) fn plan_of(store: &Store, guard: Guard, damaged: &BTreeSet<u64>) -> RetentionPlan {
    let (manifest, version) = store.live();
    let moment = Moment { now_ns: store.env.clock.now_ns(), guard };
    RetentionPlan::of(&facts(&manifest, &version.memtable_ranges(), damaged, moment))
}

/// When a choice is made, and how carefully.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now_ns: i64,
    guard: Guard,
}

fn facts<'a>(
    manifest: &'a Manifest,
    memtables: &'a [TimeRange],
    damaged: &'a BTreeSet<u64>,
    Moment { now_ns, guard }: Moment,
) -> Facts<'a> {
    Facts {
        segments: &manifest.segments,
        rolled: &manifest.rolled,
        tombstones: &manifest.tombstones,
        damaged,
        memtables,
        floors_ns: manifest.floors_ns,
        retention: manifest.kept(),
        now_ns,
        guard,
    }
}
