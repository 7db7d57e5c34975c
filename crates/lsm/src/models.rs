//! Pieces of the engine lent to the models in `crates/concurrency`. Only in builds for `loom`.
#![allow(missing_docs, missing_debug_implementations, reason = "no part of the public face")]

use crate::commit::CommitQueue;
use crate::event::Event;
use crate::executor::Executor;
use crate::files::Graveyard;
use crate::options::{KeyspaceOptions, Options};
use crate::snapshot::Snapshots;
use crate::tree::{Tree, View};
use base::sync::Mutex;
use base::{FileNum, KeyspaceId, SeqNo};
use manifest::{AddedTable, NewKeyspace, RunId, State, TableChanges, TableMeta, VersionEdit};
use std::sync::Arc;
use wal::Lsn;

/// The order of commits and the registered readers, with a log that is a number.
pub struct Commits {
    queue: CommitQueue,
    snapshots: Snapshots,
}

impl Commits {
    pub fn new() -> Commits {
        Commits { queue: CommitQueue::new(SeqNo(0)), snapshots: Snapshots::default() }
    }

    pub fn commit(&self, sync: bool, synced: impl Fn() -> u64) -> (u64, u64) {
        let (seq, wanted) = self.queue.commit_for_model(sync, || Lsn(synced()));
        (seq.0, wanted.0)
    }

    pub fn publish(&self, durable: u64) {
        self.queue.publish_for_model(Lsn(durable));
    }

    pub fn visible(&self) -> u64 {
        self.queue.visible().0
    }

    pub fn register(&self) -> u64 {
        self.snapshots.register(&self.queue, 0).0
    }

    pub fn release(&self, seq: u64) {
        self.snapshots.release(SeqNo(seq));
    }

    pub fn list(&self) -> Vec<u64> {
        self.snapshots.list().into_iter().map(|seq| seq.0).collect()
    }
}

impl Default for Commits {
    fn default() -> Self {
        Self::new()
    }
}

/// One keyspace with one table, which compactions replace, and the graveyard.
pub struct Tables {
    tree: Arc<Tree>,
    state: Mutex<State>,
    graveyard: Mutex<Graveyard>,
}

/// What a reader holds.
pub struct Held(Arc<View>);

impl Held {
    pub fn files(&self) -> Vec<u64> {
        self.0.version.tables().map(|(_, _, table)| table.file.0).collect()
    }
}

impl Tables {
    /// With table 1.
    pub fn new() -> Tables {
        let resolved = KeyspaceOptions::default().resolve(&Options::default()).expect("defaults");
        let mut state = State::new(1);
        let id = KeyspaceId::DEFAULT;
        let new = NewKeyspace { id, name: "default".into(), options: resolved.encode() };
        let mut edit = edit(id, Some(1), None);
        edit.keyspaces_created.push(new);
        state.apply(&edit).expect("an edit");
        let version = Arc::clone(&state.keyspaces[&id].version);
        let tree = Tree::new(id, "default".into(), resolved, version, SeqNo(0), 0);
        Tables { tree, state: Mutex::new(state), graveyard: Mutex::default() }
    }

    pub fn hold(&self) -> Held {
        Held(self.tree.view_full())
    }

    /// As `Engine::install_task` does it: table `old` becomes `new`.
    pub fn replace(&self, old: u64, new: u64) {
        let id = self.tree.id;
        let mut state = self.state.lock();
        state.apply(&edit(id, Some(new), Some(old))).expect("an edit");
        let next = Arc::clone(&state.keyspaces[&id].version);
        let before = self.tree.view_full();
        self.tree.update_view(|view| view.with_version(view.frozen.clone(), &next));
        self.graveyard.lock().bury(&before.version, &[FileNum(old)]);
    }

    /// As `Engine::purge`: the files that go.
    pub fn purge(&self) -> Vec<u64> {
        if self.graveyard.lock().len() == 0 {
            return Vec::new();
        }
        let state = self.state.lock();
        let free = self.graveyard.lock().exhume(&state);
        free.into_iter().map(|file| file.0).collect()
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

fn edit(keyspace: KeyspaceId, add: Option<u64>, remove: Option<u64>) -> VersionEdit {
    let added = add.map(|file| AddedTable { level: 0, run: RunId(file), table: table(file) });
    let changes = TableChanges {
        keyspace,
        added: added.into_iter().collect(),
        removed: remove.map(FileNum).into_iter().collect(),
        flushed_seq: None,
    };
    VersionEdit { tables: vec![changes], ..VersionEdit::default() }
}

fn table(file: u64) -> TableMeta {
    TableMeta {
        file: FileNum(file),
        table_id: file,
        size_bytes: 1,
        entries: 1,
        deletes: 0,
        range_tombstones: 0,
        raw_bytes: 1,
        smallest: b"a".to_vec(),
        largest: b"b".to_vec(),
        largest_exclusive: false,
        seq_min: SeqNo(1),
        seq_max: SeqNo(1),
        created_micros: 0,
    }
}

/// The event on which everybody waits.
#[derive(Default)]
pub struct Events(Event);

impl Events {
    pub fn notify(&self) {
        self.0.notify();
    }

    pub fn wait<T>(&self, executor: &dyn Executor, look: impl FnMut() -> Option<T>) -> T {
        self.0.wait(executor, look)
    }
}
