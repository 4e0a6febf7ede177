//! Statements and their answers over a small view.

use icecore_storage::model::{SECOND_NS, Value};
use icecore_storage::scan::Resolution;
use proptest::prelude::*;

mod calculated;
mod ways;

use super::testing::TestScan;
use super::{Cell, Context, Statement, Table, chosen, execute, parse};
use crate::{Budget, Error, ErrorKind, Limits};

/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;

/// Times in the tests are seconds after [`START_NS`].
fn at(seconds: i64) -> i64 {
    START_NS + seconds * SECOND_NS
}

/// `cpu` with hosts a and b, three rows each, a minute apart (b half a minute later), and `log` with texts.
fn scan() -> TestScan {
    let mut scan = TestScan::default();
    for (step, (load, count)) in [(1.0, 10), (3.0, 20), (2.0, 30)].into_iter().enumerate() {
        let ts_ns = at(60 * i64::try_from(step).unwrap());
        let fields = [("load", Value::Float(load)), ("count", Value::Int(count))];
        scan.push("cpu", &[("host", "a"), ("zone", "x")], ts_ns, &fields);
        let fields = [("load", Value::Float(load * 10.0)), ("up", Value::Bool(step != 1))];
        scan.push("cpu", &[("host", "b")], ts_ns + 30 * SECOND_NS, &fields);
    }
    for (second, msg, user) in [(0, "hello", "u1"), (10, "bye", "u2"), (200, "hello", "u1")] {
        let fields = [("msg", Value::from(msg)), ("user", Value::from(user)), ("size", Value::UInt(7))];
        scan.push("log", &[("app", "web")], at(second), &fields);
    }
    scan
}

fn run_on(scan: &TestScan, limits: Limits, text: &str) -> Result<Table, Error> {
    let budget = Budget::untimed(limits);
    let context = Context { scan, budget: &budget, now_ns: at(300), resolution: Resolution::Auto };
    let statements = parse(text)?;
    execute(&context, statements.first().unwrap())
}

fn run(text: &str) -> Result<Table, Error> {
    run_on(&scan(), Limits::default(), text)
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".to_owned(),
        Cell::Time(0) => "epoch".to_owned(),
        Cell::Time(ts_ns) => format!("{}s", (ts_ns - START_NS) as f64 / 1e9),
        Cell::Float(value) => format!("{value:?}"),
        Cell::Int(value) => format!("{value}i"),
        Cell::UInt(value) => format!("{value}u"),
        Cell::Bool(value) => value.to_string(),
        Cell::Text(text) => text.clone(),
    }
}

/// One line per series head, one per row.
fn print(table: &Table) -> String {
    let mut lines = Vec::new();
    for series in &table.series {
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(format!("{}{{{}}}: {}", series.name, tags.join(","), series.columns.join(" ")));
        lines.extend(series.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(" ")));
    }
    lines.extend(table.messages.iter().map(|message| format!("! {message}")));
    lines.join("\n")
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    check_on(&scan(), text, expected);
}

