//! Byte strings through zstd, where that is smaller. Each thread keeps its zstd contexts: making one costs more
//! than most of the pages it is used for.
//!
//! Bytes: form byte 0, then the bytes; or form byte 1, length of the plain bytes as a u32, zstd frame.

#![warn(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;

use zstd::bulk::{Compressor, Decompressor};

use super::bytes::Reader;
use crate::{Error, Result};

/// Bytes as they are.
const FORM_PLAIN: u8 = 0;
/// Bytes by zstd.
const FORM_ZSTD: u8 = 1;
/// Below this zstd's frame weighs more than it saves.
const SQUEEZE_BYTES_MIN: usize = 48;
/// zstd cannot make more than this out of a byte: a block of 128 KiB takes four bytes.
const ZSTD_RATIO_MAX: usize = 1 << 15;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends bytes in the smaller form.
pub(super) fn squeeze(bytes: &[u8], level: i32, out: &mut Vec<u8>) -> Result<()> {
    if SQUEEZE_BYTES_MIN <= bytes.len() {
        let squeezed = compress(bytes, level).map_err(|error| Error::io("cannot compress", error))?;
        if squeezed.len() + 4 < bytes.len() {
            let len = u32::try_from(bytes.len()).map_err(|_| Error::invalid("4 GiB of text in a page"))?;
            out.push(FORM_ZSTD);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&squeezed);
            return Ok(());
        }
    }
    out.push(FORM_PLAIN);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Undoes [`squeeze`]; all of `bytes` belongs to it. More than `len_max` bytes are an error.
pub(super) fn unsqueeze(bytes: &[u8], len_max: usize) -> Result<Cow<'_, [u8]>> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        FORM_PLAIN => Ok(Cow::Borrowed(reader.rest())),
        FORM_ZSTD => {
            let len = reader.u32()? as usize;
            let squeezed = reader.rest();
            if len_max < len || !can_hold(squeezed, len) {
                return Err(Error::corruption(format!("{} bytes cannot hold {len} bytes", squeezed.len())));
            }
            let plain = decompress(squeezed, len)
                .map_err(|error| Error::corruption(format!("cannot decompress: {error}")))?;
            if plain.len() != len {
                return Err(Error::corruption(format!("{} bytes, {len} expected", plain.len())));
            }
            Ok(Cow::Owned(plain))
        }
        form => Err(Error::corruption(format!("unknown form {form} of bytes"))),
    }
}

/// Whether a zstd frame of this length can hold `len` bytes: asked before a buffer for them is made.
pub(crate) fn can_hold(squeezed: &[u8], len: usize) -> bool {
    len / ZSTD_RATIO_MAX <= squeezed.len()
}

fn compress(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = match kept.take() {
            Some(compressor) => compressor,
            None => Compressor::new(level)?,
        };
        compressor.set_compression_level(level)?;
        let squeezed = compressor.compress(bytes)?;
        // After an error the context is dropped, so that nothing of it is left.
        *kept = Some(compressor);
        Ok(squeezed)
    })
}

fn decompress(bytes: &[u8], len: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let mut decompressor = match kept.take() {
            Some(decompressor) => decompressor,
            None => Decompressor::new()?,
        };
        let plain = decompressor.decompress(bytes, len)?;
        *kept = Some(decompressor);
        Ok(plain)
    })
}
