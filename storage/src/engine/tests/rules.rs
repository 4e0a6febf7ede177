//! Rules of retention: what a rule hides is hidden of its series alone, sums stay what they were, and nothing hidden
//! comes back, whatever is written, deleted, rolled, changed or cut off meanwhile.

use super::world::windows;
use super::*;
use crate::clock::Clock as _;
use crate::fs::sim::Fault;
use crate::rules::{Rule, RuleOp, RuleTest};

fn rule(host: &str, retention: Retention) -> Rule {
    Rule::new("cpu", vec![RuleTest::new("host", RuleOp::Equal, host).unwrap()], retention).unwrap()
}

const LONG: Retention = Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER };

fn raw_hours(count: u64) -> Retention {
    Retention { raw: hours(count), ..Retention::FOREVER }
}

/// Two hours of hosts `a` and `b`, ten hours ago, rolled up; a row of now keeps the clock believable.
fn two_hosts() -> Rig {
    two_hosts_every(10)
}

fn two_hosts_every(seconds: i64) -> Rig {
    let mut rig = Rig::new(LONG);
    for host in ["a", "b"] {
        let rows = two_hours_every(seconds).into_iter();
        let rows: Vec<_> = rows.map(|(_, ts_ns, value)| (host, ts_ns, value)).collect();
        rig.write(&rows);
    }
    rig.engine.flush().unwrap();
    rig.clock.advance(10 * HOUR_NS);
    pass(&mut rig);
    rig
}

fn pass(rig: &mut Rig) {
    rig.clock.advance(MINUTE_NS);
    rig.engine.maintain().unwrap();
}

fn count(rig: &Rig, host: &str) -> usize {
    rig.read().keys().filter(|(found, _)| found == host).count()
}

fn ten_minutes() -> Vec<Window> {
    windows_of(START_NS, 10 * MINUTE_NS, 12)
}

fn of_host(rig: &Rig, host: &str, asked: &[Window]) -> (Vec<Partial>, crate::scan::Coverage) {
    windows(&rig.engine, ("cpu", host, "usage"), asked, Bounds::RightOpen)
}

fn all_same(left: &[Partial], right: &[Partial]) {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).for_each(|(left, right)| same(left, right));
}

#[test]
fn rule_hides_raw_of_its_series_alone_and_sums_stay() {
    let mut rig = two_hosts();
    let before = of_host(&rig, "a", &ten_minutes()).0;
    let odd = windows_of(START_NS + 7 * SECOND_NS, 17 * MINUTE_NS, 6);
    let odd_before = of_host(&rig, "b", &odd).0;
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(6))]).unwrap();
    pass(&mut rig);
    assert_eq!((count(&rig, "a"), count(&rig, "b")), (0, 720));
    assert_eq!(rig.engine.stats().segments[0], 2, "the files are those of b, too");
    for _ in 0..2 {
        let (after, coverage) = of_host(&rig, "a", &ten_minutes());
        all_same(&before, &after);
        assert_eq!(coverage.rounded, None);
        assert_eq!(of_host(&rig, "a", &odd).1.rounded, Some(Tier::M1));
        let (odd_after, coverage) = of_host(&rig, "b", &odd);
        all_same(&odd_before, &odd_after);
        assert_eq!(coverage.rounded, None);
        rig.reopen_after_crash(5);
    }
    assert_eq!(rig.write(&[("a", START_NS + 5, 1.0)]).rejected.len(), 1, "older than raw is kept of it");
    assert_eq!(rig.write(&[("a", rig.clock.now_ns() - HOUR_NS, 1.0)]).accepted, 1);
    rig.clock.advance(60 * HOUR_NS);
    rig.write(&[("b", rig.clock.now_ns(), 1.0)]);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!((rig.engine.stats().segments[0], count(&rig, "b")), (0, 1));
    all_same(&before, &of_host(&rig, "a", &ten_minutes()).0);
}

