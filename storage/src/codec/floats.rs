//! Picks the encoding of floats: decimals as whole numbers, bits as whole numbers where values repeat, or packed as
//! they are; plain where that is shorter. Every bit comes back: NaN payloads, -0.0, subnormals, infinities.

#![warn(clippy::indexing_slicing)]

use super::{Encoding, Packing, decimal, entropy, integers, plain};
use crate::{Error, Result};

/// Appends the encoding byte and the payload.
pub(super) fn encode(values: &[f64], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    encode_packed(values, packing, out)?;
    plain::replace_if_shorter(values.iter().map(|value| value.to_bits()), start, out);
    Ok(())
}

fn encode_packed(values: &[f64], packing: Packing, out: &mut Vec<u8>) -> Result<()> {
    if decimal::encode(values, packing, out)? {
        return Ok(());
    }
    let pairs = values.iter().zip(values.iter().skip(1));
    let changes = pairs.filter(|(before, value)| before.to_bits() != value.to_bits()).count();
    if changes.saturating_mul(16) <= values.len() {
        let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        out.push(Encoding::FloatBits as u8);
        return integers::encode_as(&bits, packing, out);
    }
    let ordered: Vec<u64> = values.iter().copied().map(ordered_bits).collect();
    let minimum = ordered.iter().copied().min().unwrap_or(0);
    let near_zero: Vec<u64> = ordered.iter().map(|bits| bits - minimum).collect();
    out.push(Encoding::Float as u8);
    entropy::pack(values, entropy::promise(&near_zero).order, out)
}

/// Reads exactly `count` values; `bytes` begins with the encoding byte.
pub(super) fn decode(bytes: &[u8], count: usize) -> Result<Vec<f64>> {
    let (encoding, payload) = Encoding::split(bytes)?;
    match encoding {
        Encoding::Decimal => decimal::decode(payload, count),
        Encoding::FloatBits => {
            Ok(integers::decode(payload, count)?.into_iter().map(f64::from_bits).collect())
        }
        Encoding::Float => entropy::unpack(payload, count),
        Encoding::Plain => Ok(plain::decode(payload, count)?.into_iter().map(f64::from_bits).collect()),
        other => Err(Error::corruption(format!("encoding {other:?} does not hold floats"))),
    }
}

/// The bits of a float as a number that grows with it, as pco sees it.
fn ordered_bits(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }
}
