//! The law of kept answers: whatever is written, late or over what is there, deleted, flushed, sealed and dropped between two
//! range queries, one that may use what was answered before answers as one that may not.
//!
//! Dashboards ask again and again while their ranges move on, back and in width. Labels, times, warnings and infos are the
//! same; numbers agree to 1e-12, deviations to 1e-7: a sum over a window may be made of other parts. Real databases on a
//! simulated disk; `ICECORE_TEST_SEED=n` runs one seed.
//!
//! Order: the estate and what happens to it, the questions, the comparison, the tests.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use icecore::database::Steps;
use icecore::{Answer, Config, Database, Databases, Guard, Options, Precision, QueryOptions, QueryValue};
use icecore::{ResultStats, Retention, TimeRange};
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::SimFs;
use icecore_storage::model::STALE_FIELD;

use super::sim::{Random, seeds};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600 * SECOND_NS;
const HOSTS: [(&str, &str); 5] = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"), ("e", "y")];
/// Things that happen to an estate.
const EVENTS: usize = 120;

const QUERIES: [&str; 24] = [
    "m_v",
    "m_c{dc=\"y\"}",
    "rate(m_c[2m])",
    "sum by (dc) (rate(m_c[5m]))",
    "increase(m_c[90s]) > 3",
    "max_over_time(m_v[10m])",
    "avg_over_time(m_v[7m] offset 3m)",
    "stddev_over_time(m_v[5m])",
    "quantile_over_time(0.9, m_v[5m])",
    "deriv(m_c[3m])",
    "changes(m_v[4m])",
    "count by (dc) (m_v)",
    "absent(m_v{host=\"e\"})",
    "absent_over_time(m_v{host=\"d\"}[2m])",
    "topk(2, m_v)",
    "limitk(1, m_c)",
    "count_values(\"v\", m_c)",
    "max_over_time(sum(rate(m_c[1m]))[10m:30s])",
    "m_v / on (host) group_left () m_c",
    "m_v and on (host) (m_c > 100) or m_c",
    "label_replace(m_v, \"at\", \"$1\", \"host\", \"([abc])\")",
    "time() - timestamp(m_v)",
    "histogram_quantile(0.9, sum by (dc) (sum_over_time(m_v{__stat__=\"hist\"}[5m])))",
    "rate(m_c[2m] anchored)",
];

/// A panel of a dashboard: what it asks, and its width in steps.
#[derive(Debug, Clone, Copy)]
struct Panel {
    text: &'static str,
    step_ns: i64,
    steps: i64,
}

struct Estate {
    random: Random,
    clock: Arc<ManualClock>,
    databases: Databases,
    database: Arc<Database>,
    now_ns: i64,
    panels: Vec<Panel>,
}

/// Raw rows in partitions of an hour.
const RETENTION: Retention = Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER };

