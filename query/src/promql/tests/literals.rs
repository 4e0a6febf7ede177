//! Values as scripts write them: numbers, gaps, stale markers, histograms in double braces, and sequences of these.

use std::sync::{Arc, LazyLock};

use icecore_query::promql::HistogramValue;
use icecore_storage::model::{BucketLayout, FloatBucket, NativeHistogram, ResetHint};
use regex::Regex;

use super::Outcome;

/// The NaN by which Prometheus marks the end of a series.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// `v`, `v+d`, `vxN`, `v+dxN`; hexadecimal numbers would not be clear here.
static VALUES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"(?:inf|nan|[0-9.]+(?:e[-+]?\d+)?)";
    Regex::new(&format!(r"(?i)^([-+]?{number})(?:([-+])({number}))?(?:x(\d+))?$")).ok()
});

/// `{{..}}`, `{{..}}xN`, `{{..}}+{{..}}xN`.
static HISTOGRAMS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\{\{(.*?)\}\}(?:([-+])\{\{(.*?)\}\})?(?:x(\d+))?$").ok());

/// A value of a line.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Float(f64),
    Histogram(Literal),
}

/// A histogram as it was written.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    pub(super) value: HistogramValue,
    /// Whether its hint was written, and so is to be compared.
    pub(super) has_hint: bool,
}

impl Literal {
    /// As storage takes it.
    pub(super) fn native(&self) -> NativeHistogram {
        native(&self.value)
    }
}

fn native(value: &HistogramValue) -> NativeHistogram {
    NativeHistogram {
        layout: value.layout.clone(),
        hint: value.hint,
        count: value.count,
        sum: value.sum,
        zero_count: value.zero_count,
        positive: value.positive.clone(),
        negative: value.negative.clone(),
    }
}

/// Reads the values of a line; `None`: a gap.
pub(super) fn sequences(text: &str) -> Outcome<Vec<Option<Given>>> {
    let parts = words(text).into_iter().map(sequence);
    Ok(parts.collect::<Outcome<Vec<Vec<Option<Given>>>>>()?.concat())
}

/// Cuts at spaces that are not within braces.
fn words(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let words = text.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c.is_whitespace() && depth == 0
    });
    words.filter(|word| !word.is_empty()).collect()
}

fn sequence(text: &str) -> Outcome<Vec<Option<Given>>> {
    let bad = || format!("not a value: {text:?}");
    let times = |text: &str| text.parse::<usize>().map_err(|_| bad());
    if let Some(rest) = text.strip_prefix('_') {
        return Ok(vec![None; rest.strip_prefix('x').map_or(Ok(1), times)?]);
    }
    if let Some(rest) = text.strip_prefix("stale") {
        let count = 1 + rest.strip_prefix('x').map_or(Ok(0), times)?;
        return Ok(vec![Some(Given::Float(STALE)); count]);
    }
    if text.starts_with("{{") {
        return histograms(text);
    }
    let parts = VALUES.as_ref().and_then(|pattern| pattern.captures(text)).ok_or_else(bad)?;
    let float = |index: usize| parts.get(index).map_or(Ok(0.0), |part| part.as_str().parse::<f64>());
    let mut value = float(1).map_err(|_| bad())?;
    let step = float(3).map_err(|_| bad())?;
    let sign = if parts.get(2).is_some_and(|sign| sign.as_str() == "-") { -1.0 } else { 1.0 };
    let mut values = vec![Some(Given::Float(value))];
    for _ in 0..parts.get(4).map_or(Ok(0), |count| times(count.as_str()))? {
        value += sign * step;
        values.push(Some(Given::Float(value)));
    }
    Ok(values)
}

fn histograms(text: &str) -> Outcome<Vec<Option<Given>>> {
    let bad = || format!("not a histogram: {text:?}");
    let parts = HISTOGRAMS.as_ref().and_then(|pattern| pattern.captures(text)).ok_or_else(bad)?;
    let part = |index: usize| parts.get(index).map(|part| part.as_str());
    let mut literal = histogram(part(1).unwrap_or_default())?;
    let step = part(3).map(histogram).transpose()?;
    let mut found = vec![Some(Given::Histogram(literal.clone()))];
    for _ in 0..part(4).map_or(Ok(0), str::parse::<usize>).map_err(|_| bad())? {
        if let Some(step) = &step {
            let hint = literal.value.hint;
            let sum = match part(2) {
                Some("-") => literal.value.minus(&step.value),
                _ => literal.value.plus(&step.value),
            };
            literal.value = HistogramValue { hint, ..sum.ok_or_else(bad)?.value };
        }
        found.push(Some(Given::Histogram(literal.clone())));
    }
    Ok(found)
}

