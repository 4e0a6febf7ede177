//! Numbers on a grid: `minimum + step * k`. The step is the greatest common divisor; it turns timestamps of
//! millisecond precision in nanoseconds back into what they are. The `k` go through [`pfor`], else [`huffman`], where that is
//! not much longer than what [`entropy`] promises, because these are read and written several times as fast.
//!
//! Payload: varint minimum, varint step; with pfor and huffman u8 order (0: the `k`, 1: zigzag difference of each from the one
//! before, of the first from 0, 2: these differences as they are, wrapping); packed `k`.

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_varint, unzigzag, zigzag};
use super::{Encoding, Packing, entropy, huffman, pfor};
use crate::{Error, Result};

/// The orders of pfor and huffman.
const PLAIN: u8 = 0;
const ZIGZAG: u8 = 1;
const RISING: u8 = 2;
/// A difference below zero costs as much as so many bits for the sign of others.
const FALLS_SHARE: usize = 64;

/// Appends `values`, which must not be empty.
pub(super) fn encode(values: &[u64], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    let minimum = values.iter().copied().min().unwrap_or(0);
    let step = step_of(values, minimum);
    let scaled: Vec<u64> = match step {
        1 => values.iter().map(|value| value - minimum).collect(),
        step => values.iter().map(|value| (value - minimum) / step).collect(),
    };
    let begin = |encoding, out: &mut Vec<u8>| {
        out.push(encoding as u8);
        put_varint(out, minimum);
        put_varint(out, step);
    };
    let promise = entropy::promise(&scaled);
    let bytes_max = promise.bytes
        + match packing {
            Packing::Dense => promise.bytes / 20,
            Packing::Fast => promise.bytes / 5,
        };
    let differences = (0 < promise.order).then(|| differences_of(&scaled));
    let differences = differences.as_ref().map(|(order, differences)| (*order, differences));
    let shapes = || differences.into_iter().chain([(PLAIN, &scaled)]);
    for (order, numbers) in shapes() {
        if let Some(plan) = pfor::Plan::of(numbers, bytes_max) {
            begin(Encoding::Pfor, out);
            out.push(order);
            plan.write(numbers, out);
            return Ok(());
        }
    }
    for (order, numbers) in shapes() {
        if let Some(plan) = huffman::Plan::of(numbers, bytes_max) {
            begin(Encoding::Huffman, out);
            out.push(order);
            plan.write(numbers, out);
            return Ok(());
        }
    }
    begin(Encoding::Scaled, out);
    entropy::pack(&scaled, promise.order, out)
}

/// Reads `count` values of [`Encoding::Scaled`].
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let mut reader = Reader::new(payload);
    let (minimum, step) = (reader.varint()?, reader.varint()?);
    let mut values = entropy::unpack::<u64>(reader.rest(), count)?;
    unscale(&mut values, minimum, step);
    Ok(values)
}

/// Reads `count` values of [`Encoding::Pfor`].
pub(super) fn decode_pfor(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let (mut grid, rest) = Grid::read(payload)?;
    pfor::decode(rest, count, |values| grid.restore(values))
}

/// Reads `count` values of [`Encoding::Huffman`].
pub(super) fn decode_huffman(payload: &[u8], count: usize) -> Result<Vec<u64>> {
    let (mut grid, rest) = Grid::read(payload)?;
    huffman::decode(rest, count, |values| grid.restore(values))
}

/// What makes values of the numbers that are packed.
struct Grid {
    minimum: u64,
    step: u64,
    order: u8,
    /// The last `k`.
    before: u64,
}

impl Grid {
    /// Splits it off.
    fn read(payload: &[u8]) -> Result<(Self, &[u8])> {
        let mut reader = Reader::new(payload);
        let (minimum, step, order) = (reader.varint()?, reader.varint()?, reader.u8()?);
        if !matches!(order, PLAIN | ZIGZAG | RISING) {
            return Err(Error::corruption(format!("differences of order {order}")));
        }
        Ok((Self { minimum, step, order, before: 0 }, reader.rest()))
    }

    /// The next numbers become values.
    fn restore(&mut self, values: &mut [u64]) {
        match self.order {
            PLAIN => {}
            ZIGZAG => sum(values, &mut self.before, |difference| unzigzag(difference).cast_unsigned()),
            _ => sum(values, &mut self.before, |difference| difference),
        }
        unscale(values, self.minimum, self.step);
    }
}

/// Differences become what they are of; `before` is the last of these.
fn sum(values: &mut [u64], before: &mut u64, difference_of: impl Fn(u64) -> u64) {
    for value in values {
        *before = before.wrapping_add(difference_of(*value));
        *value = *before;
    }
}

fn unscale(values: &mut [u64], minimum: u64, step: u64) {
    match step {
        1 => values.iter_mut().for_each(|value| *value = value.wrapping_add(minimum)),
        step => values.iter_mut().for_each(|value| *value = value.wrapping_mul(step).wrapping_add(minimum)),
    }
}

/// The difference of each value from the one before, and how it is written. Times rise but where a series ends: they do
/// without a bit for the sign.
fn differences_of(values: &[u64]) -> (u8, Vec<u64>) {
    let before = std::iter::once(&0).chain(values);
    let mut differences: Vec<u64> =
        values.iter().zip(before).map(|(value, before)| value.wrapping_sub(*before)).collect();
    let falls = differences.iter().filter(|difference| difference.cast_signed() < 0).count();
    if falls <= values.len() / FALLS_SHARE {
        return (RISING, differences);
    }
    differences.iter_mut().for_each(|difference| *difference = zigzag(difference.cast_signed()));
    (ZIGZAG, differences)
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
