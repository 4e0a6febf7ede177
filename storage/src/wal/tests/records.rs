//! Payloads come back as they went in; hostile ones are refused.

use proptest::prelude::*;

use super::super::record::{
    DEFINITIONS, PAYLOAD_BYTES_MAX, PLAIN_BYTES_MAX, ROWS, check_size, decode, encode_definitions,
    encode_rows,
};
use super::*;
use crate::ErrorKind;
use crate::model::{Column, ColumnKey, FieldId, FieldType, RowBlock, SeriesId, SeriesKey, StrColumn, Values};

fn values(rows: usize) -> impl Strategy<Value = Values> {
    prop_oneof![
        prop::collection::vec(any::<u64>(), rows)
            .prop_map(|bits| Values::F64(bits.into_iter().map(f64::from_bits).collect())),
        prop::collection::vec(any::<i64>(), rows).prop_map(Values::I64),
        prop::collection::vec(any::<u64>(), rows).prop_map(Values::U64),
        prop::collection::vec(any::<bool>(), rows).prop_map(Values::Bool),
        prop::collection::vec(".{0,6}", rows).prop_map(|texts| {
            let mut column = StrColumn::default();
            texts.iter().for_each(|text| column.push(text));
            Values::Str(column)
        }),
    ]
}

fn column(rows: usize) -> impl Strategy<Value = Column> {
    let valid = prop::option::of(prop::collection::vec(any::<bool>(), rows));
    (any::<u16>(), values(rows), valid).prop_map(move |(field, values, valid)| {
        // Rows without a value hold the default, as the decoder gives it.
        let mut column = Column { key: ColumnKey::value(FieldId(field)), values: values.empty_like(), valid };
        for row in 0..rows {
            if column.valid.as_ref().is_none_or(|valid| valid[row]) {
                column.values.push_from(&values, row);
            } else {
                column.values.push_default();
            }
        }
        column
    })
}

fn block() -> impl Strategy<Value = RowBlock> {
    (0_usize..80).prop_flat_map(|rows| {
        let series = prop::collection::vec(any::<u32>().prop_map(SeriesId), rows);
        let ts_ns = prop::collection::vec(any::<i64>(), rows);
        let columns = prop::collection::vec(column(rows), 0..5);
        (series, ts_ns, columns).prop_map(|(series, ts_ns, columns)| RowBlock { series, ts_ns, columns })
    })
}

