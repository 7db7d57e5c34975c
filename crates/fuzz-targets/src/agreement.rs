//! What the nodes of a cluster agree on.

use crate::source::Source;
use base::checksum::xxh3_64;
use cluster::record::Mode;
use cluster::topology::{
    Advance, Change, Cleaned, Fence, MemberState, Stage, Topology, Update, samples,
};
use ring::{NodeId, Partition};

/// Bytes as a topology of a cluster, an update or a change, or as changes one after the other.
pub fn agreement(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        match source.u8() % 5 {
            0 => whole(source.rest()),
            1 => whole(&sealed(source.rest())),
            2 => update(source.rest()),
            3 => entry(source.rest()),
            _ => made(&mut source),
        }
    });
}

/// With the magic, version and checksum that belong there, so that the fields are looked at.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut fields = bytes[..bytes.len().saturating_sub(8)].to_vec();
    let head = &samples::empty().encode()[..9];
    fields.resize(fields.len().max(head.len()), 0);
    fields[..head.len()].copy_from_slice(head);
    let checksum = xxh3_64(&fields);
    fields.extend_from_slice(&checksum.to_le_bytes());
    fields
}

/// A topology has one encoding, and one can go on from it.
fn whole(bytes: &[u8]) {
    let Ok(topology) = Topology::decode(bytes) else { return };
    assert_eq!(topology.encode(), bytes);
    ask(&topology);
    if let Some(job) = topology.job() {
        for change in
            [Change::StopJob { job: job.id, hold: false }, Change::RollBackJob { job: job.id }]
        {
            topology.apply(&change).iter().for_each(same_again);
        }
    }
}

fn update(bytes: &[u8]) {
    let Ok(update) = Update::decode(bytes) else { return };
    assert_eq!(update.encode(), bytes);
    for topology in samples::topologies() {
        if let Ok(Some(newer)) = topology.follow(&update) {
            assert_eq!(newer.epoch(), update.epoch());
            same_again(&newer);
        }
    }
}

/// Whatever a change says, it is refused, or leads to a topology that holds together.
fn entry(bytes: &[u8]) {
    use cluster::topology::Entry;
    let Ok(entry) = Entry::decode(bytes) else { return };
    assert_eq!(entry.encode(), bytes);
    for topology in samples::topologies() {
        topology.apply(&entry.change).iter().for_each(same_again);
    }
}

fn same_again(topology: &Topology) {
    assert_eq!(Topology::decode(&topology.encode()).as_ref(), Ok(topology));
    ask(topology);
}

/// Each partition has owners who are members, and no more than that many count.
fn ask(topology: &Topology) {
    for keyspace in topology.keyspaces() {
        for partition in topology.ring().iter() {
            let owners = topology.owners(keyspace.id, partition).expect("it exists");
            assert!((1..=usize::from(keyspace.replicas)).contains(&owners.list().len()));
            assert!(owners.count_max() <= owners.list().len());
            assert_eq!(owners.count(&owners.receivers().collect::<Vec<_>>()), 0);
            let known = |node: &NodeId| topology.member(*node).is_some();
            assert!(owners.writers().iter().chain(owners.departing()).all(known));
            let fence = topology.fence(keyspace.id, partition, topology.epoch());
            assert_eq!(fence, Fence::Serve);
        }
    }
}

fn made(source: &mut Source<'_>) {
    let mut topology = samples::empty();
    for _ in 0..64 {
        if source.is_empty() {
            break;
        }
        let Some(change) = change(&topology, source) else { continue };
        if let Ok(next) = topology.apply(&change) {
            same_again(&next);
            topology = next;
        }
    }
}

fn change(topology: &Topology, source: &mut Source<'_>) -> Option<Change> {
    let id = NodeId(source.below(8) as u64);
    let (address, zone) = (String::new(), source.pick(&["", "a", "b"]).to_string());
    let weight = u32::from(source.u8() % 4);
    let job = topology.job().map(|job| job.id);
    Some(match source.u8() % 14 {
        0..3 => Change::AddMember { id, address, zone, weight },
        3 => Change::SetMember { id, address, zone, weight },
        4 => {
            let states = [MemberState::Up, MemberState::Leaving, MemberState::Down];
            Change::SetState { id, state: source.pick(&states) }
        }
        5 => Change::RemoveMember { id },
        6 => Change::ForgetMember { id },
        7 => {
            let (name, replicas) = (format!("k{}", source.u8() % 4), source.u8() % 5);
            return topology.create_keyspace(&name, replicas, Mode::Siblings, 1).ok();
        }
        8 => Change::DropKeyspace { id: base::KeyspaceId(u32::from(source.u8() % 8)) },
        9 => return topology.start_job(0).ok(),
        10 => Change::StopJob { job: job?, hold: true },
        11 => Change::RollBackJob { job: job? },
        12 => {
            let copies = topology.placements().iter().flat_map(|placement| {
                let replicas = placement.replicas() as u8;
                placement.departing().map(move |(partition, node)| Cleaned {
                    replicas,
                    partition,
                    node,
                })
            });
            Change::Clean { copies: copies.take(source.below(40)).collect() }
        }
        _ => return advance(topology, source),
    })
}

/// Some partitions to the stages after theirs, or the end.
fn advance(topology: &Topology, source: &mut Source<'_>) -> Option<Change> {
    let job = topology.job()?.id;
    let mut steps = Vec::new();
    for placement in topology.placements() {
        for step in placement.steps() {
            let Some(to) = placement.next_stage(step.partition) else { continue };
            let to = if source.u8() == 0xff { Stage::Flipped } else { to };
            if !source.u8().is_multiple_of(3) {
                let replicas = placement.replicas() as u8;
                steps.push(Advance { replicas, partition: step.partition, to });
            }
        }
    }
    let stray = Advance { replicas: 3, partition: Partition(99), to: Stage::Copying };
    steps.extend((source.u8() == 0xff).then_some(stray));
    Some(if steps.is_empty() { Change::EndJob { job } } else { Change::AdvanceJob { job, steps } })
}
