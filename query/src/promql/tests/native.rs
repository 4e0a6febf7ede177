//! Series with native histograms, as small scripts: what is read, what functions and operators make of them, and what
//! is remarked. The arithmetic itself is tested beside it.

use icecore_storage::model::{BucketLayout, NativeHistogram, SeriesKey, Value};

use super::super::testing::VecScan;
use super::check;
use super::script::with_context;
use crate::promql::instant;
use crate::{Budget, ErrorKind, Limits};

#[test]
fn selector_gives_the_last_sample_of_either_kind() {
    check(
        "load 1m
           x{a=\"1\"} 1 {{count:2 sum:3 buckets:[2]}} 4 {{count:5 sum:6}} stale 7
           x{a=\"2\"} 5 6
           x{a=\"3\"} {{count:1}} _ stale

         eval range from 0 to 5m step 1m x
           x{a=\"1\"} 1 {{count:2 sum:3 buckets:[2]}} 4 {{count:5 sum:6}} _ 7
           x{a=\"2\"} 5 6 6 6 6 6
           x{a=\"3\"} {{count:1}} {{count:1}} _ _ _ _

         eval range from 0 to 3m step 1m timestamp(x{a=\"1\"})
           {a=\"1\"} 0 60 120 180

         eval instant at 5m x[10m]
           expect range vector from 0 to 5m step 1m
           x{a=\"1\"} 1 {{count:2 sum:3 buckets:[2]}} 4 {{count:5 sum:6}} _ 7
           x{a=\"2\"} 5 6
           x{a=\"3\"} {{count:1}}",
    );
}

#[test]
fn rate_of_counters_starts_anew_after_resets() {
    check(
        "load 1m
           y {{count:5 buckets:[5]}} {{count:5 buckets:[0 5]}} {{count:6 buckets:[0 6]}}
           x {{count:10 sum:20 buckets:[10]}} {{count:14 sum:26 buckets:[12 2]}} {{count:3 sum:4 buckets:[3]}} {{count:5 sum:8 buckets:[5]}}

         eval instant at 3m increase(x[3m])
           expect no_warn
           {} {{count:7.5 sum:12 counter_reset_hint:gauge buckets:[7.5]}}

         eval instant at 3m resets(x[4m])
           {} 1

         eval instant at 3m changes(x[4m])
           {} 3

         eval instant at 2m resets(y[3m])
           {} 1

         eval instant at 2m resets(y[3m:2m])
           {} 1

         eval instant at 3m irate(x[4m]) * 60
           {} {{count:2 sum:4 counter_reset_hint:gauge buckets:[2]}}

         eval instant at 3m idelta(x[4m])
           expect warn msg: this native histogram metric is not a gauge: \"x\" (1:8)
           {} {{count:2 sum:4 counter_reset_hint:gauge buckets:[2]}}

         eval instant at 3m delta(x[4m])
           expect warn msg: this native histogram metric is not a gauge: \"x\" (1:7)
           {} {{count:-6.666666666666667 sum:-16 counter_reset_hint:gauge buckets:[-6.666666666666667]}}",
    );
}

#[test]
fn functions_over_both_kinds_say_what_they_left_out() {
    check(
        "load 1m
           x 1 2 {{count:1 sum:1}} {{count:2 sum:4}}

         eval instant at 3m rate(x[5m])
           expect warn msg: encountered a mix of histograms and floats for metric name \"x\" (1:6)

         eval instant at 3m sum_over_time(x[5m])
           expect warn msg: encountered a mix of histograms and floats for metric name \"x\" (1:15)

         eval instant at 3m sum_over_time(x[2m])
           expect no_warn
           {} {{count:3 sum:5}}

         eval instant at 3m max_over_time(x[5m])
           expect info msg: ignored histograms in a range containing both floats and histograms for metric name \"x\" (1:15)
           {} 2

         eval instant at 3m max_over_time(x[2m])
           expect no_info

         eval instant at 3m count_over_time(x[5m])
           {} 4

         eval instant at 3m changes(x[5m])
           {} 3

         eval instant at 3m first_over_time(x[5m])
           x 1

         eval instant at 3m ts_of_first_over_time(x[2m])
           {} 120

         eval instant at 3m absent_over_time(x[1m])

         eval instant at 3m sum_over_time(x[5m:1m]) or vector(1)
           expect warn
           {} 1",
    );
}

#[test]
fn aggregations_take_one_kind() {
    check(
        "load 1m
           h{a=\"1\"} {{count:1 sum:2 buckets:[1]}}
           h{a=\"2\"} {{schema:1 count:3 sum:5 buckets:[1 2]}}
           h{a=\"3\"} 7
           c {{schema:-53 count:1 sum:1 custom_values:[1 2] buckets:[1]}}

         eval instant at 0 sum(h{a!=\"3\"})
           expect no_warn
           {} {{count:4 sum:7 buckets:[2 2]}}

         eval instant at 0 avg(h{a!=\"3\"})
           {} {{count:2 sum:3.5 buckets:[1 1]}}

         eval instant at 0 sum(h)
           expect warn msg: encountered a mix of histograms and floats for aggregation (1:5)

         eval instant at 0 sum({__name__=~\"h|c\", a!=\"3\"})
           expect warn msg: vector contains a mix of histograms with exponential and custom buckets schemas (1:5)

         eval instant at 0 max(h)
           expect info msg: ignored histograms in max aggregation
           {} 7

         eval instant at 0 topk(2, h)
           expect info
           h{a=\"3\"} 7

         eval instant at 0 count(h)
           {} 3

         eval instant at 0 count_values(\"v\", h{a!=\"2\"})
           {v=\"{count:1, sum:2, (0.5,1]:1}\"} 1
           {v=\"7\"} 1

         eval instant at 0 limitk(2, h)
           h{a=\"1\"} {{count:1 sum:2 buckets:[1]}}
           h{a=\"2\"} {{schema:1 count:3 sum:5 buckets:[1 2]}}

         eval instant at 0 limitk by (a) (0, h)

         eval instant at 0 count(limit_ratio(0.3, h)) + count(limit_ratio(-0.7, h)) or count(limit_ratio(-0.7, h))
           {} 3

         eval instant at 0 limit_ratio(1.5, h{a=\"3\"})
           expect warn msg: ratio value should be between -1 and 1, got 1.5, capping to 1
           h{a=\"3\"} 7",
    );
}

#[test]
fn operators_between_histograms_and_numbers() {
    check(
        "load 1m
           h {{count:4 sum:6 z_bucket:1 z_bucket_w:0.1 buckets:[1 2]}}
           c {{schema:-53 count:3 sum:4 custom_values:[1 2] buckets:[2 1]}}
           d {{schema:-53 count:1 sum:1 custom_values:[2 3] buckets:[1]}}
           f 2

         eval instant at 0 h * 2 - h == h
           expect no_info
           {} {{count:4 sum:6 z_bucket:1 z_bucket_w:0.1 buckets:[1 2] counter_reset_hint:gauge}}

         eval instant at 0 f * h
           {} {{count:8 sum:12 z_bucket:2 z_bucket_w:0.1 buckets:[2 4]}}

         eval instant at 0 -h
           {} {{count:-4 sum:-6 z_bucket:-1 z_bucket_w:0.1 buckets:[-1 -2] counter_reset_hint:gauge}}

         eval instant at 0 h + f
           expect info msg: incompatible sample types encountered for binary operator \"+\": histogram + float (1:1)

         eval instant at 0 h + c
           expect warn msg: incompatible bucket layout encountered for binary operator + (1:1)

         eval instant at 0 c + d
           expect info msg: mismatched custom buckets were reconciled during addition (1:1)
           {} {{schema:-53 count:4 sum:5 custom_values:[2] buckets:[4]}}

         eval instant at 0 h </ 1
           h {{count:2 sum:0.7571067811865476 z_bucket:1 z_bucket_w:0.1 buckets:[1]}}

         eval instant at 0 h >/ f
           expect no_info
           h {{z_bucket_w:0.1}}

         eval instant at 0 f >/ h
           expect info msg: incompatible sample types encountered for binary operator \">/\": float >/ histogram (1:1)

         eval instant at 0 h != bool c
           {} 1",
    );
}

#[test]
fn quantiles_come_from_either_kind_and_not_from_both() {
    check(
        "load 1m
           h{a=\"1\"} {{count:4 sum:6 buckets:[0 4]}}
           h{a=\"2\", le=\"1\"} 1
           h{a=\"2\", le=\"+Inf\"} 2
           h{a=\"3\", le=\"1\"} 1
           h{a=\"3\", le=\"+Inf\"} 2
           h{a=\"3\"} {{count:4 sum:6 buckets:[0 4]}}
           n {{count:4 sum:NaN buckets:[2]}}

         eval instant at 0 histogram_quantile(0.5, h)
           expect warn msg: vector contains a mix of classic and native histograms for metric name \"h\" (1:25)
           {a=\"1\"} 1.414213562373095
           {a=\"2\"} 1

         eval instant at 0 histogram_quantiles(h{a=\"1\"}, \"q\", 0, 0.5, 1)
           {a=\"1\", q=\"0.0\"} 1
           {a=\"1\", q=\"0.5\"} 1.414213562373095
           {a=\"1\", q=\"1.0\"} 2

         eval instant at 0 histogram_quantiles(h, \"a\", 0.5)
           expect fail

         eval instant at 0 histogram_quantile(0.9, n)
           expect info msg: input to histogram_quantile has NaN observations, result is NaN for metric name \"n\" (1:25)
           {} NaN

         eval instant at 0 histogram_fraction(0, 2, n)
           expect info msg: input to histogram_fraction has NaN observations, which are excluded from all fractions
           {} 0.5

         eval instant at 0 histogram_stdvar(h{a=\"1\"})
           {a=\"1\"} 0.007359312880714837

         eval range from 0 to 1m step 1m histogram_quantiles(h{a=\"1\"}, \"q\", time() / 60)
           {a=\"1\", q=\"0.0\"} 1 _
           {a=\"1\", q=\"1.0\"} _ 2",
    );
}

#[test]
fn counts_alone_tell_resets_by_comparing() {
    check(
        "load 1m
           x{a=\"1\"} {{count:5 sum:5}} {{count:6 sum:6}}
           x{a=\"2\"} {{count:5 sum:5}} {{count:4 sum:4}}

         eval instant at 1m histogram_count(sum(x))
           expect warn msg: conflicting counter resets during histogram aggregation (1:21)
           {} 10

         eval instant at 1m sum(x)
           expect no_warn
           {} {{count:10 sum:10 counter_reset_hint:unknown}}

         eval instant at 1m histogram_count(sum_over_time(x[2m:1m]))
           expect no_warn
           {a=\"1\"} 11
           {a=\"2\"} 9",
    );
}

#[test]
fn histogram_that_breaks_its_promises_is_an_error() {
    let mut scan = VecScan::default();
    let key = SeriesKey::new("x", [("a", "1")]).unwrap();
    let layout = BucketLayout::Exponential { schema: 99, zero_threshold: 0.0 };
    scan.push_histogram(&key, "value", 0, NativeHistogram { layout, ..NativeHistogram::default() });
    let error = with_context(&scan, |context| instant(context, "rate(x[5m])", 0)).unwrap_err();
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[test]
fn histograms_read_are_charged() {
    let mut scan = VecScan::default();
    let key = SeriesKey::new("x", [("a", "1")]).unwrap();
    for ts_ns in 0..100 {
        scan.push(&key, "f", ts_ns, Value::Float(1.0));
        scan.push_histogram(&key, "value", ts_ns, NativeHistogram::default());
    }
    let ask = |text: &str| {
        let budget = Budget::untimed(Limits { memory_bytes_max: 8 << 10, ..Limits::default() });
        with_context(&scan, |context| {
            let context = crate::promql::Context { budget: &budget, ..*context };
            instant(&context, text, 99).map(|_| ())
        })
    };
    assert_eq!(ask("count_over_time(x[1s])").unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(ask("count_over_time(x_f[1s])").is_ok());
}
