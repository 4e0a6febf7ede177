//! Tokens to statements. Checks what can be checked without a schema and names the place of every fault; does not
//! know which names are fields or tags.
//!
//! This file: the cursor, statements and the clauses they share. [`select`]: SELECT. [`expression`]: expressions.
//! [`show`]: SHOW and CREATE. [`delete`]: DELETE and DROP.

mod delete;
mod expression;
mod select;
mod show;

use std::collections::BTreeMap;

use regex::Regex;

use super::ast::{Page, Pattern, Source, Statement};
use super::token::{Lexeme, Token, tokenize};
use crate::budget::Patterns;
use crate::error::line_column;
use crate::{Error, ErrorKind, Result};

/// Deepest nesting of parentheses, calls and signs.
const NESTING_MAX: usize = 64;

/// Deepest nesting of subqueries: each is evaluated, and holds its rows, inside the one around it.
const QUERIES_MAX: usize = 8;

/// Bytes of the values of parameters at all their places together: each place has its own.
const BOUND_BYTES_MAX: usize = 1 << 20;
/// Bytes of one of them: patterns of more would take long to be made.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a duration, which is read at each of its places.
const DURATION_BYTES_MAX: usize = 64;

/// Words that cannot be names without double quotes.
const RESERVED: [&str; 27] = [
    "select", "from", "where", "group", "by", "order", "limit", "offset", "slimit", "soffset", "and", "or",
    "not", "in", "as", "into", "fill", "having", "on", "with", "asc", "desc", "show", "create", "tz", "true",
    "false",
];

/// Statements of SQL and InfluxQL that are known and not built.
const STATEMENTS_UNSUPPORTED: [&str; 6] = ["alter", "grant", "revoke", "kill", "insert", "set"];

/// Reads the statements of a text, separated by `;`.
///
/// # Errors
/// `InvalidInput` with the place and a hint; `Unsupported` for what the language has and icecore does not.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    parse_bound(text, &Bindings::new())
}

/// As [`parse`], with values for the parameters `$name` of the text. They stand for one token each, whatever they hold:
/// nothing in them can change what the statement is.
///
/// # Errors
/// As [`parse`]; `InvalidInput` for a parameter without a value, or with one that does not read as what it is said to be.
pub fn parse_bound(text: &str, bindings: &Bindings) -> Result<Vec<Statement>> {
    let lexemes = bound(text, tokenize(text)?, bindings)?;
    let patterns = Patterns::default();
    let mut parser = Parser { text, lexemes: &lexemes, place: 0, depth: 0, queries: 0, patterns };
    let mut statements = Vec::new();
    loop {
        while parser.eat_symbol(";") {}
        if *parser.peek() == Token::End {
            break;
        }
        statements.push(parser.statement()?);
        if *parser.peek() != Token::End && !parser.eat_symbol(";") {
            return Err(parser.unexpected("the end of the statement or `;`"));
        }
    }
    if statements.is_empty() {
        return Err(Error::at(text, 0, "no statement; expected SELECT, SHOW, CREATE, DELETE or DROP"));
    }
    Ok(statements)
}

/// Values of parameters, by name without the `$`.
pub type Bindings = BTreeMap<String, Binding>;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Binding {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A duration, such as `5m`.
    Duration(String),
    /// A regular expression, without slashes.
    Regex(String),
    /// The name of a field, a tag, a measurement or a database.
    Identifier(String),
}

/// The tokens with values in place of parameters.
fn bound(text: &str, lexemes: Vec<Lexeme>, bindings: &Bindings) -> Result<Vec<Lexeme>> {
    let (mut filled, mut bound_bytes) = (Vec::with_capacity(lexemes.len()), 0);
    for Lexeme { token, offset } in lexemes {
        let Token::Bound(name) = &token else {
            filled.push(Lexeme { token, offset });
            continue;
        };
        let value = bindings.get(name);
        let value =
            value.ok_or_else(|| Error::at(text, offset, format!("parameter ${name} has no value")))?;
        if let Binding::Text(value)
        | Binding::Identifier(value)
        | Binding::Regex(value)
        | Binding::Duration(value) = value
        {
            if VALUE_BYTES_MAX < value.len() {
                let message = format!("parameter ${name} has more than {VALUE_BYTES_MAX} bytes");
                return Err(Error::at(text, offset, message));
            }
            bound_bytes += value.len();
            if BOUND_BYTES_MAX < bound_bytes {
                let message = format!("parameters are put in for more than {BOUND_BYTES_MAX} bytes of text");
                return Err(Error::at(text, offset, message));
            }
        }
        let mut push = |token: Token| filled.push(Lexeme { token, offset });
        match value {
            Binding::Text(value) => push(Token::Text(value.clone())),
            Binding::Identifier(name) => push(Token::Quoted(name.clone())),
            Binding::Regex(regex) => push(Token::Regex(regex.clone())),
            Binding::Bool(value) => push(Token::Word(value.to_string())),
            Binding::Integer(value) => push(Token::Integer(*value)),
            Binding::Float(value) if value.is_finite() => push(Token::Float(*value)),
            Binding::Float(_) => {
                return Err(Error::at(text, offset, format!("parameter ${name} is no number")));
            }
            Binding::Duration(value) => {
                let is_short = value.len() <= DURATION_BYTES_MAX;
                let tokens = if is_short { tokenize(value).unwrap_or_default() } else { Vec::new() };
                match tokens.as_slice() {
                    [Lexeme { token: token @ Token::Duration(_), .. }, Lexeme { token: Token::End, .. }] => {
                        push(token.clone());
                    }
                    _ => {
                        return Err(Error::at(
                            text,
                            offset,
                            format!("parameter ${name} is no duration, such as 5m"),
                        ));
                    }
                }
            }
        }
    }
    Ok(filled)
}

