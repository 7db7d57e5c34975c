//! [`Task`]: one piece of work that a policy chose.

use base::FileNum;
use manifest::{AddedTable, RunId, TableMeta, UpperBound};
use std::cmp::Reverse;
use std::sync::Arc;

/// What is to be done with the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// Merge them with [`run`](crate::run) into new tables of the output run.
    Merge,
    /// Put the same files into the output run; no bytes are read or written.
    Move,
    /// Forget them.
    Drop,
}

/// Tables of one run that a task takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRun {
    /// Their level.
    pub level: usize,
    /// Their run.
    pub run: RunId,
    /// Ascending, disjoint, never empty.
    pub tables: Vec<Arc<TableMeta>>,
}

/// A chosen compaction. The tables stay where they are until [`changes`](Self::changes) is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What to do.
    pub kind: TaskKind,
    /// The tables it takes, newest run first.
    pub inputs: Vec<InputRun>,
    /// Where the result goes.
    pub output_level: usize,
    /// The run of `output_level` that the result joins; it exists already, or begins to exist.
    pub output_run: RunId,
    /// All tables outside the inputs with data older than the output in its key range: while a key
    /// lies in one of them, its tombstones must stay. Compactions beside this one may move that
    /// data further down but never bring more of it, so the list stays good while the task runs.
    pub older: Vec<Arc<TableMeta>>,
    /// Those of `older` in the next level: outputs are cut so as not to overlap too many of them.
    pub next_level: Vec<Arc<TableMeta>>,
    /// Outputs are closed past this size.
    pub target_table_bytes: u64,
    /// Why it was chosen, for logs and events.
    pub reason: &'static str,
}

impl Task {
    /// The input tables, newest run first.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableMeta>> {
        self.inputs.iter().flat_map(|run| &run.tables)
    }

    /// Bytes of the input files.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.tables().map(|t| t.size_bytes).fold(0, u64::saturating_add)
    }

    /// True if nothing older lies below the result.
    #[must_use]
    pub fn is_bottom(&self) -> bool {
        self.older.is_empty()
    }

    /// The edit that installs the result: tables that come, files that leave. Applied in one step.
    ///
    /// `outputs` are those of [`run`](crate::run) for a [`TaskKind::Merge`], else empty. For a
    /// [`TaskKind::Move`] the same file is in both lists: the file itself must not be deleted.
    #[must_use]
    pub fn changes(&self, outputs: Vec<TableMeta>) -> (Vec<AddedTable>, Vec<FileNum>) {
        let (level, run) = (self.output_level as u32, self.output_run);
        let added = |table| AddedTable { level, run, table };
        let added = match self.kind {
            TaskKind::Merge => outputs.into_iter().map(added).collect(),
            TaskKind::Move => self.tables().map(|t| added((**t).clone())).collect(),
            TaskKind::Drop => Vec::new(),
        };
        (added, self.tables().map(|t| t.file).collect())
    }

    /// True if the two may not run at the same time.
    ///
    /// They may if they share no table and, where their key ranges overlap, the stretches of the tree
    /// that their data crosses do not: at most the output run of one is where the other starts.
    #[must_use]
    pub fn conflicts_with(&self, other: &Task) -> bool {
        let shares = self.tables().any(|t| other.tables().any(|o| o.file == t.file));
        if base::planted::is(19) {
            return false;
        }
        if shares {
            return true;
        }
        let (Some(mine), Some(theirs)) = (self.span(), other.span()) else {
            return false;
        };
        mine.overlaps(&theirs) && !self.is_above(other) && !other.is_above(self)
    }

    /// True if this task's data ends before, or in the run where, the other's data starts.
    fn is_above(&self, other: &Task) -> bool {
        let (end, start) = (self.output(), other.start());
        end < start || (end == start && other.output() != start)
    }

    fn output(&self) -> Position {
        (self.output_level, Reverse(self.output_run))
    }

    /// The newest place it takes data from.
    fn start(&self) -> Position {
        self.inputs.first().map_or(self.output(), |r| (r.level, Reverse(r.run)))
    }

    /// The keys from the first to the last input.
    pub(crate) fn span(&self) -> Option<Span<'_>> {
        Span::of(self.tables())
    }
}

/// A place in the list of runs; smaller is newer.
pub(crate) type Position = (usize, Reverse<RunId>);

/// A range of user keys, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    pub(crate) lower: &'a [u8],
    pub(crate) upper: UpperBound<'a>,
}

impl<'a> Span<'a> {
    pub(crate) fn of_table(table: &'a TableMeta) -> Span<'a> {
        Span { lower: &table.smallest, upper: table.upper() }
    }

    /// The smallest range around all `tables`; `None` without tables.
    pub(crate) fn of(tables: impl Iterator<Item = &'a Arc<TableMeta>>) -> Option<Span<'a>> {
        tables.map(|t| Span::of_table(t)).reduce(Span::join)
    }

    /// The smallest range around both.
    pub(crate) fn join(self, other: Span<'a>) -> Span<'a> {
        Span { lower: self.lower.min(other.lower), upper: self.upper.max(other.upper) }
    }

    pub(crate) fn overlaps(&self, other: &Span<'_>) -> bool {
        self.upper.admits(other.lower) && other.upper.admits(self.lower)
    }

    pub(crate) fn contains(&self, other: &Span<'_>) -> bool {
        self.lower <= other.lower && other.upper <= self.upper
    }
}
