//! What a node knows of the cluster at one epoch.
//!
//! ```text
//! stored   format u8, cluster, epoch, partitions, then lists of
//!          members:   node, weight, zone
//!          keyspaces: id, name, replicas, flag (1: the last writer wins), siblings_max, value_bytes_max
//! ```
//! Who owns what is not stored: it follows from the members.

use crate::codec::DecodeError;
use crate::codec::wire::{Wire, check, fields, invalid};
use crate::record::{Bounds, Mode};
use crate::transport::Failure;
use base::KeyspaceId;
use ring::{Epoch, Member, NodeId, Partition, Ring, Topology};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a keyspace is replicated; the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Owners of each partition, if there are as many nodes.
    pub replicas: usize,
    /// What happens to concurrent writes.
    pub mode: Mode,
    /// How far a record may grow by writes.
    pub bounds: Bounds,
}

/// Members, owners and keyspaces at one epoch. Immutable: a change makes the next one.
///
/// Invariant: there is a placement for the number of replicas of each keyspace, over one ring.
#[derive(Debug, Clone)]
pub struct View {
    cluster: u64,
    epoch: Epoch,
    ring: Ring,
    /// Ascending by id.
    nodes: Vec<Member>,
    members: Vec<NodeId>,
    keyspaces: BTreeMap<KeyspaceId, Arc<Policy>>,
    /// By number of replicas.
    placements: BTreeMap<usize, Arc<Topology>>,
}

impl View {
    /// The view of a new cluster.
    ///
    /// # Errors
    /// What is wrong with members, partitions or a number of replicas.
    pub fn new(
        cluster: u64,
        partitions: u32,
        members: &[Member],
        keyspaces: BTreeMap<KeyspaceId, Policy>,
    ) -> Result<View, ring::Error> {
        let mut nodes = members.to_vec();
        nodes.sort_by_key(|member| member.id);
        let mut view = View {
            cluster,
            epoch: Epoch::FIRST,
            ring: Ring::new(partitions)?,
            members: nodes.iter().map(|member| member.id).collect(),
            nodes,
            keyspaces: BTreeMap::new(),
            placements: BTreeMap::new(),
        };
        keyspaces.into_iter().try_for_each(|(id, policy)| view.add(id, policy))?;
        Ok(view)
    }

    /// This view with one more keyspace, an epoch later.
    ///
    /// # Errors
    /// If the number of replicas is none that a ring has.
    pub fn with_keyspace(&self, id: KeyspaceId, policy: Policy) -> Result<View, ring::Error> {
        let mut next = self.clone();
        next.epoch = Epoch(self.epoch.0 + 1);
        next.add(id, policy).map(|()| next)
    }

    fn add(&mut self, id: KeyspaceId, policy: Policy) -> Result<(), ring::Error> {
        if !self.placements.contains_key(&policy.replicas) {
            let placed = Topology::new(self.ring.partitions(), policy.replicas, &self.nodes)?;
            self.placements.insert(policy.replicas, Arc::new(placed));
        }
        self.keyspaces.insert(id, Arc::new(policy));
        Ok(())
    }

    /// Of two views the newer has the greater epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The partitions.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// The cluster that it is of.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// All nodes with weight and zone, ascending.
    #[must_use]
    pub fn members_in_full(&self) -> &[Member] {
        &self.nodes
    }

    /// All nodes, ascending.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Nodes of which any two groups have one in common.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// All keyspaces.
    pub fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Arc<Policy>)> {
        self.keyspaces.iter().map(|(id, policy)| (*id, policy))
    }

    /// How a keyspace is replicated.
    ///
    /// # Errors
    /// [`Failure::UnknownKeyspace`].
    pub fn policy(&self, id: KeyspaceId) -> Result<&Arc<Policy>, Failure> {
        self.keyspaces.get(&id).ok_or(Failure::UnknownKeyspace { id })
    }

    /// Owners of a partition, the primary first; none if there is no such keyspace or partition.
    #[must_use]
    pub fn owners(&self, keyspace: KeyspaceId, partition: Partition) -> &[NodeId] {
        let replicas = self.keyspaces.get(&keyspace).map(|policy| policy.replicas);
        let placed = replicas.and_then(|replicas| self.placements.get(&replicas));
        placed.map_or(&[], |placed| placed.owners(partition))
    }

    /// True if `node` owns the partition.
    #[must_use]
    pub fn is_owner(&self, node: NodeId, keyspace: KeyspaceId, partition: Partition) -> bool {
        self.owners(keyspace, partition).contains(&node)
    }

    /// Members that do not own the partition, in an order that differs from partition to partition: stand-ins.
    pub fn stand_ins(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let owners = self.owners(keyspace, partition);
        let start = partition.index() % self.members.len().max(1);
        let (behind, from) = self.members.split_at(start);
        from.iter().chain(behind).copied().filter(|node| !owners.contains(node))
    }
}

