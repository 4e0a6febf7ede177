//! Laws of the codecs: what goes in comes out bit for bit, from every encoding; bytes that are not what was
//! written give errors or values, never a panic.

#![expect(clippy::indexing_slicing, reason = "a test that indexes past its own data should fail")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::model::{Histogram, Uniques, UniquesRef, ValueRef};
use crate::testing::Scale;

fn encoded(values: &Values, valid: Option<&[bool]>) -> (Encoding, Vec<u8>) {
    let mut bytes = Vec::new();
    let encoding =
        encode(&Source { values, valid, codes: None, packing: Packing::Fast }, &mut bytes).unwrap();
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
        Values::Uniques(values) => match values.get(index).unwrap() {
            UniquesRef::Listed(entries) => entries.iter().map(|entry| u64::from(*entry)).collect(),
            UniquesRef::Folded(ranks) => ranks.iter().map(|rank| u64::from(*rank)).collect(),
        },
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
    assert_eq!(check(Values::U64(vec![u64::MAX; 2])), Encoding::Const);
    assert_eq!(check(Values::U64(vec![u64::MAX])), Encoding::Plain, "a varint is longer");
    assert_eq!(
        check(Values::I64((0..4096).map(|i| 1_700_000_000_000 - i * 10_000).collect())),
        Encoding::Affine
    );
    assert_eq!(check(Values::U64(vec![u64::MAX, 0, 1])), Encoding::Affine);
    assert_eq!(check(Values::I64((0..4096).map(|i| (i % 60) * 10).collect())), Encoding::Runs);
    let millis =
        noise(1).take(4096).map(|n| 1_700_000_000_000_000_000 + (n % 86_400_000).cast_signed() * 1_000_000);
    assert_eq!(check(Values::I64(millis.collect())), Encoding::Pfor);
    let rising = noise(1).scan(0i64, |time, n| {
        *time += (n % 1000).cast_signed() + 1;
        Some(*time)
    });
    let rising: Vec<i64> = rising.take(4096).collect();
    assert_eq!(check(Values::I64(rising.clone())), Encoding::Pfor, "by differences");
    // Of two series, and of one that goes up and down.
    assert_eq!(check(Values::I64([rising.clone(), rising].concat())), Encoding::Pfor);
    let walk = noise(8).scan(1i64 << 40, |at, n| {
        *at += (n % 1001).cast_signed() - 500;
        Some(*at)
    });
    assert_eq!(check(Values::I64(walk.take(4096).collect())), Encoding::Pfor);
    let gauge = noise(8).scan(50i64, |at, n| {
        *at += i64::from(n.trailing_zeros()) - 1;
        Some(*at)
    });
    assert_eq!(check(Values::I64(gauge.take(4096).collect())), Encoding::Huffman, "small steps");
    let rare: Vec<u64> = noise(9).take(4096).map(|n| u64::from(n.trailing_zeros())).collect();
    assert_eq!(check(Values::U64(rare)), Encoding::Huffman, "large numbers are rare");
    assert_eq!(check(Values::U64(noise(1).take(4096).map(|n| 1 << (n % 40)).collect())), Encoding::Scaled);
    let few: Vec<u64> = noise(9).take(10).map(|n| n >> 32).collect();
    let few_large = noise(1).take(4096).map(|n| few[n as usize % few.len()]).collect();
    assert_eq!(check(Values::U64(few_large)), Encoding::Scaled, "a tenth of their bits");
    assert_eq!(check(Values::U64(noise(2).take(4096).collect())), Encoding::Plain);
    assert_eq!(check(Values::I64(vec![i64::MIN, i64::MAX, 0, -1, 1, i64::MAX, i64::MIN])), Encoding::Pfor);
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
    assert_eq!(check(Values::F64(full)), Encoding::Plain);
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

/// No column is written so. It was read as one with flags, and written again as one without: another value.
#[test]
fn flags_that_are_all_true_are_no_flags() {
    let values = Values::Bool(vec![true, false]);
    let mut bytes = vec![SOME_VALID];
    put_with_len(&mut bytes, |out| bools::encode(&[true, true], out)).unwrap();
    let dense = encoded(&values, None).1.split_off(1);
    bytes.extend(dense);
    assert_eq!(decode(Kind::Bool, 2, None, &bytes).unwrap(), (values, None));
    assert_eq!(decode_validity(2, &bytes).unwrap(), None);
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
    let encoding = encode(
        &Source { values: &values, valid: None, codes: Some(&codes), packing: Packing::Dense },
        &mut bytes,
    )
    .unwrap();
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
        Values::U64(noise(14).take(300).map(|n| u64::from(n.trailing_zeros())).collect()),
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
        vec(any::<u64>().prop_map(|n| i64::from(n.trailing_zeros()) << (n >> 60)), 60..400),
        vec(any::<u64>().prop_map(|n| (n >> 40 >> n.leading_zeros().min(23)).cast_signed()), 60..400),
        vec(any::<u64>().prop_map(|n| i64::from(n.trailing_zeros()) - 1), 60..400).prop_map(|mut steps| {
            steps.iter_mut().fold(0, |at, step| {
                *step += at;
                *step
            });
            steps
        }),
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
        any_uniques(1).prop_map(Values::Uniques),
    ]
}

