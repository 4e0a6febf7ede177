//! OTLP metrics: an `ExportMetricsServiceRequest` into samples, named as Prometheus names them by default
//! (`UnderscoreEscapingWithSuffixes`).
//!
//! Read in this order: `message` (views of the messages that borrow from the body), `names` (metrics, units and labels),
//! `attributes` (values into labels), `translate` (points into samples), [`json`] (the JSON form, rewritten as protobuf).
//! Knows nothing of HTTP or the engine.
//!
//! Cumulative sums, gauges, histograms with bounds and summaries are taken. What cannot be: delta temporality, exponential
//! histograms; their points are refused, the others kept. Exemplars and scopes are left out.

#![warn(clippy::indexing_slicing)]

mod attributes;
pub mod json;
mod message;
#[cfg(test)]
pub(crate) mod messages;
mod names;
#[cfg(test)]
mod tests;
mod translate;

pub use translate::{Outcome, decode};
