//! Long answers: sent piece by piece, charged while they are held, and left when nobody takes them.

use hyper::body::Body as _;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};

use super::super::server::{Times, connection};
use super::*;

/// 20 series of 11,000 steps: some five megabytes.
const LONG: &str = "/api/v1/query_range?query=last_over_time(m[30d])&start=1704067200&end=1704078199&step=1";

fn rig() -> Rig {
    let rig = Rig::new(Options::default());
    let now = rig.now_ns();
    let lines: String = (0..20).map(|host| format!("m,host=h{host:02} value={host}.25 {now}\n")).collect();
    assert_eq!(rig.write(&lines).0, 204);
    rig
}

#[test]
fn long_answers_come_in_pieces_that_are_charged_until_they_are_sent() {
    let rig = rig();
    let database = rig.databases.all().remove(0);
    rig.runtime.block_on(async {
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            TowerToHyperService::new(rig.router.clone()).call(request).await.unwrap()
        };
        let short = ask("/api/v1/query?query=m&time=1704067200").await;
        assert!(short.body().size_hint().exact().is_some());
        assert_eq!(database.queries_memory_bytes(), 0, "what is sent as a whole is out of its account");
        let long = ask(LONG).await;
        assert_eq!(long.headers().get("content-type").unwrap(), "application/json");
        assert_eq!(long.body().size_hint().exact(), None);
        let (mut body, mut joined, mut largest) = (long.into_body(), Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(database.queries_memory_bytes() > 1 << 20);
            largest = piece.len().max(largest);
            joined.extend_from_slice(&piece);
        }
        drop(body);
        assert_eq!(database.queries_memory_bytes(), 0);
        assert!(largest < 128 << 10 && joined.len() > 4 << 20, "{largest} of {}", joined.len());
        let answer: serde_json::Value = serde_json::from_slice(&joined).unwrap();
        let series = answer.pointer("/data/result").unwrap().as_array().unwrap();
        assert_eq!((series.len(), series[19]["values"].as_array().unwrap().len()), (20, 11_000));
        // A client that leaves gives back what its answer holds.
        let mut body = ask(LONG).await.into_body();
        assert!(body.frame().await.is_some() && database.queries_memory_bytes() > 0);
        drop(body);
        assert_eq!(database.queries_memory_bytes(), 0);
    });
}

#[test]
fn whole_answers_are_charged_until_they_are_sent() {
    let rig = Rig::new(Options::default());
    let (now, database) = (rig.now_ns(), rig.databases.all().remove(0));
    let lines: String = (0..3_000).map(|host| format!("m,host=host_{host:05} value=1 {now}\n")).collect();
    assert_eq!(rig.write(&lines).0, 204);
    rig.runtime.block_on(async {
        for path in [
            "/federate?match[]=m",
            "/api/v1/series?match[]=m",
            "/query?q=select+*+from+m",
            "/api/v1/query?query=m&time=1704067200",
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let response = TowerToHyperService::new(rig.router.clone()).call(request).await.unwrap();
            let is_whole = !path.contains("/query?query");
            let bytes = response.body().size_hint().exact();
            assert_eq!(bytes.is_some(), is_whole, "{path}");
            let (mut body, mut left) = (response.into_body(), bytes.unwrap_or(u64::MAX));
            while let Some(frame) = body.frame().await {
                let held = database.queries_memory_bytes();
                assert!(held > 0 && (!is_whole || bytes <= Some(held)), "{path}: {held} for {bytes:?}");
                left -= frame.unwrap().into_data().unwrap().len() as u64;
            }
            drop(body);
            assert!(left == 0 || !is_whole, "{path}");
            assert_eq!(database.queries_memory_bytes(), 0, "{path}");
        }
    });
}

#[test]
fn client_that_takes_nothing_of_its_answer_is_left() {
    let rig = rig();
    let database = rig.databases.all().remove(0);
    rig.runtime.block_on(async {
        let (client, server) = UnixStream::pair().unwrap();
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (_stop, stopped) = watch::channel(false);
        let times =
            Times { header_time_max: Duration::from_secs(10), answer_time_max: Duration::from_millis(50) };
        let server = tokio::spawn(connection(rig.router.clone(), server, permit, times, stopped));
        client.ready(Interest::WRITABLE).await.unwrap();
        let head = format!("GET {LONG} HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(client.try_write(head.as_bytes()).unwrap(), head.len());
        client.ready(Interest::READABLE).await.unwrap();
        assert!(database.queries_memory_bytes() > 0, "the answer waits");
        server.await.unwrap();
        assert_eq!(database.queries_memory_bytes(), 0);
    });
}
