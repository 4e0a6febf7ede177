//! Sketches of distinct values, as streams of whole numbers, so that like stands beside like.
//!
//! Payload: varint length and bytes of each stream, as [`integers`]: number of entries of each row (0: it is folded),
//! number of the first register of each listed row, distance of each further register from the one before it, rank of
//! each entry; then the ranks of the folded rows, 4096 bytes each, through zstd (form byte, bytes).

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_with_len};
use super::squeeze::{squeeze, unsqueeze};
use super::{Encoding, Packing, UNIQUES_BYTES_MAX, integers};
use crate::model::UniquesColumn;
use crate::model::uniques::{ENTRIES_MAX, ENTRY_RANK_BITS, REGISTERS, UniquesRef};
use crate::{Error, ErrorKind, Result};

/// Level of zstd for ranks, of which only the frequencies say something.
const LEVEL: i32 = 1;

/// Appends the encoding byte and the payload, of the valid rows (`None`: all).
pub(super) fn encode(sketches: &UniquesColumn, valid: Option<&[bool]>, out: &mut Vec<u8>) -> Result<()> {
    let (mut sizes, mut firsts, mut gaps, mut ranks, mut folded) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let is_valid = |row: usize| valid.is_none_or(|valid| valid.get(row).copied().unwrap_or(false));
    for (_, sketch) in sketches.iter().enumerate().filter(|(row, _)| is_valid(*row)) {
        if !sketch.is_sound() || sketch.is_empty() {
            return Err(Error::new(ErrorKind::Internal, "a sketch is not one of values"));
        }
        let entries = match sketch {
            UniquesRef::Listed(entries) => entries,
            UniquesRef::Folded(registers) => {
                folded.extend_from_slice(registers);
                &[]
            }
        };
        sizes.push(entries.len() as u64);
        let mut before: Option<u64> = None;
        for entry in entries {
            let register = u64::from(entry >> ENTRY_RANK_BITS);
            match before {
                None => firsts.push(register),
                Some(before) => gaps.push(register - before),
            }
            before = Some(register);
            ranks.push(u64::from(entry & ((1 << ENTRY_RANK_BITS) - 1)));
        }
    }
    if UNIQUES_BYTES_MAX < folded.len() + ranks.len() * size_of::<u32>() {
        let message = format!("sketches of more than {UNIQUES_BYTES_MAX} bytes do not fit a page");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    out.push(Encoding::Uniques as u8);
    for stream in [&sizes, &firsts, &gaps, &ranks] {
        put_with_len(out, |out| integers::encode_as(stream, Packing::Fast, out))?;
    }
    squeeze(&folded, LEVEL, out)
}

/// Reads exactly `count` sketches; `bytes` begins with the encoding byte.
pub(super) fn decode(bytes: &[u8], count: usize) -> Result<UniquesColumn> {
    let (encoding, payload) = Encoding::split(bytes)?;
    if encoding != Encoding::Uniques {
        return Err(Error::corruption(format!("encoding {encoding:?} does not hold sketches")));
    }
    let mut reader = Reader::new(payload);
    let sizes = integers::decode(reader.slice()?, count)?;
    let Sizes { listed_count, entries_count, folded_bytes } = Sizes::of(&sizes)?;
    let firsts = integers::decode(reader.slice()?, listed_count)?;
    let gaps = integers::decode(reader.slice()?, entries_count - listed_count)?;
    let ranks = integers::decode(reader.slice()?, entries_count)?;
    let folded = unsqueeze(reader.rest(), folded_bytes)?;
    if folded.len() != folded_bytes {
        return Err(Error::corruption(format!(
            "{} bytes of sketches, {folded_bytes} expected",
            folded.len()
        )));
    }
    let (mut firsts, mut gaps, mut ranks) = (firsts.into_iter(), gaps.into_iter(), ranks.into_iter());
    let mut folded = folded.chunks_exact(REGISTERS);
    let mut sketches = UniquesColumn::default();
    let mut entries = Vec::with_capacity(ENTRIES_MAX);
    for size in sizes {
        entries.clear();
        let mut before = None;
        for _ in 0..size {
            let register = match before {
                None => firsts.next(),
                Some(before) => gaps.next().and_then(|gap| gap.checked_add(before)),
            };
            let entry = register.zip(ranks.next()).and_then(|(register, rank)| entry_of(register, rank));
            entries.push(entry.ok_or_else(|| Error::corruption("an entry of a sketch is too large"))?);
            before = register;
        }
        let sketch = match size {
            0 => UniquesRef::Folded(folded.next().unwrap_or_default()),
            _ => UniquesRef::Listed(&entries),
        };
        if !sketch.is_sound() {
            return Err(Error::corruption("a sketch is not one of values"));
        }
        sketches.push(sketch);
    }
    Ok(sketches)
}

/// What the sizes of the rows say of all that follows.
struct Sizes {
    listed_count: usize,
    entries_count: usize,
    folded_bytes: usize,
}

impl Sizes {
    /// Before anything else is read, so that a few bytes cannot ask for more than a page may hold.
    fn of(sizes: &[u64]) -> Result<Self> {
        if let Some(size) = sizes.iter().find(|size| **size > ENTRIES_MAX as u64) {
            return Err(Error::corruption(format!(
                "a sketch of {size} entries, at most {ENTRIES_MAX} are listed"
            )));
        }
        let listed_count = sizes.iter().filter(|size| **size != 0).count();
        let entries_count = usize::try_from(sizes.iter().sum::<u64>()).unwrap_or(usize::MAX);
        let folded_bytes = (sizes.len() - listed_count).saturating_mul(REGISTERS);
        let bytes = entries_count.saturating_mul(size_of::<u32>()).saturating_add(folded_bytes);
        if UNIQUES_BYTES_MAX < bytes {
            return Err(Error::corruption(format!("sketches of {bytes} bytes do not fit a page")));
        }
        Ok(Self { listed_count, entries_count, folded_bytes })
    }
}

fn entry_of(register: u64, rank: u64) -> Option<u32> {
    if rank >> ENTRY_RANK_BITS != 0 {
        return None;
    }
    u32::try_from(register.checked_mul(1 << ENTRY_RANK_BITS)? | rank).ok()
}
