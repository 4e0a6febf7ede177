//! Type, help and unit of the metrics of a database, as senders told them last. In memory and bounded: after a restart
//! senders tell them again. Knows no wire form.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::ingest::remote::{MetricKind, MetricMetadata};

/// Metrics of a database that are remembered; further ones are not.
const METRICS_MAX: usize = 10_000;
/// Bytes of a name beyond which a metric is not remembered.
const NAME_BYTES_MAX: usize = 512;
/// Bytes of help and unit that are kept.
const TEXT_BYTES_MAX: usize = 1_024;

/// What is known of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricInfo {
    /// What it is.
    pub kind: MetricKind,
    /// What it means.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// What is known of the metrics of a database.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    metrics: Mutex<BTreeMap<String, MetricInfo>>,
}

impl Metadata {
    /// Remembers what a request said; the last that is said of a metric counts.
    pub(crate) fn note(&self, entries: &[MetricMetadata<'_>]) {
        if entries.is_empty() {
            return;
        }
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let (help, unit) = (shortened(entry.help), shortened(entry.unit));
            let has_room = metrics.len() < METRICS_MAX;
            match metrics.get_mut(&*entry.metric) {
                Some(known) if known.kind == entry.kind && known.help == help && known.unit == unit => {}
                Some(known) => {
                    *known = MetricInfo { kind: entry.kind, help: help.to_owned(), unit: unit.to_owned() };
                }
                None if has_room && (1..=NAME_BYTES_MAX).contains(&entry.metric.len()) => {
                    let info = MetricInfo { kind: entry.kind, help: help.to_owned(), unit: unit.to_owned() };
                    metrics.insert(entry.metric.clone().into_owned(), info);
                }
                None => {}
            }
        }
    }

    /// The metrics by name, at most `limit`; only the one of this name when there is one.
    pub(crate) fn list(&self, metric: Option<&str>, limit: usize) -> Vec<(String, MetricInfo)> {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let pick = |(name, info): (&String, &MetricInfo)| (name.clone(), info.clone());
        match metric {
            Some(metric) => metrics.get_key_value(metric).map(pick).into_iter().take(limit).collect(),
            None => metrics.iter().take(limit).map(pick).collect(),
        }
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(metric: &'a str, kind: MetricKind, help: &'a str) -> MetricMetadata<'a> {
        MetricMetadata { metric: metric.into(), kind, help, unit: "" }
    }

    #[test]
    fn last_word_counts_and_texts_are_cut() {
        let metadata = Metadata::default();
        let long = "ä".repeat(2_000);
        metadata.note(&[entry("b", MetricKind::Gauge, ""), entry("a", MetricKind::Counter, &long)]);
        metadata.note(&[entry("b", MetricKind::Counter, "now")]);
        let names: Vec<_> = metadata.list(None, 9).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(metadata.list(None, 1).len(), 1);
        let found = metadata.list(Some("b"), 9);
        assert_eq!((found[0].1.kind, &*found[0].1.help), (MetricKind::Counter, "now"));
        assert_eq!(metadata.list(Some("a"), 9)[0].1.help.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn metrics_beyond_the_bound_are_not_remembered() {
        let metadata = Metadata::default();
        let names: Vec<String> = (0..METRICS_MAX + 5).map(|number| format!("m{number}")).collect();
        let entries: Vec<_> = names.iter().map(|name| entry(name, MetricKind::Gauge, "")).collect();
        metadata.note(&entries);
        let long = "m".repeat(NAME_BYTES_MAX + 1);
        metadata.note(&[entry(&long, MetricKind::Gauge, "")]);
        assert_eq!(metadata.list(None, usize::MAX).len(), METRICS_MAX);
    }
}
