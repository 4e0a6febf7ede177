//! Patched frame of reference: blocks of 64 whole numbers, each of as many bits as most of its block need, and what the
//! few longer ones have above that beside them. Longer than pco's bins by the width that a block must give to its
//! larger numbers, read some three times and written some four times as fast. [`scaled`](super::scaled) decides.
//!
//! A block: u8 width in bits, 128 added where numbers are longer; for those u8 how many they are and u8 how many bits
//! they have above the width; the low bits of all numbers; u8 place of each longer one; their bits above. Bits stand
//! end to end, the lowest first, in as many bytes as they need.
//!
//! Idea: PFOR (Zukowski, Héman, Nes, Boncz, ICDE 2006); the width is chosen as in NewPFD (Yan, Ding, Suel, WWW 2009).

#![warn(clippy::indexing_slicing)]

use super::bits::{mask, put_bits};
use super::bytes::Reader;
use crate::{Error, Result};

/// Numbers of a block.
const BLOCK: usize = 64;
/// Flag beside the width of a block.
const IS_PATCHED: u8 = 128;
/// A width above this one makes no block shorter: a number in four that is longer is too many.
const PATCHED_MAX: usize = BLOCK / 4;
/// A block of numbers of 64 bits, and what a load at its last byte may touch.
const PADDED: usize = BLOCK * 8 + 16;

/// How a block is written.
#[derive(Debug, Clone, Copy)]
struct Shape {
    width: usize,
    /// Bits of the longest number above the width.
    above: usize,
    /// Numbers that have such.
    patched: usize,
}

/// How each block of some numbers is written.
pub(super) struct Plan {
    shapes: Vec<Shape>,
}

impl Plan {
    /// The shortest way to write `values`; `None` when it takes more than `bytes_max`.
    pub(super) fn of(values: &[u64], bytes_max: usize) -> Option<Self> {
        let mut shapes = Vec::with_capacity(values.len().div_ceil(BLOCK));
        let mut bytes = 0;
        for block in values.chunks(BLOCK) {
            let (shape, block_bytes) = Shape::of(block);
            bytes += block_bytes;
            if bytes_max < bytes {
                return None;
            }
            shapes.push(shape);
        }
        Some(Self { shapes })
    }

    /// Appends the `values` that it was made of.
    pub(super) fn write(&self, values: &[u64], out: &mut Vec<u8>) {
        for (block, shape) in values.chunks(BLOCK).zip(&self.shapes) {
            shape.write(block, out);
        }
    }
}

impl Shape {
    /// The shape that takes the fewest bytes, and these.
    fn of(block: &[u64]) -> (Self, usize) {
        let mut lengths = [0usize; 65];
        for value in block {
            if let Some(count) = lengths.get_mut(length_of(*value)) {
                *count += 1;
            }
        }
        let longest = length_of(block.iter().fold(0, |all, value| all | value));
        let mut best = Self { width: longest, above: 0, patched: 0 };
        let mut bytes = 1 + bytes_of(longest, block.len());
        let mut patched = 0;
        for (width, longer) in lengths.iter().take(longest + 1).skip(1).enumerate().rev() {
            patched += longer;
            if PATCHED_MAX < patched {
                break;
            }
            let above = longest - width;
            let candidate = 3 + bytes_of(width, block.len()) + patched + bytes_of(above, patched);
            if candidate < bytes {
                (best, bytes) = (Self { width, above, patched }, candidate);
            }
        }
        (best, bytes)
    }

    fn write(self, block: &[u64], out: &mut Vec<u8>) {
        // All three are at most 64.
        let Self { width, above, patched } = self;
        let longer = || block.iter().copied().enumerate().filter(|(_, value)| width < length_of(*value));
        out.push(width as u8 | if patched > 0 { IS_PATCHED } else { 0 });
        if patched > 0 {
            out.extend_from_slice(&[patched as u8, above as u8]);
        }
        put_bits(block.iter().map(|value| (value & mask(width), width)), out);
        if patched > 0 {
            out.extend(longer().map(|(place, _)| place as u8));
            put_bits(longer().map(|(_, value)| (value >> width, above)), out);
        }
    }
}

