//! Bit rot under a replica, with real databases on disks in memory.

use crate::clock::Context;
use crate::node::Node;
use crate::simulation::{SIBLINGS, Sim};
use crate::transport::Failure;
use base::checksum::xxh3_64;
use std::path::PathBuf;
use std::sync::Arc;

const KEYS: usize = 60;

fn key(n: usize) -> String {
    format!("key{n:03}")
}

/// One that does not compress away.
fn value(n: usize) -> String {
    (0..20u8).map(|part| format!("{:016x}", xxh3_64(&[n as u8, part]))).collect()
}

/// Three nodes that hold the same keys, in tables; some were deleted.
fn stored() -> Sim {
    let sim = Sim::new(3, 1);
    for n in 0..KEYS {
        let put = sim.write(1, &key(n), Some(&value(n)), &Context::new(), 3);
        let put = put.expect("three owners");
        if n % 5 == 0 {
            sim.write(2, &key(n), None, &put.context, 3).expect("three owners");
        }
    }
    for n in 1..=3 {
        sim.node(n).db().flush().expect("a healthy disk");
    }
    sim
}

/// Flips a bit in the middle of each table that holds records of node `n`; tables of other keyspaces are small.
fn rot(sim: &Sim, n: u64) {
    let tables = |(path, len): (PathBuf, u64)| {
        let is_large = path.extension().is_some_and(|e| e == "sst") && len > 4096;
        is_large.then_some((path, len))
    };
    let tables: Vec<_> = sim.disk(n).files().into_iter().filter_map(tables).collect();
    assert!(!tables.is_empty());
    for (path, len) in tables {
        sim.disk(n).flip_bit(&path, len / 3, 1).expect("a table");
    }
}

fn lost(node: &Node, sim: &Sim) -> usize {
    let read = |n: &usize| {
        node.replica().read_any(SIBLINGS, sim.partition_of(&key(*n)), key(*n).as_bytes())
    };
    (0..KEYS).filter(|n| matches!(read(n), Err(Failure::Damaged))).count()
}

/// Looks for damage, once, and fills a hole if there is one.
fn mend(sim: &Sim, n: u64) {
    let node: &Arc<Node> = sim.node(n);
    node.take_out_damage().expect("the rest is healthy");
    if let Some(hole) = node.next_hole() {
        node.fill(hole);
    }
    sim.runtime.run_for(5_000_000);
}

#[test]
fn what_is_damaged_is_brought_back_from_others() {
    let sim = stored();
    rot(&sim, 1);
    let node = sim.node(1);
    let damaged = lost(node, &sim);
    assert!((1..KEYS).contains(&damaged), "{damaged}");
    mend(&sim, 1);
    assert_eq!((node.holes(), lost(node, &sim)), (0, 0));
    for n in 0..KEYS {
        let (ours, theirs) = (sim.held(1, &key(n)), sim.held(2, &key(n)));
        assert_eq!(ours, theirs, "{n}");
        assert_eq!(ours.expect("a record").is_deleted(), n % 5 == 0, "{n}");
    }
    node.db().verify().expect("the damage is gone");
}

#[test]
fn a_hole_is_not_served_before_it_is_filled_also_after_a_restart() {
    let mut sim = stored();
    rot(&sim, 1);
    let damaged = lost(sim.node(1), &sim);
    sim.connect(&[&[1], &[2, 3]]);
    mend(&sim, 1);
    assert_eq!(sim.node(1).holes(), 1);
    sim.node(1).db().verify().expect("it is cut out");
    assert!(lost(sim.node(1), &sim) >= damaged);
    sim.restart(1, false);
    assert!(lost(sim.node(1), &sim) >= damaged, "it is remembered");
    // Nothing is merged into it, either.
    let hole = sim.node(1).replica().holes().pop().expect("one").2;
    let inside = (0..KEYS).map(key).find(|key| hole.contains(key.as_bytes())).expect("a key");
    sim.connect(&[&[1, 2, 3]]);
    assert!(sim.write(1, &inside, Some("x"), &Context::new(), 1).is_ok(), "others take it");
    assert!(!sim.exchange(1, 2, &inside).eq(&crate::exchange::Ended::Complete { differing: 0 }));
    mend(&sim, 1);
    assert_eq!((sim.node(1).holes(), lost(sim.node(1), &sim)), (0, 0));
    assert_eq!(sim.held(1, &inside), sim.held(2, &inside));
}

#[test]
fn without_another_copy_a_hole_stays() {
    let sim = stored();
    (1..=3).for_each(|n| rot(&sim, n));
    for n in 1..=3 {
        assert!(lost(sim.node(n), &sim) > 0);
        sim.node(n).take_out_damage().expect("the rest is healthy");
    }
    mend(&sim, 1);
    assert_eq!(sim.node(1).holes(), 1);
    let read = (0..KEYS).filter(|n| sim.held_or(1, &key(*n)).is_ok()).count();
    assert!(read > KEYS / 2, "all else is served: {read}");
}
