//! Columns of rows: the one in-memory shape of data in the log, the memtable, segments and scans.
//!
//! A [`RowBlock`] holds rows of one measurement, or cells of one tier of it. Row `i` is
//! (`series[i]`, `ts_ns[i]`) and value `i` of each column; a column says which of its values are there. For cells
//! `ts_ns` is the left edge of the window.

use std::ops::Range;

use super::{FieldId, FieldType, HistogramColumn, SeriesId, UniquesColumn, Value, ValueRef};

/// What a column holds about a field: its value (raw rows), or one statistic of a cell.
///
/// The numbers are part of the file format; new ones are added at the end. Interior statistics speak of the open
/// interval `(b, b+w)`; [`Stat::Edge`] is the one sample exactly on the left edge `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stat {
    /// The field's value in a raw row.
    Value = 0,
    /// Cell: the sample exactly at the left edge (type of the field); null when there is none.
    Edge = 1,
    /// Cell interior: number of samples (u64); null when 0.
    Count = 2,
    /// Cell interior: sum. Floats: the leading part (f64). Integers: the low 64 bits of an i128 (u64).
    Sum = 3,
    /// Cell interior: floats: the compensation of the sum (f64). Integers: the high 64 bits of an i128 (i64).
    SumRest = 4,
    /// Cell interior: smallest value (type of the field).
    Min = 5,
    /// Cell interior: largest value.
    Max = 6,
    /// Cell interior: first value.
    First = 7,
    /// Cell interior: time of the first value, nanoseconds after the left edge (i64).
    FirstOffset = 8,
    /// Cell interior: last value.
    Last = 9,
    /// Cell interior: time of the last value, nanoseconds after the left edge (i64).
    LastOffset = 10,
    /// Cell interior: sum of the values before each counter reset (f64).
    ResetSum = 11,
    /// Cell interior: number of counter resets (u64).
    Resets = 12,
    /// Cell interior: number of changes of value (u64).
    Changes = 13,
    /// Cell interior: sum of squared distances from the mean (f64).
    M2 = 14,
    /// Cell interior: exponential histogram of schema 6; null when count <= 2 and first and last are kept.
    Hist = 15,
    /// Cell interior: sketch of the distinct values.
    Uniques = 16,
}

impl Stat {
    /// Reads the number written in a file; `None` for one this version does not know.
    pub fn from_u8(number: u8) -> Option<Self> {
        #[rustfmt::skip]
        const ALL: [Stat; 17] = [
            Stat::Value, Stat::Edge, Stat::Count, Stat::Sum, Stat::SumRest, Stat::Min, Stat::Max, Stat::First,
            Stat::FirstOffset, Stat::Last, Stat::LastOffset, Stat::ResetSum, Stat::Resets, Stat::Changes,
            Stat::M2, Stat::Hist, Stat::Uniques,
        ];
        ALL.get(usize::from(number)).copied()
    }

    /// Whether the column may be left out where it is 0 for every interior: readers take a missing one as 0.
    pub fn is_zero_when_missing(self) -> bool {
        matches!(self, Self::SumRest | Self::ResetSum | Self::Resets | Self::Changes | Self::M2)
    }
}

/// Names a column: a field and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnKey {
    /// The field.
    pub field: FieldId,
    /// The value itself or a statistic.
    pub stat: Stat,
}

impl ColumnKey {
    /// The column of a field's raw values.
    pub fn value(field: FieldId) -> Self {
        Self { field, stat: Stat::Value }
    }
}

/// Texts, end to end: text `i` is `bytes[ends[i-1]..ends[i]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrColumn {
    /// All texts after one another; always UTF-8 at the boundaries given by `ends`.
    pub bytes: Vec<u8>,
    /// End of each text.
    pub ends: Vec<u32>,
}

impl StrColumn {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Text `index`; empty where there is none.
    pub fn get(&self, index: usize) -> &str {
        std::str::from_utf8(self.bytes_of(index).unwrap_or_default()).unwrap_or_default()
    }

    /// Bytes of text `index`.
    pub fn bytes_of(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end_text();
    }

