//! What is used again, what is kept, and what has to leave.

use std::sync::Arc;
use std::time::Duration;

use icecore_query::promql::{Labels, MatrixSeries, Sample};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::SimFs;
use icecore_storage::options::{Options, Retention};

use super::reuse::{Reuse, Span, cut, is_plain, joined, plan, to_keep};
use super::*;

const STEP_NS: i64 = 10;

fn span(first_ns: i64, last_ns: i64) -> Span {
    Span { first_ns, last_ns }
}

fn series(label: &str, times: &[i64]) -> MatrixSeries {
    let points = times.iter().map(|ts_ns| (*ts_ns, Sample::Float(*ts_ns as f64)));
    MatrixSeries { labels: Labels::new([("a", label)]), points: points.collect() }
}

#[test]
fn span_ends_with_the_last_step_and_has_neighbours() {
    assert_eq!(Span::of(3, 39, 10), Some(span(3, 33)));
    assert_eq!(Span::of(-7, -7, 10).unwrap().count(10), 1);
    assert_eq!(span(3, 33).count(10), 4);
    for (start_ns, end_ns) in
        [(5, 4), (i64::MIN, i64::MIN + 5), (i64::MAX - 5, i64::MAX), (i64::MIN, i64::MAX)]
    {
        assert_eq!(Span::of(start_ns, end_ns, 10), None, "{start_ns} to {end_ns}");
    }
}

#[test]
fn steps_hold_up_to_the_oldest_new_row_without_it() {
    let before = |end_ns| span(3, 33).before(end_ns, STEP_NS);
    assert_eq!(before(i64::MAX), Some(span(3, 33)));
    assert_eq!(before(34), Some(span(3, 33)));
    assert_eq!(before(33), Some(span(3, 23)), "a row at a step is seen by it");
    assert_eq!(before(4), Some(span(3, 3)));
    assert_eq!(before(3), None);
    assert_eq!(before(i64::MIN), None);
}

#[test]
fn steps_that_are_missing_lie_at_one_end() {
    let wanted = span(100, 200);
    let check = |kept, expected| assert_eq!(plan(wanted, kept, STEP_NS), expected, "{kept:?}");
    check(None, Reuse::Nothing);
    check(Some(span(0, 90)), Reuse::Nothing);
    check(Some(span(120, 150)), Reuse::Nothing);
    check(Some(span(100, 200)), Reuse::All);
    check(Some(span(0, 900)), Reuse::All);
    check(Some(span(0, 190)), Reuse::Part { found: span(100, 190), missing: span(200, 200) });
    check(Some(span(110, 300)), Reuse::Part { found: span(110, 200), missing: span(100, 100) });
}

#[test]
fn range_that_moves_on_leaves_its_past_and_a_short_one_keeps_the_long_one() {
    let check = |wanted, kept, expected| assert_eq!(to_keep(wanted, kept, STEP_NS), expected);
    check(span(100, 200), span(90, 190), span(100, 200));
    check(span(180, 200), span(90, 190), span(100, 200));
    check(span(80, 100), span(90, 190), span(80, 180));
    check(span(100, 200), span(150, 160), span(100, 200));
    // More than there is room for on one side: the rest comes from the other.
    check(span(100, 110), span(80, 200), span(80, 200));
}

#[test]
fn joined_series_come_by_labels_with_points_by_time() {
    let left = vec![series("a", &[10, 20]), series("c", &[20])];
    let right = vec![series("a", &[30]), series("b", &[30, 40])];
    let expected = vec![series("a", &[10, 20, 30]), series("b", &[30, 40]), series("c", &[20])];
    assert_eq!(joined(left.clone(), right.clone()), expected);
    assert_eq!(joined(right, left), expected);
    assert_eq!(cut(&expected, span(30, 40)), [series("a", &[30]), series("b", &[30, 40])]);
}

#[test]
fn equal_labels_are_not_plain() {
    assert!(is_plain(&[series("a", &[1]), series("b", &[1])]));
    assert!(!is_plain(&[series("a", &[1]), series("a", &[2])]));
}

fn seen() -> Seen {
    let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::new(ManualClock::new(0)) };
    let options = Options { free_bytes_min: 0, ..Options::default() };
    Engine::open(env, std::path::Path::new("/db"), options, Retention::FOREVER).unwrap().view_seen().1
}

fn key(text: &str) -> Key {
    let text = text.into();
    Key {
        database: 0,
        text,
        step_ns: STEP_NS,
        phase_ns: 0,
        lookback: Duration::ZERO,
        resolution: Resolution::Auto,
    }
}

#[test]
fn answers_that_are_too_large_are_not_kept_and_old_ones_leave() {
    let (seen, results) = (seen(), Results::new(16 << 10));
    let times: Vec<i64> = (0..100).collect();
    let large: Vec<MatrixSeries> = (0..2).map(|label| series(&label.to_string(), &times)).collect();
    results.keep(key("large"), seen, span(0, 990), &large);
    assert_eq!(results.find(&key("large")), None);
    for number in 0..20 {
        results.keep(key(&number.to_string()), seen, span(0, 990), &large[..1]);
    }
    let stats = results.stats();
    assert!(stats.bytes <= 16 << 10, "{stats:?}");
    assert!(0 < stats.answers && stats.answers < 20 && stats.answers + stats.evictions == 20, "{stats:?}");
}

#[test]
fn answer_that_is_replaced_has_not_left_and_counts_once() {
    let (seen, results) = (seen(), Results::new(16 << 10));
    let times: Vec<i64> = (0..100).collect();
    for count in 1..=100 {
        for number in 0..4 {
            results.keep(key(&number.to_string()), seen, span(0, 990), &[series("a", &times[..count])]);
        }
        let stats = results.stats();
        assert_eq!((stats.answers, stats.evictions), (4, 0));
        assert!((4 * 24 * count as u64..16 << 10).contains(&stats.bytes), "{stats:?}");
    }
    results.keep(key("other"), seen, span(0, 990), &[series("a", &times)]);
    (0..4).for_each(|number| {
        results.keep(key(&format!("{number} more")), seen, span(0, 990), &[series("a", &times)])
    });
    assert!(0 < results.stats().evictions && results.stats().bytes <= 16 << 10);
}

#[test]
fn no_room_keeps_nothing() {
    let results = Results::new(0);
    results.keep(key("m"), seen(), span(0, 990), &[series("a", &[0])]);
    assert!(!results.is_on());
    assert_eq!(results.find(&key("m")), None);
}
