//! What the server counts of itself, for /metrics, and how its log is set up. Knows nothing of routes beyond their
//! names; sizes of databases are asked for when the page is read.

use std::sync::{Mutex, PoisonError};

use icecore_storage::engine::EngineStats;
use icecore_storage::model::Tier;
use prometheus::{
    Encoder, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::results::ResultStats;
use crate::{Error, ErrorKind, Result};

/// A query language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Promql,
    Select,
    Metadata,
}

impl Language {
    fn name(self) -> &'static str {
        match self {
            Self::Promql => "promql",
            Self::Select => "select",
            Self::Metadata => "metadata",
        }
    }
}

/// A limit of the server, as the metric of its hits names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LimitName {
    BodyWire,
    BodyDecoded,
    BodyTime,
    Form,
    Bodies,
    Connections,
    Decoding,
    Queries,
    /// One of a single query, by the name that its error has.
    Query(&'static str),
    Writes,
}

impl LimitName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BodyWire => "body_wire_bytes_max",
            Self::BodyDecoded => "body_bytes_max",
            Self::BodyTime => "body_time_max",
            Self::Form => "form_bytes_max",
            Self::Bodies => "bodies_bytes_max",
            Self::Connections => "connections_max",
            Self::Decoding => "decoding_bytes_max",
            Self::Queries => "queries_max",
            Self::Query(name) => name,
            Self::Writes => "writes_max",
        }
    }
}

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    rows: IntCounterVec,
    rejected: IntCounter,
    requests: IntCounterVec,
    datagrams: IntCounterVec,
    query_seconds: HistogramVec,
    limit_hits: IntCounterVec,
    refused_rows: IntCounterVec,
    series: IntGaugeVec,
    catalog_bytes: IntGaugeVec,
    memtable_bytes: IntGaugeVec,
    wal_bytes: IntGaugeVec,
    replayed_records: IntGaugeVec,
    segments: IntGaugeVec,
    segment_bytes: IntGaugeVec,
    segment_rows: IntGaugeVec,
    written_bytes: IntCounterVec,
    tombstones: IntGaugeVec,
    delete_seconds: IntGaugeVec,
    cache: CacheMetrics,
    results: ResultMetrics,
    corrupt_reads: IntCounterVec,
    is_poisoned: IntGaugeVec,
    durability: IntGaugeVec,
    /// Held while a page is made: the counters of the engines are set anew for each.
    page: Mutex<()>,
}

/// Decoded pages that are kept.
#[derive(Debug)]
struct CacheMetrics {
    bytes: IntGauge,
    reads: IntCounterVec,
}

impl CacheMetrics {
    fn new(registry: &Registry) -> Result<Self> {
        let bytes = "Bytes of decoded pages that are kept, of all databases.";
        let reads =
            Opts::new("icecore_cache_reads_total", "Looks for a decoded page, by outcome: hit or miss.");
        Ok(Self {
            bytes: register(registry, IntGauge::new("icecore_cache_bytes", bytes))?,
            reads: register(registry, IntCounterVec::new(reads, &["db", "outcome"]))?,
        })
    }
}

/// Answers to range queries that are kept.
#[derive(Debug)]
struct ResultMetrics {
    queries: IntCounterVec,
    steps: IntCounter,
    answers: IntGauge,
    bytes: IntGauge,
    evictions: IntCounter,
}

impl ResultMetrics {
    fn new(registry: &Registry) -> Result<Self> {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        let help =
            "Range queries, by what of their answer was kept: hit (all steps), partial, miss or bypass.";
        let queries = IntCounterVec::new(Opts::new("icecore_results_queries_total", help), &["outcome"]);
        Ok(Self {
            queries: register(registry, queries)?,
            steps: counter("icecore_results_reused_steps_total", "Steps that were not evaluated again.")?,
            answers: gauge("icecore_results_answers", "Answers to range queries that are kept.")?,
            bytes: gauge("icecore_results_bytes", "Bytes of these answers.")?,
            evictions: counter(
                "icecore_results_evictions_total",
                "Answers that left because others needed the room.",
            )?,
        })
    }

