//! The files of the log: a spare ready before it is needed, old ones recycled.

use crate::engine::Engine;
use base::sync::atomic::AtomicBool;
use base::sync::{Mutex, MutexGuard};
use base::{Error, FileName, FileNum, IoContext, Result};
use manifest::VersionEdit;
use std::collections::VecDeque;
use std::sync::OnceLock;
use wal::{ClosedSegment, Log, Lsn, PreparedSegment};

/// Bytes of removed segments kept for reuse until a quiet time: a recycled file is written without new metadata. At least
/// two are.
const RECYCLED_BYTES_MAX: u64 = 128 << 20;

/// Bytes of log at which the memory of its segments is made ready: before, it may be all that is ever written.
const PREFAULT_AT: u64 = 8 << 20;

/// The log and its files.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    log: OnceLock<Log>,
    /// Held while a segment is prepared; holds one whose edit failed, which may be listed all the same.
    preparing: Mutex<Option<PreparedSegment>>,
    pub(crate) spare_queued: AtomicBool,
    /// Held while segments leave log and manifest, oldest first: a crash between two edits in the wrong order would leave
    /// a log with a hole.
    trimming: Mutex<()>,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Segments that recovery replayed, until their contents are flushed.
    replayed: VecDeque<ClosedSegment>,
    /// Forgotten by the log and not yet by the manifest.
    leaving: Vec<FileNum>,
    /// Out of the manifest, kept on disk for reuse.
    recycled: Vec<FileNum>,
}

impl Segments {
    /// The log.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if there is none: the database is open for reading alone, or
    /// [`begin_writing`](Engine::begin_writing) was not called yet.
    #[inline]
    pub(crate) fn log(&self) -> Result<&Log> {
        self.log.get().ok_or(Error::ReadOnly)
    }

    /// Keeps the file of a segment that the manifest does not list any more for the next one.
    pub(crate) fn reuse(&self, num: FileNum) {
        self.files.lock().recycled.push(num);
    }

    /// Held while a segment is prepared; holds one that may be listed all the same.
    pub(crate) fn preparing(&self) -> MutexGuard<'_, Option<PreparedSegment>> {
        self.preparing.lock()
    }

    /// True if there is a log.
    #[inline]
    pub(crate) fn has_begun(&self) -> bool {
        self.log.get().is_some()
    }

    pub(crate) fn start(&self, log: Log, replayed: Vec<ClosedSegment>) {
        self.files.lock().replayed = replayed.into();
        self.log.get_or_init(|| log);
    }

    /// True if the log holds records and would have to wait for its next segment.
    #[inline]
    pub(crate) fn wants_spare(&self) -> bool {
        self.log.get().is_some_and(Log::wants_spare)
    }

    /// Bytes from the oldest record kept to the end of the log.
    pub(crate) fn bytes(&self) -> u64 {
        let Some(log) = self.log.get() else { return 0 };
        let segments = log.segments();
        let current: u64 = segments.iter().map(|s| s.end.0 - s.start.0).sum();
        let replayed: u64 = self.files.lock().replayed.iter().map(|s| s.end_offset).sum();
        current + replayed
    }

    /// Makes the memory of segments ready, if the log is being written to, much at a time. Slow: in the background.
    pub(crate) fn prefault(&self) {
        let Some(log) = self.log.get() else { return };
        if self.bytes() >= PREFAULT_AT && log.fills_fast() {
            log.prefault();
        }
    }

    /// True if no log holds a record.
    pub(crate) fn is_blank(&self) -> bool {
        self.log.get().is_none_or(Log::is_blank) && self.files.lock().replayed.is_empty()
    }

    /// Number of files that hold records.
    pub(crate) fn count(&self) -> usize {
        self.log.get().map_or(0, |log| log.segments().len()) + self.files.lock().replayed.len()
    }
}

impl Engine {
    /// Sees to it that a spare segment of at least `min_len` bytes is ready; 0 for the usual size.
    pub(crate) fn provide_segment(&self, min_len: u64) -> Result<()> {
        let _call = self.begin_call()?;
        let mut pending = self.segments.preparing.lock();
        let log = self.segments.log()?;
        self.health.check_writable()?;
        let usual = self.options.log_segment_bytes;
        let wanted = if min_len == 0 { log.wants_spare() } else { log.lacks_spare() };
        if min_len <= usual && !wanted {
            return Ok(());
        }
        let len = min_len.max(usual);
        let prepared = match pending.take().filter(|segment| segment.len() >= len) {
            Some(prepared) => prepared,
            None => self.prepare_segment(len)?,
        };
        let edit = VersionEdit {
            segments_added: vec![prepared.num()],
            next_lsn: Some(log.end().0),
            ..VersionEdit::default()
        };
        if base::planted::is(9) {
            log.install_spare(prepared);
            return Ok(());
        }
        if let Err(e) = self.apply_edit(&edit, |_| {}) {
            base::probe!("prepared segment kept after a failed edit");
            *pending = Some(prepared);
            return Err(e);
        }
        log.install_spare(prepared);
        self.health.recover();
        self.event.notify();
        Ok(())
    }

