//! Group commit by many threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::record::encode_rows;
use super::super::{GroupCommit, Hooks};
use super::*;
use crate::ErrorKind;
use crate::clock::ManualClock;
use crate::fs::sim::Fault;
use crate::model::{RowBlock, SECOND_NS, SeriesId};
use crate::options::Durability;

/// Records what was applied; hands out each definition once.
#[derive(Debug, Default)]
struct Engine {
    applied: Mutex<Vec<(u64, u32)>>,
    pending: Mutex<Vec<Definition>>,
}

impl Hooks<u32> for Engine {
    fn take_definitions(&self) -> Option<Vec<u8>> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap());
        if pending.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        encode_definitions(&pending, &mut out);
        Some(out)
    }

    fn apply(&self, items: Vec<(u64, u32)>) {
        self.applied.lock().unwrap().extend(items);
    }
}

impl Engine {
    fn define(&self, number: u32) {
        let name = Arc::from(format!("m{number}"));
        self.pending.lock().unwrap().push(Definition::Measurement { id: MeasurementId(number), name });
    }
}

/// Rows of measurement `number`.
fn rows(number: u32) -> Vec<u8> {
    let block = RowBlock { series: vec![SeriesId(number)], ts_ns: vec![1], columns: Vec::new() };
    let mut out = Vec::new();
    encode_rows(&[(MeasurementId(number), block)], &mut out);
    out
}

fn commits(fs: &SimFs, durability: Durability) -> (GroupCommit<u32>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(0));
    (GroupCommit::new(open(fs, 2000).unwrap(), durability, clock.clone()), clock)
}

#[test]
fn commit_from_four_threads_is_ordered_applied_and_defined() {
    const EACH: u32 = 200;
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Fsync);
    let engine = Engine::default();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    engine.define(number);
                    let seq = commit.commit(&engine, rows(number), number).unwrap();
                    assert!(
                        engine.applied.lock().unwrap().contains(&(seq, number)),
                        "visible when acknowledged"
                    );
                    assert!(seq < commit.next_seq());
                }
            });
        }
    });
    let applied = engine.applied.into_inner().unwrap();
    assert_eq!(applied.len(), 4 * EACH as usize);
    assert!(applied.is_sorted_by(|left, right| left.0 < right.0));
    fs.crash(3);
    let (records, _) = read(&fs, 0).unwrap();
    let mut defined = std::collections::BTreeSet::new();
    let mut logged = Vec::new();
    for (seq, record) in records {
        match record {
            Record::Definitions(definitions) => {
                defined.extend(definitions.iter().map(|definition| match definition {
                    Definition::Measurement { id, .. } => id.0,
                    _ => u32::MAX,
                }))
            }
            Record::Rows(blocks) => {
                let number = blocks[0].0.0;
                assert!(defined.contains(&number), "{number} is used before it is defined");
                logged.push((seq, number));
            }
        }
    }
    assert_eq!(logged, applied);
}

#[test]
fn commit_failing_group_is_refused_and_poisons() {
    for step in 0..2 {
        let fs = SimFs::default();
        let (commit, _) = commits(&fs, Durability::Fsync);
        let engine = Engine::default();
        commit.commit(&engine, rows(1), 1).unwrap();
        fs.fail_at(fs.operations() + step, Fault::Io);
        let failed = commit.commit(&engine, rows(2), 2).unwrap_err();
        assert!(failed.to_string().contains("simulated"), "{failed}");
        assert!(commit.is_poisoned());
        engine.define(9);
        assert_eq!(commit.commit(&engine, rows(3), 3).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(commit.sync().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(*engine.applied.lock().unwrap(), [(1, 1)]);
        assert_eq!(engine.pending.lock().unwrap().len(), 1, "a poisoned log takes no definitions");
    }
}

#[test]
fn commit_with_faults_under_threads_keeps_what_was_acknowledged() {
    for operation in 5..40 {
        let fs = SimFs::default();
        let (commit, _) = commits(&fs, Durability::Fsync);
        fs.fail_at(operation, Fault::PowerCut);
        let engine = Engine::default();
        let acked = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (commit, engine, acked) = (&commit, &engine, &acked);
                scope.spawn(move || {
                    for number in 0..40 {
                        let number = thread * 40 + number;
                        match commit.commit(engine, rows(number), number) {
                            Ok(seq) => acked.lock().unwrap().push((seq, number)),
                            Err(_) => return,
                        }
                    }
                });
            }
        });
        fs.crash(operation);
        let (records, _) = read(&fs, 0).unwrap();
        for (seq, number) in acked.into_inner().unwrap() {
            let found = records.iter().find(|(other, _)| *other == seq).map(|(_, record)| record);
            let Some(Record::Rows(blocks)) = found else {
                panic!("{seq} is lost after operation {operation}")
            };
            assert_eq!(blocks[0].0, MeasurementId(number));
        }
    }
}

