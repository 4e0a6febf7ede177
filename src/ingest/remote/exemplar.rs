//! Exemplars of remote write: `labels` = 1 (of version 2 `labels_refs` = 1), `value` = 2, `timestamp` = 3 (ms).

use super::labels::read_label;
use super::ts_of;
use super::write2::{Symbols, each_label};
use crate::ingest::exemplar::ExemplarLabels;
use crate::ingest::protobuf::{Fields, Malformed};
use crate::point::Exemplar;

const LABELS: u32 = 1;

/// Reads all that will be read of an exemplar of version 1.
pub(super) fn check1(message: &[u8]) -> Result<(), Malformed> {
    walk1(message, |_, _| {}).map(drop)
}

/// An exemplar of version 1; nothing where its labels or its time are not allowed.
pub(super) fn read1(message: &[u8]) -> Result<Option<Exemplar>, Malformed> {
    let mut labels = ExemplarLabels::default();
    let (value, ms) = walk1(message, |name, value| labels.push(name, value))?;
    Ok(exemplar(labels, value, ms))
}

/// Reads all that will be read of an exemplar of version 2 but its labels.
pub(super) fn check2(message: &[u8]) -> Result<(), Malformed> {
    value_of(message).map(drop)
}

/// An exemplar of version 2; nothing where its labels or its time are not allowed.
pub(super) fn read2(message: &[u8], symbols: &Symbols<'_>) -> Result<Option<Exemplar>, Malformed> {
    let mut labels = ExemplarLabels::default();
    let named = each_label(message, symbols, |name, value| labels.push(name, value));
    let (value, ms) = value_of(message)?;
    Ok(named.ok().and_then(|()| exemplar(labels, value, ms)))
}

fn exemplar(labels: ExemplarLabels, value: f64, ms: i64) -> Option<Exemplar> {
    let (labels, ts_ns) = (labels.finish()?, ts_of(ms).ok()?);
    Some(Exemplar { labels, ts_ns, value })
}

fn walk1(message: &[u8], mut label: impl FnMut(&str, &str)) -> Result<(f64, i64), Malformed> {
    for field in Fields::new(message) {
        if let (LABELS, value) = field? {
            let (name, value) = value.bytes().and_then(read_label)?;
            label(name, value);
        }
    }
    value_of(message)
}

/// Value and time of an exemplar of either version.
fn value_of(message: &[u8]) -> Result<(f64, i64), Malformed> {
    let (mut value, mut ms) = (0.0, 0);
    for field in Fields::new(message) {
        match field? {
            (2, number) => value = number.double()?,
            (3, number) => ms = number.int64()?,
            _ => {}
        }
    }
    Ok((value, ms))
}
