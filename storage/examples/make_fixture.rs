//! Writes a fixture of the disk format: `cargo run -p icecore-storage --example make_fixture -- DIR [dense|skewed]`. What is in
//! it says `tests/compat/program.rs`; when it is made anew says `docs/format.md`.

#![expect(unreachable_pub, dead_code, reason = "the program is shared with the test, which uses all of it")]
#![expect(clippy::print_stderr, reason = "an example says what went wrong")]

#[path = "../../tests/compat/program.rs"]
mod program;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), kind) = (args.next().map(PathBuf::from), args.next()) else {
        eprintln!("usage: make_fixture DIR [dense|skewed]");
        return ExitCode::from(2);
    };
    let make = match kind.as_deref().map(OsStr::to_str) {
        None => program::make,
        Some(Some("dense")) => program::make_dense,
        Some(Some("skewed")) => program::make_skewed,
        Some(_) => {
            eprintln!("the second argument can only be `dense` or `skewed`");
            return ExitCode::from(2);
        }
    };
    if dir.exists() {
        eprintln!("{} is there already: remove it first", dir.display());
        return ExitCode::from(2);
    }
    match make(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
