//! Hints that are many for one key, or are not taken.

use crate::clock::{Context, Stamp};
use crate::codec::message::Op;
use crate::simulation::{LAST, SIBLINGS, Sim};
use crate::transport::{Failure, Incoming, Limits, Responder, Service, Transport};
use base::KeyspaceId;
use ring::{Epoch, NodeId};
use std::sync::Arc;

const HINTS_BYTES_MAX: u64 = 64 << 20;

/// Writes a key again and again while node 3 is away; its last value is `last`.
fn written_without_three(sim: &Sim, keyspace: KeyspaceId, count: usize) {
    sim.connect(&[&[1, 2], &[3]]);
    let (mut replaces, mut after) = (Context::new(), Stamp::ZERO);
    for n in 1..=count {
        let value = if n == count { "last" } else { "value" };
        let value = Some(value.repeat(10).as_str().into());
        let op = Op { key: "key".into(), value, expires_micros: 0, replaces, after };
        let written = sim.write_op(1, keyspace, op, 2).expect("two owners");
        (replaces, after) = (written.context, written.stamp);
    }
    // The owner that is away is given up by each of them.
    sim.runtime.run_for(2_000_000);
    assert!(sim.node(1).hint_bytes() > 0);
}

fn handed_over(sim: &Sim) {
    sim.connect(&[&[1, 2, 3]]);
    sim.runtime.run_for(20_000_000);
    assert_eq!(sim.node(1).hint_bytes(), 0);
}

#[test]
fn a_key_that_is_written_often_is_handed_over() {
    let limits =
        Limits { frame_bytes_max: 2 << 20, in_flight_bytes_max: 4 << 20, ..Limits::default() };
    for keyspace in [SIBLINGS, LAST] {
        let sim = Sim::with(3, 1, limits, HINTS_BYTES_MAX);
        written_without_three(&sim, keyspace, 1_500);
        assert!(sim.node(1).hint_bytes() < 32 << 10, "one value, and the dots of all writes");
        handed_over(&sim);
        let held = |n: u64| sim.held_in(keyspace, n, "key").expect("healthy").expect("a record");
        assert_eq!(held(3).versions(), held(1).versions());
    }
}

#[test]
fn a_hint_that_its_owner_does_not_take_is_kept() {
    let sim = Sim::with(3, 1, Limits::default(), HINTS_BYTES_MAX);
    written_without_three(&sim, SIBLINGS, 3);
    let partition = sim.partition_of("key");
    let part = sim.node(3).replica().part(SIBLINGS, partition).expect("healthy");
    part.hold().quarantine(b"key");
    sim.connect(&[&[1, 2, 3]]);
    let delivered = sim.node(1).when_hints_delivered(1);
    sim.runtime.run_for(20_000_000);
    assert!(sim.node(1).hint_bytes() > 0);
    assert!(delivered.wait().is_err(), "they are not");
    // Filled from others it takes what there is.
    let hole = sim.node(3).replica().part(SIBLINGS, partition).expect("healthy");
    let span = hole.hold().holes[0].clone();
    sim.node(3).replica().close_hole(SIBLINGS, partition, &span).expect("a healthy disk");
    handed_over(&sim);
    let held = sim.held(3, "key").expect("a record");
    assert_eq!(held.versions(), sim.held(1, "key").expect("a record").versions());
}

#[test]
fn an_owner_that_does_not_take_its_hints_keeps_no_other_one_waiting() {
    let sim = Sim::with(4, 1, Limits::default(), HINTS_BYTES_MAX);
    let owners = sim.node(1).view().owners(SIBLINGS, sim.partition_of("key")).to_vec();
    let [maker, refusing, other] = owners[..] else { panic!("three owners") };
    let alone = [maker.0];
    sim.connect(&[&alone, &[refusing.0], &[other.0]]);
    for n in 0..3 {
        let key = format!("key{n}");
        sim.write(maker.0, &key, Some("value"), &Context::new(), 1).expect("an owner");
    }
    sim.runtime.run_for(2_000_000);
    let replica = sim.node(refusing.0).replica();
    let part = replica.part(SIBLINGS, sim.partition_of("key")).expect("healthy");
    part.hold().quarantine(b"key1");
    sim.connect(&[&[1, 2, 3, 4]]);
    sim.runtime.run_for(20_000_000);
    assert!(sim.held(other.0, "key2").is_some());
    assert!(sim.held(refusing.0, "key2").is_some());
    let targets = sim.node(maker.0).hints().targets();
    assert_eq!(targets, [NodeId(refusing.0)]);
}

