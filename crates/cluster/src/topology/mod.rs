//! Who is a member, what keyspaces there are, who owns which partition, and what is on its way: one value, at one epoch.
//!
//! A [`Topology`] is immutable. A [`Change`] makes the next one, by a pure function that every node computes alike: what takes a
//! search (a placement) is found by whoever proposes it and travels inside the change. [`Topology::owners`] is what requests are
//! carried out by, [`Topology::fence`] what old ones are refused by.
//!
//! # How a partition changes hands
//! The owners of a partition change as a [`Step`], through the stages of [`Stage`]. With `old` and `new` owners, and `source` giving
//! its place to `receiver`:
//!
//! | stage | written to | counts for R and W | next, once |
//! | --- | --- | --- | --- |
//! | none | old | each of old | |
//! | `Copying` | old, receiver | each of old | the receiver has what was there at the beginning |
//! | `Joint` | old, receiver | old, but the source only together with the receiver | the source said that it is at this epoch, and *after that* an exchange brought all it has to the receiver, synced |
//! | `Flipped` | new | each of new | the source has deleted its copy: it departs until then |
//!
//! Why no acknowledged write is missed, with R + W > N and any number of owners changing at once:
//! - A write from before `Joint` that counts the source was taken by it before it was fenced, so the exchange brings it. One of
//!   `Joint` that counts the source counts the receiver. So at `Flipped` the receiver has all that the source ever counted for.
//! - A read from before `Joint` is refused by the source, which has been fenced since. A read of `Joint` that counts the source
//!   counts the receiver; if a write of `Flipped` counted the receiver, that refuses the read. So a read that misses such a write would
//!   need R of the N - W owners that have not taken it, which are too few.
//!
//! Where the source is dead, every other owner takes its part in the rule of `Joint`: all of them say that they are at this epoch, then
//! the receiver exchanges with all of them.
//!
//! # What this module does not know
//! Who agrees on changes (`consensus`), who is alive (`membership`), who copies (`rebalance`).

mod change;
mod codec;
mod job;
mod keyspace;
mod member;
mod owners;
mod placement;
mod refusal;
pub mod samples;
mod update;

#[cfg(test)]
mod tests;

pub use change::{Advance, Change, Cleaned};
pub use codec::{ENCODED_LEN_MAX, VERSION};
pub use job::{Job, JobId, JobKind};
pub use keyspace::{KEYSPACES_MAX, Keyspace, NAME_LEN_MAX};
pub use member::{ADDRESS_LEN_MAX, Member, MemberState};
pub use owners::{Fence, Handover, Owners, Role};
pub use placement::{Placement, Stage, Step};
pub use refusal::Refusal;
pub use update::{ENTRIES_MAX, Entry, FollowError, ProposalId, Update};

use crate::clock::Actor;
use crate::codec::DecodeError;
use base::KeyspaceId;
use ring::{Epoch, NodeId, Partition, Ring};

/// Everything that all nodes have to agree on, at one epoch.
///
/// Invariants, kept by [`Topology::apply`] and checked by [`Topology::decode`]: members ascend by id, keyspaces by id, placements by
/// replicas; there is one placement for each number of replicas that a keyspace has, and no other; owners, receivers and departing
/// nodes are members; placements change hands only while there is a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cluster: u64,
    epoch: Epoch,
    ring: Ring,
    /// The last ones given. None is given twice.
    actors: u64,
    keyspace_ids: u32,
    job_ids: u64,
    members: Vec<Member>,
    keyspaces: Vec<Keyspace>,
    placements: Vec<Placement>,
    job: Option<Job>,
    /// No job is to begin by itself.
    held: bool,
}

impl Topology {
    /// The topology of a new cluster: no members and no keyspaces, at [`Epoch::FIRST`]. `cluster` is drawn at random, so that
    /// nodes of two clusters never talk.
    #[must_use]
    pub fn new(cluster: u64, ring: Ring) -> Topology {
        Topology {
            cluster,
            epoch: Epoch::FIRST,
            ring,
            actors: 0,
            keyspace_ids: 0,
            job_ids: 0,
            members: Vec::new(),
            keyspaces: Vec::new(),
            placements: Vec::new(),
            job: None,
            held: false,
        }
    }

    /// Which cluster.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Which of two topologies is newer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The partitions, the same at every epoch.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Members, ascending by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let at = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(at)
    }

    /// The member that makes dots as `actor`; `None` if it is gone.
    #[must_use]
    pub fn member_of(&self, actor: Actor) -> Option<&Member> {
        self.members.iter().find(|member| member.actor == actor)
    }

    /// How many actors were given, to all members that there ever were: it ascends with each of them.
    #[must_use]
    pub fn actors_given(&self) -> u64 {
        self.actors
    }

    /// True if `node` owns, receives or still holds anything, or will.
    #[must_use]
    pub fn uses(&self, node: NodeId) -> bool {
        self.placements.iter().any(|placement| placement.uses(node))
    }

    /// Keyspaces, ascending by id.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// The keyspace with this id.
    #[must_use]
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        let at = self.keyspaces.binary_search_by_key(&id, |keyspace| keyspace.id).ok()?;
        self.keyspaces.get(at)
    }

    /// The keyspace with this name.
    #[must_use]
    pub fn keyspace_named(&self, name: &str) -> Option<&Keyspace> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    /// Where partitions lie, for each number of replicas that a keyspace has, ascending.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Where partitions with so many replicas lie.
    #[must_use]
    pub fn placement(&self, replicas: usize) -> Option<&Placement> {
        self.placements.iter().find(|placement| placement.replicas() == replicas)
    }

    /// The job that moves data.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// True if a job was stopped or rolled back by somebody who does not want it to begin again by itself.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Partition that holds `key`.
    #[must_use]
    #[inline]
    pub fn partition_of(&self, key: &[u8]) -> Partition {
        self.ring.partition_of(key)
    }

    /// Who holds `partition` of `keyspace`, and who counts for what; `None` if there is no such keyspace or partition.
    #[must_use]
    pub fn owners(&self, keyspace: KeyspaceId, partition: Partition) -> Option<Owners<'_>> {
        let keyspace = self.keyspace(keyspace)?;
        self.placement(usize::from(keyspace.replicas))?.owners(partition)
    }

    /// What becomes of a request for data of `partition` whose sender is at `epoch`.
    ///
    /// Requests of another epoch are served as long as both see the same owners: a cluster that moves one partition refuses nothing
    /// that is meant for the others.
    #[must_use]
    pub fn fence(&self, keyspace: KeyspaceId, partition: Partition, epoch: Epoch) -> Fence {
        let Some(owners) = self.owners(keyspace, partition) else { return Fence::Unknown };
        if epoch > self.epoch {
            Fence::SelfBehind
        } else if epoch < owners.since() {
            Fence::CallerBehind
        } else {
            Fence::Serve
        }
    }

    /// Bytes for a disk or another node, drawn in `codec.rs`; equal topologies give equal bytes, and no others do.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// A topology from bytes that anybody may have made. What it takes in memory is in proportion to their number.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Topology, DecodeError> {
        codec::decode(bytes)
    }
}
