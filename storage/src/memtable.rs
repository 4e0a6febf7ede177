//! Rows that are durable in the log and not yet in a segment: one generation, of all measurements.
//!
//! Knows nothing of the log, segments or series names. Rows of a measurement are appended to its active chunk, in
//! order of arrival. A full chunk becomes a run: sorted, without duplicates, immutable, shared with readers. Readers
//! and the flush get the runs, and the active chunk sorted into one more, which is kept until the next append.
//!
//! Each measurement has its own lock, so that sorting one does not hold up appends to the others. Appending to two
//! measurements is not one step for a reader; the engine takes a [`Snapshot`] between two batches. That notes only
//! how many rows there are; they are sorted when they are asked for, or at the last moment before the active chunk
//! becomes a run and forgets which of its rows came first. A frozen memtable is settled: all of it is runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use roaring::RoaringBitmap;

use crate::model::{Column, MeasurementId, RowBlock, TimeRange, Values};
use crate::rows::{append_column, pad_nulls, sort_rows};
use crate::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// A chunk of so many rows is sorted into a run.
const CHUNK_ROWS_MAX: usize = 65_536;
/// A chunk of so many bytes is, too: texts are addressed by 32 bits.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// One generation of rows in memory.
pub struct Memtable {
    tables: RwLock<BTreeMap<MeasurementId, Arc<Mutex<Table>>>>,
    bytes: AtomicUsize,
    rows: AtomicU64,
    min_ns: AtomicI64,
    max_ns: AtomicI64,
}

/// The rows of one measurement.
#[derive(Debug, Default)]
struct Table {
    runs: Vec<Arc<RowBlock>>,
    runs_bytes: usize,
    /// Columns sorted by key.
    active: RowBlock,
    active_bytes: usize,
    /// The active chunk as a run, until the next append.
    active_run: Option<Arc<RowBlock>>,
    /// What snapshots hold of the active chunk, shortest first.
    marks: Vec<Weak<Mark>>,
}

/// The first rows of an active chunk.
#[derive(Debug)]
struct Mark {
    rows: usize,
    /// Those rows as a run, once somebody asked for them or the chunk was full.
    run: OnceLock<Arc<RowBlock>>,
}

/// What a memtable held at one moment; rows that came later are not in it. Small until it is read.
#[derive(Debug)]
pub struct Snapshot {
    time_range: Option<TimeRange>,
    tables: BTreeMap<MeasurementId, TableSnapshot>,
}

#[derive(Debug)]
struct TableSnapshot {
    table: Arc<Mutex<Table>>,
    runs: Vec<Arc<RowBlock>>,
    mark: Option<Arc<Mark>>,
}

impl Snapshot {
    /// From the earliest to the latest row; `None` when there is none.
    pub fn time_range(&self) -> Option<TimeRange> {
        self.time_range
    }

    /// Whether it has rows of a measurement.
    pub fn has(&self, measurement: MeasurementId) -> bool {
        self.tables.contains_key(&measurement)
    }

    /// As [`Memtable::runs`], at the moment of the snapshot.
    pub fn runs(&self, measurement: MeasurementId) -> Vec<Arc<RowBlock>> {
        let Some(snapshot) = self.tables.get(&measurement) else { return Vec::new() };
        let marked = snapshot.mark.as_ref().map(|mark| lock(&snapshot.table).run_of(mark));
        snapshot.runs.iter().cloned().chain(marked).collect()
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Memtable")
            .field("bytes", &self.bytes())
            .field("rows", &self.rows())
            .field("time_range", &self.time_range())
            .finish_non_exhaustive()
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self::new()
    }
}

impl Memtable {
    /// An empty generation.
    pub fn new() -> Self {
        Self {
            tables: RwLock::new(BTreeMap::new()),
            bytes: AtomicUsize::new(0),
            rows: AtomicU64::new(0),
            min_ns: AtomicI64::new(i64::MAX),
            max_ns: AtomicI64::new(i64::MIN),
        }
    }

