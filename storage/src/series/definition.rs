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
const LEFT: u8 = 4;

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
    /// Series whose rows are gone: their ids stand for nothing any more.
    Left {
        /// The first of their ids.
        first: SeriesId,
        /// How many ids, one after the other; at least one.
        count: u32,
    },
}

impl Definition {
    /// Appends the bytes of the definition.
    ///
    /// # Errors
    /// `InvalidInput` when a key is longer than 4 GiB.
    #[cfg(test)]
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let mut encoded = Vec::new();
        self.borrow(&mut encoded).encode(out)
    }

    /// The definition with the bytes of its key, which `encoded` is for.
    pub(super) fn borrow<'a>(&'a self, encoded: &'a mut Vec<u8>) -> RawDefinition<'a> {
        match self {
            Self::Measurement { id, name } => RawDefinition::Measurement { id: *id, name },
            Self::Field { measurement, id, name, field_type } => {
                RawDefinition::Field { measurement: *measurement, id: *id, name, field_type: *field_type }
            }
            Self::Series { id, measurement, key } => {
                encoded.clear();
                key.encode(encoded);
                RawDefinition::Series { id: *id, measurement: *measurement, key: encoded }
            }
            Self::Left { first, count } => RawDefinition::Left { first: *first, count: *count },
        }
    }
}

/// A definition whose names are borrowed and whose series key is left in its canonical bytes, which are not checked: a
/// database with many series opens twice as fast when their keys are not decoded.
#[derive(Debug, Clone, Copy)]
pub(super) enum RawDefinition<'a> {
    Measurement { id: MeasurementId, name: &'a str },
    Field { measurement: MeasurementId, id: FieldId, name: &'a str, field_type: FieldType },
    Series { id: SeriesId, measurement: MeasurementId, key: &'a [u8] },
    Left { first: SeriesId, count: u32 },
}

impl<'a> RawDefinition<'a> {
    /// Appends the bytes of the definition.
    ///
    /// # Errors
    /// `InvalidInput` when a key is longer than 4 GiB.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Measurement { id, name } => {
                out.push(MEASUREMENT);
                out.extend_from_slice(&id.0.to_le_bytes());
                encode_part(name, out);
            }
            Self::Field { measurement, id, name, field_type } => {
                out.push(FIELD);
                out.extend_from_slice(&measurement.0.to_le_bytes());
                out.extend_from_slice(&id.0.to_le_bytes());
                out.push(*field_type as u8);
                encode_part(name, out);
            }
            Self::Series { id, measurement, key } => {
                out.push(SERIES);
                out.extend_from_slice(&id.0.to_le_bytes());
                out.extend_from_slice(&measurement.0.to_le_bytes());
                let len = u32::try_from(key.len());
                let len = len.map_err(|_| Error::invalid("a series key is longer than 4 GiB"))?;
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(key);
            }
            Self::Left { first, count } => {
                out.push(LEFT);
                out.extend_from_slice(&first.0.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Reads one definition from the front of `bytes` and moves `bytes` behind it.
    ///
    /// # Errors
    /// `Corruption` when the bytes are not a definition.
    pub(super) fn decode(bytes: &mut &'a [u8]) -> Result<Self> {
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
                let Some(field_type) = FieldType::from_u8(number) else {
                    return Err(Error::corruption(format!("field type {number} is unknown")));
                };
                Ok(Self::Field { measurement, id, name: decode_name(bytes)?, field_type })
            }
            SERIES => {
                let id = SeriesId(u32::from_le_bytes(take(bytes)?));
                let measurement = MeasurementId(u32::from_le_bytes(take(bytes)?));
                let len = u32::from_le_bytes(take(bytes)?);
                Ok(Self::Series { id, measurement, key: take_slice(bytes, len as usize)? })
            }
            LEFT => {
                let first = SeriesId(u32::from_le_bytes(take(bytes)?));
                Ok(Self::Left { first, count: u32::from_le_bytes(take(bytes)?) })
            }
            _ => Err(Error::corruption(format!("definition kind {kind} is unknown"))),
        }
    }

    /// The definition with names of its own.
    ///
    /// # Errors
    /// `Corruption` when the key is not a canonical one.
    pub(super) fn to_definition(self) -> Result<Definition> {
        Ok(match self {
            Self::Measurement { id, name } => Definition::Measurement { id, name: name.into() },
            Self::Field { measurement, id, name, field_type } => {
                Definition::Field { measurement, id, name: name.into(), field_type }
            }
            Self::Series { id, measurement, key } => {
                Definition::Series { id, measurement, key: Arc::new(SeriesKey::decode(key)?) }
            }
            Self::Left { first, count } => Definition::Left { first, count },
        })
    }
}

/// Reads a canonical key without copying it: its measurement, and its tags into `tags`. `None` when it is not one;
/// [`SeriesKey::decode`] knows why.
pub(super) fn borrow_key<'a>(mut bytes: &'a [u8], tags: &mut Vec<(&'a str, &'a str)>) -> Option<&'a str> {
    let part = |bytes: &mut &'a [u8]| {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        *bytes = rest;
        std::str::from_utf8(part).ok().filter(|part| !part.is_empty())
    };
    tags.clear();
    let measurement = part(&mut bytes)?;
    while !bytes.is_empty() {
        let (key, value) = (part(&mut bytes)?, part(&mut bytes)?);
        let is_after = tags.last().is_none_or(|(before, _)| *before < key);
        if !is_after || key == "time" || key == "__name__" {
            return None;
        }
        tags.push((key, value));
    }
    Some(measurement)
}

