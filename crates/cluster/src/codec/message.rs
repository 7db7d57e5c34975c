//! What nodes say to each other.
//!
//! A request has one kind of answer, or [`Answer::Failed`]. Fields lie one behind the other: integers as varints in their shortest
//! form, bytes and lists behind their length, an option behind a flag. Kinds are never renumbered; a field is added by a new kind.

use super::DecodeError;
use super::frame::{self, Frame, Header};
use super::wire::{Input, Wire, check, fields, invalid, tags};
use crate::clock::{Context, Dot, Stamp};
use crate::merkle::{Span, Sum};
use crate::rebalance;
use crate::record::{Floor, Record};
use crate::transport::{Class, Failure};
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::collections::VecDeque;

// ---- parts of messages ----

fields! {
    /// A key and what a replica knows of it.
    Item {
        /// The user's key.
        key: Slice,
        /// The record.
        record: Record,
        /// The write that made it what it is, if one did: the receiver has then seen this dot. The dot of a delete is
        /// in no version.
        made_by: Option<Dot>,
    }
}

impl Item {
    /// Takes off the first items, as many as have about `bytes_max` bytes together, but at least one.
    pub(crate) fn take_piece(items: &mut VecDeque<Item>, bytes_max: usize) -> Vec<Item> {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.weight();
            bytes <= bytes_max
        };
        let count = items.iter().take_while(fits).count().max(1).min(items.len());
        items.drain(..count).collect()
    }
}

fields! {
    /// A write as its client wants it.
    Op {
        /// The user's key.
        key: Slice,
        /// The new value; `None` deletes.
        value: Option<Slice>,
        /// From when on the value counts as deleted, in microseconds since 1970; 0 is never.
        expires_micros: u64,
        /// What the client had read, and replaces.
        replaces: Context,
        /// The greatest stamp that it had read.
        after: Stamp,
    }
}

fields! {
    /// Names one client call for ever, also when it is tried again.
    WriteId {
        /// The node that took the call from the client, and drew the number.
        node: NodeId,
        /// A number that this node draws once.
        number: u64,
    }
}

fields! {
    /// How a write was carried out.
    Written {
        /// Its dot.
        dot: Dot,
        /// Its stamp.
        stamp: Stamp,
        /// What the write replaced, and itself: what the client's next write may replace. Not what others wrote meanwhile.
        context: Context,
        /// Owners that have it synced.
        owners: Vec<NodeId>,
        /// Stand-ins that keep it for owners; they do not count.
        hinted: Vec<NodeId>,
    }
}

fields! {
    /// A range of keys and the sum over what is stored in it.
    RangeDigest {
        /// The range.
        span: Span,
        /// The sum.
        sum: Sum,
    }
}

fields! {
    /// The fingerprint of one key.
    EntryDigest {
        /// The key.
        key: Slice,
        /// Its fingerprint.
        fingerprint: u128,
    }
}

tags! {
    /// Why records are sent to an owner.
    Cause {
        /// A write, for its quorum.
        Write = 1,
        /// A read met replicas that differ.
        ReadRepair = 2,
        /// Anti-entropy found what differs.
        Exchange = 3,
        /// A stand-in hands over what it kept.
        Hint = 4,
        /// The partition moves to this node.
        Move = 5,
    }
}

tags! {
    /// What became of an item at a replica. All of these are synced.
    Outcome {
        /// It changed the record.
        Stored = 1,
        /// The replica knew it already, or its successor.
        Known = 2,
    }
}

tags! {
    /// What to answer of a record.
    Wanted {
        /// The record itself.
        Whole = 1,
        /// Only a hash of it.
        Digest = 2,
        /// The record, also from a replica that is not complete: for another owner, which compares.
        Incomplete = 3,
    }
}

/// What is stored of one key, or its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// The record.
    Whole(Record),
    /// [`Record::digest`].
    Digest(u128),
    /// It cannot be read; other keys can.
    Failed(Failure),
}

/// What a range holds beside what was said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// The same.
    Equal,
    /// Something else, in these parts of it.
    Split(Vec<RangeDigest>),
    /// Something else, and these are all its entries.
    Entries(Vec<EntryDigest>),
    /// These parts of it are damaged or not counted yet; ask for the rest.
    NotReady(Vec<Span>),
}

// ---- requests and answers ----

