//! A rate limit for compaction writes.

use base::sync::{Condvar, Mutex};
use std::time::Duration;

/// Spreads bytes over time: each write is due when those before it have been paid for.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    state: Mutex<LimiterState>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct LimiterState {
    /// When everything admitted so far is paid for, in microseconds of the monotonic clock.
    paid_until: u64,
    stopped: bool,
}

impl Limiter {
    /// How long a write of `bytes` has to wait, at `rate` bytes a second, if it is asked for at `now`.
    ///
    /// Unused time is not saved up.
    fn charge(&self, now: u64, bytes: u64, rate: u64) -> Duration {
        let mut state = self.state.lock();
        let due = now.max(state.paid_until);
        let cost = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
        state.paid_until = due.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        Duration::from_micros(due - now)
    }

    /// Waits until a write of `bytes` is due, or [`stop`](Self::stop) is called.
    pub(crate) fn wait(&self, now: u64, bytes: u64, rate: u64) {
        let time = self.charge(now, bytes, rate);
        let mut state = self.state.lock();
        if !time.is_zero() {
            self.stopped.wait_while_for(&mut state, |s| !s.stopped, time);
        }
    }

    /// Lets everybody go, now and from now on.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.stopped.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_bytes_takes_a_second() {
        let limiter = Limiter::default();
        assert_eq!(limiter.charge(10, 500, 1000), Duration::ZERO);
        assert_eq!(limiter.charge(10, 500, 1000), Duration::from_millis(500));
        assert_eq!(limiter.charge(2_000_000, 1, 1000), Duration::ZERO);
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let limiter = Limiter::default();
        limiter.charge(0, 1 << 40, 1);
        limiter.stop();
        limiter.wait(0, 1, 1);
    }
}
