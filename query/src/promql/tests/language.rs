//! Lexer, parser, type checks and printer.

use proptest::prelude::*;

use crate::ErrorKind;
use crate::promql::{parse, parse_selector, pretty};

fn check(text: &str, printed: &str) {
    match parse(text) {
        Ok(expr) => assert_eq!(expr.to_string(), printed, "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn check_error(text: &str, message: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text} parsed as {expr}"),
        Err(error) => assert!(error.to_string().contains(message), "{text}: {error}"),
    }
}

#[test]
fn parse_literals_prints_numbers() {
    check("0x1F", "31");
    check("1_000", "1000");
    check("1e3", "1000");
    check(".5", "0.5");
    check("1h30m", "1h30m");
    check("-0m", "-0s");
    check("- Inf", "-Inf");
    check("+inf ^ 2", "+Inf ^ 2");
    check("'a\\tb\\u00e9'", "\"a\\tbé\"");
    check("`a\\b`", "\"a\\\\b\"");
    check("'a\\xc5\\nz\\377'", "\"a\\xc5\\nz\\xff\"");
}

#[test]
fn parse_operators_keeps_precedence() {
    for (text, same) in [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("-1 ^ 2", "-(1 ^ 2)"),
        ("2 ^ 3 ^ 2", "2 ^ (3 ^ 2)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("-2 * 3", "(-2) * 3"),
        ("2 ^ -1 * 3", "(2 ^ (-1)) * 3"),
        ("1 + 2 == bool 3", "(1 + 2) == bool 3"),
        ("10 % 4 atan2 3", "(10 % 4) atan2 3"),
    ] {
        let value = |text: &str| {
            super::script::with_context(&Default::default(), |context| {
                match crate::promql::instant(context, text, 0).unwrap().value {
                    crate::promql::QueryValue::Scalar { value, .. } => value,
                    other => panic!("{other:?}"),
                }
            })
        };
        assert_eq!(value(text), value(same), "{text}");
    }
    check("a or b and c > d + e", "a or b and c > d + e");
    check("a </ 1 + 2 >/ -3", "a </ 1 + 2 >/ -3");
    check("rate(a[5m] offset 1m anchored)", "rate(a[5m] anchored offset 1m)");
    check("smoothed @ 5 smoothed", "smoothed smoothed @ 5.000");
}

#[test]
fn parse_selectors_prints_canonical_form() {
    check("foo", "foo");
    check("foo{a='b', c!=\"d\",}", "foo{a=\"b\",c!=\"d\"}");
    check("{\"a.b\", x=\"y\"}", "{\"a.b\",x=\"y\"}");
    check("{\"x\"}", "x");
    check("foo{\"a.b\"=~\"x.*\"}", "foo{\"a.b\"=~\"x.*\"}");
    check("foo{inf='x'}", "foo{\"inf\"=\"x\"}");
    check("sum{by='x'}", "sum{by=\"x\"}");
    check("a:b:c[5m] offset -1w", "a:b:c[5m] offset -1w");
    check("foo[1h30m] @ 1.5 offset 90s", "foo[1h30m] @ 1.500 offset 1m30s");
    check("foo @ start()", "foo @ start()");
    check("foo @ START() Offset 5m", "foo @ start() offset 5m");
    check("rate(foo[5m] ANCHORED @ End())", "rate(foo[5m] anchored @ end())");
    check("rate(foo[5m])[1h:30s] @ end()", "rate(foo[5m])[1h:30s] @ end()");
    check("max_over_time(foo[300])", "max_over_time(foo[5m])");
    check("foo{z='1', a='2'}", "foo{a=\"2\",z=\"1\"}");
}

#[test]
fn parse_clauses_prints_canonical_form() {
    check("sum(a) by (x, y,)", "sum by (x, y) (a)");
    check("SUM without () (a)", "sum without () (a)");
    check("topk(3, a)", "topk(3, a)");
    check("a * on (x) group_left (y, z) b", "a * on (x) group_left (y, z) b");
    check("a / ignoring (x) b # end", "a / ignoring (x) b");
    // A carriage return alone ends a comment, as in Prometheus: what followed it was left out.
    check("a # one\r + b # two\r\n + c", "a + b + c");
    check("a / ignoring () b", "a / b");
    check("a / ignoring () group_left () b", "a / ignoring () group_left () b");
    check("a + fill_right(-1e3) FILL_LEFT(.5) b", "a + fill_left (0.5) fill_right (-1000) b");
    check("a + on (\"x:y\") fill(0) b", "a + on (\"x:y\") fill (0) b");
    check("a > bool 1", "a > bool 1");
    check("count_values without (a) ('v', b)", "count_values without (a) (\"v\", b)");
}

#[test]
fn parse_errors_name_the_place() {
    check_error("", "unknown position: parse error: no expression found in input");
    check_error(" # x", "1:1: parse error: no expression found in input");
    check_error("foo{", "1:5: parse error: unexpected end of input");
    check_error("foo\n  + * 2", "2:5: parse error: unexpected <op:*>");
    check_error("foo{a=\"b\"", "1:10: parse error: unexpected end of input inside braces");
    check_error("{}", "must contain at least one non-empty matcher");
    check_error("{a=~\".*\"}", "must contain at least one non-empty matcher");
    check_error("\"abc", "unterminated quoted string");
    check_error("5z", "bad number or duration syntax");
    check_error("nosuch(foo)", "1:1: parse error: unknown function with name \"nosuch\"");
    check_error("foo offset 5m offset 5m", "offset may not be set multiple times");
    check_error("1 offset 5m", "offset modifier must be preceded by");
    check_error("(foo)[5m]", "ranges only allowed for vector selectors");
    check_error("foo[0s]", "duration must be greater than 0");
    check_error("foo{a=~\"(\"}", "1:8: parse error: error parsing regexp: unclosed group: \"(\"");
    check_error("foo{__name__=\"bar\"}", "metric name must not be set twice");
    check_error("foo{__name__=~\"bar\"}", "metric name must not be set twice: \"foo\" or \"bar\"");
    check_error("{__name__=\"a\", __name__=\"b\"}", "metric name must not be set twice: \"a\" or \"b\"");
    check("{\"foo\", __name__!~\"bar\"}", "{\"foo\",__name__!~\"bar\"}");
    check_error("foo{5=\"x\"}", "1:5: parse error: unexpected character inside braces: '5'");
    check_error("foo{a:b=\"x\"}", "1:6: parse error: unexpected character inside braces: ':'");
    check_error("foo}", "1:4: parse error: unexpected character: '}'");
    check_error("foo)", "1:4: parse error: unexpected right parenthesis ')'");
    check_error("sum(foo", "1:8: parse error: unclosed left parenthesis");
    check_error("foo[5m", "1:7: parse error: unclosed left bracket");
    check_error("foo bar }", "1:5: parse error: unexpected identifier \"bar\"");
    check_error("sum by (a b) (c)", "unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"");
    check_error("foo @ -NaN", "timestamp out of bounds for @ modifier: -NaN");
    check_error("foo{a=\"b\" c=\"d\"}", "expected \",\" or \"}\"");
    check_error("sum(a, b)", "wrong number of arguments");
    assert_eq!(parse("foo\n  + * 2").unwrap_err().offset(), Some(8));
}

#[test]
fn check_types_as_prometheus() {
    check_error("rate(foo)", "expected type range vector in call to function \"rate\", got instant vector");
    check_error("abs(1)", "expected type instant vector in call to function \"abs\", got scalar");
    check_error("rate(foo[5m], 1)", "expected 1 argument in call to \"rate\", got 2");
    check_error("round()", "expected at least 1 argument in call to \"round\", got 0");
    check_error("1 == 2", "comparisons between scalars must use BOOL modifier");
    check_error("foo + bool 1", "bool modifier can only be used on comparison operators");
    check_error("1 and foo", "set operator \"and\" not allowed in binary scalar expression");
    check_error("foo and on (a) group_left () bar", "no grouping allowed for \"and\" operation");
    check_error("1 + on (a) foo", "vector matching only allowed between instant vectors");
    check_error("a * on (x) group_left (x) b", "must not occur in ON and GROUP clause at once");
    check_error("-foo[5m]", "unary expression only allowed on expressions of type scalar or instant vector");
    check_error("foo + \"a\"", "must contain only scalar and instant vector types");
    check_error("foo anchored", "anchored modifier can only be used with range selectors");
    check_error("foo smoothed[5m]", "no smoothed modifiers allowed before range");
    check_error("rate(foo[5m] anchored smoothed)", "anchored and smoothed may be set only once");
    check_error("rate((foo[5m:] anchored))", "must be preceded by an instant or range vector selector");
    check_error("resets(foo[5m] smoothed)", "can only be used with: delta, increase, rate - not with resets");
    check_error("1 </ 2", "operator \"</\" not allowed for Scalar operations");
    check_error("foo </ bool 2", "bool modifier can only be used on comparison operators");
    check_error("histogram_quantiles(foo, \"q\")", "expected at least 3 arguments");
    check_error("sum(1)", "expected type instant vector in aggregation expression, got scalar");
}

#[test]
fn parse_durations_prints_their_arithmetic() {
    check("foo[5m+1m]", "foo[5m + 1m]");
    check("foo[(5m + 60) * 2:step()] offset -(1m*2)", "foo[(5m + 60) * 2:step()] offset -(1m * 2)");
    check(
        "foo[- step() + MAX_OF(range(), 1m)] offset -step()",
        "foo[-step() + max_of(range(), 1m)] offset -step()",
    );
    check("foo[2^3^2] offset +5m", "foo[2 ^ 3 ^ 2] offset 5m");
    check("foo offset +5m+1", "foo offset 5m + 1");
    check("foo[-5m ^ 2 + 1h]", "foo[-5m ^ 2 + 1h]");
    check_error("foo[5m - ]", "1:10: parse error: unexpected \"]\" in subquery or range selector");
    check_error("foo[0]", "1:5: parse error: duration must be greater than 0");
    check_error("foo[-5m]", "1:5: parse error: duration must be greater than 0");
    check_error("foo[5m / 0]", "1:10: parse error: division by zero");
    check_error("foo[5m % 0]", "modulo by zero");
    check_error("foo[1e300]", "duration out of range");
    check_error(
        "foo[bar]",
        "unexpected identifier \"bar\" in subquery or range selector, expected number, duration",
    );
    check_error("foo[300y]", "1:5: parse error: duration out of range");
    check_error("foo[99999999999999999999999s]", "duration out of range");
    check_error("foo[5m3h]", "bad number or duration syntax: \"5m3h\"");
    check_error("foo offset (1m", "1:15: parse error: unclosed left parenthesis");
    check_error("foo offset step() offset 1m", "offset may not be set multiple times");
    check_error("foo offset step()[5m]", "no offset modifiers allowed before range");
    check_error("foo anchored[step()]", "no anchored modifiers allowed before range");
}

#[test]
fn parse_arguments_as_prometheus() {
    check_error("rate(foo[5m],)", "1:13: parse error: trailing commas not allowed in function call args");
    check("info(foo, {a=~\".*\"})", "info(foo, {a=~\".*\"})");
    check("info(foo, {})", "info(foo, {})");
    check_error("info(foo, bar)", "expected label selectors only, got vector selector instead");
    check_error("info({})", "must contain at least one non-empty matcher");
    check_error("info(foo, abs({}))", "must contain at least one non-empty matcher");
    check_error("info(foo, abs(x))", "expected label selectors only");
    check_error("a and fill (0) b", "filling in missing series not allowed for set operators");
    check_error("a + fill (0) 1", "filling in missing series only allowed between instant vectors");
    check_error("a + fill (x) b", "unexpected identifier \"x\" in fill modifier, expected number");
    check_error("holt_winters(a[5m], 0.1, 0.1)", "unknown function with name \"holt_winters\"");
    check_error("sum by (a) b", "unexpected identifier \"b\"");
    check_error("foo bar:x", "unexpected metric identifier \"bar:x\"");
    check_error("foo{} by", "unexpected <by>");
    check_error("foo \"a long string\"", "unexpected string \"\\\"a long st\"...");
}

#[test]
fn pretty_breaks_lines_over_100_bytes() {
    let long = "sum by (job, instance) (rate(http_requests_total{code=~\"5..\", handler!=\"/metrics\"}[5m])) / \
                sum by (job, instance) (rate(http_requests_total{handler!=\"/metrics\"}[5m])) > bool -(label_replace(\
                up{a_rather_long_label=\"and a value that is longer still\", b=\"c\"}, \"x\", \"$1\", \"y\", \"(.*)\")[1h:1m])";
    let long = long.replace("-(label", "(max_over_time((label").replace("[1h:1m])", ")[1h:1m]))");
    let expected = "  \
    sum by (job, instance) (rate(http_requests_total{code=~\"5..\",handler!=\"/metrics\"}[5m]))
  /
    sum by (job, instance) (rate(http_requests_total{handler!=\"/metrics\"}[5m]))
> bool
  (
    max_over_time(
      (
        label_replace(
          up{a_rather_long_label=\"and a value that is longer still\",b=\"c\"},
          \"x\",
          \"$1\",
          \"y\",
          \"(.*)\"
        )
      )[1h:1m]
    )
  )";
    let expr = parse(&long).unwrap();
    assert_eq!(pretty(&expr).trim_start(), expected.trim_start());
    assert_eq!(parse(&pretty(&expr)).unwrap().to_string(), expr.to_string());
    assert_eq!(pretty(&parse("sum(a)  by(b)").unwrap()), "sum by (b) (a)");
}

#[test]
fn parse_deep_text_is_refused() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("-", "1", ""),
        ("1^", "1", ""),
        ("1+", "1", ""),
        ("abs(", "a", ")"),
        ("a or b and c == d + e * f ^ (", "g", ")"),
    ] {
        let text = format!("{}{middle}{}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse(&text).unwrap_err().to_string().contains("expression has more than"));
    }
    let many = |text: &str| text.repeat(100_000);
    for text in [
        format!("a[{}1{}]", many("("), many(")")),
        format!("a[{}1]", many("1+")),
        format!("a[{}1]", many("1^")),
        format!("a[{}1]", many("-")),
        format!("a offset -{}1{}", many("(1+"), many(")")),
        format!("a[{}1, 1]", many("min_of(")),
    ] {
        assert!(parse(&text).unwrap_err().to_string().contains("expression has more than"));
    }
    let deepest = format!("{}g{}", "a or b and c == d + e * f ^ (".repeat(32), ")".repeat(32));
    assert_eq!(parse(&deepest).unwrap().to_string(), deepest);
}

#[test]
fn parse_selector_takes_only_selectors() {
    assert_eq!(parse_selector("up{job=\"x\"}").unwrap().to_string(), "up{job=\"x\"}");
    assert!(parse_selector("rate(up[5m])").is_err());
    assert!(parse_selector("up offset 5m").is_err());
    assert!(parse_selector("up up").is_err());
}

fn vectors() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("{__name__=~\"a.+\", b!='c\\n'}".to_owned()),
        Just("foo{\"x y\"=\"é\"} @ -3.25 offset 26h".to_owned()),
        Just("rate(x[400d]) ".to_owned()),
        Just("rate(x[5m + 2 * 1m] offset step())".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "==",
            "!= bool",
            "> on (a)",
            "and",
            "or",
            "unless ignoring(b)",
            "atan2",
            "* on(a) group_right(c)",
            "- ignoring(a) fill(1)",
            "+ fill_left(-1) fill_right(NaN)",
        ]);
        let wraps = prop::sample::select(vec![
            "(E)",
            "-E",
            "+E",
            "2 ^ E",
            "E * 1e3",
            "sum(E)",
            "topk by (a) (2, E)",
            "abs(E)",
            "clamp(E, -1, Inf)",
            "rate((E)[5m:])",
            "rate((E)[step() * 2:min_of(1m, range())] offset -(5m % 3))",
            "info(E, {a='b'})",
            "min_over_time((E)[1w2d:90s] offset 1m)",
            "label_join(E, 'a', '-', 'b', `c`)",
        ]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(l, op, r)| format!("{l} {op} {r}")),
            (inner, wraps).prop_map(|(inner, wrap)| wrap.replace('E', &inner)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn print_of_parse_is_stable(text in vectors()) {
        let printed = parse(&text).unwrap().to_string();
        prop_assert_eq!(parse(&pretty(&parse(&text).unwrap())).unwrap().to_string(), printed.clone());
        prop_assert_eq!(parse(&printed).unwrap().to_string(), printed);
    }

    #[test]
    fn parse_any_text_gives_an_answer(text in "[a-z0-9(){}\\[\\]\"'`\\\\@:,.=!~<>+*/^%# \n_-]{0,40}") {
        if let Ok(expr) = parse(&text) {
            prop_assert!(expr.start <= expr.end && expr.end <= text.len());
        }
    }
}

#[test]
fn parse_many_large_patterns_is_refused() {
    let text = format!("x{{{}}}", vec!["a=~\"\\\\pL{20}\""; 1000].join(","));
    assert!(parse(&text).unwrap_err().to_string().contains("compiled patterns of the query exceed"));
    check_error("x{a=~\"\\\\pL{400}\"}", "compiled pattern exceeds");
    let error = parse_selector(&format!("x{{a=\"{}\"}}", "y".repeat(17_000))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "as HTTP answers a text that is too long: 400");
}

/// What soup is made of.
const WORDS: [&str; 64] = [
    "x",
    "y",
    "x",
    "{",
    "}",
    "a=\"1\"",
    "a=~\".*\"",
    "__name__=~\".+\"",
    "__stat__=\"hist\"",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "[5m]",
    "[1h:1m]",
    "[1ms:1ms]",
    "offset 5m",
    "offset -1w",
    "@ 60",
    "@ end()",
    "@ -9e9",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "bool",
    ">",
    "and",
    "or",
    "unless",
    "on (a)",
    "ignoring (a)",
    "group_left",
    "sum",
    "by (a)",
    "topk",
    "topk(1e300,",
    "quantile(0.5,",
    "count_values(\"v\",",
    "rate",
    "rate(x[5m])",
    "irate(x[2m])",
    "histogram_quantile(0.9,",
    "label_replace(x, \"b\", \"$1\", \"a\", \"(.*)\")",
    "absent(",
    "time()",
    "vector(1)",
    "clamp(x, 1, NaN)",
    "sort_by_label(x, \"a\")",
    ",",
    "1",
    "Inf",
    "NaN",
    "-1e308",
    "9223372036854775807",
    "1y",
    "\"s\"",
    "#",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Words of the language in any order never panic, neither in the parser nor in evaluation at any time.
    #[test]
    fn token_soup_gives_an_answer(
        words in proptest::collection::vec(0..WORDS.len(), 0..14),
        at_ns in proptest::sample::select(vec![0, 300_000_000_001, -1, i64::MAX, i64::MIN]),
    ) {
        let mut scan = crate::promql::testing::VecScan::default();
        for (name, host) in [("x", "1"), ("x", "2"), ("y", "1")] {
            let key = icecore_storage::model::SeriesKey::new(name, [("a", host)]).unwrap();
            for minute in 0..10_i64 {
                let value = icecore_storage::model::Value::Float(minute as f64);
                scan.push(&key, "value", minute * 60_000_000_000, value);
            }
        }
        let text: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        for text in [text.join(" "), format!("sum({})", text.join("")), format!("x {}", text.join(" "))] {
            super::script::with_context(&scan, |context| {
                _ = crate::promql::instant(context, &text, at_ns);
                let end_ns = at_ns.saturating_add(600_000_000_000);
                _ = crate::promql::range(context, &text, at_ns, end_ns, 60_000_000_000);
                _ = crate::promql::range(context, &text, i64::MIN, i64::MAX, i64::MAX);
                prop_assert!(crate::promql::range(context, &text, i64::MIN, i64::MAX, 1).is_err());
                Ok(())
            })?;
        }
    }
}
