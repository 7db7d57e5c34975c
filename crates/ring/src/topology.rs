//! Members, and which of them own each partition, at one epoch.

use crate::error::Error;
use crate::fit::fit;
use crate::member::{Member, NodeId, REPLICAS_MAX, checked};
use crate::mix::mix;
use crate::placement::Placement;
use crate::primary::primaries;
use crate::ring::{Partition, Ring};
use crate::shares::shares;
use crate::view::{Node, View};
use crate::{canonical, codec, codec::DecodeError};
use alloc::vec::Vec;
use core::fmt;

/// Version of a topology: grows with each change, so that of two the newer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Epoch of a new cluster.
    pub const FIRST: Epoch = Epoch(1);

    pub(crate) fn next(self) -> Result<Epoch, Error> {
        self.0.checked_add(1).map(Epoch).ok_or(Error::EpochsExhausted)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// Who owns what. Immutable: a change of membership makes the next one.
///
/// Invariant, kept by every constructor and checked by [`Topology::decode`]: members ascend by id;
/// each partition has between 1 and [`Topology::replicas`] distinct owners, all of them members;
/// the primary comes first, the others in the order of `rank`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub(crate) epoch: Epoch,
    pub(crate) ring: Ring,
    pub(crate) replicas: usize,
    pub(crate) members: Vec<Member>,
    pub(crate) owners: Owners,
}

/// Owners of all partitions, side by side in memory: a lookup reads two lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    stride: usize,
    slots: Vec<NodeId>,
    counts: Vec<u8>,
}

impl Owners {
    pub(crate) fn new(partitions: usize, stride: usize) -> Owners {
        let slots = Vec::with_capacity(partitions * stride);
        Owners { stride, slots, counts: Vec::with_capacity(partitions) }
    }

    /// Adds the next partition: at most `stride` owners.
    pub(crate) fn push(&mut self, owners: &[NodeId]) {
        self.slots.extend_from_slice(owners);
        self.counts.push(owners.len() as u8);
        self.slots.resize(self.counts.len() * self.stride, NodeId(0));
    }

    #[inline]
    pub(crate) fn get(&self, partition: usize) -> &[NodeId] {
        let Some(&count) = self.counts.get(partition) else { return &[] };
        let start = partition * self.stride;
        self.slots.get(start..start + usize::from(count)).unwrap_or(&[])
    }
}

/// What the tail of an owner list is ordered by: looks random, so that no node is asked more often
/// than others for having a small id.
pub(crate) fn rank(partition: usize, node: NodeId) -> u64 {
    mix(partition as u64, node.0)
}

/// What one node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The node.
    pub node: NodeId,
    /// Partitions it owns.
    pub partitions: usize,
    /// Those of which it is the primary.
    pub primaries: usize,
}

impl Topology {
    /// The topology of a new cluster, at [`Epoch::FIRST`]: a pure function of its arguments, and
    /// the order of `members` does not matter.
    ///
    /// With fewer nodes that can hold data than `replicas`, each partition is on all of them.
    ///
    /// # Errors
    /// [`Error::InvalidPartitions`], [`Error::InvalidReplicas`], and what is wrong with the members:
    /// [`Error::NoMembers`], [`Error::NoCapacity`], [`Error::TooManyMembers`],
    /// [`Error::DuplicateNode`], [`Error::ZoneTooLong`].
    pub fn new(partitions: u32, replicas: usize, members: &[Member]) -> Result<Topology, Error> {
        let ring = Ring::new(partitions)?;
        let members = checked(members)?;
        let view = view_of(ring, replicas, &members)?;
        let none = alloc::vec![0; view.nodes()];
        let placement = canonical::place(&view, &shares(&view, &none));
        let before = alloc::vec![None; view.partitions];
        let owners = owners_of(replicas, &view, &placement, &before);
        Ok(Topology { epoch: Epoch::FIRST, ring, replicas, members, owners })
    }

