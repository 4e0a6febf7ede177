//! The values that all rooms share. No I/O, no locks, no clock.
//!
//! Read in this order: this file (time, ids, tiers), [`labels`] (what a series is called), [`value`] (one field
//! value), [`schema`] (what a measurement has and how series are selected), [`batch`] (rows on their way in), [`block`] (columns of rows, in memory and between rooms),
//! [`partial`], [`text_stats`], [`histogram`] and [`uniques`] (what a window of one field is pressed into), [`stat_set`]
//! (which statistics of it), [`native`] (histograms from elsewhere), [`text_table`] (numbers for texts).

pub mod batch;
pub mod block;
pub mod hist_column;
pub mod histogram;
pub mod histogram_sum;
pub mod labels;
pub mod native;
pub mod partial;
pub mod schema;
pub mod slots;
pub mod stale;
pub mod stat_set;
pub mod text_stats;
pub mod text_table;
pub mod uniques;
pub mod uniques_column;
pub mod value;

pub use batch::{Dialect, RowError, WriteBatch};
pub use block::{Column, ColumnKey, RowBlock, Stat, StrColumn, Values};
pub use hist_column::HistogramColumn;
pub use histogram::{Histogram, HistogramRef, HistogramScratch};
pub use histogram_sum::HistogramSum;
pub use labels::SeriesKey;
pub use native::{BucketLayout, FloatBucket, HISTOGRAM_FIELD, NativeHistogram, ResetHint};
pub use partial::{Numbers, Partial, Stats};
pub use schema::{FieldInfo, PLAIN_FIELD, Schema, SeriesInfo, SeriesSet, TagMatcher, TagTest};
pub use slots::{NO_SLOT, Slots, Tallies};
pub use stale::{STALE_FIELD, is_stale};
pub use stat_set::StatSet;
pub use text_stats::TextStats;
pub use text_table::TextTable;
pub use uniques::{Uniques, UniquesRef};
pub use uniques_column::UniquesColumn;
pub use value::{FieldType, Value, ValueRef};

/// Nanoseconds in a second.
pub const SECOND_NS: i64 = 1_000_000_000;
/// Nanoseconds in a minute.
pub const MINUTE_NS: i64 = 60 * SECOND_NS;
/// Nanoseconds in an hour.
pub const HOUR_NS: i64 = 60 * MINUTE_NS;
/// Nanoseconds in a day.
pub const DAY_NS: i64 = 24 * HOUR_NS;

/// The earliest timestamp that can be stored: InfluxDB's bound, two above the smallest `i64`, so that window
/// arithmetic at the edge cannot overflow silently.
pub const TIMESTAMP_MIN: i64 = i64::MIN + 2;
/// The latest timestamp that can be stored.
pub const TIMESTAMP_MAX: i64 = i64::MAX - 1;

/// Dense id of a series within one database. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u32);

/// Dense id of a measurement within one database. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeasurementId(pub u32);

/// Dense id of a field within one measurement. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

/// Half-open range of nanosecond timestamps, `[start_ns, end_ns)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First timestamp inside.
    pub start_ns: i64,
    /// First timestamp after the range.
    pub end_ns: i64,
}

impl TimeRange {
    /// Everything that can be stored.
    pub const ALL: Self = Self { start_ns: TIMESTAMP_MIN, end_ns: i64::MAX };

    /// The range `[start_ns, end_ns)`.
    pub fn new(start_ns: i64, end_ns: i64) -> Self {
        Self { start_ns, end_ns }
    }

    /// Whether no timestamp lies inside.
    pub fn is_empty(&self) -> bool {
        self.end_ns <= self.start_ns
    }

    /// Whether `ts_ns` lies inside.
    pub fn contains(&self, ts_ns: i64) -> bool {
        self.start_ns <= ts_ns && ts_ns < self.end_ns
    }

    /// Whether both ranges share a timestamp.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start_ns < other.end_ns && other.start_ns < self.end_ns
    }

    /// The part that both ranges share; empty when they share nothing.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self { start_ns: self.start_ns.max(other.start_ns), end_ns: self.end_ns.min(other.end_ns) }
    }
}

/// A resolution in which data is kept: the rows themselves or cells of one window width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The rows as they were written.
    Raw,
    /// Cells of one minute.
    M1,
    /// Cells of five minutes.
    M5,
    /// Cells of one hour.
    H1,
}

impl Tier {
    /// The cell tiers, finest first.
    pub const CELLS: [Self; 3] = [Self::M1, Self::M5, Self::H1];

    /// Width of a cell in nanoseconds; 0 for raw rows.
    pub fn width_ns(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::M1 => MINUTE_NS,
            Self::M5 => 5 * MINUTE_NS,
            Self::H1 => HOUR_NS,
        }
    }

    /// The name used in options, files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::H1 => "1h",
        }
    }
}

/// The largest multiple of `width_ns` that is not after `ts_ns` (floor, also for negative times).
pub fn floor_to(ts_ns: i64, width_ns: i64) -> i64 {
    ts_ns.saturating_sub(ts_ns.rem_euclid(width_ns))
}

/// The smallest multiple of `width_ns` that is not before `ts_ns`.
pub fn ceil_to(ts_ns: i64, width_ns: i64) -> i64 {
    match ts_ns.rem_euclid(width_ns) {
        0 => ts_ns,
        rest => ts_ns.saturating_add(width_ns - rest),
    }
}
