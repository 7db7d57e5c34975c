//! What replicas know of each other's deletes.

use super::Ended;
use crate::clock::{Context, Stamp};
use crate::codec::message::{Cause, Item, Op};
use crate::record::Mode;
use crate::simulation::{LAST, SIBLINGS, Sim};
use crate::transport::{Failure, Limits};
use base::clock::Clock;
use base::sync::Mutex;
use ring::NodeId;
use std::sync::Arc;

/// A value that nodes 1 and 3 hold, and a delete of it that only node 1 has seen.
fn deleted_at_one() -> (Sim, crate::clock::Dot) {
    let sim = Sim::new(3, 1);
    sim.connect(&[&[1, 3], &[2]]);
    let put = sim.write(1, "key", Some("value"), &Context::new(), 2).expect("two owners");
    sim.connect(&[&[1], &[2], &[3]]);
    sim.write(1, "key", None, &put.context, 1).expect("one owner");
    (sim, put.dot)
}

fn complete(ended: Ended) -> bool {
    matches!(ended, Ended::Complete { .. })
}

#[test]
fn who_has_seen_a_delete_speaks_for_it() {
    let (sim, dot) = deleted_at_one();
    // Neither of the two stores anything: their digests are the same.
    sim.connect(&[&[1, 2], &[3]]);
    assert!(complete(sim.exchange(2, 1, "key")));
    let held = sim.held(2, "key").expect("a tombstone");
    assert!(held.is_deleted() && held.context().contains(dot), "{held:?}");
    // So the third one does not learn of the delete without learning what was deleted.
    sim.connect(&[&[2, 3], &[1]]);
    assert!(complete(sim.exchange(3, 2, "key")));
    let held = sim.held(3, "key").expect("a tombstone");
    assert!(held.is_deleted() && held.context().contains(dot), "{held:?}");
}

#[test]
fn a_node_without_its_disk_speaks_for_deletes_again() {
    let (mut sim, dot) = deleted_at_one();
    sim.connect(&[&[1, 2], &[3]]);
    assert!(complete(sim.exchange(2, 1, "key")));
    sim.restart(2, true);
    sim.connect(&[&[1, 2, 3]]);
    sim.runtime.run_for(1_000_000);
    assert_eq!(sim.node(2).incomplete(), 2, "a partition of each keyspace");
    assert!(complete(sim.exchange(2, 1, "key")) && complete(sim.exchange(2, 3, "key")));
    assert_eq!(sim.node(2).incomplete(), 1);
    // It answers reads together with one that has missed the delete.
    let held = sim.held(2, "key").expect("a tombstone");
    assert!(held.is_deleted() && held.context().contains(dot), "{held:?}");
}

/// The message of a write comes late: an exchange has brought the write before it, and it lost. Its client must not hear that it is there.
#[test]
fn a_write_that_lost_before_its_message_came_is_stamped_again() {
    let sim = Sim::new(3, 1);
    let op = |value: &str, after| Op {
        key: "key".into(),
        value: Some(value.into()),
        expires_micros: 0,
        replaces: Context::new(),
        after,
    };
    sim.connect(&[&[1, 2], &[3]]);
    let ahead = Stamp::at_micros(sim.runtime.wall_micros() + 400_000);
    let first = sim.write_op(1, LAST, op("first", ahead), 2).expect("two owners");
    sim.connect(&[&[1], &[2], &[3]]);
    let second = sim.write_op(3, LAST, op("second", Stamp::ZERO), 1).expect("one owner");
    assert!(second.stamp < first.stamp, "the clock of its owner is behind");
    let (replica, partition) = (sim.node(3).replica(), sim.partition_of("key"));
    let record = replica.read_any(LAST, partition, b"key").expect("healthy").expect("a record");
    sim.connect(&[&[1, 3], &[2]]);
    assert!(complete(sim.exchange_in(LAST, 1, 3, "key")));
    let items = [Item { key: "key".into(), record, made_by: Some(second.dot) }];
    let late =
        sim.node(1).replica().apply(LAST, partition, Mode::LastWriterWins, Cause::Write, &items);
    assert_eq!(late, [Err(Failure::StaleStamp { after: first.stamp })]);
}

/// Of such values fewer fit into a frame than are exchanged together otherwise.
#[test]
fn large_values_are_exchanged_too() {
    let limits =
        Limits { frame_bytes_max: 1 << 20, in_flight_bytes_max: 2 << 20, ..Limits::default() };
    let value = "x".repeat(100_000);
    for (asks, told) in [(3, 1), (1, 3)] {
        let sim = Sim::with(3, 1, limits, 0);
        sim.connect(&[&[1, 2], &[3]]);
        for n in 0..30 {
            let key = format!("key{n}");
            sim.write(1, &key, Some(&value), &Context::new(), 2).expect("two owners");
        }
        sim.connect(&[&[1, 2, 3]]);
        // What was sent and not answered has its time.
        sim.runtime.run_for(2_000_000);
        let ended = sim.exchange(asks, told, "key0");
        assert_eq!(ended, Ended::Complete { differing: 30 }, "{asks} asks {told}");
        let held = (0..30).filter(|n| sim.held(3, &format!("key{n}")).is_some()).count();
        assert_eq!(held, 30);
    }
}

/// The digests of long keys take more than a frame at first.
#[test]
fn long_keys_are_exchanged_too() {
    let limits =
        Limits { frame_bytes_max: 512 << 10, in_flight_bytes_max: 1 << 20, ..Limits::default() };
    let sim = Sim::with(3, 1, limits, 0);
    let key = |n: usize| format!("key{n:03}{}", "x".repeat(900));
    sim.connect(&[&[1, 2], &[3]]);
    for n in 0..1_000 {
        sim.write(1, &key(n), Some("value"), &Context::new(), 2).expect("two owners");
    }
    sim.connect(&[&[1, 2, 3]]);
    for n in (0..1_000).step_by(2) {
        sim.write(3, &key(n), Some("other"), &Context::new(), 1).expect("an owner");
    }
    sim.runtime.run_for(2_000_000);
    assert!(complete(sim.exchange(3, 1, &key(0))));
    let total = |n: u64| {
        let part = sim.node(n).replica().part(SIBLINGS, sim.partition_of(&key(0)));
        part.expect("healthy").hold().tree.total()
    };
    assert_eq!(total(3), total(1));
}

/// The peer has said what it has seen, and then its disk is lost. What it does not store any more was not deleted.
#[test]
fn a_peer_that_loses_its_disk_meanwhile_deletes_nothing() {
    let mut sim = Sim::new(3, 1);
    sim.write(1, "key", Some("value"), &Context::new(), 3).expect("three owners");
    sim.restart(2, true);
    let node = Arc::clone(sim.node(2));
    let ended = Arc::new(Mutex::new(None));
    let told = Arc::clone(&ended);
    let partition = sim.partition_of("key");
    // It is told the value first, by who made it.
    assert!(complete(sim.exchange(2, 1, "key")));
    assert!(sim.held(2, "key").is_some());
    // The question arrives, and no other message before the disk is lost.
    node.exchange(SIBLINGS, partition, NodeId(3), move |_, ended| *told.lock() = Some(ended));
    let seen = sim.network.counts().frames_arrived + 2;
    let network = Arc::clone(&sim.network);
    assert!(sim.runtime.run_until(1_000_000, &mut || network.counts().frames_arrived >= seen));
    sim.restart(3, true);
    sim.runtime.run_for(5_000_000);
    assert_eq!(*ended.lock(), Some(Ended::Partial));
    assert!(sim.held(2, "key").is_some_and(|record| !record.is_deleted()));
}
