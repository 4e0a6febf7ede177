//! What storage carries out is what the general way gives, and what it cannot say goes that way.

use std::time::Duration;

use icecore_storage::model::{MINUTE_NS, SECOND_NS, SeriesKey, Value as Stored};
use icecore_storage::scan::Resolution;
use proptest::prelude::*;

use super::*;
use crate::promql::histogram::HistogramValue;
use crate::promql::testing::VecScan;
use crate::promql::{Context, instant, parse};
use crate::testing::Wide;
use crate::{Budget, ErrorKind, Limits};

/// Aggregations that are pushed down, with the place of their clause, by the field they read.
const PUSHED: [&str; 16] = [
    "sum {} (sum_over_time(m[2m]))",
    "sum {} ((count_over_time((m[3m]))))",
    "min {} (min_over_time(m[3m]))",
    "max {} (max_over_time(m[3m] offset 1m))",
    "sum {} (sum_over_time(m{ns!=\"a\"}[5m] @ 240))",
    "sum {} (m{__stat__=\"hist\"})",
    "sum {} (m{__stat__=\"count\"})",
    "sum {} (m{__stat__=\"sum\"} offset 1m)",
    "min {} (m{__stat__=\"min\"})",
    "max {} (m{__stat__=\"max\"} @ end())",
    "sum {} (sum_over_time(m{__stat__=\"hist\"}[4m]))",
    "sum {} (increase(m{__stat__=\"hist\", ns=~\"a|b\"}[4m]))",
    "sum {} (rate(m{__stat__=\"hist\"}[4m]))",
    "sum {} (sum_over_time(m{__stat__=\"count\"}[4m]))",
    "min {} (min_over_time(m{__stat__=\"min\"}[4m]))",
    "max {} (max_over_time(m{__stat__=\"max\"}[4m]))",
];

const GROUPINGS: [&str; 9] = [
    "",
    "by (ns)",
    "by (pod, ns, pod)",
    "by (__name__, A)",
    "by (none)",
    "by (pod, __stat__)",
    "without (pod)",
    "without (ns, none)",
    "without ()",
];

fn number() -> impl Strategy<Value = f64> {
    let special = vec![0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e6];
    prop_oneof![3 => (-3_i32..4).prop_map(f64::from), 3 => -1e3..1e3, 1 => prop::sample::select(special)]
}

/// A field of some type; series in no order of labels, with samples at some of twelve times. And the sum of the absolute
/// values of all numbers that are finite, and whether they are floats.
fn data() -> impl Strategy<Value = (VecScan, f64, bool)> {
    let series =
        (0..4_usize, 0..6_usize, any::<bool>(), proptest::collection::vec((0..12_i64, number()), 0..6));
    (0..4_u32, proptest::collection::vec(series, 0..14)).prop_map(|(field_type, all)| {
        let (mut scan, mut scale) = (VecScan::default(), 0.0);
        for (ns, pod, has_capital, samples) in all {
            let mut tags = vec![("pod", format!("p{pod}"))];
            tags.extend((ns < 3).then(|| ("ns", ["a", "b", "a\u{0}"][ns].to_owned())));
            tags.extend(has_capital.then(|| ("A", "x".to_owned())));
            let key = SeriesKey::new("m", tags).unwrap();
            for (step, value) in samples {
                let value = match field_type {
                    0 => Stored::Int(value as i64 % (1 << 40)),
                    1 => Stored::UInt(value as u64 % (1 << 40)),
                    2 => Stored::Bool(0.0 < value),
                    _ => Stored::Float(value),
                };
                scale += match value {
                    Stored::Float(value) if value.is_finite() => value.abs(),
                    Stored::Int(value) => value.abs() as f64,
                    Stored::UInt(value) => value as f64,
                    _ => 1.0,
                };
                scan.push(&key, "value", step * 30 * SECOND_NS, value);
            }
        }
        (scan, scale, 2 < field_type)
    })
}

