//! The catalog made anew by an operator: everything is as it was, ids stay what they were, and where something is not known
//! nothing is changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::world::{Content, Random, TestRow, content, delete, env, windows, write};
use super::*;
use crate::check::{CatalogState, check};
use crate::fs::Fs;
use crate::fs::sim::Fault;
use crate::manifest::Manifest;
use crate::model::{Schema, Value};
use crate::quarantine::quarantine;
use crate::rebuild::{RebuildReport, rebuild_catalog};
use crate::series::file as catalog_file;
use crate::version::{segment_path, series_dir};
use crate::wal::frame::file_path;

const DIR: &str = "/db";

fn try_open(fs: &Arc<SimFs>, clock: &Arc<ManualClock>) -> Result<Engine> {
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 600, ..Options::default() };
    Engine::open(env(fs, clock), Path::new(DIR), options, Retention::FOREVER)
}

fn new_engine() -> (Arc<SimFs>, Arc<ManualClock>, Engine) {
    let (fs, clock) = (Arc::new(SimFs::default()), Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS)));
    let engine = try_open(&fs, &clock).unwrap();
    (fs, clock, engine)
}

fn row(measurement: &'static str, host: &'static str, number: i64) -> TestRow {
    let mut fields = vec![("int", Value::Int(number)), ("text", Value::Str(format!("n{number}")))];
    if measurement == "net" {
        fields = vec![("bool", Value::Bool(number % 2 == 0)), ("float", Value::Float(number as f64))];
    }
    TestRow { measurement, host, ts_ns: START_NS + number * SECOND_NS, fields }
}

fn purge(engine: &Engine, measurement: &str, host: Option<&str>) {
    delete(engine, measurement, host, TimeRange::ALL).unwrap();
    engine.maintain().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
}

/// Three catalog files and more, cells, a series that left and came again, a delete that is not purged, and in the log
/// alone rows of old series, of a new one and of a new field.
fn database() -> (Arc<SimFs>, Arc<ManualClock>) {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("cpu", "a", 1), row("cpu", "b", 2), row("net", "a", 3)]).unwrap();
    engine.flush().unwrap();
    write(&engine, &[row("cpu", "c", 4), row("disk", "a", 5), row("net", "b", 5)]).unwrap();
    engine.flush().unwrap();
    let more = TestRow { fields: vec![("idle", Value::UInt(7))], ..row("cpu", "a", 6) };
    write(&engine, &[more, row("cpu", "d", 7)]).unwrap();
    engine.seal().unwrap();
    purge(&engine, "cpu", Some("b"));
    assert_eq!(engine.expire().unwrap(), 1);
    write(&engine, &[row("cpu", "b", 8), row("cpu", "e", 8)]).unwrap();
    engine.flush().unwrap();
    delete(&engine, "cpu", Some("c"), TimeRange::new(START_NS, START_NS + 5 * SECOND_NS)).unwrap();
    let late = TestRow { fields: vec![("late", Value::Bool(true))], ..row("net", "b", 9) };
    write(&engine, &[row("cpu", "a", 9), row("cpu", "f", 9), late]).unwrap();
    drop(engine);
    fs.restart();
    (fs, clock)
}

fn shared(fs: &Arc<SimFs>) -> Arc<dyn Fs> {
    Arc::clone(fs) as Arc<dyn Fs>
}

fn catalog_paths(fs: &SimFs) -> Vec<PathBuf> {
    let manifest = Manifest::load(fs, Path::new(DIR)).unwrap().unwrap();
    let path = |number: &u64| series_dir(Path::new(DIR)).join(catalog_file::file_name(*number));
    manifest.catalog_files.iter().map(path).collect()
}