    fn set(&self, stats: ResultStats) {
        let ResultStats { hits, partial_hits, misses, bypasses, steps, answers, bytes, evictions } = stats;
        let outcomes = [("hit", hits), ("partial", partial_hits), ("miss", misses), ("bypass", bypasses)];
        for (counter, value) in outcomes
            .map(|(outcome, value)| (self.queries.with_label_values(&[outcome]), value))
            .into_iter()
            .chain([(self.steps.clone(), steps), (self.evictions.clone(), evictions)])
        {
            counter.reset();
            counter.inc_by(value);
        }
        for (gauge, value) in [(&self.answers, answers), (&self.bytes, bytes)] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> Result<C> {
    let internal =
        |error: prometheus::Error| Error::new(ErrorKind::Internal, format!("cannot set up metrics: {error}"));
    let collector = made.map_err(internal)?;
    registry.register(Box::new(collector.clone())).map_err(internal)?;
    Ok(collector)
}

impl Telemetry {
    /// All counters at zero.
    ///
    /// # Errors
    /// `Internal` when a name is given twice: a bug.
    pub(crate) fn new() -> Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let buckets = vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];
        let query_seconds = HistogramOpts::new("icecore_query_seconds", "Time of queries.").buckets(buckets);
        Ok(Self {
            rows: counters("icecore_rows_written_total", "Rows kept.", &["db"])?,
            rejected: register(&registry, IntCounter::new("icecore_lines_rejected_total", "Lines refused."))?,
            requests: counters("icecore_http_requests_total", "Requests answered.", &["route", "status"])?,
            datagrams: counters(
                "icecore_udp_datagrams_total",
                "Datagrams that were written, or lost.",
                &["outcome"],
            )?,
            query_seconds: register(&registry, HistogramVec::new(query_seconds, &["language"]))?,
            limit_hits: counters(
                "icecore_limit_hits_total",
                "Requests, or rows of writes, that met a limit.",
                &["limit"],
            )?,
            refused_rows: counters(
                "icecore_refused_rows_total",
                "Rows refused by a bound of series, tag values or fields, with the tag key that is to blame.",
                &["db", "limit", "measurement", "tag_key"],
            )?,
            series: gauges("icecore_series", "Series that have rows, or had until lately.", &["db"])?,
            catalog_bytes: gauges("icecore_catalog_bytes", "Memory of all names, by estimate.", &["db"])?,
            memtable_bytes: gauges("icecore_memtable_bytes", "Bytes in memory.", &["db"])?,
            wal_bytes: gauges("icecore_wal_bytes", "Bytes of log files.", &["db"])?,
            replayed_records: gauges(
                "icecore_wal_replayed_records",
                "Records of the log that were replayed when the database was opened; 0 after an orderly stop.",
                &["db"],
            )?,
            segments: gauges("icecore_segments", "Segment files.", &["db", "tier"])?,
            segment_bytes: gauges("icecore_segment_bytes", "Bytes of segment files.", &["db", "tier"])?,
            segment_rows: gauges("icecore_segment_rows", "Rows or cells in segments.", &["db", "tier"])?,
            written_bytes: counters(
                "icecore_segment_written_bytes_total",
                "Bytes of segments written, by job: flush (raw rows, once), compaction (and purge) or rollup.",
                &["db", "job"],
            )?,
            tombstones: gauges("icecore_tombstones", "Deletes that are hidden and not purged yet.", &["db"])?,
            delete_seconds: gauges("icecore_tombstone_age_seconds", "Age of the oldest one.", &["db"])?,
            cache: CacheMetrics::new(&registry)?,
            results: ResultMetrics::new(&registry)?,
            corrupt_reads: counters(
                "icecore_corrupt_reads_total",
                "Reads of damaged pages, by queries and background work; see `icecore check`.",
                &["db"],
            )?,
            is_poisoned: gauges("icecore_poisoned", "1 when writes are refused until a restart.", &["db"])?,
            durability: gauges(
                "icecore_durability",
                "1 for the durability in force.",
                &["db", "durability"],
            )?,
            page: Mutex::default(),
            registry,
        })
    }

    /// Counts datagrams.
    pub(crate) fn datagrams(&self, is_taken: bool, count: u64) {
        self.datagrams.with_label_values(&[if is_taken { "written" } else { "lost" }]).inc_by(count);
    }

    pub(crate) fn lines_rejected(&self, rejected: usize) {
        self.rejected.inc_by(u64::try_from(rejected).unwrap_or(u64::MAX));
    }

    pub(crate) fn request(&self, route: &str, status: u16) {
        self.requests.with_label_values(&[route, &status.to_string()]).inc();
    }

    /// Observes the time until it is dropped.
    pub(crate) fn query_timer(&self, language: Language) -> HistogramTimer {
        self.query_seconds.with_label_values(&[language.name()]).start_timer()
    }

