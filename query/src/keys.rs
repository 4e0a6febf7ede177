//! Keys of very many series, a few at a time: what is held is one chunk of them, whatever their number.
//!
//! Knows nothing of what is made of a key.

use icecore_storage::model::{SeriesId, SeriesKey};
use icecore_storage::scan::Scan;

use crate::{Budget, Result};

/// Series whose keys are held at once.
const CHUNK: usize = 1024;

/// Hands over the keys of series one after the other, with their positions.
///
/// # Errors
/// Those of storage, the budget and the sink.
pub fn each_key(
    scan: &dyn Scan,
    ids: &[SeriesId],
    budget: &Budget,
    mut sink: impl FnMut(usize, &SeriesKey) -> Result<()>,
) -> Result<()> {
    let mut position = 0;
    for chunk in ids.chunks(CHUNK) {
        budget.check_time()?;
        for key in scan.keys(chunk)? {
            sink(position, &key)?;
            position += 1;
        }
    }
    Ok(())
}
