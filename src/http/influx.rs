//! /query: InfluxDB's door for SELECT, SHOW, CREATE DATABASE, DELETE and DROP. Errors of a statement stand inside a 200, as its
//! clients expect; only a missing or unreadable text is a 400.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use icecore_query::select::{self, Bindings, Statement, Table};

use super::app::App;
use super::bindings::bindings;
use super::body;
use super::error::{Dialect, Failure, json_body};
use super::params::Params;
use super::prometheus::options;
use super::table::{Epoch, TableForm, repeated_bytes, results_chunks, results_json, table_csv};
use crate::Databases;
use crate::config::{NewDatabase, parse_durability, parse_retention};
use crate::database::Query;
use crate::telemetry::{Language, LimitName};

/// Why a delete is refused that a browser's page sends.
pub(super) const DELETE_FROM_PAGE: &str =
    "a page in a browser may not delete (the request has an Origin header)";
/// Statements of one request.
const STATEMENTS_MAX: usize = 64;

/// Rows of a document where the client asks for chunks and does not say how many.
const CHUNK_ROWS: usize = 10_000;

/// How many times the memory of a compact text its tree and its indented form take together.
const PRETTY_FACTOR: u64 = 24;

/// In which form the client wants its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Json {
        is_pretty: bool,
    },
    /// A document for each piece of so many rows.
    Chunks {
        rows: usize,
    },
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
    let scope = Scope::of(app, &parts, params.get("db").map(str::to_owned), new);
    let account = app.database(None)?.query(options(app, &params)?);
    let counter = Arc::clone(app);
    let work = move |query: &Query| {
        let answer = |statement| scope.run(query, statement).map_err(|error| refusal(&counter, &error));
        let results: Vec<_> = statements.iter().map(answer).collect();
        encode(query, &results, form, wanted)
    };
    let body = app.answer_query(Language::Select, account, work).await?;
    let mut response = json_body(StatusCode::OK, body);
    if wanted == Wanted::Csv {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/csv"));
    }
    Ok(response)
}

/// What a database that the request creates is to be.
pub(super) fn new_database(app: &App, params: &Params) -> Result<NewDatabase, Failure> {
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

pub(super) fn statements(app: &App, params: &Params) -> Result<Vec<Statement>, Failure> {
    let text = params.required("q")?;
    let max = app.limits.query.text_bytes_max;
    if text.len() > max {
        let message = format!("query text has {} bytes, more than {max} (limit text_bytes_max)", text.len());
        return Err(app.limit_hit(LimitName::Query("text_bytes_max"), Failure::bad_request(message)));
    }
    let bindings = params.get("params").map_or_else(|| Ok(Bindings::new()), bindings)?;
    // Whatever keeps a text from being read is the client's to mend.
    let statements = select::parse_bound(text, &bindings).map_err(Failure::bad_request)?;
    if statements.len() > STATEMENTS_MAX {
        let message =
            format!("a request holds at most {STATEMENTS_MAX} statements, this one {}", statements.len());
        return Err(Failure::bad_request(message));
    }
    Ok(statements)
}

fn wanted(headers: &HeaderMap, params: &Params) -> Wanted {
    if wants_csv(headers) {
        return Wanted::Csv;
    }
    if params.is_on("chunked") {
        // As InfluxDB takes it: what is no number above zero is the default.
        let rows = params.get("chunk_size").and_then(|text| text.parse().ok()).filter(|rows| 0 < *rows);
        return Wanted::Chunks { rows: rows.unwrap_or(CHUNK_ROWS) };
    }
    Wanted::Json { is_pretty: params.is_on("pretty") }
}

pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/csv") || accept.contains("text/csv")
}

fn epoch(params: &Params, wanted: Wanted) -> Result<Epoch, Failure> {
    epoch_or(params, if wanted == Wanted::Csv { Epoch::Count(1) } else { Epoch::Text })
}

/// How times are written; `default` where the request does not say.
pub(super) fn epoch_or(params: &Params, default: Epoch) -> Result<Epoch, Failure> {
    match params.get("epoch") {
        Some(text) => Epoch::parse(text).ok_or_else(|| {
            Failure::bad_request(format!("invalid epoch {text:?}: one of ns, u, ms, s, m, h, rfc3339"))
        }),
        None => Ok(default),
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
        Wanted::Chunks { rows } => {
            let tables = results.iter().filter_map(|result| result.as_ref().ok());
            let repeated = tables.map(|table| repeated_bytes(table, rows)).fold(0, u64::saturating_add);
            query.budget.charge_bytes(repeated)?;
            Ok(results_chunks(results, form, rows))
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
pub(super) struct Scope {
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
    pub(super) fn of(app: &App, parts: &Parts, name: Option<String>, new: NewDatabase) -> Self {
        Self {
            databases: Arc::clone(&app.databases),
            name,
            new,
            is_posted: parts.method == Method::POST,
            is_from_page: parts.headers.contains_key(ORIGIN),
        }
    }

    pub(super) fn run(&self, query: &Query, statement: &Statement) -> crate::Result<Table> {
        if statement.is_delete() && !self.is_posted {
            return Err(crate::Error::invalid("DELETE and DROP need a POST request"));
        }
        if statement.is_delete() && self.is_from_page {
            return Err(crate::Error::invalid(DELETE_FROM_PAGE));
        }
        self.databases.run_statement(query, statement, self.name.as_deref(), &self.new)
    }
}

/// What an answer says of a statement that failed. Nobody sees it as a failure of the request, so its limit is counted here.
fn refusal(app: &App, error: &crate::Error) -> String {
    if let Some(name) = error.limit() {
        app.telemetry.limit_hit(LimitName::Query(name));
    }
    error.to_string()
}