const FORMAT: u8 = 1;

fields! {
    #[expect(unreachable_pub, reason = "the macro serves public messages, too")]
    Stored {
        format: u8,
        cluster: u64,
        epoch: Epoch,
        partitions: u32,
        members: Vec<StoredMember>,
        keyspaces: Vec<StoredKeyspace>,
    }
}

fields! {
    #[expect(unreachable_pub, reason = "the macro serves public messages, too")]
    StoredMember {
        node: NodeId,
        weight: u32,
        zone: String,
    }
}

fields! {
    #[expect(unreachable_pub, reason = "the macro serves public messages, too")]
    StoredKeyspace {
        id: KeyspaceId,
        name: String,
        replicas: u16,
        last_writer_wins: bool,
        siblings_max: u64,
        value_bytes_max: u64,
    }
}

impl View {
    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let members = self.nodes.iter().map(|member| StoredMember {
            node: member.id,
            weight: member.weight,
            zone: member.zone.clone(),
        });
        let keyspaces = self.keyspaces().map(|(id, policy)| StoredKeyspace {
            id,
            name: policy.name.clone(),
            replicas: policy.replicas as u16,
            last_writer_wins: policy.mode == Mode::LastWriterWins,
            siblings_max: policy.bounds.siblings_max as u64,
            value_bytes_max: policy.bounds.value_bytes_max as u64,
        });
        let stored = Stored {
            format: FORMAT,
            cluster: self.cluster,
            epoch: self.epoch,
            partitions: self.ring.partitions(),
            members: members.collect(),
            keyspaces: keyspaces.collect(),
        };
        stored.to_bytes()
    }

    /// The view in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are what [`encode`](Self::encode) makes.
    pub fn decode(bytes: &[u8]) -> Result<View, DecodeError> {
        let stored = Stored::from_bytes(bytes)?;
        check(stored.format == FORMAT, "format")?;
        let member = |one: &StoredMember| Member::new(one.node.0, one.weight, &one.zone);
        let members: Vec<Member> = stored.members.iter().map(member).collect();
        check(members.is_sorted_by(|a, b| a.id < b.id), "members")?;
        let keyspaces: BTreeMap<KeyspaceId, Policy> =
            stored.keyspaces.iter().map(|one| (one.id, one.policy())).collect();
        let view = View::new(stored.cluster, stored.partitions, &members, keyspaces);
        let mut view = view.map_err(|_| invalid("view"))?;
        view.epoch = stored.epoch;
        Ok(view)
    }
}

impl StoredKeyspace {
    fn policy(&self) -> Policy {
        let mode = if self.last_writer_wins { Mode::LastWriterWins } else { Mode::Siblings };
        let bounds = Bounds {
            siblings_max: usize::try_from(self.siblings_max).unwrap_or(usize::MAX),
            value_bytes_max: usize::try_from(self.value_bytes_max).unwrap_or(usize::MAX),
        };
        Policy { name: self.name.clone(), replicas: usize::from(self.replicas), mode, bounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_stored_and_comes_back_as_it_was() {
        let members: Vec<Member> = (1..=5).map(|n| Member::new(n, n as u32, "z")).collect();
        let policy = |name: &str, replicas, mode| Policy {
            name: name.into(),
            replicas,
            mode,
            bounds: Bounds::default(),
        };
        let first = BTreeMap::from([(KeyspaceId(1), policy("a", 3, Mode::Siblings))]);
        let view = View::new(7, 64, &members, first).expect("members are fine");
        let next = view
            .with_keyspace(KeyspaceId(4), policy("b", 2, Mode::LastWriterWins))
            .expect("two replicas are fine");
        let again = View::decode(&next.encode()).expect("own bytes");
        assert_eq!(again.encode(), next.encode());
        assert_eq!((again.epoch(), again.cluster()), (Epoch(2), 7));
        for (id, wanted) in [(KeyspaceId(1), 3), (KeyspaceId(4), 2), (KeyspaceId(2), 0)] {
            for partition in next.ring().iter() {
                assert_eq!(again.owners(id, partition), next.owners(id, partition));
                assert_eq!(again.owners(id, partition).len(), wanted);
                let stand_ins: Vec<NodeId> = again.stand_ins(id, partition).collect();
                assert_eq!(stand_ins.len(), 5 - wanted);
            }
        }
        let bytes = next.encode();
        assert!((0..bytes.len()).all(|cut| View::decode(&bytes[..cut]).is_err()));
    }
}
