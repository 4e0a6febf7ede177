//! The icecore command: see `icecore --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    icecore::cli::main()
}
