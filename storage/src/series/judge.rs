//! Whether a row may make something new known: the bounds of the catalog, and which of them is to blame. Defines nothing.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::CatalogLimits;
use super::limits::{CatalogLimit, Refusal};
use super::postings::Postings;
use super::state::{RowNames, State, tags_of};
use crate::model::{FieldType, MeasurementId, SeriesKey};

/// Field ids are 16 bits wide.
const FIELD_IDS: usize = 1 << 16;

impl State {
    /// Whether anything new may become known, here and in all databases together. What is there decides, not what would
    /// come: a row goes beyond the bound by its names at most.
    pub(super) fn judge_bytes(&self, key: &SeriesKey) -> Result<(), Refusal> {
        let (of_all, of_one) = (self.share.account(), self.limits.catalog_bytes_max);
        let (limit, whose, bytes_max) = if of_one <= self.bytes() {
            (CatalogLimit::CatalogBytes, "", of_one)
        } else if of_all.is_full() {
            (CatalogLimit::CatalogsBytes, " of all databases", of_all.bytes_max())
        } else {
            return Ok(());
        };
        let (measurement, name) = (key.measurement(), limit.name());
        let reason = format!(
            "names of series, tags and fields{whose} take {bytes_max} bytes of memory (limit {name}): nothing new is taken; the row is of measurement \"{measurement}\""
        );
        Err(Refusal::limit(limit, None, reason))
    }

    /// Whether one more series may become known.
    pub(super) fn judge_series(
        &mut self,
        measurement: Option<MeasurementId>,
        key: &SeriesKey,
        now_ns: i64,
    ) -> Result<(), Refusal> {
        let series_max = self.limits.series_max.min(u32::MAX as usize);
        let new_count = self.new_series.count(now_ns);
        let CatalogLimits { measurement_series_max, new_series_per_minute_max, tag_values_max, .. } =
            self.limits;
        let postings = measurement.and_then(|id| self.measurement(id)).map(|one| &one.postings);
        let refuse = |limit: CatalogLimit, rule: String| {
            let widest = widest_tag(postings, key);
            let hint = widest.map_or(String::new(), |(values, tag_key)| {
                format!(", tag key \"{tag_key}\" has {values} values")
            });
            let reason = format!("{rule}{hint}; the new series is {key}");
            Err(Refusal::limit(limit, widest.map(|(_, tag_key)| tag_key), reason))
        };
        if self.keys.next() == u32::MAX {
            // Ids are never given twice, also those of series that left.
            return Err(Refusal::limit(
                CatalogLimit::Series,
                None,
                "this database has no ids for new series".to_owned(),
            ));
        }
        if series_max <= self.keys.len() {
            let rule = format!("series limit reached: {series_max} series (limit series_max)");
            return refuse(CatalogLimit::Series, rule);
        }
        if let Some(postings) = postings {
            let name = key.measurement();
            if measurement_series_max <= postings.series_count() {
                let rule = format!(
                    "series limit reached: {measurement_series_max} series of measurement \"{name}\" (limit measurement_series_max)"
                );
                return refuse(CatalogLimit::MeasurementSeries, rule);
            }
            let is_full = |(tag_key, value): &(&str, &str)| {
                tag_values_max <= postings.value_count(tag_key) && !postings.has_value(tag_key, value)
            };
            if let Some((tag_key, value)) = tags_of(key).find(is_full) {
                let reason = format!(
                    "tag value limit reached: {tag_values_max} values of tag key \"{tag_key}\" on measurement \"{name}\" (limit tag_values_max); the new value is \"{value}\""
                );
                return Err(Refusal::limit(CatalogLimit::TagValues, Some(tag_key), reason));
            }
        }
        if new_series_per_minute_max <= new_count {
            let rule = format!(
                "new series limit reached: {new_series_per_minute_max} new series in this minute (limit new_series_per_minute_max)"
            );
            return refuse(CatalogLimit::NewSeriesPerMinute, rule);
        }
        Ok(())
    }

    /// The fields that a row would define, each once, or why the row cannot be taken. Where a name stands twice in
    /// the row, its last value counts.
    pub(super) fn judge_fields<'a>(
        &self,
        measurement: Option<MeasurementId>,
        row: &'a RowNames<'_>,
    ) -> Result<Vec<(&'a str, FieldType)>, Refusal> {
        let measurement = measurement.and_then(|id| self.measurement(id));
        let names = row.fields.iter().map(|(_, name, value)| (&**name, value.field_type()));
        let mut last: HashMap<&str, FieldType, RandomState> = names.clone().collect();
        let mut new_fields = Vec::new();
        for (name, _) in names {
            let Some(field_type) = last.remove(name) else { continue };
            let field = measurement.and_then(|one| Some((one, one.field(*one.field_ids.get(name)?)?)));
            match field {
                Some((_, field)) if field.field_type == field_type => {}
                Some((measurement, field)) => return Err(measurement.conflict(field, field_type).into()),
                None => new_fields.push((name, field_type)),
            }
        }
        let fields_max = self.limits.fields_max.min(FIELD_IDS);
        let room = fields_max.saturating_sub(measurement.map_or(0, |one| one.fields.len()));
        if let Some((name, _)) = new_fields.get(room) {
            let measurement = row.key.measurement();
            let reason = format!(
                "field limit reached: {fields_max} fields on measurement \"{measurement}\" (limit fields_max); the new field is \"{name}\""
            );
            return Err(Refusal::limit(CatalogLimit::Fields, None, reason));
        }
        Ok(new_fields)
    }
}

/// The tag key of a series that has the most values, and how many: the one to look at when there are too many series.
fn widest_tag<'a>(postings: Option<&Postings>, key: &'a SeriesKey) -> Option<(usize, &'a str)> {
    let counts =
        tags_of(key).map(|(tag_key, _)| (postings.map_or(0, |one| one.value_count(tag_key)), tag_key));
    counts.max().filter(|(values, _)| 0 < *values)
}
