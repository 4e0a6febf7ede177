//! How series leave: what nothing on disk and nothing in memory names any more is not found, listed or counted, and
//! its id is never given again. Knows nothing of why a series may leave, nor of files.
//!
//! Order of events: [`State::leave`] notes ids, so that no row gets one of them from then on, and makes pending definitions
//! of that, so that the log says so before it has a series of the same key under a new id. [`State::sweep`] takes them from
//! hash tables and postings, in pieces. What left is in the next catalog file ([`State::unsaved_below`]), and
//! [`State::note_saved`] ends its way. Texts and keys stay until half of them are of series that left, and then until the
//! next time that series leave, when what is there is copied ([`Copied`]): a reader that selected a series before it left
//! still gets its key.

use std::iter::Peekable;
use std::ops::Range;

use roaring::RoaringBitmap;

use super::Definition;
use super::keys::{Keys, PackedKey};
use super::postings::Postings;
use super::state::{State, contradiction, gap};
use crate::Result;
use crate::model::SeriesId;

/// First ids and lengths.
pub(super) type Ranges<'a> = Peekable<Box<dyn Iterator<Item = (u32, u32)> + 'a>>;

impl State {
    /// Ids that are given out, of series that have not left, below an id.
    pub(super) fn living_below(&self, end: u32) -> RoaringBitmap {
        let mut ids = RoaringBitmap::new();
        ids.insert_range(0..end.min(self.keys.next()));
        ids - &self.left
    }

    pub(super) fn has(&self, id: SeriesId) -> bool {
        id.0 < self.keys.next() && !self.left.contains(id.0)
    }

    /// Series leave; those that have left, or never were, are passed over.
    pub(super) fn leave(&mut self, ids: &RoaringBitmap) {
        let left = ids.range(..self.keys.next()).filter(|id| !self.left.contains(*id)).collect();
        let leaves = ranges(RoaringBitmap::iter(&left))
            .map(|(first, count)| Definition::Left { first: SeriesId(first), count });
        self.pending.extend(leaves);
        self.note_left(&left);
    }

    fn note_left(&mut self, left: &RoaringBitmap) {
        self.raw_keys.forget(left);
        self.left |= left;
        self.unsaved |= left;
        self.unswept |= left;
    }

    /// Takes at most so many of the series that left out of everything but their keys; tells whether there are more.
    pub(super) fn sweep(&mut self, count_max: usize) -> bool {
        let piece: RoaringBitmap = self.unswept.iter().take(count_max).collect();
        for id in piece.iter().map(SeriesId) {
            let numbers = self.keys.numbers(id);
            if let Some((measurement, numbers)) = numbers.split_first()
                && let Some(entry) = self.measurements.get_mut(*measurement as usize)
            {
                entry.postings.remove(id, numbers);
            }
            self.keys.remove(id);
        }
        self.unswept -= piece;
        !self.unswept.is_empty()
    }

    /// What a catalog file or the log says of ids: they left. Of ids that were not given out yet it stands in the place
    /// of their definitions.
    pub(super) fn define_left(&mut self, first: SeriesId, count: u32) -> Result<()> {
        let (next, end) = (self.keys.next(), first.0.checked_add(count));
        let refuse =
            |why: &str| Err(contradiction(&format!("{count} series from id {} that left", first.0), why));
        let Some(end) = end.filter(|_| 0 < count) else { return refuse("there are no such ids") };
        if end <= next {
            self.note_left(&(first.0..end).filter(|id| !self.left.contains(*id)).collect());
            self.sweep(usize::MAX);
        } else if first.0 == next {
            self.left.insert_range(first.0..end);
            self.keys.skip_to(end);
        } else {
            return refuse(&gap(next as usize));
        }
        Ok(())
    }

    /// Whether the log or a job says of some series that they left, and no catalog file does.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// The ids below an id that left and that no catalog file names so.
    pub(super) fn unsaved_below(&self, end: usize) -> Ranges<'_> {
        between(&self.unsaved, 0..end)
    }

    /// The ids of a range that left.
    pub(super) fn left_between(&self, ids: Range<usize>) -> Ranges<'_> {
        between(&self.left, ids)
    }

    /// All that left is in live catalog files.
    pub(super) fn note_saved(&mut self) {
        self.unsaved.clear();
        self.pending.retain(|definition| !matches!(definition, Definition::Left { .. }));
    }

    /// Whether what is kept of series that left is worth giving back: more keys are of them than of others, or names take
    /// nearly as much as they may, here or in all databases together.
    pub(super) fn is_mostly_left(&self) -> bool {
        let is_nearly_full =
            self.limits.catalog_bytes_max / 4 * 3 <= self.bytes() || self.share.account().is_nearly_full();
        self.keys.len() < self.keys.removed() || (is_nearly_full && 0 < self.keys.removed())
    }

    /// Copies the next series that are there, at most about so many ids; tells whether there are more.
    pub(super) fn copy_to(&self, copied: &mut Copied, count_max: u32) -> bool {
        copied.postings.resize_with(self.measurements.len(), Postings::default);
        let (start, next) = (copied.keys.next(), self.keys.next());
        let end = next.min(start.saturating_add(count_max));
        for id in (start..end).filter(|id| !self.left.contains(*id)) {
            let numbers = self.keys.numbers(SeriesId(id));
            let Some((measurement, numbers)) = numbers.split_first() else { continue };
            let place = *measurement as usize;
            let (Some(old), Some(new)) = (self.measurements.get(place), copied.postings.get_mut(place))
            else {
                continue;
            };
            let tags: Vec<(&str, &str)> = old.postings.tags_of(numbers).collect();
            let mut packed = Vec::with_capacity(1 + numbers.len());
            packed.push(*measurement);
            new.insert(SeriesId(id), &tags, &mut packed);
            copied.keys.skip_to(id);
            copied.keys.push(&PackedKey::new(&packed));
        }
        copied.keys.skip_to(end);
        end < next
    }

    /// Goes on with a copy of all that is there; gives what it replaces, which takes a while to drop.
    pub(super) fn replace(&mut self, mut copied: Copied) -> Copied {
        assert_eq!(copied.keys.len(), self.keys.len(), "every series that is there has a key");
        std::mem::swap(&mut self.keys, &mut copied.keys);
        for (entry, postings) in self.measurements.iter_mut().zip(&mut copied.postings) {
            std::mem::swap(&mut entry.postings, postings);
        }
        self.measure_postings();
        copied
    }
}

/// Keys and postings of the series that are there, without those that left.
#[derive(Default)]
pub(super) struct Copied {
    /// By measurement.
    postings: Vec<Postings>,
    keys: Keys,
}

fn between(set: &RoaringBitmap, ids: Range<usize>) -> Ranges<'_> {
    let bound = |id: usize| u32::try_from(id).unwrap_or(u32::MAX);
    let ids: Box<dyn Iterator<Item = (u32, u32)>> =
        Box::new(ranges(set.range(bound(ids.start)..bound(ids.end))));
    ids.peekable()
}

/// Ascending ids as ranges.
fn ranges(ids: impl Iterator<Item = u32>) -> impl Iterator<Item = (u32, u32)> {
    let mut ids = ids.peekable();
    std::iter::from_fn(move || {
        let first = ids.next()?;
        let mut count = 1;
        while ids.next_if(|id| *id - first == count).is_some() {
            count += 1;
        }
        Some((first, count))
    })
}
