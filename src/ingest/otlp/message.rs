//! Views of the messages of `opentelemetry.proto.metrics.v1` that borrow from the body. Lists stay bytes and are read
//! field by field; the numbers are those of the published `.proto` files.

use crate::ingest::protobuf::{Fields, Malformed, Wire, packed_fixed64, packed_varints};

type Read<T> = Result<T, Malformed>;

/// The messages of a repeated field.
pub(super) fn each(message: &[u8], wanted: u32) -> impl Iterator<Item = Read<&[u8]>> {
    Fields::new(message).filter_map(move |field| match field {
        Ok((number, value)) => (number == wanted).then(|| value.bytes()),
        Err(error) => Some(Err(error)),
    })
}

/// `ExportMetricsServiceRequest.resource_metrics`.
pub(super) const RESOURCE_METRICS: u32 = 1;
/// `ResourceMetrics.resource`.
pub(super) const RESOURCE: u32 = 1;
/// `ResourceMetrics.scope_metrics`.
pub(super) const SCOPE_METRICS: u32 = 2;
/// `ScopeMetrics.metrics`.
pub(super) const METRICS: u32 = 2;
/// `Resource.attributes`.
pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
/// `attributes` of number points and summaries.
pub(super) const POINT_ATTRIBUTES: u32 = 7;
/// `HistogramDataPoint.attributes`.
pub(super) const HISTOGRAM_ATTRIBUTES: u32 = 9;
/// `ExponentialHistogramDataPoint.attributes`.
pub(super) const EXPONENTIAL_ATTRIBUTES: u32 = 1;
/// `exemplars` of number points.
pub(super) const POINT_EXEMPLARS: u32 = 5;
/// `HistogramDataPoint.exemplars`.
pub(super) const HISTOGRAM_EXEMPLARS: u32 = 8;
/// `ExponentialHistogramDataPoint.exemplars`.
pub(super) const EXPONENTIAL_EXEMPLARS: u32 = 11;
/// `Exemplar.filtered_attributes`.
pub(super) const EXEMPLAR_ATTRIBUTES: u32 = 7;
/// `data_points` of all kinds of data.
pub(super) const DATA_POINTS: u32 = 1;

/// What the points of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// How points follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temporality {
    Unspecified,
    Delta,
    Cumulative,
}

/// The points of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'a> {
    pub(super) kind: DataKind,
    pub(super) temporality: Temporality,
    pub(super) is_monotonic: bool,
    pub(super) message: &'a [u8],
}

impl<'a> Data<'a> {
    fn read(kind: DataKind, message: &'a [u8]) -> Read<Self> {
        let mut data = Self { kind, temporality: Temporality::Unspecified, is_monotonic: false, message };
        for field in Fields::new(message) {
            match field? {
                (2, value) => {
                    data.temporality = match value.low_varint()? {
                        1 => Temporality::Delta,
                        2 => Temporality::Cumulative,
                        _ => Temporality::Unspecified,
                    }
                }
                (3, value) => data.is_monotonic = value.varint()? != 0,
                _ => {}
            }
        }
        Ok(data)
    }
}

/// `Metric`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) unit: &'a str,
    pub(super) data: Option<Data<'a>>,
}

impl<'a> Metric<'a> {
    pub(super) fn read(message: &'a [u8]) -> Read<Self> {
        let mut metric = Self { name: "", description: "", unit: "", data: None };
        for field in Fields::new(message) {
            let (number, value) = field?;
            let kind = match number {
                1 => {
                    metric.name = value.text()?;
                    continue;
                }
                2 => {
                    metric.description = value.text()?;
                    continue;
                }
                3 => {
                    metric.unit = value.text()?;
                    continue;
                }
                5 => DataKind::Gauge,
                7 => DataKind::Sum,
                9 => DataKind::Histogram,
                10 => DataKind::ExponentialHistogram,
                11 => DataKind::Summary,
                _ => continue,
            };
            metric.data = Some(Data::read(kind, value.bytes()?)?);
        }
        Ok(metric)
    }
}

/// A point of any kind: the fields that they have alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point<'a> {
    pub(super) message: &'a [u8],
    pub(super) time_ns: u64,
    /// The number of a number point.
    pub(super) value: Option<f64>,
    /// The count of the others.
    pub(super) count: u64,
    /// The sum of a summary, and of a histogram that has one.
    pub(super) sum: Option<f64>,
    /// The series has no value at this time.
    pub(super) is_absent: bool,
}

impl<'a> Point<'a> {
    fn empty(message: &'a [u8]) -> Self {
        Self { message, time_ns: 0, value: None, count: 0, sum: None, is_absent: false }
    }

    pub(super) fn read_number(message: &'a [u8]) -> Read<Self> {
        let mut point = Self::empty(message);
        for field in Fields::new(message) {
            match field? {
                (3, value) => point.time_ns = value.fixed64()?,
                (4, value) => point.value = Some(value.double()?),
                (6, value) => point.value = Some(value.fixed64()?.cast_signed() as f64),
                (8, value) => point.is_absent = is_absent(value)?,
                _ => {}
            }
        }
        Ok(point)
    }

    pub(super) fn read_histogram(message: &'a [u8]) -> Read<Self> {
        Self::read_distribution(message, 10)
    }

