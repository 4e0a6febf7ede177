//! Open files and held locks of a simulated file system; those of an earlier life are dead.

use std::path::PathBuf;

use super::*;

#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) fs: SimFs,
    pub(super) path: PathBuf,
    pub(super) life: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.fs.lock_world();
        if world.life == self.life {
            world.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) fs: SimFs,
    pub(super) path: PathBuf,
    pub(super) node: u64,
    pub(super) life: u64,
}

impl SimFile {
    /// Runs `action` on the file's content, unless the file is of an earlier life or the machine is off.
    fn with<R>(&self, operation: &str, action: impl FnOnce(&mut World, u64) -> Result<R>) -> Result<R> {
        let mut world = self.fs.lock_world();
        if world.life != self.life || world.is_off {
            return Err(failed(operation, &self.path, Fault::PowerCut.error()));
        }
        action(&mut world, self.node)
    }
}

impl File for SimFile {
    fn len(&self) -> Result<u64> {
        self.with("look at", |world, node| {
            world.look("look at", &self.path)?;
            Ok(world.nodes.get(&node).map_or(0, |node| node.bytes.len() as u64))
        })
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.with("read", |world, node| {
            world.look("read", &self.path)?;
            let bytes = world.nodes.get(&node).map(|node| node.bytes.as_slice()).unwrap_or_default();
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let Some(source) = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end)) else {
                let (name, len) = (self.path.display(), buffer.len());
                return Err(Error::corruption(format!("{name} ends before {len} bytes at offset {offset}")));
            };
            buffer.copy_from_slice(source);
            Ok(())
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.with("append to", |world, node| {
            let fault = world.count();
            let written = match fault {
                None => bytes,
                Some(Fault::Io | Fault::NoSpace) => &[],
                Some(Fault::ShortWrite | Fault::PowerCut) => bytes.split_at(bytes.len() / 2).0,
            };
            if let Some(node) = world.nodes.get_mut(&node) {
                node.bytes.extend_from_slice(written);
            }
            fault.map_or(Ok(()), |fault| Err(failed("append to", &self.path, fault.error())))
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.with("sync", |world, node| {
            let fault = world.count();
            let Some(node) = world.nodes.get_mut(&node) else { return Ok(()) };
            let Some(fault) = fault else {
                node.sync();
                return Ok(());
            };
            node.has_lost_pages = fault != Fault::PowerCut;
            Err(failed("sync", &self.path, fault.error()))
        })
    }

    fn truncate(&mut self, len: u64) -> Result<()> {
        self.with("truncate", |world, node| {
            world.begin("truncate", &self.path)?;
            if let Some(node) = world.nodes.get_mut(&node) {
                node.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            }
            Ok(())
        })
    }
}
