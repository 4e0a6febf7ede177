//! Tests of the whole room: text in, answer out.

mod data;
mod language;
mod script;
mod semantics;
