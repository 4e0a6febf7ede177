//! Numbers on a grid: `minimum + step * k`, with the `k` packed by [`entropy`]. The step is the greatest
//! common divisor; it turns timestamps of millisecond precision in nanoseconds back into what they are.
//!
//! Payload: varint minimum, varint step, packed `k`.

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_varint};
use super::{Encoding, entropy};
use crate::Result;

/// Appends `values`, which must not be empty.
pub(super) fn encode(values: &[u64], out: &mut Vec<u8>) -> Result<()> {
    let minimum = values.iter().copied().min().unwrap_or(0);
    let step = step_of(values, minimum);
    let scaled: Vec<u64> = match step {
        1 => values.iter().map(|value| value - minimum).collect(),
        step => values.iter().map(|value| (value - minimum) / step).collect(),
    };
    out.push(Encoding::Scaled as u8);
    put_varint(out, minimum);
    put_varint(out, step);
    entropy::pack(&scaled, entropy::delta_order(&scaled), out)
}

/// Reads `count` values.
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(payload);
    let (minimum, step) = (reader.varint()?, reader.varint()?);
    let mut values = entropy::unpack::<u64>(reader.rest(), count)?;
    match step {
        1 => values.iter_mut().for_each(|value| *value = value.wrapping_add(minimum)),
        step => values.iter_mut().for_each(|value| *value = value.wrapping_mul(step).wrapping_add(minimum)),
    }
    Ok(values)
}

/// The greatest step that reaches every value from the minimum; 1 where all values are the same.
fn step_of(values: &[u64], minimum: u64) -> u64 {
    let mut step = 0;
    for value in values {
        let distance = value - minimum;
        if !distance.is_multiple_of(step) {
            step = gcd(step, distance);
        }
        if step == 1 {
            break;
        }
    }
    step.max(1)
}

/// Greatest common divisor; `gcd(0, b)` is `b`.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
