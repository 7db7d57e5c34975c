//! Ingest: sorted pairs become tables without passing log and memtable.
//!
//! The tables are written without sequence numbers ([`TableReader::with_sequence`](sstable::TableReader::with_sequence)), so that it does not matter what is committed meanwhile; the edit that
//! installs them gives all their entries one sequence number, the newest at that moment. What memtables hold then is older, and
//! reads ask memtables first. So they must hold nothing of a range that is ingested:
//!
//! ```text
//! look through the memtables        nothing within the range: install beneath them
//! flush them, look again            writers go on; nothing came since: install
//! close the keyspace, flush again   writers of this keyspace wait for what little that is; install, open it
//! ```

use crate::commit::CommitState;
use crate::engine::Engine;
use crate::ingest_output::IngestOutput;
use crate::metrics::Counters;
use crate::options::CompactionPolicy;
use crate::tree::{LEVELS, Mem, Tree};
use base::sync::MutexGuard;
use base::sync::atomic::Ordering;
use base::{IoContext, Result};
use manifest::{AddedTable, RunId, TableChanges, TableMeta, Version, VersionEdit};
use memtable::Looked;
use std::sync::Arc;

impl Engine {
    /// Writes `pairs` into tables of `tree` and installs them in one step. Returns their number.
    pub(crate) fn ingest<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<u64> {
        self.health.check_writable()?;
        self.check_readable(tree, None)?;
        self.begin_writing()?;
        let mut output = IngestOutput::new(self, tree);
        let written = pairs
            .into_iter()
            .try_for_each(|(key, value)| output.add(key.as_ref(), value.as_ref()))
            .and_then(|()| output.finish());
        let tables = match written {
            Ok(tables) => tables,
            Err(e) => {
                base::probe!("failed ingest removed");
                output.discard();
                return Err(e);
            }
        };
        let count = tables.iter().map(|t| t.entries).sum();
        if count > 0 {
            let _call = self.begin_call()?;
            self.fs.sync_dir(&self.dir).context("sync directory", &self.dir)?;
            let bytes = tables.iter().map(|t| t.size_bytes).sum();
            self.install(tree, &tables)?;
            Counters::add(&self.counters.ingested_bytes, bytes);
            self.schedule_compactions(tree);
        }
        Ok(count)
    }

    /// Installs the tables where nothing in memtables is in their way, and sees to it that nothing is.
    fn install(self: &Arc<Self>, tree: &Arc<Tree>, tables: &[TableMeta]) -> Result<()> {
        let _no_checkpoint_or_drop = self.exclusive.lock();
        tree.compactions.lock().manual += 1;
        let installed = self.install_beneath(tree, tables).and_then(|done| match done {
            true => Ok(()),
            false => self.install_behind_gate(tree, tables),
        });
        {
            let mut compactions = tree.compactions.lock();
            compactions.manual -= 1;
            compactions.placing = false;
        }
        self.event.notify();
        installed
    }

    /// Installs the tables beneath the memtables while these hold nothing of their range, after a flush if need be. False if
    /// writers keep writing there.
    fn install_beneath(self: &Arc<Self>, tree: &Arc<Tree>, tables: &[TableMeta]) -> Result<bool> {
        let mut lookout = Lookout::new(tables);
        if lookout.sees_any(tree) {
            base::probe!("ingest over keys in memtables");
            self.flush_and_wait(std::slice::from_ref(tree))?;
        }
        // The longer part of what has to be looked at and synced, before writers wait for it.
        self.sync_log(self.segments.log()?.end())?;
        if lookout.sees_any(tree) {
            return Ok(false);
        }
        let commit = self.commits.lock();
        if lookout.sees_any(tree) && !base::planted::is(61) {
            base::probe!("key written at the moment of its ingest");
            return Ok(false);
        }
        self.install_ingest(tree, tables, commit).map(|()| true)
    }

    /// Holds the writers of `tree` back while its memtables are flushed and the tables installed.
    fn install_behind_gate(self: &Arc<Self>, tree: &Arc<Tree>, tables: &[TableMeta]) -> Result<()> {
        {
            let _commit = self.commits.lock();
            tree.gated.store(true, Ordering::Release);
        }
        let installed = self
            .flush_and_wait(std::slice::from_ref(tree))
            .and_then(|()| self.install_ingest(tree, tables, self.commits.lock()));
        tree.gated.store(false, Ordering::Release);
        installed
    }

