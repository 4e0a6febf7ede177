//! Text to tokens, with `nom`. Knows strings, names, numbers, durations, regular expressions and comments; knows
//! no keyword but those after which `/` begins a regular expression and does not divide.

#![warn(clippy::indexing_slicing)]

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_until, take_while};
use nom::character::complete::{char, digit1, multispace1, none_of, satisfy};
use nom::combinator::{map_opt, not, recognize, value};
use nom::multi::{fold_many0, fold_many1};
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{IResult, Parser};

use crate::{Error, Result};

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A bare word: a keyword or a name.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A string in single quotes.
    Text(String),
    Integer(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// A regular expression, without its slashes.
    Regex(String),
    /// A bound parameter, `$name`.
    Bound(String),
    Symbol(&'static str),
    End,
}

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) offset: usize,
}

/// Longer symbols stand before their prefixes.
const SYMBOLS: [&str; 20] = [
    "<>", "<=", ">=", "!=", "!~", "=~", "::", "..", "<", ">", "=", "(", ")", ",", ";", ".", "+", "-", "*",
    "%",
];

/// Words after which `/` begins a regular expression.
const BEFORE_OPERAND: [&str; 6] = ["select", "from", "by", "where", "and", "or"];

/// Splits a text into tokens; the last one is [`Token::End`].
///
/// # Errors
/// `InvalidInput` with the place of what is no token.
pub(crate) fn tokenize(text: &str) -> Result<Vec<Lexeme>> {
    let mut lexemes: Vec<Lexeme> = Vec::new();
    let mut rest = text;
    loop {
        rest = skip_blank(rest);
        let offset = text.len() - rest.len();
        if rest.is_empty() {
            lexemes.push(Lexeme { token: Token::End, offset });
            return Ok(lexemes);
        }
        let before = lexemes.last().map(|lexeme| &lexeme.token);
        let parsed = if rest.starts_with('/') {
            if is_operand(before) { symbol_slash(rest) } else { regex(rest) }
        } else {
            token(rest)
        };
        let Ok((after, token)) = parsed else {
            return Err(Error::at(text, offset, explain(rest)));
        };
        lexemes.push(Lexeme { token, offset });
        rest = after;
    }
}

/// Whether a slash after this token divides.
fn is_operand(token: Option<&Token>) -> bool {
    match token {
        None | Some(Token::End) => false,
        Some(Token::Word(word)) => !BEFORE_OPERAND.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)),
        Some(Token::Symbol(symbol)) => matches!(*symbol, ")" | "*"),
        Some(_) => true,
    }
}

/// Says what is wrong with a text that begins with no token.
fn explain(rest: &str) -> String {
    match rest.chars().next() {
        Some('\'') => "string is not closed or has an unknown escape (strings take single quotes)".to_owned(),
        Some('"') => "name is not closed or has an unknown escape (names take double quotes)".to_owned(),
        Some('/') if rest.starts_with("/*") => "comment is not closed".to_owned(),
        Some('/') => "regular expression is not closed".to_owned(),
        Some(first) if first.is_ascii_digit() => {
            "bad number or duration (numbers have no exponent; units are ns, u, ms, s, m, h, d, w)".to_owned()
        }
        Some(first) => format!("unexpected character {first:?}"),
        None => "unexpected end".to_owned(),
    }
}

/// Drops white space and comments. A comment that is not closed is left to be refused.
fn skip_blank(mut rest: &str) -> &str {
    let mut blank = alt((multispace1::<_, nom::error::Error<&str>>, line_comment, block_comment));
    while let Ok((after, _)) = blank.parse(rest) {
        rest = after;
    }
    rest
}

/// Up to a newline or a carriage return, which InfluxQL reads as one.
fn line_comment(input: &str) -> IResult<&str, &str> {
    recognize((tag("--"), take_while(|c| !matches!(c, '\n' | '\r')))).parse(input)
}

fn block_comment(input: &str) -> IResult<&str, &str> {
    recognize((tag("/*"), take_until("*/"), tag("*/"))).parse(input)
}

