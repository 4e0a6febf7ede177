//! The scan over a body: where rows, keys, names and values begin and end. No allocation per row or field.
//!
//! A row is key, fields, timestamp. A fault carries the offset where it was found, so that the reason names the
//! column; after it the scan goes on with the next line.

use icecore_storage::model::batch::Field;
use icecore_storage::model::{RowError, TIMESTAMP_MAX, TIMESTAMP_MIN, ValueRef, WriteBatch, floor_to};

use super::swar::{digits, plain_len, power_of_ten};
use super::{LINE, LineLimits, Precision};
use crate::ingest::Decoded;

/// Digits that a float's mantissa may have to be exact.
const EXACT_DIGITS: usize = 15;

/// Decodes a body. Rows without a timestamp get `now_ns`, floored to the precision.
///
/// Tag structure is judged by [`LINE`] when the engine decodes a key for the first time, see the module. Cost:
/// one pass, memory for rows and fields only.
pub fn decode<'a>(body: &'a [u8], precision: Precision, now_ns: i64, limits: &LineLimits) -> Decoded<'a> {
    let unit_ns = precision.unit_ns();
    let mut scan = Scan {
        body,
        text: simdutf8::basic::from_utf8(body).ok(),
        rest: body,
        line: 1,
        newlines: 0,
        unit_ns,
        now_ns: floor_to(now_ns, unit_ns).clamp(TIMESTAMP_MIN, TIMESTAMP_MAX),
        limits,
        out: Decoded {
            batch: WriteBatch::new(&LINE),
            rejected: Vec::new(),
            rejected_count: 0,
            exemplars: Vec::new(),
        },
    };
    scan.run();
    scan.out
}

/// What is wrong with a row, and where.
struct Fault {
    offset: usize,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    NoField,
    NoEquals,
    NoName,
    Value,
    Int,
    UInt,
    Float,
    FloatRange,
    IntRange,
    Bool,
    OpenString,
    AfterValue,
    Timestamp,
    TimestampRange,
    AfterTimestamp,
    Utf8,
    TooLong,
    TooMany,
}

impl What {
    fn reason(self) -> &'static str {
        match self {
            Self::NoField => "missing fields",
            Self::NoEquals => "expected `=` after the field name",
            Self::NoName => "empty field name",
            Self::Value => "expected a number, a boolean or a quoted string as field value",
            Self::Int => "invalid integer",
            Self::UInt => "invalid unsigned integer",
            Self::Float => "invalid float",
            Self::FloatRange => "float out of range",
            Self::IntRange => "integer out of range",
            Self::Bool => "invalid boolean",
            Self::OpenString => "string without closing quote",
            Self::AfterValue => "unexpected character after a field value",
            Self::Timestamp => "invalid timestamp",
            Self::TimestampRange => "timestamp out of range",
            Self::AfterTimestamp => "unexpected text after the timestamp",
            Self::Utf8 => "invalid UTF-8",
            Self::TooLong => "line too long",
            Self::TooMany => "too many fields",
        }
    }
}

struct Scan<'a, 'l> {
    body: &'a [u8],
    /// The body as text, when all of it is UTF-8. Otherwise each row is checked by itself.
    text: Option<&'a str>,
    rest: &'a [u8],
    line: u32,
    /// Newlines met inside the strings of the current row.
    newlines: u32,
    unit_ns: i64,
    now_ns: i64,
    limits: &'l LineLimits,
    out: Decoded<'a>,
}

