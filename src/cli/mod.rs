//! The command line: flags in, exit codes and printed text out.
//!
//! Read in this order: this file (commands, exit codes), `serve` (run the server until a signal), `import` (files
//! into a database) with `records` (how each format is read) and `lines` (points as line protocol), `query` (one
//! question) with `print` (aligned tables), `backup` and `restore` (a directory to another), `check` and `inspect` (the
//! files of a directory that no server has open), `retention` (what is past its age), `remote` (a running server as the other side).
//!
//! Exit codes: 0 done; 1 it failed while running; 2 the flags or the configuration are wrong (also a data
//! directory that cannot be used and a port that is taken).

mod backup;
mod check;
mod import;
mod inspect;
mod lines;
mod memory;
mod print;
mod query;
mod records;
mod remote;
mod restore;
mod retention;
mod serve;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Config, Databases, Error, ErrorKind};

/// A time-series database for service health.
#[derive(Debug, Parser)]
#[command(name = "icecore", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Load a file into a database, directly or through a running server.
    Import(import::ImportArgs),
    /// Ask one PromQL or SELECT question.
    Query(query::QueryArgs),
    /// Verify all checksums and cross references of a directory that no server has open, and name damage.
    Check(check::CheckArgs),
    /// Show the layout of segments: sizes by column and encoding.
    Inspect(inspect::InspectArgs),
    /// Write a consistent copy of all databases, directly or from a running server.
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup.
    Restore(restore::RestoreArgs),
    /// Drop what is past its age, or show what would go and when.
    Retention(retention::RetentionArgs),
}

/// Where a command finds its data.
#[derive(Debug, Clone, clap::Args)]
struct Target {
    /// A running server. When neither this nor --data-dir is given: http://127.0.0.1:8086.
    #[arg(long, conflicts_with = "data_dir")]
    url: Option<String>,
    /// A data directory that no server has open.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

impl Target {
    const URL: &str = "http://127.0.0.1:8086";

    /// The server, when it is one; without either flag the default address.
    fn url(&self) -> Option<&str> {
        match (&self.url, &self.data_dir) {
            (Some(url), _) => Some(url),
            (None, None) => Some(Self::URL),
            (None, Some(_)) => None,
        }
    }
}

/// Opens a data directory for a command that works on it directly.
fn open_directory(dir: &Path, config: Config) -> Result<Databases, Ended> {
    Databases::open(dir, config).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::Conflict if dir.join("ICECORE").exists() => {
                ". If a server has it open, go through the server: --url http://host:port"
            }
            _ => "",
        };
        let ended = Ended::opening(&error);
        Ended { message: format!("{}{hint}", ended.message), ..ended }
    })
}

/// Why a command ended badly, with its exit code.
#[derive(Debug)]
struct Ended {
    code: u8,
    message: String,
}

impl Ended {
    /// It failed while running.
    fn failed(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The flags or the configuration are wrong.
    fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A data directory could not be opened: damage is a failure, everything else a directory that was named
    /// wrongly or cannot be used.
    fn opening(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Corruption | ErrorKind::DiskFull => Self::failed(error),
            _ => Self::usage(error),
        }
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::failed(error)
    }
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too; clap knows their streams and codes.
            return match error.print() {
                Ok(()) => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
                Err(_) => ExitCode::from(1),
            };
        }
    };
    crate::telemetry::init_log();
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Import(args) => import::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Retention(args) => retention::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            complain(format_args!("icecore: {}", ended.message));
            ExitCode::from(ended.code)
        }
    }
}

/// Prints a line for the user. A reader that is gone (a closed pipe) is no reason to stop working.
fn say(text: impl fmt::Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        tracing::debug!("standard output is closed");
    }
}

/// Prints a line about what went wrong.
fn complain(text: impl fmt::Display) {
    if writeln!(std::io::stderr(), "{text}").is_err() {
        tracing::debug!("standard error is closed");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn data_dir_and_url_exclude_each_other() {
        let both = Cli::try_parse_from(["icecore", "query", "up", "--url", "http://x", "--data-dir", "y"]);
        assert_eq!(both.unwrap_err().exit_code(), 2);
    }

    #[test]
    fn opening_a_foreign_directory_is_a_configuration_error() {
        assert_eq!(Ended::opening(&Error::new(ErrorKind::Conflict, "x")).code, 2);
        assert_eq!(Ended::opening(&Error::new(ErrorKind::Corruption, "x")).code, 1);
    }
}
