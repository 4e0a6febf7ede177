//! The description of all paths against the table of routes, and what the router says of itself.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use axum::http::header::ALLOW;

use super::Rig;
use crate::Options;
use crate::http::admin::OPENAPI;
use crate::http::route::paths;

/// Methods by path, as the description has them: paths stand at two spaces, their methods at four. A path with the servers
/// of databases stands for two.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let mut current = Vec::new();
    let lines = OPENAPI.lines().skip_while(|line| *line != "paths:").skip(1);
    for line in lines.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        if let Some(path) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
            current = vec![format!("/{path}")];
        } else if let Some(rest) = line.strip_prefix("    servers: ") {
            assert!(["&databases", "*databases"].contains(&rest), "{line}");
            let path = current[0].clone();
            current.push(format!("/db/{{db}}{path}"));
        } else if let Some(method) = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix(':'))
            && ["get", "post", "put", "delete"].contains(&method)
        {
            for path in &current {
                found.entry(path.clone()).or_default().insert(method.to_uppercase());
            }
        }
    }
    found
}

/// Methods by path, as the router takes them: another method is answered with those that are allowed.
fn routed(rig: &Rig) -> BTreeMap<String, BTreeSet<String>> {
    let methods_of = |path: &String| {
        let asked = path.replace("{db}", "default").replace("{name}", "x");
        let (status, headers, _) = rig.request(Method::PATCH, &asked, &[], Vec::new());
        assert_eq!(status, 405, "{path}");
        let allowed = headers[ALLOW].to_str().unwrap().split(',').map(|method| method.trim().to_owned());
        // HEAD comes with GET.
        (path.clone(), allowed.filter(|method| method != "HEAD").collect())
    };
    paths().iter().map(methods_of).collect()
}

#[test]
fn description_names_every_route_and_no_other() {
    let rig = Rig::new(Options::default());
    let (described, routed) = (described(), routed(&rig));
    assert!(60 < routed.len(), "{}", routed.len());
    assert_eq!(described, routed);
}

#[test]
fn description_is_served_and_has_the_version_of_the_program() {
    let rig = Rig::new(Options::default());
    let (status, headers, body) = rig.request(Method::GET, "/api/v1/openapi.yaml", &[], Vec::new());
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "application/yaml"));
    assert_eq!(body, OPENAPI.as_bytes());
    let version = format!("\n  version: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(OPENAPI.contains(&version), "{version}");
}

#[test]
fn requests_are_counted_by_route() {
    let rig = Rig::new(Options::default());
    for path in
        ["/api/v1/label/x/values", "/db/default/api/v1/label/y/values", "/wp-admin", "/db/", "/db/x/y"]
    {
        rig.get(path);
    }
    rig.send(Method::PUT, "/write", "");
    let page = rig.get("/metrics");
    for (route, status, count) in [("/api/v1/label/values", 200, 2), ("other", 404, 3), ("/write", 405, 1)] {
        let line = format!("icecore_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n");
        assert!(page.contains(&line), "no {line} in {page}");
    }
}
