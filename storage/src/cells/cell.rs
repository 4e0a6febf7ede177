//! How a cell is kept in columns, and [`CellReader`], which reads them back as [`Partial`]s.
//! [`CellBuilder`](super::CellBuilder) writes them.
//!
//! Every field of a measurement has its own set of columns ([`columns_of`]), by the groups of statistics that its cells
//! keep ([`CellField`]); which these are is written in the file. Left out are: columns of other groups; columns without
//! any value; and `SumRest`, `ResetSum`, `Resets`, `Changes` and `M2` where they are 0 in all rows. The reader takes a
//! missing one of these as 0, and a missing one of the others, where there is a count, as corruption. The mean is no
//! column: sum and count give it.
//!
//! By type: `Edge`, `Min`, `Max`, `First` and `Last` are of the field's type, except that those of the interior of
//! boolean fields are unsigned 0 and 1. Boolean fields keep no histogram, because count and sum say all of it. Of text
//! fields see `text`.
//!
//! Knows nothing of time zones, tiers or files.

#![warn(clippy::indexing_slicing)]

mod runs;

pub use runs::Run;

use std::ops::Range;

use super::text::Texts;
use crate::model::FieldInfo;
use crate::model::partial::{Compensated, Number, TwoSum, mean_of};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, HistogramColumn, HistogramRef, Partial, RowBlock, Stat, StatSet,
    Stats, UniquesColumn, ValueRef, Values,
};
use crate::{Error, Result};

/// Columns of each group of statistics of a numeric field, beside edge and count.
const COLUMNS: [(StatSet, &[Stat]); 7] = [
    (StatSet::SUM, &[Stat::Sum, Stat::SumRest]),
    (StatSet::RANGE, &[Stat::Min, Stat::Max]),
    (StatSet::ENDS, &[Stat::First, Stat::FirstOffset, Stat::Last, Stat::LastOffset]),
    (StatSet::RESETS, &[Stat::ResetSum, Stat::Resets]),
    (StatSet::CHANGES, &[Stat::Changes]),
    (StatSet::SPREAD, &[Stat::M2]),
    (StatSet::HIST, &[Stat::Hist]),
];

/// A field, and which groups of statistics its cells keep beside the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellField {
    /// The field.
    pub info: FieldInfo,
    /// The groups.
    pub kept: StatSet,
}

/// The columns that a [`CellReader`] of the field needs for these groups, in file order.
pub fn columns_of(field: FieldId, field_type: FieldType, wants: StatSet) -> Vec<ColumnKey> {
    let mut wants = wanted(field_type, wants);
    if wants.has(StatSet::HIST) {
        // The histogram of few samples is in their first and last value.
        wants = wants.with(StatSet::ENDS);
    }
    let groups = COLUMNS.iter().filter(|(group, _)| wants.has(*group) && is_column(field_type, *group));
    let mut stats = vec![Stat::Edge, Stat::Count];
    stats.extend(groups.flat_map(|(_, stats)| stats.iter().copied()));
    stats.extend(wants.has(StatSet::UNIQUES).then_some(Stat::Uniques));
    stats.into_iter().map(|stat| ColumnKey { field, stat }).collect()
}

/// Whether cells of the type have columns for a group.
fn is_column(field_type: FieldType, group: StatSet) -> bool {
    match field_type {
        FieldType::Float | FieldType::Int | FieldType::UInt => true,
        FieldType::Bool => group != StatSet::HIST,
        FieldType::Str => group == StatSet::ENDS,
    }
}

/// The groups that cells must keep to give these: counts of truth values are their histogram; texts have only ends and
/// sketch.
pub(crate) fn wanted(field_type: FieldType, wants: StatSet) -> StatSet {
    match field_type {
        FieldType::Float | FieldType::Int | FieldType::UInt => wants,
        FieldType::Bool if wants.has(StatSet::HIST) => wants.without(StatSet::HIST).with(StatSet::SUM),
        FieldType::Bool => wants,
        FieldType::Str => wants.shared(StatSet::ENDS.with(StatSet::UNIQUES)),
    }
}

