//! Tokens to tree, by precedence climbing.
//!
//! Order of events: lex all of the text, build the tree, check its types. Nesting (brackets, signs, powers) is
//! bounded by [`NESTING_MAX`] and the height of the tree, which long chains of operators make, by [`HEIGHT_MAX`];
//! so no text can overflow the stack here, in the walks over the tree, or when it is dropped.
//!
//! [`selector`] holds the part about selectors and their modifiers, [`duration`] that about durations.
#![warn(clippy::indexing_slicing)]

mod duration;
mod selector;

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Cardinality, Edge, Expr, ExprKind, Fill, Matching, Selector,
};
use super::check::check;
use super::functions;
use super::lexer::{Spanned, Token, lex};
use crate::budget::Patterns;
use crate::{Error, ErrorKind, Limits, Result};

/// How deep brackets, calls, signs and powers may nest.
const NESTING_MAX: usize = 64;
/// How high the tree may be; a chain of operators adds one for each.
const HEIGHT_MAX: usize = 256;
/// Words that are no names in messages.
const KEYWORDS: [&str; 16] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "smoothed",
    "anchored",
    "start",
    "end",
    "step",
    "range",
    "fill",
    "fill_left",
];
/// Strength of the operators that bind a sign's operand: only `^` binds more than a sign.
const SIGN_STRENGTH: u8 = 6;

/// Reads an expression and checks its types.
///
/// # Errors
/// `InvalidInput` with line and column.
pub fn parse(text: &str) -> Result<Expr> {
    let mut parser = Parser::new(text);
    if *parser.peek() == Token::End {
        let message = "no expression found in input";
        return Err(match text.is_empty() {
            true => {
                let message = format!("unknown position: parse error: {message}");
                Error::new(ErrorKind::InvalidInput, message)
            }
            false => Error::at(text, 0, message),
        });
    }
    let expr = parser.expression(0)?;
    parser.expect_end()?;
    check(text, &expr)?;
    Ok(expr)
}

