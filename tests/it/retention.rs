//! Retention from outside: changed and shown by a server, looked at and carried out by the command line.

use std::fs;

use serde_json::json;

use super::support::{TestServer, now_s, run, stderr, stdout};

const PATH: &str = "/api/v1/admin/retention";

#[test]
fn retention_dry_run_says_what_goes_and_a_run_does_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, data) = (dir.path().join("old.lp"), dir.path().join("data"));
    let start_s = now_s() - 20 * 86_400;
    let body: String = (0..1_000).map(|row| format!("cpu,host=a usage={row} {}\n", start_s + row)).collect();
    fs::write(&file, body).expect("a file can be written");
    let (file, data_text) = (file.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));
    let target = ["--data-dir", data_text];
    let import = run(&[&["import", file, "--format", "lp", "--precision", "s"], target.as_slice()].concat());
    assert_eq!(import.status.code(), Some(0), "{}", stderr(&import));
    let retention = |flags: &[&str]| run(&[&["retention"], flags, target.as_slice()].concat());
    let kept = retention(&["--dry-run"]);
    assert!(stdout(&kept).contains("retention forever") && stdout(&kept).contains("for ever"), "{kept:?}");

    // The newest sample is twenty days old: the guard takes the clock for wrong.
    let mut server = TestServer::start_in(&data);
    let change = [("db", "default"), ("retention", "raw=2d,1h=forever")];
    server.put(PATH, &change).expect_text(200, "raw=2d,1m=7d,5m=7d,1h=forever");
    let plan = server.post(&format!("{PATH}?dry_run=true"), b"").expect(200).json();
    let raw = plan.pointer("/data/default/tiers/0").expect("the raw tier");
    assert_eq!((&raw["goes"]["files"], &raw["kept"]["files"]), (&json!(0), &json!(0)), "{raw}");
    assert_eq!((&raw["tier"], &raw["held"]["rows"]), (&json!("raw"), &json!(1000)), "{raw}");
    assert!(raw["held"]["reason"].as_str().is_some_and(|reason| reason.contains("clock")), "{raw}");
    let asked = run(&["retention", "--dry-run", "--url", &server.url]);
    assert!(stdout(&asked).contains("held"), "{asked:?}");
    let busy = retention(&["--dry-run"]);
    assert_eq!(busy.status.code(), Some(2), "a server has it open: {busy:?}");
    server.stop();

    let careful = retention(&[]);
    assert!(stdout(&careful).contains("raw 0") && stdout(&careful).contains("newest sample"), "{careful:?}");
    let planned = retention(&["--dry-run", "--force"]);
    let line = |word: &str| {
        let text = stdout(&planned);
        text.lines().find(|line| line.starts_with(word)).unwrap_or_default().to_owned()
    };
    assert!(line("raw ").contains("goes now") && line("raw ").contains("1000"), "{}", stdout(&planned));
    assert!(line("1h ").contains("kept") && line("1h ").contains("for ever"), "{}", stdout(&planned));
    let other = retention(&["--db", "shop"]);
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    let forced = retention(&["--force"]);
    assert!(stdout(&forced).contains("raw 1, 1m 1, 5m 1, 1h 0"), "{forced:?}");
    let count = ["query", "SELECT count(usage) FROM cpu", "--format", "csv"];
    let count = run(&[count.as_slice(), target.as_slice()].concat());
    assert!(stdout(&count).contains(",1000"), "hours still answer: {count:?}");
}
