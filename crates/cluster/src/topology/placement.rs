//! Where the partitions of all keyspaces with one number of replicas lie, and where they go.

use super::owners::{Handover, Owners};
use crate::codec::wire::tags;
use ring::{Epoch, NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

tags! {
    /// How far a partition has come on its way to its new owners. None of these: nothing has begun.
    #[derive(PartialOrd, Ord, Hash)]
    Stage {
        /// The receivers are sent what there is, and all writes.
        Copying = 1,
        /// An owner that goes counts only together with its receiver, while what the receiver still lacks is brought.
        Joint = 2,
        /// The new owners own it.
        Flipped = 3,
    }
}

/// What one partition has to do to get to its new owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The partition.
    pub partition: Partition,
    /// Who takes whose place; empty if only the order of the owners changes.
    pub handovers: Vec<Handover>,
    /// How far it has come.
    pub stage: Option<Stage>,
}

/// The partitions of keyspaces with one number of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Owners before the job, and of all partitions without a job.
    pub(super) base: Arc<ring::Topology>,
    /// For each partition, since when its owners, receivers and what counts are what they are.
    pub(super) since: Vec<Epoch>,
    pub(super) way: Option<Way>,
    /// Nodes with a copy that they are to delete, by partition; lists ascend and are not empty.
    pub(super) departing: BTreeMap<Partition, Vec<NodeId>>,
}

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) target: Arc<ring::Topology>,
    /// Partitions that have begun; all of them are among `steps`.
    pub(super) stages: BTreeMap<Partition, Stage>,
    /// Partitions whose owners differ between base and target. Follows from these two.
    pub(super) steps: Arc<BTreeMap<Partition, Vec<Handover>>>,
}

impl Way {
    /// The way from `base` to `target`, not begun.
    pub(super) fn new(
        base: &ring::Topology,
        target: Arc<ring::Topology>,
    ) -> Result<Way, ring::Error> {
        let plan = ring::plan(base, &target)?;
        let mut steps: BTreeMap<Partition, Vec<Handover>> = BTreeMap::new();
        for step in plan.moves {
            let handover = Handover { from: step.from, to: Some(step.to) };
            steps.entry(step.partition).or_default().push(handover);
        }
        for removal in plan.removals {
            let handover = Handover { from: Some(removal.node), to: None };
            steps.entry(removal.partition).or_default().push(handover);
        }
        for promotion in plan.promotions {
            steps.entry(promotion.partition).or_default();
        }
        Ok(Way { target, stages: BTreeMap::new(), steps: Arc::new(steps) })
    }

    fn flipped(&self) -> Vec<Partition> {
        let flipped = self.stages.iter().filter(|(_, stage)| **stage == Stage::Flipped);
        flipped.map(|(partition, _)| *partition).collect()
    }

    /// Partitions that have begun and are not flipped, with their handovers.
    fn half_done(&self) -> impl Iterator<Item = (Partition, &[Handover])> {
        let under_way = self.stages.iter().filter(|(_, stage)| **stage != Stage::Flipped);
        under_way.map(|(partition, _)| (*partition, self.handovers(*partition)))
    }

    pub(super) fn handovers(&self, partition: Partition) -> &[Handover] {
        self.steps.get(&partition).map_or(&[], Vec::as_slice)
    }

    pub(super) fn left(&self) -> usize {
        self.steps.len() - self.flipped().len()
    }
}

impl Placement {
    pub(super) fn new(base: Arc<ring::Topology>, since: Epoch) -> Placement {
        let since = vec![since; base.ring().partitions() as usize];
        Placement { base, since, way: None, departing: BTreeMap::new() }
    }

