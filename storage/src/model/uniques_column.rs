//! Sketches end to end in one column, as [`HistogramColumn`](super::HistogramColumn) does for histograms. Knows nothing
//! of how values are counted.

use std::ops::Range;

use super::uniques::{REGISTERS, UniquesRef};

/// Sketches, one per row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UniquesColumn {
    ends: Vec<Ends>,
    entries: Vec<u32>,
    ranks: Vec<u8>,
}

/// Where a sketch ends: in the entries when it is listed, in the ranks when it is folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ends {
    entries: usize,
    ranks: usize,
}

impl UniquesColumn {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory that the rows take.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.entries) + self.ranks.len()
    }

    /// The sketch of a row; `None` past the end.
    pub fn get(&self, row: usize) -> Option<UniquesRef<'_>> {
        let (start, end) = (self.start_of(row), *self.ends.get(row)?);
        if start.ranks < end.ranks {
            return Some(UniquesRef::Folded(self.ranks.get(start.ranks..end.ranks)?));
        }
        Some(UniquesRef::Listed(self.entries.get(start.entries..end.entries)?))
    }

    /// The sketches in order of rows.
    pub fn iter(&self) -> impl Iterator<Item = UniquesRef<'_>> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    /// Appends a sketch.
    pub fn push(&mut self, uniques: UniquesRef<'_>) {
        match uniques {
            UniquesRef::Listed(entries) => self.entries.extend_from_slice(entries),
            UniquesRef::Folded(ranks) => {
                debug_assert_eq!(ranks.len(), REGISTERS);
                self.ranks.extend_from_slice(ranks);
            }
        }
        self.ends.push(Ends { entries: self.entries.len(), ranks: self.ranks.len() });
    }

    /// Makes room for so many more rows, without their contents.
    pub fn reserve(&mut self, rows: usize) {
        self.ends.reserve(rows);
    }

    /// Appends empty sketches, up to `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        if self.len() < rows {
            self.ends.resize(rows, Ends { entries: self.entries.len(), ranks: self.ranks.len() });
        }
    }

    /// Appends those rows of another column that it has.
    pub fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        rows.filter_map(|row| other.get(row)).for_each(|uniques| self.push(uniques));
    }

    /// Where the content of a row begins.
    fn start_of(&self, row: usize) -> Ends {
        row.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Uniques, ValueRef};

    #[test]
    fn column_gives_back_what_was_pushed_and_extends() {
        let all: Vec<Uniques> = [0, 3, 2000, 0, 1]
            .map(|count| {
                let mut uniques = Uniques::default();
                (0..count).for_each(|value| uniques.add(ValueRef::Int(value)));
                uniques
            })
            .into();
        let mut column = UniquesColumn::default();
        all.iter().for_each(|uniques| column.push(uniques.view()));
        for cut in 0..=column.len() {
            let mut joined = UniquesColumn::default();
            joined.extend_from(&column, 0..cut);
            joined.extend_from(&column, cut..column.len() + 9);
            assert_eq!(joined, column, "cut at {cut}");
        }
        column.pad(7);
        let found: Vec<u64> = column.iter().map(|uniques| uniques.estimate()).collect();
        let expected: Vec<u64> = all.iter().map(Uniques::estimate).chain([0, 0]).collect();
        assert_eq!(found, expected);
        assert_eq!(column.get(7), None);
    }
}