    pub(super) fn read_summary(message: &'a [u8]) -> Read<Self> {
        let mut point = Self::read_distribution(message, 8)?;
        point.sum.get_or_insert(0.0);
        Ok(point)
    }

    fn read_distribution(message: &'a [u8], flags: u32) -> Read<Self> {
        let mut point = Self::empty(message);
        for field in Fields::new(message) {
            match field? {
                (3, value) => point.time_ns = value.fixed64()?,
                (4, value) => point.count = value.fixed64()?,
                (5, value) => point.sum = Some(value.double()?),
                (number, value) if number == flags => point.is_absent = is_absent(value)?,
                _ => {}
            }
        }
        Ok(point)
    }

    /// Upper bounds and counts of the buckets of a histogram that have a bound; counts are not cumulative.
    pub(super) fn buckets(&self) -> Read<Buckets> {
        let (mut bounds, mut counts) = (Vec::new(), Vec::new());
        for field in Fields::new(self.message) {
            match field? {
                (6, value) => counts.extend(packed_fixed64(value)?),
                (7, value) => bounds.extend(packed_fixed64(value)?.map(f64::from_bits)),
                _ => {}
            }
        }
        Ok(Buckets { bounds, counts })
    }

    /// The buckets of an exponential histogram.
    pub(super) fn exponential(&self) -> Read<Exponential<'a>> {
        let mut found = Exponential::default();
        for field in Fields::new(self.message) {
            match field? {
                (6, value) => found.scale = value.sint32()?,
                (7, value) => found.zero_count = value.fixed64()?,
                (8, value) => found.positive = value.bytes()?,
                (9, value) => found.negative = value.bytes()?,
                (14, value) => found.zero_threshold = value.double()?,
                _ => {}
            }
        }
        Ok(found)
    }

    /// Quantiles of a summary with their values.
    pub(super) fn quantiles(&self) -> impl Iterator<Item = Read<(f64, f64)>> {
        each(self.message, 6).map(|message| {
            let (mut quantile, mut number) = (0.0, 0.0);
            for field in Fields::new(message?) {
                match field? {
                    (1, value) => quantile = value.double()?,
                    (2, value) => number = value.double()?,
                    _ => {}
                }
            }
            Ok((quantile, number))
        })
    }
}

/// `Exemplar`, but for its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExemplarPoint<'a> {
    pub(super) time_ns: u64,
    pub(super) value: f64,
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
}

impl<'a> ExemplarPoint<'a> {
    pub(super) fn read(message: &'a [u8]) -> Read<Self> {
        let mut point = Self { time_ns: 0, value: 0.0, trace_id: &[], span_id: &[] };
        for field in Fields::new(message) {
            match field? {
                (2, value) => point.time_ns = value.fixed64()?,
                (3, value) => point.value = value.double()?,
                (6, value) => point.value = value.fixed64()?.cast_signed() as f64,
                (4, value) => point.span_id = value.bytes()?,
                (5, value) => point.trace_id = value.bytes()?,
                _ => {}
            }
        }
        Ok(point)
    }
}

fn is_absent(flags: Wire<'_>) -> Read<bool> {
    Ok(flags.low_varint()? & 1 != 0)
}

/// Buckets of a histogram point.
#[derive(Debug)]
pub(super) struct Buckets {
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
}

/// Buckets of an exponential histogram point; each side is the bytes of `Buckets`.
#[derive(Debug, Default)]
pub(super) struct Exponential<'a> {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: &'a [u8],
    pub(super) negative: &'a [u8],
}

/// `ExponentialHistogramDataPoint.Buckets`: the index of the first bucket, and the counts of at most `counts_max`.
pub(super) fn read_counts(message: &[u8], counts_max: usize) -> Read<(i32, Vec<u64>)> {
    let (mut offset, mut counts) = (0, Vec::new());
    for field in Fields::new(message) {
        match field? {
            (1, value) => offset = value.sint32()?,
            (2, value) => {
                for count in packed_varints(value) {
                    let count = count?;
                    if counts.len() < counts_max {
                        counts.push(count);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((offset, counts))
}

/// `KeyValue`: the key, and the bytes of the value.
pub(super) fn read_pair(message: &[u8]) -> Read<(&str, &[u8])> {
    let (mut key, mut found): (&str, &[u8]) = ("", &[]);
    for field in Fields::new(message) {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => found = value.bytes()?,
            _ => {}
        }
    }
    Ok((key, found))
}

/// `AnyValue`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum AnyValue<'a> {
    Empty,
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// `ArrayValue`: its values are field 1.
    Array(&'a [u8]),
    /// `KeyValueList`: its pairs are field 1.
    Pairs(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> AnyValue<'a> {
    pub(super) fn read(message: &'a [u8]) -> Read<Self> {
        let mut found = Self::Empty;
        for field in Fields::new(message) {
            found = match field? {
                (1, value) => Self::Text(value.text()?),
                (2, value) => Self::Bool(value.varint()? != 0),
                (3, value) => Self::Int(value.int64()?),
                (4, value) => Self::Double(value.double()?),
                (5, value) => Self::Array(value.bytes()?),
                (6, value) => Self::Pairs(value.bytes()?),
                (7, value) => Self::Bytes(value.bytes()?),
                _ => found,
            };
        }
        Ok(found)
    }
}

/// `ArrayValue.values` and `KeyValueList.values`.
pub(super) const VALUES: u32 = 1;
