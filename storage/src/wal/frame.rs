//! How records stand in a log file: the file's name and header, and the frame around each payload. Pure functions
//! on bytes; layout: `docs/format.md`.
//!
//! A frame carries the number of its write group and that of the last group known synced when it was written.
//! After a power cut later pages of an unsynced group may be there and earlier ones not, so "a valid frame
//! follows" alone does not tell damage from a torn tail; "a frame follows that knew this group synced" does.

#![warn(clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use super::record::PAYLOAD_BYTES_MAX;
use crate::codec::bytes::Reader;
use crate::{Error, ErrorKind, Result};

/// Version of the log files that this build writes; version 1 has no series that left.
pub const VERSION: u16 = 2;
const VERSION_MIN: u16 = 1;
/// Length of a file header.
pub(crate) const HEADER_BYTES: usize = 36;
/// Length of a frame without its payload.
pub(crate) const FRAME_BYTES: usize = 34;

const MAGIC: &[u8; 6] = b"ICEWAL";
const LAST_OF_GROUP: u8 = 1;

/// Name of the log file with this number.
pub fn file_name(number: u64) -> String {
    format!("wal-{number:016x}.log")
}

/// Path of the log file with this number.
pub(crate) fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(file_name(number))
}

/// The number in the name of a log file; `None` for any other name.
pub fn file_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_prefix("wal-")?.strip_suffix(".log")?, 16).ok()?;
    // Only the one spelling that `file_name` makes.
    (file_name(number) == name).then_some(number)
}

/// Header of a log file. All groups before `first_group` are synced: a file is begun only after the sync of the one
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Number of the file, as in its name.
    pub(crate) number: u64,
    /// Sequence number of its first frame.
    pub(crate) first_seq: u64,
    /// Group of its first frame.
    pub(crate) first_group: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.first_group.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// `None` when the bytes are not a whole header; an error when they are one of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let Some((header, crc)) = bytes.split_at_checked(HEADER_BYTES - 4) else { return Ok(None) };
        let Some(rest) = header.strip_prefix(MAGIC) else { return Ok(None) };
        if crc.first_chunk() != Some(&crc32fast::hash(header).to_le_bytes()) {
            return Ok(None);
        }
        let mut reader = Reader::new(rest);
        let version = reader.u16()?;
        if !(VERSION_MIN..=VERSION).contains(&version) {
            let message = format!(
                "log file version {version} is not known, this build reads {VERSION_MIN} to {VERSION}"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let (number, first_seq, first_group) = (reader.u64()?, reader.u64()?, reader.u64()?);
        Ok(Some(Self { number, first_seq, first_group }))
    }
}

/// One record in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) record_type: u8,
    /// Whether the write group ends with this frame.
    pub(crate) is_last: bool,
    pub(crate) group: u64,
    /// The last group known synced when this frame was written; always below `group`.
    pub(crate) synced_group: u64,
    pub(crate) seq: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Length in the file.
    pub(crate) fn bytes(&self) -> usize {
        FRAME_BYTES + self.payload.len()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.payload.len() <= PAYLOAD_BYTES_MAX, "the writer checks the size");
        debug_assert!(self.synced_group < self.group, "a group is not synced before it is written");
        let mut head = [0; FRAME_BYTES - 8];
        let fields = [self.group.to_le_bytes(), self.synced_group.to_le_bytes(), self.seq.to_le_bytes()];
        let flags = if self.is_last { LAST_OF_GROUP } else { 0 };
        for (slot, byte) in
            head.iter_mut().zip([self.record_type, flags].into_iter().chain(fields.into_iter().flatten()))
        {
            *slot = byte;
        }
        let len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        out.extend_from_slice(&len);
        out.extend_from_slice(&checksum(&len, &head, self.payload).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(self.payload);
    }

    /// The frame at the start of `bytes`; `None` when there is no whole and undamaged one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (frame, crc) = Self::peek(bytes)?;
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (head, _) = rest.split_at_checked(FRAME_BYTES - 8)?;
        (checksum(len, head, frame.payload) == crc).then_some(frame)
    }

    /// The fields and the checksum of what may be a frame, before the checksum is believed. Cheap.
    pub(crate) fn peek(bytes: &'a [u8]) -> Option<(Self, u32)> {
        let mut reader = Reader::new(bytes.get(..FRAME_BYTES)?);
        let payload_bytes = reader.u32().ok()? as usize;
        let crc = reader.u32().ok()?;
        let (record_type, flags) = (reader.u8().ok()?, reader.u8().ok()?);
        let (group, synced_group, seq) = (reader.u64().ok()?, reader.u64().ok()?, reader.u64().ok()?);
        let is_plausible = payload_bytes <= PAYLOAD_BYTES_MAX && record_type != 0 && flags <= LAST_OF_GROUP;
        if !is_plausible || group <= synced_group {
            return None;
        }
        let payload = bytes.get(FRAME_BYTES..FRAME_BYTES.checked_add(payload_bytes)?)?;
        let is_last = flags == LAST_OF_GROUP;
        Some((Self { record_type, is_last, group, synced_group, seq, payload }, crc))
    }
}

/// CRC-32 (IEEE) of everything in the frame but the checksum itself.
fn checksum(len: &[u8], head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(len);
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}
