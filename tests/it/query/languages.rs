//! SELECT and PromQL over the same random rows, in the real engine, in every state of the data: fresh, sealed, with
//! the raw rows dropped. Both must say the same, and both what the rows themselves say.
//!
//! A bucket of SELECT is `[b, b + width)`, a window of PromQL `(t - range, t]`: asked one nanosecond before the end of
//! the bucket they are the same. Without raw rows windows lie on the edges of cells, and no row lies on an edge.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use icecore::{Cell, Config, Database, Guard, Precision, QueryValue, Retention, Sample};

const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3_600 * SECOND_NS;
const WIDTH_NS: i64 = 300 * SECOND_NS;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;
const HOURS: i64 = 5;
/// Integers from here on are no floats.
const BIG: i64 = 9_007_199_254_740_993;

/// In line protocol a backslash before a plain letter is a backslash.
const HOSTS: [&str; 2] = ["a", "b \"ü' x\\y"];

/// Rows by host: time, float, integer.
type Rows = BTreeMap<String, Vec<(i64, f64, i64)>>;

/// Numbers from a seed, as good as these tests need them.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Rows at random times, none on the edge of a minute unless wanted.
fn rows(seed: u64, on_edges: bool) -> Rows {
    let mut random = Random(seed);
    let mut rows = Rows::new();
    for host in HOSTS {
        let mut at_ns = START_NS + 1;
        let list: &mut Vec<_> = rows.entry(host.to_owned()).or_default();
        while at_ns < START_NS + HOURS * HOUR_NS {
            let at = if on_edges && random.below(3) == 0 { at_ns / WIDTH_NS * WIDTH_NS } else { at_ns };
            let is_edge = at % (60 * SECOND_NS) == 0;
            let is_new = list.last().is_none_or(|(last_ns, ..)| *last_ns < at) && START_NS <= at;
            if is_new && (on_edges || !is_edge) {
                let value = (random.below(2_000_000) as f64 - 200_000.0) / 1000.0;
                list.push((at, value, BIG + i64::try_from(random.below(1000)).unwrap()));
            }
            at_ns += i64::try_from(random.below(40_000)).unwrap() * 1_000_000 + 1;
        }
    }
    rows
}

fn open(dir: &Path, rows: &Rows) -> Database {
    open_with(dir, rows, Config::default())
}

fn open_with(dir: &Path, rows: &Rows, config: Config) -> Database {
    let database = Database::open_with(dir, config).unwrap();
    database.set_retention(Retention::FOREVER).unwrap();
    let mut body = String::new();
    for (host, rows) in rows {
        let host = host.replace(' ', "\\ ");
        for (at_ns, value, int) in rows {
            body.push_str(&format!("m,host={host} v={value:?},i={int}i,s=\"{value:?}\" {at_ns}\n"));
        }
    }
    let report = database.write_lines(body.as_bytes(), Precision::Ns).unwrap();
    assert_eq!(report.rejected.len(), 0, "{report:?}");
    database
}

fn drop_raw(database: &Database) {
    let day = Duration::from_secs(24 * 3600);
    database.set_retention(Retention { raw: Some(day), ..Retention::FOREVER }).unwrap();
    database.apply_retention(Guard::Forced).unwrap();
    assert_eq!(database.stats().segments[0], 0, "no raw file is left");
}

fn float(cell: &Cell) -> f64 {
    match cell {
        Cell::Float(value) => *value,
        Cell::Int(value) => *value as f64,
        other => panic!("no number: {other:?}"),
    }
}

/// The numbers of a SELECT by host and bucket.
fn by_select(database: &Database, column: &str) -> BTreeMap<(String, i64), f64> {
    let end_ns = START_NS + HOURS * HOUR_NS;
    let text = format!(
        "SELECT {column} FROM m WHERE time >= {START_NS} AND time < {end_ns} GROUP BY time(5m), host fill(none)"
    );
    let table = database.select(&text).unwrap();
    assert_eq!(table.messages, Vec::<String>::new(), "{text} is exact");
    let mut found = BTreeMap::new();
    for series in &table.series {
        for row in &series.rows {
            let Cell::Time(at_ns) = row[0] else { panic!("no time in {row:?}") };
            found.insert((series.tags[0].1.clone(), at_ns), float(&row[1]));
        }
    }
    found
}

