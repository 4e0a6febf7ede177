//! Damage of every kind in a small database on a simulated disk: each is found and named, nothing panics, and nothing
//! is changed.

use std::path::PathBuf;

use super::*;
use crate::clock::ManualClock;
use crate::engine::{Engine, Env};
use crate::fs::SimFs;
use crate::manifest::{FILE_NAME, RolledSpan};
use crate::model::batch::{CANONICAL, Field, WriteBatch};
use crate::model::{HOUR_NS, MINUTE_NS, SECOND_NS, SeriesKey, Tier, TimeRange, ValueRef};
use crate::options::{Options, Retention};
use crate::version::{segments_dir, series_dir, wal_dir};

const DIR: &str = "/db";
const START_NS: i64 = 1_704_067_200 * SECOND_NS;

fn write(engine: &Engine, measurement: &str, start_ns: i64) {
    let mut key = Vec::new();
    SeriesKey::new(measurement, [("host", "a")]).unwrap().encode(&mut key);
    let mut batch = WriteBatch::new(&CANONICAL);
    for (line, state) in (0..4).zip(["up", "up", "down", "up"]) {
        batch.fields.push(Field { name: b"load", value: ValueRef::Float(0.5 * f64::from(line)) });
        batch.fields.push(Field { name: b"jobs", value: ValueRef::UInt(7) });
        batch.fields.push(Field { name: b"state", value: ValueRef::Str(state) });
        batch.push_row(&key, start_ns + i64::from(line) * 20 * SECOND_NS, line + 1);
    }
    assert_eq!(engine.write(&batch).unwrap().accepted, 4);
}

/// A database with rows and cells of an hour, and later rows in the log alone.
fn database() -> Arc<dyn Fs> {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::default());
    let clock = Arc::new(ManualClock::new(START_NS + HOUR_NS));
    let options = Options { free_bytes_min: 0, ..Options::default() };
    let env = Env { fs: Arc::clone(&fs), clock };
    let engine = Engine::open(env, Path::new(DIR), options, Retention::FOREVER).unwrap();
    write(&engine, "cpu", START_NS);
    engine.seal().unwrap();
    write(&engine, "disk", START_NS + 30 * MINUTE_NS);
    write(&engine, "cpu", START_NS + 40 * MINUTE_NS);
    fs
}

fn found(fs: &Arc<dyn Fs>) -> CheckReport {
    check(fs, Path::new(DIR)).unwrap()
}

fn bytes_of(fs: &Arc<dyn Fs>, path: &Path) -> Vec<u8> {
    crate::fs::read_all(&**fs, path, 1 << 20).unwrap()
}

fn overwrite(fs: &Arc<dyn Fs>, path: &Path, bytes: &[u8]) {
    fs.remove(path).unwrap();
    fs.create(path).unwrap().append(bytes).unwrap();
}

fn files(fs: &Arc<dyn Fs>, dir: PathBuf) -> Vec<PathBuf> {
    fs.list(&dir).unwrap().into_iter().map(|name| dir.join(name)).collect()
}

/// Everything in the database, to see that nothing was changed.
fn everything(fs: &Arc<dyn Fs>) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(DIR);
    let mut paths = vec![dir.join(FILE_NAME)];
    for part in [segments_dir(dir), series_dir(dir), wal_dir(dir)] {
        paths.extend(files(fs, part));
    }
    paths.into_iter().map(|path| (path.clone(), bytes_of(fs, &path))).collect()
}

/// Flips a bit of every byte of a file and cuts it in many places; `is_found` tells whether a report names that.
fn damage_everywhere(path: &Path, is_found: impl Fn(&CheckReport) -> bool) {
    let fs = database();
    let whole = bytes_of(&fs, path);
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 1 << (index % 8);
        overwrite(&fs, path, &damaged);
        let report = found(&fs);
        assert!(is_found(&report), "byte {index} of {}: {report:?}", path.display());
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.path.starts_with(path) || finding.path == wal_dir(Path::new(DIR)))
        );
        if index % 8 == 0 {
            overwrite(&fs, path, &whole[..index]);
            assert!(is_found(&found(&fs)), "{} cut at {index}", path.display());
        }
    }
}

fn is_damage(report: &CheckReport) -> bool {
    !report.is_clean()
}

#[test]
fn check_whole_database_is_clean_and_untouched() {
    let fs = database();
    let before = everything(&fs);
    let report = found(&fs);
    assert!(report.findings.is_empty(), "{report:?}");
    assert_eq!(report.files, before.len() as u64);
    assert_eq!(report.bytes, before.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert!(before.len() >= 7, "four segments, a catalog file, a log file and a manifest");
    assert_eq!(everything(&fs), before);
}

#[test]
fn check_damage_anywhere_in_a_segment_is_found() {
    let fs = database();
    for path in files(&fs, segments_dir(Path::new(DIR))) {
        damage_everywhere(&path, |report| is_damage(report) && report.damaged_segments.len() == 1);
    }
}

#[test]
fn check_damage_anywhere_in_manifest_and_catalog_is_found() {
    damage_everywhere(&Path::new(DIR).join(FILE_NAME), is_damage);
    let fs = database();
    for path in files(&fs, series_dir(Path::new(DIR))) {
        damage_everywhere(&path, is_damage);
    }
}

#[test]
fn check_damage_anywhere_in_the_log_is_found_or_a_torn_tail() {
    let fs = database();
    let logs = files(&fs, wal_dir(Path::new(DIR)));
    let is_torn = |report: &CheckReport| report.findings.iter().any(|one| one.what.contains("torn tail"));
    let path = logs.last().unwrap();
    let whole = bytes_of(&fs, path);
    let mut damaged_bytes = 0;
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 1 << (index % 8);
        overwrite(&fs, path, &damaged);
        let report = found(&fs);
        assert!(is_damage(&report) || is_torn(&report), "byte {index}: {report:?}");
        damaged_bytes += u64::from(is_damage(&report));
    }
    assert!(damaged_bytes > 36, "damage before a synced record is no torn tail");
}

