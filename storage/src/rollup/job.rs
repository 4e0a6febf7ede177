//! The roll: raw rows of a span become layers of one minute, five minutes and an hour, and one manifest commit swaps
//! them in. `pick` decides, `cells::layers` presses, this file acts.
//!
//! [`press`] does the same from the finest cells that are kept, for a span of which something was deleted after its
//! raw rows were dropped. Deleted rows and cells are left out by both.

use super::Work;
use crate::Result;
use crate::cells::{coarsen, layers};
use crate::draft::{Draft, schema_of};
use crate::manifest::{Manifest, RolledSpan};
use crate::model::{FieldInfo, RowBlock, Tier, TimeRange};
use crate::scan::merge::{measurements, merged};
use crate::version::{Edit, LiveSegment, Store, Version};

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
    let mut drafts = Tier::CELLS.map(|tier| Draft::new(manifest, tier, span));
    for measurement in measurements(inputs) {
        let schema = schema_of(store, measurement)?;
        let holders = inputs.iter().filter(|live| live.segment.section(measurement).is_some());
        let Some(finest) = holders.map(|live| live.meta.tier).min() else { continue };
        let of_finest: Vec<&LiveSegment> =
            inputs.iter().copied().filter(|live| live.meta.tier == finest).collect();
        merged(version, &of_finest, measurement, span, &mut |block| {
            let layers = match finest {
                Tier::Raw => layers(block, &schema.fields)?,
                Tier::M1 | Tier::M5 | Tier::H1 => coarser(block, finest, &schema.fields)?,
            };
            drafts.iter_mut().zip(&layers).try_for_each(|(draft, cells)| draft.push(store, &schema, cells))
        })?;
    }
    let generation = manifest.next_file;
    let mut edit = Edit::default();
    for draft in drafts {
        edit.add.extend(draft.finish(store, generation)?);
    }
    // Cells of a span lie in files of exactly that span, so the files it replaces are those with its bounds.
    let old = manifest.segments.iter().filter(|meta| meta.tier != Tier::Raw && meta.partition == span);
    edit.remove = old.map(|meta| meta.id).collect();
    Ok(edit)
}

/// The cells of a tier and of the coarser ones; nothing for finer ones.
fn coarser(cells: RowBlock, finest: Tier, fields: &[FieldInfo]) -> Result<[RowBlock; 3]> {
    let mut layers = [RowBlock::default(), RowBlock::default(), RowBlock::default()];
    let mut last = cells;
    for (tier, layer) in Tier::CELLS.into_iter().zip(&mut layers).filter(|(tier, _)| finest <= *tier) {
        if finest < tier {
            last = coarsen(&last, fields, tier)?;
        }
        layer.clone_from(&last);
    }
    Ok(layers)
}
