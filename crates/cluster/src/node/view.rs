//! What a node knows of the cluster at one epoch: the topology, and what is looked up in it often.

use crate::record::{Bounds, Mode};
use crate::topology::{Fence, MemberState, Owners, Role, Topology};
use crate::transport::Failure;
use base::KeyspaceId;
use ring::{Epoch, NodeId, Partition, Ring};
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
#[derive(Debug, Clone)]
pub struct View {
    topology: Arc<Topology>,
    members: Vec<NodeId>,
    policies: BTreeMap<KeyspaceId, Arc<Policy>>,
}

impl View {
    /// What is to be known of `topology`.
    #[must_use]
    pub fn new(topology: Arc<Topology>) -> View {
        let policy = |keyspace: &crate::topology::Keyspace| Policy {
            name: keyspace.name.clone(),
            replicas: usize::from(keyspace.replicas),
            mode: keyspace.mode,
            bounds: Bounds {
                siblings_max: usize::from(keyspace.siblings_max),
                ..Bounds::default()
            },
        };
        let keyspaces = topology.keyspaces().iter();
        let policies = keyspaces.map(|one| (one.id, Arc::new(policy(one)))).collect();
        let members = topology.members().iter().map(|member| member.id).collect();
        View { topology, members, policies }
    }

    /// All of it.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Of two views the newer has the greater epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.topology.epoch()
    }

    /// The partitions.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.topology.ring()
    }

    /// The cluster that it is of.
    #[must_use]
    pub fn cluster(&self) -> u64 {
        self.topology.cluster()
    }

    /// All members, ascending, also those that leave or were given up.
    #[must_use]
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Members of which any two groups have one in common.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// All keyspaces.
    pub fn keyspaces(&self) -> impl Iterator<Item = (KeyspaceId, &Arc<Policy>)> {
        self.policies.iter().map(|(id, policy)| (*id, policy))
    }

    /// How a keyspace is replicated.
    ///
    /// # Errors
    /// [`Failure::UnknownKeyspace`].
    pub fn policy(&self, id: KeyspaceId) -> Result<&Arc<Policy>, Failure> {
        self.policies.get(&id).ok_or(Failure::UnknownKeyspace { id })
    }

    /// Who holds a partition, and who counts for what.
    ///
    /// # Errors
    /// [`Failure::UnknownKeyspace`] if there is no such keyspace or partition.
    pub fn placed(&self, id: KeyspaceId, partition: Partition) -> Result<Owners<'_>, Failure> {
        self.topology.owners(id, partition).ok_or(Failure::UnknownKeyspace { id })
    }

    /// Owners of a partition, the primary first; none if there is no such keyspace or partition.
    #[must_use]
    pub fn owners(&self, keyspace: KeyspaceId, partition: Partition) -> &[NodeId] {
        self.topology.owners(keyspace, partition).map_or(&[], |owners| owners.list())
    }

    /// Owners of a partition that were not given up.
    #[must_use]
    pub fn owners_alive(&self, keyspace: KeyspaceId, partition: Partition) -> Vec<NodeId> {
        let lives = |node: &NodeId| {
            self.topology.member(*node).is_some_and(|member| member.state != MemberState::Down)
        };
        self.owners(keyspace, partition).iter().copied().filter(lives).collect()
    }

    /// True if `node` owns the partition.
    #[must_use]
    pub fn is_owner(&self, node: NodeId, keyspace: KeyspaceId, partition: Partition) -> bool {
        self.owners(keyspace, partition).contains(&node)
    }

    /// True if `node` takes what is written to the partition: it owns it, or is to own it.
    #[must_use]
    pub fn takes(&self, node: NodeId, keyspace: KeyspaceId, partition: Partition) -> bool {
        let role = self.placed(keyspace, partition).ok().and_then(|owners| owners.role(node));
        matches!(role, Some(Role::Owner | Role::Receiver))
    }

    /// True if the partition changes hands, or somebody still has a copy of it that is to be deleted.
    #[must_use]
    pub fn is_on_the_move(&self, keyspace: KeyspaceId, partition: Partition) -> bool {
        self.placed(keyspace, partition)
            .is_ok_and(|owners| !owners.handovers().is_empty() || !owners.departing().is_empty())
    }

    /// The epoch since which the owners of a partition are who they are, and count as they do.
    #[must_use]
    pub fn since(&self, keyspace: KeyspaceId, partition: Partition) -> Epoch {
        self.placed(keyspace, partition).map_or(Epoch(0), |owners| owners.since())
    }

    /// What becomes of a request for a partition whose sender is at `epoch`.
    ///
    /// # Errors
    /// [`Failure::StaleEpoch`] if one of the two has to fetch the topology; [`Failure::UnknownKeyspace`].
    pub fn fence(&self, id: KeyspaceId, partition: Partition, epoch: Epoch) -> Result<(), Failure> {
        let stale = Err(Failure::StaleEpoch { current: self.epoch() });
        match self.topology.fence(id, partition, epoch) {
            Fence::Serve => Ok(()),
            Fence::CallerBehind | Fence::SelfBehind => stale,
            // It may be a new one.
            Fence::Unknown if epoch > self.epoch() => stale,
            Fence::Unknown => Err(Failure::UnknownKeyspace { id }),
        }
    }

    /// Members that take nothing of what is written to the partition, in an order that differs from partition to partition:
    /// stand-ins.
    pub fn stand_ins(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> impl Iterator<Item = NodeId> + '_ {
        let taken = self.placed(keyspace, partition).map(|owners| owners.writers());
        let taken = taken.unwrap_or_default();
        let start = partition.index() % self.members.len().max(1);
        let (behind, from) = self.members.split_at(start);
        from.iter().chain(behind).copied().filter(move |node| !taken.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::samples;

    #[test]
    fn a_view_says_what_its_topology_does() {
        for topology in samples::topologies() {
            let view = View::new(Arc::new(topology));
            let topology = view.topology();
            assert_eq!(view.members().len(), topology.members().len());
            for keyspace in topology.keyspaces() {
                let policy = view.policy(keyspace.id).expect("it is there");
                assert_eq!(policy.mode, keyspace.mode);
                for partition in view.ring().iter() {
                    let owners = topology.owners(keyspace.id, partition).expect("it is there");
                    assert_eq!(view.owners(keyspace.id, partition), owners.list());
                    let alive = view.owners_alive(keyspace.id, partition);
                    assert!(alive.iter().all(|node| owners.list().contains(node)));
                    let taking = owners.writers();
                    for node in view.members() {
                        let takes = view.takes(*node, keyspace.id, partition);
                        assert_eq!(takes, taking.contains(node));
                    }
                    let stand_ins: Vec<NodeId> = view.stand_ins(keyspace.id, partition).collect();
                    assert_eq!(stand_ins.len(), view.members().len() - taking.len());
                    let on_the_move = view.is_on_the_move(keyspace.id, partition);
                    let fixed = owners.receivers().count() == 0 && owners.departing().is_empty();
                    assert!(fixed || on_the_move);
                }
            }
        }
    }

    #[test]
    fn the_fence_refuses_who_is_behind_and_who_is_ahead() {
        let view = View::new(Arc::new(samples::topologies().pop().expect("there are some")));
        let (id, partition) = (view.topology().keyspaces()[0].id, Partition(0));
        let stale = Err(Failure::StaleEpoch { current: view.epoch() });
        let since = view.since(id, partition);
        assert_eq!(view.fence(id, partition, view.epoch()), Ok(()));
        assert_eq!(view.fence(id, partition, since), Ok(()));
        assert_eq!(view.fence(id, partition, Epoch(since.0 - 1)), stale);
        assert_eq!(view.fence(id, partition, Epoch(view.epoch().0 + 1)), stale);
        let unknown = KeyspaceId(99);
        assert_eq!(view.fence(unknown, partition, Epoch(view.epoch().0 + 1)), stale);
        let failure = Err(Failure::UnknownKeyspace { id: unknown });
        assert_eq!(view.fence(unknown, partition, view.epoch()), failure);
    }
}
