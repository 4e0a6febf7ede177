//! Backups of a running server and of a directory, and their way back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{TestServer, now_s, run, stderr, stdout};

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn write_rows(server: &TestServer, rows: std::ops::Range<u64>) {
    let now_s = now_s();
    let lines: String = rows.map(|k| format!("m,k=k{k} x={k} {now_s}\n")).collect();
    server.post("/write?precision=s", lines.as_bytes()).expect(204);
}

fn count(server: &TestServer) -> f64 {
    server.select_number("SELECT count(x) FROM m")
}

/// `icecore check` finds nothing in a directory that no server has opened since it was made, be it damage or an orphan.
fn needs_no_finding(dir: &Path) {
    let checked = run(&["check", text(dir)]);
    assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
    let (found, sums): (Vec<_>, Vec<_>) =
        stdout(&checked).lines().map(str::to_owned).partition(|line| !line.ends_with("checked; 0 damaged"));
    assert!(found.iter().all(|line| line.starts_with("database ")), "{found:?}");
    assert!(sums.len() == 1 && !sums[0].starts_with("0 files"), "{sums:?}");
}

#[test]
fn backup_of_a_running_server_restored_elsewhere_has_what_was_written() {
    let mut server = TestServer::start();
    write_rows(&server, 0..50);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (backup, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    let made = run(&["backup", text(&backup), "--url", &server.url]);
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stdout(&made).contains("default: 2 files, all before log sequence 3"), "{}", stdout(&made));
    write_rows(&server, 50..60);
    let left = std::fs::read_dir(server.data_dir.join("snapshots")).expect("it is there").count();
    assert_eq!(left, 0, "the server keeps nothing of it");
    let brought = run(&["restore", text(&backup), "--data-dir", text(&restored)]);
    assert!(brought.status.success(), "{}", stderr(&brought));
    needs_no_finding(&backup);
    needs_no_finding(&restored);
    let other = TestServer::start_in(&restored);
    assert_eq!((count(&other), count(&server)), (50.0, 60.0));

    let again = run(&["restore", text(&backup), "--data-dir", text(&restored)]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("is there already"), "{}", stderr(&again));
    let open = run(&["restore", text(&server.data_dir), "--data-dir", text(&dir.path().join("third"))]);
    assert_eq!(open.status.code(), Some(2), "a directory in use is no snapshot");

    server.stop();
    let second = dir.path().join("second");
    let made = run(&["backup", text(&second), "--data-dir", text(&server.data_dir)]);
    assert!(made.status.success(), "{}", stderr(&made));
    needs_no_finding(&second);
    assert_eq!(count(&TestServer::start_in(&second)), 60.0, "a backup opens as it is");
}

#[test]
fn backup_under_load_is_a_prefix_of_each_writer() {
    const WRITERS: usize = 3;
    let server = TestServer::start();
    let now_s = now_s() - 3000;
    let acked = [const { AtomicU64::new(0) }; WRITERS];
    let is_done = AtomicBool::new(false);
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::thread::scope(|scope| {
        for (writer, acked) in acked.iter().enumerate() {
            let (server, is_done) = (&server, &is_done);
            scope.spawn(move || {
                for number in 0..3000 {
                    if is_done.load(Ordering::Acquire) {
                        return;
                    }
                    let line = format!("m,w=w{writer} x={number} {}", now_s + number);
                    if server.post("/write?precision=s", line.as_bytes()).status != 204 {
                        return;
                    }
                    acked.store(number + 1, Ordering::Release);
                }
            });
        }
        for round in 0..3 {
            while acked.iter().any(|acked| acked.load(Ordering::Acquire) < 10 * (round + 1)) {
                std::thread::yield_now();
            }
            let before = acked.each_ref().map(|acked| acked.load(Ordering::Acquire));
            let (backup, restored) =
                (dir.path().join(format!("b{round}")), dir.path().join(format!("r{round}")));
            let made = run(&["backup", text(&backup), "--url", &server.url]);
            let brought = run(&["restore", text(&backup), "--data-dir", text(&restored)]);
            if round == 2 {
                is_done.store(true, Ordering::Release);
            }
            assert!(
                made.status.success() && brought.status.success(),
                "{}{}",
                stderr(&made),
                stderr(&brought)
            );
            needs_no_finding(&restored);
            let other = TestServer::start_in(&restored);
            for (writer, before) in before.iter().enumerate() {
                let ask = |what: &str| {
                    other.select_number(&format!("SELECT {what}(x) FROM m WHERE w = 'w{writer}'"))
                };
                let count = ask("count");
                assert_eq!(ask("max"), count - 1.0, "no number is left out");
                assert!(*before as f64 <= count, "{before} were acknowledged, {count} are there");
            }
        }
    });
}

#[test]
fn snapshot_over_http_is_named_listed_and_removed() {
    let server = TestServer::start();
    write_rows(&server, 0..5);
    let path = "/api/v1/admin/snapshot";
    let made = server.post("/api/v1/admin/snapshot?name=before-upgrade", b"").expect(200).json();
    assert_eq!(made.pointer("/data/name").and_then(|name| name.as_str()), Some("before-upgrade"));
    assert_eq!(made.pointer("/data/databases/default/copied_files").and_then(|n| n.as_u64()), Some(0));
    assert!(server.data_dir.join("snapshots/before-upgrade/db/1/MANIFEST").exists());
    server.post("/api/v1/admin/snapshot?name=before-upgrade", b"").expect_text(422, "is there already");
    server.post("/api/v1/admin/snapshot?name=../x", b"").expect_text(400, "snapshot name");
    server.delete(path, &[]).expect_text(400, "name");
    server.delete(path, &[("name", "before-upgrade")]).expect(200);
    server.delete(path, &[("name", "before-upgrade")]).expect_text(404, "snapshot not found");
    assert!(!server.data_dir.join("snapshots/before-upgrade").exists());
}
