//! What a data directory or a server may be told, and the text forms of retention, durations and bounds.
//!
//! Knows nothing of flags or environment variables; `cli` turns those into a [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use icecore_query::promql::{self, MatchOp};
use icecore_storage::cell_set::{CellRule, CellSet};
use icecore_storage::options::{Durability, Options, Retention};
use icecore_storage::rules::{Rule, RuleOp, RuleTest};

use crate::limits::Limits;
use crate::{Error, Result};

/// Settings of a data directory and its server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Retention of databases that are created.
    pub retention: Retention,
    /// Measurements that keep every event, in databases that are created: see [`NewDatabase::keep_duplicates`].
    pub keep_duplicates: Vec<String>,
    /// Options of each database's engine. `durability` is that of databases that are created: each keeps its own.
    /// `cache_bytes_max` is that of all databases together: they share one cache.
    pub options: Options,
    /// Bounds of the server.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("icecore-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 8086)),
            retention: Retention::default(),
            keep_duplicates: Vec::new(),
            options: Options::default(),
            limits: Limits::default(),
        }
    }
}

/// The least memory that a server is told to do with.
pub const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// The largest memtable: a larger one makes no better segments.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;
/// The largest body after decompression.
const BODY_BYTES_MAX: usize = 64 << 20;

impl Config {
    /// Cuts all sizes from one: the memory that everything together is to take, however many databases there are. A
    /// quarter is for the memtables of all databases, three eighths are for queries and the answers that are kept of them,
    /// an eighth is for decoded pages, an eighth for bodies on their way and an eighth for those that are being decoded.
    /// The names of all databases (five eighths as much again at most), the jobs and what the allocator needs beyond what
    /// is asked of it come on top: twice as much again should be there. A database takes at most three quarters of what is
    /// for memtables, and four fifths of what is for names, so that one whose flushes fail, or that is full of names, leaves
    /// the others some.
    #[must_use]
    pub fn with_memory(mut self, bytes: u64) -> Self {
        let share = |eighths: u64| bytes / 8 * eighths;
        let limits = &mut self.limits;
        limits.memtables_bytes_max = size(share(2));
        limits.catalogs_bytes_max = size(share(5));
        self.options.memory_bytes_max = limits.memtables_bytes_max / 4 * 3;
        self.options.catalog_bytes_max = size(share(4));
        self.options.memtable_bytes_max = size(share(1) / 2).min(MEMTABLE_BYTES_MAX);
        self.options.cache_bytes_max = size(share(1));
        limits.results_bytes_max = share(1) / 4;
        limits.queries_memory_bytes_max = share(3) - limits.results_bytes_max;
        limits.query.memory_bytes_max = share(2);
        limits.bodies_bytes_max = size(share(1));
        limits.exemplars_bytes_max = share(1) / 16;
        limits.decoding_bytes_max = size(share(1) - limits.exemplars_bytes_max);
        limits.body_bytes_max = size(share(1) / 2).clamp(limits.body_wire_bytes_max, BODY_BYTES_MAX);
        self
    }

