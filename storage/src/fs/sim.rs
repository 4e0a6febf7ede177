//! A file system in memory for tests: it keeps apart what is written and what is durable, fails the operation or the read
//! that it is told to fail, and forgets on a crash whatever the contract of [`Fs`] allows it to forget. Deterministic: the
//! same operations and seeds give the same bytes.
//!
//! What a crash may do: appended and not synced bytes are lost, kept, cut anywhere, or torn (each 512-byte sector
//! kept or zero, independently); an unsynced truncation may not have happened; each created, renamed or removed
//! name whose directory was not synced may or may not be so, independently. Directories are durable at once, as
//! [`Fs::create_dir_all`] promises, but one whose creation failed is there and may vanish with all that is in it.
//!
//! Order of events in a test: run a workload with [`SimFs::fail_at`], [`SimFs::crash`], open again and compare.

mod handles;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use self::handles::{SimFile, SimLock};
use self::names::{NameChange, parent};
use super::{File, Fs, Lock};
use crate::{Error, ErrorKind, Result};

/// What a power cut keeps or loses as a piece.
const SECTOR_BYTES: usize = 512;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Input/output error; the operation has no effect. A failed sync loses the bytes for good: later syncs of the
    /// file succeed without making anything durable, as the page cache of Linux does.
    Io,
    /// No space left; the operation has no effect.
    NoSpace,
    /// An append writes half of its bytes and fails for lack of space; any other operation has no effect.
    ShortWrite,
    /// The machine stops: an append writes half of its bytes, and every later operation fails until
    /// [`SimFs::crash`].
    PowerCut,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 4] = [Self::Io, Self::NoSpace, Self::ShortWrite, Self::PowerCut];

    fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::other("simulated input/output error"),
            Self::NoSpace | Self::ShortWrite => io::ErrorKind::StorageFull.into(),
            Self::PowerCut => io::Error::other("simulated power cut"),
        }
    }
}

/// The simulated file system. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimFs {
    world: Arc<Mutex<World>>,
    interruption: Arc<Mutex<Option<Interruption>>>,
}

/// What is to happen between two operations.
struct Interruption {
    dir: PathBuf,
    /// Changes of names in the directory that come before it.
    after: u64,
    act: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Interruption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Interruption")
            .field("dir", &self.dir)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
struct World {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// Names as the running process sees them.
    names: BTreeMap<PathBuf, u64>,
    /// Names as a crash leaves them at least.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of their directory, in order.
    pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Directories as a crash leaves them: only their renames wait for a sync.
    durable_dirs: BTreeSet<PathBuf>,
    /// Directories whose parent was not synced, because their creation failed half way.
    unsynced_dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life are dead.
    life: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    reads: u64,
    read_fault: Option<u64>,
    unreadable: Option<PathBuf>,
    is_off: bool,
    free_bytes: Option<u64>,
    has_no_links: bool,
}

/// Content of a file.
#[derive(Debug, Clone, Default)]
struct Node {
    bytes: Vec<u8>,
    /// Content at the last sync.
    durable: Vec<u8>,
    /// What `bytes` and `durable` share: shorter than `durable` after an unsynced truncation.
    shared_bytes: usize,
    /// A sync failed: later ones lie.
    has_lost_pages: bool,
}

/// Small generator (xorshift64*); good enough to choose among outcomes.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % bound.max(1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

impl SimFs {
    /// Mutating operations so far: create, append, sync, truncate, rename, remove and their directory forms.
    pub fn operations(&self) -> u64 {
        self.lock_world().operations
    }

    /// Makes the mutating operation with this number (counted from 0, over all lives) fail.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.lock_world().fault = Some((operation, fault));
    }

    /// Operations that change nothing so far: list, look for, open, look at the length, read.
    pub fn reads(&self) -> u64 {
        self.lock_world().reads
    }

    /// Makes the one of them with this number (counted from 0, over all lives) fail with an input/output error, once.
    pub fn fail_read_at(&self, read: u64) {
        self.lock_world().read_fault = Some(read);
    }

    /// From now on every one of them on this path fails so, until another path or none is told.
    pub fn fail_reads_of(&self, path: Option<&Path>) {
        self.lock_world().unreadable = path.map(Path::to_owned);
    }

