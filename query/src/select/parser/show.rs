//! SHOW and CREATE DATABASE.

use super::Parser;
use crate::Result;
use crate::select::ast::{Counted, NameTest, Show, Statement};
use crate::select::token::Token;

impl Parser<'_> {
    /// What follows the word SHOW.
    pub(super) fn show(&mut self) -> Result<Statement> {
        let offset = self.offset();
        let Token::Word(word) = self.peek() else { return Err(self.unexpected_show()) };
        self.place += 1;
        let noun = word.to_lowercase();
        if let Some(statement) = self.cardinality(&noun)? {
            return Ok(statement);
        }
        match &*noun {
            "databases" => Ok(Statement::ShowDatabases),
            "measurements" => Ok(Statement::ShowMeasurements { show: self.clauses("measurement")? }),
            "series" => Ok(Statement::ShowSeries { show: self.clauses("")? }),
            "tag" if self.eat_word("keys") => Ok(Statement::ShowTagKeys { show: self.clauses("")? }),
            "field" if self.eat_word("keys") => Ok(Statement::ShowFieldKeys { show: self.clauses("")? }),
            "tag" if self.eat_word("values") => {
                let show = self.clauses("key")?;
                if show.names.is_none() {
                    return Err(
                        self.fail(self.offset(), "SHOW TAG VALUES needs WITH KEY = \"tag\" before WHERE")
                    );
                }
                Ok(Statement::ShowTagValues { show })
            }
            "retention" if self.eat_word("policies") => {
                Ok(Statement::ShowRetentionPolicies { database: self.on_database()? })
            }
            "tag" => Err(self.unexpected("KEYS or VALUES")),
            "field" => Err(self.unexpected("KEYS")),
            "users" | "queries" | "shards" | "stats" | "diagnostics" | "continuous" | "subscriptions"
            | "grants" => Err(self.unsupported(offset, format!("SHOW {}", word.to_uppercase()))),
            _ => {
                self.place -= 1;
                Err(self.unexpected_show())
            }
        }
    }

    /// `SHOW SERIES CARDINALITY` and its like, if that is meant.
    fn cardinality(&mut self, noun: &str) -> Result<Option<Statement>> {
        let words: &[&str] = match noun {
            "series" | "measurement" => &[],
            "tag" if self.at_word("key") => &["key"],
            "tag" if self.at_word("values") => &["values"],
            "field" if self.at_word("key") => &["key"],
            _ => return Ok(None),
        };
        let at = |count: usize, word: &str| self.at_word_after(words.len() + count, word);
        let is_exact = at(0, "exact") && at(1, "cardinality");
        if !is_exact && !at(0, "cardinality") {
            return Ok(None);
        }
        self.place += words.len() + 1 + usize::from(is_exact);
        let (what, subject) = match (noun, words) {
            ("series", _) => (Counted::Series, ""),
            ("measurement", _) => (Counted::Measurements, ""),
            ("field", _) => (Counted::FieldKeys, ""),
            (_, ["values"]) => (Counted::TagValues, "key"),
            _ => (Counted::TagKeys, ""),
        };
        let show = self.clauses(subject)?;
        if what == Counted::TagValues && show.names.is_none() {
            return Err(self.fail(self.offset(), "SHOW TAG VALUES needs WITH KEY = \"tag\" before WHERE"));
        }
        Ok(Some(Statement::ShowCardinality { what, is_exact, show }))
    }

    fn unexpected_show(&self) -> crate::Error {
        self.unexpected(
            "DATABASES, MEASUREMENTS, TAG KEYS, TAG VALUES, FIELD KEYS, SERIES or RETENTION POLICIES after SHOW",
        )
    }

    fn on_database(&mut self) -> Result<Option<String>> {
        if self.eat_word("on") { self.name("a database after ON").map(Some) } else { Ok(None) }
    }

    /// `[ON db] [FROM ...] [WITH <subject> ...] [WHERE ...] [LIMIT n] [OFFSET n]`. ON, FROM and ORDER are in this
    /// order; an empty subject has no WITH.
    fn clauses(&mut self, subject: &str) -> Result<Show> {
        let mut show = Show { database: self.on_database()?, ..Show::default() };
        if self.eat_word("from") {
            show.sources = self.measurements()?;
        }
        if !subject.is_empty() && self.eat_word("with") {
            self.expect_word(subject)?;
            show.names = Some(self.name_test()?);
        }
        show.condition = self.condition()?;
        if self.eat_word("order") {
            self.expect_word("by")?;
            self.name("a column after ORDER BY")?;
            self.eat_word("asc");
        }
        show.page = self.page("limit", "offset")?;
        Ok(show)
    }

    /// `= name`, `!= name`, `=~ /regex/`, `!~ /regex/` or `IN (names)`.
    fn name_test(&mut self) -> Result<NameTest> {
        let what = "a name after WITH";
        if self.eat_symbol("=") {
            return Ok(NameTest::In(vec![self.key_name(what)?]));
        }
        if self.eat_symbol("!=") || self.eat_symbol("<>") {
            return Ok(NameTest::NotIn(vec![self.key_name(what)?]));
        }
        let is_negated = self.at_symbol("!~");
        if self.eat_symbol("=~") || self.eat_symbol("!~") {
            let Some(regex) = self.eat_regex()? else {
                return Err(self.unexpected("a regular expression between slashes"));
            };
            return Ok(if is_negated { NameTest::Differs(regex) } else { NameTest::Matches(regex) });
        }
        if !self.eat_word("in") {
            return Err(self.unexpected("=, !=, =~, !~ or IN"));
        }
        self.expect_symbol("(")?;
        let mut names = vec![self.key_name(what)?];
        while self.eat_symbol(",") {
            names.push(self.key_name(what)?);
        }
        self.expect_symbol(")")?;
        Ok(NameTest::In(names))
    }

    /// A name; clients also send it as a string.
    fn key_name(&mut self, what: &str) -> Result<String> {
        if let Token::Text(text) = self.peek() {
            self.place += 1;
            return Ok(text.clone());
        }
        self.name(what)
    }

    /// What follows the word CREATE.
    pub(super) fn create(&mut self) -> Result<Statement> {
        let offset = self.offset();
        if !self.eat_word("database") {
            return Err(match self.peek() {
                Token::Word(word) => self.unsupported(offset, format!("CREATE {}", word.to_uppercase())),
                _ => self.unexpected("DATABASE after CREATE"),
            });
        }
        if self.eat_word("if") {
            self.expect_word("not")?;
            self.expect_word("exists")?;
        }
        let name = self.name("a database name")?;
        if self.at_word("with") {
            return Err(self.unsupported(self.offset(), "CREATE DATABASE ... WITH"));
        }
        Ok(Statement::CreateDatabase { name })
    }
}
