//! Which floors hide the past of which series of a request, by the rules of retention.
//!
//! Most databases have no rules, and all series the same floors: those of what is gone. Else the series of a rule are
//! found as any selection is, by postings, and series with equal floors are told as one class.

use std::collections::BTreeMap;

use crate::Result;
use crate::model::{MeasurementId, SeriesId};
use crate::rules::{Floors, NO_FLOORS, RuleSet, higher};
use crate::series::Catalog;

/// The floors of the series of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Classes {
    floors: Vec<Floors>,
    /// The class of each series; empty when there is only one.
    of: Vec<u16>,
}

impl Classes {
    /// Finds the classes of some series of a measurement, given in ascending order.
    ///
    /// # Errors
    /// None today; those of [`Catalog::select_ids`].
    pub(super) fn of(
        catalog: &Catalog,
        (sets, gone): (&[RuleSet], Floors),
        measurement: MeasurementId,
        series: &[SeriesId],
    ) -> Result<Self> {
        let mut classes = Self { floors: vec![gone], of: Vec::new() };
        if sets.is_empty() {
            return Ok(classes);
        }
        let name = catalog.schema_of(measurement).map(|schema| schema.name).unwrap_or_default();
        for set in sets {
            let own = set.rules().len();
            let mut class_of: Vec<Option<usize>> = Vec::new();
            for (class, rule) in
                set.rules().iter().enumerate().filter(|(_, rule)| *rule.measurement() == *name)
            {
                class_of.resize(series.len(), None);
                let found = catalog.select_ids(measurement, &rule.matchers(), usize::MAX)?;
                for (slot, id) in class_of.iter_mut().zip(series) {
                    if slot.is_none() && found.binary_search(id).is_ok() {
                        *slot = Some(class);
                    }
                }
            }
            let floors_of = |class: usize| set.floors().get(class).copied().unwrap_or(NO_FLOORS);
            if class_of.is_empty() {
                let own = floors_of(own);
                classes.floors.iter_mut().for_each(|floors| *floors = higher(*floors, own));
            } else {
                let raise = |idx| floors_of(class_of.get(idx).copied().flatten().unwrap_or(own));
                classes = classes.raised(series.len(), raise);
            }
        }
        Ok(classes)
    }

    /// With the floors of each series raised to others.
    fn raised(&self, count: usize, to: impl Fn(usize) -> Floors) -> Self {
        let mut places: BTreeMap<Floors, u16> = BTreeMap::new();
        let mut raised = Self { floors: Vec::new(), of: Vec::with_capacity(count) };
        for series_idx in 0..count {
            let floors = higher(self.floors(self.class(series_idx)), to(series_idx));
            let class = *places.entry(floors).or_insert_with(|| {
                raised.floors.push(floors);
                u16::try_from(raised.floors.len() - 1).unwrap_or(u16::MAX)
            });
            raised.of.push(class);
        }
        raised
    }

    /// The class of the series at a place of the request.
    pub(super) fn class(&self, series_idx: usize) -> usize {
        self.of.get(series_idx).copied().map_or(0, usize::from)
    }

    /// The floors of a class.
    pub(super) fn floors(&self, class: usize) -> Floors {
        self.floors.get(class).copied().unwrap_or(NO_FLOORS)
    }

    /// The floors of all classes.
    pub(super) fn all(&self) -> &[Floors] {
        &self.floors
    }
}
