//! Answers to range queries that are kept: what the client sees of them, and what is counted.

use super::*;

const NOW_S: i64 = 1_704_067_200;

/// Ten minutes by 15 s, so many steps before the present.
fn path(ago: i64, rest: &str) -> String {
    let end = NOW_S - 15 * ago;
    format!("/api/v1/query_range?query=sum(rate(m[1m]))&start={}&end={end}&step=15{rest}", end - 600)
}

impl Rig {
    fn range(&self, ago: i64, rest: &str) -> serde_json::Value {
        let (status, _, body) = self.send(Method::GET, &path(ago, rest), "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn reused(&self, ago: i64, rest: &str) -> u64 {
        let found = self.range(ago, &format!("&stats=all{rest}"));
        found.pointer("/data/stats/reusedSteps").and_then(serde_json::Value::as_u64).unwrap()
    }

    /// The kept answer is the one that is evaluated.
    fn agrees(&self, ago: i64) {
        let (kept, fresh) = (self.range(ago, ""), self.range(ago, "&nocache=1"));
        assert_eq!(kept, fresh);
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, _, page) = self.send(Method::GET, "/metrics", "");
        let line =
            page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {page}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    fn outcomes(&self) -> [u64; 4] {
        ["hit", "partial", "miss", "bypass"]
            .map(|outcome| self.metric(&format!("icecore_results_queries_total{{outcome=\"{outcome}\"}}")))
    }
}

/// A counter of two hosts, a sample each ten seconds for a quarter of an hour.
fn rig() -> Rig {
    let rig = Rig::new(Options::default());
    let rows = (0..90).flat_map(|tens| ["a", "b"].map(|host| (host, tens)));
    let lines: String = rows
        .map(|(host, tens)| format!("m,host={host} value={tens} {}\n", (NOW_S - tens * 10) * SECOND_NS))
        .collect();
    assert_eq!(rig.write(&lines).0, 204);
    rig
}

#[test]
fn range_that_moves_on_evaluates_its_new_steps() {
    let rig = rig();
    assert_eq!(rig.reused(2, ""), 0);
    assert_eq!(rig.reused(2, ""), 41);
    assert_eq!(rig.reused(1, ""), 40);
    assert_eq!(rig.reused(3, ""), 39, "the other way");
    assert_eq!(rig.reused(3, "&lookback_delta=1m"), 0, "what changes answers is told apart");
    assert_eq!(rig.outcomes(), [1, 2, 2, 0]);
    assert_eq!(rig.metric("icecore_results_reused_steps_total"), 41 + 40 + 39);
    assert!(rig.metric("icecore_results_bytes") > 41 * 16);
    assert_eq!(rig.metric("icecore_results_answers"), 2);
    for ago in [3, 2, 1, 0] {
        rig.agrees(ago);
    }
}

#[test]
fn nocache_and_explain_are_evaluated_and_leave_nothing() {
    let rig = rig();
    for rest in ["&nocache=1", "&explain=true", "&nocache=1"] {
        assert_eq!(rig.reused(0, rest), 0);
    }
    assert_eq!(rig.outcomes(), [0, 0, 0, 3]);
    assert_eq!(rig.metric("icecore_results_answers"), 0);
    assert!(rig.range(0, "&explain=true").pointer("/coverage/rows").unwrap().as_u64() > Some(0));
}

#[test]
fn late_rows_and_deletes_are_seen_at_once() {
    let rig = rig();
    let before = rig.range(0, "");
    assert_eq!(rig.reused(0, ""), 41);
    let late_s = NOW_S - 300;
    assert_eq!(rig.write(&format!("m,host=a value=1000 {}\n", (late_s + 5) * SECOND_NS)).0, 204);
    assert_eq!(rig.reused(0, ""), 21, "up to the last step before the row");
    assert_ne!(rig.range(0, ""), before);
    rig.agrees(0);
    let path = format!("/api/v1/admin/delete?match[]=m{{host=\"a\"}}&start={late_s}&end={NOW_S}");
    let (status, _, body) =
        rig.send(Method::POST, &path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22"), "");
    assert_eq!(status, 200, "{body}");
    assert_eq!(rig.reused(0, ""), 0);
    rig.agrees(0);
}

#[test]
fn flushes_and_rolls_leave_answers_where_they_are() {
    let rig = rig();
    rig.range(0, "");
    rig.databases.get("default").unwrap().seal().unwrap();
    assert_eq!(rig.reused(0, ""), 41);
    rig.agrees(0);
}

#[test]
fn kept_points_count_in_the_limits_of_the_query() {
    let config = |points_max| {
        let query = icecore_query::Limits { points_max, ..icecore_query::Limits::default() };
        Config { limits: Limits { query, ..Limits::default() }, ..Config::default() }
    };
    let rig = rig();
    let (fs, clock) = (rig.fs.clone(), Arc::clone(&rig.clock));
    rig.databases.close().unwrap();
    let rig = Rig::on(fs, clock, config(41));
    assert_eq!((rig.reused(2, ""), rig.reused(1, "")), (0, 40));
    let longer = path(0, "").replace(&format!("start={}", NOW_S - 600), &format!("start={}", NOW_S - 615));
    let (status, _, body) = rig.send(Method::GET, &longer, "");
    assert!(status == 422 && body.contains("points_max"), "{status} {body}");
    assert_eq!(rig.outcomes(), [0, 2, 1, 0], "some of it was kept");
}

#[test]
fn database_of_the_same_name_has_its_own_answers() {
    let rig = rig();
    let (create, drop) = ("CREATE DATABASE d", "DROP DATABASE d");
    let query = |text: &str| rig.send(Method::POST, &format!("/query?q={}", text.replace(' ', "+")), "").0;
    assert_eq!(query(create), 200);
    let line = format!("m,host=c value=1 {}\n", (NOW_S - 90) * SECOND_NS);
    let write = || rig.send(Method::POST, "/write?db=d", &line).0;
    assert_eq!(write(), 204);
    let ask = || rig.range(0, "&db=d&stats=1").pointer("/data/stats/reusedSteps").unwrap().as_u64();
    assert_eq!((ask(), ask()), (Some(0), Some(41)));
    assert_eq!((query(drop), query(create), write()), (200, 200, 204));
    assert_eq!(ask(), Some(0));
}

#[test]
fn queries_that_are_not_steady_or_fail_are_not_kept() {
    let rig = rig();
    for query in ["m%20@%20end()", "m%20offset%20-5m", "m%20smoothed"] {
        let path = path(0, "").replace("sum(rate(m[1m]))", query);
        assert_eq!(rig.send(Method::GET, &path, "").0, 200, "{query}");
    }
    assert_eq!(rig.outcomes(), [0, 0, 0, 3]);
    let path = path(0, "").replace("sum(rate(m[1m]))", "m%20*%20on()%20m");
    for _ in 0..2 {
        assert_eq!(rig.send(Method::GET, &path, "").0, 422);
    }
    assert_eq!(rig.outcomes(), [0, 0, 2, 3]);
}