    /// Appends those texts of another column that it has.
    pub fn extend_from(&mut self, other: &Self, texts: Range<usize>) {
        let texts = texts.start.min(other.len())..texts.end.min(other.len());
        let Some(ends) = other.ends.get(texts.clone()) else { return };
        let start =
            texts.start.checked_sub(1).and_then(|before| other.ends.get(before)).copied().unwrap_or(0);
        let end = ends.last().copied().unwrap_or(start);
        // As in `end_text`.
        let base = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(other.bytes.get(start as usize..end as usize).unwrap_or_default());
        self.ends.extend(ends.iter().map(|end| base.saturating_add(end.saturating_sub(start))));
    }

    /// Ends a text whose bytes were appended to `bytes` directly.
    pub fn end_text(&mut self) {
        // A column is frozen long before 4 GiB of text (memtable and page limits).
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }
}

/// The values of a column; rows without a value hold a default that must not be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 64-bit floats, bit for bit.
    F64(Vec<f64>),
    /// Signed integers.
    I64(Vec<i64>),
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// Texts.
    Str(StrColumn),
    /// Histograms of cells.
    Hist(HistogramColumn),
    /// Sketches of the distinct values of cells.
    Uniques(UniquesColumn),
}

impl Values {
    /// An empty column for a field type.
    pub fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Float => Self::F64(Vec::new()),
            FieldType::Int => Self::I64(Vec::new()),
            FieldType::UInt => Self::U64(Vec::new()),
            FieldType::Bool => Self::Bool(Vec::new()),
            FieldType::Str => Self::Str(StrColumn::default()),
        }
    }

    /// An empty column of the same kind.
    #[must_use]
    pub fn empty_like(&self) -> Self {
        match self {
            Self::F64(_) => Self::F64(Vec::new()),
            Self::I64(_) => Self::I64(Vec::new()),
            Self::U64(_) => Self::U64(Vec::new()),
            Self::Bool(_) => Self::Bool(Vec::new()),
            Self::Str(_) => Self::Str(StrColumn::default()),
            Self::Hist(_) => Self::Hist(HistogramColumn::default()),
            Self::Uniques(_) => Self::Uniques(UniquesColumn::default()),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Str(values) => values.len(),
            Self::Hist(values) => values.len(),
            Self::Uniques(values) => values.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether these are numbers, and all of them 0; rows without a value hold 0.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::F64(numbers) => numbers.iter().all(|number| *number == 0.0),
            Self::I64(numbers) => numbers.iter().all(|number| *number == 0),
            Self::U64(numbers) => numbers.iter().all(|number| *number == 0),
            Self::Bool(_) | Self::Str(_) | Self::Hist(_) | Self::Uniques(_) => false,
        }
    }

    /// Makes room for so many more rows; of texts and histograms for where they end.
    pub fn reserve(&mut self, rows: usize) {
        match self {
            Self::F64(values) => values.reserve(rows),
            Self::I64(values) => values.reserve(rows),
            Self::U64(values) => values.reserve(rows),
            Self::Bool(values) => values.reserve(rows),
            Self::Str(texts) => texts.ends.reserve(rows),
            Self::Hist(values) => values.reserve(rows),
            Self::Uniques(values) => values.reserve(rows),
        }
    }

    /// Appends a placeholder for a row without a value.
    pub fn push_default(&mut self) {
        match self {
            Self::F64(values) => values.push(0.0),
            Self::I64(values) => values.push(0),
            Self::U64(values) => values.push(0),
            Self::Bool(values) => values.push(false),
            Self::Str(values) => values.end_text(),
            Self::Hist(values) => values.pad(values.len() + 1),
            Self::Uniques(values) => values.pad(values.len() + 1),
        }
    }

    /// Appends placeholders for rows without a value, up to `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        if rows <= self.len() {
            return;
        }
        match self {
            Self::F64(values) => values.resize(rows, 0.0),
            Self::I64(values) => values.resize(rows, 0),
            Self::U64(values) => values.resize(rows, 0),
            Self::Bool(values) => values.resize(rows, false),
            Self::Hist(values) => values.pad(rows),
            Self::Uniques(values) => values.pad(rows),
            Self::Str(texts) => {
                let end = texts.ends.last().copied().unwrap_or(0);
                texts.ends.resize(rows, end);
            }
        }
    }

    /// Appends row `index` of `other`, which must be of the same kind; a placeholder otherwise.
    pub fn push_from(&mut self, other: &Self, index: usize) {
        match (self, other) {
            (Self::F64(values), Self::F64(from)) => values.push(from.get(index).copied().unwrap_or_default()),
            (Self::I64(values), Self::I64(from)) => values.push(from.get(index).copied().unwrap_or_default()),
            (Self::U64(values), Self::U64(from)) => values.push(from.get(index).copied().unwrap_or_default()),
            (Self::Bool(values), Self::Bool(from)) => {
                values.push(from.get(index).copied().unwrap_or_default())
            }
            (Self::Str(values), Self::Str(from)) => values.push(from.get(index)),
            (Self::Hist(values), Self::Hist(from)) => values.push(from.get(index).unwrap_or_default()),
            (Self::Uniques(values), Self::Uniques(from)) => values.push(from.get(index).unwrap_or_default()),
            (values, _) => values.push_default(),
        }
    }

    /// Appends a range of rows of `other`, which must be of the same kind and have those rows.
    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        match (self, other) {
            (Self::F64(values), Self::F64(from)) => {
                values.extend_from_slice(from.get(rows).unwrap_or_default())
            }
            (Self::I64(values), Self::I64(from)) => {
                values.extend_from_slice(from.get(rows).unwrap_or_default())
            }
            (Self::U64(values), Self::U64(from)) => {
                values.extend_from_slice(from.get(rows).unwrap_or_default())
            }
            (Self::Bool(values), Self::Bool(from)) => {
                values.extend_from_slice(from.get(rows).unwrap_or_default())
            }
            (Self::Hist(values), Self::Hist(from)) => values.extend_from(from, rows),
            (Self::Uniques(values), Self::Uniques(from)) => values.extend_from(from, rows),
            (Self::Str(values), Self::Str(from)) => values.extend_from(from, rows),
            (values, other) => rows.for_each(|row| values.push_from(other, row)),
        }
    }

    /// Row `index` as a value; `None` past the end, for histograms and sketches.
    pub fn get(&self, index: usize) -> Option<ValueRef<'_>> {
        match self {
            Self::F64(values) => values.get(index).map(|value| ValueRef::Float(*value)),
            Self::I64(values) => values.get(index).map(|value| ValueRef::Int(*value)),
            Self::U64(values) => values.get(index).map(|value| ValueRef::UInt(*value)),
            Self::Bool(values) => values.get(index).map(|value| ValueRef::Bool(*value)),
            Self::Str(values) => (index < values.len()).then(|| ValueRef::Str(values.get(index))),
            Self::Hist(_) | Self::Uniques(_) => None,
        }
    }
}

