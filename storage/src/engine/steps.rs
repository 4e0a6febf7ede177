//! Merges and rolls, step by step: the parts of the background work that take long. After each step the lane is left to others
//! when they wait for it (`gives_way`), and flushes that fall due are done where nobody else does.

use super::Engine;
use super::jobs::Jobs;
use crate::compact::{self, Merge};
use crate::model::{MINUTE_NS, Tier, TimeRange};
use crate::rolled::RawSegment;
use crate::rollup::{self, PickSettings, Work};
use crate::{Error, ErrorKind, Result};

/// How long after its end a partition still expects late rows before it is sealed.
pub(super) const LATENESS_NS: i64 = 10 * MINUTE_NS;
/// Passes that merge partitions into one segment each: enough for tens of thousands, and an end when more are flushed
/// meanwhile.
const PASSES_MAX: usize = 4;
/// A merge of at most this part of the disk that is kept free may use up to half of that.
const SMALL_PART: u64 = 8;

/// Whether a roll may hold a page of each input.
fn is_light(work: &Work) -> bool {
    work.inputs.len() <= rollup::INPUTS_MAX
}

impl Engine {
    /// Merges every partition into one segment, a few inputs at a time.
    pub(super) fn compact_whole(&self, jobs: &mut Jobs) -> Result<()> {
        let mut outcome = Ok(());
        for _ in 0..PASSES_MAX {
            let before = self.store.manifest().segments.len();
            outcome = outcome.and(self.compact(jobs, i64::MAX, &[]));
            if self.store.manifest().segments.len() == before {
                break;
            }
        }
        outcome
    }

    /// Merges what is worth it; the first failure, after all have been tried.
    pub(super) fn compact(
        &self,
        jobs: &mut Jobs,
        closed_before_ns: i64,
        receiving: &[TimeRange],
    ) -> Result<()> {
        let merges = compact::pick(&self.store.manifest().segments, closed_before_ns, receiving);
        self.merge(jobs, merges)
    }

    fn merge(&self, jobs: &mut Jobs, merges: Vec<Merge>) -> Result<()> {
        let mut outcome = Ok(());
        for merge in merges {
            if self.is_closed() || self.gives_way(jobs) {
                break;
            }
            if !jobs.may_read(&merge.inputs) {
                continue;
            }
            let merged = self.check_room(&merge).and_then(|()| compact::run(&self.store, &merge));
            jobs.steps += u64::from(merged.is_ok());
            jobs.note_damage(&self.store, &merge.inputs, &merged);
            outcome = outcome.and(merged).and(self.flush_between());
        }
        outcome
    }