    /// Before the creation, renaming or removal of a file in `dir`, `after` such changes from now, lets something else
    /// happen: what another thread might do then. It may use the same files.
    pub fn interrupt(&self, dir: &Path, after: u64, act: impl FnOnce() + Send + 'static) {
        let interruption = Interruption { dir: dir.to_owned(), after, act: Box::new(act) };
        *self.interruption.lock().unwrap_or_else(PoisonError::into_inner) = Some(interruption);
    }

    /// Whether an interruption is still to come.
    pub fn is_interruption_due(&self) -> bool {
        self.interruption.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn come_to(&self, path: &Path) {
        let mut slot = self.interruption.lock().unwrap_or_else(PoisonError::into_inner);
        let due = slot.take_if(|interruption| {
            let is_there = path.parent() == Some(&interruption.dir);
            let is_due = is_there && interruption.after == 0;
            interruption.after -= u64::from(is_there && !is_due);
            is_due
        });
        drop(slot);
        if let Some(interruption) = due {
            (interruption.act)();
        }
    }

    /// Stops the machine and starts it again: unsynced bytes and names may be lost or torn, as `seed` says. Open
    /// files are dead, locks are free, faults are forgotten.
    pub fn crash(&self, seed: u64) {
        self.lock_world().crash(&mut Random::new(seed));
    }

    /// Like [`SimFs::crash`], with the worst outcome: every unsynced byte and name is lost.
    pub fn crash_losing_unsynced(&self) {
        self.lock_world().lose_unsynced();
    }

    /// An independent copy of the disk as it is now, as a machine of its own: nothing is open, nothing fails.
    pub fn fork(&self) -> Self {
        let mut world = self.lock_world().clone();
        world.begin_life();
        Self { world: Arc::new(Mutex::new(world)), interruption: Arc::default() }
    }

    /// Ends the process but not the machine: everything written stays, open files are dead, locks are free.
    pub fn restart(&self) {
        self.lock_world().begin_life();
    }

    /// What [`Fs::free_bytes`] says; a terabyte by default.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.lock_world().free_bytes = Some(free_bytes);
    }

    /// From now on no file can have a second name.
    pub fn refuse_links(&self) {
        self.lock_world().has_no_links = true;
    }

    /// Places a durable file, for tests that make their own damage.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.lock_world();
        for dir in path.ancestors().skip(1) {
            world.add_dir(dir);
        }
        let node = world.add_node(Node {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            shared_bytes: bytes.len(),
            has_lost_pages: false,
        });
        world.names.insert(path.to_owned(), node);
        world.durable_names.insert(path.to_owned(), node);
    }

    /// Content of a file as the running process sees it.
    pub fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.lock_world();
        Some(world.nodes.get(world.names.get(path)?)?.bytes.clone())
    }

    /// Content of a file that no crash can take; `None` while its name is not durable.
    pub fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.lock_world();
        Some(world.nodes.get(world.durable_names.get(path)?)?.durable.clone())
    }

    fn lock_world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, world: &World, path: &Path, node: u64) -> Box<dyn File> {
        Box::new(SimFile { fs: self.clone(), path: path.to_owned(), node, life: world.life })
    }
}

fn failed(operation: &str, path: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot {operation} {}", path.display()), source)
}

impl World {
    /// Counts a mutating operation; the fault that is due, if any.
    fn count(&mut self) -> Option<Fault> {
        if self.is_off {
            return Some(Fault::PowerCut);
        }
        let number = self.operations;
        self.operations += 1;
        let (_, fault) = self.fault.filter(|(at, _)| *at == number)?;
        self.is_off = fault == Fault::PowerCut;
        Some(fault)
    }

    fn begin(&mut self, operation: &str, path: &Path) -> Result<()> {
        match self.count() {
            None => Ok(()),
            Some(fault) => Err(failed(operation, path, fault.error())),
        }
    }

