//! The labels of a Prometheus series as a raw series key: the fields `labels` of a `prometheus.TimeSeries` as they
//! stand in a request. Doors whose labels come in another form write them in this one.
//!
//! The name is the measurement; labels with an empty value are no labels.

use icecore_storage::model::{Dialect, SeriesKey};

use crate::ingest::protobuf::{Fields, Malformed, push_bytes, push_head, varint_len};

/// The dialect of labels in protobuf.
pub static LABELS: Dialect = Dialect { id: 2, series_key, field_name, unescape };

/// The field of all samples: its metric is called like the measurement.
pub(crate) const VALUE_FIELD: &[u8] = b"value";
/// The label that names the metric.
pub(crate) const NAME_LABEL: &str = "__name__";
/// `TimeSeries.labels`.
pub(super) const LABELS_FIELD: u32 = 1;

const LABEL_NAME: u32 = 1;
const LABEL_VALUE: u32 = 2;

/// Appends one label of a raw key.
pub(crate) fn push_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let part_len = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    push_head(out, LABELS_FIELD, part_len(name) + part_len(value));
    push_bytes(out, LABEL_NAME, name.as_bytes());
    push_bytes(out, LABEL_VALUE, value.as_bytes());
}

pub(super) fn read_label(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut name, mut value) = ("", "");
    for field in Fields::new(message) {
        match field? {
            (LABEL_NAME, text) => name = text.text()?,
            (LABEL_VALUE, text) => value = text.text()?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn series_key(raw: &[u8]) -> Result<SeriesKey, String> {
    let mut metric = None;
    let mut tags = Vec::new();
    for field in Fields::new(raw) {
        let (number, label) = field.map_err(|error| error.to_string())?;
        // A request may have samples between its labels.
        if number != LABELS_FIELD {
            continue;
        }
        let (name, value) =
            label.bytes().and_then(read_label).map_err(|error| format!("a label cannot be read: {error}"))?;
        match name {
            "" => return Err("a label without a name".to_owned()),
            _ if value.is_empty() => {}
            NAME_LABEL if metric.is_some() => return Err("label `__name__` stands twice".to_owned()),
            NAME_LABEL => metric = Some(value),
            "time" | "__stat__" => {
                return Err(format!("label `{name}` has a meaning of its own here and cannot be stored"));
            }
            _ => tags.push((name, value)),
        }
    }
    let metric = metric.ok_or_else(|| "a series without a metric name".to_owned())?;
    SeriesKey::new(metric, tags).map_err(|error| error.to_string())
}

fn field_name(raw: &[u8]) -> Result<String, String> {
    String::from_utf8(raw.to_vec()).map_err(|_| "field name is not UTF-8".to_owned())
}

fn unescape(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// The series of a raw key for people, at most a line; empty when it cannot be read.
pub(crate) fn shown(raw: &[u8]) -> String {
    const CHARS_MAX: usize = 160;
    let Ok(key) = series_key(raw) else { return String::new() };
    let text = key.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(labels: &[(&str, &str)]) -> Result<String, String> {
        let mut raw = Vec::new();
        for (name, value) in labels {
            push_label(&mut raw, name, value);
        }
        series_key(&raw).map(|key| key.to_string())
    }

    #[test]
    fn key_is_the_name_and_the_labels_that_have_a_value() {
        let labels =
            [("job", "api"), ("__name__", "a:b"), ("empty", ""), ("ünïcode.name", "ä\n"), ("le", "+Inf")];
        assert_eq!(key(&labels).unwrap(), r#"a:b{job="api",le="+Inf",ünïcode.name="ä\n"}"#);
        assert_eq!(key(&[("__name__", "up")]).unwrap(), "up{}");
    }

    #[test]
    fn key_without_name_or_with_labels_twice_or_reserved_is_refused() {
        for (labels, wanted) in [
            (&[("job", "a")][..], "without a metric name"),
            (&[("__name__", "")], "without a metric name"),
            (&[("__name__", "a"), ("__name__", "b")], "stands twice"),
            (&[("__name__", "a"), ("x", "1"), ("x", "2")], "`x` stands twice"),
            (&[("__name__", "a"), ("", "1")], "without a name"),
            (&[("__name__", "a"), ("time", "1")], "`time`"),
            (&[("__name__", "a"), ("__stat__", "hist")], "`__stat__`"),
        ] {
            let reason = key(labels).unwrap_err();
            assert!(reason.contains(wanted), "{labels:?}: {reason}");
        }
        let not_utf8 = [0x0a, 5, 0x0a, 1, b'a', 0x12, 0, 0x0a, 5, 0x0a, 1, 0xff, 0x12, 0];
        assert!(series_key(&not_utf8).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn long_series_is_shown_short() {
        let mut raw = Vec::new();
        push_label(&mut raw, NAME_LABEL, &"ä".repeat(1000));
        assert_eq!(shown(&raw).chars().count(), 163);
    }
}
