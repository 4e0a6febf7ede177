//! Picks the encoding of whole numbers: const, affine, runs or scaled (by pfor, Huffman codes or pco), by counting runs
//! and, where that leaves a doubt, by trying both; plain where that is shorter. All other encodings nest their numbers
//! here. Signed numbers come as [`ordered`] unsigned ones, so that small ones of either sign lie close together.
//!
//! Bytes: encoding byte, payload. No numbers at all: encoding [`Empty`](Encoding::Empty) without payload.

#![warn(clippy::indexing_slicing)]

use super::{Encoding, Packing, affine, plain, runs, scaled};
use crate::{Error, Result};

/// Below this many values pco's own tables weigh more than the values.
const FEW: usize = 64;

/// Signed to unsigned, in the same order.
pub(super) fn ordered(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

/// Undoes [`ordered`].
pub(super) fn unordered(value: u64) -> i64 {
    (value ^ (1 << 63)).cast_signed()
}

/// Appends the encoding byte and the payload; exact for all values.
pub(super) fn encode(values: &[u64], out: &mut Vec<u8>) -> Result<()> {
    encode_as(values, Packing::Dense, out)
}

/// As [`encode`], packed as asked.
pub(super) fn encode_as(values: &[u64], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    encode_packed(values, packing, out)?;
    plain::replace_if_shorter(values.iter().copied(), start, out);
    Ok(())
}

fn encode_packed(values: &[u64], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    let Some((first, rest)) = values.split_first() else {
        out.push(Encoding::Empty as u8);
        return Ok(());
    };
    let runs_count = runs::count(values);
    if runs_count <= 1 {
        match rest.first().map_or(0, |second| second.wrapping_sub(*first)) {
            0 => affine::encode_const(*first, out),
            step => affine::encode(*first, step, out),
        }
        return Ok(());
    }
    if runs_count.saturating_mul(8) > values.len() && values.len() > FEW {
        return scaled::encode(values, packing, out);
    }
    let mut by_runs = Vec::new();
    runs::encode(values, &mut by_runs)?;
    let start = out.len();
    // Runs this small cannot be beaten by much, and they decode fastest.
    if by_runs.len().saturating_mul(32) > values.len() {
        scaled::encode(values, packing, out)?;
        if out.len() - start <= by_runs.len() {
            return Ok(());
        }
        out.truncate(start);
    }
    out.extend_from_slice(&by_runs);
    Ok(())
}

/// Reads exactly `count` values; `bytes` begins with the encoding byte and holds nothing else.
pub(super) fn decode(bytes: &[u8], count: usize) -> Result<Vec<u64>> {
    let (encoding, payload) = Encoding::split(bytes)?;
    match encoding {
        Encoding::Empty if count == 0 && payload.is_empty() => Ok(Vec::new()),
        _ if count == 0 => Err(Error::corruption("bytes for numbers that do not exist")),
        Encoding::Const => affine::decode_const(payload, count),
        Encoding::Affine => affine::decode(payload, count),
        Encoding::Runs => runs::decode(payload, count),
        Encoding::Scaled => scaled::decode(payload, count),
        Encoding::Pfor => scaled::decode_pfor(payload, count),
        Encoding::Huffman => scaled::decode_huffman(payload, count),
        Encoding::Plain => plain::decode(payload, count),
        other => Err(Error::corruption(format!("encoding {other:?} does not hold whole numbers"))),
    }
}
