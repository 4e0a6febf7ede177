//! Raw series keys to ids, so that a row whose key was seen before costs one digest and no decoding.
//!
//! A cache, not the truth: several spellings may mean the same series, and an entry may be missing at any time. It
//! holds digests, not texts, and is bounded: when it is full, half of it goes, by chance. So keys that are in use no
//! more make room, and with more keys in use than there is room for some of them still hit.

use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::digest::{Digest, DigestKeys};
use super::state::KnownSeries;

/// What fills a table of 2^21 places of 25 bytes, 50 MiB.
const ENTRIES_MAX: usize = (1 << 21) / 8 * 7;

/// Which series raw keys mean, by dialect.
pub(super) struct RawKeys {
    table: HashTable<Entry>,
    digest_keys: DigestKeys,
    entries_max: usize,
    /// How often it was full.
    rounds: u32,
}

struct Entry {
    digest: Digest,
    series: KnownSeries,
}

impl Entry {
    /// The digest is as good as random.
    fn hash(&self) -> u64 {
        self.digest.0[0]
    }
}

impl RawKeys {
    /// An empty cache of so many entries, or as many as it may have at most.
    pub(super) fn new(entries_max: usize) -> Self {
        let (table, digest_keys) = (HashTable::new(), DigestKeys::random());
        Self { table, digest_keys, entries_max: entries_max.min(ENTRIES_MAX), rounds: 0 }
    }

    /// The series of a raw key; `None` when it is not cached.
    pub(super) fn find(&self, dialect: u8, raw: &[u8]) -> Option<KnownSeries> {
        self.get(self.digest_keys.digest(dialect, raw)?)
    }

