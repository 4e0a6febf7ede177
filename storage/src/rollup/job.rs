//! The roll: raw rows of a span become layers of one minute, five minutes and an hour, and one manifest commit swaps
//! them in. `pick` decides, `cells::layers` presses, this file acts.

use std::sync::Arc;

use super::Work;
use crate::Result;
use crate::cells::layers;
use crate::draft::{Draft, schema_of};
use crate::manifest::{Manifest, RolledSpan};
use crate::model::Tier;
use crate::scan::merge::{measurements, merged};
use crate::segment::Segment;
use crate::version::{Edit, Store};

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
    let mut drafts = Tier::CELLS.map(|tier| Draft::new(manifest, tier, work.span));
    for measurement in measurements(&segments) {
        let schema = schema_of(store, measurement)?;
        merged(&segments, measurement, work.span, &mut |rows| {
            let layers = layers(rows, &schema.fields)?;
            drafts.iter_mut().zip(&layers).try_for_each(|(draft, cells)| draft.push(store, &schema, cells))
        })?;
    }
    let generation = manifest.next_file;
    let mut edit = Edit::default();
    for draft in drafts {
        edit.add.extend(draft.finish(store, generation)?);
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
