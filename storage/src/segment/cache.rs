//! Decoded pages, bounded by their bytes and shared by all segments of an engine, or of several. Scans of much data do not
//! drive out what is read often (`quick_cache` admits by frequency). Dropping it at any moment changes nothing but speed.
//!
//! Segments of two databases may have the same number. Each database has a handle of its own, and with it a number that no
//! other handle of these pages ever had: it is part of the name of each page. What a database that is gone has left is
//! asked for no more, and leaves as other pages come.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use roaring::RoaringBitmap;

use super::layout::ColumnInfo;
use crate::model::{Column, ColumnKey, MeasurementId, SeriesId, StrColumn, Values};
use crate::pipeline;

/// What an entry takes beside its values.
const ENTRY_BYTES: usize = 128;
/// A guess at the size of a part, on the small side: from it the cache sizes its tables, and how many of the parts that
/// left it remembers. With too few of these a read that goes through more than that is never admitted.
const PAGE_BYTES_GUESS: usize = 8 << 10;
/// Shards have so many bytes: none takes a part that is larger than itself.
const SHARD_BYTES_MIN: usize = 1 << 20;
/// Shards for each processor.
const SHARDS_EACH: usize = 4;

/// Series and times of the rows of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKeys {
    /// Each series with the end of its rows, ascending in both.
    pub series: Vec<(SeriesId, u32)>,
    /// Time of each row.
    pub ts_ns: Vec<i64>,
}

impl PageKeys {
    /// The rows of a series; empty when it has none here.
    pub fn rows_of(&self, series: SeriesId) -> Range<usize> {
        let index = self.series.partition_point(|(other, _)| *other < series);
        match self.series.get(index) {
            Some((found, end)) if *found == series => {
                let before = index.checked_sub(1).and_then(|before| self.series.get(before));
                before.map_or(0, |(_, end)| *end as usize)..*end as usize
            }
            _ => 0..0,
        }
    }
}

/// Names a decoded part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    owner: u32,
    segment: u64,
    measurement: MeasurementId,
    part: Part,
}

/// A decoded part of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Keys { page: usize },
    Listing { page: usize },
    Column { page: usize, key: ColumnKey },
    Dictionary { key: ColumnKey },
    Series,
}

/// A decoded part, shared.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Keys(Arc<PageKeys>),
    Listing(Arc<[ColumnInfo]>),
    Column(Arc<Column>),
    Dictionary(Arc<StrColumn>),
    Series(Arc<RoaringBitmap>),
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Slot, Entry> for Bytes {
    fn weight(&self, _slot: &Slot, entry: &Entry) -> u64 {
        let bytes = match entry {
            Entry::Keys(keys) => size_of_val(&*keys.series) + size_of_val(&*keys.ts_ns),
            Entry::Listing(columns) => size_of_val(&**columns),
            Entry::Column(column) => {
                bytes_of(&column.values) + column.valid.as_ref().map_or(0, |valid| valid.len())
            }
            Entry::Dictionary(texts) => bytes_of_texts(texts),
            Entry::Series(ids) => ids.serialized_size(),
        };
        (ENTRY_BYTES + bytes) as u64
    }
}

fn bytes_of(values: &Values) -> usize {
    match values {
        Values::F64(values) => size_of_val(&**values),
        Values::I64(values) => size_of_val(&**values),
        Values::U64(values) => size_of_val(&**values),
        Values::Bool(values) => size_of_val(&**values),
        Values::Str(texts) => bytes_of_texts(texts),
        Values::Hist(values) => values.memory_bytes(),
        Values::Uniques(values) => values.memory_bytes(),
    }
}

fn bytes_of_texts(texts: &StrColumn) -> usize {
    texts.bytes.len() + size_of_val(&*texts.ends)
}

/// Pages of all owners.
struct Pages {
    cache: Cache<Slot, Entry, Bytes>,
    /// How many there were. Each has opened a database: 32 bits last for the life of any process.
    owners: AtomicU32,
}

/// Decoded pages of many segments: those of one database, in a room that it may share with others.
pub struct PageCache {
    pages: Arc<Pages>,
    owner: u32,
    /// How often a page was asked for that is damaged. Such pages never come into the cache.
    corrupt_reads: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl PageCache {
    /// A cache of at most `bytes_max` bytes; 0 keeps nothing.
    pub fn new(bytes_max: usize) -> Self {
        let entries = (bytes_max / PAGE_BYTES_GUESS).max(16);
        let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_EACH * pipeline::processors());
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(entries).weight_capacity(bytes_max as u64).shards(shards);
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, Bytes, hasher, lifecycle),
            // Both capacities are given: there is nothing else to refuse.
            Err(_) => Cache::with_weighter(entries, bytes_max as u64, Bytes),
        };
        Self::of(Arc::new(Pages { cache, owners: AtomicU32::new(0) }))
    }

    /// Another handle of the same room, for the segments of another database. Neither sees pages or counts of the other.
    pub fn for_another(&self) -> Self {
        Self::of(Arc::clone(&self.pages))
    }

    fn of(pages: Arc<Pages>) -> Self {
        let owner = pages.owners.fetch_add(1, Ordering::Relaxed);
        let [corrupt_reads, hits, misses] = [const { AtomicU64::new(0) }; 3];
        Self { pages, owner, corrupt_reads, hits, misses }
    }

    /// Names a part of a segment of this database.
    pub(super) fn slot(&self, segment: u64, measurement: MeasurementId, part: Part) -> Slot {
        Slot { owner: self.owner, segment, measurement, part }
    }

    /// Bytes held now, by all that share the room.
    pub fn bytes(&self) -> u64 {
        self.pages.cache.weight()
    }

    /// How often a part was asked for that was here, and that was not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// How often a read met damage.
    pub fn corrupt_reads(&self) -> u64 {
        self.corrupt_reads.load(Ordering::Relaxed)
    }

    pub(super) fn count_damage(&self) {
        self.corrupt_reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<Entry> {
        let found = self.pages.cache.get(slot);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(super) fn insert(&self, slot: Slot, entry: Entry) {
        self.pages.cache.insert(slot, entry);
    }
}

impl fmt::Debug for PageCache {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = (self.pages.cache.len(), self.bytes());
        out.debug_struct("PageCache").field("entries", &entries).field("bytes", &bytes).finish()
    }
}

#[cfg(test)]
mod tests;
