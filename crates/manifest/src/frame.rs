//! Edits as records of a file: cut into parts, followed by markers, and found again.
//!
//! The framing is that of [`wal::record`]. The payload of a `Data` record is a flag byte, 1 if the edit
//! goes on in the next record, else 0, and a part of the edit.
//!
//! A marker is written, unsynced, after every sync, and like every record it says how much of the file
//! was synced before it. So a broken record is a torn write only if nothing behind it claims that it was
//! synced.

use std::borrow::Cow;

use base::Result;
use base::limits::EDIT_BYTES_MAX;
use wal::record::{self, ALIGN, FileIdentity, Kind, Record};

/// Length of a marker in the file.
pub(crate) const MARKER_LEN: usize = record::framed_len(0);

/// The bytes of one edit as they lie at `position` of a file of which `synced` bytes are synced, in
/// records of at most `part_bytes` of the edit.
pub(crate) fn encode_edit(
    identity: FileIdentity,
    position: u64,
    synced: u64,
    edit: &[u8],
    part_bytes: usize,
) -> Result<Vec<u8>> {
    let (mut out, mut payload) = (Vec::new(), Vec::new());
    let mut parts = edit.chunks(part_bytes.clamp(1, EDIT_BYTES_MAX)).peekable();
    loop {
        let part = parts.next().unwrap_or_default();
        payload.clear();
        payload.push(u8::from(parts.peek().is_some()));
        payload.extend_from_slice(part);
        let at = position + out.len() as u64;
        record::encode(&mut out, identity, at, at - synced, Kind::Data, &payload)?;
        if parts.peek().is_none() {
            return Ok(out);
        }
    }
}

/// The bytes of a marker at `position`, which says that all before it is synced.
pub(crate) fn encode_marker(identity: FileIdentity, position: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    record::encode(&mut out, identity, position, 0, Kind::Marker, &[])?;
    Ok(out)
}

/// What stands between two offsets of a file.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Edit(Cow<'a, [u8]>),
    Marker,
}

/// Walks over the records of a file.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    file: &'a [u8],
    identity: FileIdentity,
    /// Offset behind the last whole item.
    pub(crate) position: usize,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(file: &'a [u8], identity: FileIdentity, position: usize) -> Self {
        FrameReader { file, identity, position }
    }

    /// The next whole item; `None` at the end of the file and at what is not whole.
    pub(crate) fn next(&mut self) -> Option<Item<'a>> {
        let Some(record) = self.record(self.position) else { return self.skip_marker() };
        match record.kind {
            Kind::Data => self.edit(record),
            Kind::Marker => {
                self.position += record.len;
                Some(Item::Marker)
            }
            Kind::Link => None,
        }
    }

    /// True if a record behind [`position`](Self::position) claims that bytes from there on were synced:
    /// then what is wrong there is damage.
    pub(crate) fn proves_damage(&self) -> bool {
        let mut at = self.position;
        while let Some(found) =
            record::find(self.file.get(at..).unwrap_or_default(), self.identity, at as u64)
        {
            at += found;
            if self
                .record(at)
                .and_then(|r| synced(&r, at))
                .is_some_and(|s| s > self.position as u64)
            {
                return true;
            }
            at += ALIGN;
        }
        false
    }

    fn record(&self, at: usize) -> Option<Record<'a>> {
        record::decode(self.file.get(at..)?, self.identity, at as u64).ok()
    }

    fn edit(&mut self, first: Record<'a>) -> Option<Item<'a>> {
        let (&more, part) = first.payload.split_first()?;
        let (mut edit, mut more, mut end) = (Cow::Borrowed(part), more, self.position + first.len);
        while more != 0 {
            let next = self.record(end).filter(|r| r.kind == Kind::Data)?;
            let (&flag, part) = next.payload.split_first()?;
            base::probe!("edit in several records");
            edit.to_mut().extend_from_slice(part);
            (more, end) = (flag, end + next.len);
        }
        self.position = end;
        Some(Item::Edit(edit))
    }

    /// A marker is not synced, so a crash may leave a hole in its place while the edit behind it is
    /// whole. Such an edit says that everything before the marker was synced.
    fn skip_marker(&mut self) -> Option<Item<'a>> {
        let behind = self.position + MARKER_LEN;
        let next = self.record(behind).filter(|r| r.kind == Kind::Data)?;
        (synced(&next, behind) == Some(self.position as u64)).then(|| {
            base::probe!("hole in place of a marker");
            self.position = behind;
            Item::Marker
        })
    }
}

/// How many bytes of the file were synced when `record`, which stands at `at`, was written.
fn synced(record: &Record<'_>, at: usize) -> Option<u64> {
    record.lag.and_then(|lag| (at as u64).checked_sub(lag))
}
