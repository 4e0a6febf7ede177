//! A native histogram as it was measured elsewhere: one sample of a series, any resolution, or bounds of its own.
//!
//! Only a value: sums, quantiles and resets are the business of the query languages. The histograms of cells are
//! [`Histogram`](super::Histogram)s, which have one resolution and whole counts.
//!
//! Source: Prometheus native histograms (schemas -4 to 8, and -53 for bounds of one's own).

mod text;

use std::sync::Arc;

use crate::{Error, Result};

/// The field that keeps the native histograms of a measurement, as texts ([`NativeHistogram::to_text`]): a metric of
/// Prometheus is a measurement, and its numbers are in [`PLAIN_FIELD`](super::schema::PLAIN_FIELD).
pub const HISTOGRAM_FIELD: &str = "__histogram__";

/// The coarsest schema: one bucket for each factor of 2^16.
pub const SCHEMA_MIN: i32 = -4;
/// The finest schema: 256 buckets for each doubling.
pub const SCHEMA_MAX: i32 = 8;
/// Prometheus' number for histograms with bounds of their own.
pub const SCHEMA_CUSTOM: i32 = -53;

/// What is known of the histogram before this one in its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetHint {
    /// Nothing: the counts are to be compared.
    #[default]
    Unknown,
    /// It counts anew.
    Reset,
    /// It goes on counting.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// Where the bounds of buckets are.
#[derive(Debug, Clone, PartialEq)]
pub enum BucketLayout {
    /// Bucket `i` holds `(2^((i-1)/2^schema), 2^(i/2^schema)]`, negative ones by absolute value; what is no farther from
    /// zero than the threshold is in the zero bucket.
    Exponential {
        /// From [`SCHEMA_MIN`] to [`SCHEMA_MAX`].
        schema: i32,
        /// Not negative, finite or infinite.
        zero_threshold: f64,
    },
    /// Bucket `i` holds values up to `bounds[i]`, the last one those above all bounds. There are no negative buckets.
    Custom {
        /// Ascending, without NaN.
        bounds: Arc<[f64]>,
    },
}

impl Default for BucketLayout {
    fn default() -> Self {
        Self::Exponential { schema: 0, zero_threshold: 0.0 }
    }
}

/// A bucket that is not empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatBucket {
    /// Index, see [`BucketLayout`].
    pub index: i32,
    /// Number of values; not whole in rates.
    pub count: f64,
}

/// A native histogram. [`check`](Self::check) tells whether it can be counted with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NativeHistogram {
    /// Where the bounds are.
    pub layout: BucketLayout,
    /// What is known of the one before.
    pub hint: ResetHint,
    /// Number of values, NaN among them.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Number of values in the zero bucket.
    pub zero_count: f64,
    /// Buckets above zero, or all of a custom layout, ascending by index.
    pub positive: Vec<FloatBucket>,
    /// Buckets below zero, ascending by index of the absolute value.
    pub negative: Vec<FloatBucket>,
}

impl NativeHistogram {
    /// Checks what [`BucketLayout`] and the order of the buckets promise. Linear in buckets and bounds.
    ///
    /// # Errors
    /// `InvalidInput` that names what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid(format!("native histogram: {what}")));
        for buckets in [&self.positive, &self.negative] {
            if !buckets.is_sorted_by(|a, b| a.index < b.index) {
                return wrong("buckets are not in ascending order".to_owned());
            }
        }
        match &self.layout {
            BucketLayout::Exponential { schema, zero_threshold } => {
                if !(SCHEMA_MIN..=SCHEMA_MAX).contains(schema) {
                    return wrong(format!("schema {schema} is not within {SCHEMA_MIN} and {SCHEMA_MAX}"));
                }
                if !(0.0..=f64::INFINITY).contains(zero_threshold) {
                    return wrong(format!("zero threshold {zero_threshold} is not possible"));
                }
            }
            BucketLayout::Custom { bounds } => {
                if bounds.iter().any(|bound| bound.is_nan()) || !bounds.is_sorted_by(|a, b| a < b) {
                    return wrong("custom bounds are not in ascending order".to_owned());
                }
                let last = i32::try_from(bounds.len()).unwrap_or(i32::MAX);
                let is_outside = |bucket: &FloatBucket| !(0..=last).contains(&bucket.index);
                if self.positive.iter().any(is_outside) {
                    return wrong(format!("a bucket lies outside {} custom bounds", bounds.len()));
                }
                if !self.negative.is_empty() || self.zero_count != 0.0 {
                    return wrong("custom bounds with a zero bucket or negative ones".to_owned());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(indices: &[i32]) -> Vec<FloatBucket> {
        indices.iter().map(|index| FloatBucket { index: *index, count: 1.0 }).collect()
    }

    fn check(histogram: &NativeHistogram, complaint: &str) {
        match histogram.check() {
            Ok(()) => assert_eq!(complaint, ""),
            Err(error) => assert!(!complaint.is_empty() && error.to_string().contains(complaint), "{error}"),
        }
    }

    #[test]
    fn check_exponential_refuses_what_cannot_be_counted_with() {
        let of = |schema, zero_threshold| NativeHistogram {
            layout: BucketLayout::Exponential { schema, zero_threshold },
            ..NativeHistogram::default()
        };
        check(&of(8, 0.0), "");
        check(&of(-4, f64::INFINITY), "");
        check(&of(9, 0.0), "schema 9");
        check(&of(-5, 0.0), "schema -5");
        check(&of(0, f64::NAN), "zero threshold NaN");
        check(&of(0, -1.0), "zero threshold -1");
        check(&NativeHistogram { positive: buckets(&[i32::MIN, i32::MAX]), ..of(0, 0.0) }, "");
        check(&NativeHistogram { positive: buckets(&[2, 1]), ..of(0, 0.0) }, "ascending");
        check(&NativeHistogram { negative: buckets(&[1, 1]), ..of(0, 0.0) }, "ascending");
    }

    #[test]
    fn check_custom_refuses_what_cannot_be_counted_with() {
        let of = |bounds: &[f64], indices: &[i32]| NativeHistogram {
            layout: BucketLayout::Custom { bounds: bounds.into() },
            positive: buckets(indices),
            ..NativeHistogram::default()
        };
        check(&of(&[1.0, 2.0], &[0, 1, 2]), "");
        check(&of(&[], &[0]), "");
        check(&of(&[1.0, 2.0], &[3]), "outside 2 custom bounds");
        check(&of(&[1.0, 2.0], &[-1]), "outside");
        check(&of(&[1.0, 1.0], &[]), "ascending");
        check(&of(&[f64::NAN], &[]), "ascending");
        check(&NativeHistogram { zero_count: 1.0, ..of(&[1.0], &[]) }, "zero bucket");
    }
}
