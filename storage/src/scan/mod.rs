//! The narrow read door: what the query languages may ask of storage, and nothing else.
//!
//! A [`Scan`] is one consistent view. It names series, and reads a field of chosen series in one of three shapes:
//! [`Scan::samples`] (every value, raw rows only), [`Scan::windows`] (one [`Partial`] per window, from the coarsest
//! exact mix of tiers; [`Scan::groups`]: one for many series together), and [`Scan::rows`] (whole raw rows as columns; [`Scan::distinct`]: only
//! their texts, each once).
//! Callers learn through [`Coverage`] what was read and whether an answer had to be rounded; they never name a tier.
//!
//! Inside: `view` is the one implementation; `source` reads rows of a series from segments and memtable runs,
//! `gather` merges them, `rows` hands over whole rows, `distinct` the texts in them, `windows` carries out what [`cover`] plans, of the cells that
//! `kept` leaves: `press` reads batches of series (cells by `pages`, which `zones` tell apart), and [`sliding`] merges;
//! `active` tells which series have something in a stretch of time, `classes` which past of which series the rules of retention hide;
//! `merge` reads whole partitions for the jobs; `slices` cuts the time of long series for both.

mod active;
mod classes;
pub mod cover;
mod distinct;
mod gather;
mod groups;
mod kept;
pub(crate) mod merge;
mod meters;
mod native;
mod pages;
mod press;
mod rows;
mod slices;
pub mod sliding;
mod source;
pub(crate) mod view;
mod windows;
mod zones;

use std::sync::Arc;

pub use self::distinct::Distinct;
use crate::Result;
use crate::model::schema::TagCoder;
pub use crate::model::schema::{FieldInfo, Schema, SeriesInfo, TagCodes, TagMatcher, TagTest};
use crate::model::{
    FieldId, MeasurementId, NativeHistogram, Partial, RowBlock, SeriesId, SeriesKey, StatSet, Tier, TimeRange,
};

/// Keys held at once where only one tag of each is looked at.
const KEYS_AT_ONCE: usize = 1024;

/// Which end of a window belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// `(start, end]`, as PromQL reads ranges.
    LeftOpen,
    /// `[start, end)`, as SELECT groups by time.
    RightOpen,
}

/// A window in nanoseconds; [`Bounds`] says which end belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its left end.
    pub start_ns: i64,
    /// Its right end.
    pub end_ns: i64,
}

/// What to do when raw rows are gone and a window does not lie on the edges of the finest tier that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Resolution {
    /// Widen the window outwards and say so in [`Coverage::rounded`].
    #[default]
    Auto,
    /// Refuse.
    Strict,
}

/// Accounts for the work of a scan as it goes on; lets the caller stop it.
pub trait Meter: Send + Sync {
    /// Called with the number of rows or cells about to be handed over or merged.
    ///
    /// # Errors
    /// Whatever ends the scan: a deadline, a budget, a client that left.
    fn charge(&self, rows: u64) -> Result<()>;

    /// Called before the scan's own buffers grow, with the bytes that they will hold then.
    ///
    /// # Errors
    /// As [`Meter::charge`].
    fn buffers(&self, _bytes: u64) -> Result<()> {
        Ok(())
    }
}

/// A meter that never stops a scan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn charge(&self, _rows: u64) -> Result<()> {
        Ok(())
    }
}

/// Asks for every value of one field.
#[derive(Debug, Clone, Copy)]
pub struct SampleRequest<'a> {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The field.
    pub field: FieldId,
    /// The series, ascending by id.
    pub series: &'a [SeriesId],
    /// The time.
    pub range: TimeRange,
}

/// Asks for one partial for each series and window.
#[derive(Debug, Clone, Copy)]
pub struct WindowRequest<'a> {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The field.
    pub field: FieldId,
    /// The series, ascending by id.
    pub series: &'a [SeriesId],
    /// The windows; neither starts nor ends may decrease. They may overlap and leave gaps.
    pub windows: &'a [Window],
    /// Which end belongs to a window.
    pub bounds: Bounds,
    /// The groups of statistics that will be read off the partials; the count always can be. Others have no meaning in
    /// the answer: cells need not keep them.
    pub wants: StatSet,
    /// What to do where raw rows are gone.
    pub resolution: Resolution,
}

