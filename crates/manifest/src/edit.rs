//! [`VersionEdit`]: one change of the database.

use base::{FileNum, KeyspaceId, SeqNo};

use crate::{RunId, TableMeta};

/// A table that comes in, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedTable {
    /// Level, below [`LEVELS_MAX`](crate::LEVELS_MAX).
    pub level: u32,
    /// The run of that level; it begins to exist with its first table.
    pub run: RunId,
    /// The table.
    pub table: TableMeta,
}

/// A log segment that gets no more records. Recovery checks its end against this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClosedSegment {
    /// Number of the file.
    pub num: FileNum,
    /// Byte offset behind the last record.
    pub end_offset: u64,
    /// Log sequence number behind the last record.
    pub end_lsn: u64,
    /// Chained checksum over all records.
    pub chain: u32,
}

impl From<wal::ClosedSegment> for ClosedSegment {
    fn from(s: wal::ClosedSegment) -> Self {
        ClosedSegment { num: s.num, end_offset: s.end_offset, end_lsn: s.end.0, chain: s.chain }
    }
}

impl From<ClosedSegment> for wal::ClosedSegment {
    fn from(s: ClosedSegment) -> Self {
        let end = wal::Lsn(s.end_lsn);
        wal::ClosedSegment { num: s.num, end_offset: s.end_offset, end, chain: s.chain }
    }
}

/// A keyspace that begins to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKeyspace {
    /// Its id, never used before in this database.
    pub id: KeyspaceId,
    /// Its name, used by no other keyspace that exists.
    pub name: String,
    /// Its options, encoded by a higher layer.
    pub options: Vec<u8>,
}

/// Changes to the tables of one keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableChanges {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Tables that come in. One that is also in `removed` moves.
    pub added: Vec<AddedTable>,
    /// Tables that leave; they leave before the others come.
    pub removed: Vec<FileNum>,
    /// Every write to this keyspace up to and with this one is in tables. Only ever grows.
    pub flushed_seq: Option<SeqNo>,
}

/// A change of the whole database. Applied whole or not at all.
///
/// Parts are applied in this order: segments added, closed, removed; keyspaces dropped, created,
/// re-optioned; tables, in the order of the list, within each entry first removed, then added.
///
/// The counters only ever grow: a value below the state's is ignored, and each is raised past every
/// number that the edit uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionEdit {
    /// The next unused file number.
    pub next_file: Option<FileNum>,
    /// The next unused keyspace id.
    pub next_keyspace: Option<KeyspaceId>,
    /// The next unused run id.
    pub next_run: Option<RunId>,
    /// The largest sequence number in use.
    pub last_seq: Option<SeqNo>,
    /// Log segments that begin to exist.
    pub segments_added: Vec<FileNum>,
    /// Log segments that get no more records.
    pub segments_closed: Vec<ClosedSegment>,
    /// Log segments that are needed no more.
    pub segments_removed: Vec<FileNum>,
    /// The next unused log sequence number.
    pub next_lsn: Option<u64>,
    /// Keyspaces that begin to exist.
    pub keyspaces_created: Vec<NewKeyspace>,
    /// Keyspaces that cease to exist, with all their tables.
    pub keyspaces_dropped: Vec<KeyspaceId>,
    /// New options of existing keyspaces, encoded by a higher layer.
    pub options_changed: Vec<(KeyspaceId, Vec<u8>)>,
    /// Changes to tables.
    pub tables: Vec<TableChanges>,
}
