//! Laws of the query languages as texts: parsing never panics, an error points into the text (at the start of a
//! character), and what PromQL prints is read back as what prints the same.

use icecore_query::{Error, promql as prom, select as sql};

/// PromQL, as an expression and as a selector.
pub fn promql(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match prom::parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again = prom::parse(&printed);
            let again = again.unwrap_or_else(|error| panic!("{printed:?} is not read back: {error}"));
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => check_place(text, &error),
    }
    if let Err(error) = prom::parse_selector(text) {
        check_place(text, &error);
    }
}

/// Statements of the SELECT language.
pub fn select(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = sql::parse(text) {
        check_place(text, &error);
    }
}

fn check_place(text: &str, error: &Error) {
    if let Some(offset) = error.offset() {
        assert!(offset <= text.len(), "{offset} lies outside of the text: {error}");
        assert!(text.is_char_boundary(offset), "{offset} lies inside of a character: {error}");
    }
}
