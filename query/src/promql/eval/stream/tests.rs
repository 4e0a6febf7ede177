//! Both ways through an aggregation give the same, bit by bit, and the short one takes little memory.

use std::time::Duration;

use icecore_storage::model::{MINUTE_NS, SECOND_NS, SeriesKey, Value as Stored};
use icecore_storage::scan::Resolution;
use proptest::prelude::*;

use super::*;
use crate::promql::ast::ExprKind;
use crate::promql::testing::VecScan;
use crate::promql::{Context, instant, parse, range};
use crate::testing::Wide;
use crate::{ErrorKind, Limits};

/// What may stand under an aggregation and be streamed.
const LEAVES: [&str; 12] = [
    "m",
    "m{ns=\"a\"}",
    "m offset 1m",
    "m @ 120",
    "rate(m[2m])",
    "last_over_time(m[2m])",
    "quantile_over_time(0.5, m[3m])",
    "count_over_time(m[4m])",
    "-(m * 2)",
    "m > 1",
    "1 < bool m",
    "abs(rate(m[3m])) + 0.1",
];

const GROUPINGS: [&str; 6] =
    ["", "by (ns) ", "by (__name__) ", "without (pod) ", "by (pod, none) ", "without () "];

const OPERATORS: [&str; 13] = [
    "sum(",
    "avg(",
    "min(",
    "max(",
    "count(",
    "group(",
    "stddev(",
    "stdvar(",
    "topk(2, ",
    "bottomk(scalar(m{pod=\"p0\"}), ",
    "topk(100, ",
    "quantile(0.7, ",
    "count_values(\"v\", ",
];

fn number() -> impl Strategy<Value = f64> {
    let special = vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, 1e100, -1e100, 9e15];
    prop_oneof![3 => (-3_i32..4).prop_map(f64::from), 2 => -1e3..1e3, 1 => prop::sample::select(special)]
}

/// Series in no order of labels, with samples at some of twelve times.
fn data() -> impl Strategy<Value = VecScan> {
    let series =
        (0..4_usize, 0..6_usize, any::<bool>(), proptest::collection::vec((0..12_i64, number()), 0..6));
    proptest::collection::vec(series, 0..14).prop_map(|all| {
        let mut scan = VecScan::default();
        for (ns, pod, has_capital, samples) in all {
            let mut tags = vec![("pod", format!("p{pod}"))];
            tags.extend((ns < 3).then(|| ("ns", ["a", "b", "a\u{0}"][ns].to_owned())));
            tags.extend(has_capital.then(|| ("A", "x".to_owned())));
            let key = SeriesKey::new("m", tags).unwrap();
            for (step, value) in samples {
                scan.push(&key, "value", step * 30 * SECOND_NS, Stored::Float(value));
            }
        }
        scan
    })
}

/// What an aggregation gives on both ways, and whether it could be streamed.
fn both_ways(scan: &VecScan, text: &str, grid: Grid, points_max: usize) -> Option<[String; 2]> {
    let budget = Budget::untimed(Limits::default());
    let lookback = Duration::from_secs(60);
    let context = Context { scan, budget: &budget, lookback, resolution: Resolution::Auto };
    let expr = parse(text).unwrap();
    let ExprKind::Aggregate(aggregate) = &expr.kind else { panic!("no aggregation: {text}") };
    let evaluator = || Evaluator { points_max, ..Evaluator::new(&context, text, &grid) };
    let shown = |value: Result<Value>| format!("{:?}", value.map_err(|error| error.to_string()));
    let before = budget.memory_bytes();
    let streamed = match evaluator().streamed(&expr, aggregate, &grid) {
        Ok(None) => {
            assert_eq!(budget.memory_bytes(), before, "{text}");
            return None;
        }
        Ok(Some(value)) => Ok(value),
        Err(error) => Err(error),
    };
    Some([shown(streamed), shown(evaluator().gathered(&expr, aggregate, &grid))])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With few points held at once series are read in portions, with many at once.
    #[test]
    fn streamed_aggregation_equals_the_general_one_bit_by_bit(
        scan in data(),
        leaf in prop::sample::select(LEAVES.to_vec()),
        grouping in prop::sample::select(GROUPINGS.to_vec()),
        count in prop_oneof![Just(1_usize), 1..12_usize],
        points_max in prop::sample::select(vec![5_usize, 20, POINTS_MAX]),
    ) {
        let grid = Grid { start_ns: 2 * MINUTE_NS, step_ns: 25 * SECOND_NS, count };
        for operator in OPERATORS {
            let (name, parameter) = operator.split_once('(').unwrap();
            let text = format!("{name} {grouping}({parameter}{leaf})");
            if let Some([streamed, gathered]) = both_ways(&scan, &text, grid, points_max) {
                prop_assert_eq!(streamed, gathered, "{} over {} steps", text, count);
            }
        }
    }
}

