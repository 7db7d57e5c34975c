//! From the placement before to one that fits the shares, with as few moves as can be found.
//!
//! 1. [`Fit::settle`] mends each partition that breaks a rule by itself: owners that are gone are
//!    replaced, zones with too many replicas give to zones with too few.
//! 2. [`Fit::spread`] moves replicas straight from nodes that are over their share to nodes below.
//! 3. [`Fit::chain`] finds the way around where no straight move is allowed: `a` gives to `b`,
//!    which gives another partition to `c`.
//! 4. [`Fit::shorten`] looks for moves that turned out needless, and takes them back.
//!
//! After each step but the first, every partition obeys the zones; after the third, every node
//! holds its share exactly. That this is always possible is a theorem on flows: shares and zones
//! have a fractional solution (each node takes the same part of every partition), so they have a
//! whole one, and whatever is not one can be improved along a path.

use crate::mix::mix;
use crate::placement::Placement;
use crate::view::{Node, View};
use alloc::vec::Vec;

/// Placement in the making. `before` and `now` speak of the nodes of `view`.
pub(crate) struct Fit<'a> {
    pub(crate) view: &'a View,
    pub(crate) shares: &'a [u32],
    pub(crate) before: &'a Placement,
    pub(crate) now: Placement,
    pub(crate) loads: Vec<u32>,
    /// Partitions of each node, in step with `now` from [`Fit::spread`] on.
    pub(crate) held: Vec<Vec<u32>>,
}

/// The placement with exactly `shares` that obeys the zones and is near to `before`, which has room
/// for all replicas.
pub(crate) fn fit(view: &View, shares: &[u32], before: &Placement) -> Placement {
    let loads = before.loads(view.nodes());
    let held = Vec::new();
    let mut fit = Fit { view, shares, before, now: before.clone(), loads, held };
    fit.settle();
    fit.held = fit.now.held(view.nodes());
    fit.spread();
    fit.chain();
    fit.shorten();
    fit.now
}

impl Fit<'_> {
    /// How far `node` is over its share; negative below it.
    pub(crate) fn excess(&self, node: Node) -> i64 {
        let node = usize::from(node);
        i64::from(self.loads[node]) - i64::from(self.shares[node])
    }

    /// Whether the replica was there before: to move it costs, to move a new one is free.
    pub(crate) fn is_old(&self, partition: usize, node: Node) -> bool {
        self.before.has(partition, node)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        0..self.view.nodes() as Node
    }

    fn lot(&self, partition: usize, node: Node) -> u64 {
        mix(self.view.hashes[usize::from(node)], partition as u64)
    }

    // ---- 1: partitions by themselves ----

    fn settle(&mut self) {
        for partition in 0..self.view.partitions {
            while let Some(node) = self.to_drop(partition) {
                self.now.remove(partition, node);
                self.loads[usize::from(node)] -= 1;
            }
            while let Some(node) = self.to_add(partition) {
                self.now.push(partition, node);
                self.loads[usize::from(node)] += 1;
            }
        }
    }

    /// An owner that has to go: from a zone with too many, else from one that can spare it while
    /// there are too many in all or another zone has too few. The fullest node goes first.
    fn to_drop(&self, partition: usize) -> Option<Node> {
        let (view, now) = (self.view, &self.now);
        let owners = now.of(partition);
        let fullest = |among: &dyn Fn(Node) -> bool| {
            let chosen = owners.iter().copied().filter(|&node| among(node));
            chosen.max_by_key(|&node| (self.excess(node), self.lot(partition, node)))
        };
        let zone_count = |node: Node| now.in_zone(view, partition, view.zone_of[usize::from(node)]);
        if let Some(node) = fullest(&|node| zone_count(node) > view.zone_of(node).max) {
            return Some(node);
        }
        if owners.len() + self.missing(partition) <= view.replicas {
            return None;
        }
        fullest(&|node| zone_count(node) > view.zone_of(node).min)
    }

    /// A node to fill the partition up: of a zone with too few, else of any that may have more. The
    /// emptiest node comes first.
    fn to_add(&self, partition: usize) -> Option<Node> {
        let (view, now) = (self.view, &self.now);
        if now.of(partition).len() >= view.replicas {
            return None;
        }
        let lacking = self.missing(partition) > 0;
        let may = |&node: &Node| {
            let zone = view.zone_of(node);
            let limit = if lacking { zone.min } else { zone.max };
            !now.has(partition, node)
                && now.in_zone(view, partition, view.zone_of[usize::from(node)]) < limit
        };
        let mut best: Option<(i64, u64, Node)> = None;
        for node in self.nodes() {
            let excess = self.excess(node);
            if best.is_some_and(|(least, ..)| excess > least) || !may(&node) {
                continue;
            }
            let bid = (excess, self.lot(partition, node), node);
            if best.is_none_or(|best| bid < best) {
                best = Some(bid);
            }
        }
        best.map(|(.., node)| node)
    }

    /// Replicas that zones lack for their minimum.
    fn missing(&self, partition: usize) -> usize {
        let view = self.view;
        // Only with fewer zones than replicas has a zone a minimum, so this loop is short.
        if view.zones.len() >= view.replicas {
            return 0;
        }
        let lack = |(number, zone): (usize, &crate::view::Zone)| {
            usize::from(zone.min.saturating_sub(self.now.in_zone(view, partition, number as u16)))
        };
        view.zones.iter().enumerate().map(lack).sum()
    }

    // ---- 2: straight moves ----

    fn spread(&mut self) {
        let mut below: Vec<Node> = self.nodes().filter(|&node| self.excess(node) < 0).collect();
        for from in self.nodes() {
            if self.excess(from) <= 0 || below.is_empty() {
                continue;
            }
            let mut partitions = core::mem::take(&mut self.held[usize::from(from)]);
            partitions.sort_by_cached_key(|&p| {
                (self.is_old(p as usize, from), self.lot(p as usize, from))
            });
            partitions.retain(|&partition| {
                if self.excess(from) <= 0 {
                    return true;
                }
                let Some(to) = self.emptiest(&below, partition as usize, from) else { return true };
                self.now.replace(partition as usize, from, to);
                self.loads[usize::from(from)] -= 1;
                self.loads[usize::from(to)] += 1;
                self.held[usize::from(to)].push(partition);
                if self.excess(to) == 0 {
                    below.retain(|&node| node != to);
                }
                false
            });
            // What others pushed meanwhile: nothing, `from` is over its share.
            self.held[usize::from(from)] = partitions;
        }
    }

    fn emptiest(&self, below: &[Node], partition: usize, from: Node) -> Option<Node> {
        let mut best: Option<(i64, u64, Node)> = None;
        for &node in below {
            let excess = self.excess(node);
            if best.is_some_and(|(least, ..)| excess > least) {
                continue;
            }
            if self.now.may_replace(self.view, partition, from, node) {
                let bid = (excess, self.lot(partition, node), node);
                if best.is_none_or(|best| bid < best) {
                    best = Some(bid);
                }
            }
        }
        best.map(|(.., node)| node)
    }

    /// `to` takes the replica of `from`, with all tables kept in step.
    pub(crate) fn step(&mut self, partition: usize, from: Node, to: Node) {
        debug_assert!(self.now.may_replace(self.view, partition, from, to));
        self.now.replace(partition, from, to);
        self.loads[usize::from(from)] -= 1;
        self.loads[usize::from(to)] += 1;
        let held = &mut self.held[usize::from(from)];
        if let Some(at) = held.iter().position(|&p| p as usize == partition) {
            held.swap_remove(at);
        }
        self.held[usize::from(to)].push(partition as u32);
    }
}
