//! Moves that turned out needless: a node that gave one replica away and got another could have
//! kept the first, if others can take its new ones instead.
//!
//! One such change is a cycle of negative cost in the network of flow.

use crate::chain::{Search, Step};
use crate::fit::Fit;
use crate::view::Node;
use alloc::vec::Vec;

/// Replicas and nodes that are looked at before it is enough: tens of milliseconds. Only a change of the zones themselves leaves so many nodes that give and take.
const WORK_MAX: usize = 1 << 22;

/// Cycles that are tried before a search is given up.
const CYCLES_MAX: usize = 4;

impl Fit<'_> {
    /// Takes moves back while that is possible and the work is bounded. Loads stay as they are.
    pub(crate) fn shorten(&mut self) {
        let mut work = 0;
        let (gained, lost) = self.changes();
        let mut shorter = true;
        while core::mem::replace(&mut shorter, false) {
            // Only who gained as well can give something away for what it keeps.
            for node in self.nodes().filter(|&node| gained[usize::from(node)] > 0) {
                while work < WORK_MAX && self.keep(node, &lost[usize::from(node)], &mut work) {
                    shorter = true;
                }
            }
        }
    }

    /// How many partitions each node has and had not, and which it had and has not.
    fn changes(&self) -> (Vec<u32>, Vec<Vec<u32>>) {
        let mut gained = alloc::vec![0; self.view.nodes()];
        let mut lost = alloc::vec![Vec::new(); self.view.nodes()];
        for p in 0..self.view.partitions {
            for &node in self.now.of(p).iter().filter(|&&node| !self.is_old(p, node)) {
                gained[usize::from(node)] += 1;
            }
            for &node in self.before.of(p).iter().filter(|&&node| !self.now.has(p, node)) {
                lost[usize::from(node)].push(p as u32);
            }
        }
        (gained, lost)
    }

    /// Gives one of the `lost` partitions back to `node`, which passes on a new one. That saves a
    /// move if the first step of the cycle, or the last, brings a replica back in place of a new one
    /// and all others are free.
    fn keep(&mut self, node: Node, lost: &[u32], work: &mut usize) -> bool {
        *work += lost.len();
        let mut search = Search::new(self, &[node], work);
        search.close(&mut alloc::vec![node]);
        let mut cycles = self.cycles(&search, node, lost, |p, from| !self.is_old(p, from));
        if cycles.is_empty() {
            let (mut search, mut level) = (Search::new(self, &[node], work), Vec::new());
            search.send_back(node, &mut level);
            search.close(&mut level);
            cycles = self.cycles(&search, node, lost, |_, _| true);
        }
        cycles.iter().any(|cycle| self.take_all(cycle, work))
    }

    /// A few ways back to `node` from where `search` came to, by a `lost` partition.
    fn cycles(
        &self,
        search: &Search<'_>,
        node: Node,
        lost: &[u32],
        may_leave: impl Fn(usize, Node) -> bool,
    ) -> Vec<Vec<Step>> {
        let mut cycles = Vec::new();
        for &partition in lost {
            let p = partition as usize;
            // Nearly always the first will do: it may not if it meets itself in a partition.
            if cycles.len() >= CYCLES_MAX {
                break;
            }
            for &from in self.now.of(p).iter().filter(|&&from| from != node) {
                if search.has_reached(from)
                    && may_leave(p, from)
                    && self.now.may_replace(self.view, p, from, node)
                {
                    let mut cycle = search.path(from);
                    cycle.insert(0, Step { partition, from, to: node });
                    cycles.push(cycle);
                }
            }
        }
        cycles
    }

    /// All of `steps`, or nothing if one of them is not allowed after those before it.
    fn take_all(&mut self, steps: &[Step], work: &mut usize) -> bool {
        for (taken, step) in steps.iter().enumerate() {
            let Step { partition, from, to } = *step;
            *work += self.held[usize::from(from)].len();
            let p = partition as usize;
            if !self.now.has(p, from) || !self.now.may_replace(self.view, p, from, to) {
                for step in steps[..taken].iter().rev() {
                    self.step(step.partition as usize, step.to, step.from);
                }
                return false;
            }
            self.step(p, from, to);
        }
        true
    }
}
