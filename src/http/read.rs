//! POST /api/v1/read: Prometheus remote read, answered with samples (`SAMPLES`), which every client must take.
//!
//! `prometheus.ReadRequest`: `queries` = 1 {`start_timestamp_ms` = 1, `end_timestamp_ms` = 2 (included), `matchers` = 3 {`type`
//! = 1, `name` = 2, `value` = 3}}. `prometheus.ReadResponse`: `results` = 1 {`timeseries` = 1 {`labels` = 1, `samples` = 2
//! {`value` = 1, `timestamp` = 2}}}. Both are snappy blocks.
//!
//! A query is a selector of PromQL, under the account of one. Raw samples only: where they are gone there is nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use icecore_query::promql::{Labels, parse_selector};
use icecore_storage::model::TimeRange;

use super::app::App;
use super::body::{self, Bound};
use super::error::{Dialect, Failure};
use super::params::Params;
use super::prometheus::{database_of, options};
use crate::database::Query;
use crate::ingest::protobuf::{
    Fields, Malformed, push_bytes, push_fixed64, push_head, push_number, varint_len,
};
use crate::ingest::remote::labels::push_label;
use crate::telemetry::Language;
use crate::{Database, Error, Result};

/// Queries of one request.
const QUERIES_MAX: usize = 64;
const MS_NS: i64 = 1_000_000;
/// `QueryResult.timeseries`, `ReadResponse.results`, `ReadRequest.queries`.
const LIST: u32 = 1;
/// `TimeSeries.samples`.
const SAMPLES: u32 = 2;

pub(super) async fn samples(State(app): State<Arc<App>>, request: Request) -> Response {
    match run(&app, request).await {
        Ok(body) => {
            let mut response = Response::new(axum::body::Body::from(body));
            *response.status_mut() = StatusCode::OK;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            response
        }
        Err(failure) => failure.respond(Dialect::Prometheus),
    }
}

async fn run(app: &App, request: Request) -> std::result::Result<Vec<u8>, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::parse(parts.uri.query(), b"")?;
    let database = database_of(app, &parts, &params)?;
    let wire = body::read(app, &parts.headers, body, Bound::Form).await?;
    let message = body::unsnap(&wire.bytes, app.limits.form_bytes_max)?;
    drop(wire);
    let query = database.query(options(app, &params)?);
    let work = move |query: &Query| {
        let answer = answer(&database, query, &message)?;
        snap::raw::Encoder::new().compress_vec(&answer).map_err(|error| {
            Error::new(crate::ErrorKind::LimitExceeded, format!("the answer is too large: {error}"))
        })
    };
    app.run_query(Language::Promql, query, work).await
}

/// The queries of a request, after a look at all of them.
fn queries(message: &[u8]) -> Result<Vec<&[u8]>> {
    let mut queries = Vec::new();
    for field in Fields::new(message) {
        let (LIST, query) = field.map_err(Error::invalid)? else { continue };
        if QUERIES_MAX <= queries.len() {
            return Err(Error::invalid(format!("more than {QUERIES_MAX} queries in one request")));
        }
        queries.push(query.bytes().map_err(Error::invalid)?);
    }
    Ok(queries)
}

/// The selector of a query as text, and its time.
fn read_query(message: &[u8]) -> std::result::Result<(String, TimeRange), Malformed> {
    let (mut start_ms, mut end_ms, mut text) = (0_i64, 0_i64, String::from("{"));
    for field in Fields::new(message) {
        match field? {
            (1, value) => start_ms = value.int64()?,
            (2, value) => end_ms = value.int64()?,
            (3, value) => push_matcher(&mut text, value.bytes()?)?,
            _ => {}
        }
    }
    text.push('}');
    let start_ns = start_ms.saturating_mul(MS_NS);
    let end_ns = end_ms.saturating_add(1).saturating_mul(MS_NS);
    Ok((text, TimeRange::new(start_ns, end_ns.max(start_ns))))
}

fn push_matcher(text: &mut String, message: &[u8]) -> std::result::Result<(), Malformed> {
    let (mut kind, mut name, mut value) = (0, "", "");
    for field in Fields::new(message) {
        match field? {
            (1, number) => kind = number.low_varint()?,
            (2, text) => name = text.text()?,
            (3, text) => value = text.text()?,
            _ => {}
        }
    }
    let sign = match kind {
        0 => "=",
        1 => "!=",
        2 => "=~",
        3 => "!~",
        _ => return Err(Malformed("an unknown type of a matcher")),
    };
    if !text.ends_with('{') {
        text.push(',');
    }
    push_quoted(text, name);
    text.push_str(sign);
    push_quoted(text, value);
    Ok(())
}

/// A string of PromQL that holds any text.
fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' | '\\' => out.extend(['\\', symbol]),
            symbol if symbol.is_ascii_control() => {
                // Writing to a text cannot fail.
                let written = write!(out, "\\x{:02x}", u32::from(symbol));
                debug_assert!(written.is_ok());
            }
            symbol => out.push(symbol),
        }
    }
    out.push('"');
}

/// Query by query: the patterns of one may take as much memory as those of any query.
fn answer(database: &Database, query: &Query, message: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for asked in queries(message)? {
        let (text, range) = read_query(asked).map_err(Error::invalid)?;
        let selector = parse_selector(&text)?;
        let mut found: Vec<(Labels, Vec<u8>)> = Vec::new();
        database.each_series(query, &selector, range, &mut |labels, ts_ns, values| {
            let series = encode_series(labels, ts_ns, values);
            // Once in the answer, and less when it is packed.
            query.budget.charge_bytes(64 * (1 + labels.len()) as u64 + 3 * series.len() as u64)?;
            found.push((labels.clone(), series));
            Ok(())
        })?;
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        let field_len = |series: &Vec<u8>| 1 + varint_len(series.len() as u64) + series.len();
        push_head(&mut out, LIST, found.iter().map(|(_, series)| field_len(series)).sum());
        for (_, series) in found {
            push_bytes(&mut out, LIST, &series);
        }
    }
    Ok(out)
}

/// A `TimeSeries`. Of samples within one millisecond the last is kept: its times have no finer digits.
fn encode_series(labels: &Labels, ts_ns: &[i64], values: &[f64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 18 * ts_ns.len());
    for (name, value) in labels.iter() {
        push_label(&mut out, name, value);
    }
    let mut samples = ts_ns.iter().map(|ts_ns| ts_ns.div_euclid(MS_NS)).zip(values).peekable();
    while let Some((ms, value)) = samples.next() {
        if samples.peek().is_some_and(|(next_ms, _)| *next_ms == ms) {
            continue;
        }
        push_head(&mut out, SAMPLES, 9 + 1 + varint_len(ms.cast_unsigned()));
        push_fixed64(&mut out, 1, value.to_bits());
        push_number(&mut out, 2, ms.cast_unsigned());
    }
    out
}
