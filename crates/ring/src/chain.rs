//! Chains of moves: the cheapest path in the network of flow from nodes over their share to nodes
//! below it. A step is a replica that changes hands. It costs 1 if the replica was there before,
//! unless it goes back to where it was before, which costs nothing.

use crate::fit::Fit;
use crate::view::Node;
use alloc::vec::Vec;
use core::iter::successors;

impl Fit<'_> {
    /// Until every node holds its share.
    pub(crate) fn chain(&mut self) {
        while self.nodes().any(|node| self.excess(node) > 0) {
            let Some(steps) = Search::run(self) else {
                debug_assert!(false, "shares that no placement can have");
                return;
            };
            self.repeat(&steps);
        }
    }

    /// Takes the steps of a path, then the same between the same nodes with other partitions, as
    /// long as there are any at the same cost. With few nodes and many partitions one search does
    /// for thousands of moves.
    fn repeat(&mut self, path: &[Step]) {
        let (Some(last), Some(first)) = (path.first(), path.last()) else { return };
        let mut choices: Vec<_> = path.iter().map(|step| self.choices(*step)).collect();
        while self.excess(first.from) > 0 && self.excess(last.to) < 0 {
            if !self.take_one_each(path, &mut choices) {
                break;
            }
        }
        self.refresh_held(path);
    }

    /// Partitions with which `step` could be taken at its cost, itself first. They are looked at
    /// again when it is their turn.
    fn choices(&self, step: Step) -> alloc::vec::IntoIter<u32> {
        let paid = self.is_paid(step);
        let mut choices = alloc::vec![step.partition];
        let others = self.held[usize::from(step.from)].iter().filter(|&&partition| {
            partition != step.partition && self.is_paid(Step { partition, ..step }) == paid
        });
        choices.extend(others);
        choices.into_iter()
    }

    fn is_paid(&self, step: Step) -> bool {
        let partition = step.partition as usize;
        self.is_old(partition, step.from) && !self.is_old(partition, step.to)
    }

    /// One partition along the whole path, or nothing.
    fn take_one_each(&mut self, path: &[Step], choices: &mut [alloc::vec::IntoIter<u32>]) -> bool {
        let mut taken = Vec::with_capacity(path.len());
        for (step, choices) in path.iter().zip(choices) {
            let Step { from, to, .. } = *step;
            let found = choices.find(|&p| {
                self.now.has(p as usize, from)
                    && self.now.may_replace(self.view, p as usize, from, to)
            });
            let Some(partition) = found else {
                for Step { partition, from, to } in taken.into_iter().rev() {
                    self.hand_over(partition, to, from);
                }
                return false;
            };
            self.hand_over(partition, from, to);
            taken.push(Step { partition, from, to });
        }
        for Step { partition, to, .. } in taken {
            self.held[usize::from(to)].push(partition);
        }
        true
    }

    fn hand_over(&mut self, partition: u32, from: Node, to: Node) {
        self.now.replace(partition as usize, from, to);
        self.loads[usize::from(from)] -= 1;
        self.loads[usize::from(to)] += 1;
    }

    fn refresh_held(&mut self, path: &[Step]) {
        for step in path {
            for node in [step.from, step.to] {
                let (now, held) = (&self.now, &mut self.held[usize::from(node)]);
                held.retain(|&partition| now.has(partition as usize, node));
                held.sort_unstable();
                held.dedup();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) partition: u32,
    pub(crate) from: Node,
    pub(crate) to: Node,
}

/// A search by levels of cost from all nodes over their share at once.
pub(crate) struct Search<'a> {
    fit: &'a Fit<'a>,
    /// How each node was reached.
    came: Vec<Option<Step>>,
    seen: Vec<bool>,
    unseen: Vec<Node>,
    /// Partitions in which every node of another zone that may be reached has been.
    crossed: Vec<bool>,
    work: &'a mut usize,
}

