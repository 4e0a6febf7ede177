//! Values of the parameters of a statement, from the JSON of a request.

use icecore_query::select::{Binding, Bindings};
use serde_json::Value;

use super::error::Failure;

/// Reads `{"name": value, ..}`. Values are texts, numbers and booleans, or say what they are: `{"duration": "5m"}`,
/// `{"regex": "^a"}`, `{"identifier": "my field"}`, `{"string": ..}`, `{"integer": ..}`, `{"float": ..}`, `{"boolean": ..}`.
///
/// # Errors
/// A bad request for anything else.
pub(super) fn bindings(text: &str) -> Result<Bindings, Failure> {
    let bad = |why: String| Failure::bad_request(format!("invalid parameter \"params\": {why}"));
    match serde_json::from_str(text).map_err(|error| bad(error.to_string()))? {
        Value::Null => Ok(Bindings::new()),
        Value::Object(values) => values
            .into_iter()
            .map(|(name, value)| {
                let bound =
                    binding(&value).ok_or_else(|| bad(format!("no value that can be bound for {name:?}")))?;
                Ok((name, bound))
            })
            .collect(),
        _ => Err(bad("a JSON object is needed".to_owned())),
    }
}

fn binding(value: &Value) -> Option<Binding> {
    match value {
        Value::String(text) => Some(Binding::Text(text.clone())),
        Value::Bool(value) => Some(Binding::Bool(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Some(Binding::Integer(value)),
            None => number.as_f64().map(Binding::Float),
        },
        Value::Object(object) if object.len() == 1 => {
            let (kind, value) = object.iter().next()?;
            match kind.as_str() {
                "string" => value.as_str().map(|text| Binding::Text(text.to_owned())),
                "identifier" => value.as_str().map(|text| Binding::Identifier(text.to_owned())),
                "regex" => value.as_str().map(|text| Binding::Regex(text.to_owned())),
                "duration" => value.as_str().map(|text| Binding::Duration(text.to_owned())),
                "integer" => value.as_i64().map(Binding::Integer),
                "float" => value.as_f64().map(Binding::Float),
                "boolean" => value.as_bool().map(Binding::Bool),
                _ => None,
            }
        }
        Value::Object(_) | Value::Null | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_what_the_json_says() {
        let read =
            bindings(r#"{"a":"x","b":-3,"c":1.5,"d":true,"e":{"duration":"5m"},"f":{"identifier":"g h"}}"#)
                .unwrap();
        assert_eq!(read.get("b"), Some(&Binding::Integer(-3)));
        assert_eq!(read.get("c"), Some(&Binding::Float(1.5)));
        assert_eq!(read.get("e"), Some(&Binding::Duration("5m".to_owned())));
        assert_eq!(read.get("f"), Some(&Binding::Identifier("g h".to_owned())));
        assert_eq!(read.len(), 6);
        assert_eq!(bindings("null").unwrap().len(), 0);
        for text in [
            "",
            "[]",
            "3",
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"sql":"x"}}"#,
            r#"{"a":{"integer":"x"}}"#,
        ] {
            assert_eq!(bindings(text).unwrap_err().status.as_u16(), 400, "{text}");
        }
    }
}