    /// Sets one bound by its name in messages and metrics, such as `series_max=5000000` or `free_bytes_min=1G`; sizes have
    /// the form of [`parse_bytes`]. Comes after [`Self::with_memory`], which sets some of them. `docs/config.md` has the names.
    ///
    /// # Errors
    /// `InvalidInput` that names the part; a name that is none, with those there are.
    pub fn set_limit(&mut self, text: &str) -> Result<()> {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Error::invalid(format!("`{text}` is not a limit such as series_max=5000000 or free_bytes_min=1G"))
        })?;
        let (name, value) = (name.trim(), value.trim());
        let bound = BOUNDS.iter().find(|bound| bound.name == name).ok_or_else(|| {
            Error::invalid(format!("`{name}` is not a limit that can be set: one of {}", limit_names()))
        })?;
        let number = bound.parse(value).map_err(|error| error.context(name))?;
        (bound.set)(self, number);
        Ok(())
    }

    /// What a database is created with when nothing else is said.
    pub fn new_database(&self) -> NewDatabase {
        let (retention, durability) = (self.retention, self.options.durability);
        NewDatabase { retention, durability, keep_duplicates: self.keep_duplicates.clone() }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A bound that may be set by its name.
struct Bound {
    name: &'static str,
    unit: Unit,
    /// The largest number that makes sense; the least is 1.
    most: u64,
    set: fn(&mut Config, u64),
}

enum Unit {
    Count,
    Bytes,
}

impl Bound {
    /// Ids of series have 32 bits, and nothing else that is counted comes near that.
    const fn count(name: &'static str, set: fn(&mut Config, u64)) -> Self {
        Self { name, unit: Unit::Count, most: u32::MAX as u64, set }
    }

    const fn bytes(name: &'static str, most: u64, set: fn(&mut Config, u64)) -> Self {
        Self { name, unit: Unit::Bytes, most, set }
    }

    fn parse(&self, text: &str) -> Result<u64> {
        let number = match self.unit {
            Unit::Bytes => parse_bytes(text)?,
            Unit::Count => text
                .parse()
                .map_err(|_| Error::invalid(format!("`{text}` is not a whole number such as 5000000")))?,
        };
        if number < 1 || self.most < number {
            return Err(Error::invalid(format!("`{text}` is not between 1 and {}", self.most)));
        }
        Ok(number)
    }
}

/// A body, or a text of a query, is one piece of memory.
const PIECE_BYTES_MAX: u64 = 1 << 30;
/// No disk and no memory is as large.
const ROOM_BYTES_MAX: u64 = 1 << 50;
/// Ids of fields have 16 bits.
const FIELD_IDS: u64 = 1 << 16;

/// Shares of `--memory` and times are not among them, but for the names, which come on top of the memory.
const BOUNDS: [Bound; 24] = [
    Bound::count("series_max", |config, number| config.options.series_max = size(number)),
    Bound::count("measurement_series_max", |config, number| {
        config.options.measurement_series_max = size(number);
    }),
    Bound::count("new_series_per_minute_max", |config, number| {
        config.options.new_series_per_minute_max = size(number);
    }),
    Bound::count("tag_values_max", |config, number| config.options.tag_values_max = size(number)),
    Bound {
        most: FIELD_IDS,
        ..Bound::count("fields_max", |config, number| config.options.fields_max = size(number))
    },
    Bound::bytes("catalog_bytes_max", ROOM_BYTES_MAX, |config, bytes| {
        config.options.catalog_bytes_max = size(bytes);
    }),
    Bound::bytes("catalogs_bytes_max", ROOM_BYTES_MAX, |config, bytes| {
        config.limits.catalogs_bytes_max = size(bytes);
    }),
    Bound::bytes("free_bytes_min", ROOM_BYTES_MAX, |config, bytes| config.options.free_bytes_min = bytes),
    Bound::count("databases_max", |config, number| config.limits.databases_max = size(number)),
    Bound::count("connections_max", |config, number| config.limits.connections_max = size(number)),
    Bound::bytes("body_wire_bytes_max", PIECE_BYTES_MAX, |config, bytes| {
        config.limits.body_wire_bytes_max = size(bytes);
    }),
    Bound::bytes("body_bytes_max", PIECE_BYTES_MAX, |config, bytes| {
        config.limits.body_bytes_max = size(bytes);
    }),
    Bound::count("body_ratio_max", |config, number| config.limits.body_ratio_max = size(number)),
    Bound::bytes("form_bytes_max", PIECE_BYTES_MAX, |config, bytes| {
        config.limits.form_bytes_max = size(bytes);
    }),
    Bound::count("writes_max", |config, number| config.limits.writes_max = size(number)),
    Bound::count("queries_max", |config, number| config.limits.queries_max = size(number)),
    Bound::count("query_queue_max", |config, number| config.limits.query_queue_max = size(number)),
    Bound::count("listed_series_max", |config, number| config.limits.listed_series_max = size(number)),
    Bound::bytes("text_bytes_max", PIECE_BYTES_MAX, |config, bytes| {
        config.limits.query.text_bytes_max = size(bytes);
    }),
    Bound::count("steps_max", |config, number| config.limits.query.steps_max = number),
    Bound::count("samples_max", |config, number| config.limits.query.samples_max = number),
    Bound::count("query_series_max", |config, number| config.limits.query.series_max = size(number)),
    Bound::count("result_series_max", |config, number| {
        config.limits.query.result_series_max = number;
    }),
    Bound::count("points_max", |config, number| config.limits.query.points_max = number),
];

/// The names that [`Config::set_limit`] takes, with commas.
pub(crate) fn limit_names() -> String {
    BOUNDS.map(|bound| bound.name).join(", ")
}

/// What a database is created with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewDatabase {
    /// How long its layers are kept; may be changed later.
    pub retention: Retention,
    /// What an acknowledged write has survived; stays as it is.
    pub durability: Durability,
    /// Measurements of which two different rows of one series at one time are two events: both are kept, and their times
    /// told apart in the nanoseconds. Of other measurements the last wins. Stays as it is.
    pub keep_duplicates: Vec<String>,
}