/// Reads one selector without range and modifiers, as `match[]` has it.
///
/// # Errors
/// `InvalidInput` with line and column, or for a text longer than the default limit of queries.
pub fn parse_selector(text: &str) -> Result<Selector> {
    let max = Limits::default().text_bytes_max;
    if max < text.len() {
        let message = format!(
            "selector has {} bytes, more than {max} are not allowed (limit text_bytes_max)",
            text.len()
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    let mut parser = Parser::new(text);
    let expr = parser.primary()?;
    parser.expect_end()?;
    match expr.kind {
        ExprKind::Selector(selector) => Ok(selector),
        _ => Err(Error::at(text, expr.start, "expected a series selector")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    nesting: usize,
    /// Whether a selector need not leave anything out.
    allows_any: bool,
    patterns: Patterns,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let patterns = Patterns::default();
        Self { text, tokens: lex(text), at: 0, nesting: 0, allows_any: false, patterns }
    }

    // Expressions.

    /// Reads operators at least as strong as `strength_min`.
    fn expression(&mut self, strength_min: u8) -> Result<Expr> {
        let mut left = self.operand()?;
        while let Some(op) = self.peek_operator().filter(|op| op.strength() >= strength_min) {
            self.at += 1;
            left = self.operation(left, op)?;
        }
        Ok(left)
    }

    fn peek_operator(&self) -> Option<BinaryOp> {
        match self.peek() {
            Token::Sign(sign) => BinaryOp::from_sign(sign),
            Token::Name(name) => BinaryOp::from_sign(name),
            _ => None,
        }
    }

    fn operation(&mut self, left: Expr, op: BinaryOp) -> Result<Expr> {
        let is_bool = self.take_word("bool");
        if is_bool && !op.is_comparison() {
            return Err(self.error_before("bool modifier can only be used on comparison operators"));
        }
        let matching = self.matching(op)?;
        let right = if op == BinaryOp::Pow {
            self.nested(|parser| parser.expression(op.strength()))?
        } else {
            self.expression(op.strength() + 1)?
        };
        let (start, end, height) = (left.start, right.end, left.height.max(right.height));
        let kind = ExprKind::Binary(Box::new(Binary { op, is_bool, matching, left, right }));
        self.node(kind, start, end, height)
    }

    fn matching(&mut self, op: BinaryOp) -> Result<Matching> {
        let mut matching = Matching::default();
        if self.take_word("on") {
            matching.is_on = true;
        } else if !self.take_word("ignoring") {
            matching.fill = self.fill(op)?;
            return Ok(matching);
        }
        matching.labels = self.labels()?;
        if self.take_word("group_left") {
            matching.cardinality = Cardinality::ManyToOne;
        } else if self.take_word("group_right") {
            matching.cardinality = Cardinality::OneToMany;
        }
        if matching.cardinality != Cardinality::OneToOne {
            if op.is_set() {
                let sign = op.sign();
                return Err(self.error_before(format!("no grouping allowed for {sign:?} operation")));
            }
            if *self.peek() == Token::Sign("(") {
                matching.include = self.labels()?;
            }
            let twice = matching.include.iter().find(|label| matching.labels.contains(label));
            if let Some(label) = twice.filter(|_| matching.is_on) {
                let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
                return Err(self.error_before(message));
            }
        }
        matching.fill = self.fill(op)?;
        Ok(matching)
    }

    /// `fill (0)`, or `fill_left (0)` and `fill_right (0)` in any order.
    fn fill(&mut self, op: BinaryOp) -> Result<Fill> {
        let mut fill = Fill::default();
        while let Token::Name(word) = self.peek().clone() {
            let is = |name: &str| word.eq_ignore_ascii_case(name);
            let is_free = match word.as_str() {
                _ if *self.peek_after() != Token::Sign("(") => false,
                _ if is("fill") => fill.is_empty(),
                _ if is("fill_left") => fill.left.is_none(),
                _ if is("fill_right") => fill.right.is_none(),
                _ => false,
            };
            if !is_free {
                return Ok(fill);
            }
            if op.is_set() {
                return Err(Error::at(
                    self.text,
                    self.start(),
                    "filling in missing series not allowed for set operators",
                ));
            }
            self.at += 2;
            let value = self.fill_value()?;
            self.expect(")", "in fill modifier")?;
            if !is("fill_right") {
                fill.left = Some(value);
            }
            if !is("fill_left") {
                fill.right = Some(value);
            }
            if is("fill") {
                return Ok(fill);
            }
        }
        Ok(fill)
    }

    fn fill_value(&mut self) -> Result<f64> {
        let is_minus = self.take_sign("-");
        if !is_minus {
            self.take_sign("+");
        }
        let value = match self.peek() {
            Token::Number(value) => *value,
            Token::Duration(nanos) => *nanos as f64 / 1e9,
            _ => return Err(self.unexpected("in fill modifier, expected number")),
        };
        self.at += 1;
        Ok(if is_minus { -value } else { value })
    }

    /// A sign with its operand, or a primary expression with its modifiers.
    fn operand(&mut self) -> Result<Expr> {
        let start = self.start();
        let is_minus = match self.peek() {
            Token::Sign("-") => true,
            Token::Sign("+") => false,
            _ => return self.modified(),
        };
        self.at += 1;
        let expr = self.nested(|parser| parser.expression(SIGN_STRENGTH))?;
        let (end, height) = (expr.end, expr.height);
        if let ExprKind::Number { value, is_duration } = expr.kind {
            let kind = ExprKind::Number { value: if is_minus { -value } else { value }, is_duration };
            return self.node(kind, start, end, 0);
        }
        self.node(ExprKind::Unary { is_minus, expr: Box::new(expr) }, start, end, height)
    }

    fn modified(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        loop {
            match self.peek() {
                Token::Sign("[") => expr = self.bracket(expr)?,
                Token::Sign("@") => self.at_modifier(&mut expr)?,
                Token::Name(word) if word.eq_ignore_ascii_case("offset") => {
                    self.offset_modifier(&mut expr)?
                }
                Token::Name(word) if word.eq_ignore_ascii_case("smoothed") => {
                    self.edge_modifier(&mut expr, Edge::Smoothed)?
                }
                Token::Name(word) if word.eq_ignore_ascii_case("anchored") => {
                    self.edge_modifier(&mut expr, Edge::Anchored)?
                }
                _ => return Ok(expr),
            }
            expr.end = self.end_before();
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        let start = self.start();
        let kind = match self.peek().clone() {
            Token::Number(value) => {
                self.at += 1;
                ExprKind::Number { value, is_duration: false }
            }
            Token::Duration(nanos) => {
                self.at += 1;
                ExprKind::Number { value: nanos as f64 / 1e9, is_duration: true }
            }
            Token::Text(text) => {
                self.at += 1;
                ExprKind::Text(text)
            }
            Token::Bytes(bytes) => {
                self.at += 1;
                ExprKind::Bytes(bytes)
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.nested(|parser| parser.expression(0))?;
                self.expect(")", "")?;
                let height = inner.height;
                return self.node(ExprKind::Paren(Box::new(inner)), start, self.end_before(), height);
            }
            Token::Sign("{") => ExprKind::Selector(self.selector(None)?),
            Token::Name(name) => return self.named(start, name),
            Token::Sign(_) | Token::Bad(_) | Token::End => return Err(self.unexpected("")),
        };
        self.node(kind, start, self.end_before(), 0)
    }

    /// What begins with a name: an aggregation, a call or a selector.
    fn named(&mut self, start: usize, name: String) -> Result<Expr> {
        let is_call = *self.peek_after() == Token::Sign("(");
        let has_clause = matches!(self.peek_after(), Token::Name(word)
            if word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"));
        if let Some(op) = AggregateOp::from_name(&name).filter(|_| is_call || has_clause) {
            self.at += 1;
            return self.aggregate(start, op);
        }
        if !is_call {
            self.at += 1;
            let kind = ExprKind::Selector(self.selector(Some(name))?);
            return self.node(kind, start, self.end_before(), 0);
        }
        let Some(function) = functions::find(&name) else {
            return Err(Error::at(self.text, start, format!("unknown function with name {name:?}")));
        };
        self.at += 1;
        let args = self.arguments(function.name == "info")?;
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0);
        self.node(ExprKind::Call { name: function.name, args }, start, self.end_before(), height)
    }

    fn aggregate(&mut self, start: usize, op: AggregateOp) -> Result<Expr> {
        let mut clause = self.grouping()?;
        let args_start = self.start();
        let args = self.arguments(false)?;
        if clause.is_none() {
            clause = self.grouping()?;
        }
        let (is_without, grouping) = clause.unwrap_or_default();
        let wanted = if op.parameter().is_some() { 2 } else { 1 };
        let found = args.len();
        if found == 0 {
            return Err(Error::at(self.text, args_start, "no arguments for aggregate expression provided"));
        }
        if found != wanted {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {found}"
            );
            return Err(Error::at(self.text, args_start, message));
        }
        let height = args.iter().map(|arg| arg.height).max().unwrap_or(0);
        let mut args = args.into_iter();
        let parameter = if wanted == 2 { args.next() } else { None };
        let Some(expr) = args.next() else { return Err(self.unexpected("in aggregation")) };
        let kind = ExprKind::Aggregate(Box::new(Aggregate { op, is_without, grouping, parameter, expr }));
        self.node(kind, start, self.end_before(), height)
    }

    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>> {
        let is_without = self.take_word("without");
        if !is_without && !self.take_word("by") {
            return Ok(None);
        }
        Ok(Some((is_without, self.labels()?)))
    }

    /// Arguments in parentheses. The second one of `info` may be a selector that everything passes.
    fn arguments(&mut self, is_info: bool) -> Result<Vec<Expr>> {
        self.expect("(", "")?;
        let mut args = Vec::new();
        while !self.take_sign(")") {
            let outer = std::mem::replace(&mut self.allows_any, is_info && args.len() == 1);
            args.push(self.nested(|parser| parser.expression(0))?);
            self.allows_any = outer;
            let comma = self.start();
            if !self.take_sign(",") {
                self.expect(")", "")?;
                break;
            }
            if *self.peek() == Token::Sign(")") {
                let message = "trailing commas not allowed in function call args";
                return Err(Error::at(self.text, comma, message));
            }
        }
        Ok(args)
    }

    /// `(label, "label", …)`.
    fn labels(&mut self) -> Result<Vec<String>> {
        self.expect("(", "in grouping opts")?;
        let mut labels = Vec::new();
        while !self.take_sign(")") {
            match self.peek().clone() {
                Token::Name(label) if !label.contains(':') => labels.push(label),
                Token::Text(label) if !label.is_empty() => labels.push(label),
                _ => return Err(self.unexpected("in grouping opts, expected label")),
            }
            self.at += 1;
            if !self.take_sign(",") {
                if *self.peek() != Token::Sign(")") {
                    return Err(self.unexpected("in grouping opts, expected \",\" or \")\""));
                }
                self.at += 1;
                break;
            }
        }
        Ok(labels)
    }

    // Tokens, places and bounds.

    /// Runs a step one level deeper.
    fn nested<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting >= NESTING_MAX {
            return Err(self.too_deep(self.start(), NESTING_MAX, "levels of nesting"));
        }
        self.nesting += 1;
        let found = step(self);
        self.nesting -= 1;
        found
    }

    fn node(&self, kind: ExprKind, start: usize, end: usize, height_below: usize) -> Result<Expr> {
        let height = height_below + 1;
        if height > HEIGHT_MAX {
            return Err(self.too_deep(start, HEIGHT_MAX, "operations on one another"));
        }
        Ok(Expr { kind, start, end, height })
    }

    fn too_deep(&self, start: usize, max: usize, what: &str) -> Error {
        Error::at(self.text, start, format!("expression has more than {max} {what}"))
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn peek_after(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn start(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |spanned| spanned.start)
    }

    /// Where the token before the current one ends.
    fn end_before(&self) -> usize {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |spanned| spanned.end)
    }

    fn slice(&self, at: usize) -> String {
        let range = self.tokens.get(at).map_or(0..0, |spanned| spanned.start..spanned.end);
        self.text.get(range).unwrap_or_default().to_owned()
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is_there);
        is_there
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Name(found) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, sign: &str, place: &str) -> Result<()> {
        if self.take_sign(sign) {
            return Ok(());
        }
        let expected = if place.is_empty() { String::new() } else { format!("{place}, expected {sign:?}") };
        Err(self.unexpected(&expected))
    }

    /// The current token, as Prometheus names it in messages.
    fn description(&self) -> String {
        let text = self.slice(self.at);
        let short = || {
            let cut: String = text.chars().take(10).collect();
            if cut.len() < text.len() { format!("{cut:?}...") } else { format!("{text:?}") }
        };
        match self.peek() {
            Token::End | Token::Bad(_) => "end of input".to_owned(),
            Token::Number(_) => format!("number {}", short()),
            Token::Duration(_) => format!("duration {}", short()),
            Token::Text(_) | Token::Bytes(_) => format!("string {}", short()),
            Token::Sign("(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "=") => format!("{text:?}"),
            Token::Sign(_) => format!("<op:{text}>"),
            Token::Name(name) if BinaryOp::from_sign(name).is_some() => format!("<op:{text}>"),
            Token::Name(name) if AggregateOp::from_name(name).is_some() => format!("<aggr:{text}>"),
            Token::Name(name) if KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name)) => {
                format!("<{text}>")
            }
            Token::Name(_) if text.contains(':') => format!("metric identifier {text:?}"),
            Token::Name(_) => format!("identifier {text:?}"),
        }
    }

    fn expect_end(&self) -> Result<()> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("")) }
    }

    fn unexpected(&self, place: &str) -> Error {
        if let Token::Bad(why) = self.peek() {
            return Error::at(self.text, self.start(), why);
        }
        let space = if place.is_empty() { "" } else { " " };
        let found = self.description();
        Error::at(self.text, self.start(), format!("unexpected {found}{space}{place}"))
    }

    /// An error at the token just read.
    fn error_before(&self, message: impl std::fmt::Display) -> Error {
        let start =
            self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(0, |spanned| spanned.start);
        Error::at(self.text, start, message)
    }
}
