//! What a pass would do, and what the next ones will: a list for people, of the same choice.

use std::collections::BTreeSet;
use std::path::Path;

use super::pick::{Facts, age_ns, is_past, pick};
use super::{Guard, Hold, Moment, TIERS, facts};
use crate::fs::Fs;
use crate::manifest::{Manifest, SegmentMeta};
use crate::model::{Tier, TimeRange};
use crate::options::Retention;
use crate::version::wal_dir;
use crate::wal::{Record, replay};
use crate::{Error, Result};

/// What would go now and when the next go. Nothing is changed by making it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan {
    /// When it was made, in nanoseconds UTC.
    pub now_ns: i64,
    /// The retention in force.
    pub retention: Retention,
    /// Raw, 1m, 5m, 1h.
    pub tiers: [TierPlan; 4],
}

/// What would become of the files of a tier. Each is in one of `goes`, `held` and `kept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierPlan {
    /// The tier.
    pub tier: Tier,
    /// All before this time is gone already; `None`: nothing is.
    pub gone_before_ns: Option<i64>,
    /// Files that would go now, the oldest first.
    pub goes: Vec<SegmentMeta>,
    /// Files that are past their age and stay for now, the oldest first.
    pub held: Vec<SegmentMeta>,
    /// Why they stay.
    pub hold: Option<Hold>,
    /// Files that are not past their age, those that will be first first.
    pub kept: Vec<SegmentMeta>,
    /// When the first of these will be, and how many of them; `None`: they are kept for ever, or there are none.
    pub next: Option<(i64, usize)>,
}

impl RetentionPlan {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        let choice = pick(facts);
        let mut held = choice.held.into_iter();
        let tiers = TIERS.map(|tier| {
            let floor_ns =
                facts.floors_ns.get(tier as usize).copied().filter(|floor_ns| *floor_ns != i64::MIN);
            let hold = held.next().flatten();
            TierPlan { gone_before_ns: floor_ns, hold, ..TierPlan::of(facts, tier, &choice.remove) }
        });
        Self { now_ns: facts.now_ns, retention: facts.retention, tiers }
    }
}

impl TierPlan {
    fn of(facts: &Facts<'_>, tier: Tier, remove: &[u64]) -> Self {
        let mut metas: Vec<SegmentMeta> =
            facts.segments.iter().filter(|meta| meta.tier == tier).copied().collect();
        metas.sort_by_key(|meta| (meta.partition.end_ns, meta.id));
        let (goes, stay): (Vec<_>, Vec<_>) = metas.into_iter().partition(|meta| remove.contains(&meta.id));
        let (held, kept): (Vec<_>, Vec<_>) =
            stay.into_iter().partition(|meta| is_past(facts, tier, meta.partition.end_ns));
        let next = age_ns(facts.retention, tier).zip(kept.first()).map(|(age_ns, first)| {
            let end_ns = first.partition.end_ns;
            let files = kept.iter().take_while(|meta| meta.partition.end_ns == end_ns).count();
            (end_ns.saturating_add(age_ns), files)
        });
        Self { tier, gone_before_ns: None, goes, held, hold: None, kept, next }
    }
}

/// What a pass over a database directory that no engine has open would do. Reads the manifest and the log, and writes
/// nothing. Damage of segments is not looked for.
///
/// # Errors
/// `NotFound` when there is no manifest; `Corruption` of manifest or log; those of the file system.
pub fn plan_directory(fs: &dyn Fs, dir: &Path, now_ns: i64, guard: Guard) -> Result<RetentionPlan> {
    let Some(manifest) = Manifest::load(fs, dir)? else {
        let message = format!("{} has no manifest", dir.display());
        return Err(Error::new(crate::ErrorKind::NotFound, message));
    };
    let mut hull: Option<TimeRange> = None;
    replay(fs, &wal_dir(dir), manifest.log_extent(), &mut |_, record| {
        if let Record::Rows(blocks) = record {
            for ts_ns in blocks.iter().flat_map(|(_, rows)| &rows.ts_ns) {
                let TimeRange { start_ns, end_ns } = hull.unwrap_or(TimeRange::new(*ts_ns, *ts_ns));
                hull = Some(TimeRange::new(start_ns.min(*ts_ns), end_ns.max(ts_ns.saturating_add(1))));
            }
        }
        Ok(())
    })?;
    let memtables: Vec<TimeRange> = hull.into_iter().collect();
    Ok(RetentionPlan::of(&facts(&manifest, &memtables, &BTreeSet::new(), Moment { now_ns, guard })))
}
