//! Column codecs: pure functions from values to bytes and back, bit for bit. No I/O and no checksums; who stores
//! the bytes guards them (`docs/format.md`).
//!
//! A column is written as its validity, then one encoding byte and a payload that holds the valid values only.
//! The reader knows from elsewhere how many rows there are, so no count in the bytes decides how much memory is
//! taken. Read in this order: this file (ids, validity), `integers` (where all numbers end up) with `affine`,
//! `runs`, `scaled`, `pfor`, `huffman`, `plain`, `entropy` and `squeeze`, then `floats` with `decimal`, `bools`, `texts`,
//! `histograms`, `uniques` and, for series tables, `keys`.

#![warn(clippy::indexing_slicing)]

mod affine;
mod bits;
mod bools;
pub(crate) mod bytes;
mod decimal;
mod entropy;
mod floats;
mod histograms;
mod huffman;
mod integers;
pub(crate) mod keys;
mod pfor;
mod plain;
mod runs;
mod scaled;
pub(crate) mod squeeze;
#[cfg(test)]
mod tests;
pub(crate) mod texts;
mod uniques;

use std::borrow::Cow;

use self::bytes::{Reader, put_with_len};
use crate::model::{HistogramColumn, StrColumn, UniquesColumn, Values};
use crate::{Error, ErrorKind, Result};

/// Text bytes of one column in one page at most; a reader refuses more.
pub const TEXT_BYTES_MAX: usize = 256 << 20;
/// Histogram buckets of one column in one page at most; a reader refuses more.
pub const BUCKETS_MAX: usize = 1 << 21;
/// Bytes of the sketches of one column in one page at most, in memory; a reader refuses more. Pages end at half of it.
pub const UNIQUES_BYTES_MAX: usize = 4 << 20;

/// Validity byte: every row has a value.
const ALL_VALID: u8 = 0;
/// Validity byte: no row has a value.
const NONE_VALID: u8 = 1;
/// Validity byte: truth values follow.
const SOME_VALID: u8 = 2;

/// How values are written. The numbers are part of the file format; 32 to 47 are set aside for ALP and FFOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// No values.
    Empty = 0,
    /// Whole numbers, all the same.
    Const = 1,
    /// Whole numbers, a fixed step apart.
    Affine = 2,
    /// Whole numbers, runs of equal differences.
    Runs = 3,
    /// Whole numbers: minimum, greatest common divisor, pco.
    Scaled = 4,
    /// Floats that are whole numbers over a power of ten.
    Decimal = 5,
    /// Floats whose bits are written as whole numbers.
    FloatBits = 6,
    /// Floats through pco.
    Float = 7,
    /// Truth values, one bit each.
    Bits = 8,
    /// Truth values as whole numbers.
    BoolNumbers = 9,
    /// Texts as codes into a dictionary.
    Codes = 10,
    /// Texts: lengths and bytes.
    Texts = 11,
    /// Histograms as streams of whole numbers.
    Histograms = 12,
    /// Whole numbers or floats, eight bytes each: what would only grow.
    Plain = 13,
    /// Series keys, tag by tag.
    Keys = 14,
    /// Sketches of distinct values as streams of whole numbers.
    Uniques = 15,
    /// Whole numbers: minimum, greatest common divisor, patched frame of reference.
    Pfor = 16,
    /// Whole numbers: minimum, greatest common divisor, Huffman codes.
    Huffman = 17,
}

impl Encoding {
    /// Reads the number written in a file; `None` for one this version does not know.
    pub fn from_u8(number: u8) -> Option<Self> {
        #[rustfmt::skip]
        const ALL: [Encoding; 18] = [
            Encoding::Empty, Encoding::Const, Encoding::Affine, Encoding::Runs, Encoding::Scaled,
            Encoding::Decimal, Encoding::FloatBits, Encoding::Float, Encoding::Bits, Encoding::BoolNumbers,
            Encoding::Codes, Encoding::Texts, Encoding::Histograms, Encoding::Plain, Encoding::Keys,
            Encoding::Uniques, Encoding::Pfor, Encoding::Huffman,
        ];
        ALL.get(usize::from(number)).copied()
    }

