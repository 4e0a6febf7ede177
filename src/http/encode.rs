//! PromQL answers as Prometheus' JSON, written by hand: `resultType` before `result`, values as strings.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use icecore_query::promql::histogram::Closed;
use icecore_query::promql::{Answer, HistogramValue, Labels, QueryValue, Sample};
use icecore_storage::model::Tier;
use icecore_storage::scan::Coverage;

use super::number::{push_float, push_int, push_json_text, push_json_texts, push_seconds};

const TRUNCATED: &str = "results truncated due to limit";
/// What a point often takes: a time of ten digits, and a number of eight.
const POINT_BYTES: usize = 24;
/// Warnings, and infos, that an answer shows.
const REMARKS_MAX: usize = 10;

/// What an answer carries beyond its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// Series at most; more are cut off with a warning.
    pub limit: Option<usize>,
    /// Whether the coverage is added: what was read, and from which layers.
    pub with_coverage: bool,
    /// What the query took, where that is asked for.
    pub stats: Option<QueryStats>,
}

/// What a query took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryStats {
    /// From the request to the answer.
    pub elapsed: Duration,
    /// Samples, rows and cells read.
    pub samples: u64,
}

/// The body of a successful query.
pub fn answer_json(answer: &Answer, form: AnswerForm) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
    let limit = form.limit.unwrap_or(usize::MAX);
    let mut is_truncated = false;
    match &answer.value {
        QueryValue::Scalar { ts_ns, value } => {
            out.extend_from_slice(b"scalar\",\"result\":");
            push_point(&mut out, *ts_ns, *value);
        }
        QueryValue::Text { ts_ns, text } => {
            out.extend_from_slice(b"string\",\"result\":[");
            push_seconds(&mut out, *ts_ns);
            out.push(b',');
            push_json_text(&mut out, text);
            out.push(b']');
        }
        QueryValue::Vector(samples) => {
            out.extend_from_slice(b"vector\",\"result\":[");
            is_truncated = samples.len() > limit;
            for (index, sample) in samples.iter().take(limit).enumerate() {
                push_comma(&mut out, index);
                push_metric(&mut out, &sample.labels);
                match &sample.value {
                    Sample::Float(value) => {
                        out.extend_from_slice(b",\"value\":");
                        push_point(&mut out, sample.ts_ns, *value);
                    }
                    Sample::Histogram(histogram) => {
                        out.extend_from_slice(b",\"histogram\":");
                        push_histogram_point(&mut out, sample.ts_ns, histogram);
                    }
                }
                out.push(b'}');
            }
            out.push(b']');
        }
        QueryValue::Matrix(all_series) => {
            out.extend_from_slice(b"matrix\",\"result\":[");
            is_truncated = all_series.len() > limit;
            for (index, series) in all_series.iter().take(limit).enumerate() {
                push_comma(&mut out, index);
                push_metric(&mut out, &series.labels);
                push_points(&mut out, &series.points);
                out.push(b'}');
            }
            out.push(b']');
        }
    }
    if let Some(stats) = form.stats {
        push_stats(&mut out, stats);
    }
    out.push(b'}');
    let truncated = is_truncated.then_some(TRUNCATED);
    let (warnings, infos) = (shown(&answer.warnings, "warning"), shown(&answer.infos, "info"));
    push_notices(&mut out, "warnings", warnings.iter().map(|text| &**text).chain(truncated));
    push_notices(&mut out, "infos", infos.iter().map(|text| &**text));
    if form.with_coverage {
        push_coverage(&mut out, &answer.coverage);
    }
    out.extend_from_slice(b"}\n");
    out
}

/// The first remarks, and how many more there were, as Prometheus has it.
fn shown<'a>(remarks: &'a [String], kind: &str) -> Vec<Cow<'a, str>> {
    let first = remarks.iter().take(REMARKS_MAX).map(|text| Cow::from(text.as_str()));
    let omitted = remarks.len().saturating_sub(REMARKS_MAX);
    let more = (omitted > 0).then(|| Cow::from(format!("{omitted} more {kind} annotations omitted")));
    first.chain(more).collect()
}

/// The body of a successful metadata request: `data` is JSON already.
pub(super) fn data_json(data: &[u8], is_truncated: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 128);
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    out.extend_from_slice(data);
    push_notices(&mut out, "warnings", is_truncated.then_some(TRUNCATED).into_iter());
    out.extend_from_slice(b"}\n");
    out
}

/// A label set as a JSON object.
pub(super) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        push_comma(out, index);
        push_json_text(out, name);
        out.push(b':');
        push_json_text(out, value);
    }
    out.push(b'}');
}

fn push_comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn push_metric(out: &mut Vec<u8>, labels: &Labels) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, labels);
}

