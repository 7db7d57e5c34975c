//! Bursts: times in which writes come so fast that a compaction would only take the processor away from them.
//!
//! Each memtable that is frozen for its writes adds its bytes to a bucket, which leaks at [`LEAK`]. While it holds
//! [`FULL`] or more there is a burst, and the policy lets more runs pile up before it merges them. So all of a
//! burst is merged once, not every few memtables of it. A bucket that is not filled any more is below the mark after 3 s.

use base::sync::leaf::atomic::{AtomicU64, Ordering};

/// Bytes that leave the bucket in a second: slower writers are never in a burst.
const LEAK: u64 = 48 << 20;
/// Bytes at which it is a burst.
const FULL: u64 = 64 << 20;
/// The bucket runs over here.
const BRIM: u64 = 192 << 20;

/// How fast a keyspace was written to lately.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// At `micros`.
    bytes: AtomicU64,
    /// By the monotonic clock.
    micros: AtomicU64,
}

impl Burst {
    /// Adds a memtable of `bytes` that was frozen at `now`. Under the commit lock: one thread at a time.
    pub(crate) fn add(&self, bytes: u64, now: u64) {
        let bytes = self.bytes_at(now).saturating_add(bytes).min(BRIM);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.micros.store(now, Ordering::Relaxed);
    }

    /// True if there is one. A look beside an `add` may see half of it, which is as good as a moment earlier or later.
    pub(crate) fn is_on(&self, now: u64) -> bool {
        self.bytes_at(now) >= FULL
    }

    fn bytes_at(&self, now: u64) -> u64 {
        let micros = now.saturating_sub(self.micros.load(Ordering::Relaxed));
        let leaked = micros.saturating_mul(LEAK) / 1_000_000;
        self.bytes.load(Ordering::Relaxed).saturating_sub(leaked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn fast_writers_are_in_a_burst_and_slow_ones_are_not() {
        let (burst, memtable) = (Burst::default(), 64 << 20);
        assert!(!burst.is_on(0));
        for second in 0..20 {
            burst.add(memtable / 2, second * SECOND);
            assert!(!burst.is_on(second * SECOND), "32 MiB a second");
        }
        for step in 0..20 {
            let now = 30 * SECOND + step * SECOND / 2;
            burst.add(memtable, now);
            assert!(burst.is_on(now), "128 MiB a second");
        }
        let last = 30 * SECOND + 19 * SECOND / 2;
        assert!(burst.is_on(last + SECOND));
        assert!(!burst.is_on(last + 3 * SECOND));
    }

    #[test]
    fn no_clock_overflows_it() {
        let burst = Burst::default();
        burst.add(u64::MAX, 5);
        assert!(burst.is_on(5) && !burst.is_on(u64::MAX));
        burst.add(1, 2);
        assert!(burst.is_on(0), "a clock that went back leaks nothing");
    }
}