/// What a node says to hints while its service is another one: no failure by which it would be known to be away.
struct Refusing;

impl Service for Refusing {
    fn serve(&self, _: Incoming, responder: Responder) {
        responder.fail(Epoch(1), Failure::NotReady);
    }
}

#[test]
fn an_owner_that_refuses_whole_requests_keeps_no_other_one_waiting() {
    let sim = Sim::with(4, 1, Limits::default(), HINTS_BYTES_MAX);
    let owners = sim.node(1).view().owners(SIBLINGS, sim.partition_of("key")).to_vec();
    let maker = owners[0];
    // The one whose hints come first is the one that refuses.
    let (refusing, other) = (owners[1].min(owners[2]), owners[1].max(owners[2]));
    sim.connect(&[&[maker.0], &[refusing.0], &[other.0]]);
    let value = "value".repeat(60_000);
    for n in 0..20 {
        let key = format!("key{n}");
        sim.write(maker.0, &key, Some(&value), &Context::new(), 1).expect("an owner");
    }
    sim.runtime.run_for(2_000_000);
    let bytes = sim.node(maker.0).hint_bytes();
    sim.network.bind(refusing, Arc::new(Refusing)).expect("in one process");
    sim.connect(&[&[1, 2, 3, 4]]);
    sim.runtime.run_for(20_000_000);
    assert!(sim.held(other.0, "key19").is_some(), "it was never its turn");
    assert_eq!(sim.node(maker.0).hints().targets(), [refusing]);
    let left = sim.node(maker.0).hint_bytes();
    assert!(left >= bytes / 2 && left < bytes / 2 + 1000, "{left} of {bytes}");
}

#[test]
fn hints_and_their_dots_are_found_again_after_a_restart_and_leave_nothing_behind() {
    let mut sim = Sim::with(3, 1, Limits::default(), HINTS_BYTES_MAX);
    written_without_three(&sim, SIBLINGS, 30);
    written_without_three(&sim, LAST, 30);
    // A hint is not synced where the write is: this brings it to the disk.
    sim.node(1).db().sync().expect("a healthy disk");
    let bytes = sim.node(1).hint_bytes();
    sim.restart(1, false);
    assert_eq!(sim.node(1).hint_bytes(), bytes);
    let partition = sim.partition_of("key");
    let dots = sim
        .node(1)
        .hints()
        .dots_for(sim.node(1).replica(), SIBLINGS, partition)
        .expect("a healthy disk");
    assert_eq!(dots.runs().iter().map(|run| run.last - run.first + 1).sum::<u64>(), 30);
    handed_over(&sim);
    let seen = |n: u64| {
        let part = sim.node(n).replica().part(SIBLINGS, partition).expect("healthy");
        part.hold().state.seen.clone()
    };
    assert!(seen(3).covers(&dots));
    let dots = sim
        .node(1)
        .hints()
        .dots_for(sim.node(1).replica(), SIBLINGS, partition)
        .expect("a healthy disk");
    assert!(dots.is_empty());
}

#[test]
fn dots_of_hints_that_are_lost_are_dropped_when_their_node_starts() {
    let mut sim = Sim::with(3, 1, Limits::default(), HINTS_BYTES_MAX);
    written_without_three(&sim, SIBLINGS, 30);
    let open = |sim: &Sim, name: &str| {
        sim.node(1).db().keyspace(name, lsm::KeyspaceOptions::default()).expect("a healthy disk")
    };
    let hints = open(&sim, "_hints");
    for pair in hints.iter() {
        hints.delete(pair.expect("a healthy disk").0).expect("a healthy disk");
    }
    sim.node(1).db().sync().expect("a healthy disk");
    assert_eq!(open(&sim, "_hint_dots").iter().count(), 30);
    drop(hints);
    sim.restart(1, false);
    assert_eq!(sim.node(1).hint_bytes(), 0);
    assert_eq!(open(&sim, "_hint_dots").iter().count(), 0);
    // Numbers that are given now are not those of dots that may come back with a power cut.
    written_without_three(&sim, SIBLINGS, 2);
    assert_eq!(open(&sim, "_hint_dots").iter().count(), 2);
    handed_over(&sim);
}
