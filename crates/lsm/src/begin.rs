//! The beginning of writing: the manifest is made durable and opened for edits, what was recovered becomes durable, and a
//! fresh log begins behind it, by one edit.
//!
//! An open does this at once if the log held anything, or if something lies about in the directory. A database that was
//! closed cleanly holds all that it has durably: nothing is written until the first write or edit comes, which then begins.
//!
//! Nothing makes a file before that, not even a table that no edit names yet: by its files an open tells a database that
//! was closed from one whose last edits are gone.

use crate::engine::Engine;
use crate::recover::{manifest_options, sync_parents};
use crate::replay::Recovered;
use base::sync::atomic::Ordering;
use base::{Error, FileName, FileNum, IoContext, Result};
use manifest::{Manifest, State, TableChanges, VersionEdit};
use std::collections::BTreeSet;
use std::sync::Arc;
use wal::{ClosedSegment, Log, LogOptions, Lsn, PreparedSegment};

impl Engine {
    /// Sees to it that files may be made and changed. Cheap once it has succeeded. Under no lock but `exclusive`.
    ///
    /// # Errors
    /// Why it cannot be written, such as a full disk; everything is as it was, reads go on, and the next call tries again.
    /// [`Error::SyncFailed`] and damage stop writes.
    #[inline]
    pub(crate) fn begin_writing(self: &Arc<Self>) -> Result<()> {
        if self.segments.has_begun() { Ok(()) } else { self.begin_late() }
    }

    #[cold]
    fn begin_late(self: &Arc<Self>) -> Result<()> {
        self.health.check_writable()?;
        let _call = self.begin_call()?;
        let replayed = wal::Replayed::default();
        let last_seq = self.commits.lock().last_seq;
        match self.begin(Recovered { replayed, last_seq, tables: Vec::new() }) {
            Ok(()) => {
                base::probe!("writing began after the open");
                Ok(())
            }
            Err(e) => {
                base::probe!("writing could not begin");
                if !matches!(e, Error::Io { .. } | Error::NoSpace { .. } | Error::Closed) {
                    self.health.stop_writes(&e);
                }
                Err(e)
            }
        }
    }

    /// Makes what was recovered durable, and starts a fresh log behind it: one edit of the manifest. Does nothing if a log
    /// has begun. May be called again after an error, with the same.
    pub(crate) fn begin(&self, recovered: Recovered) -> Result<()> {
        let mut pending = self.segments.preparing();
        if self.segments.has_begun() {
            return Ok(());
        }
        self.own_manifest()?;
        let Recovered { replayed, last_seq, tables } = recovered;
        let unflushed = self.all_trees().iter().any(|t| t.view().first_lsn().is_some());
        let kept = if unflushed { replayed.segments } else { Vec::new() };
        let not_closed = self.not_closed(&kept);
        if unflushed || !tables.is_empty() {
            // The tail may be in the page cache only, after a kill; what is exposed must be durable.
            base::probe!("replayed segments kept");
            if !base::planted::is(15) {
                wal::make_durable(&*self.fs, &self.dir, &not_closed, replayed.synced)?;
            }
        }
        let (db_id, start) = {
            let state = &self.manifest.lock().state;
            (state.db_id, Lsn(replayed.next.0.max(state.next_lsn)))
        };
        self.free_unused(&replayed.unused, start)?;
        let first = self.first_segment(&mut pending)?;
        let edit = VersionEdit {
            last_seq: Some(last_seq),
            next_lsn: Some(start.0),
            tables: tables.clone(),
            ..self.segments_edit(&kept, &not_closed, first.num())
        };
        if let Err(e) = self.apply_edit(&edit, |state| self.install_recovered(state, &tables)) {
            // It may be listed all the same.
            *pending = Some(first);
            return Err(e);
        }
        let previous = kept.last().copied();
        let log = Log::start(LogOptions { db_id }, first, start, previous)?;
        self.segments.start(log, kept);
        Ok(())
    }

    /// Makes the manifest durable that was only looked at so far, and opens it for edits. Now nothing is known to be
    /// damaged, so the disk may be changed.
    fn own_manifest(&self) -> Result<()> {
        let mut store = self.manifest.lock();
        if store.manifest.as_ref().is_some_and(|manifest| !manifest.is_read_only()) {
            return Ok(());
        }
        // Whoever made the database may have been killed before its directory had a durable name. Not once there was a log:
        // whoever begins one has been here.
        if store.state.segments.is_empty() {
            sync_parents(&*self.fs, &self.dir)?;
        }
        let options = manifest_options(&self.options);
        let (manifest, state) = Manifest::recover(Arc::clone(&self.fs), &self.dir, options)?;
        self.next_file.fetch_max(state.next_file.0, Ordering::Relaxed);
        // The state looked at stays, since trees share its versions; only a new manifest may have taken a number.
        store.state.next_file = state.next_file;
        store.manifest = Some(manifest);
        Ok(())
    }

