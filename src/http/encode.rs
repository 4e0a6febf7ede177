//! PromQL answers as Prometheus' JSON, written by hand: `resultType` before `result`, values as strings.

use std::borrow::{Borrow, Cow};
use std::fmt::Write as _;
use std::time::Duration;

use icecore_query::promql::histogram::Closed;
use icecore_query::promql::{Answer, HistogramValue, Labels, MatrixSeries, QueryValue, Sample, VectorSample};
use icecore_storage::model::Tier;
use icecore_storage::scan::Coverage;

use super::number::{push_float, push_int, push_json_text, push_json_texts, push_seconds};

const TRUNCATED: &str = "results truncated due to limit";
/// What a point often takes: a time of ten digits, and a number of eight.
const POINT_BYTES: usize = 24;
/// Points of a series that are written between two looks at the size of a piece.
const FLOATS_AT_ONCE: usize = 1024;
const HISTOGRAMS_AT_ONCE: usize = 8;
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
    /// Steps that were answered before.
    pub reused_steps: u64,
}

/// The body of a successful query, whole.
pub fn answer_json(answer: &Answer, form: AnswerForm) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    let mut pieces = AnswerPieces::new(answer, form);
    while pieces.push(&mut out, usize::MAX) {}
    out
}

/// The body of a successful query, piece by piece.
#[derive(Debug)]
pub(super) struct AnswerPieces<A> {
    answer: A,
    form: AnswerForm,
    place: Place,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    /// The points of a series of a matrix, or a sample of a vector, by its number.
    Series(usize, Points),
    Tail,
    End,
}

/// What comes next of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Points {
    Metric,
    /// Floats and histograms stand in two lists, each left out when it is empty: the place in the points, and how many
    /// are in the list.
    Floats(usize, usize),
    Histograms(usize, usize),
}

impl<A: Borrow<Answer>> AnswerPieces<A> {
    pub(super) fn new(answer: A, form: AnswerForm) -> Self {
        Self { answer, form, place: Place::Head }
    }

    /// Appends until there are so many bytes, or a little more. Whether there is more to come.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        while self.place != Place::End && out.len() < bytes {
            self.place = self.step(out);
        }
        self.place != Place::End
    }

    fn step(&self, out: &mut Vec<u8>) -> Place {
        let answer: &Answer = self.answer.borrow();
        match self.place {
            Place::Head => {
                push_head(out, &answer.value);
                Place::Series(0, Points::Metric)
            }
            Place::Series(index, points) if index < self.shown(&answer.value) => match &answer.value {
                QueryValue::Matrix(series) => {
                    let next = series.get(index).and_then(|series| push_series(out, index, series, points));
                    next.map_or(Place::Series(index + 1, Points::Metric), |next| Place::Series(index, next))
                }
                QueryValue::Vector(samples) => {
                    samples.iter().skip(index).take(1).for_each(|sample| push_sample(out, index, sample));
                    Place::Series(index + 1, Points::Metric)
                }
                QueryValue::Scalar { .. } | QueryValue::Text { .. } => Place::Tail,
            },
            Place::Series(..) => Place::Tail,
            Place::Tail => {
                self.push_tail(out, answer);
                Place::End
            }
            Place::End => Place::End,
        }
    }

    /// Series or samples of the answer.
    fn shown(&self, value: &QueryValue) -> usize {
        listed(value).min(self.form.limit.unwrap_or(usize::MAX))
    }

    fn push_tail(&self, out: &mut Vec<u8>, answer: &Answer) {
        if matches!(answer.value, QueryValue::Vector(_) | QueryValue::Matrix(_)) {
            out.push(b']');
        }
        if let Some(stats) = self.form.stats {
            push_stats(out, stats);
        }
        out.push(b'}');
        let truncated = (self.shown(&answer.value) < listed(&answer.value)).then_some(TRUNCATED);
        let (warnings, infos) = (shown(&answer.warnings, "warning"), shown(&answer.infos, "info"));
        push_notices(out, "warnings", warnings.iter().map(|text| &**text).chain(truncated));
        push_notices(out, "infos", infos.iter().map(|text| &**text));
        if self.form.with_coverage {
            push_coverage(out, &answer.coverage);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn listed(value: &QueryValue) -> usize {
    match value {
        QueryValue::Vector(samples) => samples.len(),
        QueryValue::Matrix(series) => series.len(),
        QueryValue::Scalar { .. } | QueryValue::Text { .. } => 0,
    }
}

/// All before the first series; of a scalar or a text the value, too.
fn push_head(out: &mut Vec<u8>, value: &QueryValue) {
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":\"");
    match value {
        QueryValue::Scalar { ts_ns, value } => {
            out.extend_from_slice(b"scalar\",\"result\":");
            push_point(out, *ts_ns, *value);
        }
        QueryValue::Text { ts_ns, text } => {
            out.extend_from_slice(b"string\",\"result\":[");
            push_seconds(out, *ts_ns);
            out.push(b',');
            push_json_text(out, text);
            out.push(b']');
        }
        QueryValue::Vector(_) => out.extend_from_slice(b"vector\",\"result\":["),
        QueryValue::Matrix(_) => out.extend_from_slice(b"matrix\",\"result\":["),
    }
}

fn push_sample(out: &mut Vec<u8>, index: usize, sample: &VectorSample) {
    push_comma(out, index);
    push_metric(out, &sample.labels);
    match &sample.value {
        Sample::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            push_point(out, sample.ts_ns, *value);
        }
        Sample::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            push_histogram_point(out, sample.ts_ns, histogram);
        }
    }
    out.push(b'}');
}

