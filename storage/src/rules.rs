//! Rules of retention: which series of a database live by ages of their own. A rule names a measurement and tests on
//! tags; the first that fits a series counts, and the database's own retention comes last. The series that a rule is
//! the first to fit are its class.
//!
//! Files hold rows of all classes and go at the longest of their ages. What of them is past the age of a shorter class
//! is hidden by the floors of that class, which only rise. A list of rules with its floors is a [`RuleSet`]; when the rules
//! change, the set before stays for as long as it hides something, so that a series that changes class gets nothing back.
//! Why so: `docs/decisions/0013-classes-of-retention-are-floors-that-hide.md`. Knows nothing of files or the clock.

#![warn(clippy::indexing_slicing)]

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::bytes::{Reader, put_slice};
use crate::model::{SeriesKey, TagMatcher, TagTest, Tier};
use crate::options::Retention;
use crate::{Error, ErrorKind, Result};

/// Rules of a database.
pub const RULES_MAX: usize = 16;
/// Sets of rules that still hide something, the one in force among them.
pub const RULE_SETS_MAX: usize = 16;
/// Tests of a rule.
const TESTS_MAX: usize = 16;
/// Bytes of a measurement, tag key, value or pattern.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of a set without rules.
pub(crate) const SET_BYTES_MIN: usize = 33;
/// Bytes of a rule without tests.
const RULE_BYTES_MIN: usize = 54;
/// Bytes of a test.
const TEST_BYTES_MIN: usize = 3;

/// Floors of the tiers raw, 1m, 5m and 1h: what is older is hidden.
pub(crate) type Floors = [i64; 4];
/// They hide nothing.
pub(crate) const NO_FLOORS: Floors = [i64::MIN; 4];

/// How a tag is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, the whole value.
    Regex,
    /// `!~`
    NotRegex,
}

impl RuleOp {
    const ALL: [Self; 4] = [Self::Equal, Self::NotEqual, Self::Regex, Self::NotRegex];

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A test on a tag. A series without the tag is judged as if its value were empty.
#[derive(Debug, Clone)]
pub struct RuleTest {
    op: RuleOp,
    value: String,
    matcher: TagMatcher,
}

impl PartialEq for RuleTest {
    fn eq(&self, other: &Self) -> bool {
        (self.op, &self.value, &self.matcher.key) == (other.op, &other.value, &other.matcher.key)
    }
}

impl Eq for RuleTest {}

impl RuleTest {
    /// Makes a test.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern that is none, or a text that is too long.
    pub fn new(key: &str, op: RuleOp, value: &str) -> Result<Self> {
        check_text(key)?;
        check_text(value)?;
        let pattern = || {
            regex::RegexBuilder::new(&format!("^(?s:{value})$"))
                .size_limit(1 << 20)
                .build()
                .map_err(|error| Error::invalid(format!("pattern {value:?} of tag {key:?}: {error}")))
        };
        let test = match op {
            RuleOp::Equal => TagTest::Equal(value.to_owned()),
            RuleOp::NotEqual => TagTest::NotEqual(value.to_owned()),
            RuleOp::Regex => {
                let pattern = pattern()?;
                TagTest::Is(Arc::new(move |found| pattern.is_match(found)))
            }
            RuleOp::NotRegex => {
                let pattern = pattern()?;
                TagTest::Is(Arc::new(move |found| !pattern.is_match(found)))
            }
        };
        Ok(Self { op, value: value.to_owned(), matcher: TagMatcher { key: key.to_owned(), test } })
    }
}

/// A rule: whom it fits, and how long their tiers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    measurement: String,
    tests: Vec<RuleTest>,
    retention: Retention,
}

impl Rule {
    /// Makes a rule.
    ///
    /// # Errors
    /// `InvalidInput` for too many tests or a name that is empty or too long.
    pub fn new(measurement: &str, tests: Vec<RuleTest>, retention: Retention) -> Result<Self> {
        check_text(measurement)?;
        if measurement.is_empty() {
            return Err(Error::invalid("a rule of retention names a measurement"));
        }
        if TESTS_MAX < tests.len() {
            return Err(Error::invalid(format!("a rule of retention has at most {TESTS_MAX} tests")));
        }
        Ok(Self { measurement: measurement.to_owned(), tests, retention })
    }

