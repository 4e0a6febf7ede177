//! The command line: exit codes, messages, import and query from both sides.

use std::fs;

use crate::support::{TestServer, now_s, run, serve_command, stderr, stdout};

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

#[test]
fn cli_wrong_flags_exit_with_2() {
    assert_eq!(run(&["serve", "--nosuch"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output =
        serve_command(dir.path(), "127.0.0.1:0").args(["--retention", "raw=soon"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("soon"), "{}", stderr(&output));
}

#[test]
fn cli_durability_is_kept_from_the_first_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data_dir = dir.path().join("data");
    let output =
        serve_command(&data_dir, "127.0.0.1:0").args(["--durability", "hope"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("fsync, interval, memory"), "{}", stderr(&output));
    for flags in [&["--durability", "interval"][..], &[], &["--durability", "memory"]] {
        let server = TestServer::start_with(&data_dir, flags);
        let mut server = server.allow("--durability is for new databases only");
        server.get("/health", &[]).expect_text(200, r#""default":{"durability":"interval"}"#);
        server.stop();
    }
}

#[test]
fn cli_public_address_needs_a_word() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = serve_command(dir.path(), "0.0.0.0:0").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--insecure-no-auth"), "{}", stderr(&output));
}

#[test]
fn cli_unusable_directories_exit_with_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, b"x").expect("a file can be written");
    // Below a file no directory can be made, whoever asks.
    let output = serve_command(&file.join("data"), "127.0.0.1:0").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = serve_command(dir.path(), "127.0.0.1:0").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("is not an icecore data directory (found file, no ICECORE)"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read_dir(dir.path()).expect("it can be listed").count(), 1);
}

#[test]
fn cli_taken_port_and_taken_directory_exit_with_2() {
    let server = TestServer::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = server.url.strip_prefix("http://").expect("an http address");
    let output = serve_command(&dir.path().join("data"), address).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot listen"), "{}", stderr(&output));
    let output = serve_command(&server.data_dir, "127.0.0.1:0").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("another icecore process"), "{}", stderr(&output));
}

#[test]
fn cli_import_lines_into_directory_and_query() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, data) = (dir.path().join("old.lp"), dir.path().join("data"));
    // Years old: kept, as the import creates the database.
    let mut body: String =
        (0..1_000).map(|row| format!("cpu,host=a usage={row} {}\n", 1_500_000_000 + row)).collect();
    body.push_str("broken\n");
    fs::write(&file, body).expect("a file can be written");
    let target = ["--data-dir", text(&data)];
    let import =
        run(&[&["import", text(&file), "--format", "lp", "--precision", "s"], target.as_slice()].concat());
    assert_eq!(import.status.code(), Some(0), "{}", stderr(&import));
    assert!(stdout(&import).contains("1000 rows written"), "{}", stdout(&import));
    assert!(stdout(&import).contains("keeps everything"), "{}", stdout(&import));
    assert!(stderr(&import).contains("line 1001: "), "{}", stderr(&import));

    let select =
        run(&[&["query", "SELECT count(usage) FROM cpu", "--format", "csv"], target.as_slice()].concat());
    assert_eq!(select.status.code(), Some(0), "{}", stderr(&select));
    assert!(stdout(&select).contains(",1000"), "{}", stdout(&select));
    let promql = ["query", "max_over_time(cpu_usage[30m])", "--time", "1500000999"];
    let promql = run(&[promql.as_slice(), target.as_slice()].concat());
    assert!(stdout(&promql).contains("999"), "{}{}", stdout(&promql), stderr(&promql));
}

#[test]
fn serve_takes_a_background_rate_that_is_a_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let serve = |rate: &str| {
        let mut command = serve_command(&dir.path().join("data"), "127.0.0.1:0");
        command.args(["--background-rate", rate]).output().expect("it runs")
    };
    let output = serve("20X");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--background-rate: `20X` is not a size"), "{}", stderr(&output));
    let mut server = TestServer::start_with(&dir.path().join("data"), &["--background-rate", "20M"]);
    server.post("/write", b"cpu v=1").expect(204);
    server.stop();
}

