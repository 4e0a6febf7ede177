//! What Grafana's Prometheus data source asks, call by call, as its plugin builds the requests (grafana-prometheus-datasource,
//! read at version 0.0.18 and later), and what the pages of Prometheus' own UI and its tools ask.

use serde_json::{Value, json};

use super::with_rows;
use crate::support::TestServer;

/// The data of a successful answer.
fn data(reply: crate::support::Reply) -> Value {
    let json = reply.expect(200).json();
    assert_eq!(json.pointer("/status"), Some(&json!("success")), "{json}");
    json.pointer("/data").cloned().expect("an answer has data")
}

/// Status, class and text of an error.
fn check_error(reply: crate::support::Reply, status: u16, class: &str, text: &str) {
    let json = reply.expect(status).json();
    assert_eq!(json.pointer("/status"), Some(&json!("error")), "{json}");
    assert_eq!(json.pointer("/errorType"), Some(&json!(class)), "{json}");
    let error = json.pointer("/error").and_then(Value::as_str).expect("an error has a text");
    assert!(error.contains(text), "no {text:?} in {error}");
}

#[test]
fn save_and_test_takes_icecore_for_a_prometheus() {
    let (server, _) = with_rows();
    let scalar = json!({"resultType": "scalar", "result": [4, "2"]});
    let query = [("query", "1+1"), ("time", "4")];
    assert_eq!(data(server.get("/api/v1/query", &query)), scalar);
    assert_eq!(data(server.form("/api/v1/query", &query)), scalar);
    let build = data(server.get("/api/v1/status/buildinfo", &[]));
    assert_eq!(build.get("features"), None, "with features Grafana takes it for Mimir");
    let version = build.get("version").and_then(Value::as_str).unwrap_or_default();
    let major: u32 = version.split('.').next().unwrap_or_default().parse().expect("a number");
    assert!(3 <= major, "{version}");
    // Once at start: times in milliseconds, a quirk of the plugin.
    let milliseconds = [("query", "test"), ("start", "1700000000000"), ("end", "1700000060000")];
    assert_eq!(data(server.get("/api/v1/query_exemplars", &milliseconds)), json!([]));
    assert_eq!(data(server.get("/api/v1/rules", &[])), json!({"groups": []}));
}

#[test]
fn editor_and_variables_find_names_and_values() {
    let (server, end) = with_rows();
    let (start, end) = ((end - 3600).to_string(), end.to_string());
    let times = [("limit", "40000"), ("start", start.as_str()), ("end", end.as_str())];
    let names = json!(["__name__", "service"]);
    assert_eq!(data(server.form("/api/v1/labels", &times)), names);
    assert_eq!(data(server.get("/api/v1/labels", &times)), names);
    let matched: Vec<_> =
        times.into_iter().chain([("match[]", "requests_latency_ms{service=\"pay\"}")]).collect();
    assert_eq!(data(server.form("/api/v1/labels", &matched)), names);
    for path in ["/api/v1/label/service/values", "/api/v1/label/U__service/values"] {
        assert_eq!(data(server.get(path, &times)), json!(["cart", "pay"]), "{path}");
        assert_eq!(data(server.form(path, &matched)), json!(["pay"]), "{path}");
    }
    assert_eq!(data(server.get("/api/v1/label/__name__/values", &times)), json!(["requests_latency_ms"]));
    let series = json!([{"__name__": "requests_latency_ms", "service": "pay"}]);
    assert_eq!(data(server.form("/api/v1/series", &matched)), series);
    assert_eq!(data(server.get("/api/v1/series", &matched)), series);
    let before: Vec<_> =
        [("start", "0"), ("end", "3600")].into_iter().chain([("match[]", "requests_latency_ms")]).collect();
    for path in
        ["/api/v1/labels", "/api/v1/series", "/api/v1/label/service/values", "/api/v1/label/__name__/values"]
    {
        for params in [&before[..2], &before] {
            if path != "/api/v1/series" || params.len() == 3 {
                assert_eq!(data(server.get(path, params)), json!([]), "{path} before there was anything");
            }
        }
    }
    assert!(data(server.get("/api/v1/metadata", &[("limit", "40000")])).is_object());
    assert!(data(server.get("/api/v1/metadata", &[("metric", "requests_latency_ms")])).is_object());
    let one = server.get("/api/v1/series", &[("match[]", "requests_latency_ms"), ("limit", "1")]).expect(200);
    assert!(one.body.contains("results truncated due to limit"), "{}", one.body);
    check_error(server.get("/api/v1/series", &[]), 400, "bad_data", "no match[] parameter provided");
    let everything = [("match[]", "{service=~\".*\"}")];
    check_error(server.get("/api/v1/series", &everything), 400, "bad_data", "at least one non-empty matcher");
    check_error(
        server.form("/api/v1/labels", &[("match[]", "a b")]),
        400,
        "bad_data",
        "invalid parameter \"match[]\": 1:3",
    );
}

