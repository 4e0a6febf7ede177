//! Backups of a running server and of a directory, and their way back.

use std::path::Path;

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
    assert_eq!(count(&TestServer::start_in(&second)), 60.0, "a backup opens as it is");
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
