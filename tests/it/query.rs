//! Asking: shapes of answers, errors with positions, and the small pages.

mod grafana;
mod kept;
mod languages;
mod laws;
mod native;
mod optimised;
mod quantiles;
mod sim;
mod stale;

use serde_json::Value;

use crate::support::{TestServer, now_s};

/// A server with twenty minutes of two services, one row each ten seconds, ending at the time returned.
fn with_rows() -> (TestServer, u64) {
    let server = TestServer::start();
    let end = now_s();
    let mut body = String::new();
    for step in 0..120 {
        let at = end - 10 * step;
        for (service, latency) in [("cart", 10), ("pay", 100)] {
            body.push_str(&format!(
                "requests,service={service} latency_ms={latency},note=\"n{step}\" {at}\n"
            ));
        }
    }
    server.post("/write?precision=s", body.as_bytes()).expect(204);
    (server, end)
}

#[test]
fn promql_instant_has_prometheus_shape() {
    let (server, end) = with_rows();
    let time = end.to_string();
    let json = server
        .promql("sum by (service) (count_over_time(requests_latency_ms[5m]))", &time)
        .expect(200)
        .json();
    assert_eq!(json.pointer("/status"), Some(&Value::from("success")));
    assert_eq!(json.pointer("/data/resultType"), Some(&Value::from("vector")));
    assert_eq!(json.pointer("/data/result/0/metric/service"), Some(&Value::from("cart")));
    assert_eq!(json.pointer("/data/result/0/value/0"), Some(&Value::from(end)));
    assert_eq!(json.pointer("/data/result/0/value/1"), Some(&Value::from("30")));
}

#[test]
fn promql_grafana_health_check_passes() {
    let server = TestServer::start();
    let reply = server.form("/api/v1/query", &[("query", "1+1"), ("time", "4")]).expect(200);
    assert_eq!(reply.body.trim(), r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#);
    let info = server.get("/api/v1/status/buildinfo", &[]).expect(200).json();
    assert!(info.pointer("/data/version").is_some() && info.pointer("/data/features").is_none());
}

#[test]
fn promql_range_answers_each_step() {
    let (server, end) = with_rows();
    let (start, end) = ((end - 300).to_string(), end.to_string());
    let params = [
        ("query", "avg(requests_latency_ms)"),
        ("start", start.as_str()),
        ("end", end.as_str()),
        ("step", "1m"),
    ];
    for reply in [server.get("/api/v1/query_range", &params), server.form("/api/v1/query_range", &params)] {
        let json = reply.expect(200).json();
        assert_eq!(json.pointer("/data/resultType"), Some(&Value::from("matrix")));
        let points = json.pointer("/data/result/0/values").and_then(Value::as_array).map_or(0, Vec::len);
        assert_eq!(points, 6, "{json}");
        assert_eq!(json.pointer("/data/result/0/values/5/1"), Some(&Value::from("55")));
    }
}

#[test]
fn promql_percentile_across_services_is_near() {
    let (server, end) = with_rows();
    let text = r#"histogram_quantile(0.99, sum(sum_over_time(requests_latency_ms{__stat__="hist"}[10m])))"#;
    let json = server.promql(text, &end.to_string()).expect(200).json();
    let value = json
        .pointer("/data/result/0/value/1")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<f64>().ok());
    let value = value.unwrap_or_else(|| panic!("no value in {json}"));
    assert!((value - 100.0).abs() / 100.0 < 0.005416, "{value}");
}

#[test]
fn promql_syntax_error_has_a_position() {
    let server = TestServer::start();
    let json = server.promql("sum(rate(x[5m])", "4").expect(400).json();
    assert_eq!(json.pointer("/errorType"), Some(&Value::from("bad_data")));
    assert!(
        json.pointer("/error").and_then(Value::as_str).is_some_and(|text| text.contains("1:16")),
        "{json}"
    );
}

#[test]
fn promql_bad_parameters_are_named() {
    let server = TestServer::start();
    server.get("/api/v1/query", &[]).expect_text(400, "query");
    server.promql("1", "yesterday").expect_text(400, "time");
    let range = [("query", "1"), ("start", "0"), ("end", "100"), ("step", "0")];
    server.get("/api/v1/query_range", &range).expect_text(400, "step");
    let range = [("query", "1"), ("start", "0"), ("end", "100000"), ("step", "1")];
    server.get("/api/v1/query_range", &range).expect_text(400, "exceeded maximum resolution of 11000 points");
    server.get("/api/v1/query", &[("query", "1"), ("db", "nosuch")]).expect_text(404, "not_found");
    server.get("/api/v1/series", &[]).expect_text(400, "match[]");
}

#[test]
fn promql_limit_and_explain_are_heeded() {
    let (server, end) = with_rows();
    let time = end.to_string();
    let params =
        [("query", "requests_latency_ms"), ("time", time.as_str()), ("limit", "1"), ("explain", "true")];
    let json = server.get("/api/v1/query", &params).expect(200).json();
    assert_eq!(json.pointer("/data/result").and_then(Value::as_array).map(Vec::len), Some(1));
    assert_eq!(json.pointer("/warnings/0"), Some(&Value::from("results truncated due to limit")));
    assert!(json.pointer("/coverage/rows").is_some(), "{json}");
}

