//! What takes the room: sizes of segments by column and encoding, read from their footers alone. Changes nothing and
//! verifies no page; see [`check`](crate::check) for that. Knows nothing of printing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::Encoding;
use crate::fs::Fs;
use crate::manifest::Manifest;
use crate::model::{Stat, Tier, TimeRange};
use crate::segment::{ColumnInfo, PageCache, PageInfo, Section, Segment};
use crate::version::segment_path;
use crate::{Error, Result};

/// Name of what is not a field: the series and times of the rows.
const KEYS: &str = "(series, time)";
/// Name of the keys of the series, kept once a segment.
const SERIES_TABLE: &str = "(series table)";
/// Name of what says which columns the pages have.
const LISTING: &str = "(columns)";
/// Name of header, footer and trailer.
const FRAME: &str = "(footer)";

/// Segments and what their columns take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    /// The segments, in the order of the manifest.
    pub segments: Vec<SegmentLayout>,
    /// Sums over all segments; they add up to the bytes of the files.
    pub columns: BTreeMap<ColumnName, ColumnSum>,
    /// Files whose footer cannot be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLayout {
    /// Its file.
    pub path: PathBuf,
    /// Its tier and partition, when the manifest was read.
    pub place: Option<(Tier, TimeRange)>,
    /// Its times: the earliest, and the first after the latest.
    pub range: TimeRange,
    /// Number of measurements.
    pub measurements: u64,
    /// Number of series.
    pub series: u64,
    /// Rows or cells.
    pub rows: u64,
    /// Number of pages.
    pub pages: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Names a sum.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColumnName {
    /// The tier, when the manifest was read.
    pub tier: Option<Tier>,
    /// The measurement; empty for what belongs to the file.
    pub measurement: Arc<str>,
    /// The field, with the statistic in cells (`load.count`); in brackets what is no field.
    pub column: String,
}

/// What a column takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSum {
    /// Bytes on disk, checksums included.
    pub bytes: u64,
    /// Values; of series and times: rows.
    pub values: u64,
    /// Pages by encoding.
    pub encodings: BTreeMap<String, u64>,
}

