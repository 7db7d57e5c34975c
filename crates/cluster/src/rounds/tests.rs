//! Floors that did not reach everybody.

use crate::clock::{Context, Stamp};
use crate::codec::message::SetFloor;
use crate::exchange::Ended;
use crate::record::Floor;
use crate::simulation::{LAST, Sim};
use base::clock::Clock;
use ring::Partition;

const PARTITION: Partition = Partition(0);

/// One that only node `n` has heard of.
fn set_floor(sim: &Sim, n: u64, round: u64, stamp: Stamp) {
    let floor = Floor { round, dots: Context::new(), stamp };
    let set = SetFloor { keyspace: LAST, partition: PARTITION, floor };
    let node = sim.node(n);
    node.set_floor(node.epoch(), &set).expect("it owns the partition");
}

fn floor(sim: &Sim, n: u64) -> Floor {
    let part = sim.node(n).replica().part(LAST, PARTITION).expect("a healthy disk");
    part.face().floor.as_ref().clone()
}

/// The clock of an earlier leader was wrong, and its floor came to one owner only, which has dropped tombstones by it. The others do so, too.
#[test]
fn a_round_is_after_all_that_any_owner_has_heard_of() {
    let sim = Sim::with_rounds(3, 1, 100_000);
    let leader = sim.node(1).view().owners(LAST, PARTITION)[0];
    let other = (1..=3).find(|n| ring::NodeId(*n) != leader).expect("three owners");
    let an_hour = 3_600_000_000;
    let (round, ahead) = (1 << 40, Stamp::at_micros(sim.runtime.wall_micros() + an_hour));
    set_floor(&sim, other, round, ahead);
    sim.node(leader.0).begin_round(LAST, PARTITION);
    sim.runtime.run_for(5_000_000);
    for n in 1..=3 {
        let floor = floor(&sim, n);
        assert_eq!((floor.round, floor.stamp), (round + 1, ahead), "at node {n}");
    }
}

#[test]
fn a_node_without_its_disk_takes_over_the_later_stamp_of_an_earlier_round() {
    let mut sim = Sim::new(3, 1);
    let (early, late) = (Stamp::at_micros(1_000), Stamp::at_micros(2_000));
    set_floor(&sim, 2, 5, early);
    set_floor(&sim, 3, 4, late);
    sim.restart(1, true);
    for with in [2, 3] {
        let ended = sim.exchange_in(LAST, 1, with, "key");
        assert!(matches!(ended, Ended::Complete { .. }));
    }
    assert_eq!((floor(&sim, 1).round, floor(&sim, 1).stamp), (5, late));
}
