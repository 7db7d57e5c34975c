//! Bytes that anybody may have made.

mod common;

use common::spread_of;
use proptest::collection::vec;
use proptest::prelude::*;
use ring::{DecodeError, ENCODED_LEN_MAX, Member, Topology, VERSION};
use xxhash_rust::xxh3::xxh3_64;

fn sample() -> Vec<u8> {
    let members: Vec<Member> = (0..5)
        .map(|n| Member::new(n, 1 + n as u32, ["a", "rack-17", ""][n as usize % 3]))
        .collect();
    Topology::new(16, 3, &members).expect("members").encode()
}

/// With the checksum that belongs to the rest.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let checksum = xxh3_64(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn what_was_encoded_is_decoded() {
    let bytes = sample();
    assert_eq!(Topology::decode(&bytes).unwrap().encode(), bytes);
}

#[test]
fn any_byte_that_differs_is_noticed() {
    let bytes = sample();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = Topology::decode(&damaged).unwrap_err();
            let expected = match at {
                0..8 => DecodeError::BadMagic,
                8 => DecodeError::UnknownVersion { version: VERSION ^ (1 << bit) },
                _ => DecodeError::ChecksumMismatch,
            };
            assert_eq!(error, expected, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn any_length_that_differs_is_noticed() {
    let bytes = sample();
    for len in 0..bytes.len() {
        assert!(Topology::decode(&bytes[..len]).is_err());
        if len >= 32 {
            let cut = sealed(bytes[..len].to_vec());
            assert_eq!(Topology::decode(&cut), Err(DecodeError::Truncated { len }), "cut at {len}");
        }
    }
    let longer = sealed([&bytes[..bytes.len() - 8], &[0; 9]].concat());
    assert_eq!(Topology::decode(&longer), Err(DecodeError::Invalid { what: "length" }));
    let len = ENCODED_LEN_MAX + 1;
    assert_eq!(Topology::decode(&vec![0; len]), Err(DecodeError::TooLong { len }));
}

#[test]
fn fields_that_no_topology_has_are_named() {
    let invalid = |edits: &[(usize, u8)], what: &'static str| {
        let mut bytes = sample();
        edits.iter().for_each(|&(at, byte)| bytes[at] = byte);
        assert_eq!(Topology::decode(&sealed(bytes)), Err(DecodeError::Invalid { what }));
    };
    let first_owner = {
        // Five members: 13 bytes and the name each.
        24 + 5 * 13 + "a".len() + "rack-17".len() + "a".len() + "rack-17".len()
    };
    invalid(&[(9, 19)], "partitions");
    invalid(&[(9, 255)], "partitions");
    invalid(&[(10, 0)], "replicas");
    invalid(&[(10, 17)], "replicas");
    invalid(&[(11, 1)], "zero");
    invalid(&[(20, 0)], "members");
    invalid(&[(20, 1), (21, 64)], "members");
    invalid(&[(24, 1)], "id");
    invalid(&[(36, 65)], "zone");
    invalid(&[(37, 0xff)], "zone");
    invalid(&[(first_owner, 0)], "owners");
    invalid(&[(first_owner, 4)], "owners");
    invalid(&[(first_owner + 1, 5)], "owner");
    let bytes = sample();
    let (primary, second) = (bytes[first_owner + 1], bytes[first_owner + 3]);
    invalid(&[(first_owner + 5, second)], "order");
    // As the second owner, the primary may stand in the wrong place too.
    let mut doubled = bytes.clone();
    (doubled[first_owner], doubled[first_owner + 3]) = (2, primary);
    doubled.drain(first_owner + 5..first_owner + 7);
    assert_eq!(Topology::decode(&sealed(doubled)), Err(DecodeError::Invalid { what: "primary" }));
}

#[test]
fn all_weights_zero_is_no_topology() {
    let mut bytes = sample();
    let mut at = 24;
    for zone in ["a", "rack-17", "", "a", "rack-17"] {
        bytes[at + 8..at + 12].fill(0);
        at += 13 + zone.len();
    }
    assert_eq!(Topology::decode(&sealed(bytes)), Err(DecodeError::Invalid { what: "members" }));
}

proptest! {
    #[test]
    fn any_topology_survives(
        members in spread_of(1..30),
        bits in 0..8u32,
        replicas in 1..17usize,
    ) {
        let topology = Topology::new(1 << bits, replicas, &members).unwrap();
        let bytes = topology.encode();
        prop_assert!(bytes.len() <= ENCODED_LEN_MAX);
        prop_assert_eq!(Topology::decode(&bytes).unwrap(), topology);
    }

    /// With a checksum that fits, so that the fields are looked at.
    #[test]
    fn no_bytes_do_harm(edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in 0..40usize) {
        let mut bytes = sample();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut);
        let bytes = sealed(bytes);
        if let Ok(topology) = Topology::decode(&bytes) {
            prop_assert_eq!(topology.encode(), bytes);
            let members = topology.members().to_vec();
            if let Ok(next) = topology.next(&members) {
                common::check(&next);
            }
        }
    }

    #[test]
    fn noise_is_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Topology::decode(&bytes).is_err());
    }
}