/// Appends a name, or a part of a key: its length in two bytes and its text. No name is longer than that: those of
/// measurements and tags are bounded by [`SeriesKey::new`], those of fields where rows are resolved.
pub(super) fn encode_part(part: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part.as_bytes());
}

fn decode_name<'a>(bytes: &mut &'a [u8]) -> Result<&'a str> {
    let len = u16::from_le_bytes(take(bytes)?);
    let name = std::str::from_utf8(take_slice(bytes, usize::from(len))?);
    name.map_err(|_| Error::corruption("a name is not UTF-8"))
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
            let field_type = FieldType::from_u8(number);
            assert_eq!(field_type.map(|field_type| field_type as u8), Some(number));
        }
        assert_eq!(FieldType::from_u8(5), None);
    }

    #[test]
    fn borrow_key_accepts_only_what_decode_leaves_as_it_is() {
        let key = |parts: &[&str]| {
            let mut bytes = Vec::new();
            for part in parts {
                bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(0).to_le_bytes());
                bytes.extend_from_slice(part.as_bytes());
            }
            bytes
        };
        let good: [&[&str]; 3] = [&["m"], &["m", "a", "1"], &["m", "a", "1", "b", "é"]];
        for parts in good {
            let (bytes, mut tags, mut encoded) = (key(parts), Vec::new(), Vec::new());
            let decoded = SeriesKey::decode(&bytes).expect("a good key");
            assert_eq!(borrow_key(&bytes, &mut tags), Some(decoded.measurement()));
            assert!(tags.iter().copied().eq(decoded.tags().iter().map(|(key, value)| (&**key, &**value))));
            decoded.encode(&mut encoded);
            assert_eq!(encoded, bytes);
        }
        let bad: [&[&str]; 8] = [
            &[],
            &[""],
            &["m", "a"],
            &["m", "a", ""],
            &["m", "", "1"],
            &["m", "b", "1", "a", "1"],
            &["m", "a", "1", "a", "2"],
            &["m", "time", "1"],
        ];
        for parts in bad {
            assert_eq!(borrow_key(&key(parts), &mut Vec::new()), None, "{parts:?}");
        }
        assert_eq!(borrow_key(&[1, 0, 0xff], &mut Vec::new()), None, "not UTF-8");
        assert_eq!(borrow_key(&[2, 0, b'm'], &mut Vec::new()), None, "cut short");
    }

    #[test]
    fn decode_unknown_kind_is_corruption() {
        let error =
            RawDefinition::decode(&mut &[9_u8, 0, 0][..]).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(error, Err("definition kind 9 is unknown".to_owned()));
    }
}
