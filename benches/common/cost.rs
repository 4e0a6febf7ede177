//! What a piece of work cost: time on the wall and time on a processor. On a machine that does other things too only
//! the second says what the code costs; on an idle one they differ by the waiting for the disk.

use std::ops::{AddAssign, Sub};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Wall and processor time; all threads of the process count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// On the wall.
    pub(crate) wall: Duration,
    /// On a processor, in the kernel too.
    pub(crate) cpu: Duration,
}

/// A moment that costs are counted from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    wall: Instant,
    cpu: Duration,
}

impl Moment {
    /// This moment.
    pub(crate) fn now() -> Self {
        Self { wall: Instant::now(), cpu: spent() }
    }

    /// What has been spent since.
    pub(crate) fn cost(self) -> Cost {
        Self::now() - self
    }
}

fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    // Both parts of a processor time are 0 or more.
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

impl Sub for Moment {
    type Output = Cost;

    fn sub(self, earlier: Self) -> Cost {
        Cost { wall: self.wall - earlier.wall, cpu: self.cpu.saturating_sub(earlier.cpu) }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}
