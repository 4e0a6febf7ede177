//! Texts and other byte strings: their lengths as [`integers`], then all bytes after one another through zstd.
//! Also texts by number, as codes into a dictionary that the caller keeps.
//!
//! Payload of plain texts: varint length of the lengths, the lengths, form byte (0 plain, 1 zstd), bytes.
//! Payload of codes: the codes as [`integers`].

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_with_len};
use super::squeeze::{squeeze, unsqueeze};
use super::{Encoding, TEXT_BYTES_MAX, integers};
use crate::model::StrColumn;
use crate::{Error, ErrorKind, Result};

/// Level of zstd for texts that are written once and read often.
const LEVEL: i32 = 3;

/// Appends texts or byte strings: the encoding byte and the payload.
pub(crate) fn encode(texts: &StrColumn, out: &mut Vec<u8>) -> Result<()> {
    if TEXT_BYTES_MAX < texts.bytes.len() {
        let message = format!("{} bytes of text, at most {TEXT_BYTES_MAX} fit a page", texts.bytes.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let mut start = 0;
    let lengths = texts.ends.iter().map(|end| u64::from(end - std::mem::replace(&mut start, *end)));
    let lengths: Vec<u64> = lengths.collect();
    out.push(Encoding::Texts as u8);
    put_with_len(out, |out| integers::encode(&lengths, out))?;
    squeeze(&texts.bytes, LEVEL, out)
}

/// Reads exactly `count` byte strings of at most `bytes_max` bytes; `bytes` begins with the encoding byte.
pub(crate) fn decode_bytes(bytes: &[u8], count: usize, bytes_max: usize) -> Result<StrColumn> {
    let (encoding, payload) = Encoding::split(bytes)?;
    if encoding != Encoding::Texts {
        return Err(Error::corruption(format!("encoding {encoding:?} does not hold texts")));
    }
    let mut reader = Reader::new(payload);
    let lengths = integers::decode(reader.slice()?, count)?;
    let ends = ends_of(&lengths)?;
    let total = ends.last().map_or(0, |end| *end as usize);
    if bytes_max < total {
        return Err(Error::corruption(format!("{total} bytes of text, at most {bytes_max} are possible")));
    }
    let bytes = unsqueeze(reader.rest(), total)?;
    if bytes.len() != total {
        return Err(Error::corruption(format!("{} bytes of text, {total} expected", bytes.len())));
    }
    Ok(StrColumn { bytes: bytes.into_owned(), ends })
}

/// Reads exactly `count` texts as [`decode_bytes`], checked to be UTF-8.
pub(crate) fn decode(bytes: &[u8], count: usize, bytes_max: usize) -> Result<StrColumn> {
    let texts = decode_bytes(bytes, count, bytes_max)?;
    let all = std::str::from_utf8(&texts.bytes).map_err(|_| Error::corruption("texts are not UTF-8"))?;
    if texts.ends.iter().any(|end| !all.is_char_boundary(*end as usize)) {
        return Err(Error::corruption("a text ends within a character"));
    }
    Ok(texts)
}

/// Appends codes into a dictionary: the encoding byte and the payload.
pub(super) fn encode_codes(codes: &[u64], out: &mut Vec<u8>) -> Result<()> {
    out.push(Encoding::Codes as u8);
    integers::encode(codes, out)
}

/// Reads exactly `count` codes into a dictionary of so many texts.
pub(super) fn decode_numbers(payload: &[u8], count: usize, texts: u32) -> Result<Vec<u32>> {
    let code_of = |code: u64| {
        let known = u32::try_from(code).ok().filter(|code| *code < texts);
        known.ok_or_else(|| Error::corruption(format!("code {code} in a dictionary of {texts} texts")))
    };
    integers::decode(payload, count)?.into_iter().map(code_of).collect()
}

/// Reads exactly `count` codes and looks them up.
pub(super) fn decode_codes(
    payload: &[u8],
    count: usize,
    dictionary: Option<&StrColumn>,
) -> Result<StrColumn> {
    let Some(dictionary) = dictionary else {
        return Err(Error::corruption("codes without a dictionary"));
    };
    let codes = integers::decode(payload, count)?;
    let text_of = |code: u64| {
        let text = usize::try_from(code).ok().and_then(|code| dictionary.bytes_of(code));
        text.ok_or_else(|| {
            Error::corruption(format!("code {code} in a dictionary of {} texts", dictionary.len()))
        })
    };
    // All ends before the first text: one long text that many rows have must not take what no page may hold.
    let mut total = 0u64;
    let mut ends = Vec::with_capacity(count);
    for code in &codes {
        total += text_of(*code)?.len() as u64;
        ends.push(end_of(total)?);
    }
    let mut bytes = Vec::with_capacity(ends.last().map_or(0, |end| *end as usize));
    for code in codes {
        bytes.extend_from_slice(text_of(code)?);
    }
    Ok(StrColumn { bytes, ends })
}

/// Where byte strings of these lengths end.
pub(super) fn ends_of(lengths: &[u64]) -> Result<Vec<u32>> {
    let mut total = 0u64;
    let end_behind = |length: &u64| {
        total = total.saturating_add(*length);
        end_of(total)
    };
    lengths.iter().map(end_behind).collect()
}

pub(super) fn end_of(total: u64) -> Result<u32> {
    match u32::try_from(total) {
        Ok(end) if total <= TEXT_BYTES_MAX as u64 => Ok(end),
        _ => Err(Error::corruption(format!("{total} bytes of text, at most {TEXT_BYTES_MAX} fit a page"))),
    }
}