impl<'a> Search<'a> {
    /// A search that has reached `level` and nothing else. Adds to `work` how many replicas and
    /// nodes it looks at.
    pub(crate) fn new(fit: &'a Fit<'a>, level: &[Node], work: &'a mut usize) -> Search<'a> {
        // The table of partitions is cleared for each search.
        *work += fit.view.partitions / 16;
        let mut seen = alloc::vec![false; fit.view.nodes()];
        level.iter().for_each(|&node| seen[usize::from(node)] = true);
        Search {
            fit,
            came: alloc::vec![None; fit.view.nodes()],
            unseen: fit.nodes().filter(|&node| !seen[usize::from(node)]).collect(),
            seen,
            crossed: alloc::vec![false; fit.view.partitions],
            work,
        }
    }

    /// A cheapest path from a node over its share to one below it.
    fn run(fit: &'a Fit<'a>) -> Option<Vec<Step>> {
        let mut level: Vec<Node> = fit.nodes().filter(|&node| fit.excess(node) > 0).collect();
        let mut work = 0;
        let mut search = Search::new(fit, &level, &mut work);
        while !level.is_empty() {
            search.close(&mut level);
            if let Some(end) = search.end(&level) {
                return Some(search.path(end));
            }
            let mut next = Vec::new();
            for &node in &level {
                search.expand_paid(node, &mut next);
            }
            level = next;
        }
        None
    }

    /// Adds to `level` all that can be reached from it at no cost.
    pub(crate) fn close(&mut self, level: &mut Vec<Node>) {
        let mut at = 0;
        while at < level.len() {
            self.expand_free(level[at], level);
            at += 1;
        }
    }

    /// Reaches whoever may have back what `from` has new.
    pub(crate) fn send_back(&mut self, from: Node, reached: &mut Vec<Node>) {
        let fit = self.fit;
        *self.work += fit.held[usize::from(from)].len();
        for &partition in &fit.held[usize::from(from)] {
            if !fit.is_old(partition as usize, from) {
                self.reach_former(partition, from, reached);
            }
        }
    }

    pub(crate) fn has_reached(&self, node: Node) -> bool {
        self.seen[usize::from(node)]
    }

    /// Reaches whoever may take a new replica of `from`, or an old one that was there before too.
    fn expand_free(&mut self, from: Node, reached: &mut Vec<Node>) {
        let fit = self.fit;
        for &partition in &fit.held[usize::from(from)] {
            *self.work += 1;
            if fit.is_old(partition as usize, from) {
                self.reach_former(partition, from, reached);
            } else {
                self.reach_all(partition, from, reached);
            }
        }
    }

    /// Reaches whoever may take an old replica of `from`.
    fn expand_paid(&mut self, from: Node, reached: &mut Vec<Node>) {
        let fit = self.fit;
        for &partition in &fit.held[usize::from(from)] {
            if fit.is_old(partition as usize, from) {
                self.reach_all(partition, from, reached);
            }
        }
    }

    fn reach_former(&mut self, partition: u32, from: Node, reached: &mut Vec<Node>) {
        let (fit, p) = (self.fit, partition as usize);
        for &to in fit.before.of(p) {
            if !self.seen[usize::from(to)]
                && fit.now.may_replace(fit.view, p, from, to)
                && (fit.view.same_zone(from, to) || self.may_cross(partition, from))
            {
                self.reach(Step { partition, from, to });
                reached.push(to);
            }
        }
    }

    fn reach_all(&mut self, partition: u32, from: Node, reached: &mut Vec<Node>) {
        let (fit, view, p) = (self.fit, self.fit.view, partition as usize);
        let seen = &self.seen;
        self.unseen.retain(|&node| !seen[usize::from(node)]);
        if self.unseen.is_empty() {
            return;
        }
        let crosses = !self.crossed[p]
            && fit.now.may_leave_zone(view, p, from)
            && self.may_cross(partition, from);
        self.crossed[p] |= crosses;
        *self.work += self.unseen.len();
        for to in core::mem::take(&mut self.unseen) {
            let may = !fit.now.has(p, to)
                && (view.same_zone(from, to) || (crosses && fit.now.may_enter_zone(view, p, to)));
            if may {
                self.reach(Step { partition, from, to });
                reached.push(to);
            } else {
                self.unseen.push(to);
            }
        }
    }

    fn reach(&mut self, step: Step) {
        self.seen[usize::from(step.to)] = true;
        self.came[usize::from(step.to)] = Some(step);
    }

    /// Whether no replica of `partition` changes its zone on the way to `from`. Two such steps
    /// could each be allowed and both together not; the first could go straight where the second
    /// goes, so nothing is lost.
    fn may_cross(&self, partition: u32, from: Node) -> bool {
        let crosses = |step: &Step| {
            step.partition == partition && !self.fit.view.same_zone(step.from, step.to)
        };
        !self.way_back(from).any(|step| crosses(&step))
    }

    fn end(&self, level: &[Node]) -> Option<Node> {
        let below = level.iter().copied().filter(|&node| self.fit.excess(node) < 0);
        below.min_by_key(|&node| (self.fit.excess(node), node))
    }

    /// The steps that lead to `end`, the last first: each is allowed once those before it are done.
    pub(crate) fn path(&self, end: Node) -> Vec<Step> {
        self.way_back(end).collect()
    }

    fn way_back(&self, node: Node) -> impl Iterator<Item = Step> + '_ {
        successors(self.came[usize::from(node)], |step| self.came[usize::from(step.from)])
    }
}
