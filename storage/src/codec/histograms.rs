//! Histograms of cells, as six streams of whole numbers, so that like stands beside like.
//!
//! Payload: varint length and bytes of each stream, as [`integers`]: buckets above zero of each row, buckets below
//! zero of each row, count of zeros of each row, first index of each side that has buckets, distance of each further
//! index from the one before it, count of each bucket. Within a row the side above zero comes first.

#![warn(clippy::indexing_slicing)]

use super::bytes::{Reader, put_with_len};
use super::{BUCKETS_MAX, Encoding, Packing, integers};
use crate::model::histogram::Bucket;
use crate::model::{HistogramColumn, HistogramRef};
use crate::{Error, ErrorKind, Result};

/// Buckets of a side at most: as many as floats have, which take 2,098 octaves of 64.
const SIDE_BUCKETS_MAX: u64 = 2098 * 64 + 1;

#[derive(Default)]
struct Streams {
    positive: Vec<u64>,
    negative: Vec<u64>,
    zeros: Vec<u64>,
    firsts: Vec<u64>,
    gaps: Vec<u64>,
    counts: Vec<u64>,
}

/// Appends the encoding byte and the payload, of the valid rows (`None`: all).
pub(super) fn encode(histograms: &HistogramColumn, valid: Option<&[bool]>, out: &mut Vec<u8>) -> Result<()> {
    let mut streams = Streams::default();
    let is_valid = |row: usize| valid.is_none_or(|valid| valid.get(row).copied().unwrap_or(false));
    for (_, histogram) in histograms.iter().enumerate().filter(|(row, _)| is_valid(*row)) {
        streams.positive.push(histogram.positive.len() as u64);
        streams.negative.push(histogram.negative.len() as u64);
        streams.zeros.push(histogram.zero);
        streams.add(histogram.positive)?;
        streams.add(histogram.negative)?;
    }
    if BUCKETS_MAX < streams.counts.len() {
        let message = format!("{} buckets, at most {BUCKETS_MAX} fit a page", streams.counts.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    out.push(Encoding::Histograms as u8);
    let Streams { positive, negative, zeros, firsts, gaps, counts } = &streams;
    for stream in [positive, negative, zeros, firsts, gaps, counts] {
        put_with_len(out, |out| integers::encode_as(stream, Packing::Fast, out))?;
    }
    Ok(())
}

impl Streams {
    fn add(&mut self, buckets: &[Bucket]) -> Result<()> {
        let mut before: Option<i64> = None;
        for bucket in buckets {
            let index = i64::from(bucket.index);
            match before {
                None => self.firsts.push(integers::ordered(index)),
                Some(before) if before < index => self.gaps.push((index - before).cast_unsigned()),
                Some(_) => return Err(Error::new(ErrorKind::Internal, "histogram buckets are not sorted")),
            }
            if bucket.count == 0 {
                return Err(Error::new(ErrorKind::Internal, "histogram has an empty bucket"));
            }
            self.counts.push(bucket.count);
            before = Some(index);
        }
        Ok(())
    }
}

/// Reads exactly `count` histograms; `bytes` begins with the encoding byte.
pub(super) fn decode(bytes: &[u8], count: usize) -> Result<HistogramColumn> {
    let (encoding, payload) = Encoding::split(bytes)?;
    if encoding != Encoding::Histograms {
        return Err(Error::corruption(format!("encoding {encoding:?} does not hold histograms")));
    }
    let mut reader = Reader::new(payload);
    let positive = integers::decode(reader.slice()?, count)?;
    let negative = integers::decode(reader.slice()?, count)?;
    let zeros = integers::decode(reader.slice()?, count)?;
    let sizes = || positive.iter().chain(&negative);
    if let Some(size) = sizes().find(|size| SIDE_BUCKETS_MAX < **size) {
        return Err(Error::corruption(format!("a histogram of {size} buckets on one side")));
    }
    let buckets_count = sizes().fold(0u64, |sum, size| sum.saturating_add(*size));
    let sides_count = sizes().filter(|size| **size > 0).count();
    let buckets_count = match usize::try_from(buckets_count) {
        Ok(buckets_count) if buckets_count <= BUCKETS_MAX => buckets_count,
        _ => {
            return Err(Error::corruption(format!(
                "{buckets_count} buckets, at most {BUCKETS_MAX} fit a page"
            )));
        }
    };
    let firsts = integers::decode(reader.slice()?, sides_count)?;
    let gaps = integers::decode(reader.slice()?, buckets_count - sides_count)?;
    let counts = integers::decode(reader.slice()?, buckets_count)?;
    reader.finish()?;
    let (mut firsts, mut gaps, mut counts) = (firsts.into_iter(), gaps.into_iter(), counts.into_iter());
    let mut buckets = Vec::with_capacity(buckets_count);
    for size in positive.iter().zip(&negative).flat_map(|(positive, negative)| [*positive, *negative]) {
        read_side(size, &mut firsts, &mut gaps, &mut counts, &mut buckets)
            .ok_or_else(|| Error::corruption("a histogram bucket is empty or out of order"))?;
    }
    // At most BUCKETS_MAX.
    let sizes = positive.into_iter().zip(negative).map(|(above, below)| (above as usize, below as usize));
    let histograms = HistogramColumn::of_parts(zeros, sizes, buckets);
    let total = |histogram: HistogramRef<'_>| {
        let buckets = histogram.positive.iter().chain(histogram.negative);
        buckets.map(|bucket| bucket.count).try_fold(histogram.zero, u64::checked_add)
    };
    if histograms.iter().any(|histogram| total(histogram).is_none()) {
        return Err(Error::corruption("the counts of a histogram do not fit 64 bits"));
    }
    Ok(histograms)
}

/// Takes the buckets of one side off the streams; `None` when they are none.
fn read_side(
    size: u64,
    firsts: &mut impl Iterator<Item = u64>,
    gaps: &mut impl Iterator<Item = u64>,
    counts: &mut impl Iterator<Item = u64>,
    buckets: &mut Vec<Bucket>,
) -> Option<()> {
    let mut before: Option<i64> = None;
    for _ in 0..size {
        let index = match before {
            None => integers::unordered(firsts.next()?),
            Some(before) => {
                let gap = i64::try_from(gaps.next()?).ok().filter(|gap| 1 <= *gap)?;
                before.checked_add(gap)?
            }
        };
        let count = counts.next().filter(|count| 1 <= *count)?;
        buckets.push(Bucket { index: i32::try_from(index).ok()?, count });
        before = Some(index);
    }
    Some(())
}