/// Reads a durability: `fsync`, `interval` or `memory`.
///
/// # Errors
/// `InvalidInput` that shows the text and the names.
pub fn parse_durability(text: &str) -> Result<Durability> {
    Durability::of_name(text.trim()).ok_or_else(|| {
        Error::invalid(format!("`{text}` is not a durability: one of fsync, interval, memory"))
    })
}

/// Reads a size in bytes: `268435456`, `256M` or `256MiB`, `1G` or `1GiB`. Units are powers of 1024.
///
/// # Errors
/// `InvalidInput` that shows the text and the form wanted.
pub fn parse_bytes(text: &str) -> Result<u64> {
    let wrong = || Error::invalid(format!("`{text}` is not a size such as 268435456, 256M or 1G"));
    let text = text.trim();
    let digits_end = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits_end).ok_or_else(wrong)?;
    let shift = match unit {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

const SECOND: u64 = 1;
const UNITS: [(&str, u64); 6] = [
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", 86_400 * SECOND),
    ("w", 7 * 86_400 * SECOND),
    ("y", 365 * 86_400 * SECOND),
];

/// Reads a duration of whole units: `90s`, `15m`, `12h`, `7d`, `4w`, `1y`.
///
/// # Errors
/// `InvalidInput` that shows the text and the form wanted.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || Error::invalid(format!("`{text}` is not a duration such as 12h, 7d or 4w"));
    let digits_end = text.find(|symbol: char| !symbol.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(digits_end).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let seconds = number.checked_mul(*seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Reads a retention: `forever`, or tiers such as `raw=1d,1m=7d,5m=7d,1h=30d`. A tier that is not named keeps its
/// default; `forever` may stand for any tier.
///
/// # Errors
/// `InvalidInput` that names the part; also when a coarser tier would be dropped before a finer one, since its
/// cells are made from the finer one and answers would lose their past.
pub fn parse_retention(text: &str) -> Result<Retention> {
    parse_retention_over(Retention::default(), text)
}

/// As [`parse_retention`]; a tier that is not named keeps what `base` has.
fn parse_retention_over(base: Retention, text: &str) -> Result<Retention> {
    if text.trim() == "forever" {
        return Ok(Retention::FOREVER);
    }
    let mut retention = base;
    for part in text.split(',') {
        let part = part.trim();
        let (tier, age) = part.split_once('=').ok_or_else(|| {
            Error::invalid(format!(
                "retention `{part}`: expected `forever` or parts such as raw=1d,1m=7d,5m=7d,1h=30d"
            ))
        })?;
        let age = match age.trim() {
            "forever" => None,
            age => Some(parse_duration(age).map_err(|error| error.context(format!("retention of {tier}")))?),
        };
        match tier.trim() {
            "raw" => retention.raw = age,
            "1m" => retention.m1 = age,
            "5m" => retention.m5 = age,
            "1h" => retention.h1 = age,
            other => {
                return Err(Error::invalid(format!(
                    "retention names `{other}`; the tiers are raw, 1m, 5m and 1h"
                )));
            }
        }
    }
    check_order(&retention)?;
    Ok(retention)
}

/// Whether each tier lives at least as long as the finer ones.
///
/// # Errors
/// `InvalidInput` that names the two tiers.
pub(crate) fn check_order(retention: &Retention) -> Result<()> {
    let tiers = [("raw", retention.raw), ("1m", retention.m1), ("5m", retention.m5), ("1h", retention.h1)];
    for pair in tiers.windows(2) {
        let [(finer, fine_age), (coarser, coarse_age)] = pair else { continue };
        let is_ordered = match (fine_age, coarse_age) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(fine), Some(coarse)) => fine <= coarse,
        };
        if !is_ordered {
            return Err(Error::invalid(format!(
                "retention keeps {finer} longer than {coarser}; a coarser tier must live at least as long"
            )));
        }
    }
    Ok(())
}

/// Reads what the cells of a field keep: `requests.latency_ms=dist`, `*.user_id=auto+uniq`. The sets are `auto`, `dist`,
/// `counter` and `gauge`; `*` stands for any measurement, or any field; the field begins behind the last dot.
///
/// # Errors
/// `InvalidInput` that shows the text and the form wanted.
pub fn parse_cell_rule(text: &str) -> Result<CellRule> {
    let wrong = || {
        Error::invalid(format!(
            "`{text}` is not a rule for cells such as requests.latency_ms=dist or *.user_id=auto+uniq; the sets are \
             auto, dist, counter and gauge"
        ))
    };
    let (place, set) = text.trim().rsplit_once('=').ok_or_else(wrong)?;
    let (measurement, field) = place.rsplit_once('.').ok_or_else(wrong)?;
    let (set, with_uniques) = match set.strip_suffix("+uniq") {
        Some(set) => (set, true),
        None => (set, false),
    };
    if measurement.is_empty() || field.is_empty() {
        return Err(wrong());
    }
    let set = CellSet::from_name(set).ok_or_else(wrong)?;
    Ok(CellRule { measurement: measurement.to_owned(), field: field.to_owned(), set, with_uniques })
}

/// Reads a rule of retention: a selector of series by measurement and tags, and the tiers as [`parse_retention`] has
/// them, such as `telemetry{tier="critical"} raw=72h`. A tier that is not named lives as long as in `own`.
///
/// # Errors
/// `InvalidInput` that names the part.
pub fn parse_rule(own: Retention, text: &str) -> Result<Rule> {
    let form =
        || Error::invalid(format!("rule `{text}`: expected such as telemetry{{tier=\"critical\"}} raw=72h"));
    let end = text.rfind('}').map(|brace| brace + 1).or_else(|| text.trim_end().find(char::is_whitespace));
    let (selector, ages) = end.and_then(|end| text.split_at_checked(end)).ok_or_else(form)?;
    let selector = promql::parse_selector(selector.trim())?;
    let mut measurement = selector.name.clone();
    let mut tests = Vec::new();
    for matcher in &selector.matchers {
        let op = match matcher.op {
            MatchOp::Equal => RuleOp::Equal,
            MatchOp::NotEqual => RuleOp::NotEqual,
            MatchOp::Regex => RuleOp::Regex,
            MatchOp::NotRegex => RuleOp::NotRegex,
        };
        if matcher.label != "__name__" {
            tests.push(RuleTest::new(&matcher.label, op, &matcher.value)?);
        } else if op == RuleOp::Equal && measurement.is_none() {
            measurement = Some(matcher.value.clone());
        } else {
            return Err(Error::invalid(format!("rule `{text}`: one measurement is named, exactly")));
        }
    }
    let retention =
        parse_retention_over(own, ages).map_err(|error| error.context(format!("rule `{text}`")))?;
    Ok(Rule::new(&measurement.ok_or_else(form)?, tests, retention)?)
}

/// The text form that [`parse_retention`] reads.
pub fn format_retention(retention: &Retention) -> String {
    if *retention == Retention::FOREVER {
        return "forever".to_owned();
    }
    let tiers = [("raw", retention.raw), ("1m", retention.m1), ("5m", retention.m5), ("1h", retention.h1)];
    let parts: Vec<String> = tiers.iter().map(|(name, age)| format!("{name}={}", format_age(*age))).collect();
    parts.join(",")
}

/// The shortest text form of an age; `forever` for none.
pub fn format_age(age: Option<Duration>) -> String {
    let Some(age) = age else { return "forever".to_owned() };
    let seconds = age.as_secs();
    let unit = UNITS.iter().rev().filter(|(name, _)| *name != "y" && *name != "w");
    for (name, unit_seconds) in unit {
        if seconds >= *unit_seconds && seconds.is_multiple_of(*unit_seconds) {
            return format!("{}{name}", seconds / unit_seconds);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn bytes_are_read_with_units() {
        for (text, wanted) in [("7", 7), ("64K", 64 << 10), (" 256M ", 256 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_bytes(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "M", "1 M", "1MB", "-1", "1.5G", "99999999999G"] {
            assert!(parse_bytes(text).unwrap_err().to_string().contains("not a size"), "{text}");
        }
    }

    #[test]
    fn memory_of_one_gib_keeps_the_memtable_of_the_default() {
        let config = Config::default().with_memory(1 << 30);
        assert_eq!(config.options.memtable_bytes_max, Options::default().memtable_bytes_max);
        assert_eq!(config.options.cache_bytes_max, Options::default().cache_bytes_max);
        assert_eq!(config.limits.query, Limits::default().query);
        assert_eq!(config.limits.body_bytes_max, Limits::default().body_bytes_max);
    }

    #[test]
    fn memory_is_not_given_out_twice() {
        for bytes in [MEMORY_BYTES_MIN, 128 << 20, 1 << 30, 16 << 30] {
            let Config { options, limits, .. } = Config::default().with_memory(bytes);
            let on_their_way = limits.bodies_bytes_max + limits.decoding_bytes_max;
            let sizes = [limits.memtables_bytes_max, options.cache_bytes_max, on_their_way];
            let sum = limits.queries_memory_bytes_max
                + limits.results_bytes_max
                + limits.exemplars_bytes_max
                + sizes.map(|size| size as u64).iter().sum::<u64>();
            assert_eq!(sum, bytes);
            assert!(limits.query.memory_bytes_max <= limits.queries_memory_bytes_max);
            assert!(2 * options.memtable_bytes_max <= options.memory_bytes_max);
            assert!(options.memory_bytes_max < limits.memtables_bytes_max);
            assert!(options.catalog_bytes_max < limits.catalogs_bytes_max);
        }
    }

    #[test]
    fn limits_are_set_by_their_names_over_those_of_memory() {
        let mut config = Config::default().with_memory(MEMORY_BYTES_MIN);
        for (text, found) in [
            ("series_max=3", (|config: &Config| config.options.series_max as u64) as fn(&Config) -> u64),
            (" fields_max = 65536 ", |config| config.options.fields_max as u64),
            ("catalog_bytes_max=1G", |config| config.options.catalog_bytes_max as u64),
            ("free_bytes_min=64MiB", |config| config.options.free_bytes_min),
            ("body_bytes_max=4096", |config| config.limits.body_bytes_max as u64),
            ("query_series_max=7", |config| config.limits.query.series_max as u64),
            ("samples_max=4294967295", |config| config.limits.query.samples_max),
        ] {
            config.set_limit(text).unwrap();
            let wanted = parse_bytes(text.split_once('=').unwrap().1).unwrap();
            assert_eq!(found(&config), wanted, "{text}");
        }
    }

    #[test]
    fn each_limit_sets_one_bound_of_its_own_and_is_described() {
        let described = include_str!("../docs/config.md");
        let mut seen = std::collections::BTreeSet::from([format!("{:?}", Config::default())]);
        for bound in &BOUNDS {
            let mut config = Config::default();
            config.set_limit(&format!("{}=77", bound.name)).unwrap();
            assert!(seen.insert(format!("{config:?}")), "{} sets what another sets, or nothing", bound.name);
            assert!(described.contains(&format!("\n| `{}` | ", bound.name)), "{}", bound.name);
        }
    }

    #[test]
    fn limit_mistakes_name_the_part() {
        for (text, wanted) in [
            ("series_max", "not a limit such as series_max=5000000"),
            ("", "not a limit such as"),
            (
                "series=3",
                "`series` is not a limit that can be set: one of series_max, measurement_series_max, ",
            ),
            ("series_max=", "series_max: `` is not a whole number"),
            ("series_max=1M", "series_max: `1M` is not a whole number"),
            ("series_max=-1", "series_max: `-1` is not a whole number"),
            ("series_max=0", "series_max: `0` is not between 1 and 4294967295"),
            ("series_max=4294967296", "not between 1 and 4294967295"),
            ("fields_max=65537", "not between 1 and 65536"),
            ("free_bytes_min=0", "free_bytes_min: `0` is not between 1 and"),
            ("free_bytes_min=1X", "free_bytes_min: `1X` is not a size"),
            ("body_bytes_max=2G", "body_bytes_max: `2G` is not between 1 and 1073741824"),
        ] {
            let mut config = Config::default();
            let error = config.set_limit(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(wanted), "{text}: {error}");
            assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()), "{text}");
        }
    }

    #[test]
    fn cell_rules_are_read_with_names_that_have_dots() {
        let check = |text: &str, measurement: &str, field: &str, set, with_uniques| {
            let expected =
                CellRule { measurement: measurement.into(), field: field.into(), set, with_uniques };
            assert_eq!(parse_cell_rule(text).unwrap(), expected, "{text}");
        };
        check("requests.latency_ms=dist", "requests", "latency_ms", CellSet::Dist, false);
        check(" *.user_id=auto+uniq ", "*", "user_id", CellSet::Auto, true);
        check("a.b=c.*=gauge", "a.b=c", "*", CellSet::Gauge, false);
        for text in [
            "",
            "requests=dist",
            "requests.latency_ms",
            ".f=dist",
            "m.=dist",
            "m.f=all",
            "m.f=dist+",
            "m.f=+uniq",
        ] {
            assert!(
                parse_cell_rule(text).unwrap_err().to_string().contains("not a rule for cells"),
                "{text}"
            );
        }
    }

    #[test]
    fn retention_forever_keeps_everything() {
        assert_eq!(parse_retention("forever").unwrap(), Retention::FOREVER);
    }

    #[test]
    fn retention_parts_override_defaults() {
        let retention = parse_retention("raw=2d, 1h=forever").unwrap();
        assert_eq!(retention.raw, Some(2 * DAY));
        assert_eq!(retention.m1, Retention::default().m1);
        assert_eq!(retention.h1, None);
    }

    #[test]
    fn rule_names_a_measurement_its_tags_and_tiers() {
        let own = parse_retention("raw=1d,1h=forever").unwrap();
        let rule = parse_rule(own, r#"telemetry{tier=~"a|b", zone!="x"} raw=72h"#).unwrap();
        assert_eq!(rule.to_string(), r#"telemetry{tier=~"a|b",zone!="x"}"#);
        assert_eq!(rule.retention(), Retention { raw: Some(3 * DAY), ..own });
        let same = parse_rule(own, &format!("{rule} {}", format_retention(&rule.retention()))).unwrap();
        assert_eq!(same, rule);
        assert_eq!(parse_rule(own, "telemetry raw=72h").unwrap().to_string(), "telemetry{}");
        for (text, wanted) in [
            ("telemetry", "expected such as"),
            ("{tier=\"a\"} raw=1h", "expected such as"),
            ("{__name__=~\"a\"} raw=1h", "exactly"),
            ("telemetry{tier=~\"(\"} raw=1h", "("),
            ("telemetry{} raw=8d", "keeps raw longer than 1m"),
            ("telemetry{} cold=8d", "cold"),
        ] {
            let error = parse_rule(own, text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn retention_text_round_trips() {
        for text in ["raw=1d,1m=7d,5m=7d,1h=30d", "raw=90s,1m=12h,5m=7d,1h=forever", "forever"] {
            assert_eq!(format_retention(&parse_retention(text).unwrap()), text);
        }
    }

    #[test]
    fn retention_mistakes_name_the_part() {
        let cases = [
            ("raw", "raw"),
            ("raw=1x", "`1x`"),
            ("2m=1d", "`2m`"),
            ("raw=0d", "`0d`"),
            ("raw=30d", "longer than 1m"),
            ("", "expected"),
            ("raw=99999999999999999999d", "not a duration"),
        ];
        for (text, wanted) in cases {
            let error = parse_retention(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
