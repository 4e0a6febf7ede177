//! Random programs of writes, deletes, jobs, changes of the retention and crashes, against a model and against a twin
//! that never flushes and is made anew of the model after a delete.

use super::world::{Content, Random, TestRow, add, content, delete, env, rows_of, windows, write};
use super::*;
use crate::check::check as check_files;
use crate::clock::Clock;
use crate::model::Value;

const HOSTS: [&str; 3] = ["a", "b", "c"];

struct Pair {
    fs: Arc<SimFs>,
    clock: Arc<ManualClock>,
    engine: Engine,
    /// Has the same rows, all in one memtable.
    twin: Engine,
    model: Content,
}

fn options() -> Options {
    Options { free_bytes_min: 0, future_max: Duration::from_secs(86_400), ..Options::default() }
}

fn open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Engine {
    Engine::open(env(fs, clock), Path::new("/db"), options(), Retention::FOREVER).unwrap()
}

impl Pair {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START_NS + 20 * MINUTE_NS));
        let fs = Arc::new(SimFs::default());
        let (engine, twin) = (open(&fs, &clock), open(&Arc::new(SimFs::default()), &clock));
        Self { fs, clock, engine, twin, model: Content::new() }
    }

    fn write(&mut self, rows: &[TestRow]) {
        let report = write(&self.engine, rows).unwrap();
        let is_refused = |line: u32| report.rejected.iter().any(|error| error.line == line);
        let taken: Vec<TestRow> =
            (1..).zip(rows).filter(|(line, _)| !is_refused(*line)).map(|(_, row)| row.clone()).collect();
        assert_eq!(write(&self.twin, &taken).unwrap().rejected, []);
        taken.iter().for_each(|row| add(&mut self.model, row));
    }

    /// Deletes from the engine and the model. Where raw rows are gone, whole minutes go: the finest cells left.
    fn delete(&mut self, measurement: &str, host: Option<&str>, range: TimeRange) {
        let floor_ns = self.engine.store.version().floors_ns[0];
        let report = delete(&self.engine, measurement, host, range).unwrap();
        let minutes = TimeRange::new(floor_to(range.start_ns, MINUTE_NS), ceil_to(range.end_ns, MINUTE_NS));
        let mut is_rounded = false;
        self.model.retain(|(of, from, ts_ns, _), _| {
            let is_meant = of == measurement && host.is_none_or(|host| host == from);
            let is_lost = is_meant && *ts_ns < floor_ns && minutes.contains(*ts_ns);
            is_rounded |= is_lost && !range.contains(*ts_ns);
            !(is_lost || is_meant && range.contains(*ts_ns))
        });
        assert!(!is_rounded || report.rounded == Some(Tier::M1), "{report:?}");
        self.twin = open(&Arc::new(SimFs::default()), &self.clock);
        assert_eq!(write(&self.twin, &rows_of(&self.model)).unwrap().rejected, []);
    }

    fn check(&self, place: &str) {
        let floor_ns = self.engine.store.version().floors_ns[0];
        let mut expected = self.model.clone();
        expected.retain(|(_, _, ts_ns, _), _| floor_ns <= *ts_ns);
        assert_eq!(content(&*self.engine.view()), expected, "{place}");
        let report = check_files(&(Arc::clone(&self.fs) as _), Path::new("/db")).unwrap();
        assert!(report.is_clean(), "{place}: {report:?}");
    }

    /// Windows of all numeric fields; where raw rows are gone, on the edges of cells.
    fn check_windows(&self, random: &mut Random, place: &str) {
        let floor_ns = self.engine.store.version().floors_ns[0];
        let width_ns = random.one_of(&[MINUTE_NS, 3 * MINUTE_NS, 20 * MINUTE_NS, HOUR_NS, 7 * SECOND_NS + 3]);
        let mut start_ns = START_NS + random.below(60) as i64 * MINUTE_NS;
        if width_ns < MINUTE_NS {
            start_ns = start_ns.max(floor_ns) + random.below(1000) as i64;
        }
        let asked = windows_of(start_ns, width_ns, 1 + random.below(60) as i64);
        for bounds in [Bounds::LeftOpen, Bounds::RightOpen] {
            for field in ["float", "int", "bool"] {
                for measurement in ["cpu", "net"] {
                    let of = (measurement, random.one_of(&HOSTS), field);
                    let (found, coverage) = windows(&self.engine, of, &asked, bounds);
                    let (expected, _) = windows(&self.twin, of, &asked, bounds);
                    assert_eq!(
                        (found.len(), coverage.rounded),
                        (expected.len(), None),
                        "{place} {of:?} {bounds:?}"
                    );
                    for ((left, right), window) in found.iter().zip(&expected).zip(&asked) {
                        assert_eq!(
                            left.count(),
                            right.count(),
                            "{place} {of:?} {bounds:?} {window:?} {coverage:?}"
                        );
                        if left.count() > 0 {
                            same(left, right);
                        }
                    }
                }
            }
        }
    }
}

