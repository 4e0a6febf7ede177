//! `icecore import`: a file into a database, straight into a data directory or through a running server.
//!
//! A database that does not exist yet is created and keeps everything, since history would otherwise be dropped by
//! the default retention as soon as it is loaded. Bad records are counted and the first are shown; the good ones
//! are kept. Lines with a newline inside a string that lies across two blocks (4 MiB) are refused.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore_storage::model::RowError;
use icecore_storage::options::Retention;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::records::{Blocks, open};
use super::remote::Remote;
use super::{Ended, Target, complain, lines, say};
use crate::config::format_retention;
use crate::database::WriteReport;
use crate::databases::DEFAULT_DATABASE;
use crate::ingest::Precision;
use crate::ingest::records::{Format as RecordFormat, RecordError};
use crate::{Config, Database, Databases, Point};

/// Points that are written at once.
const POINTS_AT_ONCE: usize = 10_000;
/// Size from which a body is sent to a server, well below its limit.
const BODY_BYTES: usize = 4 << 20;
/// Refused records that are shown.
const SHOWN_MAX: usize = 10;
/// Attempts while a server says that it is busy.
const ATTEMPTS_MAX: u32 = 8;

/// Form of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// InfluxDB line protocol.
    Lp,
    /// Comma-separated values with a header row.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Common or combined log format of web servers.
    Clf,
}

/// Flags of `icecore import`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The file.
    pub(super) file: PathBuf,
    /// Its form.
    #[arg(long, value_enum)]
    format: Format,
    /// Measurement of all rows; the name of the file when not given. Not for line protocol.
    #[arg(long)]
    pub(super) measurement: Option<String>,
    /// The column or key that holds the time.
    #[arg(long)]
    pub(super) time_column: Option<String>,
    /// `key=value`: a tag for all rows; `column`: a column that is a tag. May be repeated.
    #[arg(long = "tag")]
    pub(super) tags: Vec<String>,
    /// Unit of whole-number times: n, u, ms, s, m or h. Line protocol: n when not given; others: guessed.
    #[arg(long)]
    precision: Option<String>,
    /// The database.
    #[arg(long, default_value = DEFAULT_DATABASE)]
    db: String,
    #[command(flatten)]
    target: Target,
}

/// Where the rows go.
enum Sink {
    Directory { databases: Box<Databases>, database: Arc<Database> },
    Server { remote: Remote, db: String },
}

/// What has been done so far.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    rejected: u64,
    /// The first refusals, with their place.
    shown: Vec<String>,
}

impl Tally {
    fn reject(&mut self, error: &RowError) {
        self.rejected += 1;
        self.show("line", error.line, &error.reason);
    }

    /// Adds a report whose places are counted from 1 after `before`.
    fn add(&mut self, report: WriteReport, unit: &str, before: u32) {
        self.accepted += report.accepted;
        self.rejected += u64::try_from(report.rejected_count).unwrap_or(u64::MAX);
        for RowError { line, reason } in report.rejected {
            self.show(unit, before.saturating_add(line), &reason);
        }
    }

    fn show(&mut self, unit: &str, place: u32, reason: &str) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(format!("{unit} {place}: {reason}"));
        }
    }
}

pub(super) fn run(args: &ImportArgs) -> Result<(), Ended> {
    let precision =
        match &args.precision {
            None => None,
            Some(text) => Some(Precision::parse(text).ok_or_else(|| {
                Ended::usage(format!("--precision {text}: one of n, ns, u, us, ms, s, m, h"))
            })?),
        };
    let unusable = |error: std::io::Error| Ended::usage(format!("{}: {error}", args.file.display()));
    let file = File::open(&args.file).map_err(unusable)?;
    let bytes = file.metadata().map_err(unusable)?.len();
    let sink = Sink::open(args)?;
    let progress = progress(bytes);
    let started = Instant::now();
    let input = BufReader::with_capacity(1 << 20, progress.wrap_read(file));
    let tally = match args.format {
        Format::Lp => import_lines(input, &sink, precision.unwrap_or(Precision::Ns))?,
        Format::Csv => import_points(RecordFormat::Csv, input, &sink, args, precision)?,
        Format::Jsonl => import_points(RecordFormat::Jsonl, input, &sink, args, precision)?,
        Format::Clf => import_points(RecordFormat::Clf, input, &sink, args, precision)?,
    };
    progress.finish_and_clear();
    sink.finish()?;
    report(&tally, started.elapsed(), &args.db)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: u64) -> ProgressBar {
    let progress = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => progress.with_style(style),
        Err(_) => progress,
    }
}

