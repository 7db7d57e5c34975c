//! The states of the engine: what still works after something failed.

use base::sync::Mutex;
use base::sync::atomic::{AtomicU8, Ordering};
use base::{Error, Result};
use std::sync::Arc;

/// What a database can still do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Health {
    /// Everything works.
    Healthy,
    /// A background job failed and is tried again; reads and writes go on, writes until memory is full.
    Degraded {
        /// The failure that is retried.
        reason: Error,
    },
    /// Writes are refused until the database is reopened; reads go on.
    ReadOnly {
        /// Why writes stopped; [`Error::ReadOnly`] if it was opened so.
        reason: Error,
    },
    /// The database was closed.
    Closed,
}

impl Health {
    /// True for [`Health::Healthy`].
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Health::Healthy)
    }
}

const OPEN: u8 = 0;
const READ_ONLY: u8 = 1;
const CLOSED: u8 = 2;

/// The current [`Health`], cheap to ask.
#[derive(Debug)]
pub(crate) struct HealthState {
    state: AtomicU8,
    errors: Mutex<Errors>,
}

#[derive(Debug, Default)]
struct Errors {
    /// Why writes stopped.
    fatal: Option<Error>,
    /// What is being retried.
    retrying: Option<Error>,
}

impl HealthState {
    pub(crate) fn new(read_only: bool) -> Self {
        let fatal = read_only.then_some(Error::ReadOnly);
        HealthState {
            state: AtomicU8::new(if read_only { READ_ONLY } else { OPEN }),
            errors: Mutex::new(Errors { fatal, retrying: None }),
        }
    }

    pub(crate) fn current(&self) -> Health {
        let errors = self.errors.lock();
        match (self.state.load(Ordering::Acquire), &errors.fatal, &errors.retrying) {
            (CLOSED, ..) => Health::Closed,
            (_, Some(reason), _) => Health::ReadOnly { reason: reason.clone() },
            (_, None, Some(reason)) => Health::Degraded { reason: reason.clone() },
            _ => Health::Healthy,
        }
    }

    /// # Errors
    /// Why a write cannot be taken.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(()),
            _ => Err(self.refusal()),
        }
    }

    /// # Errors
    /// [`Error::Closed`].
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        match self.state.load(Ordering::Acquire) {
            CLOSED => Err(Error::Closed),
            _ => Ok(()),
        }
    }

    fn refusal(&self) -> Error {
        if self.state.load(Ordering::Acquire) == CLOSED {
            return Error::Closed;
        }
        match &self.errors.lock().fatal {
            Some(e @ (Error::ReadOnly | Error::SyncFailed { .. } | Error::Poisoned { .. })) => {
                e.clone()
            }
            Some(e @ Error::WritesStopped { .. }) => e.clone(),
            Some(e) => Error::WritesStopped { source: Arc::new(e.clone()) },
            None => Error::Closed,
        }
    }

    /// Stops writes for good. The first reason stays.
    pub(crate) fn stop_writes(&self, reason: &Error) {
        let mut errors = self.errors.lock();
        errors.fatal.get_or_insert_with(|| reason.clone());
        // A closed database stays closed.
        let _was =
            self.state.compare_exchange(OPEN, READ_ONLY, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
    }

    /// Notes a failure that is retried.
    pub(crate) fn degrade(&self, reason: &Error) {
        self.errors.lock().retrying = Some(reason.clone());
    }

    /// Notes that what failed has succeeded.
    pub(crate) fn recover(&self) {
        let mut errors = self.errors.lock();
        if errors.retrying.as_ref().is_some_and(Error::is_no_space) {
            base::probe!("work resumed after a full disk");
        }
        errors.retrying = None;
    }

    /// What is being retried.
    pub(crate) fn retrying(&self) -> Option<Error> {
        self.errors.lock().retrying.clone()
    }

    /// True if writes stopped because of a failure or close.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.load(Ordering::Acquire) != OPEN
    }
}
