//! Text to tokens: names, numbers, durations, strings and signs, each with its byte range.
//!
//! Knows of the grammar what brackets there are: between `[` and `]` a colon parts range from step, elsewhere it is part
//! of a metric name; in braces stand names, strings and tests alone. Keywords are names here; the parser decides by
//! position. What is no token is one that no rule takes, so that the first mistake in the text is the one told.
#![warn(clippy::indexing_slicing)]

use super::number::{parse_duration, parse_number};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A metric name, label name, function or keyword.
    Name(String),
    /// A number literal.
    Number(f64),
    /// A duration literal in nanoseconds.
    Duration(i64),
    /// A string literal without its quotes and escapes.
    Text(String),
    /// A string literal that is not UTF-8 after its escapes.
    Bytes(Vec<u8>),
    /// A sign: operators, brackets, comma, colon, `@`.
    Sign(&'static str),
    /// What is no token, and why.
    Bad(String),
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spanned {
    /// The token.
    pub(crate) token: Token,
    /// Its first byte.
    pub(crate) start: usize,
    /// The byte after it.
    pub(crate) end: usize,
}

/// Signs, longest first.
const SIGNS: [&str; 26] = [
    "</", ">/", "==", "!=", "!~", "=~", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "%", "^", "(", ")",
    "{", "}", "[", "]", ",", "@", ":",
];

/// Cuts the text into tokens; the last one is [`Token::End`] or the first [`Token::Bad`].
pub(crate) fn lex(text: &str) -> Vec<Spanned> {
    let mut lexer = Lexer { text, at: 0, parentheses: 0, in_brackets: false, in_braces: false };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let (token, start) = match lexer.next_token() {
            Ok(token) => (token, start),
            Err((place, why)) => (Token::Bad(why), place),
        };
        let is_end = matches!(token, Token::End | Token::Bad(_));
        tokens.push(Spanned { token, start, end: lexer.at.max(start) });
        if is_end {
            return tokens;
        }
    }
}

