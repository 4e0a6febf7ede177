//! The clauses of SELECT, in the order in which they must stand.

use jiff::tz::TimeZone;

use super::Parser;
use crate::select::ast::{Argument, Dimension, Expr, Fill, Interval, Item, Order, Page, Select};
use crate::select::token::Token;
use crate::{Error, Result};

impl Parser<'_> {
    /// What follows the word SELECT.
    pub(super) fn select(&mut self) -> Result<Select> {
        let items = self.items()?;
        if self.at_word("into") {
            return Err(self.unsupported(self.offset(), "INTO"));
        }
        if !self.at_word("from") {
            let is_end = matches!(self.peek(), Token::End | Token::Symbol(";"));
            return Err(match is_end {
                true => self.fail(self.offset(), "missing FROM: SELECT <fields> FROM <measurement>"),
                false => self.unexpected("`,` or FROM"),
            });
        }
        self.place += 1;
        let sources = self.sources()?;
        let condition = self.condition()?;
        let (interval, dimensions) = self.group_by()?;
        let having = self.having()?;
        let fill = self.fill()?;
        let having = if having.is_none() { self.having()? } else { having };
        let (order, order_column) = self.order_by()?;
        let page = self.page("limit", "offset")?;
        let series_page: Page = self.page("slimit", "soffset")?;
        let zone = self.zone()?;
        self.check_end()?;
        Ok(Select {
            items,
            sources,
            condition,
            interval,
            dimensions,
            having,
            fill,
            order,
            order_column,
            page,
            series_page,
            zone,
        })
    }

    /// Explains a clause that stands in the wrong place.
    fn check_end(&self) -> Result<()> {
        match self.peek() {
            Token::End | Token::Symbol(";") => Ok(()),
            Token::Symbol(")") if 0 < self.queries => Ok(()),
            Token::Word(word) if super::is_reserved(word) => Err(self.fail(
                self.offset(),
                format!(
                    "{} cannot stand here; the order is WHERE, GROUP BY, HAVING, fill(), ORDER BY, LIMIT, OFFSET, \
                     SLIMIT, SOFFSET, tz()",
                    word.to_uppercase()
                ),
            )),
            _ => Err(self.unexpected("the end of the statement or `;`")),
        }
    }

    fn items(&mut self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            let offset = self.offset();
            if self.at_word("from") || *self.peek() == Token::End {
                return Err(self.unexpected("a field, a tag, `*` or a function"));
            }
            let expr = self.expression(0)?;
            self.check_item(offset, &expr, 0)?;
            let alias = if self.eat_word("as") { Some(self.name("a column name after AS")?) } else { None };
            items.push(Item { expr, alias });
            if !self.eat_symbol(",") {
                return Ok(items);
            }
        }
    }

    /// Refuses what has no meaning in the SELECT list. `level` is 0 for the whole item.
    fn check_item(&self, offset: usize, expr: &Expr, level: usize) -> Result<()> {
        match expr {
            Expr::Text(text) => {
                Err(self
                    .fail(offset, format!("string '{text}' in the SELECT list; names take double quotes")))
            }
            Expr::Duration(_) | Expr::Now | Expr::Bool(_) => {
                Err(self.fail(offset, "the SELECT list takes fields, tags, `*`, numbers and functions"))
            }
            Expr::Integer(_) | Expr::Float(_) if level == 0 => {
                Err(self.fail(offset, "the SELECT list needs a field, a tag or a function"))
            }
            Expr::Wildcard(_) | Expr::Regex(_) if level > 0 => {
                Err(self.fail(offset, "`*` and /regex/ cannot be calculated with"))
            }
            Expr::Call(call) if level > 0 && !matches!(call.argument, Argument::Name(_)) => {
                Err(self.fail(offset, "`*` and /regex/ in a function cannot be calculated with"))
            }
            Expr::Integer(_)
            | Expr::Float(_)
            | Expr::Wildcard(_)
            | Expr::Regex(_)
            | Expr::Name(_)
            | Expr::Call(_) => Ok(()),
            Expr::Arith { first, rest } => {
                self.check_item(offset, first, level + 1)?;
                rest.iter().try_for_each(|(_, operand)| self.check_item(offset, operand, level + 1))
            }
            // The first argument may hold a wildcard, which stands for a column each.
            Expr::Math { args, .. } => {
                let is_open = |place: usize, arg: &Expr| {
                    place == 0 && !matches!(arg, Expr::Integer(_) | Expr::Float(_))
                };
                let mut args = args.iter().enumerate();
                args.try_for_each(|(place, arg)| {
                    self.check_item(offset, arg, if is_open(place, arg) { level } else { level + 1 })
                })
            }
            // What it is taken of may be a wildcard, which stands for a column each.
            Expr::Transform { of, .. } if level == 0 => self.check_item(offset, of, level),
            Expr::Transform { of, .. } => self.check_item(offset, of, level + 1),
            Expr::Compare { .. }
            | Expr::Match { .. }
            | Expr::In { .. }
            | Expr::All(_)
            | Expr::Any(_)
            | Expr::Not(_) => {
                Err(self.fail(offset, "a condition in the SELECT list; conditions stand in WHERE"))
            }
        }
    }

    /// `WHERE condition`, if it is there.
    pub(super) fn condition(&mut self) -> Result<Option<Expr>> {
        if !self.eat_word("where") {
            return Ok(None);
        }
        let offset = self.offset();
        let expr = self.expression(0)?;
        if !is_condition(&expr) {
            return Err(self.fail(offset, "WHERE needs a condition, such as a comparison"));
        }
        if let Some(name) = call_in(&expr) {
            return Err(self.fail(offset, format!("function {name}() cannot stand in WHERE")));
        }
        Ok(Some(expr))
    }

    /// `HAVING condition`, on columns of the answer, if it is there.
    fn having(&mut self) -> Result<Option<Expr>> {
        if !self.eat_word("having") {
            return Ok(None);
        }
        let offset = self.offset();
        let expr = self.expression(0)?;
        match is_condition(&expr) {
            true => Ok(Some(expr)),
            false => Err(self.fail(offset, "HAVING needs a condition, such as a comparison")),
        }
    }

    fn group_by(&mut self) -> Result<(Option<Interval>, Vec<Dimension>)> {
        let (mut interval, mut dimensions) = (None, Vec::new());
        if !self.eat_word("group") {
            return Ok((interval, dimensions));
        }
        self.expect_word("by")?;
        loop {
            let offset = self.offset();
            let is_time = self.at_word("time") && matches!(self.peek_after(1), Token::Symbol("("));
            if is_time && interval.is_some() {
                return Err(self.fail(offset, "GROUP BY takes time() once"));
            } else if is_time {
                self.place += 2;
                interval = Some(self.interval()?);
            } else if self.eat_symbol("*") {
                dimensions.push(Dimension::All);
            } else if let Some(regex) = self.eat_regex()? {
                dimensions.push(Dimension::Regex(regex));
            } else {
                dimensions.push(self.dimension(offset)?);
            }
            if !self.eat_symbol(",") {
                return Ok((interval, dimensions));
            }
        }
    }

    fn dimension(&mut self, offset: usize) -> Result<Dimension> {
        let is_bare = matches!(self.peek(), Token::Word(_));
        let tag = self.name("time(), a tag, `*` or /regex/ after GROUP BY")?;
        if is_bare && tag.eq_ignore_ascii_case("time") {
            return Err(self.fail(offset, "time needs an interval here, such as time(5m)"));
        }
        if self.eat_symbol("::") {
            self.expect_word("tag")?;
        }
        Ok(Dimension::Tag(tag))
    }

    /// What follows `time(`.
    fn interval(&mut self) -> Result<Interval> {
        let offset = self.offset();
        let every_ns = match self.bump() {
            Token::Duration(every_ns) if *every_ns > 0 => *every_ns,
            _ => return Err(self.fail(offset, "time() needs a duration above zero, such as time(5m)")),
        };
        let mut offset_ns = 0;
        if self.eat_symbol(",") {
            let is_negative = self.eat_symbol("-");
            let Token::Duration(shift_ns) = self.peek() else {
                return Err(self.unexpected("a duration as the offset of time()"));
            };
            self.place += 1;
            let shift_ns = if is_negative { -*shift_ns } else { *shift_ns };
            offset_ns = shift_ns.rem_euclid(every_ns);
        }
        self.expect_symbol(")")?;
        Ok(Interval { every_ns, offset_ns })
    }

    fn fill(&mut self) -> Result<Fill> {
        if !self.eat_word("fill") {
            return Ok(Fill::Null);
        }
        self.expect_symbol("(")?;
        let is_negative = self.eat_symbol("-");
        let sign = if is_negative { -1.0 } else { 1.0 };
        let fill = match self.peek() {
            Token::Integer(value) => Fill::Value(sign * *value as f64),
            Token::Float(value) => Fill::Value(sign * *value),
            Token::Word(word) if !is_negative => fill_word(word).ok_or_else(|| self.unexpected_fill())?,
            _ => return Err(self.unexpected_fill()),
        };
        self.place += 1;
        self.expect_symbol(")")?;
        Ok(fill)
    }

    fn unexpected_fill(&self) -> Error {
        self.unexpected("null, none, previous, linear or a number in fill()")
    }

    /// `tz('Europe/Berlin')`, if it is there.
    fn zone(&mut self) -> Result<Option<TimeZone>> {
        if !self.eat_word("tz") {
            return Ok(None);
        }
        self.expect_symbol("(")?;
        let offset = self.offset();
        let Token::Text(name) = self.peek() else {
            return Err(self.unexpected("a time zone, such as 'Europe/Berlin'"));
        };
        self.place += 1;
        self.expect_symbol(")")?;
        let zone = TimeZone::get(name)
            .map_err(|_| self.fail(offset, format!("'{name}' is no time zone, such as 'Europe/Berlin'")));
        zone.map(Some)
    }

    /// The direction, and the column where it is not the time.
    fn order_by(&mut self) -> Result<(Order, Option<String>)> {
        if !self.eat_word("order") {
            return Ok((Order::Ascending, None));
        }
        self.expect_word("by")?;
        let mut column = None;
        let has_column = match self.peek() {
            Token::Quoted(_) => true,
            Token::Word(word) => !super::is_reserved(word),
            _ => false,
        };
        if has_column {
            let name = self.name("a column after ORDER BY")?;
            column = (!name.eq_ignore_ascii_case("time")).then_some(name);
        }
        if self.eat_word("desc") {
            return Ok((Order::Descending, column));
        }
        if !self.eat_word("asc") && !has_column {
            return Err(self.unexpected("a column after ORDER BY"));
        }
        Ok((Order::Ascending, column))
    }
}

