//! What one node does for all: proposes what comes next.

use super::duty::duty;
use super::record::{Moving, Report};
use crate::topology::{
    Advance, Change, Cleaned, Job, MemberState, Placement, Refusal, Stage, Step, Topology,
};
use ring::{Epoch, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most partitions that one proposal takes on.
const BATCH_MAX: usize = 1 << 10;

/// Most members that are told at a time of a topology that they have nothing to do for.
const TOLD_MAX: usize = 64;

/// Tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverOptions {
    /// Most partitions that one node receives, or gives as the owner whose place is taken, at a time. Default 4.
    pub moves_per_node_max: usize,
    /// How often nodes are asked how far they are, in microseconds. Default 500 ms.
    pub poll_micros: u64,
    /// Jobs begin by themselves when the members ask for another placement. Default true.
    pub start_by_itself: bool,
    /// Most bytes a second that each receiver of such a job is sent; 0 is no limit. Default 32 MiB.
    pub bytes_per_second: u64,
    /// A member that was dead for so long is given up, and what it owned is copied from the other owners, in microseconds;
    /// `None` is never. Nobody is given up while half of the members are dead. Default 10 minutes.
    pub give_up_after_micros: Option<u64>,
}

impl Default for DriverOptions {
    fn default() -> Self {
        DriverOptions {
            moves_per_node_max: 4,
            poll_micros: 500_000,
            start_by_itself: true,
            bytes_per_second: 32 << 20,
            give_up_after_micros: Some(600_000_000),
        }
    }
}

/// What a driver is told.
#[derive(Debug, Clone)]
pub enum DriverEvent {
    /// The newest topology known here.
    Topology(Arc<Topology>),
    /// A node answered how far it is.
    Report(NodeId, Report),
    /// The proposal ended; whether it was made is seen in topologies. Where that is not known, the newest one was read before this.
    Proposed,
    /// The failure detector thinks a node dead, or alive again.
    Dead(NodeId, bool),
    /// The [`DriverEffect::Wake`] is due.
    Woken,
}

/// What a driver wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEffect {
    /// Ask a node for its [`Report`], under the newest topology: one that is behind fetches it.
    Ask(NodeId),
    /// Propose a change for this epoch. Nothing else is proposed until [`DriverEvent::Proposed`].
    Propose {
        /// The epoch it is for.
        expected: Epoch,
        /// The change.
        change: Change,
    },
    /// Come back in so many microseconds.
    Wake(u64),
}

/// Drives the job of a cluster. Holds nothing that must not be lost.
#[derive(Debug)]
pub struct Driver {
    options: DriverOptions,
    topology: Arc<Topology>,
    reports: BTreeMap<NodeId, Report>,
    /// Those that were asked and have not answered: one proposal takes on what all of them say.
    asked: BTreeSet<NodeId>,
    /// The last member that was told of a topology because it is behind.
    told: Option<NodeId>,
    /// Since when nodes are dead, on the monotonic clock.
    dead: BTreeMap<NodeId, u64>,
    proposing: bool,
    /// Epoch of the topology for which it was found that nothing is to be moved.
    settled: Option<Epoch>,
    asleep: bool,
}

impl Driver {
    /// A driver that begins at `topology`. It goes on with the job there, if there is one.
    #[must_use]
    pub fn new(options: DriverOptions, topology: Arc<Topology>) -> Driver {
        Driver {
            options,
            topology,
            reports: BTreeMap::new(),
            asked: BTreeSet::new(),
            told: None,
            dead: BTreeMap::new(),
            proposing: false,
            settled: None,
            asleep: false,
        }
    }

    /// Takes an event; `now_micros` is the monotonic clock.
    pub fn handle(&mut self, now_micros: u64, event: DriverEvent) -> Vec<DriverEffect> {
        let mut effects = Vec::new();
        let mut ask = false;
        match event {
            DriverEvent::Topology(topology) => self.follow(topology),
            DriverEvent::Report(node, report) => {
                self.asked.remove(&node);
                self.reports.insert(node, report);
            }
            DriverEvent::Proposed => self.proposing = false,
            DriverEvent::Dead(node, true) => drop(self.dead.entry(node).or_insert(now_micros)),
            DriverEvent::Dead(node, false) => drop(self.dead.remove(&node)),
            DriverEvent::Woken => {
                // Whoever has not answered by now is not waited for.
                self.asked.clear();
                (self.asleep, ask) = (false, true);
            }
        }
        if !self.proposing
            && self.asked.is_empty()
            && let Some(change) = self.next_change(now_micros)
        {
            self.proposing = true;
            effects.push(DriverEffect::Propose { expected: self.topology.epoch(), change });
        }
        if ask {
            self.asked = self.concerned();
            // Those that are behind are not waited for: one that is down would hold up all others.
            let mut nodes = self.behind();
            nodes.extend(&self.asked);
            effects.extend(nodes.into_iter().map(DriverEffect::Ask));
        }
        if !std::mem::replace(&mut self.asleep, true) {
            effects.push(DriverEffect::Wake(self.options.poll_micros));
        }
        effects
    }

