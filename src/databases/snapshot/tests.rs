//! Snapshots of whole data directories, on a simulated disk and on a real one.

use std::sync::Arc;

use icecore_storage::clock::SystemClock;
use icecore_storage::fs::sim::{Fault, SimFs};

use super::*;
use crate::{Config, NewDatabase, Point};

const HOME: &str = "/data";

fn env(fs: &SimFs) -> Env {
    Env { fs: Arc::new(fs.clone()), clock: Arc::new(SystemClock::default()) }
}

fn open(fs: &SimFs, dir: &str) -> Databases {
    Databases::open_in(env(fs), Path::new(dir), Config::default()).unwrap()
}

/// A directory with rows in two databases.
fn filled(fs: &SimFs) -> Databases {
    let databases = open(fs, HOME);
    let shop = databases
        .create("web shop", NewDatabase { retention: Retention::FOREVER, ..NewDatabase::default() })
        .unwrap();
    for database in [databases.get("default").unwrap(), shop] {
        write_rows(&database, 3);
        database.flush().unwrap();
        write_rows(&database, 5);
    }
    databases
}

fn write_rows(database: &Database, rows: i64) {
    let now_ns = database.now_ns();
    let point = |k: i64| Point::new("m").tag("k", k.to_string()).field("x", k).at_ns(now_ns);
    assert_eq!(database.write(&(0..rows).map(point).collect::<Vec<_>>()).unwrap().accepted, rows as u64);
}

fn count(databases: &Databases, name: &str) -> usize {
    databases
        .get(name)
        .map_or(0, |database| database.select("SELECT last(x) FROM m GROUP BY k").unwrap().series.len())
}

#[test]
fn snapshot_here_restored_elsewhere_has_all_databases() {
    let fs = SimFs::default();
    let databases = filled(&fs);
    let lossy = NewDatabase { durability: Durability::Interval, ..NewDatabase::default() };
    databases.create("cache", lossy).unwrap();
    let (path, done) = databases.snapshot_here(Some("one")).unwrap();
    assert_eq!(path, Path::new("/data/snapshots/one"));
    assert_eq!(
        done.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["default", "web shop", "cache"]
    );
    write_rows(&databases.get("default").unwrap(), 9);
    let report = restore(&env(&fs), &path, Path::new("/copy/data")).unwrap();
    assert_eq!(report.databases, ["default", "web shop", "cache"]);
    assert!(0 < report.linked_files && 0 < report.copied_files, "{report:?}");
    databases.close().unwrap();
    fs.crash(3);
    let restored = open(&fs, "/copy/data");
    assert_eq!((count(&restored, "default"), count(&restored, "web shop")), (5, 5));
    assert_eq!(restored.get("web shop").unwrap().retention(), Retention::FOREVER);
    assert_eq!(restored.get("cache").unwrap().stats().durability, Durability::Interval);
    let databases = open(&fs, HOME);
    assert_eq!(count(&databases, "default"), 9, "the source goes on");
    databases.remove_snapshot("one").unwrap();
    assert_eq!(databases.remove_snapshot("one").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(count(&restored, "default"), 5, "a restored directory needs no snapshot any more");
}

#[test]
fn snapshot_of_one_database_opens_as_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let databases = Databases::open(dir.path().join("data"), Config::default()).unwrap();
    let shop = databases.create("shop", NewDatabase::default()).unwrap();
    write_rows(&shop, 4);
    let to = dir.path().join("shop");
    let [done] = &shop.snapshot(&to).unwrap()[..] else { panic!("one database") };
    assert_eq!(
        (done.report.copied_files, done.report.end_seq),
        (0, 3),
        "one record of definitions, one of rows"
    );
    let copy = Databases::open(&to, Config::default()).unwrap();
    assert_eq!(count(&copy, "shop"), 4);
    drop(copy);
    let alone = Database::open(&to).unwrap();
    assert_eq!(alone.snapshot(&dir.path().join("again")).unwrap().len(), 2, "its directory goes along");
}

#[test]
fn snapshot_cut_off_anywhere_leaves_none_or_all_and_the_next_start_cleans_up() {
    let fs = SimFs::default();
    let databases = filled(&fs);
    let before = fs.operations();
    databases.snapshot_here(Some("one")).unwrap();
    let operations = fs.operations() - before;
    drop(databases);
    for operation in 0..operations {
        let fs = SimFs::default();
        let databases = filled(&fs);
        fs.fail_at(fs.operations() + operation, Fault::PowerCut);
        // Background work counts operations too, so a cut may come later than meant.
        let outcome = databases.snapshot_here(Some("one"));
        let is_done = outcome.is_ok();
        drop(databases);
        fs.crash(operation);
        let databases = open(&fs, HOME);
        assert_eq!((count(&databases, "default"), count(&databases, "web shop")), (5, 5), "{operation}");
        drop(databases);
        let left = fs.list(Path::new("/data/snapshots")).unwrap_or_default();
        assert!(left.is_empty() || left == ["one"], "{operation}: {left:?}");
        assert!(!is_done || left == ["one"], "{operation}");
        if !left.is_empty() {
            let snapshot = open(&fs, "/data/snapshots/one");
            assert_eq!((count(&snapshot, "default"), count(&snapshot, "web shop")), (5, 5), "{operation}");
        }
    }
}

#[test]
fn restore_into_something_or_of_nothing_is_refused() {
    let fs = SimFs::default();
    let databases = filled(&fs);
    let (path, _) = databases.snapshot_here(None).unwrap();
    fs.put(Path::new("/taken/photo.jpg"), b"x");
    let refused = |from: &Path, to: &str| restore(&env(&fs), from, Path::new(to)).unwrap_err().kind();
    assert_eq!(refused(&path, "/taken"), ErrorKind::Conflict);
    assert_eq!(refused(Path::new("/nowhere"), "/new"), ErrorKind::InvalidInput);
    assert_eq!(refused(Path::new(HOME), "/new"), ErrorKind::Conflict, "it is open");
    fs.remove(&path.join("db/2/MANIFEST")).unwrap();
    assert_eq!(refused(&path, "/new"), ErrorKind::Corruption);
    assert!(!fs.has(Path::new("/new")).unwrap() && !fs.has(Path::new("/new.tmp")).unwrap());
    assert_eq!(fs.list(Path::new("/taken")).unwrap(), ["photo.jpg"]);
}

#[test]
fn restore_of_a_damaged_snapshot_is_corruption() {
    let fs = SimFs::default();
    let (path, _) = filled(&fs).snapshot_here(None).unwrap();
    let segments = path.join("db/1/segments");
    let name = fs.list(&segments).unwrap().remove(0);
    let mut bytes = fs.get(&segments.join(&name)).unwrap();
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    fs.put(&segments.join(&name), &bytes);
    let refused = restore(&env(&fs), &path, Path::new("/new")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corruption, "{refused}");
    assert!(!fs.has(Path::new("/new")).unwrap());
}

#[test]
fn snapshot_names_are_plain_file_names() {
    for good in ["one", "20261121T031502.123Z", "a_b-c.d"] {
        assert!(check_snapshot_name(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", ".x", "a/b", "a b", "ä", "x.tmp", "a\\b", &"x".repeat(101)] {
        assert_eq!(check_snapshot_name(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
    assert_eq!(name_of_time(1_704_067_200_123_000_000), "20240101T000000.123Z");
}