fn definitions() -> Vec<Definition> {
    let key = SeriesKey::new("cpu", [("host", "a"), ("zone", "b")]).unwrap();
    vec![
        Definition::Measurement { id: MeasurementId(u32::MAX), name: Arc::from("cpu") },
        Definition::Field {
            measurement: MeasurementId(7),
            id: FieldId(u16::MAX),
            name: Arc::from("usage"),
            field_type: FieldType::UInt,
        },
        Definition::Series { id: SeriesId(300), measurement: MeasurementId(7), key: Arc::new(key) },
        Definition::Left { first: SeriesId(7), count: u32::MAX },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rows_decoded_are_bit_exact(blocks in prop::collection::vec((any::<u32>().prop_map(MeasurementId), block()), 0..4)) {
        let mut bytes = Vec::new();
        encode_rows(&blocks, &mut bytes);
        let Record::Rows(found) = decode(ROWS, &bytes).unwrap() else { panic!("not rows") };
        // Debug tells NaN payloads apart no better than `==`; the bytes do.
        let mut again = Vec::new();
        encode_rows(&found, &mut again);
        prop_assert_eq!(&again, &bytes);
        for ((_, block), (_, found)) in blocks.iter().zip(&found) {
            prop_assert_eq!(&block.series, &found.series);
            prop_assert_eq!(&block.ts_ns, &found.ts_ns);
            for (column, found) in block.columns.iter().zip(&found.columns) {
                prop_assert_eq!(column.key, found.key);
                prop_assert_eq!(&column.valid, &found.valid);
                match (&column.values, &found.values) {
                    (Values::F64(values), Values::F64(found)) => {
                        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                        prop_assert_eq!(bits(values), bits(found));
                    }
                    (values, found) => prop_assert_eq!(values, found),
                }
            }
        }
    }

    #[test]
    fn hostile_payload_never_panics(record_type in 0_u8..4, mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first &= 1;
        }
        drop(decode(record_type, &bytes));
    }

    #[test]
    fn damaged_rows_never_panic(block in block(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        encode_rows(&[(MeasurementId(1), block)], &mut bytes);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        drop(decode(ROWS, &bytes));
    }
}

#[test]
fn definitions_decoded_are_equal() {
    for count in [1, 3, 300] {
        let many: Vec<Definition> = definitions().into_iter().cycle().take(count).collect();
        let mut bytes = Vec::new();
        encode_definitions(&many, &mut bytes);
        assert_eq!(decode(DEFINITIONS, &bytes).unwrap(), Record::Definitions(many));
    }
}

#[test]
fn definitions_cut_or_with_a_tail_are_corruption() {
    let mut bytes = Vec::new();
    encode_definitions(&definitions(), &mut bytes);
    for len in 0..bytes.len() {
        assert_eq!(
            decode(DEFINITIONS, &bytes[..len]).unwrap_err().kind(),
            ErrorKind::Corruption,
            "cut at {len}"
        );
    }
    bytes.push(0);
    assert_eq!(decode(DEFINITIONS, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn rows_that_repeat_are_compressed() {
    let rows = 1000;
    let column =
        Column { key: ColumnKey::value(FieldId(0)), values: Values::F64(vec![1.5; rows]), valid: None };
    let block = RowBlock { series: vec![SeriesId(5); rows], ts_ns: vec![1; rows], columns: vec![column] };
    let mut bytes = Vec::new();
    encode_rows(&[(MeasurementId(1), block.clone())], &mut bytes);
    assert!(bytes.len() < 200, "{}", bytes.len());
    assert_eq!(decode(ROWS, &bytes).unwrap(), Record::Rows(vec![(MeasurementId(1), block)]));
}

#[test]
fn rows_of_version_1_keep_their_bytes() {
    let float = Column {
        key: ColumnKey::value(FieldId(3)),
        values: Values::F64(vec![1.0, 0.0]),
        valid: Some(vec![true, false]),
    };
    let int = Column { key: ColumnKey::value(FieldId(300)), values: Values::I64(vec![-1, 1]), valid: None };
    let block =
        RowBlock { series: vec![SeriesId(2), SeriesId(1)], ts_ns: vec![1, 65], columns: vec![float, int] };
    let mut bytes = Vec::new();
    encode_rows(&[(MeasurementId(9), block)], &mut bytes);
    #[rustfmt::skip]
    let golden = [
        0, 1, 9, 2, 2, 4, 1, 2, 0x80, 1,
        3, 0, 1, 0b01, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f,
        0xac, 2, 1, 0, 1, 4,
    ];
    assert_eq!(bytes, golden);
}

#[test]
fn bomb_announcing_too_much_is_refused() {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    bytes.extend_from_slice(&zstd::bulk::compress(&[0; 100], 1).unwrap());
    assert_eq!(decode(ROWS, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(check_size(&bytes).unwrap_err().kind(), ErrorKind::LimitExceeded);
    bytes.splice(1..5, 10_u32.to_le_bytes());
    assert_eq!(decode(ROWS, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
    assert!(check_size(&bytes).is_ok());
    assert_eq!(check_size(&[u8::MAX]).unwrap_err().kind(), ErrorKind::LimitExceeded);
    const { assert!(PAYLOAD_BYTES_MAX < PLAIN_BYTES_MAX) };
    assert!(check_size(&vec![0; PAYLOAD_BYTES_MAX + 1]).is_err());
}
