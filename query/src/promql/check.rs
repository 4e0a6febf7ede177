//! Types of expressions: what may be the operand or argument of what, as Prometheus has it.

use super::ast::{Aggregate, Binary, Edge, Expr, ExprKind, Selector, ValueType};
use super::functions::{self, Function};
use crate::{Error, Result};

/// The type of a checked expression.
pub(crate) fn type_of(expr: &Expr) -> ValueType {
    match &expr.kind {
        ExprKind::Number { .. } => ValueType::Scalar,
        ExprKind::Text(_) | ExprKind::Bytes(_) => ValueType::Text,
        ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
        ExprKind::Range { .. } | ExprKind::Subquery { .. } => ValueType::Matrix,
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => type_of(inner),
        ExprKind::Binary(binary) => match (type_of(&binary.left), type_of(&binary.right)) {
            (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
            _ => ValueType::Vector,
        },
        ExprKind::Call { name, .. } => functions::find(name).map_or(ValueType::Vector, |found| found.returns),
    }
}

impl Expr {
    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        type_of(self)
    }
}

/// Checks an expression and everything below it.
///
/// # Errors
/// `InvalidInput` at the expression that does not fit.
pub(crate) fn check(text: &str, expr: &Expr) -> Result<()> {
    match &expr.kind {
        ExprKind::Selector(selector) if selector.edge == Edge::Anchored => {
            Err(Error::at(text, expr.start, "anchored modifier can only be used with range selectors"))
        }
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Bytes(_)
        | ExprKind::Selector(_)
        | ExprKind::Range { .. } => Ok(()),
        ExprKind::Paren(inner) => check(text, inner),
        ExprKind::Unary { expr: inner, .. } => {
            check(text, inner)?;
            match type_of(inner) {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => Err(Error::at(
                    text,
                    expr.start,
                    format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got \
                         \"{other}\""
                    ),
                )),
            }
        }
        ExprKind::Subquery { expr: inner, .. } => {
            check(text, inner)?;
            match type_of(inner) {
                ValueType::Vector => Ok(()),
                other => {
                    let message = format!("subquery is only allowed on instant vector, got {other} instead");
                    Err(Error::at(text, inner.start, message))
                }
            }
        }
        ExprKind::Binary(binary) => check_binary(text, expr, binary),
        ExprKind::Aggregate(aggregate) => check_aggregate(text, aggregate),
        ExprKind::Call { name, args } => {
            for arg in args {
                check(text, arg)?;
            }
            match functions::find(name) {
                Some(function) => check_call(text, expr, function, args),
                None => Err(Error::at(text, expr.start, format!("unknown function with name {name:?}"))),
            }
        }
    }
}

fn check_binary(text: &str, expr: &Expr, binary: &Binary) -> Result<()> {
    check(text, &binary.left)?;
    check(text, &binary.right)?;
    let (left, right) = (type_of(&binary.left), type_of(&binary.right));
    for (side, found) in [(&binary.left, left), (&binary.right, right)] {
        if !matches!(found, ValueType::Scalar | ValueType::Vector) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Error::at(text, side.start, message));
        }
    }
    let has_scalar = left == ValueType::Scalar || right == ValueType::Scalar;
    if left == right && has_scalar && binary.op.is_comparison() && !binary.is_bool {
        return Err(Error::at(text, expr.start, "comparisons between scalars must use BOOL modifier"));
    }
    if left == right && has_scalar && binary.op.is_trim() {
        let message = format!("operator {:?} not allowed for Scalar operations", binary.op.sign());
        return Err(Error::at(text, expr.start, message));
    }
    if has_scalar && binary.op.is_set() {
        let sign = binary.op.sign();
        let message = format!("set operator {sign:?} not allowed in binary scalar expression");
        return Err(Error::at(text, expr.start, message));
    }
    if has_scalar && !binary.matching.fill.is_empty() {
        let message = "filling in missing series only allowed between instant vectors";
        return Err(Error::at(text, expr.start, message));
    }
    if has_scalar && !binary.matching.labels.is_empty() {
        return Err(Error::at(text, expr.start, "vector matching only allowed between instant vectors"));
    }
    Ok(())
}

fn check_aggregate(text: &str, aggregate: &Aggregate) -> Result<()> {
    check(text, &aggregate.expr)?;
    let found = type_of(&aggregate.expr);
    if found != ValueType::Vector {
        let message = format!("expected type instant vector in aggregation expression, got {found}");
        return Err(Error::at(text, aggregate.expr.start, message));
    }
    if let (Some(parameter), Some(wanted)) = (&aggregate.parameter, aggregate.op.parameter()) {
        check(text, parameter)?;
        let found = type_of(parameter);
        if found != wanted {
            let message = format!("expected type {wanted} in aggregation parameter, got {found}");
            return Err(Error::at(text, parameter.start, message));
        }
    }
    Ok(())
}

fn check_call(text: &str, expr: &Expr, function: &Function, args: &[Expr]) -> Result<()> {
    let name = function.name;
    let (most, found) = (function.args.len(), args.len());
    let least = most - function.optional;
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let message = if function.optional == 0 && found != least {
        Some(format!("expected {least} argument{} in call to {name:?}, got {found}", plural(least)))
    } else if found < least {
        Some(format!("expected at least {least} argument{} in call to {name:?}, got {found}", plural(least)))
    } else if found > most && !function.is_variadic {
        Some(format!("expected at most {most} argument{} in call to {name:?}, got {found}", plural(most)))
    } else {
        None
    };
    if let Some(message) = message {
        return Err(Error::at(text, expr.start, message));
    }
    for (index, arg) in args.iter().enumerate() {
        if let ExprKind::Range { selector: Selector { edge, .. }, .. } = &arg.unwrapped().kind
            && *edge != Edge::Inside
            && !edge.functions().contains(&name)
        {
            let (word, names) = (edge.word(), edge.functions().join(", "));
            let message = format!("{word} modifier can only be used with: {names} - not with {name}");
            return Err(Error::at(text, arg.start, message));
        }
        if name == "info" && index == 1 && type_of(arg) == ValueType::Vector {
            match &arg.unwrapped().kind {
                ExprKind::Selector(selector) if selector.name.is_none() => {}
                _ => {
                    let message = "expected label selectors only, got vector selector instead";
                    return Err(Error::at(text, arg.start, message));
                }
            }
        }
        let wanted = function.args.get(index).or(function.args.last());
        let found = type_of(arg);
        if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
            let message = format!("expected type {wanted} in call to function {name:?}, got {found}");
            return Err(Error::at(text, arg.start, message));
        }
    }
    Ok(())
}
