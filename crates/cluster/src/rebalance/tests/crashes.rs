//! Crashes at every step of a job, of everybody who takes part.

use super::world::{Omit, Victim, World, member};
use crate::topology::{Change, MemberState};
use ring::NodeId;
use std::collections::BTreeSet;

/// What the job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Node 1 leaves, node 4 takes its place.
    Replace,
    /// Node 1 is lost, node 4 takes its place.
    Lost,
    /// Node 1 leaves, and nobody takes its place.
    Shrink,
}

const CASES: [Case; 3] = [Case::Replace, Case::Lost, Case::Shrink];
const STEPS_MAX: usize = 20_000;

/// One partition with 20 keys, and the job about to begin.
fn begin(case: Case, seed: u64, omit: Omit) -> World {
    let mut world = World::new(seed, 1, 3, 3, omit);
    if case != Case::Shrink {
        world.add_node(NodeId(4));
        world.operate(member(4));
    }
    let state = match case {
        Case::Lost => {
            world.destroy(NodeId(1));
            MemberState::Down
        }
        _ => MemberState::Leaving,
    };
    world.operate(Change::SetState { id: NodeId(1), state });
    world
}

/// How a run ended: steps it took.
fn finish(world: &mut World) -> Result<usize, String> {
    if !world.run(STEPS_MAX, 7)? {
        return Err(format!("not over after {} steps: {:?}", world.steps, world.last()));
    }
    let steps = world.steps;
    world.settle()?;
    Ok(steps)
}

/// Crashes `victim` after `at` steps, for a moment or for long. What was on its way to it, or being written, is lost.
fn crashed(
    case: Case,
    seed: u64,
    omit: Omit,
    at: usize,
    victim: Victim,
    long: bool,
) -> Result<(), String> {
    let mut world = begin(case, seed, omit);
    while world.steps < at && world.step() {}
    world.crash(victim);
    world.restart_in(if long { 600_000 } else { 1000 }, victim);
    finish(&mut world).map(drop)
}

fn victims(case: Case) -> Vec<Victim> {
    let sender = if case == Case::Lost { NodeId(2) } else { NodeId(1) };
    let receiver = if case == Case::Shrink { NodeId(3) } else { NodeId(4) };
    vec![Victim::Node(sender), Victim::Node(receiver), Victim::Driver]
}

#[test]
fn crashes_of_anybody_at_any_step_lose_nothing_and_end_well() {
    let (mut points, mut ways) = (0, BTreeSet::new());
    for case in CASES {
        let steps = finish(&mut begin(case, 7, Omit::Nothing)).expect("without a crash");
        for at in 0..steps {
            for victim in victims(case) {
                for long in [false, true] {
                    points += 1;
                    crashed(case, 7, Omit::Nothing, at, victim, long)
                        .unwrap_or_else(|fault| panic!("{case:?} {at} {victim:?} {long}: {fault}"));
                }
            }
        }
        ways.insert(steps);
    }
    println!("{points} crash points over runs of {ways:?} steps");
    assert!(points >= 2400, "{points} crash points over runs of {ways:?} steps");
}

#[test]
fn the_checks_notice_what_is_left_out() {
    for omit in [Omit::CatchUp, Omit::Patience] {
        let mut seeds = 0..400u64;
        let fault = seeds.find_map(|seed| {
            let case = CASES[seed as usize % 2];
            let (at, victim) = (10 + seed as usize % 50, victims(case)[seed as usize % 3]);
            crashed(case, seed, omit, at, victim, seed % 2 == 0).err()
        });
        assert!(fault.is_some(), "without {omit:?} nothing goes wrong");
    }
}