    /// Appends rows, behind all that were appended before. Visible as a whole when it returns.
    pub fn apply(&self, measurement: MeasurementId, rows: &RowBlock) {
        let (Some(min_ns), Some(max_ns)) = (rows.ts_ns.iter().min(), rows.ts_ns.iter().max()) else { return };
        let table = self.table_or_new(measurement);
        let mut table = lock(&table);
        self.min_ns.fetch_min(*min_ns, Ordering::SeqCst);
        self.max_ns.fetch_max(*max_ns, Ordering::SeqCst);
        self.rows.fetch_add(rows.len() as u64, Ordering::SeqCst);
        let before = table.bytes();
        table.append(rows);
        // Sorting a full chunk may make it smaller; the counter wraps around to the right sum.
        self.bytes.fetch_add(table.bytes().wrapping_sub(before), Ordering::SeqCst);
    }

    /// Memory that holds the rows, with the room that their columns have to grow, in bytes. Duplicates count until
    /// their chunk is full. What readers made of the active chunk is not in it.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Rows appended, duplicates counted.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// From the earliest to the latest row; `None` when there is none.
    pub fn time_range(&self) -> Option<TimeRange> {
        let (min_ns, max_ns) = (self.min_ns.load(Ordering::SeqCst), self.max_ns.load(Ordering::SeqCst));
        (min_ns <= max_ns).then(|| TimeRange::new(min_ns, max_ns.saturating_add(1)))
    }

    /// The measurements that have rows, ascending.
    pub fn measurements(&self) -> Vec<MeasurementId> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Runs in order of arrival: each sorted by (series, time) without duplicates; of equal rows in two runs the
    /// later run's fields win, field by field. Sorts the active chunk when rows came since the last call.
    pub fn runs(&self, measurement: MeasurementId) -> Vec<Arc<RowBlock>> {
        let Some(table) = self.table(measurement) else { return Vec::new() };
        let mut table = lock(&table);
        let active_run = table.active_run();
        table.runs.iter().cloned().chain(active_run).collect()
    }

    /// Sorts what is not sorted yet, in place: for a memtable that takes no more rows, so that its flush needs no copies.
    pub fn settle(&self) {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        for table in tables.values() {
            let mut table = lock(table);
            let before = table.bytes();
            table.end_chunk();
            self.bytes.fetch_add(table.bytes().wrapping_sub(before), Ordering::SeqCst);
        }
    }

    /// Which of some series have rows. Looks at every row: some 5 ns each; appends wait for those of the active chunk only.
    pub fn held(&self, among: &RoaringBitmap) -> RoaringBitmap {
        let mut held = RoaringBitmap::new();
        for measurement in self.measurements() {
            let Some(table) = self.table(measurement) else { continue };
            let mut add = |rows: &RowBlock| {
                let ids = rows.series.iter().map(|series| series.0);
                held.extend(ids.filter(|id| among.contains(*id)));
            };
            let locked = lock(&table);
            let runs = locked.runs.clone();
            add(&locked.active);
            drop(locked);
            runs.iter().for_each(|run| add(run));
        }
        held
    }

    /// Notes what is there now. Not one step for appends that come at the same time.
    pub fn snapshot(&self) -> Snapshot {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot_of = |table: &Arc<Mutex<Table>>| {
            let mut locked = lock(table);
            TableSnapshot { table: Arc::clone(table), runs: locked.runs.clone(), mark: locked.mark() }
        };
        let tables = tables.iter().map(|(measurement, table)| (*measurement, snapshot_of(table))).collect();
        Snapshot { time_range: self.time_range(), tables }
    }

    fn table(&self, measurement: MeasurementId) -> Option<Arc<Mutex<Table>>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&measurement).cloned()
    }

    fn table_or_new(&self, measurement: MeasurementId) -> Arc<Mutex<Table>> {
        if let Some(table) = self.table(measurement) {
            return table;
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tables.entry(measurement).or_default())
    }
}

