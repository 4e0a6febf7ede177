//! Memory that queries hold: the pool that all of them share, and the account of one.
//!
//! Sizes are estimates, made before or just after something is allocated. Order of events: a query charges what it
//! makes, gives back what it drops, and all of it when it ends. Knows nothing of what is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, ErrorKind, Result};

/// Memory of all running queries together.
#[derive(Debug)]
pub struct MemoryPool {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl MemoryPool {
    /// A pool of at most so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { bytes_max, bytes: AtomicU64::new(0) })
    }

    /// Bytes held now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before.checked_add(bytes).is_some_and(|after| after <= self.bytes_max);
        if !has_room {
            self.give(bytes);
        }
        has_room
    }

    fn give(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one query holds; given back to the pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Account {
    bytes_max: u64,
    bytes: AtomicU64,
    pool: Option<Arc<MemoryPool>>,
}

impl Account {
    pub(crate) fn new(bytes_max: u64, pool: Option<Arc<MemoryPool>>) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0), pool }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes memory.
    ///
    /// # Errors
    /// `LimitExceeded` when the query would hold too much, `Busy` when all queries together would.
    pub(crate) fn charge(&self, bytes: u64) -> Result<()> {
        if self.bytes().checked_add(bytes).is_none_or(|after| after > self.bytes_max) {
            let max = self.bytes_max;
            let message = format!(
                "query needs more than {max} bytes of memory (limit query_memory_bytes_max); ask for fewer series, \
                 a larger step or a shorter range"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("query_memory_bytes_max"));
        }
        if let Some(pool) = &self.pool
            && !pool.take(bytes)
        {
            let max = pool.bytes_max;
            let message = format!(
                "running queries hold the {max} bytes of memory for queries (limit queries_memory_bytes_max); try again"
            );
            return Err(Error::new(ErrorKind::Busy, message).of_limit("queries_memory_bytes_max"));
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives memory back, at most what is held.
    pub(crate) fn release(&self, bytes: u64) {
        let bytes = bytes.min(self.bytes());
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(pool) = &self.pool {
            pool.give(bytes);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.release(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charge_beyond_the_account_is_limit_exceeded_and_takes_nothing() {
        let pool = MemoryPool::new(1000);
        let account = Account::new(100, Some(Arc::clone(&pool)));
        account.charge(60).unwrap();
        for bytes in [41, u64::MAX] {
            assert_eq!(account.charge(bytes).unwrap_err().kind(), ErrorKind::LimitExceeded);
        }
        assert_eq!((account.bytes(), pool.bytes()), (60, 60));
    }

    #[test]
    fn charge_beyond_the_pool_is_busy_until_others_end() {
        let pool = MemoryPool::new(100);
        let [one, other] = [(); 2].map(|()| Account::new(100, Some(Arc::clone(&pool))));
        one.charge(60).unwrap();
        assert_eq!(other.charge(60).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!((other.bytes(), pool.bytes()), (0, 60));
        drop(one);
        assert_eq!(pool.bytes(), 0);
        other.charge(60).unwrap();
    }

    #[test]
    fn release_gives_back_at_most_what_is_held() {
        let pool = MemoryPool::new(100);
        let account = Account::new(100, Some(Arc::clone(&pool)));
        account.charge(60).unwrap();
        account.release(20);
        assert_eq!((account.bytes(), pool.bytes()), (40, 40));
        account.release(50);
        assert_eq!((account.bytes(), pool.bytes()), (0, 0));
    }
}
