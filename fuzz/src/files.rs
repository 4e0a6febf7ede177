//! Laws of files: any bytes open as data or as an error, never a panic, never memory beyond the limits of the
//! format; what was read, written again, reads the same.
//!
//! A checksum would hide the decoders behind it from the fuzzer, so the targets put right checksums in.

use std::path::Path;
use std::sync::Arc;

use icecore_storage::codec::{self, Kind, Packing, Source};
use icecore_storage::fs::{Fs, SimFs};
use icecore_storage::manifest::{self, Manifest};
use icecore_storage::model::{Uniques, Values};
use icecore_storage::segment::{PageCache, Segment};
use icecore_storage::series::file;
use icecore_storage::wal::record::{self, DEFINITIONS, ROWS, Record};

const DIR: &str = "/db";
/// Where the version stands in a manifest.
const VERSION_AT: usize = 6;

/// Checksums that [`segment`] repairs before it gives up.
const REPAIRS_MAX: usize = 64;

/// A log record: the first byte is its type.
pub fn wal_record(bytes: &[u8]) {
    let Some((&record_type, payload)) = bytes.split_first() else { return };
    let Ok(decoded) = record::decode(record_type, payload) else { return };
    let (mut written, number) = (
        Vec::new(),
        match &decoded {
            Record::Definitions(_) => DEFINITIONS,
            Record::Rows(_) => ROWS,
        },
    );
    match &decoded {
        Record::Definitions(definitions) => record::encode_definitions(definitions, &mut written),
        Record::Rows(blocks) => record::encode_rows(blocks, &mut written),
    }
    assert_eq!(number, record_type);
    record::check_size(&written).expect("what was read can be written");
    let again = record::decode(number, &written).expect("what was written can be read");
    // As text, where NaN is equal to itself.
    assert_eq!(format!("{again:?}"), format!("{decoded:?}"));
}

/// A column of sketches; the first byte is the number of rows.
pub fn uniques(bytes: &[u8]) {
    let Some((&rows, bytes)) = bytes.split_first() else { return };
    let Ok((values, valid)) = codec::decode(Kind::Uniques, usize::from(rows), None, bytes) else { return };
    let mut written = Vec::new();
    let source = Source { values: &values, valid: valid.as_deref(), codes: None, packing: Packing::Fast };
    codec::encode(&source, &mut written).expect("what was read can be written");
    let again = codec::decode(Kind::Uniques, usize::from(rows), None, &written).expect("and read");
    assert_eq!(again, (values.clone(), valid));
    let Values::Uniques(column) = values else { return };
    let (mut forward, mut backward) = (Uniques::default(), Uniques::default());
    let all: Vec<_> = column.iter().collect();
    all.iter().for_each(|sketch| forward.merge(*sketch));
    all.iter().rev().for_each(|sketch| backward.merge(*sketch));
    assert_eq!(forward, backward);
}

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR)).expect("a simulated directory");
    let path = Path::new(DIR).join(manifest::FILE_NAME);
    for bytes in [bytes.to_vec(), with_crc(bytes)] {
        fs.put(&path, &bytes);
        if let Ok(found) = Manifest::load(&fs, Path::new(DIR)) {
            let found = found.expect("the file is there");
            found.store(&fs, Path::new(DIR)).expect("what was read can be written");
            let again = Manifest::load(&fs, Path::new(DIR)).expect("what was written can be read");
            assert_eq!(again, Some(found));
            // The oldest version that holds all there is, which may be another than was read.
            let written = fs.get(&path).unwrap_or_default();
            assert!(written == bytes || written.get(VERSION_AT) != bytes.get(VERSION_AT));
        }
    }
}

/// A catalog file; behind its header the payload plain, so that the fuzzer need not know zstd.
pub fn catalog(bytes: &[u8]) {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR)).expect("a simulated directory");
    let path = Path::new(DIR).join(file::file_name(1));
    let mut packed = b"ICECAT\x02\x00".to_vec();
    if let Some((count, plain)) = bytes.split_first() {
        packed.extend_from_slice(&u32::from(*count).to_le_bytes());
        packed.extend_from_slice(&u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend_from_slice(&zstd::bulk::compress(plain, 1).expect("zstd takes any bytes"));
    }
    for bytes in [bytes.to_vec(), with_crc(bytes), with_crc(&packed)] {
        fs.put(&path, &bytes);
        if let Ok(found) = file::read(&fs, Path::new(DIR), 1) {
            let mut written = Vec::new();
            record::encode_definitions(&found, &mut written);
            let again = record::decode(DEFINITIONS, &written).expect("a log record holds the same");
            assert_eq!(format!("{again:?}"), format!("{:?}", Record::Definitions(found)));
        }
    }
}

/// A segment: opened, verified, and read whole. Checksums are put right one by one, as the errors name them.
pub fn segment(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    read_segment(&bytes);
    for _ in 0..REPAIRS_MAX {
        let Some((crc, from)) = first_bad_checksum(&bytes) else { return };
        let area = bytes.get(from..).unwrap_or_default();
        let at = area.windows(4).position(|window| window == crc.expected.to_le_bytes());
        let Some(slot) = at.and_then(|at| bytes.get_mut(from + at..from + at + 4)) else { return };
        slot.copy_from_slice(&crc.found.to_le_bytes());
        read_segment(&bytes);
    }
}

struct Checksum {
    expected: u32,
    found: u32,
}

/// The checksum that the error of opening or verifying names, and where to look for it.
fn first_bad_checksum(bytes: &[u8]) -> Option<(Checksum, usize)> {
    let error = match open_segment(bytes) {
        Ok(segment) => segment.verify().err()?,
        Err(error) => error,
    };
    let text = error.to_string();
    let (before, rest) = text.split_once("checksum ")?;
    let (found, rest) = rest.split_at_checked(8)?;
    let expected = rest.strip_prefix(", ")?.get(..8)?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let checksum = Checksum { expected: number(expected)?, found: number(found)? };
    let offset = before.rsplit_once("offset ").and_then(|(_, tail)| tail.split(':').next()?.parse().ok());
    // The trailer has the checksum of the footer.
    Some((checksum, offset.unwrap_or_else(|| bytes.len().saturating_sub(12))))
}

fn open_segment(bytes: &[u8]) -> icecore_storage::Result<Segment> {
    let fs = SimFs::default();
    fs.create_dir_all(Path::new(DIR))?;
    let path = Path::new(DIR).join("s");
    fs.put(&path, bytes);
    let fs: Arc<dyn Fs> = Arc::new(fs);
    Segment::open(&fs, &path, 1, Arc::new(PageCache::new(1 << 20)))
}

/// Reads all of a segment; whatever verifies must also be readable.
fn read_segment(bytes: &[u8]) {
    let Ok(segment) = open_segment(bytes) else { return };
    let is_good = segment.verify().is_ok();
    for section in segment.sections() {
        let series = segment.series(section);
        assert!(series.is_ok() || !is_good);
        for (index, page) in section.pages.iter().enumerate() {
            match segment.keys(section, index) {
                Ok(keys) => assert_eq!(keys.ts_ns.len(), page.rows as usize),
                Err(error) => assert!(!is_good, "verified, but: {error}"),
            }
            let columns = segment.columns(section, index);
            assert!(columns.is_ok() || !is_good);
            for info in columns.iter().flat_map(|columns| columns.iter()) {
                match segment.column(section, index, info.key) {
                    Ok(column) => {
                        let column = column.expect("the listing names the column");
                        assert_eq!(column.values.len(), page.rows as usize);
                    }
                    Err(error) => assert!(!is_good, "verified, but: {error}"),
                }
            }
        }
    }
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}
