//! How far a move has come at its receiver: on its disk, and in what it reports.

use crate::codec::DecodeError;
use crate::codec::wire::{Wire, fields};
use crate::topology::JobId;
use base::{KeyspaceId, Slice};
use ring::{Epoch, Partition};

fields! {
    /// One partition of all keyspaces with so many replicas: what moves together.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    Moving {
        /// How many replicas.
        replicas: u8,
        /// The partition.
        partition: Partition,
    }
}

fields! {
    /// Where to go on copying.
    Cursor {
        /// In which keyspace.
        keyspace: KeyspaceId,
        /// From which user's key on.
        key: Slice,
    }
}

fields! {
    /// How far a receiver has come. Stored under what moves; one of another job counts for nothing.
    #[derive(Default)]
    MoveRecord {
        /// For which job.
        job: JobId,
        /// Where to go on; `None` at the beginning.
        cursor: Option<Cursor>,
        /// All pages are here.
        copied: bool,
        /// All is here that the sources had when they knew of the epoch since which the partition is joint.
        caught_up: Option<Epoch>,
        /// Bytes that were fetched.
        bytes: u64,
    }
}

impl MoveRecord {
    /// A record at the beginning of `job`.
    #[must_use]
    pub fn begin(job: JobId) -> MoveRecord {
        MoveRecord { job, cursor: None, copied: false, caught_up: None, bytes: 0 }
    }

    /// Bytes for the disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// A record from bytes that anybody may have made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<MoveRecord, DecodeError> {
        MoveRecord::from_bytes(bytes)
    }
}

fields! {
    /// How far one move has come, as its receiver says.
    MoveReport {
        /// What moves.
        moving: Moving,
        /// What is on the receiver's disk.
        record: MoveRecord,
    }
}

fields! {
    /// What a node says of its moves.
    Report {
        /// Of its topology.
        epoch: Epoch,
        /// What it receives, ascending.
        moves: Vec<MoveReport>,
        /// Copies that it departs from and has deleted, ascending.
        cleaned: Vec<Moving>,
    }
}

impl Report {
    /// The record of what it receives.
    #[must_use]
    pub fn of(&self, moving: Moving) -> Option<&MoveRecord> {
        let at = self.moves.binary_search_by_key(&moving, |report| report.moving).ok()?;
        self.moves.get(at).map(|report| &report.record)
    }

    /// Bytes for a message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// A report from bytes that anybody may have made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Report, DecodeError> {
        let report = Report::from_bytes(bytes)?;
        let moves = report.moves.is_sorted_by(|a, b| a.moving < b.moving);
        crate::codec::wire::check(moves && report.cleaned.is_sorted_by(|a, b| a < b), "report")?;
        Ok(report)
    }
}
