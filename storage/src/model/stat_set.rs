//! [`StatSet`]: which groups of statistics the cells of a field keep, or a reader wants. Knows nothing of columns.

use std::fmt;

/// Groups of statistics of a field over a piece of time. The number of samples is in every one.
///
/// The bits are part of the file format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StatSet(u8);

/// The groups that are told apart, and what people call them.
const NAMES: [(StatSet, &str); 8] = [
    (StatSet::SUM, "sum"),
    (StatSet::RANGE, "smallest and largest"),
    (StatSet::ENDS, "first and last"),
    (StatSet::RESETS, "resets"),
    (StatSet::CHANGES, "changes"),
    (StatSet(1 << 5), "spread"),
    (StatSet::HIST, "histogram"),
    (StatSet::UNIQUES, "unique values"),
];

impl StatSet {
    /// Nothing but the number of samples.
    pub const COUNT: Self = Self(0);
    /// The sum.
    pub const SUM: Self = Self(1);
    /// The smallest and the largest value.
    pub const RANGE: Self = Self(1 << 1);
    /// The first and the last value with their times.
    pub const ENDS: Self = Self(1 << 2);
    /// Counter resets and the sum of the values before them.
    pub const RESETS: Self = Self(1 << 3);
    /// Changes of value.
    pub const CHANGES: Self = Self(1 << 4);
    /// Squared distances from the mean; merging them takes the mean, so that sum and range are always with them.
    pub const SPREAD: Self = Self(1 << 5 | 1 << 1 | 1);
    /// The histogram.
    pub const HIST: Self = Self(1 << 6);
    /// The sketch of distinct values.
    pub const UNIQUES: Self = Self(1 << 7);
    /// All but histogram and sketch.
    pub const NUMBERS: Self = Self((1 << 6) - 1);

    /// The groups of either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The groups of both.
    #[must_use]
    pub const fn shared(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The groups that the other does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all groups of the other are among these.
    pub const fn has(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The number written in files.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reads the number written in a file; `None` for groups that cannot stand without others.
    pub fn from_bits(bits: u8) -> Option<Self> {
        let lacks_mean = bits & 1 << 5 != 0 && !Self(bits).has(Self::SPREAD);
        (!lacks_mean).then_some(Self(bits))
    }
}

impl fmt::Display for StatSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("count")?;
        NAMES.iter().filter(|(group, _)| self.has(*group)).try_for_each(|(_, name)| write!(out, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_spread_without_its_mean_are_refused() {
        assert_eq!(StatSet::from_bits(1 << 5), None);
        for bits in 0..=u8::MAX {
            let Some(set) = StatSet::from_bits(bits) else { continue };
            assert_eq!(set.bits(), bits);
        }
    }

    #[test]
    fn display_names_every_group() {
        let all = StatSet::NUMBERS.with(StatSet::HIST).with(StatSet::UNIQUES);
        let names = "count, sum, smallest and largest, first and last, resets, changes, spread, histogram, unique values";
        assert_eq!(all.to_string(), names);
        assert_eq!(StatSet::COUNT.to_string(), "count");
        assert_eq!(StatSet::SPREAD.to_string(), "count, sum, smallest and largest, spread");
    }
}
