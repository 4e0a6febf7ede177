//! What decoders of columns take in memory for bytes that claim much: bounded by the limits of the format, and nothing
//! to speak of where the sizes alone show that the rest cannot be.
//!
//! In its own binary, because the allocator counts for a whole process. One test, so that nothing else allocates.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its bytes should fail")]

use icecore_storage::ErrorKind;
use icecore_storage::codec::{
    BUCKETS_MAX, Decoded, Encoding, Kind, Packing, Source, UNIQUES_BYTES_MAX, decode, encode,
};
use icecore_storage::model::{StrColumn, Uniques, UniquesColumn, ValueRef, Values};
use icecore_storage::segment::PAGE_ROWS_MAX;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const PAGE_BYTES: usize = 64 << 10;
/// What a column of numbers takes while it is decoded, a few times over.
const SMALL: usize = 1 << 20;
/// A bucket in memory.
const BUCKET_BYTES: usize = 16;
/// Numbers of 8 bytes that a decoder holds of each item, and a buffer that has doubled.
const TIMES: usize = 6;

fn put_varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A column without holes.
fn column(encoding: Encoding, streams: &[&[u8]], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, encoding as u8];
    for stream in streams {
        put_varint(&mut bytes, stream.len());
        bytes.extend_from_slice(stream);
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// A stream of so many times the same number as it takes.
fn all(number: usize) -> Vec<u8> {
    let mut stream = vec![Encoding::Const as u8];
    put_varint(&mut stream, number);
    stream
}

/// zstd form of bytes, that claim to be `len`.
fn squeezed(plain: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    bytes.extend_from_slice(&zstd::bulk::compress(plain, 1).unwrap());
    bytes
}

/// Decodes a page of the most rows; what came of it, and the bytes that were held at most.
fn peak_of(kind: Kind, dictionary: Option<&StrColumn>, bytes: &[u8]) -> (Result<Decoded, ErrorKind>, usize) {
    assert!(bytes.len() <= PAGE_BYTES);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let decoded = decode(kind, PAGE_ROWS_MAX, dictionary, bytes).map_err(|error| error.kind());
    (decoded, ALLOCATOR.peak_usage() - before)
}

fn check_refused(name: &str, kind: Kind, dictionary: Option<&StrColumn>, bytes: &[u8]) {
    let (decoded, peak) = peak_of(kind, dictionary, bytes);
    assert_eq!(decoded.err(), Some(ErrorKind::Corruption), "{name}");
    assert!(peak <= SMALL, "{name}: {peak} bytes");
}

#[test]
fn decoders_of_hostile_pages_take_no_more_than_the_format_allows() {
    sizes_that_cannot_be_are_refused_at_once();
    sizes_at_the_limit_are_bounded();
    damaged_columns_are_bounded();
}

fn sizes_that_cannot_be_are_refused_at_once() {
    let (zero, one, few) = (all(0), all(1), [Encoding::Plain as u8; 9]);
    let uniques = |size: usize| column(Encoding::Uniques, &[&all(size), &zero, &one, &zero], &[0]);
    check_refused("sketches beyond a page", Kind::Uniques, None, &uniques(1000));
    check_refused("a sketch with too many entries", Kind::Uniques, None, &uniques(1 << 40));
    let folded = column(Encoding::Uniques, &[&zero, &[0], &[0], &[0]], &squeezed(&[], 16 << 20));
    check_refused("folded sketches beyond a page", Kind::Uniques, None, &folded);
    let long = column(Encoding::Uniques, &[&all(256), &zero, &few, &zero], &[0]);
    check_refused("sketches whose first stream is too short", Kind::Uniques, None, &long);

    let hist = |above: usize| {
        column(Encoding::Histograms, &[&first_of_all(above), &zero, &zero, &zero, &one, &one], &[])
    };
    check_refused("a side with more buckets than floats have", Kind::Hist, None, &hist(1 << 20));

    let texts = column(Encoding::Texts, &[&zero], &squeezed(&[0; 9000], 256 << 20));
    check_refused("texts longer than their lengths", Kind::Str, None, &texts);
    let mut dictionary = StrColumn::default();
    dictionary.push(&"x".repeat(1 << 20));
    let codes = [&[0, Encoding::Codes as u8][..], &zero].concat();
    check_refused("codes of long texts", Kind::Str, Some(&dictionary), &codes);
}

/// A number in the first row, and 0 in all others.
fn first_of_all(number: usize) -> Vec<u8> {
    let mut stream = vec![Encoding::Runs as u8];
    put_varint(&mut stream, number);
    stream.push(0);
    put_varint(&mut stream, 2 * number - 1);
    stream.extend_from_slice(&[1, 0]);
    put_varint(&mut stream, PAGE_ROWS_MAX - 2);
    stream
}

fn sizes_at_the_limit_are_bounded() {
    let (zero, one) = (all(0), all(1));
    let entries = UNIQUES_BYTES_MAX / PAGE_ROWS_MAX / 4;
    let uniques = column(Encoding::Uniques, &[&all(entries), &one, &one, &zero], &[0]);
    let (decoded, peak) = peak_of(Kind::Uniques, None, &uniques);
    assert!(decoded.is_ok(), "sketches of registers 1, 2, 3 and so on");
    assert!(peak <= TIMES * UNIQUES_BYTES_MAX, "sketches: {peak} bytes");

    let above = all(BUCKETS_MAX / PAGE_ROWS_MAX);
    // Indices are signed: 0 stands in the middle.
    let hist = column(Encoding::Histograms, &[&above, &zero, &zero, &all(1 << 63), &one, &one], &[]);
    let (decoded, peak) = peak_of(Kind::Hist, None, &hist);
    assert!(decoded.is_ok(), "histograms of buckets 0, 1, 2 and so on");
    assert!(peak <= 3 * BUCKET_BYTES * BUCKETS_MAX, "histograms: {peak} bytes");
}

/// Whole columns in which single bytes are others.
fn damaged_columns_are_bounded() {
    for values in whole_columns() {
        let mut bytes = Vec::new();
        encode(&Source { values: &values, valid: None, codes: None, packing: Packing::Fast }, &mut bytes)
            .unwrap();
        // The places where sizes and headers stand, and some of the rest.
        let places = (0..bytes.len()).filter(|place| *place < 96 || place % 101 == 0);
        for (place, byte) in places.flat_map(|place| [0x00, 0x01, 0x7f, 0x80, 0xff].map(|byte| (place, byte)))
        {
            let mut damaged = bytes.clone();
            *damaged.get_mut(place).unwrap() = byte;
            let (_, peak) = peak_of(Kind::of(&values), None, &damaged);
            assert!(
                peak <= TIMES * UNIQUES_BYTES_MAX,
                "byte {place} as {byte} of {values:.0?}: {peak} bytes"
            );
        }
    }
}

fn whole_columns() -> [Values; 5] {
    let rows = PAGE_ROWS_MAX as u64;
    let noise = |row: u64| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let mut texts = StrColumn::default();
    (0..rows).for_each(|row| texts.push(&format!("text {}", row % 40)));
    let sketch = |row: u64| {
        let mut uniques = Uniques::default();
        (0..row % 7 + 1).for_each(|value| uniques.add(ValueRef::UInt(value * row)));
        uniques
    };
    let mut sketches = UniquesColumn::default();
    (0..rows).for_each(|row| sketches.push(sketch(row).view()));
    [
        Values::U64((0..rows).map(noise).collect()),
        Values::F64((0..rows).map(|row| f64::from_bits(noise(row) << 20)).collect()),
        Values::Bool((0..rows).map(|row| noise(row) & 1 == 1).collect()),
        Values::Str(texts),
        Values::Uniques(sketches),
    ]
}
