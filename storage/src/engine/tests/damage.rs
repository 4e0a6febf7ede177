//! Damaged segments taken out by an operator: what is still answered, and what is said to be lost.

use super::*;
use crate::check::check;
use crate::fs::Fs;
use crate::manifest::{Manifest, SegmentMeta};
use crate::model::MINUTE_NS;
use crate::quarantine::{QuarantineReport, quarantine};
use crate::version::segment_path;

/// A rig with two hours of rows and their cells, and its engine closed.
fn closed(retention: Retention) -> Rig {
    let rig = Rig::new(retention);
    rig.write(&two_hours());
    rig.engine.seal().unwrap();
    rig.engine.close().unwrap();
    rig
}

fn shared(rig: &Rig) -> Arc<dyn Fs> {
    Arc::clone(&rig.fs) as Arc<dyn Fs>
}

fn of_tier(rig: &Rig, tier: Tier) -> Vec<SegmentMeta> {
    let manifest = Manifest::load(&*rig.fs, Path::new("/db")).unwrap().unwrap();
    manifest.segments.into_iter().filter(|meta| meta.tier == tier).collect()
}

fn damage(rig: &Rig, meta: &SegmentMeta) {
    let path = segment_path(Path::new("/db"), meta.id);
    let mut bytes = rig.fs.get(&path).unwrap();
    bytes[9] ^= 1;
    rig.fs.put(&path, &bytes);
}

/// What does not depend on the order of additions: count, sum, smallest and largest value of each window.
fn gist(rig: &Rig, windows: &[Window]) -> Vec<(u64, f64, f64, f64)> {
    let stats = |partial: &Partial| match partial {
        Partial::Float(stats) => (stats.count, stats.sum.sum + stats.sum.rest, stats.min, stats.max),
        other => panic!("{other:?}"),
    };
    rig.windows(windows, Bounds::LeftOpen).0.iter().map(stats).collect()
}

fn repair(rig: &mut Rig) -> QuarantineReport {
    let report = quarantine(&shared(rig), Path::new("/db")).unwrap();
    let after = check(&shared(rig), Path::new("/db")).unwrap();
    assert!(after.is_clean(), "{after:?}");
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    report
}

#[test]
fn quarantine_whole_database_changes_nothing() {
    let mut rig = closed(Retention::FOREVER);
    let before = rig.read();
    let report = repair(&mut rig);
    assert!(report.losses.is_empty() && report.moved.is_empty() && report.recomputed.is_empty());
    assert_eq!(rig.read(), before);
}

#[test]
fn quarantine_raw_segment_leaves_the_cells_answering_for_ever() {
    let mut rig = closed(Retention { raw: hours(30), ..Retention::FOREVER });
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    let (expected, _) = rig.windows(&windows_of(START_NS, HOUR_NS, 2), Bounds::RightOpen);
    let raw = of_tier(&rig, Tier::Raw);
    raw.iter().for_each(|meta| damage(&rig, meta));
    let report = repair(&mut rig);
    assert_eq!(report.losses.len(), raw.len());
    assert_eq!(report.losses.iter().map(|loss| loss.rows).sum::<u64>(), 720);
    for loss in &report.losses {
        assert_eq!(loss.answered_by, Tier::CELLS);
        assert_eq!(loss.measurements.iter().map(|name| &**name).collect::<Vec<_>>(), ["cpu"]);
        assert!(rig.fs.get(loss.file.as_ref().unwrap()).is_some(), "the file is kept");
    }
    assert_eq!(rig.read(), Model::new());
    let asked = windows_of(START_NS, HOUR_NS, 2);
    assert_eq!(rig.windows(&asked, Bounds::RightOpen).0, expected);
    // A late row must not lead to cells without the lost rows, nor keep retention from going on.
    rig.write(&[("a", START_NS + 90 * MINUTE_NS + 1, 1.0)]);
    rig.engine.seal().unwrap();
    rig.engine.maintain().unwrap();
    assert_eq!(rig.windows(&asked, Bounds::RightOpen).0, expected);
    rig.clock.advance(100 * HOUR_NS);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(rig.engine.stats().segments[0], 0);
    assert_eq!(rig.windows(&asked, Bounds::RightOpen).0, expected);
}

