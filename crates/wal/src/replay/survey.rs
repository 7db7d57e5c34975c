//! The first look at every listed segment: header, link, and which of them make up the log.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Error, FileName, FileNum, IoContext, Result};
use vfs::{Fs, RandomAccessFile};

use super::SegmentToReplay;
use super::window::Window;
use crate::Lsn;
use crate::record::{self, FileIdentity, Kind};
use crate::segment::{self, ClosedSegment, FIRST_RECORD, FORMAT_VERSION, HEADER_LEN, Header};

/// A listed segment and what its first bytes say.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub(super) num: FileNum,
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    pub(super) closed: Option<ClosedSegment>,
    /// `None` if there is no such file.
    file: Option<Arc<dyn RandomAccessFile>>,
    /// Bytes to look at: the length of the file, or of the segment if the file is longer.
    pub(super) len: u64,
    pub(super) start: Start,
    /// The link, if header and link are valid: the previous segment, if there was one.
    pub(super) link: Option<Option<ClosedSegment>>,
    /// Wrong in a way that no power cut explains: offset and what.
    pub(super) damage: Option<(u64, String)>,
    /// A later link leaves this segment out.
    pub(super) superseded: bool,
    /// Where the next segment's link says that this one ends.
    pub(super) linked_end: Option<ClosedSegment>,
}

/// What stands at offset 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A valid header of this segment.
    Header(Header),
    /// The header of an older segment: recycled and not used since.
    Stale,
    /// Zeros.
    Blank,
    /// Anything else.
    Garbage,
}

impl Surveyed {
    /// The bytes from `at`, at least `want` unless they would reach past the end.
    #[inline]
    pub(super) fn bytes<'w>(
        &self,
        window: &'w mut Window,
        at: u64,
        want: usize,
    ) -> Result<&'w [u8]> {
        match &self.file {
            Some(file) => window.at(file, &self.path, at, want, self.len),
            None => Ok(&[]),
        }
    }

    /// Fills `buf` from `at`, past the window.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(buf, at).context("read segment", &self.path),
            None => Ok(()),
        }
    }

    pub(super) fn header(&self) -> Option<&Header> {
        match &self.start {
            Start::Header(header) => Some(header),
            _ => None,
        }
    }

    /// True if every byte that was not written by this segment is zero.
    pub(super) fn is_fresh(&self) -> bool {
        match self.start {
            Start::Header(header) => !header.recycled,
            Start::Blank => true,
            Start::Stale | Start::Garbage => false,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.file.is_none()
    }
}

/// Reads header and link of each of `listed`.
pub(super) fn survey(
    fs: &dyn Fs,
    dir: &Path,
    db_id: u64,
    listed: &[SegmentToReplay],
) -> Result<Vec<Surveyed>> {
    let mut window = Window::default();
    let mut all = Vec::with_capacity(listed.len());
    for segment in listed {
        window.reset();
        all.push(look_at(fs, dir, db_id, segment, listed, &mut window)?);
    }
    follow_links(&mut all);
    Ok(all)
}

fn look_at(
    fs: &dyn Fs,
    dir: &Path,
    db_id: u64,
    listed: &SegmentToReplay,
    all: &[SegmentToReplay],
    window: &mut Window,
) -> Result<Surveyed> {
    let path = FileName::Segment(listed.num).in_dir(dir);
    let mut segment = Surveyed {
        num: listed.num,
        identity: FileIdentity::new(db_id, listed.num),
        closed: listed.closed,
        file: None,
        len: 0,
        start: Start::Blank,
        link: None,
        damage: None,
        superseded: false,
        linked_end: None,
        path,
    };
    let path = &segment.path;
    let file = match fs.open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            base::probe!("listed segment is missing");
            segment.damage = Some((0, "listed segment is missing".into()));
            return Ok(segment);
        }
        opened => opened.context("open segment", path)?,
    };
    segment.len = file.len().context("stat segment", path)?;
    let bytes = window.at(&file, path, 0, FIRST_RECORD, segment.len.min(FIRST_RECORD as u64))?;
    segment.start = classify(bytes, listed.num);
    segment.damage = judge(&segment, bytes, db_id, all)?;
    if segment.header().is_some_and(|header| !is_possible(header)) {
        // Modes that pass over the damage must not count from there.
        segment.start = Start::Garbage;
    }
    if let (Start::Header(header), None) = (segment.start, &segment.damage) {
        segment.len = header.len;
    }
    if segment.header().is_some() {
        segment.link = link_of(bytes, segment.identity);
    }
    segment.file = Some(file);
    Ok(segment)
}

