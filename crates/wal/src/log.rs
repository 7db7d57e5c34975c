//! The log as its writers see it: append, roll, sync.
//!
//! # Locks
//! `writer` guards the segments and is held for a copy into the segment, or for a roll; `turn` says who
//! syncs. They are never held together, and no file is synced under either (except after a failed append).

mod group;
mod writer;

use base::sync::atomic::{AtomicU64, Ordering};

use base::sync::Mutex;
use base::{Error, FileNum, Result, limits};

use crate::record::Kind;
use crate::segment::{ClosedSegment, PreparedSegment};
use crate::{Lsn, record};
use group::Turn;
use writer::{Failure, Writer};

/// What a log needs to know about its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Identity of the database; records of another database are never taken for ours.
    pub db_id: u64,
}

/// A record was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position behind the record; what to pass to [`Log::sync`].
    pub end: Lsn,
    /// True if the log went on to its spare segment for this record: a new spare is wanted.
    pub rolled: bool,
}

/// The record does not fit the current segment, and no spare that it fits is ready. Nothing was written.
///
/// Prepare a segment of at least `min_len` bytes, list it, install it, and append again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeedSegment {
    /// Shortest segment, in bytes, that the record fits.
    pub min_len: u64,
}

/// A segment in use by the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file number.
    pub num: FileNum,
    /// Position of offset 0 of its file.
    pub start: Lsn,
    /// Position behind its last record.
    pub end: Lsn,
    /// Length of its file.
    pub len_bytes: u64,
    /// How it ended, if it is closed and all of it is synced: what a manifest may record of it.
    pub closed: Option<ClosedSegment>,
}

/// The write-ahead log. Shared by all writers.
///
/// # Failures
/// - A failed sync breaks the log for good: nothing is known about the file any more. That call, all that
///   wait, and all later appends and syncs return [`Error::SyncFailed`]; nothing is written to or synced
///   on any file again. The appends since the last good sync are indeterminate.
/// - A failed append abandons the segment at its last good offset. With a spare at hand the log rolls to
///   it and syncs the link that states this offset; the failing call then returns the [`Error::Io`] or
///   [`Error::NoSpace`], its record is not there, ever, and the log goes on. Without a spare, or if its
///   write fails, that call and all later appends return [`Error::WritesStopped`], and whether the record
///   is found after a crash is open; records appended before can still be synced.
/// - A failed roll at the end of a segment returns its error and wrote nothing that counts; the spare is
///   given up (see [`Log::remove_before`]) and the next append asks for another.
#[derive(Debug)]
pub struct Log {
    writer: Mutex<Writer>,
    turn: Mutex<Turn>,
    /// Position behind the last record. Stored under `writer`, after the bytes are in the file.
    end: AtomicU64,
    /// Everything below is durable. Stored by the leader alone.
    synced: AtomicU64,
    /// Bytes that the last sync was for. Only a hint.
    stretch: AtomicU64,
}

/// A log with so many bytes between two syncs is filled fast.
const FAST_BYTES: u64 = 256 << 10;

impl Log {
    /// Starts a log in segment `first`, and writes its header and link, unsynced.
    ///
    /// `start` must be above every position ever used: [`Replayed::next`](crate::Replayed::next); it is
    /// rounded up to 8. `previous` is the last segment of the recovery, if it stays listed in the manifest:
    /// its link ends the old log at exactly that point, so that a torn tail behind it is never read again.
    /// Segments that the recovery dropped must leave the manifest in the edit that lists `first`, and
    /// all that stays listed must be durable ([`make_durable`](crate::make_durable)). If no old
    /// segment stays listed, `previous` is `None`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `start` is above [`Lsn::MAX`] or not above the end of `previous`;
    /// [`Error::Io`] or [`Error::NoSpace`] if the segment cannot be written.
    pub fn start(
        options: LogOptions,
        first: PreparedSegment,
        start: Lsn,
        previous: Option<ClosedSegment>,
    ) -> Result<Log> {
        let start = start.aligned();
        if start > Lsn::MAX || previous.is_some_and(|p| p.end > start) {
            return Err(Error::invalid("start of the log", format!("{start}, after {previous:?}")));
        }
        let synced = previous.map_or(0, |p| p.end.0);
        let writer = Writer::start(options.db_id, first, start.0, synced, previous)?;
        Ok(Log {
            end: AtomicU64::new(writer.end()),
            writer: Mutex::new(writer),
            turn: Mutex::default(),
            synced: AtomicU64::new(synced),
            stretch: AtomicU64::new(0),
        })
    }

    /// Appends one record. The bytes survive the death of the process when this returns, and a power cut
    /// once a [`sync`](Log::sync) up to the returned end succeeds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the payload is longer than [`limits::BATCH_BYTES_MAX`]; [`Error::Io`],
    /// [`Error::NoSpace`], [`Error::WritesStopped`], [`Error::SyncFailed`] as said at [`Log`].
    pub fn append(&self, payload: &[u8]) -> Result<Result<Appended, NeedSegment>> {
        if payload.len() > limits::BATCH_BYTES_MAX {
            let (len, max) = (payload.len(), limits::BATCH_BYTES_MAX);
            return Err(Error::invalid("log record", format!("{len} bytes, the limit is {max}")));
        }
        self.append_record(Kind::Data, payload)
    }

