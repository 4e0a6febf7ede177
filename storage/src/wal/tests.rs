//! The laws of the log as a whole: truncation, bit flips, faults, crashes and threads.

mod damage;
mod faults;
mod groups;
mod records;

use std::path::Path;
use std::sync::Arc;

use super::record::{DEFINITIONS, encode_definitions};
use super::writer::NameFile;
use super::{Extent, Record, ReplayReport, Writer, replay};
use crate::Result;
use crate::fs::{Fs, SimFs, replace};
use crate::model::MeasurementId;
use crate::series::definition::Definition;

const DIR: &str = "/db/wal";
/// Stands for the manifest: the number of the newest log file.
const NEWEST: &str = "/db/NEWEST";

/// A record that says its own number.
fn record(number: u32) -> Record {
    let name = Arc::from(format!("m{number}-{}", "x".repeat(number as usize % 7)));
    Record::Definitions(vec![Definition::Measurement { id: MeasurementId(number), name }])
}

fn payload(number: u32) -> Vec<u8> {
    let Record::Definitions(definitions) = record(number) else { return Vec::new() };
    let mut out = Vec::new();
    encode_definitions(&definitions, &mut out);
    out
}

/// Appends records `numbers` as one group, without a sync.
fn append(writer: &mut Writer, numbers: std::ops::Range<u32>) -> Result<u64> {
    let payloads: Vec<Vec<u8>> = numbers.map(payload).collect();
    let records: Vec<(u8, &[u8])> =
        payloads.iter().map(|payload| (DEFINITIONS, payload.as_slice())).collect();
    writer.append(&records)
}

/// All records from `floor_seq` on.
fn read(fs: &SimFs, floor_seq: u64) -> Result<(Vec<(u64, Record)>, ReplayReport)> {
    let mut records = Vec::new();
    let newest = fs.get(Path::new(NEWEST)).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let extent = Extent { floor_seq, newest_file: newest.unwrap_or(0) };
    let report = replay(fs, Path::new(DIR), extent, &mut |seq, record| {
        records.push((seq, record));
        Ok(())
    })?;
    Ok((records, report))
}

fn open(fs: &SimFs, file_bytes_max: u64) -> Result<Writer> {
    let (_, report) = read(fs, 0)?;
    open_at(fs, &report, file_bytes_max)
}

fn open_at(fs: &SimFs, report: &ReplayReport, file_bytes_max: u64) -> Result<Writer> {
    Writer::open(Arc::new(fs.clone()), Path::new(DIR), report, file_bytes_max, names(fs))
}

/// Keeps the number of the newest log file on the same disk.
fn names(fs: &SimFs) -> Box<NameFile> {
    let fs = fs.clone();
    Box::new(move |number| replace(&fs, Path::new(NEWEST), &number.to_le_bytes()))
}

/// Records 1..=count with their sequence numbers, which are the same.
fn numbered(count: u32) -> Vec<(u64, Record)> {
    (1..=count).map(|number| (u64::from(number), record(number))).collect()
}

/// Names of the log files.
fn files(fs: &SimFs) -> Vec<std::path::PathBuf> {
    fs.list(Path::new(DIR)).unwrap().iter().map(|name| Path::new(DIR).join(name)).collect()
}
