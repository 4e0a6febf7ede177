//! Segments through the real file system: what is pushed comes back, and damage is seen.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;
use crate::codec::Encoding;
use crate::fs::{Fs, OsFs, SimFs};
use crate::model::FieldInfo;
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, Histogram, MeasurementId, RowBlock, SeriesId, SeriesKey, Stat,
    StrColumn, Value, Values,
};
use crate::rows::append_rows;
use crate::{ErrorKind, Result};

const FLOAT: FieldId = FieldId(0);
const INT: FieldId = FieldId(1);
const UINT: FieldId = FieldId(2);
const BOOL: FieldId = FieldId(3);
const TEXT: FieldId = FieldId(4);
const HIST: ColumnKey = ColumnKey { field: FLOAT, stat: Stat::Hist };

fn fields() -> Vec<FieldInfo> {
    let types = [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];
    let infos = (0u16..).zip(types).map(|(id, field_type)| FieldInfo {
        id: FieldId(id),
        name: field_type.name().into(),
        field_type,
    });
    infos.collect()
}

fn key_of(series: SeriesId) -> Option<Arc<SeriesKey>> {
    Some(Arc::new(SeriesKey::new("m", [("host", format!("host-{}", series.0))]).unwrap()))
}

fn encoder(measurement: MeasurementId) -> impl Fn(SeriesId, &mut Vec<u8>) -> Option<MeasurementId> {
    move |series, out| {
        key_of(series)?.encode(out);
        Some(measurement)
    }
}

fn mixed(n: u64) -> u64 {
    (n ^ 0x5555).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Rows of all kinds: `points` for each series, with holes.
fn block_of(series: std::ops::Range<u32>, points: i64) -> RowBlock {
    let mut block = RowBlock::default();
    let (mut floats, mut ints, mut uints) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bools, mut texts, mut hists) = (Vec::new(), StrColumn::default(), Vec::new());
    let mut holes = Vec::new();
    for id in series {
        for point in 0..points {
            let n = mixed(u64::from(id) << 32 | point.cast_unsigned());
            block.series.push(SeriesId(id));
            block.ts_ns.push(point * 10_000_000_000 + i64::from(id));
            floats.push(if n.is_multiple_of(97) {
                f64::from_bits(0x7ff8_dead_0000_0001)
            } else {
                (n % 1000) as f64 / 10.0
            });
            ints.push(n.cast_signed());
            uints.push(n | 1 << 63);
            bools.push(n.is_multiple_of(7));
            texts.push(&format!("status {}", n % 5));
            let mut hist = Histogram::default();
            (0..n % 4).for_each(|k| hist.add((n >> k) as f64 * if k == 2 { -1.0 } else { 1e-3 }));
            hists.push(hist);
            holes.push(!n.is_multiple_of(3));
        }
    }
    let column = |key, values, valid: Option<&Vec<bool>>| Column { key, values, valid: valid.cloned() };
    block.columns = vec![
        column(ColumnKey::value(FLOAT), Values::F64(floats), Some(&holes)),
        column(HIST, Values::Hist(hists.into_iter().collect()), None),
        column(ColumnKey::value(INT), Values::I64(ints), None),
        column(ColumnKey::value(UINT), Values::U64(uints), Some(&holes)),
        column(ColumnKey::value(BOOL), Values::Bool(bools), None),
        column(ColumnKey::value(TEXT), Values::Str(texts), Some(&holes)),
    ];
    block
}

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("7.seg");
    Place { _dir: dir, path }
}

fn write(path: &Path, blocks: &[RowBlock]) -> Result<SegmentSummary> {
    let mut writer = SegmentWriter::create(&OsFs, path)?;
    writer.set_property("tier", b"raw");
    writer.begin(MeasurementId(3), "m", &fields())?;
    for block in blocks {
        writer.push(block)?;
    }
    writer.end(&encoder(MeasurementId(3)))?;
    writer.finish(&OsFs)
}

fn open(path: &Path) -> Result<Segment> {
    Segment::open(&(Arc::new(OsFs) as Arc<dyn Fs>), path, 7, Arc::new(PageCache::new(8 << 20)))
}