/// What an aggregation gives when it is pushed down, and the general way; `None` where it is not.
fn both_ways(scan: &VecScan, text: &str, grid: Grid, points_max: usize) -> Option<[Vec<Series>; 2]> {
    let budget = Budget::untimed(Limits::default());
    let lookback = Duration::from_secs(60);
    let context = Context { scan, budget: &budget, lookback, resolution: Resolution::Auto };
    let expr = parse(text).unwrap();
    let ExprKind::Aggregate(aggregate) = &expr.kind else { panic!("no aggregation: {text}") };
    let evaluator = || Evaluator { points_max, ..Evaluator::new(&context, text, &grid) };
    let series = |value| if let Value::Vector(series) = value { series } else { panic!("no vector: {text}") };
    let (short, general) = (evaluator(), evaluator());
    let before = budget.memory_bytes();
    let Some(pushed) = short.grouped(&expr, aggregate, &grid).unwrap() else {
        assert_eq!(budget.memory_bytes(), before, "{text}");
        return None;
    };
    let gathered = general.gathered(&expr, aggregate, &grid).unwrap();
    let notes = |evaluator: Evaluator<'_>| format!("{:?}", evaluator.notes.into_inner());
    assert_eq!(notes(short), notes(general), "{text}");
    Some([series(pushed), series(gathered)])
}

/// Whether sums are the same but for the last bits, measured by the sum of all absolute values.
fn is_near(mine: f64, theirs: f64, scale: f64) -> bool {
    mine == theirs || (mine.is_nan() && theirs.is_nan()) || (mine - theirs).abs() <= 1e-12 * scale
}

/// A rate with its counts as whole numbers of parts so small that rounding does not make one.
fn in_parts(hist: &HistogramValue) -> HistogramValue {
    let sum = hist.sum;
    let mut parts = hist.scaled(1e9);
    for bucket in parts.positive.iter_mut().chain(&mut parts.negative) {
        bucket.count = bucket.count.round();
    }
    (parts.count, parts.zero_count, parts.sum) = (parts.count.round(), parts.zero_count.round(), sum);
    parts
}

