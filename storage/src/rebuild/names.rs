//! What is known of the names of a database, gathered from all that tells some: values only, no files.
//!
//! A name is certain when rows, the log or a catalog file that is whole has it; ids stand for one thing for ever, so
//! certain names must agree. What a segment lists without having a value of it is a hint: a process that died before it
//! logged a field may have left it there, and the id may be another field's now. A series is there when a segment or a row
//! of the log has rows of it; every other id below the next has left. An id that must be taken and has no name gets a
//! stand-in: ids are dense.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::model::{FieldId, FieldInfo, FieldType, MeasurementId, RowBlock, SeriesId, SeriesKey};
use crate::series::{Catalog, CatalogLimits, Definition};
use crate::tombstone::Tombstone;
use crate::{Error, ErrorKind, Result};

/// Names that may be made up: more of them are no gaps, but ids that cannot be.
const STAND_INS_MAX: usize = 1 << 16;
/// Ids that a message names.
const IDS_TOLD_MAX: usize = 10;

type Field = (MeasurementId, FieldId);
type Column = (Arc<str>, FieldType);

/// Measurements, fields and series, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Names {
    measurements: BTreeMap<MeasurementId, Arc<str>>,
    fields: BTreeMap<Field, Column>,
    /// `None` where two differ.
    hints: BTreeMap<Field, Option<Column>>,
    /// Measurement and canonical key, of those that are there.
    series: BTreeMap<SeriesId, (MeasurementId, Box<[u8]>)>,
    /// Of which something has rows.
    living: RoaringBitmap,
    /// Of which something says that they left.
    left: RoaringBitmap,
    /// Series and fields that rows of the log are of.
    logged_series: BTreeMap<MeasurementId, RoaringBitmap>,
    logged_fields: BTreeSet<Field>,
    measurements_end: u32,
    series_end: u32,
}

/// A catalog made of names.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) catalog: Catalog,
    /// What stands for names that nothing has any more.
    pub(super) stand_ins: Vec<String>,
    pub(super) measurements: usize,
    pub(super) fields: usize,
    pub(super) series: usize,
}

impl Names {
    /// Learns the name of a measurement.
    ///
    /// # Errors
    /// `Corruption` when it has another name elsewhere, as for everything that is learned.
    pub(super) fn measurement(&mut self, id: MeasurementId, name: &str) -> Result<()> {
        self.measurements_end = self.measurements_end.max(id.0.saturating_add(1));
        match self.measurements.get(&id) {
            None => drop(self.measurements.insert(id, name.into())),
            Some(known) if **known == *name => {}
            Some(known) => return disagree(&format!("measurement {}", id.0), name, known),
        }
        Ok(())
    }

    /// Learns a field.
    ///
    /// # Errors
    /// As [`Names::measurement`].
    pub(super) fn field(&mut self, measurement: MeasurementId, id: FieldId, column: Column) -> Result<()> {
        self.measurements_end = self.measurements_end.max(measurement.0.saturating_add(1));
        match self.fields.get(&(measurement, id)) {
            None => drop(self.fields.insert((measurement, id), column)),
            Some(known) if *known == column => {}
            Some(known) => {
                let text = |(name, field_type): &Column| format!("{name} of type {}", field_type.name());
                let what = format!("field {} of measurement {}", id.0, measurement.0);
                return disagree(&what, &text(&column), &text(known));
            }
        }
        Ok(())
    }

    /// Hears of a field that has no value where it is listed.
    pub(super) fn hint(&mut self, measurement: MeasurementId, field: &FieldInfo) {
        let column = (Arc::clone(&field.name), field.field_type);
        let heard = self.hints.entry((measurement, field.id)).or_insert_with(|| Some(column.clone()));
        if heard.as_ref() != Some(&column) {
            *heard = None;
        }
    }

    /// Learns of a series that has rows in a segment.
    ///
    /// # Errors
    /// As [`Names::measurement`].
    pub(super) fn series_with_rows(
        &mut self,
        measurement: MeasurementId,
        id: SeriesId,
        key: &SeriesKey,
    ) -> Result<()> {
        self.living.insert(id.0);
        self.series(measurement, id, key)
    }

