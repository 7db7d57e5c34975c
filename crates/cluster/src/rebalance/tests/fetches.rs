//! How much one node fetches at a time, and how fast.

use super::world::member;
use crate::rebalance::{Cursor, Mover, MoverEffect, MoverEvent, MoverOptions, Ticket};
use crate::record::Mode;
use crate::topology::{Advance, Change, Stage, Topology};
use base::{KeyspaceId, Slice};
use ring::{NodeId, Ring};
use std::collections::BTreeMap;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000;

/// Of 16 partitions of node 1 those that others are to have are copied: half of them to node 2, if that is the only other one.
fn copying(bytes_per_second: u64, others: &[u64]) -> Arc<Topology> {
    let topology = Topology::new(1, Ring::new(16).expect("a power of two"));
    let apply = |topology: Topology, change: &Change| topology.apply(change).expect("it fits");
    let topology = apply(topology, &member(1));
    let keyspace = topology.create_keyspace("k", 1, Mode::Siblings, 16).expect("a member");
    let topology = others.iter().fold(apply(topology, &keyspace), |t, n| apply(t, &member(*n)));
    let start = topology.start_job(bytes_per_second).expect("members");
    let topology = apply(topology, &start);
    let copying = all_copying(topology);
    assert_eq!(copying.placements()[0].under_way().count(), 16 - 16 / (1 + others.len()));
    Arc::new(copying)
}

/// All partitions of the job that was started begin to be copied.
fn all_copying(topology: Topology) -> Topology {
    let advance = |partition| Advance { replicas: 1, partition, to: Stage::Copying };
    let planned = topology.placements()[0].steps();
    let steps: Vec<Advance> = planned.map(|step| advance(step.partition)).collect();
    let job = topology.job().expect("it was started").id;
    topology.apply(&Change::AdvanceJob { job, steps }).expect("it fits")
}

/// The job of `topology` stops, and another one begins to copy the same.
fn another_job(topology: &Topology) -> Arc<Topology> {
    let job = topology.job().expect("there is one").id;
    let stopped = topology.apply(&Change::StopJob { job, hold: false }).expect("it stops");
    let start = stopped.start_job(0).expect("members");
    Arc::new(all_copying(stopped.apply(&start).expect("it fits")))
}

/// A mover that begins, and what it fetches first.
fn begin(bytes_per_second: u64) -> (Mover, Vec<(Ticket, u64)>) {
    begin_beside(bytes_per_second, &[2], MoverOptions::default())
}

fn begin_beside(
    bytes_per_second: u64,
    others: &[u64],
    options: MoverOptions,
) -> (Mover, Vec<(Ticket, u64)>) {
    let mut mover = Mover::new(NodeId(2), options, BTreeMap::new());
    let effects = mover.handle(0, MoverEvent::Topology(copying(bytes_per_second, others)));
    (mover, fetches(&effects))
}

fn fetches(effects: &[MoverEffect]) -> Vec<(Ticket, u64)> {
    let fetch = |effect: &MoverEffect| match effect {
        MoverEffect::Fetch { ticket, bytes_max, .. } => Some((*ticket, *bytes_max)),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

fn fetched(ticket: Ticket, bytes: u64) -> MoverEvent {
    let next = Cursor { keyspace: KeyspaceId(0), key: Slice::from("on") };
    MoverEvent::Fetched(ticket, Ok((bytes, Some(next))))
}

#[test]
fn two_fetches_are_under_way_and_the_end_of_one_begins_another() {
    let (mut mover, first) = begin(0);
    assert_eq!(first.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>(), [8 * MIB; 2]);
    assert_eq!(fetches(&mover.handle(1, MoverEvent::Woken)), []);
    assert_eq!(fetches(&mover.handle(2, fetched(first[0].0, 8 * MIB))).len(), 1);
    // One that failed makes room for another partition.
    let failed = MoverEvent::Fetched(first[1].0, Err(()));
    assert_eq!(fetches(&mover.handle(3, failed)).len(), 1);
}

#[test]
fn the_end_of_a_fetch_of_the_job_before_is_not_that_of_this_one() {
    let (mut mover, before) = begin(0);
    let next = another_job(&copying(0, &[2]));
    let now = fetches(&mover.handle(1, MoverEvent::Topology(next)));
    assert_eq!(now.len(), 2, "the same partitions");
    for (ticket, _) in before {
        assert_eq!(fetches(&mover.handle(2, MoverEvent::Fetched(ticket, Ok((9, None))))), []);
    }
    for (ticket, _) in now {
        assert_eq!(fetches(&mover.handle(3, fetched(ticket, 9))).len(), 1);
    }
}

#[test]
fn what_is_under_way_counts_for_the_throttle() {
    // Never more than what the rate lets through up to now, and one fetch.
    for rate in [MIB / 2, 2 * MIB, 8 * MIB, 20 * MIB, 200 * MIB] {
        let (mut mover, mut under_way) = begin(rate);
        assert_eq!(under_way.len(), 1, "one at a time fills {rate}");
        let (mut now, mut bytes, seconds) = (0, 0, 10);
        while now < seconds * SECOND {
            now += 1000;
            let mut effects = mover.handle(now, MoverEvent::Woken);
            for (ticket, asked) in std::mem::take(&mut under_way) {
                assert!((2 * MIB..=8 * MIB).contains(&asked));
                bytes += asked;
                effects.extend(mover.handle(now, fetched(ticket, asked)));
            }
            under_way.extend(fetches(&effects));
            assert!(bytes <= rate * now / SECOND + 8 * MIB, "{bytes} by {now} at {rate}");
        }
        let least = (rate * seconds).min(8 * MIB * seconds * SECOND / 1000) * 9 / 10;
        assert!(bytes >= least, "{bytes} at {rate}");
    }
}

#[test]
fn what_did_not_come_is_not_paid_for() {
    let (mut mover, first) = begin(8 * MIB);
    // It took no time: the next one comes at once, and only that one is paid for.
    let next = fetches(&mover.handle(10, fetched(first[0].0, 0)));
    assert_eq!(next.len(), 1);
    assert_eq!(fetches(&mover.handle(20, fetched(next[0].0, MIB))), []);
    let wake = SECOND / 8 + 20;
    assert_eq!(fetches(&mover.handle(wake, MoverEvent::Woken)).len(), 1);
}

#[test]
fn receivers_of_one_process_share_what_the_throttle_lets_through() {
    for (others, together, share) in
        [(&[2][..], true, 1), (&[2, 3, 4], true, 3), (&[2, 3, 4], false, 1)]
    {
        let options = MoverOptions { together, ..MoverOptions::default() };
        let rate = 12 * MIB;
        let (mut mover, first) = begin_beside(rate, others, options);
        let asked = first[0].1;
        assert_eq!(asked, (rate / share / 2).max(2 * MIB));
        assert_eq!(fetches(&mover.handle(1, fetched(first[0].0, asked))), []);
        let free = asked * SECOND * share / rate;
        assert_eq!(fetches(&mover.handle(free - 10, MoverEvent::Woken)), []);
        assert_eq!(fetches(&mover.handle(free + 10, MoverEvent::Woken)).len(), 1);
    }
    // No limit is none for each.
    let options = MoverOptions { together: true, ..MoverOptions::default() };
    assert_eq!(begin_beside(0, &[2, 3, 4], options).1.len(), 2);
}