fn push_quoted(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    push_float(out, value);
    out.push(b'"');
}

fn push_point(out: &mut Vec<u8>, ts_ns: i64, value: f64) {
    out.push(b'[');
    push_seconds(out, ts_ns);
    out.push(b',');
    push_quoted(out, value);
    out.push(b']');
}

/// Floats and histograms of a series stand in two lists, each left out when it is empty.
fn push_points(out: &mut Vec<u8>, points: &[(i64, Sample)]) {
    out.reserve(points.len() * POINT_BYTES);
    let mut floats = 0;
    for (ts_ns, sample) in points {
        if let Sample::Float(value) = sample {
            out.extend_from_slice(if floats == 0 { b",\"values\":[" } else { b"," });
            push_point(out, *ts_ns, *value);
            floats += 1;
        }
    }
    if floats > 0 {
        out.push(b']');
    }
    if floats == points.len() {
        return;
    }
    let mut histograms = 0;
    for (ts_ns, sample) in points {
        if let Sample::Histogram(histogram) = sample {
            out.extend_from_slice(if histograms == 0 { b",\"histograms\":[" } else { b"," });
            push_histogram_point(out, *ts_ns, histogram);
            histograms += 1;
        }
    }
    out.push(b']');
}

fn push_histogram_point(out: &mut Vec<u8>, ts_ns: i64, histogram: &HistogramValue) {
    out.push(b'[');
    push_seconds(out, ts_ns);
    out.push(b',');
    push_histogram(out, histogram);
    out.push(b']');
}

fn push_histogram(out: &mut Vec<u8>, histogram: &HistogramValue) {
    out.extend_from_slice(b"{\"count\":");
    push_quoted(out, histogram.count);
    out.extend_from_slice(b",\"sum\":");
    push_quoted(out, histogram.sum);
    let mut buckets = 0;
    for bucket in histogram.intervals() {
        out.extend_from_slice(if buckets == 0 { b",\"buckets\":[[" } else { b",[" });
        push_int(out, boundary_rule(bucket.closed));
        for value in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            push_quoted(out, value);
        }
        out.push(b']');
        buckets += 1;
    }
    if buckets > 0 {
        out.push(b']');
    }
    out.push(b'}');
}

/// Which bounds of a bucket belong to it, in Prometheus' numbers.
fn boundary_rule(closed: Closed) -> u8 {
    match closed {
        Closed::Upper => 0,
        Closed::Lower => 1,
        Closed::Both => 3,
    }
}

