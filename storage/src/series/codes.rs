//! The values of one tag of very many series: what groups them, without the key of any.
//!
//! Knows nothing of groups. Order of events: where series and values are dense enough, the series of every value are
//! walked once and leave its number in a table by id; then the table is read off in the order asked. Series that the
//! table does not have are without the tag, or left a while ago: of those the keys tell, as of all series where a
//! walk would meet far more of them than were asked.

use super::postings::Postings;
use super::registry::Catalog;
use super::state::State;
use crate::Result;
use crate::model::schema::{TagCoder, TagCodes};
use crate::model::{MeasurementId, SeriesId};

/// A walk may meet so many series, and numbers of values, for each series that is asked. A look at a key takes about ten
/// times as long.
const WALKED_MAX: usize = 4;
/// The table may have so many places for each series that is asked.
const PLACES_MAX: usize = 16;
/// Keys that are looked at under the lock at a time.
const KEYS_AT_ONCE: usize = 4096;
/// The number of no value.
const NONE: u32 = u32::MAX;

impl Catalog {
    /// The values of a tag of some series of a measurement, given in ascending order.
    ///
    /// # Errors
    /// As [`Catalog::keys`].
    pub fn tag_codes(&self, measurement: MeasurementId, tag: &str, series: &[SeriesId]) -> Result<TagCodes> {
        let mut coder = TagCoder::default();
        {
            let state = self.read();
            let postings = state.measurement(measurement).map(|entry| &entry.postings);
            if let Some(postings) = postings.filter(|postings| is_dense(postings, tag, series)) {
                walk(&state, postings, tag, series, &mut coder)?;
                return Ok(coder.finish());
            }
        }
        for chunk in series.chunks(KEYS_AT_ONCE) {
            let state = self.read();
            chunk.iter().try_for_each(|id| look(&state, tag, *id, &mut coder))?;
        }
        Ok(coder.finish())
    }
}

/// Whether a walk over the values of a tag costs less than a look at each series.
fn is_dense(postings: &Postings, tag: &str, series: &[SeriesId]) -> bool {
    let asked = series.len();
    let numbers = postings.dictionary(tag).map_or(0, |values| values.number_count());
    let walked = postings.series_count().saturating_add(numbers);
    walked <= asked.saturating_mul(WALKED_MAX) && places(series) <= asked.saturating_mul(PLACES_MAX)
}

/// Ids from the first to the last one.
fn places(series: &[SeriesId]) -> usize {
    let (Some(first), Some(last)) = (series.first(), series.last()) else { return 0 };
    (last.0.saturating_sub(first.0) as usize).saturating_add(1)
}

/// Reads the values of all series off a table that the series of each value were written to.
fn walk(
    state: &State,
    postings: &Postings,
    tag: &str,
    series: &[SeriesId],
    coder: &mut TagCoder,
) -> Result<()> {
    let first = series.first().map_or(0, |id| id.0);
    let mut numbers = vec![NONE; places(series)];
    let Some(values) = postings.dictionary(tag) else {
        return series.iter().try_for_each(|id| without(state, postings, tag, *id, coder));
    };
    values.each_member(|id, number| {
        let place = id.checked_sub(first).and_then(|place| numbers.get_mut(place as usize));
        place.into_iter().for_each(|place| *place = number);
    });
    let mut codes = vec![NONE; values.number_count()];
    for id in series {
        let number = id.0.checked_sub(first).and_then(|place| numbers.get(place as usize)).copied();
        let code = number.and_then(|number| Some((number, codes.get_mut(number as usize)?)));
        let Some((number, code)) = code else {
            without(state, postings, tag, *id, coder)?;
            continue;
        };
        if *code == NONE {
            *code = coder.code_of(values.text(number));
        }
        coder.push_code(*code);
    }
    Ok(())
}

/// The value of a series that no value of the tag has.
fn without(state: &State, postings: &Postings, tag: &str, id: SeriesId, coder: &mut TagCoder) -> Result<()> {
    if postings.has(id) {
        coder.push("");
        return Ok(());
    }
    look(state, tag, id, coder)
}

