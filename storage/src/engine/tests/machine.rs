//! A state machine: everything that can happen to a database, in an order that a seed tells, against a map that a
//! write changes and nothing else. With faults, one operation of the disk fails now and then, and the machine goes
//! on as a server would: with the next request, and after poison with a restart.
//!
//! A failure prints its seed; `ICECORE_TEST_SEED=n` runs that seed alone.

use super::expiry::listed;
use super::world::{Content, Random, TestRow, add, content, delete, env, windows, write};
use super::*;
use crate::clock::Clock;
use crate::fs::Fs as _;
use crate::fs::sim::Fault;
use crate::model::Value;
use crate::testing::{Scale, seeds};

const HOSTS: [&str; 3] = ["a", "b", "c"];
const MEASUREMENTS: [&str; 2] = ["cpu", "net"];

struct Machine {
    fs: Arc<SimFs>,
    clock: Arc<ManualClock>,
    engine: Engine,
    random: Random,
    /// The last write of each value, those included that retention has dropped since.
    model: Content,
    /// A batch whose write failed: not visible now, perhaps after a restart.
    uncertain: Option<Vec<TestRow>>,
    /// What the model would be if deletes that failed had taken place: not visible now, perhaps after a restart.
    doubtful: Vec<Content>,
    /// What stood for ids of series that left: measurement and host. They never stand for another.
    left: BTreeMap<u32, (String, String)>,
    has_faults: bool,
    /// A fault is armed or has struck since the last start.
    is_faulty: bool,
    place: String,
}

fn open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Result<Engine> {
    let options = Options {
        free_bytes_min: 0,
        future_max: Duration::from_secs(86_400),
        wal_file_bytes_max: 2000,
        ..Options::default()
    };
    Engine::open(env(fs, clock), Path::new("/db"), options, Retention::FOREVER)
}

impl Machine {
    fn new(seed: u64, has_faults: bool) -> Self {
        let clock = Arc::new(ManualClock::new(START_NS + 20 * MINUTE_NS));
        let fs = Arc::new(SimFs::default());
        let engine = open(&fs, &clock).unwrap();
        Self {
            fs,
            clock,
            engine,
            random: Random(seed),
            model: Content::new(),
            uncertain: None,
            doubtful: Vec::new(),
            left: BTreeMap::new(),
            has_faults,
            is_faulty: false,
            place: format!("seed {seed}"),
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        let done = match self.random.below(46) {
            0..=19 => {
                self.write();
                Ok(())
            }
            20..=23 => {
                self.clock.advance(self.random.below(20) as i64 * MINUTE_NS);
                Ok(())
            }
            24..=26 => self.engine.flush(),
            27..=30 => self.engine.maintain(),
            31 | 32 => self.engine.seal(),
            33 => self.engine.apply_retention(Guard::Forced).map(|_| ()),
            34 => {
                let raw = self.random.one_of(&[hours(2), hours(3), hours(100), None]);
                self.engine.set_retention(Retention { raw, ..Retention::FOREVER })
            }
            35 => {
                self.restart();
                Ok(())
            }
            36 => {
                self.crash();
                Ok(())
            }
            37..=39 => self.delete(),
            40..=42 => self.expire(),
            _ => {
                self.arm();
                Ok(())
            }
        };
        if let Err(error) = done {
            assert!(self.is_faulty, "{}: {error}", self.place);
        }
        // A machine without power can only be started again.
        if self.fs.has(Path::new("/db")).is_err() {
            self.crash();
        }
    }

    /// Up to eight rows: of now, of the last hours in any order, or written over an earlier one.
    fn write(&mut self) {
        let rows: Vec<TestRow> = (0..self.random.below(9)).map(|_| self.row()).collect();
        let floor_ns = self.engine.store.version().floors_ns[0];
        let age_ns = self.engine.retention().raw.map_or(i64::MAX, duration_ns);
        let first_ns = floor_ns.max(self.clock.now_ns().saturating_sub(age_ns));
        let (taken, refused): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|row| first_ns <= row.ts_ns);
        let was_poisoned = self.engine.stats().is_poisoned;
        match write(&self.engine, &rows) {
            Ok(report) => {
                assert!(!was_poisoned || taken.is_empty(), "{}", self.place);
                assert_eq!(report.rejected.len(), refused.len(), "{}", self.place);
                for content in self.doubtful.iter_mut().chain([&mut self.model]) {
                    taken.iter().for_each(|row| add(content, row));
                }
            }
            Err(error) if was_poisoned => assert_eq!(error.kind(), ErrorKind::Poisoned, "{}", self.place),
            Err(error) => {
                assert!(self.is_faulty && self.engine.stats().is_poisoned, "{}: {error}", self.place);
                self.uncertain = Some(taken);
            }
        }
    }

