//! Which groups of statistics the cells of a field keep: [`CellSet`], and [`CellRule`], which gives fields theirs. Knows
//! nothing of cells: an engine asks when it makes some.

use crate::model::{FieldInfo, FieldType, StatSet};

/// A set of statistics, by what a field is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CellSet {
    /// Whatever may be asked of a number, but unique values; the count of a text, of which more would cost most of all.
    #[default]
    Auto,
    /// Measured values, such as latencies: sum, range, spread and histogram; unique values of a text.
    Dist,
    /// What only grows until it starts anew: first, last and resets; the count of a text.
    Counter,
    /// A level, such as a temperature: sum, range, first, last, changes and spread; first and last of a text.
    Gauge,
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
}

/// What new cells of a field keep by ordered rules.
pub fn kept(rules: &[CellRule], measurement: &str, field: &FieldInfo) -> StatSet {
    let rule = rules.iter().find(|rule| rule.matches(measurement, &field.name));
    let kept = rule.map(|rule| rule.set).unwrap_or_default().kept(field.field_type);
    match rule {
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