    /// Splits the encoding byte off.
    fn split(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let mut reader = Reader::new(bytes);
        let number = reader.u8()?;
        let encoding = Self::from_u8(number);
        let unknown = || Error::corruption(format!("unknown encoding {number}"));
        Ok((encoding.ok_or_else(unknown)?, reader.rest()))
    }
}

/// What kind of values a column holds; the numbers are part of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Values::F64`]
    F64 = 0,
    /// [`Values::I64`]
    I64 = 1,
    /// [`Values::U64`]
    U64 = 2,
    /// [`Values::Bool`]
    Bool = 3,
    /// [`Values::Str`]
    Str = 4,
    /// [`Values::Hist`]
    Hist = 5,
    /// [`Values::Uniques`]
    Uniques = 6,
}

impl Kind {
    /// The kind of these values.
    pub fn of(values: &Values) -> Self {
        match values {
            Values::F64(_) => Self::F64,
            Values::I64(_) => Self::I64,
            Values::U64(_) => Self::U64,
            Values::Bool(_) => Self::Bool,
            Values::Str(_) => Self::Str,
            Values::Hist(_) => Self::Hist,
            Values::Uniques(_) => Self::Uniques,
        }
    }

    /// Reads the number written in a file; `None` for one this version does not know.
    pub fn from_u8(number: u8) -> Option<Self> {
        const ALL: [Kind; 7] =
            [Kind::F64, Kind::I64, Kind::U64, Kind::Bool, Kind::Str, Kind::Hist, Kind::Uniques];
        ALL.get(usize::from(number)).copied()
    }

    /// Whether values differ in size.
    pub(crate) fn is_heavy(self) -> bool {
        matches!(self, Self::Str | Self::Hist | Self::Uniques)
    }

    /// No values of this kind.
    pub fn empty(self) -> Values {
        match self {
            Self::F64 => Values::F64(Vec::new()),
            Self::I64 => Values::I64(Vec::new()),
            Self::U64 => Values::U64(Vec::new()),
            Self::Bool => Values::Bool(Vec::new()),
            Self::Str => Values::Str(StrColumn::default()),
            Self::Hist => Values::Hist(HistogramColumn::default()),
            Self::Uniques => Values::Uniques(UniquesColumn::default()),
        }
    }
}

/// How much longer whole numbers may become, so that they are read and written faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// By a twentieth: rows, of which there are most.
    Dense,
    /// By a fifth: cells, which are read by most queries.
    Fast,
}

/// Values on their way into a file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// One per row.
    pub values: &'a Values,
    /// Which rows have a value; `None`: all.
    pub valid: Option<&'a [bool]>,
    /// For texts: the dictionary codes of the valid rows, if they are to be written instead of the texts.
    pub codes: Option<&'a [u64]>,
    /// How numbers are packed.
    pub packing: Packing,
}

/// The validity that was encoded last: many columns of a page have the same.
#[derive(Debug, Default)]
pub(crate) struct LastValidity {
    valid: Vec<bool>,
    bytes: Vec<u8>,
}

impl LastValidity {
    fn encode(&mut self, valid: &[bool]) -> Result<&[u8]> {
        if self.valid != valid {
            self.valid.clear();
            self.bytes.clear();
            put_with_len(&mut self.bytes, |out| bools::encode(valid, out))?;
            self.valid.extend_from_slice(valid);
        }
        Ok(&self.bytes)
    }
}

/// Appends a column: validity, encoding byte, payload. Returns the encoding chosen.
///
/// # Errors
/// `LimitExceeded` when texts or histograms are more than a page holds; `Internal` when the parts do not fit
/// together.
pub fn encode(source: &Source<'_>, out: &mut Vec<u8>) -> Result<Encoding> {
    encode_after(&mut LastValidity::default(), source, out)
}

/// As [`encode`], one of the columns of a page after another.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_after(
    last: &mut LastValidity,
    source: &Source<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoding> {
    let rows = source.values.len();
    let valid_count = source.valid.map_or(rows, |valid| valid.iter().filter(|valid| **valid).count());
    if source.valid.is_some_and(|valid| valid.len() != rows)
        || source.codes.is_some_and(|codes| codes.len() != valid_count)
    {
        return Err(Error::new(ErrorKind::Internal, "a column's parts differ in length"));
    }
    match source.valid {
        Some(_) if valid_count == 0 => out.push(NONE_VALID),
        Some(valid) if valid_count < rows => {
            out.push(SOME_VALID);
            out.extend_from_slice(last.encode(valid)?);
        }
        _ => out.push(ALL_VALID),
    }
    let start = out.len();
    encode_dense(source, valid_count, out)?;
    let number = out.get(start).copied().and_then(Encoding::from_u8);
    number.ok_or_else(|| Error::new(ErrorKind::Internal, "a codec wrote no encoding"))
}

