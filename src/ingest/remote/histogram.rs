//! Native histograms, `prometheus.Histogram`, the same in both versions: `count` = 1 or 2 (float), `sum` = 3, `schema` = 4,
//! `zero_threshold` = 5, `zero_count` = 6 or 7 (float), negative spans, deltas and counts = 8 to 10, positive ones = 11
//! to 13, `reset_hint` = 14, `timestamp` = 15 (ms), `custom_values` = 16.
//!
//! Spans say where runs of buckets begin, by the gap behind the run before; whole counts are deltas from bucket to bucket,
//! counts of floats are given as they are.

use icecore_storage::model::native::SCHEMA_CUSTOM;
use icecore_storage::model::{BucketLayout, FloatBucket, NativeHistogram, ResetHint, is_stale};

use super::labels::shown;
use super::ts_of;
use crate::ingest::protobuf::{Fields, Malformed, packed_fixed64, packed_varints, zigzag};
use crate::ingest::samples::Samples;
use crate::{Error, Result};

/// Buckets of a histogram above zero, and below it.
pub(crate) const BUCKETS_MAX: usize = 10_000;

/// Takes one histogram of the series that was begun.
///
/// # Errors
/// `InvalidInput` for a message that is malformed; those of the store.
pub(super) fn take(message: &[u8], samples: &mut Samples<'_>) -> Result<()> {
    let (ms, read) = read(message).map_err(Error::invalid)?;
    match (ts_of(ms), read) {
        (Err(reason), _) | (_, Err(reason)) => samples.refuse(|key| format!("{}: {reason}", shown(key))),
        (Ok(ts_ns), Ok(histogram)) if is_stale(histogram.sum) => samples.sample(ts_ns, histogram.sum)?,
        (Ok(ts_ns), Ok(histogram)) => samples.histogram(ts_ns, &histogram)?,
    }
    Ok(())
}

/// Looks whether all that [`read`] reads is there: a request that is malformed somewhere is refused before its first sample is
/// stored.
pub(super) fn check(message: &[u8]) -> std::result::Result<(), Malformed> {
    for field in Fields::new(message) {
        let (number, value) = field?;
        match number {
            1 | 6 => drop(value.varint()?),
            2 | 3 | 5 | 7 => drop(value.double()?),
            4 => drop(value.sint32()?),
            8 | 11 => drop(read_span(value.bytes()?)?),
            9 | 12 => packed_varints(value).try_for_each(|delta| delta.map(drop))?,
            10 | 13 | 16 => drop(packed_fixed64(value)?),
            14 => drop(value.low_varint()?),
            15 => drop(value.int64()?),
            _ => {}
        }
    }
    Ok(())
}

/// The time of a histogram in milliseconds, and the histogram, or why it is none.
pub(super) fn read(
    message: &[u8],
) -> std::result::Result<(i64, std::result::Result<NativeHistogram, String>), Malformed> {
    let mut read = Parts::default();
    let mut ms = 0;
    for field in Fields::new(message) {
        match field? {
            (1, value) => (read.count, read.is_whole) = (value.varint()? as f64, true),
            (2, value) => read.count = value.double()?,
            (3, value) => read.sum = value.double()?,
            (4, value) => read.schema = value.sint32()?,
            (5, value) => read.zero_threshold = value.double()?,
            (6, value) => read.zero_count = value.varint()? as f64,
            (7, value) => read.zero_count = value.double()?,
            (8, value) => read.negative.add_span(value.bytes()?)?,
            (9, value) => packed_varints(value).try_for_each(|delta| read.negative.add_delta(delta?))?,
            (10, value) => read.negative.add_counts(packed_fixed64(value)?),
            (11, value) => read.positive.add_span(value.bytes()?)?,
            (12, value) => packed_varints(value).try_for_each(|delta| read.positive.add_delta(delta?))?,
            (13, value) => read.positive.add_counts(packed_fixed64(value)?),
            (14, value) => read.hint = value.low_varint()?,
            (15, value) => ms = value.int64()?,
            (16, value) => {
                let room = (BUCKETS_MAX + 1).saturating_sub(read.bounds.len());
                read.bounds.extend(packed_fixed64(value)?.map(f64::from_bits).take(room));
            }
            _ => {}
        }
    }
    Ok((ms, read.histogram()))
}

