//! Histograms end to end in one column: a page holds thousands of small ones, and a vector for each side of each
//! of them would cost more than their contents. Knows nothing of how a histogram is counted or read.

use std::ops::Range;

use super::Histogram;
use super::histogram::{Bucket, HistogramRef};

/// Histograms, one per row. The buckets of row `i` end at `ends[i]`, those above zero first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramColumn {
    zeros: Vec<u64>,
    ends: Vec<Ends>,
    buckets: Vec<Bucket>,
}

/// Where the two sides of a histogram end in the buckets of its column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ends {
    positive: usize,
    negative: usize,
}

impl HistogramColumn {
    /// Of the count of zeros and the numbers of buckets above and below zero of each row, and all buckets in this order.
    pub(crate) fn of_parts(
        zeros: Vec<u64>,
        sizes: impl Iterator<Item = (usize, usize)>,
        buckets: Vec<Bucket>,
    ) -> Self {
        let mut end = 0;
        let mut ends_behind = |(above, below)| {
            let positive = end + above;
            end = positive + below;
            Ends { positive, negative: end }
        };
        let mut ends = Vec::with_capacity(zeros.len());
        ends.extend(sizes.map(&mut ends_behind));
        Self { zeros, ends, buckets }
    }

    /// Puts the histograms to the valid rows, and empty ones to the others.
    pub(crate) fn spread(self, valid: &[bool]) -> Self {
        let (mut zeros, mut ends) = (self.zeros.into_iter(), self.ends.into_iter());
        let mut end = Ends::default();
        let zero_of = |valid: &bool| if *valid { zeros.next().unwrap_or_default() } else { 0 };
        let end_of = |valid: &bool| {
            end = match valid {
                true => ends.next().unwrap_or(end),
                false => Ends { positive: end.negative, ..end },
            };
            end
        };
        let (zeros, ends) = (valid.iter().map(zero_of).collect(), valid.iter().map(end_of).collect());
        Self { zeros, ends, buckets: self.buckets }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.zeros.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.zeros.is_empty()
    }

    /// All buckets of all rows.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Bytes of memory that the rows take.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.zeros) + size_of_val(&*self.ends) + size_of_val(&*self.buckets)
    }

    /// The histogram of a row; `None` past the end.
    pub fn get(&self, row: usize) -> Option<HistogramRef<'_>> {
        let (zero, ends) = (*self.zeros.get(row)?, *self.ends.get(row)?);
        Some(HistogramRef {
            zero,
            positive: self.buckets.get(self.start_of(row)..ends.positive)?,
            negative: self.buckets.get(ends.positive..ends.negative)?,
        })
    }

    /// The histograms in order of rows.
    pub fn iter(&self) -> impl Iterator<Item = HistogramRef<'_>> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    /// Appends a histogram.
    pub fn push(&mut self, histogram: HistogramRef<'_>) {
        let start = self.buckets.len();
        self.buckets.extend_from_slice(histogram.positive);
        self.buckets.extend_from_slice(histogram.negative);
        self.zeros.push(histogram.zero);
        let positive = start + histogram.positive.len();
        self.ends.push(Ends { positive, negative: self.buckets.len() });
    }

    /// Makes room for so many more rows, without their buckets.
    pub fn reserve(&mut self, rows: usize) {
        self.zeros.reserve(rows);
        self.ends.reserve(rows);
    }

    /// Appends empty histograms, up to `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        if self.len() < rows {
            let end = self.buckets.len();
            self.zeros.resize(rows, 0);
            self.ends.resize(rows, Ends { positive: end, negative: end });
        }
    }

    /// Appends those rows of another column that it has.
    pub fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        let rows = rows.start.min(other.len())..rows.end.min(other.len());
        let (Some(zeros), Some(ends)) = (other.zeros.get(rows.clone()), other.ends.get(rows.clone())) else {
            return;
        };
        let (from, into) = (other.start_of(rows.start), self.buckets.len());
        let end = ends.last().map_or(from, |ends| ends.negative);
        self.buckets.extend_from_slice(other.buckets.get(from..end).unwrap_or_default());
        self.zeros.extend_from_slice(zeros);
        let moved = |end: usize| end - from + into;
        let ends = ends.iter().map(|ends| (moved(ends.positive), moved(ends.negative)));
        self.ends.extend(ends.map(|(positive, negative)| Ends { positive, negative }));
    }

    /// Where the buckets of a row begin.
    fn start_of(&self, row: usize) -> usize {
        let before = row.checked_sub(1).and_then(|before| self.ends.get(before));
        before.map_or(0, |ends| ends.negative)
    }
}

impl FromIterator<Histogram> for HistogramColumn {
    fn from_iter<I: IntoIterator<Item = Histogram>>(histograms: I) -> Self {
        let mut column = Self::default();
        histograms.into_iter().for_each(|histogram| column.push(histogram.view()));
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.add(*value));
        histogram
    }

    #[test]
    fn column_gives_back_what_was_pushed() {
        let all = [&[1.0, -2.0, 0.0, 7.0][..], &[], &[-1.0], &[3.0, 3.0], &[0.0]].map(histogram);
        let column: HistogramColumn = all.iter().cloned().collect();
        assert_eq!(column.len(), all.len());
        for (row, histogram) in all.iter().enumerate() {
            assert_eq!(column.get(row), Some(histogram.view()));
        }
        assert_eq!(column.get(all.len()), None);
    }

    #[test]
    fn column_extended_piece_by_piece_is_the_same() {
        let all = [&[1.0, -2.0][..], &[], &[-1.0], &[3.0, 3.0, -3.0], &[0.0]].map(histogram);
        let column: HistogramColumn = all.into_iter().collect();
        for cut in 0..=column.len() {
            let mut joined = HistogramColumn::default();
            joined.extend_from(&column, 0..cut);
            joined.extend_from(&column, cut..column.len() + 9);
            assert_eq!(joined, column, "cut at {cut}");
        }
    }

    #[test]
    fn column_spread_has_empty_rows_between() {
        let all = [&[1.0, -2.0, 0.0][..], &[-1.0], &[3.0, 3.0]].map(histogram);
        let column: HistogramColumn = all.iter().cloned().collect();
        let [first, second, third] = all;
        let none = Histogram::default;
        let valid = [false, true, false, false, true, true, false];
        let expected = [none(), first, none(), none(), second, third, none()];
        assert_eq!(column.spread(&valid), expected.into_iter().collect());
    }

    #[test]
    fn column_padded_has_empty_rows() {
        let mut column: HistogramColumn = [histogram(&[5.0])].into_iter().collect();
        column.pad(3);
        column.push(histogram(&[-6.0]).view());
        assert_eq!(column.get(2), Some(Histogram::default().view()));
        assert_eq!(column.get(3), Some(histogram(&[-6.0]).view()));
    }
}
