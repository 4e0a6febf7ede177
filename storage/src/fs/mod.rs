//! The file system as a trait: the few operations the engine needs, with what each promises. [`OsFs`] is the real
//! one; tests use a simulated one that loses, tears and refuses.
//!
//! The contract that everything above relies on: bytes are durable after [`File::sync`]; a name is durable after
//! [`Fs::sync_dir`] of its directory; a rename replaces atomically. Nothing else is durable.

mod os;
pub mod sim;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

pub use os::OsFs;
pub use sim::SimFs;

use crate::{Error, ErrorKind, Result};

/// Bytes that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// A directory tree.
pub trait Fs: Send + Sync + Debug {
    /// Creates a directory and its parents, each made durable in its parent. After an error, or the death of the
    /// process, some may be there and not durable.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// Names of the entries of a directory, sorted.
    fn list(&self, path: &Path) -> Result<Vec<String>>;

    /// Whether a file or directory of this name is there.
    fn has(&self, path: &Path) -> Result<bool>;

    /// Creates an empty file for appending and reading; fails when the name is taken.
    fn create(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Opens an existing file for appending and reading.
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>>;

    /// Whether there is a directory of this name.
    fn is_dir(&self, path: &Path) -> Result<bool>;

    /// Gives a file a second name, or tells by `false` that it cannot have one there (another file system, or one
    /// without links). Durable after [`Fs::sync_dir`]. Only for files that never change again.
    fn link(&self, from: &Path, to: &Path) -> Result<bool>;

    /// Renames a file, replacing what was there, or a directory where none or an empty one was, atomically. Durable
    /// after [`Fs::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Removes a directory and everything in it.
    fn remove_dir_all(&self, path: &Path) -> Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;

    /// Bytes that may still be written to the file system of `path`.
    fn free_bytes(&self, path: &Path) -> Result<u64>;

    /// Takes the exclusive lock of a lock file, creating it; `Conflict` when another process holds it. The lock
    /// ends when the value is dropped or the process dies.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>>;
}

/// Holds a lock until dropped.
pub trait Lock: Send + Sync + Debug {}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// Current length in bytes.
    fn len(&self) -> Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; `Corruption` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// Appends all bytes; after an error the length of the file is unknown.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes all appended bytes durable (fdatasync). After an error nothing may be assumed and nothing retried. A file
    /// that has no name any more is an error, too.
    fn sync(&mut self) -> Result<()>;

    /// Cuts the file to a length.
    fn truncate(&mut self, len: u64) -> Result<()>;
}

/// Reads a whole file.
///
/// # Errors
/// `NotFound`; `LimitExceeded` when the file is longer than `bytes_max`.
pub fn read_all(fs: &dyn Fs, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let file = fs.open(path)?;
    let len = file.len()?;
    if len > bytes_max {
        let name = path.display();
        let message = format!("{name} is {len} bytes long, more than the {bytes_max} expected at most");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a file durably: write a temporary, sync it, rename it over `path`, sync the directory.
///
/// # Errors
/// Those of the file system; the old content is whole until the rename, the new after it.
pub fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    if fs.has(&temporary)? {
        fs.remove(&temporary)?;
    }
    let mut file = fs.create(&temporary)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    fs.rename(&temporary, path)?;
    fs.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// How a file came to its second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// One file with two names.
    Linked,
    /// A file of its own.
    Copied,
}

/// Gives a file that never changes again a second place: a link where that is possible, else a copy. The name is
/// durable after [`Fs::sync_dir`].
///
/// # Errors
/// Those of the file system; a copy may then be there in part.
pub fn place(fs: &dyn Fs, from: &Path, to: &Path) -> Result<Placed> {
    if fs.link(from, to)? {
        return Ok(Placed::Linked);
    }
    copy(fs, from, to)?;
    Ok(Placed::Copied)
}

/// Copies a file, its bytes durably; the name is durable after [`Fs::sync_dir`].
///
/// # Errors
/// As [`place`].
pub fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> Result<()> {
    let source = fs.open(from)?;
    let len = source.len()?;
    let mut target = fs.create(to)?;
    let mut offset = 0;
    while offset < len {
        let bytes = COPY_BYTES.min(len - offset);
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        source.read_exact_at(&mut buffer, offset)?;
        target.append(&buffer)?;
        offset += bytes;
    }
    target.sync()
}

/// Makes a directory that comes into being as a whole: `fill` is given a temporary beside it, which is renamed
/// into place when it is done. After a failure the temporary is removed; a crash leaves it.
///
/// # Errors
/// `Conflict` when `path` is there and not empty, or a temporary of an earlier crash; those of `fill` and of the
/// file system. `path` is then as it was, or complete.
pub fn create_dir_whole<R>(fs: &dyn Fs, path: &Path, fill: impl FnOnce(&Path) -> Result<R>) -> Result<R> {
    let temporary = dir_temporary(path);
    if fs.has(path)? && !(fs.is_dir(path)? && fs.list(path)?.is_empty()) {
        return Err(Error::new(ErrorKind::Conflict, format!("{} is there already", path.display())));
    }
    if fs.has(&temporary)? {
        let place = temporary.display();
        let message =
            format!("{place} is there: left by a crash, or being made; remove it when nobody uses it");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    fs.create_dir_all(parent)?;
    let make = || {
        fs.create_dir_all(&temporary)?;
        let made = fill(&temporary)?;
        fs.sync_dir(&temporary)?;
        fs.rename(&temporary, path)?;
        Ok(made)
    };
    match make() {
        Ok(made) => fs.sync_dir(parent).map(|()| made),
        Err(error) => {
            // A creation that failed may have made the directory all the same.
            if let Ok(true) = fs.has(&temporary)
                && let Err(error) = fs.remove_dir_all(&temporary)
            {
                tracing::warn!(%error, "an unfinished directory stays behind");
            }
            Err(error)
        }
    }
}

/// What [`create_dir_whole`] calls a directory until it is complete.
pub fn dir_temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
