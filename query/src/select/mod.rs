//! SELECT.
