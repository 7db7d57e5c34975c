//! Segment files: header, link, preparation.
//!
//! ```text
//! offset size field
//!      0    8 magic    b"ESKERLOG"
//!      8    4 version  u32 LE, of the format of the segment
//!     12    4 recycled u32 LE, 1 = the file held an older segment before, so bytes behind the end may be old ones
//!     16    8 db_id    u64 LE
//!     24    8 num      u64 LE, the file number
//!     32    8 base     u64 LE, Lsn of offset 0 of the file
//!     40    8 len      u64 LE, length of the file
//!     48    4 crc      u32 LE, CRC-32 of bytes 0..48
//!     52    4 zero
//!     56      records; the first is a link
//! ```
//! Payload of a link, about the previous segment:
//!
//! ```text
//!      0    8 num        u64 LE
//!      8    8 end_offset u64 LE, its valid length
//!     16    8 end        u64 LE, Lsn of that offset
//!     24    4 chain      u32 LE, rolling checksum over the checksums of its records, the link included
//!     28    4 present    u32 LE, 0 = there is no previous segment, all other fields are 0
//! ```
//! Header and link are written when the log rolls into the segment, not when it is prepared. They share
//! the first 512 bytes. Magic, version and crc keep their places in every version.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::checksum::crc32;
use base::coding::Reader;
use base::{Error, FileName, FileNum, IoContext, Result};
use vfs::{Fs, SegmentFile};

use crate::Lsn;
use crate::record::{self, FileIdentity, Kind};

/// Newest version of the segment format; the only one so far.
pub const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"ESKERLOG";
const CRC_OFFSET: usize = 48;
/// Bytes before the link.
pub const HEADER_LEN: usize = CRC_OFFSET + 2 * size_of::<u32>();
const _: () = assert!(HEADER_LEN == 56, "drawing and constants disagree");
const LINK_LEN: usize = 3 * size_of::<u64>() + 2 * size_of::<u32>();
const _: () = assert!(LINK_LEN == 32, "drawing and constants disagree");
/// Offset of the first record behind the link.
pub const FIRST_RECORD: usize = HEADER_LEN + record::framed_len(LINK_LEN);
const _: () = assert!(FIRST_RECORD == 104, "drawing and constants disagree");
/// Shortest segment: room for header, link and a marker.
pub const LEN_MIN: u64 = (FIRST_RECORD + record::HEADER_LEN) as u64;
/// Longest segment: 64 GiB; keeps sums of offsets far from overflow.
pub const LEN_MAX: u64 = 64 << 30;

/// Length of the shortest segment that holds one record with `payload_len` bytes of payload.
#[must_use]
pub fn len_for(payload_len: usize) -> u64 {
    (FIRST_RECORD + record::framed_len(payload_len)) as u64
}

/// How a segment ended: what a link, and perhaps the manifest, says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedSegment {
    /// Its file number.
    pub num: FileNum,
    /// Its valid length in bytes, header included.
    pub end_offset: u64,
    /// Position behind its last record: its base plus `end_offset`.
    pub end: Lsn,
    /// Rolling checksum over the checksums of its records.
    pub chain: u32,
}

/// Adds the checksum of the next record to a chain; a segment starts with 0.
#[inline]
pub(crate) fn chain(chain: u32, crc: u32) -> u32 {
    (chain.rotate_left(7) ^ crc).wrapping_mul(0x9e37_79b1).wrapping_add(1)
}

/// The decoded header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) recycled: bool,
    pub(crate) db_id: u64,
    pub(crate) num: FileNum,
    pub(crate) base: u64,
    pub(crate) len: u64,
}

impl Header {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&u32::from(self.recycled).to_le_bytes());
        for field in [self.db_id, self.num.0, self.base, self.len] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let crc = crc32(0, &[&out[start..]]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    /// `None` if magic, checksum or padding are wrong. All other fields are the caller's to judge.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER_LEN)?;
        let mut r = Reader::new(bytes);
        let magic = r.bytes(MAGIC.len())?;
        let (version, recycled) = (r.u32()?, r.u32()?);
        let (db_id, num, base, len) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let intact =
            magic == MAGIC && r.u32()? == crc32(0, &[&bytes[..CRC_OFFSET]]) && r.u32()? == 0;
        let header =
            Header { version, recycled: recycled != 0, db_id, num: FileNum(num), base, len };
        intact.then_some(header)
    }
}

