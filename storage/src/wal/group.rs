//! Group commit: many threads write, one append and one sync serve all that wait. No thread of its own and no timer:
//! the first that finds nobody leading leads, takes what has queued up meanwhile, and does the work for all.
//!
//! Order of events in a group: take the queue, take the definitions that are not logged yet, append all frames,
//! sync (as the durability says), apply the items in order, publish the next sequence number, answer everyone.
//! The definitions are taken after the queue, and a batch is queued after its definitions became pending, so a
//! group refers only to names in itself or in earlier groups.
//!
//! Locks: the queue's is held for moments only; the log's only by the leader, across I/O. Neither is taken while
//! the other is held.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::record::{self, DEFINITIONS, ROWS};
use super::writer::Writer;
use crate::clock::Clock;
use crate::model::SECOND_NS;
use crate::options::Durability;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::{Error, ErrorKind, Result};

/// A group takes no more than this, but always one batch. The queue itself is bounded by the number of threads.
const GROUP_BYTES_MAX: usize = 8 << 20;
const INTERVAL_NS: i64 = SECOND_NS;

/// What a leader asks of the engine.
pub trait Hooks<T>: Send + Sync {
    /// Takes the definitions that are not logged yet, as a payload
    /// ([`encode_definitions`](super::record::encode_definitions)); `None` when there are none.
    fn take_definitions(&self) -> Option<Vec<u8>>;

    /// Applies logged items, in order of their sequence numbers. Everything applied is visible to readers before
    /// its writer is answered.
    fn apply(&self, items: Vec<(u64, T)>);
}

/// Shares a [`Writer`] among threads.
pub struct GroupCommit<T> {
    queue: Mutex<Queue<T>>,
    /// A leader is done.
    is_changed: Condvar,
    log: Mutex<Log>,
    durability: Durability,
    clock: Arc<dyn Clock>,
    next_seq: AtomicU64,
    bytes: AtomicU64,
    is_poisoned: AtomicBool,
    /// A leader panicked: a batch may be applied in part.
    is_half_applied: AtomicBool,
}

struct Queue<T> {
    waiting: VecDeque<Request<T>>,
    is_led: bool,
    /// Threads that wait for a moment without a group; they go first, or a full queue would starve a freeze.
    quiet_waiting: usize,
}

struct Request<T> {
    payload: Vec<u8>,
    item: T,
    answer: Arc<Answer>,
}

/// Sequence number, or kind and text of what failed; an error cannot be shared.
type Answer = OnceLock<std::result::Result<u64, (ErrorKind, String)>>;

struct Log {
    writer: Writer,
    synced_ns: i64,
}

impl<T> fmt::Debug for GroupCommit<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("GroupCommit")
            .field("durability", &self.durability)
            .field("next_seq", &self.next_seq)
            .field("bytes", &self.bytes)
            .field("is_poisoned", &self.is_poisoned)
            .finish_non_exhaustive()
    }
}

