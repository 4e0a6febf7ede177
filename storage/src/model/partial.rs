//! What a window of one field is pressed into: a mergeable partial aggregate.
//!
//! [`Stats`] is a monoid over time: merging the partials of neighbouring pieces of time, in order, gives the
//! partial of the whole, with counter resets and changes across the join counted. It is the same type in cells,
//! across tiers and in queries. A [`Partial`] is a `Stats` of the field's own number type, so that integers stay
//! exact.

use std::fmt::Debug;

use super::{Histogram, StatSet, TextStats, Uniques, ValueRef};

/// A number type of a field.
pub trait Number: Copy + PartialOrd + Default + Debug {
    /// Accumulator that sums without losing what the result can show.
    type Sum: Sum<Self>;
    /// Where the smallest of no numbers stands: any number takes its place.
    const START_OF_MIN: Self;
    /// Where the largest of no numbers stands.
    const START_OF_MAX: Self;
    /// The nearest float.
    fn to_f64(self) -> f64;
    /// The number as a value.
    fn value_ref(self) -> ValueRef<'static>;
}

/// An accumulator for sums.
pub trait Sum<N>: Copy + Default + PartialEq + Debug {
    /// Adds one value.
    fn add(&mut self, value: N);
    /// Adds another sum.
    fn merge(&mut self, other: Self);
    /// The sum as a float.
    fn to_f64(self) -> f64;
}

/// A float sum with its rounding error kept apart (Neumaier's variant of Kahan summation).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Compensated {
    /// The sum as rounded so far.
    pub sum: f64,
    /// What rounding has lost.
    pub rest: f64,
}

/// A sum on its way to [`Compensated`], bit for bit that of adding there where it is a number: Knuth's two-sum has the error
/// of each addition exactly, without a branch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TwoSum {
    sum: f64,
    rest: f64,
}

impl TwoSum {
    pub(crate) fn add(&mut self, number: f64) {
        let next = self.sum + number;
        let added = next - self.sum;
        self.rest += (self.sum - (next - added)) + (number - added);
        self.sum = next;
    }

    pub(crate) fn total(self) -> Compensated {
        Compensated { sum: self.sum, rest: if self.sum.is_finite() { self.rest } else { 0.0 } }
    }
}

impl Sum<f64> for Compensated {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.rest = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.rest += (self.sum - sum) + value;
        } else {
            self.rest += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.rest += other.rest;
    }

    fn to_f64(self) -> f64 {
        self.sum + self.rest
    }
}

macro_rules! integer_sum {
    ($($number:ty, $value:ident);*) => {
        $(impl Sum<$number> for i128 {
            fn add(&mut self, value: $number) {
                *self = self.saturating_add(Self::from(value));
            }

            fn merge(&mut self, other: Self) {
                *self = self.saturating_add(other);
            }

            fn to_f64(self) -> f64 {
                self as f64
            }
        }

        impl Number for $number {
            type Sum = i128;
            const START_OF_MIN: Self = <$number>::MAX;
            const START_OF_MAX: Self = <$number>::MIN;

            fn to_f64(self) -> f64 {
                self as f64
            }

            fn value_ref(self) -> ValueRef<'static> {
                ValueRef::$value(self)
            }
        })*
    };
}

integer_sum!(i64, Int; u64, UInt);

impl Number for f64 {
    type Sum = Compensated;
    const START_OF_MIN: Self = f64::NAN;
    const START_OF_MAX: Self = f64::NAN;

    fn to_f64(self) -> f64 {
        self
    }

    fn value_ref(self) -> ValueRef<'static> {
        ValueRef::Float(self)
    }
}

/// Partial aggregate of a field over a piece of time. With `count` 0 the other members have no meaning; nor have those,
/// but for the count, that were not among the groups asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats<N: Number> {
    /// Number of samples.
    pub count: u64,
    /// Sum of the values.
    pub sum: N::Sum,
    /// Smallest value; NaN only when all are NaN.
    pub min: N,
    /// Largest value; NaN only when all are NaN.
    pub max: N,
    /// Value of the earliest sample.
    pub first: N,
    /// Time of the earliest sample.
    pub first_ns: i64,
    /// Value of the latest sample.
    pub last: N,
    /// Time of the latest sample.
    pub last_ns: i64,
    /// Sum of the values just before each counter reset.
    pub reset_sum: Compensated,
    /// How often a value was smaller than the one before it.
    pub resets: u64,
    /// How often a value differed from the one before it.
    pub changes: u64,
    /// Mean of the values.
    pub mean: f64,
    /// Sum of the squared distances from the mean.
    pub m2: f64,
    /// Histogram of the values, where it was asked for.
    pub hist: Option<Box<Histogram>>,
    /// The distinct values, where they were asked for.
    pub uniques: Option<Box<Uniques>>,
}