    /// How long the tiers of its series are kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    pub(crate) fn measurement(&self) -> &str {
        &self.measurement
    }

    pub(crate) fn matchers(&self) -> Vec<TagMatcher> {
        self.tests.iter().map(|test| test.matcher.clone()).collect()
    }

    fn fits(&self, key: &SeriesKey) -> bool {
        key.measurement() == self.measurement
            && self.tests.iter().all(|test| {
                let TagMatcher { key: tag, test } = &test.matcher;
                test.accepts(key.tag(tag).unwrap_or_default())
            })
    }

    fn selects_as(&self, other: &Self) -> bool {
        self.measurement == other.measurement && self.tests == other.tests
    }
}

/// Whom it fits, as a selector: `telemetry{tier="critical"}`.
impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if is_plain(&self.measurement) {
            write!(out, "{}{{", self.measurement)?;
        } else {
            write!(out, "{{__name__={:?}", self.measurement)?;
            comma = ",";
        }
        for RuleTest { op, value, matcher } in &self.tests {
            let symbol = op.symbol();
            match is_plain(&matcher.key) {
                true => write!(out, "{comma}{}{symbol}{value:?}", matcher.key)?,
                false => write!(out, "{comma}{:?}{symbol}{value:?}", matcher.key)?,
            }
            comma = ",";
        }
        out.write_str("}")
    }
}

/// Whether a name needs no quotes in a selector.
fn is_plain(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// Rules in their order, and what the floors of their classes hide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// One for each rule, and that of the series that none fits.
    floors: Vec<Floors>,
}

impl RuleSet {
    /// A set that hides nothing yet.
    ///
    /// # Errors
    /// `LimitExceeded` for too many rules.
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self> {
        if RULES_MAX < rules.len() {
            let message = format!("{} rules of retention, at most {RULES_MAX} are kept", rules.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let floors = vec![NO_FLOORS; rules.len() + 1];
        Ok(Self { rules, floors })
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The floors of each rule's class; the last is that of the series that none fits.
    pub(crate) fn floors(&self) -> &[Floors] {
        &self.floors
    }

    /// The position of the class of a series; that behind the rules when none fits.
    pub(crate) fn class_of(&self, key: &SeriesKey) -> usize {
        self.rules.iter().position(|rule| rule.fits(key)).unwrap_or(self.rules.len())
    }

    /// The ages of each class.
    pub(crate) fn ages(&self, own: Retention) -> impl Iterator<Item = Retention> {
        self.rules.iter().map(Rule::retention).chain([own])
    }

    /// The same with floors that are nowhere lower.
    pub(crate) fn raised(&self, wanted: impl Iterator<Item = Floors>) -> Self {
        let pairs = self.floors.iter().zip(wanted.chain(std::iter::repeat(NO_FLOORS)));
        let floors = pairs.map(|(floors, wanted)| higher(*floors, wanted)).collect();
        Self { rules: self.rules.clone(), floors }
    }

    /// Whether it hides something that is not gone by `gone` already.
    pub(crate) fn hides_beyond(&self, gone: Floors) -> bool {
        self.floors.iter().any(|floors| higher(*floors, gone) != gone)
    }

    /// Whether each series has the same class in both.
    fn selects_as(&self, other: &Self) -> bool {
        self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(mine, theirs)| mine.selects_as(theirs))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.rules.len()).unwrap_or(u8::MAX));
        for rule in &self.rules {
            put_slice(out, rule.measurement.as_bytes());
            encode_retention(rule.retention, out);
            out.push(u8::try_from(rule.tests.len()).unwrap_or(u8::MAX));
            for test in &rule.tests {
                put_slice(out, test.matcher.key.as_bytes());
                out.push(test.op as u8);
                put_slice(out, test.value.as_bytes());
            }
        }
        for floor_ns in self.floors.iter().flatten() {
            out.extend_from_slice(&floor_ns.to_le_bytes());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let count = u64::from(reader.u8()?);
        let count = reader.count_of(count, RULE_BYTES_MIN)?;
        let rules = (0..count).map(|_| decode_rule(reader)).collect::<Result<_>>()?;
        let mut set = Self::new(rules).map_err(damaged)?;
        for floor_ns in set.floors.iter_mut().flatten() {
            *floor_ns = reader.i64()?;
        }
        Ok(set)
    }
}

fn decode_rule(reader: &mut Reader<'_>) -> Result<Rule> {
    let measurement = reader.text()?;
    let retention = decode_retention(reader)?;
    let count = u64::from(reader.u8()?);
    let mut tests = Vec::new();
    for _ in 0..reader.count_of(count, TEST_BYTES_MIN)? {
        let key = reader.text()?;
        let op = usize::from(reader.u8()?);
        let op = *RuleOp::ALL.get(op).ok_or_else(|| Error::corruption("a rule has an unknown test"))?;
        tests.push(RuleTest::new(key, op, reader.text()?).map_err(damaged)?);
    }
    Rule::new(measurement, tests, retention).map_err(damaged)
}

fn damaged(error: Error) -> Error {
    Error::corruption(error)
}

pub(crate) fn encode_retention(retention: Retention, out: &mut Vec<u8>) {
    let Retention { raw, m1, m5, h1 } = retention;
    for age in [raw, m1, m5, h1] {
        out.push(u8::from(age.is_some()));
        out.extend_from_slice(&age.map_or(0, |age| age.as_secs()).to_le_bytes());
        out.extend_from_slice(&age.map_or(0, |age| age.subsec_nanos()).to_le_bytes());
    }
}

pub(crate) fn decode_retention(reader: &mut Reader<'_>) -> Result<Retention> {
    let mut age = || {
        let is_bounded = reader.u8()?;
        let (seconds, nanoseconds) = (reader.u64()?, reader.u32()?);
        match is_bounded {
            0 if (seconds, nanoseconds) == (0, 0) => Ok(None),
            1 if nanoseconds < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanoseconds))),
            _ => Err(Error::corruption("retention is not an age")),
        }
    };
    Ok(Retention { raw: age()?, m1: age()?, m5: age()?, h1: age()? })
}