/// Opens bytes in memory, for tests that damage them thousands of times.
pub(super) fn open_bytes(bytes: &[u8]) -> Result<Segment> {
    let fs = SimFs::default();
    fs.put(Path::new("/bytes"), bytes);
    Segment::open(&(Arc::new(fs) as Arc<dyn Fs>), Path::new("/bytes"), 7, Arc::new(PageCache::new(1 << 20)))
}

/// All rows as (series, time, values by column), with floats as bits.
type Dump = Vec<(u32, i64, Vec<(ColumnKey, String)>)>;

fn shown(column: &Column, index: usize) -> Option<String> {
    if !column.is_valid(index) {
        return None;
    }
    Some(match (&column.values, column.value(index)) {
        (Values::Hist(hists), _) => format!("{:?}", hists.get(index)),
        (Values::Uniques(sketches), _) => format!("{:?}", sketches.get(index)),
        (_, Some(Value::Float(value))) => format!("{:x}", value.to_bits()),
        (_, value) => format!("{value:?}"),
    })
}

fn dump_block(block: &RowBlock, dump: &mut Dump) {
    for index in 0..block.len() {
        let mut row: Vec<_> =
            block.columns.iter().filter_map(|column| Some((column.key, shown(column, index)?))).collect();
        row.sort();
        dump.push((block.series[index].0, block.ts_ns[index], row));
    }
}

fn dump(segment: &Segment) -> Result<Dump> {
    let mut dump = Dump::new();
    for section in segment.sections() {
        for page in 0..section.pages.len() {
            let keys = segment.keys(section, page)?;
            let mut block = RowBlock { ts_ns: keys.ts_ns.clone(), ..RowBlock::default() };
            for (series, end) in &keys.series {
                block.series.resize(*end as usize, *series);
            }
            for column in &*segment.columns(section, page)? {
                let column = segment.column(section, page, column.key)?.unwrap();
                block.columns.push(Column::clone(&column));
            }
            dump_block(&block, &mut dump);
        }
    }
    Ok(dump)
}

fn check(blocks: &[RowBlock]) -> (Place, Segment) {
    let place = place();
    let summary = write(&place.path, blocks).unwrap();
    let segment = open(&place.path).unwrap();
    assert_eq!(*segment.summary(), summary);
    assert_eq!(summary.bytes, std::fs::metadata(&place.path).unwrap().len());
    let mut expected = Dump::new();
    blocks.iter().for_each(|block| dump_block(block, &mut expected));
    assert_eq!(summary.rows, expected.len() as u64);
    assert!(dump(&segment).unwrap() == expected, "rows differ");
    assert!(dump(&segment).unwrap() == expected, "rows from the cache differ");
    segment.verify().unwrap();
    (place, segment)
}

#[test]
fn segment_of_many_series_and_kinds_comes_back() {
    let (_place, segment) =
        check(&[block_of(0..300, 12), block_of(300..301, 9_000), block_of(400..420, 150)]);
    let section = segment.section(MeasurementId(3)).unwrap();
    assert_eq!((&*section.name, &section.fields), ("m", &fields()));
    assert_eq!(segment.property("tier"), Some(&b"raw"[..]));
    let series = segment.series(section).unwrap();
    assert_eq!(series.len(), 321);
    assert_eq!(section.series_count(), 321);
    assert!(series.iter().all(|(id, key)| *key == key_of(*id).unwrap()));
    assert!(section.pages.iter().all(|page| page.rows as usize <= PAGE_ROWS_MAX));
    let pages = section.pages_of(SeriesId(300));
    let keys = pages.map(|page| segment.keys(section, page).unwrap());
    assert_eq!(keys.map(|keys| keys.rows_of(SeriesId(300)).len()).sum::<usize>(), 9_000);
    assert!(
        section
            .pages_of(SeriesId(399))
            .all(|page| { segment.keys(section, page).unwrap().rows_of(SeriesId(399)).is_empty() })
    );
}

