//! Laws of the codecs: what goes in comes out bit for bit, from every encoding; bytes that are not what was
//! written give errors or values, never a panic.

#![expect(clippy::indexing_slicing, reason = "a test that indexes past its own data should fail")]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::Histogram;

fn encoded(values: &Values, valid: Option<&[bool]>) -> (Encoding, Vec<u8>) {
    let mut bytes = Vec::new();
    let encoding = encode(&Source { values, valid, codes: None }, &mut bytes).unwrap();
    (encoding, bytes)
}

/// Values as bits, rows without a value as `None`, so that NaN and placeholders compare.
fn bits(values: &Values, valid: Option<&[bool]>) -> Vec<Option<Vec<u64>>> {
    let bits_of = |index: usize| match values {
        Values::F64(values) => vec![values[index].to_bits()],
        Values::I64(values) => vec![values[index].cast_unsigned()],
        Values::U64(values) => vec![values[index]],
        Values::Bool(values) => vec![u64::from(values[index])],
        Values::Str(texts) => texts.get(index).bytes().map(u64::from).collect(),
        Values::Hist(values) => {
            let hist = values.get(index).unwrap();
            let buckets = |buckets: &[crate::model::histogram::Bucket]| -> Vec<u64> {
                buckets
                    .iter()
                    .flat_map(|bucket| [i64::from(bucket.index).cast_unsigned(), bucket.count])
                    .collect()
            };
            [vec![hist.zero, hist.positive.len() as u64], buckets(hist.positive), buckets(hist.negative)]
                .concat()
        }
    };
    let is_valid = |index: usize| valid.is_none_or(|valid| valid[index]);
    (0..values.len()).map(|index| is_valid(index).then(|| bits_of(index))).collect()
}

fn check_with(values: &Values, valid: Option<&[bool]>) -> Encoding {
    let (encoding, bytes) = encoded(values, valid);
    let (decoded, found) = decode(Kind::of(values), values.len(), None, &bytes).unwrap();
    assert_eq!(bits(&decoded, found.as_deref()), bits(values, valid), "{encoding:?}");
    encoding
}

fn check(values: Values) -> Encoding {
    check_with(&values, None)
}

/// A repeatable stream of numbers without pattern.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[test]
fn integers_of_each_shape_take_their_encoding() {
    assert_eq!(check(Values::I64(vec![i64::MIN; 4096])), Encoding::Const);
    assert_eq!(check(Values::U64(vec![u64::MAX])), Encoding::Const);
    assert_eq!(
        check(Values::I64((0..4096).map(|i| 1_700_000_000_000 - i * 10_000).collect())),
        Encoding::Affine
    );
    assert_eq!(check(Values::U64(vec![u64::MAX, 0, 1])), Encoding::Affine);
    assert_eq!(check(Values::I64((0..4096).map(|i| (i % 60) * 10).collect())), Encoding::Runs);
    let millis =
        noise(1).take(4096).map(|n| 1_700_000_000_000_000_000 + (n % 86_400_000).cast_signed() * 1_000_000);
    assert_eq!(check(Values::I64(millis.collect())), Encoding::Scaled);
    assert_eq!(check(Values::U64(noise(2).take(4096).collect())), Encoding::Scaled);
    assert_eq!(check(Values::I64(vec![i64::MIN, i64::MAX, 0, -1, 1, i64::MAX, i64::MIN])), Encoding::Runs);
}

