//! Flush: a frozen memtable becomes raw segments, one for each partition its rows touch, and the log may forget
//! them. Knows nothing of the log itself: the engine freezes before and releases after.
//!
//! Order: catalog delta, segments (each complete and durable), one manifest commit that names them all and moves
//! the log's floor. A crash before the commit leaves orphans, a crash after it a log that is longer than needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Result;
use crate::draft::{Draft, schema_of};
use crate::memtable::Memtable;
use crate::model::{RowBlock, Schema, Tier, TimeRange, floor_to};
use crate::pipeline::{Sink, pipe};
use crate::rows::{append_rows, merge_in_pieces};
use crate::series::CatalogMark;
use crate::version::{Edit, FileNumbers, Frozen, Store, Written};

/// A catalog of so many files more than it takes is written anew.
const CATALOG_FILES_MAX: usize = 16;
/// Rows merged at a time: small enough for the processor's caches.
const PIECE_ROWS: usize = 16 * 1024;
/// Values merged at a time: rows of many fields are many bytes.
const PIECE_VALUES: usize = 128 * 1024;
/// Segments written at a time. Each holds buffers; a memtable of more partitions is gone through more than once.
const DRAFTS_MAX: usize = 8;

/// Where the rows of partitions go, by start of the partition.
type Drafts = BTreeMap<i64, Draft>;

/// Writes one frozen memtable, the oldest; returns how far the catalog is on disk afterwards.
///
/// # Errors
/// Those of the file system; nothing has changed then.
pub(crate) fn run(store: &Store, frozen: &Frozen, mark: CatalogMark) -> Result<CatalogMark> {
    store.attempt(|numbers| write(store, numbers, frozen, mark))
}

fn write(
    store: &Store,
    numbers: &mut FileNumbers<'_>,
    frozen: &Frozen,
    mark: CatalogMark,
) -> Result<CatalogMark> {
    frozen.memtable.settle();
    store.note_memory();
    let manifest = store.manifest();
    let (catalog_files, mark) = write_catalog(store, &manifest.catalog_files, numbers, mark)?;
    let mut edit = Edit {
        wal_floor: Some(frozen.end_seq),
        catalog_files: Some(catalog_files),
        flushed_oldest: true,
        ..Edit::default()
    };
    let generation = store.next_file();
    let width_ns = manifest.kept().raw_partition_ns();
    let starts = partitions(&frozen.memtable, width_ns, manifest.floors_ns[0]);
    for starts in starts.chunks(DRAFTS_MAX) {
        let mut drafts = Drafts::new();
        for start_ns in starts {
            let partition = TimeRange::new(*start_ns, start_ns.saturating_add(width_ns));
            drafts.insert(*start_ns, Draft::new(numbers, Tier::Raw, partition));
        }
        fill(store, &frozen.memtable, width_ns, manifest.floors_ns[0], &mut drafts)?;
        for draft in drafts.into_values() {
            edit.add.extend(draft.finish(store, generation)?);
        }
    }
    Written::count(&store.written.flushed, &edit);
    store.commit(edit)?;
    store.catalog.note_saved();
    Ok(mark)
}

/// Writes what the catalog files do not say yet, without rows; returns how far the catalog is on disk afterwards.
///
/// # Errors
/// Those of the file system; nothing has changed then.
pub(crate) fn save_catalog(store: &Store, mark: CatalogMark) -> Result<CatalogMark> {
    store.attempt(|numbers| {
        let (catalog_files, mark) = write_catalog(store, &store.manifest().catalog_files, numbers, mark)?;
        store.commit(Edit { catalog_files: Some(catalog_files), ..Edit::default() })?;
        store.catalog.note_saved();
        Ok(mark)
    })
}

/// Starts of the partitions that rows from the floor on fall into, ascending.
fn partitions(memtable: &Memtable, width_ns: i64, floor_ns: i64) -> Vec<i64> {
    let mut starts = BTreeSet::new();
    for measurement in memtable.measurements() {
        for run in memtable.runs(measurement) {
            let mut last = None;
            for ts_ns in run.ts_ns.iter().filter(|ts_ns| floor_ns <= **ts_ns) {
                let start_ns = floor_to(*ts_ns, width_ns);
                if last != Some(start_ns) {
                    starts.insert(start_ns);
                    last = Some(start_ns);
                }
            }
        }
    }
    starts.into_iter().collect()
}