#[track_caller]
fn check_on(scan: &TestScan, text: &str, expected: &[&str]) {
    match run_on(scan, Limits::default(), text) {
        Ok(table) => assert_eq!(print(&table), expected.join("\n"), "{text}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[track_caller]
fn check_error(text: &str, kind: ErrorKind, part: &str) {
    let error = run(text).expect_err(text);
    assert_eq!(error.kind(), kind, "{text}: {error}");
    assert!(error.to_string().contains(part), "{text}: {error}");
}

#[test]
fn select_raw_fields_of_all_series_are_merged_by_time() {
    check(
        "SELECT load FROM cpu",
        &["cpu{}: time load", "0s 1.0", "30s 10.0", "60s 3.0", "90s 30.0", "120s 2.0", "150s 20.0"],
    );
}

#[test]
fn select_wildcard_has_fields_and_tags_sorted() {
    check(
        "SELECT * FROM cpu LIMIT 2",
        &["cpu{}: time count host load up zone", "0s 10i a 1.0 - x", "30s - b 10.0 true -"],
    );
    check(
        "SELECT * FROM cpu GROUP BY * LIMIT 1",
        &[
            "cpu{host=a,zone=x}: time count load up",
            "0s 10i 1.0 -",
            "cpu{host=b,zone=}: time count load up",
            "30s - 10.0 true",
        ],
    );
    check("SELECT /^co/ FROM cpu LIMIT 1", &["cpu{}: time count", "0s 10i"]);
    check("SELECT *::field FROM log LIMIT 1", &["log{}: time msg size user", "0s hello 7u u1"]);
}

#[test]
fn select_tag_column_and_alias_are_shown() {
    check(
        "SELECT load AS l, host, load * 2 + 1, load / 0 FROM cpu WHERE host = 'a' LIMIT 1",
        &["cpu{}: time l host load load_1", "0s 1.0 a 3.0 -"],
    );
    check("SELECT host FROM cpu", &[]);
}

#[test]
fn select_conditions_filter_rows() {
    check(
        "SELECT load FROM cpu WHERE load > 9.5 AND host = 'b' AND NOT load = 30",
        &["cpu{}: time load", "30s 10.0", "150s 20.0"],
    );
    check("SELECT count FROM cpu WHERE count >= 20 AND count <= 20", &["cpu{}: time count", "60s 20i"]);
    check(
        "SELECT load FROM cpu WHERE (host = 'a' OR host = 'b') AND up = true",
        &["cpu{}: time load", "30s 10.0", "150s 20.0"],
    );
    check("SELECT load FROM cpu WHERE zone = '' AND load < 15", &["cpu{}: time load", "30s 10.0"]);
    check("SELECT msg FROM log WHERE msg =~ /^by/", &["log{}: time msg", "10s bye"]);
    check("SELECT msg FROM log WHERE \"user\" IN ('u2', 'u9')", &["log{}: time msg", "10s bye"]);
    check(
        "SELECT load FROM cpu WHERE host IN ('b') AND load != 10 LIMIT 1",
        &["cpu{}: time load", "90s 30.0"],
    );
    check("SELECT load FROM cpu WHERE host NOT IN ('b') LIMIT 1", &["cpu{}: time load", "0s 1.0"]);
    check("SELECT load FROM cpu WHERE host !~ /b/ AND zone = 'x' LIMIT 1", &["cpu{}: time load", "0s 1.0"]);
    check("SELECT load FROM cpu WHERE nosuch > 3", &[]);
    check(
        "SELECT load FROM cpu WHERE (host = 'a' AND load = 3) OR (zone = '' AND load = 20)",
        &["cpu{}: time load", "60s 3.0", "150s 20.0"],
    );
    check("SELECT nosuch FROM cpu", &[]);
    // A carriage return ends a comment, as a newline does.
    for end in ["\r", "\n", "\r\n"] {
        let text = format!("SELECT load FROM cpu -- of all{end}WHERE load = 3 -- no more{end}");
        check(&text, &["cpu{}: time load", "60s 3.0"]);
    }
}

#[test]
fn select_times_bound_the_range() {
    for condition in [
        "time >= '2026-01-01T00:01:00Z' AND time < '2026-01-01 00:01:30'",
        "time > now() - 4m - 1ns AND time <= now() - 4m",
        "time = 1767225660000000000",
        "1767225660s <= time AND time < 1767225660s + 1s",
        "time > '2026-01-01' AND time < 1767225690000000000 AND time != '2026-01-01T00:00:30Z'",
        "(time = '2026-01-01T00:01:00Z' OR time > '2026-02-01')",
    ] {
        check(&format!("SELECT load FROM cpu WHERE {condition}"), &["cpu{}: time load", "60s 3.0"]);
    }
    check_error("SELECT load FROM cpu WHERE time > 'noon'", ErrorKind::InvalidInput, "'noon' is not a time");
}

#[test]
fn select_order_limit_and_offset_cut_the_page() {
    check("SELECT load FROM cpu ORDER BY time DESC LIMIT 2", &["cpu{}: time load", "150s 20.0", "120s 2.0"]);
    check(
        "SELECT load FROM cpu ORDER BY time ASC LIMIT 2 OFFSET 1",
        &["cpu{}: time load", "30s 10.0", "60s 3.0"],
    );
    check("SELECT load FROM cpu ORDER BY time DESC OFFSET 5", &["cpu{}: time load", "0s 1.0"]);
    check(
        "SELECT load FROM cpu GROUP BY host LIMIT 1 SLIMIT 1 SOFFSET 1",
        &["cpu{host=b}: time load", "30s 10.0"],
    );
}

#[test]
fn select_limit_stops_reading() {
    let table =
        run_on(&scan(), Limits { samples_max: 3, ..Limits::default() }, "SELECT size FROM log LIMIT 1");
    assert_eq!(table.unwrap().series.len(), 1);
    let error = run_on(&scan(), Limits { samples_max: 3, ..Limits::default() }, "SELECT load FROM cpu");
    assert_eq!(error.unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn aggregates_without_interval_give_one_row() {
    check(
        "SELECT count(load), sum(count), mean(load), min(count), max(load), spread(count) FROM cpu",
        &["cpu{}: time count sum mean min max spread", "epoch 6i 60i 11.0 10i 30.0 20i"],
    );
    check(
        "SELECT sum(load) / count(load) AS avg, stddev(count), mean(nosuch) FROM cpu WHERE time >= '2026-01-01' GROUP BY host",
        &[
            "cpu{host=a}: time avg stddev mean",
            "0s 2.0 10.0 -",
            "cpu{host=b}: time avg stddev mean",
            "0s 20.0 - -",
        ],
    );
    check("SELECT count(nosuch) FROM cpu", &[]);
    check("SELECT count(msg), count(size) FROM log", &["log{}: time count count_1", "epoch 3i 3i"]);
    check("SELECT mean(*) FROM cpu", &["cpu{}: time mean_count mean_load", "epoch 20.0 11.0"]);
    check("SELECT count(/^[lu]/) FROM cpu", &["cpu{}: time count_load count_up", "epoch 6i 3i"]);
}

#[test]
fn selectors_alone_carry_the_time_of_the_row() {
    check("SELECT max(load) FROM cpu", &["cpu{}: time max", "90s 30.0"]);
    check("SELECT min(count) FROM cpu", &["cpu{}: time min", "0s 10i"]);
    check(
        "SELECT first(load) FROM cpu GROUP BY host",
        &["cpu{host=a}: time first", "0s 1.0", "cpu{host=b}: time first", "30s 10.0"],
    );
    check("SELECT last(up) FROM cpu", &["cpu{}: time last", "150s true"]);
    check("SELECT last(msg) FROM log", &["log{}: time last", "200s hello"]);
    check("SELECT max(load), host FROM cpu", &["cpu{}: time max host", "90s 30.0 b"]);
    check("SELECT first(load), last(load) FROM cpu", &["cpu{}: time first last", "epoch 1.0 20.0"]);
}

#[test]
fn group_by_time_gives_every_bucket_of_the_range() {
    check(
        "SELECT mean(load), count(load) FROM cpu WHERE time >= '2026-01-01' AND time < '2026-01-01T00:04:00Z' GROUP BY time(1m)",
        &["cpu{}: time mean count", "0s 5.5 2i", "60s 16.5 2i", "120s 11.0 2i", "180s - 0i"],
    );
    check(
        "SELECT max(load) FROM cpu GROUP BY time(2m), host",
        &[
            "cpu{host=a}: time max",
            "0s 3.0",
            "120s 2.0",
            "240s -",
            "cpu{host=b}: time max",
            "0s 30.0",
            "120s 20.0",
            "240s -",
        ],
    );
    check(
        "SELECT sum(load) FROM cpu WHERE time >= '2026-01-01T00:00:30Z' AND time <= now() GROUP BY time(2m, 30s) fill(none)",
        &["cpu{}: time sum", "30s 45.0", "150s 20.0"],
    );
    check(
        "SELECT sum(load) FROM cpu WHERE load > 2 GROUP BY time(1m) fill(none) ORDER BY time DESC LIMIT 2",
        &["cpu{}: time sum", "120s 20.0", "60s 33.0"],
    );
    check(
        "SELECT first(msg) FROM log GROUP BY time(10s) fill(none)",
        &["log{}: time first", "0s hello", "10s bye", "200s hello"],
    );
}

#[test]
fn fill_puts_values_into_empty_buckets() {
    let text = "SELECT sum(size), mean(size), count(size) FROM log WHERE time >= '2026-01-01' AND time < '2026-01-01T00:04:00Z' GROUP BY time(1m)";
    let head = "log{}: time sum mean count";
    let (first, last) = ("0s 14u 7.0 2i", "180s 7u 7.0 1i");
    check(&format!("{text} fill(null)"), &[head, first, "60s - - 0i", "120s - - 0i", last]);
    check(&format!("{text} fill(none)"), &[head, first, last]);
    check(&format!("{text} fill(-3)"), &[head, first, "60s -3i -3.0 -3i", "120s -3i -3.0 -3i", last]);
    check(&format!("{text} fill(previous)"), &[head, first, "60s 14u 7.0 2i", "120s 14u 7.0 2i", last]);
    check(&format!("{text} fill(linear)"), &[head, first, "60s 11i 7.0 1i", "120s 9i 7.0 1i", last]);
}

#[test]
fn distinct_and_unique_counts_of_few_values_are_exact() {
    check("SELECT distinct(msg) FROM log", &["log{}: time distinct", "epoch bye", "epoch hello"]);
    check("SELECT DISTINCT msg FROM log", &["log{}: time distinct", "epoch bye", "epoch hello"]);
    check(
        "SELECT count(distinct(user)), uniq(msg), count(msg), mode(user) FROM log",
        &["log{}: time count uniq count_1 mode", "epoch 2i 2i 3i u1"],
    );
    check(
        "SELECT distinct(user) FROM log GROUP BY time(1m)",
        &["log{}: time distinct", "0s u1", "0s u2", "180s u1"],
    );
}

#[test]
fn quantiles_are_the_same_from_rows_and_partials() {
    let by_partials = run("SELECT percentile(load, 50), p99(load), median(count) FROM cpu").unwrap();
    let by_rows =
        run("SELECT percentile(load, 50), p99(load), median(count) FROM cpu WHERE load > 0").unwrap();
    let rows = |table: &Table| table.series.first().unwrap().rows.clone();
    assert_eq!(rows(&by_partials), rows(&by_rows));
    let Some([_, Cell::Float(p50), Cell::Float(p99), Cell::Float(median)]) =
        rows(&by_rows).first().map(|row| <[Cell; 4]>::try_from(row.clone()).unwrap())
    else {
        panic!("three floats expected, found {by_rows:?}")
    };
    assert!((p50 - 3.0).abs() < 0.02 && (p99 - 30.0).abs() < 0.2 && (median - 20.0).abs() < 0.2);
}

#[test]
fn sources_may_be_several() {
    check(
        "SELECT count(load), count(size) FROM cpu, log",
        &["cpu{}: time count count_1", "epoch 6i -", "log{}: time count count_1", "epoch - 3i"],
    );
    check("SELECT count(load) FROM /^c/", &["cpu{}: time count", "epoch 6i"]);
    check("SELECT size FROM db..log LIMIT 1", &["log{}: time size", "0s 7u"]);
    check("SELECT size FROM \"db\".\"autogen\".\"log\" LIMIT 1", &["log{}: time size", "0s 7u"]);
    check("SELECT size FROM nosuch", &[]);
}

#[test]
fn gone_rows_are_told() {
    let mut scan = scan();
    scan.raw_gone_before_ns = Some(at(60));
    check_on(
        &scan,
        "SELECT count FROM cpu",
        &["cpu{}: time count", "60s 20i", "120s 30i", "! raw rows before 2026-01-01T00:01:00Z are gone"],
    );
    check_on(
        &scan,
        "SELECT min(count) FROM cpu",
        &["cpu{}: time min", "epoch 10i", "! window rounded to 5m"],
    );
    check_on(
        &scan,
        "SELECT count(count) FROM cpu",
        &["cpu{}: time count", "epoch 3i", "! window rounded to 5m"],
    );
}

#[test]
fn buckets_before_the_data_are_not_widened_where_rows_are_gone() {
    let mut scan = TestScan::default();
    scan.push("m", &[], at(120), &[("f", Value::Float(1.5))]);
    scan.raw_gone_before_ns = Some(at(60));
    let text = "SELECT sum(f) FROM m WHERE time >= '2026-01-01T00:00:00Z' AND time < '2026-01-01T00:04:00Z' GROUP BY time(1m) fill(none)";
    check_on(&scan, text, &["m{}: time sum", "120s 1.5"]);
}

#[test]
fn show_answers_names() {
    check("SHOW MEASUREMENTS", &["measurements{}: name", "cpu", "log"]);
    check("SHOW MEASUREMENTS ON db WITH MEASUREMENT =~ /^l/ LIMIT 5", &["measurements{}: name", "log"]);
    check("SHOW MEASUREMENTS WHERE host = 'a'", &["measurements{}: name", "cpu"]);
    check("SHOW TAG KEYS FROM cpu", &["cpu{}: tagKey", "host", "zone"]);
    check("SHOW TAG KEYS FROM cpu WHERE host = 'b'", &["cpu{}: tagKey", "host"]);
    check("SHOW TAG VALUES FROM cpu WITH KEY = host", &["cpu{}: key value", "host a", "host b"]);
    check(
        "SHOW TAG VALUES WITH KEY IN (zone, \"app\")",
        &["cpu{}: key value", "zone x", "log{}: key value", "app web"],
    );
    check(
        "SHOW TAG VALUES WITH KEY =~ /o/ WHERE host != 'b' LIMIT 1 OFFSET 1",
        &["cpu{}: key value", "zone x"],
    );
    check(
        "SHOW FIELD KEYS FROM log",
        &["log{}: fieldKey fieldType", "msg string", "size unsigned", "user string"],
    );
    check("SHOW SERIES FROM cpu WHERE zone = 'x'", &["{}: key", "cpu,host=a,zone=x"]);
    check_error("SHOW SERIES WHERE load > 1", ErrorKind::InvalidInput, "");
}

#[test]
fn statement_names_its_database() {
    let database = |text: &str| parse(text).unwrap().first().unwrap().database().map(str::to_owned);
    assert_eq!(database("SHOW SERIES ON x").as_deref(), Some("x"));
    assert_eq!(database("SELECT a FROM x..m").as_deref(), Some("x"));
    assert_eq!(database("SELECT a FROM m"), None);
    assert_eq!(database("SHOW RETENTION POLICIES ON \"my db\"").as_deref(), Some("my db"));
    let created = parse("CREATE DATABASE \"new\"; SHOW DATABASES;").unwrap();
    assert!(matches!(created.first(), Some(Statement::CreateDatabase { name }) if name == "new"));
    assert_eq!(created.len(), 2);
    check_error("SHOW DATABASES", ErrorKind::Unsupported, "databases");
}

/// Which rows a statement deletes: series by measurement, all as `*`, and the range where it is bounded.
fn chosen_by(text: &str) -> Result<String, Error> {
    let scan = scan();
    let budget = Budget::untimed(Limits::default());
    let context = Context { scan: &scan, budget: &budget, now_ns: 100, resolution: Resolution::Auto };
    let chosen = chosen(&context, parse(text)?.first().unwrap())?;
    let mut out = String::new();
    for set in &chosen.sets {
        let ids = set.series.as_ref().map_or("*".to_owned(), |series| {
            series.iter().map(|series| series.0.to_string()).collect::<Vec<_>>().join(",")
        });
        out.push_str(&format!("{}:{ids} ", set.measurement.0));
    }
    if chosen.range != icecore_storage::model::TimeRange::ALL {
        out.push_str(&format!("{} to {}", chosen.range.start_ns, chosen.range.end_ns));
    }
    Ok(out.trim_end().to_owned())
}

#[test]
fn delete_names_series_and_time() {
    let all = chosen_by("DELETE WHERE time < 0").unwrap();
    assert!(all.starts_with("0:* 1:* "), "{all}");
    for (text, expected) in [
        ("DROP MEASUREMENT cpu", "0:*"),
        ("DROP MEASUREMENT \"no such\"", ""),
        ("DROP SERIES FROM cpu", "0:*"),
        ("DROP SERIES FROM cpu WHERE host = 'a' AND zone = 'x'", "0:0"),
        ("DROP SERIES FROM /c/ WHERE host = 'nobody'", ""),
        ("DELETE FROM cpu", "0:*"),
        ("DELETE FROM cpu WHERE time >= 5 AND time < now() - 10ns", "0:* 5 to 90"),
        ("DELETE FROM cpu WHERE host = 'b' AND time = 7", "0:1 7 to 8"),
        ("DELETE FROM cpu WHERE host = 'a' OR zone = 'y'", "0:0"),
        // The comment took the condition with it, and everything was deleted.
        ("DELETE FROM cpu -- old\rWHERE time >= 5 AND time < 9 -- or older\r\nAND host = 'b'", "0:1 5 to 9"),
    ] {
        assert_eq!(chosen_by(text).unwrap(), expected, "{text}");
    }
    for (text, part) in [
        ("DELETE", "expected FROM or WHERE"),
        ("DROP SERIES", "expected FROM or WHERE"),
        ("DROP SERIES FROM cpu WHERE time < 5", "takes no time"),
        ("DELETE FROM cpu WHERE load > 1", "not fields"),
        ("DELETE FROM cpu WHERE host = 'a' OR time < 5", "not fields"),
        ("DELETE FROM cpu LIMIT 1", "expected the end"),
        ("DROP MEASUREMENT /c/", "expected a measurement name"),
    ] {
        let error = chosen_by(text).unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.to_string().contains(part),
            "{text}: {error}"
        );
    }
}

#[test]
fn parse_errors_name_place_and_hint() {
    let invalid = ErrorKind::InvalidInput;
    for (text, part) in [
        ("", "1:1: parse error: no statement"),
        ("SELECT load", "1:12: parse error: missing FROM"),
        ("SELECT load cpu", "1:13: parse error: expected `,` or FROM, found `cpu`"),
        (
            "SELECT load FROM 'cpu'",
            "1:18: parse error: expected a measurement (a name or /regex/), found string 'cpu' (names take double quotes)",
        ),
        ("SELECT 'load' FROM cpu", "1:8: parse error: string 'load' in the SELECT list"),
        ("SELECT from FROM cpu", "1:8: parse error: expected a field"),
        ("SELECT a FROM where", "a reserved word; as a name it takes double quotes"),
        ("SELECT load FROM cpu WHERE", "1:27: parse error: expected a field"),
        ("SELECT load\nFROM cpu WHERE host = 'a", "2:23: parse error: string is not closed"),
        ("SELECT load FROM cpu WHERE host =~ 'a'", "1:36: parse error: expected a regular expression"),
        ("SELECT load FROM cpu WHERE host =~ /(/", "1:36: parse error: bad regular expression"),
        ("SELECT load FROM cpu WHERE a = 1 = 2", "comparisons cannot be chained"),
        ("SELECT load FROM cpu LIMIT 1 WHERE a = 1", "1:30: parse error: WHERE cannot stand here"),
        ("SELECT nope(load) FROM cpu", "1:8: parse error: unknown function nope()"),
        ("SELECT percentile(load) FROM cpu", "percentile() needs a number"),
        ("SELECT mean(load) FROM cpu GROUP BY time", "time needs an interval"),
        ("SELECT mean(load) FROM cpu GROUP BY time(0s)", "above zero"),
        ("SELECT load FROM cpu WHERE load > 1e3", "1:35: parse error: bad number or duration"),
        ("SELECT load FROM cpu WHERE max(load) > 1", "function max() cannot stand in WHERE"),
        ("SHOW TAG VALUES FROM cpu", "needs WITH KEY"),
        ("SHOW NOTHING", "1:6: parse error: expected DATABASES"),
        ("HELLO", "1:1: parse error: expected SELECT"),
        ("SELECT load FROM cpu; #", "1:23: parse error: unexpected character '#'"),
    ] {
        check_error(text, invalid, part);
    }
}

#[test]
fn parse_what_is_not_built_names_it() {
    for (text, part) in [
        ("SELECT a INTO b FROM c", "1:10: INTO"),
        ("SELECT holt_winters(a) FROM c", "1:8: function holt_winters()"),
        ("DROP RETENTION POLICY x", "1:6: DROP RETENTION"),
        ("CREATE USER x", "CREATE USER"),
    ] {
        check_error(text, ErrorKind::Unsupported, part);
    }
}

#[test]
fn meaning_errors_are_explained() {
    let invalid = ErrorKind::InvalidInput;
    check_error("SELECT mean(load), host FROM cpu", invalid, "beside aggregates");
    check_error("SELECT mean(msg) FROM log", invalid, "mean() is not for field \"msg\" of type string");
    check_error("SELECT mean(up) FROM cpu", invalid, "boolean");
    check_error("SELECT count(host) FROM cpu", invalid, "is a tag");
    check_error("SELECT load FROM cpu GROUP BY time(1m)", invalid, "needs an aggregate");
    check_error("SELECT distinct(msg), size FROM log", invalid, "distinct() must stand alone");
    check_error("SELECT load FROM cpu WHERE host = \"a\"", invalid, "strings take single quotes");
}

#[test]
fn parse_deep_and_wide_text_ends() {
    for text in [
        format!("SELECT a FROM b WHERE {}a = 1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT a FROM b WHERE {} a = 1", "NOT ".repeat(100_000)),
        format!("SELECT {}a FROM b", "- ".repeat(100_000)),
        format!("SELECT {}a FROM b", "count(".repeat(100_000)),
    ] {
        assert_eq!(parse(&text).expect_err("deep").kind(), ErrorKind::InvalidInput);
    }
    let wide = format!(
        "SELECT load{} FROM cpu WHERE load = 1{}",
        " + load".repeat(20_000),
        " OR load = 2".repeat(20_000)
    );
    assert_eq!(run(&wide).unwrap().series.len(), 1);
    let nested = format!("SELECT load FROM cpu WHERE {}load = 1{} LIMIT 1", "(".repeat(60), ")".repeat(60));
    assert_eq!(run(&nested).unwrap().series.len(), 1);
}

#[test]
fn buckets_beyond_the_budget_are_refused_before_they_are_made() {
    for fill in ["null", "0", "previous", "linear"] {
        check_error(
            &format!("SELECT mean(load) FROM cpu WHERE time > 0 GROUP BY time(1ns) fill({fill})"),
            ErrorKind::LimitExceeded,
            "points_max",
        );
    }
}

#[test]
fn statements_beyond_their_memory_are_refused() {
    for text in [
        "SELECT * FROM cpu",
        "SELECT load FROM cpu ORDER BY time DESC LIMIT 5",
        "SELECT mean(load) FROM cpu WHERE time < 10m GROUP BY time(1s), host",
        "SELECT distinct(load) FROM cpu",
        "SELECT max(load) FROM cpu GROUP BY host",
        "SHOW SERIES",
        "SHOW TAG VALUES WITH KEY = host",
    ] {
        // The names of a few series take less than their rows.
        let memory_bytes_max = if text.starts_with("SHOW") { 200 } else { 700 };
        let error = run_on(&scan(), Limits { memory_bytes_max, ..Limits::default() }, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{text}: {error}");
        assert!(error.to_string().contains("query_memory_bytes_max"), "{text}: {error}");
    }
    let limits = Limits { result_series_max: 1, ..Limits::default() };
    let error = run_on(&scan(), limits, "SELECT load FROM cpu GROUP BY host").unwrap_err();
    assert!(error.to_string().contains("result_series_max"), "{error}");
    for text in ["SELECT load FROM cpu", "SELECT mean(load) FROM cpu", "SHOW SERIES FROM cpu"] {
        let error = run_on(&scan(), Limits { series_max: 1, ..Limits::default() }, text).unwrap_err();
        assert_eq!(error.limit(), Some("query_series_max"), "{text}: {error}");
        assert!(error.to_string().ends_with("(limit query_series_max)"), "{text}: {error}");
    }
}

fn token() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP",
        "BY",
        "time",
        "(",
        ")",
        "5m",
        ",",
        "cpu",
        "load",
        "host",
        "*",
        "'a'",
        "\"b\"",
        "=",
        "!=",
        "=~",
        "/a/",
        "/",
        "and",
        "OR",
        "not",
        "IN",
        "mean(",
        "count(distinct(load))",
        "percentile(load, 9)",
        "fill(0)",
        "fill",
        "ORDER",
        "DESC",
        "LIMIT",
        "1",
        "2.5",
        "now()",
        "-",
        "+",
        "..",
        ".",
        "::",
        "tag",
        ";",
        "SHOW",
        "TAG",
        "VALUES",
        "WITH",
        "KEY",
        "ON",
        "AS",
        "é",
        "\\",
        "--",
        "true",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn parse_of_any_tokens_never_panics(tokens in prop::collection::vec(token(), 0..24), rest in ".{0,8}") {
        let text = format!("{} {rest}", tokens.join(" "));
        let scan = scan();
        let budget = Budget::untimed(Limits { points_max: 10_000, ..Limits::default() });
        let context = Context { scan: &scan, budget: &budget, now_ns: at(300), resolution: Resolution::Auto };
        for body in [text.clone(), format!("SELECT {text}"), format!("SELECT load FROM cpu {text}"), format!("SELECT load FROM cpu WHERE {text}")] {
            for statement in parse(&body).unwrap_or_default() {
                drop(execute(&context, &statement));
            }
        }
    }

    #[test]
    fn aggregates_from_partials_equal_those_from_rows(
        samples in prop::collection::vec((0i64..600, 0u8..3, -100i64..100), 1..40),
        width in 1i64..200,
    ) {
        let mut scan = TestScan::default();
        for (second, host, value) in samples {
            let host = ["a", "b", "c"][usize::from(host)];
            let fields = [("v", Value::Int(value)), ("one", Value::Int(1))];
            scan.push("m", &[("host", host)], at(second * 3 + i64::from(host.as_bytes()[0])), &fields);
        }
        let list = "count(v), sum(v), min(v), max(v), first(v), last(v), spread(v), p95(v)";
        for (group, fill) in [("time(WIDTHs)", "null"), ("host", "none"), ("time(WIDTHs), host", "previous")] {
            let group = group.replace("WIDTH", &width.to_string());
            let by_partials = format!("SELECT {list} FROM m WHERE one = 1 GROUP BY {group} fill({fill})");
            let by_rows = by_partials.replace("WHERE one = 1 ", "");
            let budget = Budget::untimed(Limits::default());
            let context = Context { scan: &scan, budget: &budget, now_ns: at(2000), resolution: Resolution::Auto };
            let answers = [by_partials, by_rows].map(|text| print(&execute(&context, &parse(&text).unwrap()[0]).unwrap()));
            prop_assert_eq!(&answers[0], &answers[1]);
        }
    }
}

#[test]
fn selector_alone_has_the_time_of_its_row_over_any_range() {
    let day = 86_400;
    let mut scan = TestScan::default();
    for (host, second, load) in
        [("a", 0, 5), ("a", 40 * day, 9), ("a", 40 * day + 7, 1), ("b", 700 * day, 9), ("b", 701 * day, 1)]
    {
        scan.push("cpu", &[("host", host)], at(second), &[("load", Value::Int(load))]);
    }
    let (forty, seven) = (40 * day, 700 * day);
    check_on(&scan, "SELECT max(load) FROM cpu", &["cpu{}: time max", &format!("{forty}s 9i")]);
    check_on(&scan, "SELECT min(load) FROM cpu", &["cpu{}: time min", &format!("{}s 1i", forty + 7)]);
    check_on(
        &scan,
        "SELECT max(load) FROM cpu GROUP BY host",
        &["cpu{host=a}: time max", &format!("{forty}s 9i"), "cpu{host=b}: time max", &format!("{seven}s 9i")],
    );
    check_on(&scan, "SELECT max(load) FROM cpu WHERE time < '2026-01-02'", &["cpu{}: time max", "0s 5i"]);
    check_on(&scan, "SELECT max(load) FROM cpu WHERE time > '2030-01-02'", &[]);
}

#[test]
fn integers_beyond_2_to_53_stay_exact() {
    let big = 9_007_199_254_740_993;
    let mut scan = TestScan::default();
    for (second, value) in [(0, big), (1, big + 2), (2, -big)] {
        scan.push("m", &[], at(second), &[("v", Value::Int(value))]);
    }
    let row = format!("epoch {}i {}i {}i {}i {}i", big + 2, -big, big + 2, big, -big);
    check_on(
        &scan,
        "SELECT sum(v), min(v), max(v), first(v), last(v) FROM m",
        &["m{}: time sum min max first last", &row],
    );
    let row = format!("1s {}i", big + 2);
    check_on(&scan, "SELECT max(v) FROM m", &["m{}: time max", &row]);
}

#[test]
fn parse_many_large_patterns_is_refused() {
    let text = format!("SELECT v FROM m WHERE {}", vec![r"a =~ /\w{20}/"; 1000].join(" OR "));
    assert!(parse(&text).unwrap_err().to_string().contains("compiled patterns of the query exceed"));
    let error = parse(r"SELECT v FROM m WHERE a =~ /\w{400}/").unwrap_err().to_string();
    assert!(error.contains("1:28") && error.contains("compiled pattern exceeds"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Words of the language in any order never panic, neither in the parser nor in execution, and an error of the
    /// parser names a place.
    #[test]
    fn token_soup_gives_an_answer(words in proptest::collection::vec(0..WORDS.len(), 0..24)) {
        let text: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        for head in ["", "SELECT ", "SELECT max(load) FROM cpu ", "SELECT * FROM cpu WHERE "] {
            let text = format!("{head}{}", text.join(" "));
            let budget = Budget::untimed(Limits { points_max: 10_000, ..Limits::default() });
            let scan = scan();
            let context = Context { scan: &scan, budget: &budget, now_ns: at(300), resolution: Resolution::Auto };
            match parse(&text) {
                Ok(statements) => for statement in &statements {
                    _ = execute(&context, statement);
                },
                Err(error) => prop_assert!(
                    error.to_string().split(':').nth(1).is_some_and(|column| column.parse::<usize>().is_ok()),
                    "{text}: {error}"
                ),
            }
        }
    }
}

/// What soup is made of.
const WORDS: [&str; 58] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "ORDER",
    "time",
    "DESC",
    "LIMIT",
    "OFFSET",
    "SLIMIT",
    "fill(null)",
    "fill(linear)",
    "fill(7)",
    "time(1m)",
    "time(1m,30s)",
    "time(1ns)",
    "host",
    "load",
    "count",
    "msg",
    "\"load\"",
    "'a'",
    "cpu",
    "log",
    "*",
    ",",
    "(",
    ")",
    "max(load)",
    "mean(load)",
    "percentile(load, 95)",
    "count(distinct(msg))",
    "first(msg)",
    "min(*)",
    "=",
    "!=",
    "=~ /a|b/",
    ">",
    "<=",
    "AND",
    "OR",
    "NOT",
    "IN",
    "now()",
    "- 5m",
    "+",
    "/",
    "%",
    "9223372036854775807",
    "-9223372036854775808",
    "1e3",
    "0.5",
    "true",
    ";",
    "SHOW TAG VALUES WITH KEY",
    "é",
    "\u{0}",
];
