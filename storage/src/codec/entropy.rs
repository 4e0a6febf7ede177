//! The entropy stage: numbers through `pco`, level 6, classic mode, one chunk of one page in pco's wrapped format.
//!
//! Front-ends ([`scaled`](super::scaled), [`decimal`](super::decimal)) bring numbers into a shape that pco packs
//! well; pco's own search is not used, because it is slower and finds less. The delta order is picked here from a
//! sample. Decoding writes into a buffer of the size that the caller expects and refuses anything else, so that
//! the counts in the bytes never decide how much memory is taken.

#![warn(clippy::indexing_slicing)]

use pco::data_types::Number;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use super::bytes::zigzag;
use crate::{Error, ErrorKind, Result};

/// pco's level: with mode and delta given, it bounds the bins. 5 saves 12 % of 4 on random walks, 8 another 2 %, all in
/// about the same time.
const LEVEL: usize = 6;
/// Values looked at to pick the delta order: four stretches of this length.
const STRETCH: usize = 128;
/// Distinct values up to which each is taken to have a bin: fewer than level 6 makes, since the sample may miss some.
const DISTINCT_MAX: usize = 24;
/// Bits of a bin: its lower bound, its weight and how many bits follow.
const BIN_BITS: f64 = 80.0;
/// Bytes of pco's header and metadata at least.
const TABLES: usize = 12;
/// With up to so many values each eight of them add a byte to pco's table of bins.
const BINNED: usize = 256;

/// Packs numbers with consecutive deltas of `order` (0, 1 or 2).
pub(super) fn pack<T: Number>(values: &[T], order: usize, out: &mut Vec<u8>) -> Result<()> {
    let delta = if order == 0 { DeltaSpec::NoOp } else { DeltaSpec::TryConsecutive(order) };
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(vec![values.len()]));
    let write = || {
        let file = FileCompressor::default();
        let out = file.write_header(out)?;
        let mut chunk = file.chunk_compressor(values, &config)?;
        let out = chunk.write_meta(out)?;
        chunk.write_page(0, out).map(|_| ())
    };
    write().map_err(|error: pco::errors::PcoError| {
        Error::new(ErrorKind::Internal, format!("cannot pack {} numbers: {error}", values.len()))
    })
}

/// Unpacks exactly `count` numbers, which must use up all of `bytes`.
pub(super) fn unpack<T: Number + Default>(bytes: &[u8], count: usize) -> Result<Vec<T>> {
    let mut values = vec![T::default(); count];
    let mut read = || {
        let (file, rest) = FileDecompressor::new(bytes)?;
        let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        // Other modes and deltas are never written; refusing them keeps their code away from hostile bytes. One of
        // them takes a window of the size that the bytes ask for.
        let meta = chunk.meta();
        let is_plain = matches!(meta.delta_encoding, DeltaEncoding::NoOp | DeltaEncoding::Consecutive { .. });
        if !matches!(meta.mode, Mode::Classic) || !is_plain {
            return Ok(None);
        }
        let mut page = chunk.page_decompressor(rest, count)?;
        let progress = page.read(&mut values)?;
        let is_whole = progress.finished && progress.n_processed == count;
        Ok(Some(is_whole && page.into_src().is_empty()))
    };
    match read()
        .map_err(|error: pco::errors::PcoError| Error::corruption(format!("packed numbers: {error}")))?
    {
        Some(true) => Ok(values),
        Some(false) => Err(Error::corruption(format!("packed numbers are not {count} numbers"))),
        None => Err(Error::corruption("packed numbers are in a mode or with a delta that is never written")),
    }
}

/// What a sample promises of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    /// The delta order that takes the fewest bytes: 0, 1 or 2.
    pub order: usize,
    /// What [`pack`] makes of all, about.
    pub bytes: usize,
}

