//! Samples whose labels do not stand in the request as a series key: keys are written out here, and handed on in
//! portions, so that memory is bounded whatever a small request unfolds to.
//!
//! Order of events for a series: [`Samples::begin`], its labels, its samples; in the end [`Samples::finish`].

use std::ops::Range;

use icecore_storage::model::batch::Field;
use icecore_storage::model::{HISTOGRAM_FIELD, NativeHistogram, ValueRef, WriteBatch};

use super::Decoded;
use super::remote::Refused;
use super::remote::labels::{LABELS, VALUE_FIELD, push_label};
use crate::Result;
use crate::point::{Exemplar, SeriesExemplar};

/// Bytes of keys and of the texts of histograms, samples, and exemplars (each of some kilobytes at most) of a portion; a series may go beyond them.
const KEYS_BYTES_MAX: usize = 4 << 20;
const TEXTS_BYTES_MAX: usize = 1 << 20;
const SAMPLES_MAX: usize = 1 << 16;
const EXEMPLARS_MAX: usize = 1 << 10;
/// Memory of a portion and of what the engine makes of it.
pub const PORTION_BYTES: usize = 4 * (KEYS_BYTES_MAX + TEXTS_BYTES_MAX);

/// Times the bytes of a request that its keys may unfold to: a small one must not keep writers busy for minutes. A
/// point of a thousand buckets with a kilobyte of attributes has some hundred.
const UNFOLDING_MAX: usize = 256;

/// Takes a portion.
pub type Store<'s> = dyn FnMut(Decoded<'_>) -> Result<()> + 's;

struct Sample {
    key: Range<usize>,
    ts_ns: i64,
    value: Value,
    line: u32,
}

enum Value {
    Number(f64),
    /// Where the text of a native histogram stands.
    Histogram(Range<usize>),
}

/// A portion in the making.
pub(crate) struct Samples<'s> {
    store: &'s mut Store<'s>,
    /// Longest key, in bytes of labels.
    key_bytes_max: usize,
    /// Bytes of keys that may still be written out.
    keys_left: usize,
    errors_max: usize,
    keys: Vec<u8>,
    texts: String,
    samples: Vec<Sample>,
    /// Where the key of its series stands, and the exemplar.
    exemplars: Vec<(Range<usize>, Exemplar)>,
    refused: Refused,
    /// The series that was begun: where its key stands, and its number.
    key_start: usize,
    is_too_long: bool,
    line: u32,
}

impl<'s> Samples<'s> {
    /// For a request of so many bytes. What its keys unfold to is bounded by them.
    pub(crate) fn new(
        body: &[u8],
        (key_bytes_max, errors_max): (usize, usize),
        store: &'s mut Store<'s>,
    ) -> Self {
        Self {
            store,
            key_bytes_max,
            keys_left: KEYS_BYTES_MAX.saturating_add(body.len().saturating_mul(UNFOLDING_MAX)),
            errors_max,
            keys: Vec::new(),
            texts: String::new(),
            samples: Vec::new(),
            exemplars: Vec::new(),
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
        let is_full = KEYS_BYTES_MAX <= self.keys.len()
            || TEXTS_BYTES_MAX <= self.texts.len()
            || SAMPLES_MAX <= self.samples.len()
            || EXEMPLARS_MAX <= self.exemplars.len();
        if is_full {
            self.hand_on()?;
        }
        self.key_start = self.keys.len();
        self.is_too_long = false;
        self.line = line;
        Ok(())
    }

    /// Adds a label to the series.
    pub(crate) fn label(&mut self, name: &str, value: &str) {
        if self.has_room(name.len().saturating_add(value.len())) {
            push_label(&mut self.keys, name, value);
        }
    }

    /// Adds labels that stand in the request as a series key.
    pub(crate) fn raw_key(&mut self, key: &[u8]) {
        if self.has_room(key.len()) {
            self.keys.extend_from_slice(key);
        }
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        let room = self.key_bytes_max.saturating_sub(self.keys.len() - self.key_start);
        if self.keys_left < bytes {
            self.keys_left = 0;
        }
        if self.is_too_long || room.min(self.keys_left) < bytes {
            self.is_too_long = true;
            return false;
        }
        self.keys_left -= bytes;
        true
    }

    /// The labels of the series are longer than those that were added.
    pub(crate) fn cut(&mut self) {
        self.is_too_long = true;
    }

    /// Whether the samples of the series will be refused for its labels.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// Bytes of labels that a series may have.
    pub(crate) fn key_bytes_max(&self) -> usize {
        self.key_bytes_max
    }

    /// Adds a sample of the series.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn sample(&mut self, ts_ns: i64, value: f64) -> Result<()> {
        if self.is_ready()? {
            self.push(ts_ns, Value::Number(value));
        }
        Ok(())
    }

