//! POST /api/v1/read: Prometheus remote read.
//!
//! Read in this order: this file (negotiation, and how an answer is sent while it is made), `request`, `samples` (one message
//! with all samples), `chunks` (frames of compressed chunks), `xor` (a chunk).
//!
//! Under the account of a query; its time is that of sending, too. Raw samples only: where they are gone there is nothing.

mod chunks;
mod request;
mod samples;
mod xor;

#[cfg(test)]
pub(super) use xor::tests::decode as xor_decode;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use icecore_query::ErrorKind as QueryErrorKind;
use icecore_query::promql::SeriesSamples;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::request::{Form, ReadRequest, read_query};
use super::app::{App, CancelOnDrop};
use super::body::{self, Bound};
use super::error::{Dialect, Failure};
use super::held;
use super::params::Params;
use super::prometheus::{database_of, options};
use crate::database::Query;
use crate::telemetry::Language;
use crate::{Database, Error, ErrorKind, Result};

const MS_NS: i64 = 1_000_000;
/// `TimeSeries.samples`, `ReadResponse.results`, `QueryResult.timeseries`.
const LIST: u32 = 1;
/// Pieces that wait to be sent, beside one that is being made and one that is being sent.
const PIECES_WAITING: usize = 1;

pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Response {
    run(&app, request).await.unwrap_or_else(|failure| failure.respond(Dialect::Prometheus))
}

async fn run(app: &Arc<App>, request: Request) -> std::result::Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::parse(parts.uri.query(), b"")?;
    let database = database_of(app, &parts, &params)?;
    let wire = body::read(app, &parts.headers, body, Bound::Form).await?;
    let message = body::unsnap(&wire.bytes, app.limits.form_bytes_max)?;
    drop(wire);
    let query = database.query(options(app, &params)?);
    let cancel = CancelOnDrop(query.budget.cancel_switch());
    let (sender, mut pieces) = mpsc::channel(PIECES_WAITING);
    let (worker, last_word, runtime) = (Arc::clone(app), sender.clone(), Handle::current());
    tokio::spawn(async move {
        let work = move |query: &Query| answer(&database, query, &message, &Outlet { sender, runtime });
        let outcome = worker.run_query_held(Language::Promql, query, work).await;
        // A client that has left hears nothing.
        drop(last_word.send(outcome.map(|((), query)| Piece::End(Box::new(query)))).await);
    });
    // What is refused is refused with a status; behind the first piece nothing but a broken answer can say so.
    match pieces.recv().await {
        Some(Ok(Piece::Samples(message))) => {
            let body = match pieces.recv().await {
                Some(Ok(Piece::End(query))) => held::whole(message, *query),
                _ => Body::from(message),
            };
            Ok(respond(Form::Samples, body))
        }
        Some(Ok(Piece::Frame(first))) => {
            let frames = Frames { first: Some(first), pieces, _cancel: cancel };
            Ok(respond(Form::Chunks, Body::new(frames)))
        }
        Some(Err(failure)) => Err(failure),
        Some(Ok(Piece::End(_))) | None => Ok(respond(Form::Chunks, Body::empty())),
    }
}

fn respond(form: Form, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let content_type = match form {
        Form::Samples => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            "application/x-protobuf"
        }
        Form::Chunks => "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes the answer and sends it on the way.
fn answer(database: &Database, query: &Query, message: &[u8], outlet: &Outlet) -> Result<()> {
    let request = ReadRequest::read(message)?;
    if form(database, query, &request)? == Form::Samples {
        let message = samples::answer(database, query, &request.queries)?;
        query.budget.keep_bytes(message.capacity() as u64)?;
        return Ok(outlet.send(query, Piece::Samples(message))?);
    }
    // The frames on their way: waiting, being sent, and being made of two copies.
    let _held = query.budget.hold_bytes((PIECES_WAITING as u64 + 3) * chunks::FRAME_BYTES as u64)?;
    for (query_idx, asked) in request.queries.iter().enumerate() {
        let (selector, range) = read_query(asked)?;
        database.each_series(query, &selector, range, &mut |series: &SeriesSamples| {
            chunks::each_frame(query_idx, series, |frame| outlet.send(query, Piece::Frame(frame)))
        })?;
    }
    Ok(())
}

/// The form that the client likes best. Native histograms are not made into chunks.
fn form(database: &Database, query: &Query, request: &ReadRequest<'_>) -> Result<Form> {
    if request.accepted.first() == Some(&Form::Samples) {
        return Ok(Form::Samples);
    }
    for asked in &request.queries {
        let (selector, range) = read_query(asked)?;
        if database.has_histograms(query, &selector, range)? {
            if request.accepted.contains(&Form::Samples) {
                return Ok(Form::Samples);
            }
            let message = "native histograms are not streamed: accept SAMPLES (0), too";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    Ok(Form::Chunks)
}

/// A part of an answer.
enum Piece {
    /// All of it.
    Samples(Vec<u8>),
    /// A frame.
    Frame(Vec<u8>),
    /// There is no more.
    End(Box<Query>),
}

/// Where a blocking thread sends pieces to.
struct Outlet {
    sender: mpsc::Sender<std::result::Result<Piece, Failure>>,
    runtime: Handle,
}

impl Outlet {
    /// Waits for room, no longer than the query has time.
    fn send(&self, query: &Query, piece: Piece) -> icecore_query::Result<()> {
        query.budget.check_time()?;
        let left = query.budget.limits().timeout.saturating_sub(query.budget.elapsed());
        let sent = tokio::time::timeout(left.max(Duration::from_millis(1)), self.sender.send(Ok(piece)));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(icecore_query::Error::new(QueryErrorKind::Cancelled, "the client has left")),
            Err(_) => Err(icecore_query::Error::new(
                QueryErrorKind::Deadline,
                "the client does not read its answer (limit timeout)",
            )
            .of_limit("timeout")),
        }
    }
}

/// The body of an answer that is being made. Without a reader the query ends.
struct Frames {
    first: Option<Vec<u8>>,
    pieces: mpsc::Receiver<std::result::Result<Piece, Failure>>,
    _cancel: CancelOnDrop,
}

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(first)))));
        }
        self.pieces.poll_recv(context).map(|piece| match piece? {
            Ok(Piece::Frame(frame) | Piece::Samples(frame)) => Some(Ok(Frame::data(Bytes::from(frame)))),
            Ok(Piece::End(_)) => None,
            Err(failure) => {
                tracing::debug!(reason = failure.message, "a remote read ended before its end");
                Some(Err(BrokenOff))
            }
        })
    }
}

/// An answer that ends before its end: the connection is closed without the last mark.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off")]
struct BrokenOff;
