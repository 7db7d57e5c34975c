//! Compaction: picks by policy, runs on the executor, installs by one edit.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::listener::EngineEvent;
use crate::metrics::Counters;
use crate::tree::Tree;
use base::{Error, FileNum, Result, SeqNo};
use compaction::{Job, Task, TaskKind};
use manifest::{TableChanges, TableMeta, VersionEdit};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What makes new tables of the inputs of a task.
pub(crate) type Merge<'m> = dyn Fn(&Task, &Job<'_>) -> Result<Vec<TableMeta>> + 'm;

impl Engine {
    /// Hands all compactions that the policy of `tree` asks for, and that can run beside those running, to the executor.
    pub(crate) fn schedule_compactions(self: &Arc<Self>, tree: &Arc<Tree>) {
        while let Some(task) = self.pick(tree) {
            let tree = Arc::clone(tree);
            self.submit("compaction", Priority::Low, move |engine| {
                // A job that is dropped unrun at shutdown leaves its task behind; the database is closing then.
                let done = engine.run_task(&tree, &task, &compaction::run);
                tree.compactions.lock().running.retain(|t| *t != task);
                match done {
                    Ok(()) => {
                        engine.health.recover();
                        engine.memory_changed();
                        engine.tell_stall_ended();
                        engine.purge();
                        engine.schedule_compactions(&tree);
                    }
                    Err(e) => engine.background_failed(&e),
                }
            });
        }
    }

    fn pick(&self, tree: &Tree) -> Option<Task> {
        if self.is_closing() || self.health.is_stopped() || tree.is_dropped() {
            return None;
        }
        let mut compactions = tree.compactions.lock();
        if compactions.manual > 0 || compactions.running.len() >= self.options.background_threads {
            return None;
        }
        let version = Arc::clone(&tree.view().version);
        let quiet = compactions.quiet.is_some_and(|quiet| quiet.seq == self.visible());
        // What is about to be flushed is merged along with the rest.
        let burst = match quiet {
            true => !tree.view().frozen.is_empty(),
            false => tree.burst.is_on(self.clock.monotonic_micros()),
        };
        let view = self.policy_view(&version, &compactions.running);
        let view = compaction::View { burst, ..view };
        let task = match tree.options.compaction.pick(&view) {
            Some(task) => task,
            None => self.pick_quiet(tree, &mut compactions, &version)?,
        };
        if !compactions.running.is_empty() {
            base::probe!("two compactions under way");
        }
        compactions.running.push(task.clone());
        Some(task)
    }

