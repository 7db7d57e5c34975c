//! Closing: what is in memory goes to tables, so that the next open has no log to read.

use crate::engine::Engine;
use base::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Closes the database; the second call does nothing.
    ///
    /// # Errors
    /// What kept memtables from being flushed. The database is closed all the same, and what was acknowledged is in the
    /// log.
    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        if self.closing.load(Ordering::Acquire) {
            return Ok(());
        }
        let flushed = self.flush_for_close();
        {
            // Writers look at the health under the commit lock: none is between its look and its record.
            let _commit = self.commits.lock();
            if self.closing.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            self.health.close();
        }
        self.limiter.stop();
        self.event.notify();
        self.executor.shutdown();
        let synced = self.sync_for_close();
        self.delete_recycled();
        self.purge();
        drop(self.lock.lock().take());
        self.event.notify();
        flushed.and(synced)
    }

    fn flush_for_close(self: &Arc<Self>) -> Result<()> {
        if self.health.is_stopped() {
            return Ok(());
        }
        self.flush_and_wait(&self.all_trees())
    }

    /// Makes durable what was written while the last flush ran.
    fn sync_for_close(&self) -> Result<()> {
        let Ok(log) = self.segments.log() else { return Ok(()) };
        if log.failure().is_some() {
            return Ok(());
        }
        log.sync(log.end())?;
        log.mark_synced()
    }
}
