//! The manifest: the one small file that says which files make up the database. Replacing it is the moment of
//! truth; a file it does not name is an orphan. Knows nothing of what is inside the files. Layout:
//! `docs/format.md`.
//!
//! Order of events: change a copy, [`Manifest::store`] checks it, writes a temporary, syncs it, renames it over
//! the old one and syncs the directory. [`Manifest::load`] checks again.

#![warn(clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::cell_set::{self, CELL_RULE_BYTES_MIN, CellRule};
use crate::codec::bytes::Reader;
use crate::fs::{Fs, read_all, replace};
use crate::model::{HOUR_NS, Tier, TimeRange};
use crate::options::Retention;
use crate::rules::{self, RuleSet, decode_retention, encode_retention};
use crate::tombstone::{TOMBSTONE_BYTES, Tombstone};
use crate::version::segment_name;
use crate::wal::Extent;
use crate::{Error, ErrorKind, Result};

/// Name of the file.
pub const FILE_NAME: &str = "MANIFEST";
/// Version of the file that this build writes; it reads all from 1 on.
pub const VERSION: u8 = 5;
/// First version with tombstones.
const VERSION_TOMBSTONES: u8 = 2;
/// First version with rules of retention. A manifest without any is written as of the version before.
const VERSION_RULES: u8 = 3;
/// First version with rules for cells. A manifest without any is written as of a version before.
const VERSION_CELL_RULES: u8 = 4;
/// First version that names the newest log file. A manifest without any is written as of a version before.
const VERSION_NEWEST_LOG: u8 = 5;

const MAGIC: &[u8; 6] = b"ICEMAN";
const FILE_BYTES_MAX: u64 = 256 << 20;
const SEGMENT_BYTES: usize = 69;
/// A span without covers.
const SPAN_BYTES: usize = 20;

/// What is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Above the number of every file this manifest names.
    pub next_file: u64,
    /// First sequence number of the log that segments do not cover.
    pub wal_floor: u64,
    /// How long each tier is kept.
    pub retention: Retention,
    /// Per tier (raw, 1m, 5m, 1h): data before this time is dropped; `i64::MIN` for none.
    pub floors_ns: [i64; 4],
    /// The segments, in order of their making.
    pub segments: Vec<SegmentMeta>,
    /// What is rolled up, sorted by time.
    pub rolled: Vec<RolledSpan>,
    /// Numbers of the catalog files, in order of their making.
    pub catalog_files: Vec<u64>,
    /// What is deleted and not purged yet, in order of the deletes.
    pub tombstones: Vec<Tombstone>,
    /// Rules of retention and what they hide, in order of their making; the last is in force.
    pub rule_sets: Arc<[RuleSet]>,
    /// What the cells of which fields keep, the first that matches: of hours that are rolled from now on.
    pub cell_rules: Arc<[CellRule]>,
    /// Number of the newest log file that may hold acknowledged records: it must be there, with its header. 0 when none
    /// was named yet.
    pub newest_log: u64,
}

/// A live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMeta {
    /// Number of its file.
    pub id: u64,
    /// Rows or cells of which width.
    pub tier: Tier,
    /// The partition it belongs to.
    pub partition: TimeRange,
    /// Earliest timestamp.
    pub min_ts_ns: i64,
    /// Latest timestamp.
    pub max_ts_ns: i64,
    /// Rows or cells.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Checksum of its footer, so that a file of another life is noticed.
    pub footer_crc: u32,
    /// Rows of a later generation win.
    pub generation: u64,
}

/// A span of time whose cells are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledSpan {
    /// Aligned to hours.
    pub span: TimeRange,
    /// Raw segments whose rows in the span are in the cells.
    pub covers: Vec<u64>,
}

impl Manifest {
    /// The manifest of an empty database.
    pub fn new(retention: Retention) -> Self {
        Self {
            next_file: 1,
            wal_floor: 1,
            retention,
            floors_ns: [i64::MIN; 4],
            segments: Vec::new(),
            rolled: Vec::new(),
            catalog_files: Vec::new(),
            tombstones: Vec::new(),
            rule_sets: Arc::default(),
            cell_rules: Arc::default(),
            newest_log: 0,
        }
    }

    /// How far the log reaches.
    pub(crate) fn log_extent(&self) -> Extent {
        Extent { floor_seq: self.wal_floor, newest_file: self.newest_log }
    }

    /// The longest of the ages of all classes: that of files.
    pub(crate) fn kept(&self) -> Retention {
        rules::longest(self.retention, &self.rule_sets)
    }

    /// Whether a segment or catalog file with this number is live.
    pub(crate) fn names(&self, number: u64) -> bool {
        self.catalog_files.contains(&number) || self.segments.iter().any(|segment| segment.id == number)
    }

