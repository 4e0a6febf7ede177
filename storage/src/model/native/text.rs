//! Native histograms as text, the form they are stored in.
//!
//! One line: `schema;zero threshold;hint;count;sum;zero count;positive buckets;negative buckets`, as in
//! `3;0.001;u;12;18.4;2;-2:4,1 5:5;`. Buckets are runs of neighbours: the index of the first, and their counts. With
//! bounds of one's own, schema -53, these stand in the place of the zero threshold. Numbers are the shortest that read
//! back as the same number.

use std::sync::Arc;

use super::{BucketLayout, FloatBucket, NativeHistogram, ResetHint, SCHEMA_CUSTOM};
use crate::{Error, Result};

const PARTS: usize = 8;

impl NativeHistogram {
    /// The histogram as text. Buckets without a count are left out. Linear in buckets and bounds.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(64 + 4 * (self.positive.len() + self.negative.len()));
        match &self.layout {
            BucketLayout::Exponential { schema, zero_threshold } => {
                text.push_str(&schema.to_string());
                text.push(';');
                put(&mut text, *zero_threshold);
            }
            BucketLayout::Custom { bounds } => {
                text.push_str(&SCHEMA_CUSTOM.to_string());
                text.push(';');
                for (idx, bound) in bounds.iter().enumerate() {
                    if idx > 0 {
                        text.push(',');
                    }
                    put(&mut text, *bound);
                }
            }
        }
        text.push(';');
        text.push(letter_of(self.hint));
        text.push(';');
        put(&mut text, self.count);
        text.push(';');
        put(&mut text, self.sum);
        text.push(';');
        put(&mut text, self.zero_count);
        for buckets in [&self.positive, &self.negative] {
            text.push(';');
            put_buckets(&mut text, buckets);
        }
        text
    }

    /// The histogram that a text means. What it takes in memory is at most eight times the text, and a little.
    ///
    /// # Errors
    /// `InvalidInput` that says what is wrong, and as [`NativeHistogram::check`].
    pub fn from_text(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.splitn(PARTS + 1, ';').collect();
        let [schema, bounds, hint, count, sum, zero_count, positive, negative] = parts.as_slice() else {
            return Err(wrong(format!("{} parts in place of {PARTS}", parts.len())));
        };
        let layout = match number::<i32>(schema)? {
            SCHEMA_CUSTOM => BucketLayout::Custom { bounds: bounds_of(bounds)? },
            schema => BucketLayout::Exponential { schema, zero_threshold: number(bounds)? },
        };
        let histogram = Self {
            layout,
            hint: hint_of(hint)?,
            count: number(count)?,
            sum: number(sum)?,
            zero_count: number(zero_count)?,
            positive: buckets_of(positive)?,
            negative: buckets_of(negative)?,
        };
        histogram.check()?;
        Ok(histogram)
    }
}

/// Appends the shortest text that reads back as the same number: at most 24 bytes.
fn put(text: &mut String, number: f64) {
    let is_long = number != 0.0 && number.is_finite() && !(1e-5..1e17).contains(&number.abs());
    text.push_str(&if is_long { format!("{number:e}") } else { number.to_string() });
}

fn put_buckets(text: &mut String, buckets: &[FloatBucket]) {
    let mut next = None;
    for bucket in buckets.iter().filter(|bucket| bucket.count != 0.0) {
        match next {
            Some(next) if next == i64::from(bucket.index) => text.push(','),
            _ => {
                if next.is_some() {
                    text.push(' ');
                }
                text.push_str(&bucket.index.to_string());
                text.push(':');
            }
        }
        put(text, bucket.count);
        next = Some(i64::from(bucket.index) + 1);
    }
}

fn buckets_of(text: &str) -> Result<Vec<FloatBucket>> {
    let mut buckets = Vec::new();
    for run in text.split(' ').filter(|run| !run.is_empty()) {
        let (first, counts) = run.split_once(':').ok_or_else(|| wrong(format!("no index in {run:?}")))?;
        for (index, count) in (i64::from(number::<i32>(first)?)..).zip(counts.split(',')) {
            let index = i32::try_from(index).map_err(|_| wrong(format!("there is no bucket {index}")))?;
            buckets.push(FloatBucket { index, count: number(count)? });
        }
    }
    Ok(buckets)
}

fn bounds_of(text: &str) -> Result<Arc<[f64]>> {
    text.split(',').filter(|bound| !bound.is_empty()).map(number).collect()
}

