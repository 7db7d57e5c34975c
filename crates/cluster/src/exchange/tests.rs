//! What replicas know of each other's deletes.

use super::Ended;
use crate::clock::Context;
use crate::simulation::Sim;

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
    assert_eq!(sim.node(2).incomplete(), 1);
    assert!(complete(sim.exchange(2, 1, "key")) && complete(sim.exchange(2, 3, "key")));
    assert_eq!(sim.node(2).incomplete(), 0);
    // It answers reads together with one that has missed the delete.
    let held = sim.held(2, "key").expect("a tombstone");
    assert!(held.is_deleted() && held.context().contains(dot), "{held:?}");
}
