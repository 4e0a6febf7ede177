//! icecore.