// A panic while appending could leave columns of unequal length; [`Table::append`] asserts before it changes
// anything, so the state behind a poisoned lock is whole.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn bytes(&self) -> usize {
        self.runs_bytes + self.active_bytes
    }

    /// Appends rows; a chunk that is full then becomes a run.
    fn append(&mut self, rows: &RowBlock) {
        let is_whole = |column: &Column| column.values.len() == rows.len();
        assert!(rows.columns.iter().all(is_whole), "every column has a value for each row");
        append_block(&mut self.active, rows);
        self.active_run = None;
        self.active_bytes = block_bytes(&self.active);
        if CHUNK_ROWS_MAX <= self.active.len() || CHUNK_BYTES_MAX <= self.active_bytes {
            self.end_chunk();
        }
    }

    /// Makes a run of the active chunk.
    fn end_chunk(&mut self) {
        if !self.active.is_empty() {
            for mark in std::mem::take(&mut self.marks).iter().filter_map(Weak::upgrade) {
                self.run_of(&mark);
            }
            let active = std::mem::take(&mut self.active);
            let run = self.active_run.take().unwrap_or_else(|| {
                let mut run = sort_rows(active);
                run.shrink_to_fit();
                Arc::new(run)
            });
            self.runs_bytes += block_bytes(&run);
            self.runs.push(run);
            self.active_bytes = 0;
        }
    }

    fn active_run(&mut self) -> Option<Arc<RowBlock>> {
        if self.active.is_empty() {
            return None;
        }
        let active = &self.active;
        let run = self.active_run.get_or_insert_with(|| Arc::new(sort_rows(active.clone())));
        Some(Arc::clone(run))
    }

    /// A mark behind the rows of the active chunk; `None` when there are none.
    fn mark(&mut self) -> Option<Arc<Mark>> {
        if self.active.is_empty() {
            return None;
        }
        let newest = self.marks.last().and_then(Weak::upgrade);
        if let Some(mark) = newest.filter(|mark| mark.rows == self.active.len()) {
            return Some(mark);
        }
        self.marks.retain(|mark| mark.strong_count() > 0);
        let mark = Arc::new(Mark { rows: self.active.len(), run: OnceLock::new() });
        self.marks.push(Arc::downgrade(&mark));
        Some(mark)
    }

    /// The marked rows as a run. A mark without one is of the chunk that is active still: a full chunk gives all
    /// marks theirs before it is sorted.
    fn run_of(&mut self, mark: &Mark) -> Arc<RowBlock> {
        if let Some(run) = mark.run.get() {
            return Arc::clone(run);
        }
        let whole = if mark.rows == self.active.len() { self.active_run() } else { None };
        let run = whole.unwrap_or_else(|| Arc::new(sort_rows(prefix(&self.active, mark.rows))));
        Arc::clone(mark.run.get_or_init(|| run))
    }
}

/// The first rows of a block.
fn prefix(block: &RowBlock, rows: usize) -> RowBlock {
    let columns = block.columns.iter().map(|column| {
        let mut first = Column { key: column.key, values: column.values.empty_like(), valid: None };
        first.extend_from(column, 0..rows);
        first
    });
    RowBlock {
        series: block.series.iter().take(rows).copied().collect(),
        ts_ns: block.ts_ns.iter().take(rows).copied().collect(),
        columns: columns.collect(),
    }
}

/// Appends all rows of a block; columns that one of both does not have are null for its rows.
fn append_block(block: &mut RowBlock, rows: &RowBlock) {
    let len = block.len();
    for from in &rows.columns {
        let found = block.columns.binary_search_by_key(&from.key, |column| column.key);
        let column_idx = found.unwrap_or_else(|place| {
            let new = Column { key: from.key, values: from.values.empty_like(), valid: None };
            block.columns.insert(place, new);
            place
        });
        if let Some(column) = block.columns.get_mut(column_idx) {
            pad_nulls(column, len);
            append_column(column, from);
        }
    }
    block.series.extend_from_slice(&rows.series);
    block.ts_ns.extend_from_slice(&rows.ts_ns);
    for column in &mut block.columns {
        pad_nulls(column, block.ts_ns.len());
    }
}

/// Memory of a block, with what its columns may grow into.
fn block_bytes(block: &RowBlock) -> usize {
    bytes_of(&block.series)
        + bytes_of(&block.ts_ns)
        + bytes_of(&block.columns)
        + block.columns.iter().map(column_bytes).sum::<usize>()
}

