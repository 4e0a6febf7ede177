//! Canonical series keys, tag by tag: the keys of a measurement repeat their tag keys and most of their values, and ids
//! that differ mostly have one length.
//!
//! Payload: varint number of shapes (a measurement and its tag keys), for each a varint number of names and the names;
//! the shape of each key; for each shape and each of its tags the values, each once, by first appearance, and the
//! value of each key as a number. Values: varint count, their lengths, their bytes. Values of one length
//! are turned: the first byte of each, then the second of each, and so on.
//!
//! What is no canonical key, or has too many tags, is written as `texts`.

#![warn(clippy::indexing_slicing)]

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::bytes::{Reader, put_len, put_slice, put_with_len};
use super::squeeze::{squeeze, unsqueeze};
use super::{Encoding, TEXT_BYTES_MAX, integers, texts};
use crate::model::StrColumn;
use crate::{Error, Result};

/// Level of zstd for values that are written once and read seldom.
const LEVEL: i32 = 3;
/// Tags of all keys together: bounds what a few bytes can make a reader allocate.
const TAGS_MAX: usize = 1 << 22;

/// Appends canonical keys: the encoding byte and the payload.
pub(crate) fn encode(keys: &StrColumn, out: &mut Vec<u8>) -> Result<()> {
    let Some(split) = Split::of(keys) else { return texts::encode(keys, out) };
    out.push(Encoding::Keys as u8);
    put_len(out, split.shapes.len());
    for shape in &split.shapes {
        put_len(out, shape.names.len());
        shape.names.iter().for_each(|name| put_slice(out, name));
    }
    put_with_len(out, |out| integers::encode(&split.shape_of_key, out))?;
    for tag in split.shapes.iter().flat_map(|shape| &shape.tags) {
        put_values(&tag.values, out)?;
        put_with_len(out, |out| integers::encode(&tag.codes, out))?;
    }
    Ok(())
}

/// Reads exactly `count` keys; `bytes` begins with the encoding byte. That they are canonical is not checked.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<StrColumn> {
    let (encoding, payload) = Encoding::split(bytes)?;
    if encoding != Encoding::Keys {
        return texts::decode_bytes(bytes, count, TEXT_BYTES_MAX);
    }
    let mut reader = Reader::new(payload);
    let mut shapes = Vec::new();
    for _ in 0..reader.count(1)? {
        let names = (0..reader.count(1)?).map(|_| reader.slice()).collect::<Result<Vec<_>>>()?;
        shapes.push(ReadShape { names, tags: Vec::new(), keys: 0 });
    }
    let shape_of_key = integers::decode(reader.slice()?, count)?;
    let shape_of_key: Vec<usize> =
        shape_of_key.into_iter().map(|shape| usize::try_from(shape).unwrap_or(usize::MAX)).collect();
    for shape in &shape_of_key {
        shapes.get_mut(*shape).ok_or_else(|| unknown("shape", *shape))?.keys += 1;
    }
    let tags = shapes.iter().map(|shape| shape.keys.saturating_mul(shape.names.len()));
    if TAGS_MAX < tags.fold(0, usize::saturating_add) {
        return Err(Error::corruption(format!("{count} series keys have more than {TAGS_MAX} tags")));
    }
    let mut bytes_max = TEXT_BYTES_MAX;
    for shape in &mut shapes {
        for _ in shape.names.iter().skip(1) {
            let values = take_values(&mut reader, shape.keys, bytes_max)?;
            bytes_max -= values.bytes.len();
            let codes = integers::decode(reader.slice()?, shape.keys)?;
            shape.tags.push(ReadTag { values, codes: codes.into_iter() });
        }
    }
    reader.finish()?;
    join(&mut shapes, &shape_of_key)
}

/// Keys taken apart.
struct Split<'a> {
    shapes: Vec<Shape<'a>>,
    shape_of_key: Vec<u64>,
}

/// Keys with the same measurement and tag keys.
struct Shape<'a> {
    /// The measurement, then the tag keys.
    names: Vec<&'a [u8]>,
    tags: Vec<Tag<'a>>,
}