    fn follow(&mut self, topology: Arc<Topology>) {
        if topology.epoch() > self.topology.epoch() {
            self.topology = topology;
            self.reports.retain(|node, _| self.topology.member(*node).is_some());
        }
    }

    /// Whom to ask: all that have something to do.
    fn concerned(&self) -> BTreeSet<NodeId> {
        let mut nodes = BTreeSet::new();
        for placement in self.topology.placements() {
            nodes.extend(placement.departing().map(|(_, node)| node));
            for (partition, _) in placement.under_way() {
                let moving = Moving { replicas: placement.replicas() as u8, partition };
                nodes.extend(self.workers(placement, moving));
            }
        }
        nodes.retain(|node| self.lives(*node));
        nodes
    }

    /// Some of the members that have not said yet that they are at this topology, others the next time. The question tells them that there is a
    /// newer one. Nobody else does after the last change, since nobody has anything to do any more; and owners that do not know that
    /// they are serve nothing.
    fn behind(&mut self) -> BTreeSet<NodeId> {
        let at = |node: NodeId| self.reports.get(&node).map(|report| report.epoch);
        let is_behind =
            |node: &NodeId| self.lives(*node) && at(*node) < Some(self.topology.epoch());
        let members = self.topology.members().iter().map(|member| member.id);
        let behind: Vec<NodeId> = members.filter(is_behind).collect();
        let first = behind.partition_point(|node| Some(*node) <= self.told);
        let turn = behind.iter().copied().cycle().skip(first).take(behind.len().min(TOLD_MAX));
        let turn: Vec<NodeId> = turn.collect();
        self.told = turn.last().copied();
        turn.into_iter().collect()
    }

    /// Nodes that have to bring something to themselves before `moving` goes on.
    fn workers(&self, placement: &Placement, moving: Moving) -> Vec<NodeId> {
        let owners = placement.owners(moving.partition);
        let near = owners.map(|owners| owners.writers()).unwrap_or_default();
        // One that is given up is replaced by the next job, from all others.
        let works =
            |node: &NodeId| self.lives(*node) && duty(&self.topology, moving, *node).is_some();
        near.into_iter().filter(works).collect()
    }

    fn lives(&self, node: NodeId) -> bool {
        self.topology.member(node).is_some_and(|member| member.state != MemberState::Down)
    }

    // ---- what comes next ----

    fn next_change(&mut self, now: u64) -> Option<Change> {
        if let Some(change) = self.give_up(now) {
            return Some(change);
        }
        let Some(job) = self.topology.job().cloned() else {
            return self.cleaned().or_else(|| self.begin());
        };
        if self.is_stuck() {
            return Some(Change::StopJob { job: job.id, hold: false });
        }
        self.advance(&job).or_else(|| self.cleaned()).or_else(|| self.end(&job))
    }

    /// A member that was dead for too long. None, if half of them are: then it is more likely that the driver sees nobody.
    fn give_up(&self, now: u64) -> Option<Change> {
        let patience = self.options.give_up_after_micros?;
        let living = self.topology.members().iter().filter(|member| self.lives(member.id));
        let (dead, living): (Vec<NodeId>, Vec<NodeId>) =
            living.map(|member| member.id).partition(|id| self.dead.contains_key(id));
        if dead.len() >= living.len() {
            return None;
        }
        let over =
            |(node, since): &(&NodeId, &u64)| self.lives(**node) && **since + patience <= now;
        let (id, _) = self.dead.iter().find(over)?;
        Some(Change::SetState { id: *id, state: MemberState::Down })
    }

    fn begin(&mut self) -> Option<Change> {
        let epoch = self.topology.epoch();
        if !self.options.start_by_itself || self.topology.is_held() || self.settled == Some(epoch) {
            return None;
        }
        let change = self.topology.start_job(self.options.bytes_per_second).ok();
        let change =
            change.filter(|change| self.topology.apply(change) != Err(Refusal::NothingToMove));
        if change.is_none() {
            self.settled = Some(epoch);
        }
        change
    }

