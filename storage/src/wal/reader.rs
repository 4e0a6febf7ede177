//! Replay: reads all log files in order and hands out the records from the floor on. Changes nothing on disk, so
//! that checking a database and opening it read the log the same way.
//!
//! What counts as damage:
//! - A bad frame in the newest file is a torn tail when no frame behind it knew its group synced: those bytes were
//!   never acknowledged as durable. They are reported, and [`Writer::open`](super::Writer::open) cuts them off.
//!   The whole frames of a torn group stay; a frame is the atomic unit.
//! - Any other bad frame is corruption: a frame behind it says that its group had been synced, or a newer file is
//!   there, and a file is begun only when the one before it is synced.
//! - A newest file without a whole header is a creation that was cut short; it never held a frame. Unless the manifest
//!   names it: then it had its header, and may have had frames.
//! - The file that the manifest names as the newest is missing: it may have had frames. A file behind it is one that was
//!   begun and not named yet.
//! - A gap in the numbers of files or records is corruption, unless everything missing lies below the floor (a
//!   release whose removals a power cut undid in part).

#![warn(clippy::indexing_slicing)]

use std::path::Path;

use super::frame::{FRAME_BYTES, Frame, HEADER_BYTES, Header, file_number, file_path};
use super::record::{self, Record};
use crate::fs::{Fs, read_all};
use crate::{Error, Result};

/// Longer log files are not read; the writer rotates far below.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// How far the log reaches, as the manifest says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// First sequence number that segments do not cover.
    pub floor_seq: u64,
    /// Number of the newest file that may hold acknowledged records; 0 when none was named.
    pub newest_file: u64,
}

/// What a replay found, and where the log goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayReport {
    /// Records handed out (those from the floor on).
    pub records: u64,
    /// Sequence number of the next record.
    pub next_seq: u64,
    /// Bytes of an unacknowledged torn tail.
    pub torn_bytes: u64,
    /// Files with a whole header, oldest first.
    pub(crate) files: Vec<LogFile>,
    /// A newest file whose header is cut short.
    pub(crate) stillborn: Option<u64>,
    /// The file that the manifest names as the newest; 0 when none.
    pub(crate) named_file: u64,
    /// Group of the next append.
    pub(crate) next_group: u64,
}

impl ReplayReport {
    /// Number of the newest file, which a torn tail is of.
    pub(crate) fn newest_file(&self) -> Option<u64> {
        self.stillborn.or_else(|| self.files.last().map(|file| file.number))
    }
}

/// A log file and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) number: u64,
    /// Sequence number of the first frame, whether there is one or not.
    pub(crate) first_seq: u64,
    /// Length up to the end of the last good frame.
    pub(crate) bytes: u64,
}

impl LogFile {
    pub(crate) fn has_frames(&self) -> bool {
        (HEADER_BYTES as u64) < self.bytes
    }
}

/// Numbers of the log files in a directory, ascending; none when there is no such directory.
pub(crate) fn file_numbers(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>> {
    if !fs.has(dir)? {
        return Ok(Vec::new());
    }
    let mut numbers: Vec<u64> = fs.list(dir)?.iter().filter_map(|name| file_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads the log in `dir` and calls `apply` with each record whose sequence number is at least that of the floor, in
/// order. Holds one file in memory at a time.
///
/// # Errors
/// `Corruption`, naming file and offset, when records from the floor on are damaged or missing, or the file that the
/// manifest names; `Conflict` for files of another version; errors of the file system and of `apply`. Some records may
/// have been handed out.
pub fn replay(
    fs: &dyn Fs,
    dir: &Path,
    extent: Extent,
    apply: &mut dyn FnMut(u64, Record) -> Result<()>,
) -> Result<ReplayReport> {
    let Extent { floor_seq, newest_file } = extent;
    let numbers = file_numbers(fs, dir)?;
    if newest_file != 0 && !numbers.contains(&newest_file) {
        let error = Error::corruption("it is named by the manifest and missing");
        return Err(error.context(file_path(dir, newest_file).display()));
    }
    let report = ReplayReport {
        records: 0,
        next_seq: floor_seq.max(1),
        torn_bytes: 0,
        files: Vec::with_capacity(numbers.len()),
        stillborn: None,
        named_file: newest_file,
        next_group: 1,
    };
    let floor_seq = floor_seq.max(1);
    let mut replay = Replay { floor_seq, expected: None, report, apply };
    let headers: Vec<Option<Header>> =
        numbers.iter().map(|number| read_header(fs, &file_path(dir, *number))).collect::<Result<_>>()?;
    for (index, number) in numbers.iter().enumerate() {
        let path = file_path(dir, *number);
        let place = |error: Error| error.context(path.display());
        let next_header = headers.get(index + 1).copied().flatten();
        if let (Some(Some(header)), Some(next)) = (headers.get(index), next_header)
            && next.first_seq <= floor_seq
        {
            // Segments cover all of it: it waits for its release, and damage in it harms nobody.
            replay.skip(header, fs.open(&path)?.len()?);
            continue;
        }
        let bytes = read_all(fs, &path, FILE_BYTES_MAX)?;
        let age = if index + 1 == numbers.len() { Age::Newest } else { Age::Older };
        replay.file(*number, &bytes, age).map_err(place)?;
    }
    if let Some(expected) = replay.expected {
        replay.report.next_seq = replay.report.next_seq.max(expected.seq);
    }
    Ok(replay.report)
}

/// The header of a file; `None` when it is damaged or cut short.
fn read_header(fs: &dyn Fs, path: &Path) -> Result<Option<Header>> {
    let file = fs.open(path)?;
    let mut bytes = [0; HEADER_BYTES];
    if file.len()? < HEADER_BYTES as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, 0)?;
    Header::decode(&bytes).map_err(|error| error.context(path.display()))
}

/// Whether a later file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Newest,
    Older,
}

/// What the next frame must be.
#[derive(Debug, Clone, Copy)]
struct Expected {
    number: u64,
    seq: u64,
    group: u64,
}

struct Replay<'a> {
    floor_seq: u64,
    /// `None` before the first file.
    expected: Option<Expected>,
    report: ReplayReport,
    apply: &'a mut dyn FnMut(u64, Record) -> Result<()>,
}

