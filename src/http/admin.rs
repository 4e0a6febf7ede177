//! Whether the server is there and well, what it counts, the small orders of an operator, and the read-only lists
//! that InfluxDB v2 tools ask for.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use icecore_storage::engine::SnapshotReport;
use icecore_storage::model::Tier;
use serde_json::json;

use super::app::{App, join};
use super::body;
use super::error::{Dialect, Failure, json_response};
use super::influx::DELETE_FROM_PAGE;
use super::number::rfc3339;
use super::prometheus::{open, options};
use crate::database::Query;
use crate::databases::{DEFAULT_DATABASE, DatabaseSnapshot};
use crate::telemetry::Language;
use crate::{Databases, Result};

/// What the server answers on each path, as OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("../../docs/openapi.yaml");

/// InfluxDB 1.8's answer, which its clients take for a version they know.
pub(super) async fn ping() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    add_version(response.headers_mut());
    response
}

fn add_version(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-influxdb-version"), HeaderValue::from_static("1.8.10"));
    headers.insert(HeaderName::from_static("x-influxdb-build"), HeaderValue::from_static("icecore"));
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    headers.insert(HeaderName::from_static("x-icecore-version"), version);
}

fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = Response::new(axum::body::Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    json_response(status, format!("{value}\n").into_bytes())
}

pub(super) async fn root() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    text(
        StatusCode::OK,
        format!(
            "icecore {version}: POST /write, GET /query, GET /api/v1/query, GET /health, GET /metrics; all paths: GET /api/v1/openapi.yaml\n"
        ),
    )
}

/// The description of all paths.
pub(super) async fn openapi() -> Response {
    let mut response = Response::new(axum::body::Body::from(OPENAPI));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    response
}

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let poisoned: Vec<String> = app
        .databases
        .all()
        .iter()
        .filter(|database| database.stats().is_poisoned)
        .map(|database| database.name().to_owned())
        .collect();
    let (status, word, message) = if poisoned.is_empty() {
        (StatusCode::OK, "pass", "ready for queries and writes".to_owned())
    } else {
        let names = poisoned.join(", ");
        (StatusCode::SERVICE_UNAVAILABLE, "fail", format!("writes are refused until a restart: {names}"))
    };
    let durabilities: serde_json::Map<_, _> = app
        .databases
        .all()
        .iter()
        .map(|database| {
            let mut said = json!({"durability": database.stats().durability.name()});
            let keep_duplicates = database.keep_duplicates();
            if !keep_duplicates.is_empty() {
                said["keep_duplicates"] = json!(keep_duplicates);
            }
            (database.name().to_owned(), said)
        })
        .collect();
    let body = json!({
        "databases": durabilities, "name": "icecore", "status": word, "message": message, "version": env!("CARGO_PKG_VERSION"), "checks": []
    });
    json(status, &body)
}

pub(super) async fn alive() -> Response {
    text(StatusCode::OK, "icecore is healthy.\n")
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "icecore is stopping.\n");
    }
    text(StatusCode::OK, "icecore is ready.\n")
}

/// /ready as InfluxDB v2 says it.
pub(super) async fn ready_v2(State(app): State<Arc<App>>) -> Response {
    if app.is_draining() {
        return Failure::busy("icecore is stopping").respond(Dialect::InfluxV2);
    }
    let now_ns = app.databases.get(DEFAULT_DATABASE).map_or(app.started_ns, |database| database.now_ns());
    let up_s = now_ns.saturating_sub(app.started_ns).max(0) / icecore_storage::model::SECOND_NS;
    let body = json!({"status": "ready", "started": rfc3339(app.started_ns), "up": format!("{up_s}s")});
    json(StatusCode::OK, &body)
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let databases = app.databases.all();
    let stats = databases.iter().map(|database| (database.name().to_owned(), database.stats()));
    match app.telemetry.page(
        &stats.collect::<Vec<_>>(),
        app.databases.cache_bytes(),
        app.databases.result_stats(),
    ) {
        Ok(page) => {
            let mut response = Response::new(axum::body::Body::from(page));
            let form = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, form);
            response
        }
        Err(error) => Failure::from(error).respond(Dialect::Prometheus),
    }
}

pub(super) async fn flush(State(app): State<Arc<App>>, request: Request) -> Response {
    order(&app, request, |database, params| {
        if params.is_on("compact") {
            database.seal()?
        } else {
            database.flush()?
        }
        Ok(json!({}))
    })
    .await
}