#[test]
fn floats_of_each_shape_take_their_encoding() {
    let cents: Vec<f64> = noise(3).take(4096).map(|n| (n % 10_000) as f64 / 100.0).collect();
    assert_eq!(check(Values::F64(cents.clone())), Encoding::Decimal);
    let mut holes = cents;
    holes[7] = f64::from_bits(0x7ff8_0000_0000_0042);
    holes[8] = -0.0;
    holes[4095] = f64::NEG_INFINITY;
    assert_eq!(check(Values::F64(holes)), Encoding::Decimal);
    assert_eq!(check(Values::F64(vec![f64::from_bits(0xfff8_0000_0000_0001); 4096])), Encoding::FloatBits);
    assert_eq!(check(Values::F64(vec![-0.0; 3])), Encoding::FloatBits);
    let full: Vec<f64> = noise(4).take(4096).map(f64::from_bits).collect();
    assert_eq!(check(Values::F64(full)), Encoding::Float);
    let small = noise(5).take(500).map(|n| f64::from_bits(n >> 12)).collect();
    assert_eq!(check(Values::F64(small)), Encoding::Float);
}

#[test]
fn bools_of_each_shape_take_their_encoding() {
    assert_eq!(check(Values::Bool(noise(6).take(4093).map(|n| n & 1 == 1).collect())), Encoding::Bits);
    assert_eq!(check(Values::Bool(vec![true; 4096])), Encoding::BoolNumbers);
    assert_eq!(
        check(Values::Bool(noise(7).take(4096).map(|n| n.is_multiple_of(50)).collect())),
        Encoding::BoolNumbers
    );
}

#[test]
fn sizes_on_known_shapes_stay_small() {
    let size = |values: Values| encoded(&values, None).1.len();
    assert!(size(Values::I64((0..4096).map(|i| i * 10_000_000_000).collect())) < 32);
    assert!(size(Values::I64((0..4096).map(|i| 1_000 + (i % 60) * 10_000_000_000).collect())) < 80);
    // 0.01 steps up and down: less than a byte and a half each.
    let mut level = 5_000i64;
    let walk = noise(8).take(4096).map(|n| {
        level += (n % 101).cast_signed() - 50;
        level as f64 / 100.0
    });
    assert!(size(Values::F64(walk.collect())) < 4096);
    assert!(size(Values::Bool(noise(9).take(4096).map(|n| n.is_multiple_of(50)).collect())) < 160);
}

#[test]
fn nothing_valid_is_two_bytes() {
    let (encoding, bytes) = encoded(&Values::F64(vec![1.0; 100]), Some(&[false; 100]));
    assert_eq!((encoding, bytes.len()), (Encoding::Empty, 2));
    assert_eq!(check_with(&Values::Str(texts_of(&["a", "b"])), Some(&[false, false])), Encoding::Empty);
}

fn texts_of<T: AsRef<str>>(texts: &[T]) -> StrColumn {
    let mut column = StrColumn::default();
    texts.iter().for_each(|text| column.push(text.as_ref()));
    column
}

