//! The table of paths, and the names under which the metric of requests counts them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
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
/// Where the paths of Prometheus stand, and where they stand for one database.
const PREFIXES: [&str; 2] = ["/api/v1", "/db/{db}/api/v1"];

/// A path, in the form of the router, and what its methods do.
type Route = (&'static str, MethodRouter<Arc<App>>);

/// All paths of the server. Each is described in `docs/openapi.yaml`.
pub(super) fn router(app: Arc<App>) -> Router {
    let below = |routes: fn() -> Vec<Route>| {
        PREFIXES.into_iter().fold(Router::new(), |router, prefix| with(router, prefix, routes()))
    };
    with(Router::new(), "", pages())
        .merge(below(prometheus_api))
        .layer(compression())
        .merge(with(Router::new(), "", writers()))
        .merge(below(senders))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), count))
        .with_state(app)
}

fn with(router: Router<Arc<App>>, prefix: &str, routes: Vec<Route>) -> Router<Arc<App>> {
    routes
        .into_iter()
        .fold(router, |router, (path, methods)| router.route(&format!("{prefix}{path}"), methods))
}

/// What is there once, and may be compressed.
fn pages() -> Vec<Route> {
    vec![
        ("/", get(admin::root)),
        ("/query", get(influx::query).post(influx::query)),
        ("/ping", get(admin::ping)),
        ("/health", get(admin::health)),
        ("/health/ready", get(admin::ready)),
        ("/-/healthy", get(admin::alive)),
        ("/-/ready", get(admin::ready)),
        ("/ready", get(admin::ready_v2)),
        ("/metrics", get(admin::metrics)),
        ("/api/v2/query", get(admin::flux).post(admin::flux)),
        ("/api/v2/buckets", get(admin::buckets)),
        ("/api/v2/orgs", get(admin::orgs)),
        ("/api/v1/admin/flush", post(admin::flush)),
        ("/api/v1/admin/retention", get(retention::show).put(retention::change).post(retention::apply)),
        ("/api/v1/admin/cells", get(cells::show).put(cells::change)),
        ("/api/v1/admin/delete", post(admin::delete)),
        ("/api/v1/admin/snapshot", post(admin::snapshot).delete(admin::remove_snapshot)),
        ("/api/v1/openapi.yaml", get(admin::openapi)),
        ("/federate", get(federate::page)),
        ("/db/{db}/federate", get(federate::page)),
    ]
}

/// What takes rows. Nothing here is compressed: a client that takes no encoding would be refused after its rows were
/// stored.
fn writers() -> Vec<Route> {
    vec![
        ("/write", post(write::v1)),
        ("/api/v2/write", post(write::v2)),
        ("/ingest", post(ingest::ingest)),
        ("/v1/metrics", post(otlp::metrics)),
    ]
}

/// Where Prometheus and OpenTelemetry send to, below each prefix. Not compressed either.
fn senders() -> Vec<Route> {
    vec![("/write", post(remote::write)), ("/otlp/v1/metrics", post(otlp::metrics))]
}

/// What Prometheus answers, below each prefix.
fn prometheus_api() -> Vec<Route> {
    vec![
        ("/query", get(prometheus::query).post(prometheus::query)),
        ("/select", get(select::select).post(select::select)),
        ("/query_range", get(prometheus::query_range).post(prometheus::query_range)),
        ("/format_query", get(tree::format_query).post(tree::format_query)),
        ("/parse_query", get(tree::parse_query).post(tree::parse_query)),
        ("/labels", get(labels::labels).post(labels::labels)),
        ("/series", get(labels::series).post(labels::series)),
        ("/label/{name}/values", get(labels::label_values).post(labels::label_values)),
        ("/metadata", get(labels::metadata)),
        ("/rules", get(status::rules)),
        ("/alerts", get(status::alerts)),
        ("/alertmanagers", get(status::alertmanagers)),
        ("/targets", get(status::targets)),
        ("/targets/metadata", get(status::targets_metadata)),
        ("/scrape_pools", get(status::scrape_pools)),
        ("/query_exemplars", get(exemplars::query).post(exemplars::query)),
        ("/read", post(read::read)),
        ("/status/buildinfo", get(status::buildinfo)),
        ("/status/config", get(status::config)),
        ("/status/flags", get(status::flags)),
        ("/status/runtimeinfo", get(status::runtimeinfo)),
        ("/status/tsdb", get(status::tsdb)),
        ("/status/walreplay", get(status::walreplay)),
    ]
}

/// Compresses bodies for clients that take it, as fast as it can: most are on the same network.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN))
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
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route_name(path.as_ref().map(MatchedPath::as_str));
    app.telemetry.request(&route, response.status().as_u16());
    response
}

/// The name of a route in metrics: its path in the table, whatever the database and the label. What clients invent must
/// not become metrics.
fn route_name(matched: Option<&str>) -> String {
    let Some(path) = matched else { return "other".to_owned() };
    path.strip_prefix("/db/{db}").unwrap_or(path).replace("/{name}", "")
}

/// The paths of the table, in the form of the router.
#[cfg(test)]
pub(super) fn paths() -> Vec<String> {
    let below = [prometheus_api(), senders()].concat();
    let below =
        PREFIXES.iter().flat_map(|prefix| below.iter().map(move |(path, _)| format!("{prefix}{path}")));
    [pages(), writers()].concat().into_iter().map(|(path, _)| path.to_owned()).chain(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_names_are_few() {
        let cases = [
            (Some("/write"), "/write"),
            (Some("/db/{db}/api/v1/query"), "/api/v1/query"),
            (Some("/api/v1/label/{name}/values"), "/api/v1/label/values"),
            (Some("/db/{db}/api/v1/label/{name}/values"), "/api/v1/label/values"),
            (None, "other"),
        ];
        for (path, wanted) in cases {
            assert_eq!(route_name(path), wanted, "{path:?}");
        }
    }
}
