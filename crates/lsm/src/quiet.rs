//! Times without writes: the runs of a keyspace are merged into one, so that reads look in one place.
//!
//! While writes come, runs pile up within the bounds of the policy, which is what makes writing cheap. A read pays for each
//! of them. Once nothing has been written for [`Options::idle_compaction`](crate::Options::idle_compaction), and at
//! `wait_idle`, memtables of some size are flushed and the policy takes what lies above the deepest run down to it, where
//! that is worth the rewriting. A write ends the quiet time: the task under way is finished, no further one begins.

use crate::engine::Engine;
use crate::tree::{Compactions, Quiet, Tree};
use base::SeqNo;
use base::sync::Mutex;
use compaction::Task;
use manifest::Version;
use std::sync::Arc;

/// An active memtable is flushed in a quiet time if it has come to one part in so many of its limit.
const FLUSHED_SHARE: usize = 64;

/// When the last write was seen.
#[derive(Debug, Default)]
pub(crate) struct QuietClock(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    seq: SeqNo,
    /// By the monotonic clock.
    since_micros: u64,
    /// True once a quiet time has begun.
    done: bool,
}

impl Engine {
    /// Looks whether nothing was written for long enough. At every tick.
    pub(crate) fn watch_quiet(self: &Arc<Self>) {
        let Some(delay) = self.options.idle_compaction else { return };
        let (seq, now) = (self.visible(), self.clock.monotonic_micros());
        {
            let mut seen = self.quiet.0.lock();
            if seen.seq != seq {
                *seen = Seen { seq, since_micros: now, done: false };
                return;
            }
            let waited = u128::from(now.saturating_sub(seen.since_micros));
            if waited < delay.as_micros() {
                return;
            }
            if std::mem::replace(&mut seen.done, true) {
                drop(seen);
                self.give_space_back();
                return;
            }
        }
        self.begin_quiet();
    }

    /// Begins a quiet time for all keyspaces, if there is to be any.
    pub(crate) fn begin_quiet(self: &Arc<Self>) {
        if self.options.idle_compaction.is_none() || self.health.check_writable().is_err() {
            return;
        }
        for tree in self.all_trees().iter().filter(|t| !t.is_dropped()) {
            if tree.view().active.table.size_bytes()
                > tree.options.memtable_size_bytes / FLUSHED_SHARE
            {
                base::probe!("memtable flushed in a quiet time");
                self.freeze(&self.commits.lock(), tree);
            }
            let seq = self.visible();
            tree.compactions.lock().quiet = Some(Quiet { seq, begun: false });
            self.queue_flush(tree);
            self.schedule_compactions(tree);
        }
    }

    /// What to compact in a quiet time, when the policy asks for nothing else.
    pub(crate) fn pick_quiet(
        &self,
        tree: &Tree,
        compactions: &mut Compactions,
        version: &Version,
    ) -> Option<Task> {
        let quiet = compactions.quiet.filter(|quiet| quiet.seq == self.visible());
        compactions.quiet = quiet;
        let quiet = quiet?;
        if !tree.view().frozen.is_empty() || !compactions.running.is_empty() {
            // Looked at again when these are done.
            return None;
        }
        let view = self.policy_view(version, &[]);
        let task = tree.options.compaction.pick_quiet(&view, quiet.begun);
        compactions.quiet = task.as_ref().map(|_| Quiet { begun: true, ..quiet });
        task
    }
}
