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

#[cfg(test)]
mod tests {
    use icecore_storage::model::native::{BucketLayout, FloatBucket};

    use super::*;

    #[test]
    fn text_has_buckets_from_the_least_to_the_greatest() {
        let bucket = |index, count| FloatBucket { index, count };
        let hist = HistogramValue {
            layout: BucketLayout::Exponential { schema: 0, zero_threshold: 1e-5 },
            count: 1e6,
            sum: -0.5,
            zero_count: 2.0,
            positive: vec![bucket(0, 1.0), bucket(20, 1.5)],
            negative: vec![bucket(1, 3.0)],
            ..HistogramValue::default()
        };
        let wanted =
            "{count:1e+06, sum:-0.5, [-2,-1):3, [-1e-05,1e-05]:2, (0.5,1]:1, (524288,1.048576e+06]:1.5}";
        assert_eq!(hist.to_string(), wanted);
    }
}
