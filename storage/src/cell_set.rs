//! Which groups of statistics the cells of a field keep: [`CellSet`], and [`CellRule`], which gives fields theirs. Knows
//! nothing of cells: an engine asks when it makes some. The rules of a database stand in its manifest, so that every
//! program that rolls its hours goes by the same.

use std::fmt;

use crate::codec::bytes::{Reader, put_slice};
use crate::model::{FieldInfo, FieldType, STALE_FIELD, StatSet};
use crate::{Error, ErrorKind, Result};

/// Rules for cells of a database.
pub const CELL_RULES_MAX: usize = 256;
/// Bytes of the name of a measurement or field in a rule.
const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a rule.
pub(crate) const CELL_RULE_BYTES_MIN: usize = 4;

/// A set of statistics, by what a field is for.
///
/// The numbers are part of the file format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CellSet {
    /// Whatever may be asked of a number, but unique values; the count of a text, of which more would cost most of all.
    #[default]
    Auto = 0,
    /// Measured values, such as latencies: sum, range, spread and histogram; unique values of a text.
    Dist = 1,
    /// What only grows until it starts anew: first, last and resets; the count of a text.
    Counter = 2,
    /// A level, such as a temperature: sum, range, first, last, changes and spread; first and last of a text.
    Gauge = 3,
}

impl CellSet {
    /// All sets.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Dist, Self::Counter, Self::Gauge];

    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dist => "dist",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }

    /// The set with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// What cells of a field of this type keep beside the count.
    pub fn kept(self, field_type: FieldType) -> StatSet {
        let ends = StatSet::ENDS;
        if field_type == FieldType::Str {
            return match self {
                Self::Auto | Self::Counter => StatSet::COUNT,
                Self::Dist => StatSet::UNIQUES,
                Self::Gauge => ends,
            };
        }
        let kept = match self {
            Self::Auto => StatSet::NUMBERS.with(StatSet::HIST),
            Self::Dist => StatSet::SPREAD.with(StatSet::HIST),
            Self::Counter => ends.with(StatSet::RESETS),
            Self::Gauge => StatSet::SPREAD.with(ends).with(StatSet::CHANGES),
        };
        if field_type == FieldType::Bool { kept.without(StatSet::HIST) } else { kept }
    }
}

/// Gives the fields that it matches their set. The first rule that matches counts; without one it is `auto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellRule {
    /// Name of the measurement; `*` is any.
    pub measurement: String,
    /// Name of the field; `*` is any.
    pub field: String,
    /// The set.
    pub set: CellSet,
    /// Whether numbers keep their unique values, too; and texts, whatever the set.
    pub with_uniques: bool,
}

impl CellRule {
    fn matches(&self, measurement: &str, field: &str) -> bool {
        let is_it = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        is_it(&self.measurement, measurement) && is_it(&self.field, field)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_slice(out, self.measurement.as_bytes());
        put_slice(out, self.field.as_bytes());
        out.push(self.set as u8);
        out.push(u8::from(self.with_uniques));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (measurement, field) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        let set = usize::from(reader.u8()?);
        let unknown = || Error::corruption(format!("a rule for cells has unknown set {set}"));
        let set = *CellSet::ALL.get(set).ok_or_else(unknown)?;
        let with_uniques = match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(Error::corruption(format!("a rule for cells has unique values by {other}"))),
        };
        Ok(Self { measurement, field, set, with_uniques })
    }
}

/// As configurations have it: `requests.latency_ms=dist`, `*.user_id=auto+uniq`.
impl fmt::Display for CellRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uniques = if self.with_uniques { "+uniq" } else { "" };
        write!(out, "{}.{}={}{uniques}", self.measurement, self.field, self.set.name())
    }
}

