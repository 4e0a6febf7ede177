//! The table of paths, and the names under which the metric of requests counts them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get, post};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use super::app::App;
use super::error::{Dialect, Failure};
use super::{
    admin, cells, exemplars, federate, influx, ingest, labels, otlp, prometheus, read, remote, retention,
    select, status, tree, write,
};

/// Smaller bodies are sent as they are: they fit into one packet.
const COMPRESSED_BYTES_MIN: u64 = 1400;

/// All paths of the server.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(admin::root))
        .route("/query", get(influx::query).post(influx::query))
        .route("/ping", get(admin::ping))
        .route("/health", get(admin::health))
        .route("/health/ready", get(admin::ready))
        .route("/-/healthy", get(admin::alive))
        .route("/-/ready", get(admin::ready))
        .route("/ready", get(admin::ready_v2))
        .route("/metrics", get(admin::metrics))
        .route("/api/v2/query", any(admin::flux))
        .route("/api/v2/buckets", get(admin::buckets))
        .route("/api/v2/orgs", get(admin::orgs))
        .route("/api/v1/admin/flush", post(admin::flush))
        .route("/api/v1/admin/retention", get(retention::show).put(retention::change).post(retention::apply))
        .route("/api/v1/admin/cells", get(cells::show).put(cells::change))
        .route("/api/v1/admin/delete", post(admin::delete))
        .route("/api/v1/admin/snapshot", post(admin::snapshot).delete(admin::remove_snapshot))
        .route("/federate", get(federate::page))
        .route("/db/{db}/federate", get(federate::page))
        .merge(prometheus_api("/api/v1"))
        .merge(prometheus_api("/db/{db}/api/v1"))
        .layer(compression())
        .route("/write", post(write::v1))
        .route("/api/v2/write", post(write::v2))
        .route("/ingest", post(ingest::ingest))
        .route("/v1/metrics", post(otlp::metrics))
        .merge(senders("/api/v1"))
        .merge(senders("/db/{db}/api/v1"))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), count))
        .with_state(app)
}

/// Where Prometheus and OpenTelemetry send to. Nothing here is compressed: a client that takes no encoding would be
/// refused after its samples were stored.
fn senders(prefix: &str) -> Router<Arc<App>> {
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/write"), post(remote::write))
        .route(&at("/otlp/v1/metrics"), post(otlp::metrics))
}

/// Compresses bodies for clients that take it, as fast as it can: most are on the same network.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN))
}

fn prometheus_api(prefix: &str) -> Router<Arc<App>> {
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/query"), get(prometheus::query).post(prometheus::query))
        .route(&at("/select"), get(select::select).post(select::select))
        .route(&at("/query_range"), get(prometheus::query_range).post(prometheus::query_range))
        .route(&at("/format_query"), get(tree::format_query).post(tree::format_query))
        .route(&at("/parse_query"), get(tree::parse_query).post(tree::parse_query))
        .route(&at("/labels"), get(labels::labels).post(labels::labels))
        .route(&at("/series"), get(labels::series).post(labels::series))
        .route(&at("/label/{name}/values"), get(labels::label_values).post(labels::label_values))
        .route(&at("/metadata"), get(labels::metadata))
        .route(&at("/rules"), get(status::rules))
        .route(&at("/alerts"), get(status::alerts))
        .route(&at("/alertmanagers"), get(status::alertmanagers))
        .route(&at("/targets"), get(status::targets))
        .route(&at("/targets/metadata"), get(status::targets_metadata))
        .route(&at("/scrape_pools"), get(status::scrape_pools))
        .route(&at("/query_exemplars"), get(exemplars::query).post(exemplars::query))
        .route(&at("/read"), post(read::read))
        .route(&at("/status/buildinfo"), get(status::buildinfo))
        .route(&at("/status/config"), get(status::config))
        .route(&at("/status/flags"), get(status::flags))
        .route(&at("/status/runtimeinfo"), get(status::runtimeinfo))
        .route(&at("/status/tsdb"), get(status::tsdb))
        .route(&at("/status/walreplay"), get(status::walreplay))
}

async fn not_found(request: Request) -> Response {
    let path = request.uri().path();
    let shown: String = path.chars().take(200).collect();
    Failure::not_found(format!("no such path: {shown}")).respond(dialect_of(path))
}

async fn method_not_allowed(request: Request) -> Response {
    Failure::method_not_allowed().respond(dialect_of(request.uri().path()))
}

fn dialect_of(path: &str) -> Dialect {
    if path.starts_with("/api/v2/") {
        Dialect::InfluxV2
    } else if path.contains("/api/v1/") {
        Dialect::Prometheus
    } else {
        Dialect::InfluxV1
    }
}

async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = route_name(request.uri().path());
    let response = next.run(request).await;
    app.telemetry.request(route, response.status().as_u16());
    response
}

/// A fixed name for a path: what clients invent must not become metrics.
fn route_name(path: &str) -> &'static str {
    const FIXED: [&str; 22] = [
        "/",
        "/ingest",
        "/write",
        "/query",
        "/ping",
        "/health",
        "/health/ready",
        "/-/healthy",
        "/-/ready",
        "/ready",
        "/metrics",
        "/federate",
        "/api/v2/write",
        "/api/v2/query",
        "/api/v2/buckets",
        "/api/v2/orgs",
        "/api/v1/admin/flush",
        "/api/v1/admin/retention",
        "/api/v1/admin/cells",
        "/api/v1/admin/delete",
        "/api/v1/admin/snapshot",
        "/v1/metrics",
    ];
    const PROMETHEUS: [&str; 24] = [
        "/api/v1/select",
        "/api/v1/query",
        "/api/v1/query_range",
        "/api/v1/format_query",
        "/api/v1/parse_query",
        "/api/v1/labels",
        "/api/v1/series",
        "/api/v1/metadata",
        "/api/v1/rules",
        "/api/v1/query_exemplars",
        "/api/v1/alerts",
        "/api/v1/alertmanagers",
        "/api/v1/targets",
        "/api/v1/targets/metadata",
        "/api/v1/scrape_pools",
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/status/runtimeinfo",
        "/api/v1/status/tsdb",
        "/api/v1/status/walreplay",
        "/api/v1/status/buildinfo",
        "/api/v1/write",
        "/api/v1/read",
        "/api/v1/otlp/v1/metrics",
    ];
    let in_database = path.strip_prefix("/db/").and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
    let path = in_database.unwrap_or(path);
    if path.starts_with("/api/v1/label/") && path.ends_with("/values") {
        return "/api/v1/label/values";
    }
    FIXED.iter().chain(&PROMETHEUS).find(|name| **name == path).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_names_are_few() {
        let cases = [
            ("/write", "/write"),
            ("/db/shop/api/v1/query", "/api/v1/query"),
            ("/api/v1/label/service/values", "/api/v1/label/values"),
            ("/db/shop/api/v1/label/x/values", "/api/v1/label/values"),
            ("/wp-admin", "other"),
            ("/db/shop/federate", "/federate"),
            ("/db/", "other"),
        ];
        for (path, wanted) in cases {
            assert_eq!(route_name(path), wanted, "{path}");
        }
    }
}