fn report(tally: &Tally, elapsed: Duration, db: &str) -> Result<(), Ended> {
    let (accepted, rejected) = (tally.accepted, tally.rejected);
    let seconds = elapsed.as_secs_f64().max(1e-6);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = accepted as f64 / seconds;
    say(format_args!(
        "{accepted} rows written to {db:?} in {seconds:.1} s ({rate:.0} rows/s), {rejected} rejected"
    ));
    for refusal in &tally.shown {
        complain(refusal);
    }
    let more = rejected.saturating_sub(u64::try_from(tally.shown.len()).unwrap_or(0));
    if more > 0 {
        complain(format_args!("and {more} more"));
    }
    if accepted == 0 && rejected > 0 {
        return Err(Ended::failed("every record was rejected, nothing was written"));
    }
    Ok(())
}

fn import_lines(
    input: BufReader<impl std::io::Read>,
    sink: &Sink,
    precision: Precision,
) -> Result<Tally, Ended> {
    let mut tally = Tally::default();
    let mut blocks = Blocks::new(input);
    let mut lines_before = 0_u32;
    while let Some(block) = blocks.next_block().map_err(Ended::failed)? {
        let report = sink.write_lines(&block, precision)?;
        tally.add(report, "line", lines_before);
        let lines = memchr::memchr_iter(b'\n', &block).count();
        lines_before = lines_before.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }
    Ok(tally)
}

fn import_points(
    format: RecordFormat,
    input: BufReader<impl std::io::Read>,
    sink: &Sink,
    args: &ImportArgs,
    precision: Option<Precision>,
) -> Result<Tally, Ended> {
    let mut tally = Tally::default();
    let mut points = Vec::with_capacity(POINTS_AT_ONCE);
    let mut points_before = 0_u32;
    for record in open(format, input, args, precision)? {
        match record {
            Ok(point) => points.push(point),
            Err(RecordError::Record(error)) => tally.reject(&error),
            Err(error) => return Err(Ended::failed(error)),
        }
        if points.len() >= POINTS_AT_ONCE {
            points_before = write_points(sink, &mut points, &mut tally, points_before)?;
        }
    }
    write_points(sink, &mut points, &mut tally, points_before)?;
    Ok(tally)
}

/// Writes and clears the points; the number of points so far.
fn write_points(sink: &Sink, points: &mut Vec<Point>, tally: &mut Tally, before: u32) -> Result<u32, Ended> {
    if points.is_empty() {
        return Ok(before);
    }
    // What the engine refuses is named by its position among the records that could be read.
    tally.add(sink.write_points(points)?, "record", before);
    let count = u32::try_from(points.len()).unwrap_or(u32::MAX);
    points.clear();
    Ok(before.saturating_add(count))
}

impl Sink {
    fn open(args: &ImportArgs) -> Result<Self, Ended> {
        match args.target.url() {
            Some(url) => Self::open_server(url, &args.db),
            None => Self::open_directory(args),
        }
    }

    fn open_directory(args: &ImportArgs) -> Result<Self, Ended> {
        let dir = args.target.data_dir.clone().unwrap_or_default();
        let is_new_directory = !dir.join("ICECORE").exists();
        // What is created on the way keeps everything.
        let mut config = Config { retention: Retention::FOREVER, ..Config::default() };
        // A load of history makes all its series at once, and an operator asked for it.
        config.options.new_series_per_minute_max = usize::MAX;
        // What the server may hold is not known here.
        config.options.catalog_bytes_max = usize::MAX;
        config.limits.catalogs_bytes_max = usize::MAX;
        let databases = super::open_directory(&dir, config)?;
        let is_new = is_new_directory || databases.get(&args.db).is_none();
        let database = databases
            .create(&args.db, databases.config().new_database())
            .map_err(|error| Ended::opening(&error))?;
        tell_retention(&args.db, is_new, &format_retention(&database.retention()));
        Ok(Self::Directory { databases: Box::new(databases), database })
    }

    fn open_server(url: &str, db: &str) -> Result<Self, Ended> {
        let remote = Remote::new(url)?;
        let reply = remote.ask("/query", &[("q", "SHOW DATABASES")], "application/json")?;
        if reply.status != 200 {
            return Err(Ended::failed(reply.error()));
        }
        let value: serde_json::Value = serde_json::from_str(&reply.body).map_err(Ended::failed)?;
        let rows = value.pointer("/results/0/series/0/values").and_then(serde_json::Value::as_array);
        let is_there =
            rows.into_iter().flatten().any(|row| row.get(0).and_then(serde_json::Value::as_str) == Some(db));
        if is_there {
            tell_retention(db, false, "its own");
        } else {
            let quoted = db.replace('\\', "\\\\").replace('"', "\\\"");
            let create = format!("CREATE DATABASE \"{quoted}\"");
            let params = [("q", create.as_str()), ("retention", "forever")];
            let reply = remote.ask("/query", &params, "application/json")?;
            if reply.status != 200 || reply.body.contains("\"error\"") {
                return Err(Ended::failed(reply.error()));
            }
            tell_retention(db, true, "forever");
        }
        Ok(Self::Server { remote, db: db.to_owned() })
    }

    fn write_lines(&self, block: &[u8], precision: Precision) -> Result<WriteReport, Ended> {
        match self {
            Self::Directory { database, .. } => Ok(database.write_lines(block, precision)?),
            Self::Server { remote, db } => send(remote, db, block, precision_name(precision)),
        }
    }