impl<N: Number> Stats<N> {
    /// The partial of one sample.
    pub fn of(ts_ns: i64, value: N, wants: StatSet) -> Self {
        let mut stats = Self::default();
        stats.add(ts_ns, value, wants);
        stats
    }

    /// Adds a sample that is not earlier than those before it; histogram and sketch only where they are wanted.
    pub fn add(&mut self, ts_ns: i64, value: N, wants: StatSet) {
        if self.count == 0 {
            (self.first, self.first_ns, self.min, self.max) = (value, ts_ns, value, value);
        } else {
            self.join(value);
            self.min = lesser(self.min, value);
            self.max = greater(self.max, value);
        }
        self.count += 1;
        self.sum.add(value);
        (self.last, self.last_ns) = (value, ts_ns);
        let number = value.to_f64();
        let distance = number - self.mean;
        self.mean += distance / self.count as f64;
        self.m2 += distance * (number - self.mean);
        if wants.has(StatSet::HIST) {
            self.hist.get_or_insert_default().add(number);
        }
        if wants.has(StatSet::UNIQUES) {
            self.uniques.get_or_insert_default().add(value.value_ref());
        }
    }

    /// Adds the partial of a later piece of time.
    pub fn merge(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            let (hist, uniques) = (self.hist.take(), self.uniques.take());
            self.clone_from(later);
            self.hist = self.hist.take().or(hist);
            self.uniques = self.uniques.take().or(uniques);
            return;
        }
        self.join(later.first);
        self.resets += later.resets;
        self.changes += later.changes;
        self.reset_sum.merge(later.reset_sum);
        self.min = lesser(self.min, later.min);
        self.max = greater(self.max, later.max);
        (self.last, self.last_ns) = (later.last, later.last_ns);
        self.sum.merge(later.sum);
        let (left, right) = (self.count as f64, later.count as f64);
        let distance = later.mean - self.mean;
        self.mean += distance * (right / (left + right));
        self.m2 += later.m2 + distance * distance * (left * right / (left + right));
        self.count += later.count;
        if let Some(hist) = &later.hist {
            self.hist.get_or_insert_default().merge(hist);
        }
        if let Some(uniques) = &later.uniques {
            self.uniques.get_or_insert_default().merge(uniques.view());
        }
    }

    /// Forgets all samples but keeps the room of histogram and sketch.
    fn clear(&mut self) {
        let (mut hist, mut uniques) = (self.hist.take(), self.uniques.take());
        hist.iter_mut().for_each(|hist| hist.clear());
        uniques.iter_mut().for_each(|uniques| uniques.clear());
        *self = Self { hist, uniques, ..Self::default() };
    }

    /// Counts the step from the last sample to the next.
    fn join(&mut self, next: N) {
        if next < self.last {
            self.resets += 1;
            self.reset_sum.add(self.last.to_f64());
        }
        let both_nan = self.last.to_f64().is_nan() && next.to_f64().is_nan();
        if next != self.last && !both_nan {
            self.changes += 1;
        }
    }

    /// All members but the histogram as floats.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            count: self.count,
            sum: self.sum.to_f64(),
            min: self.min.to_f64(),
            max: self.max.to_f64(),
            first: self.first.to_f64(),
            first_ns: self.first_ns,
            last: self.last.to_f64(),
            last_ns: self.last_ns,
            reset_sum: self.reset_sum.to_f64(),
            resets: self.resets,
            changes: self.changes,
            mean: self.mean,
            m2: self.m2,
        }
    }
}

/// The smaller of two, ignoring NaN where the other is a number.
pub(crate) fn lesser<N: Number>(left: N, right: N) -> N {
    if right < left || left.to_f64().is_nan() { right } else { left }
}

/// The larger of two, ignoring NaN where the other is a number.
pub(crate) fn greater<N: Number>(left: N, right: N) -> N {
    if right > left || left.to_f64().is_nan() { right } else { left }
}

/// The mean of samples by their sum. Of equal values it is the value, although their rounded sum may
/// say otherwise; a sum that is no number comes of values that are none, which the range does not show.
pub(crate) fn mean_of<N: Number>(count: u64, sum: N::Sum, min: N, max: N) -> f64 {
    let (least, sum) = (min.to_f64(), sum.to_f64());
    if min == max && least.is_finite() && !sum.is_nan() { least } else { sum / count as f64 }
}

/// A partial as floats, as PromQL wants it. See [`Stats`] for the members.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the members are those of Stats, documented there")]
pub struct Numbers {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub first: f64,
    pub first_ns: i64,
    pub last: f64,
    pub last_ns: i64,
    pub reset_sum: f64,
    pub resets: u64,
    pub changes: u64,
    pub mean: f64,
    pub m2: f64,
}