#[test]
fn quarantine_cells_with_raw_rows_are_computed_anew() {
    for tier in Tier::CELLS {
        let mut rig = closed(Retention::FOREVER);
        rig.engine = open(&rig.fs, &rig.clock, rig.retention);
        let asked = windows_of(START_NS, 5 * MINUTE_NS, 24);
        let before = (rig.read(), gist(&rig, &asked));
        damage(&rig, &of_tier(&rig, tier)[0]);
        let report = repair(&mut rig);
        assert!(report.losses.is_empty(), "{report:?}");
        assert_eq!((report.recomputed.len(), report.moved.len()), (1, 3));
        assert!((rig.read(), gist(&rig, &asked)) == before, "from raw rows");
        rig.engine.seal().unwrap();
        assert_eq!(gist(&rig, &asked), before.1, "from new cells");
        assert_eq!(
            of_tier(&rig, tier).iter().map(|meta| meta.rows).sum::<u64>(),
            match tier {
                // A row every ten seconds: the rows themselves.
                Tier::M1 | Tier::M5 => 720,
                Tier::H1 | Tier::Raw => 2,
            }
        );
    }
}

#[test]
fn quarantine_cells_without_raw_rows_leaves_the_other_layers() {
    let mut rig = closed(Retention { raw: hours(2), ..Retention::FOREVER });
    rig.clock.advance(10 * HOUR_NS);
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    let asked = windows_of(START_NS, HOUR_NS, 2);
    let expected = gist(&rig, &asked);
    assert_eq!(expected.iter().map(|(count, ..)| count).sum::<u64>(), 719, "without the one on the edge");
    rig.engine.close().unwrap();
    let finest = of_tier(&rig, Tier::M1);
    finest.iter().for_each(|meta| damage(&rig, meta));
    let report = repair(&mut rig);
    assert!(report.losses.iter().all(|loss| loss.answered_by == [Tier::M5, Tier::H1]), "{report:?}");
    assert_eq!(gist(&rig, &asked), expected);
    // What only the lost layer could answer is widened to what is there, and never silently empty.
    let (found, coverage) = rig.windows(&windows_of(START_NS, MINUTE_NS, 1), Bounds::RightOpen);
    assert_eq!((found[0].count(), coverage.rounded), (30, Some(Tier::M5)));
    let coarsest = of_tier(&rig, Tier::H1);
    rig.engine.close().unwrap();
    coarsest.iter().for_each(|meta| damage(&rig, meta));
    let report = repair(&mut rig);
    assert!(report.losses.iter().all(|loss| loss.answered_by == [Tier::M5]), "{report:?}");
    assert_eq!(gist(&rig, &asked), expected);
}

#[test]
fn quarantine_interrupted_anywhere_finishes_when_repeated() {
    for operation in 0.. {
        let rig = closed(Retention::FOREVER);
        let raw = of_tier(&rig, Tier::Raw).remove(0);
        damage(&rig, &raw);
        rig.fs.fail_at(rig.fs.operations() + operation, crate::fs::sim::Fault::PowerCut);
        let first = quarantine(&shared(&rig), Path::new("/db"));
        rig.fs.crash(operation);
        let again = quarantine(&shared(&rig), Path::new("/db")).unwrap();
        let aside = Path::new("/db/quarantine").join(crate::version::segment_name(raw.id));
        assert!(rig.fs.get(&aside).is_some(), "operation {operation}: the file is gone");
        let report = first.as_ref().unwrap_or(&again);
        assert!(report.losses.iter().any(|loss| loss.rows == raw.rows) || first.is_err(), "{report:?}");
        drop(open(&rig.fs, &rig.clock, rig.retention));
        assert!(rig.fs.get(&aside).is_some(), "opening removes nothing that was set aside");
        assert!(check(&shared(&rig), Path::new("/db")).unwrap().is_clean());
        if first.is_ok() {
            break;
        }
    }
}

#[test]
fn damaged_page_fails_its_reader_and_leaves_other_partitions_to_the_jobs() {
    let mut rig = Rig::new(Retention { raw: hours(30), ..Retention::FOREVER });
    rig.write(&two_hours()[..10]);
    rig.engine.flush().unwrap();
    rig.write(&two_hours()[10..20]);
    rig.engine.flush().unwrap();
    damage(&rig, &of_tier(&rig, Tier::Raw)[0]);
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    let error = rig.engine.seal().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("/db/segments/seg-"), "{error}");
    let other_ns = START_NS + HOUR_NS;
    rig.write(&[("a", other_ns, 1.0)]);
    rig.engine.flush().unwrap();
    rig.write(&[("a", other_ns + SECOND_NS, 1.0)]);
    rig.engine.flush().unwrap();
    let before = of_tier(&rig, Tier::Raw).len();
    let met = rig.engine.stats().corrupt_reads;
    assert!(rig.engine.seal().is_err(), "it is not sealed as a whole");
    assert_eq!(rig.engine.stats().corrupt_reads, met, "what is known to be damaged is not read again");
    rig.clock.advance(DAY_NS);
    rig.engine.maintain().unwrap();
    assert!(of_tier(&rig, Tier::Raw).len() < before, "the partition that is whole was merged");
    assert_eq!(of_tier(&rig, Tier::H1).len(), 1, "and rolled");
}

