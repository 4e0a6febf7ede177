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
    /// Varints, by series id.
    packed: Pool,
    ids: HashTable<u32>,
    hasher: RandomState,
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
    /// How many series there are; the next id.
    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(super) fn find(&self, key: &PackedKey) -> Option<SeriesId> {
        let hash = self.hasher.hash_one(&key.0);
        self.ids.find(hash, |id| self.packed.get(*id) == key.0).copied().map(SeriesId)
    }

    /// Adds the key of a series that [`Keys::find`] does not know, and gives it the next id.
    pub(super) fn push(&mut self, key: &PackedKey) -> SeriesId {
        let id = self.packed.push(&key.0);
        let Self { packed, ids, hasher } = self;
        let rehash = |id: &u32| hasher.hash_one(packed.get(*id));
        ids.insert_unique(hasher.hash_one(&*key.0), id, rehash);
        SeriesId(id)
    }

    /// The numbers of a series; none when there is no such series.
    pub(super) fn numbers(&self, id: SeriesId) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(16);
        let mut reader = Reader::new(self.packed.get(id.0));
        // Asked for more than there is, the reader would write an error each time.
        while !reader.rest().is_empty()
            && let Ok(number) = reader.varint_u32()
        {
            numbers.push(number);
        }
        numbers
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
}
