//! Everything the catalog knows, without its lock.
//!
//! Ids are given in the order of definition and never twice, so "what came after a mark" is the tails of three lists.
//! Measurements and fields are only ever added; how series leave is told in [`super::leaves`]. Judging comes before
//! defining ([`super::judge`]): a row that is refused leaves no trace here.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::definition::{RawDefinition, borrow_key, encode_part};
use super::keys::{Keys, PackedKey};
use super::limits::{LimitHits, NewSeries, Refusal, RefusedRows};
use super::names::RawNames;
use super::postings::{Postings, Size};
use super::raw_keys::RawKeys;
use super::{CatalogLimits, CatalogMark, Definition};
use crate::memory::Share;
use crate::model::{FieldId, FieldType, MeasurementId, SeriesId, SeriesKey, ValueRef};
use crate::{Error, ErrorKind, Result};

/// Spellings of one series or field that are cached, on average.
const SPELLINGS: usize = 2;
// What these take in memory beside their names, with their share of tables that have room to grow. Of a measurement and a
// field that is also what the memtables and open segments keep of each.
const MEASUREMENT_BYTES: usize = 2_048;
const FIELD_BYTES: usize = 256;
/// This part of what keys take in files counts, too: a long value of many series stands once in memory, and is read once
/// for each of them by every start.
const PLAIN_SHARE: usize = 16;

pub(super) struct State {
    pub(super) limits: CatalogLimits,
    /// Definitions not yet handed to the log, in the order in which they were made.
    pub(super) pending: Vec<Definition>,
    pub(super) measurements: Vec<Measurement>,
    measurement_ids: HashMap<Arc<str>, MeasurementId, RandomState>,
    /// Every field, in the order in which they were made.
    fields: Vec<(MeasurementId, FieldId)>,
    /// Memory of measurements and fields, by estimate.
    names_bytes: usize,
    /// Of all postings.
    postings_size: Size,
    /// For each series the id of its measurement, then what [`Postings`] makes of its tags.
    pub(super) keys: Keys,
    pub(super) raw_keys: RawKeys,
    /// Ids of series that left.
    pub(super) left: RoaringBitmap,
    /// Those of them that no catalog file names so.
    pub(super) unsaved: RoaringBitmap,
    /// Those of them that are still in hash tables and postings.
    pub(super) unswept: RoaringBitmap,
    pub(super) new_series: NewSeries,
    hits: LimitHits,
    /// What [`State::bytes`] says, of what all databases take.
    pub(super) share: Share,
}

pub(super) struct Measurement {
    pub(super) name: Arc<str>,
    pub(super) fields: Vec<FieldEntry>,
    pub(super) postings: Postings,
    pub(super) field_ids: HashMap<Arc<str>, FieldId, RandomState>,
    raw_fields: RawNames<FieldId>,
}

pub(super) struct FieldEntry {
    pub(super) name: Arc<str>,
    pub(super) field_type: FieldType,
}

/// A series as rows need it.
#[derive(Clone, Copy)]
pub(super) struct KnownSeries {
    pub(super) id: SeriesId,
    pub(super) measurement: MeasurementId,
}

/// The decoded names of a row.
pub(super) struct RowNames<'a> {
    pub(super) dialect: u8,
    pub(super) raw_key: &'a [u8],
    pub(super) key: Arc<SeriesKey>,
    /// Raw name, plain name and value of each field.
    pub(super) fields: Vec<(&'a [u8], String, ValueRef<'a>)>,
}

impl Measurement {
    pub(super) fn field(&self, id: FieldId) -> Option<&FieldEntry> {
        self.fields.get(usize::from(id.0))
    }

    /// The field that a raw name stands for; `None` when that is not cached.
    pub(super) fn raw_field(&self, dialect: u8, raw: &[u8]) -> Option<FieldId> {
        self.raw_fields.find(dialect, raw)
    }

    /// Why a value cannot be stored in a field.
    pub(super) fn conflict(&self, field: &FieldEntry, found: FieldType) -> String {
        let (input, exists) = (found.name(), field.field_type.name());
        let (field, measurement) = (&field.name, &self.name);
        format!(
            "field type conflict: input field \"{field}\" on measurement \"{measurement}\" is type {input}, already exists as type {exists}"
        )
    }
}

