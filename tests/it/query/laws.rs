//! The law of the layers: whatever was written in whatever order, overwritten, deleted, flushed, sealed and dropped by
//! retention, a query answers as it does over the same rows in a database that has never pressed anything.
//!
//! Identical are counts, extremes, first and last values, changes, resets, histograms and their quantiles; sums and rates
//! agree to 1e-12 (rates where large values cancel out, of those), deviations to 1e-7. Once raw rows are gone this holds on
//! the edges of the finest layer left, and no answer may say that it was rounded. Real engine and languages on a simulated
//! disk; `ICECORE_TEST_SEED=n` runs one seed.
//!
//! Order: the estate and what happens to it, the questions, the comparison, the test.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use icecore::{Cell, Guard, QueryValue, Retention, Sample};
use icecore_query::promql::{self, HistogramValue};
use icecore_query::{Budget, Limits, select};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::model::{SeriesSet, TimeRange};
use icecore_storage::scan::Resolution;

use super::sim::{Random, open, seeds, write};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
const HOUR_NS: i64 = 60 * MINUTE_NS;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;
const HOURS: i64 = 6;
const HOSTS: [(&str, &str); 3] = [("a", "x"), ("b", "x"), ("c", "y")];
const FIELDS: [&str; 4] = ["v", "c", "n", "ok"];
/// Questions to each state of an estate.
const QUESTIONS: usize = 25;

/// Text of the value by host, time and field: the last write of each.
type Content = BTreeMap<(&'static str, i64, &'static str), String>;

