//! DELETE and DROP.

use super::Parser;
use crate::Result;
use crate::select::ast::{Delete, Pattern, Source, Statement};
use crate::select::token::Token;

impl Parser<'_> {
    /// What follows the word DELETE.
    pub(super) fn delete(&mut self) -> Result<Statement> {
        Ok(Statement::Delete { delete: Delete { takes_time: true, ..self.rows_meant()? } })
    }

    /// What follows the word DROP.
    pub(super) fn drop(&mut self) -> Result<Statement> {
        let offset = self.offset();
        if self.eat_word("measurement") {
            let measurement = Pattern::Name(self.name("a measurement name")?);
            let sources = vec![Source::Measurement { database: None, measurement }];
            return Ok(Statement::Delete { delete: Delete { sources, ..Delete::default() } });
        }
        if self.eat_word("series") {
            return Ok(Statement::Delete { delete: self.rows_meant()? });
        }
        if self.eat_word("database") {
            return Ok(Statement::DropDatabase { name: self.name("a database name")? });
        }
        match self.peek() {
            Token::Word(word) => Err(self.unsupported(offset, format!("DROP {}", word.to_uppercase()))),
            _ => Err(self.unexpected("MEASUREMENT, SERIES or DATABASE after DROP")),
        }
    }

    /// `[FROM ...] [WHERE ...]`, of which one must be there: a statement that was cut short must not delete all.
    fn rows_meant(&mut self) -> Result<Delete> {
        let mut delete = Delete::default();
        if self.eat_word("from") {
            delete.sources = self.measurements()?;
        }
        delete.condition = self.condition()?;
        if delete.sources.is_empty() && delete.condition.is_none() {
            return Err(self.unexpected("FROM or WHERE"));
        }
        Ok(delete)
    }
}