#[test]
fn page_with_enough_rows_ends_where_a_series_ends() {
    let (_place, segment) = check(&[block_of(0..100, 100)]);
    let rows: Vec<u32> = segment.sections()[0].pages.iter().map(|page| page.rows).collect();
    assert_eq!(rows, [3100, 3100, 3100, 700]);
}

#[test]
fn columns_that_differ_between_pushes_are_nulls() {
    let (mut left, mut right) = (block_of(0..5, 4), block_of(5..9, 4));
    left.columns.remove(0);
    right.columns.truncate(2);
    let bare = RowBlock { series: vec![SeriesId(9)], ts_ns: vec![-5], columns: Vec::new() };
    let (_place, segment) = check(&[left, right, bare]);
    let section = &segment.sections()[0];
    assert_eq!(section.min_ts_ns, -5);
    assert!(segment.column(section, 0, ColumnKey::value(FieldId(77))).unwrap().is_none());
}

/// Encodings of the pages of a text column.
fn text_encodings(rows: i64, text: impl Fn(u64) -> String) -> Vec<u8> {
    let mut texts = StrColumn::default();
    (0..rows.unsigned_abs()).for_each(|n| texts.push(&text(n)));
    let block = RowBlock {
        series: vec![SeriesId(1); texts.len()],
        ts_ns: (0..rows).collect(),
        columns: vec![Column { key: ColumnKey::value(TEXT), values: Values::Str(texts), valid: None }],
    };
    let (_place, segment) = check(&[block]);
    let section = &segment.sections()[0];
    (0..section.pages.len()).map(|page| segment.columns(section, page).unwrap()[0].encoding).collect()
}

#[test]
fn texts_beyond_the_dictionary_are_written_plainly() {
    assert_eq!(text_encodings(15_000, |n| format!("{:0300}", mixed(n))), [10, 10, 10, 11], "too many bytes");
    assert_eq!(text_encodings(22_000, |n| n.to_string()), [10, 10, 10, 10, 11, 11], "none comes twice");
    assert_eq!(text_encodings(40_000, |n| (n / 2).to_string()), [10; 10]);
}

#[test]
fn heavy_pages_end_early() {
    let mut texts = StrColumn::default();
    (0..30).for_each(|_| texts.push(&"x".repeat(1 << 20)));
    let block = RowBlock {
        series: vec![SeriesId(1); 30],
        ts_ns: (0..30).collect(),
        columns: vec![Column { key: ColumnKey::value(TEXT), values: Values::Str(texts), valid: None }],
    };
    let (_place, segment) = check(&[block]);
    assert!(segment.sections()[0].pages.iter().all(|page| page.rows <= 4));
}

/// Rows of one series in which row `n` has a value in the columns that `has` tells.
fn wide_block(rows: i64, columns: u16, has: impl Fn(i64, u16) -> bool) -> RowBlock {
    let column = |id: u16| {
        let valid: Vec<bool> = (0..rows).map(|row| has(row, id)).collect();
        let values = Values::I64((0..rows).map(|row| row * i64::from(id)).collect());
        Column { key: ColumnKey::value(FieldId(100 + id)), values, valid: Some(valid) }
    };
    RowBlock {
        series: vec![SeriesId(1); rows.unsigned_abs() as usize],
        ts_ns: (0..rows).collect(),
        columns: (0..columns).map(column).collect(),
    }
}

#[test]
fn pages_of_many_columns_end_by_the_bytes_of_those_that_have_a_value() {
    let rows_of = |block: &RowBlock| -> Vec<u32> {
        let (_place, segment) = check(std::slice::from_ref(block));
        segment.sections()[0].pages.iter().map(|page| page.rows).collect()
    };
    assert_eq!(rows_of(&wide_block(5000, 60, |_, _| true)), [4096, 904], "nothing to cut");
    assert_eq!(rows_of(&wide_block(3000, 200, |_, _| true)), [1310, 1310, 380]);
    assert_eq!(rows_of(&wide_block(3000, 200, |_, id| id < 60)), [3000], "columns that no row has");
    // Each row brings a column of its own, until they would take the page beyond its bytes.
    let rows = rows_of(&wide_block(1500, 1500, |row, id| row == i64::from(id)));
    assert_eq!(rows, [512, 512, 476]);
}

