//! Aggregates: merging partials across series, accumulating rows, and turning either into cells.
//!
//! Knows nothing of time buckets or scans. Quantiles come from the histogram in every case, so that raw rows and
//! cells of any tier give the same answer.

use std::collections::HashMap;

use icecore_storage::model::histogram::{Bucket, bucket_upper};
use icecore_storage::model::partial::{Number, Sum};
use icecore_storage::model::{FieldType, Partial, StatSet, Stats, TextStats, TextTable, Uniques, ValueRef};

use super::ast::{Arith, Fill, Function};
use super::node::BoundCall;
use super::scalar::{Cell, arith, order_cells};
use crate::{Error, ErrorKind, Result};

/// Adds the partial of another series over the same time. The earliest and latest values are chosen by time and,
/// at equal times, the larger value, a number before NaN. Resets and changes lose their meaning.
pub(crate) fn merge_across(into: &mut Partial, from: &Partial) {
    match (into, from) {
        (Partial::Float(into), Partial::Float(from)) => merge_stats(into, from),
        (Partial::Int(into), Partial::Int(from)) => merge_stats(into, from),
        (Partial::UInt(into), Partial::UInt(from)) => merge_stats(into, from),
        (Partial::Text(into), Partial::Text(from)) => merge_texts(into, from),
        _ => debug_assert!(false, "partials of one field have one type"),
    }
}

fn merge_texts(into: &mut TextStats, from: &TextStats) {
    if from.count == 0 {
        return;
    }
    if into.count == 0 {
        into.clone_from(from);
        return;
    }
    if from.first_ns < into.first_ns || (from.first_ns == into.first_ns && from.first > into.first) {
        (into.first, into.first_ns) = (from.first.clone(), from.first_ns);
    }
    if from.last_ns > into.last_ns || (from.last_ns == into.last_ns && from.last > into.last) {
        (into.last, into.last_ns) = (from.last.clone(), from.last_ns);
    }
    into.count += from.count;
    if let Some(uniques) = &from.uniques {
        into.uniques.get_or_insert_default().merge(uniques.view());
    }
}

fn merge_stats<N: Number>(into: &mut Stats<N>, from: &Stats<N>) {
    if from.count == 0 {
        return;
    }
    if into.count == 0 {
        into.clone_from(from);
        return;
    }
    if from.first_ns < into.first_ns || (from.first_ns == into.first_ns && is_larger(from.first, into.first))
    {
        (into.first, into.first_ns) = (from.first, from.first_ns);
    }
    if from.last_ns > into.last_ns || (from.last_ns == into.last_ns && is_larger(from.last, into.last)) {
        (into.last, into.last_ns) = (from.last, from.last_ns);
    }
    if from.min < into.min || into.min.to_f64().is_nan() {
        into.min = from.min;
    }
    if is_larger(from.max, into.max) {
        into.max = from.max;
    }
    into.sum.merge(from.sum);
    let (left, right) = (into.count as f64, from.count as f64);
    let distance = from.mean - into.mean;
    into.mean += distance * (right / (left + right));
    into.m2 += from.m2 + distance * distance * (left * right / (left + right));
    into.count += from.count;
    if let Some(hist) = &from.hist {
        into.hist.get_or_insert_default().merge(hist);
    }
    if let Some(uniques) = &from.uniques {
        into.uniques.get_or_insert_default().merge(uniques.view());
    }
}

/// Whether a value takes the place of another as the larger one: NaN never does that of a number.
fn is_larger<N: Number>(value: N, known: N) -> bool {
    value > known || known.to_f64().is_nan()
}

/// Adds a value of a series, not earlier than those before it. Subqueries may have several at one time, of which first and
/// last are the larger, as of several series.
pub(crate) fn add_value(into: &mut Partial, ts_ns: i64, value: ValueRef<'_>, wants: StatSet) {
    let is_beside = wants.has(StatSet::ENDS) && ends_of(into).is_some_and(|(_, last_ns)| last_ns == ts_ns);
    if !is_beside {
        return into.add(ts_ns, value, wants);
    }
    let mut one = Partial::empty(value.field_type());
    one.add(ts_ns, value, wants);
    merge_across(into, &one);
}

