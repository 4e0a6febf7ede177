//! POST /api/v1/write: Prometheus remote write, 1.0 and 2.0: protobuf in a snappy block.
//!
//! Order: database, type and encoding, body under its limit, a turn, the snappy block under its limit, memory for the
//! samples, and the write, on a blocking thread. Good samples of a request with bad ones are kept. A sender drops what
//! is answered with a status of the 400s and sends again what is answered with one of the 500s.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::runtime::Handle;

use super::app::App;
use super::body::{self, Bound};
use super::error::{Dialect, Failure};
use super::params::Params;
use super::prometheus::database_of;
use super::write::{WRITTEN_HEADER, refuse_rejected};
use crate::Database;
use crate::database::{RemoteReport, RemoteVersion};
use crate::ingest::PORTION_BYTES;
use crate::ingest::remote::decoded_bytes;

const SAMPLES_WRITTEN: &str = "x-prometheus-remote-write-samples-written";
const HISTOGRAMS_WRITTEN: &str = "x-prometheus-remote-write-histograms-written";
const EXEMPLARS_WRITTEN: &str = "x-prometheus-remote-write-exemplars-written";

pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let outcome = match version(&parts.headers) {
        Ok(version) => take(&app, &parts, body, version).await.map(|report| (version, report)),
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok((version, report)) => answer(version, &report),
        Err(failure) => failure.or_later().respond(Dialect::Prometheus),
    }
}

fn answer(version: RemoteVersion, report: &RemoteReport) -> Response {
    let both = report.both();
    let mut response = match refuse_rejected(&both, "series") {
        Ok(()) => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            let written = HeaderValue::from(both.accepted);
            response.headers_mut().insert(HeaderName::from_static(WRITTEN_HEADER), written);
            response
        }
        Err(failure) => failure.respond(Dialect::Prometheus),
    };
    if version == RemoteVersion::V2 {
        for (name, count) in [
            (SAMPLES_WRITTEN, report.samples.accepted),
            (HISTOGRAMS_WRITTEN, report.histograms.accepted),
            (EXEMPLARS_WRITTEN, report.exemplars as u64),
        ] {
            response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
    response
}

/// The version by the content type. Senders of the first days name neither type nor encoding.
fn version(headers: &HeaderMap) -> Result<RemoteVersion, Failure> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?").trim());
    let encoding = text(CONTENT_ENCODING).unwrap_or("snappy");
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
        let message = format!("content encoding {encoding:?} is not known; send a snappy block");
        return Err(Failure::unsupported_media(message));
    }
    let content_type = text(CONTENT_TYPE).filter(|text| !text.is_empty()).unwrap_or("application/x-protobuf");
    let mut parts = content_type.split(';').map(str::trim);
    let unknown = || {
        Failure::unsupported_media(format!(
            "content type {content_type:?} is not known; send application/x-protobuf with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
        ))
    };
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/x-protobuf")) {
        return Err(unknown());
    }
    let proto = parts.find_map(|part| part.split_once('=').filter(|(name, _)| name.trim() == "proto"));
    match proto.map(|(_, value)| value.trim().trim_matches('"')) {
        None | Some("prometheus.WriteRequest") => Ok(RemoteVersion::V1),
        Some("io.prometheus.write.v2.Request") => Ok(RemoteVersion::V2),
        Some(_) => Err(unknown()),
    }
}

async fn take(
    app: &Arc<App>,
    parts: &Parts,
    body: axum::body::Body,
    version: RemoteVersion,
) -> Result<RemoteReport, Failure> {
    let params = Params::parse(parts.uri.query(), b"")?;
    let database = database_of(app, parts, &params)?;
    let wire = body::read(app, &parts.headers, body, Bound::Lines).await?;
    let work = move |app: &App, runtime: &Handle| store(app, runtime, &database, &wire.bytes, version);
    let report = app.run_write(true, work).await?;
    app.telemetry.lines_rejected(report.both().rejected_count);
    Ok(report)
}

fn store(
    app: &App,
    runtime: &Handle,
    database: &Database,
    wire: &[u8],
    version: RemoteVersion,
) -> Result<RemoteReport, Failure> {
    let body = app.unpacked(body::unsnap(wire, app.limits.body_bytes_max))?;
    let counts = version.counts_of(&body);
    let portion_bytes = match version {
        RemoteVersion::V1 if counts.histograms + counts.exemplars == 0 => 0,
        RemoteVersion::V1 | RemoteVersion::V2 => PORTION_BYTES,
    };
    let bytes = decoded_bytes(counts.samples, &body).saturating_add(portion_bytes);
    let _memory = runtime.block_on(app.decoding_memory(bytes))?;
    Ok(database.write_remote(&body, version)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_by_the_content_type() {
        let of = |pairs: &[(HeaderName, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            version(&pairs.collect()).map_err(|failure| failure.status.as_u16())
        };
        let v1 = "application/x-protobuf;proto=prometheus.WriteRequest";
        let v2 = "application/x-protobuf; proto=io.prometheus.write.v2.Request";
        for (pairs, expected) in [
            (vec![], Ok(RemoteVersion::V1)),
            (vec![(CONTENT_TYPE, "application/x-protobuf")], Ok(RemoteVersion::V1)),
            (vec![(CONTENT_TYPE, v1), (CONTENT_ENCODING, "snappy")], Ok(RemoteVersion::V1)),
            (vec![(CONTENT_TYPE, v2), (CONTENT_ENCODING, "Snappy")], Ok(RemoteVersion::V2)),
            (vec![(CONTENT_TYPE, v2), (CONTENT_ENCODING, "zstd")], Err(415)),
            (vec![(CONTENT_ENCODING, "gzip")], Err(415)),
            (vec![(CONTENT_TYPE, "application/json")], Err(415)),
            (vec![(CONTENT_TYPE, "application/x-protobuf;proto=other.Request")], Err(415)),
        ] {
            assert_eq!(of(&pairs), expected, "{pairs:?}");
        }
    }
}