/// A cursor over the tokens of a text.
struct Parser<'a> {
    text: &'a str,
    lexemes: &'a [Lexeme],
    place: usize,
    depth: usize,
    /// Subqueries that are open.
    queries: usize,
    patterns: Patterns,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a Token {
        self.peek_after(0)
    }

    fn peek_after(&self, count: usize) -> &'a Token {
        self.lexemes.get(self.place + count).map_or(&Token::End, |lexeme| &lexeme.token)
    }

    fn offset(&self) -> usize {
        self.lexemes.get(self.place).map_or(self.text.len(), |lexeme| lexeme.offset)
    }

    fn bump(&mut self) -> &'a Token {
        let token = self.peek();
        if *token != Token::End {
            self.place += 1;
        }
        token
    }

    fn at_word(&self, keyword: &str) -> bool {
        self.at_word_after(0, keyword)
    }

    fn at_word_after(&self, count: usize, keyword: &str) -> bool {
        matches!(self.peek_after(count), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn eat_word(&mut self, keyword: &str) -> bool {
        let is_there = self.at_word(keyword);
        self.place += usize::from(is_there);
        is_there
    }

    fn expect_word(&mut self, keyword: &str) -> Result<()> {
        if self.eat_word(keyword) { Ok(()) } else { Err(self.unexpected(&keyword.to_uppercase())) }
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(other) if *other == symbol)
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        let is_there = self.at_symbol(symbol);
        self.place += usize::from(is_there);
        is_there
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.eat_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&format!("`{symbol}`"))) }
    }

    fn fail(&self, offset: usize, message: impl std::fmt::Display) -> Error {
        Error::at(self.text, offset, message)
    }

    fn unsupported(&self, offset: usize, what: impl std::fmt::Display) -> Error {
        let (line, column) = line_column(self.text, offset);
        Error::new(ErrorKind::Unsupported, format!("{line}:{column}: {what} is not supported"))
    }

    /// The error for a token that cannot stand here, with a hint where a habit of SQL explains it.
    fn unexpected(&self, expected: &str) -> Error {
        let (found, hint) = match self.peek() {
            Token::Word(word) if is_reserved(word) => {
                (format!("`{word}`"), " (a reserved word; as a name it takes double quotes)")
            }
            Token::Word(word) => (format!("`{word}`"), ""),
            Token::Quoted(name) => (format!("name \"{name}\""), " (strings take single quotes)"),
            Token::Text(text) => (format!("string '{text}'"), " (names take double quotes)"),
            Token::Integer(number) => (format!("number {number}"), ""),
            Token::Float(number) => (format!("number {number}"), ""),
            Token::Duration(_) => ("a duration".to_owned(), ""),
            Token::Regex(regex) => (format!("/{regex}/"), ""),
            Token::Symbol(symbol) => (format!("`{symbol}`"), ""),
            Token::Bound(name) => (format!("${name}"), ""),
            Token::End => ("the end".to_owned(), ""),
        };
        self.fail(self.offset(), format!("expected {expected}, found {found}{hint}"))
    }

    fn statement(&mut self) -> Result<Statement> {
        let offset = self.offset();
        if self.eat_word("select") {
            return Ok(Statement::Select(Box::new(self.select()?)));
        }
        if self.eat_word("show") {
            return self.show();
        }
        if self.eat_word("explain") {
            let is_executed = self.eat_word("analyze");
            self.expect_word("select")?;
            return Ok(Statement::Explain { select: Box::new(self.select()?), is_executed });
        }
        if self.eat_word("create") {
            return self.create();
        }
        if self.eat_word("delete") {
            return self.delete();
        }
        if self.eat_word("drop") {
            return self.drop();
        }
        match self.peek() {
            Token::Word(word) if STATEMENTS_UNSUPPORTED.contains(&&*word.to_lowercase()) => {
                Err(self.unsupported(offset, word.to_uppercase()))
            }
            _ => Err(self.unexpected("SELECT, SHOW, CREATE, DELETE or DROP")),
        }
    }

    /// A name: a word that is not reserved, or anything in double quotes.
    fn name(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Token::Quoted(name) if name.is_empty() => Err(self.fail(self.offset(), "empty name")),
            Token::Quoted(name) => {
                self.place += 1;
                Ok(name.clone())
            }
            Token::Word(word) if !is_reserved(word) => {
                self.place += 1;
                Ok(word.clone())
            }
            _ => Err(self.unexpected(what)),
        }
    }

    fn pattern(&mut self, what: &str) -> Result<Pattern> {
        match self.eat_regex()? {
            Some(regex) => Ok(Pattern::Regex(regex)),
            None => Ok(Pattern::Name(self.name(what)?)),
        }
    }

    /// The regular expression under the cursor, compiled, if one is there.
    fn eat_regex(&mut self) -> Result<Option<Regex>> {
        let offset = self.offset();
        let Token::Regex(pattern) = self.peek() else { return Ok(None) };
        self.place += 1;
        let compiled = self.patterns.compile(pattern);
        compiled.map(Some).map_err(|error| {
            let reason = error.lines().last().unwrap_or("not understood").trim_start_matches("error: ");
            self.fail(offset, format!("bad regular expression: {reason}"))
        })
    }

    fn sources(&mut self) -> Result<Vec<Source>> {
        let mut sources = vec![self.source()?];
        while self.eat_symbol(",") {
            sources.push(self.source()?);
        }
        if self.at_word("join") {
            return Err(self.unsupported(self.offset(), "JOIN"));
        }
        let is_query = |source: &Source| matches!(source, Source::Query(_));
        if sources.iter().any(is_query) && !sources.iter().all(is_query) {
            return Err(self.unsupported(self.offset(), "FROM with subqueries beside measurements"));
        }
        let named: Vec<&str> = sources.iter().filter_map(Source::database).collect();
        if !named.is_empty() && named.len() < sources.len() {
            return Err(
                self.unsupported(self.offset(), "FROM in which only some measurements name a database")
            );
        }
        if named.windows(2).any(|pair| pair.first() != pair.last()) {
            return Err(self.unsupported(self.offset(), "one statement over several databases"));
        }
        Ok(sources)
    }

    /// As [`Parser::sources`], without subqueries.
    fn measurements(&mut self) -> Result<Vec<Source>> {
        let offset = self.offset();
        let sources = self.sources()?;
        match sources.iter().any(|source| matches!(source, Source::Query(_))) {
            true => Err(self.fail(offset, "this statement takes measurements, not a subquery")),
            false => Ok(sources),
        }
    }

    /// `m`, `/regex/`, `rp.m`, `db.rp.m`, `db..m` or a subquery. There is one retention policy, so its name is not kept.
    fn source(&mut self) -> Result<Source> {
        let what = "a measurement (a name or /regex/)";
        if self.eat_symbol("(") {
            return self.subquery();
        }
        let first = self.pattern(what)?;
        let Pattern::Name(qualifier) = &first else {
            return Ok(Source::Measurement { database: None, measurement: first });
        };
        if self.eat_symbol("..") {
            let database = Some(qualifier.clone());
            return Ok(Source::Measurement { database, measurement: self.pattern(what)? });
        }
        if !self.eat_symbol(".") {
            return Ok(Source::Measurement { database: None, measurement: first });
        }
        let second = self.pattern(what)?;
        if self.eat_symbol(".") {
            let database = Some(qualifier.clone());
            return Ok(Source::Measurement { database, measurement: self.pattern(what)? });
        }
        Ok(Source::Measurement { database: None, measurement: second })
    }

    fn subquery(&mut self) -> Result<Source> {
        let offset = self.offset();
        self.expect_word("select")?;
        if self.queries == QUERIES_MAX {
            return Err(self.fail(offset, format!("subqueries are nested deeper than {QUERIES_MAX}")));
        }
        self.queries += 1;
        let select = self.select()?;
        self.queries -= 1;
        self.expect_symbol(")")?;
        Ok(Source::Query(Box::new(select)))
    }

    /// `LIMIT n OFFSET m`, under their names for rows or for series.
    fn page(&mut self, limit: &str, offset: &str) -> Result<Page> {
        let mut page = Page::default();
        if self.eat_word(limit) {
            page.limit = Some(self.count(limit)?);
        }
        if self.eat_word(offset) {
            page.offset = self.count(offset)?;
        }
        Ok(page)
    }

    fn count(&mut self, clause: &str) -> Result<usize> {
        match self.peek() {
            Token::Integer(count) if 0 <= *count => {
                self.place += 1;
                Ok(usize::try_from(*count).unwrap_or(usize::MAX))
            }
            _ => Err(self.unexpected(&format!("a whole number after {}", clause.to_uppercase()))),
        }
    }
}

fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}
