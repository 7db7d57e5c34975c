//! The face of `parking_lot` and `arc_swap` over the primitives of a checker.

#[cfg(loom)]
use loom as checker;
#[cfg(all(shuttle, not(loom)))]
use shuttle as checker;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LockResult, PoisonError};
use std::time::Duration;

pub use checker::sync::atomic;

/// Waits in [`Condvar::wait_while_for`] that time out, of each condition variable; later ones wait for the condition. So
/// a thread that does something every now and then does it a few times, not for ever.
const TIMEOUTS: usize = 3;

/// A lock is not poisoned: the panic itself is what the checker reports.
fn unpoisoned<G>(locked: LockResult<G>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

/// As `parking_lot::Mutex`.
pub struct Mutex<T>(checker::sync::Mutex<T>);

/// As `parking_lot::MutexGuard`.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only inside `unlocked` and `wait`.
    held: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub fn new(value: T) -> Self {
        Mutex(checker::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(unpoisoned(self.0.lock())) }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> MutexGuard<'_, T> {
    /// Lets go of the lock while `f` runs.
    pub fn unlocked<R>(guard: &mut Self, f: impl FnOnce() -> R) -> R {
        guard.held = None;
        let result = f();
        guard.held = Some(unpoisoned(guard.mutex.0.lock()));
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("held outside `unlocked`")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held outside `unlocked`")
    }
}

/// As `parking_lot::Condvar`.
#[derive(Default)]
pub struct Condvar {
    inner: checker::sync::Condvar,
    timeouts: std::sync::atomic::AtomicUsize,
}

/// Whether a wait ended because its time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the time was up.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition variable that nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for a notification.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.held.take() {
            guard.held = Some(unpoisoned(self.inner.wait(held)));
        }
    }

    /// Gives others a turn; the time is then up.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        MutexGuard::unlocked(guard, checker::thread::yield_now);
        WaitTimeoutResult(true)
    }

    /// The first few times gives others a turn, after which the time is up; then waits until `condition` is false.
    pub fn wait_while_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        time: Duration,
    ) -> WaitTimeoutResult {
        if !condition(guard) {
            return WaitTimeoutResult(false);
        }
        if self.timeouts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < TIMEOUTS {
            self.wait_for(guard, time);
            return WaitTimeoutResult(condition(guard));
        }
        while condition(guard) {
            self.wait(guard);
        }
        WaitTimeoutResult(false)
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.inner.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.inner.notify_all();
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

/// As `parking_lot::RwLock`.
pub struct RwLock<T>(checker::sync::RwLock<T>);
pub use checker::sync::{RwLockReadGuard, RwLockWriteGuard};

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub fn new(value: T) -> Self {
        RwLock(checker::sync::RwLock::new(value))
    }

    /// Waits until nobody writes.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        unpoisoned(self.0.read())
    }

    /// Waits until nobody reads or writes.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        unpoisoned(self.0.write())
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// As `arc_swap::ArcSwap`, behind a lock that is held for the copy of the pointer.
pub struct ArcSwap<T>(Mutex<Arc<T>>);

/// What [`ArcSwap::load`] lends.
#[derive(Debug)]
pub struct Guard<T>(T);

impl<T> Deref for Guard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> ArcSwap<T> {
    /// Holds `value`.
    pub fn from_pointee(value: T) -> Self {
        ArcSwap(Mutex::new(Arc::new(value)))
    }

    /// The current value.
    pub fn load(&self) -> Guard<Arc<T>> {
        Guard(self.load_full())
    }

    /// The current value, to be kept.
    pub fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }

    /// Replaces the value.
    pub fn store(&self, next: Arc<T>) {
        let before = std::mem::replace(&mut *self.0.lock(), next);
        // Dropped when the lock is free.
        drop(before);
    }
}

impl<T> fmt::Debug for ArcSwap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ArcSwap")
    }
}

/// Threads of the checker.
pub mod thread {
    pub use super::checker::thread::JoinHandle;

    /// Starts a thread.
    ///
    /// # Errors
    /// None; the face is that of the plain build.
    pub fn spawn(
        _name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        #[cfg(loom)]
        return loom::thread::Builder::new().stack_size(128 << 10).spawn(run);
        #[cfg(not(loom))]
        Ok(super::checker::thread::spawn(run))
    }
}