/// A message as it stands.
#[derive(Debug, Default)]
struct Parts {
    count: f64,
    /// Whether counts are whole: then they must be those of the buckets.
    is_whole: bool,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: f64,
    hint: u32,
    bounds: Vec<f64>,
    positive: Side,
    negative: Side,
}

/// The buckets on one side of zero. Of more than are allowed one is kept.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<(i32, u32)>,
    counts: Vec<f64>,
    /// The whole count of the bucket before.
    before: i64,
}

impl Side {
    fn add_span(&mut self, message: &[u8]) -> std::result::Result<(), Malformed> {
        let span = read_span(message)?;
        if self.spans.len() <= BUCKETS_MAX {
            self.spans.push(span);
        }
        Ok(())
    }

    fn add_delta(&mut self, delta: u64) -> std::result::Result<(), Malformed> {
        self.before = self.before.saturating_add(zigzag(delta));
        if self.counts.len() <= BUCKETS_MAX {
            self.counts.push(self.before as f64);
        }
        Ok(())
    }

    fn add_counts(&mut self, counts: impl Iterator<Item = u64>) {
        let room = (BUCKETS_MAX + 1).saturating_sub(self.counts.len());
        self.counts.extend(counts.map(f64::from_bits).take(room));
    }

    fn buckets(&self) -> std::result::Result<Vec<FloatBucket>, String> {
        if BUCKETS_MAX < self.counts.len() || BUCKETS_MAX < self.spans.len() {
            return Err(format!("a native histogram of more than {BUCKETS_MAX} buckets"));
        }
        let named: u64 = self.spans.iter().map(|(_, length)| u64::from(*length)).sum();
        if named != self.counts.len() as u64 {
            let counts = self.counts.len();
            return Err(format!("a native histogram of spans for {named} buckets, with {counts}"));
        }
        let mut counts = self.counts.iter();
        let (mut buckets, mut next) = (Vec::with_capacity(self.counts.len()), 0_i64);
        for (offset, length) in &self.spans {
            next += i64::from(*offset);
            for count in counts.by_ref().take(*length as usize) {
                let index = i32::try_from(next)
                    .map_err(|_| format!("a native histogram with a bucket of index {next}"))?;
                if !(0.0..=f64::MAX).contains(count) {
                    return Err(format!("a native histogram with {count} in a bucket"));
                }
                if *count != 0.0 {
                    buckets.push(FloatBucket { index, count: *count });
                }
                next += 1;
            }
        }
        Ok(buckets)
    }
}

/// `BucketSpan`: the gap to the span before, and its buckets.
fn read_span(message: &[u8]) -> std::result::Result<(i32, u32), Malformed> {
    let (mut offset, mut length) = (0, 0);
    for field in Fields::new(message) {
        match field? {
            (1, value) => offset = value.sint32()?,
            (2, value) => length = value.low_varint()?,
            _ => {}
        }
    }
    Ok((offset, length))
}

impl Parts {
    fn histogram(self) -> std::result::Result<NativeHistogram, String> {
        let layout = match self.schema {
            SCHEMA_CUSTOM if BUCKETS_MAX < self.bounds.len() => {
                return Err(format!("a native histogram of more than {BUCKETS_MAX} bounds"));
            }
            SCHEMA_CUSTOM => BucketLayout::Custom { bounds: self.bounds.into() },
            schema => BucketLayout::Exponential { schema, zero_threshold: self.zero_threshold },
        };
        let hint = match self.hint {
            1 => ResetHint::Reset,
            2 => ResetHint::NotReset,
            3 => ResetHint::Gauge,
            _ => ResetHint::Unknown,
        };
        let histogram = NativeHistogram {
            layout,
            hint,
            count: self.count,
            sum: self.sum,
            zero_count: self.zero_count,
            positive: self.positive.buckets()?,
            negative: self.negative.buckets()?,
        };
        let both = histogram.positive.iter().chain(&histogram.negative);
        let counted = histogram.zero_count + both.map(|bucket| bucket.count).sum::<f64>();
        // NaN is counted and in no bucket.
        let is_whole = self.is_whole && !is_stale(histogram.sum);
        if is_whole && (histogram.count < counted || (!histogram.sum.is_nan() && counted < histogram.count)) {
            let count = histogram.count;
            return Err(format!("a native histogram of {count} values with {counted} in its buckets"));
        }
        histogram.check().map_err(|error| error.to_string())?;
        Ok(histogram)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail by panic")]
mod tests {
    use prost::Message as _;

    use super::super::messages::{Histogram, Span};
    use super::*;

    fn whole() -> Histogram {
        Histogram {
            count_int: Some(12),
            sum: 18.4,
            schema: 3,
            zero_threshold: 0.001,
            zero_count_int: Some(2),
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }],
            positive_deltas: vec![4, -3, 4],
            reset_hint: 2,
            timestamp: 7,
            ..Histogram::default()
        }
    }

