//! A tree of real tables in memory that checks itself, for the tests of this crate.

use crate::drop_rules::OlderData;
use crate::policy::{Policy, View};
use crate::runner::{Job, run, write_tables};
use crate::task::{Task, TaskKind};
use base::iter::VecIterator;
use base::{Error, FileNum, Fragments, InternalIterator, RangeTombstone, Result, SeqNo, ValueKind};
use manifest::{AddedTable, RunId, TableMeta, Version};
use sstable::{BlockCache, CacheHint, TableCache, TableOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vfs::{Fs, MemFs};

/// Key, sequence number, kind, value.
pub(crate) type Entry = (Vec<u8>, SeqNo, ValueKind, Vec<u8>);

/// A table with nothing special about it.
pub(crate) fn any_table() -> TableMeta {
    TableMeta {
        file: FileNum(1),
        table_id: 1,
        size_bytes: 100,
        entries: 1,
        deletes: 0,
        range_tombstones: 0,
        raw_bytes: 100,
        smallest: b"a".to_vec(),
        largest: b"b".to_vec(),
        largest_exclusive: false,
        seq_min: SeqNo(1),
        seq_max: SeqNo(1),
        created_micros: 0,
    }
}

/// A version whose tables exist.
#[derive(Debug)]
pub(crate) struct TestTree {
    pub(crate) fs: Arc<dyn Fs>,
    dir: PathBuf,
    cache: TableCache,
    pub(crate) version: Version,
    /// Tasks that were picked and not finished.
    pub(crate) running: Vec<Task>,
    next: AtomicU64,
    /// Open snapshots, ascending.
    pub(crate) snapshots: Vec<SeqNo>,
    pub(crate) now_micros: u64,
    pub(crate) cancel: AtomicBool,
    pub(crate) throttled: AtomicU64,
}

impl TestTree {
    pub(crate) fn new() -> TestTree {
        TestTree::on(Arc::new(MemFs::new()))
    }

    pub(crate) fn on(fs: Arc<dyn Fs>) -> TestTree {
        let dir = PathBuf::from("/db");
        fs.create_dir_all(&dir).expect("in memory");
        fs.sync_dir(Path::new("/")).expect("in memory");
        let cache =
            TableCache::new(Arc::clone(&fs), dir.clone(), 1000, Arc::new(BlockCache::new(0)));
        TestTree {
            fs,
            dir,
            cache,
            version: Version::default(),
            running: Vec::new(),
            next: AtomicU64::new(1),
            snapshots: Vec::new(),
            now_micros: 0,
            cancel: AtomicBool::new(false),
            throttled: AtomicU64::new(0),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn with_job<R>(&self, target_table_bytes: u64, use_job: impl FnOnce(&Job<'_>) -> R) -> R {
        let next = || self.next.fetch_add(1, Ordering::Relaxed);
        let job = Job {
            fs: &*self.fs,
            dir: &self.dir,
            tables: &self.cache,
            next_file: &|| FileNum(next()),
            table_id: &next,
            options: TableOptions::default(),
            target_table_bytes,
            snapshots: self.snapshots.clone(),
            now_micros: self.now_micros,
            cancel: &self.cancel,
            throttle: &|bytes| {
                self.throttled.fetch_add(bytes, Ordering::Relaxed);
            },
        };
        use_job(&job)
    }

    /// Writes entries as they are into a new or existing run.
    pub(crate) fn add_run(
        &mut self,
        level: usize,
        run: RunId,
        entries: &[Entry],
        tombstones: &[RangeTombstone],
        target_table_bytes: u64,
    ) {
        let fragments = Fragments::new(tombstones.iter().cloned());
        let mut iter = VecIterator::new(entries.to_vec());
        let tables = self.with_job(target_table_bytes, |job| {
            // Every sequence number a snapshot: nothing is dropped.
            let seqs = entries.iter().map(|e| e.1).chain(tombstones.iter().map(|t| t.seq));
            let all: BTreeSet<SeqNo> = seqs.collect();
            let job = Job { snapshots: all.into_iter().collect(), ..job.clone() };
            write_tables(&mut iter, &fragments, &OlderData::everywhere(), &job)
        });
        let tables = tables.expect("in memory");
        let added = |table| AddedTable { level: level as u32, run, table };
        let added: Vec<_> = tables.into_iter().map(added).collect();
        self.version = self.version.apply(&added, &[]).expect("a valid run");
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            burst: false,
            version: &self.version,
            running: &self.running,
            now_micros: self.now_micros,
            oldest_snapshot: self.snapshots.first().copied().unwrap_or(SeqNo::MAX),
        }
    }

    /// Picks a task and notes it as running.
    pub(crate) fn start(&mut self, policy: &Policy) -> Option<Task> {
        let task = policy.pick(&self.view())?;
        self.note_running(task.clone());
        Some(task)
    }

    pub(crate) fn note_running(&mut self, task: Task) {
        for other in &self.running {
            assert!(
                !task.conflicts_with(other) && !other.conflicts_with(&task),
                "{task:?} {other:?}"
            );
        }
        self.check_task(&task);
        self.running.push(task);
    }

    /// Runs a running task to its end.
    pub(crate) fn finish(&mut self, i: usize) {
        let task = self.running.remove(i);
        let outputs = match task.kind {
            TaskKind::Merge => self.run(&task).expect("in memory"),
            TaskKind::Move | TaskKind::Drop => Vec::new(),
        };
        self.install(&task, outputs);
    }

    pub(crate) fn run(&self, task: &Task) -> Result<Vec<TableMeta>> {
        self.with_job(task.target_table_bytes, |job| run(task, job))
    }

    pub(crate) fn install(&mut self, task: &Task, outputs: Vec<TableMeta>) {
        let (added, removed) = task.changes(outputs);
        self.version = self.version.apply(&added, &removed).expect("a valid edit");
        self.version.check_invariants().expect("a valid version");
    }

    /// Everything one table holds.
    pub(crate) fn contents(&self, table: &TableMeta) -> (Vec<Entry>, Fragments) {
        let reader = self.cache.get(table.file, table.table_id, table.seq_max).expect("in memory");
        let mut iter = reader.iter(CacheHint::NoFill);
        let mut entries = Vec::new();
        iter.seek_to_first().expect("in memory");
        while iter.valid() {
            let key = iter.key();
            entries.push((key.user_key.to_vec(), key.seq, key.kind, iter.value().to_vec()));
            iter.next().expect("in memory");
        }
        (entries, (**reader.range_tombstones()).clone())
    }

    /// What a point read finds: the newest run that knows the key decides, as in the engine.
    pub(crate) fn get(&self, key: &[u8], snapshot: SeqNo) -> Option<Vec<u8>> {
        let mut tombstone = SeqNo(0);
        for (_, run, table) in self.version.tables().filter(|(_, _, t)| t.covers_key(key)) {
            assert!(run.find(key).is_some(), "run {} has no way to {table}", run.id);
            let (entries, fragments) = self.contents(table);
            let covering = fragments.newest_covering(key, snapshot);
            tombstone = tombstone.max(covering.unwrap_or(SeqNo(0)));
            let newest = entries.iter().find(|e| e.0 == key && e.1 <= snapshot);
            if let Some((_, seq, kind, value)) = newest {
                let seen = *kind == ValueKind::Put && *seq >= tombstone;
                return seen.then(|| value.clone());
            }
        }
        None
    }

    /// For every key, what lies in an earlier run is newer.
    pub(crate) fn check_order(&self) {
        let mut oldest: std::collections::BTreeMap<Vec<u8>, (SeqNo, FileNum)> = Default::default();
        for level in &self.version.levels {
            for run in &level.runs {
                for table in &run.tables {
                    for (key, seq, kind, _) in self.contents(table).0 {
                        assert!(table.covers_key(&key), "{table} does not span its key");
                        if let Some((above, file)) = oldest.get(&key) {
                            assert!(
                                *above > seq,
                                "{kind:?} {key:?}@{seq} in {table} lies below @{above} in {file}"
                            );
                        }
                        oldest.insert(key, (seq, table.file));
                    }
                }
            }
        }
    }

    /// The rules of a task that need no knowledge of why it was picked.
    fn check_task(&self, task: &Task) {
        assert!(!task.inputs.is_empty());
        let span = task.span().expect("inputs");
        for input in &task.inputs {
            let run = self.version.levels[input.level].run(input.run).expect("an input run exists");
            assert!(
                input.tables.iter().all(|t| run.tables.contains(t)),
                "inputs are of the version"
            );
            assert!(!input.tables.is_empty());
        }
        if task.kind == TaskKind::Drop {
            return;
        }
        let output = (task.output_level, std::cmp::Reverse(task.output_run));
        for (level, run, table) in self.version.tables() {
            let place = (level, std::cmp::Reverse(run.id));
            let is_input = task.tables().any(|t| t.file == table.file);
            let overlaps = table.overlaps(span.lower, span.upper);
            if place > output && overlaps {
                assert!(task.older.contains(table), "{table} is older and not listed");
            }
            if place > output && is_input {
                panic!("{table} would move up");
            }
            if task.kind == TaskKind::Merge && place == output && overlaps {
                assert!(is_input, "{table} is in the way of the output");
            }
        }
    }

    /// Level by level, run by run, table by table, entry by entry.
    pub(crate) fn show(&self) -> String {
        let mut text = String::new();
        for (level, l) in self.version.levels.iter().enumerate() {
            for run in &l.runs {
                let tables: Vec<String> = run.tables.iter().map(|t| self.show_table(t)).collect();
                let name = if run.id == RunId(0) {
                    format!("L{level}")
                } else {
                    format!("L{level}.{}", run.id)
                };
                text += &format!("{name}: {}\n", tables.join(" | "));
            }
        }
        if text.is_empty() { "empty\n".to_owned() } else { text }
    }

    fn show_table(&self, table: &TableMeta) -> String {
        let (entries, fragments) = self.contents(table);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut shown: Vec<(Vec<u8>, String)> = entries
            .into_iter()
            .map(|(key, seq, kind, value)| {
                let what = if kind == ValueKind::Put {
                    format!("put {}", text(&value))
                } else {
                    "delete".to_owned()
                };
                (key.clone(), format!("{}@{seq} {what}", text(&key)))
            })
            .collect();
        shown.extend(fragments.tombstones().map(|t| {
            (t.start.clone(), format!("{}..{}@{} delete", text(&t.start), text(&t.end), t.seq))
        }));
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown.into_iter().map(|s| s.1).collect::<Vec<_>>().join(", ")
    }
}

/// Files in the directory of the tree.
pub(crate) fn files(tree: &TestTree) -> Result<Vec<PathBuf>> {
    tree.fs.list(tree.dir()).map_err(|e| Error::io("list", tree.dir(), e))
}
