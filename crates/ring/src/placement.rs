//! Who holds what, as tables of small numbers, and the one step that changes it.

use crate::view::{Node, View};
use alloc::vec::Vec;

/// The nodes of each partition, in no order that means anything.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    stride: usize,
    slots: Vec<Node>,
    counts: Vec<u8>,
}

impl Placement {
    /// Partitions without owners, with room for `stride` each.
    pub(crate) fn empty(partitions: usize, stride: usize) -> Placement {
        Placement {
            stride,
            slots: alloc::vec![Node::MAX; partitions * stride],
            counts: alloc::vec![0; partitions],
        }
    }

    pub(crate) fn partitions(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn of(&self, partition: usize) -> &[Node] {
        let start = partition * self.stride;
        &self.slots[start..start + usize::from(self.counts[partition])]
    }

    pub(crate) fn has(&self, partition: usize, node: Node) -> bool {
        self.of(partition).contains(&node)
    }

    /// There is room for it.
    pub(crate) fn push(&mut self, partition: usize, node: Node) {
        let count = usize::from(self.counts[partition]);
        self.slots[partition * self.stride + count] = node;
        self.counts[partition] += 1;
    }

    /// Does nothing if `node` is no owner.
    pub(crate) fn remove(&mut self, partition: usize, node: Node) {
        let Some(at) = self.of(partition).iter().position(|&owner| owner == node) else { return };
        let start = partition * self.stride;
        let last = start + usize::from(self.counts[partition]) - 1;
        self.slots.swap(start + at, last);
        self.counts[partition] -= 1;
    }

    /// `to` takes the place of `from`; nothing happens if `from` is no owner.
    pub(crate) fn replace(&mut self, partition: usize, from: Node, to: Node) {
        let Some(at) = self.of(partition).iter().position(|&owner| owner == from) else { return };
        self.slots[partition * self.stride + at] = to;
    }

    /// Owners of `partition` in one zone.
    pub(crate) fn in_zone(&self, view: &View, partition: usize, zone: u16) -> u8 {
        let there = |node: &&Node| view.zone_of[usize::from(**node)] == zone;
        self.of(partition).iter().filter(there).count() as u8
    }

    /// Whether `node` may give its replica to a node of another zone, for all that its own says.
    pub(crate) fn may_leave_zone(&self, view: &View, partition: usize, node: Node) -> bool {
        let zone = view.zone_of[usize::from(node)];
        self.in_zone(view, partition, zone) > view.zone_of(node).min
    }

    /// Whether `node`, of a zone that no owner is leaving, may be added.
    pub(crate) fn may_enter_zone(&self, view: &View, partition: usize, node: Node) -> bool {
        let zone = view.zone_of[usize::from(node)];
        self.in_zone(view, partition, zone) < view.zone_of(node).max
    }

    /// Whether `to` may take the place of the owner `from`: the one step that keeps a placement
    /// that obeys the zones obeying them.
    pub(crate) fn may_replace(&self, view: &View, partition: usize, from: Node, to: Node) -> bool {
        !self.has(partition, to)
            && (view.same_zone(from, to)
                || (self.may_leave_zone(view, partition, from)
                    && self.may_enter_zone(view, partition, to)))
    }

    /// Replicas per node.
    pub(crate) fn loads(&self, nodes: usize) -> Vec<u32> {
        let mut loads = alloc::vec![0; nodes];
        for partition in 0..self.partitions() {
            self.of(partition).iter().for_each(|&node| loads[usize::from(node)] += 1);
        }
        loads
    }

    /// Partitions per node.
    pub(crate) fn held(&self, nodes: usize) -> Vec<Vec<u32>> {
        let mut held = alloc::vec![Vec::new(); nodes];
        for partition in 0..self.partitions() {
            let hold = |&node: &Node| held[usize::from(node)].push(partition as u32);
            self.of(partition).iter().for_each(hold);
        }
        held
    }
}
