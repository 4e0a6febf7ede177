//! Requests through the real router, over databases on a disk that can be made to fail and a clock moved by hand.

mod answers;
mod chunks;
mod compression;
mod exemplars;
mod federate;
mod openapi;
mod otlp;
mod read;
mod remote;
mod results;
mod select;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use icecore_storage::clock::{Clock as _, ManualClock};
use icecore_storage::engine::Env;
use icecore_storage::fs::SimFs;
use icecore_storage::fs::sim::Fault;
use icecore_storage::model::SECOND_NS;

use super::app::App;
use super::route::router;
use crate::telemetry::Telemetry;
use crate::{Config, Databases, Durability, Limits, Options};

struct Rig {
    fs: SimFs,
    clock: Arc<ManualClock>,
    databases: Arc<Databases>,
    router: axum::Router,
    runtime: tokio::runtime::Runtime,
}

/// Status, `Retry-After` and body of an answer.
type Reply = (u16, Option<String>, String);

impl Rig {
    fn new(options: Options) -> Self {
        let (fs, clock) = (SimFs::default(), Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS)));
        Self::on(fs, clock, Config { options, ..Config::default() })
    }

    fn on(fs: SimFs, clock: Arc<ManualClock>, config: Config) -> Self {
        let env = Env { fs: Arc::new(fs.clone()), clock: clock.clone() };
        let databases = Arc::new(Databases::open_in(env, Path::new("/data"), config).unwrap());
        let router = router(Arc::new(App::new(Arc::clone(&databases), Telemetry::new().unwrap())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { fs, clock, databases, router, runtime }
    }

    fn send(&self, method: Method, path: &str, body: &str) -> Reply {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        self.runtime.block_on(async {
            let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
            let retry = response.headers().get(RETRY_AFTER).map(|text| text.to_str().unwrap().to_owned());
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, retry, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, HeaderMap, Vec<u8>) {
        self.request(Method::POST, path, headers, body)
    }

    /// A request with headers and any bytes.
    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        self.runtime.block_on(async {
            let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (parts.status.as_u16(), parts.headers, body.to_vec())
        })
    }

    fn write(&self, lines: &str) -> Reply {
        self.send(Method::POST, "/write", lines)
    }

    fn get(&self, path: &str) -> String {
        self.send(Method::GET, path, "").2
    }

    /// The present, for lines.
    fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }
}

#[test]
fn limits_of_the_catalog_name_the_tag_key_and_are_counted() {
    type Lower = fn(&mut Options);
    let limits: [(&str, &str, Lower); 5] = [
        ("series_max", "tag key \\\"id\\\"", |options| options.series_max = 2),
        ("measurement_series_max", "tag key \\\"id\\\"", |options| options.measurement_series_max = 2),
        ("new_series_per_minute_max", "tag key \\\"id\\\"", |options| options.new_series_per_minute_max = 2),
        ("tag_values_max", "tag key \\\"id\\\"", |options| options.tag_values_max = 2),
        ("fields_max", "field is \\\"y\\\"", |options| options.fields_max = 1),
    ];
    for (name, culprit, lower) in limits {
        let mut options = Options::default();
        lower(&mut options);
        let rig = Rig::new(options);
        let (status, _, body) = rig.write("m,id=1 x=1\nm,id=2 x=1\nm,id=3 x=1,y=2\nm,id=1 x=2");
        assert_eq!(status, 400, "{name}: {body}");
        for wanted in [&format!("(limit {name})"), culprit, "line 3: ", "written=3 dropped=1"] {
            assert!(body.contains(wanted), "{name}: no {wanted} in {body}");
        }
        let metrics = rig.get("/metrics");
        let wanted = format!("icecore_limit_hits_total{{limit=\"{name}\"}} 1\n");
        assert!(metrics.contains(&wanted), "{name}: {metrics}");
        assert_eq!(rig.get("/metrics").matches(&*wanted).count(), 1, "a page read twice counts once");
        let tag_key = if name == "fields_max" { "" } else { "id" };
        let labels = format!("db=\"default\",limit=\"{name}\",measurement=\"m\",tag_key=\"{tag_key}\"");
        let wanted = format!("icecore_refused_rows_total{{{labels}}} 1\n");
        assert!(metrics.contains(&wanted) && rig.get("/metrics").contains(&wanted), "{name}: {metrics}");
    }
}

#[test]
fn full_disk_is_507_until_there_is_room() {
    let rig = Rig::new(Options::default());
    assert_eq!(rig.write("m x=1").0, 204);
    rig.fs.set_free_bytes(1 << 20);
    rig.clock.advance(2 * SECOND_NS);
    let (status, retry, body) = rig.write("m x=2");
    assert_eq!((status, retry.as_deref()), (507, Some("30")), "{body}");
    assert!(body.contains("free_bytes_min"), "{body}");
    assert!(rig.get("/metrics").contains("icecore_limit_hits_total{limit=\"free_bytes_min\"} 1"));
    assert!(rig.get("/query?q=SELECT%20count(x)%20FROM%20m").contains(",1]"), "reads go on");
    rig.fs.set_free_bytes(1 << 30);
    rig.clock.advance(2 * SECOND_NS);
    assert_eq!(rig.write("m x=2").0, 204);
}

#[test]
fn full_memory_is_503_until_a_flush() {
    let options = Options { memory_bytes_max: 1, write_wait_max: Duration::ZERO, ..Options::default() };
    let rig = Rig::new(options);
    assert_eq!(rig.write("m x=1").0, 204);
    let (status, retry, body) = rig.write("m x=2");
    assert_eq!((status, retry.as_deref()), (503, Some("1")), "{body}");
    assert!(body.contains("memory_bytes_max"), "{body}");
    assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush", "").0, 200);
    assert_eq!(rig.write("m x=2").0, 204);
}

#[test]
fn body_of_more_fields_than_memory_is_cut_and_smaller_ones_are_taken() {
    let limits = Limits { decoding_bytes_max: 320, ..Limits::default() };
    let clock = Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS));
    let rig = Rig::on(SimFs::default(), clock, Config { limits, ..Config::default() });
    let line = "m a=1,b=2,c=3,d=4\n";
    let (status, _, body) = rig.write(&line.repeat(3));
    assert_eq!(status, 400);
    assert!(
        body.contains("line 3: more than 10 fields in one request") && body.contains("written=2"),
        "{body}"
    );
    assert_eq!(rig.write(&line.repeat(2)).0, 204, "alone, a body takes all the memory there is");
}