/// Whether cells of a field keep a column of histograms.
pub(crate) fn keeps_hist(field: &CellField) -> bool {
    field.kept.has(StatSet::HIST) && is_column(field.info.field_type, StatSet::HIST)
}

/// With this many samples or fewer the histogram is not kept: first and last value say all of it, where they are kept.
pub(crate) fn without_hist_max(kept: StatSet) -> u64 {
    if kept.has(StatSet::ENDS) { 2 } else { 0 }
}

/// A number type and the columns that hold it.
pub(in crate::cells) trait CellNumber: Number {
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
    /// A truth value as a number.
    fn of_flag(flag: bool) -> Self;
    /// The partial that carries such statistics.
    fn partial(stats: Stats<Self>) -> Partial;
    /// The interiors that are of this type.
    fn cells<'r, 'a>(interior: &'r Interior<'a>) -> Option<&'r Numeric<'a, Self>>;
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
        let mut sum = TwoSum::default();
        numbers.iter().for_each(|number| sum.add(*number));
        sum.total()
    }

    fn m2_of(numbers: &[Self], mean: f64) -> f64 {
        squares_of(numbers, |number| number - mean)
    }

    fn of_flag(flag: bool) -> Self {
        f64::from(u8::from(flag))
    }

    fn partial(stats: Stats<Self>) -> Partial {
        Partial::Float(stats)
    }

    fn cells<'r, 'a>(interior: &'r Interior<'a>) -> Option<&'r Numeric<'a, Self>> {
        if let Interior::Float(cells) = interior { Some(cells) } else { None }
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
                squares_of(numbers, |number| number as f64 - mean)
            }

            fn of_flag(flag: bool) -> Self {
                flag.into()
            }

            fn partial(stats: Stats<Self>) -> Partial {
                Partial::$partial(stats)
            }

            fn cells<'r, 'a>(interior: &'r Interior<'a>) -> Option<&'r Numeric<'a, Self>> {
                if let Interior::$partial(cells) = interior { Some(cells) } else { None }
            }
        })*
    };
}

cell_integer!(i64, I64, Int; u64, U64, UInt);

/// Sum of squared distances, in four lanes that do not wait for one another.
fn squares_of<N: Copy>(numbers: &[N], distance: impl Fn(N) -> f64) -> f64 {
    let (fours, rest) = numbers.as_chunks::<4>();
    let mut lanes = [0.0; 4];
    for four in fours {
        lanes.iter_mut().zip(four).for_each(|(lane, number)| *lane += distance(*number) * distance(*number));
    }
    rest.iter().map(|number| distance(*number) * distance(*number)).sum::<f64>() + lanes.iter().sum::<f64>()
}

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
    wants: StatSet,
    edge: Option<&'a Column>,
    interior: Interior<'a>,
}

/// The interiors by number type.
#[derive(Debug)]
pub(in crate::cells) enum Interior<'a> {
    /// No row has one.
    Empty,
    Float(Numeric<'a, f64>),
    Int(Numeric<'a, i64>),
    UInt(Numeric<'a, u64>),
    Text(Texts<'a>),
}

/// The counts of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts<'a> {
    counts: &'a [u64],
    valid: Option<&'a [bool]>,
}

impl Counts<'_> {
    /// The count of a row; `None` when it has no interior.
    pub(super) fn get(&self, row: usize) -> Option<u64> {
        let is_valid = self.valid.is_none_or(|valid| valid.get(row).copied().unwrap_or(false));
        self.counts.get(row).copied().filter(|count| is_valid && *count != 0)
    }
}

/// The columns of a numeric field, of the groups that are wanted.
#[derive(Debug)]
pub(in crate::cells) struct Numeric<'a, N> {
    count: Counts<'a>,
    sum: Option<&'a Values>,
    sum_rest: Option<&'a Column>,
    range: Option<(&'a [N], &'a [N])>,
    first: Option<(&'a [N], &'a [i64])>,
    last: Option<(&'a [N], &'a [i64])>,
    reset_sum: Option<&'a Column>,
    resets: Option<&'a Column>,
    changes: Option<&'a Column>,
    m2: Option<&'a Column>,
    hist: Option<(&'a Column, &'a HistogramColumn)>,
    uniques: Option<&'a UniquesColumn>,
}

