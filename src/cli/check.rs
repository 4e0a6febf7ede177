//! `icecore check`: verifies a directory line by line, and on demand takes damaged segments out of it, or makes a damaged
//! catalog anew.
//!
//! Exit codes: 0 nothing is damaged (or all of it was taken out); 1 damage; 2 the directory cannot be checked: it is
//! none of ours, a server has it open, or a newer version wrote it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_storage::check::{Affected, CatalogState, CheckReport, Finding, Severity, check};
use icecore_storage::fs::{Fs, OsFs};
use icecore_storage::model::{Tier, TimeRange};
use icecore_storage::quarantine::{Loss, QuarantineReport, quarantine};
use icecore_storage::rebuild::{RebuildReport, rebuild_catalog};

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
    /// Make damaged or missing catalog files anew from segments and log; the old ones go to quarantine/. A catalog that is
    /// whole is left alone. With --quarantine, damaged segments are taken out first.
    #[arg(long)]
    rebuild_catalog: bool,
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
        sums.add(&one(&fs, dir, args)?);
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
fn one(fs: &Arc<dyn Fs>, dir: &Path, args: &CheckArgs) -> Result<CheckReport, Ended> {
    let refused = |error: icecore_storage::Error| unusable(&Error::from(error));
    let report = check(fs, dir).map_err(refused)?;
    report.findings.iter().for_each(|finding| say(describe(finding)));
    if report.unlisted > 0 {
        say(format_args!("damage: {} more places in these files", report.unlisted));
    }
    let takes_out = args.quarantine && !report.damaged_segments.is_empty();
    if takes_out {
        describe_quarantine(&quarantine(fs, dir).map_err(refused)?);
    }
    let rebuilds = args.rebuild_catalog && rebuild(fs, dir, report.catalog)?;
    match takes_out || rebuilds {
        true => check(fs, dir).map_err(refused),
        false => Ok(report),
    }
}

/// Makes the catalog of a database anew where it is damaged; tells whether it did. A database whose names are not all
/// known stays damaged, and the others are gone on with.
fn rebuild(fs: &Arc<dyn Fs>, dir: &Path, catalog: CatalogState) -> Result<bool, Ended> {
    let rebuilt = match catalog {
        CatalogState::Unknown => return Ok(false),
        CatalogState::Whole => Ok(None),
        CatalogState::Damaged => rebuild_catalog(fs, dir),
    };
    match rebuilt {
        Ok(Some(report)) => {
            describe_rebuild(dir, &report);
            Ok(true)
        }
        Ok(None) => {
            say(format_args!("kept: the catalog of {} is whole", dir.display()));
            Ok(false)
        }
        // What is refused for one database says nothing of the next.
        Err(error) if is_refusal(error.kind()) => {
            say(format_args!("refused: {error}; nothing was changed for that"));
            Ok(false)
        }
        Err(error) => Err(unusable(&Error::from(error))),
    }
}

fn is_refusal(kind: icecore_storage::ErrorKind) -> bool {
    use icecore_storage::ErrorKind::{Conflict, Corruption, LimitExceeded};
    matches!(kind, Corruption | Conflict | LimitExceeded)
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

fn describe_rebuild(dir: &Path, report: &RebuildReport) {
    let RebuildReport { measurements, fields, series, stand_ins, moved } = report;
    for file in moved {
        say(format_args!("moved: {}", file.display()));
    }
    for stand_in in stand_ins {
        say(format_args!("note: {stand_in}: its name is lost, and no row is of it"));
    }
    say(format_args!(
        "rebuilt: the catalog of {} has {measurements} measurements, {fields} fields and {series} series",
        dir.display()
    ));
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
