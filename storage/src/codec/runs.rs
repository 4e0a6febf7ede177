//! Numbers whose differences repeat: pieces of regular timestamps, one after the other for each series of a page,
//! or values that seldom change. Each run is a difference and how often it is added.
//!
//! Payload: varint first value, form byte (0 plain, 1 zstd), then the runs, each varint zigzag difference, varint
//! length. zstd sees what the runs of one series have in common with those of the next.

#![warn(clippy::indexing_slicing)]

use super::Encoding;
use super::bytes::{Reader, put_varint, unzigzag, zigzag};
use super::squeeze::{squeeze, unsqueeze};
use crate::{Error, Result};

/// Level of zstd; the input is a few hundred bytes.
const LEVEL: i32 = 1;
/// Longest a run can be in bytes: two varints.
const RUN_BYTES_MAX: usize = 20;
/// Values of a run that are made at a time.
const STRIDE: usize = 8;

/// Number of runs; 0 for fewer than two values.
pub(super) fn count(values: &[u64]) -> usize {
    let mut deltas =
        values.iter().zip(values.iter().skip(1)).map(|(before, value)| value.wrapping_sub(*before));
    let Some(mut delta) = deltas.next() else { return 0 };
    let mut runs = 1;
    for next in deltas {
        runs += usize::from(next != delta);
        delta = next;
    }
    runs
}

/// Appends the runs of `values`, which must not be empty.
pub(super) fn encode(values: &[u64], out: &mut Vec<u8>) -> Result<()> {
    let Some((first, rest)) = values.split_first() else {
        return Err(Error::invalid("no values to encode"));
    };
    out.push(Encoding::Runs as u8);
    put_varint(out, *first);
    let mut plain = Vec::new();
    let mut put_run = |delta: u64, length: u64| {
        if length > 0 {
            put_varint(&mut plain, zigzag(delta.cast_signed()));
            put_varint(&mut plain, length);
        }
    };
    let (mut before, mut delta, mut length) = (*first, 0, 0);
    for value in rest {
        let next = value.wrapping_sub(before);
        if next != delta {
            put_run(delta, length);
            (delta, length) = (next, 0);
        }
        length += 1;
        before = *value;
    }
    put_run(delta, length);
    squeeze(&plain, LEVEL, out)
}

/// The value that comes so many differences after this one.
fn ahead(value: u64, delta: u64, steps: usize) -> u64 {
    value.wrapping_add(delta.wrapping_mul(steps as u64))
}

/// Reads `count` values.
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(payload);
    let mut value = reader.varint()?;
    // The plain form has no length of its own: runs cannot be more than the values.
    let plain = unsqueeze(reader.rest(), count.saturating_mul(RUN_BYTES_MAX))?;
    let mut reader = Reader::new(&plain);
    let mut values = Vec::with_capacity(count);
    values.push(value);
    while !reader.rest().is_empty() {
        let delta = unzigzag(reader.varint()?).cast_unsigned();
        let mut length = reader.bounded(count.saturating_sub(values.len()))?;
        // Side by side: no value of a stride waits for the one before.
        let mut lanes: [u64; STRIDE] = std::array::from_fn(|lane| ahead(value, delta, lane + 1));
        while STRIDE <= length {
            values.extend_from_slice(&lanes);
            value = ahead(value, delta, STRIDE);
            lanes = lanes.map(|lane| ahead(lane, delta, STRIDE));
            length -= STRIDE;
        }
        values.extend(lanes.iter().take(length));
        value = ahead(value, delta, length);
    }
    if values.len() < count {
        return Err(Error::corruption(format!("runs end {} values early", count - values.len())));
    }
    Ok(values)
}
