//! The one error type of the storage crate: a kind from a closed set, a message that names the file, series or
//! limit, and the source where there is one. Callers act on the kind; the text is for people.

use std::fmt;

/// What a caller can do about an error. A new kind is added only when a caller would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; repeating it cannot help.
    InvalidInput,
    /// The named thing does not exist.
    NotFound,
    /// A configured bound was reached.
    LimitExceeded,
    /// The request contradicts what is stored (another field type, a directory in use).
    Conflict,
    /// The time allowed for the request ran out.
    Deadline,
    /// Temporarily impossible: try again later.
    Unavailable,
    /// The disk is full, or too full to go on: try again when there is room.
    DiskFull,
    /// Bytes on disk are not what was written.
    Corruption,
    /// An append or sync failed earlier: writes are refused until a restart.
    Poisoned,
    /// A bug in icecore.
    Internal,
}

/// An error of the storage engine.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<std::io::Error>,
}

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of `kind` with a lowercase message that names what was expected and what was found.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), source: None }
    }

    /// Wraps an operating-system error; `what` names the operation and the file.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            _ => ErrorKind::Internal,
        };
        Self { kind, message: format!("{what}: {source}"), source: Some(source) }
    }

    /// Shorthand for [`ErrorKind::Corruption`].
    pub fn corruption(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Corruption, message)
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The kind, which decides what the caller does.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error with a prefix that says where it happened.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}
