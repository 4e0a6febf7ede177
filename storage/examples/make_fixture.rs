//! Writes a fixture of the disk format: `cargo run -p icecore-storage --example make_fixture -- DIR`. What is in it
//! says `tests/compat/program.rs`; when it is made anew says `docs/format.md`.

#![expect(unreachable_pub, dead_code, reason = "the program is shared with the test, which uses all of it")]
#![expect(clippy::print_stderr, reason = "an example says what went wrong")]

#[path = "../../tests/compat/program.rs"]
mod program;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: make_fixture DIR");
        return ExitCode::from(2);
    };
    if dir.exists() {
        eprintln!("{} is there already: remove it first", dir.display());
        return ExitCode::from(2);
    }
    match program::make(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