fn encode_dense(source: &Source<'_>, valid_count: usize, out: &mut Vec<u8>) -> Result<()> {
    if valid_count == 0 {
        out.push(Encoding::Empty as u8);
        return Ok(());
    }
    if let Some(codes) = source.codes {
        return texts::encode_codes(codes, out);
    }
    let valid = source.valid.filter(|valid| valid_count < valid.len());
    match source.values {
        Values::F64(values) => floats::encode(&dense(values, valid), source.packing, out),
        Values::I64(values) => {
            let numbers: Vec<u64> = dense(values, valid).iter().copied().map(integers::ordered).collect();
            integers::encode_as(&numbers, source.packing, out)
        }
        Values::U64(values) => integers::encode_as(&dense(values, valid), source.packing, out),
        Values::Bool(values) => bools::encode(&dense(values, valid), out),
        Values::Str(values) => match valid {
            None => texts::encode(values, out),
            Some(valid) => texts::encode(&dense_texts(values, valid), out),
        },
        Values::Hist(values) => histograms::encode(values, valid, out),
        Values::Uniques(values) => uniques::encode(values, valid, out),
    }
}

/// The valid values, side by side.
fn dense<'a, T: Clone>(values: &'a [T], valid: Option<&[bool]>) -> Cow<'a, [T]> {
    let Some(valid) = valid else { return Cow::Borrowed(values) };
    let mut dense = Vec::with_capacity(values.len());
    dense.extend(values.iter().zip(valid).filter(|(_, valid)| **valid).map(|(value, _)| value.clone()));
    Cow::Owned(dense)
}

fn dense_texts(texts: &StrColumn, valid: &[bool]) -> StrColumn {
    let mut kept = StrColumn::default();
    for (index, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
        kept.bytes.extend_from_slice(texts.bytes_of(index).unwrap_or_default());
        kept.end_text();
    }
    kept
}

/// A column as read: one entry per row, and which rows have a value (`None`: all).
pub type Decoded = (Values, Option<Vec<bool>>);

/// Reads a column of `rows` rows, which must be all of `bytes`. Rows without a value get a placeholder. Texts that
/// are codes need their `dictionary`.
///
/// # Errors
/// `Corruption` when the bytes are not such a column.
pub fn decode(kind: Kind, rows: usize, dictionary: Option<&StrColumn>, bytes: &[u8]) -> Result<Decoded> {
    let mut reader = Reader::new(bytes);
    let valid = take_validity(&mut reader, rows)?;
    let count = valid.as_ref().map_or(rows, |valid| valid.iter().filter(|valid| **valid).count());
    let values = decode_dense(kind, count, dictionary, reader.rest())?;
    let Some(valid) = valid else { return Ok((values, None)) };
    let values = match values {
        Values::F64(values) => Values::F64(spread(values, &valid)),
        Values::I64(values) => Values::I64(spread(values, &valid)),
        Values::U64(values) => Values::U64(spread(values, &valid)),
        Values::Bool(values) => Values::Bool(spread(values, &valid)),
        Values::Str(texts) => Values::Str(spread_texts(texts, &valid)),
        Values::Hist(values) => Values::Hist(values.spread(&valid)),
        Values::Uniques(values) => Values::Uniques(spread_uniques(&values, &valid)),
    };
    Ok((values, Some(valid)))
}

/// Codes of the rows that have a text, and which these are (`None`: all).
pub(crate) type Codes = (Vec<u32>, Option<Vec<bool>>);

/// Reads a column of `rows` rows that are codes into a dictionary of so many texts, without looking them up.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_codes(rows: usize, texts: u32, bytes: &[u8]) -> Result<Codes> {
    let mut reader = Reader::new(bytes);
    let valid = take_validity(&mut reader, rows)?;
    let count = valid.as_ref().map_or(rows, |valid| valid.iter().filter(|valid| **valid).count());
    match Encoding::split(reader.rest())? {
        (Encoding::Codes, payload) => Ok((texts::decode_numbers(payload, count, texts)?, valid)),
        (encoding, _) => Err(Error::corruption(format!("encoding {encoding:?} where codes are listed"))),
    }
}