impl<T: Send> GroupCommit<T> {
    /// Shares `writer`.
    pub fn new(writer: Writer, durability: Durability, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), is_led: false, quiet_waiting: 0 }),
            is_changed: Condvar::new(),
            durability,
            next_seq: AtomicU64::new(writer.next_seq()),
            bytes: AtomicU64::new(writer.bytes()),
            is_poisoned: AtomicBool::new(writer.is_poisoned()),
            is_half_applied: AtomicBool::new(false),
            log: Mutex::new(Log { writer, synced_ns: clock.monotonic_ns() }),
            clock,
        }
    }

    /// Logs a batch of rows (a payload of [`encode_rows`](super::record::encode_rows)) and applies `item`; returns
    /// its sequence number once it is as durable as configured and visible. Blocks.
    ///
    /// # Errors
    /// `LimitExceeded` when the payload is too long; `Poisoned` after an earlier failure. When the append or sync
    /// of the group fails, everyone in it gets that error: the batch is not applied, but a restart may find it.
    pub fn commit(&self, hooks: &dyn Hooks<T>, payload: Vec<u8>, item: T) -> Result<u64> {
        record::check_size(&payload)?;
        let answer = Arc::new(Answer::new());
        let mut queue = self.lock_queue();
        queue.waiting.push_back(Request { payload, item, answer: Arc::clone(&answer) });
        loop {
            if let Some(outcome) = answer.get() {
                return outcome.clone().map_err(|(kind, message)| Error::new(kind, message));
            }
            if queue.is_led || 0 < queue.quiet_waiting {
                queue = self.is_changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.is_led = true;
            let group = take_group(&mut queue.waiting);
            drop(queue);
            self.lead(hooks, group);
            queue = self.lock_queue();
        }
    }

    /// Makes everything logged so far durable. For the timer of [`Durability::Interval`] and for closing.
    ///
    /// # Errors
    /// `Poisoned` after an earlier failure; errors of the file system, which poison.
    pub fn sync(&self) -> Result<()> {
        let lead = self.take_lead();
        let outcome = self.sync_log(&mut self.lock_log());
        self.publish();
        drop(lead);
        outcome
    }

    /// As [`Writer::end_file`].
    ///
    /// # Errors
    /// `Poisoned` after an earlier failure; errors of the file system, which poison.
    pub fn end_file(&self) -> Result<()> {
        let lead = self.take_lead();
        let outcome = self.lock_log().writer.end_file();
        self.publish();
        drop(lead);
        outcome
    }

    /// Removes log files whose records all lie below `floor_seq`, which a stored manifest must name as its floor.
    ///
    /// # Errors
    /// Those of the file system; the next call tries again.
    pub fn release(&self, floor_seq: u64) -> Result<()> {
        let lead = self.take_lead();
        let outcome = self.lock_log().writer.release(floor_seq);
        self.publish();
        drop(lead);
        outcome
    }

    /// Length of all log files.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Sequence number after the last group that was applied.
    pub fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::Acquire)
    }

    /// Whether writes are refused since a failed append or sync.
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// Whether what is applied may hold part of a batch, after a panic. It must never be made durable: the log has
    /// the batch whole.
    pub fn is_half_applied(&self) -> bool {
        self.is_half_applied.load(Ordering::Acquire)
    }

    /// Runs `f` with no group in flight: every record below the sequence number it is given is applied, and none
    /// from it on. So a freeze sees a whole prefix of the log. `f` must not call back into this log.
    pub fn with_quiet<R>(&self, f: impl FnOnce(u64) -> R) -> R {
        let lead = self.take_lead();
        let result = f(self.next_seq());
        drop(lead);
        result
    }

    /// Writes, applies and answers one group.
    fn lead(&self, hooks: &dyn Hooks<T>, group: Vec<Request<T>>) {
        let mut lead = Lead { commit: self, answers: Vec::with_capacity(group.len()) };
        let mut payloads = Vec::with_capacity(group.len());
        let mut items = Vec::with_capacity(group.len());
        for request in group {
            lead.answers.push(request.answer);
            payloads.push(request.payload);
            items.push(request.item);
        }
        match self.write(hooks, &payloads) {
            Ok(first) => {
                hooks.apply((first..).zip(items).collect());
                self.publish();
                for (seq, answer) in (first..).zip(&lead.answers) {
                    answer.get_or_init(|| Ok(seq));
                }
            }
            Err(error) => {
                self.publish();
                for answer in &lead.answers {
                    answer.get_or_init(|| Err((error.kind(), error.to_string())));
                }
            }
        }
    }

    /// Logs the pending definitions and the payloads; returns the sequence number of the first payload.
    fn write(&self, hooks: &dyn Hooks<T>, payloads: &[Vec<u8>]) -> Result<u64> {
        let mut log = self.lock_log();
        log.writer.check()?;
        let definitions = hooks.take_definitions();
        let before = u64::from(definitions.is_some());
        if self.durability == Durability::Memory {
            return Ok(log.writer.skip(before + payloads.len() as u64) + before);
        }
        let definitions = definitions.iter().map(|payload| (DEFINITIONS, payload.as_slice()));
        let rows = payloads.iter().map(|payload| (ROWS, payload.as_slice()));
        let records: Vec<(u8, &[u8])> = definitions.chain(rows).collect();
        let first = log.writer.append(&records).inspect_err(|error| {
            // The definitions were taken and are not logged: rows that use them must never be.
            log.writer.poison(error);
        })?;
        match self.durability {
            Durability::Fsync => self.sync_log(&mut log)?,
            Durability::Interval if INTERVAL_NS <= self.clock.monotonic_ns() - log.synced_ns => {
                self.sync_log(&mut log)?;
            }
            Durability::Interval | Durability::Memory => {}
        }
        Ok(first + before)
    }

    fn sync_log(&self, log: &mut Log) -> Result<()> {
        log.writer.sync()?;
        log.synced_ns = self.clock.monotonic_ns();
        Ok(())
    }

    /// Shows the state of the writer to those who do not lead.
    fn publish(&self) {
        let log = self.lock_log();
        self.next_seq.store(log.writer.next_seq(), Ordering::Release);
        self.bytes.store(log.writer.bytes(), Ordering::Release);
        self.is_poisoned.store(log.writer.is_poisoned(), Ordering::Release);
    }

    /// Waits until nobody leads, and leads without a group.
    fn take_lead(&self) -> Lead<'_, T> {
        let mut queue = self.lock_queue();
        queue.quiet_waiting += 1;
        while queue.is_led {
            queue = self.is_changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.quiet_waiting -= 1;
        queue.is_led = true;
        Lead { commit: self, answers: Vec::new() }
    }
}

impl<T> GroupCommit<T> {
    fn lock_queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the oldest requests up to the byte limit, at least one.
fn take_group<T>(waiting: &mut VecDeque<Request<T>>) -> Vec<Request<T>> {
    let mut bytes = 0;
    let mut count = 0;
    for request in waiting.iter() {
        bytes += request.payload.len();
        if 0 < count && GROUP_BYTES_MAX < bytes {
            break;
        }
        count += 1;
    }
    waiting.drain(..count).collect()
}

/// The lead, given up when dropped. A leader that panics leaves nobody waiting: those without an answer get an
/// error, and the log is poisoned, because what is logged and what is applied may differ.
struct Lead<'a, T> {
    commit: &'a GroupCommit<T>,
    answers: Vec<Arc<Answer>>,
}

impl<T> Drop for Lead<'_, T> {
    fn drop(&mut self) {
        const CAUSE: &str = "a write group was left half done";
        if self.answers.iter().any(|answer| answer.get().is_none()) {
            self.commit.is_half_applied.store(true, Ordering::Release);
            self.commit.lock_log().writer.poison(CAUSE);
            self.commit.is_poisoned.store(true, Ordering::Release);
            for answer in &self.answers {
                answer.get_or_init(|| Err((ErrorKind::Internal, CAUSE.to_owned())));
            }
        }
        self.commit.lock_queue().is_led = false;
        self.commit.is_changed.notify_all();
    }
}
