//! Catalog files: definitions on disk, a file for each step of the catalog's growth.
//!
//! Knows nothing of when a file is written or which files are live. A file is written whole and never changed:
//! temporary, fsync, rename, fsync of the directory. Reading checks the checksum before anything else, then every
//! length against the bytes that are left. The layout is described in `docs/format.md`.

#![warn(clippy::indexing_slicing)]

use std::io::Write;
use std::path::Path;

use zstd::stream::write::Encoder;

use super::definition::{Definition, RawDefinition};
use crate::codec::squeeze::can_hold;
use crate::fs::{self, Fs};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 6] = *b"ICECAT";
/// Version of the files that are written; version 1 has no series that left.
const VERSION: u16 = 2;
const VERSION_MIN: u16 = 1;
/// Magic, version, count and length of the plain payload.
const HEADER_BYTES: usize = 6 + 2 + 4 + 4;
const CRC_BYTES: usize = 4;
/// The smallest definition: kind, measurement id, length of an empty name.
const DEFINITION_BYTES_MIN: usize = 1 + 4 + 2;
/// Bounds what a file may make the reader allocate.
const PLAIN_BYTES_MAX: usize = 1 << 30;
/// Compression of data that is not compressible adds far less than this.
const FILE_BYTES_MAX: u64 = (1 << 30) + (1 << 24);
/// Series keys repeat their tags; the level hardly changes the size, but much the time.
const ZSTD_LEVEL: i32 = 1;

/// Name of the catalog file with this number.
pub fn file_name(number: u64) -> String {
    format!("series-{number:016x}.cat")
}

/// A catalog file in the making; what is added is compressed at once.
pub(super) struct FileBuilder {
    packed: Encoder<'static, Vec<u8>>,
    count: usize,
    plain_bytes: usize,
}

impl FileBuilder {
    pub(super) fn new() -> Result<Self> {
        let packed = Encoder::new(Vec::new(), ZSTD_LEVEL).map_err(cannot_compress)?;
        Ok(Self { packed, count: 0, plain_bytes: 0 })
    }

    /// Bytes of the definitions, before compression.
    pub(super) fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// Adds so many definitions, as [`RawDefinition::encode`] writes them.
    ///
    /// # Errors
    /// `LimitExceeded` when they are longer than 1 GiB with those before.
    pub(super) fn push(&mut self, count: usize, plain: &[u8]) -> Result<()> {
        self.count += count;
        self.plain_bytes += plain.len();
        if PLAIN_BYTES_MAX < self.plain_bytes {
            let message =
                format!("a catalog file of {} bytes, more than {PLAIN_BYTES_MAX}", self.plain_bytes);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        self.packed.write_all(plain).map_err(cannot_compress)
    }

    /// Writes the file, durably and whole.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn write(self, fs: &dyn Fs, dir: &Path, number: u64) -> Result<()> {
        fs::replace(fs, &dir.join(file_name(number)), &self.finish()?)
    }

