//! Bodies that are compressed for clients that take it.

use std::io::Read as _;

use axum::http::header::{CONTENT_ENCODING, VARY};

use super::*;

fn unpack(encoding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match encoding {
        "gzip" => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        "zstd" => plain = zstd::decode_all(body).unwrap(),
        _ => plain = body.to_vec(),
    }
    plain
}

#[test]
fn long_answers_are_compressed_where_the_client_takes_it() {
    let rig = Rig::new(Options::default());
    let at_ns = rig.now_ns();
    let lines: String = (0..200).map(|host| format!("m,host=host_{host} value={host} {at_ns}\n")).collect();
    assert_eq!(rig.write(&lines).0, 204);
    let ask = |query: &str, accepted: &str| {
        let headers = [("accept-encoding", accepted), ("content-type", "application/x-www-form-urlencoded")];
        let form = format!("query={query}&time={}", at_ns / 1_000_000_000).into_bytes();
        let (status, headers, body) = rig.post("/api/v1/query", &headers, form);
        let encoding = headers.get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap()).to_owned();
        (status, encoding, headers.contains_key(VARY), body)
    };
    let (_, _, _, plain) = ask("m", "identity");
    for (accepted, expected) in
        [("gzip, deflate", "gzip"), ("zstd", "zstd"), ("", ""), ("br", ""), ("gzip;q=0", "")]
    {
        let (status, encoding, varies, body) = ask("m", accepted);
        assert_eq!((status, encoding.as_str(), varies), (200, expected, true), "{accepted}");
        assert_eq!(unpack(&encoding, &body), plain, "{accepted}");
        assert_eq!(body.len() < plain.len() / 4, !expected.is_empty(), "{accepted}");
    }
    // No encoding at all is refused before anything is read, and never after something was written.
    let nothing = [("accept-encoding", "identity;q=0")];
    let written = rig.post("/write", &nothing, format!("w value=1 {at_ns}").into_bytes());
    assert_eq!(written.0, 204);
    // What is short is sent as it is, errors too.
    assert_eq!(ask("count(m)", "gzip").1, "");
    let (status, encoding, _, _) = ask("m(", "gzip");
    assert_eq!((status, encoding.as_str()), (400, ""));
}