fn check_text(text: &str) -> Result<()> {
    if TEXT_BYTES_MAX < text.len() {
        let message = format!("a text of {} bytes in a rule, at most {TEXT_BYTES_MAX} are kept", text.len());
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// The higher of two floors, tier by tier.
pub(crate) fn higher(left: Floors, right: Floors) -> Floors {
    let mut floors = left;
    floors.iter_mut().zip(right).for_each(|(floor, other)| *floor = (*floor).max(other));
    floors
}

/// The longest of the ages of all classes, tier by tier: that of files. `sets`: the last is in force.
pub(crate) fn longest(own: Retention, sets: &[RuleSet]) -> Retention {
    let rules = sets.last().into_iter().flat_map(|set| &set.rules);
    let of = |tier: Tier| {
        let ages = rules.clone().map(|rule| rule.retention.of(tier)).chain([own.of(tier)]);
        ages.reduce(|left, right| left.zip(right).map(|(left, right)| left.max(right))).flatten()
    };
    Retention { raw: of(Tier::Raw), m1: of(Tier::M1), m5: of(Tier::M5), h1: of(Tier::H1) }
}

/// The floors of one series: what is gone for all, and what each set hides of its class.
pub(crate) fn floors_of(sets: &[RuleSet], gone: Floors, key: &SeriesKey) -> Floors {
    let of_set = |set: &RuleSet| set.floors.get(set.class_of(key)).copied().unwrap_or(NO_FLOORS);
    sets.iter().map(of_set).fold(gone, higher)
}

/// The earliest time of raw rows that a class with these ages still takes.
fn oldest_ns(ages: Retention, now_ns: i64) -> i64 {
    let age_ns = ages.raw.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
    age_ns.map_or(i64::MIN, |age_ns| now_ns.saturating_sub(age_ns))
}

/// Rows from here on are taken of every series.
pub(crate) fn young_ns(sets: &[RuleSet], own: Retention, now_ns: i64) -> i64 {
    let [floor_ns, ..] =
        sets.iter().flat_map(|set| &set.floors).fold(NO_FLOORS, |sum, one| higher(sum, *one));
    let ages = sets.last().into_iter().flat_map(|set| set.ages(own));
    ages.map(|ages| oldest_ns(ages, now_ns)).fold(floor_ns, i64::max)
}

/// Rows of a series from here on are taken.
pub(crate) fn start_ns(sets: &[RuleSet], own: Retention, now_ns: i64, key: &SeriesKey) -> i64 {
    let [floor_ns, ..] = floors_of(sets, NO_FLOORS, key);
    let ages = sets.last().and_then(|set| set.ages(own).nth(set.class_of(key)));
    ages.map_or(i64::MIN, |ages| oldest_ns(ages, now_ns)).max(floor_ns)
}

/// The sets once `rules` are in force: the set in force goes on where it has the same classes, or else stays behind for
/// as long as it hides something.
///
/// # Errors
/// `LimitExceeded` for too many rules, or too many sets that still hide something.
pub(crate) fn changed(sets: &[RuleSet], rules: Vec<Rule>, gone: Floors) -> Result<Arc<[RuleSet]>> {
    let mut next = sets.to_vec();
    let wanted = RuleSet::new(rules)?;
    match next.last_mut() {
        Some(last) if last.selects_as(&wanted) => last.rules = wanted.rules,
        _ => next.push(wanted),
    }
    let next = pruned(next, gone);
    if RULE_SETS_MAX < next.len() {
        let message = format!(
            "the rules of retention were changed {RULE_SETS_MAX} times, and all of these still hide rows whose files are \
             kept; they may be changed again when the oldest of these files are gone"
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(next)
}

/// The sets without those that hide nothing any more; none is left of rules that there are not.
pub(crate) fn pruned(mut sets: Vec<RuleSet>, gone: Floors) -> Arc<[RuleSet]> {
    let Some(last) = sets.pop() else { return Arc::default() };
    sets.retain(|set| set.hides_beyond(gone));
    if !last.rules.is_empty() || !sets.is_empty() || last.hides_beyond(gone) {
        sets.push(last);
    }
    sets.into()
}

/// The first contradiction in the sets of a manifest.
pub(crate) fn fault(sets: &[RuleSet]) -> Option<&'static str> {
    if RULE_SETS_MAX < sets.len() {
        return Some("too many sets of rules");
    }
    sets.iter()
        .any(|set| set.floors.len() != set.rules.len() + 1)
        .then_some("a set of rules without its floors")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may fail by panic")]
mod tests {
    use super::*;
    use crate::model::HOUR_NS;

    fn hours(raw: u64) -> Retention {
        Retention { raw: Some(Duration::from_secs(3600 * raw)), ..Retention::FOREVER }
    }

    fn rule(tests: &[(&str, RuleOp, &str)], raw: u64) -> Rule {
        let tests = tests.iter().map(|(key, op, value)| RuleTest::new(key, *op, value).unwrap()).collect();
        Rule::new("telemetry", tests, hours(raw)).unwrap()
    }

    fn key(measurement: &str, tier: &str) -> SeriesKey {
        SeriesKey::new(measurement, (!tier.is_empty()).then_some(("tier", tier))).unwrap()
    }

    fn set(rules: &[Rule]) -> RuleSet {
        RuleSet::new(rules.to_vec()).unwrap()
    }

    /// A set whose classes are hidden in raw before these hours.
    fn hiding(rules: &[Rule], raw_hours: &[i64]) -> RuleSet {
        set(rules).raised(raw_hours.iter().map(|hour| [hour * HOUR_NS, i64::MIN, i64::MIN, i64::MIN]))
    }

    fn critical() -> Rule {
        rule(&[("tier", RuleOp::Equal, "critical")], 72)
    }

    fn others() -> Rule {
        rule(&[("tier", RuleOp::Regex, "op.*|analytical")], 6)
    }

    #[test]
    fn class_is_the_first_rule_that_fits() {
        let set = set(&[critical(), others(), rule(&[("tier", RuleOp::NotEqual, "")], 3)]);
        let cases =
            [("critical", 0), ("operational", 1), ("analytical", 1), ("opera", 1), ("xop", 2), ("", 3)];
        for (tier, class) in cases {
            assert_eq!(set.class_of(&key("telemetry", tier)), class, "{tier}");
        }
        assert_eq!(set.class_of(&key("cpu", "critical")), 3);
    }

    #[test]
    fn longest_is_that_of_any_class_in_force() {
        let (own, short) = (hours(24), rule(&[], 6));
        let sets = [set(&[critical()]), set(&[short])];
        assert_eq!(longest(own, &[]), own);
        assert_eq!(longest(own, &sets), own, "rules of before do not count");
        assert_eq!(longest(own, &sets[..1]).raw, hours(72).raw);
        assert_eq!(longest(Retention::FOREVER, &sets), Retention::FOREVER);
    }

    #[test]
    fn changed_ages_keep_the_floors_and_changed_classes_the_set() {
        let before = [hiding(&[critical(), others()], &[1, 7, 5])];
        let longer = rule(&[("tier", RuleOp::Equal, "critical")], 100);
        let after = changed(&before, vec![longer.clone(), others()], NO_FLOORS).unwrap();
        assert_eq!((after.len(), after[0].floors()), (1, before[0].floors()));
        assert_eq!(after[0].rules()[0].retention(), longer.retention());
        // The analytical become critical: they do not get back what was hidden of them.
        let after = changed(&before, vec![rule(&[], 72)], NO_FLOORS).unwrap();
        assert_eq!(after.len(), 2);
        let raw = |tier: &str| floors_of(&after, NO_FLOORS, &key("telemetry", tier))[0] / HOUR_NS;
        assert_eq!((raw("critical"), raw("analytical"), raw("")), (1, 7, 5));
        assert_eq!(floors_of(&after, [9 * HOUR_NS; 4], &key("telemetry", ""))[0], 9 * HOUR_NS);
    }

    #[test]
    fn changed_forgets_what_hides_no_more() {
        let before = [hiding(&[critical()], &[1, 7])];
        let gone = [7 * HOUR_NS; 4];
        assert_eq!(changed(&before, vec![others()], gone).unwrap().len(), 1);
        assert_eq!(changed(&before, vec![], gone).unwrap().len(), 0);
        let left = changed(&before, vec![], [6 * HOUR_NS; 4]).unwrap();
        assert_eq!((left.len(), left[1].rules().len()), (2, 0));
        assert_eq!(pruned(left.to_vec(), gone).len(), 0);
        assert_eq!(
            changed(&[set(&[critical()])], vec![others()], NO_FLOORS).unwrap().len(),
            1,
            "hid nothing"
        );
    }

    #[test]
    fn changed_is_bounded() {
        let many = vec![critical(); RULES_MAX + 1];
        assert_eq!(changed(&[], many, NO_FLOORS).unwrap_err().kind(), ErrorKind::LimitExceeded);
        let mut sets: Vec<RuleSet> = Vec::new();
        let refused = (0..=RULE_SETS_MAX).find_map(|number| {
            let rules = vec![rule(&[("tier", RuleOp::Equal, &number.to_string())], 1)];
            let next = match changed(&sets, rules, NO_FLOORS) {
                Ok(next) => next,
                Err(error) => return Some((number, error.kind())),
            };
            sets = next.iter().map(|set| set.raised([[0; 4]; 2].into_iter())).collect();
            None
        });
        assert_eq!(refused, Some((RULE_SETS_MAX, ErrorKind::LimitExceeded)));
    }

    #[test]
    fn set_bytes_round_trip_and_lies_are_corruption() {
        let set = hiding(&[critical(), others(), rule(&[], 1)], &[3, 2, 1, 0]);
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(RuleSet::decode(&mut reader).unwrap(), set);
        reader.finish().unwrap();
        for len in 0..bytes.len() {
            assert_eq!(
                RuleSet::decode(&mut Reader::new(&bytes[..len])).unwrap_err().kind(),
                ErrorKind::Corruption
            );
        }
        let bad = bytes.iter().position(|byte| *byte == b'|').unwrap();
        bytes[bad] = b'(';
        assert_eq!(RuleSet::decode(&mut Reader::new(&bytes)).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn pattern_that_is_none_is_refused() {
        assert_eq!(RuleTest::new("a", RuleOp::Regex, "(").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(RuleTest::new("a", RuleOp::Equal, "(").is_ok());
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(
            RuleTest::new("a", RuleOp::Equal, &long).is_err() && Rule::new(&long, vec![], hours(1)).is_err()
        );
        assert_eq!(critical().to_string(), r#"telemetry{tier="critical"}"#);
        let odd =
            Rule::new("a b", vec![RuleTest::new("c-d", RuleOp::NotRegex, "\"").unwrap()], hours(1)).unwrap();
        assert_eq!(odd.to_string(), r#"{__name__="a b","c-d"!~"\""}"#);
    }
}
