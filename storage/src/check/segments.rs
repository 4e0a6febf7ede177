//! Segment files: what the manifest says of each, all that is in it, and what the catalog knows of that.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::report::plain;
use super::{Affected, Checker, Finding, Severity};
use crate::codec::Kind;
use crate::manifest::{Manifest, SegmentMeta};
use crate::model::{ColumnKey, FieldInfo, FieldType, Stat, Tier, TimeRange};
use crate::segment::{ColumnInfo, Damage, PageCache, Section, Segment, SegmentSummary};
use crate::version::segment_path;
use crate::{Error, ErrorKind, Result};

impl Checker<'_> {
    /// Reads every live segment.
    pub(super) fn segments(&mut self, manifest: &Manifest) -> Result<()> {
        if !self.is_catalog_whole && !manifest.segments.is_empty() {
            let what = "the catalog could not be read in full: segments are checked without it";
            self.report.mention(Severity::Note, self.dir, what);
        }
        for meta in &manifest.segments {
            self.segment(meta)?;
        }
        Ok(())
    }

    fn segment(&mut self, meta: &SegmentMeta) -> Result<()> {
        let path = segment_path(self.dir, meta.id);
        self.count(&path);
        // Pages are read past the cache.
        let segment = match Segment::open(self.fs, &path, meta.id, Arc::new(PageCache::new(0))) {
            Ok(segment) => segment,
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
            Err(error) => {
                let error = match error.kind() {
                    ErrorKind::NotFound => Error::corruption("it is named by the manifest and missing"),
                    _ => error,
                };
                self.segment_damage(meta, &path, &error);
                return Ok(());
            }
        };
        if let Err(error) = judge_summary(meta, segment.summary()) {
            self.segment_damage(meta, &path, &error);
        }
        // Sparse rows are in the 1m and 5m tiers as cells at their own times.
        let width_ns = if meta.tier == Tier::H1 { meta.tier.width_ns() } else { 1 };
        segment.verify_parts(width_ns, &mut |damage| self.part_damage(meta, &path, damage));
        for section in segment.sections() {
            if let Err(error) = judge_columns(meta.tier, &segment, section) {
                self.segment_damage(meta, &path, &error);
            }
            if self.is_catalog_whole
                && let Err(error) = self.references(&segment, section)
            {
                let affected = Affected {
                    tier: Some(meta.tier),
                    measurement: Some(Arc::clone(&section.name)),
                    range: TimeRange::new(section.min_ts_ns, section.max_ts_ns.saturating_add(1)),
                    rows: section.rows,
                };
                self.report.damage(&path, &error, Some(affected));
            }
        }
        Ok(())
    }

    fn segment_damage(&mut self, meta: &SegmentMeta, path: &Path, error: &Error) {
        self.note_damaged(meta, error);
        self.report.damage(path, error, Some(Affected::of_segment(meta)));
    }

    fn part_damage(&mut self, meta: &SegmentMeta, path: &Path, damage: Damage) {
        self.note_damaged(meta, &damage.error);
        let Damage { measurement, page, offset, range, rows, error } = damage;
        let affected = Some(Affected { tier: Some(meta.tier), measurement, range, rows });
        let what = plain(path, &error);
        let of_file = Finding::of_file(Severity::Damage, path, what);
        self.report.add(Finding { offset, page, affected, ..of_file });
    }

    /// A file that cannot be read for another reason than its bytes may be whole.
    fn note_damaged(&mut self, meta: &SegmentMeta, error: &Error) {
        if error.kind() == ErrorKind::Corruption {
            self.report.damaged_segments.insert(meta.id);
        }
    }

    /// Checks that the catalog knows the measurement, the fields that have columns, and all series.
    fn references(&self, segment: &Segment, section: &Section) -> Result<()> {
        let missing = |what: String| Err(Error::corruption(format!("{what} is not in the catalog")));
        let (id, name) = (section.measurement.0, &section.name);
        let Some(schema) = self.catalog.schema_of(section.measurement).filter(|known| known.name == *name)
        else {
            return missing(format!("measurement {name} with id {id}"));
        };
        // Fields without a column may have been known to a process that died before it logged them.
        for field in used_fields(segment, section)? {
            if !schema.fields.contains(field) {
                return missing(format!("field {} of {name} with id {}", field.name, field.id.0));
            }
        }
        // A series table that cannot be read is damage of the segment, and named as that already.
        for (id, key) in segment.series(section).unwrap_or_default() {
            if !self.catalog.has(id) || self.catalog.key(id).as_deref() != Some(&*key) {
                return missing(format!("series {key} with id {}", id.0));
            }
        }
        Ok(())
    }
}

/// Checks a segment against its entry in the manifest.
pub(crate) fn judge_summary(meta: &SegmentMeta, found: &SegmentSummary) -> Result<()> {
    let SegmentMeta { bytes, footer_crc, rows, min_ts_ns, max_ts_ns, .. } = *meta;
    let expected = SegmentSummary { bytes, footer_crc, rows, min_ts_ns, max_ts_ns };
    if *found != expected {
        return Err(Error::corruption(format!("{found:?}, where the manifest says {expected:?}")));
    }
    if !(meta.partition.contains(min_ts_ns) && meta.partition.contains(max_ts_ns)) {
        return Err(Error::corruption("rows outside of the partition"));
    }
    Ok(())
}

/// Checks that the columns are those of the tier and of the type of their field.
fn judge_columns(tier: Tier, segment: &Segment, section: &Section) -> Result<()> {
    for column in columns(segment, section) {
        let ColumnKey { field, stat } = column.key;
        if (stat == Stat::Value) != (tier == Tier::Raw) {
            let (name, tier) = (&section.name, tier.name());
            return Err(Error::corruption(format!("{name} has a column {stat:?} in a segment of {tier}")));
        }
        let info = section.fields.iter().find(|info| info.id == field);
        let expected = info.map(|info| kind_of(info.field_type));
        if expected.is_none() || (stat == Stat::Value && expected != Some(column.kind)) {
            let (name, field, kind) = (&section.name, field.0, column.kind);
            return Err(Error::corruption(format!("field {field} of {name} is {expected:?}, not {kind:?}")));
        }
    }
    Ok(())
}

fn kind_of(field_type: FieldType) -> Kind {
    match field_type {
        FieldType::Float => Kind::F64,
        FieldType::Int => Kind::I64,
        FieldType::UInt => Kind::U64,
        FieldType::Bool => Kind::Bool,
        FieldType::Str => Kind::Str,
    }
}

/// The columns of all pages. A listing that cannot be read is damage of the segment, and named as that already.
fn columns(segment: &Segment, section: &Section) -> impl Iterator<Item = ColumnInfo> {
    let pages = (0..section.pages.len()).filter_map(|page| segment.listing(section, page).ok());
    pages.flat_map(|columns| columns.to_vec())
}

/// The fields that have a column in some page.
fn used_fields<'a>(segment: &Segment, section: &'a Section) -> Result<Vec<&'a FieldInfo>> {
    let used: BTreeSet<_> = columns(segment, section).map(|column| column.key.field).collect();
    let find = |id| section.fields.iter().find(|field| field.id == id);
    let unknown = |id: u16| Error::corruption(format!("field {id} has a column and no name"));
    used.into_iter().map(|id| find(id).ok_or_else(|| unknown(id.0))).collect()
}
