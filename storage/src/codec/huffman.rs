//! Huffman codes: a number is written as the code of its class, and the bits that tell it from others of the class. Numbers
//! below 16 are a class each, above there are eight to every power of two. About as short as pco's bins on differences and
//! on numbers of which few are frequent, read and written several times as fast. [`scaled`](super::scaled) decides.
//!
//! Bytes: u8 first and u8 last class in use; from the one to the other the lengths of their codes, four bits each, 0 where
//! a class is not in use, the first in the lower bits of a byte; varint bytes of each of the first three lanes; four lanes.
//! Number `i` is in lane `i % 4`, so that a reader follows four chains at once. Codes are canonical, in ascending order of
//! length and then of class, and stand with their first bit lowest; above a code stand the low bits of its number.
//!
//! Idea: classes with bits beside them as in Deflate (RFC 1951), several streams as in Zstandard's literals (RFC 8878).

#![warn(clippy::indexing_slicing)]

use std::cmp::Reverse;

use super::bits::put_bits;
use super::bytes::{Reader, put_varint};
use crate::{Error, Result};

/// Numbers of a class agree in so many bits, from the first that is set; shorter ones are a class each.
const LEADING_BITS: u8 = 4;
/// What to shift by to multiply by the classes of a power of two.
const OCTAVE: u8 = LEADING_BITS - 1;
const CLASSES: usize = 256;
/// Longer numbers are of no class.
const NUMBER_BITS_MAX: u32 = LEADING_BITS as u32 + (CLASSES as u32 >> OCTAVE) - 2;
/// Bits of the longest code.
const CODE_BITS_MAX: u8 = 11;
/// Places in the widest table.
const SPAN: usize = 1 << CODE_BITS_MAX;
const LANES: usize = 4;
/// Numbers that are handed over together; of each lane as many as a load holds at best, or a multiple.
const BLOCK: usize = 64;

/// How numbers are written.
pub(super) struct Plan {
    /// What stands before the lanes.
    head: Vec<u8>,
    /// Of each number.
    classes: Vec<u8>,
    /// Of the code of each class; 0: no number is of it.
    lengths: [u8; CLASSES],
}

impl Plan {
    /// The shortest codes for `values`; `None` when they take more than `bytes_max`, and when there is nothing to tell
    /// apart.
    pub(super) fn of(values: &[u64], bytes_max: usize) -> Option<Self> {
        if 0 < values.iter().fold(0, |all, value| all | value) >> NUMBER_BITS_MAX {
            return None;
        }
        let classes: Vec<u8> = values.iter().map(|value| class_of(*value)).collect();
        // Lane by lane, so that no count waits for that of the number before.
        let mut counts = [[0u32; CLASSES]; LANES];
        for row in classes.chunks(LANES) {
            for (class, counts) in row.iter().zip(&mut counts) {
                if let Some(count) = counts.get_mut(usize::from(*class)) {
                    *count += 1;
                }
            }
        }
        let [mut all, rest @ ..] = counts;
        for counts in rest {
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
        let lengths = lengths_of(all)?;
        let lane_bytes = counts.map(|counts| {
            let classes = (0..=u8::MAX).zip(counts).zip(lengths);
            let bits = classes.map(|((class, count), length)| count as usize * bits_of(class, length));
            bits.sum::<usize>().div_ceil(8)
        });
        let head = head_of(&lengths, &lane_bytes)?;
        let bytes = head.len() + lane_bytes.iter().sum::<usize>();
        (bytes <= bytes_max).then_some(Self { head, classes, lengths })
    }

    /// Appends the `values` that it was made of.
    pub(super) fn write(&self, values: &[u64], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        let codes = codes_of(&self.lengths);
        for lane in 0..LANES {
            let rows = values.chunks(LANES).zip(self.classes.chunks(LANES));
            let numbers = rows.filter_map(|(values, classes)| values.get(lane).zip(classes.get(lane)));
            put_bits(numbers.map(|(value, class)| of_class(&codes, *class).begin(*value)), out);
        }
    }
}

/// The classes in use, the lengths of their codes and of the lanes; `None` when no class is in use.
fn head_of(lengths: &[u8; CLASSES], lane_bytes: &[usize; LANES]) -> Option<Vec<u8>> {
    let mut used = (0..=u8::MAX).zip(lengths).filter(|(_, length)| 0 < **length);
    let (first, _) = used.next()?;
    let last = used.next_back().map_or(first, |(last, _)| last);
    let mut head = vec![first, last];
    let pairs = lengths.get(usize::from(first)..=usize::from(last))?.chunks(2);
    head.extend(pairs.map(|pair| pair.iter().rev().fold(0, |byte, length| byte << 4 | length)));
    for bytes in lane_bytes.iter().take(LANES - 1) {
        put_varint(&mut head, *bytes as u64);
    }
    Some(head)
}

/// How numbers of a class begin: the code, its first bit lowest; above 16 bits its length; above 24 how many bits of a
/// number follow. One word, so that it is one load for each number: three cost a twentieth of all writing.
#[derive(Debug, Clone, Copy, Default)]
struct Code(u32);

impl Code {
    fn new(bits: u16, length: u8, low_bits: u8) -> Self {
        Self(u32::from(bits) | u32::from(length) << 16 | u32::from(low_bits) << 24)
    }

