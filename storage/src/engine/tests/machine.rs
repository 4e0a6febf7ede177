//! A state machine: everything that can happen to a database, in an order that a seed tells, against a map that a
//! write changes and nothing else. With faults, one operation of the disk fails now and then, and the machine goes
//! on as a server would: with the next request, and after poison with a restart.
//!
//! A failure prints its seed; `ICECORE_TEST_SEED=n` runs that seed alone.

use super::ages::Ages;
use super::expiry::listed;
use super::rebuild::{lose_catalog_files, rebuild};
use super::world::{Content, Random, TestRow, add, content, delete, env, try_windows, write};
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
    /// What rules hide of it.
    ages: Ages,
    /// Cells of some hours may keep less than others.
    has_cell_rules: bool,
    has_faults: bool,
    /// A fault is armed or has struck since the last start.
    is_faulty: bool,
    /// Copies whose catalog was made anew, and those where the log had rows of what only a lost file named.
    rebuilt_count: u64,
    refused_count: u64,
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
            ages: Ages::new(&MEASUREMENTS, &HOSTS),
            has_cell_rules: false,
            has_faults,
            is_faulty: false,
            rebuilt_count: 0,
            refused_count: 0,
            place: format!("seed {seed}"),
        }
    }

    /// One thing happens.
    fn step(&mut self) {
        let done = match self.random.below(52) {
            0..=19 => {
                self.write();
                Ok(())
            }
            20..=23 => {
                self.clock.advance(self.random.below(20) as i64 * MINUTE_NS);
                Ok(())
            }
            24..=26 => self.engine.flush(),
            27..=30 => {
                let done = self.engine.maintain();
                self.ages.note_pass(&self.engine);
                done
            }
            31 | 32 => self.engine.seal(),
            33 => {
                let done = self.engine.apply_retention(Guard::Forced);
                self.ages.note_pass(&self.engine);
                done.map(|_| ())
            }
            34 => {
                let retention = self.retention();
                self.engine.set_retention(retention)
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
            43 | 44 => {
                let retention = self.retention();
                self.ages.change(&self.engine, &mut self.random, retention)
            }
            45 => {
                self.has_cell_rules = true;
                self.ages.change_cells(&self.engine, &mut self.random)
            }
            46..=48 => self.pass(),
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

    fn retention(&mut self) -> Retention {
        let raw = self.random.one_of(&[hours(2), hours(3), hours(100), None]);
        Retention { raw, ..Retention::FOREVER }
    }

    /// Everything is in cells, and then what is past its age is hidden.
    fn pass(&mut self) -> Result<()> {
        self.engine.seal()?;
        let done = self.engine.apply_retention(Guard::Forced);
        self.ages.note_pass(&self.engine);
        done?;
        self.ages.note_whole_pass(&self.engine);
        Ok(())
    }

    /// Up to eight rows: of now, of the last hours in any order, or written over an earlier one.
    fn write(&mut self) {
        let rows: Vec<TestRow> = (0..self.random.below(9)).map(|_| self.row()).collect();
        let first_ns = |row: &TestRow| self.ages.first_ns(&self.engine, row.measurement, row.host);
        let (taken, refused): (Vec<_>, Vec<_>) =
            rows.iter().cloned().partition(|row| first_ns(row) <= row.ts_ns);
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
        let copy = Arc::new(self.fs.fork());
        self.engine = open(&self.fs, &self.clock).unwrap_or_else(|error| panic!("{}: {error}", self.place));
        self.is_faulty = false;
        self.lose_catalog(&copy);
        self.ages.note_restart(&self.engine, &self.place);
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

    /// A copy that lost catalog files gets them back: the same rows and ids, or it is said what has no name any more.
    fn lose_catalog(&mut self, copy: &Arc<SimFs>) {
        let mut random = Random(self.fs.operations());
        let is_chosen = random.below(Scale::asked().of(4, 1, 1)) == 0;
        if !is_chosen || !lose_catalog_files(copy, &mut random) {
            return;
        }
        match rebuild(copy) {
            Ok(report) => assert!(report.is_some(), "{}", self.place),
            Err(error) => {
                assert!(error.to_string().contains("rows of the log are of"), "{}: {error}", self.place);
                self.refused_count += 1;
                return;
            }
        }
        self.rebuilt_count += 1;
        let rebuilt = open(copy, &self.clock).unwrap_or_else(|error| panic!("{}: {error}", self.place));
        let (found, expected) = (content(&*rebuilt.view()), content(&*self.engine.view()));
        assert!(found == expected, "{}: {}", self.place, difference(&found, &expected));
        for measurement in MEASUREMENTS {
            let (found, known) = (listed(&rebuilt, measurement), listed(&self.engine, measurement));
            assert!(found.iter().all(|(host, id)| known.get(host) == Some(id)), "{}: {found:?}", self.place);
            let mut hosts = expected.keys().filter(|(of, ..)| of == measurement).map(|(_, host, ..)| host);
            assert!(hosts.all(|host| found.contains_key(host)), "{}: {found:?}", self.place);
        }
    }

    /// Whether the database may hold this, dropped rows that only cells know of included.
    fn fits(&self, model: &Content) -> bool {
        let times = || model.keys().chain(self.model.keys()).map(|(_, _, ts_ns, _)| *ts_ns);
        let start_ns = floor_to(times().min().unwrap_or(0), HOUR_NS);
        let count = (times().max().unwrap_or(0) - start_ns) / MINUTE_NS + 1;
        let asked = windows_of(start_ns, MINUTE_NS, count);
        let fits = |of: (&str, &str)| {
            let of = (of.0, of.1, "int");
            asked.chunks(60).all(|asked| self.fits_cells(model, of, asked))
        };
        let mut series = MEASUREMENTS.iter().flat_map(|measurement| HOSTS.map(|host| (*measurement, host)));
        content(&*self.engine.view()) == Ages::visible(&self.engine, model) && series.all(fits)
    }

    /// Whether the windows of an hour are answered as by a model.
    fn fits_cells(&self, model: &Content, of: (&str, &str, &str), asked: &[Window]) -> bool {
        let answer = |wants| try_windows(&self.engine, of, asked, Bounds::RightOpen, Some(wants));
        let (answered, has_sums) = match answer(StatSet::SUM) {
            Ok((found, _)) => (found, true),
            // Counters have first and last.
            Err(_) => (answer(StatSet::ENDS).unwrap().0, false),
        };
        asked.iter().enumerate().all(|(index, window)| {
            let rows = model.iter().filter(|((measurement, host, ts_ns, field), _)| {
                (&**measurement, &**host, &**field) == of && is_in(Bounds::RightOpen, window, *ts_ns)
            });
            let values: Vec<f64> = rows.map(|(_, value)| number_of(value)).collect();
            // A series without a value in an hour has no answer there.
            let Some(numbers) = answered.get(index).and_then(Partial::numbers) else {
                return values.is_empty();
            };
            let is_same = match has_sums {
                true => numbers.sum == values.iter().sum::<f64>(),
                false => (values.first(), values.last()) == (Some(&numbers.first), Some(&numbers.last)),
            };
            numbers.count == values.len() as u64 && is_same
        })
    }

    fn check(&mut self) {
        self.ages.check(&self.engine, &self.place);
        let (found, expected) = (content(&*self.engine.view()), Ages::visible(&self.engine, &self.model));
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
        let of = (measurement, host, "int");
        let place = format!("{}: {measurement} {host} {bounds:?}", self.place);
        let counted = try_windows(&self.engine, of, &asked, bounds, Some(StatSet::COUNT));
        let (counted, _) = counted.unwrap_or_else(|error| panic!("{place}: {error}"));
        // Rules for cells leave statistics out: where raw rows are gone, too, an error says so.
        let found = match try_windows(&self.engine, of, &asked, bounds, None) {
            Ok((found, _)) => found,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{place}: {error}");
                let hidden_ns = Ages::hidden_ns(&self.engine, measurement, host);
                assert!(self.has_cell_rules && start_ns < hidden_ns, "{place}: {error}");
                Vec::new()
            }
        };
        for (index, window) in asked.iter().enumerate() {
            let is_counted = |place: &&(String, String, i64, String)| {
                place.0 == measurement
                    && place.1 == host
                    && place.3 == "int"
                    && is_in(bounds, window, place.2)
            };
            let count = self.model.keys().filter(is_counted).count();
            // No answer at all is none of a series that has a value.
            let found = counted.get(index).map_or(0, Partial::count);
            assert_eq!(found, count as u64, "{place} {window:?}");
        }
        for (partial, window) in found.iter().zip(&asked) {
            let values: Vec<(i64, f64)> = (self.model.iter())
                .filter(|(of, _)| {
                    of.0 == measurement && of.1 == host && of.3 == "int" && is_in(bounds, window, of.2)
                })
                .map(|(of, value)| (of.2, number_of(value)))
                .collect();
            let place = format!("{place} {window:?}");
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

fn number_of(value: &Value) -> f64 {
    if let Value::Int(value) = value { *value as f64 } else { f64::NAN }
}

fn is_in(bounds: Bounds, window: &Window, ts_ns: i64) -> bool {
    match bounds {
        Bounds::LeftOpen => window.start_ns < ts_ns && ts_ns <= window.end_ns,
        Bounds::RightOpen => window.start_ns <= ts_ns && ts_ns < window.end_ns,
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
    let (seeds, mut rebuilt, mut refused) = (seeds(Scale::asked().of(256, 3000, 10_000)), 0, 0);
    for seed in seeds.clone() {
        let mut machine = Machine::new(seed, false);
        for step in 0..100 {
            machine.place = format!("seed {seed}, step {step}");
            machine.step();
            machine.check();
        }
        rebuilt += machine.rebuilt_count;
        refused += machine.refused_count;
    }
    let is_one = seeds.start() == seeds.end();
    assert!(is_one || 10 * refused < rebuilt, "{rebuilt} catalogs were made anew, {refused} were not");
}

#[test]
fn state_machine_with_faults_keeps_what_was_acknowledged() {
    let (seeds, mut rebuilt, mut refused) = (seeds(Scale::asked().of(200, 2000, 10_000)), 0, 0);
    for seed in seeds.clone() {
        let mut machine = Machine::new(seed, true);
        for step in 0..500 {
            machine.place = format!("seed {seed}, step {step}");
            machine.step();
            if step % 20 == 0 {
                machine.check();
            }
        }
        machine.crash();
        rebuilt += machine.rebuilt_count;
        refused += machine.refused_count;
    }
    let is_one = seeds.start() == seeds.end();
    assert!(is_one || 10 * refused < rebuilt, "{rebuilt} catalogs were made anew, {refused} were not");
}
