//! [`State`]: what the edits of a manifest add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::{FileNum, KeyspaceId, SeqNo, limits};

use crate::{
    AddedTable, ClosedSegment, NewKeyspace, RunId, TableChanges, TableMeta, Version, VersionEdit,
};

/// A log segment as the manifest knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentState {
    /// Where and how it ended; `None` while it may still get records.
    pub closed: Option<ClosedSegment>,
}

/// A keyspace as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceState {
    /// Its name.
    pub name: String,
    /// Its options, encoded by a higher layer.
    pub options: Vec<u8>,
    /// Every write up to and with this one is in tables.
    pub flushed_seq: SeqNo,
    /// Its tables.
    pub version: Arc<Version>,
}

/// The whole database, as far as the manifest knows it.
///
/// Invariant: every file number in use is below `next_file`, every keyspace id below
/// `next_keyspace`, every run id below `next_run`. [`apply`](Self::apply) keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Identity of the database.
    pub db_id: u64,
    /// The next unused file number.
    pub next_file: FileNum,
    /// The next unused keyspace id.
    pub next_keyspace: KeyspaceId,
    /// The next unused run id.
    pub next_run: RunId,
    /// The largest sequence number known to be in use; the log may hold larger ones.
    pub last_seq: SeqNo,
    /// The next unused log sequence number as of the last edit that told one.
    pub next_lsn: u64,
    /// The log segments.
    pub segments: BTreeMap<FileNum, SegmentState>,
    /// The keyspaces.
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceState>,
}

impl State {
    /// An empty database: no keyspaces, no segments; file and run numbers start at 1.
    #[must_use]
    pub fn new(db_id: u64) -> State {
        State {
            db_id,
            next_file: FileNum(1),
            next_keyspace: KeyspaceId(0),
            next_run: RunId(1),
            last_seq: SeqNo(0),
            next_lsn: 0,
            segments: BTreeMap::new(),
            keyspaces: BTreeMap::new(),
        }
    }

    /// Applies `edit` whole, or leaves the state as it is.
    ///
    /// # Errors
    /// The first rule that the edit breaks: something named is not there, or is there already.
    pub fn apply(&mut self, edit: &VersionEdit) -> Result<(), String> {
        let mut next = self.clone();
        next.apply_parts(edit)?;
        *self = next;
        Ok(())
    }

    /// As [`apply`](Self::apply), but an error leaves the state half changed.
    pub(crate) fn apply_parts(&mut self, edit: &VersionEdit) -> Result<(), String> {
        self.raise_counters(edit);
        self.apply_segments(edit)?;
        self.apply_keyspaces(edit)?;
        edit.tables.iter().try_for_each(|changes| self.apply_tables(changes))
    }

    /// An edit that turns [`State::new`] of the same identity into this state.
    #[must_use]
    pub fn to_edit(&self) -> VersionEdit {
        VersionEdit {
            next_file: Some(self.next_file),
            next_keyspace: Some(self.next_keyspace),
            next_run: Some(self.next_run),
            last_seq: Some(self.last_seq),
            next_lsn: Some(self.next_lsn),
            segments_added: self.segments.keys().copied().collect(),
            segments_closed: self.segments.values().filter_map(|s| s.closed).collect(),
            keyspaces_created: self.keyspaces.iter().map(|(&id, k)| k.to_new(id)).collect(),
            tables: self.keyspaces.iter().map(|(&id, k)| k.to_changes(id)).collect(),
            ..VersionEdit::default()
        }
    }

    /// The keyspace of this name. O(n).
    #[must_use]
    pub fn keyspace_by_name(&self, name: &str) -> Option<(KeyspaceId, &KeyspaceState)> {
        self.keyspaces.iter().find(|(_, k)| k.name == name).map(|(&id, k)| (id, k))
    }

    /// Numbers of all tables and log segments.
    #[must_use]
    pub fn live_files(&self) -> BTreeSet<FileNum> {
        self.files().collect()
    }

