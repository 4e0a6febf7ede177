//! POST /write and POST /api/v2/write: line protocol in, 204 out when all of it is durable.
//!
//! Order: parameters, database, encoding, body under its limit, a turn, decompression, memory for what the lines become,
//! and the write, on a blocking thread. Good lines of a request with bad ones are kept; the answer names the bad ones.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::runtime::Handle;

use super::app::App;
use super::body::{self, Bound, Encoding};
use super::error::{Dialect, Failure};
use super::params::Params;
use crate::Database;
use crate::database::WriteReport;
use crate::ingest::Precision;
use crate::ingest::line::decoded_bytes;

/// Header of a 204: how many rows were kept.
pub(crate) const WRITTEN_HEADER: &str = "x-icecore-written";
/// Lines that an answer names.
const NAMED_LINES_MAX: usize = 10;
/// Longest reason in an answer.
const REASON_BYTES_MAX: usize = 300;

pub(super) async fn v1(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(write(&app, request, Dialect::InfluxV1).await, Dialect::InfluxV1)
}

pub(super) async fn v2(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(write(&app, request, Dialect::InfluxV2).await, Dialect::InfluxV2)
}

fn answer(outcome: Result<u64, Failure>, dialect: Dialect) -> Response {
    match outcome {
        Ok(written) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            // For clients that count: a row with a newline in a string is more than one line.
            response
                .headers_mut()
                .insert(HeaderName::from_static(WRITTEN_HEADER), HeaderValue::from(written));
            response
        }
        Err(failure) => failure.respond(dialect),
    }
}

async fn write(app: &Arc<App>, request: Request, dialect: Dialect) -> Result<u64, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::parse(parts.uri.query(), b"")?;
    let precision = params.precision()?.unwrap_or(Precision::Ns);
    let database = app.database(params.get(if dialect == Dialect::InfluxV1 { "db" } else { "bucket" }))?;
    let encoding = body::encoding(&parts.headers)?;
    let wire = body::read(app, &parts.headers, body, Bound::Lines).await?;
    let is_compressed = encoding == Encoding::Gzip;
    let work =
        move |app: &App, runtime: &Handle| store(app, runtime, &database, &wire.bytes, encoding, precision);
    let report = app.run_write(is_compressed, work).await?;
    app.telemetry.lines_rejected(report.rejected_count);
    refuse_rejected(&report, "line")?;
    Ok(report.accepted)
}

fn store(
    app: &App,
    runtime: &Handle,
    database: &Database,
    wire: &[u8],
    encoding: Encoding,
    precision: Precision,
) -> Result<WriteReport, Failure> {
    let lines = body::plain(app, wire, encoding)?;
    let _memory = runtime.block_on(app.decoding_memory(decoded_bytes(&lines)))?;
    Ok(database.write_lines(&lines, precision)?)
}

/// A request with rows that were not taken is a partial write, said with the first of them. `place` is what their
/// numbers count.
pub(super) fn refuse_rejected(report: &WriteReport, place: &str) -> Result<(), Failure> {
    let dropped = report.rejected_count;
    if dropped == 0 {
        return Ok(());
    }
    let named = report.rejected.iter().take(NAMED_LINES_MAX).map(|rejected| {
        let reason = shortened(&rejected.reason);
        format!("{place} {}: {reason}", rejected.line)
    });
    let mut named = named.collect::<Vec<_>>().join("; ");
    if dropped > NAMED_LINES_MAX {
        named.push_str(&format!("; and {} more", dropped - NAMED_LINES_MAX));
    }
    Err(Failure::bad_request(format!(
        "partial write: {named}; written={} dropped={dropped}",
        report.accepted
    )))
}

fn shortened(reason: &str) -> String {
    if reason.len() <= REASON_BYTES_MAX {
        return reason.to_owned();
    }
    let end = (0..=REASON_BYTES_MAX).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", reason.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use icecore_storage::model::RowError;

    use super::*;

    fn report(rejected: u32) -> WriteReport {
        let rejected: Vec<_> =
            (1..=rejected).map(|line| RowError { line, reason: "no field".to_owned() }).collect();
        WriteReport { accepted: 7, rejected_count: rejected.len(), rejected }
    }

    #[test]
    fn partial_write_names_lines_and_counts() {
        assert!(refuse_rejected(&report(0), "line").is_ok());
        let failure = refuse_rejected(&report(2), "series").unwrap_err();
        assert_eq!(failure.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            failure.message,
            "partial write: series 1: no field; series 2: no field; written=7 dropped=2"
        );
    }

    #[test]
    fn partial_write_of_many_names_ten() {
        let failure = refuse_rejected(&report(25), "line").unwrap_err();
        assert!(
            failure.message.contains("line 10: no field; and 15 more; written=7 dropped=25"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn long_reason_is_shortened_at_a_character() {
        let short = shortened(&"ä".repeat(1000));
        assert!(short.len() <= REASON_BYTES_MAX + 3);
        assert!(short.ends_with("ä..."));
    }
}
