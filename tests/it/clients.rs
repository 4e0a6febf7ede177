//! Habits of real clients: Grafana's data sources, the InfluxDB clients of several languages, vmalert, vmctl.

use crate::support::{TestServer, gzip, now_s};

fn with_row() -> (TestServer, u64) {
    let server = TestServer::start();
    let now = now_s();
    server.post("/write?precision=s", format!("cpu,host=a usage=1.5 {now}").as_bytes()).expect(204);
    (server, now)
}

/// A request as it stands on the wire, and the answer without its headers.
#[track_caller]
fn expect_raw(server: &TestServer, head: &str, body: &[u8], status: u16, wanted: &str) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut bytes = format!("{head}\r\nHost: x\r\nConnection: close\r\n{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    let answer = server.raw(&bytes);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(wanted), "no {wanted:?} in {answer}");
}

#[test]
fn clients_header_of_gzip_without_a_body_is_no_matter() {
    let (server, _) = with_row();
    let gzip = "Content-Encoding: gzip\r\nAccept: application/x-msgpack";
    let shown = "/query?q=SHOW+DATABASES";
    expect_raw(&server, &format!("GET {shown} HTTP/1.1\r\n{gzip}"), b"", 200, r#"["default"]"#);
    expect_raw(&server, &format!("POST {shown} HTTP/1.1\r\n{gzip}"), b"", 200, r#"["default"]"#);
    expect_raw(&server, &format!("GET /ping HTTP/1.1\r\n{gzip}"), b"", 204, "x-influxdb-version: 1.8.10");
    expect_raw(&server, &format!("POST /write HTTP/1.1\r\n{gzip}"), b"", 204, "");
}

#[test]
fn clients_content_type_is_not_needed() {
    let (server, now) = with_row();
    let line = format!("cpu,host=b usage=2 {now}");
    for kind in [
        "",
        "Content-Type:",
        "Content-Type: application/octet-stream",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        let header = if kind.is_empty() { String::new() } else { format!("\r\n{kind}") };
        let head = format!("POST /write?consistency=all&db=default&rp=&precision=s HTTP/1.1{header}");
        expect_raw(&server, &head, line.as_bytes(), 204, "x-icecore-written: 1");
        let head = format!("POST /query?chunked=true&db=&epoch=ns HTTP/1.1{header}");
        expect_raw(&server, &head, b"q=SHOW+DATABASES", 200, r#"["default"]"#);
    }
    let head = "POST /api/v2/write?org=o&bucket=default&precision=s HTTP/1.1\r\nAuthorization: Token x:y";
    expect_raw(&server, head, line.as_bytes(), 204, "");
}

#[test]
fn clients_gzip_in_chunks_is_written() {
    let (server, now) = with_row();
    let packed = gzip(format!("cpu,host=c usage=7u {now}\n").replace("7u", "7").as_bytes());
    let mut request = b"POST /api/v2/write?org=o&bucket=default&precision=s HTTP/1.1\r\nHost: x\r\n\
        Connection: close\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for part in packed.chunks(7) {
        request.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    assert!(server.raw(&request).starts_with("HTTP/1.1 204"));
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 2.0).abs() < 0.1);
}

#[test]
fn clients_parameters_of_url_and_form_are_one_list() {
    let (server, now) = with_row();
    let head = "POST /api/v1/query?stats=all&max_samples_processed_warning_threshold=1&db=default HTTP/1.1\r\n\
        Content-Type: application/x-www-form-urlencoded";
    let body = format!("query=cpu_usage&time={now}");
    expect_raw(&server, head, body.as_bytes(), 200, r#""host":"a""#);
    // vmalert: everything in the URL, an empty body that claims to be JSON, a step nobody asked for.
    let head = format!(
        "POST /api/v1/query?query=cpu_usage&time={now}&step=300s HTTP/1.1\r\nContent-Type: application/json"
    );
    expect_raw(&server, &head, b"", 200, r#""1.5""#);
}

#[test]
fn clients_grafana_prometheus_data_source_gets_its_pages() {
    let (server, now) = with_row();
    let now_text = now.to_string();
    let info = server.get("/api/v1/status/buildinfo", &[]).expect(200).json();
    assert_eq!(info.pointer("/status").and_then(serde_json::Value::as_str), Some("success"));
    assert!(info.pointer("/data/features").is_none(), "{info}");
    for limits in [vec![("limit", "40000"), ("start", "0"), ("end", now_text.as_str())], vec![]] {
        server.form("/api/v1/labels", &limits).expect_text(200, r#"["__name__","host"]"#);
        server.form("/api/v1/label/host/values", &limits).expect_text(200, r#"["a"]"#);
        server.get("/api/v1/label/__name__/values", &limits).expect_text(200, r#"["cpu_usage"]"#);
        server.get("/api/v1/metadata", &limits).expect_text(200, "success");
    }
    server.form("/api/v1/series", &[("match[]", "{host=\"a\"}")]).expect_text(200, "cpu_usage");
    server.get("/api/v1/rules", &[]).expect_text(200, r#""groups":[]"#);
    let milliseconds = format!("{now}000");
    let exemplars = [("query", "test"), ("start", milliseconds.as_str()), ("end", milliseconds.as_str())];
    server.get("/api/v1/query_exemplars", &exemplars).expect_text(200, r#""data":[]"#);
    let reply = server.form("/api/v1/query", &[("query", "1+1"), ("time", "4")]).expect(200);
    let (kind, result) = (reply.body.find("resultType"), reply.body.find("\"result\""));
    assert!(kind.is_some() && kind < result, "{}", reply.body);
}

#[test]
fn clients_of_influxdb_find_what_they_ask_for_first() {
    let (server, now) = with_row();
    server.get("/ping", &[("wait_for_leader", "1s")]).expect(204);
    let health = server.get("/health", &[]).expect(200).json();
    assert_eq!(health.pointer("/status").and_then(serde_json::Value::as_str), Some("pass"));
    assert!(health.pointer("/name").is_some() && health.pointer("/version").is_some(), "{health}");
    server.get("/", &[]).expect(200);
    server.get("/query", &[("q", "SHOW measurements"), ("db", "default")]).expect_text(200, r#"["cpu"]"#);
    let text = "SHOW RETENTION POLICIES on \"default\"";
    server.get("/query", &[("q", text), ("params", "null")]).expect_text(200, "shardGroupDuration");
    let text = "SELECT usage FROM cpu WHERE \"host\"::tag='a'";
    let params = [
        ("q", text),
        ("db", "default"),
        ("rp", ""),
        ("epoch", "ms"),
        ("chunked", "true"),
        ("params", "null"),
    ];
    server.get("/query", &params).expect_text(200, &format!("[{now}000,1.5]"));
}
