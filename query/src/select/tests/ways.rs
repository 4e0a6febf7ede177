//! Whichever way a statement is answered, the answer is the same. What `tests/it/query/optimised.rs` found.

use icecore_storage::model::Value;

use super::super::testing::TestScan;
use super::{at, check, check_error, check_on};
use crate::ErrorKind;

/// Two hosts that always write at one time, in this order.
fn together(hosts: [(&str, f64, bool); 2]) -> TestScan {
    let mut scan = TestScan::default();
    for (host, load, up) in hosts {
        for step in 0..3 {
            let fields = [("load", Value::Float(load)), ("up", Value::Bool(up))];
            scan.push("cpu", &[("host", host)], at(60 * step), &fields);
        }
    }
    scan
}

/// The area came from the series that was written first, and was up what the one that was written last said.
#[test]
fn rows_at_one_time_count_by_value_whichever_series_came_first() {
    let (small, large) = (("a", 1.0, false), ("b", 10.0, true));
    for hosts in [[small, large], [large, small]] {
        let scan = together(hosts);
        check_on(&scan, "SELECT integral(load, 1m) FROM cpu", &["cpu{}: time integral", "epoch 20.0"]);
        check_on(
            &scan,
            "SELECT uptime(up, 30s) FROM cpu WHERE time >= '2026-01-01' AND time < '2026-01-01T00:02:00Z'",
            &["cpu{}: time uptime", "0s 0.5"],
        );
    }
}

/// NaN stayed where it came first, or hid the number of the other series; an older number hid a newer NaN.
#[test]
fn numbers_come_before_nan_at_one_time_and_only_there() {
    let (none, number) = (("a", f64::NAN, false), ("b", -10.0, true));
    for hosts in [[none, number], [number, none]] {
        let scan = together(hosts);
        check_on(&scan, "SELECT integral(load, 1m) FROM cpu", &["cpu{}: time integral", "epoch -20.0"]);
        // Of partials, of rows, and the row itself.
        for condition in ["", " WHERE up = true OR up = false"] {
            check_on(
                &scan,
                &format!("SELECT first(load), last(load) FROM cpu{condition}"),
                &["cpu{}: time first last", "epoch -10.0 -10.0"],
            );
            let text = format!("SELECT last(load), host FROM cpu{condition}");
            check_on(&scan, &text, &["cpu{}: time last host", "120s -10.0 b"]);
            let text = format!("SELECT first(load) FROM cpu{condition}");
            check_on(&scan, &text, &["cpu{}: time first", "0s -10.0"]);
        }
    }
    let mut scan = together([number, number]);
    scan.push(
        "cpu",
        &[("host", "a")],
        at(200),
        &[("load", Value::Float(f64::NAN)), ("up", Value::Bool(true))],
    );
    for condition in ["", " WHERE up = true"] {
        let text = format!("SELECT last(load) FROM cpu{condition}");
        check_on(&scan, &text, &["cpu{}: time last", "200s NaN"]);
        let text = format!("SELECT last(load), host FROM cpu{condition}");
        check_on(&scan, &text, &["cpu{}: time last host", "200s NaN a"]);
    }
}

/// Of partials it had the time at which the range begins.
#[test]
fn extreme_of_nothing_but_nan_has_the_time_of_its_row() {
    let mut scan = TestScan::default();
    for second in [7, 9] {
        scan.push("cpu", &[("host", "a")], at(second), &[("load", Value::Float(f64::NAN))]);
    }
    for condition in ["", "WHERE host = 'a'", "WHERE host = 'a' OR load > 1"] {
        let text = format!("SELECT max(load) FROM cpu {condition}");
        check_on(&scan, &text, &["cpu{}: time max", "7s NaN"]);
    }
}

/// `last` of rows was the larger, `last` of partials, and beside another call, what came last.
#[test]
fn first_and_last_of_a_subquery_are_the_larger_at_one_time() {
    let scan = together([("a", 7.0, true), ("b", 2.0, true)]);
    for (rows, condition) in [("load AS x", ""), ("top(load, 6) AS x", ""), ("load AS x", "WHERE x < 9")] {
        check_on(
            &scan,
            &format!("SELECT first(x), last(x) FROM (SELECT {rows} FROM cpu) {condition}"),
            &["cpu{}: time first last", "epoch 7.0 7.0"],
        );
    }
    let texts = "(SELECT distinct(msg) AS x FROM log)";
    for condition in ["", " WHERE x != 'no'"] {
        check(&format!("SELECT last(x) FROM {texts}{condition}"), &["log{}: time last", "epoch hello"]);
        check(&format!("SELECT first(x) FROM {texts}{condition}"), &["log{}: time first", "epoch hello"]);
    }
}

/// With a condition on rows the row was left out.
#[test]
fn deviation_of_one_value_is_a_row_without_a_value() {
    for condition in ["host = 'a' AND time < '2026-01-01T00:01:00Z'", "load < 2"] {
        check(&format!("SELECT stddev(load) FROM cpu WHERE {condition}"), &["cpu{}: time stddev", "epoch -"]);
    }
}

/// It was refused only where series were found.
#[test]
fn filling_beside_a_selector_is_refused_without_rows_too() {
    check_error(
        "SELECT last(load), zone FROM cpu WHERE host = 'nosuch' GROUP BY time(1m) fill(previous)",
        ErrorKind::Unsupported,
        "beside a selector",
    );
}

/// It was the row of the series that was written first.
#[test]
fn row_beside_a_selector_is_the_same_whichever_series_came_first() {
    let (one, other) = (("a", 1.0, false), ("b", 1.0, true));
    for hosts in [[one, other], [other, one]] {
        let scan = together(hosts);
        check_on(&scan, "SELECT max(load), host FROM cpu", &["cpu{}: time max host", "0s 1.0 a"]);
        check_on(&scan, "SELECT last(load), up FROM cpu", &["cpu{}: time last up", "120s 1.0 false"]);
        check_on(&scan, "SELECT top(load, 1), host FROM cpu", &["cpu{}: time top host", "0s 1.0 a"]);
        check_on(
            &scan,
            "SELECT bottom(load, zone, 1), host FROM cpu",
            &["cpu{}: time bottom zone host", "0s 1.0 - a"],
        );
    }
}

/// Rows of one time and series stood forwards in an answer that goes backwards.
#[test]
fn backwards_is_the_mirror_image() {
    let inner = "SELECT x FROM (SELECT distinct(msg) AS x FROM log)";
    check(inner, &["log{}: time x", "epoch bye", "epoch hello"]);
    let backwards = format!("{inner} ORDER BY time DESC");
    check(&backwards, &["log{}: time x", "epoch hello", "epoch bye"]);
    check(&format!("{backwards} LIMIT 1"), &["log{}: time x", "epoch hello"]);
    check(&format!("{backwards} LIMIT 1 OFFSET 1"), &["log{}: time x", "epoch bye"]);
}