    pub(super) fn roll(&self, jobs: &mut Jobs, is_forced: bool, receiving: &[TimeRange]) -> Result<()> {
        let (mut works, crowded): (Vec<Work>, Vec<Work>) =
            self.works(jobs, is_forced, receiving).into_iter().partition(is_light);
        let mut outcome = Ok(());
        for span in crowded.iter().map(|work| work.span) {
            if jobs.gave_way {
                break;
            }
            let gathered = self.gather(jobs, span);
            // With many segments, where there is no room for their merge: without the roll retention could not free the disk.
            let may_roll = gathered.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::DiskFull);
            outcome = outcome.and(gathered);
            if may_roll {
                // It is rolled from other segments now, and before more of them come.
                let mut anew = self.works(jobs, is_forced, receiving);
                anew.retain(|work| work.span == span);
                outcome = outcome.and(self.roll_all(jobs, &anew));
            }
        }
        if !crowded.is_empty() {
            works = self.works(jobs, is_forced, receiving);
            works.retain(is_light);
        }
        outcome.and(self.roll_all(jobs, &works))
    }

    fn roll_all(&self, jobs: &mut Jobs, works: &[Work]) -> Result<()> {
        let mut outcome = Ok(());
        for works in rollup::together(works) {
            if self.is_closed() || self.gives_way(jobs) {
                break;
            }
            let rolled = self.roll_together(jobs, works);
            jobs.steps += u64::from(rolled.is_ok());
            outcome = outcome.and(rolled).and(self.flush_between());
        }
        outcome
    }

    /// What is to be rolled, without what cannot be read.
    fn works(&self, jobs: &Jobs, is_forced: bool, receiving: &[TimeRange]) -> Vec<Work> {
        let now_ns = self.store.env.clock.now_ns();
        let manifest = self.store.manifest();
        let raw_floor_ns = manifest.floors_ns[0];
        let settings = PickSettings { lateness_ns: LATENESS_NS, force: is_forced, raw_floor_ns, receiving };
        let raw = manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw);
        let raw: Vec<RawSegment> = raw.map(RawSegment::from).collect();
        let mut works = rollup::pick(&raw, &manifest.rolled, now_ns, settings);
        works.retain(|work| jobs.may_read(&work.inputs));
        works
    }

    /// Merges until the rows of a span lie in so few segments that a roll may hold a page of each. Many come together
    /// where flushes are faster than the jobs.
    fn gather(&self, jobs: &mut Jobs, span: TimeRange) -> Result<()> {
        for _ in 0..PASSES_MAX {
            let before = self.store.manifest();
            let segments = &before.segments;
            let inputs =
                segments.iter().filter(|meta| meta.tier == Tier::Raw && compact::reaches(meta, span));
            if inputs.count() <= rollup::INPUTS_MAX {
                break;
            }
            self.merge(jobs, compact::pick_within(segments, span))?;
            if segments.len() <= self.store.manifest().segments.len() {
                break;
            }
        }
        Ok(())
    }

    /// Rolls spans at once; when that fails, and maybe for one file, those that do not need it.
    fn roll_together(&self, jobs: &mut Jobs, works: &[Work]) -> Result<()> {
        let rolled = self.roll_at_once(jobs, works);
        let inputs: Vec<u64> = works.iter().flat_map(|work| work.inputs.iter().copied()).collect();
        jobs.note_damage(&self.store, &inputs, &rolled);
        // Damage, and errors of input and output.
        let is_of_file = |error: &Error| matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Internal);
        let is_of_file = rolled.as_ref().is_err_and(is_of_file);
        let mut outcome = rolled;
        if is_of_file && 1 < works.len() {
            for work in works.iter().filter(|work| jobs.may_read(&work.inputs)).collect::<Vec<_>>() {
                let alone = self.roll_at_once(jobs, std::slice::from_ref(work));
                jobs.note_damage(&self.store, &work.inputs, &alone);
                outcome = outcome.and(alone);
            }
        }
        outcome
    }

    fn roll_at_once(&self, jobs: &mut Jobs, works: &[Work]) -> Result<()> {
        rollup::job::run(&self.store, works)?;
        let now_ns = self.store.env.clock.monotonic_ns();
        works.iter().for_each(|work| jobs.late.note_rolled(work.span, now_ns));
        Ok(())
    }

    /// Refuses a merge that might leave so little of the disk that writes are refused, or one in its midst has no room.
    fn check_room(&self, merge: &Merge) -> Result<()> {
        let manifest = self.store.manifest();
        let inputs = manifest.segments.iter().filter(|meta| merge.inputs.contains(&meta.id));
        let bytes: u64 = inputs.map(|meta| meta.bytes).sum();
        let (free, min) = (self.store.env.fs.free_bytes(&self.store.dir)?, self.store.options.free_bytes_min);
        let kept = if bytes <= min / SMALL_PART { min / 2 } else { min };
        if free < bytes.saturating_add(kept) {
            let message = format!(
                "a merge of {bytes} bytes waits for room on the disk: {free} bytes are free, {kept} of them not to be used \
                 (limit free_bytes_min)"
            );
            return Err(Error::new(ErrorKind::DiskFull, message));
        }
        Ok(())
    }
}
