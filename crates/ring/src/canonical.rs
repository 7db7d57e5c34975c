//! The placement of a new cluster, which has no history to respect.
//!
//! All replicas stand in one line, node by node and zone by zone; the first `partitions` of the
//! line are replicas of partitions 0, 1, 2 .., the next as many again, and so on. A node's stretch
//! is no longer than a lap, so it gets no partition twice; a zone's stretch gives each partition
//! the zone's length in laps, rounded down or up, which is what the rule of zones asks for. So
//! shares and zones are exact by construction. Then pairs of replicas change places at random as
//! long as that keeps both, so that the partitions of one node are shared with all others.
//!
//! # Source
//! Madow, "On the theory of systematic sampling", 1949.

use crate::mix::{Sequence, mix};
use crate::placement::Placement;
use crate::view::{Node, View};

/// Times that each replica is offered a random partner. After two the pairs of nodes that meet in
/// a partition are as even as in a placement drawn at random.
const ROUNDS: usize = 2;

/// `shares` says how many replicas each node gets; they come from [`crate::shares::shares`].
pub(crate) fn place(view: &View, shares: &[u32]) -> Placement {
    let mut placement = in_line(view, shares);
    shuffle(view, &mut placement);
    placement
}

fn in_line(view: &View, shares: &[u32]) -> Placement {
    let mut nodes: alloc::vec::Vec<Node> = (0..view.nodes() as Node).collect();
    nodes.sort_by_key(|&node| (view.zone_of[usize::from(node)], view.hashes[usize::from(node)]));
    let mut placement = Placement::empty(view.partitions, view.replicas);
    let line = nodes.iter().flat_map(|&node| (0..shares[usize::from(node)]).map(move |_| node));
    for (place, node) in line.enumerate() {
        placement.push(place % view.partitions, node);
    }
    placement
}

fn shuffle(view: &View, placement: &mut Placement) {
    let mut random = Sequence(mix(view.partitions as u64, view.replicas as u64));
    for _ in 0..ROUNDS {
        for p in 0..view.partitions {
            for rank in 0..view.replicas {
                let a = placement.of(p)[rank];
                let q = random.below(view.partitions);
                let first = random.below(view.replicas);
                let partner = (0..view.replicas)
                    .map(|n| placement.of(q)[(first + n) % view.replicas])
                    .find(|&b| {
                        placement.may_replace(view, p, a, b) && placement.may_replace(view, q, b, a)
                    });
                if let Some(b) = partner {
                    placement.replace(p, a, b);
                    placement.replace(q, b, a);
                }
            }
        }
    }
}