    /// Reads the manifest of a database directory; `None` when there is none.
    ///
    /// # Errors
    /// `Corruption` when the file is damaged or contradicts itself; `Conflict` when it is of another version.
    pub fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        if !fs.has(&path)? {
            return Ok(None);
        }
        let bytes = read_all(fs, &path, FILE_BYTES_MAX)?;
        let manifest = Self::decode(&bytes).map_err(|error| error.context(path.display()))?;
        manifest.check().map_err(|error| Error::corruption(error).context(path.display()))?;
        Ok(Some(manifest))
    }

    /// Replaces the manifest of a database directory, durably.
    ///
    /// # Errors
    /// `Internal` when the manifest contradicts itself, and nothing is written; those of the file system, and then
    /// the old or the new manifest is in force, and only a reload tells which.
    pub fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        self.check()?;
        replace(fs, &dir.join(FILE_NAME), &self.encode())
    }

    /// Checks that the manifest does not contradict itself.
    ///
    /// # Errors
    /// `Internal`, naming the first rule that is broken.
    pub fn check(&self) -> Result<()> {
        self.check_ids_are_unique()?;
        self.check_numbers_are_below_next()?;
        self.check_partitions_hold_their_rows()?;
        self.check_spans_are_disjoint_hours()?;
        self.check_tombstones_name_live_segments()?;
        if let Err(error) = cell_set::check(&self.cell_rules) {
            return broken(error.to_string());
        }
        rules::fault(&self.rule_sets).map_or(Ok(()), |rule| broken(rule.to_owned()))
    }

    fn check_ids_are_unique(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        if let Some(segment) = self.segments.iter().find(|segment| !seen.insert(segment.id)) {
            return broken(format!("segment {} is listed twice", segment.id));
        }
        let mut seen = BTreeSet::new();
        if let Some(number) = self.catalog_files.iter().find(|number| !seen.insert(**number)) {
            return broken(format!("catalog file {number} is listed twice"));
        }
        Ok(())
    }

    fn check_numbers_are_below_next(&self) -> Result<()> {
        let numbers =
            self.segments.iter().map(|segment| segment.id).chain(self.catalog_files.iter().copied());
        let numbers = numbers.chain(self.tombstones.iter().map(|tombstone| tombstone.id));
        match numbers.max() {
            Some(newest) if self.next_file <= newest => {
                broken(format!("file {newest} is listed, but the next file is {}", self.next_file))
            }
            _ => Ok(()),
        }
    }

    fn check_partitions_hold_their_rows(&self) -> Result<()> {
        for segment in &self.segments {
            let SegmentMeta { id, tier, partition, min_ts_ns, max_ts_ns, .. } = *segment;
            if partition.is_empty() || max_ts_ns < min_ts_ns {
                return broken(format!("segment {id} has an empty partition or range of time"));
            }
            // A cell is filed by its left edge; only raw rows must lie inside themselves.
            if tier == Tier::Raw && !(partition.contains(min_ts_ns) && partition.contains(max_ts_ns)) {
                return broken(format!("segment {id} has rows outside its partition"));
            }
        }
        Ok(())
    }

    fn check_spans_are_disjoint_hours(&self) -> Result<()> {
        let mut end_ns = i64::MIN;
        for RolledSpan { span, .. } in &self.rolled {
            let is_aligned = span.start_ns.rem_euclid(HOUR_NS) == 0 && span.end_ns.rem_euclid(HOUR_NS) == 0;
            if span.is_empty() || !is_aligned {
                return broken(format!(
                    "rolled span {} to {} is not whole hours",
                    span.start_ns, span.end_ns
                ));
            }
            if span.start_ns < end_ns {
                return broken(format!("rolled span from {} begins before the last one ends", span.start_ns));
            }
            end_ns = span.end_ns;
        }
        Ok(())
    }

    fn check_tombstones_name_live_segments(&self) -> Result<()> {
        let live: BTreeSet<u64> = self.segments.iter().map(|segment| segment.id).collect();
        let mut seen = BTreeSet::new();
        for tombstone in &self.tombstones {
            let id = tombstone.id;
            if !seen.insert(id) {
                return broken(format!("tombstone {id} is listed twice"));
            }
            if let Some(rule) = tombstone.fault() {
                return broken(format!("tombstone {id} {rule}"));
            }
            if let Some(gone) = tombstone.pending.iter().find(|segment| !live.contains(*segment)) {
                return broken(format!("tombstone {id} names segment {gone}, which is not live"));
            }
        }
        Ok(())
    }

    /// The oldest version that holds all there is, so that an older icecore reads what it can.
    fn version(&self) -> u8 {
        match (self.rule_sets.is_empty(), self.cell_rules.is_empty(), self.newest_log) {
            (_, _, 1..) => VERSION_NEWEST_LOG,
            (_, false, 0) => VERSION_CELL_RULES,
            (false, true, 0) => VERSION_RULES,
            (true, true, 0) => VERSION_TOMBSTONES,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + SEGMENT_BYTES * self.segments.len());
        out.extend_from_slice(MAGIC);
        let version = self.version();
        out.push(version);
        put_u64(&mut out, self.next_file);
        put_u64(&mut out, self.wal_floor);
        encode_retention(self.retention, &mut out);
        for floor_ns in self.floors_ns {
            put_i64(&mut out, floor_ns);
        }
        put_u64(&mut out, self.segments.len() as u64);
        for segment in &self.segments {
            segment.encode(&mut out);
        }
        put_u64(&mut out, self.rolled.len() as u64);
        for RolledSpan { span, covers } in &self.rolled {
            put_i64(&mut out, span.start_ns);
            put_i64(&mut out, span.end_ns);
            put_numbers(&mut out, covers);
        }
        put_numbers(&mut out, &self.catalog_files);
        put_u64(&mut out, self.tombstones.len() as u64);
        for tombstone in &self.tombstones {
            tombstone.encode(&mut out);
        }
        if VERSION_RULES <= version {
            put_u64(&mut out, self.rule_sets.len() as u64);
            self.rule_sets.iter().for_each(|set| set.encode(&mut out));
        }
        if VERSION_CELL_RULES <= version {
            put_u64(&mut out, self.cell_rules.len() as u64);
            self.cell_rules.iter().for_each(|rule| rule.encode(&mut out));
        }
        if VERSION_NEWEST_LOG <= version {
            put_u64(&mut out, self.newest_log);
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(Error::corruption(format!("manifest of {} bytes is cut short", bytes.len())));
        };
        if crc32fast::hash(body).to_le_bytes() != *crc {
            return Err(Error::corruption("manifest checksum does not match"));
        }
        let Some(body) = body.strip_prefix(MAGIC) else {
            return Err(Error::corruption("manifest does not begin with its magic"));
        };
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if !(1..=VERSION).contains(&version) {
            let message = format!("manifest version {version} is not known, this build reads 1 to {VERSION}");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let manifest = Self {
            next_file: reader.u64()?,
            wal_floor: reader.u64()?,
            retention: decode_retention(&mut reader)?,
            floors_ns: [reader.i64()?, reader.i64()?, reader.i64()?, reader.i64()?],
            segments: take_many(&mut reader, SEGMENT_BYTES, SegmentMeta::decode)?,
            rolled: take_many(&mut reader, SPAN_BYTES, take_span)?,
            catalog_files: take_many(&mut reader, 8, Reader::u64)?,
            tombstones: match version < VERSION_TOMBSTONES {
                true => Vec::new(),
                false => take_many(&mut reader, TOMBSTONE_BYTES, Tombstone::decode)?,
            },
            rule_sets: match version < VERSION_RULES {
                true => Arc::default(),
                false => take_many(&mut reader, rules::SET_BYTES_MIN, RuleSet::decode)?.into(),
            },
            cell_rules: match version < VERSION_CELL_RULES {
                true => Arc::default(),
                false => take_many(&mut reader, CELL_RULE_BYTES_MIN, CellRule::decode)?.into(),
            },
            newest_log: match version < VERSION_NEWEST_LOG {
                true => 0,
                false => reader.u64()?,
            },
        };
        reader.finish()?;
        if VERSION_NEWEST_LOG <= version && manifest.newest_log == 0 {
            return Err(Error::corruption(format!("manifest of version {version} names no log file")));
        }
        Ok(manifest)
    }
}