    /// As [`RawKeys::find`] for each of some keys; nothing is found for a key that is that of the row before. The
    /// places in memory do not depend on one another, so that the processor waits for several of them at once.
    pub(super) fn find_each<'k>(
        &self,
        dialect: u8,
        raws: impl Iterator<Item = &'k [u8]>,
        digests: &mut Vec<Option<Digest>>,
        found: &mut Vec<Option<KnownSeries>>,
    ) {
        let mut before = None;
        let digest_of = |raw: &'k [u8]| match before.replace(raw) {
            Some(before) if std::ptr::eq(before, raw) || before == raw => None,
            _ => self.digest_keys.digest(dialect, raw),
        };
        digests.clear();
        digests.extend(raws.map(digest_of));
        found.clear();
        found.extend(digests.iter().map(|digest| digest.and_then(|digest| self.get(digest))));
    }

    fn get(&self, digest: Digest) -> Option<KnownSeries> {
        self.table.find(digest.0[0], |entry| entry.digest == digest).map(|entry| entry.series)
    }

    /// Remembers the series of a raw key, unless it is known or too long.
    pub(super) fn remember(&mut self, dialect: u8, raw: &[u8], series: KnownSeries) {
        let Some(digest) = self.digest_keys.digest(dialect, raw) else { return };
        if self.get(digest).is_some() {
            return;
        }
        if self.entries_max <= self.table.len() {
            self.halve();
        }
        let entry = Entry { digest, series };
        self.table.insert_unique(entry.hash(), entry, Entry::hash);
    }

    /// Drops about half of the entries: each time by another bit of their digests.
    fn halve(&mut self) {
        let bit = self.rounds % u64::BITS;
        self.rounds = self.rounds.wrapping_add(1);
        self.keep(|entry| entry.digest.0[1] >> bit & 1 == 1);
    }

    /// Drops the entries of some series.
    pub(super) fn forget(&mut self, ids: &RoaringBitmap) {
        if self.table.iter().any(|entry| ids.contains(entry.series.id.0)) {
            self.keep(|entry| !ids.contains(entry.series.id.0));
        }
    }

    fn keep(&mut self, is_kept: impl Fn(&Entry) -> bool) {
        // Removed one by one they would leave marks behind, for which the table would grow.
        let kept: Vec<Entry> = self.table.drain().filter(is_kept).collect();
        for entry in kept {
            self.table.insert_unique(entry.hash(), entry, Entry::hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MeasurementId, SeriesId};

    fn series(id: u32) -> KnownSeries {
        KnownSeries { id: SeriesId(id), measurement: MeasurementId(id / 2) }
    }

    fn found(keys: &RawKeys, dialect: u8, raw: &[u8]) -> Option<(u32, u32)> {
        keys.find(dialect, raw).map(|known| (known.id.0, known.measurement.0))
    }

    #[test]
    fn find_same_bytes_of_another_dialect_is_another_key() {
        let mut keys = RawKeys::new(8);
        keys.remember(1, b"a", series(10));
        keys.remember(2, b"a", series(20));
        keys.remember(2, b"a", series(30));
        assert_eq!(found(&keys, 1, b"a"), Some((10, 5)));
        assert_eq!(found(&keys, 2, b"a"), Some((20, 10)));
        assert_eq!(found(&keys, 3, b"a"), None);
        keys.remember(1, &[b'x'; 5000], series(1));
        assert_eq!((found(&keys, 1, &[b'x'; 5000]), keys.table.len()), (None, 2), "too long");
    }

    #[test]
    fn find_each_finds_what_find_does_but_for_repeated_keys() {
        let mut keys = RawKeys::new(8);
        [(b"a", 10), (b"b", 20)].iter().for_each(|(raw, id)| keys.remember(1, *raw, series(*id)));
        let long = [b'a'; 5000];
        let raws = [&b"a"[..], b"b", b"b", b"c", b"a", &long, b""];
        let (mut digests, mut found) = (Vec::new(), vec![None]);
        keys.find_each(1, raws.into_iter(), &mut digests, &mut found);
        let found: Vec<_> = found.iter().map(|known| known.map(|known| known.id.0)).collect();
        assert_eq!(found, [Some(10), Some(20), None, None, Some(10), None, None]);
    }

    #[test]
    fn remember_full_makes_room_and_never_grows() {
        let entries_max = (1 << 9) / 8 * 7;
        let mut keys = RawKeys::new(entries_max);
        let mut bytes_max = 0;
        for id in 0..20 * entries_max as u32 {
            keys.remember(1, &id.to_le_bytes(), series(id));
            assert_eq!(found(&keys, 1, &id.to_le_bytes()), Some((id, id / 2)), "the newest is there");
            assert!(keys.table.len() <= entries_max);
            bytes_max = bytes_max.max(keys.table.allocation_size());
        }
        let cached =
            |ids: std::ops::Range<u32>| ids.filter(|id| found(&keys, 1, &id.to_le_bytes()).is_some()).count();
        assert!(cached(0..5 * entries_max as u32) < 10, "what is not used leaves");
        let mut full = RawKeys::new(entries_max);
        (0..entries_max as u32).for_each(|id| full.remember(1, &id.to_le_bytes(), series(id)));
        assert_eq!(bytes_max, full.table.allocation_size());
    }

    #[test]
    fn forget_drops_all_spellings_of_some_series() {
        let mut keys = RawKeys::new(100);
        for (raw, id) in [(b"a", 1), (b"b", 2), (b"c", 1), (b"d", 3)] {
            keys.remember(1, raw, series(id));
        }
        keys.forget(&[1, 3, 9].into_iter().collect());
        let known: Vec<_> = [b"a", b"b", b"c", b"d"].map(|raw| found(&keys, 1, raw)).into();
        assert_eq!((known, keys.table.len()), (vec![None, Some((2, 1)), None, None], 1));
    }

    #[test]
    fn keys_cycled_beyond_the_room_still_hit_in_part() {
        let mut keys = RawKeys::new(1000);
        let mut hits = 0;
        for round in 0..20 {
            for id in 0..1200_u32 {
                let hit = keys.find(1, &id.to_le_bytes()).is_some();
                hits += usize::from(hit && round > 0);
                keys.remember(1, &id.to_le_bytes(), series(id));
            }
        }
        assert!(19 * 1200 / 3 < hits, "{hits}");
    }
}