#[test]
fn panels_send_the_query_as_a_form_and_the_rest_in_the_url() {
    let (server, end) = with_rows();
    // Start and end are multiples of the step.
    let (start, end) = ((end - 600) / 15 * 15, end / 15 * 15);
    let query = "sum%20by%20(service)%20(rate(requests_latency_ms%5B1m%5D))";
    let form = format!("query={query}&start={start}&end={end}&step=15&timeout=60s");
    let url = "/api/v1/query_range?stats=all&max_samples_processed_warning_threshold=1&unknown=x";
    let reply = server.post(url, form.as_bytes()).expect(200);
    let (kind, result) = (reply.body.find("\"resultType\":\"matrix\""), reply.body.find("\"result\":["));
    assert!(kind < result && kind.is_some(), "{}", reply.body);
    let found = reply.json();
    assert_eq!(found.pointer("/data/result/0/metric"), Some(&json!({"service": "cart"})));
    let points = found.pointer("/data/result/0/values").and_then(Value::as_array).map(Vec::len);
    assert_eq!(points, Some(usize::try_from((end - start) / 15 + 1).expect("a count")));
    let samples = found.pointer("/data/stats/samples/totalQueryableSamples").and_then(Value::as_u64);
    assert!(samples.is_some_and(|samples| 0 < samples), "{found}");
    assert!(found.pointer("/data/stats/timings/evalTotalTime").is_some_and(Value::is_number), "{found}");
    let (start, end) = (start.to_string(), end.to_string());
    let range = |query, step| {
        let params = [("query", query), ("start", start.as_str()), ("end", end.as_str()), ("step", step)];
        server.form("/api/v1/query_range", &params)
    };
    assert!(!range("up", "15").expect(200).body.contains("\"stats\""));
    check_error(
        range("sum(", "15"),
        400,
        "bad_data",
        "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis",
    );
    check_error(
        range("\"text\"", "15"),
        400,
        "bad_data",
        "invalid parameter \"query\": invalid expression type \"string\"",
    );
    check_error(
        range("up", "0"),
        400,
        "bad_data",
        "zero or negative query resolution step widths are not accepted",
    );
    check_error(
        range("up", ""),
        400,
        "bad_data",
        "invalid parameter \"step\": cannot parse \"\" to a valid duration",
    );
    check_error(
        range("up", "0.01"),
        400,
        "bad_data",
        "exceeded maximum resolution of 11,000 points".replace(',', "").as_str(),
    );
    check_error(
        range("requests_latency_ms + on () requests_latency_ms", "15"),
        422,
        "execution",
        "duplicate series",
    );
}

#[test]
fn errors_have_the_classes_that_clients_act_on() {
    let (server, end) = with_rows();
    let at = end.to_string();
    let ask = |more: &[(&str, &str)]| {
        let params: Vec<_> =
            [("query", "requests_latency_ms"), ("time", at.as_str())].iter().chain(more).copied().collect();
        server.get("/api/v1/query", &params)
    };
    check_error(
        server.get("/api/v1/query", &[]),
        400,
        "bad_data",
        "unknown position: parse error: no expression found in input",
    );
    check_error(
        server.get("/api/v1/query", &[("query", "1"), ("time", "x")]),
        400,
        "bad_data",
        "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
    );
    check_error(ask(&[("timeout", "0.000000001")]), 503, "timeout", "timed out");
    check_error(ask(&[("timeout", "soon")]), 400, "bad_data", "invalid parameter \"timeout\"");
    check_error(ask(&[("limit", "-1")]), 400, "bad_data", "limit must be non-negative");
    check_error(ask(&[("db", "nosuch")]), 404, "not_found", "database not found");
    check_error(server.get("/api/v1/nosuch", &[]), 404, "not_found", "no such path");
    let limited = ask(&[("limit", "1")]).expect(200).json();
    assert_eq!(limited.pointer("/warnings"), Some(&json!(["results truncated due to limit"])));
    assert_eq!(limited.pointer("/data/result").and_then(Value::as_array).map(Vec::len), Some(1));
    let older = (end + 400).to_string();
    let look = |lookback| {
        let params =
            [("query", "requests_latency_ms"), ("time", older.as_str()), ("lookback_delta", lookback)];
        data(server.get("/api/v1/query", &params)).pointer("/result").and_then(Value::as_array).map(Vec::len)
    };
    assert_eq!((look("5m"), look("10m"), look("600")), (Some(0), Some(2), Some(2)));
}