fn same_sample(mine: &Sample, theirs: &Sample, (is_sum, is_rate): (bool, bool), scale: f64) -> bool {
    match (mine, theirs) {
        (Sample::Float(mine), Sample::Float(theirs)) => {
            let is_same = if is_sum { is_near(*mine, *theirs, scale) } else { mine == theirs };
            is_same || (mine.is_nan() && theirs.is_nan())
        }
        (Sample::Histogram(mine), Sample::Histogram(theirs)) => {
            let without_sum = |hist: &HistogramValue| HistogramValue { sum: 0.0, ..hist.clone() };
            let [mine, theirs] =
                [mine, theirs].map(|hist| if is_rate { in_parts(hist) } else { (**hist).clone() });
            without_sum(&mine) == without_sum(&theirs) && is_near(mine.sum, theirs.sum, scale)
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// With few points held at once windows are read in portions.
    #[test]
    fn pushed_aggregation_equals_the_general_one(
        (scan, scale, is_float) in data(),
        count in prop_oneof![Just(1_usize), 1..12_usize],
        points_max in prop::sample::select(vec![5_usize, 20 * HISTOGRAM_POINTS, super::super::stream::POINTS_MAX]),
    ) {
        let grid = Grid { start_ns: 2 * MINUTE_NS, step_ns: 25 * SECOND_NS, count };
        for pattern in PUSHED {
            for grouping in GROUPINGS {
                let text = pattern.replace("{}", grouping);
                let Some([pushed, gathered]) = both_ways(&scan, &text, grid, points_max) else { continue };
                let frame = |series: &[Series]| -> Vec<_> {
                    series.iter().map(|one| (one.labels.clone(), one.drops_name, one.points.len())).collect()
                };
                prop_assert_eq!(frame(&pushed), frame(&gathered), "{} over {} steps", text, count);
                for (mine, theirs) in pushed.iter().zip(&gathered) {
                    for (mine, theirs) in mine.points.iter().zip(&theirs.points) {
                        let is_sum = text.contains("sum_over_time(m[") || text.contains("\"sum\"");
                        let is_sum = is_sum || text.contains("sum_over_time(m{ns");
                        let is_rate = text.contains("rate(");
                        let what = (is_sum, is_rate);
                        let scale = if is_float || is_rate { scale } else { 0.0 };
                        let is_same = match (mine, theirs) {
                            (Some(mine), Some(theirs)) => same_sample(mine, theirs, what, scale),
                            (mine, theirs) => mine == theirs,
                        };
                        prop_assert!(is_same, "{} over {} steps: {:?} {:?}", text, count, mine, theirs);
                    }
                }
            }
        }
    }
}

#[test]
fn everything_that_is_to_be_pushed_down_is_and_nothing_else() {
    let mut scan = VecScan::default();
    let keys = ["a", "b"].map(|ns| SeriesKey::new("m", [("ns", ns)]).unwrap());
    for (key, ts_ns) in [(&keys[0], 0), (&keys[0], MINUTE_NS), (&keys[1], MINUTE_NS)] {
        scan.push(key, "value", ts_ns, Stored::Float(1.0));
    }
    let grid = Grid { start_ns: MINUTE_NS, step_ns: 0, count: 1 };
    let points_max = super::super::stream::POINTS_MAX;
    for pattern in PUSHED {
        let text = pattern.replace("{}", "by (ns)");
        assert!(both_ways(&scan, &text, grid, points_max).is_some(), "{text}");
    }
    for other in [
        "sum(m)",
        "avg(sum_over_time(m[5m]))",
        "count(sum_over_time(m[5m]))",
        "min(max_over_time(m[5m]))",
        "max(sum_over_time(m[5m]))",
        "sum(-sum_over_time(m[5m]))",
        "sum(sum_over_time(m[5m]) * 2)",
        "sum(sum_over_time(m[5m:1m]))",
        "sum(rate(m[5m]))",
        "sum(m{__stat__=\"max\"})",
        "max(m{__stat__=\"last\"})",
        "topk(2, sum_over_time(m[5m]))",
        "sum(sum_over_time(none[5m]))",
    ] {
        assert!(both_ways(&scan, other, grid, points_max).is_none(), "{other}");
    }
    // Where windows were widened, those of a group need not be of one width.
    scan.raw_gone_before_ns = Some(0);
    for (function, is_pushed) in [("rate", false), ("sum_over_time", true)] {
        let text = format!("sum({function}(m{{__stat__=\"hist\"}}[4m]))");
        assert_eq!(both_ways(&scan, &text, grid, points_max).is_some(), is_pushed, "{text}");
    }
    // With a series of NaN alone the smallest value of the sum is not known.
    scan.push(&keys[1], "value", 2 * MINUTE_NS, Stored::Float(f64::NAN));
    let later = Grid { start_ns: 2 * MINUTE_NS, ..grid };
    let text = "sum(m{__stat__=\"hist\"})";
    assert!(both_ways(&scan, text, grid, points_max).is_some());
    assert!(both_ways(&scan, text, later, points_max).is_none());
}

/// A query whose groups are few holds little, whatever the number of series; one with a group for each is refused, as on
/// the general way.
#[test]
fn groups_of_many_series_take_little_memory_and_are_charged() {
    let scan = Wide { series: 50_000 };
    let ask = |text: &str, limits: Limits| {
        let budget = Budget::untimed(limits);
        let lookback = Duration::from_secs(300);
        let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
        instant(&context, text, MINUTE_NS).map(|answer| (format!("{:?}", answer.value), budget.samples()))
    };
    let limits = |mib: u64| Limits { memory_bytes_max: mib << 20, ..Limits::default() };
    let (answer, samples) = ask("sum by (namespace) (sum_over_time(wide[5m]))", limits(4)).unwrap();
    assert_eq!((answer.matches("n49").count(), samples), (1, 50), "{answer}");
    for text in ["sum by (pod) (sum_over_time(wide[5m]))", "sum by (namespace) (sum_over_time(wide[5m]))"] {
        assert_eq!(ask(text, limits(0)).unwrap_err().kind(), ErrorKind::LimitExceeded, "{text}");
    }
    let few = Limits { samples_max: 49, ..limits(256) };
    let error = ask("sum by (namespace) (sum_over_time(wide[5m]))", few).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(
        ask("sum by (pod) (sum_over_time(wide[5m]))", limits(4)).unwrap_err().kind(),
        ErrorKind::LimitExceeded
    );
}

#[test]
fn joined_codes_are_one_group_for_each_pair() {
    let mut groups = vec![0, 1, 0, 1, 0];
    let found = joined(&mut groups, 2, &[2, 0, 2, 2, 1], 3);
    assert_eq!(found, Some(vec![(0, 2), (1, 0), (1, 2), (0, 1)]));
    assert_eq!(groups, [0, 1, 0, 2, 3]);
    assert_eq!(joined(&mut groups, PLACES_MAX, &[0; 5], 2), None);
}
