//! numenta/NAB: 24 series of machine and business metrics, with duplicates and a step back in time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use icecore::Database;

use super::{QUANTILE_ERROR, close, data, import, in_every_state, nearest_rank, number, points, rows};

/// What one file says: the last value of each time (seconds), and how many lines there were.
struct Truth {
    values: BTreeMap<i64, f64>,
    lines: usize,
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["realAWSCloudwatch", "realKnownCause"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        files.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "csv")),
        );
    }
    files.sort();
    files
}

fn read(file: &Path) -> Truth {
    let text = std::fs::read_to_string(file).unwrap();
    let mut values = BTreeMap::new();
    let mut lines = 0;
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let (time, value) = line.split_once(',').unwrap();
        values.insert(seconds(time), value.parse().unwrap());
        lines += 1;
    }
    Truth { values, lines }
}

/// `YYYY-MM-DD HH:MM:SS` as seconds since the epoch, by the civil calendar (days from Howard Hinnant's algorithm).
fn seconds(time: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| time[range].parse::<i64>().unwrap();
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    ((days * 24 + part(11..13)) * 60 + part(14..16)) * 60 + part(17..19)
}

#[test]
fn nab_answers_equal_the_files_in_every_state() {
    let Some(root) = data("nab") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    let mut truths = BTreeMap::new();
    let files = files(&root);
    assert_eq!(files.len(), 24);
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let tag = format!("file={name}");
        let said = import(file, &dir, &["--format", "csv", "--measurement", "nab", "--tag", &tag]);
        let truth = read(file);
        assert!(said.contains(&truth.lines.to_string()), "all lines are taken: {said}");
        truths.insert(name, truth);
    }
    let duplicates: usize = truths.values().map(|truth| truth.lines - truth.values.len()).sum();
    assert!(duplicates > 40, "the files hold equal times ({duplicates}), the last value wins");
    in_every_state(&dir, &|database, _| verify(database, &truths));
}

fn verify(database: &Database, truths: &BTreeMap<String, Truth>) {
    let (start, end) = ("'2011-01-01T00:00:00Z'", "'2016-01-01T00:00:00Z'");
    let text = format!(
        "SELECT count(value), sum(value), min(value), max(value), p50(value), p95(value), p99(value) FROM nab \
         WHERE time >= {start} AND time < {end} GROUP BY file"
    );
    let table = database.select(&text).unwrap();
    assert_eq!(table.messages, Vec::<String>::new());
    let found = rows(&table);
    assert_eq!(found.len(), truths.len());
    for ((tags, rows), (name, truth)) in found.iter().zip(truths) {
        assert_eq!(tags, &format!("file={name}"));
        let row: Vec<f64> = rows[0][1..].iter().map(number).collect();
        let mut sorted: Vec<f64> = truth.values.values().copied().collect();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(row[0], sorted.len() as f64, "count of {name}");
        assert!(close(row[1], sorted.iter().sum(), 1e-9), "sum of {name}");
        assert_eq!((row[2], row[3]), (sorted[0], sorted[sorted.len() - 1]), "extremes of {name}");
        for (found, q) in row[4..].iter().zip([0.5, 0.95, 0.99]) {
            let exact = nearest_rank(&sorted, q);
            assert!(close(*found, exact, QUANTILE_ERROR), "p{} of {name}: {found} for {exact}", q * 100.0);
        }
    }
    verify_promql(database, truths);
}

/// Six-hour windows of one file, (t-6h, t], by PromQL.
fn verify_promql(database: &Database, truths: &BTreeMap<String, Truth>) {
    let truth = &truths["machine_temperature_system_failure"];
    let six_hours = 6 * 3600;
    let start = truth.values.keys().next().unwrap().div_euclid(six_hours) * six_hours + six_hours;
    let end = start + 40 * six_hours;
    for (function, fold) in [
        (
            "avg_over_time",
            (|values: &[f64]| values.iter().sum::<f64>() / values.len() as f64) as fn(&[f64]) -> f64,
        ),
        ("max_over_time", |values| values.iter().copied().fold(f64::MIN, f64::max)),
        ("count_over_time", |values| values.len() as f64),
        ("last_over_time", |values| values[values.len() - 1]),
        ("stddev_over_time", |values| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
        }),
    ] {
        let text = format!("{function}(nab{{file=\"machine_temperature_system_failure\"}}[6h])");
        let found = points(database, &text, start, end, six_hours);
        let mut expected = Vec::new();
        for t in (start..=end).step_by(six_hours as usize) {
            let values: Vec<f64> =
                truth.values.range(t - six_hours + 1..=t).map(|(_, value)| *value).collect();
            if !values.is_empty() {
                expected.push((t, fold(&values)));
            }
        }
        assert_eq!(found.len(), expected.len(), "{text}");
        for ((_, t, value), (expected_t, expected)) in found.iter().zip(&expected) {
            assert_eq!(t, expected_t);
            assert!(close(*value, *expected, 1e-9), "{text} at {t}: {value} for {expected}");
        }
    }
}