/// Deletes the rows of the series that `match[]` names, from `start` to `end`.
pub(super) async fn delete(State(app): State<Arc<App>>, request: Request) -> Response {
    let outcome = async {
        if request.headers().contains_key(ORIGIN) {
            return Err(Failure::bad_request(DELETE_FROM_PAGE));
        }
        let (params, database) = open(&app, request).await?;
        let selectors: Vec<String> = params.all("match[]").map(str::to_owned).collect();
        if selectors.is_empty() {
            return Err(Failure::bad_request("no match[] parameter provided"));
        }
        let range = params.range()?;
        let account = database.query(options(&app, &params)?);
        let work = move |query: &Query| {
            let report = database.run_delete(query, &selectors, range)?;
            let rounded = report.rounded.map(Tier::name);
            let pending = database.stats().tombstones;
            Ok(json!({
                "series": report.series, "segments": report.segments, "rounded": rounded, "pending": pending
            }))
        };
        app.run_query(Language::Metadata, account, work).await
    };
    answer(outcome.await)
}

/// POST: makes a snapshot below the data directory, named by `name=` or the time.
pub(super) async fn snapshot(State(app): State<Arc<App>>, request: Request) -> Response {
    directory_order(&app, request, |databases, params| {
        let (path, made) = databases.snapshot_here(params.get("name"))?;
        let made = made.into_iter().map(|DatabaseSnapshot { name, report }| {
            let SnapshotReport { end_seq, files, copied_files, segment_bytes } = report;
            let report = json!({
                "end_seq": end_seq, "files": files, "copied_files": copied_files, "segment_bytes": segment_bytes
            });
            (name, report)
        });
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        // The directory may have been given relative to the server's own.
        let path = std::path::absolute(&path).unwrap_or(path);
        let made: serde_json::Map<_, _> = made.collect();
        Ok(json!({"name": name, "path": path.to_string_lossy(), "databases": made}))
    })
    .await
}

/// DELETE: removes the snapshot `name=`.
pub(super) async fn remove_snapshot(State(app): State<Arc<App>>, request: Request) -> Response {
    directory_order(&app, request, |databases, params| {
        databases.remove_snapshot(params.named("name")?)?;
        Ok(json!({}))
    })
    .await
}

fn answer(outcome: std::result::Result<serde_json::Value, Failure>) -> Response {
    match outcome {
        Ok(done) => json(StatusCode::OK, &json!({"status": "success", "data": done})),
        Err(failure) => failure.respond(Dialect::Prometheus),
    }
}

/// Carries out an order on the data directory.
async fn directory_order(
    app: &Arc<App>,
    request: Request,
    work: impl Fn(&Databases, &super::params::Params) -> Result<serde_json::Value> + Send + 'static,
) -> Response {
    let outcome = async {
        let (parts, body) = request.into_parts();
        let params = body::params(app, &parts, body).await?;
        let databases = Arc::clone(&app.databases);
        join(tokio::task::spawn_blocking(move || work(&databases, &params)).await)
    };
    answer(outcome.await)
}

/// Carries out an order on the database named by `db=`, or on all of them.
pub(super) async fn order(
    app: &Arc<App>,
    request: Request,
    work: impl Fn(&crate::Database, &super::params::Params) -> Result<serde_json::Value> + Send + 'static,
) -> Response {
    let outcome = async {
        let (parts, body) = request.into_parts();
        let params = body::params(app, &parts, body).await?;
        let databases = match params.get("db") {
            Some(name) => vec![app.database(Some(name))?],
            None => app.databases.all(),
        };
        let joined = tokio::task::spawn_blocking(move || {
            let mut done = serde_json::Map::new();
            for database in databases {
                done.insert(database.name().to_owned(), work(&database, &params)?);
            }
            Ok(serde_json::Value::Object(done))
        });
        join(joined.await)
    };
    answer(outcome.await)
}

/// Databases in the place of buckets, so that v2 tools find where to write.
pub(super) async fn buckets(State(app): State<Arc<App>>) -> Response {
    let buckets: Vec<_> = app.databases.all().iter().map(|database| {
        let raw_s = database.retention().raw.map_or(0, |raw| raw.as_secs());
        let rules = json!([{"type": "expire", "everySeconds": raw_s}]);
        json!({"id": database.name(), "orgID": "icecore", "type": "user", "name": database.name(), "retentionRules": rules})
    }).collect();
    json(StatusCode::OK, &json!({"links": {"self": "/api/v2/buckets"}, "buckets": buckets}))
}

/// The one organisation there is.
pub(super) async fn orgs() -> Response {
    let orgs = json!([{"id": "icecore", "name": "icecore", "status": "active"}]);
    json(StatusCode::OK, &json!({"links": {"self": "/api/v2/orgs"}, "orgs": orgs}))
}

pub(super) async fn flux() -> Response {
    let message = "Flux is not spoken here; ask PromQL at /api/v1/query or SELECT at /query";
    Failure::not_implemented(message).respond(Dialect::InfluxV2)
}
