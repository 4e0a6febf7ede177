//! The wire form of protobuf: fields off a slice, one by one, and fields onto a buffer. Knows no message.
//!
//! Nothing is copied and nothing is allocated, whatever a length says: a message is a slice, its fields are read as often
//! as its reader likes. What is not whole, or not of the type that a reader asks for, is [`Malformed`]. Groups, which
//! no message here has ever had, are malformed too.

#![warn(clippy::indexing_slicing)]

/// Bytes that are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf: {0}")]
pub struct Malformed(pub(crate) &'static str);

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Wire<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => {
                Err(Malformed("a number where bytes are expected"))
            }
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        simdutf8::basic::from_utf8(self.bytes()?).map_err(|_| Malformed("a string is not UTF-8"))
    }

    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            Self::Fixed64(_) | Self::Bytes(_) | Self::Fixed32(_) => {
                Err(Malformed("another type where a varint is expected"))
            }
        }
    }

    /// An `int32`, `uint32` or enum: only the low half counts.
    pub(crate) fn low_varint(self) -> Result<u32, Malformed> {
        #[expect(clippy::cast_possible_truncation, reason = "as the encoding says")]
        let low = self.varint()? as u32;
        Ok(low)
    }

    /// A `sint32`.
    pub(crate) fn sint32(self) -> Result<i32, Malformed> {
        i32::try_from(zigzag(self.varint()?)).map_err(|_| Malformed("a number is longer than 32 bits"))
    }

    pub(crate) fn int64(self) -> Result<i64, Malformed> {
        Ok(self.varint()?.cast_signed())
    }

    pub(crate) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32(_) => {
                Err(Malformed("another type where 64 bits are expected"))
            }
        }
    }

    /// A `double`; NaN keeps its bits.
    pub(crate) fn double(self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(self.fixed64()?))
    }
}

/// The fields of a message, in the order in which they stand. Ends behind the first that is malformed.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed("a field is cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), Malformed> {
        let tag = u32::try_from(take_varint(&mut self.rest)?).map_err(|_| Malformed("a tag is too large"))?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed("a field with the number 0"));
        }
        let value = match tag & 7 {
            0 => Wire::Varint(take_varint(&mut self.rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(array(self.take(8)?))),
            2 => {
                let len = take_varint(&mut self.rest)?;
                Wire::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(array(self.take(4)?))),
            _ => return Err(Malformed("an unknown wire type")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk::<N>().copied().unwrap_or([0; N])
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    // Tags and most lengths.
    if let Some((&byte, tail)) = rest.split_first()
        && byte < 0x80
    {
        *rest = tail;
        return Ok(u64::from(byte));
    }
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(Malformed("a varint is cut short"))?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed("a varint is longer than 64 bits"))
}

/// The number of a `sint32` or `sint64`: small ones of either sign are short.
pub(crate) fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// A repeated number: packed in one field, or alone in a field of its own.
pub(crate) fn packed_varints(value: Wire<'_>) -> impl Iterator<Item = Result<u64, Malformed>> {
    let (alone, mut rest) = match value {
        Wire::Bytes(bytes) => (None, bytes),
        Wire::Varint(_) | Wire::Fixed64(_) | Wire::Fixed32(_) => (Some(value.varint()), &[][..]),
    };
    let mut is_broken = false;
    alone.into_iter().chain(std::iter::from_fn(move || {
        if rest.is_empty() || is_broken {
            return None;
        }
        let number = take_varint(&mut rest);
        is_broken = number.is_err();
        Some(number)
    }))
}

/// As [`packed_varints`], of numbers of 64 bits.
pub(crate) fn packed_fixed64(value: Wire<'_>) -> Result<impl Iterator<Item = u64>, Malformed> {
    let (alone, bytes) = match value {
        Wire::Bytes(bytes) => (None, bytes),
        Wire::Varint(_) | Wire::Fixed64(_) | Wire::Fixed32(_) => (Some(value.fixed64()?), &[][..]),
    };
    if bytes.len() % 8 != 0 {
        return Err(Malformed("a packed field is cut short"));
    }
    Ok(alone.into_iter().chain(bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(array(chunk)))))
}

