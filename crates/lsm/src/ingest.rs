//! Ingest: sorted pairs become tables without passing log and memtable.
//!
//! The tables are written without sequence numbers ([`TableReader::with_sequence`](sstable::TableReader::with_sequence)), so that it does not matter what is committed meanwhile; the edit that
//! installs them gives all their entries one sequence number, the newest at that moment. What the keyspace holds in
//! memtables then is older and has to be in tables first: for that short while its writers wait.

use crate::engine::Engine;
use crate::ingest_output::IngestOutput;
use crate::metrics::Counters;
use crate::options::CompactionPolicy;
use crate::tree::{LEVELS, Tree};
use base::sync::atomic::Ordering;
use base::{IoContext, Result};
use manifest::{AddedTable, RunId, TableChanges, TableMeta, Version, VersionEdit};
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
            self.install_behind_gate(tree, tables)?;
            Counters::add(&self.counters.ingested_bytes, bytes);
            self.schedule_compactions(tree);
        }
        Ok(count)
    }

    /// Holds the writers of `tree` back while its memtables are flushed and the tables installed.
    fn install_behind_gate(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        tables: Vec<TableMeta>,
    ) -> Result<()> {
        let _no_checkpoint_or_drop = self.exclusive.lock();
        {
            let _commit = self.commits.lock();
            tree.gated.store(true, Ordering::Release);
        }
        tree.compactions.lock().manual += 1;
        let installed = self
            .flush_and_wait(std::slice::from_ref(tree))
            .and_then(|()| self.install_ingest(tree, tables));
        {
            let mut compactions = tree.compactions.lock();
            compactions.manual -= 1;
            compactions.placing = false;
        }
        tree.gated.store(false, Ordering::Release);
        self.event.notify();
        installed
    }

    fn install_ingest(&self, tree: &Arc<Tree>, mut tables: Vec<TableMeta>) -> Result<()> {
        // Nothing that came before may be lost by a power cut while this stays, so the log is synced up to here, and
        // nothing may come between: the one place where the commit lock is held over I/O.
        let mut commit = self.commits.lock();
        self.sync_log(self.segments.log()?.end())?;
        let seq = commit.last_seq.plus(1);
        for table in &mut tables {
            (table.seq_min, table.seq_max) = (seq, seq);
        }
        let (level, run) = self.place(tree, &tables);
        let added = tables.into_iter().map(|table| AddedTable { level, run, table });
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

/// True if the range of `tables` meets any table of `version`.
fn overlaps(version: &Version, tables: &[TableMeta]) -> bool {
    let (Some(first), Some(last)) = (tables.first(), tables.last()) else { return false };
    version.tables().any(|(_, _, t)| t.overlaps(&first.smallest, last.upper()))
}
