//! Numbers that a formula gives: all the same ([`const`](Encoding::Const)), or each one step after the last
//! ([`affine`](Encoding::Affine)): regular timestamps, row numbers. All arithmetic wraps, so signed numbers fit.
//!
//! Payload: const: varint value. Affine: varint start, varint zigzag step.

#![warn(clippy::indexing_slicing)]

use super::Encoding;
use super::bytes::{Reader, put_varint, unzigzag, zigzag};
use crate::Result;

/// Appends a constant.
pub(super) fn encode_const(value: u64, out: &mut Vec<u8>) {
    out.push(Encoding::Const as u8);
    put_varint(out, value);
}

/// Reads `count` times the same value.
pub(super) fn decode_const(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(payload);
    let value = reader.varint()?;
    reader.finish()?;
    Ok(vec![value; count])
}

/// Appends a start and a step.
pub(super) fn encode(start: u64, step: u64, out: &mut Vec<u8>) {
    out.push(Encoding::Affine as u8);
    put_varint(out, start);
    put_varint(out, zigzag(step.cast_signed()));
}

/// Reads `count` values, each a step after the last.
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(payload);
    let start = reader.varint()?;
    let step = unzigzag(reader.varint()?).cast_unsigned();
    reader.finish()?;
    Ok((0..count as u64).map(|index| start.wrapping_add(step.wrapping_mul(index))).collect())
}
