//! /api/v1/format_query and /api/v1/parse_query: a query in the form of the printer, and its tree as JSON in the shape of
//! Prometheus' `web/api/v1/translate_ast.go`. The height of a tree is bounded by its parser, so recursion is safe here.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use icecore_query::promql::ast::{
    Aggregate, At, Binary, Cardinality, Edge, ExprKind, Matcher, Selector, Shift,
};
use icecore_query::promql::{self, Expr, ValueType};
use serde_json::{Value, json};

use super::app::App;
use super::encode::data_json;
use super::error::Failure;
use super::number::float_text;
use super::prometheus::{open, options, query_text, respond};
use crate::telemetry::Language;

pub(super) async fn format_query(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(run(&app, request, |expr| Value::from(promql::pretty(expr))).await)
}

pub(super) async fn parse_query(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(run(&app, request, tree).await)
}

async fn run(app: &App, request: Request, show: fn(&Expr) -> Value) -> Result<Vec<u8>, Failure> {
    let (params, database) = open(app, request).await?;
    let text = query_text(app, &params)?;
    let query = database.query(options(app, &params)?);
    let work = move |_: &_| Ok(data_json(show(&promql::parse(&text)?).to_string().as_bytes(), false));
    app.run_query(Language::Metadata, query, work).await.map_err(|failure| failure.of_parameter("query"))
}

/// A tree as JSON. Only this function calls itself, and its frame is small.
fn tree(expr: &Expr) -> Value {
    let mut below = Vec::new();
    for child in children(expr) {
        below.push(tree(child));
    }
    node(expr, below)
}

/// What stands below a node, in the order in which [`node`] takes it.
fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Bytes(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => Vec::new(),
        ExprKind::Subquery { expr: inner, .. }
        | ExprKind::Paren(inner)
        | ExprKind::Unary { expr: inner, .. } => vec![inner],
        ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
        ExprKind::Aggregate(aggregate) => [&aggregate.expr].into_iter().chain(&aggregate.parameter).collect(),
        ExprKind::Call { args, .. } => args.iter().collect(),
    }
}

/// A node over what stands below it.
fn node(expr: &Expr, below: Vec<Value>) -> Value {
    let mut below = below.into_iter();
    let mut next = || below.next().unwrap_or_default();
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": number(*value)}),
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Bytes(bytes) => json!({"type": "stringLiteral", "val": String::from_utf8_lossy(bytes)}),
        ExprKind::Selector(selector) => selector_tree(selector, None),
        ExprKind::Range { selector, range_ns } => selector_tree(selector, Some(*range_ns)),
        ExprKind::Subquery { range_ns, step_ns, shift, .. } => json!({
            "type": "subquery",
            "expr": next(),
            "range": millis(*range_ns),
            "offset": millis(shift.offset_ns),
            "step": millis(step_ns.unwrap_or(0)),
            "timestamp": timestamp(*shift),
            "startOrEnd": start_or_end(*shift),
        }),
        ExprKind::Paren(_) => json!({"type": "parenExpr", "expr": next()}),
        ExprKind::Unary { is_minus, .. } => {
            json!({"type": "unaryExpr", "op": if *is_minus { "-" } else { "+" }, "expr": next()})
        }
        ExprKind::Binary(binary) => binary_tree(binary, next(), next()),
        ExprKind::Aggregate(aggregate) => aggregate_tree(aggregate, next(), next()),
        ExprKind::Call { name, .. } => {
            json!({"type": "call", "func": function(name), "args": below.collect::<Vec<_>>()})
        }
    }
}

fn selector_tree(selector: &Selector, range_ns: Option<i64>) -> Value {
    let mut out = json!({
        "type": if range_ns.is_some() { "matrixSelector" } else { "vectorSelector" },
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": millis(selector.shift.offset_ns),
        "matchers": matchers(selector),
        "timestamp": timestamp(selector.shift),
        "startOrEnd": start_or_end(selector.shift),
        "anchored": selector.edge == Edge::Anchored,
        "smoothed": selector.edge == Edge::Smoothed,
    });
    if let (Some(range_ns), Some(object)) = (range_ns, out.as_object_mut()) {
        object.insert("range".to_owned(), millis(range_ns));
    }
    out
}

/// The matchers in braces, and the name as one of them.
fn matchers(selector: &Selector) -> Value {
    let one =
        |matcher: &Matcher| json!({"name": matcher.label, "value": matcher.value, "type": matcher.op.sign()});
    let name = selector.name.as_ref().map(|name| json!({"name": "__name__", "value": name, "type": "="}));
    selector.matchers.iter().map(one).chain(name).collect::<Vec<_>>().into()
}

fn binary_tree(binary: &Binary, left: Value, right: Value) -> Value {
    let are_vectors = [&binary.left, &binary.right].iter().all(|side| side.value_type() == ValueType::Vector);
    let matching = &binary.matching;
    let card = match matching.cardinality {
        _ if binary.op.is_set() => "many-to-many",
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
    };
    let found = are_vectors.then(|| {
        json!({
            "card": card,
            "labels": matching.labels,
            "on": matching.is_on,
            "include": matching.include,
            "fillValues": {"lhs": matching.fill.left, "rhs": matching.fill.right},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": binary.op.sign(),
        "lhs": left,
        "rhs": right,
        "matching": found,
        "bool": binary.is_bool,
    })
}

fn aggregate_tree(aggregate: &Aggregate, expr: Value, parameter: Value) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.name(),
        "expr": expr,
        "param": parameter,
        "grouping": aggregate.grouping,
        "without": aggregate.is_without,
    })
}