impl<'a> Scan<'a, '_> {
    fn run(&mut self) {
        while let Some(&first) = self.rest.first() {
            match first {
                b'\n' => {
                    self.skip(1);
                    self.line = self.line.saturating_add(1);
                }
                b' ' => self.skip(1),
                b'\r' if matches!(self.rest.get(1), None | Some(b'\n')) => self.skip(1),
                b'#' => self.skip(memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len())),
                _ => self.take_row(),
            }
        }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    fn offset(&self) -> usize {
        self.body.len() - self.rest.len()
    }

    /// A fault `ahead` bytes after the current place.
    fn fault<T>(&self, ahead: usize, what: What) -> Result<T, Fault> {
        Err(Fault { offset: self.offset() + ahead, what })
    }

    fn take_row(&mut self) {
        let start = self.offset();
        let fields_before = self.out.batch.fields.len();
        self.newlines = 0;
        let result = self.row(start);
        match result {
            Ok((key, ts_ns)) => {
                self.out.batch.push_row(key, ts_ns, self.line);
                if self.out.batch.rows.len() == 1 {
                    self.reserve(self.offset() - start);
                }
            }
            Err(fault) => {
                self.out.batch.fields.truncate(fields_before);
                self.refuse(&fault, start);
                self.skip_rest_of_line();
            }
        }
        self.line = self.line.saturating_add(self.newlines);
    }

    /// Makes room for as many rows as the first one suggests, and some more: it may be a long one.
    fn reserve(&mut self, row_bytes: usize) {
        const ROWS_MAX: usize = 64 * 1024;
        let rows = self.rest.len() / row_bytes.max(1);
        let rows = (rows + rows / 8).min(ROWS_MAX);
        self.out.batch.rows.reserve(rows);
        let fields = self.out.batch.fields.len().saturating_mul(rows).min(16 * ROWS_MAX);
        self.out.batch.fields.reserve(fields);
    }

    fn refuse(&mut self, fault: &Fault, start: usize) {
        self.out.rejected_count += 1;
        if self.out.rejected.len() < self.limits.errors_max {
            let column = fault.offset.saturating_sub(start) + 1;
            let reason = match fault.what {
                What::TooLong => format!("line longer than {} bytes", self.limits.line_bytes_max),
                What::TooMany => {
                    let limit = self.limits.fields_max;
                    format!("more than {limit} fields in one request, the rest of it is refused")
                }
                what => format!("{} at column {column}", what.reason()),
            };
            self.out.rejected.push(RowError { line: self.line, reason });
        }
    }

    /// Goes to the end of a refused line; strings that open on it are skipped whole.
    fn skip_rest_of_line(&mut self) {
        while let Some(at) = memchr::memchr2(b'\n', b'"', self.rest) {
            let opens = at.checked_sub(1).and_then(|before| self.rest.get(before)) == Some(&b'=');
            if self.rest.get(at) == Some(&b'\n') {
                self.skip(at);
                return;
            }
            self.skip(at + 1);
            if opens {
                match string_len(self.rest) {
                    Some((len, _)) => {
                        self.count_newlines(len);
                        self.skip(len + 1);
                    }
                    None => break,
                }
            }
        }
        self.rest = &[];
    }

    fn count_newlines(&mut self, len: usize) {
        let text = self.rest.get(..len).unwrap_or_default();
        let newlines = memchr::memchr_iter(b'\n', text).count();
        self.newlines = self.newlines.saturating_add(u32::try_from(newlines).unwrap_or(u32::MAX));
    }

    /// Scans a row up to its newline, which is left where it is.
    fn row(&mut self, start: usize) -> Result<(&'a [u8], i64), Fault> {
        let key = self.key()?;
        loop {
            let name = self.name()?;
            let value = self.value()?;
            if self.limits.fields_max <= self.out.batch.fields.len() {
                self.rest = &[];
                return self.fault(0, What::TooMany);
            }
            self.out.batch.fields.push(Field { name, value });
            if self.limits.line_bytes_max < self.offset() - start {
                return self.fault(0, What::TooLong);
            }
            if self.rest.first() != Some(&b',') {
                break;
            }
            self.skip(1);
        }
        let ts_ns = self.end_of_row()?;
        let row = self.body.get(start..self.offset()).unwrap_or_default();
        if row.len() > self.limits.line_bytes_max {
            return self.fault(0, What::TooLong);
        }
        if self.text.is_none()
            && let Err(error) = std::str::from_utf8(row)
        {
            // The rest of the line is judged from here on, its strings have been read.
            return Err(Fault { offset: start + error.valid_up_to(), what: What::Utf8 });
        }
        Ok((key, ts_ns))
    }

    /// Measurement and tags: everything before the first space without a backslash.
    fn key(&mut self) -> Result<&'a [u8], Fault> {
        let mut len = 0;
        loop {
            let tail = self.rest.get(len..).unwrap_or_default();
            len += memchr::memchr3(b' ', b'\n', b'\\', tail).unwrap_or(tail.len());
            match self.rest.get(len) {
                Some(b' ') => break,
                Some(b'\\') => len += 1 + usize::from(self.rest.get(len + 1) == Some(&b' ')),
                Some(_) | None => {
                    // The fault stands at the end of the line, nothing of it is left to skip.
                    self.skip(len);
                    return self.fault(0, What::NoField);
                }
            }
        }
        let key = self.rest.get(..len).unwrap_or_default();
        self.skip(len + 1);
        self.skip_spaces();
        if matches!(self.rest, [] | [b'\n' | b'\r', ..]) {
            return self.fault(0, What::NoField);
        }
        Ok(key)
    }

    fn skip_spaces(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// A field name and the `=` behind it.
    fn name(&mut self) -> Result<&'a [u8], Fault> {
        let mut len = 0;
        loop {
            let tail = self.rest.get(len..).unwrap_or_default();
            len += plain_len(tail);
            match self.rest.get(len) {
                Some(b'=') => break,
                Some(b'\\') => {
                    let escapes = matches!(self.rest.get(len + 1), Some(b',' | b'=' | b' '));
                    len += 1 + usize::from(escapes);
                }
                Some(_) | None if len == 0 => return self.fault(0, What::NoName),
                Some(_) | None => return self.fault(len, What::NoEquals),
            }
        }
        let Some((name, rest)) = self.rest.split_at_checked(len).filter(|_| len != 0) else {
            return self.fault(0, What::NoName);
        };
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(name)
    }

    fn value(&mut self) -> Result<ValueRef<'a>, Fault> {
        match self.rest.first() {
            Some(b'0'..=b'9' | b'-' | b'.') => self.number(),
            Some(b'"') => self.string(),
            Some(b't' | b'T' | b'f' | b'F') => self.boolean(),
            // Leave the `=` in place behind which a refused string may open.
            Some(_) | None => self.fault(0, What::Value),
        }
    }

    fn number(&mut self) -> Result<ValueRef<'a>, Fault> {
        let sign_len = usize::from(self.rest.first() == Some(&b'-'));
        let unsigned = self.rest.get(sign_len..).unwrap_or_default();
        let (number, count) = digits(unsigned);
        match unsigned.get(count) {
            Some(b'i') if count != 0 => {
                let value = match i64::try_from(number) {
                    Ok(value) if count < 20 => Some(if sign_len == 0 { value } else { -value }),
                    _ => self.parse(sign_len + count),
                };
                let Some(value) = value else { return self.fault(0, What::IntRange) };
                self.skip(sign_len + count + 1);
                Ok(ValueRef::Int(value))
            }
            Some(b'u') if count != 0 && sign_len == 0 => {
                let value = if count < 20 { Some(number) } else { self.parse(count) };
                let Some(value) = value else { return self.fault(0, What::IntRange) };
                self.skip(count + 1);
                Ok(ValueRef::UInt(value))
            }
            Some(b'i') => self.fault(0, What::Int),
            Some(b'u') => self.fault(0, What::UInt),
            Some(_) | None => self.float(number, count, sign_len),
        }
    }

    /// The first `len` bytes as a number, the slow way: many digits, most of them zeros or too many.
    fn parse<N: std::str::FromStr>(&self, len: usize) -> Option<N> {
        std::str::from_utf8(self.rest.get(..len)?).ok()?.parse().ok()
    }

    /// A float of which the digits before the point are read. Few digits are exact as integer and as power of
    /// ten, so one division rounds correctly (Clinger); everything else goes to the library.
    fn float(&mut self, whole: u64, whole_len: usize, sign_len: usize) -> Result<ValueRef<'a>, Fault> {
        let whole_end = sign_len + whole_len;
        let (fraction, fraction_len, end) = match self.rest.get(whole_end) {
            Some(b'.') => {
                let tail = self.rest.get(whole_end + 1..).unwrap_or_default();
                let (fraction, len) = digits(tail);
                (fraction, len, whole_end + 1 + len)
            }
            Some(_) | None => (0, 0, whole_end),
        };
        let digits_len = whole_len + fraction_len;
        let exponent = matches!(self.rest.get(end), Some(b'e' | b'E'));
        if !exponent && (1..=EXACT_DIGITS).contains(&digits_len) {
            let scale = power_of_ten(fraction_len);
            let number = (whole * scale + fraction) as f64 / scale as f64;
            self.skip(end);
            return Ok(ValueRef::Float(if sign_len == 0 { number } else { -number }));
        }
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
        let len = self.rest.iter().take_while(|byte| is_part(byte)).count();
        let text = self.rest.get(..len).unwrap_or_default();
        match fast_float2::parse::<f64, _>(text) {
            Ok(number) if number.is_finite() => {
                self.skip(len);
                Ok(ValueRef::Float(number))
            }
            Ok(_) => self.fault(0, What::FloatRange),
            Err(_) => self.fault(0, What::Float),
        }
    }

    fn boolean(&mut self) -> Result<ValueRef<'a>, Fault> {
        let len = plain_len(self.rest);
        let value = match self.rest.get(..len).unwrap_or_default() {
            b"t" | b"T" | b"true" | b"True" | b"TRUE" => true,
            b"f" | b"F" | b"false" | b"False" | b"FALSE" => false,
            _ => return self.fault(0, What::Bool),
        };
        self.skip(len);
        Ok(ValueRef::Bool(value))
    }

    fn string(&mut self) -> Result<ValueRef<'a>, Fault> {
        let Some((len, escaped)) = string_len(self.rest.get(1..).unwrap_or_default()) else {
            // Without the quote there is no telling where the next row begins.
            let fault = self.fault(0, What::OpenString);
            self.rest = &[];
            return fault;
        };
        self.skip(1);
        let start = self.offset();
        let text = match self.text {
            Some(text) => text.get(start..start + len),
            None => self.rest.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok()),
        };
        self.count_newlines(len);
        self.skip(len + 1);
        match text {
            Some(text) if escaped => Ok(ValueRef::Escaped(text)),
            Some(text) => Ok(ValueRef::Str(text)),
            None => Err(Fault { offset: start, what: What::Utf8 }),
        }
    }

    /// What follows the fields: spaces, a timestamp or none, spaces, the end of the line.
    fn end_of_row(&mut self) -> Result<i64, Fault> {
        if self.at_line_end() {
            return Ok(self.now_ns);
        }
        if self.rest.first() != Some(&b' ') {
            return self.fault(0, What::AfterValue);
        }
        self.skip_spaces();
        if self.at_line_end() {
            return Ok(self.now_ns);
        }
        let ts_ns = self.timestamp()?;
        self.skip_spaces();
        if self.at_line_end() { Ok(ts_ns) } else { self.fault(0, What::AfterTimestamp) }
    }

    fn at_line_end(&self) -> bool {
        matches!(self.rest, [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..])
    }

    fn timestamp(&mut self) -> Result<i64, Fault> {
        let sign_len = usize::from(self.rest.first() == Some(&b'-'));
        let (number, count) = digits(self.rest.get(sign_len..).unwrap_or_default());
        if count == 0 {
            return self.fault(0, What::Timestamp);
        }
        let units = match i64::try_from(number) {
            Ok(units) if count < 20 => Some(if sign_len == 0 { units } else { -units }),
            _ => self.parse(sign_len + count),
        };
        let ts_ns = units.and_then(|units: i64| units.checked_mul(self.unit_ns));
        match ts_ns {
            Some(ts_ns) if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&ts_ns) => {
                self.skip(sign_len + count);
                Ok(ts_ns)
            }
            _ => self.fault(0, What::TimestampRange),
        }
    }
}

/// Length of a string up to its closing quote, and whether it holds escapes; `None` when nothing closes it.
fn string_len(bytes: &[u8]) -> Option<(usize, bool)> {
    let (mut len, mut escaped) = (0, false);
    loop {
        let tail = bytes.get(len..)?;
        len += memchr::memchr2(b'"', b'\\', tail)?;
        if bytes.get(len) == Some(&b'"') {
            return Some((len, escaped));
        }
        let escapes = matches!(bytes.get(len + 1), Some(b'"' | b'\\'));
        escaped |= escapes;
        len += 1 + usize::from(escapes);
    }
}