/// Times of the first and the last value, where they were asked for.
pub(crate) fn ends_of(partial: &Partial) -> Option<(i64, i64)> {
    let ends = match partial {
        Partial::Float(stats) => (stats.first_ns, stats.last_ns),
        Partial::Int(stats) => (stats.first_ns, stats.last_ns),
        Partial::UInt(stats) => (stats.first_ns, stats.last_ns),
        Partial::Text(stats) => (stats.first_ns, stats.last_ns),
    };
    (partial.count() > 0).then_some(ends)
}

/// The value of a function over a partial; null when the partial is empty.
pub(crate) fn partial_cell(function: Function, partial: &Partial, field_type: FieldType) -> Cell {
    if partial.count() == 0 {
        return Cell::Null;
    }
    if function == Function::Count {
        return Cell::Int(i64::try_from(partial.count()).unwrap_or(i64::MAX));
    }
    if function == Function::Uniq {
        let uniques = partial.uniques().map_or(0, Uniques::estimate);
        return Cell::Int(i64::try_from(uniques).unwrap_or(i64::MAX));
    }
    let int_sum = |sum: i128| match (i64::try_from(sum), u64::try_from(sum)) {
        (Ok(sum), _) if field_type == FieldType::Int => Cell::Int(sum),
        (_, Ok(sum)) => Cell::UInt(sum),
        _ => Cell::Float(sum as f64),
    };
    match partial {
        Partial::Float(stats) => {
            stats_cell(function, stats, |bound| bound, Cell::Float, |sum| finite(Sum::<f64>::to_f64(sum)))
        }
        Partial::Int(stats) => stats_cell(function, stats, half_beyond, Cell::Int, int_sum),
        Partial::UInt(stats) if field_type == FieldType::Bool => {
            stats_cell(function, stats, half_beyond, |value| Cell::Bool(value != 0), int_sum)
        }
        Partial::UInt(stats) => stats_cell(function, stats, half_beyond, Cell::UInt, int_sum),
        Partial::Text(stats) => match function {
            Function::First => Cell::Text(stats.first.clone()),
            Function::Last => Cell::Text(stats.last.clone()),
            _ => Cell::Null,
        },
    }
}

/// Between this whole number and the next one, where no value lies.
fn half_beyond(bound: f64) -> f64 {
    bound.floor() + 0.5
}

/// `edge` moves the bound of a share to where it parts the same values.
fn stats_cell<N: Number>(
    function: Function,
    stats: &Stats<N>,
    edge: fn(f64) -> f64,
    cell: impl Fn(N) -> Cell,
    sum: impl Fn(N::Sum) -> Cell,
) -> Cell {
    match function {
        Function::Count => Cell::Int(i64::try_from(stats.count).unwrap_or(i64::MAX)),
        Function::Sum => sum(stats.sum),
        Function::Mean => {
            let mean = stats.sum.to_f64() / stats.count as f64;
            // The sum of large values may overflow where their mean does not.
            finite(if mean.is_finite() { mean } else { stats.mean })
        }
        Function::Min => cell(stats.min),
        Function::Max => cell(stats.max),
        Function::First => cell(stats.first),
        Function::Last => cell(stats.last),
        Function::Spread => arith(Arith::Sub, cell(stats.max).scalar(), cell(stats.min).scalar()).to_cell(),
        Function::Stddev if stats.count < 2 => Cell::Null,
        Function::Stddev => finite((stats.m2 / (stats.count - 1) as f64).max(0.0).sqrt()),
        Function::Quantile(share) => finite(quantile(stats, share)),
        Function::ErrorRate => Cell::Float(1.0 - zeros(stats) as f64 / stats.count as f64),
        Function::FractionLe(bound) => Cell::Float(share_up_to(stats, edge(bound))),
        Function::Apdex(target) => {
            let (satisfied, tolerable) = (edge(target), edge(4.0 * target));
            Cell::Float((share_up_to(stats, satisfied) + share_up_to(stats, tolerable)) / 2.0)
        }
        Function::Mode
        | Function::Distinct
        | Function::CountDistinct
        | Function::Uniq
        | Function::Integral { .. }
        | Function::Uptime { .. }
        | Function::Downtime { .. }
        | Function::Top(_)
        | Function::Bottom(_)
        | Function::Sample(_) => Cell::Null,
    }
}