impl Estate {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clock = Arc::new(ManualClock::new(START_NS));
        let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::clone(&clock) as _ };
        let options = Options { free_bytes_min: 0, ..Options::default() };
        let config = Config { options, retention: RETENTION, ..Config::default() };
        let databases = Databases::open_in(env, Path::new("/data"), config).unwrap();
        let database = databases.get("default").unwrap();
        let panel = |random: &mut Random| Panel {
            text: random.one_of(&QUERIES),
            step_ns: random.one_of(&[5, 15, 60, 300]) * SECOND_NS,
            steps: random.one_of(&[0, 20, 60]),
        };
        let panels = (0..6).map(|_| panel(&mut random)).collect();
        Self { random, clock, databases, database, now_ns: START_NS, panels }
    }

    fn number(&mut self, bound: u64) -> i64 {
        i64::try_from(self.random.below(bound)).unwrap()
    }

    fn write(&self, lines: &str) {
        let report = self.database.write_lines(lines.as_bytes(), Precision::Ns).unwrap();
        assert_eq!(report.rejected, []);
    }

    fn row(&mut self, lines: &mut String, at_ns: i64) {
        // The last hosts come later, and seldom.
        let (host, dc) = match self.random.below(12) {
            0 if START_NS + 40 * MINUTE_NS < at_ns => HOSTS[4],
            1 | 2 if START_NS + 20 * MINUTE_NS < at_ns => HOSTS[3],
            number => HOSTS[usize::try_from(number % 3).unwrap()],
        };
        let at_ns = if self.random.below(3) == 0 { at_ns / (5 * SECOND_NS) * 5 * SECOND_NS } else { at_ns };
        let (v, c) =
            (self.random.below(100_000) as f64 / 7.0, (at_ns - START_NS) % (37 * MINUTE_NS) / SECOND_NS);
        let fields = match self.random.below(20) {
            0 => format!("{STALE_FIELD}=true"),
            1 => format!("v={v:?}"),
            _ => format!("v={v:?},c={c}"),
        };
        writeln!(lines, "m,dc={dc},host={host} {fields} {at_ns}").unwrap();
    }

    /// Time goes on, and rows come in order.
    fn go_on(&mut self) {
        let (start_ns, seconds) = (self.now_ns, 5 + self.number(120));
        self.now_ns += seconds * SECOND_NS;
        self.clock.set(self.now_ns);
        let mut lines = String::new();
        for second in (0..seconds).step_by(3) {
            let within_ns = self.random.ns(SECOND_NS);
            self.row(&mut lines, start_ns + second * SECOND_NS + within_ns);
        }
        self.write(&lines);
    }

    /// Rows from anywhere up to the present, and a little beyond.
    fn late(&mut self) {
        let mut lines = String::new();
        let back_ns = self.random.one_of(&[1, 5, 90]) * MINUTE_NS;
        for _ in 0..1 + self.random.below(4) {
            let at_ns = self.now_ns + 20 * SECOND_NS - self.random.ns(back_ns);
            self.row(&mut lines, at_ns.max(START_NS));
        }
        self.write(&lines);
    }

    fn delete(&mut self) {
        let selector = self.random.one_of(&["m{host=\"a\"}", "m{dc=\"y\"}", "m"]);
        let start_ns = self.now_ns - self.random.ns(60 * MINUTE_NS);
        let range = TimeRange::new(start_ns, start_ns + 1 + self.random.ns(10 * MINUTE_NS));
        self.database.delete(selector, range).unwrap();
    }

    /// Raw rows go that are older than an hour or two; nothing more goes by itself.
    fn retain(&mut self) {
        let raw = Some(Duration::from_secs(3600 * (1 + self.random.below(2))));
        self.database.set_retention(Retention { raw, ..RETENTION }).unwrap();
        self.database.apply_retention(Guard::Forced).unwrap();
        self.database.set_retention(RETENTION).unwrap();
    }

    fn happen(&mut self) {
        match self.random.below(40) {
            0..=21 => self.go_on(),
            22..=28 => self.late(),
            29 | 30 => self.delete(),
            31..=33 => self.database.flush().unwrap(),
            34 => self.database.seal().unwrap(),
            35 => self.retain(),
            // Nothing: the same is asked again.
            _ => {}
        }
    }

    /// The steps that a panel shows now; sometimes it looks elsewhere.
    fn steps(&mut self, panel: Panel) -> Steps {
        let Panel { step_ns, steps, .. } = panel;
        let aside = match self.random.below(10) {
            0 => self.number(40) - 20,
            1 => 3,
            _ => 0,
        };
        let phase_ns = if self.random.below(12) == 0 { SECOND_NS } else { 0 };
        let end_ns = (self.now_ns / step_ns + aside) * step_ns + phase_ns;
        let steps = if self.random.below(8) == 0 { steps / 2 } else { steps };
        // Where a range ends between two steps, the last one is before it.
        Steps { start_ns: end_ns - steps * step_ns, end_ns: end_ns + self.random.ns(step_ns), step_ns }
    }
}

