//! Deletes over HTTP: what was deleted is gone from every language at once, stays gone, and its files shrink.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{TestServer, now_s};

const DELETE: &str = "/api/v1/admin/delete";

/// Two hosts with a row each minute of the last hour, and another measurement.
fn write(server: &TestServer) -> i64 {
    let start_s = i64::try_from(now_s()).expect("a time of this century") - 3600;
    let mut body = String::from("mem,host=a used=1i\n");
    for minute in 0..60 {
        for host in ["a", "b"] {
            let ts_s = start_s + minute * 60;
            body.push_str(&format!("cpu,host={host} usage={minute},idle=1 {ts_s}000000000\n"));
        }
    }
    server.post("/write", body.as_bytes()).expect(204);
    start_s
}

fn count(server: &TestServer, of: &str) -> f64 {
    let reply = server.select(&format!("SELECT count(usage) FROM {of}")).expect(200).json();
    reply.pointer("/results/0/series/0/values/0/1").and_then(serde_json::Value::as_f64).unwrap_or(0.0)
}

fn post(server: &TestServer, statement: &str) -> serde_json::Value {
    server.form("/query", &[("q", statement)]).expect(200).json()["results"][0].clone()
}

#[test]
fn delete_by_selector_hides_at_once_and_purges() {
    let mut server = TestServer::start();
    let start_s = write(&server);
    server.post("/api/v1/admin/flush?compact=true", b"").expect(200);
    let end = (start_s + 19 * 60).to_string();
    let params = [("match[]", "{__name__=\"cpu\",host=\"a\"}"), ("start", "0"), ("end", &*end)];
    let report = server.form(DELETE, &params).expect(200).json();
    assert_eq!((&report["status"], &report["data"]["series"]), (&json!("success"), &json!(1)), "{report}");
    assert_eq!(
        (count(&server, "cpu WHERE host='a'"), count(&server, "cpu")),
        (40.0, 100.0),
        "the end is included"
    );
    let now = (start_s + 3600).to_string();
    let total = "sum(count_over_time(cpu_usage[2h]))";
    server.promql(total, &now).expect_text(200, "\"100\"");
    let until = Instant::now() + Duration::from_secs(10);
    while !server.get("/metrics", &[]).body.contains("icecore_tombstones{db=\"default\"} 0") {
        assert!(Instant::now() < until, "the purge comes by itself");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let metrics = server.get("/metrics", &[]).body;
    assert!(metrics.contains("icecore_tombstone_age_seconds{db=\"default\"} 0"), "{metrics}");
    server.promql(total, &now).expect_text(200, "\"100\"");
    let data_dir = server.data_dir.clone();
    server.kill();
    let again = TestServer::start_in(&data_dir);
    assert_eq!(count(&again, "cpu"), 100.0);
}

#[test]
fn delete_requests_that_cannot_be_are_refused_by_name() {
    let server = TestServer::start();
    write(&server);
    for (params, part) in [
        (vec![], "no match[]"),
        (vec![("match[]", "cpu_usage")], "a single field cannot be deleted"),
        (vec![("match[]", "{}")], "at least one non-empty matcher"),
        (vec![("match[]", "cpu[5m]")], "parse error"),
        (vec![("match[]", "cpu"), ("start", "5"), ("end", "4")], "end timestamp"),
    ] {
        server.form(DELETE, &params).expect_text(400, part);
    }
    server.get(DELETE, &[("match[]", "cpu")]).expect(405);
    let head = "HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for path in ["/query?q=DROP+MEASUREMENT+cpu", "/api/v1/admin/delete?match[]=cpu"] {
        let answer = server.raw(format!("POST {path} {head}").as_bytes());
        assert!(answer.contains("a page in a browser may not delete"), "{answer}");
    }
    server.form(DELETE, &[("match[]", "cpu"), ("db", "nope")]).expect(404);
    server.form(DELETE, &[("match[]", "nothing")]).expect_text(200, "\"segments\":0");
    for statement in ["DROP MEASUREMENT cpu", "DELETE FROM cpu", "DROP DATABASE x"] {
        server.select(statement).expect_text(200, "need a POST request");
    }
    assert_eq!(count(&server, "cpu"), 120.0);
}

#[test]
fn statements_delete_as_influxdb_does() {
    let server = TestServer::start();
    let start_s = write(&server);
    let before = format!("DELETE FROM cpu WHERE host = 'b' AND time < {}s", start_s + 600);
    assert_eq!(post(&server, &before), json!({"statement_id": 0}));
    assert_eq!((count(&server, "cpu WHERE host='a'"), count(&server, "cpu WHERE host='b'")), (60.0, 50.0));
    assert_eq!(post(&server, "DROP SERIES FROM cpu WHERE host = 'a'"), json!({"statement_id": 0}));
    assert_eq!(count(&server, "cpu"), 50.0);
    assert_eq!(post(&server, "DROP MEASUREMENT cpu"), json!({"statement_id": 0}));
    assert_eq!(post(&server, "DROP MEASUREMENT cpu"), json!({"statement_id": 0}), "again");
    let names = server.select("SHOW MEASUREMENTS").expect(200).json();
    assert_eq!(names["results"][0]["series"][0]["values"], json!([["mem"]]), "{names}");
    server.get("/api/v1/label/host/values", &[]).expect_text(200, "[\"a\"]");
    server.get("/api/v1/label/__name__/values", &[]).expect_text(200, "[\"mem_used\"]");
    let error = post(&server, "DELETE FROM mem WHERE used > 0");
    assert!(error["error"].as_str().unwrap().contains("not fields"), "{error}");
    write(&server);
    assert_eq!(count(&server, "cpu"), 120.0, "written again");
}

#[test]
fn drop_database_is_gone_for_good_and_its_name_free() {
    let mut server = TestServer::start();
    post(&server, "CREATE DATABASE shop");
    server.post("/write?db=shop", b"cpu usage=1\n").expect(204);
    server.post("/api/v1/admin/flush?db=shop", b"").expect(200);
    server.get("/metrics", &[]).expect_text(200, "icecore_series{db=\"shop\"}");
    assert_eq!(post(&server, "DROP DATABASE shop"), json!({"statement_id": 0}));
    assert_eq!(post(&server, "DROP DATABASE shop"), json!({"statement_id": 0}), "again");
    assert!(!server.data_dir.join("db/2").exists());
    server.post("/write?db=shop", b"cpu usage=1\n").expect(404);
    assert!(!server.get("/metrics", &[]).body.contains("db=\"shop\""));
    let error = post(&server, "DROP DATABASE \"default\"");
    assert!(error["error"].as_str().unwrap().contains("cannot be dropped"), "{error}");
    // What a kill in the middle leaves is removed at the next start; what is not ours stays.
    let data_dir = server.data_dir.clone();
    server.kill();
    for name in ["2", "77", "notes"] {
        std::fs::create_dir_all(data_dir.join("db").join(name).join("segments")).unwrap();
    }
    let server = TestServer::start_in(&data_dir);
    let exists = |name: &str| data_dir.join("db").join(name).exists();
    assert_eq!((exists("2"), exists("77"), exists("notes")), (false, true, true));
    assert_eq!(post(&server, "CREATE DATABASE shop"), json!({"statement_id": 0}));
    assert_eq!(
        server.get("/query", &[("q", "SHOW MEASUREMENTS"), ("db", "shop")]).json()["results"][0],
        json!({"statement_id": 0})
    );
    assert!(exists("3"));
}