/// How many values are zero.
fn zeros<N: Number>(stats: &Stats<N>) -> u64 {
    match &stats.hist {
        Some(hist) => hist.zero,
        // Up to two values need no histogram: they are the smallest and the largest.
        None if stats.count == 1 => u64::from(stats.min.to_f64() == 0.0),
        None => u64::from(stats.min.to_f64() == 0.0) + u64::from(stats.max.to_f64() == 0.0),
    }
}

/// The share of values that are at most `bound`, from the histogram. Of the bucket that the bound lies in the part below
/// it counts, as if its values were spread evenly on a logarithmic scale; exact where the bound is the edge of a bucket or
/// lies beyond the smallest or the largest value.
fn share_up_to<N: Number>(stats: &Stats<N>, bound: f64) -> f64 {
    let (min, max) = (stats.min.to_f64(), stats.max.to_f64());
    if max <= bound {
        return 1.0;
    }
    if bound < min {
        return 0.0;
    }
    let Some(hist) = &stats.hist else { return 0.5 };
    let part_below = |bucket: &Bucket, magnitude: f64| {
        let (lower, upper) = (bucket_upper(bucket.index - 1), bucket_upper(bucket.index));
        ((magnitude / lower).ln() / (upper / lower).ln()).clamp(0.0, 1.0) * bucket.count as f64
    };
    let zero = if bound < 0.0 { 0.0 } else { hist.zero as f64 };
    let positive: f64 =
        if bound <= 0.0 { 0.0 } else { hist.positive.iter().map(|bucket| part_below(bucket, bound)).sum() };
    let below_zero =
        |bucket: &Bucket| bucket.count as f64 - if bound < 0.0 { part_below(bucket, -bound) } else { 0.0 };
    let negative: f64 = hist.negative.iter().map(below_zero).sum();
    ((negative + zero + positive) / stats.count as f64).clamp(0.0, 1.0)
}

/// Nearest rank from the histogram, within the smallest and largest value.
fn quantile<N: Number>(stats: &Stats<N>, share: f64) -> f64 {
    let (min, max) = (stats.min.to_f64(), stats.max.to_f64());
    match stats.hist.as_ref().and_then(|hist| hist.quantile(share)) {
        Some(middle) => middle.max(min).min(max),
        // Two values need no histogram: they are the smallest and the largest.
        None if share <= 0.5 => min,
        None => max,
    }
}

fn finite(value: f64) -> Cell {
    if value.is_finite() { Cell::Float(value) } else { Cell::Null }
}

impl BoundCall {
    /// Whether partials hold all the function needs.
    pub(crate) fn is_in_partial(&self) -> bool {
        match self.function {
            Function::Mode
            | Function::Distinct
            | Function::CountDistinct
            | Function::Integral { .. }
            | Function::Uptime { .. }
            | Function::Downtime { .. }
            | Function::Top(_)
            | Function::Bottom(_)
            | Function::Sample(_) => false,
            Function::Count
            | Function::ErrorRate
            | Function::FractionLe(_)
            | Function::Apdex(_)
            | Function::First
            | Function::Last
            | Function::Uniq
            | Function::Sum
            | Function::Mean
            | Function::Min
            | Function::Max
            | Function::Spread
            | Function::Stddev
            | Function::Quantile(_) => true,
        }
    }

    /// The groups of statistics that the function reads off a partial.
    pub(crate) fn wants(&self) -> StatSet {
        match self.function {
            Function::Count
            | Function::Mode
            | Function::Distinct
            | Function::CountDistinct
            | Function::Integral { .. }
            | Function::Uptime { .. }
            | Function::Downtime { .. }
            | Function::Top(_)
            | Function::Bottom(_)
            | Function::Sample(_) => StatSet::COUNT,
            Function::Sum => StatSet::SUM,
            // The mean, which a sum that overflows does not give.
            Function::Mean => StatSet::SUM.with(StatSet::RANGE),
            Function::Min | Function::Max | Function::Spread => StatSet::RANGE,
            Function::First | Function::Last => StatSet::ENDS,
            Function::Stddev => StatSet::SPREAD,
            // Bounded by the smallest and the largest value.
            Function::Quantile(_) | Function::ErrorRate | Function::FractionLe(_) | Function::Apdex(_) => {
                StatSet::HIST.with(StatSet::RANGE)
            }
            Function::Uniq => StatSet::UNIQUES,
        }
    }