/// Partial aggregate of a field in its own type. Booleans are unsigned 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Partial {
    /// Of a float field.
    Float(Stats<f64>),
    /// Of a signed integer field.
    Int(Stats<i64>),
    /// Of an unsigned integer or boolean field.
    UInt(Stats<u64>),
    /// Of a text field.
    Text(TextStats),
}

impl Partial {
    /// The empty partial for a field type.
    pub fn empty(field_type: super::FieldType) -> Self {
        use super::FieldType;
        match field_type {
            FieldType::Float => Self::Float(Stats::default()),
            FieldType::Int => Self::Int(Stats::default()),
            FieldType::UInt | FieldType::Bool => Self::UInt(Stats::default()),
            FieldType::Str => Self::Text(TextStats::default()),
        }
    }

    /// Makes it empty again, keeping the room of histogram and sketch.
    pub fn clear(&mut self) {
        match self {
            Self::Float(stats) => stats.clear(),
            Self::Int(stats) => stats.clear(),
            Self::UInt(stats) => stats.clear(),
            Self::Text(stats) => stats.clear(),
        }
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        match self {
            Self::Float(stats) => stats.count,
            Self::Int(stats) => stats.count,
            Self::UInt(stats) => stats.count,
            Self::Text(stats) => stats.count,
        }
    }

    /// Adds the partial of a later piece of time; partials of another type change nothing.
    pub fn merge(&mut self, later: &Self) {
        match (self, later) {
            (Self::Float(stats), Self::Float(later)) => stats.merge(later),
            (Self::Int(stats), Self::Int(later)) => stats.merge(later),
            (Self::UInt(stats), Self::UInt(later)) => stats.merge(later),
            (Self::Text(stats), Self::Text(later)) => stats.merge(later),
            _ => debug_assert!(false, "partials of one field have one type"),
        }
    }

    /// The members as floats; `None` when empty or text.
    pub fn numbers(&self) -> Option<Numbers> {
        if self.count() == 0 {
            return None;
        }
        match self {
            Self::Float(stats) => Some(stats.numbers()),
            Self::Int(stats) => Some(stats.numbers()),
            Self::UInt(stats) => Some(stats.numbers()),
            Self::Text(_) => None,
        }
    }

    /// The histogram, where it was asked for.
    pub fn histogram(&self) -> Option<&Histogram> {
        match self {
            Self::Float(stats) => stats.hist.as_deref(),
            Self::Int(stats) => stats.hist.as_deref(),
            Self::UInt(stats) => stats.hist.as_deref(),
            Self::Text(_) => None,
        }
    }

    /// The distinct values, where they were asked for.
    pub fn uniques(&self) -> Option<&Uniques> {
        match self {
            Self::Float(stats) => stats.uniques.as_deref(),
            Self::Int(stats) => stats.uniques.as_deref(),
            Self::UInt(stats) => stats.uniques.as_deref(),
            Self::Text(stats) => stats.uniques.as_deref(),
        }
    }

    /// Adds a raw sample that is not earlier than those before it; a value of another type changes nothing.
    pub fn add(&mut self, ts_ns: i64, value: ValueRef<'_>, wants: StatSet) {
        match (self, value) {
            (Self::Float(stats), ValueRef::Float(value)) => stats.add(ts_ns, value, wants),
            (Self::Int(stats), ValueRef::Int(value)) => stats.add(ts_ns, value, wants),
            (Self::UInt(stats), ValueRef::UInt(value)) => stats.add(ts_ns, value, wants),
            (Self::UInt(stats), ValueRef::Bool(value)) => stats.add(ts_ns, u64::from(value), wants),
            (Self::Text(stats), ValueRef::Str(text) | ValueRef::Escaped(text)) => {
                stats.add(ts_ns, text, wants)
            }
            _ => debug_assert!(false, "values of one field have one type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sum_is_what_adding_gives_to_the_last_bit() {
        let (inf, huge) = (f64::INFINITY, f64::MAX);
        let cases: [&[f64]; 7] = [
            &[],
            &[-0.0, 0.0],
            &[1e16, 1.0, -1e16, 0.1, 0.1, 0.1],
            &[0.1, 1e300, -1e300, 3.0],
            &[1.0, inf, 2.0],
            &[huge, huge, -huge],
            &[5e-324, 1e-310, -5e-324],
        ];
        for numbers in cases {
            let (mut direct, mut two) = (Compensated::default(), TwoSum::default());
            for number in numbers {
                direct.add(*number);
                two.add(*number);
            }
            let bits = |total: Compensated| (total.sum.to_bits(), total.rest.to_bits());
            assert_eq!(bits(two.total()), bits(direct), "{numbers:?}");
        }
    }
}
