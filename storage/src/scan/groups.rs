//! Windows of groups of series, made of those of each series: the plain way, for every [`Scan`].

use super::{Coverage, GroupRequest, Meter, Scan, WindowSlice};
use crate::model::Partial;
use crate::{Error, Result};

/// Carries out a request by merging the windows of each series into those of its group.
pub(super) fn merged<S: Scan + ?Sized>(
    scan: &S,
    request: &GroupRequest<'_>,
    meter: &dyn Meter,
    sink: &mut dyn FnMut(WindowSlice<'_>) -> Result<()>,
) -> Result<Coverage> {
    let mut groups: Vec<Vec<Partial>> = vec![Vec::new(); request.group_count];
    let mut answered = Vec::new();
    let coverage = scan.windows(&request.read, meter, &mut |slice| {
        let group = request.groups.get(slice.series_idx).and_then(|group| groups.get_mut(*group as usize));
        let Some(merged) = group else { return Err(Error::invalid("a series has no group")) };
        if merged.is_empty() {
            merged.extend_from_slice(slice.partials);
        } else {
            merged.iter_mut().zip(slice.partials).for_each(|(into, partial)| into.merge(partial));
        }
        if answered.is_empty() {
            answered.extend_from_slice(slice.windows);
        }
        Ok(())
    })?;
    for (group, partials) in groups.iter().enumerate().filter(|(_, partials)| !partials.is_empty()) {
        sink(WindowSlice { series_idx: group, windows: &answered, partials })?;
    }
    Ok(coverage)
}
