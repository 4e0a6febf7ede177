//! Prometheus remote write, 1.0 and 2.0: the unpacked protobuf of a request into samples.
//!
//! Read in this order: [`labels`] (the dialect of series keys), [`mod@write1`] (borrows keys from the body, as line
//! protocol does), [`mod@write2`] (labels are numbers of a table: keys are written out, in portions of bounded memory),
//! `histogram` and `exemplar` (of both),
//! [`metadata`] (type, help and unit of metrics, which both carry). Knows nothing of compression, HTTP or the engine.
//!
//! A sample is a row with the field `value`, of the measurement that is called like the metric. NaNs keep their bits;
//! the one that marks the end of a series becomes the field `__stale__`. Native histograms
//! become texts of the field `__histogram__`. Exemplars come with the portions.

#![warn(clippy::indexing_slicing)]

mod exemplar;
pub(crate) mod histogram;
pub mod labels;
#[cfg(test)]
pub(crate) mod messages;
pub mod metadata;
#[cfg(test)]
mod tests;
pub mod write1;
pub mod write2;

use icecore_storage::model::{RowError, TIMESTAMP_MAX, TIMESTAMP_MIN};

use super::protobuf::Fields;

pub use metadata::{MetricKind, MetricMetadata};

const MS_NS: i64 = 1_000_000;

/// What came in a request besides samples.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Beside<'a> {
    /// Native histograms, which are read by themselves.
    pub histograms: usize,
    /// Exemplars, which are read with them.
    pub exemplars: usize,
    /// The first metadata of the request, by its order.
    pub metadata: Vec<MetricMetadata<'a>>,
}

/// How much there is in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that are numbers.
    pub samples: usize,
    /// Native histograms.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: usize,
}

impl Counts {
    /// Counts in one pass, by the numbers of the fields.
    fn of(body: &[u8], timeseries: u32, [samples, histograms, exemplars]: [u32; 3]) -> Self {
        let mut counts = Self::default();
        for message in write1::of_number(body, timeseries).filter_map(Result::ok) {
            for (number, _) in Fields::new(message).filter_map(Result::ok) {
                counts.samples += usize::from(number == samples);
                counts.histograms += usize::from(number == histograms);
                counts.exemplars += usize::from(number == exemplars);
            }
        }
        counts
    }
}

/// Memory that decoding and writing a request takes at most, but for what all bodies take, by the samples in it.
pub fn decoded_bytes(samples: usize, body: &[u8]) -> usize {
    const SAMPLE_BYTES: usize = 128;
    samples.saturating_mul(SAMPLE_BYTES).saturating_add(body.len().saturating_mul(2))
}

fn ts_of(ms: i64) -> Result<i64, String> {
    ms.checked_mul(MS_NS)
        .filter(|ts_ns| (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(ts_ns))
        .ok_or_else(|| format!("timestamp {ms} ms out of range"))
}

/// Samples that were refused: the first with their reasons, all of them counted.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) first: Vec<RowError>,
    pub(crate) count: usize,
}

impl Refused {
    /// Notes one refused sample of a series; the reason is made only where it is kept.
    pub(crate) fn add(&mut self, errors_max: usize, line: u32, reason: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < errors_max {
            self.first.push(RowError { line, reason: reason() });
        }
    }
}
