//! Points into samples: what becomes of each kind of data, and the labels that a resource gives all of its points.
//!
//! Order of events for a resource: its labels, then metric by metric its points, then `target_info`, at the time of the
//! latest point. A point is refused as a whole.

use icecore_storage::model::stale::STALE_MARKER;

use super::attributes::{Attributes, push_value};
use super::exemplar;
use super::exponential::native;
use super::message::{
    AnyValue, Buckets, DATA_POINTS, Data, DataKind, EXPONENTIAL_ATTRIBUTES, EXPONENTIAL_EXEMPLARS,
    HISTOGRAM_ATTRIBUTES, HISTOGRAM_EXEMPLARS, METRICS, Metric, POINT_ATTRIBUTES, POINT_EXEMPLARS, Point,
    RESOURCE, RESOURCE_ATTRIBUTES, RESOURCE_METRICS, SCOPE_METRICS, Temporality, each, read_pair,
};
use super::names::{Form, metric_name};
use crate::ingest::line::LineLimits;
use crate::ingest::protobuf::Malformed;
use crate::ingest::remote::labels::NAME_LABEL;
use crate::ingest::remote::metadata::ENTRIES_MAX;
use crate::ingest::remote::{MetricKind, MetricMetadata};
use crate::ingest::samples::{Samples, Store};
use crate::{Error, Result};

/// Attributes of a resource that name it, and become `job` and `instance`.
const SERVICE: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];
/// Buckets of a point, and so series that it writes.
const BUCKETS_MAX: usize = 10_000;

/// What a request had besides samples.
#[derive(Debug, Default)]
pub struct Outcome<'a> {
    /// Points that cannot be taken.
    pub refused_points: usize,
    /// The reasons of the first of them, each once.
    pub reasons: Vec<String>,
    /// What it says of metrics.
    pub metadata: Vec<MetricMetadata<'a>>,
}

