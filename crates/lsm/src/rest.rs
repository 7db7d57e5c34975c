//! Rest: what is kept ready for writes is given back when none come.
//!
//! Fast writes take disk space before they need it: two log segments at least, recycled ones, the reserve. Once the work of
//! a quiet time is done and everything is in tables, one small segment is left. The first write asks for the rest again, in
//! the background, and has room until it is there.

use crate::engine::Engine;
use base::Result;
use base::sync::atomic::Ordering;
use manifest::VersionEdit;

/// Length of the log's segment while nothing is written: room for the writes that come before the next one is ready.
const RESTING_BYTES: u64 = 1 << 20;

impl Engine {
    /// Once the work of a quiet time is done, lets go of files and memory that were kept for writes to come.
    pub(crate) fn give_space_back(&self) {
        if self.options.idle_compaction.is_none() || self.jobs.load(Ordering::Acquire) > 0 {
            return;
        }
        self.all_trees().iter().for_each(|tree| tree.spares.clear());
        // What fails is tried again at the next tick; a failed sync has stopped writes.
        drop(self.shorten_log());
        self.delete_recycled();
        if self.segments.is_blank() {
            self.lay_reserve_down();
        }
    }

    /// If no memtable needs the log, goes on to a short segment and lets go of all others.
    fn shorten_log(&self) -> Result<()> {
        let log = self.segments.log()?;
        let resting = RESTING_BYTES.min(self.options.log_segment_bytes);
        let needed = || self.all_trees().iter().any(|tree| tree.view().first_lsn().is_some());
        if log.file_bytes() <= resting || needed() {
            return Ok(());
        }
        {
            let _call = self.begin_call()?;
            let mut pending = self.segments.preparing();
            self.health.check_writable()?;
            let prepared = match pending.take().filter(|segment| segment.len() == resting) {
                Some(prepared) => prepared,
                None => self.prepare_segment(resting)?,
            };
            let edit = VersionEdit {
                segments_added: vec![prepared.num()],
                next_lsn: Some(log.end().0),
                ..VersionEdit::default()
            };
            if let Err(e) = self.apply_edit(&edit, |_| {}) {
                *pending = Some(prepared);
                return Err(e);
            }
            log.install_spare(prepared);
            log.roll()?;
        }
        base::probe!("log shortened in a quiet time");
        // A segment leaves the log only once it is synced.
        self.sync_log(log.end())?;
        self.trim_log()
    }
}