/// Reads what stands between the braces: `name:value` and `name:[values]`.
fn histogram(text: &str) -> Outcome<Literal> {
    let bad = |what: &str| format!("bad {what:?} in histogram {text:?}");
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| bad(text));
    let (mut schema, mut threshold, mut custom, mut has_hint) = (0.0, 0.0, Vec::new(), false);
    let (mut positive, mut negative) = ((0.0, Vec::new()), (0.0, Vec::new()));
    let mut native = NativeHistogram::default();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once(':').ok_or_else(|| bad(rest))?;
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or_else(|| bad(list))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        let list = || value.split_whitespace().map(number).collect::<Outcome<Vec<f64>>>();
        match name {
            "schema" => schema = number(value)?,
            "sum" => native.sum = number(value)?,
            "count" => native.count = number(value)?,
            "z_bucket" => native.zero_count = number(value)?,
            "z_bucket_w" => threshold = number(value)?,
            "custom_values" => custom = list()?,
            "buckets" => positive.1 = list()?,
            "offset" => positive.0 = number(value)?,
            "n_buckets" => negative.1 = list()?,
            "n_offset" => negative.0 = number(value)?,
            "counter_reset_hint" => {
                has_hint = true;
                native.hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    _ => return Err(bad(value)),
                };
            }
            _ => return Err(bad(name)),
        }
        rest = after.trim();
    }
    let buckets = |(offset, counts): (f64, Vec<f64>)| {
        let indices = offset as i32..;
        let buckets = indices.zip(counts).map(|(index, count)| FloatBucket { index, count });
        buckets.collect::<Vec<FloatBucket>>()
    };
    (native.positive, native.negative) = (buckets(positive), buckets(negative));
    native.layout = if schema == -53.0 {
        BucketLayout::Custom { bounds: Arc::from(custom) }
    } else {
        BucketLayout::Exponential { schema: schema as i32, zero_threshold: threshold }
    };
    native.check().map_err(|error| format!("{text}: {error}"))?;
    Ok(Literal { value: HistogramValue::from(&native), has_hint })
}

/// The hint that Prometheus' storage gives back: a chunk ends where counting begins anew and where the layout changes,
/// and of the first histogram of a chunk nothing is known.
pub(super) fn stored_hint(before: Option<&HistogramValue>, value: &HistogramValue) -> ResetHint {
    if value.hint == ResetHint::Gauge {
        return ResetHint::Gauge;
    }
    let told = HistogramValue {
        hint: if value.hint == ResetHint::Reset { ResetHint::Reset } else { ResetHint::Unknown },
        ..value.clone()
    };
    match before {
        Some(before)
            if before.hint != ResetHint::Gauge
                && before.layout == value.layout
                && !told.is_reset_after(before) =>
        {
            ResetHint::NotReset
        }
        _ => ResetHint::Unknown,
    }
}

/// Classic buckets of one time, on their way to a histogram with bounds of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Family {
    /// Upper bounds and cumulative counts.
    pub(super) buckets: Vec<(f64, f64)>,
    pub(super) count: Option<f64>,
    pub(super) sum: f64,
}

impl Family {
    /// The histogram with the same counts.
    pub(super) fn native(mut self) -> NativeHistogram {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The same bound may be written in several ways; the first one counts.
        self.buckets.dedup_by_key(|bucket| bucket.0);
        let count = self.count.or(self.buckets.last().map(|bucket| bucket.1)).unwrap_or_default();
        if self.buckets.last().is_none_or(|bucket| bucket.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let counts = self.buckets.iter().map(|(_, seen)| seen - std::mem::replace(&mut before, *seen));
        let positive: Vec<FloatBucket> =
            (0..).zip(counts).map(|(index, count)| FloatBucket { index, count }).collect();
        let bounds = self.buckets.iter().map(|bucket| bucket.0).filter(|bound| *bound != f64::INFINITY);
        let layout = BucketLayout::Custom { bounds: bounds.collect() };
        NativeHistogram { layout, count, sum: self.sum, positive, ..NativeHistogram::default() }
    }
}

/// Whether a histogram is as written, up to rounding.
pub(super) fn is_near(wanted: &Literal, found: &HistogramValue) -> bool {
    let (literal, wanted) = (wanted, &wanted.value);
    let same_buckets = |wanted: &[FloatBucket], found: &[FloatBucket]| {
        wanted.len() == found.len()
            && wanted.iter().zip(found).all(|(a, b)| a.index == b.index && close(a.count, b.count))
    };
    wanted.layout == found.layout
        && (!literal.has_hint || wanted.hint == found.hint)
        && close(wanted.count, found.count)
        && close(wanted.sum, found.sum)
        && close(wanted.zero_count, found.zero_count)
        && same_buckets(&wanted.positive, &found.positive)
        && same_buckets(&wanted.negative, &found.negative)
}

/// Whether two numbers are the same up to rounding.
pub(super) fn close(wanted: f64, found: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    let (distance, size) = ((wanted - found).abs(), wanted.abs() + found.abs());
    let is_tiny = wanted == 0.0 || found == 0.0 || size < f64::MIN_POSITIVE;
    wanted == found
        || (wanted.is_nan() && found.is_nan())
        || (is_tiny && distance < EPSILON * f64::MIN_POSITIVE)
        || distance / size < EPSILON
}