    /// Those of `segments` of which the manifest does not say how they ended: the others are durable.
    fn not_closed(&self, segments: &[ClosedSegment]) -> Vec<ClosedSegment> {
        let listed = &self.manifest.lock().state.segments;
        let is_closed = |s: &ClosedSegment| listed.get(&s.num).is_some_and(|l| l.closed.is_some());
        segments.iter().filter(|s| !is_closed(s)).copied().collect()
    }

    /// Takes a segment that was prepared and never written out of the manifest, so that its file can be the first of the new
    /// log: an edit is cheaper than to make one file of that size and delete another.
    fn free_unused(&self, unused: &[FileNum], next: Lsn) -> Result<()> {
        let usual = self.options.log_segment_bytes;
        let is_usual = |num: &&FileNum| {
            let path = FileName::Segment(**num).in_dir(&self.dir);
            self.fs.metadata(&path).is_ok_and(|found| found.len == usual)
        };
        let Some(&num) = unused.iter().find(is_usual) else { return Ok(()) };
        let (removed, next_lsn) = (vec![num], Some(next.0));
        // The manifest may list no segment then, and tables that a crash left behind are still there: with the numbers of a database that
        // lost the edits that name them, if it did not know of these numbers.
        let next_file = Some(FileNum(self.next_file.load(Ordering::Relaxed)));
        let edit = VersionEdit {
            segments_removed: removed,
            next_lsn,
            next_file,
            ..VersionEdit::default()
        };
        self.apply_edit(&edit, |_| {})?;
        base::probe!("unused segment becomes the first");
        self.segments.reuse(num);
        Ok(())
    }

    fn first_segment(&self, pending: &mut Option<PreparedSegment>) -> Result<PreparedSegment> {
        match pending.take() {
            Some(prepared) => Ok(prepared),
            None => self.prepare_segment(self.options.log_segment_bytes),
        }
    }

    /// The log consists of `kept` and `first` from now on.
    fn segments_edit(
        &self,
        kept: &[ClosedSegment],
        not_closed: &[ClosedSegment],
        first: FileNum,
    ) -> VersionEdit {
        let store = self.manifest.lock();
        let is_kept = |num: &FileNum| kept.iter().any(|s| s.num == *num);
        let listed = store.state.segments.keys().copied();
        VersionEdit {
            segments_added: vec![first],
            segments_closed: not_closed.iter().map(|&s| s.into()).collect(),
            segments_removed: listed.filter(|num| !is_kept(num)).collect(),
            ..VersionEdit::default()
        }
    }

    /// Replaces memtables that became tables during the replay by those tables.
    fn install_recovered(&self, state: &State, tables: &[TableChanges]) {
        for changes in tables {
            let trees = self.trees.read();
            let (Some(tree), Some(keyspace)) =
                (trees.get(&changes.keyspace), state.keyspaces.get(&changes.keyspace))
            else {
                continue;
            };
            tree.flushed_seq.store(keyspace.flushed_seq.0, Ordering::Release);
            tree.update_view(|view| view.with_version(Vec::new(), &keyspace.version));
        }
    }

    /// Removes files that a crash left behind: not in the manifest, hence of no use.
    pub(crate) fn remove_obsolete_files(&self) -> Result<()> {
        let names = self.fs.list(&self.dir).context("list", &self.dir)?;
        let store = self.manifest.lock();
        let manifest = store.manifest.as_ref().map_or(FileNum(0), Manifest::file);
        let live = LiveFiles::of(&store.state, manifest);
        let obsolete = |name: &FileName| live.is_obsolete(name) && !base::planted::is(45);
        for name in names.iter().filter(|n| FileName::parse(n).is_some_and(|n| obsolete(&n))) {
            base::probe!("leftover file removed");
            let path = self.dir.join(name.file_name().unwrap_or_default());
            self.fs.remove_file(&path).context("remove", &path)?;
        }
        Ok(())
    }
}

/// The files that a database consists of.
pub(crate) struct LiveFiles {
    listed: BTreeSet<FileNum>,
    manifest: FileNum,
}

impl LiveFiles {
    /// Those that `state` lists, and the live manifest.
    pub(crate) fn of(state: &State, manifest: FileNum) -> LiveFiles {
        LiveFiles { listed: state.live_files().into_iter().collect(), manifest }
    }

    /// True for files of a database that are of no use to this one.
    pub(crate) fn is_obsolete(&self, name: &FileName) -> bool {
        match name {
            FileName::Table(n) | FileName::Segment(n) => !self.listed.contains(n),
            FileName::Manifest(n) => *n != self.manifest,
            FileName::Temp => true,
            FileName::Lock | FileName::Current | FileName::Reserve => false,
        }
    }
}
