//! [`Version`]: the tables of one keyspace at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use base::{FileNum, invariant};

use crate::{AddedTable, TableMeta, UpperBound};

/// Levels of a [`Version`], numbered from 0, the newest.
pub const LEVELS_MAX: usize = 7;

/// Recency of a run: of two runs of one level the larger id holds the newer data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A sorted run: tables with disjoint key ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its recency within the level.
    pub id: RunId,
    /// Never empty, ascending.
    ///
    /// Invariant: no two tables share a user key. [`Version::apply`] is the only writer and keeps it;
    /// [`find`](Self::find) binary-searches because of it.
    pub tables: Vec<Arc<TableMeta>>,
}

impl Run {
    /// The one table that may hold `user_key`. O(log n).
    #[inline]
    #[must_use]
    pub fn find(&self, user_key: &[u8]) -> Option<&Arc<TableMeta>> {
        let i = self.tables.partition_point(|t| !t.upper().admits(user_key));
        self.tables.get(i).filter(|t| &t.smallest[..] <= user_key)
    }

    /// The tables that share a key with `lower..upper`, ascending. O(log n).
    #[must_use]
    pub fn overlapping(&self, lower: &[u8], upper: UpperBound<'_>) -> &[Arc<TableMeta>] {
        if !upper.admits(lower) {
            return &[];
        }
        let start = self.tables.partition_point(|t| !t.upper().admits(lower));
        let end = self.tables.partition_point(|t| upper.admits(&t.smallest));
        self.tables.get(start..end).unwrap_or(&[])
    }

    /// Sum of the file sizes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.tables.iter().map(|t| t.size_bytes).fold(0, u64::saturating_add)
    }

    /// Sum of the point entries, tombstones included.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.tables.iter().map(|t| t.entries).fold(0, u64::saturating_add)
    }

    fn check(&self) -> Result<(), String> {
        if self.tables.is_empty() {
            return Err(format!("run {} is empty", self.id));
        }
        self.tables.iter().try_for_each(|t| t.check())?;
        match self.tables.windows(2).find(|w| w[0].upper().admits(&w[1].smallest)) {
            Some(w) => Err(format!("tables {} and {} of run {} overlap", w[0], w[1], self.id)),
            None => Ok(()),
        }
    }
}

/// The runs of one level.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Level {
    /// Newest first: strictly descending by id.
    pub runs: Vec<Arc<Run>>,
}

impl Level {
    /// The run of this id.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Arc<Run>> {
        self.position(id).ok().map(|i| &self.runs[i])
    }

    /// Sum of the file sizes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.runs.iter().map(|r| r.size_bytes()).fold(0, u64::saturating_add)
    }

    fn position(&self, id: RunId) -> Result<usize, usize> {
        self.runs.binary_search_by(|r| id.cmp(&r.id))
    }
}

/// The tables of one keyspace. Immutable: a change makes a new one that shares all untouched runs.
///
/// Level 0 is newest. For any user key, versions in an earlier level, or in an earlier run of one
/// level, are newer than those behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Always [`LEVELS_MAX`] of them.
    pub levels: Vec<Level>,
}

impl Default for Version {
    fn default() -> Self {
        Version::empty()
    }
}

impl Version {
    /// No tables.
    #[must_use]
    pub fn empty() -> Version {
        Version { levels: vec![Level::default(); LEVELS_MAX] }
    }

