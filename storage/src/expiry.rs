//! Which series nothing on disk names any more, read from the series tables of the live segments: there is no second
//! account that could differ from the truth. Knows nothing of memtables, of the log and of when a look is due; the engine
//! does (`engine/expiry.rs`).

use roaring::RoaringBitmap;

use crate::Result;
use crate::segment::Section;
use crate::version::LiveSegment;

/// Takes the series that segments name out of `ids`; some six bytes are read for each series and segment, from the newest
/// segment on until no id is left.
///
/// # Errors
/// `Corruption` of a series table; those of the file system.
pub(crate) fn take_named<'a>(
    segments: impl DoubleEndedIterator<Item = &'a LiveSegment>,
    ids: &mut RoaringBitmap,
) -> Result<()> {
    for segment in segments.rev().map(|live| &live.segment) {
        for section in segment.sections() {
            if is_concerned(section, ids) {
                *ids -= segment.read_series_ids(section)?;
            }
        }
    }
    Ok(())
}

/// Whether some of the ids lie between the first and the last series of a section.
fn is_concerned(section: &Section, ids: &RoaringBitmap) -> bool {
    let (Some(first), Some(last)) = (section.pages.first(), section.pages.last()) else { return false };
    ids.range(first.first_series.0..=last.last_series.0).next().is_some()
}