    /// How many replicas.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.base.replicas()
    }

    /// Owners before the job, and of all partitions without one.
    #[must_use]
    pub fn base(&self) -> &ring::Topology {
        &self.base
    }

    /// Where the job leads.
    #[must_use]
    pub fn target(&self) -> Option<&ring::Topology> {
        self.way.as_ref().map(|way| &*way.target)
    }

    /// Who holds `partition`; `None` if there is no such partition.
    #[must_use]
    pub fn owners(&self, partition: Partition) -> Option<Owners<'_>> {
        let since = *self.since.get(partition.index())?;
        let departing = self.departing.get(&partition).map_or(&[][..], Vec::as_slice);
        let unmoved = Owners {
            list: self.base.owners(partition),
            handovers: &[],
            joint: false,
            departing,
            since,
        };
        let Some(way) = &self.way else { return Some(unmoved) };
        Some(match way.stages.get(&partition) {
            None => unmoved,
            Some(Stage::Flipped) => Owners { list: way.target.owners(partition), ..unmoved },
            Some(stage) => Owners {
                handovers: way.handovers(partition),
                joint: *stage == Stage::Joint,
                ..unmoved
            },
        })
    }

    /// What the job has to do here, in the order of partitions, also what is done.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.way.iter().flat_map(|way| {
            way.steps.iter().map(|(&partition, handovers)| Step {
                partition,
                handovers: handovers.clone(),
                stage: way.stages.get(&partition).copied(),
            })
        })
    }

    /// The step of `partition`; `None` if its owners do not change.
    #[must_use]
    pub fn step(&self, partition: Partition) -> Option<Step> {
        let way = self.way.as_ref()?;
        let handovers = way.steps.get(&partition)?.clone();
        Some(Step { partition, handovers, stage: way.stages.get(&partition).copied() })
    }

    /// Partitions that have begun and are not flipped, with their stages, ascending.
    pub fn under_way(&self) -> impl Iterator<Item = (Partition, Stage)> + '_ {
        let stages = self.way.iter().flat_map(|way| way.stages.iter());
        stages.map(|(partition, stage)| (*partition, *stage)).filter(|(_, s)| *s != Stage::Flipped)
    }

    /// Copies that are to be deleted: partition and node, ascending.
    pub fn departing(&self) -> impl Iterator<Item = (Partition, NodeId)> + '_ {
        self.departing
            .iter()
            .flat_map(|(&partition, nodes)| nodes.iter().map(move |&node| (partition, node)))
    }

    /// True if `node` owns, receives or still holds anything here, or will.
    #[must_use]
    pub fn uses(&self, node: NodeId) -> bool {
        let owns = |ring: &ring::Topology| ring.partitions_of(node).next().is_some();
        owns(&self.base)
            || self.target().is_some_and(owns)
            || self.departing.values().any(|nodes| nodes.contains(&node))
    }

    /// The stage that comes after the one of `partition`; `None` if there is none, or if its owners do not change.
    #[must_use]
    pub fn next_stage(&self, partition: Partition) -> Option<Stage> {
        let step = self.step(partition)?;
        match step.stage {
            // Nobody receives anything: what there is to fence is fenced by `Joint`.
            None if step.handovers.is_empty() => Some(Stage::Flipped),
            None if step.handovers.iter().all(|handover| handover.to.is_none()) => {
                Some(Stage::Joint)
            }
            None => Some(Stage::Copying),
            Some(Stage::Copying) => Some(Stage::Joint),
            Some(Stage::Joint) => Some(Stage::Flipped),
            Some(Stage::Flipped) => None,
        }
    }

    // ---- changes; the caller has checked that they may be made ----

    pub(super) fn advance(&mut self, partition: Partition, stage: Stage, epoch: Epoch) {
        let Some(way) = &mut self.way else { return };
        way.stages.insert(partition, stage);
        let handovers = way.handovers(partition).to_vec();
        self.touch(partition, epoch);
        for handover in handovers {
            match (stage, handover) {
                // What it had to delete it is to hold again.
                (Stage::Copying, Handover { to: Some(to), .. }) => self.arrived(partition, to),
                (Stage::Flipped, Handover { from: Some(from), .. }) => self.depart(partition, from),
                _ => {}
            }
        }
    }

    /// Ends the way where it stands: flipped partitions stay, all others are as before, and receivers delete what they got.
    pub(super) fn stop(&mut self, epoch: Epoch) -> Result<(), ring::Error> {
        let Some(way) = self.way.take() else { return Ok(()) };
        let flipped = way.flipped();
        if !flipped.is_empty() {
            self.base = Arc::new(self.base.flip(&way.target, &flipped)?);
        }
        for (partition, handovers) in way.half_done() {
            self.touch(partition, epoch);
            handovers.iter().filter_map(|handover| handover.to).for_each(|to| {
                self.depart(partition, to);
            });
        }
        Ok(())
    }

    /// Turns round: what was flipped goes back to where it was when the way began.
    pub(super) fn turn_back(&mut self, epoch: Epoch) -> Result<(), ring::Error> {
        let origin = Arc::clone(&self.base);
        self.stop(epoch)?;
        if self.base != origin {
            let target = Arc::new(origin.reinstated_after(self.base.epoch())?);
            self.way = Some(Way::new(&self.base, target)?);
        }
        Ok(())
    }

    /// The way is at its end: all of it is flipped.
    pub(super) fn arrive(&mut self) {
        if let Some(way) = self.way.take() {
            self.base = way.target;
        }
    }

    /// True if `node` had a copy of `partition` to delete; it has none any more.
    pub(super) fn clean(&mut self, partition: Partition, node: NodeId) -> bool {
        let held = self.departing.get(&partition).is_some_and(|nodes| nodes.contains(&node));
        self.arrived(partition, node);
        held
    }

    /// `node` is gone, and its copies with it.
    pub(super) fn forget(&mut self, node: NodeId) {
        for nodes in self.departing.values_mut() {
            nodes.retain(|held| *held != node);
        }
        self.departing.retain(|_, nodes| !nodes.is_empty());
    }

    fn touch(&mut self, partition: Partition, epoch: Epoch) {
        if let Some(since) = self.since.get_mut(partition.index()) {
            *since = epoch;
        }
    }

    fn depart(&mut self, partition: Partition, node: NodeId) {
        let nodes = self.departing.entry(partition).or_default();
        if let Err(at) = nodes.binary_search(&node) {
            nodes.insert(at, node);
        }
    }

    fn arrived(&mut self, partition: Partition, node: NodeId) {
        let Some(nodes) = self.departing.get_mut(&partition) else { return };
        nodes.retain(|held| *held != node);
        if nodes.is_empty() {
            self.departing.remove(&partition);
        }
    }
}
