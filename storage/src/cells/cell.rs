//! How a cell is kept in columns, and [`CellReader`], which reads them back as [`Partial`]s.
//! [`CellBuilder`](super::CellBuilder) writes them.
//!
//! Every field of a measurement has its own set of columns ([`columns_of`]). Left out are: columns without any
//! value; and `SumRest`, `ResetSum`, `Resets`, `Changes` and `M2` where they are 0 in all rows. The reader takes a
//! missing one of these as 0, and a missing one of the others, where there is a count, as corruption. The mean is no
//! column: sum and count give it.
//!
//! By type: `Edge`, `Min`, `Max`, `First` and `Last` are of the field's type, except that those of the interior of
//! boolean fields are unsigned 0 and 1. Boolean fields keep no histogram, because count and sum say all of it. Text
//! fields keep `Count` and, as `Edge`, a boolean `true` that stands for the text.
//!
//! Knows nothing of time zones, tiers or files.

#![warn(clippy::indexing_slicing)]

use crate::model::FieldInfo;
use crate::model::histogram::Bucket;
use crate::model::partial::{Compensated, Number, Sum};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, HistogramColumn, HistogramRef, Partial, RowBlock, Stat, Stats,
    ValueRef, Values,
};
use crate::{Error, Result};

/// Statistics of a numeric field without its histogram, in the order of their columns.
const NUMERIC: [Stat; 14] = [
    Stat::Edge,
    Stat::Count,
    Stat::Sum,
    Stat::SumRest,
    Stat::Min,
    Stat::Max,
    Stat::First,
    Stat::FirstOffset,
    Stat::Last,
    Stat::LastOffset,
    Stat::ResetSum,
    Stat::Resets,
    Stat::Changes,
    Stat::M2,
];

/// With this many samples or fewer the histogram is not kept: first and last value say all of it.
pub(crate) const WITHOUT_HIST_MAX: u64 = 2;

/// The columns that a [`CellReader`] of the field needs, in file order.
pub fn columns_of(field: FieldId, field_type: FieldType, with_hist: bool) -> Vec<ColumnKey> {
    let stats: &[Stat] = if field_type == FieldType::Str { &[Stat::Edge, Stat::Count] } else { &NUMERIC };
    let hist = (with_hist && keeps_hist(field_type)).then_some(Stat::Hist);
    stats.iter().copied().chain(hist).map(|stat| ColumnKey { field, stat }).collect()
}

/// Whether cells of the type keep a histogram.
pub(crate) fn keeps_hist(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::Float | FieldType::Int | FieldType::UInt)
}

/// A number type and the columns that hold it.
pub(crate) trait CellNumber: Number {
    /// The numbers of a column of this type.
    fn numbers(values: &Values) -> Option<&[Self]>;
    /// A column of numbers.
    fn column(numbers: Vec<Self>) -> Values;
    /// The two columns of sums, `Sum` and `SumRest`.
    fn sum_columns(sums: &[Self::Sum]) -> (Values, Values);
    /// One sum out of its two columns; `rest` is `None` where it is 0.
    fn sum_at(sum: &Values, rest: Option<&Values>, row: usize) -> Option<Self::Sum>;
    /// The sum of all numbers, in their order.
    fn sum_of(numbers: &[Self]) -> Self::Sum;
    /// The sum of their squared distances from the mean.
    fn m2_of(numbers: &[Self], mean: f64) -> f64;
    /// The number as a value.
    fn value_ref(self) -> ValueRef<'static>;
    /// The partial that carries such statistics.
    fn partial(stats: Stats<Self>) -> Partial;
}

impl CellNumber for f64 {
    fn numbers(values: &Values) -> Option<&[Self]> {
        if let Values::F64(numbers) = values { Some(numbers) } else { None }
    }

    fn column(numbers: Vec<Self>) -> Values {
        Values::F64(numbers)
    }

    fn sum_columns(sums: &[Compensated]) -> (Values, Values) {
        let leading = sums.iter().map(|sum| sum.sum).collect();
        (Values::F64(leading), Values::F64(sums.iter().map(|sum| sum.rest).collect()))
    }