fn line((host, dc): (&str, &str), fields: &[(&'static str, String)], ts_ns: i64) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("m,dc={dc},host={host} {} {ts_ns}\n", fields.join(","))
}

/// A database to which things happen, and what should be in it.
struct Estate {
    random: Random,
    clock: Arc<ManualClock>,
    engine: Engine,
    content: Content,
    now_ns: i64,
    retention: Retention,
    /// How the values of this estate look: seconds between rows of a host at most.
    gap_ns: i64,
}

impl Estate {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clock = Arc::new(ManualClock::new(START_NS));
        // Raw rows in partitions of an hour.
        let retention = Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER };
        let gap_ns = random.one_of(&[4, 15, 60, 400, 1500]) * SECOND_NS;
        let engine = open(&clock, retention);
        Self { random, clock, engine, content: Content::new(), now_ns: START_NS, retention, gap_ns }
    }

    /// Some hours of life: rows in more or less their order, and jobs between them.
    fn live(&mut self) {
        for part in 0..HOURS * 3 {
            let start_ns = START_NS + part * 20 * MINUTE_NS;
            self.now_ns = start_ns + 20 * MINUTE_NS;
            self.clock.set(self.now_ns);
            let mut lines = String::new();
            for host in HOSTS {
                let mut at_ns = start_ns + self.random.ns(self.gap_ns);
                while at_ns < self.now_ns {
                    self.row(&mut lines, host, at_ns);
                    at_ns += 1000 + self.random.ns(self.gap_ns);
                }
            }
            for _ in 0..self.random.below(8) {
                self.stray_row(&mut lines, START_NS);
            }
            write(&self.engine, &lines);
            match self.random.below(5) {
                0 => self.engine.flush().unwrap(),
                1 | 2 => self.engine.maintain().unwrap(),
                3 => self.engine.seal().unwrap(),
                _ => {}
            }
        }
    }

    /// A row anywhere from a time on, often where one is already.
    fn stray_row(&mut self, lines: &mut String, from_ns: i64) {
        let host = self.random.one_of(&HOSTS);
        let mut at_ns = from_ns + self.random.ns(self.now_ns - from_ns);
        if self.random.below(2) == 0
            && let Some(((_, known_ns, _), _)) = self.content.range((host.0, at_ns, "")..).next()
            && from_ns <= *known_ns
        {
            at_ns = *known_ns;
        }
        self.row(lines, host, at_ns);
    }

    fn row(&mut self, lines: &mut String, host: (&'static str, &'static str), at_ns: i64) {
        let random = &mut self.random;
        // Rows on the edges of cells are the usual case: collectors round their times.
        let at_ns = match random.below(8) {
            0 => at_ns / MINUTE_NS * MINUTE_NS,
            1 => at_ns / (5 * MINUTE_NS) * 5 * MINUTE_NS,
            2 => at_ns / SECOND_NS * SECOND_NS,
            _ => at_ns,
        };
        let v = match random.below(12) {
            0 => 0.0,
            1 => -(random.below(1_000_000) as f64) / 1000.0,
            2 => random.below(1 << 40) as f64 / 7.0,
            _ => random.below(2_000_000) as f64 / 1000.0,
        };
        // Grows with time, and begins again every 37 minutes.
        let c = (at_ns - START_NS) % (37 * MINUTE_NS) / SECOND_NS;
        let n = i64::try_from(random.below(1 << 20)).unwrap() - (1 << 18);
        let all = [
            ("v", format!("{v:?}")),
            ("c", format!("{c}.5")),
            ("n", format!("{n}i")),
            ("ok", random.one_of(&["true", "false"]).to_owned()),
        ];
        let mut fields: Vec<_> = all.into_iter().filter(|_| random.below(8) > 0).collect();
        if fields.is_empty() {
            fields.push(("v", format!("{v:?}")));
        }
        lines.push_str(&line(host, &fields, at_ns));
        for (field, value) in fields {
            self.content.insert((host.0, at_ns, field), value);
        }
    }

    /// Deletes some minutes or hours of one host or of all.
    fn delete(&mut self) {
        let start_ns = START_NS + self.random.ns(HOURS * HOUR_NS);
        let range = TimeRange::new(start_ns, start_ns + 1 + self.random.ns(2 * HOUR_NS));
        let host = self.random.one_of(&[None, Some("a"), Some("b")]);
        let view = self.engine.view();
        let measurement = view.schema("m").unwrap().measurement;
        let series = view.series(measurement, &[], TimeRange::ALL, 10).unwrap();
        let chosen = series.iter().filter(|info| host.is_none_or(|host| info.key.tag("host") == Some(host)));
        let ids = chosen.map(|info| info.id).collect();
        self.engine.delete(&[SeriesSet { measurement, series: Some(ids) }], range).unwrap();
        self.content
            .retain(|(at, ts_ns, _), _| !range.contains(*ts_ns) || host.is_some_and(|host| host != *at));
    }

    fn retain(&mut self, retention: Retention) {
        self.retention = retention;
        self.engine.set_retention(retention).unwrap();
        self.engine.apply_retention(Guard::Forced).unwrap();
    }

    /// Late rows, younger than raw rows are kept.
    fn late(&mut self) {
        let raw_ns = self.retention.raw.map_or(HOURS * HOUR_NS, |raw| i64::try_from(raw.as_nanos()).unwrap());
        let mut lines = String::new();
        for _ in 0..1 + self.random.below(20) {
            // A row may move back to the edge of five minutes.
            self.stray_row(&mut lines, START_NS.max(self.now_ns - raw_ns + 5 * MINUTE_NS));
        }
        write(&self.engine, &lines);
    }

    /// The same rows in memory alone.
    fn twin(&self) -> Engine {
        let engine = open(&self.clock, Retention::FOREVER);
        let mut lines = String::new();
        for ((host, ts_ns, field), value) in &self.content {
            let dc = HOSTS.iter().find(|(name, _)| name == host).unwrap().1;
            writeln!(lines, "m,dc={dc},host={host} {field}={value} {ts_ns}").unwrap();
        }
        if !lines.is_empty() {
            write(&engine, &lines);
        }
        engine
    }
}

/// How near two numbers must be: by a share of the larger one, or of `scale` where both are smaller.
#[derive(Debug, Clone, Copy)]
struct Near {
    share: f64,
    scale: f64,
}

const SAME: Near = Near { share: 0.0, scale: 0.0 };
const SUM: Near = Near { share: 1e-12, scale: 0.0 };
const DEVIATION: Near = Near { share: 1e-7, scale: 0.0 };
/// Of increases of `v`, whose values are up to 1.6e11: where a window begins with such a one, two of them cancel out.
const INCREASE_SCALE: f64 = 1e9;

