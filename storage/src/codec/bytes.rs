//! Reads and writes the few shapes that file formats are made of: little-endian fixed widths, varints, and byte
//! strings with their length in front. Knows nothing of what they mean. The reader never looks past its input and
//! answers `Corruption` where the input ends too early.

#![warn(clippy::indexing_slicing)]

use crate::{Error, Result};

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::corruption(format!("{len} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(Error::corruption(format!("{N} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes, little-endian.
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian, two's complement.
    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// The eight bytes of a float, little-endian.
    pub(crate) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// A number of one to ten bytes, seven bits each, the lowest first.
    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Error::corruption("a varint is longer than 64 bits"))
    }

    /// A varint that may not exceed `max`.
    pub(crate) fn bounded(&mut self, max: usize) -> Result<usize> {
        at_most(self.varint()?, max)
    }

    /// A signed number, as [`put_zigzag`] writes it.
    pub(crate) fn zigzag(&mut self) -> Result<i64> {
        Ok(unzigzag(self.varint()?))
    }

    /// A varint that fits 32 bits.
    pub(crate) fn varint_u32(&mut self) -> Result<u32> {
        let number = self.varint()?;
        u32::try_from(number).map_err(|_| Error::corruption(format!("{number} does not fit 32 bits")))
    }

    /// The number of items that follow, each of at least `item_bytes_min` bytes: never more than the input earns.
    pub(crate) fn count(&mut self, item_bytes_min: usize) -> Result<usize> {
        let number = self.varint()?;
        self.count_of(number, item_bytes_min)
    }

    /// As [`Self::count`], for a number that was read already.
    pub(crate) fn count_of(&self, number: u64, item_bytes_min: usize) -> Result<usize> {
        at_most(number, self.rest.len() / item_bytes_min.max(1))
    }

    /// A byte string: its length as a varint, then the bytes.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8]> {
        let len = self.bounded(self.rest.len())?;
        self.take(len)
    }

    /// A byte string that must be UTF-8.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.slice()?).map_err(|_| Error::corruption("a name is not UTF-8"))
    }

    /// Ends reading; bytes that are left are an error.
    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corruption(format!("{} bytes too many", self.rest.len())))
    }
}

fn at_most(number: u64, max: usize) -> Result<usize> {
    match usize::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(Error::corruption(format!("a count is {number}, at most {max} is possible"))),
    }
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while let rest @ 1.. = number >> 7 {
        // The low seven bits, with the mark that more follow.
        out.push(0x80 | (number & 0x7f) as u8);
        number = rest;
    }
    out.push(number as u8);
}

/// Appends a length or count as a varint.
pub(crate) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, len as u64);
}

/// Appends a byte string with its length.
pub(crate) fn put_slice(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends, with its length in front.
pub(crate) fn put_with_len(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let mut bytes = Vec::new();
    write(&mut bytes)?;
    put_slice(out, &bytes);
    Ok(())
}

/// Appends a signed number: one near zero takes few bytes.
#[inline]
pub(crate) fn put_zigzag(out: &mut Vec<u8>, number: i64) {
    put_varint(out, zigzag(number));
}

/// Maps small numbers of either sign to small unsigned ones.
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
