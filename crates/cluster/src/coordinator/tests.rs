//! Messages that come late.

use crate::clock::{Context, Stamp};
use crate::codec::message::Op;
use crate::simulation::{LAST, Sim};
use crate::transport::Link;
use ring::NodeId;

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