#[test]
fn codes_are_looked_up() {
    let (values, dictionary) = (Values::Str(texts_of(&["b", "", "ä", "b"])), texts_of(&["ä", "b", ""]));
    let mut bytes = Vec::new();
    let codes = [1, 2, 0, 1];
    let encoding = encode(&Source { values: &values, valid: None, codes: Some(&codes) }, &mut bytes).unwrap();
    assert_eq!(encoding, Encoding::Codes);
    assert_eq!(decode(Kind::Str, 4, Some(&dictionary), &bytes).unwrap(), (values, None));
    let short = texts_of(&["ä", "b"]);
    assert_eq!(decode(Kind::Str, 4, Some(&short), &bytes).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(decode(Kind::Str, 4, None, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn texts_with_damaged_utf8_are_corruption() {
    let column = StrColumn { bytes: "aä".bytes().collect(), ends: vec![2, 3] };
    let mut bytes = vec![ALL_VALID];
    texts::encode(&column, &mut bytes).unwrap();
    assert_eq!(decode(Kind::Str, 2, None, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn claims_of_huge_sizes_are_refused_before_allocating() {
    // zstd form that claims 4 GiB in three bytes.
    let bytes =
        [ALL_VALID, Encoding::Texts as u8, 3, Encoding::Const as u8, 0xff, 0x7f, 1, 255, 255, 255, 255, 0];
    assert_eq!(decode(Kind::Str, 4096, None, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
    // Every row claims 2^40 buckets.
    let mut bytes = vec![ALL_VALID, Encoding::Histograms as u8];
    for value in [1u64 << 40, 0, 0] {
        put_numbers(&mut bytes, &[value; 8]).unwrap();
    }
    assert_eq!(decode(Kind::Hist, 8, None, &bytes).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn cut_bytes_are_corruption() {
    let columns = [
        Values::F64(noise(10).take(300).map(|n| (n % 1000) as f64 / 10.0).collect()),
        Values::F64(noise(11).take(300).map(f64::from_bits).collect()),
        Values::Str(texts_of(&noise(12).take(300).map(|n| format!("user-{}", n % 40)).collect::<Vec<_>>())),
        Values::Bool(noise(13).take(300).map(|n| n & 1 == 1).collect()),
    ];
    for values in columns {
        let (encoding, bytes) = encoded(&values, None);
        for len in 0..bytes.len() {
            let outcome = decode(Kind::of(&values), 300, None, &bytes[..len]);
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corruption, "{encoding:?} cut to {len}");
        }
    }
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    vec(prop_oneof![any::<f64>(), -5.0..5.0f64, Just(0.0)], 0..40).prop_map(|values| {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    })
}

fn any_floats() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        vec(any::<u64>().prop_map(f64::from_bits), 1..400),
        (0u8..12, vec(-1_000_000i64..1_000_000, 1..600)).prop_map(|(exponent, numbers)| {
            numbers.into_iter().map(|number| number as f64 / 10f64.powi(i32::from(exponent))).collect()
        }),
        vec(prop_oneof![30 => -1e3..1e3f64, 1 => Just(f64::NAN), 1 => Just(-0.0)], 1..400),
        vec(prop_oneof![Just(0.1), Just(f64::INFINITY), Just(f64::MIN_POSITIVE / 8.0)], 1..400),
    ]
}

fn any_integers() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        vec(any::<i64>(), 1..400),
        vec(-100i64..100, 1..400),
        vec(prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)], 1..100),
        (any::<i64>(), any::<i64>(), 1..500i64)
            .prop_map(|(start, step, n)| (0..n).map(|i| start.wrapping_add(step.wrapping_mul(i))).collect()),
        (any::<i64>(), 1..1_000_000_000i64, vec(0..100_000i64, 1..400))
            .prop_map(|(start, step, grid)| grid.into_iter().map(|k| start.wrapping_add(k * step)).collect()),
    ]
}

fn any_values() -> impl Strategy<Value = Values> {
    prop_oneof![
        any_floats().prop_map(Values::F64),
        any_integers().prop_map(Values::I64),
        any_integers().prop_map(|values| Values::U64(values.into_iter().map(i64::cast_unsigned).collect())),
        vec(any::<bool>(), 1..400).prop_map(Values::Bool),
        vec(".{0,12}", 1..60).prop_map(|texts| Values::Str(texts_of(&texts))),
        vec(any_histogram(), 1..40).prop_map(|hists| Values::Hist(hists.into_iter().collect())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn column_round_trip_is_exact(values in any_values(), flags in vec(any::<bool>(), 600), share in 0u8..3) {
        let valid: Vec<bool> = flags.iter().take(values.len()).map(|flag| *flag || share == 2).collect();
        check_with(&values, (share > 0).then_some(&valid));
    }

    #[test]
    fn decoding_anything_never_panics(
        values in any_values(),
        noise in vec(any::<u8>(), 0..64),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        kind in 0u8..6,
        rows in 0usize..600,
    ) {
        let kind = Kind::from_u8(kind).unwrap();
        drop(decode(kind, rows, None, &noise));
        let (_, mut bytes) = encoded(&values, None);
        for (index, byte) in flips {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        drop(decode(Kind::of(&values), values.len(), None, &bytes));
        drop(decode(kind, rows, None, &bytes));
    }
}
