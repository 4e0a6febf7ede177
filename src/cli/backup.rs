//! `icecore backup`: all databases of a data directory or a running server, as a directory that opens like any.
//!
//! A server makes the snapshot below its own data directory, since no path of a client becomes one of the server.
//! From there it is brought to its place here, which needs the same machine, and removed there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_storage::clock::SystemClock;
use icecore_storage::engine::{Env, SnapshotReport};
use icecore_storage::fs::OsFs;

use super::remote::{Remote, Reply};
use super::{Ended, Target, complain, say};
use crate::Config;
use crate::databases::{DatabaseSnapshot, restore};

const SNAPSHOT_PATH: &str = "/api/v1/admin/snapshot";

/// Flags of `icecore backup`.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Where the backup goes: a directory that is not there, or empty.
    to: PathBuf,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &BackupArgs) -> Result<(), Ended> {
    match args.target.url() {
        Some(url) => from_server(&args.to, &Remote::new(url)?)?,
        None => from_directory(&args.to, args.target.data_dir.as_deref().unwrap_or(Path::new("")))?,
    }
    say(format_args!("backup complete: {}", args.to.display()));
    Ok(())
}

fn from_directory(to: &Path, dir: &Path) -> Result<(), Ended> {
    if !dir.join("ICECORE").exists() {
        return Err(Ended::usage(format!("{} is not an icecore data directory", dir.display())));
    }
    let databases = super::open_directory(dir, Config::default())?;
    for DatabaseSnapshot { name, report } in databases.snapshot(to)? {
        let SnapshotReport { end_seq, files, copied_files, segment_bytes } = report;
        say(format_args!(
            "{name}: {files} files ({copied_files} copied), {segment_bytes} bytes of segments, all before log \
             sequence {end_seq}"
        ));
    }
    Ok(databases.close()?)
}

fn from_server(to: &Path, remote: &Remote) -> Result<(), Ended> {
    let made = done(remote.post(SNAPSHOT_PATH, &[], b"")?)?;
    let text = |name: &str| made.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let (name, path) = (text("name"), Path::new(text("path")));
    for (database, report) in
        made.get("databases").and_then(serde_json::Value::as_object).into_iter().flatten()
    {
        let number = |name: &str| report.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
        let (files, end_seq) = (number("files"), number("end_seq"));
        say(format_args!("{database}: {files} files, all before log sequence {end_seq}"));
    }
    if !path.join("ICECORE").exists() {
        return Err(Ended::failed(format!(
            "the snapshot is on the server's machine, in {}: copy it from there, then DELETE {SNAPSHOT_PATH}?name={name}",
            path.display()
        )));
    }
    let env = Env { fs: Arc::new(OsFs), clock: Arc::new(SystemClock::default()) };
    let brought = restore(&env, path, to);
    if let Err(ended) = remote.delete(SNAPSHOT_PATH, &[("name", name)]).and_then(done) {
        complain(format_args!("note: the server keeps its snapshot {name}: {}", ended.message));
    }
    brought?;
    Ok(())
}

/// The data of a good answer.
fn done(reply: Reply) -> Result<serde_json::Value, Ended> {
    if reply.status != 200 {
        return Err(Ended::failed(reply.error()));
    }
    let mut answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
    Ok(answer.get_mut("data").map(serde_json::Value::take).unwrap_or_default())
}