    /// A receiver of what is not flipped yet was given up, or is to leave: the job cannot reach its end. What is flipped stays, and
    /// the next job goes on from there.
    fn is_stuck(&self) -> bool {
        let fit = |node: NodeId| {
            self.topology.member(node).is_some_and(|member| member.state == MemberState::Up)
        };
        let back =
            self.topology.job().is_some_and(|job| job.kind == crate::topology::JobKind::Back);
        let stuck = |step: Step| {
            let mut to = step.handovers.iter().filter_map(|handover| handover.to);
            step.stage != Some(Stage::Flipped)
                && to.any(|node| if back { !self.lives(node) } else { !fit(node) })
        };
        self.topology.placements().iter().flat_map(Placement::steps).any(stuck)
    }

    fn advance(&self, job: &Job) -> Option<Change> {
        let mut busy = Busy::of(&self.topology, self.options.moves_per_node_max);
        let mut steps = Vec::new();
        // Those under way first: they make room.
        for begun in [true, false] {
            for placement in self.topology.placements() {
                let replicas = placement.replicas() as u8;
                for step in placement.steps().filter(|step| step.stage.is_some() == begun) {
                    let moving = Moving { replicas, partition: step.partition };
                    let Some(to) = placement.next_stage(step.partition) else { continue };
                    let goes = match step.stage {
                        None => !job.paused && busy.has_room_for(&step),
                        Some(_) => self.is_ready(job, placement, moving, &step),
                    };
                    if goes && steps.len() < BATCH_MAX {
                        steps.push(Advance { replicas, partition: step.partition, to });
                    }
                }
            }
        }
        (!steps.is_empty()).then_some(Change::AdvanceJob { job: job.id, steps })
    }

    /// All that work on it say that they are through with its stage.
    fn is_ready(&self, job: &Job, placement: &Placement, moving: Moving, step: &Step) -> bool {
        let since = placement.owners(moving.partition).map(|owners| owners.since());
        let through = |node: NodeId| {
            let record = self.reports.get(&node).and_then(|report| report.of(moving));
            record.is_some_and(|record| {
                record.job == job.id
                    && if step.stage == Some(Stage::Copying) {
                        record.copied
                    } else {
                        record.caught_up.is_some() && record.caught_up == since
                    }
            })
        };
        match step.stage {
            Some(Stage::Copying) => {
                step.handovers.iter().filter_map(|handover| handover.to).all(through)
            }
            _ => self.workers(placement, moving).into_iter().all(through),
        }
    }

    /// Copies that were deleted.
    fn cleaned(&self) -> Option<Change> {
        let mut copies = Vec::new();
        for placement in self.topology.placements() {
            let replicas = placement.replicas() as u8;
            for (partition, node) in placement.departing() {
                let since = placement.owners(partition).map(|owners| owners.since());
                let said = self.reports.get(&node).is_some_and(|report| {
                    // One from before it departed may speak of an earlier copy.
                    Some(report.epoch) >= since
                        && report.cleaned.binary_search(&Moving { replicas, partition }).is_ok()
                });
                if said && copies.len() < BATCH_MAX {
                    copies.push(Cleaned { replicas, partition, node });
                }
            }
        }
        (!copies.is_empty()).then_some(Change::Clean { copies })
    }

    /// All is flipped, and the copies that can be deleted are.
    fn end(&self, job: &Job) -> Option<Change> {
        let over = |placement: &Placement| {
            placement.steps().all(|step| step.stage == Some(Stage::Flipped))
                && placement.departing().all(|(_, node)| !self.lives(node))
        };
        let over = self.topology.placements().iter().all(over);
        over.then_some(Change::EndJob { job: job.id })
    }
}

/// Moves under way at each node.
struct Busy {
    moves: BTreeMap<NodeId, usize>,
    max: usize,
}

impl Busy {
    fn of(topology: &Topology, max: usize) -> Busy {
        let mut busy = Busy { moves: BTreeMap::new(), max };
        for placement in topology.placements() {
            for (partition, _) in placement.under_way() {
                placement.step(partition).iter().for_each(|step| busy.add(step));
            }
        }
        busy
    }

    fn nodes(step: &Step) -> impl Iterator<Item = NodeId> + '_ {
        step.handovers.iter().flat_map(|handover| [handover.from, handover.to]).flatten()
    }

    fn add(&mut self, step: &Step) {
        Busy::nodes(step).for_each(|node| *self.moves.entry(node).or_default() += 1);
    }

    /// True, and counted, if each node of the step has room.
    fn has_room_for(&mut self, step: &Step) -> bool {
        let full = |node| self.moves.get(&node).copied().unwrap_or(0) >= self.max;
        if Busy::nodes(step).any(full) {
            return false;
        }
        self.add(step);
        true
    }
}
