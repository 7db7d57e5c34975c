//! The bytes of a [`VersionEdit`].
//!
//! ```text
//! edit    field*
//! field   tag varint, length varint, payload
//!
//! tag payload of an edit's field          tag payload of a field of 12
//!   1 next file          varint             1 added table:
//!   2 next keyspace      varint                 level, run, file      varints
//!   3 next run           varint                 table id              u64 LE
//!   4 last seq           varint                 size, entries, deletes, range tombstones,
//!   5 segment added      varint                 raw bytes             varints
//!   6 segment closed     num, end offset,       smallest, largest     each length varint, bytes
//!       end lsn varints, chain u32 LE           largest is exclusive  u8, 0 or 1
//!   7 segment removed    varint                 seq min, seq max, created micros   varints
//!   8 next lsn           varint             2 removed table   varint
//!   9 keyspace created   id varint,         3 flushed seq     varint
//!       name and options, each length
//!       varint, bytes
//!  10 keyspace dropped   varint
//!  11 options changed    id varint, options length varint, bytes
//!  12 table changes      keyspace varint, field*
//! ```
//! Payloads of more than one part, and those of 12, may grow by fields at their end. A reader skips
//! fields it does not know if their tag is 64 or more, and refuses the edit if it is less.

use base::coding::{Reader, put_length_prefixed, put_varint};
use base::{FileNum, KeyspaceId, SeqNo};

use crate::{AddedTable, ClosedSegment, NewKeyspace, RunId, TableChanges, TableMeta, VersionEdit};

/// The first tag that a reader which does not know it may skip.
const SKIPPABLE: u64 = 64;

mod tag {
    pub(super) const NEXT_FILE: u64 = 1;
    pub(super) const NEXT_KEYSPACE: u64 = 2;
    pub(super) const NEXT_RUN: u64 = 3;
    pub(super) const LAST_SEQ: u64 = 4;
    pub(super) const SEGMENT_ADDED: u64 = 5;
    pub(super) const SEGMENT_CLOSED: u64 = 6;
    pub(super) const SEGMENT_REMOVED: u64 = 7;
    pub(super) const NEXT_LSN: u64 = 8;
    pub(super) const KEYSPACE_CREATED: u64 = 9;
    pub(super) const KEYSPACE_DROPPED: u64 = 10;
    pub(super) const OPTIONS_CHANGED: u64 = 11;
    pub(super) const TABLE_CHANGES: u64 = 12;

    pub(super) const TABLE_ADDED: u64 = 1;
    pub(super) const TABLE_REMOVED: u64 = 2;
    pub(super) const FLUSHED_SEQ: u64 = 3;
}

/// Why the bytes of an edit could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A field is malformed.
    Malformed {
        /// Offset behind the last field of the edit that could be split off.
        offset: usize,
        /// The broken rule.
        detail: &'static str,
    },
    /// A newer version wrote a field that must not be skipped.
    UnknownField {
        /// Its tag.
        tag: u64,
    },
}

impl VersionEdit {
    /// Appends the bytes of this edit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, tag::NEXT_FILE, self.next_file.map(|n| n.0));
        put_number(out, tag::NEXT_KEYSPACE, self.next_keyspace.map(|n| u64::from(n.0)));
        put_number(out, tag::NEXT_RUN, self.next_run.map(|n| n.0));
        put_number(out, tag::LAST_SEQ, self.last_seq.map(|n| n.0));
        put_number(out, tag::SEGMENT_ADDED, self.segments_added.iter().map(|n| n.0));
        for segment in &self.segments_closed {
            put_field(out, tag::SEGMENT_CLOSED, |p| encode_closed(p, segment));
        }
        put_number(out, tag::SEGMENT_REMOVED, self.segments_removed.iter().map(|n| n.0));
        put_number(out, tag::NEXT_LSN, self.next_lsn);
        for new in &self.keyspaces_created {
            put_field(out, tag::KEYSPACE_CREATED, |p| {
                put_varint(p, u64::from(new.id.0));
                put_length_prefixed(p, new.name.as_bytes());
                put_length_prefixed(p, &new.options);
            });
        }
        let dropped = self.keyspaces_dropped.iter().map(|id| u64::from(id.0));
        put_number(out, tag::KEYSPACE_DROPPED, dropped);
        for (id, options) in &self.options_changed {
            put_field(out, tag::OPTIONS_CHANGED, |p| {
                put_varint(p, u64::from(id.0));
                put_length_prefixed(p, options);
            });
        }
        for changes in &self.tables {
            put_field(out, tag::TABLE_CHANGES, |p| encode_changes(p, changes));
        }
    }

    /// Reads an edit off `bytes`, all of them.
    ///
    /// Memory grows with `bytes`, never with a number found in them.
    ///
    /// # Errors
    /// [`DecodeError`]: the bytes are malformed, or come from a newer version.
    pub fn decode(bytes: &[u8]) -> Result<VersionEdit, DecodeError> {
        let (mut r, mut edit) = (Reader::new(bytes), VersionEdit::default());
        while !r.is_empty() {
            let offset = r.position();
            let at = |fault: Fault| fault.at(offset);
            let (tag, mut p) = field(&mut r).map_err(at)?;
            decode_field(&mut edit, tag, &mut p).map_err(at)?;
        }
        Ok(edit)
    }
}

