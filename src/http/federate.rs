//! GET /federate: the newest sample of each series that `match[]` names, as a page for a Prometheus that scrapes it.
//!
//! The text exposition format, as Prometheus' own page: all metrics are `untyped`, times are in milliseconds, and a series
//! without an `instance` says so (`instance=""`), so that whoever scrapes with `honor_labels` does not put its own there.
//! Native histograms have no place in this format and are left out.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use icecore_query::promql::NewestSample;

use super::app::App;
use super::error::{Dialect, Failure};
use super::labels::METRIC_NAME;
use super::number::{push_float, push_int};
use super::prometheus::{open, options};
use crate::database::Query;
use crate::telemetry::Language;

const INSTANCE: &str = "instance";
/// What a sample takes on a page beside its labels: its time and its value.
const SAMPLE_BYTES: u64 = 64;

/// How names that need it are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// In quotes, for who asks for that (`escaping=allow-utf-8`).
    Quoted,
    /// With underscores.
    Underscores,
}

/// What a name is of: names of metrics may hold colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Metric,
    Label,
}

pub(super) async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    let names = names(request.headers());
    match run(&app, request, names).await {
        Ok(body) => {
            let mut response = Response::new(body);
            let form = match names {
                Names::Quoted => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
                Names::Underscores => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
            response
        }
        Err(failure) => failure.respond(Dialect::Prometheus),
    }
}

fn names(headers: &HeaderMap) -> Names {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match accepted.into_iter().any(|value| value.contains("escaping=allow-utf-8")) {
        true => Names::Quoted,
        false => Names::Underscores,
    }
}

async fn run(app: &App, request: Request, names: Names) -> Result<Body, Failure> {
    let (params, database) = open(app, request).await?;
    let matches: Vec<String> = params.all("match[]").map(str::to_owned).collect();
    let query = database.query(options(app, &params)?);
    let work = move |query: &Query| {
        let found = database.newest(query, &matches, database.now_ns())?;
        let text_bytes = |one: &NewestSample| {
            one.labels.iter().map(|(name, value)| (name.len() + 2 * value.len() + 8) as u64).sum::<u64>()
        };
        // The name of a metric stands in its head, too.
        let bytes = found.iter().map(|one| SAMPLE_BYTES + 2 * text_bytes(one)).sum();
        query.budget.charge_bytes(bytes)?;
        Ok(text(&found, names))
    };
    let outcome = app.answer_query(Language::Promql, query, work).await;
    outcome.map_err(|failure| failure.of_parameter("match[]"))
}

/// A page of samples that stand by the names of their metrics.
fn text(samples: &[NewestSample], names: Names) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = None;
    for sample in samples {
        let metric = sample.labels.name();
        if last != Some(metric) {
            out.extend_from_slice(b"# TYPE ");
            push_name(&mut out, metric, Kind::Metric, names);
            out.extend_from_slice(b" untyped\n");
            last = Some(metric);
        }
        push_sample(&mut out, sample, names);
    }
    out
}

fn push_sample(out: &mut Vec<u8>, sample: &NewestSample, names: Names) {
    let metric = sample.labels.name();
    // A name in quotes stands between the braces.
    let is_inside = names == Names::Quoted && !is_plain(metric, Kind::Metric);
    if !is_inside {
        push_name(out, metric, Kind::Metric, names);
    }
    out.push(b'{');
    if is_inside {
        push_name(out, metric, Kind::Metric, names);
    }
    let mut written: Vec<Cow<'_, str>> = Vec::with_capacity(sample.labels.len());
    let has_instance = !sample.labels.get(INSTANCE).is_empty();
    let instance = (!has_instance).then_some((INSTANCE, ""));
    let labels = sample.labels.iter().filter(|(name, _)| *name != METRIC_NAME).chain(instance);
    for (index, (name, value)) in labels.enumerate() {
        if 0 < index || is_inside {
            out.push(b',');
        }
        let mut name = match names {
            Names::Quoted => Cow::from(name),
            Names::Underscores => plain(name, Kind::Label),
        };
        // Two names may be one with underscores; a page with a label that stands twice is refused as a whole.
        while names == Names::Underscores && written.contains(&name) {
            name.to_mut().push('_');
        }
        push_name(out, &name, Kind::Label, names);
        out.push(b'=');
        push_quoted(out, value);
        written.push(name);
    }
    out.extend_from_slice(b"} ");
    push_float(out, sample.value);
    out.push(b' ');
    push_int(out, sample.ts_ns.div_euclid(1_000_000));
    out.push(b'\n');
}

