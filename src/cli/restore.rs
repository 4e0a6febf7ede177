//! `icecore restore`: a snapshot back as a data directory. Opens every database of it once, and leaves nothing behind
//! when one does not.

use std::path::PathBuf;
use std::sync::Arc;

use icecore_storage::clock::SystemClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::OsFs;

use super::{Ended, say};
use crate::databases::{RestoreReport, restore};

/// Flags of `icecore restore`.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// A directory that `icecore backup` or the server made.
    snapshot: PathBuf,
    /// The data directory it becomes: not there yet, or empty.
    #[arg(long)]
    data_dir: PathBuf,
}

pub(super) fn run(args: &RestoreArgs) -> Result<(), Ended> {
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let report = restore(&env, &args.snapshot, &args.data_dir).map_err(|error| Ended::opening(&error))?;
    let RestoreReport { databases, linked_files, copied_files } = report;
    say(format_args!(
        "restored {} to {}: {linked_files} files linked, {copied_files} copied",
        databases.join(", "),
        args.data_dir.display()
    ));
    Ok(())
}
