//! Expressions, by precedence: OR, AND, NOT, comparisons, sums, products, signs.

use icecore_storage::model::SECOND_NS;

use super::{NESTING_MAX, Parser};
use crate::Result;
use crate::select::ast::{Argument, Arith, Call, Compare, Expr, Function, Math, Name, NameKind, Transform};
use crate::select::token::Token;

/// Functions that InfluxQL or icecore's plans have and this version does not.
const FUNCTIONS_UNSUPPORTED: [&str; 7] = [
    "holt_winters",
    "holt_winters_with_fit",
    "histogram",
    "exponential_moving_average",
    "chande_momentum_oscillator",
    "burn_rate",
    "cast",
];

/// An operator between two operands.
enum Infix {
    Any,
    All,
    Compare(Compare),
    Match,
    Like,
    In,
    Arith(Arith),
}

/// Values that a moving average is taken of, at most.
const VALUES_MAX: usize = 1_000;

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
            "like" => Some((Infix::Like, LEVEL_COMPARE)),
            "not" if self.at_word_after(1, "like") => Some((Infix::Like, LEVEL_COMPARE)),
            _ => None,
        }
    }

    /// Takes the operator and its right side. Chains of one level become one list.
    fn joined(&mut self, left: Expr, infix: &Infix, level: u8) -> Result<Expr> {
        match infix {
            Infix::In => return self.in_list(left),
            Infix::Match => return self.matches(left),
            Infix::Like => return self.like(left),
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
            Infix::In | Infix::Match | Infix::Like => right,
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

    /// `LIKE 'pattern'`: `%` stands for any text, `_` for one character, and a backslash takes their meaning away.
    fn like(&mut self, left: Expr) -> Result<Expr> {
        let is_negated = self.eat_word("not");
        self.expect_word("like")?;
        let offset = self.offset();
        let Token::Text(pattern) = self.peek() else { return Err(self.unexpected("a string after LIKE")) };
        self.place += 1;
        let mut regex = String::from("(?s)^");
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            match c {
                '%' => regex.push_str(".*"),
                '_' => regex.push('.'),
                '\\' => {
                    regex.push_str(&regex::escape(characters.next().unwrap_or('\\').encode_utf8(&mut [0; 4])))
                }
                other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        regex.push('$');
        let regex = self.patterns.compile(&regex).map_err(|error| self.fail(offset, error))?;
        Ok(Expr::Match { left: Box::new(left), regex, is_negated })
    }

    fn in_list(&mut self, left: Expr) -> Result<Expr> {
        let is_negated = self.eat_word("not");
        self.expect_word("in")?;
        self.expect_symbol("(")?;
        if self.at_word("select") {
            return Err(self.fail(self.offset(), "a subquery stands in FROM alone"));
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
                return Err(self.fail(self.offset(), "a subquery stands in FROM alone"));
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
        Ok(Expr::Call(Call {
            function: Function::Distinct,
            name: "distinct".to_owned(),
            argument,
            by: Vec::new(),
        }))
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
        if let Some((function, arguments)) = math(&name) {
            self.place += 2;
            return self.math(function, name, arguments);
        }
        if let Some(function) = transform(&name) {
            self.place += 2;
            return self.transform(function, name);
        }
        let Some(mut function) = function(&name) else {
            if name == "now" {
                self.place += 2;
                self.expect_symbol(")")?;
                return Ok(Expr::Now);
            }
            return Err(match super::is_reserved(word) {
                true => self.unexpected("a field, a tag, a value or a function"),
                false => self.fail(offset, format!("unknown function {name}()")),
            });
        };
        self.place += 2;
        let argument = self.argument(&name, &mut function)?;
        let mut by = Vec::new();
        match &mut function {
            Function::Quantile(share) if name == "percentile" => *share = self.percent()?,
            Function::Integral { unit_ns } => *unit_ns = self.unit(*unit_ns)?,
            Function::Uptime { alive_ns } | Function::Downtime { alive_ns } => {
                if !self.at_symbol(",") {
                    let message =
                        format!("{name}() needs the time that a row is good for: {name}(field, 90s)");
                    return Err(self.fail(self.offset(), message));
                }
                *alive_ns = self.unit(0)?;
            }
            Function::FractionLe(bound) | Function::Apdex(bound) => *bound = self.bound(&name)?,
            Function::Top(count) | Function::Bottom(count) | Function::Sample(count) => {
                (by, *count) = self.several(&name)?;
            }
            _ => {}
        }
        self.end_call(&name)?;
        Ok(Expr::Call(Call { function, name, argument, by }))
    }

    fn end_call(&mut self, name: &str) -> Result<()> {
        if self.at_symbol(",") {
            return Err(self.fail(self.offset(), format!("too many arguments of {name}()")));
        }
        self.expect_symbol(")")
    }

    /// The arguments of a function of numbers.
    fn math(&mut self, function: Math, name: String, count: usize) -> Result<Expr> {
        let mut args = Vec::new();
        for place in 0..count {
            if place > 0 && !self.eat_symbol(",") {
                return Err(self.fail(self.offset(), format!("{name}() takes {count} arguments")));
            }
            args.push(self.expression(LEVEL_SUM)?);
        }
        self.end_call(&name)?;
        Ok(Expr::Math { function, name, args })
    }

    /// What a transformation is taken of, and its second argument.
    fn transform(&mut self, mut function: Transform, name: String) -> Result<Expr> {
        let offset = self.offset();
        if self.at_symbol(")") {
            return Err(
                self.fail(offset, format!("{name}() needs a field or an aggregate, such as {name}(value)"))
            );
        }
        let of = self.operand()?;
        let nests = matches!(&of, Expr::Math { args, .. } if args.iter().any(has_transform));
        let fits = !nests
            && matches!(
                of,
                Expr::Name(_) | Expr::Wildcard(_) | Expr::Regex(_) | Expr::Call(_) | Expr::Math { .. }
            );
        if !fits || self.infix().is_some_and(|(_, level)| level >= LEVEL_SUM) {
            return Err(
                self.fail(offset, format!("{name}() takes a field or an aggregate, not a calculation"))
            );
        }
        match &mut function {
            Transform::Derivative { unit_ns, .. } if self.at_symbol(",") => *unit_ns = Some(self.unit(0)?),
            Transform::Elapsed { unit_ns } => *unit_ns = self.unit(*unit_ns)?,
            Transform::MovingAverage(count) => *count = self.window(&name)?,
            Transform::Derivative { .. } | Transform::Difference { .. } | Transform::CumulativeSum => {}
        }
        self.end_call(&name)?;
        Ok(Expr::Transform { function, name, of: Box::new(of) })
    }

    /// `, 1s` above zero, if it is there.
    fn unit(&mut self, default_ns: i64) -> Result<i64> {
        if !self.eat_symbol(",") {
            return Ok(default_ns);
        }
        match self.peek() {
            Token::Duration(unit_ns) if 0 < *unit_ns => {
                self.place += 1;
                Ok(*unit_ns)
            }
            _ => Err(self.unexpected("a duration above zero, such as 1s")),
        }
    }

    /// `, 5`: how many values are averaged.
    fn window(&mut self, name: &str) -> Result<usize> {
        let offset = self.offset();
        let count = match (self.eat_symbol(","), self.peek()) {
            (true, Token::Integer(count)) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => {
                return Err(self.fail(offset, format!("{name}() needs a number of values: {name}(field, 5)")));
            }
        };
        if !(2..=VALUES_MAX).contains(&count) {
            return Err(self.fail(offset, format!("{name}() takes 2 to {VALUES_MAX} values")));
        }
        self.place += 1;
        Ok(count)
    }

    /// `, tag, 3`: tags, of top and bottom, and how many rows.
    fn several(&mut self, name: &str) -> Result<(Vec<String>, usize)> {
        let mut by = Vec::new();
        loop {
            let offset = self.offset();
            let needs = format!("{name}() needs a number of rows above zero: {name}(field, 3)");
            if !self.eat_symbol(",") {
                return Err(self.fail(offset, needs));
            }
            match self.peek() {
                Token::Integer(count) if 0 < *count => {
                    self.place += 1;
                    return Ok((by, usize::try_from(*count).unwrap_or(usize::MAX)));
                }
                Token::Word(_) | Token::Quoted(_) if name != "sample" => {
                    let tag = self.name("a tag")?;
                    if by.contains(&tag) {
                        return Err(self.fail(offset, format!("{name}() takes each tag once")));
                    }
                    by.push(tag);
                }
                _ => return Err(self.fail(self.offset(), needs)),
            }
        }
    }

    /// `, 300`: a number.
    fn bound(&mut self, name: &str) -> Result<f64> {
        let offset = self.offset();
        let value = match (self.eat_symbol(","), self.operand_or_end()?) {
            (true, Some(Expr::Integer(value))) => value as f64,
            (true, Some(Expr::Float(value))) => value,
            _ => return Err(self.fail(offset, format!("{name}() needs a number: {name}(field, 300)"))),
        };
        Ok(value)
    }

    fn operand_or_end(&mut self) -> Result<Option<Expr>> {
        if self.at_symbol(")") { Ok(None) } else { self.operand().map(Some) }
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
        "integral" => Function::Integral { unit_ns: SECOND_NS },
        "uptime" => Function::Uptime { alive_ns: 0 },
        "downtime" => Function::Downtime { alive_ns: 0 },
        "top" => Function::Top(0),
        "bottom" => Function::Bottom(0),
        "sample" => Function::Sample(0),
        "error_rate" => Function::ErrorRate,
        "fraction_le" => Function::FractionLe(0.0),
        "apdex" => Function::Apdex(0.0),
        _ => return None,
    })
}

fn has_transform(expr: &Expr) -> bool {
    match expr {
        Expr::Transform { .. } => true,
        Expr::Math { args, .. } => args.iter().any(has_transform),
        Expr::Arith { first, rest } => {
            has_transform(first) || rest.iter().any(|(_, operand)| has_transform(operand))
        }
        _ => false,
    }
}

fn transform(name: &str) -> Option<Transform> {
    Some(match name {
        "derivative" => Transform::Derivative { unit_ns: None, is_non_negative: false },
        "non_negative_derivative" => Transform::Derivative { unit_ns: None, is_non_negative: true },
        "difference" => Transform::Difference { is_non_negative: false },
        "non_negative_difference" => Transform::Difference { is_non_negative: true },
        "moving_average" => Transform::MovingAverage(0),
        "cumulative_sum" => Transform::CumulativeSum,
        "elapsed" => Transform::Elapsed { unit_ns: 1 },
        _ => return None,
    })
}

/// A function of numbers and how many it takes.
fn math(name: &str) -> Option<(Math, usize)> {
    Some(match name {
        "abs" => (Math::Abs, 1),
        "acos" => (Math::Acos, 1),
        "asin" => (Math::Asin, 1),
        "atan" => (Math::Atan, 1),
        "atan2" => (Math::Atan2, 2),
        "ceil" => (Math::Ceil, 1),
        "cos" => (Math::Cos, 1),
        "exp" => (Math::Exp, 1),
        "floor" => (Math::Floor, 1),
        "ln" => (Math::Ln, 1),
        "log" => (Math::Log, 2),
        "log2" => (Math::Log2, 1),
        "log10" => (Math::Log10, 1),
        "pow" => (Math::Pow, 2),
        "round" => (Math::Round, 1),
        "sin" => (Math::Sin, 1),
        "sqrt" => (Math::Sqrt, 1),
        "tan" => (Math::Tan, 1),
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