/// A delete of the last hours: of minutes, hours or everything, often not on their edges.
fn random_delete(random: &mut Random, pair: &mut Pair) {
    let now_ns = pair.clock.now_ns();
    let unit_ns = random.one_of(&[SECOND_NS, MINUTE_NS, HOUR_NS]);
    let start_ns = floor_to(now_ns - random.below(10) as i64 * HOUR_NS, unit_ns)
        + random.below(60) as i64 * MINUTE_NS.min(unit_ns);
    let mut range = TimeRange::new(start_ns, start_ns + (1 + random.below(90) as i64) * unit_ns);
    if random.below(6) == 0 {
        range = TimeRange::ALL;
    }
    let host = random.one_of(&[None, Some("a"), Some("b"), Some("c")]);
    pair.delete(random.one_of(&["cpu", "net"]), host, range);
}

/// Some rows of the last hours, often on the edges of minutes and hours, with some of the fields.
fn rows(random: &mut Random, now_ns: i64, step: i64) -> Vec<TestRow> {
    let row = |random: &mut Random, k: i64| {
        let back_ns = match random.below(4) {
            0 => random.below(180) as i64 * MINUTE_NS,
            1 => random.below(3) as i64 * HOUR_NS,
            _ => random.below(1200) as i64 * SECOND_NS,
        };
        let ts_ns = floor_to(now_ns, MINUTE_NS) - back_ns;
        let number = (step * 50 + k) % 97;
        let all = [
            ("float", Value::Float(number as f64 / 4.0)),
            ("int", Value::Int(number - 40)),
            ("bool", Value::Bool(number % 3 == 0)),
            ("text", Value::Str(format!("t{number}"))),
        ];
        let mut fields: Vec<_> = all.into_iter().filter(|_| random.below(3) > 0).collect();
        if fields.is_empty() {
            fields.push(("float", Value::Float(0.5)));
        }
        TestRow { measurement: random.one_of(&["cpu", "net"]), host: random.one_of(&HOSTS), ts_ns, fields }
    };
    (0..random.below(25) as i64).map(|k| row(random, k)).collect()
}

#[test]
fn random_program_with_retention_equals_model_and_twin() {
    for seed in 1..=12u64 {
        let mut random = Random(seed);
        let mut pair = Pair::new();
        for step in 0..70 {
            let place = format!("seed {seed} step {step}");
            match random.below(18) {
                0..=6 => {
                    let batch = rows(&mut random, pair.clock.now_ns(), step);
                    pair.write(&batch);
                }
                7 | 8 => pair.clock.advance(random.below(40) as i64 * MINUTE_NS),
                9 => pair.engine.flush().unwrap(),
                10 | 11 => pair.engine.maintain().unwrap_or_else(|error| panic!("{place}: {error}")),
                12 => pair.engine.seal().unwrap_or_else(|error| panic!("{place}: {error}")),
                13 => {
                    // Hours or days as partitions: both widths come to lie over each other.
                    let raw = random.one_of(&[hours(2), hours(3), None]);
                    pair.engine.set_retention(Retention { raw, ..Retention::FOREVER }).unwrap();
                }
                14 => {
                    pair.engine.apply_retention(Guard::Forced).unwrap();
                }
                15 | 16 => random_delete(&mut random, &mut pair),
                _ => {
                    pair.fs.crash(random.below(1000));
                    let report = check_files(&(Arc::clone(&pair.fs) as _), Path::new("/db")).unwrap();
                    assert!(report.is_clean(), "{place}: {report:?}");
                    pair.engine = open(&pair.fs, &pair.clock);
                }
            }
            if step % 3 == 0 {
                pair.check(&place);
                pair.check_windows(&mut random, &place);
            }
        }
        // Whatever happened, everything can be rolled and dropped in the end.
        pair.engine.set_retention(Retention { raw: hours(2), ..Retention::FOREVER }).unwrap();
        pair.clock.advance(3 * DAY_NS);
        pair.engine.seal().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        pair.engine.apply_retention(Guard::Forced).unwrap();
        assert_eq!(pair.engine.stats().segments[0], 0, "seed {seed}");
        assert_eq!(pair.engine.stats().tombstones, 0, "seed {seed}");
        pair.check_windows(&mut random, &format!("seed {seed} at the end"));
    }
}

#[test]
fn row_at_either_end_of_time_does_not_stop_the_jobs() {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(TIMESTAMP_MAX)));
    let engine = open(&fs, &clock);
    let at = |ts_ns| TestRow { measurement: "cpu", host: "a", ts_ns, fields: vec![("int", Value::Int(1))] };
    let first_ns = ceil_to(TIMESTAMP_MIN, DAY_NS);
    let last_ns = floor_to(TIMESTAMP_MAX, DAY_NS) - 1;
    for ts_ns in [TIMESTAMP_MIN, first_ns - 1, last_ns + 1, TIMESTAMP_MAX] {
        let report = write(&engine, &[at(ts_ns)]).unwrap();
        assert_eq!((report.accepted, report.rejected.len()), (0, 1), "{ts_ns}");
    }
    assert_eq!(write(&engine, &[at(first_ns), at(0), at(last_ns)]).unwrap().accepted, 3);
    for _ in 0..2 {
        assert_eq!(content(&*engine.view()).len(), 3);
        let all = [Window { start_ns: TIMESTAMP_MIN, end_ns: i64::MAX }];
        for bounds in [Bounds::LeftOpen, Bounds::RightOpen] {
            assert_eq!(windows(&engine, ("cpu", "a", "int"), &all, bounds).0[0].count(), 3);
        }
        engine.seal().unwrap();
        engine.maintain().unwrap();
    }
    assert_eq!(engine.stats().segments[3], 3);
}
