//! Writing: what is taken, what is refused, and how the refusal reads.

use crate::support::{TestServer, gzip, now_s};

#[test]
fn write_is_visible_when_it_is_acknowledged() {
    let server = TestServer::start();
    let now = now_s();
    for (count, precision) in (1_u64..).zip(["s", "ms", "u", "us", "ns", "n"]) {
        let unit = match precision {
            "s" => 1,
            "ms" => 1_000,
            "u" | "us" => 1_000_000,
            _ => 1_000_000_000,
        };
        let line = format!("cpu,host=a usage={count} {}", (now - 100 + count) * unit);
        server.post(&format!("/write?precision={precision}"), line.as_bytes()).expect(204);
        let counted = server.select_number("SELECT count(usage) FROM cpu");
        assert!((counted - count as f64).abs() < 0.1, "{counted}");
    }
}

#[test]
fn write_v2_goes_to_the_same_database() {
    let server = TestServer::start();
    let line = format!("cpu,host=a usage=1 {}", now_s());
    server.post("/api/v2/write?org=x&bucket=default&precision=s", line.as_bytes()).expect(204);
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 1.0).abs() < 0.1);
}

#[test]
fn write_gzip_is_unpacked() {
    let server = TestServer::start();
    let line = format!("cpu,host=a usage=1 {}\n", now_s());
    server.post_encoded("/write?precision=s", "gzip", &gzip(line.as_bytes())).expect(204);
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 1.0).abs() < 0.1);
}

#[test]
fn write_empty_and_comments_are_nothing() {
    let server = TestServer::start();
    server.post("/write", b"").expect(204);
    server.post("/write", b"\n# nothing\n\n").expect(204);
}

#[test]
fn write_bad_lines_are_named_and_good_ones_kept() {
    let server = TestServer::start();
    let now = now_s();
    let body = format!(
        "cpu,host=a usage=1 {now}\ncpu,host=a\ncpu,host=a usage=oops {now}\ncpu,host=b usage=2 {now}\n"
    );
    let reply = server.post("/write?precision=s", body.as_bytes()).expect_text(400, "partial write: ");
    for text in ["line 2: ", "line 3: ", "written=2", "dropped=2"] {
        assert!(reply.body.contains(text), "{}", reply.body);
    }
    assert!(reply.header("x-influxdb-error").is_some_and(|text| text.contains("line 2")));
    let reply = server.post("/api/v2/write?bucket=default&precision=s", body.as_bytes()).expect(400).json();
    assert_eq!(reply.get("code").and_then(serde_json::Value::as_str), Some("invalid"));
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 2.0).abs() < 0.1);
}

#[test]
fn write_only_the_first_ten_bad_lines_are_named() {
    let server = TestServer::start();
    let reply = server.post("/write", "nonsense\n".repeat(1_000).as_bytes()).expect_text(400, "dropped=1000");
    assert!(reply.body.contains("line 10: ") && !reply.body.contains("line 11: "), "{}", reply.body);
    assert!(reply.body.len() < 8_192);
}

#[test]
fn write_other_type_of_a_field_is_refused() {
    let server = TestServer::start();
    let now = now_s();
    server.post("/write?precision=s", format!("cpu usage=1 {now}").as_bytes()).expect(204);
    let text = format!("cpu usage=\"much\" {now}");
    let reply = server.post("/write?precision=s", text.as_bytes()).expect_text(400, "line 1: ");
    assert!(reply.body.contains("float") && reply.body.contains("string"), "{}", reply.body);
}

#[test]
fn write_nan_and_absurd_times_are_refused() {
    let server = TestServer::start();
    let now = now_s();
    let tomorrow = format!("cpu usage=1 {}", now + 86_400);
    let overflow = "cpu usage=1 99999999999999999999";
    let scaled_overflow = "cpu usage=1 9223372036854775807";
    for line in [
        &format!("cpu usage=NaN {now}"),
        &format!("cpu usage=inf {now}"),
        &tomorrow,
        overflow,
        scaled_overflow,
    ] {
        server.post("/write?precision=s", line.as_bytes()).expect_text(400, "line 1: ");
    }
}

#[test]
fn write_text_that_is_not_utf8_is_refused() {
    let server = TestServer::start();
    server.post("/write", b"cpu,host=\xff usage=1\ncpu usage=1\n").expect_text(400, "dropped=1");
}

#[test]
fn write_unknown_precision_is_refused() {
    let server = TestServer::start();
    server.post("/write?precision=fortnight", b"cpu usage=1").expect_text(400, "invalid precision");
    server
        .post("/api/v2/write?bucket=default&precision=xx", b"cpu usage=1")
        .expect_text(400, "\"code\":\"invalid\"");
}

#[test]
fn write_unknown_database_is_not_found() {
    let server = TestServer::start();
    let reply = server.post("/write?db=nosuch", b"cpu usage=1").expect(404);
    assert_eq!(reply.body.trim(), r#"{"error":"database not found: \"nosuch\""}"#);
    server.post("/api/v2/write?bucket=nosuch", b"cpu usage=1").expect_text(404, "\"code\":\"not found\"");
}

#[test]
fn write_gzip_cut_short_is_refused() {
    let server = TestServer::start();
    let mut packed = gzip(b"cpu usage=1\n");
    packed.truncate(packed.len() - 5);
    server.post_encoded("/write", "gzip", &packed).expect_text(400, "gzip");
    server.post_encoded("/write", "br", b"xx").expect_text(415, "br");
}

#[test]
fn write_by_get_is_not_allowed() {
    let server = TestServer::start();
    let reply = server.get("/write", &[]).expect_text(405, "error");
    assert!(reply.header("allow").is_some_and(|allow| allow.contains("POST")));
}

#[test]
fn write_databases_are_apart() {
    let server = TestServer::start();
    server.form("/query", &[("q", "CREATE DATABASE shop")]).expect(200);
    server.post("/write?db=shop&precision=s", format!("cpu usage=1 {}", now_s()).as_bytes()).expect(204);
    server.get("/query", &[("db", "shop"), ("q", "SHOW MEASUREMENTS")]).expect_text(200, "cpu");
    let empty = server.get("/query", &[("q", "SHOW MEASUREMENTS")]).expect(200);
    assert!(!empty.body.contains("cpu"), "{}", empty.body);
    server.get("/db/shop/api/v1/label/__name__/values", &[]).expect_text(200, "cpu_usage");
}
