//! A topology as bytes.
//!
//! ```text
//! offset size field
//!      0    8 magic       b"ESKERTOP"
//!      8    1 version     u8, see `VERSION`
//!      9    1 bits        u8, log2 of the partitions
//!     10    1 replicas    u8, asked for
//!     11    1 zero
//!     12    8 epoch       u64 LE
//!     20    4 members     u32 LE, number of members
//!     24    . member      each: id u64 LE, weight u32 LE, length of zone u8, zone in UTF-8;
//!                         ids ascend
//!      .    . partition   each: number of owners u8, then for each owner its number among the
//!                         members u16 LE; the primary first, the others by `topology::rank`
//!     -8    8 checksum    u64 LE, xxh3-64 of all bytes before it
//! ```
//! A topology has one encoding, and bytes that decode are that encoding. Magic, version and checksum
//! keep their places in every version.

use crate::member::{MEMBERS_MAX, Member, NodeId, REPLICAS_MAX, ZONE_LEN_MAX, checked};
use crate::ring::{PARTITIONS_MAX, Ring};
use crate::topology::{Epoch, Owners, Topology, rank};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// Version of the encoding.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 8] = *b"ESKERTOP";
const VERSION_OFFSET: usize = MAGIC.len();
const BITS_OFFSET: usize = VERSION_OFFSET + 1;
const REPLICAS_OFFSET: usize = BITS_OFFSET + 1;
const ZERO_OFFSET: usize = REPLICAS_OFFSET + 1;
const EPOCH_OFFSET: usize = ZERO_OFFSET + 1;
const MEMBERS_OFFSET: usize = EPOCH_OFFSET + size_of::<u64>();
const HEADER_LEN: usize = MEMBERS_OFFSET + size_of::<u32>();
const CHECKSUM_LEN: usize = size_of::<u64>();
const MEMBER_LEN_MIN: usize = size_of::<u64>() + size_of::<u32>() + 1;
/// Bytes of the longest encoding.
pub const ENCODED_LEN_MAX: usize = HEADER_LEN
    + MEMBERS_MAX * (MEMBER_LEN_MIN + ZONE_LEN_MAX)
    + PARTITIONS_MAX as usize * (1 + REPLICAS_MAX * size_of::<u16>())
    + CHECKSUM_LEN;
const _: () = assert!(HEADER_LEN == 24, "drawing and constants disagree");
const _: () = assert!(MEMBERS_MAX <= u16::MAX as usize, "number of a member outgrew its field");
const _: () = assert!(ZONE_LEN_MAX <= u8::MAX as usize, "length of a zone outgrew its field");

