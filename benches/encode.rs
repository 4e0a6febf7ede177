//! Answers as JSON: 100 series of 11,000 points, the most that one panel asks for. Numbers of all digits, of four, and whole.
//!
//! Run with `cargo bench --bench encode`; prints MB/s of one core for each, the middle of five.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;

use icecore::http::{AnswerForm, answer_json};
use icecore::{Answer, QueryValue, Sample};
use icecore_query::promql::Labels;
use icecore_query::promql::value::MatrixSeries;

#[path = "common/cost.rs"]
mod cost;

use cost::Moment;

const SERIES: usize = 100;
const POINTS: i64 = 11_000;
/// Fifteen seconds apart, from 2026-01-01T00:00:00Z on.
const START_NS: i64 = 1_767_225_600_000_000_000;
const STEP_NS: i64 = 15_000_000_000;
const RUNS: usize = 5;

fn answer(value: impl Fn(f64) -> f64) -> Answer {
    let series = |number: usize| {
        let labels = [("__name__", "cpu_usage_user".to_owned()), ("hostname", format!("host_{number}"))];
        let point = |step: i64| {
            // Far from whole numbers, and in no order.
            let share = (step as f64 * 0.618_033_988_749_894_9
                + number as f64 * std::f64::consts::FRAC_1_SQRT_2)
                .fract();
            (START_NS + step * STEP_NS, Sample::Float(value(share)))
        };
        MatrixSeries { labels: Labels::new(labels), points: (0..POINTS).map(point).collect() }
    };
    let value = QueryValue::Matrix((0..SERIES).map(series).collect());
    Answer { value, warnings: Vec::new(), infos: Vec::new(), coverage: Default::default() }
}

fn main() {
    println!("\n{SERIES} series of {POINTS} points");
    run("all digits", &answer(|share| share * 100.0));
    run("four digits", &answer(|share| (share * 10_000.0).floor() / 100.0));
    run("whole", &answer(|share| (share * 1e6).floor()));
}

fn run(name: &str, answer: &Answer) {
    let mut speeds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Moment::now();
            let bytes = black_box(answer_json(answer, AnswerForm::default())).len();
            bytes as f64 / 1e6 / start.cost().cpu.as_secs_f64()
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    println!("  {:7.0} MB/s: {name}", speeds[RUNS / 2]);
}
