//! Appends to the log: one append per write group, syncs when told, rotates by size, releases what segments cover.
//! Single-threaded; [`GroupCommit`](super::GroupCommit) shares it among threads.
//!
//! Order of events for a new file: sync the old one, create, header, sync, sync the directory, name it (in the
//! manifest), and only then the first frame. So a header proves everything before it durable, and a file without a whole
//! header, or one that is not named, never held a frame. The file that is named as the newest is never removed, nor
//! made anew. A process never appends to a file of an earlier one: it replaces the newest by a copy without the torn
//! tail, and begins a new file with its first group, so that no byte is ever appended behind bytes of unknown state.
//! The copy is needed because the bytes may be those of a failed sync: readable, marked clean, and never on disk; a
//! sync of that file would succeed and write nothing.
//!
//! Any failed append or sync poisons the writer for ever: nothing is retried, because the kernel may have dropped
//! the pages that it failed to write.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Frame, Header, file_path};
use super::reader::{LogFile, ReplayReport};
use super::record;
use crate::fs::{File, Fs, replace};
use crate::{Error, ErrorKind, Result};

/// Rotation sizes are held to what the reader takes in one piece.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Keeps the number of the newest file, durably, for the next [`replay`](super::replay). After an error either the new or
/// the old number is kept; it is asked again before anything is appended to the file.
pub type NameFile = dyn Fn(u64) -> Result<()> + Send + Sync;

/// The end of the log.
pub struct Writer {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    file_bytes_max: u64,
    /// All files, oldest first; the last one is being written when `current` is there.
    files: VecDeque<LogFile>,
    current: Option<Box<dyn File>>,
    name_file: Box<NameFile>,
    /// The newest file that is named for certain; 0 when none is.
    named: u64,
    next_number: u64,
    next_seq: u64,
    next_group: u64,
    synced_group: u64,
    poison: Option<String>,
    /// Kept between groups to save the allocation.
    buffer: Vec<u8>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Writer").field("dir", &self.dir).field("files", &self.files).finish_non_exhaustive()
    }
}

