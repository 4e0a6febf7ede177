//! Laws of the arithmetic, and values that nobody measures.

use icecore_storage::model::StatSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::promql::histogram::trim::Side;

/// A histogram whose buckets do not overlap, as clients make them, with three values in the zero bucket.
fn native(layout: BucketLayout, positive: Vec<FloatBucket>, negative: Vec<FloatBucket>) -> HistogramValue {
    let mut hist = HistogramValue { layout, ..HistogramValue::default() };
    if let BucketLayout::Exponential { zero_threshold, .. } = hist.layout {
        let is_far = |bucket: &FloatBucket| zero_threshold <= hist.interval(bucket).lower;
        let far = |buckets: Vec<FloatBucket>| buckets.into_iter().filter(|bucket| is_far(bucket)).collect();
        (hist.positive, hist.negative, hist.zero_count) = (far(positive), far(negative), 3.0);
    } else {
        hist.positive = positive.into_iter().filter(|bucket| bucket.count != 0.0).collect();
    }
    hist.count = hist.intervals().map(|bucket| bucket.count).sum();
    hist.sum = hist.count * 1.5;
    hist
}

fn side(indices: std::ops::Range<i32>) -> impl Strategy<Value = Vec<FloatBucket>> {
    let counts = proptest::collection::btree_map(indices, 1_u32..1000, 0..20);
    counts.prop_map(|counts| {
        let buckets = counts.into_iter().map(|(index, count)| FloatBucket { index, count: f64::from(count) });
        buckets.collect()
    })
}

fn exponential() -> impl Strategy<Value = HistogramValue> {
    let threshold = prop::sample::select(vec![0.0, 1e-3, 0.3, 2.0]);
    (-4_i32..=8, threshold, side(-40..40), side(-40..40)).prop_map(
        |(schema, zero_threshold, above, below)| {
            native(BucketLayout::Exponential { schema, zero_threshold }, above, below)
        },
    )
}

fn custom() -> impl Strategy<Value = HistogramValue> {
    let bounds = proptest::collection::btree_set(-5_i32..5, 0..8);
    (bounds, proptest::collection::vec(0_u32..100, 9)).prop_map(|(bounds, counts)| {
        let bounds: Arc<[f64]> = bounds.into_iter().map(f64::from).collect();
        let counts = (0..).zip(counts).take(bounds.len() + 1);
        let buckets = counts.map(|(index, count)| FloatBucket { index, count: f64::from(count) });
        let buckets = buckets.collect();
        native(BucketLayout::Custom { bounds }, buckets, Vec::new())
    })
}

/// Any number, those that break formulas among them.
fn number() -> impl Strategy<Value = f64> {
    let special = vec![
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        -f64::MAX,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        1.0,
    ];
    prop_oneof![2 => prop::sample::select(special), 1 => any::<f64>()]
}

/// Whatever passes the check.
fn hostile() -> impl Strategy<Value = HistogramValue> {
    let index = prop_oneof![Just(i32::MIN), Just(i32::MIN + 1), Just(i32::MAX), Just(0), any::<i32>()];
    let side = move || {
        let counts = proptest::collection::btree_map(index.clone(), number(), 0..6);
        let bucket = |(index, count)| FloatBucket { index, count };
        counts.prop_map(move |counts| counts.into_iter().map(bucket).collect::<Vec<FloatBucket>>())
    };
    let bounds = proptest::collection::vec(number(), 0..6).prop_map(|mut bounds| {
        bounds.retain(|bound| !bound.is_nan());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup_by(|a, b| a == b);
        bounds
    });
    let layout = prop_oneof![
        2 => (-4_i32..=8, number()).prop_map(|(schema, threshold)| {
            let zero_threshold = if threshold.is_nan() { 0.0 } else { threshold.abs() };
            BucketLayout::Exponential { schema, zero_threshold }
        }),
        1 => bounds.prop_map(|bounds| BucketLayout::Custom { bounds: bounds.into() }),
    ];
    (layout, side(), side(), [number(), number(), number()], proptest::collection::vec(number(), 7)).prop_map(
        |(layout, mut positive, mut negative, [count, sum, mut zero_count], counts)| {
            if let BucketLayout::Custom { bounds } = &layout {
                let filled = (0..).zip(counts).take(bounds.len() + 1);
                positive = filled.map(|(index, count)| FloatBucket { index, count }).collect();
                (negative, zero_count) = (Vec::new(), 0.0);
            }
            let hint = ResetHint::Unknown;
            let native = NativeHistogram { layout, hint, count, sum, zero_count, positive, negative };
            native.check().unwrap();
            HistogramValue::from(&native)
        },
    )
}

