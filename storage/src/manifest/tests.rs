//! Manifests through a simulated file system: what was committed is read back, and damage and faults are seen.

use std::time::Duration;

use super::*;
use crate::cell_set::CellSet;
use crate::fs::SimFs;
use crate::fs::sim::Fault;
use crate::model::{MeasurementId, SeriesId};

const DIR: &str = "/db";

fn segment(id: u64, tier: Tier, hour: i64) -> SegmentMeta {
    let partition = TimeRange::new(hour * HOUR_NS, (hour + 1) * HOUR_NS);
    SegmentMeta {
        id,
        tier,
        partition,
        min_ts_ns: partition.start_ns,
        max_ts_ns: partition.end_ns - 1,
        rows: 10,
        bytes: 1000,
        footer_crc: 0xdead_beef,
        generation: 3,
    }
}

fn tombstone(id: u64, series: Option<Arc<[SeriesId]>>, pending: &[u64]) -> Tombstone {
    let range = TimeRange::new(-5, HOUR_NS);
    Tombstone { id, measurement: MeasurementId(6), series, range, pending: pending.to_vec() }
}

fn sample() -> Manifest {
    Manifest {
        next_file: 9,
        wal_floor: 77,
        floors_ns: [-5, 0, i64::MIN, 1],
        segments: vec![segment(4, Tier::Raw, -1), segment(2, Tier::M5, 3), segment(8, Tier::H1, 3)],
        rolled: vec![
            RolledSpan { span: TimeRange::new(-HOUR_NS, HOUR_NS), covers: vec![4, 1] },
            RolledSpan { span: TimeRange::new(HOUR_NS, 2 * HOUR_NS), covers: vec![] },
        ],
        catalog_files: vec![5, 6],
        tombstones: vec![
            tombstone(3, None, &[2, 4]),
            tombstone(7, Some([SeriesId(1), SeriesId(70_000)].into()), &[8]),
        ],
        ..Manifest::new(Retention { raw: Some(Duration::from_millis(1500)), ..Retention::default() })
    }
}

/// With rules of retention and for cells.
fn ruled() -> Manifest {
    let rule = rules::Rule::new("cpu", Vec::new(), Retention::default()).unwrap();
    let rule_sets = rules::changed(&[], vec![rule], [0; 4]).unwrap();
    let cell_rules = ["*", "load"].map(|field| CellRule {
        measurement: "cpu".into(),
        field: field.into(),
        set: CellSet::Gauge,
        with_uniques: true,
    });
    Manifest { rule_sets, cell_rules: cell_rules.into(), ..sample() }
}

/// With a log file, too.
fn logged() -> Manifest {
    Manifest { newest_log: 0x1_0000_0002, ..ruled() }
}

fn load(bytes: &[u8]) -> Result<Option<Manifest>> {
    let fs = SimFs::default();
    fs.put(&Path::new(DIR).join(FILE_NAME), bytes);
    Manifest::load(&fs, Path::new(DIR))
}

#[test]
fn manifest_stored_loads_equal() {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    assert_eq!(Manifest::load(&fs, Path::new(DIR)).unwrap(), None);
    for manifest in [Manifest::new(Retention::FOREVER), sample()] {
        manifest.store(&fs, Path::new(DIR)).unwrap();
        assert_eq!(Manifest::load(&fs, Path::new(DIR)).unwrap(), Some(manifest));
    }
}

/// A manifest with one segment in the bytes of version 1.
fn golden_1() -> (Manifest, String) {
    let manifest = Manifest {
        segments: vec![segment(2, Tier::M1, 0)],
        next_file: 3,
        ..Manifest::new(Retention { raw: Some(Duration::new(86_400, 5)), ..Retention::FOREVER })
    };
    let none = "00000000000000000000000000";
    let golden = [
        "4943454d414e01",
        "03000000000000000100000000000000",
        "01805101000000000005000000",
        none,
        none,
        none,
        &"0000000000000080".repeat(4),
        "0100000000000000",
        "0200000000000000010000000000000000",
        "00a0b830460300000000000000000000ff9fb83046030000",
        "0a00000000000000e803000000000000efbeadde0300000000000000",
        "00000000000000000000000000000000",
        "02527eca",
    ];
    (manifest, golden.concat())
}

