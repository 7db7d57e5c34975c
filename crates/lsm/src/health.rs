//! The states of the engine: what still works after something failed.

use crate::listener::{EngineEvent, Events};
use base::sync::Mutex;
use base::sync::atomic::{AtomicU8, Ordering};
use base::{Error, Result};
use std::fmt;
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

    /// A number for a gauge: 0 healthy, 1 degraded, 2 read-only, 3 closed. Never renumbered.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Health::Healthy => 0,
            Health::Degraded { .. } => 1,
            Health::ReadOnly { .. } => 2,
            Health::Closed => 3,
        }
    }

    fn reason(&self) -> Option<&Error> {
        match self {
            Health::Degraded { reason } | Health::ReadOnly { reason } => Some(reason),
            Health::Healthy | Health::Closed => None,
        }
    }

    /// True if `other` is the same state for the same kind of reason: a job that fails again names another file.
    fn is_like(&self, other: &Health) -> bool {
        let kind = |health: &Health| health.reason().map(std::mem::discriminant);
        self.code() == other.code() && kind(self) == kind(other)
    }
}

/// The name of the state, and its reason.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Healthy => f.write_str("healthy"),
            Health::Degraded { reason } => write!(f, "degraded ({reason})"),
            Health::ReadOnly { reason } => write!(f, "read-only ({reason})"),
            Health::Closed => f.write_str("closed"),
        }
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
    events: Arc<Events>,
}

#[derive(Debug, Default, Clone)]
struct Errors {
    /// Why writes stopped.
    fatal: Option<Error>,
    /// What is being retried.
    retrying: Option<Error>,
}

impl Errors {
    fn health(&self) -> Health {
        match (&self.fatal, &self.retrying) {
            (Some(reason), _) => Health::ReadOnly { reason: reason.clone() },
            (None, Some(reason)) => Health::Degraded { reason: reason.clone() },
            (None, None) => Health::Healthy,
        }
    }

    /// What is being retried, if it is for want of space.
    fn no_space(&self) -> Option<&Error> {
        self.retrying.as_ref().filter(|e| e.is_no_space())
    }
}

impl HealthState {
    pub(crate) fn new(read_only: bool, events: Arc<Events>) -> Self {
        let fatal = read_only.then_some(Error::ReadOnly);
        HealthState {
            state: AtomicU8::new(if read_only { READ_ONLY } else { OPEN }),
            errors: Mutex::new(Errors { fatal, retrying: None }),
            events,
        }
    }

    pub(crate) fn current(&self) -> Health {
        let errors = self.errors.lock();
        if self.state.load(Ordering::Acquire) == CLOSED { Health::Closed } else { errors.health() }
    }

    /// Changes what has failed, and tells of it under the lock: events have the order of the changes.
    fn change(&self, change: impl FnOnce(&mut Errors)) {
        let mut errors = self.errors.lock();
        let before = errors.clone();
        change(&mut errors);
        let (from, to) = (before.health(), errors.health());
        if !self.events.wanted() || self.state.load(Ordering::Acquire) == CLOSED {
            return;
        }
        if before.no_space().is_none()
            && let Some(error) = errors.no_space().cloned()
        {
            self.events.push(|| EngineEvent::OutOfSpace { error });
        }
        if !from.is_like(&to) {
            self.events.push(|| EngineEvent::HealthChanged { from, to });
        }
        if before.no_space().is_some() && errors.retrying.is_none() {
            self.events.push(|| EngineEvent::SpaceResumed);
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
        self.change(|errors| {
            errors.fatal.get_or_insert_with(|| reason.clone());
            // A closed database stays closed.
            let _was =
                self.state.compare_exchange(OPEN, READ_ONLY, Ordering::AcqRel, Ordering::Acquire);
        });
    }

    /// Returns what it was before.
    pub(crate) fn close(&self) -> Health {
        let before = self.current();
        self.state.store(CLOSED, Ordering::Release);
        before
    }

    /// Notes a failure that is retried.
    pub(crate) fn degrade(&self, reason: &Error) {
        self.change(|errors| errors.retrying = Some(reason.clone()));
    }

    /// Notes that what failed has succeeded.
    pub(crate) fn recover(&self) {
        self.change(|errors| {
            if errors.no_space().is_some() {
                base::probe!("work resumed after a full disk");
            }
            errors.retrying = None;
        });
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
