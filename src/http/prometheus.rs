//! /api/v1/query and /api/v1/query_range, as Prometheus answers them. The database is named by the path
//! (`/db/<name>/api/v1/...`) or by `db=`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use icecore_query::promql::Answer;
use icecore_storage::scan::Resolution;

use super::app::App;
use super::body;
use super::encode::{AnswerForm, AnswerPieces, QueryStats};
use super::error::{Dialect, Failure, json_body, json_response};
use super::params::{Params, decode_segment};
use crate::Database;
use crate::database::QueryOptions;
use crate::database::{Query, Steps};
use crate::telemetry::{Language, LimitName};

/// Bytes of a piece of an answer, or a little more.
const PIECE_BYTES: usize = 64 << 10;

pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Response {
    run_instant(&app, request).await.unwrap_or_else(|failure| failure.respond(Dialect::Prometheus))
}

pub(super) async fn query_range(State(app): State<Arc<App>>, request: Request) -> Response {
    run_range(&app, request).await.unwrap_or_else(|failure| failure.respond(Dialect::Prometheus))
}

pub(super) fn respond(outcome: Result<impl Into<Body>, Failure>) -> Response {
    match outcome {
        Ok(body) => json_body(StatusCode::OK, body.into()),
        Err(failure) => failure.respond(Dialect::Prometheus),
    }
}

/// The parameters of a request and the database it asks.
pub(super) async fn open(app: &App, request: Request) -> Result<(Params, Arc<Database>), Failure> {
    let (parts, body) = request.into_parts();
    let params = body::params(app, &parts, body).await?;
    let database = database_of(app, &parts, &params)?;
    Ok((params, database))
}

/// The database that a path names, or else `db`.
pub(super) fn database_of(app: &App, parts: &Parts, params: &Params) -> Result<Arc<Database>, Failure> {
    let in_path = parts.uri.path().strip_prefix("/db/").and_then(|rest| rest.split_once('/'));
    let name = match in_path {
        Some((name, _)) => Some(decode_segment(name)?),
        None => params.get("db").map(str::to_owned),
    };
    app.database(name.as_deref())
}

/// How a query is run, from the server's limits and the request's `timeout`, `resolution` and `lookback_delta`.
pub(super) fn options(app: &App, params: &Params) -> Result<QueryOptions, Failure> {
    let mut options = QueryOptions { limits: app.limits.query, ..QueryOptions::default() };
    if let Some(timeout) = params.duration("timeout")? {
        options.limits.timeout = options.limits.timeout.min(nanoseconds(timeout));
    }
    if let Some(lookback) = params.duration("lookback_delta")? {
        options.lookback = nanoseconds(lookback);
    }
    options.resolution = match params.get("resolution") {
        None | Some("auto") => Resolution::Auto,
        Some("strict") => Resolution::Strict,
        Some(other) => {
            let message = format!("invalid parameter \"resolution\": {other:?} is neither auto nor strict");
            return Err(Failure::bad_request(message));
        }
    };
    Ok(options)
}

fn nanoseconds(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// What the answer carries, and whether it says what the query took (any `stats=`).
fn form(params: &Params) -> Result<(AnswerForm, bool), Failure> {
    let form = AnswerForm { limit: params.limit()?, with_coverage: params.is_on("explain"), stats: None };
    Ok((form, params.get("stats").is_some()))
}

/// Evaluates and answers: in one piece where that is enough, else piece by piece as the client takes them. What the
/// answer holds is charged until it is sent.
async fn answer(
    app: &App,
    query: Query,
    (form, with_stats): (AnswerForm, bool),
    evaluate: impl FnOnce(&Query) -> crate::Result<Answer> + Send + 'static,
) -> Result<Response, Failure> {
    let work = move |query: &Query| {
        let answer = evaluate(query)?;
        let stats = with_stats.then(|| QueryStats {
            elapsed: query.budget.elapsed(),
            samples: query.budget.samples(),
            reused_steps: query.reused_steps(),
        });
        let mut pieces = AnswerPieces::new(answer, AnswerForm { stats, ..form });
        let mut first = Vec::with_capacity(4096);
        let is_more = pieces.push(&mut first, PIECE_BYTES);
        Ok((first, is_more.then_some(pieces)))
    };
    let outcome = app.run_query_held(Language::Promql, query, work).await;
    let ((first, rest), query) = outcome.map_err(|failure| failure.of_parameter("query"))?;
    Ok(match rest {
        None => json_response(StatusCode::OK, first),
        Some(pieces) => {
            json_body(StatusCode::OK, Body::new(Pieces { first: Some(first), pieces, _query: query }))
        }
    })
}

/// The body of an answer that is made as the client takes it.
struct Pieces {
    first: Option<Vec<u8>>,
    pieces: AnswerPieces<Answer>,
    /// Holds the account.
    _query: Query,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.first.take().unwrap_or_else(|| {
            let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 2);
            self.pieces.push(&mut piece, PIECE_BYTES);
            piece
        });
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from(piece)))))
    }
}

pub(super) fn query_text(app: &App, params: &Params) -> Result<String, Failure> {
    let text = params.get("query").unwrap_or_default();
    let max = app.limits.query.text_bytes_max;
    if text.len() > max {
        let message = format!("query text has {} bytes, more than {max} (limit text_bytes_max)", text.len());
        return Err(app.limit_hit(LimitName::Query("text_bytes_max"), Failure::bad_request(message)));
    }
    Ok(text.to_owned())
}

async fn run_instant(app: &App, request: Request) -> Result<Response, Failure> {
    let (params, database) = open(app, request).await?;
    let text = query_text(app, &params)?;
    let time_ns = params.time("time")?.unwrap_or_else(|| database.now_ns());
    let form = form(&params)?;
    let query = database.query(options(app, &params)?);
    answer(app, query, form, move |query| database.run_promql(query, &text, time_ns)).await
}

async fn run_range(app: &App, request: Request) -> Result<Response, Failure> {
    let (params, database) = open(app, request).await?;
    let text = query_text(app, &params)?;
    let steps = steps(app, &params)?;
    let form = form(&params)?;
    let mut options = options(app, &params)?;
    // What is kept does not say what was read for it.
    options.may_reuse = !params.is_on("nocache") && !form.0.with_coverage;
    let query = database.query(options);
    answer(app, query, form, move |query| database.run_promql_range(query, &text, steps)).await
}

fn steps(app: &App, params: &Params) -> Result<Steps, Failure> {
    let missing = |name: &str, what: &str| {
        Failure::bad_request(format!("invalid parameter \"{name}\": cannot parse \"\" to a valid {what}"))
    };
    let start_ns = params.time("start")?.ok_or_else(|| missing("start", "timestamp"))?;
    let end_ns = params.time("end")?.ok_or_else(|| missing("end", "timestamp"))?;
    let step_ns = params.duration("step")?.ok_or_else(|| missing("step", "duration"))?;
    if end_ns < start_ns {
        return Err(Failure::bad_request(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    let max = app.limits.query.steps_max;
    let steps = end_ns.abs_diff(start_ns) / step_ns.unsigned_abs().max(1);
    if steps > max {
        let message = format!(
            "exceeded maximum resolution of {max} points per timeseries (limit steps_max). Try decreasing the query resolution (?step=XX)"
        );
        return Err(app.limit_hit(LimitName::Query("steps_max"), Failure::bad_request(message)));
    }
    Ok(Steps { start_ns, end_ns, step_ns })
}