fn fill_word(word: &str) -> Option<Fill> {
    match &*word.to_lowercase() {
        "null" => Some(Fill::Null),
        "none" => Some(Fill::None),
        "previous" => Some(Fill::Previous),
        "linear" => Some(Fill::Linear),
        _ => None,
    }
}

fn is_condition(expr: &Expr) -> bool {
    match expr {
        Expr::Compare { .. } | Expr::Match { .. } | Expr::In { .. } | Expr::Bool(_) | Expr::Name(_) => true,
        Expr::All(parts) | Expr::Any(parts) => parts.iter().all(is_condition),
        Expr::Not(inner) => is_condition(inner),
        Expr::Wildcard(_)
        | Expr::Regex(_)
        | Expr::Text(_)
        | Expr::Integer(_)
        | Expr::Float(_)
        | Expr::Duration(_)
        | Expr::Now
        | Expr::Call(_)
        | Expr::Math { .. }
        | Expr::Transform { .. }
        | Expr::Arith { .. } => false,
    }
}

/// The name of a function called anywhere inside.
fn call_in(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Call(call) => Some(&call.name),
        Expr::Transform { name, .. } => Some(name),
        Expr::Math { args, .. } => args.iter().find_map(call_in),
        Expr::Arith { first, rest } => {
            call_in(first).or_else(|| rest.iter().find_map(|(_, operand)| call_in(operand)))
        }
        Expr::Compare { left, right, .. } => call_in(left).or_else(|| call_in(right)),
        Expr::Match { left, .. } => call_in(left),
        Expr::In { left, list, .. } => call_in(left).or_else(|| list.iter().find_map(call_in)),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().find_map(call_in),
        Expr::Not(inner) => call_in(inner),
        Expr::Name(_)
        | Expr::Wildcard(_)
        | Expr::Regex(_)
        | Expr::Text(_)
        | Expr::Integer(_)
        | Expr::Float(_)
        | Expr::Bool(_)
        | Expr::Duration(_)
        | Expr::Now => None,
    }
}
