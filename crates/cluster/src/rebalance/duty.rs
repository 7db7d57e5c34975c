//! What a node has to bring to itself before a partition is flipped.

use super::record::Moving;
use crate::topology::{Handover, MemberState, Owners, Topology};
use ring::NodeId;

/// What one node does for one partition under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// Whom to copy from, the best one first; empty if the node owns the partition already.
    pub copy_from: Vec<NodeId>,
    /// With whom to exchange once the partition is joint: with all of them, each after it said that it knows.
    pub catch_up_with: Vec<NodeId>,
}

/// What `node` does for `moving`, as long as it is copying or joint; `None` if it has nothing to do with it.
///
/// A receiver takes the place of an owner that goes, so it brings what that one has. If that one is dead, or there is none, it brings
/// what every other owner has. Where an owner goes without another in its place, the owners that stay bring what it has.
#[must_use]
pub fn duty(topology: &Topology, moving: Moving, node: NodeId) -> Option<Duty> {
    let owners = topology.placement(usize::from(moving.replicas))?.owners(moving.partition)?;
    let handovers = owners.handovers();
    let mine = |handover: &&Handover| match handover.to {
        Some(to) => to == node,
        None => stays(&owners, node),
    };
    let mut sources: Vec<NodeId> = Vec::new();
    for handover in handovers.iter().filter(mine) {
        sources.extend(sources_of(topology, &owners, handover));
    }
    let receives = handovers.iter().any(|handover| handover.to == Some(node));
    sources.retain(|source| *source != node);
    sources.sort_unstable();
    sources.dedup();
    if sources.is_empty() && !receives {
        return None;
    }
    let copy_from = if receives { copy_sources(topology, &owners, node) } else { Vec::new() };
    Some(Duty { copy_from, catch_up_with: sources })
}

fn stays(owners: &Owners<'_>, node: NodeId) -> bool {
    let leaves = owners.handovers().iter().any(|handover| handover.from == Some(node));
    owners.list().contains(&node) && !leaves
}

fn lives(topology: &Topology, node: NodeId) -> bool {
    topology.member(node).is_some_and(|member| member.state != MemberState::Down)
}

fn sources_of(topology: &Topology, owners: &Owners<'_>, handover: &Handover) -> Vec<NodeId> {
    match handover.from {
        Some(from) if lives(topology, from) => vec![from],
        _ => owners.list().iter().copied().filter(|owner| lives(topology, *owner)).collect(),
    }
}

/// The owner whose place is taken, since it has least to do from then on, then the others.
fn copy_sources(topology: &Topology, owners: &Owners<'_>, node: NodeId) -> Vec<NodeId> {
    let replaced = owners.handovers().iter().find(|handover| handover.to == Some(node));
    let first = replaced.and_then(|handover| handover.from);
    let mut sources: Vec<NodeId> = owners.list().to_vec();
    sources.sort_by_key(|owner| Some(*owner) != first);
    sources.retain(|owner| lives(topology, *owner));
    sources
}