    fn write_points(&self, points: &[Point]) -> Result<WriteReport, Ended> {
        match self {
            Self::Directory { database, .. } => Ok(database.write(points)?),
            Self::Server { remote, db } => {
                let mut total = WriteReport::default();
                let mut rest = points;
                while !rest.is_empty() {
                    let (taken, report) = post_points(remote, db, rest)?;
                    let done = u32::try_from(points.len() - rest.len()).unwrap_or(u32::MAX);
                    total.accepted += report.accepted;
                    total.rejected_count += report.rejected_count;
                    let named = report.rejected.into_iter();
                    let line_of = |line: u32| line.saturating_add(done);
                    total.rejected.extend(named.map(|error| RowError { line: line_of(error.line), ..error }));
                    rest = rest.get(taken..).unwrap_or_default();
                }
                Ok(total)
            }
        }
    }

    fn finish(self) -> Result<(), Ended> {
        match self {
            Self::Server { .. } => Ok(()),
            Self::Directory { databases, database } => {
                database.seal()?;
                Ok(databases.close()?)
            }
        }
    }
}

fn tell_retention(db: &str, is_new: bool, retention: &str) {
    if is_new {
        say(format_args!("database {db:?} is new and keeps everything (retention forever)"));
    } else if retention != "forever" {
        say(format_args!(
            "database {db:?} was there and keeps its retention ({retention}): older rows will be dropped"
        ));
    }
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Ns => "ns",
        Precision::Us => "us",
        Precision::Ms => "ms",
        Precision::S => "s",
        Precision::M => "m",
        Precision::H => "h",
    }
}

/// Posts the first points, as many as make a body of [`BODY_BYTES`]; how many they were.
fn post_points(remote: &Remote, db: &str, points: &[Point]) -> Result<(usize, WriteReport), Ended> {
    let mut body = Vec::new();
    let mut refused = Vec::new();
    let mut taken = 0;
    for (line, point) in (1..).zip(points) {
        if let Err(reason) = lines::push_line(&mut body, point) {
            // A comment in its place, so that the numbers of lines stay those of the points.
            body.extend_from_slice(b"#\n");
            refused.push(RowError { line, reason });
        }
        taken += 1;
        if BODY_BYTES <= body.len() {
            break;
        }
    }
    let mut report = send(remote, db, &body, "ns")?;
    report.rejected_count += refused.len();
    report.rejected.extend(refused);
    Ok((taken, report))
}

/// Posts lines; waits and tries again while the server is busy, which is harmless as rows replace themselves.
fn send(remote: &Remote, db: &str, body: &[u8], precision: &str) -> Result<WriteReport, Ended> {
    let pause = crate::services::StopFlag::default();
    for attempt in 0..ATTEMPTS_MAX {
        let reply = remote.post("/write", &[("db", db), ("precision", precision)], body)?;
        match reply.status {
            204 => return Ok(WriteReport { accepted: reply.written.unwrap_or(0), ..WriteReport::default() }),
            400 if reply.error().starts_with("partial write") => return Ok(partial(&reply.error())),
            429 | 503 => {
                pause.wait(Duration::from_millis(250 << attempt));
            }
            _ => return Err(Ended::failed(reply.error())),
        }
    }
    Err(Ended::failed(format!("the server was busy {ATTEMPTS_MAX} times in a row")))
}

/// Reads the counts and the named lines out of the text of a partial write.
fn partial(text: &str) -> WriteReport {
    let count = |name: &str| -> u64 {
        let tail = text.rsplit_once(name).map_or("", |(_, tail)| tail);
        tail.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    let named = text.trim_start_matches("partial write: ").split("; ").filter_map(|part| {
        let (line, reason) = part.strip_prefix("line ")?.split_once(": ")?;
        Some(RowError { line: line.parse().ok()?, reason: reason.to_owned() })
    });
    WriteReport {
        accepted: count("written="),
        rejected: named.collect(),
        rejected_count: usize::try_from(count("dropped=")).unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_write_text_is_read_back() {
        let report =
            partial("partial write: line 2: no field; line 9: bad value; and 3 more; written=7 dropped=5");
        assert_eq!((report.accepted, report.rejected_count), (7, 5));
        let lines: Vec<_> = report.rejected.iter().map(|error| (error.line, error.reason.as_str())).collect();
        assert_eq!(lines, [(2, "no field"), (9, "bad value")]);
    }

    #[test]
    fn tally_shows_the_first_and_counts_all() {
        let mut tally = Tally::default();
        let rejected = (1..=20).map(|line| RowError { line, reason: String::new() }).collect();
        tally.add(WriteReport { accepted: 1, rejected, rejected_count: 50 }, "line", 100);
        assert_eq!((tally.accepted, tally.rejected, tally.shown.len()), (1, 50, SHOWN_MAX));
        assert!(tally.shown.first().unwrap().starts_with("line 101: "));
    }
}
