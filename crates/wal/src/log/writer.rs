//! What stands behind the writer lock: the current segment, the closed ones, the spare.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Error, FileNum, IoContext, Result};
use vfs::SegmentFile;

use crate::Lsn;
use crate::log::{NeedSegment, SegmentInfo};
use crate::record::{self, FileIdentity, Kind};
use crate::segment::{self, ClosedSegment, FIRST_RECORD, Header, PreparedSegment};

/// Memory that the buffer for records keeps after a large one.
const SCRATCH_KEPT: usize = 1 << 20;

/// Why nothing is appended any more.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// An append failed and could not be proven absent.
    Append(Arc<Error>),
    /// A sync failed.
    Sync(Arc<Error>),
    /// The log was closed.
    Closed,
}

impl Failure {
    pub(super) fn error(&self) -> Error {
        match self {
            Failure::Append(source) => Error::WritesStopped { source: Arc::clone(source) },
            Failure::Sync(source) => Error::SyncFailed { source: Arc::clone(source) },
            Failure::Closed => Error::Closed,
        }
    }
}

/// A segment file that records were written to.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) num: FileNum,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn SegmentFile>,
    /// Stores do not wait for its memory.
    prefaulted: bool,
    len: u64,
    base: u64,
    /// Offset behind the last good record. For the current segment the next record goes there.
    offset: u64,
    chain: u32,
    identity: FileIdentity,
}

impl Written {
    fn end(&self) -> u64 {
        self.base + self.offset
    }

    fn closed(&self) -> ClosedSegment {
        let (num, end_offset, chain) = (self.num, self.offset, self.chain);
        ClosedSegment { num, end_offset, end: Lsn(self.end()), chain }
    }

    /// Writes header and link into `prepared`, which becomes the segment at `base`.
    fn begin(
        db_id: u64,
        prepared: PreparedSegment,
        base: u64,
        synced: u64,
        previous: Option<&ClosedSegment>,
    ) -> Result<Written> {
        let PreparedSegment { num, path, len, recycled, prefaulted, file } = prepared;
        let version = segment::FORMAT_VERSION;
        let header = Header { version, recycled, db_id, num, base, len };
        let mut bytes = Vec::with_capacity(FIRST_RECORD);
        let chain = segment::encode_start(&mut bytes, &header, synced, previous)?;
        file.write_at(0, &bytes).context("start segment", &path)?;
        let identity = FileIdentity::new(db_id, num);
        let offset = FIRST_RECORD as u64;
        Ok(Written { num, path, file, prefaulted, len, base, offset, chain, identity })
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    db_id: u64,
    current: Written,
    /// True once nothing may be appended to `current` any more: its end was stated in a link that may
    /// be on disk, or a write to it failed.
    sealed: bool,
    /// Closed segments, oldest first.
    closed: VecDeque<Written>,
    spare: Option<PreparedSegment>,
    /// Prepared segments that will not be used; the caller removes the files.
    given_up: Vec<FileNum>,
    /// The furthest synced position that a record states.
    stated: u64,
    failure: Option<Failure>,
    scratch: Vec<u8>,
}

impl Writer {
    pub(super) fn start(
        db_id: u64,
        first: PreparedSegment,
        base: u64,
        synced: u64,
        previous: Option<ClosedSegment>,
    ) -> Result<Writer> {
        let current = Written::begin(db_id, first, base, synced, previous.as_ref())?;
        Ok(Writer {
            db_id,
            current,
            sealed: false,
            closed: VecDeque::new(),
            spare: None,
            given_up: Vec::new(),
            stated: synced,
            failure: None,
            scratch: Vec::new(),
        })
    }

    pub(super) fn end(&self) -> u64 {
        self.current.end()
    }

