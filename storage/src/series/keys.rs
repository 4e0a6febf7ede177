//! The keys of all series, each as a few numbers: its measurement, its set of tag keys and the place of each value in
//! the dictionary of its tag. The texts stand once, in [`super::postings`]; what they are is not known here.
//!
//! Equal keys have equal numbers and different keys different ones, so that a series is found by its numbers, exactly.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::pool::Pool;
use crate::codec::bytes::{Reader, put_varint};
use crate::model::SeriesId;

/// The numbers of each series, and the series of each.
#[derive(Default)]
pub(super) struct Keys {
    /// Varints; a position for each series that was added, in the order of ids.
    packed: Pool,
    /// Where ids and positions run in step: the first id and position of each run, ascending. One run, until ids are
    /// passed over.
    runs: Vec<Run>,
    /// Positions of the series that can be found.
    positions: HashTable<u32>,
    hasher: RandomState,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    id: u32,
    position: u32,
}

/// A key as it is kept and compared.
pub(super) struct PackedKey(Vec<u8>);

impl PackedKey {
    pub(super) fn new(numbers: &[u32]) -> Self {
        let mut bytes = Vec::with_capacity(5 * numbers.len());
        numbers.iter().for_each(|number| put_varint(&mut bytes, u64::from(*number)));
        Self(bytes)
    }
}

impl Keys {
    /// How many series can be found.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// How many keys are kept of series that cannot be found any more.
    pub(super) fn removed(&self) -> usize {
        self.packed.len() - self.positions.len()
    }

    /// The next id.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn find(&self, key: &PackedKey) -> Option<SeriesId> {
        let hash = self.hasher.hash_one(&key.0);
        let position = self.positions.find(hash, |position| self.packed.get(*position) == key.0)?;
        self.id_at(*position).map(SeriesId)
    }

    /// Adds the key of a series that [`Keys::find`] does not know, and gives it the next id.
    pub(super) fn push(&mut self, key: &PackedKey) -> SeriesId {
        let id = self.next;
        let position = self.packed.push(&key.0);
        if self.id_at(position) != Some(id) {
            self.runs.push(Run { id, position });
        }
        let Self { packed, positions, hasher, .. } = self;
        let rehash = |position: &u32| hasher.hash_one(packed.get(*position));
        positions.insert_unique(hasher.hash_one(&*key.0), position, rehash);
        self.next = id.saturating_add(1);
        SeriesId(id)
    }

    /// Passes over ids: the next is `next`, which is not below it.
    pub(super) fn skip_to(&mut self, next: u32) {
        self.next = self.next.max(next);
    }

    /// Takes a series out of those that are found; its numbers stay.
    pub(super) fn remove(&mut self, id: SeriesId) {
        let Some(position) = self.position_of(id.0) else { return };
        let hash = self.hasher.hash_one(self.packed.get(position));
        if let Ok(entry) = self.positions.find_entry(hash, |known| *known == position) {
            entry.remove();
        }
    }

    /// The numbers of a series; none when there is no such series.
    pub(super) fn numbers(&self, id: SeriesId) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(16);
        let Some(position) = self.position_of(id.0) else { return numbers };
        let mut reader = Reader::new(self.packed.get(position));
        // Asked for more than there is, the reader would write an error each time.
        while !reader.rest().is_empty()
            && let Ok(number) = reader.varint_u32()
        {
            numbers.push(number);
        }
        numbers
    }

    /// The id at a position, or the one that would follow there without a gap.
    fn id_at(&self, position: u32) -> Option<u32> {
        let run = self.runs.partition_point(|run| run.position <= position);
        let run = self.runs.get(run.checked_sub(1)?)?;
        Some(run.id + (position - run.position))
    }

    fn position_of(&self, id: u32) -> Option<u32> {
        let after = self.runs.partition_point(|run| run.id <= id);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let position = run.position.checked_add(id - run.id)?;
        let end = self.runs.get(after).map_or(self.packed.len(), |next| next.position as usize);
        ((position as usize) < end).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_many_keys_each_by_its_numbers() {
        let mut keys = Keys::default();
        let numbers = |n: u32| [n % 3, n % 7, n, n.wrapping_mul(0x9e37_79b9)];
        for n in 0..5000 {
            let key = PackedKey::new(&numbers(n));
            assert_eq!(keys.find(&key), None);
            assert_eq!(keys.push(&key), SeriesId(n));
        }
        for n in 0..5000 {
            assert_eq!(keys.find(&PackedKey::new(&numbers(n))), Some(SeriesId(n)));
            assert_eq!(keys.numbers(SeriesId(n)), numbers(n));
        }
        // The beginning of a key is another key.
        assert_eq!(keys.find(&PackedKey::new(&numbers(9)[..3])), None);
        assert_eq!((keys.numbers(SeriesId(5000)).len(), keys.len()), (0, 5000));
    }

    #[test]
    fn ids_passed_over_and_removed_are_not_found_and_shift_nothing() {
        let mut keys = Keys::default();
        let mut expected = Vec::new();
        for (first, count) in [(0, 3), (3, 2), (9, 1), (11, 4), (100, 2)] {
            keys.skip_to(first);
            for id in first..first + count {
                assert_eq!(keys.push(&PackedKey::new(&[7, id])), SeriesId(id));
                expected.push(id);
            }
        }
        assert_eq!((keys.runs.len(), keys.next()), (4, 102));
        let known =
            |keys: &Keys| (0..110).filter(|id| keys.numbers(SeriesId(*id)) == [7, *id]).collect::<Vec<_>>();
        let found = |keys: &Keys| {
            let find = |id: &u32| keys.find(&PackedKey::new(&[7, *id])) == Some(SeriesId(*id));
            (0..110).filter(find).collect::<Vec<_>>()
        };
        assert_eq!((known(&keys), found(&keys)), (expected.clone(), expected.clone()));
        for id in [0, 4, 9, 10, 100, 101, 109] {
            keys.remove(SeriesId(id));
        }
        assert_eq!(known(&keys), expected, "numbers stay");
        expected.retain(|id| ![0, 4, 9, 100, 101].contains(id));
        assert_eq!((found(&keys), keys.len(), keys.removed()), (expected, 7, 5));
        assert_eq!(keys.push(&PackedKey::new(&[7, 4])), SeriesId(102), "the same key again has another id");
        assert_eq!(keys.find(&PackedKey::new(&[7, 4])), Some(SeriesId(102)));
    }
}