#[test]
fn durability_is_chosen_at_creation_shown_and_kept() {
    let rig = Rig::new(Options { durability: Durability::Interval, ..Options::default() });
    let create = |name: &str, durability: &str| {
        let path = format!("/query?q=CREATE%20DATABASE%20{name}&durability={durability}");
        rig.send(Method::POST, &path, "").0
    };
    assert_eq!([create("cache", "memory"), create("books", "fsync"), create("x", "disk")], [200, 200, 400]);
    let shown = |rig: &Rig| {
        let health: serde_json::Value = serde_json::from_str(&rig.get("/health")).unwrap();
        health.get("databases").unwrap().to_string()
    };
    let expected = r#"{"books":{"durability":"fsync"},"cache":{"durability":"memory"},"default":{"durability":"interval"}}"#;
    assert_eq!(shown(&rig), expected);
    assert!(rig.get("/metrics").contains("icecore_durability{db=\"cache\",durability=\"memory\"} 1"));
    for name in ["books", "cache"] {
        assert_eq!(rig.send(Method::POST, &format!("/write?db={name}"), "m x=1").0, 204);
    }
    // The machine stops; the next start is told nothing.
    let Rig { fs, clock, databases, .. } = rig;
    fs.fail_at(fs.operations(), Fault::PowerCut);
    drop(databases);
    fs.crash(1);
    let rig = Rig::on(fs, clock, Config::default());
    assert_eq!(shown(&rig), expected);
    let count = |name: &str| rig.get(&format!("/query?db={name}&q=SELECT%20count(x)%20FROM%20m"));
    assert!(count("books").contains(",1]"), "{}", count("books"));
    assert!(!count("cache").contains(",1]"), "nothing of it was written: {}", count("cache"));
}