fn classify(bytes: &[u8], num: FileNum) -> Start {
    match Header::decode(bytes) {
        Some(header) if header.num == num => Start::Header(header),
        Some(_) => {
            base::probe!("recycled segment not used since");
            Start::Stale
        }
        None if bytes.iter().take(HEADER_LEN).all(|&b| b == 0) => Start::Blank,
        None => Start::Garbage,
    }
}

/// What no power cut explains: a prepared segment is synced, with its length, before it is listed.
fn judge(
    segment: &Surveyed,
    bytes: &[u8],
    db_id: u64,
    all: &[SegmentToReplay],
) -> Result<Option<(u64, String)>> {
    let len = segment.len;
    if len < segment::LEN_MIN {
        return Ok(Some((len, format!("segment is cut to {len} bytes"))));
    }
    let Some(header) = Header::decode(bytes) else { return Ok(None) };
    if header.db_id != db_id {
        return Ok(Some((0, format!("segment of another database, id {:016x}", header.db_id))));
    }
    if header.num != segment.num {
        // A recycled file has the header of a segment that is older and no longer listed.
        let listed = all.iter().any(|other| other.num == header.num);
        let swapped = listed || header.num > segment.num;
        return Ok(swapped.then(|| (0, format!("file holds segment {}", header.num))));
    }
    if header.version != FORMAT_VERSION {
        let (path, found) = (segment.path.clone(), header.version);
        return Err(Error::UnsupportedFormat { path, found, supported: FORMAT_VERSION });
    }
    if !is_possible(&header) {
        return Ok(Some((0, format!("impossible base {} or length {}", header.base, header.len))));
    }
    let cut = len < header.len;
    Ok(cut.then(|| (len, format!("segment is cut to {len} of {} bytes", header.len))))
}

/// Where no log ever gets: sums of offsets stay far from overflow below it.
const POSITION_MAX: Lsn = Lsn(Lsn::MAX.0 * 2);

fn is_possible(header: &Header) -> bool {
    Lsn(header.base) <= POSITION_MAX
        && header.base.is_multiple_of(8)
        && header.len <= segment::LEN_MAX
}

fn link_of(bytes: &[u8], identity: FileIdentity) -> Option<Option<ClosedSegment>> {
    let record = record::decode(bytes.get(HEADER_LEN..)?, identity, HEADER_LEN as u64).ok()?;
    if record.kind != Kind::Link {
        return None;
    }
    let link = segment::decode_link(record.payload)?;
    let possible = link.is_none_or(|previous| previous.end <= POSITION_MAX);
    possible.then_some(link)
}

/// From the newest link back: notes where each linked segment ends, and which ones are left out.
fn follow_links(all: &mut [Surveyed]) {
    let mut at = all.len();
    while let Some(newest) = all[..at].iter().rposition(|segment| segment.link.is_some()) {
        at = newest;
        let Some(Some(previous)) = all[newest].link else { continue };
        let Some(found) = all[..newest].iter().rposition(|s| s.num == previous.num) else {
            continue;
        };
        for left_out in &mut all[found + 1..newest] {
            left_out.superseded = true;
        }
        all[found].linked_end = Some(previous);
        at = found + 1;
    }
}
