//! Prometheus' meaning of queries, as small scripts.

use super::check;

#[test]
fn selector_looks_back_five_minutes_left_open() {
    check(
        "load 1m
           x{a=\"1\"} 1 2 3
           x{a=\"2\"} _ _ _ _ _ 5

         eval instant at 2m x
           x{a=\"1\"} 3

         eval instant at 419s x{a=\"1\"}
           x{a=\"1\"} 3

         eval instant at 420s x{a=\"1\"}

         eval instant at 5m x{a=~\"2|3\"}
           x{a=\"2\"} 5

         eval instant at 5m x{a!=\"2\", b=\"\"}
           x{a=\"1\"} 3

         eval range from 0 to 9m step 3m x
           x{a=\"1\"} 1 3 3 _
           x{a=\"2\"} _ _ 5 5

         eval instant at 2m {__name__=~\"x|y\", a=\"1\"}
           x{a=\"1\"} 3",
    );
}

#[test]
fn selector_stale_marker_ends_a_series() {
    check(
        "load 1m
           x 1 stale _ 4

         eval range from 0 to 3m step 1m x
           x 1 _ _ 4",
    );
}

#[test]
fn modifiers_move_the_time() {
    check(
        "load 1m
           x 0+1x60

         eval instant at 30m x offset 10m
           x 20

         eval instant at 30m x offset -10m
           x 40

         eval instant at 30m x @ 300
           x 5

         eval instant at 30m x @ 300 offset 1m
           x 4

         eval range from 10m to 30m step 10m x @ end() - x @ start()
           {} 20 20 20

         eval range from 10m to 30m step 10m sum_over_time(x[2m] @ 300) + time()
           {} 609 1209 1809

         eval instant at 30m rate(x[10m] offset 5m)
           {} 0.016666666",
    );
}

#[test]
fn subquery_evaluates_at_multiples_of_its_step() {
    check(
        "load 10s
           x 0+1x100

         eval instant at 1000s sum_over_time(x[50s:10s])
           {} 490

         eval instant at 1003s sum_over_time(x[50s:10s])
           {} 490

         eval instant at 1000s max_over_time((x * 2)[1m:])
           {} 192

         eval instant at 1000s last_over_time(x[1m:20s] offset 100s)
           x 90

         eval range from 900s to 1000s step 100s rate(x[1m:10s])
           {} 0.1 0.1

         eval instant at 1000s last_over_time(abs(x)[1m:])
           {} 96

         eval instant at 1000s min_over_time(rate(x[1m])[5m:1m])
           {} 0.1",
    );
}

#[test]
fn names_are_dropped_last() {
    check(
        "load 1m
           a{e=\"1\"} 1 2 3
           b{e=\"1\"} 4 5 6

         eval instant at 2m -a
           {e=\"1\"} -3

         eval instant at 2m a + b
           {e=\"1\"} 9

         eval instant at 2m a < b
           a{e=\"1\"} 3

         eval instant at 2m a < bool b
           {e=\"1\"} 1

         eval instant at 2m 2 < a
           a{e=\"1\"} 3

         eval instant at 2m last_over_time(a[1m])
           a{e=\"1\"} 3

         eval instant at 2m sum by (__name__, e) (a)
           a{e=\"1\"} 3

         eval instant at 2m label_replace(abs({e=\"1\"}), \"n\", \"x_$1\", \"__name__\", \"(.+)\")
           {e=\"1\", n=\"x_a\"} 3
           {e=\"1\", n=\"x_b\"} 6

         eval instant at 2m label_join(abs(a), \"__name__\", \"_\", \"__name__\", \"e\")
           a_1{e=\"1\"} 3

         eval instant at 2m abs({e=\"1\"})
           expect fail msg: vector cannot contain metrics with the same labelset

         eval instant at 2m sum by (e) (abs({e=\"1\"}))
           {e=\"1\"} 9

         clear

         load 10m
           a 1 _
           b 3 4

         eval range from 0 to 20m step 10m -a or -b
           {} -1 -4 _",
    );
}

#[test]
fn matching_joins_by_labels() {
    check(
        "load 5m
           m{g=\"x\", c=\"500\"} 24
           m{g=\"x\", c=\"404\"} 30
           m{g=\"y\", c=\"404\"} 21
           r{g=\"x\"} 600
           r{g=\"y\"} 120
           r{g=\"z\"} 34

         eval instant at 0 m{c=\"404\"} / ignoring (c) r
           {g=\"x\"} 0.05
           {g=\"y\"} 0.175

         eval instant at 0 m / ignoring (c) group_left r
           {g=\"x\", c=\"500\"} 0.04
           {g=\"x\", c=\"404\"} 0.05
           {g=\"y\", c=\"404\"} 0.175

         eval instant at 0 r - on (g) group_right () m > 100
           {g=\"x\", c=\"500\"} 576
           {g=\"x\", c=\"404\"} 570

         eval instant at 0 m{c=\"500\"} * on (g) group_left (c) label_replace(r, \"c\", \"new\", \"\", \"\")
           {g=\"x\", c=\"new\"} 14400

         eval instant at 0 m / ignoring (c) r
           expect fail msg: many-to-one matching must be explicit

         eval instant at 0 m > on (g) r
           expect fail msg: many-to-one matching must be explicit

         eval instant at 0 r / ignoring (c) m
           expect fail msg: found duplicate series for the match group {g=\"x\"} on the right hand-side

         eval instant at 0 m * on (g) group_left (c) label_replace(r, \"c\", \"new\", \"\", \"\")
           expect fail msg: multiple matches for labels: grouping labels must ensure unique matches

         eval instant at 0 r and on (g) m
           r{g=\"x\"} 600
           r{g=\"y\"} 120

         eval instant at 0 r unless on (g) m
           r{g=\"z\"} 34

         eval instant at 0 r{g=\"z\"} or r
           r{g=\"x\"} 600
           r{g=\"y\"} 120
           r{g=\"z\"} 34

         eval instant at 0 r == 120
           r{g=\"y\"} 120

         eval instant at 0 100 > bool r
           {g=\"x\"} 0
           {g=\"y\"} 0
           {g=\"z\"} 1",
    );
}

#[test]
fn aggregation_groups_and_ranks() {
    check(
        "load 5m
           h{g=\"p\", i=\"0\"} 100 _
           h{g=\"p\", i=\"1\"} 200 NaN
           h{g=\"c\", i=\"0\"} 300 3
           h{g=\"c\", i=\"1\"} 400 4

         eval instant at 0 sum by (g) (h)
           {g=\"p\"} 300
           {g=\"c\"} 700

         eval instant at 0 avg without (i) (h)
           {g=\"p\"} 150
           {g=\"c\"} 350

         eval instant at 0 count(h) + min(h) + max(h) + group(h)
           {} 505

         eval instant at 0 stddev(h)
           {} 111.80339887

         eval instant at 0 stdvar by (g) (h)
           {g=\"p\"} 2500
           {g=\"c\"} 2500

         eval instant at 0 quantile(0.5, h)
           {} 250

         eval instant at 0 topk(3, h)
           expect ordered
           h{g=\"c\", i=\"1\"} 400
           h{g=\"c\", i=\"0\"} 300
           h{g=\"p\", i=\"1\"} 200

         eval instant at 0 bottomk by (g) (1, h)
           h{g=\"p\", i=\"0\"} 100
           h{g=\"c\", i=\"0\"} 300

         eval range from 0 to 10m step 10m topk(1, h)
           h{g=\"c\", i=\"1\"} 400 _

         eval instant at 299s topk(scalar(nosuch), h)
           expect fail msg: Parameter value is NaN

         eval instant at 5m max(h)
           {} 4

         eval instant at 0 sort_desc(h)
           expect ordered
           h{g=\"c\", i=\"1\"} 400
           h{g=\"c\", i=\"0\"} 300
           h{g=\"p\", i=\"1\"} 200
           h{g=\"p\", i=\"0\"} 100

         eval instant at 0 count_values(\"v\", h > bool 150)
           {v=\"0\"} 1
           {v=\"1\"} 3

         eval instant at 0 sum(nosuch)",
    );
}

#[test]
fn functions_over_ranges_read_left_open_windows() {
    check(
        "load 1m
           c 0+60x10 10+60x10
           g 5 1 3 3 2

         eval instant at 10m rate(c[5m])
           {} 1

         eval instant at 12m increase(c[4m])
           {} 173.33333333

         eval instant at 12m resets(c[5m])
           {} 1

         eval instant at 4m count_over_time(g[4m])
           {} 4

         eval instant at 4m avg_over_time(g[4m]) + sum_over_time(g[4m])
           {} 11.25

         eval instant at 4m changes(g[5m])
           {} 3

         eval instant at 4m delta(g[4m])
           {} 1.33333333

         eval instant at 4m quantile_over_time(0.5, g[5m])
           {} 3

         eval instant at 4m irate(c[2m]) + idelta(g[2m])
           {} 0

         eval instant at 4m stddev_over_time(g[4m])
           {} 0.829156197

         eval instant at 4m min_over_time(g[5m]) * 10 + max_over_time(g[5m])
           {} 15

         eval instant at 4m first_over_time(g[5m])
           g 5

         eval instant at 4m mad_over_time(g[5m])
           {} 1

         eval instant at 10m predict_linear(c[5m], 60)
           {} 660

         eval instant at 4m ts_of_max_over_time(g[5m]) + ts_of_last_over_time(g[5m])
           {} 240

         eval instant at 1h absent_over_time(g{a=\"b\", c=~\"d\"}[5m])
           {a=\"b\"} 1

         eval instant at 4m absent_over_time(g[5m])

         eval instant at 4m present_over_time(g[5m])
           {} 1",
    );
}

#[test]
fn functions_of_numbers_labels_and_dates() {
    check(
        "load 5m
           x{src=\"a-b\"} -1.5
           y{src=\"q\"} 2

         eval instant at 0 abs(x) + ceil(x) + floor(x) + sgn(x)
           {src=\"a-b\"} -2.5

         eval instant at 0 round(x, 0.4)
           {src=\"a-b\"} -1.6

         eval instant at 0 clamp(x, -1, 1) + clamp_min(x, 0) + clamp_max(x, -2)
           {src=\"a-b\"} -3

         eval instant at 0 clamp(x, 1, -1)

         eval instant at 0 scalar(x) * 2
           -3

         eval instant at 0 scalar({src=~\".+\"})
           NaN

         eval instant at 1m timestamp(x)
           {src=\"a-b\"} 0

         eval instant at 1m timestamp(x + 1)
           {src=\"a-b\"} 60

         eval instant at 0 label_replace(x, \"d\", \"$2/$1\", \"src\", \"(.)-(.)\")
           x{src=\"a-b\", d=\"b/a\"} -1.5

         eval instant at 0 label_replace(x, \"d\", \"z\", \"src\", \"a\")
           x{src=\"a-b\"} -1.5

         eval instant at 0 label_replace(x, \"src\", \"\", \"src\", \".*\")
           x -1.5

         eval instant at 0 label_replace(label_join({src=~\".+\"}, \"src\", \"\"), \"__name__\", \"n\", \"\", \"\")
           expect fail

         eval instant at 0 absent(nosuch{a=\"1\", b!=\"2\"})
           {a=\"1\"} 1

         eval instant at 0 absent(x)

         eval instant at 1095379200 year() * 100 + month() + day_of_week() / 10
           {} 200409.5

         eval instant at 0 days_in_month(vector(951782400)) + day_of_year(vector(951782400)) + hour(vector(3600))
           {} 90

         eval instant at 0 2 ^ 3 ^ 0.5 + 7 % -4 + pi() - pi()
           6.3219971

         eval instant at 50 time() + 1 > bool 50
           1

         eval range from 10s to 30s step 10s start() * 10000 + end() * 100 + step() + vector(range())
           {} 103030 103030 103030

         eval instant at 0 \"a\\nb\"
           expect string \"a\\nb\"

         eval instant at 0 sort_by_label(label_replace(y, \"n\", \"a10\", \"\", \"\") or label_replace(y, \"n\", \"a2\", \"\", \"\"), \"n\")
           expect ordered
           y{src=\"q\", n=\"a2\"} 2
           y{src=\"q\", n=\"a10\"} 2",
    );
}

#[test]
fn histogram_quantile_of_classic_buckets_interpolates() {
    check(
        "load 5m
           b{le=\"0.1\", j=\"a\"} 5
           b{le=\"0.2\", j=\"a\"} 15
           b{le=\"+Inf\", j=\"a\"} 20
           b{le=\"0.1\", j=\"b\"} 0
           b{le=\"0.2\", j=\"b\"} 0
           b{le=\"+Inf\", j=\"b\"} 0

         eval instant at 0 histogram_quantile(0.5, b)
           {j=\"a\"} 0.15
           {j=\"b\"} NaN

         eval instant at 0 histogram_quantile(0.5, sum by (le) (b))
           {} 0.15

         eval instant at 0 histogram_fraction(0.05, 0.15, b{j=\"a\"})
           {j=\"a\"} 0.375",
    );
}

#[test]
fn strings_that_are_not_utf8_are_no_labels() {
    check(
        "load 1m
           x 1

         eval instant at 0 count_values(\"a\\xc5z\", x)
           expect fail msg: invalid label name \"a\\xc5z\"

         eval instant at 0 label_replace(x, \"a\", \"\\xff\", \"\", \"\")
           expect fail msg: string \"\\xff\" is not UTF-8

         eval instant at 0 \"\\xff\"
           expect fail msg: string \"\\xff\" is not UTF-8

         eval instant at 0 x{a!=\"\\xff\"}
           expect fail msg: expected string",
    );
}

#[test]
fn anchored_ranges_begin_with_the_sample_before() {
    check(
        "load 1m
           x{a=\"1\"} 1 3 6 2 4
           x{a=\"2\"} 1
           x{a=\"3\"} 5 {{count:1}} {{count:3}}

         eval instant at 4m increase(x{a!=\"3\"}[90s] anchored)
           {a=\"1\"} 4

         eval instant at 4m30s increase(x{a!=\"3\"}[2m] anchored offset 30s)
           {a=\"1\"} 4

         eval instant at 4m delta(x{a!=\"3\"}[2m] anchored)
           {a=\"1\"} -2

         eval instant at 4m rate(x{a!=\"3\"}[2m] anchored) * 120
           {a=\"1\"} 4

         eval instant at 4m changes(x{a!=\"3\"}[1m] anchored)
           {a=\"1\"} 1

         eval instant at 4m resets(x{a!=\"3\"}[2m] anchored)
           {a=\"1\"} 1

         eval instant at 7m increase(x{a=\"1\"}[1m] anchored)

         eval instant at 2m increase(x{a=\"3\"}[1m] anchored)
           expect warn msg: encountered a mix of histograms and floats for metric name \"x\" (1:10)

         eval instant at 2m resets(x{a=\"3\"}[1m] anchored)
           {a=\"3\"} 0

         eval instant at 2m sum(increase(x{a!=\"3\"}[2m] anchored))
           {} 5",
    );
}

#[test]
fn smoothed_selectors_lie_on_lines_between_samples() {
    check(
        "load 1m
           x 0 6 12 3
           h {{count:2 sum:4}} {{count:4 sum:8}}

         eval range from 0 to 4m step 30s x smoothed
           x 0 3 6 9 12 7.5 3 3 3

         eval instant at 90s increase(x[1m] smoothed)
           {} 6

         eval instant at 150s increase(x[1m] smoothed)
           {} 4.5

         eval instant at 30s h smoothed
           h {{count:3 sum:6}}

         eval instant at 45s increase(h[30s] smoothed)
           expect no_warn
           {} {{count:1 sum:2 counter_reset_hint:gauge}}

         eval instant at 30s timestamp(x smoothed)
           {} 30

         eval instant at 30s sum(x smoothed)
           {} 3

         eval instant at 30s x{a=\"1\"} smoothed",
    );
}
