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
    (StatSet(1 << 3), "resets"),
    (StatSet(1 << 4), "changes"),
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
    /// Counter resets and the sum of the values before them; where pieces of time meet, first and last tell.
    pub const RESETS: Self = Self(1 << 3 | 1 << 2);
    /// Changes of value, with first and last as for resets.
    pub const CHANGES: Self = Self(1 << 4 | 1 << 2);
    /// Squared distances from the mean; merging them takes the mean, so that sum and range are always with them.
    pub const SPREAD: Self = Self(1 << 5 | 1 << 1 | 1);
    /// The histogram.
    pub const HIST: Self = Self(1 << 6);
    /// The sketch of distinct values.
    pub const UNIQUES: Self = Self(1 << 7);
    /// All groups.
    pub const ALL: Self = Self(u8::MAX);
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

    /// Whether the order of samples tells some of these: first and last, resets, changes. The spread is among them,
    /// because it is merged by the count so far.
    pub const fn needs_order(self) -> bool {
        self.0 & (Self::RESETS.0 | Self::CHANGES.0 | 1 << 5) != 0
    }

    /// What people call the groups, without the count.
    pub fn names(self) -> String {
        let names = NAMES.iter().filter(|(group, _)| self.0 & group.0 != 0).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// The number written in files.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reads the number written in a file; `None` for groups that cannot stand without others.
    pub fn from_bits(bits: u8) -> Option<Self> {
        let stands_alone = |group: (u8, Self)| bits & group.0 != 0 && !Self(bits).has(group.1);
        let groups = [(1 << 3, Self::RESETS), (1 << 4, Self::CHANGES), (1 << 5, Self::SPREAD)];
        (!groups.into_iter().any(stands_alone)).then_some(Self(bits))
    }
}

impl fmt::Display for StatSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("count")?;
        if self.0 == 0 { Ok(()) } else { write!(out, ", {}", self.names()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_groups_without_those_they_need_are_refused() {
        assert_eq!([1 << 5, 1 << 3, 1 << 4].map(StatSet::from_bits), [None; 3]);
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
