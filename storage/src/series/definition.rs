//! What the catalog learns about names: the one form in which a new measurement, field or series travels to the
//! log and to catalog files. Knows nothing of how either is written.

use std::sync::Arc;

use crate::model::{FieldId, FieldType, MeasurementId, SeriesId, SeriesKey};

/// One name and the id it was given. Ids are dense and never reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A measurement.
    Measurement {
        /// Its id.
        id: MeasurementId,
        /// Its name.
        name: Arc<str>,
    },
    /// A field of a measurement defined before.
    Field {
        /// The measurement.
        measurement: MeasurementId,
        /// Its id within the measurement.
        id: FieldId,
        /// Its name.
        name: Arc<str>,
        /// Its type, fixed for ever.
        field_type: FieldType,
    },
    /// A series of a measurement defined before.
    Series {
        /// Its id.
        id: SeriesId,
        /// The measurement.
        measurement: MeasurementId,
        /// Measurement name and tags.
        key: Arc<SeriesKey>,
    },
}
