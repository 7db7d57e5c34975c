//! Who holds a partition, and who counts.

use base::planted;
use ring::{Epoch, NodeId};

/// One node takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handover {
    /// The owner that goes; `None` if there is one owner more.
    pub from: Option<NodeId>,
    /// The node that becomes an owner; `None` if there is one owner less.
    pub to: Option<NodeId>,
}

/// What becomes of a request for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fence {
    /// Both see the same owners.
    Serve,
    /// The owners have changed since: refused, the caller fetches the topology.
    CallerBehind,
    /// The caller knows more: refused, and this node fetches the topology.
    SelfBehind,
    /// There is no such keyspace or partition here.
    Unknown,
}

/// What a node is to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It holds the data and counts.
    Owner,
    /// It becomes an owner: it takes writes.
    Receiver,
    /// It was an owner, or should have become one, and deletes its copy. Until that is done rounds hear it too.
    Departing,
}

/// Who holds one partition, at one epoch.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    pub(super) list: &'a [NodeId],
    /// Those under way.
    pub(super) handovers: &'a [Handover],
    pub(super) joint: bool,
    pub(super) departing: &'a [NodeId],
    pub(super) since: Epoch,
}

impl<'a> Owners<'a> {
    /// The owners, the primary first.
    #[must_use]
    pub fn list(&self) -> &'a [NodeId] {
        self.list
    }

    /// The first owner.
    #[must_use]
    pub fn primary(&self) -> Option<NodeId> {
        self.list.first().copied()
    }

    /// Nodes that become owners.
    pub fn receivers(&self) -> impl Iterator<Item = NodeId> + 'a {
        self.handovers.iter().filter_map(|handover| handover.to)
    }

    /// Nodes with a copy that is to be deleted.
    #[must_use]
    pub fn departing(&self) -> &'a [NodeId] {
        self.departing
    }

    /// The handovers under way.
    #[must_use]
    pub fn handovers(&self) -> &'a [Handover] {
        self.handovers
    }

    /// The epoch since which they are who they are: requests of an earlier one are refused.
    #[must_use]
    pub fn since(&self) -> Epoch {
        self.since
    }

    /// What `node` is to the partition; `None` if it is nothing.
    #[must_use]
    pub fn role(&self, node: NodeId) -> Option<Role> {
        if self.list.contains(&node) {
            Some(Role::Owner)
        } else if self.receivers().any(|to| to == node) {
            Some(Role::Receiver)
        } else {
            self.departing.contains(&node).then_some(Role::Departing)
        }
    }

    /// Those that each write is sent to: owners, the primary first, then receivers.
    #[must_use]
    pub fn writers(&self) -> Vec<NodeId> {
        self.list.iter().copied().chain(self.receivers()).collect()
    }

    /// Those that reads may ask: owners, the primary first, and receivers where an owner counts only with its receiver.
    #[must_use]
    pub fn readers(&self) -> Vec<NodeId> {
        if self.joint { self.writers() } else { self.list.to_vec() }
    }

    /// How far nodes that acknowledged a write, or answered a read, count for W or R: each owner once, but one that is about to hand
    /// over only together with its receiver. Receivers by themselves count for nothing.
    #[must_use]
    pub fn count(&self, nodes: &[NodeId]) -> usize {
        let counts = |owner: &&NodeId| nodes.contains(owner) && self.partner_in(**owner, nodes);
        self.list.iter().filter(counts).count()
    }

    /// The most that [`Owners::count`] can give.
    #[must_use]
    pub fn count_max(&self) -> usize {
        self.count(&self.writers())
    }

    fn partner_in(&self, owner: NodeId, nodes: &[NodeId]) -> bool {
        let mut handovers = self.handovers.iter().filter(|_| self.joint);
        match handovers.find(|handover| handover.from == Some(owner)) {
            None => true,
            Some(_) if planted::is(96) => true,
            Some(handover) => handover.to.is_some_and(|to| nodes.contains(&to)),
        }
    }
}