    /// Hears of rows in the log: what they are of is there, its names must come from elsewhere.
    pub(super) fn logged_rows(&mut self, measurement: MeasurementId, rows: &RowBlock) {
        let series = self.logged_series.entry(measurement).or_default();
        series.extend(rows.series.iter().map(|id| id.0));
        self.living |= &*series;
        self.logged_fields.extend(rows.columns.iter().map(|column| (measurement, column.key.field)));
    }

    /// Learns a definition of the log, or of a catalog file; keys of series without rows are passed over, so that it is
    /// called when all rows are known.
    ///
    /// # Errors
    /// As [`Names::measurement`].
    pub(super) fn definition(&mut self, definition: &Definition) -> Result<()> {
        match definition {
            Definition::Measurement { id, name } => self.measurement(*id, name),
            Definition::Field { measurement, id, name, field_type } => {
                self.field(*measurement, *id, (Arc::clone(name), *field_type))
            }
            Definition::Series { id, measurement, key } => self.series(*measurement, *id, key),
            Definition::Left { first, count } => {
                let end = first.0.saturating_add(*count);
                self.series_end = self.series_end.max(end);
                self.left.insert_range(first.0..end);
                Ok(())
            }
        }
    }

    fn series(&mut self, measurement: MeasurementId, id: SeriesId, key: &SeriesKey) -> Result<()> {
        self.series_end = self.series_end.max(id.0.saturating_add(1));
        self.measurement(measurement, key.measurement())?;
        if !self.living.contains(id.0) {
            return Ok(());
        }
        let mut encoded = Vec::with_capacity(128);
        key.encode(&mut encoded);
        match self.series.get(&id) {
            None => drop(self.series.insert(id, (measurement, encoded.into()))),
            Some((_, known)) if **known == *encoded => {}
            Some((_, known)) => {
                let known = SeriesKey::decode(known)?;
                return disagree(&format!("series {}", id.0), &key.to_string(), &known.to_string());
            }
        }
        Ok(())
    }

    /// Hears of a delete: the ids that it names are taken.
    pub(super) fn tombstone(&mut self, tombstone: &Tombstone) {
        self.measurements_end = self.measurements_end.max(tombstone.measurement.0.saturating_add(1));
        let last = tombstone.series.iter().flat_map(|series| series.iter()).max();
        self.series_end = self.series_end.max(last.map_or(0, |id| id.0.saturating_add(1)));
    }