/// The id of the database that the segment in `path` belongs to, if its header can be read: for salvage.
///
/// # Errors
/// [`Error::Io`].
pub fn database_of(fs: &dyn Fs, path: &Path) -> Result<Option<u64>> {
    let file = fs.open(path).context("open segment", path)?;
    let mut bytes = [0; HEADER_LEN];
    let mut filled = 0;
    while filled < HEADER_LEN {
        match file.read_at(&mut bytes[filled..], filled as u64).context("read segment", path)? {
            0 => return Ok(None),
            read => filled += read,
        }
    }
    Ok(Header::decode(&bytes).map(|header| header.db_id))
}

pub(crate) fn encode_link(previous: Option<&ClosedSegment>) -> [u8; LINK_LEN] {
    let mut out = [0; LINK_LEN];
    if let Some(previous) = previous {
        out[..8].copy_from_slice(&previous.num.0.to_le_bytes());
        out[8..16].copy_from_slice(&previous.end_offset.to_le_bytes());
        out[16..24].copy_from_slice(&previous.end.0.to_le_bytes());
        out[24..28].copy_from_slice(&previous.chain.to_le_bytes());
        out[28..].copy_from_slice(&1u32.to_le_bytes());
    }
    out
}

/// `None` if the payload is no link; `Some(None)` if there was no previous segment.
pub(crate) fn decode_link(payload: &[u8]) -> Option<Option<ClosedSegment>> {
    let mut r = Reader::new(payload);
    let (num, end_offset, end, chain) = (FileNum(r.u64()?), r.u64()?, Lsn(r.u64()?), r.u32()?);
    let present = r.u32()?;
    let closed = ClosedSegment { num, end_offset, end, chain };
    r.is_empty().then_some((present != 0).then_some(closed))
}

/// Header and link as they are written, in one piece, when a log starts to use the segment.
/// Also returns the chain after the link.
pub(crate) fn encode_start(
    out: &mut Vec<u8>,
    header: &Header,
    synced: u64,
    previous: Option<&ClosedSegment>,
) -> Result<u32> {
    let identity = FileIdentity::new(header.db_id, header.num);
    header.encode(out);
    let lag = header.base + HEADER_LEN as u64 - synced;
    let link = encode_link(previous);
    let crc = record::encode(out, identity, HEADER_LEN as u64, lag, Kind::Link, &link)?;
    Ok(chain(0, crc))
}

/// A segment file that stands ready to be written.
#[derive(Debug)]
pub struct PreparedSegment {
    pub(crate) num: FileNum,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    pub(crate) recycled: bool,
    pub(crate) prefaulted: bool,
    pub(crate) file: Arc<dyn SegmentFile>,
}

impl PreparedSegment {
    /// Its file number.
    #[must_use]
    pub fn num(&self) -> FileNum {
        self.num
    }

    /// Length of the file in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment has room for a header at least")]
    pub fn len(&self) -> u64 {
        self.len
    }
}

/// Makes segment `num` of `len` bytes in `dir`, syncs the file and its name.
///
/// With `recycle` the file of that segment is renamed instead of creating one; the caller's manifest must
/// have stopped listing it, durably. Its old records can not come back: records are bound to the
/// number of their file. Slow, for a background job. List the segment durably in the
/// manifest before the log may use it.
///
/// # Errors
/// [`Error::InvalidArgument`] if `len` is not in [`LEN_MIN`]`..=`[`LEN_MAX`], or the recycled file has another
/// length; then nothing was changed. [`Error::Io`] or [`Error::NoSpace`]; the file `num` may exist then.
pub fn prepare_segment(
    fs: &dyn Fs,
    dir: &Path,
    num: FileNum,
    len: u64,
    recycle: Option<FileNum>,
) -> Result<PreparedSegment> {
    if !(LEN_MIN..=LEN_MAX).contains(&len) {
        let detail = format!("{len} bytes, allowed are {LEN_MIN} to {LEN_MAX}");
        return Err(Error::invalid("segment length", detail));
    }
    let path = FileName::Segment(num).in_dir(dir);
    let file = match recycle {
        Some(old) => {
            base::probe!("log segment recycled");
            rename_segment(fs, &FileName::Segment(old).in_dir(dir), &path, len)?
        }
        None => fs.create_segment(&path, len).context("create segment", &path)?,
    };
    file.sync().context("sync segment", &path)?;
    fs.sync_dir(dir).context("sync directory", dir)?;
    Ok(PreparedSegment { num, path, len, recycled: recycle.is_some(), prefaulted: false, file })
}