/// The columns of a page for one field; those that hold a value wherever the count does. Looks at some of the rows.
pub(super) struct Loaded<'a, F> {
    column: F,
    count: &'a Column,
    rows: Range<usize>,
}

impl<'a, F: Fn(Stat) -> Option<&'a Column>> Loaded<'a, F> {
    fn new(column: F, count: &'a Column, rows: Range<usize>) -> Self {
        Self { column, count, rows }
    }

    /// A column that must be there.
    pub(super) fn needed(&self, stat: Stat) -> Result<&'a Column> {
        let column = (self.column)(stat).ok_or_else(|| damaged(stat, "is missing"))?;
        check_covers(self.count, column, self.rows.clone())?;
        Ok(column)
    }

    /// A column of numbers that must be there.
    pub(super) fn numbers<N: CellNumber>(&self, stat: Stat) -> Result<&'a [N]> {
        typed::<N>(self.needed(stat)?)
    }

    /// The sketches.
    pub(super) fn uniques(&self) -> Result<&'a UniquesColumn> {
        match &self.needed(Stat::Uniques)?.values {
            Values::Uniques(uniques) => Ok(uniques),
            _ => Err(of_another_type(Stat::Uniques)),
        }
    }

    /// A column that is left out where it is 0.
    fn optional<N: CellNumber>(&self, stat: Stat) -> Result<Option<&'a Column>> {
        match (self.column)(stat) {
            Some(column) if N::numbers(&column.values).is_none() => Err(of_another_type(stat)),
            column => Ok(column),
        }
    }
}

impl<'a> CellReader<'a> {
    /// Reads the cells of a field of type `field_type` in some rows of a page; `column` gives the loaded column of a
    /// statistic, `None` when the page has none. Partials carry the groups that are wanted; the cells keep the groups
    /// `kept`, which must be enough for them. Linear in these rows: other rows of the page are not looked at.
    ///
    /// # Errors
    /// `Corruption` when columns have another type or length than cells have, or one is missing; `Internal` when the
    /// cells do not keep what is wanted.
    pub fn new(
        field_type: FieldType,
        (kept, wants): (StatSet, StatSet),
        rows: Range<usize>,
        column: impl Fn(Stat) -> Option<&'a Column>,
    ) -> Result<Self> {
        let needs = wanted(field_type, wants);
        if !kept.has(needs) {
            let message = format!("cells keep {kept}, and {needs} is wanted of them");
            return Err(Error::new(crate::ErrorKind::Internal, message));
        }
        let edge = column(Stat::Edge);
        let edge_fits = |column: &Column| match field_type {
            FieldType::Float => matches!(column.values, Values::F64(_)),
            FieldType::Int => matches!(column.values, Values::I64(_)),
            FieldType::UInt => matches!(column.values, Values::U64(_)),
            FieldType::Str if kept != StatSet::COUNT => matches!(column.values, Values::Str(_)),
            FieldType::Bool | FieldType::Str => matches!(column.values, Values::Bool(_)),
        };
        if let Some(edge) = edge.filter(|edge| !edge_fits(edge)) {
            return Err(damaged(edge.key.stat, "has another type than the field"));
        }
        let interior = match column(Stat::Count) {
            None => Interior::Empty,
            Some(count) => {
                let (counts, loaded) = (counts(count)?, Loaded::new(column, count, rows));
                match field_type {
                    FieldType::Str => Interior::Text(Texts::new(counts, needs, &loaded)?),
                    FieldType::Float => Interior::Float(Numeric::new(counts, (kept, needs), &loaded)?),
                    FieldType::Int => Interior::Int(Numeric::new(counts, (kept, needs), &loaded)?),
                    FieldType::UInt | FieldType::Bool => {
                        Interior::UInt(Numeric::new(counts, (kept, needs), &loaded)?)
                    }
                }
            }
        };
        Ok(Self { field_type, wants, edge, interior })
    }