    fn finish(self) -> Result<Vec<u8>> {
        let packed = self.packed.finish().map_err(cannot_compress)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + packed.len() + CRC_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for size in [self.count, self.plain_bytes] {
            // Bounded by PLAIN_BYTES_MAX: a definition is at least a byte long.
            bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes.extend_from_slice(&packed);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        Ok(bytes)
    }
}

fn cannot_compress(error: std::io::Error) -> Error {
    Error::io("cannot compress the catalog", error)
}

/// Reads a catalog file.
///
/// # Errors
/// `NotFound`; `Corruption` when the bytes are not what was written.
pub fn read(fs: &dyn Fs, dir: &Path, number: u64) -> Result<Vec<Definition>> {
    let mut definitions = Vec::new();
    read_each(fs, dir, number, &mut |bytes| {
        definitions.push(RawDefinition::decode(bytes)?.to_definition()?);
        Ok(())
    })?;
    Ok(definitions)
}

/// Reads a catalog file, handing over its definitions one by one without decoding series keys.
///
/// # Errors
/// As [`read`], and those of `sink`.
pub(super) fn read_raw(
    fs: &dyn Fs,
    dir: &Path,
    number: u64,
    sink: &mut dyn FnMut(RawDefinition<'_>) -> Result<()>,
) -> Result<()> {
    read_each(fs, dir, number, &mut |bytes| sink(RawDefinition::decode(bytes)?))
}

/// Takes one definition from the front of the bytes.
type TakeOne<'a> = dyn FnMut(&mut &[u8]) -> Result<()> + 'a;

fn read_each(fs: &dyn Fs, dir: &Path, number: u64, take_one: &mut TakeOne<'_>) -> Result<()> {
    let path = dir.join(file_name(number));
    let bytes = fs::read_all(fs, &path, FILE_BYTES_MAX)?;
    decode(&bytes, take_one).map_err(|error| error.context(path.display()))
}

fn decode(bytes: &[u8], take_one: &mut TakeOne<'_>) -> Result<()> {
    let Some((body, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(Error::corruption(format!("a catalog file of {} bytes is cut short", bytes.len())));
    };
    let (expected, found) = (u32::from_le_bytes(*crc), crc32fast::hash(body));
    if expected != found {
        return Err(Error::corruption(format!("checksum {found:08x} where {expected:08x} was written")));
    }
    let (count, plain_bytes, packed) = decode_header(body)?;
    let plain = zstd::bulk::decompress(packed, plain_bytes)
        .map_err(|error| Error::corruption(format!("the payload does not decompress: {error}")))?;
    if plain.len() != plain_bytes {
        let found = plain.len();
        return Err(Error::corruption(format!("{found} bytes of payload where {plain_bytes} were written")));
    }
    decode_plain(&plain, count, take_one)
}

/// Gives the number of definitions, the length of the plain payload and the compressed payload.
fn decode_header(body: &[u8]) -> Result<(usize, usize, &[u8])> {
    let Some((header, packed)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Error::corruption("the header is cut short"));
    };
    let [m0, m1, m2, m3, m4, m5, v0, v1, c0, c1, c2, c3, p0, p1, p2, p3] = *header;
    if [m0, m1, m2, m3, m4, m5] != MAGIC {
        return Err(Error::corruption("not a catalog file"));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if !(VERSION_MIN..=VERSION).contains(&version) {
        let message =
            format!("catalog format {version}; this program reads formats {VERSION_MIN} to {VERSION}");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    let plain_bytes = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
    if PLAIN_BYTES_MAX < plain_bytes
        || plain_bytes / DEFINITION_BYTES_MIN < count
        || !can_hold(packed, plain_bytes)
    {
        return Err(Error::corruption(format!("{count} definitions in {plain_bytes} bytes cannot be")));
    }
    Ok((count, plain_bytes, packed))
}

fn decode_plain(mut plain: &[u8], count: usize, take_one: &mut TakeOne<'_>) -> Result<()> {
    for index in 0..count {
        take_one(&mut plain).map_err(|error| error.context(format!("definition {index}")))?;
    }
    if !plain.is_empty() {
        return Err(Error::corruption(format!("{} bytes behind the last definition", plain.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::fs::OsFs;
    use crate::model::{FieldId, FieldType, MeasurementId, SeriesId, SeriesKey};

    fn collect(read: impl FnOnce(&mut TakeOne<'_>) -> Result<()>) -> Result<Vec<Definition>> {
        let mut definitions = Vec::new();
        read(&mut |bytes| {
            definitions.push(RawDefinition::decode(bytes)?.to_definition()?);
            Ok(())
        })?;
        Ok(definitions)
    }

    fn build(definitions: &[Definition]) -> Result<FileBuilder> {
        let mut file = FileBuilder::new()?;
        for definition in definitions {
            let mut plain = Vec::new();
            definition.encode(&mut plain)?;
            file.push(1, &plain)?;
        }
        Ok(file)
    }

    fn encode(definitions: &[Definition]) -> Result<Vec<u8>> {
        build(definitions)?.finish()
    }

    fn decode_all(bytes: &[u8]) -> Result<Vec<Definition>> {
        collect(|take_one| decode(bytes, take_one))
    }

    fn decode_all_plain(plain: &[u8], count: usize) -> Result<Vec<Definition>> {
        collect(|take_one| decode_plain(plain, count, take_one))
    }

    fn few() -> Result<Vec<Definition>> {
        let measurement = MeasurementId(0);
        let key = Arc::new(SeriesKey::new("cpu", [("host", "a"), ("zone", "é")])?);
        let (id, name, field_type) = (FieldId(0), "usage".into(), FieldType::Float);
        Ok(vec![
            Definition::Measurement { id: measurement, name: "cpu".into() },
            Definition::Field { measurement, id, name, field_type },
            Definition::Series { id: SeriesId(0), measurement, key },
            Definition::Left { first: SeriesId(1), count: 300 },
        ])
    }

    #[test]
    fn write_then_read_gives_the_same() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|error| Error::io("temporary directory", error))?;
        build(&few()?)?.write(&OsFs, dir.path(), 0x1f)?;
        assert_eq!(OsFs.list(dir.path())?, ["series-000000000000001f.cat"]);
        assert_eq!(read(&OsFs, dir.path(), 0x1f)?, few()?);
        assert_eq!(read(&OsFs, dir.path(), 1).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
        Ok(())
    }

    #[test]
    fn decode_truncated_anywhere_is_corruption() -> Result<()> {
        let bytes = encode(&few()?)?;
        for len in 0..bytes.len() {
            let result = decode_all(bytes.get(..len).unwrap_or_default());
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Corruption), "{len} bytes");
        }
        Ok(())
    }

    #[test]
    fn decode_any_bit_flipped_is_corruption() -> Result<()> {
        let bytes = encode(&few()?)?;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            let result = decode_all(&damaged);
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Corruption), "bit {bit}");
        }
        Ok(())
    }

    #[test]
    fn decode_plain_truncated_or_flipped_never_panics() -> Result<()> {
        // What the checksum would hide: the inner decoder alone must hold out against anything.
        let mut plain = Vec::new();
        for definition in few()? {
            definition.encode(&mut plain)?;
        }
        for len in 0..plain.len() {
            assert!(decode_all_plain(plain.get(..len).unwrap_or_default(), 4).is_err(), "{len} bytes");
        }
        for bit in 0..plain.len() * 8 {
            let mut damaged = plain.clone();
            if let Some(byte) = damaged.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            if let Err(error) = decode_all_plain(&damaged, 4) {
                assert_eq!(error.kind(), ErrorKind::Corruption, "bit {bit}");
            }
        }
        Ok(())
    }

    #[test]
    fn decode_newer_version_is_conflict() -> Result<()> {
        let mut bytes = encode(&few()?)?;
        bytes.truncate(bytes.len() - CRC_BYTES);
        if let Some(version) = bytes.get_mut(6) {
            *version = 3;
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(decode_all(&bytes).map_err(|error| error.kind()), Err(ErrorKind::Conflict));
        Ok(())
    }

    fn definition() -> impl Strategy<Value = Definition> {
        let name = "[a-zé ]{0,12}";
        let types = [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];
        let measurement = (any::<u32>(), name)
            .prop_map(|(id, name)| Definition::Measurement { id: MeasurementId(id), name: name.into() });
        let field = (any::<u32>(), any::<u16>(), name, prop::sample::select(types.to_vec())).prop_map(
            |(measurement, id, name, field_type)| Definition::Field {
                measurement: MeasurementId(measurement),
                id: FieldId(id),
                name: name.into(),
                field_type,
            },
        );
        let tags = prop::collection::btree_map("[a-s]{1,4}", "[a-z0-9é]{1,9}", 0..5);
        let series = (any::<u32>(), any::<u32>(), "[a-z]{1,8}", tags).prop_filter_map(
            "keys are valid",
            |(id, measurement, name, tags)| {
                let key = Arc::new(SeriesKey::new(&name, tags).ok()?);
                Some(Definition::Series { id: SeriesId(id), measurement: MeasurementId(measurement), key })
            },
        );
        let left = (any::<u32>(), any::<u32>())
            .prop_map(|(first, count)| Definition::Left { first: SeriesId(first), count });
        prop_oneof![measurement, field, series, left]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decode_of_encode_is_identity(definitions in prop::collection::vec(definition(), 0..40)) {
            let read = encode(&definitions).and_then(|bytes| decode_all(&bytes));
            prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(definitions));
        }

        #[test]
        fn decode_of_noise_with_a_good_checksum_never_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            count in 0_u32..9,
        ) {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&VERSION.to_le_bytes());
            file.extend_from_slice(&count.to_le_bytes());
            file.extend_from_slice(&100_u32.to_le_bytes());
            file.append(&mut bytes);
            file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
            if let Err(error) = decode_all(&file) {
                prop_assert_eq!(error.kind(), ErrorKind::Corruption);
            }
        }
    }
}
