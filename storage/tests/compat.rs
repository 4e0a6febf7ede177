//! Databases that an earlier build wrote are opened, and hold what they were given. `tests/compat/v1` is a fixture
//! of format version 1 of all files, `v2` of segments in version 2, `v2-dense` one with cells of one minute, `v3` of
//! catalog and log files in version 2, with series that left, `v4` and `v4-dense` of segments in version 3,
//! `v5` and `v5-dense` in version 4, `v6` of a manifest in version 4, with rules for cells, `v7` in version 5, which
//! names the newest log file, `v8` and `v8-dense` of segments in version 5, `v9`, `v9-dense` and `v9-skewed` in version
//! 6; `tests/compat/program.rs` says what is in them.

#![expect(unreachable_pub, reason = "the program is shared with the example that makes the fixture")]
#![expect(clippy::unwrap_used, reason = "a test fails by panic, its helpers too")]

#[path = "../../tests/compat/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_storage::check::check;
use icecore_storage::fs::{Fs, OsFs};
use icecore_storage::manifest::Manifest;
use icecore_storage::model::{
    FieldType, HOUR_NS, MINUTE_NS, Partial, RowBlock, SECOND_NS, SeriesId, StatSet, Stats, Tier, TimeRange,
    Value,
};
use icecore_storage::rebuild::rebuild_catalog;
use icecore_storage::scan::{
    Bounds, Coverage, Flow, Resolution, RowRequest, Scan, Unmetered, Window, WindowRequest,
};
use icecore_storage::{ErrorKind, inspect};
use program::{NOW_NS, OLD_NS, Row, START_NS};

/// Bits by measurement, host, time and field.
type Content = BTreeMap<(String, String, i64, String), String>;

/// A value so that equal texts are equal bits.
fn bits(value: &Value) -> String {
    match value {
        Value::Float(value) => format!("float {:016x}", value.to_bits()),
        other => format!("{other:?}"),
    }
}

fn expected(rows: &[Row]) -> Content {
    let mut content = Content::new();
    for row in rows {
        for (field, value) in &row.fields {
            let place = (row.measurement.to_owned(), row.host.to_owned(), row.ts_ns, (*field).to_owned());
            content.insert(place, bits(value));
        }
    }
    content
}

/// All rows of a view.
fn content(view: &dyn Scan) -> Content {
    let mut content = Content::new();
    for measurement in view.measurements() {
        let schema = view.schema(&measurement).unwrap();
        let series = view.series(schema.measurement, &[], TimeRange::ALL, 100).unwrap();
        let ids: Vec<SeriesId> = series.iter().map(|info| info.id).collect();
        let fields: Vec<_> = schema.fields.iter().map(|field| field.id).collect();
        let (measurement_id, range) = (schema.measurement, TimeRange::ALL);
        let request =
            RowRequest { measurement: measurement_id, fields: &fields, series: &ids, range, bounds: &[] };
        let mut sink = |block: &RowBlock| {
            for row in 0..block.len() {
                let info = series.iter().find(|info| info.id == block.series[row]).unwrap();
                for (column, field) in block.columns.iter().zip(&schema.fields) {
                    let Some(value) = column.value(row) else { continue };
                    let host = info.key.tag("host").unwrap().to_owned();
                    let place = (measurement.to_string(), host, block.ts_ns[row], field.name.to_string());
                    assert!(content.insert(place, bits(&value)).is_none(), "a row is served twice");
                }
            }
            Ok(Flow::Continue)
        };
        view.rows(&request, &Unmetered, &mut sink).unwrap();
    }
    content
}

const WANTS: StatSet = StatSet::NUMBERS.with(StatSet::HIST);

/// What is asked of cells: of texts what a format keeps.
fn wants(field_type: FieldType, of_texts: StatSet) -> StatSet {
    if field_type == FieldType::Str { of_texts } else { WANTS }
}

/// The windows of a field of host `a` of `cpu`.
fn windows(
    view: &dyn Scan,
    (field, of_texts): (&str, StatSet),
    windows: &[Window],
) -> icecore_storage::Result<(Vec<Partial>, Coverage)> {
    let schema = view.schema("cpu").unwrap();
    let info = schema.fields.iter().find(|info| &*info.name == field).unwrap();
    let (field, wants) = (info.id, wants(info.field_type, of_texts));
    let series = view.series(schema.measurement, &[], TimeRange::ALL, 100).unwrap();
    let series = series.iter().find(|info| info.key.tag("host") == Some("a")).unwrap().id;
    let request = WindowRequest {
        measurement: schema.measurement,
        field,
        series: &[series],
        windows,
        bounds: Bounds::RightOpen,
        wants,
        resolution: Resolution::Auto,
    };
    let mut found = Vec::new();
    let mut sink = |slice: icecore_storage::scan::WindowSlice<'_>| {
        found = slice.partials.to_vec();
        Ok(())
    };
    let coverage = view.windows(&request, &Unmetered, &mut sink)?;
    Ok((found, coverage))
}