macro_rules! messages {
    ($(#[$doc:meta])* $enum:ident; $($(#[$kind_doc:meta])* $number:literal $kind:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?
    })*) => {
        $(fields! { $(#[$kind_doc])* $kind { $($(#[$field_doc])* $field: $type),* } })*

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $enum { $($(#[$kind_doc])* $kind($kind)),* }

        impl $enum {
            /// Every kind there is, ascending.
            pub const KINDS: &'static [u8] = &[$($number),*];

            /// The kind of the frame it travels in.
            #[must_use]
            pub fn kind(&self) -> u8 {
                match self { $($enum::$kind(_) => $number),* }
            }

            /// The name of its kind, for people.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $($enum::$kind(_) => stringify!($kind)),* }
            }

            fn put_body(&self, out: &mut Vec<u8>) {
                match self { $($enum::$kind(body) => body.put(out)),* }
            }

            /// The message in the body of a frame of this kind.
            ///
            /// # Errors
            /// [`DecodeError`] unless it is what [`encode`](Self::encode) makes.
            pub fn decode(kind: u8, body: &[u8]) -> Result<$enum, DecodeError> {
                match kind {
                    $($number => $kind::from_bytes(body).map($enum::$kind),)*
                    _ => Err(DecodeError::UnknownKind { kind }),
                }
            }

            /// The message as a frame; the header's kind is set.
            #[must_use]
            pub fn encode(&self, header: Header) -> Vec<u8> {
                frame::encode(&Header { kind: self.kind(), ..header }, |out| self.put_body(out))
            }

            /// The message of a frame.
            ///
            /// # Errors
            /// As for [`decode`](Self::decode).
            pub fn of(frame: &Frame<'_>) -> Result<$enum, DecodeError> {
                $enum::decode(frame.header.kind, frame.body)
            }
        }

        $(impl From<$kind> for $enum {
            fn from(body: $kind) -> $enum {
                $enum::$kind(body)
            }
        })*
    };
}

messages! {
    /// What a node asks of another.
    Request;

    /// Is anybody there?
    1 Ping {}
    /// What the failure detector says; not looked at by anything else.
    2 Gossip {
        /// Its bytes.
        payload: Slice,
    }
    /// The topology, if it is newer.
    3 Topology {
        /// The epoch that the caller has.
        known: Epoch,
    }
    /// Carry out writes as the owner that makes their dots. Passed on once, never again.
    4 Coordinate {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The client's call.
        id: WriteId,
        /// The start of the receiver that this is meant for, by its nonce; 0 if that is not known. A node remembers the calls of one
        /// start, so that each is carried out once.
        start: u64,
        /// Owners that have to have each write synced.
        owners_min: u8,
        /// Stand-ins may take the place of owners that cannot be reached; the answer tells.
        sloppy: bool,
        /// The writes; each has its own outcome.
        ops: Vec<Op>,
    }
    /// Merge records into those of an owner.
    5 Apply {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition that all keys belong to.
        partition: Partition,
        /// Why.
        cause: Cause,
        /// The records. Those of owners hold what the floor says, too: each speaks for itself.
        items: Vec<Item>,
    }
    /// Answer what is stored of keys.
    6 Read {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// Records, or hashes of them.
        wanted: Wanted,
        /// The keys, of any partitions that the node owns.
        keys: Vec<Slice>,
        /// The start of the receiver that this is meant for, by its nonce; 0 if any may answer. After another one its disk may not be the one
        /// that it was.
        of_start: u64,
    }
    /// Answer one page of a partition, in the order of keys.
    7 Scan {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// The first key.
        start: Slice,
        /// The first key behind the end; `None` is the end of the partition.
        end: Option<Slice>,
        /// From the end to the start.
        backward: bool,
        /// Most entries of the page.
        entries_max: u32,
        /// Most bytes of the page; one entry is answered whatever its size.
        bytes_max: u32,
    }
    /// Compare ranges of a partition.
    8 Digests {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// Ranges that do not overlap, ascending.
        ranges: Vec<RangeDigest>,
        /// The start of the receiver that this is meant for, by its nonce; 0 if any may answer. After another one its disk may not be the one
        /// that it was.
        of_start: u64,
    }
    /// Keep records for an owner that cannot be reached.
    9 StoreHint {
        /// The owner.
        target: NodeId,
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// The records.
        items: Vec<Item>,
    }
    /// Begin a round: what an owner has seen, and what hints a node holds.
    10 Seen {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// Number of the round.
        round: u64,
        /// The owner promises to take no write stamped at or before this that it does not know.
        stamp: Stamp,
    }
    /// End a round: take over its floor.
    11 SetFloor {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// The floor.
        floor: Floor,
    }
    /// Answer one page of all that is stored of a partition, deletes too: for a node that is to own it, or that catches up.
    12 Transfer {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The partition.
        partition: Partition,
        /// The first key.
        start: Slice,
        /// The first key behind the end; `None` is the end of the partition.
        end: Option<Slice>,
        /// Only records that account for dots beyond these; `None`: all records.
        beyond: Option<Context>,
        /// Most bytes of the page; one record is answered whatever its size.
        bytes_max: u32,
        /// The start of the receiver that this is meant for, by its nonce; 0 if any may answer. After another one its disk may not be the one
        /// that it was.
        of_start: u64,
    }
    /// The sender has started, for the `session`th time as it believes.
    13 Hello {
        /// Number of the start.
        session: u64,
        /// Drawn for this start, so that it is known again.
        nonce: u64,
    }
    /// How far the moves of the node have come.
    14 Report {}
}

messages! {
    /// What a node answers.
    Answer;

    /// Somebody is. The header says its epoch.
    0x81 Pong {}
    /// What the failure detector answers.
    0x82 Gossiped {
        /// Its bytes.
        payload: Slice,
    }
    /// The topology.
    0x83 TopologyIs {
        /// What brings the caller's up to date, as [`Update`](crate::topology::Update) encodes it; `None` if it is as new.
        topology: Option<Slice>,
    }
    /// Outcomes of writes, in their order.
    0x84 Coordinated {
        /// One for each.
        results: Vec<Result<Written, Failure>>,
    }
    /// What became of items, in their order; all of them are synced.
    0x85 Applied {
        /// One for each.
        results: Vec<Result<Outcome, Failure>>,
    }
    /// What is stored, in the order of the keys.
    0x86 Records {
        /// One for each.
        records: Vec<Stored>,
    }
    /// A page of a partition.
    0x87 Page {
        /// Its entries, in the order asked for.
        items: Vec<Item>,
        /// There may be more behind the last entry.
        more: bool,
    }
    /// Ranges compared, in their order.
    0x88 Digested {
        /// One for each.
        ranges: Vec<Compared>,
    }
    /// The records are kept, synced.
    0x89 HintStored {
        /// Bytes kept for this owner now.
        bytes: u64,
    }
    /// What a node says at the beginning of a round.
    0x8a SeenIs {
        /// The dots that it has taken in; nothing if it is no owner.
        seen: Context,
        /// The dots of the hints it holds for the partition.
        hinted: Context,
        /// Its floor: who has all that it has may take it over.
        floor: Floor,
        /// The nonce of the start that it is in.
        start: u64,
    }
    /// The floor is in force, synced.
    0x8b FloorSet {}
    /// A page of what is stored.
    0x8c Transferred {
        /// The records, ascending by key. They hold what the floor says, too.
        items: Vec<Item>,
        /// Where to go on; `None` if this is the last page. A page without records may have one behind it.
        next: Option<Slice>,
    }
    /// The start is recorded, synced.
    0x8d HelloIs {
        /// The latest other start of this node that was known; 0 if there was none.
        known: u64,
    }
    /// How far they have come.
    0x8e Reported {
        /// By what is on the disk of the node.
        report: rebalance::Report,
    }
    /// No answer, for this reason.
    0xff Failed {
        /// The reason.
        failure: Failure,
    }
}

impl Request {
    /// How it shares what room there is for messages under way.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Request::Ping(_)
            | Request::Gossip(_)
            | Request::Topology(_)
            | Request::Hello(_)
            | Request::Report(_) => Class::Vital,
            Request::Coordinate(_) | Request::StoreHint(_) => Class::Write,
            Request::Apply(Apply { cause: Cause::Write, .. }) => Class::Write,
            Request::Read(_) => Class::Read,
            _ => Class::Bulk,
        }
    }

    /// True for what no client waits for: moves, repairs, comparisons.
    #[must_use]
    pub fn is_background(&self) -> bool {
        match self {
            Request::Apply(apply) => apply.cause != Cause::Write,
            Request::Transfer(_)
            | Request::Digests(_)
            | Request::Seen(_)
            | Request::SetFloor(_) => true,
            _ => false,
        }
    }
}

impl Wire for Stored {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Stored::Absent => out.push(0),
            Stored::Whole(record) => {
                out.push(1);
                record.put(out);
            }
            Stored::Digest(digest) => {
                out.push(2);
                digest.put(out);
            }
            Stored::Failed(failure) => {
                out.push(3);
                failure.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("stored")? {
            0 => Stored::Absent,
            1 => Stored::Whole(Record::take(input)?),
            2 => Stored::Digest(u128::take(input)?),
            3 => Stored::Failed(Failure::take(input)?),
            _ => return Err(invalid("stored")),
        })
    }
}

impl Wire for Compared {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Compared::Equal => out.push(0),
            Compared::Split(parts) => {
                out.push(1);
                parts.put(out);
            }
            Compared::Entries(entries) => {
                out.push(2);
                entries.put(out);
            }
            Compared::NotReady(holes) => {
                out.push(3);
                holes.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("compared")? {
            0 => Compared::Equal,
            1 => {
                let parts: Vec<RangeDigest> = Vec::take(input)?;
                check(
                    !parts.is_empty() && parts.is_sorted_by(|a, b| a.span.start < b.span.start),
                    "parts",
                )?;
                Compared::Split(parts)
            }
            2 => {
                let entries: Vec<EntryDigest> = Vec::take(input)?;
                check(entries.is_sorted_by(|a, b| a.key < b.key), "entries")?;
                Compared::Entries(entries)
            }
            3 => {
                let holes: Vec<Span> = Vec::take(input)?;
                let ascend =
                    holes.is_sorted_by(|a, b| a.end.as_ref().is_some_and(|end| *end <= b.start));
                check(!holes.is_empty() && ascend, "holes")?;
                Compared::NotReady(holes)
            }
            _ => return Err(invalid("compared")),
        })
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
