//! PromQL: numbers over time, as Prometheus 3 answers them, over any [`Scan`](icecore_storage::scan::Scan).
//!
//! Read in this order: [`ast`] (the tree), `lexer`, `number` and `parser` (text to tree),
//! `duration` (durations that wait for the query), `check` (types), `pattern` (regular expressions), `print`
//! (tree to text), `steady` (what holds for a step in any range), [`value`] (what is answered), [`histogram`] (native histograms and their arithmetic), `functions`
//! (the table and its formulas), `eval` (tree to value).
//!
//! A numeric field is the metric `measurement_field`; the field `value` is the metric `measurement`. The matcher
//! `__stat__="hist|count|sum|min|max|first|last"` asks for a statistic of windows instead of samples.

pub mod ast;
mod check;
mod duration;
mod eval;
mod functions;
pub mod histogram;
mod lexer;
mod number;
mod parser;
mod pattern;
mod print;
mod steady;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod value;

pub use ast::{Expr, MatchOp, Selector, ValueType};
pub use eval::{
    Context, NewestSample, SeriesSamples, SeriesSink, each_series, find_measurements, find_series,
    has_histograms, instant, newest, range,
};
pub use functions::{Signature, signature};
pub use histogram::HistogramValue;
pub use parser::{parse, parse_selector};
pub use print::pretty;
pub use value::{Answer, Labels, MatrixSeries, QueryValue, Sample, VectorSample, answer_bytes};
