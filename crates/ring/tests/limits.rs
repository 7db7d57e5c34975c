//! Memberships at the edge of what there is.

mod common;

use common::check;
use ring::{
    Epoch, Error, MEMBERS_MAX, Member, NodeId, PARTITIONS_MAX, Partition, REPLICAS_MAX, Topology,
    ZONE_LEN_MAX, plan,
};

fn nodes(weights: &[u32]) -> Vec<Member> {
    (1..).zip(weights).map(|(id, weight)| Member::new(id, *weight, "a")).collect()
}

fn loads(topology: &Topology) -> Vec<usize> {
    topology.loads().iter().map(|load| load.partitions).collect()
}

#[test]
fn what_makes_no_topology_is_said() {
    let one = nodes(&[1]);
    let new = |partitions, replicas, members: &[Member]| {
        Topology::new(partitions, replicas, members).map(|_| ()).unwrap_err()
    };
    assert_eq!(new(100, 1, &one), Error::InvalidPartitions { partitions: 100 });
    let partitions = PARTITIONS_MAX * 2;
    assert_eq!(new(partitions, 1, &one), Error::InvalidPartitions { partitions });
    assert_eq!(new(16, 0, &one), Error::InvalidReplicas { replicas: 0 });
    let replicas = REPLICAS_MAX + 1;
    assert_eq!(new(16, replicas, &one), Error::InvalidReplicas { replicas });
    assert_eq!(new(16, 1, &[]), Error::NoMembers);
    assert_eq!(new(16, 1, &nodes(&[0, 0])), Error::NoCapacity);
    let twice = [Member::new(7, 1, "a"), Member::new(8, 1, "a"), Member::new(7, 2, "b")];
    assert_eq!(new(16, 1, &twice), Error::DuplicateNode { node: NodeId(7) });
    let len = ZONE_LEN_MAX + 1;
    let far = [Member::new(3, 1, &"x".repeat(len))];
    assert_eq!(new(16, 1, &far), Error::ZoneTooLong { node: NodeId(3), len });
    let members = MEMBERS_MAX + 1;
    assert_eq!(new(16, 1, &nodes(&vec![1; members])), Error::TooManyMembers { members });
    let topology = Topology::new(16, 1, &one).unwrap();
    assert_eq!(topology.next(&[]).unwrap_err(), Error::NoMembers);
}

#[test]
fn errors_say_what_and_how_much() {
    let error = Topology::new(100, 1, &nodes(&[1])).unwrap_err();
    assert_eq!(error.to_string(), "partitions must be a power of two partitions=100 max=262144");
}

#[test]
fn fewer_nodes_than_replicas_hold_everything() {
    let two = Topology::new(16, 3, &nodes(&[1, 9])).unwrap();
    assert_eq!(loads(&two), [16, 16]);
    let five = two.next(&nodes(&[1, 9, 1, 1, 1])).unwrap();
    check(&five);
    let back = five.next(&nodes(&[1, 9])).unwrap();
    assert_eq!(loads(&back), [16, 16]);
    check(&back);
}

#[test]
fn a_node_without_weight_is_drained() {
    let topology = Topology::new(64, 2, &nodes(&[1, 1, 1])).unwrap();
    let drained = topology.next(&nodes(&[1, 0, 1])).unwrap();
    assert_eq!(loads(&drained), [64, 0, 64]);
    assert_eq!(drained.partitions_of(NodeId(2)).count(), 0);
    assert!(drained.member(NodeId(2)).is_some());
}

#[test]
fn a_huge_weight_takes_each_partition_once() {
    let topology = Topology::new(64, 2, &nodes(&[u32::MAX, 1, 1, 2])).unwrap();
    assert_eq!(loads(&topology), [64, 16, 16, 32]);
}

#[test]
fn as_many_nodes_as_there_may_be() {
    let members: Vec<Member> = (0..MEMBERS_MAX as u64)
        .map(|n| Member::new(u64::MAX - n, u32::MAX, &format!("{n:064}")))
        .collect();
    let topology = Topology::new(PARTITIONS_MAX, 2, &members).unwrap();
    assert!(loads(&topology).iter().all(|&load| load == 32));
    let bytes = topology.encode();
    assert!(bytes.len() <= ring::ENCODED_LEN_MAX);
    assert_eq!(Topology::decode(&bytes).unwrap(), topology);
}

#[test]
fn what_is_not_there_is_not_found() {
    let topology = Topology::new(16, 2, &nodes(&[1, 1])).unwrap();
    assert_eq!(topology.owners(Partition(16)), []);
    assert_eq!(topology.primary(Partition(u32::MAX)), None);
    assert_eq!(topology.member(NodeId(99)), None);
    assert_eq!(topology.partitions_of(NodeId(99)).count(), 0);
}

#[test]
fn plans_are_fenced() {
    let old = Topology::new(16, 2, &nodes(&[1, 1, 1])).unwrap();
    let new = old.next(&nodes(&[1, 1, 1, 1])).unwrap();
    let stale = Error::StaleEpoch { old: Epoch(2), new: Epoch(1) };
    assert_eq!(plan(&new, &old).unwrap_err(), stale);
    assert_eq!(plan(&old, &old).unwrap_err(), Error::StaleEpoch { old: Epoch(1), new: Epoch(1) });
    let other = Topology::new(32, 2, &nodes(&[1, 1])).unwrap();
    let differ = Error::RingsDiffer { left: 16, right: 32 };
    assert_eq!(plan(&old, &other).unwrap_err(), differ);
    assert_eq!(old.flip(&other, &[]).unwrap_err(), differ);
    let unknown = Error::UnknownPartition { partition: 16 };
    assert_eq!(old.flip(&new, &[Partition(16)]).unwrap_err(), unknown);
    // A plan is for the topology it was made for.
    let plan = plan(&old, &new).unwrap();
    assert!(!plan.moves.is_empty());
    assert!(matches!(plan.applied_to(&new), Err(Error::PlanMismatch { .. })));
    let last = Topology::new(16, 2, &nodes(&[1])).unwrap().reinstated_after(Epoch(u64::MAX));
    assert_eq!(last.unwrap_err(), Error::EpochsExhausted);
}

#[test]
fn a_lost_node_is_named_as_the_one_replaced() {
    let old = Topology::new(16, 2, &nodes(&[1, 1, 1])).unwrap();
    let new = old.next(&nodes(&[1, 1])).unwrap();
    let plan = plan(&old, &new).unwrap();
    let held = old.partitions_of(NodeId(3)).count();
    assert_eq!((plan.moves.len(), plan.removals.len()), (held, 0));
    assert!(plan.moves.iter().all(|step| step.from == Some(NodeId(3)) && step.to != NodeId(3)));
}
