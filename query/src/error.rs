//! The one error type of the query crate: a kind, a message and, for errors in the text, the place.

use std::fmt;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The query text or a parameter is wrong.
    InvalidInput,
    /// The query is valid but its meaning fails on this data (for example many-to-many matching).
    Execution,
    /// Valid in the language, and icecore does not do it yet; the message names it.
    Unsupported,
    /// The named thing does not exist.
    NotFound,
    /// The budget of samples, series, points or memory is used up.
    LimitExceeded,
    /// Other queries hold what this one needs: try again.
    Busy,
    /// The time allowed ran out.
    Deadline,
    /// The client left.
    Cancelled,
    /// Storage failed.
    Storage(icecore_storage::ErrorKind),
}

/// An error of a query.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    offset: Option<usize>,
    limit: Option<&'static str>,
    #[source]
    source: Option<Box<icecore_storage::Error>>,
}

/// Result of a query operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of `kind` with a lowercase message.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), offset: None, limit: None, source: None }
    }

    /// An error in the text at a byte offset; the message is prefixed with `line:column`, both from 1.
    pub fn at(text: &str, offset: usize, message: impl fmt::Display) -> Self {
        let (line, column) = line_column(text, offset);
        Self {
            kind: ErrorKind::InvalidInput,
            message: format!("{line}:{column}: parse error: {message}"),
            offset: Some(offset),
            limit: None,
            source: None,
        }
    }

    /// An error of a search for series. Storage does not know whose bound it was given: when there were more than that, this
    /// names it.
    pub fn of_search(limit: &'static str, error: icecore_storage::Error) -> Self {
        match error.kind() {
            icecore_storage::ErrorKind::LimitExceeded => {
                let message = format!("{error} (limit {limit})");
                Self { message, ..Self::from(error) }.of_limit(limit)
            }
            _ => error.into(),
        }
    }

    /// The same error, which says which limit was reached. The message names it, too.
    #[must_use]
    pub fn of_limit(self, limit: &'static str) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Byte offset in the query text, for errors in the text.
    pub fn offset(&self) -> Option<usize> {
        self.offset
    }

    /// Name of the limit that was reached, where it is one that can be set.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }
}

impl From<icecore_storage::Error> for Error {
    fn from(error: icecore_storage::Error) -> Self {
        let kind = match error.kind() {
            icecore_storage::ErrorKind::Deadline => ErrorKind::Deadline,
            icecore_storage::ErrorKind::LimitExceeded => ErrorKind::LimitExceeded,
            icecore_storage::ErrorKind::InvalidInput => ErrorKind::Execution,
            other => ErrorKind::Storage(other),
        };
        Self { kind, message: error.to_string(), offset: None, limit: None, source: Some(Box::new(error)) }
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
