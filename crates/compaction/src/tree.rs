//! [`Tree`]: a version as a list of runs, and the one function that turns a wish into a safe task.

use crate::policy::View;
use crate::task::{InputRun, Position, Span, Task, TaskKind};
use base::{FileNum, SeqNo};
use manifest::{LEVELS_MAX, Run, RunId, TableMeta, Version};
use std::cmp::Reverse;
use std::sync::Arc;

/// The deepest level.
pub(crate) const BOTTOM: usize = LEVELS_MAX - 1;
/// An output, or a moved table, overlaps at most this many targets' worth of the next level.
pub(crate) const NEXT_LEVEL_OVERLAP_TARGETS_MAX: u64 = 10;
/// Tables smaller than this part of the target are merged rather than moved, so that small ones go away.
const MOVED_TABLE_PART_OF_TARGET: u64 = 4;

/// What a policy wants done; [`Tree::build`] adds what safety asks for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Newest run first.
    pub(crate) seeds: Vec<InputRun>,
    pub(crate) output_level: usize,
    pub(crate) output_run: RunId,
    pub(crate) target_table_bytes: u64,
    pub(crate) reason: &'static str,
}

/// A version beside the tasks that are running on it.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) version: &'a Version,
    running: &'a [Task],
    pub(crate) oldest_snapshot: SeqNo,
    /// Files of running tasks, sorted.
    busy: Vec<FileNum>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(view: &View<'a>) -> Tree<'a> {
        let mut busy: Vec<_> = view.running.iter().flat_map(Task::tables).map(|t| t.file).collect();
        busy.sort_unstable();
        if base::planted::is(19) {
            busy.clear();
        }
        let (version, running) = (view.version, view.running);
        Tree { version, running, oldest_snapshot: view.oldest_snapshot, busy }
    }

    /// All runs, newest data first.
    pub(crate) fn runs(&self) -> impl DoubleEndedIterator<Item = (usize, &'a Arc<Run>)> + use<'a> {
        let levels = self.version.levels.iter().enumerate();
        levels.flat_map(|(level, l)| l.runs.iter().map(move |run| (level, run)))
    }

    pub(crate) fn level_runs(&self, level: usize) -> &'a [Arc<Run>] {
        self.version.levels.get(level).map_or(&[], |l| &l.runs)
    }

    pub(crate) fn is_busy(&self, table: &TableMeta) -> bool {
        !self.busy.is_empty() && self.busy.binary_search(&table.file).is_ok()
    }

    pub(crate) fn has_busy(&self, run: &Run) -> bool {
        !self.busy.is_empty() && run.tables.iter().any(|t| self.is_busy(t))
    }

    /// The first level below L0 that holds tables or is about to, if any.
    pub(crate) fn first_level_in_use(&self) -> Option<usize> {
        let coming = self.running.iter().map(|t| t.output_level).filter(|&l| l > 0).min();
        let there = (1..LEVELS_MAX).find(|&level| !self.level_runs(level).is_empty());
        there.into_iter().chain(coming).min()
    }

    /// Bytes of a level that no running task is taking away.
    pub(crate) fn level_bytes(&self, level: usize) -> u64 {
        let leaving = |t: &&Task| t.output_level > level;
        let gone: u64 = self
            .running
            .iter()
            .filter(leaving)
            .flat_map(|t| &t.inputs)
            .filter(|run| run.level == level)
            .flat_map(|run| &run.tables)
            .map(|t| t.size_bytes)
            .fold(0, u64::saturating_add);
        self.version.level_size(level).saturating_sub(gone)
    }

    /// The run of a leveled level that results go to: the oldest there is, else the one that a
    /// running task is about to make, else run 0.
    pub(crate) fn leveled_run(&self, level: usize) -> RunId {
        let there = self.level_runs(level).last().map(|run| run.id);
        let coming =
            || self.running.iter().filter(|t| t.output_level == level).map(|t| t.output_run).min();
        there.or_else(coming).unwrap_or_default()
    }

    /// An id for a new run of `level`, newer than all that are there or coming.
    pub(crate) fn new_run(&self, level: usize, newest_input: RunId) -> RunId {
        let there = self.level_runs(level).first().map(|run| run.id);
        let coming = self.running.iter().filter(|t| t.output_level == level).map(|t| t.output_run);
        let newest = there.into_iter().chain(coming).max();
        newest.map_or(newest_input, |id| newest_input.max(RunId(id.0.saturating_add(1))))
    }

    /// The task that does `wish` without harm; `None` while a running task is in the way.
    ///
    /// To the seeds come all tables between them and the output, the output run included, that share
    /// keys with what is taken above them. So nothing sinks below older data of its keys, and the
    /// outputs fit between the tables that stay in the output run. Policies rely on this alone.
    pub(crate) fn build(&self, wish: Wish) -> Option<Task> {
        let output = (wish.output_level, Reverse(wish.output_run));
        let inputs = self.close(&wish.seeds, output);
        if inputs.iter().flat_map(|r| &r.tables).any(|t| self.is_busy(t)) {
            return None;
        }
        let span = Span::of(inputs.iter().flat_map(|r| &r.tables))?;
        let mut older = Vec::new();
        let mut next_level = Vec::new();
        for (level, run) in self.runs().filter(|(level, run)| (*level, Reverse(run.id)) > output) {
            let tables = run.overlapping(span.lower, span.upper);
            older.extend_from_slice(tables);
            if level == wish.output_level + 1 {
                next_level.extend_from_slice(tables);
            }
        }
        let mut task = Task {
            kind: TaskKind::Merge,
            older,
            next_level,
            output_level: wish.output_level,
            output_run: wish.output_run,
            target_table_bytes: wish.target_table_bytes,
            reason: wish.reason,
            inputs,
        };
        if self.running.iter().any(|other| other.conflicts_with(&task)) {
            base::probe!("compaction blocked by one under way");
            return None;
        }
        self.make_move(&mut task, output);
        Some(task)
    }

    /// The seeds and everything that must come along.
    fn close(&self, seeds: &[InputRun], output: Position) -> Vec<InputRun> {
        let mut span: Option<Span<'_>> = None;
        let mut inputs = Vec::new();
        for (level, run) in
            self.runs().take_while(|(level, run)| (*level, Reverse(run.id)) <= output)
        {
            let seed = seeds.iter().find(|s| s.level == level && s.run == run.id);
            let seed = seed.and_then(|s| Span::of(s.tables.iter()));
            let Some(wanted) = span.into_iter().chain(seed).reduce(Span::join) else {
                continue;
            };
            let tables = run.overlapping(wanted.lower, wanted.upper);
            let Some(taken) = Span::of(tables.iter()) else { continue };
            span = Some(span.map_or(taken, |s| s.join(taken)));
            inputs.push(InputRun { level, run: run.id, tables: tables.to_vec() });
        }
        inputs
    }

    /// Makes a merge of tables that share no keys a move of those that are not there already.
    fn make_move(&self, task: &mut Task, output: Position) {
        let moves = |r: &InputRun| (r.level, Reverse(r.run)) != output;
        let mut all: Vec<_> = task.tables().collect();
        all.sort_unstable_by(|a, b| a.smallest.cmp(&b.smallest));
        let apart = all.windows(2).all(|w| !w[0].upper().admits(&w[1].smallest));
        if !apart || !task.inputs.iter().any(moves) {
            return;
        }
        let moved = || task.inputs.iter().filter(|r| moves(r)).flat_map(|r| &r.tables);
        let (count, bytes) =
            moved().fold((0u64, 0u64), |(n, b), t| (n + 1, b.saturating_add(t.size_bytes)));
        let small = bytes / count.max(1) < task.target_table_bytes / MOVED_TABLE_PART_OF_TARGET;
        let next = task.next_level.iter().map(|t| t.size_bytes).fold(0, u64::saturating_add);
        let limit = task.target_table_bytes.saturating_mul(NEXT_LEVEL_OVERLAP_TARGETS_MAX);
        let heavy_below = next > limit.saturating_mul(count);
        // A merge would get rid of these tombstones, a move would only put that off.
        let cleans = task.older.is_empty()
            && moved().any(|t| has_tombstones(t) && t.seq_max <= self.oldest_snapshot);
        if small || heavy_below || cleans {
            base::probe!("tables apart, yet merged");
            return;
        }
        base::probe!("tables moved without a merge");
        task.kind = TaskKind::Move;
        task.inputs.retain(moves);
    }
}

pub(crate) fn has_tombstones(table: &TableMeta) -> bool {
    table.deletes > 0 || table.range_tombstones > 0
}

/// Some tables of one run as seeds.
pub(crate) fn seeds(level: usize, run: &Run, tables: &[Arc<TableMeta>]) -> Vec<InputRun> {
    vec![InputRun { level, run: run.id, tables: tables.to_vec() }]
}

/// Whole runs as seeds.
pub(crate) fn whole_runs<'a>(runs: impl Iterator<Item = (usize, &'a Arc<Run>)>) -> Vec<InputRun> {
    runs.map(|(level, run)| InputRun { level, run: run.id, tables: run.tables.clone() }).collect()
}