    pub(crate) fn limit_hit(&self, limit: LimitName) {
        self.limit_hits.with_label_values(&[limit.name()]).inc();
    }

    /// The page of /metrics, with the sizes of each database by name, of the cache that all share, and what is kept of
    /// answers.
    ///
    /// # Errors
    /// `Internal` when a metric cannot be written.
    pub(crate) fn page(
        &self,
        databases: &[(String, EngineStats)],
        cache_bytes: u64,
        results: ResultStats,
    ) -> Result<Vec<u8>> {
        let _page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_databases();
        for (name, stats) in databases {
            let name = name.as_str();
            // The engine counts all rows, also those that did not come over HTTP.
            let rows = self.rows.with_label_values(&[name]);
            rows.inc_by(stats.rows_written);
            self.corrupt_reads.with_label_values(&[name]).inc_by(stats.corrupt_reads);
            self.cache.reads.with_label_values(&[name, "hit"]).inc_by(stats.cache_hits);
            self.cache.reads.with_label_values(&[name, "miss"]).inc_by(stats.cache_misses);
            for (job, bytes) in [
                ("flush", stats.flushed_bytes),
                ("compaction", stats.compacted_bytes),
                ("rollup", stats.rolled_bytes),
            ] {
                self.written_bytes.with_label_values(&[name, job]).inc_by(bytes);
            }
            for refused in &stats.refused {
                let labels = [name, refused.limit, &refused.measurement, &refused.tag_key];
                self.refused_rows.with_label_values(&labels).inc_by(refused.rows);
            }
            set(&self.series, &[name], stats.series);
            set(&self.catalog_bytes, &[name], stats.catalog_bytes);
            set(&self.memtable_bytes, &[name], stats.memtable_bytes);
            set(&self.wal_bytes, &[name], stats.wal_bytes);
            set(&self.replayed_records, &[name], stats.replayed_records);
            set(&self.tombstones, &[name], stats.tombstones);
            set(&self.delete_seconds, &[name], stats.oldest_delete_ns / 1_000_000_000);
            set(&self.durability, &[name, stats.durability.name()], 1);
            set(&self.is_poisoned, &[name], u64::from(stats.is_poisoned));
            let tiers = [Tier::Raw, Tier::M1, Tier::M5, Tier::H1].map(Tier::name);
            for (gauge, values) in [
                (&self.segments, stats.segments),
                (&self.segment_bytes, stats.segment_bytes),
                (&self.segment_rows, stats.segment_rows),
            ] {
                for (tier, value) in tiers.iter().zip(values) {
                    set(gauge, &[name, tier], value);
                }
            }
        }
        self.engine_limits(databases);
        self.cache.bytes.set(i64::try_from(cache_bytes).unwrap_or(i64::MAX));
        self.results.set(results);
        let mut page = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut page)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot write metrics: {error}")))?;
        Ok(page)
    }

    /// A database that was dropped leaves no numbers behind.
    fn forget_databases(&self) {
        self.rows.reset();
        self.corrupt_reads.reset();
        self.cache.reads.reset();
        self.written_bytes.reset();
        self.refused_rows.reset();
        for gauge in [
            &self.series,
            &self.catalog_bytes,
            &self.memtable_bytes,
            &self.wal_bytes,
            &self.replayed_records,
            &self.segments,
            &self.segment_bytes,
            &self.segment_rows,
            &self.tombstones,
            &self.delete_seconds,
            &self.is_poisoned,
            &self.durability,
        ] {
            gauge.reset();
        }
    }

    /// What the engines refused, over all databases; their limits are named unlike those of the server.
    fn engine_limits(&self, databases: &[(String, EngineStats)]) {
        let mut sums = std::collections::BTreeMap::new();
        for (name, hits) in databases.iter().flat_map(|(_, stats)| &stats.limit_hits) {
            *sums.entry(*name).or_insert(0) += hits;
        }
        for (name, hits) in sums {
            let counter = self.limit_hits.with_label_values(&[name]);
            counter.reset();
            counter.inc_by(hits);
        }
    }
}

fn set(gauge: &IntGaugeVec, labels: &[&str], value: u64) {
    gauge.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Sends the log to standard error: INFO and above, or what `ICECORE_LOG` says.
pub(crate) fn init_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("ICECORE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if subscriber.try_init().is_err() {
        tracing::debug!("a log was set up already");
    }
}
