//! Expressions, by precedence: OR, AND, NOT, comparisons, sums, products, signs.

use super::{NESTING_MAX, Parser};
use crate::Result;
use crate::select::ast::{Argument, Arith, Call, Compare, Expr, Function, Name, NameKind};
use crate::select::token::Token;

/// Functions that InfluxQL or icecore's plans have and this version does not.
const FUNCTIONS_UNSUPPORTED: [&str; 41] = [
    "top",
    "bottom",
    "sample",
    "derivative",
    "non_negative_derivative",
    "difference",
    "non_negative_difference",
    "moving_average",
    "cumulative_sum",
    "elapsed",
    "integral",
    "holt_winters",
    "holt_winters_with_fit",
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "ceil",
    "cos",
    "exp",
    "floor",
    "histogram",
    "ln",
    "log",
    "log2",
    "log10",
    "pow",
    "round",
    "sin",
    "sqrt",
    "tan",
    "exponential_moving_average",
    "chande_momentum_oscillator",
    "fraction_le",
    "apdex",
    "uptime",
    "downtime",
    "burn_rate",
    "cast",
    "tz",
];

/// An operator between two operands.
enum Infix {
    Any,
    All,
    Compare(Compare),
    Match,
    In,
    Arith(Arith),
}

const LEVEL_OR: u8 = 1;
const LEVEL_AND: u8 = 2;
const LEVEL_NOT: u8 = 3;
const LEVEL_COMPARE: u8 = 4;
const LEVEL_SUM: u8 = 5;
const LEVEL_PRODUCT: u8 = 6;

