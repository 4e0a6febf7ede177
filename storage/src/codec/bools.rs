//! Picks the encoding of truth values: eight to a byte, or as numbers 0 and 1 where few are set or few change.
//! The validity of a column is written the same way.
//!
//! Payload of bits: one bit a value, the first in the lowest bit; unused bits are 0.

#![warn(clippy::indexing_slicing)]

use super::{Encoding, integers};
use crate::{Error, Result};

/// Appends the encoding byte and the payload.
pub(super) fn encode(values: &[bool], out: &mut Vec<u8>) -> Result<()> {
    let set_count = values.iter().filter(|value| **value).count();
    let rare_count = set_count.min(values.len() - set_count);
    let changes = values.iter().zip(values.iter().skip(1)).filter(|(before, value)| before != value).count();
    // An eighth set takes about half a bit a value once packed.
    if rare_count.saturating_mul(8) <= values.len() || changes.saturating_mul(16) <= values.len() {
        let numbers: Vec<u64> = values.iter().copied().map(u64::from).collect();
        let start = out.len();
        out.push(Encoding::BoolNumbers as u8);
        integers::encode(&numbers, out)?;
        if out.len() - start <= 1 + values.len().div_ceil(8) {
            return Ok(());
        }
        // Too few for the tables of a packer to pay.
        out.truncate(start);
    }
    out.push(Encoding::Bits as u8);
    for eight in values.chunks(8) {
        let bits = eight.iter().rev().fold(0u8, |bits, value| bits << 1 | u8::from(*value));
        out.push(bits);
    }
    Ok(())
}

/// Reads exactly `count` values; `bytes` begins with the encoding byte.
pub(super) fn decode(bytes: &[u8], count: usize) -> Result<Vec<bool>> {
    let (encoding, payload) = Encoding::split(bytes)?;
    match encoding {
        Encoding::Bits => decode_bits(payload, count),
        Encoding::BoolNumbers => {
            let numbers = integers::decode(payload, count)?;
            if numbers.iter().any(|number| 1 < *number) {
                return Err(Error::corruption("a truth value is neither 0 nor 1"));
            }
            Ok(numbers.into_iter().map(|number| number == 1).collect())
        }
        other => Err(Error::corruption(format!("encoding {other:?} does not hold truth values"))),
    }
}

fn decode_bits(payload: &[u8], count: usize) -> Result<Vec<bool>> {
    if payload.len() != count.div_ceil(8) {
        return Err(Error::corruption(format!("{} bytes for {count} bits", payload.len())));
    }
    let mut values = Vec::with_capacity(payload.len() * 8);
    for byte in payload {
        values.extend((0..8).map(|bit| byte >> bit & 1 == 1));
    }
    if values.iter().skip(count).any(|value| *value) {
        return Err(Error::corruption("a bit is set past the last truth value"));
    }
    values.truncate(count);
    Ok(values)
}
