//! Requests that are wrong on purpose: each gets a clear refusal in the dialect of its endpoint, and the server is
//! well afterwards.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{TestServer, gzip, now_s};

/// The server answers a write and a question.
#[track_caller]
fn expect_well(server: &TestServer) {
    server.post("/write?precision=s", format!("alive ok=1 {}", now_s()).as_bytes()).expect(204);
    assert!(server.select_number("SELECT count(ok) FROM alive") > 0.5);
    server.get("/health", &[]).expect_text(200, r#""status":"pass""#);
}

/// A request line with headers and a body as they are, on a connection of its own.
fn raw(server: &TestServer, head: &str, body: &[u8]) -> String {
    let length = body.len();
    let mut bytes =
        format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    server.raw(&bytes)
}

/// The most memory that the server has held, in MiB.
fn peak_mib(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it has a peak");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.expect("the peak is a number") / 1024
}

#[test]
fn bad_input_bomb_of_512_mib_is_refused_soon_and_in_little_memory() {
    let server = TestServer::start();
    let before = peak_mib(&server);
    let bomb = gzip(&vec![b'\n'; 1 << 20]).repeat(512);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let started = Instant::now();
    server.post_encoded("/write", "gzip", &bomb).expect_text(413, "after decompression");
    server.post_encoded("/api/v2/write", "gzip", &bomb).expect_text(413, r#""code":"request too large""#);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let grown = peak_mib(&server) - before;
    // The body's limit of 64 MiB, and 8 more.
    assert!(grown < 72, "{grown} MiB");
    expect_well(&server);
}

/// A body of 16 KiB cannot unfold further than a thousandfold in one go, so encodings in a chain are refused by name.
#[test]
fn bad_input_small_bombs_and_chained_encodings_cost_nothing() {
    let server = TestServer::start();
    server.post("/write", b"cpu usage=1").expect(204);
    let before = peak_mib(&server);
    let bomb = gzip(&vec![b'\n'; 16 << 20]);
    let chained = gzip(&gzip(&vec![b'\n'; 1 << 20]).repeat(512));
    assert!(bomb.len() < 80 << 10 && chained.len() < 16 << 10, "{} {}", bomb.len(), chained.len());
    let cases = [
        ("gzip", &bomb, 413),
        ("gzip, gzip", &chained, 415),
        ("gzip,zstd", &bomb, 415),
        ("zstd", &bomb, 415),
        ("snappy", &bomb, 415),
        ("deflate", &bomb, 415),
        ("br", &bomb, 415),
    ];
    for (encoding, body, status) in cases {
        let started = Instant::now();
        server.post_encoded("/write", encoding, body).expect(status);
        assert!(started.elapsed() < Duration::from_secs(1), "{encoding}: {:?}", started.elapsed());
    }
    // One layer of the chain is junk of a few hundred KiB.
    server.post_encoded("/write", "gzip", &chained).expect(400);
    let grown = peak_mib(&server) - before;
    assert!(grown < 16, "{grown} MiB");
    expect_well(&server);
}

#[test]
fn bad_input_names_of_databases_stay_names() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let server = TestServer::start_in(&data);
    for name in ["../../etc", "..", "default/../x", "%2e%2e", "a\0b", "C:\\x"] {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        server.post(&format!("/write?db={encoded}"), b"cpu usage=1").expect_text(404, "database not found");
        server.post(&format!("/api/v2/write?bucket={encoded}"), b"cpu usage=1").expect(404);
        let answer = raw(&server, &format!("GET /db/{encoded}/api/v1/query?query=1 HTTP/1.1"), b"");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    for name in ["../../etc", "..", "a/b", "a\\\\b", "_internal"] {
        let text = format!("CREATE DATABASE \"{name}\"");
        server.form("/query", &[("q", &text)]).expect_text(200, r#""error":"#);
    }
    let listed = std::fs::read_dir(dir.path()).expect("it can be listed").count();
    assert_eq!(listed, 1);
    expect_well(&server);
}

#[test]
fn bad_input_line_ends_do_not_become_headers() {
    let server = TestServer::start();
    let reply = server.post("/write?db=x%0d%0aSet-Cookie:%20a=b", b"cpu usage=1").expect(404);
    assert!(reply.header("set-cookie").is_none());
    assert!(reply.header("x-influxdb-error").is_some_and(|text| text.contains("Set-Cookie")));
    let reply = server.post("/write", b"cpu\x0b\r\x1b[31m\r\nx y=\r\n").expect(400);
    assert!(reply.header("x-influxdb-error").is_some());
    expect_well(&server);
}

#[test]
fn bad_input_text_that_is_not_utf8_is_400_in_each_dialect() {
    let server = TestServer::start();
    server.post("/write?db=%ff", b"cpu usage=1").expect_text(400, r#"{"error":"#);
    server.post("/api/v2/write?bucket=%ff", b"cpu usage=1").expect_text(400, r#""code":"invalid""#);
    for (target, wanted) in [("/query?q=%ff", r#"{"error":"#), ("/api/v1/query?query=%ff", "bad_data")] {
        let answer = raw(&server, &format!("GET {target} HTTP/1.1"), b"");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(wanted), "{answer}");
    }
    for path in ["/query", "/api/v1/query", "/api/v1/series"] {
        server.post(path, b"q=\xff\xfe&query=\xff").expect_text(400, "UTF-8");
    }
    expect_well(&server);
}

#[test]
fn bad_input_methods_are_405_with_allow() {
    let server = TestServer::start();
    let cases = [
        ("OPTIONS", "/write", "405"),
        ("HEAD", "/write", "405"),
        ("DELETE", "/query", "405"),
        ("PUT", "/api/v1/query", "405"),
        ("OPTIONS", "/api/v2/write", "405"),
        ("GET", "/api/v1/admin/flush", "405"),
        ("BREW", "/ping", "405"),
    ];
    for (method, path, status) in cases {
        let answer = raw(&server, &format!("{method} {path} HTTP/1.1"), b"");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nallow: "), "{method} {path}: {answer}");
    }
    for path in ["/ping", "/health", "/api/v1/query?query=1", "/metrics"] {
        let answer = raw(&server, &format!("HEAD {path} HTTP/1.1"), b"");
        assert!(answer.starts_with("HTTP/1.1 20") && answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
    expect_well(&server);
}

#[test]
fn bad_input_bodies_of_another_type_are_not_guessed_at() {
    let server = TestServer::start();
    for (path, wanted) in [("/query", "\\\"q\\\""), ("/api/v1/query", "\\\"query\\\"")] {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json");
        let answer = raw(&server, &head, br#"{"q":"SHOW DATABASES","query":"1"}"#);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(wanted), "{answer}");
    }
    // What curl calls a form is line protocol all the same.
    let head = "POST /write HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    assert!(raw(&server, head, b"cpu usage=1").starts_with("HTTP/1.1 204"));
    let head = "POST /api/v1/query HTTP/1.1\r\nContent-Encoding: gzip";
    assert!(raw(&server, head, &gzip(b"query=1")).starts_with("HTTP/1.1 415"));
    expect_well(&server);
}

#[test]
fn bad_input_long_and_deep_queries_are_400() {
    let server = TestServer::start();
    let deep = |count: usize| format!("{}1{}", "(".repeat(count), ")".repeat(count));
    for text in [deep(100_000), deep(8_000), "-".repeat(16_000) + "1", "x[5m".repeat(4_000)] {
        server.form("/api/v1/query", &[("query", &text)]).expect_text(400, "bad_data");
        server.form("/api/v1/series", &[("match[]", &text)]).expect(400);
        server.form("/query", &[("q", &format!("SELECT {text} FROM x"))]).expect(400);
        server.form("/query", &[("q", &format!("SELECT x FROM x WHERE {text} > 1"))]).expect(400);
    }
    let answer = raw(&server, &format!("GET /api/v1/query?query={} HTTP/1.1", "x".repeat(40_000)), b"");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("text_bytes_max"), "{answer}");
    let answer = raw(&server, &format!("GET /api/v1/query?query={} HTTP/1.1", "x".repeat(70_000)), b"");
    assert!(answer.starts_with("HTTP/1.1 414"), "{answer}");
    server.form("/query", &[("q", &"SHOW DATABASES;".repeat(100))]).expect_text(400, "statements");
    server.post("/query", &b"a=b&".repeat(2_000)).expect_text(400, "parameters");
    server.post("/query", &vec![b'x'; 2 << 20]).expect_text(413, "form_bytes_max");
    expect_well(&server);
}

#[test]
fn bad_input_queries_beyond_their_budget_are_422() {
    let server = TestServer::start();
    for text in ["sum_over_time(vector(1)[100d:1s])", "max_over_time((vector(1) > 0)[1000d:1s])"] {
        server.promql(text, "1700000000").expect_text(422, "more than 1000000 are not allowed");
    }
    expect_well(&server);
}

#[test]
fn bad_input_broken_heads_are_refused() {
    let server = TestServer::start();
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
        b"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ncpu\r\n0\r\n\r\n",
        b"GET /query?q=\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        let answer = server.raw(request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let head = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = server.raw(head.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    expect_well(&server);
}

#[test]
fn bad_input_bodies_that_do_not_come_take_nothing_from_others() {
    let server = TestServer::start();
    let address = server.url.strip_prefix("http://").expect("an http address");
    // Together they announce more than all bodies may hold.
    let stuck: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("the server listens");
            let head = "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\ncpu";
            stream.write_all(head.as_bytes()).expect("bytes can be sent");
            stream
        })
        .collect();
    for _ in 0..50 {
        expect_well(&server);
    }
    drop(stuck);
    expect_well(&server);
}
