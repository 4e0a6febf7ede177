//! The catalog: the one place that gives out ids, shared by writers, readers and jobs.
//!
//! Knows nothing of durability: whoever calls [`Catalog::resolve`] must log what [`Catalog::take_pending`] then
//! gives before, or together with, the first row that uses it, and log in the order of those calls. Ids are dense,
//! so a replay notices at once when a definition is missing. A series leaves ([`Catalog::leave`]) only when the caller
//! knows that nothing names its id any more, and while nobody is between resolving a row and applying it.
//!
//! One lock guards everything; a batch of known series takes it once, for reading. No I/O happens under it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use roaring::RoaringBitmap;

use super::definition::{Definition, RawDefinition};
use super::file::{self, FileBuilder};
use super::leaves::Copied;
use super::state::State;
use super::{CatalogLimits, RefusedRows};
use crate::fs::Fs;
use crate::memory::Share;
use crate::model::{FieldInfo, Schema, SeriesInfo, TagMatcher};
use crate::model::{MeasurementId, SeriesId, SeriesKey};
use crate::{Error, ErrorKind, Result};

/// Decoded keys kept for readers; they are asked for the same few over and over.
const KEYS_CACHED: usize = 1 << 16;
/// What these may take in memory, in bytes: keys of six tags fit all, very long ones do not.
const KEYS_CACHED_BYTES: u64 = 40 << 20;

/// Definitions that are encoded under the lock at a time.
const PIECE_DEFINITIONS: usize = 4096;
/// The bytes that they are to have then, which long keys have with fewer.
const PIECE_BYTES: usize = 1 << 20;
/// Definitions of the first piece, when nothing is known of their lengths.
const FIRST_DEFINITIONS: usize = 64;
/// A catalog file of so many bytes, before compression, is followed by a further one: a start holds one of them.
const FILE_PLAIN_BYTES: usize = 32 << 20;

/// A point in the growth of a catalog; the default is the empty catalog. Means nothing to another catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatalogMark {
    pub(super) measurements: usize,
    pub(super) fields: usize,
    pub(super) series: usize,
}

impl CatalogMark {
    /// Whether a series was defined before this mark.
    pub fn is_behind(self, id: SeriesId) -> bool {
        (id.0 as usize) < self.series
    }

    /// Whether something was defined between this mark and another.
    pub fn is_before(self, end: Self) -> bool {
        self.measurements < end.measurements || self.fields < end.fields || self.series < end.series
    }
}

/// Measurements, fields and series with their ids.
pub struct Catalog {
    state: RwLock<State>,
    /// Monotonic time, as last told.
    now_ns: AtomicI64,
    keys: Cache<SeriesId, Arc<SeriesKey>, KeyBytes>,
}

/// Weighs decoded keys by their memory.
#[derive(Debug, Clone)]
struct KeyBytes;

impl Weighter<SeriesId, Arc<SeriesKey>> for KeyBytes {
    fn weight(&self, _: &SeriesId, key: &Arc<SeriesKey>) -> u64 {
        let texts = key.tags().iter().map(|tag| size_of_val(tag) + tag.0.len() + tag.1.len());
        (size_of::<SeriesKey>() + key.measurement().len() + texts.sum::<usize>()) as u64
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Catalog").field("series", &self.series_count()).finish_non_exhaustive()
    }
}

impl Catalog {
    /// An empty catalog.
    pub fn new(limits: CatalogLimits) -> Self {
        Self::with_share(limits, Share::of_none())
    }

    /// An empty catalog whose names count in an account of several databases.
    pub(crate) fn with_share(limits: CatalogLimits, share: Share) -> Self {
        let keys_cached = KEYS_CACHED.min(limits.series_max);
        let (state, now_ns) = (RwLock::new(State::new(limits, share)), AtomicI64::new(0));
        Self { state, now_ns, keys: Cache::with_weighter(keys_cached, KEYS_CACHED_BYTES, KeyBytes) }
    }

