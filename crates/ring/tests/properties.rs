//! Any membership, any sequence of changes.

mod common;

use common::{any_change, apply, check, spread_of};
use proptest::collection::vec;
use proptest::prelude::*;
use ring::{Epoch, Member, NodeId, Partition, Topology, plan};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_keeps_every_promise(
        bits in 0..9u32,
        replicas in 1..6usize,
        changes in (1..6u8).prop_flat_map(|zones| vec(any_change(zones), 1..40)),
    ) {
        let mut members = vec![Member::new(1, 1, "z0")];
        let mut next_id = 1;
        let mut topology = Topology::new(1 << bits, replicas, &members).unwrap();
        check(&topology);
        for change in &changes {
            apply(&mut members, &mut next_id, change);
            let next = topology.next(&members).unwrap();
            check(&next);
            prop_assert_eq!(next.epoch(), Epoch(topology.epoch().0 + 1));
            let plan = plan(&topology, &next).unwrap();
            prop_assert_eq!(plan.applied_to(&topology).unwrap(), all_owners(&next));
            topology = next;
        }
    }

    #[test]
    fn the_number_of_replicas_may_change(
        spread in spread_of(1..12),
        steps in vec(1..8usize, 1..6),
    ) {
        let mut topology = Topology::new(64, 3, &spread).unwrap();
        for replicas in steps {
            let next = topology.next_with_replicas(replicas, &spread).unwrap();
            check(&next);
            let plan = plan(&topology, &next).unwrap();
            prop_assert_eq!(plan.applied_to(&topology).unwrap(), all_owners(&next));
            topology = next;
        }
    }

    #[test]
    fn the_same_members_move_nothing(spread in spread_of(1..20), replicas in 1..5usize) {
        let topology = Topology::new(128, replicas, &spread).unwrap();
        let next = topology.next(&spread).unwrap();
        prop_assert!(plan(&topology, &next).unwrap().is_empty());
        prop_assert_eq!(all_owners(&topology), all_owners(&next));
    }

    #[test]
    fn the_order_of_members_does_not_matter(
        spread in spread_of(2..20).prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        joins in spread_of(1..4),
    ) {
        let (mut members, mut shuffled) = spread;
        let topology = Topology::new(64, 3, &members).unwrap();
        prop_assert_eq!(&topology, &Topology::new(64, 3, &shuffled).unwrap());
        for (n, join) in (1000..).zip(joins) {
            members.push(Member { id: NodeId(n), ..join.clone() });
            shuffled.insert(0, Member { id: NodeId(n), ..join });
        }
        prop_assert_eq!(topology.next(&members).unwrap(), topology.next(&shuffled).unwrap());
    }

    /// Partitions change hands one by one, a node is lost on the way, the plan is made anew.
    #[test]
    fn a_change_of_plan_half_way_ends_where_it_should(
        before in spread_of(3..10),
        after in spread_of(3..10),
        order in Just((0..64).map(Partition).collect::<Vec<_>>()).prop_shuffle(),
        stop in 0..64usize,
    ) {
        let old = Topology::new(64, 3, &before).unwrap();
        let target = old.next(&after).unwrap();
        let half = old.flip(&target, &order[..stop]).unwrap();
        prop_assert!(target.epoch() <= half.epoch());
        for (n, partition) in order.iter().enumerate() {
            let of = if n < stop { &target } else { &old };
            prop_assert_eq!(half.owners(*partition), of.owners(*partition));
        }
        prop_assert_eq!(&Topology::decode(&half.encode()).unwrap(), &half);
        let done = half.flip(&target, &order[stop..]).unwrap();
        prop_assert_eq!(all_owners(&done), all_owners(&target));
        prop_assert_eq!(done.members(), target.members());
        check(&half.next(&after).unwrap());
        check(&half.next(&before).unwrap());
        let back = old.reinstated_after(half.epoch()).unwrap();
        prop_assert_eq!(all_owners(&back), all_owners(&old));
        prop_assert!(back.epoch() > half.epoch());
    }
}

fn all_owners(topology: &Topology) -> Vec<Vec<NodeId>> {
    topology.ring().iter().map(|partition| topology.owners(partition).to_vec()).collect()
}
