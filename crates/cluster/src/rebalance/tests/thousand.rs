//! A thousand nodes: how much is moved, how long it takes to plan, and whether the driver keeps up.

use crate::rebalance::{
    Driver, DriverEffect, DriverEvent, DriverOptions, Estimate, MoveRecord, MoveReport, Moving,
    Report, progress,
};
use crate::record::Mode;
use crate::topology::{Change, MemberState, Topology};
use ring::{NodeId, Ring};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const NODES: u64 = 1000;

fn member(id: u64) -> Change {
    let (address, zone) = (format!("node-{id}:7400"), format!("zone-{}", id % 5));
    Change::AddMember { id: NodeId(id), address, zone, weight: 1 }
}

fn grown() -> Topology {
    let partitions = Ring::partitions_for(NODES as usize, 3);
    let mut topology = Topology::new(1, Ring::new(partitions).expect("a power of two"));
    for id in 0..NODES {
        topology = topology.apply(&member(id)).expect("a new member");
    }
    let keyspace = topology.create_keyspace("k", 3, Mode::Siblings, 16).expect("members");
    topology.apply(&keyspace).expect("a new keyspace")
}

fn begun(topology: &Topology, change: &Change) -> Topology {
    let topology = topology.apply(change).expect("it fits");
    topology.apply(&topology.start_job(0).expect("members")).expect("there is something to move")
}

#[test]
fn a_thousand_nodes_move_what_is_needed_and_no_more() {
    let topology = grown();
    let copies = topology.ring().partitions() as f64 * 3.0;
    // A new node gets its share, a lost one's share goes to others.
    let share = copies / NODES as f64;
    let joined = begun(&topology, &member(NODES));
    let left = begun(&topology, &Change::SetState { id: NodeId(7), state: MemberState::Leaving });
    let lost = begun(&topology, &Change::SetState { id: NodeId(7), state: MemberState::Down });
    for (name, job) in [("join", joined), ("leave", left), ("lost", lost)] {
        let moved = Estimate::of(&job, false, |_| 1).copies as f64;
        assert!(moved <= share.ceil() * 1.05, "{name}: {moved} copies, the ideal is {share}");
    }
}

/// Nodes that are always through with everything: what is left is the driver.
#[test]
fn the_driver_brings_a_job_of_a_thousand_nodes_to_its_end() {
    let topology = grown();
    let members: Vec<Change> = (NODES..NODES + 10).map(member).collect();
    let topology = members.iter().fold(topology, |t, change| t.apply(change).expect("it fits"));
    let mut topology = Arc::new(topology);
    let mut driver = Driver::new(DriverOptions::default(), Arc::clone(&topology));
    let (mut now, mut epochs, mut asked) = (0, 0, 0);
    let mut effects = VecDeque::from(driver.handle(now, DriverEvent::Woken));
    let mut peak: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..20_000 {
        let Some(effect) = effects.pop_front() else { break };
        now += 1000;
        let event = match effect {
            DriverEffect::Wake(_) if topology.job().is_none() && epochs > 1 => continue,
            DriverEffect::Wake(_) => DriverEvent::Woken,
            DriverEffect::Ask(node) => {
                asked += 1;
                DriverEvent::Report(node, through(&topology, node))
            }
            DriverEffect::Propose { expected, change } => {
                assert_eq!(expected, topology.epoch());
                topology = Arc::new(topology.apply(&change).expect("it fits"));
                epochs += 1;
                effects.extend(driver.handle(now, DriverEvent::Topology(Arc::clone(&topology))));
                DriverEvent::Proposed
            }
        };
        let at = progress(&topology);
        for (what, count) in [("copying", at.copying), ("joint", at.joint)] {
            let most = peak.entry(what).or_default();
            *most = count.max(*most);
        }
        effects.extend(driver.handle(now, event));
    }
    assert_eq!(topology.job(), None, "{:?}", progress(&topology));
    assert!(epochs < 200, "{epochs} epochs, {asked} questions, at most {peak:?} at a time");
}

fn through(topology: &Topology, node: NodeId) -> Report {
    let placement = &topology.placements()[0];
    let mut report = Report { epoch: topology.epoch(), moves: Vec::new(), cleaned: Vec::new() };
    for (partition, _) in placement.under_way() {
        let moving = Moving { replicas: 3, partition };
        let owners = placement.owners(partition).expect("it exists");
        let Some(job) = topology.job() else { continue };
        let mut record = MoveRecord::begin(job.id);
        (record.copied, record.caught_up) = (true, Some(owners.since()));
        if owners.role(node).is_some() {
            report.moves.push(MoveReport { moving, record });
        }
    }
    let held = placement.departing().filter(|(_, held)| *held == node);
    report.cleaned = held.map(|(partition, _)| Moving { replicas: 3, partition }).collect();
    report
}