#[test]
fn check_page_damage_names_measurement_and_time() {
    let fs = database();
    let path = files(&fs, segments_dir(Path::new(DIR))).remove(0);
    let mut bytes = bytes_of(&fs, &path);
    bytes[9] ^= 1;
    overwrite(&fs, &path, &bytes);
    let report = found(&fs);
    let finding = &report.findings[0];
    assert_eq!((finding.severity, &finding.path, finding.page), (Severity::Damage, &path, Some(0)));
    assert_eq!(finding.offset, Some(8));
    assert!(
        finding.what.starts_with("at offset 8: checksum "),
        "the path is not told twice: {}",
        finding.what
    );
    let affected = finding.affected.as_ref().unwrap();
    assert_eq!(
        (affected.measurement.as_deref(), affected.tier, affected.rows),
        (Some("cpu"), Some(Tier::Raw), 4)
    );
    assert_eq!(affected.range, TimeRange::new(START_NS, START_NS + MINUTE_NS + 1));
}

#[test]
fn check_missing_files_are_damage() {
    let fs = database();
    let dir = Path::new(DIR);
    for part in [segments_dir(dir), series_dir(dir), wal_dir(dir), dir.to_owned()] {
        for path in files(&fs, part).into_iter().filter(|path| fs.open(path).is_ok()) {
            let bytes = bytes_of(&fs, &path);
            fs.remove(&path).unwrap();
            let report = found(&fs);
            assert!(report.findings.iter().any(|finding| finding.path == path), "{report:?}");
            assert!(is_damage(&report));
            fs.create(&path).unwrap().append(&bytes).unwrap();
        }
    }
    assert!(found(&fs).is_clean());
}

#[test]
fn check_orphans_are_named_and_no_damage() {
    let fs = database();
    let dir = Path::new(DIR);
    let orphans = [
        segments_dir(dir).join("seg-00000000000000ff.ice"),
        segments_dir(dir).join("notes.txt"),
        series_dir(dir).join("series-00000000000000ff.tmp"),
        wal_dir(dir).join("old.log"),
        dir.join("MANIFEST.tmp"),
    ];
    for path in &orphans {
        fs.create(path).unwrap();
    }
    let report = found(&fs);
    assert!(report.is_clean(), "{report:?}");
    let named: Vec<_> = report.findings.iter().map(|finding| (finding.severity, &finding.path)).collect();
    for path in &orphans {
        assert!(named.contains(&(Severity::Orphan, path)), "{} in {named:?}", path.display());
    }
}

#[test]
fn check_segment_of_another_life_is_damage() {
    // Whole in itself, and not the one that the manifest means.
    let fs = database();
    let paths = files(&fs, segments_dir(Path::new(DIR)));
    let other = bytes_of(&fs, &paths[1]);
    overwrite(&fs, &paths[0], &other);
    let report = found(&fs);
    assert!(report.findings.iter().any(|finding| finding.what.contains("the manifest says")), "{report:?}");
}

#[test]
fn check_catalog_that_lacks_what_segments_use_is_damage() {
    let fs = database();
    let dir = Path::new(DIR);
    let mut manifest = crate::manifest::Manifest::load(&*fs, dir).unwrap().unwrap();
    manifest.catalog_files.clear();
    manifest.store(&*fs, dir).unwrap();
    let log = files(&fs, wal_dir(dir)).remove(0);
    assert!(found(&fs).findings[0].path == log, "a definition stands on one that is missing");
    fs.remove(&log).unwrap();
    manifest.newest_log = 0;
    manifest.store(&*fs, dir).unwrap();
    let report = found(&fs);
    let is_named = |what: &str| report.findings.iter().any(|finding| finding.what.contains(what));
    assert!(is_named("measurement cpu with id 0 is not in the catalog"), "{report:?}");
    assert!(report.damaged_segments.is_empty(), "the segments are whole: nothing is to be taken out");
}

#[test]
fn check_spans_name_cells_that_no_span_has_and_lost_raw_rows() {
    let fs = database();
    let dir = Path::new(DIR);
    let mut manifest = crate::manifest::Manifest::load(&*fs, dir).unwrap().unwrap();
    let span = manifest.rolled.remove(0);
    manifest.store(&*fs, dir).unwrap();
    let report = found(&fs);
    assert!(report.is_clean());
    let unread = report.findings.iter().filter(|finding| finding.what.contains("never read")).count();
    assert_eq!(unread, 3);
    manifest.rolled.push(RolledSpan { covers: vec![77], ..span });
    let hole = manifest.segments.iter().position(|meta| meta.tier == Tier::M5).unwrap();
    manifest.segments.remove(hole);
    manifest.store(&*fs, dir).unwrap();
    let report = found(&fs);
    assert!(report.is_clean());
    for what in ["taken out", "missing in one layer", "left by an interrupted job"] {
        assert!(report.findings.iter().any(|finding| finding.what.contains(what)), "{what}: {report:?}");
    }
}
