//! What rules of retention and rules for cells must do to the rows of the state machine, told without their code: of each
//! series the hour before which rows must be hidden by now, and that up to which they may be.

use super::world::{Content, Random};
use super::*;
use crate::cell_set::{CellRule, CellSet};
use crate::rules::{self, Rule, RuleOp, RuleTest};

/// Measurement, test on the host, and hours that raw rows are kept.
type Entry = (&'static str, RuleOp, &'static str, Option<u64>);

/// Lists of rules that the machine changes between.
const MENU: [&[Entry]; 7] = [
    &[],
    &[("cpu", RuleOp::Equal, "a", Some(1))],
    &[("cpu", RuleOp::Equal, "a", Some(2))],
    &[("cpu", RuleOp::Regex, "a|b", Some(3)), ("cpu", RuleOp::NotEqual, "", Some(1))],
    &[("net", RuleOp::NotEqual, "c", Some(2)), ("cpu", RuleOp::NotRegex, "a|x", Some(2))],
    &[("cpu", RuleOp::NotEqual, "", Some(100)), ("net", RuleOp::Equal, "a", Some(1))],
    &[
        ("cpu", RuleOp::Equal, "a", None),
        ("cpu", RuleOp::Regex, ".*", Some(1)),
        ("net", RuleOp::NotEqual, "x", None),
    ],
];

/// Lists of rules for cells that the machine changes between.
const CELLS: [&[(&str, CellSet, bool)]; 4] = [
    &[],
    &[("int", CellSet::Counter, false)],
    &[("text", CellSet::Gauge, true), ("int", CellSet::Dist, true)],
    &[("float", CellSet::Gauge, false), ("*", CellSet::Gauge, false)],
];

fn rules_of(choice: usize) -> Vec<Rule> {
    let rule = |(measurement, op, value, age): &Entry| {
        let retention = Retention { raw: age.and_then(hours), ..Retention::FOREVER };
        Rule::new(measurement, vec![RuleTest::new("host", *op, value).unwrap()], retention).unwrap()
    };
    MENU[choice].iter().map(rule).collect()
}

fn cells_of(choice: usize) -> Vec<CellRule> {
    let rule = |(field, set, with_uniques): &(&str, CellSet, bool)| CellRule {
        measurement: "*".into(),
        field: (*field).into(),
        set: *set,
        with_uniques: *with_uniques,
    };
    CELLS[choice].iter().map(rule).collect()
}

fn fits((of, op, value, _): &Entry, measurement: &str, host: &str) -> bool {
    let is_one = || value.split('|').any(|value| value == host || value == ".*");
    let is_host = match op {
        RuleOp::Equal => host == *value,
        RuleOp::NotEqual => host != *value,
        RuleOp::Regex => is_one(),
        RuleOp::NotRegex => !is_one(),
    };
    *of == measurement && is_host
}

/// Rows are seen so long past their age.
const MARGIN_NS: i64 = MINUTE_NS;

/// What is hidden of a series.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Rows before must be hidden.
    must_ns: i64,
    /// Rows from here on must be seen.
    may_ns: i64,
    /// Rows before were hidden, and do not come back.
    was_ns: i64,
}

/// What the rules are, and what they may have done.
#[derive(Debug)]
pub(super) struct Ages {
    /// The list in force, and those that may be after a restart.
    choice: usize,
    doubtful: Vec<usize>,
    cells: usize,
    doubtful_cells: Vec<usize>,
    bounds: BTreeMap<(&'static str, &'static str), Bounds>,
    /// Changes that were refused because many sets of rules hide something.
    pub(super) refused: u64,
}

impl Ages {
    pub(super) fn new(measurements: &[&'static str], hosts: &[&'static str]) -> Self {
        let none = Bounds { must_ns: i64::MIN, may_ns: i64::MIN, was_ns: i64::MIN };
        let series = measurements.iter().flat_map(|of| hosts.iter().map(|host| ((*of, *host), none)));
        Self {
            choice: 0,
            doubtful: Vec::new(),
            cells: 0,
            doubtful_cells: Vec::new(),
            bounds: series.collect(),
            refused: 0,
        }
    }

    /// Gives the database another list of rules, sometimes with another retention.
    pub(super) fn change(
        &mut self,
        engine: &Engine,
        random: &mut Random,
        retention: Retention,
    ) -> Result<()> {
        let choice = random.below(MENU.len() as u64) as usize;
        let retention = if random.below(2) == 0 { retention } else { engine.retention() };
        match engine.set_rules(retention, rules_of(choice)) {
            Ok(()) => {
                self.choice = choice;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                assert_eq!(engine.store.version().rule_sets.len(), rules::RULE_SETS_MAX);
                self.refused += 1;
                Ok(())
            }
            Err(error) => {
                self.doubtful.push(choice);
                Err(error)
            }
        }
    }

