//! Files of 16 KiB with one byte changed, for every byte: the data as it was, `Corruption`, or (at the tail of a log
//! only) a prefix. Never a panic, never a wrong value, and never more memory than the files could need.
//!
//! In its own binary, because the allocator counts for a whole process. zstd's own memory is not counted; its
//! outputs are.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its files should fail")]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use icecore_storage::fs::{Fs, SimFs};
use icecore_storage::manifest::{FILE_NAME, Manifest, RolledSpan, SegmentMeta};
use icecore_storage::model::{
    Column, ColumnKey, FieldId, FieldInfo, FieldType, HOUR_NS, MeasurementId, RowBlock, SeriesId, SeriesKey,
    StrColumn, Tier, TimeRange, Values,
};
use icecore_storage::options::Retention;
use icecore_storage::segment::{PageCache, PageKeys, Segment, SegmentWriter};
use icecore_storage::wal::record::{ROWS, encode_rows};
use icecore_storage::wal::{Extent, Record, Writer, replay};
use icecore_storage::{ErrorKind, Result};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const FILE_BYTES: Range<usize> = 16 << 10..20 << 10;
const PEAK_BYTES_MAX: usize = 64 << 20;

/// What was read from a changed file.
enum Outcome {
    Same,
    Prefix,
    Wrong,
}

