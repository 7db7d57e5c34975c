//! Nodes that learn what was agreed on, with nobody but the seat who could tell them.

use super::{SEAT, Seat, SeatParts};
use crate::consensus::{Consensus, Proposal, SingleCopy};
use crate::rebalance::DriverOptions;
use crate::simulation::Sim;
use crate::topology::{Change, ProposalId};
use lsm::executor::ManualExecutor;
use lsm::{Db, Options};
use ring::{Epoch, NodeId};
use std::sync::Arc;
use vfs::MemFs;

/// Longer than a member that can be reached takes to follow: a question of the driver, and an answer.
const TOLD_MICROS: u64 = 2_000_000;

fn agreement(sim: &Sim) -> (Arc<SingleCopy>, Arc<ManualExecutor>) {
    let jobs = ManualExecutor::new();
    let db = Db::builder("/agreement")
        .options(Options::default().disk_reserve_bytes(0))
        .fs(Arc::new(MemFs::new()))
        .clock(Arc::clone(&sim.runtime) as _)
        .executor(Arc::clone(&jobs) as _)
        .seed(1)
        .open()
        .expect("a new disk");
    let first = || sim.topology.as_ref().clone();
    let copy = SingleCopy::open(db, Arc::clone(&sim.runtime) as _, first);
    (copy.expect("a new disk"), jobs)
}

fn seat(sim: &Sim, copy: &Arc<SingleCopy>) -> Arc<Seat> {
    let parts = SeatParts {
        runtime: Arc::clone(&sim.runtime) as _,
        transport: Arc::clone(&sim.network) as _,
        consensus: Arc::clone(copy) as _,
        driver: DriverOptions { start_by_itself: false, ..DriverOptions::default() },
        detector: None,
        seed: 3,
    };
    Seat::start(parts).expect("a place in the network")
}

/// A change that gives nobody anything to do.
fn change(sim: &Sim, copy: &SingleCopy, weight: u32) {
    let (id, address, zone) = (NodeId(1), String::new(), "z".to_owned());
    let change = Change::SetMember { id, address, zone, weight };
    let expected = copy.known().epoch();
    let id = ProposalId { node: NodeId(0), number: expected.0 };
    copy.propose(Proposal { id, expected, change }, Box::new(drop));
    let made = sim.runtime.run_until(TOLD_MICROS, &mut || copy.known().epoch() > expected);
    assert!(made, "it is agreed on");
}

fn epochs(sim: &Sim) -> Vec<Epoch> {
    (1..=3).map(|n| sim.node(n).epoch()).collect()
}

/// Nobody writes, nothing moves: no other message could show a node that it is behind.
#[test]
fn the_last_change_reaches_every_member() {
    let sim = Sim::new(3, 1);
    let (copy, _jobs) = agreement(&sim);
    let seat = seat(&sim, &copy);
    change(&sim, &copy, 2);
    sim.runtime.run_for(TOLD_MICROS);
    assert_eq!(epochs(&sim), [copy.known().epoch(); 3]);
    seat.stop();
}

#[test]
fn who_could_not_be_reached_is_told_later_and_by_any_seat() {
    let sim = Sim::new(3, 1);
    let (copy, _jobs) = agreement(&sim);
    let first = seat(&sim, &copy);
    let before = copy.known().epoch();
    sim.network.cut_both(SEAT, NodeId(2));
    change(&sim, &copy, 2);
    sim.runtime.run_for(TOLD_MICROS);
    let agreed = copy.known().epoch();
    assert_eq!(epochs(&sim), [agreed, before, agreed]);
    first.stop();
    let second = seat(&sim, &copy);
    sim.runtime.run_for(TOLD_MICROS);
    assert_eq!(sim.node(2).epoch(), before);
    sim.network.mend_all();
    sim.runtime.run_for(TOLD_MICROS);
    assert_eq!(epochs(&sim), [agreed; 3]);
    second.stop();
}

/// Once all have said that they are at it, nobody is asked any more.
#[test]
fn a_quiet_cluster_is_not_asked() {
    let sim = Sim::new(3, 1);
    let (copy, _jobs) = agreement(&sim);
    let seat = seat(&sim, &copy);
    change(&sim, &copy, 2);
    sim.runtime.run_for(TOLD_MICROS);
    let sent = sim.network.counts().frames_sent;
    sim.runtime.run_for(TOLD_MICROS);
    assert_eq!(sim.network.counts().frames_sent, sent);
    seat.stop();
}