fn letter_of(hint: ResetHint) -> char {
    match hint {
        ResetHint::Unknown => 'u',
        ResetHint::Reset => 'r',
        ResetHint::NotReset => 'n',
        ResetHint::Gauge => 'g',
    }
}

fn hint_of(text: &str) -> Result<ResetHint> {
    Ok(match text {
        "u" => ResetHint::Unknown,
        "r" => ResetHint::Reset,
        "n" => ResetHint::NotReset,
        "g" => ResetHint::Gauge,
        other => return Err(wrong(format!("hint {other:?}"))),
    })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N> {
    text.parse().map_err(|_| wrong(format!("{text:?} is no number")))
}

fn wrong(what: String) -> Error {
    Error::invalid(format!("native histogram: {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(pairs: &[(i32, f64)]) -> Vec<FloatBucket> {
        pairs.iter().map(|(index, count)| FloatBucket { index: *index, count: *count }).collect()
    }

    #[test]
    fn text_of_each_layout_is_as_documented() {
        let exponential = NativeHistogram {
            layout: BucketLayout::Exponential { schema: 3, zero_threshold: 0.001 },
            count: 12.0,
            sum: 18.4,
            zero_count: 2.0,
            positive: buckets(&[(-2, 4.0), (-1, 1.0), (3, 0.0), (5, 5.0)]),
            ..NativeHistogram::default()
        };
        assert_eq!(exponential.to_text(), "3;0.001;u;12;18.4;2;-2:4,1 5:5;");
        let custom = NativeHistogram {
            layout: BucketLayout::Custom { bounds: [0.5, 1.0].into() },
            hint: ResetHint::Gauge,
            count: 1.5,
            sum: f64::INFINITY,
            positive: buckets(&[(2, 1.5)]),
            ..NativeHistogram::default()
        };
        assert_eq!(custom.to_text(), "-53;0.5,1;g;1.5;inf;0;2:1.5;");
        assert_eq!(NativeHistogram::from_text(&custom.to_text()).unwrap(), custom);
    }

    #[test]
    fn text_that_means_no_histogram_is_refused() {
        let cases = [
            ("", "1 parts"),
            ("0;0;u;1;1;0;0:1;;", "9 parts"),
            ("9;0;u;1;1;0;;", "schema 9"),
            ("0;-1;u;1;1;0;;", "zero threshold"),
            ("0;0;x;1;1;0;;", "hint"),
            ("0;0;u;one;1;0;;", "\"one\" is no number"),
            ("0;0;u;1;1;0;1;", "no index"),
            ("0;0;u;1;1;0;1:1,;", "is no number"),
            ("0;0;u;1;1;0;2147483647:1,1;", "no bucket 2147483648"),
            ("0;0;u;1;1;0;2:1 1:1;", "ascending"),
            ("-53;1;u;1;1;0;2:1;", "outside 1 custom bounds"),
        ];
        for (text, complaint) in cases {
            let error = NativeHistogram::from_text(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    fn any_buckets() -> impl Strategy<Value = Vec<FloatBucket>> {
        let count = prop_oneof![(1_u32..100).prop_map(f64::from), 1e-9..1e15_f64];
        proptest::collection::btree_map(-40..40_i32, count, 0..20).prop_map(|buckets| {
            buckets.into_iter().map(|(index, count)| FloatBucket { index, count }).collect()
        })
    }

    fn any_histogram() -> impl Strategy<Value = NativeHistogram> {
        let hint = prop_oneof![
            Just(ResetHint::Unknown),
            Just(ResetHint::Reset),
            Just(ResetHint::NotReset),
            Just(ResetHint::Gauge)
        ];
        let numbers = (any::<f64>(), any::<f64>(), 0.0..1e9_f64);
        (-4..=8_i32, 0.0..1.0_f64, hint, numbers, any_buckets(), any_buckets()).prop_map(
            |(schema, zero_threshold, hint, (count, sum, zero_count), positive, negative)| NativeHistogram {
                layout: BucketLayout::Exponential { schema, zero_threshold },
                hint,
                count,
                sum,
                zero_count,
                positive,
                negative,
            },
        )
    }

    proptest! {
        #[test]
        fn histogram_read_back_is_the_same(histogram in any_histogram()) {
            let read = NativeHistogram::from_text(&histogram.to_text()).unwrap();
            // NaN is not equal to itself.
            prop_assert_eq!(format!("{read:?}"), format!("{histogram:?}"));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-0-9;:, unrginfaN.]{0,60}") {
            let _outcome = NativeHistogram::from_text(&text);
        }
    }
}
