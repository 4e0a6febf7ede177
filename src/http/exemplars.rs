//! /api/v1/query_exemplars: the exemplars of the series that an expression reads, between `start` and `end`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;

use super::app::App;
use super::encode::{data_json, push_labels};
use super::error::Failure;
use super::number::{push_float, push_seconds};
use super::params::Params;
use super::prometheus::{open, options, query_text, respond};
use crate::database::Query;
use crate::exemplars::SeriesExemplars;
use crate::telemetry::Language;

pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(run(&app, request).await)
}

async fn run(app: &App, request: Request) -> Result<Body, Failure> {
    let (params, database) = open(app, request).await?;
    let text = query_text(app, &params)?;
    let range = (time(&params, "start")?.unwrap_or(i64::MIN), time(&params, "end")?.unwrap_or(i64::MAX));
    if range.1 < range.0 {
        return Err(Failure::bad_request("end timestamp must not be before start timestamp"));
    }
    let query = database.query(options(app, &params)?);
    let work = move |query: &Query| Ok(json(&database.exemplars(query, &text, range)?));
    let outcome = app.answer_query(Language::Metadata, query, work).await;
    outcome.map_err(|failure| failure.of_parameter("query"))
}

/// A time; one beyond all times, as Grafana sends it in milliseconds, is the first or the last.
fn time(params: &Params, name: &str) -> Result<Option<i64>, Failure> {
    const SECONDS_MAX: f64 = 9.2e9;
    match params.get(name).and_then(|text| text.parse::<f64>().ok()) {
        Some(seconds) if seconds.is_finite() && SECONDS_MAX < seconds.abs() => {
            Ok(Some(if seconds < 0.0 { i64::MIN } else { i64::MAX }))
        }
        _ => params.time(name),
    }
}

fn json(found: &[SeriesExemplars]) -> Vec<u8> {
    let mut data = vec![b'['];
    for (index, series) in found.iter().enumerate() {
        data.extend_from_slice(if index == 0 { b"{\"seriesLabels\":" } else { b",{\"seriesLabels\":" });
        push_labels(&mut data, &series.labels);
        data.extend_from_slice(b",\"exemplars\":[");
        for (index, exemplar) in series.exemplars.iter().enumerate() {
            data.extend_from_slice(if index == 0 { b"{\"labels\":" } else { b",{\"labels\":" });
            push_labels(&mut data, &exemplar.labels);
            data.extend_from_slice(b",\"value\":\"");
            push_float(&mut data, exemplar.value);
            data.extend_from_slice(b"\",\"timestamp\":");
            push_seconds(&mut data, exemplar.ts_ns);
            data.push(b'}');
        }
        data.extend_from_slice(b"]}");
    }
    data.push(b']');
    data_json(&data, false)
}