/// Asks for one partial for each group of series and window.
#[derive(Debug, Clone, Copy)]
pub struct GroupRequest<'a> {
    /// What is read. Of what is wanted only the count, [`StatSet::SUM`], [`StatSet::RANGE`], [`StatSet::HIST`] and
    /// [`StatSet::UNIQUES`] have a meaning for a group.
    pub read: WindowRequest<'a>,
    /// The group of each series, below `group_count`.
    pub groups: &'a [u32],
    /// Number of groups.
    pub group_count: usize,
}

/// Asks which texts of one field the series of each group have.
#[derive(Debug, Clone, Copy)]
pub struct DistinctRequest<'a> {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The field, of texts.
    pub field: FieldId,
    /// The series, ascending by id.
    pub series: &'a [SeriesId],
    /// The time.
    pub range: TimeRange,
    /// The group of each series, below `group_count`.
    pub groups: &'a [u32],
    /// Number of groups.
    pub group_count: usize,
}

/// Asks for whole rows.
#[derive(Debug, Clone, Copy)]
pub struct RowRequest<'a> {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The fields to return; a row with none of them is left out.
    pub fields: &'a [FieldId],
    /// The series, ascending by id.
    pub series: &'a [SeriesId],
    /// The time.
    pub range: TimeRange,
    /// What the caller looks for: rows that miss one of these may be left out.
    pub bounds: &'a [ValueBounds],
}

/// A number of a row must lie between two numbers; a row without it, or with NaN, does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueBounds {
    /// The field.
    pub field: FieldId,
    /// No number that is looked for is less.
    pub min: f64,
    /// No number that is looked for is more.
    pub max: f64,
}

/// Whether a scan goes on after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Give the next one.
    Continue,
    /// Enough.
    Stop,
}

/// What a scan read, and what its answer is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Raw rows read.
    pub rows: u64,
    /// Cells read, by tier: 1m, 5m, 1h.
    pub cells: [u64; 3],
    /// Pages whose columns were read, of raw rows and of cells, decoded before or not.
    pub pages: u64,
    /// Windows were widened to the edges of this tier, the coarsest used so, because finer data is gone.
    pub rounded: Option<Tier>,
    /// Raw rows before this time are gone by retention, and the request asked for some of that time.
    pub raw_gone_before_ns: Option<i64>,
}

impl Coverage {
    /// Adds what another scan of the same query read.
    pub fn absorb(&mut self, other: &Self) {
        self.rows += other.rows;
        self.pages += other.pages;
        for (mine, theirs) in self.cells.iter_mut().zip(other.cells) {
            *mine += theirs;
        }
        self.rounded = self.rounded.max(other.rounded);
        self.raw_gone_before_ns = self.raw_gone_before_ns.max(other.raw_gone_before_ns);
    }
}

/// Samples of one series, by time; at most one per timestamp.
#[derive(Debug, Clone, Copy)]
pub struct SampleSlice<'a> {
    /// Position of the series in the request.
    pub series_idx: usize,
    /// Times, ascending, in nanoseconds.
    pub ts_ns: &'a [i64],
    /// The values as floats (booleans 0 and 1), one per time.
    pub values: &'a [f64],
}

/// Native histograms of one series, by time; at most one per timestamp, and no number at the same time.
#[derive(Debug, Clone, Copy)]
pub struct HistogramSlice<'a> {
    /// Position of the series in the request.
    pub series_idx: usize,
    /// Times, ascending, in nanoseconds.
    pub ts_ns: &'a [i64],
    /// One histogram per time.
    pub values: &'a [NativeHistogram],
}

/// Windows of one series, or of one group of series.
#[derive(Debug, Clone, Copy)]
pub struct WindowSlice<'a> {
    /// Position of the series in the request, or number of the group.
    pub series_idx: usize,
    /// The windows as answered: those of the request, widened where [`Coverage::rounded`] says so.
    pub windows: &'a [Window],
    /// One partial per window; empty windows have count 0.
    pub partials: &'a [Partial],
}

/// One consistent, read-only view of a database.
pub trait Scan: Send + Sync {
    /// Names of all measurements, sorted.
    fn measurements(&self) -> Vec<Arc<str>>;

    /// Fields and tag keys of a measurement; `None` when there is no such measurement.
    fn schema(&self, measurement: &str) -> Option<Schema>;

    /// Whether a measurement may have data in a range: a look at the times of files, not at rows.
    fn reaches(&self, _measurement: MeasurementId, _range: TimeRange) -> bool {
        true
    }