/// Why bytes are no topology.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the topology does.
    Truncated {
        /// Bytes given.
        len: usize,
    },
    /// More bytes than the longest topology has; none of them was looked at.
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// The first bytes are not those of a topology.
    BadMagic,
    /// Written by a version that this one cannot read.
    UnknownVersion {
        /// The stored version.
        version: u8,
    },
    /// The bytes are not those that were written.
    ChecksumMismatch,
    /// The bytes say what no topology says.
    Invalid {
        /// Which field.
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated { len } => write!(f, "topology cut short len={len}"),
            DecodeError::TooLong { len } => {
                write!(f, "topology too long len={len} max={ENCODED_LEN_MAX}")
            }
            DecodeError::BadMagic => write!(f, "topology without its magic"),
            DecodeError::UnknownVersion { version } => {
                write!(f, "unknown topology version version={version}")
            }
            DecodeError::ChecksumMismatch => write!(f, "checksum mismatch in a topology"),
            DecodeError::Invalid { what } => write!(f, "invalid topology field={what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

pub(crate) fn encode(topology: &Topology) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    bytes.push(topology.ring.partitions().trailing_zeros() as u8);
    bytes.push(topology.replicas as u8);
    bytes.push(0);
    bytes.extend_from_slice(&topology.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&(topology.members.len() as u32).to_le_bytes());
    for member in &topology.members {
        bytes.extend_from_slice(&member.id.0.to_le_bytes());
        bytes.extend_from_slice(&member.weight.to_le_bytes());
        bytes.push(member.zone.len() as u8);
        bytes.extend_from_slice(member.zone.as_bytes());
    }
    for partition in topology.ring.iter() {
        let owners = topology.owners(partition);
        bytes.push(owners.len() as u8);
        for owner in owners {
            let number = topology.members.partition_point(|member| member.id < *owner);
            bytes.extend_from_slice(&(number as u16).to_le_bytes());
        }
    }
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Topology, DecodeError> {
    let mut input = Input::open(bytes)?;
    let bits = input.u8()?;
    let ring = 1u32.checked_shl(u32::from(bits)).and_then(|count| Ring::new(count).ok());
    let ring = ring.ok_or(invalid("partitions"))?;
    let replicas = usize::from(input.u8()?);
    check((1..=REPLICAS_MAX).contains(&replicas), "replicas")?;
    check(input.u8()? == 0, "zero")?;
    let epoch = Epoch(input.u64()?);
    let members = members(&mut input)?;
    let owners = owners(&mut input, ring, replicas, &members)?;
    check(input.rest.is_empty(), "length")?;
    Ok(Topology { epoch, ring, replicas, members, owners })
}

fn members(input: &mut Input<'_>) -> Result<Vec<Member>, DecodeError> {
    let count = input.u32()? as usize;
    check((1..=MEMBERS_MAX).contains(&count), "members")?;
    input.has(count * MEMBER_LEN_MIN)?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(member(input)?);
    }
    check(members.is_sorted_by(|a: &Member, b: &Member| a.id < b.id), "id")?;
    checked(&members).map_err(|_| invalid("members"))
}

fn member(input: &mut Input<'_>) -> Result<Member, DecodeError> {
    let (id, weight, len) = (NodeId(input.u64()?), input.u32()?, usize::from(input.u8()?));
    check(len <= ZONE_LEN_MAX, "zone")?;
    let zone = core::str::from_utf8(input.take(len)?).map_err(|_| invalid("zone"))?;
    Ok(Member { id, weight, zone: String::from(zone) })
}

fn owners(
    input: &mut Input<'_>,
    ring: Ring,
    replicas: usize,
    members: &[Member],
) -> Result<Owners, DecodeError> {
    let partitions = ring.partitions() as usize;
    // At least one owner each: what is allocated is in proportion to what was sent.
    input.has(partitions * (1 + size_of::<u16>()))?;
    let mut owners = Owners::new(partitions, replicas);
    let mut list = Vec::with_capacity(replicas);
    for partition in 0..partitions {
        let count = usize::from(input.u8()?);
        check((1..=replicas).contains(&count), "owners")?;
        list.clear();
        for _ in 0..count {
            let member = members.get(usize::from(input.u16()?)).ok_or(invalid("owner"))?;
            list.push(member.id);
        }
        let place = |id: &NodeId| (rank(partition, *id), *id);
        check(list[1..].is_sorted_by(|a, b| place(a) < place(b)), "order")?;
        check(!list[1..].contains(&list[0]), "primary")?;
        owners.push(&list);
    }
    Ok(owners)
}

fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what }
}

fn check(holds: bool, what: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(invalid(what)) }
}

/// Bytes not read yet.
struct Input<'a> {
    len: usize,
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Checks everything that surrounds the fields, and stands at the first of them.
    fn open(bytes: &'a [u8]) -> Result<Input<'a>, DecodeError> {
        let len = bytes.len();
        if len > ENCODED_LEN_MAX {
            return Err(DecodeError::TooLong { len });
        }
        let mut input = Input { len, rest: bytes };
        if input.take(MAGIC.len())? != MAGIC {
            return Err(DecodeError::BadMagic);
        }
        let version = input.u8()?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { version });
        }
        input.has(HEADER_LEN - BITS_OFFSET + CHECKSUM_LEN)?;
        let (fields, checksum) = bytes.split_at(len - CHECKSUM_LEN);
        if xxh3_64(fields).to_le_bytes() != checksum {
            return Err(DecodeError::ChecksumMismatch);
        }
        input.rest = &fields[BITS_OFFSET..];
        Ok(input)
    }

    fn has(&self, count: usize) -> Result<(), DecodeError> {
        if self.rest.len() >= count {
            Ok(())
        } else {
            Err(DecodeError::Truncated { len: self.len })
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        self.has(count)?;
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