    /// The topology after a change of membership: a pure function of this one and of `members`
    /// (all of them, not only those that are new), one epoch later. Moves what the shares and the
    /// zones of the new membership require and nothing else; with the same members, nothing.
    ///
    /// # Errors
    /// What is wrong with `members`, see [`Topology::new`]; [`Error::EpochsExhausted`].
    pub fn next(&self, members: &[Member]) -> Result<Topology, Error> {
        self.next_with_replicas(self.replicas, members)
    }

    /// [`Topology::next`] with another number of replicas.
    ///
    /// # Errors
    /// As [`Topology::next`], and [`Error::InvalidReplicas`].
    pub fn next_with_replicas(
        &self,
        replicas: usize,
        members: &[Member],
    ) -> Result<Topology, Error> {
        let (ring, epoch) = (self.ring, self.epoch.next()?);
        let members = checked(members)?;
        let view = view_of(ring, replicas, &members)?;
        let before = self.seen_by(&view);
        let shares = shares(&view, &before.loads(view.nodes()));
        let placement = fit(&view, &shares, &before);
        let primary = |p| self.primary(p).and_then(|node| view.index_of(node));
        let led: Vec<Option<Node>> = ring.iter().map(primary).collect();
        let owners = owners_of(replicas, &view, &placement, &led);
        Ok(Topology { epoch, ring, replicas, members, owners })
    }

    /// The owners that can still hold data, as nodes of `view`.
    fn seen_by(&self, view: &View) -> Placement {
        let stride = self.replicas.max(view.replicas);
        let mut before = Placement::empty(view.partitions, stride);
        for partition in self.ring.iter() {
            for node in self.owners(partition).iter().filter_map(|&id| view.index_of(id)) {
                before.push(partition.index(), node);
            }
        }
        before
    }

    /// The topology in which `partitions` have the owners of `target` and all others those of
    /// `self`, one epoch later: a step of the way when partitions are handed over one by one.
    /// Members are those of `target`, and with weight 0 those that still own something.
    ///
    /// # Errors
    /// [`Error::RingsDiffer`], [`Error::UnknownPartition`], [`Error::EpochsExhausted`];
    /// [`Error::TooManyMembers`] if both topologies together have too many.
    pub fn flip(&self, target: &Topology, partitions: &[Partition]) -> Result<Topology, Error> {
        same_ring(self.ring, target.ring)?;
        let mut flipped = alloc::vec![false; self.ring.partitions() as usize];
        for &Partition(partition) in partitions {
            let slot = flipped.get_mut(partition as usize);
            *slot.ok_or(Error::UnknownPartition { partition })? = true;
        }
        let replicas = self.replicas.max(target.replicas);
        let mut owners = Owners::new(flipped.len(), replicas);
        for (partition, flipped) in self.ring.iter().zip(&flipped) {
            owners.push(if *flipped { target } else { self }.owners(partition));
        }
        let mut members = target.members.clone();
        let leaving = self.members.iter().filter(|member| target.member(member.id).is_none());
        let mut still: Vec<NodeId> =
            self.ring.iter().flat_map(|p| owners.get(p.index()).to_vec()).collect();
        still.sort_unstable();
        let owning = leaving.filter(|member| still.binary_search(&member.id).is_ok());
        members.extend(owning.map(|member| Member { weight: 0, ..member.clone() }));
        let replicas =
            if flipped.iter().all(|&flipped| flipped) { target.replicas } else { replicas };
        let members = checked(&members)?;
        Ok(Topology { epoch: self.epoch.next()?, ring: self.ring, replicas, members, owners })
    }

    /// The same members and owners under a later epoch: to go back to this topology after `current`
    /// was in force.
    ///
    /// # Errors
    /// [`Error::EpochsExhausted`].
    pub fn reinstated_after(&self, current: Epoch) -> Result<Topology, Error> {
        Ok(Topology { epoch: self.epoch.max(current).next()?, ..self.clone() })
    }

    /// Which of two topologies is newer.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The partitions.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Replicas asked for. A partition has fewer only while there are fewer nodes.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// Members in the order of their ids.
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