    /// What a bucket without data shows; previous and linear are decided by the neighbours.
    pub(crate) fn empty_cell(&self, fill: Fill) -> Cell {
        let is_count = matches!(self.function, Function::Count | Function::CountDistinct | Function::Uniq);
        let Some(field) = &self.field else {
            // A measurement of several may lack the field.
            return match fill {
                Fill::Value(value) if is_count => Cell::Int(value as i64),
                Fill::Value(value) => Cell::Float(value),
                Fill::Null | Fill::None | Fill::Previous | Fill::Linear => Cell::Null,
            };
        };
        match fill {
            Fill::Null if is_count => Cell::Int(0),
            Fill::Null | Fill::None | Fill::Previous | Fill::Linear => Cell::Null,
            // The cast saturates, and a fraction is cut, as InfluxDB does for integer columns.
            Fill::Value(value) if is_count => Cell::Int(value as i64),
            Fill::Value(value) => match (self.function, field.field_type) {
                (function, _) if function.gives_float() => Cell::Float(value),
                (_, FieldType::Float) => Cell::Float(value),
                (_, FieldType::Int | FieldType::UInt) => Cell::Int(value as i64),
                (_, FieldType::Bool | FieldType::Str) => Cell::Null,
            },
        }
    }
}

/// Accumulates the rows of one call.
#[derive(Debug)]
pub(crate) enum Acc {
    Partial(Partial),
    Values(Values),
}

impl Acc {
    /// An empty accumulator for a call over a field of this type.
    pub(crate) fn new(call: &BoundCall, field_type: FieldType) -> Self {
        match call.function {
            Function::Mode | Function::Distinct | Function::CountDistinct => Self::Values(Values::default()),
            _ => Self::Partial(Partial::empty(field_type)),
        }
    }

    /// Adds a value of a series, not earlier than those before it; tells how many bytes of memory that took, about, beside
    /// `texts`, which are those of all accumulators of a query.
    ///
    /// # Errors
    /// `LimitExceeded` when the texts would take more than 4 GiB.
    pub(crate) fn add(
        &mut self,
        ts_ns: i64,
        value: ValueRef<'_>,
        wants: StatSet,
        texts: &mut TextTable,
    ) -> Result<u64> {
        match self {
            Self::Partial(partial) => {
                let sketch_bytes = |partial: &Partial| partial.uniques().map_or(0, Uniques::heap_bytes);
                let before = sketch_bytes(partial);
                add_value(partial, ts_ns, value, wants);
                Ok(sketch_bytes(partial).saturating_sub(before) as u64)
            }
            Self::Values(values) => values.add(value, Seen { count: 1, first_ns: ts_ns }, texts),
        }
    }

    /// Adds what another series gave; tells how many bytes that took, about.
    pub(crate) fn merge(&mut self, other: Self) -> u64 {
        match (self, other) {
            (Self::Partial(into), Self::Partial(from)) => {
                let before = into.uniques().map_or(0, Uniques::heap_bytes);
                merge_across(into, &from);
                into.uniques().map_or(0, Uniques::heap_bytes).saturating_sub(before) as u64
            }
            (Self::Values(into), Self::Values(from)) => into.merge(from),
            _ => {
                debug_assert!(false, "accumulators of one call have one kind");
                0
            }
        }
    }

