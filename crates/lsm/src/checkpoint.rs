//! Checkpoint: the database as of one moment in another directory, by hard links.

use crate::engine::Engine;
use crate::recover::sync_parents;
use base::sync::atomic::Ordering;
use base::{Error, FileName, FileNum, IoContext, Result};
use manifest::{Manifest, ManifestOptions, State, TableMeta};
use sstable::{BlockCache, TableReader};
use std::io;
use std::path::Path;
use std::sync::Arc;

impl Engine {
    /// Copies the database, as of a moment during the call, to `target`.
    ///
    /// All memtables are frozen at one moment and flushed, while later ones wait: then the tables hold exactly what was
    /// committed up to it, in every keyspace, and no log is needed.
    pub(crate) fn checkpoint(self: &Arc<Self>, target: &Path) -> Result<()> {
        self.health.check_writable()?;
        let _call = self.begin_call()?;
        self.check_target(target)?;
        let _no_ingest_or_keyspace_change = self.exclusive.lock();
        let state = self.freeze_state()?;
        self.fs.create_dir_all(target).context("create directory", target)?;
        let made = self.fill_checkpoint(target, state);
        made.map_err(|e| {
            base::probe!("failed checkpoint removed");
            self.clear_checkpoint(target);
            match e {
                // Of the copy, which is gone again: the database itself is well.
                Error::SyncFailed { source } => (*source).clone(),
                e => e,
            }
        })
    }

    fn check_target(&self, target: &Path) -> Result<()> {
        let detail = match self.fs.list(target) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => "is a file",
            Err(e) => return Err(Error::io("list", target, e)),
            Ok(names) if names.is_empty() => return Ok(()),
            Ok(_) => "is not empty",
        };
        let shown = target.display();
        Err(Error::invalid("checkpoint directory", format!("{shown} {detail}; choose a new one")))
    }

    /// A state whose tables hold everything up to one moment and nothing later. While it is held, its files stay.
    fn freeze_state(self: &Arc<Self>) -> Result<State> {
        let trees = self.all_trees();
        let moment = {
            let commit = self.commits.lock();
            self.flush_barrier.store(commit.last_seq.0, Ordering::Release);
            trees.iter().for_each(|tree| self.freeze(&commit, tree));
            commit.last_seq
        };
        let flushed = self.wait_flushed(&trees, moment);
        let mut state = self.manifest.lock().state.clone();
        {
            // Memtables are frozen under the commit lock: each is queued for its flush now, or sees no barrier.
            let _commit = self.commits.lock();
            self.flush_barrier.store(u64::MAX, Ordering::Release);
        }
        trees.iter().for_each(|tree| self.queue_flush(tree));
        flushed?;
        state.last_seq = moment;
        state.segments.clear();
        Ok(state)
    }

    fn fill_checkpoint(&self, target: &Path, mut state: State) -> Result<()> {
        for keyspace in state.keyspaces.values() {
            for (_, _, table) in keyspace.version.tables() {
                self.link(table, target)?;
            }
        }
        let num = state.next_file;
        state.next_file = FileNum(num.0 + 1);
        let options =
            ManifestOptions { rotate_bytes: self.options.manifest_rotate_bytes, read_only: false };
        Manifest::create(Arc::clone(&self.fs), target, &state, num, options)?;
        if base::planted::is(52) { Ok(()) } else { sync_parents(&*self.fs, target) }
    }

    fn link(&self, table: &TableMeta, target: &Path) -> Result<()> {
        let name = FileName::Table(table.file);
        let (from, to) = (name.in_dir(&self.dir), name.in_dir(target));
        match self.fs.hard_link(&from, &to) {
            Ok(()) => Ok(()),
            Err(e) if cannot_link(&e) => {
                base::probe!("checkpoint by copy");
                vfs::copy(&*self.fs, &from, &to).context("copy", &to)?;
                // What was read wrong has been written as if it were right: nobody would look at the copy before it is needed.
                let file = self.fs.open(&to).context("open", &to)?;
                let no_cache = Arc::new(BlockCache::new(0));
                TableReader::open(file, &to, table.table_id, no_cache)?.verify().map(drop)
            }
            Err(e) => Err(Error::io("link", &to, e)),
        }
    }

    /// Removes what a failed checkpoint left; the directory was empty or missing before.
    fn clear_checkpoint(&self, target: &Path) {
        for name in self.fs.list(target).unwrap_or_default() {
            drop(self.fs.remove_file(&target.join(name.file_name().unwrap_or_default())));
        }
        drop(self.fs.remove_dir(target));
    }
}

fn cannot_link(e: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(e.kind(), CrossesDevices | Unsupported | PermissionDenied | TooManyLinks)
}