fn flip(fs: &SimFs, path: &Path) {
    let mut bytes = fs.get(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs.put(path, &bytes);
}

/// Takes all catalog files away, or takes or damages one; tells whether there was one.
pub(super) fn lose_catalog_files(fs: &SimFs, random: &mut Random) -> bool {
    let paths = catalog_paths(fs);
    let Some(path) = paths.get(random.below(paths.len().max(1) as u64) as usize) else { return false };
    match random.below(3) {
        0 => paths.iter().for_each(|path| fs.remove(path).unwrap()),
        1 => fs.remove(path).unwrap(),
        _ => flip(fs, path),
    }
    true
}

pub(super) fn rebuild(fs: &Arc<SimFs>) -> Result<Option<RebuildReport>> {
    rebuild_catalog(&shared(fs), Path::new(DIR))
}

/// What readers see, with the ids of everything.
#[derive(Debug, PartialEq)]
struct Everything {
    schemas: Vec<Schema>,
    series: BTreeMap<u32, String>,
    content: Content,
    cells: Vec<(Vec<Partial>, crate::scan::Coverage)>,
}

fn everything(engine: &Engine) -> Everything {
    let (view, catalog) = (engine.view(), &engine.store.catalog);
    let schemas: Vec<Schema> = view.measurements().iter().map(|name| view.schema(name).unwrap()).collect();
    let listed = |schema: &Schema| catalog.select(schema.measurement, &[], 1000).unwrap();
    let series = schemas.iter().flat_map(listed).map(|info| (info.id.0, info.key.to_string())).collect();
    let hour = [Window { start_ns: START_NS, end_ns: START_NS + HOUR_NS }];
    let of = |measurement, host, field| windows(engine, (measurement, host, field), &hour, Bounds::RightOpen);
    let mut cells = Vec::new();
    for host in ["a", "b", "c", "d", "e", "f"] {
        cells.extend([of("cpu", host, "int"), of("cpu", host, "idle"), of("net", host, "float")]);
    }
    Everything { schemas, series, content: content(&*view), cells }
}

/// All files of the directory, to see that nothing was changed.
fn files(fs: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for part in ["", "segments", "series", "wal", "quarantine"] {
        let dir = Path::new(DIR).join(part);
        let names = fs.list(&dir).unwrap_or_default();
        found.extend(names.iter().filter_map(|name| Some((dir.join(name), fs.get(&dir.join(name))?))));
    }
    found
}

/// What is there, from a copy that is opened.
fn before(fs: &SimFs, clock: &Arc<ManualClock>) -> Everything {
    everything(&try_open(&Arc::new(fs.fork()), clock).unwrap())
}

/// The directory is refused, is made anew, and then is what it was; and it goes on.
fn rebuilds_to(
    fs: &Arc<SimFs>,
    clock: &Arc<ManualClock>,
    expected: &Everything,
    place: &str,
) -> RebuildReport {
    refuses(fs, clock, place);
    assert_eq!(check(&shared(fs), Path::new(DIR)).unwrap().catalog, CatalogState::Damaged, "{place}");
    let report = rebuild(fs).unwrap().expect(place);
    fs.crash_losing_unsynced();
    goes_on(fs, clock, expected, place);
    report
}

fn refuses(fs: &Arc<SimFs>, clock: &Arc<ManualClock>, place: &str) {
    let error = try_open(&Arc::new(fs.fork()), clock).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{place}");
    assert!(error.to_string().contains("`icecore check --rebuild-catalog`"), "{place}: {error}");
}

/// Opens whole and as expected, gives new ids to what is new, and is the same after merges and another start.
fn goes_on(fs: &Arc<SimFs>, clock: &Arc<ManualClock>, expected: &Everything, place: &str) {
    let report = check(&shared(fs), Path::new(DIR)).unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
    let engine = try_open(fs, clock).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_eq!(everything(&engine), *expected, "{place}");
    let fresh = [row("cpu", "z", 20), row("new", "z", 20), row("new", "a", 20)];
    write(&engine, &fresh).unwrap();
    let grown = everything(&engine);
    let old: BTreeSet<u32> = expected.series.keys().copied().collect();
    let new: Vec<u32> = grown.series.keys().copied().filter(|id| !old.contains(id)).collect();
    assert_eq!(new.len(), 3, "{place}");
    assert!(new.iter().all(|id| old.iter().all(|known| known < id)), "{place}: {new:?} beside {old:?}");
    engine.seal().unwrap();
    engine.maintain().unwrap();
    let grown = everything(&engine);
    drop(engine);
    fs.crash(1);
    let report = check(&shared(fs), Path::new(DIR)).unwrap();
    assert!(report.is_clean(), "{place}: {report:?}");
    assert_eq!(everything(&try_open(fs, clock).unwrap()), grown, "{place}");
}

#[test]
fn rebuild_whole_catalog_changes_nothing() {
    let (fs, _) = database();
    let found = files(&fs);
    assert_eq!(rebuild(&fs).unwrap(), None);
    assert_eq!(files(&fs), found);
    assert_eq!(check(&shared(&fs), Path::new(DIR)).unwrap().catalog, CatalogState::Whole);
}

#[test]
fn rebuild_all_files_lost_gives_everything_again() {
    let (fs, clock) = database();
    let expected = before(&fs, &clock);
    assert_eq!((expected.schemas.len(), expected.series.len()), (3, 9));
    catalog_paths(&fs).iter().for_each(|path| fs.remove(path).unwrap());
    let report = rebuilds_to(&fs, &clock, &expected, "all files lost");
    assert!(report.moved.is_empty() && report.stand_ins.is_empty(), "{report:?}");
    assert_eq!((report.measurements, report.series), (3, 9), "{report:?}");
}

#[test]
fn rebuild_each_file_damaged_or_gone_gives_everything_again() {
    let (whole, clock) = database();
    let expected = before(&whole, &clock);
    let paths = catalog_paths(&whole);
    assert!(4 <= paths.len(), "{paths:?}");
    for path in &paths {
        let fs = Arc::new(whole.fork());
        fs.remove(path).unwrap();
        let report = rebuilds_to(&fs, &clock, &expected, "one file gone");
        assert_eq!(report.moved.len(), paths.len() - 1);
        let fs = Arc::new(whole.fork());
        flip(&fs, path);
        let damaged = fs.get(path).unwrap();
        let report = rebuilds_to(&fs, &clock, &expected, "one file damaged");
        let aside = Path::new(DIR).join("quarantine").join(path.file_name().unwrap());
        assert!(report.moved.contains(&aside) && fs.get(path).is_none(), "{report:?}");
        assert_eq!(fs.get(&aside).unwrap(), damaged);
    }
}

#[test]
fn rebuild_without_segments_takes_names_from_the_log() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("cpu", "a", 1), row("net", "b", 1)]).unwrap();
    engine.flush().unwrap();
    let expected = everything(&engine);
    // The manifest forgets the segments, as when all were taken out; the log still has a name or two.
    purge(&engine, "net", None);
    purge(&engine, "cpu", None);
    write(&engine, &[row("disk", "c", 1)]).unwrap();
    drop(engine);
    fs.restart();
    let now = before(&fs, &clock);
    assert_ne!(now, expected);
    catalog_paths(&fs).iter().for_each(|path| fs.remove(path).unwrap());
    let report = rebuilds_to(&fs, &clock, &now, "no segments");
    assert_eq!((report.measurements, report.series), (3, 1));
}