impl Outcome<'_> {
    fn refuse(&mut self, points: usize, reason: String) {
        const REASONS_MAX: usize = 10;
        self.refused_points += points;
        if points > 0 && self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// Decodes a request and hands its samples to `store`, in portions. The line of a sample is the number of its point,
/// from 1; that of `target_info` is 0.
///
/// # Errors
/// `InvalidInput` for a request that is malformed; of a large one portions may have been handed on. Those of `store`.
pub fn decode<'a>(body: &'a [u8], limits: &LineLimits, store: &mut Store<'_>) -> Result<Outcome<'a>> {
    // More than a portion holds: points are counted by the lines of refused samples.
    let samples = Samples::new(body, (limits.line_bytes_max, 1 << 17), store);
    let mut translation = Translation { samples, outcome: Outcome::default(), point: 0, latest_ns: 0 };
    for resource in each(body, RESOURCE_METRICS) {
        translation.take_resource(resource.map_err(Error::invalid)?)?;
    }
    translation.samples.finish()?;
    Ok(translation.outcome)
}

struct Translation<'a, 's> {
    samples: Samples<'s>,
    outcome: Outcome<'a>,
    /// Number of the point.
    point: u32,
    /// Latest point of the resource.
    latest_ns: i64,
}

/// Labels that a resource gives its points.
#[derive(Debug, Default)]
struct Target {
    job: String,
    instance: String,
}

impl Target {
    fn read(resource: &[u8]) -> std::result::Result<Self, Malformed> {
        let (mut namespace, mut name, mut instance) = (String::new(), None, String::new());
        for pair in each(resource, RESOURCE_ATTRIBUTES) {
            let (key, value) = read_pair(pair?)?;
            let mut text = String::new();
            if SERVICE.contains(&key) {
                push_value(&mut text, AnyValue::read(value)?)?;
            }
            match key {
                "service.namespace" => namespace = text,
                "service.name" => name = Some(text),
                "service.instance.id" => instance = text,
                _ => {}
            }
        }
        let job = match name {
            Some(name) if !namespace.is_empty() => format!("{namespace}/{name}"),
            name => name.unwrap_or_default(),
        };
        Ok(Self { job, instance })
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let both = [("job", self.job.as_str()), ("instance", self.instance.as_str())];
        both.into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// The names of the series of a metric.
struct Series<'t> {
    target: &'t Target,
    name: String,
    bucket: String,
    sum: String,
    count: String,
}

impl<'a> Translation<'a, '_> {
    fn take_resource(&mut self, message: &'a [u8]) -> Result<()> {
        self.latest_ns = 0;
        let resource =
            each(message, RESOURCE).last().transpose().map_err(Error::invalid)?.unwrap_or_default();
        let target = Target::read(resource).map_err(Error::invalid)?;
        let mut attributes = Attributes::new(self.samples.key_bytes_max());
        for scope in each(message, SCOPE_METRICS) {
            for metric in each(scope.map_err(Error::invalid)?, METRICS) {
                let metric = metric.and_then(Metric::read).map_err(Error::invalid)?;
                self.take_metric(&target, &metric, &mut attributes)?;
            }
        }
        attributes.read(resource, RESOURCE_ATTRIBUTES, &SERVICE).map_err(Error::invalid)?;
        if self.latest_ns == 0 || attributes.is_empty() || target.labels().next().is_none() {
            return Ok(());
        }
        let series = Series::new(&target, "target_info".to_owned());
        self.begin(0, &series, &series.name, &attributes, None)?;
        self.samples.sample(self.latest_ns, 1.0)
    }

    fn take_metric(
        &mut self,
        target: &Target,
        metric: &Metric<'a>,
        attributes: &mut Attributes<'a>,
    ) -> Result<()> {
        let Some(data) = metric.data else { return Ok(()) };
        let (kind, form) = form_of(&data);
        let bytes_max = self.samples.key_bytes_max();
        if bytes_max < metric.name.len().saturating_add(metric.unit.len()) {
            let points = each(data.message, DATA_POINTS).count();
            self.point = self.point.saturating_add(u32::try_from(points).unwrap_or(u32::MAX));
            self.outcome.refuse(points, format!("a metric whose name is longer than {bytes_max} bytes"));
            return Ok(());
        }
        let name = metric_name(metric.name, metric.unit, form);
        if let Some(reason) = refusal(metric, &data, &name) {
            let points = each(data.message, DATA_POINTS).count();
            self.point = self.point.saturating_add(u32::try_from(points).unwrap_or(u32::MAX));
            self.outcome.refuse(points, reason);
            return Ok(());
        }
        if self.outcome.metadata.len() < ENTRIES_MAX {
            let (help, unit) = (metric.description, metric.unit);
            self.outcome.metadata.push(MetricMetadata { metric: name.clone().into(), kind, help, unit });
        }
        let series = Series::new(target, name);
        for point in each(data.message, DATA_POINTS) {
            let message = point.map_err(Error::invalid)?;
            self.point = self.point.saturating_add(1);
            self.take_point(&series, data.kind, message, attributes)?;
        }
        Ok(())
    }

    fn take_point(
        &mut self,
        series: &Series<'_>,
        kind: DataKind,
        message: &'a [u8],
        attributes: &mut Attributes<'a>,
    ) -> Result<()> {
        let (point, number) = match kind {
            DataKind::Gauge | DataKind::Sum => (Point::read_number(message), POINT_ATTRIBUTES),
            DataKind::Histogram => (Point::read_histogram(message), HISTOGRAM_ATTRIBUTES),
            DataKind::ExponentialHistogram => (Point::read_histogram(message), EXPONENTIAL_ATTRIBUTES),
            DataKind::Summary => (Point::read_summary(message), POINT_ATTRIBUTES),
        };
        let point = point.map_err(Error::invalid)?;
        attributes.read(message, number, &[]).map_err(Error::invalid)?;
        let Ok(ts_ns) = i64::try_from(point.time_ns) else {
            self.outcome.refuse(1, format!("{}: time {} out of range", series.name, point.time_ns));
            return Ok(());
        };
        let taken = match kind {
            DataKind::Gauge | DataKind::Sum => self.take_number(series, &point, ts_ns, attributes, kind),
            DataKind::Histogram => self.take_histogram(series, &point, ts_ns, attributes),
            DataKind::ExponentialHistogram => self.take_exponential(series, &point, ts_ns, attributes),
            DataKind::Summary => self.take_summary(series, &point, ts_ns, attributes),
        }?;
        if taken {
            self.latest_ns = self.latest_ns.max(ts_ns);
        }
        Ok(())
    }

    fn take_number(
        &mut self,
        series: &Series<'_>,
        point: &Point<'_>,
        ts_ns: i64,
        attributes: &Attributes<'_>,
        kind: DataKind,
    ) -> Result<bool> {
        let value = if point.is_absent { Some(STALE_MARKER) } else { point.value };
        let Some(value) = value else {
            self.outcome.refuse(1, format!("{}: a point without a value", series.name));
            return Ok(false);
        };
        self.begin(self.point, series, &series.name, attributes, None)?;
        self.samples.sample(ts_ns, value)?;
        if kind == DataKind::Sum {
            self.take_exemplars(point, POINT_EXEMPLARS)?;
        }
        Ok(true)
    }

    fn take_histogram(
        &mut self,
        series: &Series<'_>,
        point: &Point<'_>,
        ts_ns: i64,
        attributes: &Attributes<'_>,
    ) -> Result<bool> {
        let Buckets { bounds, counts } = point.buckets().map_err(Error::invalid)?;
        if BUCKETS_MAX < bounds.len() {
            self.outcome.refuse(1, format!("{}: more than {BUCKETS_MAX} buckets", series.name));
            return Ok(false);
        }
        let value = |number: f64| if point.is_absent { STALE_MARKER } else { number };
        if let Some(sum) = point.sum {
            self.begin(self.point, series, &series.sum, attributes, None)?;
            self.samples.sample(ts_ns, value(sum))?;
        }
        self.begin(self.point, series, &series.count, attributes, None)?;
        self.samples.sample(ts_ns, value(point.count as f64))?;
        let exemplars = exemplar::of_buckets(point.message, HISTOGRAM_EXEMPLARS, &bounds);
        let mut exemplars = exemplars.map_err(Error::invalid)?.into_iter();
        let mut cumulative = 0_u64;
        for (bound, count) in bounds.iter().zip(counts) {
            cumulative = cumulative.saturating_add(count);
            let le = bound_text(*bound);
            self.begin(self.point, series, &series.bucket, attributes, Some(("le", &le)))?;
            self.samples.sample(ts_ns, value(cumulative as f64))?;
            self.take_exemplar(exemplars.next().flatten())?;
        }
        self.begin(self.point, series, &series.bucket, attributes, Some(("le", "+Inf")))?;
        self.samples.sample(ts_ns, value(point.count as f64))?;
        self.take_exemplar(exemplars.next_back().flatten())?;
        Ok(true)
    }

    /// The exemplars of a point, all of the series that was begun.
    fn take_exemplars(&mut self, point: &Point<'_>, number: u32) -> Result<()> {
        each(point.message, number)
            .try_for_each(|message| self.take_exemplar(Some(message.map_err(Error::invalid)?)))
    }

    fn take_exemplar(&mut self, message: Option<&[u8]>) -> Result<()> {
        let exemplar = message.map(exemplar::read).transpose().map_err(Error::invalid)?.flatten();
        exemplar.map_or(Ok(()), |exemplar| self.samples.exemplar(exemplar))
    }

    fn take_exponential(
        &mut self,
        series: &Series<'_>,
        point: &Point<'_>,
        ts_ns: i64,
        attributes: &Attributes<'_>,
    ) -> Result<bool> {
        if point.is_absent {
            self.begin(self.point, series, &series.name, attributes, None)?;
            self.samples.sample(ts_ns, STALE_MARKER)?;
            return Ok(true);
        }
        match native(point).map_err(Error::invalid)? {
            Ok(histogram) => {
                self.begin(self.point, series, &series.name, attributes, None)?;
                self.samples.histogram(ts_ns, &histogram)?;
                self.take_exemplars(point, EXPONENTIAL_EXEMPLARS)?;
                Ok(true)
            }
            Err(reason) => {
                self.outcome.refuse(1, format!("{}: {reason}", series.name));
                Ok(false)
            }
        }
    }

    fn take_summary(
        &mut self,
        series: &Series<'_>,
        point: &Point<'_>,
        ts_ns: i64,
        attributes: &Attributes<'_>,
    ) -> Result<bool> {
        let value = |number: f64| if point.is_absent { STALE_MARKER } else { number };
        for (name, number) in
            [(&series.sum, point.sum.unwrap_or_default()), (&series.count, point.count as f64)]
        {
            self.begin(self.point, series, name, attributes, None)?;
            self.samples.sample(ts_ns, value(number))?;
        }
        for pair in point.quantiles() {
            let (quantile, number) = pair.map_err(Error::invalid)?;
            let quantile = bound_text(quantile);
            self.begin(self.point, series, &series.name, attributes, Some(("quantile", &quantile)))?;
            self.samples.sample(ts_ns, value(number))?;
        }
        Ok(true)
    }

    /// Begins a series. Labels of the resource and of the kind come before attributes that are called the same.
    fn begin<'n>(
        &mut self,
        line: u32,
        series: &'n Series<'_>,
        name: &'n str,
        attributes: &Attributes<'_>,
        extra: Option<(&'n str, &'n str)>,
    ) -> Result<()> {
        self.samples.begin(line)?;
        let given = || series.target.labels().chain(extra).chain([(NAME_LABEL, name)]);
        given().for_each(|(name, value)| self.samples.label(name, value));
        if attributes.is_cut() {
            self.samples.cut();
        }
        if self.samples.is_too_long() {
            return Ok(());
        }
        attributes.each(|name, value| {
            if given().all(|(other, _)| other != name) {
                self.samples.label(name, value);
            }
        });
        Ok(())
    }
}