#[test]
fn promql_metadata_lists_what_there_is() {
    let (server, _) = with_rows();
    server.get("/api/v1/labels", &[]).expect_text(200, r#"["__name__","service"]"#);
    server.form("/api/v1/label/service/values", &[]).expect_text(200, r#"["cart","pay"]"#);
    server.get("/api/v1/label/__name__/values", &[]).expect_text(200, r#"["requests_latency_ms"]"#);
    let selected = [("match[]", r#"{service="pay"}"#)];
    server.get("/api/v1/label/service/values", &selected).expect_text(200, r#"["pay"]"#);
    let series = server.get("/api/v1/series", &[("match[]", "requests_latency_ms")]).expect(200).json();
    assert_eq!(series.pointer("/data").and_then(Value::as_array).map(Vec::len), Some(2), "{series}");
    server.get("/api/v1/metadata", &[("limit", "1")]).expect_text(200, r#""data":{}"#);
}

#[test]
fn select_has_influx_shape() {
    let (server, end) = with_rows();
    let json = server.select("SELECT mean(latency_ms) FROM requests GROUP BY service").expect(200).json();
    assert_eq!(json.pointer("/results/0/statement_id"), Some(&Value::from(0)));
    assert_eq!(json.pointer("/results/0/series/0/tags/service"), Some(&Value::from("cart")));
    assert_eq!(json.pointer("/results/0/series/0/columns/1"), Some(&Value::from("mean")));
    let text = "SELECT note FROM requests WHERE service = 'pay' ORDER BY time DESC LIMIT 1";
    let params = [("q", text), ("epoch", "s")];
    let json = server.form("/query", &params).expect(200).json();
    assert_eq!(json.pointer("/results/0/series/0/values/0"), Some(&serde_json::json!([end, "n0"])));
}

#[test]
fn select_errors_stand_where_clients_look() {
    let (server, _) = with_rows();
    server.get("/query", &[]).expect_text(400, "missing required parameter");
    server.select("SELECT FROM requests").expect_text(400, "1:8");
    server
        .get("/query", &[("q", "SELECT x FROM y"), ("db", "nosuch")])
        .expect_text(200, "database not found: nosuch");
    server.get("/query", &[("q", "SHOW DATABASES"), ("epoch", "weeks")]).expect_text(400, "epoch");
}

#[test]
fn select_databases_are_made_and_shown() {
    let server = TestServer::start();
    server.form("/query", &[("q", "CREATE DATABASE shop; SHOW DATABASES")]).expect_text(200, r#"["shop"]"#);
    server.form("/query", &[("q", "CREATE DATABASE shop")]).expect_text(200, r#"{"statement_id":0}"#);
    server.form("/query", &[("q", "CREATE DATABASE \"a/b\"")]).expect_text(200, "error");
    server.form("/query", &[("q", "SHOW RETENTION POLICIES ON shop")]).expect_text(200, "30d");
    server.form("/query", &[("q", "CREATE DATABASE old"), ("retention", "forever")]).expect(200);
    server.form("/query", &[("q", "SHOW RETENTION POLICIES ON old")]).expect_text(200, r#""0s""#);
}

#[test]
fn pages_for_probes_and_tools_answer() {
    let server = TestServer::start();
    let ping = server.get("/ping", &[]).expect(204);
    assert_eq!(ping.header("x-influxdb-version"), Some("1.8.10"));
    assert!(
        server
            .raw(b"HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 204")
    );
    server.get("/health", &[]).expect_text(200, r#""status":"pass""#);
    for path in ["/", "/health/ready", "/-/healthy", "/-/ready", "/ready"] {
        server.get(path, &[]).expect(200);
    }
    server.post("/write", b"cpu usage=1").expect(204);
    let page = server.get("/metrics", &[]).expect_text(200, r#"icecore_rows_written_total{db="default"} 1"#);
    assert!(
        page.body.contains(r#"icecore_http_requests_total{route="/write",status="204"} 1"#),
        "{}",
        page.body
    );
    server.get("/nosuch", &[]).expect_text(404, r#""error""#);
    server.post("/api/v2/query", b"from(bucket: \"x\")").expect_text(422, "Flux");
    server.get("/api/v2/buckets", &[]).expect_text(200, "default");
    server.get("/api/v2/orgs", &[]).expect_text(200, "icecore");
}

#[test]
fn admin_orders_are_carried_out() {
    let (server, _) = with_rows();
    server.post("/api/v1/admin/flush?compact=true", b"").expect_text(200, "success");
    server.post("/api/v1/admin/retention?force=true", b"").expect_text(200, "dropped");
    server.post("/api/v1/admin/flush?db=nosuch", b"").expect(404);
    assert!((server.select_number("SELECT count(latency_ms) FROM requests") - 240.0).abs() < 0.1);
}