/// The numbers of a range query by host and bucket; windows end `shift_ns` before the bucket does.
fn by_promql(database: &Database, text: &str, shift_ns: i64) -> BTreeMap<(String, i64), f64> {
    let (start_ns, end_ns) = (START_NS + WIDTH_NS - shift_ns, START_NS + HOURS * HOUR_NS - shift_ns);
    let answer = database.promql_range(text, start_ns, end_ns, WIDTH_NS).unwrap();
    assert_eq!(answer.infos, Vec::<String>::new(), "{text} is exact");
    let QueryValue::Matrix(series) = answer.value else { panic!("{text} gives no matrix") };
    let mut found = BTreeMap::new();
    for one in &series {
        for (ts_ns, sample) in &one.points {
            let Sample::Float(value) = sample else { panic!("{text} gives histograms") };
            found.insert((one.labels.get("host").to_owned(), ts_ns + shift_ns - WIDTH_NS), *value);
        }
    }
    found
}

fn verify_both(database: &Database, rows: &Rows, shift_ns: i64) {
    let mut counts: BTreeMap<(String, i64), f64> = BTreeMap::new();
    for (host, rows) in rows {
        for (at_ns, ..) in rows {
            *counts.entry((host.clone(), at_ns / WIDTH_NS * WIDTH_NS)).or_default() += 1.0;
        }
    }
    assert_eq!(by_select(database, "count(v)"), counts);
    assert_eq!(by_select(database, "count(s)"), counts, "of texts, of which cells keep nothing else");
    for (column, text) in [
        ("count(v)", "count_over_time(m_v[5m])"),
        ("sum(v)", "sum_over_time(m_v[5m])"),
        ("mean(v)", "avg_over_time(m_v[5m])"),
        ("min(v)", "min_over_time(m_v[5m])"),
        ("max(v)", "max_over_time(m_v[5m])"),
        ("first(v)", "first_over_time(m_v[5m])"),
        ("last(v)", "last_over_time(m_v[5m])"),
        ("p99(v)", "histogram_quantile(0.99, sum_over_time(m_v{__stat__=\"hist\"}[5m]))"),
    ] {
        let (left, right) = (by_select(database, column), by_promql(database, text, shift_ns));
        assert_eq!(
            left.keys().collect::<Vec<_>>(),
            right.keys().collect::<Vec<_>>(),
            "{column} and {text} have the same points"
        );
        for (key, found) in &left {
            let near = (found - right[key]).abs() <= 1e-9 * found.abs().max(1.0);
            assert!(near, "{column} of {key:?} is {found}, {text} says {}", right[key]);
        }
    }
}

#[test]
fn select_and_promql_agree_on_the_same_rows() {
    for seed in [1, 20_260_101, 0xfeed] {
        let dir = tempfile::tempdir().unwrap();
        let edgy = rows(seed, true);
        let database = open(dir.path(), &edgy);
        verify_both(&database, &edgy, 1);
        database.seal().unwrap();
        verify_both(&database, &edgy, 1);
        database.close().unwrap();

        let dir = tempfile::tempdir().unwrap();
        let plain = rows(seed, false);
        let database = open(dir.path(), &plain);
        verify_both(&database, &plain, 1);
        database.seal().unwrap();
        verify_both(&database, &plain, 0);
        drop_raw(&database);
        verify_both(&database, &plain, 0);
        database.close().unwrap();
    }
}

#[test]
fn cells_without_first_and_last_are_grouped_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(3, false);
    let mut config = Config::default();
    config.options.cells = vec![icecore::config::parse_cell_rule("m.v=dist").unwrap()];
    let database = open_with(dir.path(), &rows, config);
    let columns = ["count(v)", "mean(v)", "max(v)", "p99(v)"];
    let before = columns.map(|column| by_select(&database, column));
    database.seal().unwrap();
    drop_raw(&database);
    for (column, before) in columns.into_iter().zip(before) {
        let after = by_select(&database, column);
        assert!(!after.is_empty() && after.keys().eq(before.keys()), "{column}");
        for (key, found) in &after {
            assert!((found - before[key]).abs() <= 1e-9 * found.abs(), "{column} of {key:?}");
        }
    }
    let text = format!("SELECT first(v) FROM m WHERE time >= {START_NS} GROUP BY time(5m)");
    let error = database.select(&text).unwrap_err().to_string();
    assert!(error.contains("\"v\" of m") && error.contains("not first and last"), "{error}");
    database.close().unwrap();
}

