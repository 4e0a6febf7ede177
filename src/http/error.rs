//! Failures of requests, and how each dialect says them: InfluxDB v1, InfluxDB v2, Prometheus.

use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;

use super::number::push_json_text;
use crate::telemetry::LimitName;
use crate::{Error, ErrorKind};

/// Longest error text in a header.
const HEADER_BYTES_MAX: usize = 512;
/// A client that left; the status of nginx, which Prometheus uses too.
const CLIENT_CLOSED: u16 = 499;

/// The form in which an endpoint speaks of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"error":"..."}` and the header X-Influxdb-Error.
    InfluxV1,
    /// `{"code":"...","message":"..."}`.
    InfluxV2,
    /// `{"status":"error","errorType":"...","error":"..."}`.
    Prometheus,
}

/// A request that failed, before its dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// Prometheus' class of the error.
    class: &'static str,
    pub(super) message: String,
    retry_after_s: Option<u32>,
    limit: Option<LimitName>,
}

impl Failure {
    fn new(status: StatusCode, class: &'static str, message: impl ToString) -> Self {
        Self { status, class, message: message.to_string(), retry_after_s: None, limit: None }
    }

    pub(super) fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    pub(super) fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn internal(message: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "bad_data", "method not allowed")
    }

    pub(super) fn unsupported_media(message: impl ToString) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", message)
    }

    pub(super) fn not_implemented(message: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
    }

    pub(super) fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "bad_data", message)
    }

    pub(super) fn too_slow(message: impl ToString) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    pub(super) fn busy(message: impl ToString) -> Self {
        let failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        Self { retry_after_s: Some(1), ..failure }
    }

    pub(super) fn too_many(message: impl ToString) -> Self {
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "unavailable", message);
        Self { retry_after_s: Some(1), ..failure }
    }

    /// For clients that drop what was refused with a status of the 400s: what passes by itself is worth another try.
    pub(super) fn or_later(self) -> Self {
        match self.status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after_s: Some(1), ..self }
            }
            _ => self,
        }
    }

    /// What is wrong is this parameter, where something is wrong with the request.
    pub(super) fn of_parameter(mut self, name: &str) -> Self {
        if self.class == "bad_data" {
            self.message = format!("invalid parameter \"{name}\": {}", self.message);
        }
        self
    }

    /// The limit of the query that was reached, for the metric.
    pub(super) fn limit(&self) -> Option<LimitName> {
        self.limit
    }

    /// The answer in a dialect.
    pub(super) fn respond(&self, dialect: Dialect) -> Response {
        let mut body = Vec::with_capacity(self.message.len() + 64);
        match dialect {
            Dialect::InfluxV1 => {
                body.extend_from_slice(b"{\"error\":");
                push_json_text(&mut body, &self.message);
            }
            Dialect::InfluxV2 => {
                body.extend_from_slice(b"{\"code\":\"");
                body.extend_from_slice(self.code_v2().as_bytes());
                body.extend_from_slice(b"\",\"message\":");
                push_json_text(&mut body, &self.message);
            }
            Dialect::Prometheus => {
                body.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
                body.extend_from_slice(self.class.as_bytes());
                body.extend_from_slice(b"\",\"error\":");
                push_json_text(&mut body, &self.message);
            }
        }
        body.extend_from_slice(b"}\n");
        let mut response = json_response(self.status, body);
        if dialect == Dialect::InfluxV1 {
            response
                .headers_mut()
                .insert(HeaderName::from_static("x-influxdb-error"), header_text(&self.message));
        }
        self.set_retry_after(response.headers_mut());
        response
    }

    /// Says when to come back, where that is known.
    pub(super) fn set_retry_after(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    fn code_v2(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "invalid",
            StatusCode::NOT_FOUND => "not found",
            StatusCode::METHOD_NOT_ALLOWED => "method not allowed",
            StatusCode::PAYLOAD_TOO_LARGE => "request too large",
            StatusCode::UNPROCESSABLE_ENTITY => "unprocessable entity",
            StatusCode::TOO_MANY_REQUESTS => "too many requests",
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => "unavailable",
            _ => "internal error",
        }
    }
}

/// A header holds only printable ASCII, and little of it.
fn header_text(message: &str) -> HeaderValue {
    let bytes = message.bytes().take(HEADER_BYTES_MAX);
    let text: Vec<u8> = bytes.map(|byte| if (0x20..0x7f).contains(&byte) { byte } else { b' ' }).collect();
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("error"))
}

/// A JSON answer.
pub(super) fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    json_body(status, axum::body::Body::from(body))
}

/// As [`json_response`], of a body of any kind.
pub(super) fn json_body(status: StatusCode, body: axum::body::Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, class) = match error.kind() {
            ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "bad_data"),
            ErrorKind::Execution
            | ErrorKind::Unsupported
            | ErrorKind::LimitExceeded
            | ErrorKind::Conflict => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::Deadline => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            ErrorKind::Cancelled => {
                (StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST), "canceled")
            }
            ErrorKind::Unavailable | ErrorKind::Poisoned => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ErrorKind::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "unavailable"),
            ErrorKind::Corruption | ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let retry_after_s = match error.kind() {
            ErrorKind::Unavailable => Some(1),
            ErrorKind::DiskFull => Some(30),
            _ => None,
        };
        let limit = error.limit().map(LimitName::Query);
        // Storage has told the log of damage, once for each file; a dashboard meets it every few seconds.
        if error.kind() == ErrorKind::Corruption {
            tracing::debug!(%error, "a request met damage");
        } else if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, kind = ?error.kind(), "a request failed");
        }
        // The word that tells it from what passes by itself.
        let message = match error.kind() {
            ErrorKind::Poisoned => format!("poisoned: {error}"),
            _ => error.to_string(),
        };
        Self { status, class, message, retry_after_s, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_map_to_the_statuses_clients_act_on() {
        let cases = [
            (ErrorKind::InvalidInput, 400, "bad_data"),
            (ErrorKind::Execution, 422, "execution"),
            (ErrorKind::Unsupported, 422, "execution"),
            (ErrorKind::LimitExceeded, 422, "execution"),
            (ErrorKind::Deadline, 503, "timeout"),
            (ErrorKind::Cancelled, 499, "canceled"),
            (ErrorKind::NotFound, 404, "not_found"),
            (ErrorKind::Unavailable, 503, "unavailable"),
            (ErrorKind::Poisoned, 503, "unavailable"),
            (ErrorKind::DiskFull, 507, "unavailable"),
            (ErrorKind::Internal, 500, "internal"),
        ];
        for (kind, status, class) in cases {
            let failure = Failure::from(Error::new(kind, "x"));
            assert_eq!((failure.status.as_u16(), failure.class), (status, class), "{kind:?}");
        }
    }

    #[test]
    fn full_disk_and_shortage_say_when_to_come_back() {
        for kind in [ErrorKind::Unavailable, ErrorKind::DiskFull] {
            let response = Failure::from(Error::new(kind, "x")).respond(Dialect::InfluxV1);
            assert!(response.headers().contains_key(RETRY_AFTER), "{kind:?}");
        }
    }

    #[test]
    fn error_header_is_short_and_printable() {
        let message = format!("line 1: bad\n\"ä{}", "x".repeat(10_000));
        let response = Failure::bad_request(message).respond(Dialect::InfluxV1);
        let header = response.headers().get("x-influxdb-error").unwrap();
        assert_eq!(header.len(), HEADER_BYTES_MAX);
        assert!(header.to_str().is_ok());
    }
}