    fn append_record(&self, kind: Kind, payload: &[u8]) -> Result<Result<Appended, NeedSegment>> {
        let writer = &mut *self.writer.lock();
        let appended = writer.append(kind, payload, self.synced.load(Ordering::Acquire));
        // Also after an error: the log may have rolled.
        self.end.store(writer.end(), Ordering::Release);
        let rolled = match appended? {
            Ok(rolled) => rolled,
            Err(need) => return Ok(Err(need)),
        };
        Ok(Ok(Appended { end: Lsn(writer.end()), rolled }))
    }

    /// Hands over the segment to roll into next; it must be listed in the manifest, durably.
    ///
    /// A spare that was there already is given up; [`remove_before`](Log::remove_before) returns it.
    pub fn install_spare(&self, spare: PreparedSegment) {
        self.writer.lock().install_spare(spare);
    }

    /// True if no spare is ready, and the log has not failed.
    #[must_use]
    pub fn lacks_spare(&self) -> bool {
        self.writer.lock().lacks_spare()
    }

    /// True if no spare is ready and the log will need one: it has not failed, and holds records.
    #[must_use]
    pub fn wants_spare(&self) -> bool {
        self.writer.lock().wants_spare()
    }

    /// Goes on to the spare, as an append does that finds no room. The old segment can be [removed](Log::remove_before) once
    /// it is synced. False if there is no spare.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`] as said at [`Log`], and the failure that ended the log.
    pub fn roll(&self) -> Result<bool> {
        let writer = &mut *self.writer.lock();
        let rolled = writer.roll_to_spare(self.synced.load(Ordering::Acquire));
        self.end.store(writer.end(), Ordering::Release);
        rolled
    }

    /// True if it holds no records: one segment, with nothing behind its link.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.writer.lock().is_blank()
    }

    /// Bytes of all its files, the spare included.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.writer.lock().file_bytes()
    }

    /// True if many bytes are appended between two syncs.
    #[must_use]
    pub fn fills_fast(&self) -> bool {
        let waiting = self.end().0.saturating_sub(self.synced().0);
        self.stretch.load(Ordering::Relaxed).max(waiting) >= FAST_BYTES
    }

    /// Has the system make the memory of the current segment and of the spare ready, once for each, so that appends do not
    /// wait for it: as long as a segment takes to be filled with zeros. For a thread that nobody waits for, and for a log that
    /// [fills fast](Log::fills_fast): memory that is made ready comes in large pieces, and a sync writes a piece as a whole, 128 KiB for
    /// a record.
    pub fn prefault(&self) {
        let files = self.writer.lock().take_unfaulted();
        files.iter().for_each(|file| file.prefault());
    }

    /// Position behind the last record.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.end.load(Ordering::Acquire))
    }

    /// Everything below this position is durable.
    #[must_use]
    pub fn synced(&self) -> Lsn {
        Lsn(self.synced.load(Ordering::Acquire))
    }

    /// The segments in use, oldest first, the current one last; without the spare.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.writer.lock().segments(self.synced.load(Ordering::Acquire))
    }

    /// Forgets the closed segments that end at or before `floor` and are synced, and returns them together
    /// with spares that were given up.
    ///
    /// The files are the caller's: to delete or recycle once the manifest has durably stopped listing them.
    /// A segment that is not synced is kept, even if nobody needs its records: later records would claim
    /// that it is durable while the manifest still lists it. [`sync`](Log::sync) first to get it too.
    pub fn remove_before(&self, floor: Lsn) -> Vec<FileNum> {
        let durable = self.synced();
        self.writer.lock().remove_before(floor.min(durable).0)
    }

    /// Appends a record without payload that states how far the log is synced, unless a record says so
    /// already. For a clean close, after a last [`sync`](Log::sync): damage below is then never taken for
    /// a torn tail. If there is no room for it, nothing happens.
    ///
    /// # Errors
    /// As [`append`](Log::append).
    pub fn mark_synced(&self) -> Result<()> {
        let stated = self.writer.lock().stated();
        if stated >= self.synced().0 {
            base::probe!("synced position stated already");
            return Ok(());
        }
        debug_assert_eq!(record::framed_len(0), record::HEADER_LEN);
        self.append_record(Kind::Marker, &[]).map(|_| ())
    }

    /// Ends the log: refuses further appends with [`Error::Closed`], syncs, and returns how every segment in
    /// use ended, oldest first.
    ///
    /// A manifest that records these ([`SegmentToReplay::closed`](crate::SegmentToReplay::closed)), and lists
    /// no spare, makes the next replay cheap: it reads the records and looks for nothing behind them.
    ///
    /// # Errors
    /// [`Error::SyncFailed`], of this or an earlier sync.
    pub fn close(&self) -> Result<Vec<ClosedSegment>> {
        if let Error::SyncFailed { source } = self.writer.lock().fail(Failure::Closed) {
            return Err(Error::SyncFailed { source });
        }
        self.sync(self.end())?;
        Ok(self.writer.lock().ends())
    }

    /// The failure that ended the log, if one did; [`Error::Closed`] after [`close`](Log::close).
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.writer.lock().failure().map(Failure::error)
    }
}
