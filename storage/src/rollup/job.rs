//! The roll: raw rows of a span become cells of one minute, those cells of five minutes, those cells of an hour,
//! and one manifest commit swaps them in. `pick` decides, `fold` presses, this file acts.
//!
//! [`press`] does the same from the finest cells that are kept, for a span of which something was deleted after its
//! raw rows were dropped. Deleted rows and cells are left out by both.

use super::Work;
use crate::Result;
use crate::cells::{Folder, coarsen};
use crate::flush::{segment_meta, unknown_measurement};
use crate::manifest::{Manifest, RolledSpan};
use crate::model::FieldInfo;
use crate::model::{MeasurementId, RowBlock, Tier, TimeRange};
use crate::scan::merge::{measurements, merged};
use crate::segment::SegmentWriter;
use crate::tombstone::Source;
use crate::version::{Edit, LiveSegment, Store, Version};

/// The file of one tier, begun when its first cell comes.
struct TierFile {
    tier: Tier,
    id: u64,
    writer: Option<SegmentWriter>,
    is_in_section: bool,
}

impl TierFile {
    fn push(&mut self, store: &Store, section: &SectionInfo<'_>, cells: &RowBlock) -> Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        if self.writer.is_none() {
            self.writer = Some(SegmentWriter::create(&*store.env.fs, &store.segment_path(self.id))?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if !self.is_in_section {
            writer.begin(section.measurement, section.name, section.fields)?;
            self.is_in_section = true;
        }
        writer.push(cells)
    }

    fn end_section(&mut self, store: &Store) -> Result<()> {
        if let (Some(writer), true) = (&mut self.writer, self.is_in_section) {
            writer.end(&|series| store.catalog.key(series))?;
        }
        self.is_in_section = false;
        Ok(())
    }
}

struct SectionInfo<'a> {
    measurement: MeasurementId,
    name: &'a str,
    fields: &'a [FieldInfo],
}

/// Rolls one span, replacing the cells it had.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then.
pub(crate) fn run(store: &Store, manifest: &mut Manifest, work: &Work) -> Result<()> {
    store.attempt(manifest, |manifest| {
        let version = store.version();
        let inputs: Vec<&LiveSegment> =
            version.of_tier(Tier::Raw).filter(|live| work.inputs.contains(&live.meta.id)).collect();
        let mut edit = write(store, manifest, &version, work.span, Source::Rows, &inputs)?;
        let mut rolled = manifest.rolled.clone();
        rolled.retain(|span| span.span != work.span);
        rolled.push(RolledSpan { span: work.span, covers: work.inputs.clone() });
        rolled.sort_by_key(|span| span.span.start_ns);
        edit.rolled = Some(rolled);
        store.commit(manifest, edit)
    })
}

/// Writes the cells of a span anew from the finest that are kept, without those that are deleted.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then.
pub(crate) fn press(store: &Store, manifest: &mut Manifest, span: TimeRange, from: Tier) -> Result<()> {
    store.attempt(manifest, |manifest| {
        let version = store.version();
        let inputs: Vec<&LiveSegment> =
            version.of_tier(from).filter(|live| live.meta.partition == span).collect();
        let edit = write(store, manifest, &version, span, Source::Cells(from), &inputs)?;
        store.commit(manifest, edit)
    })
}

/// Writes the cell files of a span; the edit swaps them for those it had.
fn write(
    store: &Store,
    manifest: &mut Manifest,
    version: &Version,
    span: TimeRange,
    source: Source,
    inputs: &[&LiveSegment],
) -> Result<Edit> {
    let is_pressed = |tier: &Tier| !matches!(source, Source::Cells(finest) if *tier < finest);
    let mut files: Vec<TierFile> = Tier::CELLS
        .into_iter()
        .filter(is_pressed)
        .map(|tier| TierFile { tier, id: manifest.take_file_number(), writer: None, is_in_section: false })
        .collect();
    for measurement in measurements(inputs) {
        let schema = store.catalog.schema_of(measurement).ok_or_else(|| unknown_measurement(measurement))?;
        let section = SectionInfo { measurement, name: &schema.name, fields: &schema.fields };
        merged(version, inputs, measurement, span, &mut |block| {
            let (mut cells, mut tier) = match source {
                Source::Cells(finest) => (block, finest),
                Source::Rows | Source::Nothing => (fold(&block, section.fields), Tier::M1),
            };
            for file in &mut files {
                if file.tier != tier {
                    cells = coarsen(&cells, section.fields, file.tier)?;
                    tier = file.tier;
                }
                file.push(store, &section, &cells)?;
            }
            Ok(())
        })?;
        files.iter_mut().try_for_each(|file| file.end_section(store))?;
    }
    let generation = manifest.next_file;
    let mut edit = Edit::default();
    for file in files {
        if let Some(writer) = file.writer {
            let summary = writer.finish(&*store.env.fs)?;
            edit.add.push(segment_meta(file.id, file.tier, span, generation, &summary));
        }
    }
    // Cells of a span lie in files of exactly that span, so the files it replaces are those with its bounds.
    let old = manifest.segments.iter().filter(|meta| meta.tier != Tier::Raw && meta.partition == span);
    edit.remove = old.map(|meta| meta.id).collect();
    Ok(edit)
}

fn fold(rows: &RowBlock, fields: &[FieldInfo]) -> RowBlock {
    let mut folder = Folder::new(fields);
    folder.push(rows);
    folder.finish()
}
