//! Laws of the query languages as texts: parsing never panics, an error points into the text (at the start of a
//! character), what PromQL prints, on one line or formatted, is read back as what prints the same, and the crate
//! promql-parser accepts nothing that is refused here, but for what [`REFUSED`] lists.

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
            let formatted = prom::pretty(&expr);
            let again = prom::parse(&formatted);
            let again = again.unwrap_or_else(|error| panic!("{formatted:?} is not read back: {error}"));
            assert_eq!(again.to_string(), printed);
        }
        Err(error) => {
            check_place(text, &error);
            check_oracle(text, &error);
        }
    }
    if let Err(error) = prom::parse_selector(text) {
        check_place(text, &error);
    }
}

/// What promql-parser accepts and we refuse: parts of our message, ` .. ` between them, part of the text (empty: any), and
/// the reason.
const REFUSED: [(&str, &str, &str); 16] = [
    ("metric name must not be set twice", "", "Prometheus refuses a second name within the braces, too"),
    ("at least one non-empty matcher", "__stat__", "it chooses a statistic and no series"),
    ("filling in missing series", "", "Prometheus fills neither scalars nor set operators"),
    ("expected label selectors only", "info", "Prometheus takes nothing else as the second argument"),
    ("in grouping opts, expected label", "", "Prometheus takes no empty label"),
    ("'\\u{c}'", "", "Prometheus takes a form feed for no space"),
    ("'\\u{b}'", "", "Prometheus takes a vertical tab for no space"),
    ("in label matching, expected", "or", "VictoriaMetrics' `or` between matchers, which Prometheus refuses"),
    ("unary expression only allowed", "", "Prometheus refuses a sign before a string, too"),
    (
        // The message has the pattern.
        "error parsing regexp .. [",
        "",
        "a bracket within brackets is a character in RE2, and a class within a class there",
    ),
    (
        "duration must be greater than 0",
        "",
        "Prometheus takes no range without a length, written as a number, too",
    ),
    ("compiled pattern exceeds", "", "patterns are bounded"),
    ("duration out of range", "", "durations are nanoseconds in 64 bits, as in Prometheus"),
    ("timestamp out of bounds", "", "times are nanoseconds in 64 bits: 292 years around 1970"),
    ("levels of nesting", "", "bounded, so that no text overflows the stack"),
    ("operations on one another", "", "bounded, so that no text overflows the stack"),
];

/// The oracle's stack is not bounded: longer texts are not shown to it.
const ORACLE_BYTES_MAX: usize = 4096;

fn check_oracle(text: &str, error: &Error) {
    let message = error.to_string();
    let is_about = |parts: &str| parts.split(" .. ").all(|part| message.contains(part));
    if ORACLE_BYTES_MAX < text.len()
        || REFUSED.iter().any(|(ours, part, _)| is_about(ours) && text.contains(part))
    {
        return;
    }
    // It panics on some durations, and libFuzzer's hook would end the process before anybody could catch that.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(|| promql_parser::parser::parse(text));
    std::panic::set_hook(hook);
    if let Ok(Ok(found)) = found {
        panic!("promql-parser reads {text:?} as {found}, and we refuse it: {error}");
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
