//! Waiting for background work, without polling.

use crate::executor::Executor;
use base::sync::{Condvar, Mutex};
use std::time::Duration;

/// Something changed: a job ended, space came back, the database was closed.
///
/// A waiter looks at the state itself; the event only says when to look again.
#[derive(Debug, Default)]
pub(crate) struct Event {
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Event {
    /// Wakes all waiters.
    pub(crate) fn notify(&self) {
        *self.generation.lock() += 1;
        self.changed.notify_all();
    }

    /// Returns what `look` finds, looking again after every [`notify`](Self::notify). Meanwhile an
    /// executor without threads runs its jobs on this one.
    pub(crate) fn wait<T>(
        &self,
        executor: &dyn Executor,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        loop {
            let before = *self.generation.lock();
            if let Some(found) = look() {
                return found;
            }
            if executor.drive() {
                continue;
            }
            let mut generation = self.generation.lock();
            while *generation == before {
                self.changed.wait(&mut generation);
            }
        }
    }

    /// Waits until the next [`notify`](Self::notify), but no longer than `time`; an executor without threads runs
    /// one of its jobs instead.
    pub(crate) fn pause(&self, executor: &dyn Executor, time: Duration) {
        if !executor.drive() {
            self.pause_plain(time);
        }
    }

    /// Waits until the next [`notify`](Self::notify), but no longer than `time`. For background jobs themselves.
    pub(crate) fn pause_plain(&self, time: Duration) {
        let mut generation = self.generation.lock();
        // Woken for nothing is as good as woken by the event: the caller looks again.
        self.changed.wait_for(&mut generation, time);
    }
}
