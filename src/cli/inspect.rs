//! `icecore inspect`: what takes the room in a segment, a database or a data directory.

use std::path::PathBuf;
use std::sync::Arc;

use icecore_storage::fs::{Fs, OsFs};
use icecore_storage::inspect::{self, ColumnName, ColumnSum, Layout, SegmentLayout};
use icecore_storage::model::Tier;

use super::check::range_text;
use super::print::Grid;
use super::{Ended, say};
use crate::Error;
use crate::databases::Offline;

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// A segment file, a data directory, or one database in it. No server may have the directory open.
    path: PathBuf,
    /// List the segments of a directory one by one, too.
    #[arg(long)]
    segments: bool,
}

/// Prints the tables.
pub(super) fn run(args: &InspectArgs) -> Result<(), Ended> {
    let fs: Arc<dyn Fs> = Arc::new(OsFs);
    let failed = |error: icecore_storage::Error| Ended::opening(&Error::from(error));
    if args.path.is_file() {
        let layout = inspect::segment(&fs, &args.path).map_err(failed)?;
        say(segments(&layout).aligned());
        say(columns(&layout).aligned());
        return Ok(());
    }
    let home = Offline::open(&args.path).map_err(|error| Ended::opening(&error))?;
    if let Some(error) = home.damage {
        return Err(Ended::failed(error));
    }
    let mut unreadable = 0;
    for (name, dir) in &home.databases {
        let layout = inspect::directory(&fs, dir).map_err(failed)?;
        say(format_args!("database {name:?} in {}\n", dir.display()));
        if args.segments {
            say(segments(&layout).aligned());
        }
        say(tiers(&layout).aligned());
        say(columns(&layout).aligned());
        for (path, error) in &layout.unreadable {
            say(format_args!("unreadable: {}: {error}", path.display()));
        }
        unreadable += layout.unreadable.len();
    }
    match unreadable {
        0 => Ok(()),
        count => Err(Ended::failed(format_args!("{count} segments cannot be read; see `icecore check`"))),
    }
}

fn grid(columns: &[&str], rows: Vec<Vec<String>>) -> Grid {
    Grid { title: String::new(), columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows }
}

fn tier_name(tier: Option<Tier>) -> String {
    tier.map_or_else(|| "-".to_owned(), |tier| tier.name().to_owned())
}

fn segments(layout: &Layout) -> Grid {
    let row = |segment: &SegmentLayout| {
        let SegmentLayout { path, place, range, measurements, series, rows, pages, bytes } = segment;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partition = place.map_or_else(|| "-".to_owned(), |(_, partition)| range_text(partition));
        let counts = [measurements, series, rows, pages, bytes].map(u64::to_string);
        let mut cells = vec![name, tier_name(place.map(|(tier, _)| tier)), partition, range_text(*range)];
        cells.extend(counts);
        cells
    };
    let heads =
        ["segment", "layer", "partition", "times", "measurements", "series", "rows", "pages", "bytes"];
    grid(&heads, layout.segments.iter().map(row).collect())
}

/// Sums by layer.
fn tiers(layout: &Layout) -> Grid {
    let mut rows = Vec::new();
    for tier in [Tier::Raw].into_iter().chain(Tier::CELLS) {
        let of_tier = || {
            layout
                .segments
                .iter()
                .filter(move |segment| segment.place.is_some_and(|(found, _)| found == tier))
        };
        let sum = |of: fn(&SegmentLayout) -> u64| of_tier().map(of).sum::<u64>();
        let (count, bytes) = (sum(|segment| segment.rows), sum(|segment| segment.bytes));
        let files = of_tier().count();
        rows.push(vec![
            tier.name().to_owned(),
            files.to_string(),
            count.to_string(),
            bytes.to_string(),
            ratio(bytes, count),
        ]);
    }
    grid(&["layer", "files", "rows", "bytes", "bytes/row"], rows)
}

fn columns(layout: &Layout) -> Grid {
    let row = |(name, sum): (&ColumnName, &ColumnSum)| {
        let ColumnName { tier, measurement, column } = name;
        let encodings: Vec<String> =
            sum.encodings.iter().map(|(name, pages)| format!("{name} {pages}")).collect();
        vec![
            tier_name(*tier),
            measurement.to_string(),
            column.clone(),
            sum.bytes.to_string(),
            sum.values.to_string(),
            ratio(sum.bytes, sum.values),
            encodings.join(", "),
        ]
    };
    let heads = ["layer", "measurement", "column", "bytes", "values", "bytes/value", "encodings (pages)"];
    grid(&heads, layout.columns.iter().map(row).collect())
}

fn ratio(bytes: u64, count: u64) -> String {
    if count == 0 { "-".to_owned() } else { format!("{:.3}", bytes as f64 / count as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_of_nothing_is_a_dash() {
        assert_eq!(ratio(7, 2), "3.500");
        assert_eq!(ratio(7, 0), "-");
    }
}