    /// Tells the monotonic time, by which new series are counted.
    pub fn tick(&self, now_ns: i64) {
        self.now_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(super) fn now_ns(&self) -> i64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    /// Memory of names and keys, in bytes, by estimate; caches of a fixed size are not in it.
    pub fn bytes(&self) -> usize {
        self.read().bytes()
    }

    /// How many files of [`Catalog::save`] it takes at least.
    pub fn files_min(&self) -> usize {
        self.read().plain_bytes() / FILE_PLAIN_BYTES
    }

    /// Rows refused by each bound of [`CatalogLimits`], by its name.
    pub fn limit_hits(&self) -> Vec<(&'static str, u64)> {
        self.read().limit_hits()
    }

    /// The same rows by measurement and by the tag key that is to blame, each once; at most a hundred of those, the rest
    /// under one name for each bound.
    pub fn refused(&self) -> Vec<RefusedRows> {
        self.read().refused()
    }

    // Entries are added and taken out by code that cannot panic half-way, so the state behind a poisoned lock is whole.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the definitions made since the last call, in the order they were made. Rows resolved by then, by any
    /// thread, may use them: log them before those rows.
    pub fn take_pending(&self) -> Vec<Definition> {
        // Most batches define nothing and should not wait for other readers.
        if !self.read().has_pending() {
            return Vec::new();
        }
        self.write().take_pending()
    }

    /// Takes a definition from a catalog file or the log; one that is known already changes nothing. Limits do not
    /// apply.
    ///
    /// # Errors
    /// `Corruption` when it contradicts what is known or an id before it is missing.
    pub fn define(&self, definition: &Definition) -> Result<()> {
        let mut encoded = Vec::with_capacity(128);
        let definition = definition.borrow(&mut encoded);
        self.write().define(definition)
    }

    /// Defines everything in a catalog file. What stands before a failure stays defined.
    ///
    /// # Errors
    /// Those of [`file::read`] and [`Catalog::define`].
    pub fn load(&self, fs: &dyn Fs, dir: &Path, number: u64) -> Result<()> {
        file::read_raw(fs, dir, number, &mut |definition| self.write().define(definition))
    }

    /// Writes the definitions made after a mark to a catalog file, durably and whole. Gives the mark behind those
    /// that are in it: not all where they are very many, and the next file begins there. Writers are held up by no
    /// more than a few thousand definitions at a time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, fs: &dyn Fs, dir: &Path, number: u64, after: CatalogMark) -> Result<CatalogMark> {
        self.save_within(FILE_PLAIN_BYTES, fs, dir, number, after)
    }

    /// As [`Catalog::save`]; the file ends with the piece that reaches `plain_bytes_max` bytes before compression.
    pub(super) fn save_within(
        &self,
        plain_bytes_max: usize,
        fs: &dyn Fs,
        dir: &Path,
        number: u64,
        after: CatalogMark,
    ) -> Result<CatalogMark> {
        let (mut mark, end) = (after, self.mark());
        let (mut file, mut plain) = (FileBuilder::new()?, Vec::new());
        self.put_leaves(&mut file, after)?;
        let mut count_max = FIRST_DEFINITIONS;
        while mark != end && file.plain_bytes() < plain_bytes_max {
            plain.clear();
            let mut count = 0;
            mark = self.read().definitions(mark, end, count_max, &mut |definition| {
                count += 1;
                definition.encode(&mut plain)
            })?;
            file.push(count, &plain)?;
            let fitting = count.max(1).saturating_mul(PIECE_BYTES) / plain.len().max(1);
            count_max = fitting.clamp(1, PIECE_DEFINITIONS);
        }
        file.write(fs, dir, number)?;
        Ok(mark)
    }

    /// Adds series that left and were defined before a mark. First of all: their keys may be in the file again.
    fn put_leaves(&self, file: &mut FileBuilder, before: CatalogMark) -> Result<()> {
        let (mut plain, mut count) = (Vec::new(), 0);
        for (first, ids) in self.read().unsaved_below(before.series) {
            RawDefinition::Left { first: SeriesId(first), count: ids }.encode(&mut plain)?;
            count += 1;
        }
        file.push(count, &plain)
    }

    /// Series leave: no row gets one of these ids from now on. Means damage unless nothing names them: no segment, no row
    /// in memory or in the log, no write under way. [`Catalog::sweep`] does the rest.
    pub fn leave(&self, ids: &RoaringBitmap) {
        self.write().leave(ids);
    }

    /// Afterwards the series that left are not selected or counted any more. Their keys can be had until series leave
    /// again. Holds up others for moments only, as does [`Catalog::shrink`].
    pub fn sweep(&self) {
        while self.write().sweep(PIECE_DEFINITIONS) {}
    }

    /// Whether [`Catalog::shrink`] would give something back.
    pub fn is_mostly_left(&self) -> bool {
        self.read().is_mostly_left()
    }

    /// Gives back the memory of series that left earlier, once they are the most or room for names is short. No series may
    /// leave meanwhile.
    pub fn shrink(&self) {
        self.sweep();
        if !self.is_mostly_left() {
            return;
        }
        let mut copied = Copied::default();
        while self.read().copy_to(&mut copied, PIECE_DEFINITIONS as u32) {}
        let mut state = self.write();
        state.copy_to(&mut copied, u32::MAX);
        let replaced = state.replace(copied);
        drop(state);
        drop(replaced);
    }

    /// Ids of the series that are there and were defined before a mark.
    pub fn living_before(&self, mark: CatalogMark) -> RoaringBitmap {
        self.read().living_below(u32::try_from(mark.series).unwrap_or(u32::MAX))
    }

    /// Whether series left and no catalog file that is known to be live says so.
    pub fn has_unsaved_leaves(&self) -> bool {
        self.read().has_unsaved()
    }

    /// Tells that the files of [`Catalog::save`] are live, or that all was loaded from such.
    pub fn note_saved(&self) {
        if self.has_unsaved_leaves() {
            self.write().note_saved();
        }
    }

    /// Whether a series is there: defined, and has not left.
    pub fn has(&self, id: SeriesId) -> bool {
        self.read().has(id)
    }

    /// Ids of series that left.
    pub fn left(&self) -> RoaringBitmap {
        self.read().left.clone()
    }

