//! Reading the log back, and telling a torn tail from damage.
//!
//! # The rule
//! Records are read in order up to the first position P where none stands: a checksum is wrong, or a
//! segment is shorter than the link behind it or the manifest says, or missing, stale or swapped. Then
//! evidence is gathered of how far the log was once synced: what any valid record at or behind P states, in
//! the rest of the segment and in all later ones, and what the manifest says of closed segments.
//! If that lies behind P, data that was durable is gone: damage. If not, P is where a power cut tore
//! the log: legal, and everything behind P, valid or not, is no longer part of it.
//!
//! # Links decide what belongs to the log
//! The newest segment with a valid link names the one before it and its end, and so on back. What a
//! segment holds behind the end so named is not part of the log (an append that failed and was reported as
//! such), and listed segments between two linked ones are not either (a tail that an earlier recovery
//! dropped, a spare that was given up).

mod engine;
mod survey;
mod trace;
mod window;

use std::path::{Path, PathBuf};

use base::{FileNum, Result};
use vfs::Fs;

use crate::Lsn;
use crate::segment::ClosedSegment;
use engine::Engine;

/// What replay does when the log does not end cleanly. The names are those that RocksDB users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecoveryMode {
    /// A torn tail is dropped; anything lost below the proven synced position is an error.
    ///
    /// For everybody: a power cut is recovered from by itself, damage never goes unnoticed. RocksDB:
    /// `kTolerateCorruptedTailRecords`, which however cannot tell the two apart.
    #[default]
    TolerateTornTail,
    /// A torn tail is an error too: behind the last record there must be zeros, or, in a recycled
    /// segment, bytes of its former life.
    ///
    /// For those who sync every write or close cleanly, and would rather look than lose even a write that
    /// was never acknowledged as durable. RocksDB: `kAbsoluteConsistency`.
    Absolute,
    /// Stops at the first bad record, also if it was proven synced: a consistent prefix, perhaps an old one.
    ///
    /// For getting going again after damage, when a replica or the source of the data can fill in the
    /// rest; look at [`Replayed::skipped`]. RocksDB: `kPointInTimeRecovery`.
    PointInTime,
    /// Leaves out what is bad and goes on with every later valid record; batches stay whole, but order
    /// and completeness are gone, and records that were never acknowledged may appear.
    ///
    /// For salvage only: to get at data of which there is no other copy. RocksDB:
    /// `kSkipAnyCorruptedRecords`.
    SkipCorrupt,
}

/// A segment listed in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentToReplay {
    /// Its file number.
    pub num: FileNum,
    /// How it ended, if the manifest recorded that: it holds exactly this, durably.
    pub closed: Option<ClosedSegment>,
}

/// A tail that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment in which it begins.
    pub path: PathBuf,
    /// Offset of the first byte that was dropped.
    pub offset: u64,
    /// Bytes of the log known to be dropped, in this segment and later ones; a lower bound.
    pub dropped_bytes: u64,
}

/// What replay found. Every listed segment is in exactly one of `segments`, `unused` and `dropped`, except
/// those that could not be read at all in mode [`SkipCorrupt`](RecoveryMode::SkipCorrupt).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Segments that belong to the log, oldest first, with their valid ends. The last one is what
    /// [`Log::start`](crate::Log::start) wants as `previous`, if it stays listed.
    pub segments: Vec<ClosedSegment>,
    /// Prepared segments that were never written. Never to be written under their number either:
    /// recycle them under a new one, or delete them.
    pub unused: Vec<FileNum>,
    /// Segments that were written, but of which nothing belongs to the log: all behind the torn point.
    pub dropped: Vec<FileNum>,
    /// Position behind the last valid record; 0 if there is none.
    pub end: Lsn,
    /// The furthest position below which all was synced, as the records visited say: it is on the disk for certain.
    pub synced: Lsn,
    /// A position above every one that was ever used, also in what was dropped; where to start the next log.
    pub next: Lsn,
    /// Records visited.
    pub records: u64,
    /// Sum of their payloads in bytes.
    pub payload_bytes: u64,
    /// The tail that was dropped, if the log did not end cleanly.
    pub torn: Option<Torn>,
    /// Places of damage that the mode made us pass over: path and offset of each.
    pub skipped: Vec<(PathBuf, u64)>,
}

/// What replay calls for each data record: the position behind it, path and offset in the file, the payload.
pub type Visit<'a> = dyn FnMut(Lsn, &Path, u64, &[u8]) -> Result<()> + 'a;

/// Reads the segments listed in the manifest, oldest first, and gives each data record to `visit`.
/// Changes nothing on disk.
///
/// Memory: the largest record plus 1 MiB, and never more than the longest file has bytes.
/// On an error some records may have been visited already.
///
/// # Errors
/// [`Error::Corruption`](base::Error::Corruption) with the first bad position, as `mode` says; a listed file
/// that is missing is corruption in every mode but `SkipCorrupt`.
/// [`Error::UnsupportedFormat`](base::Error::UnsupportedFormat) for segments of a newer version.
/// [`Error::Io`](base::Error::Io) as it came, and what `visit` returns.
pub fn replay(
    fs: &dyn Fs,
    dir: &Path,
    db_id: u64,
    segments: &[SegmentToReplay],
    mode: RecoveryMode,
    visit: &mut Visit<'_>,
) -> Result<Replayed> {
    let surveyed = survey::survey(fs, dir, db_id, segments)?;
    Engine::new(surveyed, mode, visit).run()
}
