//! Line protocol in datagrams.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use crate::support::{TestServer, now_s, run, stderr};

fn sender() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a free port")
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    sender().local_addr().expect("a bound socket").port()
}

fn start(dir: &Path, port: u16) -> TestServer {
    let address = format!("127.0.0.1:{port}");
    TestServer::start_with(dir, &["--udp-listen", &address, "--udp-precision", "ms"])
}

#[test]
fn udp_lines_are_stored_and_those_taken_survive_a_stop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let port = free_port();
    let mut server = start(dir.path(), port);
    let sender = sender();
    sender.connect(("127.0.0.1", port)).expect("a local address");
    let send = |bytes: &[u8]| _ = sender.send(bytes).expect("room for a datagram");
    let now_ms = now_s() * 1000;
    send(b"net note=\"open as well 1");
    for number in 0..50 {
        // Two lines, without a line end; every tenth has one that cannot be taken.
        let bad = if number % 10 == 0 { "nonsense\n" } else { "" };
        let line = |host: &str| format!("net,host={host} octets={number}i {}", now_ms - 60_000 + number);
        send(format!("{bad}{}\n{}", line("a"), line("b")).as_bytes());
    }
    send(b"");
    // Its text is not closed, and must not swallow what follows.
    send(b"net note=\"open 1");
    send(&[0xff; 9000]);
    let written = r#"icecore_udp_datagrams_total{outcome="written"} 54"#;
    let is_written = || server.get("/metrics", &[]).body.contains(written);
    assert!((0..200).any(|_| {
        std::thread::park_timeout(Duration::from_millis(50));
        is_written()
    }));
    assert!((server.select_number("SELECT count(octets) FROM net") - 100.0).abs() < 0.1);
    // What waits for its batch is written before the end.
    send(format!("net,host=c octets=1i {now_ms}").as_bytes());
    std::thread::park_timeout(Duration::from_millis(200));
    server.stop();
    let server = start(dir.path(), port);
    assert!((server.select_number("SELECT count(octets) FROM net") - 101.0).abs() < 0.1);
}

#[test]
fn udp_flags_that_cannot_be_met_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path().to_str().expect("a path of text");
    let listen = ["serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--udp-listen"];
    for (flags, part) in [
        (vec!["0.0.0.0:0"], "--udp-listen 0.0.0.0:0: others could read and write"),
        (vec!["127.0.0.1:0", "--udp-precision", "year"], "--udp-precision year: one of"),
        (vec!["127.0.0.1:0", "--udp-database", "nowhere"], "there is no such database"),
    ] {
        let output = run(&[&listen[..], &flags].concat());
        assert!(!output.status.success() && stderr(&output).contains(part), "{}", stderr(&output));
    }
}