    /// Adds a native histogram of the series.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn histogram(&mut self, ts_ns: i64, histogram: &NativeHistogram) -> Result<()> {
        if self.is_ready()? {
            let start = self.texts.len();
            self.texts.push_str(&histogram.to_text());
            self.push(ts_ns, Value::Histogram(start..self.texts.len()));
        }
        Ok(())
    }

    /// Adds an exemplar of the series; one of a series whose labels are too long is left out.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn exemplar(&mut self, exemplar: Exemplar) -> Result<()> {
        if !self.is_too_long {
            self.make_room()?;
            self.exemplars.push((self.key_start..self.keys.len(), exemplar));
        }
        Ok(())
    }

    /// Whether the series can take a sample; if not, that is refused here.
    fn is_ready(&mut self) -> Result<bool> {
        if self.is_too_long {
            let bytes_max = self.key_bytes_max;
            let is_own = 0 < self.keys_left;
            self.refuse(|_| match is_own {
                true => format!("labels longer than {bytes_max} bytes"),
                false => format!("labels of the request unfold to more than {UNFOLDING_MAX} times its bytes"),
            });
            return Ok(false);
        }
        self.make_room()?;
        Ok(true)
    }

    /// Hands on what there is of a series of very many samples, which takes its key along into the next portion.
    fn make_room(&mut self) -> Result<()> {
        if 2 * SAMPLES_MAX <= self.samples.len()
            || 2 * TEXTS_BYTES_MAX <= self.texts.len()
            || 2 * EXEMPLARS_MAX <= self.exemplars.len()
        {
            let key = self.keys.get(self.key_start..).unwrap_or_default().to_vec();
            self.hand_on()?;
            (self.keys, self.key_start) = (key, 0);
        }
        Ok(())
    }

    fn push(&mut self, ts_ns: i64, value: Value) {
        let key = self.key_start..self.keys.len();
        self.samples.push(Sample { key, ts_ns, value, line: self.line });
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
            match &sample.value {
                Value::Number(number) => batch.push_number(VALUE_FIELD, *number),
                Value::Histogram(text) => {
                    let text = self.texts.get(text.clone()).unwrap_or_default();
                    batch.fields.push(Field { name: HISTOGRAM_FIELD.as_bytes(), value: ValueRef::Str(text) });
                }
            }
            let key = self.keys.get(sample.key.clone()).unwrap_or_default();
            batch.push_row(key, sample.ts_ns, sample.line);
        }
        let refused = std::mem::take(&mut self.refused);
        let exemplars = std::mem::take(&mut self.exemplars)
            .into_iter()
            .map(|(key, exemplar)| SeriesExemplar { key: self.keys.get(key).unwrap_or_default(), exemplar });
        let exemplars = exemplars.collect();
        (self.store)(Decoded { batch, rejected: refused.first, rejected_count: refused.count, exemplars })?;
        self.samples.clear();
        self.keys.clear();
        self.texts.clear();
        Ok(())
    }
}
