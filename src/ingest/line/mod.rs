//! InfluxDB line protocol: `measurement[,tag=value]* field=value[,field=value]* [timestamp]`, one row a line.
//!
//! Order of events: [`decode`] checks UTF-8 once over the body and cuts it into rows that borrow from it
//! (`scan`); the engine asks [`LINE`] to decode a series key or a field name only when it meets one it does not
//! know (`dialect`). So the structure of tags is judged there, not in the scan: a row whose key [`LINE`] refuses
//! is a refused row too. [`encode`] is the way back, for export.
//!
//! Rules where InfluxDB versions differ: CRLF is accepted, blank lines and `#` comments are skipped, spaces
//! before a line are tolerated, NaN and infinity are refused, a newline inside a quoted string belongs to the
//! string, `1u` is an unsigned integer, `time` is refused as a tag and as a field. After a bad line the scan goes
//! on with the next line; a string that was opened on the bad line is skipped whole, so that its text can never
//! be taken for a row.

#![warn(clippy::indexing_slicing)]

mod dialect;
mod encode;
mod scan;
mod swar;
#[cfg(test)]
mod tests;

pub use dialect::LINE;
pub use encode::encode;
pub use scan::decode;

use icecore_storage::model::{HOUR_NS, MINUTE_NS, SECOND_NS};

/// Unit of the timestamps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Minutes.
    M,
    /// Hours.
    H,
}

impl Precision {
    /// Reads the `precision` parameter of a write request; `None` for a unit that does not exist.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "n" | "ns" => Some(Self::Ns),
            // Both micro signs: U+00B5 and the Greek letter U+03BC.
            "u" | "us" | "\u{b5}" | "\u{b5}s" | "\u{3bc}" | "\u{3bc}s" => Some(Self::Us),
            "ms" => Some(Self::Ms),
            "s" => Some(Self::S),
            "m" => Some(Self::M),
            "h" => Some(Self::H),
            _ => None,
        }
    }

    /// Nanoseconds in one unit.
    pub fn unit_ns(self) -> i64 {
        match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::S => SECOND_NS,
            Self::M => MINUTE_NS,
            Self::H => HOUR_NS,
        }
    }
}

/// Memory that decoding and writing a body takes at most, but for what all bodies take: each field has an `=` of its
/// own, and becomes a field of the batch, a value of a column and a value of a log record; texts are copied twice.
pub fn decoded_bytes(body: &[u8]) -> usize {
    const FIELD_BYTES: usize = 96;
    let fields = memchr::memchr_iter(b'=', body).count();
    fields.saturating_mul(FIELD_BYTES).saturating_add(body.len().saturating_mul(2))
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct LineLimits {
    /// Longest row, in bytes; a longer one is refused.
    pub line_bytes_max: usize,
    /// Most fields of all rows; with the row that goes beyond it the rest of the body is refused. A field takes
    /// 40 bytes of memory and as few as 4 of text, so the size of the body alone is no bound.
    pub fields_max: usize,
    /// How many refused rows are described; the others are only counted.
    pub errors_max: usize,
}

impl Default for LineLimits {
    fn default() -> Self {
        Self { line_bytes_max: 64 * 1024, fields_max: 5_000_000, errors_max: 100 }
    }
}
