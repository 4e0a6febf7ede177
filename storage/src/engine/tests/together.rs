//! Engines of one process that share bounds of memory: what all take together, who gives back first, and that they share
//! nothing else.

use super::world::{Content, Random, TestRow, add, content, env, write};
use super::*;
use crate::clock::SystemClock;
use crate::fs::Fs;
use crate::fs::sim::Fault;
use crate::memory::MemoryLimits;
use crate::model::Value;
use crate::testing::Scale;

/// Of all memtables.
const BYTES_MAX: usize = 256 << 10;
/// Of those of one database.
const OWN_BYTES_MAX: usize = BYTES_MAX / 4 * 3;
/// What one batch may go beyond a bound, with columns that double.
const SLACK: usize = 64 << 10;

fn limits(memtables_bytes_max: usize) -> MemoryLimits {
    MemoryLimits { memtables_bytes_max, catalogs_bytes_max: usize::MAX, cache_bytes_max: 8 << 20 }
}

/// Databases of one process, and the rows that should be there.
struct Estate {
    fs: Arc<SimFs>,
    clock: Arc<ManualClock>,
    memory: Arc<Memory>,
    options: Options,
    engines: Vec<Engine>,
    models: Vec<Content>,
    written: i64,
}

impl Estate {
    fn new(engines: usize, limits: MemoryLimits) -> Self {
        let options = Options {
            free_bytes_min: 0,
            memory_bytes_max: OWN_BYTES_MAX,
            write_wait_max: Duration::ZERO,
            ..Options::default()
        };
        let mut estate = Self {
            fs: Arc::new(SimFs::default()),
            clock: Arc::new(ManualClock::new(START_NS + 2 * HOUR_NS)),
            memory: Memory::new(limits),
            options,
            engines: Vec::new(),
            models: vec![Content::new(); engines],
            written: 0,
        };
        estate.engines = (0..engines).map(|number| estate.open(number)).collect();
        estate
    }

    fn open(&self, number: usize) -> Engine {
        let (env, dir) = (env(&self.fs, &self.clock), format!("/db{number}"));
        let options = self.options.clone();
        Engine::open_sharing(env, Path::new(&dir), options, Retention::FOREVER, &self.memory).unwrap()
    }

    /// Writes rows that no other database has.
    fn write(&mut self, number: usize, rows: i64) -> Result<()> {
        let rows: Vec<TestRow> = (self.written..self.written + rows).map(row).collect();
        self.written += rows.len() as i64;
        let report = write(&self.engines[number], &rows)?;
        assert_eq!((report.accepted as usize, report.rejected.len()), (rows.len(), 0));
        rows.iter().for_each(|row| add(&mut self.models[number], row));
        Ok(())
    }

    /// What services do; flushes of one may fail.
    fn flush_due(&self, failing: Option<usize>) {
        for (number, engine) in self.engines.iter().enumerate() {
            if Some(number) != failing {
                engine.flush_due().unwrap();
            } else if engine.is_flush_due() {
                self.fail_flush(number);
            }
        }
    }

    fn fail_flush(&self, number: usize) {
        self.fs.fail_at(self.fs.operations(), Fault::NoSpace);
        self.engines[number].flush().unwrap_err();
    }

    fn segments(&self) -> Vec<u64> {
        self.engines.iter().map(|engine| engine.stats().segments[0]).collect()
    }

    fn check(&self) {
        for (engine, model) in self.engines.iter().zip(&self.models) {
            assert_eq!(content(&*engine.view()), *model);
        }
        self.check_account();
    }

    fn check_account(&self) {
        let of_each = self.engines.iter().map(|engine| engine.stats().memtable_bytes as usize);
        assert_eq!(self.memory.memtable_bytes(), of_each.sum::<usize>());
    }
}

fn row(number: i64) -> TestRow {
    let fields = vec![("int", Value::Int(number))];
    TestRow { measurement: "cpu", host: "a", ts_ns: START_NS + number * 1_000_000, fields }
}

#[test]
fn memory_of_many_is_bounded_and_those_that_hold_little_are_left_alone() {
    let mut estate = Estate::new(8, limits(BYTES_MAX));
    for round in 0..150 {
        for number in 0..8 {
            estate.write(number, if number < 2 { 80 } else { 2 }).unwrap();
            let before: Vec<usize> =
                estate.engines.iter().map(|engine| engine.stats().memtable_bytes as usize).collect();
            assert!(before.iter().sum::<usize>() <= BYTES_MAX / 2 + SLACK, "round {round}: {before:?}");
            estate.flush_due(None);
            let flushed = estate
                .engines
                .iter()
                .zip(&before)
                .filter(|(engine, before)| (engine.stats().memtable_bytes as usize) < **before);
            // Each flush lowers the average for the next: what the first holds is what all are held to.
            if let Some((_, bytes)) = flushed.into_iter().max_by_key(|(_, before)| **before) {
                assert!(before.iter().sum::<usize>() <= bytes * before.len(), "round {round}: {before:?}");
            }
        }
    }
    let segments = estate.segments();
    assert!(segments[..2].iter().all(|segments| (2..12).contains(segments)), "{segments:?}");
    assert!(segments[2..].iter().all(|segments| *segments <= 1), "{segments:?}");
    estate.check();
}

