//! `icecore retention`: drops what is past its age, or says what would go, when, and what holds the rest. On a
//! directory that no server has open, or by a running server; both say the same, in the server's JSON.

use std::path::Path;

use icecore_storage::engine::Guard;
use serde_json::{Map, Value};

use super::print::Grid;
use super::remote::Remote;
use super::{Ended, Target, say};
use crate::databases::Offline;
use crate::http::{plan_json, report_json};

const PATH: &str = "/api/v1/admin/retention";

/// Flags of `icecore retention`.
#[derive(Debug, clap::Args)]
pub(super) struct RetentionArgs {
    /// Drop nothing: show what would go.
    #[arg(long)]
    dry_run: bool,
    /// Without the guards: also when the clock is far past the newest sample, and everything in one pass.
    #[arg(long)]
    force: bool,
    /// One database; all without it.
    #[arg(long)]
    db: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Shows or drops.
pub(super) fn run(args: &RetentionArgs) -> Result<(), Ended> {
    let done = match args.target.url() {
        Some(url) => by_server(args, &Remote::new(url)?)?,
        None => in_directory(args)?,
    };
    for (name, done) in &done {
        if args.dry_run { show_plan(name, done) } else { show_report(name, done) }
    }
    Ok(())
}

fn by_server(args: &RetentionArgs, remote: &Remote) -> Result<Map<String, Value>, Ended> {
    let mut params = Vec::new();
    params.extend(args.dry_run.then_some(("dry_run", "true")));
    params.extend(args.force.then_some(("force", "true")));
    params.extend(args.db.as_deref().map(|db| ("db", db)));
    let reply = remote.post(PATH, &params, b"")?;
    if reply.status != 200 {
        return Err(Ended::failed(reply.error()));
    }
    let mut answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    match answer.get_mut("data").map(Value::take) {
        Some(Value::Object(databases)) => Ok(databases),
        _ => Err(Ended::failed(format_args!("the server's answer cannot be read: {}", reply.body))),
    }
}

fn in_directory(args: &RetentionArgs) -> Result<Map<String, Value>, Ended> {
    let dir = args.target.data_dir.as_deref().unwrap_or(Path::new(""));
    let home = Offline::open(dir).map_err(|error| Ended::opening(&error))?;
    if let Some(error) = home.damage {
        return Err(Ended::failed(error));
    }
    let guard = if args.force { Guard::Forced } else { Guard::Careful };
    let mut done = Map::new();
    for (name, dir) in home.databases.iter().filter(|(name, _)| args.db.as_ref().is_none_or(|db| db == name))
    {
        let value = match args.dry_run {
            true => plan_json(&home.plan_retention(dir, guard)?),
            false => report_json(&home.apply_retention(dir, guard)?),
        };
        done.insert(name.clone(), value);
    }
    match &args.db {
        Some(db) if done.is_empty() => Err(Ended::usage(format_args!("there is no database {db:?}"))),
        _ => Ok(done),
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn show_report(name: &str, report: &Value) {
    let dropped = ["raw", "1m", "5m", "1h"].map(|tier| {
        let files = number(report, &format!("/dropped/{tier}"));
        format!("{tier} {files}")
    });
    let paused = match text(report, "/paused") {
        "" => String::new(),
        reason => format!("; {reason}"),
    };
    say(format_args!("database {name:?}: files dropped: {}{paused}", dropped.join(", ")));
}

fn show_plan(name: &str, plan: &Value) {
    say(format_args!("database {name:?} at {}: retention {}", text(plan, "/at"), text(plan, "/retention")));
    let tiers = plan.get("tiers").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Vec<String>> = tiers.flat_map(tier_rows).collect();
    if rows.is_empty() {
        say("no files");
        return;
    }
    let columns = ["layer", "state", "files", "rows", "bytes", "times", "note"].map(str::to_owned);
    say(Grid { title: String::new(), columns: columns.to_vec(), rows }.aligned());
}

fn tier_rows(tier: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (part, word) in [("goes", "goes now"), ("held", "held"), ("kept", "kept")] {
        let of = |name: &str| format!("/{part}/{name}");
        if number(tier, &of("files")) == 0 {
            continue;
        }
        let note = match part {
            "held" => text(tier, "/held/reason").to_owned(),
            "kept" => match text(tier, "/next/at") {
                "" => "for ever".to_owned(),
                at => format!("next: {} of them at {at}", number(tier, "/next/files")),
            },
            _ => String::new(),
        };
        let counts = ["files", "rows", "bytes"].map(|name| number(tier, &of(name)).to_string());
        let mut row = vec![text(tier, "/tier").to_owned(), word.to_owned()];
        row.extend(counts);
        row.push(format!("{} to {}", text(tier, &of("start")), text(tier, &of("end"))));
        row.push(note);
        rows.push(row);
    }
    rows
}
