use crate::codec::DecodeError;
use crate::topology::{Entry, FollowError, ProposalId, Topology, Update, samples};
use base::checksum::xxh3_64;
use ring::{Epoch, NodeId};
use std::sync::Arc;

fn entries() -> Vec<Entry> {
    let id = |number| ProposalId { node: NodeId(7), number };
    let entry = |(number, change)| Entry { epoch: Epoch(number + 2), id: id(number), change };
    (0..).zip(samples::changes()).map(entry).collect()
}

#[test]
fn golden_bytes() {
    let all = samples::topologies();
    let small = all[1].encode();
    let hex: Vec<String> = small.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex.join(" "),
        "45 53 4b 45 52 43 4c 55 01 9a 18 02 04 01 00 00 01 01 01 0d 31 30 2e 30 2e 30 2e 31 3a 37 34 30 30 05 6e 6f 72 74 \
         68 01 01 00 00 00 00 58 ae d4 7b 89 6f 78 10"
    );
    let hashes: Vec<u64> = all.iter().map(|topology| xxh3_64(&topology.encode())).collect();
    let of_entries: Vec<u8> = entries().iter().flat_map(Entry::encode).collect();
    let hash = xxh3_64(format!("{hashes:?}").as_bytes());
    let found = (hashes.len(), hash, of_entries.len(), xxh3_64(&of_entries));
    assert_eq!(found, (44, 11_435_538_571_763_129_777, 3331, 9_831_198_363_380_345_014));
}

#[test]
fn topologies_round_trip_and_any_bit_that_differs_is_noticed() {
    let all = samples::topologies();
    for topology in &all {
        assert_eq!(Topology::decode(&topology.encode()).as_ref(), Ok(topology));
    }
    let moving = all.iter().find(|topology| topology.job().is_some()).expect("jobs ran");
    let bytes = moving.encode();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Topology::decode(&damaged).is_err(), "byte {at}");
        assert!(Topology::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    // With the checksum right, every byte is set to some others: what decodes must encode to the same again.
    let bytes = samples::topologies().pop().expect("there are some").encode();
    let mut accepted = 0;
    for at in 9..bytes.len() - 8 {
        for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at].wrapping_add(1)] {
            let mut changed = bytes[..bytes.len() - 8].to_vec();
            changed[at] = value;
            let sum = xxh3_64(&changed);
            changed.extend_from_slice(&sum.to_le_bytes());
            if let Ok(topology) = Topology::decode(&changed) {
                assert_eq!(topology.encode(), changed);
                accepted += 1;
            }
        }
    }
    assert!(accepted > 20, "{accepted}: names and numbers may be others");
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert_eq!(Topology::decode(&newer), Err(DecodeError::UnknownVersion { version: 2 }));
}

#[test]
fn a_node_follows_by_changes_or_by_the_whole() {
    let (all, entries) = (samples::topologies(), entries());
    let last = all.last().expect("never empty");
    for (at, topology) in all.iter().enumerate() {
        for from in at.saturating_sub(2)..entries.len() {
            let update = Update::Entries(entries[from..].to_vec());
            assert_eq!(Update::decode(&update.encode()).as_ref(), Ok(&update));
            assert_eq!(update.epoch(), last.epoch());
            let (next, first) = (Epoch(at as u64 + 2), Epoch(from as u64 + 2));
            let expected = match () {
                () if topology == last => Ok(None),
                () if first > next => Err(FollowError::Gap { next, first }),
                () => Ok(Some(Arc::new(last.clone()))),
            };
            assert_eq!(topology.follow(&update), expected);
        }
    }
    let whole = Update::Whole(Arc::new(last.clone()));
    assert_eq!(Update::decode(&whole.encode()).as_ref(), Ok(&whole));
    assert_eq!(all[0].follow(&whole), Ok(Some(Arc::new(last.clone()))));
    assert_eq!(last.follow(&Update::Whole(Arc::new(all[3].clone()))), Ok(None));
    let other = Update::Whole(Arc::new(Topology::new(5, last.ring())));
    assert_eq!(last.follow(&other), Err(FollowError::OtherCluster));
}

#[test]
fn entries_with_a_gap_are_no_update() {
    let mut entries = entries();
    entries.remove(3);
    let bytes = Update::Entries(entries).encode();
    assert_eq!(Update::decode(&bytes), Err(DecodeError::Invalid { what: "entries" }));
    assert_eq!(Update::decode(&[2, 0]), Err(DecodeError::Invalid { what: "entries" }));
}