    fn install_ingest(
        &self,
        tree: &Arc<Tree>,
        tables: &[TableMeta],
        mut commit: MutexGuard<'_, CommitState>,
    ) -> Result<()> {
        // Nothing that came before may be lost by a power cut while this stays, so the log is synced up to here, and
        // nothing may come between: the one place where the commit lock is held over I/O.
        self.sync_log(self.segments.log()?.end())?;
        let seq = commit.last_seq.plus(1);
        let numbered =
            |table: &TableMeta| TableMeta { seq_min: seq, seq_max: seq, ..table.clone() };
        let (level, run) = self.place(tree, tables);
        let added = tables.iter().map(|table| AddedTable { level, run, table: numbered(table) });
        let changes = TableChanges {
            keyspace: tree.id,
            added: added.collect(),
            removed: Vec::new(),
            flushed_seq: None,
        };
        let edit =
            VersionEdit { last_seq: Some(seq), tables: vec![changes], ..VersionEdit::default() };
        let installed = self.apply_edit(&edit, |state| {
            let Some(keyspace) = state.keyspaces.get(&tree.id) else { return };
            tree.update_view(|view| view.with_version(view.frozen.clone(), &keyspace.version));
            tree.flushed_seq.fetch_max(seq.0, Ordering::AcqRel);
        });
        // The number is used up even if nobody knows whether the edit reached the disk.
        commit.last_seq = seq;
        self.commits.publish_direct(seq);
        installed
    }

    /// Where the tables go: straight to the bottom if nothing lies there or above, else on top.
    fn place(&self, tree: &Tree, tables: &[TableMeta]) -> (u32, RunId) {
        let bottom = LEVELS - 1;
        let has_bottom = matches!(tree.options.compaction, CompactionPolicy::Leveled(_));
        let busy = {
            let mut compactions = tree.compactions.lock();
            compactions.placing = true;
            !compactions.running.is_empty()
        };
        let version = Arc::clone(&tree.view().version);
        if (!has_bottom || busy || overlaps(&version, tables)) && !base::planted::is(35) {
            base::probe!("ingest on top");
            return (0, self.new_run());
        }
        base::probe!("ingest to the bottom");
        let existing = version.levels.get(bottom).and_then(|level| level.runs.last());
        (bottom as u32, existing.map_or_else(|| self.new_run(), |run| run.id))
    }
}

/// Looks out for keys in memtables within the range of an ingest, at nothing twice.
struct Lookout<'a> {
    range: Option<(&'a [u8], &'a [u8])>,
    looked: Vec<(Arc<Mem>, Looked)>,
}

impl<'a> Lookout<'a> {
    fn new(tables: &'a [TableMeta]) -> Self {
        let range = tables.first().zip(tables.last());
        Lookout { range: range.map(|(a, b)| (&a.smallest[..], &b.largest[..])), looked: Vec::new() }
    }

    /// True if something came to the memtables of `tree` that is within the range, since the last call that saw nothing.
    fn sees_any(&mut self, tree: &Tree) -> bool {
        let Some((first, last)) = self.range else { return false };
        let view = tree.view_full();
        let before = std::mem::take(&mut self.looked);
        let looked_at = |mem: &Arc<Mem>| {
            before.iter().find(|(m, _)| Arc::ptr_eq(m, mem)).map_or_else(Looked::default, |l| l.1)
        };
        self.looked = view.memtables().map(|mem| (Arc::clone(mem), looked_at(mem))).collect();
        self.looked.iter_mut().any(|(mem, looked)| mem.table.holds_within(first, last, looked))
    }
}

/// True if the range of `tables` meets any table of `version`.
fn overlaps(version: &Version, tables: &[TableMeta]) -> bool {
    let (Some(first), Some(last)) = (tables.first(), tables.last()) else { return false };
    version.tables().any(|(_, _, t)| t.overlaps(&first.smallest, last.upper()))
}