impl Writer {
    /// Takes over the log that `report` describes: removes a newest file without a whole header, replaces the newest
    /// of the others by a durable copy without the torn tail. One that is only a header stays, too: it proves what is
    /// before it, or says how far segments cover the log. The first file is made with the first append. Each new file is
    /// named by `name_file` before anything is appended to it.
    ///
    /// # Errors
    /// Those of the file system; the log is then as it was, and may be opened again.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        report: &ReplayReport,
        file_bytes_max: u64,
        name_file: Box<NameFile>,
    ) -> Result<Self> {
        fs.create_dir_all(dir)?;
        let files: VecDeque<LogFile> = report.files.iter().copied().collect();
        if let Some(number) = report.stillborn {
            fs.remove(&file_path(dir, number))?;
            fs.sync_dir(dir)?;
        }
        if let Some(newest) = files.back() {
            renew(&*fs, &file_path(dir, newest.number), newest.bytes)?;
        }
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            file_bytes_max: file_bytes_max.min(FILE_BYTES_MAX),
            next_number: files.back().map_or(1, |newest| newest.number.saturating_add(1)),
            files,
            current: None,
            name_file,
            named: report.named_file,
            next_seq: report.next_seq,
            next_group: report.next_group,
            synced_group: report.next_group.saturating_sub(1),
            poison: None,
            buffer: Vec::new(),
        })
    }

    /// Appends a group of records (type and payload each) in one write and returns the sequence number of the
    /// first; the others follow. Not durable before [`Self::sync`].
    ///
    /// # Errors
    /// `LimitExceeded` when a payload is too long, and nothing is written; `Poisoned` after an earlier failure;
    /// errors of the file system, which poison.
    pub fn append(&mut self, records: &[(u8, &[u8])]) -> Result<u64> {
        self.check()?;
        for (_, payload) in records {
            record::check_size(payload)?;
        }
        let appended = self.try_append(records);
        self.poison_on_error(appended)
    }

    /// Makes all appended records durable; free when they are.
    ///
    /// # Errors
    /// `Poisoned` after an earlier failure; errors of the file system, which poison.
    pub fn sync(&mut self) -> Result<()> {
        self.check()?;
        let synced = self.try_sync();
        self.poison_on_error(synced)
    }

    /// Ends the file being written, if it has frames, so that a release may remove it; the next append begins a new one.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn end_file(&mut self) -> Result<()> {
        self.sync()?;
        if self.files.back().is_some_and(LogFile::has_frames) {
            self.current = None;
        }
        Ok(())
    }

    /// Removes the files whose records all lie below `floor_seq`, the one being written too: a new one is begun before,
    /// whose header tells a later start where the log goes on, whatever the manifest says; also where no record was
    /// logged. After poison that one stays.
    ///
    /// # Errors
    /// Those of the file system; but for those of the sync before a new file they do not poison, and the next call
    /// tries again.
    pub fn release(&mut self, floor_seq: u64) -> Result<()> {
        // Behind a failed append or sync no file is begun, as its header would call what is before it whole.
        if self.next_seq <= floor_seq && !self.is_poisoned() {
            if self.files.back().is_none_or(|newest| newest.first_seq < self.next_seq) {
                // When the beginning fails, the new file may be there with its header: nothing may follow in the old one.
                self.sync()?;
                self.current = None;
                self.begin_file()?;
            }
            self.name_newest()?;
        }
        let mut is_changed = false;
        while let Some(oldest) = self.files.front() {
            // The newest stays: its header says where the log goes on. So does the one that a start will look for.
            if self.named <= oldest.number || self.files.get(1).is_none_or(|next| floor_seq < next.first_seq)
            {
                break;
            }
            let path = file_path(&self.dir, oldest.number);
            if self.fs.has(&path)? {
                self.fs.remove(&path)?;
            }
            self.files.pop_front();
            is_changed = true;
        }
        if is_changed { self.fs.sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Gives `count` sequence numbers to records that are not logged, and returns the first.
    pub(crate) fn skip(&mut self, count: u64) -> u64 {
        let first = self.next_seq;
        self.next_seq += count;
        first
    }

    /// Refuses all further writes.
    pub(crate) fn poison(&mut self, cause: impl fmt::Display) {
        self.poison.get_or_insert_with(|| cause.to_string());
    }

    /// Sequence number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Length of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether an append or sync failed.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_some()
    }

    /// # Errors
    /// `Poisoned`, with the first cause.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(cause) => {
                let message =
                    format!("the log is poisoned and refuses writes until a restart, because: {cause}");
                Err(Error::new(ErrorKind::Poisoned, message))
            }
        }
    }

    fn poison_on_error<R>(&mut self, outcome: Result<R>) -> Result<R> {
        if let Err(error) = &outcome {
            self.poison(error);
        }
        outcome
    }

    fn try_append(&mut self, records: &[(u8, &[u8])]) -> Result<u64> {
        let first = self.next_seq;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        for (index, (record_type, payload)) in records.iter().enumerate() {
            let frame = Frame {
                record_type: *record_type,
                is_last: index + 1 == records.len(),
                group: self.next_group,
                synced_group: self.synced_group,
                seq: first + index as u64,
                payload,
            };
            frame.encode(&mut buffer);
        }
        if buffer.is_empty() {
            return Ok(first);
        }
        self.rotate_for(buffer.len() as u64)?;
        if let (Some(file), Some(log_file)) = (&mut self.current, self.files.back_mut()) {
            file.append(&buffer)?;
            log_file.bytes += buffer.len() as u64;
        }
        self.next_seq += records.len() as u64;
        self.next_group += 1;
        // A rare large group must not hold its memory for ever.
        if buffer.capacity() <= 1 << 20 {
            self.buffer = buffer;
        }
        Ok(first)
    }

    fn try_sync(&mut self) -> Result<()> {
        if self.synced_group + 1 == self.next_group {
            return Ok(());
        }
        if let Some(file) = &mut self.current {
            file.sync()?;
        }
        self.synced_group = self.next_group - 1;
        Ok(())
    }

    /// Begins a new file when there is none or when the current one has frames and would grow too long. The one that is
    /// to be written is named afterwards.
    fn rotate_for(&mut self, more_bytes: u64) -> Result<()> {
        let is_room = |newest: &LogFile| newest.bytes.saturating_add(more_bytes) <= self.file_bytes_max;
        let goes_on = self.files.back().is_some_and(|newest| !newest.has_frames() || is_room(newest));
        if self.current.is_none() || !goes_on {
            self.try_sync()?;
            self.begin_file()?;
        }
        self.name_newest()
    }

    /// Names the newest file, if that is not done.
    fn name_newest(&mut self) -> Result<()> {
        let newest = self.files.back().map_or(0, |newest| newest.number);
        if self.named < newest {
            (self.name_file)(newest)?;
            self.named = newest;
        }
        Ok(())
    }

    fn begin_file(&mut self) -> Result<()> {
        let number = self.next_number;
        let header = Header { number, first_seq: self.next_seq, first_group: self.next_group }.encode();
        let path = file_path(&self.dir, number);
        // Only an attempt of ours that failed can have left it.
        if self.fs.has(&path)? {
            self.fs.remove(&path)?;
        }
        let mut file = self.fs.create(&path)?;
        file.append(&header)?;
        file.sync()?;
        self.fs.sync_dir(&self.dir)?;
        self.next_number += 1;
        self.files.push_back(LogFile { number, first_seq: self.next_seq, bytes: header.len() as u64 });
        self.current = Some(file);
        Ok(())
    }
}

/// Replaces a file by a copy of its first `len` bytes, which is durable whatever became of the old one's pages.
fn renew(fs: &dyn Fs, path: &Path, len: u64) -> Result<()> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    fs.open(path)?.read_exact_at(&mut bytes, 0)?;
    replace(fs, path, &bytes)
}
