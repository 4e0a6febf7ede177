//! Every read of the disk fails once: what is answered is right, what cannot be is an error that is not taken for damage,
//! and the next try finds everything.

use super::world::{Content, TestRow, add, delete, env, try_content, try_windows, write};
use super::*;
use crate::check::check;
use crate::fs::Fs;
use crate::model::Value;

const DB: &str = "/db";
const COPY: &str = "/copy";
/// The third hour and some.
const NOW_NS: i64 = START_NS + 2 * HOUR_NS + 40 * MINUTE_NS;

fn try_open(fs: &Arc<SimFs>, dir: &str) -> Result<Engine> {
    // Short enough for partitions of an hour.
    try_open_keeping(fs, dir, Some(Duration::from_secs(2 * 24 * 3600)))
}

fn try_open_keeping(fs: &Arc<SimFs>, dir: &str, raw: Option<Duration>) -> Result<Engine> {
    let clock = Arc::new(ManualClock::new(NOW_NS));
    let options = Options { free_bytes_min: 0, wal_file_bytes_max: 600, ..Options::default() };
    Engine::open(env(fs, &clock), Path::new(dir), options, Retention { raw, ..Retention::FOREVER })
}

/// Rows of both hosts, one every ten seconds from a minute on.
fn rows(minute: i64, count: i64) -> Vec<TestRow> {
    let row = |k: i64| TestRow {
        measurement: if k % 3 == 0 { "net" } else { "cpu" },
        host: if k % 2 == 0 { "a" } else { "b" },
        ts_ns: START_NS + minute * MINUTE_NS + k * 10 * SECOND_NS,
        fields: vec![("int", Value::Int(minute * k)), ("text", Value::Str(format!("t{}", k % 5)))],
    };
    (0..count).map(row).collect()
}

/// A database with an hour in cells and rows that came late for it, files of another hour, one of them half deleted, and
/// rows in the log alone; and what is in it.
fn database() -> (SimFs, Content) {
    let fs = Arc::new(SimFs::default());
    let engine = try_open(&fs, DB).unwrap();
    let mut content = Content::new();
    let mut put = |minute, count| {
        let rows = rows(minute, count);
        write(&engine, &rows).unwrap();
        rows.iter().for_each(|row| add(&mut content, row));
    };
    put(0, 300);
    engine.seal().unwrap();
    put(20, 30);
    engine.flush().unwrap();
    put(70, 40);
    engine.flush().unwrap();
    put(75, 40);
    engine.flush().unwrap();
    let gone = TimeRange::new(START_NS + 72 * MINUTE_NS, START_NS + 74 * MINUTE_NS);
    delete(&engine, "cpu", Some("a"), gone).unwrap();
    put(150, 30);
    content.retain(|(measurement, host, ts_ns, _), _| {
        !(measurement == "cpu" && host == "a" && gone.contains(*ts_ns))
    });
    drop(engine);
    (fs.fork(), content)
}

/// Tries once more what failed.
fn again<T>(place: &str, failures: &mut u32, mut attempt: impl FnMut() -> Result<T>) -> T {
    attempt()
        .or_else(|error| {
            assert_eq!(error.kind(), ErrorKind::Internal, "{place}: {error}");
            *failures += 1;
            attempt()
        })
        .unwrap_or_else(|error| panic!("{place}, again: {error}"))
}

/// Opens, asks, does all jobs, asks again and makes a copy.
fn live(fs: &Arc<SimFs>, expected: &Content, place: &str) -> u32 {
    let mut failures = 0;
    let failed = &mut failures;
    let engine = again(place, failed, || try_open(fs, DB));
    let hours: Vec<Window> = (0..3)
        .map(|hour| Window { start_ns: START_NS + hour * HOUR_NS, end_ns: START_NS + (hour + 1) * HOUR_NS })
        .collect();
    let counts = |hour: i64| {
        let hour = TimeRange::new(START_NS + hour * HOUR_NS, START_NS + (hour + 1) * HOUR_NS);
        let is_of = |place: &&(String, String, i64, String)| {
            (&*place.0, &*place.1, &*place.3) == ("cpu", "b", "int") && hour.contains(place.2)
        };
        expected.keys().filter(is_of).count() as u64
    };
    let ask = |failed: &mut u32| {
        let found = again(place, failed, || try_content(&*engine.view()));
        assert!(found == *expected, "{place}: rows differ");
        let field = ("cpu", "b", "int");
        let (found, _) =
            again(place, failed, || try_windows(&engine, field, &hours, Bounds::RightOpen, None));
        let found: Vec<u64> = found.iter().map(Partial::count).collect();
        assert_eq!(found, [counts(0), counts(1), counts(2)], "{place}");
    };
    ask(failed);
    again(place, failed, || engine.flush());
    again(place, failed, || engine.maintain());
    ask(failed);
    again(place, failed, || engine.seal());
    ask(failed);
    again(place, failed, || engine.snapshot(Path::new(COPY)));
    let copy = again(place, failed, || try_open(fs, COPY));
    assert!(again(place, failed, || try_content(&*copy.view())) == *expected, "{place}: the copy differs");
    assert_eq!(engine.stats().corrupt_reads, 0, "{place}");
    again(place, failed, || engine.close());
    failures
}

