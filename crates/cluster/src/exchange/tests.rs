//! What replicas know of each other's deletes.

use super::Ended;
use crate::clock::{Context, Stamp};
use crate::codec::message::{Cause, Item, Op};
use crate::record::Mode;
use crate::simulation::{LAST, Sim};
use crate::transport::Failure;
use base::clock::Clock;

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