    fn sum_at(sum: &Values, rest: Option<&Values>, row: usize) -> Option<Compensated> {
        let rest = match rest {
            Some(rest) => *Self::numbers(rest)?.get(row)?,
            None => 0.0,
        };
        Some(Compensated { sum: *Self::numbers(sum)?.get(row)?, rest })
    }

    fn sum_of(numbers: &[Self]) -> Compensated {
        // Knuth's two-sum: the error of each addition exactly, without a branch.
        let (mut sum, mut rest) = (0.0, 0.0);
        for number in numbers {
            let next = sum + number;
            let added = next - sum;
            rest += (sum - (next - added)) + (number - added);
            sum = next;
        }
        Compensated { sum, rest: if sum.is_finite() { rest } else { 0.0 } }
    }

    fn m2_of(numbers: &[Self], mean: f64) -> f64 {
        numbers.iter().map(|number| (number - mean) * (number - mean)).sum()
    }

    fn value_ref(self) -> ValueRef<'static> {
        ValueRef::Float(self)
    }

    fn partial(stats: Stats<Self>) -> Partial {
        Partial::Float(stats)
    }
}

macro_rules! cell_integer {
    ($($number:ty, $variant:ident, $partial:ident);*) => {
        $(impl CellNumber for $number {
            fn numbers(values: &Values) -> Option<&[Self]> {
                if let Values::$variant(numbers) = values { Some(numbers) } else { None }
            }

            fn column(numbers: Vec<Self>) -> Values {
                Values::$variant(numbers)
            }

            fn sum_columns(sums: &[i128]) -> (Values, Values) {
                // The two halves of the i128: both casts keep exactly 64 bits each.
                let low = sums.iter().map(|sum| *sum as u64).collect();
                (Values::U64(low), Values::I64(sums.iter().map(|sum| (*sum >> 64) as i64).collect()))
            }

            fn sum_at(sum: &Values, rest: Option<&Values>, row: usize) -> Option<i128> {
                let high = match rest {
                    Some(rest) => *i64::numbers(rest)?.get(row)?,
                    None => 0,
                };
                Some((i128::from(high) << 64) | i128::from(*u64::numbers(sum)?.get(row)?))
            }

            fn sum_of(numbers: &[Self]) -> i128 {
                numbers.iter().map(|number| i128::from(*number)).sum()
            }

            fn m2_of(numbers: &[Self], mean: f64) -> f64 {
                if let Some(m2) = m2_of_near(numbers.iter().map(|number| i128::from(*number))) {
                    return m2;
                }
                numbers.iter().map(|number| (*number as f64 - mean) * (*number as f64 - mean)).sum()
            }

            fn value_ref(self) -> ValueRef<'static> {
                ValueRef::$partial(self)
            }

            fn partial(stats: Stats<Self>) -> Partial {
                Partial::$partial(stats)
            }
        })*
    };
}

cell_integer!(i64, I64, Int; u64, U64, UInt);

/// Sum of the squared distances of whole numbers from their mean, rounded once at the end: `n` times it is whole.
/// `None` when the numbers are many or far apart, where that would need wider arithmetic.
///
/// A rounded sum of rounded squares would say the same but for noise in its last digits, which costs eight bytes.
fn m2_of_near(numbers: impl ExactSizeIterator<Item = i128> + Clone) -> Option<f64> {
    let first = numbers.clone().next()?;
    let count = i64::try_from(numbers.len()).ok().filter(|count| *count <= 1 << 10)?;
    let (mut sum, mut squares, mut widest) = (0_i64, 0_i64, 0_u64);
    for number in numbers {
        // Whether this has cut anything off shows in the width, which is then too large.
        let distance = (number - first).clamp(-(1 << 20), 1 << 20) as i64;
        widest |= distance.unsigned_abs();
        sum += distance;
        squares += distance * distance;
    }
    // At most 2^10 distances below 2^20: both products stay below 2^60.
    (widest < 1 << 20).then(|| (count * squares - sum * sum) as f64 / count as f64)
}

