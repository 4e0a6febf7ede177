//! How `import` reads each format: points out of CSV, JSON lines and logs, blocks of whole lines out of line
//! protocol.

use std::io::{BufRead, Read};

use super::Ended;
use super::import::ImportArgs;
use crate::ingest::Precision;
use crate::ingest::records::{self, Format, ImportOptions, Points};

/// Bytes of line protocol that are written at once.
const BLOCK_BYTES: usize = 4 << 20;

/// Opens the reader of a format that gives points.
pub(super) fn open<'a>(
    format: Format,
    input: impl BufRead + 'a,
    args: &ImportArgs,
    precision: Option<Precision>,
) -> Result<Points<'a>, Ended> {
    let measurement = args.measurement.clone().unwrap_or_else(|| default_measurement(args));
    let mut options = ImportOptions::new(measurement);
    options.time_column.clone_from(&args.time_column);
    options.precision = precision;
    for tag in &args.tags {
        match tag.split_once('=') {
            Some((key, value)) => options.tags.push((key.to_owned(), value.to_owned())),
            None => options.tag_columns.push(tag.clone()),
        }
    }
    records::open(format, input, options)
        .map_err(|error| Ended::failed(format!("{}: {error}", args.file.display())))
}

/// The file's name without its ending.
fn default_measurement(args: &ImportArgs) -> String {
    args.file.file_stem().map_or_else(|| "import".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Cuts line protocol into blocks that end with a line.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    input: R,
    /// What follows the last whole line of the previous block.
    rest: Vec<u8>,
    is_done: bool,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, rest: Vec::new(), is_done: false }
    }

    /// The next block; `None` at the end. A line longer than a block comes in pieces, which are refused as lines.
    pub(super) fn next_block(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.is_done {
            return Ok(None);
        }
        let mut block = std::mem::take(&mut self.rest);
        let wanted = BLOCK_BYTES.saturating_sub(block.len());
        let limit = u64::try_from(wanted).unwrap_or(u64::MAX);
        if (&mut self.input).take(limit).read_to_end(&mut block)? < wanted {
            self.is_done = true;
        } else if let Some(end) = memchr::memrchr(b'\n', &block) {
            self.rest = block.split_off(end + 1);
        }
        Ok(Some(block).filter(|block| !block.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_together_are_the_input_cut_at_lines() {
        let line = b"cpu,host=a value=1 1700000000000000000\n";
        let input: Vec<u8> =
            line.iter().copied().cycle().take(line.len() * 250_000).chain(*b"last value=2").collect();
        let mut blocks = Blocks::new(input.as_slice());
        let mut together = Vec::new();
        while let Some(block) = blocks.next_block().unwrap() {
            assert!(block.ends_with(b"\n") || block.ends_with(b"last value=2"));
            together.extend(block);
        }
        assert!(together == input);
    }
}