/// Which of `rows` rows of a column have a value (`None`: all), without the values.
///
/// # Errors
/// As [`decode`].
pub fn decode_validity(rows: usize, bytes: &[u8]) -> Result<Option<Vec<bool>>> {
    take_validity(&mut Reader::new(bytes), rows)
}

fn take_validity(reader: &mut Reader<'_>, rows: usize) -> Result<Option<Vec<bool>>> {
    match reader.u8()? {
        ALL_VALID => Ok(None),
        NONE_VALID => Ok(Some(vec![false; rows])),
        // Flags that are all true say what no flags say, and are not written.
        SOME_VALID => {
            bools::decode(reader.slice()?, rows).map(|valid| valid.contains(&false).then_some(valid))
        }
        form => Err(Error::corruption(format!("unknown validity form {form}"))),
    }
}

fn decode_dense(kind: Kind, count: usize, dictionary: Option<&StrColumn>, bytes: &[u8]) -> Result<Values> {
    let (encoding, payload) = Encoding::split(bytes)?;
    if (count == 0) != (encoding == Encoding::Empty) || (count == 0 && !payload.is_empty()) {
        return Err(Error::corruption(format!("encoding {encoding:?} for {count} values")));
    }
    if count == 0 {
        return Ok(kind.empty());
    }
    Ok(match kind {
        Kind::F64 => Values::F64(floats::decode(bytes, count)?),
        Kind::I64 => {
            Values::I64(integers::decode(bytes, count)?.into_iter().map(integers::unordered).collect())
        }
        Kind::U64 => Values::U64(integers::decode(bytes, count)?),
        Kind::Bool => Values::Bool(bools::decode(bytes, count)?),
        Kind::Str if encoding == Encoding::Codes => {
            Values::Str(texts::decode_codes(payload, count, dictionary)?)
        }
        Kind::Str => Values::Str(texts::decode(bytes, count, TEXT_BYTES_MAX)?),
        Kind::Hist => Values::Hist(histograms::decode(bytes, count)?),
        Kind::Uniques => Values::Uniques(uniques::decode(bytes, count)?),
    })
}

/// Puts values back to their rows.
fn spread<T: Default>(values: Vec<T>, valid: &[bool]) -> Vec<T> {
    let mut values = values.into_iter();
    let rows =
        valid.iter().map(|valid| if *valid { values.next().unwrap_or_default() } else { T::default() });
    rows.collect()
}

fn spread_texts(texts: StrColumn, valid: &[bool]) -> StrColumn {
    let mut ends = texts.ends.into_iter();
    let mut end = 0;
    let rows = valid.iter().map(|valid| {
        if *valid {
            end = ends.next().unwrap_or(end);
        }
        end
    });
    StrColumn { ends: rows.collect(), bytes: texts.bytes }
}

fn spread_uniques(uniques: &UniquesColumn, valid: &[bool]) -> UniquesColumn {
    let mut rows = UniquesColumn::default();
    let mut uniques = uniques.iter();
    for valid in valid {
        let sketch = if *valid { uniques.next() } else { None };
        rows.push(sketch.unwrap_or_default());
    }
    rows
}

/// Appends whole numbers: encoding byte and payload, with their length in front.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) -> Result<()> {
    put_with_len(out, |out| integers::encode(numbers, out))
}

/// Reads exactly `count` whole numbers written by [`put_numbers`].
pub(crate) fn take_numbers(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    integers::decode(reader.slice()?, count)
}

/// Appends times: encoding byte and payload, with their length in front.
pub(crate) fn put_times(out: &mut Vec<u8>, times: &[i64]) -> Result<()> {
    let numbers: Vec<u64> = times.iter().copied().map(integers::ordered).collect();
    put_numbers(out, &numbers)
}

/// Reads exactly `count` times written by [`put_times`].
pub(crate) fn take_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>> {
    Ok(take_numbers(reader, count)?.into_iter().map(integers::unordered).collect())
}
