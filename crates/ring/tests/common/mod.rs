//! What every topology must satisfy, computed in other ways than the crate does, and random changes of
//! membership.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

pub mod oracle;

use proptest::prelude::*;
use ring::{Member, NodeId, Topology};
use std::collections::{BTreeMap, BTreeSet};

/// Owners are distinct members with weight, as many as can be; zones are used as evenly as can be;
/// no replica could be taken by a node that would then be less full; primaries follow replicas.
pub fn check(topology: &Topology) {
    let nodes: BTreeMap<NodeId, &Member> =
        topology.members().iter().filter(|m| m.weight > 0).map(|m| (m.id, m)).collect();
    let mut nodes_in: BTreeMap<&str, usize> = BTreeMap::new();
    nodes.values().for_each(|m| *nodes_in.entry(&m.zone).or_default() += 1);
    for partition in topology.ring().iter() {
        let owners = topology.owners(partition);
        let distinct: BTreeSet<_> = owners.iter().filter(|id| nodes.contains_key(id)).collect();
        assert_eq!(distinct.len(), topology.replicas().min(nodes.len()), "{partition}: {owners:?}");
        assert_eq!(distinct.len(), owners.len(), "{partition}: {owners:?}");
        let mut used: BTreeMap<&str, usize> = nodes_in.keys().map(|&zone| (zone, 0)).collect();
        owners.iter().for_each(|id| *used.entry(&nodes[id].zone).or_default() += 1);
        let most = used.values().copied().max().unwrap_or(0);
        for (zone, &count) in &used {
            let better = count < nodes_in[zone] && count + 2 <= most;
            assert!(!better, "{partition}: one more in zone {zone} would be more even: {used:?}");
        }
    }
    assert_eq!(topology.violations(), 0);
    check_loads(topology, &nodes, &nodes_in);
}

fn check_loads(
    topology: &Topology,
    nodes: &BTreeMap<NodeId, &Member>,
    nodes_in: &BTreeMap<&str, usize>,
) {
    let partitions = topology.ring().partitions() as usize;
    let replicas = topology.replicas().min(nodes.len());
    let loads = topology.loads();
    let mut in_zone: BTreeMap<&str, usize> = BTreeMap::new();
    for load in loads.iter().filter(|load| nodes.contains_key(&load.node)) {
        *in_zone.entry(&nodes[&load.node].zone).or_default() += load.partitions;
    }
    // Replicas of one partition in a zone: the same two neighbouring numbers for all zones.
    let level = (1..=replicas)
        .find(|&l| nodes_in.values().map(|&n| n.min(l)).sum::<usize>() >= replicas)
        .expect("there are nodes enough");
    for a in &loads {
        let Some(from) = nodes.get(&a.node) else {
            assert_eq!((a.partitions, a.primaries), (0, 0), "{} has no weight", a.node);
            continue;
        };
        let (least, most) = (a.partitions / replicas, a.partitions.div_ceil(replicas));
        assert!((least..=most).contains(&a.primaries), "{a:?}");
        for b in &loads {
            let Some(to) = nodes.get(&b.node) else { continue };
            let zones_allow = from.zone == to.zone
                || (in_zone[&*from.zone] > partitions * nodes_in[&*from.zone].min(level - 1)
                    && in_zone[&*to.zone] < partitions * nodes_in[&*to.zone].min(level));
            if a.partitions == 0 || b.partitions == partitions || !zones_allow {
                continue;
            }
            let fuller = a.partitions as u64 * u64::from(to.weight);
            assert!(
                fuller <= (b.partitions as u64 + 1) * u64::from(from.weight),
                "{a:?} weight {} should give to {b:?} weight {}",
                from.weight,
                to.weight
            );
        }
    }
}

/// Replicas that have to be copied for the loads to become those of `new`, if nothing else counted.
pub fn least_moves(old: &Topology, new: &Topology) -> usize {
    let mut more = 0;
    let before: BTreeMap<NodeId, usize> =
        old.loads().iter().map(|load| (load.node, load.partitions)).collect();
    for load in new.loads() {
        more += load.partitions.saturating_sub(before.get(&load.node).copied().unwrap_or(0));
    }
    more
}

/// Zones and weights of a made-up cluster.
#[derive(Debug, Clone)]
pub enum Change {
    Join { weight: u32, zone: u8 },
    Leave { which: usize },
    Weigh { which: usize, weight: u32 },
    Rezone { which: usize, zone: u8 },
}

pub fn any_weight() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(1u32), 6 => 1..5u32, 2 => 1..100u32, 1 => Just(0), 1 => Just(u32::MAX)]
}

pub fn any_change(zones: u8) -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (any_weight(), 0..zones).prop_map(|(weight, zone)| Change::Join { weight, zone }),
        4 => any::<usize>().prop_map(|which| Change::Leave { which }),
        3 => (any::<usize>(), any_weight()).prop_map(|(which, weight)| Change::Weigh { which, weight }),
        1 => (any::<usize>(), 0..zones).prop_map(|(which, zone)| Change::Rezone { which, zone }),
    ]
}

/// Applies `change` unless nobody would be left to hold data; ids are never used twice.
pub fn apply(members: &mut Vec<Member>, next_id: &mut u64, change: &Change) {
    let before = members.clone();
    let len = members.len();
    match *change {
        Change::Join { weight, zone } => {
            *next_id += 1;
            members.push(Member::new(*next_id, weight, &format!("z{zone}")));
        }
        Change::Leave { which } => drop(members.remove(which % len)),
        Change::Weigh { which, weight } => members[which % len].weight = weight,
        Change::Rezone { which, zone } => members[which % len].zone = format!("z{zone}"),
    }
    if members.iter().all(|member| member.weight == 0) {
        *members = before;
    }
}

/// Members with ids from 1 up, of which at least one has a weight.
pub fn spread_of(nodes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Member>> {
    let one = (any_weight(), 0..5u8);
    proptest::collection::vec(one, nodes).prop_map(|nodes| {
        let mut members: Vec<Member> = (1..)
            .zip(nodes)
            .map(|(id, (weight, zone))| Member::new(id, weight, &format!("z{zone}")))
            .collect();
        if members.iter().all(|member| member.weight == 0) {
            members[0].weight = 1;
        }
        members
    })
}
