//! Messages that come late.

use crate::clock::{Context, Stamp};
use crate::codec::message::Op;
use crate::coordinator::WriteOptions;
use crate::simulation::{LAST, Sim};
use crate::transport::{Failure, Link};
use base::clock::Clock;
use base::sync::Mutex;
use ring::NodeId;
use std::sync::Arc;

fn op(value: &str) -> Op {
    Op {
        key: "key".into(),
        value: Some(value.into()),
        expires_micros: 0,
        replaces: Context::new(),
        after: Stamp::ZERO,
    }
}

/// The message to the third owner comes after the next write, so it loses there. That is right: it must not be stamped again, since the next
/// write began after it was acknowledged.
#[test]
fn a_write_that_is_acknowledged_is_not_stamped_again() {
    let sim = Sim::new(3, 1);
    let late = Link { delay_micros_min: 100_000, delay_micros_max: 100_000, ..Link::default() };
    sim.network.set_link(NodeId(1), NodeId(3), late);
    let first = sim.write_op(1, LAST, op("first"), 2).expect("two owners");
    sim.network.set_link(NodeId(1), NodeId(3), Link::near());
    let second = sim.write_op(1, LAST, op("second"), 3).expect("three owners");
    assert!(first.stamp < second.stamp);
    sim.runtime.run_for(2_000_000);
    for n in 1..=3 {
        let (replica, partition) = (sim.node(n).replica(), sim.partition_of("key"));
        let record = replica.read_any(LAST, partition, b"key").expect("healthy").expect("a record");
        let values: Vec<_> = record.versions().iter().filter_map(|v| v.value.clone()).collect();
        assert_eq!(values, ["second"], "at node {n}");
    }
}

/// Two owners have the first write, and a client that has read it there replaces it, before the third one hears of either: it is told of the
/// second write first, and refuses the first one. Stamped again it would come after its own successor.
#[test]
fn a_write_that_was_read_and_replaced_is_not_stamped_again() {
    let sim = Sim::new(3, 1);
    let late = Link { delay_micros_min: 300_000, delay_micros_max: 300_000, ..Link::default() };
    sim.network.set_link(NodeId(1), NodeId(3), late);
    let told = Arc::new(Mutex::new(None));
    let first = Arc::clone(&told);
    let options = WriteOptions { owners_min: 3, sloppy: false, timeout_micros: 1_000_000 };
    sim.node(1).write(LAST, vec![op("first")], options, move |mut results| {
        *first.lock() = results.pop();
    });
    sim.runtime.run_for(20_000);
    sim.network.set_link(NodeId(1), NodeId(3), Link::near());
    let read = sim.held_in(LAST, 1, "key").expect("healthy").expect("a record");
    let after = read.stamp();
    let second = sim.write_op(1, LAST, Op { after, ..op("second") }, 3).expect("three owners");
    assert!(second.stamp > after);
    sim.runtime.run_for(2_000_000);
    let first = told.lock().take().expect("it has ended");
    assert!(matches!(first, Err(Failure::Unknown { wanted: 3, .. })), "{first:?}");
    for n in 1..=3 {
        let record = sim.held_in(LAST, n, "key").expect("healthy").expect("a record");
        let values: Vec<_> = record.versions().iter().filter_map(|v| v.value.clone()).collect();
        assert_eq!(values, ["second"], "at node {n}");
    }
}

/// The clock of the maker is behind: what it does not know of was acknowledged before its write began, so that is stamped again.
#[test]
fn a_write_that_nobody_replaced_is_stamped_again() {
    let sim = Sim::new(3, 1);
    sim.connect(&[&[1], &[2, 3]]);
    let late = crate::clock::Stamp::at_micros(sim.runtime.wall_micros() + 400_000);
    let before = Op { after: late, ..op("before") };
    let before = sim.write_op(2, LAST, before, 2).expect("two owners");
    sim.connect(&[&[1, 2, 3]]);
    let second = sim.write_op(1, LAST, op("second"), 2).expect("two owners");
    assert!(second.stamp > before.stamp);
}
