//! A random database: several measurements, tags that some series lack, fields of every type, written in whatever order,
//! overwritten, deleted, flushed, merged and pressed into cells; and what should be in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use icecore::Retention;
use icecore_storage::Engine;
use icecore_storage::cell_set::{CellRule, CellSet};
use icecore_storage::clock::ManualClock;
use icecore_storage::model::{SeriesKey, SeriesSet, TimeRange, Value};

use super::super::sim::{NAN_MARK, Random, open, write};
use super::plain::{Fields, Plain, PlainSeries};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
pub(super) const HOUR_NS: i64 = 60 * MINUTE_NS;
/// 2026-01-01T00:00:00Z.
pub(super) const START_NS: i64 = 1_767_225_600 * SECOND_NS;
/// Rows are written in parts of so much time.
const PART_NS: i64 = 20 * MINUTE_NS;

const SERIES: [&str; 10] = [
    "cpu,dc=x,host=a,zone=1",
    "cpu,dc=x,host=b",
    "cpu,dc=y,host=c,zone=2",
    "cpu,host=d,zone=1",
    "cpu,host=e",
    "cpu,dc=y",
    "cpu",
    "mem,host=a",
    "mem,dc=x,host=b",
    "net,host=c,rack=r1",
];
/// Series of wide estates, beside the others.
const MORE_SERIES: usize = 40;

#[derive(Debug, Clone, Copy)]
enum Job {
    Nothing,
    Flush,
    Maintain,
    Seal,
}

/// All in memory; many small segments; few large ones and cells; anything.
const HABITS: [&[Job]; 4] = [
    &[Job::Nothing],
    &[Job::Flush],
    &[Job::Nothing, Job::Seal],
    &[Job::Nothing, Job::Flush, Job::Maintain, Job::Seal],
];

/// A database to which things happen, and what should be in it.
pub(super) struct Estate {
    pub(super) random: Random,
    clock: Arc<ManualClock>,
    pub(super) engine: Engine,
    series: Vec<String>,
    /// By series and time.
    content: BTreeMap<(usize, i64), Fields>,
    pub(super) now_ns: i64,
    hours: i64,
    jobs: &'static [Job],
    /// Rows that come late, less than so many in each part.
    strays: u64,
    /// Between two rows of a series at most.
    gap_ns: i64,
    /// Whether sums of floats are exact in any order: all are eighths.
    pub(super) is_exact: bool,
    /// Whether there are whole numbers that no float holds.
    pub(super) is_large: bool,
    /// Whether some floats are NaN.
    has_nan: bool,
}

