//! Type, help and unit of a metric, as senders tell them.

use std::borrow::Cow;

use super::write2::Symbols;
use crate::ingest::protobuf::{Fields, Malformed};

/// Entries of one request that are looked at.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// What a metric is. The numbers are those of both versions of remote write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricKind {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only grows, but for resets.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// Counts by bucket.
    Histogram = 3,
    /// Counts by bucket that go up and down.
    GaugeHistogram = 4,
    /// Quantiles, sum and count.
    Summary = 5,
    /// Always 1; its labels say something.
    Info = 6,
    /// States, one of them on.
    Stateset = 7,
}

impl MetricKind {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Unknown, "unknown"),
        (Self::Counter, "counter"),
        (Self::Gauge, "gauge"),
        (Self::Histogram, "histogram"),
        (Self::GaugeHistogram, "gaugehistogram"),
        (Self::Summary, "summary"),
        (Self::Info, "info"),
        (Self::Stateset, "stateset"),
    ];

    fn from_number(number: u32) -> Self {
        let found = Self::ALL.iter().find(|(kind, _)| *kind as u32 == number);
        found.map_or(Self::Unknown, |(kind, _)| *kind)
    }

    /// The name that Prometheus gives it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("unknown", |(_, name)| name)
    }
}

/// What a sender says of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricMetadata<'a> {
    /// Its name.
    pub metric: Cow<'a, str>,
    /// What it is.
    pub kind: MetricKind,
    /// What it means.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

/// `prometheus.MetricMetadata`.
pub(super) fn of_write1(message: &[u8]) -> Result<MetricMetadata<'_>, Malformed> {
    let mut found = MetricMetadata { metric: "".into(), kind: MetricKind::Unknown, help: "", unit: "" };
    for field in Fields::new(message) {
        match field? {
            (1, value) => found.kind = MetricKind::from_number(value.low_varint()?),
            (2, value) => found.metric = value.text()?.into(),
            (4, value) => found.help = value.text()?,
            (5, value) => found.unit = value.text()?,
            _ => {}
        }
    }
    Ok(found)
}

/// `io.prometheus.write.v2.Metadata`, of a metric. What points behind the table is taken for nothing.
pub(super) fn of_write2<'a>(
    metric: &'a str,
    message: &[u8],
    symbols: &Symbols<'a>,
) -> Result<MetricMetadata<'a>, Malformed> {
    let mut found = MetricMetadata { metric: metric.into(), kind: MetricKind::Unknown, help: "", unit: "" };
    for field in Fields::new(message) {
        match field? {
            (1, value) => found.kind = MetricKind::from_number(value.low_varint()?),
            (3, value) => found.help = symbols.get(value.low_varint()?.into()).unwrap_or_default(),
            (4, value) => found.unit = symbols.get(value.low_varint()?.into()).unwrap_or_default(),
            _ => {}
        }
    }
    Ok(found)
}