    /// Counts an operation that changes nothing, and fails when the machine is off or its fault is due.
    fn look(&mut self, operation: &str, path: &Path) -> Result<()> {
        if self.is_off {
            return Err(failed(operation, path, Fault::PowerCut.error()));
        }
        let number = self.reads;
        self.reads += 1;
        if self.read_fault == Some(number) || self.unreadable.as_deref() == Some(path) {
            return Err(failed(operation, path, Fault::Io.error()));
        }
        Ok(())
    }

    fn add_node(&mut self, node: Node) -> u64 {
        self.next_node += 1;
        self.nodes.insert(self.next_node, node);
        self.next_node
    }

    fn add_dir(&mut self, path: &Path) {
        self.dirs.insert(path.to_owned());
        self.durable_dirs.insert(path.to_owned());
    }

    /// Changes what the process sees now, and what a crash leaves after a sync.
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names, &mut self.dirs);
        self.pending.push(change);
    }

    fn node_of(&self, operation: &str, path: &Path) -> Result<u64> {
        let node = self.names.get(path).copied();
        node.ok_or_else(|| failed(operation, path, io::ErrorKind::NotFound.into()))
    }

    fn check_parent(&self, operation: &str, path: &Path) -> Result<()> {
        let parent = parent(path);
        if parent.as_os_str().is_empty() || self.dirs.contains(parent) {
            return Ok(());
        }
        Err(failed(operation, path, io::ErrorKind::NotFound.into()))
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        (self.fault, self.read_fault) = (None, None);
        self.is_off = false;
    }

    fn crash(&mut self, random: &mut Random) {
        self.begin_life();
        let pending = std::mem::take(&mut self.pending);
        // All, none, or each by itself.
        let mode = random.below(4);
        for change in pending {
            if mode == 0 || (mode != 1 && random.coin()) {
                change.apply(&mut self.durable_names, &mut self.durable_dirs);
            }
        }
        for dir in std::mem::take(&mut self.unsynced_dirs) {
            if random.coin() {
                self.forget_dir(&dir);
            }
        }
        self.keep_durable_names();
        self.nodes.values_mut().for_each(|node| node.crash(random));
    }

    fn lose_unsynced(&mut self) {
        self.begin_life();
        self.pending.clear();
        std::mem::take(&mut self.unsynced_dirs).iter().for_each(|dir| self.forget_dir(dir));
        self.keep_durable_names();
        self.nodes.values_mut().for_each(Node::lose_unsynced);
    }

    fn forget_dir(&mut self, path: &Path) {
        self.dirs.retain(|dir| !dir.starts_with(path));
        self.durable_dirs.retain(|dir| !dir.starts_with(path));
        self.durable_names.retain(|name, _| !name.starts_with(path));
    }

    fn keep_durable_names(&mut self) {
        self.names.clone_from(&self.durable_names);
        self.dirs.clone_from(&self.durable_dirs);
        let used: BTreeSet<u64> = self.names.values().copied().collect();
        self.nodes.retain(|id, _| used.contains(id));
    }
}

impl Node {
    fn sync(&mut self) {
        if !self.has_lost_pages {
            self.durable.clone_from(&self.bytes);
            self.shared_bytes = self.bytes.len();
        }
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.resize(len, 0);
        self.shared_bytes = self.shared_bytes.min(len);
    }

    fn crash(&mut self, random: &mut Random) {
        let is_cut = self.shared_bytes < self.durable.len();
        if is_cut && random.coin() {
            self.bytes.clone_from(&self.durable);
        } else {
            let end = self.shared_bytes + self.kept_tail(random);
            self.bytes.truncate(end);
        }
        self.durable.clone_from(&self.bytes);
        self.shared_bytes = self.bytes.len();
        self.has_lost_pages = false;
    }

    fn lose_unsynced(&mut self) {
        self.bytes.clone_from(&self.durable);
        self.shared_bytes = self.bytes.len();
        self.has_lost_pages = false;
    }

    /// Decides how much of the unsynced tail is kept, and zeroes torn sectors in it.
    fn kept_tail(&mut self, random: &mut Random) -> usize {
        let start = self.shared_bytes;
        let len = self.bytes.len().saturating_sub(start);
        match random.below(5) {
            0 => 0,
            1 => len,
            2 => random.below(len + 1),
            mode => {
                let mut at = start;
                while at < start + len {
                    let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(start + len);
                    if random.coin()
                        && let Some(sector) = self.bytes.get_mut(at..end)
                    {
                        sector.fill(0);
                    }
                    at = end;
                }
                if mode == 3 { len } else { random.below(len + 1) }
            }
        }
    }
}

