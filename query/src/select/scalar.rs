//! Single values: the cells of a result, and the borrowed values that conditions and arithmetic work on.
//!
//! Integers compare and calculate exactly; a result that is no number (division by zero, overflow to infinity) is
//! null. A comparison with null is false.

use std::cmp::Ordering;

use icecore_storage::model::ValueRef;

use super::ast::{Arith, Compare};

/// One value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// A time, nanoseconds since the epoch.
    Time(i64),
    /// A float.
    Float(f64),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A boolean.
    Bool(bool),
    /// A text.
    Text(String),
}

/// What a row of an answer takes beside its texts: its list, with a time and so many columns, and all of that once more
/// as JSON.
pub(crate) fn row_bytes(columns: usize) -> u64 {
    (64 + (columns + 1) * 2 * size_of::<Cell>()) as u64
}

impl Cell {
    /// An estimate of the memory it takes beside its own place, and of its text in JSON.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match self {
            Self::Text(text) => 2 * text.len() as u64 + 16,
            _ => 0,
        }
    }

    /// The value without its text's ownership.
    pub(crate) fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Null => Scalar::Null,
            Self::Time(value) | Self::Int(value) => Scalar::Int(*value),
            Self::Float(value) => Scalar::Float(*value),
            Self::UInt(value) => Scalar::UInt(*value),
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Text(value) => Scalar::Text(value),
        }
    }
}

/// A value that borrows its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Text(&'a str),
}

impl<'a> From<ValueRef<'a>> for Scalar<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Float(value) => Self::Float(value),
            ValueRef::Int(value) => Self::Int(value),
            ValueRef::UInt(value) => Self::UInt(value),
            ValueRef::Bool(value) => Self::Bool(value),
            ValueRef::Str(value) | ValueRef::Escaped(value) => Self::Text(value),
        }
    }
}

impl Scalar<'_> {
    /// The value with a text of its own.
    pub(crate) fn to_cell(self) -> Cell {
        match self {
            Self::Null => Cell::Null,
            Self::Float(value) => Cell::Float(value),
            Self::Int(value) => Cell::Int(value),
            Self::UInt(value) => Cell::UInt(value),
            Self::Bool(value) => Cell::Bool(value),
            Self::Text(value) => Cell::Text(value.to_owned()),
        }
    }

    fn integer(self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(value)),
            Self::UInt(value) => Some(i128::from(value)),
            Self::Null | Self::Float(_) | Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// As a float; `None` for what is no number.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(value),
            Self::Int(value) => Some(value as f64),
            Self::UInt(value) => Some(value as f64),
            Self::Null | Self::Bool(_) | Self::Text(_) => None,
        }
    }

    /// Order of two values of comparable kinds; `None` for kinds that do not compare, null and NaN.
    pub(crate) fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => Some(left.cmp(right)),
            (Self::Bool(left), Self::Bool(right)) => Some(left.cmp(&right)),
            _ => match (self.integer(), other.integer()) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => self.number()?.partial_cmp(&other.number()?),
            },
        }
    }
}

/// Whether a comparison holds. Values of different kinds are never equal, different or ordered.
pub(crate) fn compare(op: Compare, left: Scalar<'_>, right: Scalar<'_>) -> bool {
    let Some(order) = left.order(right) else { return false };
    match op {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    }
}

/// Calculates. Integers stay integers but for division and where the result does not fit; null, texts, booleans
/// and results that are not finite give null.
pub(crate) fn arith<'a>(op: Arith, left: Scalar<'_>, right: Scalar<'_>) -> Scalar<'a> {
    if let (Some(a), Some(b)) = (left.integer(), right.integer()) {
        let exact = match op {
            Arith::Add => a.checked_add(b),
            Arith::Sub => a.checked_sub(b),
            Arith::Mul => a.checked_mul(b),
            Arith::Rem => match b {
                0 => return Scalar::Null,
                _ => a.checked_rem(b),
            },
            Arith::Div => None,
        };
        let both_unsigned = matches!((left, right), (Scalar::UInt(_), Scalar::UInt(_)));
        if let Some(cell) = exact.and_then(|exact| fit(exact, both_unsigned)) {
            return cell;
        }
    }
    let (Some(a), Some(b)) = (left.number(), right.number()) else { return Scalar::Null };
    let result = match op {
        Arith::Add => a + b,
        Arith::Sub => a - b,
        Arith::Mul => a * b,
        Arith::Div => a / b,
        Arith::Rem => a % b,
    };
    if result.is_finite() { Scalar::Float(result) } else { Scalar::Null }
}

/// An exact integer in the type it fits, unsigned only where asked or needed.
fn fit<'a>(exact: i128, prefer_unsigned: bool) -> Option<Scalar<'a>> {
    let unsigned = u64::try_from(exact).ok().map(Scalar::UInt);
    let signed = i64::try_from(exact).ok().map(Scalar::Int);
    if prefer_unsigned { unsigned.or(signed) } else { signed.or(unsigned) }
}

/// A total order for sorting: booleans, numbers with NaN behind them, texts.
pub(crate) fn order_cells(left: &Cell, right: &Cell) -> Ordering {
    let rank = |scalar: Scalar<'_>| match scalar {
        Scalar::Bool(_) => 0,
        Scalar::Float(value) if value.is_nan() => 2,
        Scalar::Float(_) | Scalar::Int(_) | Scalar::UInt(_) => 1,
        Scalar::Text(_) => 3,
        Scalar::Null => 4,
    };
    let (left, right) = (left.scalar(), right.scalar());
    rank(left).cmp(&rank(right)).then_with(|| left.order(right).unwrap_or(Ordering::Equal))
}