    /// Whether no value was added.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Partial(partial) => partial.count() == 0,
            Self::Values(values) => values.len() == 0,
        }
    }

    /// How many distinct values there are, and the bytes of their texts.
    pub(crate) fn distinct_size(&self, texts: &TextTable) -> (u64, u64) {
        let Self::Values(values) = self else { return (0, 0) };
        let text_bytes = |key: &ValueKey| match key {
            ValueKey::Text(number) => texts.texts().get(*number as usize).len() as u64,
            _ => 0,
        };
        (values.len() as u64, values.seen.keys().map(text_bytes).sum())
    }

    /// The value of the function; null when nothing was added.
    pub(crate) fn cell(&self, function: Function, field_type: FieldType, texts: &TextTable) -> Cell {
        match self {
            Self::Partial(partial) => partial_cell(function, partial, field_type),
            Self::Values(values) => match function {
                Function::Mode => values.mode(texts),
                _ if self.is_empty() => Cell::Null,
                _ => Cell::Int(i64::try_from(values.len()).unwrap_or(i64::MAX)),
            },
        }
    }

    /// The distinct values, sorted.
    pub(crate) fn distinct(&self, texts: &TextTable) -> Vec<Cell> {
        match self {
            Self::Values(values) => values.sorted(texts).into_iter().map(|(cell, _)| cell).collect(),
            Self::Partial(_) => Vec::new(),
        }
    }
}

/// How often a value was seen, and first when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    count: u64,
    first_ns: i64,
}

/// A value that can be hashed; floats by their bits, with one zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ValueKey {
    Float(u64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    /// Its number among the texts of the query.
    Text(u32),
}

/// What a value takes in a set of distinct ones.
const DISTINCT_BYTES: u64 = 64;

/// The distinct values of a field.
#[derive(Debug, Default)]
pub(crate) struct Values {
    seen: HashMap<ValueKey, Seen>,
}

impl Values {
    fn len(&self) -> usize {
        self.seen.len()
    }

    /// Counts a value; tells how many bytes that took.
    fn add(&mut self, value: ValueRef<'_>, seen: Seen, texts: &mut TextTable) -> Result<u64> {
        let key = match value {
            ValueRef::Float(value) => ValueKey::Float((value + 0.0).to_bits()),
            ValueRef::Int(value) => ValueKey::Int(value),
            ValueRef::UInt(value) => ValueKey::UInt(value),
            ValueRef::Bool(value) => ValueKey::Bool(value),
            ValueRef::Str(text) | ValueRef::Escaped(text) => ValueKey::Text(number_of(text, texts)?),
        };
        let known = self.len();
        self.seen.entry(key).and_modify(|known| known.absorb(seen)).or_insert(seen);
        Ok(if known < self.len() { DISTINCT_BYTES } else { 0 })
    }

    fn merge(&mut self, other: Self) -> u64 {
        let known = self.len();
        for (key, seen) in other.seen {
            self.seen.entry(key).and_modify(|known| known.absorb(seen)).or_insert(seen);
        }
        (self.len() - known) as u64 * DISTINCT_BYTES
    }

    fn sorted(&self, texts: &TextTable) -> Vec<(Cell, Seen)> {
        let mut all: Vec<_> = self.seen.iter().map(|(key, seen)| (key.cell(texts), *seen)).collect();
        all.sort_by(|(left, _), (right, _)| order_cells(left, right));
        all
    }

    /// The most frequent value; of equals the one seen first, then the smaller one.
    fn mode(&self, texts: &TextTable) -> Cell {
        let mut best: Option<(Cell, Seen)> = None;
        for (cell, seen) in self.sorted(texts) {
            let is_better = best.as_ref().is_none_or(|(_, other)| {
                seen.count > other.count || (seen.count == other.count && seen.first_ns < other.first_ns)
            });
            if is_better {
                best = Some((cell, seen));
            }
        }
        best.map_or(Cell::Null, |(cell, _)| cell)
    }
}

impl Seen {
    /// Adds another count of the same value.
    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.first_ns = self.first_ns.min(other.first_ns);
    }
}

impl ValueKey {
    fn cell(self, texts: &TextTable) -> Cell {
        match self {
            Self::Float(bits) => Cell::Float(f64::from_bits(bits)),
            Self::Int(value) => Cell::Int(value),
            Self::UInt(value) => Cell::UInt(value),
            Self::Bool(value) => Cell::Bool(value),
            Self::Text(number) => Cell::Text(texts.texts().get(number as usize).to_owned()),
        }
    }
}

fn number_of(text: &str, texts: &mut TextTable) -> Result<u32> {
    texts.number(text.as_bytes()).ok_or_else(|| {
        Error::new(ErrorKind::LimitExceeded, "the distinct texts of a query take more than 4 GiB")
    })
}