    fn text(message: &Histogram) -> std::result::Result<String, String> {
        let (ms, histogram) = read(&message.encode_to_vec()).unwrap();
        assert_eq!(ms, message.timestamp);
        histogram.map(|histogram| histogram.to_text())
    }

    #[test]
    fn bytes_written_by_hand_are_a_histogram() {
        let message = [
            0x08, 3, // count 3
            0x19, 0, 0, 0, 0, 0, 0, 0x12, 0x40, // sum 4.5
            0x20, 0x01, // schema -1
            0x5a, 4, 0x08, 0x03, 0x10, 2, // a span from -2 on, of 2
            0x62, 2, 0x02, 0x02, // deltas 1, 1
            0x78, 9, // 9 ms
        ];
        let (ms, histogram) = read(&message).unwrap();
        assert_eq!((ms, histogram.unwrap().to_text()), (9, "-1;0;u;3;4.5;0;-2:1,2;".to_owned()));
    }

    #[test]
    fn whole_float_and_custom_histograms_are_read() {
        assert_eq!(text(&whole()).unwrap(), "3;0.001;n;12;18.4;2;-2:4,1 5:5;");
        let floats = Histogram {
            count_float: Some(2.5),
            zero_count_float: Some(0.5),
            sum: f64::NAN,
            negative_spans: vec![Span { offset: 1, length: 3 }],
            negative_counts: vec![1.5, 0.0, 0.5],
            reset_hint: 3,
            ..Histogram::default()
        };
        assert_eq!(text(&floats).unwrap(), "0;0;g;2.5;NaN;0.5;;1:1.5 3:0.5");
        let custom = Histogram {
            count_int: Some(3),
            schema: -53,
            positive_spans: vec![Span { offset: 1, length: 2 }],
            positive_deltas: vec![1, 1],
            custom_values: vec![0.5, 1.0],
            ..Histogram::default()
        };
        assert_eq!(text(&custom).unwrap(), "-53;0.5,1;u;3;0;0;1:1,2;");
    }

    #[test]
    fn what_is_no_histogram_is_refused_by_its_reason() {
        let spans = |offset, length| vec![Span { offset, length }];
        let many = vec![1; BUCKETS_MAX + 2];
        for (message, wanted) in [
            (Histogram { schema: 9, ..whole() }, "schema 9"),
            (Histogram { count_int: Some(11), ..whole() }, "of 11 values with 12"),
            (Histogram { count_int: Some(13), ..whole() }, "of 13 values with 12"),
            (
                Histogram { positive_spans: spans(0, u32::MAX), ..whole() },
                "spans for 4294967295 buckets, with 3",
            ),
            (Histogram { positive_spans: spans(i32::MAX, 3), ..whole() }, "index 2147483648"),
            (Histogram { positive_deltas: vec![-1, 1, 1], ..whole() }, "-1 in a bucket"),
            (Histogram { positive_deltas: many, ..whole() }, "more than 10000"),
            (Histogram { schema: -53, custom_values: vec![1.0], ..whole() }, "outside 1 custom bounds"),
        ] {
            let reason = text(&message).unwrap_err();
            assert!(reason.contains(wanted), "{wanted}: {reason}");
        }
        // One that is NaN is counted and in no bucket.
        assert!(text(&Histogram { count_int: Some(13), sum: f64::NAN, ..whole() }).is_ok());
    }

    #[test]
    fn check_refuses_what_read_refuses() {
        let message = whole().encode_to_vec();
        let mut refused = 0;
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut changed = message.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(check(&changed), read(&changed).map(drop), "{at} {bit}");
                refused += usize::from(check(&changed).is_err());
            }
            assert_eq!(check(&message[..at]), read(&message[..at]).map(drop), "{at}");
        }
        assert!(refused > 50, "{refused}");
    }

    #[test]
    fn cut_anywhere_is_malformed_or_another_message() {
        let message = whole().encode_to_vec();
        for end in 0..message.len() {
            let _outcome = read(&message[..end]);
        }
        assert!(read(&message[..message.len() - 1]).is_err());
    }
}