    /// Every table with its level and run; newest data first.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Run, &Arc<TableMeta>)> {
        self.levels.iter().enumerate().flat_map(|(level, l)| {
            l.runs.iter().flat_map(move |run| run.tables.iter().map(move |t| (level, &**run, t)))
        })
    }

    /// The table with this number, with its level and run. O(n).
    #[must_use]
    pub fn find_file(&self, file: FileNum) -> Option<(usize, &Run, &Arc<TableMeta>)> {
        self.tables().find(|(_, _, t)| t.file == file)
    }

    /// Sum of the file sizes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.levels.iter().map(Level::size_bytes).fold(0, u64::saturating_add)
    }

    /// Sum of the file sizes of one level; 0 for a level that does not exist.
    #[must_use]
    pub fn level_size(&self, level: usize) -> u64 {
        self.levels.get(level).map_or(0, Level::size_bytes)
    }

    /// Number of runs in all levels: how many places a point read may have to look.
    #[must_use]
    pub fn runs_total(&self) -> usize {
        self.levels.iter().map(|l| l.runs.len()).sum()
    }

    /// Number of tables in all levels.
    #[must_use]
    pub fn tables_total(&self) -> usize {
        self.levels.iter().flat_map(|l| &l.runs).map(|r| r.tables.len()).sum()
    }

    /// True without tables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.iter().all(|l| l.runs.is_empty())
    }

    /// Checks every rule that [`apply`](Self::apply) keeps. O(n log n).
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.levels.len() != LEVELS_MAX {
            return Err(format!("{} levels instead of {LEVELS_MAX}", self.levels.len()));
        }
        for (level, l) in self.levels.iter().enumerate() {
            if let Some(w) = l.runs.windows(2).find(|w| w[0].id <= w[1].id) {
                return Err(format!("level {level}: run {} before run {}", w[0].id, w[1].id));
            }
            let in_level = |e| format!("level {level}: {e}");
            l.runs.iter().try_for_each(|run| run.check()).map_err(in_level)?;
        }
        let mut seen = BTreeSet::new();
        match self.tables().find(|(_, _, t)| !seen.insert(t.file)) {
            Some((_, _, t)) => Err(format!("table {t} is there twice")),
            None => Ok(()),
        }
    }

    /// This version without `removed` and then with `added`; a file number in both moves.
    ///
    /// # Errors
    /// What is wrong with the change: a removed table is not here, an added one already is, has an
    /// empty key range or sequence range, has no such level, or overlaps its neighbour in the run.
    pub fn apply(&self, added: &[AddedTable], removed: &[FileNum]) -> Result<Version, String> {
        let leaving = distinct(removed.iter().copied(), "removed")?;
        let coming = distinct(added.iter().map(|a| a.table.file), "added")?;
        self.check_membership(&leaving, &coming)?;
        let mut next = self.clone();
        next.take_out(&leaving);
        next.put_in(added)?;
        invariant!(
            next.check_invariants().is_ok(),
            "apply of {added:?} - {removed:?} broke {next}: {:?}",
            next.check_invariants()
        );
        Ok(next)
    }

    fn check_membership(
        &self,
        leaving: &BTreeSet<FileNum>,
        coming: &BTreeSet<FileNum>,
    ) -> Result<(), String> {
        let mut missing = leaving.clone();
        for (_, _, t) in self.tables() {
            if !missing.remove(&t.file) && coming.contains(&t.file) {
                return Err(format!("added table {t} is already there"));
            }
        }
        match missing.first() {
            Some(file) => Err(format!("removed table {file} is not there")),
            None => Ok(()),
        }
    }

    fn take_out(&mut self, leaving: &BTreeSet<FileNum>) {
        if leaving.is_empty() {
            return;
        }
        let stays = |t: &Arc<TableMeta>| !leaving.contains(&t.file);
        for run in self.levels.iter_mut().flat_map(|l| &mut l.runs) {
            if !run.tables.iter().all(stays) {
                let tables = run.tables.iter().filter(|t| stays(t)).cloned().collect();
                *run = Arc::new(Run { id: run.id, tables });
            }
        }
        self.levels.iter_mut().for_each(|l| l.runs.retain(|r| !r.tables.is_empty()));
    }

    fn put_in(&mut self, added: &[AddedTable]) -> Result<(), String> {
        let mut by_run: BTreeMap<(u32, RunId), Vec<Arc<TableMeta>>> = BTreeMap::new();
        for a in added {
            by_run.entry((a.level, a.run)).or_default().push(Arc::new(a.table.clone()));
        }
        for ((level, id), mut tables) in by_run {
            let to = usize::try_from(level).ok().and_then(|l| self.levels.get_mut(l));
            let to = to.ok_or_else(|| format!("added table {} has level {level}", tables[0]))?;
            let place = to.position(id);
            tables.extend(place.iter().flat_map(|&i| to.runs[i].tables.iter().cloned()));
            tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            let run = Run { id, tables };
            run.check().map_err(|e| format!("level {level}: {e}"))?;
            match place {
                Ok(i) => to.runs[i] = Arc::new(run),
                Err(i) => to.runs.insert(i, Arc::new(run)),
            }
        }
        Ok(())
    }
}

fn distinct(files: impl Iterator<Item = FileNum>, what: &str) -> Result<BTreeSet<FileNum>, String> {
    let mut seen = BTreeSet::new();
    for file in files {
        if !seen.insert(file) {
            return Err(format!("table {file} is {what} twice"));
        }
    }
    Ok(seen)
}

/// One line a level that is not empty, one line a run below it:
///
/// ```text
/// L0:
///   run 7: 000012[a..f] 000013[g..k)
/// ```
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (level, l) in self.levels.iter().enumerate().filter(|(_, l)| !l.runs.is_empty()) {
            writeln!(f, "L{level}:")?;
            for run in &l.runs {
                write!(f, "  run {}:", run.id)?;
                run.tables.iter().try_for_each(|t| write!(f, " {t}"))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