/// Where something is no token, and why.
type Bad = (usize, String);
type Outcome<T> = Result<T, Bad>;

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parentheses: usize,
    in_brackets: bool,
    in_braces: bool,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find(['\n', '\r']).unwrap_or(trimmed.len());
        }
    }

    fn next_token(&mut self) -> Outcome<Token> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return self.end() };
        if matches!(first, '"' | '\'' | '`') {
            return self.string(first);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.name());
        }
        if self.in_braces && !matches!(first, ',' | '=' | '!' | '}') {
            return Err((self.at, format!("unexpected character inside braces: {first:?}")));
        }
        let second_is_digit =
            rest.get(1..2).is_some_and(|next| next.bytes().all(|byte| byte.is_ascii_digit()));
        if first.is_ascii_digit() || (first == '.' && second_is_digit) {
            return self.number();
        }
        if first == ':' && !self.in_brackets {
            return Ok(self.name());
        }
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => self.sign(sign),
            None => Err((self.at, format!("unexpected character: {first:?}"))),
        }
    }

    /// The end of the text, where nothing is open.
    fn end(&self) -> Outcome<Token> {
        let open = [
            (self.in_braces, "unexpected end of input inside braces"),
            (self.in_brackets, "unclosed left bracket"),
            (self.parentheses > 0, "unclosed left parenthesis"),
        ];
        match open.iter().find(|(is_open, _)| *is_open) {
            Some((_, why)) => Err((self.at, (*why).to_owned())),
            None => Ok(Token::End),
        }
    }

    fn sign(&mut self, sign: &'static str) -> Outcome<Token> {
        let bad = |why: &str| Err((self.at, why.to_owned()));
        match sign {
            "{" => self.in_braces = true,
            "}" if !self.in_braces => return bad("unexpected character: '}'"),
            "}" => self.in_braces = false,
            "[" if self.in_brackets => return bad("unexpected left bracket '['"),
            "[" => self.in_brackets = true,
            "]" if !self.in_brackets => return bad("unexpected right bracket ']'"),
            "]" => self.in_brackets = false,
            "(" => self.parentheses += 1,
            ")" if self.parentheses == 0 => return bad("unexpected right parenthesis ')'"),
            ")" => self.parentheses -= 1,
            _ => {}
        }
        self.at += sign.len();
        Ok(Token::Sign(sign))
    }

    fn name(&mut self) -> Token {
        let with_colon = !self.in_brackets && !self.in_braces;
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && with_colon);
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let name = rest.get(..len).unwrap_or_default();
        self.at += len;
        if self.in_braces {
            return Token::Name(name.to_owned());
        }
        if name.eq_ignore_ascii_case("inf") {
            return Token::Number(f64::INFINITY);
        }
        if name.eq_ignore_ascii_case("nan") {
            return Token::Number(f64::NAN);
        }
        Token::Name(name.to_owned())
    }

    /// Takes the longest run that can be a number or a duration and lets [`number`](super::number) judge it.
    fn number(&mut self) -> Outcome<Token> {
        let (start, rest) = (self.at, self.rest());
        let is_hex = rest.starts_with("0x") || rest.starts_with("0X");
        let mut len = 0;
        let mut previous = ' ';
        for c in rest.chars() {
            let is_sign_of_exponent = !is_hex && matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
            if !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || is_sign_of_exponent) {
                break;
            }
            len += c.len_utf8();
            previous = c;
        }
        let run = rest.get(..len).unwrap_or_default();
        self.at += len;
        if let Some(value) = parse_number(run) {
            return Ok(Token::Number(value));
        }
        match parse_duration(run) {
            Some(Some(nanos)) => Ok(Token::Duration(nanos)),
            Some(None) => Err(self.error(start, "duration out of range")),
            None => Err(self.error(start, format!("bad number or duration syntax: {run:?}"))),
        }
    }

    fn string(&mut self, quote: char) -> Outcome<Token> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error(start, "unterminated quoted string"));
            };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => break,
                '\n' if quote != '`' => return Err(self.error(start, "unterminated quoted string")),
                '\\' if quote != '`' => self.escape(quote, &mut bytes)?,
                _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Token::Text(text)),
            Err(error) => Ok(Token::Bytes(error.into_bytes())),
        }
    }

    /// The escapes of Go's strings.
    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> Outcome<()> {
        let place = self.at - 1;
        let Some(c) = self.rest().chars().next() else {
            return Err(self.error(place, "escape sequence not terminated"));
        };
        self.at += c.len_utf8();
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' | '\'' if c == quote => u8::try_from(c).unwrap_or(b'"'),
            'x' => self.digits(place, 2, 16).and_then(|code| self.byte(place, code))?,
            '0'..='7' => {
                self.at -= 1;
                self.digits(place, 3, 8).and_then(|code| self.byte(place, code))?
            }
            'u' | 'U' => {
                let code = self.digits(place, if c == 'u' { 4 } else { 8 }, 16)?;
                let Some(decoded) = char::from_u32(code) else {
                    return Err(self.error(place, "escape sequence is an invalid Unicode code point"));
                };
                bytes.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error(place, format!("unknown escape sequence {c:?}"))),
        };
        bytes.push(plain);
        Ok(())
    }

    fn digits(&mut self, place: usize, count: usize, radix: u32) -> Outcome<u32> {
        let digits =
            self.rest().get(..count).filter(|digits| digits.bytes().all(|b| b.is_ascii_alphanumeric()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        self.at += if code.is_some() { count } else { 0 };
        code.ok_or_else(|| self.error(place, "illegal escape sequence"))
    }

    fn byte(&self, place: usize, code: u32) -> Outcome<u8> {
        u8::try_from(code).map_err(|_| self.error(place, "escape sequence is above one byte"))
    }

    fn error(&self, offset: usize, why: impl std::fmt::Display) -> Bad {
        (offset, why.to_string())
    }
}