#[test]
fn pages_end_at_the_same_rows_however_these_come() {
    let block = wide_block(2000, 300, |row, id| row % 3 > 0 || row > 4 * i64::from(id));
    let bytes_of = |part_rows: usize| {
        let place = place();
        let mut writer = SegmentWriter::create(&OsFs, &place.path).unwrap();
        writer.begin(MeasurementId(3), "m", &fields()).unwrap();
        for start in (0..block.len()).step_by(part_rows) {
            let mut part = RowBlock::default();
            append_rows(&mut part, &block, start, (start + part_rows).min(block.len()));
            // What a block has of columns beside its rows does not matter.
            part.columns.retain(|column| (0..part.ts_ns.len()).any(|row| column.is_valid(row)));
            writer.push(&part).unwrap();
        }
        writer.end(&encoder(MeasurementId(3))).unwrap();
        writer.finish(&OsFs).unwrap();
        std::fs::read(&place.path).unwrap()
    };
    let whole = bytes_of(block.len());
    for part_rows in [1, 7, 300] {
        assert!(bytes_of(part_rows) == whole, "parts of {part_rows} rows");
    }
}

#[test]
fn bounds_of_columns_enclose_their_values() {
    let block = RowBlock {
        series: vec![SeriesId(1); 3],
        ts_ns: vec![1, 2, 3],
        columns: vec![
            Column {
                key: ColumnKey::value(FLOAT),
                values: Values::F64(vec![f64::NAN, -2.5, 9.0]),
                valid: Some(vec![true, true, false]),
            },
            Column {
                key: ColumnKey::value(INT),
                values: Values::I64(vec![i64::MAX, (1 << 53) + 1, 1 << 60]),
                valid: None,
            },
        ],
    };
    let (_place, segment) = check(&[block]);
    let columns = segment.columns(&segment.sections()[0], 0).unwrap();
    let float = find_column(&columns, ColumnKey::value(FLOAT)).unwrap();
    assert_eq!((float.min, float.max, float.nulls), (-2.5, -2.5, 1));
    let int = find_column(&columns, ColumnKey::value(INT)).unwrap();
    assert!(int.min as i128 <= (1 << 53) + 1 && i128::from(i64::MAX) <= int.max as i128);
}

#[test]
fn sections_are_found_and_empty_ones_left_out() {
    let place = place();
    let mut writer = SegmentWriter::create(&OsFs, &place.path).unwrap();
    for id in [1, 2, 5] {
        writer.begin(MeasurementId(id), "m", &fields()).unwrap();
        if id != 2 {
            writer.push(&block_of(id..id + 1, 3)).unwrap();
        }
        writer.end(&encoder(MeasurementId(id))).unwrap();
    }
    writer.finish(&OsFs).unwrap();
    let segment = open(&place.path).unwrap();
    assert!(segment.section(MeasurementId(1)).is_some());
    assert!(segment.section(MeasurementId(2)).is_none());
    assert_eq!(segment.section(MeasurementId(5)).unwrap().rows, 3);
    segment.verify().unwrap();
}

#[test]
fn writer_refuses_rows_out_of_order() {
    let place = place();
    let internal = |outcome: Result<()>| assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Internal);
    let mut writer = SegmentWriter::create(&OsFs, &place.path).unwrap();
    internal(writer.push(&block_of(0..1, 1)));
    writer.begin(MeasurementId(1), "m", &[]).unwrap();
    writer.push(&block_of(4..5, 2)).unwrap();
    internal(writer.push(&block_of(4..5, 2)));
    internal(writer.begin(MeasurementId(2), "m", &[]));
    internal(writer.end(&|_, _| None));
    writer.begin(MeasurementId(1), "m", &[]).unwrap();
    writer.push(&block_of(4..5, 2)).unwrap();
    internal(writer.end(&encoder(MeasurementId(2))));
    internal(writer.begin(MeasurementId(1), "m", &[]).and(writer.begin(MeasurementId(1), "m", &[])));
    drop(writer);
    assert!(!OsFs.has(&place.path).unwrap());
    // What an abandoned writer left does not disturb the next.
    write(&place.path, &[block_of(0..1, 1)]).unwrap();
}

