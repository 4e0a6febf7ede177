//! What is calculated from rows and aggregates, and answers of answers.

use super::*;
use crate::select::{Binding, Bindings, parse_bound};

#[test]
fn math_is_per_row_and_per_bucket() {
    check(
        "SELECT pow(load, 2) FROM cpu WHERE host = 'a'",
        &["cpu{}: time pow", "0s 1.0", "60s 9.0", "120s 4.0"],
    );
    check(
        "SELECT abs(count - 25) + 1 AS far FROM cpu WHERE host = 'a' LIMIT 1",
        &["cpu{}: time far", "0s 16i"],
    );
    check(
        "SELECT round(mean(load)), sqrt(max(count)) FROM cpu WHERE time >= '2026-01-01' AND time < '2026-01-01T00:02:00Z' \
         GROUP BY time(1m)",
        &["cpu{}: time round sqrt", "0s 6.0 3.1622776601683795", "60s 17.0 4.47213595499958"],
    );
    check("SELECT load FROM cpu WHERE sqrt(load) > 5", &["cpu{}: time load", "90s 30.0"]);
}

#[test]
fn transformations_go_over_rows_and_buckets() {
    check(
        "SELECT derivative(load) FROM cpu WHERE host = 'a'",
        &["cpu{}: time derivative", "60s 0.03333333333333333", "120s -0.016666666666666666"],
    );
    check(
        "SELECT non_negative_derivative(load, 1m) FROM cpu WHERE host = 'a'",
        &["cpu{}: time non_negative_derivative", "60s 2.0"],
    );
    check(
        "SELECT difference(count), elapsed(count, 1s) FROM cpu WHERE host = 'a'",
        &["cpu{}: time difference elapsed", "60s 10i 60i", "120s 10i 60i"],
    );
    check(
        "SELECT moving_average(load, 2), load FROM cpu WHERE host = 'a'",
        &["cpu{}: time moving_average load", "0s - 1.0", "60s 2.0 3.0", "120s 2.5 2.0"],
    );
    check(
        "SELECT cumulative_sum(count) * 2 FROM cpu GROUP BY host",
        &["cpu{host=a}: time cumulative_sum", "0s 20i", "60s 60i", "120s 120i"],
    );
    let bounds = "WHERE time >= '2026-01-01T00:01:00Z' AND time < '2026-01-01T00:03:00Z'";
    // The bucket before the range has a say in the first one, and is not shown.
    check(
        &format!("SELECT difference(max(load)) FROM cpu {bounds} GROUP BY time(1m)"),
        &["cpu{}: time difference", "60s 20.0", "120s -10.0"],
    );
    check(
        &format!(
            "SELECT derivative(max(load)), max(load) AS top FROM cpu {bounds} GROUP BY time(1m) ORDER BY time DESC LIMIT 1"
        ),
        &["cpu{}: time derivative top", "120s -10.0 20.0"],
    );
    check(
        "SELECT difference(/^co|lo/) FROM cpu WHERE host = 'a' LIMIT 1",
        &["cpu{}: time difference_count difference_load", "60s 10i 2.0"],
    );
    check_error("SELECT derivative(mean(load)) FROM cpu", ErrorKind::InvalidInput, "needs GROUP BY time()");
    check_error("SELECT difference(msg) FROM log", ErrorKind::InvalidInput, "not for field");
    check_error("SELECT moving_average(load, 1) FROM cpu", ErrorKind::InvalidInput, "takes 2 to");
}

#[test]
fn several_rows_are_picked() {
    check("SELECT top(load, 2) FROM cpu", &["cpu{}: time top", "90s 30.0", "150s 20.0"]);
    check("SELECT bottom(load, 2), zone FROM cpu", &["cpu{}: time bottom zone", "0s 1.0 x", "120s 2.0 x"]);
    check("SELECT top(load, host, 5) FROM cpu", &["cpu{}: time top host", "60s 3.0 a", "90s 30.0 b"]);
    let sampled = print(&run("SELECT sample(load, 3) FROM cpu").unwrap());
    assert_eq!(sampled.lines().count(), 4, "{sampled}");
    assert_eq!(sampled, print(&run("SELECT sample(load, 3) FROM cpu").unwrap()));
    check_error("SELECT top(load, 2), mean(load) FROM cpu", ErrorKind::InvalidInput, "stand alone");
    check_error("SELECT top(load) FROM cpu", ErrorKind::InvalidInput, "number of rows above zero");
}