fn any_uniques(rows_min: usize) -> impl Strategy<Value = UniquesColumn> {
    let sketch = prop_oneof![6 => 1i64..40, 2 => 900i64..1024, 1 => 1025i64..9000];
    vec((any::<i32>(), sketch), rows_min..20).prop_map(|sketches| {
        let mut column = UniquesColumn::default();
        for (first, count) in sketches {
            let mut uniques = Uniques::default();
            (0..count).for_each(|value| uniques.add(ValueRef::Int(value + i64::from(first))));
            column.push(uniques.view());
        }
        column
    })
}

/// Bytes of the values as they are in memory: the least that a codec without any idea would write.
fn raw_bytes(values: &Values, valid: Option<&[bool]>) -> usize {
    let is_valid = |index: &usize| valid.is_none_or(|valid| valid[*index]);
    let rows = (0..values.len()).filter(is_valid);
    let bitmap = valid.map_or(0, |valid| valid.len().div_ceil(8));
    let values = match values {
        Values::F64(_) | Values::I64(_) | Values::U64(_) => rows.count() * 8,
        Values::Bool(_) => rows.count().div_ceil(8),
        Values::Str(texts) => rows.map(|row| 4 + texts.get(row).len()).sum(),
        Values::Hist(hists) => {
            let buckets = |row| hists.get(row).map_or(0, |hist| hist.positive.len() + hist.negative.len());
            rows.map(|row| 16 + 12 * buckets(row)).sum()
        }
        Values::Uniques(sketches) => rows
            .map(|row| match sketches.get(row).unwrap() {
                // A number and a rank each: of a few, numbers take eight bytes.
                UniquesRef::Listed(entries) => 8 + 9 * entries.len(),
                UniquesRef::Folded(ranks) => 8 + ranks.len(),
            })
            .sum(),
    };
    bitmap + values
}

/// The laws of a codec, over many columns: bits come back, and no column is much longer than its values.
fn check_laws(columns: impl Strategy<Value = Values>) {
    let cases = Scale::asked().of(2_000, 100_000, 100_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let holes = (vec(any::<bool>(), 600), 0u8..3);
    let law = |(values, (flags, share)): (Values, (Vec<bool>, u8))| {
        let valid: Vec<bool> = flags.iter().take(values.len()).map(|flag| *flag || share == 2).collect();
        let valid = (share > 0).then_some(valid.as_slice());
        let encoding = check_with(&values, valid);
        let (len, raw) = (encoded(&values, valid).1.len(), raw_bytes(&values, valid));
        // Columns of several streams have an encoding and a length for each.
        let heads = 16;
        prop_assert!(len <= raw + heads, "{:?}: {} bytes for {}", encoding, len, raw);
        Ok(())
    };
    TestRunner::new(config).run(&(columns, holes), law).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn floats_keep_their_bits_and_size() {
    let special = [
        f64::NAN,
        f64::from_bits(0xfff8_0000_0000_0042),
        -0.0,
        0.0,
        f64::INFINITY,
        f64::MIN_POSITIVE,
        5e-324,
    ];
    let specials = vec(prop::sample::select(special.to_vec()), 0..50);
    check_laws(prop_oneof![4 => any_floats(), 1 => specials].prop_map(Values::F64));
}

#[test]
fn signed_integers_keep_their_bits_and_size() {
    check_laws(any_integers().prop_map(Values::I64));
}

#[test]
fn unsigned_integers_keep_their_bits_and_size() {
    check_laws(
        any_integers().prop_map(|values| Values::U64(values.into_iter().map(i64::cast_unsigned).collect())),
    );
}

#[test]
fn bools_keep_their_bits_and_size() {
    let runs = vec((any::<bool>(), 1usize..60), 0..10)
        .prop_map(|runs| runs.into_iter().flat_map(|(value, len)| vec![value; len]).collect());
    check_laws(prop_oneof![vec(any::<bool>(), 0..600), runs].prop_map(Values::Bool));
}

#[test]
fn texts_keep_their_bits_and_size() {
    let texts = prop_oneof![vec(".{0,12}", 0..60), vec("(GET|PUT) /[a-c]{1,3}", 0..60)];
    check_laws(texts.prop_map(|texts| Values::Str(texts_of(&texts))));
}

#[test]
fn histograms_keep_their_bits_and_size() {
    check_laws(vec(any_histogram(), 0..40).prop_map(|hists| Values::Hist(hists.into_iter().collect())));
}

#[test]
fn uniques_keep_their_bits_and_size() {
    check_laws(any_uniques(0).prop_map(Values::Uniques));
}

#[test]
fn encode_after_writes_what_encode_does() {
    let values = Values::I64((0..300).collect());
    let valid =
        |step: usize| -> Vec<bool> { (0..300).map(|row| !(row as usize).is_multiple_of(step)).collect() };
    let mut last = LastValidity::default();
    for valid in [valid(3), valid(3), valid(5), vec![true; 300], valid(5), vec![false; 300], valid(3)] {
        let source = Source { values: &values, valid: Some(&valid), codes: None, packing: Packing::Fast };
        let (mut alone, mut after) = (Vec::new(), Vec::new());
        encode(&source, &mut alone).unwrap();
        encode_after(&mut last, &source, &mut after).unwrap();
        assert_eq!(after, alone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_anything_never_panics(
        values in any_values(),
        noise in vec(any::<u8>(), 0..64),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        kind in 0u8..7,
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
