//! Log files that are gone or have no header, and manifests that are older than the log: refused by name, and nothing is
//! removed for them.

use super::*;
use crate::check::check;
use crate::fs::Fs;
use crate::fs::sim::Fault;
use crate::manifest::{FILE_NAME, Manifest};
use crate::options::Durability;
use crate::version::segments_dir;
use crate::wal::frame::HEADER_BYTES;

const DIR: &str = "/db";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS))
}

fn try_open(fs: &Arc<SimFs>, durability: Durability) -> Result<Engine> {
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 600, durability, ..Options::default() };
    Engine::open(Env { fs: Arc::clone(fs) as _, clock: clock() }, Path::new(DIR), options, Retention::FOREVER)
}

fn rig(durability: Durability) -> Rig {
    let mut rig = Rig::new(Retention::FOREVER);
    rig.engine = try_open(&rig.fs, durability).unwrap();
    rig
}

fn logs(fs: &SimFs) -> Vec<std::path::PathBuf> {
    let dir = wal_dir(Path::new(DIR));
    fs.list(&dir).unwrap().iter().map(|name| dir.join(name)).collect()
}

fn is_clean(fs: &Arc<SimFs>) -> bool {
    check(&(Arc::clone(fs) as Arc<dyn Fs>), Path::new(DIR)).unwrap().is_clean()
}

/// Removes or cuts each log file that is there; the directory must be refused for it, by an open and by a check.
fn damage_each(fs: &SimFs, place: &str) {
    let paths = logs(fs);
    for path in &paths {
        for left in [None, Some(0), Some(10), Some(HEADER_BYTES - 1)] {
            let fs = Arc::new(fs.fork());
            let bytes = fs.get(path).unwrap();
            fs.remove(path).unwrap();
            left.iter().for_each(|left| fs.put(path, &bytes[..*left]));
            let place = format!("{place}: {} cut to {left:?}", path.display());
            assert!(!is_clean(&fs), "{place}");
            let before = logs(&fs);
            let error = try_open(&fs, Durability::Fsync).err().unwrap_or_else(|| panic!("{place}: opened"));
            assert_eq!(error.kind(), ErrorKind::Corruption, "{place}: {error}");
            let is_named = error.to_string().contains(&path.display().to_string());
            assert!(is_named || (left.is_none() && Some(path) != paths.last()), "{place}: {error}");
            assert_eq!(logs(&fs), before, "{place}");
        }
    }
}

#[test]
fn log_file_that_is_gone_or_has_no_header_is_refused_by_name() {
    let rig = rig(Durability::Fsync);
    two_hours()[..40].iter().for_each(|row| drop(rig.write(&[*row])));
    assert!(4 <= logs(&rig.fs).len());
    damage_each(&rig.fs, "several files");
    rig.engine.flush().unwrap();
    assert_eq!(logs(&rig.fs).len(), 1, "only the header of a new file");
    damage_each(&rig.fs, "after a flush");
    rig.write(&two_hours()[40..50]);
    damage_each(&rig.fs, "behind a flush");
    rig.engine.close().unwrap();
    damage_each(&rig.fs, "after an orderly stop");
    let expected = rig.read();
    let engine = try_open(&rig.fs, Durability::Fsync).unwrap();
    assert_eq!(Rig { engine, ..rig }.read(), expected);
}

#[test]
fn rotation_cut_at_every_operation_opens_and_has_what_was_acknowledged() {
    let rows = two_hours();
    // A row for a file: each write is a rotation.
    let work = |fs: &Arc<SimFs>, acked: &mut usize| {
        let options = Options { free_bytes_min: 0, wal_file_bytes_max: 1, ..Options::default() };
        let env = Env { fs: Arc::clone(fs) as _, clock: clock() };
        let engine = Engine::open(env, Path::new(DIR), options, Retention::FOREVER)?;
        let rig = Rig { fs: Arc::clone(fs), clock: clock(), engine, retention: Retention::FOREVER };
        for row in &rows[..6] {
            rig.try_write(&[*row])?;
            *acked += 1;
        }
        Result::Ok(rig)
    };
    let whole = Arc::new(SimFs::default());
    let rig = work(&whole, &mut 0).unwrap();
    assert_eq!((logs(&whole).len(), rig.engine.store.manifest().newest_log), (6, 6));
    for fault in Fault::ALL {
        for operation in 0..whole.operations() {
            for seed in 0..8 {
                let place = format!("{fault:?} at operation {operation}, seed {seed}");
                let fs = Arc::new(SimFs::default());
                fs.fail_at(operation, fault);
                let mut acked = 0;
                assert!(work(&fs, &mut acked).is_err(), "{place}");
                // The process dies, or the machine.
                if seed == 0 {
                    fs.restart()
                } else {
                    fs.crash(seed)
                }
                assert!(is_clean(&fs), "{place}");
                let engine =
                    try_open(&fs, Durability::Fsync).unwrap_or_else(|error| panic!("{place}: {error}"));
                let named = engine.store.manifest().newest_log;
                assert!(acked as u64 <= named, "{place}: {acked} files have a row, {named} are named");
                let rig = Rig { fs, clock: clock(), engine, retention: Retention::FOREVER };
                let found = rig.read().len();
                assert!(acked <= found && found <= acked + 1, "{place}: {found} of {acked} rows");
                rig.write(&rows[10..11]);
                assert_eq!(rig.read().len(), found + 1, "{place}");
            }
        }
    }
}

#[test]
fn old_manifest_alone_is_refused_after_an_orderly_stop_whatever_the_durability() {
    for durability in [Durability::Fsync, Durability::Interval, Durability::Memory] {
        let mut rig = rig(durability);
        let mut manifests = Vec::new();
        for round in 0..3 {
            rig.write(&two_hours()[10 * round..10 * (round + 1)]);
            rig.engine.close().unwrap();
            manifests.push(rig.fs.get(&Path::new(DIR).join(FILE_NAME)).unwrap());
            rig.engine = try_open(&rig.fs, durability).unwrap();
        }
        let newest = manifests.pop().unwrap();
        let segments = rig.fs.list(&segments_dir(Path::new(DIR))).unwrap();
        assert_eq!(segments.len(), 3);
        for old in manifests {
            rig.fs.put(&Path::new(DIR).join(FILE_NAME), &old);
            let error = try_open(&rig.fs, durability).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{durability:?}: {error}");
            assert_eq!(rig.fs.list(&segments_dir(Path::new(DIR))).unwrap(), segments);
        }
        rig.fs.put(&Path::new(DIR).join(FILE_NAME), &newest);
        rig.engine = try_open(&rig.fs, durability).unwrap();
        assert_eq!(rig.read().len(), 30);
    }
}

#[test]
fn snapshot_names_no_log_file() {
    let rig = rig(Durability::Fsync);
    rig.write(&two_hours()[..10]);
    let to = Path::new("/copy");
    rig.engine.snapshot(to).unwrap();
    assert_ne!(rig.engine.store.manifest().newest_log, 0);
    assert_eq!(Manifest::load(&*rig.fs, to).unwrap().unwrap().newest_log, 0);
}