#[test]
fn serve_takes_limits_that_it_names() {
    let help = stdout(&run(&["serve", "--help"]));
    assert!(help.contains("--limit <NAME=NUMBER>") && help.contains("free_bytes_min"), "{help}");
    let dir = tempfile::tempdir().expect("a directory");
    for (limit, wanted) in [
        ("series=3", "--limit: `series` is not a limit that can be set: one of series_max, "),
        ("series_max=0", "--limit: series_max: `0` is not between 1 and 4294967295"),
        ("series_max=many", "--limit: series_max: `many` is not a whole number"),
        ("free_bytes_min=1X", "--limit: free_bytes_min: `1X` is not a size"),
    ] {
        let mut command = serve_command(&dir.path().join("data"), "127.0.0.1:0");
        let output = command.args(["--limit", limit]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{limit}");
        assert!(stderr(&output).contains(wanted), "{limit}: {}", stderr(&output));
    }
    assert!(!dir.path().join("data").exists(), "nothing is made where flags are wrong");
}

#[test]
fn cli_import_csv_into_server_and_query() {
    let server = TestServer::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("temps.csv");
    fs::write(&file, "timestamp,room,value\n2020-01-01 00:00:00,hall,20.5\n2020-01-01 00:05:00,hall,21\n")
        .expect("a file can be written");
    let import = run(&[
        "import",
        text(&file),
        "--format",
        "csv",
        "--measurement",
        "temps",
        "--tag",
        "room",
        "--tag",
        "house=a",
        "--db",
        "history",
        "--url",
        &server.url,
    ]);
    assert_eq!(import.status.code(), Some(0), "{}", stderr(&import));
    assert!(stdout(&import).contains("2 rows written"), "{}", stdout(&import));
    let text = "SELECT max(value) FROM temps GROUP BY room, house";
    let query = run(&["query", text, "--db", "history", "--url", &server.url]);
    assert_eq!(query.status.code(), Some(0), "{}", stderr(&query));
    assert!(stdout(&query).contains("room=hall") && stdout(&query).contains("21"), "{}", stdout(&query));
    let json = run(&["query", "1+1", "--format", "json", "--url", &server.url]);
    assert!(stdout(&json).contains(r#""resultType":"scalar""#), "{}", stdout(&json));
}

#[test]
fn cli_import_of_nothing_but_rubbish_fails() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rubbish.lp");
    fs::write(&file, "rubbish\n").expect("a file can be written");
    let data = dir.path().join("data");
    let import = run(&["import", text(&file), "--format", "lp", "--data-dir", text(&data)]);
    assert_eq!(import.status.code(), Some(1), "{}", stderr(&import));
    assert!(stderr(&import).contains("nothing was written"), "{}", stderr(&import));
}

#[test]
fn cli_query_errors_exit_with_1() {
    let server = TestServer::start();
    let output = run(&["query", "sum(", "--url", &server.url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("parse error"), "{}", stderr(&output));
    let output = run(&["query", "up", "--data-dir", "/nonexistent-icecore"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn cli_import_into_a_directory_in_use_points_to_the_server() {
    let server = TestServer::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rows.lp");
    fs::write(&file, "cpu usage=1\n").expect("a file can be written");
    for command in [["import", text(&file), "--format", "lp"], ["query", "cpu_usage", "--format", "csv"]] {
        let output = run(&[command.as_slice(), &["--data-dir", text(&server.data_dir)]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("another icecore process"), "{}", stderr(&output));
        assert!(stderr(&output).contains("--url"), "{}", stderr(&output));
    }
}

#[test]
fn cli_query_is_the_same_from_a_server_and_a_directory() {
    let mut server = TestServer::start();
    server.form("/query", &[("q", "CREATE DATABASE shop")]).expect(200);
    let now = now_s();
    server.post("/write?precision=s", format!("cpu,host=a usage=1.5 {now}").as_bytes()).expect(204);
    let now = now.to_string();
    let questions: [&[&str]; 5] = [
        &["SHOW DATABASES"],
        &["SELECT * FROM cpu"],
        &["SELECT mean(usage) FROM cpu GROUP BY host"],
        &["SELECT nosuch FROM cpu"],
        &["cpu_usage", "--time", &now],
    ];
    let ask = |target: [&str; 2]| -> Vec<String> {
        let mut answers = Vec::new();
        for (question, format) in
            questions.iter().flat_map(|text| ["table", "csv", "json"].map(|form| (text, form)))
        {
            let output = run(&[&["query"], *question, &["--format", format], &target].concat());
            assert_eq!(output.status.code(), Some(0), "{question:?}: {}", stderr(&output));
            answers.push(stdout(&output));
        }
        answers
    };
    let served = ask(["--url", &server.url.clone()]);
    server.stop();
    let alone = ask(["--data-dir", text(&server.data_dir)]);
    assert_eq!(served, alone);
    assert!(served.iter().take(3).all(|answer| answer.contains("shop")), "{served:?}");
    let create = run(&["query", "CREATE DATABASE more", "--data-dir", text(&server.data_dir)]);
    assert_eq!(create.status.code(), Some(0), "{}", stderr(&create));
}

#[test]
fn cli_failed_statements_exit_with_1_in_each_format() {
    let server = TestServer::start();
    for format in ["table", "csv", "json"] {
        let query = ["query", "SELECT x FROM y", "--db", "nosuch", "--format", format, "--url", &server.url];
        let output = run(&query);
        assert_eq!(output.status.code(), Some(1), "{format}: {}", stdout(&output));
        assert!(stderr(&output).contains("database not found: nosuch"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{}", stdout(&output));
    }
    let timed = run(&["query", "SELECT x FROM y", "--time", "4", "--url", &server.url]);
    assert_eq!(timed.status.code(), Some(2), "{}", stderr(&timed));
}

#[test]
fn cli_demo_answers_its_own_questions() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = TestServer::start_with(&dir.path().join("data"), &["--demo"]);
    // The past is written oldest first: wait until it has come near the present.
    let deadline = now_s() + 60;
    let recent = "SELECT count(latency_ms) FROM requests WHERE time > now() - 2m";
    while server.select(recent).json().pointer("/results/0/series").is_none() {
        assert!(now_s() < deadline, "the demo wrote nothing in 60 s");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    let time = now_s().to_string();
    let text = "sum by (service) (count_over_time(requests_err[5m]))";
    let json = server.promql(text, &time).expect(200).json();
    let services = json.pointer("/data/result").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    assert!(services >= 10, "{json}");
}
