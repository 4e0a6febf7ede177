//! The real binary on port 0 in a fresh directory: what a client and an operator see. One module for each
//! behaviour; `support` starts and stops servers.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panic, as tests do")]

mod backup;
mod bad_input;
mod check;
mod cli;
mod clients;
mod crash;
mod delete;
mod duplicates;
mod limits;
mod query;
mod real;
mod retention;
mod shutdown;
mod support;
mod udp;
mod write;