    pub(crate) fn policy_view<'a>(
        &self,
        version: &'a manifest::Version,
        running: &'a [Task],
    ) -> compaction::View<'a> {
        compaction::View {
            version,
            running,
            now_micros: self.clock.wall_micros(),
            oldest_snapshot: self.snapshots.oldest().unwrap_or(SeqNo::MAX),
            burst: false,
        }
    }

    /// Runs `task` by `merge`, installs what it made, and tells of it.
    fn run_task(self: &Arc<Self>, tree: &Tree, task: &Task, merge: &Merge<'_>) -> Result<()> {
        if self.is_closing() {
            return Err(Error::Closed);
        }
        self.begin_writing()?;
        let id = self.next_compaction.fetch_add(1, Ordering::Relaxed);
        let begun = self.clock.monotonic_micros();
        self.events.push(|| EngineEvent::CompactionBegun {
            id,
            keyspace: tree.name.clone(),
            inputs: task.tables().count(),
            input_bytes: task.input_bytes(),
            output_level: task.output_level as u32,
            reason: task.reason,
        });
        let made = self.merge_and_install(tree, task, merge);
        let made = made.inspect_err(|e| self.note_damage(e, Some(tree.id)));
        self.events.push(|| {
            let (outputs, output_bytes) = made.as_ref().map_or((0, 0), |&made| made);
            EngineEvent::CompactionEnded {
                id,
                keyspace: tree.name.clone(),
                outputs,
                output_bytes,
                time: self.time_since(begun),
                error: made.as_ref().err().cloned(),
            }
        });
        made.map(drop)
    }

    /// Returns the number of tables made and their bytes.
    fn merge_and_install(
        &self,
        tree: &Tree,
        task: &Task,
        merge: &Merge<'_>,
    ) -> Result<(usize, u64)> {
        let outputs = match task.kind {
            TaskKind::Merge => {
                let target = task.target_table_bytes;
                self.with_job(tree, task.output_level, target, |job| merge(task, job))?
            }
            TaskKind::Move | TaskKind::Drop => Vec::new(),
        };
        let (read, written) = match task.kind {
            TaskKind::Merge => (task.input_bytes(), outputs.iter().map(|t| t.size_bytes).sum()),
            _ => (0, 0),
        };
        let files: Vec<_> = outputs.iter().map(|t| t.file).collect();
        self.install_task(tree, task, outputs)
            .inspect_err(|e| self.discard_if_dropped(e, &files))?;
        Counters::add(&self.counters.compactions, 1);
        Counters::add(&self.counters.compacted_bytes_read, read);
        Counters::add(&self.counters.compacted_bytes_written, written);
        Ok((files.len(), written))
    }

    fn install_task(&self, tree: &Tree, task: &Task, outputs: Vec<TableMeta>) -> Result<()> {
        let (added, removed) = task.changes(outputs);
        let changes =
            TableChanges { keyspace: tree.id, added, removed: removed.clone(), flushed_seq: None };
        let edit = VersionEdit { tables: vec![changes], ..VersionEdit::default() };
        if base::planted::is(48) && task.kind == TaskKind::Merge {
            for &num in &removed {
                drop(self.fs.remove_file(&base::FileName::Table(num).in_dir(&self.dir)));
            }
        }
        self.apply_edit(&edit, |state| {
            let Some(keyspace) = state.keyspaces.get(&tree.id) else { return };
            let before = tree.view_full();
            tree.update_view(|view| view.with_version(view.frozen.clone(), &keyspace.version));
            self.graveyard.lock().bury(&before.version, &removed);
        })
    }

    /// Lends `write` what a compaction or flush into `level` of `tree` needs.
    pub(crate) fn with_job<R>(
        &self,
        tree: &Tree,
        level: usize,
        target_table_bytes: u64,
        write: impl FnOnce(&Job<'_>) -> R,
    ) -> R {
        let new_file = || self.new_file();
        let table_id = || self.new_table_id();
        let throttle = |bytes: u64| {
            self.divide_memory();
            self.throttle(level, bytes);
        };
        write(&Job {
            fs: &*self.fs,
            dir: &self.dir,
            tables: &self.tables,
            next_file: &new_file,
            table_id: &table_id,
            options: tree.table_options(level),
            target_table_bytes,
            snapshots: self.snapshots.list(),
            now_micros: self.clock.wall_micros(),
            cancel: &self.closing,
            throttle: &throttle,
        })
    }

    /// Keeps compactions below the rate limit; flushes, which writers wait for, are not held back.
    fn throttle(&self, level: usize, bytes: u64) {
        let Some(rate) = self.options.rate_limit_bytes_per_second.filter(|_| level > 0) else {
            return;
        };
        base::probe!("compaction under a rate limit");
        self.limiter.wait(self.clock.monotonic_micros(), bytes, rate);
    }

    /// Compacts all of `tree` inside the bounds into its lowest level, on this thread.
    pub(crate) fn compact_range(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<()> {
        let _call = self.begin_call()?;
        self.flush_and_wait(std::slice::from_ref(tree))?;
        tree.compactions.lock().manual += 1;
        let done = self.compact_by_hand(tree, lower, upper);
        tree.compactions.lock().manual -= 1;
        self.purge();
        self.schedule_compactions(tree);
        self.event.notify();
        done
    }

    fn compact_by_hand(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<()> {
        // What is written from now on is written by the rules of now.
        let first_new = FileNum(self.next_file.load(Ordering::Relaxed));
        let policy = &tree.options.compaction;
        let by_range = |view: &compaction::View<'_>| policy.pick_range(view, lower, upper);
        while self.run_by_hand(tree, by_range, &compaction::run)? {}
        for file in self.tables_with_old_versions(tree, lower, upper)? {
            if file < first_new {
                let rewrite = |view: &compaction::View<'_>| policy.pick_rewrite(view, file);
                self.run_by_hand(tree, rewrite, &compaction::run)?;
            }
        }
        Ok(())
    }

    /// Runs what `pick` chooses by `merge`, on this thread; false if that is nothing.
    pub(crate) fn run_by_hand(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        pick: impl Fn(&compaction::View<'_>) -> Option<Task>,
        merge: &Merge<'_>,
    ) -> Result<bool> {
        self.health.check_writable()?;
        // One manual compaction at a time, and none in the background meanwhile.
        let task = self.event.wait(&*self.executor, || {
            if self.health.is_stopped() {
                return Some(None);
            }
            let mut compactions = tree.compactions.lock();
            let placing = compactions.placing && !base::planted::is(56);
            if placing || !compactions.running.is_empty() {
                base::probe!("manual compaction waits for others");
                return None;
            }
            let version = Arc::clone(&tree.view().version);
            let task = pick(&self.policy_view(&version, &[]));
            compactions.running.extend(task.clone());
            Some(task)
        });
        let Some(task) = task else { return self.health.check_writable().map(|()| false) };
        let done = self.run_task(tree, &task, merge);
        tree.compactions.lock().running.retain(|t| *t != task);
        self.event.notify();
        done.map(|()| true)
    }

    /// Tables inside the bounds that hold several versions of a key, or tombstones: what a snapshot needed when they were
    /// written.
    fn tables_with_old_versions(
        &self,
        tree: &Tree,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Result<Vec<FileNum>> {
        let inside = |table: &TableMeta| {
            let begins = match lower {
                Bound::Unbounded => true,
                Bound::Included(key) => table.upper().admits(key),
                Bound::Excluded(key) => key < &table.largest[..],
            };
            let ends = match upper {
                Bound::Unbounded => true,
                Bound::Included(key) => &table.smallest[..] <= key,
                Bound::Excluded(key) => &table.smallest[..] < key,
            };
            begins && ends
        };
        let version = Arc::clone(&tree.view().version);
        let mut found = Vec::new();
        for (_, _, meta) in version.tables().filter(|(_, _, meta)| inside(meta)) {
            let table = self.tables.get(meta.file, meta.table_id, meta.seq_max)?;
            let p = table.properties();
            if p.user_keys < p.entries || p.deletes > 0 || p.range_tombstones > 0 {
                found.push(meta.file);
            }
        }
        Ok(found)
    }

    /// True if nothing is being flushed or compacted, and nothing waits to be.
    fn is_idle(self: &Arc<Self>) -> bool {
        let trees = self.all_trees();
        for tree in &trees {
            self.queue_flush(tree);
            self.schedule_compactions(tree);
        }
        let quiet =
            |t: &Arc<Tree>| t.view().frozen.is_empty() && t.compactions.lock().running.is_empty();
        self.jobs.load(Ordering::Acquire) == 0 && trees.iter().all(quiet)
    }

    /// Waits until no flush or compaction is pending or running.
    pub(crate) fn wait_idle(self: &Arc<Self>) -> Result<()> {
        let failures = self.counters.background_failures.load(Ordering::Relaxed);
        self.begin_quiet();
        self.event.wait(&*self.executor, || {
            if let Err(e) = self.health.check_open() {
                return Some(Err(e));
            }
            let failed = self.counters.background_failures.load(Ordering::Relaxed) > failures;
            if failed && let Some(e) = self.health.retrying() {
                return Some(Err(e));
            }
            if self.health.is_stopped() {
                return Some(self.health.check_writable());
            }
            self.is_idle().then_some(Ok(()))
        })?;
        // The last job may have ended while it still held the tables that it replaced.
        self.purge();
        self.give_space_back();
        Ok(())
    }
}
