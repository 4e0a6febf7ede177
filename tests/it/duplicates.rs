//! Measurements that keep every event: what a client sees over HTTP, before and after a SIGKILL.

use crate::support::{TestServer, now_s};

const CREATE: &[(&str, &str)] =
    &[("q", "CREATE DATABASE shop"), ("keep_duplicates", "orders"), ("keep_duplicates", "log in")];

fn write(server: &TestServer, precision: &str, lines: &str) {
    server.post(&format!("/write?db=shop&precision={precision}"), lines.as_bytes()).expect(204);
}

/// Rows of a measurement of `shop`, as time in nanoseconds and value.
fn rows(server: &TestServer, measurement: &str) -> Vec<(u64, u64)> {
    let text = format!("SELECT x FROM \"{measurement}\"");
    let json = server.get("/query", &[("db", "shop"), ("q", &text), ("epoch", "ns")]).expect(200).json();
    let rows = json.pointer("/results/0/series/0/values").and_then(serde_json::Value::as_array);
    let number = |row: &serde_json::Value, place: usize| row.get(place).and_then(serde_json::Value::as_u64);
    let pair = |row| Some((number(row, 0)?, number(row, 1)?));
    rows.into_iter().flatten().map(|row| pair(row).expect("a time and a value")).collect()
}

#[test]
fn events_at_one_time_are_kept_and_retries_collapse_also_after_a_kill() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut server = TestServer::start_in(&data);
    server.get("/query", CREATE).expect(200);
    let (ms, ns) = ((now_s() - 60) * 1_000 + 5, (now_s() - 60) * 1_000_000_000 + 7);
    let batches = [
        (
            "ms",
            format!(
                "orders,shop=a x=1i {ms}\norders,shop=a x=2i {ms}\norders,shop=b x=1i {ms}\nplain x=1i {ms}"
            ),
        ),
        ("ms", format!("orders,shop=a x=3i {ms}\nplain x=2i {ms}")),
        ("ns", format!("log\\ in x=1i {ns}\nlog\\ in x=2i {ns}")),
        ("ns", format!("log\\ in x=3i {ns}\nlog\\ in x=3i,y=1 {ns}")),
    ];
    let all =
        |server: &TestServer| batches.iter().for_each(|(precision, lines)| write(server, precision, lines));
    all(&server);
    let (orders, logins) = (rows(&server, "orders"), rows(&server, "log in"));
    assert_eq!((orders.len(), logins.len()), (4, 4), "{orders:?} {logins:?}");
    assert!(orders.iter().all(|(time, _)| time / 1_000_000 == ms), "{orders:?}");
    assert!(logins.contains(&(ns, 1)), "{logins:?}");
    assert_eq!(rows(&server, "plain"), [(ms * 1_000_000, 2)], "not named: the last wins");
    all(&server);
    server.kill();
    let server = TestServer::start_in(&data);
    all(&server);
    server.post("/api/v1/admin/flush?db=shop&compact=true", b"").expect(200);
    all(&server);
    assert_eq!((rows(&server, "orders"), rows(&server, "log in")), (orders, logins));
}

#[test]
fn measurements_are_shown_checked_and_kept_by_a_backup() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = TestServer::start_with(&dir.path().join("data"), &["--keep-duplicates", "events"]);
    server.get("/query", CREATE).expect(200);
    let expected = r#"{"default":{"durability":"fsync","keep_duplicates":["events"]},"shop":{"durability":"fsync","keep_duplicates":["log in","orders"]}}"#;
    server.get("/health", &[]).expect_text(200, expected);
    let bad = [("q", "CREATE DATABASE other"), ("keep_duplicates", "a\tb")];
    server.get("/query", &bad).expect_text(200, "cannot keep every event");
    let many: Vec<(&str, &str)> =
        std::iter::once(("q", "CREATE DATABASE other")).chain([("keep_duplicates", "m"); 33]).collect();
    server.get("/query", &many).expect_text(200, "at most 32 measurements");
    let snapshot = server.post("/api/v1/admin/snapshot?name=copy", b"").expect(200).json();
    let path = snapshot.get("path").or(snapshot.pointer("/data/path")).and_then(serde_json::Value::as_str);
    let copy = TestServer::start_in(std::path::Path::new(path.expect("a path")));
    copy.get("/health", &[]).expect_text(200, expected);
}
