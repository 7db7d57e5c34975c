//! Reads where messages are late, or large.

use super::{Answered, ReadOptions};
use crate::clock::Context;
use crate::simulation::{SIBLINGS, Sim};
use crate::transport::{Failure, Limits, Link};
use base::Slice;
use ring::NodeId;

/// What is sent by one node to another is so late, in milliseconds.
fn delay(sim: &Sim, from: u64, to: u64, millis: u64) {
    let (delay_micros_min, delay_micros_max) = (millis * 1000, millis * 1000);
    let link = Link { delay_micros_min, delay_micros_max, ..Link::near() };
    sim.network.set_link(NodeId(from), NodeId(to), link);
}

fn read(
    sim: &Sim,
    n: u64,
    keys: &[String],
    options: ReadOptions,
) -> Vec<Result<Answered, Failure>> {
    let keys: Vec<Slice> = keys.iter().map(|key| key.as_str().into()).collect();
    sim.wait(|told| {
        sim.node(n).read(SIBLINGS, keys, options, move |results| *told.lock() = Some(results));
    })
}

#[test]
fn a_monotonic_read_stores_at_owners_that_are_slow_to_answer() {
    let sim = Sim::new(4, 16);
    let away = |key: &String| {
        let (view, partition) = (sim.node(4).view(), sim.partition_of(key));
        !view.owners(SIBLINGS, partition).contains(&NodeId(4))
    };
    let key = (0..).map(|n| format!("key{n}")).find(away).expect("node 4 does not own all");
    sim.write(1, &key, Some("value"), &Context::new(), 3).expect("three owners");
    let first = sim.node(4).view().owners(SIBLINGS, sim.partition_of(&key))[0];
    delay(&sim, first.0, 4, 300);
    let options = ReadOptions { owners_min: 1, monotonic: true, timeout_micros: 1_000_000 };
    let found = read(&sim, 4, &[key], options).pop().expect("one key");
    assert_eq!(found.map(|found| found.record.versions().len()), Ok(1));
}

#[test]
fn values_that_no_frame_holds_together_are_read_together() {
    let limits =
        Limits { frame_bytes_max: 64 << 10, in_flight_bytes_max: 256 << 10, ..Limits::default() };
    let sim = Sim::with(4, 1, limits, 0);
    let keys: Vec<String> = (0..9).map(|n| format!("key{n}")).collect();
    let value = "x".repeat(16_000);
    for key in &keys {
        sim.write(1, key, Some(&value), &Context::new(), 3).expect("three owners");
    }
    let options = ReadOptions { owners_min: 2, monotonic: false, timeout_micros: 1_000_000 };
    for n in 1..=4 {
        for (key, found) in keys.iter().zip(read(&sim, n, &keys, options)) {
            let found = found.expect(key);
            assert_eq!(found.record.value_bytes(), value.len());
            assert_eq!(found.served_by.len(), 2);
        }
    }
}