#[test]
fn read_error_at_every_read_is_an_error_once_and_nothing_else() {
    let (base, expected) = database();
    let whole = Arc::new(base.fork());
    assert_eq!(live(&whole, &expected, "no fault"), 0);
    let reads = base.reads()..whole.reads();
    let tried = reads.end - reads.start;
    assert!(300 <= tried, "{tried}");
    let mut told = 0;
    for read in reads {
        let place = format!("read {read}");
        let fs = Arc::new(base.fork());
        fs.fail_read_at(read);
        let failures = live(&fs, &expected, &place);
        assert!(failures <= 1, "{place}: {failures} failures");
        told += failures;
        fs.crash_losing_unsynced();
        let engine = try_open(&fs, DB).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(try_content(&*engine.view()).unwrap() == expected, "{place}: rows differ after the restart");
        engine.close().unwrap();
        let disk: Arc<dyn Fs> = Arc::clone(&fs) as _;
        let report = check(&disk, Path::new(DB)).unwrap();
        assert!(report.findings.is_empty(), "{place}: {report:?}");
    }
    // Few reads are of no consequence: of what is to be tidied up, for one.
    assert!(tried / 10 * 9 <= u64::from(told), "{told} of {tried} were told");
}

/// A bad sector is not damage that a checksum tells: the file is tried again each time, and keeps nothing else waiting.
#[test]
fn file_that_cannot_be_read_holds_up_its_own_hours_alone() {
    let (base, expected) = database();
    let fs = Arc::new(base);
    let engine = try_open(&fs, DB).unwrap();
    engine.flush().unwrap();
    let hour = |number: i64| TimeRange::new(START_NS + number * HOUR_NS, START_NS + (number + 1) * HOUR_NS);
    let of_second = engine.store.manifest();
    let of_second = of_second.segments.iter().find(|meta| meta.partition.start_ns == hour(1).start_ns);
    let path = engine.store.segment_path(of_second.unwrap().id);
    fs.fail_reads_of(Some(&path));
    let counts = |number: i64| {
        let window = [Window { start_ns: hour(number).start_ns, end_ns: hour(number).end_ns }];
        let field = ("cpu", "b", "int");
        let (found, coverage) = try_windows(&engine, field, &window, Bounds::RightOpen, None)?;
        Ok::<_, Error>((found.iter().map(Partial::count).sum::<u64>(), coverage.rows))
    };
    for _ in 0..2 {
        assert_eq!(engine.maintain().map_err(|error| error.kind()), Err(ErrorKind::Internal));
        assert_eq!(engine.seal().map_err(|error| error.kind()), Err(ErrorKind::Internal));
        let (first, third) = (counts(0).unwrap(), counts(2).unwrap());
        assert!(0 < first.0 && 0 < third.0);
        assert_eq!(
            (first.1, third.1),
            (0, 0),
            "late rows of the first hour and those of the third are in cells"
        );
        assert_eq!(counts(1).map_err(|error| error.kind()), Err(ErrorKind::Internal));
        assert_eq!(try_content(&*engine.view()).map_err(|error| error.kind()), Err(ErrorKind::Internal));
    }
    fs.fail_reads_of(None);
    engine.seal().unwrap();
    assert!(try_content(&*engine.view()).unwrap() == expected);
    assert_eq!(counts(1).unwrap().1, 0);
}

/// Hours of a day's partition are rolled together where they have a file in common.
#[test]
fn file_that_cannot_be_read_holds_up_no_hour_that_does_not_need_it() {
    let fs = Arc::new(SimFs::default());
    let engine = try_open_keeping(&fs, DB, None).unwrap();
    let mut content = Content::new();
    for minutes in [[10, 61], [62, 100]] {
        let rows: Vec<TestRow> = minutes.into_iter().flat_map(|minute| rows(minute, 9)).collect();
        write(&engine, &rows).unwrap();
        rows.iter().for_each(|row| add(&mut content, row));
        engine.flush().unwrap();
    }
    drop(engine);
    fs.restart();
    let engine = try_open_keeping(&fs, DB, None).unwrap();
    let second = engine.store.manifest().segments.iter().map(|meta| meta.id).max().unwrap();
    fs.fail_reads_of(Some(&engine.store.segment_path(second)));
    assert_eq!(engine.maintain().map_err(|error| error.kind()), Err(ErrorKind::Internal));
    let rolled =
        || engine.store.manifest().rolled.iter().map(|rolled| rolled.span.start_ns).collect::<Vec<_>>();
    assert_eq!(rolled(), [START_NS]);
    fs.fail_reads_of(None);
    engine.maintain().unwrap();
    assert_eq!(rolled(), [START_NS, START_NS + HOUR_NS]);
    assert!(try_content(&*engine.view()).unwrap() == content);
}