/// Writes the rows of the memtable that belong to the drafts' partitions.
fn fill(store: &Store, memtable: &Memtable, width_ns: i64, floor_ns: i64, drafts: &mut Drafts) -> Result<()> {
    let sort = |sink: &mut Sink<'_, (Arc<Schema>, BTreeMap<i64, RowBlock>)>| {
        memtable.measurements().into_iter().try_for_each(|measurement| {
            let schema = Arc::new(schema_of(store, measurement)?);
            let rows_max = PIECE_ROWS.min(PIECE_VALUES / schema.fields.len().max(1)).max(1);
            merge_in_pieces(&memtable.runs(measurement), rows_max, &mut |rows| {
                sink((Arc::clone(&schema), split(rows, width_ns, floor_ns)))
            })
        })
    };
    pipe(sort, |(schema, parts)| {
        parts.into_iter().try_for_each(|(start_ns, part)| match drafts.get_mut(&start_ns) {
            Some(draft) => draft.push(store, &schema, &part),
            None => Ok(()),
        })
    })
}

/// Writes the definitions made since the mark, and what left, as a new catalog file; the whole catalog when there are
/// many files. Nothing leaves meanwhile: series leave in the lane of flushes.
fn write_catalog(
    store: &Store,
    files: &[u64],
    numbers: &mut FileNumbers<'_>,
    mark: CatalogMark,
) -> Result<(Vec<u64>, CatalogMark)> {
    let (mut files, mut mark, end) = (files.to_vec(), mark, store.catalog.mark());
    let mut is_saved = mark == end && !store.catalog.has_unsaved_leaves();
    if !is_saved && store.catalog.files_min() + CATALOG_FILES_MAX <= files.len() {
        mark = CatalogMark::default();
        files.clear();
    }
    while !is_saved {
        let number = numbers.take();
        mark = store.catalog.save(&*store.env.fs, &store.series_dir(), number, mark)?;
        files.push(number);
        is_saved = !mark.is_before(end);
    }
    Ok((files, mark))
}

/// Splits rows sorted by (series, time) by partition; rows before the floor are left out.
fn split(rows: RowBlock, width_ns: i64, floor_ns: i64) -> BTreeMap<i64, RowBlock> {
    let mut parts: BTreeMap<i64, RowBlock> = BTreeMap::new();
    let (Some(min_ns), Some(max_ns)) = (rows.ts_ns.iter().min(), rows.ts_ns.iter().max()) else {
        return parts;
    };
    let partition_ns = floor_to(*min_ns, width_ns);
    if floor_ns <= *min_ns && partition_ns == floor_to(*max_ns, width_ns) {
        parts.insert(partition_ns, rows);
        return parts;
    }
    let mut start = 0;
    while let Some(first_ns) = rows.ts_ns.get(start) {
        // A run of rows of one partition: rows are sorted by time only within a series.
        let partition_ns = floor_to(*first_ns, width_ns);
        let range = TimeRange::new(partition_ns, partition_ns.saturating_add(width_ns));
        let rest = rows.ts_ns.get(start..).unwrap_or_default();
        // The floor may lie inside a partition once the retention was changed.
        let is_below = *first_ns < floor_ns;
        let is_alike = |ts_ns: &&i64| range.contains(**ts_ns) && (**ts_ns < floor_ns) == is_below;
        let len = rest.iter().take_while(is_alike).count().max(1);
        if !is_below {
            append_rows(parts.entry(partition_ns).or_default(), &rows, start, start + len);
        }
        start += len;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnKey, DAY_NS, FieldId, HOUR_NS, SeriesId, Values};

    #[test]
    fn split_rows_of_two_series_lands_in_their_hours() {
        let column =
            Column { key: ColumnKey::value(FieldId(0)), values: Values::I64(vec![1, 2, 3, 4]), valid: None };
        let rows = RowBlock {
            series: vec![SeriesId(0), SeriesId(0), SeriesId(1), SeriesId(1)],
            ts_ns: vec![HOUR_NS - 1, HOUR_NS, 5, HOUR_NS + 5],
            columns: vec![column],
        };
        let parts = split(rows.clone(), HOUR_NS, i64::MIN);
        let times: Vec<(i64, Vec<i64>)> =
            parts.iter().map(|(start, part)| (*start, part.ts_ns.clone())).collect();
        assert_eq!(times, [(0, vec![HOUR_NS - 1, 5]), (HOUR_NS, vec![HOUR_NS, HOUR_NS + 5])]);
        assert_eq!(split(rows.clone(), HOUR_NS, HOUR_NS).len(), 1, "rows before the floor are left out");
        let parts = split(rows, DAY_NS, HOUR_NS);
        assert_eq!(
            parts[&0].ts_ns,
            [HOUR_NS, HOUR_NS + 5],
            "and only those, when it lies inside a partition"
        );
    }
}
