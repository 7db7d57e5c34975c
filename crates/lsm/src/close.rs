//! Closing: what is in memory goes to tables, so that the next open has no log to read.

use crate::engine::Engine;
use base::sync::atomic::Ordering;
use base::{FileName, FileNum, Result};
use manifest::VersionEdit;
use std::sync::Arc;
use wal::{ClosedSegment, Lsn};

impl Engine {
    /// Closes the database. A second call does nothing but wait for the first: who returns may open it again.
    ///
    /// # Errors
    /// What kept memtables from being flushed. The database is closed all the same, and what was acknowledged is in the
    /// log.
    pub(crate) fn close(self: &Arc<Self>) -> Result<()> {
        let mut closed = self.closed.lock();
        if std::mem::replace(&mut *closed, true) {
            return Ok(());
        }
        let flushed = self.flush_for_close();
        let before = {
            // Writers look at the health under the commit lock: none is between its look and its record.
            let _commit = self.commits.lock();
            self.closing.store(true, Ordering::Release);
            self.health.close()
        };
        self.limiter.stop();
        self.event.notify();
        self.executor.shutdown();
        if !base::planted::is(57) {
            self.wait_for_calls();
        }
        let ended = self.end_log();
        self.delete_recycled();
        self.remove_reserve();
        self.purge();
        drop(self.lock.lock().take());
        self.event.notify();
        drop(closed);
        self.events.end(before);
        flushed.and(ended)
    }

    fn flush_for_close(self: &Arc<Self>) -> Result<()> {
        if self.health.is_stopped() {
            return Ok(());
        }
        self.flush_all()
    }

    /// Ends the log: durable to its last record, and, if everything in it is in tables, gone.
    fn end_log(&self) -> Result<()> {
        let Ok(log) = self.segments.log() else { return Ok(()) };
        if log.failure().is_some() {
            return Ok(());
        }
        let ends = log.close()?;
        let unflushed = self.all_trees().iter().any(|t| t.view().first_lsn().is_some())
            && !base::planted::is(34);
        if unflushed {
            base::probe!("closed with writes in the log alone");
        }
        let edit = self.closing_edit(if unflushed { &ends } else { &[] }, log.end());
        self.apply_edit(&edit, |_| {})?;
        for num in edit.segments_removed {
            // What stays is removed by the next open.
            drop(self.fs.remove_file(&FileName::Segment(num).in_dir(&self.dir)));
        }
        self.manifest.lock().manifest.as_mut().map_or(Ok(()), manifest::Manifest::close)
    }

    /// Keeps the segments in `ends`, and those that an earlier recovery closed, if any is kept.
    fn closing_edit(&self, ends: &[ClosedSegment], end: Lsn) -> VersionEdit {
        let last_seq = self.commits.lock().last_seq;
        let store = self.manifest.lock();
        let listed = &store.state.segments;
        let kept = |num: &FileNum| {
            ends.iter().any(|s| s.num == *num)
                || (!ends.is_empty() && listed.get(num).is_some_and(|s| s.closed.is_some()))
        };
        let open = |s: &&ClosedSegment| listed.get(&s.num).is_some_and(|s| s.closed.is_none());
        VersionEdit {
            last_seq: Some(last_seq),
            next_lsn: Some(end.0),
            // Above all files there are; see `recover::check_files`.
            next_file: Some(
                store.state.next_file.max(FileNum(self.next_file.load(Ordering::Relaxed))),
            ),
            segments_closed: ends.iter().filter(open).map(|&s| s.into()).collect(),
            segments_removed: listed.keys().copied().filter(|num| !kept(num)).collect(),
            ..VersionEdit::default()
        }
    }
}
