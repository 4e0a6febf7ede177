//! One database: write rows, ask questions, look after it. The same door for the server, the demo and a program
//! that embeds icecore; the engine below is synchronous, so every call returns when the work is done.

mod ranges;
mod readers;
mod senders;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use icecore_query::select::{Cell, Statement, Table, TableSeries};
use icecore_query::{Budget, Limits as QueryLimits, MemoryPool, promql, select};
use icecore_storage::Engine;
use icecore_storage::cell_set::CellRule;
use icecore_storage::engine::{EngineStats, Env, Guard, RetentionPlan, RetentionReport};
use icecore_storage::model::{RowError, SeriesSet, Tier, TimeRange};
use icecore_storage::options::Retention;
use icecore_storage::rules::Rule;
use icecore_storage::scan::{Resolution, Scan};

use crate::config::{Config, check_order, format_age};
use crate::databases::{DEFAULT_DATABASE, Databases};
use crate::duplicates::Duplicates;
use crate::exemplars::Exemplars;
use crate::ingest::line::{self, LineLimits, Precision};
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::point::{self, Decoded, Point};
use crate::results::Results;
use crate::{Error, ErrorKind, Result};

pub use senders::{OtlpReport, RemoteReport, RemoteVersion};

/// How far an instant selector looks back for a sample, as in Prometheus.
const LOOKBACK: Duration = Duration::from_secs(300);
/// Memory of a field of a body that is decoded alone: it may take three times `decoding_bytes_max`.
const FIELD_BYTES: usize = 32;
/// Refused rows of a batch whose reasons name their series, where lines are no lines that a sender knows.
const NAMED_MAX: usize = 10;

/// How one query is run.
#[derive(Debug, Clone, Copy)]
pub struct QueryOptions {
    /// What it may use.
    pub limits: QueryLimits,
    /// What to do where raw rows are gone.
    pub resolution: Resolution,
    /// How far an instant selector looks back.
    pub lookback: Duration,
    /// Whether a range query may use steps that were answered before, and leave its own for later ones.
    pub may_reuse: bool,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            limits: QueryLimits::default(),
            resolution: Resolution::Auto,
            lookback: LOOKBACK,
            may_reuse: true,
        }
    }
}

/// A query with its running account: clone the budget's cancel switch before running it to be able to stop it.
#[derive(Debug)]
pub struct Query {
    /// The account.
    pub budget: Budget,
    /// How it is run.
    pub options: QueryOptions,
    reused_steps: AtomicU64,
}

/// Steps of a range query in nanoseconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// First evaluation time.
    pub start_ns: i64,
    /// Last evaluation time at most.
    pub end_ns: i64,
    /// Distance of two evaluation times, positive.
    pub step_ns: i64,
}

/// What became of a write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Rows kept.
    pub accepted: u64,
    /// The first refused rows, by line or position from 1.
    pub rejected: Vec<RowError>,
    /// How many rows were refused in all.
    pub rejected_count: usize,
}

/// What a delete hid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteReport {
    /// Series that were chosen, with rows in the range or without.
    pub series: u64,
    /// Files that hold something of it and are written anew in the background.
    pub segments: u64,
    /// Raw rows of a part were gone already, and cells of this tier that lie in the range only for a part were deleted
    /// whole.
    pub rounded: Option<Tier>,
}

