//! The pages of Prometheus that tell of the server: /api/v1/status/*, and the lists of what icecore has none of (rules,
//! alerts, targets). All of it is what is true here, in the shapes that clients of Prometheus read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use icecore_query::keys::each_key;
use icecore_storage::model::TimeRange;
use icecore_storage::scan::Scan;
use serde_json::{Value, json};

use super::app::App;
use super::encode::data_json;
use super::error::{Dialect, Failure};
use super::labels::{METRIC_NAME, schemas};
use super::number::rfc3339;
use super::prometheus::{open, options, respond};
use crate::Result;
use crate::database::Query;
use crate::telemetry::Language;

/// Entries of each list of the statistics, when the request does not say.
const ENTRIES: usize = 10;
/// A label and its value among those counted, with their count.
const PAIR_BYTES: u64 = 128;

fn page(data: &Value) -> Response {
    respond(Ok(data_json(data.to_string().as_bytes(), false)))
}

/// A version Grafana compares with, and no `features`: with them it would take the server for Mimir.
pub(super) async fn buildinfo() -> Response {
    page(&json!({
        "version": "3.0.0",
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "icecore",
        "icecoreVersion": env!("CARGO_PKG_VERSION"),
    }))
}

/// There is no configuration file.
pub(super) async fn config() -> Response {
    page(&json!({"yaml": ""}))
}

/// The bounds of queries, under the names of Prometheus' flags.
pub(super) async fn flags(State(app): State<Arc<App>>) -> Response {
    let limits = app.limits.query;
    page(&json!({
        "query.lookback-delta": "5m",
        "query.max-concurrency": app.limits.queries_at_once().to_string(),
        "query.max-samples": limits.samples_max.to_string(),
        "query.timeout": format!("{}s", limits.timeout.as_secs()),
    }))
}

pub(super) async fn runtimeinfo(State(app): State<Arc<App>>, request: Request) -> Response {
    let (_, database) = match open(&app, request).await {
        Ok(opened) => opened,
        Err(failure) => return failure.respond(Dialect::Prometheus),
    };
    let started = rfc3339(app.started_ns);
    let raw =
        database.retention().raw.map_or_else(|| "forever".to_owned(), |raw| format!("{}s", raw.as_secs()));
    page(&json!({
        "startTime": started,
        "CWD": "",
        "hostname": "",
        "serverTime": rfc3339(database.now_ns()),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": raw,
    }))
}

/// The log is replayed before the server listens.
pub(super) async fn walreplay() -> Response {
    page(&json!({"min": 0, "max": 0, "current": 0, "state": "done"}))
}

/// No rules yet; Grafana asks once at its start.
pub(super) async fn rules() -> Response {
    page(&json!({"groups": []}))
}

/// There are no rules, so no alerts.
pub(super) async fn alerts() -> Response {
    page(&json!({"alerts": []}))
}

