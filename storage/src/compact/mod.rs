//! Compaction: segments of one raw partition become one, duplicates resolved with the later generation winning and
//! deleted rows left out; a single segment with deleted rows is written anew without them.
//! `pick` decides, this file acts. Knows nothing of cells, but keeps the manifest's account of what they cover.

mod pick;

use std::sync::Arc;

pub(crate) use pick::{Merge, pick, pick_within};

use crate::draft::{Draft, schema_of};
use crate::manifest::{RolledSpan, SegmentMeta};
use crate::model::{Schema, Tier, TimeRange};
use crate::pipeline::{Sink, pipe};
use crate::scan::merge::{Piece, PieceSize, measurements, merged};
use crate::segment::Texts;
use crate::version::{Edit, FileNumbers, Store, Written};
use crate::{Error, ErrorKind, Result};

/// Carries out one merge.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then.
pub(crate) fn run(store: &Store, merge: &Merge) -> Result<()> {
    run_in_pieces(store, merge, PieceSize::USUAL)
}

/// As [`run`]. The file is the same, whatever the size of the pieces.
pub(crate) fn run_in_pieces(store: &Store, merge: &Merge, size: PieceSize) -> Result<()> {
    store.attempt(|numbers| write(store, numbers, merge, size))
}

fn write(store: &Store, numbers: &mut FileNumbers<'_>, merge: &Merge, size: PieceSize) -> Result<()> {
    let (manifest, version) = store.live();
    let inputs: Vec<_> =
        version.of_tier(Tier::Raw).filter(|live| merge.inputs.contains(&live.meta.id)).collect();
    // Without one of them later rows might come before earlier ones.
    if inputs.len() != merge.inputs.len() {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("not all segments of {:?} are live", merge.inputs),
        ));
    }
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else { return Ok(()) };
    let mut draft = Draft::in_background(numbers, Tier::Raw, first.meta.partition);
    let read = |sink: &mut Sink<'_, (Arc<Schema>, Piece)>| {
        measurements(&inputs).into_iter().try_for_each(|measurement| {
            let schema = Arc::new(schema_of(store, measurement)?);
            let mut sink = |piece| sink((Arc::clone(&schema), piece));
            merged(&version, &inputs, measurement, (TimeRange::ALL, Texts::Whole), size, &mut sink)
        })
    };
    pipe(read, |(schema, piece)| draft.push(store, &schema, &piece.rows))?;
    let output = draft.finish(store, last.meta.generation)?;
    let is_masked = |id: &u64| manifest.tombstones.iter().any(|tombstone| tombstone.is_pending(*id));
    if output.is_none() && !merge.inputs.iter().any(is_masked) {
        return Err(Error::new(ErrorKind::Internal, format!("segments {:?} hold no row", merge.inputs)));
    }
    let mut edit =
        Edit { add: output.into_iter().collect(), remove: merge.inputs.clone(), ..Edit::default() };
    Written::count(&store.written.compacted, &edit);
    let inputs: Vec<&SegmentMeta> = inputs.iter().map(|live| &live.meta).collect();
    let spans = manifest.rolled.iter();
    edit.rolled = Some(spans.map(|span| cover_output(span, &inputs, edit.add.first())).collect());
    store.commit(edit)
}

/// The span with the inputs replaced by the output, when the cells cover all inputs that reach into it (even none:
/// the output then has no row there, though its times may enclose the span); without them otherwise, so that the
/// span is rolled again.
fn cover_output(span: &RolledSpan, inputs: &[&SegmentMeta], output: Option<&SegmentMeta>) -> RolledSpan {
    let mut reaching = inputs.iter().filter(|meta| reaches(meta, span.span));
    let is_covered = reaching.all(|meta| span.covers.contains(&meta.id));
    let mut covers = span.covers.clone();
    covers.retain(|id| !inputs.iter().any(|meta| meta.id == *id));
    covers.extend(output.filter(|output| is_covered && reaches(output, span.span)).map(|output| output.id));
    RolledSpan { span: span.span, covers }
}

/// Whether a segment may have rows in a range.
pub(crate) fn reaches(meta: &SegmentMeta, range: TimeRange) -> bool {
    meta.min_ts_ns < range.end_ns && range.start_ns <= meta.max_ts_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(id: u64, min_ts_ns: i64, max_ts_ns: i64) -> SegmentMeta {
        SegmentMeta {
            id,
            tier: Tier::Raw,
            partition: TimeRange::new(0, 100),
            min_ts_ns,
            max_ts_ns,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation: id,
        }
    }

    fn check(covers: &[u64], inputs: &[SegmentMeta], output: &SegmentMeta, expected: &[u64]) {
        let span = RolledSpan { span: TimeRange::new(40, 60), covers: covers.to_vec() };
        let inputs: Vec<&SegmentMeta> = inputs.iter().collect();
        assert_eq!(cover_output(&span, &inputs, Some(output)).covers, expected);
    }

    #[test]
    fn cover_output_follows_what_the_cells_have() {
        let both = [meta(1, 40, 45), meta(2, 50, 55)];
        check(&[1, 2], &both, &meta(9, 40, 55), &[9]);
        check(&[1], &both, &meta(9, 40, 55), &[]);
        check(&[1, 7], &[meta(1, 40, 45), meta(2, 0, 5)], &meta(9, 0, 45), &[7, 9]);
        // Rows before and after the span: the output encloses it and has nothing in it.
        check(&[7], &[meta(1, 0, 5), meta(2, 80, 90)], &meta(9, 0, 90), &[7, 9]);
        check(&[7], &[meta(1, 0, 5), meta(2, 10, 20)], &meta(9, 0, 20), &[7]);
    }
}
