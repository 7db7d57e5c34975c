//! Nodes that come and go.

use super::{Cluster, Error, Rebalance};
use crate::node::Node;
use crate::topology::{Change, MemberState, Placement, Topology};
use ring::NodeId;
use std::sync::Arc;

/// How long a node that goes may take to hand its hints over, in microseconds.
const HINTS_MICROS: u64 = 60_000_000;

/// How long it may take to answer the requests that it has taken.
const IDLE_MICROS: u64 = 60_000_000;

/// What a new node is like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeOptions {
    /// Its capacity, in the unit of the others. Default 1.
    pub weight: u32,
    /// What fails together with it. Default none.
    pub zone: String,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions { weight: 1, zone: String::new() }
    }
}

impl NodeOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets its capacity.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets what fails together with it.
    #[must_use]
    pub fn zone(mut self, zone: &str) -> Self {
        self.zone = zone.into();
        self
    }
}

impl Cluster {
    /// Starts a new node, in a new directory, and makes it a member; its number. It gets its share by the next
    /// [rebalance](Self::rebalance), which begins by itself unless the builder said otherwise.
    ///
    /// # Errors
    /// [`Error::Refused`] if it cannot be a member; [`Error::Store`] if its directory cannot be made: then it is a member that is down, to
    /// be started or given up.
    pub fn add_node(&self, options: &NodeOptions) -> Result<NodeId, Error> {
        let shared = &self.shared;
        let mut id = NodeId(0);
        let topology = shared.agreement.agree(|topology| {
            // A number that no node ever had: what is left of one that is gone would be taken for the new one's.
            let last = topology.members().last().map_or(0, |member| member.id.0);
            id = NodeId(last.max(topology.actors_given()) + 1);
            let (weight, zone) = (options.weight, options.zone.clone());
            Ok(Some(Change::AddMember { id, address: String::new(), zone, weight }))
        })?;
        shared.run(id, true)?;
        shared.spread(&topology);
        let ready = shared.nodes.lock().get(&id).map(Node::when_ready);
        if let Some(ready) = ready {
            ready.wait()?;
        }
        Ok(id)
    }

    /// Begins to move everything off a node, which serves meanwhile. [`remove_node`](Self::remove_node) ends it.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::TooFewNodes`] if the others are too few for a keyspace; [`Error::Refused`].
    pub fn drain_node(&self, node: NodeId) -> Result<Rebalance, Error> {
        let shared = &self.shared;
        let topology = shared.agreement.agree(|topology| {
            check_left(topology, node)?;
            let leaves = state_of(topology, node)? != MemberState::Up;
            let state = MemberState::Leaving;
            Ok((!leaves).then_some(Change::SetState { id: node, state }))
        })?;
        shared.spread(&topology);
        let rebalance = self.rebalance();
        rebalance.start()?;
        Ok(rebalance)
    }

    /// Moves everything off a node, and removes it. Its directory stays, and can be deleted.
    ///
    /// # Errors
    /// As for [`drain_node`](Self::drain_node); [`Error::Unfinished`] if it still holds something after `timeout_micros`: it goes on all the
    /// same, and this can be called again.
    pub fn remove_node(&self, node: NodeId, timeout_micros: u64) -> Result<(), Error> {
        let shared = &self.shared;
        let rebalance = self.drain_node(node)?;
        rebalance.wait(timeout_micros)?;
        let clock = &*shared.runtime;
        let empty = |topology: &Topology| (!topology.uses(node)).then_some(());
        let drained = shared.agreement.wait_until(clock, timeout_micros, empty);
        drained.ok_or(Error::Unfinished)?;
        // What it keeps for others goes to them first; then it gets no new requests, and answers those that it has.
        let running = shared.nodes.lock().get(&node).cloned();
        if let Some(running) = &running {
            running.when_hints_delivered(HINTS_MICROS).wait()?;
        }
        let topology = shared.agreement.agree(|_| Ok(Some(Change::RemoveMember { id: node })))?;
        shared.spread(&topology);
        shared.nodes.lock().remove(&node);
        let Some(running) = running else { return Ok(()) };
        // Whoever waits longer is told that the node is closed.
        drop(running.when_idle(IDLE_MICROS).wait());
        running.stop();
        Ok(running.db().close()?)
    }

    /// Changes how much a node holds, in the unit of the others. Moves data by the next rebalance.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::Refused`].
    pub fn set_weight(&self, node: NodeId, weight: u32) -> Result<(), Error> {
        let topology = self.shared.agreement.agree(|topology| {
            let member = topology.member(node).ok_or(Error::UnknownNode { node })?;
            let (address, zone) = (member.address.clone(), member.zone.clone());
            Ok(Some(Change::SetMember { id: node, address, zone, weight }))
        })?;
        self.shared.spread(&topology);
        Ok(())
    }

    /// Gives a node up that is lost with its disk: the next rebalance copies what it owned from the other owners. It is stopped if it runs.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::TooFewNodes`]; [`Error::Store`] if its database does not close.
    pub fn give_up_node(&self, node: NodeId) -> Result<(), Error> {
        let topology = self.shared.agreement.agree(|topology| {
            check_left(topology, node)?;
            let given_up = state_of(topology, node)? == MemberState::Down;
            let state = MemberState::Down;
            Ok((!given_up).then_some(Change::SetState { id: node, state }))
        })?;
        self.shared.spread(&topology);
        self.stop_if_it_runs(node)
    }

    /// Removes a node that was given up, once the others own what it owned. Copies that it may still have are forgotten: it never comes back.
    ///
    /// # Errors
    /// [`Error::UnknownNode`]; [`Error::Refused`] while it owns anything, or if it was not given up.
    pub fn forget_node(&self, node: NodeId) -> Result<(), Error> {
        let topology = self.shared.agreement.agree(|topology| {
            state_of(topology, node)?;
            Ok(Some(Change::ForgetMember { id: node }))
        })?;
        self.shared.spread(&topology);
        Ok(())
    }

    /// Moving data to where it belongs: the job that is under way, or the next one.
    #[must_use]
    pub fn rebalance(&self) -> Rebalance {
        Rebalance::new(Arc::clone(&self.shared))
    }

    fn stop_if_it_runs(&self, node: NodeId) -> Result<(), Error> {
        match self.stop_node(node) {
            Err(Error::NodeIsDown { .. } | Error::UnknownNode { .. }) => Ok(()),
            stopped => stopped,
        }
    }
}

fn state_of(topology: &Topology, node: NodeId) -> Result<MemberState, Error> {
    topology.member(node).map(|member| member.state).ok_or(Error::UnknownNode { node })
}

/// Whether the nodes beside `node` can hold all keyspaces.
fn check_left(topology: &Topology, node: NodeId) -> Result<(), Error> {
    let replicas = topology.placements().iter().map(Placement::replicas).max().unwrap_or(0);
    let up = topology.members().iter().filter(|member| member.state == MemberState::Up);
    let left = up.filter(|member| member.id != node).count();
    if left < replicas { Err(Error::TooFewNodes { left, replicas }) } else { Ok(()) }
}