#[test]
fn late_row_of_a_longer_class_leaves_the_answers_of_the_shorter() {
    let mut rig = two_hosts();
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(6))]).unwrap();
    pass(&mut rig);
    let before = [of_host(&rig, "a", &ten_minutes()).0, of_host(&rig, "b", &ten_minutes()).0];
    let odd = [Window { start_ns: START_NS + SECOND_NS, end_ns: START_NS + 5 * MINUTE_NS }];
    assert_eq!(rig.write(&[("b", START_NS + 5 * SECOND_NS, 1000.0)]).accepted, 1);
    // In the memtable, in a segment that no cell covers, and rolled again, from rows that are hidden of `a`.
    for step in 0..3 {
        all_same(&before[0], &of_host(&rig, "a", &ten_minutes()).0);
        assert_eq!(
            (count(&rig, "a"), of_host(&rig, "a", &odd).1.rounded),
            (0, Some(Tier::M1)),
            "step {step}"
        );
        let partials = of_host(&rig, "b", &ten_minutes()).0;
        let numbers = partials[0].numbers().unwrap();
        assert_eq!((numbers.count, numbers.max), (61, 1000.0));
        match step {
            0 => rig.engine.flush().unwrap(),
            _ => rig.engine.seal().unwrap(),
        }
    }
    assert_eq!(of_host(&rig, "b", &ten_minutes()).1.rows, 0, "rolled again");
    all_same(&before[1][1..], &of_host(&rig, "b", &ten_minutes()).0[1..]);
}

#[test]
fn delete_under_hidden_rows_takes_what_it_names_and_no_more() {
    let mut rig = two_hosts();
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(6))]).unwrap();
    pass(&mut rig);
    let before = of_host(&rig, "a", &ten_minutes()).0;
    let view = rig.engine.view();
    let measurement = view.schema("cpu").unwrap().measurement;
    let id = view.series(measurement, &[], TimeRange::ALL, 10).unwrap();
    let id = id.iter().find(|info| info.key.tag("host") == Some("a")).unwrap().id;
    drop(view);
    let range = TimeRange::new(START_NS + 10 * MINUTE_NS, START_NS + 12 * MINUTE_NS + 30 * SECOND_NS);
    rig.engine.delete(&[SeriesSet { measurement, series: Some(vec![id]) }], range).unwrap();
    for _ in 0..2 {
        let (after, _) = of_host(&rig, "a", &ten_minutes());
        assert_eq!(after[1].count(), 45, "15 of 60 rows are deleted");
        all_same(&before[2..], &after[2..]);
        assert_eq!((count(&rig, "a"), count(&rig, "b")), (0, 720));
        pass(&mut rig);
    }
    assert_eq!(rig.engine.stats().tombstones, 0);
}

#[test]
fn rule_whose_tiers_are_all_past_hides_everything() {
    let mut rig = two_hosts();
    let short = Retention { raw: hours(1), m1: hours(2), m5: hours(3), h1: hours(11) };
    let before = of_host(&rig, "a", &ten_minutes()).0;
    rig.engine.set_rules(LONG, vec![rule("a", short)]).unwrap();
    pass(&mut rig);
    // Twelve hours have passed: one hour is gone from all tiers, of the other there are hours.
    let whole = windows_of(START_NS, HOUR_NS, 2);
    let (partials, _) = of_host(&rig, "a", &whole);
    assert_eq!([partials[0].count(), partials[1].count()], [0, 360]);
    assert_eq!(of_host(&rig, "a", &ten_minutes()[6..8]).1.rounded, Some(Tier::H1));
    assert_eq!(of_host(&rig, "b", &whole).0[0].count(), 360);
    all_same(&before, &of_host(&rig, "b", &ten_minutes()).0);
    rig.clock.advance(HOUR_NS);
    pass(&mut rig);
    assert_eq!(of_host(&rig, "a", &whole).0.len(), 0);
}

