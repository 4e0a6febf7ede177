//! Law of imported records: any bytes give points or errors and then an end, twice the same; every point can be
//! asked for as a row; lines of an access log keep apart.

use std::collections::HashSet;

use icecore::Point;
use icecore::ingest::records::{Format, ImportOptions, open};

/// The first byte chooses the format, the rest is the file.
pub fn check(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let format = match choice % 3 {
        0 => Format::Csv,
        1 => Format::Jsonl,
        _ => Format::Clf,
    };
    let read = || -> Vec<Result<Point, String>> {
        let options = ImportOptions {
            tag_columns: if choice & 0x40 == 0 { Vec::new() } else { vec!["host".to_owned()] },
            record_bytes_max: 1 << 12,
            ..ImportOptions::new("m")
        };
        match open(format, body, options) {
            Ok(points) => points.map(|item| item.map_err(|error| error.to_string())).collect(),
            Err(error) => vec![Err(error.to_string())],
        }
    };
    let items = read();
    assert_eq!(format!("{items:?}"), format!("{:?}", read()));
    let points: Vec<Point> = items.into_iter().flatten().collect();
    if matches!(format, Format::Clf) {
        let mut seen = HashSet::new();
        assert!(points.iter().all(|point| seen.insert(point.ts_ns)), "two lines of a log share a time");
    }
    let mut arena = Vec::new();
    let decoded = icecore::point::batch(&points, &mut arena);
    assert_eq!(decoded.batch.rows.len() + decoded.rejected_count, points.len());
}
