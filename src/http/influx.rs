//! /query: InfluxDB's door for SELECT, SHOW, CREATE DATABASE, DELETE and DROP. Errors of a statement stand inside a 200, as its
//! clients expect; only a missing or unreadable text is a 400.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use icecore_query::select::{self, Statement, Table};

use super::app::App;
use super::body;
use super::error::{Dialect, Failure, json_response};
use super::params::Params;
use super::prometheus::options;
use super::table::{Epoch, TableForm, results_json, table_csv};
use crate::Databases;
use crate::config::{NewDatabase, parse_durability, parse_retention};
use crate::database::Query;
use crate::telemetry::Language;

/// Why a delete is refused that a browser's page sends.
pub(super) const DELETE_FROM_PAGE: &str =
    "a page in a browser may not delete (the request has an Origin header)";
/// Statements of one request.
const STATEMENTS_MAX: usize = 64;

/// How many times the memory of a compact text its tree and its indented form take together.
const PRETTY_FACTOR: u64 = 24;

/// In which form the client wants its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Json { is_pretty: bool },
    Csv,
}

pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Response {
    match run(&app, request).await {
        Ok(response) => response,
        Err(failure) => failure.respond(Dialect::InfluxV1),
    }
}

async fn run(app: &Arc<App>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let params = body::params(app, &parts, body).await?;
    let statements = statements(app, &params)?;
    let wanted = wanted(&parts.headers, &params);
    let epoch = epoch(&params, wanted)?;
    let form = TableForm { epoch, with_coverage: params.is_on("explain") };
    let new = new_database(app, &params)?;
    let scope = Scope {
        databases: Arc::clone(&app.databases),
        name: params.get("db").map(str::to_owned),
        new,
        is_posted: parts.method == Method::POST,
        is_from_page: parts.headers.contains_key(ORIGIN),
    };
    let account = app.database(None)?.query(options(app, &params)?);
    let work = move |query: &Query| {
        let results: Vec<_> = statements.iter().map(|statement| scope.answer(query, statement)).collect();
        encode(query, &results, form, wanted)
    };
    let body = app.run_query(Language::Select, account, work).await?;
    let mut response = json_response(StatusCode::OK, body);
    if wanted == Wanted::Csv {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv"));
    }
    Ok(response)
}

/// What a database that the request creates is to be.
fn new_database(app: &App, params: &Params) -> Result<NewDatabase, Failure> {
    let mut new = app.databases.config().new_database();
    if let Some(text) = params.get("retention") {
        new.retention = parse_retention(text)?;
    }
    if let Some(text) = params.get("durability") {
        new.durability = parse_durability(text)?;
    }
    if params.get("keep_duplicates").is_some() {
        let names = params.all("keep_duplicates").filter(|name| !name.is_empty());
        new.keep_duplicates = names.map(str::to_owned).collect();
    }
    Ok(new)
}

fn statements(app: &App, params: &Params) -> Result<Vec<Statement>, Failure> {
    let text = params.required("q")?;
    let max = app.limits.query.text_bytes_max;
    if text.len() > max {
        let message = format!("query text has {} bytes, more than {max} (limit text_bytes_max)", text.len());
        return Err(Failure::bad_request(message));
    }
    if params.get("params").is_some_and(|bound| bound.trim() != "{}" && bound.trim() != "null") {
        return Err(Failure::bad_request(
            "bound parameters (params) are not supported: write the values into q",
        ));
    }
    // Whatever keeps a text from being read is the client's to mend.
    let statements = select::parse(text).map_err(Failure::bad_request)?;
    if statements.len() > STATEMENTS_MAX {
        let message =
            format!("a request holds at most {STATEMENTS_MAX} statements, this one {}", statements.len());
        return Err(Failure::bad_request(message));
    }
    Ok(statements)
}

fn wanted(headers: &HeaderMap, params: &Params) -> Wanted {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/csv") || accept.contains("text/csv") {
        return Wanted::Csv;
    }
    Wanted::Json { is_pretty: params.is_on("pretty") }
}

fn epoch(params: &Params, wanted: Wanted) -> Result<Epoch, Failure> {
    match params.get("epoch") {
        Some(text) => Epoch::parse(text).ok_or_else(|| {
            Failure::bad_request(format!("invalid epoch {text:?}: one of ns, u, ms, s, m, h, rfc3339"))
        }),
        None if wanted == Wanted::Csv => Ok(Epoch::Count(1)),
        None => Ok(Epoch::Text),
    }
}

fn encode(
    query: &Query,
    results: &[Result<Table, String>],
    form: TableForm,
    wanted: Wanted,
) -> crate::Result<Vec<u8>> {
    match wanted {
        Wanted::Csv => {
            let mut out = Vec::new();
            for (index, result) in results.iter().enumerate() {
                if index > 0 {
                    out.push(b'\n');
                }
                table_csv(&mut out, result, form.epoch);
            }
            Ok(out)
        }
        Wanted::Json { is_pretty } => {
            let compact = results_json(results, form);
            if !is_pretty {
                return Ok(compact);
            }
            let _held = query.budget.hold_bytes(compact.len() as u64 * PRETTY_FACTOR)?;
            let value = serde_json::from_slice::<serde_json::Value>(&compact);
            Ok(value.and_then(|value| serde_json::to_vec_pretty(&value)).unwrap_or(compact))
        }
    }
}

/// The databases a request may name, and the one it means when it names none.
struct Scope {
    databases: Arc<Databases>,
    name: Option<String>,
    /// What a database that is created here is to be.
    new: NewDatabase,
    /// A link that is followed must not delete.
    is_posted: bool,
    /// Nor must a page that some browser has open: its requests name their origin.
    is_from_page: bool,
}

impl Scope {
    fn answer(&self, query: &Query, statement: &Statement) -> Result<Table, String> {
        if statement.is_delete() && !self.is_posted {
            return Err("DELETE and DROP need a POST request".to_owned());
        }
        if statement.is_delete() && self.is_from_page {
            return Err(DELETE_FROM_PAGE.to_owned());
        }
        let answered = self.databases.run_statement(query, statement, self.name.as_deref(), &self.new);
        answered.map_err(|error| error.to_string())
    }
}
