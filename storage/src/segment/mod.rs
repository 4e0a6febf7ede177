//! Segments: immutable files of rows, or of cells of one tier, sorted by measurement, series and time. The layout
//! is in `docs/format.md`.
//!
//! A segment knows nothing of what is live, of tiers or of time partitions. Read in this order: [`layout`] (what
//! stands where), `listing` (the columns
//! of a page), `page` (rows being gathered into a page), `dictionary` (texts by number), [`writer`], `pair` (pages
//! of two segments), [`cache`] (decoded pages) and [`reader`].

pub mod cache;
mod dictionary;
pub mod layout;
mod listing;
mod page;
mod pair;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod writer;

pub use cache::{PageCache, PageKeys};
pub(crate) use layout::find_column;
pub use layout::{Blob, ColumnInfo, PageInfo, Section, SegmentSummary};
pub use reader::{Damage, Segment};
pub(crate) use reader::{LoadedPage, Texts};
pub use writer::SegmentWriter;
pub(crate) use writer::SeriesTable;

/// Rows of a page at most: decoding one for a single value stays cheap, and larger ones save less than 1 %.
pub const PAGE_ROWS_MAX: usize = 4096;
/// A page with this many rows ends where a series ends.
pub(crate) const PAGE_ROWS_FULL: usize = 3072;
/// A page of more bytes in memory ends early, so that pages being written, and decoded ones, stay small.
const PAGE_BYTES_FULL: usize = 2 << 20;
/// Series whose keys stand together in one block of the series table.
const SERIES_BLOCK: usize = 4096;
/// A block whose keys weigh more ends early: a key has no bound but that of a request.
const SERIES_BLOCK_BYTES_FULL: usize = 4 << 20;

/// First bytes of a segment; the format version follows as a u16.
const MAGIC: &[u8; 6] = b"ICESEG";
/// The format that this version writes.
const VERSION: u16 = 6;
/// The oldest that it reads: series tables without encoding 14, numbers without encodings 16 and 17.
const VERSION_MIN: u16 = 1;
/// The first whose pages list their columns themselves.
const VERSION_OF_LISTINGS: u16 = 3;
/// The first that tells which statistics the cells of a field keep.
const VERSION_OF_KEPT: u16 = 4;
/// Bytes of the header: magic and version.
const HEADER_BYTES: u64 = 8;
/// Last bytes of a segment.
const MAGIC_END: &[u8; 8] = b"ICESEGND";
/// Bytes of the trailer: footer length, footer checksum, magic.
const TRAILER_BYTES: u64 = 16;
/// Bytes of the checksum that ends each blob.
const CRC_BYTES: usize = 4;
