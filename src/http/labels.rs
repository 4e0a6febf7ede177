//! What there is to ask for: /api/v1/labels, `/label/<name>/values`, /series, and what is empty here.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use icecore_query::keys::each_key;
use icecore_query::promql::{self, Labels};
use icecore_storage::model::TimeRange;
use icecore_storage::scan::{Scan, Schema};

use super::app::App;
use super::encode::{data_json, push_labels};
use super::error::{Dialect, Failure};
use super::number::{push_json_text, push_json_texts};
use super::params::{Params, decode_segment};
use super::prometheus::{open, options, respond};
use crate::database::Query;
use crate::telemetry::Language;
use crate::{Error, Result};

pub(super) const METRIC_NAME: &str = "__name__";

/// A value beside its text: in the set, and in the answer.
const VALUE_BYTES: u64 = 64;

/// What a metadata request asks about.
#[derive(Debug, Clone)]
struct Selection {
    matches: Vec<String>,
    range: TimeRange,
    /// Series looked at, at most.
    series_max: usize,
    /// Entries of the answer, at most.
    limit: usize,
}

impl Selection {
    fn read(app: &App, params: &Params) -> std::result::Result<Self, Failure> {
        Ok(Self {
            matches: params.all("match[]").map(str::to_owned).collect(),
            range: params.range()?,
            series_max: app.limits.listed_series_max,
            limit: params.limit()?.unwrap_or(usize::MAX),
        })
    }

    /// The label sets that any of the selectors finds, sorted, each once.
    fn series(&self, scan: &dyn Scan, query: &Query) -> Result<Vec<Labels>> {
        let mut found = Vec::new();
        for text in &self.matches {
            let selector = promql::parse_selector(text)
                .map_err(|error| Error::invalid(format!("invalid parameter \"match[]\": {error}")))?;
            found.extend(promql::find_series(scan, &selector, self.range, self.series_max, &query.budget)?);
        }
        found.sort_by(|left, right| left.iter().cmp(right.iter()));
        found.dedup_by(|left, right| left.iter().eq(right.iter()));
        Ok(found)
    }
}

pub(super) async fn labels(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(
        run(&app, request, |selection, scan, query| texts(label_names(selection, scan, query)?, selection))
            .await,
    )
}

pub(super) async fn series(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(run(&app, request, series_json).await)
}

pub(super) async fn label_values(State(app): State<Arc<App>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let name = path.strip_suffix("/values").and_then(|head| head.rsplit('/').next()).unwrap_or_default();
    let name = match decode_segment(name) {
        Ok(name) if !name.is_empty() => unescape_label(&name),
        Ok(_) => return Failure::bad_request("empty label name").respond(Dialect::Prometheus),
        Err(failure) => return failure.respond(Dialect::Prometheus),
    };
    let work = move |selection: &Selection, scan: &dyn Scan, query: &Query| {
        texts(values_of(&name, selection, scan, query)?, selection)
    };
    respond(run(&app, request, work).await)
}

/// What senders said of metrics since the start: `metric` asks for one, `limit` bounds them.
pub(super) async fn metadata(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(metadata_json(&app, request).await)
}

async fn metadata_json(app: &App, request: Request) -> std::result::Result<Vec<u8>, Failure> {
    let (params, database) = open(app, request).await?;
    let limit = params.limit()?.unwrap_or(usize::MAX);
    let mut data = vec![b'{'];
    for (index, (metric, info)) in database.metric_metadata(params.get("metric"), limit).iter().enumerate() {
        if index > 0 {
            data.push(b',');
        }
        push_json_text(&mut data, metric);
        data.extend_from_slice(b":[{\"type\":");
        push_json_text(&mut data, info.kind.name());
        data.extend_from_slice(b",\"help\":");
        push_json_text(&mut data, &info.help);
        data.extend_from_slice(b",\"unit\":");
        push_json_text(&mut data, &info.unit);
        data.extend_from_slice(b"}]");
    }
    data.push(b'}');
    Ok(data_json(&data, false))
}