    /// The code.
    fn bits(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// Bits of the code.
    fn length(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// Code and low bits of a number, and how many these are.
    fn begin(self, value: u64) -> (u64, usize) {
        let (length, low_bits) = (self.length(), (self.0 >> 24) as u8);
        let low = value & mask_of(low_bits);
        (self.bits() as u64 | low << (length & 63), usize::from(length + low_bits))
    }
}

/// What a table says of a class.
fn of_class<T: Copy + Default>(table: &[T; CLASSES], class: u8) -> T {
    table.get(usize::from(class)).copied().unwrap_or_default()
}

/// The class of a number of at most [`NUMBER_BITS_MAX`] bits.
fn class_of(value: u64) -> u8 {
    // At most 30.
    let low_bits = (64 - u32::from(LEADING_BITS)).saturating_sub(value.leading_zeros()) as u8;
    // Of the number 4 bits are left, so that this is at most 30 * 8 + 15.
    (low_bits << OCTAVE) + (value >> low_bits) as u8
}

/// Bits of a number of the class that the class does not tell.
fn low_bits_of(class: u8) -> u8 {
    (class >> OCTAVE).saturating_sub(1)
}

/// The smallest number of a class.
fn base_of(class: u8) -> u64 {
    u64::from(class - (low_bits_of(class) << OCTAVE)) << low_bits_of(class)
}

/// Bits of each number of a class whose code has that length.
fn bits_of(class: u8, length: u8) -> usize {
    usize::from(length + low_bits_of(class))
}

/// Lengths of the codes that take the fewest bits in all, but that no code is too long; `None` with fewer than two classes.
fn lengths_of(mut counts: [u32; CLASSES]) -> Option<[u8; CLASSES]> {
    loop {
        let lengths = unbounded_lengths_of(&counts)?;
        if lengths.iter().all(|length| *length <= CODE_BITS_MAX) {
            return Some(lengths);
        }
        // The rare become less rare; when all are the same, eight bits do.
        counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
    }
}

/// Huffman's algorithm with two queues: leaves by count, and inner nodes, which are made in ascending order.
fn unbounded_lengths_of(counts: &[u32; CLASSES]) -> Option<[u8; CLASSES]> {
    let mut leaves: Vec<(u32, u8)> = (0..=u8::MAX).map(|class| (of_class(counts, class), class)).collect();
    leaves.retain(|(count, _)| 0 < *count);
    if leaves.len() < 2 {
        return None;
    }
    leaves.sort_unstable_by_key(|leaf| Reverse(*leaf));
    // Of all nodes, leaves first: the weight of an inner one, and the number of what is above it.
    let (mut parents, mut weights) = (vec![0; 2 * leaves.len() - 1], Vec::with_capacity(leaves.len() - 1));
    let (mut leaves_left, mut inner_used) = (leaves.len(), 0);
    while weights.len() < leaves.len() - 1 {
        let parent = leaves.len() + weights.len();
        let mut weight = 0;
        for _ in 0..2 {
            let leaf =
                leaves_left.checked_sub(1).and_then(|last| leaves.get(last)).map(|leaf| u64::from(leaf.0));
            let inner: Option<&u64> = weights.get(inner_used);
            let is_leaf = leaf.is_some_and(|leaf| inner.is_none_or(|inner| leaf <= *inner));
            weight += if is_leaf { leaf } else { inner.copied() }.unwrap_or(0);
            let child = if is_leaf { leaves_left - 1 } else { leaves.len() + inner_used };
            leaves_left -= usize::from(is_leaf);
            inner_used += usize::from(!is_leaf);
            if let Some(above) = parents.get_mut(child) {
                *above = parent;
            }
        }
        weights.push(weight);
    }
    // A node is made after those below it: from the root down all depths are known.
    let mut depths = vec![0u8; parents.len()];
    for node in (0..parents.len() - 1).rev() {
        let above = parents.get(node).and_then(|above| depths.get(*above)).copied().unwrap_or(0);
        if let Some(depth) = depths.get_mut(node) {
            *depth = above + 1;
        }
    }
    let mut lengths = [0; CLASSES];
    for ((_, class), depth) in leaves.iter().zip(depths) {
        if let Some(length) = lengths.get_mut(usize::from(*class)) {
            *length = depth;
        }
    }
    Some(lengths)
}

/// The code of each class that has one.
fn codes_of(lengths: &[u8; CLASSES]) -> [Code; CLASSES] {
    let mut codes = [Code::default(); CLASSES];
    let mut next = 0u16;
    for length in 1..=CODE_BITS_MAX {
        let places = (0..=u8::MAX).zip(codes.iter_mut().zip(lengths));
        for (class, (code, _)) in places.filter(|(_, (_, of))| **of == length) {
            let bits = next.reverse_bits() >> (16 - length);
            *code = Code::new(bits, length, low_bits_of(class));
            next += 1;
        }
        next <<= 1;
    }
    codes
}

/// Reads exactly `count` numbers, which must use up all of `bytes`; `finish` makes of those of each block, in order,
/// what is wanted.
pub(super) fn decode(bytes: &[u8], count: usize, mut finish: impl FnMut(&mut [u64])) -> Result<Vec<u64>> {
    // Each number has a bit at least: the input earns the memory.
    if bytes.len() < count / 8 {
        return Err(Error::corruption(format!("{} bytes for codes of {count} numbers", bytes.len())));
    }
    let mut reader = Reader::new(bytes);
    let table = Table::read(&mut reader)?;
    let mut lanes = Lanes::read(&mut reader)?;
    let mut values = Vec::with_capacity(count);
    let mut block = [0; BLOCK];
    for _ in 0..count / BLOCK {
        // As many as fit the 57 bits of a load.
        match table.number_bits_max {
            0..=14 => lanes.read_block::<4>(&table, &mut block),
            15..=28 => lanes.read_block::<2>(&table, &mut block),
            _ => lanes.read_block::<1>(&table, &mut block),
        }
        finish(&mut block);
        values.extend_from_slice(&block);
    }
    let rest = block.get_mut(..count % BLOCK).unwrap_or_default();
    lanes.read_rest(&table, rest);
    finish(rest);
    values.extend_from_slice(rest);
    lanes.finish()?;
    Ok(values)
}

/// What the next bits may begin with.
struct Table {
    /// By the next bits, as many as the longest code has: bits of the code in the lowest byte, of the whole number in the
    /// one above, and above these the smallest number of the class.
    entries: [u64; SPAN],
    code_bits_max: u8,
    number_bits_max: u8,
}

impl Table {
    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let (first, last) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        let used = (last + 1).checked_sub(first).ok_or_else(|| Error::corruption("codes of no classes"))?;
        let pairs = reader.take(used.div_ceil(2))?;
        // An unused half of a byte is 0.
        let is_odd = pairs.last().is_some_and(|pair| used % 2 == 1 && 15 < *pair);
        let mut lengths = [0; CLASSES];
        let nibbles = pairs.iter().flat_map(|pair| [pair & 15, pair >> 4]);
        lengths.iter_mut().skip(first).zip(nibbles).for_each(|(length, nibble)| *length = nibble);
        // Every row of bits must begin with a code.
        let room: usize = lengths.iter().filter(|length| 0 < **length).map(|length| SPAN >> *length).sum();
        if lengths.iter().any(|length| CODE_BITS_MAX < *length) || room != SPAN || is_odd {
            return Err(Error::corruption("the codes of numbers do not fit together"));
        }
        let code_bits_max = lengths.iter().copied().max().unwrap_or(0);
        let mut table = Self { entries: [0; SPAN], code_bits_max, number_bits_max: 0 };
        for (class, code) in (0..=u8::MAX).zip(codes_of(&lengths)) {
            let length = code.length();
            if length == 0 {
                continue;
            }
            let number_bits = length + low_bits_of(class);
            table.number_bits_max = table.number_bits_max.max(number_bits);
            let entry = u64::from(length) | u64::from(number_bits) << 8 | base_of(class) << 16;
            // Whatever the bits behind the code.
            let places = table.entries.iter_mut().take(1 << code_bits_max).skip(code.bits());
            places.step_by(1 << length).for_each(|place| *place = entry);
        }
        Ok(table)
    }

    /// The number that some bits begin with, and how many it takes of them.
    #[inline]
    fn number(&self, bits: u64) -> (u64, u8) {
        let next = (bits & mask_of(self.code_bits_max)) as usize;
        // The remainder only says to the compiler that no check is needed.
        let entry = self.entries.get(next % SPAN).copied().unwrap_or(0);
        // The two lowest bytes.
        let (code_bits, number_bits) = (entry as u8, (entry >> 8) as u8);
        let low = (bits & mask_of(number_bits)) >> (code_bits & 63);
        ((entry >> 16) + low, number_bits)
    }
}

/// The lowest `width` bits, fewer than 64: that saves a look at the width.
#[inline]
fn mask_of(width: u8) -> u64 {
    (1 << (width & 63)) - 1
}

/// Where readers of the lanes are.
struct Lanes<'a> {
    bytes: &'a [u8],
    /// Bit of each lane that comes next.
    at: [usize; LANES],
    /// First byte behind each lane.
    ends: [usize; LANES],
}

impl<'a> Lanes<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let mut ends = [0; LANES];
        let mut end = 0;
        for lane in ends.iter_mut().take(LANES - 1) {
            end += reader.bounded(reader.rest().len())?;
            *lane = end;
        }
        let bytes = reader.rest();
        let [first, second, third, last] = &mut ends;
        *last = bytes.len();
        if *last < *third {
            return Err(Error::corruption(format!("{} bytes of codes, {third} expected", bytes.len())));
        }
        let at = [0, *first * 8, *second * 8, *third * 8];
        Ok(Self { bytes, at, ends })
    }

    /// Reads a block, `EACH` numbers of each lane from one load, which holds them.
    fn read_block<const EACH: usize>(&mut self, table: &Table, block: &mut [u64; BLOCK]) {
        let mut ats = self.at;
        let (rows, _) = block.as_chunks_mut::<LANES>();
        for rows in rows.chunks_exact_mut(EACH) {
            let mut words = ats.map(|at| load(self.bytes, at));
            for row in rows {
                for ((value, word), at) in row.iter_mut().zip(&mut words).zip(&mut ats) {
                    let (number, bits) = table.number(*word);
                    *value = number;
                    *word >>= bits & 63;
                    *at += usize::from(bits);
                }
            }
        }
        self.at = ats;
    }

    /// Reads the last numbers.
    fn read_rest(&mut self, table: &Table, rest: &mut [u64]) {
        for row in rest.chunks_mut(LANES) {
            for (value, at) in row.iter_mut().zip(&mut self.at) {
                let (number, bits) = table.number(load(self.bytes, *at));
                *value = number;
                *at += usize::from(bits);
            }
        }
    }

    /// Whether each lane ends where its numbers do.
    fn finish(self) -> Result<()> {
        let is_whole = self.at.iter().zip(self.ends).all(|(at, end)| at.div_ceil(8) == end);
        if is_whole { Ok(()) } else { Err(Error::corruption("the codes of numbers end elsewhere")) }
    }
}