/// One column of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Which column.
    pub key: ColumnKey,
    /// One entry per row.
    pub values: Values,
    /// Which rows have a value; `None`: all. Otherwise one flag per row.
    pub valid: Option<Vec<bool>>,
}

impl Column {
    /// A column with `rows` rows that have no value.
    pub fn nulls(key: ColumnKey, mut values: Values, rows: usize) -> Self {
        values.pad(rows);
        Self { key, values, valid: Some(vec![false; rows]) }
    }

    /// Whether row `index` has a value.
    pub fn is_valid(&self, index: usize) -> bool {
        index < self.values.len()
            && self.valid.as_ref().is_none_or(|valid| valid.get(index).copied().unwrap_or(false))
    }

    /// Row `index`; `None` when it has no value.
    pub fn get(&self, index: usize) -> Option<ValueRef<'_>> {
        if self.is_valid(index) { self.values.get(index) } else { None }
    }

    /// Row `index` as an owned value.
    pub fn value(&self, index: usize) -> Option<Value> {
        Some(match self.get(index)? {
            ValueRef::Float(value) => Value::Float(value),
            ValueRef::Int(value) => Value::Int(value),
            ValueRef::UInt(value) => Value::UInt(value),
            ValueRef::Bool(value) => Value::Bool(value),
            ValueRef::Str(value) | ValueRef::Escaped(value) => Value::Str(value.to_owned()),
        })
    }

    /// Row `index` as a float (booleans 0 and 1); `None` for texts and rows without a value.
    pub fn number(&self, index: usize) -> Option<f64> {
        match self.get(index)? {
            ValueRef::Float(value) => Some(value),
            ValueRef::Int(value) => Some(value as f64),
            ValueRef::UInt(value) => Some(value as f64),
            ValueRef::Bool(value) => Some(f64::from(u8::from(value))),
            ValueRef::Str(_) | ValueRef::Escaped(_) => None,
        }
    }

    /// Appends row `index` of `other`, with its validity.
    pub fn push_from(&mut self, other: &Self, index: usize) {
        let is_valid = other.is_valid(index);
        self.push_validity(is_valid);
        if is_valid {
            self.values.push_from(&other.values, index);
        } else {
            self.values.push_default();
        }
    }

    /// Appends a range of rows of `other`, a column of the same kind, with their validity.
    pub fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        let before = self.values.len();
        match (&mut self.valid, &other.valid) {
            (None, None) => {}
            (Some(valid), None) => valid.resize(before + rows.len(), true),
            (Some(valid), Some(from)) => valid.extend_from_slice(from.get(rows.clone()).unwrap_or_default()),
            (None, Some(from)) => {
                let from = from.get(rows.clone()).unwrap_or_default();
                if from.contains(&false) {
                    let mut valid = vec![true; before];
                    valid.extend_from_slice(from);
                    self.valid = Some(valid);
                }
            }
        }
        self.values.extend_from(&other.values, rows);
    }

    /// Appends a row without a value.
    pub fn push_null(&mut self) {
        self.push_validity(false);
        self.values.push_default();
    }

    /// Records the validity of the row about to be appended. Call before the value is pushed.
    pub fn push_validity(&mut self, is_valid: bool) {
        match &mut self.valid {
            Some(valid) => valid.push(is_valid),
            None if is_valid => {}
            None => {
                let mut valid = vec![true; self.values.len()];
                valid.push(false);
                self.valid = Some(valid);
            }
        }
    }
}

