//! A lock with a condition variable for crowds.
//!
//! `parking_lot` wakes the waiters of a `notify_all` one by one, each by a system call of the one before it. `std` wakes all of them
//! in one.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, WaitTimeoutResult};
use std::time::Duration;

/// A lock. One that a panic passed through can be taken all the same, as everywhere here.
#[derive(Default)]
pub struct Mutex<T>(std::sync::Mutex<T>);

/// Lets go of the lock when it is dropped.
pub struct MutexGuard<'a, T> {
    /// `None` only inside of a wait.
    held: Option<std::sync::MutexGuard<'a, T>>,
}

/// Where a crowd waits.
#[derive(Debug, Default)]
pub struct Condvar(std::sync::Condvar);

impl<T> Mutex<T> {
    /// An unlocked one.
    pub fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MutexGuard")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held outside of a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held outside of a wait")
    }
}

impl Condvar {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Condvar::default()
    }

    /// Lets go of the lock until somebody notifies, or for nothing.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("held outside of a wait");
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// The same, but no longer than `time`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        let held = guard.held.take().expect("held outside of a wait");
        let waited = self.0.wait_timeout(held, time).unwrap_or_else(PoisonError::into_inner);
        guard.held = Some(waited.0);
        waited.1
    }

    /// Wakes one.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all, at once.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
