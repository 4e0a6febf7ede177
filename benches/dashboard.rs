//! A dashboard over six hours by 15 s that moves on by a step: with what is kept of the answers before, and without.
//!
//! Run with `cargo bench --bench dashboard`; prints one line per panel: milliseconds on the wall of one refresh without and
//! with it (the middle, and the smallest and largest), and the ratio of the middles. Before each refresh the rows of 15 s
//! are written, and both sides are asked one after the other.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::expect_used, reason = "a bench ends at the first failure")]

use icecore::database::Steps;
use icecore::ingest::line::Precision;
use icecore::{Config, Database, QueryOptions, QueryValue, Retention};

#[expect(dead_code, reason = "one shape of several")]
mod common;
#[path = "common/cost.rs"]
mod cost;

use cost::Moment;

const SECOND_NS: i64 = 1_000_000_000;
/// Each with a row of ten fields every ten seconds.
const HOSTS: u64 = 100;
const STEP_NS: i64 = 15 * SECOND_NS;
/// Steps of a panel but one: six hours.
const STEPS: i64 = 6 * 240;
const REFRESHES: i64 = 20;
/// Rows before the first refresh, and in all.
const OLD_ROWS: usize = (HOSTS as usize) * 6 * 360;
const ROWS: usize = OLD_ROWS + HOSTS as usize * 2 * REFRESHES as usize;

const PANELS: [&str; 5] = [
    "avg by (rack) (cpu_usage_user)",
    "max(cpu_usage_user)",
    "sum by (service) (rate(cpu_usage_user[5m]))",
    "topk(5, avg_over_time(cpu_usage_system[10m]))",
    "cpu_usage_idle",
];

fn main() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let config = Config { retention: Retention::FOREVER, ..Config::default() };
    let database = Database::open_with(scratch.path(), config).expect("a database");
    let text = common::tsbs_lines(HOSTS, ROWS);
    let lines: Vec<&str> = text.lines().collect();
    let (old, new) = lines.split_at(OLD_ROWS);
    old.chunks(20_000).for_each(|batch| write(&database, batch));
    database.flush().expect("a healthy disk");
    let mut new = new.chunks(HOSTS as usize).peekable();
    let mut end_ns = common::START_NS + STEPS * STEP_NS;
    for panel in PANELS {
        ask(&database, panel, end_ns, true);
    }
    let mut costs = PANELS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..REFRESHES {
        end_ns += STEP_NS;
        // A round of rows each ten seconds: one or two up to the end of the range.
        while let Some(batch) = new.next_if(|batch| time_of(batch) <= end_ns) {
            write(&database, batch);
        }
        for (panel, (without, with)) in PANELS.iter().zip(&mut costs) {
            let (fresh, fresh_points) = ask(&database, panel, end_ns, false);
            let (kept, kept_points) = ask(&database, panel, end_ns, true);
            assert_eq!(fresh_points, kept_points, "{panel}");
            without.push(fresh);
            with.push(kept);
        }
    }
    println!("{HOSTS} series, {} steps, {REFRESHES} refreshes; ms without and with kept answers", STEPS + 1);
    for (panel, (without, with)) in PANELS.iter().zip(&mut costs) {
        let ((before, before_range), (after, after_range)) = (middle(without), middle(with));
        let ratio = before / after;
        println!("  {before:8.2} {before_range}  {after:7.2} {after_range}  {ratio:5.1} times: {panel}");
    }
    println!("{:?}", database.result_stats());
}

fn write(database: &Database, lines: &[&str]) {
    let report = database.write_lines(lines.join("\n").as_bytes(), Precision::Ns).expect("a healthy disk");
    assert_eq!(report.rejected, []);
}

fn time_of(batch: &[&str]) -> i64 {
    let time =
        batch.first().and_then(|line| line.rsplit_once(' ')).map(|(_, time)| time.parse().expect("a time"));
    time.expect("a line")
}

/// Milliseconds of a refresh, and the points of its answer.
fn ask(database: &Database, text: &str, end_ns: i64, may_reuse: bool) -> (f64, usize) {
    let query = database.query(QueryOptions { may_reuse, ..QueryOptions::default() });
    let steps = Steps { start_ns: end_ns - STEPS * STEP_NS, end_ns, step_ns: STEP_NS };
    let start = Moment::now();
    let answer = database.run_promql_range(&query, text, steps).expect("an answer");
    let ms = start.cost().wall.as_secs_f64() * 1e3;
    let QueryValue::Matrix(series) = answer.value else { return (ms, 0) };
    (ms, series.iter().map(|one| one.points.len()).sum())
}

fn middle(costs: &mut [f64]) -> (f64, String) {
    costs.sort_by(f64::total_cmp);
    let (first, last) = (costs.first().copied(), costs.last().copied());
    let range = format!("({:.2} to {:.2})", first.unwrap_or_default(), last.unwrap_or_default());
    (costs.get(costs.len() / 2).copied().unwrap_or_default(), range)
}