/// The value of a series by its key.
fn look(state: &State, tag: &str, id: SeriesId, coder: &mut TagCoder) -> Result<()> {
    state.with_tag(id, tag, |value| coder.push(value)).ok_or_else(|| state.unknown(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{CatalogLimits, Definition};
    use super::*;
    use crate::model::SeriesKey;

    const LIMITS: CatalogLimits = CatalogLimits {
        series_max: 1 << 20,
        measurement_series_max: 1 << 20,
        new_series_per_minute_max: 1 << 20,
        tag_values_max: 1 << 20,
        fields_max: 10,
        catalog_bytes_max: usize::MAX,
    };

    /// Series of two measurements, each with its place in the list as its id.
    fn catalog(keys: &[(u32, SeriesKey)]) -> Catalog {
        let catalog = Catalog::new(LIMITS);
        for (id, name) in [(0, "m"), (1, "n")] {
            catalog.define(&Definition::Measurement { id: MeasurementId(id), name: name.into() }).unwrap();
        }
        for (id, (measurement, key)) in (0..).zip(keys) {
            let (id, measurement, key) = (SeriesId(id), MeasurementId(*measurement), Arc::new(key.clone()));
            catalog.define(&Definition::Series { id, measurement, key }).unwrap();
        }
        catalog
    }

    /// What keys say, or why they say nothing.
    fn by_keys(
        catalog: &Catalog,
        tag: &str,
        series: &[SeriesId],
    ) -> std::result::Result<Vec<String>, String> {
        let keys = catalog.keys(series).map_err(|error| error.to_string())?;
        Ok(keys.iter().map(|key| key.tag(tag).unwrap_or_default().to_owned()).collect())
    }

    fn by_codes(
        catalog: &Catalog,
        tag: &str,
        series: &[SeriesId],
    ) -> std::result::Result<Vec<String>, String> {
        let found = catalog.tag_codes(MeasurementId(0), tag, series).map_err(|error| error.to_string())?;
        let distinct: BTreeSet<&str> = found.values.iter().map(|value| &**value).collect();
        let used: BTreeSet<u32> = found.codes.iter().copied().collect();
        assert_eq!(distinct.len(), found.values.len(), "each value once");
        assert_eq!(used.len(), found.values.len(), "no value that nobody has");
        Ok(found.codes.iter().map(|code| found.values[*code as usize].to_string()).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Some series leave, in two rounds, and after each keys are known, swept, or given up. Values come again.
        #[test]
        fn tag_codes_are_those_of_the_keys(
            keys in proptest::collection::vec((0..8_u32, 0..5_u32, 0..40_u32), 1..60),
            leaving in proptest::collection::vec((0..60_u32, 0..3_u32), 0..40),
            cleaning in (0..3_u32, 0..3_u32),
            asked in prop_oneof![
                Just((0..60_u32).collect::<BTreeSet<u32>>()),
                proptest::collection::btree_set(0..62_u32, 0..6),
            ],
        ) {
            let keys: Vec<(u32, SeriesKey)> = (0..).zip(keys).map(|(id, (kind, few, many))| {
                let mut tags = vec![("u", format!("u{id}"))];
                tags.extend((few < 3).then(|| ("few", format!("f{few}"))));
                tags.extend((kind != 3).then(|| ("many", format!("v{many}"))));
                let measurement = u32::from(kind == 7);
                (measurement, SeriesKey::new(["m", "n"][measurement as usize], tags).unwrap())
            }).collect();
            let catalog = catalog(&keys);
            for (round, cleaning) in [(0, cleaning.0), (1, cleaning.1)] {
                let ids = leaving.iter().filter(|(_, when)| *when == round).map(|(id, _)| *id);
                catalog.leave(&ids.collect());
                match cleaning {
                    0 => {}
                    1 => catalog.sweep(),
                    _ => catalog.shrink(),
                }
            }
            let known = |id: &SeriesId| by_keys(&catalog, "u", &[*id]).is_ok();
            let asked: Vec<SeriesId> = asked.into_iter().map(SeriesId).collect();
            let answered: Vec<SeriesId> = asked.iter().copied().filter(known).collect();
            for tag in ["u", "few", "many", "none"] {
                for series in [&asked, &answered] {
                    prop_assert_eq!(by_codes(&catalog, tag, series), by_keys(&catalog, tag, series), "{}", tag);
                }
            }
        }
    }

    #[test]
    fn tag_codes_of_many_series_walk_values_and_of_few_look_at_keys() {
        let key = |n: u32| SeriesKey::new("m", [("few", format!("f{}", n % 50)), ("id", format!("i{n}"))]);
        let keys: Vec<_> = (0..16_000).map(|n| (0, key(n).unwrap())).collect();
        let (catalog, all) = (catalog(&keys), (0..16_000).map(SeriesId).collect::<Vec<_>>());
        let few: Vec<_> = all.iter().copied().step_by(100).collect();
        for (tag, series, expected) in
            [("few", &all, true), ("id", &all, true), ("none", &all, true), ("few", &few, false)]
        {
            let state = catalog.read();
            let postings = &state.measurement(MeasurementId(0)).unwrap().postings;
            assert_eq!(is_dense(postings, tag, series), expected, "{tag}");
            drop(state);
            assert_eq!(by_codes(&catalog, tag, series), by_keys(&catalog, tag, series), "{tag}");
        }
    }
}