impl Parser<'_> {
    /// An expression of operators that bind at least as tightly as `level`.
    pub(super) fn expression(&mut self, level: u8) -> Result<Expr> {
        let mut left = self.operand()?;
        let mut has_compared = false;
        while let Some((infix, infix_level)) = self.infix() {
            if infix_level < level {
                break;
            }
            if infix_level == LEVEL_COMPARE && std::mem::replace(&mut has_compared, true) {
                return Err(self.fail(self.offset(), "comparisons cannot be chained; join them with AND"));
            }
            left = self.joined(left, &infix, infix_level)?;
        }
        Ok(left)
    }

    /// The operator under the cursor and its level.
    fn infix(&self) -> Option<(Infix, u8)> {
        let symbol = match self.peek() {
            Token::Symbol(symbol) => *symbol,
            Token::Word(word) => return self.infix_word(word),
            _ => return None,
        };
        Some(match symbol {
            "=" => (Infix::Compare(Compare::Eq), LEVEL_COMPARE),
            "!=" | "<>" => (Infix::Compare(Compare::Ne), LEVEL_COMPARE),
            "<" => (Infix::Compare(Compare::Lt), LEVEL_COMPARE),
            "<=" => (Infix::Compare(Compare::Le), LEVEL_COMPARE),
            ">" => (Infix::Compare(Compare::Gt), LEVEL_COMPARE),
            ">=" => (Infix::Compare(Compare::Ge), LEVEL_COMPARE),
            "=~" | "!~" => (Infix::Match, LEVEL_COMPARE),
            "+" => (Infix::Arith(Arith::Add), LEVEL_SUM),
            "-" => (Infix::Arith(Arith::Sub), LEVEL_SUM),
            "*" => (Infix::Arith(Arith::Mul), LEVEL_PRODUCT),
            "/" => (Infix::Arith(Arith::Div), LEVEL_PRODUCT),
            "%" => (Infix::Arith(Arith::Rem), LEVEL_PRODUCT),
            _ => return None,
        })
    }

    fn infix_word(&self, word: &str) -> Option<(Infix, u8)> {
        match &*word.to_lowercase() {
            "or" => Some((Infix::Any, LEVEL_OR)),
            "and" => Some((Infix::All, LEVEL_AND)),
            "in" => Some((Infix::In, LEVEL_COMPARE)),
            "not" if self.at_word_after(1, "in") => Some((Infix::In, LEVEL_COMPARE)),
            _ => None,
        }
    }

    /// Takes the operator and its right side. Chains of one level become one list.
    fn joined(&mut self, left: Expr, infix: &Infix, level: u8) -> Result<Expr> {
        match infix {
            Infix::In => return self.in_list(left),
            Infix::Match => return self.matches(left),
            Infix::Any | Infix::All | Infix::Compare(_) | Infix::Arith(_) => {}
        }
        self.place += 1;
        let right = self.expression(level + 1)?;
        Ok(match infix {
            Infix::Any => Expr::Any(match left {
                Expr::Any(parts) => appended(parts, right),
                other => vec![other, right],
            }),
            Infix::All => Expr::All(match left {
                Expr::All(parts) => appended(parts, right),
                other => vec![other, right],
            }),
            Infix::Arith(op) => arith_chain(left, *op, right, level),
            Infix::Compare(op) => Expr::Compare { op: *op, left: Box::new(left), right: Box::new(right) },
            Infix::In | Infix::Match => right,
        })
    }

    fn matches(&mut self, left: Expr) -> Result<Expr> {
        let is_negated = self.at_symbol("!~");
        self.place += 1;
        match self.eat_regex()? {
            Some(regex) => Ok(Expr::Match { left: Box::new(left), regex, is_negated }),
            None => Err(self.unexpected("a regular expression between slashes")),
        }
    }

    fn in_list(&mut self, left: Expr) -> Result<Expr> {
        let is_negated = self.eat_word("not");
        self.expect_word("in")?;
        self.expect_symbol("(")?;
        if self.at_word("select") {
            return Err(self.unsupported(self.offset(), "a subquery"));
        }
        let mut list = Vec::new();
        loop {
            let offset = self.offset();
            let entry = self.operand()?;
            if !matches!(entry, Expr::Text(_) | Expr::Integer(_) | Expr::Float(_) | Expr::Bool(_)) {
                return Err(self.fail(offset, "IN takes a list of strings, numbers or booleans"));
            }
            list.push(entry);
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        Ok(Expr::In { left: Box::new(left), list, is_negated })
    }

    fn operand(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(self.fail(self.offset(), format!("expression is nested deeper than {NESTING_MAX}")));
        }
        let operand = self.operand_inside();
        self.depth -= 1;
        operand
    }

    fn operand_inside(&mut self) -> Result<Expr> {
        if self.eat_symbol("(") {
            if self.at_word("select") {
                return Err(self.unsupported(self.offset(), "a subquery"));
            }
            let inner = self.expression(0)?;
            self.expect_symbol(")")?;
            return Ok(inner);
        }
        if self.eat_symbol("-") {
            return Ok(negated(self.operand()?));
        }
        if self.eat_symbol("+") {
            return self.operand();
        }
        if self.eat_word("not") {
            return Ok(Expr::Not(Box::new(self.expression(LEVEL_NOT)?)));
        }
        if self.eat_symbol("*") {
            let kind = self.name_kind()?;
            return Ok(Expr::Wildcard(kind));
        }
        if let Some(regex) = self.eat_regex()? {
            return Ok(Expr::Regex(regex));
        }
        self.literal_or_name()
    }

    fn literal_or_name(&mut self) -> Result<Expr> {
        let literal = match self.peek() {
            Token::Text(text) => Expr::Text(text.clone()),
            Token::Integer(value) => Expr::Integer(*value),
            Token::Float(value) => Expr::Float(*value),
            Token::Duration(value) => Expr::Duration(*value),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Expr::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Expr::Bool(false),
            Token::Word(word) if word.eq_ignore_ascii_case("case") => {
                return Err(self.unsupported(self.offset(), "CASE"));
            }
            Token::Word(word) if matches!(self.peek_after(1), Token::Symbol("(")) => return self.call(word),
            Token::Word(word) if word.eq_ignore_ascii_case("distinct") => {
                let is_name = matches!(self.peek_after(1), Token::Word(_) | Token::Quoted(_));
                if is_name && !self.at_word_after(1, "from") {
                    return self.distinct_word();
                }
                return Ok(Expr::Name(self.reference()?));
            }
            _ => return Ok(Expr::Name(self.reference()?)),
        };
        self.place += 1;
        Ok(literal)
    }

    /// `DISTINCT f`, the form without parentheses.
    fn distinct_word(&mut self) -> Result<Expr> {
        self.place += 1;
        let argument = Argument::Name(self.reference()?);
        Ok(Expr::Call(Call { function: Function::Distinct, name: "distinct".to_owned(), argument }))
    }

    /// A name, perhaps with `::tag` or `::field`.
    fn reference(&mut self) -> Result<Name> {
        let is_quoted = matches!(self.peek(), Token::Quoted(_));
        let text = self.name("a field, a tag, a value or a function")?;
        let kind = self.name_kind()?;
        Ok(Name { text, kind, is_quoted })
    }

    fn name_kind(&mut self) -> Result<NameKind> {
        if !self.eat_symbol("::") {
            return Ok(NameKind::Any);
        }
        if self.eat_word("tag") {
            return Ok(NameKind::Tag);
        }
        let types = ["field", "float", "integer", "unsigned", "string", "boolean"];
        if types.iter().any(|name| self.eat_word(name)) {
            return Ok(NameKind::Field);
        }
        Err(self.unexpected("tag, field or a type after `::`"))
    }

    fn call(&mut self, word: &str) -> Result<Expr> {
        let offset = self.offset();
        let name = word.to_lowercase();
        if FUNCTIONS_UNSUPPORTED.contains(&&*name) {
            return Err(self.unsupported(offset, format!("function {name}()")));
        }
        if name != "now" && function(&name).is_none() {
            return Err(match super::is_reserved(word) {
                true => self.unexpected("a field, a tag, a value or a function"),
                false => self.fail(offset, format!("unknown function {name}()")),
            });
        }
        self.place += 2;
        let Some(mut function) = function(&name) else {
            self.expect_symbol(")")?;
            return Ok(Expr::Now);
        };
        let argument = self.argument(&name, &mut function)?;
        if name == "percentile" {
            function = Function::Quantile(self.percent()?);
        }
        if self.at_symbol(",") {
            return Err(self.fail(self.offset(), format!("too many arguments of {name}()")));
        }
        self.expect_symbol(")")?;
        Ok(Expr::Call(Call { function, name, argument }))
    }

    /// The field that a function is taken of; `count(distinct(f))` changes the function.
    fn argument(&mut self, name: &str, function: &mut Function) -> Result<Argument> {
        let offset = self.offset();
        if self.at_symbol(")") {
            return Err(self.fail(offset, format!("{name}() needs a field, such as {name}(value)")));
        }
        let argument = match self.operand()? {
            Expr::Name(name) => Argument::Name(name),
            Expr::Wildcard(_) => Argument::Wildcard,
            Expr::Regex(regex) => Argument::Regex(regex),
            Expr::Call(call) if call.function == Function::Distinct && *function == Function::Count => {
                *function = Function::CountDistinct;
                call.argument
            }
            Expr::Call(call) => {
                return Err(self.unsupported(offset, format!("{}() inside {name}()", call.name)));
            }
            _ => return Err(self.fail(offset, format!("{name}() takes the name of a field"))),
        };
        if self.infix().is_some_and(|(_, level)| level >= LEVEL_SUM) {
            return Err(self.fail(offset, format!("{name}() takes the name of a field, not a calculation")));
        }
        Ok(argument)
    }

    /// The second argument of percentile, as a share.
    fn percent(&mut self) -> Result<f64> {
        if !self.eat_symbol(",") {
            return Err(
                self.fail(self.offset(), "percentile() needs a number from 0 to 100: percentile(field, 99)")
            );
        }
        let percent = match self.peek() {
            Token::Integer(value) => *value as f64,
            Token::Float(value) => *value,
            _ => return Err(self.unexpected("a number from 0 to 100")),
        };
        if !(0.0..=100.0).contains(&percent) {
            return Err(self.fail(self.offset(), "percentile() takes a number from 0 to 100"));
        }
        self.place += 1;
        Ok(percent / 100.0)
    }
}