/// The values of one tag.
#[derive(Default)]
struct Tag<'a> {
    values: Vec<&'a [u8]>,
    codes: Vec<u64>,
    code_of: HashMap<&'a [u8], u64, RandomState>,
}

impl<'a> Split<'a> {
    /// `None` when they are better written as texts.
    fn of(keys: &'a StrColumn) -> Option<Self> {
        if TEXT_BYTES_MAX < keys.bytes.len() {
            return None;
        }
        let mut split = Self { shapes: Vec::new(), shape_of_key: Vec::with_capacity(keys.len()) };
        let mut shape_numbers: HashMap<Vec<&[u8]>, usize, RandomState> = HashMap::default();
        let (mut names, mut values, mut tags) = (Vec::new(), Vec::new(), 0_usize);
        for index in 0..keys.len() {
            parts_of(keys.bytes_of(index)?, &mut names, &mut values)?;
            tags += names.len();
            let number = match shape_numbers.get(&names) {
                Some(number) => *number,
                None => {
                    let tags = values.iter().map(|_| Tag::default()).collect();
                    split.shapes.push(Shape { names: names.clone(), tags });
                    shape_numbers.insert(names.clone(), split.shapes.len() - 1);
                    split.shapes.len() - 1
                }
            };
            split.shape_of_key.push(number as u64);
            for (tag, value) in split.shapes.get_mut(number)?.tags.iter_mut().zip(&values) {
                tag.push(value);
            }
        }
        (tags <= TAGS_MAX).then_some(split)
    }
}

impl<'a> Tag<'a> {
    fn push(&mut self, value: &'a [u8]) {
        let next = self.values.len() as u64;
        let code = *self.code_of.entry(value).or_insert(next);
        if code == next {
            self.values.push(value);
        }
        self.codes.push(code);
    }
}

/// Takes a key apart; `None` when it is no measurement with whole tags.
fn parts_of<'a>(mut key: &'a [u8], names: &mut Vec<&'a [u8]>, values: &mut Vec<&'a [u8]>) -> Option<()> {
    let mut part = || {
        let (len, rest) = key.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        key = rest;
        Some((part, rest.is_empty()))
    };
    names.clear();
    values.clear();
    let (name, mut is_last) = part()?;
    names.push(name);
    while !is_last {
        names.push(part()?.0);
        let value;
        (value, is_last) = part()?;
        values.push(value);
    }
    Some(())
}

/// A shape on its way out.
struct ReadShape<'a> {
    names: Vec<&'a [u8]>,
    tags: Vec<ReadTag>,
    keys: usize,
}

struct ReadTag {
    values: StrColumn,
    codes: std::vec::IntoIter<u64>,
}

fn join(shapes: &mut [ReadShape<'_>], shape_of_key: &[usize]) -> Result<StrColumn> {
    let mut keys = StrColumn { bytes: Vec::new(), ends: Vec::with_capacity(shape_of_key.len()) };
    for number in shape_of_key {
        let shape = shapes.get_mut(*number).ok_or_else(|| unknown("shape", *number))?;
        let mut names = shape.names.iter();
        names.next().map_or(Ok(()), |name| put_part(name, &mut keys.bytes))?;
        for (name, tag) in names.zip(&mut shape.tags) {
            put_part(name, &mut keys.bytes)?;
            let code = tag.codes.next().and_then(|code| usize::try_from(code).ok()).unwrap_or(usize::MAX);
            let value = tag.values.bytes_of(code).ok_or_else(|| unknown("value", code))?;
            put_part(value, &mut keys.bytes)?;
            texts::end_of(keys.bytes.len() as u64)?;
        }
        keys.ends.push(texts::end_of(keys.bytes.len() as u64)?);
    }
    Ok(keys)
}

fn put_part(part: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let len = u16::try_from(part.len());
    let len =
        len.map_err(|_| Error::corruption(format!("{} bytes in a part of a series key", part.len())))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part);
    Ok(())
}

fn unknown(what: &str, number: usize) -> Error {
    Error::corruption(format!("{what} {number} of a series key is not there"))
}