/// Changes every byte of `file`: each of its bits flipped (in the short form one of them), zero, and all ones. Only
/// a change from `tail_offset` on may leave a prefix.
fn change_every_byte(file: &[u8], tail_offset: usize, read: impl Fn(&[u8]) -> Result<Outcome>) {
    assert!(FILE_BYTES.contains(&file.len()), "{} bytes", file.len());
    let is_short = std::env::var("ICECORE_TEST_SCALE").is_err();
    let mut bytes = file.to_vec();
    for (at, was) in file.iter().enumerate() {
        let bits = if is_short { at % 8..at % 8 + 1 } else { 0..8 };
        for byte in bits.map(|bit| was ^ 1 << bit).chain([0, 0xff]) {
            bytes[at] = byte;
            let place = format!("byte {at} as {byte:02x}");
            match read(&bytes) {
                Ok(Outcome::Same) => {}
                Ok(Outcome::Prefix) => assert!(tail_offset <= at, "{place}: a prefix"),
                Ok(Outcome::Wrong) => panic!("{place}: wrong data"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{place}: {error}"),
            }
        }
        bytes[at] = *was;
    }
    let peak = ALLOCATOR.peak_usage();
    assert!(peak <= PEAK_BYTES_MAX, "{peak} bytes were allocated");
    show(file.len(), peak);
}

/// Seen with `--nocapture`.
#[expect(clippy::print_stderr, reason = "a measurement for docs/reliability.md")]
fn show(file_bytes: usize, peak: usize) {
    eprintln!("{file_bytes} bytes; peak of the process {} KiB", peak >> 10);
}

fn mixed(n: u64) -> u64 {
    (n ^ 0x5555).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Rows of one series with a column of each type; some have no value.
fn rows(series: u32, count: usize) -> RowBlock {
    let random: Vec<u64> = (0..count as u64).map(|n| mixed(u64::from(series) << 32 | n)).collect();
    let mut texts = StrColumn::default();
    random.iter().for_each(|n| texts.push(&format!("status {}", n % 50)));
    // Rows without a value hold the default, as a reader gives it.
    let valid: Vec<bool> = random.iter().map(|n| !n.is_multiple_of(3)).collect();
    let ints = random.iter().zip(&valid).map(|(n, valid)| if *valid { n.cast_signed() } else { 0 });
    let floats = random.iter().map(|n| (n % 1000) as f64 / 10.0).collect();
    let column = |field, values, valid| Column { key: ColumnKey::value(FieldId(field)), values, valid };
    RowBlock {
        series: vec![SeriesId(series); count],
        ts_ns: (0..count as i64).map(|n| n * 10_000_000_000).collect(),
        columns: vec![
            column(0, Values::F64(floats), None),
            column(1, Values::I64(ints.collect()), Some(valid)),
            column(2, Values::Bool(random.iter().map(|n| n & 8 == 8).collect()), None),
            column(3, Values::Str(texts), None),
        ],
    }
}

#[test]
fn log_with_a_changed_byte_is_same_prefix_or_corruption() {
    let dir = Path::new("/db/wal");
    let read = |fs: &SimFs| {
        let mut records: Vec<(u64, Record)> = Vec::new();
        let report = replay(fs, dir, Extent::default(), &mut |seq, record| {
            records.push((seq, record));
            Ok(())
        })?;
        Result::Ok((records, report))
    };
    let fs = SimFs::default();
    let report = read(&fs).unwrap().1;
    let mut writer = Writer::open(Arc::new(fs.clone()), dir, &report, 1 << 20, Box::new(|_| Ok(()))).unwrap();
    let mut last_group_offset = 0;
    for group in 0..70 {
        let mut payloads = [Vec::new(), Vec::new(), Vec::new()];
        for (payload, series) in payloads.iter_mut().zip(group * 3..) {
            encode_rows(&[(MeasurementId(1), rows(series, 1))], payload);
        }
        last_group_offset = writer.bytes() as usize;
        writer.append(&payloads.each_ref().map(|payload| (ROWS, payload.as_slice()))).unwrap();
        writer.sync().unwrap();
    }
    let all = read(&fs).unwrap().0;
    assert!(200 <= all.len());
    let path = dir.join(&fs.list(dir).unwrap()[0]);
    change_every_byte(&fs.get(&path).unwrap(), last_group_offset, |bytes| {
        let fs = SimFs::default();
        fs.put(&path, bytes);
        let (records, _) = read(&fs)?;
        Ok(match () {
            () if records == all => Outcome::Same,
            () if all.starts_with(&records) => Outcome::Prefix,
            () => Outcome::Wrong,
        })
    });
}

#[test]
fn manifest_with_a_changed_byte_is_same_or_corruption() {
    let mut manifest = Manifest::new(Retention::default());
    for hour in 0..170 {
        let partition = TimeRange::new(hour * HOUR_NS, (hour + 1) * HOUR_NS);
        let id = manifest.next_file;
        manifest.next_file += 1;
        manifest.segments.push(SegmentMeta {
            id,
            tier: if hour % 3 == 0 { Tier::M1 } else { Tier::Raw },
            partition,
            min_ts_ns: partition.start_ns,
            max_ts_ns: partition.end_ns - 1,
            rows: mixed(id) >> 40,
            bytes: mixed(id) >> 30,
            footer_crc: mixed(id) as u32,
            generation: id,
        });
        manifest.rolled.push(RolledSpan { span: partition, covers: vec![id] });
        manifest.catalog_files.push(id);
    }
    let (fs, dir) = (SimFs::default(), Path::new("/db"));
    fs.create_dir_all(dir).unwrap();
    manifest.store(&fs, dir).unwrap();
    let path = dir.join(FILE_NAME);
    change_every_byte(&fs.get(&path).unwrap(), usize::MAX, |bytes| {
        let fs = SimFs::default();
        fs.put(&path, bytes);
        let found = Manifest::load(&fs, dir)?;
        Ok(if found.as_ref() == Some(&manifest) { Outcome::Same } else { Outcome::Wrong })
    });
}

/// A part of a segment that is read by itself.
#[derive(Debug, PartialEq)]
enum Part {
    Series(Vec<(SeriesId, Arc<SeriesKey>)>),
    Keys(Arc<PageKeys>),
    Column(Option<Arc<Column>>),
}

/// Reads everything in a segment; a part that is damaged is `None`. The other result is that of the check of the
/// whole file.
fn read_segment(bytes: &[u8]) -> Result<(Vec<Option<Part>>, Result<()>)> {
    let (fs, path) = (SimFs::default(), Path::new("/bytes"));
    fs.put(path, bytes);
    let fs: Arc<dyn Fs> = Arc::new(fs);
    let segment = Segment::open(&fs, path, 7, Arc::new(PageCache::new(1 << 20)))?;
    let mut parts = Vec::new();
    let mut keep = |part: Result<Part>| {
        let part = part.map_err(|error| assert_eq!(error.kind(), ErrorKind::Corruption, "{error}"));
        parts.push(part.ok());
    };
    for section in segment.sections() {
        keep(segment.series(section).map(Part::Series));
        for page in 0..section.pages.len() {
            keep(segment.keys(section, page).map(Part::Keys));
            for field in &section.fields {
                keep(segment.column(section, page, ColumnKey::value(field.id)).map(Part::Column));
            }
        }
    }
    Ok((parts, segment.verify()))
}

/// The file of a segment of two sections.
fn segment_file() -> Vec<u8> {
    let types = [FieldType::Float, FieldType::Int, FieldType::Bool, FieldType::Str];
    let field = |(id, field_type): (u16, FieldType)| FieldInfo {
        id: FieldId(id),
        name: field_type.name().into(),
        field_type,
    };
    let fields: Vec<FieldInfo> = (0..).zip(types).map(field).collect();
    let encode_key = |series: SeriesId, out: &mut Vec<u8>| {
        SeriesKey::new("m", [("host", format!("host-{}", mixed(series.0.into())))]).unwrap().encode(out);
    };
    let (fs, path) = (SimFs::default(), Path::new("/segment"));
    fs.create_dir_all(Path::new("/")).unwrap();
    let mut writer = SegmentWriter::create(&fs, path).unwrap();
    writer.set_property("tier", b"raw");
    for measurement in [1, 2] {
        let measurement = MeasurementId(measurement);
        writer.begin(measurement, "m", &fields).unwrap();
        (0..32).for_each(|series| writer.push(&rows(series, 32)).unwrap());
        let key_of = |series, out: &mut Vec<u8>| {
            encode_key(series, out);
            Some(measurement)
        };
        writer.end(&key_of).unwrap();
    }
    writer.finish(&fs).unwrap();
    fs.get(path).unwrap()
}

#[test]
fn segment_with_a_changed_byte_is_same_or_corruption() {
    let whole = segment_file();
    let (all, verified) = read_segment(&whole).unwrap();
    verified.unwrap();
    assert!(12 <= all.len() && all.iter().all(Option::is_some));
    change_every_byte(&whole, usize::MAX, |bytes| {
        let (parts, verified) = read_segment(bytes)?;
        // What can still be read is as it was; what cannot is missing, not different; and the check sees all.
        let is_wrong = parts.iter().zip(&all).any(|(part, was)| part.is_some() && part != was);
        if is_wrong || parts.len() != all.len() || (verified.is_ok() && bytes != whole) {
            return Ok(Outcome::Wrong);
        }
        verified.map(|()| Outcome::Same)
    });
}