fn put_field(out: &mut Vec<u8>, tag: u64, payload: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    payload(&mut bytes);
    put_varint(out, tag);
    put_length_prefixed(out, &bytes);
}

fn put_number(out: &mut Vec<u8>, tag: u64, values: impl IntoIterator<Item = u64>) {
    values.into_iter().for_each(|value| put_field(out, tag, |p| put_varint(p, value)));
}

fn encode_closed(p: &mut Vec<u8>, segment: &ClosedSegment) {
    put_varint(p, segment.num.0);
    put_varint(p, segment.end_offset);
    put_varint(p, segment.end_lsn);
    p.extend_from_slice(&segment.chain.to_le_bytes());
}

fn encode_changes(p: &mut Vec<u8>, changes: &TableChanges) {
    put_varint(p, u64::from(changes.keyspace.0));
    for added in &changes.added {
        put_field(p, tag::TABLE_ADDED, |p| encode_added(p, added));
    }
    put_number(p, tag::TABLE_REMOVED, changes.removed.iter().map(|n| n.0));
    put_number(p, tag::FLUSHED_SEQ, changes.flushed_seq.map(|n| n.0));
}

fn encode_added(p: &mut Vec<u8>, added: &AddedTable) {
    let t = &added.table;
    put_varint(p, u64::from(added.level));
    put_varint(p, added.run.0);
    put_varint(p, t.file.0);
    p.extend_from_slice(&t.table_id.to_le_bytes());
    for n in [t.size_bytes, t.entries, t.deletes, t.range_tombstones, t.raw_bytes] {
        put_varint(p, n);
    }
    put_length_prefixed(p, &t.smallest);
    put_length_prefixed(p, &t.largest);
    p.push(u8::from(t.largest_exclusive));
    for n in [t.seq_min.0, t.seq_max.0, t.created_micros] {
        put_varint(p, n);
    }
}

/// What is wrong, before it is known where.
enum Fault {
    Malformed(&'static str),
    UnknownField(u64),
}

impl Fault {
    fn at(self, offset: usize) -> DecodeError {
        match self {
            Fault::Malformed(detail) => DecodeError::Malformed { offset, detail },
            Fault::UnknownField(tag) => DecodeError::UnknownField { tag },
        }
    }
}

type Decoded<T> = Result<T, Fault>;

trait OrMalformed<T> {
    fn or_malformed(self, detail: &'static str) -> Decoded<T>;
}

impl<T> OrMalformed<T> for Option<T> {
    fn or_malformed(self, detail: &'static str) -> Decoded<T> {
        self.ok_or(Fault::Malformed(detail))
    }
}

fn field<'a>(r: &mut Reader<'a>) -> Decoded<(u64, Reader<'a>)> {
    let tag = r.varint().or_malformed("bad tag")?;
    let payload = r.length_prefixed().or_malformed("field ends early")?;
    Ok((tag, Reader::new(payload)))
}

fn decode_field(edit: &mut VersionEdit, tag: u64, p: &mut Reader<'_>) -> Decoded<()> {
    match tag {
        tag::NEXT_FILE => once(&mut edit.next_file, FileNum(number(p)?)),
        tag::NEXT_KEYSPACE => once(&mut edit.next_keyspace, keyspace_alone(p)?),
        tag::NEXT_RUN => once(&mut edit.next_run, RunId(number(p)?)),
        tag::LAST_SEQ => once(&mut edit.last_seq, SeqNo(number(p)?)),
        tag::SEGMENT_ADDED => push(&mut edit.segments_added, FileNum(number(p)?)),
        tag::SEGMENT_CLOSED => push(&mut edit.segments_closed, closed(p)?),
        tag::SEGMENT_REMOVED => push(&mut edit.segments_removed, FileNum(number(p)?)),
        tag::NEXT_LSN => once(&mut edit.next_lsn, number(p)?),
        tag::KEYSPACE_CREATED => push(&mut edit.keyspaces_created, created(p)?),
        tag::KEYSPACE_DROPPED => push(&mut edit.keyspaces_dropped, keyspace_alone(p)?),
        tag::OPTIONS_CHANGED => push(&mut edit.options_changed, options(p)?),
        tag::TABLE_CHANGES => push(&mut edit.tables, changes(p)?),
        _ => unknown(tag),
    }
}

fn unknown(tag: u64) -> Decoded<()> {
    if tag < SKIPPABLE { Err(Fault::UnknownField(tag)) } else { Ok(()) }
}

/// Fields of newer versions at the end of a payload.
fn no_more(p: &mut Reader<'_>) -> Decoded<()> {
    while !p.is_empty() {
        unknown(field(p)?.0)?;
    }
    Ok(())
}

fn once<T>(slot: &mut Option<T>, value: T) -> Decoded<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Malformed("field given twice")),
    }
}

