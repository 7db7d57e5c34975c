//! Back-pressure: writes slow down smoothly with the debt, and stop only at a hard limit.
//!
//! Debt is measured against two marks, a soft and a hard one, for each of: memtables waiting for their flush, bytes in
//! memtables, runs in level 0. Between the marks a write is charged a delay that grows with the square of the way
//! gone; charges are saved up until they are worth a wait of [`WAIT_MIN`], so that small writes are slowed evenly
//! and cheaply. Every wait ends early when the debt falls.

use crate::commit::Payload;
use crate::engine::Engine;
use crate::listener::{EngineEvent, StallReason};
use crate::metrics::Counters;
use crate::tree::Tree;
use base::Result;
use base::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Level-0 runs at which writes begin to slow down, and at which they stop.
const L0_SOFT: usize = 16;
const L0_HARD: usize = 40;
/// Frozen memtables of one keyspace at which writes begin to slow down, and at which they stop.
const FROZEN_SOFT: usize = 2;
const FROZEN_HARD: usize = 4;
/// Charge in nanoseconds for each byte at the hard mark: about 1 MB/s.
const CHARGE_MAX: f64 = 1000.0;
/// The shortest wait worth a trip to the scheduler.
const WAIT_MIN: Duration = Duration::from_micros(500);
/// The longest wait before looking again.
const WAIT_MAX: Duration = Duration::from_millis(5);

/// Delays charged and not yet waited for, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Charges(pub(crate) AtomicU64);

/// The stall that the listener was told of.
#[derive(Debug, Default)]
pub(crate) struct ToldStall(Mutex<Option<Stalled>>);

#[derive(Debug, Clone, Copy)]
struct Stalled {
    /// When writes were first slowed down, in microseconds of the monotonic clock.
    since: u64,
    stopped: bool,
}

/// How far the debt has come from the soft mark (0) to the hard one (1).
fn way(value: usize, soft: usize, hard: usize) -> f64 {
    value.saturating_sub(soft) as f64 / (hard - soft).max(1) as f64
}

impl Engine {
    /// Lets a write of `payload` pass, after a delay if there is debt.
    ///
    /// # Errors
    /// At the hard limit, if what should lower the debt fails: that failure, such as a full disk.
    pub(crate) fn admit(
        self: &Arc<Self>,
        payload: &Payload<'_>,
        trees: &[Arc<Tree>],
    ) -> Result<()> {
        let debt = self.debt(trees);
        if debt <= 0.0 {
            return Ok(());
        }
        if self.events.wanted() {
            self.tell_stall_begun(trees, debt >= 1.0);
        }
        if debt >= 1.0 {
            base::probe!("write stopped at the hard limit");
            return self.wait_below_limit(trees);
        }
        let bytes = match payload {
            Payload::One(op) => op.key.len() + op.value.len() + 32,
            Payload::Many(batch) => batch.len(),
        };
        let charge = (bytes as f64 * CHARGE_MAX * debt * debt) as u64;
        let owed = self.charges.0.fetch_add(charge, Ordering::Relaxed) + charge;
        if owed >= WAIT_MIN.as_nanos() as u64 {
            // Whoever crosses the mark waits for all that is saved up.
            base::probe!("write slowed down");
            let owed = self.charges.0.swap(0, Ordering::Relaxed);
            self.pause(Duration::from_nanos(owed).min(WAIT_MAX));
        }
        Ok(())
    }

    /// The debt that concerns a write to `trees`: 0 and less is none, 1 and more is the hard limit.
    fn debt(&self, trees: &[Arc<Tree>]) -> f64 {
        let mut most = 0.0_f64;
        self.each_debt(trees, |debt, _| most = most.max(debt));
        most
    }

    #[inline]
    fn each_debt(&self, trees: &[Arc<Tree>], mut see: impl FnMut(f64, StallReason)) {
        see(self.memory.pressure(), StallReason::Memory);
        // A dropped keyspace is never flushed again; the write is refused where it is logged.
        for tree in trees.iter().filter(|t| !t.is_dropped()) {
            let frozen = tree.frozen_count.load(Ordering::Acquire);
            if frozen > FROZEN_SOFT {
                see(way(frozen, FROZEN_SOFT, FROZEN_HARD), StallReason::FrozenMemtables);
            }
            let runs = tree.l0_runs.load(Ordering::Relaxed);
            if runs > L0_SOFT {
                see(way(runs, L0_SOFT, L0_HARD), StallReason::LevelZeroRuns);
            }
        }
    }

    /// Tells that writes to `trees` are slowed down or stopped, unless that is known.
    #[cold]
    fn tell_stall_begun(&self, trees: &[Arc<Tree>], stopped: bool) {
        let mut told = self.told_stall.0.lock();
        if told.is_some_and(|stall| stall.stopped || !stopped) {
            return;
        }
        let mut worst = (0.0_f64, StallReason::Memory);
        self.each_debt(trees, |debt, reason| {
            if debt > worst.0 {
                worst = (debt, reason);
            }
        });
        let since = told.map_or_else(|| self.clock.monotonic_micros(), |stall| stall.since);
        *told = Some(Stalled { since, stopped });
        self.events.push(|| EngineEvent::WriteStallBegun { reason: worst.1, stopped });
    }

    /// Tells that no keyspace has debt any more, if it had.
    pub(crate) fn tell_stall_ended(&self) {
        if !self.events.wanted() {
            return;
        }
        let mut told = self.told_stall.0.lock();
        if let Some(stall) = *told
            && self.debt(&self.all_trees()) <= 0.0
        {
            *told = None;
            let micros = self.clock.monotonic_micros().saturating_sub(stall.since);
            let time = Duration::from_micros(micros);
            self.events.push(|| EngineEvent::WriteStallEnded { time });
        }
    }

    fn wait_below_limit(self: &Arc<Self>, trees: &[Arc<Tree>]) -> Result<()> {
        let start = self.clock.monotonic_micros();
        let waited = self.event.wait(&*self.executor, || {
            if let Err(e) = self.health.check_writable() {
                return Some(Err(e));
            }
            if self.memory.pressure() >= 1.0 {
                // Measured when it was full, by one large write perhaps, with nothing frozen that a flush could
                // give back; or a keyspace was dropped since.
                self.check_memory(&self.commits.lock());
            }
            if self.debt(trees) < 1.0 {
                return Some(Ok(()));
            }
            // The flush or compaction that would help has failed: say so instead of waiting for ever.
            if let Some(e) = self.health.retrying() {
                base::probe!("write refused for a failing job");
                return Some(Err(e));
            }
            // One that failed earlier, before something else succeeded, is asked for anew: the next tick may be far away.
            for tree in self.all_trees() {
                self.queue_flush(&tree);
                self.schedule_compactions(&tree);
            }
            None
        });
        self.note_stall(start);
        waited
    }

    fn pause(&self, time: Duration) {
        let start = self.clock.monotonic_micros();
        self.event.pause(&*self.executor, time);
        self.note_stall(start);
    }

    fn note_stall(&self, start: u64) {
        let micros = self.clock.monotonic_micros().saturating_sub(start);
        Counters::add(&self.counters.stalls, 1);
        Counters::add(&self.counters.stalled_micros, micros);
    }
}
