//! Group commit: one caller syncs for all that wait.
//!
//! A leader takes the end of the log under the writer lock, then starts the syncs, so all bytes below that
//! end were in the files before. Only when all syncs succeeded does the synced position move there.
//! A caller returns once the synced position covers it; a sync that was already running when its
//! bytes were written does not, and the caller then waits for, or leads, the next one.
//!
//! # Who leads
//! Callers that one sync has served are often back with their next records a moment later. If the next sync did not wait for them, half of
//! the callers would always wait for a whole sync of the other half. So the next one is led by the caller with which as many are there as
//! the last sync left, those it served included. It is awake already, and the others sleep until they are served: one wake-up for each
//! record. So that nobody waits for callers that do not come, one of the others, the first, leads after [`GATHER`].

use base::sync::atomic::Ordering;
use base::sync::{MutexGuard, crowd};
use std::sync::Arc;
use std::time::Duration;

use base::{Error, IoContext, Result};

use crate::log::writer::Failure;
use crate::{Log, Lsn};

/// Longest wait for other callers.
const GATHER: Duration = Duration::from_micros(100);

/// Who syncs, who waits, and whether syncing is over for good.
#[derive(Debug, Default)]
pub(super) struct Turn {
    leading: bool,
    /// Those that the next sync is going to serve.
    group: Arc<Group>,
    /// How many they are.
    waiting: usize,
    /// Callers there were when the last sync ended.
    expected: usize,
    failed: Option<Arc<Error>>,
}

impl Turn {
    fn check(&self) -> Result<()> {
        match &self.failed {
            Some(source) => Err(Error::SyncFailed { source: Arc::clone(source) }),
            None => Ok(()),
        }
    }
}

/// Callers that sleep until one sync is over.
#[derive(Debug, Default)]
struct Group {
    told: crowd::Mutex<Told>,
    changed: crowd::Condvar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    /// One of them is to see to it that somebody leads.
    Lead,
    /// The sync is over.
    Done,
}

impl Group {
    /// Sleeps until the group, or one of it, is told something; for [`GATHER`] if it is not `patient`.
    fn sleep(&self, patient: bool) -> Told {
        let mut told = self.told.lock();
        while *told == Told::Nothing {
            if patient {
                self.changed.wait(&mut told);
            } else {
                let _timed_out = self.changed.wait_for(&mut told, GATHER);
                break;
            }
        }
        let heard = *told;
        if heard == Told::Lead {
            *told = Told::Nothing;
        }
        heard
    }

    fn end(&self) {
        *self.told.lock() = Told::Done;
        self.changed.notify_all();
    }

    /// Nothing, if its sync was led and is over meanwhile.
    fn have_one_lead(&self) {
        let mut told = self.told.lock();
        if *told == Told::Nothing {
            *told = Told::Lead;
            self.changed.notify_one();
        }
    }
}

/// Ends the leadership, also when the sync panics: nobody must wait for ever.
struct Leader<'a> {
    log: &'a Log,
    group: Arc<Group>,
    /// Callers that the sync serves, the leader included.
    served: usize,
    result: Result<(), Arc<Error>>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if let Err(error) = &self.result {
            self.log.writer.lock().fail(Failure::Sync(Arc::clone(error)));
        }
        let next = {
            let mut turn = self.log.turn.lock();
            turn.leading = false;
            turn.expected = self.served + turn.waiting;
            if let Err(error) = &self.result {
                turn.failed.get_or_insert_with(|| Arc::clone(error));
            }
            (turn.waiting > 0).then(|| Arc::clone(&turn.group))
        };
        if self.served > 1 {
            base::probe!("one sync served several writers");
            self.group.end();
        }
        if let Some(next) = next {
            if self.result.is_ok() { next.have_one_lead() } else { next.end() }
        }
    }
}

impl Log {
    /// Returns once everything below `upto` is durable. A position past the end counts as the end.
    ///
    /// One caller at a time syncs, older segments first, for all that wait; the writer lock is not held.
    ///
    /// # Errors
    /// [`Error::SyncFailed`] if this or any earlier sync failed; the log is broken then, see [`Log`].
    pub fn sync(&self, upto: Lsn) -> Result<()> {
        let upto = upto.min(self.end());
        let mut turn = self.turn.lock();
        turn.check()?;
        if self.synced() >= upto {
            return Ok(());
        }
        if !turn.leading && turn.waiting + 1 >= turn.expected {
            return self.lead(turn);
        }
        let mut patient = turn.leading || turn.waiting > 0;
        turn.waiting += 1;
        let group = Arc::clone(&turn.group);
        base::probe!("sync waited for other callers");
        loop {
            drop(turn);
            let told = group.sleep(patient);
            if base::planted::is(6) {
                return Ok(());
            }
            if told == Told::Done {
                return if self.synced() >= upto { Ok(()) } else { self.turn.lock().check() };
            }
            turn = self.turn.lock();
            if Arc::ptr_eq(&group, &turn.group) && !turn.leading {
                if told == Told::Nothing || turn.waiting >= turn.expected {
                    turn.waiting -= 1;
                    return self.lead(turn);
                }
                patient = false;
            } else {
                patient = true;
            }
        }
    }

    /// Syncs for the group. The writers of all its records have appended them, so the sync covers them.
    fn lead(&self, mut turn: MutexGuard<'_, Turn>) -> Result<()> {
        turn.leading = true;
        let group = std::mem::take(&mut turn.group);
        let served = std::mem::take(&mut turn.waiting) + 1;
        drop(turn);
        let panicked = Error::Poisoned { detail: "the sync of the log panicked".into() };
        let mut leader = Leader { log: self, group, served, result: Err(Arc::new(panicked)) };
        leader.result = self.sync_files().map_err(Arc::new);
        match &leader.result {
            Ok(()) => Ok(()),
            Err(source) => Err(Error::SyncFailed { source: Arc::clone(source) }),
        }
    }

    fn sync_files(&self) -> Result<()> {
        let (files, target) = {
            let writer = self.writer.lock();
            if let Some(Failure::Sync(cause)) = writer.failure() {
                return Err((**cause).clone());
            }
            (writer.unsynced(self.synced().0), writer.end())
        };
        if files.len() > 1 {
            base::probe!("sync over several segments");
        }
        for segment in files {
            let synced = match base::planted::is(49) {
                true => Ok(()),
                false => segment.file.sync().context("sync segment", &segment.path),
            };
            if synced.is_err() {
                base::probe!("sync of the log failed");
            }
            if !base::planted::is(2) {
                synced?;
            }
        }
        let before = self.synced.swap(target, Ordering::AcqRel);
        self.stretch.store(target.saturating_sub(before), Ordering::Relaxed);
        Ok(())
    }
}