    pub(super) fn stated(&self) -> u64 {
        self.stated
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(super) fn fail(&mut self, failure: Failure) -> Error {
        match (&self.failure, &failure) {
            // What is known of the files matters more than why appends ended before.
            (Some(Failure::Append(_) | Failure::Closed), Failure::Sync(_)) | (None, _) => {
                self.failure.insert(failure).error()
            }
            (Some(first), _) => first.error(),
        }
    }

    /// How every segment in use ended, the current one last.
    pub(super) fn ends(&self) -> Vec<ClosedSegment> {
        self.closed.iter().chain([&self.current]).map(Written::closed).collect()
    }

    /// Writes a record, in a new segment if needed; true if the log rolled.
    #[inline]
    pub(super) fn append(
        &mut self,
        kind: Kind,
        payload: &[u8],
        synced: u64,
    ) -> Result<Result<bool, NeedSegment>> {
        if let Some(failure) = &self.failure {
            return Err(failure.error());
        }
        let room = self.current.len - self.current.offset;
        let roll = self.sealed || record::framed_len(payload.len()) as u64 > room;
        if roll {
            let min_len = segment::len_for(payload.len()).max(segment::LEN_MIN);
            match self.spare.take_if(|spare| spare.len >= min_len) {
                Some(spare) => {
                    self.roll(spare, 0, synced)?;
                    base::probe!("log rolled");
                }
                None => {
                    base::probe!("append without a spare segment");
                    return Ok(Err(NeedSegment { min_len }));
                }
            }
        }
        match self.write(kind, payload, synced) {
            Ok(()) => Ok(Ok(roll)),
            Err(error) if base::planted::is(1) => {
                self.current.offset += record::framed_len(payload.len()) as u64;
                Err(error)
            }
            Err(error) => Err(self.abandon(error, payload.len(), synced)),
        }
    }

    #[inline]
    fn write(&mut self, kind: Kind, payload: &[u8], synced: u64) -> Result<()> {
        let Writer { current, scratch, .. } = self;
        scratch.clear();
        let lag = current.end() - synced;
        let crc = record::encode(scratch, current.identity, current.offset, lag, kind, payload)?;
        if let Err(error) = current.file.write_at(current.offset, scratch) {
            return Err(Error::io("append to segment", &current.path, error));
        }
        current.offset += scratch.len() as u64;
        current.chain = segment::chain(current.chain, crc);
        self.stated = synced;
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// Makes `spare` the current segment; its positions begin `gap` bytes behind the end.
    fn roll(&mut self, spare: PreparedSegment, gap: u64, synced: u64) -> Result<()> {
        // The link may reach the disk even if this fails: from here on the end of `current` is final.
        self.sealed = true;
        let (num, base) = (spare.num, self.end() + gap);
        match Written::begin(self.db_id, spare, base, synced, Some(&self.current.closed())) {
            Ok(next) => {
                self.closed.push_back(std::mem::replace(&mut self.current, next));
                self.sealed = false;
                self.stated = synced;
                Ok(())
            }
            Err(error) => {
                base::probe!("roll of the log failed");
                self.given_up.push(num);
                Err(error)
            }
        }
    }

    /// Goes on to the spare if there is one.
    pub(super) fn roll_to_spare(&mut self, synced: u64) -> Result<bool> {
        if let Some(failure) = &self.failure {
            return Err(failure.error());
        }
        match self.spare.take() {
            Some(spare) => self.roll(spare, 0, synced).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        self.closed.is_empty() && self.current.offset == FIRST_RECORD as u64
    }

    pub(super) fn file_bytes(&self) -> u64 {
        let used = self.closed.iter().chain([&self.current]).map(|segment| segment.len);
        used.chain(self.spare.iter().map(|spare| spare.len)).sum()
    }

    /// After a failed write: closes the segment at its last good offset, durably, so that the record,
    /// whatever part of it reached the file, is never read. Returns what the failed append returns.
    fn abandon(&mut self, error: Error, payload_len: usize, synced: u64) -> Error {
        self.sealed = true;
        let Some(spare) = self.spare.take() else {
            base::probe!("failed append stopped the log");
            return self.fail(Failure::Append(Arc::new(error)));
        };
        if self.roll(spare, record::framed_len(payload_len) as u64, synced).is_err() {
            return self.fail(Failure::Append(Arc::new(error)));
        }
        // `synced` does not move: the abandoned segment may hold records that no sync has covered.
        match self.current.file.sync() {
            Ok(()) => {
                base::probe!("failed append closed off by a roll");
                error
            }
            Err(e) => {
                base::probe!("sync failed after a failed append");
                let cause = Error::io("sync segment", &self.current.path, e);
                self.fail(Failure::Sync(Arc::new(cause)))
            }
        }
    }

    pub(super) fn install_spare(&mut self, spare: PreparedSegment) {
        let old = self.spare.replace(spare);
        if old.is_some() {
            base::probe!("spare segment given up for a larger one");
        }
        self.given_up.extend(old.map(|old| old.num));
    }

    /// The files that records will go to and that nobody has prefaulted, which the caller does now.
    pub(super) fn take_unfaulted(&mut self) -> Vec<Arc<dyn SegmentFile>> {
        let current = (&mut self.current.prefaulted, &self.current.file);
        let spare = self.spare.as_mut().map(|spare| (&mut spare.prefaulted, &spare.file));
        let files = [Some(current), spare].into_iter().flatten();
        files
            .filter_map(|(done, file)| (!std::mem::replace(done, true)).then(|| Arc::clone(file)))
            .collect()
    }

    pub(super) fn lacks_spare(&self) -> bool {
        self.spare.is_none() && self.failure.is_none()
    }

    pub(super) fn wants_spare(&self) -> bool {
        self.lacks_spare() && !self.is_blank()
    }

    /// The files that hold bytes behind `synced`, oldest first.
    pub(super) fn unsynced(&self, synced: u64) -> Vec<Written> {
        if base::planted::is(8) {
            return vec![self.current.clone()];
        }
        let all = self.closed.iter().chain([&self.current]);
        all.filter(|segment| segment.end() > synced).cloned().collect()
    }

    pub(super) fn segments(&self, synced: u64) -> Vec<SegmentInfo> {
        let info = |segment: &Written, closed: bool| SegmentInfo {
            num: segment.num,
            start: Lsn(segment.base),
            end: Lsn(segment.end()),
            len_bytes: segment.len,
            closed: (closed && segment.end() <= synced).then(|| segment.closed()),
        };
        let closed = self.closed.iter().map(|segment| info(segment, true));
        closed.chain([info(&self.current, false)]).collect()
    }

    /// `floor` is at most the synced position.
    pub(super) fn remove_before(&mut self, floor: u64) -> Vec<FileNum> {
        let count = self.closed.partition_point(|segment| segment.end() <= floor);
        let mut gone: Vec<FileNum> =
            self.closed.drain(..count).map(|segment| segment.num).collect();
        gone.append(&mut self.given_up);
        gone
    }
}