fn pair() -> impl Strategy<Value = (HistogramValue, HistogramValue, HistogramValue)> {
    prop_oneof![(exponential(), exponential(), exponential()), (custom(), custom(), custom())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn minus_what_was_added_gives_the_counts_back((left, right, _) in pair()) {
        let sum = left.plus(&right).unwrap().value;
        let back = sum.minus(&right).unwrap().value;
        // Whole counts are exact. The layout stays that of the sum.
        prop_assert_eq!(&back.layout, &sum.layout);
        prop_assert!(back.plus(&right).unwrap().value.equals(&sum));
        prop_assert_eq!(back.count, left.count);
        prop_assert_eq!(back.hint, ResetHint::Gauge);
        let total = |hist: &HistogramValue| hist.intervals().map(|bucket| bucket.count).sum::<f64>();
        prop_assert_eq!(total(&back), total(&left));
        prop_assert!(back.intervals().all(|bucket| bucket.count > 0.0));
    }

    #[test]
    fn each_interval_is_found_by_its_place((hist, _, _) in pair()) {
        prop_assert!(hist.intervals().map(|bucket| bucket.count).eq(hist.counts()));
        let found = (0..).map_while(|place| hist.interval_at(place));
        prop_assert!(found.eq(hist.intervals()));
    }

    #[test]
    fn sums_do_not_depend_on_the_order((a, b, c) in pair()) {
        let left = a.plus(&b).unwrap().value.plus(&c).unwrap().value;
        let right = c.plus(&b).unwrap().value.plus(&a).unwrap().value;
        let at_once = HistogramValue::sum_of(&[&b, &a, &c]).unwrap().value;
        let total = |hist: &HistogramValue| hist.intervals().map(|bucket| bucket.count).sum::<f64>();
        prop_assert_eq!(total(&left), total(&right));
        prop_assert_eq!(total(&left), total(&at_once));
        prop_assert!(HistogramValue::sum_of(&[&a, &b, &c]).unwrap().value.equals(&at_once));
        if a.is_custom() {
            prop_assert!(left.equals(&right) && left.equals(&at_once));
        }
    }

    #[test]
    fn mean_of_the_same_is_the_same((hist, ..) in pair(), times in 1_usize..7) {
        let terms = vec![&hist; times];
        let mean = HistogramValue::mean_of(&terms).unwrap().value;
        prop_assert!((mean.count - hist.count).abs() <= 1e-9 * hist.count);
        prop_assert_eq!(&mean.layout, &hist.layout);
    }

    #[test]
    fn quantile_never_falls_as_its_rank_grows((hist, ..) in pair()) {
        let quantiles: Vec<f64> = (0..=40).map(|step| hist.quantile(f64::from(step) / 40.0).0).collect();
        for (before, after) in quantiles.iter().zip(quantiles.iter().skip(1)) {
            prop_assert!(before.is_nan() || *before <= *after + after.abs() * 1e-12, "{quantiles:?}");
        }
    }

    #[test]
    fn trimmed_halves_make_the_whole((hist, ..) in pair(), bound in -100_i32..100) {
        let bound = f64::from(bound) / 7.0;
        let below = hist.trimmed(Side::Below, bound);
        let above = hist.trimmed(Side::Above, bound);
        if !hist.is_custom() {
            let whole = below.count + above.count;
            prop_assert!((whole - hist.count).abs() < 1e-9 * hist.count, "{whole} of {}", hist.count);
            // Zeros in a zero bucket without width: Prometheus trims them as below and counts them as above.
            if bound != 0.0 {
                let share = hist.fraction(f64::NEG_INFINITY, bound) * hist.count;
                prop_assert!((below.count - share).abs() < 1e-9 * hist.count, "{} and {share}", below.count);
            }
        }
        prop_assert!(below.count <= hist.count + 1e-9 && above.count <= hist.count + 1e-9);
    }

    #[test]
    fn counter_that_grew_is_no_reset((hist, more, _) in pair()) {
        let grown = hist.plus(&more).unwrap().value;
        // Growing into a coarser layout is what a client does that widens its buckets.
        prop_assert!(!grown.is_reset_after(&hist), "{hist} then {grown}");
        prop_assert!(hist.count == 0.0 || hist.scaled(0.5).is_reset_after(&hist));
    }

    #[test]
    fn hostile_histograms_never_panic(
        left in hostile(),
        right in hostile(),
        factor in number(),
        bound in number(),
    ) {
        let hists = [
            left.plus(&right).map(|sum| sum.value),
            left.minus(&right).map(|sum| sum.value),
            HistogramValue::mean_of(&[&left, &right, &left]).map(|sum| sum.value),
            Some(left.scaled(factor)),
            Some(left.divided(factor)),
            Some(left.trimmed(Side::Below, bound)),
            Some(left.trimmed(Side::Above, bound)),
            Some(left.clone().at_schema(-4)),
            Some(right.clone()),
        ];
        for hist in hists.iter().flatten() {
            for q in [0.0, 0.25, 0.5, 1.0, factor] {
                let _ = hist.quantile(q);
            }
            let _ = (hist.fraction(bound, factor), hist.variance(), hist.to_string());
            let _ = (hist.is_reset_after(&left), left.is_reset_after(hist), hist.equals(&left));
            let again = NativeHistogram {
                layout: hist.layout.clone(),
                positive: hist.positive.clone(),
                negative: hist.negative.clone(),
                zero_count: if hist.is_custom() { 0.0 } else { hist.zero_count },
                ..NativeHistogram::default()
            };
            prop_assert!(again.check().is_ok());
        }
    }
}

fn numbers(values: &[f64]) -> Numbers {
    let mut stats = icecore_storage::model::Stats::<f64>::default();
    (0..).zip(values).for_each(|(ts_ns, value)| stats.add(ts_ns, *value, StatSet::NUMBERS));
    stats.numbers()
}

#[test]
fn trim_beyond_the_side_of_the_zero_bucket_that_has_values_is_all_or_nothing() {
    // With negative buckets alone the zero bucket ends at zero; a cut at 0.1 took a negative share of it.
    let below = vec![FloatBucket { index: 0, count: 1.0 }];
    let hist = native(BucketLayout::Exponential { schema: 0, zero_threshold: 0.3 }, vec![], below);
    assert_eq!(hist.trimmed(Side::Above, 0.1).count, 0.0);
    assert!(hist.trimmed(Side::Below, 0.1).equals(&hist));
}

#[test]
fn sum_of_different_kinds_is_none() {
    let custom = native(BucketLayout::Custom { bounds: Arc::new([1.0]) }, Vec::new(), Vec::new());
    assert!(HistogramValue::default().plus(&custom).is_none());
    assert!(custom.minus(&HistogramValue::default()).is_none());
}

#[test]
fn sum_with_wider_zero_bucket_takes_whole_buckets_in() {
    let bucket = |index, count| FloatBucket { index, count };
    let narrow = native(
        BucketLayout::Exponential { schema: 0, zero_threshold: 0.1 },
        vec![bucket(-2, 5.0), bucket(-1, 6.0), bucket(0, 7.0)],
        vec![],
    );
    let wide =
        native(BucketLayout::Exponential { schema: 1, zero_threshold: 0.3 }, vec![bucket(0, 2.0)], vec![]);
    let sum = narrow.plus(&wide).unwrap().value;
    // (0.25, 0.5] has values and is cut by 0.3, so the zero bucket reaches 0.5.
    assert_eq!(sum.layout, BucketLayout::Exponential { schema: 0, zero_threshold: 0.5 });
    assert_eq!((sum.zero_count, sum.positive), (3.0 + 3.0 + 5.0 + 6.0, vec![bucket(0, 9.0)]));
}

#[test]
fn sums_keep_small_numbers_between_large_ones() {
    let of = |sum: f64| HistogramValue { count: 1.0, sum, ..HistogramValue::default() };
    let terms = [of(1.0), of(1e100), of(1.0), of(-1e100)];
    let terms: Vec<&HistogramValue> = terms.iter().collect();
    assert_eq!(HistogramValue::sum_of(&terms).unwrap().value.sum, 2.0);
    assert_eq!(HistogramValue::mean_of(&terms).unwrap().value.sum, 0.5);
}

#[test]
fn mean_stays_finite_where_the_sum_does_not() {
    let of = |count: f64, sum: f64| HistogramValue { count, sum, ..HistogramValue::default() };
    let mean = HistogramValue::mean_of(&[&of(f64::MAX, 1.0), &of(f64::MAX, 2.0)]).unwrap().value;
    assert_eq!((mean.count, mean.sum), (f64::MAX, 1.5));
}

#[test]
fn extremes_bound_every_value_and_are_lost_by_differences() {
    let mut hist = Histogram::default();
    let values = [5.0, 5.5, 6.0];
    values.iter().for_each(|value| hist.add(*value));
    let numbers = |min, max| Numbers { min, max, ..numbers(&values) };
    let low = HistogramValue::of_window(&hist, &numbers(5.0, 6.0));
    // The middles of the outer buckets lie beyond these.
    let high = HistogramValue::of_window(&hist, &numbers(5.03, 5.97));
    assert_eq!((high.quantile(0.0).0, high.quantile(1.0).0), (5.03, 5.97));
    let sum = low.plus(&high).unwrap().value;
    assert_eq!((sum.min, sum.max, sum.is_of_cells), (Some(5.0), Some(6.0), true));
    let difference = sum.minus(&low).unwrap().value;
    assert_eq!((difference.min, difference.max), (None, None));
    assert_eq!(low.plus(&HistogramValue::default()).unwrap().value.min, Some(5.0));
    assert_eq!(low.trimmed(Side::Below, 5.25).max, Some(5.25));
}

#[test]
fn mix_of_cells_and_others_is_interpolated() {
    let bucket = FloatBucket { index: 1, count: 4.0 };
    let scraped = native(BucketLayout::default(), vec![bucket], vec![]);
    let mut cells = Histogram::default();
    cells.add(1.5);
    let sum = scraped.plus(&HistogramValue::of_window(&cells, &numbers(&[1.5]))).unwrap().value;
    assert!(!sum.is_of_cells);
    assert_eq!(sum.schema(), Some(0));
}
