//! Flush: frozen memtables become a run of tables in level 0.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::listener::EngineEvent;
use crate::metrics::Counters;
use crate::options::Compression;
use crate::tree::{Frozen, Mem, Tree};
use base::{Error, Fragments, InternalIterator, MergingIterator, Result, SeqNo};
use compaction::OlderData;
use manifest::{AddedTable, TableChanges, TableMeta, VersionEdit};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Engine {
    /// Asks the executor for a flush of `tree`, unless one is waiting already or there is nothing to flush.
    pub(crate) fn queue_flush(self: &Arc<Self>, tree: &Arc<Tree>) {
        let stopped = tree.is_dropped() || self.is_closing() || self.health.is_stopped();
        // Whoever flushes looks again afterwards: a second job would only keep a thread waiting, and a writer may need it.
        let flushing = tree.flushing.load(Ordering::Acquire);
        if stopped
            || flushing
            || !self.has_due(tree)
            || tree.flush_queued.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let tree = Arc::clone(tree);
        self.submit("flush", Priority::High, move |engine| {
            tree.flush_queued.store(false, Ordering::Release);
            if tree.flushing.swap(true, Ordering::AcqRel) {
                return;
            }
            let flushed = engine.flush_tree(&tree);
            tree.flushing.store(false, Ordering::Release);
            match flushed {
                Ok(()) => engine.flush_succeeded(&tree),
                Err(e) => {
                    tree.flush_failures.fetch_add(1, Ordering::AcqRel);
                    engine.background_failed(&e);
                }
            }
        });
    }

    /// True if `tree` has a memtable that may be flushed now. One that has to wait for a checkpoint is queued by that.
    fn has_due(&self, tree: &Tree) -> bool {
        let barrier = SeqNo(self.flush_barrier.load(Ordering::Acquire));
        let due = |m: &Arc<Mem>| m.frozen().is_some_and(|f| f.seq <= barrier);
        tree.view().frozen.iter().any(due)
    }

    fn flush_succeeded(self: &Arc<Self>, tree: &Arc<Tree>) {
        self.health.recover();
        self.memory_changed();
        self.tell_stall_ended();
        if let Err(e) = self.trim_log() {
            self.background_failed(&e);
        }
        self.bound_log();
        self.queue_flush(tree);
        self.schedule_compactions(tree);
    }

    /// Notes the failure of a background job. It is tried again at the next tick, onto new files.
    pub(crate) fn background_failed(&self, e: &Error) {
        // The database closes, or the keyspace was dropped while its job ran.
        if matches!(e, Error::Closed | Error::KeyspaceNotFound { .. }) {
            return;
        }
        Counters::add(&self.counters.background_failures, 1);
        match e {
            Error::Io { .. } | Error::NoSpace { .. } => {
                if e.is_no_space() {
                    base::probe!("job met a full disk");
                    self.delete_recycled();
                    self.release_reserve();
                }
                self.health.degrade(e);
            }
            // Damage in a table does not stop writes elsewhere; what read it keeps failing and says so.
            Error::Corruption { .. } => {
                base::probe!("job met a damaged table");
                self.health.degrade(e);
            }
            _ => self.health.stop_writes(e),
        }
        self.event.notify();
    }

    /// Writes all frozen memtables of `tree` into tables and the manifest, then lets them go. One call at a time.
    fn flush_tree(self: &Arc<Self>, tree: &Arc<Tree>) -> Result<()> {
        let view = tree.view_full();
        let barrier = SeqNo(self.flush_barrier.load(Ordering::Acquire));
        let due = |m: &&Arc<Mem>| m.frozen().is_some_and(|f| f.seq <= barrier);
        let mems: Vec<Arc<Mem>> = view.frozen.iter().filter(due).cloned().collect();
        if mems.len() > 1 {
            base::probe!("several memtables in one flush");
        }
        if mems.len() < view.frozen.len() {
            base::probe!("memtable held back from a flush");
        }
        let Some(last) = mems.first().and_then(|m| m.frozen()) else { return Ok(()) };
        let begun = self.clock.monotonic_micros();
        self.events.push(|| EngineEvent::FlushBegun {
            keyspace: tree.name.clone(),
            memtables: mems.len(),
            bytes: mems.iter().map(|m| m.table.size_bytes() as u64).sum(),
        });
        let made = self.flush_memtables(tree, &mems, last);
        self.events.push(|| {
            let (tables, bytes) = made.as_ref().map_or((0, 0), |&made| made);
            EngineEvent::FlushEnded {
                keyspace: tree.name.clone(),
                tables,
                bytes,
                time: self.time_since(begun),
                error: made.as_ref().err().cloned(),
            }
        });
        made.map(drop)
    }

    /// The time since `begun`, in microseconds of the monotonic clock.
    pub(crate) fn time_since(&self, begun: u64) -> Duration {
        Duration::from_micros(self.clock.monotonic_micros().saturating_sub(begun))
    }

    /// Returns the number of tables and their bytes.
    fn flush_memtables(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        mems: &[Arc<Mem>],
        last: Frozen,
    ) -> Result<(usize, u64)> {
        // Tables must not outlive a log record older than what they hold, nor hold what nobody may see yet.
        if !base::planted::is(7) {
            self.sync_log(last.end)?;
        }
        let tables = self.write_level0(tree, mems)?;
        let files: Vec<_> = tables.iter().map(|t| t.file).collect();
        let bytes = tables.iter().map(|t| t.size_bytes).sum();
        self.install_flush(tree, tables, mems, last.seq)
            .inspect_err(|e| self.discard_if_dropped(e, &files))?;
        Ok((files.len(), bytes))
    }

    pub(crate) fn write_level0(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        mems: &[Arc<Mem>],
    ) -> Result<Vec<TableMeta>> {
        let tombstones: Vec<_> = mems.iter().map(|m| m.table.range_tombstones()).collect();
        let tombstones = Fragments::new(tombstones.iter().flat_map(|f| f.tombstones()));
        let mut merge = MergingIterator::new(mems.iter().map(|m| m.table.iter()).collect());
        merge.seek_to_first()?;
        let target = tree.options.compaction.target_table_bytes();
        // Half of a flush's time is compression. Writers will soon wait for it, and a merge rewrites what it makes.
        let behind = tree.frozen_count.load(Ordering::Acquire) > 1;
        let tables = self.with_job(tree, 0, target, |job| {
            let mut job = job.clone();
            if behind {
                base::probe!("flush without compression");
                job.options.compression = Compression::None;
            }
            // Older versions may lie in any table, so no tombstone is dropped here.
            compaction::write_tables(&mut merge, &tombstones, &OlderData::everywhere(), &job)
        })?;
        let bytes = tables.iter().map(|t| t.size_bytes).sum();
        Counters::add(&self.counters.flushes, 1);
        Counters::add(&self.counters.flushed_bytes, bytes);
        Ok(tables)
    }

    fn install_flush(
        &self,
        tree: &Tree,
        tables: Vec<TableMeta>,
        mems: &[Arc<Mem>],
        flushed: SeqNo,
    ) -> Result<()> {
        let run = self.new_run();
        let added = tables.into_iter().map(|table| AddedTable { level: 0, run, table });
        let changes = TableChanges {
            keyspace: tree.id,
            added: added.collect(),
            removed: Vec::new(),
            flushed_seq: Some(flushed),
        };
        let edit = VersionEdit {
            last_seq: Some(flushed),
            tables: vec![changes],
            ..VersionEdit::default()
        };
        let drop_memtables = |version: &Arc<manifest::Version>| {
            tree.update_view(|view| view.with_version(without(&view.frozen, mems), version));
        };
        self.apply_edit(&edit, |state| {
            if let Some(keyspace) = state.keyspaces.get(&tree.id) {
                // An ingest may have brought newer tables since the memtables were frozen.
                tree.flushed_seq.fetch_max(flushed.0, Ordering::AcqRel);
                drop_memtables(&keyspace.version);
            }
        })
    }

    /// Freezes what `tree` holds in memory and waits until it is in tables.
    pub(crate) fn flush_and_wait(self: &Arc<Self>, trees: &[Arc<Tree>]) -> Result<()> {
        self.health.check_writable()?;
        if let Some(gone) = trees.iter().find(|t| t.is_dropped()) {
            return Err(Error::KeyspaceNotFound { name: gone.name.clone() });
        }
        self.flush_trees(trees)
    }

    /// As [`flush_and_wait`](Self::flush_and_wait) for whatever keyspaces there are: one that is dropped meanwhile needs
    /// no flush.
    pub(crate) fn flush_all(self: &Arc<Self>) -> Result<()> {
        self.health.check_writable()?;
        self.flush_trees(&self.all_trees())
    }

    fn flush_trees(self: &Arc<Self>, trees: &[Arc<Tree>]) -> Result<()> {
        let last = {
            let commit = self.commits.lock();
            trees.iter().for_each(|tree| self.freeze(&commit, tree));
            commit.last_seq
        };
        self.wait_flushed(trees, last)
    }

    /// Waits until nothing up to `last` is left in frozen memtables of `trees`.
    pub(crate) fn wait_flushed(self: &Arc<Self>, trees: &[Arc<Tree>], last: SeqNo) -> Result<()> {
        let failures = || -> u64 {
            trees.iter().map(|tree| tree.flush_failures.load(Ordering::Acquire)).sum()
        };
        let before = failures();
        let waits = |tree: &Arc<Tree>| {
            tree.view().frozen.iter().any(|m| m.frozen().is_some_and(|f| f.seq <= last))
        };
        self.event.wait(&*self.executor, || {
            if !trees.iter().any(|t| !t.is_dropped() && waits(t)) {
                return Some(Ok(()));
            }
            if let Err(e) = self.health.check_writable() {
                return Some(Err(e));
            }
            // A failed flush since the call is the caller's answer; an older one is being retried, and compactions keep no
            // memtable from its table.
            if failures() > before
                && let Some(e) = self.health.retrying()
            {
                return Some(Err(e));
            }
            trees.iter().for_each(|tree| self.queue_flush(tree));
            None
        })
    }
}

/// `frozen` without the memtables that were flushed.
fn without(frozen: &[Arc<Mem>], flushed: &[Arc<Mem>]) -> Vec<Arc<Mem>> {
    let gone = |m: &Arc<Mem>| flushed.iter().any(|f| Arc::ptr_eq(f, m));
    frozen.iter().filter(|m| !gone(m)).cloned().collect()
}
