//! What a remote read asks for: `prometheus.ReadRequest`: `queries` = 1 {`start_timestamp_ms` = 1, `end_timestamp_ms` = 2 (included),
//! `matchers` = 3 {`type` = 1, `name` = 2, `value` = 3}}, `accepted_response_types` = 2.
//!
//! A query is a selector of PromQL.

use std::fmt::Write as _;

use icecore_query::promql::{Selector, parse_selector};
use icecore_storage::model::TimeRange;

use super::MS_NS;
use crate::ingest::protobuf::{Fields, Malformed, packed_varints};
use crate::{Error, Result};

/// Queries of one request.
const QUERIES_MAX: usize = 64;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One message.
    Samples,
    /// Frames of chunks.
    Chunks,
}

/// The queries of a request, and which forms its sender takes, the one it likes best first.
#[derive(Debug)]
pub(super) struct ReadRequest<'a> {
    pub(super) queries: Vec<&'a [u8]>,
    pub(super) accepted: Vec<Form>,
}

impl<'a> ReadRequest<'a> {
    /// Reads a request. Who names no form takes samples.
    pub(super) fn read(message: &'a [u8]) -> Result<Self> {
        let (mut queries, mut accepted, mut names_any) = (Vec::new(), Vec::new(), false);
        for field in Fields::new(message) {
            match field.map_err(Error::invalid)? {
                (1, _) if QUERIES_MAX <= queries.len() => {
                    return Err(Error::invalid(format!("more than {QUERIES_MAX} queries in one request")));
                }
                (1, query) => queries.push(query.bytes().map_err(Error::invalid)?),
                (2, forms) => {
                    for form in packed_varints(forms) {
                        names_any = true;
                        match form.map_err(Error::invalid)? {
                            0 if !accepted.contains(&Form::Samples) => accepted.push(Form::Samples),
                            1 if !accepted.contains(&Form::Chunks) => accepted.push(Form::Chunks),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match (accepted.is_empty(), names_any) {
            (true, true) => Err(Error::invalid(
                "none of the accepted response types is known: SAMPLES (0) and STREAMED_XOR_CHUNKS (1) are",
            )),
            (true, false) => Ok(Self { queries, accepted: vec![Form::Samples] }),
            (false, _) => Ok(Self { queries, accepted }),
        }
    }
}

/// The selector of a query and its time. Query by query: the patterns of one may take as much memory as those of any.
pub(super) fn read_query(message: &[u8]) -> Result<(Selector, TimeRange)> {
    let (text, range) = text_of(message).map_err(Error::invalid)?;
    Ok((parse_selector(&text)?, range))
}

/// The selector of a query as text, and its time.
fn text_of(message: &[u8]) -> std::result::Result<(String, TimeRange), Malformed> {
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
