//! Which owner of a partition comes first.
//!
//! A node leads its share of the partitions it holds, rounded down or up. This is always possible:
//! if each owner led the same part of every partition it would be so, and what has a fractional
//! solution in a network of flow has a whole one. Leaders change as little as a search along
//! shortest paths achieves; to change one moves no data.

use crate::mix::mix;
use crate::placement::Placement;
use crate::view::{Node, View};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The primary of each partition; `before` is the one it had, where that node is still known.
pub(crate) fn primaries(view: &View, placement: &Placement, before: &[Option<Node>]) -> Vec<Node> {
    let mut lead = Lead::new(view, placement, before);
    lead.even_out(
        |lead, node| lead.count(node) > lead.most(node),
        |lead, node| lead.count(node) < lead.most(node),
    );
    lead.even_out(
        |lead, node| lead.count(node) > lead.least(node),
        |lead, node| lead.count(node) < lead.least(node),
    );
    lead.primary
}

struct Lead<'a> {
    view: &'a View,
    placement: &'a Placement,
    loads: Vec<u32>,
    primary: Vec<Node>,
    /// Partitions that each node leads.
    led: Vec<Vec<u32>>,
}

impl<'a> Lead<'a> {
    fn new(view: &'a View, placement: &'a Placement, before: &[Option<Node>]) -> Lead<'a> {
        let mut lead = Lead {
            view,
            placement,
            loads: placement.loads(view.nodes()),
            primary: alloc::vec![Node::MAX; view.partitions],
            led: alloc::vec![Vec::new(); view.nodes()],
        };
        let kept = |p: usize| before[p].filter(|&node| placement.has(p, node));
        for p in 0..view.partitions {
            if let Some(node) = kept(p) {
                lead.appoint(p, node);
            }
        }
        for p in (0..view.partitions).filter(|&p| kept(p).is_none()) {
            let room = |&node: &Node| {
                let lot = mix(p as u64, view.hashes[usize::from(node)]);
                (i64::from(lead.most(node)) - i64::from(lead.count(node)), lot)
            };
            if let Some(node) = placement.of(p).iter().copied().max_by_key(room) {
                lead.appoint(p, node);
            }
        }
        lead
    }

    fn appoint(&mut self, partition: usize, node: Node) {
        self.primary[partition] = node;
        self.led[usize::from(node)].push(partition as u32);
    }

    fn count(&self, node: Node) -> u32 {
        self.led[usize::from(node)].len() as u32
    }

    fn least(&self, node: Node) -> u32 {
        self.loads[usize::from(node)] / self.view.replicas as u32
    }

    fn most(&self, node: Node) -> u32 {
        self.loads[usize::from(node)].div_ceil(self.view.replicas as u32)
    }

    /// Hands partitions from nodes that `give` to nodes that `take` until one of the two is empty.
    fn even_out(
        &mut self,
        give: impl Fn(&Lead<'_>, Node) -> bool,
        take: impl Fn(&Lead<'_>, Node) -> bool,
    ) {
        while let Some(path) = self.path(&give, &take) {
            for (partition, from, to) in path {
                self.led[usize::from(from)].retain(|&p| p != partition);
                self.appoint(partition as usize, to);
            }
        }
    }

    /// A shortest path, the last step first: partition, its primary now, and who is to lead it.
    fn path(
        &self,
        give: &impl Fn(&Lead<'_>, Node) -> bool,
        take: &impl Fn(&Lead<'_>, Node) -> bool,
    ) -> Option<Vec<(u32, Node, Node)>> {
        let nodes = 0..self.view.nodes() as Node;
        if !nodes.clone().any(|node| take(self, node)) {
            return None;
        }
        let mut queue: VecDeque<Node> = nodes.filter(|&node| give(self, node)).collect();
        let mut came: Vec<Option<(u32, Node, Node)>> = alloc::vec![None; self.view.nodes()];
        let mut seen = alloc::vec![false; self.view.nodes()];
        queue.iter().for_each(|&node| seen[usize::from(node)] = true);
        while let Some(from) = queue.pop_front() {
            for &partition in &self.led[usize::from(from)] {
                for &to in self.placement.of(partition as usize) {
                    if core::mem::replace(&mut seen[usize::from(to)], true) {
                        continue;
                    }
                    came[usize::from(to)] = Some((partition, from, to));
                    if take(self, to) {
                        let steps = core::iter::successors(came[usize::from(to)], |step| {
                            came[usize::from(step.1)]
                        });
                        return Some(steps.collect());
                    }
                    queue.push_back(to);
                }
            }
        }
        None
    }
}