fn put_values(values: &[&[u8]], out: &mut Vec<u8>) -> Result<()> {
    put_len(out, values.len());
    let lengths: Vec<u64> = values.iter().map(|value| value.len() as u64).collect();
    put_with_len(out, |out| integers::encode(&lengths, out))?;
    let bytes = values.concat();
    put_with_len(out, |out| match width_of(&lengths) {
        Some(width) => squeeze(&turned(&bytes, width), LEVEL, out),
        None => squeeze(&bytes, LEVEL, out),
    })
}

/// Reads at most `count_max` values of at most `bytes_max` bytes.
fn take_values(reader: &mut Reader<'_>, count_max: usize, bytes_max: usize) -> Result<StrColumn> {
    let count = reader.bounded(count_max)?;
    let lengths = integers::decode(reader.slice()?, count)?;
    let ends = texts::ends_of(&lengths)?;
    let total = ends.last().map_or(0, |end| *end as usize);
    if bytes_max < total {
        return Err(Error::corruption(format!("values of tags of more than {TEXT_BYTES_MAX} bytes")));
    }
    let bytes = unsqueeze(reader.slice()?, total)?;
    if bytes.len() != total {
        return Err(Error::corruption(format!("{} bytes in {count} values of a tag", bytes.len())));
    }
    let bytes = match width_of(&lengths) {
        // Turning a table of so many rows is undone by turning one of so many columns.
        Some(width) => turned(&bytes, bytes.len() / width.max(1)),
        None => bytes.into_owned(),
    };
    Ok(StrColumn { bytes, ends })
}

/// The length of all values, when they have one and turning them changes something.
fn width_of(lengths: &[u64]) -> Option<usize> {
    let (first, rest) = lengths.split_first()?;
    let is_one = !rest.is_empty() && rest.iter().all(|length| length == first);
    usize::try_from(*first).ok().filter(|width| is_one && 1 < *width)
}

