//! The one error type of the facade: a kind from a closed set, a message, and the error below it where there is
//! one. Knows nothing of HTTP; `http::error` gives each kind its status and dialect.

use std::fmt;

use icecore_query::ErrorKind as QueryKind;
use icecore_storage::ErrorKind as StorageKind;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; repeating it cannot help.
    InvalidInput,
    /// The query is valid but fails on this data.
    Execution,
    /// Valid in the language, and icecore does not do it.
    Unsupported,
    /// The named thing does not exist.
    NotFound,
    /// A configured bound was reached.
    LimitExceeded,
    /// The request contradicts what is stored, or the directory is in use.
    Conflict,
    /// The time allowed ran out.
    Deadline,
    /// The caller gave up.
    Cancelled,
    /// Temporarily impossible: try again later.
    Unavailable,
    /// The disk is full, or too full to go on; writes resume by themselves when there is room.
    DiskFull,
    /// Bytes on disk are not what was written.
    Corruption,
    /// An append or sync failed earlier: writes are refused until a restart.
    Poisoned,
    /// A bug in icecore, or an operating-system failure nothing can be done about here.
    Internal,
}

/// An error of icecore.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    limit: Option<&'static str>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of an icecore operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of `kind` with a lowercase message.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), limit: None, source: None }
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The kind, which decides what the caller does.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Name of the limit of a query that was reached, where it is one that can be set.
    pub fn limit(&self) -> Option<&'static str> {
        self.limit
    }

    /// The same error with a prefix that says where it happened.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

fn kind_of_storage(kind: StorageKind) -> ErrorKind {
    match kind {
        StorageKind::InvalidInput => ErrorKind::InvalidInput,
        StorageKind::NotFound => ErrorKind::NotFound,
        StorageKind::LimitExceeded => ErrorKind::LimitExceeded,
        StorageKind::Conflict => ErrorKind::Conflict,
        StorageKind::Deadline => ErrorKind::Deadline,
        StorageKind::Unavailable => ErrorKind::Unavailable,
        StorageKind::DiskFull => ErrorKind::DiskFull,
        StorageKind::Corruption => ErrorKind::Corruption,
        StorageKind::Poisoned => ErrorKind::Poisoned,
        StorageKind::Internal => ErrorKind::Internal,
    }
}

impl From<icecore_storage::Error> for Error {
    fn from(error: icecore_storage::Error) -> Self {
        Self {
            kind: kind_of_storage(error.kind()),
            message: error.to_string(),
            limit: None,
            source: Some(Box::new(error)),
        }
    }
}

impl From<icecore_query::Error> for Error {
    fn from(error: icecore_query::Error) -> Self {
        let kind = match error.kind() {
            QueryKind::InvalidInput => ErrorKind::InvalidInput,
            QueryKind::Execution => ErrorKind::Execution,
            QueryKind::Unsupported => ErrorKind::Unsupported,
            QueryKind::NotFound => ErrorKind::NotFound,
            QueryKind::LimitExceeded => ErrorKind::LimitExceeded,
            QueryKind::Busy => ErrorKind::Unavailable,
            QueryKind::Deadline => ErrorKind::Deadline,
            QueryKind::Cancelled => ErrorKind::Cancelled,
            // Reading waits for nothing: what a query finds unavailable is gone (raw rows under strict resolution),
            // and asking again cannot help.
            QueryKind::Storage(StorageKind::Unavailable) => ErrorKind::Execution,
            QueryKind::Storage(kind) => kind_of_storage(kind),
        };
        Self { kind, message: error.to_string(), limit: error.limit(), source: Some(Box::new(error)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_error_of_full_disk_is_disk_full() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Error::from(icecore_storage::Error::io("append", full)).kind(), ErrorKind::DiskFull);
        let floor = icecore_storage::Error::new(StorageKind::DiskFull, "less than 256 MiB free");
        assert_eq!(Error::from(floor).kind(), ErrorKind::DiskFull);
    }

    #[test]
    fn storage_error_that_speaks_of_a_disk_stays_what_it_is() {
        let memory =
            icecore_storage::Error::new(StorageKind::Unavailable, "memtables are full, the disk is not");
        assert_eq!(Error::from(memory).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn query_error_of_storage_keeps_the_kind() {
        let below = icecore_storage::Error::corruption("page 3 is damaged");
        let error = Error::from(icecore_query::Error::from(below));
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert_eq!(error.to_string(), "page 3 is damaged");
    }
}