fn column_bytes(column: &Column) -> usize {
    let valid = column.valid.as_ref().map_or(0, bytes_of);
    let values = match &column.values {
        Values::F64(values) => bytes_of(values),
        Values::I64(values) => bytes_of(values),
        Values::U64(values) => bytes_of(values),
        Values::Bool(values) => bytes_of(values),
        Values::Hist(values) => values.memory_bytes(),
        Values::Uniques(values) => values.memory_bytes(),
        Values::Str(texts) => bytes_of(&texts.bytes) + bytes_of(&texts.ends),
    };
    valid + values
}

fn bytes_of<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ColumnKey, FieldId, SeriesId, Value};
    use crate::rows::merge_sorted;

    const M: MeasurementId = MeasurementId(3);

    /// Rows of (series, time, field, value).
    fn block(rows: &[(u32, i64, u16, i64)]) -> RowBlock {
        let mut block = RowBlock::default();
        for (series, ts_ns, field, value) in rows {
            let key = ColumnKey::value(FieldId(*field));
            let one = Column { key, values: Values::I64(vec![*value]), valid: None };
            let one = RowBlock { series: vec![SeriesId(*series)], ts_ns: vec![*ts_ns], columns: vec![one] };
            append_block(&mut block, &one);
        }
        block
    }

    fn rows_of(block: &RowBlock) -> Vec<(u32, i64, Vec<Option<Value>>)> {
        let row = |row_idx: usize| {
            let values = block.columns.iter().map(|column| column.value(row_idx)).collect();
            (block.series[row_idx].0, block.ts_ns[row_idx], values)
        };
        (0..block.len()).map(row).collect()
    }

    #[test]
    fn sorted_last_write_wins_field_by_field() {
        let memtable = Memtable::new();
        memtable.apply(M, &block(&[(2, 10, 0, 1), (1, 20, 0, 2), (1, 10, 0, 3)]));
        memtable.apply(M, &block(&[(1, 10, 1, 4), (2, 10, 0, 5)]));
        let int = |value| Some(Value::Int(value));
        let expected =
            vec![(1, 10, vec![int(3), int(4)]), (1, 20, vec![int(2), None]), (2, 10, vec![int(5), None])];
        assert_eq!(rows_of(&merge_sorted(&memtable.runs(M))), expected);
        assert_eq!(memtable.runs(M).len(), 1);
        assert_eq!((memtable.rows(), memtable.time_range()), (5, Some(TimeRange::new(10, 21))));
    }

    #[test]
    fn runs_are_cached_until_the_next_apply() {
        let memtable = Memtable::new();
        memtable.apply(M, &block(&[(1, 1, 0, 1)]));
        let (first, second) = (memtable.runs(M), memtable.runs(M));
        assert!(first.iter().zip(&second).all(|(one, other)| Arc::ptr_eq(one, other)));
        memtable.apply(M, &block(&[(1, 2, 0, 2)]));
        assert_eq!((first[0].len(), memtable.runs(M)[0].len()), (1, 2), "a run given away never changes");
    }

    #[test]
    fn apply_full_chunk_becomes_a_run_and_later_runs_win() {
        let memtable = Memtable::new();
        let rows = CHUNK_ROWS_MAX - 1;
        let times = || (0..).take(rows);
        let values =
            Column { key: ColumnKey::value(FieldId(0)), values: Values::I64(vec![7; rows]), valid: None };
        let many =
            RowBlock { series: vec![SeriesId(1); rows], ts_ns: times().collect(), columns: vec![values] };
        memtable.apply(M, &many);
        memtable.apply(M, &block(&[(1, 3, 0, 8)]));
        memtable.apply(M, &block(&[(1, 3, 0, 9), (0, 1, 1, 1)]));
        let runs = memtable.runs(M);
        assert_eq!(runs.iter().map(|run| run.len()).collect::<Vec<_>>(), [rows, 2]);
        let sorted = merge_sorted(&memtable.runs(M));
        assert_eq!(sorted.len(), rows + 1);
        assert_eq!(sorted.columns[0].value(4), Some(Value::Int(9)));
        assert_eq!(sorted.columns[1].value(0), Some(Value::Int(1)));
        let least = rows * (4 + 8 + 8);
        assert!((least..least + 1000).contains(&memtable.bytes()), "a run has no spare room");
    }

    #[test]
    fn snapshot_does_not_see_later_rows_even_when_its_chunk_fills_up() {
        let memtable = Memtable::new();
        memtable.apply(M, &block(&[(1, 5, 0, 1), (1, 3, 0, 2)]));
        let (read, unread) = (memtable.snapshot(), memtable.snapshot());
        memtable.apply(M, &block(&[(1, 5, 0, 7), (1, 4, 0, 8)]));
        memtable.apply(MeasurementId(4), &block(&[(9, 9, 0, 9)]));
        let expected = [vec![(1, 3, vec![Some(Value::Int(2))]), (1, 5, vec![Some(Value::Int(1))])]];
        let check = |snapshot: &Snapshot| {
            let runs = snapshot.runs(M);
            assert_eq!(runs.iter().map(|run| rows_of(run)).collect::<Vec<_>>(), expected);
            assert!(snapshot.runs(MeasurementId(4)).is_empty());
            assert_eq!(snapshot.time_range(), Some(TimeRange::new(3, 6)));
        };
        check(&read);
        let many = vec![7; CHUNK_ROWS_MAX];
        let times = (0..).take(CHUNK_ROWS_MAX).collect();
        let column = Column { key: ColumnKey::value(FieldId(0)), values: Values::I64(many), valid: None };
        let series = vec![SeriesId(1); CHUNK_ROWS_MAX];
        memtable.apply(M, &RowBlock { series, ts_ns: times, columns: vec![column] });
        check(&read);
        check(&unread);
        let later = memtable.snapshot().runs(M);
        assert_eq!(later.iter().map(|run| run.len()).collect::<Vec<_>>(), [CHUNK_ROWS_MAX]);
    }

    #[test]
    fn settled_memtable_has_its_runs_without_copies_and_snapshots_keep_theirs() {
        let memtable = Memtable::new();
        memtable.apply(M, &block(&[(1, 5, 0, 1), (1, 3, 0, 2)]));
        let early = memtable.snapshot();
        memtable.apply(M, &block(&[(1, 5, 0, 7)]));
        let late = memtable.snapshot();
        let cached = memtable.runs(M);
        memtable.settle();
        let counted = memtable.bytes();
        memtable.settle();
        let settled = memtable.runs(M);
        assert!(Arc::ptr_eq(&settled[0], &cached[0]), "what a query sorted is not sorted again");
        assert_eq!((settled.len(), memtable.bytes()), (1, counted));
        let int = |value| Some(Value::Int(value));
        assert_eq!(rows_of(&settled[0]), [(1, 3, vec![int(2)]), (1, 5, vec![int(7)])]);
        assert_eq!(rows_of(&late.runs(M)[0]), rows_of(&settled[0]));
        assert_eq!(rows_of(&early.runs(M)[0]), [(1, 3, vec![int(2)]), (1, 5, vec![int(1)])]);
        assert!(memtable.snapshot().runs(M).len() == 1 && early.runs(M).len() == 1);
    }

    #[test]
    fn snapshots_of_one_moment_share_their_run() {
        let memtable = Memtable::new();
        memtable.apply(M, &block(&[(1, 5, 0, 1)]));
        let (one, other) = (memtable.snapshot(), memtable.snapshot());
        assert!(Arc::ptr_eq(&one.runs(M)[0], &other.runs(M)[0]));
    }

    #[test]
    fn memtable_without_rows_is_empty() {
        let memtable = Memtable::new();
        memtable.apply(M, &RowBlock::default());
        assert!(memtable.is_empty() && memtable.measurements().is_empty() && memtable.runs(M).is_empty());
        assert_eq!((memtable.bytes(), memtable.time_range()), (0, None));
        assert!(merge_sorted(&memtable.runs(M)).is_empty());
        memtable.apply(M, &block(&[(1, 1, 0, 1)]));
        assert_eq!((memtable.measurements(), memtable.is_empty()), (vec![M], false));
    }
}
