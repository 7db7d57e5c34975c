//! The hybrid logical clock.

use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire};
use std::fmt;

/// Bits of the counter below the microseconds.
const COUNTER_BITS: u32 = 12;
/// Microseconds that the clock reserves at a time: one synced write each that many.
pub const RESERVE_MICROS: u64 = 5_000_000;
/// How far ahead of its own wall clock a clock follows another one, unless told otherwise: 500 ms.
pub const DRIFT_MAX_DEFAULT: u64 = 500_000;

/// A moment: 52 bits of microseconds since 1970, then 12 bits that count within one. Greater is later.
///
/// When the counter is full it carries over into the microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every other one.
    pub const ZERO: Stamp = Stamp(0);

    /// The first stamp of a microsecond; the last microsecond there is stands for all behind it (year 2112).
    #[must_use]
    pub fn at_micros(micros: u64) -> Stamp {
        Stamp(micros.min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn micros(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    fn next(self) -> Stamp {
        Stamp(self.0.saturating_add(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.micros(), self.0 & ((1 << COUNTER_BITS) - 1))
    }
}

/// Eight bytes, little endian.
impl Wire for Stamp {
    const LEN_MIN: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.u64("stamp").map(Stamp)
    }
}

/// Why a clock gives no stamp, or does not follow one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// Write `until` down, synced, tell the clock by [`HybridClock::reserved`], and ask again.
    #[error("stamps up to {until} must be reserved first")]
    Reserve {
        /// The bound to write down.
        until: Stamp,
    },
    /// A peer's clock is ahead by more than is followed. What it stamped may be merged all the same.
    #[error("clock of a peer is ahead by_micros={by_micros} drift_max={drift_max}")]
    Ahead {
        /// How far.
        by_micros: u64,
        /// How far it may be.
        drift_max: u64,
    },
}

/// Gives stamps that ascend, near the wall clock. Without I/O: the caller keeps the bound.
///
/// Invariant: every stamp given is below a bound that the caller wrote down before. So a clock made from that bound, after a
/// restart, gives later stamps than the one before it, whatever the wall clock does.
#[derive(Debug, Clone)]
pub struct HybridClock {
    last: Stamp,
    bound: Stamp,
    drift_max: u64,
}

impl HybridClock {
    /// A clock that starts where the bound written down last, or [`Stamp::ZERO`], allows.
    #[must_use]
    pub fn new(bound: Stamp, drift_max_micros: u64) -> Self {
        HybridClock { last: bound, bound, drift_max: drift_max_micros }
    }

    /// The greatest stamp that this clock gave, followed, or may have given before a restart.
    #[must_use]
    pub fn last(&self) -> Stamp {
        self.last
    }

    /// The next stamp: greater than all before it, and not before `wall_micros`.
    ///
    /// # Errors
    /// [`ClockError::Reserve`] when it would pass the bound; then nothing has changed.
    pub fn stamp(&mut self, wall_micros: u64) -> Result<Stamp, ClockError> {
        let next = Stamp::at_micros(wall_micros).max(self.last.next());
        self.within_bound(next)?;
        self.last = next;
        Ok(next)
    }

    /// A stamp as [`stamp`](Self::stamp) gives, and greater than `seen`: for a write that has to follow what is stored
    /// already, however wrong the clock was that stamped that. The clock itself follows no further than it may.
    ///
    /// # Errors
    /// As for [`stamp`](Self::stamp).
    pub fn stamp_after(&mut self, seen: Stamp, wall_micros: u64) -> Result<Stamp, ClockError> {
        // A stamp beyond what is followed is not the clock's own: it is not tied to the bound either.
        if self.follow(seen, wall_micros).is_err() {
            return Ok(seen.next());
        }
        self.stamp(wall_micros)
    }

    /// Takes notice of a stamp that came from elsewhere: later ones will be greater.
    ///
    /// # Errors
    /// [`ClockError::Ahead`] if it lies too far ahead of `wall_micros`; then the clock stays where it is.
    pub fn follow(&mut self, seen: Stamp, wall_micros: u64) -> Result<(), ClockError> {
        let by_micros = seen.micros().saturating_sub(wall_micros);
        if by_micros > self.drift_max && seen > self.last {
            return Err(ClockError::Ahead { by_micros, drift_max: self.drift_max });
        }
        self.last = self.last.max(seen);
        Ok(())
    }

    /// Told by the caller that `until` is written down and synced.
    pub fn reserved(&mut self, until: Stamp) {
        self.bound = self.bound.max(until);
    }

    fn within_bound(&self, next: Stamp) -> Result<(), ClockError> {
        if next < self.bound {
            return Ok(());
        }
        let micros = next.micros().saturating_add(RESERVE_MICROS);
        Err(ClockError::Reserve { until: Stamp::at_micros(micros) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Tick,
        After(u64),
        Follow(u64),
        Wall(i64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Tick),
            1 => (0..8_000_000_000u64).prop_map(Step::After),
            2 => (0..8_000_000_000u64).prop_map(Step::Follow),
            // An hour either way.
            2 => (-3_600_000_000i64..3_600_000_000).prop_map(Step::Wall),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// Own stamps ascend, also over restarts, and never lie further ahead than the highest reading of the wall so far
        /// and the drift allow.
        #[test]
        fn it_never_goes_back(steps in vec(step(), 1..200)) {
            let (mut wall, mut wall_max) = (4_000_000_000u64, 4_000_000_000u64);
            let (mut written, mut last) = (Stamp::ZERO, Stamp::ZERO);
            let mut clock = HybridClock::new(written, DRIFT_MAX_DEFAULT);
            let (mut given, mut restarts) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Tick => {
                        let stamp = match clock.stamp(wall) {
                            Err(ClockError::Reserve { until }) => {
                                written = until;
                                clock.reserved(until);
                                clock.stamp(wall).expect("reserved")
                            }
                            other => other.expect("in the bound"),
                        };
                        prop_assert!(stamp > last && stamp < written);
                        prop_assert!(stamp.micros() >= wall);
                        let ahead = DRIFT_MAX_DEFAULT + (restarts + 1) * RESERVE_MICROS + given;
                        prop_assert!(stamp.micros() <= wall_max + ahead);
                        (last, given) = (stamp, given + 1);
                    }
                    Step::After(seen) => {
                        let (seen, before) = (Stamp::at_micros(seen), clock.last());
                        if let Ok(stamp) = clock.stamp_after(seen, wall) {
                            prop_assert!(stamp > seen);
                            if clock.last() != before {
                                prop_assert!(stamp > last);
                                last = last.max(clock.last());
                            }
                        }
                    }
                    Step::Follow(seen) => {
                        let (seen, before) = (Stamp::at_micros(seen), clock.last());
                        match clock.follow(seen, wall) {
                            Ok(()) => prop_assert!(clock.last() >= seen),
                            Err(_) => prop_assert_eq!(clock.last(), before),
                        }
                    }
                    Step::Wall(by) => {
                        wall = wall.saturating_add_signed(by).max(1);
                        wall_max = wall_max.max(wall);
                    }
                    Step::Restart => {
                        clock = HybridClock::new(written, DRIFT_MAX_DEFAULT);
                        restarts += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn one_reservation_serves_many_stamps() {
        let mut clock = HybridClock::new(Stamp::ZERO, DRIFT_MAX_DEFAULT);
        let Err(ClockError::Reserve { until }) = clock.stamp(1000) else { panic!("no bound yet") };
        assert_eq!(until, Stamp::at_micros(1000 + RESERVE_MICROS));
        clock.reserved(until);
        let stamps: Vec<_> = (0..5000).map(|_| clock.stamp(1000).expect("reserved")).collect();
        assert!(stamps.is_sorted_by(|a, b| a < b));
        assert_eq!(stamps[4999].micros(), 1001, "the counter carries over");
    }

    #[test]
    fn what_is_too_far_ahead_is_passed_but_not_followed() {
        let mut clock = HybridClock::new(Stamp::at_micros(100), 50);
        clock.reserved(Stamp::at_micros(10_000));
        let far = Stamp::at_micros(1000);
        let ahead = ClockError::Ahead { by_micros: 900, drift_max: 50 };
        assert_eq!(clock.follow(far, 100), Err(ahead));
        assert_eq!(clock.stamp_after(far, 100), Ok(far.next()));
        assert!(clock.stamp(100).expect("reserved") < far);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let mut clock = HybridClock::new(Stamp(u64::MAX), u64::MAX);
        assert!(clock.stamp(u64::MAX).is_err());
        assert_eq!(clock.stamp_after(Stamp(u64::MAX), 0), clock.stamp(0));
    }
}
