//! The end of the server: in order, and not.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{TestServer, now_s};

#[test]
fn shutdown_by_sigterm_keeps_rows_and_exits_0() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut server = TestServer::start_in(&data);
    server.post("/write?precision=s", format!("cpu usage=1 {}", now_s()).as_bytes()).expect(204);
    server.stop();
    let server = TestServer::start_in(&data);
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 1.0).abs() < 0.1);
}

#[test]
fn shutdown_by_sigint_exits_0() {
    let mut server = TestServer::start();
    server.signal("INT");
    assert!(server.wait().success());
}

#[test]
fn shutdown_under_load_is_quick_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut server = TestServer::start_in(&data);
    let acknowledged = AtomicU64::new(0);
    let base = now_s() - 3_000;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let url = format!("{}/write?precision=s", server.url);
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for row in 0..2_000 {
                    let line = format!("cpu,writer={writer} usage={row} {}", base + row);
                    let sent = ureq::post(&url).send(line.as_bytes());
                    if !sent.is_ok_and(|response| response.status().as_u16() == 204) {
                        return;
                    }
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while acknowledged.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        let started = Instant::now();
        server.stop();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    });
    let server = TestServer::start_in(&data);
    // An orderly stop leaves nothing in the log to replay.
    server.get("/metrics", &[]).expect_text(200, "icecore_wal_replayed_records{db=\"default\"} 0\n");
    let kept = server.select_number("SELECT count(usage) FROM cpu");
    assert!(kept >= acknowledged.load(Ordering::SeqCst) as f64, "{kept}");
}

#[test]
fn kill_keeps_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut server = TestServer::start_in(&data);
    server.form("/query", &[("q", "CREATE DATABASE shop")]).expect(200);
    let base = now_s() - 500;
    for row in 0..100 {
        server
            .post("/write?db=shop&precision=s", format!("cpu usage={row} {}", base + row).as_bytes())
            .expect(204);
    }
    server.kill();
    let server = TestServer::start_in(&data);
    let page = server.get("/metrics", &[]).expect(200);
    assert!(!page.body.contains("icecore_wal_replayed_records{db=\"shop\"} 0\n"), "{}", page.body);
    let params = [("db", "shop"), ("q", "SELECT count(usage) FROM cpu")];
    let json = server.get("/query", &params).expect(200).json();
    assert_eq!(json.pointer("/results/0/series/0/values/0/1"), Some(&serde_json::Value::from(100)), "{json}");
}

#[test]
fn second_signal_exits_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut server = TestServer::start_in(&data).allow("second signal: exiting at once");
    server.post("/write?precision=s", format!("cpu usage=1 {}", now_s()).as_bytes()).expect(204);
    // A body that never comes keeps the drain waiting.
    let address = server.url.strip_prefix("http://").expect("an http address");
    let mut stuck = TcpStream::connect(address).expect("the server listens");
    stuck
        .write_all(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ncpu")
        .expect("bytes can be sent");
    server.get("/ping", &[]).expect(204);
    server.signal("TERM");
    // Until the port is closed the first signal has not been seen, and the two would be one.
    while TcpStream::connect(address).is_ok() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(5));
    let server = TestServer::start_in(&data);
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 1.0).abs() < 0.1);
}
