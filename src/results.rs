//! Answers to range queries that are kept: a dashboard that moves on by a step asks for that step alone.
//!
//! Only steady queries are kept ([`promql::Expr::is_steady`]): a point depends on no row that is later than its step. The
//! engine tells how far two views see the same rows ([`Engine::same_before_ns`](icecore_storage::Engine::same_before_ns)),
//! so that a kept step is used while that is so and never longer: no time to live, no guess how late rows may come.
//! Why so: `docs/decisions/0019-answers-are-kept-by-what-was-applied.md`.
//!
//! Order: [`Results::find`], then `reuse` says which steps are there and which are missing and puts both together, then
//! [`Results::keep`]. Knows nothing of the engine and evaluates nothing; `database::ranges` does.

pub(crate) mod reuse;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore_query::promql::MatrixSeries;
use icecore_storage::engine::Seen;
use icecore_storage::scan::Resolution;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use self::reuse::Span;

/// No answer takes more than this part of the room.
const ANSWER_PART: u64 = 4;
/// What an answer takes beside its text and its series.
const ENTRY_BYTES: usize = 256;
/// What a series takes beside its labels and points.
const SERIES_BYTES: usize = 64;
/// A guess, from which the cache sizes its tables.
const ANSWER_BYTES_GUESS: u64 = 64 << 10;

/// All that an answer depends on but for the data and the range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Number of the open database, from [`Results::number`].
    pub(crate) database: u64,
    /// As it was written: texts that mean the same are kept apart.
    pub(crate) text: Arc<str>,
    pub(crate) step_ns: i64,
    /// Where the steps lie: their distance to a multiple of the step.
    pub(crate) phase_ns: i64,
    pub(crate) lookback: Duration,
    pub(crate) resolution: Resolution,
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    /// What it was computed from, or from something that is the same for all its steps.
    pub(crate) seen: Seen,
    /// Its steps, those without any point too.
    pub(crate) span: Span,
    /// Numbers, by labels, strictly ascending.
    pub(crate) series: Vec<MatrixSeries>,
    /// The memory they take.
    pub(crate) bytes: u64,
}

fn bytes_of(series: &[MatrixSeries]) -> u64 {
    let of_one =
        |one: &MatrixSeries| one.labels.memory_bytes() + (SERIES_BYTES + size_of_val(&*one.points)) as u64;
    series.iter().map(of_one).sum()
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Key, Arc<Kept>> for Bytes {
    fn weight(&self, key: &Key, kept: &Arc<Kept>) -> u64 {
        kept.bytes + (ENTRY_BYTES + key.text.len()) as u64
    }
}

/// Counts answers that had to leave.
#[derive(Debug, Clone, Default)]
struct Leaving(Arc<AtomicU64>);

impl Lifecycle<Key, Arc<Kept>> for Leaving {
    type RequestState = ();

    // `on_evict` is also told of answers that newer ones of the same query replace.
    fn before_evict(&self, (): &mut (), _key: &Key, _kept: &mut Arc<Kept>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How much of a range query was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All steps.
    Hit,
    /// Some of them.
    Partial,
    /// None.
    Miss,
    /// It was not looked for: not steady, or not wanted.
    Bypass,
}

/// What became of range queries since the directory was opened, and what is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResultStats {
    /// Queries whose steps were all there.
    pub hits: u64,
    /// Queries of which some steps were there.
    pub partial_hits: u64,
    /// Queries of which none was there.
    pub misses: u64,
    /// Queries that were not looked for: their answers may change with what lies outside of each step, or were asked for
    /// anew.
    pub bypasses: u64,
    /// Steps that were not evaluated again.
    pub steps: u64,
    /// Answers kept.
    pub answers: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Answers that left because others needed the room.
    pub evictions: u64,
}

/// The answers of all databases of a directory.
#[derive(Debug)]
pub(crate) struct Results {
    bytes_max: u64,
    /// `None` where nothing is kept.
    answers: Option<Cache<Key, Arc<Kept>, Bytes, DefaultHashBuilder, Leaving>>,
    leaving: Leaving,
    numbers: AtomicU64,
    outcomes: [AtomicU64; 4],
    steps: AtomicU64,
}

impl Results {
    /// Room for so many bytes; 0 keeps nothing.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let leaving = Leaving::default();
        let items = usize::try_from(bytes_max / ANSWER_BYTES_GUESS).unwrap_or(usize::MAX).max(16);
        // One shard: an answer may take a good part of the room, and there are few lookups.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(items)
            .weight_capacity(bytes_max)
            .build()
            .ok()
            .filter(|_| 0 < bytes_max);
        let answers = options.map(|options| {
            Cache::with_options(options, Bytes, DefaultHashBuilder::default(), leaving.clone())
        });
        let (numbers, steps) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bytes_max, answers, leaving, numbers, outcomes: Default::default(), steps }
    }

    /// A number for a database that is opened: another one of the same name has another.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.answers.is_some()
    }

    /// The answer that is kept.
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Kept>> {
        self.answers.as_ref()?.get(key)
    }

    /// Keeps an answer in place of the one before, when it is not too large: numbers, by labels that strictly ascend.
    pub(crate) fn keep(&self, key: Key, seen: Seen, span: Span, series: &[MatrixSeries]) {
        let bytes = bytes_of(series);
        if let Some(answers) = &self.answers
            && bytes <= self.bytes_max / ANSWER_PART
        {
            answers.insert(key, Arc::new(Kept { seen, span, series: series.to_vec(), bytes }));
        }
    }

    /// Counts a query of which so many steps were there.
    pub(crate) fn count(&self, outcome: Outcome, steps: u64) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.steps.fetch_add(steps, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> ResultStats {
        let [hits, partial_hits, misses, bypasses] =
            [0, 1, 2, 3].map(|place: usize| self.outcomes[place].load(Ordering::Relaxed));
        ResultStats {
            hits,
            partial_hits,
            misses,
            bypasses,
            steps: self.steps.load(Ordering::Relaxed),
            answers: self.answers.as_ref().map_or(0, |answers| answers.len() as u64),
            bytes: self.answers.as_ref().map_or(0, Cache::weight),
            evictions: self.leaving.0.load(Ordering::Relaxed),
        }
    }
}
