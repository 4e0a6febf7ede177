//! A chunk of samples as Prometheus' XOR encoding has it: the number of samples (two bytes, big-endian), then bits, from the
//! highest of each byte on. Times are differences of differences, values are XORed with the one before.
//!
//! Source: Prometheus, `tsdb/docs/format/chunks.md`; "Gorilla: a fast, scalable, in-memory time series database", 2015.

use crate::ingest::protobuf::push_varint;

/// Classes of differences: bits of the number, the bits before it, and their count.
const CLASSES: [(u32, u64, u32); 3] = [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)];
/// No block of bits has been written.
const NO_BLOCK: u32 = u32::MAX;

/// Encodes samples by time, in milliseconds; no more than 65,535.
pub(super) fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let count = u16::try_from(samples.len()).unwrap_or(u16::MAX);
    let mut bits = Bits { bytes: count.to_be_bytes().to_vec(), free: 0 };
    let mut samples = samples.iter().take(usize::from(count));
    let Some((mut before_ms, value)) = samples.next().copied() else { return bits.bytes };
    // Both varints stand on whole bytes: only they and 64 bits come before them.
    push_varint(&mut bits.bytes, ((before_ms << 1) ^ (before_ms >> 63)).cast_unsigned());
    bits.push(value.to_bits(), 64);
    let mut values = Values { before: value.to_bits(), leading: NO_BLOCK, trailing: 0 };
    let mut delta_before = None;
    for (ms, value) in samples {
        let delta = ms.wrapping_sub(before_ms);
        match delta_before {
            None => push_varint(&mut bits.bytes, delta.cast_unsigned()),
            Some(delta_before) => push_time(&mut bits, delta.wrapping_sub(delta_before)),
        }
        values.push(&mut bits, value.to_bits());
        (before_ms, delta_before) = (*ms, Some(delta));
    }
    bits.bytes
}

fn push_time(bits: &mut Bits, difference: i64) {
    if difference == 0 {
        return bits.push(0, 1);
    }
    let fits = |width: u32| (-((1_i64 << (width - 1)) - 1)..=1 << (width - 1)).contains(&difference);
    match CLASSES.iter().find(|(width, ..)| fits(*width)) {
        Some((width, prefix, prefix_width)) => {
            bits.push(*prefix, *prefix_width);
            bits.push(difference.cast_unsigned(), *width);
        }
        None => {
            bits.push(0b1111, 4);
            bits.push(difference.cast_unsigned(), 64);
        }
    }
}

/// The value before, and the block of bits that was written last.
struct Values {
    before: u64,
    leading: u32,
    trailing: u32,
}

impl Values {
    fn push(&mut self, bits: &mut Bits, value: u64) {
        let changed = value ^ self.before;
        self.before = value;
        if changed == 0 {
            return bits.push(0, 1);
        }
        bits.push(1, 1);
        // Five bits hold the number of leading zeros.
        let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
        if self.leading != NO_BLOCK && self.leading <= leading && self.trailing <= trailing {
            bits.push(0, 1);
            return bits.push(changed >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        bits.push(1, 1);
        bits.push(u64::from(leading), 5);
        // Of 64 the six bits are 0.
        bits.push(u64::from(width), 6);
        bits.push(changed >> trailing, width);
    }
}

/// Bits onto bytes.
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl Bits {
    /// Appends the low bits of a number, the highest of them first.
    fn push(&mut self, number: u64, width: u32) {
        let mut left = width;
        while 0 < left {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (number >> (left - taken)) & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - taken)).to_le_bytes()[0];
            }
            self.free -= taken;
            left -= taken;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
