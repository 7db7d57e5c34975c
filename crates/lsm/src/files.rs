//! Which files may go: tables that no version and no reader needs any more.

use crate::engine::Engine;
use base::{Error, FileName, FileNum};
use manifest::{State, TableMeta, Version};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Tables that left the current versions, until the last reader that may need them is gone.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    /// A table that was moved is described by several `TableMeta`s; it goes when all are unused.
    waiting: BTreeMap<FileNum, Vec<Weak<TableMeta>>>,
}

impl Graveyard {
    /// Notes that `files` left `before`.
    pub(crate) fn bury(&mut self, before: &Version, files: &[FileNum]) {
        for (_, _, table) in before.tables().filter(|(_, _, t)| files.contains(&t.file)) {
            self.waiting.entry(table.file).or_default().push(Arc::downgrade(table));
        }
    }

    /// Takes out the files that nobody needs: not in `state`, and held by no version a reader has.
    pub(crate) fn exhume(&mut self, state: &State) -> Vec<FileNum> {
        let mut free = Vec::new();
        self.waiting.retain(|&file, metas| {
            let needed = metas.iter().any(|m| m.strong_count() > 0) && !base::planted::is(31);
            if needed {
                base::probe!("table outlives its version for a reader");
            }
            if !needed {
                free.push(file);
            }
            needed
        });
        if free.is_empty() {
            return free;
        }
        // A moved table left one version and entered the next.
        base::probe!("table left to nobody");
        let live = state.live_files();
        free.retain(|file| !live.contains(file));
        free
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Engine {
    /// Deletes tables just written if `e` says that they were made for a keyspace dropped meanwhile. After other failures
    /// nobody knows whether the manifest lists them.
    pub(crate) fn discard_if_dropped(&self, e: &Error, files: &[FileNum]) {
        if matches!(e, Error::KeyspaceNotFound { .. }) {
            base::probe!("tables of a dropped keyspace discarded");
            for &file in files {
                drop(self.fs.remove_file(&FileName::Table(file).in_dir(&self.dir)));
            }
        }
    }

    /// Deletes the tables that nobody needs any more. What cannot be deleted now is removed by the next open.
    pub(crate) fn purge(&self) {
        if self.graveyard.lock().len() == 0 {
            return;
        }
        let store = self.manifest.lock();
        let free = self.graveyard.lock().exhume(&store.state);
        drop(store);
        for file in free {
            self.tables.evict(file);
            drop(self.fs.remove_file(&FileName::Table(file).in_dir(&self.dir)));
        }
    }
}
