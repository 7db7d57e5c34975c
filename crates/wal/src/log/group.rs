//! Group commit: one caller syncs for all that wait.
//!
//! A leader takes the end of the log under the writer lock, then starts the syncs, so all bytes below that
//! end were in the files before. Only when all syncs succeeded does the synced position move there.
//! A follower returns once the synced position covers it; a sync that was already running when its
//! bytes were written does not, and it then waits for, or leads, the next one.

use base::sync::atomic::Ordering;
use std::sync::Arc;

use base::{Error, IoContext, Result};

use crate::log::writer::Failure;
use crate::{Log, Lsn};

/// Who syncs, and whether syncing is over for good.
#[derive(Debug, Default)]
pub(super) struct Turn {
    leading: bool,
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

/// Ends the leadership, also when the sync panics: waiters must not wait for ever.
struct Leader<'a> {
    log: &'a Log,
    result: Result<(), Arc<Error>>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if let Err(error) = &self.result {
            self.log.writer.lock().fail(Failure::Sync(Arc::clone(error)));
        }
        let mut turn = self.log.turn.lock();
        turn.leading = false;
        if let Err(error) = &self.result {
            turn.failed.get_or_insert_with(|| Arc::clone(error));
        }
        self.log.done.notify_all();
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
        loop {
            if self.synced() >= upto {
                return Ok(());
            }
            turn.check()?;
            if !turn.leading {
                break;
            }
            base::probe!("sync waited for the one under way");
            self.done.wait(&mut turn);
            if base::planted::is(6) {
                return Ok(());
            }
            if self.synced() >= upto {
                base::probe!("one sync served several writers");
            }
        }
        turn.leading = true;
        drop(turn);
        self.lead()
    }

    fn lead(&self) -> Result<()> {
        let panicked = Error::Poisoned { detail: "the sync of the log panicked".into() };
        let mut leader = Leader { log: self, result: Err(Arc::new(panicked)) };
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
        self.synced.store(target, Ordering::Release);
        Ok(())
    }
}