#[test]
fn commit_interval_syncs_once_a_second_or_when_told() {
    let fs = SimFs::default();
    let (commit, clock) = commits(&fs, Durability::Interval);
    let engine = Engine::default();
    let durable_bytes = || fs.durable(&files(&fs)[0]).unwrap().len();
    commit.commit(&engine, rows(1), 1).unwrap();
    let header_only = durable_bytes();
    clock.advance(SECOND_NS - 1);
    commit.commit(&engine, rows(2), 2).unwrap();
    assert_eq!(durable_bytes(), header_only);
    clock.advance(1);
    commit.commit(&engine, rows(3), 3).unwrap();
    assert_eq!(durable_bytes() as u64, commit.bytes());
    commit.commit(&engine, rows(4), 4).unwrap();
    assert!((durable_bytes() as u64) < commit.bytes());
    commit.sync().unwrap();
    assert_eq!(durable_bytes() as u64, commit.bytes());
}

#[test]
fn commit_on_a_full_disk_tells_its_writer_so_and_later_ones_that_the_log_is_poisoned() {
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Fsync);
    let engine = Engine::default();
    commit.commit(&engine, rows(1), 1).unwrap();
    fs.fail_at(fs.operations(), Fault::NoSpace);
    let kind_of = |number| commit.commit(&engine, rows(number), number).unwrap_err().kind();
    assert_eq!([kind_of(2), kind_of(3)], [ErrorKind::DiskFull, ErrorKind::Poisoned]);
}

#[test]
fn commit_memory_counts_and_applies_without_a_log() {
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Memory);
    let engine = Engine::default();
    engine.define(1);
    assert_eq!(commit.commit(&engine, rows(1), 1).unwrap(), 2, "the definitions have a number too");
    assert_eq!(commit.commit(&engine, rows(2), 2).unwrap(), 3);
    assert_eq!((commit.next_seq(), commit.bytes()), (4, 0));
    assert_eq!(*engine.applied.lock().unwrap(), [(2, 1), (3, 2)]);
    assert!(files(&fs).is_empty());
}

#[test]
fn with_quiet_sees_a_whole_prefix() {
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Fsync);
    let engine = Engine::default();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (commit, engine) = (&commit, &engine);
            scope.spawn(move || {
                (0..100).for_each(|_| _ = commit.commit(engine, rows(thread), thread).unwrap())
            });
        }
        for _ in 0..100 {
            commit.with_quiet(|next_seq| {
                assert_eq!(engine.applied.lock().unwrap().len() as u64, next_seq - 1);
            });
        }
    });
    commit.release(commit.next_seq()).unwrap();
    assert_eq!(files(&fs).len(), 1);
}

#[test]
fn commit_too_long_is_refused_alone() {
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Fsync);
    let engine = Engine::default();
    let long = vec![0; super::super::record::PAYLOAD_BYTES_MAX + 1];
    assert_eq!(commit.commit(&engine, long, 1).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(commit.commit(&engine, rows(2), 2).unwrap(), 1);
}

#[test]
fn commit_panicking_apply_answers_everyone_and_poisons() {
    struct Broken;
    impl Hooks<u32> for Broken {
        fn take_definitions(&self) -> Option<Vec<u8>> {
            None
        }

        fn apply(&self, _items: Vec<(u64, u32)>) {
            std::panic::resume_unwind(Box::new("broken"));
        }
    }
    let fs = SimFs::default();
    let (commit, _) = commits(&fs, Durability::Fsync);
    let outcome =
        std::thread::scope(|scope| scope.spawn(|| commit.commit(&Broken, rows(1), 1)).join().is_err());
    assert!(outcome && commit.is_poisoned());
    assert_eq!(commit.commit(&Broken, rows(2), 2).unwrap_err().kind(), ErrorKind::Poisoned);
}