/// No alert is sent anywhere.
pub(super) async fn alertmanagers() -> Response {
    page(&json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

/// Nothing is scraped.
pub(super) async fn targets() -> Response {
    page(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

/// Nothing is scraped, so no target told of its metrics.
pub(super) async fn targets_metadata() -> Response {
    page(&json!([]))
}

/// Nothing is scraped.
pub(super) async fn scrape_pools() -> Response {
    page(&json!({"scrapePools": []}))
}

pub(super) async fn tsdb(State(app): State<Arc<App>>, request: Request) -> Response {
    respond(run_tsdb(&app, request).await)
}

async fn run_tsdb(app: &App, request: Request) -> std::result::Result<Vec<u8>, Failure> {
    let (params, database) = open(app, request).await?;
    let entries = params.limit()?.unwrap_or(ENTRIES);
    let (query, series_max) = (database.query(options(app, &params)?), app.limits.query.series_max);
    let work = move |query: &Query| {
        let (counts, stats) = (Counts::of(database.view().as_ref(), query, series_max)?, database.stats());
        let data = counts.json(entries, stats.series, stats.segments.iter().sum());
        Ok(data_json(data.to_string().as_bytes(), false))
    };
    app.run_query(Language::Metadata, query, work).await
}

/// What is counted of the series of a database.
#[derive(Debug, Default)]
struct Counts {
    by_metric: BTreeMap<String, u64>,
    by_pair: HashMap<(String, String), u64>,
}

impl Counts {
    fn of(scan: &dyn Scan, query: &Query, series_max: usize) -> Result<Self> {
        let mut counts = Self::default();
        for schema in schemas(scan) {
            let ids = scan
                .series_ids(schema.measurement, &[], TimeRange::ALL, series_max)
                .map_err(|error| icecore_query::Error::of_search("query_series_max", error))?;
            query.budget.charge_samples(ids.len() as u64)?;
            query.budget.charge_bytes(size_of_val(&*ids) as u64)?;
            for (metric, _) in schema.metrics() {
                *counts.by_metric.entry(metric).or_default() += ids.len() as u64;
            }
            each_key(scan, &ids, &query.budget, |_, key| {
                for (label, value) in key.tags() {
                    let pair = (label.to_string(), value.to_string());
                    let bytes = PAIR_BYTES + (label.len() + value.len()) as u64;
                    let count = counts.by_pair.entry(pair).or_insert_with(|| 0);
                    if *count == 0 {
                        query.budget.charge_bytes(bytes)?;
                    }
                    *count += 1;
                }
                Ok(())
            })?;
        }
        Ok(counts)
    }

    fn json(&self, entries: usize, series: u64, segments: u64) -> Value {
        let (mut values, mut bytes) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
        for ((label, value), count) in &self.by_pair {
            *values.entry(label).or_default() += 1;
            *bytes.entry(label).or_default() += value.len() as u64 * count;
        }
        if !self.by_metric.is_empty() {
            values.insert(METRIC_NAME, self.by_metric.len() as u64);
            let name_bytes = self.by_metric.iter().map(|(name, count)| name.len() as u64 * count).sum();
            bytes.insert(METRIC_NAME, name_bytes);
        }
        let pairs = self.by_pair.iter().map(|((label, value), count)| (format!("{label}={value}"), *count));
        let metrics = self.by_metric.iter().map(|(name, count)| (name.clone(), *count));
        let names = metrics.clone().map(|(name, count)| (format!("{METRIC_NAME}={name}"), count));
        let of_labels = |counts: BTreeMap<&str, u64>| -> Vec<(String, u64)> {
            counts.into_iter().map(|(label, count)| (label.to_owned(), count)).collect()
        };
        json!({
            "headStats": {
                "numSeries": series,
                "numLabelPairs": self.by_pair.len() + self.by_metric.len(),
                "chunkCount": segments,
                "minTime": i64::MAX,
                "maxTime": i64::MIN,
            },
            "seriesCountByMetricName": most(metrics.collect(), entries),
            "labelValueCountByLabelName": most(of_labels(values), entries),
            "memoryInBytesByLabelName": most(of_labels(bytes), entries),
            "seriesCountByLabelValuePair": most(pairs.chain(names).collect(), entries),
        })
    }
}

/// The entries with the largest counts, equal ones by name.
fn most(mut counts: Vec<(String, u64)>, entries: usize) -> Value {
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(entries);
    counts.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_name_the_largest_first() {
        let pair = |label: &str, value: &str, count| ((label.to_owned(), value.to_owned()), count);
        let counts = Counts {
            by_metric: [("m".to_owned(), 3), ("n".to_owned(), 3)].into(),
            by_pair: [pair("host", "a", 4), pair("host", "bb", 2), pair("dc", "x", 6)].into(),
        };
        let found = counts.json(2, 5, 7);
        let at = |place: &str| found.pointer(place).cloned().unwrap();
        assert_eq!(at("/headStats/numSeries"), json!(5));
        assert_eq!(at("/headStats/numLabelPairs"), json!(5));
        assert_eq!(
            at("/seriesCountByLabelValuePair"),
            json!([{"name": "dc=x", "value": 6}, {"name": "host=a", "value": 4}])
        );
        assert_eq!(
            at("/labelValueCountByLabelName"),
            json!([{"name": "__name__", "value": 2}, {"name": "host", "value": 2}])
        );
        assert_eq!(
            at("/memoryInBytesByLabelName"),
            json!([{"name": "host", "value": 8}, {"name": "__name__", "value": 6}])
        );
    }
}
