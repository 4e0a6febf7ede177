//! Eight bytes a value, for numbers that no other encoding makes shorter: noise, and columns so short that the tables
//! of a packer outweigh them. Bounds the length of every column of numbers.
//!
//! Payload: each value as a little-endian `u64`; floats by their bits.

#![warn(clippy::indexing_slicing)]

use super::Encoding;
use crate::{Error, Result};

/// Bytes of a value.
const WIDTH: usize = 8;

/// Replaces what `out` holds from `start` on, an encoding of `values`, where this one is shorter.
pub(super) fn replace_if_shorter(
    values: impl ExactSizeIterator<Item = u64>,
    start: usize,
    out: &mut Vec<u8>,
) {
    if out.len().saturating_sub(start) <= 1 + values.len().saturating_mul(WIDTH) {
        return;
    }
    out.truncate(start);
    out.push(Encoding::Plain as u8);
    values.for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

/// Reads exactly `count` values, which must be all of `payload`.
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let (values, rest) = payload.as_chunks::<WIDTH>();
    if values.len() != count || !rest.is_empty() {
        return Err(Error::corruption(format!("{} bytes for {count} plain numbers", payload.len())));
    }
    Ok(values.iter().map(|value| u64::from_le_bytes(*value)).collect())
}