/// The same windows over the rows of the program.
fn folded(rows: &[Row], (field, of_texts): (&str, StatSet), windows: &[Window]) -> Vec<Partial> {
    let mut last: BTreeMap<i64, Value> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.measurement == "cpu" && row.host == "a") {
        let found = row.fields.iter().find(|(name, _)| *name == field);
        last.extend(found.map(|(_, value)| (row.ts_ns, value.clone())));
    }
    let empty = Partial::empty(match last.values().next().unwrap() {
        Value::Float(_) => FieldType::Float,
        Value::Int(_) => FieldType::Int,
        Value::UInt(_) => FieldType::UInt,
        Value::Bool(_) => FieldType::Bool,
        Value::Str(_) => FieldType::Str,
    });
    let fold = |window: &Window| {
        let mut partial = empty.clone();
        for (ts_ns, value) in last.range(window.start_ns..window.end_ns) {
            match (&mut partial, value) {
                (Partial::Float(stats), Value::Float(value)) => stats.add(*ts_ns, *value, WANTS),
                (Partial::Int(stats), Value::Int(value)) => stats.add(*ts_ns, *value, WANTS),
                (Partial::UInt(stats), Value::UInt(value)) => stats.add(*ts_ns, *value, WANTS),
                (Partial::UInt(stats), Value::Bool(value)) => stats.add(*ts_ns, u64::from(*value), WANTS),
                (Partial::Text(stats), Value::Str(text)) => stats.add(*ts_ns, text, of_texts),
                (_, other) => panic!("{other:?} among values of another type"),
            }
        }
        partial
    };
    windows.iter().map(fold).collect()
}

/// Everything that does not depend on the order of additions; of the rest fifteen digits.
fn gist(partial: &Partial) -> String {
    match partial {
        Partial::Float(stats) => {
            let Stats { count, min, max, first, last, first_ns, last_ns, resets, changes, sum, hist, .. } =
                stats;
            let sum = sum.sum + sum.rest;
            format!(
                "{count} {min} {max} {first} {last} {first_ns} {last_ns} {resets} {changes} {sum:.9e} {hist:?}"
            )
        }
        Partial::Int(stats) => {
            let Stats { count, min, max, first, last, resets, changes, sum, hist, .. } = stats;
            format!("{count} {min} {max} {first} {last} {resets} {changes} {sum:?} {hist:?}")
        }
        Partial::UInt(stats) => {
            let Stats { count, min, max, first, last, resets, changes, sum, hist, .. } = stats;
            format!("{count} {min} {max} {first} {last} {resets} {changes} {sum:?} {hist:?}")
        }
        Partial::Text(stats) => format!("{stats:?}"),
    }
}

fn gists(partials: &[Partial]) -> Vec<String> {
    partials.iter().map(gist).collect()
}

fn steps(start_ns: i64, width_ns: i64, count: i64) -> Vec<Window> {
    let window = |k| Window { start_ns: start_ns + k * width_ns, end_ns: start_ns + (k + 1) * width_ns };
    (0..count).map(window).collect()
}

/// All that must hold of a fixture, old or new.
fn verify(dir: &Path) {
    let disk: Arc<dyn Fs> = Arc::new(OsFs);
    let report = check(&disk, dir).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    let (engine, _) = program::open(dir, NOW_NS).unwrap();
    assert!(engine.stats().replayed_records >= 2, "rows of the log and their definitions");
    let rows = program::readable();
    let view = engine.view();
    assert!(content(&*view) == expected(&rows), "rows differ");
    for field in ["usage", "load", "jobs"] {
        for asked in [steps(START_NS, HOUR_NS, 2), steps(START_NS, 7 * MINUTE_NS, 17)] {
            let field = (field, StatSet::COUNT);
            let (found, coverage) = windows(&*view, field, &asked).unwrap();
            assert_eq!(gists(&found), gists(&folded(&rows, field, &asked)), "{field:?}");
            assert!(coverage.cells.iter().sum::<u64>() > 0, "{coverage:?}");
        }
        for (width_ns, count, tier) in [(HOUR_NS, 1, 2), (5 * MINUTE_NS, 12, 1), (MINUTE_NS, 60, 0)] {
            let asked = steps(OLD_NS, width_ns, count);
            let field = (field, StatSet::COUNT);
            let (found, coverage) = windows(&*view, field, &asked).unwrap();
            assert_eq!(gists(&found), gists(&folded(&program::old(), field, &asked)), "{field:?} of cells");
            assert!(coverage.cells[tier] > 0 && coverage.rows == 0, "{coverage:?}");
        }
    }
    let listed: BTreeSet<String> = listed(&*view).into_keys().collect();
    assert_eq!(listed, ["a", "b", "c", "d"].map(String::from).into(), "and none that left");
    drop(view);
    engine.seal().unwrap();
    assert!(content(&*engine.view()) == expected(&rows), "rows differ after a merge");
    engine.close().unwrap();
    let report = check(&disk, dir).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
}