fn push<T>(list: &mut Vec<T>, value: T) -> Decoded<()> {
    list.push(value);
    Ok(())
}

fn number(p: &mut Reader<'_>) -> Decoded<u64> {
    let value = p.varint().filter(|_| p.is_empty());
    value.or_malformed("field is not one number")
}

fn varint(p: &mut Reader<'_>) -> Decoded<u64> {
    p.varint().or_malformed("bad number")
}

fn keyspace(p: &mut Reader<'_>) -> Decoded<KeyspaceId> {
    p.varint32().map(KeyspaceId).or_malformed("bad keyspace id")
}

fn keyspace_alone(p: &mut Reader<'_>) -> Decoded<KeyspaceId> {
    keyspace(p).and_then(|id| p.is_empty().then_some(id).or_malformed("field is not one number"))
}

fn bytes(p: &mut Reader<'_>) -> Decoded<Vec<u8>> {
    p.length_prefixed().map(<[u8]>::to_vec).or_malformed("bytes end early")
}

fn closed(p: &mut Reader<'_>) -> Decoded<ClosedSegment> {
    let segment = ClosedSegment {
        num: FileNum(varint(p)?),
        end_offset: varint(p)?,
        end_lsn: varint(p)?,
        chain: p.u32().or_malformed("segment checksum ends early")?,
    };
    no_more(p).map(|()| segment)
}

fn created(p: &mut Reader<'_>) -> Decoded<NewKeyspace> {
    let id = keyspace(p)?;
    let name = String::from_utf8(bytes(p)?).ok().or_malformed("keyspace name is not UTF-8")?;
    let new = NewKeyspace { id, name, options: bytes(p)? };
    no_more(p).map(|()| new)
}

fn options(p: &mut Reader<'_>) -> Decoded<(KeyspaceId, Vec<u8>)> {
    let changed = (keyspace(p)?, bytes(p)?);
    no_more(p).map(|()| changed)
}

fn changes(p: &mut Reader<'_>) -> Decoded<TableChanges> {
    let mut changes = TableChanges { keyspace: keyspace(p)?, ..TableChanges::default() };
    while !p.is_empty() {
        let (tag, mut p) = field(p)?;
        match tag {
            tag::TABLE_ADDED => push(&mut changes.added, added(&mut p)?)?,
            tag::TABLE_REMOVED => push(&mut changes.removed, FileNum(number(&mut p)?))?,
            tag::FLUSHED_SEQ => once(&mut changes.flushed_seq, SeqNo(number(&mut p)?))?,
            _ => unknown(tag)?,
        }
    }
    Ok(changes)
}

fn added(p: &mut Reader<'_>) -> Decoded<AddedTable> {
    let level = p.varint32().or_malformed("bad level")?;
    let run = RunId(varint(p)?);
    let table = TableMeta {
        file: FileNum(varint(p)?),
        table_id: p.u64().or_malformed("table id ends early")?,
        size_bytes: varint(p)?,
        entries: varint(p)?,
        deletes: varint(p)?,
        range_tombstones: varint(p)?,
        raw_bytes: varint(p)?,
        smallest: bytes(p)?,
        largest: bytes(p)?,
        largest_exclusive: match p.u8() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(Fault::Malformed("bad flag of the largest key")),
        },
        seq_min: SeqNo(varint(p)?),
        seq_max: SeqNo(varint(p)?),
        created_micros: varint(p)?,
    };
    no_more(p).map(|()| AddedTable { level, run, table })
}

#[cfg(test)]
mod tests;