    /// Before this time raw rows of some series may be gone; `i64::MIN` when all rows are there.
    fn raw_from_ns(&self) -> i64 {
        i64::MIN
    }

    /// The series of a measurement that pass all matchers and may have data in `range`, ascending by id.
    ///
    /// # Errors
    /// `LimitExceeded` when there are more than `limit`.
    fn series(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesInfo>>;

    /// The ids of the series that [`Scan::series`] finds, without their keys: of very many, only few keys may be
    /// needed, or each only once.
    ///
    /// # Errors
    /// As [`Scan::series`].
    fn series_ids(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesId>> {
        let found = self.series(measurement, matchers, range, limit)?;
        Ok(found.into_iter().map(|info| info.id).collect())
    }

    /// Measurement and tags of some series of this view, in the order asked.
    ///
    /// # Errors
    /// `Internal` when there is no such series.
    fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>>;

    /// Hands over every value of a numeric field, series by series in the order asked; series without values are
    /// skipped. One call of `sink` carries all values of a series.
    ///
    /// # Errors
    /// Those of `meter` and `sink`; `Corruption` when a file cannot be read; `InvalidInput` for text fields.
    fn samples(
        &self,
        request: &SampleRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage>;

    /// Whether some samples of a field are native histograms, which [`Scan::histograms`] hands over. Asked once for
    /// each field of a query, so that numbers cost nothing more.
    fn has_histograms(&self, _measurement: MeasurementId, _field: FieldId) -> bool {
        false
    }

    /// The series of a request that have native histograms in its range, ascending; perhaps some that have them only near
    /// it. Told from every layer, also where raw rows are gone.
    ///
    /// # Errors
    /// As [`Scan::samples`].
    fn histogram_series(&self, _request: &SampleRequest<'_>, _meter: &dyn Meter) -> Result<Vec<SeriesId>> {
        Ok(Vec::new())
    }

    /// Hands over every native histogram of a field, as [`Scan::samples`] does its numbers.
    ///
    /// # Errors
    /// As [`Scan::samples`].
    fn histograms(
        &self,
        _request: &SampleRequest<'_>,
        _meter: &dyn Meter,
        _sink: &mut dyn FnMut(HistogramSlice<'_>) -> Result<()>,
    ) -> Result<()> {
        Ok(())
    }

    /// Hands over one partial per window, series by series in the order asked; series without any value in any
    /// window are skipped.
    ///
    /// # Errors
    /// As [`Scan::samples`]; `Unavailable` when windows would have to be widened under [`Resolution::Strict`], and where
    /// only cells are left that do not keep what is wanted.
    fn windows(
        &self,
        request: &WindowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage>;

    /// Hands over one partial per window, group by group in ascending order; groups without any value in any window are
    /// skipped. Count, sum, smallest, largest, histogram and sketch are those of all samples of the group's series;
    /// what is told by the order of samples (first, last, resets, changes) has no meaning. Sums of floats are
    /// compensated, in no certain order of series.
    ///
    /// # Errors
    /// As [`Scan::windows`].
    fn groups(
        &self,
        request: &GroupRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        groups::merged(self, request, meter, sink)
    }

    /// The values of a tag of some series of a measurement, given in ascending order.
    ///
    /// # Errors
    /// As [`Scan::keys`].
    fn tag_codes(&self, _measurement: MeasurementId, tag: &str, series: &[SeriesId]) -> Result<TagCodes> {
        let mut coder = TagCoder::default();
        for chunk in series.chunks(KEYS_AT_ONCE) {
            self.keys(chunk)?.iter().for_each(|key| coder.push(key.tag(tag).unwrap_or_default()));
        }
        Ok(coder.finish())
    }

    /// Hands over raw rows in blocks: series by series in the order asked, within a series by time. The block has
    /// one column per requested field, in that order.
    ///
    /// # Errors
    /// As [`Scan::samples`].
    fn rows(
        &self,
        request: &RowRequest<'_>,
        meter: &dyn Meter,
        sink: &mut dyn FnMut(&RowBlock) -> Result<Flow>,
    ) -> Result<Coverage>;

    /// The distinct texts of each group, from raw rows. The time of it grows with the rows, and hardly with their texts
    /// where these are few.
    ///
    /// # Errors
    /// As [`Scan::samples`]; `InvalidInput` for fields of another type.
    fn distinct(&self, request: &DistinctRequest<'_>, meter: &dyn Meter) -> Result<(Distinct, Coverage)> {
        distinct::by_rows(self, request, meter)
    }
}
