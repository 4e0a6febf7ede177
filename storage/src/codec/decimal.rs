//! Floats that people or programs rounded: `k / 10^e` with whole `k`, bit for bit. Up to one value in a hundred
//! may be something else (NaN, -0.0, infinities, more digits) and is kept apart.
//!
//! Payload: `e` (one byte, 0 to 10), varint number of exceptions, each varint gap since the exception before it and
//! the eight bytes of the float, then the `k` as [`integers`].
//!
//! Dividing two exactly represented numbers is correctly rounded on every machine, so decoding gives the same bits
//! everywhere. Idea: ALP (Afroozeh, Kuffo, Boncz, SIGMOD 2024).

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_len};
use super::{Encoding, Packing, integers};
use crate::{Error, Result};

/// Powers of ten that are tried, all exact.
const POWERS: [f64; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
/// Whole numbers below this are exact as floats.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Values looked at before all are.
const SAMPLE: usize = 64;
/// Bytes of an exception at least: a gap and the float.
const EXCEPTION_BYTES_MIN: usize = 9;

/// Values as whole numbers, and which of them are not.
struct Split {
    numbers: Vec<u64>,
    exceptions: Vec<(usize, f64)>,
}

/// Appends `values` if they are decimals; tells whether they were.
pub(super) fn encode(values: &[f64], packing: Packing, out: &mut Vec<u8>) -> Result<bool> {
    let Some((exponent, split)) = split_of(values) else { return Ok(false) };
    out.push(Encoding::Decimal as u8);
    out.push(exponent);
    put_len(out, split.exceptions.len());
    let mut next = 0;
    for (index, value) in &split.exceptions {
        put_len(out, index - next);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
        next = index + 1;
    }
    integers::encode_as(&split.numbers, packing, out)?;
    Ok(true)
}

/// Reads `count` values.
pub(super) fn decode(payload: &[u8], count: usize) -> Result<Vec<f64>> {
    let mut reader = Reader::new(payload);
    let exponent = reader.u8()?;
    let Some(power) = POWERS.get(usize::from(exponent)) else {
        return Err(Error::corruption(format!("decimal exponent {exponent}")));
    };
    let mut exceptions = Vec::new();
    let mut next = 0usize;
    for _ in 0..reader.count(EXCEPTION_BYTES_MIN)? {
        let index = next.saturating_add(reader.bounded(count)?);
        exceptions.push((index, reader.f64()?));
        next = index + 1;
    }
    let numbers = integers::decode(reader.rest(), count)?;
    let mut values: Vec<f64> = match exponent {
        0 => numbers.into_iter().map(|number| integers::unordered(number) as f64).collect(),
        _ => numbers.into_iter().map(|number| integers::unordered(number) as f64 / power).collect(),
    };
    for (index, value) in exceptions {
        let Some(slot) = values.get_mut(index) else {
            return Err(Error::corruption(format!("exception at {index} of {count} values")));
        };
        *slot = value;
    }
    Ok(values)
}

/// The smallest exponent that fits all but a hundredth of the values.
fn split_of(values: &[f64]) -> Option<(u8, Split)> {
    let stride = (values.len() / SAMPLE).max(1);
    for (exponent, power) in (0u8..).zip(POWERS) {
        let sample = values.iter().step_by(stride);
        let misfits = sample.filter(|value| whole_of(**value, power).is_none()).count();
        if misfits <= 1
            && let Some(split) = split_by(values, power)
        {
            return Some((exponent, split));
        }
    }
    None
}

fn split_by(values: &[f64], power: f64) -> Option<Split> {
    let exceptions_max = values.len() / 100;
    let mut numbers = Vec::with_capacity(values.len());
    let mut exceptions = Vec::new();
    let mut before = integers::ordered(0);
    for (index, value) in values.iter().copied().enumerate() {
        match whole_of(value, power) {
            Some(number) => before = integers::ordered(number),
            None if exceptions.len() < exceptions_max => exceptions.push((index, value)),
            None => return None,
        }
        // The place of an exception repeats its neighbour, which costs least.
        numbers.push(before);
    }
    Some(Split { numbers, exceptions })
}

/// The whole number which divided by `power` gives exactly these bits.
fn whole_of(value: f64, power: f64) -> Option<i64> {
    let product = (value * power).round_ties_even();
    if product.abs() < WHOLE_MAX {
        // Exact: the product is whole and fits.
        let number = product as i64;
        let is_same = (number as f64 / power).to_bits() == value.to_bits();
        return is_same.then_some(number);
    }
    None
}
