//! How a node follows: the changes it lacks, or the whole.
//!
//! ```text
//! update     1, then a topology behind its length; or 2, then entries, ascending by epoch without a gap
//! entry      epoch, then node and number of the proposal, then the change: kind u8 and its fields
//! ```

use super::change::{Advance, Change, Cleaned};
use super::codec::ENCODED_LEN_MAX;
use super::refusal::Refusal;
use super::{JobId, MemberState, Topology};
use crate::clock::Actor;
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, fields, invalid};
use crate::record::Mode;
use base::KeyspaceId;
use base::coding::put_length_prefixed;
use ring::{Epoch, NodeId, PARTITIONS_MAX, REPLICAS_MAX};
use std::sync::Arc;

/// Most entries of an update.
pub const ENTRIES_MAX: usize = 1 << 10;

fields! {
    /// Names one proposal for ever: so its maker finds out what became of it.
    ProposalId {
        /// Who proposed.
        node: NodeId,
        /// A number that this node draws once.
        number: u64,
    }
}

fields! {
    /// A change as it was agreed on.
    Entry {
        /// The epoch that it led to.
        epoch: Epoch,
        /// Which proposal it was.
        id: ProposalId,
        /// What changed.
        change: Change,
    }
}

/// What brings a topology up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// The whole.
    Whole(Arc<Topology>),
    /// The changes since an epoch, at least one.
    Entries(Vec<Entry>),
}

/// Why an update does not bring a topology up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// Entries do not begin right behind the topology: fetch again.
    #[error("changes begin behind the next epoch; fetch again next={next} first={first}")]
    Gap {
        /// The epoch wanted.
        next: Epoch,
        /// The epoch that the entries begin with.
        first: Epoch,
    },
    /// The update is of another cluster.
    #[error("topology of another cluster")]
    OtherCluster,
    /// A change that was agreed on does not fit here: this node and the others do not hold the same. Fetch the whole.
    #[error("a change that was agreed on does not fit; fetch the whole: {0}")]
    Diverged(#[from] Refusal),
}

impl Update {
    /// The epoch that it leads to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Update::Whole(topology) => topology.epoch(),
            Update::Entries(entries) => entries.last().map_or(Epoch(0), |entry| entry.epoch),
        }
    }

    /// Bytes for another node.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// An update from bytes that anybody may have made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Update, DecodeError> {
        let (len, max) = (bytes.len(), ENCODED_LEN_MAX);
        if len > max {
            return Err(DecodeError::TooLong { what: "update", len, max });
        }
        Update::from_bytes(bytes)
    }
}

impl Entry {
    /// Bytes for a log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// An entry from bytes that anybody may have made.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
        Entry::from_bytes(bytes)
    }
}

impl Topology {
    /// The topology that `update` leads to; `None` if this one is as new. Entries that are known already are passed over.
    ///
    /// # Errors
    /// Why it does not lead there.
    pub fn follow(&self, update: &Update) -> Result<Option<Arc<Topology>>, FollowError> {
        match update {
            Update::Whole(whole) if whole.cluster != self.cluster => Err(FollowError::OtherCluster),
            Update::Whole(whole) => Ok((whole.epoch > self.epoch).then(|| Arc::clone(whole))),
            Update::Entries(entries) => self.follow_entries(entries),
        }
    }

    fn follow_entries(&self, entries: &[Entry]) -> Result<Option<Arc<Topology>>, FollowError> {
        let mut newest: Option<Topology> = None;
        for entry in entries.iter().filter(|entry| entry.epoch > self.epoch) {
            let before = newest.as_ref().unwrap_or(self);
            let next = Epoch(before.epoch.0 + 1);
            if entry.epoch != next {
                return Err(FollowError::Gap { next, first: entry.epoch });
            }
            newest = Some(before.apply(&entry.change)?);
        }
        Ok(newest.map(Arc::new))
    }
}

impl Wire for Update {
    const LEN_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Update::Whole(topology) => {
                out.push(1);
                put_length_prefixed(out, &topology.encode());
            }
            Update::Entries(entries) => {
                out.push(2);
                entries.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match input.u8("update")? {
            1 => Topology::decode(input.bytes("topology")?).map(Arc::new).map(Update::Whole),
            2 => {
                let entries: Vec<Entry> = input.list("entries", ENTRIES_MAX)?;
                let follow = |a: &Entry, b: &Entry| a.epoch.0.checked_add(1) == Some(b.epoch.0);
                check(!entries.is_empty() && entries.is_sorted_by(follow), "entries")?;
                Ok(Update::Entries(entries))
            }
            _ => Err(invalid("update")),
        }
    }
}

/// A change is a kind and its fields, one behind the other. Kinds are never renumbered.
macro_rules! changes {
    ($($number:literal $kind:ident { $($field:ident: $type:ty = $take:expr),* })*) => {
        impl Wire for Change {
            const LEN_MIN: usize = 2;
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Change::$kind { $($field),* } => {
                        out.push($number);
                        $(<$type as Wire>::put($field, out);)*
                    })*
                }
            }
            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                match input.u8("change")? {
                    $($number => {
                        $(let $field: $type = {
                            let take: fn(&mut Input<'_>) -> Result<$type, DecodeError> = $take;
                            take(input)?
                        };)*
                        Ok(Change::$kind { $($field),* })
                    })*
                    _ => Err(invalid("change")),
                }
            }
        }
    };
}

changes! {
    1 AddMember { id: NodeId = Wire::take, address: String = Wire::take, zone: String = Wire::take, weight: u32 = Wire::take }
    2 SetMember { id: NodeId = Wire::take, address: String = Wire::take, zone: String = Wire::take, weight: u32 = Wire::take }
    3 SetState { id: NodeId = Wire::take, state: MemberState = Wire::take }
    4 RenewActor { id: NodeId = Wire::take, from: Actor = Wire::take }
    5 RemoveMember { id: NodeId = Wire::take }
    6 ForgetMember { id: NodeId = Wire::take }
    7 CreateKeyspace {
        name: String = Wire::take, replicas: u8 = Wire::take, mode: Mode = Wire::take, siblings_max: u16 = Wire::take,
        placement: Option<Arc<ring::Topology>> = Wire::take
    }
    8 DropKeyspace { id: KeyspaceId = Wire::take }
    9 StartJob {
        bytes_per_second: u64 = Wire::take,
        targets: Vec<Arc<ring::Topology>> = |input| input.list("targets", REPLICAS_MAX)
    }
    10 SetJob { job: JobId = Wire::take, paused: bool = Wire::take, bytes_per_second: u64 = Wire::take }
    11 AdvanceJob { job: JobId = Wire::take, steps: Vec<Advance> = |input| input.list("steps", PARTITIONS_MAX as usize) }
    12 StopJob { job: JobId = Wire::take, hold: bool = Wire::take }
    13 RollBackJob { job: JobId = Wire::take }
    14 EndJob { job: JobId = Wire::take }
    15 Clean { copies: Vec<Cleaned> = |input| input.list("copies", PARTITIONS_MAX as usize) }
}