async fn run(
    app: &App,
    request: Request,
    work: impl FnOnce(&Selection, &dyn Scan, &Query) -> Result<Vec<u8>> + Send + 'static,
) -> std::result::Result<Body, Failure> {
    let (params, database) = open(app, request).await?;
    let selection = Selection::read(app, &params)?;
    let query = database.query(options(app, &params)?);
    let work = move |query: &Query| work(&selection, database.view().as_ref(), query);
    app.answer_query(Language::Metadata, query, work).await
}

fn series_json(selection: &Selection, scan: &dyn Scan, query: &Query) -> Result<Vec<u8>> {
    if selection.matches.is_empty() {
        return Err(Error::invalid("no match[] parameter provided"));
    }
    let found = selection.series(scan, query)?;
    let mut data = vec![b'['];
    for (index, labels) in found.iter().take(selection.limit).enumerate() {
        if index > 0 {
            data.push(b',');
        }
        push_labels(&mut data, labels);
    }
    data.push(b']');
    Ok(data_json(&data, found.len() > selection.limit))
}

fn texts(found: BTreeSet<String>, selection: &Selection) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    push_json_texts(&mut data, found.iter().take(selection.limit).map(String::as_str));
    Ok(data_json(&data, found.len() > selection.limit))
}

/// The measurements of a database.
pub(super) fn schemas(scan: &dyn Scan) -> impl Iterator<Item = Schema> {
    scan.measurements().into_iter().filter_map(|measurement| scan.schema(&measurement))
}

fn label_names(selection: &Selection, scan: &dyn Scan, query: &Query) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if !selection.matches.is_empty() {
        for labels in selection.series(scan, query)? {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }
        return Ok(names);
    }
    for schema in schemas(scan).filter(|schema| scan.reaches(schema.measurement, selection.range)) {
        if schema.metrics().next().is_some() {
            names.insert(METRIC_NAME.to_owned());
            names.extend(schema.tag_keys.iter().map(|key| key.to_string()));
        }
    }
    Ok(names)
}

fn values_of(name: &str, selection: &Selection, scan: &dyn Scan, query: &Query) -> Result<BTreeSet<String>> {
    let mut values = BTreeSet::new();
    if !selection.matches.is_empty() {
        for labels in selection.series(scan, query)? {
            values
                .extend(labels.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.to_owned()));
        }
        return Ok(values);
    }
    for schema in schemas(scan).filter(|schema| scan.reaches(schema.measurement, selection.range)) {
        if name == METRIC_NAME {
            values.extend(schema.metrics().map(|(metric, _)| metric));
        } else if schema.tag_keys.iter().any(|key| &**key == name) {
            let ids = scan
                .series_ids(schema.measurement, &[], selection.range, selection.series_max)
                .map_err(|error| icecore_query::Error::of_search("listed_series_max", error))?;
            query.budget.charge_samples(u64::try_from(ids.len()).unwrap_or(u64::MAX))?;
            query.budget.charge_bytes(size_of_val(&*ids) as u64)?;
            each_key(scan, &ids, &query.budget, |_, key| match key.tag(name) {
                Some(value) if !values.contains(value) => {
                    values.insert(value.to_owned());
                    query.budget.charge_bytes(VALUE_BYTES + 2 * value.len() as u64)
                }
                _ => Ok(()),
            })?;
        }
    }
    Ok(values)
}

/// Undoes Prometheus' escape of UTF-8 label names: `U__a_2e_b` is `a.b`, `__` is `_`. A name that only looks like
/// one is taken as it is.
fn unescape_label(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let tail = tail.get(1..).unwrap_or_default();
        if let Some(after) = tail.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let escaped = tail
            .split_once('_')
            .and_then(|(hex, after)| Some((char::from_u32(u32::from_str_radix(hex, 16).ok()?)?, after)));
        let Some((symbol, after)) = escaped else { return name.to_owned() };
        out.push(symbol);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_are_undone() {
        let cases = [
            ("service", "service"),
            ("U__service_2e_name", "service.name"),
            ("U__a__b", "a_b"),
            ("U__bad_escape", "U__bad_escape"),
            ("__name__", "__name__"),
        ];
        for (text, wanted) in cases {
            assert_eq!(unescape_label(text), wanted, "{text}");
        }
    }
}
