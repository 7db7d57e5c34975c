//! Locks, condition variables, atomics and threads, of which a checker can take the place.
//!
//! | build | what stands behind these names |
//! | --- | --- |
//! | default | `parking_lot`, `arc_swap` and `std`, re-exported: the same code as naming them |
//! | `--cfg shuttle` | `shuttle`: whole databases under schedules drawn at random |
//! | `--cfg loom` | `loom`: small pieces under every schedule, with the memory model of C11 |
//!
//! What only a lock of its own guards, and what never calls out while it holds that lock, may use [`leaf`]: `loom`
//! models it, `shuttle` takes each call for one step, which keeps schedules short. Code under `shuttle` must not hold
//! any other lock (`parking_lot`'s own, a `OnceLock` being filled) over a call to something instrumented.
//!
//! Under a checker there is no time: a wait with a limit gives the others a turn and then says that the time is up.

#[cfg(any(loom, shuttle))]
mod checked;

#[cfg(not(any(loom, shuttle)))]
mod plain {
    pub use arc_swap::{ArcSwap, Guard};
    pub use parking_lot::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
    };
    pub use std::sync::atomic;

    /// Threads.
    pub mod thread {
        pub use std::thread::JoinHandle;

        /// Starts a thread.
        ///
        /// # Errors
        /// If the system has no room for one more.
        #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
        pub fn spawn(
            name: &str,
            run: impl FnOnce() + Send + 'static,
        ) -> std::io::Result<JoinHandle<()>> {
            std::thread::Builder::new().name(name.into()).spawn(run)
        }
    }
}

#[cfg(any(loom, shuttle))]
pub use checked::{
    ArcSwap, Condvar, Guard, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    WaitTimeoutResult, atomic, thread,
};
#[cfg(not(any(loom, shuttle)))]
pub use plain::{
    ArcSwap, Condvar, Guard, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    WaitTimeoutResult, atomic, thread,
};

#[cfg(not(any(loom, shuttle)))]
pub mod crowd;

/// As without a checker, to which all condition variables are the same.
#[cfg(any(loom, shuttle))]
pub mod crowd {
    pub use super::checked::{Condvar, Mutex, MutexGuard};
}

/// For code that never calls out while it holds its lock: `shuttle` leaves it alone, `loom` does not.
pub mod leaf {
    #[cfg(loom)]
    pub use super::checked::{Mutex, atomic};
    #[cfg(not(loom))]
    pub use parking_lot::Mutex;
    #[cfg(not(loom))]
    pub use std::sync::atomic;

    /// Swapped and read without waiting; no checker looks into it.
    pub use arc_swap::{ArcSwapAny, ArcSwapOption, Guard as Lent};

    /// Stands beside plain memory that is written once and then published. Nothing, but under `loom`, which
    /// then sees a read that no publication put behind the write.
    #[derive(Debug, Default)]
    pub struct Published {
        #[cfg(loom)]
        cell: loom::cell::UnsafeCell<()>,
    }

    impl Published {
        /// For memory that the caller writes now.
        #[inline(always)]
        #[must_use]
        pub fn written() -> Self {
            let published = Self::default();
            #[cfg(loom)]
            published.cell.with_mut(|_| ());
            published
        }

        /// Called by whoever reads it.
        #[inline(always)]
        pub fn read(&self) {
            #[cfg(loom)]
            self.cell.with(|_| ());
        }
    }
}
