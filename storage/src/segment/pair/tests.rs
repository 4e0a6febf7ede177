//! Two segments written in step are those that two writers of their own would have made.

use std::path::Path;

use super::*;
use crate::ErrorKind;
use crate::fs::{Fs, SimFs};
use crate::model::{
    Column, ColumnKey, FieldId, FieldInfo, FieldType, MeasurementId, SeriesId, SeriesKey, StrColumn, Values,
};
use crate::segment::SeriesTable;

const M: MeasurementId = MeasurementId(3);

/// Rows of some series, with a column that only every other series has.
fn rows(series: Range<u32>, points: i64) -> RowBlock {
    let mut rows = RowBlock::default();
    for id in series {
        rows.series.extend((0..points).map(|_| SeriesId(id)));
        rows.ts_ns.extend((0..points).map(|point| point * 1000 + i64::from(id % 7)));
    }
    let noise = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let floats = (0..rows.len()).map(|at| noise(at) as f64 / 8.0).collect();
    let ints = (0..rows.len()).map(|at| noise(at + 7).cast_signed()).collect();
    let valid = rows.series.iter().map(|series| series.0 % 2 == 0).collect();
    let column = |id, values, valid| Column { key: ColumnKey::value(FieldId(id)), values, valid };
    rows.columns = vec![column(0, Values::F64(floats), None), column(1, Values::I64(ints), Some(valid))];
    rows
}

fn writer(fs: &SimFs, path: &str) -> SegmentWriter {
    let fields = [("a", 0, FieldType::Float), ("b", 1, FieldType::Int)];
    let fields =
        fields.map(|(name, id, field_type)| FieldInfo { id: FieldId(id), name: name.into(), field_type });
    fs.create_dir_all(Path::new("/db")).unwrap();
    let mut writer = SegmentWriter::create(fs, Path::new(path)).unwrap();
    writer.begin(M, "m", &fields).unwrap();
    writer
}

fn key_of(series: SeriesId, out: &mut Vec<u8>) -> Option<MeasurementId> {
    SeriesKey::new("m", [("host", format!("host-{}", series.0))]).unwrap().encode(out);
    Some(M)
}

/// Ends both, the second with the table of the first, and gives their bytes.
fn finish(fs: &SimFs, writers: [SegmentWriter; 2]) -> [Vec<u8>; 2] {
    let mut table = SeriesTable::default();
    writers.map(|mut writer| {
        writer.end_with(&key_of, &mut table).unwrap();
        let path = writer.path().to_owned();
        writer.finish(fs).unwrap();
        fs.get(&path).unwrap()
    })
}

#[test]
fn push_both_writes_the_bytes_of_two_writers() {
    let fs = SimFs::default();
    let blocks = [rows(0..200, 50), rows(200..201, 9000), rows(201..400, 13)];
    let (mut one, mut other) = (writer(&fs, "/db/one"), writer(&fs, "/db/other"));
    one.lead(&mut other).unwrap();
    for block in &blocks {
        let middle = block.len() / 3;
        one.push_both(&mut other, block, 0..middle).unwrap();
        one.push_both(&mut other, block, middle..block.len()).unwrap();
    }
    one.write_both(&mut other).unwrap();
    let [one, other] = finish(&fs, [one, other]);
    let mut alone = writer(&fs, "/db/alone");
    blocks.iter().for_each(|block| alone.push(block).unwrap());
    let [alone, _] = finish(&fs, [alone, writer(&fs, "/db/empty")]);
    assert!(one == alone, "the leader");
    assert!(other == alone, "the follower");
}

#[test]
fn lead_and_part_between_rows_of_their_own_lose_nothing() {
    let fs = SimFs::default();
    let (mut one, mut other) = (writer(&fs, "/db/one"), writer(&fs, "/db/other"));
    let [first, both, last] = [rows(0..10, 50), rows(10..300, 40), rows(300..310, 50)];
    one.push(&first).unwrap();
    other.push(&rows(9..10, 3)).unwrap();
    one.lead(&mut other).unwrap();
    one.push_both(&mut other, &both, 0..both.len()).unwrap();
    one.part(&mut other).unwrap();
    one.push(&last).unwrap();
    other.push(&rows(305..306, 9)).unwrap();
    let rows_of = |writer: &SegmentWriter| {
        let open = writer.open.as_ref().unwrap();
        (open.section.rows, open.section.pages.iter().map(|page| page.rows).collect::<Vec<_>>())
    };
    assert_eq!(rows_of(&one), (500 + 9240, vec![500, 3080, 3080, 3080]));
    assert_eq!(rows_of(&other), (3 + 9240, vec![3, 3080, 3080, 3080]));
    let bytes = finish(&fs, [one, other]);
    for (bytes, path, expected) in [(&bytes[0], "/db/one", 12_600), (&bytes[1], "/db/other", 11_612)] {
        let segment = crate::segment::tests::open_bytes(bytes).unwrap();
        segment.verify().unwrap();
        assert_eq!(segment.summary().rows, expected, "{path}");
    }
}

#[test]
fn writers_out_of_step_refuse() {
    let fs = SimFs::default();
    let (mut one, mut other) = (writer(&fs, "/db/one"), writer(&fs, "/db/other"));
    let block = rows(0..2, 3);
    let is_refused = |outcome: Result<()>| outcome.unwrap_err().kind() == ErrorKind::Internal;
    assert!(is_refused(one.push_both(&mut other, &block, 0..6)));
    assert!(is_refused(one.part(&mut other)));
    one.lead(&mut other).unwrap();
    assert!(is_refused(one.lead(&mut other)));
    assert!(is_refused(other.push(&block)), "its open page is elsewhere");
    let mut texts = StrColumn::default();
    (0..6).for_each(|_| texts.push("x"));
    let text = Column { key: ColumnKey::value(FieldId(2)), values: Values::Str(texts), valid: None };
    let with_texts = RowBlock { columns: vec![text], ..block.clone() };
    assert!(is_refused(one.push_both(&mut other, &with_texts, 0..6)));
    assert!(is_refused(other.end(&key_of)));
}