#[test]
fn rebuild_lost_names_that_nothing_has_are_stand_ins_that_nobody_sees() {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("gone", "a", 1), row("net", "a", 1), row("cpu", "a", 1)]).unwrap();
    engine.flush().unwrap();
    purge(&engine, "gone", None);
    engine.close().unwrap();
    drop(engine);
    let expected = before(&fs, &clock);
    assert!(!expected.series.contains_key(&0));
    catalog_paths(&fs).iter().for_each(|path| fs.remove(path).unwrap());
    let report = rebuild(&fs).unwrap().unwrap();
    assert_eq!(report.stand_ins, ["measurement 0 is listed as \"lost measurement 0\""]);
    let fork = Arc::new(fs.fork());
    goes_on(&fs, &clock, &expected, "a dropped measurement");
    let engine = try_open(&fork, &clock).unwrap();
    write(&engine, &[row("gone", "a", 2)]).unwrap();
    let schema = engine.view().schema("gone").unwrap();
    assert_eq!(schema.measurement.0, 3, "the name comes again under an id of its own");
    // Lost once more, the stand-in is the same.
    engine.flush().unwrap();
    let expected = everything(&engine);
    drop(engine);
    catalog_paths(&fork).iter().for_each(|path| fork.remove(path).unwrap());
    rebuilds_to(&fork, &clock, &expected, "lost again");
}

/// Two catalog files; in the log alone is a row of a series that nothing but the first of them names.
fn database_that_needs_its_first_file() -> (Arc<SimFs>, Arc<ManualClock>) {
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("cpu", "a", 1), row("cpu", "b", 1)]).unwrap();
    engine.flush().unwrap();
    // The rows of `a` are gone, the series is not; the next row of it needs no definition.
    purge(&engine, "cpu", Some("a"));
    write(&engine, &[row("cpu", "c", 1)]).unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    let engine = try_open(&fs, &clock).unwrap();
    write(&engine, &[row("cpu", "a", 2)]).unwrap();
    drop(engine);
    fs.restart();
    (fs, clock)
}

