//! Operators: what two samples make, and between scalars and vectors. Two vectors meet in [`matching`](super::matching).

use std::sync::Arc;

use super::super::ast::{Binary, BinaryOp, Expr};
use super::super::functions::native::{Doing, Remark, remarks_of};
use super::super::histogram::Side;
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
        BinaryOp::TrimAbove | BinaryOp::TrimBelow | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
            f64::NAN
        }
    }
}

/// Why two samples make nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The operator is not defined between them.
    Types,
    /// One histogram has bounds of its own and the other has not.
    Layouts,
}

/// What two samples make, and what is to be said of it.
fn operate(
    op: BinaryOp,
    left: &Sample,
    right: &Sample,
    remarks: &mut Vec<Remark>,
) -> std::result::Result<Sample, Refusal> {
    let hist = |value| Ok(Sample::Histogram(Arc::new(value)));
    let truth = |is_true: bool| Ok(Sample::Float(f64::from(u8::from(is_true))));
    match (left, right) {
        (Sample::Float(_), Sample::Float(_)) if op.is_trim() => Err(Refusal::Types),
        (Sample::Float(left), Sample::Float(right)) => Ok(Sample::Float(calculate(op, *left, *right))),
        (Sample::Histogram(left), Sample::Histogram(right)) => {
            let (combined, doing) = match op {
                BinaryOp::Add => (left.plus(right), Doing::Addition),
                BinaryOp::Sub => (left.minus(right), Doing::Subtraction),
                BinaryOp::Equal => return truth(left.equals(right)),
                BinaryOp::NotEqual => return truth(!left.equals(right)),
                _ => return Err(Refusal::Types),
            };
            let combined = combined.ok_or(Refusal::Layouts)?;
            remarks.extend(remarks_of(&combined, doing));
            hist(combined.value)
        }
        (Sample::Histogram(left), Sample::Float(right)) => match op {
            BinaryOp::Mul => hist(left.scaled(*right)),
            BinaryOp::Div => hist(left.divided(*right)),
            BinaryOp::TrimAbove => hist(left.trimmed(Side::Below, *right)),
            BinaryOp::TrimBelow => hist(left.trimmed(Side::Above, *right)),
            _ => Err(Refusal::Types),
        },
        (Sample::Float(left), Sample::Histogram(right)) if op == BinaryOp::Mul => hist(right.scaled(*left)),
        (Sample::Float(_), Sample::Histogram(_)) => Err(Refusal::Types),
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
        if let (Sample::Float(left_value), Sample::Float(right_value), false) =
            (left, right, binary.op.is_trim())
        {
            let result = calculate(binary.op, *left_value, *right_value);
            return match binary.is_filter() {
                true => (result != 0.0).then(|| left.clone()),
                false => Some(Sample::Float(result)),
            };
        }
        self.pair_with_histogram(expr, binary, left, right)
    }

    fn pair_with_histogram(
        &self,
        expr: &Expr,
        binary: &Binary,
        left: &Sample,
        right: &Sample,
    ) -> Option<Sample> {
        let mut remarks = Vec::new();
        let found = operate(binary.op, left, right, &mut remarks);
        remarks.into_iter().for_each(|remark| self.remark(expr, "", remark));
        let sign = binary.op.sign();
        match found {
            Ok(result) if !binary.is_filter() => Some(result),
            Ok(Sample::Float(truth)) if truth != 0.0 => Some(left.clone()),
            Ok(_) => None,
            Err(Refusal::Layouts) => {
                self.warn(expr, format!("incompatible bucket layout encountered for binary operator {sign}"));
                None
            }
            Err(Refusal::Types) => {
                let kind = |sample: &Sample| if sample.float().is_some() { "float" } else { "histogram" };
                let (left, right) = (kind(left), kind(right));
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
            one.drops_name |= !binary.keeps_name();
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