fn push_notices<'a>(out: &mut Vec<u8>, name: &str, notices: impl Iterator<Item = &'a str>) {
    let mut notices = notices.peekable();
    if notices.peek().is_none() {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    push_json_texts(out, notices);
}

/// What the query took: `,"stats":{...}`. Phases are not told apart, and samples are counted as they are read.
fn push_stats(out: &mut Vec<u8>, stats: QueryStats) {
    let (seconds, samples) = (stats.elapsed.as_secs_f64(), stats.samples);
    let text = format!(
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{seconds},\"resultSortTime\":0,\"queryPreparationTime\":0,\
         \"innerEvalTime\":{seconds},\"execQueueTime\":0,\"execTotalTime\":{seconds}}},\
         \"samples\":{{\"totalQueryableSamples\":{samples},\"peakSamples\":{samples}}}}}"
    );
    out.extend_from_slice(text.as_bytes());
}

/// What was read: `,"coverage":{...}`.
pub(super) fn push_coverage(out: &mut Vec<u8>, coverage: &Coverage) {
    out.extend_from_slice(b",\"coverage\":{\"rows\":");
    push_int(out, coverage.rows);
    out.extend_from_slice(b",\"cells\":{");
    for (index, (tier, cells)) in Tier::CELLS.iter().zip(coverage.cells).enumerate() {
        push_comma(out, index);
        push_json_text(out, tier.name());
        out.push(b':');
        push_int(out, cells);
    }
    out.extend_from_slice(b"},\"pages\":");
    push_int(out, coverage.pages);
    out.extend_from_slice(b",\"rounded\":");
    match coverage.rounded {
        Some(tier) => push_json_text(out, tier.name()),
        None => out.extend_from_slice(b"null"),
    }
    let mut tail = String::new();
    let gone = coverage.raw_gone_before_ns;
    let written = match gone {
        Some(ts_ns) => write!(tail, ",\"raw_gone_before\":\"{}\"}}", super::number::rfc3339(ts_ns)),
        None => write!(tail, ",\"raw_gone_before\":null}}"),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    out.extend_from_slice(tail.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icecore_storage::model::{BucketLayout, FloatBucket, NativeHistogram};

    use super::*;

    fn check(value: QueryValue, form: AnswerForm, wanted: &str) {
        let answer = Answer { value, warnings: Vec::new(), infos: Vec::new(), coverage: Coverage::default() };
        let text = String::from_utf8(answer_json(&answer, form)).unwrap();
        assert_eq!(text.trim_end(), wanted);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn scalar_and_text_have_prometheus_shape() {
        check(
            QueryValue::Scalar { ts_ns: 4_000_000_000, value: 2.0 },
            AnswerForm::default(),
            r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#,
        );
        check(
            QueryValue::Text { ts_ns: 1_500_000_000, text: "a\"b".to_owned() },
            AnswerForm::default(),
            r#"{"status":"success","data":{"resultType":"string","result":[1.500,"a\"b"]}}"#,
        );
    }

    #[test]
    fn empty_results_are_empty_lists() {
        check(
            QueryValue::Vector(Vec::new()),
            AnswerForm::default(),
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
        );
        check(
            QueryValue::Matrix(Vec::new()),
            AnswerForm { limit: Some(1), with_coverage: true, stats: None },
            r#"{"status":"success","data":{"resultType":"matrix","result":[]},"coverage":{"rows":0,"cells":{"1m":0,"5m":0,"1h":0},"pages":0,"rounded":null,"raw_gone_before":null}}"#,
        );
    }

    #[test]
    fn remarks_beyond_ten_are_counted() {
        let remarks: Vec<String> = (0..12).map(|number| format!("r{number}")).collect();
        let found = shown(&remarks, "info");
        assert_eq!((found.len(), &*found[10]), (11, "2 more info annotations omitted"));
        assert_eq!(shown(&remarks[..10], "info").len(), 10);
    }

    #[test]
    fn stats_stand_within_the_data() {
        let stats = QueryStats { elapsed: Duration::from_millis(1500), samples: 7 };
        check(
            QueryValue::Vector(Vec::new()),
            AnswerForm { stats: Some(stats), ..AnswerForm::default() },
            r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":1.5,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":1.5,"execQueueTime":0,"execTotalTime":1.5},"samples":{"totalQueryableSamples":7,"peakSamples":7}}}}"#,
        );
    }

    #[test]
    fn notices_stand_after_the_data() {
        let value = QueryValue::Vector(Vec::new());
        let infos = vec!["window rounded to 5m".to_owned()];
        let answer = Answer { value, warnings: Vec::new(), infos, coverage: Coverage::default() };
        let text = String::from_utf8(answer_json(&answer, AnswerForm::default())).unwrap();
        assert!(text.ends_with("},\"infos\":[\"window rounded to 5m\"]}\n"), "{text}");
    }

    #[test]
    fn histogram_has_bounds_and_rule_of_each_bucket() {
        let bucket = |index, count| FloatBucket { index, count };
        let exponential = NativeHistogram {
            layout: BucketLayout::Exponential { schema: 0, zero_threshold: 0.25 },
            count: 8.0,
            sum: 3.5,
            zero_count: 1.0,
            positive: vec![bucket(0, 2.0), bucket(1, 0.0), bucket(2, 1.5)],
            negative: vec![bucket(1, 4.0)],
            ..NativeHistogram::default()
        };
        let custom = NativeHistogram {
            layout: BucketLayout::Custom { bounds: Arc::new([-1.0, 2.0]) },
            count: 3.0,
            positive: vec![bucket(0, 1.0), bucket(1, 1.0), bucket(2, 1.0)],
            ..NativeHistogram::default()
        };
        let check = |native: &NativeHistogram, wanted: &str| {
            let mut out = Vec::new();
            push_histogram(&mut out, &HistogramValue::from(native));
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        };
        check(
            &exponential,
            r#"{"count":"8","sum":"3.5","buckets":[[1,"-2","-1","4"],[3,"-0.25","0.25","1"],[0,"0.5","1","2"],[0,"2","4","1.5"]]}"#,
        );
        check(
            &custom,
            r#"{"count":"3","sum":"0","buckets":[[0,"-Inf","-1","1"],[0,"-1","2","1"],[0,"2","+Inf","1"]]}"#,
        );
        check(&NativeHistogram::default(), r#"{"count":"0","sum":"0"}"#);
    }

    #[test]
    fn points_of_floats_stand_in_values() {
        let mut out = Vec::new();
        push_points(
            &mut out,
            &[(1_000_000_000, Sample::Float(1.5)), (2_000_000_000, Sample::Float(f64::NAN))],
        );
        assert_eq!(String::from_utf8(out).unwrap(), r#","values":[[1,"1.5"],[2,"NaN"]]"#);
    }
}