#[test]
fn rebuild_rows_of_the_log_whose_series_only_a_lost_file_names_are_refused_by_name() {
    let (fs, clock) = database_that_needs_its_first_file();
    let expected = before(&fs, &clock);
    let paths = catalog_paths(&fs);
    assert_eq!(paths.len(), 2);
    let other = Arc::new(fs.fork());
    flip(&fs, &paths[0]);
    let found = files(&fs);
    let error = rebuild(&fs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("are of series 0 of measurement 0 (cpu)"), "{error}");
    assert_eq!(files(&fs), found, "nothing is changed");
    // A file that is whole has the name.
    flip(&other, &paths[1]);
    rebuilds_to(&other, &clock, &expected, "the other file is damaged");
}

#[test]
fn rebuild_rows_of_the_log_defined_just_before_its_floor_are_known() {
    // A group logs the definitions of a write whose rows come with the next one, and the memtable freezes between them.
    let (fs, clock, engine) = new_engine();
    write(&engine, &[row("cpu", "a", 1)]).unwrap();
    write(&engine, &[row("cpu", "b", 1)]).unwrap();
    drop(engine);
    fs.restart();
    // As if the first three of four records were flushed, and their rows dropped since.
    let fork = Arc::new(fs.fork());
    try_open(&fork, &clock).unwrap().flush().unwrap();
    let flushed = Manifest::load(&*fork, Path::new(DIR)).unwrap().unwrap();
    assert_eq!(flushed.wal_floor, 5);
    let path = catalog_paths(&fork).remove(0);
    fs.put(&path, &fork.get(&path).unwrap());
    let mut manifest = Manifest::load(&*fs, Path::new(DIR)).unwrap().unwrap();
    (manifest.wal_floor, manifest.next_file) = (4, flushed.next_file);
    manifest.catalog_files = flushed.catalog_files;
    manifest.store(&*fs, Path::new(DIR)).unwrap();
    let expected = before(&fs, &clock);
    assert_eq!((expected.content.len(), expected.series.len()), (2, 2));
    fs.remove(&path).unwrap();
    let report = rebuild(&fs).unwrap().unwrap();
    assert_eq!((report.series, report.stand_ins.len()), (1, 0));
    let found = everything(&try_open(&fs, &clock).unwrap());
    assert_eq!(found.content, expected.content);
    assert_eq!(found.series[&1], expected.series[&1]);
}

