//! /ingest, /api/v1/select and what /query has beside: JSON events in, rows out in every form, bound parameters, chunks.

use axum::http::header::CONTENT_TYPE;

use super::*;

fn url(path: &str, parameters: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn ingest(rig: &Rig, query: &str, body: &str) -> (u16, String) {
    let (status, _, answer) = rig.post(&format!("/ingest?{query}"), &[], body.as_bytes().to_vec());
    (status, String::from_utf8(answer).unwrap())
}

#[test]
fn events_are_durable_when_they_are_accepted_and_faults_are_named() {
    let rig = Rig::new(Options::default());
    let body = "{\"service\":\"web\",\"ms\":12,\"bytes\":7}\n{\"service\":\"api\",\"ms\":2.5,\"bytes\":8,\"time\":1704067100}\nno\n{\"ms\":[]}\n";
    let (status, answer) = ingest(&rig, "measurement=hits&tags=service&integers=bytes", body);
    assert_eq!(status, 202, "{answer}");
    assert!(
        answer.starts_with(r#"{"accepted":2,"rejected":2,"errors":[{"event":3,"error":"not a JSON object"#),
        "{answer}"
    );
    assert!(answer.contains(r#"{"event":4,"error":"no field has a value"}"#), "{answer}");
    // A type that does not fit is the engine's to refuse; a number of a known field is made to fit.
    let (status, answer) =
        ingest(&rig, "measurement=hits&tags=service", r#"[{"ms":"slow"},7,{"ms":3,"bytes":9.0}]"#);
    assert_eq!(status, 202, "{answer}");
    assert!(answer.starts_with(r#"{"accepted":1,"rejected":2,"errors":[{"event":1,"error":"#), "{answer}");
    assert!(answer.contains(r#"{"event":2,"error":"an event is a JSON object"}]"#), "{answer}");
    let (fs, clock) = (rig.fs.clone(), rig.clock.clone());
    fs.crash_losing_unsynced();
    drop(rig);
    fs.restart();
    let rig = Rig::on(fs, clock, Config::default());
    let found = rig.get(&url("/api/v1/select", &[("q", "SELECT sum(bytes), count(ms), mean(ms) FROM hits")]));
    assert!(found.contains(r#""sum":24,"count":3,"mean":5.83"#), "{found}");
    for (query, body, part) in [
        ("", r#"{"a":1}"#, "names no measurement"),
        ("measurement=m", "nonsense", "not a JSON object"),
        ("measurement=m&precision=year", r#"{"a":1}"#, "invalid precision"),
        ("measurement=m&db=nowhere", r#"{"a":1}"#, "nowhere"),
    ] {
        let (status, answer) = ingest(&rig, query, body);
        assert!((400..500).contains(&status) && answer.contains(part), "{query} {body}: {status} {answer}");
    }
}

#[test]
fn events_without_a_time_do_not_replace_each_other() {
    let rig = Rig::new(Options::default());
    let body = "{\"ms\":1}\n{\"ms\":2}\n{\"ms\":2}\n".repeat(4);
    let (status, answer) = ingest(&rig, "measurement=hits", &body);
    assert_eq!((status, answer.as_str()), (202, "{\"accepted\":12,\"rejected\":0}\n"));
    let found = rig.get(&url("/api/v1/select", &[("q", "SELECT count(ms), sum(ms) FROM hits")]));
    assert!(found.contains(r#""count":12,"sum":20"#), "{found}");
}

#[test]
fn events_sent_again_are_one_where_every_event_is_kept() {
    let config = Config { keep_duplicates: vec!["orders".to_owned()], ..Config::default() };
    let rig = Rig::on(SimFs::default(), Arc::new(ManualClock::new(1_704_067_200 * SECOND_NS)), config);
    let events = r#"[{"id":"a","n":1,"time":1704067100},{"id":"b","n":1,"time":1704067100}]"#;
    for _ in 0..3 {
        let (status, answer) = ingest(&rig, "measurement=orders", events);
        assert_eq!((status, answer.as_str()), (202, "{\"accepted\":2,\"rejected\":0}\n"));
    }
    let found = rig.get(&url("/api/v1/select", &[("q", "SELECT count(n), uniq(id) FROM orders")]));
    assert!(found.contains(r#""count":2,"uniq":2"#), "{found}");
}

#[test]
fn select_answers_in_each_form_and_with_a_status() {
    let rig = Rig::new(Options::default());
    rig.write("cpu,host=a load=1.5 1704067100000000000\ncpu,host=b load=2 1704067110000000000\n");
    let q = ("q", "SELECT load FROM cpu GROUP BY host");
    let first = r#"{"measurement":"cpu","host":"a","time":"2023-12-31T23:58:20Z","load":1.5}"#;
    let found = rig.get(&url("/api/v1/select", &[q]));
    assert!(found.starts_with(&format!("[{first},\n{{")) && found.ends_with("}]\n"), "{found}");
    let found = rig.get(&url("/db/default/api/v1/select", &[q, ("format", "ndjson"), ("epoch", "s")]));
    assert_eq!(
        found.lines().next().unwrap(),
        r#"{"measurement":"cpu","host":"a","time":1704067100,"load":1.5}"#
    );
    let found = rig.get(&url("/api/v1/select", &[q, ("format", "csv")]));
    assert!(found.starts_with("name,tags,time,load\ncpu,host=a,2023-12-31T23:58:20Z,1.5\n"), "{found}");
    let json = r#"{"q":"SELECT load FROM cpu WHERE host = $host","params":{"host":"b"},"epoch":"s"}"#;
    for (content_type, body, part) in [
        ("application/json", json, r#""time":1704067110,"load":2}]"#),
        ("text/plain", "SELECT max(load) FROM cpu", r#""max":2}]"#),
        ("application/x-www-form-urlencoded", "q=SELECT+max(load)+FROM+cpu", r#""max":2}]"#),
    ] {
        let (status, headers, answer) =
            rig.post("/api/v1/select", &[("content-type", content_type)], body.as_bytes().to_vec());
        let answer = String::from_utf8(answer).unwrap();
        assert!(status == 200 && answer.contains(part), "{content_type}: {status} {answer}");
        assert_eq!(headers.get(CONTENT_TYPE).unwrap(), "application/json");
    }
    for (parameters, status) in [
        (vec![("q", "SELECT")], 400),
        (vec![("q", "SELECT load FROM cpu; SELECT load FROM cpu")], 400),
        (vec![("q", "SELECT load FROM cpu"), ("db", "nowhere")], 404),
        (vec![("q", "SELECT load FROM cpu"), ("format", "xml")], 400),
        (vec![("q", "DROP MEASUREMENT cpu")], 400),
        (vec![("q", "SELECT mean(host) FROM cpu")], 400),
        (vec![], 400),
    ] {
        let answer = rig.send(Method::GET, &url("/api/v1/select", &parameters), "");
        assert_eq!(answer.0, status, "{parameters:?}: {answer:?}");
        assert!(answer.2.contains(r#""status":"error""#), "{answer:?}");
    }
}

#[test]
fn query_takes_bound_parameters_and_gives_chunks() {
    let rig = Rig::new(Options::default());
    rig.write("cpu,host=a load=1 1704067100000000000\ncpu,host=a load=2 1704067110000000000\n");
    let q = ("q", "SELECT load FROM cpu WHERE host = $host; SELECT load FROM nothing");
    let found = rig
        .get(&url("/query", &[q, ("params", r#"{"host":"a"}"#), ("chunked", "true"), ("chunk_size", "1")]));
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 3, "{found}");
    assert!(
        lines[0].contains(r#"]],"partial":true}],"partial":true}"#) && !lines[1].contains("partial"),
        "{found}"
    );
    assert_eq!(lines[2], r#"{"results":[{"statement_id":1}]}"#);
    for params in ["", "[1]", r#"{"host":{"x":1}}"#, r#"{"other":1}"#] {
        let answer = rig.send(Method::GET, &url("/query", &[q, ("params", params)]), "");
        assert_eq!(answer.0, 400, "{params}: {answer:?}");
    }
}