#[test]
fn manifest_with_rules_is_of_version_3_and_loads_equal() {
    let rule = rules::Rule::new("cpu", Vec::new(), Retention::default()).unwrap();
    let rule_sets = rules::changed(&[], vec![rule], [0; 4]).unwrap();
    let manifest = Manifest { rule_sets, ..sample() };
    let bytes = manifest.encode();
    assert_eq!((bytes[6], sample().encode()[6]), (3, 2), "an older icecore reads what has no rules");
    assert_eq!(load(&bytes).unwrap(), Some(manifest.clone()));
    let longest = Retention { raw: Some(Duration::from_secs(86_400)), ..Retention::default() };
    assert_eq!(manifest.kept(), longest, "the second and a half of the database's own are shorter");
}

#[test]
fn manifest_with_rules_for_cells_is_of_version_4_and_loads_equal() {
    let rule = |field: &str, set, with_uniques| CellRule {
        measurement: "requests".into(),
        field: field.into(),
        set,
        with_uniques,
    };
    let rules = [rule("latency", CellSet::Dist, false), rule("*", CellSet::Counter, true)];
    let manifest = Manifest { cell_rules: rules.into(), ..sample() };
    let bytes = manifest.encode();
    assert_eq!(bytes[6], 4);
    assert_eq!(load(&bytes).unwrap(), Some(manifest.clone()));
    let many = vec![rule("x", CellSet::Auto, false); cell_set::CELL_RULES_MAX + 1];
    let manifest = Manifest { cell_rules: many.into(), ..sample() };
    assert_eq!(manifest.check().unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(load(&manifest.encode()).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn manifest_with_a_log_file_is_of_version_5_and_loads_equal() {
    for manifest in [logged(), Manifest { newest_log: 1, ..sample() }] {
        let bytes = manifest.encode();
        assert_eq!(bytes[6], 5);
        let number = bytes.get(bytes.len() - 12..bytes.len() - 4).unwrap();
        assert_eq!(number, manifest.newest_log.to_le_bytes());
        assert_eq!(load(&bytes).unwrap(), Some(manifest));
    }
    let mut bytes = Manifest { newest_log: 1, ..sample() }.encode();
    bytes.truncate(bytes.len() - 4);
    let number = bytes.len() - 8;
    *bytes.get_mut(number).unwrap() = 0;
    let crc = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend_from_slice(&crc);
    assert_eq!(load(&bytes).unwrap_err().kind(), ErrorKind::Corruption, "it would be of version 2");
}

#[test]
fn manifest_of_version_1_is_read() {
    let (manifest, golden) = golden_1();
    let bytes: Vec<u8> = (0..golden.len() / 2)
        .map(|at| u8::from_str_radix(&golden[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert_eq!(load(&bytes).unwrap(), Some(manifest));
}

#[test]
fn manifest_of_version_2_keeps_its_bytes() {
    let (manifest, golden) = golden_1();
    let series = Some([SeriesId(1), SeriesId(3)].into());
    let manifest = Manifest { tombstones: vec![tombstone(1, series, &[2])], ..manifest };
    let hex: String = manifest.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let tombstone = [
        "0100000000000000",
        "010000000000000006000000fbffffffffffffff00a0b83046030000",
        "0102000000000000000100000003000000",
        "01000000000000000200000000000000",
    ];
    // Version 1 without its checksum, with the new version and the tombstones behind.
    let body = golden.replacen("4943454d414e01", "4943454d414e02", 1);
    let body = format!("{}{}", body.strip_suffix("02527eca").unwrap(), tombstone.concat());
    assert_eq!(hex.strip_prefix(&*body).map(str::len), Some(8), "{hex}");
}

#[test]
fn manifest_damaged_anywhere_is_corruption() {
    [sample(), ruled(), logged()].iter().for_each(check_damage);
}

fn check_damage(manifest: &Manifest) {
    let whole = manifest.encode();
    for len in 0..whole.len() {
        let error = load(whole.get(..len).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {len}");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        *bytes.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        assert_eq!(load(&bytes).unwrap_err().kind(), ErrorKind::Corruption, "bit {bit}");
    }
}

#[test]
fn manifest_with_hostile_bytes_never_panics() {
    [sample(), ruled(), logged()].iter().for_each(check_hostile);
}

/// Valid checksums, so that the decoder behind them is reached.
fn check_hostile(manifest: &Manifest) {
    let body = manifest.encode();
    let body = body.get(..body.len() - 4).unwrap();
    for index in 7..body.len() {
        for byte in [0x00, 0x7f, 0xff] {
            let mut bytes = body.to_vec();
            *bytes.get_mut(index).unwrap() = byte;
            let crc = crc32fast::hash(&bytes).to_le_bytes();
            bytes.extend_from_slice(&crc);
            if let Ok(Some(manifest)) = load(&bytes) {
                assert_eq!(manifest.encode(), bytes);
            }
        }
    }
}

#[test]
fn manifest_of_another_version_is_a_conflict() {
    let mut bytes = sample().encode();
    bytes.truncate(bytes.len() - 4);
    *bytes.get_mut(6).unwrap() = VERSION + 1;
    let crc = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend_from_slice(&crc);
    assert_eq!(load(&bytes).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn store_contradiction_is_refused() {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR)).unwrap();
    type Break = fn(&mut Manifest);
    let breaks: [(&str, Break); 14] = [
        ("listed twice", |manifest| manifest.segments.push(segment(4, Tier::Raw, 5))),
        ("listed twice", |manifest| manifest.catalog_files.push(5)),
        ("next file", |manifest| manifest.next_file = 8),
        ("next file", |manifest| manifest.catalog_files.push(100)),
        ("outside", |manifest| manifest.segments[0].max_ts_ns = 0),
        ("empty", |manifest| manifest.segments[1].min_ts_ns = i64::MAX),
        ("whole hours", |manifest| manifest.rolled[0].span.start_ns += 1),
        ("before the last", |manifest| manifest.rolled.reverse()),
        ("listed twice", |manifest| manifest.tombstones[0].id = 7),
        ("next file", |manifest| manifest.tombstones[0].id = 9),
        ("not live", |manifest| manifest.tombstones[0].pending = vec![3]),
        ("no segments", |manifest| manifest.tombstones[0].pending.clear()),
        ("empty range", |manifest| manifest.tombstones[0].range.end_ns = -5),
        ("no series", |manifest| manifest.tombstones[1].series = Some([].into())),
    ];
    for (rule, damage) in breaks {
        let mut manifest = sample();
        damage(&mut manifest);
        let error = manifest.store(&fs, Path::new(DIR)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(rule), "{error} instead of {rule}");
        assert_eq!(load(&manifest.encode()).unwrap_err().kind(), ErrorKind::Corruption);
    }
    assert_eq!(fs.get(&Path::new(DIR).join(FILE_NAME)), None);
}

#[test]
fn store_failing_anywhere_leaves_old_or_new() {
    let (old, new) = (Manifest::new(Retention::default()), logged());
    for fault in Fault::ALL {
        for operation in 0.. {
            let fs = SimFs::default();
            fs.create_dir_all(Path::new(DIR)).unwrap();
            old.store(&fs, Path::new(DIR)).unwrap();
            fs.fail_at(fs.operations() + operation, fault);
            let stored = new.store(&fs, Path::new(DIR));
            for seed in 0..16 {
                fs.crash(seed);
                let found = Manifest::load(&fs, Path::new(DIR)).unwrap().unwrap();
                assert!(found == new || (found == old && stored.is_err()), "{fault:?} {operation} {seed}");
            }
            new.store(&fs, Path::new(DIR)).unwrap();
            if stored.is_ok() {
                break;
            }
        }
    }
}