/// The delta order that promises the fewest bytes, and these, from a sample. `values` should start near 0.
///
/// The cost of a value is that of naming its bit length, by the share of values with that length, and of the bits
/// below the leading one; of few distinct values, that of naming each. It stands for pco's bins, which adapt to the data in
/// much the same way.
pub(super) fn promise(values: &[u64]) -> Promise {
    let mut lengths = [[0u32; 65]; 3];
    let mut distinct = Distinct::default();
    let stride = (values.len() / 4).max(STRETCH);
    for stretch in values.chunks(stride).take(4) {
        let stretch = stretch.get(..STRETCH).unwrap_or(stretch);
        let (mut before, mut delta_before) = (None, None);
        for value in stretch.iter().copied() {
            distinct.add(value);
            let delta = before.map(|before| value.wrapping_sub(before).cast_signed());
            if let (Some(delta), Some(delta_before)) = (delta, delta_before) {
                let second: i64 = i64::wrapping_sub(delta, delta_before);
                let residuals = [value, zigzag(delta), zigzag(second)];
                for (counts, residual) in lengths.iter_mut().zip(residuals) {
                    let length = (64 - residual.leading_zeros()) as usize;
                    if let Some(count) = counts.get_mut(length) {
                        *count += 1;
                    }
                }
            }
            (before, delta_before) = (Some(value), delta);
        }
    }
    let mut costs = lengths.map(|counts| bits_per_value(&counts));
    if let ([plain, ..], Some(bits)) = (&mut costs, distinct.bits_per_value(values.len())) {
        *plain = plain.min(bits);
    }
    // A higher order must earn its slower decoding.
    let (mut order, mut best) = (0, f64::INFINITY);
    for (candidate, cost) in costs.into_iter().enumerate() {
        if cost < best * 0.98 {
            (order, best) = (candidate, cost);
        }
    }
    // Fewer than three values are no sample.
    let bytes = if best.is_finite() { (best * values.len() as f64 / 8.0) as usize } else { 0 };
    Promise { order, bytes: bytes + TABLES + values.len().min(BINNED) / 8 }
}

/// Bits for each of the sampled residuals, given how many have each bit length.
fn bits_per_value(counts: &[u32; 65]) -> f64 {
    let total = f64::from(counts.iter().sum::<u32>());
    let lengths = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let cost = lengths.map(|(length, count)| {
        let count = f64::from(*count);
        count * (length.saturating_sub(1) as f64 + (total / count).log2())
    });
    cost.sum::<f64>() / total
}

/// Counts values of which there are few: pco gives each a bin of its own, whatever its length.
#[derive(Default)]
struct Distinct {
    values: Vec<(u64, u32)>,
    has_many: bool,
}

impl Distinct {
    fn add(&mut self, value: u64) {
        if self.has_many {
            return;
        }
        if let Some((_, count)) = self.values.iter_mut().find(|(known, _)| *known == value) {
            *count += 1;
        } else if self.values.len() < DISTINCT_MAX {
            self.values.push((value, 1));
        } else {
            self.has_many = true;
        }
    }

    /// The entropy of each of so many values, and its share of the bins; `None` where there are many distinct ones.
    fn bits_per_value(&self, of: usize) -> Option<f64> {
        let counts = || self.values.iter().map(|(_, count)| f64::from(*count));
        let total: f64 = counts().sum();
        let bits: f64 = counts().map(|count| count * (total / count).log2()).sum();
        let bins = BIN_BITS * self.values.len() as f64 / of.max(1) as f64;
        (!self.has_many && 0.0 < total).then(|| bits / total + bins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window for such a delta may be 2^24 numbers, whatever the number of rows.
    #[test]
    fn unpack_a_delta_that_is_never_written_is_corruption() {
        let values: Vec<u64> = (0..4096).map(|row| row * row % 61).collect();
        let config = |delta| {
            ChunkConfig::default()
                .with_mode_spec(ModeSpec::Classic)
                .with_delta_spec(delta)
                .with_paging_spec(PagingSpec::Exact(vec![values.len()]))
        };
        let write = |delta| {
            let (file, mut bytes) = (FileCompressor::default(), Vec::new());
            file.write_header(&mut bytes).unwrap();
            let mut chunk = file.chunk_compressor(&values, &config(delta)).unwrap();
            chunk.write_meta(&mut bytes).unwrap();
            chunk.write_page(0, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(unpack::<u64>(&write(DeltaSpec::TryConsecutive(1)), values.len()).unwrap(), values);
        let error = unpack::<u64>(&write(DeltaSpec::TryLookback), values.len()).unwrap_err();
        assert!(error.to_string().contains("never written"), "{error}");
    }
}
