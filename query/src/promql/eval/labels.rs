//! Functions over labels: `label_replace`, `label_join`, `sort_by_label`.

use std::cmp::Ordering;

use super::super::ast::Expr;
use super::super::pattern::{Pattern, compile};
use super::super::value::NAME_LABEL;
use super::series::{Series, join_equal};
use super::{Evaluator, Grid, Value};
use crate::budget::Patterns;
use crate::{Error, ErrorKind, Result};

impl Evaluator<'_> {
    /// `label_replace(v, dst, replacement, src, regex)`.
    pub(super) fn label_replace(&self, args: &[Expr], grid: &Grid) -> Result<Value> {
        let [vector, target, replacement, source, pattern] = args else {
            return Err(Error::new(ErrorKind::InvalidInput, "label_replace takes five arguments"));
        };
        let (target, source) = (self.label_name(target, "destination")?, self.string(source)?);
        let (replacement, pattern) = (self.string(replacement)?, self.string(pattern)?);
        let mut patterns = Patterns::default();
        // Only groups need a regular expression where texts are asked for.
        let compiled = match replacement.contains('$') {
            true => compile(&mut patterns, &pattern).map(Pattern::Regex),
            false => Pattern::compile(&mut patterns, &pattern),
        };
        let compiled = compiled.map_err(|error| {
            let message = format!("invalid regular expression in label_replace(): {pattern:?}: {error}");
            Error::new(ErrorKind::Execution, message)
        })?;
        let replaced = |value: &str| match &compiled {
            Pattern::OneOf(_) => compiled.is_match(value).then(|| replacement.clone()),
            Pattern::Regex(regex) => regex.captures(value).map(|captures| {
                let mut value = String::new();
                captures.expand(&replacement, &mut value);
                value
            }),
        };
        let mut series = self.vector(vector, grid)?;
        for one in &mut series {
            let Some(value) = replaced(one.labels.get(&source)) else { continue };
            set_label(one, &target, &value);
            self.context.budget.charge_bytes(one.labels.memory_bytes())?;
        }
        join_equal(series).map(Value::Vector)
    }

    /// `label_join(v, dst, separator, src…)`.
    pub(super) fn label_join(&self, args: &[Expr], grid: &Grid) -> Result<Value> {
        let [vector, target, separator, sources @ ..] = args else {
            return Err(Error::new(ErrorKind::InvalidInput, "label_join takes at least three arguments"));
        };
        let (target, separator) = (self.label_name(target, "destination")?, self.string(separator)?);
        let sources: Vec<String> = sources.iter().map(|source| self.string(source)).collect::<Result<_>>()?;
        let mut series = self.vector(vector, grid)?;
        for one in &mut series {
            let values: Vec<&str> = sources.iter().map(|source| one.labels.get(source)).collect();
            let value = values.join(&separator);
            set_label(one, &target, &value);
            self.context.budget.charge_bytes(one.labels.memory_bytes())?;
        }
        join_equal(series).map(Value::Vector)
    }

    /// Orders an instant vector by the labels named, numbers within them by value, then by all labels.
    pub(super) fn sort_by_label(
        &self,
        vector: &Expr,
        labels: &[Expr],
        is_descending: bool,
        grid: &Grid,
    ) -> Result<Value> {
        let labels: Vec<String> = labels.iter().map(|label| self.string(label)).collect::<Result<_>>()?;
        let mut series = self.vector(vector, grid)?;
        series.sort_by(|a, b| {
            let by_label = labels.iter().map(|label| natural(a.labels.get(label), b.labels.get(label)));
            let order = by_label.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
            if is_descending { order.reverse() } else { order }
        });
        Ok(Value::Vector(series))
    }

    fn label_name(&self, expr: &Expr, role: &str) -> Result<String> {
        let name = self.string(expr)?;
        if name.is_empty() {
            let message = format!("invalid {role} label name in label function: {name:?}");
            return Err(Error::new(ErrorKind::Execution, message));
        }
        Ok(name)
    }
}

fn set_label(series: &mut Series, name: &str, value: &str) {
    series.labels = series.labels.with(name, value);
    if name == NAME_LABEL {
        series.drops_name = false;
    }
}

/// Compares texts so that runs of digits count by value: `a2` before `a10`.
fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        let (Some(a), Some(b)) = (left.chars().next(), right.chars().next()) else {
            return left.len().cmp(&right.len());
        };
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (a, a_rest) = digits(left);
            let (b, b_rest) = digits(right);
            let order = a.len().cmp(&b.len()).then_with(|| a.cmp(b));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (a_rest, b_rest);
        } else if a != b {
            return a.cmp(&b);
        } else {
            left = left.get(a.len_utf8()..).unwrap_or_default();
            right = right.get(b.len_utf8()..).unwrap_or_default();
        }
    }
}

/// The leading run of digits without its zeros in front, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (run, rest) = text.split_at_checked(len).unwrap_or((text, ""));
    (run.trim_start_matches('0'), rest)
}