impl Replay<'_> {
    /// Lists a file without reading its frames.
    fn skip(&mut self, header: &Header, bytes: u64) {
        let Header { number, first_seq, .. } = *header;
        self.report.files.push(LogFile { number, first_seq, bytes });
    }

    fn file(&mut self, number: u64, bytes: &[u8], age: Age) -> Result<()> {
        let Some(header) = Header::decode(bytes)? else {
            let is_named = number <= self.report.named_file;
            if age == Age::Newest && bytes.len() <= HEADER_BYTES && !is_named {
                self.report.stillborn = Some(number);
                self.report.torn_bytes += bytes.len() as u64;
                return Ok(());
            }
            let what = if bytes.len() < HEADER_BYTES { "cut short" } else { "damaged" };
            return Err(Error::corruption(format!("file header is {what}")));
        };
        if header.number != number {
            return Err(Error::corruption(format!("file header says it is file {:016x}", header.number)));
        }
        self.check_order(&header)?;
        let mut expected = Expected { number, seq: header.first_seq, group: header.first_group };
        let good_bytes = self.frames(bytes, age, &mut expected)?;
        self.expected = Some(expected);
        self.report.next_group = expected.group;
        self.report.torn_bytes += (bytes.len() - good_bytes) as u64;
        self.report.files.push(LogFile { number, first_seq: header.first_seq, bytes: good_bytes as u64 });
        Ok(())
    }

    /// Checks that nothing from the floor on is missing before this file, and that nothing stands twice.
    fn check_order(&self, header: &Header) -> Result<()> {
        let Header { number, first_seq, first_group } = *header;
        let is_covered = first_seq <= self.floor_seq;
        let Some(expected) = self.expected else {
            if is_covered {
                return Ok(());
            }
            let message = format!("records {} to {first_seq} before this file are missing", self.floor_seq);
            return Err(Error::corruption(message));
        };
        if first_seq < expected.seq || first_group < expected.group {
            let message = format!(
                "file begins with record {first_seq} of group {first_group}, expected at least {} of {}",
                expected.seq, expected.group
            );
            return Err(Error::corruption(message));
        }
        let is_next = number == expected.number.saturating_add(1) && first_seq == expected.seq;
        if is_next || is_covered {
            return Ok(());
        }
        let message = format!(
            "file {:016x} with record {} is missing before this one, which begins with record {first_seq}",
            expected.number.saturating_add(1),
            expected.seq
        );
        Err(Error::corruption(message))
    }

    /// Reads the frames of a file; returns where the good ones end.
    fn frames(&mut self, bytes: &[u8], age: Age, expected: &mut Expected) -> Result<usize> {
        let mut offset = HEADER_BYTES;
        let mut is_open = false;
        while offset < bytes.len() {
            let rest = bytes.get(offset..).unwrap_or_default();
            let Some(frame) = Frame::decode(rest) else {
                if age == Age::Older || is_known_synced(rest, expected.group) {
                    let message = format!("record {} at offset {offset} is damaged", expected.seq);
                    return Err(Error::corruption(message));
                }
                break;
            };
            if frame.seq != expected.seq || frame.group != expected.group {
                let message = format!(
                    "record {} of group {} at offset {offset}, expected record {} of group {}",
                    frame.seq, frame.group, expected.seq, expected.group
                );
                return Err(Error::corruption(message));
            }
            if self.floor_seq <= frame.seq {
                let record = record::decode(frame.record_type, frame.payload)
                    .map_err(|error| error.context(format!("record {} at offset {offset}", frame.seq)))?;
                (self.apply)(frame.seq, record)?;
                self.report.records += 1;
            }
            expected.seq = expected.seq.saturating_add(1);
            expected.group = expected.group.saturating_add(u64::from(frame.is_last));
            is_open = !frame.is_last;
            offset += frame.bytes();
        }
        // The rest of a group that was cut short is gone for good: its number is not used again.
        expected.group = expected.group.saturating_add(u64::from(is_open));
        Ok(offset)
    }
}

/// Whether a whole frame stands in `bytes` that was written when `group` was known synced.
fn is_known_synced(bytes: &[u8], group: u64) -> bool {
    // A group has at least one frame, so the groups in these bytes are bounded; that and the other fields leave
    // next to no false candidates to checksum.
    let group_max = group.saturating_add((bytes.len() / FRAME_BYTES) as u64 + 1);
    (1..bytes.len()).any(|start| {
        let rest = bytes.get(start..).unwrap_or_default();
        let may_know = |frame: &Frame<'_>| group <= frame.synced_group && frame.group <= group_max;
        Frame::peek(rest).is_some_and(|(frame, _)| may_know(&frame)) && Frame::decode(rest).is_some()
    })
}