#[test]
fn rows_in_order_give_areas_and_covered_time() {
    check("SELECT integral(load, 1m) FROM cpu WHERE host = 'a'", &["cpu{}: time integral", "epoch 4.5"]);
    check(
        "SELECT integral(load, 1m) FROM cpu WHERE host = 'b' AND time >= '2026-01-01' AND time < '2026-01-01T00:03:00Z' GROUP BY time(1m)",
        &["cpu{}: time integral", "0s 7.5", "60s 26.25", "120s 11.25"],
    );
    let range = "time >= '2026-01-01' AND time < '2026-01-01T00:05:00Z'";
    // b is up from 30 s on, says down at 90 s, is up at 150 s again, each for a minute at most.
    check(&format!("SELECT uptime(up, 1m) FROM cpu WHERE {range}"), &["cpu{}: time uptime", "0s 0.4"]);
    check(
        &format!("SELECT downtime(up, 2m) FROM cpu WHERE {range} GROUP BY time(150s)"),
        &["cpu{}: time downtime", "0s 90.0", "150s 30.0"],
    );
    check_error("SELECT uptime(up, 1m) FROM cpu", ErrorKind::InvalidInput, "need a start");
    check_error("SELECT uptime(up) FROM cpu", ErrorKind::InvalidInput, "good for");
}

#[test]
fn shares_come_from_histograms() {
    check(
        "SELECT fraction_le(load, 5), error_rate(up), apdex(load, 4) FROM cpu",
        &["cpu{}: time fraction_le error_rate apdex", "epoch 0.5 0.6666666666666667 0.5833333333333333"],
    );
    check(
        "SELECT fraction_le(load, 0), fraction_le(load, 30) FROM cpu",
        &["cpu{}: time fraction_le fraction_le_1", "epoch 0.0 1.0"],
    );
}

#[test]
fn having_and_order_speak_of_columns() {
    check("SELECT max(load) FROM cpu GROUP BY host HAVING max > 5", &["cpu{host=b}: time max", "90s 30.0"]);
    check(
        "SELECT sum(count) AS total FROM cpu GROUP BY host HAVING total >= 60 AND total < 61",
        &["cpu{host=a}: time total", "epoch 60i"],
    );
    check("SELECT load FROM cpu ORDER BY load DESC LIMIT 2", &["cpu{}: time load", "90s 30.0", "150s 20.0"]);
    check(
        "SELECT mean(load) FROM cpu GROUP BY host ORDER BY mean DESC SLIMIT 1",
        &["cpu{host=b}: time mean", "epoch 20.0"],
    );
    check_error("SELECT load FROM cpu ORDER BY nothing", ErrorKind::InvalidInput, "no such column");
    check_error("SELECT max(load) FROM cpu HAVING min > 1", ErrorKind::InvalidInput, "HAVING min");
}

#[test]
fn like_is_a_pattern_of_the_whole_text() {
    check("SELECT msg FROM log WHERE msg LIKE 'h%' LIMIT 1", &["log{}: time msg", "0s hello"]);
    check("SELECT msg FROM log WHERE msg NOT LIKE 'h_llo'", &["log{}: time msg", "10s bye"]);
    check("SELECT msg FROM log WHERE msg LIKE 'ell'", &[]);
    check("SELECT load FROM cpu WHERE host LIKE 'a' LIMIT 1", &["cpu{}: time load", "0s 1.0"]);
}

#[test]
fn subqueries_are_read_like_measurements() {
    check(
        "SELECT max(mean) FROM (SELECT mean(load) FROM cpu GROUP BY host)",
        &["cpu{}: time max", "epoch 20.0"],
    );
    // The tags and the times of the statement outside reach inside.
    check(
        "SELECT sum(x) FROM (SELECT load AS x FROM cpu) WHERE time < '2026-01-01T00:01:10Z' GROUP BY host",
        &["cpu{host=a}: time sum", "epoch 4.0", "cpu{host=b}: time sum", "epoch 10.0"],
    );
    check(
        "SELECT mean(total) * 2 FROM (SELECT sum(load) AS total FROM cpu WHERE time >= '2026-01-01' AND time < '2026-01-01T00:03:00Z' \
         GROUP BY time(1m), host) GROUP BY host",
        &["cpu{host=a}: time mean", "epoch 4.0", "cpu{host=b}: time mean", "epoch 40.0"],
    );
    check(
        "SELECT difference(m) FROM (SELECT max(m) AS m FROM (SELECT mean(load) AS m FROM cpu GROUP BY time(1m), host) \
         WHERE time >= '2026-01-01' AND time < '2026-01-01T00:03:00Z' GROUP BY time(1m))",
        &["cpu{}: time difference", "60s 20.0", "120s -10.0"],
    );
    check(
        "SELECT msg, n FROM (SELECT count(user) AS n, last(msg) AS msg FROM log) WHERE msg = 'hello'",
        &["log{}: time msg n", "epoch hello 3i"],
    );
    check("SELECT x FROM (SELECT load AS x FROM nothing)", &[]);
    check_error(
        "SELECT x FROM (SELECT load AS x FROM cpu), cpu",
        ErrorKind::Unsupported,
        "beside measurements",
    );
    let deep = (0..9).fold("cpu".to_owned(), |inner, _| format!("(SELECT load FROM {inner})"));
    check_error(&format!("SELECT load FROM {deep}"), ErrorKind::InvalidInput, "nested deeper");
    check_error("DELETE FROM (SELECT load FROM cpu)", ErrorKind::InvalidInput, "not a subquery");
}