    pub(crate) fn prepare_segment(&self, len: u64) -> Result<PreparedSegment> {
        let usual = self.options.log_segment_bytes;
        let recycle = if len == usual { self.segments.files.lock().recycled.pop() } else { None };
        let num = self.new_file();
        wal::prepare_segment(&*self.fs, &self.dir, num, len, recycle).inspect_err(|_| {
            // A half-made file would only waste the space that is missing.
            drop(self.fs.remove_file(&FileName::Segment(num).in_dir(&self.dir)));
        })
    }

    /// The log position before which no memtable needs a record.
    fn log_floor(&self) -> Result<Lsn> {
        // Under the commit lock: no record can be between log and memtable.
        let _commit = self.commits.lock();
        let end = self.segments.log()?.end();
        let trees = self.trees.read();
        let needed = trees.values().filter_map(|tree| tree.view().first_lsn()).min();
        Ok(needed.unwrap_or(end))
    }

    /// Lets go of log segments whose records are all in tables.
    pub(crate) fn trim_log(&self) -> Result<()> {
        let _in_order = (!base::planted::is(54)).then(|| self.segments.trimming.lock());
        let floor = self.log_floor()?;
        let mut leaving = {
            let mut files = self.segments.files.lock();
            files.leaving.extend(self.segments.log()?.remove_before(floor));
            while files.replayed.front().is_some_and(|s| s.end <= floor) {
                let gone = files.replayed.pop_front().map(|s| s.num);
                files.leaving.extend(gone);
            }
            std::mem::take(&mut files.leaving)
        };
        if base::planted::is(9) {
            leaving.retain(|num| self.manifest.lock().state.segments.contains_key(num));
        }
        if leaving.is_empty() {
            return Ok(());
        }
        if base::planted::is(53) {
            leaving.iter().try_for_each(|num| self.delete_early(*num))?;
        }
        let edit = VersionEdit { segments_removed: leaving.clone(), ..VersionEdit::default() };
        if let Err(e) = self.apply_edit(&edit, |_| {}) {
            base::probe!("log segments stay after a failed edit");
            self.segments.files.lock().leaving.extend(leaving);
            return Err(e);
        }
        if base::planted::is(53) {
            return Ok(());
        }
        for num in leaving {
            // What stays is removed by the next open.
            drop(self.retire_segment(num));
        }
        Ok(())
    }

    /// Lets go of what an earlier trim could not: no flush may come that would do it.
    pub(crate) fn retry_trim(&self) {
        if self.segments.files.lock().leaving.is_empty() {
            return;
        }
        match self.trim_log() {
            Ok(()) => self.health.recover(),
            Err(e) => self.background_failed(&e),
        }
    }

    /// Planted: a file goes before the edit that no longer lists it.
    fn delete_early(&self, num: FileNum) -> Result<()> {
        let path = FileName::Segment(num).in_dir(&self.dir);
        self.fs.remove_file(&path).context("remove", &path)?;
        self.fs.sync_dir(&self.dir).context("sync_dir", &self.dir)
    }

    /// Keeps the file of a removed segment for reuse, or deletes it.
    fn retire_segment(&self, num: FileNum) -> Result<()> {
        let path = FileName::Segment(num).in_dir(&self.dir);
        let len = self.fs.metadata(&path).context("inspect", &path)?.len;
        let mut files = self.segments.files.lock();
        let kept_max = (RECYCLED_BYTES_MAX / len.max(1)).max(2);
        if len == self.options.log_segment_bytes && (files.recycled.len() as u64) < kept_max {
            files.recycled.push(num);
            return Ok(());
        }
        drop(files);
        base::probe!("log segment deleted");
        self.fs.remove_file(&path).context("remove", &path)
    }

    /// Deletes the files kept for reuse: at close, in quiet times, and when space is short.
    pub(crate) fn delete_recycled(&self) {
        for num in std::mem::take(&mut self.segments.files.lock().recycled) {
            // What stays is removed by the next open.
            drop(self.fs.remove_file(&FileName::Segment(num).in_dir(&self.dir)));
        }
    }

    /// If the log has outgrown its bound, freezes the memtable that holds its oldest record, so that no idle
    /// keyspace pins it.
    pub(crate) fn bound_log(self: &std::sync::Arc<Self>) {
        if self.segments.bytes() <= self.options.log_bytes_max || base::planted::is(17) {
            return;
        }
        let trees = self.all_trees();
        let oldest = trees
            .iter()
            .filter_map(|t| t.view().first_lsn().map(|lsn| (lsn, t)))
            .min_by_key(|(lsn, _)| *lsn);
        if let Some((_, tree)) = oldest
            && tree.view().frozen.is_empty()
        {
            base::probe!("memtable frozen for the bound of the log");
            self.freeze(&self.commits.lock(), tree);
        }
    }
}
