//! `icecore check`: verifies a directory line by line, and on demand takes damaged segments out of it.
//!
//! Exit codes: 0 nothing is damaged (or all of it was taken out); 1 damage; 2 the directory cannot be checked: it is
//! none of ours, a server has it open, or a newer version wrote it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_storage::check::{Affected, CheckReport, Finding, Severity, check};
use icecore_storage::fs::{Fs, OsFs};
use icecore_storage::model::{Tier, TimeRange};
use icecore_storage::quarantine::{Loss, QuarantineReport, quarantine};

use super::{Ended, say};
use crate::databases::Offline;
use crate::http::rfc3339;
use crate::{Error, ErrorKind};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// A data directory, or one database in it (DIR/db/1). No server may have it open.
    dir: PathBuf,
    /// Move damaged segments to quarantine/ in their database, and say what is lost. Nothing is deleted.
    #[arg(long)]
    quarantine: bool,
}

/// Sums over all databases.
#[derive(Debug, Default)]
struct Sums {
    files: u64,
    bytes: u64,
    damaged: u64,
}

/// Checks the directory.
pub(super) fn run(args: &CheckArgs) -> Result<(), Ended> {
    let home = Offline::open(&args.dir).map_err(|error| unusable(&error))?;
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let mut sums = Sums::default();
    if let Some(error) = &home.damage {
        sums.damaged += 1;
        say(format_args!("damage: {error}; the databases are checked by number"));
    }
    for path in &home.unlisted {
        say(format_args!(
            "orphan: {}: the list of databases does not name it; it is left alone",
            path.display()
        ));
    }
    for (name, dir) in &home.databases {
        if !name.is_empty() {
            say(format_args!("database {name:?} in {}", dir.display()));
        }
        sums.add(&one(&fs, dir, args.quarantine)?);
    }
    let Sums { files, bytes, damaged } = sums;
    say(format_args!("{files} files, {bytes} bytes checked; {damaged} damaged"));
    if damaged == 0 {
        Ok(())
    } else {
        Err(Ended::failed("damage was found; docs/operations.md says what to do"))
    }
}

/// Checks one database; gives what is found in the end.
fn one(fs: &Arc<dyn Fs>, dir: &Path, takes_out: bool) -> Result<CheckReport, Ended> {
    let refused = |error: icecore_storage::Error| unusable(&Error::from(error));
    let report = check(fs, dir).map_err(refused)?;
    report.findings.iter().for_each(|finding| say(describe(finding)));
    if report.unlisted > 0 {
        say(format_args!("damage: {} more places in these files", report.unlisted));
    }
    if !takes_out || report.damaged_segments.is_empty() {
        return Ok(report);
    }
    describe_quarantine(&quarantine(fs, dir).map_err(refused)?);
    check(fs, dir).map_err(refused)
}

impl Sums {
    fn add(&mut self, report: &CheckReport) {
        self.files += report.files;
        self.bytes += report.bytes;
        self.damaged += report.damaged();
    }
}

/// A directory that cannot be looked at is named wrongly or in use, whatever the reason.
fn unusable(error: &Error) -> Ended {
    let hint = match error.kind() {
        ErrorKind::Conflict if error.to_string().contains("locked") => ". Stop the server first",
        _ => "",
    };
    match error.kind() {
        ErrorKind::Corruption => Ended::failed(error),
        _ => Ended::usage(format_args!("{error}{hint}")),
    }
}

/// A finding on one line: how bad, where, what, and what cannot be read for it.
fn describe(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Damage => "damage",
        Severity::Orphan => "orphan",
        Severity::Note => "note",
    };
    let mut line = format!("{severity}: {}: ", finding.path.display());
    if let Some(offset) = finding.offset.filter(|_| !finding.what.contains("at offset")) {
        push(&mut line, format_args!("at offset {offset}: "));
    }
    if let Some(page) = finding.page {
        push(&mut line, format_args!("page {page}: "));
    }
    line.push_str(&finding.what);
    if let Some(Affected { tier, measurement, range, rows }) = &finding.affected {
        let rows = if *rows > 0 { format!("{rows} ") } else { String::new() };
        let of = measurement.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        push(&mut line, format_args!("; affects {rows}{}{of}, {}", rows_of(*tier), range_text(*range)));
    }
    line
}

fn describe_quarantine(report: &QuarantineReport) {
    for file in &report.moved {
        say(format_args!("moved: {}", file.display()));
    }
    for span in &report.recomputed {
        say(format_args!("kept: the layers of {} are computed anew from raw rows", range_text(*span)));
    }
    for Loss { tier, range, rows, measurements, answered_by, .. } in &report.losses {
        let names: Vec<&str> = measurements.iter().map(|name| &**name).collect();
        let of = if names.is_empty() { "measurements unknown".to_owned() } else { names.join(", ") };
        let layers: Vec<&str> = answered_by.iter().map(|tier| tier.name()).collect();
        let rest = match layers.is_empty() {
            true => "nothing else answers for them".to_owned(),
            false => format!("still answered from {}", layers.join(", ")),
        };
        say(format_args!("lost: {rows} {} of {of}, {}; {rest}", rows_of(Some(*tier)), range_text(*range)));
    }
}

fn rows_of(tier: Option<Tier>) -> &'static str {
    match tier {
        None => "rows and cells",
        Some(Tier::Raw) => "raw rows",
        Some(Tier::M1) => "1m cells",
        Some(Tier::M5) => "5m cells",
        Some(Tier::H1) => "1h cells",
    }
}

/// Half-open, as `from` to before `to`.
pub(super) fn range_text(range: TimeRange) -> String {
    format!("{} to {}", rfc3339(range.start_ns), rfc3339(range.end_ns))
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    if line.write_fmt(text).is_err() {
        tracing::debug!("a string cannot be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describe_names_place_and_loss_on_one_line() {
        let finding = Finding {
            severity: Severity::Damage,
            path: PathBuf::from("/d/seg-1.ice"),
            offset: Some(8),
            page: Some(0),
            what: "checksum 1, 2 expected".to_owned(),
            affected: Some(Affected {
                tier: Some(Tier::M1),
                measurement: Some("cpu".into()),
                range: TimeRange::new(0, 60_000_000_000),
                rows: 4,
            }),
        };
        assert_eq!(
            describe(&finding),
            "damage: /d/seg-1.ice: at offset 8: page 0: checksum 1, 2 expected; affects 4 1m cells of cpu, \
             1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z"
        );
    }
}