/// The bits from a place on, 57 at least; zeros behind the end.
#[inline]
fn load(bytes: &[u8], bit: usize) -> u64 {
    let rest = bytes.get(bit / 8..).unwrap_or_default();
    let word = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; 8];
        padded.iter_mut().zip(rest).for_each(|(padded, byte)| *padded = *byte);
        padded
    });
    u64::from_le_bytes(word) >> (bit % 8)
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
    fn classes_are_ascending_and_cover_all_numbers() {
        let edge = (1u64 << NUMBER_BITS_MAX) - 1;
        assert_eq!((class_of(0), class_of(15), class_of(16), class_of(edge)), (0, 15, 16, u8::MAX));
        for class in 0..=u8::MAX {
            let (base, low_bits) = (base_of(class), low_bits_of(class));
            let last = base + mask_of(low_bits);
            assert_eq!((class_of(base), class_of(last)), (class, class));
            assert!(class == u8::MAX || base_of(class + 1) == last + 1, "class {class}");
        }
        assert_eq!(low_bits_of(u8::MAX) + CODE_BITS_MAX, 41, "less than what a load holds");
    }

    #[test]
    fn decode_numbers_of_every_length_and_count() {
        for bits in 1..=NUMBER_BITS_MAX {
            for count in [2, 3, 4, 5, 63, 64, 65, 127, 128, 200, 4096] {
                let noise = |index: u64| (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                // Of every length up to this one, short ones more often.
                let value =
                    |index: u64| (noise(index) >> (64 - bits)) >> (noise(index ^ 77) % u64::from(bits));
                let mut values: Vec<u64> = (0..count).map(value).collect();
                values[0] = mask_of(bits as u8);
                values[1] = 0;
                let bytes = written(&values);
                assert_eq!(decode(&bytes, values.len(), |_| {}).unwrap(), values, "{bits} bits, {count}");
                assert!(Plan::of(&values, bytes.len() - 1).is_none(), "a byte too many");
                assert!(Plan::of(&values, bytes.len()).is_some(), "{bits} bits, {count}");
            }
        }
    }

    /// With Fibonacci's numbers as counts each class would have a code longer by a bit than the next.
    #[test]
    fn codes_have_a_longest_length() {
        let (mut values, mut count, mut next) = (Vec::new(), 1u64, 1u64);
        for value in 0..20 {
            values.extend((0..count).map(|_| value));
            (count, next) = (next, count + next);
        }
        let plan = Plan::of(&values, usize::MAX).unwrap();
        let longest = plan.lengths.iter().max().copied();
        assert!(longest.is_some_and(|longest| (9..=CODE_BITS_MAX).contains(&longest)));
        assert_eq!(decode(&written(&values), values.len(), |_| {}).unwrap(), values);
        let all: Vec<u64> = (0..=u8::MAX).map(base_of).collect();
        assert!(Plan::of(&all, usize::MAX).unwrap().lengths.iter().all(|length| *length == 8));
        assert_eq!(decode(&written(&all), all.len(), |_| {}).unwrap(), all);
    }

    #[test]
    fn numbers_that_are_alike_or_too_long_have_no_codes() {
        assert!(Plan::of(&[], usize::MAX).is_none());
        assert!(Plan::of(&[7; 100], usize::MAX).is_none());
        assert!(Plan::of(&[16, 17], usize::MAX).is_none(), "one class");
        assert!(Plan::of(&[1, 1 << NUMBER_BITS_MAX], usize::MAX).is_none());
        assert!(Plan::of(&[1, (1 << NUMBER_BITS_MAX) - 1], usize::MAX).is_some());
    }

    /// The bytes are part of the file format.
    #[test]
    fn bytes_are_those_of_the_format() {
        // Classes 0 and 1 with codes 0 and 10, class 18 (20 and 21) with code 11 and a bit below: twelve numbers, three
        // of each lane.
        let values = [0, 0, 0, 0, 0, 0, 1, 0, 20, 0, 1, 21];
        // Lengths 1 and 2, nothing for 2 to 17, 2.
        let head = [0, 18, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 1];
        let lanes = [0b1100, 0, 0b1010, 0b1_1100];
        assert_eq!(written(&values), [&head[..], &lanes].concat());
    }

    #[test]
    fn decode_what_are_no_codes_is_corruption() {
        let good = written(&[0, 0, 0, 0, 0, 0, 1, 0, 20, 0, 1, 21]);
        let with = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            bytes
        };
        let none = Vec::new();
        for (bytes, count) in [
            (&none, 1),
            (&good, 48),
            (&good, usize::MAX),
            (&with(0, 19), 12),
            (&with(0, 1), 12),
            (&with(2, 0x11), 12),
            (&with(2, 0x31), 12),
            (&with(2, 0x2c), 12),
            (&with(12, 2), 12),
            (&with(14, 9), 12),
            (&[&good[..], &[0]].concat(), 12),
            // A class behind the last.
            (&vec![0, 0, 0x11, 1, 0, 0, 1], 1),
        ] {
            let error = decode(bytes, count, |_| {}).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corruption, "{bytes:?} {count}: {error}");
        }
        for len in 0..good.len() {
            let error = decode(&good[..len], 12, |_| {}).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corruption, "cut to {len}: {error}");
        }
    }
}