impl Near {
    /// The same, of an increase or a rate over a window.
    fn of_increases(self, field: &str, function: &str, width_ns: i64) -> Self {
        let scale = match (field, function) {
            ("v", "increase") => INCREASE_SCALE,
            ("v", "rate") => INCREASE_SCALE * SECOND_NS as f64 / width_ns as f64,
            _ => self.scale,
        };
        Self { scale, ..self }
    }
}

/// A query and how exact it has to be.
#[derive(Debug)]
enum Question {
    Promql { text: String, start_ns: i64, end_ns: i64, step_ns: i64, near: Near },
    Select { text: String, near: Vec<Near> },
}

fn duration(ns: i64) -> String {
    assert_eq!(ns % 1_000_000, 0);
    format!("{}ms", ns / 1_000_000)
}

/// A question whose windows lie on a grid.
fn question(random: &mut Random, grid_ns: i64) -> Question {
    let units = |random: &mut Random, most_ns: i64| {
        grid_ns
            * (1 + i64::try_from(random.below(u64::try_from((most_ns / grid_ns).max(1)).unwrap())).unwrap())
    };
    let (width_ns, step_ns) = (units(random, 3 * HOUR_NS), units(random, HOUR_NS));
    // Any nanosecond will do where rows are there.
    let shift_ns = if grid_ns < MINUTE_NS { i64::try_from(random.below(1_000_000)).unwrap() } else { 0 };
    let start_ns = START_NS + units(random, HOURS * HOUR_NS) - grid_ns + shift_ns;
    let end_ns = start_ns + step_ns * i64::try_from(random.below(12)).unwrap();
    if random.below(3) == 0 {
        return select_question(random, (start_ns, start_ns + width_ns * 4), width_ns, grid_ns);
    }
    let field = random.one_of(&FIELDS);
    let selector = random.one_of(&["", r#"host="a""#, r#"dc="x""#, r#"host!="b""#]);
    let offset = match random.below(4) {
        0 => format!(" offset {}", duration(units(random, HOUR_NS))),
        _ => String::new(),
    };
    let range = duration(width_ns);
    let (text, near) = if random.below(4) == 0 {
        let selector = format!(
            r#"m_{field}{{__stat__="hist"{}{selector}}}"#,
            if selector.is_empty() { "" } else { "," }
        );
        let hist = format!("sum_over_time({selector}[{range}]{offset})");
        match random.below(5) {
            0 if field != "ok" => (hist, SUM),
            1 if field != "ok" => (format!("sum by (dc) ({hist})"), SUM),
            2 if field != "ok" => (format!("histogram_fraction(0, 500, sum({hist}))"), SUM),
            _ if field != "ok" => {
                (format!("histogram_quantile(0.{}, sum by (dc) ({hist}))", random.below(100)), SAME)
            }
            _ => (format!("count_over_time(m_ok[{range}])"), SAME),
        }
    } else {
        let (function, near) = random.one_of(&[
            ("count_over_time", SAME),
            ("min_over_time", SAME),
            ("max_over_time", SAME),
            ("first_over_time", SAME),
            ("last_over_time", SAME),
            ("present_over_time", SAME),
            ("changes", SAME),
            ("resets", SAME),
            ("ts_of_first_over_time", SAME),
            ("ts_of_last_over_time", SAME),
            ("sum_over_time", SUM),
            ("avg_over_time", SUM),
            ("rate", SUM),
            ("increase", SUM),
            ("delta", SUM),
            ("stddev_over_time", DEVIATION),
            ("stdvar_over_time", DEVIATION),
        ]);
        let near = near.of_increases(field, function, width_ns);
        let leaf = format!("{function}(m_{field}{{{selector}}}[{range}]{offset})");
        match random.below(8) {
            0 => (format!("max by (dc) ({leaf})"), near),
            1 => (format!("count({leaf})"), near),
            2 => (format!("min without (host) ({leaf})"), near),
            3 => {
                let fine = duration(grid_ns.max(MINUTE_NS));
                (format!("max_over_time({leaf}[{}:{fine}])", duration(grid_ns.max(MINUTE_NS) * 3)), near)
            }
            _ => (leaf, near),
        }
    };
    Question::Promql { text, start_ns, end_ns, step_ns, near }
}

/// A SELECT; its buckets lie on multiples of their width.
fn select_question(
    random: &mut Random,
    (start_ns, end_ns): (i64, i64),
    width_ns: i64,
    grid_ns: i64,
) -> Question {
    let field = random.one_of(&["v", "c", "n"]);
    let mut columns = Vec::new();
    let mut near = vec![SAME];
    for _ in 0..1 + random.below(3) {
        let (column, exact) = random.one_of(&[
            ("count(%)", SAME),
            ("min(%)", SAME),
            ("max(%)", SAME),
            ("first(%)", SAME),
            ("last(%)", SAME),
            ("spread(%)", SAME),
            ("percentile(%, 90)", SAME),
            ("p99(%)", SAME),
            ("median(%)", SAME),
            ("sum(%)", SUM),
            ("mean(%)", SUM),
            ("stddev(%)", DEVIATION),
        ]);
        columns.push(format!("{} AS c{}", column.replace('%', field), columns.len()));
        near.push(exact);
    }
    let tag = random.one_of(&["", " AND host = 'a'", " AND dc = 'x'"]);
    let group = random.one_of(&["", ", host", ", dc"]);
    let columns = columns.join(", ");
    let width_ns = if grid_ns < MINUTE_NS { width_ns.max(10 * SECOND_NS) } else { width_ns };
    let text = format!(
        "SELECT {columns} FROM m WHERE time >= {start_ns} AND time < {end_ns}{tag} GROUP BY time({}){group} fill(none)",
        duration(width_ns)
    );
    Question::Select { text, near }
}

/// What an answer says, by place: the labels or tags, the time or row, and the column.
type Points = BTreeMap<(String, i64, usize), Point>;

#[derive(Debug, Clone, PartialEq)]
enum Point {
    Number(f64),
    Histogram(Arc<HistogramValue>),
    Cell(Cell),
}

impl Question {
    fn ask(&self, engine: &Engine, now_ns: i64) -> Points {
        let budget = Budget::untimed(Limits::default());
        let (view, lookback) = (engine.view(), Duration::from_secs(300));
        match self {
            Self::Promql { text, start_ns, end_ns, step_ns, .. } => {
                let resolution = Resolution::Auto;
                let context = promql::Context { scan: &*view, budget: &budget, lookback, resolution };
                let answer = promql::range(&context, text, *start_ns, *end_ns, *step_ns);
                let answer = answer.unwrap_or_else(|error| panic!("{self:?}: {error}"));
                let rounded = answer.infos.iter().find(|info| info.contains("rounded"));
                assert_eq!(rounded, None, "{self:?}");
                let QueryValue::Matrix(series) = answer.value else { panic!("{self:?} is no matrix") };
                let points = series.iter().flat_map(|one| {
                    let labels = one.labels.to_string();
                    one.points.iter().map(move |(ts_ns, sample)| ((labels.clone(), *ts_ns, 0), point(sample)))
                });
                points.collect()
            }
            Self::Select { text, .. } => {
                let resolution = Resolution::Auto;
                let context = select::Context { scan: &*view, budget: &budget, now_ns, resolution };
                let statements = select::parse(text).unwrap_or_else(|error| panic!("{self:?}: {error}"));
                let table = select::execute(&context, &statements[0]);
                let table = table.unwrap_or_else(|error| panic!("{self:?}: {error}"));
                assert_eq!(table.messages, Vec::<String>::new(), "{self:?}");
                let mut points = Points::new();
                for series in &table.series {
                    for row in &series.rows {
                        let Cell::Time(at_ns) = row[0] else { panic!("{self:?}: no time in {row:?}") };
                        for (place, cell) in row.iter().enumerate() {
                            points.insert(
                                (format!("{:?}", series.tags), at_ns, place),
                                Point::Cell(cell.clone()),
                            );
                        }
                    }
                }
                points
            }
        }
    }

    fn near(&self, column: usize) -> Near {
        match self {
            Self::Promql { near, .. } => *near,
            Self::Select { near, .. } => near[column],
        }
    }
}

fn point(sample: &Sample) -> Point {
    match sample {
        Sample::Float(value) => Point::Number(*value),
        Sample::Histogram(value) => Point::Histogram(Arc::clone(value)),
    }
}

fn is_near(left: f64, right: f64, near: Near) -> bool {
    let both_nan = left.is_nan() && right.is_nan();
    both_nan
        || left == right
        || (left - right).abs() <= near.share * left.abs().max(right.abs()).max(near.scale)
}

fn agree(left: &Point, right: &Point, near: Near) -> bool {
    match (left, right) {
        (Point::Number(left), Point::Number(right)) => is_near(*left, *right, near),
        (Point::Cell(Cell::Float(left)), Point::Cell(Cell::Float(right))) => is_near(*left, *right, near),
        (Point::Histogram(left), Point::Histogram(right)) => {
            let same_sum = HistogramValue { sum: right.sum, ..(**left).clone() };
            same_sum == **right && is_near(left.sum, right.sum, near)
        }
        (left, right) => left == right,
    }
}

/// Asks both; returns how much was compared.
fn compare(estate: &mut Estate, state: &str, grid_ns: i64, seed: u64) -> usize {
    let twin = estate.twin();
    let mut compared = 0;
    for number in 0..QUESTIONS {
        let question = question(&mut estate.random, grid_ns);
        let place = format!("seed {seed}, {state}, question {number}: {question:?}");
        let (found, expected) =
            (question.ask(&estate.engine, estate.now_ns), question.ask(&twin, estate.now_ns));
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{place}: places that have a value"
        );
        for ((at, left), right) in found.iter().zip(expected.values()) {
            let near = question.near(at.2);
            assert!(agree(left, right, near), "{place}: {at:?} is {left:?}, over rows {right:?}, {near:?}");
        }
        compared += found.len();
    }
    compared
}

/// All states of one estate; returns how many questions were asked and points compared.
fn judge(seed: u64) -> (usize, usize) {
    let mut estate = Estate::new(seed);
    estate.live();
    let mut compared = compare(&mut estate, "as it came", 1_000_000, seed);
    if seed.is_multiple_of(3) {
        estate.delete();
    }
    estate.engine.seal().unwrap();
    compared += compare(&mut estate, "sealed", 1_000_000, seed);
    estate.late();
    compared += compare(&mut estate, "late rows", 1_000_000, seed);
    estate.engine.seal().unwrap();
    let some = |hours: u64| Some(Duration::from_secs(hours * 3600));
    let raw = some(1 + seed % 3);
    let without_raw = Retention { raw, ..Retention::FOREVER };
    let without_m1 = Retention { m1: raw, ..without_raw };
    let steps = [
        ("without raw rows", MINUTE_NS, without_raw),
        ("without 1m", 5 * MINUTE_NS, without_m1),
        ("without 5m", HOUR_NS, Retention { m5: raw, ..without_m1 }),
    ];
    for (state, grid_ns, retention) in steps {
        estate.retain(retention);
        compared += compare(&mut estate, state, grid_ns, seed);
        estate.late();
        estate.engine.maintain().unwrap();
        compared += compare(&mut estate, &format!("{state}, late rows"), grid_ns, seed);
        estate.engine.seal().unwrap();
    }
    (9 * QUESTIONS, compared)
}

#[test]
fn queries_over_layers_answer_as_over_rows() {
    // 10,000 questions; the long form has ten, the night's a hundred times as many.
    let (mut asked, mut compared) = (0, 0);
    for seed in seeds(45, 445, 4_450) {
        let (questions, points) = judge(seed);
        (asked, compared) = (asked + questions, compared + points);
    }
    assert!(asked * 5 < compared, "{asked} questions compare only {compared} points");
}