#[test]
fn failed_append_is_503_poisoned_without_retry_until_a_restart() {
    let rig = Rig::new(Options::default());
    let now_ns = rig.now_ns();
    assert_eq!(rig.write(&format!("m x=1 {now_ns}")).0, 204);
    rig.fs.fail_at(rig.fs.operations(), Fault::Io);
    assert_eq!(rig.write(&format!("m x=2 {}", now_ns + 1)).0, 500, "the write that failed");
    for path in ["/write", "/api/v2/write"] {
        let (status, retry, body) = rig.send(Method::POST, path, "m x=3");
        assert_eq!((status, retry), (503, None), "{path}: {body}");
        assert!(body.contains("poisoned: "), "{path}: {body}");
    }
    let (status, _, body) = rig.send(Method::GET, "/health", "");
    assert!(status == 503 && body.contains("writes are refused until a restart: default"), "{body}");
    assert!(rig.get("/metrics").contains("icecore_poisoned{db=\"default\"} 1"));
    assert!(rig.get("/query?q=SELECT%20count(x)%20FROM%20m").contains(",1]"), "reads go on");
    let Rig { fs, clock, databases, .. } = rig;
    drop(databases);
    fs.restart();
    let rig = Rig::on(fs, clock, Config::default());
    assert_eq!(rig.write("m x=3").0, 204);
    assert_eq!(rig.send(Method::GET, "/health", "").0, 200);
}