    /// Checks that all that rows are of has a name, and has not left.
    ///
    /// # Errors
    /// `Corruption`, naming what has none.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(id) = (&self.left & &self.living).min() {
            return Err(Error::corruption(format!("series {id} has rows, and has left the catalog")));
        }
        for (measurement, series) in &self.logged_series {
            let is_known =
                |id: &u32| self.series.get(&SeriesId(*id)).is_some_and(|(known, _)| known == measurement);
            let lost: Vec<u32> = series.iter().filter(|id| !is_known(id)).collect();
            if !lost.is_empty() {
                return Err(self.nameless("series", &lost, *measurement));
            }
        }
        let lost = self.logged_fields.iter().filter(|field| !self.fields.contains_key(*field));
        let lost: Vec<Field> = lost.copied().collect();
        if let Some((measurement, _)) = lost.first() {
            let of = lost.iter().filter(|(known, _)| known == measurement);
            let fields: Vec<u32> = of.map(|(_, id)| u32::from(id.0)).collect();
            return Err(self.nameless("field", &fields, *measurement));
        }
        Ok(())
    }

    fn nameless(&self, what: &str, ids: &[u32], measurement: MeasurementId) -> Error {
        let told: Vec<String> = ids.iter().take(IDS_TOLD_MAX).map(u32::to_string).collect();
        let more = match ids.len().saturating_sub(IDS_TOLD_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let of = self.measurements.get(&measurement).map(|name| format!(" ({name})")).unwrap_or_default();
        Error::corruption(format!(
            "rows of the log are of {what} {}{more} of measurement {}{of}: neither a segment nor the log nor a catalog \
             file that is whole has the name",
            told.join(", "),
            measurement.0
        ))
    }

    /// Makes the catalog.
    ///
    /// # Errors
    /// `Corruption` when two ids have one name, `LimitExceeded` when far too many ids have none.
    pub(super) fn catalog(&self) -> Result<Made> {
        let catalog = Catalog::new(CatalogLimits::NONE);
        let mut made = Made { catalog, stand_ins: Vec::new(), measurements: 0, fields: 0, series: 0 };
        self.define_measurements(&mut made)?;
        self.define_fields(&mut made)?;
        let mut next = 0;
        for (id, (measurement, key)) in &self.series {
            skip_series(&made, next, id.0)?;
            let key = Arc::new(SeriesKey::decode(key)?);
            made.catalog.define(&Definition::Series { id: *id, measurement: *measurement, key })?;
            made.series += 1;
            next = id.0.saturating_add(1);
        }
        skip_series(&made, next, self.series_end)?;
        made.catalog.note_saved();
        Ok(made)
    }

    fn define_measurements(&self, made: &mut Made) -> Result<()> {
        let taken: BTreeSet<&str> = self.measurements.values().map(|name| &**name).collect();
        for id in (0..self.measurements_end).map(MeasurementId) {
            let name = match self.measurements.get(&id) {
                Some(name) => Arc::clone(name),
                None => {
                    let name = free_name(&format!("lost measurement {}", id.0), &|name| taken.contains(name));
                    made.stand_in(format!("measurement {} is listed as \"{name}\"", id.0))?;
                    name
                }
            };
            made.catalog.define(&Definition::Measurement { id, name })?;
            made.measurements += 1;
        }
        Ok(())
    }

    fn define_fields(&self, made: &mut Made) -> Result<()> {
        let mut ends: BTreeMap<MeasurementId, FieldId> = BTreeMap::new();
        for (measurement, id) in self.fields.keys().chain(self.hints.keys()) {
            let end = ends.entry(*measurement).or_insert(*id);
            *end = (*end).max(*id);
        }
        for (measurement, end) in ends {
            let of = (measurement, FieldId(0))..=(measurement, FieldId(u16::MAX));
            let mut taken: BTreeSet<Arc<str>> =
                self.fields.range(of).map(|(_, (name, _))| Arc::clone(name)).collect();
            for id in (0..=end.0).map(FieldId) {
                let (name, field_type) = match self.fields.get(&(measurement, id)) {
                    Some(column) => column.clone(),
                    None => self.nameless_field((measurement, id), &taken, made)?,
                };
                taken.insert(Arc::clone(&name));
                made.catalog.define(&Definition::Field { measurement, id, name, field_type })?;
                made.fields += 1;
            }
        }
        Ok(())
    }

    /// A field that no value is of: as it is listed, or a stand-in.
    fn nameless_field(&self, field: Field, taken: &BTreeSet<Arc<str>>, made: &mut Made) -> Result<Column> {
        let heard = self.hints.get(&field).and_then(Option::as_ref);
        if let Some(column) = heard.filter(|(name, _)| !taken.contains(name)) {
            return Ok(column.clone());
        }
        let (measurement, id) = (field.0.0, field.1.0);
        let name = free_name(&format!("lost field {id}"), &|name| taken.contains(name));
        made.stand_in(format!("field {id} of measurement {measurement} is listed as \"{name}\""))?;
        Ok((name, FieldType::Float))
    }
}

impl Made {
    fn stand_in(&mut self, what: String) -> Result<()> {
        if STAND_INS_MAX <= self.stand_ins.len() {
            let message = format!("more than {STAND_INS_MAX} measurements or fields have an id and no name");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        self.stand_ins.push(what);
        Ok(())
    }
}

/// The ids of a range have left, or were never seen.
fn skip_series(made: &Made, next: u32, end: u32) -> Result<()> {
    match end.saturating_sub(next) {
        0 => Ok(()),
        count => made.catalog.define(&Definition::Left { first: SeriesId(next), count }),
    }
}

/// A name that nothing else has.
fn free_name(name: &str, is_taken: &dyn Fn(&str) -> bool) -> Arc<str> {
    let mut free = name.to_owned();
    while is_taken(&free) {
        free.push('\'');
    }
    free.into()
}

fn disagree(what: &str, found: &str, known: &str) -> Result<()> {
    Err(Error::corruption(format!("{what} is {found} here, and {known} elsewhere")))
}
