//! Raw field names to ids, so that a row whose fields were seen before costs a hash each and no decoding.
//!
//! A cache, not the truth: several spellings may mean the same thing, and an entry may be missing at any time. It is
//! bounded in entries and in the length of each, and simply stops to take more when it is full.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Longer names are decoded each time; bounds the cache in bytes.
const RAW_BYTES_MAX: usize = 4096;

/// What raw bytes mean, by dialect.
pub(super) struct RawNames<T> {
    table: HashTable<RawName<T>>,
    hasher: RandomState,
    entries_max: usize,
}

struct RawName<T> {
    raw: Box<[u8]>,
    dialect: u8,
    meaning: T,
}

impl<T: Copy> RawNames<T> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { table: HashTable::new(), hasher: RandomState::default(), entries_max }
    }

    /// The meaning of raw bytes; `None` when it is not cached.
    pub(super) fn find(&self, dialect: u8, raw: &[u8]) -> Option<T> {
        let hash = hash_of(&self.hasher, dialect, raw);
        let found = self.table.find(hash, |name| name.dialect == dialect && *name.raw == *raw);
        found.map(|name| name.meaning)
    }

    /// Remembers a meaning, unless it is known, too long, or the cache is full.
    pub(super) fn remember(&mut self, dialect: u8, raw: &[u8], meaning: T) {
        if self.entries_max <= self.table.len()
            || RAW_BYTES_MAX < raw.len()
            || self.find(dialect, raw).is_some()
        {
            return;
        }
        let hash = hash_of(&self.hasher, dialect, raw);
        let name = RawName { raw: raw.into(), dialect, meaning };
        self.table.insert_unique(hash, name, |name| hash_of(&self.hasher, name.dialect, &name.raw));
    }
}

fn hash_of(hasher: &RandomState, dialect: u8, raw: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(raw);
    hasher.write_u8(dialect);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_same_bytes_of_another_dialect_is_another_name() {
        let mut names = RawNames::new(8);
        names.remember(1, b"a", 10);
        names.remember(2, b"a", 20);
        names.remember(2, b"a", 30);
        assert_eq!(
            (names.find(1, b"a"), names.find(2, b"a"), names.find(3, b"a")),
            (Some(10), Some(20), None)
        );
    }

    #[test]
    fn remember_full_or_too_long_is_not_kept() {
        let mut names = RawNames::new(1);
        names.remember(1, &vec![b'x'; RAW_BYTES_MAX + 1], 1);
        names.remember(1, b"a", 2);
        names.remember(1, b"b", 3);
        assert_eq!(names.table.len(), 1);
        assert_eq!((names.find(1, b"a"), names.find(1, b"b")), (Some(2), None));
    }
}
