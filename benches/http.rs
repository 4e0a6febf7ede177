//! Ingest over HTTP into the real server on loopback: rows and values per second, processor seconds of the server for a
//! million values, and how long a durable acknowledgement takes. Bodies of 5,000 lines, one or two connections.
//!
//! Run with `cargo bench --bench http [-- ROWS]`. The client runs on the same machine and takes its share of it.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "common/batches.rs"]
mod batches;
mod common;

use batches::{BATCH_LINES, batches};

/// Clock ticks of a second in `/proc/PID/stat`: fixed for programs, whatever the kernel uses itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server with a database of its own; killed when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(data_dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_icecore"))
            .args(["serve", "--listen", "127.0.0.1:0", "--retention", "forever", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let url = loop {
            let line = lines.next().expect("the server says where it listens").expect("text");
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Self { child, url }
    }

    /// Processor time so far, in seconds, in the kernel too.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("Linux");
        let (_, after_name) = stat.rsplit_once(')').expect("the name is in brackets");
        // After the name: state is the first word, user and system time are the 12th and 13th.
        let ticks = after_name.split_whitespace().skip(11).take(2);
        ticks.map(|word| word.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_PER_SECOND
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server ends");
    }
}

fn main() {
    let rows = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(500_000);
    for (name, lines, fields) in
        [("tsbs", common::tsbs_lines(1_000, rows), 10), ("events", common::event_lines(rows), 5)]
    {
        println!("\n{name}: {rows} rows of {fields} values, bodies of {BATCH_LINES} lines");
        for connections in [1, 2] {
            run(&lines, rows, fields, connections);
        }
    }
}

fn run(lines: &str, rows: usize, fields: usize, connections: usize) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&scratch.path().join("data"));
    let url = format!("{}/write?precision=ns", server.url);
    let bodies = batches(lines);
    let next = AtomicUsize::new(0);
    let before_s = server.cpu_s();
    let start = Instant::now();
    let mut acks: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..connections).map(|_| scope.spawn(|| send_all(&url, &bodies, &next))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let took_s = start.elapsed().as_secs_f64();
    let written_s = server.cpu_s() - before_s;
    let flush = format!("{}/api/v1/admin/flush?compact=true", server.url);
    ureq::post(&flush).send_empty().expect("everything is flushed");
    let sealed_s = server.cpu_s() - before_s;
    acks.sort_unstable();
    let ack = |percent: usize| acks[(acks.len() - 1) * percent / 100];
    let values = (rows * fields) as f64 / 1e6;
    println!(
        "  {connections} connections: {:.3} M rows/s, {:.2} M values/s; CPU of the server {:.3} s per M values until the \
         last ack, {:.3} s with compaction and rollup; durable ack p50 {:?}, p99 {:?}",
        rows as f64 / 1e6 / took_s,
        values / took_s,
        written_s / values,
        sealed_s / values,
        ack(50),
        ack(99),
    );
}

/// Sends bodies over one connection until there are none left; how long each took to be acknowledged.
fn send_all(url: &str, bodies: &[&str], next: &AtomicUsize) -> Vec<Duration> {
    let agent = ureq::Agent::new_with_defaults();
    let mut acks = Vec::new();
    while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
        let start = Instant::now();
        let reply = agent.post(url).send(*body).expect("the server takes it");
        assert_eq!(reply.status(), 204);
        acks.push(start.elapsed());
    }
    acks
}
