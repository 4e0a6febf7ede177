//! Points as line protocol, for writing them to a running server.
use icecore_storage::model::Value;

use crate::Point;

/// Appends a point as one line with its newline. Newlines cannot be told in names: such a point is left out.
///
/// # Errors
/// The reason why the point has no line form.
pub(super) fn push_line(out: &mut Vec<u8>, point: &Point) -> Result<(), String> {
    let names = std::iter::once(&point.measurement)
        .chain(point.tags.iter().flat_map(|(key, value)| [key, value]))
        .chain(point.fields.iter().map(|(name, _)| name));
    for name in names {
        if name.is_empty() || name.contains('\n') || name.ends_with('\\') {
            return Err(format!("{name:?} cannot be written as line protocol"));
        }
    }
    if point.fields.is_empty() {
        return Err("it has no field".to_owned());
    }
    push_escaped(out, &point.measurement, &[',', ' ']);
    for (key, value) in &point.tags {
        out.push(b',');
        push_escaped(out, key, &[',', '=', ' ']);
        out.push(b'=');
        push_escaped(out, value, &[',', '=', ' ']);
    }
    for (index, (name, value)) in point.fields.iter().enumerate() {
        out.push(if index == 0 { b' ' } else { b',' });
        push_escaped(out, name, &[',', '=', ' ']);
        out.push(b'=');
        push_value(out, value);
    }
    out.extend_from_slice(format!(" {}\n", point.ts_ns).as_bytes());
    Ok(())
}

fn push_escaped(out: &mut Vec<u8>, text: &str, special: &[char]) {
    for symbol in text.chars() {
        if special.contains(&symbol) {
            out.push(b'\\');
        }
        out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn push_value(out: &mut Vec<u8>, value: &Value) {
    let text = match value {
        Value::Float(value) => format!("{value:?}"),
        Value::Int(value) => format!("{value}i"),
        Value::UInt(value) => format!("{value}u"),
        Value::Bool(value) => value.to_string(),
        Value::Str(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(point: &Point, wanted: Result<&str, ()>) {
        let mut out = Vec::new();
        let outcome = push_line(&mut out, point).map(|()| String::from_utf8(out).unwrap()).map_err(|_| ());
        assert_eq!(outcome.as_deref(), wanted.as_ref().copied().map_err(|()| &()));
    }

    #[test]
    fn line_escapes_what_separates() {
        let point = Point::new("web log,x")
            .tag("a=b", "c d")
            .field("text", "say \"hi\\\"")
            .field("n", 3_i64)
            .field("f", 1.0)
            .field("ok", true)
            .at_ns(-5);
        check(&point, Ok("web\\ log\\,x,a\\=b=c\\ d text=\"say \\\"hi\\\\\\\"\",n=3i,f=1.0,ok=true -5\n"));
    }

    #[test]
    fn line_that_cannot_be_is_refused() {
        check(&Point::new("a\nb").field("x", 1.0), Err(()));
        check(&Point::new("a\\").field("x", 1.0), Err(()));
        check(&Point::new("a"), Err(()));
    }
}
