//! Ingest: sorted pairs become tables without passing log and memtable.
//!
//! The tables are written without sequence numbers ([`TableReader::with_sequence`](sstable::TableReader::with_sequence)), so that it does not matter what is committed meanwhile; the edit that
//! installs them gives all their entries one sequence number, the newest at that moment. What the keyspace holds in
//! memtables then is older and has to be in tables first: for that short while its writers wait.

use crate::engine::Engine;
use crate::metrics::Counters;
use crate::options::CompactionPolicy;
use crate::tree::{LEVELS, Tree};
use base::sync::atomic::Ordering;
use base::{Error, FileName, FileNum, InternalKey, IoContext, Result, SeqNo, ValueKind};
use manifest::{AddedTable, RunId, TableChanges, TableMeta, Version, VersionEdit};
use sstable::{TableSummary, TableWriter};
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
        let mut output = IngestOutput::new(self, tree);
        let written = pairs
            .into_iter()
            .try_for_each(|(key, value)| output.add(key.as_ref(), value.as_ref()))
            .and_then(|()| output.finish());
        if let Err(e) = written {
            base::probe!("failed ingest removed");
            output.discard();
            return Err(e);
        }
        let count = output.tables.iter().map(|t| t.entries).sum();
        if count > 0 {
            let _call = self.begin_call()?;
            self.fs.sync_dir(&self.dir).context("sync directory", &self.dir)?;
            let bytes = output.tables.iter().map(|t| t.size_bytes).sum();
            self.install_behind_gate(tree, output.tables)?;
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

/// The tables of one ingest while they are written.
struct IngestOutput<'a> {
    engine: &'a Engine,
    tree: &'a Tree,
    writer: Option<(FileNum, TableWriter)>,
    target_bytes: u64,
    last_key: Option<Vec<u8>>,
    tables: Vec<TableMeta>,
    files: Vec<FileNum>,
}

impl<'a> IngestOutput<'a> {
    fn new(engine: &'a Engine, tree: &'a Tree) -> Self {
        let target_bytes = tree.options.compaction.target_table_bytes();
        let (tables, files) = (Vec::new(), Vec::new());
        IngestOutput { engine, tree, writer: None, target_bytes, last_key: None, tables, files }
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let limits = self.engine.options.write_limits();
        limits.check_key(key).and_then(|()| limits.check_value(value))?;
        self.check_order(key)?;
        if self.writer.as_ref().is_some_and(|(_, w)| w.file_size_estimate() >= self.target_bytes) {
            self.finish()?;
        }
        let writer = match &mut self.writer {
            Some((_, writer)) => writer,
            none => {
                let _call = self.engine.begin_call()?;
                let num = self.engine.new_file();
                self.files.push(num);
                &mut none.insert((num, self.engine.create_table(self.tree, num)?)).1
            }
        };
        writer.add(InternalKey::new(key, SeqNo(0), ValueKind::Put), value)
    }

    fn check_order(&mut self, key: &[u8]) -> Result<()> {
        match &mut self.last_key {
            Some(last) if &last[..] >= key => {
                let shown = key[..key.len().min(32)].escape_ascii();
                let detail = format!("key \"{shown}\" is not larger than the one before it");
                return Err(Error::invalid("pairs", detail));
            }
            Some(last) => {
                last.clear();
                last.extend_from_slice(key);
            }
            None => self.last_key = Some(key.to_vec()),
        }
        Ok(())
    }

    /// Closes the current table.
    fn finish(&mut self) -> Result<()> {
        let Some((num, writer)) = self.writer.take() else { return Ok(()) };
        let made = writer.finish()?;
        self.tables.push(meta(num, made, self.engine.clock.wall_micros()));
        Ok(())
    }

    fn discard(&mut self) {
        self.writer = None;
        let Ok(_call) = self.engine.begin_call() else { return };
        for num in self.files.drain(..) {
            // What stays is removed by the next open.
            drop(self.engine.fs.remove_file(&FileName::Table(num).in_dir(&self.engine.dir)));
        }
    }
}

impl Engine {
    fn create_table(&self, tree: &Tree, num: FileNum) -> Result<TableWriter> {
        let path = FileName::Table(num).in_dir(&self.dir);
        let options = tree.table_options(LEVELS - 1);
        let writer = TableWriter::create(&*self.fs, &path, self.new_table_id(), options)?;
        Ok(writer.counted_in(self.tables.usage()))
    }
}

fn meta(file: FileNum, made: TableSummary, created_micros: u64) -> TableMeta {
    TableMeta {
        file,
        table_id: made.table_id,
        size_bytes: made.size_bytes,
        entries: made.entries,
        deletes: made.deletes,
        range_tombstones: made.range_tombstones,
        raw_bytes: made.raw_bytes,
        smallest: made.smallest,
        largest: made.largest,
        largest_exclusive: made.largest_exclusive,
        seq_min: made.seq_min,
        seq_max: made.seq_max,
        created_micros,
    }
}