    /// Reads all that the cells of a field keep out of a whole block.
    ///
    /// # Errors
    /// As [`CellReader::new`].
    pub fn of_block(block: &'a RowBlock, field: &CellField) -> Result<Self> {
        let CellField { info, kept } = field;
        let column = |stat| block.column(ColumnKey { field: info.id, stat });
        Self::new(info.field_type, (*kept, wanted(info.field_type, *kept)), 0..block.len(), column)
    }

    /// The sample exactly on the left edge of the row; an empty text for a text that cells do not keep.
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
            partial.add(left_ns, value, self.wants);
        }
    }

    /// Adds the interior of the row, if any, to a partial of the time just before. Does not copy histograms and
    /// sketches.
    pub fn add_interior(&self, row: usize, left_ns: i64, partial: &mut Partial) {
        match (&self.interior, partial) {
            (Interior::Empty, _) => {}
            (Interior::Float(cells), Partial::Float(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::Int(cells), Partial::Int(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::UInt(cells), Partial::UInt(stats)) => self.merge(cells, row, left_ns, stats),
            (Interior::Text(texts), Partial::Text(stats)) => texts.merge(row, left_ns, stats),
            _ => debug_assert!(false, "partials of one field have one type"),
        }
    }

    fn merge<N: CellNumber>(&self, cells: &Numeric<'_, N>, row: usize, left_ns: i64, into: &mut Stats<N>) {
        let Some(stats) = cells.stats(row, left_ns) else { return };
        into.merge(&stats);
        if let Some(kept) = cells.uniques.and_then(|uniques| uniques.get(row)) {
            into.uniques.get_or_insert_default().merge(kept);
        }
        if !self.wants.has(StatSet::HIST) {
            return;
        }
        let is_flag = self.field_type == FieldType::Bool;
        cells.add_hist(row, is_flag, &mut **into.hist.get_or_insert_default());
    }
}

impl<'a, N: CellNumber> Numeric<'a, N> {
    fn new<F: Fn(Stat) -> Option<&'a Column>>(
        count: Counts<'a>,
        (kept, needs): (StatSet, StatSet),
        loaded: &Loaded<'a, F>,
    ) -> Result<Self> {
        let sum = if needs.has(StatSet::SUM) { Some(loaded.needed(Stat::Sum)?) } else { None };
        let sum_rest = if needs.has(StatSet::SUM) { (loaded.column)(Stat::SumRest) } else { None };
        if let Some(sum) = sum
            && N::sum_at(&sum.values, sum_rest.map(|rest| &rest.values), 0).is_none()
            && !sum.values.is_empty()
        {
            return Err(of_another_type(Stat::Sum));
        }
        let range = match needs.has(StatSet::RANGE) {
            true => Some((loaded.numbers(Stat::Min)?, loaded.numbers(Stat::Max)?)),
            false => None,
        };
        let end =
            |value, offset| -> Result<_> { Ok(Some((loaded.numbers(value)?, loaded.numbers(offset)?))) };
        let wants_hist = needs.has(StatSet::HIST);
        let has_ends = needs.has(StatSet::ENDS) || (wants_hist && kept.has(StatSet::ENDS));
        let (first, last) = match has_ends {
            true => (end(Stat::First, Stat::FirstOffset)?, end(Stat::Last, Stat::LastOffset)?),
            false => (None, None),
        };
        let hist = match (loaded.column)(Stat::Hist) {
            Some(hist) if wants_hist => match &hist.values {
                Values::Hist(hists) => Some((hist, hists)),
                _ => return Err(of_another_type(Stat::Hist)),
            },
            _ => None,
        };
        let resets = needs.has(StatSet::RESETS);
        let cells = Self {
            count,
            sum: sum.map(|sum| &sum.values),
            sum_rest,
            range,
            first,
            last,
            reset_sum: if resets { loaded.optional::<f64>(Stat::ResetSum)? } else { None },
            resets: if resets { loaded.optional::<u64>(Stat::Resets)? } else { None },
            changes: if needs.has(StatSet::CHANGES) { loaded.optional::<u64>(Stat::Changes)? } else { None },
            m2: if needs.has(StatSet::SPREAD) { loaded.optional::<f64>(Stat::M2)? } else { None },
            hist,
            uniques: if needs.has(StatSet::UNIQUES) { Some(loaded.uniques()?) } else { None },
        };
        let without_max = without_hist_max(kept);
        let lacks_hist = |row| {
            cells.count.get(row).is_some_and(|count| without_max < count) && cells.hist_at(row).is_none()
        };
        if wants_hist && loaded.rows.clone().any(lacks_hist) {
            return Err(damaged(Stat::Hist, "is missing"));
        }
        Ok(cells)
    }

    /// The sum of a row, where sums are wanted.
    fn sum_at(&self, row: usize) -> Option<N::Sum> {
        let rest = self.sum_rest.filter(|rest| rest.is_valid(row)).map(|rest| &rest.values);
        N::sum_at(self.sum?, rest, row)
    }

    /// Everything of a row but its histogram and its sketch.
    fn stats(&self, row: usize, left_ns: i64) -> Option<Stats<N>> {
        let mut stats = Stats { count: self.count.get(row)?, ..Stats::default() };
        stats.sum = self.sum_at(row).unwrap_or_default();
        if let Some((min, max)) = self.range {
            (stats.min, stats.max) = (*min.get(row)?, *max.get(row)?);
            stats.mean = mean_of(stats.count, stats.sum, stats.min, stats.max);
        }
        if let Some((values, offsets)) = self.first {
            (stats.first, stats.first_ns) = (*values.get(row)?, left_ns.saturating_add(*offsets.get(row)?));
        }
        if let Some((values, offsets)) = self.last {
            (stats.last, stats.last_ns) = (*values.get(row)?, left_ns.saturating_add(*offsets.get(row)?));
        }
        stats.reset_sum = Compensated { sum: or_zero(self.reset_sum, row), rest: 0.0 };
        stats.resets = or_zero(self.resets, row);
        stats.changes = or_zero(self.changes, row);
        stats.m2 = or_zero(self.m2, row);
        Some(stats)
    }

    fn hist_at(&self, row: usize) -> Option<HistogramRef<'a>> {
        let (column, hists) = self.hist?;
        if column.is_valid(row) { hists.get(row) } else { None }
    }
}