    /// Fields and tag keys of a measurement; `None` when there is no such measurement.
    pub fn schema(&self, measurement: &str) -> Option<Schema> {
        let state = self.read();
        schema_in(&state, state.measurement_id(measurement)?)
    }

    /// Fields and tag keys of a measurement; `None` when there is no such measurement.
    pub fn schema_of(&self, id: MeasurementId) -> Option<Schema> {
        schema_in(&self.read(), id)
    }

    /// Names of all measurements, sorted.
    pub fn measurements(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.read().measurements().map(|one| Arc::clone(&one.name)).collect();
        names.sort_unstable();
        names
    }

    /// Measurement and tags of a series; `None` when there is no such series. One that left may still be known.
    pub fn key(&self, id: SeriesId) -> Option<Arc<SeriesKey>> {
        self.key_in(&self.read(), id)
    }

    /// Appends the canonical key of a series ([`SeriesKey::encode`]) and tells its measurement; `None` when there is no
    /// such series. For those who ask for each series once: nothing is kept in the cache of decoded keys.
    pub fn encode_key(&self, id: SeriesId, out: &mut Vec<u8>) -> Option<MeasurementId> {
        self.read().encode_key(id, out)
    }

    /// How many series there are; those that left do not count.
    pub fn series_count(&self) -> usize {
        self.read().series_count()
    }

    /// The series of a measurement that pass all matchers, ascending by id.
    ///
    /// # Errors
    /// `LimitExceeded` when there are more than `limit`.
    pub fn select(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        limit: usize,
    ) -> Result<Vec<SeriesInfo>> {
        Ok(self.infos(self.select_ids(measurement, matchers, limit)?))
    }

    /// Series with their keys; those that have left are passed over.
    pub(crate) fn infos(&self, ids: Vec<SeriesId>) -> Vec<SeriesInfo> {
        let state = self.read();
        let info = |id| Some(SeriesInfo { id, key: self.key_in(&state, id)? });
        ids.into_iter().filter_map(info).collect()
    }

    /// As [`Catalog::select`], without the keys: four bytes for each series.
    ///
    /// # Errors
    /// As [`Catalog::select`].
    pub fn select_ids(
        &self,
        measurement: MeasurementId,
        matchers: &[TagMatcher],
        limit: usize,
    ) -> Result<Vec<SeriesId>> {
        let state = self.read();
        let Some(entry) = state.measurement(measurement) else { return Ok(Vec::new()) };
        let ids = entry.postings.select(matchers);
        check_count(&entry.name, usize::try_from(ids.len()).unwrap_or(usize::MAX), limit)?;
        Ok(ids.into_iter().map(SeriesId).collect())
    }

    /// Refuses more series of a measurement than a limit.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub(crate) fn check_count(&self, measurement: MeasurementId, found: usize, limit: usize) -> Result<()> {
        match self.read().measurement(measurement) {
            Some(entry) => check_count(&entry.name, found, limit),
            None => Ok(()),
        }
    }

    /// Measurement and tags of some series, in the order asked, past the cache: for readers of very many.
    ///
    /// # Errors
    /// `Unavailable` when a series left long ago, `Internal` when there is no such series.
    pub fn keys(&self, series: &[SeriesId]) -> Result<Vec<SeriesKey>> {
        let state = self.read();
        series.iter().map(|id| state.key(*id).ok_or_else(|| state.unknown(*id))).collect()
    }

    /// The mark behind everything that is known.
    pub fn mark(&self) -> CatalogMark {
        self.read().mark()
    }

    /// The definitions made after a mark: measurements, then fields, then series, each in the order in which they
    /// were made.
    pub fn definitions_after(&self, mark: CatalogMark) -> Vec<Definition> {
        let (state, mut definitions) = (self.read(), Vec::new());
        let outcome = state.definitions(mark, state.mark(), usize::MAX, &mut |definition| {
            definitions.push(definition.to_definition()?);
            Ok(())
        });
        debug_assert!(outcome.is_ok(), "the catalog encoded these keys itself");
        definitions
    }

    fn key_in(&self, state: &State, id: SeriesId) -> Option<Arc<SeriesKey>> {
        if let Some(key) = self.keys.get(&id) {
            return Some(key);
        }
        let key = Arc::new(state.key(id)?);
        self.keys.insert(id, Arc::clone(&key));
        Some(key)
    }
}

fn check_count(measurement: &str, found: usize, limit: usize) -> Result<()> {
    if limit < found {
        let message =
            format!("{found} series of measurement \"{measurement}\" match, more than the limit of {limit}");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(())
}

fn schema_in(state: &State, id: MeasurementId) -> Option<Schema> {
    let entry = state.measurement(id)?;
    let field = |(id, field): (u16, &super::state::FieldEntry)| FieldInfo {
        id: crate::model::FieldId(id),
        name: Arc::clone(&field.name),
        field_type: field.field_type,
    };
    let mut fields: Vec<_> = (0..).zip(&entry.fields).map(field).collect();
    fields.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let tag_keys = entry.postings.tag_keys().cloned().collect();
    Some(Schema { measurement: id, name: Arc::clone(&entry.name), fields, tag_keys })
}