/// Appends a varint.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(0x80 | (number & 0x7f).to_le_bytes()[0]);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Bytes of a varint.
pub(crate) fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

fn push_tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    push_varint(out, u64::from(number << 3 | wire_type));
}

/// Appends a number as varint.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u32, value: u64) {
    push_tag(out, number, 0);
    push_varint(out, value);
}

/// Appends 64 bits.
pub(crate) fn push_fixed64(out: &mut Vec<u8>, number: u32, bits: u64) {
    push_tag(out, number, 1);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Appends the head of a string or message of so many bytes, which the caller appends behind it.
pub(crate) fn push_head(out: &mut Vec<u8>, number: u32, len: usize) {
    push_tag(out, number, 2);
    push_varint(out, len as u64);
}

/// Appends a string or bytes.
pub(crate) fn push_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    push_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail by panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, Malformed> {
        Fields::new(message).collect()
    }

    #[test]
    fn fields_of_all_types_are_read_off_bytes_written_by_hand() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint 150, the example of the protobuf documents
            0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g', // 2: bytes
            0x19, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, // 3: double 1.0
            0x25, 1, 0, 0, 0, // 4: fixed32
            0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // 5: int64 -1
        ];
        let fields = all(&message).unwrap();
        assert_eq!(fields[..2], [(1, Wire::Varint(150)), (2, Wire::Bytes(b"testing"))], "{fields:?}");
        assert_eq!(fields[2].1.double(), Ok(1.0));
        assert_eq!(fields[3], (4, Wire::Fixed32(1)));
        assert_eq!(fields[4].1.int64(), Ok(-1));
    }

    #[test]
    fn fields_cut_short_or_of_no_type_are_malformed_and_end_the_message() {
        for message in [
            &[0x08][..],
            &[0x12, 5, 1, 2],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0],
            &[0x09, 1, 2, 3],
            &[0x0b],
            &[0x00, 1],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0],
        ] {
            assert!(all(message).is_err(), "{message:?}");
            assert_eq!(Fields::new(message).count(), 1, "{message:?}");
        }
    }

    #[test]
    fn packed_numbers_are_read_alone_too() {
        let varints = |value| packed_varints(value).collect::<Result<Vec<_>, _>>();
        assert_eq!(varints(Wire::Bytes(&[1, 0x96, 1])), Ok(vec![1, 150]));
        assert_eq!(varints(Wire::Varint(7)), Ok(vec![7]));
        assert!(varints(Wire::Bytes(&[0x80])).is_err());
        assert!(varints(Wire::Fixed32(1)).is_err());
        let doubles = [1.5_f64, -2.0].map(|number| number.to_bits().to_le_bytes()).concat();
        let read: Vec<_> = packed_fixed64(Wire::Bytes(&doubles)).unwrap().map(f64::from_bits).collect();
        assert_eq!(read, [1.5, -2.0]);
        assert!(packed_fixed64(Wire::Bytes(&[0; 9])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_read(number in 1_u32..1 << 29, value: u64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            push_number(&mut out, number, value);
            prop_assert_eq!(out.len(), varint_len(u64::from(number) << 3) + varint_len(value));
            push_fixed64(&mut out, number, value);
            push_bytes(&mut out, number, &bytes);
            let wanted = [Wire::Varint(value), Wire::Fixed64(value), Wire::Bytes(&bytes)];
            let wanted: Vec<_> = wanted.into_iter().map(|wire| (number, wire)).collect();
            prop_assert_eq!(all(&out), Ok(wanted));
        }

        #[test]
        fn any_bytes_never_panic(bytes: Vec<u8>) {
            drop(all(&bytes));
        }
    }
}
