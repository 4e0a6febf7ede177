//! Numbers end to end, bit by bit, the lowest first.

#![warn(clippy::indexing_slicing)]

/// Appends numbers, each with its width, 0 to 64: it has no bits above that. The last byte is filled with zeros.
#[inline]
pub(super) fn put_bits(values: impl Iterator<Item = (u64, usize)>, out: &mut Vec<u8>) {
    let (mut word, mut filled) = (0u64, 0);
    values.for_each(|(value, width)| {
        word |= value << filled;
        filled += width;
        if 64 <= filled {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            word = if filled == 0 { 0 } else { value >> (width - filled) };
        }
    });
    out.extend(word.to_le_bytes().into_iter().take(filled.div_ceil(8)));
}

/// The lowest `width` bits, 0 to 64.
#[inline]
pub(super) fn mask(width: usize) -> u64 {
    u64::MAX.checked_shr(64 - width as u32).unwrap_or(0)
}