/// All that must hold of a dense fixture, old or new.
fn verify_dense(dir: &Path, of_texts: StatSet) {
    let disk: Arc<dyn Fs> = Arc::new(OsFs);
    let report = check(&disk, dir).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
    let columns = inspect::directory(&disk, dir).unwrap().columns;
    let in_minutes =
        |column: &str| columns.keys().any(|name| name.tier == Some(Tier::M1) && name.column == column);
    for column in ["usage.hist", "usage.m2", "ticks.resets", "note.count", "note.edge", "errors.sum"] {
        assert!(in_minutes(column), "no column {column}");
    }
    let (engine, _) = program::open(dir, NOW_NS).unwrap();
    assert!(content(&*engine.view()) == expected(&program::dense()), "rows differ");
    let verify_cells = || {
        for (start_ns, rows) in [(OLD_NS, program::dense_old()), (START_NS, program::dense())] {
            for field in ["usage", "load", "jobs", "ticks", "busy", "state", "note", "errors", "sparse"] {
                for (width_ns, count, tier) in [(HOUR_NS, 1, 2), (5 * MINUTE_NS, 12, 1), (MINUTE_NS, 60, 0)] {
                    let asked = steps(start_ns, width_ns, count);
                    let field = (field, of_texts);
                    let (found, coverage) = windows(&*engine.view(), field, &asked).unwrap();
                    assert_eq!(
                        gists(&found),
                        gists(&folded(&rows, field, &asked)),
                        "{field:?} of {width_ns} ns"
                    );
                    assert!(coverage.cells[tier] > 0 && coverage.rows == 0, "{coverage:?}");
                }
            }
        }
    };
    verify_cells();
    engine.seal().unwrap();
    verify_cells();
    engine.close().unwrap();
}

/// Hosts and ids of the series of `cpu`.
fn listed(view: &dyn Scan) -> BTreeMap<String, SeriesId> {
    let schema = view.schema("cpu").unwrap();
    let series = view.series(schema.measurement, &[], TimeRange::ALL, 100).unwrap();
    series.into_iter().map(|info| (info.key.tag("host").unwrap().to_owned(), info.id)).collect()
}