/// The first byte of each row, then the second of each, and so on.
fn turned(bytes: &[u8], width: usize) -> Vec<u8> {
    let rows = bytes.chunks_exact(width.max(1));
    (0..width).flat_map(|column| rows.clone().filter_map(move |row| row.get(column)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::model::SeriesKey;

    fn column<T: AsRef<[u8]>>(keys: impl IntoIterator<Item = T>) -> StrColumn {
        let mut column = StrColumn::default();
        for key in keys {
            column.bytes.extend_from_slice(key.as_ref());
            column.end_text();
        }
        column
    }

    fn key(measurement: &str, tags: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        SeriesKey::new(measurement, tags.iter().copied()).expect("a good key").encode(&mut bytes);
        bytes
    }

    /// Encodes, decodes, compares; gives the encoding and the bytes.
    fn check(keys: &StrColumn) -> (Encoding, Vec<u8>) {
        let mut bytes = Vec::new();
        encode(keys, &mut bytes).expect("within the limits");
        assert_eq!(decode(&bytes, keys.len()).expect("what was written"), *keys);
        (Encoding::split(&bytes).expect("an encoding").0, bytes)
    }

    fn pods(count: usize) -> StrColumn {
        column((0..count).map(|n| {
            let id = format!("{:08x}-{n:07}", (n as u32).wrapping_mul(0x9e37_79b9));
            let app = format!("app_{:03}", n.wrapping_mul(7919) % 200);
            match n % 11 {
                0 => key("pod", &[("id", &id), ("zone", &format!("z{n}"))]),
                _ => key("pod", &[("id", &id), ("app", &app)]),
            }
        }))
    }

    #[test]
    fn decode_of_encode_is_identity() {
        check(&StrColumn::default());
        let one = key("m", &[]);
        assert_eq!(check(&column([&one])).0, Encoding::Keys);
        assert_eq!(check(&column([&key("m", &[("a", "1"), ("b", "é")]), &one, &one])).0, Encoding::Keys);
        let (encoding, bytes) = check(&pods(4096));
        assert_eq!(encoding, Encoding::Keys);
        let mut as_texts = Vec::new();
        texts::encode(&pods(4096), &mut as_texts).expect("within the limits");
        assert!(2 * bytes.len() < as_texts.len(), "{} {}", bytes.len(), as_texts.len());
    }

    #[test]
    fn what_is_no_key_is_written_as_texts() {
        for bytes in [&b""[..], b"x", b"\x05\0a", b"\x01\0a\x01\0b", b"\x01\0a\x01\0b\x01\0cx"] {
            assert_eq!(check(&column([&key("m", &[])[..], bytes])).0, Encoding::Texts, "{bytes:?}");
        }
    }

    #[test]
    fn decode_truncated_or_flipped_is_corruption_or_other_keys() {
        let keys = pods(30);
        let (_, bytes) = check(&keys);
        for len in 0..bytes.len() {
            let cut = bytes.get(..len).unwrap_or_default();
            let kind = decode(cut, keys.len()).map_err(|error| error.kind());
            assert_eq!(kind, Err(ErrorKind::Corruption), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            match decode(&damaged, keys.len()) {
                Ok(found) => assert_eq!(found.len(), keys.len()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}"),
            }
        }
        for count in [29, 31] {
            assert!(decode(&bytes, count).is_err());
        }
    }

    #[test]
    fn decode_few_bytes_that_ask_for_much_is_corruption() {
        // One shape of 4,000 names, and 4,096 keys of it.
        let mut bytes = vec![Encoding::Keys as u8, 1];
        put_len(&mut bytes, 4000);
        bytes.extend([0; 4000]);
        put_with_len(&mut bytes, |out| integers::encode(&[0; 4096], out)).expect("numbers");
        bytes.extend([0; 100_000]);
        let error = decode(&bytes, 4096).expect_err("too many");
        assert_eq!(error.to_string(), "4096 series keys have more than 4194304 tags");
    }

    /// Few bytes of zstd stand for much: it must not add up, tag by tag or key by key.
    #[test]
    fn decode_few_bytes_that_stand_for_many_values_is_corruption() {
        let with = |tags: usize, len: u64, count: usize| {
            let mut bytes = vec![Encoding::Keys as u8, 1];
            put_len(&mut bytes, 1 + tags);
            bytes.extend(vec![0; 1 + tags]);
            put_with_len(&mut bytes, |out| integers::encode(&vec![0; count], out)).expect("numbers");
            for _ in 0..tags {
                put_len(&mut bytes, 1);
                put_with_len(&mut bytes, |out| integers::encode(&[len], out)).expect("numbers");
                let value = vec![0; len as usize];
                put_with_len(&mut bytes, |out| squeeze(&value, LEVEL, out)).expect("bytes");
                put_with_len(&mut bytes, |out| integers::encode(&vec![0; count], out)).expect("numbers");
            }
            assert!(bytes.len() < 64 << 10, "{} bytes", bytes.len());
            decode(&bytes, count).expect_err("too much").to_string()
        };
        let error = with(5, 64 << 20, 1);
        assert_eq!(error, "values of tags of more than 268435456 bytes");
        let error = with(8, 60_000, 4096);
        assert!(error.contains("bytes of text, at most 268435456 fit a page"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decode_of_encode_of_any_keys_is_identity(
            keys in prop::collection::vec(
                ("[a-c]{1,2}", prop::collection::btree_map("[a-d]{1,2}", "[a-zé]{1,3}", 0..4)), 0..60,
            )
        ) {
            let keys = keys.iter().filter_map(|(name, tags)| {
                let mut bytes = Vec::new();
                let tags = tags.iter().map(|(key, value)| (&**key, &**value));
                SeriesKey::new(name, tags).ok()?.encode(&mut bytes);
                Some(bytes)
            });
            let keys = column(keys);
            let mut bytes = Vec::new();
            encode(&keys, &mut bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(decode(&bytes, keys.len()).ok(), Some(keys));
        }

        #[test]
        fn decode_of_noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 1..200), count in 0_usize..99) {
            if let Some(encoding) = bytes.first_mut() {
                *encoding = Encoding::Keys as u8;
            }
            if let Err(error) = decode(&bytes, count) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
    }
}
