//! Exemplars of OTLP as Prometheus takes them: the ids of trace and span in hex, and the attributes that the series has not,
//! where all of them have room.
//!
//! Exemplars of a histogram belong to its buckets: each bucket keeps the first of its own.

use super::attributes::push_value;
use super::message::{AnyValue, EXEMPLAR_ATTRIBUTES, ExemplarPoint, each, read_pair};
use crate::ingest::exemplar::ExemplarLabels;
use crate::ingest::protobuf::Malformed;
use crate::point::Exemplar;

/// Bytes of an id that may be kept; a trace has 16.
const ID_BYTES_MAX: usize = 64;
/// Bytes of attributes that may be kept: 128 characters.
const ATTRIBUTES_BYTES_MAX: usize = 1 << 10;

/// An exemplar; nothing where its labels or its time are not allowed.
pub(super) fn read(message: &[u8]) -> Result<Option<Exemplar>, Malformed> {
    let point = ExemplarPoint::read(message)?;
    let mut labels = ExemplarLabels::default();
    for (name, id) in [("trace_id", point.trace_id), ("span_id", point.span_id)] {
        if ID_BYTES_MAX < id.len() {
            return Ok(None);
        }
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        labels.push(name, &hex);
    }
    let (mut attributes, mut bytes) = (Vec::new(), 0);
    for pair in each(message, EXEMPLAR_ATTRIBUTES) {
        let (key, value) = read_pair(pair?)?;
        bytes += key.len() + value.len();
        if bytes <= ATTRIBUTES_BYTES_MAX {
            let mut text = String::new();
            push_value(&mut text, AnyValue::read(value)?)?;
            attributes.push((key, text));
        }
    }
    let pairs = || attributes.iter().map(|(name, value)| (*name, value.as_str()));
    if bytes <= ATTRIBUTES_BYTES_MAX && labels.fits(pairs()) {
        pairs().for_each(|(name, value)| labels.push(name, value));
    }
    let ts_ns = i64::try_from(point.time_ns).ok();
    Ok(ts_ns.zip(labels.finish()).map(|(ts_ns, labels)| Exemplar { labels, ts_ns, value: point.value }))
}

/// The first exemplar of each bucket: of those with these upper bounds, and of the one above them.
pub(super) fn of_buckets<'a>(
    message: &'a [u8],
    number: u32,
    bounds: &[f64],
) -> Result<Vec<Option<&'a [u8]>>, Malformed> {
    let mut exemplars = each(message, number).peekable();
    if exemplars.peek().is_none() {
        return Ok(Vec::new());
    }
    let mut found = vec![None; bounds.len() + 1];
    for exemplar in exemplars {
        let exemplar = exemplar?;
        let value = ExemplarPoint::read(exemplar)?.value;
        let bucket = bounds.partition_point(|bound| *bound < value);
        if let Some(place) = found.get_mut(bucket) {
            place.get_or_insert(exemplar);
        }
    }
    Ok(found)
}