#[test]
fn bound_parameters_are_one_token_each() {
    let bindings: Bindings = [
        ("host", Binding::Text("a' OR host = 'b".to_owned())),
        ("low", Binding::Integer(-1)),
        ("least", Binding::Integer(i64::MIN)),
        ("long", Binding::Text("x".repeat(60_000))),
        ("every", Binding::Duration("1h".to_owned())),
        ("what", Binding::Identifier("load".to_owned())),
        ("like", Binding::Regex("^a$".to_owned())),
        ("bad", Binding::Duration("1h; DROP MEASUREMENT cpu".to_owned())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let ask = |text: &str| {
        let scan = scan();
        let budget = Budget::untimed(Limits::default());
        let context = Context { scan: &scan, budget: &budget, now_ns: at(300), resolution: Resolution::Auto };
        let statements = parse_bound(text, &bindings)?;
        execute(&context, statements.first().unwrap()).map(|table| print(&table))
    };
    assert_eq!(ask("SELECT load FROM cpu WHERE host = $host").unwrap(), "");
    let found = ask(
        "SELECT max($what) FROM cpu WHERE host =~ $like AND load > $low AND time >= 0 GROUP BY time($every) fill(none)",
    );
    assert_eq!(found.unwrap(), "cpu{}: time max\n0s 3.0");
    for (text, part) in [
        ("SELECT load FROM cpu WHERE host = $nobody", "1:35: parse error: parameter $nobody has no value"),
        ("SELECT max(load) FROM cpu GROUP BY time($bad)", "is no duration"),
        ("SELECT load FROM cpu WHERE host = '$nobody' AND load > $", "unexpected character"),
        ("SELECT load FROM cpu LIMIT $low", "a whole number after LIMIT"),
        (
            &format!("SELECT load FROM cpu WHERE host IN ({}$long)", "$long,".repeat(20)),
            "more than 1048576 bytes",
        ),
    ] {
        assert!(ask(text).unwrap_err().to_string().contains(part), "{text}: {:?}", ask(text));
    }
}

#[test]
fn cardinality_counts_what_is_listed() {
    check("SHOW SERIES CARDINALITY", &["{}: cardinality estimation", "3i"]);
    check("SHOW SERIES EXACT CARDINALITY", &["cpu{}: count", "2i", "log{}: count", "1i"]);
    check("SHOW SERIES EXACT CARDINALITY FROM cpu WHERE host = 'a'", &["cpu{}: count", "1i"]);
    check("SHOW MEASUREMENT EXACT CARDINALITY", &["{}: count", "2i"]);
    check("SHOW TAG KEY CARDINALITY FROM cpu", &["cpu{}: count", "2i"]);
    check("SHOW TAG VALUES CARDINALITY WITH KEY = host", &["cpu{}: count", "2i"]);
    check("SHOW FIELD KEY CARDINALITY FROM log", &["log{}: count", "3i"]);
}

#[test]
fn explain_says_how_a_statement_is_read() {
    let plan =
        print(&run("EXPLAIN SELECT mean(load) FROM cpu WHERE host = 'a' AND time > '2026-01-01'").unwrap());
    assert!(
        plan.contains("measurement cpu: 1 series from 2026-01-01T00:00:00.000000001Z, from cells"),
        "{plan}"
    );
    let plan = print(&run("EXPLAIN ANALYZE SELECT mode(load) FROM cpu").unwrap());
    assert!(
        plan.contains("2 series of all time, from raw rows") && plan.contains("answer: 1 series, 1 rows"),
        "{plan}"
    );
}

#[test]
fn buckets_follow_the_clocks_of_a_zone() {
    let mut scan = TestScan::default();
    // Around the changes of 2025 in Berlin: 30 March (23 hours) and 26 October (25 hours).
    for day in [
        "2025-03-29T23:30:00Z",
        "2025-03-30T21:30:00Z",
        "2025-03-30T22:30:00Z",
        "2025-10-25T22:30:00Z",
        "2025-10-26T22:30:00Z",
        "2025-10-26T23:30:00Z",
    ] {
        let at: jiff::Timestamp = day.parse().unwrap();
        scan.push("m", &[], i64::try_from(at.as_nanosecond()).unwrap(), &[("v", Value::Float(1.0))]);
    }
    let hours = |text: &str| {
        let table = run_on(&scan, Limits::default(), text).unwrap();
        let times = table.series.iter().flat_map(|series| &series.rows).map(|row| match row[..] {
            [Cell::Time(ts_ns), ..] => {
                jiff::Timestamp::from_nanosecond(i128::from(ts_ns)).unwrap().to_string()
            }
            _ => panic!("{row:?}"),
        });
        times.collect::<Vec<_>>()
    };
    assert_eq!(
        hours(
            "SELECT sum(v) FROM m WHERE time < '2025-12-01' GROUP BY time(1d) fill(none) tz('Europe/Berlin')"
        ),
        ["2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z", "2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"]
    );
    // Texts of times are of the zone: the second of these days begins at 23:00 UTC the day before.
    let range = "time >= '2025-10-26' AND time < '2025-10-28'";
    assert_eq!(
        hours(&format!("SELECT count(v) FROM m WHERE {range} GROUP BY time(1d) tz('Europe/Berlin')")),
        ["2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"]
    );
    // Hours are hours, and quarters of a day begin at six o'clock on either side of a change.
    let filled =
        hours(&format!("SELECT count(v) FROM m WHERE {range} GROUP BY time(1h) tz('Europe/Berlin')"));
    assert_eq!((filled.len(), filled[3].as_str()), (49, "2025-10-26T01:00:00Z"));
    let quarters =
        hours(&format!("SELECT count(v) FROM m WHERE {range} GROUP BY time(6h) tz('Europe/Berlin')"));
    assert_eq!(quarters[..3], ["2025-10-25T22:00:00Z", "2025-10-26T05:00:00Z", "2025-10-26T11:00:00Z"]);
    check_error("SELECT load FROM cpu tz('Nowhere/Town')", ErrorKind::InvalidInput, "is no time zone");
}

/// Each of these once took memory or time that nobody had asked the budget for.
#[test]
fn statements_that_ask_for_much_are_refused_early() {
    let refused = |text: &str| {
        let limits = Limits { memory_bytes_max: 8 << 20, ..Limits::default() };
        let error = run_on(&scan(), limits, text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{text}: {error}");
    };
    let range = "time >= '2026-01-01' AND time < '2026-01-01T00:04:00Z'";
    refused(&format!("SELECT uptime(up, 1m) FROM cpu WHERE {range} GROUP BY time(1ms) fill(none) LIMIT 1"));
    refused("SELECT max(uptime) FROM (SELECT uptime(up, 1m) FROM cpu WHERE time >= 0 GROUP BY time(1u))");
    refused(&format!("SELECT integral(load) FROM cpu WHERE {range} GROUP BY time(1u)"));
    refused(&format!("SELECT {}load FROM cpu", "load,".repeat(10_000)));
    let wide: Vec<String> = (0..600).map(|n| format!("(SELECT load AS a{n} FROM cpu)")).collect();
    refused(&format!("SELECT count(a1) FROM {}", wide.join(",")));
    let text = format!("SELECT {}load FROM cpu LIMIT 1", "load,".repeat(3_000));
    let columns = run(&text).unwrap().series.remove(0).columns;
    assert_eq!((columns.len(), columns[3_001].as_str()), (3_002, "load_3000"));
    check_error("SELECT top(load, host, host, 2) FROM cpu", ErrorKind::InvalidInput, "each tag once");
}

/// The time to come has more buckets here than anybody can count.
#[test]
fn covered_time_ends_with_the_present() {
    let range = "time >= '2026-01-01T00:04:00Z' AND time < '2262-01-01'";
    check(
        &format!("SELECT uptime(up, 3m) FROM cpu WHERE {range} GROUP BY time(30s) fill(none)"),
        &["cpu{}: time uptime", "240s 1.0", "270s 1.0"],
    );
    check(&format!("SELECT downtime(up, 2m) FROM cpu WHERE {range}"), &["cpu{}: time downtime", "240s 30.0"]);
    let table = run(&format!("SELECT uptime(up, 3m) FROM cpu WHERE {range} GROUP BY time(1ms) fill(none)"));
    assert_eq!(table.unwrap().series[0].rows.len(), 60_000);
}

#[test]
fn wide_ranges_do_not_overflow() {
    for text in [
        "SELECT uptime(up, 1m) FROM cpu WHERE time >= '1677-09-22'",
        "SELECT downtime(up, 1m) FROM cpu WHERE time >= '1677-09-22' AND time < '2262-01-01'",
    ] {
        let table = run(text).unwrap();
        let [Cell::Time(_), Cell::Float(value)] = table.series[0].rows[0][..] else { panic!("{table:?}") };
        assert!(0.0 < value, "{text}: {value}");
    }
    let mut scan = TestScan::default();
    scan.push("m", &[], -9_200_000_000 * SECOND_NS, &[("v", Value::Float(1.0))]);
    scan.push("m", &[], at(0), &[("v", Value::Float(2.0))]);
    check_on(&scan, "SELECT integral(v, 1w) FROM m", &["m{}: time integral", "epoch 27200.460317460318"]);
}

#[test]
fn subqueries_begin_as_early_as_the_statement_outside_looks_back() {
    let range = "time >= '2026-01-01T00:01:00Z' AND time < '2026-01-01T00:02:00Z'";
    for (inner, text) in [
        (
            "(SELECT load FROM cpu)",
            "SELECT difference(max(load)) FROM FROM_HERE WHERE RANGE GROUP BY time(1m)",
        ),
        ("(SELECT up FROM cpu)", "SELECT uptime(up, 45s) FROM FROM_HERE WHERE RANGE"),
    ] {
        let ask = |from: &str| print(&run(&text.replace("FROM_HERE", from).replace("RANGE", range)).unwrap());
        assert_eq!(ask(inner), ask("cpu"), "{text}");
        assert!(!ask("cpu").is_empty());
    }
}

#[test]
fn having_finds_the_function_that_it_names() {
    check(
        "SELECT percentile(load, 1), percentile(load, 99) FROM cpu WHERE host = 'a' HAVING percentile(load, 99) > 2.5",
        &["cpu{}: time percentile percentile_1", "epoch 1.0 3.0"],
    );
    check("SELECT abs(max(load)) FROM cpu HAVING abs(max(load)) > 40", &[]);
    check_error("SELECT load FROM cpu HAVING time > '2026-01-01'", ErrorKind::InvalidInput, "stand in WHERE");
}

#[test]
fn what_cannot_be_calculated_is_refused_and_not_empty() {
    let invalid = ErrorKind::InvalidInput;
    check_error("SELECT derivative(abs(derivative(load))) FROM cpu", invalid, "not a calculation");
    check_error("SELECT mean(*) * 2 FROM cpu", invalid, "cannot be calculated with");
    check_error("SELECT pow(2, mean(*)) FROM cpu", invalid, "cannot be calculated with");
    check_error("SELECT load FROM db1..cpu, cpu", ErrorKind::Unsupported, "only some measurements");
    check("SELECT abs(mean(/load/)) FROM cpu", &["cpu{}: time abs_load", "epoch 11.0"]);
    check("SELECT load FROM cpu WHERE time IN ('2026-01-01T00:01:00Z')", &["cpu{}: time load", "60s 3.0"]);
}

#[test]
fn texts_and_numbers_of_one_column_have_an_order() {
    let mut scan = TestScan::default();
    for (name, value) in [("y1", Value::Float(2.0)), ("y2", Value::from("t")), ("y3", Value::Int(1))] {
        scan.push(name, &[("host", "a")], at(0), &[("v", value)]);
    }
    let table = run_on(&scan, Limits::default(), "SELECT v FROM /y/ GROUP BY host ORDER BY v DESC").unwrap();
    let names: Vec<&str> = table.series.iter().map(|series| &*series.name).collect();
    assert_eq!(names, ["y2", "y1", "y3"]);
}

#[test]
fn shares_of_whole_numbers_are_exact() {
    check(
        "SELECT fraction_le(count, 20), apdex(count, 10) FROM cpu",
        &["cpu{}: time fraction_le apdex", "epoch 0.6666666666666666 0.6666666666666666"],
    );
}
