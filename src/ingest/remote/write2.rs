//! `io.prometheus.write.v2.Request`, remote write 2.0: `symbols` = 4, `timeseries` = 5 {`labels_refs` = 1, `samples` = 2
//! {`value` = 1, `timestamp` = 2 (ms)}, `histograms` = 3, `exemplars` = 4, `metadata` = 5 {`type` = 1, `help_ref` = 3,
//! `unit_ref` = 4}}.
//!
//! Labels are numbers of the table of symbols, name and value in turn. The table is of the request, so keys are written
//! out.

use super::labels::NAME_LABEL;
use super::metadata::{ENTRIES_MAX, of_write2};
use super::write1::{SAMPLES, of_number, read_sample};
use super::{Beside, Counts, exemplar, histogram, ts_of};
use crate::ingest::line::LineLimits;
use crate::ingest::protobuf::{Fields, Malformed, packed_varints};
use crate::ingest::samples::{Samples, Store};
use crate::{Error, Result};

const SYMBOLS: u32 = 4;
const TIMESERIES: u32 = 5;
const LABELS_REFS: u32 = 1;
const HISTOGRAMS: u32 = 3;
const EXEMPLARS: u32 = 4;
const METADATA: u32 = 5;
/// Symbols of a request; each takes 16 bytes of memory and as few as two of the body.
const SYMBOLS_MAX: usize = 1 << 20;

/// The table of a request.
#[derive(Debug)]
pub(super) struct Symbols<'a>(Vec<&'a str>);

impl<'a> Symbols<'a> {
    fn read(body: &'a [u8]) -> std::result::Result<Self, Malformed> {
        let mut symbols = Vec::new();
        for field in Fields::new(body) {
            let (SYMBOLS, value) = field? else { continue };
            if SYMBOLS_MAX <= symbols.len() {
                return Err(Malformed("more than 1048576 symbols"));
            }
            symbols.push(value.text()?);
        }
        Ok(Self(symbols))
    }

    pub(super) fn get(&self, reference: u64) -> Option<&'a str> {
        self.0.get(usize::try_from(reference).ok()?).copied()
    }
}

/// Counts what is in a request, as far as it can be read.
pub fn counts_of(body: &[u8]) -> Counts {
    Counts::of(body, TIMESERIES, [SAMPLES, HISTOGRAMS, EXEMPLARS])
}

/// Decodes a request and hands its samples to `store`, in portions. Series are numbered from 1, and refused samples are
/// named by them.
///
/// # Errors
/// `InvalidInput` for a request that is malformed, which is known before a sample is handed on; those of `store`.
pub fn decode<'a>(body: &'a [u8], limits: &LineLimits, store: &mut Store<'_>) -> Result<Beside<'a>> {
    let symbols = Symbols::read(body).map_err(Error::invalid)?;
    let check = check(body).map_err(Error::invalid);
    check?;
    let mut beside = Beside::default();
    let mut samples = Samples::new(body, (limits.line_bytes_max, limits.errors_max), store);
    let mut line = 0_u32;
    for field in Fields::new(body) {
        let (TIMESERIES, value) = field.map_err(Error::invalid)? else { continue };
        line = line.saturating_add(1);
        samples.begin(line)?;
        take_series(value.bytes().map_err(Error::invalid)?, &symbols, &mut samples, &mut beside)?;
    }
    samples.finish()?;
    Ok(beside)
}

/// Hands the native histograms and exemplars of a request that [`decode`] has read to `store`, in portions.
///
/// # Errors
/// Those of `store`.
pub fn decode_beside(body: &[u8], limits: &LineLimits, store: &mut Store<'_>) -> Result<()> {
    let symbols = Symbols::read(body).map_err(Error::invalid)?;
    let mut samples = Samples::new(body, (limits.line_bytes_max, limits.errors_max), store);
    let mut line = 0_u32;
    for message in of_number(body, TIMESERIES) {
        let message = message.map_err(Error::invalid)?;
        line = line.saturating_add(1);
        let mut histograms = of_number(message, HISTOGRAMS).peekable();
        let mut exemplars = of_number(message, EXEMPLARS).peekable();
        if histograms.peek().is_none() && exemplars.peek().is_none() {
            continue;
        }
        samples.begin(line)?;
        let labels = push_labels(message, &symbols, &mut samples);
        for message in histograms {
            match &labels {
                Ok(_) => histogram::take(message.map_err(Error::invalid)?, &mut samples)?,
                Err(reason) => samples.refuse(|_| reason.clone()),
            }
        }
        for message in exemplars.filter(|_| labels.is_ok()) {
            let message = message.map_err(Error::invalid)?;
            if let Some(exemplar) = exemplar::read2(message, &symbols).map_err(Error::invalid)? {
                samples.exemplar(exemplar)?;
            }
        }
    }
    samples.finish()
}

