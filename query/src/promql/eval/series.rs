//! A vector over the steps of a query: labels and one place per step.

use std::collections::HashMap;

use super::super::value::{Labels, Sample};
use crate::{Error, ErrorKind, Result};

/// What stands at one step.
pub(super) type Point = Option<Sample>;

/// A series of a vector.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its labels, the name still among them.
    pub(super) labels: Labels,
    /// Whether the name goes at the end.
    pub(super) drops_name: bool,
    /// One place per step.
    pub(super) points: Vec<Point>,
}

/// What a series takes beside its labels and points: itself, and its places in the maps and lists that it goes through.
const SERIES_BYTES: u64 = 256;

/// An estimate of the memory that a series with short labels and so many points takes.
pub(super) fn series_bytes(points: usize) -> u64 {
    SERIES_BYTES + (points * size_of::<Point>()) as u64
}

impl Series {
    /// An estimate of the memory it takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let heap: u64 = self.points.iter().flatten().map(Sample::heap_bytes).sum();
        series_bytes(self.points.len()) + self.labels.memory_bytes() + heap
    }

    /// A series without labels.
    pub(super) fn of_floats(values: Vec<f64>) -> Self {
        let points = values.into_iter().map(|value| Some(Sample::Float(value))).collect();
        Self { labels: Labels::default(), drops_name: false, points }
    }

    /// What stands at a step.
    pub(super) fn at(&self, step: usize) -> Option<&Sample> {
        self.points.get(step).and_then(Option::as_ref)
    }

    /// The number at a step.
    pub(super) fn float_at(&self, step: usize) -> Option<f64> {
        self.at(step).and_then(Sample::float)
    }

    /// Whether no step has a point.
    pub(super) fn is_empty(&self) -> bool {
        self.points.iter().all(Option::is_none)
    }

    /// Puts a point at a step.
    pub(super) fn set(&mut self, step: usize, point: Point) {
        if let Some(place) = self.points.get_mut(step) {
            *place = point;
        }
    }
}

/// Drops the names that are to go and joins what is one series then.
///
/// # Errors
/// `Execution` when two of them have a point at the same step.
pub(super) fn drop_names(mut series: Vec<Series>) -> Result<Vec<Series>> {
    for one in &mut series {
        if one.drops_name {
            one.labels = one.labels.without_name();
        }
    }
    join_equal(series)
}

/// Joins series with equal labels and leaves out those without any point.
///
/// # Errors
/// `Execution` when two of them have a point at the same step.
pub(super) fn join_equal(series: Vec<Series>) -> Result<Vec<Series>> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut joined: Vec<Series> = Vec::with_capacity(series.len());
    for one in series.into_iter().filter(|one| !one.is_empty()) {
        let place = *places.entry(one.labels.clone()).or_insert(joined.len());
        let Some(known) = joined.get_mut(place) else {
            joined.push(one);
            continue;
        };
        known.drops_name |= one.drops_name;
        for (mine, theirs) in known.points.iter_mut().zip(one.points) {
            if mine.is_some() && theirs.is_some() {
                return Err(Error::new(
                    ErrorKind::Execution,
                    "vector cannot contain metrics with the same labelset",
                ));
            }
            *mine = mine.take().or(theirs);
        }
    }
    Ok(joined)
}
