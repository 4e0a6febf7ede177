//! OTLP metrics: an `ExportMetricsServiceRequest` into samples, named as Prometheus names them by default
//! (`UnderscoreEscapingWithSuffixes`).
//!
//! Read in this order: `message` (views of the messages that borrow from the body), `names` (metrics, units and labels),
//! `attributes` (values into labels), `exponential` (native histograms), `exemplar`, `translate` (points into samples), [`json`] (the JSON form, rewritten as protobuf).
//! Knows nothing of HTTP or the engine.
//!
//! Cumulative sums, gauges, histograms and summaries are taken; exponential histograms are native ones. Points of delta
//! temporality are refused, the others kept. Scopes are left out.

#![warn(clippy::indexing_slicing)]

mod attributes;
mod exemplar;
mod exponential;
pub mod json;
mod message;
#[cfg(test)]
pub(crate) mod messages;
mod names;
#[cfg(test)]
mod tests;
mod translate;

pub use translate::{Outcome, decode};