#[test]
fn rebuild_segments_that_disagree_are_refused() {
    let float = TestRow { fields: vec![("int", Value::Float(0.5))], ..row("cpu", "a", 1) };
    let cases = [
        (vec![row("cpu", "b", 1)], "series 0 is cpu{host=\"b\"} here, and cpu{host=\"a\"} elsewhere"),
        (vec![row("net", "b", 1)], "measurement 0 is net here, and cpu elsewhere"),
        (
            vec![float],
            "field 0 of measurement 0 is int of type float here, and int of type integer elsewhere",
        ),
        (vec![row("cpu", "c", 1), row("cpu", "a", 1)], "series 0 is cpu{host=\"c\"}"),
    ];
    for (rows, what) in cases {
        let (fs, clock, engine) = new_engine();
        write(&engine, &[row("cpu", "a", 1)]).unwrap();
        engine.close().unwrap();
        let (other, _, engine) = new_engine();
        write(&engine, &rows).unwrap();
        engine.close().unwrap();
        let (mut manifest, other_manifest) = (
            Manifest::load(&*fs, Path::new(DIR)).unwrap().unwrap(),
            Manifest::load(&*other, Path::new(DIR)).unwrap().unwrap(),
        );
        let mut meta = other_manifest.segments[0];
        let bytes = other.get(&segment_path(Path::new(DIR), meta.id)).unwrap();
        meta.id = manifest.next_file;
        manifest.next_file += 1;
        manifest.segments.push(meta);
        fs.put(&segment_path(Path::new(DIR), meta.id), &bytes);
        manifest.store(&*fs, Path::new(DIR)).unwrap();
        catalog_paths(&fs).iter().for_each(|path| fs.remove(path).unwrap());
        let found = files(&fs);
        let error = rebuild(&fs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        let name = crate::version::segment_name(meta.id);
        assert!(error.to_string().contains(what) && error.to_string().contains(&name), "{error}");
        assert_eq!(files(&fs), found, "nothing is changed");
        refuses(&fs, &clock, what);
    }
}

#[test]
fn rebuild_with_a_damaged_segment_waits_until_it_is_taken_out() {
    let (fs, clock) = database();
    catalog_paths(&fs).iter().for_each(|path| fs.remove(path).unwrap());
    let manifest = Manifest::load(&*fs, Path::new(DIR)).unwrap().unwrap();
    let damaged = manifest.segments.iter().find(|meta| meta.tier == Tier::H1).unwrap();
    let path = segment_path(Path::new(DIR), damaged.id);
    let mut bytes = fs.get(&path).unwrap();
    let footer = bytes.len() - 30;
    bytes[footer] ^= 1;
    fs.put(&path, &bytes);
    let found = files(&fs);
    let error = rebuild(&fs).unwrap_err();
    assert!(error.to_string().contains("icecore check --quarantine"), "{error}");
    assert_eq!(files(&fs), found, "nothing is changed");
    quarantine(&shared(&fs), Path::new(DIR)).unwrap();
    rebuild(&fs).unwrap().unwrap();
    assert!(check(&shared(&fs), Path::new(DIR)).unwrap().is_clean());
    assert!(!content(&*try_open(&fs, &clock).unwrap().view()).is_empty());
}

#[test]
fn rebuild_with_a_damaged_log_or_another_file_in_the_way_changes_nothing() {
    let (whole, _) = database();
    let paths = catalog_paths(&whole);
    flip(&whole, &paths[1]);
    let fs = Arc::new(whole.fork());
    let manifest = Manifest::load(&*fs, Path::new(DIR)).unwrap().unwrap();
    fs.remove(&file_path(&Path::new(DIR).join("wal"), manifest.newest_log)).unwrap();
    let found = files(&fs);
    assert_eq!(rebuild(&fs).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(files(&fs), found);
    let fs = Arc::new(whole.fork());
    let aside = Path::new(DIR).join("quarantine");
    fs.create_dir_all(&aside).unwrap();
    fs.put(&aside.join(paths[1].file_name().unwrap()), b"of another life");
    let error = rebuild(&fs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("move it elsewhere first"), "{error}");
}

#[test]
fn rebuild_interrupted_anywhere_leaves_what_is_refused_or_whole() {
    for (whole, clock) in [database(), database_that_needs_its_first_file()] {
        interrupt_anywhere(&whole, &clock);
    }
}

fn interrupt_anywhere(whole: &SimFs, clock: &Arc<ManualClock>) {
    let expected = before(whole, clock);
    let paths = catalog_paths(whole);
    flip(whole, &paths[1]);
    let damaged = whole.get(&paths[1]).unwrap();
    let aside = Path::new(DIR).join("quarantine").join(paths[1].file_name().unwrap());
    for fault in Fault::ALL {
        let (mut refused, mut mended) = (0, 0);
        for operation in 0.. {
            let place = format!("{fault:?} at operation {operation}");
            let fs = Arc::new(whole.fork());
            if operation % 2 == 1 {
                fs.refuse_links();
            }
            fs.fail_at(fs.operations() + operation / 2, fault);
            let first = rebuild(&fs);
            match operation % 3 {
                0 => fs.crash_losing_unsynced(),
                1 if fault != Fault::PowerCut => fs.restart(),
                _ => fs.crash(operation),
            }
            let kept = [&paths[1], &aside].into_iter().any(|path| fs.get(path).as_ref() == Some(&damaged));
            assert!(kept, "{place}: the damaged file is gone");
            match check(&shared(&fs), Path::new(DIR)).unwrap().catalog {
                CatalogState::Damaged => {
                    assert!(first.is_err(), "{place}: it was said to be mended");
                    refuses(&fs, clock, &place);
                    assert!(rebuild(&fs).unwrap().is_some(), "{place}");
                    refused += 1;
                }
                // A process that died may have left it undurable, and then it may be as it was.
                CatalogState::Whole if first.is_err() => {
                    goes_on(&fs, clock, &expected, &place);
                    mended += 1;
                    continue;
                }
                CatalogState::Whole => mended += 1,
                CatalogState::Unknown => panic!("{place}: the manifest is gone"),
            }
            fs.crash(operation);
            assert_eq!(fs.get(&aside).as_ref(), Some(&damaged), "{place}");
            goes_on(&fs, clock, &expected, &place);
            if first.is_ok() && operation % 2 == 1 {
                break;
            }
        }
        assert!(10 < refused && 2 < mended, "{fault:?}: {refused} refused, {mended} mended");
    }
}