/// The fixtures, and the one in the format that is written now.
const VERSIONS: [&str; 9] = ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", NEWEST];
const NEWEST: &str = "v9";
/// Those with cells of one minute, and what they keep of texts.
const DENSE: [(&str, StatSet); 5] = [
    ("v2-dense", StatSet::COUNT),
    ("v4-dense", StatSet::COUNT),
    ("v5-dense", StatSet::ENDS.with(StatSet::UNIQUES)),
    ("v8-dense", StatSet::ENDS.with(StatSet::UNIQUES)),
    ("v9-dense", StatSet::ENDS.with(StatSet::UNIQUES)),
];

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/compat").join(version)
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// A copy of a fixture that may be written to.
fn copy(version: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let fixture = fixture(version);
    for (path, bytes) in files(&fixture) {
        let to = dir.join(path.strip_prefix(&fixture).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    (home, dir)
}

#[test]
fn fixtures_of_all_versions_hold_what_they_were_given() {
    for version in VERSIONS {
        let (_home, dir) = copy(version);
        verify(&dir);
    }
}

#[test]
fn fixtures_of_all_versions_get_a_lost_catalog_from_segments_and_log() {
    let disk: Arc<dyn Fs> = Arc::new(OsFs);
    let ids = |dir: &Path| listed(&*program::open(dir, NOW_NS).unwrap().0.view());
    for version in VERSIONS {
        let (_home, whole) = copy(version);
        let (_home, dir) = copy(version);
        for number in Manifest::load(&OsFs, &dir).unwrap().unwrap().catalog_files {
            fs::remove_file(dir.join(format!("series/series-{number:016x}.cat"))).unwrap();
        }
        let report = rebuild_catalog(&disk, &dir).unwrap().unwrap();
        assert!(report.moved.is_empty() && report.stand_ins.is_empty(), "{version}: {report:?}");
        let (_home, copied) = copy(version);
        for (path, bytes) in files(&dir) {
            fs::write(copied.join(path.strip_prefix(&dir).unwrap()), bytes).unwrap();
        }
        assert_eq!(ids(&copied), ids(&whole), "{version}");
        verify(&dir);
    }
}

#[test]
fn fixture_with_series_that_left_has_the_one_that_came_back_under_a_new_id() {
    let (_home, dir) = copy(NEWEST);
    let (engine, _) = program::open(&dir, NOW_NS).unwrap();
    let listed = listed(&*engine.view());
    assert!(listed["b"] < listed["c"], "its old id was given before that of b: {listed:?}");
    assert!(!listed.values().any(|id| [SeriesId(1), SeriesId(2)].contains(id)), "{listed:?}");
}

#[test]
fn fixture_made_now_holds_what_it_was_given() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    program::make(&dir).unwrap();
    verify(&dir);
}

#[test]
fn fixture_with_rules_for_cells_keeps_them_and_older_ones_have_none() {
    let manifest = |version| Manifest::load(&OsFs, &fixture(version)).unwrap().unwrap();
    assert!(manifest("v5").cell_rules.is_empty());
    let shown: Vec<String> = manifest("v6").cell_rules.iter().map(ToString::to_string).collect();
    let of_texts = ["*.state=gauge+uniq", "*.note=gauge+uniq", "*.text=gauge+uniq", "*.body=gauge+uniq"];
    assert_eq!(shown, of_texts);
}

#[test]
fn fixture_that_names_its_log_file_is_refused_without_it_and_older_ones_name_none() {
    let manifest = |dir: &Path| Manifest::load(&OsFs, dir).unwrap().unwrap();
    assert!(VERSIONS[..6].iter().all(|version| manifest(&fixture(version)).newest_log == 0));
    let (_home, dir) = copy("v7");
    let name = "wal-0000000000000005.log";
    assert_eq!(manifest(&dir).newest_log, 5);
    fs::remove_file(dir.join("wal").join(name)).unwrap();
    let error = program::open(&dir, NOW_NS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains(name), "{error}");
    // A start names the log file of an older one with its first write.
    let (_home, dir) = copy("v6");
    drop(program::open(&dir, NOW_NS).unwrap());
    assert_eq!(manifest(&dir).newest_log, 0);
    let (engine, _) = program::open(&dir, NOW_NS).unwrap();
    engine.flush().unwrap();
    assert_ne!(manifest(&dir).newest_log, 0);
}

#[test]
fn dense_fixture_of_then_and_of_now_holds_what_it_was_given() {
    for (version, of_texts) in DENSE {
        let (_home, dir) = copy(version);
        verify_dense(&dir, of_texts);
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    program::make_dense(&dir).unwrap();
    verify_dense(&dir, StatSet::ENDS.with(StatSet::UNIQUES));
}

/// All that must hold of a skewed fixture, old or new.
fn verify_skewed(dir: &Path) {
    let disk: Arc<dyn Fs> = Arc::new(OsFs);
    let rows = program::skewed();
    let columns = inspect::directory(&disk, dir).unwrap().columns;
    for column in ["level", "total", "code", "micros", "bytes"] {
        let found = columns.iter().find(|(name, _)| name.column == column);
        assert!(found.is_some_and(|(_, sum)| sum.encodings.contains_key("huffman")), "{column}: {found:?}");
    }
    let (engine, _) = program::open(dir, NOW_NS).unwrap();
    assert!(content(&*engine.view()) == expected(&rows), "rows differ");
    engine.seal().unwrap();
    assert!(content(&*engine.view()) == expected(&rows), "rows differ after a merge");
    engine.close().unwrap();
    let report = check(&disk, dir).unwrap();
    assert!(report.findings.is_empty(), "{report:?}");
}

#[test]
fn skewed_fixture_of_then_and_of_now_holds_what_it_was_given() {
    let (_home, dir) = copy("v9-skewed");
    verify_skewed(&dir);
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    program::make_skewed(&dir).unwrap();
    verify_skewed(&dir);
}

#[test]
fn texts_of_cells_that_only_count_them_are_refused_where_rows_are_gone() {
    let (_home, dir) = copy("v4-dense");
    let (engine, _) = program::open(&dir, NOW_NS).unwrap();
    for (start_ns, is_refused) in [(OLD_NS, true), (START_NS, false)] {
        let asked = steps(start_ns, HOUR_NS, 1);
        let found = windows(&*engine.view(), ("note", StatSet::UNIQUES), &asked);
        assert_eq!(found.is_err(), is_refused);
        let error = found.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error.contains("field \"note\" of cpu"), is_refused, "{error}");
    }
}

#[test]
fn fixtures_are_small_and_have_every_tier_and_encoding() {
    let disk: Arc<dyn Fs> = Arc::new(OsFs);
    let mut found = BTreeSet::new();
    let size_of = |version| files(&fixture(version)).values().map(Vec::len).sum::<usize>();
    assert!(DENSE.into_iter().all(|(version, _)| size_of(version) < 100 << 10));
    for version in VERSIONS {
        assert!(size_of(version) < 200 << 10);
        let layout = inspect::directory(&disk, &fixture(version)).unwrap();
        let tiers = layout.segments.iter().filter_map(|segment| Some(segment.place?.0));
        assert_eq!(tiers.collect::<BTreeSet<Tier>>().len(), 4);
        let encodings = layout.columns.into_values().flat_map(|sum| sum.encodings.into_keys());
        found.extend(encodings);
    }
    let all = [
        "affine",
        "bits",
        "bool numbers",
        "codes",
        "const",
        "decimal",
        "dictionary",
        "float",
        "float bits",
        "histograms",
        "pfor",
        "plain",
        "runs",
        "scaled",
        "texts",
        "uniques",
    ];
    assert_eq!(found, all.map(String::from).into());
}

/// A file of the fixture, where its version stands, and how its checksum is made right again.
struct Kind {
    /// Part of the path.
    name: &'static str,
    version_offset: usize,
    seal: fn(&mut [u8]),
}

/// The checksum at the end is over everything before it.
fn seal_whole(bytes: &mut [u8]) {
    let (body, sum) = bytes.split_last_chunk_mut::<4>().unwrap();
    *sum = crc32fast::hash(body).to_le_bytes();
}

/// The checksum of a log file's header is over the 32 bytes before it.
fn seal_log(bytes: &mut [u8]) {
    let sum = crc32fast::hash(&bytes[..32]).to_le_bytes();
    bytes[32..36].copy_from_slice(&sum);
}

/// The checksum in a segment's trailer is over header and footer.
fn seal_segment(bytes: &mut [u8]) {
    let trailer = bytes.len() - 16;
    let footer_len = u32::from_le_bytes(bytes[trailer..trailer + 4].try_into().unwrap()) as usize;
    let sealed = [&bytes[..8], &bytes[trailer - footer_len..trailer]].concat();
    bytes[trailer + 4..trailer + 8].copy_from_slice(&crc32fast::hash(&sealed).to_le_bytes());
}

const KINDS: [Kind; 4] = [
    Kind { name: "MANIFEST", version_offset: 6, seal: seal_whole },
    Kind { name: ".cat", version_offset: 6, seal: seal_whole },
    Kind { name: ".log", version_offset: 6, seal: seal_log },
    Kind { name: ".ice", version_offset: 6, seal: seal_segment },
];

#[test]
fn file_of_a_newer_version_is_refused_by_name_and_untouched() {
    for Kind { name, version_offset, seal } in KINDS {
        let (_home, dir) = copy(NEWEST);
        let found = files(&dir).into_iter().find(|(path, _)| path.to_string_lossy().ends_with(name));
        let (path, mut bytes) = found.unwrap();
        bytes[version_offset] = 99;
        seal(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let before = files(&dir);
        let disk: Arc<dyn Fs> = Arc::new(OsFs);
        let opened = program::open(&dir, NOW_NS).map(|_| ()).unwrap_err();
        let checked = check(&disk, &dir).unwrap_err();
        for error in [opened, checked] {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            assert!(error.to_string().contains("99") && error.to_string().contains(name), "{error}");
        }
        assert!(files(&dir) == before, "{name}: a file was changed");
    }
}

#[test]
fn program_has_times_within_their_hours() {
    let last_ns = program::logged().iter().map(|row| row.ts_ns).max().unwrap();
    assert!(last_ns < NOW_NS - SECOND_NS, "rows of the future are refused");
}
