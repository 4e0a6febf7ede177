//! Law of evaluation: any PromQL or SELECT over a small database answers or fails, without panic and within its
//! budget; printing an expression and reading it back does not change its answer.
//!
//! The first byte chooses the language and its form: text as it is, or words of the language by number, so that
//! the fuzzer finds long valid queries sooner.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use icecore::ingest::line::LineLimits;
use icecore::ingest::{Precision, decode};
use icecore_query::{Budget, Limits, promql, select};
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::{Engine, Env};
use icecore_storage::fs::SimFs;
use icecore_storage::model::{HOUR_NS, SECOND_NS};
use icecore_storage::options::{Options, Retention};
use icecore_storage::scan::{Resolution, Scan};

/// 2024-01-01T00:00:00Z.
const START_NS: i64 = 1_704_067_200 * SECOND_NS;
const NOW_NS: i64 = START_NS + 4 * HOUR_NS;
const LIMITS: Limits = Limits {
    samples_max: 200_000,
    series_max: 1_000,
    result_series_max: 1_000,
    points_max: 20_000,
    memory_bytes_max: 64 << 20,
    steps_max: 1_000,
    text_bytes_max: 16 * 1024,
    timeout: Duration::from_secs(1),
};
/// What a query may take beyond its time: machines that fuzz are slow and busy.
const GRACE: Duration = Duration::from_secs(4);

#[rustfmt::skip]
const PROMQL: [&str; 118] = [
    "(", ")", "{", "}", "[", "]", ",", ":", "+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">=", "=~",
    "!~", "=", " ", "and", "or", "unless", "atan2", " by ", " without ", " on ", " ignoring ", " group_left ",
    " group_right ", " bool ", " offset ", " @ ", "start()", "end()", "sum", "avg", "min", "max", "count", "topk",
    "bottomk", "quantile", "stddev", "group", "count_values", "limitk", "rate(", "increase(", "delta(", "irate(",
    "idelta(", "deriv(", "predict_linear(", "changes(", "resets(", "sum_over_time(", "avg_over_time(",
    "quantile_over_time(", "min_over_time(", "last_over_time(", "stddev_over_time(", "absent_over_time(",
    "histogram_quantile(", "histogram_count(", "histogram_avg(", "label_replace(", "label_join(", "absent(",
    "scalar(", "vector(", "time()", "clamp(", "round(", "sort_desc(", "timestamp(", "req_latency", "req_total",
    "req_ok", "up", "__name__", "__stat__=\"hist\"", "service", "\"cart\"", "\".*\"", "5m", "1h", "90s", "0.9",
    "1e9", "NaN", "-Inf", " fill (0) ", " fill_left (-1) ", " fill_right (NaN) ", "info(", "{service=~\".*\"}", "step()",
    "range()", "min_of(", "max_of(", " anchored", " smoothed", "</", ">/", "limit_ratio", "[5m]", "[1h:5m]", "[step() * 2]",
    " offset -step()", "start_timestamp(", "sort_by_label(", "mad_over_time(", "double_exponential_smoothing(",
];

#[rustfmt::skip]
const SELECT: [&str; 120] = [
    "SELECT ", " FROM ", " WHERE ", " GROUP BY ", " ORDER BY ", " LIMIT ", " OFFSET ", " SLIMIT ", "SHOW ",
    "MEASUREMENTS ", "TAG KEYS ", "TAG VALUES ", "FIELD KEYS ", "SERIES ", " WITH KEY = ", " AND ", " OR ", " fill(",
    "time(", "time", " DESC", " AS ", "(", ")", ",", ";", "*", "+", "-", "/", "%", " = ", " != ", " < ", " > ",
    " <= ", " >= ", " =~ ", " !~ ", "'", "\"", "/.*/", "/ca/", "now()", "1m", "5m", "1h", "30s", "0", "1", "10",
    "100000000", "2.5", "'cart'", "'2024-01-01T01:00:00Z'", "null", "none", "previous", "linear", "count(", "mean(",
    "sum(", "min(", "max(", "first(", "last(", "percentile(", "distinct(", "stddev(", "spread(", "derivative(",
    "top(", "median(", "latency", "total", "ok", "note", "service", "req", "::", "(SELECT ", " HAVING ", " LIKE 'c%'",
    "EXPLAIN ANALYZE SELECT ", " AS x", "x", "bottom(", "sample(", "integral(", "uptime(", "downtime(", "error_rate(",
    "fraction_le(", "apdex(", "difference(", "non_negative_derivative(", "moving_average(", "cumulative_sum(",
    "elapsed(", "abs(", "pow(", "log(", "round(", "sqrt(", " SOFFSET ", "time >= '2024-01-01T01:00:00Z'", ", 2)", ", 1m)",
    "latency)", "total)", " FROM req", " GROUP BY time(10m)", " GROUP BY service", "CARDINALITY ", "EXACT ", "distinct ",
    "mode(", "uniq(", "$x", "ok, 5m)",
];

