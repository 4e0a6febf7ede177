//! SIGKILL of the real server under load, again and again: every acknowledged row is there once, with its value, and
//! of each batch all rows or none.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{TestServer, now_s, run, stdout};

const ROUNDS: u64 = 20;
const WRITERS: usize = 4;
const ROWS: u64 = 5;

/// What one writer did: the number of its next batch, and which were acknowledged.
#[derive(Default)]
struct Writer {
    next: u64,
    acked: Vec<u64>,
}

fn time_ms(base_ms: u64, batch: u64, row: u64) -> u64 {
    base_ms + batch * ROWS + row
}

impl Writer {
    /// Writes batches until the server is gone. A batch without an answer is never sent again.
    fn run(&mut self, url: &str, writer: usize, base_ms: u64) {
        loop {
            let batch = self.next;
            self.next += 1;
            let mut body = String::new();
            for row in 0..ROWS {
                let (value, time) = (batch * ROWS + row, time_ms(base_ms, batch, row));
                body.push_str(&format!("load,writer=w{writer} batch={batch}i,value={value}i {time}\n"));
            }
            let sent = ureq::post(format!("{url}/write?precision=ms")).send(body.as_bytes());
            match sent {
                Ok(response) if response.status().as_u16() == 204 => self.acked.push(batch),
                _ => return,
            }
        }
    }

    /// Compares with what the server has.
    fn check(&self, server: &TestServer, writer: usize, base_ms: u64) {
        let query = format!("SELECT batch, value FROM load WHERE writer = 'w{writer}'");
        let json = server.get("/query", &[("q", &query), ("epoch", "ms")]).expect(200).json();
        let rows = json.pointer("/results/0/series/0/values").and_then(serde_json::Value::as_array);
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            let number = |place: usize| row.get(place).and_then(serde_json::Value::as_u64).expect("a number");
            let (time, batch, value) = (number(0), number(1), number(2));
            assert_eq!(value / ROWS, batch, "writer {writer}: {row}");
            assert_eq!(time, time_ms(base_ms, batch, value % ROWS), "writer {writer}: {row}");
            *found.entry(batch).or_default() += 1;
        }
        for (batch, rows) in &found {
            assert_eq!(*rows, ROWS, "writer {writer}: batch {batch} is torn or there twice");
            assert!(*batch < self.next, "writer {writer}: batch {batch} was never sent");
        }
        for batch in &self.acked {
            assert!(found.contains_key(batch), "writer {writer}: batch {batch} was acknowledged and is gone");
        }
    }
}

#[test]
fn kill_under_load_again_and_again_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let base_ms = (now_s() - 3_000) * 1000;
    let mut writers: [Writer; WRITERS] = Default::default();
    // Different in each run.
    let mut random = base_ms;
    for _ in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let alive = Duration::from_millis(20 + (random >> 33) % 380);
        let mut server = TestServer::start_in(&data);
        std::thread::scope(|scope| {
            for (number, writer) in writers.iter_mut().enumerate() {
                let url = server.url.clone();
                scope.spawn(move || writer.run(&url, number, base_ms));
            }
            std::thread::park_timeout(alive);
            server.kill();
        });
        let checked = run(&["check", data.to_str().expect("temporary paths are UTF-8")]);
        assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    }
    let server = TestServer::start_in(&data);
    // Once from the log and the segments as they are, once with everything in segments and cells.
    for _ in 0..2 {
        for (number, writer) in writers.iter().enumerate() {
            writer.check(&server, number, base_ms);
        }
        server.post("/api/v1/admin/flush?compact=true", b"").expect(200);
    }
    let acked: usize = writers.iter().map(|writer| writer.acked.len()).sum();
    assert!(100 < acked, "the load was no load: {acked} batches");
}

#[test]
fn directory_removed_while_it_is_used_takes_no_more_writes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let server = TestServer::start_in(&data).allow("was removed while it was written");
    server.post("/write", b"cpu usage=1").expect(204);
    std::fs::remove_dir_all(&data).expect("nobody else removes it");
    // The system takes bytes for files without a name: they were acknowledged, and gone with the process.
    assert_ne!(server.post("/write", b"cpu usage=2").status, 204);
    server.post("/write", b"cpu usage=3").expect_text(503, "was removed while it was written");
    assert!((server.select_number("SELECT count(usage) FROM cpu") - 1.0).abs() < 1.1, "reads go on");
}
