//! Each limit is met on purpose; the server says which one, and goes on.

use crate::support::{TestServer, gzip};

#[test]
fn limit_body_on_the_wire_is_413() {
    let server = TestServer::start();
    let body = "# filler\n".repeat(1_300_000);
    assert!(10 << 20 < body.len());
    server.post("/write", body.as_bytes()).expect_text(413, "body_wire_bytes_max");
    server.post("/write", b"cpu usage=1").expect(204);
    server
        .get("/metrics", &[])
        .expect_text(200, r#"icecore_limit_hits_total{limit="body_wire_bytes_max"} 1"#);
}

#[test]
fn limit_body_that_waits_for_the_word_is_413_before_it_is_sent() {
    let server = TestServer::start();
    // As curl sends what is longer than 1 MiB; the word to go on made it send everything for a 413.
    let head = "POST /write HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 50000000\r\n\r\n";
    let started = std::time::Instant::now();
    let answer = server.raw(head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    let head = "POST /write HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\ncpu x";
    assert!(server.raw(head.as_bytes()).starts_with("HTTP/1.1 100 Continue"));
}

#[test]
fn limit_body_without_length_is_413_too() {
    let server = TestServer::start();
    let mut request = b"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..11 {
        request.extend_from_slice(b"100000\r\n");
        request.extend(std::iter::repeat_n(b'\n', 1 << 20));
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    assert!(server.raw(&request).starts_with("HTTP/1.1 413"));
}

#[test]
fn limit_bomb_is_413() {
    let server = TestServer::start();
    let bomb = gzip(&vec![b'\n'; 80 << 20]);
    server.post_encoded("/write", "gzip", &bomb).expect_text(413, "body_ratio_max");
    server.post("/write", b"cpu usage=1").expect(204);
}

#[test]
fn limit_line_is_refused_alone() {
    let server = TestServer::start();
    let body = format!("cpu text=\"{}\"\ncpu usage=1\n", "x".repeat(70_000));
    server.post("/write", body.as_bytes()).expect_text(400, "written=1 dropped=1");
}

#[test]
fn limit_query_text_is_400() {
    let server = TestServer::start();
    let text = format!("1{}", "+1".repeat(10_000));
    server.form("/api/v1/query", &[("query", &text)]).expect_text(400, "text_bytes_max");
    server.form("/query", &[("q", &text)]).expect_text(400, "text_bytes_max");
    server.get("/metrics", &[]).expect_text(200, r#"icecore_limit_hits_total{limit="text_bytes_max"} 2"#);
}

#[test]
fn limit_depth_of_a_query_is_400() {
    let server = TestServer::start();
    let text = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    server.form("/api/v1/query", &[("query", &text)]).expect(400);
    server.form("/query", &[("q", &format!("SELECT {text} FROM x"))]).expect(400);
}

#[test]
fn limit_time_of_a_query_is_503() {
    let server = TestServer::start();
    let mut body = String::new();
    let end = crate::support::now_s();
    for step in 0..20_000 {
        body.push_str(&format!("requests,service=s{} latency_ms={step} {}\n", step % 50, end - step / 10));
    }
    server.post("/write?precision=s", body.as_bytes()).expect(204);
    let params =
        [("query", "sum(quantile_over_time(0.5, requests_latency_ms[30m]))"), ("timeout", "0.000001")];
    server.get("/api/v1/query", &params).expect_text(503, "\"errorType\":\"timeout\"");
    server.get("/metrics", &[]).expect_text(200, r#"icecore_limit_hits_total{limit="timeout"} 1"#);
}

#[test]
fn limit_slow_head_is_cut_off() {
    let server = TestServer::start();
    // Ten seconds of silence after half a head; other clients are served meanwhile.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| server.raw(b"GET /ping HTTP/1.1\r\nHos"));
        server.get("/ping", &[]).expect(204);
        let answer = slow.join().expect("the slow client ends");
        assert!(!answer.contains("204"), "{answer}");
    });
}

#[test]
fn limit_connections_wait_for_room() {
    let server = TestServer::start();
    let address = server.url.strip_prefix("http://").expect("an http address");
    // Connections that say nothing; each is closed when its time for a head is up.
    let idle: Vec<_> = (0..512).map_while(|_| std::net::TcpStream::connect(address).ok()).collect();
    assert_eq!(idle.len(), 512);
    let answer = server.raw(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    server.get("/metrics", &[]).expect_text(200, r#"icecore_limit_hits_total{limit="connections_max"}"#);
}

#[test]
fn limits_that_flags_set_are_named_and_counted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let limits = ["series_max=3", "samples_max=2", "query_series_max=2", "body_wire_bytes_max=1K"];
    let flags = limits.map(|limit| ["--limit", limit]).concat();
    let server = TestServer::start_with(&dir.path().join("data"), &flags);
    let reply = server.post("/write", b"cpu,host=a v=1\ncpu,host=b v=1\ncpu,host=c v=1\ncpu,host=d v=1");
    reply.expect_text(400, "(limit series_max)").expect_text(400, "written=3 dropped=1");
    server.post("/write", b"cpu,host=c v=2").expect(204);
    server
        .post("/write", &[b'\n'; 1025])
        .expect_text(413, "larger than 1024 bytes (limit body_wire_bytes_max)");
    let samples = r#"sum_over_time(cpu_v{host!="b"}[5m])"#;
    server.get("/api/v1/query", &[("query", samples)]).expect_text(422, "more than 2 samples");
    // However many series are asked for, and in which language; an answer of /query is a 200 with the error in it.
    let wanted = "(limit query_series_max)";
    server.get("/api/v1/query", &[("query", "sum(cpu_v)")]).expect_text(422, wanted);
    server.get("/api/v1/select", &[("q", "SELECT v FROM cpu")]).expect_text(422, wanted);
    server.get("/query", &[("q", "SELECT max(v) FROM cpu")]).expect_text(200, wanted);
    server.get("/api/v1/status/flags", &[]).expect_text(200, r#""query.max-samples":"2""#);
    let metrics = server.get("/metrics", &[]).expect(200);
    let hits = [("series_max", 1), ("body_wire_bytes_max", 1), ("samples_max", 1), ("query_series_max", 3)];
    for (limit, hits) in hits {
        let wanted = format!("icecore_limit_hits_total{{limit=\"{limit}\"}} {hits}\n");
        assert!(metrics.body.contains(&wanted), "no {wanted:?} in {}", metrics.body);
    }
}

#[test]
fn limit_memory_of_many_databases_is_that_of_one() {
    const DATABASES: usize = 16;
    const ROUNDS: usize = 8;
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A quarter is for memtables, and one of 4 MiB is flushed for its size: none of these becomes so large.
    let server = TestServer::start_with(&dir.path().join("data"), &["--memory", "64M"]);
    let databases: Vec<String> = (0..DATABASES).map(|number| format!("d{number}")).collect();
    for name in &databases {
        server.form("/query", &[("q", &format!("CREATE DATABASE {name}"))]).expect(200);
    }
    let fields: Vec<String> = (0..30).map(|field| format!("f{field}={field}.5")).collect();
    let (fields, end_s) = (fields.join(","), crate::support::now_s());
    let mut most = 0;
    for round in 0..ROUNDS as u64 {
        let lines = (0..1_000).map(|row| format!("wide {fields} {}\n", end_s - 1_000 * round - row));
        let body: String = lines.collect();
        for name in &databases {
            server.post(&format!("/write?precision=s&db={name}"), body.as_bytes()).expect(204);
        }
        let page = server.get("/metrics", &[]).expect(200).body;
        let sizes = page.lines().filter(|line| line.starts_with("icecore_memtable_bytes{"));
        let sizes = sizes.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        most = most.max(sizes.sum());
    }
    // From half on they are flushed; a batch in each comes on top.
    assert!((6 << 20..=16 << 20).contains(&most), "{most} bytes of memtables");
    for name in &databases {
        let params = [("db", &**name), ("q", "SELECT count(f0) FROM wide")];
        server.get("/query", &params).expect_text(200, &format!(",{}]", 1_000 * ROUNDS));
    }
}
