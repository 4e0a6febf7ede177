//! The roll: which spans of raw rows are pressed into cells, and the job that does it.
//!
//! [`mod@pick`] decides, [`job`] acts and writes through `drafts`; how rows become cells is the business of [`cells`](crate::cells), which spans
//! cells may answer for that of [`rolled`](crate::rolled).

mod drafts;
pub(crate) mod job;
mod pick;

pub(crate) use pick::{INPUTS_MAX, PickSettings, Work, newest_hour, pick, together};