fn token(input: &str) -> IResult<&str, Token> {
    alt((
        word.map(|text: &str| Token::Word(text.to_owned())),
        duration.map(Token::Duration),
        float.map(Token::Float),
        integer,
        quoted('\'').map(Token::Text),
        quoted('"').map(Token::Quoted),
        bound.map(|name: &str| Token::Bound(name.to_owned())),
        symbol.map(Token::Symbol),
    ))
    .parse(input)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(input: &str) -> IResult<&str, &str> {
    recognize(pair(satisfy(|c| c.is_alphabetic() || c == '_'), take_while(is_word))).parse(input)
}

fn bound(input: &str) -> IResult<&str, &str> {
    preceded(char('$'), alt((word, digit1))).parse(input)
}

/// `1h30m`, in nanoseconds.
fn duration(input: &str) -> IResult<&str, i64> {
    let part = map_opt(pair(digit1, unit), |(digits, unit_ns): (&str, i64)| {
        digits.parse::<i64>().ok()?.checked_mul(unit_ns)
    });
    let sum = fold_many1(part, || Some(0i64), |sum, part_ns| sum?.checked_add(part_ns));
    map_opt(terminated(sum, not(satisfy(is_word))), |sum| sum).parse(input)
}

fn unit(input: &str) -> IResult<&str, i64> {
    alt((
        value(1, tag("ns")),
        value(1_000, alt((tag("us"), tag("µs"), tag("u"), tag("µ")))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, tag("s")),
        value(60 * 1_000_000_000, tag("m")),
        value(3_600 * 1_000_000_000, tag("h")),
        value(86_400 * 1_000_000_000, tag("d")),
        value(604_800 * 1_000_000_000, tag("w")),
    ))
    .parse(input)
}

fn float(input: &str) -> IResult<&str, f64> {
    let digits = recognize((digit1, char('.'), digit1));
    map_opt(terminated(digits, not(satisfy(is_word))), |digits: &str| digits.parse().ok()).parse(input)
}

/// An integer; one that does not fit into 64 bits becomes a float.
fn integer(input: &str) -> IResult<&str, Token> {
    let number = |digits: &str| {
        let exact = digits.parse().map(Token::Integer).ok();
        exact.or_else(|| digits.parse().map(Token::Float).ok())
    };
    map_opt(terminated(digit1, not(satisfy(is_word))), number).parse(input)
}

/// Text between quotes, with the escapes `\n`, `\\`, `\'` and `\"`.
fn quoted(quote: char) -> impl FnMut(&str) -> IResult<&str, String> {
    move |input| {
        let escape = preceded(char('\\'), alt((value('\n', char('n')), char('\\'), char('\''), char('"'))));
        let plain = satisfy(move |c| c != quote && c != '\\');
        let content = fold_many0(alt((plain, escape)), String::new, |mut text, c| {
            text.push(c);
            text
        });
        delimited(char(quote), content, char(quote)).parse(input)
    }
}

/// `/.../`, where `\/` is a slash and every other escape is kept for the expression.
fn regex(input: &str) -> IResult<&str, Token> {
    let escape = recognize(pair(char('\\'), none_of("\n")));
    let part = alt((value("/", tag("\\/")), escape, is_not("/\\\n")));
    let content = fold_many0(part, String::new, |mut text, part: &str| {
        text.push_str(part);
        text
    });
    // An empty expression is a comment in the making or a slip.
    preceded(not(tag("/*")), delimited(char('/'), content, char('/'))).map(Token::Regex).parse(input)
}

fn symbol_slash(input: &str) -> IResult<&str, Token> {
    value(Token::Symbol("/"), terminated(char('/'), not(char('*')))).parse(input)
}

fn symbol(input: &str) -> IResult<&str, &'static str> {
    for symbol in SYMBOLS {
        if let Some(rest) = input.strip_prefix(symbol) {
            return Ok((rest, symbol));
        }
    }
    Err(nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Alt)))
}
