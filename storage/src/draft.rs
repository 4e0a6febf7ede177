//! A segment in the making, as the jobs need it: the file is created when its first row comes, sections begin and end
//! by themselves, and an empty one leaves nothing behind. Knows nothing of why it is written.

use crate::Result;
use crate::manifest::SegmentMeta;
use crate::model::{MeasurementId, RowBlock, Schema, StatSet, Tier, TimeRange};
use crate::segment::{SegmentWriter, SeriesTable};
use crate::version::{FileNumbers, Store};
use crate::{Error, ErrorKind};

/// One segment of one tier and partition.
#[derive(Debug)]
pub(crate) struct Draft {
    id: u64,
    tier: Tier,
    partition: TimeRange,
    writer: Option<SegmentWriter>,
    section: Option<MeasurementId>,
    /// Bytes whose writing has been paid for with time; `None` when nobody asks for that.
    paid_bytes: Option<u64>,
}

impl Draft {
    /// Takes a file number; touches no file yet.
    pub(crate) fn new(numbers: &mut FileNumbers<'_>, tier: Tier, partition: TimeRange) -> Self {
        Self { id: numbers.take(), tier, partition, writer: None, section: None, paid_bytes: None }
    }

    /// As [`Draft::new`], for what is written at the rate of background work.
    pub(crate) fn in_background(numbers: &mut FileNumbers<'_>, tier: Tier, partition: TimeRange) -> Self {
        Self { paid_bytes: Some(0), ..Self::new(numbers, tier, partition) }
    }

    /// Adds rows of a measurement. Over all calls they are sorted by (measurement, series, time), each once.
    ///
    /// # Errors
    /// Those of the file system; `Internal` when rows are out of order; `Unavailable` in the background when the engine
    /// closes.
    pub(crate) fn push(&mut self, store: &Store, schema: &Schema, rows: &RowBlock) -> Result<()> {
        self.push_cells(store, (schema, &[]), rows)
    }

    /// As [`Draft::push`], cells that keep these groups of statistics of each field.
    ///
    /// # Errors
    /// As [`Draft::push`].
    pub(crate) fn push_cells(
        &mut self,
        store: &Store,
        (schema, kept): (&Schema, &[StatSet]),
        rows: &RowBlock,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.section != Some(schema.measurement) {
            self.end_section(store, &mut SeriesTable::default())?;
        }
        self.begin(store, (schema, kept))?.push(rows)?;
        self.pay(store)
    }

    /// The writer, its section that of a measurement; the section before must have been ended.
    ///
    /// # Errors
    /// Those of the file system; `Internal` for another section.
    pub(crate) fn begin(
        &mut self,
        store: &Store,
        (schema, kept): (&Schema, &[StatSet]),
    ) -> Result<&mut SegmentWriter> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            slot => slot.insert(SegmentWriter::create(&*store.env.fs, &store.segment_path(self.id))?),
        };
        if self.section != Some(schema.measurement) {
            writer.begin_cells(schema.measurement, &schema.name, &schema.fields, kept)?;
            self.section = Some(schema.measurement);
        }
        Ok(writer)
    }

    /// Pays with time for what was written since the last payment, when somebody asks for that.
    ///
    /// # Errors
    /// `Unavailable` when the engine closes.
    pub(crate) fn pay(&mut self, store: &Store) -> Result<()> {
        if let (Some(paid), Some(writer)) = (&mut self.paid_bytes, &self.writer) {
            let bytes = writer.bytes();
            store.pace.check()?;
            store.pace.spend(&*store.env.clock, bytes - *paid);
            *paid = bytes;
        }
        Ok(())
    }

    /// The writer, once there was a row.
    pub(crate) fn writer(&mut self) -> Option<&mut SegmentWriter> {
        self.writer.as_mut()
    }

    /// Ends the section, if there is one, with what the series table shares with that of another segment.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn end_section(&mut self, store: &Store, table: &mut SeriesTable) -> Result<()> {
        let (Some(writer), Some(_)) = (&mut self.writer, self.section.take()) else { return Ok(()) };
        writer.end_with(&|series, out| store.catalog.encode_key(series, out), table)
    }

    /// Makes the file durable and tells what the manifest shall say of it; `None` when no row came.
    ///
    /// # Errors
    /// Those of the file system; `Internal` when rows are not of the partition: cells of a time that other cells have, too,
    /// would be counted twice, and nobody would see it.
    pub(crate) fn finish(mut self, store: &Store, generation: u64) -> Result<Option<SegmentMeta>> {
        self.end_section(store, &mut SeriesTable::default())?;
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let summary = writer.finish(&*store.env.fs)?;
        if !(self.partition.contains(summary.min_ts_ns) && self.partition.contains(summary.max_ts_ns)) {
            let message = format!("segment {} has rows outside of {:?}", self.id, self.partition);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        if let Some(paid) = self.paid_bytes {
            store.pace.spend(&*store.env.clock, summary.bytes - paid);
        }
        Ok(Some(SegmentMeta {
            id: self.id,
            tier: self.tier,
            partition: self.partition,
            min_ts_ns: summary.min_ts_ns,
            max_ts_ns: summary.max_ts_ns,
            rows: summary.rows,
            bytes: summary.bytes,
            footer_crc: summary.footer_crc,
            generation,
        }))
    }
}

/// The schema of a measurement that has rows.
///
/// # Errors
/// `Internal` when the catalog does not know it: a bug.
pub(crate) fn schema_of(store: &Store, measurement: MeasurementId) -> Result<Schema> {
    store.catalog.schema_of(measurement).ok_or_else(|| {
        let message = format!("measurement {} is not in the catalog", measurement.0);
        Error::new(ErrorKind::Internal, message)
    })
}