    /// Deletes of one host or of all, some minutes or everything.
    fn delete(&mut self) -> Result<()> {
        let random = &mut self.random;
        let measurement = random.one_of(&MEASUREMENTS);
        let host = random.one_of(&[None, Some("a"), Some("b"), Some("c")]);
        let start_ns = self.clock.now_ns() - random.below(300) as i64 * MINUTE_NS;
        let start_ns = floor_to(start_ns, MINUTE_NS) + random.one_of(&[0, 0, 7 * SECOND_NS]);
        let end_ns = start_ns + random.one_of(&[SECOND_NS, 5 * MINUTE_NS, HOUR_NS, 3 * HOUR_NS]);
        let range = match random.below(8) {
            0 => TimeRange::ALL,
            _ => TimeRange::new(start_ns, end_ns),
        };
        // Rows that are left in cells alone go by the minute; they are so few that the 1m cells are the rows.
        let floor_ns = self.engine.store.version().floors_ns[0];
        let coarse = TimeRange::new(floor_to(range.start_ns, MINUTE_NS), range.end_ns);
        let mut left = self.model.clone();
        left.retain(|(of, at, ts_ns, _), _| {
            let hidden = if *ts_ns < floor_ns { coarse } else { range };
            of != measurement || host.is_some_and(|host| host != at) || !hidden.contains(*ts_ns)
        });
        let (before, _) = self.engine.store.live();
        match delete(&self.engine, measurement, host, range) {
            Ok(_) => {
                self.model = left;
                // Only a newer manifest settles what became of the one whose replacement failed; a delete that finds
                // nothing writes none.
                if !Arc::ptr_eq(&before, &self.engine.store.live().0) {
                    self.doubtful.clear();
                }
                Ok(())
            }
            Err(error) => {
                self.doubtful.push(left);
                Err(error)
            }
        }
    }

    /// Purges, and lets series leave: those with rows stay, and no others.
    fn expire(&mut self) -> Result<()> {
        self.engine.seal()?;
        let before = self.listed();
        // Only series that a catalog file has leave: those behind this mark, which the look itself moves on.
        let mark = self.engine.flushes().unwrap().mark;
        self.engine.expire()?;
        if self.engine.stats().is_poisoned {
            return Ok(());
        }
        let after = self.listed();
        // Series that were defined since may have lost their rows with a write that failed, or by a delete.
        let mut hosts: Vec<_> = after
            .iter()
            .filter(|(id, _)| mark.is_behind(SeriesId(**id)))
            .map(|(_, key)| key.clone())
            .collect();
        hosts.sort();
        let mut expected: Vec<_> =
            self.model.keys().map(|(measurement, host, ..)| (measurement.clone(), host.clone())).collect();
        expected.dedup();
        assert_eq!(hosts, expected, "{}", self.place);
        self.left.extend(before.into_iter().filter(|(id, _)| !after.contains_key(id)));
        Ok(())
    }

    /// All series that the catalog has. No id that stood for one stands for another.
    fn listed(&self) -> BTreeMap<u32, (String, String)> {
        let of = |measurement: &&str| {
            let found = listed(&self.engine, measurement).into_iter();
            found.map(|(host, id)| (id, ((*measurement).to_owned(), host))).collect::<Vec<_>>()
        };
        let listed: BTreeMap<_, _> = MEASUREMENTS.iter().flat_map(of).collect();
        for (id, key) in &listed {
            assert!(
                self.left.get(id).is_none_or(|left| left == key),
                "{}: id {id} is given again",
                self.place
            );
        }
        listed
    }