impl<'t> Series<'t> {
    fn new(target: &'t Target, name: String) -> Self {
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}"));
        Self { target, name, bucket, sum, count }
    }
}

fn form_of(data: &Data<'_>) -> (MetricKind, Form) {
    match data.kind {
        DataKind::Sum if data.is_monotonic => (MetricKind::Counter, Form::Counter),
        // A sum that may fall is a gauge, but not a ratio.
        DataKind::Sum => (MetricKind::Gauge, Form::Other),
        DataKind::Gauge => (MetricKind::Gauge, Form::Gauge),
        DataKind::Histogram | DataKind::ExponentialHistogram => (MetricKind::Histogram, Form::Other),
        DataKind::Summary => (MetricKind::Summary, Form::Other),
    }
}

/// Why all points of a metric are refused.
fn refusal(metric: &Metric<'_>, data: &Data<'_>, name: &str) -> Option<String> {
    let shown: String = metric.name.chars().take(100).collect();
    if name.is_empty() {
        return Some(format!("metric {shown:?} has no name that can be kept"));
    }
    match (data.kind, data.temporality) {
        (DataKind::Gauge | DataKind::Summary, _) | (_, Temporality::Cumulative) => None,
        (_, Temporality::Delta) => {
            Some(format!("{shown}: delta temporality is not taken: send cumulative values"))
        }
        (_, Temporality::Unspecified) => Some(format!("{shown}: no temporality is given")),
    }
}

/// A bound or a quantile as a value of a label.
fn bound_text(number: f64) -> String {
    if number.is_infinite() {
        if number < 0.0 { "-Inf".into() } else { "+Inf".into() }
    } else {
        number.to_string()
    }
}
