//! Rows back into line protocol, for export and for the law that what was read can be written and read again.

use icecore_storage::model::{Dialect, SeriesKey, ValueRef};

/// Appends one line, with nanoseconds and a newline. Strings in escapes of `dialect` are decoded first.
///
/// # Errors
/// A reason when line protocol has no form for the row: no field, a float that is not finite, a name that ends in
/// a backslash, holds a control character or (a measurement) begins with `#`. Nothing is appended then.
pub fn encode<'a>(
    dialect: &Dialect,
    key: &SeriesKey,
    fields: impl IntoIterator<Item = (&'a str, ValueRef<'a>)>,
    ts_ns: i64,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    let result = encode_row(dialect, key, fields, ts_ns, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn encode_row<'a>(
    dialect: &Dialect,
    key: &SeriesKey,
    fields: impl IntoIterator<Item = (&'a str, ValueRef<'a>)>,
    ts_ns: i64,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if key.measurement().starts_with('#') {
        return Err("a measurement that begins with `#` would be a comment".to_owned());
    }
    push_name(key.measurement(), b", ", out)?;
    for (tag, value) in key.tags() {
        out.push(b',');
        push_name(tag, b",= ", out)?;
        out.push(b'=');
        push_name(value, b",= ", out)?;
    }
    let mut before = b' ';
    for (name, value) in fields {
        out.push(before);
        push_name(name, b",= ", out)?;
        out.push(b'=');
        push_value(dialect, value, out)?;
        before = b',';
    }
    if before == b' ' {
        return Err("a row without a field".to_owned());
    }
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(ts_ns).as_bytes());
    out.push(b'\n');
    Ok(())
}

fn push_name(name: &str, escaped: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if name.is_empty() || name.ends_with('\\') || name.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("a name that is empty, ends in a backslash or holds a control character".to_owned());
    }
    for byte in name.bytes() {
        if escaped.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    Ok(())
}

fn push_value(dialect: &Dialect, value: ValueRef<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    match value {
        ValueRef::Float(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format(number).as_bytes());
        }
        ValueRef::Float(_) => return Err("a float that is not finite".to_owned()),
        ValueRef::Int(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.push(b'i');
        }
        ValueRef::UInt(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.push(b'u');
        }
        ValueRef::Bool(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        ValueRef::Str(text) => push_text(text.as_bytes(), out),
        ValueRef::Escaped(text) => {
            let mut plain = Vec::with_capacity(text.len());
            (dialect.unescape)(text, &mut plain);
            push_text(&plain, out);
        }
    }
    Ok(())
}

fn push_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
