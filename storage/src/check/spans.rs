//! What cells answer for: rolled spans against live segments. A pure look at the manifest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Affected, Checker, Finding, Severity};
use crate::manifest::{FILE_NAME, Manifest, SegmentMeta};
use crate::model::{Tier, TimeRange};
use crate::rolled::Lost;
use crate::version::segment_path;

impl Checker<'_> {
    /// Looks at each span and at each file of cells.
    pub(super) fn spans(&mut self, manifest: &Manifest) {
        let path = self.dir.join(FILE_NAME);
        let add = |severity, what: &str, tier, range| {
            let affected = Some(Affected { tier, measurement: None, range, rows: 0 });
            Finding { affected, ..Finding::of_file(severity, &path, what.to_owned()) }
        };
        let lost = Lost::of(manifest);
        for span in lost.frozen {
            let what = "raw rows of this span were taken out: what its cells hold is all there is of them";
            self.report.add(add(Severity::Note, what, None, span));
        }
        for (span, tier) in lost.holes {
            let what = "cells of this span are missing in one layer and there in another, which answers";
            self.report.add(add(Severity::Note, what, Some(tier), span));
        }
        let spans: BTreeSet<_> = manifest.rolled.iter().map(|span| bounds(span.span)).collect();
        let cells = || manifest.segments.iter().filter(|meta| meta.tier != Tier::Raw);
        for meta in cells().filter(|meta| !spans.contains(&bounds(meta.partition))) {
            let what = "no rolled span names these cells: they are never read";
            let affected = Some(Affected::of_segment(meta));
            let path = segment_path(self.dir, meta.id);
            self.report.add(Finding { affected, ..Finding::of_file(Severity::Note, &path, what.to_owned()) });
        }
        let mut ends: BTreeMap<Tier, i64> = BTreeMap::new();
        let mut sorted: Vec<&SegmentMeta> = cells().collect();
        sorted.sort_by_key(|meta| meta.partition.start_ns);
        for meta in sorted {
            let end_ns = ends.entry(meta.tier).or_insert(i64::MIN);
            if meta.partition.start_ns < *end_ns {
                let what = format!("cells of segment {} stand in another segment too", meta.id);
                self.report.add(add(Severity::Damage, &what, Some(meta.tier), meta.partition));
            }
            *end_ns = meta.partition.end_ns.max(*end_ns);
        }
    }
}

fn bounds(range: TimeRange) -> (i64, i64) {
    (range.start_ns, range.end_ns)
}