#[test]
fn one_whose_flushes_fail_keeps_to_its_cap_and_the_others_write_on() {
    let mut estate = Estate::new(4, limits(BYTES_MAX));
    let refused = loop {
        match estate.write(0, 20) {
            Ok(()) => estate.flush_due(Some(0)),
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("limit memory_bytes_max"), "{refused}");
    let stuck = estate.engines[0].stats().memtable_bytes as usize;
    assert!((OWN_BYTES_MAX..OWN_BYTES_MAX + SLACK).contains(&stuck), "{stuck} bytes");
    for round in 0..600 {
        estate.write(1 + round % 3, 10).unwrap();
        estate.flush_due(Some(0));
        assert!(estate.memory.memtable_bytes() < BYTES_MAX, "round {round}");
    }
    let segments = estate.segments();
    assert!(segments[1..].iter().all(|segments| (1..30).contains(segments)), "{segments:?}");
    estate.flush_due(None);
    estate.write(0, 20).unwrap();
    estate.check();
}

#[test]
fn all_full_and_no_flush_refuses_by_name_until_flushes_work() {
    let mut estate = Estate::new(3, limits(BYTES_MAX));
    let mut refused = 0;
    for number in (0..3).cycle().take(3_000) {
        match estate.write(number, 20) {
            Ok(()) => estate.fail_flush(number),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains("of all databases are full (262144 bytes"), "{error}");
                assert!(error.to_string().contains("limit memtables_bytes_max"), "{error}");
                refused += 1;
            }
        }
    }
    assert!((BYTES_MAX..BYTES_MAX + SLACK).contains(&estate.memory.memtable_bytes()));
    let hits = |engine: &Engine| {
        let hits = engine.stats().limit_hits;
        hits.iter().find(|(name, _)| *name == "memtables_bytes_max").unwrap().1
    };
    assert!(0 < refused && estate.engines.iter().map(hits).sum::<u64>() == refused, "{refused}");
    estate.check();
    // One that works is enough for all.
    estate.engines[1].flush().unwrap();
    (0..3).for_each(|number| estate.write(number, 20).unwrap());
    estate.check();
}

#[test]
fn engine_that_ends_gives_everything_back() {
    let mut estate = Estate::new(3, limits(BYTES_MAX));
    (0..3).for_each(|number| estate.write(number, 50).unwrap());
    let (names, one) = (estate.memory.catalog_bytes(), estate.engines[0].stats());
    assert!(0 < one.memtable_bytes && names == 3 * one.catalog_bytes as usize, "{names} bytes of names");
    // As after a crash: nothing was flushed.
    drop(estate.engines.remove(0));
    estate.check_account();
    assert_eq!(estate.memory.catalog_bytes(), names / 3 * 2);
    let again = estate.open(0);
    assert_eq!(again.stats().memtable_bytes, one.memtable_bytes, "what was replayed counts");
    estate.engines.insert(0, again);
    estate.check();
    estate.engines[1].close().unwrap();
    drop(estate.engines[2].retire());
    assert_eq!(estate.memory.memtable_bytes() as u64, one.memtable_bytes);
    estate.engines.clear();
    assert_eq!((estate.memory.memtable_bytes(), estate.memory.catalog_bytes()), (0, 0));
}

#[test]
fn names_of_all_are_bounded_and_those_of_a_dropped_database_make_room() {
    let mut estate = Estate::new(2, MemoryLimits { catalogs_bytes_max: 20_000, ..limits(BYTES_MAX) });
    let name = |engine: &Engine, number: usize| {
        let mut key = Vec::new();
        SeriesKey::new(&format!("m{number}"), [("host", "a")]).unwrap().encode(&mut key);
        let mut batch = WriteBatch::new(&CANONICAL);
        batch.fields.push(Field { name: b"x", value: ValueRef::Float(1.0) });
        batch.push_row(&key, START_NS, 1);
        engine.write(&batch).unwrap().rejected
    };
    let taken = (0..100).take_while(|number| name(&estate.engines[number % 2], *number).is_empty()).count();
    assert!((4..10).contains(&taken), "{taken}");
    assert!((20_000..25_000).contains(&estate.memory.catalog_bytes()));
    for engine in &estate.engines {
        let refused = name(engine, 200);
        assert!(refused[0].reason.contains("of all databases take 20000 bytes"), "{refused:?}");
        assert!(refused[0].reason.contains("limit catalogs_bytes_max"), "{refused:?}");
        assert!(engine.stats().limit_hits.iter().any(|hit| hit.0 == "catalogs_bytes_max" && 0 < hit.1));
    }
    assert!(name(&estate.engines[0], 0).is_empty(), "what is known is taken");
    let retired = estate.engines.remove(1).retire();
    assert!(retired.is_unused() && name(&estate.engines[0], 200).is_empty());
}

