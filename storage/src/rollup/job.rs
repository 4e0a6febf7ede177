//! The roll: raw rows of a span become layers of one minute, five minutes and an hour, and one manifest commit swaps
//! them in. `pick` decides, `cells::layers` presses, this file acts.

use std::sync::Arc;

use super::Work;
use crate::Result;
use crate::cells::layers;
use crate::flush::{segment_meta, unknown_measurement};
use crate::manifest::{Manifest, RolledSpan};
use crate::model::FieldInfo;
use crate::model::{MeasurementId, RowBlock, Tier};
use crate::scan::merge::{measurements, merged};
use crate::segment::{Segment, SegmentWriter};
use crate::version::{Edit, Store};

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
    store.attempt(manifest, |manifest| write(store, manifest, work))
}

fn write(store: &Store, manifest: &mut Manifest, work: &Work) -> Result<()> {
    let version = store.version();
    let inputs = version.of_tier(Tier::Raw).filter(|live| work.inputs.contains(&live.meta.id));
    let segments: Vec<Arc<Segment>> = inputs.map(|live| Arc::clone(&live.segment)).collect();
    let mut files = Tier::CELLS.map(|tier| TierFile {
        tier,
        id: manifest.take_file_number(),
        writer: None,
        is_in_section: false,
    });
    for measurement in measurements(&segments) {
        let schema = store.catalog.schema_of(measurement).ok_or_else(|| unknown_measurement(measurement))?;
        let section = SectionInfo { measurement, name: &schema.name, fields: &schema.fields };
        merged(&segments, measurement, work.span, &mut |rows| {
            let layers = layers(rows, section.fields)?;
            files.iter_mut().zip(&layers).try_for_each(|(file, cells)| file.push(store, &section, cells))
        })?;
        files.iter_mut().try_for_each(|file| file.end_section(store))?;
    }
    let generation = manifest.next_file;
    let mut edit = Edit::default();
    for file in files {
        if let Some(writer) = file.writer {
            let summary = writer.finish(&*store.env.fs)?;
            edit.add.push(segment_meta(file.id, file.tier, work.span, generation, &summary));
        }
    }
    // Cells of a span lie in files of exactly that span, so the files it replaces are those with its bounds.
    let old = manifest.segments.iter().filter(|meta| meta.tier != Tier::Raw && meta.partition == work.span);
    edit.remove = old.map(|meta| meta.id).collect();
    let mut rolled = manifest.rolled.clone();
    rolled.retain(|span| span.span != work.span);
    rolled.push(RolledSpan { span: work.span, covers: work.inputs.clone() });
    rolled.sort_by_key(|span| span.span.start_ns);
    edit.rolled = Some(rolled);
    store.commit(manifest, edit)
}