/// Reads all that will be read, so that a malformed request is refused as a whole.
fn check(body: &[u8]) -> std::result::Result<(), Malformed> {
    for field in Fields::new(body) {
        let (TIMESERIES, value) = field? else { continue };
        for field in Fields::new(value.bytes()?) {
            match field? {
                (LABELS_REFS, value) => {
                    packed_varints(value).try_for_each(|reference| reference.map(drop))?
                }
                (SAMPLES, value) => drop(read_sample(value.bytes()?)?),
                (HISTOGRAMS, value) => histogram::check(value.bytes()?)?,
                (EXEMPLARS, value) => exemplar::check2(value.bytes()?)?,
                (METADATA, value) => {
                    of_write2("", value.bytes()?, &Symbols(Vec::new()))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn take_series<'a>(
    message: &'a [u8],
    symbols: &Symbols<'a>,
    samples: &mut Samples<'_>,
    beside: &mut Beside<'a>,
) -> Result<()> {
    let labels = push_labels(message, symbols, samples);
    for field in Fields::new(message) {
        let (number, value) = field.map_err(Error::invalid)?;
        match number {
            SAMPLES => {
                let (value, ms) = value.bytes().and_then(read_sample).map_err(Error::invalid)?;
                match labels.as_ref().map_err(Clone::clone).and_then(|_| ts_of(ms)) {
                    Ok(ts_ns) => samples.sample(ts_ns, value)?,
                    Err(reason) => samples.refuse(|_| reason),
                }
            }
            HISTOGRAMS => beside.histograms += 1,
            EXEMPLARS => beside.exemplars += 1,
            METADATA => {
                let metric = labels.as_ref().copied().unwrap_or_default();
                let is_new = beside.metadata.last().is_none_or(|last| last.metric != metric);
                if is_new && !metric.is_empty() && beside.metadata.len() < ENTRIES_MAX {
                    let read = value.bytes().and_then(|message| of_write2(metric, message, symbols));
                    beside.metadata.push(read.map_err(Error::invalid)?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes out the labels of a series; hands back the name of its metric.
fn push_labels<'a>(
    message: &[u8],
    symbols: &Symbols<'a>,
    samples: &mut Samples<'_>,
) -> std::result::Result<&'a str, String> {
    let mut metric = "";
    each_label(message, symbols, |name, value| {
        samples.label(name, value);
        if name == NAME_LABEL {
            metric = value;
        }
    })?;
    Ok(metric)
}

/// Gives the labels of a series or an exemplar, or says why they cannot be told.
pub(super) fn each_label<'a>(
    message: &[u8],
    symbols: &Symbols<'a>,
    mut give: impl FnMut(&'a str, &'a str),
) -> std::result::Result<(), String> {
    let mut name = None;
    for (number, value) in Fields::new(message).filter_map(std::result::Result::ok) {
        if number != LABELS_REFS {
            continue;
        }
        for reference in packed_varints(value) {
            // A `uint32`: only the low half counts.
            let reference = reference.map_err(|error| error.to_string())? & u64::from(u32::MAX);
            let symbol = symbols.get(reference).ok_or_else(|| {
                format!("symbol {reference} is not in the table of {} symbols", symbols.0.len())
            })?;
            match name.take() {
                None => name = Some(symbol),
                Some(name) => give(name, symbol),
            }
        }
    }
    match name {
        Some(_) => Err("an odd number of label references".to_owned()),
        None => Ok(()),
    }
}
