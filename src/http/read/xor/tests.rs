//! Chunks, read bit by bit.

#![expect(clippy::indexing_slicing, reason = "a test may fail by panic")]

use proptest::prelude::*;

use super::*;

/// Bits off bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, width: u32) -> u64 {
        (0..width).fold(0, |number, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            number << 1 | u64::from(bit)
        })
    }

    fn varint(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.bits(8);
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }
}

/// Decodes a chunk, as the document of the format says, bit by bit.
pub(in crate::http) fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
    let mut reader = Reader { bytes, at: 0 };
    let count = reader.bits(16);
    let (mut found, mut delta) = (Vec::new(), 0_i64);
    let (mut leading, mut width) = (0, 0);
    for index in 0..count {
        let before = found.last().copied().unwrap_or((0, 0));
        match index {
            0 => {
                let zigzag = reader.varint();
                found.push(((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed(), reader.bits(64)));
                continue;
            }
            1 => delta = reader.varint().cast_signed(),
            _ => {
                let mut class = 0;
                while class < 4 && reader.bits(1) == 1 {
                    class += 1;
                }
                let bits = [0, 14, 17, 20, 64][class];
                let raw = reader.bits(bits).cast_signed();
                let is_negative = 0 < bits && bits < 64 && raw > 1 << (bits - 1);
                delta = delta.wrapping_add(if is_negative { raw - (1 << bits) } else { raw });
            }
        }
        let mut value = before.1;
        if reader.bits(1) == 1 {
            if reader.bits(1) == 1 {
                leading = reader.bits(5);
                width = match reader.bits(6) {
                    0 => 64,
                    width => width,
                };
            }
            value ^= reader.bits(u32::try_from(width).unwrap()) << (64 - leading - width);
        }
        found.push((before.0.wrapping_add(delta), value));
    }
    assert!(reader.at.div_ceil(8) == bytes.len(), "bytes are left");
    found
}

#[test]
fn chunk_is_that_of_prometheus() {
    // Bit by bit after the document: two equal values a second apart, then one 1,001 ms later.
    let samples = [(1_000, 1.0), (2_000, 1.0), (3_001, 3.0)];
    let mut wanted = vec![0, 3, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xe8, 0x07];
    // 0 (same value), 10 and 14 bits of 1, then 11, leading 1 of 5 bits, width 12 of 6 bits, and the bits.
    let bits = "0 10 00000000000001 1 1 00001 001100 111111111111".replace(' ', "");
    let padded = format!("{bits:0<48}");
    wanted.extend(
        padded
            .as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap()),
    );
    assert_eq!(encode(&samples), wanted);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        first in -(1_i64 << 50)..1 << 50,
        steps in prop::collection::vec((prop_oneof![Just(1000_u32), 1..3_u32, 900..1100_u32, any::<u32>()],
            prop_oneof![Just(1.5_f64.to_bits()), (0..9_u32).prop_map(|n| f64::from(n).to_bits()), any::<u64>()]), 0..130),
    ) {
        let mut ms = first;
        let samples: Vec<(i64, f64)> = steps.iter().map(|(step, bits)| {
            ms += i64::from(*step) + 1;
            (ms, f64::from_bits(*bits))
        }).collect();
        let wanted: Vec<(i64, u64)> = samples.iter().map(|(ms, value)| (*ms, value.to_bits())).collect();
        prop_assert_eq!(decode(&encode(&samples)), wanted);
    }
}