/// Blocks of 4096 long keys once were more than a block may be, and kept the flush from succeeding.
#[test]
fn series_with_long_keys_end_their_block_early() {
    let place = place();
    let mut writer = SegmentWriter::create(&OsFs, &place.path).unwrap();
    writer.begin(MeasurementId(3), "m", &fields()).unwrap();
    writer.push(&block_of(0..6, 1)).unwrap();
    let long_key = |series: SeriesId| {
        let tags = (0..16).map(|tag| (format!("{tag:02}"), format!("{}{}", series.0, "x".repeat(65_000))));
        SeriesKey::new("m", tags).unwrap()
    };
    let key_of = |series, out: &mut Vec<u8>| {
        long_key(series).encode(out);
        Some(MeasurementId(3))
    };
    writer.end(&key_of).unwrap();
    writer.finish(&OsFs).unwrap();
    let segment = open(&place.path).unwrap();
    let section = segment.section(MeasurementId(3)).unwrap();
    assert_eq!(section.series_blocks.iter().map(|block| block.count).collect::<Vec<_>>(), [5, 1]);
    let series = segment.series(section).unwrap();
    assert!((0..6).map(SeriesId).eq(series.iter().map(|(id, _)| *id)));
    assert!(series.iter().all(|(id, key)| **key == long_key(*id)));
}

