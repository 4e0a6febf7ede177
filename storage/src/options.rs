//! How an engine behaves: durability, sizes, limits and retention, each with its default.

use std::time::Duration;

use crate::cell_set::CellRule;
use crate::model::{DAY_NS, HOUR_NS, Tier};

/// What an acknowledged write has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// fdatasync before the acknowledgement: survives a power cut.
    #[default]
    Fsync,
    /// Written before the acknowledgement, synced once a second: survives the death of the process, and a power
    /// cut but for the last second.
    Interval,
    /// Kept in memory only until the next flush: for tests and caches.
    Memory,
}

impl Durability {
    /// All of them, the safest first.
    pub const ALL: [Self; 3] = [Self::Fsync, Self::Interval, Self::Memory];

    /// Its name in flags, parameters and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Interval => "interval",
            Self::Memory => "memory",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| durability.name() == name)
    }
}

/// How long each tier is kept; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Raw rows.
    pub raw: Option<Duration>,
    /// 1-minute cells.
    pub m1: Option<Duration>,
    /// 5-minute cells.
    pub m5: Option<Duration>,
    /// 1-hour cells.
    pub h1: Option<Duration>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Retention {
    fn default() -> Self {
        Self { raw: Some(DAY), m1: Some(7 * DAY), m5: Some(7 * DAY), h1: Some(30 * DAY) }
    }
}

impl Retention {
    /// Keeps everything.
    pub const FOREVER: Self = Self { raw: None, m1: None, m5: None, h1: None };

    /// How long a tier is kept.
    pub fn of(&self, tier: Tier) -> Option<Duration> {
        match tier {
            Tier::Raw => self.raw,
            Tier::M1 => self.m1,
            Tier::M5 => self.m5,
            Tier::H1 => self.h1,
        }
    }

    /// Width of a raw partition: an hour where raw rows live for days, a day where they live longer, so that long
    /// histories of few rows do not become a file an hour.
    pub fn raw_partition_ns(&self) -> i64 {
        match self.raw {
            Some(raw) if raw <= 3 * DAY => HOUR_NS,
            _ => DAY_NS,
        }
    }
}

/// Options of an engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durability of acknowledged writes.
    pub durability: Durability,
    /// A memtable of this size is frozen and flushed.
    pub memtable_bytes_max: usize,
    /// A memtable of this age is frozen and flushed; bounds the replay after a crash.
    pub flush_age: Duration,
    /// All memtables of the engine together; writes wait, then are refused beyond it. Bounds the log, too:
    /// [`Options::wal_bytes_max`].
    pub memory_bytes_max: usize,
    /// How long a write waits for memory before it is refused.
    pub write_wait_max: Duration,
    /// A log file of this size is followed by a new one.
    pub wal_file_bytes_max: u64,
    /// Decoded pages kept in memory. Engines that share a [`Memory`](crate::memory::Memory) have its bound instead.
    pub cache_bytes_max: usize,
    /// Series of the database.
    pub series_max: usize,
    /// Series of a measurement.
    pub measurement_series_max: usize,
    /// Series that may become known in one minute.
    pub new_series_per_minute_max: usize,
    /// Values of a tag key, within a measurement.
    pub tag_values_max: usize,
    /// Fields of a measurement.
    pub fields_max: usize,
    /// Memory of the names of measurements, fields, tags and series, in bytes, by estimate.
    pub catalog_bytes_max: usize,
    /// How far in the future a timestamp may lie.
    pub future_max: Duration,
    /// Deletes that wait to be purged.
    pub tombstones_max: usize,
    /// Series that those deletes name, in all.
    pub tombstone_series_max: usize,
    /// Bytes a second that compaction, rollup and purge write; `None`: as much as there is to do. They sleep where they
    /// write. Flushes do not, so the limit never holds up writes, and what somebody waits for hurries.
    pub background_bytes_per_second_max: Option<u64>,
    /// Free disk space below which writes are refused.
    pub free_bytes_min: u64,
    /// Rules for cells that the database gets when it is opened, as by
    /// [`Engine::set_cell_rules`](crate::Engine::set_cell_rules). None: it keeps those it has.
    pub cells: Vec<CellRule>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            memtable_bytes_max: 64 << 20,
            flush_age: Duration::from_secs(60),
            memory_bytes_max: 512 << 20,
            write_wait_max: Duration::from_secs(2),
            wal_file_bytes_max: 64 << 20,
            cache_bytes_max: 128 << 20,
            series_max: 1_000_000,
            measurement_series_max: 1_000_000,
            new_series_per_minute_max: 1_000_000,
            tag_values_max: 1_000_000,
            fields_max: 500,
            catalog_bytes_max: 512 << 20,
            future_max: Duration::from_secs(600),
            tombstones_max: 1000,
            tombstone_series_max: 4_000_000,
            background_bytes_per_second_max: None,
            free_bytes_min: 256 << 20,
            cells: Vec::new(),
        }
    }
}

impl Options {
    /// Log files, in bytes: as much as all memtables, and one file, of which a part may be flushed. Beyond it writes wait
    /// and are refused as for memory. So the next start has no more to replay, whatever the rows take in memory.
    pub fn wal_bytes_max(&self) -> u64 {
        self.wal_file_bytes_max.saturating_add(self.memory_bytes_max as u64)
    }

    /// With a log of this length a flush is due.
    pub(crate) fn wal_bytes_flush(&self) -> u64 {
        self.wal_file_bytes_max.saturating_add(self.memory_bytes_max as u64 / 2)
    }
}