#[test]
fn damaged_page_does_not_keep_retention_from_dropping_its_partition() {
    let mut rig = closed(Retention { raw: hours(30), ..Retention::FOREVER });
    of_tier(&rig, Tier::Raw).iter().for_each(|meta| damage(&rig, meta));
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    rig.clock.advance(100 * HOUR_NS);
    rig.engine.apply_retention(Guard::Forced).unwrap();
    assert_eq!(rig.engine.stats().segments[0], 0);
    assert_eq!(rig.engine.stats().corrupt_reads, 0, "dropping needs no look inside");
}

#[test]
fn open_with_an_old_manifest_removes_nothing() {
    // An operator puts the manifest of a backup back, and nothing else: newer segments look like orphans.
    let mut rig = Rig::new(Retention::FOREVER);
    rig.write(&two_hours()[..10]);
    rig.engine.flush().unwrap();
    let manifest = Path::new("/db/MANIFEST");
    let old = rig.fs.get(manifest).unwrap();
    rig.write(&two_hours()[10..20]);
    rig.engine.close().unwrap();
    // The next start begins a new file of the log, and the next flush lets the old one go.
    rig.engine = open(&rig.fs, &rig.clock, rig.retention);
    rig.write(&two_hours()[20..30]);
    rig.engine.close().unwrap();
    rig.fs.put(manifest, &old);
    let segments = rig.fs.list(Path::new("/db/segments")).unwrap();
    let options = Options { free_bytes_min: 0, ..Options::default() };
    let env = Env { fs: shared(&rig), clock: Arc::clone(&rig.clock) as _ };
    let error = Engine::open(env, Path::new("/db"), options, Retention::FOREVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(rig.fs.list(Path::new("/db/segments")).unwrap(), segments);
}

#[test]
fn quarantine_rows_and_all_their_cells_leaves_the_time_free() {
    let mut rig = closed(Retention { raw: hours(30), ..Retention::FOREVER });
    let manifest = Manifest::load(&*rig.fs, Path::new("/db")).unwrap().unwrap();
    manifest.segments.iter().for_each(|meta| damage(&rig, meta));
    let report = repair(&mut rig);
    assert_eq!(report.losses.len(), manifest.segments.len());
    assert!(report.losses.iter().all(|loss| loss.answered_by.is_empty()));
    assert!(rig.engine.view().schema("cpu").is_none(), "no row is left");
    // Sent again, the rows are there again, in rows and in cells.
    rig.write(&two_hours());
    rig.engine.seal().unwrap();
    let asked = windows_of(START_NS, HOUR_NS, 2);
    assert_eq!(rig.windows(&asked, Bounds::RightOpen).0.iter().map(Partial::count).sum::<u64>(), 720);
    assert_eq!(of_tier(&rig, Tier::H1).iter().map(|meta| meta.rows).sum::<u64>(), 2);
}

#[test]
fn quarantine_keeps_deleted_rows_hidden_in_the_cells_that_remain() {
    let mut rig = Rig::new(Retention::FOREVER);
    rig.write(&two_hours());
    rig.engine.seal().unwrap();
    let measurement = rig.engine.view().schema("cpu").unwrap().measurement;
    let deleted = TimeRange::new(START_NS, START_NS + 20 * MINUTE_NS);
    rig.engine.delete(&[SeriesSet { measurement, series: None }], deleted).unwrap();
    let asked = windows_of(START_NS, 20 * MINUTE_NS, 6);
    let (expected, _) = rig.windows(&asked, Bounds::RightOpen);
    assert_eq!(expected.iter().map(Partial::count).collect::<Vec<_>>(), [0, 120, 120, 120, 120, 120]);
    rig.engine.close().unwrap();
    of_tier(&rig, Tier::Raw).iter().for_each(|meta| damage(&rig, meta));
    repair(&mut rig);
    assert_eq!(rig.read(), Model::new(), "raw rows are lost");
    let check = |rig: &Rig| {
        let (found, _) = rig.windows(&asked, Bounds::RightOpen);
        expected
            .iter()
            .zip(&found)
            .filter(|(left, _)| left.count() > 0)
            .for_each(|(left, right)| same(left, right));
        assert_eq!(found[0].count(), 0);
    };
    check(&rig);
    rig.engine.maintain().unwrap();
    assert_eq!(rig.engine.stats().tombstones, 0, "purged from the cells");
    check(&rig);
}
