//! `prometheus.WriteRequest`, remote write 1.0: `timeseries` = 1 {`labels` = 1, `samples` = 2 {`value` = 1,
//! `timestamp` = 2 (ms)}, `exemplars` = 3, `histograms` = 4}, `metadata` = 3.
//!
//! Samples in one pass; a row borrows its key from the body: all that lies between the first and the last label of its
//! series. Native histograms and exemplars in a second one, where there are any.

use icecore_storage::model::WriteBatch;

use super::labels::{LABELS, LABELS_FIELD, VALUE_FIELD};
use super::metadata::{ENTRIES_MAX, of_write1};
use super::{Beside, Counts, Refused, exemplar, histogram, ts_of};
use crate::ingest::Decoded;
use crate::ingest::line::LineLimits;
use crate::ingest::protobuf::{Fields, Malformed};
use crate::ingest::samples::{Samples, Store};
use crate::{Error, Result as Outcome};

const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;
pub(super) const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
const HISTOGRAMS: u32 = 4;

/// Counts what is in a request, as far as it can be read.
pub fn counts_of(body: &[u8]) -> Counts {
    Counts::of(body, TIMESERIES, [SAMPLES, HISTOGRAMS, EXEMPLARS])
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
    Ok((
        Decoded { batch, rejected: refused.first, rejected_count: refused.count, exemplars: Vec::new() },
        beside,
    ))
}

/// Hands the native histograms and exemplars of a request that [`decode`] has read to `store`, in portions.
///
/// # Errors
/// Those of `store`.
pub fn decode_beside(body: &[u8], limits: &LineLimits, store: &mut Store<'_>) -> Outcome<()> {
    let mut samples = Samples::new(body, (limits.line_bytes_max, limits.errors_max), store);
    let mut series = 0_u32;
    for field in Fields::new(body) {
        let (TIMESERIES, value) = field.map_err(Error::invalid)? else { continue };
        series = series.saturating_add(1);
        let message = value.bytes().map_err(Error::invalid)?;
        let mut histograms = of_number(message, HISTOGRAMS).peekable();
        let mut exemplars = of_number(message, EXEMPLARS).peekable();
        if histograms.peek().is_none() && exemplars.peek().is_none() {
            continue;
        }
        samples.begin(series)?;
        samples.raw_key(key_of(message).map_err(Error::invalid)?);
        for message in histograms {
            histogram::take(message.map_err(Error::invalid)?, &mut samples)?;
        }
        for message in exemplars {
            if let Some(exemplar) = message.and_then(exemplar::read1).map_err(Error::invalid)? {
                samples.exemplar(exemplar)?;
            }
        }
    }
    samples.finish()
}

/// The messages of a field.
pub(super) fn of_number(message: &[u8], wanted: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let fields = Fields::new(message).filter_map(Result::ok);
    fields.filter(move |(number, _)| *number == wanted).map(|(_, value)| value.bytes())
}

/// What lies between the first and the last label of a series.
fn key_of(message: &[u8]) -> Result<&[u8], Malformed> {
    let (mut key_start, mut key_end) = (None, 0);
    let mut fields = Fields::new(message);
    loop {
        let start = message.len() - fields.rest().len();
        let Some(field) = fields.next() else { break };
        let (LABELS_FIELD, _) = field? else { continue };
        key_start.get_or_insert(start);
        key_end = message.len() - fields.rest().len();
    }
    Ok(message.get(key_start.unwrap_or_default()..key_end).unwrap_or_default())
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
        let mut late = 0;
        for field in Fields::new(message) {
            match field? {
                (SAMPLES, value) => late += usize::from(!self.take_sample(value.bytes()?, series)?),
                (EXEMPLARS, value) => {
                    exemplar::check1(value.bytes()?)?;
                    self.beside.exemplars += 1;
                }
                (HISTOGRAMS, value) => {
                    // All that will be read, so that a malformed request is refused as a whole.
                    histogram::check(value.bytes()?)?;
                    self.beside.histograms += 1;
                }
                _ => {}
            }
        }
        self.name_rows(first_row, key_of(message)?, series);
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
    fn name_rows(&mut self, first_row: usize, key: &'a [u8], series: u32) {
        let bytes_max = self.limits.line_bytes_max;
        // With all that stands between labels: each row is known by these bytes.
        if bytes_max < key.len() {
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
