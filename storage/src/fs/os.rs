//! The real file system. The only file of the crate that touches `std::fs`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{File, Fs, Lock};
use crate::{Error, ErrorKind, Result};

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    path: PathBuf,
}

#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("cannot {operation} {}", path.display());
    move |error| Error::io(what, error)
}

impl OsFs {
    fn opened(operation: &str, path: &Path, options: &fs::OpenOptions) -> Result<Box<dyn File>> {
        let file = options.open(path).map_err(failed(operation, path))?;
        Ok(Box::new(OsFile { file, path: path.to_owned() }))
    }
}

impl Fs for OsFs {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.create_dir_all(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create directory", path)(error));
            }
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed("list", path))? {
            let entry = entry.map_err(failed("list", path))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn has(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(failed("look for", path))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        Self::opened("create", path, fs::OpenOptions::new().create_new(true).read(true).append(true))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        Self::opened("open", path, fs::OpenOptions::new().read(true))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        Self::opened("open", path, fs::OpenOptions::new().read(true).append(true))
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("look at", path)(error)),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
        match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            // Systems refuse links to files of others, too; a copy tells whether the place may be written at all.
            Err(error)
                if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) =>
            {
                Ok(false)
            }
            Err(error) => Err(failed("link", from)(error)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(failed("rename", from))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(failed("remove", path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        fs::remove_dir_all(path).map_err(failed("remove", path))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let directory = fs::File::open(path).map_err(failed("open directory", path))?;
        directory.sync_all().map_err(failed("sync directory", path))
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        let stat = statvfs(path).map_err(|error| failed("look at the free space of", path)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        let options = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = options.map_err(failed("open lock file", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(
                ErrorKind::Conflict,
                format!("{} is locked: another icecore process uses this directory", path.display()),
            )),
            Err(error) => Err(failed("lock", path)(error.into())),
        }
    }
}

impl File for OsFile {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(failed("look at", &self.path))?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                let (name, len) = (self.path.display(), buffer.len());
                return Error::corruption(format!("{name} ends before {len} bytes at offset {offset}"));
            }
            failed("read", &self.path)(error)
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(failed("append to", &self.path))
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(failed("sync", &self.path))?;
        // Somebody removed it, mostly with its whole directory: the system would go on taking bytes for nobody.
        if self.file.metadata().map_err(failed("look at", &self.path))?.nlink() == 0 {
            let message = format!("{} was removed while it was written", self.path.display());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(failed("truncate", &self.path))
    }
}
