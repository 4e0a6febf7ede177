//! `prometheus.WriteRequest`, remote write 1.0: `timeseries` = 1 {`labels` = 1, `samples` = 2 {`value` = 1,
//! `timestamp` = 2 (ms)}, `exemplars` = 3, `histograms` = 4}, `metadata` = 3.
//!
//! One pass; a row borrows its key from the body: all that lies between the first and the last label of its series.

use icecore_storage::model::WriteBatch;

use super::labels::{LABELS, LABELS_FIELD, VALUE_FIELD, shown};
use super::metadata::{ENTRIES_MAX, of_write1};
use super::{Beside, NATIVE_HISTOGRAM, Refused, ts_of};
use crate::ingest::Decoded;
use crate::ingest::line::LineLimits;
use crate::ingest::protobuf::{Fields, Malformed};

const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;
pub(super) const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
const HISTOGRAMS: u32 = 4;

/// Counts the samples of a request, as far as it can be read.
pub fn samples_of(body: &[u8]) -> usize {
    super::write2::count(body, TIMESERIES)
}

/// Decodes a request. Series are numbered from 1, and refused samples are named by them.
///
/// # Errors
/// [`Malformed`]: nothing of the request is to be stored.
pub fn decode<'a>(body: &'a [u8], limits: &LineLimits) -> Result<(Decoded<'a>, Beside<'a>), Malformed> {
    let mut request = Request {
        limits,
        batch: WriteBatch::new(&LABELS),
        refused: Refused::default(),
        beside: Beside::default(),
    };
    let mut series = 0_u32;
    for field in Fields::new(body) {
        match field? {
            (TIMESERIES, value) => {
                series = series.saturating_add(1);
                request.take_series(value.bytes()?, series)?;
            }
            (METADATA, value) if request.beside.metadata.len() < ENTRIES_MAX => {
                request.beside.metadata.push(of_write1(value.bytes()?)?);
            }
            _ => {}
        }
    }
    let Request { batch, refused, beside, .. } = request;
    Ok((Decoded { batch, rejected: refused.first, rejected_count: refused.count }, beside))
}

struct Request<'a, 'l> {
    limits: &'l LineLimits,
    batch: WriteBatch<'a>,
    refused: Refused,
    beside: Beside<'a>,
}

impl<'a> Request<'a, '_> {
    fn take_series(&mut self, message: &'a [u8], series: u32) -> Result<(), Malformed> {
        let first_row = self.batch.rows.len();
        let (mut key_start, mut key_end, mut key_bytes) = (None, 0, 0);
        let (mut histograms, mut late) = (0, 0);
        let mut fields = Fields::new(message);
        loop {
            let start = message.len() - fields.rest().len();
            let Some(field) = fields.next() else { break };
            match field? {
                (LABELS_FIELD, value) => {
                    key_bytes += value.bytes()?.len();
                    key_start.get_or_insert(start);
                    key_end = message.len() - fields.rest().len();
                }
                (SAMPLES, value) => late += usize::from(!self.take_sample(value.bytes()?, series)?),
                (EXEMPLARS, _) => self.beside.exemplars += 1,
                (HISTOGRAMS, _) => histograms += 1,
                _ => {}
            }
        }
        let key = message.get(key_start.unwrap_or_default()..key_end).unwrap_or_default();
        self.name_rows(first_row, key, key_bytes, series);
        self.beside.histograms += histograms;
        for _ in 0..histograms {
            self.refused
                .add(self.limits.errors_max, series, || format!("{}: {NATIVE_HISTOGRAM}", shown(key)));
        }
        for _ in 0..late {
            let fields_max = self.limits.fields_max;
            self.refused.add(self.limits.errors_max, series, || {
                format!("more than {fields_max} samples in one request, the rest of it is refused")
            });
        }
        Ok(())
    }

    /// Adds a row whose key is not known yet; `false` when there are too many.
    fn take_sample(&mut self, message: &[u8], series: u32) -> Result<bool, Malformed> {
        let (value, ms) = read_sample(message)?;
        match ts_of(ms) {
            _ if self.limits.fields_max <= self.batch.rows.len() => return Ok(false),
            Ok(ts_ns) => {
                self.batch.push_number(VALUE_FIELD, value);
                self.batch.push_row(&[], ts_ns, series);
            }
            Err(reason) => self.refused.add(self.limits.errors_max, series, || reason),
        }
        Ok(true)
    }

    /// Gives the rows of a series their key.
    fn name_rows(&mut self, first_row: usize, key: &'a [u8], key_bytes: usize, series: u32) {
        let bytes_max = self.limits.line_bytes_max;
        if bytes_max < key_bytes {
            let count = self.batch.rows.len() - first_row;
            self.batch.rows.truncate(first_row);
            self.batch.fields.truncate(first_row);
            for _ in 0..count {
                self.refused
                    .add(self.limits.errors_max, series, || format!("labels longer than {bytes_max} bytes"));
            }
            return;
        }
        for row in self.batch.rows.iter_mut().skip(first_row) {
            row.key = key;
        }
    }
}

/// A sample of either version: its value and its time in milliseconds.
pub(super) fn read_sample(message: &[u8]) -> Result<(f64, i64), Malformed> {
    let (mut value, mut ms) = (0.0, 0);
    for field in Fields::new(message) {
        match field? {
            (1, number) => value = number.double()?,
            (2, number) => ms = number.int64()?,
            _ => {}
        }
    }
    Ok((value, ms))
}
