//! A histogram as a text, as `count_values` puts it into a label.

use std::fmt;

use super::HistogramValue;
use super::bounds::Closed;
use crate::promql::number::format_general as general;

impl fmt::Display for HistogramValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{{count:{}, sum:{}", general(self.count), general(self.sum))?;
        for bucket in self.intervals() {
            let (open, close) = match bucket.closed {
                Closed::Upper => ('(', ']'),
                Closed::Lower => ('[', ')'),
                Closed::Both => ('[', ']'),
            };
            let (lower, upper) = (general(bucket.lower), general(bucket.upper));
            write!(out, ", {open}{lower},{upper}{close}:{}", general(bucket.count))?;
        }
        out.write_str("}")
    }
}