/// Writes some of a series and says what comes next of it.
fn push_series(out: &mut Vec<u8>, index: usize, series: &MatrixSeries, points: Points) -> Option<Points> {
    let some = |place: usize, count: usize| {
        let end = (place + count).min(series.points.len());
        (series.points.get(place..end).unwrap_or_default(), end)
    };
    match points {
        Points::Metric => {
            push_comma(out, index);
            push_metric(out, &series.labels);
            Some(Points::Floats(0, 0))
        }
        Points::Floats(place, listed) => {
            let (points, end) = some(place, FLOATS_AT_ONCE);
            let listed = push_floats(out, points, listed);
            if end < series.points.len() {
                return Some(Points::Floats(end, listed));
            }
            if listed > 0 {
                out.push(b']');
            }
            if listed < end {
                return Some(Points::Histograms(0, 0));
            }
            out.push(b'}');
            None
        }
        Points::Histograms(place, listed) => {
            let (points, end) = some(place, HISTOGRAMS_AT_ONCE);
            let listed = push_histograms(out, points, listed);
            if end < series.points.len() {
                return Some(Points::Histograms(end, listed));
            }
            out.extend_from_slice(b"]}");
            None
        }
    }
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

/// Adds the floats among points to a list of so many; says how many it has then.
fn push_floats(out: &mut Vec<u8>, points: &[(i64, Sample)], mut listed: usize) -> usize {
    out.reserve(points.len() * POINT_BYTES);
    for (ts_ns, sample) in points {
        if let Sample::Float(value) = sample {
            out.extend_from_slice(if listed == 0 { b",\"values\":[" } else { b"," });
            push_point(out, *ts_ns, *value);
            listed += 1;
        }
    }
    listed
}

/// As [`push_floats`], of the histograms.
fn push_histograms(out: &mut Vec<u8>, points: &[(i64, Sample)], mut listed: usize) -> usize {
    for (ts_ns, sample) in points {
        if let Sample::Histogram(histogram) = sample {
            out.extend_from_slice(if listed == 0 { b",\"histograms\":[" } else { b"," });
            push_histogram_point(out, *ts_ns, histogram);
            listed += 1;
        }
    }
    listed
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
    let QueryStats { elapsed, samples, reused_steps } = stats;
    let seconds = elapsed.as_secs_f64();
    let text = format!(
        ",\"stats\":{{\"timings\":{{\"evalTotalTime\":{seconds},\"resultSortTime\":0,\"queryPreparationTime\":0,\
         \"innerEvalTime\":{seconds},\"execQueueTime\":0,\"execTotalTime\":{seconds}}},\
         \"samples\":{{\"totalQueryableSamples\":{samples},\"peakSamples\":{samples}}},\"reusedSteps\":{reused_steps}}}"
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
        let stats = QueryStats { elapsed: Duration::from_millis(1500), samples: 7, reused_steps: 3 };
        check(
            QueryValue::Vector(Vec::new()),
            AnswerForm { stats: Some(stats), ..AnswerForm::default() },
            r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":1.5,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":1.5,"execQueueTime":0,"execTotalTime":1.5},"samples":{"totalQueryableSamples":7,"peakSamples":7},"reusedSteps":3}}}"#,
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
    fn pieces_of_any_size_are_the_whole() {
        let float = |step: i64| (step * 1_000_000_000, Sample::Float(step as f64 / 8.0));
        let native = NativeHistogram { count: 1.0, ..NativeHistogram::default() };
        let histogram =
            |step: i64| (step * 1_000_000_000, Sample::Histogram(Arc::new(HistogramValue::from(&native))));
        let labels = |name: &str| Labels::new([("__name__", name)]);
        let series = |name: &str, points: Vec<(i64, Sample)>| MatrixSeries { labels: labels(name), points };
        let matrix = vec![
            series("floats", (0..3_000).map(float).collect()),
            series(
                "both",
                (0..50).map(|step| if step % 3 == 0 { float(step) } else { histogram(step) }).collect(),
            ),
            series("histograms", (0..20).map(histogram).collect()),
            series("none", Vec::new()),
            series("one", vec![float(1)]),
        ];
        let vector = matrix.iter().filter_map(|one| {
            let (ts_ns, value) = one.points.first()?.clone();
            Some(VectorSample { labels: one.labels.clone(), ts_ns, value })
        });
        let values = [
            QueryValue::Vector(vector.collect()),
            QueryValue::Matrix(matrix),
            QueryValue::Scalar { ts_ns: 1, value: 2.0 },
            QueryValue::Text { ts_ns: 1, text: "t".to_owned() },
        ];
        for (value, limit) in
            values.into_iter().flat_map(|value| [None, Some(2)].map(|limit| (value.clone(), limit)))
        {
            let warnings = vec!["w".to_owned()];
            let answer = Answer { value, warnings, infos: Vec::new(), coverage: Coverage::default() };
            let form = AnswerForm { limit, with_coverage: true, stats: None };
            let whole = answer_json(&answer, form);
            serde_json::from_slice::<serde_json::Value>(&whole).unwrap();
            for bytes in [1, 100, 4_000] {
                let (mut pieces, mut joined) = (AnswerPieces::new(&answer, form), Vec::new());
                loop {
                    let mut piece = Vec::new();
                    let is_more = pieces.push(&mut piece, bytes);
                    assert!(!piece.is_empty() && piece.len() < bytes + 40_000, "{}", piece.len());
                    joined.extend(piece);
                    if !is_more {
                        break;
                    }
                }
                assert_eq!(joined, whole, "{bytes}");
            }
        }
    }

    #[test]
    fn points_of_floats_stand_in_values() {
        let points = vec![(1_000_000_000, Sample::Float(1.5)), (2_000_000_000, Sample::Float(f64::NAN))];
        check(
            QueryValue::Matrix(vec![MatrixSeries { labels: Labels::default(), points }]),
            AnswerForm::default(),
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1.5"],[2,"NaN"]]}]}}"#,
        );
    }
}