    fn row(&mut self) -> TestRow {
        let random = &mut self.random;
        let now_ns = floor_to(self.clock.now_ns(), MINUTE_NS);
        let back_ns = match random.below(4) {
            0 => random.below(180) as i64 * MINUTE_NS,
            1 => random.below(3) as i64 * HOUR_NS,
            _ => random.below(1200) as i64 * SECOND_NS,
        };
        let number = random.below(97) as i64;
        let all = [
            ("float", Value::Float(number as f64 / 4.0)),
            ("int", Value::Int(number - 40)),
            ("text", Value::Str(format!("t{number}"))),
        ];
        let mut fields: Vec<_> = all.into_iter().filter(|_| random.below(3) > 0).collect();
        if fields.is_empty() {
            fields.push(("int", Value::Int(number)));
        }
        let (measurement, host) = (random.one_of(&MEASUREMENTS), random.one_of(&HOSTS));
        let earlier = random.below(self.model.len() as u64 * 4 + 1) as usize;
        let ts_ns = match self.model.keys().nth(earlier) {
            Some((_, _, ts_ns, _)) => *ts_ns,
            None => now_ns - back_ns,
        };
        TestRow { measurement, host, ts_ns, fields }
    }

    /// Makes one of the next operations of the disk fail.
    fn arm(&mut self) {
        if self.has_faults {
            let operation = self.fs.operations() + self.random.below(15);
            self.fs.fail_at(operation, self.random.one_of(&Fault::ALL));
            self.is_faulty = true;
        }
    }

    /// The process ends, in order or not, and comes back; the machine stays.
    fn restart(&mut self) {
        if self.random.below(2) == 0 {
            let closed = self.engine.close();
            assert!(closed.is_ok() || self.is_faulty, "{}: {closed:?}", self.place);
        }
        if self.fs.has(Path::new("/db")).is_ok() {
            self.fs.restart();
            self.reopen();
        }
    }

    fn crash(&mut self) {
        match self.random.below(4) {
            0 => self.fs.crash_losing_unsynced(),
            _ => self.fs.crash(self.random.below(1 << 30)),
        }
        self.reopen();
    }

    fn reopen(&mut self) {
        self.engine = open(&self.fs, &self.clock).unwrap_or_else(|error| panic!("{}: {error}", self.place));
        self.is_faulty = false;
        // What was not applied before retention passed it never comes to be seen.
        let floor_ns = self.engine.store.version().floors_ns[0];
        let rows = self.uncertain.take().unwrap_or_default().into_iter().filter(|row| floor_ns <= row.ts_ns);
        let rows: Vec<TestRow> = rows.collect();
        let mut possible = std::mem::take(&mut self.doubtful);
        possible.push(self.model.clone());
        let with_rows = |without: &Content| {
            let mut with = without.clone();
            rows.iter().for_each(|row| add(&mut with, row));
            with
        };
        possible.extend(possible.clone().iter().map(with_rows));
        possible.dedup();
        if 1 < possible.len()
            && let Some(content) = possible.into_iter().rfind(|content| self.fits(content))
        {
            self.model = content;
        }
        self.check();
    }

    /// Whether the database may hold this, dropped rows that only cells know of included.
    fn fits(&self, model: &Content) -> bool {
        let times = || model.keys().chain(self.model.keys()).map(|(_, _, ts_ns, _)| *ts_ns);
        let start_ns = floor_to(times().min().unwrap_or(0), MINUTE_NS);
        let count = (times().max().unwrap_or(0) - start_ns) / MINUTE_NS + 1;
        let asked = windows_of(start_ns, MINUTE_NS, count);
        let fits = |of: (&str, &str)| {
            let (found, _) = windows(&self.engine, (of.0, of.1, "int"), &asked, Bounds::RightOpen);
            let mut counts = vec![0; asked.len()];
            for (_, _, ts_ns, _) in
                model.keys().filter(|place| (&*place.0, &*place.1, &*place.3) == (of.0, of.1, "int"))
            {
                counts[((ts_ns - start_ns) / MINUTE_NS) as usize] += 1;
            }
            found.iter().map(Partial::count).eq(counts.into_iter().take(found.len()))
        };
        let mut series = MEASUREMENTS.iter().flat_map(|measurement| HOSTS.map(|host| (*measurement, host)));
        content(&*self.engine.view()) == self.visible(model) && series.all(fits)
    }