fn push_name(out: &mut Vec<u8>, name: &str, kind: Kind, names: Names) {
    match names {
        Names::Quoted if !is_plain(name, kind) => push_quoted(out, name),
        Names::Quoted => out.extend_from_slice(name.as_bytes()),
        Names::Underscores => out.extend_from_slice(plain(name, kind).as_bytes()),
    }
}

/// Whether a symbol may stand at this place of a name, as it was before names could hold any text.
fn fits(place: usize, symbol: char, kind: Kind) -> bool {
    symbol.is_ascii_alphabetic()
        || symbol == '_'
        || (symbol == ':' && kind == Kind::Metric)
        || (symbol.is_ascii_digit() && 0 < place)
}

fn is_plain(name: &str, kind: Kind) -> bool {
    name.chars().enumerate().all(|(place, symbol)| fits(place, symbol, kind))
}

/// A name with underscores for what may not stand in it.
fn plain(name: &str, kind: Kind) -> Cow<'_, str> {
    if is_plain(name, kind) {
        return Cow::from(name);
    }
    let symbols = name.chars().enumerate();
    symbols.map(|(place, symbol)| if fits(place, symbol, kind) { symbol } else { '_' }).collect()
}

fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use icecore_query::promql::Labels;

    use super::*;

    fn sample(labels: &[(&str, &str)], ts_ms: i64, value: f64) -> NewestSample {
        NewestSample { labels: Labels::new(labels.iter().copied()), ts_ns: ts_ms * 1_000_000, value }
    }

    fn check(samples: &[NewestSample], names: Names, wanted: &str) {
        assert_eq!(String::from_utf8(text(samples, names)).unwrap(), wanted);
    }

    #[test]
    fn each_metric_has_one_head_and_series_without_instance_say_so() {
        let samples = [
            sample(&[("__name__", "a"), ("instance", "i"), ("path", "/\"x\"\\\n")], 1_700_000_000_123, 1.5),
            sample(&[("__name__", "a"), ("job", "j")], -1, f64::NEG_INFINITY),
            sample(&[("__name__", "job:b:sum")], 0, f64::NAN),
        ];
        check(
            &samples,
            Names::Underscores,
            "# TYPE a untyped\n\
             a{instance=\"i\",path=\"/\\\"x\\\"\\\\\\n\"} 1.5 1700000000123\n\
             a{job=\"j\",instance=\"\"} -Inf -1\n\
             # TYPE job:b:sum untyped\n\
             job:b:sum{instance=\"\"} NaN 0\n",
        );
    }

    #[test]
    fn names_of_any_text_are_quoted_or_get_underscores() {
        let labels = [("__name__", "1 m.ü"), ("a.b", "x"), ("a_b", "y"), ("instance", "i")];
        let samples = [sample(&labels, 7, 2.0)];
        check(
            &samples,
            Names::Quoted,
            "# TYPE \"1 m.ü\" untyped\n{\"1 m.ü\",\"a.b\"=\"x\",a_b=\"y\",instance=\"i\"} 2 7\n",
        );
        check(
            &samples,
            Names::Underscores,
            "# TYPE __m__ untyped\n__m__{a_b=\"x\",a_b_=\"y\",instance=\"i\"} 2 7\n",
        );
    }
}
