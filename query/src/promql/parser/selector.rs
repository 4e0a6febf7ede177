//! Selectors and what may follow them: matchers, ranges, `offset` and `@`.
#![warn(clippy::indexing_slicing)]

use super::super::ast::{At, Computed, Edge, Expr, ExprKind, MatchOp, Matcher, Selector, Shift};
use super::super::lexer::Token;
use super::super::number::seconds_to_ns;
use super::super::pattern::Pattern;
use super::Parser;
use crate::{Error, Result};

impl Parser<'_> {
    pub(super) fn selector(&mut self, name: Option<String>) -> Result<Selector> {
        let (start, has_plain_name) = (self.start(), name.is_some());
        let mut selector = Selector { name, ..Selector::default() };
        if self.take_sign("{") {
            while !self.take_sign("}") {
                self.matcher(&mut selector)?;
                if !self.take_sign(",") {
                    self.expect("}", "in label matching, expected \",\" or \"}\"")?;
                    break;
                }
            }
        }
        // Before the braces a name stands alone; within them it may be narrowed by patterns.
        let is_name = |matcher: &&Matcher| {
            matcher.label == "__name__" && (has_plain_name || matcher.op == MatchOp::Equal)
        };
        let given = selector.name.iter();
        let mut names = given.chain(selector.matchers.iter().filter(is_name).map(|matcher| &matcher.value));
        if let (Some(name), Some(other)) = (names.next(), names.next()) {
            let message = format!("metric name must not be set twice: {name:?} or {other:?}");
            return Err(Error::at(self.text, start, message));
        }
        let is_telling = |matcher: &Matcher| matcher.label != "__stat__" && !matcher.accepts("");
        let is_any = selector.name.is_none() && !selector.matchers.iter().any(is_telling);
        if is_any && !self.allows_any {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(Error::at(self.text, start, message));
        }
        Ok(selector)
    }

    /// One matcher in braces, or the quoted metric name.
    fn matcher(&mut self, selector: &mut Selector) -> Result<()> {
        let (start, first) = (self.start(), self.peek().clone());
        let (label, is_quoted) = match first {
            Token::Name(label) => (label, false),
            Token::Text(label) => (label, true),
            _ => return Err(self.unexpected("in label matching, expected identifier or \"}\"")),
        };
        self.at += 1;
        let op = match self.peek() {
            Token::Sign("=") => MatchOp::Equal,
            Token::Sign("!=") => MatchOp::NotEqual,
            Token::Sign("=~") => MatchOp::Regex,
            Token::Sign("!~") => MatchOp::NotRegex,
            _ if is_quoted => {
                if let Some(name) = &selector.name {
                    let message = format!("metric name must not be set twice: {name:?} or {label:?}");
                    return Err(Error::at(self.text, start, message));
                }
                selector.name = Some(label);
                return Ok(());
            }
            _ => return Err(self.unexpected("in label matching, expected label matching operator")),
        };
        self.at += 1;
        let value_start = self.start();
        let Token::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("in label matching, expected string"));
        };
        self.at += 1;
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                let pattern = Pattern::compile(&mut self.patterns, &value);
                Some(pattern.map_err(|error| Error::at(self.text, value_start, error))?)
            }
        };
        selector.matchers.push(Matcher { label, op, value, pattern });
        Ok(())
    }

    /// `[range]` or `[range:step]` after an expression.
    pub(super) fn bracket(&mut self, expr: Expr) -> Result<Expr> {
        self.at += 1;
        let (range_ns, range) = self.positive_duration()?;
        let (start, height) = (expr.start, expr.height);
        let kind = if self.take_sign(":") {
            let step = if *self.peek() == Token::Sign("]") { None } else { Some(self.positive_duration()?) };
            let (step_ns, step) = step.map_or((None, None), |(step_ns, step)| (Some(step_ns), step));
            let is_waiting = range.is_some() || step.is_some();
            let computed = is_waiting.then(|| Box::new(Computed { range, step, offset: None }));
            let shift = Shift::default();
            ExprKind::Subquery { expr: Box::new(expr), range_ns, step_ns, shift, computed }
        } else {
            match expr.kind {
                ExprKind::Selector(selector) if selector.edge != Edge::Inside => {
                    let message = format!("no {} modifiers allowed before range", selector.edge.word());
                    return Err(Error::at(self.text, start, message));
                }
                ExprKind::Selector(mut selector)
                    if selector.shift == Shift::default() && selector.computed.is_none() =>
                {
                    selector.computed =
                        range.map(|range| Box::new(Computed { range: Some(range), ..Computed::default() }));
                    ExprKind::Range { selector, range_ns }
                }
                ExprKind::Selector(selector) => {
                    let word = if selector.shift.at.is_some() { "@" } else { "offset" };
                    let message = format!("no {word} modifiers allowed before range");
                    return Err(Error::at(self.text, start, message));
                }
                _ => return Err(Error::at(self.text, start, "ranges only allowed for vector selectors")),
            }
        };
        self.expect("]", "in range")?;
        self.node(kind, start, self.end_before(), height)
    }

    pub(super) fn offset_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        let start = self.start();
        self.at += 1;
        let (offset_ns, offset) = self.offset_duration()?;
        let Some((shift, computed)) = shift_of(expr) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector \
                           selector or a subquery";
            return Err(Error::at(self.text, start, message));
        };
        if shift.offset_ns != 0 || computed.as_ref().is_some_and(|computed| computed.offset.is_some()) {
            return Err(Error::at(self.text, start, "offset may not be set multiple times"));
        }
        shift.offset_ns = offset_ns;
        if offset.is_some() {
            Computed::of(computed).offset = offset;
        }
        Ok(())
    }

    /// `anchored` and `smoothed`.
    pub(super) fn edge_modifier(&mut self, expr: &mut Expr, edge: Edge) -> Result<()> {
        let start = self.start();
        self.at += 1;
        let word = edge.word();
        let (ExprKind::Selector(selector) | ExprKind::Range { selector, .. }) = &mut expr.kind else {
            let message = format!("{word} modifier must be preceded by an instant or range vector selector");
            return Err(Error::at(self.text, start, message));
        };
        if selector.edge != Edge::Inside {
            let message = "anchored and smoothed may be set only once";
            return Err(Error::at(self.text, start, message));
        }
        selector.edge = edge;
        Ok(())
    }

    pub(super) fn at_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        let start = self.start();
        self.at += 1;
        let at = self.at_time()?;
        let Some((shift, _)) = shift_of(expr) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                           or a subquery";
            return Err(Error::at(self.text, start, message));
        };
        if shift.at.is_some() {
            return Err(Error::at(self.text, start, "@ <timestamp> may not be set multiple times"));
        }
        shift.at = Some(at);
        Ok(())
    }

    fn at_time(&mut self) -> Result<At> {
        let word = match self.peek() {
            Token::Name(word) if word.eq_ignore_ascii_case("start") => Some(At::Start),
            Token::Name(word) if word.eq_ignore_ascii_case("end") => Some(At::End),
            _ => None,
        };
        if let Some(at) = word {
            self.at += 1;
            self.expect("(", "in @ modifier")?;
            self.expect(")", "in @ modifier")?;
            return Ok(at);
        }
        let is_minus = self.take_sign("-");
        if !is_minus {
            self.take_sign("+");
        }
        let nanos = match self.peek() {
            Token::Number(seconds) => seconds_to_ns(*seconds),
            Token::Duration(nanos) => Some(*nanos),
            _ => return Err(self.unexpected("in @, expected timestamp")),
        };
        let Some(nanos) = nanos else {
            let sign = if is_minus { "-" } else { "" };
            let message = format!("timestamp out of bounds for @ modifier: {sign}{}", self.slice(self.at));
            return Err(Error::at(self.text, self.start(), message));
        };
        self.at += 1;
        Ok(At::Time(if is_minus { -nanos } else { nanos }))
    }
}

/// Where a selector or subquery looks, and what of that waits for the query.
fn shift_of(expr: &mut Expr) -> Option<(&mut Shift, &mut Option<Box<Computed>>)> {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => {
            Some((&mut selector.shift, &mut selector.computed))
        }
        ExprKind::Subquery { shift, computed, .. } => Some((shift, computed)),
        _ => None,
    }
}