impl Fs for SimFs {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let mut world = self.lock_world();
        if world.dirs.contains(path) {
            return Ok(());
        }
        let fault = world.count();
        for dir in path.ancestors() {
            // The root is always there.
            let is_new = !world.dirs.contains(dir);
            world.add_dir(dir);
            if is_new && dir.parent().is_some() && fault.is_some() {
                world.unsynced_dirs.insert(dir.to_owned());
            }
        }
        fault.map_or(Ok(()), |fault| Err(failed("create directory", path, fault.error())))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let mut world = self.lock_world();
        world.look("list", path)?;
        if !(path.as_os_str().is_empty() || world.dirs.contains(path)) {
            return Err(failed("list", path, io::ErrorKind::NotFound.into()));
        }
        let entries = world.names.keys().chain(&world.dirs);
        let inside = entries.filter(|entry| entry.parent() == Some(path));
        let mut names: Vec<String> =
            inside.filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn has(&self, path: &Path) -> Result<bool> {
        let mut world = self.lock_world();
        world.look("look for", path)?;
        Ok(world.names.contains_key(path) || world.dirs.contains(path))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.come_to(path);
        let mut world = self.lock_world();
        world.check_parent("create", path)?;
        world.begin("create", path)?;
        if world.names.contains_key(path) {
            return Err(failed("create", path, io::ErrorKind::AlreadyExists.into()));
        }
        let node = world.add_node(Node::default());
        world.change(NameChange::Link { path: path.to_owned(), node });
        Ok(self.handle(&world, path, node))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        let mut world = self.lock_world();
        world.look("open", path)?;
        let node = world.node_of("open", path)?;
        Ok(self.handle(&world, path, node))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        self.open(path)
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        Ok(self.has(path)? && self.lock_world().dirs.contains(path))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        let mut world = self.lock_world();
        world.check_parent("link", to)?;
        world.begin("link", from)?;
        let node = world.node_of("link", from)?;
        if world.names.contains_key(to) {
            return Err(failed("link", to, io::ErrorKind::AlreadyExists.into()));
        }
        if !world.has_no_links {
            world.change(NameChange::Link { path: to.to_owned(), node });
        }
        Ok(!world.has_no_links)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.come_to(to);
        let mut world = self.lock_world();
        world.check_parent("rename", to)?;
        world.begin("rename", from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        if world.dirs.contains(&from) {
            let is_below = |path: &PathBuf| path != &to && path.starts_with(&to);
            if world.names.keys().chain(&world.dirs).any(is_below) {
                return Err(failed("rename", &from, io::ErrorKind::DirectoryNotEmpty.into()));
            }
            world.change(NameChange::RenameDir { from, to });
            return Ok(());
        }
        let node = world.node_of("rename", &from)?;
        world.change(NameChange::Rename { from, to, node });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.come_to(path);
        let mut world = self.lock_world();
        world.begin("remove", path)?;
        world.node_of("remove", path)?;
        world.change(NameChange::Unlink { path: path.to_owned() });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        let mut world = self.lock_world();
        world.begin("remove", path)?;
        // Durable at once: nothing relies on a removed directory coming back.
        world.names.retain(|name, _| !name.starts_with(path));
        world.durable_names.retain(|name, _| !name.starts_with(path));
        world.dirs.retain(|dir| !dir.starts_with(path));
        world.durable_dirs.retain(|dir| !dir.starts_with(path));
        world.pending.retain(|change| match change {
            NameChange::Link { path: name, .. } | NameChange::Unlink { path: name } => {
                !name.starts_with(path)
            }
            NameChange::Rename { to, .. } | NameChange::RenameDir { to, .. } => !to.starts_with(path),
        });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut world = self.lock_world();
        world.begin("sync directory", path)?;
        world.unsynced_dirs.retain(|dir| parent(dir) != path);
        let pending = std::mem::take(&mut world.pending);
        let (done, pending) = pending.into_iter().partition::<Vec<_>, _>(|change| change.is_in(path));
        world.pending = pending;
        let World { durable_names, durable_dirs, pending, .. } = &mut *world;
        for change in done {
            change.apply(durable_names, durable_dirs);
            if let NameChange::RenameDir { from, to } = &change {
                *pending = std::mem::take(pending).into_iter().map(|one| one.moved(from, to)).collect();
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> Result<u64> {
        Ok(self.lock_world().free_bytes.unwrap_or(1 << 40))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        let mut world = self.lock_world();
        if !world.locks.insert(path.to_owned()) {
            let message =
                format!("{} is locked: another icecore process uses this directory", path.display());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if !world.names.contains_key(path) {
            let node = world.add_node(Node::default());
            world.names.insert(path.to_owned(), node);
            world.durable_names.insert(path.to_owned(), node);
        }
        let life = world.life;
        Ok(Box::new(SimLock { fs: self.clone(), path: path.to_owned(), life }))
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/d/a";

    fn with_dir() -> SimFs {
        let fs = SimFs::default();
        fs.create_dir_all(Path::new("/d")).unwrap();
        fs
    }

    /// What the file may hold after a crash, over many seeds.
    fn outcomes(setup: impl Fn(&SimFs)) -> BTreeSet<Option<Vec<u8>>> {
        let crashed = |seed| {
            let fs = with_dir();
            setup(&fs);
            fs.crash(seed);
            fs.get(Path::new(PATH))
        };
        (0..300).map(crashed).collect()
    }

    #[test]
    fn crash_synced_file_and_name_is_kept() {
        let found = outcomes(|fs| {
            let mut file = fs.create(Path::new(PATH)).unwrap();
            file.append(b"abc").unwrap();
            file.sync().unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
        });
        assert_eq!(found, BTreeSet::from([Some(b"abc".to_vec())]));
    }

    #[test]
    fn crash_unsynced_name_may_vanish() {
        let found = outcomes(|fs| {
            let mut file = fs.create(Path::new(PATH)).unwrap();
            file.append(b"abc").unwrap();
            file.sync().unwrap();
        });
        assert_eq!(found, BTreeSet::from([None, Some(b"abc".to_vec())]));
    }

    #[test]
    fn crash_unsynced_bytes_are_kept_lost_cut_or_torn() {
        let found = outcomes(|fs| {
            fs.put(Path::new(PATH), b"ab");
            fs.open_append(Path::new(PATH)).unwrap().append(b"cd").unwrap();
        });
        for expected in [&b"ab"[..], b"abc", b"abcd", b"ab\0\0"] {
            assert!(found.contains(&Some(expected.to_vec())), "{expected:?}");
        }
        assert!(found.iter().flatten().all(|bytes| bytes.starts_with(b"ab")));
    }

    #[test]
    fn crash_losing_unsynced_goes_back_to_what_was_synced() {
        let fs = with_dir();
        fs.put(Path::new(PATH), b"ab");
        fs.open_append(Path::new(PATH)).unwrap().append(b"cd").unwrap();
        fs.create(Path::new("/d/b")).unwrap();
        let copy = fs.fork();
        fs.crash_losing_unsynced();
        assert_eq!((fs.get(Path::new(PATH)), fs.get(Path::new("/d/b"))), (Some(b"ab".to_vec()), None));
        assert_eq!(copy.get(Path::new(PATH)), Some(b"abcd".to_vec()), "a fork goes its own way");
        copy.crash_losing_unsynced();
        assert_eq!(copy.get(Path::new(PATH)), fs.get(Path::new(PATH)));
    }

    #[test]
    fn crash_unsynced_truncation_may_be_undone() {
        let found = outcomes(|fs| {
            fs.put(Path::new(PATH), b"abcd");
            fs.open_append(Path::new(PATH)).unwrap().truncate(1).unwrap();
        });
        assert_eq!(found, BTreeSet::from([Some(b"a".to_vec()), Some(b"abcd".to_vec())]));
    }

    #[test]
    fn crash_replaced_file_is_old_or_new() {
        let found = outcomes(|fs| {
            fs.put(Path::new(PATH), b"old");
            fs.fail_at(3 + fs.operations(), Fault::Io);
            super::super::replace(fs, Path::new(PATH), b"new").unwrap_err();
        });
        assert_eq!(found, BTreeSet::from([Some(b"old".to_vec())]));
        let found = outcomes(|fs| {
            fs.put(Path::new(PATH), b"old");
            fs.fail_at(4 + fs.operations(), Fault::Io);
            super::super::replace(fs, Path::new(PATH), b"new").unwrap_err();
        });
        assert_eq!(found, BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]));
    }

    #[test]
    fn sync_failed_once_loses_the_bytes_for_good() {
        let found = outcomes(|fs| {
            fs.put(Path::new(PATH), b"");
            let mut file = fs.open_append(Path::new(PATH)).unwrap();
            file.append(b"abc").unwrap();
            fs.fail_at(fs.operations(), Fault::Io);
            file.sync().unwrap_err();
            file.sync().unwrap();
        });
        assert!(found.contains(&Some(Vec::new())));
    }

    #[test]
    fn power_cut_stops_everything_until_the_crash() {
        let fs = with_dir();
        let mut file = fs.create(Path::new(PATH)).unwrap();
        fs.fail_at(fs.operations(), Fault::PowerCut);
        file.append(b"abcd").unwrap_err();
        assert!(fs.has(Path::new(PATH)).is_err() && fs.list(Path::new("/d")).is_err());
        assert_eq!(fs.get(Path::new(PATH)), Some(b"ab".to_vec()));
        fs.crash(0);
        assert!(file.append(b"x").is_err(), "a handle of an earlier life is dead");
        assert!(fs.list(Path::new("/d")).is_ok());
    }

    #[test]
    fn crash_renamed_directory_is_old_or_new_and_whole() {
        let moved = |is_synced: bool, seed| {
            let fs = with_dir();
            fs.create_dir_all(Path::new("/d/x.tmp/y")).unwrap();
            fs.put(Path::new("/d/x.tmp/y/a"), b"a");
            assert!(fs.link(Path::new("/d/x.tmp/y/a"), Path::new("/d/x.tmp/b")).unwrap());
            fs.sync_dir(Path::new("/d/x.tmp")).unwrap();
            fs.rename(Path::new("/d/x.tmp"), Path::new("/d/x")).unwrap();
            assert!(!fs.has(Path::new("/d/x.tmp")).unwrap() && fs.is_dir(Path::new("/d/x/y")).unwrap());
            if is_synced {
                fs.sync_dir(Path::new("/d")).unwrap();
            }
            fs.crash(seed);
            let [name] = &fs.list(Path::new("/d")).unwrap()[..] else { panic!("one name") };
            let path = Path::new("/d").join(name);
            let content = [fs.get(&path.join("y/a")), fs.get(&path.join("b"))];
            assert_eq!(content, [Some(b"a".to_vec()), Some(b"a".to_vec())]);
            name.clone()
        };
        let unsynced: BTreeSet<String> = (0..50).map(|seed| moved(false, seed)).collect();
        assert_eq!(unsynced, BTreeSet::from(["x".to_owned(), "x.tmp".to_owned()]));
        assert!((0..50).all(|seed| moved(true, seed) == "x"));
    }

    #[test]
    fn lock_held_is_a_conflict_until_dropped() {
        let fs = with_dir();
        let held = fs.lock(Path::new("/d/LOCK")).unwrap();
        assert_eq!(fs.lock(Path::new("/d/LOCK")).unwrap_err().kind(), ErrorKind::Conflict);
        drop(held);
        fs.lock(Path::new("/d/LOCK")).unwrap();
    }

    #[test]
    fn list_names_files_and_directories_sorted() {
        let fs = with_dir();
        fs.create_dir_all(Path::new("/d/x/y")).unwrap();
        fs.create(Path::new("/d/b")).unwrap();
        fs.create(Path::new("/d/a")).unwrap();
        assert_eq!(fs.list(Path::new("/d")).unwrap(), ["a", "b", "x"]);
        fs.remove_dir_all(Path::new("/d/x")).unwrap();
        assert!(!fs.has(Path::new("/d/x/y")).unwrap());
    }
}
