//! `icecore check` and `inspect`: what an operator sees of a whole, a damaged and a repaired directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{TestServer, now_s, run, serve_command, stderr, stdout};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// A data directory with rows and cells, its server stopped.
fn stopped() -> TestServer {
    let mut server = TestServer::start();
    let now = now_s();
    let body: String = (0..100)
        .map(|row| format!("cpu,host=a usage={row},state=\"s{}\" {}\n", row % 3, now - 7200 + row))
        .collect();
    server.post("/write?precision=s", body.as_bytes()).expect(204);
    server.stop();
    server
}

fn raw_segment(data_dir: &Path) -> PathBuf {
    let segments = data_dir.join("db/1/segments");
    let mut names: Vec<PathBuf> = fs::read_dir(segments)
        .expect("it can be listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    names.remove(0)
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("a segment can be read");
    *bytes.get_mut(9).expect("a segment has more bytes") ^= 1;
    fs::write(path, bytes).expect("a file can be written");
}

#[test]
fn check_whole_directory_is_clean() {
    let server = stopped();
    let before = raw_segment(&server.data_dir);
    for dir in [server.data_dir.clone(), server.data_dir.join("db/1")] {
        let output = run(&["check", text(&dir)]);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        assert!(stdout(&output).ends_with("checked; 0 damaged\n"), "{}", stdout(&output));
    }
    assert!(before.exists());
}

#[test]
fn check_running_server_is_refused() {
    let server = TestServer::start();
    for dir in [server.data_dir.clone(), server.data_dir.join("db/1")] {
        for command in ["check", "inspect"] {
            let output = run(&[command, text(&dir)]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", stdout(&output));
            assert!(stderr(&output).contains("another icecore process"), "{}", stderr(&output));
        }
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(run(&["check", text(dir.path())]).status.code(), Some(2));
}

#[test]
fn check_damage_is_named_and_taken_out_on_demand() {
    let server = stopped();
    let segment = raw_segment(&server.data_dir);
    damage(&segment);
    let output = run(&["check", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let line = format!("damage: {}: ", text(&segment));
    assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    assert!(stdout(&output).contains("raw rows of cpu"), "{}", stdout(&output));
    assert!(segment.exists(), "a check changes nothing");

    let output = run(&["check", "--quarantine", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("lost: "), "{}", stdout(&output));
    let kept = server.data_dir.join("db/1/quarantine").join(segment.file_name().expect("a name"));
    assert!(kept.exists() && !segment.exists());
    let again = TestServer::start_in(&server.data_dir);
    again.get("/health", &[]).expect(200);
    assert!(kept.exists());
}

/// What the server answers to a few questions.
fn answers(server: &TestServer) -> Vec<String> {
    let texts = ["SELECT usage, state FROM cpu", "SHOW SERIES", "SHOW FIELD KEYS FROM cpu"];
    texts.map(|text| server.select(text).expect(200).body).into()
}

fn remove_catalog(data_dir: &Path) {
    let files: Vec<PathBuf> = fs::read_dir(data_dir.join("db/1/series"))
        .expect("it can be listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(!files.is_empty());
    files.iter().for_each(|path| fs::remove_file(path).expect("a file can be removed"));
}

#[test]
fn check_lost_catalog_beside_a_damaged_segment_is_refused_until_that_is_taken_out() {
    let server = stopped();
    remove_catalog(&server.data_dir);
    let segment = raw_segment(&server.data_dir);
    let mut bytes = fs::read(&segment).expect("a segment can be read");
    bytes.truncate(bytes.len() - 20);
    fs::write(&segment, bytes).expect("a file can be written");
    let output = run(&["check", "--rebuild-catalog", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(1), "{}{}", stdout(&output), stderr(&output));
    let found = stdout(&output);
    assert!(found.contains("refused: ") && found.contains("icecore check --quarantine"), "{found}");
    let output = run(&["check", "--quarantine", "--rebuild-catalog", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("rebuilt: the catalog of "), "{}", stdout(&output));
    TestServer::start_in(&server.data_dir).get("/health", &[]).expect(200);
}

#[test]
fn check_lost_catalog_is_made_anew_on_demand() {
    let server = stopped();
    let mut again = TestServer::start_in(&server.data_dir);
    again.post("/write?db=default", b"disk,host=b,path=/ used=1i\n").expect(204);
    let expected = answers(&again);
    assert!(expected.iter().all(|answer| answer.contains("cpu")), "{expected:?}");
    again.kill();
    remove_catalog(&server.data_dir);

    let refused = serve_command(&server.data_dir, "127.0.0.1:0").output().expect("the binary runs");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("icecore check --rebuild-catalog"), "{}", stderr(&refused));
    let output = run(&["check", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(1), "a check changes nothing: {}", stdout(&output));

    let output = run(&["check", "--rebuild-catalog", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let line = "rebuilt: the catalog of ";
    assert!(stdout(&output).contains(line) && stdout(&output).contains("2 series"), "{}", stdout(&output));
    let output = run(&["check", "--rebuild-catalog", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("kept: the catalog of "), "{}", stdout(&output));
    let again = TestServer::start_in(&server.data_dir);
    assert_eq!(answers(&again), expected);
}

#[test]
fn check_damaged_list_of_databases_still_checks_them() {
    let server = stopped();
    fs::write(server.data_dir.join("databases"), b"rubbish").expect("a file can be written");
    fs::create_dir(server.data_dir.join("db/77")).expect("a directory can be made");
    let output = run(&["check", text(&server.data_dir)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("list of databases is damaged"), "{}", stdout(&output));
    assert!(stdout(&output).contains("1 damaged"), "{}", stdout(&output));
}

#[test]
fn read_of_a_damaged_page_names_file_and_time() {
    let server = stopped();
    damage(&raw_segment(&server.data_dir));
    let again = TestServer::start_in(&server.data_dir).allow("seg-");
    let reply = again.select("SELECT usage FROM cpu");
    assert!(reply.body.contains("seg-") && reply.body.contains("measurement cpu"), "{}", reply.body);
    assert!(reply.body.contains("icecore check"), "{}", reply.body);
    let metrics = again.get("/metrics", &[]).expect(200).body;
    // The background work may have met it too.
    let count =
        metrics.lines().find_map(|line| line.strip_prefix("icecore_corrupt_reads_total{db=\"default\"} "));
    assert!(count.is_some_and(|count| count != "0"), "{metrics}");
}

#[test]
fn inspect_shows_columns_of_segments_and_directories() {
    let server = stopped();
    let segment = raw_segment(&server.data_dir);
    for path in [server.data_dir.clone(), server.data_dir.join("db/1"), segment] {
        let output = run(&["inspect", text(&path)]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let found = stdout(&output);
        for word in ["cpu", "usage", "(series, time)", "(footer)", "bytes/value", "codes "] {
            assert!(found.contains(word), "no {word} in {found}");
        }
    }
}