impl State {
    pub(super) fn new(limits: CatalogLimits, share: Share) -> Self {
        Self {
            limits,
            pending: Vec::new(),
            measurements: Vec::new(),
            measurement_ids: HashMap::default(),
            fields: Vec::new(),
            names_bytes: 0,
            postings_size: Size::default(),
            keys: Keys::default(),
            raw_keys: RawKeys::new(limits.series_max.saturating_mul(SPELLINGS)),
            left: RoaringBitmap::new(),
            unsaved: RoaringBitmap::new(),
            unswept: RoaringBitmap::new(),
            new_series: NewSeries::default(),
            hits: LimitHits::default(),
            share,
        }
    }

    pub(super) fn measurement(&self, id: MeasurementId) -> Option<&Measurement> {
        self.measurements.get(id.0 as usize)
    }

    pub(super) fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.measurements.iter()
    }

    pub(super) fn measurement_id(&self, name: &str) -> Option<MeasurementId> {
        self.measurement_ids.get(name).copied()
    }

    pub(super) fn series_count(&self) -> usize {
        self.keys.len()
    }

    /// Memory of names and keys, by estimate. Caches of a fixed size are not in it.
    pub(super) fn bytes(&self) -> usize {
        self.names_bytes + self.postings_size.memory + self.postings_size.plain / PLAIN_SHARE
    }

    /// Length of all keys, written one after the other.
    pub(super) fn plain_bytes(&self) -> usize {
        self.postings_size.plain
    }

    /// Measures anew what was replaced.
    pub(super) fn measure_postings(&mut self) {
        let sizes = self.measurements.iter().map(|entry| entry.postings.size());
        self.postings_size = sizes.fold(Size::default(), |sum, size| Size {
            memory: sum.memory + size.memory,
            plain: sum.plain + size.plain,
        });
        self.note_bytes();
    }

    /// Keeps the account of all databases: after every change of [`State::bytes`].
    fn note_bytes(&mut self) {
        self.share.set_bytes(self.bytes());
    }

    /// Which series raw keys stand for, as far as that is cached.
    pub(super) fn raw_keys(&self) -> &RawKeys {
        &self.raw_keys
    }

    /// Appends the canonical key of a series ([`SeriesKey::encode`]) and tells its measurement; `None` when there is no
    /// such series. One that left is known for a while ([`State::leave`]).
    pub(super) fn encode_key(&self, id: SeriesId, out: &mut Vec<u8>) -> Option<MeasurementId> {
        let numbers = self.keys.numbers(id);
        let (id, measurement, tags) = self.parts_of(&numbers)?;
        encode_part(&measurement.name, out);
        for (key, value) in tags {
            encode_part(key, out);
            encode_part(value, out);
        }
        Some(id)
    }

    /// The key of a series; of one that left for a while.
    pub(super) fn key(&self, id: SeriesId) -> Option<SeriesKey> {
        let numbers = self.keys.numbers(id);
        let (_, measurement, tags) = self.parts_of(&numbers)?;
        Some(SeriesKey::from_sorted(&measurement.name, tags))
    }

    /// What is made of the value of a tag of a series, which is empty where the series has none; `None` when there is
    /// no such series, as for [`State::key`].
    pub(super) fn with_tag<T>(&self, id: SeriesId, tag_key: &str, make: impl FnOnce(&str) -> T) -> Option<T> {
        let numbers = self.keys.numbers(id);
        let (_, _, mut tags) = self.parts_of(&numbers)?;
        Some(make(tags.find(|(key, _)| *key == tag_key).map_or("", |(_, value)| value)))
    }

    /// Why the key of a series cannot be had.
    pub(super) fn unknown(&self, id: SeriesId) -> Error {
        match self.left.contains(id.0) {
            true => {
                Error::new(ErrorKind::Unavailable, format!("the rows of series {} are gone; ask again", id.0))
            }
            false => Error::new(ErrorKind::Internal, format!("there is no series {}", id.0)),
        }
    }

    /// Measurement and tags of the numbers of a key.
    fn parts_of<'a>(
        &'a self,
        numbers: &'a [u32],
    ) -> Option<(MeasurementId, &'a Measurement, impl Iterator<Item = (&'a str, &'a str)>)> {
        let (id, numbers) = numbers.split_first()?;
        let measurement = self.measurement(MeasurementId(*id))?;
        Some((MeasurementId(*id), measurement, measurement.postings.tags_of(numbers)))
    }

    /// The series with these tags. One that has just left is not it, and makes room for the next of that key.
    fn find_series(&mut self, measurement: MeasurementId, tags: &[(&str, &str)]) -> Option<SeriesId> {
        let mut numbers = Vec::with_capacity(16);
        numbers.push(measurement.0);
        let is_known = self.measurement(measurement)?.postings.find(tags, &mut numbers);
        let found = is_known.then(|| self.keys.find(&PackedKey::new(&numbers))).flatten()?;
        if self.left.contains(found.0) {
            self.keys.remove(found);
            return None;
        }
        Some(found)
    }

    pub(super) fn limit_hits(&self) -> Vec<(&'static str, u64)> {
        self.hits.named()
    }

    pub(super) fn refused(&self) -> Vec<RefusedRows> {
        self.hits.refused()
    }

    /// Finds or makes the series and fields of a row.
    pub(super) fn intern(
        &mut self,
        row: &RowNames<'_>,
        now_ns: i64,
    ) -> std::result::Result<(KnownSeries, Vec<FieldId>), String> {
        self.define_row(row, now_ns).map_err(|refusal| {
            if let Some((limit, tag_key)) = refusal.limit {
                self.hits.add(limit, row.key.measurement(), &tag_key.unwrap_or_default());
            }
            refusal.reason
        })
    }

    fn define_row(
        &mut self,
        row: &RowNames<'_>,
        now_ns: i64,
    ) -> std::result::Result<(KnownSeries, Vec<FieldId>), Refusal> {
        let tags: Vec<(&str, &str)> = tags_of(&row.key).collect();
        let measurement = self.measurement_id(row.key.measurement());
        let found = measurement.and_then(|id| self.find_series(id, &tags));
        let new_fields = self.judge_fields(measurement, row)?;
        if found.is_none() || !new_fields.is_empty() {
            self.judge_bytes(&row.key)?;
        }
        if found.is_none() {
            self.judge_series(measurement, &row.key, now_ns)?;
        }
        let measurement = match measurement {
            Some(measurement) => measurement,
            None => {
                let name: Arc<str> = row.key.measurement().into();
                let id = self.add_measurement(Arc::clone(&name));
                self.pending.push(Definition::Measurement { id, name });
                id
            }
        };
        let id = match found {
            Some(id) => id,
            None => {
                self.new_series.add();
                let id = self.add_series(measurement, &tags);
                self.pending.push(Definition::Series { id, measurement, key: Arc::clone(&row.key) });
                id
            }
        };
        for (name, field_type) in new_fields {
            let name: Arc<str> = name.into();
            if let Some(id) = self.add_field(measurement, Arc::clone(&name), field_type) {
                self.pending.push(Definition::Field { measurement, id, name, field_type });
            }
        }
        let known = KnownSeries { id, measurement };
        self.raw_keys.remember(row.dialect, row.raw_key, known);
        Ok((known, self.field_ids_of(measurement, row)))
    }

    /// The ids of a row's fields, all of which are defined.
    fn field_ids_of(&mut self, measurement: MeasurementId, row: &RowNames<'_>) -> Vec<FieldId> {
        let Some(measurement) = self.measurements.get_mut(measurement.0 as usize) else { return Vec::new() };
        let mut ids = Vec::with_capacity(row.fields.len());
        for (raw, name, _) in &row.fields {
            let Some(id) = measurement.field_ids.get(&**name).copied() else { continue };
            measurement.raw_fields.remember(row.dialect, raw, id);
            ids.push(id);
        }
        assert_eq!(ids.len(), row.fields.len(), "every field of the row has just been defined");
        ids
    }

    fn add_measurement(&mut self, name: Arc<str>) -> MeasurementId {
        let id = MeasurementId(next_id(self.measurements.len()));
        self.names_bytes += MEASUREMENT_BYTES + name.len();
        self.measurement_ids.insert(Arc::clone(&name), id);
        let raw_fields = RawNames::new(self.limits.fields_max.saturating_mul(SPELLINGS));
        let (fields, field_ids, postings) = (Vec::new(), HashMap::default(), Postings::default());
        self.measurements.push(Measurement { name, fields, postings, field_ids, raw_fields });
        self.note_bytes();
        id
    }

    fn add_field(
        &mut self,
        measurement: MeasurementId,
        name: Arc<str>,
        field_type: FieldType,
    ) -> Option<FieldId> {
        let entry = self.measurements.get_mut(measurement.0 as usize)?;
        let id = FieldId(u16::try_from(entry.fields.len()).unwrap_or(u16::MAX));
        // The name, and how it is spelled.
        self.names_bytes += FIELD_BYTES + 2 * name.len();
        entry.field_ids.insert(Arc::clone(&name), id);
        entry.fields.push(FieldEntry { name, field_type });
        self.fields.push((measurement, id));
        self.note_bytes();
        Some(id)
    }

    /// Adds a series that [`State::find_series`] does not know; its tags come sorted by key.
    fn add_series(&mut self, measurement: MeasurementId, tags: &[(&str, &str)]) -> SeriesId {
        let id = SeriesId(self.keys.next());
        let mut numbers = Vec::with_capacity(16);
        numbers.push(measurement.0);
        if let Some(entry) = self.measurements.get_mut(measurement.0 as usize) {
            let before = entry.postings.size();
            entry.postings.insert(id, tags, &mut numbers);
            let after = entry.postings.size();
            self.postings_size.memory += after.memory - before.memory;
            self.postings_size.plain += after.plain - before.plain;
        }
        self.note_bytes();
        let pushed = self.keys.push(&PackedKey::new(&numbers));
        assert_eq!(pushed, id, "ids are dense");
        id
    }

    /// Takes a definition from a file or the log, with the id it was given there.
    pub(super) fn define(&mut self, definition: RawDefinition<'_>) -> Result<()> {
        match definition {
            RawDefinition::Measurement { id, name } => self.define_measurement(id, name),
            RawDefinition::Field { measurement, id, name, field_type } => {
                self.define_field(measurement, id, name, field_type)
            }
            RawDefinition::Series { id, measurement, key } => self.define_series(id, measurement, key),
            RawDefinition::Left { first, count } => self.define_left(first, count),
        }
    }

    fn define_measurement(&mut self, id: MeasurementId, name: &str) -> Result<()> {
        let refuse = |why: &str| Err(contradiction(&format!("measurement \"{name}\" with id {}", id.0), why));
        match self.measurement(id) {
            Some(known) if *known.name == *name => return Ok(()),
            Some(known) => return refuse(&format!("the id belongs to \"{}\"", known.name)),
            None => {}
        }
        if self.measurement_ids.contains_key(name) {
            return refuse("the name has another id");
        }
        if id.0 as usize != self.measurements.len() {
            return refuse(&gap(self.measurements.len()));
        }
        self.add_measurement(name.into());
        Ok(())
    }

    fn define_field(
        &mut self,
        measurement: MeasurementId,
        id: FieldId,
        name: &str,
        field_type: FieldType,
    ) -> Result<()> {
        let refuse = |why: &str| {
            let (of, type_name) = (measurement.0, field_type.name());
            let what = format!("field \"{name}\" of type {type_name} with id {} of measurement {of}", id.0);
            Err(contradiction(&what, why))
        };
        let Some(entry) = self.measurement(measurement) else {
            return refuse("the measurement is not defined");
        };
        match entry.field(id) {
            Some(known) if *known.name == *name && known.field_type == field_type => return Ok(()),
            Some(known) => {
                let (name, type_name) = (&known.name, known.field_type.name());
                return refuse(&format!("the id belongs to \"{name}\" of type {type_name}"));
            }
            None => {}
        }
        if entry.field_ids.contains_key(name) {
            return refuse("the name has another id");
        }
        if usize::from(id.0) != entry.fields.len() {
            return refuse(&gap(entry.fields.len()));
        }
        self.add_field(measurement, name.into(), field_type);
        Ok(())
    }

    fn define_series(&mut self, id: SeriesId, measurement: MeasurementId, encoded: &[u8]) -> Result<()> {
        let mut tags = Vec::with_capacity(16);
        let Some(name) = borrow_key(encoded, &mut tags) else {
            // Bytes that are not canonical: no key at all, or tags out of order, which icecore never writes.
            let why =
                SeriesKey::decode(encoded).err().map_or("tags are out of order".into(), |e| e.to_string());
            return Err(contradiction(&format!("series {}", id.0), &why));
        };
        let refuse = |why: &str| {
            let key = SeriesKey::decode(encoded)?;
            Err(contradiction(&format!("series {key} with id {}", id.0), why))
        };
        if self.measurement(measurement).is_none_or(|entry| &*entry.name != name) {
            return refuse("the measurement is not defined, or has another name");
        }
        // It was defined, has left, and may be there under another id: this is an older part of the log.
        if self.left.contains(id.0) {
            return Ok(());
        }
        match self.find_series(measurement, &tags) {
            Some(known) if known == id => return Ok(()),
            Some(_) => return refuse("the series has another id"),
            None => {}
        }
        let next = self.keys.next();
        if id.0 < next {
            return refuse("the id belongs to another series");
        }
        if id.0 != next {
            return refuse(&gap(next as usize));
        }
        self.add_series(measurement, &tags);
        Ok(())
    }

    pub(super) fn take_pending(&mut self) -> Vec<Definition> {
        std::mem::take(&mut self.pending)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The mark behind everything that is known.
    pub(super) fn mark(&self) -> CatalogMark {
        let (measurements, fields) = (self.measurements.len(), self.fields.len());
        CatalogMark { measurements, fields, series: self.keys.next() as usize }
    }

    /// Hands over the definitions between two marks, measurements first, then fields, then series, ids that left in
    /// their place; at most about `count_max`. Gives the mark behind the last.
    ///
    /// # Errors
    /// Those of `sink`.
    pub(super) fn definitions(
        &self,
        after: CatalogMark,
        end: CatalogMark,
        count_max: usize,
        sink: &mut dyn FnMut(RawDefinition<'_>) -> Result<()>,
    ) -> Result<CatalogMark> {
        let (mut mark, mut left) = (after, count_max);
        let mut range = |next: &mut usize, end: usize| {
            let range = *next..end.min(next.saturating_add(left));
            left -= range.len();
            *next = range.end.max(*next);
            range
        };
        for id in range(&mut mark.measurements, end.measurements) {
            let (id, name) = (MeasurementId(next_id(id)), self.measurements.get(id).map(|one| &one.name));
            name.map_or(Ok(()), |name| sink(RawDefinition::Measurement { id, name }))?;
        }
        for (measurement, id) in self.fields.get(range(&mut mark.fields, end.fields)).unwrap_or_default() {
            let field = self.measurement(*measurement).and_then(|one| one.field(*id));
            field.map_or(Ok(()), |field| {
                sink(RawDefinition::Field {
                    measurement: *measurement,
                    id: *id,
                    name: &field.name,
                    field_type: field.field_type,
                })
            })?;
        }
        let mut key = Vec::with_capacity(128);
        let ids = range(&mut mark.series, end.series);
        let mut left = self.left_between(ids.clone());
        for id in ids.map(next_id) {
            if left.peek().is_some_and(|(first, _)| *first == id)
                && let Some((first, count)) = left.next()
            {
                sink(RawDefinition::Left { first: SeriesId(first), count })?;
            }
            key.clear();
            let id = SeriesId(id);
            if !self.left.contains(id.0)
                && let Some(measurement) = self.encode_key(id, &mut key)
            {
                sink(RawDefinition::Series { id, measurement, key: &key })?;
            }
        }
        Ok(mark)
    }
}

/// The id after `count` others. There are never more measurements than series, and those are bounded by the limit
/// or, in a replay, by ids that come one after the other in 32 bits.
fn next_id(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Ids are dense: a gap means that a definition was lost.
pub(super) fn gap(next: usize) -> String {
    format!("the next id is {next}: definitions are missing")
}

pub(super) fn contradiction(what: &str, why: &str) -> Error {
    Error::corruption(format!("the catalog cannot take {what}: {why}"))
}

pub(super) fn tags_of(key: &SeriesKey) -> impl Iterator<Item = (&str, &str)> {
    key.tags().iter().map(|(key, value)| (&**key, &**value))
}
