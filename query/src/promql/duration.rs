//! Arithmetic of durations in brackets and offsets: `[5m * 2]`, `offset -step()`. What a literal says is known when it is
//! read; all else waits for the step and the range of the query.

use std::fmt::{self, Display, Formatter};

use super::ast::{BinaryOp, Expr, ExprKind, Selector};
use super::number::{format_duration, format_float};
use crate::{Error, Result};

/// A duration that is computed, in seconds.
#[derive(Debug, Clone)]
pub struct Duration {
    /// What it is.
    pub kind: DurationKind,
    /// Its first byte in the text.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
    /// Nodes on the longest way down, bounded by the parser.
    pub(crate) height: usize,
}

/// What a node of a duration is.
#[derive(Debug, Clone)]
pub enum DurationKind {
    /// A number of seconds, as a number or as a duration.
    Literal {
        /// Seconds.
        seconds: f64,
        /// Whether it was written with units.
        has_unit: bool,
    },
    /// `step()`.
    Step,
    /// `range()`.
    Range,
    /// `min_of(a, b)`, `max_of(a, b)`.
    Choice {
        /// The word.
        word: &'static str,
        /// Whether the larger one counts.
        is_max: bool,
        /// Both.
        sides: Box<(Duration, Duration)>,
    },
    /// `-a`.
    Minus(Box<Duration>),
    /// `a op b`.
    Binary(BinaryOp, Box<(Duration, Duration)>),
    /// `(a)`.
    Paren(Box<Duration>),
}

/// Durations of a selector or subquery that wait for the query.
#[derive(Debug, Clone, Default)]
pub struct Computed {
    /// The range.
    pub range: Option<Duration>,
    /// The step of a subquery.
    pub step: Option<Duration>,
    /// The offset.
    pub offset: Option<Duration>,
}

impl Computed {
    /// The place for what waits, made where there is none.
    pub(crate) fn of(place: &mut Option<Box<Self>>) -> &mut Self {
        place.get_or_insert_default()
    }
}

/// What a query says of its times, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryTimes {
    pub(crate) step: f64,
    pub(crate) range: f64,
}

impl Duration {
    /// Its nanoseconds, cut to milliseconds.
    fn resolve(&self, text: &str, times: QueryTimes) -> Result<i64> {
        let millis = self.seconds(text, times)? * 1000.0;
        // 9.2e12 milliseconds are 292 years, the reach of i64 nanoseconds.
        if millis.is_nan() || 9.2e12 <= millis.abs() {
            return Err(Error::at(text, self.start, "duration is out of range"));
        }
        Ok((millis as i64).saturating_mul(1_000_000))
    }

    fn positive(&self, text: &str, times: QueryTimes) -> Result<i64> {
        match self.resolve(text, times)? {
            nanos if nanos <= 0 => Err(Error::at(text, self.start, "duration must be greater than 0")),
            nanos => Ok(nanos),
        }
    }

    fn seconds(&self, text: &str, times: QueryTimes) -> Result<f64> {
        Ok(match &self.kind {
            DurationKind::Literal { seconds, .. } => *seconds,
            DurationKind::Step => times.step,
            DurationKind::Range => times.range,
            DurationKind::Choice { is_max, sides, .. } => {
                let (left, right) = (sides.0.seconds(text, times)?, sides.1.seconds(text, times)?);
                if *is_max { left.max(right) } else { left.min(right) }
            }
            DurationKind::Minus(inner) => -inner.seconds(text, times)?,
            DurationKind::Paren(inner) => inner.seconds(text, times)?,
            DurationKind::Binary(op, sides) => {
                let (left, right) = (sides.0.seconds(text, times)?, sides.1.seconds(text, times)?);
                match op {
                    BinaryOp::Add => left + right,
                    BinaryOp::Sub => left - right,
                    BinaryOp::Mul => left * right,
                    BinaryOp::Div if right == 0.0 => {
                        return Err(Error::at(text, self.start, "division by zero"));
                    }
                    BinaryOp::Div => left / right,
                    BinaryOp::Mod if right == 0.0 => {
                        return Err(Error::at(text, self.start, "modulo by zero"));
                    }
                    BinaryOp::Mod => left % right,
                    _ => left.powf(right),
                }
            }
        })
    }
}

impl Display for Duration {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Literal { seconds, has_unit: true } => {
                // Literals with units are whole milliseconds within the reach of i64.
                out.write_str(&format_duration(((seconds * 1e3).round() as i64).saturating_mul(1_000_000)))
            }
            DurationKind::Literal { seconds, has_unit: false } => out.write_str(&format_float(*seconds)),
            DurationKind::Step => out.write_str("step()"),
            DurationKind::Range => out.write_str("range()"),
            DurationKind::Choice { word, sides, .. } => write!(out, "{word}({}, {})", sides.0, sides.1),
            DurationKind::Minus(inner) => write!(out, "-{inner}"),
            DurationKind::Paren(inner) => write!(out, "({inner})"),
            DurationKind::Binary(op, sides) => write!(out, "{} {} {}", sides.0, op.sign(), sides.1),
        }
    }
}

/// Puts numbers to all durations of an expression that waited for the query.
///
/// # Errors
/// `InvalidInput` where one is not positive, out of range, or divides by zero.
pub(crate) fn resolve(text: &str, expr: &mut Expr, times: QueryTimes) -> Result<()> {
    match &mut expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Bytes(_) => Ok(()),
        ExprKind::Selector(selector) => resolve_offset(text, selector, times),
        ExprKind::Range { selector, range_ns } => {
            if let Some(range) = selector.computed.as_ref().and_then(|computed| computed.range.as_ref()) {
                *range_ns = range.positive(text, times)?;
            }
            resolve_offset(text, selector, times)
        }
        ExprKind::Subquery { expr, range_ns, step_ns, shift, computed } => {
            if let Some(computed) = computed {
                if let Some(range) = &computed.range {
                    *range_ns = range.positive(text, times)?;
                }
                if let Some(step) = &computed.step {
                    *step_ns = Some(step.positive(text, times)?);
                }
                if let Some(offset) = &computed.offset {
                    shift.offset_ns = offset.resolve(text, times)?;
                }
            }
            resolve(text, expr, times)
        }
        ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => resolve(text, inner, times),
        ExprKind::Binary(binary) => {
            resolve(text, &mut binary.left, times)?;
            resolve(text, &mut binary.right, times)
        }
        ExprKind::Aggregate(aggregate) => {
            aggregate.parameter.iter_mut().try_for_each(|parameter| resolve(text, parameter, times))?;
            resolve(text, &mut aggregate.expr, times)
        }
        ExprKind::Call { args, .. } => args.iter_mut().try_for_each(|arg| resolve(text, arg, times)),
    }
}

fn resolve_offset(text: &str, selector: &mut Selector, times: QueryTimes) -> Result<()> {
    if let Some(offset) = selector.computed.as_ref().and_then(|computed| computed.offset.as_ref()) {
        selector.shift.offset_ns = offset.resolve(text, times)?;
    }
    Ok(())
}