#[test]
fn queries_are_formatted_and_shown_as_trees() {
    let server = TestServer::start();
    let query = [("query", "sum(rate(a[5m]))by(b)")];
    assert_eq!(data(server.get("/api/v1/format_query", &query)), json!("sum by (b) (rate(a[5m]))"));
    assert_eq!(data(server.form("/api/v1/format_query", &query)), json!("sum by (b) (rate(a[5m]))"));
    for reply in
        [server.get("/api/v1/parse_query", &query), server.form("/db/default/api/v1/parse_query", &query)]
    {
        let tree = data(reply);
        assert_eq!(tree.pointer("/type"), Some(&json!("aggregation")));
        assert_eq!(tree.pointer("/expr/func/name"), Some(&json!("rate")));
        assert_eq!(tree.pointer("/expr/args/0/range"), Some(&json!(300_000)));
    }
    for path in ["/api/v1/format_query", "/api/v1/parse_query"] {
        check_error(server.get(path, &[]), 400, "bad_data", "invalid parameter \"query\": unknown position");
        check_error(
            server.get(path, &[("query", "a +")]),
            400,
            "bad_data",
            "invalid parameter \"query\": 1:4: parse error",
        );
        let deep = "(".repeat(8000);
        check_error(
            server.form(path, &[("query", &deep)]),
            400,
            "bad_data",
            "more than 64 levels of nesting",
        );
        let wide = format!("a{}", "+1".repeat(100));
        assert!(!data(server.form(path, &[("query", &wide)])).is_null());
    }
}

#[test]
fn highest_queries_are_answered() {
    let (server, end) = with_rows();
    let at = end.to_string();
    let metric = "requests_latency_ms";
    let high = format!("{metric}{}", format!(" + {metric}").repeat(255));
    let deep = format!("{}{metric}{}", "max_over_time(".repeat(60), "[5m:1m])".repeat(60));
    let aggregated = format!("{}{metric}{}", "sum(-".repeat(31), ")".repeat(31));
    for query in [&high, &deep, &aggregated] {
        let params = [("query", query.as_str()), ("time", &at)];
        let reply = server.form("/api/v1/query", &params);
        assert!([200, 422].contains(&reply.status), "{}", reply.body);
        for path in ["/api/v1/format_query", "/api/v1/parse_query"] {
            server.form(path, &params).expect(200);
        }
    }
}

#[test]
fn pages_about_the_server_say_what_is_true() {
    let (server, _) = with_rows();
    let tsdb = data(server.get("/api/v1/status/tsdb", &[("limit", "5")]));
    assert_eq!(tsdb.pointer("/headStats/numSeries"), Some(&json!(2)));
    assert_eq!(tsdb.pointer("/headStats/numLabelPairs"), Some(&json!(3)));
    assert_eq!(
        tsdb.pointer("/seriesCountByMetricName"),
        Some(&json!([{"name": "requests_latency_ms", "value": 2}]))
    );
    assert_eq!(tsdb.pointer("/labelValueCountByLabelName/0"), Some(&json!({"name": "service", "value": 2})));
    assert_eq!(
        tsdb.pointer("/seriesCountByLabelValuePair/1"),
        Some(&json!({"name": "service=cart", "value": 1}))
    );
    let empty = [
        ("/api/v1/alerts", json!({"alerts": []})),
        ("/api/v1/alertmanagers", json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})),
        ("/api/v1/targets", json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}})),
        ("/api/v1/targets/metadata", json!([])),
        ("/api/v1/scrape_pools", json!({"scrapePools": []})),
        ("/api/v1/status/config", json!({"yaml": ""})),
    ];
    for (path, wanted) in empty {
        assert_eq!(data(server.get(path, &[])), wanted, "{path}");
    }
    let flags = data(server.get("/api/v1/status/flags", &[]));
    assert_eq!(flags.pointer("/query.timeout"), Some(&json!("30s")));
    let runtime = data(server.get("/api/v1/status/runtimeinfo", &[]));
    assert!(
        runtime.pointer("/startTime").and_then(Value::as_str).is_some_and(|time| time.ends_with('Z')),
        "{runtime}"
    );
}