/// One open database.
pub struct Database {
    name: String,
    engine: Arc<Engine>,
    env: Env,
    query_options: QueryOptions,
    line_limits: LineLimits,
    /// For measurements that keep every event, when there are some.
    duplicates: Option<Arc<Duplicates>>,
    /// What senders said of metrics.
    metadata: Arc<Metadata>,
    /// The last exemplars that senders gave.
    exemplars: Arc<Exemplars>,
    /// Memory of all running queries of the data directory.
    queries_memory: Arc<MemoryPool>,
    /// Answers that are kept, of all databases of the data directory, and which are of this one.
    results: Arc<Results>,
    number: u64,
    /// The directory this database was opened with, when it was opened alone.
    home: Option<Databases>,
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the default database of a data directory, creating the directory when it is not there. Background
    /// work runs on its own thread until [`Database::close`] or drop.
    ///
    /// # Errors
    /// `Conflict` when the directory is in use or holds something else; `Corruption` when it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Config::default())
    }

    /// As [`Database::open`], with settings; `data_dir` of the configuration is not looked at.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_with(path: impl AsRef<Path>, config: Config) -> Result<Self> {
        let home = Databases::open(path, config)?;
        let found = home.get(DEFAULT_DATABASE);
        let inner = found.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the default database is not there after opening")
        })?;
        Ok(Self {
            name: inner.name.clone(),
            engine: Arc::clone(&inner.engine),
            env: inner.env.clone(),
            query_options: inner.query_options,
            line_limits: inner.line_limits,
            duplicates: inner.duplicates.clone(),
            metadata: Arc::clone(&inner.metadata),
            exemplars: Arc::clone(&inner.exemplars),
            queries_memory: Arc::clone(&inner.queries_memory),
            results: Arc::clone(&inner.results),
            number: inner.number,
            home: Some(home),
        })
    }

    pub(crate) fn of_engine(
        name: &str,
        keep_duplicates: &[String],
        engine: Arc<Engine>,
        env: Env,
        limits: &Limits,
        queries_memory: Arc<MemoryPool>,
        results: Arc<Results>,
    ) -> Self {
        let query_options = QueryOptions { limits: limits.query, ..QueryOptions::default() };
        let preset = LineLimits::default();
        let fields_max = (limits.decoding_bytes_max / FIELD_BYTES).clamp(1, preset.fields_max);
        let line_limits = LineLimits { fields_max, ..preset };
        let duplicates = Duplicates::new(keep_duplicates).map(Arc::new);
        let name = name.to_owned();
        let metadata = Arc::default();
        let exemplars = Arc::new(Exemplars::new(limits.exemplars_bytes_max));
        let number = results.number();
        Self {
            name,
            engine,
            env,
            query_options,
            line_limits,
            duplicates,
            metadata,
            exemplars,
            queries_memory,
            results,
            number,
            home: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn queries_memory_bytes(&self) -> u64 {
        self.queries_memory.bytes()
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    #[cfg(test)]
    pub(crate) fn duplicates(&self) -> Option<&Duplicates> {
        self.duplicates.as_deref()
    }

    /// The measurements that keep every event, sorted; see [`Config::keep_duplicates`].
    pub fn keep_duplicates(&self) -> Vec<String> {
        self.duplicates.as_ref().map(|duplicates| duplicates.measurements()).unwrap_or_default()
    }

    /// The directory it was opened with, when it was opened alone.
    pub(crate) fn home(&self) -> Option<&Databases> {
        self.home.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The wall time in nanoseconds UTC, by the clock this database lives by.
    pub fn now_ns(&self) -> i64 {
        self.env.clock.now_ns()
    }

    /// Writes rows; durable and visible when it returns. Rows that cannot be taken are named in the report by
    /// their position, from 1; the others are kept.
    ///
    /// # Errors
    /// `Unavailable`, `DiskFull` or `Poisoned`: nothing was kept.
    pub fn write(&self, points: &[Point]) -> Result<WriteReport> {
        let mut arena = Vec::new();
        self.write_decoded(point::batch(points, &mut arena), Precision::Ns)
    }

    /// Writes InfluxDB line protocol; lines without a time get the present. Lines that cannot be taken are named
    /// in the report; the others are kept.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub fn write_lines(&self, body: &[u8], precision: Precision) -> Result<WriteReport> {
        let decoded = line::decode(body, precision, self.env.clock.now_ns(), &self.line_limits);
        self.write_decoded(decoded, precision)
    }

    /// Whether all lines of a text can be read. What their rows hold may be refused all the same.
    #[cfg(feature = "server")]
    pub(crate) fn reads_whole(&self, body: &[u8], precision: Precision) -> bool {
        line::decode(body, precision, 0, &self.line_limits).rejected_count == 0
    }

    fn write_decoded(&self, decoded: Decoded<'_>, precision: Precision) -> Result<WriteReport> {
        self.write_named(decoded, precision, &|_| None)
    }

    /// Writes a batch. Reasons of refused rows begin with what `name_of` makes of their raw keys.
    fn write_named(
        &self,
        mut decoded: Decoded<'_>,
        precision: Precision,
        name_of: &dyn Fn(&[u8]) -> Option<String>,
    ) -> Result<WriteReport> {
        // The turn lasts until the batch is stored.
        let turn = self.duplicates.as_ref().map(|duplicates| duplicates.begin());
        let refused = match &turn {
            Some(turn) => turn.place(&mut decoded.batch, precision, &|| self.engine.view())?,
            None => Vec::new(),
        };
        let rejected_count = decoded.rejected_count + refused.len();
        let mut report = WriteReport { accepted: 0, rejected: decoded.rejected, rejected_count };
        report.rejected.extend(refused);
        if decoded.batch.rows.is_empty() {
            return Ok(report);
        }
        let mut engine = self.engine.write(&decoded.batch)?;
        for rejected in engine.rejected.iter_mut().take(NAMED_MAX) {
            let row = decoded.batch.rows.iter().find(|row| row.line == rejected.line);
            if let Some(name) = row.and_then(|row| name_of(row.key)) {
                rejected.reason = format!("{name}: {}", rejected.reason);
            }
        }
        report.accepted = engine.accepted;
        report.rejected_count += engine.rejected.len();
        report.rejected.extend(engine.rejected);
        report.rejected.sort_by_key(|rejected| rejected.line);
        Ok(report)
    }

    /// Evaluates PromQL at one time.
    ///
    /// # Errors
    /// `InvalidInput` with the position in the text; `Execution`, `LimitExceeded` or `Deadline`.
    pub fn promql(&self, text: &str, time_ns: i64) -> Result<promql::Answer> {
        self.run_promql(&self.query(self.query_options), text, time_ns)
    }

    /// Runs one statement: SELECT, SHOW, DELETE, DROP MEASUREMENT or DROP SERIES.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn select(&self, text: &str) -> Result<Table> {
        let statements = select::parse(text)?;
        let [statement] = statements.as_slice() else {
            let count = statements.len();
            return Err(Error::invalid(format!("expected one statement, found {count}")));
        };
        self.run_select(&self.query(self.query_options), statement)
    }

    /// Opens the account of a query.
    pub fn query(&self, options: QueryOptions) -> Query {
        let clock = Arc::clone(&self.env.clock);
        let start_ns = clock.monotonic_ns();
        let elapsed = Arc::new(move || {
            let elapsed_ns = clock.monotonic_ns().saturating_sub(start_ns);
            Duration::from_nanos(u64::try_from(elapsed_ns).unwrap_or(0))
        });
        let budget = Budget::new(options.limits, elapsed).with_pool(Arc::clone(&self.queries_memory));
        Query { budget, options, reused_steps: AtomicU64::new(0) }
    }

    /// [`Database::promql`] on an account of the caller.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn run_promql(&self, query: &Query, text: &str, time_ns: i64) -> Result<promql::Answer> {
        let view = self.engine.view();
        Ok(promql::instant(&promql_context(view.as_ref(), query), text, time_ns)?)
    }

    /// Runs a parsed statement on an account of the caller. The list of databases is this one alone when the
    /// database was not opened by itself.
    ///
    /// # Errors
    /// As [`Database::promql`] and [`Database::delete`]; `Unsupported` for CREATE DATABASE and DROP DATABASE, which are
    /// [`Databases::create`] and [`Databases::drop_database`].
    pub fn run_select(&self, query: &Query, statement: &Statement) -> Result<Table> {
        match statement {
            Statement::ShowDatabases => {
                let names = self.home.as_ref().map_or_else(|| vec![self.name.clone()], Databases::names);
                Ok(databases_table(&names))
            }
            Statement::ShowRetentionPolicies { .. } => Ok(self.retention_table()),
            Statement::CreateDatabase { .. } => {
                let message = "CREATE DATABASE is answered by the server; a program calls Databases::create";
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Statement::DropDatabase { .. } => {
                let message =
                    "DROP DATABASE is answered by the server; a program calls Databases::drop_database";
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Statement::Delete { .. } => self.select_delete(query, statement),
            statement => {
                let view = self.engine.view();
                Ok(select::execute(&self.select_context(view.as_ref(), query), statement)?)
            }
        }
    }

    fn select_delete(&self, query: &Query, statement: &Statement) -> Result<Table> {
        let view = self.engine.view();
        let chosen = select::chosen(&self.select_context(view.as_ref(), query), statement)?;
        let report = self.delete_sets(view.as_ref(), &chosen.sets, chosen.range)?;
        let rounded = report.rounded.map(|tier| {
            format!("raw rows of a part are gone: whole cells of {} were deleted at its ends", tier.name())
        });
        Ok(Table { messages: rounded.into_iter().collect(), ..Table::default() })
    }

    fn select_context<'a>(&self, scan: &'a dyn Scan, query: &'a Query) -> select::Context<'a> {
        select::Context {
            scan,
            budget: &query.budget,
            now_ns: self.env.clock.now_ns(),
            resolution: query.options.resolution,
        }
    }

    /// Deletes rows: those of the series that a PromQL selector names (`{__name__="cpu", host="a"}`: the measurement
    /// and its tags, all fields), in a time range. Hidden from every later query and durable when it returns; the
    /// background work takes them out of the files. Rows written later are not touched. Deleting again is harmless.
    ///
    /// # Errors
    /// `InvalidInput` for a selector that cannot be read or names a single field; `LimitExceeded` when too many deletes
    /// wait for the background work; `Poisoned` and those of the file system, and then it may be repeated.
    pub fn delete(&self, selector: &str, range: TimeRange) -> Result<DeleteReport> {
        self.run_delete(&self.query(self.query_options), &[selector.to_owned()], range)
    }

    /// [`Database::delete`] of several selectors at once, as a whole, on an account of the caller.
    ///
    /// # Errors
    /// As [`Database::delete`].
    pub fn run_delete(&self, query: &Query, selectors: &[String], range: TimeRange) -> Result<DeleteReport> {
        let view = self.engine.view();
        let mut sets = Vec::new();
        for text in selectors {
            let selector = promql::parse_selector(text)?;
            sets.extend(promql::find_measurements(view.as_ref(), &selector, &query.budget)?);
        }
        self.delete_sets(view.as_ref(), &sets, range)
    }

    fn delete_sets(&self, view: &dyn Scan, sets: &[SeriesSet], range: TimeRange) -> Result<DeleteReport> {
        let mut report = DeleteReport::default();
        if range.is_empty() {
            return Ok(report);
        }
        for set in sets {
            let series = match &set.series {
                Some(series) => series.len(),
                None => view.series(set.measurement, &[], range, usize::MAX)?.len(),
            };
            report.series += series as u64;
        }
        let deleted = self.engine.delete(sets, range)?;
        Ok(DeleteReport { segments: deleted.segments, rounded: deleted.rounded, ..report })
    }

    /// A consistent view of everything acknowledged so far.
    pub fn view(&self) -> Arc<dyn Scan> {
        self.engine.view()
    }

    /// Writes all that is in memory to segments.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn flush(&self) -> Result<()> {
        Ok(self.engine.flush()?)
    }

    /// Makes everything durable, compacted and rolled up, the running hour included: for the end of an import.
    ///
    /// # Errors
    /// Those of the file system; `Unavailable` when the database is closed meanwhile.
    pub fn seal(&self) -> Result<()> {
        Ok(self.engine.seal()?)
    }

    /// The retention in force.
    pub fn retention(&self) -> Retention {
        self.engine.retention()
    }

    /// Changes the retention, durably. Existing data follows with the background work, within seconds; what is gone
    /// already does not come back.
    ///
    /// # Errors
    /// `InvalidInput` when a coarser tier would live less long than a finer one; those of the file system, and then it
    /// may be repeated.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        check_order(&retention)?;
        Ok(self.engine.set_retention(retention)?)
    }

    /// The rules of retention, in their order: the first that fits a series counts, and [`Database::retention`] last.
    pub fn rules(&self) -> Vec<Rule> {
        self.engine.rules()
    }

    /// Changes the retention and its rules, durably, as [`Database::set_retention`] does. What a rule dropped of a series
    /// does not come back when another rule is its first.
    ///
    /// # Errors
    /// As [`Database::set_retention`]; `LimitExceeded` for more than 16 rules, and for 16 changes of whom they fit while
    /// all of these still hide something.
    pub fn set_rules(&self, retention: Retention, rules: Vec<Rule>) -> Result<()> {
        check_order(&retention)?;
        rules.iter().try_for_each(|rule| check_order(&rule.retention()))?;
        Ok(self.engine.set_rules(retention, rules)?)
    }

    /// What the cells of which fields keep: the first rule that matches counts.
    pub fn cell_rules(&self) -> Vec<CellRule> {
        self.engine.cell_rules()
    }

    /// Changes the rules for cells, durably. They hold for hours that are rolled from then on; cells that are there stay
    /// as they are.
    ///
    /// # Errors
    /// `LimitExceeded` for more than 256 rules, `InvalidInput` for a name that is empty or too long; those of the file
    /// system, and then it may be repeated.
    pub fn set_cell_rules(&self, rules: Vec<CellRule>) -> Result<()> {
        Ok(self.engine.set_cell_rules(rules)?)
    }

    /// Drops what is past its age.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn apply_retention(&self, guard: Guard) -> Result<RetentionReport> {
        Ok(self.engine.apply_retention(guard)?)
    }

    /// What [`Database::apply_retention`] would drop now, what holds the rest, and when the next go. Changes nothing.
    ///
    /// # Errors
    /// `Unavailable` when the database is dropped.
    pub fn plan_retention(&self, guard: Guard) -> Result<RetentionPlan> {
        Ok(self.engine.plan_retention(guard)?)
    }

    /// Sizes and counters.
    pub fn stats(&self) -> EngineStats {
        self.engine.stats()
    }

    /// Flushes and closes; later writes are refused. Idempotent.
    ///
    /// # Errors
    /// Those of the file system; the log then still holds what was not flushed.
    pub fn close(&self) -> Result<()> {
        match &self.home {
            Some(home) => home.close(),
            None => Ok(self.engine.close()?),
        }
    }

    /// One row for each tier: InfluxDB's columns, so that its clients can read them.
    pub(crate) fn retention_table(&self) -> Table {
        let retention = self.engine.retention();
        let tiers =
            [("raw", retention.raw), ("1m", retention.m1), ("5m", retention.m5), ("1h", retention.h1)];
        let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
        let rows = tiers.iter().map(|(name, age)| {
            let partition = match *name {
                "raw" => {
                    format_age(u64::try_from(retention.raw_partition_ns()).ok().map(Duration::from_nanos))
                }
                "1h" => "7d".to_owned(),
                _ => "1d".to_owned(),
            };
            let duration = if age.is_none() { "0s".to_owned() } else { format_age(*age) };
            vec![
                Cell::Text((*name).to_owned()),
                Cell::Text(duration),
                Cell::Text(partition),
                Cell::Int(1),
                Cell::Bool(*name == "raw"),
            ]
        });
        one_series("", &columns, rows.collect())
    }
}

fn promql_context<'a>(scan: &'a dyn Scan, query: &'a Query) -> promql::Context<'a> {
    let QueryOptions { lookback, resolution, .. } = query.options;
    promql::Context { scan, budget: &query.budget, lookback, resolution }
}

pub(crate) fn databases_table(names: &[String]) -> Table {
    let rows = names.iter().map(|name| vec![Cell::Text(name.clone())]).collect();
    one_series("databases", &["name"], rows)
}

fn one_series(name: &str, columns: &[&str], rows: Vec<Vec<Cell>>) -> Table {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    let series = TableSeries { name: name.to_owned(), tags: Vec::new(), columns, rows };
    Table { series: vec![series], ..Table::default() }
}
