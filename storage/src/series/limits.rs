//! Bounds of the catalog, and how often each was met. Knows nothing of series.

use crate::model::MINUTE_NS;

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
}

impl CatalogLimits {
    /// No bounds, to read what is there.
    pub(crate) const NONE: Self = Self {
        series_max: usize::MAX,
        measurement_series_max: usize::MAX,
        new_series_per_minute_max: usize::MAX,
        tag_values_max: usize::MAX,
        fields_max: usize::MAX,
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
}

impl CatalogLimit {
    const ALL: [Self; 5] =
        [Self::Series, Self::MeasurementSeries, Self::NewSeriesPerMinute, Self::TagValues, Self::Fields];

    /// The name of the option, as messages and metrics say it.
    fn name(self) -> &'static str {
        match self {
            Self::Series => "series_max",
            Self::MeasurementSeries => "measurement_series_max",
            Self::NewSeriesPerMinute => "new_series_per_minute_max",
            Self::TagValues => "tag_values_max",
            Self::Fields => "fields_max",
        }
    }
}

/// Why a row cannot be taken, and the bound that it would exceed, if it is one.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) limit: Option<CatalogLimit>,
}

impl Refusal {
    pub(super) fn limit(limit: CatalogLimit, reason: String) -> Self {
        Self { reason, limit: Some(limit) }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, limit: None }
    }
}

/// Rows refused, by bound.
#[derive(Debug, Default)]
pub(super) struct LimitHits([u64; CatalogLimit::ALL.len()]);

impl LimitHits {
    pub(super) fn add(&mut self, limit: CatalogLimit) {
        let places = CatalogLimit::ALL.iter().zip(&mut self.0);
        places.filter(|(known, _)| **known == limit).for_each(|(_, hits)| *hits += 1);
    }

    pub(super) fn named(&self) -> Vec<(&'static str, u64)> {
        CatalogLimit::ALL.iter().zip(self.0).map(|(limit, hits)| (limit.name(), hits)).collect()
    }
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
