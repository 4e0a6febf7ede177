//! Meters made of meters: for parts of a read that go on side by side, and for buffers above others.

use std::sync::{Mutex, PoisonError};

use super::Meter;
use crate::Result;

/// Accounts for the parts of a read together.
pub(super) struct SharedMeter<'a> {
    meter: &'a dyn Meter,
    /// Bytes of the buffers of each part.
    buffers: Mutex<Vec<u64>>,
}

/// The share of one part.
pub(super) struct PartMeter<'a> {
    shared: &'a SharedMeter<'a>,
    part: usize,
}

impl<'a> SharedMeter<'a> {
    pub(super) fn new(meter: &'a dyn Meter, parts: usize) -> Self {
        Self { meter, buffers: Mutex::new(vec![0; parts]) }
    }

    pub(super) fn of(&'a self, part: usize) -> PartMeter<'a> {
        PartMeter { shared: self, part }
    }
}

impl Meter for PartMeter<'_> {
    fn charge(&self, rows: u64) -> Result<()> {
        self.shared.meter.charge(rows)
    }

    fn buffers(&self, bytes: u64) -> Result<()> {
        let mut buffers = self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = buffers.get_mut(self.part) {
            *own = bytes.max(*own);
        }
        self.shared.meter.buffers(buffers.iter().sum())
    }
}

/// Buffers above others that are held already.
pub(super) struct Above<'a> {
    pub(super) meter: &'a dyn Meter,
    pub(super) bytes: u64,
}

impl Meter for Above<'_> {
    fn charge(&self, rows: u64) -> Result<()> {
        self.meter.charge(rows)
    }

    fn buffers(&self, bytes: u64) -> Result<()> {
        self.meter.buffers(self.bytes.saturating_add(bytes))
    }
}
