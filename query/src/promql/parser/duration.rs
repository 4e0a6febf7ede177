//! Durations in brackets and offsets, with their arithmetic.
#![warn(clippy::indexing_slicing)]

use super::super::ast::BinaryOp;
use super::super::duration::{Duration, DurationKind};
use super::super::lexer::Token;
use super::super::number::seconds_to_ns;
use super::{HEIGHT_MAX, Parser};
use crate::{Error, Result};

/// What is expected where a duration must stand.
const EXPECTED: &str = "expected number, duration, step(), or range()";

impl Parser<'_> {
    /// The duration of a range or step: a literal in nanoseconds, or one that waits for the query.
    pub(super) fn positive_duration(&mut self) -> Result<(i64, Option<Duration>)> {
        let found = self.duration(0, "in subquery or range selector")?;
        if let DurationKind::Literal { seconds, .. } = found.kind {
            if seconds <= 0.0 {
                return Err(Error::at(self.text, found.start, "duration must be greater than 0"));
            }
            return Ok((self.literal_ns(&found, seconds)?, None));
        }
        Ok((0, Some(found)))
    }

    /// The duration of an offset: arithmetic needs parentheses there.
    pub(super) fn offset_duration(&mut self) -> Result<(i64, Option<Duration>)> {
        let found = self.signed_duration("in offset")?;
        if let DurationKind::Literal { seconds, .. } = found.kind {
            return Ok((self.literal_ns(&found, seconds)?, None));
        }
        Ok((0, Some(found)))
    }

    fn literal_ns(&self, found: &Duration, seconds: f64) -> Result<i64> {
        seconds_to_ns(seconds).ok_or_else(|| Error::at(self.text, found.start, "duration out of range"))
    }

    fn duration(&mut self, strength_min: u8, place: &str) -> Result<Duration> {
        let mut left = self.signed_duration(place)?;
        loop {
            let Token::Sign(sign @ ("+" | "-" | "*" | "/" | "%" | "^")) = *self.peek() else {
                return Ok(left);
            };
            let Some(op) = BinaryOp::from_sign(sign).filter(|op| op.strength() >= strength_min) else {
                return Ok(left);
            };
            self.at += 1;
            let right = if op == BinaryOp::Pow {
                self.nested(|parser| parser.duration(op.strength(), place))?
            } else {
                self.duration(op.strength() + 1, place)?
            };
            if let DurationKind::Literal { seconds: 0.0, .. } = right.kind {
                let message = match op {
                    BinaryOp::Div => Some("division by zero"),
                    BinaryOp::Mod => Some("modulo by zero"),
                    _ => None,
                };
                if let Some(message) = message {
                    return Err(Error::at(self.text, right.start, message));
                }
            }
            let (start, end, below) = (left.start, right.end, left.height.max(right.height));
            left =
                self.duration_node(DurationKind::Binary(op, Box::new((left, right))), (start, end), below)?;
        }
    }

    /// A literal, a call or parentheses, with the sign before it. A sign binds as `*`, so less than `^`.
    fn signed_duration(&mut self, place: &str) -> Result<Duration> {
        let start = self.start();
        let is_minus = match self.peek() {
            Token::Sign("-") => true,
            Token::Sign("+") => false,
            _ => return self.duration_primary(place),
        };
        self.at += 1;
        let is_offset = place == "in offset";
        let inner = self.nested(|parser| match is_offset {
            true => parser.duration_primary(place),
            false => parser.duration(BinaryOp::Pow.strength(), place),
        })?;
        let (end, below) = (inner.end, inner.height);
        match inner.kind {
            DurationKind::Literal { seconds, has_unit } => {
                let seconds = if is_minus { -seconds } else { seconds };
                self.duration_node(DurationKind::Literal { seconds, has_unit }, (start, end), 0)
            }
            _ if is_minus => self.duration_node(DurationKind::Minus(Box::new(inner)), (start, end), below),
            _ => Ok(inner),
        }
    }

    fn duration_primary(&mut self, place: &str) -> Result<Duration> {
        let start = self.start();
        let mut below = 0;
        let kind = match self.peek().clone() {
            Token::Number(seconds) => {
                self.at += 1;
                DurationKind::Literal { seconds, has_unit: false }
            }
            Token::Duration(nanos) => {
                self.at += 1;
                DurationKind::Literal { seconds: nanos as f64 / 1e9, has_unit: true }
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.nested(|parser| parser.duration(0, place))?;
                self.expect(")", place)?;
                below = inner.height;
                DurationKind::Paren(Box::new(inner))
            }
            Token::Name(word) => {
                let kind = self.duration_call(&word, place)?;
                if let DurationKind::Choice { sides, .. } = &kind {
                    below = sides.0.height.max(sides.1.height);
                }
                kind
            }
            _ => return Err(self.unexpected(&format!("{place}, {EXPECTED}"))),
        };
        let end = self.end_before();
        self.duration_node(kind, (start, end), below)
    }

    fn duration_call(&mut self, word: &str, place: &str) -> Result<DurationKind> {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        let choice = ["min_of", "max_of", "min", "max"].into_iter().find(|name| is(name));
        if choice.is_none() && !is("step") && !is("range") {
            return Err(self.unexpected(&format!("{place}, {EXPECTED}")));
        }
        self.at += 1;
        self.expect("(", place)?;
        let kind = match choice {
            Some(choice) => {
                let left = self.nested(|parser| parser.duration(0, place))?;
                self.expect(",", place)?;
                let right = self.nested(|parser| parser.duration(0, place))?;
                let is_max = choice.starts_with("max");
                DurationKind::Choice { word: choice, is_max, sides: Box::new((left, right)) }
            }
            None if is("step") => DurationKind::Step,
            None => DurationKind::Range,
        };
        self.expect(")", place)?;
        Ok(kind)
    }

    fn duration_node(
        &self,
        kind: DurationKind,
        (start, end): (usize, usize),
        below: usize,
    ) -> Result<Duration> {
        let height = below + 1;
        if height > HEIGHT_MAX {
            return Err(self.too_deep(start, HEIGHT_MAX, "operations on one another"));
        }
        Ok(Duration { kind, start, end, height })
    }
}
