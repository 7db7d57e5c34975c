//! Jobs of many partitions, with members that come and go meanwhile.

use super::world::{Omit, Victim, World, member};
use crate::rebalance::{Estimate, progress};
use crate::topology::{Change, JobKind, MemberState, Stage, Topology};
use base::rng::Rng;
use ring::NodeId;
use std::sync::Arc;

const STEPS_MAX: usize = 200_000;

fn end(world: &mut World) -> Result<(), String> {
    if !world.run(STEPS_MAX, 20)? {
        return Err(format!("not over after {} steps: {:?}", world.steps, progress(world.last())));
    }
    world.settle()
}

fn until(world: &mut World, done: impl Fn(&Topology) -> bool) {
    while !done(world.last()) && world.step() {}
}

#[test]
fn a_node_joins_and_only_what_it_gets_is_moved() {
    let mut world = World::new(1, 64, 5, 3, Omit::Nothing);
    world.add_node(NodeId(6));
    world.operate(member(6));
    until(&mut world, |topology| topology.job().is_some());
    let estimate = Estimate::of(world.last(), false, |_| 2000);
    assert_eq!(estimate.copies, 32, "a sixth of 192");
    assert_eq!((estimate.bytes, estimate.bytes_at_one_node_max), (64_000, 64_000));
    end(&mut world).expect("it ends");
    assert_eq!(world.fetched, estimate.bytes, "nothing was fetched twice");
    assert!(world.acknowledged() > 1280, "clients wrote meanwhile");
    let held = world.nodes[&NodeId(6)].disk.data.len();
    assert_eq!(held, 32);
}

#[test]
fn many_changes_crashes_and_losses_end_well() {
    for seed in 0..40 {
        let mut world = World::new(seed, 16, 4, 3, Omit::Nothing);
        let mut rng = Rng::new(seed);
        let (mut next, mut lost) = (5, None);
        for _ in 0..6 {
            let members: Vec<NodeId> = world.last().members().iter().map(|m| m.id).collect();
            let id = members[rng.below(members.len() as u64) as usize];
            let up = world.last().members().iter().filter(|m| m.state == MemberState::Up).count();
            match rng.below(5) {
                0 | 1 => {
                    world.add_node(NodeId(next));
                    world.operate(member(next));
                    next += 1;
                }
                2 if up > 3 && lost != Some(id) => {
                    world.operate(Change::SetState { id, state: MemberState::Leaving });
                }
                // One disk is lost in a run: with W = 2 every write is on another one.
                3 if up > 3 && lost.is_none() => {
                    lost = Some(id);
                    world.destroy(id);
                    world.operate(Change::SetState { id, state: MemberState::Down });
                }
                _ => {
                    if let Some(job) = world.last().job().map(|job| job.id) {
                        world.operate(match rng.below(2) {
                            0 => Change::StopJob { job, hold: false },
                            _ => Change::RollBackJob { job },
                        });
                    }
                }
            }
            for _ in 0..rng.below(600) {
                world.step();
                if rng.below(100) == 0 {
                    let victims: Vec<NodeId> = world.nodes.keys().copied().collect();
                    let victim = match rng.below(4) {
                        0 => Victim::Driver,
                        _ => Victim::Node(victims[rng.below(victims.len() as u64) as usize]),
                    };
                    world.crash(victim);
                    world.restart_in(rng.below(200_000), victim);
                }
            }
            world.check().unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        }
        end(&mut world).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
}

#[test]
fn a_job_can_be_paused_resumed_and_cancelled() {
    let mut world = World::new(3, 64, 5, 3, Omit::Nothing);
    let before: Vec<Vec<NodeId>> = owners(world.last());
    world.add_node(NodeId(6));
    world.operate(member(6));
    until(&mut world, |topology| progress(topology).flipped >= 5);
    let job = world.last().job().expect("it runs").id;
    world.operate(Change::SetJob { job, paused: true, bytes_per_second: 0 });
    until(&mut world, |topology| topology.job().is_some_and(|job| job.paused));
    world.steps(3000);
    let fetched = world.fetched;
    world.steps(3000);
    assert_eq!(world.fetched, fetched, "paused, nothing is copied");
    let left = progress(world.last());
    assert!(left.planned > 0 && left.joint == 0, "{left:?}");
    world.operate(Change::SetJob { job, paused: false, bytes_per_second: 0 });
    until(&mut world, |topology| progress(topology).flipped >= 15);
    world.operate(Change::RollBackJob { job });
    until(&mut world, |topology| topology.job().is_none_or(|job| job.kind == JobKind::Back));
    end(&mut world).expect("it ends");
    assert_eq!(owners(world.last()), before);
    assert!(world.nodes[&NodeId(6)].disk.data.is_empty(), "nothing is left behind");
}

fn owners(topology: &Topology) -> Vec<Vec<NodeId>> {
    let placement = &topology.placements()[0];
    topology.ring().iter().map(|p| placement.base().owners(p).to_vec()).collect()
}

#[test]
fn a_lost_node_is_given_up_and_replaced_from_the_others() {
    let mut world = World::new(4, 32, 5, 3, Omit::Nothing);
    world.destroy(NodeId(2));
    world.operate(Change::SetState { id: NodeId(2), state: MemberState::Down });
    end(&mut world).expect("it ends");
    let last = Arc::clone(world.last());
    assert!(last.ring().iter().all(|p| {
        let owners = last.placements()[0].owners(p).expect("it exists");
        owners.list().len() == 3 && !owners.list().contains(&NodeId(2))
    }));
    world.operate(Change::ForgetMember { id: NodeId(2) });
    until(&mut world, |topology| topology.member(NodeId(2)).is_none());
    assert!(world.last().member(NodeId(2)).is_none());
}

#[test]
fn no_partition_is_at_two_stages_in_one_epoch() {
    let mut world = World::new(5, 16, 4, 3, Omit::Nothing);
    world.add_node(NodeId(5));
    world.operate(member(5));
    end(&mut world).expect("it ends");
    for pair in world.topologies.windows(2) {
        // Where only the order of owners changes there is nothing to copy.
        let moves = pair[1].placements()[0].steps().filter(|step| !step.handovers.is_empty());
        for step in moves {
            let before = pair[0].placements()[0].step(step.partition).and_then(|step| step.stage);
            let known = [None, Some(Stage::Copying), Some(Stage::Joint), Some(Stage::Flipped)];
            let at = |stage| known.iter().position(|known| *known == stage).expect("it is one");
            assert!(at(step.stage) <= at(before) + 1, "{step:?} after {before:?}");
        }
    }
}
