//! The clock seam: production reads the system's clocks, tests turn the hands themselves.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Shared as `Arc<dyn Clock>`.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Microseconds since an arbitrary moment; never goes back.
    fn monotonic_micros(&self) -> u64;

    /// Microseconds since 1970-01-01 UTC by the wall; may jump either way.
    fn wall_micros(&self) -> u64;
}

/// The clocks of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic_micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    fn wall_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }
}

/// A clock that stands still until told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    micros: AtomicU64,
}

impl ManualClock {
    /// A clock at `micros` by both readings.
    #[must_use]
    pub fn at(micros: u64) -> Self {
        ManualClock { micros: AtomicU64::new(micros) }
    }

    /// Moves both readings forward.
    pub fn advance(&self, micros: u64) {
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn monotonic_micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }

    fn wall_micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }
}
