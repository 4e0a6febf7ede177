//! Request bodies as bytes, under limits: on the wire, after decompression, in time.

#![warn(clippy::indexing_slicing)]

use std::io::Read;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::app::App;
use super::error::Failure;
use super::params::Params;
use crate::limits::Limits;
use crate::telemetry::LimitName;

/// A small body may be blown up beyond the ratio: a few repeated lines compress well.
const RATIO_FREE_BYTES: usize = 1 << 20;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Identity,
    /// Gzip, of one or several members.
    Gzip,
}

/// The encoding a request names.
pub(super) fn encoding(headers: &HeaderMap) -> Result<Encoding, Failure> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        other => Err(Failure::unsupported_media(format!(
            "content encoding {other:?} is not known; send gzip or none"
        ))),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Reads a body of at most `bytes_max` on the wire. The memory is counted while it is read.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Vec<u8>, Failure> {
    let too_large = || {
        let failure = Failure::too_large(format!(
            "request body is larger than {bytes_max} bytes (limit body_wire_bytes_max)"
        ));
        app.limit_hit(LimitName::BodyWire, failure)
    };
    let announced = content_length(headers);
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        discard(app, body, bytes_max).await;
        return Err(too_large());
    }
    let _memory = app.body_memory(announced.unwrap_or(bytes_max))?;
    let collected = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(app.limits.body_time_max, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Failure::bad_request(format!("cannot read the request body: {error}"))),
        Err(_) => {
            let failure = Failure::too_slow("request body did not arrive in time (limit body_time_max)");
            Err(app.limit_hit(LimitName::BodyTime, failure))
        }
    }
}

/// Takes in some of a body that is refused, without keeping it: a client that is still sending when the connection
/// closes would see a broken pipe instead of the answer.
async fn discard(app: &App, mut body: Body, bytes_max: usize) {
    let drain = async {
        let mut left = bytes_max.saturating_mul(4);
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, |data| data.len());
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    };
    // Out of time is as good as drained: the connection is closed either way.
    drop(tokio::time::timeout(app.limits.body_time_max, drain).await);
}

/// The parameters of the URL and, for POST, of the form body.
pub(super) async fn params(app: &App, parts: &Parts, body: Body) -> Result<Params, Failure> {
    let form = if parts.method == axum::http::Method::POST {
        if encoding(&parts.headers)? != Encoding::Identity {
            return Err(Failure::unsupported_media("a form body is sent without content encoding"));
        }
        read(app, &parts.headers, body, app.limits.form_bytes_max).await?
    } else {
        Vec::new()
    };
    Params::parse(parts.uri.query(), &form)
}

/// Unpacks a gzip body under the limits of size and ratio. Blocking.
pub(super) fn gunzip(wire: &[u8], limits: &Limits) -> Result<Vec<u8>, Failure> {
    let by_ratio = wire.len().saturating_mul(limits.body_ratio_max).max(RATIO_FREE_BYTES);
    let bytes_max = limits.body_bytes_max.min(by_ratio);
    let mut body = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let outcome = flate2::read::MultiGzDecoder::new(wire).take(limit).read_to_end(&mut body);
    if body.len() > bytes_max {
        return Err(Failure::too_large(format!(
            "request body is larger than {bytes_max} bytes after decompression (limits body_bytes_max, body_ratio_max)"
        )));
    }
    match outcome {
        Ok(_) => Ok(body),
        Err(error) => Err(Failure::bad_request(format!("request body is not whole gzip: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gunzip_whole_body_comes_back() {
        let packed = gzip(b"cpu value=1\n");
        assert_eq!(gunzip(&packed, &Limits::default()).unwrap(), b"cpu value=1\n");
    }

    #[test]
    fn gunzip_cut_anywhere_is_bad_request() {
        let packed = gzip(b"cpu value=1\ncpu value=2\n");
        for end in 0..packed.len() {
            let outcome = gunzip(packed.get(..end).unwrap(), &Limits::default());
            // No byte at all is no body at all.
            if end > 0 {
                assert_eq!(outcome.unwrap_err().status.as_u16(), 400, "cut at {end}");
            }
        }
    }

    #[test]
    fn gunzip_bomb_stops_at_the_ratio() {
        let packed = gzip(&vec![b'\n'; 8 << 20]);
        let failure = gunzip(&packed, &Limits::default()).unwrap_err();
        assert_eq!(failure.status.as_u16(), 413);
    }

    #[test]
    fn gunzip_stops_at_the_size() {
        let limits = Limits { body_bytes_max: 10, ..Limits::default() };
        assert_eq!(gunzip(&gzip(b"0123456789"), &limits).unwrap().len(), 10);
        assert_eq!(gunzip(&gzip(b"0123456789a"), &limits).unwrap_err().status.as_u16(), 413);
    }
}
