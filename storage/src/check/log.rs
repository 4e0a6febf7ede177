//! The log, read as a replay reads it, without a memtable.

use std::path::{Path, PathBuf};

use roaring::RoaringBitmap;

use super::{Checker, Finding, Severity};
use crate::manifest::Manifest;
use crate::model::{MeasurementId, RowBlock};
use crate::series::Catalog;
use crate::version::wal_dir;
use crate::wal::frame::file_path;
use crate::wal::reader::file_numbers;
use crate::wal::record::Record;
use crate::wal::replay;
use crate::{Error, ErrorKind, Result};

impl Checker<'_> {
    /// Reads all records from the floor on. The definitions among them go into the catalog.
    pub(super) fn log(&mut self, manifest: &Manifest) -> Result<()> {
        let dir = wal_dir(self.dir);
        let numbers = file_numbers(&**self.fs, &dir).unwrap_or_default();
        for number in &numbers {
            self.count(&file_path(&dir, *number));
        }
        let (catalog, is_whole) = (&self.catalog, self.is_catalog_whole);
        let mut named = RoaringBitmap::new();
        let replayed = replay(&**self.fs, &dir, manifest.log_extent(), &mut |seq, record| {
            let checked = match record {
                Record::Definitions(_) if !is_whole => Ok(()),
                Record::Definitions(definitions) => {
                    definitions.iter().try_for_each(|definition| catalog.define(definition))
                }
                Record::Rows(_) if !is_whole => Ok(()),
                Record::Rows(blocks) => {
                    let series = blocks.iter().flat_map(|(_, rows)| &rows.series);
                    named.extend(series.map(|series| series.0));
                    blocks.iter().try_for_each(|(measurement, rows)| rows_known(catalog, *measurement, rows))
                }
            };
            checked.map_err(|error| error.context(format!("record {seq}")))
        });
        // Wherever in the log it says that a series left: no row behind the floor may name it.
        if let Some(id) = (named & self.catalog.left()).min() {
            let error = Error::corruption(format!("rows of series {id}, which has left the catalog"));
            self.report.damage(&dir, &error, None);
        }
        match replayed {
            Ok(report) if report.torn_bytes > 0 => {
                let newest = report.stillborn.or(report.files.last().map(|file| file.number));
                let what = format!(
                    "{} bytes of a torn tail: never acknowledged as durable, the next start cuts them off",
                    report.torn_bytes
                );
                let path = newest.map_or(dir.clone(), |number| file_path(&dir, number));
                let cut = report.files.last().filter(|_| report.stillborn.is_none()).map(|file| file.bytes);
                self.report.add(Finding { offset: cut, ..Finding::of_file(Severity::Note, &path, what) });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => return Err(error),
            Err(error) => {
                self.is_catalog_whole = false;
                let message = "acknowledged rows behind this place, not in segments yet, cannot be read";
                let error = Error::corruption(format!("{error}; {message}"));
                self.report.damage(&file_of(&dir, &numbers, manifest.newest_log, &error), &error, None);
            }
        }
        Ok(())
    }
}

/// The log file that an error of the replay names, which may be a missing one; else the directory.
fn file_of(dir: &Path, numbers: &[u64], newest: u64, error: &Error) -> PathBuf {
    let text = error.to_string();
    let mut paths = numbers.iter().chain([&newest]).map(|number| file_path(dir, *number));
    paths.find(|path| text.starts_with(&path.display().to_string())).unwrap_or(dir.to_owned())
}

/// Checks that a block names only what the catalog knows.
fn rows_known(catalog: &Catalog, measurement: MeasurementId, rows: &RowBlock) -> Result<()> {
    let Some(schema) = catalog.schema_of(measurement) else {
        return Err(Error::corruption(format!("measurement {} is not in the catalog", measurement.0)));
    };
    let next = catalog.mark();
    if let Some(series) = rows.series.iter().find(|series| !next.is_behind(**series)) {
        return Err(Error::corruption(format!("series {} is not in the catalog", series.0)));
    }
    let is_known = |id| schema.fields.iter().any(|field| field.id == id);
    match rows.columns.iter().find(|column| !is_known(column.key.field)) {
        Some(column) => {
            let (field, name) = (column.key.field.0, &schema.name);
            Err(Error::corruption(format!("field {field} of {name} is not in the catalog")))
        }
        None => Ok(()),
    }
}
