//! /api/v1/select: one statement of SELECT, its rows as plain JSON objects, NDJSON or CSV. Unlike /query, errors have a status.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use icecore_query::select::Table;
use serde_json::Value;

use super::app::App;
use super::body::{self, Bound};
use super::error::{Dialect, Failure, json_body};
use super::influx::{Scope, epoch_or, new_database, statements, wants_csv};
use super::params::{Params, decode_segment};
use super::prometheus::options;
use super::table::{Epoch, repeated_bytes, table_csv, table_objects};
use crate::telemetry::Language;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Ndjson,
    Csv,
}

impl Format {
    fn of(headers: &HeaderMap, params: &Params) -> Result<Self, Failure> {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match params.get("format") {
            Some("json") => Ok(Self::Json),
            Some("ndjson") => Ok(Self::Ndjson),
            Some("csv") => Ok(Self::Csv),
            Some(other) => {
                Err(Failure::bad_request(format!("invalid format {other:?}: one of json, ndjson, csv")))
            }
            None if accept.contains("ndjson") => Ok(Self::Ndjson),
            None if wants_csv(headers) => Ok(Self::Csv),
            None => Ok(Self::Json),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }

    fn write(self, table: Table, epoch: Epoch) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Json => {
                out.push(b'[');
                table_objects(&mut out, &table, epoch, b",\n");
                out.extend_from_slice(b"]\n");
            }
            Self::Ndjson => {
                table_objects(&mut out, &table, epoch, b"\n");
                if !out.is_empty() {
                    out.push(b'\n');
                }
            }
            Self::Csv => table_csv(&mut out, &Ok(table), epoch),
        }
        out
    }
}

pub(super) async fn select(State(app): State<Arc<App>>, request: Request) -> Response {
    match run(&app, request).await {
        Ok(response) => response,
        Err(failure) => failure.respond(Dialect::Prometheus),
    }
}

async fn run(app: &Arc<App>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let params = params(app, &parts, body).await?;
    let mut statements = statements(app, &params)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Failure::bad_request("/api/v1/select takes one statement; /query takes several"));
    };
    let format = Format::of(&parts.headers, &params)?;
    let epoch = epoch_or(&params, Epoch::Text)?;
    let in_path = parts.uri.path().strip_prefix("/db/").and_then(|rest| rest.split_once('/'));
    let name = match in_path {
        Some((name, _)) => Some(decode_segment(name)?),
        None => params.get("db").map(str::to_owned),
    };
    let scope = Scope::of(app, &parts, name, new_database(app, &params)?);
    let account = app.database(None)?.query(options(app, &params)?);
    let work = move |query: &crate::database::Query| {
        let table = scope.run(query, &statement)?;
        query.budget.charge_bytes(repeated_bytes(&table, 1))?;
        Ok(format.write(table, epoch))
    };
    let body = app.answer_query(Language::Select, account, work).await?;
    let mut response = json_body(StatusCode::OK, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    Ok(response)
}

/// Those of the URL and of the body: a form, a JSON object, or the statement itself as text.
async fn params(app: &App, parts: &Parts, body: Body) -> Result<Params, Failure> {
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let is_own = kind == "application/json" || kind == "text/plain" || kind == "application/sql";
    if parts.method != Method::POST || !is_own {
        return body::params(app, parts, body).await;
    }
    let mut params = Params::parse(parts.uri.query(), b"")?;
    let received = body::read(app, &parts.headers, body, Bound::Form).await?;
    let text =
        String::from_utf8(received.bytes).map_err(|_| Failure::bad_request("the body is not UTF-8"))?;
    if kind != "application/json" {
        params.push("q", text);
        return Ok(params);
    }
    let bad =
        |why: String| Failure::bad_request(format!("the body is not a JSON object of parameters: {why}"));
    let Value::Object(object) = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))? else {
        return Err(bad("something else".to_owned()));
    };
    for (name, value) in object {
        match value {
            Value::String(text) => params.push(&name, text),
            Value::Null => {}
            other => params.push(&name, other.to_string()),
        }
    }
    Ok(params)
}