impl Estate {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let clock = Arc::new(ManualClock::new(START_NS));
        // Raw rows in partitions of an hour.
        let retention = Retention { raw: Some(Duration::from_secs(48 * 3600)), ..Retention::FOREVER };
        let engine = open(&clock, retention);
        let rules = (0..random.below(3)).map(|_| CellRule {
            measurement: random.one_of(&["*", "cpu"]).to_owned(),
            field: random.one_of(&["v", "n", "note", "*"]).to_owned(),
            set: random.one_of(&CellSet::ALL),
            with_uniques: random.below(2) == 0,
        });
        let rules = rules.collect();
        engine.set_cell_rules(rules).unwrap();
        let is_wide = random.below(6) == 0;
        let more = (0..if is_wide { MORE_SERIES } else { 0 }).map(|number| format!("cpu,host=h{number:02}"));
        let series = SERIES.iter().map(ToString::to_string).chain(more).collect();
        let gap_s = if is_wide { 900 } else { random.one_of(&[20, 60, 150, 400, 400, 1500]) };
        Self {
            clock,
            engine,
            series,
            content: BTreeMap::new(),
            now_ns: START_NS,
            hours: if gap_s < 60 { 2 } else { 2 + i64::try_from(random.below(4)).unwrap() },
            jobs: random.one_of(&[HABITS[0], HABITS[1], HABITS[2], HABITS[3], HABITS[3]]),
            strays: random.one_of(&[1, 1, 8]),
            gap_ns: gap_s * SECOND_NS,
            is_exact: random.below(4) > 0,
            is_large: random.below(6) == 0,
            has_nan: random.below(4) == 0,
            random,
        }
    }

    /// Some hours of life: rows in more or less their order, and jobs between them.
    pub(super) fn live(&mut self) {
        let from_ns = self.now_ns;
        for part in 0..self.hours * HOUR_NS / PART_NS {
            let start_ns = from_ns + part * PART_NS;
            self.now_ns = start_ns + PART_NS;
            self.clock.set(self.now_ns);
            let mut lines = String::new();
            for series in 0..self.series.len() {
                let mut at_ns = start_ns + self.random.ns(self.gap_ns);
                while at_ns < self.now_ns {
                    self.row(&mut lines, series, at_ns);
                    at_ns += 1000 + self.random.ns(self.gap_ns);
                }
            }
            for _ in 0..self.random.below(self.strays) {
                self.stray_row(&mut lines);
            }
            self.write(&lines);
            self.work();
        }
    }

    /// A job, of those that this estate has.
    fn work(&mut self) {
        match self.random.one_of(self.jobs) {
            Job::Flush => self.engine.flush().unwrap(),
            Job::Maintain => self.engine.maintain().unwrap(),
            Job::Seal => self.engine.seal().unwrap(),
            Job::Nothing => {}
        }
    }

    /// Late rows, in memory when this is over.
    pub(super) fn late(&mut self) {
        let mut lines = String::new();
        for _ in 0..1 + self.random.below(30) {
            self.stray_row(&mut lines);
        }
        self.write(&lines);
    }

    /// Deletes some time of one series, or of all of a measurement.
    pub(super) fn delete(&mut self) {
        let start_ns = START_NS + self.random.ns(self.now_ns - START_NS);
        let range = TimeRange::new(start_ns, start_ns + 1 + self.random.ns(2 * HOUR_NS));
        let chosen = usize::try_from(self.random.below(self.series.len() as u64)).unwrap();
        let all = self.random.below(3) == 0;
        let name = measurement(&self.series[chosen]).to_owned();
        let view = self.engine.view();
        let Some(schema) = view.schema(&name) else { return };
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 1000).unwrap();
        let wanted = key(&self.series[chosen]);
        let ids = series.iter().filter(|info| *info.key == wanted).map(|info| info.id).collect();
        let series = if all { None } else { Some(ids) };
        self.engine.delete(&[SeriesSet { measurement: schema.measurement, series }], range).unwrap();
        let (of, names) = (&self.series, &name);
        self.content.retain(|(series, ts_ns), _| {
            let is_meant = if all { measurement(&of[*series]) == names } else { *series == chosen };
            !(is_meant && range.contains(*ts_ns))
        });
    }

    /// What should be in it, as a view without any fast way.
    pub(super) fn plain(&self) -> Plain {
        let mut series: Vec<_> = self
            .series
            .iter()
            .map(|text| PlainSeries { key: Arc::new(key(text)), rows: Vec::new() })
            .collect();
        for ((series_idx, ts_ns), fields) in &self.content {
            series[*series_idx].rows.push((*ts_ns, fields.clone()));
        }
        Plain::new(&*self.engine.view(), series)
    }

    /// The time of some row.
    pub(super) fn some_time(&mut self) -> i64 {
        let place = self.random.below(self.content.len().max(1) as u64);
        let row = self.content.keys().nth(usize::try_from(place).unwrap());
        row.map_or(START_NS, |(_, ts_ns)| *ts_ns)
    }

    /// The smallest or largest number that a field has within some hour, as text.
    pub(super) fn edge(&mut self, field: &str) -> Option<String> {
        let hour = self.some_time() / HOUR_NS;
        let rows = self.content.iter().filter(|((series, ts_ns), _)| {
            ts_ns / HOUR_NS == hour && measurement(&self.series[*series]) == "cpu"
        });
        let values = rows.filter_map(|(_, fields)| fields.get(field));
        let float = |value: &Value| match value {
            Value::Float(value) => *value,
            Value::Int(value) => *value as f64,
            Value::UInt(value) => *value as f64,
            Value::Bool(_) | Value::Str(_) => f64::NAN,
        };
        let mut values: Vec<&Value> = values.filter(|value| !float(value).is_nan()).collect();
        values.sort_by(|left, right| float(left).total_cmp(&float(right)));
        let value = if self.random.below(2) == 0 { values.first()? } else { values.last()? };
        Some(text(value).trim_end_matches(['i', 'u']).to_owned())
    }

    fn write(&self, lines: &str) {
        if !lines.is_empty() {
            write(&self.engine, lines);
        }
    }

    /// A row anywhere, often where one is already.
    fn stray_row(&mut self, lines: &mut String) {
        let series = usize::try_from(self.random.below(self.series.len() as u64)).unwrap();
        let mut at_ns = START_NS + self.random.ns(self.now_ns - START_NS);
        if self.random.below(2) == 0
            && let Some(((found, known_ns), _)) = self.content.range((series, at_ns)..).next()
            && *found == series
        {
            at_ns = *known_ns;
        }
        self.row(lines, series, at_ns);
    }

    fn row(&mut self, lines: &mut String, series: usize, at_ns: i64) {
        // Collectors round their times, so that series meet.
        let at_ns = match self.random.below(8) {
            0 => at_ns / MINUTE_NS * MINUTE_NS,
            1 => at_ns / (5 * MINUTE_NS) * 5 * MINUTE_NS,
            2 | 3 => at_ns / SECOND_NS * SECOND_NS,
            _ => at_ns,
        };
        let fields: Fields = match measurement(&self.series[series]) {
            "cpu" => self.fields(&["v", "w", "n", "u", "ok", "note", "msg"], at_ns),
            // The same names, other types.
            "mem" => {
                let whole = Value::Int(i64::try_from(self.random.below(1000)).unwrap() - 300);
                let others = self.fields(&["note", "ok"], at_ns);
                others.into_iter().chain([("v", whole)]).collect()
            }
            _ => self.fields(&["v"], at_ns),
        };
        if fields.is_empty() {
            return;
        }
        let texts: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        writeln!(lines, "{} {} {at_ns}", self.series[series], texts.join(",")).unwrap();
        self.content.entry((series, at_ns)).or_default().extend(fields);
    }

    fn fields(&mut self, names: &[&'static str], at_ns: i64) -> Fields {
        let mut fields = Fields::new();
        for name in names {
            let rare = if *name == "w" { 2 } else { 6 };
            if self.random.below(rare) > 0 {
                fields.insert(*name, self.value(name, at_ns));
            }
        }
        fields
    }

    fn value(&mut self, field: &str, at_ns: i64) -> Value {
        let random = &mut self.random;
        let whole = |random: &mut Random, bits: u32| i64::try_from(random.below(1 << bits)).unwrap();
        let is_large = self.is_large && random.below(20) == 0;
        let is_nan = self.has_nan && random.below(10) == 0;
        match field {
            "v" | "w" if is_nan => Value::Float(f64::NAN),
            "v" | "w" => Value::Float(match random.below(6) {
                0 => 0.0,
                1 => random.one_of(&[-0.5, 1.0, 2.5]),
                2 => -(random.below(1 << 14) as f64) / 8.0,
                // Values that come one after the other, so that pages have bounds that part them.
                3 => ((at_ns - START_NS) / MINUTE_NS) as f64,
                _ if self.is_exact => random.below(1 << 20) as f64 / 8.0,
                _ => random.below(1 << 40) as f64 / 7.0,
            }),
            "n" if is_large => Value::Int(i64::MAX - whole(random, 10)),
            "n" if random.below(2) == 0 => Value::Int((at_ns - START_NS) / MINUTE_NS - 60),
            "n" => Value::Int(whole(random, 8) - (1 << 6)),
            "u" if is_large => Value::UInt(u64::MAX - random.below(3)),
            "u" => Value::UInt(random.below(1 << 16)),
            "ok" => Value::Bool(random.below(4) > 0),
            // Few texts, and later ones that were not there before.
            "note" if random.below(3) == 0 => Value::Str(format!("part {}", (at_ns - START_NS) / PART_NS)),
            "note" => Value::Str(random.one_of(&["ok", "slow", "bad one", "ünï", ""]).to_owned()),
            _ => Value::Str(format!("m{}", random.below(5000))),
        }
    }
}

fn measurement(series: &str) -> &str {
    series.split(',').next().unwrap()
}

fn key(series: &str) -> SeriesKey {
    let tags = series.split(',').skip(1).map(|tag| tag.split_once('=').unwrap());
    SeriesKey::new(measurement(series), tags).unwrap()
}

/// As line protocol has it.
fn text(value: &Value) -> String {
    match value {
        Value::Float(value) if value.is_nan() => format!("{NAN_MARK:?}"),
        Value::Float(value) => format!("{value:?}"),
        Value::Int(value) => format!("{value}i"),
        Value::UInt(value) => format!("{value}u"),
        Value::Bool(value) => value.to_string(),
        Value::Str(value) => format!("\"{value}\""),
    }
}