/// A value of a column that is left out where it is 0.
fn or_zero<N: CellNumber>(column: Option<&Column>, row: usize) -> N {
    let column = column.filter(|column| column.is_valid(row));
    let numbers = column.and_then(|column| N::numbers(&column.values));
    numbers.and_then(|numbers| numbers.get(row)).copied().unwrap_or_default()
}

fn typed<N: CellNumber>(column: &Column) -> Result<&[N]> {
    N::numbers(&column.values).ok_or_else(|| of_another_type(column.key.stat))
}

fn counts(column: &Column) -> Result<Counts<'_>> {
    Ok(Counts { counts: typed(column)?, valid: column.valid.as_deref() })
}

/// Checks that `column` has a value in each of the rows where `count` has one.
fn check_covers(count: &Column, column: &Column, mut rows: Range<usize>) -> Result<()> {
    if column.values.len() != count.values.len() {
        return Err(damaged(column.key.stat, "has another number of rows than the count"));
    }
    let covers = column.valid.is_none() || rows.all(|row| column.is_valid(row) || !count.is_valid(row));
    if covers { Ok(()) } else { Err(damaged(column.key.stat, "lacks values that the count has")) }
}

pub(super) fn of_another_type(stat: Stat) -> Error {
    damaged(stat, "has another type than expected")
}

fn damaged(stat: Stat, what: &str) -> Error {
    Error::corruption(format!("cells: column {stat:?} {what}"))
}