/// Rows of one measurement, as columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowBlock {
    /// Series of each row.
    pub series: Vec<SeriesId>,
    /// Time of each row, nanoseconds UTC.
    pub ts_ns: Vec<i64>,
    /// The columns; each has one entry per row. Sorted by key in files and scans.
    pub columns: Vec<Column>,
}

impl RowBlock {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ts_ns.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ts_ns.is_empty()
    }

    /// Gives back the room that nothing has grown into.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.series.shrink_to_fit();
        self.ts_ns.shrink_to_fit();
        self.columns.shrink_to_fit();
        for column in &mut self.columns {
            if let Some(valid) = &mut column.valid {
                valid.shrink_to_fit();
            }
            match &mut column.values {
                Values::F64(values) => values.shrink_to_fit(),
                Values::I64(values) => values.shrink_to_fit(),
                Values::U64(values) => values.shrink_to_fit(),
                Values::Bool(values) => values.shrink_to_fit(),
                Values::Str(texts) => {
                    texts.bytes.shrink_to_fit();
                    texts.ends.shrink_to_fit();
                }
                Values::Hist(_) | Values::Uniques(_) => {}
            }
        }
    }

    /// The column with this key.
    pub fn column(&self, key: ColumnKey) -> Option<&Column> {
        self.columns.iter().find(|column| column.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extend_from_copies_texts_and_where_they_end() {
        let column = |texts: &[&str]| {
            let mut column = StrColumn::default();
            texts.iter().for_each(|text| column.push(text));
            column
        };
        let from = column(&["a", "", "bcd", "é", "e"]);
        for (range, expected) in [
            (0..5, &["x", "a", "", "bcd", "é", "e"][..]),
            (1..4, &["x", "", "bcd", "é"]),
            (2..2, &["x"]),
            (3..99, &["x", "é", "e"]),
            (7..9, &["x"]),
        ] {
            let mut into = column(&["x"]);
            into.extend_from(&from, range);
            assert_eq!(into, column(expected));
        }
    }

    #[test]
    fn pad_adds_placeholders_up_to_a_length() {
        let mut texts = StrColumn::default();
        texts.push("ab");
        for mut values in [Values::F64(vec![1.0]), Values::Bool(vec![true]), Values::Str(texts)] {
            let mut expected = values.clone();
            (0..3).for_each(|_| expected.push_default());
            values.pad(4);
            values.pad(2);
            assert_eq!(values, expected);
        }
    }
}
