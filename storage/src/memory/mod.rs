//! Bounds of memory that all databases of one process share, so that many of them take no more than one may. As RocksDB
//! has it for several databases of a process (write buffer manager, shared block cache).
//!
//! Files in reading order: `account` (bytes of all against one bound, the share of each, and who is to give back first),
//! `gate` (where the threads of an engine wait, and are woken when it is their turn). The pages are one cache
//! ([`PageCache`]). Knows nothing of what the bytes are.

mod account;
mod gate;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub(crate) use self::account::{Account, Share, Standing};
pub(crate) use self::gate::Gate;
use crate::segment::PageCache;

/// What all databases that share a [`Memory`] may take together, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Of memtables. From half of it on the larger ones are flushed early; beyond it writes wait, then are refused.
    pub memtables_bytes_max: usize,
    /// Of names of measurements, fields, tags and series, by estimate. Beyond it rows with anything new are refused.
    pub catalogs_bytes_max: usize,
    /// Of decoded pages. Older ones leave.
    pub cache_bytes_max: usize,
}

/// The memory that the engines of one process share: see [`Engine::open_sharing`](crate::Engine::open_sharing).
pub struct Memory {
    pub(crate) memtables: Arc<Account>,
    pub(crate) catalogs: Arc<Account>,
    pages: PageCache,
    /// Of the engines that are open.
    gates: Mutex<Vec<Weak<Gate>>>,
}

impl Memory {
    /// Nothing is taken yet.
    pub fn new(limits: MemoryLimits) -> Arc<Self> {
        Arc::new(Self {
            memtables: Account::new(limits.memtables_bytes_max),
            catalogs: Account::new(limits.catalogs_bytes_max),
            pages: PageCache::new(limits.cache_bytes_max),
            gates: Mutex::default(),
        })
    }

    /// Of one engine, which keeps to its own bounds.
    pub(crate) fn of_one(cache_bytes_max: usize) -> Arc<Self> {
        let none = usize::MAX;
        Self::new(MemoryLimits { memtables_bytes_max: none, catalogs_bytes_max: none, cache_bytes_max })
    }

    /// Bytes of the memtables of all databases that are open.
    pub fn memtable_bytes(&self) -> usize {
        self.memtables.bytes()
    }

    /// Bytes of their names, by estimate.
    pub fn catalog_bytes(&self) -> usize {
        self.catalogs.bytes()
    }

    /// Bytes of the decoded pages that are kept, also of databases that were closed and dropped lately.
    pub fn cache_bytes(&self) -> u64 {
        self.pages.bytes()
    }

    /// The pages, for one more engine.
    pub(crate) fn pages(&self) -> PageCache {
        self.pages.for_another()
    }

    /// From now on the threads that wait there are woken, too.
    pub(crate) fn admit(&self, gate: &Arc<Gate>) {
        let mut gates = self.gates();
        gates.retain(|gate| 0 < gate.strong_count());
        gates.push(Arc::downgrade(gate));
    }

    /// Wakes who waits for work or for memory, in every engine. Call it without a lock that a look for either takes.
    pub(crate) fn wake_all(&self) {
        let gates: Vec<Arc<Gate>> = self.gates().iter().filter_map(Weak::upgrade).collect();
        for gate in gates {
            gate.wake_all();
        }
    }

    fn gates(&self) -> MutexGuard<'_, Vec<Weak<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Memory")
            .field("memtables", &self.memtables)
            .field("catalogs", &self.catalogs)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}