impl SegmentMeta {
    /// Name of its file.
    pub fn file_name(&self) -> String {
        segment_name(self.id)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.id);
        out.push(match self.tier {
            Tier::Raw => 0,
            Tier::M1 => 1,
            Tier::M5 => 2,
            Tier::H1 => 3,
        });
        put_i64(out, self.partition.start_ns);
        put_i64(out, self.partition.end_ns);
        put_i64(out, self.min_ts_ns);
        put_i64(out, self.max_ts_ns);
        put_u64(out, self.rows);
        put_u64(out, self.bytes);
        out.extend_from_slice(&self.footer_crc.to_le_bytes());
        put_u64(out, self.generation);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            id: reader.u64()?,
            tier: match reader.u8()? {
                0 => Tier::Raw,
                1 => Tier::M1,
                2 => Tier::M5,
                3 => Tier::H1,
                other => return Err(Error::corruption(format!("tier {other} is not known"))),
            },
            partition: TimeRange::new(reader.i64()?, reader.i64()?),
            min_ts_ns: reader.i64()?,
            max_ts_ns: reader.i64()?,
            rows: reader.u64()?,
            bytes: reader.u64()?,
            footer_crc: reader.u32()?,
            generation: reader.u64()?,
        })
    }
}

fn broken(rule: String) -> Result<()> {
    Err(Error::new(ErrorKind::Internal, format!("manifest contradicts itself: {rule}")))
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    put_u64(out, numbers.len() as u64);
    for number in numbers {
        put_u64(out, *number);
    }
}

/// A count and that many entries of at least `bytes_min` bytes.
fn take_many<'a, V>(
    reader: &mut Reader<'a>,
    bytes_min: usize,
    take: impl Fn(&mut Reader<'a>) -> Result<V>,
) -> Result<Vec<V>> {
    let count = reader.u64()?;
    let count = reader.count_of(count, bytes_min)?;
    (0..count).map(|_| take(reader)).collect()
}

fn take_span(reader: &mut Reader<'_>) -> Result<RolledSpan> {
    let span = TimeRange::new(reader.i64()?, reader.i64()?);
    Ok(RolledSpan { span, covers: take_many(reader, 8, Reader::u64)? })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may fail by panic")]
mod tests;