fn function(name: &str) -> Option<Function> {
    Some(match name {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "mean" => Function::Mean,
        "min" => Function::Min,
        "max" => Function::Max,
        "first" => Function::First,
        "last" => Function::Last,
        "spread" => Function::Spread,
        "stddev" => Function::Stddev,
        "median" | "p50" | "percentile" => Function::Quantile(0.5),
        "p95" => Function::Quantile(0.95),
        "p99" => Function::Quantile(0.99),
        "mode" => Function::Mode,
        "distinct" => Function::Distinct,
        "uniq" => Function::Uniq,
        _ => return None,
    })
}

fn appended(mut parts: Vec<Expr>, part: Expr) -> Vec<Expr> {
    parts.push(part);
    parts
}

/// Joins to a chain of the same level; `(a - b) - c` and `a - b - c` mean the same.
fn arith_chain(left: Expr, op: Arith, right: Expr, level: u8) -> Expr {
    let level_of = |op: Arith| match op {
        Arith::Add | Arith::Sub => LEVEL_SUM,
        Arith::Mul | Arith::Div | Arith::Rem => LEVEL_PRODUCT,
    };
    match left {
        Expr::Arith { first, mut rest } if rest.iter().all(|(other, _)| level_of(*other) == level) => {
            rest.push((op, right));
            Expr::Arith { first, rest }
        }
        other => Expr::Arith { first: Box::new(other), rest: vec![(op, right)] },
    }
}

fn negated(operand: Expr) -> Expr {
    match operand {
        Expr::Integer(value) if value != i64::MIN => Expr::Integer(-value),
        Expr::Float(value) => Expr::Float(-value),
        Expr::Duration(value) => Expr::Duration(value.saturating_neg()),
        other => Expr::Arith { first: Box::new(Expr::Integer(-1)), rest: vec![(Arith::Mul, other)] },
    }
}
