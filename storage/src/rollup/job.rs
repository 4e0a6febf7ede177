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
        let mut edit = write(store, manifest, &version, work.span, &inputs)?;
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
        let cells = version.segments.iter().filter(|live| from.max(Tier::M1) <= live.meta.tier);
        let inputs: Vec<&LiveSegment> = cells.filter(|live| live.meta.partition == span).collect();
        let edit = write(store, manifest, &version, span, &inputs)?;
        store.commit(manifest, edit)
    })
}

/// Writes the cell files of a span, each measurement from the finest of the inputs that have it; the edit swaps them
/// for those it had.
fn write(
    store: &Store,
    manifest: &mut Manifest,
    version: &Version,
    span: TimeRange,
    inputs: &[&LiveSegment],
) -> Result<Edit> {
    let mut files = Tier::CELLS.map(|tier| TierFile {
        tier,
        id: manifest.take_file_number(),
        writer: None,
        is_in_section: false,
    });
    for measurement in measurements(inputs) {
        let schema = store.catalog.schema_of(measurement).ok_or_else(|| unknown_measurement(measurement))?;
        let section = SectionInfo { measurement, name: &schema.name, fields: &schema.fields };
        let holders = inputs.iter().filter(|live| live.segment.section(measurement).is_some());
        let Some(finest) = holders.map(|live| live.meta.tier).min() else { continue };
        let of_finest: Vec<&LiveSegment> =
            inputs.iter().copied().filter(|live| live.meta.tier == finest).collect();
        merged(version, &of_finest, measurement, span, &mut |block| {
            let (mut cells, mut tier) = match finest {
                Tier::Raw => (fold(&block, section.fields), Tier::M1),
                Tier::M1 | Tier::M5 | Tier::H1 => (block, finest),
            };
            for file in files.iter_mut().filter(|file| finest <= file.tier) {
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
