//! Cells: what minutes, five minutes and hours of raw rows are pressed into.
//!
//! A cell row of width `w` at left edge `b` is a pure function of the deduplicated raw rows in `[b, b + w)`: the
//! one sample exactly at `b` (its edge) and, apart from it, the statistics of the open interior `(b, b + w)`. So
//! `[b, b + w)` is edge + interior, `(b, b + w]` is interior + the next cell's edge, both by merging alone. See
//! `docs/decisions/0001-cells-keep-their-left-edge.md`. The room knows nothing of files, locks or the clock.
//!
//! Read in this order: [`cell`] (how a cell is kept in columns, and their reader), [`build`] (their writer), `text` (both for
//! texts), //! [`fold`] (rows to cells, cells to coarser cells), `layers` (what rows become in each layer).

pub mod build;
pub mod cell;
pub mod fold;
pub(crate) mod layers;
mod text;

pub use build::CellBuilder;
pub(crate) use cell::wanted;
pub use cell::{CellField, CellReader, Run, columns_of};
pub use fold::{Folder, coarsen};
pub(crate) use layers::{Layers, Presser};