    /// Checks every version, and that each file number is used once and below `next_file`.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (id, keyspace) in &self.keyspaces {
            keyspace.version.check_invariants().map_err(|e| format!("keyspace {id}: {e}"))?;
        }
        let mut seen = BTreeSet::new();
        match self.files().find(|&file| file >= self.next_file || !seen.insert(file)) {
            Some(file) if file >= self.next_file => {
                Err(format!("file {file} is not below the next number {}", self.next_file))
            }
            Some(file) => Err(format!("file {file} is used twice")),
            None => Ok(()),
        }
    }

    fn files(&self) -> impl Iterator<Item = FileNum> {
        let tables = self.keyspaces.values().flat_map(|k| k.version.tables());
        self.segments.keys().copied().chain(tables.map(|(_, _, t)| t.file))
    }

    fn raise_counters(&mut self, edit: &VersionEdit) {
        let added = || edit.tables.iter().flat_map(|t| &t.added);
        let files = added().map(|a| a.table.file).chain(edit.segments_added.iter().copied());
        let past_files = files.map(|n| FileNum(n.0.saturating_add(1)));
        raise(&mut self.next_file, edit.next_file.into_iter().chain(past_files));
        let past_runs = added().map(|a| RunId(a.run.0.saturating_add(1)));
        raise(&mut self.next_run, edit.next_run.into_iter().chain(past_runs));
        let seqs = added().map(|a| a.table.seq_max);
        let flushed = edit.tables.iter().filter_map(|t| t.flushed_seq);
        raise(&mut self.last_seq, edit.last_seq.into_iter().chain(seqs).chain(flushed));
        let lsns = edit.segments_closed.iter().map(|s| s.end_lsn);
        raise(&mut self.next_lsn, edit.next_lsn.into_iter().chain(lsns));
    }

    fn apply_segments(&mut self, edit: &VersionEdit) -> Result<(), String> {
        for &num in &edit.segments_added {
            if self.segments.insert(num, SegmentState::default()).is_some() {
                return Err(format!("added segment {num} is already there"));
            }
        }
        for &end in &edit.segments_closed {
            match self.segments.get_mut(&end.num) {
                None => return Err(format!("closed segment {} is not there", end.num)),
                Some(s) if s.closed.is_some_and(|old| old != end) => {
                    return Err(format!("segment {} is closed twice", end.num));
                }
                Some(s) => s.closed = Some(end),
            }
        }
        for num in &edit.segments_removed {
            self.segments
                .remove(num)
                .ok_or_else(|| format!("removed segment {num} is not there"))?;
        }
        Ok(())
    }

    fn apply_keyspaces(&mut self, edit: &VersionEdit) -> Result<(), String> {
        for id in &edit.keyspaces_dropped {
            self.keyspaces
                .remove(id)
                .ok_or_else(|| format!("dropped keyspace {id} is not there"))?;
        }
        let unused = self.next_keyspace;
        edit.keyspaces_created.iter().try_for_each(|new| self.create_keyspace(new, unused))?;
        raise(&mut self.next_keyspace, edit.next_keyspace.into_iter());
        for (id, options) in &edit.options_changed {
            let keyspace = self.keyspaces.get_mut(id);
            let keyspace = keyspace.ok_or_else(|| format!("keyspace {id} is not there"))?;
            keyspace.options.clone_from(options);
        }
        Ok(())
    }

    fn create_keyspace(&mut self, new: &NewKeyspace, unused: KeyspaceId) -> Result<(), String> {
        let NewKeyspace { id, name, options } = new;
        if *id < unused || self.keyspaces.contains_key(id) || id.0 == u32::MAX {
            return Err(format!("keyspace id {id} of {name:?} was used before"));
        }
        limits::check_keyspace_name(name).map_err(|e| e.to_string())?;
        if self.keyspace_by_name(name).is_some() {
            return Err(format!("keyspace {name:?} is already there"));
        }
        let keyspace = KeyspaceState {
            name: name.clone(),
            options: options.clone(),
            flushed_seq: SeqNo(0),
            version: Arc::new(Version::empty()),
        };
        self.keyspaces.insert(*id, keyspace);
        raise(&mut self.next_keyspace, [KeyspaceId(id.0 + 1)].into_iter());
        Ok(())
    }

    fn apply_tables(&mut self, changes: &TableChanges) -> Result<(), String> {
        let id = changes.keyspace;
        let keyspace = self.keyspaces.get_mut(&id);
        let keyspace = keyspace.ok_or_else(|| format!("keyspace {id} is not there"))?;
        raise(&mut keyspace.flushed_seq, changes.flushed_seq.into_iter());
        if changes.added.is_empty() && changes.removed.is_empty() {
            return Ok(());
        }
        let version = keyspace.version.apply(&changes.added, &changes.removed);
        keyspace.version = Arc::new(version.map_err(|e| format!("keyspace {id}: {e}"))?);
        Ok(())
    }
}

impl KeyspaceState {
    fn to_new(&self, id: KeyspaceId) -> NewKeyspace {
        NewKeyspace { id, name: self.name.clone(), options: self.options.clone() }
    }

    fn to_changes(&self, keyspace: KeyspaceId) -> TableChanges {
        let added = self.version.tables().map(|(level, run, table)| AddedTable {
            level: level as u32,
            run: run.id,
            table: TableMeta::clone(table),
        });
        let flushed_seq = Some(self.flushed_seq);
        TableChanges { keyspace, added: added.collect(), removed: Vec::new(), flushed_seq }
    }
}

fn raise<T: Ord + Copy>(counter: &mut T, to: impl Iterator<Item = T>) {
    *counter = to.fold(*counter, T::max);
}

#[cfg(test)]
mod tests;