/// Reads exactly `count` numbers, which must use up all of `bytes`; `finish` makes of those of each block, in order,
/// what is wanted.
pub(super) fn decode(bytes: &[u8], count: usize, mut finish: impl FnMut(&mut [u64])) -> Result<Vec<u64>> {
    let blocks = count.div_ceil(BLOCK);
    // Each block has a byte at least: the input earns the memory.
    if bytes.len() < blocks {
        return Err(Error::corruption(format!("{} bytes for blocks of {count} numbers", bytes.len())));
    }
    let mut reader = Reader::new(bytes);
    let mut values = Vec::with_capacity(count);
    let mut block = [0; BLOCK];
    while values.len() < count {
        let len = BLOCK.min(count - values.len());
        read_block(&mut reader, &mut block, len)?;
        let block = block.get_mut(..len).unwrap_or_default();
        finish(block);
        values.extend_from_slice(block);
    }
    reader.finish()?;
    Ok(values)
}

/// Reads the first `len` numbers of a block; what stands behind them is of no meaning.
fn read_block(reader: &mut Reader<'_>, block: &mut [u64; BLOCK], len: usize) -> Result<()> {
    let head = reader.u8()?;
    let width = usize::from(head & !IS_PATCHED);
    let (patched, above) = match head & IS_PATCHED {
        0 => (0, 0),
        _ => (usize::from(reader.u8()?), usize::from(reader.u8()?)),
    };
    if 64 < width + above || len < patched {
        return Err(Error::corruption(format!("a block of {width} and {above} bits, {patched} times")));
    }
    get_bits(reader, width, block, len)?;
    if patched == 0 {
        return Ok(());
    }
    let places = reader.take(patched)?;
    let mut highs = [0; BLOCK];
    get_bits(reader, above, &mut highs, patched)?;
    for (place, high) in places.iter().zip(highs) {
        let Some(value) = block.get_mut(..len).and_then(|block| block.get_mut(usize::from(*place))) else {
            return Err(Error::corruption(format!("number {place} of a block of {len}")));
        };
        // Without bits above there is nothing to shift, maybe by 64.
        *value |= high.checked_shl(width as u32).unwrap_or(0);
    }
    Ok(())
}

/// Takes the bytes of `len` numbers and reads a number for each place of `out`, of which these come first.
fn get_bits(reader: &mut Reader<'_>, width: usize, out: &mut [u64; BLOCK], len: usize) -> Result<()> {
    let ahead = reader.rest().first_chunk();
    let bytes = reader.take(bytes_of(width, len))?;
    match ahead {
        Some(ahead) => unpack(ahead, width, out),
        // Near the end of the input nothing may be behind these bytes.
        None => {
            let mut padded = [0; PADDED];
            padded.iter_mut().zip(bytes).for_each(|(padded, byte)| *padded = *byte);
            unpack(&padded, width, out);
        }
    }
    Ok(())
}

/// Reads numbers of `width` bits.
fn unpack(bytes: &[u8; PADDED], width: usize, out: &mut [u64; BLOCK]) {
    macro_rules! unpack_each {
        ($($width:literal)*) => {
            match width {
                $($width => unpack_of::<$width>(bytes, out),)*
                _ => unpack_wide(bytes, width, out),
            }
        };
    }
    unpack_each!(
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38
        39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57
    );
}

/// As [`unpack`]. A load of eight bytes holds a whole number of 57 bits wherever it begins; which it is and how far it
/// is shifted is known when this is compiled.
fn unpack_of<const WIDTH: usize>(bytes: &[u8; PADDED], out: &mut [u64; BLOCK]) {
    let mask = mask(WIDTH);
    let (groups, _) = out.as_chunks_mut::<8>();
    for (group, out) in groups.iter_mut().enumerate() {
        for (index, value) in out.iter_mut().enumerate() {
            let word = u64::from_le_bytes(load(bytes, group * WIDTH + index * WIDTH / 8));
            *value = (word >> (index * WIDTH % 8)) & mask;
        }
    }
}

