//! Operators: what two samples make, and between scalars and vectors. Two vectors meet in [`matching`](super::matching).

use std::sync::Arc;

use super::super::ast::{Binary, BinaryOp, Expr};
use super::super::value::Sample;
use super::series::{Series, series_bytes};
use super::{Evaluator, Grid, Value};
use crate::{Error, Result};

/// The value with its sign changed.
pub(super) fn negate(value: Value) -> Value {
    match value {
        Value::Scalar(values) => Value::Scalar(values.into_iter().map(|value| -value).collect()),
        Value::Vector(mut series) => {
            for one in &mut series {
                one.drops_name = true;
                for point in one.points.iter_mut().flatten() {
                    *point = match point {
                        Sample::Float(value) => Sample::Float(-*value),
                        Sample::Histogram(hist) => Sample::Histogram(Arc::new(hist.scaled(-1.0))),
                    };
                }
            }
            Value::Vector(series)
        }
        Value::Text(text) => Value::Text(text),
    }
}

/// Arithmetic on floats; comparisons give 1 and 0.
fn calculate(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |is_true: bool| f64::from(u8::from(is_true));
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::LessEqual => truth(left <= right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}

/// What two samples make; `Err` when the operator is not defined between them.
fn operate(op: BinaryOp, left: &Sample, right: &Sample) -> std::result::Result<Sample, ()> {
    let hist = |value| Ok(Sample::Histogram(Arc::new(value)));
    match (left, right) {
        (Sample::Float(left), Sample::Float(right)) => Ok(Sample::Float(calculate(op, *left, *right))),
        (Sample::Histogram(left), Sample::Histogram(right)) => match op {
            BinaryOp::Add | BinaryOp::Sub => {
                let mut sum = (**left).clone();
                sum.add(right, if op == BinaryOp::Add { 1.0 } else { -1.0 });
                hist(sum)
            }
            BinaryOp::Equal => Ok(Sample::Float(f64::from(u8::from(left == right)))),
            BinaryOp::NotEqual => Ok(Sample::Float(f64::from(u8::from(left != right)))),
            _ => Err(()),
        },
        (Sample::Histogram(left), Sample::Float(right)) => match op {
            BinaryOp::Mul => hist(left.scaled(*right)),
            BinaryOp::Div => hist(left.scaled(1.0 / *right)),
            _ => Err(()),
        },
        (Sample::Float(left), Sample::Histogram(right)) if op == BinaryOp::Mul => hist(right.scaled(*left)),
        (Sample::Float(_), Sample::Histogram(_)) => Err(()),
    }
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, expr: &Expr, binary: &Binary, grid: &Grid) -> Result<Value> {
        let left = self.eval(&binary.left, grid)?;
        let right = self.eval(&binary.right, grid)?;
        self.context.budget.check_time()?;
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                Ok(Value::Scalar(pairs.map(|(left, right)| calculate(binary.op, left, right)).collect()))
            }
            (Value::Vector(series), Value::Scalar(scalar)) => {
                Ok(Value::Vector(self.with_scalar(expr, binary, series, &scalar, false)))
            }
            (Value::Scalar(scalar), Value::Vector(series)) => {
                Ok(Value::Vector(self.with_scalar(expr, binary, series, &scalar, true)))
            }
            (Value::Vector(left), Value::Vector(right)) if binary.op.is_set() => {
                self.charge_signatures(&left, &right)?;
                Ok(Value::Vector(super::matching::set_operation(binary, left, right)))
            }
            (Value::Vector(left), Value::Vector(right)) => {
                self.charge_signatures(&left, &right)?;
                self.join(expr, binary, left, right, grid).map(Value::Vector)
            }
            (Value::Text(_), _) | (_, Value::Text(_)) => {
                Err(Error::at(self.text, expr.start, "strings have no operators"))
            }
        }
    }

    /// Charges the maps in which two vectors meet.
    fn charge_signatures(&self, left: &[Series], right: &[Series]) -> Result<()> {
        self.context.budget.charge_bytes((left.len() + right.len()) as u64 * series_bytes(0))
    }

    /// What the samples of two operands make; `None` where a comparison fails or the operator is not defined.
    pub(super) fn pair(&self, expr: &Expr, binary: &Binary, left: &Sample, right: &Sample) -> Option<Sample> {
        match operate(binary.op, left, right) {
            Ok(result) if !binary.is_filter() => Some(result),
            Ok(Sample::Float(truth)) if truth != 0.0 => Some(left.clone()),
            Ok(_) => None,
            Err(()) => {
                let kind = |sample: &Sample| if sample.float().is_some() { "float" } else { "histogram" };
                let (sign, left, right) = (binary.op.sign(), kind(left), kind(right));
                let message = "incompatible sample types encountered for binary operator";
                self.info(expr, format!("{message} {sign:?}: {left} {sign} {right}"));
                None
            }
        }
    }

    fn with_scalar(
        &self,
        expr: &Expr,
        binary: &Binary,
        mut series: Vec<Series>,
        scalar: &[f64],
        is_scalar_left: bool,
    ) -> Vec<Series> {
        for one in &mut series {
            one.drops_name |= !binary.is_filter();
            for (point, scalar) in one.points.iter_mut().zip(scalar) {
                let Some(sample) = point.take() else { continue };
                *point = self.point_with_scalar(expr, binary, sample, *scalar, is_scalar_left);
            }
        }
        series.retain(|series| !series.is_empty());
        series
    }

    /// What an operator makes of a sample and a scalar.
    pub(super) fn point_with_scalar(
        &self,
        expr: &Expr,
        binary: &Binary,
        sample: Sample,
        scalar: f64,
        is_scalar_left: bool,
    ) -> Option<Sample> {
        let scalar = Sample::Float(scalar);
        let (left, right) = if is_scalar_left { (&scalar, &sample) } else { (&sample, &scalar) };
        // A comparison that holds keeps the vector's sample, on whichever side it stands.
        let found = self.pair(expr, binary, left, right)?;
        Some(if binary.is_filter() { sample } else { found })
    }
}
