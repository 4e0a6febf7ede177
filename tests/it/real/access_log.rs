//! elastic/examples: 10,000 lines of a web server, many in the same second.

use std::collections::BTreeMap;
use std::path::Path;

use icecore::Database;

use super::{QUANTILE_ERROR, close, data, import, in_every_state, nearest_rank, number, points, rows};

struct Line {
    hour_s: i64,
    status: String,
    bytes: f64,
}

fn read(file: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = Vec::new();
    for line in text.lines() {
        let time = line.split_once('[').unwrap().1.split_once(']').unwrap().0;
        let (day, month, hour) = (&time[0..2], &time[3..6], &time[12..14]);
        assert_eq!((month, &time[7..11], &time[21..26]), ("May", "2015", "+0000"));
        // 2015-05-01T00:00:00Z.
        let may_s = 1_430_438_400;
        let hours = (day.parse::<i64>().unwrap() - 1) * 24 + hour.parse::<i64>().unwrap();
        let request_end = line.find("\" ").unwrap();
        let mut words = line[request_end + 2..].split(' ');
        let status = words.next().unwrap().to_owned();
        let bytes = words.next().unwrap();
        let bytes = if bytes == "-" { 0.0 } else { bytes.parse().unwrap() };
        lines.push(Line { hour_s: may_s + hours * 3600, status, bytes });
    }
    lines
}

#[test]
fn access_log_answers_equal_the_file_in_every_state() {
    let Some(root) = data("access-log") else { return };
    let file = root.join("access.log");
    let lines = read(&file);
    assert_eq!(lines.len(), 10_000);
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    let said = import(&file, &dir, &["--format", "clf", "--measurement", "access"]);
    assert!(said.contains("10000") || said.contains("10,000"), "{said}");
    import(&file, &dir, &["--format", "clf", "--measurement", "access"]);
    in_every_state(&dir, &|database, _| verify(database, &lines));
}

fn verify(database: &Database, lines: &[Line]) {
    let range = "time >= '2015-05-17T00:00:00Z' AND time < '2015-05-21T00:00:00Z'";
    let table = database
        .select(&format!("SELECT count(bytes), sum(bytes) FROM access WHERE {range} GROUP BY status"))
        .unwrap();
    let mut by_status: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for line in lines {
        let entry = by_status.entry(&line.status).or_default();
        *entry = (entry.0 + 1.0, entry.1 + line.bytes);
    }
    let found: Vec<(String, f64, f64)> = rows(&table)
        .iter()
        .map(|(tags, rows)| (tags.clone(), number(&rows[0][1]), number(&rows[0][2])))
        .collect();
    let expected: Vec<(String, f64, f64)> =
        by_status.iter().map(|(status, (count, sum))| (format!("status={status}"), *count, *sum)).collect();
    assert_eq!(
        found, expected,
        "the second import of the same file changed nothing, equal times were kept apart"
    );
    assert_eq!(found.iter().map(|(_, count, _)| *count).sum::<f64>(), 10_000.0);

    let table = database
        .select(&format!("SELECT p50(bytes), p95(bytes), p99(bytes) FROM access WHERE {range}"))
        .unwrap();
    let mut sorted: Vec<f64> = lines.iter().map(|line| line.bytes).collect();
    sorted.sort_by(f64::total_cmp);
    for (cell, q) in rows(&table)[0].1[0][1..].iter().zip([0.5, 0.95, 0.99]) {
        let (found, exact) = (number(cell), nearest_rank(&sorted, q));
        assert!(close(found, exact, QUANTILE_ERROR), "p{}: {found} for {exact}", q * 100.0);
    }
    verify_error_ratio(database, lines);
}

/// The 5xx ratio per hour. A SELECT bucket is [b, b+1h), a PromQL window (b, b+1h]: a line in the very first
/// nanosecond of an hour would tell them apart; the nanosecond digits of log events make that unlikely, so PromQL is
/// asked for windows that end just before the hour.
fn verify_error_ratio(database: &Database, lines: &[Line]) {
    let mut by_hour: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for line in lines {
        let entry = by_hour.entry(line.hour_s).or_default();
        entry.0 += 1.0;
        entry.1 += f64::from(u8::from(line.status.starts_with('5')));
    }
    let range = "time >= '2015-05-17T00:00:00Z' AND time < '2015-05-21T00:00:00Z'";
    let count = |filter: &str| {
        let text =
            format!("SELECT count(bytes) FROM access WHERE {range} {filter} GROUP BY time(1h) fill(none)");
        let table = database.select(&text).unwrap();
        let mut counts = BTreeMap::new();
        for row in rows(&table).iter().flat_map(|(_, rows)| rows) {
            let icecore::Cell::Time(ts_ns) = row[0] else { panic!("no time in {row:?}") };
            counts.insert(ts_ns / 1_000_000_000, number(&row[1]));
        }
        counts
    };
    let (all, errors) = (count(""), count("AND status =~ /^5/"));
    for (hour_s, (requests, failed)) in &by_hour {
        assert_eq!(all.get(hour_s), Some(requests), "requests in the hour {hour_s}");
        assert_eq!(errors.get(hour_s).copied().unwrap_or(0.0), *failed, "errors in the hour {hour_s}");
    }
    assert_eq!(all.len(), by_hour.len());
    let text =
        "sum(count_over_time(access_bytes{status=~\"5..\"}[1h])) / sum(count_over_time(access_bytes[1h]))";
    let (first, last) = (by_hour.keys().next().unwrap() + 3600, by_hour.keys().last().unwrap() + 3600);
    let ratios = points(database, text, first, last, 3600);
    let expected: Vec<(i64, f64)> = by_hour
        .iter()
        .filter(|(_, (_, failed))| *failed > 0.0)
        .map(|(hour_s, (requests, failed))| (hour_s + 3600, failed / requests))
        .collect();
    let found: Vec<(i64, f64)> = ratios.iter().map(|(_, t, ratio)| (*t, *ratio)).collect();
    assert_eq!(found, expected, "the 5xx ratio per hour is exact");
}