#[test]
fn leaves_and_nothing_else_are_streamed() {
    let mut scan = VecScan::default();
    scan.push(&SeriesKey::new("m", [("pod", "p0")]).unwrap(), "value", 0, Stored::Float(1.0));
    scan.push(&SeriesKey::new("a", [("pod", "p0")]).unwrap(), "b_c", 0, Stored::Float(1.0));
    scan.push(&SeriesKey::new("a_b", [("pod", "p0")]).unwrap(), "c", 0, Stored::Float(1.0));
    let grid = Grid { start_ns: 0, step_ns: 0, count: 1 };
    for leaf in LEAVES {
        assert!(
            both_ways(&scan, &format!("sum({leaf})"), grid, POINTS_MAX).is_some() != leaf.contains("ns="),
            "{leaf}"
        );
    }
    for other in ["m + m", "a_b_c", "m{__stat__=\"hist\"}", "sum(m)", "vector(1)", "rate(m[5m:1m])", "none"] {
        assert!(both_ways(&scan, &format!("sum({other})"), grid, POINTS_MAX).is_none(), "{other}");
    }
}

/// 50,000 series: with labels and points of all of them held, each of these takes more than 40 MiB.
#[test]
fn aggregations_over_many_series_take_little_memory() {
    const SERIES: u32 = 50_000;
    let scan = Wide { series: SERIES };
    let ask = |text: &str, bytes: u64, steps: Option<i64>| {
        let budget = Budget::untimed(Limits { memory_bytes_max: bytes, ..Limits::default() });
        let lookback = Duration::from_secs(300);
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        let answer = match steps {
            Some(steps) => range(&context, text, MINUTE_NS, MINUTE_NS + (steps - 1) * SECOND_NS, SECOND_NS),
            None => instant(&context, text, MINUTE_NS),
        };
        answer.map(|answer| format!("{:?}", answer.value))
    };
    let mib = 1 << 20;
    for (text, bytes, steps) in [
        ("count(wide)", 2 * mib, None),
        ("quantile(0.9, wide)", 4 * mib, None),
        ("sum(count_over_time(wide[5m]))", 2 * mib, None),
        ("sum(wide)", 8 * mib, None),
        ("sum by (namespace) (quantile_over_time(0.5, wide[5m]))", 8 * mib, None),
        ("avg by (namespace) (wide)", 8 * mib, None),
        ("topk(5, wide)", 8 * mib, None),
        ("count(wide > 100)", 2 * mib, None),
        ("sum by (namespace) (wide)", 8 * mib, Some(4)),
        ("topk(5, wide)", 8 * mib, Some(4)),
    ] {
        let answer = ask(text, bytes, steps);
        assert!(answer.is_ok(), "{text}: {answer:?}");
    }
    assert!(ask("count(wide)", 2 * mib, None).unwrap().contains("Float(50000.0)"));
    for text in ["count(wide)", "sum(wide)", "sum by (pod) (wide)"] {
        assert_eq!(ask(text, mib / 4, None).unwrap_err().kind(), ErrorKind::LimitExceeded, "{text}");
    }
    assert_eq!(ask("wide + 0", 16 * mib, None).unwrap_err().kind(), ErrorKind::LimitExceeded);
}
