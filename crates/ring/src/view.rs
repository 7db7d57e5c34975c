//! The membership as placement sees it: who can hold data, where, and how replicas spread.

use crate::member::{Member, NodeId};
use crate::mix::mix;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Index of a node in a [`View`].
pub(crate) type Node = u16;

/// How many replicas of one partition a zone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) min: u8,
    pub(crate) max: u8,
}

/// Members that can hold data, in the order of their ids, and the rule of zones for them.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) partitions: usize,
    /// Replicas of each partition: as many as asked for, or one on every node.
    pub(crate) replicas: usize,
    pub(crate) ids: Vec<NodeId>,
    /// Never 0.
    pub(crate) weights: Vec<u32>,
    pub(crate) zone_of: Vec<u16>,
    pub(crate) zones: Vec<Zone>,
    /// Breaks ties between nodes, so that the smallest id is not always first.
    pub(crate) hashes: Vec<u64>,
}

impl View {
    /// `members` come in the order of their ids.
    pub(crate) fn new(partitions: usize, replicas: usize, members: &[Member]) -> View {
        let holders: Vec<&Member> = members.iter().filter(|member| member.weight > 0).collect();
        let mut names: BTreeMap<&str, u16> = BTreeMap::new();
        for member in &holders {
            names.insert(&member.zone, 0);
        }
        for (number, zone) in (0..).zip(names.values_mut()) {
            *zone = number;
        }
        let zone_of: Vec<u16> = holders.iter().map(|m| names[m.zone.as_str()]).collect();
        let mut nodes_in = alloc::vec![0; names.len()];
        zone_of.iter().for_each(|&zone| nodes_in[usize::from(zone)] += 1);
        let replicas = replicas.min(holders.len());
        View {
            partitions,
            replicas,
            ids: holders.iter().map(|member| member.id).collect(),
            weights: holders.iter().map(|member| member.weight).collect(),
            zones: even_spread(replicas, &nodes_in),
            zone_of,
            hashes: holders.iter().map(|member| mix(member.id.0, 0)).collect(),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn index_of(&self, id: NodeId) -> Option<Node> {
        self.ids.binary_search(&id).ok().map(|index| index as Node)
    }

    pub(crate) fn zone_of(&self, node: Node) -> Zone {
        self.zones[usize::from(self.zone_of[usize::from(node)])]
    }

    pub(crate) fn same_zone(&self, a: Node, b: Node) -> bool {
        self.zone_of[usize::from(a)] == self.zone_of[usize::from(b)]
    }
}

/// The rule of zones: `replicas` of a partition lie as evenly over the zones as their nodes allow.
/// With `level` the smallest number that would do as a limit for every zone, each zone has
/// `level - 1` or `level` of them, or one on each of its nodes where it has fewer nodes than that.
fn even_spread(replicas: usize, nodes_in: &[usize]) -> Vec<Zone> {
    let room = |level: usize| nodes_in.iter().map(|&nodes| nodes.min(level)).sum::<usize>();
    let level = (1..replicas).find(|&level| room(level) >= replicas).unwrap_or(replicas);
    let zone =
        |&nodes: &usize| Zone { min: nodes.min(level - 1) as u8, max: nodes.min(level) as u8 };
    nodes_in.iter().map(zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(replicas: usize, nodes_in: &[usize]) -> Vec<(u8, u8)> {
        even_spread(replicas, nodes_in).iter().map(|zone| (zone.min, zone.max)).collect()
    }

    #[test]
    fn replicas_spread_as_evenly_as_the_nodes_allow() {
        assert_eq!(spread(3, &[5]), [(2, 3)]);
        assert_eq!(spread(3, &[5, 5]), [(1, 2), (1, 2)]);
        assert_eq!(spread(3, &[5, 5, 5]), [(0, 1); 3]);
        assert_eq!(spread(3, &[1, 1, 9]), [(0, 1); 3]);
        assert_eq!(spread(3, &[1, 9]), [(1, 1), (1, 2)]);
        assert_eq!(spread(5, &[9, 9, 9]), [(1, 2); 3]);
        assert_eq!(spread(5, &[1, 1, 9]), [(1, 1), (1, 1), (2, 3)]);
        assert_eq!(spread(2, &[1, 1, 1, 1]), [(0, 1); 4]);
        assert_eq!(spread(1, &[4, 1]), [(0, 1); 2]);
    }

    #[test]
    fn nodes_without_weight_are_not_seen() {
        let members = [Member::new(1, 0, "a"), Member::new(2, 3, "b"), Member::new(3, 1, "c")];
        let view = View::new(16, 3, &members);
        assert_eq!((view.nodes(), view.replicas, view.zones.len()), (2, 2, 2));
        assert_eq!((view.index_of(NodeId(1)), view.index_of(NodeId(3))), (None, Some(1)));
    }
}