#[test]
fn retention_is_read_and_changed_and_kept() {
    const PATH: &str = "/api/v1/admin/retention";
    let rig = Rig::new(Options::default());
    assert_eq!(rig.send(Method::POST, "/query?q=CREATE%20DATABASE%20books&retention=raw=2h", "").0, 200);
    let shown = |rig: &Rig, name: &str| {
        let body: serde_json::Value = serde_json::from_str(&rig.get(&format!("{PATH}?db={name}"))).unwrap();
        body.pointer(&format!("/data/{name}/retention")).unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(shown(&rig, "books"), "raw=2h,1m=7d,5m=7d,1h=30d");
    assert_eq!(shown(&rig, "default"), "raw=1d,1m=7d,5m=7d,1h=30d");
    let put = |query: &str| rig.send(Method::PUT, &format!("{PATH}?{query}"), "");
    for (query, wanted) in [
        ("retention=forever", "missing required parameter \\\"db\\\""),
        ("db=books", "missing required parameter \\\"retention\\\""),
        ("db=books&retention=raw=8d", "keeps raw longer than 1m"),
        ("db=books&retention=soon", "expected `forever`"),
    ] {
        let (status, _, body) = put(query);
        assert!(status == 400 && body.contains(wanted), "{query}: {status} {body}");
    }
    assert_eq!(put("db=shelves&retention=forever").0, 404);
    let (status, _, body) = put("db=books&retention=raw=6h,1h=forever");
    assert!(status == 200 && body.contains("raw=6h,1m=7d,5m=7d,1h=forever"), "{body}");
    // The machine stops; the next start is told nothing.
    let Rig { fs, clock, databases, .. } = rig;
    fs.fail_at(fs.operations(), Fault::PowerCut);
    drop(databases);
    fs.crash(1);
    let rig = Rig::on(fs, clock, Config::default());
    assert_eq!(shown(&rig, "books"), "raw=6h,1m=7d,5m=7d,1h=forever");
    assert_eq!(shown(&rig, "default"), "raw=1d,1m=7d,5m=7d,1h=30d");
}

#[test]
fn retention_dry_run_changes_nothing_and_names_files() {
    const PATH: &str = "/api/v1/admin/retention?db=default";
    let rig = Rig::new(Options::default());
    rig.write(&format!("m x=1 {}", rig.now_ns()));
    assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush?compact=true", "").0, 200);
    // A day and more past the newest sample: the background work leaves all as it is.
    rig.clock.advance(26 * 3600 * SECOND_NS);
    let plan = |flags: &str| {
        let (status, _, body) = rig.send(Method::POST, &format!("{PATH}&dry_run=true{flags}"), "");
        assert_eq!(status, 200, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body.pointer("/data/default/tiers/0").unwrap().clone()
    };
    let (careful, forced) = (plan(""), plan("&force=true"));
    let one = Some(&serde_json::json!(1));
    assert_eq!((careful.pointer("/held/rows"), forced.pointer("/goes/rows")), (one, one));
    let name = forced.pointer("/goes/segments/0").and_then(serde_json::Value::as_str).unwrap();
    assert!(name.starts_with("seg-") && name.ends_with(".ice"), "{name}");
    assert_eq!(plan("&force=true").pointer("/goes"), forced.pointer("/goes"), "nothing went");
    let (_, _, done) = rig.send(Method::POST, &format!("{PATH}&force=true"), "");
    assert!(done.contains("\"raw\":1"), "{done}");
    let after = plan("&force=true");
    assert_eq!(after.pointer("/goes/files"), Some(&serde_json::json!(0)));
    assert!(after.pointer("/gone_before").is_some_and(serde_json::Value::is_string), "{after}");
}

#[test]
fn rules_for_cells_are_shown_changed_and_kept_over_a_restart() {
    const PATH: &str = "/api/v1/admin/cells";
    let rig = Rig::new(Options::default());
    assert!(rig.get(PATH).contains(r#"{"default":{"rules":[]}}"#), "{}", rig.get(PATH));
    let put = |form: &str| rig.send(Method::PUT, PATH, form);
    let (status, _, body) = put("db=default&rule[]=requests.latency_ms%3Ddist&rule[]=*.user%3Dauto%2Buniq");
    let rules = r#"{"rules":["requests.latency_ms=dist","*.user=auto+uniq"]}"#;
    assert!(status == 200 && body.contains(rules), "{body}");
    for (form, part) in [
        ("rule[]=a.b%3Ddist", "db"),
        ("db=default", "rule[]"),
        ("db=default&rule[]=a.b%3Dmore", "not a rule for cells"),
        ("db=default&rule[]=a.b%3Ddist&rule[]=b%3Ddist", "not a rule for cells"),
    ] {
        let (status, _, body) = put(form);
        assert!(status == 400 && body.contains(part), "{form}: {status} {body}");
    }
    let many = vec!["rule[]=a.b%3Ddist"; 257].join("&");
    let (status, _, body) = put(&format!("db=default&{many}"));
    assert!(status >= 400 && body.contains("at most 256"), "{status} {body}");
    assert_eq!(put("db=nowhere&rule[]=").0, 404);
    let Rig { fs, clock, databases, .. } = rig;
    fs.fail_at(fs.operations(), Fault::PowerCut);
    drop(databases);
    fs.crash(1);
    let rig = Rig::on(fs, clock, Config::default());
    assert!(rig.get(PATH).contains(rules), "{}", rig.get(PATH));
    let (status, _, body) = rig.send(Method::PUT, PATH, "db=default&rule[]=");
    assert!(status == 200 && body.contains(r#"{"rules":[]}"#), "{body}");
}

#[test]
fn rules_hide_raw_rows_of_their_series_and_are_kept() {
    const PATH: &str = "/api/v1/admin/retention?db=default";
    let rig = Rig::new(Options::default());
    let lines: String = ["critical", "analytical"]
        .iter()
        .map(|tier| format!("telemetry,tier={tier} x=1 {}\n", rig.now_ns()))
        .collect();
    assert_eq!(rig.write(&lines).0, 204);
    assert_eq!(rig.send(Method::POST, "/api/v1/admin/flush?compact=true", "").0, 200);
    let put = |form: &str| rig.send(Method::PUT, PATH, form);
    let analytical = "rule[]=telemetry%7Btier%3D%22analytical%22%7D+raw%3D6h";
    let critical = "rule[]=telemetry%7Btier%3D%22critical%22%7D+raw%3D72h";
    let (status, _, body) = put(&format!("{critical}&{analytical}"));
    let shown = r#"{"series":"telemetry{tier=\"analytical\"}","retention":"raw=6h,1m=7d,5m=7d,1h=30d"}"#;
    assert!(status == 200 && body.contains(shown), "{body}");
    let many = vec![critical; 17].join("&");
    let (status, _, body) = put(&many);
    assert!(status >= 400 && body.contains("at most 16"), "{status} {body}");
    assert_eq!(put("rule[]=telemetry+raw%3Dsoon").0, 400);

    rig.clock.advance(12 * 3600 * SECOND_NS);
    assert_eq!(rig.send(Method::POST, PATH, "").0, 200);
    let rows = |tier: &str| {
        let query = format!("/query?q=SELECT%20x%20FROM%20telemetry%20WHERE%20tier%3D%27{tier}%27");
        rig.get(&query).contains("\"values\"")
    };
    assert_eq!((rows("critical"), rows("analytical")), (true, false));
    let sum = rig.get("/query?q=SELECT%20count(x)%20FROM%20telemetry");
    assert!(sum.contains(",2]"), "cells answer for both: {sum}");
    assert_eq!(put("rule[]=").0, 200);
    assert_eq!((rows("critical"), rows("analytical")), (true, false), "nothing comes back");
    let shown = rig.get(PATH);
    assert!(shown.contains("\"rules\":[]"), "{shown}");
}
