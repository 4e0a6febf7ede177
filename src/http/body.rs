//! Request bodies as bytes, under limits: on the wire, after decompression, in time.

#![warn(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::io::Read;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

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

/// Whether the client sends its body only when it is told to. It is told so by the first look at the body.
fn waits_to_send(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A body and its share of the memory that all bodies have together. Keep it for as long as the bytes.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    memory: OwnedSemaphorePermit,
}

impl Received {
    /// Adds what has come, of a body of `announced` bytes at most. The share grows with the bytes, to eight times as many at most:
    /// a client that announces much and sends little takes little from the others.
    fn push(&mut self, app: &App, data: &[u8], announced: usize) -> Result<(), Failure> {
        let bytes = self.bytes.len().saturating_add(data.len());
        let is_full = self.bytes.capacity() < bytes;
        // Fewer copies than by doubling.
        let wanted = if is_full { bytes.max(announced.min(bytes.saturating_mul(8))) } else { bytes };
        let missing = wanted.div_ceil(1024).saturating_sub(self.memory.num_permits());
        if missing > 0 {
            self.memory.merge(app.body_memory(missing)?);
        }
        if is_full && bytes < wanted {
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Which bound a body has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// Rows to write.
    Lines,
    /// Parameters of a query.
    Form,
}

/// Reads a body under its bound on the wire.
pub(super) async fn read(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
    bound: Bound,
) -> Result<Received, Failure> {
    let (bytes_max, limit) = match bound {
        Bound::Lines => (app.limits.body_wire_bytes_max, LimitName::BodyWire),
        Bound::Form => (app.limits.form_bytes_max, LimitName::Form),
    };
    let is_announced_larger = content_length(headers).is_some_and(|bytes| bytes > bytes_max);
    if !is_announced_larger {
        let received = receive(app, &mut body, content_length(headers).unwrap_or(0), bytes_max);
        match tokio::time::timeout(app.limits.body_time_max, received).await {
            Ok(Ok(Some(received))) => return Ok(received),
            // Larger than announced, or nothing was announced.
            Ok(Ok(None)) => {}
            Ok(Err(failure)) => return Err(failure),
            Err(_) => {
                let failure = Failure::too_slow("request body did not arrive in time (limit body_time_max)");
                return Err(app.limit_hit(LimitName::BodyTime, failure));
            }
        }
    }
    // A client that waits for the word to go on hears the answer without having sent anything.
    if !(is_announced_larger && waits_to_send(headers)) {
        discard(app, body, bytes_max).await;
    }
    let failure =
        Failure::too_large(format!("request body is larger than {bytes_max} bytes (limit {})", limit.name()));
    Err(app.limit_hit(limit, failure))
}

/// The whole body, which was announced to have so many bytes; `None` when it is larger than `bytes_max`.
async fn receive(
    app: &App,
    body: &mut Body,
    announced: usize,
    bytes_max: usize,
) -> Result<Option<Received>, Failure> {
    let mut received = Received { bytes: Vec::new(), memory: app.body_memory(0)? };
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::bad_request(format!("cannot read the request body: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes_max.saturating_sub(received.bytes.len()) < data.len() {
            return Ok(None);
        }
        received.push(app, data, announced)?;
    }
    Ok(Some(received))
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

/// The parameters of the URL and, for POST and PUT, of the form body.
pub(super) async fn params(app: &App, parts: &Parts, body: Body) -> Result<Params, Failure> {
    if !matches!(parts.method, Method::POST | Method::PUT) {
        return Params::parse(parts.uri.query(), b"");
    }
    let form = read(app, &parts.headers, body, Bound::Form).await?;
    // As in `gunzip`, the header does not matter without a body.
    if !form.bytes.is_empty() && encoding(&parts.headers)? != Encoding::Identity {
        return Err(Failure::unsupported_media("a form body is sent without content encoding"));
    }
    Params::parse(parts.uri.query(), &form.bytes)
}

/// A body without its packing. Blocking.
pub(super) fn plain<'a>(app: &App, wire: &'a [u8], encoding: Encoding) -> Result<Cow<'a, [u8]>, Failure> {
    match encoding {
        Encoding::Identity => Ok(Cow::Borrowed(wire)),
        Encoding::Gzip => app.unpacked(gunzip(wire, &app.limits)).map(Cow::Owned),
    }
}

/// Unpacks a gzip body under the limits of size and ratio. Blocking.
pub(super) fn gunzip(wire: &[u8], limits: &Limits) -> Result<Vec<u8>, Failure> {
    // Some clients send the header of gzip with every request, also without a body.
    if wire.is_empty() {
        return Ok(Vec::new());
    }
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

/// Unpacks a snappy block under the limit of size. What the block says of its length is judged before memory is taken.
pub(super) fn unsnap(wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    // Three bytes may stand for 64; what says more cannot be whole.
    const RATIO_MAX: usize = 22;
    let broken = |error: &dyn std::fmt::Display| {
        Failure::bad_request(format!("request body is not a whole snappy block: {error}"))
    };
    let bytes = snap::raw::decompress_len(wire).map_err(|error| broken(&error))?;
    if bytes_max < bytes {
        return Err(Failure::too_large(format!(
            "request body is larger than {bytes_max} bytes after decompression"
        )));
    }
    if wire.len().saturating_mul(RATIO_MAX) < bytes {
        return Err(broken(&"its length is not that of its bytes"));
    }
    snap::raw::Decoder::new().decompress_vec(wire).map_err(|error| broken(&error))
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

    fn snappy(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    #[test]
    fn unsnap_whole_body_comes_back_and_a_cut_one_does_not() {
        let body = b"up up up up up up up up up up up up 1 2 3".repeat(20);
        let packed = snappy(&body);
        assert_eq!(unsnap(&packed, Limits::default().body_bytes_max).unwrap(), body);
        for end in 0..packed.len() {
            let outcome = unsnap(packed.get(..end).unwrap(), Limits::default().body_bytes_max);
            // No byte is an empty block to the library.
            if end > 0 {
                assert_eq!(outcome.unwrap_err().status.as_u16(), 400, "cut at {end}");
            }
        }
    }

    #[test]
    fn unsnap_best_packed_body_is_within_the_ratio() {
        let body = vec![0; 4 << 20];
        assert_eq!(unsnap(&snappy(&body), Limits::default().body_bytes_max).unwrap().len(), body.len());
    }

    #[test]
    fn unsnap_length_is_judged_before_memory_is_taken() {
        let claims = |bytes: u64| {
            let mut wire = Vec::new();
            crate::ingest::protobuf::push_varint(&mut wire, bytes);
            wire.extend_from_slice(&[0, 0]);
            unsnap(&wire, Limits::default().body_bytes_max).unwrap_err()
        };
        assert_eq!(claims((64 << 20) + 1).status.as_u16(), 413);
        let failure = claims(64 << 20);
        assert_eq!(failure.status.as_u16(), 400);
        assert!(failure.message.contains("length"), "{}", failure.message);
        assert_eq!(claims(u64::MAX).status.as_u16(), 400);
    }
}