/// As [`unpack`], of any width; meant for those above 57.
fn unpack_wide(bytes: &[u8; PADDED], width: usize, out: &mut [u64; BLOCK]) {
    let mask = mask(width);
    for (index, value) in out.iter_mut().enumerate() {
        let bit = index * width;
        *value = (u128::from_le_bytes(load(bytes, bit / 8)) >> (bit % 8)) as u64 & mask;
    }
}

/// The bytes from a place on.
#[inline]
fn load<const BYTES: usize>(bytes: &[u8; PADDED], place: usize) -> [u8; BYTES] {
    // The remainder only says to the compiler that no check is needed.
    let rest = bytes.get(place % (BLOCK * 8)..).and_then(<[u8]>::first_chunk);
    rest.copied().unwrap_or([0; BYTES])
}

fn bytes_of(width: usize, count: usize) -> usize {
    (width * count).div_ceil(8)
}

/// Bits of a number, 0 to 64.
fn length_of(value: u64) -> usize {
    (64 - value.leading_zeros()) as usize
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test that indexes past its own data should fail")]
mod tests {
    use super::*;

    fn written(values: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Plan::of(values, usize::MAX).unwrap().write(values, &mut bytes);
        bytes
    }

    #[test]
    fn decode_numbers_of_every_width_and_count() {
        for width in 0..=64 {
            for count in [1, 2, 7, 8, 63, 64, 65, 128, 200] {
                let values: Vec<u64> = (0..count)
                    .map(|index: u64| (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask(width))
                    .collect();
                assert_eq!(
                    decode(&written(&values), values.len(), |_| {}).unwrap(),
                    values,
                    "{width} bits, {count}"
                );
            }
        }
    }

    #[test]
    fn decode_longer_numbers_in_any_place() {
        for (width, long) in [(0, 1), (0, u64::MAX), (5, u64::MAX), (5, 32), (63, u64::MAX), (9, 1 << 40)] {
            for places in
                [&[0usize][..], &[63], &[64], &[3, 17, 99], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]
            {
                let mut values: Vec<u64> = (0..100).map(|index| (index * 7) & mask(width)).collect();
                for place in places {
                    values[*place] = long;
                }
                assert_eq!(
                    decode(&written(&values), 100, |_| {}).unwrap(),
                    values,
                    "{width} {long} {places:?}"
                );
            }
        }
    }

    /// The bytes are part of the file format.
    #[test]
    fn bytes_are_those_of_the_format() {
        assert_eq!(written(&[1, 2, 3]), [2, 0b0011_1001]);
        let mut values = vec![5; 9];
        values[4] = (255 << 3) | 5;
        let longer = [IS_PATCHED | 3, 1, 8];
        // Nine times 101.
        let low = [0b0110_1101, 0b1101_1011, 0b1011_0110, 0b0000_0101];
        assert_eq!(written(&values), [&longer[..], &low, &[4, 0xff]].concat());
    }

    #[test]
    fn one_long_number_costs_its_own_bits_only() {
        let mut values = vec![3; 64];
        values[40] = 1 << 50;
        // Head, count and bits above; two bits each; a place; 49 bits above.
        assert_eq!(written(&values).len(), 3 + 16 + 1 + 7);
        assert!(Plan::of(&values, 26).is_none(), "a byte too many");
        assert!(Plan::of(&values, 27).is_some());
    }

    #[test]
    fn decode_what_is_no_block_is_corruption() {
        for (bytes, count) in [
            (&[][..], 1),
            (&[65, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
            (&[IS_PATCHED | 60, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
            (&[IS_PATCHED, 2, 1, 0, 0, 1], 1),
            (&[IS_PATCHED, 1, 1, 1, 1], 1),
            (&[8], 1),
            (&[0, 0], 1),
            (&[0], 65),
            (&[0], usize::MAX),
        ] {
            let error = decode(bytes, count, |_| {}).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corruption, "{bytes:?} {count}: {error}");
        }
    }
}