#[test]
fn version_of_the_future_is_a_conflict() {
    let place = place();
    write(&place.path, &[block_of(0..2, 2)]).unwrap();
    let mut bytes = std::fs::read(&place.path).unwrap();
    bytes[6] = u8::try_from(VERSION).unwrap() + 1;
    let trailer = bytes.len() - 16;
    let footer_len = u32::from_le_bytes(bytes[trailer..trailer + 4].try_into().unwrap()) as usize;
    let crc = writer::crc_of(&[&bytes[..8], &bytes[trailer - footer_len..trailer]]);
    bytes[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(open_bytes(&bytes).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn truncation_at_every_byte_is_corruption() {
    let place = place();
    write(&place.path, &[block_of(0..3, 4)]).unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    for len in 0..bytes.len() {
        assert_eq!(open_bytes(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corruption, "cut to {len}");
    }
}

#[test]
fn flip_of_every_bit_is_corruption() {
    let place = place();
    write(&place.path, &[block_of(0..3, 4)]).unwrap();
    let mut bytes = std::fs::read(&place.path).unwrap();
    let expected = dump(&open(&place.path).unwrap()).unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        match open_bytes(&bytes) {
            Ok(segment) => {
                assert_eq!(segment.verify().unwrap_err().kind(), ErrorKind::Corruption, "bit {bit}");
                // Damage in the series table does not keep the rows from being read.
                match dump(&segment) {
                    Ok(rows) => assert!(rows == expected, "bit {bit} gives wrong rows"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}"),
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}"),
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let place = place();
    write(&place.path, &[block_of(0..3, 4)]).unwrap();
    std::fs::read(&place.path).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A checksum is no lock: whoever can write it can write anything. Nothing may panic even then.
    #[test]
    fn footer_of_any_bytes_never_panics(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = SMALL.clone();
        let trailer = bytes.len() - 16;
        let footer_len = u32::from_le_bytes(bytes[trailer..trailer + 4].try_into().unwrap()) as usize;
        let footer = trailer - footer_len;
        for (index, byte) in flips {
            bytes[footer + index.index(footer_len)] = byte;
        }
        let crc = writer::crc_of(&[&bytes[..8], &bytes[footer..trailer]]);
        bytes[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
        if let Ok(segment) = open_bytes(&bytes) {
            drop(segment.verify());
            drop(dump(&segment));
            segment.sections().iter().for_each(|section| drop(segment.series(section)));
        }
    }
}

#[test]
fn verify_listing_that_denies_codes_is_corruption() {
    // Found by fuzzing with right checksums: what verified could not be read, because readers go by the listing.
    let place = place();
    write(&place.path, &[block_of(0..3, 40)]).unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    let changed = with_listing(&bytes, |columns| {
        let coded = columns.iter_mut().find(|column| column.encoding == Encoding::Codes as u8).unwrap();
        coded.encoding = Encoding::Texts as u8;
    });
    let error = open_bytes(&changed).unwrap().verify().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

/// The bytes of a segment with another listing of its first page, of the same length, its checksum made right.
fn with_listing(bytes: &[u8], change: impl FnOnce(&mut Vec<ColumnInfo>)) -> Vec<u8> {
    let segment = open_bytes(bytes).unwrap();
    let section = &segment.sections()[0];
    let mut columns = segment.columns(section, 0).unwrap().to_vec();
    change(&mut columns);
    let mut listing = Vec::new();
    listing::encode(&columns, &mut listing);
    listing.extend_from_slice(&writer::crc_of(&[&listing]).to_le_bytes());
    let Blob { offset, len } = section.pages[0].listing;
    assert_eq!(listing.len(), len as usize);
    let mut changed = bytes.to_vec();
    changed[offset as usize..][..listing.len()].copy_from_slice(&listing);
    changed
}

/// The bytes of a segment with another footer, its length and checksum made right.
fn with_footer(bytes: &[u8], change: impl FnOnce(&mut layout::Footer)) -> Vec<u8> {
    let trailer = bytes.len() - TRAILER_BYTES as usize;
    let footer_len = u32::from_le_bytes(*bytes[trailer..].first_chunk().unwrap()) as usize;
    let start = trailer - footer_len;
    let mut footer =
        layout::Footer::decode(&bytes[start..trailer], HEADER_BYTES..start as u64, VERSION).unwrap();
    change(&mut footer);
    let footer = footer.encode();
    let crc = writer::crc_of(&[&bytes[..8], &footer]);
    let mut changed = bytes[..start].to_vec();
    changed.extend_from_slice(&footer);
    changed.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_le_bytes());
    changed.extend_from_slice(&crc.to_le_bytes());
    changed.extend_from_slice(MAGIC_END);
    changed
}

#[test]
fn verify_names_what_no_checksum_shows() {
    let place = place();
    // Pages of one series: an index that names one twice is in order.
    write(&place.path, &[block_of(0..1, 6000)]).unwrap();
    let bytes = std::fs::read(&place.path).unwrap();
    type Change = fn(&mut layout::Footer);
    let changes: [(&str, Change); 5] = [
        ("a part begins at", |footer| footer.sections[0].pages.truncate(1)),
        ("the index says otherwise", |footer| footer.sections[0].pages[0].is_heavy = false),
        ("reach beyond it", |footer| footer.sections[0].pages[0].start += 1),
        ("lies outside", |footer| footer.sections[0].pages[0].start -= 1),
        ("not behind those", |footer| {
            let first = footer.sections[0].pages[0].clone();
            footer.sections[0].pages.insert(0, first);
        }),
    ];
    for (expected, change) in changes {
        let segment = open_bytes(&with_footer(&bytes, change));
        let error = segment.and_then(|segment| segment.verify()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
    }
    open_bytes(&with_footer(&bytes, |_| ())).unwrap().verify().unwrap();
    let changed = open_bytes(&with_listing(&bytes, |columns| columns[0].max = -1e300)).unwrap();
    let error = changed.verify().unwrap_err().to_string();
    assert!(error.contains("is listed"), "{error}");
}

/// Where the parts of a segment lie.
fn blobs_of(segment: &Segment) -> Vec<Blob> {
    let mut blobs = Vec::new();
    for section in segment.sections() {
        blobs.extend(section.series_blocks.iter().map(|block| block.blob));
        blobs.extend(section.dictionaries.iter().map(|info| info.blob));
        for page in &section.pages {
            blobs.extend([page.keys, page.listing]);
        }
        for page in 0..section.pages.len() {
            blobs.extend(segment.columns(section, page).unwrap().iter().map(|column| column.blob));
        }
    }
    blobs
}

#[test]
fn part_of_any_bytes_with_a_right_checksum_is_data_or_corruption() {
    let small = open_bytes(&SMALL).unwrap();
    let (mut read, mut refused) = (0, 0);
    for blob in blobs_of(&small) {
        let (start, end) = (blob.offset as usize, blob.offset as usize + blob.len as usize - 4);
        for at in start..end {
            for byte in [SMALL[at] ^ 1, SMALL[at] ^ 0x80, SMALL[at].wrapping_add(1), 0, 0xff] {
                let mut bytes = SMALL.clone();
                bytes[at] = byte;
                let crc = writer::crc_of(&[&bytes[start..end]]);
                bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
                let segment = open_bytes(&bytes).unwrap();
                let series = segment.series(&segment.sections()[0]).map(|_| ());
                for outcome in [segment.verify(), dump(&segment).map(|_| ()), series] {
                    match outcome {
                        Ok(()) => read += 1,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at} as {byte}: {error}");
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(1000 < read && 1000 < refused, "{read} {refused}");
}

#[test]
fn page_that_is_not_there_is_an_internal_error() {
    let segment = open_bytes(&SMALL).unwrap();
    let section = &segment.sections()[0];
    assert_eq!(segment.keys(section, 99).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(segment.column(section, 99, HIST).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!((segment.id(), segment.path()), (7, Path::new("/bytes")));
}

#[test]
fn cache_counts_what_it_holds() {
    let (place, cache) = (place(), Arc::new(PageCache::new(8 << 20)));
    write(&place.path, &[block_of(0..3, 40)]).unwrap();
    let segment =
        Segment::open(&(Arc::new(OsFs) as Arc<dyn Fs>), &place.path, 7, Arc::clone(&cache)).unwrap();
    assert_eq!(cache.bytes(), 0);
    dump(&segment).unwrap();
    assert!(1000 < cache.bytes() && format!("{cache:?}").contains("entries"), "{cache:?}");
    // Every part is in memory: the file is not needed, except by who checks it.
    std::fs::remove_file(&place.path).unwrap();
    dump(&segment).unwrap();
    assert_eq!(segment.verify().unwrap_err().kind(), ErrorKind::NotFound);
}

/// The weight of an entry follows the memory it takes, and the sum never passes the budget, whatever is read.
#[test]
fn cache_holds_its_budget_under_a_scan_larger_than_it() {
    const BYTES_MAX: usize = 256 << 10;
    let (place, cache) = (place(), Arc::new(PageCache::new(BYTES_MAX)));
    write(&place.path, &[block_of(0..100, 400)]).unwrap();
    let mut decoded = 0;
    for id in 1..=8 {
        let fs = Arc::new(OsFs) as Arc<dyn Fs>;
        let segment = Segment::open(&fs, &place.path, id, Arc::clone(&cache)).unwrap();
        dump(&segment).unwrap();
        assert!(cache.bytes() <= BYTES_MAX as u64, "{} bytes", cache.bytes());
        decoded += 100 * 400 * 8;
    }
    assert!(decoded > 8 * BYTES_MAX && cache.bytes() > 0, "{} bytes", cache.bytes());
    let (hits, misses) = cache.hits_and_misses();
    assert!(misses > 8, "{hits} hits, {misses} misses");
}

#[test]
fn verify_file_replaced_while_open_is_corruption() {
    let place = place();
    write(&place.path, &[block_of(0..2, 3)]).unwrap();
    let segment = open(&place.path).unwrap();
    write(&place.path, &[block_of(0..2, 4)]).unwrap();
    assert_eq!(segment.verify().unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn file_too_short_for_a_segment_is_corruption() {
    for len in 0..24 {
        assert_eq!(open_bytes(&vec![0; len]).unwrap_err().kind(), ErrorKind::Corruption, "{len} bytes");
    }
}