#[test]
fn changed_rules_bring_nothing_back() {
    let mut rig = two_hosts();
    let before = of_host(&rig, "a", &ten_minutes()).0;
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(11))]).unwrap();
    pass(&mut rig);
    assert_eq!((count(&rig, "a"), count(&rig, "b")), (360, 720), "an hour of two");
    for rules in [vec![], vec![rule("b", raw_hours(40))], vec![rule("a", raw_hours(40)), rule("b", LONG)]] {
        rig.engine.set_rules(LONG, rules.clone()).unwrap();
        pass(&mut rig);
        assert_eq!((count(&rig, "a"), count(&rig, "b"), rig.engine.rules()), (360, 720, rules));
        rig.reopen_after_crash(11);
        assert_eq!((count(&rig, "a"), count(&rig, "b")), (360, 720));
        all_same(&before, &of_host(&rig, "a", &ten_minutes()).0);
    }
    assert_eq!(rig.write(&[("a", START_NS + 5, 1.0)]).accepted, 0);
    // All at once: the rest goes when the hour is past, and with the files what hid them.
    rig.engine.set_rules(raw_hours(3), vec![]).unwrap();
    rig.write(&[("b", rig.clock.now_ns(), 1.0)]);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!((count(&rig, "a"), count(&rig, "b")), (0, 1));
    assert!(rig.engine.store.manifest().rule_sets.is_empty());
}

#[test]
fn raw_of_a_rule_is_seen_until_its_cells_are_committed() {
    let mut rig = Rig::new(LONG);
    rig.write(&two_hours());
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(1))]).unwrap();
    rig.clock.advance(4 * HOUR_NS);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(count(&rig, "a"), 720, "in the memtable");
    rig.engine.flush().unwrap();
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(count(&rig, "a"), 720, "in no cell");
    pass(&mut rig);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(count(&rig, "a"), 0);
}

#[test]
fn clock_that_jumps_hides_nothing() {
    let mut rig = two_hosts();
    rig.engine.set_rules(LONG, vec![rule("a", raw_hours(20))]).unwrap();
    rig.clock.advance(30 * HOUR_NS);
    pass(&mut rig);
    assert_eq!(count(&rig, "a"), 720, "a day past the newest sample");
    rig.write(&[("b", rig.clock.now_ns(), 1.0)]);
    pass(&mut rig);
    assert_eq!(count(&rig, "a"), 0);
}

/// Rules are changed and heeded while an operation of the disk fails; then the machine stops, at once or after what
/// failed was repeated, as a server does that goes on.
fn change_failing_at(failing: Option<(u64, Fault)>, goes_on: bool) -> u64 {
    let mut rig = two_hosts_every(300);
    let before = of_host(&rig, "a", &ten_minutes()).0;
    let start = rig.fs.operations();
    if let Some((operation, fault)) = failing {
        rig.fs.fail_at(start + operation, fault);
    }
    let rules = vec![rule("a", raw_hours(11))];
    let is_set = rig.engine.set_rules(LONG, rules.clone()).is_ok();
    rig.clock.advance(MINUTE_NS);
    let is_done = is_set && rig.engine.maintain().is_ok();
    let operations = rig.fs.operations() - start;
    let place = format!("{failing:?}, goes on: {goes_on}");
    if goes_on {
        assert_eq!(rig.engine.rules().len(), usize::from(is_set), "{place}");
        let a = count(&rig, "a");
        assert!(a == 12 || (a == 24 && !is_done), "{place}: {a} rows");
        rig.engine.set_rules(LONG, rules).unwrap();
        pass(&mut rig);
        assert_eq!((count(&rig, "a"), count(&rig, "b")), (12, 24), "{place}");
    }
    let (is_set, is_done) = (is_set || goes_on, is_done || goes_on);
    rig.reopen_after_crash(failing.map_or(99, |(operation, _)| operation));
    let a = count(&rig, "a");
    assert!(a == 12 || (a == 24 && !is_done), "{place}: {a} rows");
    assert_eq!(count(&rig, "b"), 24, "{place}");
    all_same(&before, &of_host(&rig, "a", &ten_minutes()).0);
    assert!(!is_set || rig.engine.rules().len() == 1, "{place}");
    pass(&mut rig);
    if rig.engine.rules().len() == 1 {
        assert_eq!(count(&rig, "a"), 12, "{place}");
    }
    operations
}

#[test]
fn fault_at_every_operation_hides_all_or_nothing_of_an_hour() {
    let operations = change_failing_at(None, false);
    assert!(8 <= operations, "{operations}");
    for operation in 0..operations {
        for fault in Fault::ALL {
            change_failing_at(Some((operation, fault)), false);
            if fault != Fault::PowerCut {
                change_failing_at(Some((operation, fault)), true);
            }
        }
    }
}