/// Reads the cells of one field out of the loaded columns of a page.
#[derive(Debug)]
pub struct CellReader<'a> {
    field_type: FieldType,
    with_hist: bool,
    edge: Option<&'a Column>,
    interior: Interior<'a>,
}

/// The interiors by number type.
#[derive(Debug)]
enum Interior<'a> {
    /// No row has one.
    Empty,
    Float(Numeric<'a, f64>),
    Int(Numeric<'a, i64>),
    UInt(Numeric<'a, u64>),
    Text(Counts<'a>),
}

/// The counts of a page.
#[derive(Debug, Clone, Copy)]
struct Counts<'a> {
    counts: &'a [u64],
    valid: Option<&'a [bool]>,
}

impl Counts<'_> {
    /// The count of a row; `None` when it has no interior.
    fn get(&self, row: usize) -> Option<u64> {
        let is_valid = self.valid.is_none_or(|valid| valid.get(row).copied().unwrap_or(false));
        self.counts.get(row).copied().filter(|count| is_valid && *count != 0)
    }
}

/// The columns of a numeric field.
#[derive(Debug)]
struct Numeric<'a, N> {
    count: Counts<'a>,
    sum: &'a Values,
    sum_rest: Option<&'a Column>,
    min: &'a [N],
    max: &'a [N],
    first: &'a [N],
    first_offset: &'a [i64],
    last: &'a [N],
    last_offset: &'a [i64],
    reset_sum: Option<&'a Column>,
    resets: Option<&'a Column>,
    changes: Option<&'a Column>,
    m2: Option<&'a Column>,
    hist: Option<(&'a Column, &'a HistogramColumn)>,
}

impl<'a> CellReader<'a> {
    /// Reads the cells of a field of type `field_type`; `column` gives the loaded column of a statistic, `None`
    /// when the page has none. With `with_hist` the partials carry histograms. Linear in the rows.
    ///
    /// # Errors
    /// `Corruption` when columns have another type or length than cells have, or one is missing.
    pub fn new(
        field_type: FieldType,
        with_hist: bool,
        column: impl Fn(Stat) -> Option<&'a Column>,
    ) -> Result<Self> {
        let edge = column(Stat::Edge);
        let edge_fits = |column: &Column| match field_type {
            FieldType::Float => matches!(column.values, Values::F64(_)),
            FieldType::Int => matches!(column.values, Values::I64(_)),
            FieldType::UInt => matches!(column.values, Values::U64(_)),
            FieldType::Bool | FieldType::Str => matches!(column.values, Values::Bool(_)),
        };
        if let Some(edge) = edge.filter(|edge| !edge_fits(edge)) {
            return Err(damaged(edge.key.stat, "has another type than the field"));
        }
        let interior = match (column(Stat::Count), field_type) {
            (None, _) => Interior::Empty,
            (Some(count), FieldType::Str) => Interior::Text(counts(count)?),
            (Some(count), FieldType::Float) => Interior::Float(Numeric::new(count, with_hist, column)?),
            (Some(count), FieldType::Int) => Interior::Int(Numeric::new(count, with_hist, column)?),
            (Some(count), FieldType::UInt) => Interior::UInt(Numeric::new(count, with_hist, column)?),
            (Some(count), FieldType::Bool) => Interior::UInt(Numeric::new(count, false, column)?),
        };
        Ok(Self { field_type, with_hist, edge, interior })
    }

    /// Reads the cells of a field out of a whole block.
    ///
    /// # Errors
    /// As [`CellReader::new`].
    pub fn of_block(block: &'a RowBlock, field: &FieldInfo, with_hist: bool) -> Result<Self> {
        Self::new(field.field_type, with_hist, |stat| block.column(ColumnKey { field: field.id, stat }))
    }