fn ask(database: &Database, text: &str, steps: Steps, may_reuse: bool) -> Answer {
    let query = database.query(QueryOptions { may_reuse, ..QueryOptions::default() });
    let answer = database.run_promql_range(&query, text, steps);
    answer.unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn is_near(left: f64, right: f64, near: f64) -> bool {
    left.to_bits() == right.to_bits() || (left - right).abs() <= near * left.abs().max(right.abs())
}

/// Asks both ways; returns how many points were compared.
#[track_caller]
fn compare(database: &Database, text: &str, steps: Steps, place: &str) -> usize {
    let (kept, fresh) = (ask(database, text, steps, true), ask(database, text, steps, false));
    assert_eq!((&kept.warnings, &kept.infos), (&fresh.warnings, &fresh.infos), "{place}");
    let (QueryValue::Matrix(kept), QueryValue::Matrix(fresh)) = (kept.value, fresh.value) else {
        panic!("{place}: no matrix")
    };
    let labels = |series: &[icecore_query::promql::MatrixSeries]| -> Vec<String> {
        series.iter().map(|one| one.labels.to_string()).collect()
    };
    assert_eq!(labels(&kept), labels(&fresh), "{place}");
    let near = if text.contains("stddev") || text.contains("deriv") { 1e-7 } else { 1e-12 };
    let mut points = 0;
    for (kept, fresh) in kept.iter().zip(&fresh) {
        let times =
            |points: &[(i64, icecore::Sample)]| points.iter().map(|point| point.0).collect::<Vec<_>>();
        assert_eq!(times(&kept.points), times(&fresh.points), "{place}: {}", kept.labels);
        for ((ts_ns, kept_value), (_, fresh_value)) in kept.points.iter().zip(&fresh.points) {
            let (left, right) = (kept_value.float().unwrap(), fresh_value.float().unwrap());
            assert!(
                is_near(left, right, near),
                "{place}: {} at {ts_ns}: {left} kept, {right} now",
                kept.labels
            );
            points += 1;
        }
    }
    points
}

/// All that happens to one estate; returns the points that were compared, and how often something was kept.
fn judge(seed: u64) -> (usize, ResultStats) {
    let mut estate = Estate::new(seed);
    (0..30).for_each(|_| estate.go_on());
    let mut points = 0;
    for event in 0..EVENTS {
        estate.happen();
        for panel in estate.panels.clone() {
            let steps = estate.steps(panel);
            let place = format!("seed {seed}, event {event}, {panel:?}, {steps:?}");
            points += compare(&estate.database, panel.text, steps, &place);
        }
    }
    let stats = estate.databases.result_stats();
    estate.databases.close().unwrap();
    (points, stats)
}

#[test]
fn kept_answers_are_those_that_would_be_computed() {
    let (mut compared, mut hits, mut partial_hits, mut asked) = (0, 0, 0, 0);
    for seed in seeds(20, 200, 2_000) {
        let (points, stats) = judge(seed);
        compared += points;
        hits += stats.hits;
        partial_hits += stats.partial_hits;
        asked += (EVENTS * 6) as u64;
    }
    // Else this would be a test of nothing.
    assert!(
        asked < 8 * hits && asked < 4 * partial_hits,
        "{asked} asked, {hits} hits, {partial_hits} in part"
    );
    assert!(asked < compared as u64 / 10, "{asked} asked, {compared} points");
}

#[test]
fn answers_kept_while_rows_come_are_right_when_they_have_come() {
    for seed in 1..=10 {
        let mut estate = Estate::new(seed);
        (0..30).for_each(|_| estate.go_on());
        let panels: Vec<(Panel, Steps)> =
            estate.panels.clone().into_iter().map(|panel| (panel, estate.steps(panel))).collect();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Acquire) {
                        for (panel, steps) in &panels {
                            ask(&estate.database, panel.text, *steps, true);
                        }
                    }
                });
            }
            let mut random = Random(seed);
            for number in 0..60 {
                let at_ns = estate.now_ns - random.ns(20 * MINUTE_NS);
                estate.write(&format!("m,dc=x,host=a v={number},c={number} {at_ns}\n"));
                if number % 20 == 19 {
                    let range = TimeRange::new(at_ns, at_ns + 30 * SECOND_NS);
                    estate.database.delete("m{host=\"b\"}", range).unwrap();
                }
            }
            is_done.store(true, Ordering::Release);
        });
        for (panel, steps) in &panels {
            compare(&estate.database, panel.text, *steps, &format!("seed {seed}, {panel:?}, {steps:?}"));
        }
        estate.databases.close().unwrap();
    }
}