/// The first byte chooses what the rest is.
pub fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let text = match choice & 2 {
        0 => match std::str::from_utf8(rest) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
        _ if choice & 1 == 0 => words(&PROMQL, rest),
        _ => words(&SELECT, rest),
    };
    let start = Instant::now();
    if choice & 1 == 0 {
        check_promql(&text)
    } else {
        check_select(&text)
    }
    assert!(start.elapsed() < 4 * (LIMITS.timeout + GRACE), "{:?} took {:?}", text, start.elapsed());
}

fn words(table: &[&str], bytes: &[u8]) -> String {
    bytes.iter().filter_map(|byte| table.get(usize::from(*byte) % table.len()).copied()).collect()
}

fn budget() -> Budget {
    let start = Instant::now();
    Budget::new(LIMITS, Arc::new(move || start.elapsed()))
}

fn check_promql(text: &str) {
    let scan = view();
    let instant = |text: &str| {
        let budget = budget();
        let context = promql_context(scan, &budget);
        let answer = promql::instant(&context, text, NOW_NS - 90 * SECOND_NS);
        answer.map(|answer| format!("{:?}", answer.value)).map_err(|error| error.kind())
    };
    let answer = instant(text);
    if let (Ok(answer), Ok(expr)) = (&answer, promql::parse(text)) {
        assert_eq!(instant(&expr.to_string()).as_ref(), Ok(answer), "{expr}");
    }
    let budget = budget();
    let context = promql_context(scan, &budget);
    if let Ok(answer) = promql::range(&context, text, START_NS, NOW_NS, 7 * 60 * SECOND_NS) {
        let points = format!("{:?}", answer.value).len();
        assert!(points < 100_000_000, "an answer within its limits takes {points} bytes as text");
    }
}

fn promql_context<'a>(scan: &'a dyn Scan, budget: &'a Budget) -> promql::Context<'a> {
    promql::Context { scan, budget, lookback: Duration::from_secs(300), resolution: Resolution::Auto }
}

fn check_select(text: &str) {
    let Ok(statements) = select::parse(text) else { return };
    for statement in statements.iter().take(4) {
        let budget = budget();
        let context =
            select::Context { scan: view(), budget: &budget, now_ns: NOW_NS, resolution: Resolution::Auto };
        if let Ok(table) = select::execute(&context, statement) {
            let cells: usize = table.series.iter().flat_map(|series| &series.rows).map(Vec::len).sum();
            assert!(cells as u64 <= 2 * LIMITS.points_max, "{cells} cells for {text:?}");
        }
    }
}

/// Three services with numbers, flags and texts for four hours; the first three are rolled up.
fn view() -> &'static dyn Scan {
    static VIEW: OnceLock<Arc<dyn Scan>> = OnceLock::new();
    VIEW.get_or_init(|| {
        let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::new(ManualClock::new(NOW_NS)) };
        let options = Options { free_bytes_min: 0, ..Options::default() };
        let engine =
            Engine::open(env, Path::new("/db"), options, Retention::FOREVER).expect("a new database");
        for hour in 0..4 {
            let body = lines(hour);
            let decoded = decode(body.as_bytes(), Precision::S, NOW_NS, &LineLimits::default());
            let report = engine.write(&decoded.batch).expect("rows are taken");
            assert_eq!((decoded.rejected_count, report.rejected.len()), (0, 0));
            if hour == 2 {
                engine.seal().expect("rows are rolled up");
            }
        }
        engine.view()
    })
    .as_ref()
}

fn lines(hour: i64) -> String {
    let mut body = String::new();
    for step in 0..120 {
        for (index, service) in ["cart", "pay", "search"].into_iter().enumerate() {
            let n = (hour * 120 + step) * 7 % 31 + i64::try_from(index).unwrap_or(0);
            let time = START_NS / SECOND_NS + hour * 3_600 + step * 30;
            let total = (hour * 120 + step) % 200 * 13;
            let ok = if n % 5 == 0 { 'f' } else { 't' };
            body += &format!(
                "req,service={service},zone=z{} latency={}.5,total={total}i,ok={ok},note=\"n{}\" {time}\n",
                index % 2,
                n - 4,
                n % 3
            );
        }
        body += &format!("up value={}u {}\n", step % 2, START_NS / SECOND_NS + hour * 3_600 + step * 30);
    }
    body
}