    /// What of a model is not older than raw rows are kept.
    fn visible(&self, model: &Content) -> Content {
        let floor_ns = self.engine.store.version().floors_ns[0];
        let kept = model.iter().filter(|((_, _, ts_ns, _), _)| floor_ns <= *ts_ns);
        kept.map(|(place, value)| (place.clone(), value.clone())).collect()
    }

    fn check(&mut self) {
        let (found, expected) = (content(&*self.engine.view()), self.visible(&self.model));
        assert!(found == expected, "{}: {}", self.place, difference(&found, &expected));
        self.check_windows();
    }

    /// Some windows on the edges of cells, which answer for dropped rows, too.
    fn check_windows(&mut self) {
        let width_ns = self.random.one_of(&[MINUTE_NS, 10 * MINUTE_NS, HOUR_NS]);
        let start_ns = START_NS + (self.random.below(300) as i64 - 120) * MINUTE_NS;
        let asked = windows_of(start_ns, width_ns, 12);
        let (measurement, host) = (self.random.one_of(&MEASUREMENTS), self.random.one_of(&HOSTS));
        let bounds = self.random.one_of(&[Bounds::LeftOpen, Bounds::RightOpen]);
        let (found, _) = windows(&self.engine, (measurement, host, "int"), &asked, bounds);
        for (partial, window) in found.iter().zip(&asked) {
            let is_in = |ts_ns: i64| match bounds {
                Bounds::LeftOpen => window.start_ns < ts_ns && ts_ns <= window.end_ns,
                Bounds::RightOpen => window.start_ns <= ts_ns && ts_ns < window.end_ns,
            };
            let values: Vec<(i64, f64)> = (self.model.iter())
                .filter(|(of, _)| of.0 == measurement && of.1 == host && of.3 == "int" && is_in(of.2))
                .map(|(of, value)| {
                    (of.2, if let Value::Int(value) = value { *value as f64 } else { f64::NAN })
                })
                .collect();
            let place = format!("{}: {measurement} {host} {bounds:?} {window:?}", self.place);
            assert_eq!(partial.count(), values.len() as u64, "{place}");
            let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
            let numbers = partial.numbers().unwrap();
            let of = |pick: fn(f64, f64) -> f64| values.iter().map(|(_, value)| *value).reduce(pick).unwrap();
            assert_eq!(
                (numbers.sum, numbers.min, numbers.max),
                (of(|a, b| a + b), of(f64::min), of(f64::max)),
                "{place}"
            );
            assert_eq!(
                ((numbers.first_ns, numbers.first), (numbers.last_ns, numbers.last)),
                (*first, *last),
                "{place}"
            );
        }
    }
}

/// The first place where two contents differ.
fn difference(found: &Content, expected: &Content) -> String {
    let is_other = |place: &&(String, String, i64, String)| found.get(*place) != expected.get(*place);
    let place = found.keys().chain(expected.keys()).find(is_other);
    format!(
        "{place:?}: {:?}, not {:?}",
        place.map(|place| found.get(place)),
        place.map(|place| expected.get(place))
    )
}

#[test]
fn state_machine_equals_map_at_every_step() {
    for seed in seeds(Scale::asked().of(256, 3000, 10_000)) {
        let mut machine = Machine::new(seed, false);
        for step in 0..100 {
            machine.place = format!("seed {seed}, step {step}");
            machine.step();
            machine.check();
        }
    }
}

#[test]
fn state_machine_with_faults_keeps_what_was_acknowledged() {
    for seed in seeds(Scale::asked().of(200, 2000, 10_000)) {
        let mut machine = Machine::new(seed, true);
        for step in 0..500 {
            machine.place = format!("seed {seed}, step {step}");
            machine.step();
            if step % 20 == 0 {
                machine.check();
            }
        }
        machine.crash();
    }
}