fn rename_segment(fs: &dyn Fs, old: &Path, new: &Path, len: u64) -> Result<Arc<dyn SegmentFile>> {
    let found = fs.metadata(old).context("stat segment", old)?.len;
    if found != len {
        let detail =
            format!("recycled file has {found} bytes, asked for {len} path={}", old.display());
        return Err(Error::invalid("segment length", detail));
    }
    fs.rename(old, new).context("recycle segment", new)?;
    fs.open_segment(new).context("open segment", new)
}

/// Makes what a recovery found in segments durable, so that a new log may rely on them.
///
/// Needed before [`Log::start`](crate::Log::start) if the segments stay listed: after a kill of the process
/// their tails may be in the page cache only. Not needed if all their records were written to tables. What lies below
/// `synced`, which is [`Replayed::synced`](crate::Replayed::synced), is on the disk and is left alone.
///
/// The bytes are written again before they are synced. After a failed sync the kernel may hold pages that differ from
/// the disk and are marked clean; a later sync passes over them and reports success.
///
/// # Errors
/// [`Error::Io`] of the open, the read or the write, or [`Error::SyncFailed`].
///
/// # Source
/// Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020.
pub fn make_durable(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[ClosedSegment],
    synced: Lsn,
) -> Result<()> {
    for segment in segments.iter().filter(|segment| segment.end > synced) {
        let path = FileName::Segment(segment.num).in_dir(dir);
        let file = fs.open_segment(&path).context("open segment", &path)?;
        let base = segment.end.0.saturating_sub(segment.end_offset);
        let durable = synced.0.saturating_sub(base);
        rewrite(fs, &path, &*file, durable, segment.end_offset)?;
        let synced = file.sync().context("sync segment", &path);
        synced.map_err(|e| Error::SyncFailed { source: Arc::new(e) })?;
    }
    Ok(())
}

/// Stores the bytes of a segment between two offsets over themselves.
fn rewrite(
    fs: &dyn Fs,
    path: &Path,
    file: &dyn SegmentFile,
    mut offset: u64,
    end: u64,
) -> Result<()> {
    const CHUNK: u64 = 1 << 20;
    let reader = fs.open(path).context("open segment", path)?;
    let mut chunk = vec![0; end.saturating_sub(offset).min(CHUNK) as usize];
    while offset < end {
        let bytes = &mut chunk[..(end - offset).min(CHUNK) as usize];
        reader.read_exact_at(bytes, offset).context("read segment", path)?;
        file.write_at(offset, bytes).context("write segment", path)?;
        file.begin_sync(offset, bytes.len());
        offset += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_start_of_a_segment() {
        let header = Header {
            version: FORMAT_VERSION,
            recycled: true,
            db_id: 0x0102_0304_0506_0708,
            num: FileNum(13),
            base: 4096,
            len: 65536,
        };
        let previous =
            ClosedSegment { num: FileNum(12), end_offset: 1000, end: Lsn(4000), chain: 7 };
        let mut out = Vec::new();
        encode_start(&mut out, &header, 3000, Some(&previous)).expect("short");
        assert_eq!(out.len(), FIRST_RECORD);
        assert_eq!(Header::decode(&out), Some(header));
        assert_eq!(decode_link(&encode_link(Some(&previous))), Some(Some(previous)));
        assert_eq!(decode_link(&encode_link(None)), Some(None));
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        let (header, link) = hex.split_at(2 * HEADER_LEN);
        assert_eq!(
            header,
            "45534b45524c4f47010000000100000008070605040302010d00000000000000\
             001000000000000000000100000000002dca7c6700000000"
        );
        assert_eq!(
            link,
            "1e5aad342000002090000000891aee450c00000000000000e803000000000000\
             a00f0000000000000700000001000000"
        );
    }

    /// Links and manifests store chains: they must come out the same for ever, and depend on every bit and on the order.
    #[test]
    fn golden_chain() {
        let crcs = [0, 0xdead_beef, 0x1234_5678, u32::MAX];
        let of = |crcs: [u32; 4]| crcs.into_iter().fold(0, chain);
        assert_eq!(of(crcs), 0x0c3d_ae86);
        for (at, bit) in (0..4).flat_map(|at| (0..32).map(move |bit| (at, bit))) {
            let mut other = crcs;
            other[at] ^= 1 << bit;
            assert_ne!(of(other), of(crcs), "bit {bit} of {at}");
        }
        assert_ne!(of([0xdead_beef, 0, 0x1234_5678, u32::MAX]), of(crcs));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header =
            Header { version: 1, recycled: false, db_id: 1, num: FileNum(2), base: 8, len: 512 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Header::decode(&bytes[..cut]), None);
        }
    }
}