    /// Gives the database another list of rules for cells.
    pub(super) fn change_cells(&mut self, engine: &Engine, random: &mut Random) -> Result<()> {
        let choice = random.below(CELLS.len() as u64) as usize;
        match engine.set_cell_rules(cells_of(choice)) {
            Ok(()) => {
                self.cells = choice;
                Ok(())
            }
            Err(error) => {
                self.doubtful_cells.push(choice);
                Err(error)
            }
        }
    }

    /// After a restart: the rules are those in force before, or those of a change that failed.
    pub(super) fn note_restart(&mut self, engine: &Engine, place: &str) {
        let found = engine.rules();
        let mut possible = std::mem::take(&mut self.doubtful).into_iter().chain([self.choice]);
        self.choice = possible
            .find(|choice| rules_of(*choice) == found)
            .unwrap_or_else(|| panic!("{place}: {found:?}"));
        let found = engine.cell_rules();
        let mut possible = std::mem::take(&mut self.doubtful_cells).into_iter().chain([self.cells]);
        self.cells = possible
            .find(|choice| cells_of(*choice) == found)
            .unwrap_or_else(|| panic!("{place}: {found:?}"));
    }

    /// How long raw rows of a series are kept.
    fn age_ns(&self, engine: &Engine, measurement: &str, host: &str) -> Option<i64> {
        let entry = MENU[self.choice].iter().find(|entry| fits(entry, measurement, host));
        let age = entry.map_or(engine.retention().raw, |(.., age)| age.and_then(hours));
        age.map(duration_ns)
    }

    /// The full hour up to which rows of a series may be hidden by now.
    fn due_ns(&self, engine: &Engine, now_ns: i64, (measurement, host): (&str, &str)) -> i64 {
        let age_ns = self.age_ns(engine, measurement, host);
        age_ns.map_or(i64::MIN, |age_ns| floor_to(now_ns - age_ns - MARGIN_NS, HOUR_NS))
    }

    /// A pass of retention may have taken place.
    pub(super) fn note_pass(&mut self, engine: &Engine) {
        let now_ns = engine.store.env.clock.now_ns();
        for (of, mut bounds) in self.bounds.clone() {
            bounds.may_ns = bounds.may_ns.max(self.due_ns(engine, now_ns, of));
            self.bounds.insert(of, bounds);
        }
    }

    /// One that was forced came to its end, and everything written before was in cells.
    pub(super) fn note_whole_pass(&mut self, engine: &Engine) {
        self.note_pass(engine);
        let now_ns = engine.store.env.clock.now_ns();
        // Without rules whole partitions go, no hours.
        for (of, mut bounds) in self.bounds.clone().into_iter().filter(|_| !MENU[self.choice].is_empty()) {
            bounds.must_ns = bounds.must_ns.max(self.due_ns(engine, now_ns, of));
            self.bounds.insert(of, bounds);
        }
    }

    /// Before which time raw rows of a series are hidden.
    pub(super) fn hidden_ns(engine: &Engine, measurement: &str, host: &str) -> i64 {
        let version = engine.store.version();
        let key = SeriesKey::new(measurement, [("host", host)]).unwrap();
        let [floor_ns, ..] = rules::floors_of(&version.rule_sets, version.floors_ns, &key);
        floor_ns
    }

    /// Rows of a series from here on are taken.
    pub(super) fn first_ns(&self, engine: &Engine, measurement: &str, host: &str) -> i64 {
        let now_ns = engine.store.env.clock.now_ns();
        let age_ns = self.age_ns(engine, measurement, host).unwrap_or(i64::MAX);
        Self::hidden_ns(engine, measurement, host).max(now_ns.saturating_sub(age_ns))
    }

    /// What is hidden is what must be, nothing that must be seen, and stays.
    pub(super) fn check(&mut self, engine: &Engine, place: &str) {
        for ((measurement, host), bounds) in &mut self.bounds {
            let hidden_ns = Self::hidden_ns(engine, measurement, host);
            let place = format!("{place}: {measurement} {host} hidden before {hidden_ns}, {bounds:?}");
            assert!(bounds.must_ns <= hidden_ns, "must be hidden: {place}");
            assert!(hidden_ns <= bounds.may_ns, "must be seen: {place}");
            assert!(bounds.was_ns <= hidden_ns, "comes back: {place}");
            bounds.was_ns = hidden_ns;
        }
    }

    /// What of a content is seen as rows.
    pub(super) fn visible(engine: &Engine, content: &Content) -> Content {
        let is_seen = |(measurement, host, ts_ns, _): &(String, String, i64, String)| {
            Self::hidden_ns(engine, measurement, host) <= *ts_ns
        };
        let seen = content.iter().filter(|(place, _)| is_seen(place));
        seen.map(|(place, value)| (place.clone(), value.clone())).collect()
    }
}