/// Looks at the live segments of a database directory.
///
/// # Errors
/// `NotFound` when there is no manifest; those of [`Manifest::load`].
pub fn directory(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Layout> {
    let Some(manifest) = Manifest::load(&**fs, dir)? else {
        let message = format!("{} has no manifest: it is no database", dir.display());
        return Err(Error::new(crate::ErrorKind::NotFound, message));
    };
    let mut layout = Layout::default();
    for meta in &manifest.segments {
        let path = segment_path(dir, meta.id);
        match open(fs, &path, meta.id) {
            Ok(segment) => layout.add(&segment, Some((meta.tier, meta.partition))),
            Err(error) => layout.unreadable.push((path, error.to_string())),
        }
    }
    Ok(layout)
}

/// Looks at one segment file.
///
/// # Errors
/// Those of [`Segment::open`].
pub fn segment(fs: &Arc<dyn Fs>, path: &Path) -> Result<Layout> {
    let mut layout = Layout::default();
    layout.add(&open(fs, path, 0)?, None);
    Ok(layout)
}

fn open(fs: &Arc<dyn Fs>, path: &Path, id: u64) -> Result<Segment> {
    Segment::open(fs, path, id, Arc::new(PageCache::new(0)))
}

impl Layout {
    fn add(&mut self, segment: &Segment, place: Option<(Tier, TimeRange)>) {
        let (sections, summary) = (segment.sections(), segment.summary());
        let tier = place.map(|(tier, _)| tier);
        self.segments.push(SegmentLayout {
            path: segment.path().to_owned(),
            place,
            range: TimeRange::new(summary.min_ts_ns, summary.max_ts_ns.saturating_add(1)),
            measurements: sections.len() as u64,
            series: sections.iter().map(Section::series_count).sum(),
            rows: summary.rows,
            pages: sections.iter().map(|section| section.pages.len() as u64).sum(),
            bytes: summary.bytes,
        });
        let sections = sections.iter();
        let bytes_of_parts: u64 = sections.map(|section| self.add_section(segment, section, tier)).sum();
        let frame = self.sum(tier, "", FRAME.to_owned());
        frame.bytes += summary.bytes.saturating_sub(bytes_of_parts);
    }

    /// Adds the parts of a measurement; gives their bytes.
    fn add_section(&mut self, segment: &Segment, section: &Section, tier: Option<Tier>) -> u64 {
        let mut bytes = 0;
        for block in &section.series_blocks {
            let sum = self.sum(tier, &section.name, SERIES_TABLE.to_owned());
            sum.bytes += u64::from(block.blob.len);
            sum.values += u64::from(block.count);
            bytes += u64::from(block.blob.len);
        }
        for dictionary in &section.dictionaries {
            let sum = self.sum(
                tier,
                &section.name,
                column_name(section, dictionary.key.field.0, dictionary.key.stat),
            );
            sum.bytes += u64::from(dictionary.blob.len);
            *sum.encodings.entry("dictionary".to_owned()).or_default() += 1;
            bytes += u64::from(dictionary.blob.len);
        }
        let pages = section.pages.iter().enumerate();
        bytes + pages.map(|page| self.add_page(segment, section, page, tier)).sum::<u64>()
    }

    /// Adds the parts of a page; gives their bytes.
    fn add_page(
        &mut self,
        segment: &Segment,
        section: &Section,
        (index, page): (usize, &PageInfo),
        tier: Option<Tier>,
    ) -> u64 {
        let keys = self.sum(tier, &section.name, KEYS.to_owned());
        keys.bytes += u64::from(page.keys.len);
        keys.values += u64::from(page.rows);
        let columns = match segment.listing(section, index) {
            Ok(columns) => columns,
            Err(error) => {
                // Said once for each file.
                if self.unreadable.last().is_none_or(|(path, _)| path != segment.path()) {
                    self.unreadable.push((segment.path().to_owned(), error.to_string()));
                }
                return u64::from(page.keys.len);
            }
        };
        let listing = self.sum(tier, &section.name, LISTING.to_owned());
        listing.bytes += u64::from(page.listing.len);
        listing.values += columns.len() as u64;
        let mut bytes = u64::from(page.keys.len) + u64::from(page.listing.len);
        for ColumnInfo { key, encoding, blob, nulls, .. } in &*columns {
            let sum = self.sum(tier, &section.name, column_name(section, key.field.0, key.stat));
            sum.bytes += u64::from(blob.len);
            sum.values += u64::from(page.rows.saturating_sub(*nulls));
            *sum.encodings.entry(encoding_name(*encoding)).or_default() += 1;
            bytes += u64::from(blob.len);
        }
        bytes
    }

    fn sum(&mut self, tier: Option<Tier>, measurement: &str, column: String) -> &mut ColumnSum {
        self.columns.entry(ColumnName { tier, measurement: measurement.into(), column }).or_default()
    }
}

/// The name of a field, and of the statistic when it is one.
fn column_name(section: &Section, field: u16, stat: Stat) -> String {
    let info = section.fields.iter().find(|info| info.id.0 == field);
    let name = info.map_or_else(|| format!("field {field}"), |info| info.name.to_string());
    let statistic = match stat {
        Stat::Value => return name,
        Stat::Edge => "edge",
        Stat::Count => "count",
        Stat::Sum => "sum",
        Stat::SumRest => "sum_rest",
        Stat::Min => "min",
        Stat::Max => "max",
        Stat::First => "first",
        Stat::FirstOffset => "first_offset",
        Stat::Last => "last",
        Stat::LastOffset => "last_offset",
        Stat::ResetSum => "reset_sum",
        Stat::Resets => "resets",
        Stat::Changes => "changes",
        Stat::M2 => "m2",
        Stat::Hist => "hist",
        Stat::Uniques => "uniques",
    };
    format!("{name}.{statistic}")
}

/// The name of an encoding, as `docs/format.md` has it.
fn encoding_name(number: u8) -> String {
    let name = match Encoding::from_u8(number) {
        Some(Encoding::Empty) => "empty",
        Some(Encoding::Plain) => "plain",
        Some(Encoding::Keys) => "keys",
        Some(Encoding::Const) => "const",
        Some(Encoding::Affine) => "affine",
        Some(Encoding::Runs) => "runs",
        Some(Encoding::Scaled) => "scaled",
        Some(Encoding::Pfor) => "pfor",
        Some(Encoding::Huffman) => "huffman",
        Some(Encoding::Decimal) => "decimal",
        Some(Encoding::FloatBits) => "float bits",
        Some(Encoding::Float) => "float",
        Some(Encoding::Bits) => "bits",
        Some(Encoding::BoolNumbers) => "bool numbers",
        Some(Encoding::Codes) => "codes",
        Some(Encoding::Texts) => "texts",
        Some(Encoding::Histograms) => "histograms",
        Some(Encoding::Uniques) => "uniques",
        None => return format!("encoding {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::engine::{Engine, Env};
    use crate::fs::SimFs;
    use crate::model::batch::{CANONICAL, Field, WriteBatch};
    use crate::model::{HOUR_NS, SECOND_NS, SeriesKey, ValueRef};
    use crate::options::{Options, Retention};

    fn database() -> Arc<dyn Fs> {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::default());
        let options = Options { free_bytes_min: 0, ..Options::default() };
        let env = Env { fs: Arc::clone(&fs), clock: Arc::new(ManualClock::new(2 * HOUR_NS)) };
        let engine = Engine::open(env, Path::new("/db"), options, Retention::FOREVER).unwrap();
        let mut key = Vec::new();
        SeriesKey::new("cpu", [("host", "a")]).unwrap().encode(&mut key);
        let mut batch = WriteBatch::new(&CANONICAL);
        for line in 1..=3 {
            batch
                .fields
                .push(Field { name: b"state", value: ValueRef::Str(["up", "down"][line as usize % 2]) });
            if line > 1 {
                batch.fields.push(Field { name: b"load", value: ValueRef::Float(0.5) });
            }
            batch.push_row(&key, i64::from(line) * SECOND_NS, line);
        }
        engine.write(&batch).unwrap();
        engine.seal().unwrap();
        fs
    }

    #[test]
    fn directory_columns_add_up_to_the_files() {
        let layout = directory(&database(), Path::new("/db")).unwrap();
        assert_eq!(layout.segments.len(), 4);
        let bytes: u64 = layout.segments.iter().map(|segment| segment.bytes).sum();
        assert_eq!(layout.columns.values().map(|sum| sum.bytes).sum::<u64>(), bytes);
        let of = |tier, column: &str| {
            let name = ColumnName { tier: Some(tier), measurement: "cpu".into(), column: column.to_owned() };
            layout.columns.get(&name).cloned().unwrap_or_default()
        };
        assert_eq!((of(Tier::Raw, "load").values, of(Tier::Raw, "state").values), (2, 3));
        assert_eq!(of(Tier::Raw, KEYS).values, 3);
        assert_eq!((of(Tier::M1, "load.edge").values, of(Tier::H1, "state.count").values), (2, 1));
    }

    #[test]
    fn segment_alone_has_no_tier() {
        let fs = database();
        let path = segment_path(Path::new("/db"), 1);
        let path = if fs.has(&path).unwrap() { path } else { segment_path(Path::new("/db"), 2) };
        let layout = segment(&fs, &path).unwrap();
        assert_eq!((layout.segments.len(), layout.segments[0].place), (1, None));
        assert!(layout.columns.keys().all(|name| name.tier.is_none()));
    }

    #[test]
    fn directory_names_what_it_cannot_read() {
        let fs = database();
        let name = fs.list(Path::new("/db/segments")).unwrap().remove(0);
        fs.remove(&Path::new("/db/segments").join(name)).unwrap();
        let layout = directory(&fs, Path::new("/db")).unwrap();
        assert_eq!((layout.segments.len(), layout.unreadable.len()), (3, 1));
        assert!(directory(&fs, Path::new("/nothing")).is_err());
    }
}
