//! Bounds of the catalog, how often each was met, and by what. Knows nothing of series.

use std::collections::BTreeMap;

use crate::model::MINUTE_NS;

/// Measurements and tag keys whose refused rows are counted by name, of a database.
const CULPRITS_MAX: usize = 100;
/// Characters of a name that are told.
const CULPRIT_CHARS_MAX: usize = 100;

/// Bounds of a catalog. What is there already is kept when they are lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogLimits {
    /// Series of the database.
    pub series_max: usize,
    /// Series of a measurement.
    pub measurement_series_max: usize,
    /// Series that may become known in one minute.
    pub new_series_per_minute_max: usize,
    /// Values of a tag key, within a measurement.
    pub tag_values_max: usize,
    /// Fields of a measurement; at most 65,536.
    pub fields_max: usize,
    /// What names and keys take in memory, in bytes, by estimate ([`Catalog::bytes`](super::Catalog::bytes)).
    pub catalog_bytes_max: usize,
}

impl CatalogLimits {
    /// No bounds, to read what is there.
    pub(crate) const NONE: Self = Self {
        series_max: usize::MAX,
        measurement_series_max: usize::MAX,
        new_series_per_minute_max: usize::MAX,
        tag_values_max: usize::MAX,
        fields_max: usize::MAX,
        catalog_bytes_max: usize::MAX,
    };
}

/// One of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatalogLimit {
    Series,
    MeasurementSeries,
    NewSeriesPerMinute,
    TagValues,
    Fields,
    CatalogBytes,
    CatalogsBytes,
}

impl CatalogLimit {
    const ALL: [Self; 7] = [
        Self::Series,
        Self::MeasurementSeries,
        Self::NewSeriesPerMinute,
        Self::TagValues,
        Self::Fields,
        Self::CatalogBytes,
        Self::CatalogsBytes,
    ];

    /// The name of the option, as messages and metrics say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Series => "series_max",
            Self::MeasurementSeries => "measurement_series_max",
            Self::NewSeriesPerMinute => "new_series_per_minute_max",
            Self::TagValues => "tag_values_max",
            Self::Fields => "fields_max",
            Self::CatalogBytes => "catalog_bytes_max",
            Self::CatalogsBytes => "catalogs_bytes_max",
        }
    }
}

/// Why a row cannot be taken, and the bound that it would exceed, if it is one, with the tag key that is to blame.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) limit: Option<(CatalogLimit, Option<String>)>,
}

impl Refusal {
    pub(super) fn limit(limit: CatalogLimit, tag_key: Option<&str>, reason: String) -> Self {
        Self { reason, limit: Some((limit, tag_key.map(str::to_owned))) }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, limit: None }
    }
}

/// Rows that one bound refused of one measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRows {
    /// The option.
    pub limit: &'static str,
    /// The measurement, a long name cut; `(other)` for those that came when the names were used up.
    pub measurement: String,
    /// The tag key that is full or, where series are too many, has the most values; empty where none is to blame.
    pub tag_key: String,
    /// How many.
    pub rows: u64,
}

/// Stands for measurements that came when the names were used up.
const OTHERS: &str = "(other)";

/// What is to blame: bound, measurement, tag key.
type Culprit = (&'static str, String, String);

/// Rows refused, by bound and by what is to blame.
#[derive(Debug, Default)]
pub(super) struct LimitHits {
    hits: [u64; CatalogLimit::ALL.len()],
    culprits: BTreeMap<Culprit, u64>,
}

impl LimitHits {
    pub(super) fn add(&mut self, limit: CatalogLimit, measurement: &str, tag_key: &str) {
        let places = CatalogLimit::ALL.iter().zip(&mut self.hits);
        places.filter(|(known, _)| **known == limit).for_each(|(_, hits)| *hits += 1);
        let mut culprit = (limit.name(), short(measurement), short(tag_key));
        if CULPRITS_MAX <= self.culprits.len() && !self.culprits.contains_key(&culprit) {
            culprit = (limit.name(), OTHERS.to_owned(), String::new());
        }
        *self.culprits.entry(culprit).or_default() += 1;
    }

    pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
        CatalogLimit::ALL.iter().zip(self.hits).map(|(limit, hits)| (limit.name(), hits)).collect()
    }

    pub(super) fn refused(&self) -> Vec<RefusedRows> {
        let refused = |((limit, measurement, tag_key), rows): (&Culprit, &u64)| RefusedRows {
            limit,
            measurement: measurement.clone(),
            tag_key: tag_key.clone(),
            rows: *rows,
        };
        self.culprits.iter().map(refused).collect()
    }
}

/// The beginning of a name.
fn short(name: &str) -> String {
    name.chars().take(CULPRIT_CHARS_MAX).collect()
}

/// How many series became known in the running minute.
#[derive(Debug, Default)]
pub(super) struct NewSeries {
    minute: i64,
    count: usize,
}

impl NewSeries {
    /// How many there are in the minute of `now_ns`.
    pub(super) fn count(&mut self, now_ns: i64) -> usize {
        let minute = now_ns.div_euclid(MINUTE_NS);
        if minute != self.minute {
            *self = Self { minute, count: 0 };
        }
        self.count
    }

    pub(super) fn add(&mut self) {
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_of_many_measurements_are_bounded_and_all_counted() {
        let mut hits = LimitHits::default();
        for round in 0..3 {
            for number in 0..CULPRITS_MAX + 20 {
                hits.add(CatalogLimit::TagValues, &format!("m{number}"), "id");
            }
            hits.add(CatalogLimit::Fields, &format!("wide{round}"), "");
        }
        let refused = hits.refused();
        assert_eq!(refused.len(), CULPRITS_MAX + 2, "others are told for each bound");
        let of = |limit: &str, measurement: &str| {
            let found = refused.iter().find(|one| one.limit == limit && one.measurement == measurement);
            found.map(|one| (&*one.tag_key, one.rows))
        };
        assert_eq!(of("tag_values_max", "m7"), Some(("id", 3)));
        assert_eq!(of("tag_values_max", OTHERS), Some(("", 60)));
        assert_eq!(of("fields_max", OTHERS), Some(("", 3)));
        let all: u64 = refused.iter().map(|one| one.rows).sum();
        assert_eq!(all, hits.named().iter().map(|(_, hits)| hits).sum::<u64>());
    }

    #[test]
    fn refused_of_a_long_name_is_cut_between_characters() {
        let mut hits = LimitHits::default();
        hits.add(CatalogLimit::Series, &"é".repeat(5000), &"k".repeat(5000));
        let refused = hits.refused().remove(0);
        assert_eq!((refused.measurement, refused.tag_key), ("é".repeat(100), "k".repeat(100)));
    }
}