    /// The sample exactly on the left edge of the row; for a text field an empty text that stands for it.
    pub fn edge(&self, row: usize) -> Option<ValueRef<'a>> {
        match self.edge?.get(row)? {
            ValueRef::Bool(is_there) if self.field_type == FieldType::Str => {
                is_there.then_some(ValueRef::Str(""))
            }
            value => Some(value),
        }
    }

    /// The partial of the open interior of the row, whose cell begins at `left_ns`; `None` when it is empty.
    pub fn interior(&self, row: usize, left_ns: i64) -> Option<Partial> {
        let mut partial = Partial::empty(self.field_type);
        self.add_interior(row, left_ns, &mut partial);
        (partial.count() != 0).then_some(partial)
    }

    /// Adds the sample on the left edge of the row, if any, to a partial of the time just before.
    pub fn add_edge(&self, row: usize, left_ns: i64, partial: &mut Partial) {
        if let Some(value) = self.edge(row) {
            partial.add(left_ns, value, self.with_hist);
        }
    }

    /// Adds the interior of the row, if any, to a partial of the time just before. Does not copy histograms.
    pub fn add_interior(&self, row: usize, left_ns: i64, partial: &mut Partial) {
        match (&self.interior, partial) {
            (Interior::Empty, _) => {}
            (Interior::Float(cells), Partial::Float(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::Int(cells), Partial::Int(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::UInt(cells), Partial::UInt(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::Text(counts), Partial::Text(count)) => *count += counts.get(row).unwrap_or(0),
            _ => debug_assert!(false, "partials of one field have one type"),
        }
    }

    fn merge<N: CellNumber>(&self, cells: &Numeric<'_, N>, row: usize, left_ns: i64, into: &mut Stats<N>) {
        let Some(stats) = cells.stats(row, left_ns) else { return };
        into.merge(&stats);
        if !self.with_hist {
            return;
        }
        let hist = into.hist.get_or_insert_default();
        if self.field_type == FieldType::Bool {
            // The sum of zeros and ones, at most the count, which stays far below 2^53.
            let ones = stats.sum.to_f64() as u64;
            let bucket = [Bucket { index: 0, count: ones }];
            let positive = if ones == 0 { &[][..] } else { &bucket };
            let zero = stats.count.saturating_sub(ones);
            hist.merge_view(HistogramRef { zero, positive, negative: &[] });
        } else if let Some(kept) = cells.hist_at(row) {
            hist.merge_view(kept);
        } else {
            hist.add(stats.first.to_f64());
            if 1 < stats.count {
                hist.add(stats.last.to_f64());
            }
        }
    }
}

impl<'a, N: CellNumber> Numeric<'a, N> {
    fn new(count: &'a Column, with_hist: bool, column: impl Fn(Stat) -> Option<&'a Column>) -> Result<Self> {
        let counts = counts(count)?;
        let needed = |stat| -> Result<&'a Column> {
            let column = column(stat).ok_or_else(|| damaged(stat, "is missing"))?;
            check_covers(count, column)?;
            Ok(column)
        };
        let numbers = |stat| typed::<N>(needed(stat)?);
        let offsets = |stat| typed::<i64>(needed(stat)?);
        let optional = |stat, fits: fn(&Values) -> bool| match column(stat) {
            Some(column) if !fits(&column.values) => Err(damaged(stat, "has another type than expected")),
            column => Ok(column),
        };
        let is_f64 = |values: &Values| matches!(values, Values::F64(_));
        let is_u64 = |values: &Values| matches!(values, Values::U64(_));
        let sum = needed(Stat::Sum)?;
        let sum_rest = column(Stat::SumRest);
        if N::sum_at(&sum.values, sum_rest.map(|rest| &rest.values), 0).is_none() && !count.values.is_empty()
        {
            return Err(damaged(Stat::Sum, "has another type than expected"));
        }
        let hist = match column(Stat::Hist) {
            Some(hist) if with_hist => match &hist.values {
                Values::Hist(hists) => Some((hist, hists)),
                _ => return Err(damaged(Stat::Hist, "has another type than expected")),
            },
            _ => None,
        };
        let cells = Self {
            count: counts,
            sum: &sum.values,
            sum_rest,
            min: numbers(Stat::Min)?,
            max: numbers(Stat::Max)?,
            first: numbers(Stat::First)?,
            first_offset: offsets(Stat::FirstOffset)?,
            last: numbers(Stat::Last)?,
            last_offset: offsets(Stat::LastOffset)?,
            reset_sum: optional(Stat::ResetSum, is_f64)?,
            resets: optional(Stat::Resets, is_u64)?,
            changes: optional(Stat::Changes, is_u64)?,
            m2: optional(Stat::M2, is_f64)?,
            hist,
        };
        let lacks_hist = |row| {
            cells.count.get(row).is_some_and(|count| WITHOUT_HIST_MAX < count) && cells.hist_at(row).is_none()
        };
        if with_hist && (0..counts.counts.len()).any(lacks_hist) {
            return Err(damaged(Stat::Hist, "is missing"));
        }
        Ok(cells)
    }

    /// Everything of a row but its histogram.
    fn stats(&self, row: usize, left_ns: i64) -> Option<Stats<N>> {
        let count = self.count.get(row)?;
        let rest = self.sum_rest.filter(|rest| rest.is_valid(row)).map(|rest| &rest.values);
        let (sum, first) = (N::sum_at(self.sum, rest, row)?, *self.first.get(row)?);
        let changes = or_zero(self.changes, row);
        Some(Stats {
            count,
            sum,
            min: *self.min.get(row)?,
            max: *self.max.get(row)?,
            first,
            first_ns: left_ns.saturating_add(*self.first_offset.get(row)?),
            last: *self.last.get(row)?,
            last_ns: left_ns.saturating_add(*self.last_offset.get(row)?),
            reset_sum: Compensated { sum: or_zero(self.reset_sum, row), rest: 0.0 },
            resets: or_zero(self.resets, row),
            changes,
            mean: mean_of(count, sum, first, changes),
            m2: or_zero(self.m2, row),
            hist: None,
        })
    }

    fn hist_at(&self, row: usize) -> Option<HistogramRef<'a>> {
        let (column, hists) = self.hist?;
        if column.is_valid(row) { hists.get(row) } else { None }
    }
}