/// One row of a SELECT without GROUP BY that must be exact.
fn one_row(database: &Database, text: &str) -> Vec<Cell> {
    let table = database.select(text).unwrap();
    assert_eq!(table.messages, Vec::<String>::new(), "{text}");
    assert_eq!((table.series.len(), table.series[0].rows.len()), (1, 1), "{text}: {table:?}");
    table.series[0].rows[0].clone()
}

#[test]
fn select_over_all_time_is_exact_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(7, false);
    let database = open(dir.path(), &rows);
    let all: Vec<(i64, f64, i64)> = rows.values().flatten().copied().collect();
    let ints = || all.iter().map(|(_, _, int)| *int);
    // Beyond the signed integers, and still exact.
    let sum: i128 = ints().map(i128::from).sum();
    let (min, max) = (ints().min().unwrap(), ints().max().unwrap());
    let first = all.iter().min_by_key(|(at_ns, _, int)| (*at_ns, -*int)).unwrap();
    let last = all.iter().max_by_key(|(at_ns, _, int)| (*at_ns, *int)).unwrap();
    let time_of = |wanted: i64| all.iter().filter(|row| row.2 == wanted).map(|row| row.0).min().unwrap();
    let verify = |has_raw: bool| {
        let row =
            one_row(&database, "SELECT count(i), sum(i), min(i), max(i), first(i), last(i), count(s) FROM m");
        let count = Cell::Int(i64::try_from(all.len()).unwrap());
        let expected = [
            Cell::Time(0),
            count.clone(),
            u64::try_from(sum).map_or(Cell::Null, Cell::UInt),
            Cell::Int(min),
            Cell::Int(max),
            Cell::Int(first.2),
            Cell::Int(last.2),
            count,
        ];
        assert_eq!(row, expected);
        for (function, value) in [("min", min), ("max", max)] {
            let row = one_row(&database, &format!("SELECT {function}(i) FROM m"));
            let at_ns = if has_raw { time_of(value) } else { 0 };
            assert_eq!(row, [Cell::Time(at_ns), Cell::Int(value)]);
        }
        for (function, row) in [("first", first), ("last", last)] {
            let found = one_row(&database, &format!("SELECT {function}(i) FROM m"));
            assert_eq!(found, [Cell::Time(row.0), Cell::Int(row.2)]);
        }
    };
    verify(true);
    let table =
        database.select("SELECT v FROM m WHERE host = 'a' ORDER BY time DESC LIMIT 2 OFFSET 1").unwrap();
    let mut newest = rows["a"].iter().rev().skip(1).take(2);
    for row in &table.series[0].rows {
        let (at_ns, value, _) = newest.next().unwrap();
        assert_eq!(*row, [Cell::Time(*at_ns), Cell::Float(*value)]);
    }
    let quoted = one_row(&database, "SELECT count(v) FROM m WHERE host = 'b \"ü\\' x\\\\y'");
    assert_eq!(float(&quoted[1]), rows[HOSTS[1]].len() as f64);
    database.seal().unwrap();
    verify(true);
    drop_raw(&database);
    verify(false);
    database.close().unwrap();
}

/// The fenced blocks of a language in the page, statements by lines.
fn examples(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(name) => is_inside = name == language,
            None if is_inside && !line.trim().is_empty() => found.push(line.to_owned()),
            None => {}
        }
    }
    found
}

#[test]
fn examples_of_the_page_run_and_answer() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/query.md");
    let page = std::fs::read_to_string(page).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let lines = examples(&page, "text");
    let now_ns = database.now_ns();
    let mut body = String::new();
    for step in 0..720 {
        for line in &lines {
            body.push_str(&format!("{line} {}\n", now_ns - step * 10 * SECOND_NS));
        }
    }
    database.write_lines(body.as_bytes(), Precision::Ns).unwrap();
    let (promql, select) = (examples(&page, "promql"), examples(&page, "sql"));
    assert!(lines.len() == 2 && promql.len() > 8 && select.len() > 8, "the page has examples");
    for text in &promql {
        let answer = database.promql(text, now_ns).unwrap_or_else(|error| panic!("{text}: {error}"));
        match answer.value {
            QueryValue::Vector(samples) => assert!(!samples.is_empty(), "{text} is empty"),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in &select {
        let table = database.select(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(table.series.iter().any(|series| !series.rows.is_empty()), "{text} is empty");
    }
}
