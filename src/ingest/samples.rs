//! Samples whose labels do not stand in the request as a series key: keys are written out here, and handed on in
//! portions, so that memory is bounded whatever a small request unfolds to.
//!
//! Order of events for a series: [`Samples::begin`], its labels, its samples; in the end [`Samples::finish`].

use std::ops::Range;

use icecore_storage::model::WriteBatch;

use super::Decoded;
use super::remote::Refused;
use super::remote::labels::{LABELS, VALUE_FIELD, push_label};
use crate::Result;

/// Bytes of keys, and samples, of a portion; a series may go beyond them.
const KEYS_BYTES_MAX: usize = 4 << 20;
const SAMPLES_MAX: usize = 1 << 16;
/// Memory of a portion and of what the engine makes of it.
pub const PORTION_BYTES: usize = 4 * KEYS_BYTES_MAX;

/// Takes a portion.
pub type Store<'s> = dyn FnMut(Decoded<'_>) -> Result<()> + 's;

struct Sample {
    key: Range<usize>,
    ts_ns: i64,
    value: f64,
    line: u32,
}

/// A portion in the making.
pub(crate) struct Samples<'s> {
    store: &'s mut Store<'s>,
    /// Longest key, in bytes of labels.
    key_bytes_max: usize,
    errors_max: usize,
    keys: Vec<u8>,
    samples: Vec<Sample>,
    refused: Refused,
    /// The series that was begun: where its key stands, and its number.
    key_start: usize,
    is_too_long: bool,
    line: u32,
}

impl<'s> Samples<'s> {
    pub(crate) fn new(key_bytes_max: usize, errors_max: usize, store: &'s mut Store<'s>) -> Self {
        Self {
            store,
            key_bytes_max,
            errors_max,
            keys: Vec::new(),
            samples: Vec::new(),
            refused: Refused::default(),
            key_start: 0,
            is_too_long: false,
            line: 0,
        }
    }

    /// Begins a series; `line` names it in messages.
    ///
    /// # Errors
    /// Those of the store: a full portion is handed on first.
    pub(crate) fn begin(&mut self, line: u32) -> Result<()> {
        if KEYS_BYTES_MAX <= self.keys.len() || SAMPLES_MAX <= self.samples.len() {
            self.hand_on()?;
        }
        self.key_start = self.keys.len();
        self.is_too_long = false;
        self.line = line;
        Ok(())
    }

    /// Adds a label to the series.
    pub(crate) fn label(&mut self, name: &str, value: &str) {
        let bytes = name.len().saturating_add(value.len());
        if self.key_bytes_max.saturating_sub(self.keys.len() - self.key_start) < bytes {
            self.is_too_long = true;
        } else {
            push_label(&mut self.keys, name, value);
        }
    }

    /// Adds a sample of the series.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn sample(&mut self, ts_ns: i64, value: f64) -> Result<()> {
        if self.is_too_long {
            let bytes_max = self.key_bytes_max;
            self.refuse(|_| format!("labels longer than {bytes_max} bytes"));
            return Ok(());
        }
        // A series of very many samples takes its key along into the next portion.
        if 2 * SAMPLES_MAX <= self.samples.len() {
            let key = self.keys.get(self.key_start..).unwrap_or_default().to_vec();
            self.hand_on()?;
            (self.keys, self.key_start) = (key, 0);
        }
        let key = self.key_start..self.keys.len();
        self.samples.push(Sample { key, ts_ns, value, line: self.line });
        Ok(())
    }

    /// Refuses a sample of the series; the reason is told the raw key.
    pub(crate) fn refuse(&mut self, reason: impl FnOnce(&[u8]) -> String) {
        let key = self.keys.get(self.key_start..).unwrap_or_default();
        self.refused.add(self.errors_max, self.line, || reason(key));
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<()> {
        let mut batch = WriteBatch::new(&LABELS);
        batch.rows.reserve(self.samples.len());
        batch.fields.reserve(self.samples.len());
        for sample in &self.samples {
            batch.push_number(VALUE_FIELD, sample.value);
            let key = self.keys.get(sample.key.clone()).unwrap_or_default();
            batch.push_row(key, sample.ts_ns, sample.line);
        }
        let refused = std::mem::take(&mut self.refused);
        (self.store)(Decoded { batch, rejected: refused.first, rejected_count: refused.count })?;
        self.samples.clear();
        self.keys.clear();
        Ok(())
    }
}
