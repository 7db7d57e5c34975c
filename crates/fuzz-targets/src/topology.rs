//! Topologies of a cluster.

use crate::source::Source;
use base::checksum::xxh3_64;
use ring::{Member, NodeId, REPLICAS_MAX, Topology, plan};

/// Bytes as a topology, or a membership and its changes.
pub fn topology(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        match source.u8() % 3 {
            0 => ask(source.rest()),
            1 => ask(&sealed(source.rest())),
            _ => made(&mut source),
        }
    });
}

/// With the checksum that belongs to the rest, so that the fields are looked at.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let fields = &bytes[..bytes.len().saturating_sub(8)];
    [fields, &xxh3_64(fields).to_le_bytes()].concat()
}

/// A topology has one encoding, and whatever it says about owners can be put in order.
fn ask(bytes: &[u8]) {
    let Ok(topology) = Topology::decode(bytes) else { return };
    assert_eq!(topology.encode(), bytes);
    if let Ok(next) = topology.next(topology.members()) {
        step(&topology, &next);
    }
}

fn made(source: &mut Source<'_>) {
    let (bits, replicas) = (source.u8() % 8, usize::from(source.u8()) % REPLICAS_MAX + 1);
    let mut members: Vec<Member> =
        (0..=source.u8() % 12).map(|id| member(source, u64::from(id))).collect();
    let Ok(mut topology) = Topology::new(1 << bits, replicas, &members) else {
        return assert!(members.iter().all(|member| member.weight == 0));
    };
    for id in 100..u64::from(100 + source.u8() % 16) {
        let at = source.below(members.len());
        match source.u8() % 4 {
            0 => members.push(member(source, id)),
            1 if members.len() > 1 => drop(members.remove(at)),
            _ => members[at] = member(source, members[at].id.0),
        }
        let Ok(next) = topology.next(&members) else {
            assert!(members.iter().all(|member| member.weight == 0));
            continue;
        };
        assert_eq!(Topology::decode(&next.encode()).as_ref(), Ok(&next));
        step(&topology, &next);
        topology = next;
    }
}

fn member(source: &mut Source<'_>, id: u64) -> Member {
    let weight = match source.u8() {
        0..16 => 0,
        16..32 => u32::MAX,
        byte => u32::from(byte % 5),
    };
    Member::new(id, weight, ["", "a", "b", "c", "d"][usize::from(source.u8() % 5)])
}

/// Zones are obeyed, shares are neither more nor less than all replicas, the plan leads there.
fn step(old: &Topology, new: &Topology) {
    assert_eq!(new.violations(), 0);
    let holders = new.members().iter().filter(|member| member.weight > 0).count();
    let replicas = new.replicas().min(holders) * new.ring().partitions() as usize;
    let loads = new.loads();
    assert_eq!(loads.iter().map(|load| load.partitions).sum::<usize>(), replicas);
    assert_eq!(
        loads.iter().map(|load| load.primaries).sum::<usize>(),
        new.ring().partitions() as usize
    );
    let plan = plan(old, new).expect("the next epoch");
    let owners: Vec<Vec<NodeId>> = new.ring().iter().map(|p| new.owners(p).to_vec()).collect();
    assert_eq!(plan.applied_to(old), Ok(owners));
    let again = new.next(new.members()).expect("the same members");
    assert!(ring::plan(new, &again).expect("the next epoch").is_empty(), "it moves for nothing");
}