    /// Partition that holds `key`; the same in every topology of a cluster.
    #[must_use]
    #[inline]
    pub fn partition_of(&self, key: &[u8]) -> Partition {
        self.ring.partition_of(key)
    }

    /// Nodes that hold `partition`, the primary first; empty if there is no such partition.
    #[must_use]
    #[inline]
    pub fn owners(&self, partition: Partition) -> &[NodeId] {
        self.owners.get(partition.index())
    }

    /// Nodes that hold `key`, the primary first.
    #[must_use]
    #[inline]
    pub fn owners_of(&self, key: &[u8]) -> &[NodeId] {
        self.owners(self.partition_of(key))
    }

    /// First owner of `partition`; `None` if there is no such partition.
    #[must_use]
    pub fn primary(&self, partition: Partition) -> Option<NodeId> {
        self.owners(partition).first().copied()
    }

    /// Partitions that `node` holds. Complexity: looks at all.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = Partition> + '_ {
        self.ring.iter().filter(move |&partition| self.owners(partition).contains(&node))
    }

    /// What each member holds, in the order of their ids.
    #[must_use]
    pub fn loads(&self) -> Vec<Load> {
        let empty = |member: &Member| Load { node: member.id, partitions: 0, primaries: 0 };
        let mut loads: Vec<Load> = self.members.iter().map(empty).collect();
        for partition in self.ring.iter() {
            for (rank, owner) in self.owners(partition).iter().enumerate() {
                if let Ok(at) = loads.binary_search_by_key(owner, |load| load.node) {
                    loads[at].partitions += 1;
                    loads[at].primaries += usize::from(rank == 0);
                }
            }
        }
        loads
    }

    /// Partitions with fewer owners than there could be, or whose owners are not spread over the
    /// zones as evenly as could be. 0 but for topologies made by [`Topology::flip`].
    #[must_use]
    pub fn violations(&self) -> usize {
        let view = View::new(self.ring.partitions() as usize, self.replicas, &self.members);
        let placement = self.seen_by(&view);
        let zones = 0..view.zones.len() as u16;
        let broken = |&p: &usize| {
            let fits = |zone: u16| {
                let rule = view.zones[usize::from(zone)];
                (rule.min..=rule.max).contains(&placement.in_zone(&view, p, zone))
            };
            placement.of(p).len() != view.replicas || !zones.clone().all(fits)
        };
        (0..view.partitions).filter(broken).count()
    }

    /// Bytes for another node, drawn in `codec.rs`; equal topologies give equal bytes, and no others do.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// A topology from bytes that anybody may have made. Allocates no more than 64 times their
    /// number.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Topology, DecodeError> {
        codec::decode(bytes)
    }
}

pub(crate) fn same_ring(left: Ring, right: Ring) -> Result<(), Error> {
    if left == right {
        return Ok(());
    }
    Err(Error::RingsDiffer { left: left.partitions(), right: right.partitions() })
}

fn view_of(ring: Ring, replicas: usize, members: &[Member]) -> Result<View, Error> {
    if (1..=REPLICAS_MAX).contains(&replicas) {
        Ok(View::new(ring.partitions() as usize, replicas, members))
    } else {
        Err(Error::InvalidReplicas { replicas })
    }
}

/// Primaries chosen, owner lists in order. The stride is that of the replicas asked for, so that equal
/// topologies are equal however they were made.
fn owners_of(stride: usize, view: &View, placement: &Placement, led: &[Option<Node>]) -> Owners {
    let primary = primaries(view, placement, led);
    let mut owners = Owners::new(view.partitions, stride);
    let mut list: Vec<NodeId> = Vec::with_capacity(view.replicas);
    for (p, &primary) in primary.iter().enumerate() {
        list.clear();
        list.extend(placement.of(p).iter().map(|&node| view.ids[usize::from(node)]));
        let first = view.ids[usize::from(primary)];
        list.sort_by_cached_key(|&id| (id != first, rank(p, id), id));
        owners.push(&list);
    }
    owners
}
