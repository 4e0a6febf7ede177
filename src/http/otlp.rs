//! POST /v1/metrics and /api/v1/otlp/v1/metrics: OTLP metrics, as protobuf or JSON, plain or gzip.
//!
//! The answer has the form of the request. 200 also when points were refused: `partial_success` says how many and why,
//! and the sender does not send them again. Errors are `google.rpc.Status`; of these 503 is worth another try.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::runtime::Handle;

use super::app::App;
use super::body::{self, Bound, Encoding};
use super::error::Failure;
use super::params::Params;
use super::prometheus::database_of;
use crate::Database;
use crate::database::OtlpReport;
use crate::ingest::PORTION_BYTES;
use crate::ingest::otlp::json::to_protobuf;
use crate::ingest::protobuf::{push_bytes, push_number};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The form of a request and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

pub(super) async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = form(&parts.headers);
    let outcome = match form {
        Ok(form) => take(&app, &parts, body, form).await,
        Err(ref failure) => Err(failure.clone()),
    };
    let form = form.unwrap_or(Form::Protobuf);
    match outcome {
        Ok(report) => respond(StatusCode::OK, form, answer(form, &report)),
        Err(failure) => refuse(form, failure),
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Failure> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        PROTOBUF => Ok(Form::Protobuf),
        JSON => Ok(Form::Json),
        other => Err(Failure::unsupported_media(format!(
            "content type {other:?} is not known; send {PROTOBUF} or {JSON}"
        ))),
    }
}

async fn take(app: &Arc<App>, parts: &Parts, body: Body, form: Form) -> Result<OtlpReport, Failure> {
    let params = Params::parse(parts.uri.query(), b"")?;
    let database = database_of(app, parts, &params)?;
    let encoding = body::encoding(&parts.headers)?;
    let wire = body::read(app, &parts.headers, body, Bound::Lines).await?;
    let work = move |app: &App, runtime: &Handle| store(app, runtime, &database, wire.bytes, encoding, form);
    let report = app.run_write(true, work).await?;
    app.telemetry.lines_rejected(report.refused_points);
    Ok(report)
}

fn store(
    app: &App,
    runtime: &Handle,
    database: &Database,
    wire: Vec<u8>,
    encoding: Encoding,
    form: Form,
) -> Result<OtlpReport, Failure> {
    let mut body = match encoding {
        Encoding::Identity => wire,
        Encoding::Gzip => app.unpacked(body::gunzip(&wire, &app.limits))?,
    };
    // A count in a list of JSON is a digit and a comma, and nine bytes in protobuf; twice that while the text grows.
    let copies = match form {
        Form::Protobuf => 2,
        Form::Json => 10,
    };
    let bytes = body.len().saturating_mul(copies).saturating_add(PORTION_BYTES);
    let _memory = runtime.block_on(app.decoding_memory(bytes))?;
    if form == Form::Json {
        body = to_protobuf(&body)?;
    }
    Ok(database.write_otlp(&body)?)
}

/// `ExportMetricsServiceResponse`.
fn answer(form: Form, report: &OtlpReport) -> Vec<u8> {
    let message = report.reasons.join("; ");
    let is_whole = report.refused_points == 0 && message.is_empty();
    let mut out = Vec::new();
    match form {
        Form::Protobuf if is_whole => {}
        Form::Protobuf => {
            let mut partial = Vec::new();
            push_number(&mut partial, 1, report.refused_points as u64);
            push_bytes(&mut partial, 2, message.as_bytes());
            push_bytes(&mut out, 1, &partial);
        }
        Form::Json if is_whole => out.extend_from_slice(b"{}"),
        Form::Json => {
            // 64-bit integers are strings in this mapping.
            let count = report.refused_points.to_string();
            let partial = serde_json::json!({"rejectedDataPoints": count, "errorMessage": message});
            out = serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes();
        }
    }
    out
}

/// `google.rpc.Status`. A full disk is a 503 here: of the 500s senders try only 502 to 504 again.
fn refuse(form: Form, failure: Failure) -> Response {
    let mut failure = failure.or_later();
    if failure.status == StatusCode::INSUFFICIENT_STORAGE {
        failure.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    let code: u64 = match failure.status {
        StatusCode::NOT_FOUND => 5,
        StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::INTERNAL_SERVER_ERROR => 13,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 3,
    };
    let body = match form {
        Form::Protobuf => {
            let mut out = Vec::new();
            push_number(&mut out, 1, code);
            push_bytes(&mut out, 2, failure.message.as_bytes());
            out
        }
        Form::Json => serde_json::json!({"code": code, "message": failure.message}).to_string().into_bytes(),
    };
    let mut response = respond(failure.status, form, body);
    failure.set_retry_after(response.headers_mut());
    response
}

fn respond(status: StatusCode, form: Form, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = match form {
        Form::Protobuf => PROTOBUF,
        Form::Json => JSON,
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
