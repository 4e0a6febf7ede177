//! One entry of the catalog, and its bytes in catalog files.
//!
//! Knows nothing of where the bytes lie; the layout is described in `docs/format.md`. The file around them proves
//! by checksum that they are what was written, and still nothing here trusts a length or a number.

#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::model::{FieldId, FieldType, MeasurementId, SeriesId, SeriesKey};
use crate::{Error, Result};

const MEASUREMENT: u8 = 1;
const FIELD: u8 = 2;
const SERIES: u8 = 3;

/// Something that the catalog knows from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A measurement.
    Measurement {
        /// Its id, dense within the database.
        id: MeasurementId,
        /// Its name.
        name: Arc<str>,
    },
    /// A field of a measurement.
    Field {
        /// The measurement, defined before.
        measurement: MeasurementId,
        /// Its id, dense within the measurement.
        id: FieldId,
        /// Its name.
        name: Arc<str>,
        /// Its type, for ever.
        field_type: FieldType,
    },
    /// A series.
    Series {
        /// Its id, dense within the database.
        id: SeriesId,
        /// Its measurement, defined before; the one that `key` names.
        measurement: MeasurementId,
        /// Measurement and tags.
        key: Arc<SeriesKey>,
    },
}

impl Definition {
    /// Appends the bytes of the definition.
    ///
    /// # Errors
    /// `InvalidInput` when a name is longer than 65,535 bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Measurement { id, name } => {
                out.push(MEASUREMENT);
                out.extend_from_slice(&id.0.to_le_bytes());
                encode_name(name, out)
            }
            Self::Field { measurement, id, name, field_type } => {
                out.push(FIELD);
                out.extend_from_slice(&measurement.0.to_le_bytes());
                out.extend_from_slice(&id.0.to_le_bytes());
                out.push(type_number(*field_type));
                encode_name(name, out)
            }
            Self::Series { id, measurement, key } => {
                out.push(SERIES);
                out.extend_from_slice(&id.0.to_le_bytes());
                out.extend_from_slice(&measurement.0.to_le_bytes());
                let mut bytes = Vec::with_capacity(128);
                key.encode(&mut bytes);
                let len = u32::try_from(bytes.len());
                let len = len.map_err(|_| Error::invalid("a series key is longer than 4 GiB"))?;
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// Reads one definition from the front of `bytes` and moves `bytes` behind it.
    ///
    /// # Errors
    /// `Corruption` when the bytes are not a definition.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let [kind] = take(bytes)?;
        match kind {
            MEASUREMENT => {
                let id = MeasurementId(u32::from_le_bytes(take(bytes)?));
                Ok(Self::Measurement { id, name: decode_name(bytes)? })
            }
            FIELD => {
                let measurement = MeasurementId(u32::from_le_bytes(take(bytes)?));
                let id = FieldId(u16::from_le_bytes(take(bytes)?));
                let [number] = take(bytes)?;
                let Some(field_type) = type_from(number) else {
                    return Err(Error::corruption(format!("field type {number} is unknown")));
                };
                Ok(Self::Field { measurement, id, name: decode_name(bytes)?, field_type })
            }
            SERIES => {
                let id = SeriesId(u32::from_le_bytes(take(bytes)?));
                let measurement = MeasurementId(u32::from_le_bytes(take(bytes)?));
                let len = u32::from_le_bytes(take(bytes)?);
                let key = SeriesKey::decode(take_slice(bytes, len as usize)?)?;
                Ok(Self::Series { id, measurement, key: Arc::new(key) })
            }
            _ => Err(Error::corruption(format!("definition kind {kind} is unknown"))),
        }
    }
}

fn encode_name(name: &str, out: &mut Vec<u8>) -> Result<()> {
    let len = u16::try_from(name.len()).map_err(|_| Error::invalid("a name is longer than 65535 bytes"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

fn decode_name(bytes: &mut &[u8]) -> Result<Arc<str>> {
    let len = u16::from_le_bytes(take(bytes)?);
    let name = std::str::from_utf8(take_slice(bytes, usize::from(len))?);
    Ok(name.map_err(|_| Error::corruption("a name is not UTF-8"))?.into())
}

/// The number of a field type in files.
fn type_number(field_type: FieldType) -> u8 {
    match field_type {
        FieldType::Float => 0,
        FieldType::Int => 1,
        FieldType::UInt => 2,
        FieldType::Bool => 3,
        FieldType::Str => 4,
    }
}

fn type_from(number: u8) -> Option<FieldType> {
    const ALL: [FieldType; 5] =
        [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];
    ALL.get(usize::from(number)).copied()
}

fn take<const LEN: usize>(bytes: &mut &[u8]) -> Result<[u8; LEN]> {
    let Some((head, rest)) = bytes.split_first_chunk::<LEN>() else {
        return Err(Error::corruption("a definition is cut short"));
    };
    *bytes = rest;
    Ok(*head)
}

fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let Some((head, rest)) = bytes.split_at_checked(len) else {
        let left = bytes.len();
        return Err(Error::corruption(format!("a definition needs {len} bytes where {left} are left")));
    };
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_type_every_number_reads_back() {
        for number in 0..=4 {
            let field_type = type_from(number);
            assert_eq!(field_type.map(type_number), Some(number));
        }
        assert_eq!(type_from(5), None);
    }

    #[test]
    fn decode_unknown_kind_is_corruption() {
        let error = Definition::decode(&mut &[9_u8, 0, 0][..]).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(error, Err("definition kind 9 is unknown".to_owned()));
    }
}