/// The mean of an interior, which no column holds. Of equal values it is the value, although their rounded sum may
/// say otherwise.
pub(crate) fn mean_of<N: CellNumber>(count: u64, sum: N::Sum, first: N, changes: u64) -> f64 {
    let first = first.to_f64();
    if changes == 0 && first.is_finite() { first } else { sum.to_f64() / count as f64 }
}

/// A value of a column that is left out where it is 0.
fn or_zero<N: CellNumber>(column: Option<&Column>, row: usize) -> N {
    let column = column.filter(|column| column.is_valid(row));
    let numbers = column.and_then(|column| N::numbers(&column.values));
    numbers.and_then(|numbers| numbers.get(row)).copied().unwrap_or_default()
}

fn typed<N: CellNumber>(column: &Column) -> Result<&[N]> {
    N::numbers(&column.values).ok_or_else(|| damaged(column.key.stat, "has another type than expected"))
}

fn counts(column: &Column) -> Result<Counts<'_>> {
    Ok(Counts { counts: typed(column)?, valid: column.valid.as_deref() })
}

/// Checks that `column` has a value wherever `count` has one.
fn check_covers(count: &Column, column: &Column) -> Result<()> {
    if column.values.len() != count.values.len() {
        return Err(damaged(column.key.stat, "has another number of rows than the count"));
    }
    let covers = match &column.valid {
        None => true,
        valid if *valid == count.valid => true,
        Some(_) => (0..count.values.len()).all(|row| column.is_valid(row) || !count.is_valid(row)),
    };
    if covers { Ok(()) } else { Err(damaged(column.key.stat, "lacks values that the count has")) }
}

fn damaged(stat: Stat, what: &str) -> Error {
    Error::corruption(format!("cells: column {stat:?} {what}"))
}