/// Their segments have the same numbers, names and lengths, and one cache.
#[test]
fn pages_of_one_database_are_never_those_of_another() {
    let mut estate = Estate::new(4, limits(BYTES_MAX));
    for _ in 0..3 {
        (0..4).for_each(|number| estate.write(number, 200).unwrap());
        estate.engines.iter().for_each(|engine| engine.flush().unwrap());
    }
    let ids = |engine: &Engine| {
        engine.store.manifest().segments.iter().map(|segment| segment.id).collect::<Vec<_>>()
    };
    assert!(estate.engines.iter().all(|engine| ids(engine) == ids(&estate.engines[0])));
    (0..3).for_each(|_| estate.check());
    let stats: Vec<EngineStats> = estate.engines.iter().map(Engine::stats).collect();
    for one in &stats {
        assert!(stats[0].cache_misses == one.cache_misses && one.cache_misses < one.cache_hits, "{one:?}");
        assert_eq!(one.cache_bytes, estate.memory.cache_bytes());
    }
    // Nor is a database that was opened again given pages from before, which another directory may have had.
    estate.engines.clear();
    estate.fs.rename(Path::new("/db0"), Path::new("/db9")).unwrap();
    estate.fs.rename(Path::new("/db1"), Path::new("/db0")).unwrap();
    assert_eq!(content(&*estate.open(0).view()), estate.models[1]);
}

/// Services that sleep until they are called: a call that is lost ends in a refused write.
#[test]
fn writers_and_flushes_of_many_threads_wake_each_other_and_the_account_is_exact() {
    let batches = Scale::asked().of(400, 4_000, 40_000);
    let memory = Memory::new(limits(BYTES_MAX));
    let options = Options {
        free_bytes_min: 0,
        memory_bytes_max: OWN_BYTES_MAX,
        write_wait_max: Duration::from_secs(60),
        flush_age: Duration::from_secs(86_400),
        ..Options::default()
    };
    let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::new(SystemClock::default()) };
    let open = |number: usize| {
        let (dir, options) = (format!("/db{number}"), options.clone());
        Engine::open_sharing(env.clone(), Path::new(&dir), options, Retention::FOREVER, &memory).unwrap()
    };
    let engines: Vec<Engine> = (0..4).map(open).collect();
    let written: Vec<i64> = std::thread::scope(|scope| {
        for engine in &engines {
            scope.spawn(|| {
                while !engine.is_closed() {
                    engine.wait_for_flush(Duration::from_secs(3_600));
                    engine.flush_due().unwrap();
                }
            });
        }
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (engines, memory) = (&engines, &memory);
                scope.spawn(move || {
                    let mut random = Random(writer as u64);
                    let mut next = 0;
                    for _ in 0..batches {
                        let rows = 1 + random.below(60) as i64;
                        let rows: Vec<TestRow> = (next..next + rows).map(row).collect();
                        // Each has a database of its own, and for a while all write to one.
                        let number = if random.below(4) == 0 { 0 } else { writer };
                        let host = ["a", "b", "c", "d"][writer];
                        let rows: Vec<TestRow> =
                            rows.into_iter().map(|row| TestRow { host, ..row }).collect();
                        write(&engines[number], &rows).unwrap();
                        next += rows.len() as i64;
                        let bytes = memory.memtable_bytes();
                        assert!(bytes <= BYTES_MAX + 4 * SLACK, "{bytes} bytes");
                    }
                    next
                })
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        engines.iter().for_each(|engine| _ = engine.begin_close());
        written.into_iter().map(|written| written.unwrap()).collect()
    });
    let of_each = engines.iter().map(|engine| engine.stats().memtable_bytes as usize);
    assert_eq!(memory.memtable_bytes(), of_each.sum::<usize>());
    let rows = engines.iter().map(|engine| content(&*engine.view()).len() as i64).sum::<i64>();
    assert_eq!(rows, written.iter().sum::<i64>());
    drop(engines);
    assert_eq!((memory.memtable_bytes(), memory.catalog_bytes()), (0, 0));
}
