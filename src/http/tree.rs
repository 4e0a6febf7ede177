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

/// A tree as JSON.
fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number { value, .. } => json!({"type": "numberLiteral", "val": number(*value)}),
        ExprKind::Text(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Bytes(bytes) => json!({"type": "stringLiteral", "val": String::from_utf8_lossy(bytes)}),
        ExprKind::Selector(selector) => selector_tree(selector, None),
        ExprKind::Range { selector, range_ns } => selector_tree(selector, Some(*range_ns)),
        ExprKind::Subquery { expr: inner, range_ns, step_ns, shift, .. } => json!({
            "type": "subquery",
            "expr": tree(inner),
            "range": millis(*range_ns),
            "offset": millis(shift.offset_ns),
            "step": millis(step_ns.unwrap_or(0)),
            "timestamp": timestamp(*shift),
            "startOrEnd": start_or_end(*shift),
        }),
        ExprKind::Paren(inner) => json!({"type": "parenExpr", "expr": tree(inner)}),
        ExprKind::Unary { is_minus, expr: inner } => {
            json!({"type": "unaryExpr", "op": if *is_minus { "-" } else { "+" }, "expr": tree(inner)})
        }
        ExprKind::Binary(binary) => binary_tree(binary),
        ExprKind::Aggregate(aggregate) => aggregate_tree(aggregate),
        ExprKind::Call { name, args } => json!({
            "type": "call",
            "func": function(name),
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
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

fn binary_tree(binary: &Binary) -> Value {
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
        "lhs": tree(&binary.left),
        "rhs": tree(&binary.right),
        "matching": found,
        "bool": binary.is_bool,
    })
}

fn aggregate_tree(aggregate: &Aggregate) -> Value {
    json!({
        "type": "aggregation",
        "op": aggregate.op.name(),
        "expr": tree(&aggregate.expr),
        "param": aggregate.parameter.as_ref().map(tree),
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
