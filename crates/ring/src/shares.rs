//! How many replicas each node is to hold.
//!
//! Replicas are handed out one by one, each to the node that would then be the least full for its
//! weight (the divisor method of Jefferson and D'Hondt). So the fullest node is as little full as
//! whole replicas allow, and when a node joins the others only ever give, when one leaves they only
//! ever take: nothing moves between two nodes that did not change.
//!
//! Limits win over weights: a node holds a partition once at most, and a zone between `min` and
//! `max` replicas of each (see [`View`]). What a node or zone at its limit cannot take goes to the
//! others in proportion to their weights.
//!
//! # Source
//! Balinski and Young, "Fair Representation", 1982, on divisor methods.

use crate::view::{View, Zone};
use alloc::collections::BinaryHeap;
use alloc::collections::binary_heap::PeekMut;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

/// Replicas per node; their sum is `partitions * replicas`. Between nodes that would be equally
/// full, one that has more than its share so far in `kept` is preferred: that replica stays.
///
/// Complexity: `O(partitions * replicas * log(nodes))`.
pub(crate) fn shares(view: &View, kept: &[u32]) -> Vec<u32> {
    let mut share = alloc::vec![0; view.nodes()];
    let room = |of: fn(&Zone) -> u8| -> Vec<usize> {
        view.zones.iter().map(|zone| view.partitions * usize::from(of(zone))).collect()
    };
    let least = room(|zone| zone.min);
    let beyond = view.partitions * view.replicas - least.iter().sum::<usize>();
    hand_out(view, kept, &mut share, least.iter().sum(), least);
    hand_out(view, kept, &mut share, beyond, room(|zone| zone.max - zone.min));
    share
}

/// Adds `count` replicas to `share`, at most `room` of them in each zone.
fn hand_out(view: &View, kept: &[u32], share: &mut [u32], count: usize, mut room: Vec<usize>) {
    let bid = |node: usize, share: u32| Bid {
        next: u64::from(share) + 1,
        weight: u64::from(view.weights[node]),
        moves: kept[node] <= share,
        hash: view.hashes[node],
        node,
    };
    let bids = (0..view.nodes()).map(|node| Reverse(bid(node, share[node])));
    let mut heap: BinaryHeap<Reverse<Bid>> = bids.collect();
    let mut left = count;
    while left > 0 {
        let Some(mut top) = heap.peek_mut() else { break };
        let node = top.0.node;
        let room = &mut room[usize::from(view.zone_of[node])];
        if *room == 0 || share[node] as usize == view.partitions {
            PeekMut::pop(top);
            continue;
        }
        share[node] += 1;
        *room -= 1;
        left -= 1;
        *top = Reverse(bid(node, share[node]));
    }
    debug_assert_eq!(left, 0, "limits of the zones leave too little room");
}

/// What a node would hold after one replica more, for its weight.
struct Bid {
    next: u64,
    weight: u64,
    moves: bool,
    hash: u64,
    node: usize,
}

impl Ord for Bid {
    fn cmp(&self, other: &Self) -> Ordering {
        // next / weight against next / weight; at most 2^19 * 2^32.
        (self.next * other.weight)
            .cmp(&(other.next * self.weight))
            .then(self.moves.cmp(&other.moves))
            .then(self.hash.cmp(&other.hash))
            .then(self.node.cmp(&other.node))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bid {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Bid {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Member;

    fn of(partitions: usize, replicas: usize, nodes: &[(u32, &str)], kept: &[u32]) -> Vec<u32> {
        let members: Vec<Member> =
            (1..).zip(nodes).map(|(id, (weight, zone))| Member::new(id, *weight, zone)).collect();
        shares(&View::new(partitions, replicas, &members), kept)
    }

    #[test]
    fn shares_follow_weights() {
        assert_eq!(of(64, 1, &[(1, "a"), (2, "a"), (5, "a")], &[0; 3]), [8, 16, 40]);
        assert_eq!(of(64, 2, &[(3, "a"), (3, "a"), (1, "a"), (1, "a")], &[0; 4]), [48, 48, 16, 16]);
    }

    #[test]
    fn a_node_holds_a_partition_once_and_the_others_share_the_rest() {
        assert_eq!(of(64, 2, &[(u32::MAX, "a"), (1, "a"), (3, "a")], &[0; 3]), [64, 16, 48]);
        assert_eq!(of(64, 3, &[(9, "a"), (1, "a")], &[0; 2]), [64, 64]);
    }

    #[test]
    fn zones_win_over_weights() {
        let nodes = [(1, "a"), (4, "b"), (4, "b"), (4, "c"), (2, "c")];
        assert_eq!(of(60, 3, &nodes, &[0; 5]), [60, 30, 30, 40, 20]);
        let nodes = [(1, "a"), (9, "b"), (9, "b"), (9, "b")];
        assert_eq!(of(60, 2, &nodes, &[0; 4]), [60, 20, 20, 20]);
    }

    #[test]
    fn who_holds_more_keeps_it() {
        assert_eq!(of(4, 1, &[(1, "a"), (1, "a"), (1, "a")], &[1, 2, 1]), [1, 2, 1]);
        assert_eq!(of(4, 1, &[(1, "a"), (1, "a"), (1, "a")], &[2, 1, 1]), [2, 1, 1]);
    }
}
