//! From the bytes of a manifest file to the state they add up to. No I/O.
//!
//! ```text
//! offset size field
//!      0    8 magic       b"ESKERMAN"
//!      8    8 database    u64 LE, id of the database
//!     16    8 file        u64 LE, number of this file
//!     24    4 version     u32 LE, format version
//!     28    4 crc         u32 LE, CRC-32 of bytes 0..28
//!     32      records     snapshot edit, (marker? edit)*, marker?; see `frame`
//! ```
//! Every edit was synced before anything relied on it, and no edit was written behind an unsynced one.
//! So only the end of the file may be torn; everything else that is wrong is damage.

use std::path::{Path, PathBuf};

use base::checksum::crc32;
use base::coding::Reader;
use base::{Error, FileName, FileNum, Result};
use wal::record::{ALIGN, FileIdentity};

use crate::frame::{FrameReader, Item, encode_edit};
use crate::{DecodeError, State, VersionEdit};

const MAGIC: &[u8; 8] = b"ESKERMAN";
/// The newest format that this build reads, and the one it writes.
const FORMAT_VERSION: u32 = 1;
const CRC_OFFSET: usize = 28;
const FILE_HEADER_LEN: usize = CRC_OFFSET + size_of::<u32>();
const _: () = assert!(FILE_HEADER_LEN == 32, "drawing and constants disagree");
const _: () = assert!(FILE_HEADER_LEN.is_multiple_of(ALIGN));

/// The bytes of a new manifest: header and snapshot.
pub(crate) fn new_file(num: FileNum, state: &State, part_bytes: usize) -> Result<Vec<u8>> {
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&state.db_id.to_le_bytes());
    file.extend_from_slice(&num.0.to_le_bytes());
    file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let crc = crc32(0, &[&file]);
    file.extend_from_slice(&crc.to_le_bytes());
    let mut snapshot = Vec::new();
    state.to_edit().encode(&mut snapshot);
    let identity = FileIdentity::new(state.db_id, num);
    file.extend(encode_edit(identity, file.len() as u64, 0, &snapshot, part_bytes)?);
    Ok(file)
}

/// What a manifest file holds.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) state: State,
    /// Length of header and snapshot.
    pub(crate) snapshot_len: u64,
    /// Length of all that is whole; behind it lies nothing but a torn write.
    pub(crate) valid_len: u64,
    /// True if the last edit is known to have been synced.
    pub(crate) proven: bool,
    /// Offset behind the last edit.
    pub(crate) edits_end: u64,
}

/// Reads the whole of `bytes`, the contents of manifest `num` of database `db_id` in `dir`.
pub(crate) fn replay(dir: &Path, num: FileNum, db_id: u64, bytes: &[u8]) -> Result<Replayed> {
    let file = File { path: FileName::Manifest(num).in_dir(dir) };
    file.check_header(bytes, num, db_id)?;
    let mut frames = FrameReader::new(bytes, FileIdentity::new(db_id, num), FILE_HEADER_LEN);
    let mut state = State::new(db_id);
    // CURRENT got this file's name only after the snapshot was synced: it cannot be torn.
    match frames.next() {
        Some(Item::Edit(edit)) => file.apply(&mut state, FILE_HEADER_LEN, &edit)?,
        _ => return Err(file.corruption(FILE_HEADER_LEN, "no whole snapshot")),
    }
    let (snapshot_len, mut proven, mut start) = (frames.position, true, frames.position);
    let mut edits_end = snapshot_len;
    while let Some(item) = frames.next() {
        match item {
            Item::Marker => proven = true,
            Item::Edit(edit) => {
                proven = false;
                file.apply(&mut state, start, &edit)?;
                edits_end = frames.position;
            }
        }
        start = frames.position;
    }
    if frames.proves_damage() && !base::planted::is(14) {
        base::probe!("edit damaged below the synced position");
        return Err(file.corruption(frames.position, "a record that was synced is damaged"));
    }
    file.check_state(&state, num, frames.position)?;
    let (snapshot_len, valid_len) = (snapshot_len as u64, frames.position as u64);
    Ok(Replayed { state, snapshot_len, valid_len, proven, edits_end: edits_end as u64 })
}

/// The state that the edits before the first damage in `bytes` add up to; `None` if not even the snapshot can be read.
pub(crate) fn replay_start(num: FileNum, db_id: u64, bytes: &[u8]) -> Option<State> {
    let mut frames = FrameReader::new(bytes, FileIdentity::new(db_id, num), FILE_HEADER_LEN);
    let (mut state, mut has_snapshot) = (State::new(db_id), false);
    while let Some(item) = frames.next() {
        let Item::Edit(edit) = item else { continue };
        let applied = VersionEdit::decode(&edit).ok().and_then(|edit| state.apply(&edit).ok());
        if applied.is_none() {
            break;
        }
        has_snapshot = true;
    }
    (has_snapshot && state.check_invariants().is_ok()).then_some(state)
}

/// The identity of the database in the header of a manifest.
pub(crate) fn db_id_of(bytes: &[u8]) -> Option<u64> {
    let (covered, crc) = bytes.get(..FILE_HEADER_LEN)?.split_at_checked(CRC_OFFSET)?;
    let mut r = Reader::new(covered.strip_prefix(MAGIC)?);
    (Reader::new(crc).u32()? == crc32(0, &[covered])).then(|| r.u64())?
}

/// For errors: the file they are about.
struct File {
    path: PathBuf,
}

impl File {
    fn check_header(&self, bytes: &[u8], num: FileNum, db_id: u64) -> Result<()> {
        let (covered, mut stored) = bytes
            .get(..FILE_HEADER_LEN)
            .and_then(|header| header.split_at_checked(CRC_OFFSET))
            .map(|(covered, crc)| (covered, Reader::new(crc)))
            .ok_or_else(|| self.corruption(0, "file header ends early"))?;
        if stored.u32() != Some(crc32(0, &[covered])) {
            return Err(self.corruption(0, "checksum of the file header is wrong"));
        }
        let mut r = Reader::new(covered);
        if r.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err(self.corruption(0, "not a manifest"));
        }
        if (r.u64(), r.u64()) != (Some(db_id), Some(num.0)) {
            return Err(self.corruption(0, "manifest of another database, or renamed"));
        }
        match r.u32() {
            Some(FORMAT_VERSION) => Ok(()),
            found => Err(self.unsupported(found.unwrap_or(0))),
        }
    }

    fn apply(&self, state: &mut State, offset: usize, edit: &[u8]) -> Result<()> {
        let edit = VersionEdit::decode(edit).map_err(|e| match e {
            DecodeError::UnknownField { .. } => self.unsupported(FORMAT_VERSION + 1),
            DecodeError::Malformed { offset: inside, detail } => {
                self.corruption(offset, format!("edit: {detail} at byte {inside} of it"))
            }
        })?;
        state.apply_parts(&edit).map_err(|e| self.corruption(offset, e))
    }

    fn check_state(&self, state: &State, num: FileNum, offset: usize) -> Result<()> {
        state.check_invariants().map_err(|e| self.corruption(offset, e))?;
        if state.next_file <= num {
            return Err(self.corruption(offset, "the next file number is that of this file"));
        }
        Ok(())
    }

    fn corruption(&self, offset: usize, detail: impl Into<String>) -> Error {
        Error::corruption(&self.path, offset as u64, detail)
    }

    fn unsupported(&self, found: u32) -> Error {
        let path = self.path.clone();
        Error::UnsupportedFormat { path, found, supported: FORMAT_VERSION }
    }
}