fn function(name: &str) -> Value {
    let Some(signature) = promql::signature(name) else { return Value::Null };
    json!({
        "name": name,
        "argTypes": signature.args.iter().map(|arg| type_name(*arg)).collect::<Vec<_>>(),
        "variadic": signature.variadic,
        "returnType": type_name(signature.returns),
    })
}

fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
        ValueType::Text => "string",
    }
}

/// A number without an exponent, as Prometheus has it here.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { float_text(value) }
}

fn millis(nanos: i64) -> Value {
    Value::from(nanos / 1_000_000)
}

fn timestamp(shift: Shift) -> Value {
    match shift.at {
        Some(At::Time(nanos)) => millis(nanos),
        Some(At::Start | At::End) | None => Value::Null,
    }
}

fn start_or_end(shift: Shift) -> Value {
    match shift.at {
        Some(At::Start) => Value::from("start"),
        Some(At::End) => Value::from("end"),
        Some(At::Time(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: Value) {
        assert_eq!(tree(&promql::parse(text).unwrap()), wanted, "{text}");
    }

    #[test]
    fn tree_of_selectors_has_their_matchers_and_times() {
        check(
            "foo{a!~\"b.*\"}[5m] @ start() offset -1m",
            json!({
                "type": "matrixSelector", "name": "foo", "range": 300_000, "offset": -60_000,
                "matchers": [
                    {"name": "a", "value": "b.*", "type": "!~"}, {"name": "__name__", "value": "foo", "type": "="},
                ],
                "timestamp": null, "startOrEnd": "start", "anchored": false, "smoothed": false,
            }),
        );
        check(
            "{a=\"b\"} @ 1.5 smoothed",
            json!({
                "type": "vectorSelector", "name": "", "offset": 0,
                "matchers": [{"name": "a", "value": "b", "type": "="}],
                "timestamp": 1500, "startOrEnd": null, "anchored": false, "smoothed": true,
            }),
        );
    }

    #[test]
    fn tree_of_operators_says_how_sides_meet() {
        let leaf = |name: &str| tree(&promql::parse(name).unwrap());
        check(
            "a / on (x) group_left (y) fill_right (0) b",
            json!({
                "type": "binaryExpr", "op": "/", "lhs": leaf("a"), "rhs": leaf("b"), "bool": false,
                "matching": {
                    "card": "many-to-one", "labels": ["x"], "on": true, "include": ["y"],
                    "fillValues": {"lhs": null, "rhs": 0.0},
                },
            }),
        );
        check(
            "-(a > bool 1e21)",
            json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": {
                "type": "binaryExpr", "op": ">", "lhs": leaf("a"), "bool": true, "matching": null,
                "rhs": {"type": "numberLiteral", "val": "1000000000000000000000"},
            }}}),
        );
        assert_eq!(leaf("a and b").pointer("/matching/card"), Some(&Value::from("many-to-many")));
    }

    #[test]
    fn highest_trees_fit_the_stack_of_a_thread() {
        // As high and as deep as the parser takes them, on the stack that a thread has by itself.
        let high = format!("a{}", " + a".repeat(255));
        let deep = format!("{}a{}", "a or b and c == d + e * f ^ (".repeat(32), ")".repeat(32));
        let durations = format!("a[{}1{}]", "1 + (".repeat(60), ")".repeat(60));
        for text in [high, deep, format!("rate({durations})")] {
            let show = move || {
                let expr = promql::parse(&text).unwrap();
                let formatted = promql::pretty(&expr);
                assert_eq!(promql::parse(&formatted).unwrap().to_string(), expr.to_string());
                tree(&expr).to_string().len()
            };
            let thread = std::thread::Builder::new().stack_size(1400 << 10).spawn(show).unwrap();
            assert!(100 < thread.join().unwrap());
        }
        assert!(promql::parse(&format!("a{}", " + a".repeat(256))).is_err());
    }

    #[test]
    fn tree_of_calls_has_the_signature_of_the_function() {
        check(
            "topk without (x) (3, round(a[1h:1m]))".replace("a[1h:1m]", "a").as_str(),
            json!({
                "type": "aggregation", "op": "topk", "param": {"type": "numberLiteral", "val": "3"},
                "grouping": ["x"], "without": true,
                "expr": {
                    "type": "call", "args": [tree(&promql::parse("a").unwrap())],
                    "func": {"name": "round", "argTypes": ["vector", "scalar"], "variadic": 1, "returnType": "vector"},
                },
            }),
        );
        let of = |text: &str, place: &str| tree(&promql::parse(text).unwrap()).pointer(place).cloned();
        assert_eq!(of("label_join(a, \"b\", \"c\")", "/func/variadic"), Some(json!(-1)));
        assert_eq!(of("rate(a[5m:])", "/args/0/step"), Some(json!(0)));
        assert_eq!(of("time()", "/func/returnType"), Some(json!("scalar")));
    }
}
