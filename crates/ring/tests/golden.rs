//! Placements and bytes that may not change unseen: nodes of two versions must agree on who owns what.

use ring::{Member, NodeId, Partition, Topology};
use xxhash_rust::xxh3::xxh3_64;

/// If these change, the placement does: say so in the changelog, since nodes of both versions in one
/// cluster would plan differently.
const FIRST: u64 = 3452158931290147910;
const AFTER_CHANGES: u64 = 14798876526987601962;

fn members() -> Vec<Member> {
    (0..12).map(|n| Member::new(n * 7 + 1, 1 + (n % 3) as u32, &format!("z{}", n % 4))).collect()
}

#[test]
fn the_placement_of_a_new_cluster_is_fixed() {
    let topology = Topology::new(256, 3, &members()).unwrap();
    assert_eq!(xxh3_64(&topology.encode()), FIRST);
}

#[test]
fn the_placement_after_changes_is_fixed() {
    let mut members = members();
    let mut topology = Topology::new(256, 3, &members).unwrap();
    for step in 0..20u64 {
        match step % 4 {
            0 => members.push(Member::new(1000 + step, 2, &format!("z{}", step % 5))),
            1 => drop(members.remove(step as usize % 7)),
            2 => members[step as usize % 5].weight += 1,
            _ => members[step as usize % 6].zone = "z1".to_string(),
        }
        topology = topology.next(&members).unwrap();
    }
    assert_eq!(xxh3_64(&topology.encode()), AFTER_CHANGES);
}

#[test]
fn a_small_topology_is_these_bytes() {
    let members = [Member::new(5, 1, "a"), Member::new(3, 2, "b"), Member::new(9, 0, "")];
    let topology = Topology::new(2, 2, &members).unwrap();
    let bytes: Vec<String> = topology.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let [magic, header, members, owners, checksum] = [0..8, 8..24, 24..65, 65..75, 75..83]
        .map(|part: std::ops::Range<usize>| bytes[part].join(" "));
    assert_eq!(magic, "45 53 4b 45 52 54 4f 50");
    assert_eq!(header, "01 01 02 00 01 00 00 00 00 00 00 00 03 00 00 00");
    assert_eq!(
        members,
        "03 00 00 00 00 00 00 00 02 00 00 00 01 62 \
         05 00 00 00 00 00 00 00 01 00 00 00 01 61 \
         09 00 00 00 00 00 00 00 00 00 00 00 00"
    );
    assert_eq!(owners, "02 01 00 00 00 02 00 00 01 00");
    assert_eq!(checksum, "66 5d f5 0d 24 c7 c6 af");
    assert_eq!(bytes.len(), 83);
    assert_eq!(topology.owners(Partition(0)), [NodeId(5), NodeId(3)]);
}