/// Whether a database may have these rules.
///
/// # Errors
/// `LimitExceeded` for too many; `InvalidInput` for a name that is empty or too long.
pub(crate) fn check(rules: &[CellRule]) -> Result<()> {
    if CELL_RULES_MAX < rules.len() {
        let message = format!("{} rules for cells, at most {CELL_RULES_MAX} are kept", rules.len());
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    for name in rules.iter().flat_map(|rule| [&rule.measurement, &rule.field]) {
        if name.is_empty() || NAME_BYTES_MAX < name.len() {
            let message = format!(
                "a name of {} bytes in a rule for cells, 1 to {NAME_BYTES_MAX} are possible",
                name.len()
            );
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

/// What new cells of a field keep by ordered rules. Those of the field of ends keep their last one whatever rules say.
pub fn kept(rules: &[CellRule], measurement: &str, field: &FieldInfo) -> StatSet {
    let rule = rules.iter().find(|rule| rule.matches(measurement, &field.name));
    let kept = rule.map(|rule| rule.set).unwrap_or_default().kept(field.field_type);
    match rule {
        // When a series ended is asked of every layer.
        _ if &*field.name == STALE_FIELD => kept.with(StatSet::ENDS),
        Some(rule) if rule.with_uniques && field.field_type != FieldType::Bool => kept.with(StatSet::UNIQUES),
        _ => kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldId;

    #[test]
    fn kept_is_that_of_the_first_rule_that_matches() {
        let rule = |measurement: &str, field: &str, set, with_uniques| CellRule {
            measurement: measurement.into(),
            field: field.into(),
            set,
            with_uniques,
        };
        let rules = [
            rule("requests", "latency", CellSet::Dist, false),
            rule("*", "user", CellSet::Gauge, true),
            rule("requests", "*", CellSet::Counter, false),
        ];
        let found = |measurement, name: &str, field_type| {
            kept(&rules, measurement, &FieldInfo { id: FieldId(0), name: name.into(), field_type })
        };
        let dist = StatSet::SPREAD.with(StatSet::HIST);
        assert_eq!(found("requests", "latency", FieldType::Float), dist);
        assert_eq!(found("requests", "latency", FieldType::Bool), StatSet::SPREAD);
        assert_eq!(found("requests", "user", FieldType::Str), StatSet::ENDS.with(StatSet::UNIQUES));
        assert!(found("requests", "user", FieldType::Int).has(StatSet::UNIQUES));
        assert!(!found("requests", "user", FieldType::Bool).has(StatSet::UNIQUES));
        assert_eq!(found("requests", "total", FieldType::UInt), StatSet::ENDS.with(StatSet::RESETS));
        assert_eq!(found("other", "total", FieldType::Int), StatSet::NUMBERS.with(StatSet::HIST));
        assert_eq!(found("requests", "path", FieldType::Str), StatSet::COUNT);
    }

    #[test]
    fn kept_of_the_ends_of_series_is_their_last_one_whatever_rules_say() {
        let rule =
            CellRule { measurement: "*".into(), field: "*".into(), set: CellSet::Dist, with_uniques: false };
        let field = FieldInfo { id: FieldId(0), name: STALE_FIELD.into(), field_type: FieldType::Bool };
        assert!(kept(&[rule], "m", &field).has(StatSet::ENDS));
    }

    #[test]
    fn rule_bytes_round_trip_and_lies_are_corruption() {
        for (place, set) in CellSet::ALL.into_iter().enumerate() {
            let rule =
                CellRule { measurement: "*".into(), field: "ü".into(), set, with_uniques: place % 2 == 0 };
            let mut bytes = Vec::new();
            rule.encode(&mut bytes);
            assert!(CELL_RULE_BYTES_MIN <= bytes.len());
            assert_eq!(CellRule::decode(&mut Reader::new(&bytes)).unwrap(), rule);
            for len in 0..bytes.len() {
                let cut = bytes.get(..len).unwrap();
                assert_eq!(
                    CellRule::decode(&mut Reader::new(cut)).unwrap_err().kind(),
                    ErrorKind::Corruption
                );
            }
            for behind in 1..=2 {
                let mut lie = bytes.clone();
                *lie.iter_mut().rev().nth(behind - 1).unwrap() = 4;
                assert_eq!(
                    CellRule::decode(&mut Reader::new(&lie)).unwrap_err().kind(),
                    ErrorKind::Corruption
                );
            }
        }
    }

    #[test]
    fn check_refuses_too_many_and_names_that_cannot_be() {
        let rule = |name: &str| CellRule {
            measurement: name.into(),
            field: "*".into(),
            set: CellSet::Auto,
            with_uniques: false,
        };
        assert!(check(&vec![rule("a"); CELL_RULES_MAX]).is_ok());
        let kind = |rules: &[CellRule]| check(rules).unwrap_err().kind();
        assert_eq!(kind(&vec![rule("a"); CELL_RULES_MAX + 1]), ErrorKind::LimitExceeded);
        assert_eq!(kind(&[rule("")]), ErrorKind::InvalidInput);
        assert_eq!(kind(&[rule(&"x".repeat(NAME_BYTES_MAX + 1))]), ErrorKind::InvalidInput);
    }

    #[test]
    fn kept_can_be_written_in_files() {
        for set in CellSet::ALL {
            assert_eq!(CellSet::from_name(set.name()), Some(set));
            for field_type in [FieldType::Float, FieldType::Bool, FieldType::Str] {
                let kept = set.kept(field_type);
                assert_eq!(StatSet::from_bits(kept.bits()), Some(kept));
            }
        }
    }
}
